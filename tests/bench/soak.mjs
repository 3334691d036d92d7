// The load, the samples and the verdict of make soak: see tests/bench/soak and README.md.

import { execFile } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { Api, ENDED } from '../support/api.mjs'
import { Sim } from '../support/sim.mjs'
import { Stack } from '../support/stack.mjs'
import { pass, until } from '../support/test.mjs'
import { Client } from '../support/ws.mjs'

const exec = promisify(execFile)
const DIR = process.argv[2]
const { BUILD } = process.env
const [JOBS, RATE, GROWTH_KIB] = ['JOBS', 'RATE', 'GROWTH_KIB'].map((name) => Number(process.env[name]))
const WARM = 60 // the interactive jobs that come before
const OPEN_MAX = 300 // interactive jobs on their way; above it none is added
const FIRST = 'claude-sonnet-4-5'
const SECOND = 'gpt-5.4-mini'
const SLOW = 'claude-haiku-4-5'
const QUICK = 'gpt-4o-mini'

// Shares of the first target's requests.
const FAULTS = {
	'status=529': 0.02, 'status=503 retry=200': 0.01, 'status=429 retry=300': 0.01, cut: 0.02, 'fin=3': 0.02, rst: 0.01, 'malformed=2': 0.02, 'fail=4': 0.02, 'end=5': 0.02,
	undone: 0.02, 'goaway=2': 0.02, refused: 0.02, 'stall=3': 0.01, 'stall=0': 0.01, 'huge=2:200000': 0.02, bytes: 0.02, crlf: 0.02, page: 0.01,
}

/** The stack's configuration with the sleeping provider, clocks, quotas and a route that hedges. */
function config(stack) {
	const { anthropic, openai } = stack.providers
	const account = (name, kind, p) =>
		`  - name: ${name}\n    kind: ${kind}\n    base_url: "${p.base_url}"\n    ca_file: "${p.ca_file}"\n    key_file: "${DIR}/keys/${kind}"\n` +
		'    headers_ms: 1500\n    first_token_ms: 1500\n    silence_ms: 1500\n    idle_ms: 5000\n    connection_calls: 500\n'
	const route = (name, kind, targets, more = '') =>
		`  - name: ${name}\n    kind: ${kind}\n${more}    targets:\n${targets.map(([a, m]) => `      - account: ${a}\n        model: ${m}\n`).join('')}`
	return (
		`accounts:\n  - name: sleeper\n    kind: sleep\n    base_url: "http://127.0.0.1:9"\n    key_env: BENCH_KEY\n` +
		account('first', 'anthropic', anthropic) + account('second', 'openai', openai) +
		'routes:\n' + route('sleep-5ms', 'model', [['sleeper', 'sleep-5ms']]) +
		route('fails', 'task', [['first', FIRST], ['second', SECOND]]) +
		route('hedged', 'task', [['first', SLOW], ['second', QUICK]], '    hedge_ms: 100\n') +
		'pool:\n  slots: 256\n  reserved: 64\n' +
		`quotas:\n  - {name: first, accounts: first, models: "${FIRST}", requests: ${RATE * 20}, input_tokens: 200000, output_tokens: 200000}\n` +
		`  - {name: second, accounts: second, models: "${SECOND}", requests: ${RATE * 60}, tokens: 2000000}\n`
	)
}

// ---- the interactive jobs ----

const seen = { ids: new Set(), statuses: {}, refused: {}, failures: [] }

function body(n) {
	const hedged = n % 2 === 1
	const how = hedged ? `ttft=20 rate=200 tokens=20${n % 6 === 1 ? ` only=${SLOW} stall=0:1000` : ''}` : 'ttft=20 rate=200 tokens=20'
	return {
		kind: 'chat', task: hedged ? 'hedged' : 'fails', max_tokens: 100, on_cut: ['restart', 'continue', 'fail'][n % 3],
		messages: [{ role: 'user', content: `soak ${n} [sim ${how}]` }], limits: { queue_ms: 120000, run_ms: 60000 },
	}
}

async function over_websocket(stack, n) {
	const { client } = await Client.hello(stack)
	try {
		const id = await client.submit('1', body(n))
		seen.ids.add(id)
		const e = await client.end(id, 120000)
		client.send({ op: 'ack', id })
		count(e.ev === 'result' ? 'succeeded' : e.status)
	} finally {
		await client.close()
	}
}

const count = (status) => (seen.statuses[status] = (seen.statuses[status] ?? 0) + 1)

