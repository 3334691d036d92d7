// The connection and its jobs, one claim each, with a server by hand.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { run, test } from '../../../../support/test.mjs'
import { begin, Hand, settle } from './fake.mjs'

const JOB = 'job_00000000000000000000000001'
const request = { kind: 'chat', messages: [{ role: 'user', content: 'hi' }] }

async function opened(options, seed) {
	const all = begin(new Hand(), options, seed)
	all.states = []
	all.client.addEventListener('state', (e) => all.states.push(e.detail))
	all.client.open()
	await all.time.advance(10)
	assert.equal(all.client.state, 'open')
	return all
}

/** A job that was accepted as JOB and has some text. */
async function running(all, text = 'some ') {
	const job = all.client.submit(request)
	all.server.last.say({ ev: 'accepted', ref: job.ref, job: JOB, kind: 'chat', lane: 'interactive', created_at: 't' })
	all.server.last.say({ ev: 'started', job: JOB, attempt: 1, provider: 'anthropic', model: 'm' })
	if (text) all.server.last.say({ ev: 'delta', job: JOB, attempt: 1, at: 0, text })
	await settle()
	return job
}
const finish = (socket, bytes, more = {}) =>
	socket.say({ ev: 'result', job: JOB, attempt: 1, bytes, parts: [{ at: 0, type: 'text' }], finish_reason: 'stop', usage: {}, ...more })

test('the credential goes as a subprotocol, and hello names the session', async () => {
	const { server } = await opened({ credential: 'sk-sluice-ü', session: 'ses_1' })
	assert.equal(server.last.protocols[0], 'sluice.v1')
	const [, token] = /^sluice\.token\.(.+)$/.exec(server.last.protocols[1])
	assert.equal(Buffer.from(token, 'base64url').toString(), 'sk-sluice-ü')
	assert.match(server.last.protocols[1], /^[A-Za-z0-9._-]+$/)
	assert.deepEqual(server.last.sent[0], { op: 'hello', session: 'ses_1' })
})

test('submit, deltas, result: the text is whole and acknowledged', async () => {
	const all = await opened()
	const job = await running(all)
	all.server.last.say({ ev: 'delta', job: JOB, attempt: 1, at: 5, text: 'text' })
	finish(all.server.last, 9)
	assert.equal((await job.done).text, 'some text')
	assert.equal(job.status, 'succeeded')
	assert.equal(job.result.finish_reason, 'stop')
	assert.deepEqual(all.server.ops('ack'), [{ op: 'ack', id: JOB }])
	assert.deepEqual(all.client.jobs, [])
})

test('each connection asks for a credential of its own, and goes on from the byte that is there', async () => {
	let tickets = 0
	const all = await opened({ credential: async () => `tk-${++tickets}` })
	const job = await running(all, 'ein paar Bytes ö ')
	all.server.last.drop()
	assert.equal(all.client.state, 'waiting')
	await all.time.advance(600)
	assert.equal(all.server.all.length, 2)
	assert.equal(tickets, 2)
	assert.deepEqual(all.server.ops('hello')[0], { op: 'hello', resume: 'r1', jobs: [{ id: JOB, attempt: 1, at: 18 }] })
	all.server.last.say({ ev: 'resumed', jobs: [{ job: JOB, attempt: 1, at: 18 }] })
	all.server.last.say({ ev: 'delta', job: JOB, attempt: 1, at: 18, text: 'weiter' })
	finish(all.server.last, 24)
	assert.equal((await job.done).text, 'ein paar Bytes ö weiter')
})

test('a gap is asked for once, from the byte that is there', async () => {
	const all = await opened()
	const job = await running(all)
	all.server.last.say({ ev: 'delta', job: JOB, attempt: 1, at: 9, text: 'c' })
	all.server.last.say({ ev: 'delta', job: JOB, attempt: 1, at: 10, text: 'd' })
	assert.deepEqual(all.server.ops('attach'), [{ op: 'attach', jobs: [{ id: JOB, attempt: 1, at: 5 }] }])
	assert.equal(job.text, 'some ')
	all.server.last.say({ ev: 'resumed', jobs: [{ job: JOB, attempt: 1, at: 5 }] })
	all.server.last.say({ ev: 'delta', job: JOB, attempt: 1, at: 5, text: 'textcd' })
	assert.equal(job.text, 'some textcd')
})

