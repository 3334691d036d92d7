// Redis loses its memory: what a client hears of jobs that it knows, from the first moment on.

import assert from 'node:assert/strict'
import net from 'node:net'
import { Api, chat } from '../support/api.mjs'
import { Stack } from '../support/stack.mjs'
import { pass, run, test, until } from '../support/test.mjs'

const stack = await Stack.open()
const api = new Api(stack)

const redis = new URL(stack.redis)

/** At once, without a process of its own for it: resolves when Redis has said so. */
const forget = () =>
	new Promise((resolve, reject) => {
		const c = net.connect(Number(redis.port), redis.hostname, () => c.write('FLUSHALL\r\n'))
		c.once('data', (said) => (c.destroy(), resolve(String(said))))
		c.once('error', reject)
	})

test('Redis is emptied: of an accepted job nobody hears that there is none, nor who cancels it', async () => {
	const running = (await api.accepted(chat('runs', 'ttft=9000 rate=0 tokens=4'))).id
	await until('it runs', async () => (await api.get(running)).json.status === 'running')
	const heard = new Map()
	const hear = async (what, answer) => {
		const { status, json } = await answer
		const words = `${what} ${status} ${json.error?.code ?? ''}`.trim()
		heard.set(words, (heard.get(words) ?? 0) + 1)
	}
	const unwanted = []
	for (let round = 0; round < 20 && !(heard.has('running 503 state_unknown') && heard.has('cancel 503 state_unknown')); round++) {
		const id = (await api.accepted(chat('unwanted', undefined, { not_before: new Date(Date.now() + 8000).toISOString() }))).id
		unwanted.push(id)
		assert.equal(await forget(), '+OK\r\n')
		const end = Date.now() + 700 // longer than a process takes to notice
		while (Date.now() < end) await Promise.all([hear('running', api.get(running)), hear('unwanted', api.get(id)), hear('cancel', api.cancel(id)), pass(5)])
	}
	console.log(`        ${[...heard].map(([words, n]) => `${words}: ${n}`).join(', ')}`)
	for (const words of heard.keys()) assert.ok(!words.includes(' 404'), words)
	for (const words of ['running 503 state_unknown', 'cancel 503 state_unknown']) assert.ok(heard.has(words), words)
	assert.equal((await api.ended(running, 60000)).status, 'succeeded')
	for (const id of unwanted) await until('the others end too', async () => ['succeeded', 'cancelled'].includes((await api.get(id)).json.status), 30000)
}, { limit_ms: 120000 })

test('an id that nobody was given is a 404 all the same', async () => {
	const made = (await api.accepted(chat('its neighbour'))).id
	const other = made.slice(0, -6) + (made.endsWith('000000') ? '111111' : '000000')
	for (const r of [await api.get(other), await api.cancel(other)]) {
		assert.equal(r.status, 404, r.text)
		assert.equal(r.json.error.code, 'not_found')
	}
	await api.ended(made)
})

await run(import.meta.url)
