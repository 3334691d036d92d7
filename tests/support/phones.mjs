// Many clients on bad lines: each follows jobs over connections that tests/support/relay.mjs cuts at random bytes, and goes on from
// where it stood. What each connection says is judged (claims.mjs); what each client has at the end is held against PostgreSQL.
//
//   own      submits over its connection, again under the same ref until it is accepted; resumes by token
//   library  the same by the product's own client, ops/client/js
//   shared   attaches to a job of HTTP that others follow too
//   session  names its session; jobs that come over HTTP are met on it, without an attach

import assert from 'node:assert/strict'
import WebSocket from 'ws'
import { Sluice } from '../../ops/client/js/sluice.js'
import { Api, chat } from './api.mjs'
import { Claims, Tally } from './claims.mjs'
import { Answer } from './follow.mjs'
import { Relay } from './relay.mjs'
import { pass, until } from './test.mjs'
import { chance } from './traffic.mjs'

const TICK_MS = 300
const PING_MS = 6000 // of silence
const DEAD_MS = 14000
/** Connections made at once: on a slow machine the clients are not to keep each other from ever standing. */
const DIALS = 64
/** Codes that no client should ever hear here. */
const NEVER = new Set([1002, 1003, 1007, 1008, 1009, 1010, 3500, 3501, 3502, 3503, 3504])

