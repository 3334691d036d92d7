// The line of a lane: positions, estimates and reasons while a job waits for a slot. For this file the pool has four slots.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { Api, chat } from '../support/api.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'
import { Client } from '../support/ws.mjs'

const stack = await Stack.open()
const api = new Api(stack)

async function before() {
	const file = `${stack.dir}/line-test.yaml`
	writeFileSync(file, 'pool:\n  slots: 4\n  reserved: 1\n  ahead: 4\n')
	await stack.command('up', '--config', file, '--newer')
	await stack.refresh()
}

async function after() {
	await stack.command('up', '--config', '', '--newer')
}

/** The `queued` events that a client heard of a job, in their order. */
const waits = (client, id) => client.events.filter((e) => e.ev === 'queued' && e.job === id)

/** Positions that never rise; null (not told yet) stands before all. */
function falls(list, what) {
	const known = list.filter((p) => p !== null)
	for (let i = 1; i < known.length; i++) assert.ok(known[i] <= known[i - 1], `${what}: ${known.join()}`)
	return known
}

test('a waiting job has a position that falls, an estimate, and the same by HTTP and after attach', async () => {
	const { client } = await Client.hello(stack)
	const ids = []
	for (let i = 0; i < 24; i++) ids.push((await api.accepted(chat(`line ${i}`, 'ttft=1000 rate=0 tokens=5'))).id)
	client.send({ op: 'attach', jobs: ids.map((id) => ({ id })) })
	const last = ids.at(-1)
	const first = await client.next((e) => e.ev === 'queued' && e.job === last && e.position)
	assert.equal(first.why, 'slots')
	assert.equal(first.lane, 'interactive')
	assert.ok(first.position > 4 && first.position <= 20, `position ${first.position}`)
	const shown = (await api.get(last)).json
	assert.equal(shown.status, 'queued')
	assert.equal(shown.why, 'slots')
	assert.ok(shown.position >= 1 && shown.position <= first.position, `${shown.position} after ${first.position}`)
	const apart = (await Client.hello(stack)).client
	apart.send({ op: 'attach', jobs: [{ id: last }] })
	const again = await apart.next((e) => e.ev === 'queued' && e.job === last)
	assert.ok(again.position >= 1 && again.position <= first.position, JSON.stringify(again))
	await client.next((e) => e.ev === 'queued' && e.estimate_ms !== null)
	for (const id of ids) await client.end(id)
	await apart.end(last)
	let told = 0
	for (const id of ids) {
		const known = falls(waits(client, id).map((e) => e.position), id)
		told += known.length
		const names = client.events.filter((e) => e.job === id).map((e) => e.ev)
		if (names.includes('started')) assert.ok(names.lastIndexOf('queued') < names.indexOf('started'), names.join())
		assert.equal((await api.get(id)).json.position, null)
	}
	falls(waits(apart, last).map((e) => e.position), 'attached')
	assert.ok(waits(client, last).length >= 3, 'each change of its position was told')
	const estimates = waits(client, last).filter((e) => e.estimate_ms !== null)
	assert.ok(estimates.length, 'the pace was known before its turn came')
	for (const e of estimates) assert.ok(e.estimate_ms <= 20000, JSON.stringify(e))
	console.log(`        24 jobs, 4 slots: ${told} positions told; the last one's: ${waits(client, last).map((e) => `${e.position} (${e.estimate_ms} ms)`).join(', ')}`)
}, { limit_ms: 60000 })

await run(import.meta.url, { before, after })
