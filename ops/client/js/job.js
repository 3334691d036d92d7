// A job as its submitter sees it. What becomes of it is the client's to say (sluice.js).

import { Answer } from './answer.js'
import { Note } from './note.js'

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
		this.awaiting = null // a timer: until when an answer to that is waited for
		this.until = null // when it is not tried again any more, where it is refused for now; from its first sending over a connection
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
