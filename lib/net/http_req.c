#include <string.h>

#include "lib/net/http_impl.h"

void http_req_init(struct http_req *req, struct http_server *server,
		   const struct http_carrier *carrier)
{
	req->carrier = carrier;
	req->server = server;
	req->max_body_bytes = server->options.max_body_bytes;
	req->received_us = loop_now_us(server->loop);
}

void http_req_fini(struct http_req *req)
{
	arena_reset(&req->arena);
	buf_fini(&req->body);
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static unsigned hex_value(char c)
{
	return (unsigned)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
}

static bool percents_ok(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if (c <= ' ' || c >= 0x7f || c == '#')
			return false;
		if (c == '%' && (s.len - i < 3 || !is_hex(s.ptr[i + 1]) || !is_hex(s.ptr[i + 2])))
			return false;
	}
	return true;
}

bool http_req_target(struct http_req *req, struct str target)
{
	struct str rest = target;

	if (str_starts(rest, "http://") || str_starts(rest, "https://")) {
		const char *from = memchr(rest.ptr, ':', rest.len) + 3;
		size_t left = (size_t)(rest.ptr + rest.len - from);
		size_t host = 0;

		while (host < left && from[host] != '/' && from[host] != '?')
			host++;
		if (!host)
			return false;
		rest = (struct str){from + host, left - host};
		if (!rest.len)
			rest = STR("/");
	} else if (str_is(rest, "*")) {
		req->path = rest;
		return str_is(req->method, "OPTIONS");
	} else if (!rest.len || rest.ptr[0] != '/') {
		return false;
	}
	if (!percents_ok(rest))
		return false;
	const char *mark = memchr(rest.ptr, '?', rest.len);

	req->path = (struct str){rest.ptr, mark ? (size_t)(mark - rest.ptr) : rest.len};
	if (mark)
		req->query = (struct str){mark + 1, rest.len - req->path.len - 1};
	if (!req->path.len)
		req->path = STR("/");
	return true;
}

/* ---- what the owner is told ---- */

void http_tell_head(struct http_req *req)
{
	struct http_server *server = req->server;

	if (!server->ops->head)
		return;
	req->told = true;
	server->ops->head(server->ctx, req);
}

void http_tell_request(struct http_req *req)
{
	req->told = true;
	req->server->ops->request(req->server->ctx, req);
}

void http_tell_gone(struct http_req *req)
{
	struct http_server *server = req->server;

	if (!req->told)
		return;
	req->told = false;
	if (server->ops->gone)
		server->ops->gone(server->ctx, req);
}

void http_tell_done(struct http_req *req)
{
	struct http_server *server = req->server;

	if (!req->told)
		return;
	req->told = false;
	if (server->ops->done)
		server->ops->done(server->ctx, req);
}

void http_tell_writable(struct http_req *req)
{
	struct http_server *server = req->server;

	if (!req->full)
		return;
	req->full = false;
	if (req->told && server->ops->writable)
		server->ops->writable(server->ctx, req);
}

void http_error_body(struct http_server *server, int status, const char *reason,
		     struct str *ret_type, struct str *ret_body)
{
	*ret_type = STR("text/plain");
	*ret_body = str_of(reason);
	if (server->ops->error_body)
		server->ops->error_body(server->ctx, status, reason, ret_type, ret_body);
}

void http_error_fields(struct http_req *req, int status)
{
	req->extra = NULL;
	req->extra_count = 0;
	if (req->server->ops->error_fields)
		req->server->ops->error_fields(req->server->ctx, req, status);
}

/* ---- what was asked ---- */

struct str http_method(const struct http_req *req)
{
	return req->method;
}

struct str http_path(const struct http_req *req)
{
	return req->path;
}

struct str http_query(const struct http_req *req)
{
	return req->query;
}

struct str http_body(const struct http_req *req)
{
	return buf_str(&req->body);
}

struct str http_peer(const struct http_req *req)
{
	return req->peer;
}

struct str http_field(const struct http_req *req, const char *name)
{
	for (size_t i = 0; i < req->field_count; i++)
		if (str_is(req->fields[i].name, name))
			return req->fields[i].value;
	return (struct str){0};
}

