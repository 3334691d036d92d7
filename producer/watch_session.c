/* GET /v1/sessions/{id}/events: the events of a session's jobs, open ones and those that are submitted meanwhile, as Server-Sent
 * Events with resume. Each event's id names where every open job stands, and up to which job all are known (put_ids), so that one
 * which began and ended between two connections is found. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/relay/follow.h"
#include "lib/store/pg.h"
#include "producer/front.h"
#include "producer/session_standing.h"
#include "producer/sse_out.h"
#include "schemas/keys.h"

#define JOBS_MAX 256
/* A state that cannot be read is asked for again: so soon, and after so many times more rarely. */
#define RETRY_US (1 * US_PER_S)
#define RETRIES_SOON 60
#define RETRY_RARELY_US (10 * US_PER_S)
/* Ends reach PostgreSQL behind the results' lane: those that were on the way at the first look are found by a second. */
#define LOOK_AGAIN_US (3 * US_PER_S)

struct watch_session;

/* One job of the session. */
struct tracked {
	struct list link;
	struct watch_session *owner;
	struct follow *follow;
	char id[ID_SIZE];
	int64_t attempt;
	int64_t at;
	bool named; /* the client named a position of it */
	bool told;  /* the client has heard of it */
	bool over;  /* ended or gone: freed when its room is needed */
	bool lost;  /* gone: what is heard of it again begins anew */
	struct timer retry;
	unsigned retries;
};

/* Which jobs came and went unseen. */
struct missed {
	struct redis_request *turns;
	struct pg_request *ends;
	struct timer again;
	char (*ids)[ID_SIZE];
	size_t count;
	char from[ID_SIZE]; /* jobs newer than this one */
	bool second;	    /* the second look */
	bool full;	    /* there was no room for all */
};

struct watch_session {
	struct exchange *x;
	struct redis_sub *sub;
	struct redis_request *request;
	struct session_standing *standing;
	struct list jobs; /* in the order in which they were met */
	size_t count;
	struct timer comment;
	struct str named; /* positions, as the client sent them */
	char known
	    [ID_SIZE]; /* all jobs up to this one are tracked or were told to their end; "": none is */
	struct missed missed;
	bool begun;
	bool full; /* the client reads slowly */
};

static void tracked_free(struct tracked *t)
{
	follow_close(t->follow);
	timer_stop(&t->retry);
	list_remove(&t->link);
	t->owner->count--;
	mem_free(t);
}

static void missed_stop(struct missed *m)
{
	if (m->turns)
		redis_cancel(m->turns);
	m->turns = NULL;
	pg_cancel(m->ends);
	m->ends = NULL;
	timer_stop(&m->again);
	mem_free(m->ids);
	m->ids = NULL;
	m->count = 0;
}

static void watch_drop(void *work, bool left)
{
	struct watch_session *w = work;
	struct tracked *t;

	(void)left;
	while ((t = list_first(&w->jobs, struct tracked, link)))
		tracked_free(t);
	redis_unsubscribe(w->sub);
	if (w->request)
		redis_cancel(w->request);
	session_standing_cancel(w->standing);
	missed_stop(&w->missed);
	timer_stop(&w->comment);
	mem_free(w);
}

static void on_comment(struct timer *timer)
{
	struct watch_session *w = container_of(timer, struct watch_session, comment);

	exchange_write(w->x, STR(": keep-alive\n\n"));
	timer_set(&w->comment, w->x->front->options->keep_alive_ms * US_PER_MS);
}

/* ── events of one job ── */

static bool is_looking(const struct missed *m)
{
	return m->turns || (m->ends && !m->second) || m->full;
}

static void id_keep(char to[static ID_SIZE], const char *id)
{
	if (strcmp(id, to) > 0)
		memcpy(to, id, ID_SIZE);
}

/* "job:attempt:byte" of every open job; then, where the newest of these is not the one up to which all are known, that one alone:
 * "job". Who comes back with it is told of the jobs behind. */
static void put_ids(struct watch_session *w, struct buf *out)
{
	const char *comma = "";
	char newest[ID_SIZE] = "";

	buf_add_text(out, "id: ");
	list_each (&w->jobs, link) {
		struct tracked *t = container_of(link, struct tracked, link);

		if (!is_looking(&w->missed) && !t->lost)
			id_keep(w->known, t->id);
		if (t->over)
			continue;
		id_keep(newest, t->id);
		buf_printf(out, "%s%s:%" PRId64 ":%" PRId64, comma, t->id, t->attempt, t->at);
		comma = ",";
	}
	if (strcmp(newest, w->known) != 0 && w->known[0])
		buf_printf(out, "%s%s", comma, w->known);
	buf_add_char(out, '\n');
}

