// The network between two ends, as a test wants it: a TCP relay whose connections can be cut, and that can be away.

import net from 'node:net'

export class Proxy {
	/** Relays to `target` (a URL); listens on a free port of loopback. */
	static async open(target) {
		const p = new Proxy()
		const { hostname, port } = new URL(target)
		p.ends = new Set()
		p.away = false
		p.opened = 0
		p.server = net.createServer((near) => {
			if (p.away) return near.destroy()
			p.opened++
			const far = net.connect(Number(port), hostname)
			for (const [one, other] of [
				[near, far],
				[far, near],
			]) {
				p.ends.add(one)
				one.setNoDelay(true)
				one.on('error', () => {})
				one.on('close', () => {
					p.ends.delete(one)
					other.destroy()
				})
				one.pipe(other)
			}
		})
		await new Promise((resolve) => p.server.listen(0, '127.0.0.1', resolve))
		p.port = p.server.address().port
		return p
	}

	/** Every connection ends without a word. */
	cut() {
		for (const s of this.ends) s.destroy()
	}

	close() {
		this.cut()
		this.server.close()
	}
}
