// The load and the verdict of make bench-budget (tests/bench/budget says what is asked).

import { randomUUID } from 'node:crypto'
import http from 'node:http'
import { Stack } from '../support/stack.mjs'

const stack = await Stack.open()
const { USERS, LOAD_S, RPM, KILL, TOKENS, KIND, BURST_S, ITPM, OTPM } = process.env
const users = Number(USERS), loadMs = Number(LOAD_S) * 1000
/** What the provider grants in a minute, by the words of its control port, and by those of its counts. */
const grants = TOKENS ? { itpm: Number(ITPM), otpm: Number(OTPM), rpm: 1000000 } : { rpm: Number(RPM) }
const limits = TOKENS ? { input_tokens: grants.itpm, output_tokens: grants.otpm } : { requests: grants.rpm }
const front = new URL(stack.front)
const sim = new URL(stack.providers.anthropic.base_url)
const control = `http://${sim.hostname}:${Number(sim.port) + 1}`
const agent = new http.Agent({ keepAlive: true, maxSockets: 4096 })
const jobs = []
const rose = [] // seconds from the beginning at which a position rose
const sleep = (ms) => new Promise((done) => setTimeout(done, ms))

let cuts = 0

function request(method, path, body, onResponse, more = {}) {
	return new Promise((resolve, reject) => {
		const req = http.request({ host: front.hostname, port: front.port, method, path, agent, headers: {
			authorization: `Bearer ${stack.key}`, ...more, ...(body ? { 'content-type': 'application/json' } : { accept: 'text/event-stream' }) } })
		req.on('error', reject)
		req.on('response', (res) => onResponse(res, resolve, reject))
		req.end(body)
	})
}

const post = (body, key) => request('POST', '/v1/jobs', JSON.stringify(body), (res, resolve, reject) => {
	let text = ''
	res.setEncoding('utf8').on('error', reject).on('data', (d) => (text += d)).on('end', () => resolve({ status: res.statusCode, text }))
}, { 'idempotency-key': key })

/** A kept connection may be closed as it is used again: the same request once more. */
async function submit(body) {
	for (const key = randomUUID(); ; cuts++) {
		try {
			return await post(body, key)
		} catch (e) {
			if (cuts > users) throw e
			await sleep(100)
		}
	}
}

/** Follows a job to its end: places in the quota's line, when it was called, how it ended. */
const follow = (job) => request('GET', `/v1/jobs/${job.id}/events`, null, (res, resolve, reject) => {
	let rest = ''
	res.setEncoding('utf8').on('error', reject).on('end', () => resolve()).on('data', (d) => {
		rest += d
		for (let cut; (cut = rest.indexOf('\n\n')) >= 0; rest = rest.slice(cut + 2)) {
			const lines = rest.slice(0, cut).split('\n')
			const event = lines.find((l) => l.startsWith('event:'))?.slice(6).trim()
			const data = lines.find((l) => l.startsWith('data:'))?.slice(5)
			if (!event || !data) continue
			const e = JSON.parse(data)
			if (event === 'queued' && e.why === 'budget' && e.position) {
				if (e.position > job.places.at(-1)) rose.push(Math.round((Date.now() - begun) / 1000))
				job.places.push(e.position)
			}
			else if (event === 'started') (job.started ??= Date.now()), job.starts++
			else if (event === 'result') job.ended = 'succeeded'
			else if (event === 'fault' && e.status) (job.ended = e.status), (job.fault = e.name)
		}
	})
})

/** A request: with TOKENS its prompt is 120 to 480 tokens long by the simulator's count (4 bytes each), and its answer half of what it asks for. */
function words(n, at) {
	const text = `user ${n} at ${at}`
	if (!TOKENS) return { max_tokens: 80, text }
	const how = `[sim tokens=${20 + ((n * 7) % 41)}]`
	const bytes = 4 * (120 + ((n * 131) % 361))
	return { max_tokens: 80, text: `${text} ${'a word more, '.repeat(200).slice(0, bytes - text.length - how.length - 2)} ${how}` }
}

async function user(n) {
	const lane = n % 40 === 0 ? 'background' : n % 40 === 1 ? 'high' : 'interactive'
	await sleep(Math.random() * Math.min(60000, loadMs))
	for (let at = Date.now(); at < begun + loadMs; at += 60000) {
		await sleep(at - Date.now())
		const { max_tokens, text } = words(n, at)
		const job = { lane, asked: Date.now(), places: [], starts: 0 }
		jobs.push(job)
		const r = await submit({ kind: 'chat', lane, model: 'claude-sonnet-4-5', max_tokens, limits: { queue_ms: 1200000, run_ms: 60000 },
			messages: [{ role: 'user', content: text }] })
		if (r.status !== 202) {
			job.ended = `refused ${r.status}`
			continue
		}
		job.id = JSON.parse(r.text).id
		while (!job.ended) await follow(job).catch(() => sleep(200))
	}
}

const quotas = async () => (await fetch(`${control}/quotas`)).json()

