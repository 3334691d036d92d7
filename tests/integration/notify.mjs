// sluice-notify: webhooks, received here and checked with node's own crypto.

import { createHmac, timingSafeEqual } from 'node:crypto'
import { execFile } from 'node:child_process'
import http from 'node:http'
import net from 'node:net'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Api, chat } from '../support/api.mjs'
import { Stack } from '../support/stack.mjs'
import { pass, run, test, until } from '../support/test.mjs'
import assert from 'node:assert/strict'

const exec = promisify(execFile)
const stack = await Stack.open()
const api = new Api(stack)
const TOP = fileURLToPath(new URL('../..', import.meta.url))
const mode = readFileSync(`${stack.dir}/settings`, 'utf8').match(/^mode=(.*)$/m)[1]

/** A receiver on a port of its own: `answers` by path is a status, or a function that answers; it keeps what came. */
class Receiver {
	static async open(host = '127.0.0.1') {
		const r = new Receiver()
		r.got = []
		r.answers = new Map()
		r.open = 0
		r.most = 0
		r.server = http.createServer(async (req, res) => {
			const chunks = []
			for await (const c of req) chunks.push(c)
			const one = { path: req.url, method: req.method, headers: req.headers, body: Buffer.concat(chunks), at: Date.now() }
			r.got.push(one)
			r.most = Math.max(r.most, ++r.open)
			res.on('close', () => r.open--)
			const answer = r.answers.get(req.url.split('?')[0]) ?? 204
			if (typeof answer === 'function') return answer(req, res, r.of(one.headers['webhook-id']).length)
			res.writeHead(answer).end()
		})
		await new Promise((resolve) => r.server.listen(0, host, resolve))
		r.url = `http://${host.includes(':') ? `[${host}]` : host}:${r.server.address().port}`
		return r
	}

	of(id) {
		return this.got.filter((g) => g.headers['webhook-id'] === id)
	}

	close() {
		this.server.closeAllConnections()
		return new Promise((resolve) => this.server.close(resolve))
	}
}

const message = (job) => job.replace('job_', 'msg_')

/** By the specification, with nothing of ours: true where one of the signatures is that of the secret. */
function verify(got, secret) {
	const { 'webhook-id': id, 'webhook-timestamp': at, 'webhook-signature': signatures } = got.headers
	if (Math.abs(Date.now() / 1000 - Number(at)) > 300) throw new Error(`webhook-timestamp is off: ${at}`)
	const key = Buffer.from(secret.replace('whsec_', ''), 'base64')
	const good = createHmac('sha256', key).update(`${id}.${at}.`).update(got.body).digest()
	return signatures.split(' ').some((s) => {
		const [version, text] = s.split(',')
		const other = Buffer.from(text, 'base64')
		return version === 'v1' && other.length === good.length && timingSafeEqual(other, good)
	})
}

async function ctl(...words) {
	const { stdout } = await exec(`${TOP}/build/${mode}/bin/sluicectl`, ['--config', stack.config, ...words])
	return stdout.trim().split('\n').filter(Boolean)
}

const row = async (job) => {
	const q = `SELECT state, tries, coalesce(status, 0), coalesce(why, ''), due_ms FROM webhooks WHERE job = '${job}'`
	const [r] = await stack.sql(q)
	return r && { state: r[0], tries: Number(r[1]), status: Number(r[2]), why: r[3], due: Number(r[4]) }
}

const submit = async (url, text = 'hook', how, more = {}) => (await api.accepted(chat(text, how, { webhook: { url }, ...more }))).id
const ended = (job, state, limit_ms) => until(`the webhook of ${job} is ${state}`, async () => (await row(job))?.state === state && row(job), limit_ms)

/** The same for many, asked at once. */
const all = (jobs, state, limit_ms) =>
	until(`${jobs.length} webhooks are ${state}`, async () => {
		const list = jobs.map((j) => `'${j}'`)
		return Number((await stack.sql(`SELECT count(*) FROM webhooks WHERE state = '${state}' AND job IN (${list})`))[0][0]) === jobs.length
	}, limit_ms)

let notify
let receiver
let serial = 0
const QUICK = ['--set', 'notify.schedule=100ms,100ms,200ms', '--set', 'notify.poll_ms=20', '--set', 'notify.timeout_ms=700']

async function start(id = `sluice-notify-t${++serial}`, ...more) {
	notify = await stack.more('sluice-notify', id, 'notify', ...QUICK, ...more)
	return notify
}

async function again(...more) {
	if (notify.child.exitCode === null && notify.child.signalCode === null) await notify.end()
	return start(undefined, ...more)
}