export class Phones {
	/** nodes: [{id, port}]. cut_bytes: a connection is cut after up to so many, on average half. mix: how many of each kind. */
	static async open(stack, { name, seed, nodes, mix, cut_bytes = 12000, least_ms = 4000, most_ms = 20000 }) {
		const p = new Phones()
		Object.assign(p, { stack, name, seed, mix, cut_bytes, least_ms, most_ms, api: new Api(stack), chance: chance(seed), tally: new Tally(), over: false, cutting: true })
		Object.assign(p, { jobs: new Map(), broken: [], serial: 0, wholes: [], codes: new Map(), refused: new Map(), share: null, shared_left: 0, dialing: 0, queue: [], calm_since: Date.now() })
		p.relays = await Promise.all(nodes.map((n) => Relay.open(n.port, () => p.#plan())))
		p.phones = Object.entries(mix).flatMap(([kind, n]) => Array.from({ length: n }, (_, i) => new { own: Own, library: Library, shared: Shared, session: Session }[kind](p, `${kind}-${i}`)))
		return p
	}

	pick(list) {
		return list[Math.floor(this.chance() * list.length)]
	}

	#plan() {
		if (!this.cutting || this.chance() < 0.2) return { after: Infinity }
		const how = this.pick(['rst', 'rst', 'fin', 'fin', 'mute', 'ghost'])
		return { after: 1 + Math.floor(this.chance() * this.cut_bytes), how, hold_ms: how === 'ghost' ? 20000 : 1000 + this.chance() * 7000 }
	}

	url() {
		return `ws://127.0.0.1:${this.pick(this.relays).port}/v1/ws`
	}

	/** A job as POST /v1/jobs takes it; one in eight loses its first provider in the midst of its text, and one in a hundred is long. */
	request() {
		const draw = this.chance()
		const text = `${this.name} ${++this.serial}`
		if (draw < 0.01) return chat(text, 'ttft=50 rate=4000 tokens=24000')
		const ms = this.least_ms + this.chance() * (this.most_ms - this.least_ms)
		const tokens = 20 + Math.floor(this.chance() * 80)
		const how = `ttft=${Math.round(this.chance() * 1000)} rate=${((tokens * 1000) / ms).toFixed(2)} tokens=${tokens}`
		if (draw > 0.875) {
			const job = { ...chat(text, `${how} cut=${Math.floor(tokens / 2)} only=claude`), task: 'chat', on_cut: draw > 0.94 ? 'continue' : 'restart' }
			delete job.model
			return job
		}
		return chat(text, how)
	}

	/** POST under a name of its own until it is taken. */
	async post(path, body) {
		const key = `${this.name}-${++this.serial}`
		for (const end = Date.now() + 120000; Date.now() < end; await pass(200 + this.chance() * 500)) {
			try {
				const r = await this.api.call('POST', path, { body, headers: { 'idempotency-key': key }, signal: AbortSignal.timeout(10000) })
				if (r.status === 201 || r.status === 202) return r.json.id
				this.#no(`${r.status} ${r.json?.error?.code}`)
				if (r.status < 500 && r.status !== 429) throw Object.assign(new Error(r.text.slice(0, 200)), { fatal: true })
			} catch (e) {
				if (e.fatal) throw e
				this.#no('no answer')
			}
		}
		throw new Error(`${path}: not taken`)
	}

	#no(why) {
		this.refused.set(why, (this.refused.get(why) ?? 0) + 1)
	}

	no(why) {
		this.#no(why)
	}

	/** A job of HTTP, the same for three clients. */
	shared() {
		if (!this.share || !this.shared_left) {
			this.share = this.post('/v1/jobs', this.request())
			this.shared_left = 3
		}
		this.shared_left--
		return this.share
	}

	/** Waits for a turn to connect; what is returned gives it back. */
	async dial() {
		if (this.dialing >= DIALS) await new Promise((resolve) => this.queue.push(resolve))
		else this.dialing++
		let mine = true
		return () => {
			if (!mine) return
			mine = false
			const next = this.queue.shift()
			if (next) next()
			else this.dialing--
		}
	}

	/** Nothing is done to the processes from now on, as far as @calm. */
	harm(calm) {
		this.calm_since = calm ? Date.now() : Infinity
	}

	calm(ms = 0) {
		return Date.now() - this.calm_since > ms
	}

	bad(phone, what) {
		if (this.broken.length < 100) this.broken.push({ phone: phone.name, what })
	}

	start() {
		this.running = this.phones.map((p, i) => pass(i * 3).then(() => p.run()).catch((e) => this.bad(p, e.stack)))
		return this
	}

	line() {
		const t = this.tally
		const ended = [...this.jobs.values()].filter((j) => j.told).length
		const cuts = this.relays.map((r) => Object.values(r.cuts).reduce((a, b) => a + b, 0)).reduce((a, b) => a + b, 0)
		return `connections ${t.connections}, cuts ${cuts}, resumed ${t.claimed} (true ${t.true}, FALSE ${t.false}), jobs ended ${ended}, wrong ${t.wrong.length + this.broken.length}`
	}

	/** No new jobs, no more cuts; every client comes to its end. */
	async finish(limit_ms = 120000) {
		this.over = true
		this.cutting = false
		let timer
		await Promise.race([Promise.all(this.running), new Promise((r) => (timer = setTimeout(r, limit_ms)))])
		clearTimeout(timer)
		for (const p of this.phones) if (!p.done) this.bad(p, `not at its end after ${limit_ms} ms; it waits for ${p.waits().join(', ')}\n${p.claims?.story.join('\n')}`)
		for (const p of this.phones) p.stop()
		for (const r of this.relays) r.close()
	}

	/** Holds every client's text against the record; {compared, jobs}. */
	async compare() {
		const told = [...this.jobs.values()].filter((j) => j.told)
		const ids = [...new Set(told.map((j) => j.id))]
		const rows = await this.api.recorded(ids, 60000)
		let compared = 0
		const status = {}
		for (const j of told) {
			const list = rows.get(j.id)
			const row = list[0]
			const have = Buffer.isBuffer(j.bytes) ? j.bytes : Buffer.from(j.bytes)
			status[j.told] = (status[j.told] ?? 0) + 1
			if (list.length !== 1) this.bad(j.phone, `${j.id} has ${list.length} rows`)
			if (row.status !== j.told) this.bad(j.phone, `${j.id}: told ${j.told}, stored ${row.status}`)
			else if (row.status === 'succeeded' && !have.equals(row.answer)) this.bad(j.phone, `${j.id}: has ${have.length} bytes, stored ${row.answer.length}; they differ from byte ${have.findIndex((b, i) => b !== row.answer[i])} on`)
			compared += row.answer.length
		}
		return { compared, ends: told.length, jobs: ids.length, status }
	}

	/** The ledger, and the story of what is wrong. */
	show({ compared, ends, jobs, status }, kills) {
		const t = this.tally
		const cuts = {}
		for (const r of this.relays) for (const [k, n] of Object.entries(r.cuts)) cuts[k] = (cuts[k] ?? 0) + n
		const list = (o) => Object.entries(o).map(([k, n]) => `${k} ${n}`).join(', ')
		const at = (l, q) => (l.length ? (l[Math.min(l.length - 1, Math.floor(q * l.length))] / 1000).toFixed(2) : '-')
		const whole = (l) => (l.sort((a, b) => a - b), `p50 ${at(l, 0.5)} s, p99 ${at(l, 0.99)} s, worst ${at(l, 1)} s (${l.length})`)
		const rows = [
			`ledger ${this.name}, seed ${this.seed}`,
			`clients      ${this.phones.length}: ${list(this.mix)}`,
			`connections  ${t.connections}, welcomed ${t.welcomed}; closed with ${list(Object.fromEntries(this.codes))}`,
			`cuts         ${list(cuts)}`,
			`harm         ${kills}`,
			`resumed      claimed ${t.claimed}: true ${t.true}, overtaken by a new attempt ${t.overtaken}, cut before a byte ${t.untried}, FALSE ${t.false}`,
			`said         snapshots ${t.snapshots}, deltas ${t.deltas}, resets ${t.resets}, seams ${t.seams}, results ${t.results}, faults ${t.faults}; ${t.delta_bytes} bytes of text`,
			`compared     ${compared} bytes of ${ends} ends of ${jobs} jobs: ${list(status)}`,
			`whole again  in calm ${whole(this.wholes.filter((w) => w.calm).map((w) => w.ms))}; amid harm ${whole(this.wholes.filter((w) => !w.calm).map((w) => w.ms))}`,
			`before 202   ${list(Object.fromEntries(this.refused)) || 'nothing'}`,
		]
		for (const row of rows) console.log(`        ${row}`)
		const kinds = new Map()
		for (const w of [...t.wrong.map((w) => ({ phone: w.about, ...w })), ...this.broken]) {
			const kind = w.what.replace(/[0-9].*/s, '')
			kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
			if (kinds.get(kind) > 2) continue
			console.log(`        WRONG ${w.phone}: ${w.what} ${w.event ?? ''}`)
			for (const line of w.story ?? []) console.log(`            ${line}`)
		}
		for (const [kind, n] of kinds) console.log(`        ${n} × ${kind}`)
	}

	/** Everything was as it has to be. */
	sound() {
		assert.equal(this.tally.false, 0, `${this.tally.false} recoveries were claimed that did not happen`)
		assert.equal(this.tally.wrong.length + this.broken.length, 0, `wrong: ${[...this.tally.wrong, ...this.broken].slice(0, 5).map((w) => w.what.slice(0, 200)).join('; ')}`)
	}
}

/** A connection whose words are judged. */
class Line extends WebSocket {
	constructor(phone, protocols, options) {
		super(phone.world.url(), protocols, { perMessageDeflate: false, handshakeTimeout: 30000, ...options })
		const { world } = phone
		const lost = phone.lost_ms
		this.on('error', () => {})
		this.claims = phone.claims = new Claims(world.tally, phone.name, () => {
			if (lost) world.wholes.push({ ms: Date.now() - lost, calm: world.calm(Date.now() - lost) })
			phone.lost_ms = 0
		})
		this.on('message', (data) => this.claims.heard((this.last = JSON.parse(data.toString()))))
		this.on('close', (code) => {
			const { world } = phone
			world.codes.set(code, (world.codes.get(code) ?? 0) + 1)
			if (NEVER.has(code)) world.bad(phone, `closed with ${code}\n${this.claims.story.join('\n')}`)
			this.claims.end(world.calm(20000))
			phone.lost_ms ||= Date.now()
		})
	}

