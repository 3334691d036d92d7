// CLIENTS (1000) clients of two push nodes for ROUNDS (8) rounds under load: every connection is cut at a random byte of what it receives,
// nodes are killed, drained and stopped, Redis is killed and, once, emptied. SEED chooses them. At the end each client's text is the stored
// one byte for byte, and no reply claimed a recovery that did not happen.

import assert from 'node:assert/strict'
import { killed, mend, stalled } from '../../support/harm.mjs'
import { Phones } from '../../support/phones.mjs'
import { Stack } from '../../support/stack.mjs'
import { pass, run, test, until } from '../../support/test.mjs'
import { chance } from '../../support/traffic.mjs'

const CLIENTS = Number(process.env.CLIENTS ?? 1000)
const ROUNDS = Number(process.env.ROUNDS ?? 8)
const SEED = Number(process.env.SEED ?? Date.now() % 1000000)
const stack = await Stack.open()

const HARM = {
	'node killed': async (draw, node) => `${node} killed, serves after ${await killed(stack, node, draw() * 4000)} ms`,
	'node drained': async (draw, node) => {
		await stack.down(node)
		await stack.up(node)
		return `${node} drained and started again`
	},
	'node still': async (draw, node) => `${node} still, serves ${await stalled(stack, node, 1000 + draw() * 9000)} ms later`,
	'both nodes killed': async (draw, node, nodes) => `both nodes killed, serve after ${Math.max(...(await both(nodes, draw() * 3000)))} ms`,
	'redis killed': async (draw) => `redis killed, serves after ${await killed(stack, 'redis', draw() * 4000)} ms`,
	'redis emptied': async () => `redis emptied: ${await stack.redis_cli('FLUSHALL')}`,
	'pool killed': async (draw) => `sluice-pool-1 killed, serves after ${await killed(stack, 'sluice-pool-1', draw() * 2000)} ms`,
}

/** Both at once; started one after another, as the folder's lock has it. */
async function both(nodes, away_ms) {
	await Promise.all(nodes.map((n) => stack.kill(n)))
	await pass(away_ms)
	const began = Date.now()
	await stack.up(...nodes)
	return [Date.now() - began]
}

/** One after the other; `redis emptied` exactly once, and each kind before any comes again. */
function rounds(draw) {
	const kinds = Object.keys(HARM)
	const list = []
	while (list.length < ROUNDS) {
		const left = kinds.filter((k) => !list.includes(k))
		const from = left.length ? left : kinds.filter((k) => k !== 'redis emptied')
		list.push(from[Math.floor(draw() * from.length)])
	}
	if (!list.includes('redis emptied')) list[Math.floor(draw() * list.length)] = 'redis emptied'
	return list
}

test(`${CLIENTS} clients cut at random bytes, ${ROUNDS} rounds of harm, seed ${SEED}: each has the stored text, no recovery is claimed that did not happen`, async () => {
	const draw = chance(SEED)
	const push = stack.services.filter((s) => s.name === 'sluice-push')
	const nodes = push.map((s) => ({ id: s.id, port: Number(new URL(`ws://${s.listen}`).port) }))
	assert.ok(nodes.length >= 2, 'two push nodes: compose/stack up --scale sluice-push=2')
	const share = (part) => Math.round(CLIENTS * part)
	const mix = { own: share(0.4), library: share(0.25), shared: share(0.2), session: share(0.15) }
	const phones = await Phones.open(stack, { name: `clients-${Date.now().toString(36)}`, seed: SEED, nodes, mix })
	const ids = [...stack.services.map((s) => s.id), ...stack.parts.map((p) => p.name)]
	const done = {}
	const began = Date.now()
	const say = (words) => console.log(`        ${((Date.now() - began) / 1000).toFixed(0).padStart(4)} s ${words}; ${phones.line()}`)
	phones.start()
	try {
		await until('the clients follow their jobs', () => phones.tally.deltas > CLIENTS * 3, 120000)
		say('all are there')
		for (const kind of rounds(draw)) {
			phones.harm(false)
			const words = await HARM[kind](draw, nodes[Math.floor(draw() * nodes.length)].id, nodes.map((n) => n.id))
			const dead = await mend(stack, ids)
			phones.harm(true)
			done[kind] = (done[kind] ?? 0) + 1
			await pass(6000 + draw() * 8000)
			say(`${words}${dead.length ? `; ended by themselves: ${dead}` : ''}`)
		}
	} finally {
		await phones.finish(Number(process.env.FINISH_MS ?? 120000))
	}
	say('all have ended')
	const compared = await phones.compare()
	phones.show(compared, Object.entries(done).map(([k, n]) => `${n} × ${k}`).join(', '))
	phones.sound()
	assert.ok(compared.ends >= CLIENTS && phones.tally.true > CLIENTS / 2, 'there was load, and recovery')
	assert.ok((compared.status.succeeded ?? 0) > compared.ends * 0.95, 'most jobs succeed')
}, { limit_ms: ROUNDS * 60000 + 600000 })

await run(import.meta.url)
