// node's ws as a fan-out server: subscribers at /sub/CHANNEL, "CHANNEL TEXT" from /pub to all of the channel. The text is
// made once, and no compression is offered.

import { createServer } from 'node:http'
import { WebSocketServer } from 'ws'

const channels = new Map()
const http = createServer()
const wss = new WebSocketServer({ server: http, perMessageDeflate: false, clientTracking: false })

function publish(message) {
	const cut = message.indexOf(' ')
	const text = Buffer.from(message.slice(cut + 1))
	for (const s of channels.get(message.slice(0, cut)) ?? []) s.send(text, { binary: false })
}

wss.on('connection', (socket, req) => {
	if (req.url === '/pub') {
		socket.on('message', (data) => publish(data.toString()))
		return
	}
	const channel = req.url.slice('/sub/'.length)
	if (!channels.has(channel)) channels.set(channel, new Set())
	channels.get(channel).add(socket)
	socket.on('close', () => channels.get(channel).delete(socket))
})
http.listen({ port: 0, host: '127.0.0.1', backlog: 8192 }, () => console.log(http.address().port))
process.on('SIGTERM', () => process.exit(0))
