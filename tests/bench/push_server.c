/* The WebSocket layer of sluice-push alone, for tests/bench/push: lib/net's server, frames made once and queued by
 * reference. Subscribers come to `/sub/CHANNEL`; what publishes comes to `/pub` and sends "CHANNEL TEXT". A subscriber
 * whose queue is full is left out until it has drained, as sluice-push pauses its answers.
 *
 *   push_server     prints its port; ends with SIGTERM */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/base/list.h"
#include "lib/base/mem.h"
#include "lib/net/http.h"
#include "lib/net/loop.h"
#include "lib/net/ws.h"

#define MAX_CHANNEL 10000
#define MAX_QUEUED_BYTES (64 << 10)

struct server {
	struct loop *loop;
	struct ws_deflate *deflate;
	struct list channels[MAX_CHANNEL];
};

struct subscriber {
	struct list link;
	struct ws *ws;
	bool full;
};

static void on_publish(void *ctx, struct ws *ws, bool text, struct str payload)
{
	struct server *server = ctx;
	struct str channel;
	uint64_t number;

	(void)ws;
	if (!text || !str_split(&payload, ' ', &channel) || !str_u64(channel, &number))
		return;
	struct ws_frame *frame = ws_frame_new(true, payload);

	list_each (&server->channels[number % MAX_CHANNEL], at) {
		struct subscriber *s = container_of(at, struct subscriber, link);

		if (!s->full)
			s->full = !ws_send(s->ws, frame);
	}
	ws_frame_unref(frame);
}

static void on_message(void *ctx, struct ws *ws, bool text, struct str payload)
{
	(void)ctx;
	(void)ws;
	(void)text;
	(void)payload;
}

static void on_writable(void *ctx, struct ws *ws)
{
	struct subscriber *s = ctx;

	(void)ws;
	s->full = false;
}

static void on_closed(void *ctx, struct ws *ws, unsigned code)
{
	struct subscriber *s = ctx;

	(void)ws;
	(void)code;
	list_remove(&s->link);
	mem_free(s);
}

static void on_publisher_closed(void *ctx, struct ws *ws, unsigned code)
{
	(void)ctx;
	(void)ws;
	(void)code;
}

static void on_request(void *ctx, struct http_req *req)
{
	static const struct ws_ops subscriber_ops = {
	    .message = on_message, .writable = on_writable, .closed = on_closed};
	static const struct ws_ops publisher_ops = {.message = on_publish,
						    .closed = on_publisher_closed};
	struct server *server = ctx;
	struct ws_options options = ws_defaults();
	struct str path = http_path(req);
	struct subscriber *s;
	struct ws *publisher;
	uint64_t number;

	options.max_queued_bytes = MAX_QUEUED_BYTES;
	options.deflate = server->deflate;
	if (str_is(path, "/pub") &&
	    !ws_accept(req, NULL, &options, &publisher_ops, server, &publisher))
		return;
	if (str_starts(path, "/sub/") &&
	    str_u64((struct str){path.ptr + 5, path.len - 5}, &number)) {
		s = mem_new(struct subscriber);
		if (!ws_accept(req, NULL, &options, &subscriber_ops, s, &s->ws)) {
			list_push_back(&server->channels[number % MAX_CHANNEL], &s->link);
			return;
		}
		mem_free(s);
	}
	http_reply(req, 404, "text/plain", STR("/sub/CHANNEL or /pub\n"));
}

static void on_gone(void *ctx, struct http_req *req)
{
	(void)ctx;
	(void)req;
}

static void on_term(void *ctx, int signum)
{
	struct server *server = ctx;

	(void)signum;
	loop_stop(server->loop);
}

int main(void)
{
	static const struct http_server_ops ops = {
	    .request = on_request, .gone = on_gone, .writable = on_gone};
	static struct server server;
	struct log_sink sink = {.fd = STDERR_FILENO, .level = LOG_WARN};
	struct log log = {.sink = &sink};
	struct http_server_options options = http_server_defaults();
	struct http_server *http;
	struct rlimit files;

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	server.loop = loop_new(0);
	server.deflate = ws_deflate_new(1, 512);
	for (int i = 0; i < MAX_CHANNEL; i++)
		list_init(&server.channels[i]);
	options.listen = "127.0.0.1:0";
	options.max_connections = 20000;
	if (http_server_open(server.loop, &options, &ops, &server, &log, &http) < 0)
		return 1;
	loop_on_signal(server.loop, SIGTERM, on_term, &server);
	printf("%u\n", http_server_port(http));
	fflush(stdout);
	loop_run(server.loop);
	http_server_close(http);
	ws_deflate_unref(server.deflate);
	return 0;
}
