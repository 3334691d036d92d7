// What watch.c wrote down of Kafka, read again: records of lanes as JSON, commits of groups as Kafka's own binary, and the set of
// completed offsets that a commit carries. Written from the formats' descriptions alone, so that a mistake of the services is not
// repeated here.

import { closeSync, fstatSync, openSync, readSync } from 'node:fs'

const PIECE = 1 << 22

/** Calls record({topic, partition, offset, ms, key, value}) (Buffers or null) and end({topic, partition, low, end}) for each. */
export function scan(path, { record, end }) {
	const fd = openSync(path, 'r')
	const size = fstatSync(fd).size
	let at = 0 // in the file, of the end of `have`
	let have = Buffer.alloc(0)
	let pos = 0
	const more = (want) => {
		while (have.length - pos < want && at < size) {
			const piece = Buffer.alloc(Math.max(PIECE, want))
			const n = readSync(fd, piece, 0, piece.length, at)
			if (!n) break
			at += n
			have = Buffer.concat([have.subarray(pos), piece.subarray(0, n)])
			pos = 0
		}
		return have.length - pos >= want
	}
	const take = (n) => {
		if (!more(n)) throw new Error(`${path} ends in the midst of a record`)
		pos += n
		return have.subarray(pos - n, pos)
	}
	for (;;) {
		more(512)
		const line = have.indexOf(10, pos)
		if (line < 0) break
		const [what, topic, partition, ...n] = have.toString('latin1', pos, line).split(' ')
		pos = line + 1
		const [a, b, keyLength, valueLength] = n.map(Number)
		if (what === 'E') {
			end({ topic, partition: Number(partition), low: a, end: b })
			continue
		}
		if (what !== 'R') throw new Error(`${path}: neither record nor end`)
		const key = keyLength < 0 ? null : Buffer.from(take(keyLength))
		const value = valueLength < 0 ? null : Buffer.from(take(valueLength))
		take(1)
		record({ topic, partition: Number(partition), offset: a, ms: b, key, value })
	}
	closeSync(fd)
}

class Reader {
	constructor(bytes) {
		this.bytes = bytes
		this.at = 0
	}
	i16() {
		return this.bytes.readInt16BE((this.at += 2) - 2)
	}
	i32() {
		return this.bytes.readInt32BE((this.at += 4) - 4)
	}
	i64() {
		return Number(this.bytes.readBigInt64BE((this.at += 8) - 8))
	}
	compact() {
		let n = 0
		for (let shift = 0; ; shift += 7) {
			const b = this.bytes[this.at++]
			n |= (b & 127) << shift
			if (b < 128) break
		}
		return n ? this.bytes.toString('utf8', this.at, (this.at += n - 1)) : ''
	}
	text() {
		const n = this.i16()
		return n < 0 ? '' : this.bytes.toString('utf8', this.at, (this.at += n))
	}
}

/**
 * A record of __consumer_offsets as a commit: {group, topic, partition, base, text}, null where it is something else (a group's
 * members, a deletion). Key versions 0 and 1 are offsets; values differ behind the offset: an epoch from version 3 on, compact strings from 4 on.
 */
export function commitOf({ key, value }) {
	if (!key || !value) return null
	const k = new Reader(key)
	if (k.i16() > 1) return null
	const commit = { group: k.text(), topic: k.text(), partition: k.i32() }
	const v = new Reader(value)
	const version = v.i16()
	commit.base = v.i64()
	if (version >= 3) v.i32() // leader epoch
	commit.text = version >= 4 ? v.compact() : v.text()
	return commit
}

/** The completed runs above @base, [[from, to)…], of a commit's text; throws where it is not such a text. */
export function runsOf(base, text) {
	const runs = []
	if (text === '') return runs
	if (!text.startsWith('1:')) throw new Error(`a set of another version: ${text.slice(0, 20)}`)
	if (text.length > 4096) throw new Error(`a set of ${text.length} bytes`)
	const bytes = Buffer.from(text.slice(2), 'base64')
	let at = base
	let done = false // runs alternate, not completed first
	for (let i = 0; i < bytes.length; done = !done) {
		let n = 0
		let scale = 1
		for (;;) {
			if (i >= bytes.length) throw new Error('a number ends in its midst')
			const b = bytes[i++]
			n += (b & 127) * scale
			scale *= 128
			if (b < 128) break
		}
		if (n <= 0) throw new Error('an empty run')
		if (done) runs.push([at, at + n])
		at += n
	}
	if (bytes.length && done) throw new Error('the last run is not a completed one')
	return runs
}
