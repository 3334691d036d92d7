// Providers that mix, repeat and name the parts of an answer in their own ways, and what the official SDKs make of it behind the front:
// whole and streamed. The providers are made here: each path of one server tells the events of one case.

import Anthropic from '@anthropic-ai/sdk'
import assert from 'node:assert/strict'
import http from 'node:http'
import OpenAI from 'openai'
import { OwnPools, route } from '../support/own_pools.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test } from '../support/test.mjs'

const stack = await Stack.open()
let own
let server

// ── what the providers say ──

const chunk = (delta, finish_reason = null) => ({ choices: [{ index: 0, delta, finish_reason }] })
const calls = (...tool_calls) => chunk({ tool_calls })
const piece = (index, text, id, name) => ({ index, id, type: id && 'function', function: { name, arguments: text } })
const block = (index, content_block) => ({ type: 'content_block_start', index, content_block })
const delta = (index, type, member, text) => ({ type: 'content_block_delta', index, delta: { type, [member]: text } })
const stop = (index) => ({ type: 'content_block_stop', index })
const message = (stop_reason, ...events) => [
	{ type: 'message_start', message: { usage: { input_tokens: 5, output_tokens: 1 } } },
	...events,
	{ type: 'message_delta', delta: { stop_reason }, usage: { output_tokens: 9 } },
	{ type: 'message_stop' },
]
const SIGNATURE = 'Eq'.repeat(700) + '=='
const REDACTED = 'Qz'.repeat(3000) + '='

const CASES = {
	repeated: { kind: 'openai', events: [...Array.from('{"city":"' + 'x'.repeat(150) + '"}', (c) => calls(piece(0, c, 'call_1', 'weather'))), chunk({}, 'tool_calls'), '[DONE]'] },
	mixed: {
		kind: 'openai',
		events: [calls(piece(0, '', 'A', 'fa'), piece(1, '', 'B', 'fb')), calls(piece(0, '{"a":')), calls(piece(1, '{"b":')), calls(piece(0, '1}')), calls(piece(1, '2}')), chunk({}, 'tool_calls'), '[DONE]'],
	},
	list: {
		kind: 'openai',
		events: [chunk({ role: 'assistant', content: '' }), chunk({ content: [{ type: 'thinking', thinking: [{ type: 'text', text: 'hm ' }] }] }), chunk({ content: [{ type: 'text', text: 'the answer' }] }), chunk({}, 'stop'), '[DONE]'],
	},
	functions: { kind: 'openai', events: [chunk({ function_call: { name: 'f', arguments: '{"a"' } }), chunk({ function_call: { arguments: ':1}' } }), chunk({}, 'function_call'), '[DONE]'] },
	lost: { kind: 'openai', events: [chunk({ role: 'assistant', content: '' }), chunk({}, 'tool_calls'), '[DONE]'] },
	numbered: { kind: 'openai', events: [{ error: { message: 'max context 4096 exceeded', type: 'BadRequestError', param: null, code: 400 } }, '[DONE]'] },
	searched: {
		kind: 'anthropic',
		events: message(
			'end_turn',
			block(0, { type: 'text', text: '' }),
			delta(0, 'text_delta', 'text', 'I look. '),
			stop(0),
			block(1, { type: 'server_tool_use', id: 's1', name: 'web_search', input: {} }),
			delta(1, 'input_json_delta', 'partial_json', '{"query":"x"}'),
			stop(1),
			block(2, { type: 'web_search_tool_result', tool_use_id: 's1', content: [] }),
			stop(2),
			block(3, { type: 'text', text: '' }),
			delta(3, 'text_delta', 'text', 'Found.'),
			stop(3),
		),
	},
	signed: {
		kind: 'anthropic',
		events: message(
			'tool_use',
			block(0, { type: 'thinking', thinking: '', signature: '' }),
			delta(0, 'thinking_delta', 'thinking', 'hm'),
			delta(0, 'signature_delta', 'signature', SIGNATURE),
			stop(0),
			block(1, { type: 'redacted_thinking', data: REDACTED }),
			stop(1),
			block(2, { type: 'thinking', thinking: '', signature: '' }),
			delta(2, 'signature_delta', 'signature', SIGNATURE),
			stop(2),
			block(3, { type: 'tool_use', id: 't1', name: 'look', input: {} }),
			delta(3, 'input_json_delta', 'partial_json', '{"a":'),
			delta(3, 'input_json_delta', 'partial_json', '1}'),
			stop(3),
		),
	},
}

function serve() {
	const answers = http.createServer((q, s) => {
		const { kind, events } = CASES[q.url.split('/')[1]]
		q.resume()
		s.writeHead(200, { 'content-type': 'text/event-stream' })
		for (const e of events) s.write(`${kind === 'anthropic' ? `event: ${e.type}\n` : ''}data: ${typeof e === 'string' ? e : JSON.stringify(e)}\n\n`)
		s.end()
	})
	return new Promise((resolve) => answers.listen(0, '127.0.0.1', () => resolve(answers)))
}

// ── what a client hears ──

const front = () => own.api.stack.front
const headers = (task) => ({ 'x-sluice-task': task })
const openai = () => new OpenAI({ baseURL: `${front()}/v1`, apiKey: stack.key, maxRetries: 0 })
const anthropic = () => new Anthropic({ baseURL: front(), apiKey: stack.key, maxRetries: 0 })
const HI = [{ role: 'user', content: 'hi' }]

/** The answer whole and put together from its stream: [{message, finish_reason}, …]. */
async function completions(task, more = {}) {
	const body = { model: 'any', messages: HI, ...more }
	const whole = await openai().chat.completions.create(body, { headers: headers(task) })
	const stream = openai().chat.completions.stream(body, { headers: headers(task) })
	return [whole.choices[0], (await stream.finalChatCompletion()).choices[0]]
}

