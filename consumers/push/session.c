#include "consumers/push/session.h"

#include <stdio.h>
#include <string.h>

#include "consumers/push/outbox.h"
#include "consumers/push/reply.h"
#include "consumers/push/stream.h"
#include "consumers/push/submission.h"
#include "lib/base/clock.h"
#include "lib/base/enc.h"
#include "lib/base/mem.h"
#include "lib/base/plant.h"
#include "lib/net/http.h"
#include "lib/net/origin.h"
#include "lib/net/ws.h"
#include "lib/store/redis.h"
#include "schemas/keys.h"

#define PROTOCOL "sluice.v1"
#define TOKEN_PROTOCOL "sluice.token."
/* So many mistakes in a minute close the connection. */
#define FAULTS_MAX 10
#define FAULTS_US (60 * US_PER_S)
#define KEY_MAX 4096
/* Text that is read at a time, and gathered for a snapshot; what is behind it follows as deltas. Of a connection that follows many jobs so
 * much less that all of them together have what the socket's queue may have. */
#define PIECE_BYTES 65536
#define PIECE_BYTES_MIN 1024
/* To read what came while the process stood still. */
#define OVERDUE_US (250 * US_PER_MS)

static const struct sm_state states[] = {
    [SESSION_GREETING] = {"greeting", SM(SESSION_CHECKING) | SM(SESSION_CLOSING)},
    [SESSION_CHECKING] = {"checking", SM(SESSION_PREPARING) | SM(SESSION_CLOSING)},
    [SESSION_PREPARING] = {"preparing", SM(SESSION_OPEN) | SM(SESSION_CLOSING)},
    [SESSION_OPEN] = {"open", SM(SESSION_CLOSING)},
    [SESSION_CLOSING] = {"closing", 0},
};

/* ── what is read ── */

static void flow(struct session *s)
{
	if (sm_state(&s->sm) == SESSION_OPEN)
		ws_read_pause(s->ws, s->full || s->loaded);
}

void session_load(struct session *s, size_t more, size_t less)
{
	bool loaded;

	s->pending_bytes += more;
	must(less <= s->pending_bytes);
	s->pending_bytes -= less;
	loaded = s->pending_bytes >= (size_t)s->push->options->max_pending_bytes;
	if (loaded == s->loaded)
		return;
	s->loaded = loaded;
	flow(s);
}

/* ── sending ── */

void session_send(struct session *s, struct frame *f)
{
	if (sm_state(&s->sm) != SESSION_CLOSING && !(PLANTED(SLOW_DROPS) && s->full)) {
		series_add(metric_only(s->push->metric.frames), 1);
		if (!ws_send_text(s->ws, buf_str(&f->text)) && !s->full) {
			s->full = true; /* it asks for no more before it has read */
			flow(s);
			series_add(metric_only(s->push->metric.paused), 1);
			timer_set(&s->clock, s->push->options->slow_ms * US_PER_MS);
			streams_flow(s);
		}
	}
	buf_fini(&f->text);
}

void session_refuse(struct session *s, const struct frame_refusal *refusal)
{
	struct frame f = {0};

	series_add(metric_one(s->push->metric.refused, fault_info(refusal->fault)->code), 1);
	frame_fault(&f, refusal);
	session_send(s, &f);
}

static void on_writable(void *ctx, struct ws *ws)
{
	struct session *s = ctx;

	(void)ws;
	s->full = false;
	if (sm_state(&s->sm) != SESSION_OPEN)
		return;
	timer_stop(&s->clock);
	flow(s);
	streams_flow(s);
}

int64_t session_piece_bytes(const struct session *s, size_t also)
{
	size_t piece = (size_t)s->push->options->max_queued_bytes / (s->streams.count + also + 1);

	if (piece > PIECE_BYTES)
		return PIECE_BYTES;
	return piece < PIECE_BYTES_MIN ? PIECE_BYTES_MIN : (int64_t)piece;
}

/* ── the end ── */

/* Everything that could still call comes to rest. */
static void quiet(struct session *s)
{
	timer_stop(&s->clock);
	timer_stop(&s->leave);
	timer_stop(&s->relook);
	hello_quiet(s);
	cancel_quiet(s);
	submissions_quiet(s);
	streams_quiet(s);
	redis_unsubscribe(s->line_sub);
	redis_unsubscribe(s->events_sub);
	s->line_sub = NULL;
	s->events_sub = NULL;
}

