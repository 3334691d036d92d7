// The example page: a conversation over @sluice/client. It shows what happens to a job as it happens (its place in line, who answers,
// who failed and who went on), keeps the conversation through a reload of its tab, and says aloud what a screen reader must hear, once.

import { Sluice } from './sluice.js'
import { show } from './words.js'

const $ = (id) => document.getElementById(id)
const STORE = 'sluice-chat'
/** A finished answer is read aloud whole up to here; a longer one is left to the reader. */
const ALOUD_MAX = 700
/** What is said stands so long before the next word takes its place. */
const SAID_MS = 1000
/** What can be a key: others are no header's value, or are too long for one. */
const KEY = /^[\x21-\x7e]{1,4096}$/
const BAD_KEY = 'That key is not good.'
/** A live region is emptied for so long, so that the same words are said again. */
const BLANK_MS = 40

const SAMPLES = [
	{ title: 'A plain question', about: 'streams an answer', text: 'How do the tides work?', steer: 'words=1 rate=45 tokens=140 ttft=400' },
	{ title: 'A long answer', about: 'cut your network meanwhile, it goes on', text: 'Tell me everything about tides.', steer: 'words=1 rate=30 tokens=900 ttft=400' },
	{ title: 'Failover before the first word', about: 'the next provider answers, nothing is lost', text: 'What is a spring tide?', steer: 'only=claude status=529 words=1 rate=45 tokens=120 ttft=500' },
	{ title: 'Failover in the middle', about: 'as you chose: begun anew, gone on with, or stopped', text: 'Why are there two high tides a day?', steer: 'only=claude fail=45 words=1 rate=30 tokens=140 ttft=400' },
]
const WAITS = {
	order: 'the turn before it',
	session: 'the turn before it',
	slots: 'its place in line',
	budget: 'the provider’s quota',
	limit: 'the provider’s limit',
	breaker: 'a provider to be well again',
	retry: 'the next try',
}

const page = { key: null, config: null, client: null, session: null, items: [], views: new Map(), stick: true, recording: null, round: 0 }

// ── asking the front ──

async function ask(method, path, body) {
	const headers = { accept: 'application/json' }
	if (page.key) headers.authorization = `Bearer ${page.key}`
	if (body) headers['content-type'] = 'application/json'
	const response = await fetch(`${page.key ? 'v1' : 'chat'}${path}`, { method, headers, body: body && JSON.stringify(body) })
	const json = await response.json().catch(() => null)
	if (response.ok) return json
	const error = new Error(json?.error?.message ?? `the front answered ${response.status}`)
	error.status = response.status
	throw error
}

async function newSession() {
	return (await ask('POST', '/sessions', { task: page.config.task })).id
}

/** A fresh ticket for each connection; a session that is over, or a key that is not good, is final. */
async function credential() {
	try {
		return (await ask('POST', '/tickets', { session: page.session })).ticket
	} catch (e) {
		e.final = e.status === 404 || e.status === 401
		throw e
	}
}

function pushUrl() {
	if (page.config.push) return page.config.push
	const url = new URL('v1/ws', location.href)
	url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:'
	return url.href
}

// ── what is kept of this tab ──

function keep() {
	// A key's session is not for the next who sits here; without a client nothing is known better than what was kept.
	if (page.key || !page.client) return
	const items = page.items.map(({ job, ...item }) => {
		if (!job) return item
		const { id, attempt, text, status, calls, firstMs } = job
		// What was not accepted yet is handed in again after a reload, under the same ref.
		const open = id || job.ended ? {} : { ref: job.ref, request: job.request, sentIn: job.sentIn, cancelling: job.cancelling }
		return { role: item.role, id, attempt, text, status, calls, firstMs, seams: job.answer.seams, facts: facts(job), trouble: trouble(job), ...open }
	})
	try {
		sessionStorage.setItem(STORE, JSON.stringify({ session: page.session, resume: page.client?.resume, items }))
	} catch {
		// a tab without a store, or a full one: a reload begins anew
	}
}

