// A session's turns: how long the session stands for them, and what a turn does whose predecessor nothing stands of any more.

import assert from 'node:assert/strict'
import { Api, chat } from '../support/api.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'

const stack = await Stack.open()
const api = new Api(stack)

/** A turn of `session`, of a job without a model of its own. */
const turn = (session, text, how = 'ttft=0') => chat(text, `rate=0 tokens=5 ${how}`, { session, model: undefined })

const exist = async (...keys) => Number(await stack.redis_cli('EXISTS', ...keys))

/** A job's id as one that was made at `ms` has. */
function idOf(ms) {
	const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
	let time = ''
	for (let i = 0; i < 10; i++, ms = Math.floor(ms / 32)) time = alphabet[ms % 32] + time
	return `job_${time}${'0'.repeat(16)}`
}

test('a session stays while one of its turns waits or runs, however short its time is', async () => {
	const made = await api.call('POST', '/v1/sessions', { body: { task: 'chat', ttl_s: 1 } })
	const { id: session } = made.json
	const keys = [`s:{${session}}`, `c:{${session}}`]
	const jobs = [turn(session, 'first'), turn(session, 'runs', 'ttft=3500'), turn(session, 'waits', 'ttft=1800')]
	const ids = [(await api.accepted(jobs[0])).id]
	assert.equal((await api.ended(ids[0])).status, 'succeeded')
	ids.push((await api.accepted(jobs[1])).id)
	const begun = Date.now()
	await until('more than its time has gone', () => Date.now() - begun > 2500)
	assert.equal(await exist(...keys), 2, 'it stands, and what was said in it')
	ids.push((await api.accepted(jobs[2])).id)
	const ends = await Promise.all(ids.map((id) => api.ended(id)))
	for (const j of ends) assert.equal(j.status, 'succeeded', JSON.stringify(j.fault))
	const asked = jobs.map((job) => job.messages[0].content).concat(ends[0].result.text, ends[1].result.text).join('')
	assert.equal(ends[2].usage.input_tokens, Math.ceil(Buffer.byteLength(asked) / 4), 'the third was asked with all before it')
	const over = Date.now()
	await until('it ends when nothing is open', async () => (await exist(...keys)) === 0, 5000)
	assert.ok(Date.now() - over < 3000, `it stayed for ${Date.now() - over} ms`)
	await until('its time is over', async () => (await api.call('GET', `/v1/sessions/${session}`)).status === 404, 5000)
	assert.equal((await api.submit(turn(session, 'too late'))).status, 404)
})

test('a turn behind one that ended so long ago that only its record is left begins at once', async () => {
	const session = await api.session()
	const first = (await api.accepted(turn(session, 'long ago'))).id
	assert.equal((await api.ended(first)).status, 'succeeded')
	await api.recorded([first])
	assert.equal(Number(await stack.redis_cli('DEL', `j:{${first}}`)), 1)
	const { id } = await api.accepted(turn(session, 'now'))
	const j = await api.ended(id)
	assert.equal(j.status, 'succeeded', JSON.stringify(j.fault))
	const waited = Date.parse(j.calls[0].started_at) - Date.parse(j.created_at)
	assert.ok(waited < 3000, `it waited ${waited} ms`)
	assert.equal(await exist(`j:{${first}}`), 0, 'the first was not refused')
	const again = await api.get(first)
	assert.deepEqual([again.status, again.json.status], [200, 'succeeded'])
})

test('a turn behind one that nothing stands of waits while PostgreSQL cannot say whether it ended; then that one is refused', async () => {
	const session = await api.session()
	const made = Date.now()
	const gone = idOf(made)
	// its front died before the broker's word: the session alone knows of its turn
	await stack.redis_cli('HSET', `s:{${session}}`, 'turn', '1', 'last', gone, `p:${gone}`, '1 ')
	await stack.down('postgres')
	try {
		const { id } = await api.accepted(turn(session, 'behind it'))
		await until('it would have been refused', () => Date.now() - made > 27000, 40000)
		assert.equal(await exist(`j:{${gone}}`), 0, 'nothing is decided')
		assert.equal((await api.get(id)).json.status, 'queued')
		await stack.up('postgres')
		assert.equal((await api.ended(id)).status, 'succeeded')
		assert.equal((await stack.redis_cli('HGET', `j:{${gone}}`, 'state')).trim(), 'refused')
	} finally {
		await stack.up()
	}
}, { limit_ms: 90000 })

await run(import.meta.url)
