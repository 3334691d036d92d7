// An answer by bytes, so that the text at the end is the stored one whatever happened on the way. Knows no connection.

const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

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
