// A crowd of clients that behave as the protocol asks: each submits under a name of its own until it has a 202, follows its job,
// connects again after every loss and goes on from its byte. At the end everything is compared with what PostgreSQL holds.

import assert from 'node:assert/strict'
import { answer } from './answer.mjs'
import { Api, chat } from './api.mjs'
import { Answer } from './follow.mjs'
import { pass, until } from './test.mjs'
import { Client } from './ws.mjs'

const LIMIT_MS = 120000
const PER_SOCKET = 5
let serial = 0

export class Crowd {
	constructor(stack, name, how = 'ttft=100 rate=20 tokens=60', tokens = 60) {
		this.stack = stack
		this.api = new Api(stack)
		this.name = `${name}-${Date.now().toString(36)}`
		this.how = how
		this.tokens = tokens
		this.jobs = new Map() // id -> {job, answer, end}
		this.refused = new Map() // what submitting was answered before its 202 -> times
		this.reconnects = 0
		this.pending = []
		this.over = false
	}

	#job() {
		const n = ++serial
		const lane = ['interactive', 'interactive', 'high', 'background'][n % 4]
		return chat(`${this.name} ${n}`, this.how, { lane, limits: { queue_ms: 300000, run_ms: 300000 } })
	}

	#no(why) {
		this.refused.set(why, (this.refused.get(why) ?? 0) + 1)
	}

	/** `n` more jobs, half over HTTP and half over WebSockets; returns at once. */
	add(n) {
		for (let i = 0; i < Math.ceil(n / 2); i++) this.pending.push(this.#overHttp())
		for (let i = Math.ceil(n / 2); i < n; i += PER_SOCKET) this.pending.push(this.#overSocket(Math.min(PER_SOCKET, n - i)))
		for (const p of this.pending) p.catch(() => {})
	}

	async #overHttp() {
		const job = this.#job()
		const key = `${this.name}-${serial}`
		const end = Date.now() + LIMIT_MS
		let id
		while (!id) {
			if (Date.now() > end) throw new Error(`never accepted: ${[...this.refused]}`)
			try {
				const r = await this.api.submit(job, { 'idempotency-key': key })
				if (r.status === 202) id = r.json.id
				else {
					this.#no(`${r.status} ${r.json?.error?.code}`)
					if (r.status < 500 && r.status !== 429) throw Object.assign(new Error(r.text), { fatal: true })
				}
			} catch (e) {
				if (e.fatal) throw e
				this.#no('no answer')
			}
			if (!id) await pass(100)
		}
		const entry = { job, answer: new Answer() }
		this.jobs.set(id, entry)
		const done = await this.api.follow(id, { answer: entry.answer, limit_ms: LIMIT_MS })
		this.reconnects += done.reconnects
		Object.assign(entry, { end: done.end.event, status: done.end.data.status ?? 'succeeded' })
	}

	/** One connection with `n` jobs; made again as often as it is lost. */
	async #overSocket(n) {
		const wanted = Array.from({ length: n }, () => ({ job: this.#job(), ref: `${this.name}-${serial}` }))
		const end = Date.now() + LIMIT_MS
		let session
		let resume
		for (let hop = 0; wanted.some((w) => !w.end); hop++) {
			if (Date.now() > end) throw new Error(`not ended: ${wanted.filter((w) => !w.end).map((w) => w.id ?? w.ref)}; ${[...this.refused]}`)
			if (hop) await pass(100)
			try {
				;({ session, resume } = await this.#connection(wanted, session, resume, hop, end))
			} catch (e) {
				if (e.fatal) throw e
				this.#no(e.code ? `connection: ${e.code}` : `connection: ${String(e.message).slice(0, 60)}`)
			}
		}
	}

	async #connection(wanted, session, resume, hop, end) {
		const c = await Client.open(this.stack)
		try {
			for (const w of wanted) if (w.id && !w.end) c.answers.set(w.id, w.answer)
			const jobs = wanted.filter((w) => w.id && !w.end).map((w) => ({ id: w.id, attempt: w.answer.attempt, at: w.answer.length }))
			for (const j of jobs)
				if (!j.attempt) {
					delete j.attempt
					delete j.at
				}
			c.send({ op: 'hello', ...(resume ? { resume } : session ? { session } : {}), ...(jobs.length ? { jobs } : {}) })
			const welcome = await c.next((e) => e.ev === 'welcome')
			session = welcome.session
			resume = welcome.resume
			if (hop) this.reconnects++
			for (const w of wanted) if (!w.id) c.send({ op: 'submit', ref: w.ref, job: w.job })
			let again = Date.now()
			while (wanted.some((w) => !w.end) && !c.over && Date.now() < end) {
				for (const e of c.events.splice(0)) this.#event(c, wanted, e)
				if (Date.now() - again > 500) {
					again = Date.now()
					for (const w of wanted) {
						if (w.id || !w.refused) continue
						w.refused = false
						c.send({ op: 'submit', ref: w.ref, job: w.job })
					}
				}
				await pass(10)
			}
			for (const e of c.events.splice(0)) this.#event(c, wanted, e)
		} finally {
			c.cut()
		}
		return { session, resume }
	}

	#event(c, wanted, e) {
		if (e.ev === 'accepted') {
			const w = wanted.find((w) => w.ref === e.ref)
			if (!w.id) {
				w.id = e.job
				this.jobs.set(w.id, w)
			}
			w.answer = c.answer(w.id)
			return
		}
		const w = wanted.find((w) => w.id && w.id === e.job)
		if (w && (e.ev === 'result' || (e.ev === 'fault' && e.status))) Object.assign(w, { end: e.ev, status: e.status ?? 'succeeded' })
		else if (e.ev === 'fault') {
			this.#no(`fault ${e.name}`)
			const r = wanted.find((w) => w.ref === e.ref)
			if (r) r.refused = true
			if (r && !e.retryable && e.name !== 'unavailable' && e.name !== 'outcome_unknown') throw Object.assign(new Error(JSON.stringify(e)), { fatal: true })
		} else if (e.ev === 'gone') this.#no(`gone ${e.why}`)
	}

	/** Waits until so many jobs are in the midst of their text. */
	running(n, bytes = 80) {
		const midst = () => [...this.jobs.values()].filter((j) => !j.end && j.answer.length >= bytes).length
		return until(`${n} jobs are in the midst of their text`, () => midst() >= n, 30000)
	}

	/** Waits for all; checks that each job ended once, and that client, row and simulator agree on every byte. */
	async settle({ status = 'succeeded' } = {}) {
		const all = await Promise.allSettled(this.pending)
		const lost = all.filter((p) => p.status === 'rejected').map((p) => p.reason.message)
		assert.equal(lost.length, 0, lost.slice(0, 5).join('\n'))
		const ids = [...this.jobs.keys()]
		const rows = await this.api.recorded(ids, 60000)
		let wrong = []
		for (const [id, { job, answer: a, status: told }] of this.jobs) {
			const list = rows.get(id)
			const text = answer(job.model, job.messages[0].content, this.tokens)
			if (list.length !== 1) wrong.push(`${id}: ${list.length} rows`)
			if (list[0].status !== told) wrong.push(`${id}: the client was told ${told}, the row says ${list[0].status}`)
			if (status && list[0].status !== status) wrong.push(`${id}: ${list[0].status}`)
			if (list[0].status === 'succeeded' && list[0].answer.toString() !== text) wrong.push(`${id}: another text than the provider's`)
			if (!list[0].answer.equals(a.bytes)) wrong.push(`${id}: the client has ${a.length} bytes, the row ${list[0].answer.length}`)
		}
		// Each call that a client is charged for was made, and hardly one that was made is missing: only one that its owner could
		// not write down before it died.
		const calls = await this.stack.sql(`SELECT count(*), count(DISTINCT job) FROM calls WHERE job IN (${ids.map((id) => `'${id}'`)})`)
		this.booked = Number(calls[0][0])
		assert.equal(Number(calls[0][1]), ids.length, 'each job has a call in the ledger')
		assert.equal(wrong.length, 0, `${wrong.length} of ${ids.length}:\n${wrong.slice(0, 8).join('\n')}`)
		return rows
	}

	/** One line for the reader; the books hold what the simulator was asked. */
	async ledger(before, { exact = true } = {}) {
		const after = await this.stack.calls()
		const status = {}
		for (const j of this.jobs.values()) status[j.status ?? 'open'] = (status[j.status ?? 'open'] ?? 0) + 1
		const asked = (c) => c.models['claude-sonnet-4-5']?.begun ?? 0
		const calls = asked(after) - asked(before)
		const no = [...this.refused].map(([why, n]) => `${n} × ${why}`).join(', ') || 'nothing'
		console.log(
			`        ledger ${this.name}: accepted ${this.jobs.size}, ended ${JSON.stringify(status)}, provider calls ${calls}, in the books ${this.booked}, ` +
				`repeated ${calls - this.jobs.size}, connected again ${this.reconnects} times; refused before: ${no}`,
		)
		if (exact && this.booked !== undefined) assert.equal(this.booked, calls, 'every call stands in the ledger')
	}
}
