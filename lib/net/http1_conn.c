#include "lib/net/http1_conn.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"

/* A peer that is told to stop may have this much under way; it gets this long to notice. */
#define LINGER_BYTES (64U << 20)
#define LINGER_US (5 * US_PER_S)
#define MAX_BYTES_AHEAD HTTP_SCRATCH_BYTES
#define MAX_WRITE_PIECES 16
#define MAX_WRITES_PER_TURN 4
#define DISCARD_CHUNKED_BYTES 65536

static void h1_settle(struct h1 *c);

static void h1_req_free(struct h1_req *r)
{
	struct h1 *c = r->h1;

	if (c->reading == r)
		c->reading = NULL;
	list_remove(&r->link);
	c->req_count--;
	buf_fini(&r->out);
	http_req_fini(&r->req);
	mem_free(r);
}

/* The last word about a request whose connection is lost. */
static void h1_req_lose(struct h1_req *r)
{
	if (r->req.answer == HTTP_ANSWER_WHOLE && !r->out.len)
		http_tell_done(&r->req);
	else
		http_tell_gone(&r->req);
	h1_req_free(r);
}

static void h1_free(struct h1 *c)
{
	struct h1_req *r;

	while ((r = list_first(&c->reqs, struct h1_req, link)))
		h1_req_free(r);
	http_link_remove(&c->link);
	timer_stop(&c->timer);
	task_cancel(&c->task);
	conn_close(c->conn);
	http1_fini(&c->parser);
	buf_fini(&c->in);
	mem_free(c);
}

/* Ends everything, from the loop; the memory goes with the task. */
static void h1_die(struct h1 *c, bool reset)
{
	struct h1_req *r;

	c->state = H1_DEAD;
	timer_stop(&c->timer);
	if (reset)
		conn_reset(c->conn);
	while ((r = list_first(&c->reqs, struct h1_req, link)))
		h1_req_lose(r);
	if (!reset)
		conn_close(c->conn);
	c->conn = NULL;
	task_post(&c->task);
}

static void h1_linger(struct h1 *c)
{
	if (c->eof) {
		h1_die(c, false);
		return;
	}
	c->state = H1_LINGER;
	buf_fini(&c->in);
	http1_fini(&c->parser);
	conn_shutdown(c->conn);
}

/* ---- reading ---- */

/* Answers with an error of our own what cannot be read, and reads no further. @head: where its head could not be read,
 * what there is of it. */
static void h1_refuse(struct h1 *c, struct str head, int status, const char *reason)
{
	struct h1_req *r = c->reading;

	log_debug(&c->link.server->log, "request refused", F_INT("status", status),
		  F_STR("reason", reason), F_STR("peer", conn_peer(c->conn)));
	c->state = H1_LAST;
	c->reading = NULL;
	task_post(&c->task);
	if (r && r->req.answer != HTTP_ANSWER_NONE) {
		r->close = true; /* one answer is enough */
		return;
	}
	if (r)
		http_tell_gone(&r->req);
	h1_answer_error(c, r, head, status, reason);
}

static bool is_preface(struct h1 *c, struct str raw)
{
	return c->fresh && !c->link.server->tls && c->link.server->options.http2 &&
	       str_is(raw, "PRI * HTTP/2.0\r\n\r\n");
}

static void h1_to_http2(struct h1 *c, struct str bytes)
{
	struct conn *conn = c->conn;

	c->conn = NULL;
	c->state = H1_TAKEN;
	timer_stop(&c->timer);
	http_link_remove(&c->link);
	task_post(&c->task);
	http2_open(c->link.server, conn, bytes);
}

/* What follows ops.head: the body is waited for, discarded or too large. */
static void h1_head_told(struct h1 *c, struct h1_req *r)
{
	if (c->state != H1_OPEN)
		return;
	if (r->req.answer != HTTP_ANSWER_NONE)
		return;
	if (r->length > r->req.max_body_bytes)
		h1_refuse(c, STR(""), 413, "the body is too large");
	else if (r->expect && !c->rest.len && (r->length || r->chunked_in))
		h1_answer_continue(r);
}

