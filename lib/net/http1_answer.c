#include <stdio.h>
#include <string.h>

#include "lib/net/http1_conn.h"

/* Of a body that nobody wants any more, this much is read for the sake of the connection. */
#define DISCARD_BYTES 65536

static struct h1_req *h1_req_of(const struct http_req *req)
{
	return container_of(req, struct h1_req, req);
}

/* True where nothing may be read behind this request, whose answer begins. */
static bool must_close(struct h1_req *r)
{
	struct h1 *c = r->h1;

	if (!r->keep_alive)
		return true;
	if (c->reading == r && (r->expect || r->chunked_in || r->length > DISCARD_BYTES))
		return true;
	return c->state != H1_OPEN && r->link.next == &c->reqs;
}

static void put_field(struct buf *out, const char *name, struct str value)
{
	buf_add_text(out, name);
	buf_add(out, ": ", 2);
	buf_add_str(out, value);
	buf_add(out, "\r\n", 2);
}

/* All but the length and the empty line. */
static void put_head(struct h1_req *r, int status, const char *content_type)
{
	struct buf *out = &r->out;

	buf_room(out, 512);
	buf_add(out, "HTTP/1.1 ", 9);
	buf_add_u64(out, (uint64_t)status);
	buf_add_char(out, ' ');
	buf_add_text(out, http_reason(status));
	buf_add(out, "\r\n", 2);
	put_field(out, "date", http_server_date(r->req.server));
	if (content_type)
		put_field(out, "content-type", str_of(content_type));
	for (size_t i = 0; i < r->req.extra_count; i++)
		put_field(out, r->req.extra[i].name.ptr, r->req.extra[i].value);
	if (r->close)
		put_field(out, "connection", STR("close"));
	else if (r->minor == 0)
		put_field(out, "connection", STR("keep-alive"));
}

static void close_behind(struct h1_req *r)
{
	if (!r->close)
		return;
	if (r->h1->state == H1_OPEN)
		r->h1->state = H1_LAST;
	if (r->h1->reading == r)
		r->h1->reading = NULL;
}

static void h1_reply(struct http_req *req, int status, const char *content_type, struct str body)
{
	struct h1_req *r = h1_req_of(req);

	r->close = must_close(r);
	put_head(r, status, content_type);
	if (!http_bodyless(status)) {
		buf_add_text(&r->out, "content-length: ");
		buf_add_u64(&r->out, body.len);
		buf_add(&r->out, "\r\n", 2);
	}
	buf_add(&r->out, "\r\n", 2);
	if (!r->head_only && !http_bodyless(status))
		buf_add_str(&r->out, body);
	close_behind(r);
	task_post(&r->h1->task);
}

static void h1_stream_begin(struct http_req *req, int status, const char *content_type)
{
	struct h1_req *r = h1_req_of(req);

	r->head_only |= http_bodyless(status);
	r->close = must_close(r) || (r->minor == 0 && !r->head_only);
	put_head(r, status, content_type);
	if (r->minor >= 1 && !http_bodyless(status)) {
		put_field(&r->out, "transfer-encoding", STR("chunked"));
		r->chunked_out = !r->head_only;
	}
	buf_add(&r->out, "\r\n", 2);
	close_behind(r);
	task_post(&r->h1->task);
}

static bool h1_stream_write(struct http_req *req, struct str bytes)
{
	struct h1_req *r = h1_req_of(req);
	char size[24];

	if (r->head_only)
		return true;
	if (r->chunked_out)
		buf_add(&r->out, size, (size_t)snprintf(size, sizeof(size), "%zx\r\n", bytes.len));
	buf_add_str(&r->out, bytes);
	if (r->chunked_out)
		buf_add(&r->out, "\r\n", 2);
	task_post(&r->h1->task);
	if (r->out.len > req->server->options.max_queued_bytes)
		req->full = true;
	return !req->full;
}

static size_t h1_stream_queued(const struct http_req *req)
{
	return h1_req_of(req)->out.len;
}

static void h1_stream_end(struct http_req *req)
{
	struct h1_req *r = h1_req_of(req);

	if (r->chunked_out)
		buf_add_text(&r->out, "0\r\n\r\n");
	task_post(&r->h1->task);
}

static void h1_abort(struct http_req *req)
{
	struct h1 *c = h1_req_of(req)->h1;

	c->aborted = true;
	task_post(&c->task);
}

static void h1_cut(struct http_req *req, enum http_cut how, uint32_t code)
{
	struct h1 *c = h1_req_of(req)->h1;

	(void)code;
	c->by_fin = how != HTTP_CUT_RST;
	c->aborted = true;
	task_post(&c->task);
}

static void h1_goaway(struct http_req *req, uint32_t code)
{
	(void)req;
	(void)code;
}

static bool h1_take(struct http_req *req, struct conn **ret_conn, struct buf *ret_rest)
{
	struct h1_req *r = h1_req_of(req);
	struct h1 *c = r->h1;

	if (c->state != H1_OPEN || c->req_count != 1 || r->out.len || r->chunked_in || r->length ||
	    req->answer != HTTP_ANSWER_NONE || r->minor < 1)
		return false;
	*ret_conn = c->conn;
	*ret_rest = (struct buf){0};
	buf_add_str(ret_rest, c->rest);
	c->conn = NULL;
	c->state = H1_TAKEN;
	timer_stop(&c->timer);
	req->told = false;
	task_post(&c->task);
	return true;
}

const struct http_carrier h1_carrier = {
    .reply = h1_reply,
    .stream_begin = h1_stream_begin,
    .stream_write = h1_stream_write,
    .stream_queued = h1_stream_queued,
    .stream_end = h1_stream_end,
    .abort = h1_abort,
    .cut = h1_cut,
    .goaway = h1_goaway,
    .take = h1_take,
};

void h1_answer_continue(struct h1_req *r)
{
	buf_add_text(&r->out, "HTTP/1.1 100 Continue\r\n\r\n");
	task_post(&r->h1->task);
}

/* Method and target of the request line, where a line of that shape is there; what stands behind it may be anything. */
static void peek_line(struct http_req *req, struct str head)
{
	struct str line, method, target;

	if (!memchr(head.ptr ? head.ptr : "", '\n', head.len) || !str_split(&head, '\n', &line) ||
	    !str_split(&line, ' ', &method) || !str_split(&line, ' ', &target) || !method.len)
		return;
	method.ptr = arena_dup(&req->arena, method.ptr, method.len);
	target.ptr = arena_dup(&req->arena, target.ptr, target.len);
	req->method = method;
	if (!http_req_target(req, target))
		req->method = req->path = req->query = STR("");
}

static struct h1_req *unread(struct h1 *c, struct str head)
{
	struct h1_req *r = mem_new(struct h1_req);

	r->h1 = c;
	http_req_init(&r->req, c->link.server, &h1_carrier);
	list_push_back(&c->reqs, &r->link);
	c->req_count++;
	r->minor = 1;
	peek_line(&r->req, head);
	return r;
}

void h1_answer_error(struct h1 *c, struct h1_req *r, struct str head, int status,
		     const char *reason)
{
	struct str type;
	struct str body;

	if (!r)
		r = unread(c, head);
	http_error_fields(&r->req, status);
	if (status == 503)
		http_add_field(&r->req, "retry-after", STR("1"));
	http_error_body(c->link.server, status, reason, &type, &body);
	http_reply(&r->req, status, arena_dup(&r->req.arena, type.ptr, type.len), body);
}
