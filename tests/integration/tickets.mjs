// What a browser may do: tickets in place of keys, and pages of other origins that call the front.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { Api, chat } from '../support/api.mjs'
import { Raw } from '../support/http.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'
import { Client, Clients } from '../support/ws.mjs'

const stack = await Stack.open()
const api = new Api(stack)
const other = new Api(stack, stack.other_key)
const clients = new Clients(stack)

async function newTicket(session, by = api) {
	const r = await by.call('POST', '/v1/tickets', { body: { session } })
	assert.equal(r.status, 201, r.text)
	return r.json.ticket
}

const hello = (message, options = { key: null }) => clients.hello(message, options)

async function closedWith(code, message, options = { key: null }) {
	const c = await Client.open(stack, options)
	c.send({ op: 'hello', ...message })
	const over = await c.closed
	assert.equal(over.code, code, over.reason)
	assert.equal(c.events.length, 0)
	return over.reason
}

test('a ticket names when it is over, is not to be kept by caches, and opens its session', async () => {
	const session = await api.session({})
	const r = await api.call('POST', '/v1/tickets', { body: { session } })
	assert.equal(r.status, 201, r.text)
	assert.deepEqual(Object.keys(r.json).sort(), ['expires_at', 'ticket'])
	assert.match(r.json.ticket, /^tk-sluice-[0-9A-Za-z]{40}$/)
	assert.match(r.json.expires_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
	const left = Date.parse(r.json.expires_at) - Date.now()
	assert.ok(left > 50000 && left <= 60000, `${left} ms`)
	assert.equal(r.headers.get('cache-control'), 'no-store')
	const { client, welcome } = await hello({ token: r.json.ticket })
	assert.equal(welcome.session, session)
	const job = await client.submit('one', chat('by ticket'))
	assert.equal((await client.end(job)).ev, 'result')
	assert.equal((await api.get(job)).json.status, 'succeeded')
	await until('the job is its session’s', async () => (await api.call('GET', `/v1/jobs?session=${session}`)).text.includes(job))
})

test('a ticket may come as a subprotocol, in the header, or in hello', async () => {
	const session = await api.session({})
	const text = Buffer.from(await newTicket(session)).toString('base64url')
	const one = await hello({}, { key: null, protocols: ['sluice.v1', `sluice.token.${text}`] })
	assert.equal(one.welcome.session, session)
	assert.equal(one.client.ws.protocol, 'sluice.v1')
	const two = await hello({}, { key: await newTicket(session) })
	assert.equal(two.welcome.session, session)
})

test('a ticket is good once, whoever comes first', async () => {
	const session = await api.session({})
	const token = await newTicket(session)
	const all = await Promise.all(
		Array.from({ length: 8 }, async () => {
			const c = await clients.open({ key: null })
			c.send({ op: 'hello', token })
			return Promise.race([c.next((e) => e.ev === 'welcome').catch(() => c.closed), c.closed])
		}),
	)
	assert.equal(all.filter((a) => a.ev === 'welcome').length, 1)
	assert.equal(all.filter((a) => a.code === 3500).length, 7)
	assert.match(await closedWith(3500, { token }), /ticket/)
})

test('a ticket whose time is over, or that nobody made, closes with 3500', async () => {
	await closedWith(3500, { token: `tk-sluice-${'a'.repeat(40)}` })
	await closedWith(3500, { token: 'tk-sluice-short' })
	const token = await newTicket(await api.session({}))
	const left = []
	for (const key of (await stack.redis_cli('--scan', '--pattern', 't:*')).split('\n')) {
		const ms = Number(await stack.redis_cli('PTTL', key))
		left.push(ms)
		assert.ok(!key.includes(token) && !(await stack.redis_cli('GET', key)).includes('tk-sluice'), 'Redis knows its hash alone')
	}
	assert.ok(left.length && left.every((ms) => ms > 0 && ms <= 60000), `${left}`)
	for (const key of (await stack.redis_cli('--scan', '--pattern', 't:*')).split('\n')) await stack.redis_cli('PEXPIRE', key, '0')
	await closedWith(3500, { token })
})

test('a ticket is good for its session alone', async () => {
	const mine = await api.session({})
	const another = await api.session({})
	const running = await api.accepted(chat('another session', 'ttft=8000 rate=0 tokens=5', { session: another }))
	await closedWith(3503, { token: await newTicket(mine), session: another })
	const { client, welcome } = await hello({ token: await newTicket(mine), session: mine })
	assert.equal(welcome.session, mine)
	client.send({ op: 'submit', ref: 'x', job: chat('not mine', undefined, { session: another }) })
	const refused = await client.next((e) => e.ev === 'fault' && e.ref === 'x')
	assert.equal(refused.name, 'forbidden')
	client.send({ op: 'attach', jobs: [{ id: running.id }] })
	assert.equal((await client.next((e) => e.ev === 'gone')).job, running.id)
	client.send({ op: 'cancel', id: running.id })
	const fault = await client.next((e) => e.ev === 'fault' && e.job === running.id)
	assert.equal(fault.name, 'not_found')
	assert.notEqual((await api.get(running.id)).json.status, 'cancelled')
	await api.cancel(running.id)
	await api.ended(running.id)
	const from = client.events.length
	client.send({ op: 'attach', jobs: [{ id: running.id }] })
	await client.next((e) => e.ev === 'gone', { from })
	client.send({ op: 'cancel', id: running.id })
	assert.equal((await client.next((e) => e.ev === 'fault', { from })).name, 'not_found')
})

test('with a fresh ticket a browser resumes; another session’s resume token does not hold', async () => {
	const session = await api.session({})
	const first = await hello({ token: await newTicket(session) })
	const job = await first.client.submit('r', chat('resume by ticket', 'ttft=0 rate=60 tokens=60'))
	await first.client.next((e) => e.ev === 'delta')
	first.client.cut()
	const answer = first.client.answer(job)
	const at = answer.length
	const second = await hello({
		token: await newTicket(session),
		resume: first.welcome.resume,
		jobs: [{ id: job, attempt: answer.attempt, at }],
	})
	second.client.answers.set(job, answer)
	assert.equal((await second.client.next((e) => e.ev === 'resumed')).jobs[0].at, at)
	await second.client.end(job)
	assert.equal(answer.text, (await api.ended(job)).result.text)
	const apart = await api.session({})
	const third = await hello({ token: await newTicket(apart), resume: second.welcome.resume })
	assert.equal(third.welcome.session, apart)
	assert.equal((await third.client.next((e) => e.ev === 'gone')).job, undefined)
})

test('a ticket may be shown again in band, for the same session', async () => {
	const session = await api.session({})
	const { client } = await hello({ token: await newTicket(session) })
	client.send({ op: 'token', token: await newTicket(session) })
	assert.ok(await client.submit('after', chat('still here')))
	client.send({ op: 'token', token: await newTicket(await api.session({})) })
	assert.equal((await client.closed).code, 3503)
	const keyed = await hello({}, {})
	keyed.client.send({ op: 'token', token: await newTicket(session) })
	assert.equal((await keyed.client.closed).code, 3503)
})

test('a ticket is no key: the front does not take it', async () => {
	const token = await newTicket(await api.session({}))
	const r = await api.call('GET', '/v1/jobs', { key: token })
	assert.equal(r.status, 401)
})

test('what is wrong with the question for a ticket is named', async () => {
	const session = await api.session({})
	const ask = async (body, status, code, headers) => {
		const r = await api.call('POST', '/v1/tickets', { body, headers })
		assert.equal(r.status, status, r.text)
		assert.equal(r.json.error.code, code, r.text)
		return r
	}
	assert.equal((await ask({}, 400, 'invalid_request')).json.error.param, 'session')
	await ask({ session: 7 }, 400, 'invalid_request')
	await ask({ session: 'ses_short' }, 400, 'invalid_request')
	await ask({ session, ttl_s: 5 }, 400, 'unknown_field')
	await ask('{', 400, 'invalid_json')
	await ask('[]', 400, 'invalid_request')
	await ask({ session: 'ses_00000000000000000000000000' }, 404, 'not_found')
	const theirs = await other.call('POST', '/v1/tickets', { body: { session } })
	assert.equal(theirs.status, 404, 'another organisation’s session')
	await api.call('DELETE', `/v1/sessions/${session}`)
	await ask({ session }, 404, 'not_found')
})

test('the same Idempotency-Key brings the same ticket', async () => {
	const session = await api.session({})
	const headers = { 'idempotency-key': `tickets-${session}` }
	const one = await api.call('POST', '/v1/tickets', { body: { session }, headers })
	const two = await api.call('POST', '/v1/tickets', { body: { session }, headers })
	assert.equal(two.status, 201)
	assert.equal(two.text, one.text)
	assert.equal(two.headers.get('idempotent-replayed'), 'true')
	const none = { 'idempotency-key': `none-${session}` }
	const body = { session: 'ses_00000000000000000000000000' }
	assert.equal((await api.call('POST', '/v1/tickets', { body, headers: none })).status, 404)
	const again = await api.call('POST', '/v1/tickets', { body, headers: none })
	assert.equal(again.status, 404)
	assert.equal(again.headers.get('idempotent-replayed'), 'true')
})

test('without cors_origins no page of another origin is let in', async () => {
	const headers = { origin: 'https://app.example', 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization' }
	const before = await api.call('OPTIONS', '/v1/jobs', { key: null, headers })
	assert.equal(before.status, 405)
	assert.equal(before.headers.get('access-control-allow-origin'), null)
	const r = await api.call('GET', '/v1/jobs', { headers: { origin: 'https://app.example' } })
	assert.equal(r.status, 200)
	assert.equal(r.headers.get('access-control-allow-origin'), null)
})

test('a page that is listed may ask and read, errors and streams too; another may not', async () => {
	const front = await stack.more('sluice-front', 'sluice-front-cors', 'front', '--set', 'front.listen=127.0.0.1:0', '--set', 'front.cors_origins=https://app.example http://localhost:5173')
	try {
		const at = await listening(front)
		const there = new Api({ ...stack, front: at })
		const page = 'http://localhost:5173'
		const before = await there.call('OPTIONS', '/v1/jobs', {
			key: null,
			headers: { origin: page, 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization,idempotency-key' },
		})
		assert.equal(before.status, 204)
		assert.equal(before.text, '')
		assert.equal(before.headers.get('access-control-allow-origin'), page)
		assert.equal(before.headers.get('access-control-allow-headers'), 'authorization,idempotency-key')
		assert.ok(before.headers.get('access-control-allow-methods').includes('DELETE'))
		assert.ok(Number(before.headers.get('access-control-max-age')) > 0)
		assert.equal(before.headers.get('access-control-allow-credentials'), null)
		assert.equal(before.headers.get('vary'), 'origin')
		const good = await there.call('POST', '/v1/jobs', { body: chat('cors'), headers: { origin: page } })
		assert.equal(good.status, 202)
		assert.equal(good.headers.get('access-control-allow-origin'), page)
		assert.match(good.headers.get('access-control-expose-headers'), /x-request-id/)
		for (const [path, status, key] of [
			['/v1/jobs', 401, 'sk-sluice-wrong'],
			['/v1/nothing', 404, stack.key],
			[`/v1/jobs?x=${'y'.repeat(40000)}`, 431, stack.key],
		]) {
			const r = await there.call('GET', path, { key, headers: { origin: page } })
			assert.ok(r.status === status || (status === 431 && r.status === 414), `${path.slice(0, 20)}: ${r.status}`)
			if (status !== 431) assert.equal(r.headers.get('access-control-allow-origin'), page, path)
		}
		const events = await fetch(`${at}/v1/jobs/${good.json.id}/events`, { headers: { authorization: `Bearer ${stack.key}`, origin: page } })
		assert.equal(events.headers.get('access-control-allow-origin'), page)
		await events.body.cancel()
		const evil = await there.call('GET', '/v1/jobs', { headers: { origin: 'https://evil.example' } })
		assert.equal(evil.status, 200)
		assert.equal(evil.headers.get('access-control-allow-origin'), null)
		assert.equal(evil.headers.get('vary'), 'origin')
		const asked = await there.call('OPTIONS', '/v1/jobs', {
			key: null,
			headers: { origin: 'https://evil.example', 'access-control-request-method': 'POST' },
		})
		assert.equal(asked.status, 405)
	} finally {
		await front.end()
	}
})

const front = (name, ...sets) => stack.more('sluice-front', `sluice-front-${name}`, 'front', ...['front.listen=127.0.0.1:0', ...sets].flatMap((set) => ['--set', set]))
const make = (at, path, headers) => raw(at, 'POST', path, { 'content-type': 'application/json', ...headers }, '{}')

/** Over a socket of our own: fetch chooses Host and Origin itself. */
async function raw(at, method, path, headers, body = '') {
	const r = await Raw.open(at)
	const fields = { host: new URL(at).host, 'content-length': body.length, connection: 'close', ...headers }
	r.write(`${method} ${path} HTTP/1.1\r\n${Object.entries(fields).map(([k, v]) => `${k}: ${v}\r\n`).join('')}\r\n${body}`)
	const answer = await r.next({ head: method === 'HEAD' })
	r.close()
	return answer
}

test('the example page is given out as it lies in its folder, once, under a strict policy', async () => {
	const modules = readdirSync(new URL('../../ops/client/js/', import.meta.url)).filter((name) => name.endsWith('.js'))
	assert.ok(modules.includes('sluice.js'))
	for (const [path, file, type] of [
		['/chat', 'chat/index.html', 'text/html'],
		['/chat/chat.css', 'chat/chat.css', 'text/css'],
		['/chat/chat.js', 'chat/chat.js', 'text/javascript'],
		['/chat/words.js', 'chat/words.js', 'text/javascript'],
		...modules.map((name) => [`/chat/${name}`, `js/${name}`, 'text/javascript']),
	]) {
		const r = await raw(stack.front, 'GET', path)
		assert.equal(r.status, 200, path)
		assert.equal(r.body, readFileSync(new URL(`../../ops/client/${file}`, import.meta.url), 'utf8'), path)
		assert.ok(r.headers['content-type'].startsWith(type), path)
		const policy = r.headers['content-security-policy']
		assert.match(policy, /default-src 'none'/)
		assert.ok(!policy.includes('unsafe') && !policy.includes('*'), policy)
		assert.ok(policy.endsWith(`connect-src 'self' ${new URL(stack.push).origin}`), policy)
		assert.equal(r.headers['x-content-type-options'], 'nosniff')
		const again = await raw(stack.front, 'GET', path, { 'if-none-match': r.headers.etag })
		assert.equal(again.status, 304, path)
	}
	assert.equal((await raw(stack.front, 'GET', '/chat/nothing.js')).status, 404)
	assert.equal((await raw(stack.front, 'GET', '/chat/..%2fchat.js')).status, 404)
	assert.equal((await raw(stack.front, 'POST', '/chat', {}, '')).status, 405)
	const config = await raw(stack.front, 'GET', '/chat/config')
	assert.deepEqual(JSON.parse(config.body), { push: stack.push, own_key: true, task: 'chat', simulated: true })
	assert.ok(!config.body.includes('sk-sluice'))
})

test('the page’s own key is used for its page alone: no other origin, no other name', async () => {
	const { host } = new URL(stack.front)
	const made = await make(stack.front, '/chat/sessions', { origin: stack.front })
	assert.equal(made.status, 201, made.body)
	assert.equal((await api.call('GET', `/v1/sessions/${JSON.parse(made.body).id}`)).status, 200, 'it is the demo organisation’s')
	assert.equal((await make(stack.front, '/chat/sessions', {})).status, 201, 'a program that is no browser')
	for (const headers of [
		{ origin: 'https://evil.example' },
		{ origin: `https://evil.example?://${host}x` },
		{ origin: 'null' },
		{ origin: `http://x.${host}` },
		{ host: 'evil.example' },
		{ host: `127.0.0.1.evil.example` },
		{ host: `evil.example:80`, origin: 'http://evil.example:80' },
		{ host: '128.0.0.1' },
	])
		for (const path of ['/chat/sessions', '/chat/tickets']) assert.equal((await make(stack.front, path, headers)).status, 404, `${path} ${JSON.stringify(headers)}`)
	assert.equal((await raw(stack.front, 'GET', '/chat/models', { host: 'evil.example' })).status, 404)
})

test('where pages are off there is nothing; without a key file only the page', async () => {
	const off = await front('off', 'front.pages=false')
	const bare = await front('bare', 'front.pages_key_file=', 'front.pages_push_url=')
	try {
		for (const [method, path] of [['GET', '/chat'], ['GET', '/chat/config'], ['GET', '/chat/chat.js'], ['GET', '/chat/models'], ['POST', '/chat/sessions'], ['POST', '/chat/tickets']]) {
			const headers = { authorization: `Bearer ${stack.key}`, 'content-type': 'application/json' }
			assert.equal((await raw(await listening(off), method, path, headers, method === 'POST' ? '{}' : '')).status, 404, path)
			const there = ['/chat', '/chat/config', '/chat/chat.js'].includes(path)
			assert.equal((await raw(await listening(bare), method, path, headers, method === 'POST' ? '{}' : '')).status, there ? 200 : 404, path)
		}
		const config = JSON.parse((await raw(await listening(bare), 'GET', '/chat/config')).body)
		assert.deepEqual([config.push, config.own_key], [null, false])
	} finally {
		await off.end()
		await bare.end()
	}
})

for (const [what, set] of [
	['a key of its own on a front that others reach', 'front.listen=0.0.0.0:0'],
	['an address of push that is none', 'front.pages_push_url=https://push.example'],
	['an address of push with a blank', 'front.pages_push_url=ws://push.example/ x'],
	['an origin with a path', 'front.cors_origins=https://app.example/x'],
])
	test(`${what}: the front does not start`, async () => {
		await assert.rejects(front('wrong', set), /ended with [1-9]/)
	})

for (const [what, origins] of [
	['a slash behind it', 'https://app.example https://b.example/'],
	['a comma behind it', 'https://app.example, https://b.example'],
	['a star beside others', 'https://app.example *'],
])
	test(`an origin with ${what}: push does not start, and names it`, async () => {
		await assert.rejects(stack.morePush('sluice-push-wrong', `push.origins=${origins}`), /ended with [1-9]/)
		assert.match(readFileSync(`${stack.logs}/sluice-push-wrong.log`, 'utf8'), /push\.origins: not an origin.*word=\S/)
	})

/** Where a process of stack.more listens: its log says it. */
async function listening(service) {
	const text = readFileSync(`${stack.logs}/${service.id}.log`, 'utf8')
	const port = [...text.matchAll(/listening.*?port=(\d+)/g)].at(-1)?.[1]
	assert.ok(port, text.slice(-500))
	return `http://127.0.0.1:${port}`
}

await run(import.meta.url, { after: () => clients.cut() })
