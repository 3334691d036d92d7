// The WebSocket sluice.v1 by hand, frame by frame: for what a library would not send.

import { randomBytes } from 'node:crypto'
import { Raw } from './http.mjs'
import { until } from './test.mjs'

/** An upgraded connection without a library: {raw, head}. */
export async function upgraded(stack, extra = '', url = stack.push.replace('ws:', 'http:')) {
	const raw = await Raw.open(url)
	raw.write(
		`GET /v1/ws HTTP/1.1\r\nhost: ${raw.host}\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n` +
			`sec-websocket-key: ${randomBytes(16).toString('base64')}\r\nauthorization: Bearer ${stack.key}\r\n${extra}\r\n`,
	)
	return { raw, head: await raw.next({ head: true }) }
}

/** One masked frame of at most 125 bytes, its first byte as given. */
export function frame(first, payload, { mask = true } = {}) {
	const bytes = Buffer.from(payload)
	const key = randomBytes(4)
	const body = mask ? bytes.map((b, i) => b ^ key[i % 4]) : bytes
	return Buffer.concat([Buffer.from([first, (mask ? 0x80 : 0) | bytes.length]), mask ? key : Buffer.alloc(0), body])
}

/** The header of a masked frame of `length` bytes whose payload does not come (its mask is 0). */
export function header(first, length) {
	const wide = length > 65535
	const head = Buffer.alloc(wide ? 14 : 8)
	head[0] = first
	head[1] = wide ? 0xff : 0xfe
	if (wide) head.writeBigUInt64BE(BigInt(length), 2)
	else head.writeUInt16BE(length, 2)
	return head
}

/** The whole frames that a server sent, from byte `at` on; each of less than 64 KiB. */
function* frames(buffer, at = 0) {
	while (buffer.length >= at + 2) {
		const n = buffer[at + 1] & 0x7f
		const head = at + (n === 126 ? 4 : 2)
		if (buffer.length < head) return
		const end = head + (n === 126 ? buffer.readUInt16BE(at + 2) : n)
		if (buffer.length < end) return
		yield { opcode: buffer[at] & 0x0f, payload: buffer.subarray(head, end), end }
		at = end
	}
}

/** Says hello by hand; returns what reads the server's next event of a name. */
export async function greeted(raw) {
	raw.write(frame(0x81, '{"op":"hello"}'))
	let at = 0
	const next = (ev) =>
		until(ev, () => {
			for (const { opcode, payload, end } of frames(raw.buffer, at)) {
				at = end
				if (opcode !== 1) continue
				const e = JSON.parse(payload.toString())
				if (e.ev === ev) return e
			}
			return false
		})
	await next('welcome')
	return next
}

/** The code of the close frame that the server sends; -1 where it ends the connection without one. */
export function closeCode(raw) {
	return until('the server closes', () => {
		for (const { opcode, payload } of frames(raw.buffer)) if (opcode === 8) return payload.readUInt16BE(0)
		return raw.over ? -1 : 0
	})
}