test('a result whose bytes are not all there is not told before they are', async () => {
	const all = await opened()
	const job = await running(all)
	finish(all.server.last, 9)
	assert.equal(job.ended, false)
	assert.deepEqual(all.server.ops('attach').at(-1).jobs, [{ id: JOB, attempt: 1, at: 5 }])
	assert.equal(all.server.ops('ack').length, 0)
	all.server.last.say({ ev: 'delta', job: JOB, attempt: 1, at: 5, text: 'text' })
	finish(all.server.last, 9)
	assert.equal((await job.done).text, 'some text')
})

test('text that stays away is an error after a few questions, and is not acknowledged', async () => {
	const all = await opened()
	const job = await running(all)
	for (let i = 0; i < 4; i++) {
		finish(all.server.last, 9)
		if (i < 3) finish(all.server.last, 9) // one that was on its way
		all.server.last.say({ ev: 'snapshot', job: JOB, attempt: 1, text: 'some ', parts: [], status: 'succeeded' })
	}
	assert.equal(all.server.ops('attach').length, 3)
	assert.equal(all.client.jobs.length, 1, 'it came again, and is met anew')
	await assert.rejects(job.done, { name: 'incomplete' })
	assert.equal(all.server.ops('ack').length, 0)
})

test('a result of a smaller attempt than was heard last is what counts', async () => {
	const all = await opened()
	const job = await running(all)
	all.server.last.say({ ev: 'reset', job: JOB, attempt: 3, why: 'restart' })
	all.server.last.say({ ev: 'delta', job: JOB, attempt: 3, at: 0, text: 'other' })
	finish(all.server.last, 9)
	assert.deepEqual(all.server.ops('attach').at(-1).jobs[0].id, JOB)
	all.server.last.say({ ev: 'snapshot', job: JOB, attempt: 1, text: 'some text', parts: [], status: 'succeeded' })
	finish(all.server.last, 9)
	assert.equal((await job.done).text, 'some text')
})

test('failover is seen as it happens: started again, reset, seam', async () => {
	const all = await opened()
	const job = await running(all, null)
	const heard = []
	for (const type of ['started', 'reset', 'seam']) job.addEventListener(type, () => heard.push(type))
	all.server.last.say({ ev: 'started', job: JOB, attempt: 1, provider: 'openai', model: 'g' })
	assert.deepEqual(job.calls.map((c) => c.provider), ['anthropic', 'openai'])
	all.server.last.say({ ev: 'delta', job: JOB, attempt: 1, at: 0, text: 'abc' })
	all.server.last.say({ ev: 'seam', job: JOB, attempt: 1, at: 3, provider: 'anthropic', model: 'm' })
	assert.deepEqual(job.answer.seams, [{ at: 3, provider: 'anthropic', model: 'm' }])
	all.server.last.say({ ev: 'reset', job: JOB, attempt: 2, why: 'restart' })
	assert.equal(job.text, '')
	assert.deepEqual(heard, ['started', 'seam', 'reset'])
})

test('the place in line is told, and is over when a call begins', async () => {
	const all = await opened()
	const job = await running(all, null)
	all.server.last.say({ ev: 'queued', job: JOB, lane: 'interactive', position: 4, estimate_ms: 1200, why: 'slots' })
	assert.deepEqual([job.status, job.position, job.estimateMs, job.why], ['queued', 4, 1200, 'slots'])
	all.server.last.say({ ev: 'started', job: JOB, attempt: 1, provider: 'openai', model: 'g' })
	assert.deepEqual([job.status, job.position, job.estimateMs, job.why], ['running', null, null, null])
})

test('what was submitted without a connection is sent when it stands', async () => {
	const all = begin(new Hand())
	const job = all.client.submit(request)
	all.client.open()
	await all.time.advance(10)
	assert.deepEqual(all.server.ops('submit').map((m) => m.ref), [job.ref])
})

test('what was sent and not answered is sent again under its ref; its events wait until it is known which job it is', async () => {
	const all = await opened()
	const job = all.client.submit(request)
	const met = []
	all.client.addEventListener('job', (e) => met.push(e.detail))
	all.server.last.drop()
	await all.time.advance(600)
	assert.deepEqual(all.server.ops('submit').map((m) => m.ref), [job.ref])
	all.server.last.say({ ev: 'snapshot', job: JOB, attempt: 1, text: 'from the outbox', parts: [], status: 'succeeded' })
	finish(all.server.last, 15)
	all.server.last.say({ ev: 'accepted', ref: job.ref, job: JOB, kind: 'chat', lane: 'interactive', created_at: 't' })
	assert.equal((await job.done).text, 'from the outbox')
	assert.deepEqual(met, [])
})

