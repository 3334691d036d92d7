// Every fault of the simulator as a raw client sees it, over HTTP/2 and HTTP/1.1: what the product's own tests rest on.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import net from 'node:net'
import { ask1, H2, request, Sim } from '../support/sim.mjs'
import { answer } from '../support/answer.mjs'
import { run, test, until } from '../support/test.mjs'

let sim
const DIALECTS = ['anthropic', 'openai']
const FAST = 'ttft=0 rate=0 tokens=6'
const prompt = (how) => `why? [sim ${FAST} ${how}]`
const terminated = (text) => text.includes('message_stop') || text.includes('[DONE]')

/** The text of a stream's deltas, and whether every line could be read. */
function deltas(text) {
	let out = ''
	let good = true
	for (const line of text.split(/\r?\n/)) {
		if (!line.startsWith('data: {')) continue
		try {
			const o = JSON.parse(line.slice(6))
			out += o.delta?.text ?? o.choices?.[0]?.delta?.content ?? ''
		} catch {
			good = false
		}
	}
	return { text: out, good }
}

/** A request over a new HTTP/2 connection: what came, and the connection's GOAWAYs and end. */
async function over2(dialect, how, more) {
	const c = await H2.open(sim.url)
	const seen = await c.ask(request(dialect, prompt(how), more))
	const end = { ...seen, text: seen.text, goaways: c.goaways, connection: c }
	return end
}

const over1 = (dialect, how, more) => ask1(sim, request(dialect, prompt(how), more), { quiet_ms: 400 })

