/* Submits jobs to the front over keep-alive HTTP/1.1, for the benchmarks of the queue.
 *
 *   queue_client load FRONT KEY LANE MODEL COUNT CONNECTIONS
 *       Each connection posts a job when its last one was accepted. Prints "COUNT accepted_ms p50_ms p99_ms failed".
 *
 *   queue_client paced FRONT KEY LANE MODEL COUNT EVERY_MS PORT CERT KEY_FILE
 *       Posts a job every EVERY_MS and is itself the provider that it goes to, at https://127.0.0.1:PORT, so that one
 *       clock reads both ends. Prints "COUNT p50_ms p90_ms p99_ms max_ms failed": from the request's last byte written
 *       until the provider has it.
 *
 * FRONT is http://127.0.0.1:18000. A job counts as failed where the front does not say 202, or no call comes within
 * 30 s of the last post. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/net/conn.h"
#include "lib/net/http.h"
#include "lib/net/loop.h"

#define PACED_CONNECTIONS 64
#define PACED_WARM 20 /* jobs before, that do not count: the pool has to connect to its provider */
#define MARK "mark-"
#define LAST_WORDS_US 100000 /* the last answers' way to the pool, before their connections end */

struct bench;

struct link {
	struct bench *bench;
	struct conn *conn;
	struct buf out;
	struct buf in;
	size_t job; /* what was posted */
	bool busy;
	bool open;
};

struct bench {
	struct loop *loop;
	struct log log;
	char host[64];
	uint16_t port;
	const char *key;
	const char *lane;
	const char *model;
	size_t wanted;
	size_t posted;
	size_t answered;
	size_t failed;
	struct link *links;
	size_t link_count;
	uint64_t *sent_us;    /* of each job */
	uint64_t *elapsed_us; /* of each job: until accepted, or called where paced; 0: not yet */
	size_t measured;
	size_t served; /* calls that were answered */
	unsigned run;  /* in every mark: a job of an earlier run that comes again does not count */
	uint64_t began_us;
	uint64_t ended_us;
	bool paced;
	uint64_t every_us;
	struct timer tick;
	struct timer patience;
	struct timer last;
};

static void measured(struct bench *b, size_t job)
{
	uint64_t now = loop_fresh_us(b->loop);

	if (job >= b->posted || b->elapsed_us[job])
		return;
	b->elapsed_us[job] = now > b->sent_us[job] ? now - b->sent_us[job] : 1;
	b->ended_us = now;
	b->measured++;
}

static void ended(struct bench *b)
{
	if (b->answered + b->failed < b->wanted)
		return;
	if (!b->paced)
		loop_stop(b->loop);
	else if (b->measured + b->failed >= b->wanted && b->served + b->failed >= b->wanted)
		timer_set(&b->last, LAST_WORDS_US);
}

static void post(struct link *l)
{
	struct bench *b = l->bench;
	char body[512];
	int n = snprintf(body, sizeof(body),
			 "{\"kind\":\"chat\",\"lane\":\"%s\",\"model\":\"%s\",\"stream\":false,"
			 "\"max_tokens\":16,\"messages\":[{\"role\":\"user\",\"content\":\"" MARK
			 "%u-%zu;\"}]}",
			 b->lane, b->model, b->run, b->posted);

	buf_reset(&l->out);
	buf_reset(&l->in);
	buf_printf(&l->out,
		   "POST /v1/jobs HTTP/1.1\r\nhost: %s:%u\r\nauthorization: Bearer %s\r\n"
		   "content-type: application/json\r\ncontent-length: %d\r\n\r\n%s",
		   b->host, b->port, b->key, n, body);
	l->job = b->posted++;
	l->busy = true;
	b->sent_us[l->job] = loop_fresh_us(b->loop);
	conn_want(l->conn, CONN_WRITABLE | CONN_READABLE);
}

static void fail(struct link *l, const char *why)
{
	struct bench *b = l->bench;

	if (!b->failed++)
		fprintf(stderr, "queue_client: first failure: %s %.300s\n", why, buf_text(&l->in));
}

static void broken(struct link *l, const char *why)
{
	fprintf(stderr, "queue_client: a connection broke: %s\n", why);
	(void)l;
	exit(1);
}

