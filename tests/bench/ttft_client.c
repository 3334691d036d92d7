/* Measures the time to first token over HTTP/1.1 streams of the OpenAI dialect: what it costs beyond what the simulator was told to wait.
 * The same client asks Sluice's front or the simulator itself, so that both are measured in the same way.
 *
 *   ttft_client NAME http://127.0.0.1:18000 KEY STREAMS SAMPLES [TTFT_MS RATE TOKENS [CA_FILE]]
 *
 * Lines of TTFT_HEADERS in the environment ("name: value", \n between them) go into each request.
 *
 * STREAMS run at once, each begins a new request when its last one ended, after a random pause, until SAMPLES are taken. Prints one line:
 * NAME STREAMS samples failed p50_ms p99_ms max_ms. A stream counts only when its answer was whole ("[DONE]"). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/net/conn.h"
#include "lib/net/loop.h"

struct bench;

struct stream {
	struct bench *bench;
	struct conn *conn;
	struct buf in;
	struct timer timer;
	uint64_t sent_us;
	size_t out_at;
	bool first_seen;
	bool bad;
	uint64_t ttft_us;
};

struct bench {
	struct loop *loop;
	struct log log;
	struct tls *tls;
	char host[64];
	uint16_t port;
	struct buf request;
	uint64_t told_us;
	uint64_t *samples;
	size_t wanted;
	size_t taken;
	size_t failed;
	size_t begun;
	size_t open;
};

static void begin(struct stream *s);

static void next(struct stream *s)
{
	struct bench *b = s->bench;

	conn_close(s->conn);
	s->conn = NULL;
	b->open--;
	if (b->begun < b->wanted)
		timer_set(&s->timer, rand_below(loop_rand(b->loop), 100 * US_PER_MS));
	else if (!b->open)
		loop_stop(b->loop);
}

static void finish(struct stream *s, bool whole)
{
	struct bench *b = s->bench;

	if (whole && s->first_seen)
		b->samples[b->taken++] = s->ttft_us > b->told_us ? s->ttft_us - b->told_us : 0;
	else if (!b->failed++)
		fprintf(stderr, "ttft_client: first failure: %.300s\n", buf_text(&s->in));
	next(s);
}

/* The first chunk with text in it. */
static void look(struct stream *s)
{
	struct str in = buf_str(&s->in);
	static const char mark[] = "\"content\":\"";
	const char *at = in.ptr;

	while (!s->first_seen &&
	       (at = memmem(at, (size_t)(in.ptr + in.len - at), mark, sizeof(mark) - 1))) {
		at += sizeof(mark) - 1;
		if (at < in.ptr + in.len && *at != '"') {
			s->first_seen = true;
			s->ttft_us = loop_fresh_us(s->bench->loop) - s->sent_us;
		}
	}
	if (memmem(in.ptr, in.len, "data: [DONE]", 12))
		finish(s, true);
	else if (s->first_seen && in.len > 4096)
		buf_take(&s->in, in.len - 64);
}

static void on_ready(void *ctx, struct conn *conn, unsigned events)
{
	struct stream *s = ctx;
	struct str request = buf_str(&s->bench->request);
	ssize_t n;

	if (events & CONN_WRITABLE && s->out_at < request.len) {
		n = conn_write(conn, request.ptr + s->out_at, request.len - s->out_at);
		if (n > 0)
			s->out_at += (size_t)n;
		else if (n != -EAGAIN) {
			finish(s, false);
			return;
		}
		if (s->out_at == request.len) {
			s->sent_us = loop_fresh_us(s->bench->loop);
			conn_want(conn, CONN_READABLE);
		}
	}
	if (!(events & CONN_READABLE))
		return;
	n = conn_read(conn, buf_room(&s->in, 16384), 16384);
	if (n > 0) {
		buf_added(&s->in, (size_t)n);
		look(s);
	} else if (n != -EAGAIN) {
		finish(s, false);
	}
}

static void on_open(void *ctx, struct conn *conn)
{
	(void)ctx;
	conn_want(conn, CONN_WRITABLE);
}

