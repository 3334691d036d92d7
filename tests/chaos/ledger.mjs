// The ledger itself: it finds what it is there to find (books with one lie each), and a short run under load comes out sound. The long
// runs are `make chaos` (tests/chaos/long).

import assert from 'node:assert/strict'
import { Books } from '../support/books.mjs'
import { killed, stalled } from '../support/harm.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'
import { Traffic } from '../support/traffic.mjs'
import { judge } from './ledger/check.mjs'
import { commitOf, runsOf } from './ledger/log.mjs'

/** The books of two jobs that went well: job 1 was committed as done above the base, before job 0. */
function sound() {
	const place = { group: 'pool-llm', topic: 'llm.high', partition: 3 }
	return {
		clients: [0, 1].map((n) => ({ id: `job_${n}`, prompt: `p ${n}`, via: 'sse', told: 'succeeded', sha: `s${n}`, bytes: 9 })),
		records: [0, 1].map((n) => ({ topic: 'llm.high', partition: 3, offset: n, ms: 100, id: `job_${n}`, tier: false })),
		results: new Map([0, 1].map((n) => [`job_${n}`, [{ ms: n ? 200 : 300, status: 'succeeded', attempt: 1, sha: `s${n}` }]])),
		commits: [{ ...place, base: 0, text: '1:AQE=', ms: 210 }, { ...place, base: 2, text: '1:', ms: 310 }],
		ends: new Map([['llm.high/3', { low: 0, end: 2 }], ['results/0', { low: 0, end: 2 }]]),
		holes: [],
		rows: new Map([0, 1].map((n) => [`job_${n}`, [{ job: `job_${n}`, status: 'succeeded', attempt: 1, sha: `s${n}`, session: 'ses_1', turn: n + 1, finished_ms: 150 + n * 50 }]])),
		calls: new Map([0, 1].map((n) => [`job_${n}`, [{ number: 1, fault: null, started_ms: 120 + n * 50, ended_ms: 140 + n * 50 }]])),
		journal: new Map([0, 1].map((n) => [`p ${n}`, [{ what: 'completed' }]])),
		archived: new Map([['results/0', 2]]),
	}
}

test('books without a lie are sound', () => {
	const { counts, wrong } = judge(sound())
	assert.deepEqual([...wrong], [])
	assert.deepEqual([counts.accepted, counts.terminal, counts.followed, counts.repeated, counts.booked, counts.turns], [2, 2, 2, 0, 2, 1])
})

const lies = {
	lost: (b) => b.rows.delete('job_1'),
	'double results': (b) => b.rows.get('job_0').push(b.rows.get('job_0')[0]),
	'row ≠ first result': (b) => b.results.get('job_0').unshift({ ms: 290, status: 'failed', attempt: 1, sha: 's0' }),
	'told otherwise': (b) => (b.clients[0].told = 'failed'),
	'client text ≠ stored text': (b) => (b.clients[1].sha = 'other'),
	'commit covers an unfinished job': (b) => (b.commits[0].base = 1),
	'partition not read to its end': (b) => b.commits.pop(),
	'results not archived to their end': (b) => b.archived.set('results/0', 1),
	'record deleted before it was seen': (b) => b.holes.push('llm.high/3: 0 to 4'),
	'commit that cannot be read': (b) => (b.commits[1].text = '1:AQ=='),
	'turn out of order': (b) => (b.calls.get('job_1')[0].started_ms = 149),
	'succeeded without a call': (b) => b.journal.delete('p 1'),
	'charged for a call that was not completed': (b) => b.calls.get('job_1').push({ number: 2, fault: null, started_ms: 180, ended_ms: 190 }),
}
for (const [what, lie] of Object.entries(lies))
	test(`the ledger finds: ${what}`, () => {
		const books = sound()
		lie(books)
		assert.ok(judge(books).wrong.has(what), [...judge(books).wrong.keys()].join())
	})

test('the ledger counts a call that was completed again, and a second end that differs', () => {
	const books = sound()
	books.journal.get('p 1').push({ what: 'completed' })
	books.results.get('job_1').push({ ms: 400, status: 'succeeded', attempt: 2, sha: 's9' })
	const { counts, wrong } = judge(books)
	assert.deepEqual([counts.repeated, counts.repeats, counts.again], [1, ['job_1'], 1])
	assert.equal(wrong.get('double results').length, 1)
})

test('a commit is read from its bytes, its set from its text', () => {
	const text = (s) => Buffer.concat([Buffer.from([0, s.length]), Buffer.from(s)])
	const key = Buffer.concat([Buffer.from([0, 1]), text('g'), text('t'), Buffer.from([0, 0, 0, 7])])
	const head = [0, 0, 0, 0, 0, 0, 1, 44, 255, 255, 255, 255]
	const three = Buffer.concat([Buffer.from([0, 3, ...head]), text('1:AQE='), Buffer.alloc(8)])
	const four = Buffer.concat([Buffer.from([0, 4, ...head]), Buffer.from([7]), Buffer.from('1:AQE='), Buffer.alloc(9)])
	for (const value of [three, four]) assert.deepEqual(commitOf({ key, value }), { group: 'g', topic: 't', partition: 7, base: 300, text: '1:AQE=' })
	assert.equal(commitOf({ key, value: null }), null)
	assert.deepEqual(runsOf(300, '1:AQGsAgI='), [[301, 302], [602, 604]])
	for (const bad of ['2:AQE=', '1:AQ==', '1:AAE=', '1:gA==']) assert.throws(() => runsOf(0, bad), bad)
})

test('each service is killed, each stands still, under load: the ledger is sound', async () => {
	const stack = await Stack.open()
	await stack.up()
	await stack.refresh()
	const books = Books.open(stack, 'short')
	const traffic = new Traffic(stack, { name: `short-${Date.now().toString(36)}`, seats: { wait: 6, sse: 10, turns: 1, ws: 3, forget: 1 }, max_ms: 1500 }).start()
	try {
		await until('the load stands', () => traffic.entries.length > 40, 30000)
		for (const { id } of stack.services) await killed(stack, id, 200)
		for (const { id } of stack.services) await stalled(stack, id, 1500)
		await traffic.stop()
		await books.sound(traffic)
	} finally {
		traffic.over = true
		books.end()
	}
}, { limit_ms: 180000 })

await run(import.meta.url)
