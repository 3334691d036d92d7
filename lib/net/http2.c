/* HTTP/2 (RFC 9113) as a carrier of the HTTP server's requests: one connection, many streams. nghttp2 keeps the
 * protocol's rules; limits, clocks and the order of what the owner is told are kept here.
 *
 * The owner's calls only submit; bytes move, and the owner is told, from the loop (on_ready, flush, clock). */
#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/net/http_impl.h"

#define OUT_BYTES 65536
#define READS_PER_WAKE 4
#define STREAM_WINDOW (256 * 1024)
#define CONNECTION_WINDOW (4 * 1024 * 1024)
/* The grace between the first GOAWAY and the last one: requests on their way are still served. */
#define DRAIN_US (100 * US_PER_MS)
/* From the end of an answer to the reset of a request that goes on. */
#define LINGER_US (1 * US_PER_S)

struct h2_conn {
	struct http_link link;
	struct conn *conn;
	nghttp2_session *session;
	struct list streams;
	struct list writable; /* streams whose owners wait for room */
	size_t count;
	struct timer clock;
	struct task flush;
	struct buf out;
	uint64_t idle_us;  /* since when without a stream */
	uint64_t drain_us; /* when the last GOAWAY is due; 0: not draining */
	bool goaway_sent;
	bool busy; /* inside nghttp2 or the owner's callbacks: freed by the outermost function */
	bool dead;
	bool cut; /* at the next flush */
	bool cut_resets;
	char peer[64];
};

struct h2_stream {
	struct http_req req;
	struct list link;
	struct list full; /* in the connection's writable */
	struct h2_conn *conn;
	int32_t id;
	struct buf out; /* of the answer's body */
	size_t head_bytes;
	size_t field_cap;
	uint64_t heard_us;
	int refuse; /* the status of a head beyond the limits */
	bool has_head;
	bool peer_ended;
	bool asked;	/* ops.request was called */
	bool deferred;	/* nghttp2 waits for nghttp2_session_resume_data */
	bool out_ended; /* END_STREAM has been framed */
};

static struct h2_stream *stream_of(struct h2_conn *c, int32_t id)
{
	return nghttp2_session_get_stream_user_data(c->session, id);
}

static struct h2_stream *stream_of_req(const struct http_req *req)
{
	return container_of((struct http_req *)req, struct h2_stream, req);
}

static void stream_free(struct h2_stream *s)
{
	list_remove(&s->link);
	list_remove(&s->full);
	s->conn->count--;
	buf_fini(&s->out);
	http_req_fini(&s->req);
	mem_free(s);
}

static void conn_free_now(struct h2_conn *c)
{
	while (!list_empty(&c->streams))
		stream_free(list_first(&c->streams, struct h2_stream, link));
	nghttp2_session_del(c->session);
	buf_fini(&c->out);
	mem_free(c);
}

/* Tells the owner of every stream, closes, frees (or leaves that to the outermost function: streams stay in memory
 * until then). The server may go away with it. */
static void h2_kill(struct h2_conn *c)
{
	bool outermost = !c->busy;
	if (c->dead)
		return;
	c->dead = true;
	c->busy = true;
	http_link_remove(&c->link);
	timer_stop(&c->clock);
	task_cancel(&c->flush);
	conn_close(c->conn);
	c->conn = NULL;
	list_each (&c->streams, at) {
		http_tell_gone(&container_of(at, struct h2_stream, link)->req);
	}
	if (outermost)
		conn_free_now(c);
}

/* The connection ends in the middle of what it carries. From the loop. */
static void h2_cut_now(struct h2_conn *c)
{
	char *scratch = c->link.server->scratch;
	ssize_t n = 1;
	/* Unread bytes would make a reset of the FIN. */
	while (!c->cut_resets && n > 0)
		n = conn_read(c->conn, scratch, HTTP_SCRATCH_BYTES);
	if (c->cut_resets)
		conn_reset(c->conn);
	else
		conn_close(c->conn);
	c->conn = NULL;
	h2_kill(c);
}

/* ---- answers ---- */

