/* PostgreSQL on the loop: statements with parameters over a small pool of connections, in libpq's
 * non-blocking pipeline mode; transactions that hold one connection. Refuses text-built SQL: values
 * are parameters. While the server is away requests fail with PG_AWAY after @wait_us, and
 * connections are tried again. */
#ifndef SLUICE_STORE_PG_H
#define SLUICE_STORE_PG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/log.h"
#include "lib/base/str.h"

struct loop;
struct pg;
struct pg_request;

enum pg_result {
	PG_OK = 0,
	PG_AWAY,   /* not sent; certainly not executed */
	PG_LOST,   /* sent, and the connection ended: may have been executed */
	PG_FAILED, /* the server refused: see pg_rows' sqlstate (logged here) */
};

/* The rows of one statement; live until the callback returns. */
struct pg_rows;
size_t pg_count(const struct pg_rows *rows);
/* Text form; ptr NULL for SQL NULL. Views live as long as the rows. */
struct str pg_text(const struct pg_rows *rows, size_t row, size_t column);
int64_t pg_int(const struct pg_rows *rows, size_t row, size_t column, int64_t otherwise);
uint64_t pg_affected(const struct pg_rows *rows);
/* "23505" …; "" where there was no error. */
const char *pg_sqlstate(const struct pg_rows *rows);

struct pg_options {
	const char *conninfo; /* libpq's own: host, port, user, sslmode … */
	uint32_t connections; /* 2 */
	uint64_t wait_us;     /* 2 s */
	uint64_t timeout_us;  /* 10 s per statement (statement_timeout too) */
	uint64_t idle_us;     /* the server ends a session that asked nothing for so long
			       * (idle_session_timeout); 0: not set */
};
struct pg_options pg_defaults(void);

must_check int pg_open(struct loop *loop, const struct pg_options *options, const struct log *log,
		       struct pg **ret_pg);
void pg_close(struct pg *pg); /* accepts NULL; no callbacks afterwards */
bool pg_up(const struct pg *pg);

typedef void pg_fn(void *ctx, enum pg_result result, const struct pg_rows *rows);

/* One statement with $1 … parameters (text form without NUL bytes; ptr NULL is SQL NULL), copied. It is a transaction of
 * its own; several may be on their way on one connection, in no order that a caller may count on. @done comes from the
 * loop (NULL: nobody waits). It waits for a connection for @wait_us while the server is away, and for @timeout_us while
 * all connections are busy, then it is PG_AWAY. */
struct pg_request *pg_query(struct pg *pg, const char *sql, const struct str *params, size_t count,
			    pg_fn *done, void *ctx);
/* No callback. What was sent is done all the same, but a transaction with a check that was not reached yet is rolled
 * back. Accepts NULL. */
void pg_cancel(struct pg_request *request);

/* A transaction: BEGIN, the statements in order, COMMIT, in one pipeline. @check (may be NULL) decides after statement
 * @check_at (index) from its rows whether to go on, and may start nothing; false rolls back and gives PG_FAILED with
 * sqlstate "" to @done. With PG_OK @done gets the rows of the last statement. */
struct pg_statement {
	const char *sql;
	const struct str *params;
	size_t count;
};
struct pg_request *pg_transaction(struct pg *pg, const struct pg_statement *statements,
				  size_t count, size_t check_at,
				  bool (*check)(void *ctx, const struct pg_rows *rows), pg_fn *done,
				  void *ctx);

/* Applies schemas/sql migrations in order (a table sluice_migrations remembers them; an advisory
 * lock keeps two tools apart). Blocking: for tools. @migrations: number, name, text. */
struct pg_migration {
	int number;
	const char *name;
	const char *sql;
};
must_check int pg_migrate(const char *conninfo, const struct pg_migration *migrations, size_t count,
			  const struct log *log);

#endif