/** Every kind of client: by its number one follows, one hangs up, one cancels, one repeats itself, one has a conversation. */
async function one(stack, api, session, n) {
	if (n % 50 === 7) return over_websocket(stack, n)
	const job = body(n)
	if (n % 10 === 3) job.session = session
	const headers = n % 10 === 5 ? { 'idempotency-key': `soak-${n}` } : {}
	const r = await api.submit(job, headers)
	if (r.status !== 202) return void (seen.refused[r.status] = (seen.refused[r.status] ?? 0) + 1)
	seen.ids.add(r.json.id)
	if (n % 10 === 5 && (await api.submit(job, headers)).json?.id !== r.json.id) seen.failures.push(`${r.json.id}: its key gave another job`)
	if (n % 20 === 9) await api.cancel(r.json.id)
	if (n % 5 === 0) await api.follow(r.json.id)
	if (n % 20 === 4) {
		const gone = new AbortController()
		await api.follow(r.json.id, { signal: gone.signal, seen: () => gone.abort() }).catch(() => {})
	}
	count((await api.ended(r.json.id, 180000)).status)
}

function traffic(stack, api) {
	let over = false
	const open = new Set()
	const loop = (async () => {
		const begun = Date.now()
		let session = (await api.call('POST', '/v1/sessions', { body: { task: 'fails' } })).json.id
		for (let n = WARM; !over; n++) {
			await pass(Math.max(0, begun + ((n - WARM) * 1000) / RATE - Date.now()))
			if (open.size >= OPEN_MAX) continue
			if (n % 500 === 0) session = (await api.call('POST', '/v1/sessions', { body: { task: 'fails' } })).json.id
			const p = one(stack, api, session, n).catch((e) => seen.failures.push(String(e.message).slice(0, 200))).finally(() => open.delete(p))
			open.add(p)
		}
	})()
	return async () => {
		over = true
		await loop
		await Promise.all(open)
	}
}

// ---- what is held ----

function held(pid) {
	const kib = Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))[1])
	return { kib, fds: readdirSync(`/proc/${pid}/fd`).length }
}

async function redis(stack) {
	const info = await stack.redis_cli('INFO', 'memory')
	return { bytes: Number(/^used_memory:(\d+)/m.exec(info)[1]), keys: Number(await stack.redis_cli('DBSIZE')) }
}

const PROGRAMS = ['sluice-front', 'sluice-pool', 'sluice-archive', 'sluice-push', 'sluice-scheduler']
const short = (program) => program.replace('sluice-', '')

async function sample(stack) {
	const s = { ms: Date.now(), redis: await redis(stack) }
	for (const program of PROGRAMS) s[program] = held(stack.pid(`${program}-1`))
	return s
}

function heads() {
	const columns = PROGRAMS.map((p) => short(p).padStart(15)).join('')
	console.log(`      jobs  jobs/s${columns}   redis MiB      keys   interactive   (each: resident KiB, descriptors)`)
}

function row(done, rate, s) {
	const columns = PROGRAMS.map((p) => `${s[p].kib}/${s[p].fds}`.padStart(15)).join('')
	console.log(`${String(done).padStart(10)}${String(rate).padStart(8)}${columns}${(s.redis.bytes / 1048576).toFixed(1).padStart(12)}${String(s.redis.keys).padStart(10)}${String(seen.ids.size).padStart(14)}`)
}

/** Every key of Redis: how many by kind, of those without a time to live, how many leases stand, what is open. */
async function keys(stack) {
	const script =
		"local r = redis.call('SCAN', ARGV[1], 'COUNT', 2000); local out = {}; for _, k in ipairs(r[2]) do local kind = string.match(k, '^[%w]+') or k; " +
		"out[kind] = (out[kind] or 0) + 1; if redis.call('PTTL', k) == -1 then out['forever ' .. k] = 1 end; " +
		"if kind == 'j' and redis.call('HEXISTS', k, 'lease') == 1 then out['leases'] = (out['leases'] or 0) + 1 end end; " +
		"return cjson.encode({r[1], out})"
	const all = {}
	for (let cursor = '0'; ; ) {
		const [next, out] = JSON.parse(await stack.redis_cli('EVAL', script, '0', cursor))
		for (const [k, n] of Object.entries(out)) all[k] = (all[k] ?? 0) + n
		cursor = next
		if (cursor === '0') return all
	}
}

