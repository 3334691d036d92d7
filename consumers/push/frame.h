/* Server events as JSON text: one object per frame, from the table schemas/event.def. Refuses to send. */
#ifndef SLUICE_PUSH_FRAME_H
#define SLUICE_PUSH_FRAME_H

#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/base/json.h"
#include "lib/base/str.h"
#include "schemas/fault.h"

struct event;
struct follow_end;
struct job_view;

enum frame_event {
#define EVENT(name, ev, fields, meaning) FRAME_##name,
#include "schemas/event.def"
#undef EVENT
	FRAME_EVENTS
};

/* A frame being written. Zero-initialised; the text is taken from @text (buf_fini). */
struct frame {
	struct buf text;
	struct json_out out;
};

/* Opens the object with its `ev`; the members follow with json_put_…(&f->out, …), then frame_end. */
struct json_out *frame_begin(struct frame *f, enum frame_event event);
void frame_end(struct frame *f);

/* Whole frames, appended to an empty @f. */
void frame_delta(struct frame *f, struct str job, int64_t attempt, int64_t at, struct str text);
/* A live event of a job that is handed on as it is. */
void frame_live(struct frame *f, const struct event *event);
/* Where the state says that it waits. */
void frame_queued(struct frame *f, struct str job, const struct job_view *view);
void frame_started(struct frame *f, struct str job, const struct job_view *view);
void frame_reset(struct frame *f, struct str job, int64_t attempt, const char *why);
/* @job empty: a resume token's. */
void frame_gone(struct frame *f, struct str job, const char *why);
/* `result` where it succeeded, else `fault`; with the text where the client has not @had_bytes of it and it is at hand. */
void frame_last(struct frame *f, struct str job, const struct follow_end *end, int64_t had_bytes);

/* A fault that answers an op. Empty members are left out. */
struct frame_refusal {
	enum fault fault;
	struct str ref;
	struct str job;
	const char *message; /* NULL: the fault's own */
	const char *param;   /* NULL or "" */
};
void frame_fault(struct frame *f, const struct frame_refusal *refusal);

#endif
