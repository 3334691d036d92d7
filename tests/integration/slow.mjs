// Slow readers at a push node of their own: what they cost is bounded, the others have their text, and so have they when they read on.

import assert from 'node:assert/strict'
import { SlowReaders, rss_kib } from '../support/slow.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'

const COUNT = 100
// max_queued_bytes, and as much again for what is made while the queue is full, for the connection and for the allocator
const EACH_KIB = 2 * 256
const stack = await Stack.open()

const words = (l) => `p50 ${l.p50.toFixed(2)} ms, p99 ${l.p99.toFixed(2)} ms of ${l.timed}`

test(`${COUNT} readers of a byte a second: bounded memory, the text of ${COUNT} others whole, theirs whole when they read on`, async () => {
	const own = await stack.morePush('sluice-push-slow')
	const scene = new SlowReaders(stack, { url: own.url, pid: own.pid, readers: COUNT })
	try {
		const look = { rate: 20, tokens: 60 }
		const without = await scene.look(look)
		await scene.add(COUNT)
		await until('their queues are full', async () => (await stack.metric(own.id, 'sluice_push_paused_total')) >= COUNT, 30000)
		const beside = await scene.look(look)
		console.log(`        without: ${words(without)}; beside them: ${words(beside)}; resident ${without.rss_kib} to ${beside.rss_kib} KiB`)
		for (const l of [without, beside]) {
			assert.equal(l.wrong, 0, 'every reader that keeps up has each byte once')
			assert.ok(l.timed > COUNT * 10, `${l.timed} texts were timed`)
		}
		assert.ok(beside.rss_kib - without.rss_kib < COUNT * EACH_KIB, `${beside.rss_kib - without.rss_kib} KiB more for ${COUNT}`)
		const full_kib = rss_kib(own.pid)
		await scene.look(look)
		assert.ok(rss_kib(own.pid) < full_kib + 4096, `${rss_kib(own.pid)} KiB after ${full_kib}: it goes on growing`)
		assert.equal(await scene.catch_up(), COUNT, 'have the long answer whole')
	} finally {
		scene.close()
		await own.end()
	}
}, { limit_ms: 180000 })

test('a reader that never empties its queue is closed with 3001, and nobody else', async () => {
	const own = await stack.morePush('sluice-push-slow-closes', 'push.slow_ms=1000')
	const scene = new SlowReaders(stack, { url: own.url, pid: own.pid, readers: 50 })
	try {
		await scene.add(10)
		await until('they are closed', async () => (await stack.metric(own.id, 'sluice_push_closed_total')) >= 10, 30000)
		const closed = [...(await stack.metrics(own.id))].filter(([name]) => name.startsWith('sluice_push_closed_total{'))
		assert.deepEqual(closed, [['sluice_push_closed_total{code="3001"}', 10]])
		const after = await scene.look({ rate: 20, tokens: 40 })
		assert.equal(after.wrong, 0)
	} finally {
		scene.close()
		await own.end()
	}
}, { limit_ms: 120000 })

await run(import.meta.url)
