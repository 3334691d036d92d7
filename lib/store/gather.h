/* What many ask of PostgreSQL at once, as one statement: what comes in a turn of the loop goes together, and so does what comes
 * while GATHER_SENT statements are on their way. A storm of hellos is a few commits so, and a single one waits for nobody. Refuses
 * to know what is asked.
 *
 *   (in no list) ─ gather_add ─▶ waiting ─ end of the turn ─▶ sent ─ answer ─▶ (in no list), done
 *         ▲───────── gather_cancel ─┴──────────────────────────┘
 */
#ifndef SLUICE_STORE_GATHER_H
#define SLUICE_STORE_GATHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/list.h"
#include "lib/net/loop.h"
#include "lib/store/pg.h"

struct buf;

#define GATHER_SENT 2

/* One that asks; its memory is the asker's, zeroed before its first use. */
struct gather_ask {
	struct list link;
	size_t number; /* its place in its statement, from 1 */
};

struct gather_kind {
	const char *sql;  /* $1: a list of all that ask; $2: a number, where there is @second */
	char open, close; /* around the list; commas are between */
	size_t most;	  /* that ask in one statement */
	/* Optional: what an ask weighs. A statement that weighs @most_weight or more takes no further one. */
	uint64_t (*weight)(const struct gather_ask *ask);
	uint64_t most_weight;
	/* Adds the ask to the list. */
	void (*put)(const struct gather_ask *ask, struct buf *out);
	uint64_t (*second)(void *ctx); /* optional */
	/* Comes once for each, from the loop. @rows: of all; those of @ask, whose first column is its place in the list (from 1, rising
	 * from row to row), are @count from @first on. The ask may be added again, its asker may be freed. */
	void (*done)(struct gather_ask *ask, enum pg_result result, const struct pg_rows *rows,
		     size_t first, size_t count);
};

struct gather {
	struct pg *pg;
	void *ctx;
	const struct gather_kind *kind; /* lives as long */
	struct list waiting;
	struct list batches; /* on their way */
	size_t batch_count;
	struct task send;
};

/* @pg and @ctx (of second) stay the caller's. */
void gather_init(struct gather *gather, struct loop *loop, struct pg *pg,
		 const struct gather_kind *kind, void *ctx);
/* Nobody asks any more. Accepts a zeroed one. */
void gather_fini(struct gather *gather);

void gather_add(struct gather *gather, struct gather_ask *ask);
/* No callback; a statement that is on its way is executed all the same. Accepts one that does not ask. */
void gather_cancel(struct gather_ask *ask);
/* True from gather_add until just before done, or gather_cancel. */
bool gather_asks(const struct gather_ask *ask);

#endif
