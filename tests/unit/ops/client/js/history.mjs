// Whole histories: a client submits, the server produces, and in between connections are cut, fall silent and drain, deltas are lost,
// repeated and cut otherwise, answers begin anew, the tab sleeps and the network goes. At the end every job's text is the stored one,
// no job was made twice, and everything was acknowledged.

import assert from 'node:assert/strict'
import { run, test } from '../../../../support/test.mjs'
import { begin, Chance, pieces, Time } from './fake.mjs'

const encoder = new TextEncoder()
const WORDS = ['tide ', 'ö', '€', '𝄞 ', '\n', 'é', '"', 'moon ', '潮', '🌊', 'rises ']
const CALM_MS = 20000

/** The server with its stores: it keeps the truth, and tells it over sockets that may misbehave. */
class Server {
	jobs = new Map()
	refs = new Map()
	sockets = new Set()
	counts = { cuts: 0, lost: 0, repeats: 0, silences: 0, drains: 0, resets: 0 }

	constructor(chance) {
		this.chance = chance
		this.time = new Time()
	}

	get wild() {
		return this.time.now < CALM_MS
	}

	connected(socket) {
		socket.at = 0
		socket.follows = new Map()
		this.sockets.add(socket)
		this.soon(socket, () => (this.wild && this.chance.random() < 0.2 ? this.cut(socket) : socket.accept()))
	}

	left(socket) {
		this.sockets.delete(socket)
	}

	cut(socket, code = 1006) {
		this.counts.cuts++
		this.sockets.delete(socket)
		socket.drop(code)
	}

	/** In order, after a while; nothing where the socket fell silent. */
	soon(socket, fn) {
		socket.at = Math.max(socket.at, this.time.now + this.chance.below(40))
		this.time.set(() => !socket.over && !socket.silent && fn(), socket.at - this.time.now)
	}

	say(socket, message) {
		this.soon(socket, () => socket.say(message))
	}

	heard(socket, message) {
		if (socket.silent) return
		if (this.wild && this.chance.random() < 0.05) return this.time.set(() => this.cut(socket), 0)
		this.soon(socket, () => this[message.op](socket, message))
	}

	hello(socket, { resume, jobs = [] }) {
		if (!resume) assert.equal(this.refs.size, 0, 'who was greeted once resumes')
		this.say(socket, { ev: 'welcome', session: 'ses_1', resume: 'r', ping_ms: 2000, bin_next: 1 })
		this.attach(socket, { jobs })
		const named = new Set(jobs.map((j) => j.id))
		for (const [id, job] of this.jobs) if (!job.acked && !named.has(id)) this.attach(socket, { jobs: [{ id }] })
	}

	submit(socket, { ref, job: { words } }) {
		let job = this.refs.get(ref)
		if (!job) {
			if (this.wild && this.chance.random() < 0.1)
				return this.say(socket, { ev: 'fault', ref, status: null, name: 'unavailable', message: '', retryable: true, retry_after_ms: 300 })
			job = { id: `job_${String(this.refs.size).padStart(26, '0')}`, attempt: 0, words, list: [], made: 0, ended: false, acked: false }
			this.refs.set(ref, job)
			this.jobs.set(job.id, job)
			this.time.set(() => this.produce(job), this.chance.below(500))
		}
		this.say(socket, { ev: 'accepted', ref, job: job.id, kind: 'chat', lane: 'interactive', created_at: '' })
		if (!socket.follows.has(job.id)) this.attach(socket, { jobs: [{ id: job.id }] })
	}

	text(job) {
		return job.list.slice(0, job.made).map((p) => p.text).join('')
	}

	bytes(job) {
		return encoder.encode(this.text(job)).length
	}

	/** A step of the provider's stream: another piece, the end, or everything anew. */
	produce(job) {
		if (!job.attempt || (this.wild && !job.ended && this.chance.random() < 0.03)) {
			if (job.attempt) this.counts.resets++
			job.attempt++
			job.made = 0
			job.list = pieces(Array.from({ length: job.words }, () => this.chance.one(WORDS)).join(''), this.chance)
			for (const s of this.sockets) {
				if (!s.follows.has(job.id)) continue
				s.follows.set(job.id, 0)
				if (job.attempt > 1) this.say(s, { ev: 'reset', job: job.id, attempt: job.attempt, why: 'restart' })
				this.say(s, { ev: 'started', job: job.id, attempt: job.attempt, provider: 'p', model: 'm' })
			}
		} else if (job.made < job.list.length) job.made++
		else job.ended = true
		for (const s of this.sockets) this.tell(s, job)
		if (!job.ended) this.time.set(() => this.produce(job), 10 + this.chance.below(200))
	}

