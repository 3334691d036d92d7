// What no honest client sends: after each of these the next request is served, by the same process.

import assert from 'node:assert/strict'
import { answer } from '../support/answer.mjs'
import { Api, chat } from '../support/api.mjs'
import { Raw } from '../support/http.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'

const stack = await Stack.open()
const api = new Api(stack)
const pid = stack.pid('sluice-front-1')
const AUTH = `host: x\r\nauthorization: Bearer ${stack.key}\r\n`
const JSON_TYPE = 'content-type: application/json\r\n'
const GOOD = JSON.stringify(chat('good', 'ttft=0 rate=0 tokens=5'))

async function served() {
	const r = await api.call('GET', '/v1/models')
	assert.equal(r.status, 200)
	assert.equal(stack.pid('sluice-front-1'), pid, 'the same process')
}

/** Sends bytes on a connection of its own and returns the first answer (null: closed without one). */
async function send(...pieces) {
	const raw = await Raw.open(stack.front)
	raw.write(...pieces)
	try {
		return await raw.next()
	} finally {
		raw.close()
	}
}

const post = (body, more = '') => `POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}${more}content-length: ${Buffer.byteLength(body)}\r\n\r\n`

test('headers that do not come to an end: 408 after ten seconds', async () => {
	const raw = await Raw.open(stack.front)
	raw.write(`GET /v1/models HTTP/1.1\r\n${AUTH}x-slow: `)
	const begun = Date.now()
	const r = await raw.next({ limit_ms: 15000 })
	assert.equal(r?.status, 408)
	assert.ok(Date.now() - begun > 8000)
	await raw.closed()
}, { limit_ms: 20000, background: true })

test('headers that trickle in, a byte now and then, are cut off as well', async () => {
	const raw = await Raw.open(stack.front)
	raw.write('GET /v1/models HTTP/1.1\r\nx-slow: ')
	const drip = setInterval(() => raw.write('a'), 500)
	try {
		assert.equal((await raw.next({ limit_ms: 15000 }))?.status, 408)
	} finally {
		clearInterval(drip)
		raw.close()
	}
}, { limit_ms: 20000, background: true })

test('a body that falls silent: 408 after thirty seconds', async () => {
	const raw = await Raw.open(stack.front)
	raw.write(`POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}content-length: 1000\r\n\r\n{"kind":`)
	assert.equal((await raw.next({ limit_ms: 38000 }))?.status, 408)
	await raw.closed()
}, { limit_ms: 45000, background: true })

test('bodies that are not JSON: 400 with the byte of the mistake', async () => {
	for (const [body, offset] of [
		['', 0],
		['x', 0],
		['{', 1],
		['{"kind":"chat"', 14],
		['{"kind":"chat",}', 15],
		['{"a":01}', 6],
		["{'a':1}", 1],
		['{"a":1}x', 7],
		['{"a":NaN}', 5],
		['[1,]', 3],
		['{"a":"\u0001"}', 6],
		['{"a":"\\x"}', 7],
		['{"a":1,"a":2}', undefined],
	]) {
		const r = await api.submit(body, { 'content-type': 'application/json' })
		assert.equal(r.status, 400, `${body}: ${r.text}`)
		assert.ok(['invalid_json', 'invalid_request', 'unknown_field'].includes(r.json.error.code), r.text)
		if (offset !== undefined) {
			assert.equal(r.json.error.code, 'invalid_json', `${body}: ${r.text}`)
			assert.ok(Math.abs(r.json.error.offset - offset) <= 1, `${body}: offset ${r.json.error.offset}, not ${offset}`)
		}
	}
	await served()
})

