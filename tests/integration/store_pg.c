/* lib/store's PostgreSQL against a real server: statements, transactions with a check, failures, restart, migrations;
 * and API keys over it. */
#include <pwd.h>

#include "lib/base/buf.h"
#include "lib/identity/keys.h"
#include "lib/store/pg.h"
#include "tests/integration/store_parts.h"

#define BIN "/usr/lib/postgresql/15/bin/"

struct test {
	struct parts p;
	struct pg *pg;
	char conninfo[160];
	int done;
	int ok;
	int away;
	int lost;
	int failed;
	int checked;
	bool check_says;
	int64_t number;
	char text[128];
	char state[8];
	uint64_t affected;
	size_t count;
	enum keys_result key;
	struct identity who;
	int error;
};

/* PostgreSQL refuses root: as the user of its package then. */
static int as_postgres(struct test *t, char *const argv[])
{
	char *all[24] = {"runuser", "-u", "postgres", "--"};
	int n = geteuid() == 0 ? 4 : 0;

	(void)t;
	for (int i = 0; argv[i]; i++)
		all[n++] = argv[i];
	all[n] = NULL;
	return run(all);
}

static void server(struct test *t, char *verb, char *mode)
{
	char data[96];
	char log[96];
	char settings[200];
	char *start_argv[] = {BIN "pg_ctl", "-D", data, "-l",	  log,	"-w",
			      "-t",	    "20", "-o", settings, verb, NULL};
	char *stop_argv[] = {BIN "pg_ctl", "-D", data, "-m", mode, "-w", "stop", NULL};

	snprintf(data, sizeof(data), "%s/data", t->p.dir);
	snprintf(log, sizeof(log), "%s/log", t->p.dir);
	snprintf(settings, sizeof(settings),
		 "-c listen_addresses=127.0.0.1 -c port=%u -c unix_socket_directories='' "
		 "-c fsync=off -c shared_buffers=16MB",
		 t->p.port);
	if (as_postgres(t, mode ? stop_argv : start_argv) != 0)
		printf("pg_ctl %s failed\n", verb);
}

static void server_make(struct test *t)
{
	char data[96];
	char *argv[] = {BIN "initdb", "-D", data, "-U", "sluice", "-A", "trust", "-N", NULL};
	struct passwd *user = getpwnam("postgres");

	snprintf(data, sizeof(data), "%s/data", t->p.dir);
	if (geteuid() == 0 && (!user || chown(t->p.dir, user->pw_uid, user->pw_gid)))
		exit(2);
	if (as_postgres(t, argv) != 0) {
		printf("initdb failed\n");
		exit(2);
	}
	t->p.port = free_port();
	snprintf(t->conninfo, sizeof(t->conninfo),
		 "host=localhost port=%u user=sluice dbname=postgres", t->p.port);
	server(t, "start", NULL);
}

static void on_done(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct test *t = ctx;

	t->done++;
	t->ok += result == PG_OK;
	t->away += result == PG_AWAY;
	t->lost += result == PG_LOST;
	t->failed += result == PG_FAILED;
	t->number = pg_int(rows, 0, 0, -1);
	t->affected = pg_affected(rows);
	t->count = pg_count(rows);
	snprintf(t->text, sizeof(t->text), "%.*s", STR_FMT(pg_text(rows, 0, 0)));
	snprintf(t->state, sizeof(t->state), "%s", pg_sqlstate(rows));
}

static void reset(struct test *t)
{
	t->done = t->ok = t->away = t->lost = t->failed = t->checked = 0;
	t->number = -2;
	t->text[0] = t->state[0] = '\0';
}

static bool query(struct test *t, const char *sql, const char *param)
{
	struct str value = str_of(param);

	reset(t);
	pg_query(t->pg, sql, &value, param ? 1 : 0, on_done, t);
	return turn_until(&t->p, &t->done, 1, 15000);
}

static void open_pg(struct test *t, uint64_t timeout_us)
{
	struct pg_options options = pg_defaults();

	options.conninfo = t->conninfo;
	options.wait_us = 1 * US_PER_S;
	options.timeout_us = timeout_us;
	if (pg_open(t->p.loop, &options, &t->p.log, &t->pg) < 0)
		exit(2);
}

