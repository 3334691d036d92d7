// Ends of jobs for clients that are not there: they wait until they are acknowledged, in Redis and, when that forgot, in PostgreSQL.

import assert from 'node:assert/strict'
import { Api, chat } from '../support/api.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'
import { Client } from '../support/ws.mjs'

const stack = await Stack.open()
const api = new Api(stack)

const row = async (job) => (await stack.sql(`SELECT session, acked FROM outbox WHERE job = '${job}'`))[0]
const acked = (job) => until(`${job} is acknowledged in PostgreSQL`, async () => (await row(job))?.[1] === 't')

/** A job whose client goes before its end; returns when the end is recorded. */
async function left_alone(hello = {}, text = 'left alone') {
	const { client, welcome } = await Client.hello(stack, hello)
	const job = await client.submit('1', chat(text, 'ttft=200 rate=0 tokens=30'))
	client.cut()
	const [stored] = (await api.recorded([job])).get(job)
	return { job, welcome, stored }
}

async function comes_again(hello, job, stored) {
	const { client } = await Client.hello(stack, hello)
	const e = await client.end(job)
	assert.equal(e.ev, 'result')
	assert.equal(client.answer(job).text, stored.answer.toString())
	return client
}

/** What else the list would bring has come when this job of it has. */
async function only(hello, job, stored, not) {
	const client = await comes_again(hello, job, stored)
	assert.ok(!client.events.some((e) => e.job === not), `${not} is told again`)
	return client
}

test('the end of a job waits for its client, also when Redis was emptied', async () => {
	const { job, welcome, stored } = await left_alone()
	assert.deepEqual(await row(job), [welcome.session, 'f'])
	let client = await comes_again({ resume: welcome.resume }, job, stored)
	client.cut()
	await stack.redis_cli('FLUSHALL')
	client = await comes_again({ resume: welcome.resume }, job, stored)
	client.cut()
	// Read back into Redis, so that this one does not need PostgreSQL.
	const list = await stack.redis_cli('ZRANGE', `ob:{${welcome.session}}`, '0', '-1')
	assert.ok(list.includes(job) && list.includes('epoch'), list)
	client = await comes_again({ resume: welcome.resume }, job, stored)
	await client.close()
})

/** The ends of two jobs, of which the first was acknowledged, of a client that went before Redis was emptied. */
async function two_and_a_loss() {
	const { job, welcome, stored } = await left_alone({}, 'acknowledged')
	const client = await comes_again({ resume: welcome.resume }, job, stored)
	client.send({ op: 'ack', id: job })
	const second = await client.submit('2', chat('not acknowledged', 'ttft=0 rate=0 tokens=10'))
	await client.end(second)
	await acked(job)
	client.cut()
	await stack.redis_cli('FLUSHALL')
	return { job, second, welcome, stored: (await api.recorded([second])).get(second)[0] }
}

test('acknowledged is acknowledged, also when Redis was emptied', async () => {
	const { job, second, welcome, stored } = await two_and_a_loss()
	const client = await only({ resume: welcome.resume }, second, stored, job)
	await client.close()
})

test('an acknowledged job that ran again after a loss, and so is listed again, is not told again', async () => {
	const { job, second, welcome, stored } = await two_and_a_loss()
	const list = `ob:{${welcome.session}}`
	await stack.redis_cli('ZADD', list, '1', job) // as a pool does that claims it anew
	const client = await only({ resume: welcome.resume }, second, stored, job)
	await until('the list lacks it', async () => !(await stack.redis_cli('ZRANGE', list, '0', '-1')).includes(job))
	await client.close()
})

test('a running job that the client does not name is told of, also when Redis was emptied meanwhile', async () => {
	const { client, welcome } = await Client.hello(stack)
	const job = await client.submit('1', chat('runs on', 'ttft=100 rate=10 tokens=40'))
	await client.next((e) => e.ev === 'delta')
	client.cut()
	await stack.redis_cli('FLUSHALL')
	const again = await Client.hello(stack, { resume: welcome.resume })
	const e = await again.client.end(job)
	assert.equal(e.ev, 'result')
	assert.equal(again.client.events.filter((e) => e.ev === 'snapshot' && e.job === job).length, 1)
	const [stored] = (await api.recorded([job])).get(job)
	assert.equal(again.client.answer(job).text, stored.answer.toString())
	await again.client.close()
})

