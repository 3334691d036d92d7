// A world for the browser's client: time that stands until it is advanced, chance from a seed, a WebSocket without a network, and a
// server that knows the protocol. Honest by itself; `Mischief` makes it cut, repeat and leave out.

import { Answer, Sluice } from '../../../../../ops/client/js/sluice.js'

const encoder = new TextEncoder()

/** Mulberry32: 32 bits of state are enough for a test's choices. */
export class Chance {
	constructor(seed) {
		this.state = seed >>> 0
	}
	random() {
		this.state = (this.state + 0x6d2b79f5) >>> 0
		let t = this.state
		t = Math.imul(t ^ (t >>> 15), t | 1)
		t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
		return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
	}
	below(n) {
		return Math.floor(this.random() * n)
	}
	one(of) {
		return of[this.below(of.length)]
	}
}

/** Promises that are ready have run. */
export async function settle() {
	for (let i = 0; i < 12; i++) await null
}

export class Time {
	now = 1000
	timers = new Map()
	next = 1
	late = 0 // a throttled or sleeping tab: timers fire so late

	set(fn, ms) {
		this.timers.set(this.next, { fn, at: this.now + Math.max(0, ms) })
		return this.next++
	}
	clear(timer) {
		this.timers.delete(timer)
	}
	async advance(ms) {
		const end = this.now + ms
		for (;;) {
			await settle()
			let first
			for (const [id, t] of this.timers) if (!first || t.at < first.at) first = { id, ...t }
			if (!first || first.at + this.late > end) break
			this.timers.delete(first.id)
			this.now = Math.max(this.now, first.at + this.late)
			first.fn()
		}
		this.now = Math.max(this.now, end)
		await settle()
	}
	/** The tab is frozen: time goes on, nothing runs. */
	freeze(ms) {
		this.now += ms
	}
}

/** One end of a connection: the browser's WebSocket. `server` has connected(socket), heard(socket, message), left(socket, code). */
export function sockets(server) {
	return class {
		constructor(url, protocols) {
			Object.assign(this, { url, protocols, sent: [], over: false })
			server.connected(this)
		}
		send(data) {
			if (this.over) return
			const message = typeof data === 'string' ? JSON.parse(data) : data
			this.sent.push(message)
			server.heard(this, message)
		}
		close(code) {
			if (this.over) return
			this.over = true
			server.left(this, code)
		}
		// what the server does
		accept() {
			if (!this.over) this.onopen({})
		}
		say(message) {
			if (!this.over) this.onmessage({ data: JSON.stringify(message) })
		}
		drop(code = 1006, reason = '') {
			if (this.over) return
			this.over = true
			this.onclose({ code, reason })
		}
	}
}

/** A client on fakes: {client, time, server, env, window, document, navigator}. */
export function begin(server, options = {}, seed = 1) {
	const time = server.time ?? new Time()
	const chance = new Chance(seed)
	const window = new EventTarget()
	const document = Object.assign(new EventTarget(), { visibilityState: 'visible' })
	const navigator = { onLine: true }
	server.time = time
	const env = {
		WebSocket: sockets(server),
		setTimeout: (fn, ms) => time.set(fn, ms),
		clearTimeout: (timer) => time.clear(timer),
		now: () => time.now,
		random: () => chance.random(),
		window,
		document,
		navigator,
	}
	const client = new Sluice({ url: 'wss://host/v1/ws', credential: 'tk-sluice-x', env, ...options })
	return { client, time, chance, window, document, navigator, server }
}

/** A server by hand: connections are accepted and greeted, everything else is the test's. */
export class Hand {
	all = []
	session = 'ses_1'
	connected(socket) {
		this.all.push(socket)
		this.time.set(() => socket.accept(), 1)
	}
	heard(socket, message) {
		if (message.op === 'hello') socket.say({ ev: 'welcome', session: this.session, resume: `r${this.all.length}`, ping_ms: 25000, bin_next: 1 })
		if (message.op === 'ping' && !this.deaf) socket.say({ ev: 'pong' })
	}
	left(socket, code) {
		socket.leftWith = code
	}
	get last() {
		return this.all.at(-1)
	}
	/** Ops of this name that the newest connection heard. */
	ops(op, socket = this.last) {
		return socket.sent.filter((m) => m.op === op)
	}
}

/** Cuts a text into pieces at code points, as a server would. */
export function pieces(text, chance) {
	const points = [...text]
	const list = []
	for (let i = 0, at = 0; i < points.length; ) {
		const n = 1 + chance.below(6)
		const piece = points.slice(i, i + n).join('')
		list.push({ at, text: piece })
		at += encoder.encode(piece).length
		i += n
	}
	return list
}

export { Answer, Sluice }
