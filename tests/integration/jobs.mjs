// Jobs over HTTP (protocol: Jobs over HTTP): submit, read, follow, resume, list, cancel, sessions, repetition by key. What arrives
// is compared byte for byte with what the simulator must have said.

import assert from 'node:assert/strict'
import { Api, chat, said } from '../support/api.mjs'
import { Answer } from '../support/follow.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'

const stack = await Stack.open()
const api = new Api(stack)
const other = new Api(stack, stack.other_key)
const SONNET = 'claude-sonnet-4-5'
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
const JOB = /^job_[0-9a-hjkmnp-tv-z]{26}$/i

async function collect(id, options) {
	const seen = []
	for await (const e of api.events(id, options)) if (e.event !== 'comment') seen.push(e)
	return seen
}

test('a submitted job is answered 202 with all that the protocol names', async () => {
	const r = await api.submit(chat('one', undefined, { metadata: { essay: '42' } }))
	assert.equal(r.status, 202, r.text)
	const j = r.json
	assert.match(j.id, JOB)
	assert.equal(j.status, 'queued')
	assert.equal(j.kind, 'chat')
	assert.equal(j.lane, 'interactive')
	assert.ok('position' in j)
	assert.match(j.created_at, TIME)
	assert.equal(typeof j.log.topic, 'string')
	assert.ok(Number.isInteger(j.log.partition) && Number.isInteger(j.log.offset))
	assert.deepEqual(j.links, { self: `/v1/jobs/${j.id}`, events: `/v1/jobs/${j.id}/events` })
	assert.match(r.headers.get('x-request-id'), /^req_/)
	assert.match(r.headers.get('content-type'), /^application\/json/)
	await api.ended(j.id)
})

test('an ended job reads as the protocol says, its text byte for byte', async () => {
	const job = chat('two', 'ttft=0 rate=0 tokens=120', { metadata: { essay: '42', n: 1 }, max_tokens: 400 })
	const { id } = await api.accepted(job)
	const j = await api.ended(id)
	assert.equal(j.status, 'succeeded')
	assert.equal(j.result.text, said(job, 120))
	assert.equal(j.result.bytes, Buffer.byteLength(said(job, 120)))
	assert.deepEqual(j.result.parts, [{ at: 0, type: 'text' }])
	assert.equal(j.result.finish_reason, 'stop')
	assert.equal(j.result.partial, false)
	assert.equal(j.attempt, 1)
	assert.deepEqual(j.target, { provider: 'anthropic', account: 'anthropic-main', model: SONNET })
	for (const name of ['created_at', 'picked_up_at', 'first_token_at', 'finished_at']) assert.match(j[name], TIME, name)
	assert.ok(j.created_at <= j.picked_up_at && j.picked_up_at <= j.first_token_at && j.first_token_at <= j.finished_at)
	assert.equal(j.calls.length, 1)
	assert.equal(j.calls[0].model, SONNET)
	assert.equal(j.calls[0].fault, null)
	assert.match(j.calls[0].ended_at, TIME)
	assert.deepEqual(j.metadata, { essay: '42', n: 1 })
	assert.equal(j.fault, null)
})

test('usage is the provider’s and the cost follows the price table', async () => {
	const job = chat('three', 'ttft=0 rate=0 tokens=50', { system: 'You are a patient teacher.' })
	const { id } = await api.accepted(job)
	const { usage } = await api.ended(id)
	const bytes = Buffer.byteLength(job.system + job.messages[0].content)
	assert.equal(usage.input_tokens, Math.ceil(bytes / 4))
	assert.equal(usage.output_tokens, 50)
	assert.equal(usage.cached_input_tokens, 0)
	assert.equal(usage.cache_write_tokens, 0)
	assert.equal(usage.audio_ms, 0)
	assert.equal(usage.cost_microusd, usage.input_tokens * 3 + usage.output_tokens * 15)
})

test('the answer stands once in results, and its call once in the ledger', async () => {
	const job = chat('four', 'ttft=0 rate=0 tokens=70')
	const { id } = await api.accepted(job)
	await api.ended(id)
	const [row] = (await api.recorded([id])).get(id)
	assert.equal(row.status, 'succeeded')
	assert.equal(row.answer.toString(), said(job, 70))
	const calls = await stack.sql(`SELECT number, provider, output_tokens, cost_microusd FROM calls WHERE job = '${id}'`)
	assert.equal(calls.length, 1)
	assert.equal(calls[0][2], '70')
})

test('a task names the route, and OpenAI answers as well', async () => {
	for (const [more, model, provider] of [
		[{ task: 'chat', model: undefined }, 'claude-haiku-4-5', 'anthropic'],
		[{ model: 'gpt-4o-mini' }, 'gpt-4o-mini', 'openai'],
	]) {
		const job = chat('five', undefined, more)
		const { id } = await api.accepted(job)
		const j = await api.ended(id)
		assert.equal(j.status, 'succeeded', JSON.stringify(j.fault))
		assert.equal(j.target.provider, provider)
		assert.equal(j.result.text, said(job, 20, model))
	}
})

test('max_tokens cuts the answer and is named as the reason', async () => {
	for (const model of [SONNET, 'gpt-4.1-mini']) {
		const job = chat('six', 'ttft=0 rate=0 tokens=50', { max_tokens: 7, model })
		const { id } = await api.accepted(job)
		const j = await api.ended(id)
		assert.equal(j.result.finish_reason, 'length')
		assert.equal(j.result.text, said(job, 7))
	}
})

