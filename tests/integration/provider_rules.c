/* The rules of the pool of HTTP/2 connections, against a peer that breaks off in every way that HTTP/2 has, on one loop:
 * what may be asked again at once, when a connection is changed, and what a call waits for. */
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/integration/client_parts.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/net/client.h"
#include "lib/net/loop.h"
#include "tests/support/h2_peer.h"

#define LIMIT_MS 10000
#define CALLS 64

struct call {
	struct test *test;
	struct client_call *call;
	int sent;
	int status;
	size_t bytes;
	int ended;
	enum client_end end;
	uint64_t asked_us;
	uint64_t sent_us;
};

/* A request at the peer. */
struct seen {
	struct h2_peer_conn *conn;
	int32_t stream;
};

struct test {
	struct loop *loop;
	struct log_sink sink;
	struct log log;
	struct h2_peer *peer;
	struct client *client;
	struct client_options options;
	struct call calls[CALLS];
	int asked;
	int ended;
	struct seen seen[CALLS];
	int seen_count;
	int resets;
	uint32_t reset_error;
	bool at_once; /* every request is answered as it comes */
	struct claims claims;
};

static void claim(struct test *t, bool holds, const char *sentence)
{
	claims_note(&t->claims, holds, NULL, sentence);
}

static bool turn_until(struct test *t, const int *value, int target)
{
	return turn_loop_until(t->loop, *value >= target, LIMIT_MS * US_PER_MS);
}

static void on_sent(void *ctx)
{
	struct call *c = ctx;

	c->sent++;
	c->sent_us = loop_fresh_us(c->test->loop);
}

static void on_head(void *ctx, int status, const struct http_field *fields, size_t count)
{
	struct call *c = ctx;

	(void)fields;
	(void)count;
	c->status = status;
}

static void on_data(void *ctx, struct str bytes)
{
	((struct call *)ctx)->bytes += bytes.len;
}

static void on_end(void *ctx, enum client_end end, const char *detail)
{
	struct call *c = ctx;

	(void)detail;
	c->end = end;
	c->ended++;
	c->test->ended++;
}

static struct call *ask_with(struct test *t, struct str body)
{
	static const struct client_ops ops = {on_head, on_data, on_end, on_sent};
	struct call *c = &t->calls[t->asked++ % CALLS];

	*c = (struct call){.test = t, .asked_us = loop_fresh_us(t->loop)};
	c->call = client_call(t->client, "POST", "/v1", NULL, 0, body, &ops, c);
	return c;
}

static struct call *ask(struct test *t)
{
	return ask_with(t, STR("{}"));
}

static void on_request(void *ctx, struct h2_peer_conn *conn, int32_t stream)
{
	struct test *t = ctx;

	t->seen[t->seen_count++ % CALLS] = (struct seen){conn, stream};
	if (t->at_once)
		h2_peer_answer(conn, stream, "200", STR("yes"), true);
}

static void on_reset(void *ctx, struct h2_peer_conn *conn, uint32_t error)
{
	struct test *t = ctx;

	(void)conn;
	t->resets++;
	t->reset_error = error;
}

static void begin(struct test *t, struct h2_peer_options peer)
{
	static char url[64];

	peer.request = on_request;
	peer.reset = on_reset;
	peer.ctx = t;
	t->peer = h2_peer_open(t->loop, &peer);
	snprintf(url, sizeof(url), "http://127.0.0.1:%u", h2_peer_port(t->peer));
	t->options.base_url = url;
	t->options.http = CLIENT_HTTP_2;
	if (client_open(t->loop, &t->options, &t->log, &t->client) < 0)
		exit(2);
	t->asked = t->ended = t->seen_count = t->resets = 0;
	t->at_once = false;
}

static void finish(struct test *t)
{
	client_close(t->client);
	h2_peer_close(t->peer);
	t->options = client_defaults();
}

static bool turn_until_warm(struct test *t)
{
	return turn_loop_until(t->loop, client_warm(t->client), LIMIT_MS * US_PER_MS);
}

/* ---- who has processed what ---- */

