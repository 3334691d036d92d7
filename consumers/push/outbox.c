#include "consumers/push/outbox.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consumers/push/session.h"
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/plant.h"
#include "lib/net/loop.h"
#include "lib/relay/state.h"
#include "lib/store/pg.h"
#include "lib/store/redis.h"
#include "schemas/keys.h"

#define JOBS_MAX STATE_OUTBOX_JOBS
/* Of both stores. */
#define IDS_MAX (2 * JOBS_MAX + 2)
/* With two entries that are no jobs: a list of so many does not have all. */
#define LIST_LAST "257"
#define LIST_COUNT 258
#define EPOCH "epoch"
#define CUT "cut" /* schemas/redis/outbox.lua */
/* Sessions that are looked up in one statement: at most 256 KiB of ids come back. */
#define LOOKS_MAX 32
#define GATHER_US (100 * US_PER_MS)
#define AGAIN_US (1 * US_PER_S)
#define SWEEP_US (60 * US_PER_S)
#define FIRST_SWEEP_US (5 * US_PER_S)
/* Of acknowledgements that PostgreSQL does not take; above it the oldest are forgotten there. */
#define WAITING_MAX_BYTES (1u << 20)
/* Of accepted jobs whose entry Redis did not confirm; above it the next ones are not tried again. */
#define PUTS_MAX 4096

struct outbox {
	struct push *push;
	struct list puts;
	size_t put_count;
	struct timer put_again;
	struct buf filling; /* inside of a JSON list */
	struct buf sending;
	struct pg_request *request;
	struct pg_request *sweeping;
	struct timer flush;
	struct timer sweep;
	struct gather looks; /* that Redis alone cannot answer */
};

/* ── acknowledgements, to PostgreSQL ── */

static const char ack_sql[] =
    "WITH a AS (SELECT session, job, bool_or(known) AS known FROM json_to_recordset($1::json) "
    "AS a(session text, job text, known boolean) GROUP BY session, job), "
    "changed AS (UPDATE outbox o SET acked = true FROM a WHERE o.session = a.session "
    "AND o.job = a.job AND NOT a.known) "
    "INSERT INTO outbox (session, job, acked, at_ms) SELECT session, job, true, $2::bigint FROM a "
    "WHERE known ON CONFLICT (session, job) DO UPDATE SET acked = true";

static void put_back(struct outbox *o)
{
	if (o->filling.len + o->sending.len > WAITING_MAX_BYTES) {
		log_warn(&o->push->log, "acknowledgements are not in PostgreSQL",
			 F_UINT("bytes", o->sending.len));
		buf_fini(&o->sending);
		return;
	}
	if (o->filling.len)
		buf_add_char(&o->sending, ',');
	buf_add_str(&o->sending, buf_str(&o->filling));
	buf_fini(&o->filling);
	o->filling = o->sending;
	o->sending = (struct buf){0};
}

static void on_acked(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct outbox *o = ctx;

	(void)rows;
	o->request = NULL;
	if (result == PG_OK)
		buf_fini(&o->sending);
	else
		put_back(o);
	if (o->filling.len)
		timer_set(&o->flush, result == PG_OK ? GATHER_US : AGAIN_US);
	else
		push_settled(o->push);
}

static void on_flush(struct timer *t)
{
	struct outbox *o = container_of(t, struct outbox, flush);
	struct buf list = {0}, now = {0};

	if (o->request || !o->filling.len)
		return;
	o->sending = o->filling;
	o->filling = (struct buf){0};
	buf_add_char(&list, '[');
	buf_add_str(&list, buf_str(&o->sending));
	buf_add_char(&list, ']');
	buf_add_u64(&now, loop_wall_ms(o->push->loop));
	o->request = pg_query(o->push->pg, ack_sql,
			      (const struct str[]){buf_str(&list), buf_str(&now)}, 2, on_acked, o);
	buf_fini(&list);
	buf_fini(&now);
}

