/* Turns name their predecessor: a job of a session starts when the job of the turn before is terminal or refused. Order does not depend
 * on partitions, lanes or tiers.
 *
 * A session that Redis lost is brought back from PostgreSQL, which does not know its open turns: the next one names none of them. So a
 * turn waits as well for all lower ones that this pool has: those of one session are in one partition of a lane. What takes no turn
 * (background, `not_before`) holds nobody up. */
#include <stdio.h>

#include "consumers/pool/retry.h"
#include "consumers/pool/work.h"
#include "lib/base/clock.h"
#include "lib/base/id.h"
#include "lib/base/mem.h"
#include "lib/base/plant.h"
#include "lib/store/pg.h"
#include "schemas/keys.h"

/* A predecessor without any state that is older than this was never accepted: its front gave up or died before its broker's word. */
#define PRODUCE_LIMIT_MS 20000
/* A Redis that was emptied is noticed within this: what is missing for less may have been there. */
#define EPOCH_SEEN_US (3 * US_PER_S)

/* The works of one session. */
struct turns {
	struct list works;
};

static void look(struct work *w);

static void on_timer(struct timer *t)
{
	look(container_of(t, struct work, timer));
}

static void wait_more(struct work *w)
{
	work_park(w);
	work_waits(w, "order");
	if (retry_overflow_unclaimed(w))
		return;
	work_again(w, work_pause_us(w, 10, 250), on_timer);
}

static bool lower_is_here(const struct work *w)
{
	const struct turns *turns = map_find(&w->pool->sessions, w->head.session);

	list_each (&turns->works, at) {
		const struct work *other = container_of(at, struct work, turn_link);

		if (other->head.turn < w->head.turn && sm_state(&other->sm) != WORK_ENDING)
			return true;
	}
	return false;
}

static void go_on(struct work *w)
{
	if (list_linked(&w->turn_link) && lower_is_here(w) && !PLANTED(TURN_IGNORED)) {
		wait_more(w);
		return;
	}
	work_waits(w, NULL);
	w->waits = 0;
	work_claim(w);
}

static void on_before(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct work *w = ctx;
	struct str rest = value && value->type == REDIS_STR ? value->str : STR(""), turn, prev;

	w->request = NULL;
	if (result != REDIS_OK) {
		wait_more(w);
		return;
	}
	if (PLANTED(BEFORE_IGNORED) || !str_split(&rest, ' ', &turn) ||
	    !str_split(&rest, ' ', &prev) || !id_is(prev, "job")) {
		go_on(w);
		return;
	}
	w->prev = (struct str){arena_dup(&w->arena, prev.ptr, prev.len), prev.len};
	w->missing_us = 0;
	look(w);
}

/* The turn before never called anybody: it was refused, or ended while it waited itself. Then the one before it may still run; the
 * session knows which that is. */
static void ask_before(struct work *w)
{
	struct key key = key_session(w->head.session);
	char field[2 + ID_SIZE];
	int n = snprintf(field, sizeof(field), "p:%.*s", STR_FMT(w->prev));

	w->request = redis_command(w->redis, w->head.session,
				   (struct str[]){STR("HGET"), key_str(&key), {field, (size_t)n}},
				   3, on_before, w);
}

static void on_refused(void *ctx, enum redis_result result, struct str state)
{
	struct work *w = ctx;

	w->request = NULL;
	if (result == REDIS_OK && str_is(state, "refused"))
		ask_before(w);
	else
		wait_more(w);
}

/* Was it never accepted, as far as Redis can say? What stands there ends a day behind a job's deadline: of a job that was accepted nothing is
 * left then but its record. */
static bool never_stood(const struct work *w)
{
	const struct pool *pool = w->pool;
	uint64_t made = id_wall_ms(w->prev);

	return made >= redis_epoch_wall_ms(w->redis) &&
	       loop_wall_ms(pool->loop) >= made + PRODUCE_LIMIT_MS &&
	       loop_now_us(pool->loop) >= w->missing_us + EPOCH_SEEN_US;
}

static void on_record(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct work *w = ctx;

	w->pg_request = NULL;
	if (result == PG_OK && pg_count(rows)) {
		go_on(w);
	} else if (result == PG_OK && never_stood(w)) {
		log_warn(&w->log, "turn before was never accepted", F_VIEW("prev", w->prev));
		w->request =
		    state_refuse(w->redis, w->prev, w->head.org, STATE_TTL_EXTRA_MS, on_refused, w);
	} else {
		wait_more(w);
	}
}

/* Nothing stands of the turn before: did it end long ago, was Redis emptied, or was it never accepted? The record is asked for at once, before
 * anything is refused, and where Redis cannot know; until it says something nothing is decided. */
static void missing(struct work *w)
{
	struct pool *pool = w->pool;
	bool first = !w->missing_us;

	if (first)
		w->missing_us = loop_now_us(pool->loop);
	if (first || id_wall_ms(w->prev) < redis_epoch_wall_ms(w->redis) || never_stood(w))
		w->pg_request = pg_query(pool->pg, "SELECT 1 FROM results WHERE job = $1", &w->prev,
					 1, on_record, w);
	else
		wait_more(w);
}

static void on_state(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct work *w = ctx;
	struct str state;

	w->request = NULL;
	if (result != REDIS_OK) {
		wait_more(w);
		return;
	}
	state = redis_item_str(value, 0);
	if (state.len)
		w->missing_us = 0;
	if (value->type != REDIS_LIST || !state.len)
		missing(w);
	else if (str_is(state, "refused") ||
		 (state_terminal(state) && !redis_item_str(value, 1).len))
		ask_before(w);
	else if (state_terminal(state))
		go_on(w);
	else
		wait_more(w);
}

static void look(struct work *w)
{
	struct key key;

	if (PLANTED(TURN_IGNORED) || !id_is(w->prev, "job")) {
		go_on(w);
		return;
	}
	key = key_job(w->prev);
	w->request =
	    redis_command(w->redis, w->prev,
			  (struct str[]){STR("HMGET"), key_str(&key), STR("state"), STR("called")},
			  4, on_state, w);
}

static void enter(struct work *w)
{
	struct turns *turns = map_find(&w->pool->sessions, w->head.session);

	if (!turns) {
		turns = mem_new(struct turns);
		list_init(&turns->works);
		map_set(&w->pool->sessions, w->head.session, turns);
	}
	list_push_back(&turns->works, &w->turn_link);
}

void turn_leave(struct work *w)
{
	struct turns *turns;

	if (!list_linked(&w->turn_link))
		return;
	list_remove(&w->turn_link);
	turns = map_find(&w->pool->sessions, w->head.session);
	if (list_empty(&turns->works))
		mem_free(map_take(&w->pool->sessions, w->head.session));
}

void turn_wait(struct work *w)
{
	if (w->head.session.len && w->head.turn)
		enter(w);
	w->prev = w->head.prev;
	look(w);
}