test('invalid UTF-8, in values, keys and surrogates: 400', async () => {
	for (const bytes of [
		Buffer.concat([Buffer.from('{"kind":"chat","model":"'), Buffer.from([0xff, 0xfe]), Buffer.from('"}')]),
		Buffer.concat([Buffer.from('{"'), Buffer.from([0xc3]), Buffer.from('":1}')]),
		Buffer.concat([Buffer.from('{"kind":"'), Buffer.from([0xed, 0xa0, 0x80]), Buffer.from('"}')]),
		Buffer.concat([Buffer.from('{"kind":"'), Buffer.from([0xc0, 0xaf]), Buffer.from('"}')]),
		Buffer.from('{"kind":"\\ud800"}'),
	]) {
		const r = await api.submit(bytes, { 'content-type': 'application/json' })
		assert.equal(r.status, 400, r.text)
	}
	await served()
})

test('deep nesting: 400, in arrays, objects and metadata', async () => {
	for (const body of [
		'['.repeat(100000),
		'['.repeat(400000) + ']'.repeat(400000),
		'{"a":'.repeat(100000) + '1' + '}'.repeat(100000),
		`{"kind":"chat","model":"gpt-4o","messages":[{"role":"user","content":"x"}],"metadata":${'{"a":'.repeat(2000)}1${'}'.repeat(2000)}}`,
	]) {
		const r = await api.submit(body, { 'content-type': 'application/json' })
		assert.equal(r.status, 400, r.text.slice(0, 200))
	}
	await served()
})

test('numbers at the edge do not become something else', async () => {
	for (const n of ['9223372036854775808', '-9223372036854775809', '1e400', '1e18', '4294967297', '0.1']) {
		const r = await api.submit(`{"kind":"chat","model":"gpt-4o","messages":[{"role":"user","content":"x"}],"max_tokens":${n}}`)
		assert.equal(r.status, 400, `${n}: ${r.text}`)
	}
	await served()
})

test('a body of 10 MiB: 413, announced, streamed or in chunks', async () => {
	const big = Buffer.alloc(10 << 20, 0x61)
	const announced = await send(`POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}content-length: ${big.length}\r\n\r\n`, big)
	assert.equal(announced?.status, 413)
	assert.equal(JSON.parse(announced.body).error.code, 'too_large')
	const chunk = Buffer.concat([Buffer.from('10000\r\n'), Buffer.alloc(0x10000, 0x61), Buffer.from('\r\n')])
	const chunked = await send(`POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}transfer-encoding: chunked\r\n\r\n`, ...Array(40).fill(chunk))
	assert.equal(chunked?.status, 413)
	const huge = await send(`POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}content-length: 99999999999999\r\n\r\n`)
	assert.equal(huge?.status, 413)
	await served()
})

test('headers of 1 MiB, a line of 1 MiB, a hundred and one fields: 431', async () => {
	const fields = (n) => Array.from({ length: n }, (_, i) => `x-${i}: 1\r\n`).join('')
	for (const [what, bytes] of [
		['one field', `GET /v1/models HTTP/1.1\r\n${AUTH}x-big: ${'a'.repeat(1 << 20)}\r\n\r\n`],
		['many fields', `GET /v1/models HTTP/1.1\r\n${AUTH}${fields(60000)}\r\n`],
		['101 fields', `GET /v1/models HTTP/1.1\r\n${AUTH}${fields(99)}\r\n`],
		['a long target', `GET /${'a'.repeat(1 << 20)} HTTP/1.1\r\n${AUTH}\r\n`],
	]) {
		const r = await send(bytes)
		assert.ok(r && [431, 414].includes(r.status), `${what}: ${r?.status}`)
	}
	const just = await send(`GET /v1/models HTTP/1.1\r\n${AUTH}${fields(90)}\r\n`)
	assert.equal(just.status, 200)
	await served()
})

