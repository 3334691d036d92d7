/* Does a session stand? It does from its creation until ttl_s after its last use: its creation, a turn that was accepted, a turn
 * that ended, whichever came last. Redis keeps that time (the key of the session is gone with it); PostgreSQL knows it from the
 * session's row and its turns' results, for a Redis that lost the key: restore.h brings back by the same rule. Refuses to tell
 * another organisation's session from none. */
#ifndef SLUICE_PRODUCER_SESSION_STANDING_H
#define SLUICE_PRODUCER_SESSION_STANDING_H

#include <stdint.h>

#include "lib/base/str.h"

struct pg;
struct redis;
struct session_standing;

enum standing {
	STANDING_OPEN,
	STANDING_NONE,	 /* there is none, it was deleted, or its time is over */
	STANDING_UNSURE, /* PostgreSQL or Redis did not say */
};

/* Its settings; a member is empty where it has none. */
struct session_row {
	struct str task;
	struct str system;
	struct str metadata; /* JSON */
	int64_t ttl_ms;
	int64_t created_ms;
};

/* @done comes once, from the loop; @row is NULL unless OPEN, and its views live until @done returns. */
struct session_standing *session_standing_open(
    struct redis *redis, struct pg *pg, struct str session, struct str org, uint64_t now_wall_ms,
    void (*done)(void *ctx, enum standing standing, const struct session_row *row), void *ctx);
/* No callback. Accepts NULL; not after @done. */
void session_standing_cancel(struct session_standing *standing);

#endif
