// The WebSocket sluice.v1, for jobs of kind chat: every op and event of the protocol, and what a careless or hostile client does.

import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { deflateRawSync } from 'node:zlib'
import { answer } from '../support/answer.mjs'
import { Api, chat } from '../support/api.mjs'
import { Raw } from '../support/http.mjs'
import { freePort, Stack } from '../support/stack.mjs'
import { pass, run, test, until } from '../support/test.mjs'
import { Client } from '../support/ws.mjs'

const stack = await Stack.open()
const api = new Api(stack)
const other = new Api(stack, stack.other_key)
const said = (job, tokens = 20, model = job.model) => answer(model, job.messages.at(-1).content, tokens)
const pushPid = stack.pid('sluice-push-1')
const open = new Set()

async function hello(message = {}, options = {}) {
	const { client, welcome } = await Client.hello(stack, message, options)
	open.add(client)
	return { client, welcome }
}

/** The answer's text was given once, in order, whole. */
function whole(client, job, text) {
	const a = client.answer(job)
	assert.equal(a.text, text)
	assert.equal(a.repeats + a.gaps + a.split, 0, `repeats ${a.repeats}, gaps ${a.gaps}, split ${a.split}`)
}

async function faulted(client, message, name = 'invalid_request') {
	const from = client.events.length
	client.send(message)
	const e = await client.next((e) => e.ev === 'fault', { from })
	assert.equal(e.name, name, JSON.stringify(e))
	assert.ok(e.message)
	return e
}

async function newSession() {
	return (await api.call('POST', '/v1/sessions', { body: { task: 'chat' } })).json.id
}

test('welcome comes before anything else and says session, resume, ping_ms and bin_next', async () => {
	const { client, welcome } = await hello()
	assert.equal(client.events[0], welcome)
	assert.match(welcome.session, /^ses_/)
	assert.equal(typeof welcome.resume, 'string')
	assert.ok(welcome.ping_ms > 0)
	assert.ok(Number.isInteger(welcome.bin_next))
})

test('the key may come in the header, in hello, or as a subprotocol', async () => {
	await hello()
	await hello({ token: stack.key }, { key: null })
	const token = Buffer.from(stack.key).toString('base64url')
	const { client } = await hello({}, { key: null, protocols: ['sluice.v1', `sluice.token.${token}`] })
	assert.equal(client.ws.protocol, 'sluice.v1')
	const plain = await hello({}, { protocols: ['sluice.v1'] })
	assert.equal(plain.client.ws.protocol, 'sluice.v1')
})

test('an offer of subprotocols without sluice.v1 is a 400', async () => {
	const e = await Client.open(stack, { protocols: ['chat'] }).catch((e) => e)
	assert.equal(e.status, 400, String(e))
})

test('a bad key, or none, closes with 3500', async () => {
	const c = await Client.open(stack, { key: null })
	c.send({ op: 'hello', token: 'sk-sluice-wrong' })
	assert.equal((await c.closed).code, 3500)
	const n = await Client.open(stack, { key: null })
	n.send({ op: 'hello' })
	assert.equal((await n.closed).code, 3500)
	const h = await Client.open(stack, { key: 'sk-sluice-wrong' }).catch((e) => e)
	if (h.status) assert.equal(h.status, 401)
	else {
		h.send({ op: 'hello' })
		assert.equal((await h.closed).code, 3500)
	}
})

test('a key that is revoked closes its connections with 3502, unless a good one came meanwhile', async () => {
	const [first, second] = [await stack.keys(1), await stack.keys(1)].flat()
	const port = await freePort()
	const node = await stack.more('sluice-push', 'sluice-push-expiry', 'push', '--set', 'push.credentials_ms=1000', '--set', `push.listen=127.0.0.1:${port}`)
	const url = `ws://127.0.0.1:${port}/v1/ws`
	try {
		const [one, two] = await Promise.all([first, first].map((key) => Client.hello(stack, {}, { key, url })))
		const other = await Client.hello(stack, {}, { url })
		two.client.send({ op: 'token', token: second })
		const hash = createHash('sha256').update(first).digest('hex')
		await stack.sql(`UPDATE api_keys SET revoked_at = now() WHERE hash = '${hash}'`)
		assert.equal((await one.client.closed).code, 3502)
		for (const { client } of [two, other]) {
			client.send({ op: 'ping' })
			await client.next((e) => e.ev === 'pong')
			await client.close()
		}
	} finally {
		await node.end()
	}
})

test('who never says hello is closed', async () => {
	const c = await Client.open(stack)
	const { code } = await c.closed
	assert.ok([3500, 3501].includes(code), `${code}`)
}, { limit_ms: 20000, background: true })

