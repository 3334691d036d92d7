/* Migrations: blocking, for tools. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/store/pg.h"
#include "lib/store/pg_libpq.h"

/* Any number; the same for all who migrate. */
#define LOCK "SELECT pg_advisory_lock(7316493821)"

static bool run(PGconn *conn, const char *sql, const struct log *log, const char *name)
{
	PGresult *result = PQexec(conn, sql);
	ExecStatusType status = PQresultStatus(result);
	bool good = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;

	if (!good)
		log_error(log, "a migration failed", F_STR("migration", name),
			  F_STR("detail", PQerrorMessage(conn)));
	PQclear(result);
	return good;
}

enum applied { APPLIED_NO, APPLIED_YES, APPLIED_FAILED };

static enum applied applied(PGconn *conn, const char *number, const struct log *log)
{
	const char *values[] = {number};
	PGresult *result =
	    PQexecParams(conn, "SELECT 1 FROM sluice_migrations WHERE number = $1::int", 1, NULL,
			 values, NULL, NULL, 0);
	enum applied a = APPLIED_FAILED;

	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		a = PQntuples(result) ? APPLIED_YES : APPLIED_NO;
	else
		log_error(log, "the migrations' table cannot be read",
			  F_STR("detail", PQerrorMessage(conn)));
	PQclear(result);
	return a;
}

static bool remember(PGconn *conn, const char *number, const char *name, const struct log *log)
{
	const char *values[] = {number, name};
	PGresult *result =
	    PQexecParams(conn, "INSERT INTO sluice_migrations (number, name) VALUES ($1::int, $2)",
			 2, NULL, values, NULL, NULL, 0);
	bool good = PQresultStatus(result) == PGRES_COMMAND_OK;

	if (!good)
		log_error(log, "a migration cannot be remembered",
			  F_STR("detail", PQerrorMessage(conn)));
	PQclear(result);
	return good;
}

static bool apply(PGconn *conn, const struct pg_migration *m, const struct log *log)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", m->number);
	switch (applied(conn, number, log)) {
	case APPLIED_YES:
		return true;
	case APPLIED_FAILED:
		return false;
	case APPLIED_NO:
		break;
	}
	if (!run(conn, "BEGIN", log, m->name) || !run(conn, m->sql, log, m->name) ||
	    !remember(conn, number, m->name, log))
		return false;
	if (!run(conn, "COMMIT", log, m->name))
		return false;
	log_info(log, "migrated", F_STR("migration", m->name));
	return true;
}

static void no_notice(void *ctx, const PGresult *result)
{
	(void)ctx;
	(void)result;
}

int pg_migrate(const char *conninfo, const struct pg_migration *migrations, size_t count,
	       const struct log *log)
{
	PGconn *conn = PQconnectdb(conninfo);
	bool good = conn && PQstatus(conn) == CONNECTION_OK;
	int r = 0;

	if (!good) {
		log_error(log, "postgres cannot be reached",
			  F_STR("detail", conn ? PQerrorMessage(conn) : "no memory"));
		PQfinish(conn);
		return err_origin(-ECONNREFUSED);
	}
	PQsetNoticeReceiver(conn, no_notice, NULL);
	good = run(conn, LOCK, log, "lock") &&
	       run(conn,
		   "CREATE TABLE IF NOT EXISTS sluice_migrations (number int PRIMARY KEY, "
		   "name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())",
		   log, "sluice_migrations");
	for (size_t i = 0; good && i < count; i++)
		good = apply(conn, &migrations[i], log);
	if (!good)
		r = err_origin(-EIO);
	/* The lock goes with the session, a transaction that was not committed too. */
	PQfinish(conn);
	return r;
}
