// The looks of make bench-slow: see tests/bench/slow and README.md.

import { SlowReaders } from '../support/slow.mjs'
import { Stack } from '../support/stack.mjs'
import { until } from '../support/test.mjs'

const [READERS, RATE, LOOKS, SECONDS_EACH, SLOW] = ['READERS', 'RATE', 'LOOKS', 'SECONDS_EACH', 'SLOW'].map((name) => Number(process.env[name]))
const stack = await Stack.open()
const id = 'sluice-push-1'
const scene = new SlowReaders(stack, { url: stack.push, pid: stack.pid(id), readers: READERS })
const paused = () => stack.metric(id, 'sluice_push_paused_total')
let wrong = 0

async function looks(words, count) {
	const all = []
	for (let i = 0; i < count; i++) {
		const l = await scene.look({ rate: RATE, tokens: RATE * SECONDS_EACH })
		console.log(`${words}  p50 ${l.p50.toFixed(2)} ms  p99 ${l.p99.toFixed(2)} ms  of ${l.timed}, ${l.wrong} readers wrong; push ${l.cpu_ms.toFixed(0)} ms of processor, ${(l.rss_kib / 1024).toFixed(1)} MiB, kernel's TCP ${(l.tcp_kib / 1024).toFixed(1)} MiB`)
		wrong += l.wrong
		all.push(l)
	}
	return all
}

const spread = (list) => {
	const l = [...list].sort((a, b) => a - b)
	return [l[0], l[Math.floor((l.length - 1) / 2)], l.at(-1)].map((v) => v.toFixed(2)).join(' / ')
}

await looks('warm-up  ', 1)
const without = await looks('without  ', LOOKS)
await scene.add(SLOW)
await until('the queues of the slow ones are full', async () => (await paused()) >= SLOW, 120000)
const beside = await looks(`slow ${SLOW}`, LOOKS)
scene.close()
console.log('\nmin / median / max')
for (const [words, l] of [['without', without], [`beside ${SLOW}`, beside]]) console.log(`${words}: p50 ms ${spread(l.map((x) => x.p50))}; p99 ms ${spread(l.map((x) => x.p99))}; push's processor ms ${spread(l.map((x) => x.cpu_ms))}; MiB ${spread(l.map((x) => x.rss_kib / 1024))}`)
console.log(`${((beside.at(-1).rss_kib - without.at(-1).rss_kib) / SLOW).toFixed(0)} KiB resident for each slow reader; ${wrong} readers without each byte once`)
process.exit(wrong ? 1 : 0)
