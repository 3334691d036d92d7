/* GET /v1/jobs/{id} (with ?wait=) and GET /v1/jobs. */
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/relay/follow.h"
#include "lib/store/blob.h"
#include "lib/store/pg.h"
#include "producer/front.h"
#include "lib/relay/view.h"
#include "schemas/keys.h"
#include "schemas/lanes.h"

#define WAIT_MAX_S 30
#define TEXT_MAX (64u << 20)

/* ── one job ── */

struct look {
	struct exchange *x;
	struct follow *follow; /* while waiting */
	struct timer timer;
	struct redis_request *request;
	struct relay_lookup *lookup;
	struct blob_request *blob;
	struct arena arena;
	struct shown shown;
};

static void look_drop(void *work, bool left)
{
	struct look *l = work;

	(void)left;
	follow_close(l->follow);
	timer_stop(&l->timer);
	if (l->request)
		redis_cancel(l->request);
	if (l->blob)
		blob_cancel(l->blob);
	relay_lookup_cancel(l->lookup);
	arena_reset(&l->arena);
	mem_free(l);
}

static void show(struct look *l)
{
	struct buf body = {0};

	shown_write(&l->shown, false, &body);
	exchange_reply(l->x, 200, &body);
}

/* Neither Redis nor PostgreSQL has it: there is none where Redis has forgotten nothing that may have been it. */
static void on_epoch(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct look *l = ctx;

	l->request = NULL;
	if (relay_is_none(l->x->front->relay, l->x->param, result, value))
		exchange_fault(l->x, FAULT_NOT_FOUND, "There is no such job.");
	else
		exchange_fault(l->x, FAULT_STATE_UNKNOWN, NULL);
}

static void on_ended(void *ctx, bool sure, const struct result *result)
{
	struct look *l = ctx;
	struct exchange *x = l->x;

	l->lookup = NULL;
	if (result) {
		shown_from_result(&l->shown, result);
		show(l);
	} else if (!sure) {
		exchange_fault(x, FAULT_STATE_UNKNOWN, NULL);
	} else {
		l->request = redis_ask_epoch(x->front->redis, x->param, on_epoch, l);
	}
}

static void ask_postgres(struct look *l)
{
	l->lookup =
	    relay_result(l->x->front->relay, l->x->param, str_of(l->x->who.org), on_ended, l);
}

static void on_text(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct look *l = ctx;
	int64_t bytes = l->shown.result.bytes;

	l->request = NULL;
	if (result != REDIS_OK) {
		exchange_fault(l->x, FAULT_STATE_UNKNOWN, NULL);
	} else if (value->type == REDIS_STR && (int64_t)value->str.len == bytes) {
		l->shown.text = value->str;
		show(l);
	} else {
		ask_postgres(l);
	}
}

static void on_blob(void *ctx, enum blob_result result, struct str bytes)
{
	struct look *l = ctx;

	l->blob = NULL;
	if (result != BLOB_OK) {
		exchange_fault(l->x, FAULT_STATE_UNKNOWN, NULL);
		return;
	}
	l->shown.text = bytes;
	show(l);
}

/* Views of a reply end with its callback: what is shown later is kept. */
static void keep_view(struct look *l, const struct job_view *view)
{
	struct job_view kept = *view;
	struct str *const texts[] = {&kept.org,	    &kept.kind,	    &kept.lane,	 &kept.session,
				     &kept.channel, &kept.state,    &kept.wish,	 &kept.provider,
				     &kept.account, &kept.model,    &kept.calls, &kept.parts,
				     &kept.result,  &kept.metadata, &kept.topic};

	for (size_t i = 0; i < countof(texts); i++)
		*texts[i] =
		    (struct str){arena_dup(&l->arena, texts[i]->ptr, texts[i]->len), texts[i]->len};
	shown_from_view(&l->shown, &l->arena, l->x->param, &kept);
}

static void read_text(struct look *l)
{
	const struct result *r = &l->shown.result;
	struct front *front = l->x->front;

	if (!r->bytes) {
		show(l);
	} else if (r->text_blob.len) {
		l->blob =
		    blob_get(front->blob, arena_dup(&l->arena, r->text_blob.ptr, r->text_blob.len),
			     TEXT_MAX, on_blob, l);
	} else {
		struct key key = key_out(l->x->param, l->shown.view.attempt);
		const struct str args[] = {STR("GET"), key_str(&key)};

		l->request =
		    redis_command(front->redis, l->x->param, args, countof(args), on_text, l);
	}
}