function kept() {
	try {
		return JSON.parse(sessionStorage.getItem(STORE)) ?? null
	} catch {
		return null
	}
}

// ── saying ──

/** A live region. A word that another one replaces at once is never read, so each stands for a while and the next ones wait. */
class Speaker {
	constructor(id) {
		this.region = $(id)
		this.waiting = []
		this.timer = null
	}

	/** `passing`: how things stand now; unsaid, it is dropped when there is something newer. */
	say(text, passing = false) {
		this.waiting = this.waiting.filter((one) => !one.passing)
		this.waiting.push({ text, passing })
		if (this.timer === null) this.next()
	}

	next() {
		const one = this.waiting.shift()
		this.timer = null
		if (!one) return
		this.region.textContent = ''
		setTimeout(() => (this.region.textContent = one.text), BLANK_MS)
		this.timer = setTimeout(() => this.next(), BLANK_MS + SAID_MS)
	}

	forget() {
		this.waiting = []
	}
}

const polite = new Speaker('said')
const urgent = new Speaker('alarm')
const say = (text, passing) => polite.say(text, passing)
const alarm = (text) => urgent.say(text)

function note(text) {
	const p = document.createElement('p')
	p.className = 'note'
	p.textContent = text
	$('log').append(p)
	scroll()
}

function scroll() {
	const main = document.querySelector('main')
	if (page.stick) main.scrollTop = main.scrollHeight
}

// ── the conversation's elements ──

function article(name, heading) {
	const a = document.createElement('article')
	const h = document.createElement('h2')
	h.id = `h${$('log').childElementCount}`
	h.textContent = heading
	a.className = name
	a.setAttribute('aria-labelledby', h.id)
	a.append(h)
	$('log').append(a)
	return a
}

function element(parent, tag, name) {
	const e = document.createElement(tag)
	e.className = name
	parent.append(e)
	return e
}

function showOwn({ text, steer }) {
	$('welcome').hidden = true
	const a = article('own', 'You')
	element(a, 'p', 'bubble').textContent = text
	if (steer) element(a, 'p', 'steer').textContent = `[sim ${steer}]`
}

function answerView() {
	const a = article('other', 'Answer')
	const box = element(a, 'div', 'answer')
	const view = { article: a, box, heading: a.firstChild }
	view.events = element(box, 'ul', 'events')
	view.place = element(box, 'p', 'place')
	view.words = element(box, 'div', 'words')
	view.trouble = element(box, 'p', 'trouble')
	view.facts = element(box, 'p', 'facts')
	return view
}

function event(view, text) {
	const li = document.createElement('li')
	li.textContent = text
	view.events.append(li)
	say(text)
	scroll()
}

