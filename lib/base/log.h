/* The log: one line per event, key=value or JSON, on stderr. Context hangs on objects and nests: a job's log is a
 * child of its pool's. Refuses bodies, prompts, audio, tokens and keys: sizes and ids only.
 *
 *   struct log log = log_child(&pool->log, "job", job->id);
 *   log_info(&log, "claimed", F_INT("attempt", 1), F_STR("lane", "interactive"));
 *
 * info: a state changed. warn: degraded and going on. error: a job or a connection was lost. Libraries log at debug. */
#ifndef SLUICE_BASE_LOG_H
#define SLUICE_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/base/str.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* Where lines go. One per program; tests make their own with @fd -1 and read @last. */
struct log_sink {
	int fd;
	enum log_level level;
	bool json;
	uint64_t (*wall_ms)(void *ctx); /* the loop's clock; NULL: no time is written */
	void *ctx;
	char last[512]; /* the newest line, cut */
	/* Optional: lines below warn are gathered, and this is called with the first of them; the owner calls log_flush soon (a
	 * file's disk must not be waited for in the middle of a turn, once per line). */
	void (*gathers)(void *ctx);
	void *gathers_ctx;
	struct buf gathered;
};

/* Key and value must live as long as the log. */
struct log {
	struct log_sink *sink;
	const struct log *parent;
	const char *key;
	const char *value;
};

struct log_field {
	const char *key;
	enum { LOG_FIELD_NONE, LOG_FIELD_STR, LOG_FIELD_INT, LOG_FIELD_UINT } type;
	union {
		struct str s;
		int64_t i;
		uint64_t u;
	};
};

#define F_STR(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_STR, .s = str_of(v)})
#define F_VIEW(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_STR, .s = (v)})
#define F_INT(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_INT, .i = (int64_t)(v)})
#define F_UINT(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_UINT, .u = (uint64_t)(v)})
/* The error @r (-errno) as text with the trace of the place it came from. */
#define F_ERR(r) \
	((struct log_field){.key = "error", .type = LOG_FIELD_STR, .s = str_of(log_error_text(r))})

/* A child with one more key in its context. @parent outlives it. */
struct log log_child(const struct log *parent, const char *key, const char *value);
bool log_wants(const struct log *l, enum log_level level);
void log_write(const struct log *l, enum log_level level, const char *event,
	       const struct log_field *fields, size_t count);
/* Writes the lines that were gathered. */
void log_flush(struct log_sink *sink);
/* Text of -errno and the newest trace; valid until the next call in this thread. */
const char *log_error_text(int r);

#define LOG_FIELDS_(...)                                  \
	((const struct log_field[]){{0}, ##__VA_ARGS__}), \
	    (sizeof((const struct log_field[]){{0}, ##__VA_ARGS__}) / sizeof(struct log_field))

#define log_at_(l, level, event, ...)                                                         \
	(log_wants((l), (level)) ? log_write((l), (level), (event), LOG_FIELDS_(__VA_ARGS__)) \
				 : (void)0)
#define log_debug(l, event, ...) log_at_((l), LOG_DEBUG, (event), ##__VA_ARGS__)
#define log_info(l, event, ...) log_at_((l), LOG_INFO, (event), ##__VA_ARGS__)
#define log_warn(l, event, ...) log_at_((l), LOG_WARN, (event), ##__VA_ARGS__)
#define log_error(l, event, ...) log_at_((l), LOG_ERROR, (event), ##__VA_ARGS__)

#endif
