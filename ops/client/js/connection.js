// The connection to a node, kept: it dials with a fresh credential, reconnects with full jitter, leaves a node that drains, notices a
// connection that died in silence, a tab that slept and a network that went. Knows no job: what it hears it hands to its owner.
//
//   connecting ──▶ open ──▶ waiting (back-off) ──▶ connecting …
//        └────────────┴────────┴──▶ closed (close(), or a code from 3500 on)

import { SluiceError } from './note.js'

const PROTOCOL = 'sluice.v1'
const WELCOME_MS = 15000 // no welcome within this: the connection is given up
const PONG_MS = 10000 // no word after a ping; short where there is a reason to doubt
export const DOUBT_MS = 4000
export const LATE_MS = 2000 // a timer that is so late ran in a tab that slept or is throttled
const STOOD_MS = 5000 // a connection that stood so long was a good one: the back-off begins anew
const DRAIN_GRACE_MS = 1000 // the node said when it goes; it is left then, so much later at the latest
const FINAL = new Set([1002, 1003, 1007, 1008, 1009, 1010]) // codes of RFC 6455 that say that what was sent will never do

const encoder = new TextEncoder()

/**
 * Its owner answers `session()` (for the credential) and `hello()` (the first message of each connection), and is told
 * `changed(detail)` {state, code, reason, retryInMs}, `welcome(event)`, `standing()` (behind it, when the state is open),
 * `event(event)` (any other), `lost()`, `closed(because)` (for good: {code, reason, error}).
 */
export class Connection {
	#owner
	#options
	#env
	#link = null
	#failures = 0
	#retry = null
	#round = 0
	#listening = []

	constructor(owner, options, env) {
		this.#owner = owner
		this.#options = options
		this.#env = env
		this.state = 'closed'
	}

	/** Connects, and stays connected until close(). */
	open() {
		this.#failures = 0
		this.#listen()
		this.#connect()
	}

	close() {
		this.#stop(1000, 'closed here', null)
	}

	/** The node has greeted. */
	get stands() {
		return this.#link?.stands ?? false
	}

	/** It takes submissions: a node that drains takes none any more. */
	get takes() {
		return this.stands && !this.#link.draining
	}

	/** Text or bytes; false where it does not stand. */
	send(data) {
		if (!this.stands) return false
		this.#link.socket.send(data)
		return true
	}

	/** A timer of this connection: nothing comes of it after the connection's end. */
	later(ms, fn) {
		const link = this.#link
		this.#env.setTimeout(() => this.#link === link && fn(), ms)
	}

	/** The node goes away in `ms`. */
	drain(ms) {
		this.#link.draining = true
		this.later(ms + DRAIN_GRACE_MS, () => this.#cut('the node goes away', 3000))
	}

	#say(state, more = {}) {
		this.state = state
		this.#owner.changed({ state, ...more })
	}