test('a job that names a webhook has its end posted there, signed', async () => {
	const job = await submit(`${receiver.url}/hooks/42?a=b`, 'signed', undefined, { metadata: { essay: '42' } })
	await ended(job, 'delivered')
	const got = receiver.of(message(job))
	assert.equal(got.length, 1)
	assert.equal(got[0].method, 'POST')
	assert.equal(got[0].path, '/hooks/42?a=b')
	assert.equal(got[0].headers['content-type'], 'application/json')
	const secrets = await ctl('webhooks', 'secret', '--org', 'demo')
	assert.equal(secrets.length, 1)
	assert.ok(verify(got[0], secrets[0]))
	assert.ok(!verify({ ...got[0], body: Buffer.concat([got[0].body, Buffer.from(' ')]) }, secrets[0]))
	const body = JSON.parse(got[0].body)
	const seen = (await api.call('GET', `/v1/jobs/${job}`)).json
	assert.equal(body.type, 'job.succeeded')
	assert.equal(body.timestamp, seen.finished_at)
	assert.deepEqual(body.data, seen)
	assert.deepEqual(body.data.metadata, { essay: '42' })
})

test('a library of Standard Webhooks takes it', async () => {
	const { Webhook } = await import('standardwebhooks')
	const job = await submit(`${receiver.url}/lib`)
	await ended(job, 'delivered')
	const [got] = receiver.of(message(job))
	const [secret] = await ctl('webhooks', 'secret', '--org', 'demo')
	assert.equal(new Webhook(secret).verify(got.body.toString(), got.headers).data.id, job)
	assert.throws(() => new Webhook(`whsec_${Buffer.alloc(32, 7).toString('base64')}`).verify(got.body.toString(), got.headers))
})

test('a job that was cancelled, waiting or running, and one that failed are told too', async () => {
	const later = new Date(Date.now() + 600000).toISOString()
	const cancelled = await submit(`${receiver.url}/c`, 'cancel me', undefined, { not_before: later })
	const running = await submit(`${receiver.url}/r`, 'cancel me too', 'ttft=20000')
	const failed = await submit(`${receiver.url}/f`, 'fail', 'error=400')
	await until('it runs', async () => (await api.call('GET', `/v1/jobs/${running}`)).json.status === 'running')
	for (const job of [cancelled, running]) assert.equal((await api.call('DELETE', `/v1/jobs/${job}`)).status, 202)
	for (const [job, type] of [
		[cancelled, 'job.cancelled'],
		[running, 'job.cancelled'],
		[failed, 'job.failed'],
	]) {
		await ended(job, 'delivered', 25000)
		const body = JSON.parse(receiver.of(message(job))[0].body)
		assert.equal(body.type, type)
		assert.equal(body.data.id, job)
		assert.ok(body.data.fault.name)
	}
})

test('a job without a webhook leaves no row', async () => {
	const { id } = await api.accepted(chat('no hook'))
	await api.recorded([id])
	assert.equal(await row(id), undefined)
})

test('an answer above 256 KiB is left out', async () => {
	const job = await submit(`${receiver.url}/big`, 'big', 'ttft=0 rate=0 tokens=70000', { max_tokens: 100000 })
	await ended(job, 'delivered', 30000)
	const body = JSON.parse(receiver.of(message(job))[0].body)
	assert.ok(body.data.result.bytes > 262144, `${body.data.result.bytes}`)
	assert.equal(body.data.result.text, undefined)
})

test('a receiver that fails is asked again with the same id and body, and a signature of that moment', async () => {
	receiver.answers.set('/twice', (req, res, nth) => res.writeHead(nth < 3 ? 500 : 200).end('thanks'))
	const job = await submit(`${receiver.url}/twice`)
	const r = await ended(job, 'delivered')
	const got = receiver.of(message(job))
	const [secret] = await ctl('webhooks', 'secret', '--org', 'demo')
	assert.equal(r.tries, 3)
	assert.equal(got.length, 3)
	for (const g of got) {
		assert.ok(verify(g, secret))
		assert.ok(g.body.equals(got[0].body))
	}
	assert.ok(got[1].at - got[0].at >= 95 && got[2].at - got[1].at >= 95, 'the waits are kept')
})

test('what never goes well is given up with its reason, listed, and delivered once it is asked for again', async () => {
	receiver.answers.set('/never', 503)
	const job = await submit(`${receiver.url}/never`)
	const r = await ended(job, 'dead')
	assert.equal(r.tries, 4)
	assert.equal(r.status, 503)
	assert.equal(r.why, 'status 503')
	assert.equal(receiver.of(message(job)).length, 4)
	assert.ok((await ctl('webhooks', 'list', '--org', 'demo')).some((l) => l.startsWith(job) && l.includes(' dead ') && l.includes('status 503')))
	receiver.answers.set('/never', 200)
	assert.deepEqual(await ctl('webhooks', 'retry', job), [job])
	await ended(job, 'delivered')
	assert.equal(receiver.of(message(job)).length, 5)
})

