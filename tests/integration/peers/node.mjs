// Node's own servers for peers.c: node.mjs h2|h1 PORT CERT KEY. POST /stream/N/MS answers N lines, one every MS;
// POST /late/N/MS too, and ends MS after the last; POST /stats says how many streams their client ended. SIGTERM ends it in good order.
import fs from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';

const [how, port, cert, key] = process.argv.slice(2);
const sessions = new Set();
let cancelled = 0;

function answer(req, res) {
	req.resume();
	req.on('end', () => {
		const [, what, n, ms] = req.url.split('/');
		if (what === 'stats') return res.end(String(cancelled));
		let i = 0;
		let over = false;
		res.writeHead(200, { 'content-type': 'text/event-stream' });
		const timer = setInterval(() => {
			if (i < Number(n)) res.write(`data: ${String(i++).padStart(6, '0')}\n\n`);
			else i++;
			if (i < Number(n) + (what === 'late' ? 1 : 0)) return;
			over = true;
			clearInterval(timer);
			res.end();
		}, Number(ms));
		res.on('close', () => {
			clearInterval(timer);
			if (!over) cancelled++;
		});
	});
}

const server =
	how === 'h2'
		? http2.createSecureServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, answer)
		: http.createServer(answer);
server.on('session', (session) => {
	sessions.add(session);
	session.on('close', () => sessions.delete(session));
});
process.on('SIGTERM', () => {
	server.close();
	for (const session of sessions) session.close();
});
server.listen(Number(port), '127.0.0.1');