static ssize_t answer_read(nghttp2_session *session, int32_t id, uint8_t *into, size_t size,
			   uint32_t *flags, nghttp2_data_source *source, void *user)
{
	struct h2_stream *s = stream_of(user, id);
	(void)session;
	(void)source;
	if (!s)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	size_t take = s->out.len < size ? s->out.len : size;
	if (take)
		memcpy(into, s->out.data + s->out.head, take);
	buf_take(&s->out, take);
	if (s->out.len == 0 && s->req.answer == HTTP_ANSWER_WHOLE) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		buf_fini(&s->out);
	} else if (take == 0) {
		s->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	if (s->req.full && s->out.len <= s->conn->link.server->options.max_queued_bytes / 2 &&
	    !list_linked(&s->full))
		list_push_back(&s->conn->writable, &s->full);
	return (ssize_t)take;
}

static nghttp2_nv nv_of(struct str name, struct str value)
{
	return (nghttp2_nv){(uint8_t *)name.ptr, (uint8_t *)value.ptr, name.len, value.len,
			    NGHTTP2_NV_FLAG_NONE};
}

/* Names of fields are lower case on HTTP/2. */
static struct str lower(struct arena *a, struct str name)
{
	char *text = arena_dup(a, name.ptr, name.len);
	for (size_t i = 0; i < name.len; i++)
		if (text[i] >= 'A' && text[i] <= 'Z')
			text[i] = (char)(text[i] + 32);
	return (struct str){text, name.len};
}

static void answer_submit(struct h2_stream *s, int status, const char *content_type,
			  const size_t *length, bool body)
{
	struct http_req *req = &s->req;
	nghttp2_nv *nv = arena_alloc(&req->arena, (req->extra_count + 4) * sizeof(*nv));
	nghttp2_data_provider provider = {.read_callback = answer_read};
	char number[32];
	char code[16];
	size_t n = 0;
	snprintf(code, sizeof(code), "%d", status);
	nv[n++] = nv_of(STR(":status"), str_of(code));
	nv[n++] = nv_of(STR("date"), http_server_date(req->server));
	if (content_type)
		nv[n++] = nv_of(STR("content-type"), str_of(content_type));
	if (length) {
		snprintf(number, sizeof(number), "%zu", *length);
		nv[n++] = nv_of(STR("content-length"), str_of(number));
	}
	for (size_t i = 0; i < req->extra_count; i++)
		nv[n++] = nv_of(lower(&req->arena, req->extra[i].name), req->extra[i].value);
	nghttp2_submit_response(s->conn->session, s->id, nv, n, body ? &provider : NULL);
	task_post(&s->conn->flush);
}

static void h2_reply(struct http_req *req, int status, const char *content_type, struct str body)
{
	struct h2_stream *s = stream_of_req(req);
	bool bodyless = http_bodyless(status);
	bool sent = body.len > 0 && !bodyless && !str_is(req->method, "HEAD");
	if (sent)
		buf_add_str(&s->out, body);
	answer_submit(s, status, content_type, bodyless ? NULL : &body.len, sent);
}

static void h2_stream_begin(struct http_req *req, int status, const char *content_type)
{
	bool body = !http_bodyless(status) && !str_is(req->method, "HEAD");
	answer_submit(stream_of_req(req), status, content_type, NULL, body);
}

static void stream_resume(struct h2_stream *s)
{
	if (!s->deferred)
		return;
	s->deferred = false;
	nghttp2_session_resume_data(s->conn->session, s->id);
	task_post(&s->conn->flush);
}

static bool h2_stream_write(struct http_req *req, struct str bytes)
{
	struct h2_stream *s = stream_of_req(req);
	if (str_is(req->method, "HEAD"))
		return true;
	buf_add_str(&s->out, bytes);
	stream_resume(s);
	if (s->out.len <= req->server->options.max_queued_bytes)
		return true;
	req->full = true;
	return false;
}

static size_t h2_stream_queued(const struct http_req *req)
{
	return stream_of_req(req)->out.len;
}

static void h2_stream_end(struct http_req *req)
{
	stream_resume(stream_of_req(req));
}

