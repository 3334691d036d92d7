/** A job as `POST /v1/jobs` takes it. */
export interface JobRequest {
	kind: string
	lane?: string
	task?: string
	model?: string
	session?: string
	system?: string
	messages?: { role: string; content: string }[]
	max_tokens?: number
	temperature?: number
	stream?: boolean
	limits?: { queue_ms?: number; run_ms?: number }
	on_cut?: 'restart' | 'continue' | 'fail'
	not_before?: string
	metadata?: Record<string, unknown>
	[field: string]: unknown
}

export interface Part {
	at: number
	index?: number
	type: string
	id?: string
	name?: string
}

export interface Seam {
	at: number
	provider: string
	model: string
}

export interface Usage {
	input_tokens: number
	cached_input_tokens: number
	cache_write_tokens: number
	output_tokens: number
	audio_ms: number
	cost_microusd: number
}

export interface JobResult {
	bytes: number
	parts: Part[]
	finish_reason: string | null
	usage: Usage
}

export type JobStatus =
	| 'sending'
	| 'queued'
	| 'running'
	| 'succeeded'
	| 'failed'
	| 'expired'
	| 'cancelled'
	/** It never became a job. */
	| 'refused'
	/** The server does not know it (any more). */
	| 'gone'

export type State = 'connecting' | 'open' | 'waiting' | 'closed'

/** What went wrong, by its name of the protocol's faults, or `closed`, `gone`, `incomplete`. */
export class SluiceError extends Error {
	constructor(name: string, message: string, more?: { retryable?: boolean; retry_after_ms?: number | null; param?: string; code?: number })
	readonly retryable: boolean
	readonly retryAfterMs: number | null
	readonly param: string | null
	/** The close code, of `closed`. */
	readonly code: number | null
}

/** What the client's events carry. */
export interface Note<T> extends Event {
	readonly detail: T
}

/** An answer that arrives by bytes: the client's rule of the protocol. */
export class Answer {
	constructor(attempt?: number, text?: string)
	attempt: number
	text: string
	/** Length of the text in UTF-8: the byte to go on from. */
	bytes: number
	parts: Part[]
	seams: Seam[]
	begin(attempt: number): void
	/** `gap`: ask again from here; `broken`: from the beginning. */
	delta(event: { attempt: number; at: number; text: string }): 'taken' | 'dropped' | 'gap' | 'broken'
	snapshot(event: { attempt: number; text?: string; parts?: Part[] }, last?: boolean): boolean
	reset(event: { attempt: number }): boolean
	part(event: { attempt: number } & Part): boolean
	seam(event: { attempt: number } & Seam): boolean
}

/** Every event of a job is followed by `change`. */
export interface JobEvents {
	change: Note<unknown>
	accepted: Note<unknown>
	queued: Note<unknown>
	started: Note<{ attempt: number; provider: string; model: string }>
	delta: Note<{ attempt: number; at: number; text: string }>
	part: Note<unknown>
	reset: Note<{ attempt: number; why: string }>
	snapshot: Note<unknown>
	seam: Note<unknown>
	resumed: Note<{ attempt: number; at: number }>
	transcript: Note<{ text: string; final: boolean; audio_ms: number }>
	cancelling: Note<undefined>
	/** Of an op, or of a submission that is tried again: the job has not ended. */
	fault: Note<SluiceError>
	end: Note<undefined>
}

export interface Job {
	addEventListener<K extends keyof JobEvents>(type: K, listener: (event: JobEvents[K]) => void, options?: AddEventListenerOptions | boolean): void
	addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: AddEventListenerOptions | boolean): void
	removeEventListener<K extends keyof JobEvents>(type: K, listener: (event: JobEvents[K]) => void, options?: EventListenerOptions | boolean): void
	removeEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: EventListenerOptions | boolean): void
}

/** A job, from its submission on. */
export class Job extends EventTarget {
	readonly ref: string | null
	/** The session in which it was handed in and neither accepted nor refused yet; null: it was not. */
	readonly sentIn: string | null
	/** `job_…`, once it was accepted. */
	readonly id: string | null
	readonly request: JobRequest | null
	readonly status: JobStatus
	readonly ended: boolean
	readonly cancelling: boolean
	readonly kind: string | null
	readonly lane: string | null
	readonly createdAt: string | null
	readonly answer: Answer
	readonly text: string
	readonly attempt: number
	/** 1: the next one; null: in no line, or not known. */
	readonly position: number | null
	readonly estimateMs: number | null
	/** What it waits for: order, session, slots, budget, limit, breaker, retry. */
	readonly why: string | null
	/** Every call at a provider that was seen to begin, and the byte at which. */
	readonly calls: { provider: string; model: string; attempt: number; at: number }[]
	readonly transcript: string | null
	readonly result: JobResult | null
	readonly error: SluiceError | null
	/** Resolves with this job when it succeeded, rejects with a SluiceError otherwise, also where the client was closed for good. */
	readonly done: Promise<Job>
	/** Wishes its end; that comes as status `cancelled`, or otherwise where the job was quicker. */
	cancel(): void
	/** With `autoAck: false`: the result has arrived where it must. */
	ack(): void
}

