// Five hundred streams at once through one pool process: all at the provider at the same time, on few connections, none lost,
// byte for byte.

import assert from 'node:assert/strict'
import { answer } from '../support/answer.mjs'
import { Api, chat } from '../support/api.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'

const stack = await Stack.open()
const api = new Api(stack)
const STREAMS = 500
const TOKENS = 120

test('five hundred streams at once, on five to eight provider connections, none lost, byte for byte', async () => {
	await until('the simulator is idle', async () => (await stack.calls()).open === 0, 30000)
	const before = await stack.calls()
	const peak = { open: 0, connections: 0 }
	let over = false
	const watch = (async () => {
		while (!over) {
			const c = await stack.calls()
			peak.open = Math.max(peak.open, c.open)
			peak.connections = Math.max(peak.connections, c.connections)
			await new Promise((r) => setTimeout(r, 50))
		}
	})()
	const begun = Date.now()
	const done = await Promise.all(
		Array.from({ length: STREAMS }, async (_, i) => {
			const job = chat(`scale ${i}`, `ttft=4000 rate=30 tokens=${TOKENS}`)
			const { id } = await api.accepted(job)
			const { answer: a, end } = await api.follow(id)
			return { id, job, a, end }
		}),
	)
	const took = Date.now() - begun
	over = true
	await watch
	const metrics = await stack.metrics('sluice-pool-1')
	const rss = metrics.get('process_resident_memory_bytes')
	console.log(
		`        ${STREAMS} streams: ${peak.open} at once at the simulator, ${peak.connections} connections, ${took} ms in all ` +
			`(${4000 + (TOKENS * 1000) / 30} ms are the simulator's), pool resident ${(rss / 1048576).toFixed(1)} MiB`,
	)
	for (const { id, job, a, end } of done) {
		assert.equal(end.event, 'result', id)
		assert.equal(a.text, answer(job.model, job.messages[0].content, TOKENS), id)
		assert.equal(a.repeats + a.gaps + a.split + a.resets, 0, id)
	}
	assert.equal(peak.open, STREAMS, 'all were at the provider at the same time')
	assert.ok(peak.connections >= 5 && peak.connections <= 8, `${peak.connections} connections`)
	const after = await stack.calls()
	assert.equal(after.begun - before.begun, STREAMS, 'no call was repeated')
	const rows = await api.recorded(done.map((d) => d.id), 60000)
	for (const [id, list] of rows) assert.ok(list.length === 1 && list[0].status === 'succeeded', id)
}, { limit_ms: 120000 })

await run(import.meta.url)
