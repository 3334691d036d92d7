// compose/stack up while a service is at its end: it waits for that, and starts the next one.

import assert from 'node:assert/strict'
import { Api, chat } from '../support/api.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'

const POOL = 'sluice-pool-1'
const stack = await Stack.open()
const api = new Api(stack)

test('up waits for a pool that drains, starts it again, and says so', async () => {
	const before = stack.pid(POOL)
	const job = await api.accepted(chat('take your time', 'ttft=3000 rate=0 tokens=8', { lane: 'interactive' }))
	await until('it runs', async () => (await api.get(job.id)).json.status === 'running')
	process.kill(before, 'SIGTERM')
	await until('the pool drains', async () => (await fetch(`${stack.service(POOL).admin}/readyz`)).status === 503)
	const { stderr } = await stack.command('up')
	assert.match(stderr, new RegExp(`${POOL} +waiting +its process \\(pid ${before}\\) drains`))
	assert.match(stderr, new RegExp(`${POOL} +ready +after`))
	assert.ok(stack.pid(POOL) && stack.pid(POOL) !== before)
	assert.equal((await api.ended(job.id)).status, 'succeeded')
	assert.equal((await api.ended((await api.accepted(chat('and the next', 'ttft=0 rate=0 tokens=8'))).id)).status, 'succeeded')
}, { limit_ms: 60000 })

await run(import.meta.url)