static void h1_on_head(struct h1 *c, struct str raw)
{
	struct http_server *server = c->link.server;
	struct http1_head head;

	if (is_preface(c, raw)) {
		h1_to_http2(c, (struct str){raw.ptr, raw.len + c->rest.len});
		return;
	}
	struct h1_req *r = mem_new(struct h1_req);

	r->h1 = c;
	http_req_init(&r->req, server, &h1_carrier);
	list_push_back(&c->reqs, &r->link);
	c->req_count++;
	c->clock = H1_CLOCK_NONE;
	c->fresh = false;
	if (!http1_read_head(&c->parser, raw, &r->req.arena, &head)) {
		h1_req_free(r);
		h1_refuse(c, raw, c->parser.status, c->parser.reason);
		return;
	}
	r->req.method = head.method;
	r->req.fields = head.fields;
	r->req.field_count = head.field_count;
	r->req.peer = str_of(conn_peer(c->conn));
	r->minor = (uint8_t)head.minor;
	r->keep_alive = head.keep_alive;
	r->expect = head.expect;
	r->chunked_in = head.chunked;
	r->length = head.length;
	r->head_only = str_is(head.method, "HEAD");
	if (!http_req_target(&r->req, head.target)) {
		h1_req_free(r);
		h1_refuse(c, STR(""), 400, "the request target is malformed");
		return;
	}
	c->reading = r;
	http_tell_head(&r->req);
	h1_head_told(c, r);
}

static void h1_on_body(struct h1 *c, struct str piece)
{
	struct h1_req *r = c->reading;

	c->progress = true;
	if (r->req.answer != HTTP_ANSWER_NONE) {
		r->discarded += piece.len;
		if (r->chunked_in && r->discarded > DISCARD_CHUNKED_BYTES)
			h1_refuse(c, STR(""), 413, "the body is too large");
	} else if (r->req.body.len + piece.len > r->req.max_body_bytes) {
		h1_refuse(c, STR(""), 413, "the body is too large");
	} else {
		if (!r->req.body.len && r->length)
			buf_room(&r->req.body,
				 r->length < MAX_BYTES_AHEAD ? (size_t)r->length : MAX_BYTES_AHEAD);
		buf_add_str(&r->req.body, piece);
	}
}

static void h1_on_end(struct h1 *c)
{
	struct h1_req *r = c->reading;

	c->reading = NULL;
	if (!r->keep_alive || c->link.server->draining)
		c->state = H1_LAST;
	if (r->req.answer == HTTP_ANSWER_NONE)
		http_tell_request(&r->req);
	else
		task_post(&c->task); /* it may be finished now */
}

/* Between requests: enough of them wait for their answers. */
static bool h1_paused(struct h1 *c)
{
	size_t held = 0;

	if (c->reading)
		return false;
	if (c->req_count >= c->link.server->options.max_pipelined)
		return true;
	list_each (&c->reqs, at) {
		held += container_of(at, struct h1_req, link)->req.body.len;
	}
	return held > c->link.server->options.max_body_bytes;
}

/* How much of @in was used. */
static size_t h1_parse(struct h1 *c, struct str in)
{
	struct str body;
	size_t used;

	c->rest = in;
	while (c->state == H1_OPEN && !c->aborted && !h1_paused(c)) {
		struct str raw = c->rest;
		enum http1_event event = http1_next(&c->parser, raw, &used, &body);

		c->rest = (struct str){raw.ptr + used, raw.len - used};
		raw.len = used;
		if (event == HTTP1_MORE)
			break;
		if (event == HTTP1_HEAD)
			h1_on_head(c, raw);
		else if (event == HTTP1_BODY)
			h1_on_body(c, body);
		else if (event == HTTP1_END)
			h1_on_end(c);
		else
			h1_refuse(c, c->rest, c->parser.status, c->parser.reason);
	}
	used = c->state == H1_OPEN ? in.len - c->rest.len : in.len;
	c->rest = (struct str){0};
	return used;
}