static void statements(struct test *t)
{
	struct str two[] = {STR("a'b\n\\"), {0}};

	claim(&t->p, query(t, "SELECT 40 + $1::int", "2") && t->ok == 1 && t->number == 42,
	      "a statement asked before the server was reached waits and is answered");
	reset(t);
	pg_query(t->pg, "SELECT $1::text, $2::text IS NULL", two, 2, on_done, t);
	turn_until(&t->p, &t->done, 1, 5000);
	claim(&t->p, t->ok == 1 && strcmp(t->text, "a'b\n\\") == 0,
	      "parameters arrive as they are, NULL as NULL");
	claim(&t->p,
	      query(t, "CREATE TABLE things (id int PRIMARY KEY, at bigint)", NULL) && t->ok == 1,
	      "a table is made");
	reset(t);
	for (int i = 0; i < 1000; i++) {
		char number[16];
		struct str param;

		snprintf(number, sizeof(number), "%d", i);
		param = str_of(number);
		pg_query(t->pg, "INSERT INTO things VALUES ($1::int, 0)", &param, 1, on_done, t);
	}
	claim(&t->p, turn_until(&t->p, &t->done, 1000, 10000) && t->ok == 1000 && t->affected == 1,
	      "1,000 statements in pipelines are each their own");
	reset(t);
	t->done = 0;
	struct str dup = STR("5");
	struct str fresh = STR("5000");

	pg_query(t->pg, "INSERT INTO things VALUES ($1::int, 0)", &dup, 1, on_done, t);
	pg_query(t->pg, "INSERT INTO things VALUES ($1::int, 0)", &dup, 1, on_done, t);
	pg_query(t->pg, "INSERT INTO things VALUES ($1::int, 0)", &fresh, 1, on_done, t);
	pg_query(t->pg, "INSERT INTO things VALUES ($1::int, 0)", &dup, 1, on_done, t);
	turn_until(&t->p, &t->done, 4, 5000);
	claim(&t->p, t->failed == 3 && t->ok == 1,
	      "one that fails does not take its neighbours along");
	query(t, "INSERT INTO things VALUES ($1::int, 0)", "5");
	claim(&t->p, t->failed == 1 && strcmp(t->state, "23505") == 0, "its sqlstate is told");
	query(t, "not sql", NULL);
	claim(&t->p, t->failed == 1 && strcmp(t->state, "42601") == 0, "bad SQL is a failure");
}

static bool on_check(void *ctx, const struct pg_rows *rows)
{
	struct test *t = ctx;

	t->checked++;
	return t->check_says && pg_affected(rows) == 1;
}

static void transact(struct test *t, const char *old_at, const char *new_id, bool check_says)
{
	struct str at = str_of(old_at);
	struct str id = str_of(new_id);
	struct pg_statement s[] = {
	    {"UPDATE things SET at = at + 1 WHERE id = 1 AND at = $1::bigint", &at, 1},
	    {"INSERT INTO things VALUES ($1::int, 7)", &id, 1},
	    {"SELECT count(*) FROM things", NULL, 0},
	};

	reset(t);
	t->check_says = check_says;
	pg_transaction(t->pg, s, 3, 0, on_check, on_done, t);
	turn_until(&t->p, &t->done, 1, 5000);
}

static void transactions(struct test *t)
{
	struct pg_statement broken[] = {{"INSERT INTO things VALUES (9000, 0)", NULL, 0},
					{"INSERT INTO things VALUES (9000, 0)", NULL, 0}};
	struct pg_statement three[] = {{"INSERT INTO things VALUES (9001, 0)", NULL, 0}};

	transact(t, "0", "7000", true);
	claim(&t->p, t->ok == 1 && t->checked == 1 && t->number == 1002,
	      "a transaction whose check holds is done and gives its last rows");
	transact(t, "0", "7001", true);
	claim(&t->p, t->failed == 1 && t->checked == 1 && !t->state[0],
	      "one whose check says no is rolled back, without a sqlstate");
	query(t, "SELECT count(*) FROM things WHERE id = 7001 OR at = 2", NULL);
	claim(&t->p, t->number == 0, "and has left nothing");
	transact(t, "1", "7000", true);
	claim(&t->p, t->failed == 1 && strcmp(t->state, "23505") == 0,
	      "one that fails after its check is rolled back with its sqlstate");
	query(t, "SELECT at FROM things WHERE id = 1", NULL);
	claim(&t->p, t->number == 1, "and has left nothing either");
	reset(t);
	pg_transaction(t->pg, broken, 2, 0, NULL, on_done, t);
	for (int i = 0; i < 50; i++)
		pg_query(t->pg, "SELECT 1", NULL, 0, on_done, t);
	pg_transaction(t->pg, three, 1, 0, NULL, on_done, t);
	turn_until(&t->p, &t->done, 52, 5000);
	claim(&t->p, t->failed == 1 && t->ok == 51,
	      "transactions without a check and statements mix");
	query(t, "SELECT count(*) FROM things WHERE id IN (9000, 9001)", NULL);
	claim(&t->p, t->number == 1, "what failed is not there, what was committed is");
	reset(t);
	pg_cancel(pg_transaction(t->pg, three, 1, 0, NULL, on_done, t));
	pg_query(t->pg, "SELECT 1", NULL, 0, on_done, t);
	turn_until(&t->p, &t->done, 1, 5000);
	claim(&t->p, t->done == 1 && t->ok == 1, "a cancelled one has no callback");
}

