// Parts that hang, and do not fail: what is kept while the broker does is bounded by bytes, for a connection and for a process; and a
// hello does not wait for PostgreSQL.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Api, chat } from '../support/api.mjs'
import { still } from '../support/harm.mjs'
import { Stack, freePort } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'
import { Client, Clients } from '../support/ws.mjs'

const stack = await Stack.open()
const clients = new Clients(stack)
const large = () => chat('x'.repeat(200000), 'ttft=0 rate=0 tokens=2') // weighs 600 KB

const kafka = (signal) => process.kill(stack.pid('kafka-1'), signal)
const resident_mib = (pid) => Number(readFileSync(`/proc/${pid}/status`, 'latin1').match(/VmRSS:\s*(\d+)/)[1]) / 1024

test('while Kafka hangs, push reads no more of a connection than its share, refuses above the node\'s, and then goes on', async () => {
	const node = await stack.morePush('sluice-push-held', 'push.produce_ms=60000', 'push.max_pending_bytes=1048576', 'push.max_held_bytes=2097152')
	const { url, pid } = node
	try {
		const hello = async () => (await Client.hello(stack, {}, { url })).client
		const [one, two, three] = [await hello(), await hello(), await hello()]
		await one.submit('first', chat('hi')) // the topic is known
		const refs = [...Array(30).keys()].map((i) => `r${i}`)
		const before = resident_mib(pid)
		kafka('SIGSTOP')
		try {
			for (const ref of refs) one.send({ op: 'submit', ref, job: large() })
			await until('one has its share', async () => (await stack.metric(node.id, 'sluice_push_ops_total')) >= 3)
			for (const ref of ['a', 'b']) two.send({ op: 'submit', ref, job: large() })
			const refused = await two.next((e) => e.ev === 'fault')
			assert.deepEqual([refused.ref, refused.name, refused.retryable], ['b', 'unavailable', true])
			assert.ok(refused.retry_after_ms > 0)
			await three.faulted({ op: 'submit', ref: 'c', job: large() }, 'unavailable')
			three.send({ op: 'ping' })
			await three.next((e) => e.ev === 'pong')
			assert.equal((await stack.metrics(node.id)).get('sluice_push_ops_total{op="submit"}'), 1 + 2 + 2 + 1, 'one is not read on')
			assert.equal(one.events.filter((e) => e.ref && e.ref !== 'first').length, 0)
			assert.ok(resident_mib(pid) - before < 64, `${before} to ${resident_mib(pid)} MiB`)
		} finally {
			kafka('SIGCONT')
		}
		for (const ref of refs) await one.next((e) => e.ev === 'accepted' && e.ref === ref, { limit_ms: 60000 })
		await two.next((e) => e.ev === 'accepted' && e.ref === 'a')
		await two.submit('b', large())
	} finally {
		await node.end('SIGKILL')
	}
}, { limit_ms: 120000 })

test('while Kafka hangs, the front answers 503 to the bodies that it does not keep', async () => {
	const address = `127.0.0.1:${await freePort()}`
	const words = [`front.listen=${address}`, 'front.produce_ms=60000', 'front.max_held_bytes=2097152'].flatMap((set) => ['--set', set])
	const front = await stack.more('sluice-front', 'sluice-front-held', 'front', ...words)
	try {
		const api = new Api({ ...stack, front: `http://${address}` })
		await api.accepted(chat('hi'))
		const post = () =>
			fetch(`http://${address}/v1/jobs`, {
				method: 'POST',
				headers: { authorization: `Bearer ${stack.key}`, 'content-type': 'application/json' },
				body: JSON.stringify(large()),
			})
		kafka('SIGSTOP')
		const kept = []
		try {
			for (let i = 0; i < 3; i++) kept.push(post())
			await until('three wait', async () => (await stack.metric(front.id, 'sluice_front_requests_open')) === 3)
			const refused = await post()
			assert.equal(refused.status, 503)
			assert.ok(Number(refused.headers.get('retry-after')) > 0)
			assert.equal((await refused.json()).error.code, 'unavailable')
		} finally {
			kafka('SIGCONT')
		}
		for (const answer of await Promise.all(kept)) assert.equal(answer.status, 202)
		assert.equal((await post()).status, 202)
	} finally {
		await front.end('SIGKILL')
	}
}, { limit_ms: 120000 })

test('while PostgreSQL hangs, a hello goes on with what Redis has and what is remembered, or is told soon to come again', async () => {
	const node = await stack.morePush('sluice-push-pg')
	const { url } = node
	const api = new Api(stack)
	const [there, lost] = [await api.session(), await api.session()]
	let goOn = () => {}
	try {
		const old = await Client.hello(stack, {}, { url })
		await old.client.submit('r', chat('hi'))
		await old.client.close()
		await stack.redis_cli('DEL', `s:{${lost}}`)
		goOn = still(stack, 'postgres')
		const began = Date.now()
		const closed = async (hello, options) => {
			const client = await Client.open(stack, { url, ...options })
			client.send({ op: 'hello', ...hello })
			return client.closed
		}
		const [fresh, named, resumed, nobody, unknown] = await Promise.all([
			Client.hello(stack, {}, { url }),
			Client.hello(stack, { session: there }, { url }),
			Client.hello(stack, { resume: old.welcome.resume }, { url }),
			closed({ session: lost }),
			closed({}, { key: stack.other_key }),
		])
		assert.ok(Date.now() - began < 8000, `${Date.now() - began} ms`)
		assert.deepEqual([nobody.code, nobody.reason], [3002, 'the session cannot be looked up now'])
		assert.deepEqual([unknown.code, unknown.reason], [3002, 'the key cannot be checked now'])
		assert.equal(resumed.welcome.session, old.welcome.session)
		assert.equal(named.welcome.session, there)
		await fresh.client.submit('r', chat('hi'))
		goOn()
		await until('the session is in PostgreSQL too', async () => (await stack.sql(`SELECT 1 FROM sessions WHERE id = '${fresh.welcome.session}'`)).length === 1)
		await Client.hello(stack, { session: lost }, { url })
		await Client.hello(stack, {}, { url, key: stack.other_key })
	} finally {
		goOn()
		await node.end('SIGKILL')
	}
}, { limit_ms: 60000 })

await run(import.meta.url, { after: () => clients.cut() })
