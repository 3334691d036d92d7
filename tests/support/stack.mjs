// The running stack as tests see it: addresses, keys, processes; and what an operator would do to it. The stack's folder is in
// SLUICE_TEST_STACK, set by tests/run.

import { execFile, spawn } from 'node:child_process'
import { openSync, readFileSync } from 'node:fs'
import net from 'node:net'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { until } from './test.mjs'

const exec = promisify(execFile)
const TOP = fileURLToPath(new URL('../..', import.meta.url))

/** Start time of a process (clock ticks since boot), undefined when it is gone. */
function startTime(pid) {
	try {
		const f = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').pop().split(' ')
		return f[0] === 'Z' || f[0] === 'X' ? undefined : f[19]
	} catch {
		return undefined
	}
}

export function freePort() {
	return new Promise((resolve, reject) => {
		const s = net.createServer()
		s.on('error', reject)
		s.listen(0, '127.0.0.1', () => {
			const { port } = s.address()
			s.close(() => resolve(port))
		})
	})
}

export class Stack {
	static async open(dir = process.env.SLUICE_TEST_STACK) {
		if (!dir) throw new Error('SLUICE_TEST_STACK is not set: tests/run sets it; for one file see tests/README.md')
		const s = new Stack()
		s.dir = dir
		return s.refresh()
	}

	/** Reads `compose/stack status --json` again. */
	async refresh() {
		const { stdout } = await this.command('status', '--json').catch((e) => {
			if (e.stdout?.startsWith('{')) return e
			throw e
		})
		Object.assign(this, JSON.parse(stdout))
		return this
	}

	command(...words) {
		return exec(`${TOP}/compose/stack`, [...words, '--dir', this.dir], { maxBuffer: 1 << 24 })
	}

	service(id) {
		const found = this.services.find((s) => s.id === id) ?? this.parts.find((p) => p.name === id)
		if (!found) throw new Error(`the stack has no ${id}`)
		return found
	}

	/** The recorded pid of a part, 0 when it does not run. */
	pid(id) {
		try {
			const [pid, began] = readFileSync(`${this.dir}/run/${id}.pid`, 'utf8').trim().split(' ')
			return startTime(pid) === began ? Number(pid) : 0
		} catch {
			return 0
		}
	}

	/** SIGKILL; returns when the process is gone. */
	async kill(id) {
		const pid = this.pid(id)
		if (!pid) throw new Error(`${id} does not run`)
		process.kill(pid, 'SIGKILL')
		await until(`${id} is gone`, () => !this.pid(id))
		return pid
	}

	/** Starts what does not run (all, or the parts named) and waits until it answers. */
	async up(...parts) {
		try {
			await this.command('up', ...parts)
		} catch (e) {
			throw new Error(`compose/stack up ${parts.join(' ')}: ${e.stderr?.slice(-1500) ?? e}`)
		}
	}

	down(...parts) {
		return this.command('down', ...parts)
	}

	/**
	 * One process more than the stack has: {id, pid, admin, child, end(signal)}; returns when it is ready. Its author ends it.
	 */
	async more(program, id, section, ...args) {
		const made = await this.spawn(program, id, section, ...args)
		await until(`${id} is ready`, async () => made.child.exitCode !== null || (await fetch(`${made.admin}/readyz`)).ok, 20000)
		if (made.child.exitCode !== null) throw new Error(`${id} ended with ${made.child.exitCode}`)
		return made
	}

	/** A push node more, on a port of its own; as more, with `url` of its WebSocket and `http` beside it. `sets`: KEY=VALUE. */
	async morePush(id, ...sets) {
		const http = `http://127.0.0.1:${await freePort()}`
		const words = [`push.listen=${new URL(http).host}`, ...sets].flatMap((set) => ['--set', set])
		const made = await this.more('sluice-push', id, 'push', ...words)
		return Object.assign(made, { http, url: `${http.replace('http:', 'ws:')}/v1/ws` })
	}

	/** Of processes that are started from now on: descriptors that each may have; 0: as many as this one. */
	nofile = 0

	/** As more, at once: it may not serve yet. `began` is when it was started (ms since 1970). */
	async spawn(program, id, section, ...args) {
		const bin = readFileSync(`${this.dir}/settings`, 'utf8').match(/^mode=(.*)$/m)[1]
		const port = await freePort()
		const log = openSync(`${this.dir}/logs/${id}.log`, 'a')
		const words = ['--config', this.config, '--id', id, ...args, '--set', `${section}.admin=127.0.0.1:${port}`]
		const began = Date.now()
		const ports = readFileSync(`${this.dir}/settings`, 'utf8').match(/^ports=(.*)$/m)[1]
		const env = { ...process.env, SLUICE_STACK: this.dir, SLUICE_STACK_PORTS: ports }
		const command = [`${TOP}/build/${bin}/bin/${program}`, ...words]
		if (this.nofile) command.unshift('prlimit', `--nofile=${this.nofile}:${this.nofile}`)
		const child = spawn(command[0], command.slice(1), { stdio: ['ignore', log, log], env })
		const leave = () => child.kill('SIGKILL') // nothing outlives its test
		process.once('exit', leave)
		const gone = new Promise((resolve) => child.once('exit', resolve)).finally(() => process.off('exit', leave))
		const made = {
			id,
			pid: child.pid,
			admin: `http://127.0.0.1:${port}`,
			child,
			began,
			gone,
			end(signal = 'SIGTERM') {
				child.kill(signal)
				return gone
			},
		}
		this.services = [...this.services.filter((s) => s.id !== id), made]
		return made
	}

	/** Keys of `n` organisations, made by the operators' command. */
	async keys(n) {
		const ctl = `${TOP}/build/${readFileSync(`${this.dir}/settings`, 'utf8').match(/^mode=(.*)$/m)[1]}/bin/sluicectl`
		const made = []
		for (let i = 1; i <= n; i++) made.push((await exec(ctl, ['--config', this.config, 'keys', 'add', '--org', `many-${i}`, '--name', 'tests'])).stdout.trim())
		return made
	}

	/** Rows of a query, each an array of strings. */
	async sql(query) {
		const { stdout } = await exec('psql', ['-X', '-At', '-F', '\t', '-v', 'ON_ERROR_STOP=1', '-c', query, this.postgres], {
			maxBuffer: 1 << 26,
		})
		return stdout
			.split('\n')
			.filter((line) => line)
			.map((line) => line.split('\t'))
	}

	async redis_cli(...words) {
		const { stdout } = await exec('redis-cli', ['-u', this.redis, ...words])
		return stdout.trim()
	}

	/** What the simulator counted: {models: {name: {begun, completed, …}}, begun, open, connections …}. */
	async calls() {
		return (await fetch(`${this.sim_control}/calls`)).json()
	}

	/** A service's metrics: name{labels} -> number. */
	async metrics(id) {
		const text = await (await fetch(`${this.service(id).admin}/metrics`)).text()
		const values = new Map()
		for (const line of text.split('\n')) {
			const at = line.lastIndexOf(' ')
			if (at > 0 && !line.startsWith('#')) values.set(line.slice(0, at), Number(line.slice(at + 1)))
		}
		return values
	}

	/** The metric's sum over all of its labels. */
	async metric(id, name) {
		let sum = 0
		for (const [key, value] of await this.metrics(id)) if (key === name || key.startsWith(`${name}{`)) sum += value
		return sum
	}
}
