#include "lib/net/ws.h"

#include <errno.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/net/ws_conn.h"
#include "lib/net/ws_deflate.h"
#include "lib/net/ws_recv.h"

#define READ_BYTES 32768
#define MAX_WRITE_PIECES 64
#define MAX_WRITES_PER_TURN 4
#define FIRST_QUEUE 8
/* Of one connection in one turn: what is left is looked at in the next. */
#define MAX_MESSAGES_PER_TURN 256
#define MAX_BYTES_PER_TURN (1 << 20)
/* Missed pings in a row that end the connection. */
#define MISSED_PINGS 2
#define CODE_NONE 1006
#define CODE_IDLE 3004
#define IDLE "idle"

enum ws_state { WS_OPEN, WS_CLOSING, WS_ENDING, WS_OVER };

struct ws {
	struct conn *conn;
	struct loop *loop;
	const struct ws_ops *ops;
	void *ctx;
	struct ws_options options;
	struct ws_recv recv;
	struct buf rest;	 /* read and not looked at: behind the upgrade, or while paused */
	struct ws_frame **queue; /* a ring */
	uint32_t head;
	uint32_t count;
	uint32_t cap;
	size_t sent; /* of the first frame */
	size_t queued_bytes;
	struct timer timer;
	struct timer slow; /* until the next second, for a peer that sends too many messages */
	struct task task;
	uint64_t second_us; /* when that second began */
	unsigned messages;  /* that were read in it */
	enum ws_state state;
	uint16_t code; /* the peer's */
	uint8_t missed;
	uint8_t
	    bits;   /* of the window that is packed with; 0: permessage-deflate was not agreed on */
	bool heard; /* since the last ping */
	bool full;
	bool paused;
	bool blocked; /* the socket takes no more */
	bool shut;    /* our side is */
	bool eof;     /* theirs is */
	bool busy;    /* inside of a callback: the memory stays */
};

static void ws_settle(struct ws *ws);

struct ws_options ws_defaults(void)
{
	return (struct ws_options){
	    .max_text_bytes = 1 << 20,
	    .max_binary_bytes = 25 << 20,
	    .max_queued_bytes = 256 << 10,
	    .ping_us = 25 * US_PER_S,
	    .close_us = 5 * US_PER_S,
	};
}

/* ---- the queue ---- */

static void queue_push(struct ws *ws, struct ws_frame *frame)
{
	if (ws->count == ws->cap) {
		uint32_t cap = ws->cap ? ws->cap * 2 : FIRST_QUEUE;
		struct ws_frame **grown = mem_alloc(cap * sizeof(struct ws_frame *));

		for (uint32_t i = 0; i < ws->count; i++)
			grown[i] = ws->queue[(ws->head + i) % ws->cap];
		mem_free(ws->queue);
		ws->queue = grown;
		ws->cap = cap;
		ws->head = 0;
	}
	ws->queue[(ws->head + ws->count++) % ws->cap] = frame;
	ws->queued_bytes += frame->len;
	task_post(&ws->task);
}

/* @count bytes of the front are out. */
static void queue_sent(struct ws *ws, size_t count)
{
	ws->queued_bytes -= count;
	while (count) {
		struct ws_frame *first = ws->queue[ws->head];
		size_t left = first->len - ws->sent;

		if (count < left) {
			ws->sent += count;
			return;
		}
		count -= left;
		ws->sent = 0;
		ws->head = (ws->head + 1) % ws->cap;
		ws->count--;
		ws_frame_unref(first);
	}
	if (!ws->count && ws->cap > FIRST_QUEUE) {
		mem_free(ws->queue);
		ws->queue = NULL;
		ws->cap = ws->head = 0;
	}
}

static void queue_fini(struct ws *ws)
{
	for (uint32_t i = 0; i < ws->count; i++)
		ws_frame_unref(ws->queue[(ws->head + i) % ws->cap]);
	mem_free(ws->queue);
	ws->queue = NULL;
	ws->count = ws->cap = ws->head = 0;
	ws->queued_bytes = 0;
}

/* ---- the end ---- */

static void ws_free(struct ws *ws)
{
	task_cancel(&ws->task);
	timer_stop(&ws->timer);
	timer_stop(&ws->slow);
	conn_close(ws->conn);
	ws_recv_fini(&ws->recv);
	ws_deflate_unref(ws->recv.deflate);
	buf_fini(&ws->rest);
	queue_fini(ws);
	mem_free(ws);
}

