/* A stream: the answer of one job on its way to one socket. It turns what a follow says into events, holds them back until the job's
 * id was told to the client (`accepted`) or its group's turn has come, and makes a snapshot where the client has nothing to go on
 * from; a position that is not between two code points is nothing to go on from. Refuses to keep text for a slow client: the follow is paused, and reads again.
 *
 * A group: jobs attached by one op. Those that go on exactly are told in one `resumed`, before anything else of the group. */
#ifndef SLUICE_PUSH_STREAM_H
#define SLUICE_PUSH_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "consumers/push/op.h"
#include "lib/base/str.h"

struct session;
struct stream;

/* The job that is being submitted, from its first byte; held until stream_release. @twice: it may have been submitted before, under the same ref.
 * NULL where the connection follows too many jobs. A job that is followed already goes on as it is. */
struct stream *stream_submit(struct session *s, struct str job, struct str channel, bool twice);
/* A job that was met on the session's channel. */
void stream_meet(struct session *s, struct str job, struct str channel);
/* Follows @jobs (again) as they say. @said: the client named them, so it hears of those that are not known; the others are
 * forgotten silently. @done comes once, from the loop or from inside, when each had its first word; not after the session closed. */
void stream_attach(struct session *s, const struct op_position *jobs, size_t count, bool said,
		   void (*done)(struct session *s));
/* NULL where it is not followed. */
struct stream *stream_find(const struct session *s, struct str job);
/* What was held goes out; of one that waits for its group nothing yet. */
void stream_release(struct stream *st);
/* Nothing more is said of it. @unsaid: only where it was made by stream_submit and the client knows nothing of it yet. */
void stream_drop(struct stream *st, bool unsaid);
/* Pauses or resumes all, as the session's queue is. */
void streams_flow(struct session *s);
void streams_quiet(struct session *s);

#endif