test('lanes: each takes a job, and the reply names it', async () => {
	for (const lane of ['interactive', 'high', 'background']) {
		const a = await api.accepted(chat(`lane ${lane}`, undefined, { lane }))
		assert.equal(a.lane, lane)
		assert.ok(a.log.topic.includes(lane), a.log.topic)
		const j = await api.ended(a.id)
		assert.equal(j.status, 'succeeded')
		assert.equal(j.lane, lane)
	}
})

test('?wait holds the reply until the end, and no longer than it says', async () => {
	const { id } = await api.accepted(chat('seven', 'ttft=700 rate=0 tokens=5'))
	const early = await api.get(id, '?wait=0')
	assert.ok(['queued', 'running'].includes(early.json.status), early.text)
	const begun = Date.now()
	const short = await api.call('GET', `/v1/jobs/${(await api.accepted(chat('slow', 'ttft=2500 rate=0 tokens=5'))).id}?wait=1`)
	assert.ok(['queued', 'running'].includes(short.json.status))
	assert.ok(Date.now() - begun > 900 && Date.now() - begun < 2300, `${Date.now() - begun}`)
	assert.equal((await api.get(id, '?wait=30')).json.status, 'succeeded')
})

test('events: the present state, the text from byte 0, its positions, the result', async () => {
	const job = chat('eight', 'ttft=100 rate=60 tokens=40')
	const { id } = await api.accepted(job)
	const a = new Answer()
	const seen = []
	for await (const e of api.events(id)) {
		if (e.event === 'comment') continue
		seen.push(e.event)
		assert.equal(e.data.ev ?? e.event, e.event)
		if (e.event === 'delta') {
			assert.equal(e.data.job, id)
			assert.equal(e.data.at, a.length)
			a.delta(e.data)
			assert.equal(e.id, `${a.attempt}:${a.length}`)
		}
		if (e.event === 'result') {
			assert.equal(e.data.bytes, a.length)
			assert.equal(e.data.finish_reason, 'stop')
			assert.equal(e.data.usage.output_tokens, 40)
			assert.ok(!('text' in e.data), 'what was streamed is not said again')
		}
	}
	assert.ok(['queued', 'started'].includes(seen[0]), seen[0])
	assert.ok(seen.includes('started'))
	assert.equal(seen.at(-1), 'result')
	assert.equal(a.text, said(job, 40))
	assert.equal(a.repeats + a.gaps + a.split, 0)
	assert.ok(a.deltas > 3, `it was streamed (${a.deltas} deltas)`)
})

test('events of an ended job: its whole text and its result', async () => {
	const job = chat('nine', 'ttft=0 rate=0 tokens=60')
	const { id } = await api.accepted(job)
	await api.ended(id)
	const { answer: a, end } = await api.follow(id)
	assert.equal(end.event, 'result')
	assert.equal(a.text, said(job, 60))
	assert.equal(a.repeats + a.gaps + a.split, 0)
})

test('resume from every byte of an ended answer, within characters too: no gap, no repeat', async () => {
	const job = chat('resume me', 'ttft=0 rate=0 tokens=40')
	const { id } = await api.accepted(job)
	const { attempt } = await api.ended(id)
	const whole = Buffer.from(said(job, 40))
	assert.ok(whole.length > whole.toString().length, 'the answer has characters of several bytes')
	for (let at = 0; at <= whole.length; at++) {
		const a = new Answer(attempt, whole.subarray(0, at))
		const between = at === whole.length || (whole[at] & 0xc0) !== 0x80
		let first
		const { end } = await api.follow(id, { answer: a, seen: (e) => (first ??= ['delta', 'reset'].includes(e.event) && e) })
		assert.equal(end.event, 'result')
		assert.ok(a.bytes.equals(whole), `from byte ${at}`)
		assert.equal(a.gaps, 0)
		if (between) {
			assert.equal(a.repeats, 0, `from byte ${at}`)
			assert.equal(a.resets, 0, `from byte ${at}`)
			if (first) assert.equal(first.data.at, at)
		}
	}
}, { limit_ms: 60000 })

test('resume while the answer grows, by Last-Event-ID and by ?after', async () => {
	for (const by of ['header', 'query']) {
		const job = chat(`growing ${by}`, 'ttft=50 rate=40 tokens=60')
		const { id } = await api.accepted(job)
		const a = new Answer()
		let after
		let hops = 0
		for (let end = false; !end; hops++) {
			const stop = new AbortController()
			let got = 0
			const where = after === undefined ? {} : by === 'header' ? { after } : { query: `?after=${after}` }
			try {
				for await (const e of api.events(id, { ...where, signal: stop.signal })) {
					if (e.id) after = e.id
					if (e.event === 'reset') assert.fail('a reset nobody needed')
					if (e.event === 'delta') {
						assert.equal(e.data.at, a.length)
						a.delta(e.data)
						if (++got === 3 && hops < 6) stop.abort()
					}
					if (e.event === 'result') end = true
				}
			} catch (e) {
				if (e.name !== 'AbortError') throw e
			}
		}
		assert.ok(hops > 3)
		assert.equal(a.text, said(job, 60))
	}
})