test('a hello that came in time is heard, though the process stood still until its time was over', async () => {
	const port = await freePort()
	const still = await stack.more('sluice-push', 'sluice-push-still', 'push', '--set', `push.listen=127.0.0.1:${port}`, '--set', 'push.hello_ms=1000')
	try {
		const client = await Client.open(stack, { url: `ws://127.0.0.1:${port}/v1/ws` })
		still.child.kill('SIGSTOP')
		client.send({ op: 'hello' })
		await pass(1500)
		still.child.kill('SIGCONT')
		await client.next((e) => e.ev === 'welcome')
		await client.close()
	} finally {
		await still.end()
	}
}, { background: true })

test('submit: accepted, started, deltas by byte, result', async () => {
	const { client } = await hello()
	const job = chat('ws one', 'ttft=50 rate=80 tokens=40', { metadata: { a: 1 } })
	client.send({ op: 'submit', ref: 'c1', job })
	const accepted = await client.next((e) => e.ev === 'accepted')
	assert.equal(accepted.ref, 'c1')
	assert.equal(accepted.kind, 'chat')
	assert.equal(accepted.lane, 'interactive')
	assert.match(accepted.created_at, /Z$/)
	const end = await client.end(accepted.job)
	assert.equal(end.ev, 'result')
	const started = client.events.find((e) => e.ev === 'started')
	assert.equal(started.job, accepted.job)
	assert.equal(started.attempt, 1)
	assert.equal(started.provider, 'anthropic')
	assert.equal(started.model, 'claude-sonnet-4-5')
	whole(client, accepted.job, said(job, 40))
	assert.equal(end.bytes, Buffer.byteLength(said(job, 40)))
	assert.equal(end.finish_reason, 'stop')
	assert.equal(end.usage.output_tokens, 40)
	assert.ok(!('text' in end))
	assert.ok(client.answer(accepted.job).deltas > 3)
	const order = client.events.filter((e) => e.job === accepted.job).map((e) => e.ev)
	assert.equal(order[0], 'accepted', order.join())
	assert.equal(order.at(-1), 'result')
	const j = await api.ended(accepted.job)
	assert.equal(j.result.text, said(job, 40))
	assert.deepEqual(j.metadata, { a: 1 })
})

test('the same ref and body is the same job, also on another connection of the session; another body is a conflict', async () => {
	const session = await newSession()
	const { client } = await hello({ session })
	const job = chat('ref', 'ttft=0 rate=0 tokens=10')
	const id = await client.submit('r1', job)
	assert.equal(await client.submit('r1', job), id)
	const e = await faulted(client, { op: 'submit', ref: 'r1', job: chat('another') }, 'conflict')
	assert.equal(e.ref, 'r1')
	const second = await hello({ session })
	assert.equal(await second.client.submit('r1', job), id)
	const apart = await hello()
	assert.notEqual(await apart.client.submit('r1', job), id, 'a ref is its session’s own')
	await client.end(id)
	assert.equal((await api.get(id)).json.calls.length, 1)
})

test('a ref said again brings `accepted` alone where the job was told; on another connection the job is followed', async () => {
	const session = await newSession()
	const { client } = await hello({ session })
	const job = chat('ref again', 'ttft=0 rate=0 tokens=30')
	const id = await client.submit('r1', job)
	await client.end(id)
	const again = async (c, from) => {
		c.send({ op: 'submit', ref: 'r1', job })
		c.send({ op: 'cancel', id: 'job_00000000000000000000000000' }) // asks Redis behind it, so it is answered later
		await c.next((e) => e.ev === 'fault' && !e.status, { from })
		c.send({ op: 'attach', jobs: [{ id: 'job_00000000000000000000000000' }] })
		await c.next((e) => e.ev === 'gone', { from })
		return c.events.slice(from).filter((e) => e.job === id).map((e) => e.ev)
	}
	for (let i = 0; i < 2; i++) assert.deepEqual(await again(client, client.events.length), ['accepted'])
	const second = await hello({ session: await newSession() })
	assert.notEqual(await second.client.submit('r1', job), id, 'a ref is its session’s own')
	const third = await hello({ session })
	assert.equal(await third.client.submit('r1', job), id)
	await third.client.end(id)
	assert.equal(third.client.answer(id).text, said(job, 30))
	assert.deepEqual(await again(third.client, third.client.events.length), ['accepted'])
	const from = client.events.length
	client.send({ op: 'attach', jobs: [{ id }] })
	await client.next((e) => e.ev === 'snapshot' && e.job === id, { from })
	await client.next((e) => e.ev === 'result' && e.job === id, { from })
})