static void h2_abort(struct http_req *req)
{
	struct h2_stream *s = stream_of_req(req);
	buf_fini(&s->out);
	nghttp2_submit_rst_stream(s->conn->session, NGHTTP2_FLAG_NONE, s->id,
				  NGHTTP2_INTERNAL_ERROR);
	task_post(&s->conn->flush);
}

static void h2_cut(struct http_req *req, enum http_cut how, uint32_t code)
{
	struct h2_stream *s = stream_of_req(req);
	struct h2_conn *c = s->conn;
	buf_fini(&s->out);
	switch (how) {
	case HTTP_CUT_FIN:
	case HTTP_CUT_RST:
		c->cut = true;
		c->cut_resets = how == HTTP_CUT_RST;
		break;
	case HTTP_CUT_STREAM:
		nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, s->id, code);
		break;
	case HTTP_CUT_UNDONE:
		nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE, s->id > 2 ? s->id - 2 : 0,
				      code, NULL, 0);
		break;
	}
	task_post(&c->flush);
}

static void h2_goaway(struct http_req *req, uint32_t code)
{
	struct h2_conn *c = stream_of_req(req)->conn;
	nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE,
			      nghttp2_session_get_last_proc_stream_id(c->session), code, NULL, 0);
	task_post(&c->flush);
}

static bool h2_take(struct http_req *req, struct conn **ret_conn, struct buf *ret_rest)
{
	(void)req;
	(void)ret_conn;
	(void)ret_rest;
	return false;
}

static const struct http_carrier h2_carrier = {
    .reply = h2_reply,
    .stream_begin = h2_stream_begin,
    .stream_write = h2_stream_write,
    .stream_queued = h2_stream_queued,
    .stream_end = h2_stream_end,
    .abort = h2_abort,
    .cut = h2_cut,
    .goaway = h2_goaway,
    .take = h2_take,
};

/* ---- requests ---- */

/* An answer of the server's own; the owner, where he knows of the request, is told that it is gone. */
static void stream_refuse(struct h2_stream *s, int status, const char *reason)
{
	struct str type = {NULL, 0};
	struct str body = {NULL, 0};
	http_tell_gone(&s->req);
	if (s->conn->dead || s->req.answer != HTTP_ANSWER_NONE)
		return;
	http_error_fields(&s->req, status);
	s->req.answer = HTTP_ANSWER_WHOLE;
	http_error_body(s->req.server, status, reason, &type, &body);
	h2_reply(&s->req, status, arena_dup(&s->req.arena, type.ptr, type.len), body);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct h2_conn *c = user;
	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	struct h2_stream *s = mem_new(struct h2_stream);
	s->conn = c;
	s->id = frame->hd.stream_id;
	http_req_init(&s->req, c->link.server, &h2_carrier);
	s->req.peer = str_of(c->peer);
	s->heard_us = loop_now_us(c->link.server->loop);
	list_push_back(&c->streams, &s->link);
	c->count++;
	nghttp2_session_set_stream_user_data(session, s->id, s);
	return 0;
}

static struct str arena_str(struct arena *a, const uint8_t *bytes, size_t len)
{
	return (struct str){arena_dup(a, bytes, len), len};
}

static void stream_add_field(struct h2_stream *s, struct str name, struct str value)
{
	struct http_req *req = &s->req;
	if (req->field_count == s->field_cap) {
		s->field_cap = s->field_cap ? s->field_cap * 2 : 16;
		struct http_field *more =
		    arena_alloc(&req->arena, s->field_cap * sizeof(struct http_field));
		if (req->field_count)
			memcpy(more, req->fields, req->field_count * sizeof(*more));
		req->fields = more;
	}
	req->fields[req->field_count++] = (struct http_field){name, value};
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
		     void *user)
{
	struct h2_conn *c = user;
	struct h2_stream *s = stream_of(c, frame->hd.stream_id);
	const struct http_server_options *o = &c->link.server->options;
	(void)session;
	(void)flags;
	if (!s || s->has_head || s->refuse) /* trailers are nobody's business */
		return 0;
	s->head_bytes += name_len + value_len + 4;
	struct str key = {(const char *)name, name_len};
	bool pseudo = name_len && name[0] == ':';
	if (s->head_bytes > o->max_head_bytes || (!pseudo && s->req.field_count >= o->max_fields)) {
		s->refuse = 431;
		return 0;
	}
	struct str text = arena_str(&s->req.arena, value, value_len);
	if (str_is(key, ":method"))
		s->req.method = text;
	else if (str_is(key, ":path") && !http_req_target(&s->req, text))
		s->refuse = 400;
	else if (str_is(key, ":authority"))
		stream_add_field(s, STR("host"), text);
	else if (!pseudo)
		stream_add_field(s, arena_str(&s->req.arena, name, name_len), text);
	return 0;
}