	send(data) {
		this.claims.sent(data)
		super.send(data, () => {})
	}
}

class Phone {
	constructor(world, name) {
		Object.assign(this, { world, name, jobs: new Map(), line: null, resume: null, session: null, failures: 0, lost_ms: 0 })
	}

	open() {
		return [...this.jobs.values()].filter((j) => !j.told)
	}

	waits() {
		return this.open().map((j) => `${j.id} (${j.answer.attempt}:${j.answer.length})`)
	}

	stop() {
		this.line?.terminate()
	}

	follow(id) {
		const job = { id, phone: this, answer: new Answer(), told: null }
		this.jobs.set(id, job)
		this.world.jobs.set(`${this.name} ${id}`, job)
		return job
	}

	async run() {
		while (!this.world.over || this.busy()) {
			if (!this.busy()) await this.work()
			await this.connection()
			await pass(this.world.chance() * Math.min(5000, 200 * 2 ** this.failures++))
		}
		this.done = true
	}

	busy() {
		return this.open().length > 0
	}

	hello() {
		const draw = this.world.chance()
		const hello = { op: 'hello', ...this.whom() }
		const jobs = this.open().filter(() => !this.silent || draw < 0.85).slice(0, 200)
		if (jobs.length) hello.jobs = jobs.map((j) => this.position(j, draw))
		return hello
	}