void session_close(struct session *s, unsigned code, const char *reason)
{
	char text[8];

	if (sm_state(&s->sm) == SESSION_CLOSING)
		return;
	snprintf(text, sizeof(text), "%u", code);
	series_add(metric_one(s->push->metric.closed, text), 1);
	log_info(&s->log, "closing", F_UINT("code", code), F_STR("reason", reason),
		 F_STR("session", s->id));
	sm_move(&s->sm, SESSION_CLOSING);
	quiet(s);
	ws_close(s->ws, code, reason);
}

static void release(struct session *s)
{
	struct push *push = s->push;

	quiet(s);
	list_remove(&s->link);
	map_fini(&s->streams);
	told_fini(&s->told);
	mem_free(s);
	push_session_over(push);
}

/* lib/net began to close it: counted and told as what is closed here. */
static void on_closing(void *ctx, struct ws *ws, unsigned code, const char *reason)
{
	(void)ws;
	session_close(ctx, code, reason);
}

static void on_closed(void *ctx, struct ws *ws, unsigned code)
{
	struct session *s = ctx;

	(void)ws;
	log_debug(&s->log, "over", F_UINT("code", code));
	if (sm_state(&s->sm) != SESSION_CLOSING)
		sm_move(&s->sm, SESSION_CLOSING);
	release(s);
}

void session_free(struct session *s)
{
	if (sm_state(&s->sm) != SESSION_CLOSING)
		sm_move(&s->sm, SESSION_CLOSING);
	quiet(s);
	ws_abort(s->ws);
	release(s);
}

static void on_leave(struct timer *t)
{
	if (PLANTED(DRAIN_CUTS)) {
		session_free(container_of(t, struct session, leave));
		return;
	}
	session_close(container_of(t, struct session, leave), CLOSE_DRAIN, "the node goes away");
}

void session_drain(struct session *s, uint64_t within_ms)
{
	uint64_t after_ms = rand_below(loop_rand(s->push->loop), within_ms + 1);
	struct frame f = {0};

	if (sm_state(&s->sm) == SESSION_CLOSING)
		return;
	if (sm_state(&s->sm) == SESSION_OPEN) {
		json_put_int(frame_begin(&f, FRAME_DRAINING), "reconnect_in_ms", (int64_t)after_ms);
		frame_end(&f);
		session_send(s, &f);
	}
	timer_set(&s->leave, after_ms * US_PER_MS);
}

/* ── what the client sends ── */

static void ack(struct session *s, const struct op *op)
{
	struct stream *st = stream_find(s, op->id);

	outbox_ack(s, op->id, st || told_has(&s->told, op->id));
	if (st)
		stream_drop(st, false);
	told_add(&s->told, op->id);
	hello_acked(s);
}

static void pong(struct session *s)
{
	struct frame f = {0};

	frame_begin(&f, FRAME_PONG);
	frame_end(&f);
	session_send(s, &f);
}

/* @bytes: of the message. */
static void run(struct session *s, struct op *op, size_t bytes)
{
	switch (op->name) {
	case OP_SUBMIT:
		submission_begin(s, op, bytes);
		return;
	case OP_ATTACH:
		ws_count(s->ws, (unsigned)op->job_count);
		stream_attach(s, op->jobs, op->job_count, true, NULL);
		return;
	case OP_CANCEL:
		cancel_begin(s, op);
		return;
	case OP_ACK:
		ack(s, op);
		return;
	case OP_PING:
		pong(s);
		return;
	case OP_TOKEN:
		hello_token(s, op);
		return;
	case OP_HELLO:
		session_refuse(s, &(struct frame_refusal){.fault = FAULT_INVALID_REQUEST,
							  .message = "hello was said already."});
		return;
	case OP_AUDIO:
	case OP_AUDIO_END:
	case OP_COUNT:
		return;
	}
}

#define NO_HELLO "the first message must be hello"

