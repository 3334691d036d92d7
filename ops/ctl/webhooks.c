/* Webhooks as their table has them: listed, made due again; and the secrets that sign them. */
#include <errno.h>
#include <stdio.h>

#include "lib/identity/sign.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/net/loop.h"
#include "lib/store/pg.h"
#include "lib/svc/config.h"
#include "ops/ctl/ctl.h"

#define TURN_US (50 * US_PER_MS)
#define LIMIT 100
/* An organisation by its id or its name. */
#define ORG "(SELECT id FROM orgs WHERE id = $1 OR name = $1)"

/* One statement, waited for. */
struct asking {
	void (*row)(const struct pg_rows *rows, size_t row);
	bool ended;
	bool good;
	size_t count;
	uint64_t affected;
};

static void on_rows(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct asking *a = ctx;

	a->ended = true;
	a->good = result == PG_OK;
	if (!a->good)
		return;
	a->count = pg_count(rows);
	a->affected = pg_affected(rows);
	for (size_t i = 0; a->row && i < a->count; i++)
		a->row(rows, i);
}

/* False with a log line. */
static bool ask(const struct ctl *ctl, const char *sql, const struct str *params, size_t count,
		struct asking *a)
{
	struct pg_options options = pg_defaults();
	struct loop *loop = loop_new(0);
	struct pg *pg = NULL;

	options.conninfo = ctl->config->postgres.conninfo;
	options.connections = 1;
	a->ended = a->good = false;
	if (pg_open(loop, &options, ctl->log, &pg) >= 0) {
		pg_query(pg, sql, params, count, on_rows, a);
		while (!a->ended)
			loop_turn(loop, TURN_US);
	}
	pg_close(pg);
	loop_free(loop);
	if (!a->good)
		log_error(ctl->log, "PostgreSQL does not answer, or has no such table yet");
	return a->good;
}

static void print_webhook(const struct pg_rows *rows, size_t row)
{
	char due[CLOCK_TEXT_SIZE];
	struct str why = pg_text(rows, row, 7);

	clock_text((uint64_t)pg_int(rows, row, 4, 0), due);
	printf("%.*s %.*s %.*s tries=%lld %s=%s status=%lld %.*s%s%.*s\n",
	       STR_FMT(pg_text(rows, row, 0)), STR_FMT(pg_text(rows, row, 1)),
	       STR_FMT(pg_text(rows, row, 2)), (long long)pg_int(rows, row, 3, 0),
	       str_is(pg_text(rows, row, 2), "waiting") ? "due" : "ended", due,
	       (long long)pg_int(rows, row, 5, 0), STR_FMT(pg_text(rows, row, 6)),
	       why.len ? " " : "", STR_FMT(why));
}

int ctl_webhooks_list(const struct ctl *ctl)
{
	struct asking a = {.row = print_webhook};
	char limit[24];

	snprintf(limit, sizeof(limit), "%ld", ctl->limit ? ctl->limit : LIMIT);
	return ask(ctl,
		   "SELECT job, org, state, tries, coalesce(ended_ms, due_ms), status, origin, why "
		   "FROM webhooks WHERE ($1 = '' OR org = " ORG ") "
		   "AND ($2 = 't' OR (state <> 'delivered' AND (state = 'dead' OR tries > 0))) "
		   "ORDER BY job DESC LIMIT $3::integer",
		   (const struct str[]){str_of(ctl->org ? ctl->org : ""),
					ctl->all ? STR("t") : STR("f"), str_of(limit)},
		   3, &a)
		   ? 0
		   : 1;
}

static void print_first(const struct pg_rows *rows, size_t row)
{
	printf("%.*s\n", STR_FMT(pg_text(rows, row, 0)));
}

int ctl_webhooks_retry(const struct ctl *ctl)
{
	struct asking a = {.row = print_first};
	struct loop *loop = loop_new(0);
	char now[24];

	snprintf(now, sizeof(now), "%llu", (unsigned long long)loop_wall_ms(loop));
	loop_free(loop);
	/* Its tries begin anew; one that is under way is left alone. */
	if (!ask(ctl,
		 "UPDATE webhooks SET state = 'waiting', tries = 0, due_ms = $3::bigint, "
		 "ended_ms = NULL WHERE holder IS NULL AND state <> 'delivered' "
		 "AND CASE WHEN $2 <> '' THEN job = $2 ELSE state = 'dead' AND org = " ORG " END "
		 "RETURNING job",
		 (const struct str[]){str_of(ctl->org ? ctl->org : ""),
				      str_of(ctl->text ? ctl->text : ""), str_of(now)},
		 3, &a))
		return 1;
	if (!a.count)
		fprintf(stderr, "sluicectl: no such webhook that waits or was given up\n");
	return a.count ? 0 : 1;
}

/* ── secrets ── */

static int print_secrets(const struct ctl *ctl)
{
	struct asking a = {.row = print_first};

	if (!ask(ctl,
		 "SELECT secret FROM webhook_secrets WHERE org = " ORG
		 " ORDER BY created_at DESC LIMIT 2",
		 (const struct str[]){str_of(ctl->org)}, 1, &a))
		return 1;
	if (!a.count)
		fprintf(stderr, "sluicectl: there is no such organisation\n");
	return a.count ? 0 : 1;
}

static int add_secret(const struct ctl *ctl, const char *sql)
{
	char secret[SIGN_SECRET_SIZE];
	struct asking a = {0};
	bool good;

	sign_secret_make(secret);
	good = ask(ctl, sql, (const struct str[]){str_of(ctl->org), str_of(secret)}, 2, &a);
	mem_wipe(secret, sizeof(secret));
	return good ? print_secrets(ctl) : 1;
}

int ctl_webhooks_secret(const struct ctl *ctl)
{
	return add_secret(ctl, "INSERT INTO webhook_secrets (org, secret) SELECT id, $2 FROM orgs "
			       "WHERE (id = $1 OR name = $1) AND NOT EXISTS "
			       "(SELECT 1 FROM webhook_secrets s WHERE s.org = orgs.id)");
}

int ctl_webhooks_rotate(const struct ctl *ctl)
{
	return add_secret(ctl, "WITH old AS (DELETE FROM webhook_secrets s WHERE s.org = " ORG
			       " AND secret NOT IN (SELECT secret FROM webhook_secrets n "
			       "WHERE n.org = s.org ORDER BY created_at DESC LIMIT 1)) "
			       "INSERT INTO webhook_secrets (org, secret) SELECT id, $2 FROM orgs "
			       "WHERE id = $1 OR name = $1");
}

int ctl_webhooks_retire(const struct ctl *ctl)
{
	struct asking a = {0};

	if (!ask(ctl,
		 "DELETE FROM webhook_secrets s WHERE s.org = " ORG " AND secret NOT IN "
		 "(SELECT secret FROM webhook_secrets n WHERE n.org = s.org "
		 "ORDER BY created_at DESC LIMIT 1)",
		 (const struct str[]){str_of(ctl->org)}, 1, &a))
		return 1;
	return print_secrets(ctl);
}