const struct http_field *http_fields(const struct http_req *req, size_t *ret_count)
{
	*ret_count = req->field_count;
	return req->fields;
}

static struct str decoded(struct arena *arena, struct str from)
{
	char *to = arena_alloc(arena, from.len + 1);
	size_t len = 0;

	for (size_t i = 0; i < from.len; i++) {
		char c = from.ptr[i];

		if (c == '%' && from.len - i >= 3) {
			c = (char)(hex_value(from.ptr[i + 1]) << 4 | hex_value(from.ptr[i + 2]));
			i += 2;
		} else if (c == '+') {
			c = ' ';
		}
		to[len++] = c;
	}
	return (struct str){to, len};
}

struct str http_query_value(struct http_req *req, const char *key)
{
	struct str rest = req->query;
	struct str pair;

	while (str_split(&rest, '&', &pair)) {
		struct str name = {"", 0};

		if (!str_split(&pair, '=', &name))
			continue;
		if (memchr(name.ptr, '%', name.len))
			name = decoded(&req->arena, name);
		if (str_is(name, key))
			return decoded(&req->arena, pair.ptr ? pair : STR(""));
	}
	return (struct str){0};
}

uint64_t http_received_us(const struct http_req *req)
{
	return req->received_us;
}

struct arena *http_arena(struct http_req *req)
{
	return &req->arena;
}

void http_set_ctx(struct http_req *req, void *ctx)
{
	req->ctx = ctx;
}

void *http_ctx(const struct http_req *req)
{
	return req->ctx;
}

void http_body_limit(struct http_req *req, size_t bytes)
{
	req->max_body_bytes = bytes;
}

void http_outlast_fin(struct http_req *req)
{
	req->outlasts_fin = true;
}

/* ---- what is answered ---- */

void http_add_field(struct http_req *req, const char *name, struct str value)
{
	struct http_field *grown;
	char *copy = arena_dup(&req->arena, value.ptr, value.len);

	must(req->answer == HTTP_ANSWER_NONE);
	/* No value may end its line: what comes from outside splits no answer. */
	for (size_t i = 0; i < value.len; i++)
		if ((unsigned char)copy[i] < ' ' || copy[i] == 0x7f)
			copy[i] = ' ';
	if (req->extra_count % 8 == 0) {
		grown = arena_alloc(&req->arena, (req->extra_count + 8) * sizeof(*grown));
		if (req->extra_count)
			memcpy(grown, req->extra, req->extra_count * sizeof(*grown));
		req->extra = grown;
	}
	req->extra[req->extra_count++] = (struct http_field){
	    .name = str_of(arena_strdup(&req->arena, name)),
	    .value = {copy, value.len},
	};
}

void http_reply(struct http_req *req, int status, const char *content_type, struct str body)
{
	must(req->answer == HTTP_ANSWER_NONE);
	req->answer = HTTP_ANSWER_WHOLE;
	req->carrier->reply(req, status, content_type, body);
}

void http_stream_begin(struct http_req *req, int status, const char *content_type)
{
	must(req->answer == HTTP_ANSWER_NONE);
	req->answer = HTTP_ANSWER_STREAM;
	req->carrier->stream_begin(req, status, content_type);
}

bool http_stream_write(struct http_req *req, struct str bytes)
{
	must(req->answer == HTTP_ANSWER_STREAM);
	if (!bytes.len)
		return !req->full;
	return req->carrier->stream_write(req, bytes);
}

size_t http_stream_queued(const struct http_req *req)
{
	return req->carrier->stream_queued(req);
}

void http_stream_end(struct http_req *req)
{
	must(req->answer == HTTP_ANSWER_STREAM);
	req->answer = HTTP_ANSWER_WHOLE;
	req->carrier->stream_end(req);
}

void http_abort(struct http_req *req)
{
	req->told = false;
	req->answer = HTTP_ANSWER_WHOLE;
	req->carrier->abort(req);
}

void http_cut(struct http_req *req, enum http_cut how, uint32_t code)
{
	req->told = false;
	req->answer = HTTP_ANSWER_WHOLE;
	req->carrier->cut(req, how, code);
}

void http_goaway(struct http_req *req, uint32_t code)
{
	req->carrier->goaway(req, code);
}
