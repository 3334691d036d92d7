// Node's own servers for peers.c: node.mjs h2|h1|late PORT CERT KEY (late: TLS without HTTP/2 until SIGUSR2, with it from then on). POST /stream/N/MS answers N lines, one every MS;
// POST /late/N/MS too, and ends MS after the last; POST /stats says how many streams their client ended. SIGTERM ends it in good order.
import fs from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';

const [how, port, cert, key] = process.argv.slice(2);
const sessions = new Set();
let cancelled = 0;

function answer(req, res) {
	req.resume();
	req.on('end', () => {
		const [, what, n, ms] = req.url.split('/');
		if (what === 'stats') return res.end(String(cancelled));
		if (what === 'version') return res.end(req.httpVersion);
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

const tls = how === 'h1' ? {} : { cert: fs.readFileSync(cert), key: fs.readFileSync(key) };
let server =
	how === 'h2'
		? http2.createSecureServer(tls, answer)
		: how === 'late'
			? https.createServer({ ...tls, ALPNProtocols: ['http/1.1'] }, answer)
			: http.createServer(answer);
process.on('SIGUSR2', () => {
	server.close(() => {
		server = http2.createSecureServer({ ...tls, allowHTTP1: true }, answer);
		server.listen(Number(port), '127.0.0.1');
	});
	server.closeAllConnections();
});
server.on('session', (session) => {
	sessions.add(session);
	session.on('close', () => sessions.delete(session));
});
process.on('SIGTERM', () => {
	server.close();
	for (const session of sessions) session.close();
});
server.listen(Number(port), '127.0.0.1');
