// A session's event stream (GET /v1/sessions/{id}/events) over what befalls it: connections that end, jobs that came and went
// meanwhile, positions of jobs that are none of its own, and a Redis that lost its memory.

import assert from 'node:assert/strict'
import { Api, chat, said } from '../support/api.mjs'
import { Answer } from '../support/follow.mjs'
import { events } from '../support/sse.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'

const stack = await Stack.open()
const api = new Api(stack)

/** A connection to the stream: `seen` grows, `id` is the last one. */
async function listen(id, after) {
	const stop = new AbortController()
	const headers = { authorization: `Bearer ${stack.key}` }
	if (after !== undefined) headers['last-event-id'] = after
	const response = await fetch(`${stack.front}/v1/sessions/${id}/events`, { headers, signal: stop.signal })
	assert.equal(response.status, 200)
	const ear = { seen: [], id: undefined, stop: () => stop.abort() }
	;(async () => {
		for await (const e of events(response)) {
			if (e.event === 'comment') continue
			ear.seen.push(e)
			ear.id = e.id
		}
	})().catch(() => {})
	ear.of = (job) => ear.seen.filter((e) => e.data.job === job)
	ear.names = (job) => ear.of(job).map((e) => e.event)
	ear.text = (job) => {
		const a = new Answer()
		for (const e of ear.of(job))
			if (e.event === 'delta') a.delta(e.data)
			else if (e.event === 'reset') a.reset(e.data)
		return a.text
	}
	ear.end = (job, limit_ms) => until(`${job} ends on the stream`, () => ear.names(job).some((n) => n === 'result' || n === 'fault'), limit_ms)
	return ear
}

test('a job that began and ended between two connections is told of, once, and none before it again', async () => {
	const id = await api.session()
	const long = chat('long', 'ttft=0 rate=30 tokens=90', { session: id })
	const brief = chat('brief', 'ttft=0 rate=0 tokens=9', { session: id })
	const apart = chat('no turn', 'ttft=0 rate=0 tokens=9', { session: id, lane: 'background' })
	const first = await listen(id)
	const one = (await api.accepted(brief)).id
	await first.end(one)
	const running = (await api.accepted(long)).id
	await until('it runs', () => first.names(running).includes('delta'))
	const before = first.text(running)
	const at = first.seen.findLastIndex((e) => e.data.job === running)
	first.stop()
	const jobs = [running]
	for (const job of [brief, apart]) {
		const { id } = await api.accepted(job)
		await api.ended(id)
		jobs.push(id)
	}
	const second = await listen(id, first.seen[at].id)
	for (const job of jobs) await second.end(job)
	assert.equal(before + second.of(running).filter((e) => e.event === 'delta').map((e) => e.data.text).join(''), said(long, 90))
	assert.equal(second.text(jobs[1]), said(brief, 9))
	assert.equal(second.text(jobs[2]), said(apart, 9))
	for (const job of jobs) assert.equal(second.names(job).filter((n) => n === 'result').length, 1)
	assert.deepEqual(second.of(one), [])
	// None is open now: the id says up to which job all are known.
	assert.match(second.id, /^job_[0-9A-Z]{26}$/)
	second.stop()
	const last = (await api.accepted(brief)).id
	await api.ended(last)
	const third = await listen(id, second.id)
	await third.end(last)
	assert.deepEqual([...new Set(third.seen.map((e) => e.data.job))], [last])
	third.stop()
})

test('a named job that is unknown, or of another session, is gone: no silence, and none of its text', async () => {
	const [mine, others] = [await api.session(), await api.session()]
	const theirs = (await api.accepted(chat('theirs', 'ttft=0 rate=0 tokens=9', { session: others }))).id
	await api.ended(theirs)
	const unknown = `job_${'0'.repeat(26)}`
	const ear = await listen(mine, `${theirs}:1:0,${unknown}:1:5`)
	await until('both are gone', () => ear.names(theirs).length && ear.names(unknown).length)
	assert.deepEqual(ear.names(theirs), ['gone'])
	assert.deepEqual(ear.of(unknown)[0].data, { ev: 'gone', job: unknown, why: 'unknown' })
	ear.stop()
})

test('positions: an empty one is none; a comma too many, a number too few are a 400', async () => {
	const id = await api.session()
	const job = `job_${'0'.repeat(26)}`
	for (const after of [`${job}:1:0,`, `,${job}:1:0`, ',', `${job}:1`, `${job}:`, `${job}:1:0,x`, 'x']) {
		const r = await api.call('GET', `/v1/sessions/${id}/events`, { headers: { 'last-event-id': after } })
		assert.equal(r.status, 400, after)
		assert.equal(r.json.error.code, 'resume_invalid')
	}
	const ear = await listen(id, '')
	ear.stop()
	const { id: ended } = await api.accepted(chat('from the beginning', 'ttft=0 rate=0 tokens=9'))
	await api.ended(ended)
	const seen = []
	for await (const e of api.events(ended, { after: '' })) seen.push(e.event)
	assert.ok(seen.includes('delta') && seen.at(-1) === 'result', seen.join(' '))
})

test('Redis is emptied while one turn runs and one waits: both streams hear the end of the waiting one, unbroken', async () => {
	const id = await api.session()
	const ear = await listen(id)
	const running = chat('runs', 'ttft=100 rate=40 tokens=200', { session: id })
	const waiting = chat('waits', 'ttft=100 rate=40 tokens=40', { session: id })
	const one = (await api.accepted(running)).id
	const two = (await api.accepted(waiting)).id
	await until('one runs, one waits', () => ear.names(one).includes('delta') && ear.names(two).includes('queued'))
	const alone = api.follow(two)
	await until('it is followed alone', async () => (await api.get(two)).json.status === 'queued')
	await stack.redis_cli('FLUSHALL')
	await ear.end(two, 60000)
	const { answer: a, end, reconnects } = await alone
	assert.equal(end.event, 'result')
	assert.equal(reconnects, 0)
	for (const text of [a.text, ear.text(two)]) assert.equal(text, said(waiting, 40))
	assert.equal(ear.names(two).at(-1), 'result')
	assert.equal(ear.text(one), said(running, 200))
	ear.stop()
}, { limit_ms: 90000 })

await run(import.meta.url)
