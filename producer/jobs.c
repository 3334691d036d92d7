/* POST /v1/jobs and DELETE /v1/jobs/{id}. */
#include <stdio.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/relay/follow.h"
#include "producer/admit.h"
#include "producer/front.h"
#include "producer/idem.h"
#include "schemas/keys.h"
#include "schemas/lanes.h"

/* ── POST /v1/jobs ── */

struct create {
	struct exchange *x;
	struct job job; /* views in the request's arena */
	struct submit *submit;
	struct redis_request *request;
	struct idem idem;
	bool keyed; /* an Idempotency-Key is in use */
	int status;
	struct buf reply;
};

static void create_drop(void *work, bool left)
{
	struct create *c = work;

	(void)left;
	submit_cancel(c->submit);
	if (c->request)
		redis_cancel(c->request);
	buf_fini(&c->reply);
	mem_free(c);
}

static void put_links(struct json_out *o, struct str id)
{
	char path[96];

	json_key(o, "links");
	json_open(o, '{');
	snprintf(path, sizeof(path), "/v1/jobs/%.*s", STR_FMT(id));
	json_put_text(o, "self", path);
	snprintf(path, sizeof(path), "/v1/jobs/%.*s/events", STR_FMT(id));
	json_put_text(o, "events", path);
	json_close(o, '}');
}

static void write_accepted(struct create *c, const struct submit_outcome *outcome)
{
	struct json_out o = {.buf = &c->reply};

	json_open(&o, '{');
	json_put_str(&o, "id", c->job.id);
	json_put_text(&o, "status", "queued");
	json_put_str(&o, "kind", c->job.kind);
	json_put_str(&o, "lane", c->job.lane);
	if (outcome->position < 0)
		json_put_null(&o, "position");
	else
		json_put_int(&o, "position", outcome->position);
	json_put_time(&o, "created_at", (uint64_t)c->job.created_ms);
	json_key(&o, "log");
	json_open(&o, '{');
	json_put_text(&o, "topic", outcome->topic);
	json_put_int(&o, "partition", outcome->partition);
	json_put_int(&o, "offset", outcome->offset);
	json_close(&o, '}');
	put_links(&o, c->job.id);
	json_close(&o, '}');
}

static void on_kept(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct create *c = ctx;

	(void)result;
	(void)value;
	c->request = NULL;
	exchange_reply(c->x, c->status, &c->reply);
}

/* A job that was not accepted. Its key keeps a refusal that will not change, and is free again where the next try may end
 * otherwise and it is sure that this one did not. */
static void not_accepted(struct create *c, const struct submit_outcome *outcome)
{
	struct front *front = c->x->front;
	struct refusal refusal = {
	    .fault = outcome->fault, .message = outcome->message, .offset = -1};

	series_add(metric_one(front->metric_refused, fault_info(outcome->fault)->code), 1);
	c->status = error_status(c->x->dialect, outcome->fault);
	if (outcome->fault == FAULT_OUTCOME_UNKNOWN) {
		refusal.job = c->job.id;
	} else if (c->keyed && idem_keeps(c->status)) {
		error_body(&c->reply, c->x->dialect, &refusal, str_of(c->x->id));
		c->request = idem_end(front->redis, &c->idem, str_of(c->x->who.org), c->job.id,
				      c->status, buf_str(&c->reply), on_kept, c);
		return;
	} else if (c->keyed) {
		idem_end(front->redis, &c->idem, str_of(c->x->who.org), c->job.id, 0,
			 outcome->refused ? STR("void") : STR(""), NULL, NULL);
	}
	exchange_refuse(c->x, &refusal);
}

/* The lane's own literal: labels outlive requests. */
static const char *lane_text(struct str lane)
{
	enum lane found = LANE_INTERACTIVE;

	return lane_find(lane, &found) == LANE_FOUND ? lane_name(found) : "";
}

static void on_submitted(void *ctx, const struct submit_outcome *outcome)
{
	struct create *c = ctx;
	struct exchange *x = c->x;
	struct front *front = x->front;

	c->submit = NULL;
	if (outcome->fault != FAULT_NONE) {
		not_accepted(c, outcome);
		return;
	}
	series_add(metric_one(front->metric_accepted, lane_text(c->job.lane)), 1);
	series_observe_us(metric_only(front->metric_accept_seconds),
			  loop_fresh_us(front->loop) - http_received_us(x->req));
	write_accepted(c, outcome);
	c->status = 202;
	if (!c->keyed) {
		exchange_reply(x, 202, &c->reply);
		return;
	}
	c->request = idem_end(front->redis, &c->idem, str_of(x->who.org), c->job.id, 202,
			      buf_str(&c->reply), on_kept, c);
}

static void on_idem(void *ctx, const struct idem_answer *answer)
{
	struct create *c = ctx;
	struct exchange *x = c->x;
	struct key channel;

	c->request = NULL;
	switch (answer->verdict) {
	case IDEM_NEW:
	case IDEM_PENDING:
		c->keyed = true;
		c->job.id = admit_copy(http_arena(x->req), answer->id);
		channel = key_channel(c->job.session.len ? c->job.session : c->job.id);
		c->job.channel = admit_copy(http_arena(x->req), key_str(&channel));
		c->submit = exchange_submit(x, &c->job, on_submitted, c);
		if (answer->verdict == IDEM_PENDING)
			submit_again(c->submit);
		return;
	case IDEM_DONE:
		http_add_field(x->req, "idempotent-replayed", STR("true"));
		buf_add_str(&c->reply, answer->reply);
		exchange_reply(x, answer->status, &c->reply);
		return;
	case IDEM_CONFLICT:
		exchange_fault(x, FAULT_CONFLICT, "The Idempotency-Key was used for another body.");
		return;
	case IDEM_UNSURE:
		exchange_fault(x, FAULT_UNAVAILABLE, NULL);
		return;
	}
}

