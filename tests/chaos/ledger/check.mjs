// The ledger: what clients were told, what stands in Kafka, in PostgreSQL and in the simulator's journal, held against each other,
// without a line of the services' code. `load` reads, `judge` only thinks (so that the test of the checker can lie to it), `show`
// prints.
//
//   node check.mjs DIR        DIR holds meta.json {postgres, group, scheduler, prefix, began_ms, journal}, log (of watch), clients.jsonl
//
// Status 1 where something accepted was lost, ended twice, or was told otherwise than it is.

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { commitOf, runsOf, scan } from './log.mjs'

const sha = (bytes) => createHash('sha256').update(bytes).digest('hex')
const push = (map, key, value) => {
	const list = map.get(key)
	if (list) list.push(value)
	else map.set(key, [value])
}
const lines = (path) => (existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean) : [])

function sql(postgres, query) {
	const out = execFileSync('psql', ['-X', '-At', '-v', 'ON_ERROR_STOP=1', '-c', query, postgres], { maxBuffer: 1 << 30 })
	return out
		.toString('utf8')
		.split('\n')
		.filter(Boolean)
		.map((line) => JSON.parse(line))
}

/** The books of a run; see `judge` for what each holds. */
export function load(dir) {
	const meta = JSON.parse(readFileSync(`${dir}/meta.json`, 'utf8'))
	const books = { began_ms: meta.began_ms, records: [], results: new Map(), commits: [], ends: new Map(), holes: [], seen: new Map() }
	const name = (topic) => (topic.startsWith(meta.prefix ?? '') ? topic.slice((meta.prefix ?? '').length) : topic)
	scan(`${dir}/log`, {
		record(r) {
			const place = `${r.topic}/${r.partition}`
			const expected = books.seen.get(place) ?? r.offset // what was deleted before the run is not its business
			if (r.topic !== '__consumer_offsets' && r.offset > expected) books.holes.push(`${place}: ${expected} to ${r.offset - 1}`)
			books.seen.set(place, r.offset + 1)
			if (r.topic === '__consumer_offsets') {
				const c = commitOf(r)
				if (c && (c.group === meta.group || c.group === meta.scheduler)) books.commits.push({ ...c, ms: r.ms })
				return
			}
			const body = JSON.parse(r.value.toString('utf8'))
			if (name(r.topic) === 'results') {
				const text = body.text_blob ? undefined : sha(Buffer.from(body.text ?? ''))
				push(books.results, body.id, { ms: r.ms, status: body.status, attempt: body.attempt, sha: text })
			} else if (name(r.topic) !== 'dead') {
				const { topic, partition, offset, ms } = r
				books.records.push({ topic, partition, offset, ms, id: body.id, tier: name(topic).startsWith('later.') })
			}
		},
		end({ topic, partition, low, end }) {
			books.ends.set(`${topic}/${partition}`, { low, end })
		},
	})
	books.clients = lines(`${dir}/clients.jsonl`).map((l) => JSON.parse(l))
	books.journal = new Map()
	for (const l of lines(meta.journal)) {
		const [begun, over, model, what, tokens, text] = l.split('\t')
		if (Number(begun) < meta.began_ms) continue
		push(books.journal, text.split(' [sim')[0], { begun: Number(begun), over: Number(over), model, what, tokens: Number(tokens) })
	}
	books.rows = new Map()
	const rows = `SELECT json_build_object('job', job, 'status', status, 'attempt', attempt, 'tries', tries, 'session', session, 'turn', turn,
		'finished_ms', finished_ms, 'sha', encode(sha256(answer), 'hex'), 'fault', fault) FROM results WHERE created_ms >= ${meta.began_ms}`
	for (const row of sql(meta.postgres, rows)) push(books.rows, row.job, row)
	books.calls = new Map()
	const calls = `SELECT json_build_object('job', job, 'number', number, 'fault', fault, 'started_ms', started_ms, 'ended_ms', ended_ms) FROM calls
		WHERE job IN (SELECT job FROM results WHERE created_ms >= ${meta.began_ms})`
	for (const call of sql(meta.postgres, calls)) push(books.calls, call.job, call)
	books.archived = new Map(sql(meta.postgres, `SELECT json_build_array(topic || '/' || partition, next_offset) FROM lane_offsets`))
	return books
}

/** When each offset of each partition was first covered by a commit, and where each group's last commit stands. */
function coverage(commits, wrong) {
	const partitions = new Map()
	for (const c of commits) {
		const place = `${c.topic}/${c.partition}`
		let p = partitions.get(place)
		if (!p) partitions.set(place, (p = { group: c.group, first: new Map(), base: 0, last: 0, back: 0 }))
		let runs = []
		try {
			runs = runsOf(c.base, c.text)
		} catch (e) {
			wrong('commit that cannot be read', `${place} at ${c.base}: ${e.message}`)
		}
		for (let o = p.base; o < c.base; o++) if (!p.first.has(o)) p.first.set(o, c.ms)
		for (const [from, to] of runs) for (let o = from; o < to; o++) if (!p.first.has(o)) p.first.set(o, c.ms)
		if (c.base < p.last) p.back++
		p.base = Math.max(p.base, c.base)
		p.last = c.base
		p.above = runs.length
	}
	return partitions
}

