// Sluice in the browser: jobs over the WebSocket `sluice.v1`. It keeps the connection (reconnects with full jitter, resumes, leaves a
// node that drains, notices a connection that died in silence, a tab that slept and a network that went), and keeps each job's answer
// by bytes, so that the text at the end is the stored one whatever happened on the way. It refuses to show anything, to store
// anything, and to hold a key where a ticket will do.
//
//   connecting ──▶ open ──▶ waiting (back-off) ──▶ connecting …
//        └────────────┴────────┴──▶ closed (close(), or a code from 3500 on)

const PROTOCOL = 'sluice.v1'
const TEXT_BYTES_MAX = 1 << 20 // what one message may hold; the server closes with 1009 above it
const JOBS_MAX = 256 // jobs that one hello or attach may name
const ENDED_MAX = 4096 // jobs that ended, of which something may still be said
const WELCOME_MS = 15000 // no welcome within this: the connection is given up
const PONG_MS = 10000 // no word after a ping; short where there is a reason to doubt
const DOUBT_MS = 4000
const LATE_MS = 2000 // a timer that is so late ran in a tab that slept or is throttled
const STOOD_MS = 5000 // a connection that stood so long was a good one: the back-off begins anew
const DRAIN_GRACE_MS = 1000 // the node said when it goes; it is left then, so much later at the latest
const HEAL_MAX = 3 // how often a result's missing text is asked for
const ASK_MS = 1000 // text that was asked for and refused is asked for again after this, then twice as long each time
const ASK_DOUBLED_MAX = 5 // … so many times
const UNSURE = new Set(['outcome_unknown', 'state_unknown', 'internal']) // faults of a submission that do not say that nothing was accepted
const FINAL = new Set([1002, 1003, 1007, 1008, 1009, 1010]) // codes of RFC 6455 that say that what was sent will never do

const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** What went wrong, by its name of the protocol's faults, or of this client's own: closed, gone, incomplete. */
export class SluiceError extends Error {
	constructor(name, message, more = {}) {
		super(message || name)
		this.name = name
		this.retryable = more.retryable ?? false
		this.retryAfterMs = more.retry_after_ms ?? null
		this.param = more.param ?? null
		this.code = more.code ?? null
	}
}

class Note extends Event {
	constructor(type, detail) {
		super(type)
		this.detail = detail
	}
}

/** An answer that arrives by bytes: the client's rule of the protocol. */
export class Answer {
	constructor(attempt = 0, text = '') {
		this.attempt = attempt
		this.text = text
		/** Length of the text in UTF-8: the byte to go on from. */
		this.bytes = encoder.encode(text).length
		/** [{at, index, type, id, name}]: what begins where; none: it is all text. */
		this.parts = []
		/** [{at, provider, model}]: where another provider went on. */
		this.seams = []
	}

	begin(attempt) {
		this.attempt = attempt
		this.text = ''
		this.bytes = 0
		this.parts = []
		this.seams = []
	}