/* It ended, and who said so to the list of open jobs may not have been heard. */
static void not_open(struct session *s, struct str job)
{
	struct key key = key_open(str_of(s->id));

	if (PLANTED(ENDED_STAYS_OPEN))
		return;
	redis_command(s->push->redis, str_of(s->id),
		      (const struct str[]){STR("ZREM"), key_str(&key), job}, 3, NULL, NULL);
}

void outbox_ack(struct session *s, struct str job, bool known)
{
	struct outbox *o = s->push->outbox;
	struct json_out out = {.buf = &o->filling};

	if (!id_is(job, "job"))
		return;
	outbox_forget(s, job);
	not_open(s, job);
	if (o->filling.len)
		buf_add_char(&o->filling, ',');
	json_open(&out, '{');
	json_put_text(&out, "session", s->id);
	json_put_str(&out, "job", job);
	json_put_bool(&out, "known", known);
	json_close(&out, '}');
	if (!o->request && !timer_is_set(&o->flush))
		timer_set(&o->flush, s->push->draining ? 0 : GATHER_US);
}

/* ── what is too old goes ── */

static void on_swept(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct outbox *o = ctx;

	(void)result;
	(void)rows;
	o->sweeping = NULL;
	timer_set(&o->sweep, SWEEP_US + rand_below(loop_rand(o->push->loop), SWEEP_US));
}

static uint64_t oldest_ms(void *ctx)
{
	const struct push *push = ctx;

	return loop_wall_ms(push->loop) - push->options->outbox_ttl_ms;
}

static void on_sweep(struct timer *t)
{
	struct outbox *o = container_of(t, struct outbox, sweep);
	char before[24];

	snprintf(before, sizeof(before), "%llu", (unsigned long long)oldest_ms(o->push));
	o->sweeping = pg_query(o->push->pg,
			       "DELETE FROM outbox WHERE (session, job) IN (SELECT session, job "
			       "FROM outbox WHERE at_ms < $1::bigint ORDER BY at_ms LIMIT 10000)",
			       (const struct str[]){str_of(before)}, 1, on_swept, o);
}

/* ── Redis ── */

static void expire(struct push *push, struct str session)
{
	struct key key = key_outbox(session);
	char ttl[24];

	snprintf(ttl, sizeof(ttl), "%llu", (unsigned long long)push->options->resume_ttl_ms);
	redis_command(push->redis, session,
		      (const struct str[]){STR("PEXPIRE"), key_str(&key), str_of(ttl)}, 3, NULL,
		      NULL);
}

void outbox_begin(struct session *s)
{
	struct key key = key_outbox(str_of(s->id));
	char score[24];

	snprintf(score, sizeof(score), "%llu",
		 (unsigned long long)redis_epoch_wall_ms(s->push->redis));
	redis_command(s->push->redis, str_of(s->id),
		      (const struct str[]){STR("ZADD"), key_str(&key), str_of(score), STR(EPOCH)},
		      4, NULL, NULL);
	expire(s->push, str_of(s->id));
}

/* An accepted job on its way into the list. The list says of itself that it has all: one that is lost on the way is sent again, also
 * when its connection is over. */
struct outbox_put {
	struct list link;
	struct outbox *outbox;
	struct redis_request *request; /* NULL: to be sent again */
	char session[ID_SIZE];
	char job[ID_SIZE];
	int64_t created_ms;
	void (*done)(void *ctx); /* who waits; NULL: nobody */
	void *ctx;
};

static void put_free(struct outbox_put *p)
{
	if (p->request)
		redis_cancel(p->request);
	list_remove(&p->link);
	p->outbox->put_count--;
	mem_free(p);
}

/* It is in the list, or does not need to be any more. */
static void put_end(struct outbox_put *p)
{
	void (*done)(void *) = p->done;
	void *ctx = p->ctx;

	put_free(p);
	if (done)
		done(ctx);
}