test('a position of an older attempt or beyond the end gets a reset and the present text; a malformed one is a 400', async () => {
	const job = chat('positions', 'ttft=0 rate=0 tokens=30')
	const { id } = await api.accepted(job)
	const { attempt } = await api.ended(id)
	for (const after of [`${attempt}:999999`, `${attempt + 5}:3`, `${attempt}:99999999999999999999`, '99999999999999999999:1']) {
		const seen = await collect(id, { after })
		assert.ok(seen.some((e) => e.event === 'reset'), `${after}: ${seen.map((e) => e.event)}`)
		const a = new Answer(attempt, Buffer.from('wrong'))
		for (const e of seen) if (e.event === 'reset') a.reset(e.data)
			else if (e.event === 'delta') a.delta(e.data)
		assert.equal(a.text.replace(/^wrong$/, ''), said(job, 30), after)
	}
	for (const after of ['x', '1:', ':1', '-1:0', '1:1:1', '1:0x4']) {
		const r = await api.call('GET', `/v1/jobs/${id}/events`, { headers: { 'last-event-id': after } })
		assert.equal(r.status, 400, `${after}: ${r.status}`)
		assert.equal(r.json.error.code, 'resume_invalid')
	}
})

test('Last-Event-ID wins over ?after: a browser comes back to the URL that it began with', async () => {
	const job = chat('both positions', 'ttft=0 rate=0 tokens=30')
	const { id } = await api.accepted(job)
	const { attempt } = await api.ended(id)
	const whole = Buffer.from(said(job, 30))
	const { end } = await api.follow(id)
	const seen = []
	for await (const e of api.events(id, { query: `?after=${attempt}:0`, after: `${attempt}:${whole.length}` })) seen.push(e.event)
	assert.deepEqual(seen.filter((e) => e !== 'comment'), [end.event])
	const session = await api.session()
	const r = await api.call('GET', `/v1/sessions/${session}/events?after=`, { headers: { 'last-event-id': 'nothing' } })
	assert.equal(r.status, 400)
	assert.equal(r.json.error.code, 'resume_invalid')
})

test('a hundred followers of one job read the same bytes', async () => {
	const job = chat('many eyes', 'ttft=300 rate=80 tokens=60')
	const { id } = await api.accepted(job)
	const all = await Promise.all(Array.from({ length: 100 }, () => api.follow(id)))
	for (const { answer: a, end } of all) {
		assert.equal(end.event, 'result')
		assert.equal(a.text, said(job, 60))
		assert.equal(a.repeats + a.gaps, 0)
	}
})

test('another organisation’s job is a 404: read, followed, cancelled', async () => {
	const { id } = await api.accepted(chat('mine', 'ttft=500 rate=0 tokens=5'))
	for (const [method, path] of [['GET', `/v1/jobs/${id}`], ['GET', `/v1/jobs/${id}/events`], ['DELETE', `/v1/jobs/${id}`]]) {
		const r = await other.call(method, path)
		assert.equal(r.status, 404, `${method} ${path}: ${r.text}`)
		assert.equal(r.json.error.code, 'not_found')
	}
	assert.equal((await api.ended(id)).status, 'succeeded')
	assert.equal((await other.get(id)).status, 404, 'also when it has ended')
	const list = await other.call('GET', '/v1/jobs?limit=100')
	assert.ok(!list.text.includes(id))
})

test('an id that is none, or of no job, is a 404', async () => {
	for (const id of ['job_nothing', 'x', 'job_00000000000000000000000000', 'ses_00000000000000000000000000', '%00', '..%2f']) {
		assert.equal((await api.get(id)).status, 404, id)
		assert.equal((await api.call('GET', `/v1/jobs/${id}/events`)).status, 404, id)
		assert.equal((await api.cancel(id)).status, 404, id)
	}
})

test('cancel in mid-stream: 202, a fault ends the stream, the text so far is kept', async () => {
	const job = chat('stop me', 'ttft=50 rate=30 tokens=600')
	const before = await stack.calls()
	const { id } = await api.accepted(job)
	const a = new Answer()
	let end
	for await (const e of api.events(id)) {
		if (e.event === 'delta') {
			a.delta(e.data)
			if (a.deltas === 5) assert.equal((await api.cancel(id)).status, 202)
		}
		if (e.event === 'fault' || e.event === 'result') end = e
	}
	assert.equal(end.event, 'fault')
	assert.equal(end.data.status, 'cancelled')
	assert.equal(end.data.name, 'cancelled')
	const j = (await api.get(id)).json
	assert.equal(j.status, 'cancelled')
	assert.equal(j.result.partial, true)
	assert.ok(said(job, 600).startsWith(j.result.text) && j.result.text.length > 0)
	assert.equal(a.text, j.result.text)
	assert.equal(j.fault.name, 'cancelled')
	await until('the provider was hung up on', async () => (await stack.calls()).cancelled > before.cancelled)
	const r = await api.cancel(id)
	assert.equal(r.status, 409, 'a second time')
	assert.equal(r.json.error.code, 'already_terminal')
})