async function messages(task, more = {}) {
	const body = { model: 'any', max_tokens: 4000, messages: HI, ...more }
	const whole = await anthropic().messages.create(body, { headers: headers(task) })
	return [whole, await anthropic().messages.stream(body, { headers: headers(task) }).finalMessage()]
}

const fault = async (task) => (await own.api.ended((await own.api.accepted({ kind: 'chat', task, messages: HI })).id)).fault
const called = (choice) => choice.message.tool_calls.map((c) => [c.id, c.function.name, c.function.arguments])

test('a tool call whose id every piece repeats is one call', async () => {
	for (const choice of await completions('repeated')) {
		assert.deepEqual(called(choice), [['call_1', 'weather', `{"city":"${'x'.repeat(150)}"}`]])
		assert.equal(choice.finish_reason, 'tool_calls')
	}
})

test('two tool calls whose pieces are mixed are two calls', async () => {
	const expected = [['A', 'fa', '{"a":1}'], ['B', 'fb', '{"b":2}']]
	for (const choice of await completions('mixed')) assert.deepEqual(called(choice), expected)
	for (const r of await messages('mixed')) {
		assert.deepEqual(
			r.content.map((c) => [c.id, c.name, JSON.stringify(c.input)]),
			expected,
		)
		assert.equal(r.stop_reason, 'tool_use')
	}
})

test('a content that is a list is the answer’s text and thinking', async () => {
	for (const choice of await completions('list')) assert.equal(choice.message.content, 'the answer')
	for (const r of await messages('list')) {
		const said = r.content.map((c) => [c.type, c.text ?? c.thinking])
		assert.deepEqual(said, [['thinking', 'hm '], ['text', 'the answer']])
	}
})

test('who asks in functions is answered in functions, who does not in tool calls', async () => {
	const functions = [{ name: 'f', parameters: { type: 'object', properties: {} } }]
	for (const choice of await completions('functions', { functions })) {
		assert.equal(choice.message.function_call.name, 'f')
		assert.equal(choice.message.function_call.arguments, '{"a":1}')
		assert.equal(choice.message.tool_calls, undefined)
		assert.equal(choice.finish_reason, 'function_call')
	}
	const [whole] = await completions('functions')
	assert.deepEqual(called(whole), [['', 'f', '{"a":1}']])
	assert.equal(whole.finish_reason, 'tool_calls')
})

test('an end that speaks of a call where none came is a fault', async () => {
	assert.equal((await fault('lost')).name, 'provider_malformed')
})

test('an error inside a 200 whose code is a status means what the status means', async () => {
	const { name, message } = await fault('numbered')
	assert.deepEqual([name, message], ['provider_bad_request', 'max context 4096 exceeded'])
})

test('what a tool of the provider’s own does and finds is no text', async () => {
	for (const r of await messages('searched')) assert.equal(r.content.map((c) => c.text).join(''), 'I look. Found.')
})

test('thinking comes with its signature, and redacted thinking as it was', async () => {
	for (const r of await messages('signed')) {
		assert.deepEqual(r.content, [
			{ type: 'thinking', thinking: 'hm', signature: SIGNATURE },
			{ type: 'redacted_thinking', data: REDACTED },
			{ type: 'thinking', thinking: '', signature: SIGNATURE },
			{ type: 'tool_use', id: 't1', name: 'look', input: { a: 1 } },
		])
	}
	for (const choice of await completions('signed')) {
		assert.deepEqual(called(choice), [['t1', 'look', '{"a":1}']])
		assert.ok(!choice.message.content, choice.message.content)
	}
})

test('what could not be given back is refused by its name', async () => {
	const refused = async (promise) => {
		const e = await promise.then(() => assert.fail('taken'), (e) => e)
		assert.equal(e.status, 400, String(e))
		return e.message
	}
	const tool = (type) => [{ type, name: 'x' }]
	for (const type of ['web_search_20250305', 'web_fetch_20250910', 'code_execution_20250825'])
		assert.match(await refused(anthropic().messages.create({ model: 'any', max_tokens: 9, messages: HI, tools: tool(type) })), new RegExp(`tools\\[0\\]\\.type: ${type}`))
	assert.match(await refused(anthropic().messages.create({ model: 'any', max_tokens: 9, messages: HI, mcp_servers: [{ type: 'url' }] })), /mcp_servers/)
	for (const r of await messages('signed', { tools: tool('bash_20250124') })) assert.equal(r.stop_reason, 'tool_use')
	assert.match(await refused(openai().chat.completions.create({ model: 'any', messages: HI, tools: [{ type: 'custom', custom: { name: 'x' } }] })), /tools\[0\]\.type/)
	assert.match(await refused(openai().chat.completions.create({ model: 'any', messages: HI, modalities: ['text', 'audio'] })), /modalities/)
})

await run(import.meta.url, {
	before: async () => {
		server = await serve()
		const url = (name) => `http://127.0.0.1:${server.address().port}/${name}`
		const accounts = Object.entries(CASES).map(([name, { kind }]) => `  - name: ${name}\n    kind: ${kind}\n    base_url: "${url(name)}"\n    key_file: ${stack.dir}/keys/openai\n    http: "1.1"\n`)
		const routes = Object.keys(CASES).map((name) => route(name, [[name, 'any']]))
		own = await OwnPools.open(stack, 'parts', routes.join(''), { all: [] }, accounts.join(''))
	},
	after: async () => {
		await own.close()
		server.close()
	},
})
