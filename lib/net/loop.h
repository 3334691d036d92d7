/* The event loop: timers, tasks and watched descriptors on one thread, on libuv. Everything that waits in Sluice
 * waits here. Refuses threads: nothing of it may be called from another one.
 *
 * Callbacks come from the loop, never from inside the call that started the work, and none comes after a stop.
 * Objects are embedded in their owners and given back by container_of. The clock is read once per turn. Chance
 * comes from the loop's seeded generator. A second implementation on simulated time stands in for this one in the
 * deterministic world. */
#ifndef SLUICE_NET_LOOP_H
#define SLUICE_NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/heap.h"
#include "lib/base/list.h"
#include "lib/base/rand.h"

struct loop;

/* @seed: of the generator; 0 takes one from the system. Fork before. Never NULL. */
struct loop *loop_new(uint64_t seed);
/* All timers, tasks and watches are stopped before. Accepts NULL. */
void loop_free(struct loop *loop);
/* Runs until loop_stop. */
void loop_run(struct loop *loop);
/* Ends loop_run at the end of this turn. */
void loop_stop(struct loop *loop);
/* One turn: waits at most @wait_us for something to do. For tests and tools that own the outer loop. */
void loop_turn(struct loop *loop, uint64_t wait_us);

/* Monotonic micro-seconds, read at the beginning of the turn. */
uint64_t loop_now_us(const struct loop *loop);
/* Milliseconds since 1970 UTC, read at the beginning of the turn. */
uint64_t loop_wall_ms(const struct loop *loop);
/* Reads the clock anew within a turn: for stamps that measure, not for decisions. */
uint64_t loop_fresh_us(struct loop *loop);
struct rand *loop_rand(struct loop *loop);

/* A timer: fires once, @delay_us after it was set; setting it again moves it. Zeroed + timer_init. */
struct timer {
	struct heap_node node;
	struct loop *loop;
	void (*fire)(struct timer *t);
};
void timer_init(struct timer *t, struct loop *loop, void (*fire)(struct timer *t));
void timer_set(struct timer *t, uint64_t delay_us);
/* Safe for one that is not set, and for a zeroed one. */
void timer_stop(struct timer *t);
static inline bool timer_is_set(const struct timer *t)
{
	return heap_holds(&t->node);
}

/* A task: runs once, later in this turn or in the next, after the events at hand. Posting it again before it ran
 * changes nothing. This is how work is gathered per turn, and how an object frees itself outside of its callbacks. */
struct task {
	struct list link;
	struct loop *loop;
	void (*run)(struct task *t);
};
void task_init(struct task *t, struct loop *loop, void (*run)(struct task *t));
void task_post(struct task *t);
/* Safe for one that is not posted, and for a zeroed one. */
void task_cancel(struct task *t);

/* A watched descriptor, level-triggered. The descriptor stays the owner's; close the watch before it. */
enum watch_events { WATCH_READ = 1, WATCH_WRITE = 2 };
struct watch; /* heap object: libuv needs a turn to let go of its handle */
/* @ready gets the WATCH_… bits that hold; an error or hang-up shows as both. NULL where @fd cannot be watched. */
struct watch *watch_open(struct loop *loop, int fd, void (*ready)(void *ctx, unsigned events),
			 void *ctx);
/* @events: what to wait for, 0 for nothing. */
void watch_set(struct watch *w, unsigned events);
/* Accepts NULL. No callback comes afterwards. */
void watch_close(struct watch *w);

/* Calls @handler from the loop when @signum arrives; one handler per signal. For lib/svc only. */
void loop_on_signal(struct loop *loop, int signum, void (*handler)(void *ctx, int signum),
		    void *ctx);

#endif