test('cancel before the first token, and a job that waits for its turn', async () => {
	const first = await api.accepted(chat('not begun', 'ttft=8000 rate=0 tokens=5'))
	assert.equal((await api.cancel(first.id)).status, 202)
	const j = await api.ended(first.id)
	assert.equal(j.status, 'cancelled')
	const session = await api.session()
	const turn = await api.accepted(chat('turn one', 'ttft=1500 rate=0 tokens=5', { session }))
	const waiting = await api.accepted(chat('turn two', undefined, { session }))
	const last = await api.accepted(chat('turn three', undefined, { session }))
	assert.equal((await api.cancel(waiting.id)).status, 202)
	assert.equal((await api.ended(turn.id)).status, 'succeeded')
	const w = await api.ended(waiting.id)
	assert.equal(w.status, 'cancelled')
	assert.equal(w.calls.length, 0, 'no provider was asked')
	assert.equal((await api.ended(last.id)).status, 'succeeded', 'the turn behind it goes on')
})

test('an ended job cannot be cancelled: 409', async () => {
	const { id } = await api.accepted(chat('done'))
	await api.ended(id)
	const r = await api.cancel(id)
	assert.equal(r.status, 409)
	assert.equal((await api.get(id)).json.status, 'succeeded')
})

test('Idempotency-Key: the same body gets the same reply again, another body a conflict', async () => {
	const headers = { 'idempotency-key': `key-${Date.now()}-${process.pid}` }
	const job = chat('once')
	const first = await api.submit(job, headers)
	const again = await api.submit(job, headers)
	assert.equal(first.status, 202)
	assert.equal(again.status, 202)
	assert.equal(again.text, first.text)
	assert.equal(again.headers.get('idempotent-replayed'), 'true')
	assert.equal(first.headers.get('idempotent-replayed'), null)
	const conflict = await api.submit(chat('twice'), headers)
	assert.equal(conflict.status, 409)
	assert.equal(conflict.json.error.code, 'conflict')
	const theirs = await other.submit(job, headers)
	assert.equal(theirs.status, 202, 'keys are an organisation’s own')
	assert.notEqual(theirs.json.id, first.json.id)
	await api.ended(first.json.id)
	const late = await api.submit(job, headers)
	assert.equal(late.text, first.text, 'also after the end')
	assert.equal((await stack.sql(`SELECT count(*) FROM calls WHERE job = '${first.json.id}'`)).length, 1)
})

test('Idempotency-Key: a refusal is kept as well, on every POST; an empty key is refused by name', async () => {
	const anthropic = { 'anthropic-version': '2023-06-01' }
	for (const [path, body, status, more = {}] of [
		['/v1/jobs', chat('bad', undefined, { colour: 'red' }), 400],
		['/v1/jobs', '{"kind":', 400],
		['/v1/jobs', chat('x', undefined, { session: 'ses_00000000000000000000000000' }), 404],
		['/v1/sessions', { ttl_s: 0 }, 400],
		['/v1/tickets', {}, 400],
		['/v1/chat/completions', { model: 'gpt-4o-mini', messages: [] }, 400],
		['/v1/chat/completions', { model: 'no-such-model', messages: [{ role: 'user', content: 'x' }] }, 404],
		['/v1/messages', { model: SONNET, messages: [] }, 400, anthropic],
	]) {
		const headers = { ...more, 'idempotency-key': `bad-${path}-${status}-${Math.random()}` }
		const what = `${path} ${JSON.stringify(body)}`
		const first = await api.call('POST', path, { body, headers })
		assert.equal(first.status, status, `${what}: ${first.text}`)
		assert.equal(first.headers.get('idempotent-replayed'), null, what)
		const again = await api.call('POST', path, { body, headers })
		assert.equal(again.status, status, what)
		assert.equal(again.text, first.text, what)
		assert.equal(again.headers.get('idempotent-replayed'), 'true', what)
		const conflict = await api.call('POST', path, { body: { other: 1 }, headers })
		assert.equal(conflict.status, 409, what)
		const empty = await api.call('POST', path, { body, headers: { ...more, 'idempotency-key': '' } })
		assert.equal(empty.status, 400, what)
	}
	const empty = await api.submit(chat('empty key'), { 'idempotency-key': '' })
	assert.equal(empty.status, 400, empty.text)
	assert.equal(empty.json.error.param, 'Idempotency-Key')
})

test('twenty requests at once with one key make one job', async () => {
	const headers = { 'idempotency-key': `race-${Date.now()}` }
	const job = chat('race')
	const all = await Promise.all(Array.from({ length: 20 }, () => api.submit(job, headers)))
	const ids = new Set(all.filter((r) => r.status === 202).map((r) => r.json.id))
	assert.equal(ids.size, 1, [...new Set(all.map((r) => `${r.status} ${r.text}`))].join('\n'))
	const j = await api.ended([...ids][0])
	assert.equal(j.status, 'succeeded')
	assert.equal(j.calls.length, 1)
})

test('sessions: made, read, deleted; another organisation’s is a 404', async () => {
	const body = { task: 'chat', system: 'Be brief.', ttl_s: 600, metadata: { room: '7' } }
	const made = await api.call('POST', '/v1/sessions', { body })
	assert.equal(made.status, 201, made.text)
	assert.match(made.json.id, /^ses_/)
	const path = `/v1/sessions/${made.json.id}`
	const read = await api.call('GET', path)
	assert.equal(read.status, 200)
	assert.equal(read.json.id, made.json.id)
	assert.equal(read.json.task, 'chat')
	assert.deepEqual(read.json.metadata, { room: '7' })
	assert.equal((await other.call('GET', path)).status, 404)
	assert.equal((await other.call('DELETE', path)).status, 404)
	assert.equal((await other.submit(chat('x', undefined, { session: made.json.id }))).status, 404, 'nor used')
	assert.ok([200, 202, 204].includes((await api.call('DELETE', path)).status))
	assert.equal((await api.call('GET', path)).status, 404)
	assert.equal((await api.submit(chat('x', undefined, { session: made.json.id }))).status, 404)
})

