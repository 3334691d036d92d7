// More processes than one of a kind: they come, go, die and stall under load, and nothing is lost, nothing is done twice.

import assert from 'node:assert/strict'
import { Api } from '../support/api.mjs'
import { Crowd } from '../support/load.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'

const stack = await Stack.open()
const more = []

async function ready() {
	await stack.up()
	await stack.refresh()
}

async function another(...words) {
	const made = await stack.more(...words)
	more.push(made)
	return made
}

/** Of the two pools, the one that has more calls at hand now: {id, pid}, and how many. */
async function busier(second) {
	const of = async (id) => (await stack.metrics(id)).get('sluice_pool_jobs{stage="calling"}') ?? 0
	const one = { id: 'sluice-pool-1', pid: stack.pid('sluice-pool-1'), calls: await of('sluice-pool-1') }
	const two = { id: second.id, pid: second.pid, calls: await of(second.id) }
	return one.calls >= two.calls ? one : two
}

for (const id of ['sluice-front-1', 'sluice-pool-1', 'sluice-push-1', 'sluice-archive-1']) {
	test(`${id} is ended in order (SIGTERM) under load and started again: no call is repeated, no client loses a byte`, async () => {
		await ready()
		const before = await stack.calls()
		const crowd = new Crowd(stack, `drain-${id.slice(7, -2)}`)
		crowd.add(60)
		await crowd.running(30)
		await stack.down(id)
		await stack.up(id)
		crowd.add(20)
		try {
			await crowd.settle()
			assert.equal((await stack.calls()).begun - before.begun, 80, 'every call was made once')
		} finally {
			await crowd.ledger(before)
		}
	}, { limit_ms: 120000 })
}

test('a second pool joins under load and leaves again: no job is lost, no call is made twice', async () => {
	await ready()
	const before = await stack.calls()
	const crowd = new Crowd(stack, 'join')
	crowd.add(60)
	await crowd.running(20)
	const second = await another('sluice-pool', 'sluice-pool-2', 'pool', '--pool', 'llm')
	crowd.add(60)
	// an organisation's jobs are in a few partitions: whether the new one has any of these is chance
	await until('all are accepted', () => crowd.jobs.size === 120, 30000)
	crowd.add(30)
	console.log(`        the second pool took ${await stack.metric('sluice-pool-2', 'sluice_pool_jobs_taken_total')} jobs`)
	await second.end('SIGTERM')
	crowd.add(20)
	try {
		await crowd.settle()
		assert.equal((await stack.calls()).begun - before.begun, 170, 'every call was made once')
	} finally {
		await crowd.ledger(before)
	}
}, { limit_ms: 150000 })

test('a pool is killed and stays dead: the other one takes its jobs over', async () => {
	await ready()
	const second = await another('sluice-pool', 'sluice-pool-2', 'pool', '--pool', 'llm')
	const warm = new Crowd(stack, 'warm', 'ttft=20 rate=200 tokens=60')
	warm.add(60)
	await warm.settle()
	const before = await stack.calls()
	const crowd = new Crowd(stack, 'takeover')
	crowd.add(80)
	await crowd.running(60)
	const dead = await busier(second)
	const begun = Date.now()
	process.kill(dead.pid, 'SIGKILL')
	try {
		await until('a job is taken over', async () => (await stack.calls()).begun - before.begun > 80, 60000)
		console.log(`        ${dead.id} stayed dead with ${dead.calls} calls; the first of them was made again after ${Date.now() - begun} ms`)
		assert.ok(Date.now() - begun < 15000, 'within 12 s, and some for a busy machine')
		await crowd.settle()
	} finally {
		await crowd.ledger(before)
		await ready()
		await second.end('SIGTERM')
	}
}, { limit_ms: 150000 })

test('two archives write at once, one stalls in the midst of it and goes on: each result stands once', async () => {
	await ready()
	const before = await stack.calls()
	const second = await another('sluice-archive', 'sluice-archive-2', 'archive')
	const first = stack.pid('sluice-archive-1')
	const crowd = new Crowd(stack, 'archives', 'ttft=20 rate=200 tokens=60')
	try {
		for (let round = 0; round < 4; round++) {
			const [stalled, working] = round % 2 ? [second.pid, first] : [first, second.pid]
			crowd.add(40)
			process.kill(stalled, 'SIGSTOP')
			crowd.add(20)
			await until('jobs end meanwhile', () => [...crowd.jobs.values()].filter((j) => j.end).length > round * 60 + 30, 30000)
			process.kill(stalled, 'SIGCONT')
			assert.ok(working)
		}
		await crowd.settle()
		const ids = [...crowd.jobs.keys()].map((id) => `'${id}'`)
		const [[rows, calls]] = await stack.sql(
			`SELECT (SELECT count(*) FROM results WHERE job IN (${ids})), (SELECT count(*) FROM calls WHERE job IN (${ids}))`,
		)
		assert.equal(Number(rows), 240)
		assert.equal(Number(calls), 240)
	} finally {
		await crowd.ledger(before)
		await second.end('SIGTERM')
	}
}, { limit_ms: 120000 })

test('a pool that stalls longer than its lease does not write over who took its jobs', async () => {
	await ready()
	const before = await stack.calls()
	const second = await another('sluice-pool', 'sluice-pool-2', 'pool', '--pool', 'llm')
	const crowd = new Crowd(stack, 'stalled', 'ttft=20 rate=6 tokens=60')
	crowd.add(60)
	await crowd.running(40, 20)
	const stalled = await busier(second)
	process.kill(stalled.pid, 'SIGSTOP')
	const begun = Date.now()
	try {
		// its leases end after ten seconds; the group gives its partitions away when its session has timed out
		await until('the other one has claimed them', async () => (await stack.calls()).begun - before.begun > 65, 80000)
		console.log(`        ${stalled.id} stalled with ${stalled.calls} calls; the other one began to make them again after ${Date.now() - begun} ms`)
	} finally {
		process.kill(stalled.pid, 'SIGCONT')
	}
	try {
		await crowd.settle()
	} finally {
		await crowd.ledger(before, { exact: false })
		await second.end('SIGTERM')
	}
}, { limit_ms: 180000 })

test('two fronts and two push nodes serve the same jobs', async () => {
	await ready()
	const port = (url, n) => url.replace(/:(\d+)/, (_, p) => `:${Number(p) + n}`)
	await another('sluice-front', 'sluice-front-2', 'front', '--set', `front.listen=${new URL(port(stack.front, 5)).host}`)
	const there = new Api(Object.assign(Object.create(Stack.prototype), stack, { front: port(stack.front, 5) }))
	const here = new Api(stack)
	const { chat } = await import('../support/api.mjs')
	for (const [one, two] of [[here, there], [there, here]]) {
		const job = chat('two fronts', 'ttft=50 rate=60 tokens=30')
		const key = { 'idempotency-key': `fleet-${Math.random()}` }
		const { id } = await one.accepted(job, key)
		const again = await two.submit(job, key)
		assert.equal(again.json?.id, id, 'keys hold everywhere')
		const { answer: a, end } = await two.follow(id)
		assert.equal(end.event, 'result')
		assert.equal((await one.ended(id)).result.text, a.text)
	}
})

await run(import.meta.url, {
	after: () => {
		for (const m of more) m.child.kill('SIGKILL')
	},
})
