// The failover matrix: see tests/bench/README.md. Its times are read from both ends: the simulators' journals (when a provider had the
// request, when it broke) and the client (when the next provider's text arrived), all on one machine's clock.

import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { promisify } from 'node:util'
import { answer } from '../support/answer.mjs'
import { Api, ENDED } from '../support/api.mjs'
import { Answer } from '../support/follow.mjs'
import { Sim } from '../support/sim.mjs'
import { Stack } from '../support/stack.mjs'
import { until } from '../support/test.mjs'

const DIR = process.argv[2]
const CLOCK_MS = Number(process.env.CLOCK_MS ?? 300)
const TTFT_MS = 50
const RATE = 200
const TOKENS = 24
const AFTER = 6 // tokens
const PACE = `ttft=${TTFT_MS} rate=${RATE} tokens=${TOKENS}`
const CUTS = ['restart', 'continue', 'fail']

// how: the rule, given the phase; door: of the whole listener; silent: only a clock ends it; works: the answer is whole all the same;
// phases: where it can be.
const FAULTS = [
	{ name: 'refuse', door: true },
	{ name: 'mute', door: true, silent: { before: true } },
	{ name: 'frozen', door: true, silent: { before: true, after: true } },
	{ name: 'no head', how: { before: 'stall' }, silent: { before: true } },
	{ name: 'head, silence', how: { before: 'stall=0b' }, silent: { before: true } },
	{ name: 'no first token', how: { before: 'stall=0' }, silent: { before: true } },
	{ name: 'stall', how: { after: `stall=${AFTER}` }, silent: { after: true } },
	{ name: '429', how: { before: 'status=429' } },
	{ name: '429 retry 30 s', how: { before: 'status=429 retry=30000' } },
	{ name: '401', how: { before: 'status=401' } },
	{ name: '402', how: { before: 'status=402' } },
	{ name: '403', how: { before: 'status=403' } },
	{ name: '500', how: { before: 'status=500' } },
	{ name: '503', how: { before: 'status=503' } },
	{ name: '529', how: { before: 'status=529' } },
	{ name: 'html page', how: { before: 'page' } },
	{ name: 'error event', how: { before: 'fail=0', after: `fail=${AFTER}` } },
	{ name: 'RST_STREAM', how: { before: 'cut', after: `cut=${AFTER}` } },
	{ name: 'RST NO_ERROR', how: { before: 'no_error=0', after: `no_error=${AFTER}` } },
	{ name: 'FIN', how: { before: 'fin', after: `fin=${AFTER}` } },
	{ name: 'TCP RST', how: { before: 'rst', after: `rst=${AFTER}` } },
	{ name: 'REFUSED_STREAM', how: { before: 'refused', after: `refused=${AFTER}` } },
	{ name: 'GOAWAY below', how: { before: 'undone', after: `undone=${AFTER}` } },
	{ name: 'GOAWAY above', how: { before: 'goaway', after: `goaway=${AFTER}` }, works: true },
	{ name: 'malformed line', how: { before: 'malformed=0', after: `malformed=${AFTER}` } },
	{ name: 'huge event', how: { before: 'huge=0', after: `huge=${AFTER}` } },
	{ name: 'no terminator', how: { before: 'end=0', after: `end=${AFTER}` } },
	{ name: 'byte by byte', how: { before: 'bytes' }, works: true },
	{ name: 'CR apart from LF', how: { before: 'crlf' }, works: true },
]

function cases() {
	const only = process.env.ONLY && new RegExp(process.env.ONLY, 'i')
	const list = []
	for (const fault of FAULTS) {
		if (only && !only.test(fault.name)) continue
		for (const phase of ['before', 'after'])
			for (const cut of CUTS)
				if (fault.door || fault.how[phase]) list.push({ fault, phase, cut, n: list.length, name: `c${list.length}` })
	}
	return list
}

function freePort() {
	return new Promise((resolve) => {
		const s = net.createServer().listen(0, '127.0.0.1', () => {
			const { port } = s.address()
			s.close(() => resolve(port))
		})
	})
}