static void stream_continue(struct h2_stream *s)
{
	nghttp2_nv nv = nv_of(STR(":status"), STR("100"));
	if (!s->peer_ended && str_is_nocase(http_field(&s->req, "expect"), "100-continue"))
		nghttp2_submit_headers(s->conn->session, NGHTTP2_FLAG_NONE, s->id, NULL, &nv, 1,
				       NULL);
}

static void on_head(struct h2_stream *s)
{
	uint64_t length;
	if (s->has_head)
		return;
	s->has_head = true;
	s->req.received_us = loop_now_us(s->req.server->loop);
	if (s->refuse == 431) {
		stream_refuse(s, 431, "the header fields are too large");
		return;
	}
	if (s->refuse || !s->req.path.ptr || str_is(s->req.method, "CONNECT")) {
		stream_refuse(s, 400, "the request target is not acceptable");
		return;
	}
	http_tell_head(&s->req);
	if (s->conn->dead || s->req.answer != HTTP_ANSWER_NONE)
		return;
	if (str_u64(http_field(&s->req, "content-length"), &length) &&
	    length > s->req.max_body_bytes)
		stream_refuse(s, 413, "the body is too large");
	else
		stream_continue(s);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct h2_conn *c = user;
	bool carries = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
	struct h2_stream *s = carries ? stream_of(c, frame->hd.stream_id) : NULL;
	(void)session;
	if (!s || c->dead)
		return 0;
	s->peer_ended = s->peer_ended || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
	if (frame->hd.type == NGHTTP2_HEADERS)
		on_head(s);
	if (!c->dead && s->peer_ended && !s->asked && s->req.answer == HTTP_ANSWER_NONE) {
		s->asked = true;
		http_tell_request(&s->req);
	}
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
		   size_t len, void *user)
{
	struct h2_conn *c = user;
	struct h2_stream *s = stream_of(c, id);
	(void)flags;
	nghttp2_session_consume_connection(session, len);
	if (!s || c->dead || s->req.answer != HTTP_ANSWER_NONE)
		return 0; /* read and forgotten; RST_STREAM follows the answer */
	nghttp2_session_consume_stream(session, id, len);
	s->heard_us = loop_now_us(c->link.server->loop);
	if (s->req.body.len + len > s->req.max_body_bytes)
		stream_refuse(s, 413, "the body is too large");
	else
		buf_add(&s->req.body, data, len);
	return 0;
}

static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct h2_stream *s;
	(void)session;
	if (frame->hd.type == NGHTTP2_GOAWAY) {
		/* Not the notice that precedes the last one. */
		if (frame->goaway.last_stream_id != INT32_MAX)
			((struct h2_conn *)user)->goaway_sent = true;
		return 0;
	}
	if ((frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS) ||
	    !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	s = stream_of(user, frame->hd.stream_id);
	if (!s)
		return 0;
	/* Where the request has not ended, the clock resets the stream in a while (RFC 9113, 8.1): clients that get the
	 * reset beside the answer lose the answer. Credit is not given any more, so they stop at their window. */
	s->out_ended = true;
	s->heard_us = loop_now_us(s->conn->link.server->loop);
	http_tell_done(&s->req);
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error, void *user)
{
	struct h2_conn *c = user;
	struct h2_stream *s = stream_of(c, id);
	(void)error;
	if (!s || c->dead)
		return 0;
	nghttp2_session_set_stream_user_data(session, id, NULL);
	http_tell_gone(&s->req); /* nothing where the answer is out */
	if (c->dead)		 /* closed from there: the outermost function frees */
		return 0;
	stream_free(s);
	if (c->count == 0)
		c->idle_us = loop_now_us(c->link.server->loop);
	return 0;
}

