// Sluice in the browser: jobs over the WebSocket `sluice.v1`. Each job's answer is kept by bytes (answer.js) over a connection that is
// kept as well (connection.js). It refuses to show anything, to store anything, and to hold a key where a ticket will do.

import { Answer } from './answer.js'
import { Connection, DOUBT_MS, LATE_MS } from './connection.js'
import { chance, surroundings } from './environment.js'
import { Job } from './job.js'
import { Note, SluiceError } from './note.js'
import { submission } from './request.js'

export { Answer, Job, SluiceError }

const JOBS_MAX = 256 // jobs that one hello or attach may name
const ENDED_MAX = 4096 // jobs that ended, of which something may still be said
const HEAL_MAX = 3 // how often a result's missing text is asked for
const ASK_MS = 1000 // text that was asked for and refused is asked for again after this, then twice as long each time
const ASK_DOUBLED_MAX = 5 // … so many times
const UNSURE = new Set(['outcome_unknown', 'state_unknown', 'internal']) // faults of a submission that do not say that nothing was accepted

/**
 * A connection, kept. Events: state {state, code, reason, retryInMs}, welcome {session, resume}, job (one that was not submitted
 * here), gone {why} (the resume token did not hold), fault (of an op without a job), close {code, reason, error}.
 */
export class Sluice extends EventTarget {
	#options
	#env
	#connection
	#jobs = new Map() // by id, until they ended
	#refs = new Map() // by ref, until they were accepted or refused
	#ended = new Set() // ids of jobs that ended, oldest first
	#held = [] // events of jobs that are not known yet
	#acks = new Set() // to be said when the connection stands
	#voices = 0
	#name
	#count = 0

	/** Options: see sluice.d.ts. */
	constructor(options) {
		super()
		if (!options?.url) throw new TypeError('url is missing: ws:// or wss://, with its path')
		if (!options.credential) throw new TypeError('credential is missing: a key, a ticket, or a function that brings one')
		this.#options = { autoAck: true, retryFirstMs: 500, retryMaxMs: 30000, submitMs: 60000, ...options }
		this.#env = { ...surroundings(), ...options.env }
		this.#name = chance(this.#env)
		this.session = options.session ?? null
		this.resume = options.resume ?? null
		this.closedBecause = null
		this.#connection = new Connection(this.#owner(), this.#options, this.#env)
	}

	get state() {
		return this.#connection.state
	}

	/** Connects, and stays connected until close(). */
	open() {
		if (this.state !== 'closed') return this
		this.closedBecause = null
		this.#connection.open()
		return this
	}

	/** Leaves for good. Jobs go on at the server; open() finds them again. */
	close() {
		this.#connection.close()
	}

