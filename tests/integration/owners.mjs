// A job whose pool dies or leaves: its times go on from its first pick-up, what it said stands, and each call is in the books as it ended.

import assert from 'node:assert/strict'
import { chat, said } from '../support/api.mjs'
import { OwnPools, route } from '../support/own_pools.mjs'
import { Sim } from '../support/sim.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'

const MODEL = 'claude-sonnet-4-5'
const LANE = 'high'
const ROUTES = route('owners', [['anthropic-main', MODEL]]) + route('owners-line', [['anthropic-main', `${MODEL}-line`]])

const stack = await Stack.open()
const sim = Sim.at(stack.sim_control)
let own

const job = (how, limits, task = 'owners') => chat('whose is it?', how, { task, model: undefined, lane: LANE, limits })
const view = async (id) => (await own.api.get(id)).json
const since = (time) => Date.now() - Date.parse(time)

/** Submits it and waits until it said something; what is known of it then. */
async function speaking(how, limits) {
	const asked = job(how, limits)
	const { id } = await own.api.accepted(asked)
	let seen
	await until('it speaks', async () => (seen = await view(id)).first_token_at && since(seen.first_token_at) > 600)
	return { ...seen, whole: said(asked, 1000, MODEL) }
}

const kill = () => own.a.end('SIGKILL')

/** It ended as `status` with a part of its text, which is paid. */
function partial(end, status, before) {
	assert.equal(end.status, status, JSON.stringify(end.fault))
	assert.equal(end.picked_up_at, before.picked_up_at)
	assert.equal(end.result.partial, true)
	assert.ok(end.result.bytes > 20 && before.whole.startsWith(end.result.text), end.result.text)
	assert.equal(end.result.bytes, Buffer.byteLength(end.result.text))
	assert.ok(end.usage.input_tokens > 0 && end.usage.output_tokens > 1 && end.usage.cost_microusd > 0, JSON.stringify(end.usage))
}

test('picked up in time and its pool is killed: its time in queue is not counted again', async () => {
	const before = await speaking('ttft=0 rate=20 tokens=100', { queue_ms: 1500, run_ms: 60000 })
	await until('its time in queue would be over', () => since(before.created_at) > 1700)
	await kill()
	await own.again('a')
	const end = await own.api.ended(before.id)
	assert.equal(end.status, 'succeeded', JSON.stringify(end.fault))
	assert.equal(end.picked_up_at, before.picked_up_at)
	assert.equal(end.calls.length, 2)
}, { limit_ms: 60000 })

test('its time running is counted from the first pick-up, over all owners', async () => {
	const before = await speaking('ttft=0 rate=20 tokens=1000', { run_ms: 6000 })
	await until('it ran for a while', () => since(before.picked_up_at) > 3000)
	await kill()
	await own.again('a')
	const end = await own.api.ended(before.id)
	partial(end, 'expired', before)
	assert.equal(end.calls.length, 2)
	const ran = Date.parse(end.finished_at) - Date.parse(end.picked_up_at)
	assert.ok(ran >= 5990 && ran < 8500, `${ran} ms`)
}, { limit_ms: 60000 })

test('its time is over, or it is cancelled, while nobody runs it: it keeps the text that it had, and its calls are paid', async () => {
	const late = await speaking('ttft=0 rate=20 tokens=1000', { run_ms: 2500 })
	const unwanted = await speaking('ttft=0 rate=20 tokens=1000')
	await kill()
	assert.equal((await own.api.cancel(unwanted.id)).status, 202)
	await until('its time is over', () => since(late.picked_up_at) > 2700)
	await own.again('a')
	for (const [before, status] of [[late, 'expired'], [unwanted, 'cancelled']]) {
		const end = await own.api.ended(before.id)
		partial(end, status, before)
		assert.equal(end.calls.length, 1)
		const [row] = (await own.api.recorded([before.id])).get(before.id)
		assert.equal(row.answer.toString(), end.result.text)
	}
}, { limit_ms: 60000 })

test('refused, and its pool leaves while it waits: the call stands as it ended, costs nothing, and its time in queue is not counted again', async () => {
	await sim.fault('status=503 retry=6000', { model: MODEL, count: 1 })
	const { id } = await own.api.accepted(job('ttft=0 rate=0 tokens=8', { queue_ms: 2000, run_ms: 60000 }))
	await until('it was refused', async () => (await view(id)).why === 'breaker' || (await view(id)).why === 'retry')
	await own.again('a')
	const [between] = (await view(id)).calls
	assert.ok(between.fault && between.ended_at, JSON.stringify(between))
	const end = await own.api.ended(id)
	assert.equal(end.status, 'succeeded', JSON.stringify(end.fault))
	assert.ok(Date.parse(end.finished_at) - Date.parse(end.created_at) > 2500)
	assert.deepEqual(end.calls.map((c) => [!!c.fault, !!c.ended_at]), [[true, true], [false, true]])
	const alone = await own.api.ended((await own.api.accepted(job('ttft=0 rate=0 tokens=8'))).id)
	assert.equal(end.usage.cost_microusd, alone.usage.cost_microusd)
	assert.equal(end.usage.input_tokens, alone.usage.input_tokens)
}, { limit_ms: 60000 })

// A quota that is new is opened a minute after the pool came, since nobody knows what was spent before.
test("its pool is killed in its call, and its quota has nothing for a minute: the wait in the quota's line is no time running", async () => {
	const { id } = await own.api.accepted(job('ttft=0 rate=10 tokens=60', { queue_ms: 200000, run_ms: 25000 }, 'owners-line'))
	await until('it speaks', async () => (await view(id)).first_token_at)
	await kill()
	own.write(`${ROUTES}quotas:\n  - {name: owners-line, accounts: anthropic-main, models: "${MODEL}-line", requests: 100}\n`)
	await own.again('a')
	await until('it waits for its quota', async () => (await view(id)).why === 'budget', 30000)
	const end = await own.api.ended(id, 90000)
	assert.equal(end.status, 'succeeded', JSON.stringify(end.fault))
	assert.equal(end.calls.length, 2)
	assert.ok(Date.parse(end.finished_at) - Date.parse(end.picked_up_at) > 30000)
}, { limit_ms: 150000 })

await run(import.meta.url, {
	before: async () => {
		own = await OwnPools.open(stack, 'owners', ROUTES, { a: ['--lanes', LANE] })
		await own.takes(LANE, chat('warm'))
	},
	after: () => own?.close(),
})
