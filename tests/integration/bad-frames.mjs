// What no honest client sends over the WebSocket, and more than one may ask: each is refused as the protocol says, by the same process.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { deflateRawSync } from 'node:zlib'
import { Api, chat, said } from '../support/api.mjs'
import { closeCode, frame, greeted, header, upgraded } from '../support/frames.mjs'
import { Raw } from '../support/http.mjs'
import { rss_kib } from '../support/slow.mjs'
import { Stack } from '../support/stack.mjs'
import { pass, run, test, until } from '../support/test.mjs'
import { Clients } from '../support/ws.mjs'

const stack = await Stack.open()
const api = new Api(stack)
const pushPid = stack.pid('sluice-push-1')
const clients = new Clients(stack)
const rss = () => rss_kib(pushPid) * 1024

/** A refusal over HTTP has the native shape and the request's id. */
function refused(r, code) {
	const { error } = JSON.parse(r.body)
	assert.match(r.headers['x-request-id'], /^req_/)
	assert.equal(r.headers['request-id'], r.headers['x-request-id'])
	assert.equal(error.request_id, r.headers['x-request-id'])
	assert.equal(error.code, code)
	for (const field of ['type', 'message', 'param', 'offset']) assert.ok(field in error, field)
}

test('careless messages are faults and the connection stays', async () => {
	const { client } = await clients.hello()
	await client.faulted('{"op":')
	await client.faulted('[]')
	await client.faulted({ op: 'dance' })
	await client.faulted({ op: 'submit', job: chat('no ref') })
	await client.faulted({ op: 'submit', ref: 'x'.repeat(65), job: chat('x') })
	const e = await client.faulted({ op: 'submit', ref: 'nojob' })
	assert.equal(e.ref, 'nojob')
	await client.faulted({ op: 'attach', jobs: Array.from({ length: 257 }, () => ({ id: 'job_00000000000000000000000000' })) })
	await client.faulted({ op: 'cancel' })
	client.send({ op: 'ping' })
	await client.next((e) => e.ev === 'pong')
})

test('a mistake in hello closes with 3501, and the reason names it', async () => {
	for (const [message, reason] of [
		[{ op: 'hello', protocol: 1 }, /"protocol" is not a known field of hello/],
		[{ op: 'hello', token: 7 }, /"token" of hello is of the wrong type/],
		[{ op: 'hello', jobs: [{ id: 'job_00000000000000000000000000', attempt: 1 }] }, /attempt and at stand together/],
		[{ op: 'hello', ['é'.repeat(100)]: 1 }, /"é+" is not a known field/],
		['{"op":', /Not valid JSON at byte/],
		[{ op: 'ping' }, /the first message must be hello/],
		[{ op: 'audio_end', ref: 'a' }, /the first message must be hello/],
	]) {
		const client = await clients.open()
		client.send(message)
		const closed = await client.closed
		assert.equal(closed.code, 3501)
		assert.match(closed.reason, reason)
	}
})

test('what cannot be read is answered with its ref, and in whole characters', async () => {
	const { client } = await clients.hello()
	const half = await client.faulted({ op: 'submit', ref: 'half', job: chat('I like it 😀'.slice(0, -1)) })
	assert.equal(half.ref, 'half')
	assert.match(half.message, /lone surrogate/)
	assert.equal((await client.faulted(`{"op":"submit","ref":"deep","job":${'['.repeat(65)}`)).ref, 'deep')
	assert.equal((await client.faulted('{"op":"submit","ref":"one","ref":"two","job":{}}')).ref, undefined)
	const key = 'ö'.repeat(30)
	assert.equal((await client.faulted(`{"op":"submit","ref":"twice","job":{"${key}":1,"${key}":2}}`)).ref, 'twice')
	const good = await client.submit('half', chat('Whole: 😀'))
	assert.equal((await client.end(good)).ev, 'result')
})

test('what is not built yet is refused by name: binary frames, audio', async () => {
	const { client } = await clients.hello()
	await client.faulted(Buffer.from([1, 2, 3]), 'not_supported')
	await client.faulted({ op: 'audio', ref: 'a1', type: 'audio/webm', live: true, job: { kind: 'voice' } }, 'not_supported')
	client.send({ op: 'ping' })
	await client.next((e) => e.ev === 'pong')
})

test('ten bad messages in a minute close with 3501', async () => {
	const { client } = await clients.hello()
	for (let i = 0; i < 10; i++) client.send({ op: 'dance' })
	const { code, reason } = await client.closed
	assert.equal(code, 3501)
	assert.ok(reason)
})