test('a ref said again after ack brings `accepted` alone', async () => {
	const { client } = await hello()
	const job = chat('ref acked', 'ttft=0 rate=0 tokens=10')
	const id = await client.submit('r1', job)
	await client.end(id)
	client.send({ op: 'ack', id })
	const from = client.events.length
	assert.equal(await client.submit('r1', job), id)
	client.send({ op: 'attach', jobs: [{ id: 'job_00000000000000000000000000' }] })
	await client.next((e) => e.ev === 'gone', { from })
	assert.deepEqual(client.events.slice(from).map((e) => e.ev), ['accepted', 'gone'])
})

test('the deltas of several jobs do not mix', async () => {
	const { client } = await hello()
	const jobs = Array.from({ length: 6 }, (_, i) => chat(`mix ${i}`, 'ttft=30 rate=100 tokens=40', { lane: i % 2 ? 'high' : 'interactive' }))
	const ids = await Promise.all(jobs.map((job, i) => client.submit(`m${i}`, job)))
	for (const [i, id] of ids.entries()) {
		await client.end(id)
		whole(client, id, said(jobs[i], 40))
	}
})

test('a refused job is a fault that names the ref; the connection stays', async () => {
	const { client } = await hello()
	for (const [job, name] of [
		[{ ...chat('x'), colour: 'red' }, 'unknown_field'],
		[{ ...chat('x'), kind: 'voice' }, 'not_supported'],
		[{ ...chat('x'), lane: 'slow' }, 'unknown_lane'],
		[{ ...chat('x'), model: 'no-such' }, 'unknown_route'],
	]) {
		const e = await faulted(client, { op: 'submit', ref: 'bad', job }, name)
		assert.equal(e.ref, 'bad')
		assert.ok(!e.status, 'no job ended')
	}
	assert.ok(await client.submit('good', chat('after')))
})

test('attach: from the byte that is named, else a snapshot and what follows', async () => {
	const job = chat('attach', 'ttft=30 rate=50 tokens=80')
	const { id } = await api.accepted(job)
	const { client } = await hello()
	client.send({ op: 'attach', jobs: [{ id }] })
	const snapshot = await client.next((e) => e.ev === 'snapshot' && e.job === id)
	assert.ok(said(job, 80).startsWith(snapshot.text))
	await until('some text', () => client.answer(id).length > 60)
	const a = client.answer(id)
	const at = a.length
	const later = await hello()
	const mine = later.client.answer(id)
	mine.snapshot({ attempt: a.attempt, text: a.bytes.subarray(0, at).toString() })
	later.client.send({ op: 'attach', jobs: [{ id, attempt: a.attempt, at }] })
	const resumed = await later.client.next((e) => e.ev === 'resumed')
	assert.deepEqual(resumed.jobs, [{ job: id, attempt: a.attempt, at }])
	await client.end(id)
	await later.client.end(id)
	whole(client, id, said(job, 80))
	whole(later.client, id, said(job, 80))
})

test('attach to an ended job, again from an earlier byte, and beyond the end', async () => {
	const job = chat('ended', 'ttft=0 rate=0 tokens=40')
	const { id } = await api.accepted(job)
	const { attempt } = await api.ended(id)
	const bytes = Buffer.from(said(job, 40))
	for (const at of [0, 7, bytes.length]) {
		const { client } = await hello()
		while (at && (bytes[at] & 0xc0) === 0x80) break
		const a = client.answer(id)
		a.snapshot({ attempt, text: bytes.subarray(0, at).toString() })
		a.chunks = [bytes.subarray(0, at)]
		a.length = at
		client.send({ op: 'attach', jobs: [{ id, attempt, at }] })
		const end = await client.end(id)
		assert.equal(end.ev, 'result')
		assert.ok(client.answer(id).bytes.equals(bytes), `from ${at}`)
	}
	const { client } = await hello()
	client.send({ op: 'attach', jobs: [{ id, attempt, at: 1e6 }] })
	const s = await client.next((e) => e.ev === 'snapshot')
	assert.equal(s.text.length > 0 || s.status !== undefined, true)
	await client.end(id)
	assert.equal(client.answer(id).text, said(job, 40))
})

test('a byte within a code point is none of ours: a snapshot, never resumed and reset', async () => {
	for (const [what, options] of [['ended', 'ttft=0 rate=0 tokens=60'], ['running', 'ttft=0 rate=60 tokens=120']]) {
		const job = chat(`within ${what}`, options)
		const tokens = Number(options.match(/tokens=(\d+)/)[1])
		const bytes = Buffer.from(said(job, tokens))
		const at = bytes.findIndex((b) => (b & 0xc0) === 0x80)
		assert.ok(at > 0, 'the answer has a code point of several bytes')
		const { id } = await api.accepted(job)
		if (what === 'ended') await api.ended(id)
		else await until('text beyond it', async () => ((await api.get(id)).json.result?.bytes ?? 0) > at + 4)
		const { attempt } = (await api.get(id)).json
		const other = (await api.accepted(chat('beside'))).id
		await api.ended(other)
		const { client } = await hello()
		client.send({ op: 'attach', jobs: [{ id, attempt, at }, { id: other, attempt: 1, at: 0 }] })
		await client.end(id)
		const mine = client.events.filter((e) => e.job === id && e.ev !== 'queued' && e.ev !== 'started')
		assert.equal(mine[0].ev, 'snapshot', JSON.stringify(mine[0]))
		assert.ok(!mine.some((e) => e.ev === 'reset'))
		assert.ok(bytes.toString().startsWith(mine[0].text))
		const resumed = client.events.find((e) => e.ev === 'resumed')
		assert.deepEqual(resumed.jobs, [{ job: other, attempt: 1, at: 0 }])
		assert.equal(client.answer(id).text, bytes.toString())
	}
})