	/** One in eight says no byte. */
	position(j, draw = 0) {
		return j.answer.attempt && draw < 0.75 ? { id: j.id, attempt: j.answer.attempt, at: j.answer.length } : { id: j.id }
	}

	async connection() {
		const dialed = await this.world.dial()
		const line = (this.line = new Line(this, [], { headers: { authorization: `Bearer ${this.world.stack.key}` } }))
		const closed = new Promise((resolve) => line.on('close', resolve))
		line.on('close', dialed)
		line.on('message', dialed)
		line.on('open', () => line.send(JSON.stringify(this.hello())))
		line.on('message', () => this.heard(line.last))
		const tick = setInterval(() => this.#tick(line), TICK_MS)
		await closed
		clearInterval(tick)
	}

	say(message) {
		if (this.line.readyState === WebSocket.OPEN) this.line.send(JSON.stringify(message))
	}

	#tick(line) {
		const silent = Date.now() - line.claims.heard_ms
		if (line.readyState !== WebSocket.OPEN) return
		if (silent > DEAD_MS) return line.terminate()
		if (!line.claims.welcome) return
		if (silent > PING_MS) this.say({ op: 'ping' })
		for (const j of this.jobs.values()) {
			if (!j.again_ms || j.again_ms > Date.now()) continue
			j.again_ms = 0
			this.say({ op: 'attach', jobs: [this.position(j)] })
		}
		if (!this.busy() && !this.working) {
			if (this.world.over) return line.terminate()
			this.working = this.work().catch((e) => this.world.bad(this, e.stack)).finally(() => (this.working = null))
		}
		this.tick?.()
	}

	heard(e) {
		if (e.ev === 'welcome') {
			this.failures = 0
			this.resume = e.resume
			this.session = e.session
			this.welcomed?.()
		}
		if (e.ev === 'draining') setTimeout(() => this.line.terminate(), e.reconnect_in_ms ?? 0)
		if (e.ev === 'accepted') this.accepted?.(e)
		if (e.ev === 'fault' && e.ref) this.refused?.(e)
		const j = this.jobs.get(e.job) ?? (e.job && !e.ref ? this.met?.(e) : undefined)
		if (!j || j.told) return
		if (e.ev === 'delta' && !j.answer.delta(e)) this.say({ op: 'attach', jobs: [this.position(j)] })
		if (e.ev === 'reset') j.answer.reset(e)
		if (e.ev === 'snapshot') {
			if (e.status !== 'queued' && e.status !== 'running') j.answer.attempt = Math.min(j.answer.attempt, e.attempt)
			j.answer.snapshot(e)
		}
		if (e.ev === 'fault' && !e.status) j.again_ms = Date.now() + 500
		if (e.ev === 'result' || (e.ev === 'fault' && e.status)) this.#end(j, e)
	}

	#end(j, e) {
		if (typeof e.text === 'string') j.answer = new Answer(e.attempt, Buffer.from(e.text))
		j.told = e.status ?? 'succeeded'
		j.bytes = j.answer.bytes
		if (this.world.chance() < 0.9) this.say({ op: 'ack', id: j.id })
	}
}

class Own extends Phone {
	silent = true // its session brings what it does not name

	whom() {
		return this.resume ? { resume: this.resume } : {}
	}

	busy() {
		return super.busy() || Boolean(this.ref)
	}

