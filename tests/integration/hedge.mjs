// A second call beside a slow first one, from the client's request to the ledger.

import assert from 'node:assert/strict'
import { answer } from '../support/answer.mjs'
import { chat } from '../support/api.mjs'
import { OwnPools, route } from '../support/own_pools.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'

const FIRST = 'claude-haiku-4-5'
const SECOND = 'gpt-4o-mini'
const HEDGE_MS = 150
// Shut for minutes, for all pools: no other test asks them.
const DENIED = 'gpt-4.1-nano'
const DENIED_TOO = 'gpt-5.4-nano'
const LIMITED = 'gpt-4.1-mini'
const routes = [
	['hedged', ['anthropic-main', FIRST], ['openai-main', SECOND]],
	['denied-second', ['anthropic-main', FIRST], ['openai-main', DENIED]],
	['limited-second', ['anthropic-main', FIRST], ['openai-main', LIMITED]],
	['denied-first', ['openai-main', DENIED_TOO], ['anthropic-main', FIRST]],
]

const stack = await Stack.open()
let own

const calls = async (model) => (await stack.calls()).models[model] ?? { begun: 0, completed: 0, cancelled: 0 }
const hedges = (outcome) => own.metric(own.pool, 'sluice_pool_hedges_total', { outcome })

/** The ledger's calls of a job, in order, when its result is recorded. */
async function ledger(job) {
	await own.api.recorded([job])
	const rows = await stack.sql(`SELECT model, overhead, coalesce(fault, ''), input_tokens, cost_microusd FROM calls WHERE job = '${job}' ORDER BY number`)
	return rows.map(([model, overhead, fault, input, cost]) => ({ model, overhead: overhead === 't', fault, input: Number(input), cost: Number(cost) }))
}

/** A job of the route: what its client saw, how it ended, what the ledger has. */
async function play(text, how, lane = 'interactive') {
	const job = chat(text, how, { task: 'hedged', model: undefined, lane, max_tokens: 100 })
	const { id } = await own.api.accepted(job)
	const seen = await own.api.follow(id)
	const end = (await own.api.get(id)).json
	assert.equal(end.status, 'succeeded', JSON.stringify(end.fault))
	return { id, prompt: job.messages[0].content, seen, end, rows: await ledger(id) }
}

/** The bill has what the winner cost, the ledger the other's too. */
async function billed({ id, end, rows }, winner) {
	const paid = rows.find((r) => r.model === winner)
	const other = rows.find((r) => r.model !== winner)
	assert.equal(rows.length, 2)
	assert.deepEqual([paid.overhead, paid.fault, other.overhead, other.fault], [false, '', true, 'cancelled'])
	assert.ok(paid.cost > 0 && other.cost > 0 && other.input > 0, JSON.stringify(rows))
	assert.equal(end.usage.cost_microusd, paid.cost)
	assert.equal(end.usage.input_tokens, paid.input)
	const [[cost]] = await stack.sql(`SELECT cost_microusd FROM results WHERE job = '${id}'`)
	assert.equal(Number(cost), paid.cost)
}

test('the first target is slow: the text is the second one\'s, the first is cancelled, its cost is overhead and not on the bill', async () => {
	const [before, won, late] = [await calls(FIRST), await hedges('won'), await spent()]
	const p = await play('who is quicker?', `ttft=0 rate=0 tokens=12 only=${FIRST} stall=0:20000`)
	assert.equal(p.seen.answer.text, answer(SECOND, p.prompt, 12).toString())
	assert.equal(p.end.result.text, p.seen.answer.text)
	assert.deepEqual([p.end.target.model, p.end.attempt], [SECOND, 1])
	assert.ok(Date.parse(p.end.finished_at) - Date.parse(p.end.picked_up_at) >= HEDGE_MS, 'not before its time')
	await until('the simulator has seen the first one cancelled', async () => (await calls(FIRST)).cancelled === before.cancelled + 1)
	assert.equal(await hedges('won'), won + 1)
	await billed(p, SECOND)
	const now = await spent()
	assert.equal(now.overhead - late.overhead, p.rows.find((r) => r.overhead).cost)
	assert.equal(now.cost - late.cost, p.end.usage.cost_microusd)
})

test('the second target is no quicker: it is cancelled, and is the overhead', async () => {
	const [before, lost] = [await calls(SECOND), await hedges('lost')]
	const p = await play('and who is quicker now?', `ttft=1500 rate=0 tokens=12 only=${SECOND} stall=0:20000`)
	assert.equal(p.seen.answer.text, answer(FIRST, p.prompt, 12).toString())
	assert.deepEqual([p.end.target.model, p.end.attempt], [FIRST, 1])
	await until('the simulator has seen the second one cancelled', async () => (await calls(SECOND)).cancelled === before.cancelled + 1)
	assert.equal(await hedges('lost'), lost + 1)
	await billed(p, FIRST)
})

test('a job that is not interactive is not hedged', async () => {
	const before = await calls(SECOND)
	const p = await play('nobody waits', 'ttft=600 rate=0 tokens=12', 'high')
	assert.deepEqual([p.rows.length, p.end.target.model], [1, FIRST])
	assert.equal((await calls(SECOND)).begun, before.begun)
})

test('a hedge whose account refuses the model is told to the operators, and so is a first call that a hedge outlives', async () => {
	const refusals = (model) => own.metric(own.pool, 'sluice_pool_refusals_total', { model, fault: 'provider_denied' })
	for (const [task, model] of [['denied-second', DENIED], ['denied-first', DENIED_TOO]]) {
		const job = chat('who may?', `ttft=600 rate=0 tokens=12 head=400 only=${model} status=403`, { task, model: undefined, lane: 'interactive', max_tokens: 100 })
		const end = await own.api.ended((await own.api.accepted(job)).id)
		assert.deepEqual([end.status, end.target.model], ['succeeded', FIRST], JSON.stringify(end.fault))
		assert.equal(await refusals(model), 1)
	}
})

test('a hedge that was refused is in the ledger, and cost nothing', async () => {
	const overhead = () => own.metric(own.pool, 'sluice_pool_overhead_microusd_total', {})
	const [before, failed] = [await overhead(), await hedges('failed')]
	const job = chat('too many?', `ttft=600 rate=0 tokens=12 head=400 only=${LIMITED} status=429`, { task: 'limited-second', model: undefined, lane: 'interactive', max_tokens: 100 })
	const end = await own.api.ended((await own.api.accepted(job)).id)
	assert.deepEqual([end.status, end.target.model], ['succeeded', FIRST], JSON.stringify(end.fault))
	assert.equal(await hedges('failed'), failed + 1)
	const other = (await ledger(end.id)).find((r) => r.model === LIMITED)
	assert.deepEqual(other, { model: LIMITED, overhead: true, fault: 'provider_rate_limited', input: 0, cost: 0 })
	assert.equal(await overhead(), before)
})

/** All that the organisation's days cost, by the view that operators read. */
async function spent() {
	const [[cost, overhead]] = await stack.sql('SELECT coalesce(sum(cost_microusd), 0), coalesce(sum(overhead_microusd), 0) FROM spend')
	return { cost: Number(cost), overhead: Number(overhead) }
}

await run(import.meta.url, {
	before: async () => {
		own = await OwnPools.open(stack, 'hedging', routes.map(([name, ...targets]) => route(name, targets, { hedge_ms: HEDGE_MS })).join(''), { pool: [] })
		await own.takes('interactive', chat('warm'))
	},
	after: () => own.close(),
})