test('shapes of request smuggling: a 4xx, and the connection is closed', async () => {
	const tail = 'GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n'
	for (const [what, text] of [
		['length and coding', `POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${tail}`],
		['coding and length', `POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n${tail}`],
		['two lengths', `POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}content-length: 2\r\ncontent-length: 3\r\n\r\n{}${tail}`],
		['the same length twice', `POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}content-length: 2\r\ncontent-length: 2\r\n\r\n{}${tail}`],
		['a list of lengths', `POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}content-length: 2, 2\r\n\r\n{}${tail}`],
		['a length with a sign', `POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}content-length: +2\r\n\r\n{}${tail}`],
		['a length below zero', `POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}content-length: -2\r\n\r\n{}${tail}`],
		['a length in hex', `POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}content-length: 0x2\r\n\r\n{}${tail}`],
		['a length that overflows', `POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}content-length: 18446744073709551618\r\n\r\n{}${tail}`],
		['bare line feeds', `GET /v1/models HTTP/1.1\n${AUTH.replaceAll('\r\n', '\n')}\n`],
		['a bare line feed in a field', `GET /v1/models HTTP/1.1\r\nhost: x\nx: y\r\n\r\n`],
		['a bare carriage return', `GET /v1/models HTTP/1.1\r\nhost: x\rx: y\r\n\r\n`],
		['a folded field', `GET /v1/models HTTP/1.1\r\nhost: x\r\nx: a\r\n b\r\n\r\n`],
		['a blank before the colon', `POST /v1/jobs HTTP/1.1\r\n${AUTH}content-length : 2\r\n\r\n{}${tail}`],
		['a blank before the first field', `GET /v1/models HTTP/1.1\r\n host: x\r\n\r\n`],
		['another coding', `POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n${tail}`],
		['a coding that only looks like it', `POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n${tail}`],
		['chunked twice', `POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n${tail}`],
		['coding in HTTP/1.0', `POST /v1/jobs HTTP/1.0\r\n${AUTH}${JSON_TYPE}transfer-encoding: chunked\r\n\r\n0\r\n\r\n${tail}`],
		['a chunk size that is none', `POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}transfer-encoding: chunked\r\n\r\nzz\r\n\r\n${tail}`],
		['a chunk size that overflows', `POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n${tail}`],
		['a chunk that is too long', `POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}transfer-encoding: chunked\r\n\r\n2\r\n{}x\r\n0\r\n\r\n${tail}`],
		['two hosts', `GET /v1/models HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n`],
		['no host', `GET /v1/models HTTP/1.1\r\nauthorization: Bearer ${stack.key}\r\n\r\n`],
		['a zero byte in a field', `GET /v1/models HTTP/1.1\r\nhost: x\r\nx: a\0b\r\n\r\n`],
		['a field without a name', `GET /v1/models HTTP/1.1\r\nhost: x\r\n: b\r\n\r\n`],
		['no version', `GET /v1/models\r\n\r\n`],
		['a version of tomorrow', `GET /v1/models HTTP/9.9\r\nhost: x\r\n\r\n`],
		['no request at all', `\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03`.padEnd(600, '\x00')],
		['noise', `${'\xff\xfe\x00'.repeat(300)}\r\n\r\n`],
	]) {
		const raw = await Raw.open(stack.front)
		raw.write(Buffer.from(text, 'latin1'))
		const r = await raw.next().catch((e) => assert.fail(`${what}: ${e.message}`))
		assert.ok(r && ((r.status >= 400 && r.status < 500) || [501, 505].includes(r.status)), `${what}: ${r?.status}`)
		await raw.closed().catch(() => assert.fail(`${what}: the connection was left open`))
		assert.ok(!raw.buffer.includes('HTTP/1.1 2'), `${what}: what followed was served`)
		raw.close()
	}
	await served()
})

test('the server’s own refusals are JSON with a request id', async () => {
	const r = await send(`GET /v1/jobs HTTP/1.1\r\nhost: x\r\nx: a\r\n b\r\n\r\n`)
	assert.match(r.headers['x-request-id'] ?? '', /^req_/)
	const { error } = JSON.parse(r.body)
	assert.equal(error.type, 'invalid_request')
	assert.equal(error.request_id, r.headers['x-request-id'])
})

