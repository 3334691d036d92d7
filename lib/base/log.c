#include "lib/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/err.h"
#include "lib/base/json.h"

/* A value longer than this is cut: a line stays well under the 4,096 bytes that a pipe takes whole.
 */
#define VALUE_BYTES 1024

static const char *const level_name[] = {"debug", "info", "warn", "error"};

struct log log_child(const struct log *parent, const char *key, const char *value)
{
	return (struct log){.sink = parent->sink, .parent = parent, .key = key, .value = value};
}

bool log_wants(const struct log *l, enum log_level level)
{
	return l && l->sink && level >= l->sink->level;
}

/* The bytes of @value as a JSON string's inside, whatever they are. */
static void add_escaped(struct buf *line, struct str value)
{
	bool cut = value.len > VALUE_BYTES;

	value.len = str_utf8_cut(value, VALUE_BYTES);
	if (str_utf8(value)) {
		json_escape(line, value);
	} else {
		for (size_t i = 0; i < value.len; i++) {
			struct str one = {value.ptr + i, 1};

			if ((unsigned char)value.ptr[i] < 0x80)
				json_escape(line, one);
			else
				buf_add_text(line, "\xEF\xBF\xBD"); /* U+FFFD */
		}
	}
	if (cut)
		buf_add_text(line, "\xE2\x80\xA6"); /* an ellipsis */
}

static bool plain(struct str value)
{
	if (!value.len || value.len > VALUE_BYTES)
		return false;
	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.ptr[i];

		if (c <= ' ' || c >= 0x7F || c == '=' || c == '"' || c == '\\')
			return false;
	}
	return true;
}

static void add_key(const struct log_sink *sink, struct buf *line, const char *key)
{
	if (line->len)
		buf_add_char(line, sink->json ? ',' : ' ');
	else if (sink->json)
		buf_add_char(line, '{');
	if (sink->json)
		buf_add_char(line, '"');
	buf_add_text(line, key);
	buf_add_text(line, sink->json ? "\":" : "=");
}

static void add_value(const struct log_sink *sink, struct buf *line, const char *key,
		      struct str value)
{
	add_key(sink, line, key);
	if (!sink->json && plain(value)) {
		buf_add_str(line, value);
		return;
	}
	buf_add_char(line, '"');
	add_escaped(line, value);
	buf_add_char(line, '"');
}

/* Context from the root down. */
static void add_context(const struct log_sink *sink, struct buf *line, const struct log *l)
{
	if (l->parent)
		add_context(sink, line, l->parent);
	if (l->key && l->value)
		add_value(sink, line, l->key, str_of(l->value));
}

static void add_field(const struct log_sink *sink, struct buf *line, const struct log_field *field)
{
	switch (field->type) {
	case LOG_FIELD_NONE:
		break;
	case LOG_FIELD_STR:
		add_value(sink, line, field->key, field->s);
		break;
	case LOG_FIELD_INT:
		add_key(sink, line, field->key);
		buf_add_i64(line, field->i);
		break;
	case LOG_FIELD_UINT:
		add_key(sink, line, field->key);
		buf_add_u64(line, field->u);
		break;
	}
}

#define GATHERED_MAX 65536

/* A log that cannot take the bytes does not stop the program: they are lost. */
static void put_bytes(const struct log_sink *sink, struct str bytes)
{
	ssize_t n;

	while (bytes.len) {
		n = write(sink->fd, bytes.ptr, bytes.len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		bytes.ptr += n;
		bytes.len -= (size_t)n;
	}
}

void log_flush(struct log_sink *sink)
{
	if (!sink->gathered.len)
		return;
	put_bytes(sink, buf_str(&sink->gathered));
	buf_reset(&sink->gathered);
}

static void put_line(struct log_sink *sink, enum log_level level, struct buf *line)
{
	struct str whole = buf_str(line);
	size_t keep = str_utf8_cut(whole, sizeof(sink->last) - 1);

	memcpy(sink->last, whole.ptr, keep);
	sink->last[keep] = 0;
	if (sink->fd < 0)
		return;
	buf_add_char(line, '\n');
	if (sink->gathers && level < LOG_WARN && sink->gathered.len < GATHERED_MAX) {
		if (!sink->gathered.len)
			sink->gathers(sink->gathers_ctx);
		buf_add_str(&sink->gathered, buf_str(line));
		return;
	}
	log_flush(sink);
	put_bytes(sink, buf_str(line));
}

void log_write(const struct log *l, enum log_level level, const char *event,
	       const struct log_field *fields, size_t count)
{
	struct log_sink *sink = l->sink;
	struct buf line = {0};

	if (sink->wall_ms) {
		char time[CLOCK_TEXT_SIZE];

		clock_text(sink->wall_ms(sink->ctx), time);
		add_value(sink, &line, "time", str_of(time));
	}
	add_value(sink, &line, "level", str_of(level_name[level]));
	add_value(sink, &line, "event", str_of(event));
	add_context(sink, &line, l);
	for (size_t i = 0; i < count; i++)
		add_field(sink, &line, &fields[i]);
	if (sink->json)
		buf_add_char(&line, '}');
	put_line(sink, level, &line);
	buf_fini(&line);
}

const char *log_error_text(int r)
{
	/* Read at once by the line that is being written; nothing decides by it. */
	static _Thread_local char text[512];
	const char *what = strerrordesc_np(r < 0 ? -r : r);
	char trace[384];

	err_trace_text(trace, sizeof(trace));
	if (what)
		snprintf(text, sizeof(text), "%s%s%s%s", what, *trace ? " (" : "", trace,
			 *trace ? ")" : "");
	else
		snprintf(text, sizeof(text), "error %d%s%s%s", r, *trace ? " (" : "", trace,
			 *trace ? ")" : "");
	return text;
}
