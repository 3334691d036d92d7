// The group's worst day: a pool starts or stops every 3 s for STORM_S (120) seconds under load, mostly in order (SIGTERM), sometimes not
// (SIGKILL). Nothing is lost, and no partition stays frozen: afterwards every committed base moves to the end.

import assert from 'node:assert/strict'
import { Books } from '../../support/books.mjs'
import { Stack } from '../../support/stack.mjs'
import { pass, run, test, until } from '../../support/test.mjs'
import { chance, Traffic } from '../../support/traffic.mjs'

const STORM_S = Number(process.env.STORM_S ?? 120)
const SEED = Number(process.env.SEED ?? Date.now() % 1000000)
const EVERY_MS = 3000
const stack = await Stack.open()
const keys = await stack.keys(8) // whose jobs stand in most partitions

test(`a pool starts or stops every 3 s for ${STORM_S} s, seed ${SEED}: nothing is lost, no partition is frozen`, async () => {
	const draw = chance(SEED)
	const books = Books.open(stack, 'storm')
	const traffic = new Traffic(stack, { name: `storm-${Date.now().toString(36)}`, seed: SEED, keys }).start()
	const names = ['sluice-pool-storm-1', 'sluice-pool-storm-2', 'sluice-pool-storm-3']
	const running = new Map()
	const leaving = new Set()
	const done = { started: 0, ended: 0, killed: 0, themselves: 0 }
	let most = 0
	try {
		await until('the load stands', () => traffic.entries.length > 80, 60000)
		const end = Date.now() + STORM_S * 1000
		for (let next = Date.now(); next < end; next += EVERY_MS) {
			await pass(Math.max(0, next - Date.now()))
			const idle = names.filter((n) => !running.has(n) && !leaving.has(n))
			if (idle.length && (!running.size || draw() < 0.5)) {
				const id = idle[Math.floor(draw() * idle.length)]
				const pool = await stack.spawn('sluice-pool', id, 'pool', '--pool', 'llm')
				pool.gone.then(() => {
					if (running.get(id) === pool) {
						running.delete(id)
						done.themselves++
					}
				})
				running.set(id, pool)
				done.started++
			} else if (running.size) {
				const id = [...running.keys()][Math.floor(draw() * running.size)]
				const pool = running.get(id)
				const kill = draw() < 0.3
				running.delete(id)
				leaving.add(id)
				done[kill ? 'killed' : 'ended']++
				pool.end(kill ? 'SIGKILL' : 'SIGTERM').then(() => leaving.delete(id))
			}
			const depth = Object.values(await books.depth()).reduce((a, b) => a + b, 0)
			most = Math.max(most, depth)
			const told = traffic.entries.filter((e) => e.told).length
			console.log(`        ${String(Math.round((next - end) / 1000 + STORM_S)).padStart(4)} s: ${running.size + 2} pools, accepted ${traffic.entries.length}, told ${told}, in flight ${traffic.open}, not completed ${depth}`)
		}
		await Promise.all([...running].map(([id, pool]) => (running.delete(id), pool.end('SIGTERM'))))
		const calm = Date.now()
		await traffic.stop()
		const { counts } = await books.sound(traffic)
		console.log(`        seed ${SEED}: ${done.started} started, ${done.ended} ended, ${done.killed} killed, ${done.themselves} ended by themselves; at most ${most} records not completed; ` +
			`every partition at its end ${((Date.now() - calm) / 1000).toFixed(1)} s after the storm`)
		assert.ok(counts.accepted > STORM_S, 'there was load')
		assert.equal(done.themselves, 0, 'no pool ended by itself')
	} finally {
		traffic.over = true
		for (const pool of running.values()) pool.child.kill('SIGKILL')
		books.end()
	}
}, { limit_ms: STORM_S * 1000 + 400000 })

await run(import.meta.url)
