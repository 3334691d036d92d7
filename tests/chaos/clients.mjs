// A hundred clients of two push nodes, cut at random bytes for half a minute, while a node is killed and Redis is emptied: each has the
// stored text, and no recovery is claimed that did not happen. The long form: long/clients.mjs.

import assert from 'node:assert/strict'
import net from 'node:net'
import { Phones } from '../support/phones.mjs'
import { Stack } from '../support/stack.mjs'
import { pass, run, test, until } from '../support/test.mjs'

const SEED = Number(process.env.SEED ?? Date.now() % 1000000)
const stack = await Stack.open()

function freePort() {
	return new Promise((resolve) => {
		const s = net.createServer().listen(0, '127.0.0.1', () => {
			const { port } = s.address()
			s.close(() => resolve(port))
		})
	})
}

test(`a hundred clients cut at random bytes, a node killed, Redis emptied, seed ${SEED}: each has the stored text, no recovery is claimed that did not happen`, async () => {
	const second = await freePort()
	const start = () => stack.more('sluice-push', 'sluice-push-second', 'push', '--set', `push.listen=127.0.0.1:${second}`)
	let node = await start()
	const nodes = [{ id: 'sluice-push-1', port: Number(new URL(stack.push).port) }, { id: 'sluice-push-second', port: second }]
	const mix = { own: 40, library: 25, shared: 20, session: 15 }
	const phones = await Phones.open(stack, { name: `phones-${Date.now().toString(36)}`, seed: SEED, nodes, mix, cut_bytes: 8000, least_ms: 2000, most_ms: 8000 })
	phones.start()
	try {
		await until('the clients follow their jobs', () => phones.tally.deltas > 300, 60000)
		await pass(8000)
		phones.harm(false)
		await node.end('SIGKILL')
		node = await start()
		phones.harm(true)
		await pass(8000)
		phones.harm(false)
		await stack.redis_cli('FLUSHALL')
		phones.harm(true)
		await pass(8000)
	} finally {
		await phones.finish(90000)
		await node.end()
	}
	const compared = await phones.compare()
	phones.show(compared, '1 × node killed, 1 × redis emptied')
	phones.sound()
	assert.ok(compared.ends >= 100 && phones.tally.true > 20, 'there was load, and recovery')
}, { limit_ms: 300000 })

await run(import.meta.url)
