/* One connection to Redis: connects, authenticates, selects the database, writes what is gathered in a turn at once,
 * gives replies one by one, and comes back after a failure (50 ms, doubling to 1 s, with jitter). Refuses to know what
 * a reply answers. Used by redis.c and redis_sub.c alone.
 *
 *   DOWN ──back-off──▶ CONNECTING ──▶ GREETING (AUTH, SELECT) ──▶ OPEN
 *     ◀────────────────── failure, time-out ────────────────────────┘ */
#ifndef SLUICE_STORE_REDIS_LINK_H
#define SLUICE_STORE_REDIS_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/base/log.h"
#include "lib/net/loop.h"
#include "lib/store/redis_url.h"
#include "lib/store/resp.h"

struct conn;
struct tls;
struct redis_link;

enum redis_link_state {
	REDIS_LINK_DOWN,
	REDIS_LINK_CONNECTING,
	REDIS_LINK_GREETING,
	REDIS_LINK_OPEN,
};

struct redis_link_ops {
	/* Authenticated: commands may be added to link->out. */
	void (*open)(struct redis_link *link);
	void (*reply)(struct redis_link *link, const struct redis_value *value);
	/* It was open and is no more; link->out is empty, link->written still counts. It connects again by itself. */
	void (*lost)(struct redis_link *link);
};

/* Embedded in its owner. */
struct redis_link {
	struct loop *loop;
	const struct redis_url *url;
	struct tls *tls; /* the owner's */
	const struct redis_link_ops *ops;
	const struct log *log;
	enum redis_link_state state;
	struct conn *conn;
	struct resp resp;
	struct buf out;
	uint64_t added;	   /* bytes put into out over this connection */
	uint64_t written;  /* of them given to the socket */
	uint64_t heard_us; /* when something was last read */
	uint64_t timeout_us;
	uint32_t failures;  /* in a row; the owner sets it to 0 when all is well */
	uint32_t greetings; /* replies to AUTH and SELECT that are still to come */
	struct timer timer;
	struct task flush;
};

/* Connects in the next turn. @url, @tls, @ops and @log are the owner's and outlive the link. */
void redis_link_init(struct redis_link *link, struct loop *loop, const struct redis_url *url,
		     struct tls *tls, uint64_t timeout_us, const struct redis_link_ops *ops,
		     const struct log *log);
/* No callback afterwards. */
void redis_link_fini(struct redis_link *link);
/* To be called after each addition to link->out: it is written at the end of the turn. */
void redis_link_added(struct redis_link *link, size_t bytes);
/* Writes what was added now: the server works on it while the rest of the turn goes on. It may cut the connection. */
void redis_link_flush(struct redis_link *link);
/* Cuts the connection: ops.lost comes before this returns, where it was open. For the logs: @why. */
void redis_link_fail(struct redis_link *link, const char *why);

#endif
