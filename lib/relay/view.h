/* What clients read of a job: one shape, whether its state comes from Redis or its end from PostgreSQL, over HTTP or in a webhook; and the events of
 * protocol.md section 2. Refuses to ask anybody. */
#ifndef SLUICE_RELAY_VIEW_H
#define SLUICE_RELAY_VIEW_H

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/relay/state.h"

/* A job as it is shown. Views are the caller's. */
struct shown {
	struct str id;
	struct str status;
	struct job_view view;
	bool ended;
	struct result result; /* @ended */
	struct str text;      /* @ended */
};

/* From Redis; the result of an ended job is read into @arena (the text is another question). */
void shown_from_view(struct shown *s, struct arena *arena, struct str id,
		     const struct job_view *view);
/* From PostgreSQL, with its text. */
void shown_from_result(struct shown *s, const struct result *result);
/* Appends the object of GET /v1/jobs/{id}; without the text where @brief. */
void shown_write(const struct shown *s, bool brief, struct buf *out);

/* As its state would say it in Redis. Views are @result's. */
struct job_view view_of_result(const struct result *result);
/* Whether it is known when the job is called: one whose budget comes back at a known time is in no line. */
bool view_estimates(const struct job_view *view);
/* What a live event says, for json_object_put; NULL where it cannot be read. */
struct event;
struct json_object;
struct json_object *event_payload(const struct event *event);

/* "usage" of a result, as a member. */
struct json_out;
void put_usage(struct json_out *o, const struct result *result);

/* The last event of a job: `result` where it succeeded, else `fault`; the object alone. */
void event_end_write(struct buf *out, struct str job, struct str status, int64_t attempt,
		     const struct result *result);
/* Which of the two it is. */
const char *event_end_name(struct str status);

#endif
