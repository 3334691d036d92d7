// The official `openai` package, unmodified but for the base URL, against the front and against the simulator: what works with
// the provider works here, and fails here in the same classes.

import assert from 'node:assert/strict'
import OpenAI from 'openai'
import { answer } from '../support/answer.mjs'
import { Api } from '../support/api.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'

const stack = await Stack.open()
const api = new Api(stack)
const MODEL = 'gpt-4o-mini'
const HOW = '[sim ttft=0 rate=0 tokens=30]'
const PACED = '[sim ttft=30 rate=80 tokens=30]'
const sides = [
	{ name: 'front', baseURL: `${stack.front}/v1`, apiKey: stack.key },
	{ name: 'simulator', baseURL: stack.providers.openai.base_url, apiKey: 'sk-test' },
]
const sdk = (side, more = {}) => new OpenAI({ baseURL: side.baseURL, apiKey: side.apiKey, maxRetries: 0, ...more })
const ask = (content, more = {}) => ({ model: MODEL, messages: [{ role: 'user', content }], ...more })

for (const side of sides) {
	const front = side.name === 'front'

	test(`${side.name}: a completion, whole`, async () => {
		const r = await sdk(side).chat.completions.create(ask(`Hello ${HOW}`))
		assert.equal(r.object, 'chat.completion')
		assert.equal(r.model, MODEL)
		assert.ok(r.id && r.created > 1.6e9)
		assert.equal(r.choices.length, 1)
		assert.equal(r.choices[0].message.role, 'assistant')
		assert.equal(r.choices[0].message.content, answer(MODEL, `Hello ${HOW}`, 30))
		assert.equal(r.choices[0].finish_reason, 'stop')
		assert.equal(r.usage.completion_tokens, 30)
		assert.equal(r.usage.prompt_tokens, Math.ceil(Buffer.byteLength(`Hello ${HOW}`) / 4))
		assert.equal(r.usage.total_tokens, r.usage.prompt_tokens + 30)
		assert.ok(r._request_id)
	})

	test(`${side.name}: a completion, streamed, with usage`, async () => {
		const stream = await sdk(side).chat.completions.create(ask(`Stream ${PACED}`, { stream: true, stream_options: { include_usage: true } }))
		let text = ''
		let finish
		let usage
		let chunks = 0
		for await (const c of stream) {
			assert.equal(c.object, 'chat.completion.chunk')
			assert.equal(c.model, MODEL)
			if (chunks++ === 0) assert.equal(c.choices[0].delta.role, 'assistant')
			if (c.usage) {
				assert.deepEqual(c.choices, [])
				usage = c.usage
			}
			text += c.choices[0]?.delta.content ?? ''
			finish = c.choices[0]?.finish_reason ?? finish
		}
		assert.equal(text, answer(MODEL, `Stream ${PACED}`, 30))
		assert.equal(finish, 'stop')
		assert.equal(usage.completion_tokens, 30)
		assert.ok(chunks > 4, `${chunks} chunks`)
	})

	test(`${side.name}: without include_usage no chunk carries usage`, async () => {
		for await (const c of await sdk(side).chat.completions.create(ask(`Plain ${HOW}`, { stream: true }))) {
			assert.ok(!c.usage)
			assert.equal(c.choices.length, 1)
		}
	})

	test(`${side.name}: the stream helper puts the message together`, async () => {
		const stream = sdk(side).chat.completions.stream(ask(`Helper ${PACED}`))
		assert.equal(await stream.finalContent(), answer(MODEL, `Helper ${PACED}`, 30))
	})

	test(`${side.name}: max_tokens ends with "length"`, async () => {
		const r = await sdk(side).chat.completions.create(ask(`Cut ${HOW}`, { max_tokens: 6 }))
		assert.equal(r.choices[0].finish_reason, 'length')
		assert.equal(r.choices[0].message.content, answer(MODEL, `Cut ${HOW}`, 6))
	})

	test(`${side.name}: a system prompt and the turns before reach the provider`, async () => {
		const system = 'You mark essays.'
		const r = await sdk(side).chat.completions.create({
			model: MODEL,
			messages: [
				{ role: 'system', content: system },
				{ role: 'user', content: 'one' },
				{ role: 'assistant', content: 'two' },
				{ role: 'user', content: `three ${HOW}` },
			],
		})
		assert.equal(r.usage.prompt_tokens, Math.ceil(Buffer.byteLength(`${system}onetwothree ${HOW}`) / 4))
		assert.equal(r.choices[0].message.content, answer(MODEL, `three ${HOW}`, 30))
	})

	test(`${side.name}: tools and other fields are passed through; a bad tool is the provider’s 400`, async () => {
		const tool = { type: 'function', function: { name: 'mark', description: 'marks', parameters: { type: 'object', properties: {} } } }
		const more = { tools: [tool], tool_choice: 'auto', temperature: 0.3, top_p: 0.9, seed: 7, user: 'u1', metadata: { a: 'b' } }
		const r = await sdk(side).chat.completions.create(ask(`Tools ${HOW}`, more))
		assert.equal(r.choices[0].message.content, answer(MODEL, `Tools ${HOW}`, 30))
		await assert.rejects(sdk(side).chat.completions.create(ask(`Bad ${HOW}`, { tools: [{ type: 'function', function: {} }] })), OpenAI.BadRequestError)
	})

	test(`${side.name}: content in parts`, async () => {
		const content = [{ type: 'text', text: 'Parts ' }, { type: 'text', text: HOW }]
		const r = await sdk(side).chat.completions.create(ask(content))
		assert.equal(r.choices[0].message.content, answer(MODEL, `Parts ${HOW}`, 30))
	})

	test(`${side.name}: models`, async () => {
		const ids = []
		for await (const m of sdk(side).models.list()) {
			assert.equal(m.object, 'model')
			ids.push(m.id)
		}
		assert.ok(ids.includes('gpt-5.4-mini'), ids.join())
		assert.equal((await sdk(side).models.retrieve('gpt-5.4-mini')).id, 'gpt-5.4-mini')
		await assert.rejects(sdk(side).models.retrieve('no-such-model'), OpenAI.NotFoundError)
	})

	test(`${side.name}: error classes, with the dialect’s fields`, async () => {
		const bad = await sdk(side, { apiKey: 'sk-bad' }).chat.completions.create(ask('x')).catch((e) => e)
		assert.ok(bad instanceof OpenAI.AuthenticationError, String(bad))
		assert.equal(bad.code, 'invalid_api_key')
		const model = await sdk(side).chat.completions.create({ ...ask('x'), model: 'no-such-model' }).catch((e) => e)
		assert.ok(model instanceof OpenAI.NotFoundError, String(model))
		assert.equal(model.code, 'model_not_found')
		for (const body of [{ model: MODEL }, ask('x', { temperature: 'hot' }), ask('x', { messages: [] }), ask('x', { messages: [{ role: 'boss', content: 'x' }] })]) {
			const e = await sdk(side).chat.completions.create(body).catch((e) => e)
			assert.ok(e instanceof OpenAI.BadRequestError, `${JSON.stringify(body)}: ${e}`)
			assert.equal(e.type, 'invalid_request_error')
			assert.ok(e.requestID, 'a request id')
		}
	})

	test(`${side.name}: an error in mid-stream reaches the caller as an error`, async () => {
		const content = 'Break [sim ttft=0 rate=0 tokens=30 fail=5]'
		let text = ''
		await assert.rejects(async () => {
			for await (const c of await sdk(side).chat.completions.create(ask(content, { stream: true }))) text += c.choices[0]?.delta.content ?? ''
		}, OpenAI.APIError)
		assert.ok(answer(MODEL, content, 30).startsWith(text))
	})

	test(`${side.name}: a provider that fails is a 5xx class`, async () => {
		const e = await sdk(side).chat.completions.create(ask('Down [sim status=500]')).catch((e) => e)
		assert.ok(e instanceof OpenAI.InternalServerError, String(e))
	}, { limit_ms: 60000 })

	if (!front) {
		test('simulator: choices interleave, each an answer of its own', async () => {
			const body = ask(`Many ${HOW}`, { n: 3 })
			const want = [0, 1, 2].map((i) => answer(MODEL, `Many ${HOW}`, 30, i))
			const whole = await sdk(side).chat.completions.create(body)
			assert.deepEqual(whole.choices.map((c) => [c.index, c.message.content]), want.map((text, i) => [i, text]))
			assert.equal(whole.usage.completion_tokens, 90)
			assert.equal(new Set(want).size, 3)
			const texts = ['', '', '']
			const order = []
			for await (const c of await sdk(side).chat.completions.create({ ...body, stream: true }))
				for (const choice of c.choices) {
					texts[choice.index] += choice.delta.content ?? ''
					order.push(choice.index)
				}
			assert.deepEqual(texts, want)
			assert.deepEqual(order.slice(0, 6), [0, 1, 2, 0, 1, 2])
		})

		test('simulator: every answer says what is left of the limits', async () => {
			for (const content of ['Fine [sim ttft=0 rate=0 tokens=1]', 'Much [sim status=429]', 'Down [sim status=500]', 'Wrong [sim bogus=1]']) {
				const r = await fetch(`${side.baseURL}/chat/completions`, {
					method: 'POST',
					headers: { authorization: 'Bearer sk-test' },
					body: JSON.stringify(ask(content)),
				})
				await r.text()
				for (const what of ['requests', 'tokens'])
					for (const part of ['limit', 'remaining', 'reset']) assert.ok(r.headers.get(`x-ratelimit-${part}-${what}`), `${r.status} ${part} ${what}`)
				assert.ok(/^req_[^,]*$/.test(r.headers.get('x-request-id')), r.headers.get('x-request-id'))
			}
		})

		test('simulator: a 429 is a RateLimitError and is retried by the SDK', async () => {
			const before = (await stack.calls()).failed
			const e = await sdk(side, { maxRetries: 2 }).chat.completions.create(ask('Much [sim status=429]')).catch((e) => e)
			assert.ok(e instanceof OpenAI.RateLimitError, String(e))
			await until('three calls', async () => (await stack.calls()).failed - before >= 3)
		})
		continue
	}

	test('front: the reply names its job and the provider; the job reads natively', async () => {
		const { data, response } = await sdk(side).chat.completions.create(ask(`Names ${HOW}`)).withResponse()
		assert.equal(response.headers.get('x-sluice-provider'), 'openai')
		const j = await api.ended(response.headers.get('x-sluice-job'))
		assert.equal(j.result.text, data.choices[0].message.content)
		assert.equal(j.usage.output_tokens, 30)
	})

	test('front: a model of the other dialect answers as well', async () => {
		const model = 'claude-haiku-4-5'
		const body = { ...ask(`Cross ${PACED}`, { max_tokens: 400 }), model }
		const r = await sdk(side).chat.completions.create(body)
		assert.equal(r.choices[0].message.content, answer(model, `Cross ${PACED}`, 30))
		assert.equal(r.choices[0].finish_reason, 'stop')
		let text = ''
		for await (const c of await sdk(side).chat.completions.create({ ...body, stream: true })) text += c.choices[0]?.delta.content ?? ''
		assert.equal(text, answer(model, `Cross ${PACED}`, 30))
	})

	test('front: across dialects a field that has no counterpart is refused by name', async () => {
		const e = await sdk(side).chat.completions.create({ ...ask(`x ${HOW}`, { logit_bias: { 5: 1 } }), model: 'claude-haiku-4-5' }).catch((e) => e)
		assert.ok(e instanceof OpenAI.BadRequestError, String(e))
		assert.ok(e.message.includes('logit_bias'), e.message)
	})

	test('front: a client that hangs up cancels its job', async () => {
		const stop = new AbortController()
		const { data, response } = await sdk(side)
			.chat.completions.create(ask('Leave [sim ttft=20 rate=20 tokens=900]', { stream: true }), { signal: stop.signal })
			.withResponse()
		const id = response.headers.get('x-sluice-job')
		try {
			for await (const _ of data) stop.abort()
		} catch {
			/* that was asked for */
		}
		const j = await api.ended(id)
		assert.equal(j.status, 'cancelled')
		const whole = new AbortController()
		const pending = sdk(side)
			.chat.completions.create(ask('Leave early [sim ttft=15000 rate=0 tokens=9]'), { signal: whole.signal })
			.catch((e) => e)
		const open = await until('the second call is at the provider', async () => (await stack.calls()).open)
		assert.ok(open)
		whole.abort()
		await pending
		await until('its call is hung up', async () => (await stack.calls()).open === 0)
	})

	test('front: a session by header keeps its turns in order; too many open ones are a RateLimitError', async () => {
		const session = await api.session()
		const headers = { 'x-sluice-session': session, 'x-sluice-lane': 'high' }
		const client = sdk(side, { defaultHeaders: headers })
		const all = await Promise.all(
			Array.from({ length: 10 }, (_, i) => client.chat.completions.create(ask(`s${i} [sim ttft=300 rate=0 tokens=5]`)).catch((e) => e)),
		)
		const refused = all.filter((r) => r instanceof Error)
		assert.ok(refused.length >= 1 && refused.every((e) => e instanceof OpenAI.RateLimitError), refused.join())
		assert.ok(all.length - refused.length >= 8)
	})

	test('front: an unknown lane, n above 1 and an unknown route are refused in the dialect’s shape', async () => {
		const lane = await sdk(side, { defaultHeaders: { 'x-sluice-lane': 'slow' } }).chat.completions.create(ask(`x ${HOW}`)).catch((e) => e)
		assert.ok(lane instanceof OpenAI.BadRequestError, String(lane))
		const n = await sdk(side).chat.completions.create(ask(`x ${HOW}`, { n: 2 })).catch((e) => e)
		assert.ok(n instanceof OpenAI.BadRequestError, String(n))
		assert.equal(n.param, 'n')
		const files = await sdk(side).files.list().catch((e) => e)
		assert.ok(files instanceof OpenAI.APIError, String(files))
		const client = sdk(side)
		for (const call of [
			() => client.files.retrieve('file-1'),
			() => client.files.content('file-1'),
			() => client.files.delete('file-1'),
			() => client.batches.retrieve('batch_1'),
			() => client.batches.cancel('batch_1'),
			() => client.responses.retrieve('resp_1'),
			() => client.responses.cancel('resp_1'),
			() => client.responses.inputItems.list('resp_1'),
		]) {
			const e = await call().catch((e) => e)
			assert.ok(e instanceof OpenAI.BadRequestError, `${call}: ${e}`)
			assert.equal(e.code, 'not_supported')
		}
	})

	test('front: fifty streams at once, each byte for byte', async () => {
		const client = sdk(side)
		await Promise.all(
			Array.from({ length: 50 }, async (_, i) => {
				const content = `Fifty ${i} [sim ttft=100 rate=60 tokens=40]`
				let text = ''
				for await (const c of await client.chat.completions.create(ask(content, { stream: true }))) text += c.choices[0]?.delta.content ?? ''
				assert.equal(text, answer(MODEL, content, 40))
			}),
		)
	})
}

await run(import.meta.url)