/* A message that is no good: the connection stays, unless there are many, or it was to be hello. */
static void mistake(struct session *s, const struct op_error *error)
{
	uint64_t now = loop_now_us(s->push->loop);

	if (sm_state(&s->sm) == SESSION_GREETING) {
		session_close(s, CLOSE_PROTOCOL,
			      error->fault == FAULT_NOT_SUPPORTED ? NO_HELLO : error->message);
		return;
	}
	session_refuse(s, &(struct frame_refusal){.fault = error->fault,
						  .message = error->message,
						  .ref = str_of(error->ref),
						  .job = str_of(error->job)});
	if (error->fault == FAULT_NOT_SUPPORTED)
		return;
	if (!s->faults || now - s->faults_since_us > FAULTS_US) {
		s->faults_since_us = now;
		s->faults = 0;
	}
	if (++s->faults >= FAULTS_MAX)
		session_close(s, CLOSE_PROTOCOL, "ten messages in a minute were not valid");
}

static void on_binary(struct session *s)
{
	struct op_error error = {.fault = FAULT_NOT_SUPPORTED};

	if (sm_state(&s->sm) != SESSION_OPEN) {
		session_close(s, CLOSE_UNSUPPORTED, "the first message must be hello, as text");
		return;
	}
	snprintf(error.message, sizeof(error.message),
		 "Binary messages (voice) are part of the protocol but not supported yet.");
	snprintf(error.ref, sizeof(error.ref), "bin-%u", s->bin_next++);
	mistake(s, &error);
}

static void on_message(void *ctx, struct ws *ws, bool text, struct str payload)
{
	struct session *s = ctx;
	struct op_error error;
	struct op op;

	(void)ws;
	if (sm_state(&s->sm) == SESSION_CLOSING)
		return;
	if (!text) {
		on_binary(s);
		return;
	}
	if (op_read(payload, &op, &error)) {
		mistake(s, &error);
		return;
	}
	series_add(metric_one(s->push->metric.ops, op_text(op.name)), 1);
	if (sm_state(&s->sm) == SESSION_OPEN) {
		run(s, &op, payload.len);
		op_fini(&op);
	} else if (op.name == OP_HELLO) {
		ws_read_pause(s->ws, true); /* until the welcome */
		hello_begin(s, &op);
	} else {
		op_fini(&op);
		session_close(s, CLOSE_PROTOCOL, NO_HELLO);
	}
}

static void on_clock(struct timer *t)
{
	struct session *s = container_of(t, struct session, clock);

	if (sm_state(&s->sm) == SESSION_OPEN) {
		session_close(s, CLOSE_SLOW, "slow reader");
	} else if (!s->overdue) {
		/* A process that stood still has its timers before its sockets: a hello may lie there, and 3501 ends a client for good. */
		s->overdue = true;
		timer_set(&s->clock, OVERDUE_US);
	} else {
		session_close(s, CLOSE_PROTOCOL, "no hello in time");
	}
}

/* ── the upgrade ── */

/* The offered subprotocols: false where there are some and ours is not among them. A token is copied to @key. */
static bool read_protocols(struct http_req *req, bool *ret_ours, struct buf *key)
{
	size_t count;
	const struct http_field *fields = http_fields(req, &count);
	bool any = false;

	*ret_ours = false;
	for (size_t i = 0; i < count; i++) {
		struct str rest = fields[i].value, one;

		if (!str_is(fields[i].name, "sec-websocket-protocol"))
			continue;
		any = true;
		while (str_split(&rest, ',', &one)) {
			one = str_trim(one);
			if (str_is(one, PROTOCOL))
				*ret_ours = true;
			if (!str_starts(one, TOKEN_PROTOCOL) || one.len > KEY_MAX)
				continue;
			one.ptr += strlen(TOKEN_PROTOCOL);
			one.len -= strlen(TOKEN_PROTOCOL);
			buf_reset(key);
			if (enc_base64_decode(key, one))
				buf_reset(key);
		}
	}
	return !any || *ret_ours;
}

/* `Authorization: Bearer KEY`, or x-api-key. */
static struct str header_key(struct http_req *req)
{
	struct str value = http_field(req, "authorization");

	if (value.len > 7 && str_is_nocase((struct str){value.ptr, 7}, "bearer "))
		return str_trim((struct str){value.ptr + 7, value.len - 7});
	return http_field(req, "x-api-key");
}

/* A web page's origin is in the list; other clients send none, or what they like. */
static bool origin_ok(const struct push *push, struct http_req *req)
{
	struct str origin = http_field(req, "origin");

	return !origin.ptr || origin_list_has(push->options->origins, origin);
}

