// ROUNDS (50) rounds under constant load: one process at random is killed and started again, or stands still for a while. SEED chooses
// them; the ledger at the end says whether anything that was accepted is lost, or ended twice.

import assert from 'node:assert/strict'
import { Books } from '../../support/books.mjs'
import { killed, mend, stalled } from '../../support/harm.mjs'
import { Stack } from '../../support/stack.mjs'
import { pass, run, test, until } from '../../support/test.mjs'
import { chance, Traffic } from '../../support/traffic.mjs'

const ROUNDS = Number(process.env.ROUNDS ?? 50)
const SEED = Number(process.env.SEED ?? Date.now() % 1000000)
const stack = await Stack.open()
const keys = await stack.keys(8) // whose jobs stand in most partitions

/** Kinds first, so that three brokers are not three times as likely as the one Redis. */
function kinds() {
	const of = (part) => [...stack.services.map((s) => s.id), ...stack.parts.map((p) => p.name)].filter((id) => id.includes(part))
	return ['front', 'pool-1', 'pool-2', 'push', 'archive', 'scheduler', 'redis', 'kafka', 'postgres'].map(of).filter((ids) => ids.length)
}

test(`${ROUNDS} rounds of SIGKILL and SIGSTOP under load, seed ${SEED}: nothing accepted is lost, nothing ends twice`, async () => {
	const draw = chance(SEED)
	const pick = (list) => list[Math.floor(draw() * list.length)]
	const ids = [...stack.services.map((s) => s.id), ...stack.parts.map((p) => p.name)]
	const books = Books.open(stack, 'rounds')
	const traffic = new Traffic(stack, { name: `rounds-${Date.now().toString(36)}`, seed: SEED, keys }).start()
	const themselves = []
	const began = Date.now()
	try {
		await until('the load stands', () => traffic.entries.length > 80, 60000)
		for (let round = 1; round <= ROUNDS; round++) {
			const id = pick(pick(kinds()))
			const kill = draw() < 0.5
			const ms = Math.round(kill ? draw() * 4000 : 500 + draw() * 14500)
			const before = traffic.entries.length
			const back = kill ? await killed(stack, id, ms) : await stalled(stack, id, ms, (id) => themselves.push(`${id} in round ${round}`))
			for (const dead of await mend(stack, ids)) themselves.push(`${dead} in round ${round}`)
			const told = traffic.entries.filter((e) => e.told).length
			const at = ((Date.now() - began) / 1000).toFixed(0).padStart(4)
			console.log(`        ${at} s round ${String(round).padStart(2)}: ${id.padEnd(18)} ${(kill ? `killed, away ${ms} ms` : `still for ${ms} ms`).padEnd(22)} serves after ${back} ms; ` +
				`accepted ${traffic.entries.length} (+${traffic.entries.length - before}), told ${told}, in flight ${traffic.open}`)
			await pass(draw() * 3000)
		}
		await traffic.stop()
		const { counts } = await books.sound(traffic)
		console.log(`        seed ${SEED}; ${ROUNDS} rounds in ${((Date.now() - began) / 1000).toFixed(0)} s; ended by themselves and started again: ${themselves.join(', ') || 'none'}`)
		assert.ok(counts.accepted > ROUNDS * 5, 'there was load')
	} finally {
		traffic.over = true
		books.end()
	}
}, { limit_ms: ROUNDS * 40000 + 400000 })

await run(import.meta.url)