/* The last word; from the loop only. */
static void ws_finish(struct ws *ws)
{
	if (ws->state == WS_OVER)
		return;
	ws->state = WS_OVER;
	timer_stop(&ws->timer);
	timer_stop(&ws->slow);
	conn_close(ws->conn);
	ws->conn = NULL;
	ws->ops->closed(ws->ctx, ws, ws->code);
	task_post(&ws->task);
}

/* No more frames are read; what waits is sent within the close clock. */
static void ws_end(struct ws *ws)
{
	if (ws->state == WS_OPEN || ws->state == WS_CLOSING) {
		ws->state = WS_ENDING;
		timer_set(&ws->timer, ws->options.close_us);
		task_post(&ws->task);
	}
}

/* ---- receiving ---- */

static void on_pinged(struct ws *ws, struct str payload)
{
	/* Who asks faster than he listens gets no answer to each. */
	if (ws->queued_bytes < ws->options.max_queued_bytes)
		queue_push(ws, ws_frame_make(WS_OP_PONG, payload));
}

static void on_closed_by_peer(struct ws *ws)
{
	ws->code = ws->recv.code;
	if (ws->state == WS_OPEN)
		queue_push(ws, ws_frame_close(ws->code, STR("")));
	ws_end(ws);
}

/* Behind what closes it: the owner may do what he likes. Inside of a callback. */
static void tell_closing(struct ws *ws, unsigned code, const char *reason)
{
	if (ws->ops->closing)
		ws->ops->closing(ws->ctx, ws, code, reason);
}

static void on_broken(struct ws *ws)
{
	bool first = ws->state == WS_OPEN;

	if (first)
		queue_push(ws, ws_frame_close(ws->recv.code, str_of(ws->recv.reason)));
	ws_end(ws);
	if (first)
		tell_closing(ws, ws->recv.code, ws->recv.reason);
}

/* Messages or control frames were read. With as many as a second may have, reading stops until the next one; with twice as many, for
 * two. */
static void count_messages(struct ws *ws, unsigned count)
{
	unsigned most = ws->options.max_messages_per_s;
	uint64_t now = loop_now_us(ws->loop);

	if (!most)
		return;
	if (!timer_is_set(&ws->slow) && now - ws->second_us >= US_PER_S) {
		ws->second_us = now;
		ws->messages = 0;
	}
	ws->messages += count;
	if (ws->messages >= most)
		timer_set(&ws->slow, ws->second_us + ws->messages / most * US_PER_S - now);
}

static void on_slow(struct timer *t)
{
	task_post(&container_of(t, struct ws, slow)->task);
}

static bool reading(const struct ws *ws)
{
	return (ws->state == WS_OPEN || ws->state == WS_CLOSING) && !ws->paused &&
	       !timer_is_set(&ws->slow);
}

static void ws_process_some(struct ws *ws, struct str *in)
{
	size_t count = 0, bytes = 0;
	struct str payload;

	while (reading(ws)) {
		if (count++ >= MAX_MESSAGES_PER_TURN || bytes >= MAX_BYTES_PER_TURN) {
			task_post(&ws->task);
			return;
		}
		enum ws_event event = ws_recv_next(&ws->recv, in, &payload);

		if (event == WS_MORE)
			return;
		bytes += payload.len;
		count_messages(ws, 1);
		switch (event) {
		case WS_MORE:
			break;
		case WS_TEXT:
		case WS_BINARY:
			if (ws->state == WS_OPEN)
				ws->ops->message(ws->ctx, ws, event == WS_TEXT, payload);
			break;
		case WS_PING:
			if (ws->state == WS_OPEN)
				on_pinged(ws, payload);
			break;
		case WS_PONG:
			break;
		case WS_CLOSE:
			on_closed_by_peer(ws);
			break;
		case WS_BROKEN:
			on_broken(ws);
			break;
		}
	}
}

/* Cuts what was used off @in. */
static void ws_process(struct ws *ws, struct str *in)
{
	ws_process_some(ws, in);
	/* Also where the owner paused it in the middle, for however long. */
	ws_recv_rest(&ws->recv);
}

