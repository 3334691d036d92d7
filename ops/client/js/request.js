// What a job must be before it is sent: JSON that the server reads. What it is not is told here, by its place, and nothing of it is
// changed silently. Knows no connection.

import { SluiceError } from './note.js'

const TEXT_BYTES_MAX = 1 << 20 // what one message may hold; the server closes with 1009 above it
const REF_BYTES_MAX = 64
const LEVELS_MAX = 64 // of objects and lists in one message
const JOB_LEVEL = 2 // it stands in the message's object
const NO_TEXT = /[\0\p{Surrogate}]/u // NUL, and half of a surrogate pair: no reader of JSON need take them

const encoder = new TextEncoder()

const invalid = (message, param) => new SluiceError('invalid_request', param ? `${param} ${message}` : message, { param })

function checkText(text, param) {
	const at = text.search(NO_TEXT)
	if (at < 0) return
	const what = text[at] === '\0' ? 'the character U+0000' : 'half of a character, as where an emoji is cut in two,'
	throw invalid(`has ${what} at ${at}`, param)
}

function checkValue(value, param, level) {
	if (typeof value === 'string') checkText(value, param)
	if (value === null || typeof value !== 'object') return
	if (level > LEVELS_MAX) throw invalid(`the job is nested more than ${LEVELS_MAX - JOB_LEVEL + 1} levels deep`)
	for (const [key, one] of Object.entries(value)) {
		checkText(key, param || 'a key of the job')
		checkValue(one, Array.isArray(value) ? `${param}[${key}]` : param ? `${param}.${key}` : key, level + 1)
	}
}

function checkRef(ref) {
	if (typeof ref !== 'string') throw invalid('must be a string', 'ref')
	checkText(ref, 'ref')
	const { length } = encoder.encode(ref)
	if (length < 1 || length > REF_BYTES_MAX) throw invalid(`must have 1 to ${REF_BYTES_MAX} bytes`, 'ref')
}

/** The message that submits `job` under `ref`. Throws a SluiceError `invalid_request` or `too_large`; TypeError where it is no JSON at all. */
export function submission(ref, job) {
	let text
	checkRef(ref)
	try {
		text = JSON.stringify({ op: 'submit', ref, job })
	} catch (e) {
		if (e instanceof TypeError) throw e
		throw invalid(`the job cannot be written as JSON: ${e.message}`) // the engine's own limit of nesting
	}
	if (text.length > TEXT_BYTES_MAX || encoder.encode(text).length > TEXT_BYTES_MAX) throw new SluiceError('too_large', 'the job is larger than 1 MiB')
	checkValue(JSON.parse(text).job, '', JOB_LEVEL) // as it will be read
	return text
}