void jobs_create(struct exchange *x)
{
	struct create *c = mem_new(struct create);
	struct front *front = x->front;
	struct str key = http_field(x->req, "idempotency-key");
	struct admitted a;

	c->x = x;
	a = admit_native(exchange_config(x), http_arena(x->req), http_body(x->req),
			 str_of(x->who.org), x->wall_ms, loop_rand(front->loop), &c->job);
	idem_admit(x, &a);
	if (a.fault != FAULT_NONE) {
		struct refusal refusal = {
		    .fault = a.fault, .message = a.message, .param = a.param, .offset = a.offset};

		series_add(metric_one(front->metric_refused, fault_info(a.fault)->code), 1);
		create_drop(c, false);
		idem_refuse(x, &refusal);
		return;
	}
	x->work = c;
	x->drop = create_drop;
	c->job.traceparent = exchange_traceparent(x);
	if (key.len)
		c->request = idem_begin(front->redis, &c->idem, c->job.org, x->route->pattern, key,
					http_body(x->req), c->job.id, on_idem, c);
	else
		c->submit = exchange_submit(x, &c->job, on_submitted, c);
}

/* ── DELETE /v1/jobs/{id} ── */

struct cancel {
	struct exchange *x;
	struct redis_request *request;
	struct relay_lookup *lookup;
};

static void cancel_drop(void *work, bool left)
{
	struct cancel *c = work;

	(void)left;
	if (c->request)
		redis_cancel(c->request);
	relay_lookup_cancel(c->lookup);
	mem_free(c);
}

/* Neither Redis nor PostgreSQL has it: there is none where Redis has forgotten nothing that may have been it. */
static void on_epoch(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct cancel *c = ctx;

	c->request = NULL;
	if (relay_is_none(c->x->front->relay, c->x->param, result, value))
		exchange_fault(c->x, FAULT_NOT_FOUND, "There is no such job.");
	else
		exchange_fault(c->x, FAULT_STATE_UNKNOWN, NULL);
}

static void on_ended_job(void *ctx, bool sure, const struct result *result)
{
	struct cancel *c = ctx;
	struct exchange *x = c->x;

	c->lookup = NULL;
	if (result)
		exchange_fault(x, FAULT_TERMINAL, NULL);
	else if (!sure)
		exchange_fault(x, FAULT_STATE_UNKNOWN, NULL);
	else
		c->request = redis_ask_epoch(x->front->redis, x->param, on_epoch, c);
}

/* A cancel that nobody waits for. */
struct detached {
	struct front *front;
	char job[ID_SIZE];
};

static void on_detached(void *ctx, enum redis_result result, struct str state, struct str worker)
{
	struct detached *d = ctx;

	if (result == REDIS_OK && state.len && !state_terminal(state))
		state_tell_wish(d->front->redis, str_of(d->job), worker,
				loop_wall_ms(d->front->loop));
	mem_free(d);
}

void job_cancel(struct front *front, struct str job, struct str org)
{
	struct detached *d = mem_new(struct detached);

	d->front = front;
	snprintf(d->job, sizeof(d->job), "%.*s", STR_FMT(job));
	state_wish(front->redis, str_of(d->job), org, on_detached, d);
}

static void on_wish(void *ctx, enum redis_result result, struct str state, struct str worker)
{
	struct cancel *c = ctx;
	struct exchange *x = c->x;
	struct buf body = {0};
	struct json_out o = {.buf = &body};

	c->request = NULL;
	if (result != REDIS_OK) {
		exchange_fault(x, FAULT_STATE_UNKNOWN, NULL);
	} else if (!state.len) {
		c->lookup =
		    relay_result(x->front->relay, x->param, str_of(x->who.org), on_ended_job, c);
	} else if (str_is(state, "refused")) {
		exchange_fault(x, FAULT_NOT_FOUND, "There is no such job.");
	} else if (state_terminal(state) || str_is(state, "finishing")) {
		exchange_fault(x, FAULT_TERMINAL, NULL);
	} else {
		state_tell_wish(x->front->redis, x->param, worker, loop_wall_ms(x->front->loop));
		json_open(&o, '{');
		json_put_str(&o, "id", x->param);
		json_put_str(&o, "status", state);
		json_put_bool(&o, "cancelling", true);
		json_close(&o, '}');
		exchange_reply(x, 202, &body);
	}
}

void jobs_cancel(struct exchange *x)
{
	struct cancel *c;

	if (!id_is(x->param, "job")) {
		exchange_fault(x, FAULT_NOT_FOUND, "There is no such job.");
		return;
	}
	c = mem_new(struct cancel);
	c->x = x;
	x->work = c;
	x->drop = cancel_drop;
	c->request = state_wish(x->front->redis, x->param, str_of(x->who.org), on_wish, c);
}
