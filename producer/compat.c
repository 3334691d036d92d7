#include "producer/compat.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "schemas/keys.h"
#include "schemas/lanes.h"

#define ANSWER_MAX (64u << 20)
#define MESSAGES_MAX 100000

/* ── checks ── */

void compat_model(struct compat *c, struct json_object *body, struct admitted *a)
{
	struct str model = json_str(body, "model");

	if (!model.len || model.len >= sizeof(c->model))
		admitted_fail(a, FAULT_INVALID_REQUEST, "model",
			      "model must be a string of at most %zu bytes.", sizeof(c->model) - 1);
	c->job.model = admit_copy(http_arena(c->x->req), model);
	snprintf(c->model, sizeof(c->model), "%.*s", STR_FMT(model));
}

void compat_stream(struct compat *c, struct json_object *body, struct admitted *a)
{
	struct json_object *stream = json_member(body, "stream");

	if (stream && !json_object_is_type(stream, json_type_boolean))
		admitted_fail(a, FAULT_INVALID_REQUEST, "stream", "stream must be true or false.");
	c->job.stream = json_bool(body, "stream", false);
}

void compat_messages(struct json_object *body, const char *const *roles, struct admitted *a)
{
	struct json_object *list = json_member(body, "messages");
	char param[64];

	if (!json_object_is_type(list, json_type_array) || !json_object_array_length(list) ||
	    json_object_array_length(list) > MESSAGES_MAX) {
		admitted_fail(a, FAULT_INVALID_REQUEST, "messages",
			      "messages must be a list of at least one message.");
		return;
	}
	for (size_t i = 0; i < json_object_array_length(list) && a->fault == FAULT_NONE; i++) {
		struct json_object *message = json_object_array_get_idx(list, i);
		struct str role = json_str(message, "role");
		bool known = false;

		for (size_t r = 0; roles[r]; r++)
			known = known || str_is(role, roles[r]);
		snprintf(param, sizeof(param), "messages[%zu]", i);
		if (!json_object_is_type(message, json_type_object))
			admitted_fail(a, FAULT_INVALID_REQUEST, param, "%s must be an object.",
				      param);
		snprintf(param, sizeof(param), "messages[%zu].role", i);
		if (!known)
			admitted_fail(a, FAULT_INVALID_REQUEST, param, "%s is not a known role.",
				      param);
	}
}

struct str compat_part_text(const struct compat *c, size_t n)
{
	struct str whole = buf_str(&c->text);
	size_t from = c->parts[n].from;
	size_t to = n + 1 < c->part_count ? c->parts[n + 1].from : whole.len;

	return (struct str){whole.ptr + from, to - from};
}

/* ── telling the client ── */

static void send_text(struct compat *c, struct buf *out)
{
	if (out->len) {
		timer_set(&c->timer, c->front->options->keep_alive_ms * US_PER_MS);
		if (!exchange_write(c->x, buf_str(out)) && c->follow)
			follow_pause(c->follow, true);
	}
	buf_fini(out);
}

static void name_job(struct compat *c)
{
	http_add_field(c->x->req, "x-sluice-job", str_of(c->id));
	if (c->provider[0])
		http_add_field(c->x->req, "x-sluice-provider", str_of(c->provider));
}

static void open_stream(struct compat *c)
{
	if (c->opened)
		return;
	c->opened = true;
	name_job(c);
	exchange_stream(c->x);
}

/* The first output: measured, and begun in the dialect's way. */
static void begin(struct compat *c, struct buf *out)
{
	if (c->begun)
		return;
	c->begun = true;
	series_observe_us(metric_only(c->front->metric_first_output_seconds),
			  loop_fresh_us(c->front->loop) - http_received_us(c->x->req));
	if (!c->job.stream)
		return;
	open_stream(c);
	c->ops->begin(c, out);
}

/* No word comes from the job any more. */
static void settle(struct compat *c)
{
	c->ended = true;
	follow_close(c->follow);
	c->follow = NULL;
	timer_stop(&c->timer);
}

static void refuse(struct compat *c, enum fault fault, const char *message)
{
	struct refusal refusal = {.fault = fault, .message = message, .offset = -1};
	struct buf out = {0};

	settle(c);
	if (fault == FAULT_OUTCOME_UNKNOWN)
		refusal.job = str_of(c->id);
	if (c->opened) {
		c->ops->error(c, &refusal, &out);
		exchange_write(c->x, buf_str(&out));
		buf_fini(&out);
		exchange_end(c->x);
	} else {
		if (!refusal.job.len)
			name_job(c);
		exchange_refuse(c->x, &refusal);
	}
}

