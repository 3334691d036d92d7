// How soon work goes on after a pool was killed: the only one, started again; and one of two, which stays dead.

import assert from 'node:assert/strict'
import { Api, chat } from '../../support/api.mjs'
import { Books } from '../../support/books.mjs'
import { Stack } from '../../support/stack.mjs'
import { pass, run, test, until } from '../../support/test.mjs'
import { Traffic } from '../../support/traffic.mjs'

const ALONE = Number(process.env.ALONE ?? 6)
const OF_TWO = Number(process.env.OF_TWO ?? 4)
const SEATS = { wait: 6, sse: 8, turns: 1, ws: 2, forget: 0 }
const stack = await Stack.open()
const keys = await stack.keys(8) // whose jobs stand in most partitions
const pools = []
const pool = async (id) => {
	const made = await stack.more('sluice-pool', id, 'pool', '--pool', 'llm')
	pools.push(made)
	return made
}

/** When each job's calls began: Map job -> [ms]. */
async function calls(ids) {
	const began = new Map()
	for (const [job, ms] of await stack.sql(`SELECT job, started_ms FROM calls WHERE job = ANY('{${ids}}') ORDER BY job, number`))
		began.set(job, [...(began.get(job) ?? []), Number(ms)])
	return began
}

/** When each job could begin at the earliest: after the turn before it. Map job -> ms; others are not in it. */
async function turns(ids) {
	const rows = await stack.sql(`SELECT r.job, p.finished_ms FROM results r JOIN results p ON p.session = r.session AND p.turn = r.turn - 1 WHERE r.job = ANY('{${ids}}')`)
	return new Map(rows.map(([job, ms]) => [job, Number(ms)]))
}

const worst = (list) => (list.length ? Math.max(...list) : 0)

test(`the only pool is killed and started again, ${ALONE} times: an interactive job is picked up within 2 s of that`, async () => {
	await stack.down('sluice-pool-1', 'sluice-pool-2')
	const api = new Api(stack)
	let only = await pool('sluice-pool-only')
	const books = Books.open(stack, 'pickup')
	const traffic = new Traffic(stack, { name: `alone-${Date.now().toString(36)}`, keys, seats: SEATS }).start()
	const fresh = []
	try {
		for (let i = 1; i <= ALONE; i++) {
			const before = traffic.entries.length
			await until('jobs run', () => traffic.entries.slice(before).filter((e) => e.told).length > 20, 60000)
			const killed = Date.now()
			await only.end('SIGKILL')
			const { id } = await api.accepted(chat(`right after ${i}`, 'ttft=0 rate=0 tokens=5', { lane: 'interactive' }))
			only = await stack.spawn('sluice-pool', 'sluice-pool-only', 'pool', '--pool', 'llm')
			pools.push(only)
			const job = await api.ended(id)
			fresh.push(Date.parse(job.calls[0].started_at) - only.began)
			const held = traffic.entries.filter((e) => e.accepted_ms < killed)
			await until('the jobs that it held have ended', () => held.every((e) => e.told), 60000)
			const again = []
			await until('they have their rows', async () => (await calls(held.slice(-60).map((e) => e.id))).size === Math.min(60, held.length))
			for (const list of (await calls(held.slice(-60).map((e) => e.id))).values()) if (list.length > 1 && list.at(-1) > killed) again.push(list.at(-1) - only.began)
			console.log(`        try ${i}: a job submitted after the kill was called ${fresh.at(-1)} ms after the restart; ${again.length} jobs that it had called were called again after at most ${worst(again)} ms`)
		}
		await traffic.stop()
		await books.sound(traffic)
		console.log(`        picked up after ${fresh.join(', ')} ms`)
		assert.ok(worst(fresh) <= 2000, 'within 2 s of the restart')
	} finally {
		traffic.over = true
		await only.end('SIGTERM')
		books.end()
	}
}, { limit_ms: 400000 })

test(`one of two pools is killed and stays dead, ${OF_TWO} times: its jobs and new ones are picked up within 12 s`, async () => {
	const apis = keys.map((key) => new Api(stack, key))
	const books = Books.open(stack, 'pickup-of-two')
	const traffic = new Traffic(stack, { name: `two-${Date.now().toString(36)}`, keys, seats: SEATS }).start()
	const alive = [await pool('sluice-pool-a'), await pool('sluice-pool-b')]
	const all = []
	try {
		for (let i = 1; i <= OF_TWO; i++) {
			const before = traffic.entries.length
			await until('both have work', async () => {
				const at = await Promise.all(alive.map((p) => stack.metric(p.id, 'sluice_pool_slots')))
				return at.every((n) => n > 0) && traffic.entries.length > before + 30
			}, 90000)
			const dead = alive.shift()
			const calling = await stack.metric(dead.id, 'sluice_pool_slots')
			const killed = Date.now()
			await dead.end('SIGKILL')
			const held = traffic.entries.filter((e) => !e.told).map((e) => e.id)
			const asked = []
			// of all organisations, so that most partitions are asked for
			for (let n = 0; n < 24; n++) {
				const at = Date.now()
				asked.push({ id: (await apis[n % apis.length].accepted(chat(`of two ${i} ${n}`, 'ttft=0 rate=0 tokens=5', { lane: 'interactive' }))).id, at, api: apis[n % apis.length] })
				await pass(150)
			}
			const news = await Promise.all(asked.map(async ({ id, at, api }) => Date.parse((await api.ended(id, 60000)).calls[0].started_at) - at))
			await until('the jobs that it held have ended', () => traffic.entries.filter((e) => held.includes(e.id)).every((e) => e.told), 60000)
			let began
			await until('they have their rows', async () => (began = await calls(held)).size === held.length)
			const could = await turns(held)
			const again = [...began].filter(([, list]) => list.at(-1) > killed && (list.length > 1 || list[0] > killed)).map(([job, list]) => list.at(-1) - Math.max(killed, could.get(job) ?? 0))
			all.push(worst(again), worst(news))
			console.log(`        try ${i}: ${dead.id} was killed in ${calling} calls; ${again.length} accepted jobs were called (again) after at most ${worst(again)} ms; 24 new ones waited at most ${worst(news)} ms`)
			alive.push(await pool(dead.id))
		}
		await traffic.stop()
		await books.sound(traffic)
		assert.ok(worst(all) <= 12000, `within 12 s: ${all}`)
	} finally {
		traffic.over = true
		for (const p of alive) await p.end('SIGTERM')
		books.end()
	}
}, { limit_ms: 500000 })

await run(import.meta.url, {
	after: async () => {
		for (const p of pools) p.child.kill('SIGKILL')
		await stack.up('sluice-pool-1', 'sluice-pool-2')
	},
})