test('in another session what was sent before is unknown, and is not sent again', async () => {
	const all = await opened()
	const job = all.client.submit(request)
	all.server.last.drop()
	all.server.session = 'ses_2'
	await all.time.advance(600)
	await assert.rejects(job.done, { name: 'outcome_unknown' })
	assert.deepEqual(all.server.ops('submit'), [])
})

test('a submission that is refused for now is tried again under its ref; for good, it is refused', async () => {
	const all = await opened()
	const job = all.client.submit(request)
	all.server.last.say({ ev: 'fault', ref: job.ref, status: null, name: 'unavailable', message: 'm', retryable: true, retry_after_ms: 1000 })
	assert.equal(job.ended, false)
	await all.time.advance(1600)
	assert.deepEqual(all.server.ops('submit').map((m) => m.ref), [job.ref, job.ref])
	all.server.last.say({ ev: 'fault', ref: job.ref, status: null, name: 'unknown_lane', message: 'm', retryable: false, retry_after_ms: null })
	await assert.rejects(job.done, { name: 'unknown_lane' })
	assert.equal(job.status, 'refused')
	const late = all.client.submit(request)
	for (let i = 0; i < 80 && !late.ended; i++) {
		all.server.last.say({ ev: 'fault', ref: late.ref, status: null, name: 'busy', message: 'm', retryable: true, retry_after_ms: 1000 })
		await all.time.advance(1600)
	}
	await assert.rejects(late.done, { name: 'busy' })
})

test('a job that ends otherwise keeps its text and rejects by its fault', async () => {
	const all = await opened()
	const job = await running(all)
	all.server.last.say({ ev: 'fault', job: JOB, status: 'failed', attempt: 1, name: 'tries_exhausted', message: 'm', retryable: false, retry_after_ms: null })
	await assert.rejects(job.done, { name: 'tries_exhausted' })
	assert.deepEqual([job.status, job.text], ['failed', 'some '])
	assert.equal(all.server.ops('ack').length, 1)
})

test('cancel is said when it can be, also after the connection came back', async () => {
	const all = await opened()
	const job = await running(all)
	all.server.last.drop()
	job.cancel()
	await all.time.advance(600)
	assert.deepEqual(all.server.ops('cancel'), [{ op: 'cancel', id: JOB }])
	const early = all.client.submit(request)
	early.cancel()
	assert.equal(all.server.ops('cancel').length, 1)
	all.server.last.say({ ev: 'accepted', ref: early.ref, job: `${JOB.slice(0, -1)}2`, kind: 'chat', lane: 'interactive', created_at: 't' })
	assert.equal(all.server.ops('cancel').length, 2)
})

test('an acknowledgement that was lost is said again when the result comes again', async () => {
	const all = await opened()
	const job = await running(all)
	all.server.last.over = true // nothing arrives any more
	all.server.last.onmessage({ data: JSON.stringify({ ev: 'result', job: JOB, attempt: 1, bytes: 5, parts: [], finish_reason: 'stop', usage: {} }) })
	await job.done
	assert.equal(all.server.ops('ack').length, 0)
	all.server.last.onclose({ code: 1006, reason: '' })
	await all.time.advance(600)
	const before = all.server.ops('ack').length
	all.server.last.say({ ev: 'snapshot', job: JOB, attempt: 1, text: 'some ', parts: [], status: 'succeeded' })
	finish(all.server.last, 5)
	assert.equal(all.server.ops('ack').length, before + 1)
})

test('a job that somebody else submitted is met', async () => {
	const all = await opened({ session: 'ses_1' })
	const met = []
	all.client.addEventListener('job', (e) => met.push(e.detail))
	all.server.last.say({ ev: 'snapshot', job: JOB, attempt: 2, text: 'abc', parts: [], status: 'running' })
	all.server.last.say({ ev: 'delta', job: JOB, attempt: 2, at: 3, text: 'd' })
	assert.equal(met.length, 1)
	assert.deepEqual([met[0].id, met[0].text, met[0].status], [JOB, 'abcd', 'running'])
})

test('a job that the server does not know is gone; a resume token that does not hold is told', async () => {
	const all = await opened({ resume: 'old' })
	assert.equal(all.server.ops('hello')[0].resume, 'old')
	const gone = []
	all.client.addEventListener('gone', (e) => gone.push(e.detail.why))
	const job = all.client.attach(JOB, { attempt: 1, text: 'abc' })
	assert.deepEqual(all.server.ops('attach')[0].jobs, [{ id: JOB, attempt: 1, at: 3 }])
	all.server.last.say({ ev: 'gone', why: 'expired' })
	all.server.last.say({ ev: 'gone', job: JOB, why: 'unknown' })
	await assert.rejects(job.done, { name: 'gone' })
	assert.deepEqual(gone, ['expired'])
})