async function ready() {
	await fetch(`${control}/quotas`, { method: 'POST', body: JSON.stringify({ model: 'claude-sonnet-*', ...grants, kind: KIND, burst_s: Number(BURST_S), shared: true }) })
}

async function redisCommands() {
	const lines = await new Promise((resolve, reject) => {
		import('node:net').then(({ default: net }) => {
			const u = new URL(stack.redis)
			let text = ''
			const s = net.connect(Number(u.port), u.hostname, () =>
				s.write(`${u.password ? `AUTH ${decodeURIComponent(u.password)}\r\n` : ''}INFO commandstats\r\nQUIT\r\n`))
			s.on('data', (d) => (text += d)).on('end', () => resolve(text)).on('error', reject)
		})
	})
	return lines
}

async function killer() {
	await sleep(70000)
	const s = stack.services.find((x) => x.id === 'sluice-pool-2')
	console.log(`sluice-pool-2 is killed`)
	process.kill(s.pid, 'SIGKILL')
	await sleep(20000)
	await stack.command('up').catch((e) => console.log(String(e.stderr ?? e).slice(-300)))
	console.log('and started again')
}

function line(label, values, unit = '') {
	const v = values.slice().sort((a, b) => a - b)
	const q = (p) => (v.length ? v[Math.min(v.length - 1, Math.floor(v.length * p))] : 0)
	console.log(`${label.padEnd(34)} p50 ${q(0.5)}${unit} p95 ${q(0.95)}${unit} max ${v.at(-1) ?? 0}${unit} (${v.length})`)
}

await ready()
let begun = Date.now()
const progress = setInterval(async () => {
	const q = (await quotas()).quotas[0]
	const done = jobs.filter((j) => j.ended).length
	console.log(`${Math.round((Date.now() - begun) / 1000)} s: ${jobs.length} asked, ${done} ended; ` +
		(q ? `granted ${q.granted}, refused ${q.refused}, in the last minute ${Object.keys(limits).map((u) => `${q.window[u]} of ${limits[u]} ${u}`).join(', ')}` : ''))
}, 15000)
if (KILL) killer()
await Promise.all(Array.from({ length: users }, (_, n) => user(n)))
clearInterval(progress)

const q = await quotas()
const one = q.quotas.find((x) => x.granted) ?? q.quotas[0]
const failed = jobs.filter((j) => j.ended !== 'succeeded')
const rises = jobs.filter((j) => j.places.some((p, i) => i && p > j.places[i - 1]))
console.log(JSON.stringify(one))
console.log(await redisCommands().then((t) => (t.match(/cmdstat_(evalsha|publish)[^\r]*/g) ?? []).join('\n')).catch(String))
for (const lane of ['interactive', 'high', 'background'])
	line(`${lane}: asked until called`, jobs.filter((j) => j.lane === lane && j.started).map((j) => j.started - j.asked), ' ms')
line('places told of a waiting job', jobs.filter((j) => j.places.length).map((j) => j.places.length))
const waited = jobs.filter((j) => j.lane === 'interactive' && j.started)
const lastWaiting = Math.max(...waited.map((j) => j.started))
const early = jobs.filter((j) => j.lane !== 'interactive' && j.started && j.started < lastWaiting - 2000 &&
	waited.filter((i) => i.asked < j.asked - 2000 && i.started > j.started + 2000).length)
const part = (used) => Math.max(...Object.keys(limits).map((u) => used[u] / limits[u])) // of the limit that is the narrowest
const full = one.minutes.filter((m) => Date.parse(m.at) + 60000 <= lastWaiting).map(part)
const over = KIND === 'bucket' ? [] : Object.keys(limits).filter((u) => one.highest[u] > limits[u])
const claims = [
	[`no 429: the provider refused ${q.refused}`, q.refused === 0],
	[`nothing above a limit: in a minute at most ${Object.keys(limits).map((u) => `${one.highest[u]} of ${limits[u]} ${u}`).join(', ')}`, over.length === 0],
	[`no request failed: ${failed.length} of ${jobs.length} ${JSON.stringify(failed.slice(0, 3))}`, failed.length === 0],
	[`at least 90 % of the quota in every full minute: ${full.map((n) => `${(100 * n).toFixed(1)} %`).join(', ')}`,
		full.length > 0 && full.every((n) => n >= 0.9)],
	[`positions fall: ${rises.length} rose ${JSON.stringify(rises.slice(0, 2).map((j) => j.places))}`, rises.length === 0],
	[`interactive first: ${early.length} others went before interactive ones that had asked earlier`, early.length === 0],
]
if (rose.length) console.log(`positions rose: ${[...new Set(rose)].map((s) => `${rose.filter((r) => r === s).length} after ${s} s`).join(', ')}`)
if (cuts) console.log(`${cuts} connections were closed under a submit, which was said again`)
for (const [text, holds] of claims) console.log(`${holds ? 'ok    ' : 'FAILED'} ${text}`)
console.log(`${claims.filter((c) => c[1]).length} passed, ${claims.filter((c) => !c[1]).length} failed`)
process.exit(claims.every((c) => c[1]) ? 0 : 1)