test('hostile frames are closed with the RFC’s code', async () => {
	const table = [
		['without a mask', frame(0x81, '{}', { mask: false }), 1002],
		['a reserved bit', frame(0xc1, '{}'), 1002],
		['two reserved bits', frame(0xb1, '{}'), 1002],
		['a reserved opcode', frame(0x83, '{}'), 1002],
		['a continuation of nothing', frame(0x80, '{}'), 1002],
		['a fragmented ping', frame(0x09, 'x'), 1002],
		['text that is not UTF-8', frame(0x81, Buffer.from([0x7b, 0xff, 0xfe])), 1007],
		['a length with its highest bit set', Buffer.from([0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4]), 1002],
		['more text than is taken', Buffer.from([0x81, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4, 0x7a]), 1009],
		['a close code that is reserved', frame(0x88, Buffer.from([0x03, 0xed])), 1002],
	]
	const counted = async (code) => (await stack.metrics('sluice-push-1')).get(`sluice_push_closed_total{code="${code}"}`) ?? 0
	const codes = [1002, 1007, 1009]
	const before = await Promise.all(codes.map(counted))
	for (const [what, bytes, code] of table) {
		const { raw, head } = await upgraded(stack)
		assert.equal(head.status, 101)
		raw.write(bytes)
		assert.equal(await closeCode(raw).catch((e) => e.message), code, what)
		raw.close()
	}
	const after = await Promise.all(codes.map(counted))
	for (const [i, code] of codes.entries()) assert.equal(after[i] - before[i], table.filter((row) => row[2] === code).length, `${code} in the metrics`)
})

test('who answers no ping is closed with 3004, counted, and in the log', async () => {
	const node = await stack.morePush('sluice-push-idle', 'push.ping_ms=1000')
	try {
		const { raw } = await upgraded(stack, '', node.http)
		assert.equal(await closeCode(raw), 3004)
		assert.equal((await stack.metrics(node.id)).get('sluice_push_closed_total{code="3004"}'), 1)
		assert.match(readFileSync(`${stack.logs}/${node.id}.log`, 'utf8'), /closing.*code=3004/)
		raw.close()
	} finally {
		await node.end()
	}
}, { limit_ms: 20000 })

test('before hello a message is small and text, judged by its header', async () => {
	for (const [what, bytes, code] of [
		['text over 64 KiB', header(0x81, 65537), 1009],
		['fragments over 64 KiB', Buffer.concat([frame(0x01, 'x'.repeat(100)), header(0x80, 65500)]), 1009],
		['binary', header(0x82, 24 << 20), 1003],
		['a little binary', frame(0x82, 'x'), 1003],
	]) {
		const { raw } = await upgraded(stack)
		raw.write(bytes)
		assert.equal(await closeCode(raw).catch((e) => e.message), code, what)
		raw.close()
	}
})

test('a binary message is refused by name at its header, and not kept', async () => {
	const { raw } = await upgraded(stack)
	const next = await greeted(raw)
	const size = 24 << 20
	raw.write(header(0x82, size))
	const e = await next('fault')
	assert.equal(e.name, 'not_supported')
	assert.match(e.ref, /^bin-/)
	const before = rss()
	const piece = Buffer.alloc(1 << 20, 1)
	for (let sent = 0; sent < size; sent += piece.length) {
		if (sent === 20 << 20) {
			await until('it was read', () => raw.socket.writableLength === 0)
			assert.ok(rss() - before < 8 << 20, `${rss() - before} bytes more`)
		}
		raw.write(piece)
	}
	raw.write(frame(0x81, '{"op":"ping"}'))
	await next('pong')
	raw.write(header(0x82, (25 << 20) + 1))
	assert.equal(await closeCode(raw), 1009)
	raw.close()
})

test('text over the limit is refused at its header', async () => {
	const { raw } = await upgraded(stack)
	await greeted(raw)
	raw.write(header(0x81, (1 << 20) + 1))
	assert.equal(await closeCode(raw), 1009)
	raw.close()
})

test('above max_connections an upgrade is a 503 that says when to come again', async () => {
	const small = await stack.morePush('sluice-push-small', 'push.max_connections=1')
	try {
		const { client } = await clients.hello({}, { url: small.url })
		const { raw, head: r } = await upgraded(stack, '', small.http)
		assert.equal(r.status, 503)
		assert.ok(Number(r.headers['retry-after']) > 0)
		assert.ok(Number(r.headers['retry-after-ms']) > 0)
		raw.close()
		await client.close()
		await until('there is room again', async () => {
			const again = await upgraded(stack, '', small.http)
			again.raw.close()
			return again.head.status === 101
		})
	} finally {
		await small.end()
	}
})

test('a page of an origin that is not in the list is a 403; a client without one is no page', async () => {
	const strict = await stack.morePush('sluice-push-strict', 'push.origins=https://a.example https://b.example')
	try {
		for (const [origin, status] of [['https://b.example', 101], ['https://c.example', 403], ['null', 403], ['', 403]]) {
			const { raw, head: r } = await upgraded(stack, `origin: ${origin}\r\n`, strict.http)
			assert.equal(r.status, status, origin)
			raw.close()
		}
		await clients.hello({}, { url: strict.url })
	} finally {
		await strict.end()
	}
})

