// Constant traffic: so many clients at a time, each of which submits a job (or a few), follows it to its end as clients do, and then
// does it again, until it is told to stop. Whatever goes away meanwhile, they try again: another front, another connection, from their
// byte. What each was told is kept (`entries`) for the ledger (tests/chaos/ledger).

import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { Api, chat, ENDED } from './api.mjs'
import { Answer } from './follow.mjs'
import { pass } from './test.mjs'
import { Client } from './ws.mjs'

const SUBMIT_MS = 12000 // for one answer to a submission
const QUIET_MS = 20000 // without a sign of life a stream is made again
const LIMIT_MS = 300000 // for one job, whatever happens
const sha = (bytes) => createHash('sha256').update(bytes).digest('hex')

/** A generator of chance from a seed: () => [0, 1). */
export function chance(seed) {
	let a = seed >>> 0
	return () => {
		a = (a + 0x6d2b79f5) >>> 0
		let t = Math.imul(a ^ (a >>> 15), a | 1)
		t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
		return ((t ^ (t >>> 14)) >>> 0) / 4294967296
	}
}

/** Base URLs of all fronts, and of all push nodes. */
export function nodes(stack) {
	const of = (name) => stack.services.filter((s) => s.name === name && s.listen).map((s) => s.listen)
	return { fronts: of('sluice-front').map((a) => `http://${a}`), pushes: of('sluice-push').map((a) => `ws://${a}/v1/ws`) }
}

export class Traffic {
	/**
	 * seats: clients of each kind at a time. wait: submits and asks until it has ended. sse: follows the stream. turns: a session of three
	 * turns at once, followed. ws: a connection with four jobs. forget: submits and never asks. min_ms, max_ms: how long answers take.
	 * keys: of the organisations, whose jobs stand in other partitions.
	 */
	constructor(stack, { name, seed = 1, keys = [stack.key], seats = {}, min_ms = 50, max_ms = 3000, lanes = ['interactive', 'interactive', 'high', 'background'] }) {
		Object.assign(this, nodes(stack), { stack, name, keys, min_ms, max_ms, lanes })
		this.seats = { wait: 14, sse: 22, turns: 3, ws: 6, forget: 2, ...seats }
		this.chance = chance(seed)
		this.entries = []
		this.refused = new Map() // what was answered instead of a 202 -> times
		this.again = 0 // connections made again
		this.broken = [] // what no client should see
		this.serial = 0
		this.open = 0
		this.running = []
		this.over = false
	}

	start() {
		for (const [kind, n] of Object.entries(this.seats)) for (let i = 0; i < n; i++) this.running.push(this.#seat(kind))
		return this
	}

	/** No new jobs; returns when every client has heard its end. Throws where one does not within `limit_ms`. */
	async stop(limit_ms = 120000) {
		this.over = true
		let timer
		const late = new Promise((resolve) => (timer = setTimeout(resolve, limit_ms, 'late')))
		const how = await Promise.race([Promise.all(this.running), late])
		clearTimeout(timer)
		if (how === 'late') this.gave_up = true
		for (const e of this.entries) if (e.answer) Object.assign(e, { sha: e.told ? sha(e.answer.bytes) : null, bytes: e.answer.length })
	}

	/** What clients were told, a line each. */
	write(path) {
		const keep = ({ id, prompt, tokens, via, lane, told, sha, bytes }) => ({ id, prompt, tokens, via, lane, told: told ?? null, sha: sha ?? null, bytes })
		writeFileSync(path, this.entries.map((e) => JSON.stringify(keep(e)) + '\n').join(''))
	}

	async #seat(kind) {
		while (!this.over) {
			try {
				if (kind === 'ws') await this.#socket(4)
				else if (kind === 'turns') await this.#turns(3)
				else await this.#single(kind)
			} catch (e) {
				this.broken.push(`${kind}: ${e.message}`)
				await pass(500)
			}
		}
	}