test('a state that cannot be read is asked for again', async () => {
	const all = await opened()
	await running(all)
	all.server.last.say({ ev: 'fault', job: JOB, status: null, name: 'state_unknown', message: 'm', retryable: true, retry_after_ms: 1000 })
	await all.time.advance(1100)
	assert.deepEqual(all.server.ops('attach').at(-1).jobs, [{ id: JOB, attempt: 1, at: 5 }])
})

// ── the connection ──

test('waits grow, with full jitter, up to the most; a connection that stood begins anew', async () => {
	const all = await opened({}, 7)
	const waits = []
	all.client.addEventListener('state', (e) => e.detail.state === 'waiting' && waits.push(e.detail.retryInMs))
	all.server.connected = (socket) => {
		all.server.all.push(socket)
		all.time.set(() => socket.drop(1006), 1)
	}
	all.server.last.drop()
	for (let i = 0; i < 40; i++) await all.time.advance(30000)
	assert.ok(waits.length > 20)
	for (const [i, ms] of waits.entries()) assert.ok(ms <= Math.min(30000, 500 * 2 ** i), `wait ${i}: ${ms}`)
	const long = waits.slice(8)
	assert.ok(Math.max(...long) > 20000 && Math.min(...long) < 10000, `jitter: ${long}`)
	delete all.server.connected
	await all.time.advance(31000)
	await all.time.advance(6000)
	assert.equal(all.client.state, 'open')
	all.server.last.drop()
	assert.ok(waits.at(-1) <= 500, `${waits.at(-1)}`)
})

test('a connection that is closed right after its welcome does not begin the back-off anew', async () => {
	const all = await opened()
	const waits = []
	all.client.addEventListener('state', (e) => e.detail.state === 'waiting' && waits.push(e.detail.retryInMs))
	const heard = all.server.heard
	all.server.heard = function (socket, message) {
		heard.call(this, socket, message)
		this.time.set(() => socket.drop(3002), 5)
	}
	all.server.last.drop(3002)
	await all.time.advance(120000)
	assert.ok(waits.length < 30, `${waits.length} connections in two minutes`)
})

for (const code of [3500, 3501, 3502, 3503, 3504, 3505, 3999, 1002, 1008, 1009])
	test(`code ${code} is final`, async () => {
		const all = await opened()
		const job = await running(all)
		const closed = new Promise((resolve) => all.client.addEventListener('close', (e) => resolve(e.detail)))
		all.server.last.drop(code, 'why')
		assert.deepEqual([(await closed).code, all.client.state], [code, 'closed'])
		await assert.rejects(job.done, { name: 'closed', code })
		await all.time.advance(600000)
		assert.equal(all.server.all.length, 1)
	})

for (const code of [1000, 1001, 1006, 1011, 1012, 3000, 3001, 3002, 3004, 3499])
	test(`code ${code} reconnects`, async () => {
		const all = await opened()
		all.server.last.drop(code)
		await all.time.advance(600)
		assert.equal(all.client.state, 'open')
		assert.equal(all.server.all.length, 2)
	})

test('after a final code open() begins again, and the jobs go on', async () => {
	const all = await opened()
	const job = await running(all)
	all.server.last.drop(3502)
	all.client.open()
	await all.time.advance(10)
	assert.deepEqual(all.server.ops('hello')[0].jobs, [{ id: JOB, attempt: 1, at: 5 }])
	finish(all.server.last, 5)
	assert.equal(job.status, 'succeeded')
})

test('close() leaves for good', async () => {
	const all = await opened()
	const job = all.client.submit(request)
	all.client.close()
	assert.equal(all.server.last.leftWith, 1000)
	await all.time.advance(600000)
	assert.equal(all.server.all.length, 1)
	assert.equal(all.time.timers.size, 0)
	assert.equal(job.status, 'sending', 'another open() goes on with it')
})

test('a node that drains gets no submission, and is left when it said', async () => {
	const all = await opened()
	all.server.last.say({ ev: 'draining', reconnect_in_ms: 3000 })
	const job = all.client.submit(request)
	assert.throws(() => all.client.voice(new ArrayBuffer(1)), { name: 'unavailable' })
	assert.deepEqual(all.server.ops('submit'), [])
	await all.time.advance(2900)
	assert.equal(all.server.all.length, 1)
	all.server.last.drop(3000)
	await all.time.advance(10)
	assert.equal(all.server.all.length, 2, 'at once: the node chose the time')
	assert.deepEqual(all.server.ops('submit').map((m) => m.ref), [job.ref])
	all.server.last.say({ ev: 'draining', reconnect_in_ms: 500 })
	await all.time.advance(1600)
	assert.equal(all.server.all.length, 3, 'a node that does not close is left all the same')
})