	/** Jobs that have not ended, oldest first. */
	get jobs() {
		return [...new Set([...this.#jobs.values(), ...this.#refs.values()])]
	}

	/**
	 * Submits a job as POST /v1/jobs has it. `ref` makes it idempotent within the session: while that job is open it is returned, and
	 * another request refused; one is made where none is given. `sentIn`: the session in which it was handed in before, under that ref,
	 * by a client that is no more (a reload of the page).
	 */
	submit(request, { ref, sentIn = null } = {}) {
		const known = ref ? this.jobs.find((job) => job.ref === ref) : undefined
		ref ??= `${this.#name}-${++this.#count}`
		const message = submission(ref, request)
		if (known && message !== submission(ref, known.request)) throw new SluiceError('conflict', 'the ref was used for another job', { param: 'ref' })
		if (known) return known
		const job = new Job(this, { ref, request })
		job.message = message
		job.sentIn = sentIn
		job.repeated = sentIn !== null
		return this.#begin(job)
	}

	/** Sends a whole voice message (Blob or ArrayBuffer) as a job of kind voice. Only while the connection stands. */
	voice(audio) {
		if (!this.#connection.takes) throw new SluiceError('unavailable', 'there is no connection now', { retryable: true })
		const job = new Job(this, { ref: `bin-${this.#voices++}` })
		job.message = audio
		return this.#begin(job)
	}

	/** Follows a job that somebody else submitted; with attempt and text from there on. */
	attach(id, { attempt = 0, text = '' } = {}) {
		const known = this.#jobs.get(id)
		if (known) return known
		const job = new Job(this, { id, answer: new Answer(attempt, text) })
		this.#ended.delete(id)
		this.#jobs.set(id, job)
		job.asking = this.#send({ op: 'attach', jobs: [job.standing] })
		return job
	}

	cancel(job) {
		if (job.ended) return
		job.cancelling = true
		if (job.id) this.#send({ op: 'cancel', id: job.id })
		job.note('cancelling')
	}

	ack(job) {
		if (!job.id || !job.ended) return
		if (!this.#send({ op: 'ack', id: job.id })) this.#acks.add(job.id)
	}

	// ── jobs ──

	#begin(job) {
		this.#refs.set(job.ref, job)
		if (job.sentIn && this.#connection.stands) this.#again(job)
		else this.#hand(job)
		if (this.closedBecause?.error) job.reject(this.closedBecause.error) // as those that waited then: another open() goes on with it
		return job
	}

	/** Sends what is not accepted yet. */
	#hand(job) {
		if (!this.#connection.takes) return
		const { submitMs } = this.#options
		job.sentIn = this.session
		job.until ??= this.#env.now() + submitMs
		this.#await(job, submitMs)
		this.#connection.send(job.message)
	}

	/** What nobody answers ends: neither its submitter nor, while it is unsure, the jobs of others wait for it for ever. */
	#await(job, ms, doubted = false) {
		const due = this.#env.now() + ms
		this.#env.clearTimeout(job.awaiting)
		job.awaiting = this.#env.setTimeout(() => {
			if (!doubted && this.#env.now() - due > LATE_MS) return this.#await(job, DOUBT_MS, true) // the answer may wait behind this timer
			const told = `the server did not answer for ${this.#options.submitMs / 1000} s: whether it has the job is not known`
			this.#end(job, 'refused', new SluiceError('outcome_unknown', told, { retryable: true }))
		}, ms)
	}

	/** It was accepted, or will not be. */
	#answered(job) {
		this.#env.clearTimeout(job.awaiting)
		this.#refs.delete(job.ref)
	}

	#drop(job) {
		this.#answered(job)
		if (job.id) {
			this.#jobs.delete(job.id)
			this.#ended.add(job.id)
			if (this.#ended.size > ENDED_MAX) this.#ended.delete(this.#ended.values().next().value)
		}
	}

	/** The last word of a job. */
	#end(job, status, error = null) {
		if (job.ended) return
		job.ended = true
		job.status = status
		job.position = null
		job.error = error
		this.#drop(job)
		if (error) job.reject(error)
		else job.resolve(job)
		if (job.id && status !== 'gone' && error?.name !== 'incomplete' && this.#options.autoAck) this.ack(job)
		job.note('end')
		this.#sure(job)
	}

	#accepted(e) {
		const job = this.#refs.get(e.ref)
		if (!job) return
		this.#answered(job)
		job.id = e.job
		job.kind = e.kind
		job.lane = e.lane
		job.createdAt = e.created_at
		job.message = null
		job.sentIn = null
		if (job.status === 'sending') job.status = 'queued'
		this.#jobs.set(job.id, job)
		if (this.#ended.delete(job.id)) this.#gap(job) // its end was told, and is told again where it is asked for
		job.note('accepted', e)
		if (job.cancelling) this.#send({ op: 'cancel', id: job.id })
		this.#sure(job)
	}

	/** The job that an event is about; one that is met is a new one. */
	#job(e) {
		const job = this.#jobs.get(e.job)
		if (job || e.ev === 'gone' || this.#ended.has(e.job)) return job
		const met = new Job(this, { id: e.job })
		this.#jobs.set(met.id, met)
		this.dispatchEvent(new Note('job', met))
		return met
	}

	#gap(job, whole = false) {
		if (job.asking) return
		job.asking = true
		this.#send({ op: 'attach', jobs: [whole ? { id: job.id } : job.standing] })
	}

	#on = {
		__proto__: null,
		accepted: (e) => this.#accepted(e),
		queued: (e, job) => {
			job.status = 'queued'
			job.lane = e.lane ?? job.lane
			job.position = e.position ?? null
			job.estimateMs = e.estimate_ms ?? null
			job.why = e.why ?? null
			job.note('queued', e)
		},
		started: (e, job) => {
			if (e.attempt < job.attempt) return
			job.status = 'running'
			job.position = job.estimateMs = job.why = null
			const last = job.calls.at(-1)
			if (last?.provider !== e.provider || last?.model !== e.model || last?.attempt !== e.attempt)
				job.calls.push({ provider: e.provider, model: e.model, attempt: e.attempt, at: job.answer.bytes })
			job.note('started', e)
		},
		delta: (e, job) => {
			const what = job.answer.delta(e)
			if (what === 'gap' || what === 'broken') this.#gap(job, what === 'broken')
			if (what !== 'taken') return
			job.status = 'running'
			job.note('delta', e)
		},
		part: (e, job) => job.answer.part(e) && job.note('part', e),
		reset: (e, job) => job.answer.reset(e) && job.note('reset', e),
		seam: (e, job) => job.answer.seam(e) && job.note('seam', e),
		transcript: (e, job) => {
			job.transcript = e.text
			job.note('transcript', e)
		},
		snapshot: (e, job) => {
			const running = e.status === 'queued' || e.status === 'running'
			if (!job.answer.snapshot(e, !running)) return
			job.asking = false
			job.refusals = 0
			if (running) job.status = e.status
			job.note('snapshot', e)
		},
		resumed: (e) => {
			for (const { job: id, attempt, at } of e.jobs) {
				const job = this.#jobs.get(id)
				if (!job) continue
				job.asking = false
				job.refusals = 0
				if (job.attempt !== attempt || job.answer.bytes < at) this.#gap(job)
				else job.note('resumed', { attempt, at })
			}
		},
		result: (e, job) => this.#result(e, job),
		fault: (e, job) => this.#fault(e, job),
		gone: (e, job) => {
			if (e.job) {
				if (job) this.#end(job, 'gone', new SluiceError('gone', `the job is not known: ${e.why}`))
				return
			}
			this.dispatchEvent(new Note('gone', { why: e.why }))
		},
		draining: (e) => {
			const reconnectInMs = e.reconnect_in_ms ?? 0
			this.#connection.drain(reconnectInMs)
			this.dispatchEvent(new Note('draining', { reconnectInMs }))
		},
		pong: () => {},
	}

