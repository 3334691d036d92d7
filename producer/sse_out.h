/* Events of protocol.md section 2 as lines of an event stream: `event:` and `data:`, closed by a blank line. An `id:` line is
 * the caller's, before. */
#ifndef SLUICE_PRODUCER_SSE_OUT_H
#define SLUICE_PRODUCER_SSE_OUT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/relay/follow.h"

/* `queued` or `started`, as it stands. */
void sse_state(struct buf *out, struct str job, const struct job_view *view);
void sse_delta(struct buf *out, struct str job, int64_t attempt, int64_t at, struct str text);
/* A live event as it came. */
void sse_event(struct buf *out, const struct event *event);
void sse_reset(struct buf *out, struct str job, int64_t attempt, const char *why);
/* A job of a session's stream that is not known, or not the session's. */
void sse_gone(struct buf *out, struct str job, const char *why);
/* A job that the client named, whose state cannot be read now; it is asked for again. No last word: `status` is null. */
void sse_unsure(struct buf *out, struct str job);
/* Reads a position, "attempt:byte"; false where it is malformed. What is too large for a number is INT64_MAX: no answer
 * is that long, so it is "beyond the end" like any other. */
bool sse_position(struct str text, int64_t *ret_attempt, int64_t *ret_at);
/* `result` or `fault`. */
void sse_end(struct buf *out, struct str job, const struct follow_end *end);

#endif
