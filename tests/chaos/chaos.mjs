// A hundred jobs run; one process is killed and started again, or a part that Sluice stands on goes away for ten seconds, or Redis
// forgets everything. Whatever was accepted ends exactly once, and every client reads the same bytes as PostgreSQL holds.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Api, chat } from '../support/api.mjs'
import { Crowd } from '../support/load.mjs'
import { Stack } from '../support/stack.mjs'
import { pass, run, test, until } from '../support/test.mjs'

const stack = await Stack.open()
const AWAY_MS = 10000

async function ready() {
	await until('every service is ready', async () => (await stack.refresh()).services.every((s) => s.ready), 60000)
}

/** A client is told, in bounded time: accepted, or that it may try again. */
async function answered(part) {
	const begun = Date.now()
	const r = await new Api(stack).submit(chat(`while ${part} is away`, 'ttft=0 rate=0 tokens=5', { model: 'gpt-4o-mini' }))
	const took = Date.now() - begun
	console.log(`        while ${part} is away a job is answered ${r.status} ${r.json?.error?.code ?? ''} after ${took} ms`)
	assert.ok(took < 8000, `answered after ${took} ms`)
	if (r.status === 202) return r.json.id
	assert.equal(r.status, 503, r.text)
	assert.ok(['unavailable', 'outcome_unknown'].includes(r.json.error.code), r.text)
	assert.ok(Number(r.headers.get('retry-after')) >= 1 && Number(r.headers.get('retry-after-ms')) >= 1)
}

for (const id of ['sluice-front-1', 'sluice-pool-1', 'sluice-push-1', 'sluice-archive-1']) {
	test(`${id} is killed while a hundred jobs run: each ends once, every client has every byte`, async () => {
		await ready()
		const before = await stack.calls()
		const crowd = new Crowd(stack, id.slice(7, -2))
		crowd.add(100)
		await crowd.running(60)
		const pid = await stack.kill(id)
		const begun = Date.now()
		await stack.up(id)
		console.log(`        ${id} (pid ${pid}) was killed and answered again after ${Date.now() - begun} ms`)
		try {
			await crowd.settle()
		} finally {
			await crowd.ledger(before)
		}
	}, { limit_ms: 150000 })
}

test('sluice-pool-1 is killed three times in a row: no job is lost, none runs for ever', async () => {
	await ready()
	const before = await stack.calls()
	const crowd = new Crowd(stack, 'pool-thrice')
	crowd.add(60)
	for (let i = 0; i < 3; i++) {
		await crowd.running(20)
		await stack.kill('sluice-pool-1')
		await stack.up('sluice-pool-1')
	}
	try {
		await crowd.settle()
	} finally {
		await crowd.ledger(before)
	}
}, { limit_ms: 180000 })

for (const part of ['redis', 'postgres', 'kafka-1']) {
	test(`${part} is away for ten seconds under load: nothing accepted is lost, all comes back by itself`, async () => {
		await ready()
		const pids = new Map(stack.services.map((s) => [s.id, stack.pid(s.id)]))
		const before = await stack.calls()
		const crowd = new Crowd(stack, part)
		crowd.add(40)
		await crowd.running(20)
		await stack.down(part)
		const meanwhile = await answered(part)
		for (let left = 5; left; left--) {
			crowd.add(10)
			await pass(AWAY_MS / 5)
		}
		await stack.up(part)
		crowd.add(20)
		try {
			await crowd.settle()
			if (meanwhile) assert.equal((await new Api(stack).ended(meanwhile)).status, 'succeeded')
			for (const [id, pid] of pids) assert.equal(stack.pid(id), pid, `${id} was not started again`)
			await ready()
		} finally {
			await crowd.ledger(before)
		}
	}, { limit_ms: 180000 })
}

test('a pool whose Kafka and Redis are gone ends at once at a second SIGTERM', async () => {
	await ready()
	const jobs = await Promise.all(Array.from({ length: 10 }, (_, i) => new Api(stack).accepted(chat(`asked twice ${i}`, 'ttft=100 rate=4 tokens=20'))))
	const id = 'sluice-pool-1'
	const log = () => readFileSync(`${stack.logs}/${id}.log`, 'utf8')
	const before = log().length
	try {
		await Promise.all(['kafka-1', 'redis'].map((part) => stack.kill(part)))
		process.kill(stack.pid(id), 'SIGTERM')
		await until('it drains', () => log().slice(before).includes('event="drain begins"'))
		process.kill(stack.pid(id), 'SIGTERM')
		await until('it is gone', () => !stack.pid(id), 5000)
		assert.match(log().slice(before).trim().split('\n').at(-1), /event=ended .*code=0$/)
	} finally {
		await stack.up()
	}
	for (const job of jobs) assert.equal((await new Api(stack).ended(job.id, 60000)).status, 'succeeded')
}, { limit_ms: 120000 })

test('Redis is emptied under load: nothing accepted is lost', async () => {
	await ready()
	const before = await stack.calls()
	const crowd = new Crowd(stack, 'flushall')
	crowd.add(100)
	await crowd.running(60)
	await stack.redis_cli('FLUSHALL')
	crowd.add(20)
	try {
		await crowd.settle()
	} finally {
		await crowd.ledger(before)
	}
}, { limit_ms: 150000 })

test('after Redis is emptied a new turn waits for the open ones of its session, and the conversation has them all', async () => {
	await ready()
	const api = new Api(stack)
	const session = await api.session()
	const turn = (text, script) => chat(text, script, { session })
	const { id: one } = await api.accepted(turn('one', 'ttft=0 rate=0 tokens=5'))
	await api.ended(one)
	await api.recorded([one]) // the session is brought back from there
	const { id: open } = await api.accepted(turn('two', 'ttft=0 rate=10 tokens=40'))
	await until('it runs', async () => (await api.get(open)).json.status === 'running')
	await stack.redis_cli('FLUSHALL')
	const next = await until('the session is back', async () => {
		const r = await api.submit(turn('three', 'ttft=0 rate=0 tokens=5'))
		return r.status === 202 && r.json
	})
	const [two, three] = [await api.ended(open), await api.ended(next.id)]
	assert.deepEqual([two.status, three.status], ['succeeded', 'succeeded'], JSON.stringify([two.fault, three.fault]))
	assert.ok(three.picked_up_at >= two.finished_at, `${three.picked_up_at} is before ${two.finished_at}`)
	const said = await until('the conversation has the three turns', async () => {
		const list = JSON.parse(await stack.redis_cli('--json', 'LRANGE', `c:{${session}}`, '0', '-1')).map((m) => JSON.parse(m))
		return list.length >= 6 && list
	})
	assert.deepEqual(said.map((m) => m.role), ['user', 'assistant', 'user', 'assistant', 'user', 'assistant'])
	assert.deepEqual(said.filter((m) => m.role === 'user').map((m) => JSON.stringify(m).match(/one|two|three/)[0]), ['one', 'two', 'three'])
}, { limit_ms: 60000 })

test('Redis is killed under load and comes back with its data', async () => {
	await ready()
	const before = await stack.calls()
	const crowd = new Crowd(stack, 'redis-killed')
	crowd.add(60)
	await crowd.running(30)
	await stack.kill('redis')
	await stack.up('redis')
	try {
		await crowd.settle()
	} finally {
		await crowd.ledger(before)
	}
}, { limit_ms: 150000 })

await run(import.meta.url)