	#result(e, job) {
		// The stored result is what counts, whatever attempt was heard last.
		if (typeof e.text === 'string') job.answer.snapshot(e, true)
		else if (e.attempt !== job.attempt) job.answer.begin(e.attempt)
		if (typeof e.bytes === 'number' && job.answer.bytes !== e.bytes) {
			// Text is missing, or is not what was stored: asked for from here, then from the beginning.
			if (job.asking) return // it comes again behind the answer
			if (job.healed++ < HEAL_MAX) this.#gap(job, job.healed > 1 || job.answer.bytes > e.bytes)
			else {
				this.#end(job, 'succeeded', new SluiceError('incomplete', 'the text could not be read whole'))
				this.#ended.delete(job.id) // when it comes again it is met anew
			}
			return
		}
		if (e.parts) job.answer.parts = e.parts
		job.result = { bytes: e.bytes, parts: e.parts, finish_reason: e.finish_reason, usage: e.usage }
		this.#end(job, 'succeeded')
	}

	#fault(e, job) {
		const error = new SluiceError(e.name, e.message, e)
		const sent = e.ref === undefined ? null : this.#refs.get(e.ref)
		if (sent) this.#refused(sent, error)
		else if (job && e.status) this.#end(job, e.status, error)
		else if (job) {
			// What was asked for comes later, then; the deltas that show the gap meanwhile do not ask.
			const later = error.retryable && (job.asking || e.name === 'state_unknown')
			job.asking = later
			if (later) this.#askLater(job, e.retry_after_ms)
			if (e.name !== 'state_unknown') job.note('fault', error)
		} else if (!e.job) this.dispatchEvent(new Note('fault', error))
	}

	#askLater(job, ms) {
		if (job.asksLater) return
		job.asksLater = true
		this.#connection.later(ms ?? ASK_MS * 2 ** Math.min(job.refusals++, ASK_DOUBLED_MAX), () => {
			job.asksLater = false
			if (job.ended || !job.asking) return
			job.asking = false
			this.#gap(job)
		})
	}

	/** A submission that was not accepted: the same ref again cannot make two jobs, so it is tried while that may help. */
	#refused(job, error) {
		const wait = (error.retryAfterMs ?? 1000) * (0.5 + this.#env.random())
		this.#env.clearTimeout(job.awaiting)
		if (typeof job.message === 'string' && error.retryable && !job.cancelling && this.#env.now() + wait < job.until) {
			// For sure, unless it was so already or may have been accepted before: then no session need know it.
			if (!job.repeated && !UNSURE.has(error.name)) job.sentIn = null
			job.note('fault', error)
			this.#connection.later(wait, () => this.#refs.get(job.ref) === job && this.#hand(job))
			return
		}
		this.#end(job, job.cancelling ? 'cancelled' : 'refused', error)
	}

	// ── the connection ──

	/** What the connection asks for and tells. */
	#owner() {
		return {
			session: () => this.session,
			hello: () => this.#hello(),
			changed: (detail) => this.dispatchEvent(new Note('state', detail)),
			welcome: (e) => this.#welcome(e),
			standing: () => this.#standing(),
			event: (e) => this.#take(e),
			lost: () => this.#lost(),
			closed: (because) => this.#closed(because),
		}
	}

	#send(message) {
		return this.#connection.send(JSON.stringify(message))
	}

	#hello() {
		const hello = { op: 'hello' }
		const open = [...this.#jobs.values()]
		if (this.#options.session) hello.session = this.#options.session
		if (this.resume) hello.resume = this.resume
		if (open.length) hello.jobs = open.slice(0, JOBS_MAX).map((job) => job.standing)
		return hello
	}

	#take(e) {
		const about = e.job !== undefined && e.ref === undefined
		if (about && !this.#jobs.has(e.job) && this.#unsure()) {
			this.#held.push(e) // it may be one of those
			return
		}
		const job = about ? this.#job(e) : undefined
		if (!about || job) {
			this.#on[e.ev]?.(e, job)
			return
		}
		// A job that ended here, whose acknowledgement was lost, is told of once more.
		if ((e.ev === 'result' || (e.ev === 'fault' && e.status)) && this.#options.autoAck) this.#send({ op: 'ack', id: e.job })
	}

	/** True while it is not known which jobs those are that were submitted over an earlier connection. */
	#unsure() {
		for (const job of this.#refs.values()) if (job.repeated) return true
		return false
	}

	#sure(job) {
		if (!job.repeated) return
		job.repeated = false
		if (!this.#unsure()) for (const e of this.#held.splice(0)) this.#take(e)
	}

	#welcome(e) {
		this.session = e.session
		this.resume = e.resume
		this.#voices = e.bin_next ?? 0
		this.dispatchEvent(new Note('welcome', { session: e.session, resume: e.resume }))
	}

	/** What this node was not told yet. */
	#standing() {
		const rest = [...this.#jobs.values()].slice(JOBS_MAX)
		for (let i = 0; i < rest.length; i += JOBS_MAX) this.#send({ op: 'attach', jobs: rest.slice(i, i + JOBS_MAX).map((job) => job.standing) })
		for (const id of this.#acks) this.#send({ op: 'ack', id })
		this.#acks.clear()
		for (const job of this.#jobs.values()) {
			job.asking = job.asksLater = false
			job.refusals = 0
			job.healed = 0
			if (job.cancelling) this.#send({ op: 'cancel', id: job.id })
		}
		for (const job of [...this.#refs.values()]) this.#again(job)
	}

	/** What was on its way is open; over the next connection it is said again, for as long as at first. */
	#lost() {
		this.#held.splice(0)
		for (const job of this.#refs.values()) {
			this.#env.clearTimeout(job.awaiting)
			job.until = null
		}
	}

	/** What was sent and never answered: the same ref in the same session is the same job; in another nobody can tell. */
	#again(job) {
		const voice = typeof job.message !== 'string'
		if (job.sentIn && (voice || job.sentIn !== this.session))
			this.#end(job, 'refused', new SluiceError('outcome_unknown', 'the connection was lost before the job was accepted', { retryable: true }))
		else if (job.cancelling && !job.sentIn) this.#end(job, 'cancelled', new SluiceError('cancelled', 'the job was cancelled before it was sent'))
		else {
			job.repeated = job.sentIn !== null
			this.#hand(job)
		}
	}

	#closed(because) {
		const { code, reason, error } = because
		this.#lost()
		this.closedBecause = because
		this.dispatchEvent(new Note('state', { state: 'closed', code, reason }))
		// They go on at the server, and here after another open(); who waits is told that nothing comes before.
		if (error) for (const job of this.jobs) job.reject(error)
		this.dispatchEvent(new Note('close', because))
	}
}
