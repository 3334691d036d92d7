/* The client for providers against servers that others wrote: node's http2 and http, Go's net/http, hypercorn, uvicorn and
 * nghttpd, each a process of its own. Streams, cancels, an end in good order under load, and a kill. One that cannot be
 * had is skipped, with a word. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/client_parts.h"
#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/net/client.h"
#include "lib/net/loop.h"

#define LIMIT_MS 20000
#define CALLS 2000
#define LINE_BYTES 14 /* "data: 000000\n\n" */

struct call {
	struct test *test;
	struct client_call *call;
	size_t bytes;
	size_t wanted;
	size_t cancel_after;
	size_t release_after;
	int status;
	bool over;
	enum client_end end;
	char body[16];
};

struct test {
	struct certificate own;
	struct loop *loop;
	struct log_sink sink;
	struct log log;
	struct client *client;
	struct call calls[CALLS];
	int asked;
	int open;
	char port[8];
	const char *name;
	bool tls;
	pid_t server;
	struct claims claims;
};

static void claim(struct test *t, bool holds, const char *sentence)
{
	claims_note(&t->claims, holds, t->name, sentence);
}

static bool turn_until_over(struct test *t)
{
	return turn_loop_until(t->loop, !t->open, LIMIT_MS * US_PER_MS);
}

/* ---- calls ---- */

static void on_head(void *ctx, int status, const struct http_field *fields, size_t count)
{
	struct call *c = ctx;

	(void)fields;
	(void)count;
	c->status = status;
}

static void on_data(void *ctx, struct str bytes)
{
	struct call *c = ctx;
	size_t room = sizeof(c->body) - 1 - (c->bytes < sizeof(c->body) ? c->bytes : 0);

	if (c->bytes < sizeof(c->body) - 1)
		memcpy(c->body + c->bytes, bytes.ptr, bytes.len < room ? bytes.len : room);
	c->bytes += bytes.len;
	if (c->release_after && c->bytes >= c->release_after) {
		client_release(c->call);
		c->over = true;
		c->test->open--;
	}
	if (c->cancel_after && c->bytes >= c->cancel_after) {
		client_cancel(c->call);
		c->over = true;
		c->test->open--;
	}
}

static void on_end(void *ctx, enum client_end end, const char *detail)
{
	struct call *c = ctx;

	(void)detail;
	c->end = end;
	c->over = true;
	c->test->open--;
}

static struct call *ask_body(struct test *t, const char *path, struct str body, size_t wanted)
{
	static const struct client_ops ops = {.head = on_head, .data = on_data, .end = on_end};
	const struct http_field fields[] = {{STR("content-type"), STR("application/json")},
					    {STR("authorization"), STR("Bearer none")}};
	struct call *c = &t->calls[t->asked++];

	must(t->asked <= CALLS);
	*c = (struct call){.test = t, .wanted = wanted};
	t->open++;
	c->call = client_call(t->client, "POST", path, fields, countof(fields), body, &ops, c);
	return c;
}

static struct call *ask(struct test *t, int lines, int every_ms)
{
	char path[64];

	snprintf(path, sizeof(path), "/stream/%d/%d", lines, every_ms);
	return ask_body(t, path, STR("{\"model\":\"none\"}"), (size_t)lines * LINE_BYTES);
}

static bool whole(const struct call *c)
{
	return c->over && c->end == CLIENT_DONE && c->status == 200 && c->bytes == c->wanted;
}

/* ---- servers ---- */

/* A port that was free a moment ago. */
static void take_port(struct test *t)
{
	snprintf(t->port, sizeof(t->port), "%u", free_port());
}

static bool server_listens(struct test *t)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons((uint16_t)atoi(t->port)),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	uint64_t until = clock_ms() + LIMIT_MS;

	while (clock_ms() < until && waitpid(t->server, NULL, WNOHANG) == 0) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		int r = connect(fd, (struct sockaddr *)&a, sizeof(a));

		close(fd);
		if (r == 0)
			return true;
		loop_turn(t->loop, 50 * US_PER_MS);
	}
	return false;
}