const seconds = (ms) => (ms < 10000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 1000)} s`)

/** Who answers a job, or what was kept of one: unknown while what was heard last is of an older attempt. */
function lastCall({ calls, attempt }) {
	const call = calls?.at(-1)
	return call && call.attempt >= attempt ? call : undefined
}

function placeOf(job) {
	if (job.cancelling) return 'Stopping …'
	if (job.status === 'sending' && page.client.state === 'closed') return 'Not handed in: connect again for that'
	if (job.status === 'sending') return page.client.state === 'open' ? 'Handing it in …' : 'Handed in when the connection stands'
	if (job.status === 'running') return job.text ? '' : `${lastCall(job)?.provider ?? 'A provider'} is asked …`
	const parts = []
	if (job.position !== null) parts.push(job.position === 1 ? 'Next in line' : `In line, position ${job.position}`)
	else parts.push(job.why ? `Waiting for ${WAITS[job.why] ?? job.why}` : 'In the queue')
	if (job.estimateMs) parts.push(`about ${seconds(job.estimateMs)}`)
	return parts.join(', ')
}

function facts(job) {
	const list = []
	const call = lastCall(job)
	if (call) list.push(`${call.provider} · ${call.model}`)
	if (job.result) {
		const { output_tokens: tokens, cost_microusd: cost } = job.result.usage ?? {}
		if (tokens) list.push(`${tokens} tokens`)
		if (cost) list.push(`$${(cost / 1e6).toFixed(cost < 10000 ? 5 : 3)}`)
		if (job.firstMs) list.push(`first word after ${seconds(job.firstMs)}`)
		if (job.result.finish_reason && job.result.finish_reason !== 'stop') list.push(`ended by ${job.result.finish_reason}`)
	}
	return list
}

function showFacts(view, list, text) {
	view.facts.replaceChildren(...list.map((fact) => Object.assign(document.createElement('span'), { textContent: fact })))
	if (!text) return
	const copy = Object.assign(document.createElement('button'), { type: 'button', textContent: 'Copy' })
	copy.addEventListener('click', async () => {
		await navigator.clipboard?.writeText(text).then(
			() => say('Copied.'),
			() => alarm('The clipboard cannot be written.'),
		)
	})
	view.facts.append(copy)
}

function showPlace(view, job) {
	const text = job.ended ? '' : placeOf(job)
	if (view.said === text) return
	view.said = text
	view.place.replaceChildren()
	if (!text) return
	element(view.place, 'span', 'bar').setAttribute('aria-hidden', 'true')
	view.place.append(text)
	if (job.status === 'running' && view.asked === job.calls.at(-1)?.provider) return // it was said as an event
	// Every step in line would be too much to hear.
	if (job.status !== 'queued' || job.position === null || job.position < 4 || job.position % 5 === 0) say(text, true)
}

/** One frame for whatever changed since the last. */
function paint(view, job) {
	if (view.painting) return
	view.painting = true
	const draw = () => {
		view.painting = false
		if (view.text !== job.text || view.seams !== job.answer.seams.length) {
			view.text = job.text
			view.seams = job.answer.seams.length
			show(view.words, job.answer)
		}
		view.box.classList.toggle('busy', !job.ended && job.text !== '')
		view.article.setAttribute('aria-busy', String(!job.ended))
		view.article.dataset.job = job.id ?? ''
		view.article.dataset.status = job.status
		showPlace(view, job)
		showFacts(view, facts(job), job.ended ? job.text : '')
		scroll()
	}
	if (document.visibilityState === 'visible') requestAnimationFrame(draw)
	else setTimeout(draw, 250)
}

// ── a job on the page ──

const NAMES = { cancelled: 'Stopped.', gone: 'The server does not know this job any more.' }

function trouble(job) {
	if (!job.error) return ''
	return NAMES[job.error.name] ?? `${job.error.name}: ${job.error.message}${job.error.retryable ? ' (may be tried again)' : ''}`
}

function heading(job) {
	const call = lastCall(job)
	return call ? `Answer of ${call.provider}` : 'Answer'
}

/** `begun`: when it was asked for, where its first word can be seen to come. */
function follow(item, job, begun = null) {
	const view = answerView()
	// What was seen before a reload is not told again.
	job.calls.push(...(item.calls ?? []))
	job.answer.seams.push(...(item.seams ?? []))
	job.firstMs = item.firstMs ?? null
	view.heading.textContent = heading(job)
	item.job = job
	page.views.set(job, view)
	job.addEventListener('started', () => {
		const [before, now] = job.calls.slice(-2)
		if (now && now.attempt === before.attempt) event(view, `${before.provider} did not answer, ${now.provider} is asked`)
		else if (now) event(view, `${now.provider} is asked`)
		view.asked = now?.provider
		view.heading.textContent = heading(job)
	})
	job.addEventListener('delta', (e) => {
		if (begun !== null && e.detail.at === 0) job.firstMs ??= performance.now() - begun
	})
	job.addEventListener('snapshot', () => (begun = null)) // its first word was not seen to come
	job.addEventListener('reset', () => event(view, `${job.calls.at(-1)?.provider ?? 'The provider'} broke off: the answer is begun anew`))
	job.addEventListener('seam', (e) => {
		job.calls.push({ ...e.detail })
		event(view, `The provider broke off: ${e.detail.provider} goes on where it stopped`)
		view.heading.textContent = heading(job)
	})
	job.addEventListener('fault', (e) => (view.trouble.textContent = `${e.detail.name}: ${e.detail.message}`))
	job.addEventListener('change', () => {
		paint(view, job)
		buttons()
	})
	job.addEventListener('end', () => ended(view, job))
	paint(view, job)
	buttons()
}

function ended(view, job) {
	view.trouble.textContent = trouble(job)
	if (job.error?.name === 'cancelled') say(trouble(job))
	else if (job.error) alarm(trouble(job))
	else say(job.text.length <= ALOUD_MAX ? `The answer is complete. ${job.text}` : `The answer is complete, with ${job.text.split(/\s+/).length} words.`)
	keep()
}

/** An answer of before the reload, that had ended. */
function restore(item) {
	const view = answerView()
	view.article.setAttribute('aria-busy', 'false')
	view.article.dataset.job = item.id ?? ''
	view.article.dataset.status = item.status ?? ''
	view.heading.textContent = heading(item)
	view.trouble.textContent = item.trouble ?? ''
	show(view.words, { text: item.text ?? '', seams: item.seams ?? [] })
	showFacts(view, item.facts ?? [], item.text)
}

/** One of before the reload that was not accepted then. Its ref makes it one job, whatever became of it. */
function resubmit(item) {
	const { request, ref, sentIn, cancelling } = item
	if (request && (sentIn || !cancelling)) {
		try {
			const job = page.client.submit(request, { ref, sentIn: sentIn ?? page.session })
			if (cancelling) job.cancel()
			follow(item, job)
		} catch (e) {
			restore(Object.assign(item, { status: 'refused', trouble: `It was not sent: ${e.message}` }))
		}
		return
	}
	item.status = request ? 'cancelled' : 'refused'
	item.trouble = request ? NAMES.cancelled : 'The page was loaded again while this was handed in: send it once more.'
	restore(item)
}

function running() {
	return page.items.map((i) => i.job).filter((job) => job && !job.ended)
}

function buttons() {
	const idle = running().length === 0
	// A button that goes takes the focus with it.
	if (idle && document.activeElement === $('stop')) $('text').focus()
	$('stop').hidden = idle
}

/** False where it cannot be sent: the page says why. */
function submit(text, steer) {
	const said = steer ? `${text} [sim ${steer}]` : text
	const request = { kind: 'chat', messages: [{ role: 'user', content: said }], on_cut: $('on-cut').value }
	if ($('model').value) request.model = $('model').value
	else request.task = page.config.task
	const begun = performance.now()
	let job
	try {
		job = page.client.submit(request)
	} catch (e) {
		notSent(e)
		return false
	}
	const own = { role: 'user', text, steer }
	showOwn(own)
	page.items.push(own)
	const item = { role: 'answer' }
	page.items.push(item)
	page.stick = true
	follow(item, job, begun)
	keep()
	return true
}

function notSent(error) {
	note(`It was not sent: ${error.message}`)
	alarm(`It was not sent: ${error.message}`)
}

// ── voice ──

function offerVoice() {
	const why = !window.isSecureContext
		? 'A browser lends the microphone to pages over HTTPS or from this machine only.'
		: !navigator.mediaDevices?.getUserMedia || !window.MediaRecorder
			? 'This browser cannot record.'
			: ''
	$('voice').disabled = why !== ''
	$('voice').title = why || 'Record a voice message'
	$('voice-why').textContent = why
}

async function voice() {
	if (page.recording) return endRecording(true)
	const recording = { recorder: null, client: null }
	page.recording = recording
	let stream
	try {
		stream = await navigator.mediaDevices.getUserMedia({ audio: true })
	} catch (e) {
		if (page.recording === recording) page.recording = null
		note(`The microphone is not to be had: ${e.message}`)
		alarm('The microphone is not to be had.')
		return
	}
	const release = () => stream.getTracks().forEach((track) => track.stop())
	if (page.recording !== recording) return release() // given up while the browser asked
	const pieces = []
	const recorder = new MediaRecorder(stream)
	recording.recorder = recorder
	recorder.ondataavailable = (e) => pieces.push(e.data)
	recorder.onstop = () => {
		release()
		if (page.recording === recording) endRecording(true) // the microphone went
		if (recording.client && recording.client === page.client) sendVoice(new Blob(pieces, { type: recorder.mimeType }))
	}
	recorder.start()
	$('voice').setAttribute('aria-pressed', 'true')
	say('Recording. Press again to send, Escape drops it.')
}

/** `send`: into the conversation of now; else it is dropped. */
function endRecording(send) {
	const { recording } = page
	if (!recording) return
	page.recording = null
	$('voice').setAttribute('aria-pressed', 'false')
	if (send) recording.client = page.client
	if (!send || !page.client) say('The recording was dropped.')
	if (recording.recorder?.state === 'recording') recording.recorder.stop()
}

function sendVoice(audio) {
	const own = { role: 'user', text: `Voice message, ${Math.max(1, Math.round(audio.size / 1024))} KiB` }
	showOwn(own)
	page.items.push(own)
	try {
		const item = { role: 'answer' }
		follow(item, page.client.voice(audio), performance.now())
		page.items.push(item)
	} catch (e) {
		notSent(e)
	}
}

// ── the connection ──

function connection(state, text) {
	$('connection').dataset.state = state
	$('connection-text').textContent = text
}

let countdown
function waits(ms, reason) {
	const end = Date.now() + ms
	const tick = () => {
		const left = Math.ceil((end - Date.now()) / 1000)
		const where = navigator.onLine ? 'Connection lost' : 'No network'
		connection('waiting', left > 1 ? `${where}, again in ${left} s` : `${where}, connecting again`)
	}
	clearInterval(countdown)
	countdown = setInterval(tick, 1000)
	tick()
	if (reason && !page.lost) say('The connection was lost. It comes back by itself; nothing is lost.')
	page.lost = true
}

function stateChanged({ state, retryInMs, reason }) {
	clearInterval(countdown)
	$('reconnect').hidden = state !== 'closed'
	if (state === 'open') {
		connection(state, 'Connected')
		if (page.lost) say('Connected again.')
		page.lost = false
	} else if (state === 'connecting') {
		if (!page.lost) connection(state, 'Connecting …')
	} else if (state === 'waiting') waits(retryInMs, reason ?? 'lost')
	else connection(state, 'Not connected')
	for (const job of running()) paint(page.views.get(job), job)
}

function closed({ code, reason, error }) {
	if (!error) return
	const why =
		code === 3505
			? 'This conversation goes on in another tab or window.'
			: error.status === 404
				? 'This conversation is over. Begin a new one.'
				: `The connection was closed: ${reason || code}`
	note(why)
	alarm(why)
	if (error.status === 401) {
		page.key = null
		askKey(BAD_KEY)
	}
}

function connect(before) {
	const client = new Sluice({ url: pushUrl(), credential, session: page.session, resume: before?.resume })
	page.client = client
	client.addEventListener('state', (e) => page.client === client && stateChanged(e.detail))
	client.addEventListener('close', (e) => page.client === client && closed(e.detail))
	client.addEventListener('welcome', keep)
	client.addEventListener('job', (e) => {
		const item = { role: 'answer' }
		page.items.push(item)
		note('A job of this conversation that was not asked for here:')
		follow(item, e.detail)
	})
	for (const item of before?.items ?? []) {
		page.items.push(item)
		if (item.role === 'user') showOwn(item)
		else if (!item.id && item.status === 'sending') resubmit(item)
		else if (item.id && ['sending', 'queued', 'running'].includes(item.status)) follow(item, client.attach(item.id, item))
		else restore(item)
	}
	client.open()
}

async function begin(before) {
	const round = ++page.round
	let session
	try {
		session = before?.session ?? (await newSession())
		if (!$('model').length) await models()
	} catch (e) {
		if (round !== page.round) return
		if (e.status === 401) askKey(BAD_KEY)
		else {
			connection('closed', `No front: ${e.message}`)
			$('reconnect').hidden = false
		}
		return
	}
	if (round !== page.round) return // begun anew meanwhile
	page.session = session
	$('key-form').hidden = true
	$('welcome').hidden = Boolean(before?.items?.length)
	connect(before)
	$('text').focus()
}

async function models() {
	const { data } = await ask('GET', '/models')
	const all = [new Option('any provider', '')]
	for (const { id } of data) all.push(new Option(id, id))
	$('model').replaceChildren(...all)
}

function anew() {
	endRecording(false)
	page.client?.close()
	page.client = null
	page.items = []
	page.views.clear()
	$('log').replaceChildren()
	sessionStorage.removeItem(STORE)
	polite.forget()
	say('A new conversation.')
	buttons()
	if (page.config.own_key || page.key) begin(null)
}

function askKey(error = '') {
	$('key-form').hidden = false
	$('welcome').hidden = true
	$('key-error').textContent = error
	$('key').focus()
}

// ── the form ──

function send() {
	const text = $('text').value.trim()
	if (!text || !page.client || !submit(text)) return
	$('text').value = ''
	grow()
}

function grow() {
	$('text').style.height = 'auto'
	$('text').style.height = `${$('text').scrollHeight + 2}px`
}

function theme(next) {
	if (next === 'auto') delete document.documentElement.dataset.theme
	else document.documentElement.dataset.theme = next
	$('theme').textContent = next[0].toUpperCase() + next.slice(1)
	$('theme').setAttribute('aria-label', `${$('theme').textContent} colours`)
	$('theme').dataset.is = next
	try {
		localStorage.setItem(`${STORE}-theme`, next)
	} catch {
		// not kept, then
	}
}

function wire() {
	$('composer').addEventListener('submit', (e) => {
		e.preventDefault()
		send()
	})
	$('text').addEventListener('input', grow)
	$('text').addEventListener('keydown', (e) => {
		if (e.key === 'Enter' && !e.shiftKey && !composes(e)) {
			e.preventDefault()
			send()
		}
	})
	document.addEventListener('keydown', (e) => e.key === 'Escape' && !composes(e) && giveUp())
	$('stop').addEventListener('click', stop)
	$('voice').addEventListener('click', voice)
	$('new').addEventListener('click', anew)
	$('reconnect').addEventListener('click', () => (page.client ? page.client.open() : begin(kept())))
	$('theme').addEventListener('click', () => theme({ auto: 'light', light: 'dark', dark: 'auto' }[$('theme').dataset.is]))
	$('key-form').addEventListener('submit', (e) => {
		e.preventDefault()
		const key = $('key').value.trim()
		$('key').value = ''
		if (!KEY.test(key)) return askKey(BAD_KEY)
		page.key = key
		begin(null)
	})
	const main = document.querySelector('main')
	main.addEventListener('scroll', () => (page.stick = main.scrollHeight - main.scrollTop - main.clientHeight < 60))
	window.addEventListener('pagehide', keep)
}

/** The key belongs to the input method (Safari says so by the code alone). */
function composes(e) {
	return e.isComposing || e.keyCode === 229
}

function giveUp() {
	if (page.recording) endRecording(false)
	else stop()
}

function stop() {
	for (const job of running()) job.cancel()
	$('text').focus()
}

function samples() {
	for (const { title, about, text, steer } of SAMPLES) {
		const li = document.createElement('li')
		const b = Object.assign(document.createElement('button'), { type: 'button', textContent: title })
		element(b, 'small', '').textContent = about
		b.addEventListener('click', () => {
			submit(text, steer)
			$('text').focus()
		})
		li.append(b)
		$('samples').append(li)
	}
}

async function start() {
	let colours = 'auto'
	try {
		colours = localStorage.getItem(`${STORE}-theme`) ?? 'auto'
	} catch {
		// as the system has them
	}
	theme(colours)
	wire()
	offerVoice()
	try {
		page.config = await (await fetch('chat/config')).json()
	} catch (e) {
		connection('closed', `No front: ${e.message}`)
		return
	}
	$('simulated').hidden = !page.config.simulated
	if (page.config.simulated) samples()
	if (page.config.own_key) await begin(kept())
	else askKey()
}

start()