static void on_view(void *ctx, enum redis_result result, const struct job_view *view)
{
	struct look *l = ctx;
	struct exchange *x = l->x;

	l->request = NULL;
	if (result != REDIS_OK) {
		exchange_fault(x, FAULT_STATE_UNKNOWN, NULL);
	} else if (!view->found) {
		ask_postgres(l);
	} else if (!str_is(view->org, x->who.org) || str_is(view->state, "refused")) {
		exchange_fault(x, FAULT_NOT_FOUND, "There is no such job.");
	} else if (state_terminal(view->state) && !view->result.len) {
		ask_postgres(l);
	} else {
		keep_view(l, view);
		if (l->shown.ended)
			read_text(l);
		else
			show(l);
	}
}

static void read_state(struct look *l)
{
	follow_close(l->follow);
	l->follow = NULL;
	timer_stop(&l->timer);
	if (!l->request)
		l->request = state_read(l->x->front->redis, l->x->param, on_view, l);
}

static void on_state(void *ctx, const struct job_view *view, bool resumed)
{
	(void)ctx;
	(void)view;
	(void)resumed;
}

static void on_delta(void *ctx, int64_t attempt, int64_t at, struct str text)
{
	(void)ctx;
	(void)attempt;
	(void)at;
	(void)text;
}

static void on_event(void *ctx, const struct event *event)
{
	(void)ctx;
	(void)event;
}

static void on_reset(void *ctx, int64_t attempt)
{
	(void)ctx;
	(void)attempt;
}

static void on_end(void *ctx, const struct follow_end *end)
{
	(void)end;
	read_state(ctx);
}

static void on_gone(void *ctx, bool unsure)
{
	(void)unsure;
	read_state(ctx);
}

static const struct follow_ops wait_ops = {.state = on_state,
					   .delta = on_delta,
					   .event = on_event,
					   .reset = on_reset,
					   .end = on_end,
					   .gone = on_gone};

static void on_wait_over(struct timer *t)
{
	read_state(container_of(t, struct look, timer));
}

static void look_drain(void *work)
{
	struct look *l = work;

	if (l->follow)
		read_state(l);
}

void jobs_get(struct exchange *x)
{
	struct str wait = http_query_value(x->req, "wait");
	struct look *l;
	uint64_t seconds = 0;

	if (!exchange_query(x, (const char *const[]){"wait", NULL}))
		return;
	if (!id_is(x->param, "job")) {
		exchange_fault(x, FAULT_NOT_FOUND, "There is no such job.");
		return;
	}
	if (wait.ptr && (!str_u64(wait, &seconds) || seconds > WAIT_MAX_S)) {
		struct refusal refusal = {
		    .fault = FAULT_INVALID_REQUEST,
		    .param = "wait",
		    .message = "wait must be a whole number of seconds from 0 to 30.",
		    .offset = -1};

		exchange_refuse(x, &refusal);
		return;
	}
	l = mem_new(struct look);
	l->x = x;
	x->work = l;
	x->drop = look_drop;
	x->drain = look_drain;
	timer_init(&l->timer, x->front->loop, on_wait_over);
	if (seconds && !x->front->draining) {
		struct follow_request request = {.job = x->param, .org = str_of(x->who.org)};

		l->follow = follow_open(x->front->relay, &request, &wait_ops, l);
		timer_set(&l->timer, seconds * US_PER_S);
	} else {
		read_state(l);
	}
}

/* ── the list ── */

#define LIST_MAX 100
#define OPEN_MAX 1000

struct list_item {
	struct list_job *owner;
	struct redis_request *request;
	char id[ID_SIZE];
	struct buf json; /* empty: it does not fit */
};

/* Open jobs from Redis and ended ones from PostgreSQL, newest first. */
struct list_job {
	struct exchange *x;
	struct str session, status, lane, after;
	uint64_t limit;
	struct redis_request *request;
	struct pg_request *pg;
	struct arena arena;
	struct list_item *open;
	size_t open_count;
	size_t waiting;
	struct list_item *ended;
	size_t ended_count;
	bool unsure;
};

static void list_drop(void *work, bool left)
{
	struct list_job *l = work;

	(void)left;
	if (l->request)
		redis_cancel(l->request);
	if (l->pg)
		pg_cancel(l->pg);
	for (size_t i = 0; i < l->open_count; i++) {
		if (l->open[i].request)
			redis_cancel(l->open[i].request);
		buf_fini(&l->open[i].json);
	}
	for (size_t i = 0; i < l->ended_count; i++)
		buf_fini(&l->ended[i].json);
	arena_reset(&l->arena);
	mem_free(l->open);
	mem_free(l->ended);
	mem_free(l);
}

