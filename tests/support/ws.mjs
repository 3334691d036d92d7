// A client of the WebSocket sluice.v1: remembers every event in order, and keeps each job's answer by the client's rule.

import assert from 'node:assert/strict'
import WebSocket from 'ws'
import { Answer } from './follow.mjs'
import { until } from './test.mjs'

export class Client {
	/** Connects; `key` goes into the header unless it is null. Throws {status} where the upgrade is refused. */
	static async open(stack, { key = stack.key, protocols = [], headers = {}, url = stack.push, packed = false } = {}) {
		const c = new Client()
		c.events = []
		c.answers = new Map()
		c.ended = new Map()
		c.waiters = []
		c.gapless = true // attach again after a gap
		const h = { ...headers }
		if (key) h.authorization = `Bearer ${key}`
		c.ws = new WebSocket(url, protocols, { headers: h, perMessageDeflate: packed })
		c.closed = new Promise((resolve) => c.ws.on('close', (code, reason) => resolve({ code, reason: reason.toString() })))
		c.closed.then((how) => {
			c.over = how
			c.#wake()
		})
		c.ws.on('message', (data, binary) => c.#take(data, binary))
		await new Promise((resolve, reject) => {
			c.ws.once('open', resolve)
			c.ws.once('unexpected-response', (_, res) => {
				const e = new Error(`the upgrade was refused: ${res.statusCode}`)
				e.status = res.statusCode
				c.ws.terminate()
				reject(e)
			})
			c.ws.once('error', reject)
		})
		c.ws.on('error', () => {})
		return c
	}

	/** Connects and says hello; returns {client, welcome}. */
	static async hello(stack, hello = {}, options = {}) {
		const client = await Client.open(stack, options)
		client.send({ op: 'hello', ...hello })
		const welcome = await client.next((e) => e.ev === 'welcome')
		return { client, welcome }
	}

	#wake() {
		for (const w of this.waiters.splice(0)) w()
	}

	#take(data, binary) {
		if (binary) throw new Error('a binary frame from the server')
		const e = JSON.parse(data.toString())
		this.events.push(e)
		if (e.job) {
			const a = this.answer(e.job)
			if (e.ev === 'delta' && !a.delta(e)) {
				if (this.gapless) this.send({ op: 'attach', jobs: [{ id: e.job, attempt: a.attempt, at: a.length }] })
			} else if (e.ev === 'reset') a.reset(e)
			else if (e.ev === 'snapshot') a.snapshot(e)
			else if (e.ev === 'result') {
				if (typeof e.text === 'string' && !a.length) a.snapshot(e)
				this.ended.set(e.job, e)
			} else if (e.ev === 'fault' && e.status) this.ended.set(e.job, e)
		}
		this.#wake()
	}

	answer(job) {
		if (!this.answers.has(job)) this.answers.set(job, new Answer())
		return this.answers.get(job)
	}

	send(message) {
		this.ws.send(typeof message === 'string' || Buffer.isBuffer(message) ? message : JSON.stringify(message))
	}

	/** The first event, of those since `from`, that fits; waits for it. */
	async next(fits, { from = 0, limit_ms = 15000 } = {}) {
		const end = Date.now() + limit_ms
		for (let at = from; ; ) {
			for (; at < this.events.length; at++) if (fits(this.events[at])) return this.events[at]
			if (this.over) throw new Error(`closed with ${this.over.code} ${this.over.reason}; the last events: ${this.#tail()}`)
			const left = end - Date.now()
			if (left <= 0) throw new Error(`no such event in ${limit_ms} ms: ${fits}; the last: ${this.#tail()}`)
			await new Promise((resolve) => {
				const timer = setTimeout(resolve, left)
				this.waiters.push(() => {
					clearTimeout(timer)
					resolve()
				})
			})
		}
	}

	#tail() {
		return JSON.stringify(this.events.slice(-5)).slice(0, 800)
	}

	/** Submits and waits for the job's id. */
	async submit(ref, job, options) {
		const from = this.events.length
		this.send({ op: 'submit', ref, job })
		const e = await this.next((e) => e.ref === ref && (e.ev === 'accepted' || e.ev === 'fault'), { from, ...options })
		if (e.ev !== 'accepted') throw new Error(`not accepted: ${JSON.stringify(e)}`)
		return e.job
	}

	/** Waits for a job's last word. */
	async end(job, limit_ms = 30000) {
		await until(`${job} ends`, () => this.ended.has(job) || this.over, limit_ms)
		if (!this.ended.has(job)) throw new Error(`closed with ${this.over.code} before ${job} ended`)
		return this.ended.get(job)
	}

	close() {
		this.ws.close()
		return this.closed
	}

	/** Sends what is refused by that name, and returns the fault. */
	async faulted(message, name = 'invalid_request') {
		const from = this.events.length
		this.send(message)
		const e = await this.next((e) => e.ev === 'fault', { from })
		assert.equal(e.name, name, JSON.stringify(e))
		assert.ok(e.message)
		return e
	}

	/** The answer's text was given once, in order, whole. */
	whole(job, text) {
		const a = this.answer(job)
		assert.equal(a.text, text)
		assert.equal(a.repeats + a.gaps + a.split, 0, `repeats ${a.repeats}, gaps ${a.gaps}, split ${a.split}`)
	}

	/** As when the network goes: no closing handshake. */
	cut() {
		this.ws.terminate()
	}
}

/** The connections of one file, cut at its end. */
export class Clients {
	#all = []

	constructor(stack) {
		this.stack = stack
	}

	async open(options) {
		const client = await Client.open(this.stack, options)
		this.#all.push(client)
		return client
	}

	async hello(message, options) {
		const { client, welcome } = await Client.hello(this.stack, message, options)
		this.#all.push(client)
		return { client, welcome }
	}

	cut() {
		for (const client of this.#all) client.cut()
	}
}