export interface SluiceOptions {
	/** `wss://…/v1/ws` */
	url: string
	/**
	 * A ticket or key, or what brings one; asked for each connection. In a browser: a function that gets a fresh ticket, for a
	 * ticket is good once. What it throws is a failed connection, tried again after a back-off; with `final: true` on the error
	 * the client closes instead.
	 */
	credential: string | ((about: { session: string | null }) => string | Promise<string>)
	/** The conversation (`ses_…`): jobs that name none are its turns, and jobs that others submit to it are heard. */
	session?: string
	/** The token of a `welcome` of before (another page of this tab): what was not acknowledged comes again. */
	resume?: string
	/** Acknowledge results when they have arrived here. Default true. */
	autoAck?: boolean
	/** The back-off: any time up to the first, doubled with each failure up to the most. Defaults 500 and 30000. */
	retryFirstMs?: number
	retryMaxMs?: number
	/**
	 * How long, over a connection that stands, a submission that is refused for now is tried again, and one that nobody answers is
	 * waited for: that one ends as `outcome_unknown`. Default 60000.
	 */
	submitMs?: number
	/** For tests, and for runtimes without a browser's globals. */
	env?: Partial<Environment>
}

export interface Environment {
	WebSocket: new (url: string, protocols: string[]) => WebSocket
	setTimeout(fn: () => void, ms: number): unknown
	clearTimeout(timer: unknown): void
	/** Milliseconds that go on while the machine sleeps. */
	now(): number
	/** From 0 to 1, 1 excluded. */
	random(): number
	window?: EventTarget
	document?: EventTarget & { visibilityState: string }
	navigator?: { onLine: boolean }
}

export interface SluiceEvents {
	state: Note<{ state: State; code?: number; reason?: string; retryInMs?: number }>
	welcome: Note<{ session: string; resume: string }>
	draining: Note<{ reconnectInMs: number }>
	/** A job of the session that was not submitted here. */
	job: Note<Job>
	/** The resume token did not hold: what was not acknowledged before is not told again. */
	gone: Note<{ why: string }>
	fault: Note<SluiceError>
	/** For good: close(), or a code from 3500 on. open() begins again. */
	close: Note<{ code: number; reason: string; error: SluiceError | null }>
}

export interface Sluice {
	addEventListener<K extends keyof SluiceEvents>(type: K, listener: (event: SluiceEvents[K]) => void, options?: AddEventListenerOptions | boolean): void
	addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: AddEventListenerOptions | boolean): void
	removeEventListener<K extends keyof SluiceEvents>(type: K, listener: (event: SluiceEvents[K]) => void, options?: EventListenerOptions | boolean): void
	removeEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: EventListenerOptions | boolean): void
}

/** A connection, kept. */
export class Sluice extends EventTarget {
	constructor(options: SluiceOptions)
	readonly state: State
	readonly session: string | null
	/** The latest resume token; keep it where a reload of the page finds it (sessionStorage), not longer. */
	readonly resume: string | null
	readonly closedBecause: { code: number; reason: string; error: SluiceError | null } | null
	/** Jobs that have not ended, oldest first. */
	readonly jobs: Job[]
	open(): this
	close(): void
	/**
	 * `ref` makes it idempotent within the session: the same job while that one is open; one is made where none is given. `sentIn`: the session in which it was handed in
	 * before under that `ref` by a client that is no more, as behind a reload of the page; it is the same job there, and refused as
	 * `outcome_unknown` elsewhere. Throws a SluiceError where the server could not read it: `too_large` above 1 MiB, `invalid_request`
	 * (with `param`) for a text with half of a surrogate pair or U+0000, nesting above 63 levels, and a `ref` that is not 1 to 64 bytes;
	 * `conflict` where the `ref` is that of another open job.
	 */
	submit(request: JobRequest, options?: { ref?: string; sentIn?: string | null }): Job
	/** A whole voice message. Throws a SluiceError while there is no connection. */
	voice(audio: Blob | ArrayBuffer): Job
	/** Follows a job of somebody else; with attempt and text from there on. */
	attach(id: string, from?: { attempt?: number; text?: string }): Job
	cancel(job: Job): void
	ack(job: Job): void
}