static void ws_process_rest(struct ws *ws)
{
	struct str in = buf_str(&ws->rest);

	ws_process(ws, &in);
	if (ws->state == WS_ENDING)
		in.len = 0;
	buf_take(&ws->rest, ws->rest.len - in.len);
	if (!ws->rest.len)
		buf_fini(&ws->rest);
}

static void on_eof(struct ws *ws)
{
	ws->eof = true;
	if (ws->state != WS_ENDING || ws->shut)
		ws_finish(ws);
}

static void ws_read(struct ws *ws)
{
	char bytes[READ_BYTES];
	ssize_t n = conn_read(ws->conn, bytes, sizeof(bytes));

	if (n == -EAGAIN)
		return;
	if (n < 0) {
		ws_finish(ws);
		return;
	}
	if (n == 0) {
		on_eof(ws);
		return;
	}
	ws->heard = true;
	if (ws->state == WS_ENDING)
		return;
	struct str in = {bytes, (size_t)n};

	if (ws->rest.len) {
		buf_add_str(&ws->rest, in);
		ws_process_rest(ws);
		return;
	}
	ws_process(ws, &in);
	if (ws->state == WS_OPEN || ws->state == WS_CLOSING)
		buf_add_str(&ws->rest, in);
}

/* ---- sending ---- */

static int ws_gather(struct ws *ws, struct iovec *iov)
{
	int count = 0;

	for (uint32_t i = 0; i < ws->count && count < MAX_WRITE_PIECES; i++) {
		struct ws_frame *frame = ws->queue[(ws->head + i) % ws->cap];
		size_t skip = i ? 0 : ws->sent;

		iov[count++] = (struct iovec){frame->bytes + skip, frame->len - skip};
	}
	return count;
}

static void ws_write(struct ws *ws)
{
	struct iovec iov[MAX_WRITE_PIECES];

	ws->blocked = false;
	for (int i = 0; i < MAX_WRITES_PER_TURN && ws->count; i++) {
		ssize_t n = conn_writev(ws->conn, iov, ws_gather(ws, iov));

		if (n == -EAGAIN)
			break;
		if (n < 0) {
			ws_finish(ws);
			return;
		}
		queue_sent(ws, (size_t)n);
	}
	ws->blocked = ws->count > 0;
	if (ws->full && ws->queued_bytes <= ws->options.max_queued_bytes / 2) {
		ws->full = false;
		if (ws->state == WS_OPEN && ws->ops->writable)
			ws->ops->writable(ws->ctx, ws);
	}
	if (ws->state != WS_ENDING || ws->count || ws->shut)
		return;
	if (ws->eof) {
		ws_finish(ws);
		return;
	}
	ws->shut = true;
	conn_shutdown(ws->conn);
}

/* ---- the turn ---- */

/* Brings the wanted events up to what the connection is, or lets it go. */
static void ws_settle(struct ws *ws)
{
	unsigned events = 0;

	if (ws->state == WS_OVER)
		return;
	if (!ws->eof && ((!ws->paused && !timer_is_set(&ws->slow)) || ws->state != WS_OPEN) &&
	    ws->rest.len < READ_BYTES)
		events |= CONN_READABLE;
	if (ws->blocked)
		events |= CONN_WRITABLE;
	conn_want(ws->conn, events);
}

static void on_task(struct task *t)
{
	struct ws *ws = container_of(t, struct ws, task);

	if (ws->state == WS_OVER) {
		ws_free(ws);
		return;
	}
	ws->busy = true;
	if (ws->rest.len)
		ws_process_rest(ws);
	if ((ws->count || ws->state == WS_ENDING) && ws->state != WS_OVER && !ws->blocked)
		ws_write(ws);
	ws_settle(ws);
	ws->busy = false;
}

static void on_ready(void *ctx, struct conn *conn, unsigned events)
{
	struct ws *ws = ctx;

	(void)conn;
	ws->busy = true;
	if (events & CONN_READABLE)
		ws_read(ws);
	if ((events & CONN_WRITABLE) && ws->state != WS_OVER)
		ws_write(ws);
	ws_settle(ws);
	ws->busy = false;
}

