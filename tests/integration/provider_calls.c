/* The client for providers against the simulator, both on one loop, over TLS with HTTP/2 and in the clear with HTTP/1.1:
 * how many connections carry how many calls, what arrives byte for byte, and in which word each end is told. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/integration/client_parts.h"
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/net/client.h"
#include "lib/net/conn.h"
#include "lib/net/loop.h"
#include "lib/net/sse.h"
#include "tests/sim/answer.h"
#include "tests/sim/sim.h"

#define LIMIT_MS 20000
#define MODEL "claude-sonnet-4-5"

struct test {
	struct certificate own;
	struct loop *loop;
	struct sim sim;
	struct log_sink sink;
	struct log log;
	char url[64];
	enum client_http http;
	struct claims claims;
	int open;
};

struct asked {
	struct test *test;
	struct client_call *call;
	struct buf body;
	int status;
	int ended;
	int cancel_after; /* bytes; 0: never */
	enum client_end end;
};

static void claim(struct test *t, bool holds, const char *sentence)
{
	claims_note(&t->claims, holds, t->http == CLIENT_HTTP_1 ? "HTTP/1.1" : NULL, sentence);
}

/* Turns the loop until *@value is @target; false where that took too long. */
static bool turn_until(struct test *t, const int *value, int target)
{
	return turn_loop_until(t->loop, *value == target, LIMIT_MS * US_PER_MS);
}

static void on_head(void *ctx, int status, const struct http_field *fields, size_t count)
{
	struct asked *a = ctx;
	(void)fields;
	(void)count;
	a->status = status;
}

static void on_data(void *ctx, struct str bytes)
{
	struct asked *a = ctx;
	buf_add_str(&a->body, bytes);
	if (a->cancel_after && a->body.len >= (size_t)a->cancel_after) {
		client_cancel(a->call);
		a->ended = -1;
		a->test->open--;
	}
}

static void on_end(void *ctx, enum client_end end, const char *detail)
{
	struct asked *a = ctx;
	(void)detail;
	a->end = end;
	a->ended++;
	a->test->open--;
}

static const struct client_ops ops = {.head = on_head, .data = on_data, .end = on_end};

static void ask(struct test *t, struct client *client, struct asked *a, const char *prompt,
		bool stream)
{
	char body[512];
	const struct http_field fields[] = {{STR("x-api-key"), STR("sk-1")},
					    {STR("anthropic-version"), STR("2023-06-01")},
					    {STR("content-type"), STR("application/json")}};
	snprintf(body, sizeof(body),
		 "{\"model\":\"" MODEL "\",\"max_tokens\":100000,\"stream\":%s,"
		 "\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}",
		 stream ? "true" : "false", prompt);
	a->test = t;
	t->open++;
	a->call = client_call(client, "POST", "/v1/messages", fields, countof(fields), str_of(body),
			      &ops, a);
}

/* Of one client over HTTP/1.1. */
#define H1_CONNECTIONS 250

static struct client *open_client(struct test *t, const char *url, const char *ca)
{
	struct client_options o = client_defaults();
	struct client *client;
	o.base_url = url;
	o.ca_file = ca;
	o.http = t->http;
	o.connect_us = 2 * US_PER_S;
	if (t->http == CLIENT_HTTP_1)
		o.max_connections = H1_CONNECTIONS;
	if (client_open(t->loop, &o, &t->log, &client) < 0)
		exit(2);
	return client;
}

/* ---- what a stream says ---- */

static void on_event(void *ctx, struct str event, struct str data)
{
	struct buf *text = ctx;
	const char *mark = "\"text_delta\",\"text\":\"";
	const char *at;
	if (!str_is(event, "content_block_delta"))
		return;
	at = memmem(data.ptr, data.len, mark, strlen(mark));
	if (!at)
		return;
	at += strlen(mark);
	struct str inside = {at, (size_t)(data.ptr + data.len - 3 - at)};
	if (json_unescape(text, inside) != JSON_OK)
		buf_add_text(text, "?");
}

static bool answer_is(struct asked *a, const char *prompt, uint64_t tokens)
{
	struct buf text = {0};
	struct buf want = {0};
	struct sse sse = {0};
	sse_init(&sse, 65536, on_event, &text);
	bool whole = sse_feed(&sse, buf_str(&a->body)) == SSE_OK;
	sse_fini(&sse);
	sim_answer(STR(MODEL), str_of(prompt), tokens, &want);
	whole = whole && str_eq(buf_str(&text), buf_str(&want));
	buf_fini(&text);
	buf_fini(&want);
	return whole;
}

