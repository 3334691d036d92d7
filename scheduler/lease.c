#include "scheduler/lease.h"

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/net/loop.h"
#include "lib/store/pg.h"
#include "scheduler/scheduler.h"

/* Any number; the same for all who would lead. A session that has the lock does not take it twice. */
#define LOCK "7316493822"
#define LOOK                                                                          \
	"SELECT CASE WHEN EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory'" \
	" AND pid = pg_backend_pid() AND granted AND database ="                      \
	" (SELECT oid FROM pg_database WHERE datname = current_database())"           \
	" AND (classid::bigint << 32 | objid::bigint) = " LOCK ")"                    \
	" THEN true ELSE pg_try_advisory_lock(" LOCK ") END"

/* A leader that stands still, or whose machine vanished, asks no more: the server ends its session, and with it the lock, by its own clock. Looks
 * that come less often than that lose the lead in between, so it is so many of them at least. */
#define IDLE_US (10 * US_PER_S)
#define IDLE_LOOKS 5

struct lease {
	struct scheduler *s;
	struct pg *pg; /* one connection: the lock is its session's */
	struct pg_request *request;
	struct timer timer;
	bool held;
	uint64_t idle_us;
	uint64_t asked_us; /* the latest look */
	uint64_t until_us; /* the lock is ours until then, while the connection stands */
};

static void set_held(struct lease *l, bool held)
{
	if (held != l->held)
		log_info(l->s->log, held ? "leads" : "leads no more");
	l->held = held;
	series_set(metric_only(l->s->metric.leader), held);
}

static void on_answer(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct lease *l = ctx;

	l->request = NULL;
	set_held(l, result == PG_OK && pg_count(rows) && str_is(pg_text(rows, 0, 0), "t"));
	l->until_us = l->asked_us + l->idle_us;
	timer_set(&l->timer, l->s->options->tick_ms * US_PER_MS);
}

static void on_timer(struct timer *t)
{
	struct lease *l = container_of(t, struct lease, timer);

	l->asked_us = loop_now_us(l->s->loop);
	l->request = pg_query(l->pg, LOOK, NULL, 0, on_answer, l);
}

int lease_open(struct scheduler *s, struct lease **ret_lease)
{
	struct lease *l = mem_new(struct lease);
	struct pg_options pg = pg_defaults();

	*ret_lease = l;
	l->s = s;
	timer_init(&l->timer, s->loop, on_timer);
	timer_set(&l->timer, 0);
	pg.conninfo = s->config->postgres.conninfo;
	pg.connections = 1;
	l->idle_us = IDLE_LOOKS * s->options->tick_ms * US_PER_MS;
	if (l->idle_us < IDLE_US)
		l->idle_us = IDLE_US;
	pg.idle_us = l->idle_us;
	pg.timeout_us = s->config->postgres.query_ms * US_PER_MS;
	return err_trace(pg_open(s->loop, &pg, s->log, &l->pg));
}

bool lease_held(const struct lease *lease)
{
	return lease->held && pg_up(lease->pg) && loop_now_us(lease->s->loop) < lease->until_us;
}

void lease_close(struct lease *l)
{
	if (!l)
		return;
	timer_stop(&l->timer);
	pg_close(l->pg);
	mem_free(l);
}