static void on_timer(struct timer *t)
{
	struct ws *ws = container_of(t, struct ws, timer);

	if (ws->state != WS_OPEN) {
		ws_finish(ws);
		return;
	}
	if (ws->heard || ws->paused)
		ws->missed = 0;
	else if (++ws->missed >= MISSED_PINGS) {
		ws_close(ws, CODE_IDLE, IDLE);
		ws->busy = true;
		tell_closing(ws, CODE_IDLE, IDLE);
		ws->busy = false;
		return;
	}
	ws->heard = false;
	queue_push(ws, ws_frame_make(WS_OP_PING, STR("")));
	timer_set(&ws->timer, ws->options.ping_us);
}

static void on_open(void *ctx, struct conn *conn)
{
	(void)ctx;
	(void)conn;
}

static void on_failed(void *ctx, struct conn *conn, int error, const char *detail)
{
	(void)conn;
	(void)error;
	(void)detail;
	ws_finish(ctx);
}

static const struct conn_ops conn_events = {on_open, on_ready, on_failed};

/* ---- the face ---- */

struct ws *ws_conn_new(struct loop *loop, struct conn *conn, struct buf *rest,
		       struct ws_frame *first, const struct ws_terms *terms,
		       const struct ws_options *options, const struct ws_ops *ops, void *ctx)
{
	struct ws *ws = mem_new(struct ws);

	ws->conn = conn;
	ws->loop = loop;
	ws->ops = ops;
	ws->ctx = ctx;
	ws->options = *options;
	ws->rest = *rest;
	ws->code = CODE_NONE;
	ws->heard = true;
	ws_recv_init(&ws->recv, options->max_text_bytes, options->max_binary_bytes);
	ws->recv.skip_binary = options->skip_binary;
	ws->bits = terms->bits;
	if (ws->bits)
		ws->recv.deflate = ws_deflate_ref(options->deflate);
	task_init(&ws->task, loop, on_task);
	timer_init(&ws->timer, loop, on_timer);
	timer_init(&ws->slow, loop, on_slow);
	/* The first ping anywhere in the second half, so that thousands that came at once do not stay together. */
	timer_set(&ws->timer,
		  options->ping_us / 2 + rand_below(loop_rand(loop), options->ping_us / 2 + 1));
	conn_set_ctx(conn, &conn_events, ws);
	conn_want(conn, CONN_READABLE);
	queue_push(ws, first);
	return ws;
}

bool ws_send(struct ws *ws, struct ws_frame *frame)
{
	if (ws->state != WS_OPEN)
		return true;
	queue_push(ws, ws->bits ? ws_frame_pack(frame, ws->recv.deflate, ws->bits)
				: ws_frame_ref(frame));
	if (ws->queued_bytes > ws->options.max_queued_bytes)
		ws->full = true;
	return !ws->full;
}

bool ws_send_text(struct ws *ws, struct str payload)
{
	struct ws_frame *frame = ws_frame_new(true, payload);
	bool more = ws_send(ws, frame);

	ws_frame_unref(frame);
	return more;
}

size_t ws_queued_bytes(const struct ws *ws)
{
	return ws->queued_bytes;
}

void ws_count(struct ws *ws, unsigned more)
{
	if (ws->state == WS_OPEN)
		count_messages(ws, more);
}

void ws_limit(struct ws *ws, size_t max_text_bytes, size_t max_binary_bytes)
{
	ws->recv.max_text_bytes = max_text_bytes;
	ws->recv.max_binary_bytes = max_binary_bytes;
}

void ws_read_pause(struct ws *ws, bool pause)
{
	ws->paused = pause;
	task_post(&ws->task);
}

void ws_close(struct ws *ws, unsigned code, const char *reason)
{
	if (ws->state != WS_OPEN)
		return;
	queue_push(ws, ws_frame_close(code, str_of(reason)));
	ws->state = WS_CLOSING;
	ws->paused = false;
	timer_stop(&ws->slow);
	timer_set(&ws->timer, ws->options.close_us);
}

void ws_abort(struct ws *ws)
{
	if (ws->state == WS_OVER)
		return;
	ws->state = WS_OVER;
	timer_stop(&ws->timer);
	timer_stop(&ws->slow);
	conn_reset(ws->conn);
	ws->conn = NULL;
	if (ws->busy)
		task_post(&ws->task);
	else
		ws_free(ws);
}

struct str ws_peer(const struct ws *ws)
{
	return str_of(conn_peer(ws->conn));
}
