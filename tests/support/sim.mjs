// A provider simulator of one's own (tests/sim/README.md), and clients that see more of the wire than an SDK does.

import { spawn } from 'node:child_process'
import http2 from 'node:http2'
import { fileURLToPath } from 'node:url'
import { Raw } from './http.mjs'

const TOP = fileURLToPath(new URL('../..', import.meta.url))

export class Sim {
	/** Starts one on free ports, without TLS unless the words say so; its author ends it. */
	static async open(...words) {
		const sim = new Sim()
		const tls = words.includes('--cert')
		const all = ['--listen', '127.0.0.1:0', '--control', '127.0.0.1:0', ...(tls ? [] : ['--plain']), ...words]
		sim.child = spawn(`${TOP}/${process.env.BUILD ?? 'build/release'}/bin/sluice-sim`, all, { stdio: ['ignore', 'ignore', 'pipe'] })
		sim.gone = new Promise((resolve) => sim.child.once('exit', resolve))
		sim.log = ''
		await new Promise((resolve, reject) => {
			sim.child.once('error', reject)
			sim.gone.then((status) => reject(new Error(`sluice-sim ended with ${status}: ${sim.log}`)))
			sim.child.stderr.on('data', (d) => {
				sim.log += d
				const m = /event=serving .*port=(\d+) control_port=(\d+)/.exec(sim.log)
				if (!m) return
				sim.port = Number(m[1])
				sim.url = `${tls ? 'https' : 'http'}://127.0.0.1:${m[1]}`
				sim.control = `http://127.0.0.1:${m[2]}`
				resolve()
			})
		})
		return sim
	}

	/** One that runs already, by the address of its control port: the stack's. */
	static at(control) {
		const sim = new Sim()
		sim.control = control
		return sim
	}

	/** Ends it; an end that is no clean one is an error (a sanitiser's word stands in the log). */
	async close() {
		this.child.kill('SIGTERM')
		const status = await this.gone
		if (status !== 0) throw new Error(`sluice-sim ended with ${status}: ${this.log.slice(-4000)}`)
	}

	async #control(method, path, body) {
		const r = await fetch(this.control + path, { method, body: body === undefined ? undefined : JSON.stringify(body) })
		const text = await r.text()
		if (r.status !== 200) throw new Error(`${method} ${path}: ${r.status} ${text}`)
		return JSON.parse(text)
	}

	/** Switches a fault (or several) on; answers with all that stand. */
	fault(how, more = {}) {
		return this.#control('POST', '/faults', typeof how === 'string' ? { how, ...more } : how)
	}

	faults() {
		return this.#control('GET', '/faults')
	}

	well(id) {
		return this.#control('DELETE', id ? `/faults?id=${id}` : '/faults')
	}

	quota(rule) {
		return this.#control('POST', '/quotas', rule)
	}

	quotas(query = '') {
		return this.#control('GET', `/quotas${query}`)
	}

	advance(ms) {
		return this.#control('POST', '/clock', { advance_ms: ms })
	}

	calls() {
		return this.#control('GET', '/calls')
	}

	cache() {
		return this.#control('GET', '/cache')
	}
}

/** Path, headers and body of a chat request in a dialect. */
export function request(dialect, text, { stream = true, model, key = 'sim-a', ...more } = {}) {
	const anthropic = dialect === 'anthropic'
	const body = {
		model: model ?? (anthropic ? 'claude-sonnet-4-5' : 'gpt-4.1'),
		messages: [{ role: 'user', content: text }],
		...(anthropic ? { max_tokens: 1000 } : {}),
		...(stream ? { stream: true } : {}),
		...more,
	}
	return {
		path: anthropic ? '/v1/messages' : '/v1/chat/completions',
		headers: {
			'content-type': 'application/json',
			...(anthropic ? { 'x-api-key': key, 'anthropic-version': '2023-06-01' } : { authorization: `Bearer ${key}` }),
		},
		body: JSON.stringify(body),
	}
}

/** One HTTP/2 connection. `goaways` are those that came; `over` is set when it has ended: {error}. */
export class H2 {
	static async open(url, options = {}) {
		const c = new H2()
		c.goaways = []
		c.session = http2.connect(url, options)
		c.session.on('goaway', (code, last) => c.goaways.push({ code, last }))
		c.session.on('error', (e) => (c.error = e))
		c.session.on('close', () => (c.over = { error: c.error }))
		await new Promise((resolve, reject) => c.session.once('connect', resolve).once('error', reject))
		return c
	}