	/** True where what is said of `attempt` is for this answer, which a greater one begins anew. */
	#takes(attempt) {
		if (attempt < this.attempt) return false
		if (attempt > this.attempt) this.begin(attempt)
		return true
	}

	/** 'taken', 'dropped' (had it), or 'gap': to be asked for again from here. 'broken': from the beginning. */
	delta({ attempt, at, text }) {
		if (!this.#takes(attempt)) return 'dropped'
		if (at > this.bytes) return 'gap'
		let fresh = encoder.encode(text)
		if (at < this.bytes) {
			if (at + fresh.length <= this.bytes) return 'dropped'
			fresh = fresh.subarray(this.bytes - at)
			try {
				text = decoder.decode(fresh)
			} catch {
				return 'broken' // our byte is within one of its characters
			}
		}
		this.text += text
		this.bytes += fresh.length
		return 'taken'
	}

	/** `last`: of a job that has ended, so no greater attempt counts. */
	snapshot({ attempt, text, parts }, last = false) {
		if (attempt < this.attempt && !last) return false
		this.begin(attempt)
		this.text = text ?? ''
		this.bytes = encoder.encode(this.text).length
		if (parts) this.parts = parts.slice()
		return true
	}

	reset({ attempt }) {
		if (attempt < this.attempt) return false
		this.begin(attempt)
		return true
	}

	part({ attempt, at, index, type, id, name }) {
		if (!this.#takes(attempt)) return false
		this.parts[index ?? this.parts.length] = { at, index, type, id, name }
		return true
	}

	seam({ attempt, at, provider, model }) {
		if (!this.#takes(attempt) || this.seams.some((s) => s.at === at)) return false
		this.seams.push({ at, provider, model })
		return true
	}
}

/**
 * A job, from its submission on. Events: `change` (anything), and by their names accepted, queued, started, delta, part, reset,
 * snapshot, seam, transcript, resumed, fault (of an op), end.
 */
export class Job extends EventTarget {
	#client

	constructor(client, { ref = null, id = null, request = null, answer } = {}) {
		super()
		this.#client = client
		this.ref = ref
		this.id = id
		this.request = request
		this.answer = answer ?? new Answer()
		/** sending, queued, running; succeeded, failed, expired, cancelled; refused (never a job), gone (not known). */
		this.status = id ? 'queued' : 'sending'
		this.kind = null
		this.lane = null
		this.createdAt = null
		this.position = null
		this.estimateMs = null
		this.why = null
		/** Every call that was seen to begin: [{provider, model, attempt, at}]. */
		this.calls = []
		this.transcript = null
		/** Of a job that succeeded: {bytes, parts, finish_reason, usage}. */
		this.result = null
		/** SluiceError of one that did not. */
		this.error = null
		this.ended = false
		this.cancelling = false
		/** The session in which it was handed in and neither accepted nor refused yet. */
		this.sentIn = null
		// For the client alone.
		this.message = null // what submits it, until it was accepted
		this.repeated = false // it was sent again, and it is open which job that is
		this.asking = false // for text that is missing
		this.refusals = 0 // how often that was refused since it was answered
		this.asksLater = false
		this.healed = 0
		this.done = new Promise((resolve, reject) => {
			this.resolve = resolve
			this.reject = reject
		})
		this.done.catch(() => {}) // who does not wait for it need not catch
	}

	get text() {
		return this.answer.text
	}

	get attempt() {
		return this.answer.attempt
	}

	/** Wishes its end; that comes as status `cancelled`, or otherwise where the job was quicker. */
	cancel() {
		this.#client.cancel(this)
	}

	/** With autoAck: false: the result has arrived where it must; nothing more is said of it. */
	ack() {
		this.#client.ack(this)
	}

	/** What this answer is known up to, as hello and attach say it. */
	get standing() {
		return this.answer.attempt > 0 ? { id: this.id, attempt: this.answer.attempt, at: this.answer.bytes } : { id: this.id }
	}

	note(type, detail) {
		this.dispatchEvent(new Note(type, detail))
		this.dispatchEvent(new Note('change', detail))
	}
}

/**
 * A connection, kept. Events: state {state, code, reason, retryInMs}, welcome {session, resume}, job (one that was not submitted
 * here), gone {why} (the resume token did not hold), fault (of an op without a job), close {code, reason, error}.
 */
export class Sluice extends EventTarget {
	#options
	#env
	#link = null
	#jobs = new Map() // by id, until they ended
	#refs = new Map() // by ref, until they were accepted or refused
	#ended = new Set() // ids of jobs that ended, oldest first
	#held = [] // events of jobs that are not known yet
	#acks = new Set() // to be said when the connection stands
	#voices = 0
	#failures = 0
	#retry = null
	#round = 0
	#name
	#count = 0
	#listening = []

	/** Options: see sluice.d.ts. */
	constructor(options) {
		super()
		if (!options?.url) throw new TypeError('url is missing: ws:// or wss://, with its path')
		if (!options.credential) throw new TypeError('credential is missing: a key, a ticket, or a function that brings one')
		this.#options = { autoAck: true, retryFirstMs: 500, retryMaxMs: 30000, submitMs: 60000, ...options }
		this.#env = { ...surroundings(), ...options.env }
		this.#name = chance(this.#env)
		this.state = 'closed'
		this.session = options.session ?? null
		this.resume = options.resume ?? null
		this.closedBecause = null
	}

	/** Connects, and stays connected until close(). */
	open() {
		if (this.state !== 'closed') return this
		this.closedBecause = null
		this.#failures = 0
		this.#listen()
		this.#connect()
		return this
	}

	/** Leaves for good. Jobs go on at the server; open() finds them again. */
	close() {
		this.#stop(1000, 'closed here', null)
	}

	/** Jobs that have not ended, oldest first. */
	get jobs() {
		return [...new Set([...this.#jobs.values(), ...this.#refs.values()])]
	}

	/**
	 * Submits a job as POST /v1/jobs has it. `ref` makes it idempotent within the session; one is made where none is given. `sentIn`:
	 * the session in which it was handed in before, under that ref, by a client that is no more (a reload of the page).
	 */
	submit(request, { ref = `${this.#name}-${++this.#count}`, sentIn = null } = {}) {
		const text = JSON.stringify({ op: 'submit', ref, job: request })
		if (text.length > TEXT_BYTES_MAX || encoder.encode(text).length > TEXT_BYTES_MAX) throw new RangeError('the job is larger than 1 MiB')
		const job = new Job(this, { ref, request })
		job.message = text
		job.sentIn = sentIn
		job.repeated = sentIn !== null
		return this.#begin(job)
	}

	/** Sends a whole voice message (Blob or ArrayBuffer) as a job of kind voice. Only while the connection stands. */
	voice(audio) {
		if (!this.#link?.welcome || this.#link.draining) throw new SluiceError('unavailable', 'there is no connection now', { retryable: true })
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
		job.until = this.#env.now() + this.#options.submitMs
		this.#refs.set(job.ref, job)
		if (job.sentIn && this.#link?.welcome) this.#again(job)
		else this.#hand(job)
		if (this.closedBecause?.error) job.reject(this.closedBecause.error) // as those that waited then: another open() goes on with it
		return job
	}

	/** Sends what is not accepted yet. */
	#hand(job) {
		if (!this.#link?.welcome || this.#link.draining) return
		job.sentIn = this.session
		this.#link.socket.send(job.message)
	}

	#drop(job) {
		this.#refs.delete(job.ref)
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
		this.#refs.delete(e.ref)
		job.id = e.job
		job.kind = e.kind
		job.lane = e.lane
		job.createdAt = e.created_at
		job.message = null
		job.sentIn = null
		if (job.status === 'sending') job.status = 'queued'
		this.#jobs.set(job.id, job)
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
		draining: (e) => this.#drain(e.reconnect_in_ms ?? 0),
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
		this.#later(ms ?? ASK_MS * 2 ** Math.min(job.refusals++, ASK_DOUBLED_MAX), () => {
			job.asksLater = false
			if (job.ended || !job.asking) return
			job.asking = false
			this.#gap(job)
		})
	}

	/** A submission that was not accepted: the same ref again cannot make two jobs, so it is tried while that may help. */
	#refused(job, error) {
		const wait = (error.retryAfterMs ?? 1000) * (0.5 + this.#env.random())
		if (typeof job.message === 'string' && error.retryable && !job.cancelling && this.#env.now() + wait < job.until) {
			// For sure, unless it was so already or may have been accepted before: then no session need know it.
			if (!job.repeated && !UNSURE.has(error.name)) job.sentIn = null
			job.note('fault', error)
			this.#later(wait, () => this.#refs.get(job.ref) === job && this.#hand(job))
			return
		}
		this.#end(job, job.cancelling ? 'cancelled' : 'refused', error)
	}

	// ── the connection ──

	#say(state, more = {}) {
		this.state = state
		this.dispatchEvent(new Note('state', { state, ...more }))
	}

	#send(message) {
		if (!this.#link?.welcome) return false
		this.#link.socket.send(JSON.stringify(message))
		return true
	}

	/** A timer of this connection: nothing comes of it after the connection's end. */
	#later(ms, fn) {
		const link = this.#link
		this.#env.setTimeout(() => this.#link === link && fn(), ms)
	}

	async #connect() {
		const round = ++this.#round
		this.#env.clearTimeout(this.#retry)
		this.#say('connecting')
		this.#retry = this.#env.setTimeout(() => {
			this.#round++
			this.#wait('no credential in time')
		}, WELCOME_MS)
		let token
		try {
			const { credential } = this.#options
			token = typeof credential === 'function' ? await credential({ session: this.session }) : credential
		} catch (e) {
			if (round !== this.#round) return
			this.#env.clearTimeout(this.#retry)
			if (e?.final) this.#stop(3500, e.message, e)
			else this.#wait(`no credential: ${e?.message ?? e}`)
			return
		}
		if (round !== this.#round || this.state !== 'connecting') return
		this.#env.clearTimeout(this.#retry)
		this.#dial(token)
	}

	#dial(token) {
		const env = this.#env
		const link = { heardAt: env.now(), welcome: null, probes: 0, draining: false, beat: null }
		this.#link = link
		const mine = (fn) => (event) => this.#link === link && fn(event)
		try {
			link.socket = new env.WebSocket(this.#options.url, [PROTOCOL, `sluice.token.${base64url(token)}`])
		} catch (e) {
			this.#stop(3501, e.message, e) // the URL is none
			return
		}
		link.socket.onopen = mine(() => this.#hello())
		link.socket.onmessage = mine((event) => this.#heard(event.data))
		link.socket.onclose = mine((event) => this.#lost(event.code, event.reason))
		link.socket.onerror = () => {} // close follows
		this.#beat(WELCOME_MS)
	}

	#hello() {
		const hello = { op: 'hello' }
		const open = [...this.#jobs.values()]
		if (this.#options.session) hello.session = this.#options.session
		if (this.resume) hello.resume = this.resume
		if (open.length) hello.jobs = open.slice(0, JOBS_MAX).map((job) => job.standing)
		this.#link.socket.send(JSON.stringify(hello))
	}

	#heard(data) {
		const link = this.#link
		link.heardAt = this.#env.now()
		link.probes = 0
		if (typeof data !== 'string') return
		let e = null
		try {
			e = JSON.parse(data)
		} catch {} // told below
		if (e === null || typeof e !== 'object') return this.#cut('not a JSON object')
		if (e.ev === 'welcome') this.#welcome(e)
		else if (link.welcome) this.#take(e)
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
		const link = this.#link
		link.welcome = e
		link.pingMs = e.ping_ms ?? 25000
		link.welcomedAt = this.#env.now()
		this.session = e.session
		this.resume = e.resume
		this.#voices = e.bin_next ?? 0
		this.#beat(link.pingMs)
		this.dispatchEvent(new Note('welcome', { session: e.session, resume: e.resume }))
		this.#say('open')
		if (this.#link !== link) return
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

	#drain(ms) {
		const link = this.#link
		link.draining = true
		this.dispatchEvent(new Note('draining', { reconnectInMs: ms }))
		this.#later(ms + DRAIN_GRACE_MS, () => this.#cut('the node goes away', 3000))
	}

	/** The connection is given up from this side. */
	#cut(reason, code = 1006) {
		const { socket } = this.#link
		this.#lost(code, reason)
		try {
			socket.close(code === 1006 ? 4000 : code)
		} catch {
			// it was closed already
		}
	}

	#lost(code, reason) {
		const link = this.#link
		this.#link = null
		this.#held.length = 0
		this.#env.clearTimeout(link.beat)
		if ((code >= 3500 && code < 4000) || FINAL.has(code)) {
			this.#stop(code, reason, new SluiceError('closed', reason || `closed with ${code}`, { code }))
			return
		}
		const stood = link.welcomedAt !== undefined && this.#env.now() - link.welcomedAt >= STOOD_MS
		if (stood || link.draining) this.#failures = 0
		this.#wait(reason, code, link.draining ? 0 : undefined)
	}

	/** Back-off with full jitter: any time up to the first wait, doubled with each failure. */
	#wait(reason, code = 1006, ms) {
		const { retryFirstMs, retryMaxMs } = this.#options
		const most = Math.min(retryMaxMs, retryFirstMs * 2 ** Math.min(this.#failures++, 20))
		let wait = ms ?? this.#env.random() * most
		// Without a network it is tried rarely, since `onLine` may be wrong; `online` wakes it.
		if (this.#env.navigator?.onLine === false) wait = Math.max(wait, retryMaxMs)
		this.#say('waiting', { code, reason, retryInMs: Math.round(wait) })
		if (this.state !== 'waiting') return
		this.#env.clearTimeout(this.#retry)
		this.#retry = this.#env.setTimeout(() => this.#connect(), wait)
	}

	#stop(code, reason, error) {
		if (this.state === 'closed') return
		const link = this.#link
		this.#round++
		this.#link = null
		this.#env.clearTimeout(this.#retry)
		for (const [target, type, fn] of this.#listening.splice(0)) target.removeEventListener(type, fn)
		if (link) {
			this.#env.clearTimeout(link.beat)
			try {
				link.socket?.close(1000)
			} catch {
				// it was closed already
			}
		}
		this.closedBecause = { code, reason, error }
		this.#say('closed', { code, reason })
		// They go on at the server, and here after another open(); who waits is told that nothing comes before.
		if (error) for (const job of this.jobs) job.reject(error)
		this.dispatchEvent(new Note('close', this.closedBecause))
	}

	// ── signs of life ──

	#beat(ms) {
		const link = this.#link
		const due = this.#env.now() + ms
		this.#env.clearTimeout(link.beat)
		link.beat = this.#env.setTimeout(() => this.#link === link && this.#look(this.#env.now() - due > LATE_MS), ms)
	}

	/** @late: the timer itself is no witness of time, since what came meanwhile may wait behind it; so once more it is asked. */
	#look(late) {
		const link = this.#link
		const silent = Math.max(0, this.#env.now() - link.heardAt)
		if (!link.welcome) {
			if (late && !link.doubted) {
				link.doubted = true
				this.#beat(DOUBT_MS)
			} else this.#cut('no welcome in time')
		} else if (link.probes && (!late || link.probes > 1)) this.#cut('no sign of life')
		else if (link.probes || silent >= link.pingMs) this.#probe(late ? DOUBT_MS : PONG_MS)
		else this.#beat(link.pingMs - silent)
	}

	#probe(ms) {
		this.#link.probes++
		this.#beat(ms)
		this.#send({ op: 'ping' })
	}

	/** Something changed around: whether the connection lives is asked now, and a wait is over soon. */
	#wake() {
		if (this.state === 'waiting') {
			this.#env.clearTimeout(this.#retry)
			this.#retry = this.#env.setTimeout(() => this.#connect(), this.#env.random() * this.#options.retryFirstMs)
		} else if (this.#link?.welcome && !this.#link.probes) this.#probe(DOUBT_MS)
	}

	#listen() {
		const { window, document } = this.#env
		const on = (target, type, fn) => {
			if (!target?.addEventListener) return
			target.addEventListener(type, fn)
			this.#listening.push([target, type, fn])
		}
		on(window, 'online', () => this.#wake())
		on(window, 'offline', () => this.state === 'open' && this.#wake())
		on(document, 'visibilitychange', () => document.visibilityState === 'visible' && this.#wake())
		on(document, 'resume', () => this.#wake())
		// A page in the browser's cache of pages must hold no connection.
		on(window, 'pagehide', (event) => {
			if (!event.persisted) return
			if (this.#link) this.#cut('the page is put away')
			else if (this.state === 'connecting') {
				this.#round++ // a credential that comes now is not waited for
				this.#wait('the page is put away')
			}
			this.#env.clearTimeout(this.#retry)
		})
		on(window, 'pageshow', (event) => event.persisted && this.#wake())
	}
}

// ── what is around ──

function surroundings() {
	const g = globalThis
	return {
		WebSocket: g.WebSocket,
		setTimeout: (fn, ms) => g.setTimeout(fn, ms),
		clearTimeout: (timer) => g.clearTimeout(timer),
		now: () => Date.now(), // goes on while the machine sleeps
		random: () => Math.random(),
		window: typeof g.addEventListener === 'function' ? g : undefined,
		document: g.document,
		navigator: g.navigator,
	}
}

/** Names this client among those of its session. */
function chance(env) {
	let text = ''
	while (text.length < 12) text += Math.floor(env.random() * 36 ** 6).toString(36).padStart(6, '0')
	return text
}

function base64url(text) {
	let bytes = ''
	for (const b of encoder.encode(text)) bytes += String.fromCharCode(b)
	return btoa(bytes).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
}