static struct session *session_new(struct push *push, struct str key)
{
	static const char digits[] = "0123456789abcdef";
	struct session *s = mem_new(struct session);
	uint64_t number = rand_u64(loop_rand(push->loop));

	s->push = push;
	s->log = log_child(&push->log, "conn", s->name);
	for (int i = 0; i < SESSION_NONCE_SIZE - 1; i++)
		s->name[i] = digits[number >> (4 * i) & 15];
	memcpy(s->line, s->name, sizeof(s->line));
	s->bin_next = 1;
	s->key = key.len ? mem_dup(key.ptr, key.len) : NULL;
	sm_init(&s->sm, states, &s->log, "session", SESSION_GREETING);
	map_init(&s->streams, rand_u64(loop_rand(push->loop)));
	list_init(&s->all_streams);
	list_init(&s->groups);
	list_init(&s->submissions);
	list_init(&s->cancels);
	timer_init(&s->clock, push->loop, on_clock);
	timer_init(&s->leave, push->loop, on_leave);
	timer_init(&s->relook, push->loop, hello_relook);
	timer_init(&s->patience, push->loop, hello_patience);
	return s;
}

/* Answers @req; @key stays the caller's. */
static void take(struct push *push, struct http_req *req, const char *id, bool ours, struct str key)
{
	static const struct ws_ops ops = {.message = on_message,
					  .writable = on_writable,
					  .closing = on_closing,
					  .closed = on_closed};
	struct ws_options options = ws_defaults();
	struct session *s = session_new(push, key);
	int r;

	options.max_text_bytes = push->options->max_text_bytes < HELLO_TEXT_BYTES
				     ? push->options->max_text_bytes
				     : HELLO_TEXT_BYTES;
	options.skip_binary = true;
	options.max_binary_bytes = push->options->max_binary_bytes;
	options.max_queued_bytes = push->options->max_queued_bytes;
	options.max_messages_per_s = (unsigned)push->options->max_messages_per_s;
	options.ping_us = push->options->ping_ms * US_PER_MS;
	options.deflate = push->options->deflate ? push->deflate : NULL;
	r = ws_accept(req, ours ? PROTOCOL : NULL, &options, &ops, s, &s->ws);
	if (r) {
		hello_quiet(s);
		map_fini(&s->streams);
		mem_free(s);
		bool malformed = r == WS_BAD_KEY || r == WS_BAD_EXTENSIONS;

		if (!malformed) {
			http_add_field(req, "upgrade", STR("websocket"));
			http_add_field(req, "connection", STR("upgrade"));
		}
		if (r == WS_BAD_VERSION)
			http_add_field(req, "sec-websocket-version", STR("13"));
		reply_refuse(req, id, malformed ? 400 : 426, FAULT_INVALID_REQUEST,
			     malformed ? "The WebSocket handshake is malformed."
				       : "This route speaks WebSocket, version 13.");
		return;
	}
	list_push_back(&push->sessions, &s->link);
	push->session_count++;
	series_set(metric_only(push->metric.connections), (double)push->session_count);
	timer_set(&s->clock, push->options->hello_ms * US_PER_MS);
}

void session_accept(struct push *push, struct http_req *req)
{
	struct buf key = {0};
	char id[ID_SIZE];
	bool ours;

	reply_name(push, req, id);
	if (!str_is(http_path(req), "/v1/ws"))
		reply_refuse(req, id, 404, FAULT_NOT_FOUND, "There is no such route here.");
	else if (push->draining)
		reply_refuse(req, id, 503, FAULT_DRAINING, NULL);
	else if (!origin_ok(push, req))
		reply_refuse(req, id, 403, FAULT_FORBIDDEN,
			     "Pages of this origin may not connect.");
	else if (push->session_count >= (size_t)push->options->max_connections)
		reply_refuse(req, id, 503, FAULT_UNAVAILABLE,
			     "This node has as many connections as it takes.");
	else if (!read_protocols(req, &ours, &key))
		reply_refuse(req, id, 400, FAULT_INVALID_REQUEST,
			     "Of subprotocols this route speaks sluice.v1.");
	else
		take(push, req, id, ours, header_key(req).len ? header_key(req) : buf_str(&key));
	if (key.data)
		mem_wipe(key.data, key.cap);
	buf_fini(&key);
}