test('a turn as long as a request may be ends, and the next one follows it', async () => {
	for (const text of ['a'.repeat(1_020_000), '"'.repeat(500_000)]) {
		const session = await api.session()
		const { id } = await api.accepted(chat(text, undefined, { session }))
		const next = await api.accepted(chat('and now?', undefined, { session }))
		const j = await api.ended(id)
		assert.equal(j.status, 'succeeded', JSON.stringify(j.fault))
		assert.equal((await api.ended(next.id)).status, 'succeeded')
		const long = await until('its row', async () => (await stack.sql(`SELECT length(turn_messages) FROM results WHERE job = '${id}'`))[0])
		assert.ok(Number(long[0]) > 1_000_000, `messages of ${long} bytes`)
	}
})

test('a session whose time is over is gone: read, followed, deleted, continued; a turn is a use', async () => {
	const made = await api.call('POST', '/v1/sessions', { body: { task: 'chat', ttl_s: 2 } })
	const { id: session } = made.json
	const begun = Date.now()
	const path = `/v1/sessions/${session}`
	assert.equal((await api.call('GET', path)).status, 200)
	await until('a second has gone', () => Date.now() - begun > 1000)
	const { id } = await api.accepted(chat('a use', 'ttft=0 rate=0 tokens=5', { session, model: undefined }))
	await api.ended(id)
	const used = Date.now()
	await api.recorded([id])
	await until('its first time is over', () => Date.now() - begun > 2200)
	if (Date.now() - used < 1800) assert.equal((await api.call('GET', path)).status, 200, 'the turn counted')
	await until('it is gone', async () => (await api.call('GET', path)).status === 404, 10000)
	assert.ok(Date.now() - used > 1500, 'not before its time')
	const r = await api.submit(chat('too late', undefined, { session, model: undefined }))
	assert.equal(r.status, 404, r.text)
	assert.equal((await api.call('GET', `${path}/events`)).status, 404)
	assert.equal((await api.call('DELETE', path)).status, 404)
	assert.equal((await api.call('GET', path)).status, 404, 'nothing brought it back')
})

test('a session’s next turn knows what was said, its task and its system prompt', async () => {
	const system = 'You are a patient teacher of many words.'
	const session = await api.session({ task: 'chat', system })
	const texts = []
	let bytes = Buffer.byteLength(system)
	for (let turn = 1; turn <= 3; turn++) {
		const job = chat(`turn ${turn}`, 'ttft=0 rate=0 tokens=30', { session, model: undefined })
		const j = await api.ended((await api.accepted(job)).id)
		assert.equal(j.status, 'succeeded', JSON.stringify(j.fault))
		assert.equal(j.session, session)
		bytes += Buffer.byteLength(job.messages[0].content)
		assert.equal(j.usage.input_tokens, Math.ceil(bytes / 4), `turn ${turn} was asked with all before it`)
		texts.push(j.result.text)
		assert.equal(j.result.text, said(job, 30, 'claude-haiku-4-5'))
		bytes += Buffer.byteLength(j.result.text)
	}
})

test('turns sent at once run in their order; more than eight open ones are refused', async () => {
	const session = await api.session()
	const ids = []
	// the first one's answer takes longer than asking for all of them does
	for (let i = 0; i < 8; i++) ids.push((await api.accepted(chat(`t${i}`, `ttft=${i ? 20 : 3000} rate=0 tokens=8`, { session }))).id)
	const r = await api.submit(chat('one too many', undefined, { session }))
	assert.equal(r.status, 429, r.text)
	assert.equal(r.json.error.code, 'busy')
	assert.ok(Number(r.headers.get('retry-after')) >= 0 && r.headers.get('retry-after-ms'))
	const jobs = await Promise.all(ids.map((id) => api.ended(id)))
	for (let i = 1; i < jobs.length; i++) {
		assert.equal(jobs[i].status, 'succeeded')
		assert.ok(jobs[i].calls[0].started_at >= jobs[i - 1].calls[0].ended_at, `turn ${i} waited`)
		assert.ok(jobs[i].usage.input_tokens > jobs[i - 1].usage.input_tokens)
	}
	assert.equal((await api.submit(chat('room again', undefined, { session }))).status, 202)
})

