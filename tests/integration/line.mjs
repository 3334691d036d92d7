// The line of a lane: positions, estimates and reasons while a job waits for a slot. For this file the pool has four slots.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readlinkSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import { Api, chat } from '../support/api.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'
import { Client } from '../support/ws.mjs'

const stack = await Stack.open()
const api = new Api(stack)
const other = new Api(stack, stack.other_key)
const exec = promisify(execFile)
const POOL = 'sluice-pool-1'
const file = `${stack.dir}/line-test.yaml`
const four = 'pool:\n  slots: 4\n  reserved: 1\n  ahead: 4\n'

async function before() {
	writeFileSync(file, four)
	await stack.command('up', '--config', file, '--newer')
	await stack.refresh()
}

async function after() {
	await stack.command('up', '--config', '', '--newer')
}

/** The `queued` events that a client heard of a job, in their order. */
const waits = (client, id) => client.events.filter((e) => e.ev === 'queued' && e.job === id)

/** Positions that never rise; null (not told yet) stands before all. */
function falls(list, what) {
	const known = list.filter((p) => p !== null)
	for (let i = 1; i < known.length; i++) assert.ok(known[i] <= known[i - 1], `${what}: ${known.join()}`)
	return known
}

test('a waiting job has a position that falls, an estimate, and the same by HTTP and after attach', async () => {
	const { client } = await Client.hello(stack)
	const ids = []
	for (let i = 0; i < 24; i++) ids.push((await api.accepted(chat(`line ${i}`, 'ttft=1000 rate=0 tokens=5'))).id)
	client.send({ op: 'attach', jobs: ids.map((id) => ({ id })) })
	const last = ids.at(-1)
	const first = await client.next((e) => e.ev === 'queued' && e.job === last && e.position)
	assert.equal(first.why, 'slots')
	assert.equal(first.lane, 'interactive')
	assert.ok(first.position > 4 && first.position <= 20, `position ${first.position}`)
	const shown = (await api.get(last)).json
	assert.equal(shown.status, 'queued')
	assert.equal(shown.why, 'slots')
	assert.ok(shown.position >= 1 && shown.position <= first.position, `${shown.position} after ${first.position}`)
	const apart = (await Client.hello(stack)).client
	apart.send({ op: 'attach', jobs: [{ id: last }] })
	const again = await apart.next((e) => e.ev === 'queued' && e.job === last)
	assert.ok(again.position >= 1 && again.position <= first.position, JSON.stringify(again))
	await client.next((e) => e.ev === 'queued' && e.estimate_ms !== null)
	for (const id of ids) await client.end(id)
	await apart.end(last)
	let told = 0
	for (const id of ids) {
		const known = falls(waits(client, id).map((e) => e.position), id)
		told += known.length
		const names = client.events.filter((e) => e.job === id).map((e) => e.ev)
		if (names.includes('started')) assert.ok(names.lastIndexOf('queued') < names.indexOf('started'), names.join())
		assert.equal((await api.get(id)).json.position, null)
	}
	falls(waits(apart, last).map((e) => e.position), 'attached')
	assert.ok(waits(client, last).length >= 3, 'each change of its position was told')
	const estimates = waits(client, last).filter((e) => e.estimate_ms !== null)
	assert.ok(estimates.length, 'the pace was known before its turn came')
	for (const e of estimates) assert.ok(e.estimate_ms <= 20000, JSON.stringify(e))
	console.log(`        24 jobs, 4 slots: ${told} positions told; the last one's: ${waits(client, last).map((e) => `${e.position} (${e.estimate_ms} ms)`).join(', ')}`)
}, { limit_ms: 60000 })

/** sluicectl depth of one lane, from offsets and commit metadata alone. */
async function depth(topic) {
	const program = `${dirname(readlinkSync(`/proc/${stack.pid('sluice-front-1')}/exe`))}/sluicectl`
	const { stdout } = await exec(program, ['--config', `${stack.dir}/sluice.yaml`, 'depth', '--json'])
	return stdout
		.trim()
		.split('\n')
		.map((line) => JSON.parse(line))
		.find((row) => row.topic.endsWith(topic))
}

