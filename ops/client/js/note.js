// What is told: an event that carries something, and an error by its name.

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

export class Note extends Event {
	constructor(type, detail) {
		super(type)
		this.detail = detail
	}
}