/* ---- the claims ---- */

static void many(struct test *t)
{
	enum { MANY = 500 };
	static struct asked asked[MANY];
	char prompt[MANY][64];
	struct client *client = open_client(t, t->url, t->own.cert);
	int good = 0;
	for (int i = 0; i < MANY; i++) {
		snprintf(prompt[i], sizeof(prompt[i]),
			 "essay %d [sim ttft=300 rate=200 tokens=100]", i);
		asked[i] = (struct asked){0};
		ask(t, client, &asked[i], prompt[i], true);
	}
	claim(t, turn_until(t, &t->open, 0), "500 streams at once all end");
	for (int i = 0; i < MANY; i++) {
		good += asked[i].ended == 1 && asked[i].end == CLIENT_DONE &&
			asked[i].status == 200 && answer_is(&asked[i], prompt[i], 100);
		buf_fini(&asked[i].body);
	}
	claim(t, good == MANY, "each holds byte for byte what was answered");
	struct client_stats stats = client_stats(client);
	printf("     %u connections\n", stats.connections);
	if (t->http == CLIENT_HTTP_1)
		claim(t, stats.connections_opened == H1_CONNECTIONS,
		      "they took as many connections as there may be, and no more");
	else
		claim(t, stats.connections_opened >= 5 && stats.connections_opened <= 7,
		      "they took 5 to 7 connections");
	claim(t, stats.calls == 0 && stats.waiting == 0, "nothing is left over");
	client_close(client);
}

static void ends(struct test *t)
{
	struct client *client = open_client(t, t->url, t->own.cert);
	struct asked cut = {0};
	struct asked status = {0};
	struct asked whole = {0};
	ask(t, client, &cut, "[sim ttft=10 rate=0 tokens=9 cut=3]", true);
	ask(t, client, &status, "[sim status=529]", true);
	ask(t, client, &whole, "[sim ttft=10 rate=0 tokens=9]", false);
	claim(t, turn_until(t, &t->open, 0), "calls that fail end");
	claim(t,
	      cut.end == (t->http == CLIENT_HTTP_1 ? CLIENT_CUT : CLIENT_RESET) &&
		  cut.status == 200,
	      "a stream that is reset says so");
	claim(t, answer_is(&cut, "[sim ttft=10 rate=0 tokens=9 cut=3]", 3),
	      "what came before the cut was handed over");
	claim(t, status.end == CLIENT_DONE && status.status == 529,
	      "an error status is an orderly end for the transport");
	claim(t, whole.end == CLIENT_DONE && whole.status == 200, "a whole answer arrives");
	buf_fini(&cut.body);
	buf_fini(&status.body);
	buf_fini(&whole.body);
	client_close(client);
}

static void cancelled(struct test *t)
{
	struct client *client = open_client(t, t->url, t->own.cert);
	struct sim_model *model = map_find(&t->sim.models, STR(MODEL));
	uint64_t before = model->cancelled;
	struct asked inside = {.cancel_after = 1};
	struct asked outside = {0};
	struct asked waiting = {0};
	ask(t, client, &inside, "[sim ttft=10 rate=10 tokens=1000]", true);
	ask(t, client, &outside, "[sim ttft=60000]", true);
	ask(t, client, &waiting, "[sim ttft=60000]", true);
	client_cancel(waiting.call);
	turn_loop_for(t->loop, 300);
	client_cancel(outside.call);
	turn_loop_for(t->loop, 100);
	claim(t, inside.ended == -1, "a call is cancelled from inside its own callback");
	claim(t, outside.ended == 0 && waiting.ended == 0, "no callback comes after a cancel");
	claim(t, model->cancelled == before + 2, "the provider sees both cancelled");
	claim(t, client_stats(client).calls == 0, "the client has forgotten them");
	t->open = 0;
	buf_fini(&inside.body);
	buf_fini(&outside.body);
	client_close(client);
}

