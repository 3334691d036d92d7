// Organisation A fills the background lane with JOBS (15,000) jobs, then organisation B submits one: how long B waits, in job times, with and
// without a partition that both use. On a stack of its own: the jobs sleep (no provider, no network), and every slot is taken. Jobs of 50 ms
// wait for slots, and B less than ten job times; with jobs of 5 ms the queue's own way is what there is to wait for, so that is said and B must
// only be far before the line's end.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Api } from '../../support/api.mjs'
import { Stack } from '../../support/stack.mjs'
import { pass, run, test, until } from '../../support/test.mjs'

const exec = promisify(execFile)
const TOP = fileURLToPath(new URL('../../..', import.meta.url))
const MODE = process.env.MODE ?? process.env.BUILD?.split('/').pop() ?? 'release'
const JOBS = Number(process.env.JOBS ?? 15000)
const SLOTS = Number(process.env.SLOTS ?? 50)
const TRIES = 5
const DIR = `${process.env.SLUICE_TEST_STACK ?? `${TOP}/build/chaos-stack`}-fair`
const A = 'org_0000000000000000000000000A'
let stack

async function open() {
	mkdirSync(`${TOP}/build`, { recursive: true })
	const routes = [5, 50].map((ms) => `  - name: sleep-${ms}ms\n    kind: model\n    targets:\n      - account: sleeper\n        model: sleep-${ms}ms\n`).join('')
	writeFileSync(`${DIR}.yaml`, `accounts:\n  - name: sleeper\n    kind: sleep\n    base_url: "http://127.0.0.1:9"\n    key_env: FAIR_KEY\nroutes:\n${routes}pool:\n  slots: ${SLOTS}\n  reserved: 0\n`)
	process.env.FAIR_KEY = 'fair'
	await exec(`${TOP}/compose/stack`, ['reset', '--dir', DIR]).catch(() => {})
	await exec(`${TOP}/compose/stack`, ['up', '--dir', DIR, '--ports', 'auto', '--mode', MODE, '--config', `${DIR}.yaml`])
	stack = await Stack.open(DIR)
}

const job = (model) => ({ kind: 'chat', lane: 'background', model, messages: [{ role: 'user', content: 'sleep' }], limits: { queue_ms: 600000, run_ms: 60000 } })

/** The partitions of the background lane that this key's organisation uses, by what the front says. */
async function shards(api) {
	const used = new Set()
	const ids = []
	for (let i = 0; i < 16; i++) {
		const j = await api.accepted(job('sleep-5ms'))
		used.add(j.log.partition)
		ids.push(j.id)
	}
	for (const id of ids) await api.ended(id)
	return [...used]
}

const ended = () => stack.metric('sluice-pool-1', 'sluice_pool_jobs_ended_total')

for (const ms of [50, 5])
	for (const shared of [false, true])
		test(`${JOBS} jobs of ${ms} ms wait in organisation A's line, then B submits one, ${shared ? 'into the same partitions' : 'no partition shared'}: B does not wait for them`, async () => {
			if (!stack) await open()
			const api = new Api(stack)
			const of_b = await shards(api)
			const of_a = shared ? of_b : [0, 1, 2, 3, 4, 5, 6, 7].filter((p) => !of_b.includes(p)).slice(0, of_b.length)
			const before = await ended()
			const began = Date.now()
			const { stdout } = await exec(`${TOP}/build/${MODE}/tests/bench/fill`, [stack.kafka, 'background', String(JOBS), `sleep-${ms}ms`, A, of_a.join()])
			const waits = []
			for (let i = 0; i < TRIES; i++) {
				const at = Date.now()
				const { id } = await api.accepted(job(`sleep-${ms}ms`))
				const done = await api.ended(id, 60000)
				waits.push((Date.parse(done.calls[0].started_at) - at) / ms)
				if (i < TRIES - 1) await pass(Math.min(1500, (JOBS * ms) / SLOTS / TRIES / 2))
			}
			const left = JOBS + TRIES - ((await ended()) - before)
			await until('the line is drained', async () => (await ended()) - before >= JOBS + TRIES, 120000)
			const drain = (Date.now() - began) / ms
			console.log(`        A in partitions ${of_a}, B in ${of_b}; ${stdout.trim()}; B's waits: ${waits.map((w) => w.toFixed(1)).join(', ')} job times; ${left} of A's were left then; the line took ${drain.toFixed(0)} job times`)
			assert.ok(left > 0, 'A had jobs in line all the while')
			assert.ok(Math.max(...waits) < (ms === 50 ? 10 : drain / 5), `waited ${waits.map((w) => w.toFixed(1))} job times`)
		}, { limit_ms: 240000 })

await run(import.meta.url, { after: () => exec(`${TOP}/compose/stack`, ['reset', '--dir', DIR]).catch(() => {}) })