test('an end that hello named is told once, though it waits to be acknowledged', async () => {
	const { client, welcome } = await Client.hello(stack)
	const jobs = []
	for (const ref of ['1', '2']) {
		jobs.push(await client.submit(ref, chat(`ended ${ref}`, 'ttft=0 rate=0 tokens=20')))
		await client.end(jobs.at(-1))
	}
	const { attempt } = client.answer(jobs[0])
	client.cut()
	// The second is not named: it comes with what waits, behind which nothing of the first may come.
	const { client: again } = await Client.hello(stack, { resume: welcome.resume, jobs: [{ id: jobs[0], attempt, at: 0 }] })
	await again.end(jobs[1])
	const heard = again.events.filter((e) => e.job === jobs[0]).map((e) => e.ev)
	assert.deepEqual(heard, ['delta', 'result'])
	await again.close()
})

test('an acknowledgement that comes before the record is kept', async () => {
	const { client, welcome } = await Client.hello(stack)
	await stack.down('sluice-archive-1')
	let job
	try {
		job = await client.submit('1', chat('early', 'ttft=0 rate=0 tokens=10'))
		await client.end(job)
		client.send({ op: 'ack', id: job })
		await acked(job)
	} finally {
		await stack.up('sluice-archive-1')
	}
	await api.recorded([job])
	assert.deepEqual(await row(job), [welcome.session, 't'])
	await client.close()
})

test('a client that names its session has what waits there, and no other organisation’s', async () => {
	const session = await api.session()
	const { job, stored } = await left_alone({ session })
	// As when it was away for longer than Redis keeps it.
	await stack.redis_cli('DEL', `ob:{${session}}`)
	const client = await comes_again({ session }, job, stored)
	client.send({ op: 'ack', id: job })
	await acked(job)
	await client.close()
	const refused = await Client.hello(stack, { session }, { key: stack.other_key }).catch((e) => e)
	assert.match(refused.message, /3503/)
})

test('sessions that come back at once have each what waits for it, and one that goes meanwhile keeps the others from nothing', async () => {
	const all = await Promise.all(Array.from({ length: 70 }, (_, i) => left_alone({}, `of many ${i}`)))
	const rows = await stack.sql(`SELECT id FROM sessions WHERE id IN (${all.map((one) => `'${one.welcome.session}'`).join()})`)
	assert.equal(rows.length, all.length)
	await stack.redis_cli('DEL', ...all.map((one) => `ob:{${one.welcome.session}}`))
	await Promise.all(all.map(async ({ job, welcome, stored }, i) => {
		if (i % 7 === 3) {
			const { client } = await Client.hello(stack, { resume: welcome.resume })
			client.cut()
		} else {
			const client = await comes_again({ resume: welcome.resume }, job, stored)
			assert.deepEqual([...new Set(client.events.map((e) => e.job).filter(Boolean))], [job])
			await client.close()
		}
	}))
})

/** A job over HTTP, in a session; returns when its end is recorded. */
async function over_http(session, text, more = {}) {
	const body = { ...chat(text, 'ttft=50 rate=0 tokens=30'), session, ...more }
	let r
	// After Redis was emptied it may be unsure for a moment.
	await until('the job is accepted', async () => (r = await api.call('POST', '/v1/jobs', { body })).status === 202)
	const [stored] = (await api.recorded([r.json.id])).get(r.json.id)
	return { job: r.json.id, stored }
}

