/* An answer told to one listener in its order: text, the parts and seams between, each once, and who works on it. Remembers how far
 * it was told. Refuses to know where the answer comes from: follow.c reads it. The listener may be lost in every callback: `closed`
 * is looked at after each, and nothing is told any more.
 */
#ifndef SLUICE_RELAY_TELLER_H
#define SLUICE_RELAY_TELLER_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/str.h"
#include "lib/relay/seams.h"

struct event;
struct follow_ops;
struct job_view;
struct json_object;

/* Zeroed: nothing told, nothing known. */
struct teller {
	const struct follow_ops
	    *ops; /* state and end, the first and the last word, are not told here */
	void *ctx;
	struct str job; /* its owner's */
	bool closed;

	int64_t attempt;
	int64_t at; /* the next byte */
	int64_t parts_seen;
	struct json_object *parts; /* that are known; owned */
	struct seams seams;
	char target[200]; /* attempt, provider and model that were told last; "" for none */
};

void teller_fini(struct teller *t);

/* Goes on at byte @at of @view's attempt, to who has all before it. */
void teller_begin(struct teller *t, const struct job_view *view, int64_t at);
/* All of another attempt is void: `reset`, where something of it was shown, or where it was a newer one. */
void teller_reset(struct teller *t, int64_t attempt);
/* The same attempt from byte 0 on again, after a `reset`. */
void teller_rewind(struct teller *t);

/* The known parts, JSON; "" for none. */
void teller_keep_parts(struct teller *t, struct str parts);
/* The known parts that begin where the text stands; earlier ones were told, and a text at the beginning is not. */
void teller_parts(struct teller *t);
/* The known seams before byte @before that were not told. */
void teller_seams(struct teller *t, int64_t before);
/* @text begins at t->at; the known parts and seams come between. */
void teller_text(struct teller *t, struct str text);

/* False where text of the present attempt would be told before its `started`. */
bool teller_knows_target(const struct teller *t);
/* A `started` that was missed between two looks at the job, or before its end where none was heard at all. */
void teller_missed_started(struct teller *t, const struct job_view *view);
/* One that came. */
void teller_started(struct teller *t, const struct event *event);

#endif
