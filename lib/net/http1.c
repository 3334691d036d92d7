#include "lib/net/http1.h"

#include <llhttp.h>
#include <string.h>

#include "lib/base/mem.h"

/* A chunk's line or the trailer, and both over a whole body: far above what clients send. */
#define MAX_FRAMING_RUN 8192
#define MAX_FRAMING_BASE 65536
#define MAX_FRAMING_PER_BYTE 16

struct http1_chunks {
	llhttp_t llhttp;
	struct str body; /* what on_body gave */
	bool got_body;
	bool complete;
	bool after_cr;
	size_t run;
	uint64_t framing;
	uint64_t bytes;
};

/* What llhttp found in a head. */
struct reader {
	struct str target;
	struct http_field *fields;
	size_t count;
	size_t max;
	bool in_value;
	bool whole;
};

void http1_init(struct http1 *p, size_t max_head_bytes, size_t max_fields)
{
	*p = (struct http1){.max_head_bytes = max_head_bytes, .max_fields = max_fields};
}

void http1_fini(struct http1 *p)
{
	mem_free(p->chunks);
	p->chunks = NULL;
}

static enum http1_event bad(struct http1 *p, int status, const char *reason)
{
	p->status = status;
	p->reason = reason;
	return HTTP1_BAD;
}

static bool refuse(struct http1 *p, int status, const char *reason)
{
	bad(p, status, reason);
	return false;
}

static bool is_control(unsigned char c)
{
	return (c < 0x20 && c != '\t') || c == 0x7f;
}

static bool is_token(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if (c <= ' ' || c >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", c))
			return false;
	}
	return s.len > 0;
}

/* ---- llhttp's callbacks ---- */

static void span_add(struct str *span, const char *at, size_t len)
{
	if (!span->ptr)
		*span = (struct str){at, len};
	else
		span->len = (size_t)(at + len - span->ptr);
}

static int on_url(llhttp_t *l, const char *at, size_t len)
{
	struct reader *r = l->data;

	span_add(&r->target, at, len);
	return 0;
}

static int on_name(llhttp_t *l, const char *at, size_t len)
{
	struct reader *r = l->data;

	if (!r) /* a trailer: dropped */
		return 0;
	if (r->in_value) {
		r->in_value = false;
		r->count++;
	}
	if (r->count >= r->max)
		return HPE_USER;
	span_add(&r->fields[r->count].name, at, len);
	return 0;
}

static int on_value(llhttp_t *l, const char *at, size_t len)
{
	struct reader *r = l->data;

	if (!r)
		return 0;
	r->in_value = true;
	if (len)
		span_add(&r->fields[r->count].value, at, len);
	return 0;
}

static int on_value_complete(llhttp_t *l)
{
	struct reader *r = l->data;

	if (r) {
		r->in_value = false;
		r->count++;
	}
	return 0;
}

static int on_headers_complete(llhttp_t *l)
{
	struct reader *r = l->data;

	if (r)
		r->whole = true;
	return HPE_PAUSED;
}

static int on_body(llhttp_t *l, const char *at, size_t len)
{
	struct http1_chunks *chunks = container_of(l, struct http1_chunks, llhttp);

	chunks->body = (struct str){at, len};
	chunks->got_body = true;
	return HPE_PAUSED;
}

static int on_message_complete(llhttp_t *l)
{
	struct http1_chunks *chunks = container_of(l, struct http1_chunks, llhttp);

	chunks->complete = true;
	return HPE_PAUSED;
}

