// Jobs that are due later, and what is deleted: tiers, not_before, kills in between, trimming, dead letters. The waits that go through
// a tier are shrunk from a minute to two seconds for this file.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import { answer } from '../support/answer.mjs'
import { Api, chat } from '../support/api.mjs'
import { freePort, Stack } from '../support/stack.mjs'
import { pass, run, test, until } from '../support/test.mjs'

const exec = promisify(execFile)
const stack = await Stack.open()
const api = new Api(stack)
const POOL = 'sluice-pool-1'
const SCHEDULER = 'sluice-scheduler-1'
const soon = (ms) => new Date(Date.now() + ms).toISOString()

async function before() {
	const file = `${stack.dir}/scheduler-test.yaml`
	writeFileSync(
		file,
		'pool:\n  defer_ms: 2000\n  max_tries: 2\n  backoff_ms: 10\n' +
			'scheduler:\n  tick_ms: 200\n  trim_ms: 500\n  sweep_ms: 500\n',
	)
	await stack.command('up', '--config', file, '--newer')
	await stack.refresh()
}

async function after() {
	await stack.command('up', '--config', '', '--newer')
}

/** sluicectl with the stack's configuration: {code, out, err}. */
const ctl = (...words) => ctl_of(`${stack.dir}/sluice.yaml`, ...words)

async function ctl_of(config, ...words) {
	const program = `${dirname(readlinkSync(`/proc/${stack.pid('sluice-front-1')}/exe`))}/sluicectl`
	const args = ['--config', config, ...words]
	try {
		const { stdout, stderr } = await exec(program, args, { maxBuffer: 1 << 24 })
		return { code: 0, out: stdout, err: stderr }
	} catch (e) {
		return { code: e.code, out: e.stdout, err: e.stderr }
	}
}

/** sluicectl depth --json, as rows. */
async function depth() {
	const { code, out, err } = await ctl('depth', '--json')
	assert.equal(code, 0, err)
	return out
		.trim()
		.split('\n')
		.map((line) => JSON.parse(line))
}

/** A job that is refused with a Retry-After; what it was asked for can be counted. */
const limited = (text, retry_ms) => chat(text, `status=429 retry=${retry_ms}`, { model: 'claude-opus-4-5' })

test('a job that is not to start before a time starts then, through a tier', async () => {
	const deferred = await stack.metric(POOL, 'sluice_pool_jobs_deferred_total')
	const at = soon(4000)
	const job = chat('later', undefined, { not_before: at })
	const { id } = await api.accepted(job)
	const j = await api.ended(id)
	assert.equal(j.status, 'succeeded', JSON.stringify(j.fault))
	assert.ok(j.picked_up_at >= at, `${j.picked_up_at} is before ${at}`)
	assert.ok(Date.parse(j.picked_up_at) - Date.parse(at) < 3000, `${j.picked_up_at} is long after ${at}`)
	assert.equal(j.result.text, answer(job.model, job.messages[0].content, 20))
	assert.ok((await stack.metric(POOL, 'sluice_pool_jobs_deferred_total')) > deferred)
	assert.equal((await api.recorded([id])).get(id).length, 1)
})

test('a short wait stays in the pool', async () => {
	const deferred = await stack.metric(POOL, 'sluice_pool_jobs_deferred_total')
	const at = soon(1000)
	const { id } = await api.accepted(chat('soon', undefined, { not_before: at }))
	const j = await api.ended(id)
	assert.equal(j.status, 'succeeded')
	assert.ok(j.picked_up_at >= at)
	assert.equal(await stack.metric(POOL, 'sluice_pool_jobs_deferred_total'), deferred)
})

test('a job that waits in a tier survives the death of scheduler and pool, and runs once', async () => {
	const jobs = []
	const begun = (await stack.calls()).models['gpt-4.1']?.begun ?? 0
	const at = soon(7000)
	for (let i = 0; i < 20; i++) jobs.push((await api.accepted(chat(`killed ${i}`, undefined, { model: 'gpt-4.1', not_before: at }))).id)
	await until('they are in a tier', async () => (await depth()).filter((r) => r.topic.includes('later')).reduce((n, r) => n + r.depth, 0) >= 20)
	await stack.kill(SCHEDULER)
	await stack.kill(POOL)
	await stack.up()
	const ended = await Promise.all(jobs.map((id) => api.ended(id, 60000)))
	for (const j of ended) {
		assert.equal(j.status, 'succeeded', JSON.stringify(j.fault))
		assert.ok(j.picked_up_at >= at)
	}
	const rows = await api.recorded(jobs)
	for (const id of jobs) assert.equal(rows.get(id).length, 1)
	assert.equal((await stack.calls()).models['gpt-4.1'].begun - begun, 20)
}, { limit_ms: 90000 })