test('a packed message that unpacks to more than the limit closes with 1009; packed nonsense with 1007', async () => {
	const offer = 'sec-websocket-extensions: permessage-deflate\r\n'
	const bomb = deflateRawSync(Buffer.alloc(1 << 20, 0x20))
	for (const [payload, code] of [[bomb, 1009], [Buffer.from('ffffff', 'hex'), 1007]]) {
		const { raw, head } = await upgraded(stack, offer)
		assert.match(head.headers['sec-websocket-extensions'], /^permessage-deflate/)
		raw.write(payload.length > 125 ? Buffer.concat([header(0xc1, payload.length), payload]) : frame(0xc1, payload))
		assert.equal(await closeCode(raw), code)
		raw.close()
	}
})

test('an upgrade that is none is refused, and a path or method that is none', async () => {
	const url = stack.push.replace('ws:', 'http:')
	const key = `sec-websocket-key: ${randomBytes(16).toString('base64')}\r\n`
	for (const [what, text] of [
		['no key', `GET /v1/ws HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n\r\n`],
		['a bad key', `GET /v1/ws HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: abc\r\n\r\n`],
		['an old version', `GET /v1/ws HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 8\r\n${key}\r\n`],
		['no upgrade', `GET /v1/ws HTTP/1.1\r\nhost: x\r\n\r\n`],
		['a POST', `POST /v1/ws HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n`],
		['another path', `GET /v1/other HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n${key}\r\n`],
	]) {
		const raw = await Raw.open(url)
		raw.write(text)
		const r = await raw.next()
		assert.ok(r.status >= 400 && r.status < 500, `${what}: ${r.status}`)
		refused(r, what === 'another path' ? 'not_found' : 'invalid_request')
		raw.close()
	}
	const raw = await Raw.open(url)
	raw.write(`GET /v1/ws HTTP/1.1\r\nhost: x\r\nx-long: ${'x'.repeat(40000)}\r\n\r\n`)
	const r = await raw.next()
	assert.equal(r.status, 431)
	refused(r, 'headers_too_large')
	raw.close()
})

test('attaches that nobody reads cost the socket’s queue, and a stored answer comes in frames of 64 KiB', async () => {
	const tokens = 200000
	const job = chat('stored and long', `ttft=0 rate=0 tokens=${tokens}`, { max_tokens: 250000 })
	const { id } = await api.accepted(job)
	await api.recorded([id])
	await stack.redis_cli('DEL', `j:{${id}}`, `out:{${id}}:1`)
	const { client } = await clients.hello()
	client.gapless = false
	const before = rss()
	client.ws.pause()
	for (let i = 0; i < 40; i++) {
		client.send({ op: 'attach', jobs: [{ id }] })
		await pass(25)
		assert.ok(rss() - before < 8 << 20, `${rss() - before} bytes more after ${i} attaches`)
	}
	client.ws.resume()
	await client.end(id)
	await client.next((e) => e.ev === 'snapshot')
	for (const e of client.events) assert.ok(Buffer.byteLength(e.text ?? '') <= 65536, `${e.ev} of ${Buffer.byteLength(e.text ?? '')} bytes`)
	const whole = Buffer.from(said(job, tokens))
	let at = 1000
	while ((whole[at] & 0xc0) === 0x80) at++
	const next = await clients.hello()
	next.client.gapless = false
	next.client.send({ op: 'attach', jobs: [{ id, attempt: 1, at }] })
	await next.client.next((e) => e.ev === 'resumed')
	await next.client.end(id)
	const text = next.client.events.filter((e) => e.ev === 'delta').map((e) => e.text).join('')
	assert.ok(whole.subarray(at).equals(Buffer.from(text)))
})

test('the jobs that attaches name count against what a connection may ask in a second', async () => {
	const { client } = await clients.hello()
	const unknown = (n) => Array.from({ length: 256 }, (_, i) => ({ id: `job_${String(n * 256 + i).padStart(26, '0')}` }))
	const began = performance.now()
	for (let n = 0; n < 12; n++) client.send({ op: 'attach', jobs: unknown(n) })
	client.send({ op: 'ping' })
	await client.next((e) => e.ev === 'pong', { limit_ms: 30000 })
	assert.ok(performance.now() - began > 2000, `3072 jobs in ${performance.now() - began} ms`)
	await until('all are said to be gone', () => client.events.filter((e) => e.ev === 'gone').length === 3072, 30000)
	await client.close()
})

test('the process is the one that it was at the beginning', () => {
	assert.ok(pushPid)
	assert.equal(stack.pid('sluice-push-1'), pushPid)
})

await run(import.meta.url, { after: () => clients.cut() })