static void h1_parse_waiting(struct h1 *c)
{
	buf_take(&c->in, h1_parse(c, buf_str(&c->in)));
	if (!c->in.len)
		buf_fini(&c->in);
}

static bool lost_by_fin(struct h1_req *r)
{
	switch (r->req.answer) {
	case HTTP_ANSWER_NONE:
		return !r->req.outlasts_fin || r->h1->reading == r;
	case HTTP_ANSWER_STREAM:
		return true;
	case HTTP_ANSWER_WHOLE:
		return false;
	}
	return true;
}

/* The peer has shut its side: who is still owed an answer has gone, unless his owner answers it all the same; so has all
 * that stands behind him. What is answered is still sent. */
static void h1_after_fin(struct h1 *c)
{
	enum h1_state before = c->state;
	bool lost = false;

	list_each (&c->reqs, at) {
		struct h1_req *r = container_of(at, struct h1_req, link);

		lost |= lost_by_fin(r);
		if (lost)
			h1_req_lose(r);
	}
	c->reading = NULL;
	/* What was read ahead comes to its turn. */
	if (lost || !c->in.len || !h1_paused(c))
		c->state = H1_LAST;
	if (lost || c->state != before)
		task_post(&c->task);
}

static void h1_on_eof(struct h1 *c)
{
	c->eof = true;
	if (c->state == H1_LINGER)
		h1_die(c, false);
	else
		h1_after_fin(c);
}

static void h1_on_bytes(struct h1 *c, size_t count)
{
	struct str bytes = {c->link.server->scratch, count};

	if (c->state == H1_LINGER || c->state == H1_LAST) {
		c->lingered += count;
		if (c->lingered > LINGER_BYTES)
			h1_die(c, true);
		return;
	}
	if (c->in.len) {
		buf_add_str(&c->in, bytes);
		h1_parse_waiting(c);
		return;
	}
	size_t used = h1_parse(c, bytes);

	buf_add(&c->in, bytes.ptr + used, bytes.len - used);
}

static void h1_read(struct h1 *c)
{
	ssize_t n = conn_read(c->conn, c->link.server->scratch, HTTP_SCRATCH_BYTES);

	if (n > 0)
		h1_on_bytes(c, (size_t)n);
	else if (n == 0)
		h1_on_eof(c);
	else if (n != -EAGAIN)
		h1_die(c, true);
}

/* ---- writing ---- */

/* Drops answers that are out, from the front; true where the connection ends with one. */
static bool h1_finish_front(struct h1 *c)
{
	struct h1_req *r;

	while ((r = list_first(&c->reqs, struct h1_req, link))) {
		if (r->req.answer != HTTP_ANSWER_WHOLE || r->out.len || c->reading == r)
			return false;
		bool closes = r->close;

		http_tell_done(&r->req);
		h1_req_free(r);
		if (closes)
			return true;
	}
	return false;
}

static int h1_gather(struct h1 *c, struct iovec *iov)
{
	int count = 0;

	list_each (&c->reqs, at) {
		struct h1_req *r = container_of(at, struct h1_req, link);
		struct str out = buf_str(&r->out);

		if (out.len && count < MAX_WRITE_PIECES)
			iov[count++] = (struct iovec){(void *)out.ptr, out.len};
		if (r->req.answer != HTTP_ANSWER_WHOLE)
			break;
	}
	return count;
}