/**
 * A configuration with an account, its key, a model and a route of its own for each case: no case meets another one's breakers, and an
 * account is its key.
 */
function config(list, ports, work) {
	const clocks = ['connect_ms', 'headers_ms', 'first_token_ms', 'silence_ms'].map((k) => `    ${k}: ${CLOCK_MS}\n`).join('')
	const account = (name, port) => {
		writeFileSync(`${work}/${name}.key`, `sim-${name}`, { mode: 0o600 })
		return (
			`  - name: ${name}\n    kind: anthropic\n    base_url: "https://127.0.0.1:${port}"\n    ca_file: "${DIR}/tls/ca.crt"\n` +
			`    key_file: "${work}/${name}.key"\n    warm: 1\n${clocks}`
		)
	}
	let text = 'accounts:\n'
	for (const c of list) text += account(`bad-${c.name}`, c.fault.door ? ports.door : ports.bad)
	text += account('good', ports.good)
	text += 'routes:\n'
	for (const c of list)
		text +=
			`  - name: ${c.name}\n    kind: task\n    targets:\n` +
			`      - account: bad-${c.name}\n        model: claude-sonnet-4-5-bad-${c.name}\n` +
			`      - account: good\n        model: claude-sonnet-4-5-good-${c.name}\n`
	return text
}

/** The calls of a model that a simulator's journal has since then, by their beginnings: [{begun, over, what}]. */
function journal(file, model, since) {
	const lines = readFileSync(file, 'utf8').split('\n').map((l) => l.split('\t'))
	const calls = lines.filter((f) => f[2] === model && Number(f[0]) >= since)
	return calls.map((f) => ({ begun: Number(f[0]), over: Number(f[1]), what: f[3] })).sort((x, y) => x.begun - y.begun)
}

// ---- one case ----

/** Follows a job; notes when text of each attempt or behind a seam first came. */
async function follow(api, id, onEvent) {
	const seen = { answer: new Answer(), first: [], resets: 0, seams: [], started: [] }
	const began = Date.now()
	const got = await api.follow(id, {
		answer: seen.answer,
		limit_ms: 20000,
		seen: (e) => {
			const now = Date.now()
			if (e.event === 'started') seen.started.push({ now, model: e.data.model })
			if (e.event === 'reset') seen.resets++
			if (e.event === 'seam') seen.seams.push({ now, at: e.data.at, model: e.data.model })
			onEvent(e)
			if (e.event !== 'delta') return
			const key = `${e.data.attempt}/${seen.seams.length}`
			if (!seen.first.some((f) => f.key === key)) seen.first.push({ key, now })
		},
	})
	seen.end = got.end
	seen.reconnects = got.reconnects
	seen.began = began
	return seen
}

async function play(world, c) {
	const { api, sims, files } = world
	const bad = `claude-sonnet-4-5-bad-${c.name}`
	const good = `claude-sonnet-4-5-good-${c.name}`
	const text = `case ${c.name} [sim ${PACE}]`
	const job = { kind: 'chat', lane: 'interactive', task: c.name, messages: [{ role: 'user', content: text }], stream: true, on_cut: c.cut, max_tokens: 400 }
	const row = { fault: c.fault.name, phase: c.phase, cut: c.cut }
	const sim = c.fault.door ? sims.door : sims.bad
	if (c.fault.door) await reconnected(world)
	if (c.fault.how) await sim.fault(c.fault.how[c.phase], { model: bad })
	let broke
	const harm = async () => {
		broke = Date.now()
		if (c.fault.name === 'frozen') sims.door.child.kill('SIGSTOP')
		else await sim.fault(c.fault.name)
	}
	if (c.fault.door && c.phase === 'before') await harm()
	const submitted = Date.now()
	const r = await api.submit(job)
	if (r.status !== 202) {
		await heal(c, sim, sims)
		return { ...row, outcome: 'refused', why: r.json?.error?.code ?? `${r.status}` }
	}
	let harmed
	let from
	const seen = await follow(api, r.json.id, (e) => {
		if (e.event === 'started') from = e.data.model
		if (e.event === 'delta' && c.fault.door && c.phase === 'after' && from === bad) harmed ??= harm()
	})
	await harmed
	const end = (await api.get(r.json.id, '?wait=5')).json
	if (!ENDED.includes(end.status)) throw new Error(`${c.name}: ${end.status}`)
	const took = times(c, files, seen, end, { bad, good, broke, submitted })
	let again
	if (c.phase === 'before' && c.cut === 'restart' && !c.fault.works) again = await second(api, job, bad)
	await heal(c, sim, sims)
	const calls = end.calls
	if (calls[0]?.model !== bad) return { ...row, outcome: end.status, why: `asked ${calls[0]?.model} first` }
	const by = calls.at(-1)?.model === good ? 'second' : calls.length > 1 ? `first, ${calls.length} calls` : 'first'
	return { ...row, outcome: end.status, why: end.fault?.name, by, again, partial: end.result?.partial, ...took, ...bytes(c, seen, end, { bad, good, text }) }
}