static void kept(struct test *t)
{
	struct client *client = open_client(t, t->url, t->own.cert);
	struct asked asked[20] = {0};
	int good = 0;
	for (int i = 0; i < 20; i++) {
		ask(t, client, &asked[i], "[sim ttft=0 rate=0 tokens=3]", i % 2);
		turn_until(t, &t->open, 0);
		good += asked[i].end == CLIENT_DONE && asked[i].status == 200;
		buf_fini(&asked[i].body);
	}
	claim(t, good == 20 && client_stats(client).connections_opened == 1,
	      "calls one after the other share a connection");
	client_close(client);
}

static void recycled(struct test *t)
{
	enum { ROUNDS = 5, CALLS = 12 };
	static struct asked asked[ROUNDS * CALLS];
	struct client_options o = client_defaults();
	struct client *client;
	int good = 0;
	o.base_url = t->url;
	o.ca_file = t->own.cert;
	o.max_calls = 10;
	if (client_open(t->loop, &o, &t->log, &client) < 0)
		exit(2);
	for (int i = 0; i < ROUNDS * CALLS; i++) {
		ask(t, client, &asked[i], "[sim ttft=5 rate=0 tokens=3]", true);
		if (i % CALLS == CALLS - 1)
			turn_until(t, &t->open, 0);
	}
	for (int i = 0; i < ROUNDS * CALLS; i++) {
		good +=
		    asked[i].end == CLIENT_DONE && asked[i].ended == 1 && asked[i].status == 200;
		buf_fini(&asked[i].body);
	}
	claim(t, good == ROUNDS * CALLS, "connections are changed without a lost call");
	claim(t, client_stats(client).connections_opened >= ROUNDS,
	      "after as many calls as they may carry");
	claim(t, client_stats(client).connections <= 2, "and the old ones are closed");
	client_close(client);
}

static void paused(struct test *t)
{
	struct client *client = open_client(t, t->url, t->own.cert);
	struct asked slow = {0};
	struct asked quick = {0};
	const char *prompt = "[sim ttft=200 rate=0 tokens=20000]";
	ask(t, client, &slow, prompt, true);
	ask(t, client, &quick, "[sim ttft=300 rate=0 tokens=5000]", true);
	client_pause(slow.call, true);
	claim(t, turn_until(t, &quick.ended, 1), "a paused call does not stop another");
	turn_loop_for(t->loop, 100);
	claim(t, slow.ended == 0 && slow.body.len <= 256 * 1024,
	      "a paused call gets no more than its window");
	client_pause(slow.call, false);
	claim(t, turn_until(t, &slow.ended, 1) && answer_is(&slow, prompt, 20000),
	      "it goes on from there to its end");
	buf_fini(&slow.body);
	buf_fini(&quick.body);
	client_close(client);
}

static void no_connection(struct test *t)
{
	struct client *client = open_client(t, "https://127.0.0.1:1", t->own.cert);
	struct asked refused = {0};
	struct asked again = {0};
	struct asked unknown = {0};
	ask(t, client, &refused, "x", true);
	claim(t, turn_until(t, &refused.ended, 1) && refused.end == CLIENT_CONNECT,
	      "a refused connection ends the call");
	ask(t, client, &again, "x", true);
	claim(t, turn_until(t, &again.ended, 1) && again.end == CLIENT_CONNECT,
	      "and the next one, after the back-off");
	client_close(client);
	if (str_starts(str_of(t->url), "http:"))
		return;
	client = open_client(t, t->url, NULL);
	ask(t, client, &unknown, "x", true);
	claim(t, turn_until(t, &unknown.ended, 1) && unknown.end == CLIENT_CONNECT,
	      "a certificate that nobody vouches for is no connection");
	client_close(client);
}

static void drop(void *ctx, int fd, const char *peer)
{
	int *fds = ctx;
	(void)peer;
	for (int i = 0; i < 8; i++) {
		if (fds[i])
			continue;
		fds[i] = fd;
		return;
	}
	close(fd);
}

static void silent_peer(struct test *t)
{
	struct listener *listener;
	int fds[8] = {0};
	char url[64];
	struct asked a = {0};
	if (listener_open(t->loop, "127.0.0.1:0", false, drop, fds, &listener) < 0)
		exit(2);
	snprintf(url, sizeof(url), "https://127.0.0.1:%u", listener_port(listener));
	struct client *client = open_client(t, url, t->own.cert);
	ask(t, client, &a, "x", true);
	claim(t, turn_until(t, &a.ended, 1) && a.end == CLIENT_TIMEOUT,
	      "a peer that says nothing is a time-out");
	client_close(client);
	listener_close(listener);
	for (int i = 0; i < 8; i++)
		if (fds[i])
			close(fds[i]);
}

