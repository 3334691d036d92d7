// The client's rule, by itself: whatever order, repetition or loss, the text is a prefix of the true one, and in the end it is whole.

import assert from 'node:assert/strict'
import { run, test } from '../../../../support/test.mjs'
import { Answer, Chance, pieces } from './fake.mjs'

const encoder = new TextEncoder()
const WORDS = ['tide', ' ', 'ö', '€', '𝄞', '\n', 'é', '"', '\\', '\u0000', 'moon ', '潮', '🌊', "it's "]
const said = (chance, words) => Array.from({ length: words }, () => chance.one(WORDS)).join('')

test('a delta at the bytes that are there is taken; what is there already is dropped', () => {
	const a = new Answer()
	assert.equal(a.delta({ attempt: 1, at: 0, text: 'aö' }), 'taken')
	assert.equal(a.delta({ attempt: 1, at: 0, text: 'aö' }), 'dropped')
	assert.equal(a.delta({ attempt: 1, at: 1, text: 'öb' }), 'taken')
	assert.equal(a.text, 'aöb')
	assert.equal(a.bytes, 4)
})

test('a delta behind a gap changes nothing', () => {
	const a = new Answer(1, 'abc')
	assert.equal(a.delta({ attempt: 1, at: 4, text: 'x' }), 'gap')
	assert.equal(a.text, 'abc')
})

test('an overlap that would cut a character asks for the whole text', () => {
	const a = new Answer(1, 'ab')
	assert.equal(a.delta({ attempt: 1, at: 1, text: '€c' }), 'broken')
	assert.equal(a.text, 'ab')
})

test('a greater attempt starts over, also by a part or a seam; a smaller one is dropped', () => {
	const a = new Answer(1, 'old')
	assert.equal(a.delta({ attempt: 2, at: 0, text: 'new' }), 'taken')
	assert.equal(a.text, 'new')
	assert.equal(a.delta({ attempt: 1, at: 3, text: 'x' }), 'dropped')
	assert.equal(a.snapshot({ attempt: 1, text: 'x' }), false)
	assert.equal(a.part({ attempt: 1, at: 0, index: 0, type: 'text' }), false)
	assert.equal(a.text, 'new')
	assert.equal(a.seam({ attempt: 3, at: 0, provider: 'p', model: 'm' }), true)
	assert.equal(a.text, '')
	assert.equal(a.attempt, 3)
})

test('a reset counts whatever its attempt: a stored end may be an older one’s', () => {
	const a = new Answer(3, 'lost with Redis')
	assert.equal(a.reset({ attempt: 1 }), true)
	assert.equal(a.text, '')
	assert.equal(a.delta({ attempt: 1, at: 0, text: 'stored' }), 'taken')
	assert.equal(a.text, 'stored')
})

test('of a job that has ended the snapshot counts, whatever attempt was heard last', () => {
	const a = new Answer(5, 'later')
	assert.equal(a.snapshot({ attempt: 2, text: 'stored' }, true), true)
	assert.equal(a.text, 'stored')
	assert.equal(a.attempt, 2)
})

test('a seam is remembered once', () => {
	const a = new Answer(1, 'abc')
	assert.equal(a.seam({ attempt: 1, at: 3, provider: 'p', model: 'm' }), true)
	assert.equal(a.seam({ attempt: 1, at: 3, provider: 'p', model: 'm' }), false)
	assert.deepEqual(a.seams, [{ at: 3, provider: 'p', model: 'm' }])
})

test('2,000 histories of random cuts, overlaps, repetitions and gaps: always a prefix, in the end the text', () => {
	let gaps = 0
	let repeats = 0
	for (let seed = 1; seed <= 2000; seed++) {
		const chance = new Chance(seed)
		const truth = said(chance, 5 + chance.below(40))
		const list = pieces(truth, chance)
		const a = new Answer()
		for (let i = 0; i < list.length; ) {
			const what = chance.below(10)
			const from = what < 2 ? chance.below(i + 1) : what === 2 ? Math.min(list.length - 1, i + 1 + chance.below(3)) : i
			const upTo = Math.min(list.length, from + 1 + chance.below(3))
			const text = list.slice(from, upTo).map((p) => p.text).join('')
			const outcome = a.delta({ attempt: 1, at: list[from].at, text })
			assert.ok(truth.startsWith(a.text), `seed ${seed}`)
			assert.equal(a.bytes, encoder.encode(a.text).length, `seed ${seed}`)
			if (from > i) {
				assert.equal(outcome, 'gap', `seed ${seed}`)
				gaps++
			} else if (upTo > i) {
				assert.equal(outcome, 'taken', `seed ${seed}`)
				i = upTo
			} else {
				assert.equal(outcome, 'dropped', `seed ${seed}`)
				repeats++
			}
		}
		assert.equal(a.text, truth, `seed ${seed}`)
	}
	assert.ok(gaps > 1000 && repeats > 1000, `${gaps} gaps, ${repeats} repeats`)
})

test('a byte order mark is a character like any other, also where text overlaps', () => {
	const a = new Answer()
	a.delta({ attempt: 1, at: 0, text: 'a' })
	assert.equal(a.delta({ attempt: 1, at: 0, text: 'a\uFEFFb' }), 'taken')
	assert.equal(a.text, 'a\uFEFFb')
	assert.equal(a.bytes, 5)
})

await run(import.meta.url)