	waits() {
		return [...super.waits(), this.ref ?? []].flat()
	}

	async work() {
		this.ref = `${this.name}-${++this.world.serial}`
		this.request = this.world.request()
		if (this.line?.readyState === WebSocket.OPEN) this.welcomed()
	}

	welcomed() {
		this.again_ms = 0
		if (this.ref) this.say({ op: 'submit', ref: this.ref, job: this.request })
	}

	tick() {
		if (this.again_ms && this.again_ms <= Date.now()) this.welcomed()
	}

	accepted(e) {
		if (e.ref !== this.ref) return
		this.ref = null
		if (!this.jobs.has(e.job)) this.follow(e.job)
		for (const held of this.held?.splice(0) ?? []) if (held.job === e.job) this.heard(held)
	}

	/** Told of by the session, before it is known which job the ref is. */
	met(e) {
		if (this.ref && this.held?.length !== 2000) (this.held ??= []).push(e)
	}

	refused(e) {
		this.world.no(`fault ${e.name}`)
		if (!e.retryable) this.world.bad(this, `refused: ${JSON.stringify(e)}`)
		this.again_ms = Date.now() + 300 + this.world.chance() * 700
	}
}

class Shared extends Phone {
	whom() {
		return this.resume && this.world.chance() < 0.5 ? { resume: this.resume } : {}
	}

	async work() {
		let id = await this.world.shared()
		while (this.jobs.has(id)) id = await this.world.shared()
		this.ask(this.follow(id))
	}

	ask(j) {
		if (this.line?.claims.welcome) this.say({ op: 'attach', jobs: [this.position(j)] })
	}
}

class Session extends Phone {
	whom() {
		return this.resume && this.world.chance() < 0.5 ? { resume: this.resume } : { session: this.home }
	}

	async work() {
		this.home ??= await this.world.post('/v1/sessions', { ttl_s: 3600 })
		// It is known from here that there is a job; what is known of its text comes over the connection alone, perhaps before the answer to POST.
		this.held = []
		const id = await this.world.post('/v1/jobs', { ...this.world.request(), session: this.home })
		this.follow(id)
		for (const held of this.held.splice(0)) if (held.job === id) this.heard(held)
	}

	met(e) {
		if (this.held && this.held.length < 2000) this.held.push(e)
	}
}

class Library extends Phone {
	async run() {
		const phone = this
		const { world } = this
		class Tapped extends Line {
			constructor(_, protocols) {
				super(phone, protocols, {})
				phone.line = this
			}
		}
		const env = { WebSocket: Tapped, random: world.chance, window: undefined, document: undefined, navigator: undefined }
		this.client = new Sluice({ url: 'ws://127.0.0.1/v1/ws', credential: world.stack.key, env, retryFirstMs: 200, retryMaxMs: 5000, submitMs: 240000 })
		this.client.addEventListener('close', (e) => e.detail.code !== 1000 && world.bad(this, `the library closed: ${JSON.stringify(e.detail)}`))
		this.client.addEventListener('gone', (e) => world.bad(this, `a token did not hold: ${e.detail.why}`))
		this.client.open()
		while (!world.over) await this.#one()
		this.client.close()
		this.done = true
	}

	async #one() {
		const job = (this.job = this.client.submit(this.world.request()))
		try {
			await job.done
		} catch (e) {
			if (!['failed', 'expired', 'cancelled'].includes(job.status)) {
				this.world.bad(this, `its job ended ${job.status}: ${e.message}\n${this.claims?.story.join('\n')}`)
				return
			}
		}
		this.world.jobs.set(`${this.name} ${job.id}`, { id: job.id, phone: this, told: job.status, bytes: job.text })
		this.job = null
	}

	waits() {
		return this.job ? [`${this.job.id ?? this.job.ref} ${this.job.status} (${this.job.attempt}:${this.job.answer.bytes})`] : []
	}

	stop() {
		this.client?.close()
	}
}

/** Waits until so many clients are in the midst of a text. */
export const midst = (phones, n) => until(`${n} jobs are followed`, () => [...phones.jobs.values()].filter((j) => j.answer?.length).length >= n || phones.tally.deltas > n * 3, 60000)