/** The next job of the same route while the fault stands: is the faulty target asked? */
async function second(api, job, bad) {
	const r = await api.submit({ ...job, on_cut: 'fail' })
	if (r.status !== 202) return `${r.status}`
	const end = await api.ended(r.json.id)
	return end.calls[0]?.model === bad ? 'asked' : end.calls.length ? 'skipped' : 'none'
}

async function heal(c, sim, sims) {
	if (c.fault.name === 'frozen') sims.door.child.kill('SIGCONT')
	await sim.well()
}

/** From the moment of the fault: until the next provider has the request, and until its text is at the client, its own latency apart. */
function times(c, files, seen, end, { bad, good, broke, submitted }) {
	const next = journal(files.good, good, submitted)[0]
	if (!next || c.fault.works) return {}
	const first = journal(c.fault.door ? files.door : files.bad, bad, submitted).filter((k) => k.begun <= next.begun).at(-1)
	const asked = end.calls.filter((k) => k.model === bad).map((k) => Date.parse(k.started_at))
	let moment = broke
	if (!c.fault.door && c.fault.silent) moment = first.begun + (c.phase === 'after' ? TTFT_MS + (1000 * (AFTER - 1)) / RATE : 0)
	else if (!c.fault.door) moment = first?.over ?? asked.at(-1)
	else if (c.phase === 'before') moment = asked.at(-1) ?? submitted
	const text = seen.seams.length ? seen.first.find((f) => f.key.endsWith('/1')) : seen.first.at(-1)
	return { hop: next.begun - moment, ms: text ? text.now - moment - TTFT_MS : undefined }
}

/** What the client has beside what it should have. */
function bytes(c, seen, end, { bad, good, text }) {
	const got = seen.answer.bytes
	const stored = Buffer.from(end.result?.text ?? '')
	const last = end.calls.at(-1)?.model
	let want = Buffer.from(answer(last ?? good, text, TOKENS))
	if (seen.seams.length) want = Buffer.concat([Buffer.from(answer(bad, text, TOKENS)).subarray(0, seen.seams[0].at), Buffer.from(answer(good, text, TOKENS))])
	if (end.status !== 'succeeded') want = Buffer.from(answer(bad, text, TOKENS)).subarray(0, stored.length)
	let same = 0
	while (same < got.length && same < want.length && got[same] === want[same]) same++
	return {
		missing: want.length - same,
		extra: got.length - same,
		repeats: seen.answer.repeats,
		gaps: seen.answer.gaps,
		resets: seen.resets,
		seams: seen.seams.length,
		stored: stored.equals(got) ? 'same' : 'differs',
	}
}

// ---- what should be ----

function wrong(c, row) {
	if (row.outcome === 'refused') return c.cut === 'continue' ? '' : 'refused'
	const ends = c.phase === 'after' && c.cut === 'fail' && !c.fault.works ? 'failed' : 'succeeded'
	if (row.outcome !== ends) return `should have ${ends}`
	if (row.missing || row.extra) return 'bytes'
	if (row.stored !== 'same') return 'stored text differs'
	if (row.gaps || row.repeats) return 'a delta twice or missing'
	if (c.fault.works) return row.by === 'first' && !row.resets ? '' : 'should not have failed over'
	if (ends === 'failed') return ''
	if (row.by !== 'second') return 'not failed over'
	if (c.phase === 'before' && row.resets) return 'seen by the client'
	if (c.phase === 'after' && c.cut === 'restart' && !row.resets) return 'no reset'
	if (c.phase === 'after' && c.cut === 'continue' && row.seams !== 1) return 'no seam'
	const limit = 20 + (c.fault.silent?.[c.phase] ? CLOCK_MS : 0)
	return row.ms > limit ? `above ${limit} ms` : ''
}

