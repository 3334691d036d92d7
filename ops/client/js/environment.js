// What is around the client: sockets, timers, time, chance, the page.

/** What a browser has, or Node; each part may be another (`env` of the options). */
export function surroundings() {
	const g = globalThis
	return {
		WebSocket: g.WebSocket,
		setTimeout: (fn, ms) => g.setTimeout(fn, ms),
		clearTimeout: (timer) => g.clearTimeout(timer),
		now: () => Date.now(), // goes on while the machine sleeps
		random: () => Math.random(),
		window: typeof g.addEventListener === 'function' ? g : undefined,
		document: g.document,
		navigator: g.navigator,
	}
}

/** Names this client among those of its session. */
export function chance(env) {
	let text = ''
	while (text.length < 12) text += Math.floor(env.random() * 36 ** 6).toString(36).padStart(6, '0')
	return text
}
