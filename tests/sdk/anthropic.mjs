// The official `@anthropic-ai/sdk` package, unmodified but for the base URL, against the front and against the simulator.

import Anthropic from '@anthropic-ai/sdk'
import assert from 'node:assert/strict'
import { answer } from '../support/answer.mjs'
import { Api } from '../support/api.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test } from '../support/test.mjs'

const stack = await Stack.open()
const api = new Api(stack)
const MODEL = 'claude-haiku-4-5'
const HOW = '[sim ttft=0 rate=0 tokens=30]'
const PACED = '[sim ttft=30 rate=80 tokens=30]'
const sides = [
	{ name: 'front', baseURL: stack.front, apiKey: stack.key },
	{ name: 'simulator', baseURL: stack.providers.anthropic.base_url, apiKey: 'sk-ant-test' },
]
const sdk = (side, more = {}) => new Anthropic({ baseURL: side.baseURL, apiKey: side.apiKey, maxRetries: 0, ...more })
const ask = (content, more = {}) => ({ model: MODEL, max_tokens: 400, messages: [{ role: 'user', content }], ...more })

for (const side of sides) {
	const front = side.name === 'front'

	test(`${side.name}: a message, whole`, async () => {
		const r = await sdk(side).messages.create(ask(`Hello ${HOW}`))
		assert.equal(r.type, 'message')
		assert.equal(r.role, 'assistant')
		assert.equal(r.model, MODEL)
		assert.ok(r.id)
		assert.deepEqual(
			r.content.map((c) => ({ type: c.type, text: c.text })),
			[{ type: 'text', text: answer(MODEL, `Hello ${HOW}`, 30) }],
		)
		assert.equal(r.stop_reason, 'end_turn')
		assert.equal(r.stop_sequence, null)
		assert.equal(r.usage.output_tokens, 30)
		assert.equal(r.usage.input_tokens, Math.ceil(Buffer.byteLength(`Hello ${HOW}`) / 4))
		assert.ok(r._request_id)
	})

	test(`${side.name}: a message, streamed, in the grammar of events`, async () => {
		const names = []
		let text = ''
		let start
		let delta
		for await (const e of await sdk(side).messages.create(ask(`Stream ${PACED}`, { stream: true }))) {
			if (e.type !== 'ping' && names.at(-1) !== e.type) names.push(e.type)
			if (e.type === 'message_start') start = e.message
			if (e.type === 'content_block_start') assert.equal(e.index, 0)
			if (e.type === 'content_block_delta') {
				assert.equal(e.delta.type, 'text_delta')
				text += e.delta.text
			}
			if (e.type === 'message_delta') delta = e
		}
		assert.deepEqual(names, ['message_start', 'content_block_start', 'content_block_delta', 'content_block_stop', 'message_delta', 'message_stop'])
		assert.equal(text, answer(MODEL, `Stream ${PACED}`, 30))
		assert.equal(start.model, MODEL)
		assert.deepEqual(start.content, [])
		assert.equal(delta.delta.stop_reason, 'end_turn')
		assert.equal(delta.usage.output_tokens, 30)
	})

	test(`${side.name}: the stream helper puts the message together`, async () => {
		const message = await sdk(side).messages.stream(ask(`Helper ${PACED}`)).finalMessage()
		assert.equal(message.content[0].text, answer(MODEL, `Helper ${PACED}`, 30))
		assert.equal(message.stop_reason, 'end_turn')
		assert.equal(message.usage.output_tokens, 30)
	})

	test(`${side.name}: max_tokens is the stop reason`, async () => {
		const r = await sdk(side).messages.create(ask(`Cut ${HOW}`, { max_tokens: 6 }))
		assert.equal(r.stop_reason, 'max_tokens')
		assert.equal(r.content[0].text, answer(MODEL, `Cut ${HOW}`, 6))
	})

	test(`${side.name}: a system prompt, as text and in blocks, and the turns before reach the provider`, async () => {
		for (const system of ['You mark essays.', [{ type: 'text', text: 'You mark essays.' }]]) {
			const r = await sdk(side).messages.create({
				model: MODEL,
				max_tokens: 99,
				system,
				messages: [
					{ role: 'user', content: 'one' },
					{ role: 'assistant', content: 'two' },
					{ role: 'user', content: [{ type: 'text', text: `three ${HOW}` }] },
				],
			})
			assert.equal(r.usage.input_tokens, Math.ceil(Buffer.byteLength(`You mark essays.onetwothree ${HOW}`) / 4))
			assert.equal(r.content[0].text, answer(MODEL, `three ${HOW}`, 30))
		}
	})

	test(`${side.name}: tools and other fields are passed through; a bad tool is the provider’s 400`, async () => {
		const tool = { name: 'mark', description: 'marks', input_schema: { type: 'object', properties: {} } }
		const r = await sdk(side).messages.create(ask(`Tools ${HOW}`, { tools: [tool], tool_choice: { type: 'auto' }, stop_sequences: ['@@@'], metadata: { user_id: 'u1' } }))
		assert.equal(r.content[0].text, answer(MODEL, `Tools ${HOW}`, 30))
		await assert.rejects(sdk(side).messages.create(ask(`Bad ${HOW}`, { tools: [{ description: 'no name' }] })), Anthropic.BadRequestError)
	})

	test(`${side.name}: models`, async () => {
		const ids = []
		for await (const m of sdk(side).models.list()) {
			assert.equal(m.type, 'model')
			assert.ok(m.display_name)
			ids.push(m.id)
		}
		assert.ok(ids.includes(MODEL), ids.join())
		assert.equal((await sdk(side).models.retrieve(MODEL)).id, MODEL)
		await assert.rejects(sdk(side).models.retrieve('no-such-model'), Anthropic.NotFoundError)
	})

	test(`${side.name}: error classes, with the dialect’s fields`, async () => {
		const bad = await sdk(side, { apiKey: 'sk-bad' }).messages.create(ask('x')).catch((e) => e)
		assert.ok(bad instanceof Anthropic.AuthenticationError, String(bad))
		assert.equal(bad.error.error.type, 'authentication_error')
		const model = await sdk(side).messages.create({ ...ask('x'), model: 'no-such-model' }).catch((e) => e)
		assert.ok(model instanceof Anthropic.NotFoundError, String(model))
		assert.equal(model.error.error.type, 'not_found_error')
		for (const body of [{ model: MODEL, max_tokens: 5 }, ask('x', { max_tokens: undefined }), ask('x', { max_tokens: 'many' }), ask('x', { messages: [] }), ask('x', { messages: [{ role: 'boss', content: 'x' }] })]) {
			const e = await sdk(side).messages.create(body).catch((e) => e)
			assert.ok(e instanceof Anthropic.BadRequestError, `${JSON.stringify(body)}: ${e}`)
			assert.equal(e.error.type, 'error')
			assert.equal(e.error.error.type, 'invalid_request_error')
			assert.ok(e.requestID, 'a request id')
		}
	})

	test(`${side.name}: an error in mid-stream reaches the caller as an error`, async () => {
		const content = 'Break [sim ttft=0 rate=0 tokens=30 fail=5]'
		let text = ''
		await assert.rejects(async () => {
			for await (const e of await sdk(side).messages.create(ask(content, { stream: true }))) if (e.type === 'content_block_delta') text += e.delta.text
		}, Anthropic.APIError)
		assert.ok(answer(MODEL, content, 30).startsWith(text))
	})

	test(`${side.name}: a provider that fails is a 5xx class`, async () => {
		const e = await sdk(side).messages.create(ask('Down [sim status=500]')).catch((e) => e)
		assert.ok(e instanceof Anthropic.InternalServerError, String(e))
	}, { limit_ms: 60000 })

	if (!front) {
		test('simulator: a 429 is a RateLimitError', async () => {
			const e = await sdk(side).messages.create(ask('Much [sim status=429]')).catch((e) => e)
			assert.ok(e instanceof Anthropic.RateLimitError, String(e))
		})
		continue
	}

	test('front: the older way to send the key works too', async () => {
		const r = await fetch(`${side.baseURL}/v1/messages`, {
			method: 'POST',
			headers: { 'x-api-key': side.apiKey, 'anthropic-version': '2023-06-01', 'content-type': 'application/json' },
			body: JSON.stringify(ask(`Old ${HOW}`)),
		})
		assert.equal(r.status, 200, await r.clone().text())
		assert.equal((await r.json()).content[0].text, answer(MODEL, `Old ${HOW}`, 30))
	})

	test('front: anthropic-version is needed and known; the newest takes no sampling parameters', async () => {
		const send = (version, more = {}) =>
			api.call('POST', '/v1/messages', { body: ask(`Version ${HOW}`, more), headers: version ? { 'anthropic-version': version } : {} })
		for (const version of ['2023-01-01', '2023-06-01', '2026-10-21']) assert.equal((await send(version)).status, 200, version)
		assert.equal((await send('2023-06-01', { temperature: 0.5 })).status, 200)
		for (const [version, more, what] of [
			[undefined, {}, 'anthropic-version'],
			['2020-02-02', {}, 'anthropic-version'],
			['2026-10-21', { temperature: 1 }, 'temperature'],
			['2026-10-21', { top_p: 1 }, 'top_p'],
			['2026-10-21', { top_k: 5 }, 'top_k'],
		]) {
			const r = await send(version, more)
			assert.equal(r.status, 400, r.text)
			assert.equal(r.json.type, 'error')
			assert.equal(r.json.error.type, 'invalid_request_error')
			assert.ok(r.json.error.message.startsWith(what), r.text)
			assert.equal(r.json.request_id, r.headers.get('request-id'))
		}
	})

	test('front: models in pages, forwards and backwards; unknown query keys are ignored', async () => {
		const headers = { 'anthropic-version': '2023-06-01' }
		const list = async (query) => (await api.call('GET', `/v1/models?${query}`, { headers })).json
		const all = (await list('limit=1000')).data.map((m) => m.id)
		assert.ok(all.length > 2)
		const paged = []
		for await (const m of sdk(side).models.list({ limit: 1 })) paged.push(m.id)
		assert.deepEqual(paged, all)
		const first = await list('limit=2&colour=red')
		assert.deepEqual(first.data.map((m) => m.id), all.slice(0, 2))
		assert.equal(first.has_more, true)
		assert.equal(first.last_id, all[1])
		const rest = await list(`limit=1000&after_id=${all[1]}`)
		assert.deepEqual(rest.data.map((m) => m.id), all.slice(2))
		assert.equal(rest.has_more, false)
		const back = await list(`limit=1&before_id=${all[2]}`)
		assert.deepEqual(back.data.map((m) => m.id), [all[1]])
		assert.equal(back.has_more, true)
		const none = await list(`before_id=${all[0]}`)
		assert.deepEqual([none.data, none.first_id, none.last_id, none.has_more], [[], null, null, false])
		for (const bad of ['limit=0', 'limit=x', 'limit=1001', 'after_id=nobody', 'before_id=nobody', `after_id=${all[0]}&before_id=${all[1]}`]) {
			const r = await api.call('GET', `/v1/models?${bad}`, { headers })
			assert.equal(r.status, 400, bad)
			assert.equal(r.json.error.type, 'invalid_request_error')
		}
	})

	test('front: the reply names its job and the provider; the job reads natively', async () => {
		const { data, response } = await sdk(side).messages.create(ask(`Names ${HOW}`)).withResponse()
		assert.equal(response.headers.get('x-sluice-provider'), 'anthropic')
		const j = await api.ended(response.headers.get('x-sluice-job'))
		assert.equal(j.result.text, data.content[0].text)
	})

	test('front: a model of the other dialect answers as well', async () => {
		const model = 'gpt-4o-mini'
		const r = await sdk(side).messages.create({ ...ask(`Cross ${PACED}`, { system: 'Be brief.' }), model })
		assert.equal(r.content[0].text, answer(model, `Cross ${PACED}`, 30))
		assert.equal(r.stop_reason, 'end_turn')
		const m = await sdk(side).messages.stream({ ...ask(`Cross ${PACED}`), model }).finalMessage()
		assert.equal(m.content[0].text, answer(model, `Cross ${PACED}`, 30))
	})

	test('front: a client that hangs up cancels its job', async () => {
		const { data, response } = await sdk(side).messages.create(ask('Leave [sim ttft=20 rate=20 tokens=900]', { stream: true, max_tokens: 2000 })).withResponse()
		const id = response.headers.get('x-sluice-job')
		for await (const e of data) if (e.type === 'content_block_delta') break
		data.controller.abort()
		assert.equal((await api.ended(id)).status, 'cancelled')
	})

	test('front: routes whose time has not come are refused in the dialect’s shape', async () => {
		const e = await sdk(side).messages.countTokens({ model: MODEL, messages: [{ role: 'user', content: 'x' }] }).catch((e) => e)
		assert.ok(e instanceof Anthropic.BadRequestError, String(e))
		assert.equal(e.error.type, 'error')
		for (const call of [() => sdk(side).messages.batches.retrieve('msgbatch_1'), () => sdk(side).messages.batches.cancel('msgbatch_1'), () => sdk(side).messages.batches.delete('msgbatch_1')]) {
			const below = await call().catch((e) => e)
			assert.ok(below instanceof Anthropic.BadRequestError, String(below))
			assert.equal(below.error.type, 'error')
		}
	})
}

await run(import.meta.url)