/** The time to live of all keys is over at once. */
async function age(stack) {
	const script =
		"local r = redis.call('SCAN', ARGV[1], 'COUNT', 2000); for _, k in ipairs(r[2]) do if redis.call('PTTL', k) > 0 then redis.call('PEXPIRE', k, 1) end end; return r[1]"
	for (let cursor = '0'; ; ) {
		cursor = await stack.redis_cli('EVAL', script, '0', cursor)
		if (cursor === '0') return
	}
}

/** Open calls, waiters and grants of the quotas, as Redis has them. */
async function reservations(stack) {
	const script =
		"local n = {0, 0}; for _, q in ipairs({'first', 'second'}) do n[1] = n[1] + redis.call('HLEN', 'br:{' .. q .. '}') + redis.call('ZCARD', 'bo:{' .. q .. '}') + redis.call('ZCARD', 'bg:{' .. q .. '}'); " +
		"n[2] = n[2] + redis.call('ZCARD', 'bl:{' .. q .. '}') end; return n[1] .. ' ' .. n[2]"
	return (await stack.redis_cli('EVAL', script, '0')).split(' ').map(Number)
}

// ---- the run ----

async function main() {
	let stack = await Stack.open(DIR)
	const sim = Sim.at(stack.sim_control)
	writeFileSync(`${DIR}.yaml`, config(stack), { mode: 0o600 })
	await exec('compose/stack', ['up', '--dir', DIR, '--config', `${DIR}.yaml`], { maxBuffer: 1 << 24 })
	stack = await Stack.open(DIR)
	const api = new Api(stack)
	let seed = 1
	for (const [how, share] of Object.entries(FAULTS)) await sim.fault(how, { model: FIRST, share, seed: seed++ })
	const fill = (jobs) => exec(`${BUILD}/tests/bench/fill`, [stack.kafka, 'background', String(jobs), 'sleep-5ms'])
	const ended = async () => {
		let sum = 0
		for (const [k, v] of await stack.metrics('sluice-pool-1')) if (k.startsWith('sluice_pool_jobs_ended_total{') && k.includes('background')) sum += v
		return sum
	}
	const rows = async () => Number((await stack.sql('SELECT count(*) FROM results'))[0][0])

	// Everything was used once before anything is held against it.
	const warm = 500
	await fill(warm)
	await until('the first jobs are done', async () => (await ended()) === warm, 60000)
	for (let n = 0; n < WARM; n++) await one(stack, api, (await api.call('POST', '/v1/sessions', { body: { task: 'fails' } })).json.id, n)
	await until('they are recorded', async () => (await rows()) === warm + seen.ids.size, 60000)
	const idle = () => PROGRAMS.map((p) => held(stack.pid(`${p}-1`)).fds)
	const quiet = async () => (await stack.metric('sluice-pool-1', 'sluice_pool_connections')) <= 4
	await until('connections that are not needed are closed', quiet, 60000)
	await pass(6000) // clients' idle connections to the front
	const before = idle()

	console.log(`${JOBS} background jobs of 5 ms, ${RATE} interactive ones a second beside them`)
	heads()
	const stop = traffic(stack, api)
	const begun = Date.now()
	const filling = fill(JOBS)
	const samples = []
	let last = { ms: begun, done: 0 }
	for (let step = 1; step <= 50; step++) {
		let done
		await until(`${step * 2} % are done`, async () => (done = (await ended()) - warm) >= (JOBS * step) / 50, 1800000)
		const s = { ...(await sample(stack)), done }
		row(done, Math.round(((done - last.done) * 1000) / Math.max(1, s.ms - last.ms)), s)
		last = { ms: s.ms, done }
		samples.push(s)
	}
	await filling
	const took = Date.now() - begun
	await stop()
	const jobs = warm + JOBS + seen.ids.size
	await until('every job has its row', async () => (await rows()) >= jobs, 600000)
	const parts = await stack.sql('SELECT status, count(*) FROM results GROUP BY 1 ORDER BY 1')
	console.log(`\n${JOBS} jobs in ${Math.round(took / 1000)} s, ${Math.round((JOBS * 1000) / took)} a second; ${seen.ids.size} interactive: ${JSON.stringify(seen.statuses)}, refused ${JSON.stringify(seen.refused)}`)
	const [[calls, overhead]] = await stack.sql('SELECT count(*), count(*) FILTER (WHERE overhead) FROM calls')
	const metric = (name) => stack.metric('sluice-pool-1', name)
	console.log(`rows ${parts.map((p) => p.join(' ')).join(', ')}; ${calls} calls in the ledger, ${overhead} of them overhead; ` +
		`${await metric('sluice_pool_hedges_total')} hedges, ${await metric('sluice_pool_breaker_changes_total')} changes of breakers`)
	await verdict({ stack, samples, jobs, before, idle, quiet, metric, rows })
}

