/* The five clocks of a call at a provider, each against a server that keeps it waiting in just that place, over HTTP/2 and
 * HTTP/1.1: which fault it ends in, when, and whether it is proved that nothing was processed. And streams that end later than
 * their last word, or never: what becomes of their connection. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "consumers/pool/call.h"
#include "consumers/pool/route.h"
#include "tests/integration/client_parts.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/net/client.h"
#include "lib/net/conn.h"
#include "lib/net/http.h"
#include "lib/net/loop.h"
#include "lib/svc/config.h"

#define LIMIT_MS 10000
#define SHORT_MS 250
#define LONG_MS 8000
/* A clock may run over by so much on a busy machine. */
#define SLACK_MS 200
#define DRIP_MS 40
#define TOKEN    \
	"data: " \
	"{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n"

#define LAST                                                                              \
	"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n" \
	"data: [DONE]\n\n"
#define LATE_MS 100

/* Where the server stops. */
enum stop {
	STOP_BEFORE_HEAD,
	STOP_BEFORE_TOKEN,
	STOP_PINGS,
	STOP_AFTER_TOKEN,
	STOP_COMMENTS, /* after a token: nothing else */
	STOP_EVENTS,   /* after a token: events that say nothing */
	STOP_NEVER,
	STOP_LATE,	 /* after the last word, for LATE_MS */
	STOP_AFTER_LAST, /* for ever */
	STOP_CHATTY,	 /* it goes on after the last word */
};

struct test {
	struct certificate own;
	struct loop *loop;
	struct log_sink sink;
	struct log log;
	struct http_server *server;
	struct listener *deaf;
	int deaf_fds[8];
	enum stop stop;
	struct http_req *req;
	struct timer drip;
	bool ended;
	size_t text;
	int gone; /* requests whose client did not wait for their end */
	struct claims claims;
};

static void claim(struct test *t, enum client_http http, bool holds, const char *sentence)
{
	claims_note(&t->claims, holds, http == CLIENT_HTTP_2 ? "HTTP/2" : "HTTP/1.1", sentence);
}

/* ---- the server ---- */

static const char chatter[CLIENT_RELEASED_BYTES / 4];

static struct str drips(enum stop stop)
{
	if (stop == STOP_CHATTY)
		return (struct str){chatter, sizeof(chatter)};
	if (stop == STOP_EVENTS)
		return STR("data: {\"choices\":[]}\n\n");
	return stop == STOP_PINGS || stop == STOP_COMMENTS ? STR(": still here\n\n") : STR(TOKEN);
}

static void on_drip(struct timer *timer)
{
	struct test *t = container_of(timer, struct test, drip);

	if (!t->req)
		return;
	if (t->stop == STOP_LATE) {
		struct http_req *req = t->req;

		t->req = NULL;
		http_stream_end(req);
		return;
	}
	http_stream_write(t->req, drips(t->stop));
	timer_set(&t->drip, DRIP_MS * US_PER_MS);
}

static void on_request(void *ctx, struct http_req *req)
{
	struct test *t = ctx;

	t->req = req;
	if (t->stop == STOP_BEFORE_HEAD)
		return;
	http_stream_begin(req, 200, "text/event-stream");
	if (t->stop == STOP_AFTER_TOKEN || t->stop == STOP_COMMENTS || t->stop == STOP_EVENTS)
		http_stream_write(req, STR(TOKEN));
	if (t->stop >= STOP_LATE)
		http_stream_write(req, STR(TOKEN LAST));
	if (t->stop == STOP_LATE)
		timer_set(&t->drip, LATE_MS * US_PER_MS);
	if (t->stop == STOP_PINGS || t->stop == STOP_COMMENTS || t->stop == STOP_EVENTS ||
	    t->stop == STOP_NEVER || t->stop == STOP_CHATTY)
		timer_set(&t->drip, 1);
}

static void on_gone(void *ctx, struct http_req *req)
{
	struct test *t = ctx;

	if (t->req != req)
		return;
	t->req = NULL;
	t->gone++;
}

static void on_deaf(void *ctx, int fd, const char *peer)
{
	struct test *t = ctx;

	(void)peer;
	for (int i = 0; i < 8; i++) {
		if (t->deaf_fds[i])
			continue;
		t->deaf_fds[i] = fd;
		return;
	}
	close(fd);
}

/* ---- a call ---- */

static void on_part(void *ctx, const char *type, struct str id, struct str name)
{
	(void)ctx;
	(void)type;
	(void)id;
	(void)name;
}

static void on_text(void *ctx, struct str text)
{
	((struct test *)ctx)->text += text.len;
}

static void on_end(void *ctx)
{
	((struct test *)ctx)->ended = true;
}

