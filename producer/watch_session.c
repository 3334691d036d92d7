/* GET /v1/sessions/{id}/events: the events of a session's jobs, open ones and those that are submitted meanwhile, as Server-Sent
 * Events with resume. Each event's id names where every open job stands. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/relay/follow.h"
#include "producer/front.h"
#include "producer/session_standing.h"
#include "producer/sse_out.h"
#include "schemas/keys.h"

#define JOBS_MAX 256

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
	bool over;  /* ended or gone: freed with its owner's next look round */
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
	bool begun;
	bool full; /* the client reads slowly */
};

static void tracked_free(struct tracked *t)
{
	follow_close(t->follow);
	list_remove(&t->link);
	t->owner->count--;
	mem_free(t);
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

static void put_ids(struct watch_session *w, struct buf *out)
{
	const char *comma = "";

	buf_add_text(out, "id: ");
	list_each (&w->jobs, link) {
		struct tracked *t = container_of(link, struct tracked, link);

		if (t->over)
			continue;
		buf_printf(out, "%s%s:%" PRId64 ":%" PRId64, comma, t->id, t->attempt, t->at);
		comma = ",";
	}
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

static void on_end(void *ctx, const struct follow_end *end)
{
	struct tracked *t = ctx;
	struct buf event = {0};

	t->over = true;
	sse_end(&event, str_of(t->id), end);
	send_event(t->owner, &event);
}

static void on_gone(void *ctx, bool unsure)
{
	struct tracked *t = ctx;

	(void)unsure;
	t->over = true;
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

static void track(struct watch_session *w, struct str id, int64_t attempt, int64_t at)
{
	struct follow_request request = {
	    .job = id, .org = str_of(w->x->who.org), .attempt = attempt, .at = at};
	struct tracked *t;

	if (!id_is(id, "job") || tracked_find(w, id) || !room(w))
		return;
	t = mem_new(struct tracked);
	t->owner = w;
	memcpy(t->id, id.ptr, id.len);
	t->attempt = attempt;
	t->at = at;
	t->named = attempt || at;
	list_push_back(&w->jobs, &t->link);
	w->count++;
	t->follow = follow_open(w->x->front->relay, &request, &ops, t);
	follow_pause(t->follow, w->full);
}

/* "job:attempt:byte"; false where it is malformed. */
static bool position_read(struct str text, struct str *ret_job, int64_t *ret_attempt,
			  int64_t *ret_at)
{
	return str_split(&text, ':', ret_job) && id_is(*ret_job, "job") &&
	       sse_position(text, ret_attempt, ret_at);
}

static bool positions_good(struct str named)
{
	struct str one, job;
	int64_t attempt, at;

	while (named.len && str_split(&named, ',', &one)) {
		if (!position_read(one, &job, &attempt, &at))
			return false;
	}
	return true;
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
		if (position_read(one, &job, &attempt, &at))
			track(w, job, attempt, at);
	}
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
	struct event event;

	if (w->begun && event_parse(payload, &event) == EVENT_OK)
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
		container_of(link, struct tracked, link)->over = true;
		follow_close(container_of(link, struct tracked, link)->follow);
		container_of(link, struct tracked, link)->follow = NULL;
	}
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
	if (!named.ptr)
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
	x->work = w;
	x->drop = watch_drop;
	x->writable = watch_writable;
	x->drain = watch_drain;
	w->standing = session_standing_open(x->front->redis, x->front->pg, x->param,
					    str_of(x->who.org), x->wall_ms, on_found, w);
}