static void limits(struct test *t)
{
	struct pg *keep = t->pg;

	open_pg(t, 500 * US_PER_MS);
	query(t, "SELECT pg_sleep(5)", NULL);
	claim(&t->p, t->failed == 1 && strcmp(t->state, "57014") == 0,
	      "a statement that takes too long is ended by the server");
	query(t, "SELECT pg_terminate_backend(pg_backend_pid())", NULL);
	claim(&t->p, t->lost == 1,
	      "a statement whose session the server ended is lost, not refused");
	query(t, "SELECT 1", NULL);
	claim(&t->p, t->ok == 1, "the next one has a connection");
	pg_close(t->pg);
	t->pg = keep;
}

/* A lock goes with its session, and that with its silence. */
static void silence(struct test *t)
{
	struct pg *keep = t->pg;
	struct pg_options options = pg_defaults();
	int turns = 0;

	options.conninfo = t->conninfo;
	options.connections = 1;
	options.idle_us = 300 * US_PER_MS;
	if (pg_open(t->p.loop, &options, &t->p.log, &t->pg) < 0)
		exit(2);
	query(t, "SELECT pg_try_advisory_lock(7)::int", NULL);
	claim(&t->p, t->ok == 1 && t->number == 1, "a session holds a lock");
	while (pg_up(t->pg) && turns++ < 1000)
		loop_turn(t->p.loop, 10 * US_PER_MS);
	claim(&t->p, !pg_up(t->pg), "one that asks nothing for its time is ended by the server");
	pg_close(t->pg);
	t->pg = keep;
	query(t, "SELECT pg_try_advisory_lock(7)::int", NULL);
	claim(&t->p, t->ok == 1 && t->number == 1, "and its lock is free");
}

static void migrations(struct test *t)
{
	struct pg_migration m[] = {
	    {1, "base",
	     "CREATE TABLE orgs (id text PRIMARY KEY);"
	     "CREATE TABLE api_keys (hash text PRIMARY KEY, id text NOT NULL UNIQUE, org text NOT "
	     "NULL REFERENCES orgs (id), name text NOT NULL DEFAULT '', created_at timestamptz "
	     "NOT NULL DEFAULT now(), revoked_at timestamptz);"
	     "INSERT INTO orgs VALUES ('org_1');"},
	    {2, "broken", "CREATE TABLE half (id int); SELECT 1 / 0;"},
	};

	claim(&t->p, pg_migrate(t->conninfo, m, 1, &t->p.log) == 0, "a migration is applied");
	claim(&t->p, pg_migrate(t->conninfo, m, 1, &t->p.log) == 0, "once");
	t->p.sink.level = LOG_ERROR + 1;
	claim(&t->p, pg_migrate(t->conninfo, m, 2, &t->p.log) == -EIO, "one that fails says so");
	t->p.sink.level = LOG_ERROR;
	query(t, "SELECT count(*) FROM pg_tables WHERE tablename = 'half'", NULL);
	claim(&t->p, t->number == 0, "and leaves nothing behind");
}

static void on_key(void *ctx, enum keys_result result, const struct identity *identity)
{
	struct test *t = ctx;

	t->done++;
	t->key = result;
	if (identity)
		t->who = *identity;
}

static void on_added(void *ctx, int error)
{
	struct test *t = ctx;

	t->done++;
	t->error = error;
}

static enum keys_result check_key(struct test *t, struct keys *keys, const char *token)
{
	reset(t);
	keys_check(keys, str_of(token), on_key, t);
	turn_until(&t->p, &t->done, 1, 5000);
	return t->key;
}

static int add_key(struct test *t, const char *token, const char *id, const char *org)
{
	reset(t);
	keys_add(t->pg, str_of(token), id, org, "test", on_added, t);
	turn_until(&t->p, &t->done, 1, 5000);
	return t->error;
}