static void send_event(struct watch_session *w, struct buf *event)
{
	struct buf out = {0};

	put_ids(w, &out);
	buf_add_str(&out, buf_str(event));
	timer_set(&w->comment, w->x->front->options->keep_alive_ms * US_PER_MS);
	if (!exchange_write(w->x, buf_str(&out))) {
		w->full = true;
		list_each (&w->jobs, link) {
			struct tracked *t = container_of(link, struct tracked, link);

			if (!t->over)
				follow_pause(t->follow, true);
		}
	}
	buf_fini(&out);
	buf_fini(event);
}

static void on_state(void *ctx, const struct job_view *view, bool resumed)
{
	struct tracked *t = ctx;
	struct buf event = {0};

	t->attempt = view->attempt;
	t->at = resumed ? t->at : 0;
	t->retries = 0;
	t->told = true;
	if (resumed)
		return;
	if (t->named)
		sse_reset(&event, str_of(t->id), view->attempt, "position");
	else
		sse_state(&event, str_of(t->id), view);
	send_event(t->owner, &event);
}

static void on_delta(void *ctx, int64_t attempt, int64_t at, struct str text)
{
	struct tracked *t = ctx;
	struct buf event = {0};

	t->attempt = attempt;
	t->at = at + (int64_t)text.len;
	sse_delta(&event, str_of(t->id), attempt, at, text);
	send_event(t->owner, &event);
}

static void on_event(void *ctx, const struct event *live)
{
	struct tracked *t = ctx;
	struct buf event = {0};

	t->attempt = follow_attempt(t->follow);
	sse_event(&event, live);
	send_event(t->owner, &event);
}

static void on_reset(void *ctx, int64_t attempt)
{
	struct tracked *t = ctx;
	struct buf event = {0};

	t->attempt = attempt;
	t->at = 0;
	sse_reset(&event, str_of(t->id), attempt, "restart");
	send_event(t->owner, &event);
}

static void look_for_rest(struct watch_session *w);

static void on_end(void *ctx, const struct follow_end *end)
{
	struct tracked *t = ctx;
	struct buf event = {0};

	t->over = true;
	sse_end(&event, str_of(t->id), end);
	send_event(t->owner, &event);
	look_for_rest(t->owner);
}

static void on_gone(void *ctx, bool unsure)
{
	struct tracked *t = ctx;
	struct buf event = {0};

	if (unsure) {
		/* Redis is away or was emptied: the pool that has the job writes it anew, or its record says how it ended. */
		timer_set(&t->retry, t->retries < RETRIES_SOON ? RETRY_US : RETRY_RARELY_US);
		if (t->retries++ == 0 && t->named && !t->told) {
			sse_unsure(&event, str_of(t->id));
			send_event(t->owner, &event);
		}
		return;
	}
	t->over = t->lost = true;
	if (t->named || t->told) {
		sse_gone(&event, str_of(t->id), "unknown");
		send_event(t->owner, &event);
	}
	look_for_rest(t->owner);
}

static const struct follow_ops ops = {.state = on_state,
				      .delta = on_delta,
				      .event = on_event,
				      .reset = on_reset,
				      .end = on_end,
				      .gone = on_gone};

/* ── which jobs ── */

static struct tracked *tracked_find(struct watch_session *w, struct str id)
{
	list_each (&w->jobs, link) {
		struct tracked *t = container_of(link, struct tracked, link);

		if (str_is(id, t->id))
			return t;
	}
	return NULL;
}

/* Makes room: the oldest that is over goes. */
static bool room(struct watch_session *w)
{
	if (w->count < JOBS_MAX)
		return true;
	list_each (&w->jobs, link) {
		struct tracked *t = container_of(link, struct tracked, link);

		if (t->over) {
			tracked_free(t);
			return true;
		}
	}
	return false;
}

/* Follows it from where it stands. */
static void open_follow(struct tracked *t)
{
	struct watch_session *w = t->owner;
	struct follow_request request = {.job = str_of(t->id),
					 .org = str_of(w->x->who.org),
					 .session = w->x->param,
					 .attempt = t->attempt,
					 .at = t->at};

	timer_stop(&t->retry);
	follow_close(t->follow);
	t->named = t->attempt || t->at;
	t->follow = follow_open(w->x->front->relay, &request, &ops, t);
	follow_pause(t->follow, w->full);
}

static void on_retry(struct timer *timer)
{
	open_follow(container_of(timer, struct tracked, retry));
}

