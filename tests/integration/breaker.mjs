// Two pools and one provider that is not well: what the one has seen, the other does not have to find out. The high lane's jobs are
// run by pool A, the interactive lane's by pool B; the simulator counts who was asked.

import assert from 'node:assert/strict'
import { chat } from '../support/api.mjs'
import { OwnPools, route } from '../support/own_pools.mjs'
import { Sim } from '../support/sim.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'

const SAID = 'claude-sonnet-4-5-says-so'
const CUT = 'claude-sonnet-4-5-is-cut'
const OUT = 'claude-sonnet-4-5-is-out'
const ONCE = 'claude-sonnet-4-5-is-busy-once'
const [CLOSED, DUE, OPEN] = [0, 1, 2]
const LANE = { a: 'high', b: 'interactive' }

const stack = await Stack.open()
const sim = Sim.at(stack.sim_control)
let own

const state = (pool, model) => own.metric(own[pool], 'sluice_pool_breaker', { account: 'anthropic-main', model })
const changes = (pool, model, to) => own.metric(own[pool], 'sluice_pool_breaker_changes_total', { account: 'anthropic-main', model, to })
const states = async (model) => [await state('a', model), await state('b', model)]

/** How many requests for the model the rule has seen. */
const asked = async (rule) => (await sim.faults()).faults.find((f) => f.id === rule).seen

async function rule(how, model) {
	const { faults } = await sim.fault(how, { model })
	return faults.at(-1).id
}

const submit = async (pool, task) => (await own.api.accepted(chat('is it well?', 'ttft=0 rate=0 tokens=8', { task, model: undefined, lane: LANE[pool] }))).id

/** A job of the pool's lane; its end. Whatever the first target does, the second answers. */
async function job(pool, task) {
	const end = await own.api.ended(await submit(pool, task))
	assert.equal(end.status, 'succeeded', JSON.stringify(end.fault))
	return end
}

const models = (end) => end.calls.map((c) => c.model)

test('what a provider says of itself to one pool holds for both, and for one that starts later: they do not ask', async () => {
	const id = await rule('status=503 retry=60000', SAID)
	assert.deepEqual(models(await job('a', 'says-so')), [SAID, 'gpt-4o-mini'])
	await until('B has heard of it', async () => (await state('b', SAID)) === OPEN)
	for (let i = 0; i < 5; i++) assert.deepEqual(models(await job('b', 'says-so')), ['gpt-4o-mini'])
	assert.deepEqual(models(await job('a', 'says-so')), ['gpt-4o-mini'])
	assert.equal(await asked(id), 1)

	await own.again('b')
	await until('B is told at its start', async () => (await state('b', SAID)) === OPEN)
	assert.deepEqual(models(await job('b', 'says-so')), ['gpt-4o-mini'])
	assert.equal(await asked(id), 1)
	await sim.well(id)
}, { limit_ms: 60000 })

test('a break that one pool alone sees is its own; when the second sees the same it is shut for both, and one of them probes', async () => {
	let id = await rule('cut', CUT)
	for (let i = 0; i < 3; i++) assert.deepEqual(models(await job('a', 'is-cut')), [CUT, 'gpt-4o-mini'])
	await until('A would try it again', async () => (await state('a', CUT)) === DUE)
	assert.equal(await state('b', CUT), CLOSED)
	const opened = await changes('a', CUT, 'open')
	for (let i = 0; i < 3; i++) assert.deepEqual(models(await job('b', 'is-cut')), [CUT, 'gpt-4o-mini'])
	assert.equal(await asked(id), 6)
	await until('A has heard that B saw the same', async () => (await changes('a', CUT, 'open')) > opened)

	// The probe of one of them fails: the other asks nothing.
	await until('one of them may probe', async () => (await states(CUT)).every((s) => s === DUE))
	const ends = await Promise.all([job('a', 'is-cut'), job('b', 'is-cut')])
	assert.deepEqual(ends.map((e) => models(e).length).sort(), [1, 2])
	assert.equal(await asked(id), 7)
	await sim.well(id)

	// It is well again, but slow to say so: of eight jobs in both one is the probe.
	await until('one of them may probe again', async () => (await states(CUT)).every((s) => s === DUE))
	id = await rule('stall=0:2000', CUT)
	const wait = []
	for (let i = 0; i < 8; i++) wait.push(job(i % 2 ? 'a' : 'b', 'is-cut'))
	await until('both are closed', async () => (await states(CUT)).every((s) => s === CLOSED))
	const first = (await Promise.all(wait)).map((e) => models(e)[0])
	assert.equal(first.filter((m) => m === CUT).length, 1, first.join())
	assert.equal(await asked(id), 1)
	await sim.well(id)
	for (const pool of ['a', 'b']) assert.deepEqual(models(await job(pool, 'is-cut')), [CUT])
}, { limit_ms: 60000 })

test('a target that is out for longer than a job may wait does not take the job past its limit', async () => {
	const id = await rule('status=429 retry=75000', OUT)
	const first = await submit('a', 'is-out')
	await until('the first was refused', async () => (await asked(id)) === 1)
	const limits = { queue_ms: 3000 }
	const second = await own.api.accepted(chat('in time?', 'ttft=0 rate=0 tokens=8', { task: 'is-out', model: undefined, lane: LANE.a, limits }))
	const end = await own.api.ended(second.id)
	assert.equal(end.status, 'expired', JSON.stringify(end.fault))
	assert.equal(end.calls.length, 0)
	const waited = Date.parse(end.finished_at) - Date.parse(end.created_at)
	assert.ok(waited >= 3000 && waited < 15000, `${waited} ms`)
	await own.api.cancel(first)
	await sim.well(id)
}, { limit_ms: 60000 })

test('a pool without jobs does not keep those of another from a provider that was busy for a second', async () => {
	const { faults } = await sim.fault('status=503 retry=1000', { model: ONCE, count: 1 })
	const limits = { queue_ms: 10000 }
	const first = await own.api.accepted(chat('is it busy?', 'ttft=0 rate=0 tokens=8', { task: 'is-busy', model: undefined, lane: LANE.b, limits }))
	const ends = await Promise.all([first, ...(await Promise.all(Array.from({ length: 20 }, () => own.api.accepted(chat('still?', 'ttft=0 rate=0 tokens=8', { task: 'is-busy', model: undefined, lane: LANE.b, limits })))))].map((j) => own.api.ended(j.id)))
	assert.deepEqual([...new Set(ends.map((e) => e.status))], ['succeeded'])
	const [refused, again] = ends.flatMap((e) => e.calls).map((c) => Date.parse(c.started_at)).sort((a, b) => a - b)
	assert.ok(again - refused >= 1000 && again - refused < 4000, `${again - refused} ms`)
	await until('both know that it is well', async () => (await states(ONCE)).every((s) => s === CLOSED))
	await sim.well(faults.at(-1).id)
}, { limit_ms: 60000 })

await run(import.meta.url, {
	before: async () => {
		const second = ['openai-main', 'gpt-4o-mini']
		const routes = route('says-so', [['anthropic-main', SAID], second]) + route('is-cut', [['anthropic-main', CUT], second]) + route('is-out', [['anthropic-main', OUT]]) + route('is-busy', [['anthropic-main', ONCE]])
		own = await OwnPools.open(stack, 'two-pools', routes, { a: ['--lanes', LANE.a], b: ['--lanes', LANE.b] })
		for (const lane of Object.values(LANE)) await own.takes(lane, chat('warm'))
	},
	after: async () => {
		await sim.well()
		await own.close()
	},
})