static void h1_wrote(struct h1 *c, size_t count)
{
	c->progress = true;
	list_each (&c->reqs, at) {
		struct h1_req *r = container_of(at, struct h1_req, link);
		size_t mine = count < r->out.len ? count : r->out.len;

		if (mine) {
			buf_take(&r->out, mine);
			if (!r->out.len)
				buf_fini(&r->out);
		}
		count -= mine;
		if (!count)
			break;
	}
}

/* One turn's writing. False where the connection died. */
static bool h1_flush(struct h1 *c)
{
	struct iovec iov[MAX_WRITE_PIECES];

	c->blocked = false;
	for (int i = 0; i < MAX_WRITES_PER_TURN; i++) {
		int count = h1_gather(c, iov);

		if (!count)
			return true;
		ssize_t n = conn_writev(c->conn, iov, count);

		if (n == -EAGAIN)
			break;
		if (n < 0) {
			h1_die(c, true);
			return false;
		}
		h1_wrote(c, (size_t)n);
	}
	c->blocked = h1_gather(c, iov) > 0;
	return true;
}

static void h1_tell_writable(struct h1 *c)
{
	struct h1_req *r = list_first(&c->reqs, struct h1_req, link);

	if (r && r->req.full && r->out.len <= c->link.server->options.max_queued_bytes / 2)
		http_tell_writable(&r->req);
}

/* ---- the turn ---- */

static void h1_write(struct h1 *c)
{
	if (!h1_flush(c))
		return;
	if (h1_finish_front(c)) {
		struct h1_req *r;

		while ((r = list_first(&c->reqs, struct h1_req, link)))
			h1_req_lose(r);
		c->state = H1_LAST;
	}
	h1_tell_writable(c);
	if (c->state == H1_OPEN && c->in.len) {
		h1_parse_waiting(c);
		if (c->eof && c->state == H1_OPEN)
			h1_after_fin(c);
	}
	if (c->state == H1_LAST && list_empty(&c->reqs))
		h1_linger(c);
}

static void on_task(struct task *t)
{
	struct h1 *c = container_of(t, struct h1, task);

	if (c->aborted && c->state != H1_DEAD)
		h1_die(c, !c->by_fin);
	if (c->state == H1_DEAD || c->state == H1_TAKEN) {
		h1_free(c);
		return;
	}
	if (c->state == H1_OPEN || c->state == H1_LAST)
		h1_write(c);
	h1_settle(c);
}

static enum h1_clock h1_which_clock(struct h1 *c)
{
	if (c->state == H1_OPENING)
		return H1_CLOCK_SHAKE;
	if (c->state == H1_LINGER)
		return H1_CLOCK_LINGER;
	if (c->blocked)
		return H1_CLOCK_WRITE;
	if (c->state != H1_OPEN)
		return H1_CLOCK_NONE;
	if (c->reading)
		return H1_CLOCK_BODY;
	if (c->in.len && !h1_paused(c))
		return H1_CLOCK_HEAD;
	return list_empty(&c->reqs) ? H1_CLOCK_IDLE : H1_CLOCK_NONE;
}

static uint64_t h1_clock_us(struct h1 *c, enum h1_clock clock)
{
	const struct http_server_options *o = &c->link.server->options;

	switch (clock) {
	case H1_CLOCK_NONE:
		break;
	case H1_CLOCK_SHAKE:
	case H1_CLOCK_HEAD:
		return o->head_us;
	case H1_CLOCK_IDLE:
		return o->idle_us;
	case H1_CLOCK_BODY:
	case H1_CLOCK_WRITE:
		return o->body_silence_us;
	case H1_CLOCK_LINGER:
		return LINGER_US;
	}
	return 0;
}

