/* What pg.c and pg_link.c share. Refuses to be included elsewhere.
 *
 *   pg ── queue of requests ──▶ links: statements pipelined, a transaction alone on its link */
#ifndef SLUICE_STORE_PG_IMPL_H
#define SLUICE_STORE_PG_IMPL_H

#include "lib/base/list.h"
#include "lib/net/loop.h"
#include "lib/store/pg.h"
#include "lib/store/pg_libpq.h"

#define PG_CONNECTIONS_MAX 64
/* Statements on their way on one connection: enough to fill a round trip, few enough to share a loss. */
#define PG_PIPELINE_MAX 32

struct pg_link;
struct resolve;
struct watch;

struct pg_rows {
	PGresult *result; /* NULL: none */
	char sqlstate[6];
};

/* A statement with its parameters as libpq takes them. Owned by its request. */
struct pg_ready {
	char *sql;
	char **values; /* NULL for SQL NULL */
	int count;
};

struct pg_request {
	struct list link; /* in pg->queue or pg_link->active */
	struct pg *pg;
	struct pg_link *on; /* NULL while it is queued */
	pg_fn *done;	    /* NULL: cancelled, or nobody waits */
	void *ctx;
	bool transaction;
	bool (*check)(void *ctx, const struct pg_rows *rows);
	size_t check_at;
	struct pg_ready *statements;
	size_t count;
	size_t answered; /* results that came, BEGIN's included */
	bool synced;	 /* everything up to its Sync was sent */
	bool rolled;	 /* ROLLBACK was sent */
	bool refused;	 /* by check */
	bool failed;
	struct pg_rows rows; /* of the last statement, or of the failure */
	uint64_t asked_us;
	uint64_t sent_us;
};

enum pg_link_state {
	PG_LINK_DOWN,
	PG_LINK_RESOLVING,
	PG_LINK_CONNECTING,
	PG_LINK_SETTING, /* its session's limits */
	PG_LINK_UP,
};

struct pg_link {
	struct pg *pg;
	enum pg_link_state state;
	struct resolve *resolve;
	char address[64]; /* of the host, "" where libpq needs none from us */
	PGconn *conn;
	struct watch *watch;
	struct list active; /* on their way, oldest first */
	size_t count;
	size_t owed;	/* results and Syncs that libpq will still give */
	bool in_result; /* a result's closing NULL is to come */
	bool exclusive; /* a transaction has it */
	uint32_t failures;
	struct timer timer;
};

struct pg {
	struct loop *loop;
	struct pg_options options;
	char *conninfo;
	char *host; /* the name to resolve; NULL: none */
	struct log log;
	struct pg_link *links;
	uint32_t link_count;
	uint32_t up_count;
	struct list queue;
	struct task dispatch;
	struct timer wait; /* the oldest queued one's limit */
};

/* pg_link.c */
void pg_link_init(struct pg_link *link, struct pg *pg);
void pg_link_fini(struct pg_link *link);
/* Sends @request on a link that is up and has room for it. */
void pg_link_send(struct pg_link *link, struct pg_request *request);
/* Writes what was sent. */
void pg_link_flush(struct pg_link *link);

/* pg.c */
void pg_request_finish(struct pg_request *request, enum pg_result result);
void pg_request_free(struct pg_request *request);
void pg_up_changed(struct pg *pg, int by);
/* Room on a link, or a new request. */
void pg_dispatch_soon(struct pg *pg);

#endif