test('a provider that says to come back much later is asked again through the tier', async () => {
	const job = limited('come back', 3000)
	const { id } = await api.accepted({ ...job, limits: { queue_ms: 9000, run_ms: 9000 } })
	const deferred = await stack.metric(POOL, 'sluice_pool_jobs_deferred_total')
	await until('it was put off twice', async () => (await stack.metric(POOL, 'sluice_pool_jobs_deferred_total')) >= deferred + 2)
	const j = await api.ended(id, 40000)
	assert.equal(j.status, 'expired')
	assert.ok(j.calls.length >= 2, `${j.calls.length} calls in the ledger`)
	for (const c of j.calls) assert.equal(c.fault, 'provider_rate_limited')
	assert.equal((await api.recorded([id])).get(id).length, 1)
}, { limit_ms: 60000 })

test('a job in a tier is cancelled when the client says so, not when it is due', async () => {
	const { id } = await api.accepted(chat('never', undefined, { not_before: soon(3600_000) }))
	await until('it is in a tier', async () => (await stack.redis_cli('HGET', `j:{${id}}`, 'copy')) === '1')
	assert.equal((await api.cancel(id)).status, 202)
	const j = await api.ended(id, 15000)
	assert.equal(j.status, 'cancelled')
})

test('a leader that stands still is followed: a job in a tier is cancelled all the same', async () => {
	const leads = async ({ id, admin }) => {
		const text = await (await fetch(`${admin ?? stack.service(id).admin}/metrics`)).text()
		return /^sluice_scheduler_leader 1$/m.test(text)
	}
	const first = { id: SCHEDULER, pid: stack.pid(SCHEDULER) }
	const second = await stack.more('sluice-scheduler', 'scheduler-second', 'scheduler')
	try {
		await until('the first leads', () => leads(first))
		assert.ok(!(await leads(second)), 'and nobody else')
		const { id } = await api.accepted(chat('never', undefined, { not_before: soon(600_000) }))
		await until('it is in a tier', async () => (await stack.redis_cli('HGET', `j:{${id}}`, 'copy')) === '1')
		process.kill(first.pid, 'SIGSTOP')
		try {
			assert.equal((await api.cancel(id)).status, 202)
			const j = await api.ended(id, 20000)
			assert.equal(j.status, 'cancelled')
			assert.ok(await leads(second))
		} finally {
			process.kill(first.pid, 'SIGCONT')
		}
		await until('the old leader knows', async () => !(await leads(first)))
		assert.ok(await leads(second), 'the new one stays')
		assert.equal((await api.recorded([id])).get(id).length, 1)
	} finally {
		await second.end('SIGTERM')
	}
	await until('the first leads again', () => leads(first))
}, { limit_ms: 60000 })

test('what everybody has read is deleted, and nothing else', async () => {
	const waiting = await api.accepted(chat('waits', undefined, { lane: 'background', not_before: soon(20000) }))
	for (let i = 0; i < 10; i++) await api.ended((await api.accepted(chat(`read ${i}`, undefined, { lane: 'background' }))).id)
	await until('lanes begin where their readers stand', async () => {
		const rows = (await depth()).filter((r) => r.topic.includes('background') || r.topic.includes('results'))
		return rows.length && rows.every((r) => r.base < 0 || r.low === r.base)
	})
	const rows = await depth()
	for (const r of rows) assert.ok(r.base < 0 || r.low <= r.base, JSON.stringify(r))
	const tier = rows.filter((r) => r.topic.includes('later'))
	assert.ok(tier.reduce((n, r) => n + r.depth, 0) >= 1, 'the tier still has the job that waits')
	assert.equal((await api.ended(waiting.id, 40000)).status, 'succeeded')
}, { limit_ms: 80000 })

