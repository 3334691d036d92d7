// HTTP/1.1 by hand, for what no client library would send.

import net from 'node:net'

export class Raw {
	/** Connects to http://host:port. */
	static async open(url) {
		const { hostname, port } = new URL(url)
		const raw = new Raw()
		raw.buffer = Buffer.alloc(0)
		raw.over = false
		raw.waiters = []
		raw.host = `${hostname}:${port}`
		raw.socket = net.connect({ host: hostname, port, noDelay: true })
		raw.socket.on('data', (d) => {
			raw.buffer = Buffer.concat([raw.buffer, d])
			raw.#wake()
		})
		const end = () => {
			raw.over = true
			raw.#wake()
		}
		raw.socket.on('end', end).on('close', end).on('error', end)
		await new Promise((resolve, reject) => raw.socket.once('connect', resolve).once('error', reject))
		return raw
	}

	#wake() {
		for (const w of this.waiters.splice(0)) w()
	}

	write(...pieces) {
		for (const p of pieces) if (!this.over) this.socket.write(p)
	}

	close() {
		this.socket.destroy()
	}

	/** More bytes or the end. False: the peer closed. */
	async #more(limit_ms) {
		if (this.over) return false
		await new Promise((resolve, reject) => {
			const timer = setTimeout(() => reject(new Error(`nothing for ${limit_ms} ms`)), limit_ms)
			this.waiters.push(() => {
				clearTimeout(timer)
				resolve()
			})
		})
		return true
	}

	/** The next answer: {status, headers (lower case), body}, or null when the peer closed without one. */
	async next({ limit_ms = 5000, head = false } = {}) {
		let end
		while ((end = this.buffer.indexOf('\r\n\r\n')) < 0) {
			if (!(await this.#more(limit_ms))) {
				if (this.buffer.length && this.buffer.indexOf('\r\n\r\n') < 0)
					throw new Error(`closed within a head: ${JSON.stringify(this.buffer.toString('latin1').slice(0, 200))}`)
				if (!this.buffer.length) return null
			}
		}
		const [first, ...lines] = this.buffer.subarray(0, end).toString('latin1').split('\r\n')
		this.buffer = this.buffer.subarray(end + 4)
		const m = /^HTTP\/1\.1 (\d{3}) ?(.*)$/.exec(first)
		if (!m) throw new Error(`not a status line: ${first}`)
		const answer = { status: Number(m[1]), headers: {}, body: '' }
		for (const line of lines) {
			const colon = line.indexOf(':')
			answer.headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim()
		}
		if (head || answer.status < 200 || answer.status === 204 || answer.status === 304) return answer
		if (answer.headers['transfer-encoding'] === 'chunked') answer.body = await this.#chunked(limit_ms)
		else answer.body = await this.#take(Number(answer.headers['content-length'] ?? 0), limit_ms)
		return answer
	}

	async #take(n, limit_ms) {
		while (this.buffer.length < n)
			if (!(await this.#more(limit_ms))) throw new Error('closed within a body')
		const bytes = this.buffer.subarray(0, n)
		this.buffer = this.buffer.subarray(n)
		return bytes.toString('utf8')
	}

	async #line(limit_ms) {
		let end
		while ((end = this.buffer.indexOf('\r\n')) < 0)
			if (!(await this.#more(limit_ms))) throw new Error('closed within a chunked body')
		const line = this.buffer.subarray(0, end).toString('latin1')
		this.buffer = this.buffer.subarray(end + 2)
		return line
	}

	async #chunked(limit_ms) {
		let body = ''
		for (;;) {
			const size = parseInt(await this.#line(limit_ms), 16)
			if (size) body += await this.#take(size, limit_ms)
			await this.#line(limit_ms)
			if (!size) return body
		}
	}

	/** Waits until the peer has closed; what it still said is dropped. */
	async closed(limit_ms = 5000) {
		while (await this.#more(limit_ms));
	}
}