for (const dialect of DIALECTS) {
	const model = dialect === 'anthropic' ? 'claude-sonnet-4-5' : 'gpt-4.1'
	const whole = (how) => answer(model, prompt(how), 6)
	const first = (how, n) => answer(model, prompt(how), n)

	test(`${dialect}: without a fault the whole answer comes, by h2 and by HTTP/1.1`, async () => {
		const a = await over2(dialect, '')
		assert.equal(deltas(a.text).text, whole(''))
		assert.ok(a.ended && terminated(a.text) && a.rst === 0)
		a.connection.close()
		const b = await over1(dialect, '')
		assert.equal(deltas(b.text).text, whole(''))
		assert.ok(b.complete && terminated(b.text))
	})

	for (const [how, code] of [
		['cut=3', 2],
		['no_error=3', 0],
		['refused=3', 7],
	])
		test(`${dialect}: ${how} resets the stream with code ${code} behind three tokens; the connection stays`, async () => {
			const a = await over2(dialect, how)
			assert.equal(deltas(a.text).text, first(how, 3))
			assert.equal(a.rst, code)
			assert.ok(!terminated(a.text))
			const next = await a.connection.ask(request(dialect, prompt('')))
			assert.ok(terminated(next.text))
			a.connection.close()
			const b = await over1(dialect, how)
			assert.equal(deltas(b.text).text, first(how, 3))
			assert.ok(!b.complete && !b.silent)
			assert.equal(b.error, how === 'cut=3' ? 'ECONNRESET' : null)
		})

	for (const [how, error] of [
		['fin=2', null],
		['rst=2', 'ECONNRESET'],
	])
		test(`${dialect}: ${how} ends the connection and what else it carries`, async () => {
			const c = await H2.open(sim.url)
			const other = c.begin(request(dialect, 'slow [sim ttft=0 rate=5 tokens=500]'))
			await until('the other stream runs', () => other.text.length > 300)
			const a = await c.ask(request(dialect, prompt(how)))
			assert.equal(deltas(a.text).text, first(how, 2))
			await until('the connection is over', () => c.over)
			await other.done
			assert.ok(!terminated(other.text))
			/* Node's session does not always say how its socket ended: the HTTP/1.1 side below insists. */
			if (c.error) assert.equal(c.error.code, error)
			const b = await over1(dialect, how)
			assert.equal(deltas(b.text).text, first(how, 2))
			assert.equal(b.error, error)
			assert.ok(!b.complete && !b.silent)
		})

	test(`${dialect}: undone as soon as asked is a GOAWAY below the stream, not counted as begun nor charged`, async () => {
		const before = (await sim.calls()).models[model]
		const used = (await sim.quotas()).quotas.find((q) => q.model === model).used
		const c = await H2.open(sim.url)
		const slow = c.begin(request(dialect, 'first [sim ttft=300 rate=0 tokens=3]'))
		await until('the first is begun', () => slow.status)
		const a = await c.ask(request(dialect, prompt('undone')))
		assert.equal(a.status, undefined)
		assert.equal(a.rst, 7)
		await until('GOAWAY came', () => c.goaways.length)
		assert.ok(c.goaways[0].last < 3)
		await slow.done
		assert.ok(terminated(slow.text), 'what stands below the id goes on')
		const after = (await sim.calls()).models[model]
		assert.equal(after.begun, before.begun + 1)
		assert.equal(after.undone, before.undone + 1)
		const now = (await sim.quotas()).quotas.find((q) => q.model === model).used
		assert.equal(now.requests, used.requests + 1)
	})

	test(`${dialect}: goaway in the middle names the stream as the last; the answer goes on, then the connection ends`, async () => {
		const a = await over2(dialect, 'goaway=2')
		assert.equal(deltas(a.text).text, whole('goaway=2'))
		assert.ok(terminated(a.text))
		assert.equal(a.goaways.length, 1)
		assert.ok(a.goaways[0].last >= a.id)
		await until('the connection is over', () => a.connection.over)
		const b = await over1(dialect, 'goaway=2')
		assert.ok(b.complete && terminated(b.text))
	})

	test(`${dialect}: refused as soon as asked is RST_STREAM(REFUSED_STREAM) without a head`, async () => {
		const a = await over2(dialect, 'refused')
		assert.equal(a.status, undefined)
		assert.equal(a.rst, 7)
		a.connection.close()
		const b = await over1(dialect, 'refused')
		assert.equal(b.head, null)
		assert.equal(b.error, null)
	})

	test(`${dialect}: silence as soon as asked, behind the head, and behind two tokens`, async () => {
		const none = await over1(dialect, 'stall')
		assert.ok(none.silent && none.head === null)
		const head = await over1(dialect, 'stall=0b')
		assert.ok(head.silent && head.head.status === 200 && head.text === '')
		const two = await over1(dialect, 'stall=2')
		assert.equal(deltas(two.text).text, first('stall=2', 2))
		assert.ok(two.silent)
		const c = await H2.open(sim.url)
		const seen = c.begin(request(dialect, prompt('stall=0b')))
		await until('the head came', () => seen.status === 200)
		assert.equal(seen.text, '')
		c.close()
		const later = await over2(dialect, 'stall=2:150')
		assert.equal(deltas(later.text).text, whole('stall=2:150'))
		assert.ok(later.ms >= 150)
		later.connection.close()
	})

	test(`${dialect}: a break behind bytes comes behind exactly so many`, async () => {
		for (const how of ['rst=100b', 'fin=301b', 'no_error=77b', 'end=211b', 'cut=0b']) {
			const n = Number(/=(\d+)b/.exec(how)[1])
			const a = await over2(dialect, how)
			assert.equal(a.bytes.length, n, how)
			assert.equal(a.status, 200)
			a.connection.close()
			const b = await over1(dialect, how)
			assert.equal(Buffer.byteLength(b.text), n, how)
			assert.equal(b.complete, how === 'end=211b', how)
		}
	})

	test(`${dialect}: an error event inside the stream, and an end without the terminator, are orderly ends`, async () => {
		for (const how of ['fail=3', 'end=3']) {
			const a = await over2(dialect, how)
			assert.equal(deltas(a.text).text, first(how, 3))
			assert.ok(a.ended && a.rst === 0 && !terminated(a.text))
			assert.equal(a.text.includes('"error":{'), how === 'fail=3')
			a.connection.close()
			const b = await over1(dialect, how)
			assert.ok(b.complete && !terminated(b.text))
		}
		const early = await over2(dialect, 'fail')
		assert.equal(early.status, dialect === 'anthropic' ? 529 : 500)
		early.connection.close()
	})

	test(`${dialect}: a malformed line and a huge event stand between the others`, async () => {
		const bad = await over2(dialect, 'malformed=3')
		assert.ok(!deltas(bad.text).good && terminated(bad.text))
		assert.equal(deltas(bad.text).text, whole('malformed=3'))
		bad.connection.close()
		const huge = await over2(dialect, 'huge=3:3000000')
		assert.ok(huge.bytes.length > 3000000 && deltas(huge.text).good && terminated(huge.text))
		assert.equal(deltas(huge.text).text, whole('huge=3:3000000'))
		huge.connection.close()
	})

	test(`${dialect}: one byte at a time, and CR apart from LF`, async () => {
		for (const how of ['bytes', 'crlf']) {
			const b = await over1(dialect, how)
			assert.equal(deltas(b.text).text, whole(how))
			assert.ok(b.complete && terminated(b.text))
			if (how === 'bytes') assert.ok(b.pieces.every((n) => n === 1))
			else assert.ok(b.text.includes('\r\n\r\n') && b.pieces.length > 12)
			const a = await over2(dialect, how)
			assert.equal(a.text.length, b.text.length)
			assert.equal(deltas(a.text).text, whole(how))
			a.connection.close()
		}
		const crlf = await over1(dialect, 'crlf')
		let at = 0
		for (const n of crlf.pieces.slice(0, -1)) {
			at += n
			assert.equal(Buffer.from(crlf.text)[at - 1], 13, 'a chunk ends behind CR')
		}
		const one = await over1(dialect, 'bytes', { stream: false })
		assert.ok(one.complete && JSON.parse(one.text).id)
	})

	test(`${dialect}: a page of HTML under 200`, async () => {
		const a = await over2(dialect, 'page')
		assert.equal(a.status, 200)
		assert.match(a.headers['content-type'], /^text\/html/)
		assert.match(a.text, /<html>/)
		a.connection.close()
	})

	test(`${dialect}: statuses, with and without Retry-After`, async () => {
		for (const status of [402, 429, 500, 529]) {
			const plain = await over1(dialect, `status=${status}`)
			assert.equal(plain.head.status, status)
			assert.equal(plain.head['retry-after'], undefined)
			assert.ok(JSON.parse(plain.text).error.message)
		}
		const late = await over1(dialect, 'status=429 retry=1500')
		assert.equal(late.head['retry-after'], '2')
		assert.equal(late.head['retry-after-ms'], dialect === 'openai' ? '1500' : undefined)
		const code = dialect === 'openai' ? 'insufficient_quota' : 'enforced_spend_limit_reached'
		const spent = await over1(dialect, `status=429 code=${code}`)
		const { error } = JSON.parse(spent.text)
		assert.equal(dialect === 'openai' ? error.code : error.details.error_code, code)
	})

	test(`${dialect}: not streaming, the same faults break the one answer`, async () => {
		const more = { stream: false }
		const half = await over1(dialect, 'end=3', more)
		assert.ok(half.complete)
		assert.throws(() => JSON.parse(half.text))
		const huge = await over1(dialect, 'huge=3:200000', more)
		assert.ok(huge.text.length > 200000 && JSON.parse(huge.text).id)
		const reset = await over1(dialect, 'rst=3', more)
		assert.ok(reset.head === null && reset.error === 'ECONNRESET')
		const cut = await over1(dialect, 'fin=40b', more)
		assert.equal(cut.text.length, 40)
		assert.ok(!cut.complete && cut.error === null)
		const silent = await over1(dialect, 'stall', more)
		assert.ok(silent.silent && silent.head === null)
	})
}