test('depth without PostgreSQL: what Kafka knows, and of the archive that it is unknown', async () => {
	const file = `${stack.dir}/no-postgres.yaml`
	const text = readFileSync(`${stack.dir}/sluice.yaml`, 'utf8')
	const blind = text.replace(/conninfo:.*/, `conninfo: "host=127.0.0.1 port=${await freePort()} dbname=none"`)
	assert.notEqual(blind, text)
	writeFileSync(file, blind)
	const from = Date.now()
	const { code, out, err } = await ctl_of(file, 'depth', '--json')
	const took = Date.now() - from
	assert.equal(code, 1)
	assert.match(err, /PostgreSQL does not say how far the archive is/)
	const rows = new Map(out.trim().split('\n').map((line) => [JSON.parse(line).topic, JSON.parse(line)]))
	assert.ok(rows.get('llm.interactive').depth >= 0)
	assert.deepEqual([rows.get('results').depth, rows.get('results').base], [null, null])
	assert.ok(rows.get('results').end > 0)
	assert.equal([...rows.keys()].at(-1), 'results')
	assert.ok(took < 10000, `it took ${took} ms`)
	const table = await ctl_of(file, 'depth')
	assert.match(table.out, /^results +archive +unknown/m)
	assert.equal(table.code, 1)
})

/** What `dead list` prints, as rows of words. */
async function letters(...filters) {
	const { code, out, err } = await ctl('dead', 'list', ...filters)
	assert.equal(code, 0, err)
	return out
		.split('\n')
		.filter((line) => line)
		.map((line) => line.split(' '))
}

test('a job that used up its tries leaves its whole history, and no other job does', async () => {
	const since = soon(0)
	const bad = await api.accepted(chat('dies', 'fin=0b', { model: 'gpt-4o-mini', metadata: { essay: '7' } }))
	const refused = await api.accepted(chat('refused', 'status=400', { model: 'gpt-4o' }))
	const good = await api.accepted(chat('lives', undefined, { model: 'gpt-4o' }))
	assert.equal((await api.ended(bad.id)).status, 'failed')
	assert.equal((await api.ended(refused.id)).status, 'failed')
	assert.equal((await api.ended(good.id)).status, 'succeeded')
	const rows = await letters('--since', since)
	assert.deepEqual(
		rows.map((r) => r[1]),
		[bad.id],
	)
	assert.deepEqual(rows[0].slice(3), ['interactive', 'provider_transport', 'tries=2', 'dead'])
	assert.deepEqual(await letters('--since', since, '--fault', 'expired'), [])
	assert.deepEqual(await letters('--since', since, '--org', 'org_00000000000000000000000000'), [])
	const shown = JSON.parse((await ctl('dead', 'show', bad.id)).out)
	assert.equal(shown.calls.length, 2)
	for (const c of shown.calls) assert.equal(c.fault, 'provider_transport')
	assert.equal(shown.topic, bad.log.topic)
	assert.equal(shown.partition, bad.log.partition)
	assert.equal(shown.offset, bad.log.offset)
	assert.equal(shown.record.id, bad.id)
	assert.deepEqual(shown.record.metadata, { essay: '7' })
})

test('a dead job is submitted again as a new one that names the old, or is put away', async () => {
	const since = soon(0)
	const one = await api.accepted(chat('again', 'fin=0b', { model: 'gpt-5.4-mini', metadata: { essay: '8' } }))
	const two = await api.accepted(chat('away', 'fin=0b', { model: 'gpt-5.4-mini' }))
	await api.ended(one.id)
	await api.ended(two.id)
	assert.equal((await letters('--since', since)).length, 2)
	const { out, code, err } = await ctl('dead', 'redrive', one.id)
	assert.equal(code, 0, err)
	const [old, fresh] = out.trim().split(' ')
	assert.equal(old, one.id)
	assert.notEqual(fresh, one.id)
	const j = await api.ended(fresh)
	assert.deepEqual(j.metadata, { essay: '8', redrive_of: one.id })
	assert.equal(j.calls.length, 2)
	assert.equal((await api.get(one.id)).json.status, 'failed')
	assert.equal((await ctl('dead', 'drop', two.id)).code, 0)
	const left = await letters('--since', since)
	assert.deepEqual(
		left.map((r) => r[1]),
		[fresh],
	)
	const all = new Map((await letters('--since', since, '--all')).map((r) => [r[1], r.at(-1)]))
	assert.equal(all.get(one.id), 'redriven')
	assert.equal(all.get(two.id), 'dropped')
	assert.equal((await ctl('dead', 'drop', '--since', since)).code, 0)
	assert.deepEqual(await letters('--since', since), [])
	assert.equal((await ctl('dead', 'redrive', 'job_00000000000000000000000000')).code, 1)
	assert.equal((await ctl('dead', 'drop')).code, 2)
})

