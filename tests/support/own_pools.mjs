// Pools and a front of a test's own beside the running stack, with routes of its own. The stack's pool is down meanwhile: they stand in its
// group and would share its lanes. A pool that takes one lane alone has all of its jobs, so a test says by the lane which of two
// pools runs a job.

import { readFileSync, writeFileSync } from 'node:fs'
import { Api } from './api.mjs'
import { until } from './test.mjs'

const POOL = 'sluice-pool-1'

/** A route as the configuration writes it: the task's name, its targets as [account, model], further keys. */
export function route(name, targets, more = {}) {
	const keys = Object.entries(more).map(([key, value]) => `    ${key}: ${value}\n`)
	const lines = targets.map(([account, model]) => `      - account: ${account}\n        model: ${model}\n`)
	return `  - name: ${name}\n    kind: task\n${keys.join('')}    targets:\n${lines.join('')}`
}

export class OwnPools {
	/**
	 * `routes`, `accounts`: text of such beside the stack's; `pools`: a name and what its command line says more. `api` asks the front.
	 */
	static async open(stack, name, routes, pools, accounts = '') {
		const own = new OwnPools()
		const config = `${stack.dir}/${name}.yaml`
		own.stack = stack
		own.began = []
		own.name = name
		own.config = config
		own.pools = pools
		own.write(routes, accounts)
		await stack.down(POOL)
		try {
			for (const [pool, words] of Object.entries(pools)) own[pool] = await own.#start('sluice-pool', `${name}-${pool}`, 'pool', ...words)
			const front = await own.#start('sluice-front', name, 'front', '--set', 'front.listen=127.0.0.1:0')
			const log = readFileSync(`${stack.dir}/logs/${front.id}.log`, 'utf8')
			const port = [...log.matchAll(/listening.*?port=(\d+)/g)].at(-1)[1]
			own.api = new Api(Object.assign(Object.create(stack), { front: `http://127.0.0.1:${port}` }))
		} catch (e) {
			await own.close()
			throw e
		}
		return own
	}

	async #start(program, name, section, ...words) {
		const process = await this.stack.more(program, `${program}-${name}`, section, '--config', this.config, ...words)
		this.began.push(process)
		return process
	}

	/** The configuration, as open has it. Who runs reads it at its start, and at a SIGHUP. */
	write(routes, accounts = '') {
		const text = readFileSync(this.stack.config, 'utf8').replace(/^accounts:\n/m, `accounts:\n${accounts}`).replace(/^prices:/m, `${routes}prices:`)
		writeFileSync(this.config, text, { mode: 0o600 })
	}

	/** A SIGHUP, until the pool has taken what it reads. */
	async reload(pool) {
		const taken = () => this.metric(pool, 'sluice_reloads_total', { outcome: 'taken' })
		const before = await taken()
		pool.child.kill('SIGHUP')
		await until('the configuration is taken', async () => (await taken()) > before)
	}

	/** Ends the pool and starts it again, by the same id. */
	async again(pool) {
		await this[pool].end()
		this[pool] = await this.#start('sluice-pool', `${this.name}-${pool}`, 'pool', ...this.pools[pool])
	}

	/** A pool's metric with these labels; 0 where it has none. */
	async metric(pool, name, labels) {
		const wanted = Object.entries(labels).map(([k, v]) => `${k}="${v}"`)
		let sum = 0
		for (const [key, value] of await this.stack.metrics(pool.id)) if (key.startsWith(`${name}{`) && wanted.every((w) => key.includes(w))) sum += value
		return sum
	}

	/** Waits until a job of the lane went through: its pool has its part of the group. */
	async takes(lane, job) {
		await until(`${lane} jobs are taken`, async () => (await this.api.ended((await this.api.accepted({ ...job, lane })).id)).status === 'succeeded')
	}

	async close() {
		for (const process of this.began) if (process.child.exitCode === null) await process.end(process.id.startsWith('sluice-pool') ? 'SIGUSR1' : 'SIGTERM')
		await this.stack.up(POOL)
	}
}