test('a session’s events: every open job, positions by job, resume', async () => {
	const session = await api.session()
	const a = chat('first', 'ttft=100 rate=60 tokens=30', { session })
	const b = chat('second', 'ttft=100 rate=60 tokens=30', { session })
	const one = (await api.accepted(a)).id
	const two = (await api.accepted(b)).id
	const stop = new AbortController()
	const answers = new Map([[one, new Answer()], [two, new Answer()]])
	const done = new Set()
	try {
		const response = await fetch(`${stack.front}/v1/sessions/${session}/events`, {
			headers: { authorization: `Bearer ${stack.key}` },
			signal: stop.signal,
		})
		assert.equal(response.status, 200)
		const { events } = await import('../support/sse.mjs')
		for await (const e of events(response)) {
			if (e.event === 'delta') {
				assert.equal(e.data.at, answers.get(e.data.job).length)
				answers.get(e.data.job).delta(e.data)
				assert.ok(e.id.split(',').some((p) => p === `${e.data.job}:${e.data.attempt}:${answers.get(e.data.job).length}`), e.id)
			}
			if (e.event === 'result') done.add(e.data.job)
			if (done.size === 2) stop.abort()
		}
	} catch (e) {
		if (e.name !== 'AbortError') throw e
	}
	assert.equal(answers.get(one).text, said(a, 30))
	assert.equal(answers.get(two).text, said(b, 30))
})

test('a background job of a session holds up none of its turns', async () => {
	const session = await api.session()
	const read = async (id) => (await api.get(id)).json.status
	const slow = await api.accepted(chat('takes its time', 'ttft=8000 rate=0 tokens=5', { session, lane: 'background' }))
	await until('it runs', async () => (await read(slow.id)) === 'running')
	const turn = await api.accepted(chat('meanwhile', 'ttft=0 rate=0 tokens=5', { session }))
	assert.equal((await api.ended(turn.id)).status, 'succeeded')
	assert.equal(await read(slow.id), 'running')
	assert.equal((await api.ended(slow.id)).status, 'succeeded')
})

test('a payload of 300 KiB goes through the blob store and is answered', async () => {
	const filler = 'é'.repeat(150 * 1024)
	const job = chat(`${filler} end`, 'ttft=0 rate=0 tokens=25')
	const { id } = await api.accepted(job)
	const j = await api.ended(id)
	assert.equal(j.status, 'succeeded', JSON.stringify(j.fault))
	assert.equal(j.result.text, said(job, 25))
	assert.equal(j.usage.input_tokens, Math.ceil(Buffer.byteLength(job.messages[0].content) / 4))
})

test('an answer above 256 KiB is stored, read and followed whole', async () => {
	const job = chat('long', 'ttft=0 rate=0 tokens=70000', { max_tokens: 100000 })
	const { id } = await api.accepted(job)
	const whole = said(job, 70000)
	assert.ok(Buffer.byteLength(whole) > 256 * 1024)
	const { answer: a } = await api.follow(id)
	assert.ok(a.text === whole, 'followed')
	const j = await api.ended(id)
	assert.equal(j.status, 'succeeded')
	assert.ok(j.result.text === whole, 'read')
	const [row] = (await api.recorded([id])).get(id)
	assert.ok(row.blob || row.answer.equals(Buffer.from(whole)))
})

test('the list: newest first, by session, status and lane, in pages', async () => {
	const session = await api.session()
	const ids = []
	for (let i = 0; i < 5; i++) {
		const { id } = await api.accepted(chat(`l${i}`, undefined, { session, lane: i === 4 ? 'high' : 'interactive' }))
		await api.ended(id)
		ids.unshift(id)
	}
	await api.recorded(ids)
	const list = async (query) => {
		const r = await api.call('GET', `/v1/jobs?${query}`)
		assert.equal(r.status, 200, r.text)
		return r.json.data.map((j) => j.id)
	}
	assert.deepEqual(await list(`session=${session}`), ids)
	assert.deepEqual(await list(`session=${session}&limit=2`), ids.slice(0, 2))
	assert.deepEqual(await list(`session=${session}&limit=2&after=${ids[1]}`), ids.slice(2, 4))
	assert.deepEqual(await list(`session=${session}&status=succeeded&lane=high`), ids.slice(0, 1))
	assert.deepEqual(await list(`session=${session}&status=failed`), [])
	const running = await api.accepted(chat('open', 'ttft=3000 rate=0 tokens=5', { session }))
	assert.equal((await list(`session=${session}&limit=1`))[0], running.id, 'open jobs too')
	await api.cancel(running.id)
	for (const bad of ['status=gone', 'lane=slow', 'limit=0', 'limit=x', 'limit=101', 'session=x', 'after=x', 'colour=red']) {
		const r = await api.call('GET', `/v1/jobs?${bad}`)
		assert.equal(r.status, 400, bad)
		assert.equal(r.json.error.param, bad.split('=')[0])
		if (bad !== 'colour=red') assert.ok(r.json.error.message.startsWith(`${bad.split('=')[0]} must be`), r.text)
	}
})