test('the server’s own refusals speak the dialect of their path, and say what was wrong', async () => {
	const head = (path, more) => `POST ${path} HTTP/1.1\r\n${AUTH}${JSON_TYPE}${more}\r\n`
	const length = 'content-length: 99999999\r\n'
	const both = 'content-length: 5\r\ntransfer-encoding: chunked\r\n'
	for (const [status, bytes, code] of [
		[413, (path) => head(path, length), 'too_large'],
		[400, (path) => head(path, both), 'invalid_request'],
		[431, (path) => head(path, `x: ${'a'.repeat(40000)}\r\n`), 'headers_too_large'],
		[501, (path) => head(path, '').replace('POST', 'BREW'), 'not_supported'],
		[505, (path) => head(path, '').replace('HTTP/1.1', 'HTTP/9.9'), 'invalid_request'],
		[405, (path) => head(path, '').replace('POST', 'PATCH'), 'method_not_allowed'],
		[415, (path) => head(path, 'content-encoding: gzip\r\ncontent-length: 2\r\n'), 'unsupported_media_type'],
	]) {
		const native = await send(bytes('/v1/jobs'))
		assert.equal(native?.status, status, `native: ${native?.body}`)
		const n = JSON.parse(native.body).error
		assert.equal(n.code, code)
		assert.equal(n.request_id, native.headers['x-request-id'])
		const openai = await send(bytes('/v1/chat/completions'))
		assert.equal(openai?.status, status)
		const o = JSON.parse(openai.body)
		assert.deepEqual(Object.keys(o), ['error'])
		assert.deepEqual(Object.keys(o.error).sort(), ['code', 'message', 'param', 'type'])
		assert.equal(o.error.type, 'invalid_request_error')
		assert.equal(o.error.code, code)
		assert.match(openai.headers['x-request-id'], /^req_/)
		const anthropic = await send(bytes('/v1/messages'))
		assert.equal(anthropic?.status, status)
		const a = JSON.parse(anthropic.body)
		assert.equal(a.type, 'error')
		assert.equal(a.error.type, status === 413 ? 'request_too_large' : 'invalid_request_error')
		assert.ok(a.error.message)
		assert.equal(a.request_id, anthropic.headers['request-id'])
		if (bytes('/x').includes(both)) assert.match(a.error.message, /content-length and transfer-encoding were both sent/)
		if (status === 415) assert.equal(anthropic.headers['accept-encoding'], 'identity')
	}
	const plain = await send(post(GOOD, 'content-encoding: identity\r\n'), GOOD)
	assert.equal(plain.status, 202)
	await served()
})

