// Partitions are added to a lane and to the results while everything runs: nothing is lost, and the new ones are read within a bounded time.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Books } from '../../support/books.mjs'
import { Stack } from '../../support/stack.mjs'
import { run, test, until } from '../../support/test.mjs'
import { Traffic } from '../../support/traffic.mjs'

const exec = promisify(execFile)
const TOP = fileURLToPath(new URL('../../..', import.meta.url))
const LIMIT_MS = 45000
const stack = await Stack.open()
const keys = await stack.keys(8) // whose jobs stand in most partitions

async function partitions(topic) {
	const { stdout } = await exec('kcat', ['-b', stack.kafka, '-L', '-t', topic])
	return Number(stdout.match(/with ([0-9]+) partitions/)[1])
}

/** By Kafka's own tool, as an operator would. */
function alter(topic, count) {
	return exec('java', ['-cp', `${TOP}/build/kafka/libs/*`, 'org.apache.kafka.tools.TopicCommand', '--bootstrap-server', stack.kafka, '--alter', '--topic', topic, '--partitions', String(count)])
}

test('partitions are added to lanes and results under load: nothing is lost, the new ones are read', async () => {
	const books = Books.open(stack, 'partitions')
	const traffic = new Traffic(stack, { name: `partitions-${Date.now().toString(36)}`, keys }).start()
	try {
		await until('the load stands', () => traffic.entries.length > 80, 60000)
		for (const topic of ['llm.interactive', 'llm.background', 'results']) {
			const before = await partitions(topic)
			await alter(topic, before + 4)
			const altered = Date.now()
			await until('the brokers say so', async () => (await partitions(topic)) === before + 4)
			const fresh = [0, 1, 2, 3].map((n) => before + n)
			if (topic === 'results') {
				const archived = async () => Number((await stack.sql(`SELECT count(*) FROM lane_offsets WHERE topic = 'results' AND partition >= ${before} AND next_offset > 0`))[0][0])
				await until('results stand in a new partition and are archived', async () => (await archived()) > 0, LIMIT_MS)
			} else {
				const lane = topic.slice(4)
				// whoever may be mapped to them, these are written to the new partitions
				await exec(`${books.bin}/tests/bench/fill`, [stack.kafka, lane, '40', 'claude-sonnet-4-5', 'org_0000000000000000000000000A', fresh.join()])
				const rows = async () => Number((await stack.sql(`SELECT count(*) FROM results WHERE log_topic = '${topic}' AND log_partition >= ${before}`))[0][0])
				await until('the jobs in the new partitions have ended', async () => (await rows()) >= 40, LIMIT_MS)
			}
			console.log(`        ${topic}: ${before} to ${before + 4} partitions; read from the new ones ${Date.now() - altered} ms after the change`)
			const told = () => traffic.entries.filter((e) => e.told).length
			const at = told()
			await until('the others go on', () => told() > at + 40, 60000)
		}
		await traffic.stop()
		await books.sound(traffic)
		const shards = await stack.sql(`SELECT log_topic, count(DISTINCT log_partition) FROM results GROUP BY 1 ORDER BY 1`)
		console.log(`        partitions with jobs: ${shards.map(([t, n]) => `${t} ${n}`).join(', ')}`)
		assert.ok(traffic.entries.length > 200, 'there was load')
	} finally {
		traffic.over = true
		books.end()
	}
}, { limit_ms: 400000 })

await run(import.meta.url)
