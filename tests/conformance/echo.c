/* A WebSocket server on lib/net that sends every message back, with the settings of sluice-push but for three things that
 * the cases or their runner need: messages up to 16 MiB; every message is packed (the runner takes a text that was not for
 * an error in sections 12 and 13); no pings (it takes one within a long case for the case's end). For tests/conformance/run.
 *
 *   echo [ADDRESS]     127.0.0.1:0 by default; prints the port that it listens on; ends with SIGTERM */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/net/http.h"
#include "lib/net/loop.h"
#include "lib/net/ws.h"

#define MAX_MESSAGE_BYTES (16 << 20)
#define MAX_QUEUED_BYTES (1 << 20)

struct echo {
	struct loop *loop;
	struct ws_deflate *deflate;
};

static void on_message(void *ctx, struct ws *ws, bool text, struct str payload)
{
	struct ws_frame *frame = ws_frame_new(text, payload);

	(void)ctx;
	/* What is not read back stops what is read. */
	if (!ws_send(ws, frame))
		ws_read_pause(ws, true);
	ws_frame_unref(frame);
}

static void on_writable(void *ctx, struct ws *ws)
{
	(void)ctx;
	ws_read_pause(ws, false);
}

static void on_closed(void *ctx, struct ws *ws, unsigned code)
{
	(void)ctx;
	(void)ws;
	(void)code;
}

static void on_request(void *ctx, struct http_req *req)
{
	static const struct ws_ops ops = {
	    .message = on_message, .writable = on_writable, .closed = on_closed};
	struct echo *echo = ctx;
	struct ws_options options = ws_defaults();
	struct ws *ws;

	options.max_text_bytes = options.max_binary_bytes = MAX_MESSAGE_BYTES;
	options.max_queued_bytes = MAX_QUEUED_BYTES;
	options.deflate = echo->deflate;
	options.ping_us = 3600 * US_PER_S;
	if (ws_accept(req, NULL, &options, &ops, echo, &ws))
		http_reply(req, 426, "text/plain", STR("WebSocket, version 13\n"));
}

static void on_gone(void *ctx, struct http_req *req)
{
	(void)ctx;
	(void)req;
}

static void on_term(void *ctx, int signum)
{
	struct echo *echo = ctx;

	(void)signum;
	loop_stop(echo->loop);
}

int main(int argc, char **argv)
{
	static const struct http_server_ops ops = {
	    .request = on_request, .gone = on_gone, .writable = on_gone};
	struct log_sink sink = {.fd = STDERR_FILENO, .level = LOG_WARN};
	struct log log = {.sink = &sink};
	struct http_server_options options = http_server_defaults();
	struct http_server *server;
	struct echo echo = {.loop = loop_new(0), .deflate = ws_deflate_new(1, 0)};

	options.listen = argc > 1 ? argv[1] : "127.0.0.1:0";
	if (http_server_open(echo.loop, &options, &ops, &echo, &log, &server) < 0)
		return 1;
	loop_on_signal(echo.loop, SIGTERM, on_term, &echo);
	printf("%u\n", http_server_port(server));
	fflush(stdout);
	loop_run(echo.loop);
	/* Connections that are still open go with the process. */
	http_server_close(server);
	ws_deflate_unref(echo.deflate);
	return 0;
}
