// A test runner of one page: sentences as names, one after another, one line each, and the house's last line.
//
//   test('an accepted job is answered', async () => { … })
//   await run(import.meta.url)
//
// A test that does not end within its limit has failed; the next one begins. ONLY="part of a name" chooses.

import { fileURLToPath } from 'node:url'

const tests = []

/** `background` starts with the file and is waited for at its place: for what is slow by its nature (clocks of seconds). */
export function test(name, fn, { limit_ms = 30000, background = false } = {}) {
	tests.push({ name, fn, limit_ms, background })
}

function limited(t) {
	let timer
	const over = new Promise((_, reject) => {
		timer = setTimeout(() => reject(new Error(`not done after ${t.limit_ms} ms`)), t.limit_ms)
	})
	return Promise.race([Promise.resolve().then(t.fn), over]).finally(() => clearTimeout(timer))
}

function show(error) {
	const text = error?.stack ?? String(error)
	for (const line of text.split('\n').slice(0, 24)) console.log(`        | ${line.slice(0, 400)}`)
	if (error?.cause) console.log(`        | because: ${error.cause.message ?? error.cause}`)
}

export async function run(url, { before, after } = {}) {
	const file = fileURLToPath(url).split('/').slice(-2).join('/').replace(/\.mjs$/, '')
	const chosen = tests.filter((t) => !process.env.ONLY || t.name.includes(process.env.ONLY))
	let passed = 0
	let failed = 0
	process.on('unhandledRejection', (e) => {
		console.log(`not ok  ${file}: a promise nobody waited for was rejected`)
		show(e)
		failed++
	})
	await before?.()
	for (const t of chosen) {
		if (!t.background) continue
		t.begun = Date.now()
		t.done = limited(t).then(
			() => null,
			(e) => e ?? new Error('failed'),
		)
	}
	for (const t of chosen) {
		const begun = t.begun ?? Date.now()
		const error = await (t.done ??
			limited(t).then(
				() => null,
				(e) => e ?? new Error('failed'),
			))
		const took = Date.now() - begun
		if (error) {
			failed++
			console.log(`not ok  ${file}: ${t.name} (${took} ms)`)
			show(error)
		} else {
			passed++
			console.log(`ok      ${file}: ${t.name} (${took} ms)`)
		}
	}
	await after?.()
	console.log(`${passed} passed, ${failed} failed`)
	process.exit(failed ? 1 : 0)
}

/** Asks until `fn` says something true, and returns it. */
export async function until(what, fn, limit_ms = 15000) {
	const end = Date.now() + limit_ms
	let last
	for (;;) {
		try {
			const value = await fn()
			if (value) return value
			last = undefined
		} catch (e) {
			last = e
		}
		if (Date.now() > end) throw new Error(`not within ${limit_ms} ms: ${what}`, { cause: last })
		await new Promise((r) => setTimeout(r, 20))
	}
}

/** For a time that is itself what is tested (a part away for ten seconds). */
export const pass = (ms) => new Promise((r) => setTimeout(r, ms))