async function verdict({ stack, samples, jobs, before, idle, quiet, metric, rows }) {
	const claims = []
	const claim = (holds, text) => claims.push([holds, text])
	const grown = (from, to, of) => Math.max(...to.map(of)) - Math.max(...from.map(of))
	// the highest of the second tenth against the highest of the last one
	const [early, late] = [samples.slice(5, 10), samples.slice(45)]
	const thousands = (late.at(-1).done - early[0].done) / 1000
	for (const p of PROGRAMS) {
		const kib = grown(early, late, (s) => s[p].kib)
		claim(kib <= GROWTH_KIB, `${short(p)}: resident memory grew by ${kib} KiB after the first tenth, ${(kib / thousands).toFixed(2)} KiB per 1,000 jobs (at most ${GROWTH_KIB} KiB in all)`)
	}
	const redis_bytes = grown(early, late, (s) => s.redis.bytes), redis_keys = grown(early, late, (s) => s.redis.keys)
	console.log(`Redis: ${Math.round(redis_bytes / thousands / 1000)} bytes and ${(redis_keys / thousands / 1000).toFixed(2)} keys per job, until their time to live is over`)

	claim(seen.failures.length === 0, `no client was failed: ${seen.failures.length} ${JSON.stringify(seen.failures.slice(0, 3))}`)
	claim((seen.statuses.expired ?? 0) === 0 && Object.keys(seen.statuses).every((s) => ENDED.includes(s)), `every interactive job ended, none expired`)
	const n = await rows()
	claim(n === jobs, `one row per job: ${n} rows, ${jobs} jobs`)

	const still = async () => (await metric('sluice_pool_jobs')) + (await metric('sluice_pool_slots')) + (await metric('sluice_pool_streams'))
	await until('the pool is idle', async () => (await still()) === 0 && (await quiet()), 60000).catch(() => {})
	claim((await still()) === 0, `no job, slot or stream is held: ${await still()}`)
	await pass(6000) // clients' idle connections to the front
	let after = idle()
	await until('descriptors are given back', () => (after = idle()).every((f, i) => f <= before[i]), 60000).catch(() => {})
	claim(after.every((f, i) => f <= before[i]), `descriptors before and after: ${PROGRAMS.map((p, i) => `${short(p)} ${before[i]} ${after[i]}`).join(', ')}`)
	const [reserved, waiting] = await reservations(stack)
	claim(reserved === 0 && waiting === 0, `no reservation, no waiter: ${reserved}, ${waiting}`)

	const kinds = await keys(stack)
	const forever = Object.keys(kinds).filter((k) => k.startsWith('forever '))
	claim(!kinds.leases, `no lease: ${kinds.leases ?? 0}`)
	claim(!kinds.o && !kinds.wished, `no open job or wish is listed: ${kinds.o ?? 0}, ${kinds.wished ?? 0}`)
	claim(forever.every((k) => k === 'forever sluice:epoch'), `every key but the epoch has a time to live: ${forever.map((k) => k.slice(8)).slice(0, 5)}`)
	const shown = Object.entries(kinds).filter(([k]) => !k.startsWith('forever ') && k !== 'leases')
	console.log(`keys by kind: ${shown.map(([k, c]) => `${k} ${c}`).join(', ')}`)
	await age(stack)
	await until('they are gone', async () => (await redis(stack)).keys < 50, 120000).catch(() => {})
	const left = await keys(stack)
	claim(Object.keys(left).every((k) => k.startsWith('forever sluice:epoch') || k === 'sluice' || /^b[a-z]?$/.test(k)), `and nothing is left behind it but the epoch and the live quotas: ${JSON.stringify(left)}; ${((await redis(stack)).bytes / 1048576).toFixed(1)} MiB`)

	for (const [holds, text] of claims) console.log(`${holds ? 'ok    ' : 'FAILED'} ${text}`)
	const bad = claims.filter((c) => !c[0]).length
	console.log(`${claims.length - bad} passed, ${bad} failed`)
	process.exitCode = bad ? 1 : 0
}

await main()
process.exit()