/* Brings clock and wanted events up to what the connection is. */
static void h1_settle(struct h1 *c)
{
	enum h1_clock clock;
	unsigned events = 0;

	if (c->state == H1_DEAD || c->state == H1_TAKEN)
		return;
	clock = h1_which_clock(c);
	if (clock != c->clock || (c->progress && clock != H1_CLOCK_HEAD)) {
		c->clock = clock;
		if (clock == H1_CLOCK_NONE)
			timer_stop(&c->timer);
		else
			timer_set(&c->timer, h1_clock_us(c, clock));
	}
	c->progress = false;
	if (!c->eof && c->in.len < MAX_BYTES_AHEAD + c->link.server->options.max_head_bytes)
		events |= CONN_READABLE;
	if (c->blocked)
		events |= CONN_WRITABLE;
	conn_want(c->conn, events);
}

static void on_timer(struct timer *t)
{
	struct h1 *c = container_of(t, struct h1, timer);

	switch (c->clock) {
	case H1_CLOCK_NONE:
		return;
	case H1_CLOCK_SHAKE:
	case H1_CLOCK_IDLE:
	case H1_CLOCK_LINGER:
		h1_die(c, false);
		return;
	case H1_CLOCK_WRITE:
		h1_die(c, true);
		return;
	case H1_CLOCK_HEAD:
		h1_refuse(c, buf_str(&c->in), 408, "the head did not come in time");
		break;
	case H1_CLOCK_BODY:
		h1_refuse(c, STR(""), 408, "the body fell silent");
		break;
	}
	h1_settle(c);
}

/* ---- the socket's events ---- */

static void on_open(void *ctx, struct conn *conn)
{
	struct h1 *c = ctx;

	c->state = H1_OPEN;
	if (str_is(conn_alpn(conn), "h2")) {
		if (c->refuse)
			h1_die(c, false);
		else
			h1_to_http2(c, (struct str){"", 0});
		return;
	}
	if (c->link.server->draining) {
		c->state = H1_LAST;
		task_post(&c->task);
	} else if (c->refuse) {
		c->state = H1_LAST;
		h1_answer_error(c, NULL, STR(""), 503, "too many connections");
	}
	h1_settle(c);
}

static void on_ready(void *ctx, struct conn *conn, unsigned events)
{
	struct h1 *c = ctx;

	(void)conn;
	if (events & CONN_READABLE)
		h1_read(c);
	if ((events & CONN_WRITABLE) && (c->state == H1_OPEN || c->state == H1_LAST))
		h1_write(c);
	h1_settle(c);
}

static void on_failed(void *ctx, struct conn *conn, int error, const char *detail)
{
	struct h1 *c = ctx;

	log_debug(&c->link.server->log, "connection failed", F_INT("errno", -error),
		  F_STR("detail", detail), F_STR("peer", conn_peer(conn)));
	h1_die(c, false);
}

static const struct conn_ops conn_events = {on_open, on_ready, on_failed};

/* ---- the server's calls ---- */

static void link_drain(struct http_link *link)
{
	struct h1 *c = container_of(link, struct h1, link);

	/* What has begun to be asked is still answered. */
	if (c->state == H1_OPEN && !c->reading && !c->in.len)
		c->state = H1_LAST;
	task_post(&c->task);
}

static void link_close(struct http_link *link)
{
	struct h1 *c = container_of(link, struct h1, link);

	if (c->state != H1_DEAD && c->state != H1_TAKEN)
		h1_die(c, false);
	h1_free(c);
}

static const struct http_link_ops link_ops = {link_drain, link_close};

void http1_open(struct http_server *server, int fd, const char *peer, bool refuse)
{
	struct h1 *c = mem_new(struct h1);

	(void)peer; /* the conn knows */
	c->refuse = refuse;
	c->fresh = true;
	list_init(&c->reqs);
	http1_init(&c->parser, server->options.max_head_bytes, server->options.max_fields);
	timer_init(&c->timer, server->loop, on_timer);
	task_init(&c->task, server->loop, on_task);
	http_link_add(server, &c->link, &link_ops);
	c->conn = conn_accept(server->loop, fd, server->tls, &conn_events, c);
	c->clock = H1_CLOCK_SHAKE;
	timer_set(&c->timer, server->options.head_us);
}