test('a credential that cannot be had is tried again; one that never will closes; one that hangs is given up', async () => {
	let fails = 3
	const all = begin(new Hand(), {
		credential: () => {
			if (fails-- > 0) throw new Error('away')
			return 'tk'
		},
	})
	all.client.open()
	await all.time.advance(10000)
	assert.equal(all.client.state, 'open')
	const never = begin(new Hand(), { credential: () => Promise.reject(Object.assign(new Error('signed out'), { final: true })) })
	never.client.open()
	await never.time.advance(60000)
	assert.equal(never.client.state, 'closed')
	assert.equal(never.client.closedBecause.reason, 'signed out')
	await assert.rejects(never.client.submit({ model: 'm', messages: [] }).done, /signed out/)
	let asked = 0
	const hangs = begin(new Hand(), { credential: () => (++asked === 1 ? new Promise(() => {}) : 'tk') })
	hangs.client.open()
	await hangs.time.advance(20000)
	assert.equal(hangs.client.state, 'open')
})

// ── silence, tabs, networks ──

test('silence is asked after, and a connection without an answer is given up', async () => {
	const all = await opened()
	await all.time.advance(24000)
	assert.equal(all.server.ops('ping').length, 0)
	await all.time.advance(2000)
	assert.equal(all.server.ops('ping').length, 1)
	all.server.deaf = true
	await all.time.advance(25000)
	assert.equal(all.server.ops('ping').length, 2)
	await all.time.advance(9000)
	assert.equal(all.server.all.length, 1)
	await all.time.advance(2000)
	assert.equal(all.server.all.length, 2)
	assert.equal(all.server.all[0].leftWith, 4000)
})

test('no welcome in time: another connection', async () => {
	const all = begin(new Hand())
	all.server.heard = () => {}
	all.client.open()
	await all.time.advance(14000)
	assert.equal(all.server.all.length, 1)
	await all.time.advance(2000)
	assert.equal(all.server.all.length, 2)
})

test('a tab that slept asks before it gives its connection up', async () => {
	const all = await opened()
	all.server.deaf = true
	await all.time.advance(25500)
	assert.equal(all.server.ops('ping').length, 1)
	all.time.freeze(3600000) // the pong came, and waits behind the timers
	await all.time.advance(10)
	assert.equal(all.server.all.length, 1)
	assert.equal(all.server.ops('ping').length, 2)
	all.server.last.say({ ev: 'pong' })
	await all.time.advance(20000)
	assert.equal(all.server.all.length, 1)
	assert.equal(all.client.state, 'open')
})

test('a throttled tab gives a dead connection up all the same', async () => {
	const all = await opened()
	all.server.deaf = true
	all.time.late = 55000 // timers once a minute
	await all.time.advance(5 * 60000)
	assert.ok(all.server.all.length >= 2)
})

test('a tab that is seen again, or resumed, looks at once', async () => {
	const all = await opened()
	all.server.deaf = true
	all.document.visibilityState = 'hidden'
	all.document.dispatchEvent(new Event('visibilitychange'))
	assert.equal(all.server.ops('ping').length, 0)
	all.document.visibilityState = 'visible'
	all.document.dispatchEvent(new Event('visibilitychange'))
	assert.equal(all.server.ops('ping').length, 1)
	all.document.dispatchEvent(new Event('resume'))
	assert.equal(all.server.ops('ping').length, 1, 'one question at a time')
	await all.time.advance(4600)
	assert.equal(all.server.all.length, 2)
})

test('without a network it is tried rarely; when it comes back, soon', async () => {
	const all = await opened()
	all.server.deaf = true
	all.navigator.onLine = false
	all.window.dispatchEvent(new Event('offline'))
	await all.time.advance(4100)
	assert.equal(all.client.state, 'waiting')
	assert.ok(all.states.at(-1).retryInMs >= 30000)
	await all.time.advance(20000)
	assert.equal(all.server.all.length, 1)
	all.navigator.onLine = true
	all.window.dispatchEvent(new Event('online'))
	await all.time.advance(510)
	assert.equal(all.server.all.length, 2)
	assert.equal(all.client.state, 'open')
})