	async #connect() {
		const round = ++this.#round
		this.#env.clearTimeout(this.#retry)
		this.#say('connecting')
		if (round !== this.#round) return
		this.#retry = this.#env.setTimeout(() => {
			this.#round++
			this.#wait('no credential in time')
		}, WELCOME_MS)
		let token
		try {
			const { credential } = this.#options
			token = typeof credential === 'function' ? await credential({ session: this.#owner.session() }) : credential
		} catch (e) {
			if (round !== this.#round) return
			this.#env.clearTimeout(this.#retry)
			if (e?.final) this.#stop(3500, e.message, e)
			else this.#wait(`no credential: ${e?.message ?? e}`)
			return
		}
		if (round !== this.#round || this.state !== 'connecting') return
		this.#env.clearTimeout(this.#retry)
		this.#dial(token)
	}

	#dial(token) {
		const env = this.#env
		const link = { heardAt: env.now(), stands: false, probes: 0, draining: false, beat: null }
		this.#link = link
		const mine = (fn) => (event) => this.#link === link && fn(event)
		try {
			link.socket = new env.WebSocket(this.#options.url, [PROTOCOL, `sluice.token.${base64url(token)}`])
		} catch (e) {
			this.#stop(3501, e.message, e) // the URL is none
			return
		}
		link.socket.onopen = mine(() => link.socket.send(JSON.stringify(this.#owner.hello())))
		link.socket.onmessage = mine((event) => this.#heard(event.data))
		link.socket.onclose = mine((event) => this.#lost(event.code, event.reason))
		link.socket.onerror = () => {} // close follows
		this.#beat(WELCOME_MS)
	}

	#heard(data) {
		const link = this.#link
		link.heardAt = this.#env.now()
		link.probes = 0
		if (typeof data !== 'string') return
		let e = null
		try {
			e = JSON.parse(data)
		} catch {} // told below
		if (e === null || typeof e !== 'object') return this.#cut('not a JSON object')
		if (e.ev === 'welcome') this.#welcome(e)
		else if (link.stands) this.#owner.event(e)
	}

	#welcome(e) {
		const link = this.#link
		link.stands = true
		link.pingMs = e.ping_ms ?? 25000
		link.welcomedAt = this.#env.now()
		this.#beat(link.pingMs)
		this.#owner.welcome(e)
		if (this.#link !== link) return
		this.#say('open')
		if (this.#link === link) this.#owner.standing()
	}

	/** The connection is given up from this side. */
	#cut(reason, code = 1006) {
		const { socket } = this.#link
		this.#lost(code, reason)
		try {
			socket.close(code === 1006 ? 4000 : code)
		} catch {
			// it was closed already
		}
	}

	#lost(code, reason) {
		const link = this.#link
		this.#link = null
		this.#owner.lost()
		this.#env.clearTimeout(link.beat)
		if ((code >= 3500 && code < 4000) || FINAL.has(code)) {
			this.#stop(code, reason, new SluiceError('closed', reason || `closed with ${code}`, { code }))
			return
		}
		const stood = link.welcomedAt !== undefined && this.#env.now() - link.welcomedAt >= STOOD_MS
		if (stood || link.draining) this.#failures = 0
		this.#wait(reason, code, link.draining ? 0 : undefined)
	}

	/** Back-off with full jitter: any time up to the first wait, doubled with each failure. */
	#wait(reason, code = 1006, ms) {
		const { retryFirstMs, retryMaxMs } = this.#options
		const most = Math.min(retryMaxMs, retryFirstMs * 2 ** Math.min(this.#failures++, 20))
		let wait = ms ?? this.#env.random() * most
		// Without a network it is tried rarely, since `onLine` may be wrong; `online` wakes it.
		if (this.#env.navigator?.onLine === false) wait = Math.max(wait, retryMaxMs)
		this.#say('waiting', { code, reason, retryInMs: Math.round(wait) })
		if (this.state !== 'waiting') return
		this.#env.clearTimeout(this.#retry)
		this.#retry = this.#env.setTimeout(() => this.#connect(), wait)
	}

	#stop(code, reason, error) {
		if (this.state === 'closed') return
		const link = this.#link
		this.#round++
		this.#link = null
		this.#env.clearTimeout(this.#retry)
		for (const [target, type, fn] of this.#listening.splice(0)) target.removeEventListener(type, fn)
		if (link) {
			this.#env.clearTimeout(link.beat)
			try {
				link.socket?.close(1000)
			} catch {
				// it was closed already
			}
		}
		this.state = 'closed'
		this.#owner.closed({ code, reason, error })
	}

	// ── signs of life ──

	#beat(ms) {
		const link = this.#link
		const due = this.#env.now() + ms
		this.#env.clearTimeout(link.beat)
		link.beat = this.#env.setTimeout(() => this.#link === link && this.#look(this.#env.now() - due > LATE_MS), ms)
	}

	/** @late: the timer itself is no witness of time, since what came meanwhile may wait behind it; so once more it is asked. */
	#look(late) {
		const link = this.#link
		const silent = Math.max(0, this.#env.now() - link.heardAt)
		if (!link.stands) {
			if (late && !link.doubted) {
				link.doubted = true
				this.#beat(DOUBT_MS)
			} else this.#cut('no welcome in time')
		} else if (link.probes && (!late || link.probes > 1)) this.#cut('no sign of life')
		else if (link.probes || silent >= link.pingMs) this.#probe(late ? DOUBT_MS : PONG_MS)
		else this.#beat(link.pingMs - silent)
	}

	#probe(ms) {
		this.#link.probes++
		this.#beat(ms)
		this.send(JSON.stringify({ op: 'ping' }))
	}

	/** Something changed around: whether the connection lives is asked now, and a wait is over soon. */
	#wake() {
		if (this.state === 'waiting') {
			this.#env.clearTimeout(this.#retry)
			this.#retry = this.#env.setTimeout(() => this.#connect(), this.#env.random() * this.#options.retryFirstMs)
		} else if (this.stands && !this.#link.probes) this.#probe(DOUBT_MS)
	}

	#listen() {
		const { window, document } = this.#env
		const on = (target, type, fn) => {
			if (!target?.addEventListener) return
			target.addEventListener(type, fn)
			this.#listening.push([target, type, fn])
		}
		on(window, 'online', () => this.#wake())
		on(window, 'offline', () => this.state === 'open' && this.#wake())
		on(document, 'visibilitychange', () => document.visibilityState === 'visible' && this.#wake())
		on(document, 'resume', () => this.#wake())
		// A page in the browser's cache of pages must hold no connection.
		on(window, 'pagehide', (event) => {
			if (!event.persisted) return
			if (this.#link) this.#cut('the page is put away')
			else if (this.state === 'connecting') {
				this.#round++ // a credential that comes now is not waited for
				this.#wait('the page is put away')
			}
			this.#env.clearTimeout(this.#retry)
		})
		on(window, 'pageshow', (event) => event.persisted && this.#wake())
	}
}

function base64url(text) {
	let bytes = ''
	for (const b of encoder.encode(text)) bytes += String.fromCharCode(b)
	return btoa(bytes).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
}