const COLUMNS = [
	['fault', 18],
	['phase', 7],
	['cut', 9],
	['outcome', 10],
	['by', 14],
	['ms', 6],
	['hop', 6],
	['missing', 8],
	['extra', 6],
	['resets', 7],
	['seams', 6],
	['stored', 8],
	['again', 8],
	['why', 26],
	['wrong', 20],
]
const line = (row) => COLUMNS.map(([k, n]) => String(row[k] ?? '').slice(0, n - 1).padEnd(n)).join('').trimEnd()

async function main() {
	const list = cases()
	const work = mkdtempSync(`${tmpdir()}/failover-`)
	const tls = ['--cert', `${DIR}/tls/server.crt`, '--key', `${DIR}/tls/server.key`]
	const files = { bad: `${work}/bad`, door: `${work}/door`, good: `${work}/good` }
	const sims = {}
	let failed = 0
	try {
		const ports = {}
		for (const name of ['bad', 'door', 'good']) {
			writeFileSync(files[name], '')
			ports[name] = await freePort()
			sims[name] = await Sim.open(...tls, '--listen', `127.0.0.1:${ports[name]}`, '--journal', files[name])
		}
		writeFileSync(`${DIR}.yaml`, config(list, ports, work))
		await promisify(execFile)('compose/stack', ['up', '--dir', DIR, '--config', `${DIR}.yaml`], { maxBuffer: 1 << 24 })
		const stack = await Stack.open(DIR)
		const api = new Api(stack)
		const world = { doors: list.filter((c) => c.fault.door).length, api, sims, files, stack, pool: stack.services.find((s) => s.name === 'sluice-pool').id }
		await warm(world, list)
		console.log(`clocks ${CLOCK_MS} ms; ms: fault to the next provider's text at the client, its latency (${TTFT_MS} ms) apart; hop: to the next provider's request`)
		console.log(line(Object.fromEntries(COLUMNS.map(([k]) => [k, k]))))
		for (const c of list) {
			const row = await play(world, c).catch((e) => ({ fault: c.fault.name, phase: c.phase, cut: c.cut, outcome: 'harness', why: e.message }))
			row.wrong = row.outcome === 'harness' ? 'see why' : wrong(c, row)
			failed += row.wrong !== ''
			console.log(line(row))
		}
		console.log(`${list.length - failed} as they should be, ${failed} not`)
	} finally {
		sims.door?.child.kill('SIGCONT')
		for (const s of Object.values(sims)) await s.close()
		rmSync(work, { recursive: true })
	}
	process.exit(failed && process.env.STRICT ? 1 : 0)
}

/** Each of these cases' accounts has a connection: what is measured is no set-up. */
async function connected({ stack, pool }, list) {
	await until('every account has a connection', async () => {
		const m = await stack.metrics(pool)
		return list.every((c) => m.get(`sluice_pool_connections{account="bad-${c.name}"}`) > 0)
	})
}

/** What the last fault of the listener closed is open again, as the listener itself sees it. */
async function reconnected({ sims, doors }) {
	await until('the accounts have their connections again', async () => (await sims.door.calls()).connections >= doors)
}

/** The way through every part is warm before anything is measured. */
async function warm(world, list) {
	const { api } = world
	for (let i = 0; i < 20; i++) {
		const r = await api.accepted({ kind: 'chat', model: `claude-sonnet-4-5-good-${list[0].name}`, messages: [{ role: 'user', content: 'warm [sim ttft=0 rate=0 tokens=3]' }] })
		await api.ended(r.id)
	}
	await connected(world, list)
}

await main()