// ---- rules at run time ----

test('a rule meets a key and a model, so many times, and is listed with what it met', async () => {
	const { faults } = await sim.fault('status=529 retry=3000', { key: 'sim-b*', model: 'claude-*', skip: 1, count: 2 })
	const ask = async (key, model) => (await ask1(sim, request('anthropic', prompt(''), { key, model }))).head.status
	assert.equal(await ask('sim-a', 'claude-x'), 200)
	assert.equal(await ask('sim-b1', 'other'), 200)
	assert.equal(await ask('sim-b1', 'claude-x'), 200, 'the first is spared')
	assert.equal(await ask('sim-b2', 'claude-x'), 529)
	assert.equal(await ask('sim-b1', 'claude-y'), 529)
	assert.equal(await ask('sim-b1', 'claude-x'), 200, 'two were met')
	const now = (await sim.faults()).faults.find((f) => f.id === faults[0].id)
	assert.deepEqual([now.seen, now.hit], [4, 2])
	assert.equal((await sim.well(now.id)).faults.length, 0)
})

test('a share of the requests fails, the same ones for the same seed', async () => {
	const round = async () => {
		await sim.fault('status=500', { share: 0.3, seed: 7 })
		const got = []
		for (let i = 0; i < 40; i++) got.push((await ask1(sim, request('openai', prompt('')))).head.status)
		await sim.well()
		return got
	}
	const one = await round()
	const failed = one.filter((s) => s === 500).length
	assert.ok(failed > 4 && failed < 22, `${failed} of 40`)
	assert.deepEqual(await round(), one)
})

