// A target whose connections carry few calls: who waits for one holds no slot, and the other targets are asked meanwhile.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { chat } from '../support/api.mjs'
import { OwnPools, route } from '../support/own_pools.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'

const SMALL = 'claude-haiku-4-5'
const IDLE = 'gpt-4o-mini'
const ROOM = 2
const routes = [
	['small', ['small', SMALL]],
	['idle', ['openai-main', IDLE]],
	['small-first', ['small', SMALL], ['openai-main', IDLE]],
]

const stack = await Stack.open()
let own

/** The stack's account at Anthropic again, by HTTP/1.1 and with few connections. */
function small() {
	const [account] = /^ {2}- name: anthropic-main\n(?: {4}.*\n)+/m.exec(readFileSync(stack.config, 'utf8'))
	return `${account.replace('anthropic-main', 'small')}    http: "1.1"\n    connections: ${ROOM}\n`
}

const job = (task, text, ttft, more = {}) => chat(text, `ttft=${ttft} rate=0 tokens=5`, { task, model: undefined, lane: 'interactive', ...more })
const send = (count, ...words) => Promise.all(Array.from({ length: count }, () => own.api.accepted(job(...words)))).then((jobs) => jobs.map((j) => j.id))
const shown = async (id) => (await own.api.get(id)).json
const runs = async (ids) => (await Promise.all(ids.map(shown))).filter((j) => j.status === 'running').length

/** As many jobs as there is room for, which last until they are cancelled. */
async function fill() {
	const ids = await send(ROOM, 'small', 'fill', 600000)
	await until('they are called', async () => (await runs(ids)) === ROOM)
	return ids
}

const leave = (ids) => Promise.all(ids.map((id) => own.api.cancel(id)))
const wait = (ids) => until('all wait for room', async () => (await Promise.all(ids.map(shown))).every((j) => j.why === 'limit' && j.position === null), 30000)

/** The jobs once they have ended, all well. */
async function ended(ids) {
	const ends = await Promise.all(ids.map((id) => own.api.ended(id)))
	for (const end of ends) assert.equal(end.status, 'succeeded', JSON.stringify(end.fault))
	return ends
}

test('jobs for a full target hold no slots: one for another target runs at once; then all end, as many at once as there is room for', async () => {
	const blockers = await fill()
	const ids = await send(40, 'small', 'many', 100)
	await wait(ids)
	const [other] = await ended(await send(1, 'idle', 'and one', 0))
	assert.equal(other.target.model, IDLE)
	assert.equal(await runs(blockers), ROOM)
	assert.equal(await runs(ids), 0)
	const inside = await own.metric(own.pool, 'sluice_pool_stream_waits', { account: 'small' })
	assert.equal(inside, 0)
	await leave(blockers)
	const ends = await ended(ids)
	assert.ok(ends.every((e) => e.target.model === SMALL))
	const rows = await own.api.recorded(ids).then(() => stack.sql(`SELECT started_ms, ended_ms FROM calls WHERE job IN (${ids.map((id) => `'${id}'`)})`))
	assert.equal(rows.length, ids.length, 'each was called once')
	const times = rows.flatMap(([from, to]) => [[Number(from), 1], [Number(to), -1]]).sort((a, b) => a[0] - b[0] || a[1] - b[1])
	let now = 0
	let most = 0
	for (const [, change] of times) most = Math.max(most, (now += change))
	assert.equal(most, ROOM)
}, { limit_ms: 90000 })

test('a full target is passed by where the route has another one', async () => {
	const [first] = await ended(await send(1, 'small-first', 'room', 0))
	assert.equal(first.target.model, SMALL)
	const blockers = await fill()
	const ends = await ended(await send(10, 'small-first', 'spread', 0))
	assert.ok(ends.every((e) => e.target.model === IDLE))
	await leave(blockers)
}, { limit_ms: 60000 })

test('where all are full lanes go on by weight', async () => {
	const blockers = await fill()
	const bulk = await send(6, 'small', 'bulk', 50, { lane: 'background' })
	await wait(bulk)
	const urgent = await send(6, 'small', 'urgent', 50)
	await wait(urgent)
	await leave(blockers)
	const ends = await ended([...bulk, ...urgent])
	ends.sort((a, b) => Date.parse(a.picked_up_at) - Date.parse(b.picked_up_at))
	assert.ok(ends.slice(0, 6).every((e) => urgent.includes(e.id)), ends.map((e) => e.lane).join())
}, { limit_ms: 90000 })

test('a job that waits for room is cancelled, or expires, and was never called', async () => {
	const blockers = await fill()
	const [gone] = await send(1, 'small', 'gone', 0)
	const [late] = await send(1, 'small', 'late', 0, { limits: { queue_ms: 8000 } })
	await wait([gone, late])
	await own.api.cancel(gone)
	assert.equal((await own.api.ended(gone)).status, 'cancelled')
	assert.equal((await own.api.ended(late)).status, 'expired')
	assert.equal(await runs(blockers), ROOM, 'there was no room until then')
	await own.api.recorded([gone, late])
	assert.deepEqual(await stack.sql(`SELECT count(*) FROM calls WHERE job IN ('${gone}', '${late}')`), [['0']])
	await leave(blockers)
}, { limit_ms: 60000 })

await run(import.meta.url, {
	before: async () => {
		const words = ['--set', 'pool.slots=6', '--set', 'pool.reserved=1']
		own = await OwnPools.open(stack, 'room', routes.map(([name, ...targets]) => route(name, targets)).join(''), { pool: words }, small())
		await own.takes('interactive', chat('warm'))
		await own.takes('background', chat('warm'))
	},
	after: () => own.close(),
})
