// Slow readers beside others, at the real sluice-push: clients of sluice.v1 on bare sockets that cost this process little. The others follow jobs that
// stream while they look; each text is timed from Redis, where the pool published it, to the client. A slow reader takes a byte a
// second of a long answer and of such a job, and at the end, where it is asked to, all that it has missed.

import { readFileSync } from 'node:fs'
import net from 'node:net'
import { answer } from './answer.mjs'
import { Api, chat } from './api.mjs'
import { Answer } from './follow.mjs'
import { pass, until } from './test.mjs'

const LONG_TOKENS = 300000 // its text is well above what the kernel and the queue of a connection hold
const FOLLOWERS = 50 // of each job that streams

/** One connection, at a message at a time. */
class Reader {
	/** `slow`: from its welcome on; else the kernel would learn to hold all of a long answer. */
	static async open(url, key, ids, slow = false) {
		const r = new Reader()
		const { hostname, port, pathname } = new URL(url)
		Object.assign(r, { answers: new Map(), ended: new Map(), kept: Buffer.alloc(0), slow: false, slow_then: slow, upgraded: false, welcomed: false, closed: 0, heard: () => {} })
		r.socket = net.connect({ host: hostname, port: Number(port), noDelay: true })
		r.socket.on('error', () => {})
		r.socket.on('readable', () => r.slow || r.#read())
		r.socket.write(
			`GET ${pathname} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n` +
				`Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: Bearer ${key}\r\n\r\n`,
		)
		r.say({ op: 'hello', jobs: ids.map((id) => ({ id })) })
		await until('the connection has its welcome', () => r.welcomed, 60000)
		return r
	}

	/** Masked with zeros. */
	say(message) {
		const text = Buffer.from(JSON.stringify(message))
		const head = text.length < 126 ? Buffer.from([0x81, 0x80 | text.length]) : Buffer.from([0x81, 0xfe, text.length >> 8, text.length & 255])
		this.socket.write(Buffer.concat([head, Buffer.alloc(4), text]))
	}

	/** A byte. */
	sip() {
		const byte = this.socket.read(1)
		if (byte) this.kept = Buffer.concat([this.kept, byte])
	}

	catch_up() {
		this.slow = false
		this.#read()
	}

	#read() {
		for (let bytes; !this.slow && (bytes = this.socket.read()); this.#take())
			this.kept = this.kept.length ? Buffer.concat([this.kept, bytes]) : bytes
	}

	#take() {
		let at = 0
		const { kept } = this
		if (!this.upgraded) {
			const end = kept.indexOf('\r\n\r\n')
			if (end < 0) return
			this.upgraded = true
			at = end + 4
		}
		for (let n, head; kept.length - at >= 2; at += head + n) {
			n = kept[at + 1] & 127
			head = n === 127 ? 10 : n === 126 ? 4 : 2
			if (kept.length - at < head) break
			if (n === 126) n = kept.readUInt16BE(at + 2)
			else if (n === 127) n = Number(kept.readBigUInt64BE(at + 2))
			if (kept.length - at < head + n) break
			this.#frame(kept[at] & 15, kept.subarray(at + head, at + head + n))
		}
		this.kept = kept.subarray(at)
	}

	#frame(opcode, payload) {
		if (opcode === 8) this.closed = payload.readUInt16BE(0)
		if (opcode === 9) this.socket.write(Buffer.concat([Buffer.from([0x8a, 0x80 | payload.length, 0, 0, 0, 0]), payload]))
		if (opcode !== 1) return
		const e = JSON.parse(payload.toString())
		if (e.ev === 'welcome') {
			this.welcomed = true
			this.slow ||= this.slow_then
		}
		if (!e.job) return
		if (!this.answers.has(e.job)) this.answers.set(e.job, new Answer())
		const answer = this.answers.get(e.job)
		if (e.ev === 'delta') {
			this.heard(e)
			if (!answer.delta(e)) this.say({ op: 'attach', jobs: [{ id: e.job, attempt: answer.attempt, at: answer.length }] })
		} else if (e.ev === 'snapshot') answer.snapshot(e)
		else if (e.ev === 'reset') answer.reset(e)
		else if (e.ev === 'result' || (e.ev === 'fault' && e.status)) this.ended.set(e.job, e)
	}
}