test('queued says why a job waits, again after attach, at most four times a second', async () => {
	const session = await newSession()
	const { client } = await hello({ session })
	const first = await client.submit('1', chat('long turn', 'ttft=3000 rate=0 tokens=5'))
	const second = await client.submit('2', chat('waiting turn', 'ttft=0 rate=0 tokens=5'))
	const live = await client.next((e) => e.ev === 'queued' && e.job === second && e.why)
	assert.equal(live.why, 'order')
	assert.equal(live.lane, 'interactive')
	for (const field of ['position', 'estimate_ms']) assert.ok(field in live, field)
	const apart = await hello()
	apart.client.send({ op: 'attach', jobs: [{ id: second }] })
	const queued = await apart.client.next((e) => e.ev === 'queued' && e.job === second)
	assert.ok([null, 'order'].includes(queued.why), 'before it is claimed its state may not say why')
	assert.equal(queued.lane, 'interactive')
	for (const field of ['position', 'estimate_ms']) assert.ok(field in queued, field)
	const order = apart.client.events.filter((e) => e.job === second).map((e) => e.ev)
	assert.equal(order[0], 'snapshot', order.join())
	assert.ok(!apart.client.ended.has(first))
	for (const c of [client, apart.client]) {
		await c.end(second)
		const all = c.events.filter((e) => e.job === second).map((e) => e.ev)
		assert.ok(all.lastIndexOf('queued') < all.indexOf('started'), all.join())
		assert.ok(all.filter((ev) => ev === 'queued').length <= 4 * 5, all.join())
	}
})

test('gone: an unknown job, and another organisation’s', async () => {
	const theirs = await other.accepted(chat('theirs'))
	const { client } = await hello()
	client.send({ op: 'attach', jobs: [{ id: 'job_00000000000000000000000000' }, { id: theirs.id }] })
	for (const id of ['job_00000000000000000000000000', theirs.id]) {
		const e = await client.next((e) => e.ev === 'gone' && e.job === id)
		assert.equal(e.why, 'unknown')
	}
	await other.ended(theirs.id)
	const from = client.events.length
	client.send({ op: 'attach', jobs: [{ id: theirs.id }] })
	await client.next((e) => e.ev === 'gone' && e.job === theirs.id, { from })
	assert.ok(!client.events.some((e) => e.ev === 'snapshot' || e.ev === 'result'))
})

test('resume: after a cut the text goes on from the named byte, without a gap or a repeat', async () => {
	const first = await hello()
	const job = chat('resume', 'ttft=30 rate=40 tokens=120')
	const id = await first.client.submit('r', job)
	let client = first.client
	let resume = first.welcome.resume
	let a
	for (let hop = 1; hop <= 4; hop++) {
		await until('text came', () => client.answer(id).deltas >= 4 || client.ended.has(id))
		a = client.answer(id)
		client.cut()
		await client.closed
		const next = await Client.open(stack)
		open.add(next)
		const mine = next.answer(id)
		mine.attempt = a.attempt
		mine.chunks = [a.bytes]
		mine.length = a.length
		next.send({ op: 'hello', resume, jobs: [{ id, attempt: a.attempt, at: a.length }] })
		const welcome = await next.next(() => true)
		assert.equal(welcome.ev, 'welcome')
		assert.equal(welcome.session, first.welcome.session)
		const resumed = await next.next((e) => e.ev === 'resumed')
		assert.deepEqual(resumed.jobs, [{ job: id, attempt: a.attempt, at: a.length }])
		resume = welcome.resume
		client = next
	}
	const end = await client.end(id)
	assert.equal(end.ev, 'result')
	whole(client, id, said(job, 120))
})

