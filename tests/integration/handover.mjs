// A second pool takes over without a gap: when one leaves for good (scale-down), and when one is started again. What a client notices
// is the time from the acceptance of a job until a provider is called for it; the longest one is printed.

import assert from 'node:assert/strict'
import { Api, chat } from '../support/api.mjs'
import { Stack } from '../support/stack.mjs'
import { pass, run, test, until } from '../support/test.mjs'

const stack = await Stack.open()
const api = new Api(stack)
const askers = (await stack.keys(8)).map((key) => new Api(stack, key)) // whose jobs stand in the partitions of both pools
const asker = new Map() // job -> who asked
const ID = 'sluice-pool-handover'
let extra

/** The n-th job, of one organisation after the other. */
async function ask(n, job) {
	const who = askers[n % askers.length]
	const { id } = await who.accepted(job)
	asker.set(id, who)
	return id
}

const depthOf = (id) => stack.metric(id, 'sluice_pool_lane_in_flight')

/** A pool beside the stack's own. */
async function start() {
	stack.services = stack.services.filter((s) => s.id !== ID)
	extra = await stack.more('sluice-pool', ID, 'pool', '--pool', 'llm')
}

/** The same, when it has its part of the lanes. */
async function second() {
	await start()
	let n = 0
	await until('both take jobs', async () => {
		const id = await ask(n++, chat('warm'))
		await asker.get(id).ended(id)
		return (await stack.metric(ID, 'sluice_pool_jobs_taken_total')) > 0
	})
}

/** Forty short jobs a second until `over` says so; their ids and when each was asked for. */
async function flow(over) {
	const asked = []
	for (let i = 0; !over(); i++) {
		asked.push(ask(i, chat(`flow ${i}`)))
		await pass(25)
	}
	return Promise.all(asked)
}

/** Jobs under way in both pools for some seconds. */
async function longJobs() {
	const ids = []
	for (let i = 0; i < 24; i++) ids.push(await ask(i, chat(`long ${i}`, 'ttft=4000 rate=0 tokens=5')))
	await until('they run in both', async () => (await depthOf(ID)) > 0 && (await depthOf('sluice-pool-1')) > 0)
	return ids
}

/** Waits for all; the longest time until a call, of all that were called after `from`. */
async function waits(ids, from) {
	let longest = 0
	for (const id of ids) {
		const j = await asker.get(id).ended(id, 60000)
		assert.equal(j.status, 'succeeded', JSON.stringify(j.fault))
		assert.equal(j.calls.length, 1, `${id}: ${JSON.stringify(j.calls)}`)
		if (Date.parse(j.created_at) >= from) longest = Math.max(longest, Date.parse(j.picked_up_at) - Date.parse(j.created_at))
	}
	return longest
}

async function change(what, act) {
	const before = (await stack.calls()).begun
	const long = await longJobs()
	let over = false
	const flowing = flow(() => over)
	await pass(500)
	const from = Date.now()
	const ended = act()
	const code = await ended
	const took = Date.now() - from
	await pass(1500)
	over = true
	const ids = [...(await flowing), ...long]
	const longest = await waits(ids, from)
	const again = (await stack.calls()).begun - before - ids.length
	console.log(`        ${what}: ${ids.length} jobs, the longest wait until a call ${longest} ms, the process ended after ${took} ms, ${again} calls repeated`)
	return { code, from, longest, took, again, ids }
}

test('a pool that leaves for good: others have its lanes while it ends what it runs', async () => {
	await second()
	const c = await change('scale-down (SIGUSR1)', () => extra.end('SIGUSR1'))
	assert.equal(c.code, 0)
	assert.equal(c.again, 0)
	assert.ok(c.took > 1500, 'it ended the long jobs that it had')
	assert.ok(c.longest < 1500, `a job waited ${c.longest} ms`)
	for (const [id, rows] of await api.recorded(c.ids, 60000)) assert.ok(rows.length === 1 && rows[0].status === 'succeeded', id)
}, { limit_ms: 120000 })

test('a restart that turns out to be for good (SIGTERM, then SIGUSR1): as when it leaves, and what it runs is not repeated', async () => {
	await second()
	let then
	const c = await change('SIGTERM, then SIGUSR1', async () => {
		extra.child.kill('SIGTERM')
		await pass(700)
		then = Date.now()
		return extra.end('SIGUSR1')
	})
	assert.equal(c.code, 0)
	assert.equal(c.again, 0)
	assert.ok(c.took > 1500, 'it ended the long jobs that it had')
	assert.ok(c.longest < 3500, `a job waited ${c.longest} ms, the second signal came after ${then - c.from}`)
	for (const [id, rows] of await api.recorded(c.ids, 60000)) assert.ok(rows.length === 1 && rows[0].status === 'succeeded', id)
}, { limit_ms: 120000 })

test('a pool that is started again keeps its lanes: no rebalance, and nothing is repeated', async () => {
	await second()
	const c = await change('restart (SIGTERM, then again)', async () => {
		const code = await extra.end('SIGTERM')
		await start()
		return code
	})
	assert.equal(c.code, 0)
	assert.equal(c.again, 0)
	await extra.end('SIGUSR1')
	for (const [id, rows] of await api.recorded(c.ids, 60000)) assert.ok(rows.length === 1 && rows[0].status === 'succeeded', id)
}, { limit_ms: 120000 })

async function after() {
	if (extra && extra.child.exitCode === null) await extra.end('SIGKILL')
}

await run(import.meta.url, { after })