static void on_timer(struct timer *t)
{
	struct compat *c = container_of(t, struct compat, timer);

	open_stream(c);
	exchange_write(c->x, str_of(c->ops->keep_alive));
	timer_set(&c->timer, c->front->options->keep_alive_ms * US_PER_MS);
}

/* ── what the job says ── */

static void note_target(struct compat *c, struct str provider, struct str model)
{
	if (provider.len)
		snprintf(c->provider, sizeof(c->provider), "%.*s", STR_FMT(provider));
	if (model.len && !c->begun)
		snprintf(c->model, sizeof(c->model), "%.*s", STR_FMT(model));
}

static void on_state(void *ctx, const struct job_view *view, bool resumed)
{
	struct compat *c = ctx;

	(void)resumed;
	note_target(c, view->provider, view->model);
}

static void add_part(struct compat *c, const struct part *part)
{
	if ((c->part_count & (c->part_count + 1)) == 0)
		c->parts = mem_resize(c->parts, (2 * c->part_count + 2) * sizeof(*c->parts));
	c->parts[c->part_count] = *part;
	c->parts[c->part_count].from = c->text.len;
	c->part_count++;
}

static void on_delta(void *ctx, int64_t attempt, int64_t at, struct str text)
{
	struct compat *c = ctx;
	struct buf out = {0};

	(void)attempt;
	(void)at;
	begin(c, &out);
	if (c->job.stream) {
		c->ops->text(c, text, &out);
		send_text(c, &out);
		return;
	}
	if (!c->part_count)
		add_part(c, &(struct part){.type = PART_TEXT});
	if (c->text.len + text.len > ANSWER_MAX) {
		job_cancel(c->front, str_of(c->id), str_of(c->org));
		refuse(c, FAULT_INTERNAL, "The answer is too large to be given as a whole.");
		return;
	}
	buf_add_str(&c->text, text);
}

static void tell_part(struct compat *c, struct json_object *payload)
{
	static const char *const types[] = {
	    [PART_THINKING] = "thinking",
	    [PART_TOOL_CALL] = "tool_call",
	    [PART_SIGNATURE] = "signature",
	    [PART_REDACTED] = "redacted_thinking",
	};
	struct arena *arena = http_arena(c->x->req);
	struct str type = json_str(payload, "type");
	struct part part = {.id = admit_copy(arena, json_str(payload, "id")),
			    .name = admit_copy(arena, json_str(payload, "name"))};
	struct buf out = {0};

	for (size_t i = PART_THINKING; i < countof(types); i++)
		if (str_is(type, types[i]))
			part.type = (enum part_type)i;
	begin(c, &out);
	if (c->job.stream)
		c->ops->part(c, &part, &out);
	else
		add_part(c, &part);
	send_text(c, &out);
}

static void on_event(void *ctx, const struct event *event)
{
	struct compat *c = ctx;
	cleanup_json struct json_object *payload = NULL;
	struct json_error error;
	struct buf text = {0};

	if (!str_is(event->ev, "started") && !str_is(event->ev, "part"))
		return;
	buf_add_char(&text, '{');
	buf_add_str(&text, event->payload);
	buf_add_char(&text, '}');
	if (json_read(buf_str(&text), &payload, &error) == JSON_OK) {
		if (str_is(event->ev, "part"))
			tell_part(c, payload);
		else
			note_target(c, json_str(payload, "provider"), json_str(payload, "model"));
	}
	buf_fini(&text);
}

static void on_reset(void *ctx, int64_t attempt)
{
	struct compat *c = ctx;

	(void)attempt;
	if (!c->job.stream) {
		buf_reset(&c->text);
		c->part_count = 0;
		return;
	}
	/* What was streamed cannot be taken back. */
	job_cancel(c->front, str_of(c->id), str_of(c->org));
	refuse(c, FAULT_PROVIDER_CUT, NULL);
}

static void on_end(void *ctx, const struct follow_end *end)
{
	struct compat *c = ctx;
	const struct result *r = end->result;
	struct buf out = {0};
	enum fault fault;

	note_target(c, r->provider, r->target_model);
	if (!str_is(end->status, "succeeded")) {
		fault = fault_find(r->fault.len ? r->fault : end->status);
		refuse(c, fault == FAULT_NONE ? FAULT_INTERNAL : fault,
		       r->fault_message.len ? arena_dup(http_arena(c->x->req), r->fault_message.ptr,
							r->fault_message.len)
					    : NULL);
		return;
	}
	begin(c, &out);
	settle(c);
	if (c->job.stream) {
		c->ops->end(c, r, &out);
		exchange_write(c->x, buf_str(&out));
		buf_fini(&out);
		exchange_end(c->x);
	} else {
		name_job(c);
		c->ops->whole(c, r, &out);
		exchange_reply(c->x, 200, &out);
	}
}

