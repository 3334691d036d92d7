/* The deterministic world: one clock, one queue of happenings ordered by time and by a tie-break that the seed draws, and the
 * faults of one history. Behind lib/net/loop.h, lib/net/client.h, lib/lane/lane.h and lib/store/{redis,pg,blob}.h stand this
 * folder's files, so a whole fleet runs in one process on simulated time. One history per process: what crashes here is never
 * freed. Refuses threads, sockets and the system's clock.
 *
 *   happening (time, tie-break) ──▶ a node's loop: timers, tasks, replies      (held back while it stalls, gone when it crashed)
 *                               └─▶ a server: Redis, broker, PostgreSQL, peer   (to == NULL) */
#ifndef SLUICE_TESTS_WORLD_H
#define SLUICE_TESTS_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/heap.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/rand.h"
#include "lib/base/str.h"
#include "lib/net/loop.h"

/* Wall time at the beginning of every history. */
#define WORLD_WALL_MS UINT64_C(1790000000000)

/* How likely what is, per ten thousand; all 0 in a calm world. */
struct world_faults {
	unsigned write_unknown; /* a lane write times out: in the log, late or not */
	unsigned write_refused; /* a lane write is provably not in the log */
	unsigned commit_lost;	/* a commit of offsets is not answered */
	unsigned pg_lost;	/* a statement's connection ends: done or not */
	unsigned call_fault;	/* a provider's call goes wrong in one of its ways */
	unsigned publish_lost;	/* a live event is not heard */
	unsigned redis_cut;	/* a connection ends behind a request that was executed */
	unsigned end_stall;	/* a pool stands still before the end of a call */
	unsigned slow;		/* a message takes a hundred times as long */
};

struct world {
	uint64_t seed;
	struct rand rand;
	uint64_t now_us;
	struct heap happenings;
	struct heap timers;
	struct world_faults faults;
	bool story; /* tells what happens on stdout */
	unsigned violations;
	char first[240]; /* the first violation */
};
extern struct world *world;

void world_begin(uint64_t seed, bool story);
uint64_t world_wall_ms(void);
/* Does the next thing; false where nothing is left. */
bool world_step(void);

/* @fn comes at @at_us (now where that is past). @to: whose process it is, NULL: a server's or the world's own. */
void world_at(uint64_t at_us, struct loop *to, void (*fn)(void *ctx), void *ctx);
static inline void world_in(uint64_t us, struct loop *to, void (*fn)(void *ctx), void *ctx)
{
	world_at(world->now_us + us, to, fn, ctx);
}

/* Chance of the world's own. */
uint64_t world_between(uint64_t low, uint64_t high);
bool world_chance(unsigned of_ten_thousand);
/* A message's way: mostly 50 µs to 1 ms, sometimes much longer. */
uint64_t world_delay_us(void);

/* A way on which nothing overtakes. Zeroed. */
struct wire {
	uint64_t last_us;
};
/* When a message that is sent now arrives. */
uint64_t wire_at(struct wire *wire);