static void goaway_below(struct test *t)
{
	begin(t, (struct h2_peer_options){0});
	struct call *one = ask(t), *two = ask(t), *three = ask(t);

	turn_until(t, &t->seen_count, 3);
	h2_peer_answer(t->seen[0].conn, t->seen[0].stream, "200", STR("par"), false);
	h2_peer_goaway(t->seen[0].conn, t->seen[0].stream, NGHTTP2_NO_ERROR);
	claim(t,
	      turn_until(t, &t->ended, 2) && two->end == CLIENT_REFUSED &&
		  three->end == CLIENT_REFUSED && client_end_unprocessed(two->end),
	      "calls above the id of a GOAWAY were never processed, and that is said at once");
	h2_peer_say(t->seen[0].conn, t->seen[0].stream, STR("tial"), true);
	claim(t, turn_until(t, &t->ended, 3) && one->end == CLIENT_DONE && one->bytes == 7,
	      "the one below it goes on to its end");
	ask(t);
	claim(t, turn_until(t, &t->seen_count, 4) && h2_peer_accepted(t->peer) == 2,
	      "the next call has a new connection");
	finish(t);
}

static void goaway_graceful(struct test *t)
{
	begin(t, (struct h2_peer_options){0});
	struct call *one = ask(t), *two = ask(t);

	turn_until(t, &t->seen_count, 2);
	h2_peer_goaway(t->seen[0].conn, INT32_MAX, NGHTTP2_NO_ERROR);
	turn_loop_for(t->loop, 30);
	h2_peer_goaway(t->seen[0].conn, t->seen[1].stream, NGHTTP2_NO_ERROR);
	for (int i = 0; i < 2; i++)
		h2_peer_answer(t->seen[i].conn, t->seen[i].stream, "200", STR("whole"), true);
	claim(t, turn_until(t, &t->ended, 2) && one->end == CLIENT_DONE && two->end == CLIENT_DONE,
	      "a peer that goes in good order loses nobody");
	finish(t);
}

static void resets(struct test *t)
{
	static const uint32_t errors[] = {NGHTTP2_REFUSED_STREAM, NGHTTP2_NO_ERROR, NGHTTP2_CANCEL,
					  NGHTTP2_ENHANCE_YOUR_CALM};
	begin(t, (struct h2_peer_options){0});
	for (int i = 0; i < 4; i++)
		ask(t);
	turn_until(t, &t->seen_count, 4);
	for (int i = 0; i < 4; i++) {
		if (i)
			h2_peer_answer(t->seen[i].conn, t->seen[i].stream, "200", STR("par"),
				       false);
		turn_loop_for(t->loop, 10);
		h2_peer_reset(t->seen[i].conn, t->seen[i].stream, errors[i]);
	}
	turn_until(t, &t->ended, 4);
	claim(t, t->calls[0].end == CLIENT_REFUSED, "REFUSED_STREAM: never processed");
	claim(t, t->calls[1].end == CLIENT_RESET && t->calls[1].bytes == 3,
	      "RST_STREAM(NO_ERROR) in the middle is not a success");
	claim(t, t->calls[2].end == CLIENT_RESET && t->calls[3].end == CLIENT_RESET,
	      "other resets say so");
	claim(t,
	      !client_end_unprocessed(CLIENT_RESET) && !client_end_unprocessed(CLIENT_CUT) &&
		  !client_end_unprocessed(CLIENT_DONE) && !client_end_unprocessed(CLIENT_PROTOCOL),
	      "and prove nothing about what was processed");
	finish(t);
}

static void resets_without_a_head(struct test *t)
{
	begin(t, (struct h2_peer_options){0});
	for (int i = 0; i < 3; i++) {
		ask(t);
		turn_until(t, &t->seen_count, i + 1);
		h2_peer_reset(t->seen[i].conn, t->seen[i].stream, NGHTTP2_ENHANCE_YOUR_CALM);
		turn_until(t, &t->ended, i + 1);
	}
	uint64_t opened = client_stats(t->client).connections_opened;
	t->at_once = true;
	ask(t);
	claim(t,
	      turn_until(t, &t->ended, 4) && t->calls[3].end == CLIENT_DONE &&
		  client_stats(t->client).connections_opened == opened + 1,
	      "a connection that resets call after call without a head is left for another one");
	finish(t);
}