test('resume after the job ended while nobody listened: the rest and the result', async () => {
	const { client, welcome } = await hello()
	const job = chat('while away', 'ttft=100 rate=100 tokens=40')
	const id = await client.submit('r', job)
	await client.next((e) => e.ev === 'delta')
	const a = client.answer(id)
	client.cut()
	await client.closed
	await api.ended(id)
	const next = await Client.open(stack)
	open.add(next)
	const mine = next.answer(id)
	Object.assign(mine, { attempt: a.attempt, chunks: [a.bytes], length: a.length })
	next.send({ op: 'hello', resume: welcome.resume, jobs: [{ id, attempt: a.attempt, at: a.length }] })
	const end = await next.end(id)
	assert.equal(end.ev, 'result')
	whole(next, id, said(job, 40))
})

test('resume brings a running job that was not named as a snapshot', async () => {
	const { client, welcome } = await hello()
	const job = chat('not named', 'ttft=30 rate=40 tokens=80')
	const id = await client.submit('r', job)
	await client.next((e) => e.ev === 'delta')
	client.cut()
	await client.closed
	const next = await hello({ resume: welcome.resume })
	const s = await next.client.next((e) => e.ev === 'snapshot' && e.job === id)
	assert.ok(said(job, 80).startsWith(s.text))
	await next.client.end(id)
	assert.equal(next.client.answer(id).text, said(job, 80))
})

test('a resume token that does not hold: welcome and gone, and the connection can be used', async () => {
	const { welcome } = await hello()
	const theirs = await hello({}, { key: stack.other_key })
	for (const resume of ['nonsense', `${welcome.resume.slice(0, -4)}AAAA`, theirs.welcome.resume]) {
		const next = await hello({ resume })
		const e = await next.client.next((e) => e.ev === 'gone')
		assert.ok(!e.job)
		assert.ok(await next.client.submit('after', chat('after')))
	}
})

test('a connection with the same resume token takes over: the older one gets 3505', async () => {
	const { client, welcome } = await hello()
	const next = await hello({ resume: welcome.resume })
	assert.equal((await client.closed).code, 3505)
	next.client.send({ op: 'ping' })
	await next.client.next((e) => e.ev === 'pong')
})

test('the newest connection has the line, also where it came with an older token than the one before', async () => {
	const first = await hello()
	const second = await hello({ resume: first.welcome.resume })
	assert.equal((await first.client.closed).code, 3505)
	const third = await hello({ resume: second.welcome.resume })
	assert.equal((await second.client.closed).code, 3505)
	const { client } = await hello({ resume: first.welcome.resume })
	assert.equal((await third.client.closed).code, 3505)
	// Also after Redis lost its memory, of which its clock is no part.
	await stack.redis_cli('FLUSHALL')
	const last = await hello({ resume: first.welcome.resume })
	assert.equal((await client.closed).code, 3505)
	last.client.send({ op: 'ping' })
	await last.client.next((e) => e.ev === 'pong')
})

test('a token of a session that was deleted, or whose time is over, does not hold', async () => {
	const deleted = await newSession()
	const over = (await api.call('POST', '/v1/sessions', { body: { ttl_s: 1 } })).json.id
	for (const session of [deleted, over]) {
		const { client, welcome } = await hello({ session })
		client.cut()
		if (session === deleted) assert.equal((await api.call('DELETE', `/v1/sessions/${session}`)).status, 200)
		await until(`${session} is over`, async () => (await api.call('GET', `/v1/sessions/${session}`)).status === 404)
		const next = await hello({ resume: welcome.resume })
		assert.notEqual(next.welcome.session, session)
		assert.ok(!(await next.client.next((e) => e.ev === 'gone')).job)
		assert.ok(await next.client.submit('after', chat('after')))
		const named = await hello({ resume: welcome.resume, session }).catch((e) => e)
		assert.match(named.message, /3503/)
	}
})

test('hello{session}: jobs of the session that came over HTTP are followed', async () => {
	const session = await newSession()
	const { client, welcome } = await hello({ session })
	assert.equal(welcome.session, session)
	const job = chat('from http', 'ttft=50 rate=80 tokens=30', { session })
	const { id } = await api.accepted(job)
	await client.end(id)
	whole(client, id, said(job, 30))
})

test('turns of the connection’s session know each other', async () => {
	const { client } = await hello({ session: await newSession() })
	const one = await client.submit('1', chat('turn one'))
	const two = await client.submit('2', chat('turn two'))
	const first = await client.end(one)
	const second = await client.end(two)
	assert.ok(second.usage.input_tokens > first.usage.input_tokens)
})

test('another organisation’s session is not joined', async () => {
	const session = await newSession()
	const c = await Client.open(stack, { key: stack.other_key })
	open.add(c)
	c.send({ op: 'hello', session })
	const e = await c.next(() => true).catch(() => null)
	if (e?.ev === 'welcome') assert.notEqual(e.session, session)
	else if (!e) assert.equal(c.over.code, 3503)
})