test('a page in the page cache holds no connection, and takes one when it is shown again', async () => {
	const all = await opened()
	const put = (type) => all.window.dispatchEvent(Object.assign(new Event(type), { persisted: true }))
	put('pagehide')
	assert.equal(all.server.last.over, true)
	await all.time.advance(3600000)
	assert.equal(all.server.all.length, 1)
	put('pageshow')
	await all.time.advance(510)
	assert.equal(all.client.state, 'open')
})

test('a page that is put away while a credential is awaited takes another when it is shown again', async () => {
	let asked = 0
	const all = begin(new Hand(), { credential: () => (++asked === 1 ? new Promise(() => {}) : 'tk-sluice-y') })
	const put = (type) => all.window.dispatchEvent(Object.assign(new Event(type), { persisted: true }))
	all.client.open()
	await all.time.advance(10)
	put('pagehide')
	await all.time.advance(3600000)
	assert.equal(asked, 1, 'it rests')
	put('pageshow')
	await all.time.advance(510)
	assert.equal(all.client.state, 'open')
})

test('a frame that is no JSON object ends the connection, not the client', async () => {
	for (const data of ['null', '7', '"text"', '{']) {
		const all = await opened()
		all.server.last.onmessage({ data })
		assert.equal(all.client.state, 'waiting', data)
		await all.time.advance(600)
		assert.equal(all.client.state, 'open', data)
	}
})

// ── a page that was loaded again ──

test('what was handed in before a reload is the same job, and nothing that is heard of it meanwhile is met as another', async () => {
	const all = begin(new Hand(), { session: 'ses_1', resume: 'r0' })
	const met = []
	all.client.addEventListener('job', (e) => met.push(e.detail))
	const job = all.client.submit(request, { ref: 'before-1', sentIn: 'ses_1' })
	all.client.open()
	await all.time.advance(10)
	assert.deepEqual(all.server.ops('submit'), [{ op: 'submit', ref: 'before-1', job: request }])
	all.server.last.say({ ev: 'snapshot', job: JOB, attempt: 1, text: 'some text', parts: [], status: 'succeeded' })
	finish(all.server.last, 9)
	all.server.last.say({ ev: 'accepted', ref: 'before-1', job: JOB, kind: 'chat', lane: 'interactive', created_at: 't' })
	assert.equal((await job.done).text, 'some text')
	assert.deepEqual(met, [])
})

test('what was handed in before a reload, in another session, may have been accepted: nobody can tell', async () => {
	const all = begin(new Hand(), { session: 'ses_1' })
	const job = all.client.submit(request, { ref: 'before-1', sentIn: 'ses_0' })
	all.client.open()
	await all.time.advance(10)
	await assert.rejects(job.done, { name: 'outcome_unknown' })
	assert.deepEqual(all.server.ops('submit'), [])
})

test('a ref that is said again is the same job while that one is open, and with another request a conflict', async () => {
	const all = await opened()
	const job = all.client.submit(request, { ref: 'mine' })
	assert.equal(all.client.submit({ ...request }, { ref: 'mine' }), job)
	assert.throws(() => all.client.submit({ ...request, model: 'm' }, { ref: 'mine' }), { name: 'conflict' })
	all.server.last.say({ ev: 'accepted', ref: 'mine', job: JOB, kind: 'chat', lane: 'interactive', created_at: 't' })
	assert.equal(all.client.submit(request, { ref: 'mine' }), job)
	assert.equal(all.server.ops('submit').length, 1)
	finish(all.server.last, 0)
	await job.done
})

test('a ref that is said again after its end is that job, whose end is asked for', async () => {
	const all = await opened()
	const first = all.client.submit(request, { ref: 'mine' })
	all.server.last.say({ ev: 'accepted', ref: 'mine', job: JOB, kind: 'chat', lane: 'interactive', created_at: 't' })
	all.server.last.say({ ev: 'delta', job: JOB, attempt: 1, at: 0, text: 'some text' })
	finish(all.server.last, 9)
	await first.done
	const again = all.client.submit(request, { ref: 'mine' })
	all.server.last.say({ ev: 'accepted', ref: 'mine', job: JOB, kind: 'chat', lane: 'interactive', created_at: 't' })
	assert.deepEqual(all.server.ops('attach').map((m) => m.jobs), [[{ id: JOB }]])
	all.server.last.say({ ev: 'snapshot', job: JOB, attempt: 1, text: 'some text', parts: [], status: 'succeeded' })
	finish(all.server.last, 9)
	assert.equal((await again.done).text, 'some text')
})

// ── refused for now ──

