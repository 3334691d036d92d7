// The network between clients and a node, cut where it hurts: a TCP relay that lets so many bytes through to the client and no more.
//
//   rst    both ends are reset           fin    the client reads an orderly end, in the midst of a frame
//   mute   nothing passes any more, both ends stay open for `hold_ms`: neither is told
//   ghost  the client is gone, the node is not told: to it the client reads nothing, for `hold_ms`

import net from 'node:net'

export class Relay {
	/** Relays to `port` of loopback. `plan` says for each connection {after, how, hold_ms}; after: bytes to the client, Infinity for no cut. */
	static async open(port, plan = () => ({ after: Infinity })) {
		const r = new Relay()
		Object.assign(r, { target: port, plan, ends: new Set(), timers: new Set(), opened: 0, cuts: { rst: 0, fin: 0, mute: 0, ghost: 0 }, passed: 0 })
		r.server = net.createServer({ noDelay: true }, (near) => r.#join(near))
		await new Promise((resolve) => r.server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, resolve))
		r.port = r.server.address().port
		return r
	}

	#join(near) {
		const far = net.connect({ port: this.target, host: '127.0.0.1', noDelay: true })
		const { after, how, hold_ms = 0 } = this.plan()
		let left = after
		this.opened++
		for (const [one, other] of [[near, far], [far, near]]) {
			this.ends.add(one)
			one.on('error', () => {})
			one.on('close', () => {
				this.ends.delete(one)
				if (left > 0) other.destroy()
			})
		}
		near.pipe(far)
		far.on('data', (bytes) => {
			if (left <= 0) return
			const whole = bytes.length < left
			const some = whole ? bytes : bytes.subarray(0, left)
			left -= some.length
			this.passed += some.length
			if (whole) {
				if (near.write(some)) return
				far.pause()
				near.once('drain', () => far.resume())
			} else {
				near.write(some, () => this.#cut(near, far, how, hold_ms))
			}
		})
	}

	#cut(near, far, how, hold_ms) {
		this.cuts[how]++
		near.unpipe(far)
		if (how === 'mute' || how === 'ghost') {
			far.pause()
			near.pause()
			if (how === 'ghost') near.resetAndDestroy()
			const timer = setTimeout(() => {
				this.timers.delete(timer)
				near.resetAndDestroy()
				far.resetAndDestroy()
			}, hold_ms)
			this.timers.add(timer)
		} else {
			if (how === 'rst') near.resetAndDestroy()
			else near.end()
			far.resetAndDestroy()
		}
	}

	close() {
		for (const t of this.timers) clearTimeout(t)
		for (const s of this.ends) s.destroy()
		this.server.close()
	}
}
