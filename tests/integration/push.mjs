// The WebSocket sluice.v1, for jobs of kind chat: every op and event of the protocol, as an honest client hears them.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import WebSocket from 'ws'
import { Sluice } from '../../ops/client/js/sluice.js'
import { Api, chat, said } from '../support/api.mjs'
import { Stack } from '../support/stack.mjs'
import { pass, run, test, until } from '../support/test.mjs'
import { Client, Clients } from '../support/ws.mjs'

const stack = await Stack.open()
const api = new Api(stack)
const other = new Api(stack, stack.other_key)
const clients = new Clients(stack)

test('welcome comes before anything else and says session, resume, ping_ms and bin_next', async () => {
	const { client, welcome } = await clients.hello()
	assert.equal(client.events[0], welcome)
	assert.match(welcome.session, /^ses_/)
	assert.equal(typeof welcome.resume, 'string')
	assert.ok(welcome.ping_ms > 0)
	assert.ok(Number.isInteger(welcome.bin_next))
})

test('the key may come in the header, in hello, or as a subprotocol', async () => {
	await clients.hello()
	await clients.hello({ token: stack.key }, { key: null })
	const token = Buffer.from(stack.key).toString('base64url')
	const { client } = await clients.hello({}, { key: null, protocols: ['sluice.v1', `sluice.token.${token}`] })
	assert.equal(client.ws.protocol, 'sluice.v1')
	const plain = await clients.hello({}, { protocols: ['sluice.v1'] })
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
	const node = await stack.morePush('sluice-push-expiry', 'push.credentials_ms=1000')
	const { url } = node
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
	const still = await stack.morePush('sluice-push-still', 'push.hello_ms=1000')
	try {
		const client = await Client.open(stack, { url: still.url })
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
	const { client } = await clients.hello()
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
	client.whole(accepted.job, said(job, 40))
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
	const session = await api.session()
	const { client } = await clients.hello({ session })
	const job = chat('ref', 'ttft=0 rate=0 tokens=10')
	const id = await client.submit('r1', job)
	assert.equal(await client.submit('r1', job), id)
	const e = await client.faulted({ op: 'submit', ref: 'r1', job: chat('another') }, 'conflict')
	assert.equal(e.ref, 'r1')
	const second = await clients.hello({ session })
	assert.equal(await second.client.submit('r1', job), id)
	const apart = await clients.hello()
	assert.notEqual(await apart.client.submit('r1', job), id, 'a ref is its session’s own')
	await client.end(id)
	assert.equal((await api.get(id)).json.calls.length, 1)
})

test('the same ref and body in one packet gets the same `accepted` each time; another body a conflict', async () => {
	for (const hello of [{}, { session: await api.session() }]) {
		const { client } = await clients.hello(hello)
		const job = chat('at once', 'ttft=0 rate=0 tokens=10')
		for (let i = 0; i < 3; i++) client.send({ op: 'submit', ref: 'r1', job })
		client.send({ op: 'submit', ref: 'r1', job: chat('another') })
		await until('four answers', () => client.events.filter((e) => e.ref === 'r1').length === 4)
		const accepted = client.events.filter((e) => e.ev === 'accepted')
		assert.equal(accepted.length, 3)
		for (const e of accepted) assert.deepEqual(e, accepted[0])
		assert.equal(client.events.find((e) => e.ev === 'fault').name, 'conflict')
		await client.end(accepted[0].job)
		client.whole(accepted[0].job, said(job, 10))
	}
})

test('a ref said again brings `accepted` alone where the job was told; on another connection the job is followed', async () => {
	const session = await api.session()
	const { client } = await clients.hello({ session })
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
	const second = await clients.hello({ session: await api.session() })
	assert.notEqual(await second.client.submit('r1', job), id, 'a ref is its session’s own')
	const third = await clients.hello({ session })
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
	const { client } = await clients.hello()
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
	const { client } = await clients.hello()
	const jobs = Array.from({ length: 6 }, (_, i) => chat(`mix ${i}`, 'ttft=30 rate=100 tokens=40', { lane: i % 2 ? 'high' : 'interactive' }))
	const ids = await Promise.all(jobs.map((job, i) => client.submit(`m${i}`, job)))
	for (const [i, id] of ids.entries()) {
		await client.end(id)
		client.whole(id, said(jobs[i], 40))
	}
})

test('the browser’s client says a ref again after its end: the same job, whole', async () => {
	const client = new Sluice({ url: stack.push, credential: stack.key, env: { WebSocket } }).open()
	try {
		const first = await client.submit(chat('Once.'), { ref: 'mine' }).done
		const again = await client.submit(chat('Once.'), { ref: 'mine' }).done
		assert.deepEqual([again.id, again.text], [first.id, first.text])
		assert.ok(first.text.length > 0)
	} finally {
		client.close()
	}
})

test('a refused job is a fault that names the ref; the connection stays', async () => {
	const { client } = await clients.hello()
	for (const [job, name] of [
		[{ ...chat('x'), colour: 'red' }, 'unknown_field'],
		[{ ...chat('x'), kind: 'voice' }, 'not_supported'],
		[{ ...chat('x'), lane: 'slow' }, 'unknown_lane'],
		[{ ...chat('x'), model: 'no-such' }, 'unknown_route'],
	]) {
		const e = await client.faulted({ op: 'submit', ref: 'bad', job }, name)
		assert.equal(e.ref, 'bad')
		assert.ok(!e.status, 'no job ended')
	}
	assert.ok(await client.submit('good', chat('after')))
})

test('attach: from the byte that is named, else a snapshot and what follows', async () => {
	const job = chat('attach', 'ttft=30 rate=50 tokens=80')
	const { id } = await api.accepted(job)
	const { client } = await clients.hello()
	client.send({ op: 'attach', jobs: [{ id }] })
	const snapshot = await client.next((e) => e.ev === 'snapshot' && e.job === id)
	assert.ok(said(job, 80).startsWith(snapshot.text))
	await until('some text', () => client.answer(id).length > 60)
	const a = client.answer(id)
	const at = a.length
	const later = await clients.hello()
	const mine = later.client.answer(id)
	mine.snapshot({ attempt: a.attempt, text: a.bytes.subarray(0, at).toString() })
	later.client.send({ op: 'attach', jobs: [{ id, attempt: a.attempt, at }] })
	const resumed = await later.client.next((e) => e.ev === 'resumed')
	assert.deepEqual(resumed.jobs, [{ job: id, attempt: a.attempt, at }])
	await client.end(id)
	await later.client.end(id)
	client.whole(id, said(job, 80))
	later.client.whole(id, said(job, 80))
})

test('attach to an ended job, again from an earlier byte, and beyond the end', async () => {
	const job = chat('ended', 'ttft=0 rate=0 tokens=40')
	const { id } = await api.accepted(job)
	const { attempt } = await api.ended(id)
	const bytes = Buffer.from(said(job, 40))
	for (const at of [0, 7, bytes.length]) {
		const { client } = await clients.hello()
		const a = client.answer(id)
		a.snapshot({ attempt, text: bytes.subarray(0, at).toString() })
		a.chunks = [bytes.subarray(0, at)]
		a.length = at
		client.send({ op: 'attach', jobs: [{ id, attempt, at }] })
		const end = await client.end(id)
		assert.equal(end.ev, 'result')
		assert.ok(client.answer(id).bytes.equals(bytes), `from ${at}`)
	}
	const { client } = await clients.hello()
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
		const { client } = await clients.hello()
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
	const session = await api.session()
	const { client } = await clients.hello({ session })
	const first = await client.submit('1', chat('long turn', 'ttft=3000 rate=0 tokens=5'))
	const second = await client.submit('2', chat('waiting turn', 'ttft=0 rate=0 tokens=5'))
	const live = await client.next((e) => e.ev === 'queued' && e.job === second && e.why)
	assert.equal(live.why, 'order')
	assert.equal(live.lane, 'interactive')
	for (const field of ['position', 'estimate_ms']) assert.ok(field in live, field)
	const apart = await clients.hello()
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
	const { client } = await clients.hello()
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
	const first = await clients.hello()
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
		const next = await clients.open()
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
	client.whole(id, said(job, 120))
})

test('resume after the job ended while nobody listened: the rest and the result', async () => {
	const { client, welcome } = await clients.hello()
	const job = chat('while away', 'ttft=100 rate=100 tokens=40')
	const id = await client.submit('r', job)
	await client.next((e) => e.ev === 'delta')
	const a = client.answer(id)
	client.cut()
	await client.closed
	await api.ended(id)
	const next = await clients.open()
	const mine = next.answer(id)
	Object.assign(mine, { attempt: a.attempt, chunks: [a.bytes], length: a.length })
	next.send({ op: 'hello', resume: welcome.resume, jobs: [{ id, attempt: a.attempt, at: a.length }] })
	const end = await next.end(id)
	assert.equal(end.ev, 'result')
	next.whole(id, said(job, 40))
})

test('resume brings a running job that was not named as a snapshot', async () => {
	const { client, welcome } = await clients.hello()
	const job = chat('not named', 'ttft=30 rate=40 tokens=80')
	const id = await client.submit('r', job)
	await client.next((e) => e.ev === 'delta')
	client.cut()
	await client.closed
	const next = await clients.hello({ resume: welcome.resume })
	const s = await next.client.next((e) => e.ev === 'snapshot' && e.job === id)
	assert.ok(said(job, 80).startsWith(s.text))
	await next.client.end(id)
	assert.equal(next.client.answer(id).text, said(job, 80))
})

test('a resume token that does not hold: welcome and gone, and the connection can be used', async () => {
	const { welcome } = await clients.hello()
	const theirs = await clients.hello({}, { key: stack.other_key })
	for (const resume of ['nonsense', `${welcome.resume.slice(0, -4)}AAAA`, theirs.welcome.resume]) {
		const next = await clients.hello({ resume })
		const e = await next.client.next((e) => e.ev === 'gone')
		assert.ok(!e.job)
		assert.ok(await next.client.submit('after', chat('after')))
	}
})

test('a connection with the same resume token takes over: the older one gets 3505', async () => {
	const { client, welcome } = await clients.hello()
	const next = await clients.hello({ resume: welcome.resume })
	assert.equal((await client.closed).code, 3505)
	next.client.send({ op: 'ping' })
	await next.client.next((e) => e.ev === 'pong')
})

test('the newest connection has the line, also where it came with an older token than the one before', async () => {
	const first = await clients.hello()
	const second = await clients.hello({ resume: first.welcome.resume })
	assert.equal((await first.client.closed).code, 3505)
	const third = await clients.hello({ resume: second.welcome.resume })
	assert.equal((await second.client.closed).code, 3505)
	const { client } = await clients.hello({ resume: first.welcome.resume })
	assert.equal((await third.client.closed).code, 3505)
	// Also after Redis lost its memory, of which its clock is no part.
	await stack.redis_cli('FLUSHALL')
	const last = await clients.hello({ resume: first.welcome.resume })
	assert.equal((await client.closed).code, 3505)
	last.client.send({ op: 'ping' })
	await last.client.next((e) => e.ev === 'pong')
})

test('a token of a session that was deleted, or whose time is over, does not hold', async () => {
	const deleted = await api.session()
	const over = await api.session({ ttl_s: 1 })
	for (const session of [deleted, over]) {
		const { client, welcome } = await clients.hello({ session })
		client.cut()
		if (session === deleted) assert.equal((await api.call('DELETE', `/v1/sessions/${session}`)).status, 200)
		await until(`${session} is over`, async () => (await api.call('GET', `/v1/sessions/${session}`)).status === 404)
		const next = await clients.hello({ resume: welcome.resume })
		assert.notEqual(next.welcome.session, session)
		assert.ok(!(await next.client.next((e) => e.ev === 'gone')).job)
		assert.ok(await next.client.submit('after', chat('after')))
		const named = await clients.hello({ resume: welcome.resume, session }).catch((e) => e)
		assert.match(named.message, /3503/)
	}
})

test('hello{session}: jobs of the session that came over HTTP are followed', async () => {
	const session = await api.session()
	const { client, welcome } = await clients.hello({ session })
	assert.equal(welcome.session, session)
	const job = chat('from http', 'ttft=50 rate=80 tokens=30', { session })
	const { id } = await api.accepted(job)
	await client.end(id)
	client.whole(id, said(job, 30))
})

test('turns of the connection’s session know each other', async () => {
	const { client } = await clients.hello({ session: await api.session() })
	const one = await client.submit('1', chat('turn one'))
	const two = await client.submit('2', chat('turn two'))
	const first = await client.end(one)
	const second = await client.end(two)
	assert.ok(second.usage.input_tokens > first.usage.input_tokens)
})

test('another organisation’s session is not joined', async () => {
	const session = await api.session()
	const c = await clients.open({ key: stack.other_key })
	c.send({ op: 'hello', session })
	const e = await c.next(() => true).catch(() => null)
	if (e?.ev === 'welcome') assert.notEqual(e.session, session)
	else if (!e) assert.equal(c.over.code, 3503)
})

test('cancel: the job’s fault says cancelled; unknown jobs answer gone or a fault', async () => {
	const { client } = await clients.hello()
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
	const { client } = await clients.hello()
	const id = await client.submit('f', chat('fail', 'status=400'))
	const end = await client.end(id)
	assert.equal(end.ev, 'fault')
	assert.equal(end.status, 'failed')
	assert.equal(end.name, 'provider_bad_request')
	assert.equal(end.retryable, false)
})

test('ping, ack and token are answered as the table says', async () => {
	const { client } = await clients.hello()
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

test('a process that sends more deltas than it is to gathers the text of each answer; nothing is lost or said twice', async () => {
	const busy = await stack.morePush('sluice-push-busy', 'push.max_deltas_per_s=1')
	try {
		const { client } = await clients.hello({}, { url: busy.url })
		const jobs = await Promise.all(
			[1, 2, 3].map(async (n) => {
				const job = chat(`rolled up ${n}`, 'ttft=0 rate=100 tokens=250', { max_tokens: 500 })
				return { job, id: await client.submit(`r${n}`, job) }
			}),
		)
		for (const { job, id } of jobs) {
			await client.end(id)
			client.whole(id, said(job, 250))
			const deltas = client.events.filter((e) => e.ev === 'delta' && e.job === id)
			assert.ok(deltas.length > 4 && deltas.length < 60, `${deltas.length} deltas in 2.5 s`)
			assert.ok(deltas[0].text.length < 200, 'the first text goes at once')
		}
	} finally {
		await busy.end()
	}
})

test('permessage-deflate: long messages are packed in both directions, short ones are not', async () => {
	const { client } = await clients.hello({}, { packed: true })
	assert.equal(client.ws.extensions, 'permessage-deflate')
	const job = chat('x'.repeat(20000), 'ttft=0 rate=0 tokens=2000', { max_tokens: 4000 })
	const id = await client.submit('packed', job)
	await client.end(id)
	client.whole(id, said(job, 2000))
	const bytes = client.ws._socket.bytesRead
	client.send({ op: 'attach', jobs: [{ id }] })
	const e = await client.next((e) => e.ev === 'snapshot')
	assert.ok(Buffer.byteLength(e.text) > 4000)
	assert.ok(client.ws._socket.bytesRead - bytes < Buffer.byteLength(e.text) / 2, 'the snapshot was packed')
})

test('a reader that stops reading costs nothing and misses nothing', async () => {
	const { client } = await clients.hello()
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
			client.whole(id, said(job, 40))
			await client.close()
		}),
	)
}, { limit_ms: 60000 })

await run(import.meta.url, { after: () => clients.cut() })