test('what came over HTTP into a session waits for its clients that are away, also in a session that Redis forgot', async () => {
	const session = await api.session()
	const before = await over_http(session, 'nobody has joined')
	assert.equal(await row(before.job), undefined)
	const first = await Client.hello(stack, { session })
	first.client.cut()
	const turn = await over_http(session, 'a turn')
	const apart = await over_http(session, 'no turn', { lane: 'background' })
	for (const { job } of [turn, apart]) assert.deepEqual(await row(job), [session, 'f'])
	let { client } = await Client.hello(stack, { resume: first.welcome.resume })
	for (const { job, stored } of [turn, apart]) {
		assert.equal((await client.end(job)).ev, 'result')
		assert.equal(client.answer(job).text, stored.answer.toString())
		assert.deepEqual(client.events.filter((e) => e.job === job).map((e) => e.ev), ['snapshot', 'result'])
	}
	client.send({ op: 'ack', id: turn.job })
	await acked(turn.job)
	client.cut()
	await stack.redis_cli('FLUSHALL')
	const late = await over_http(session, 'after the loss')
	assert.deepEqual(await row(late.job), [session, 'f'])
	client = await comes_again({ resume: first.welcome.resume }, late.job, late.stored)
	assert.equal((await client.end(apart.job)).ev, 'result')
	for (const { job } of [before, turn]) assert.ok(!client.events.some((e) => e.job === job), `${job} is told`)
	await client.close()
})

test('a job over HTTP into a session that a client’s hello made waits for that client', async () => {
	const { client, welcome } = await Client.hello(stack)
	client.cut()
	const { job, stored } = await over_http(welcome.session, 'into its session')
	const again = await comes_again({ resume: welcome.resume }, job, stored)
	again.send({ op: 'ack', id: job })
	await acked(job)
	await again.close()
})

test('an acknowledgement of a job that was never heard of leaves no row', async () => {
	const { client } = await Client.hello(stack)
	const stranger = `job_${'0'.repeat(26)}`
	client.send({ op: 'ack', id: stranger })
	const job = await client.submit('1', chat('known', 'ttft=0 rate=0 tokens=5'))
	await client.end(job)
	client.send({ op: 'ack', id: job })
	await acked(job)
	assert.equal(await row(stranger), undefined)
	await client.close()
})

test('more ends wait than are told at once: the next ones come when some were acknowledged, and also to another connection', async () => {
	const most = 4
	const node = await stack.morePush('sluice-push-few', `push.outbox_jobs=${most}`)
	const { url } = node
	try {
		const { client, welcome } = await Client.hello(stack, {}, { url })
		const jobs = []
		for (let i = 0; i < 3 * most; i++) jobs.push(await client.submit(`${i}`, chat(`one of many ${i}`, 'ttft=300 rate=0 tokens=5')))
		client.cut()
		await api.recorded(jobs)
		const list = `ob:{${welcome.session}}`
		assert.ok((await stack.redis_cli('ZRANGE', list, '0', '-1')).includes('cut'))
		assert.equal(Number(await stack.redis_cli('ZCARD', list)), most + 1)
		// The newest of them first; whoever acknowledges none has no others.
		const first = await Client.hello(stack, { resume: welcome.resume }, { url })
		for (const job of jobs.slice(-most)) await first.client.end(job)
		assert.deepEqual([...first.client.ended.keys()].sort(), jobs.slice(-most).sort())
		for (const job of jobs.slice(-most)) first.client.send({ op: 'ack', id: job })
		for (const job of jobs.slice(-2 * most, -most)) {
			await first.client.end(job)
			first.client.send({ op: 'ack', id: job })
			await acked(job)
		}
		first.client.cut()
		// What another connection acknowledges, on a node with the usual limit.
		const again = await Client.hello(stack, { resume: welcome.resume })
		for (const job of jobs.slice(0, most)) await again.client.end(job)
		assert.equal(again.client.ended.size, most)
		await again.client.close()
	} finally {
		await node.end()
	}
})

test('what waited too long is deleted', async () => {
	const { job } = await left_alone()
	await stack.sql(`UPDATE outbox SET at_ms = at_ms - 700000000 WHERE job = '${job}'`)
	const node = await stack.morePush('sluice-push-sweeps')
	try {
		await until('it is gone', async () => !(await row(job)), 20000)
	} finally {
		await node.end()
	}
}, { background: true })

await run(import.meta.url)
