#include <errno.h>
#include <stdio.h>

#include "lib/base/clock.h"
#include "lib/base/id.h"
#include "lib/base/mem.h"
#include "lib/identity/keys.h"
#include "lib/net/loop.h"
#include "lib/store/pg.h"
#include "lib/svc/config.h"
#include "ops/ctl/ctl.h"
#include "schemas/sql.h"

#define TURN_US (100 * US_PER_MS)

int ctl_migrate(const struct ctl *ctl)
{
	cleanup_free struct pg_migration *migrations =
	    mem_alloc((sql_file_count + 1) * sizeof(*migrations));
	int r;

	for (size_t i = 0; i < sql_file_count; i++) {
		migrations[i].number = sql_files[i].number;
		migrations[i].name = sql_files[i].name;
		migrations[i].sql = sql_files[i].text;
	}
	r = pg_migrate(ctl->config->postgres.conninfo, migrations, sql_file_count, ctl->log);
	if (r < 0)
		log_error(ctl->log, "tables not migrated", F_ERR(r));
	return r < 0 ? 1 : 0;
}

/* A key being added: the organisation first, then the key. */
struct adding {
	struct pg *pg;
	const struct ctl *ctl;
	char org[KEYS_ORG_SIZE];
	char token[KEYS_TOKEN_SIZE];
	char id[ID_SIZE];
	bool ended;
	bool good;
};

static void on_added(void *ctx, int error)
{
	struct adding *a = ctx;

	a->ended = true;
	a->good = error == 0;
	if (error)
		log_error(a->ctl->log, "key not added", F_ERR(error));
}

static void on_org(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct adding *a = ctx;
	struct str id;

	if (result != PG_OK || !pg_count(rows)) {
		a->ended = true;
		log_error(
		    a->ctl->log,
		    "organisation not added: PostgreSQL does not answer, or has no tables yet");
		return;
	}
	id = pg_text(rows, 0, 0);
	snprintf(a->org, sizeof(a->org), "%.*s", STR_FMT(id));
	keys_add(a->pg, str_of(a->token), a->id, a->org, a->ctl->name ? a->ctl->name : "", on_added,
		 a);
}

int ctl_keys_add(const struct ctl *ctl)
{
	struct adding a = {.ctl = ctl};
	struct pg_options options = pg_defaults();
	struct loop *loop = loop_new(0);
	char org[ID_SIZE];
	int r;

	options.conninfo = ctl->config->postgres.conninfo;
	options.connections = 1;
	r = pg_open(loop, &options, ctl->log, &a.pg);
	if (r < 0) {
		log_error(ctl->log, "PostgreSQL cannot be reached", F_ERR(r));
	} else {
		id_make(org, "org", loop_wall_ms(loop), loop_rand(loop));
		id_make(a.id, "key", loop_wall_ms(loop), loop_rand(loop));
		keys_make(a.token);
		pg_query(a.pg,
			 "INSERT INTO orgs (id, name) VALUES ($1, $2) "
			 "ON CONFLICT (name) DO UPDATE SET name = EXCLUDED.name RETURNING id",
			 (const struct str[]){str_of(org), str_of(ctl->org)}, 2, on_org, &a);
		while (!a.ended)
			loop_turn(loop, TURN_US);
	}
	pg_close(a.pg);
	loop_free(loop);
	if (!a.good)
		return 1;
	printf("%s\n", a.token);
	log_info(ctl->log, "key added: it is shown this once", F_STR("key", a.id),
		 F_STR("org", a.org));
	mem_wipe(a.token, sizeof(a.token));
	return 0;
}