test('a submission that was refused for sure is handed in again, in another session too', async () => {
	for (const [name, outcome] of [['draining', 'sending'], ['unavailable', 'sending'], ['outcome_unknown', 'refused']]) {
		const all = await opened()
		const job = all.client.submit(request)
		all.server.last.say({ ev: 'fault', ref: job.ref, status: null, name, message: 'm', retryable: true, retry_after_ms: 20000 })
		all.server.session = 'ses_2'
		all.server.last.drop()
		await all.time.advance(600)
		assert.equal(all.client.session, 'ses_2')
		assert.equal(job.status, outcome, name)
		assert.equal(all.server.ops('submit').length, outcome === 'sending' ? 1 : 0, name)
	}
})

test('a submission that nobody answers ends, and what others submitted meanwhile is told then', async () => {
	const all = await opened({ submitMs: 20000, session: 'ses_1' })
	const met = []
	all.client.addEventListener('job', (e) => met.push(e.detail.id))
	const job = all.client.submit(request)
	all.server.last.drop()
	await all.time.advance(600)
	all.server.last.say({ ev: 'queued', job: JOB, lane: 'interactive', position: 1, estimate_ms: null, why: 'slots' })
	await all.time.advance(19000)
	assert.deepEqual([job.status, met], ['sending', []])
	await all.time.advance(2000)
	await assert.rejects(job.done, { name: 'outcome_unknown', message: /did not answer for 20 s/, retryable: true })
	assert.deepEqual([job.status, met], ['refused', [JOB]])
	assert.equal(all.server.all.length, 2, 'the connection is not to blame')
	await assert.rejects((async () => {
		const voice = all.client.voice(new ArrayBuffer(1))
		await all.time.advance(21000)
		await voice.done
	})(), { name: 'outcome_unknown' })
})

test('a submission has its time where a connection stands, and again over the next one', async () => {
	const all = begin(new Hand(), { submitMs: 20000 })
	const job = all.client.submit(request)
	await all.time.advance(60000)
	all.client.open()
	await all.time.advance(15000)
	all.server.last.drop()
	await all.time.advance(15000)
	assert.equal(job.status, 'sending')
	all.server.last.say({ ev: 'fault', ref: job.ref, status: null, name: 'unavailable', message: 'm', retryable: true, retry_after_ms: 1000 })
	await all.time.advance(1600)
	assert.equal(all.server.ops('submit').length, 2)
	all.server.last.say({ ev: 'accepted', ref: job.ref, job: JOB, kind: 'chat', lane: 'interactive', created_at: 't' })
	await all.time.advance(60000)
	assert.equal(job.status, 'queued')
})

test('an answer that came while the tab slept counts, though its timer runs first', async () => {
	const all = await opened({ submitMs: 20000 })
	const job = all.client.submit(request)
	all.time.freeze(3600000)
	await all.time.advance(10)
	all.server.last.say({ ev: 'accepted', ref: job.ref, job: JOB, kind: 'chat', lane: 'interactive', created_at: 't' })
	await all.time.advance(60000)
	assert.equal(job.status, 'queued')
})

test('text that was asked for and refused is asked for later, more and more rarely, not with every delta', async () => {
	const all = await opened()
	const job = await running(all)
	const refuse = () => all.server.last.say({ ev: 'fault', job: JOB, status: null, name: 'rate_limited', message: 'm', retryable: true, retry_after_ms: null })
	const delta = (at) => all.server.last.say({ ev: 'delta', job: JOB, attempt: 1, at, text: 'x' })
	delta(9)
	for (const [wait, asked] of [[1000, 2], [2000, 3], [4000, 4]]) {
		refuse()
		delta(10)
		await all.time.advance(wait - 10)
		delta(11)
		assert.equal(all.server.ops('attach').length, asked - 1, `before ${wait} ms`)
		await all.time.advance(20)
		assert.equal(all.server.ops('attach').length, asked, `after ${wait} ms`)
	}
	all.server.last.say({ ev: 'resumed', jobs: [{ job: JOB, attempt: 1, at: 5 }] })
	all.server.last.say({ ev: 'delta', job: JOB, attempt: 1, at: 5, text: 'text' })
	assert.equal(job.text, 'some text')
})