static void cut(struct test *t)
{
	begin(t, (struct h2_peer_options){0});
	struct call *fin = ask(t);

	turn_until(t, &t->seen_count, 1);
	h2_peer_answer(t->seen[0].conn, t->seen[0].stream, "200", STR("par"), false);
	turn_loop_for(t->loop, 20);
	h2_peer_cut(t->seen[0].conn, false);
	claim(t, turn_until(t, &t->ended, 1) && fin->end == CLIENT_CUT,
	      "FIN in the middle is a cut");
	struct call *rst = ask(t);
	turn_until(t, &t->seen_count, 2);
	h2_peer_cut(t->seen[1].conn, true);
	claim(t, turn_until(t, &t->ended, 2) && rst->end == CLIENT_CUT,
	      "RST before the head is a cut");
	finish(t);
}

static void never_left(struct test *t)
{
	enum { BIG = 64 * 1024 * 1024 };
	cleanup_free char *big = mem_alloc(BIG);

	begin(t, (struct h2_peer_options){.window = 2 * BIG});
	turn_until_warm(t);
	turn_loop_for(t->loop, 30);
	struct h2_peer_conn *first = h2_peer_newest(t->peer);
	h2_peer_mute(first);
	struct call *large = ask_with(t, (struct str){big, BIG});
	/* Until the kernel takes no more: it says so before it is quite full. */
	for (int i = 0; i < 4; i++) {
		turn_loop_for(t->loop, 50);
		ask_with(t, (struct str){big, BIG / 64});
	}
	turn_loop_for(t->loop, 50);
	struct call *small = ask(t);
	turn_loop_for(t->loop, 50);
	t->at_once = true;
	h2_peer_cut(first, true);
	claim(t, turn_until(t, &t->ended, 6) && large->end == CLIENT_CUT,
	      "a request of which a part had left is cut");
	claim(t, small->end == CLIENT_DONE && small->sent == 1 && h2_peer_accepted(t->peer) == 2,
	      "one that never left is put on another connection");
	finish(t);
}

static void cancelled(struct test *t)
{
	begin(t, (struct h2_peer_options){0});
	struct call *c = ask(t);

	turn_until(t, &t->seen_count, 1);
	client_cancel(c->call);
	claim(t, turn_until(t, &t->resets, 1) && t->reset_error == NGHTTP2_CANCEL,
	      "a cancelled call is reset at the peer");
	finish(t);
}

/* ---- dead peers ---- */

static void dead_while_calling(struct test *t)
{
	t->options.ping_us = 100 * US_PER_MS;
	begin(t, (struct h2_peer_options){0});
	struct call *c = ask(t);

	turn_until(t, &t->seen_count, 1);
	turn_loop_for(t->loop, 500);
	claim(t, c->ended == 0, "silence alone is no end: the peer answers PING");
	h2_peer_mute(t->seen[0].conn);
	uint64_t from = clock_ms();
	claim(t, turn_until(t, &t->ended, 1) && c->end == CLIENT_CUT && clock_ms() - from < 600,
	      "a peer that does not answer PING is dead");
	finish(t);
}

static void dead_while_idle(struct test *t)
{
	t->options.ping_us = 100 * US_PER_MS;
	begin(t, (struct h2_peer_options){0});
	turn_until_warm(t);
	turn_loop_for(t->loop, 150);
	t->at_once = true;
	ask(t);
	claim(t,
	      turn_until(t, &t->ended, 1) && t->calls[0].end == CLIENT_DONE &&
		  h2_peer_accepted(t->peer) == 1,
	      "a connection that was unused for long is proved, and used");
	turn_loop_for(t->loop, 150);
	h2_peer_mute(h2_peer_newest(t->peer));
	struct call *c = ask(t);
	claim(t,
	      turn_until(t, &t->ended, 2) && c->end == CLIENT_DONE && c->sent == 1 &&
		  h2_peer_accepted(t->peer) == 2,
	      "a call is not put on one that died meanwhile, and does not fail for it");
	finish(t);
}

/* ---- how many connections ---- */

static void peers_limit(struct test *t)
{
	begin(t, (struct h2_peer_options){.max_streams = 3});
	for (int i = 0; i < 10; i++)
		ask(t);
	claim(t,
	      turn_until(t, &t->seen_count, 10) && h2_peer_accepted(t->peer) <= 5 &&
		  h2_peer_accepted(t->peer) >= 4,
	      "ten calls at three streams a connection take four, and one in reserve at most");
	finish(t);
}

