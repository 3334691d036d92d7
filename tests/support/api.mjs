// Jobs over HTTP as a client's own code would do it.

import { answer } from './answer.mjs'
import { Answer } from './follow.mjs'
import { events } from './sse.mjs'
import { pass, until } from './test.mjs'

export const ENDED = ['succeeded', 'failed', 'expired', 'cancelled']

/** A chat job whose answer the simulator gives as `how` says (tests/sim/README.md). */
export function chat(text, how = 'ttft=0 rate=0 tokens=20', more = {}) {
	return { kind: 'chat', model: 'claude-sonnet-4-5', messages: [{ role: 'user', content: `${text} [sim ${how}]` }], ...more }
}

/** What the simulator answers to such a job. */
export const said = (job, tokens = 20, model = job.model) => answer(model, job.messages.at(-1).content, tokens)

export class Api {
	constructor(stack, key = stack.key) {
		this.stack = stack
		this.key = key
	}

	/** {status, headers, text, json}; json is undefined where the body is none. */
	async call(method, path, { body, headers = {}, key = this.key, signal } = {}) {
		const h = { ...headers }
		if (key) h.authorization = `Bearer ${key}`
		const raw = typeof body === 'string' || Buffer.isBuffer(body)
		if (body !== undefined && !('content-type' in h)) h['content-type'] = 'application/json'
		const response = await fetch(this.stack.front + path, {
			method,
			headers: h,
			body: body === undefined || raw ? body : JSON.stringify(body),
			signal,
		})
		const text = await response.text()
		let json
		try {
			json = JSON.parse(text)
		} catch {
			json = undefined
		}
		return { status: response.status, headers: response.headers, text, json }
	}

	submit(job, headers) {
		return this.call('POST', '/v1/jobs', { body: job, headers })
	}

	/** Submits and insists on the 202; returns its body. */
	async accepted(job, headers) {
		const r = await this.submit(job, headers)
		if (r.status !== 202) throw new Error(`not accepted: ${r.status} ${r.text.slice(0, 300)}`)
		return r.json
	}

	/** Makes a session; its id. */
	async session(body = { task: 'chat' }) {
		return (await this.call('POST', '/v1/sessions', { body })).json.id
	}

	get(id, query = '') {
		return this.call('GET', `/v1/jobs/${id}${query}`)
	}

	cancel(id) {
		return this.call('DELETE', `/v1/jobs/${id}`)
	}

	/** The job once it has ended. */
	async ended(id, limit_ms = 30000) {
		const end = Date.now() + limit_ms
		for (;;) {
			const r = await this.get(id, '?wait=20')
			if (r.status === 200 && ENDED.includes(r.json.status)) return r.json
			if (Date.now() > end) throw new Error(`${id} has not ended: ${r.status} ${r.text.slice(0, 300)}`)
		}
	}

	/** A job's events from a position ("attempt:byte"), or from the beginning. Throws where the answer is not a stream. */
	async *events(id, { after, query = '', signal } = {}) {
		const headers = { authorization: `Bearer ${this.key}`, accept: 'text/event-stream' }
		if (after !== undefined) headers['last-event-id'] = after
		const response = await fetch(`${this.stack.front}/v1/jobs/${id}/events${query}`, { headers, signal })
		if (response.status !== 200) {
			const e = new Error(`events: ${response.status} ${(await response.text()).slice(0, 300)}`)
			e.status = response.status
			throw e
		}
		yield* events(response)
	}

	/** Follows a job to its end, connecting again as often as needed; returns {answer, end, reconnects}. */
	async follow(id, { answer = new Answer(), signal, limit_ms = 120000, seen } = {}) {
		const until_ms = Date.now() + limit_ms
		let after = answer.attempt ? `${answer.attempt}:${answer.length}` : undefined
		for (let reconnects = 0; ; reconnects++) {
			try {
				for await (const e of this.events(id, { after, signal })) {
					if (e.id) after = e.id
					seen?.(e)
					if (e.event === 'reset') answer.reset(e.data)
					if (e.event === 'delta' && !answer.delta(e.data)) break
					if (e.event === 'result' || e.event === 'fault') return { answer, end: e, reconnects }
				}
			} catch (e) {
				if (signal?.aborted || (e.status && e.status !== 503)) throw e
			}
			if (Date.now() > until_ms) throw new Error(`${id}: no end after ${limit_ms} ms`)
			await pass(50)
		}
	}

	/** Rows of results of these jobs: Map job -> [{status, attempt, answer: Buffer}]. */
	async results(jobs) {
		const rows = new Map()
		for (let i = 0; i < jobs.length; i += 500) {
			const list = jobs.slice(i, i + 500).map((j) => `'${j}'`)
			const q = `SELECT job, status, attempt, encode(answer, 'hex'), answer_blob FROM results WHERE job IN (${list})`
			for (const [job, status, attempt, hex, blob] of await this.stack.sql(q)) {
				const row = { status, attempt: Number(attempt), answer: Buffer.from(hex, 'hex'), blob }
				rows.set(job, [...(rows.get(job) ?? []), row])
			}
		}
		return rows
	}

	/** Waits until each of these jobs has its row. */
	async recorded(jobs, limit_ms = 30000) {
		let rows
		await until(`${jobs.length} jobs have their row in results`, async () => (rows = await this.results(jobs)).size === jobs.length, limit_ms)
		return rows
	}
}