test('a client that is closed from what it tells stays closed, at any of its steps', async () => {
	for (const [type, state] of [['state', 'connecting'], ['welcome', undefined], ['state', 'open'], ['state', 'waiting']]) {
		let tickets = 0
		const all = begin(new Hand(), { credential: async () => `tk-${++tickets}` })
		all.client.addEventListener(type, (e) => e.detail.state === state && all.client.close())
		all.client.open()
		await all.time.advance(10)
		if (state === 'waiting') all.server.last.drop()
		await all.time.advance(60000)
		assert.equal(all.client.state, 'closed', `${type} ${state}`)
		assert.equal(all.time.timers.size, 0, `${type} ${state}`)
		assert.equal(tickets, state === 'connecting' ? 0 : 1, `${type} ${state}`)
	}
})

// ── the package ──

test('the package has its licence, and names the Node that has WebSocket', () => {
	const at = (path) => readFileSync(new URL(`../../../../../${path}`, import.meta.url), 'utf8')
	assert.equal(at('ops/client/js/LICENSE'), at('LICENSE'))
	assert.equal(JSON.parse(at('ops/client/js/package.json')).engines.node, '>=22')
})

test('the package holds every module that another one of it imports', () => {
	const folder = new URL('../../../../../ops/client/js/', import.meta.url)
	const { files, main } = JSON.parse(readFileSync(new URL('package.json', folder), 'utf8'))
	const seen = new Set([main.slice(2)])
	for (const name of seen) {
		assert.ok(files.includes(name), `${name} is left out`)
		for (const [, other] of readFileSync(new URL(name, folder), 'utf8').matchAll(/from '\.\/([^']+)'/g)) seen.add(other)
	}
	assert.deepEqual([...seen].sort(), readdirSync(folder).filter((name) => name.endsWith('.js')).sort())
})

// ── voice, sizes ──

test('a voice message is a binary frame whose ref counts on from the welcome', async () => {
	const all = await opened()
	const one = all.client.voice(new ArrayBuffer(3))
	const two = all.client.voice(new ArrayBuffer(4))
	assert.deepEqual([one.ref, two.ref], ['bin-1', 'bin-2'])
	assert.equal(all.server.last.sent.filter((m) => m instanceof ArrayBuffer).length, 2)
	all.server.last.say({ ev: 'fault', ref: 'bin-1', status: null, name: 'not_supported', message: 'later', retryable: false, retry_after_ms: null })
	await assert.rejects(one.done, { name: 'not_supported' })
	all.server.last.drop()
	await all.time.advance(600)
	await assert.rejects(two.done, { name: 'outcome_unknown' })
})

test('a job above 1 MiB is refused here', async () => {
	const { client } = await opened()
	assert.throws(() => client.submit({ ...request, system: 'ö'.repeat(600000) }), { name: 'too_large' })
})

test('a job that the server could not read is refused here, by the place of what is wrong; nothing of it is sent or waits', async () => {
	const { client, server } = await opened()
	const deep = (levels) => (levels ? { a: deep(levels - 1) } : 1)
	for (const [param, more, message] of [
		['messages[1].content', { messages: [...request.messages, { role: 'user', content: 'I like it 😀'.slice(0, -1) }] }, /half of a character.* at 10/],
		['system', { system: '\udc00' }, /half of a character/],
		['system', { system: '😀\udc00' }, /half of a character/],
		['system', { system: 'a\0' }, /U\+0000 at 1/],
		['metadata', { metadata: { 'a\ud800': 1 } }, /half of a character/],
		['metadata.note', { metadata: { toJSON: () => ({ note: '\ud800' }) } }, /half of a character/],
		[null, { metadata: deep(63) }, /63 levels/],
		[null, { metadata: JSON.parse(`${'['.repeat(50000)}${']'.repeat(50000)}`) }, /./],
	])
		assert.throws(() => client.submit({ ...request, ...more }), { name: 'invalid_request', param, message, retryable: false })
	for (const ref of ['', 'ö'.repeat(33), '\ud800', 7]) assert.throws(() => client.submit(request, { ref }), { name: 'invalid_request', param: 'ref' })
	assert.deepEqual([client.jobs, server.ops('submit')], [[], []])
	client.submit({ ...request, system: 'Whole: 😀 \ufffe \u0001', metadata: deep(62) }, { ref: 'ö'.repeat(32) })
	assert.equal(server.ops('submit').length, 1)
})

test('more jobs than one hello may name are attached behind it', async () => {
	const all = await opened()
	for (let i = 0; i < 300; i++) all.client.attach(`job_${String(i).padStart(26, '0')}`, { attempt: 1, text: 'x' })
	all.server.last.drop()
	await all.time.advance(600)
	assert.equal(all.server.ops('hello')[0].jobs.length, 256)
	assert.equal(all.server.ops('attach')[0].jobs.length, 44)
})

await run(import.meta.url)