	/** What a follower has not heard yet; as it comes to be lost, repeated, or cut otherwise on the way. */
	tell(socket, job) {
		const from = socket.follows.get(job.id)
		if (from === undefined) return
		for (let i = from; i < job.made; i++) {
			const roll = this.wild ? this.chance.random() : 1
			const first = roll < 0.1 ? this.chance.below(i + 1) : i
			const delta = { ev: 'delta', job: job.id, attempt: job.attempt, at: job.list[first].at, text: job.list.slice(first, i + 1).map((p) => p.text).join('') }
			if (roll > 0.1 && roll < 0.15) this.counts.lost++
			else this.say(socket, delta)
			if (roll < 0.1) this.counts.repeats++
			if (roll > 0.15 && roll < 0.17) this.soon(socket, () => this.cut(socket))
		}
		socket.follows.set(job.id, job.made)
		if (!job.ended || socket.follows.get(`end ${job.id}`)) return
		socket.follows.set(`end ${job.id}`, true)
		this.say(socket, { ev: 'result', job: job.id, attempt: job.attempt, bytes: this.bytes(job), parts: [{ at: 0, type: 'text' }], finish_reason: 'stop', usage: {} })
	}

	attach(socket, { jobs }) {
		for (const { id, attempt, at } of jobs) {
			const job = this.jobs.get(id)
			if (!job) {
				this.say(socket, { ev: 'gone', job: id, why: 'unknown' })
				continue
			}
			const from = attempt === job.attempt ? [...job.list.slice(0, job.made).map((p) => p.at), this.bytes(job)].indexOf(at) : -1
			socket.follows.delete(`end ${id}`)
			if (from >= 0) {
				this.say(socket, { ev: 'resumed', jobs: [{ job: id, attempt, at }] })
				socket.follows.set(id, from)
			} else {
				this.say(socket, { ev: 'snapshot', job: id, attempt: job.attempt, text: this.text(job), parts: [], status: job.ended ? 'succeeded' : 'running' })
				socket.follows.set(id, job.made)
			}
			this.tell(socket, job)
		}
	}

	ack(socket, { id }) {
		if (this.jobs.get(id)) this.jobs.get(id).acked = true
	}

	ping(socket) {
		this.say(socket, { ev: 'pong' })
	}

	/** What befalls the connections themselves. */
	trouble(all) {
		if (!this.wild) return
		const socket = this.chance.one([...this.sockets])
		const roll = this.chance.below(8)
		if (socket && roll === 0) {
			this.counts.silences++
			socket.silent = true
		} else if (socket && roll === 1) {
			const ms = this.chance.below(1500)
			this.counts.drains++
			this.say(socket, { ev: 'draining', reconnect_in_ms: ms })
			this.time.set(() => this.cut(socket, 3000), ms)
		} else if (roll === 2) this.time.late = this.time.late ? 0 : 700
		else if (roll === 3) this.time.freeze(3000)
		else if (roll === 4) {
			all.navigator.onLine = !all.navigator.onLine
			all.window.dispatchEvent(new Event(all.navigator.onLine ? 'online' : 'offline'))
		} else if (roll === 5) all.document.dispatchEvent(new Event('visibilitychange'))
		this.time.set(() => this.trouble(all), this.chance.below(2000))
	}
}

async function history(seed) {
	const chance = new Chance(seed)
	const server = new Server(chance)
	const all = begin(server, { retryFirstMs: 200, retryMaxMs: 3000, submitMs: 120000 }, seed + 1)
	const jobs = []
	const met = []
	all.client.addEventListener('job', (e) => met.push(e.detail.id))
	const submit = () => {
		jobs.push(all.client.submit({ words: 3 + chance.below(60) }))
		if (jobs.length < 6) server.time.set(submit, chance.below(4000))
	}
	all.client.open()
	server.time.set(submit, 0)
	server.time.set(() => server.trouble(all), 500)
	await server.time.advance(CALM_MS)
	server.time.late = 0
	all.navigator.onLine = true
	all.window.dispatchEvent(new Event('online'))
	await server.time.advance(90000)
	for (const job of jobs) {
		assert.equal(job.error, null, `${job.ref} ${job.error}`)
		assert.equal(job.status, 'succeeded', job.ref)
		assert.equal(job.text, server.text(server.jobs.get(job.id)), job.ref)
	}
	assert.equal(server.jobs.size, jobs.length, 'no job was made twice')
	assert.deepEqual(met, [], 'none of them was taken for another’s')
	assert.ok([...server.jobs.values()].every((j) => j.acked), 'all are acknowledged')
	all.client.close()
	return server.counts
}

const N = Number(process.env.HISTORIES ?? 300)
test(`${N} histories: the text at the end is the stored one, once, acknowledged`, async () => {
	const sum = {}
	for (let seed = 1; seed <= N; seed++) {
		const counts = await history(seed).catch((e) => {
			throw new Error(`seed ${seed}`, { cause: e })
		})
		for (const [k, n] of Object.entries(counts)) sum[k] = (sum[k] ?? 0) + n
	}
	console.log(`        ${Object.entries(sum).map(([k, n]) => `${n} ${k}`).join(', ')}`)
	for (const [k, n] of Object.entries(sum)) assert.ok(n >= N / 4, `${k}: ${n}`)
}, { limit_ms: 60000 })

await run(import.meta.url)