test('bad requests are refused with the code and the place of the mistake', async () => {
	const msg = [{ role: 'user', content: 'x' }]
	const good = { kind: 'chat', model: SONNET, messages: msg }
	const table = [
		[{ ...good, colour: 'red' }, 'unknown_field', 'colour'],
		[{ ...good, kind: 'sing' }, 'unknown_kind', 'kind'],
		[{ ...good, kind: 'voice' }, 'not_supported', 'kind'],
		[{ ...good, kind: 'transcribe' }, 'not_supported', 'kind'],
		[{ ...good, lane: 'slow' }, 'unknown_lane', 'lane'],
		[{ ...good, lane: 7 }, 'invalid_request', 'lane'],
		[{ ...good, model: 'no-such-model' }, 'unknown_route', 'model'],
		[{ ...good, model: undefined, task: 'no-such-task' }, 'unknown_route', 'task'],
		[{ ...good, task: 'chat' }, 'invalid_request', 'model'],
		[{ kind: 'chat', messages: msg }, 'invalid_request', 'task'],
		[{ model: SONNET, messages: msg }, 'invalid_request', 'kind'],
		[{ kind: 'chat', model: SONNET }, 'invalid_request', 'messages'],
		[{ ...good, messages: [] }, 'invalid_request', 'messages'],
		[{ ...good, messages: 'x' }, 'invalid_request', 'messages'],
		[{ ...good, messages: ['x'] }, 'invalid_request', 'messages[0]'],
		[{ ...good, messages: [{ role: 'boss', content: 'x' }] }, 'invalid_request', 'messages[0].role'],
		[{ ...good, messages: [{ role: 'user' }] }, 'invalid_request', 'messages[0].content'],
		[{ ...good, messages: [{ content: 'x' }] }, 'invalid_request', 'messages[0].role'],
		[{ ...good, messages: [{ role: 'user', content: 'x', name: 'y' }] }, 'unknown_field', 'messages[0].name'],
		[{ ...good, messages: [...msg, { role: 'assistant', content: 'x' }] }, 'invalid_request', 'messages[1].role'],
		[{ ...good, max_tokens: 0 }, 'invalid_request', 'max_tokens'],
		[{ ...good, max_tokens: 1.5 }, 'invalid_request', 'max_tokens'],
		[{ ...good, max_tokens: '5' }, 'invalid_request', 'max_tokens'],
		[{ ...good, temperature: 3 }, 'invalid_request', 'temperature'],
		[{ ...good, temperature: 'hot' }, 'invalid_request', 'temperature'],
		[{ ...good, stream: 1 }, 'invalid_request', 'stream'],
		[{ ...good, limits: { queue_ms: -1 } }, 'invalid_request', 'limits.queue_ms'],
		[{ ...good, limits: { walk_ms: 1 } }, 'unknown_field', 'limits.walk_ms'],
		[{ ...good, on_cut: 'cry' }, 'invalid_request', 'on_cut'],
		[{ ...good, metadata: [] }, 'invalid_request', 'metadata'],
		[{ ...good, system: 5 }, 'invalid_request', 'system'],
		[{ ...good, session: 'x' }, 'invalid_request', 'session'],
		[{ ...good, webhook: { url: 'ftp://x' } }, 'invalid_request', 'webhook.url'],
		[{ ...good, webhook: { url: 'https://x', secret: 'y' } }, 'unknown_field', 'webhook.secret'],
		[{ ...good, not_before: '2130-01-01T00:00:00.000Z' }, 'invalid_request', 'not_before'],
		[{ ...good, not_before: 'tomorrow' }, 'invalid_request', 'not_before'],
		[[], 'invalid_request', undefined],
		['"x"', 'invalid_request', undefined],
		['null', 'invalid_request', undefined],
	]
	for (const [body, code, param] of table) {
		const r = await api.submit(body)
		const what = JSON.stringify(body).slice(0, 120)
		assert.equal(r.status, 400, `${what}: ${r.text}`)
		assert.equal(r.json.error.code, code, `${what}: ${r.text}`)
		if (param) assert.equal(r.json.error.param, param, `${what}: ${r.text}`)
		assert.equal(r.json.error.type, 'invalid_request')
		assert.match(r.json.error.request_id, /^req_/)
		assert.equal(r.json.error.request_id, r.headers.get('x-request-id'))
		assert.ok(r.json.error.message.length > 5)
		assert.ok('offset' in r.json.error)
	}
	const bad = await api.submit('{"kind":"chat",}')
	assert.equal(bad.status, 400)
	assert.equal(bad.json.error.code, 'invalid_json')
	assert.equal(bad.json.error.offset, 15)
})

test('keys: none, a wrong one, a malformed one: 401, on every route', async () => {
	for (const path of ['/v1/jobs', '/v1/models', '/v1/jobs/job_x', '/v1/sessions/x', '/v1/jobs/x/events']) {
		for (const key of [null, 'sk-sluice-wrong', 'x'.repeat(2000), 'ÿ']) {
			const r = await api.call('GET', path, { key: null, headers: key ? { authorization: `Bearer ${key}` } : {} })
			assert.equal(r.status, 401, `${path} with ${key?.slice(0, 20)}: ${r.text}`)
		}
	}
	const r = await api.call('GET', '/v1/models', { key: null, headers: { 'x-api-key': stack.key } })
	assert.equal(r.status, 200, 'x-api-key is good as well')
})

test('a provider’s refusal fails the job at once; its fault is named', async () => {
	const { id } = await api.accepted(chat('refused', 'status=400'))
	const j = await api.ended(id)
	assert.equal(j.status, 'failed')
	assert.equal(j.fault.name, 'provider_bad_request')
	assert.equal(j.calls.length, 1)
	assert.equal(j.calls[0].fault, 'provider_bad_request')
	const { end } = await api.follow(id)
	assert.equal(end.event, 'fault')
	assert.equal(end.data.status, 'failed')
})