/* A whole answer: head, and as many bytes as content-length says. */
static bool whole(struct link *l)
{
	struct str in = buf_str(&l->in);
	const char *end = in.len ? memmem(in.ptr, in.len, "\r\n\r\n", 4) : NULL;
	const char *length = end ? strcasestr(buf_text(&l->in), "\r\ncontent-length:") : NULL;

	if (!length)
		return false;
	return in.len >= (size_t)(end + 4 - in.ptr) + strtoul(length + 17, NULL, 10);
}

static void answered(struct link *l)
{
	struct bench *b = l->bench;

	l->busy = false;
	if (strncmp(buf_text(&l->in), "HTTP/1.1 202", 12)) {
		fail(l, "not accepted:");
	} else {
		b->answered++;
		if (!b->paced)
			measured(b, l->job);
	}
	if (!b->paced && b->posted < b->wanted)
		post(l);
	else
		conn_want(l->conn, CONN_READABLE);
	ended(b);
}

static void on_ready(void *ctx, struct conn *conn, unsigned events)
{
	struct link *l = ctx;
	ssize_t n;

	if (events & CONN_WRITABLE && l->out.len) {
		struct str out = buf_str(&l->out);

		n = conn_write(conn, out.ptr, out.len);
		if (n > 0)
			buf_take(&l->out, (size_t)n);
		else if (n != -EAGAIN)
			broken(l, "write");
		if (!l->out.len) {
			l->bench->sent_us[l->job] = loop_fresh_us(l->bench->loop);
			conn_want(conn, CONN_READABLE);
		}
	}
	if (!(events & CONN_READABLE))
		return;
	n = conn_read(conn, buf_room(&l->in, 4096), 4096);
	if (n == -EAGAIN)
		return;
	if (n <= 0)
		broken(l, n ? strerror((int)-n) : "closed by the front");
	buf_added(&l->in, (size_t)n);
	if (l->busy && whole(l))
		answered(l);
}

static void on_open(void *ctx, struct conn *conn)
{
	struct link *l = ctx;
	struct bench *b = l->bench;

	(void)conn;
	l->open = true;
	if (!b->began_us)
		b->began_us = loop_fresh_us(b->loop);
	if (!b->paced && b->posted < b->wanted)
		post(l);
}

static void on_failed(void *ctx, struct conn *conn, int error, const char *detail)
{
	(void)conn;
	(void)error;
	broken(ctx, detail);
}

/* ── paced, with the provider ────────────────────────────────────────────────────────────────────────── */

static void on_request(void *ctx, struct http_req *req)
{
	static const char answer[] =
	    "data: "
	    "{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{"
	    "\"index\":0,\"delta\":{\"content\":\"ok\"},\"finish_reason\":null}]}\n\n"
	    "data: "
	    "{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{"
	    "\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
	    "data: "
	    "{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[],"
	    "\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}\n\n"
	    "data: [DONE]\n\n";
	struct bench *b = ctx;
	struct str body = http_body(req);
	const char *at = body.len ? memmem(body.ptr, body.len, MARK, sizeof(MARK) - 1) : NULL;
	char *dash;

	/* what we wrote ourselves: digits, '-', digits, ';' */
	if (at && strtoul(at + sizeof(MARK) - 1, &dash, 10) == b->run && *dash == '-')
		measured(b, strtoul(dash + 1, NULL, 10));
	http_reply(req, 200, "text/event-stream", STR(answer));
}

static void on_done(void *ctx, struct http_req *req)
{
	struct bench *b = ctx;

	(void)req;
	b->served++;
	ended(b);
}

static void on_gone(void *ctx, struct http_req *req)
{
	(void)ctx;
	(void)req;
}

static void on_tick(struct timer *t)
{
	struct bench *b = container_of(t, struct bench, tick);
	uint64_t due, now = loop_fresh_us(b->loop);

	if (!b->links[0].open || !b->links[b->link_count - 1].open) {
		b->began_us = 0; /* not yet */
		timer_set(t, 10 * US_PER_MS);
		return;
	}
	if (b->posted == PACED_WARM && b->measured < PACED_WARM) {
		timer_set(t, 10 * US_PER_MS);
		return;
	}
	if (!b->began_us || b->posted == PACED_WARM)
		b->began_us = now - b->posted * b->every_us;
	for (size_t i = 0; i < b->link_count; i++)
		if (!b->links[i].busy) {
			post(&b->links[i]);
			break;
		}
	if (b->posted == b->wanted) {
		timer_set(&b->patience, 30 * US_PER_S);
		return;
	}
	/* by the clock, so that a slow answer does not thin the load out */
	due = b->began_us + b->posted * b->every_us;
	timer_set(t, due > now ? due - now : US_PER_MS);
}