/* ---- bytes ---- */

static bool conn_frame(struct h2_conn *c)
{
	while (c->out.len < OUT_BYTES && !c->dead) {
		const uint8_t *bytes;
		ssize_t n = nghttp2_session_mem_send(c->session, &bytes);
		if (n < 0)
			return false;
		if (n == 0)
			break;
		buf_add(&c->out, bytes, (size_t)n);
	}
	return true;
}

/* Within busy. */
static void tell_writable(struct h2_conn *c)
{
	while (!c->dead && !list_empty(&c->writable)) {
		struct h2_stream *s = list_pop_front(&c->writable, struct h2_stream, full);
		http_tell_writable(&s->req);
	}
}

/* When the connection's next clock is due. */
static void conn_rearm(struct h2_conn *c)
{
	const struct http_server_options *o = &c->link.server->options;
	uint64_t now = loop_now_us(c->link.server->loop);
	uint64_t due = c->count == 0 ? c->idle_us + o->idle_us : UINT64_MAX;
	if (c->drain_us && !c->goaway_sent && c->drain_us < due)
		due = c->drain_us;
	list_each (&c->streams, at) {
		struct h2_stream *s = container_of(at, struct h2_stream, link);
		uint64_t silence = s->has_head ? o->body_silence_us : o->head_us;
		if (s->out_ended)
			silence = LINGER_US;
		else if (s->req.answer != HTTP_ANSWER_NONE)
			continue;
		if (!s->peer_ended && s->heard_us + silence < due)
			due = s->heard_us + silence;
	}
	if (due == UINT64_MAX)
		timer_stop(&c->clock);
	else
		timer_set(&c->clock, due > now ? due - now : 0);
}

/* Frames and writes what there is; may free the connection. */
static void conn_flush(struct h2_conn *c)
{
	bool alive = true;
	ssize_t n = 0;
	if (c->cut) {
		h2_cut_now(c);
		return;
	}
	c->busy = true;
	while (alive && !c->dead && (alive = conn_frame(c)) && c->out.len && !c->dead) {
		n = conn_write(c->conn, c->out.data + c->out.head, c->out.len);
		if (n < 0)
			break;
		buf_take(&c->out, (size_t)n);
	}
	if (alive)
		tell_writable(c);
	c->busy = false;
	if (c->dead) {
		conn_free_now(c);
		return;
	}
	bool over =
	    c->out.len == 0 &&
	    ((!nghttp2_session_want_read(c->session) && !nghttp2_session_want_write(c->session)) ||
	     (c->drain_us && c->goaway_sent && c->count == 0));
	if (!alive || over || (n < 0 && n != -EAGAIN)) {
		h2_kill(c);
		return;
	}
	if (c->out.len == 0)
		buf_fini(&c->out);
	conn_want(c->conn, c->out.len ? CONN_READABLE | CONN_WRITABLE : CONN_READABLE);
	conn_rearm(c);
}

static void on_flush(struct task *t)
{
	conn_flush(container_of(t, struct h2_conn, flush));
}

/* False where the connection is gone. */
static bool conn_feed(struct h2_conn *c, const void *bytes, size_t len)
{
	c->busy = true;
	ssize_t n = nghttp2_session_mem_recv(c->session, bytes, len);
	c->busy = false;
	if (c->dead) {
		conn_free_now(c);
		return false;
	}
	if (n < 0) {
		h2_kill(c);
		return false;
	}
	return true;
}

