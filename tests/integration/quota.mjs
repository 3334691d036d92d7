// Quotas, from the client's request to what it is told: limits that a provider says, and targets that are none for a job.

import assert from 'node:assert/strict'
import { chat } from '../support/api.mjs'
import { OwnPools, route } from '../support/own_pools.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'

// Models that no other test asks: what is learned of their limits stays a minute.
const LOW = 'gpt-4o-quota-low'
const FREE = 'gpt-4o-quota-free'
const FAILS = 'gpt-4o-quota-fails'
const SMALL = 'gpt-4o-quota-small'
const REFUSES = 'gpt-4o-quota-refuses'
const LIMIT = 20000
const SAID = 2000
const routes = [
	route('low', [['openai-main', LOW]]),
	route('low-and-free', [['openai-main', LOW], ['openai-main', FREE]]),
	route('fails-and-small', [['openai-main', FAILS], ['openai-main', SMALL]]),
	route('refuses', [['openai-main', REFUSES]]),
	`quotas:
  - name: quota-low
    accounts: openai-main
    models: ${LOW}
    tokens: ${LIMIT}
  - name: quota-small
    accounts: openai-main
    models: ${SMALL}
    tokens: 100
`,
]

const stack = await Stack.open()
let own

const job = (task, max_tokens, more = {}) => chat(`${task} of ${max_tokens}`, 'ttft=0 rate=0 tokens=8', { task, model: undefined, max_tokens, ...more })
const control = (method, path, body) => fetch(`${stack.sim_control}${path}`, { method, body: body && JSON.stringify(body) })

/** What followers of a job hear first of its wait for @why. */
async function queued(id, why) {
	const stop = new AbortController()
	const late = setTimeout(() => stop.abort(new Error(`nobody hears that ${id} waits for ${why}`)), 10000)
	try {
		for await (const e of own.api.events(id, { signal: stop.signal })) if (e.event === 'queued' && e.data.why === why && e.data.estimate_ms) return e.data
	} finally {
		clearTimeout(late)
		stop.abort()
	}
}

async function before() {
	// The provider grants a tenth of what is configured, and says so.
	await control('POST', '/quotas', { model: REFUSES, rpm: 2, kind: 'window' })
	await control('POST', '/quotas', { model: LOW, rpm: 1000, tpm: SAID, kind: 'window' })
	own = await OwnPools.open(stack, 'quota', routes.join(''), { pool: ['--set', 'pool.backoff_ms=100'] })
	await own.takes('interactive', chat('is it there?', 'ttft=0 rate=0 tokens=2'))
	// In a Redis younger than a window a quota that is new stays shut for one.
	const { id } = await own.api.accepted(job('low', 100, { limits: { queue_ms: 90000 } }))
	assert.equal((await own.api.ended(id, 90000)).status, 'succeeded')
	await until('the limit that the provider says holds', async () =>
		(await own.metric(own.pool, 'sluice_pool_quota_limit', { quota: 'quota-low', unit: 'tokens' })) === SAID)
}

async function after() {
	await own?.close()
	await control('DELETE', '/quotas')
}

test('a job above the limit that a provider says, and below the configured one, waits for that to age, is told so, and lets others pass', async () => {
	const { id } = await own.api.accepted(job('low', 5000))
	const told = await queued(id, 'budget')
	assert.equal(told.position, null)
	assert.ok(told.estimate_ms > 62000 && told.estimate_ms <= 124000, `two windows double 2,000 twice: ${told.estimate_ms}`)
	const small = await own.api.ended((await own.api.accepted(job('low', 100))).id)
	assert.equal(small.status, 'succeeded')
	const now = (await own.api.get(id)).json
	assert.deepEqual([now.status, now.why], ['queued', 'budget'])
	await own.api.cancel(id)
	assert.equal((await own.api.ended(id)).status, 'cancelled')
})

test('and keeps to its deadline', async () => {
	const { id } = await own.api.accepted(job('low', 5000, { limits: { queue_ms: 2000, run_ms: 1000 } }))
	const end = await own.api.ended(id)
	assert.equal(end.status, 'expired', JSON.stringify(end.fault))
})

test('another target of its route is asked at once', async () => {
	const { id } = await own.api.accepted(job('low-and-free', 5000, { limits: { queue_ms: 5000 } }))
	const end = await own.api.ended(id)
	assert.equal(end.status, 'succeeded')
	await own.api.recorded([id])
	assert.deepEqual(await stack.sql(`SELECT model FROM calls WHERE job = '${id}'`), [[FREE]])
})

test('a target that failed is asked again where the other one\'s quota is too small for the job', async () => {
	await control('POST', '/faults', { how: 'status=500', model: FAILS, count: 1 })
	const { id } = await own.api.accepted(job('fails-and-small', 200))
	const end = await own.api.ended(id)
	assert.equal(end.status, 'succeeded', JSON.stringify(end.fault))
	await own.api.recorded([id])
	assert.deepEqual(await stack.sql(`SELECT model, coalesce(fault, '') FROM calls WHERE job = '${id}' ORDER BY number`), [[FAILS, 'provider_overloaded'], [FAILS, '']])
})

test('a refusal that says no time is over when the provider says that enough is refilled', async () => {
	assert.equal((await own.api.ended((await own.api.accepted(job('refuses', 10))).id)).status, 'succeeded')
	await control('POST', '/faults', { how: 'status=429', model: REFUSES, count: 1 })
	const { id } = await own.api.accepted(job('refuses', 10))
	const told = await queued(id, 'limit')
	assert.ok(told.estimate_ms > 20000 && told.estimate_ms <= 31000, `one of two requests a minute: ${told.estimate_ms}`)
	await own.api.cancel(id)
	await own.api.ended(id)
})

test('a job above its lane\'s share of the configured limit fails, and is told why', async () => {
	const { id } = await own.api.accepted(job('low', LIMIT))
	const end = await own.api.ended(id)
	assert.equal(end.status, 'failed')
	assert.equal(end.fault.name ?? end.fault.code, 'provider_too_big')
})

await run(import.meta.url, { before, after })
