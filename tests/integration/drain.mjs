// A rolling restart of two push nodes under load: every client is told, goes to the other node, and loses no byte.

import assert from 'node:assert/strict'
import net from 'node:net'
import { Api, chat } from '../support/api.mjs'
import { Stack } from '../support/stack.mjs'
import { pass, run, test, until } from '../support/test.mjs'
import { Client } from '../support/ws.mjs'

const stack = await Stack.open()
const api = new Api(stack)
const SPREAD_MS = 1200
const USERS = 24

function port() {
	return new Promise((resolve) => {
		const s = net.createServer().listen(0, '127.0.0.1', () => {
			const { port } = s.address()
			s.close(() => resolve(port))
		})
	})
}

class Node {
	constructor(name, at) {
		Object.assign(this, { name, at, url: `ws://127.0.0.1:${at}/v1/ws`, starts: 0 })
	}

	async start() {
		this.process = await stack.more('sluice-push', `${this.name}-${++this.starts}`, 'push', '--set',
			`push.listen=127.0.0.1:${this.at}`, '--set', `push.drain_spread_ms=${SPREAD_MS}`)
	}
}

/** A client that keeps to the protocol alone: at a close it goes to the other node with its token and its bytes. */
class User {
	constructor(nodes, first) {
		this.nodes = nodes
		this.turn = first
		this.answers = new Map()
		this.ended = new Map()
		this.closes = []
		this.told = []
		this.moves = 0
	}

	async connect() {
		for (const end = Date.now() + 20000; ; ) {
			try {
				const c = await Client.open(stack, { url: this.nodes[this.turn % 2].url })
				c.answers = this.answers
				c.ended = this.ended
				const open = [...this.answers].filter(([id]) => !this.ended.has(id))
				c.send({ op: 'hello', ...(this.resume && { resume: this.resume }), jobs: open.map(([id, a]) => ({ id, attempt: a.attempt, at: a.length })) })
				const welcome = await c.next((e) => e.ev === 'welcome')
				this.resume = welcome.resume
				this.client = c
				this.open = welcome.session
				return
			} catch (e) {
				if (Date.now() > end) throw e
				this.turn++
				await pass(20)
			}
		}
	}

	/** Lives until `over()`: reconnects whenever it is closed. */
	async live(over) {
		await this.connect()
		for (;;) {
			const how = await Promise.race([this.client.closed, over.then(() => null)])
			const said = this.client.events.find((e) => e.ev === 'draining')
			if (said) this.told.push({ ...said, node: this.turn % 2 })
			if (!how) return this.client.close()
			this.closes.push({ ...how, at: Date.now(), told: !!said })
			this.moves++
			this.turn++
			await this.connect()
		}
	}

	/** Jobs one after another; a submit that went down with its node is said again under its ref. */
	async work(name, until_ms) {
		const jobs = []
		for (let n = 0; Date.now() < until_ms || n < 2; n++) {
			for (let id; !id; ) {
				const c = this.client
				try {
					id = await c.submit(`${name}-${n}`, chat(`${name} ${n}`, 'ttft=50 rate=50 tokens=60'), { limit_ms: 20000 })
					jobs.push(id)
				} catch (e) {
					if (!/closed|draining|refused|CONN|not open/.test(e.message)) throw e
					await pass(20)
				}
			}
			await until(`${jobs.at(-1)} ends`, () => this.ended.has(jobs.at(-1)), 30000)
		}
		return jobs
	}
}

test('two nodes are restarted one after the other under load: told, spread, resumed, no byte lost', async () => {
	const nodes = [new Node('sluice-push-a', await port()), new Node('sluice-push-b', await port())]
	for (const n of nodes) await n.start()
	const users = Array.from({ length: USERS }, (_, i) => new User(nodes, i % 2))
	let stop
	const over = new Promise((resolve) => (stop = resolve))
	const lives = users.map((u) => u.live(over))
	await until('all are connected', () => users.every((u) => u.client))
	const works = users.map((u, i) => u.work(`u${i}`, Date.now() + 9000))
	try {
		for (const [i, node] of nodes.entries()) {
			await until('answers stream', () => users.filter((u) => [...u.answers.keys()].length > u.ended.size).length > USERS / 2)
			const inside = users.filter((u) => u.turn % 2 === i)
			const before = new Map(inside.map((u) => [u, u.closes.length]))
			const from = Date.now()
			await node.process.end('SIGTERM')
			assert.equal(node.process.child.exitCode, 0)
			await until('all have moved', () => inside.every((u) => u.closes.length > before.get(u)))
			const closes = inside.map((u) => u.closes[before.get(u)])
			for (const c of closes) assert.ok(c.code === 3000 && c.told, JSON.stringify(c))
			const at = closes.map((c) => c.at - from).sort((a, b) => a - b)
			assert.ok(at.at(-1) - at[0] > SPREAD_MS / 3, `closed within ${at.at(-1) - at[0]} ms of each other: no spread`)
			for (const u of inside) for (const t of u.told) assert.ok(t.reconnect_in_ms >= 0 && t.reconnect_in_ms <= SPREAD_MS)
			await node.start()
		}
		const jobs = (await Promise.all(works)).flat()
		const stored = await api.recorded(jobs)
		for (const u of users) assert.ok(u.moves >= 1, 'a user did not have to move')
		let moved = 0
		for (const u of users) {
			moved += u.moves
			for (const [id, a] of u.answers) {
				assert.equal(u.ended.get(id)?.ev, 'result', `${id}: ${JSON.stringify(u.ended.get(id))}`)
				const [row] = stored.get(id)
				assert.ok(a.bytes.equals(row.answer), `${id}: ${a.length} bytes, stored are ${row.answer.length}`)
				assert.equal(a.gaps, 0, `${id} had a gap`)
				assert.equal(a.repeats, 0, `${id} was sent bytes twice`)
				assert.equal(a.resets, 0, `${id} began anew`)
			}
		}
		assert.equal(new Set(jobs).size, jobs.length)
		console.log(`        ${jobs.length} jobs of ${USERS} users, ${moved} moves`)
	} finally {
		stop()
		await Promise.all(lives)
		for (const n of nodes) if (n.process.child.exitCode === null) await n.process.end()
	}
}, { limit_ms: 120000 })

test('a node that drains takes no connection and no job', async () => {
	const node = new Node('sluice-push-c', await port())
	await node.start()
	const { client } = await Client.hello(stack, {}, { url: node.url })
	const gone = node.process.end('SIGTERM')
	await client.next((e) => e.ev === 'draining')
	client.send({ op: 'submit', ref: 'late', job: chat('late') })
	const refused = await client.next((e) => e.ref === 'late' && e.ev === 'fault').catch((e) => e)
	if (!(refused instanceof Error)) assert.equal(refused.name, 'draining')
	const e = await Client.open(stack, { url: node.url }).catch((e) => e)
	assert.ok(e instanceof Error)
	assert.equal((await client.closed).code, 3000)
	await gone
	assert.equal(node.process.child.exitCode, 0)
})

await run(import.meta.url)
