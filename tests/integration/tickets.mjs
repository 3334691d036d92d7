// What a browser may do: tickets in place of keys, and pages of other origins that call the front.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Api, chat } from '../support/api.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test } from '../support/test.mjs'
import { Client } from '../support/ws.mjs'

const stack = await Stack.open()
const api = new Api(stack)
const other = new Api(stack, stack.other_key)
const open = new Set()

async function newSession(by = api) {
	return (await by.call('POST', '/v1/sessions', { body: {} })).json.id
}

async function newTicket(session, by = api) {
	const r = await by.call('POST', '/v1/tickets', { body: { session } })
	assert.equal(r.status, 201, r.text)
	return r.json.ticket
}

async function hello(message, options = { key: null }) {
	const { client, welcome } = await Client.hello(stack, message, options)
	open.add(client)
	return { client, welcome }
}

async function closedWith(code, message, options = { key: null }) {
	const c = await Client.open(stack, options)
	c.send({ op: 'hello', ...message })
	const over = await c.closed
	assert.equal(over.code, code, over.reason)
	assert.equal(c.events.length, 0)
	return over.reason
}

test('a ticket names when it is over, is not to be kept by caches, and opens its session', async () => {
	const session = await newSession()
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
	const listed = await api.call('GET', `/v1/jobs?session=${session}`)
	assert.ok(listed.text.includes(job), 'the job is its session’s')
})

test('a ticket may come as a subprotocol, in the header, or in hello', async () => {
	const session = await newSession()
	const text = Buffer.from(await newTicket(session)).toString('base64url')
	const one = await hello({}, { key: null, protocols: ['sluice.v1', `sluice.token.${text}`] })
	assert.equal(one.welcome.session, session)
	assert.equal(one.client.ws.protocol, 'sluice.v1')
	const two = await hello({}, { key: await newTicket(session) })
	assert.equal(two.welcome.session, session)
})

test('a ticket is good once, whoever comes first', async () => {
	const session = await newSession()
	const token = await newTicket(session)
	const all = await Promise.all(
		Array.from({ length: 8 }, async () => {
			const c = await Client.open(stack, { key: null })
			open.add(c)
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
	const token = await newTicket(await newSession())
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
	const mine = await newSession()
	const another = await newSession()
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
	const session = await newSession()
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
	const apart = await newSession()
	const third = await hello({ token: await newTicket(apart), resume: second.welcome.resume })
	assert.equal(third.welcome.session, apart)
	assert.equal((await third.client.next((e) => e.ev === 'gone')).job, undefined)
})

test('a ticket may be shown again in band, for the same session', async () => {
	const session = await newSession()
	const { client } = await hello({ token: await newTicket(session) })
	client.send({ op: 'token', token: await newTicket(session) })
	assert.ok(await client.submit('after', chat('still here')))
	client.send({ op: 'token', token: await newTicket(await newSession()) })
	assert.equal((await client.closed).code, 3503)
	const keyed = await hello({}, {})
	keyed.client.send({ op: 'token', token: await newTicket(session) })
	assert.equal((await keyed.client.closed).code, 3503)
})

test('a ticket is no key: the front does not take it', async () => {
	const token = await newTicket(await newSession())
	const r = await api.call('GET', '/v1/jobs', { key: token })
	assert.equal(r.status, 401)
})

test('what is wrong with the question for a ticket is named', async () => {
	const session = await newSession()
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
	const session = await newSession()
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

/** Where a process of stack.more listens: its log says it. */
async function listening(service) {
	const text = readFileSync(`${stack.logs}/${service.id}.log`, 'utf8')
	const port = [...text.matchAll(/listening.*?port=(\d+)/g)].at(-1)?.[1]
	assert.ok(port, text.slice(-500))
	return `http://127.0.0.1:${port}`
}

await run(import.meta.url, {
	after: async () => {
		for (const c of open) c.cut()
	},
})