struct wait {
	const char *sentence;
	enum stop stop;
	uint64_t connect_ms, headers_ms, first_token_ms, silence_ms, whole_ms;
	enum fault fault;
	const char *message;
	bool unprocessed;
	bool text;
	uint64_t took_ms; /* 0: SHORT_MS */
};

/* The account of @config at @url; its client opens nothing before it is asked. */
static void account_open(struct test *t, enum client_http http, const char *url,
			 struct config_account *config, struct account *account)
{
	struct client_options options = client_defaults();

	*account = (struct account){.config = config, .provider = provider_find(STR("openai"))};
	options.base_url = url;
	options.http = http;
	options.ca_file = t->own.cert;
	options.connect_us = config->connect_ms * US_PER_MS;
	options.min_connections = 0;
	if (client_open(t->loop, &options, &t->log, &account->client) < 0)
		exit(2);
}

static void run(struct test *t, enum client_http http, const char *url, const struct wait *w)
{
	static const struct call_ops ops = {.part = on_part, .text = on_text, .end = on_end};
	struct config_account config = {.name = "a",
					.kind = "openai",
					.base_url = url,
					.connect_ms = w->connect_ms,
					.headers_ms = w->headers_ms,
					.first_token_ms = w->first_token_ms,
					.silence_ms = w->silence_ms,
					.whole_ms = w->whole_ms};
	struct account account;
	struct target target = {.account = &account, .model = "m"};
	struct provider_request request = {.path = "/v1/chat/completions"};
	uint64_t from, took;

	account_open(t, http, url, &config, &account);
	buf_add_text(&request.body, "{}");
	t->stop = w->stop;
	t->ended = false;
	t->text = 0;
	loop_turn(t->loop, 0);
	from = clock_ms();
	struct call *call = call_open(t->loop, &target, &request, &ops, t, &t->log);
	while (!t->ended && clock_ms() - from < LIMIT_MS)
		loop_turn(t->loop, 20 * US_PER_MS);
	took = clock_ms() - from;
	const struct call_outcome *o = call_outcome(call);
	uint64_t due = w->took_ms ? w->took_ms : SHORT_MS;
	bool in_time = took + 2 >= due && took <= due + SLACK_MS;
	if (!in_time || o->fault != w->fault)
		printf("     after %llu ms: %s, %.*s\n", (unsigned long long)took,
		       o->fault ? fault_info(o->fault)->code : "none", STR_FMT(o->message));
	claim(t, http,
	      t->ended && in_time && o->fault == w->fault && str_is(o->message, w->message) &&
		  o->unprocessed == w->unprocessed && (t->text > 0) == w->text,
	      w->sentence);
	call_free(call);
	client_close(account.client);
	provider_request_fini(&request);
	timer_stop(&t->drip);
}

/* A call to its end, then turns until the client is done with its stream. False: it did not come to the end that it should. */
static bool call_whole(struct test *t, struct target *target)
{
	static const struct call_ops ops = {.part = on_part, .text = on_text, .end = on_end};
	struct provider_request request = {.path = "/v1/chat/completions"};
	uint64_t until = clock_ms() + LIMIT_MS;
	bool at_once;

	buf_add_text(&request.body, "{}");
	t->ended = false;
	struct call *call = call_open(t->loop, target, &request, &ops, t, &t->log);
	while (!t->ended && clock_ms() < until)
		loop_turn(t->loop, 20 * US_PER_MS);
	at_once = t->ended && t->req && !call_outcome(call)->fault;
	call_free(call);
	provider_request_fini(&request);
	while (client_stats(target->account->client).calls && clock_ms() < until)
		loop_turn(t->loop, 20 * US_PER_MS);
	loop_turn(t->loop, 20 * US_PER_MS);
	return at_once && clock_ms() < until;
}

static void late_ends(struct test *t, enum client_http http, const char *url)
{
	struct config_account config = {.name = "a",
					.connect_ms = LONG_MS,
					.headers_ms = LONG_MS,
					.first_token_ms = LONG_MS,
					.silence_ms = LONG_MS,
					.whole_ms = LONG_MS};
	struct account account;
	struct target target = {.account = &account, .model = "m"};
	bool good = true;
	uint64_t from;

	for (from = clock_ms(); t->req && clock_ms() - from < LIMIT_MS;)
		loop_turn(t->loop, 20 * US_PER_MS); /* the one before has gone */
	account_open(t, http, url, &config, &account);
	t->stop = STOP_LATE;
	t->gone = 0;
	for (int i = 0; i < 5; i++)
		good = call_whole(t, &target) && good;
	claim(t, http, good, "late end: an answer is complete with its last word");
	claim(t, http, t->gone == 0, "late end: the provider may end the stream itself");
	claim(t, http, client_stats(account.client).connections_opened == 1,
	      "late end: the next call has the same connection");
	t->stop = STOP_AFTER_LAST;
	from = clock_ms();
	good = call_whole(t, &target);
	claim(t, http, good && t->gone == 1 && clock_ms() - from + 2 >= CLIENT_RELEASED_US / 1000,
	      "no end: the stream is given up a second later");
	t->stop = STOP_CHATTY;
	timer_stop(&t->drip);
	from = clock_ms();
	good = call_whole(t, &target);
	claim(t, http, good && t->gone == 2 && clock_ms() - from < CLIENT_RELEASED_US / 1000,
	      "no end: or sooner, where it goes on and on");
	client_close(account.client);
	timer_stop(&t->drip);
}

