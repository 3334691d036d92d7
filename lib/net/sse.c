#include "lib/net/sse.h"

#include <string.h>

void sse_init(struct sse *sse, size_t max_bytes,
	      void (*on_event)(void *ctx, struct str event, struct str data), void *ctx)
{
	*sse = (struct sse){.max_bytes = max_bytes, .on_event = on_event, .ctx = ctx};
}

void sse_fini(struct sse *sse)
{
	buf_fini(&sse->line);
	buf_fini(&sse->data);
	buf_fini(&sse->event);
}

/* An empty line: what was gathered is an event. */
static void dispatch(struct sse *sse)
{
	struct str data = buf_str(&sse->data);

	if (sse->has_data && !sse->stopped) {
		data.len--; /* the last line's end */
		sse->on_event(sse->ctx, buf_str(&sse->event), data);
	}
	buf_reset(&sse->data);
	buf_reset(&sse->event);
	sse->has_data = false;
}

static bool field_is(struct str name, const char *text, size_t len)
{
	return name.len == len && memcmp(name.ptr, text, len) == 0;
}

static enum sse_result take_line(struct sse *sse, struct str line)
{
	const char *colon = line.len ? memchr(line.ptr, ':', line.len) : NULL;
	struct str name = line;
	struct str value = {"", 0};

	if (!line.len) {
		dispatch(sse);
		return SSE_OK;
	}
	if (colon) {
		name.len = (size_t)(colon - line.ptr);
		value = (struct str){colon + 1, line.len - name.len - 1};
		if (value.len && value.ptr[0] == ' ')
			value = (struct str){value.ptr + 1, value.len - 1};
	}
	if (field_is(name, "data", 4)) {
		if (sse->data.len + value.len + 1 > sse->max_bytes)
			return SSE_TOO_BIG;
		buf_add_str(&sse->data, value);
		buf_add_char(&sse->data, '\n');
		sse->has_data = true;
	} else if (field_is(name, "event", 5)) {
		buf_reset(&sse->event);
		buf_add_str(&sse->event, value);
	}
	return SSE_OK;
}

/* A line's end was met: its first part may stand in sse->line. */
static enum sse_result end_line(struct sse *sse, struct str tail)
{
	enum sse_result r;

	if (sse->line.len + tail.len > sse->max_bytes)
		return SSE_TOO_BIG;
	if (!sse->line.len)
		return take_line(sse, tail);
	buf_add_str(&sse->line, tail);
	r = take_line(sse, buf_str(&sse->line));
	buf_reset(&sse->line);
	return r;
}

/* Drops one leading byte order mark, also in pieces; until it is decided the bytes wait in
 * sse->line. */
static bool skip_mark(struct sse *sse, struct str *bytes)
{
	static const char mark[3] = "\xef\xbb\xbf";

	while (bytes->len && sse->line.len < 3 && bytes->ptr[0] == mark[sse->line.len]) {
		buf_add_char(&sse->line, bytes->ptr[0]);
		*bytes = (struct str){bytes->ptr + 1, bytes->len - 1};
	}
	if (sse->line.len == 3)
		buf_reset(&sse->line);
	else if (!bytes->len)
		return false;
	sse->begun = true;
	return true;
}

static const char *find_end(struct str bytes)
{
	const char *lf = memchr(bytes.ptr, '\n', bytes.len);
	const char *cr = memchr(bytes.ptr, '\r', lf ? (size_t)(lf - bytes.ptr) : bytes.len);

	return cr ? cr : lf;
}

enum sse_result sse_feed(struct sse *sse, struct str bytes)
{
	if (!bytes.len || sse->stopped || (!sse->begun && !skip_mark(sse, &bytes)))
		return SSE_OK;
	while (bytes.len && !sse->stopped) {
		if (sse->after_cr && bytes.ptr[0] == '\n') {
			sse->after_cr = false;
			bytes = (struct str){bytes.ptr + 1, bytes.len - 1};
			continue;
		}
		sse->after_cr = false;
		const char *end = find_end(bytes);

		if (!end) {
			if (sse->line.len + bytes.len > sse->max_bytes)
				return SSE_TOO_BIG;
			buf_add_str(&sse->line, bytes);
			return SSE_OK;
		}
		size_t len = (size_t)(end - bytes.ptr);

		sse->after_cr = *end == '\r';
		if (end_line(sse, (struct str){bytes.ptr, len}) != SSE_OK)
			return SSE_TOO_BIG;
		bytes = (struct str){end + 1, bytes.len - len - 1};
	}
	return SSE_OK;
}

void sse_stop(struct sse *sse)
{
	sse->stopped = true;
}

void sse_finish(struct sse *sse)
{
	if (sse->line.len && end_line(sse, (struct str){"", 0}) != SSE_OK)
		return;
	dispatch(sse);
}
