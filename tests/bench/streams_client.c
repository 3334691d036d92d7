/* What the client for providers costs by itself: so many streams at 30 tokens a second over HTTP/2 and TLS, against the
 * simulator in a process of its own.
 *
 *   streams_client URL CA_FILE STREAMS SECONDS
 *
 * First STREAMS streams run for SECONDS: processor time of this process, resident size. Then 5,000 short calls, 200 at once:
 * connections opened for them. One line each. Every answer is counted whole by its terminator. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/net/client.h"
#include "lib/net/loop.h"

#define SHORT_CALLS 5000
#define SHORT_AT_ONCE 200
#define LAST "message_stop"

struct bench;

struct stream {
	struct bench *bench;
	struct client_call *call;
	char tail[64]; /* the newest bytes */
	size_t tail_len;
};

struct bench {
	struct loop *loop;
	struct log_sink sink;
	struct log log;
	struct client *client;
	struct stream *streams;
	size_t open;
	size_t to_begin;
	size_t whole;
	size_t broken;
	uint64_t pieces;
	const char *prompt;
};

static void begin(struct stream *s);

static void on_data(void *ctx, struct str bytes)
{
	struct stream *s = ctx;
	size_t take = bytes.len < sizeof(s->tail) ? bytes.len : sizeof(s->tail);
	size_t keep = s->tail_len + take < sizeof(s->tail) ? s->tail_len : sizeof(s->tail) - take;

	s->bench->pieces++;
	memmove(s->tail, s->tail + s->tail_len - keep, keep);
	memcpy(s->tail + keep, bytes.ptr + bytes.len - take, take);
	s->tail_len = keep + take;
}

static void on_head(void *ctx, int status, const struct http_field *fields, size_t count)
{
	struct stream *s = ctx;

	(void)fields;
	(void)count;
	s->bench->broken += status != 200;
}

static void on_end(void *ctx, enum client_end end, const char *detail)
{
	struct stream *s = ctx;
	struct bench *b = s->bench;

	s->call = NULL;
	b->open--;
	if (end == CLIENT_DONE && memmem(s->tail, s->tail_len, LAST, strlen(LAST))) {
		b->whole++;
	} else {
		b->broken++;
		fprintf(stderr, "%s %s\n", client_end_name(end), detail);
	}
	if (b->to_begin)
		begin(s);
}

static void begin(struct stream *s)
{
	static const struct client_ops ops = {.head = on_head, .data = on_data, .end = on_end};
	static const struct http_field fields[] = {{STR("x-api-key"), STR("sk-1")},
						   {STR("anthropic-version"), STR("2023-06-01")},
						   {STR("content-type"), STR("application/json")}};
	struct bench *b = s->bench;
	char body[400];

	b->open++;
	b->to_begin--;
	s->tail_len = 0;
	snprintf(body, sizeof(body),
		 "{\"model\":\"claude-sonnet-4-5\",\"max_tokens\":100000,\"stream\":true,"
		 "\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}",
		 b->prompt);
	s->call = client_call(b->client, "POST", "/v1/messages", fields, countof(fields),
			      str_of(body), &ops, s);
}

static double cpu_s(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static double resident_mib(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	long pages = 0;

	if (!f || fscanf(f, "%*d %ld", &pages) != 1)
		exit(2);
	fclose(f);
	return (double)pages * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

static void turn_for(struct bench *b, uint64_t us)
{
	uint64_t until = loop_fresh_us(b->loop) + us;

	while (loop_fresh_us(b->loop) < until)
		loop_turn(b->loop, 10 * US_PER_MS);
}

static void run_streams(struct bench *b, size_t streams, uint64_t seconds)
{
	double idle = resident_mib(), cpu;
	uint64_t pieces, from;

	b->prompt = "[sim ttft=500 rate=30 tokens=100000]";
	b->to_begin = streams;
	for (size_t i = 0; i < streams; i++)
		begin(&b->streams[i]);
	turn_for(b, 3 * US_PER_S);
	cpu = cpu_s();
	pieces = b->pieces;
	from = loop_fresh_us(b->loop);
	turn_for(b, seconds * US_PER_S);
	double took = (double)(loop_fresh_us(b->loop) - from) / 1e6;
	double used = cpu_s() - cpu;
	struct client_stats stats = client_stats(b->client);

	printf("%zu streams: %u connections, %.0f pieces/s, %.1f %% of a core, %.2f us a piece, "
	       "resident %.1f "
	       "MiB (%.1f before)\n",
	       streams, stats.connections, (double)(b->pieces - pieces) / took, 100 * used / took,
	       1e6 * used / (double)(b->pieces - pieces), resident_mib(), idle);
	for (size_t i = 0; i < streams; i++) {
		if (b->streams[i].call)
			client_cancel(b->streams[i].call);
	}
	b->open = 0;
}

static void run_short(struct bench *b)
{
	struct client_stats before = client_stats(b->client), after;

	b->prompt = "[sim ttft=5 rate=0 tokens=5]";
	b->to_begin = SHORT_CALLS;
	for (size_t i = 0; i < SHORT_AT_ONCE; i++)
		begin(&b->streams[i]);
	while (b->open)
		loop_turn(b->loop, 10 * US_PER_MS);
	after = client_stats(b->client);
	printf("%d calls, %d at once: %zu whole, %zu broken, %.1f connections opened per 1,000, "
	       "newest set up in %.1f ms\n",
	       SHORT_CALLS, SHORT_AT_ONCE, b->whole, b->broken,
	       1000.0 * (double)(after.connections_opened - before.connections_opened) /
		   SHORT_CALLS,
	       (double)after.set_up_us / 1000);
}

int main(int argc, char **argv)
{
	static struct bench b;
	struct client_options o = client_defaults();
	size_t streams = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;

	if (argc < 5 || streams < SHORT_AT_ONCE) {
		fprintf(stderr,
			"streams_client URL CA_FILE STREAMS SECONDS (streams: %d at least)\n",
			SHORT_AT_ONCE);
		return 2;
	}
	b.loop = loop_new(0);
	b.sink = (struct log_sink){.fd = 2, .level = LOG_ERROR};
	b.log = (struct log){.sink = &b.sink, .key = "svc", .value = "bench"};
	b.streams = mem_alloc(streams * sizeof(*b.streams));
	for (size_t i = 0; i < streams; i++)
		b.streams[i].bench = &b;
	o.base_url = argv[1];
	o.ca_file = argv[2];
	o.streams_per_connection = 100;
	if (client_open(b.loop, &o, &b.log, &b.client) < 0)
		return 2;
	turn_for(&b, 300 * US_PER_MS);
	run_streams(&b, streams, strtoul(argv[4], NULL, 10));
	turn_for(&b, 300 * US_PER_MS);
	run_short(&b);
	client_close(b.client);
	loop_turn(b.loop, 0);
	loop_free(b.loop);
	mem_free(b.streams);
	return b.broken > 0;
}