	close() {
		this.session.destroy()
	}

	/**
	 * Begins a request. {status, headers, text, pieces (sizes of DATA), rst (its code), failed, ended (an orderly end), id, done}:
	 * `done` is a promise; the rest fills up meanwhile.
	 */
	begin({ path, headers, body }) {
		const stream = this.session.request({ ':method': 'POST', ':path': path, ...headers })
		const seen = { stream, bytes: Buffer.alloc(0), pieces: [], ended: false, began: performance.now() }
		Object.defineProperty(seen, 'text', { get: () => seen.bytes.toString('utf8') })
		stream.on('response', (h) => {
			seen.status = h[':status']
			seen.headers = h
			seen.id = stream.id
		})
		stream.on('data', (d) => {
			seen.first_ms ??= performance.now() - seen.began
			seen.pieces.push(d.length)
			seen.bytes = Buffer.concat([seen.bytes, d])
		})
		stream.on('end', () => (seen.ended = true))
		stream.on('error', (e) => (seen.failed = e))
		seen.done = new Promise((resolve) =>
			stream.on('close', () => {
				seen.rst = stream.rstCode
				seen.ms = performance.now() - seen.began
				resolve(seen)
			}),
		)
		stream.end(body)
		return seen
	}

	ask(req) {
		return this.begin(req).done
	}
}

/**
 * The same by HTTP/1.1 on a connection of its own: {head, text (chunks laid end to end), pieces (sizes of chunks), complete (the
 * last chunk, or the whole length), error ('ECONNRESET' …)} once the peer closed, all came, or `quiet_ms` passed in silence.
 */
export async function ask1(sim, { path, headers, body }, { quiet_ms = 3000 } = {}) {
	const raw = await Raw.open(sim.url)
	const seen = { head: null, text: '', pieces: [], complete: false, error: null, silent: false }
	raw.socket.on('error', (e) => (seen.error = e.code))
	const lines = Object.entries({ host: raw.host, ...headers, 'content-length': Buffer.byteLength(body) })
	raw.write(`POST ${path} HTTP/1.1\r\n${lines.map(([k, v]) => `${k}: ${v}\r\n`).join('')}\r\n${body}`)
	const bytes = []
	while (!read1(raw.buffer, seen) && !raw.over) {
		const before = raw.buffer.length
		await new Promise((resolve) => {
			const timer = setTimeout(resolve, quiet_ms)
			raw.socket.once('data', () => (clearTimeout(timer), resolve()))
			raw.socket.once('close', () => (clearTimeout(timer), resolve()))
		})
		if (raw.buffer.length === before && !raw.over) {
			seen.silent = true
			break
		}
	}
	read1(raw.buffer, seen)
	raw.close()
	seen.text = Buffer.concat(seen.body ?? bytes).toString('utf8')
	return seen
}

/** Reads what is there of an answer; true when it is complete. */
function read1(buffer, seen) {
	const end = buffer.indexOf('\r\n\r\n')
	if (end < 0) return false
	const [first, ...lines] = buffer.subarray(0, end).toString('latin1').split('\r\n')
	seen.head = { status: Number(first.split(' ')[1]) }
	for (const line of lines) seen.head[line.slice(0, line.indexOf(':')).toLowerCase()] = line.slice(line.indexOf(':') + 1).trim()
	seen.body = []
	seen.pieces = []
	let at = end + 4
	if (seen.head['transfer-encoding'] !== 'chunked') {
		const n = Number(seen.head['content-length'])
		seen.body.push(buffer.subarray(at, at + n))
		return (seen.complete = buffer.length >= at + n)
	}
	for (;;) {
		const line = buffer.indexOf('\r\n', at)
		if (line < 0) return false
		const n = parseInt(buffer.subarray(at, line).toString('latin1'), 16)
		if (n === 0) return (seen.complete = true)
		if (buffer.length < line + 2 + n + 2) return false
		seen.body.push(buffer.subarray(line + 2, line + 2 + n))
		seen.pieces.push(n)
		at = line + 2 + n + 2
	}
}
