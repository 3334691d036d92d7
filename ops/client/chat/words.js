// An answer's text as elements. What marks it up (Markdown's simplest) is styled or hidden by the style sheet, and every character stays
// where it is: the elements' text is the answer's text, letter by letter, so that what is shown can be compared with what is stored.

const encoder = new TextEncoder()

function put(parent, text, name, tag = 'span') {
	if (!text) return
	if (!name) return parent.append(text)
	const e = document.createElement(tag)
	if (name !== 'plain') e.className = name
	e.append(text)
	parent.append(e)
}

/** **bold**, `code`. */
function inline(parent, text) {
	const marks = /(\*\*)(?=\S)([^*\n]+?)(\*\*)|(`)([^`\n]+)(`)/g
	let at = 0
	for (let m; (m = marks.exec(text)); at = marks.lastIndex) {
		put(parent, text.slice(at, m.index))
		put(parent, m[1] ?? m[4], 'mark')
		put(parent, m[2] ?? m[5], 'plain', m[1] ? 'strong' : 'code')
		put(parent, m[3] ?? m[6], 'mark')
	}
	put(parent, text.slice(at))
}

function line(parent, text) {
	const head = /^(#{1,4} )(.*)$/s.exec(text)
	const item = /^(\s*)([-*] )(.*)$/s.exec(text)
	if (head) {
		put(parent, head[1], 'mark')
		put(parent, head[2], 'head')
	} else if (item) {
		put(parent, item[1])
		const e = document.createElement('span')
		e.className = 'item'
		put(e, item[2], 'mark')
		inline(e, item[3])
		parent.append(e)
	} else inline(parent, text)
}

function block(parent, text) {
	// Fenced code, closed or still being written.
	const fences = /(^|\n)(```[^\n]*\n)([\s\S]*?)(\n```(?=\n|$)|$)/g
	let at = 0
	for (let m; (m = fences.exec(text)); at = fences.lastIndex) {
		lines(parent, text.slice(at, m.index) + m[1])
		put(parent, m[2], 'mark')
		put(parent, m[3], 'block', 'code')
		put(parent, m[4], 'mark')
		if (fences.lastIndex === m.index) fences.lastIndex++
	}
	lines(parent, text.slice(at))
}

function lines(parent, text) {
	for (const piece of text.split(/(?<=\n)/)) line(parent, piece)
}

/** Where byte `at` of the text's UTF-8 is in the string. */
export function index(text, at) {
	let low = 0
	let high = text.length
	while (low < high) {
		const mid = (low + high) >> 1
		if (encoder.encode(text.slice(0, mid)).length < at) low = mid + 1
		else high = mid
	}
	return low
}

/** Shows `answer` in `parent`, seams as rules between what two providers wrote. */
export function show(parent, answer) {
	const shown = document.createDocumentFragment()
	let from = 0
	for (const seam of answer.seams) {
		const to = index(answer.text, seam.at)
		block(shown, answer.text.slice(from, to))
		const rule = document.createElement('span')
		rule.className = 'seam'
		rule.dataset.says = `${seam.provider} goes on here`
		shown.append(rule)
		from = to
	}
	block(shown, answer.text.slice(from))
	parent.replaceChildren(shown)
}