static void on_gone(void *ctx, bool unsure)
{
	(void)unsure;
	refuse(ctx, FAULT_STATE_UNKNOWN, NULL);
}

static const struct follow_ops follow_ops = {.state = on_state,
					     .delta = on_delta,
					     .event = on_event,
					     .reset = on_reset,
					     .end = on_end,
					     .gone = on_gone};

/* ── submitting ── */

static void compat_free(struct compat *c)
{
	follow_close(c->follow);
	timer_stop(&c->timer);
	if (c->request)
		redis_cancel(c->request);
	buf_fini(&c->text);
	buf_fini(&c->sealed);
	mem_free(c->parts);
	mem_free(c);
}

static void compat_drop(void *work, bool left)
{
	struct compat *c = work;

	c->x = NULL;
	follow_close(c->follow);
	c->follow = NULL;
	timer_stop(&c->timer);
	if (c->submit)
		return; /* freed when the broker has spoken: then it can be cancelled */
	if (left && !c->ended && !c->request)
		job_cancel(c->front, str_of(c->id), str_of(c->org));
	compat_free(c);
}

static void compat_writable(void *work)
{
	struct compat *c = work;

	if (c->follow)
		follow_pause(c->follow, false);
}

static void keep_outcome(struct compat *c, const struct submit_outcome *outcome)
{
	struct refusal refusal = {
	    .fault = outcome->fault, .message = outcome->message, .offset = -1};
	struct buf body = {0};
	int status = 200;

	if (outcome->fault != FAULT_NONE) {
		status = c->x ? error_status(c->x->dialect, outcome->fault) : 0;
		if (status && idem_keeps(status))
			error_body(&body, c->x->dialect, &refusal, str_of(c->x->id));
		else
			status = 0;
		if (!status && outcome->refused)
			buf_add_text(&body, "void");
	}
	idem_end(c->front->redis, &c->idem, str_of(c->org), str_of(c->id), status, buf_str(&body),
		 NULL, NULL);
	buf_fini(&body);
}

static void on_submitted(void *ctx, const struct submit_outcome *outcome)
{
	struct compat *c = ctx;
	struct front *front = c->front;
	bool accepted = outcome->fault == FAULT_NONE;
	enum lane lane = LANE_INTERACTIVE;

	c->submit = NULL;
	if (accepted && lane_find(c->job.lane, &lane) == LANE_FOUND)
		series_add(metric_one(front->metric_accepted, lane_name(lane)), 1);
	if (!accepted)
		series_add(metric_one(front->metric_refused, fault_info(outcome->fault)->code), 1);
	if (c->keyed && outcome->fault != FAULT_OUTCOME_UNKNOWN)
		keep_outcome(c, outcome);
	if (!c->x) {
		if (!c->ended && (accepted || outcome->fault == FAULT_OUTCOME_UNKNOWN))
			job_cancel(front, str_of(c->id), str_of(c->org));
		compat_free(c);
	} else if (accepted) {
		series_observe_us(metric_only(front->metric_accept_seconds),
				  loop_fresh_us(front->loop) - http_received_us(c->x->req));
	} else if (!c->ended && !c->begun) {
		/* Output is the better proof: a job that answers was accepted. */
		refuse(c, outcome->fault, outcome->message);
	}
}

/* Follows from before the job is written, so that its first word is heard. */
static void start(struct compat *c, bool submit, bool again)
{
	struct front *front = c->front;
	struct follow_request request = {.job = c->job.id,
					 .org = c->job.org,
					 .channel = c->job.channel,
					 .fresh = submit,
					 .fresh_us =
					     (front->options->produce_ms + 5000) * US_PER_MS,
					 .submitted_before = again};

	snprintf(c->id, sizeof(c->id), "%.*s", STR_FMT(c->job.id));
	c->follow = follow_open(front->relay, &request, &follow_ops, c);
	if (submit)
		c->submit = exchange_submit(c->x, &c->job, on_submitted, c);
	else
		exchange_release(c->x);
	if (submit && again)
		submit_again(c->submit);
	if (c->job.stream && front->options->hold_ms)
		timer_set(&c->timer, front->options->hold_ms * US_PER_MS);
}

/* Of a job that was accepted the key keeps the id alone: its answer is read again. A refusal is kept itself. */
static bool idem_followed(int status)
{
	return status == 200;
}