test('410 ends it at once', async () => {
	receiver.answers.set('/gone', 410)
	const job = await submit(`${receiver.url}/gone`)
	const r = await ended(job, 'dead')
	assert.equal(r.tries, 1)
	assert.equal(r.why, 'status 410')
})

test('a redirect is not followed', async () => {
	const inner = await Receiver.open()
	receiver.answers.set('/redirect', (req, res) => res.writeHead(307, { location: `${inner.url}/inner` }).end())
	const job = await submit(`${receiver.url}/redirect`)
	const r = await ended(job, 'dead')
	assert.equal(r.status, 307)
	assert.equal(inner.got.length, 0)
	await inner.close()
})

test('silence, slow bodies, endless bodies, cut and broken answers each end in their time', async () => {
	receiver.answers.set('/silent', () => {})
	receiver.answers.set('/slow', (req, res) => {
		res.writeHead(200)
		const timer = setInterval(() => res.write('.'), 50)
		res.on('close', () => clearInterval(timer))
	})
	receiver.answers.set('/endless', (req, res) => {
		res.writeHead(500)
		const more = () => {
			while (res.write(Buffer.alloc(65536)));
			res.once('drain', more)
		}
		more()
	})
	receiver.answers.set('/cut', (req) => req.socket.destroy())
	const broken = net.createServer((s) => s.on('error', () => {}).on('data', () => s.end('HELLO\r\n\r\n')))
	await new Promise((resolve) => broken.listen(0, '127.0.0.1', resolve))
	const short = net.createServer((s) => s.on('error', () => {}).on('data', () => s.end('HTTP/1.1 200 OK\r\nconten')))
	await new Promise((resolve) => short.listen(0, '127.0.0.1', resolve))
	const head = await submit(`http://127.0.0.1:${short.address().port}/`)
	const silent = await submit(`${receiver.url}/silent`)
	const slow = await submit(`${receiver.url}/slow`)
	const endless = await submit(`${receiver.url}/endless`)
	const cut = await submit(`${receiver.url}/cut`)
	const noise = await submit(`http://127.0.0.1:${broken.address().port}/`)
	const nobody = await submit('http://127.0.0.1:1/')
	assert.match((await ended(silent, 'dead')).why, /^timeout/)
	assert.equal((await ended(slow, 'delivered')).status, 200)
	assert.equal((await ended(endless, 'dead')).status, 500)
	assert.match((await ended(cut, 'dead')).why, /^cut/)
	assert.match((await ended(noise, 'dead')).why, /^(protocol|cut)/)
	assert.match((await ended(nobody, 'dead')).why, /^connect/)
	assert.equal((await ended(head, 'dead')).why, 'cut: the answer ended within its head')
	broken.close()
	short.close()
})

test('a dead receiver does not hold up another one', async () => {
	const dead = await Receiver.open()
	dead.answers.set('/', () => {})
	await again('--set', 'notify.calls=10', '--set', 'notify.calls_per_origin=4', '--set', 'notify.schedule=30s')
	const stuck = await Promise.all(Array.from({ length: 40 }, () => submit(`${dead.url}/`)))
	await until('the dead one is asked', () => dead.got.length)
	const good = await Promise.all(Array.from({ length: 20 }, () => submit(`${receiver.url}/beside`)))
	await all(good, 'delivered')
	// One after another behind the forty it would be 7 s and more.
	const waits = good.map((job) => receiver.of(message(job))[0].at - Date.parse(JSON.parse(receiver.of(message(job))[0].body).timestamp))
	assert.ok(Math.max(...waits) < 5000, `${waits}`)
	assert.ok(dead.most <= 4, `${dead.most} at once to one origin`)
	await stack.sql(`DELETE FROM webhooks WHERE job IN (${stuck.map((j) => `'${j}'`)})`)
	await dead.close()
	await again()
})

test('it connects to no address that is not allowed: by number, by name, IPv6 and its disguises', async () => {
	const six = await Receiver.open('::1')
	const port = new URL(receiver.url).port
	const from = receiver.got.length
	const urls = [
		`http://localhost:${port}/`, `http://127.0.0.1:${port}/`, `http://127.1:${port}/`, `http://2130706433:${port}/`,
		`http://0.0.0.0:${port}/`, `http://[::ffff:127.0.0.1]:${port}/`, `http://[::1]:${new URL(six.url).port}/`,
	]
	// Accepted where this machine is allowed, and then no more.
	await notify.end()
	const jobs = []
	for (const url of urls) {
		const r = await api.submit(chat('no way', undefined, { webhook: { url } }))
		if (r.status === 202) jobs.push(r.json.id)
		else assert.equal(r.json.error.param, 'webhook.url')
	}
	assert.ok(jobs.length >= 5)
	await api.recorded(jobs)
	await start(undefined, '--set', 'webhooks.networks=')
	for (const job of jobs) assert.match((await ended(job, 'dead')).why, /^connect: address not allowed: (127\.|0\.|::)/)
	assert.equal(receiver.got.length, from)
	assert.equal(six.got.length, 0)
	await six.close()
	await again()
})