test('cancel: the job’s fault says cancelled; unknown jobs answer gone or a fault', async () => {
	const { client } = await hello()
	const id = await client.submit('c', chat('cancel me', 'ttft=30 rate=30 tokens=900'))
	await client.next((e) => e.ev === 'delta')
	client.send({ op: 'cancel', id })
	const end = await client.end(id)
	assert.equal(end.ev, 'fault')
	assert.equal(end.status, 'cancelled')
	assert.equal(end.name, 'cancelled')
	assert.equal((await api.ended(id)).status, 'cancelled')
	const from = client.events.length
	client.send({ op: 'cancel', id: 'job_00000000000000000000000000' })
	await client.next((e) => e.ev === 'gone' || e.ev === 'fault', { from })
})

test('a failed job ends with a fault that has its status', async () => {
	const { client } = await hello()
	const id = await client.submit('f', chat('fail', 'status=400'))
	const end = await client.end(id)
	assert.equal(end.ev, 'fault')
	assert.equal(end.status, 'failed')
	assert.equal(end.name, 'provider_bad_request')
	assert.equal(end.retryable, false)
})

test('ping, ack and token are answered as the table says', async () => {
	const { client } = await hello()
	client.send({ op: 'ping' })
	await client.next((e) => e.ev === 'pong')
	const id = await client.submit('a', chat('ack'))
	await client.end(id)
	const from = client.events.length
	client.send({ op: 'ack', id })
	client.send({ op: 'ping' })
	await client.next((e) => e.ev === 'pong', { from })
	assert.ok(!client.events.slice(from).some((e) => e.ev === 'fault'))
})

test('careless messages are faults and the connection stays', async () => {
	const { client } = await hello()
	await faulted(client, '{"op":')
	await faulted(client, '[]')
	await faulted(client, { op: 'dance' })
	await faulted(client, { op: 'submit', job: chat('no ref') })
	await faulted(client, { op: 'submit', ref: 'x'.repeat(65), job: chat('x') })
	const e = await faulted(client, { op: 'submit', ref: 'nojob' })
	assert.equal(e.ref, 'nojob')
	await faulted(client, { op: 'attach', jobs: Array.from({ length: 257 }, () => ({ id: 'job_00000000000000000000000000' })) })
	await faulted(client, { op: 'cancel' })
	client.send({ op: 'ping' })
	await client.next((e) => e.ev === 'pong')
})

test('what is not built yet is refused by name: binary frames, audio', async () => {
	const { client } = await hello()
	await faulted(client, Buffer.from([1, 2, 3]), 'not_supported')
	await faulted(client, { op: 'audio', ref: 'a1', type: 'audio/webm', live: true, job: { kind: 'voice' } }, 'not_supported')
	client.send({ op: 'ping' })
	await client.next((e) => e.ev === 'pong')
})

test('ten bad messages in a minute close with 3501', async () => {
	const { client } = await hello()
	for (let i = 0; i < 10; i++) client.send({ op: 'dance' })
	const { code, reason } = await client.closed
	assert.equal(code, 3501)
	assert.ok(reason)
})

/** An upgraded connection without a library: {raw, head}. */
async function upgraded(extra = '', url = stack.push.replace('ws:', 'http:')) {
	const raw = await Raw.open(url)
	raw.write(
		`GET /v1/ws HTTP/1.1\r\nhost: ${raw.host}\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n` +
			`sec-websocket-key: ${randomBytes(16).toString('base64')}\r\nauthorization: Bearer ${stack.key}\r\n${extra}\r\n`,
	)
	return { raw, head: await raw.next({ head: true }) }
}

/** One masked frame of at most 125 bytes, its first byte as given. */
function frame(first, payload, { mask = true } = {}) {
	const bytes = Buffer.from(payload)
	const key = randomBytes(4)
	const body = mask ? bytes.map((b, i) => b ^ key[i % 4]) : bytes
	return Buffer.concat([Buffer.from([first, (mask ? 0x80 : 0) | bytes.length]), mask ? key : Buffer.alloc(0), body])
}

/** The code of the close frame that the server sends; its other frames are skipped. */
async function closeCode(raw) {
	return until('the server closes', () => {
		for (let b = raw.buffer; b.length >= 4; ) {
			const n = b[1] & 0x7f
			const head = n === 126 ? 4 : 2
			if ((b[0] & 0x0f) === 8) return b.readUInt16BE(head)
			b = b.subarray(head + (n === 126 ? b.readUInt16BE(2) : n))
		}
		return raw.over ? -1 : 0
	})
}

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
	for (const [what, bytes, code] of table) {
		const { raw, head } = await upgraded()
		assert.equal(head.status, 101)
		raw.write(bytes)
		assert.equal(await closeCode(raw).catch((e) => e.message), code, what)
		raw.close()
	}
})

