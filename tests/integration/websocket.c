/* The WebSocket server on real sockets: what the kernel holds for a peer that does not read, how fast a peer may send, and
 * how much of it is read in one turn. One process: a server and a raw client on one loop. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/net/http.h"
#include "lib/net/loop.h"
#include "lib/net/ws.h"
#include "tests/integration/parts.h"

#define LIMIT_US (10 * US_PER_S)
#define QUEUE_BYTES (8 << 20)

struct bench {
	struct loop *loop;
	struct http_server *server;
	struct ws_options options;
	struct ws *ws;
	size_t messages;
	unsigned closed;
	bool writable;
	int client;
};

static struct claims claims;

static void claim(bool holds, const char *sentence)
{
	claims_note(&claims, holds, NULL, sentence);
}

static void on_message(void *ctx, struct ws *ws, bool text, struct str payload)
{
	struct bench *b = ctx;

	(void)ws;
	(void)text;
	(void)payload;
	b->messages++;
}

static void on_writable(void *ctx, struct ws *ws)
{
	struct bench *b = ctx;

	(void)ws;
	b->writable = true;
}

static void on_closed(void *ctx, struct ws *ws, unsigned code)
{
	struct bench *b = ctx;

	(void)ws;
	b->closed = code;
	b->ws = NULL;
}

static void on_request(void *ctx, struct http_req *req)
{
	static const struct ws_ops ops = {
	    .message = on_message, .writable = on_writable, .closed = on_closed};
	struct bench *b = ctx;

	if (ws_accept(req, NULL, &b->options, &ops, b, &b->ws))
		http_reply(req, 426, NULL, STR(""));
}

static void on_gone(void *ctx, struct http_req *req)
{
	(void)ctx;
	(void)req;
}

/* Turns the loop until @holds or the time is over. */
static bool until(struct bench *b, bool (*holds)(struct bench *b))
{
	uint64_t end = loop_now_us(b->loop) + LIMIT_US;

	while (!holds(b) && loop_now_us(b->loop) < end)
		loop_turn(b->loop, 10 * US_PER_MS);
	return holds(b);
}

static bool is_open(struct bench *b)
{
	return b->ws;
}

static void begin(struct bench *b, const struct log *log)
{
	static const struct http_server_ops ops = {
	    .request = on_request, .gone = on_gone, .writable = on_gone};
	static const char ask[] =
	    "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
	struct http_server_options options = http_server_defaults();
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	options.listen = "127.0.0.1:0";
	*b = (struct bench){.loop = loop_new(1), .options = ws_defaults()};
	must(http_server_open(b->loop, &options, &ops, b, log, &b->server) == 0);
	to.sin_port = htons(http_server_port(b->server));
	b->client = socket(AF_INET, SOCK_STREAM, 0);
	must(connect(b->client, (struct sockaddr *)&to, sizeof(to)) == 0);
	must(write(b->client, ask, sizeof(ask) - 1) == (ssize_t)sizeof(ask) - 1);
	must(fcntl(b->client, F_SETFL, O_NONBLOCK) == 0);
}

static bool is_over(struct bench *b)
{
	return !b->ws;
}

static void end(struct bench *b)
{
	close(b->client);
	if (b->ws)
		until(b, is_over);
	http_server_close(b->server);
	for (int i = 0; i < 4; i++)
		loop_turn(b->loop, 0);
	loop_free(b->loop);
}

/* ---- a peer that does not read ---- */

static void a_peer_that_does_not_read(const struct log *log)
{
	struct bench b;
	struct ws_frame *frame;
	size_t before, sent = 0;
	cleanup_free char *text = mem_alloc(16384);

	begin(&b, log);
	claim(until(&b, is_open), "a client is upgraded");
	memset(text, 'x', 16384);
	frame = ws_frame_new(true, (struct str){text, 16384});
	for (int i = 0; i < QUEUE_BYTES / 16384; i++) {
		ws_send(b.ws, frame);
		sent += 16384;
	}
	ws_frame_unref(frame);
	do { /* until the kernel takes no more */
		before = ws_queued_bytes(b.ws);
		for (int i = 0; i < 20; i++)
			loop_turn(b.loop, US_PER_MS);
	} while (ws_queued_bytes(b.ws) < before);
	claim(sent - ws_queued_bytes(b.ws) < 1 << 20,
	      "of 8 MiB for a client that does not read the kernel takes less than one");
	end(&b);
}

/* ---- a peer that sends too fast ---- */

static void send_messages(struct bench *b, size_t count)
{
	static const char message[] = "\x81\x82\0\0\0\0hi"; /* masked with zeros */
	size_t size = sizeof(message) - 1;
	cleanup_free char *all = mem_alloc(count * size);

	for (size_t i = 0; i < count; i++)
		memcpy(all + i * size, message, size);
	must(write(b->client, all, count * size) == (ssize_t)(count * size));
}

static bool has_some(struct bench *b)
{
	return b->messages > 0;
}

static bool has_25(struct bench *b)
{
	return b->messages >= 25;
}

static void a_peer_that_sends_too_fast(const struct log *log)
{
	struct bench b;
	uint64_t from;

	begin(&b, log);
	b.options.max_messages_per_s = 10;
	must(until(&b, is_open));
	from = loop_now_us(b.loop);
	send_messages(&b, 25);
	must(until(&b, has_some));
	claim(b.messages == 10, "of 25 messages at once ten are read in the first second");
	claim(until(&b, has_25) && b.messages == 25, "none of them is lost");
	claim(loop_now_us(b.loop) - from >= 2 * US_PER_S,
	      "the last ones are read two seconds later");
	end(&b);
}

static bool has_4000(struct bench *b)
{
	return b->messages >= 4000;
}

static void a_peer_that_sends_much_at_once(const struct log *log)
{
	struct bench b;
	size_t before = 0, most = 0;

	begin(&b, log);
	must(until(&b, is_open));
	send_messages(&b, 4000);
	for (uint64_t end_us = loop_now_us(b.loop) + LIMIT_US;
	     b.messages < 4000 && loop_now_us(b.loop) < end_us;) {
		loop_turn(b.loop, 10 * US_PER_MS);
		most = b.messages - before > most ? b.messages - before : most;
		before = b.messages;
	}
	claim(has_4000(&b), "4,000 messages that come at once are all read");
	claim(most <= 512, "one turn reads a few hundred of them at most");
	end(&b);
}

int main(void)
{
	struct log_sink sink = {.fd = STDERR_FILENO, .level = LOG_ERROR};
	struct log log = {.sink = &sink};

	a_peer_that_does_not_read(&log);
	a_peer_that_sends_too_fast(&log);
	a_peer_that_sends_much_at_once(&log);
	return claims_end(&claims);
}
