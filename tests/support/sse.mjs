// Server-Sent Events, read as the standard says, over fetch.

/** Yields {event, data (parsed JSON, or the text where it is none), id, comment} from a fetch response's body. */
export async function* events(response) {
	const decoder = new TextDecoder('utf-8', { fatal: true })
	let rest = ''
	let event = ''
	let data = []
	let id
	for await (const chunk of response.body) {
		rest += decoder.decode(chunk, { stream: true })
		const lines = rest.split('\n')
		rest = lines.pop()
		for (let line of lines) {
			if (line.endsWith('\r')) line = line.slice(0, -1)
			if (line === '') {
				if (data.length) yield { event: event || 'message', data: parse(data.join('\n')), id }
				event = ''
				data = []
				continue
			}
			if (line.startsWith(':')) {
				yield { event: 'comment', comment: line.slice(1).trim() }
				continue
			}
			const colon = line.indexOf(':')
			const field = colon < 0 ? line : line.slice(0, colon)
			let value = colon < 0 ? '' : line.slice(colon + 1)
			if (value.startsWith(' ')) value = value.slice(1)
			if (field === 'event') event = value
			else if (field === 'data') data.push(value)
			else if (field === 'id') id = value
		}
	}
}

function parse(text) {
	try {
		return JSON.parse(text)
	} catch {
		return text
	}
}