/* False where there is no room for it. */
static bool track(struct watch_session *w, struct str id, int64_t attempt, int64_t at)
{
	struct tracked *t;

	if (!id_is(id, "job"))
		return true;
	t = tracked_find(w, id);
	if (t && !t->lost)
		return true;
	if (t)
		tracked_free(t);
	if (!room(w))
		return false;
	t = mem_new(struct tracked);
	t->owner = w;
	memcpy(t->id, id.ptr, id.len);
	t->attempt = attempt;
	t->at = at;
	timer_init(&t->retry, w->x->front->loop, on_retry);
	list_push_back(&w->jobs, &t->link);
	w->count++;
	open_follow(t);
	return true;
}

/* ── which came and went unseen ── */

static int id_order(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void missed_add(struct missed *m, struct str id)
{
	if (!id_is(id, "job") || strncmp(id.ptr, m->from, ID_LEN) <= 0)
		return;
	m->ids = mem_resize(m->ids, (m->count + 1) * sizeof(*m->ids));
	memcpy(m->ids[m->count], id.ptr, ID_LEN);
	m->ids[m->count++][ID_LEN] = '\0';
}

/* Both have answered: oldest first, as far as there is room; the rest when some of these are over. */
static void missed_take(struct watch_session *w)
{
	struct missed *m = &w->missed;

	if (m->turns || m->ends)
		return;
	if (m->count)
		qsort(m->ids, m->count, sizeof(*m->ids), id_order);
	m->full = m->count >= JOBS_MAX; /* PostgreSQL may have more */
	for (size_t i = 0; i < m->count; i++) {
		if (!track(w, str_of(m->ids[i]), 0, 0)) {
			m->full = true;
			break;
		}
		id_keep(w->known, m->ids[i]);
	}
	mem_free(m->ids);
	m->ids = NULL;
	m->count = 0;
	if (!m->second)
		timer_set(&m->again, LOOK_AGAIN_US);
}

static void on_turns(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct watch_session *w = ctx;
	struct str field, word;

	w->missed.turns = NULL;
	for (size_t i = 0; result == REDIS_OK && i < value->count; i++) {
		field = redis_item_str(value, i);
		if (str_split(&field, ':', &word) && str_is(word, "p"))
			missed_add(&w->missed, field);
	}
	missed_take(w);
}

static void on_ends(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct watch_session *w = ctx;

	w->missed.ends = NULL;
	for (size_t row = 0; result == PG_OK && row < pg_count(rows); row++)
		missed_add(&w->missed, pg_text(rows, row, 0));
	missed_take(w);
}

/* Turns stand in the session's state; what takes no turn, or stood there before Redis was emptied, in the record of its end. */
static void missed_ask(struct watch_session *w)
{
	struct front *front = w->x->front;
	struct missed *m = &w->missed;
	struct key key = key_session(w->x->param);
	const struct str args[] = {STR("HKEYS"), key_str(&key)};
	const struct str params[] = {w->x->param, str_of(w->x->who.org), str_of(m->from)};

	if (!m->second)
		m->turns =
		    redis_command(front->redis, w->x->param, args, countof(args), on_turns, w);
	m->ends = pg_query(front->pg,
			   "SELECT job FROM results WHERE session = $1 AND org = $2 AND job > $3 "
			   "ORDER BY job LIMIT 256",
			   params, countof(params), on_ends, w);
}

static void on_look_again(struct timer *timer)
{
	struct watch_session *w = container_of(timer, struct watch_session, missed.again);

	w->missed.second = true;
	missed_ask(w);
}

/* Nothing is missed by a client that knows of no job yet: it has the present state. */
static void look_for_missed(struct watch_session *w)
{
	struct missed *m = &w->missed;

	missed_stop(m);
	m->second = m->full = false;
	memcpy(m->from, w->known, ID_SIZE);
	if (w->known[0])
		missed_ask(w);
}

static void look_for_rest(struct watch_session *w)
{
	if (w->missed.full && !w->missed.turns && !w->missed.ends)
		look_for_missed(w);
}

/* ── where the client stands ── */

/* "job:attempt:byte", or "job" (@ret_attempt is -1); false where it is malformed. */
static bool position_read(struct str text, struct str *ret_job, int64_t *ret_attempt,
			  int64_t *ret_at)
{
	*ret_attempt = -1;
	*ret_at = 0;
	return str_split(&text, ':', ret_job) && id_is(*ret_job, "job") &&
	       (!text.ptr || sse_position(text, ret_attempt, ret_at));
}

static bool positions_good(struct str named)
{
	struct str one, job;
	int64_t attempt, at;

	if (!named.ptr)
		return true;
	if (!named.len || named.ptr[named.len - 1] == ',')
		return false;
	while (named.len && str_split(&named, ',', &one)) {
		if (!position_read(one, &job, &attempt, &at))
			return false;
	}
	return true;
}

/* Up to which job all are known: the one that stands alone, else the newest. */
static void known_read(struct watch_session *w)
{
	struct str rest = w->named, one, job;
	char newest[ID_SIZE] = "";
	int64_t attempt, at;

	while (rest.len && str_split(&rest, ',', &one)) {
		char id[ID_SIZE] = "";

		if (!position_read(one, &job, &attempt, &at))
			continue;
		memcpy(id, job.ptr, ID_LEN);
		id_keep(attempt < 0 ? w->known : newest, id);
	}
	if (!w->known[0])
		id_keep(w->known, newest);
}

static void begin(struct watch_session *w)
{
	struct str rest = w->named, one, job;
	int64_t attempt, at;

	if (w->begun)
		return;
	w->begun = true;
	exchange_stream(w->x);
	timer_set(&w->comment, w->x->front->options->keep_alive_ms * US_PER_MS);
	while (rest.len && str_split(&rest, ',', &one)) {
		if (position_read(one, &job, &attempt, &at) && attempt >= 0)
			track(w, job, attempt, at);
	}
	known_read(w);
}

static void on_open_jobs(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct watch_session *w = ctx;

	w->request = NULL;
	if (result != REDIS_OK || value->type != REDIS_LIST) {
		if (!w->begun)
			exchange_fault(w->x, FAULT_STATE_UNKNOWN, NULL);
		return;
	}
	begin(w);
	look_for_missed(w);
	for (size_t i = 0; i < value->count; i++)
		track(w, redis_item_str(value, i), 0, 0);
}

static void on_standing(void *ctx)
{
	struct watch_session *w = ctx;
	struct key key = key_open(w->x->param);

	if (!w->request)
		w->request = redis_command(
		    w->x->front->redis, w->x->param,
		    (const struct str[]){STR("ZRANGE"), key_str(&key), STR("0"), STR("-1")}, 4,
		    on_open_jobs, w);
}

static void on_message(void *ctx, struct str payload)
{
	struct watch_session *w = ctx;
	struct tracked *t;
	struct event event;

	if (!w->begun || event_parse(payload, &event) != EVENT_OK)
		return;
	t = tracked_find(w, event.job);
	if (t && timer_is_set(&t->retry))
		open_follow(t); /* it is there again */
	else
		track(w, event.job, 0, 0);
}

static const struct redis_sub_ops sub_ops = {.standing = on_standing, .message = on_message};

/* ── whose session ── */

static void on_found(void *ctx, enum standing standing, const struct session_row *row)
{
	struct watch_session *w = ctx;
	struct key channel = key_channel(w->x->param);

	(void)row;
	w->standing = NULL;
	switch (standing) {
	case STANDING_OPEN:
		w->sub = redis_subscribe(w->x->front->redis, key_str(&channel), &sub_ops, w);
		return;
	case STANDING_NONE:
		exchange_fault(w->x, FAULT_NOT_FOUND, "There is no such session.");
		return;
	case STANDING_UNSURE:
		exchange_fault(w->x, FAULT_STATE_UNKNOWN, NULL);
		return;
	}
}

static void watch_writable(void *work)
{
	struct watch_session *w = work;

	w->full = false;
	list_each (&w->jobs, link) {
		struct tracked *t = container_of(link, struct tracked, link);

		if (!t->over)
			follow_pause(t->follow, false);
	}
}

static void watch_drain(void *work)
{
	struct watch_session *w = work;

	list_each (&w->jobs, link) {
		struct tracked *t = container_of(link, struct tracked, link);

		t->over = true;
		timer_stop(&t->retry);
		follow_close(t->follow);
		t->follow = NULL;
	}
	missed_stop(&w->missed);
	redis_unsubscribe(w->sub);
	w->sub = NULL;
	timer_stop(&w->comment);
	if (w->begun)
		exchange_end(w->x);
	else
		exchange_fault(w->x, FAULT_DRAINING, NULL);
}

void sessions_events(struct exchange *x)
{
	struct str named = http_field(x->req, "last-event-id");
	struct watch_session *w;

	if (!exchange_query(x, (const char *const[]){"after", NULL}))
		return;
	/* The field is newer than the query: events.c says why. */
	if (!named.len)
		named = http_query_value(x->req, "after");
	if (!positions_good(named)) {
		exchange_fault(x, FAULT_RESUME_INVALID, NULL);
		return;
	}
	w = mem_new(struct watch_session);
	w->x = x;
	w->named = named;
	list_init(&w->jobs);
	timer_init(&w->comment, x->front->loop, on_comment);
	timer_init(&w->missed.again, x->front->loop, on_look_again);
	x->work = w;
	x->drop = watch_drop;
	x->writable = watch_writable;
	x->drain = watch_drain;
	w->standing = session_standing_open(x->front->redis, x->front->pg, x->param,
					    str_of(x->who.org), x->wall_ms, on_found, w);
}