test('a client that shuts its side behind its request still gets the answer; one that waits or streams has hung up', async () => {
	const half = async (...pieces) => {
		const raw = await Raw.open(stack.front)
		for (const p of pieces) raw.socket.write(p)
		raw.socket.end()
		return raw
	}
	for (const [status, ...pieces] of [
		[200, `GET /v1/models HTTP/1.1\r\n${AUTH}\r\n`],
		[200, `GET /v1/jobs?limit=1 HTTP/1.1\r\n${AUTH}\r\n`],
		[202, post(GOOD), GOOD],
		[400, post('{}'), '{}'],
	]) {
		const raw = await half(...pieces)
		assert.equal((await raw.next())?.status, status, pieces[0].slice(0, 30))
		await raw.closed()
	}
	const many = await half(Array(40).fill(`GET /v1/models HTTP/1.1\r\n${AUTH}\r\n`).join(''))
	for (let i = 0; i < 40; i++) assert.equal((await many.next())?.status, 200, `answer ${i}`)
	await many.closed()
	const before = (await stack.calls()).open
	const { id } = await api.accepted(chat('waited for', 'ttft=3000 rate=0 tokens=5'))
	for (const path of [`/v1/jobs/${id}?wait=20`, `/v1/jobs/${id}/events`]) {
		const raw = await half(`GET ${path} HTTP/1.1\r\n${AUTH}\r\n`)
		await raw.closed()
		assert.ok(!raw.buffer.includes('"succeeded"'), path)
	}
	await api.cancel(id)
	await until('the cancelled call is hung up', async () => (await stack.calls()).open <= before)
	const body = JSON.stringify({ model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'Leave [sim ttft=20000 rate=0 tokens=9]' }] })
	const raw = await Raw.open(stack.front)
	raw.write(`POST /v1/chat/completions HTTP/1.1\r\n${AUTH}${JSON_TYPE}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
	await until('the provider is asked', async () => (await stack.calls()).open > before)
	raw.socket.end()
	await until('its call is hung up', async () => (await stack.calls()).open <= before)
	await served()
})

test('half a request and the end: closed, nothing accepted', async () => {
	for (const text of ['G', 'GET /v1/mod', `GET /v1/models HTTP/1.1\r\nhost`, `${post(GOOD)}${GOOD.slice(0, 20)}`]) {
		const raw = await Raw.open(stack.front)
		raw.write(text)
		raw.socket.end()
		await raw.closed()
		assert.ok(!raw.buffer.includes('HTTP/1.1 2'))
		raw.close()
	}
	await served()
})

test('a body in chunks, in pieces of one byte, with a trailer: 202', async () => {
	const raw = await Raw.open(stack.front)
	raw.write(`POST /v1/jobs HTTP/1.1\r\n${AUTH}${JSON_TYPE}transfer-encoding: chunked\r\n\r\n`)
	const bytes = Buffer.from(GOOD)
	let chunks = ''
	for (let i = 0; i < bytes.length; i += 7) {
		const piece = bytes.subarray(i, i + 7)
		chunks += `${piece.length.toString(16)};ext=1\r\n${piece.toString('latin1')}\r\n`
	}
	for (const b of Buffer.from(`${chunks}0\r\nx-trailer: 1\r\n\r\n`, 'latin1')) raw.write(Buffer.from([b]))
	const r = await raw.next()
	assert.equal(r.status, 202, r.body)
	raw.write(`GET /v1/models HTTP/1.1\r\n${AUTH}\r\n`)
	assert.equal((await raw.next()).status, 200, 'the connection goes on')
	raw.close()
	const j = await api.ended(JSON.parse(r.body).id)
	assert.equal(j.result.text, answer('claude-sonnet-4-5', JSON.parse(GOOD).messages[0].content, 5))
})

test('Expect: 100-continue is answered before the body; another expectation is a 417', async () => {
	const raw = await Raw.open(stack.front)
	raw.write(post(GOOD, 'expect: 100-continue\r\n'))
	assert.equal((await raw.next()).status, 100)
	raw.write(GOOD)
	assert.equal((await raw.next()).status, 202)
	raw.close()
	const refused = await Raw.open(stack.front)
	refused.write(`POST /v1/jobs HTTP/1.1\r\nhost: x\r\n${JSON_TYPE}expect: 100-continue\r\ncontent-length: 5\r\n\r\n`)
	assert.equal((await refused.next()).status, 401, 'no key: no body is asked for')
	refused.close()
	const r = await send(post(GOOD, 'expect: wonders\r\n'), GOOD)
	assert.equal(r?.status, 417)
	await served()
})

test('pipelined requests are answered in their order', async () => {
	const raw = await Raw.open(stack.front)
	const get = (path) => `GET ${path} HTTP/1.1\r\n${AUTH}\r\n`
	let text = ''
	const want = []
	for (let i = 0; i < 40; i++) {
		text += i % 3 === 0 ? get('/v1/models') : i % 3 === 1 ? get('/v1/nothing') : `${post(GOOD)}${GOOD}`
		want.push([200, 404, 202][i % 3])
	}
	raw.write(text)
	for (const [i, status] of want.entries()) assert.equal((await raw.next()).status, status, `answer ${i}`)
	raw.close()
	await served()
})

test('methods, media types and paths that are none', async () => {
	const r = await api.call('PATCH', '/v1/jobs')
	assert.equal(r.status, 405)
	assert.ok(r.headers.get('allow').includes('POST'))
	assert.equal((await api.submit(GOOD, { 'content-type': 'text/plain' })).status, 415)
	assert.equal((await api.submit(GOOD, { 'content-type': 'application/json; charset=utf-8' })).status, 202)
	for (const path of ['/', '/v1', '/v1/', '/v1/jobs/', '/v1/jobs//events', '/v2/jobs', '/v1/jobs/x/y', '//v1/jobs', '/v1/jobs/../models', '/%2e%2e/etc/passwd'])
		assert.ok([404, 405].includes((await send(`GET ${path} HTTP/1.1\r\n${AUTH}\r\n`)).status), path)
	for (const method of ['BREW', 'get', 'TRACE', 'CONNECT']) {
		const answered = await send(`${method} /v1/jobs HTTP/1.1\r\n${AUTH}\r\n`)
		assert.ok(answered && [400, 405, 404, 501].includes(answered.status), `${method}: ${answered?.status}`)
	}
	const head = await Raw.open(stack.front)
	head.write(`HEAD /v1/models HTTP/1.1\r\n${AUTH}\r\nGET /v1/models HTTP/1.1\r\n${AUTH}\r\n`)
	assert.equal((await head.next({ head: true })).status, 200)
	assert.equal((await head.next()).status, 200, 'no body came with HEAD')
	head.close()
	await served()
})

test('query strings that are none', async () => {
	for (const q of ['?wait=', '?wait=x', '?wait=-1', '?wait=1e9', '?wait=%zz', '?%00=1', '?wait=1&wait=2', `?${'a=1&'.repeat(3000)}`]) {
		const r = await api.get('job_00000000000000000000000000', q)
		assert.ok([400, 404].includes(r.status), `${q.slice(0, 20)}: ${r.status}`)
	}
	await served()
})

test('HTTP/1.0 is answered and closed; Connection: close is kept', async () => {
	for (const text of [`GET /v1/models HTTP/1.0\r\n${AUTH}\r\n`, `GET /v1/models HTTP/1.1\r\n${AUTH}connection: close\r\n\r\n`]) {
		const raw = await Raw.open(stack.front)
		raw.write(text)
		assert.equal((await raw.next()).status, 200)
		await raw.closed()
		raw.close()
	}
})

test('a thousand connections that say nothing do not keep the others out', async () => {
	const idle = await Promise.all(Array.from({ length: 1000 }, () => Raw.open(stack.front)))
	await served()
	for (const raw of idle) raw.close()
	await served()
})

test('what is bad on the compatible routes is told in their dialects', async () => {
	const o = await api.call('POST', '/v1/chat/completions', { body: '{"model":' })
	assert.equal(o.status, 400)
	assert.equal(typeof o.json.error.message, 'string')
	assert.equal(o.json.error.type, 'invalid_request_error')
	const a = await api.call('POST', '/v1/messages', { body: '{"model":', headers: { 'anthropic-version': '2023-06-01' } })
	assert.equal(a.status, 400)
	assert.equal(a.json.type, 'error')
	assert.equal(a.json.error.type, 'invalid_request_error')
	for (const n of ['10000001', '9007199254740992', '9223372036854775807', '18446744073709551615']) {
		const body = `{"model":"claude-haiku-4-5","messages":[{"role":"user","content":"x"}],"max_tokens":${n}}`
		for (const path of ['/v1/chat/completions', '/v1/messages']) {
			const r = await api.call('POST', path, { body, headers: { 'anthropic-version': '2023-06-01' } })
			assert.equal(r.status, 400, `${path} ${n}: ${r.text}`)
			assert.match(r.json.error.message, /max_tokens/)
		}
	}
	await served()
})

await run(import.meta.url)