static const struct wait waits[] = {
    {"headers: the request is there, and no head comes", STOP_BEFORE_HEAD, LONG_MS, SHORT_MS,
     LONG_MS, LONG_MS, LONG_MS, FAULT_PROVIDER_SILENT, "no answer began in time", false, false, 0},
    {"first token: a head, and nothing behind it", STOP_BEFORE_TOKEN, LONG_MS, LONG_MS, SHORT_MS,
     LONG_MS, LONG_MS, FAULT_PROVIDER_SILENT, "no token came in time", false, false, 0},
    {"first token: comments are no token", STOP_PINGS, LONG_MS, LONG_MS, SHORT_MS, LONG_MS, LONG_MS,
     FAULT_PROVIDER_SILENT, "no token came in time", false, false, 0},
    {"silence: a token, and no other", STOP_AFTER_TOKEN, LONG_MS, LONG_MS, LONG_MS, SHORT_MS,
     LONG_MS, FAULT_PROVIDER_SILENT, "the stream fell silent", false, true, 0},
    {"silence: comments are no life", STOP_COMMENTS, LONG_MS, LONG_MS, LONG_MS, SHORT_MS, LONG_MS,
     FAULT_PROVIDER_SILENT, "the stream fell silent", false, true, 0},
    {"silence: events without output are, for four times as long", STOP_EVENTS, LONG_MS, LONG_MS,
     LONG_MS, SHORT_MS, LONG_MS, FAULT_PROVIDER_SILENT, "the stream fell silent", false, true,
     4 * SHORT_MS},
    {"whole: tokens without an end", STOP_NEVER, LONG_MS, LONG_MS, LONG_MS, LONG_MS, SHORT_MS,
     FAULT_PROVIDER_SILENT, "the call took too long", false, true, 0},
};

static const struct wait connect_wait = {"connect: accepted, and not a word",
					 STOP_NEVER,
					 SHORT_MS,
					 LONG_MS,
					 LONG_MS,
					 LONG_MS,
					 LONG_MS,
					 FAULT_PROVIDER_TRANSPORT,
					 "timeout",
					 true,
					 false,
					 0};

int main(void)
{
	static const enum client_http both[] = {CLIENT_HTTP_2, CLIENT_HTTP_1};
	static const struct http_server_ops server_ops = {.request = on_request, .gone = on_gone};
	static struct test t;
	struct http_server_options o = http_server_defaults();
	char url[64], deaf[64];

	if (!certificate_make(&t.own)) {
		printf("skipped: no openssl command\n0 passed, 0 failed\n");
		return 0;
	}
	t.loop = loop_new(1);
	t.sink = (struct log_sink){.fd = 2, .level = LOG_ERROR};
	t.log = (struct log){.sink = &t.sink, .key = "svc", .value = "test"};
	timer_init(&t.drip, t.loop, on_drip);
	o.listen = "127.0.0.1:0";
	o.cert_file = t.own.cert;
	o.key_file = t.own.key;
	o.http2 = true;
	if (http_server_open(t.loop, &o, &server_ops, &t, &t.log, &t.server) < 0 ||
	    listener_open(t.loop, "127.0.0.1:0", false, on_deaf, &t, &t.deaf) < 0)
		return 2;
	snprintf(url, sizeof(url), "https://127.0.0.1:%u", http_server_port(t.server));
	snprintf(deaf, sizeof(deaf), "https://127.0.0.1:%u", listener_port(t.deaf));
	for (size_t h = 0; h < countof(both); h++) {
		run(&t, both[h], deaf, &connect_wait);
		for (size_t i = 0; i < countof(waits); i++)
			run(&t, both[h], url, &waits[i]);
		late_ends(&t, both[h], url);
	}
	http_server_close(t.server);
	listener_close(t.deaf);
	for (int i = 0; i < 8; i++)
		if (t.deaf_fds[i])
			close(t.deaf_fds[i]);
	loop_turn(t.loop, 0);
	loop_free(t.loop);
	certificate_remove(&t.own);
	return claims_end(&t.claims);
}