/** When each text of a job was on its channel: RESP2, by SUBSCRIBE. */
class Published {
	constructor(url) {
		this.times = new Map() // `job:at` → ms
		const { hostname, port } = new URL(url)
		this.socket = net.connect({ host: hostname, port: Number(port) })
		this.kept = Buffer.alloc(0)
		this.socket.on('data', (bytes) => {
			this.kept = Buffer.concat([this.kept, bytes])
			for (let used; (used = this.#message()); ) this.kept = this.kept.subarray(used)
		})
	}

	follow(ids) {
		const words = ['SUBSCRIBE', ...ids.map((id) => `ev:${id}`)]
		this.socket.write(`*${words.length}\r\n${words.map((w) => `$${Buffer.byteLength(w)}\r\n${w}\r\n`).join('')}`)
	}

	/** One array of three; how many bytes it was, 0 where it is not whole. */
	#message() {
		let at = this.kept.indexOf('\r\n') + 2
		if (at < 2) return 0
		let last
		for (let i = 0; i < 3; i++) {
			const end = this.kept.indexOf('\r\n', at)
			if (end < 0) return 0
			const number = Number(this.kept.toString('latin1', at + 1, end))
			const string = this.kept[at] === 0x24
			at = end + 2 + (string ? number + 2 : 0)
			if (at > this.kept.length) return 0
			if (string) last = this.kept.subarray(end + 2, end + 2 + number)
		}
		const [, ev, job, , byte] = last.toString('latin1', 0, 120).split('\n')[0].split(' ')
		if (ev === 'delta' && !this.times.has(`${job}:${byte}`)) this.times.set(`${job}:${byte}`, performance.now())
		return at
	}
}

export const rss_kib = (pid) => Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)[1])
/** Processor time of its first thread, which is the loop. */
const cpu_ms = (pid) => Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6
const tcp_kib = () => Number(readFileSync('/proc/net/sockstat', 'utf8').match(/TCP: .* mem (\d+)/)[1]) * 4

export class SlowReaders {
	/** url: the node's; pid: its process. */
	constructor(stack, { url, pid, readers }) {
		Object.assign(this, { stack, url, pid, readers, api: new Api(stack), slow: [], serial: 0, name: `slow-${Date.now().toString(36)}` })
	}

	/** A job; {id, text}: what its answer must be. */
	async #post(what, how, tokens) {
		const body = chat(`${this.name} ${what} ${++this.serial}`, `${how} tokens=${tokens}`, { max_tokens: 400000 })
		const r = await this.api.call('POST', '/v1/jobs', { body })
		if (r.status !== 202) throw new Error(`not accepted: ${r.text}`)
		return { id: r.json.id, text: Buffer.from(answer(body.model, body.messages[0].content, tokens)) }
	}

	/** An answer that is longer than all queues on its way; it has ended. */
	async #long_answer() {
		const job = await this.#post('long', 'ttft=0 rate=0', LONG_TOKENS)
		await this.api.recorded([job.id], 60000)
		return job
	}

	/** `count` readers that take a byte a second from now on. */
	async add(count) {
		this.long ??= await this.#long_answer()
		for (let i = 0; i < count; i += 50) {
			const some = await Promise.all(Array.from({ length: Math.min(50, count - i) }, () => Reader.open(this.url, this.stack.key, [this.long.id], true)))
			this.slow.push(...some)
		}
		this.sipping ??= setInterval(() => this.slow.forEach((r) => r.sip()), 1000)
	}

	/** Readers that keep up follow jobs of `tokens` tokens, `rate` a second; slow ones, where there are, follow the first job too. */
	async look({ rate, tokens }) {
		const jobs = []
		for (let i = 0; i * FOLLOWERS < this.readers; i++) jobs.push(await this.#post('stream', `ttft=3000 rate=${rate}`, tokens))
		const published = new Published(this.stack.redis)
		published.follow(jobs.map((j) => j.id))
		const heard = []
		const fast = await Promise.all(
			Array.from({ length: this.readers }, async (_, i) => {
				const r = await Reader.open(this.url, this.stack.key, [jobs[i % jobs.length].id])
				r.heard = (e) => heard.push([`${e.job}:${e.at}`, performance.now()])
				return r
			}),
		)
		for (const r of this.slow) r.say({ op: 'attach', jobs: [{ id: jobs[0].id }] })
		const cpu = cpu_ms(this.pid)
		await until('each reader has its end', () => fast.every((r) => r.ended.size || r.closed), 120000)
		const used = cpu_ms(this.pid) - cpu
		await pass(100) // what Redis has said by then
		published.socket.destroy()
		const wrong = fast.filter((r, i) => !this.#has(r, jobs[i % jobs.length])).length
		const lags = heard.filter(([name]) => published.times.has(name)).map(([name, at]) => Math.max(0, at - published.times.get(name))).sort((a, b) => a - b)
		const at = (q) => lags[Math.min(lags.length - 1, Math.floor(q * lags.length))]
		for (const r of fast) r.socket.destroy()
		return { p50: at(0.5), p99: at(0.99), timed: lags.length, heard: heard.length, wrong, cpu_ms: used, rss_kib: rss_kib(this.pid), tcp_kib: tcp_kib() }
	}

	/** Each byte once. */
	#has(reader, job) {
		const a = reader.answers.get(job.id)
		return a?.bytes.equals(job.text) && a.repeats + a.gaps + a.split === 0
	}

	/** The slow ones read on, as fast as they can; how many have the long answer whole. */
	async catch_up() {
		clearInterval(this.sipping)
		for (const r of this.slow) r.catch_up()
		await until('the slow readers have their end', () => this.slow.every((r) => r.ended.has(this.long.id) || r.closed), 120000)
		return this.slow.filter((r) => this.#has(r, this.long)).length
	}

	close() {
		clearInterval(this.sipping)
		for (const r of this.slow) r.socket.destroy()
	}
}
