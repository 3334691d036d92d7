/* A job's place in its line (its lane in its pool): how many stand before it, when it will probably be called, and telling its client so.
 * The line is made of heads (records that were taken and not begun) and of begun works that have no slot yet; both stand in order
 * statistics trees (line.h), so that no place costs a scan. Who waits for something else than a slot stands in no line and has no position;
 * when it comes back it begins a new line, where its position may be higher.
 *
 * The position is 1 for who is next, and the lowest that the job has had in this line. What is told, and how much of it: whoever waits for
 * PLACE_SAY_US, when its position changed, at most every PLACE_TICK_US. Each lane has a budget per tick: the first PLACE_NEAR of the begun,
 * whose position changes soon, then PLACE_FAR others, first those that were told nothing yet, then in turns. So a line of any length costs
 * at most 256 small writes a second, and one that is short is told everything. Refuses to decide who is next. */
#ifndef SLUICE_POOL_PLACE_H
#define SLUICE_POOL_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consumers/pool/line.h"
#include "lib/base/clock.h"
#include "lib/base/list.h"

#define PLACE_TICK_US (250 * US_PER_MS)
#define PLACE_SAY_US (100 * US_PER_MS)
#define PLACE_NEAR 32
#define PLACE_FAR 32

struct lane_record;
struct pool;
struct work;

/* Embedded in a head or in a work; zeroed = in no line. */
struct place {
	struct line_node node;
	struct list link; /* among those told nothing, or told something */
	struct list came; /* in the order in which they came to the line */
	bool begun;	  /* a work's */
	uint64_t since_us;
	uint64_t looked_us; /* its turn to be told came last */
	size_t lowest;	    /* position that it has had; 0: none yet */
	size_t said;	    /* the position that was told; 0: none */
};

/* A record that was taken and is not begun yet; on the heap, its owner is the line. */
struct head {
	struct place place;
	struct lane_record *record;
};

/* How fast a line moves: starts per second, a moving average over the time in which somebody waited. */
struct place_pace {
	uint64_t starts;  /* since the last measure */
	uint64_t last_us; /* of the last measure; 0: the line was empty then */
	uint64_t busy_us; /* measured at all, at most PLACE_PACE_US */
	double per_s;
};
#define PLACE_PACE_US (5 * US_PER_S)

/* A lane's line. */
struct places {
	struct line heads;
	struct line begun;
	struct list fresh; /* told nothing yet, oldest first */
	struct list told;  /* in the order in which they are looked at again */
	struct list came;  /* all, who stands longest first */
	struct list aside; /* heads that may not begin: their partition's set has no room */
	struct place_pace pace;
};

/* @p is zeroed. */
void places_init(struct places *p);
static inline size_t places_count(const struct places *p)
{
	return line_count(&p->heads) + line_count(&p->begun);
}
/* Who stands in the line longest, NULL where it is empty. */
struct place *places_oldest(const struct places *p);

/* A new head with @record at the place of @tag. */
void place_head(struct places *p, struct lane_record *record, uint64_t tag, uint64_t now_us);
/* The head that is next leaves the line; its owner is the caller. NULL where there is none. */
struct head *place_next(struct places *p);
/* The head leaves the line until place_back; it keeps its tag, and has no position meanwhile. */
void place_aside(struct places *p, struct head *head);
/* A head that was put aside; NULL where there is none. */
struct head *place_aside_first(struct places *p);
void place_back(struct places *p, struct head *head);
/* The work that @from became goes on at its place, as one that is begun; @from is in no line then. */
void place_begin(struct places *p, struct place *from, struct place *work, uint64_t tag);
/* The work (again) stands in the line, where it does not already. */
void place_enter(struct places *p, struct place *work, uint64_t tag, uint64_t now_us);
/* Out of the line; safe where it is in none. */
void place_leave(struct places *p, struct place *place);
/* It waits for something else: what it was told of the line is void. */
void place_forget(struct place *place);
/* A job of the line was given a slot. */
static inline void place_started(struct places *p)
{
	p->pace.starts++;
}
/* Its position now; 0 where it is in no line. Changes what the lowest one was. */
size_t place_position(const struct places *p, struct place *place);
/* Measures the line's pace; once a tick. */
void place_measure(struct places *p, uint64_t now_us);
/* How long until a job at @position is called, ms; -1: not known. */
int64_t place_estimate_ms(const struct places *p, size_t position);
/* Who may be told now, each with its turn noted: at most PLACE_NEAR + PLACE_FAR. The number; their positions differ from what was told. */
size_t place_turns(struct places *p, uint64_t now_us,
		   struct place *ret_places[static PLACE_NEAR + PLACE_FAR]);

/* ── told (tell.c) ── */

/* One tick of all lanes of the pool. */
void tell_places(struct pool *pool);
/* The work waits for what work->why says: told to its followers. */
void tell_wait(struct work *w);

#endif