/* The program of the peer @tool; false, with a word, where it cannot be had. */
static bool tool_get(struct test *t, const char *tool, char program[static 256])
{
	char command[128];
	FILE *out;
	size_t len;

	snprintf(command, sizeof(command), "tests/integration/peers/get %s 2>&1", tool);
	out = popen(command, "r");
	if (!out || !fgets(program, 256, out))
		snprintf(program, 256, "no answer");
	len = strcspn(program, "\n");
	program[len] = '\0';
	if (out && pclose(out) == 0)
		return true;
	printf("skipped %s: %s\n", t->name, program);
	return false;
}

/* Starts @argv (its first word is set here); opens the client when it listens. */
static bool server_start(struct test *t, const char *name, const char *tool, bool tls,
			 const char **argv)
{
	struct client_options o = client_defaults();
	char program[256];
	char url[64];

	t->name = name;
	t->tls = tls;
	t->asked = t->open = 0;
	if (!tool_get(t, tool, program))
		return false;
	argv[0] = program;
	fflush(stdout);
	t->server = fork();
	if (t->server == 0) {
		int null = open("/dev/null", O_WRONLY);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(null, 1);
		if (!getenv("SLUICE_TEST_LOUD"))
			dup2(null, 2);
		execv(program, (char *const *)argv);
		_exit(127);
	}
	claim(t, server_listens(t), "the server stands");
	snprintf(url, sizeof(url), "http%s://127.0.0.1:%s", tls ? "s" : "", t->port);
	o.base_url = url;
	o.ca_file = tls ? t->own.cert : NULL;
	o.h2_again_us = 200 * US_PER_MS;
	o.max_connections = 250; /* all that are asked at once have one over HTTP/1.1 */
	return client_open(t->loop, &o, &t->log, &t->client) == 0;
}

static void server_end(struct test *t)
{
	client_close(t->client);
	t->client = NULL;
	kill(t->server, SIGKILL);
	waitpid(t->server, NULL, 0);
}

/* ---- what is claimed of each ---- */

static void streams(struct test *t)
{
	struct client_stats stats;
	int good = 0;
	int first = t->asked;

	for (int i = 0; i < 200; i++)
		ask(t, 20, 20);
	claim(t, turn_until_over(t), "200 streams at once end");
	for (int i = first; i < t->asked; i++)
		good += whole(&t->calls[i]);
	claim(t, good == 200, "each of them whole");
	stats = client_stats(t->client);
	printf("     %llu connections opened for %llu calls\n",
	       (unsigned long long)stats.connections_opened, (unsigned long long)stats.calls_begun);
}

static int cancelled_there(struct test *t)
{
	struct call *c = ask_body(t, "/stats", STR("{}"), 0);

	turn_until_over(t);
	return whole(c) || c->bytes ? atoi(c->body) : -1;
}

static void cancels(struct test *t)
{
	int before = cancelled_there(t);
	int seen = 0;
	struct call *asked[40];
	int good = 0;

	for (int i = 0; i < 40; i++) {
		asked[i] = ask(t, 40, 20);
		if (i % 2)
			asked[i]->cancel_after = (size_t)(LINE_BYTES * (1 + i / 4));
	}
	claim(t, turn_until_over(t), "every second of 40 streams is cancelled");
	for (int i = 0; i < 40; i += 2)
		good += whole(asked[i]);
	claim(t, good == 20, "the others are whole");
	for (int i = 0; i < 50 && seen != 20; i++) {
		turn_loop_for(t->loop, 20);
		seen = cancelled_there(t) - before;
	}
	claim(t, seen == 20, "and the server knows of each");
}

/* Its last bytes are known for the last before the stream ends, as a provider's terminator is. */
static void late_ends(struct test *t)
{
	uint64_t until = clock_ms() + LIMIT_MS;
	uint64_t opened = 0;
	int before = cancelled_there(t);
	bool released = true;

	for (int i = 0; i < 10; i++) {
		struct call *c = ask_body(t, "/late/3/20", STR("{}"), 0);

		c->release_after = (size_t)(3 * LINE_BYTES);
		turn_until_over(t);
		released = released && client_stats(t->client).calls == 1;
		while (client_stats(t->client).calls && clock_ms() < until)
			loop_turn(t->loop, 5 * US_PER_MS);
		if (!opened)
			opened = client_stats(t->client).connections_opened;
	}
	claim(t, released, "a call is released before its stream ends");
	claim(t, client_stats(t->client).connections_opened == opened,
	      "ten such calls need no new connection");
	claim(t, cancelled_there(t) == before, "and the server sees none cancelled");
}