static void provider_goes(struct test *t)
{
	struct client *client = open_client(t, t->url, t->own.cert);
	struct asked running = {0};
	struct asked late = {0};
	ask(t, client, &running, "[sim ttft=10 rate=50 tokens=20]", true);
	turn_loop_for(t->loop, 100);
	http_server_drain(t->sim.server);
	claim(t, turn_until(t, &running.ended, 1) && running.end == CLIENT_DONE,
	      "a provider that drains lets its streams end");
	turn_loop_for(t->loop, 300);
	ask(t, client, &late, "x", true);
	claim(t, turn_until(t, &late.ended, 1) && late.end == CLIENT_CONNECT,
	      "and takes no new ones");
	buf_fini(&running.body);
	buf_fini(&late.body);
	client_close(client);
}

/* Connects again and again in vain, for longer and longer; the first call does not wait for the next attempt. */
static void provider_comes_later(struct test *t)
{
	static struct sim sim;
	struct sim_options o = sim_defaults();
	struct listener *listener;
	char listen[32];
	char url[64];
	struct asked a = {0};
	if (listener_open(t->loop, "127.0.0.1:0", false, drop, NULL, &listener) < 0)
		exit(2);
	snprintf(listen, sizeof(listen), "127.0.0.1:%u", listener_port(listener));
	snprintf(url, sizeof(url), "https://%s", listen);
	listener_close(listener);
	struct client *client = open_client(t, url, t->own.cert);
	turn_loop_for(t->loop, 2600);
	o.listen = listen;
	o.cert = t->own.cert;
	o.key = t->own.key;
	if (sim_open(&sim, t->loop, &o) < 0)
		exit(2);
	uint64_t from = clock_ms();
	ask(t, client, &a, "[sim ttft=0 rate=0 tokens=3]", true);
	claim(t, turn_until(t, &a.ended, 1) && a.end == CLIENT_DONE && clock_ms() - from < 300,
	      "a provider that comes back is called at once, whatever the back-off");
	buf_fini(&a.body);
	client_close(client);
	sim_close(&sim);
}

/* The same words for the same ends where the provider speaks HTTP/1.1. */
static void over_http1(struct test *t)
{
	struct sim_options o = sim_defaults();
	t->sim = (struct sim){0};
	o.listen = "127.0.0.1:0";
	o.plain = true;
	if (sim_open(&t->sim, t->loop, &o) < 0)
		exit(2);
	snprintf(t->url, sizeof(t->url), "http://127.0.0.1:%u", http_server_port(t->sim.server));
	t->http = CLIENT_HTTP_1;
	many(t);
	kept(t);
	ends(t);
	cancelled(t);
	paused(t);
	no_connection(t);
	silent_peer(t);
	provider_goes(t);
	sim_close(&t->sim);
}

int main(void)
{
	static struct test t;
	struct sim_options o = sim_defaults();
	if (!certificate_make(&t.own)) {
		printf("skipped: no openssl command\n0 passed, 0 failed\n");
		return 0;
	}
	t.loop = loop_new(1);
	t.sink = (struct log_sink){.fd = 2, .level = LOG_ERROR};
	t.log = (struct log){.sink = &t.sink, .key = "svc", .value = "test"};
	o.listen = "127.0.0.1:0";
	o.cert = t.own.cert;
	o.key = t.own.key;
	if (sim_open(&t.sim, t.loop, &o) < 0)
		return 2;
	snprintf(t.url, sizeof(t.url), "https://127.0.0.1:%u", http_server_port(t.sim.server));
	many(&t);
	kept(&t);
	ends(&t);
	cancelled(&t);
	recycled(&t);
	paused(&t);
	no_connection(&t);
	silent_peer(&t);
	provider_goes(&t);
	provider_comes_later(&t);
	sim_close(&t.sim);
	loop_turn(t.loop, 0);
	over_http1(&t);
	loop_turn(t.loop, 0);
	loop_free(t.loop);
	certificate_remove(&t.own);
	return claims_end(&t.claims);
}