static void on_put(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct outbox_put *p = ctx;
	struct outbox *o = p->outbox;

	(void)value;
	p->request = NULL;
	if (result == REDIS_OK) {
		put_end(p);
		push_settled(o->push);
	} else if (!timer_is_set(&o->put_again)) {
		timer_set(&o->put_again, AGAIN_US);
	}
}

static void put_send(struct outbox_put *p)
{
	struct push *push = p->outbox->push;

	p->request = state_outbox(push->redis, str_of(p->session), str_of(p->job), p->created_ms,
				  push->options->outbox_jobs, (int64_t)push->options->resume_ttl_ms,
				  on_put, p);
}

static void on_put_again(struct timer *t)
{
	struct outbox *o = container_of(t, struct outbox, put_again);

	list_each (&o->puts, link) {
		struct outbox_put *p = container_of(link, struct outbox_put, link);

		if (!p->request)
			put_send(p);
	}
}

struct outbox_put *outbox_put(struct session *s, struct str job, int64_t created_ms,
			      void (*done)(void *ctx), void *ctx)
{
	struct outbox *o = s->push->outbox;
	struct outbox_put *p;

	if (o->put_count == PUTS_MAX) {
		log_warn(&o->push->log, "an accepted job is not in the list",
			 F_STR("session", s->id));
		return NULL;
	}
	p = mem_new(struct outbox_put);
	p->outbox = o;
	memcpy(p->session, s->id, sizeof(p->session));
	snprintf(p->job, sizeof(p->job), "%.*s", STR_FMT(job));
	p->created_ms = created_ms;
	list_push_back(&o->puts, &p->link);
	o->put_count++;
	p->done = done;
	p->ctx = ctx;
	put_send(p);
	return p;
}

void outbox_put_leave(struct outbox_put *put)
{
	if (put)
		put->done = NULL;
}

static void put_forget(struct outbox *o, struct str job)
{
	list_each (&o->puts, link) {
		struct outbox_put *p = container_of(link, struct outbox_put, link);

		if (str_is(job, p->job)) {
			put_end(p);
			return;
		}
	}
}

void outbox_forget(struct session *s, struct str job)
{
	struct key key = key_outbox(str_of(s->id));

	put_forget(s->push->outbox, job);
	redis_command(s->push->redis, str_of(s->id),
		      (const struct str[]){STR("ZREM"), key_str(&key), job}, 3, NULL, NULL);
}

/* ── the list ── */

struct outbox_look {
	struct session *session;
	void (*done)(struct session *s, const struct str *jobs, size_t count, bool more);
	struct redis_request *request;
	struct gather_ask ask;
	bool redis_answered;
	bool cut;  /* Redis does not hold all, for good */
	bool more; /* PostgreSQL may have others */
	char (*ids)[ID_SIZE];
	size_t count;
	size_t cap;
};

static void look_free(struct outbox_look *l)
{
	mem_free(l->ids);
	mem_free(l);
}