/**
 * books: clients [{id, prompt, via, told, sha}] (told: a terminal state, or null; sha of the text that the client has, or null),
 * records [{topic, partition, offset, ms, id, tier}], results Map id -> [{ms, status, attempt, sha}] in the log's order, commits,
 * ends, rows and calls of PostgreSQL by job, journal Map prompt -> [{what}], archived Map place -> next offset.
 * Returns {counts, wrong: Map what -> [words]}.
 */
export function judge(books) {
	const all = new Map()
	const wrong = (what, words) => push(all, what, words)
	const counts = { accepted: 0, terminal: 0, followed: 0, states: {}, commits: books.commits.length }
	const accepted = new Map()
	for (const c of books.clients) if (c.id) accepted.set(c.id, c)
	counts.accepted = accepted.size
	judgeEnds(books, accepted, counts, wrong)
	judgeResults(books, counts, wrong)
	judgeCommits(books, accepted, counts, wrong)
	judgeCalls(books, accepted, counts, wrong)
	judgeTurns(books, counts, wrong)
	return { counts, wrong: all }
}

/** Lost, twice, or other than the client was told. */
function judgeEnds(books, accepted, counts, wrong) {
	const where = new Map()
	for (const r of books.records) if (r.ms >= (books.began_ms ?? 0)) push(where, r.id, `${r.topic}/${r.partition}@${r.offset}`)
	for (const [id, client] of accepted) {
		const rows = books.rows.get(id) ?? []
		if (rows.length === 0) {
			const published = books.results.get(id)?.length ?? 0
			wrong('lost', `${id} (${client.via}): no row; its records: ${where.get(id) ?? 'none'}; results published: ${published}`)
			continue
		}
		counts.terminal++
		counts.states[rows[0].status] = (counts.states[rows[0].status] ?? 0) + 1
		if (rows.length > 1) wrong('double results', `${id}: ${rows.length} rows`)
		if (client.told && client.told !== rows[0].status)
			wrong('told otherwise', `${id} (${client.via}): told ${client.told}, the row says ${rows[0].status}`)
		if (!client.told || client.sha === null || client.sha === undefined) continue
		counts.followed++
		if (client.sha !== rows[0].sha) wrong('client text ≠ stored text', `${id} (${client.via}): ${client.bytes} bytes, ${rows[0].status}, attempt ${rows[0].attempt}`)
	}
	counts.unsure = [...where.keys()].filter((id) => !accepted.has(id)).length
}

/** Every result record of a job says the same, and the row is the first one. */
function judgeResults(books, counts, wrong) {
	counts.published = 0
	counts.again = 0
	const same = (a, b) => a.status === b.status && a.attempt === b.attempt && (a.sha === undefined || b.sha === undefined || a.sha === b.sha)
	for (const [id, list] of books.results) {
		counts.published += list.length
		counts.again += list.length - 1
		for (const r of list.slice(1))
			if (!same(r, list[0])) wrong('double results', `${id}: ${list[0].status} of attempt ${list[0].attempt}, then ${r.status} of attempt ${r.attempt}`)
		const row = books.rows.get(id)?.[0]
		if (row && !same({ ...row, sha: row.sha ?? undefined }, list[0])) wrong('row ≠ first result', `${id}: ${row.status}, attempt ${row.attempt}; published ${list[0].status}, attempt ${list[0].attempt}`)
	}
	for (const hole of books.holes) wrong('record deleted before it was seen', hole)
}

/** No commit covers a job that has not ended (or gone on in another record) by then; at the end all is covered. */
function judgeCommits(books, accepted, counts, wrong) {
	const partitions = coverage(books.commits, wrong)
	const after = new Map()
	for (const r of books.records) push(after, r.id, r)
	counts.back = [...partitions.values()].reduce((n, p) => n + p.back, 0)
	for (const r of books.records) {
		const covered = partitions.get(`${r.topic}/${r.partition}`)?.first.get(r.offset)
		if (covered === undefined) continue // said below, by partition
		if (!accepted.has(r.id) && !books.results.has(r.id)) continue // refused: nobody was told that it was accepted
		const ended = books.results.get(r.id)?.some((e) => e.ms <= covered)
		const on = after.get(r.id).some((o) => o !== r && o.tier !== r.tier && o.ms >= r.ms && o.ms <= covered)
		if (!ended && !on) wrong('commit covers an unfinished job', `${r.id} at ${r.topic}/${r.partition}@${r.offset}`)
	}
	counts.partitions = 0
	for (const [place, { end }] of books.ends) {
		const topic = place.split('/')[0]
		if (!books.records.some((r) => r.topic === topic)) continue
		counts.partitions++
		const p = partitions.get(place)
		if (end > 0 && (p?.last ?? 0) !== end) wrong('partition not read to its end', `${place}: committed ${p?.last ?? 'nothing'} and ${p?.above ?? 0} runs, ends at ${end}`)
	}
	for (const [place, { end }] of books.ends)
		if (place.startsWith('results/') && end > 0 && books.archived.get(place) !== end)
			wrong('results not archived to their end', `${place}: ${books.archived.get(place) ?? 'nothing'} of ${end}`)
}