static void api_keys(struct test *t, struct keys *keys, char token[KEYS_TOKEN_SIZE])
{
	char other[KEYS_TOKEN_SIZE];

	keys_make(token);
	keys_make(other);
	claim(&t->p, add_key(t, token, "key_1", "org_1") == 0, "a key is added");
	claim(&t->p, add_key(t, token, "key_2", "org_1") == -EEXIST, "once");
	claim(&t->p, add_key(t, other, "key_2", "org_0") == -EINVAL, "for an org that is there");
	claim(&t->p,
	      check_key(t, keys, token) == KEYS_GOOD && strcmp(t->who.org, "org_1") == 0 &&
		  strcmp(t->who.key, "key_1") == 0,
	      "it is good and says whose it is");
	claim(&t->p, check_key(t, keys, other) == KEYS_BAD, "another is bad");
	claim(&t->p, check_key(t, keys, "sk-sluice-'; DROP TABLE api_keys") == KEYS_BAD,
	      "what is no key is bad");
	add_key(t, other, "key_2", "org_1");
	claim(&t->p, check_key(t, keys, other) == KEYS_BAD, "a bad answer is remembered");
	keys_forget(keys);
	claim(&t->p, check_key(t, keys, other) == KEYS_GOOD, "until it is forgotten");
	reset(t);
	keys_revoke(t->pg, "key_2", on_added, t);
	turn_until(&t->p, &t->done, 1, 5000);
	keys_forget(keys);
	claim(&t->p, t->error == 0 && check_key(t, keys, other) == KEYS_BAD,
	      "a revoked one is bad");
	reset(t);
	keys_forget(keys);
	for (int i = 0; i < 100; i++)
		keys_check(keys, str_of(token), on_key, t);
	keys_cancel(keys_check(keys, str_of(token), on_key, t));
	turn_until(&t->p, &t->done, 100, 5000);
	claim(&t->p, t->done == 100 && t->key == KEYS_GOOD,
	      "a hundred ask at once; who cancelled is "
	      "not called");
}

static void restart(struct test *t, struct keys *keys, const char *token)
{
	char other[KEYS_TOKEN_SIZE];
	int turns = 0;

	keys_make(other);
	reset(t);
	pg_query(t->pg, "SELECT pg_sleep(3)", NULL, 0, on_done, t);
	while (turns++ < 20)
		loop_turn(t->p.loop, 5 * US_PER_MS);
	server(t, "stop", "immediate");
	claim(&t->p, turn_until(&t->p, &t->done, 1, 5000) && t->lost == 1,
	      "a statement under way when the server dies is lost");
	query(t, "SELECT 1", NULL);
	claim(&t->p, t->away == 1, "one asked then is away");
	claim(&t->p, check_key(t, keys, token) == KEYS_GOOD, "a remembered key stays good");
	claim(&t->p, check_key(t, keys, other) == KEYS_UNSURE, "another is unsure, not bad");
	claim(&t->p, !pg_up(t->pg), "it is said that postgres is away");
	server(t, "start", NULL);
	reset(t);
	for (int i = 0; i < 100 && t->ok == 0; i++)
		query(t, "SELECT 1", NULL);
	claim(&t->p, t->ok == 1 && pg_up(t->pg), "it comes back by itself");
	claim(&t->p, check_key(t, keys, other) == KEYS_BAD, "and is sure again");
}

int main(void)
{
	struct test t = {0};
	struct keys *keys;
	char token[KEYS_TOKEN_SIZE];

	parts_init(&t.p);
	if (access(BIN "pg_ctl", X_OK)) {
		printf("skipped: no PostgreSQL 15 here\n");
		return parts_end(&t.p);
	}
	server_make(&t);
	open_pg(&t, 10 * US_PER_S);
	statements(&t);
	transactions(&t);
	limits(&t);
	silence(&t);
	migrations(&t);
	keys = keys_new(t.p.loop, t.pg, NULL, &t.p.log);
	api_keys(&t, keys, token);
	restart(&t, keys, token);
	keys_check(keys, str_of(token), on_key, &t);
	keys_free(keys);
	pg_query(t.pg, "SELECT pg_sleep(1)", NULL, 0, on_done, &t);
	loop_turn(t.p.loop, 0);
	pg_close(t.pg);
	loop_turn(t.p.loop, 0);
	server(&t, "stop", "fast");
	return parts_end(&t.p);
}