static void list_show(struct list_job *l)
{
	struct buf body = {0};
	size_t open = 0, ended = 0;
	uint64_t shown = 0;

	if (l->request || l->pg || l->waiting)
		return;
	if (l->unsure) {
		exchange_fault(l->x, FAULT_STATE_UNKNOWN, NULL);
		return;
	}
	buf_add_text(&body, "{\"data\":[");
	while (shown < l->limit && (open < l->open_count || ended < l->ended_count)) {
		struct list_item *item;

		if (open == l->open_count)
			item = &l->ended[ended++];
		else if (ended == l->ended_count)
			item = &l->open[open++];
		else if (strcmp(l->open[open].id, l->ended[ended].id) > 0)
			item = &l->open[open++];
		else
			item = &l->ended[ended++];
		/* A job that just ended may be in both: the ended one comes first, its twin is passed over. */
		if (open < l->open_count && strcmp(l->open[open].id, item->id) == 0)
			open++;
		if (!item->json.len)
			continue;
		if (shown++)
			buf_add_char(&body, ',');
		buf_add_str(&body, buf_str(&item->json));
	}
	buf_printf(&body, "],\"has_more\":%s}",
		   open < l->open_count || ended < l->ended_count || l->ended_count == l->limit
		       ? "true"
		       : "false");
	exchange_reply(l->x, 200, &body);
}

static bool fits(const struct list_job *l, const struct shown *s)
{
	return (!l->status.len || str_eq(l->status, s->status)) &&
	       (!l->lane.len || str_eq(l->lane, s->view.lane)) &&
	       (!l->session.len || str_eq(l->session, s->view.session));
}

static void on_item(void *ctx, enum redis_result result, const struct job_view *view)
{
	struct list_item *item = ctx;
	struct list_job *l = item->owner;
	struct shown shown;

	item->request = NULL;
	l->waiting--;
	if (result != REDIS_OK) {
		l->unsure = true;
	} else if (view->found && str_is(view->org, l->x->who.org) &&
		   !str_is(view->state, "refused")) {
		shown_from_view(&shown, &l->arena, str_of(item->id), view);
		if (fits(l, &shown))
			shown_write(&shown, true, &item->json);
	}
	list_show(l);
}

static void on_open(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct list_job *l = ctx;

	l->request = NULL;
	if (result != REDIS_OK || value->type != REDIS_LIST) {
		l->unsure = true;
		list_show(l);
		return;
	}
	l->open = mem_alloc((value->count + 1) * sizeof(*l->open));
	for (size_t i = 0; i < value->count && l->open_count < LIST_MAX; i++) {
		struct str id = redis_item_str(value, i);
		struct list_item *item = &l->open[l->open_count];

		if (!id_is(id, "job"))
			continue;
		memcpy(item->id, id.ptr, id.len);
		if (l->after.len && strncmp(item->id, l->after.ptr, ID_LEN) >= 0)
			continue;
		item->owner = l;
		l->open_count++;
	}
	l->waiting = l->open_count;
	for (size_t i = 0; i < l->open_count; i++)
		l->open[i].request =
		    state_read(l->x->front->redis, str_of(l->open[i].id), on_item, &l->open[i]);
	list_show(l);
}

/* The columns of the statement below, in its order. */
static void row_result(const struct pg_rows *rows, size_t row, struct result *r)
{
	struct str *const texts[] = {&r->id,	 &r->kind,	    &r->lane,	 &r->session,
				     &r->status, &r->provider,	    &r->account, &r->target_model,
				     &r->parts,	 &r->finish_reason, &r->fault,	 &r->fault_message,
				     &r->calls,	 &r->metadata};
	int64_t *const numbers[] = {
	    &r->attempt,	&r->created_ms,		 &r->picked_up_ms,
	    &r->first_token_ms, &r->finished_ms,	 &r->bytes,
	    &r->input_tokens,	&r->cached_input_tokens, &r->cache_write_tokens,
	    &r->output_tokens,	&r->cost_microusd};

	codec_init(&codec_result, r);
	for (size_t i = 0; i < countof(texts); i++)
		*texts[i] = pg_text(rows, row, i);
	for (size_t i = 0; i < countof(numbers); i++)
		*numbers[i] = pg_int(rows, row, countof(texts) + i, 0);
	r->partial = str_is(pg_text(rows, row, countof(texts) + countof(numbers)), "t");
}