	#pick(list) {
		return list[Math.floor(this.chance() * list.length)]
	}

	#entry(via, who = this.#pick(this.keys)) {
		const n = ++this.serial
		const ms = Math.round(this.min_ms + this.chance() * (this.max_ms - this.min_ms))
		const tokens = 4 + Math.floor(this.chance() * 50)
		const ttft = Math.min(200, Math.round(ms / 3))
		const prompt = `${this.name} ${n}`
		const lane = this.#pick(this.lanes)
		const how = `ttft=${ttft} rate=${((tokens * 1000) / (ms - ttft)).toFixed(2)} tokens=${tokens}`
		return { via, who, prompt, lane, tokens, key: prompt, job: chat(prompt, how, { lane, limits: { queue_ms: 600000, run_ms: 600000 } }) }
	}

	#no(why) {
		this.refused.set(why, (this.refused.get(why) ?? 0) + 1)
	}

	/** Any front, in the name of one organisation. */
	#api(key) {
		return new Api({ front: this.#pick(this.fronts), key })
	}

	/** POST until it is done; the same key each time, any front. */
	async #post(path, body, key, status, who) {
		const end = Date.now() + LIMIT_MS
		for (;;) {
			try {
				const headers = { 'idempotency-key': key }
				const r = await this.#api(who).call('POST', path, { body, headers, signal: AbortSignal.timeout(SUBMIT_MS) })
				if (r.status === status && r.json) return r.json
				this.#no(`${r.status} ${r.json?.error?.code}`)
				if (r.status < 500 && r.status !== 429) throw Object.assign(new Error(`${r.status} ${r.text.slice(0, 300)}`), { fatal: true })
			} catch (e) {
				if (e.fatal) throw e
				this.#no(e.name === 'TimeoutError' ? 'no answer in time' : 'no connection')
			}
			if (Date.now() > end) throw new Error(`never accepted: ${JSON.stringify([...this.refused])}`)
			await pass(50 + this.chance() * 150)
		}
	}

	async #accept(entry) {
		entry.id = (await this.#post('/v1/jobs', entry.job, entry.key, 202, entry.who)).id
		entry.accepted_ms = Date.now()
		this.entries.push(entry)
	}

	async #single(kind) {
		const entry = this.#entry(kind)
		this.open++
		try {
			await this.#accept(entry)
			if (kind === 'wait') await this.#wait(entry)
			else if (kind === 'sse') await this.#follow(entry)
			else await pass(this.max_ms / 2)
		} finally {
			this.open--
		}
	}

	async #turns(n) {
		const who = this.#pick(this.keys)
		const id = (await this.#post('/v1/sessions', { ttl_s: 3600 }, `${this.name} session ${++this.serial}`, 201, who)).id
		this.open += n
		try {
			const following = []
			for (let i = 0; i < n; i++) {
				const entry = this.#entry('turns', who)
				entry.job.session = id
				await this.#accept(entry)
				following.push(this.#follow(entry))
			}
			await Promise.all(following)
		} finally {
			this.open -= n
		}
	}

	async #wait(entry) {
		const end = Date.now() + LIMIT_MS
		while (Date.now() < end) {
			try {
				const r = await this.#api(entry.who).call('GET', `/v1/jobs/${entry.id}?wait=10`, { signal: AbortSignal.timeout(QUIET_MS) })
				if (r.status === 200 && ENDED.includes(r.json.status)) {
					entry.told = r.json.status
					entry.answer = new Answer(r.json.attempt, Buffer.from(r.json.result?.text ?? ''))
					return
				}
				if (r.status === 404 || r.status === 410) throw Object.assign(new Error(`${entry.id} is accepted and ${r.status}: ${r.text.slice(0, 200)}`), { fatal: true })
			} catch (e) {
				if (e.fatal) throw e
			}
			await pass(50)
		}
		throw new Error(`${entry.id}: no end after ${LIMIT_MS} ms`)
	}

	async #follow(entry) {
		const end = Date.now() + LIMIT_MS
		const a = (entry.answer = new Answer())
		let after
		while (Date.now() < end) {
			const quiet = new AbortController()
			let timer = setTimeout(() => quiet.abort(), QUIET_MS)
			try {
				for await (const e of this.#api(entry.who).events(entry.id, { after, signal: quiet.signal })) {
					clearTimeout(timer)
					timer = setTimeout(() => quiet.abort(), QUIET_MS)
					if (e.id) after = e.id
					if (e.event === 'reset') a.reset(e.data)
					if (e.event === 'delta' && !a.delta(e.data)) break
					if (e.event !== 'result' && e.event !== 'fault') continue
					entry.told = e.data.status ?? 'succeeded'
					return
				}
			} catch (e) {
				if (e.status && e.status !== 503) throw new Error(`${entry.id} is accepted and ${e.message}`)
			} finally {
				clearTimeout(timer)
				quiet.abort()
			}
			this.again++
			await pass(50)
		}
		throw new Error(`${entry.id}: no end after ${LIMIT_MS} ms`)
	}

	async #socket(n) {
		const who = this.#pick(this.keys)
		const wanted = Array.from({ length: n }, () => this.#entry('ws', who))
		const end = Date.now() + LIMIT_MS
		const line = {}
		this.open += n
		try {
			for (let hop = 0; wanted.some((w) => !w.told); hop++) {
				if (Date.now() > end) throw new Error(`no end: ${wanted.filter((w) => !w.told).map((w) => w.id ?? w.key)}`)
				if (hop) {
					this.again++
					await pass(100)
				}
				try {
					await this.#connection(wanted, line, end)
				} catch (e) {
					if (e.fatal) throw e
					this.#no('connection lost')
				}
			}
		} finally {
			this.open -= n
		}
	}

	async #connection(wanted, line, end) {
		const c = await Client.open(this.stack, { key: wanted[0].who, url: this.#pick(this.pushes) })
		try {
			for (const w of wanted) if (w.id && !w.told) c.answers.set(w.id, w.answer)
			const jobs = wanted.filter((w) => w.id && !w.told).map((w) => (w.answer.attempt ? { id: w.id, attempt: w.answer.attempt, at: w.answer.length } : { id: w.id }))
			c.send({ op: 'hello', ...(line.resume ? { resume: line.resume } : line.session ? { session: line.session } : {}), ...(jobs.length ? { jobs } : {}) })
			const welcome = await c.next((e) => e.ev === 'welcome')
			Object.assign(line, { session: welcome.session, resume: welcome.resume })
			for (const w of wanted) if (!w.id) c.send({ op: 'submit', ref: w.key, job: w.job })
			let heard = Date.now()
			while (wanted.some((w) => !w.told) && !c.over && Date.now() < end) {
				for (const e of c.events.splice(0)) {
					heard = Date.now()
					this.#event(c, wanted, e)
				}
				for (const w of wanted)
					if (w.again_at && w.again_at < Date.now()) {
						w.again_at = 0
						c.send({ op: 'submit', ref: w.key, job: w.job })
					}
				if (Date.now() - heard > QUIET_MS) throw new Error('silence')
				if (Date.now() - heard > QUIET_MS / 2) c.send({ op: 'ping' })
				await pass(20)
			}
			for (const e of c.events.splice(0)) this.#event(c, wanted, e)
		} finally {
			c.cut()
		}
	}

	#event(c, wanted, e) {
		const w = wanted.find((w) => (e.job && w.id === e.job) || (e.ref && w.key === e.ref))
		if (!w) return
		if (e.ev === 'accepted') {
			if (w.id && w.id !== e.job) throw Object.assign(new Error(`${w.key} was ${w.id} and is ${e.job}`), { fatal: true })
			if (!w.id) this.entries.push(Object.assign(w, { id: e.job, accepted_ms: Date.now() }))
			w.answer = c.answer(w.id)
		} else if (e.ev === 'result' || (e.ev === 'fault' && e.status)) {
			w.told = e.status ?? 'succeeded'
		} else if (e.ev === 'fault') {
			this.#no(`fault ${e.name}`)
			if (!e.retryable) throw Object.assign(new Error(JSON.stringify(e)), { fatal: true })
			w.again_at = Date.now() + 300
		} else if (e.ev === 'gone') throw Object.assign(new Error(`${e.job} is accepted and gone: ${e.why}`), { fatal: true })
	}
}