test('a job that was answered 429 more often than its list of calls is long goes on in the next pool', async () => {
	const { id } = await api.accepted(chat('many calls', 'status=429 retry=20'))
	const calls = async () => (await api.get(id)).json.calls.length
	await until('its list is full', async () => (await calls()) >= 32, 60000)
	await stack.kill(POOL)
	await stack.up()
	const pid = stack.pid(POOL)
	const begun = (await stack.calls()).begun
	await until('it is asked for again', async () => (await stack.calls()).begun >= begun + 5, 30000)
	await stack.refresh()
	assert.equal(stack.pid(POOL), pid, 'the same process serves')
	assert.equal((await api.get(id)).json.status, 'running')
	await api.cancel(id)
	assert.equal((await api.ended(id)).status, 'cancelled')
}, { limit_ms: 120000 })

test('two redrives of a dead job at once, and later ones, make one job; a large one names the old one too', async () => {
	const one = await api.accepted(chat('twice', 'fin=0b', { model: 'gpt-5.4' }))
	const large = await api.accepted(chat(`large ${'y'.repeat(400000)}`, 'fin=0b', { model: 'gpt-4.1', metadata: { essay: '9' } }))
	for (const { id } of [one, large]) assert.equal((await api.ended(id)).status, 'failed')
	const runs = await Promise.all([one, one, large].map(({ id }) => ctl('dead', 'redrive', id)))
	for (const r of runs) assert.equal(r.code, 0, r.err)
	const fresh = runs.map((r) => r.out.trim().split(' ')[1])
	assert.equal(fresh[0], fresh[1])
	assert.notEqual(fresh[0], fresh[2])
	assert.equal((await ctl('dead', 'redrive', one.id)).out, runs[0].out)
	const j = await api.ended(fresh[0])
	assert.deepEqual(j.metadata, { redrive_of: one.id })
	assert.equal(j.calls.length, 2)
	assert.deepEqual((await api.ended(fresh[2])).metadata, { essay: '9', redrive_of: large.id })
	for (const rows of (await api.recorded([fresh[0], fresh[2]])).values()) assert.equal(rows.length, 1)
	for (const id of [fresh[0], fresh[2]]) assert.equal((await ctl('dead', 'drop', id)).code, 0)
})

test("a dead job that was a session's turn is submitted again only where the session is given up", async () => {
	const session = await api.session({})
	const { id } = await api.accepted(chat('a turn', 'fin=0b', { model: 'gpt-4.1-mini', session }))
	assert.equal((await api.ended(id)).status, 'failed')
	const no = await ctl('dead', 'redrive', id)
	assert.equal(no.code, 1)
	assert.match(no.err, /turn 1 of ses_.*--without-session/)
	assert.equal(no.out, '')
	const yes = await ctl('dead', 'redrive', id, '--without-session')
	assert.equal(yes.code, 0, yes.err)
	const fresh = yes.out.trim().split(' ')[1]
	const j = await api.ended(fresh)
	assert.equal(j.metadata.redrive_of, id)
	assert.ok(!j.session, j.session)
	assert.equal((await ctl('dead', 'drop', fresh)).code, 0)
})

test('an outage of a provider does not fill the dead letters: who waits for it burns no try', async () => {
	const since = soon(0)
	const ids = []
	for (let i = 0; i < 40; i++) ids.push((await api.accepted(chat(`outage ${i}`, 'status=503', { model: 'claude-haiku-4-5' }))).id)
	// a target that failed so often is shut for 15 s at most; then one job finds out whether it is well
	await pass(18000)
	const dead = (await letters('--since', since)).length
	assert.ok(dead >= 1 && dead <= 10, `${dead} of ${ids.length} jobs died`)
	await Promise.all(ids.map((id) => api.cancel(id)))
	const ends = await Promise.all(ids.map((id) => api.ended(id)))
	assert.equal(ends.filter((j) => j.status === 'failed').length + ends.filter((j) => j.status === 'cancelled').length, ids.length)
}, { limit_ms: 60000 })

await run(import.meta.url, { before, after })