static int by_id(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void add(struct outbox_look *l, struct str id)
{
	if (!id_is(id, "job") || l->count == IDS_MAX)
		return;
	for (size_t i = 0; i < l->count; i++)
		if (str_is(id, l->ids[i]))
			return;
	if (l->count == l->cap) {
		l->cap = l->cap ? 2 * l->cap : 8;
		l->ids = mem_resize(l->ids, l->cap * sizeof(*l->ids));
	}
	memcpy(l->ids[l->count], id.ptr, id.len);
	l->ids[l->count++][id.len] = '\0';
}

static void finish(struct outbox_look *l)
{
	struct str jobs[JOBS_MAX];
	size_t most = (size_t)l->session->push->options->outbox_jobs;
	size_t first = l->count > most ? l->count - most : 0;

	if (l->count)
		qsort(l->ids, l->count, sizeof(l->ids[0]), by_id);
	for (size_t i = first; i < l->count; i++)
		jobs[i - first] = str_of(l->ids[i]);
	l->done(l->session, jobs, l->count - first, first || l->cut || l->more);
	look_free(l);
}

static bool is_acked(const struct pg_rows *rows, size_t row)
{
	return str_is(pg_text(rows, row, 2), "1");
}

/* The list was never gone since its session was made: none of its jobs went with it that runs still, and will end. */
static bool is_lasting(const struct session *s)
{
	uint64_t age = loop_wall_ms(s->push->loop) - id_wall_ms(str_of(s->id));

	return age < s->push->options->resume_ttl_ms && age < STATE_OUTBOX_TTL_MS;
}

/* Redis has all again, unless there is more than was read, or a job that it once had may still end. */
static void write_back(struct outbox_look *l, const struct pg_rows *rows, size_t first,
		       size_t row_count)
{
	struct session *s = l->session;
	struct key key = key_outbox(str_of(s->id));
	size_t count = 0, most = 4 + 2 * row_count;
	cleanup_free struct str *args = mem_alloc(most * sizeof(*args));
	char scores[JOBS_MAX + 1][24];

	args[count++] = STR("ZADD");
	args[count++] = key_str(&key);
	for (size_t i = 0; i < row_count && i < JOBS_MAX; i++) {
		struct str id = pg_text(rows, first + i, 1);

		if (!id_is(id, "job") || is_acked(rows, first + i))
			continue;
		snprintf(scores[i], sizeof(scores[i]), "%llu", (unsigned long long)id_wall_ms(id));
		args[count++] = str_of(scores[i]);
		args[count++] = id;
	}
	if (!l->more && !l->cut && is_lasting(s)) {
		snprintf(scores[JOBS_MAX], sizeof(scores[JOBS_MAX]), "%llu",
			 (unsigned long long)redis_epoch_wall_ms(s->push->redis));
		args[count++] = str_of(scores[JOBS_MAX]);
		args[count++] = STR(EPOCH);
	}
	if (count == 2)
		return;
	redis_command(s->push->redis, str_of(s->id), args, count, NULL, NULL);
	expire(s->push, str_of(s->id));
}

/* Redis was not told of it, or lost its memory and the job ran again: its end was acknowledged all the same. */
static void drop_acked(struct outbox_look *l, struct str job)
{
	for (size_t i = 0; i < l->count; i++) {
		if (!str_is(job, l->ids[i]))
			continue;
		memmove(l->ids[i], l->ids[--l->count], sizeof(l->ids[i]));
		outbox_forget(l->session, job);
		not_open(l->session, job);
		return;
	}
}

static void put_look(const struct gather_ask *ask, struct buf *out)
{
	const struct outbox_look *l = container_of(ask, struct outbox_look, ask);

	struct json_out o = {.buf = out};

	json_open(&o, '{');
	json_put_int(&o, "n", (int64_t)ask->number);
	json_put_text(&o, "session", l->session->id);
	json_key(&o, "jobs");
	json_open(&o, '[');
	for (size_t i = 0; i < l->count; i++)
		json_put_str(&o, NULL, str_of(l->ids[i]));
	json_close(&o, ']');
	json_close(&o, '}');
}

static void on_rows(struct gather_ask *ask, enum pg_result result, const struct pg_rows *rows,
		    size_t first, size_t count)
{
	struct outbox_look *l = container_of(ask, struct outbox_look, ask);

	size_t wait = 0;

	for (size_t i = first; i < first + count; i++) {
		wait += !is_acked(rows, i);
		if (is_acked(rows, i))
			drop_acked(l, pg_text(rows, i, 1));
		else
			add(l, pg_text(rows, i, 1));
	}
	l->more = result != PG_OK || !l->redis_answered || wait == JOBS_MAX;
	if (result == PG_OK && l->redis_answered)
		write_back(l, rows, first, count);
	finish(l);
}

/* Those that wait, and which of Redis's were acknowledged. */
static const struct gather_kind looks = {
    .sql = "SELECT n, job, ended.acked FROM json_to_recordset($1::json) "
	   "AS asked(n int, session text, jobs text[]), LATERAL ("
	   "(SELECT job, 0 AS acked FROM outbox o WHERE o.session = asked.session AND NOT o.acked "
	   "AND at_ms >= $2::bigint ORDER BY job DESC LIMIT 256) "
	   "UNION ALL SELECT job, 1 FROM outbox o WHERE o.session = asked.session AND o.acked "
	   "AND o.job = ANY(asked.jobs)) AS ended ORDER BY n, acked",
    .open = '[',
    .close = ']',
    .most = LOOKS_MAX,
    .put = put_look,
    .second = oldest_ms,
    .done = on_rows,
};

static void on_set(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct outbox_look *l = ctx;
	struct push *push = l->session->push;
	uint64_t epoch_ms = redis_epoch_wall_ms(push->redis);
	bool whole = false;

	l->request = NULL;
	l->redis_answered = result == REDIS_OK && value->type == REDIS_LIST;
	for (size_t i = 0; l->redis_answered && i + 1 < value->count; i += 2) {
		struct str member = redis_item_str(value, i);

		if (str_is(member, CUT))
			l->cut = true;
		else if (str_is(member, EPOCH))
			whole = redis_item_int(value, i + 1, 0) == (int64_t)epoch_ms &&
				(id_wall_ms(str_of(l->session->id)) > epoch_ms ||
				 PLANTED(OUTBOX_TRUSTED));
		else
			add(l, member);
	}
	whole = whole && !l->cut && value->count < 2 * LIST_COUNT;
	whole = whole || (l->redis_answered && PLANTED(OUTBOX_REDIS_ALONE));
	if (whole)
		finish(l);
	else
		gather_add(&push->outbox->looks, &l->ask);
}

struct outbox_look *outbox_list(struct session *s,
				void (*done)(struct session *s, const struct str *jobs,
					     size_t count, bool more))
{
	struct outbox_look *l = mem_new(struct outbox_look);
	struct key key = key_outbox(str_of(s->id));
	const struct str args[] = {STR("ZREVRANGE"), key_str(&key), STR("0"), STR(LIST_LAST),
				   STR("WITHSCORES")};

	l->session = s;
	l->done = done;
	l->request = redis_command(s->push->redis, str_of(s->id), args, countof(args), on_set, l);
	return l;
}

void outbox_cancel(struct outbox_look *l)
{
	if (!l)
		return;
	if (l->request)
		redis_cancel(l->request);
	gather_cancel(&l->ask);
	look_free(l);
}

/* ── life ── */

struct outbox *outbox_new(struct push *push)
{
	struct outbox *o = mem_new(struct outbox);

	o->push = push;
	timer_init(&o->flush, push->loop, on_flush);
	timer_init(&o->sweep, push->loop, on_sweep);
	timer_init(&o->put_again, push->loop, on_put_again);
	list_init(&o->puts);
	gather_init(&o->looks, push->loop, push->pg, &looks, push);
	timer_set(&o->sweep, rand_below(loop_rand(push->loop), FIRST_SWEEP_US));
	return o;
}

bool outbox_idle(const struct outbox *o)
{
	return !o->request && !o->filling.len && !o->put_count;
}

void outbox_drain(struct outbox *o)
{
	if (timer_is_set(&o->flush))
		timer_set(&o->flush, 0);
}

void outbox_free(struct outbox *o)
{
	struct outbox_put *p;

	if (!o)
		return;
	while ((p = list_first(&o->puts, struct outbox_put, link)))
		put_free(p);
	gather_fini(&o->looks);
	timer_stop(&o->put_again);
	timer_stop(&o->flush);
	timer_stop(&o->sweep);
	pg_cancel(o->request);
	pg_cancel(o->sweeping);
	buf_fini(&o->filling);
	buf_fini(&o->sending);
	mem_free(o);
}
