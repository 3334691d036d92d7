// Processes that run out of file descriptors: callers get an answer, connections that stand go on, the operator is warned.

import assert from 'node:assert/strict'
import net from 'node:net'
import { readFileSync } from 'node:fs'
import { Raw } from '../support/http.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'
import { Client } from '../support/ws.mjs'

const stack = await Stack.open()
const NOFILE = 140

async function few(program, section) {
	stack.nofile = NOFILE
	const service = await stack.more(program, `${program}-few-${process.pid}`, section, '--set', `${section}.listen=127.0.0.1:0`).finally(() => (stack.nofile = 0))
	service.log = () => readFileSync(`${stack.logs}/${service.id}.log`, 'utf8')
	service.port = Number([...service.log().matchAll(/listening.*?port=(\d+)/g)].at(-1)[1])
	return service
}

/** Sockets that say nothing, until one is refused; then some more. */
async function crowd(port) {
	const all = []
	let refused = 0
	for (let i = 0; i < NOFILE + 60; i++) {
		const socket = net.connect(port, '127.0.0.1')
		socket.on('error', () => {})
		socket.on('data', () => refused++)
		all.push(socket)
	}
	await until('some are refused', () => refused >= 50)
	return { all, leave: () => all.forEach((socket) => socket.destroy()) }
}

for (const [program, section] of [['sluice-push', 'push'], ['sluice-front', 'front']])
	test(`${program}: a limit below max_connections is told at the start; a caller beyond it gets a 503, and one that stands is served`, async () => {
		const service = await few(program, section)
		try {
			assert.match(service.log(), /warn.*max_connections does not fit in the limit of open files.*nofile=140/)
			const url = `ws://127.0.0.1:${service.port}/v1/ws`
			const one = section === 'push' && (await Client.hello(stack, {}, { url })).client
			const { leave } = await crowd(service.port)
			const caller = await Raw.open(`http://127.0.0.1:${service.port}`)
			const answer = await caller.next()
			assert.equal(answer.status, 503)
			assert.equal(answer.headers['retry-after'], '1')
			assert.equal(await caller.next(), null, 'closed')
			if (one) {
				one.send({ op: 'ping' })
				await one.next((e) => e.ev === 'pong')
				await assert.rejects(Client.hello(stack, {}, { url }), /503/)
			}
			leave()
			await until('there is room again', async () => (await fetch(`http://127.0.0.1:${service.port}/`)).status === 404)
			if (one) {
				await (await Client.hello(stack, {}, { url })).client.close()
				await one.close()
			}
			const warned = service.log().match(/warn.*out of file descriptors, callers are refused.*refused=1 /g)
			assert.equal(warned.length, 1)
		} finally {
			await service.end('SIGKILL')
		}
	})

await run(import.meta.url)