static const llhttp_settings_t head_settings = {
    .on_url = on_url,
    .on_header_field = on_name,
    .on_header_value = on_value,
    .on_header_value_complete = on_value_complete,
    .on_headers_complete = on_headers_complete,
};
static const llhttp_settings_t body_settings = {
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* ---- finding heads and bodies ---- */

static enum http1_event head_too_big(struct http1 *p, struct str in)
{
	if (!memchr(in.ptr, '\n', p->max_head_bytes))
		return bad(p, 414, "the request target is too long");
	return bad(p, 431, "the header fields are too large");
}

static enum http1_event next_head(struct http1 *p, struct str in, size_t *ret_used)
{
	while (in.len >= 2 && !p->scanned && in.ptr[0] == '\r' && in.ptr[1] == '\n') {
		if (p->blank_lines++ >= 2)
			return bad(p, 400, "empty lines instead of a request");
		in = (struct str){in.ptr + 2, in.len - 2};
		*ret_used += 2;
	}
	for (size_t i = p->scanned; i < in.len; i++) {
		unsigned char c = (unsigned char)in.ptr[i];
		bool after_cr = i && in.ptr[i - 1] == '\r';

		if (i >= p->max_head_bytes)
			return head_too_big(p, in);
		if (after_cr != (c == '\n'))
			return bad(p, 400, "a line does not end in CR LF");
		if (is_control(c) && c != '\r' && c != '\n')
			return bad(p, 400, "a control byte in the head");
		if (c == '\n' && i >= 3 && in.ptr[i - 2] == '\n') {
			*ret_used += i + 1;
			return HTTP1_HEAD;
		}
		if (c == '\n' && i == 1)
			return bad(p, 400, "empty lines instead of a request");
	}
	/* A lone CR in front may become an empty line: look at it again. */
	p->scanned = in.len == 1 && in.ptr[0] == '\r' ? 0 : in.len;
	return HTTP1_MORE;
}

static enum http1_event next_length(struct http1 *p, struct str in, size_t *ret_used,
				    struct str *ret_body)
{
	if (!p->left) {
		p->state = HTTP1_IN_HEAD;
		return HTTP1_END;
	}
	if (!in.len)
		return HTTP1_MORE;
	*ret_used = in.len < p->left ? in.len : (size_t)p->left;
	*ret_body = (struct str){in.ptr, *ret_used};
	p->left -= *ret_used;
	return HTTP1_BODY;
}

/* Bytes of a chunked body that are no data: the same discipline as in a head. */
static bool framing_ok(struct http1_chunks *c, struct str bytes)
{
	for (size_t i = 0; i < bytes.len; i++) {
		unsigned char b = (unsigned char)bytes.ptr[i];

		if (c->after_cr != (b == '\n') || (is_control(b) && b != '\r' && b != '\n'))
			return false;
		c->after_cr = b == '\r';
	}
	c->run += bytes.len;
	c->framing += bytes.len;
	return c->run <= MAX_FRAMING_RUN &&
	       c->framing <= MAX_FRAMING_BASE + MAX_FRAMING_PER_BYTE * c->bytes;
}

static enum http1_event next_chunks(struct http1 *p, struct str in, size_t *ret_used,
				    struct str *ret_body)
{
	struct http1_chunks *c = p->chunks;
	size_t used = in.len;

	c->got_body = c->complete = false;
	enum llhttp_errno e = llhttp_execute(&c->llhttp, in.ptr, in.len);

	if (e == HPE_PAUSED) {
		used = (size_t)(llhttp_get_error_pos(&c->llhttp) - in.ptr);
		llhttp_resume(&c->llhttp);
	} else if (e != HPE_OK) {
		return bad(p, 400, "the chunked body is malformed");
	}
	size_t framing = c->got_body ? (size_t)(c->body.ptr - in.ptr) : used;

	if (!framing_ok(c, (struct str){in.ptr, framing}))
		return bad(p, 400, "the chunked body's framing is malformed");
	*ret_used = used;
	if (c->got_body) {
		c->run = 0;
		c->bytes += c->body.len;
		*ret_body = c->body;
		return HTTP1_BODY;
	}
	if (!c->complete)
		return HTTP1_MORE;
	http1_fini(p);
	p->state = HTTP1_IN_HEAD;
	return HTTP1_END;
}

enum http1_event http1_next(struct http1 *p, struct str in, size_t *ret_used, struct str *ret_body)
{
	*ret_used = 0;
	*ret_body = (struct str){0};
	switch (p->state) {
	case HTTP1_IN_HEAD:
		return next_head(p, in, ret_used);
	case HTTP1_IN_LENGTH:
		return next_length(p, in, ret_used, ret_body);
	case HTTP1_IN_CHUNKS:
		return in.len ? next_chunks(p, in, ret_used, ret_body) : HTTP1_MORE;
	}
	return HTTP1_MORE;
}

/* ---- reading a head ---- */

/* Lines with a field, and none of them folded. */
static bool count_fields(struct str raw, size_t *ret_count)
{
	size_t lines = 0;

	for (size_t i = 0; i + 1 < raw.len; i++) {
		if (raw.ptr[i] != '\n')
			continue;
		lines++;
		if (raw.ptr[i + 1] == ' ' || raw.ptr[i + 1] == '\t')
			return false;
	}
	*ret_count = lines - 1; /* not the request line; the empty line ends behind the loop */
	return true;
}

/* True where a line of the head begins with this name and a colon. */
static bool names_field(struct str raw, const char *name)
{
	struct str line, key;

	while (str_split(&raw, '\n', &line)) {
		if (str_split(&line, ':', &key) && str_is_nocase(key, name))
			return true;
	}
	return false;
}

static bool both_lengths(struct http1 *p)
{
	return refuse(p, 400, "content-length and transfer-encoding were both sent");
}

static bool llhttp_refused(struct http1 *p, enum llhttp_errno e, struct str raw)
{
	struct str line = raw;
	struct str method;

	str_split(&line, ' ', &method);
	if (e == HPE_INVALID_METHOD && is_token(method))
		return refuse(p, 501, "the method is not known");
	if (e == HPE_INVALID_VERSION || e == HPE_PAUSED_H2_UPGRADE)
		return refuse(p, 505, "HTTP/1.1 is spoken here");
	if (e == HPE_INVALID_URL)
		return refuse(p, 400, "the request target is malformed");
	if (e == HPE_UNEXPECTED_CONTENT_LENGTH && names_field(raw, "transfer-encoding"))
		return both_lengths(p);
	if (e == HPE_INVALID_CONTENT_LENGTH || e == HPE_UNEXPECTED_CONTENT_LENGTH)
		return refuse(p, 400, "the content-length is malformed or named twice");
	if (e == HPE_INVALID_TRANSFER_ENCODING)
		return refuse(p, 400, "the transfer-encoding is malformed");
	return refuse(p, 400, "the head is malformed");
}

/* Exactly "METHOD SP target SP HTTP/1.x CR LF". */
static bool request_line(struct http1 *p, struct str raw, struct http1_head *h, struct str target)
{
	const char *end = memchr(raw.ptr, '\r', raw.len);
	const char *space = memchr(raw.ptr, ' ', raw.len);

	if (!end || !space || space > end || !target.len)
		return refuse(p, 400, "the request line is malformed");
	h->method = (struct str){raw.ptr, (size_t)(space - raw.ptr)};
	h->target = target;
	if (!is_token(h->method) || target.ptr != space + 1 ||
	    target.ptr + target.len + 1 + 8 != end)
		return refuse(p, 400, "the request line is malformed");
	for (size_t i = 0; i < target.len; i++) {
		unsigned char c = (unsigned char)target.ptr[i];

		if (c <= ' ' || c >= 0x7f)
			return refuse(p, 400, "the request target is malformed");
	}
	if (str_is(h->method, "CONNECT"))
		return refuse(p, 501, "CONNECT is not spoken here");
	return true;
}

static bool host_ok(struct str host)
{
	for (size_t i = 0; i < host.len; i++) {
		unsigned char c = (unsigned char)host.ptr[i];

		if (c <= ' ' || c >= 0x7f || strchr("\"#/<>?@\\^`{|},", c))
			return false;
	}
	return true;
}

/* What was met while the fields were gone through. */
struct framing {
	unsigned hosts;
	unsigned lengths;
	unsigned codings;
	bool close;
	bool keep;
	bool expect;
};

static void read_connection(struct framing *f, struct str value)
{
	struct str part;

	while (str_split(&value, ',', &part)) {
		part = str_trim(part);
		f->close |= str_is_nocase(part, "close");
		f->keep |= str_is_nocase(part, "keep-alive");
	}
}

static bool read_field(struct http1 *p, struct http1_head *h, struct framing *f,
		       const struct http_field *field)
{
	if (str_is(field->name, "host")) {
		if (f->hosts++ || !host_ok(field->value))
			return refuse(p, 400, "the host is malformed or named twice");
	} else if (str_is(field->name, "content-length")) {
		if (f->lengths++ || !str_u64(field->value, &h->length) || h->length > INT64_MAX)
			return refuse(p, 400, "the content-length is malformed or named twice");
	} else if (str_is(field->name, "transfer-encoding")) {
		if (f->codings++ || memchr(field->value.ptr, ',', field->value.len))
			return refuse(p, 400, "only one transfer coding is taken: chunked");
		if (!str_is_nocase(field->value, "chunked"))
			return refuse(p, 501, "only one transfer coding is taken: chunked");
	} else if (str_is(field->name, "connection")) {
		read_connection(f, field->value);
	} else if (str_is(field->name, "expect")) {
		if (!str_is_nocase(field->value, "100-continue"))
			return refuse(p, 417, "only 100-continue is expected here");
		f->expect = true;
	}
	return true;
}

static bool read_fields(struct http1 *p, struct http1_head *h)
{
	struct framing f = {0};

	for (size_t i = 0; i < h->field_count; i++) {
		struct http_field *field = &h->fields[i];
		char *name = (char *)field->name.ptr; /* our copy */

		if (!is_token(field->name))
			return refuse(p, 400, "a field name is malformed");
		for (size_t k = 0; k < field->name.len; k++)
			if (name[k] >= 'A' && name[k] <= 'Z')
				name[k] |= 0x20;
		field->value = field->value.ptr ? str_trim(field->value) : STR("");
		if (!read_field(p, h, &f, field))
			return false;
	}
	if (h->minor >= 1 && !f.hosts)
		return refuse(p, 400, "the host is missing");
	if (f.codings && f.lengths)
		return both_lengths(p);
	if (f.codings && h->minor < 1)
		return refuse(p, 400, "HTTP/1.0 has no transfer-encoding");
	h->chunked = f.codings > 0;
	h->keep_alive = !f.close && (h->minor >= 1 || f.keep);
	h->expect = f.expect && h->minor >= 1;
	return true;
}

bool http1_read_head(struct http1 *p, struct str raw, struct arena *arena,
		     struct http1_head *ret_head)
{
	struct http1_head h = {0};
	struct reader r = {0};
	llhttp_t l;

	p->scanned = 0;
	p->blank_lines = 0;
	while (raw.len > 2 && raw.ptr[0] == '\r') /* empty lines in front */
		raw = (struct str){raw.ptr + 2, raw.len - 2};
	if (!count_fields(raw, &r.max))
		return refuse(p, 400, "folded header fields are not taken");
	if (r.max > p->max_fields)
		return refuse(p, 431, "too many header fields");
	raw.ptr = arena_dup(arena, raw.ptr, raw.len);
	r.fields = arena_alloc(arena, (r.max + 1) * sizeof(*r.fields));
	llhttp_init(&l, HTTP_REQUEST, &head_settings);
	l.data = &r;
	enum llhttp_errno e = llhttp_execute(&l, raw.ptr, raw.len);

	if (e != HPE_PAUSED || !r.whole)
		return llhttp_refused(p, e, raw);
	if (r.count != r.max)
		return refuse(p, 400, "the head is malformed");
	if (l.http_major != 1)
		return refuse(p, l.http_major ? 505 : 400, "HTTP/1.1 is spoken here");
	h.fields = r.fields;
	h.field_count = r.count;
	h.minor = l.http_minor;
	if (!request_line(p, raw, &h, r.target) || !read_fields(p, &h))
		return false;
	p->left = h.length;
	p->state = h.chunked ? HTTP1_IN_CHUNKS : HTTP1_IN_LENGTH;
	if (h.chunked) {
		p->chunks = mem_new(struct http1_chunks);
		p->chunks->llhttp = l;
		p->chunks->llhttp.data = NULL;
		p->chunks->llhttp.settings = (void *)&body_settings;
		llhttp_resume(&p->chunks->llhttp);
	}
	*ret_head = h;
	return true;
}