test('depth, age, jobs in flight and in the line: by the pool, and by offsets and commits alone', async () => {
	const of = (metrics, name) => metrics.get(`sluice_pool_lane_${name}{pool="llm",lane="background"}`)
	const gauge = async (name) => of(await stack.metrics(POOL), name)
	const ids = []
	for (let i = 0; i < 30; i++)
		ids.push((await api.accepted(chat(`deep ${i}`, `ttft=${i < 1 ? 6000 : 300} rate=0 tokens=5`, { lane: 'background' }))).id)
	// one reading: jobs end meanwhile
	const seen_at_once = await until('most are seen', async () => {
		const m = await stack.metrics(POOL)
		return of(m, 'in_flight') + of(m, 'waiting') >= 20 && m
	})
	const [depth_then, in_flight, waiting] = ['depth', 'in_flight', 'waiting'].map((name) => of(seen_at_once, name))
	assert.ok(depth_then >= 20 && depth_then <= 30, `depth ${depth_then}`)
	// and those whose call is over while their result is written: they hold no slot any more
	assert.ok(in_flight >= 3 && in_flight <= 3 + 4 + 3, `${in_flight} in flight: three slots, four claimed ahead, three that end`)
	assert.ok(waiting >= 20 - 7, `${waiting} wait`)
	const outside = await depth('llm.background')
	assert.ok(outside.depth > 0 && outside.depth <= 30, JSON.stringify(outside))
	assert.ok(outside.oldest_ms > 0 && outside.oldest_ms < 30000, JSON.stringify(outside))
	await until('only the long one is left', async () => (await gauge('depth')) === 1 && (await gauge('in_flight')) === 1)
	assert.equal(await gauge('waiting'), 0)
	assert.equal(await gauge('waiting_seconds'), 0)
	const left = await depth('llm.background')
	assert.equal(left.depth, 1, 'what is done beyond the base does not count')
	const [inside, seen] = [await gauge('oldest_seconds'), left.oldest_ms / 1000]
	assert.ok(inside > 1 && Math.abs(inside - seen) < 2.5, `oldest: ${inside} s by the pool, ${seen} s from outside`)
	for (const id of ids) assert.equal((await api.ended(id)).status, 'succeeded')
	await until('nothing is left', async () => (await gauge('depth')) === 0 && (await gauge('oldest_seconds')) === 0)
	await until('from outside too', async () => (await depth('llm.background')).depth === 0)
	assert.equal((await depth('llm.background')).oldest_ms, 0)
}, { limit_ms: 60000 })

test('an organisation of weight 4 gets four times the service of another, from a SIGHUP on', async () => {
	const job = (who, i) => chat(`${who} ${i}`, 'ttft=100 rate=0 tokens=5', { lane: 'background' })
	const one = await other.accepted(job('b', 'first'))
	await other.ended(one.id)
	await api.recorded([one.id])
	const [[org]] = await stack.sql(`SELECT org FROM results WHERE job = '${one.id}'`)
	const reloads = () => stack.metrics(POOL).then((m) => m.get('sluice_reloads_total{outcome="taken"}') ?? 0)
	const before = await reloads()
	writeFileSync(file, `${four}fairness:\n  orgs:\n    - name: ${org}\n      weight: 4\n`)
	await stack.command('up', '--config', file)
	process.kill(stack.pid(POOL), 'SIGHUP')
	await until('the weight is taken', async () => (await reloads()) > before)
	const ids = []
	await Promise.all(
		[api, other].map(async (a, which) => {
			for (let i = 0; i < 80; i++) ids.push({ which, id: (await a.accepted(job('ab'[which], i))).id })
		}),
	)
	const began = []
	for (const { which, id } of ids) began.push({ which, at: (await [api, other][which].ended(id)).picked_up_at })
	began.sort((a, b) => (a.at < b.at ? -1 : 1))
	// both still wait after these: A has 20 of its 80 jobs behind it, B all of its own
	const share = began.slice(20, 90).filter((b) => b.which === 1).length / 70
	console.log(`        of 70 jobs in a row the organisation of weight 4 had ${(share * 100).toFixed(0)} % (80 % are due)`)
	assert.ok(share > 0.68 && share < 0.9, `share ${share}`)
}, { limit_ms: 90000 })