/* What a server's end in good order is worth. */
enum order {
	ORDER_WHOLE,  /* GOAWAY: nothing is lost, and what was not processed is known */
	ORDER_UNSAID, /* HTTP/1.1 has no word for what was not processed */
	ORDER_BROKEN, /* a request that crosses its farewell breaks the connection (hypercorn 0.18, node 18) */
};

/* Streams run and more are begun while the server ends in good order. */
static void goes_under_load(struct test *t, enum order order)
{
	int kept = 0, unprocessed = 0, other = 0, told = 0;
	int first = t->asked;

	for (int i = 0; i < 60; i++)
		ask(t, 60, 20);
	turn_loop_for(t->loop, 500);
	kill(t->server, SIGTERM);
	for (int i = 0; i < 40; i++) {
		ask(t, 5, 10);
		turn_loop_for(t->loop, 10);
	}
	claim(t, turn_until_over(t), "it goes in good order: every call ends");
	for (int i = first; i < first + 60; i++)
		kept += whole(&t->calls[i]);
	for (int i = first + 60; i < t->asked; i++) {
		struct call *c = &t->calls[i];

		unprocessed += client_end_unprocessed(c->end);
		other += !whole(c) && !client_end_unprocessed(c->end);
	}
	printf(
	    "     %d of 60 running streams whole; of 40 later calls %d never processed, %d cut\n",
	    kept, unprocessed, other);
	for (int i = first; i < t->asked; i++)
		told += whole(&t->calls[i]) || t->calls[i].end != CLIENT_DONE;
	claim(t, told == 100, "none that was cut passes for whole");
	if (order < ORDER_BROKEN)
		claim(t, kept == 60, "the streams that ran are whole");
	if (order < ORDER_UNSAID)
		claim(t, other == 0, "a later one is whole or was provably never processed");
}

static void killed(struct test *t)
{
	int first = t->asked;
	int good = 0;

	for (int i = 0; i < 30; i++)
		ask(t, 100, 20);
	turn_loop_for(t->loop, 300);
	kill(t->server, SIGKILL);
	claim(t, turn_until_over(t), "it is killed: every call ends");
	for (int i = first; i < t->asked; i++)
		good += t->calls[i].end == CLIENT_CUT && t->calls[i].bytes > 0;
	claim(t, good == 30, "as cut, with what came before");
}

/* Node 18 ends a session that said farewell when one more request reaches it; 20 and later do not. */
static bool node_is_old(void)
{
	FILE *f = popen("node --version", "r");
	int major = 0;
	bool known = f && fscanf(f, "v%d", &major) == 1;

	if (f)
		pclose(f);
	return known && major < 20;
}

static void node(struct test *t, bool tls)
{
	const char *argv[] = {NULL,
			      "tests/integration/peers/node.mjs",
			      tls ? "h2" : "h1",
			      t->port,
			      t->own.cert,
			      t->own.key,
			      NULL};

	take_port(t);
	if (!server_start(t, tls ? "node http2" : "node http/1.1", "node", tls, argv))
		return;
	streams(t);
	cancels(t);
	late_ends(t);
	goes_under_load(t, !tls ? ORDER_UNSAID : node_is_old() ? ORDER_BROKEN : ORDER_WHOLE);
	server_end(t);
}

static bool version_is(struct test *t, const char *want)
{
	struct call *c = ask_body(t, "/version", STR("{}"), 3);

	return turn_until_over(t) && whole(c) && strcmp(c->body, want) == 0;
}