test('a dialect alone is met', async () => {
	await sim.fault('status=503', { dialect: 'openai' })
	assert.equal((await ask1(sim, request('openai', prompt('')))).head.status, 503)
	assert.equal((await ask1(sim, request('anthropic', prompt('')))).head.status, 200)
	await sim.well()
})

test('a brown-out comes and goes on its schedule', async () => {
	await sim.fault('slow=4', { from_ms: 300, to_ms: 900 })
	const took = async () => {
		const from = performance.now()
		await ask1(sim, request('anthropic', 'x [sim ttft=40 rate=0 tokens=1]'))
		return performance.now() - from
	}
	assert.ok((await took()) < 150)
	await until('it holds', async () => (await sim.faults()).faults[0].holds)
	assert.ok((await took()) >= 160)
	await until('it holds no more', async () => !(await sim.faults()).faults[0].holds)
	assert.ok((await took()) < 150)
	await sim.well()
})

test('what is not a rule is refused', async () => {
	for (const bad of [{}, { how: 'bogus=1' }, { how: 'status=200x' }, { how: 'rst', when: 1 }, { how: 'refuse', key: 'x' }, { how: 'rst', to_ms: 5, from_ms: 9 }])
		await assert.rejects(() => sim.fault(bad), /400/, JSON.stringify(bad))
	assert.equal((await sim.faults()).faults.length, 0)
})

test('refuse closes the listener and what is open, and the port comes back', async () => {
	const c = await H2.open(sim.url)
	const seen = c.begin(request('anthropic', 'x [sim ttft=0 rate=5 tokens=500]'))
	await until('it streams', () => seen.text.length > 300)
	assert.equal((await sim.fault('refuse')).door, 'refuse')
	await until('the connection is over', () => c.over)
	await assert.rejects(() => H2.open(sim.url), { code: 'ECONNREFUSED' })
	assert.equal((await sim.well()).door, 'open')
	assert.ok(terminated((await ask1(sim, request('anthropic', prompt('')))).text))
})

test('mute accepts and says nothing, for so long as it was asked', async () => {
	await sim.fault('mute', { to_ms: 500 })
	const heard = { bytes: 0, closed: false }
	const socket = net.connect(sim.port, '127.0.0.1')
	socket.on('data', (d) => (heard.bytes += d.length))
	socket.on('error', () => {})
	socket.on('close', () => (heard.closed = true))
	await new Promise((resolve) => socket.once('connect', resolve))
	socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
	await until('it is over', async () => (await sim.faults()).door === 'open')
	await until('who was held is let go', () => heard.closed)
	assert.equal(heard.bytes, 0)
	await sim.well()
})

// ---- quotas and caches ----

test('a quota of a sliding minute is refused above, told in its fields, counted, and whole again after the minute', async () => {
	const model = 'claude-quota'
	await sim.quota({ model, rpm: 3, itpm: 1000000, kind: 'window' })
	const ask = () => ask1(sim, request('anthropic', prompt(''), { model }))
	for (let left = 2; left >= 0; left--) assert.equal((await ask()).head['anthropic-ratelimit-requests-remaining'], String(left))
	const above = await ask()
	assert.equal(above.head.status, 429)
	assert.equal(JSON.parse(above.text).error.type, 'rate_limit_error')
	assert.ok(Number(above.head['retry-after']) > 50)
	const seen = async () => (await sim.quotas('?seconds=60')).quotas.find((q) => q.model === model)
	const q = await seen()
	assert.deepEqual([q.granted, q.refused, q.refused_for.requests, q.highest.requests, q.left.requests], [3, 1, 1, 3, 0])
	assert.equal(q.minutes[0].requests, 3)
	assert.equal(
		q.seconds.reduce((n, s) => n + s.requests, 0),
		3,
	)
	await sim.advance(61000)
	assert.equal((await ask()).head.status, 200)
	assert.equal((await seen()).highest.requests, 3)
})