test('options that leave the other lanes no slot are refused by a SIGHUP, a lane named twice at the start', async () => {
	const refused = () => stack.metrics(POOL).then((m) => m.get('sluice_reloads_total{outcome="refused"}') ?? 0)
	const before = await refused()
	writeFileSync(file, 'pool:\n  slots: 4\n  reserved: 4\n')
	await stack.command('up', '--config', file)
	process.kill(stack.pid(POOL), 'SIGHUP')
	await until('it is refused', async () => (await refused()) > before)
	const { id } = await api.accepted(chat('with the old options', 'ttft=0 rate=0 tokens=2', { lane: 'background' }))
	assert.equal((await api.ended(id)).status, 'succeeded')
	writeFileSync(file, four)
	await stack.command('up', '--config', file)
	const pool = readlinkSync(`/proc/${stack.pid(POOL)}/exe`)
	const twice = exec(pool, ['--config', `${stack.dir}/sluice.yaml`, '--lanes', 'high,high'], { timeout: 20000 })
	await assert.rejects(twice, (e) => e.code > 0 && /names a lane twice/.test(e.stdout + e.stderr))
})

test('a job that nobody has claimed yet is cancelled at once, and a whole backlog is', async () => {
	const ids = []
	for (let i = 0; i < 60; i++)
		ids.push((await api.accepted(chat(`backlog ${i}`, 'ttft=1500 rate=0 tokens=5', { lane: 'background' }))).id)
	const last = ids.pop()
	assert.equal((await stack.redis_cli('HGET', `j:{${last}}`, 'worker')).trim(), '', 'nobody has claimed it')
	assert.equal((await api.cancel(last)).status, 202)
	const j = await api.ended(last, 10000)
	assert.deepEqual([j.status, j.lane, j.calls.length], ['cancelled', 'background', 0])
	assert.equal((await api.get(ids.at(-1))).json.status, 'queued', 'the one before it waits still')
	for (const id of ids) assert.ok([202, 409].includes((await api.cancel(id)).status))
	const ends = []
	for (const id of ids) ends.push(await api.ended(id, 20000))
	assert.ok(ends.filter((e) => e.status === 'cancelled').length > 30, ends.map((e) => e.status).join())
	for (const [id, rows] of await api.recorded([last, ...ids])) assert.equal(rows.length, 1, id)
}, { limit_ms: 60000 })

test('half of a lane that waits for something else goes to a tier, and what can run is called', async () => {
	const small = `${four.replace('ahead: 4', 'ahead: 4\n  window_records: 36\n  defer_ms: 3000')}`
	writeFileSync(file, small)
	await stack.command('up', '--config', file, '--newer')
	await stack.refresh()
	const overflowed = () => stack.metric(POOL, 'sluice_pool_jobs_overflowed_total')
	const due = new Date(Date.now() + 2500).toISOString()
	const ids = []
	for (let i = 0; i < 40; i++)
		ids.push((await api.accepted(chat(`parked ${i}`, undefined, { lane: 'background', not_before: due }))).id)
	await until('the window overflows', async () => (await overflowed()) >= 5)
	const ready = await api.ended((await api.accepted(chat('ready', undefined, { lane: 'background' }))).id)
	const wait = Date.parse(ready.picked_up_at) - Date.parse(ready.created_at)
	const ended = []
	for (const id of ids) ended.push(await api.ended(id, 60000))
	for (const j of ended) {
		assert.equal(j.status, 'succeeded', JSON.stringify(j.fault))
		assert.ok(j.picked_up_at >= due, `${j.picked_up_at} is before ${due}`)
		assert.equal(j.calls.length, 1)
	}
	for (const [id, rows] of await api.recorded(ids, 60000)) assert.equal(rows.length, 1, id)
	const gone = await overflowed()
	console.log(`        40 jobs that wait in a window of 12: ${gone} went to a tier; a job behind them was called after ${wait} ms`)
	assert.ok(ready.picked_up_at < due, `it waited ${wait} ms for those that wait`)
	assert.ok(gone >= 20 && gone <= 40, `${gone} of 40`)
}, { limit_ms: 90000 })

await run(import.meta.url, { before, after })