static const char list_sql[] =
    "SELECT job, kind, lane, session, status, provider, account, target_model, parts, "
    "finish_reason, fault, fault_message, calls, metadata, attempt, created_ms, picked_up_ms, "
    "first_token_ms, finished_ms, bytes, input_tokens, cached_input_tokens, cache_write_tokens, "
    "output_tokens, cost_microusd, partial FROM results WHERE org = $1 "
    "AND ($2 = '' OR job < $2) AND ($3 = '' OR session = $3) AND ($4 = '' OR status = $4) "
    "AND ($5 = '' OR lane = $5) ORDER BY job DESC LIMIT $6::int";

static void on_rows(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct list_job *l = ctx;

	l->pg = NULL;
	if (result != PG_OK) {
		l->unsure = true;
		list_show(l);
		return;
	}
	l->ended = mem_alloc((pg_count(rows) + 1) * sizeof(*l->ended));
	for (size_t row = 0; row < pg_count(rows); row++) {
		struct list_item *item = &l->ended[l->ended_count++];
		struct result r;
		struct shown shown;

		row_result(rows, row, &r);
		snprintf(item->id, sizeof(item->id), "%.*s", STR_FMT(r.id));
		shown_from_result(&shown, &r);
		shown_write(&shown, true, &item->json);
	}
	list_show(l);
}

static bool wrong(struct refusal *refusal, const char *param, const char *message)
{
	refusal->param = param;
	refusal->message = message;
	return true;
}

static bool list_wrong(const struct list_job *l, struct str limit, struct refusal *refusal)
{
	enum lane lane;

	if (limit.ptr && (l->limit < 1 || l->limit > LIST_MAX))
		return wrong(refusal, "limit", "limit must be a whole number from 1 to 100.");
	if (l->session.len && !id_is(l->session, "ses"))
		return wrong(refusal, "session", "session must be an id that begins with ses_.");
	if (l->after.len && !id_is(l->after, "job"))
		return wrong(refusal, "after", "after must be an id that begins with job_.");
	if (l->lane.len && lane_find(l->lane, &lane) != LANE_FOUND)
		return wrong(refusal, "lane", "lane must be the name of a lane.");
	if (l->status.len && !state_terminal(l->status) && !str_is(l->status, "queued") &&
	    !str_is(l->status, "running"))
		return wrong(refusal, "status",
			     "status must be queued, running, succeeded, failed, expired or "
			     "cancelled.");
	return false;
}

static void list_ask(struct list_job *l, struct str org)
{
	struct key key = key_open(l->session.len ? l->session : org);
	char most[24], limit[24];
	struct str pg_params[6] = {org, l->after, l->session, l->status, l->lane};

	snprintf(most, sizeof(most), "%d", OPEN_MAX - 1);
	snprintf(limit, sizeof(limit), "%llu", (unsigned long long)l->limit);
	for (size_t i = 1; i < 5; i++) {
		if (!pg_params[i].ptr)
			pg_params[i] = STR("");
	}
	pg_params[5] = str_of(limit);
	l->request = redis_command(
	    l->x->front->redis, key_str(&key),
	    (const struct str[]){STR("ZREVRANGE"), key_str(&key), STR("0"), str_of(most)}, 4,
	    on_open, l);
	l->pg = pg_query(l->x->front->pg, list_sql, pg_params, countof(pg_params), on_rows, l);
}

void jobs_list(struct exchange *x)
{
	static const char *const known[] = {"session", "status", "lane", "after", "limit", NULL};
	struct list_job *l;
	struct str limit = http_query_value(x->req, "limit");
	struct refusal refusal = {.fault = FAULT_INVALID_REQUEST, .offset = -1};

	if (!exchange_query(x, known))
		return;
	l = mem_new(struct list_job);
	l->x = x;
	x->work = l;
	x->drop = list_drop;
	l->limit = 20;
	if (limit.ptr && !str_u64(limit, &l->limit))
		l->limit = 0;
	l->session = http_query_value(x->req, "session");
	l->status = http_query_value(x->req, "status");
	l->lane = http_query_value(x->req, "lane");
	l->after = http_query_value(x->req, "after");
	if (list_wrong(l, limit, &refusal))
		exchange_refuse(x, &refusal);
	else
		list_ask(l, str_of(x->who.org));
}