/** The header of a masked frame of `length` bytes whose payload does not come (its mask is 0). */
function header(first, length) {
	const wide = length > 65535
	const head = Buffer.alloc(wide ? 14 : 8)
	head[0] = first
	head[1] = wide ? 0xff : 0xfe
	if (wide) head.writeBigUInt64BE(BigInt(length), 2)
	else head.writeUInt16BE(length, 2)
	return head
}

/** Says hello by hand; returns what reads the server's next events. */
async function greeted(raw) {
	raw.write(frame(0x81, '{"op":"hello"}'))
	let at = 0
	const next = (ev) =>
		until(ev, () => {
			for (let b; (b = raw.buffer.subarray(at)).length >= 2; ) {
				const n = b[1] & 0x7f
				const head = n === 126 ? 4 : 2
				if (b.length < head || b.length < head + (n === 126 ? b.readUInt16BE(2) : n)) return false
				const size = n === 126 ? b.readUInt16BE(2) : n
				at += head + size
				if ((b[0] & 0x0f) !== 1) continue
				const e = JSON.parse(b.subarray(head, head + size).toString())
				if (e.ev === ev) return e
			}
			return false
		})
	await next('welcome')
	return next
}

const rss = () => Number(readFileSync(`/proc/${pushPid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)[1]) * 1024

test('before hello a message is small and text, judged by its header', async () => {
	for (const [what, bytes, code] of [
		['text over 64 KiB', header(0x81, 65537), 1009],
		['fragments over 64 KiB', Buffer.concat([frame(0x01, 'x'.repeat(100)), header(0x80, 65500)]), 1009],
		['binary', header(0x82, 24 << 20), 1003],
		['a little binary', frame(0x82, 'x'), 1003],
	]) {
		const { raw } = await upgraded()
		raw.write(bytes)
		assert.equal(await closeCode(raw).catch((e) => e.message), code, what)
		raw.close()
	}
})

test('a binary message is refused by name at its header, and not kept', async () => {
	const { raw } = await upgraded()
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
	const { raw } = await upgraded()
	await greeted(raw)
	raw.write(header(0x81, (1 << 20) + 1))
	assert.equal(await closeCode(raw), 1009)
	raw.close()
})

/** A refusal over HTTP has the native shape and the request's id. */
function refused(r, code) {
	const { error } = JSON.parse(r.body)
	assert.match(r.headers['x-request-id'], /^req_/)
	assert.equal(r.headers['request-id'], r.headers['x-request-id'])
	assert.equal(error.request_id, r.headers['x-request-id'])
	assert.equal(error.code, code)
	for (const field of ['type', 'message', 'param', 'offset']) assert.ok(field in error, field)
}

test('above max_connections an upgrade is a 503 that says when to come again', async () => {
	const port = await freePort()
	const small = await stack.more('sluice-push', 'sluice-push-small', 'push', '--set', `push.listen=127.0.0.1:${port}`, '--set', 'push.max_connections=1')
	try {
		const url = `ws://127.0.0.1:${port}/v1/ws`
		const { client } = await hello({}, { url })
		const { raw, head: r } = await upgraded('', `http://127.0.0.1:${port}`)
		assert.equal(r.status, 503)
		assert.ok(Number(r.headers['retry-after']) > 0)
		assert.ok(Number(r.headers['retry-after-ms']) > 0)
		raw.close()
		await client.close()
		await until('there is room again', async () => {
			const again = await upgraded('', `http://127.0.0.1:${port}`)
			again.raw.close()
			return again.head.status === 101
		})
	} finally {
		await small.end()
	}
})

test('a page of an origin that is not in the list is a 403; a client without one is no page', async () => {
	const port = await freePort()
	const url = `ws://127.0.0.1:${port}/v1/ws`
	const strict = await stack.more('sluice-push', 'sluice-push-strict', 'push', '--set', `push.listen=127.0.0.1:${port}`, '--set', 'push.origins=https://a.example https://b.example')
	try {
		for (const [origin, status] of [['https://b.example', 101], ['https://c.example', 403], ['null', 403], ['', 403]]) {
			const { raw, head: r } = await upgraded(`origin: ${origin}\r\n`, `http://127.0.0.1:${port}`)
			assert.equal(r.status, status, origin)
			raw.close()
		}
		await hello({}, { url })
	} finally {
		await strict.end()
	}
})

