#include "producer/session_standing.h"

#include "lib/base/arena.h"
#include "lib/base/mem.h"
#include "lib/store/pg.h"
#include "lib/store/redis.h"
#include "schemas/keys.h"

struct session_standing {
	struct redis *redis;
	struct arena arena;
	struct str session;
	struct session_row row;
	int64_t now_ms;
	struct pg_request *pg;
	struct redis_request *request;
	void (*done)(void *ctx, enum standing standing, const struct session_row *row);
	void *ctx;
};

static void standing_free(struct session_standing *s)
{
	arena_reset(&s->arena);
	mem_free(s);
}

static void standing_end(struct session_standing *s, enum standing standing)
{
	s->done(s->ctx, standing, standing == STANDING_OPEN ? &s->row : NULL);
	standing_free(s);
}

static struct str keep(struct session_standing *s, struct str text)
{
	return (struct str){text.len ? arena_dup(&s->arena, text.ptr, text.len) : NULL, text.len};
}

static void on_exists(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct session_standing *s = ctx;

	s->request = NULL;
	if (result != REDIS_OK || value->type != REDIS_INT)
		standing_end(s, STANDING_UNSURE);
	else
		standing_end(s, value->integer ? STANDING_OPEN : STANDING_NONE);
}

/* A turn that is still open counts in Redis alone. */
static void ask_redis(struct session_standing *s)
{
	struct key key = key_session(s->session);
	const struct str args[] = {STR("EXISTS"), key_str(&key)};

	s->request = redis_command(s->redis, s->session, args, countof(args), on_exists, s);
}

static void on_row(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct session_standing *s = ctx;

	s->pg = NULL;
	if (result != PG_OK) {
		standing_end(s, STANDING_UNSURE);
		return;
	}
	if (!pg_count(rows)) {
		standing_end(s, STANDING_NONE);
		return;
	}
	s->row.task = keep(s, pg_text(rows, 0, 0));
	s->row.system = keep(s, pg_text(rows, 0, 1));
	s->row.metadata = keep(s, pg_text(rows, 0, 2));
	s->row.ttl_ms = pg_int(rows, 0, 3, 0);
	s->row.created_ms = pg_int(rows, 0, 4, 0);
	if (pg_int(rows, 0, 5, 0) + s->row.ttl_ms >= s->now_ms)
		standing_end(s, STANDING_OPEN);
	else
		ask_redis(s);
}

struct session_standing *session_standing_open(
    struct redis *redis, struct pg *pg, struct str session, struct str org, uint64_t now_wall_ms,
    void (*done)(void *ctx, enum standing standing, const struct session_row *row), void *ctx)
{
	struct session_standing *s = mem_new(struct session_standing);

	s->redis = redis;
	s->session = keep(s, session);
	s->now_ms = (int64_t)now_wall_ms;
	s->done = done;
	s->ctx = ctx;
	s->pg = pg_query(
	    pg,
	    "SELECT task, system, metadata, ttl_ms, created_ms, GREATEST(created_ms, "
	    "(SELECT max(finished_ms) FROM results WHERE session = $1 AND org = $2 AND turn > 0)) "
	    "FROM sessions WHERE id = $1 AND org = $2 AND deleted_ms IS NULL",
	    (const struct str[]){session, org}, 2, on_row, s);
	return s;
}

void session_standing_cancel(struct session_standing *s)
{
	if (!s)
		return;
	if (s->pg)
		pg_cancel(s->pg);
	if (s->request)
		redis_cancel(s->request);
	standing_free(s);
}
