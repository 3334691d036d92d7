// What one connection of sluice.v1 says, judged while it says it: `welcome` first; each job that was named is answered with exactly one
// of resumed, snapshot and gone; text goes on byte by byte from where it was said to go on, never twice, never with a gap; a new attempt
// begins with a reset; the result fits the text. Each `resumed` is a claim that is held against what really came.
//
//   claim: open ──▶ true (the next word of the job was its text at that byte, or its end there)
//            ├────▶ overtaken (the answer was begun anew meanwhile, by a greater attempt)
//            ├────▶ untried (the connection ended before)
//            └────▶ FALSE

// After `state_unknown` nothing stands of a job on that connection: as a job of the session it is told again unasked, and that may cross what
// the client asks meanwhile, in either order (protocol.md, 2). What it asked is answered all the same; the bytes are judged as ever.

const CROSSING_MS = 10000

const bytes = (text) => Buffer.byteLength(text ?? '')

export class Tally {
	constructor() {
		Object.assign(this, { connections: 0, welcomed: 0, claimed: 0, true: 0, overtaken: 0, untried: 0, false: 0 })
		Object.assign(this, { snapshots: 0, resets: 0, seams: 0, parts: 0, deltas: 0, results: 0, faults: 0, delta_bytes: 0 })
		this.wrong = []
	}
}

export class Claims {
	/** @about: a word for the story. @whole: called once, when everything that hello named was answered. */
	constructor(tally, about, whole = () => {}) {
		Object.assign(this, { tally, about, whole, named: new Map(), asked: new Map(), at: new Map(), open: new Map(), over: new Set(), acked: new Set(), unsure: new Map(), story: [] })
		this.session = this.resume = null
		this.welcome = null
		this.heard_ms = Date.now()
		tally.connections++
	}