test('a process that sends more deltas than it is to gathers the text of each answer; nothing is lost or said twice', async () => {
	const port = await freePort()
	const url = `ws://127.0.0.1:${port}/v1/ws`
	const busy = await stack.more('sluice-push', 'sluice-push-busy', 'push', '--set', `push.listen=127.0.0.1:${port}`, '--set', 'push.max_deltas_per_s=1')
	try {
		const { client } = await hello({}, { url })
		const jobs = await Promise.all(
			[1, 2, 3].map(async (n) => {
				const job = chat(`rolled up ${n}`, 'ttft=0 rate=100 tokens=250', { max_tokens: 500 })
				return { job, id: await client.submit(`r${n}`, job) }
			}),
		)
		for (const { job, id } of jobs) {
			await client.end(id)
			whole(client, id, said(job, 250))
			const deltas = client.events.filter((e) => e.ev === 'delta' && e.job === id)
			assert.ok(deltas.length > 4 && deltas.length < 60, `${deltas.length} deltas in 2.5 s`)
			assert.ok(deltas[0].text.length < 200, 'the first text goes at once')
		}
	} finally {
		await busy.end()
	}
})

test('permessage-deflate: long messages are packed in both directions, short ones are not', async () => {
	const { client } = await hello({}, { packed: true })
	assert.equal(client.ws.extensions, 'permessage-deflate')
	const job = chat('x'.repeat(20000), 'ttft=0 rate=0 tokens=2000', { max_tokens: 4000 })
	const id = await client.submit('packed', job)
	await client.end(id)
	whole(client, id, said(job, 2000))
	const bytes = client.ws._socket.bytesRead
	client.send({ op: 'attach', jobs: [{ id }] })
	const e = await client.next((e) => e.ev === 'snapshot')
	assert.ok(Buffer.byteLength(e.text) > 4000)
	assert.ok(client.ws._socket.bytesRead - bytes < Buffer.byteLength(e.text) / 2, 'the snapshot was packed')
})

test('a packed message that unpacks to more than the limit closes with 1009; packed nonsense with 1007', async () => {
	const offer = 'sec-websocket-extensions: permessage-deflate\r\n'
	const bomb = deflateRawSync(Buffer.alloc(1 << 20, 0x20))
	for (const [payload, code] of [[bomb, 1009], [Buffer.from('ffffff', 'hex'), 1007]]) {
		const { raw, head } = await upgraded(offer)
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

test('a reader that stops reading costs nothing and misses nothing', async () => {
	const { client } = await hello()
	const job = chat('slow reader', 'ttft=0 rate=0 tokens=60000', { max_tokens: 100000 })
	const id = await client.submit('s', job)
	client.ws.pause()
	await api.ended(id)
	client.ws.resume()
	await client.end(id)
	const text = said(job, 60000)
	assert.ok(client.answer(id).text === text)
	assert.equal(client.answer(id).gaps, 0)
})

test('two hundred connections at once, each with its answer byte for byte', async () => {
	await Promise.all(
		Array.from({ length: 200 }, async (_, i) => {
			const { client } = await Client.hello(stack)
			const job = chat(`crowd ${i}`, 'ttft=200 rate=60 tokens=40')
			const id = await client.submit('x', job)
			await client.end(id)
			whole(client, id, said(job, 40))
			await client.close()
		}),
	)
}, { limit_ms: 60000 })

test('the process is the one that it was at the beginning', () => {
	assert.ok(pushPid)
	assert.equal(stack.pid('sluice-push-1'), pushPid)
})

test('attaches that nobody reads cost the socket’s queue, and a stored answer comes in frames of 64 KiB', async () => {
	const tokens = 200000
	const job = chat('stored and long', `ttft=0 rate=0 tokens=${tokens}`, { max_tokens: 250000 })
	const { id } = await api.accepted(job)
	await api.recorded([id])
	await stack.redis_cli('DEL', `j:{${id}}`, `out:{${id}}:1`)
	const { client } = await hello()
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
	const next = await hello()
	next.client.gapless = false
	next.client.send({ op: 'attach', jobs: [{ id, attempt: 1, at }] })
	await next.client.next((e) => e.ev === 'resumed')
	await next.client.end(id)
	const text = next.client.events.filter((e) => e.ev === 'delta').map((e) => e.text).join('')
	assert.ok(whole.subarray(at).equals(Buffer.from(text)))
})

test('the jobs that attaches name count against what a connection may ask in a second', async () => {
	const { client } = await hello()
	const unknown = (n) => Array.from({ length: 256 }, (_, i) => ({ id: `job_${String(n * 256 + i).padStart(26, '0')}` }))
	const began = performance.now()
	for (let n = 0; n < 12; n++) client.send({ op: 'attach', jobs: unknown(n) })
	client.send({ op: 'ping' })
	await client.next((e) => e.ev === 'pong', { limit_ms: 30000 })
	assert.ok(performance.now() - began > 2000, `3072 jobs in ${performance.now() - began} ms`)
	await until('all are said to be gone', () => client.events.filter((e) => e.ev === 'gone').length === 3072, 30000)
	await client.close()
})

await run(import.meta.url, { after: () => [...open].forEach((c) => c.cut()) })