static void on_last(struct timer *t)
{
	loop_stop(t->loop);
}

static void on_patience(struct timer *t)
{
	struct bench *b = container_of(t, struct bench, patience);

	fprintf(stderr, "queue_client: %zu of %zu jobs never reached the provider\n",
		b->wanted - b->measured, b->wanted);
	b->failed = b->wanted - b->measured;
	loop_stop(b->loop);
}

static int provide(struct bench *b, const char *port, const char *cert, const char *key)
{
	static const struct http_server_ops ops = {
	    .request = on_request, .gone = on_gone, .done = on_done};
	struct http_server_options options = http_server_defaults();
	struct http_server *server;
	cleanup_free char *listen = mem_printf("127.0.0.1:%s", port);

	options.listen = listen;
	options.cert_file = cert;
	options.key_file = key;
	options.http2 = true;
	options.idle_us = 600 * US_PER_S;
	timer_init(&b->tick, b->loop, on_tick);
	timer_init(&b->patience, b->loop, on_patience);
	timer_init(&b->last, b->loop, on_last);
	timer_set(&b->tick, 50 * US_PER_MS);
	return http_server_open(b->loop, &options, &ops, b, &b->log, &server);
}

/* ── both ────────────────────────────────────────────────────────────────────────────────────────────── */

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void print(struct bench *b)
{
	uint64_t *v = b->elapsed_us;
	size_t n = 0;

	for (size_t i = b->paced ? PACED_WARM : 0; i < b->wanted; i++)
		if (v[i])
			v[n++] = v[i];
	if (!n) {
		printf("%zu - - - - %zu\n", b->wanted, b->failed);
		return;
	}
	qsort(v, n, sizeof(*v), by_value);
	if (b->paced)
		printf("%zu %.2f %.2f %.2f %.2f %zu\n", n, (double)v[n / 2] / 1e3,
		       (double)v[n * 9 / 10] / 1e3, (double)v[n * 99 / 100] / 1e3,
		       (double)v[n - 1] / 1e3, b->failed);
	else
		printf("%zu %.1f %.2f %.2f %zu\n", b->wanted,
		       (double)(b->ended_us - b->began_us) / 1e3, (double)v[n / 2] / 1e3,
		       (double)v[n * 99 / 100] / 1e3, b->failed);
}

static int run(struct bench *b)
{
	static const struct conn_ops ops = {on_open, on_ready, on_failed};

	b->sent_us = mem_alloc(b->wanted * sizeof(*b->sent_us));
	b->elapsed_us = mem_alloc(b->wanted * sizeof(*b->elapsed_us));
	b->links = mem_alloc(b->link_count * sizeof(*b->links));
	for (size_t i = 0; i < b->link_count; i++) {
		b->links[i].bench = b;
		b->links[i].conn =
		    conn_connect(b->loop, b->host, b->port, NULL, NULL, &ops, &b->links[i]);
	}
	loop_run(b->loop);
	print(b);
	return b->failed ? 1 : 0;
}

int main(int argc, char **argv)
{
	struct log_sink sink = {.fd = 2, .level = LOG_ERROR};
	struct bench b = {.log = {.sink = &sink}};
	unsigned port;

	b.paced = argc == 11 && !strcmp(argv[1], "paced");
	if (!b.paced && (argc != 8 || strcmp(argv[1], "load")))
		return fprintf(stderr, "usage: see the head of tests/bench/queue_client.c\n"), 2;
	if (sscanf(argv[2], "http://%63[^:]:%u", b.host, &port) != 2)
		return fprintf(stderr, "queue_client: bad URL %s\n", argv[2]), 2;
	b.port = (uint16_t)port;
	b.run = (unsigned)getpid();
	b.key = argv[3];
	b.lane = argv[4];
	b.model = argv[5];
	b.wanted = strtoul(argv[6], NULL, 10);
	b.link_count = b.paced ? PACED_CONNECTIONS : strtoul(argv[7], NULL, 10);
	b.wanted += b.paced ? PACED_WARM : 0;
	b.every_us = strtoul(argv[7], NULL, 10) * US_PER_MS;
	if (!b.wanted || !b.link_count)
		return fprintf(stderr, "queue_client: counts start at 1\n"), 2;
	b.loop = loop_new(0);
	if (b.paced && provide(&b, argv[8], argv[9], argv[10]) < 0)
		return 1;
	return run(&b);
}
