/* Room at providers: a call is only opened where the target's connections can carry it, so that one small target holds no more slots than it
 * has calls. Where no target of its route has room, a work waits in a line without a slot: one line per set of targets, in each lane by tag as
 * for slots. When calls end or connections open, as many go on as there is room for, lanes by weight; until their calls are made the room is
 * promised to them. Refuses to choose a target: route.h does. */
#ifndef SLUICE_POOL_ROOM_H
#define SLUICE_POOL_ROOM_H

#include <stddef.h>

#include "lib/base/map.h"
#include "lib/net/loop.h"

struct account;
struct pool;
struct work;

struct room {
	struct pool *pool;
	struct map lines; /* by targets: struct room_line (room.c) */
	struct task look;
};

void room_init(struct room *room, struct pool *pool);
/* All works are gone. */
void room_fini(struct room *room);
/* There may be more of it: who may go on wants a slot, in this turn of the loop. @room is its struct room, as a client's callback has it. */
void room_look(void *room);

/* @w, in WORK_BACKOFF, stands in the line for its route's targets that have no room now. */
void room_wait(struct work *w);
/* The next call of @w is @account's: others find that much less room there, until room_leave. */
void room_promise(struct work *w, struct account *account);
/* It waits for no room, and what was promised to it is free: its call is made now, or never. Safe where it neither waits nor was promised any.
 * Comes before the route of a work changes. */
void room_leave(struct work *w);

#endif