static void bounded(struct test *t)
{
	t->options.max_connections = 2;
	begin(t, (struct h2_peer_options){.max_streams = 2});
	for (int i = 0; i < 8; i++)
		ask(t);
	turn_until(t, &t->seen_count, 4);
	turn_loop_for(t->loop, 50);
	claim(t,
	      t->seen_count == 4 && h2_peer_accepted(t->peer) == 2 &&
		  client_stats(t->client).waiting == 4,
	      "calls above all streams wait");
	t->at_once = true;
	for (int i = 0; i < 4; i++)
		h2_peer_answer(t->seen[i].conn, t->seen[i].stream, "200", STR("yes"), true);
	claim(t, turn_until(t, &t->ended, 8), "and have their turn");
	finish(t);
}

static void warm(struct test *t)
{
	t->options.min_connections = 3;
	begin(t, (struct h2_peer_options){0});
	turn_until_warm(t);
	turn_loop_for(t->loop, 50);
	claim(t, h2_peer_accepted(t->peer) == 3 && client_stats(t->client).connections == 3,
	      "connections are there before the first call");
	h2_peer_cut(h2_peer_newest(t->peer), false);
	turn_loop_for(t->loop, 300);
	claim(t, client_stats(t->client).connections == 3, "one that is lost is opened anew");
	finish(t);
}

static void shrinks(struct test *t)
{
	t->options.idle_us = 200 * US_PER_MS;
	begin(t, (struct h2_peer_options){.max_streams = 2});
	for (int i = 0; i < 12; i++)
		ask(t);
	turn_until(t, &t->seen_count, 12);
	claim(t, client_stats(t->client).connections >= 6, "many calls, many connections");
	for (int i = 0; i < 12; i++)
		h2_peer_answer(t->seen[i].conn, t->seen[i].stream, "200", STR("yes"), true);
	turn_until(t, &t->ended, 12);
	turn_loop_for(t->loop, 800);
	claim(t, client_stats(t->client).connections == 1, "those that are idle are closed");
	finish(t);
}

/* ---- what a call waits for ---- */

/* New connections take 20 ms; one call after the other, a connection for every 40 of them, give or take. */
static void no_set_up(struct test *t)
{
	uint64_t worst = 0;

	t->options.max_calls = 40;
	begin(t, (struct h2_peer_options){.settings_us = 20 * US_PER_MS});
	turn_until_warm(t);
	t->at_once = true;
	for (int i = 0; i < 400; i++) {
		struct call *c = ask(t);

		turn_until(t, &t->ended, i + 1);
		if (i % 2)
			turn_loop_for(t->loop, 20);
		if (c->sent_us - c->asked_us > worst)
			worst = c->sent_us - c->asked_us;
	}
	printf("     %u connections for 400 calls, the longest wait for one %llu us\n",
	       h2_peer_accepted(t->peer), (unsigned long long)worst);
	claim(t, h2_peer_accepted(t->peer) >= 9, "connections are changed");
	claim(t, worst < 20 * US_PER_MS, "without a call that waits for a new one");
	finish(t);
}

static void refuses_all(struct test *t)
{
	begin(t, (struct h2_peer_options){.close_after_settings = true});
	turn_loop_for(t->loop, 1000);
	unsigned accepted = h2_peer_accepted(t->peer);
	printf("     %u connections in a second\n", accepted);
	claim(t, accepted >= 2 && accepted <= 8,
	      "a peer that ends every connection at once is asked less and less");
	struct call *c = ask(t);
	claim(t, turn_until(t, &t->ended, 1) && c->end != CLIENT_DONE, "a call to it ends");
	finish(t);
}

int main(void)
{
	static struct test t;

	t.loop = loop_new(1);
	t.sink = (struct log_sink){.fd = 2, .level = LOG_ERROR};
	t.log = (struct log){.sink = &t.sink, .key = "svc", .value = "test"};
	t.options = client_defaults();
	goaway_below(&t);
	goaway_graceful(&t);
	resets(&t);
	resets_without_a_head(&t);
	cut(&t);
	never_left(&t);
	cancelled(&t);
	dead_while_calling(&t);
	dead_while_idle(&t);
	peers_limit(&t);
	bounded(&t);
	warm(&t);
	shrinks(&t);
	no_set_up(&t);
	refuses_all(&t);
	loop_turn(t.loop, 0);
	loop_free(t.loop);
	return claims_end(&t.claims);
}
