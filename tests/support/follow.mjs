// The client's short rule for an answer that arrives by byte: keep (attempt, text); a delta at the bytes you have is appended;
// smaller: drop what you have already; greater: attach again from your byte; a reset or a greater attempt: start over; a smaller
// attempt: drop. What a good server never makes a client do (repeats, gaps) is counted.

export class Answer {
	constructor(attempt = 0, bytes = Buffer.alloc(0)) {
		this.attempt = attempt
		this.chunks = [bytes]
		this.length = bytes.length
		this.repeats = 0
		this.gaps = 0
		this.resets = 0
		this.deltas = 0
		this.split = 0 // deltas with a broken character
	}

	get bytes() {
		if (this.chunks.length > 1) this.chunks = [Buffer.concat(this.chunks)]
		return this.chunks[0]
	}

	get text() {
		return this.bytes.toString('utf8')
	}

	#begin(attempt) {
		if (this.length || this.attempt) this.resets++
		this.attempt = attempt
		this.chunks = [Buffer.alloc(0)]
		this.length = 0
	}

	reset({ attempt }) {
		if (attempt >= this.attempt) this.#begin(attempt)
	}

	snapshot({ attempt, text }) {
		const bytes = Buffer.from(text ?? '')
		if (attempt < this.attempt) return
		this.attempt = attempt
		this.chunks = [bytes]
		this.length = bytes.length
	}

	/** False: a gap; ask again from (attempt, length). */
	delta({ attempt, at, text }) {
		const bytes = Buffer.from(text)
		this.deltas++
		if (text.includes('\uFFFD')) this.split++
		if (attempt < this.attempt) return true
		if (attempt > this.attempt) this.#begin(attempt)
		if (at > this.length) {
			this.gaps++
			return false
		}
		if (at < this.length) this.repeats++
		const fresh = bytes.subarray(this.length - at)
		this.chunks.push(fresh)
		this.length += fresh.length
		return true
	}
}