test('two secrets sign while one is being changed', async () => {
	const [old] = await ctl('webhooks', 'secret', '--org', 'demo')
	const both = await ctl('webhooks', 'rotate', '--org', 'demo')
	assert.equal(both.length, 2)
	assert.equal(both[1], old)
	let job = await submit(`${receiver.url}/rotate`)
	await ended(job, 'delivered')
	let [got] = receiver.of(message(job))
	assert.ok(verify(got, both[0]) && verify(got, both[1]))
	assert.deepEqual(await ctl('webhooks', 'retire', '--org', 'demo'), [both[0]])
	job = await submit(`${receiver.url}/rotate`)
	await ended(job, 'delivered')
	;[got] = receiver.of(message(job))
	assert.ok(verify(got, both[0]) && !verify(got, old))
})

test('SIGTERM ends the tries under way and begins no other', async () => {
	let answer
	receiver.answers.set('/hold', (req, res) => (answer = () => res.writeHead(200).end()))
	await again('--set', 'notify.timeout_ms=20000', '--set', 'notify.calls_per_origin=1')
	const first = await submit(`${receiver.url}/hold`)
	await until('it is asked', () => answer)
	const second = await submit(`${receiver.url}/behind`)
	await api.recorded([second])
	const over = notify.end()
	await until('it drains', async () => (await (await fetch(`${notify.admin}/readyz`)).text()).includes('drain'))
	answer()
	await over
	assert.equal(notify.child.exitCode, 0)
	assert.equal((await row(first)).state, 'delivered')
	assert.equal((await row(second)).tries, 0)
	await start()
	await ended(second, 'delivered')
})

test('SIGKILL in the middle of tries loses none, and a repeat has the id of before', async () => {
	const id = 'sluice-notify-killed'
	await notify.end()
	await start(id)
	receiver.answers.set('/kill', (req, res) => setTimeout(() => res.writeHead(200).end(), Math.random() * 30))
	const jobs = []
	const submitting = (async () => {
		for (let i = 0; i < 24; i++)
			jobs.push(...(await Promise.all(Array.from({ length: 5 }, (_, k) => submit(`${receiver.url}/kill`, `k${i}-${k}`)))))
	})()
	for (let round = 0; round < 4; round++) {
		const from = receiver.got.length
		await until('webhooks come', () => receiver.got.length >= from + 8)
		const dead = notify
		await dead.end('SIGKILL')
		if (round === 1) await stack.kill('sluice-archive-1').then(() => stack.up('sluice-archive-1'))
		await start(id)
	}
	await submitting
	assert.equal(jobs.length, 120)
	await all(jobs, 'delivered', 30000)
	for (const job of jobs) assert.ok(receiver.of(message(job)).length >= 1)
	assert.equal((await stack.sql(`SELECT count(*) FROM webhooks WHERE state <> 'delivered' AND url LIKE '%/kill'`))[0][0], '0')
}, { limit_ms: 90000 })

test('two processes share the table and send nothing twice', async () => {
	const patient = ['--set', 'notify.timeout_ms=20000']
	await again(...patient)
	const other = await stack.more('sluice-notify', 'sluice-notify-second', 'notify', ...QUICK, ...patient)
	try {
		const jobs = await Promise.all(Array.from({ length: 60 }, (_, i) => submit(`${receiver.url}/pair`, `p${i}`)))
		await all(jobs, 'delivered')
		for (const job of jobs) assert.equal(receiver.of(message(job)).length, 1)
	} finally {
		await other.end()
	}
})

test('metrics say how it stands, and a reload is taken', async () => {
	const values = await stack.metrics(notify.id)
	assert.ok((await stack.metric(notify.id, 'sluice_notify_tries_total')) > 0)
	assert.equal(values.get('sluice_notify_tries_open'), 0)
	notify.child.kill('SIGHUP')
	await until('the reload', async () => (await stack.metric(notify.id, 'sluice_reloads_total')) === 1)
	const job = await submit(`${receiver.url}/after`)
	await ended(job, 'delivered')
})

await run(import.meta.url, {
	before: async () => {
		receiver = await Receiver.open()
		// Ours has a schedule of moments.
		await stack.down('sluice-notify-1')
		await start()
	},
	after: async () => {
		await notify.end()
		await receiver.close()
		await stack.up('sluice-notify-1')
	},
})