static void on_ready(void *ctx, struct conn *conn, unsigned events)
{
	struct h2_conn *c = ctx;
	char *scratch = c->link.server->scratch;
	for (int i = 0; (events & CONN_READABLE) && i < READS_PER_WAKE; i++) {
		ssize_t n = conn_read(conn, scratch, HTTP_SCRATCH_BYTES);
		if (n == -EAGAIN)
			break;
		if (n <= 0) {
			h2_kill(c);
			return;
		}
		if (!conn_feed(c, scratch, (size_t)n))
			return;
	}
	conn_flush(c);
}

/* ---- clocks ---- */

static void on_clock(struct timer *t)
{
	struct h2_conn *c = container_of(t, struct h2_conn, clock);
	const struct http_server_options *o = &c->link.server->options;
	uint64_t now = loop_now_us(c->link.server->loop);
	bool slow_head = false;
	c->busy = true;
	list_each (&c->streams, at) {
		struct h2_stream *s = container_of(at, struct h2_stream, link);
		if (!s->peer_ended && s->out_ended && now >= s->heard_us + LINGER_US)
			nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, s->id,
						  NGHTTP2_NO_ERROR);
		if (s->peer_ended || s->req.answer != HTTP_ANSWER_NONE || c->dead)
			continue;
		if (!s->has_head)
			slow_head = slow_head || now >= s->heard_us + o->head_us;
		else if (now >= s->heard_us + o->body_silence_us)
			stream_refuse(s, 408, "the body did not come");
	}
	c->busy = false;
	if (c->dead) {
		conn_free_now(c);
		return;
	}
	if (slow_head || (c->count == 0 && now >= c->idle_us + o->idle_us))
		nghttp2_session_terminate_session(c->session, NGHTTP2_NO_ERROR);
	else if (c->drain_us && !c->goaway_sent && now >= c->drain_us)
		nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE,
				      nghttp2_session_get_last_proc_stream_id(c->session),
				      NGHTTP2_NO_ERROR, NULL, 0);
	conn_flush(c);
}

/* ---- life ---- */

static void link_drain(struct http_link *link)
{
	struct h2_conn *c = container_of(link, struct h2_conn, link);
	if (c->drain_us)
		return;
	c->drain_us = loop_now_us(link->server->loop) + DRAIN_US;
	nghttp2_submit_shutdown_notice(c->session);
	task_post(&c->flush);
	conn_rearm(c);
}

static void link_close(struct http_link *link)
{
	h2_kill(container_of(link, struct h2_conn, link));
}

static const struct http_link_ops h2_link_ops = {link_drain, link_close};

static const struct conn_ops h2_conn_ops = {.ready = on_ready};

static nghttp2_session *session_new(struct h2_conn *c)
{
	const struct http_server_options *o = &c->link.server->options;
	nghttp2_session_callbacks *cb;
	nghttp2_session *session;
	must(nghttp2_session_callbacks_new(&cb) == 0);
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_sent);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
	nghttp2_option *option;
	must(nghttp2_option_new(&option) == 0);
	nghttp2_option_set_no_auto_window_update(option, 1);
	must(nghttp2_session_server_new2(&session, cb, c, option) == 0);
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(cb);
	const nghttp2_settings_entry settings[] = {
	    {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, o->max_streams},
	    {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
	    {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)o->max_head_bytes}};
	must(nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, countof(settings)) == 0);
	nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW);
	return session;
}

void http2_open(struct http_server *server, struct conn *conn, struct str bytes)
{
	struct h2_conn *c = mem_new(struct h2_conn);
	c->link.server = server;
	c->conn = conn;
	c->idle_us = loop_now_us(server->loop);
	snprintf(c->peer, sizeof(c->peer), "%s", conn_peer(conn));
	list_init(&c->streams);
	list_init(&c->writable);
	timer_init(&c->clock, server->loop, on_clock);
	task_init(&c->flush, server->loop, on_flush);
	conn_set_ctx(conn, &h2_conn_ops, c);
	http_link_add(server, &c->link, &h2_link_ops);
	c->session = session_new(c);
	if (server->draining)
		link_drain(&c->link);
	if (bytes.len == 0 || conn_feed(c, bytes.ptr, bytes.len))
		conn_flush(c);
}