/** Calls made, repeated, booked. Several ids can have one prompt: a job that was refused, and the one made in its place. */
function judgeCalls(books, accepted, counts, wrong) {
	Object.assign(counts, { made: 0, completed: 0, repeated: 0, booked: 0, unbooked: 0, unmade: 0, repeats: [] })
	const jobs = new Map()
	for (const [id, c] of accepted) if (books.rows.has(id)) push(jobs, c.prompt, id)
	for (const [prompt, ids] of jobs) {
		const made = books.journal.get(prompt) ?? []
		const completed = made.filter((c) => c.what === 'completed').length
		const booked = ids.flatMap((id) => books.calls.get(id) ?? [])
		const whole = booked.filter((c) => !c.fault && c.ended_ms).length // the end of a call whose owner died is unknown
		const succeeded = ids.filter((id) => books.rows.get(id)[0].status === 'succeeded').length
		counts.made += made.length
		counts.completed += completed
		counts.booked += booked.length
		counts.unbooked += Math.max(0, made.length - booked.length)
		counts.unmade += Math.max(0, booked.length - made.length)
		const repeated = Math.max(0, completed - ids.length)
		counts.repeated += repeated
		if (repeated) counts.repeats.push(ids[0])
		if (completed < succeeded) wrong('succeeded without a call', `${ids}: ${completed} completed calls`)
		if (whole > completed) wrong('charged for a call that was not completed', `${ids}: ${whole} in the books, ${completed} made`)
	}
}

/** A turn's first call begins after the turn before has ended. */
function judgeTurns(books, counts, wrong) {
	const sessions = new Map()
	counts.turns = 0
	for (const [row] of books.rows.values()) if (row.session && row.turn > 0) push(sessions, row.session, row)
	for (const [session, rows] of sessions) {
		rows.sort((a, b) => a.turn - b.turn)
		for (let i = 1; i < rows.length; i++) {
			const begun = Math.min(...(books.calls.get(rows[i].job) ?? []).map((c) => c.started_ms))
			counts.turns++
			if (begun < rows[i - 1].finished_ms)
				wrong('turn out of order', `${session}: turn ${rows[i].turn} (${rows[i].job}) was called ${rows[i - 1].finished_ms - begun} ms before turn ${rows[i - 1].turn} ended`)
		}
	}
}

const WRONGS = ['lost', 'double results', 'row ≠ first result', 'told otherwise', 'client text ≠ stored text', 'commit covers an unfinished job',
	'partition not read to its end', 'results not archived to their end', 'record deleted before it was seen', 'commit that cannot be read',
	'turn out of order', 'succeeded without a call', 'charged for a call that was not completed']

/** The ledger as lines; `name` stands on top. */
export function show(name, { counts: c, wrong }) {
	const out = [`ledger ${name}`]
	const line = (what, n, words = '') => out.push(`  ${what.padEnd(42)} ${String(n).padStart(7)}  ${words}`.trimEnd())
	line('accepted', c.accepted, c.unsure ? `and ${c.unsure} in the log that no client was told of` : '')
	line('ended, with one row', c.terminal, Object.entries(c.states).map(([s, n]) => `${s} ${n}`).join(', '))
	for (const what of WRONGS) {
		const of = { 'client text ≠ stored text': `of ${c.followed}`, 'commit covers an unfinished job': `${c.commits} commits, ${c.back} went back`,
			'partition not read to its end': `of ${c.partitions}`, 'turn out of order': `of ${c.turns}`, 'double results': `${c.again} of ${c.published} were published again` }[what]
		line(what, wrong.get(what)?.length ?? 0, of)
	}
	for (const what of wrong.keys()) if (!WRONGS.includes(what)) line(what, wrong.get(what).length)
	line('provider calls made', c.made, `${c.completed} completed, ${c.made - c.completed} cut or failed`)
	line('completed again for the same job', c.repeated)
	line('calls in the books', c.booked, `made and not booked ${c.unbooked}, booked and not made ${c.unmade}`)
	for (const [what, list] of wrong) {
		for (const words of list.slice(0, 8)) out.push(`  ! ${what}: ${words}`)
		if (list.length > 8) out.push(`  ! ${what}: and ${list.length - 8} more`)
	}
	return out.join('\n')
}

if (process.argv[1]?.endsWith('ledger/check.mjs')) {
	const verdict = judge(load(process.argv[2]))
	console.log(show(process.argv[3] ?? process.argv[2], verdict))
	process.exit(verdict.wrong.size ? 1 : 0)
}
