// A run's books, kept by nobody who takes part in it: tests/chaos/ledger/watch follows Kafka from the run's beginning, the simulator
// writes its journal, the clients say what they were told; at the end tests/chaos/ledger/check holds them against PostgreSQL.

import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { judge, load, show } from '../chaos/ledger/check.mjs'
import { until } from './test.mjs'

const exec = promisify(execFile)
const TOP = fileURLToPath(new URL('../..', import.meta.url))
const TOPICS = ['llm.interactive', 'llm.high', 'llm.background', 'results', 'later.1m', 'later.5m', 'later.1h', 'dead', '__consumer_offsets']

export class Books {
	static open(stack, name) {
		const b = new Books()
		b.stack = stack
		b.name = name
		b.dir = `${stack.data}/books/${name}`
		b.bin = `${TOP}/build/${readFileSync(`${stack.data}/settings`, 'utf8').match(/^mode=(.*)$/m)[1]}`
		mkdirSync(b.dir, { recursive: true })
		const meta = { postgres: stack.postgres, group: 'pool-llm', scheduler: 'scheduler', prefix: '', began_ms: Date.now(), journal: `${stack.data}/calls.journal` }
		writeFileSync(`${b.dir}/meta.json`, JSON.stringify(meta))
		const err = openSync(`${b.dir}/watch.log`, 'a')
		b.watch = spawn(`${b.bin}/tests/chaos/ledger/watch`, [stack.kafka, `${b.dir}/log`, ...TOPICS], { stdio: ['ignore', err, err] })
		process.once('exit', () => b.watch.kill('SIGKILL'))
		b.gone = new Promise((resolve) => b.watch.once('exit', (code, signal) => resolve(code ?? signal)))
		return b
	}

	/** What the readers of each topic have not completed, by the operators' command; {topic: depth}. */
	async depth() {
		const { stdout } = await exec(`${this.bin}/bin/sluicectl`, ['--config', this.stack.config, 'depth', '--json'])
		return Object.fromEntries(stdout.split('\n').filter((l) => l.startsWith('{')).map((l) => JSON.parse(l)).map((d) => [d.topic, d.depth]))
	}

	/** Waits until each accepted job has its row and every topic is read to its end; says what it waited for in vain. */
	async quiet(traffic, limit_ms = 120000) {
		const left = traffic.entries.map((e) => e.id)
		const late = []
		const all = async () => {
			while (left.length) {
				const some = left.slice(-2000)
				if (Number((await this.stack.sql(`SELECT count(*) FROM results WHERE job = ANY('{${some}}')`))[0][0]) < some.length) return false
				left.length -= some.length
			}
			return true
		}
		try {
			await until('each accepted job has its row', all, limit_ms)
		} catch (e) {
			late.push(`${e.message}${e.cause ? `: ${e.cause.message}` : ''}`)
		}
		try {
			await until('every topic is read to its end', async () => Object.values(await this.depth()).every((d) => d === 0), limit_ms)
		} catch (e) {
			late.push(`${e.message}: ${JSON.stringify(await this.depth().catch(String))}`)
		}
		return late
	}

	/** Closes the books and prints the ledger: {counts, wrong}. */
	async close(traffic) {
		const late = await this.quiet(traffic)
		for (const words of late) console.log(`        ${words}`)
		traffic.write(`${this.dir}/clients.jsonl`)
		this.watch.kill('SIGTERM')
		assert.equal(await this.gone, 0, 'watch saw every topic to its end')
		const verdict = judge(load(this.dir))
		const wrong = (what, list) => list.length && verdict.wrong.set(what, list)
		wrong('client never heard the end', traffic.entries.filter((e) => e.via !== 'forget' && !e.told).map((e) => `${e.id} (${e.via})`))
		wrong('client saw what it never should', traffic.broken)
		for (const line of show(this.name, verdict).split('\n')) console.log(`        ${line}`)
		const no = [...traffic.refused].map(([why, n]) => `${n} × ${why}`).join(', ') || 'nothing'
		console.log(`        clients: connected again ${traffic.again} times; before they were accepted: ${no}`)
		return verdict
	}

	/** As close; and nothing may be wrong. */
	async sound(traffic) {
		const verdict = await this.close(traffic)
		assert.equal(verdict.wrong.size, 0, [...verdict.wrong].map(([what, list]) => `${what}: ${list.length}`).join(', '))
		return verdict
	}

	end() {
		this.watch.kill('SIGKILL')
	}
}
