// BullMQ end to end, for the queue benchmark:
//
//   node queue.mjs HOST PORT COUNT BATCH SLOTS
//
// This process adds COUNT jobs, BATCH at a time (1: `add`, 64 of them on their way; else `addBulk`); a second one works
// them off, SLOTS at once, doing nothing, and returns a result that Redis keeps. Prints "COUNT ms cpu_ms": from the first
// job added until the last is completed; the processor time of both processes meanwhile. WARM jobs before do not count.
import { fork } from 'node:child_process';
import { Queue, Worker } from 'bullmq';

const [host, port, count, batch, slots] = process.argv.slice(2);
const connection = { host, port: Number(port), maxRetriesPerRequest: null };
const total = Number(count);
const name = process.env.BENCH_QUEUE ?? `bench-${process.pid}`;
const IN_FLIGHT = 64;
const WARM = 2000;

async function work() {
	let done = 0;
	let before = process.cpuUsage();
	const worker = new Worker(name, async () => ({ text: 'done' }), { connection, concurrency: Number(slots) });
	worker.on('completed', () => {
		done++;
		if (done === WARM) process.send('warm');
		if (done === WARM + total) process.send({ cpu: process.cpuUsage(before) });
	});
	await worker.waitUntilReady();
	process.on('message', (m) => {
		if (m === 'begin') before = process.cpuUsage();
		else worker.close().then(() => process.exit(0));
	});
	process.send('ready');
}

const message = (e, kind) => new Promise((resolve) => e.once(kind, resolve));
const data = (i) => ({ lane: 'background', model: 'sleep-0ms', messages: [{ role: 'user', content: `mark-${i};` }] });

async function add(queue, jobs_wanted) {
	const size = Number(batch);
	let next = 0;
	const one = async () => {
		while (next < jobs_wanted) {
			const from = next;
			next += size;
			if (size === 1) {
				await queue.add('job', data(from));
			} else {
				const jobs = [];
				for (let i = from; i < Math.min(from + size, jobs_wanted); i++) jobs.push({ name: 'job', data: data(i) });
				await queue.addBulk(jobs);
			}
		}
	};
	await Promise.all(Array.from({ length: size === 1 ? IN_FLIGHT : 4 }, one));
}

async function lead() {
	const child = fork(process.argv[1], process.argv.slice(2), { env: { ...process.env, BENCH_QUEUE: name, BENCH_WORKER: '1' } });
	const queue = new Queue(name, { connection });
	await message(child, 'message');
	await queue.waitUntilReady();
	const warm = message(child, 'message');
	await add(queue, WARM);
	await warm;
	child.send('begin');
	const before = process.cpuUsage();
	const began = performance.now();
	const ended = message(child, 'message');
	await add(queue, total);
	const theirs = (await ended).cpu;
	const ms = performance.now() - began;
	const ours = process.cpuUsage(before);
	console.log(total, ms.toFixed(1), Math.round((theirs.user + theirs.system + ours.user + ours.system) / 1000));
	const gone = message(child, 'exit');
	child.send('end');
	await gone;
	await queue.obliterate({ force: true });
	await queue.close();
}

await (process.env.BENCH_WORKER ? work() : lead());