/* A violated invariant: counted, the first one kept, told in the story. */
void world_violation(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A line of the story. */
void world_tell(const char *who, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ── a node's loop (struct loop of lib/net/loop.h) ── */

struct loop {
	struct rand rand;
	struct list tasks;
	bool turn_set;
	bool dead;
	uint64_t stalled_until_us;
	uint64_t stall_count;
	char name[24];
	struct log_sink sink;
	struct log log;
};
struct loop *world_loop(const char *name);
/* The process is gone: nothing of it ever runs again. */
void world_kill(struct loop *loop);
/* The process stands still until then (SIGSTOP, SIGCONT); what came for it meanwhile comes afterwards, in order. */
void world_stall(struct loop *loop, uint64_t until_us);
static inline bool world_stalled(const struct loop *loop)
{
	return loop->stalled_until_us > world->now_us;
}

/* ── Redis ── */

void redis_server_begin(void);
/* The connections are cut until it comes back; @memory: 0 kept, 1 emptied, 2 set back by up to a second. */
enum redis_memory { REDIS_KEPT, REDIS_EMPTIED, REDIS_SET_BACK };
void redis_server_away(uint64_t for_us, enum redis_memory memory);
/* FLUSHALL: the connections stand. */
void redis_server_flush(void);
/* Answers nothing for so long. */
void redis_server_freeze(uint64_t for_us);
/* Cuts one connection of one process. */
void redis_server_cut(void);
/* Memory was lost at least once. */
bool redis_server_forgot(void);
/* It forgot, or a command was lost. */
bool redis_server_was_cut(void);
/* What a test looks at; empty where nothing stands. */
struct str redis_server_field(struct str key, const char *field);
/* Visits every key. */
void redis_server_keys(void (*each)(void *ctx, struct str key), void *ctx);
/* Makes a session by its script: two keys, eight arguments. */
void redis_server_session(const struct str keys[2], const struct str args[8]);
size_t redis_server_zcount(struct str key);
/* Visits a sorted set. */
void redis_server_members(struct str key, void (*each)(void *ctx, struct str member), void *ctx);
/* What was published of an attempt's text; empty where nothing was. */
struct str redis_server_told(struct str job, int64_t attempt);
/* A job's state was set to `refused` at some time. */
bool redis_server_refused(struct str job);

/* ── the broker ── */

struct log_record {
	struct str key;
	struct str body;
	struct lane_header *headers;
	size_t header_count;
	uint64_t wall_ms;
};
struct log_part {
	struct log_record *records;
	size_t count;
	size_t cap;
};
struct log_topic {
	struct list link;
	char *name;
	struct log_part *parts;
	int32_t part_count;
};
void broker_begin(void);
/* NULL where nothing was asked of it yet. */
struct log_topic *broker_topic(const char *name);
/* No write is acknowledged, nothing is read. */
void broker_away(uint64_t for_us);
bool broker_is_away(void);
uint64_t broker_back_us(void);
/* What the group committed: the base. */
int64_t broker_committed(const char *topic, int32_t partition);
/* Takes all partitions of a random member away and gives them out anew. */
void broker_rebalance(void);
/* The world's own: told of every record that is appended (group.c, follower.c). */
void group_appended(const char *topic, int32_t partition);
void follower_appended(const char *topic, int32_t partition);
/* Called at every commit that holds; check.c. */
void check_commit(const char *topic, int32_t partition, int64_t from, int64_t to);
/* Called at every result record; check.c. */
void check_result(struct str job, struct str body);

/* ── PostgreSQL ── */

void pg_server_begin(void);
void pg_server_away(uint64_t for_us);
/* The row of a job as JSON, NULL where there is none. */
struct json_object *pg_server_result(struct str job);
size_t pg_server_results(void);
/* The key that the fleet's clients have. */
void pg_server_key(struct str hash, struct str org);
/* Visits the ends of a session's jobs; @acked: by its client. */
void pg_server_outbox(struct str session, void (*each)(void *ctx, struct str job, bool acked),
		      void *ctx);
void pg_server_session(struct str id, struct str org, struct str task, struct str system,
		       int64_t ttl_ms, int64_t created_ms);
int64_t pg_server_offset(const char *topic, int32_t partition);

/* ── providers' peers ── */

struct peer_call {
	struct list link;
	int job;	    /* number of the client's job, from its last message; -1 */
	struct str history; /* what came before its last message, one line per message */
	struct str prefix;  /* of an answer that it was to go on with; empty: none */
	struct buf *text;
	const char *node;
	uint64_t begun_us;
	bool completed; /* the terminator was handed over */
};
extern struct list peer_calls;
void peer_begin(void);
/* Set by the fleet: a poisonous job's call kills who makes it. */
extern bool (*peer_poison)(int job);
/* Set by the fleet: a call begins. */
extern void (*peer_begins)(const struct peer_call *call);
/* Set by the fleet: a call is there that counts against the provider's limits. */
extern void (*peer_arrived)(bool anthropic);

#endif