test('openai charges what may be answered, and says what can never pass without Used', async () => {
	const model = 'gpt-quota'
	await sim.quota({ model, tpm: 1000, kind: 'bucket' })
	const ask = (max) => ask1(sim, request('openai', prompt(''), { model, max_completion_tokens: max }))
	assert.equal((await ask(600)).head.status, 200)
	const late = await ask(600)
	assert.equal(late.head.status, 429)
	assert.match(JSON.parse(late.text).error.message, /Limit 1000, Used 6\d\d, Requested 6\d\d\. Please try again in \d+(\.\d+)?s/)
	assert.ok(Number(late.head['retry-after-ms']) > 1000)
	const never = await ask(2000)
	assert.doesNotMatch(JSON.parse(never.text).error.message, /Used/)
	assert.equal(never.head['retry-after'], undefined)
})

test('a cached prefix is in the usage, costs anthropic no input quota, and is gone after five idle minutes', async () => {
	const model = 'claude-sonnet-4-5-cache'
	const system = [{ type: 'text', text: 'rubric! '.repeat(1000), cache_control: { type: 'ephemeral' } }]
	const ask = async (n) => {
		const a = await ask1(sim, request('anthropic', `essay ${n} [sim ${FAST}]`, { model, system }))
		return JSON.parse(/data: (\{"type":"message_start".*)/.exec(a.text)[1]).message.usage
	}
	const used = async () => (await sim.quotas()).quotas.find((q) => q.model === model).used.input_tokens
	const wrote = await ask(1)
	assert.deepEqual([wrote.cache_creation_input_tokens, wrote.cache_creation.ephemeral_5m_input_tokens, wrote.cache_read_input_tokens], [2000, 2000, 0])
	const first = await used()
	assert.equal(first, wrote.input_tokens + 2000)
	const read = await ask(2)
	assert.deepEqual([read.cache_creation_input_tokens, read.cache_read_input_tokens, read.input_tokens], [0, 2000, wrote.input_tokens])
	assert.equal(await used(), first + read.input_tokens)
	await sim.advance(300000)
	assert.equal((await ask(3)).cache_read_input_tokens, 0)
	const o = async () => {
		const more = { messages: [{ role: 'system', content: 'rubric! '.repeat(700) }, { role: 'user', content: `essay [sim ${FAST}]` }], stream: false }
		return JSON.parse((await ask1(sim, request('openai', '', more))).text).usage.prompt_tokens_details.cached_tokens
	}
	assert.equal(await o(), 0)
	assert.equal(await o(), 1408)
	assert.ok((await sim.cache()).read_tokens >= 3408)
})

test('over TLS too: the whole answer, a reset, and silence instead of a handshake', async () => {
	const tls = `${process.env.SLUICE_TEST_STACK}/tls`
	const other = await Sim.open('--cert', `${tls}/server.crt`, '--key', `${tls}/server.key`)
	try {
		const ca = readFileSync(`${tls}/ca.crt`)
		const c = await H2.open(other.url, { ca })
		assert.ok(terminated((await c.ask(request('openai', prompt('')))).text))
		const a = await c.ask(request('openai', prompt('rst=2')))
		assert.equal(deltas(a.text).text, answer('gpt-4.1', prompt('rst=2'), 2))
		await until('the connection is over', () => c.over)
		await other.fault('mute', { keep: true })
		const opened = H2.open(other.url, { ca }).then(
			() => 'opened',
			() => 'closed',
		)
		const quiet = new Promise((resolve) => setTimeout(resolve, 300, 'silent'))
		assert.equal(await Promise.race([opened, quiet]), 'silent')
		await other.well()
		assert.equal(await opened, 'closed')
	} finally {
		await other.close()
	}
})

await run(import.meta.url, {
	before: async () => (sim = await Sim.open()),
	after: () => sim.close(),
})