static void on_idem(void *ctx, const struct idem_answer *answer)
{
	struct compat *c = ctx;
	struct arena *arena = http_arena(c->x->req);
	struct key channel;

	c->request = NULL;
	if (answer->verdict == IDEM_CONFLICT) {
		exchange_fault(c->x, FAULT_CONFLICT,
			       "The Idempotency-Key was used for another body.");
		return;
	}
	if (answer->verdict == IDEM_UNSURE) {
		exchange_fault(c->x, FAULT_UNAVAILABLE, NULL);
		return;
	}
	if (answer->verdict == IDEM_DONE && !idem_followed(answer->status)) {
		struct buf body = {0};

		c->ended = true;
		http_add_field(c->x->req, "idempotent-replayed", STR("true"));
		buf_add_str(&body, answer->reply);
		exchange_reply(c->x, answer->status, &body);
		return;
	}
	c->keyed = answer->verdict != IDEM_DONE;
	c->job.id = admit_copy(arena, answer->id);
	channel = key_channel(c->job.session.len ? c->job.session : c->job.id);
	c->job.channel = admit_copy(arena, key_str(&channel));
	if (answer->verdict == IDEM_DONE)
		http_add_field(c->x->req, "idempotent-replayed", STR("true"));
	start(c, answer->verdict != IDEM_DONE, answer->verdict == IDEM_PENDING);
}

/* The headers that choose where the job goes. */
static void read_headers(struct compat *c, struct admitted *a)
{
	struct http_req *req = c->x->req;
	struct str task = http_field(req, "x-sluice-task"),
		   session = http_field(req, "x-sluice-session");
	struct str on_cut = http_field(req, "x-sluice-on-cut");

	admit_lane(&c->job, http_field(req, "x-sluice-lane"), a);
	if (task.len) {
		c->job.task = task;
		c->job.model = STR("");
	}
	if (session.len && !id_is(session, "ses"))
		admitted_fail(a, FAULT_INVALID_REQUEST, "x-sluice-session",
			      "x-sluice-session must be an id that begins with ses_.");
	c->job.session = session;
	if (on_cut.len && !str_is(on_cut, "continue") && !str_is(on_cut, "fail"))
		admitted_fail(a, FAULT_INVALID_REQUEST, "x-sluice-on-cut",
			      "x-sluice-on-cut must be \"continue\" or \"fail\".");
	/* Where nothing was streamed, beginning anew is not seen. */
	c->job.on_cut = on_cut.len ? on_cut : c->job.stream ? STR("fail") : STR("restart");
	idem_admit(c->x, a);
}

static struct admitted compat_admit(struct compat *c)
{
	cleanup_json struct json_object *body = NULL;
	struct exchange *x = c->x;
	struct admitted a = admitted_good();
	const struct config_route *route = NULL;
	struct json_error error;

	if (json_read(http_body(x->req), &body, &error) != JSON_OK) {
		admitted_fail(&a, FAULT_INVALID_JSON, "",
			      "The body is not valid JSON: %s (at byte %zu).", error.message,
			      error.offset);
		a.offset = (int64_t)error.offset;
		return a;
	}
	if (!json_object_is_type(body, json_type_object)) {
		admitted_fail(&a, FAULT_INVALID_REQUEST, "", "The body must be a JSON object.");
		return a;
	}
	codec_init(&codec_job, &c->job);
	c->job.kind = STR("chat");
	c->job.dialect = c->ops->dialect;
	c->job.request = http_body(x->req);
	admit_begin(&c->job, str_of(c->org), x->wall_ms, loop_rand(c->front->loop),
		    http_arena(x->req));
	c->job.traceparent = exchange_traceparent(x);
	c->ops->admit(c, body, &a);
	read_headers(c, &a);
	if (a.fault == FAULT_NONE)
		route = admit_route(exchange_config(x), &c->job, &a);
	if (route)
		admit_finish(&c->job, route, http_body(x->req).len, x->wall_ms, http_arena(x->req));
	c->job.max_tokens = 0; /* the body says it */
	return a;
}

void compat_serve(struct exchange *x, const struct compat_ops *ops)
{
	struct compat *c = mem_new(struct compat);
	struct str key = http_field(x->req, "idempotency-key");
	struct admitted a;

	c->x = x;
	c->front = x->front;
	c->ops = ops;
	memcpy(c->org, x->who.org, sizeof(c->org));
	timer_init(&c->timer, x->front->loop, on_timer);
	x->work = c;
	x->drop = compat_drop;
	x->writable = compat_writable;
	a = compat_admit(c);
	if (a.fault != FAULT_NONE) {
		struct refusal refusal = {
		    .fault = a.fault, .message = a.message, .param = a.param, .offset = a.offset};

		series_add(metric_one(c->front->metric_refused, fault_info(a.fault)->code), 1);
		compat_free(c);
		idem_refuse(x, &refusal);
	} else if (key.len) {
		c->request = idem_begin(c->front->redis, &c->idem, c->job.org, x->route->pattern,
					key, http_body(x->req), c->job.id, on_idem, c);
	} else {
		start(c, true, false);
	}
}