/* An update is under way there: the server before it knows HTTP/1.1 alone. */
static void learns(struct test *t)
{
	const char *argv[] = {
	    NULL, "tests/integration/peers/node.mjs", "late", t->port, t->own.cert, t->own.key,
	    NULL};
	uint64_t until = clock_ms() + LIMIT_MS;
	bool learned = false;

	take_port(t);
	if (!server_start(t, "node without HTTP/2, then with it", "node", true, argv))
		return;
	claim(t, version_is(t, "1.1"), "a call goes by HTTP/1.1 where TLS offers nothing else");
	kill(t->server, SIGUSR2);
	while (!learned && clock_ms() < until && t->asked < CALLS) {
		learned = version_is(t, "2.0");
		turn_loop_for(t->loop, 20);
	}
	claim(t, learned, "and by HTTP/2 some time after the peer speaks it");
	claim(t, version_is(t, "2.0") && version_is(t, "2.0"), "and stays there");
	server_end(t);
}

static void golang(struct test *t)
{
	const char *argv[] = {NULL, t->port, t->own.cert, t->own.key, NULL};

	for (int i = 0; i < 2; i++) {
		take_port(t);
		if (!server_start(t, "Go net/http", "go", true, argv))
			return;
		if (i == 0) {
			streams(t);
			cancels(t);
			goes_under_load(t, ORDER_WHOLE);
		} else {
			killed(t);
		}
		server_end(t);
	}
}

static void python(struct test *t, bool tls)
{
	char bind[32];
	const char *hypercorn[] = {
	    NULL,	  "-m",	       "hypercorn", "--bind",	bind,
	    "--certfile", t->own.cert, "--keyfile", t->own.key, "--graceful-timeout",
	    "10",	  "asgi:app",  NULL};
	const char *uvicorn[] = {NULL,	      "-m",	  "uvicorn", "--host",
				 "127.0.0.1", "--port",	  t->port,   "--log-level",
				 "error",     "asgi:app", NULL};

	take_port(t);
	snprintf(bind, sizeof(bind), "127.0.0.1:%s", t->port);
	setenv("PYTHONPATH", "tests/integration/peers", 1);
	setenv("PYTHONDONTWRITEBYTECODE", "1", 1);
	if (!server_start(t, tls ? "hypercorn" : "uvicorn", "python", tls,
			  tls ? hypercorn : uvicorn))
		return;
	streams(t);
	cancels(t);
	goes_under_load(t, tls ? ORDER_BROKEN : ORDER_UNSAID);
	server_end(t);
}

/* It serves files and echoes; no pace, and no good order at its end. */
static void nghttpd(struct test *t)
{
	enum { BIG = 1024 * 1024 };
	const char *argv[] = {NULL,    "--echo-upload", "-d",	     t->own.dir,
			      t->port, t->own.key,	t->own.cert, NULL};
	cleanup_free char *big = mem_alloc(BIG);
	int good = 0;

	take_port(t);
	if (!server_start(t, "nghttpd", "nghttpd", true, argv))
		return;
	memset(big, 'x', BIG);
	for (int i = 0; i < 40; i++)
		ask_body(t, "/", (struct str){big, BIG}, BIG);
	claim(t, turn_until_over(t), "40 requests of 1 MiB at once are echoed");
	for (int i = 0; i < t->asked; i++)
		good += whole(&t->calls[i]);
	claim(t, good == 40, "each of them whole");
	struct call *cut = ask_body(t, "/", (struct str){big, BIG}, BIG);
	cut->cancel_after = 1;
	turn_until_over(t);
	struct call *after = ask_body(t, "/", STR("after"), 5);
	claim(t, turn_until_over(t) && whole(after), "after a cancel the connection goes on");
	claim(t, client_stats(t->client).connections_opened == 1, "and all had one connection");
	server_end(t);
}

int main(void)
{
	static struct test t;

	if (!certificate_make(&t.own)) {
		printf("skipped: no openssl command\n0 passed, 0 failed\n");
		return 0;
	}
	t.loop = loop_new(1);
	t.sink = (struct log_sink){.fd = 2, .level = LOG_ERROR};
	t.log = (struct log){.sink = &t.sink, .key = "svc", .value = "test"};
	node(&t, true);
	node(&t, false);
	learns(&t);
	golang(&t);
	python(&t, true);
	python(&t, false);
	nghttpd(&t);
	loop_turn(t.loop, 0);
	loop_free(t.loop);
	certificate_remove(&t.own);
	return claims_end(&t.claims);
}