	#wrong(what, e) {
		if (this.tally.wrong.length < 200) this.tally.wrong.push({ about: this.about, what, event: JSON.stringify(e)?.slice(0, 300), story: this.story.slice(-40) })
	}

	#note(words) {
		if (words.startsWith('> {"op":"ping"}') || words.startsWith('< pong')) return
		this.story.push(`${(Date.now() % 1e7) / 1000} ${words}`)
		if (this.story.length > 80) this.story.shift()
	}

	/** What the client sends. */
	sent(text) {
		const m = JSON.parse(text)
		this.#note(`> ${text.slice(0, 300)}`)
		if (m.op === 'hello') {
			this.session = m.session ?? null
			this.resume = m.resume ?? null
			this.hello_ms = Date.now()
		}
		for (const j of m.jobs ?? []) {
			const p = { attempt: j.attempt ?? 0, at: j.at ?? 0, byte: j.attempt !== undefined, ms: Date.now() }
			if (m.op === 'hello') this.named.set(j.id, p)
			else this.asked.set(j.id, [...(this.asked.get(j.id) ?? []), p])
			this.unsure.get(j.id)?.push(p)
			this.over.delete(j.id)
		}
		if (m.op === 'ack') this.acked.add(m.id)
	}

	/** May the telling of a session cross what the client asked last? */
	#crossing(job) {
		const asked = this.unsure.get(job)?.at(-1)
		return asked && Date.now() - asked.ms < CROSSING_MS
	}

	/** The position that the client named and that is answered now; `fits`: where the answer names one. */
	#asked(job, fits) {
		const crossed = fits && this.unsure.get(job)?.findLast(fits)
		if (crossed) {
			const left = this.asked.get(job)?.filter((p) => p !== crossed) ?? []
			left.length ? this.asked.set(job, left) : this.asked.delete(job)
			this.over.delete(job)
			return crossed
		}
		const p = this.named.get(job)
		if (p) {
			this.named.delete(job)
			return p
		}
		const list = this.asked.get(job)
		const first = list?.shift()
		if (list && !list.length) this.asked.delete(job)
		return first
	}

	#settle(job, how) {
		const claim = this.open.get(job)
		if (!claim) return
		this.open.delete(job)
		this.tally[how]++
		if (how === 'false') this.#wrong(`a claimed recovery did not happen: ${JSON.stringify(claim)}`)
	}

	heard(e) {
		const n = this.heard_ms
		this.heard_ms = Date.now()
		this.#note(`< ${e.ev} ${e.job?.slice(-6) ?? e.ref ?? ''} ${e.attempt ?? ''} ${e.at ?? ''}${e.text !== undefined ? `+${bytes(e.text)}` : ''} ${e.status ?? ''}${e.jobs ? JSON.stringify(e.jobs) : ''}${e.why ?? ''}${e.name ?? ''}${this.heard_ms - n > 3000 ? ` after ${this.heard_ms - n} ms` : ''}`)
		if (!this.welcome && e.ev !== 'welcome' && e.ev !== 'draining') this.#wrong('something before welcome', e)
		if (e.job && this.acked.has(e.job) && e.ev !== 'accepted' && !this.#crossing(e.job)) this.#wrong('something of a job that was acknowledged here', e)
		if (e.job && this.over.has(e.job) && e.ev !== 'accepted' && !this.#crossing(e.job)) this.#wrong('something behind the last word of a job', e)
		this.#on[e.ev]?.(e)
		if (this.hello_ms && this.welcome && !this.named.size) {
			this.hello_ms = 0
			this.whole()
		}
	}

	/** Text or a part of it is about @job: where this connection stands in it. */
	#place(e) {
		if (this.named.has(e.job)) this.#wrong('text of a named job before its first word', e)
		if (!this.at.has(e.job)) this.at.set(e.job, { attempt: e.attempt, at: 0, began: true })
		const p = this.at.get(e.job)
		if (e.attempt > p.attempt) {
			if (p.at > 0) this.#wrong(`a new attempt without a reset, at ${JSON.stringify(p)}`, e)
			this.#settle(e.job, 'overtaken')
			this.at.set(e.job, { attempt: e.attempt, at: 0 })
		} else if (e.attempt < p.attempt) this.#wrong(`an attempt that is over, at ${JSON.stringify(p)}`, e)
		return this.at.get(e.job)
	}

	#ended(e) {
		this.over.add(e.job)
		this.#settle(e.job, e.attempt > (this.open.get(e.job)?.attempt ?? 0) ? 'overtaken' : 'true')
		this.named.delete(e.job)
	}

	#on = {
		__proto__: null,
		welcome: (e) => {
			if (this.welcome) this.#wrong('welcome twice', e)
			this.welcome = e
			this.tally.welcomed++
			if (this.session && e.session !== this.session) this.#wrong('welcome to another session than the one that was named', e)
		},
		accepted: () => {},
		resumed: (e) => {
			for (const j of e.jobs) {
				const p = this.#asked(j.job, (one) => one.byte && one.attempt === j.attempt && one.at === j.at)
				this.tally.claimed++
				this.#settle(j.job, 'untried')
				if (!p || !p.byte || p.attempt !== j.attempt || p.at !== j.at) {
					this.tally.false++
					this.#wrong(`resumed at a byte that was not named: ${JSON.stringify(j)}, named: ${JSON.stringify(p)}`, e)
				} else this.open.set(j.job, { attempt: j.attempt, at: j.at })
				this.at.set(j.job, { attempt: j.attempt, at: j.at })
			}
		},
		snapshot: (e) => {
			const crossing = this.#crossing(e.job)
			const p = this.#asked(e.job)
			this.tally.snapshots++
			if (this.open.has(e.job) && !p) this.#settle(e.job, 'false')
			this.#settle(e.job, 'untried')
			if (this.at.has(e.job) && !p && !crossing) this.#wrong('a snapshot that nobody asked for', e)
			if (!crossing && p?.byte && p.attempt === e.attempt && p.at > 0 && p.at <= bytes(e.text)) this.#wrong(`a snapshot where it could go on from ${p.at}`, e)
			this.at.set(e.job, { attempt: e.attempt, at: bytes(e.text), shown: bytes(e.text) })
		},
		delta: (e) => {
			this.tally.deltas++
			this.tally.delta_bytes += bytes(e.text)
			if (e.text.includes('\uFFFD')) this.#wrong('a broken character', e)
			if (this.asked.has(e.job)) return // it may be of before
			const p = this.#place(e)
			const fits = e.attempt === p.attempt && e.at === p.at
			if (this.open.has(e.job)) this.#settle(e.job, fits ? 'true' : 'false')
			if (!fits) this.#wrong(`${e.at > p.at ? 'a gap' : 'a repeat'}: it stands at ${JSON.stringify(p)}`, e)
			p.at = Math.max(p.at, e.at + bytes(e.text))
		},
		reset: (e) => {
			this.tally.resets++
			const p = this.at.get(e.job)
			const claim = this.open.get(e.job)
			if (claim) this.#settle(e.job, e.attempt > claim.attempt ? 'overtaken' : 'false')
			if (p && e.attempt < p.attempt) this.#wrong(`a reset to an older attempt, at ${JSON.stringify(p)}`, e)
			this.at.set(e.job, { attempt: e.attempt, at: 0 })
		},
		seam: (e) => {
			this.tally.seams++
			if (this.asked.has(e.job)) return
			const p = this.#place(e)
			if (e.at !== p.at && !(e.at < (p.shown ?? 0))) this.#wrong(`a seam that is not where the text stands: ${JSON.stringify(p)}`, e)
		},
		part: (e) => {
			this.tally.parts++
			if (this.asked.has(e.job)) return
			const p = this.#place(e)
			if (e.at !== p.at) this.#wrong(`a part that is not where the text stands: ${JSON.stringify(p)}`, e)
		},
		result: (e) => {
			this.tally.results++
			const p = this.at.get(e.job)
			if (typeof e.text === 'string') {
				if (bytes(e.text) !== e.bytes) this.#wrong(`a result with ${bytes(e.text)} of its ${e.bytes} bytes`, e)
				if (this.open.has(e.job) && e.attempt === p.attempt) this.#settle(e.job, 'false')
			} else if (!this.asked.has(e.job) && (p ? p.attempt !== e.attempt || p.at !== e.bytes : e.bytes)) this.#wrong(`a result of ${e.bytes} bytes where the text stands at ${JSON.stringify(p)}`, e)
			this.#ended(e)
		},
		fault: (e) => {
			this.tally.faults++
			if (!e.job) return
			if (e.status) this.#ended(e)
			else {
				const p = this.#asked(e.job) // answered: not known now
				const list = this.unsure.get(e.job)
				if (!list) this.unsure.set(e.job, p ? [p] : [])
			}
		},
		gone: (e) => this.#wrong('gone, of what is there', e),
	}

	/** The connection is over. @calm: nothing stood in the way of its answers. */
	end(calm) {
		for (const job of [...this.open.keys()]) this.#settle(job, 'untried')
		if (!calm) return
		for (const [job, p] of this.named) if (Date.now() - p.ms > 15000 && this.heard_ms - p.ms > 10000) this.#wrong(`silence about ${job}, which hello named`)
	}
}
