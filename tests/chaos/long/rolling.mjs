// A new version rolls out: each of two pools is ended in order (SIGTERM), waited for and started again, one after the other, three times,
// under load. Nothing is lost, no call is cut, none is made again.

import assert from 'node:assert/strict'
import { Books } from '../../support/books.mjs'
import { serves } from '../../support/harm.mjs'
import { Stack } from '../../support/stack.mjs'
import { run, test, until } from '../../support/test.mjs'
import { Traffic } from '../../support/traffic.mjs'

const TIMES = Number(process.env.TIMES ?? 3)
const stack = await Stack.open()
const keys = await stack.keys(8) // whose jobs stand in most partitions

test(`two pools are restarted in turn, ${TIMES} times, under load: nothing is lost, no call is made again`, async () => {
	const books = Books.open(stack, 'rolling')
	const traffic = new Traffic(stack, { name: `rolling-${Date.now().toString(36)}`, keys }).start()
	try {
		await until('the load stands', () => traffic.entries.length > 80, 60000)
		for (let time = 1; time <= TIMES; time++)
			for (const id of ['sluice-pool-1', 'sluice-pool-2']) {
				const told = () => traffic.entries.filter((e) => e.told).length
				const began = Date.now()
				const before = told()
				await stack.down(id)
				const ended = Date.now()
				await stack.up(id)
				await serves(stack, id)
				console.log(`        ${id}: ended after ${ended - began} ms, serves again after ${Date.now() - ended} ms; meanwhile ${told() - before} jobs ended`)
				await until('jobs end', () => told() > before + 50, 60000)
			}
		await traffic.stop()
		const { counts } = await books.sound(traffic)
		assert.equal(counts.repeated, 0, 'no job that ended was called again')
		assert.equal(counts.made, counts.accepted, 'every call was made once')
	} finally {
		traffic.over = true
		books.end()
	}
}, { limit_ms: 500000 })

await run(import.meta.url)