test('a temperature that the model does not take: the next target answers, or the fault names it; nobody is asked in vain', async () => {
	const job = chat('hot', 'ttft=0 rate=0 tokens=10', { task: 'chat', model: undefined, temperature: 1.5 })
	const warm = await api.ended((await api.accepted(job)).id)
	assert.equal(warm.status, 'succeeded')
	assert.equal(warm.target.account, 'openai-main')
	assert.equal(warm.calls.length, 1)
	assert.equal(warm.result.text, said(job, 10, warm.target.model))
	const refused = await api.ended((await api.accepted(chat('hot', 'ttft=0', { model: 'claude-sonnet-5', temperature: 0.5 }))).id)
	assert.equal(refused.status, 'failed')
	assert.equal(refused.fault.name, 'provider_bad_request')
	assert.match(refused.fault.message, /temperature/)
	assert.equal(refused.calls.length, 0)
	const standard = await api.ended((await api.accepted(chat('hot', 'ttft=0', { model: 'claude-sonnet-5', temperature: 1 }))).id)
	assert.equal(standard.status, 'succeeded')
})

test('failover before the first token is invisible: the next target answers', async () => {
	// the simulator fails by the prompt, whoever is asked: what differs is what the job's calls say
	const job = chat('both fail', 'status=503', { task: 'feedback', model: undefined })
	const { id } = await api.accepted(job)
	const j = await api.ended(id)
	assert.equal(j.status, 'failed')
	assert.ok(new Set(j.calls.map((c) => c.provider)).size === 2, `both were asked: ${j.calls.map((c) => c.provider)}`)
})

test('cut after the first token: `fail` keeps the text, `restart` begins a new attempt', async () => {
	const fail = chat('cut fail', 'ttft=0 rate=0 tokens=40 cut=12', { on_cut: 'fail' })
	const f = await api.ended((await api.accepted(fail)).id)
	assert.equal(f.status, 'failed')
	assert.equal(f.result.partial, true)
	assert.ok(said(fail, 40).startsWith(f.result.text))
	const restart = chat('cut restart', 'ttft=0 rate=200 tokens=40 cut=12', { on_cut: 'restart' })
	const { id } = await api.accepted(restart)
	const { end, answer: a } = await api.follow(id)
	assert.equal(end.event, 'fault')
	assert.ok(a.resets > 0, 'the client was told to begin anew')
	const r = await api.ended(id)
	assert.ok(r.attempt > 1)
	assert.ok(r.calls.length > 1)
}, { limit_ms: 60000 })

test('a rate error inside of an answer is a try; a job does not ask for ever', async () => {
	const job = chat('rate inside', 'ttft=0 rate=0 tokens=40 fail=12 code=rate_limit_exceeded', { model: 'gpt-4o-mini', on_cut: 'restart' })
	const j = await api.ended((await api.accepted(job)).id)
	assert.equal(j.status, 'failed')
	assert.equal(j.calls.length, 4, 'max_tries')
	assert.ok(j.calls.every((c) => c.fault === 'provider_rate_limited'), JSON.stringify(j.calls))
}, { limit_ms: 60000 })

test('an end without the terminator is no success', async () => {
	for (const model of [SONNET, 'gpt-4o-mini']) {
		const job = chat('no end', 'ttft=0 rate=0 tokens=40 end=12', { model, on_cut: 'fail' })
		const j = await api.ended((await api.accepted(job)).id)
		assert.equal(j.status, 'failed', model)
		assert.equal(j.result.partial, true)
	}
})

test('a whole answer whose provider says no usage is billed by what was sent and said', async () => {
	const job = chat('x'.repeat(2000), 'ttft=0 rate=0 tokens=40 usage=0', { model: 'gpt-4o-mini' })
	const j = await api.ended((await api.accepted(job)).id)
	assert.equal(j.status, 'succeeded', JSON.stringify(j.fault))
	assert.ok(j.usage.input_tokens >= 500 && j.usage.input_tokens < 600, JSON.stringify(j.usage))
	assert.equal(j.usage.output_tokens, Math.ceil(j.result.bytes / 4))
	assert.ok(j.usage.cost_microusd > 0)
})

test('a cut turn of a session is billed with all that was sent: the system prompt and the turns before', async () => {
	const system = 'A teacher of many words. '.repeat(80)
	const session = await api.session({ task: 'chat', system })
	const first = chat('y'.repeat(4000), 'ttft=0 rate=0 tokens=200', { session, model: 'gpt-4o-mini' })
	const one = await api.ended((await api.accepted(first)).id)
	assert.equal(one.status, 'succeeded', JSON.stringify(one.fault))
	const cut = chat('and?', 'ttft=0 rate=0 tokens=40 end=12', { session, model: 'gpt-4o-mini', on_cut: 'fail' })
	const two = await api.ended((await api.accepted(cut)).id)
	assert.equal(two.status, 'failed')
	const sent = system.length + 4000 + one.result.bytes
	assert.ok(two.usage.input_tokens >= sent / 4 && two.usage.input_tokens < sent / 2, JSON.stringify(two.usage))
	assert.equal(two.usage.output_tokens, Math.ceil(two.result.bytes / 4))
})

test('a job whose time is over is expired', async () => {
	const { id } = await api.accepted(chat('too slow', 'ttft=20000 rate=0 tokens=5', { limits: { queue_ms: 10000, run_ms: 800 } }))
	const j = await api.ended(id)
	assert.equal(j.status, 'expired')
	assert.equal(j.fault.name, 'expired')
})

await run(import.meta.url)
