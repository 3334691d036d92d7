// Jobs that wait while the configuration changes: for a quota, for an account that is out. They ask by the configuration in force then: with the
// key that was rotated meanwhile, at the targets that their route has by now. Who has no route any more keeps the one it had.

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { ENDED, chat } from '../support/api.mjs'
import { OwnPools, route } from '../support/own_pools.mjs'
import { Sim } from '../support/sim.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'

const stack = await Stack.open()
const sim = Sim.at(stack.sim_control)
let own

const KEYS = { line: 'sim-rotate-line', out: 'sim-rotate-out', other: 'sim-rotate-other' }
const file = (account) => `${stack.dir}/keys/rotate-${account}`
const key = (account, text) => writeFileSync(file(account), `${text}\n`, { mode: 0o600 })

/** Accounts at the stack's simulator, each with a key in a file of its own. */
function accounts() {
	const [, url] = /kind: openai\n    base_url: "([^"]*)"/.exec(readFileSync(stack.config, 'utf8'))
	return Object.keys(KEYS)
		.map((name) => `  - name: ${name}\n    kind: openai\n    base_url: "${url}"\n    ca_file: "${stack.dir}/tls/ca.crt"\n    key_file: ${file(name)}\n`)
		.join('')
}

// What each test takes away or adds by itself.
const parts = {
	line: route('line', [['line', 'gpt-4o-line']]),
	out: route('out', [['out', 'gpt-4o-out']]),
	free: route('free', [['other', 'gpt-4o-free']]),
	wider: route('wider', [['other', 'gpt-4o-wider']]),
	gone: route('gone', [['other', 'gpt-4o-gone']]),
}
const quotas = { line: ['line', 3], free: ['other', 1], wider: ['other', 1], gone: ['other', 1] }

function routes() {
	const lines = Object.entries(quotas).map(([name, [account, n]]) => `  - name: rotate-${name}\n    accounts: ${account}\n    models: gpt-4o-${name}\n    requests: ${n}\n`)
	return `${Object.values(parts).join('')}quotas:\n${lines.join('')}`
}

let last = Promise.resolve()

/** One after another: of two at once one would be taken for both. */
const reload = () =>
	(last = last.then(async () => {
		own.write(routes(), accounts())
		await own.reload(own.pool)
	}))

const submit = async (task, more = {}) => (await own.api.accepted(chat(`${task}, by which key?`, 'ttft=0 rate=0 tokens=8', { task, model: undefined, limits: { queue_ms: 200000 }, ...more }))).id
const now = (ids) => Promise.all(ids.map(async (id) => (await own.api.get(id)).json))
const waiting = async (ids, why) => (await now(ids)).filter((j) => j.status === 'queued' && j.why === why)

/** Jobs of the task, of which at least @least wait in its quota's line: one more than can be called in a minute are made. */
async function inLine(task, count, least) {
	const ids = []
	for (let i = 0; i < count; i++) ids.push(await submit(task))
	await until(`${least} of ${task} wait for its quota`, async () => (await waiting(ids, 'budget')).length >= least)
	return ids
}

const refusals = (account) => own.metric(own.pool, 'sluice_pool_refusals_total', { account })
const models = (end) => end.calls.map((c) => c.model)

/** All of them succeed, and no call of theirs failed. */
async function good(ids, limit_ms = 30000) {
	const ends = await Promise.all(ids.map((id) => own.api.ended(id, limit_ms)))
	for (const end of ends) {
		assert.equal(end.status, 'succeeded', JSON.stringify(end.fault))
		assert.deepEqual(end.calls.map((c) => c.fault ?? null), end.calls.map(() => null))
	}
	return ends
}

test('jobs in a quota\'s line ask with the key that was rotated while they waited, when the old one is revoked', async () => {
	const ids = await inLine('line', 4, 2)
	key('line', 'sim-rotate-line-new')
	await reload()
	const held = (await waiting(ids, 'budget')).map((j) => j.id)
	assert.ok(held.length >= 2, 'the line stands')
	const rule = (await sim.fault('status=401', { key: KEYS.line })).faults.at(-1).id
	// In a Redis younger than a window all stand there, and two are let through a minute before the others.
	const over = async () => (await now(held)).filter((j) => ENDED.includes(j.status)).map((j) => j.id)
	await until('two of them are over', async () => (await over()).length >= 2, 90000)
	await good(await over())
	assert.equal(await refusals('line'), 0)
	for (const id of held) await own.api.cancel(id)
	await sim.well(rule)
}, { limit_ms: 120000, background: true })

test('jobs that wait for an account that is out ask at once when it has a good key', async () => {
	const rule = (await sim.fault('status=401', { key: KEYS.out })).faults.at(-1).id
	const ids = [await submit('out', { lane: 'background' })]
	await until('the account is out', async () => (await refusals('out')) === 1)
	ids.push(await submit('out', { lane: 'background' }))
	await until('the second waits', async () => (await waiting(ids, 'breaker')).length === 1)
	key('out', 'sim-rotate-out-new')
	await reload()
	const [first, second] = await Promise.all(ids.map((id) => own.api.ended(id)))
	assert.deepEqual(first.calls.map((c) => c.fault ?? null), ['provider_auth', null])
	assert.deepEqual([second.status, ...second.calls.map((c) => c.fault ?? null)], ['succeeded', null])
	assert.equal(await refusals('out'), 1)
	await sim.well(rule)
}, { limit_ms: 60000 })

test('jobs in the line of a quota that is taken away ask at once', async () => {
	const ids = await inLine('free', 3, 2)
	delete quotas.free
	await reload()
	await good(ids)
}, { limit_ms: 60000 })

test('and so do those whose route has another target by now', async () => {
	const ids = await inLine('wider', 3, 2)
	parts.wider = route('wider', [['other', 'gpt-4o-wider'], ['openai-main', 'gpt-4o-mini']])
	await reload()
	const asked = (await good(ids)).flatMap(models)
	assert.ok(asked.filter((m) => m === 'gpt-4o-mini').length >= 2, asked.join())
}, { limit_ms: 60000 })

test('a job whose route is taken away keeps it', async () => {
	const ids = await inLine('gone', 3, 2)
	delete parts.gone
	delete quotas.gone
	await reload()
	for (const end of await good(ids)) assert.deepEqual(models(end), ['gpt-4o-gone'])
}, { limit_ms: 60000 })

await run(import.meta.url, {
	before: async () => {
		for (const [account, text] of Object.entries(KEYS)) key(account, text)
		// what waits for long stays in the pool
		own = await OwnPools.open(stack, 'rotate', routes(), { pool: ['--set', 'pool.defer_ms=600000'] }, accounts())
		await own.takes('background', chat('is it there?', 'ttft=0 rate=0 tokens=2'))
		await own.takes('interactive', chat('is it there?', 'ttft=0 rate=0 tokens=2'))
	},
	after: async () => {
		await sim.well()
		await own.close()
	},
})