static void on_failed(void *ctx, struct conn *conn, int error, const char *detail)
{
	struct stream *s = ctx;

	(void)conn;
	buf_printf(&s->in, "%s: %s", strerror(-error), detail);
	finish(s, false);
}

static void begin(struct stream *s)
{
	static const struct conn_ops ops = {on_open, on_ready, on_failed};
	struct bench *b = s->bench;

	buf_reset(&s->in);
	s->out_at = 0;
	s->first_seen = false;
	b->begun++;
	b->open++;
	s->conn = conn_connect(b->loop, b->host, b->port, b->tls, NULL, &ops, s);
}

static void on_timer(struct timer *t)
{
	struct stream *s = container_of(t, struct stream, timer);

	if (s->bench->begun < s->bench->wanted)
		begin(s);
	else if (!s->bench->open)
		loop_stop(s->bench->loop);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void make_request(struct bench *b, const char *key, const char *rate, const char *tokens)
{
	char body[512];
	const char *more = getenv("TTFT_HEADERS");
	struct str lines = str_of(more ? more : ""), line;
	int n = snprintf(body, sizeof(body),
			 "{\"model\":\"gpt-5.4-mini\",\"stream\":true,\"messages\":[{\"role\":"
			 "\"user\",\"content\":"
			 "\"measure [sim ttft=%llu rate=%s tokens=%s]\"}]}",
			 (unsigned long long)(b->told_us / US_PER_MS), rate, tokens);

	buf_printf(
	    &b->request,
	    "POST /v1/chat/completions HTTP/1.1\r\nhost: %s:%u\r\nauthorization: Bearer %s\r\n"
	    "content-type: application/json\r\ncontent-length: %d\r\n",
	    b->host, b->port, key, n);
	while (lines.len && str_split(&lines, '\n', &line))
		buf_printf(&b->request, "%.*s\r\n", STR_FMT(line));
	buf_printf(&b->request, "\r\n%s", body);
}

int main(int argc, char **argv)
{
	struct log_sink sink = {.fd = 2, .level = LOG_ERROR};
	struct bench b = {.log = {.sink = &sink}};
	struct stream *streams;
	size_t count;
	unsigned port;
	bool secure;

	if (argc < 6)
		return fprintf(stderr, "usage: see the head of tests/bench/ttft_client.c\n"), 2;
	secure = strncmp(argv[2], "https://", 8) == 0;
	if (sscanf(argv[2] + (secure ? 8 : 7), "%63[^:]:%u", b.host, &port) != 2)
		return fprintf(stderr, "ttft_client: bad URL %s\n", argv[2]), 2;
	b.port = (uint16_t)port;
	count = (size_t)atol(argv[4]);
	b.wanted = (size_t)atol(argv[5]);
	b.told_us = (uint64_t)(argc > 6 ? atol(argv[6]) : 200) * US_PER_MS;
	make_request(&b, argv[3], argc > 7 ? argv[7] : "30", argc > 8 ? argv[8] : "50");
	b.loop = loop_new(0);
	if (secure && tls_client_new(argc > 9 ? argv[9] : NULL, "http/1.1", &b.log, &b.tls) < 0)
		return 1;
	b.samples = mem_alloc(b.wanted * sizeof(*b.samples));
	streams = mem_alloc(count * sizeof(*streams));
	for (size_t i = 0; i < count; i++) {
		streams[i].bench = &b;
		timer_init(&streams[i].timer, b.loop, on_timer);
		/* spread over one answer's length, so that streams do not march in step */
		timer_set(&streams[i].timer,
			  rand_below(loop_rand(b.loop), count < 10 ? 1000 : 2 * US_PER_S));
	}
	loop_run(b.loop);
	qsort(b.samples, b.taken, sizeof(*b.samples), by_value);
	if (!b.taken)
		return printf("%s %zu 0 %zu - - -\n", argv[1], count, b.failed), 1;
	printf("%s %zu %zu %zu %.2f %.2f %.2f\n", argv[1], count, b.taken, b.failed,
	       (double)b.samples[b.taken / 2] / 1000, (double)b.samples[b.taken * 99 / 100] / 1000,
	       (double)b.samples[b.taken - 1] / 1000);
	return b.failed ? 1 : 0;
}
