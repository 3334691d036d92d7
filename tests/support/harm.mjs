// What happens to processes: killed and started again, or standing still for a while.

import { readdirSync, readFileSync } from 'node:fs'
import { pass, until } from './test.mjs'

/** @pid and all that descend from it (PostgreSQL is many processes). */
function family(pid) {
	const children = new Map()
	for (const d of readdirSync('/proc')) {
		if (!/^[0-9]+$/.test(d)) continue
		try {
			const parent = Number(readFileSync(`/proc/${d}/stat`, 'latin1').split(') ').pop().split(' ')[1])
			children.set(parent, [...(children.get(parent) ?? []), Number(d)])
		} catch {
			// it ended meanwhile
		}
	}
	const all = [pid]
	for (let i = 0; i < all.length; i++) all.push(...(children.get(all[i]) ?? []))
	return all
}

function signal(pids, name) {
	for (const p of pids) {
		try {
			process.kill(p, name)
		} catch {
			// it ended meanwhile
		}
	}
}

/** Serves: /readyz of a service; for another part that compose/stack finds it answering. */
export async function serves(stack, id, limit_ms = 60000) {
	const service = stack.services.find((s) => s.id === id)
	if (service) await until(`${id} is ready`, async () => (await fetch(`${service.admin}/readyz`, { signal: AbortSignal.timeout(2000) })).ok, limit_ms)
	else await stack.up(id)
}

/** SIGKILL; away for `away_ms`; started again. Returns the ms from its start until it serves. */
export async function killed(stack, id, away_ms = 0) {
	await stack.kill(id)
	if (away_ms) await pass(away_ms)
	const began = Date.now()
	await stack.up(id)
	await serves(stack, id)
	return Date.now() - began
}

/** SIGSTOP; returns what lets it go on. */
export function still(stack, id) {
	const pids = family(stack.pid(id))
	signal(pids, 'SIGSTOP')
	return () => signal(pids, 'SIGCONT')
}

/** SIGSTOP for `still_ms`, SIGCONT. Returns the ms from then until it serves. A service that ends itself because it was away too long
 * is started again, as a supervisor would; `ended` is called then. */
export async function stalled(stack, id, still_ms, ended) {
	const pids = family(stack.pid(id))
	signal(pids, 'SIGSTOP')
	try {
		await pass(still_ms)
	} finally {
		signal(pids, 'SIGCONT')
	}
	const began = Date.now()
	await until(`${id} is ready or has ended`, async () => {
		if (!stack.pid(id)) {
			ended?.(id)
			await stack.up(id)
		}
		const service = stack.services.find((s) => s.id === id)
		return !service || (await fetch(`${service.admin}/readyz`, { signal: AbortSignal.timeout(2000) })).ok
	}, 60000)
	if (!stack.services.some((s) => s.id === id)) await stack.up(id)
	return Date.now() - began
}

/** Whatever does not run is started, as a supervisor would; returns the ids. */
export async function mend(stack, ids) {
	const dead = ids.filter((id) => !stack.pid(id))
	if (dead.length) await stack.up(...dead)
	return dead
}
