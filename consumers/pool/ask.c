/* Asking: the next target, the call, and what its end means for the job: the answer is complete, another target is asked at once, after
 * a wait without a slot, or the job has failed. */
#include <string.h>

#include "consumers/pool/hedge.h"
#include "consumers/pool/retry.h"
#include "consumers/pool/said.h"
#include "consumers/pool/spend.h"
#include "consumers/pool/work.h"
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/plant.h"
#include "lib/svc/config.h"
#include "schemas/keys.h"

/* A background call is written when it has lasted so long, or sends its first text. A worker that dies before has lost the call from
 * the ledger; the next claim counts a death without a call. */
#define CALL_DUE_US (20 * US_PER_MS)

/* Who waits for a limit to age asks again after so long. */
#define LATER_MOST_US (15 * US_PER_S)
/* Within this all begin that waited for a breaker. */
#define WAKE_US (20 * US_PER_MS)
/* Who waits for a lease looks by himself after so long; the breaker's own patience ends before. */
#define LEASE_LOOK_US US_PER_S

/* ── the call's beginning is written ── */

struct work_call *work_call_add(struct work *w, const struct work_call *call)
{
	must(w->call_count < WORK_CALLS_MAX);
	if (w->call_count == w->call_room) {
		w->call_room = w->call_room ? 2 * w->call_room : 2;
		w->calls = mem_resize(w->calls, w->call_room * sizeof(w->calls[0]));
	}
	w->calls[w->call_count] = *call;
	return &w->calls[w->call_count++];
}

void work_calls_json(const struct work *w, struct buf *out)
{
	struct json_out o = {.buf = out};

	json_open(&o, '[');
	for (size_t i = 0; i < w->call_count; i++) {
		const struct work_call *c = &w->calls[i];

		json_open(&o, '{');
		json_put_text(&o, "provider", c->provider);
		json_put_text(&o, "account", c->account);
		json_put_text(&o, "model", c->model);
		json_put_int(&o, "attempt", c->attempt);
		if (c->at)
			json_put_int(&o, "at", c->at);
		json_put_int(&o, "started_ms", (int64_t)c->started_ms);
		json_put_int(&o, "first_token_ms", (int64_t)c->first_token_ms);
		json_put_int(&o, "ended_ms", (int64_t)c->ended_ms);
		json_put_text(&o, "fault", c->fault ? fault_info(c->fault)->code : NULL);
		json_put_str(&o, "request_id", c->request_id);
		json_key(&o, "usage");
		json_open(&o, '{');
		json_put_int(&o, "input_tokens", c->usage.input_tokens);
		json_put_int(&o, "cached_input_tokens", c->usage.cached_input_tokens);
		json_put_int(&o, "cache_write_tokens", c->usage.cache_write_tokens);
		if (c->usage.cache_write_1h_tokens)
			json_put_int(&o, "cache_write_1h_tokens", c->usage.cache_write_1h_tokens);
		json_put_int(&o, "output_tokens", c->usage.output_tokens);
		json_close(&o, '}');
		json_put_int(&o, "cost_microusd", c->cost_microusd);
		if (c->overhead)
			json_put_bool(&o, "overhead", true);
		json_close(&o, '}');
	}
	json_close(&o, ']');
}

static void on_said(void *ctx, enum state_held held, bool cancel)
{
	struct work *w = ctx;

	w->call_request = NULL;
	if (held == STATE_NOT_HELD)
		work_lost(w);
	else if (held == STATE_HELD && cancel)
		work_stop(w, FAULT_CANCELLED);
	else if (held == STATE_UNSURE)
		log_warn(&w->log, "call is not written: Redis did not answer");
}

void ask_say_call(struct work *w)
{
	struct buf calls = {0}, event = {0};
	struct json_out o = {.buf = &event};
	const struct work_call *c = &w->calls[w->call_count - 1];
	struct state_call say = {
	    .job = w->head.job,
	    .fence = str_of(w->fence),
	    .attempt = w->attempt,
	    .tries = w->tries,
	    .provider = str_of(c->provider),
	    .account = str_of(c->account),
	    .model = str_of(c->model),
	    .picked_up_ms = w->picked_up_ms,
	    .channel = key_str(&w->channel),
	};

	timer_stop(&w->call_due);
	work_calls_json(w, &calls);
	event_head(&event, "started", w->head.job, w->attempt, -1);
	json_put_text(&o, "provider", c->provider);
	json_put_text(&o, "model", c->model);
	say.calls = buf_str(&calls);
	say.event = buf_str(&event);
	if (w->call_request)
		redis_cancel(w->call_request);
	w->call_request = state_call(w->redis, &say, on_said, w);
	buf_fini(&calls);
	buf_fini(&event);
}

void ask_on_call_due(struct timer *t)
{
	ask_say_call(container_of(t, struct work, call_due));
}

void ask_call_due(void *ctx)
{
	struct work *w = ctx;

	if (timer_is_set(&w->call_due))
		ask_say_call(w);
}

/* ── the call's end ── */

static const char *outcome_name(const struct call_outcome *o)
{
	return o->fault ? fault_info(o->fault)->code : "complete";
}

static void count_call(struct work *w, struct work_call *c)
{
	struct pool_metrics *m = &w->pool->metric;
	const struct {
		const char *type;
		int64_t count;
	} tokens[] = {
	    {"input", c->usage.input_tokens},
	    {"cached_input", c->usage.cached_input_tokens},
	    {"cache_write", c->usage.cache_write_tokens},
	    {"output", c->usage.output_tokens},
	};

	for (size_t i = 0; i < countof(tokens); i++)
		if (tokens[i].count > 0)
			series_add(metric_series(m->tokens, (const char *const[]){c->provider,
										  tokens[i].type}),
				   (double)tokens[i].count);
	if (c->cost_microusd > 0)
		series_add(metric_series(m->cost, (const char *const[]){c->provider,
									lane_name(w->lane->lane)}),
			   (double)c->cost_microusd);
	if (c->first_token_ms)
		series_observe_us(metric_one(m->first_token, c->provider),
				  (c->first_token_ms - c->started_ms) * US_PER_MS);
}

/* Where the provider did not say what it used, as of most calls that are cut, and of whole ones at servers that never do: the request's
 * length stands for its input (@input), the text for its output. A loser was read, whoever was quicker, but
 * one that was refused. */
static void estimate(struct work *w, struct work_call *c, const struct call_outcome *o, bool whole,
		     int64_t input)
{
	bool read = o->begun || whole || (c->overhead && !o->unprocessed && !o->refused);
	int64_t unsaid = whole ? 0 : 1; /* a cut one has heard of its first token alone */
	int64_t text = (int64_t)w->scribe.text.len - c->at;

	if (o->begun && c->usage.output_tokens <= unsaid)
		c->usage.output_tokens = text > 0 ? past_tokens((size_t)text) : 0;
	if (read && !c->usage.input_tokens)
		c->usage.input_tokens = input;
}

void ask_fill(struct work *w, struct work_call *c, const struct call_outcome *o, enum fault as)
{
	struct pool *pool = w->pool;
	int64_t input = c->usage.input_tokens; /* as it was sent */

	c->fault = as;
	c->ended_ms = loop_wall_ms(pool->loop);
	c->first_token_ms = o->first_token_wall_ms;
	c->usage = o->usage;
	c->request_id = (struct str){arena_dup(&w->arena, o->request_id.ptr, o->request_id.len),
				     o->request_id.len};
	estimate(w, c, o, !as, input);
	if (o->usage.odd)
		log_warn(&w->log, "usage that the provider said cannot be, and was cut",
			 F_STR("account", c->account), F_STR("model", c->model));
	c->cost_microusd = price_of(pool->config, c->provider, c->model, &c->usage, c->started_ms);
	count_call(w, c);
	series_add(metric_series(pool->metric.calls, (const char *const[]){c->provider, c->account,
									   as ? fault_info(as)->code
									      : outcome_name(o)}),
		   1);
}

void ask_note_end(struct work *w, enum fault as)
{
	const struct call_outcome *o = call_outcome(w->call);

	ask_fill(w, &w->calls[w->call_count - 1], o, as);
	spend_settle(w, o);
	ask_leave(w);
}

void ask_leave(struct work *w)
{
	if (!w->call)
		return;
	call_free(w->call);
	w->call = NULL;
	target_left(w->target, w->probe);
}

/* All targets of the route may be asked again. */
static void forget_tried(struct work *w)
{
	w->tried = w->unfit = 0;
	w->later_us = 0;
}

static void on_backoff(struct timer *t)
{
	struct work *w = container_of(t, struct work, timer);

	if (w->slot_held) {
		sm_move(&w->sm, WORK_CALLING);
		work_run(w);
	} else {
		pool_want_slot(w->pool, w);
	}
}

void work_back_off(struct work *w, uint64_t us, const char *why)
{
	pool_drop_slot(w->pool, w);
	if (sm_state(&w->sm) == WORK_CLAIMING || sm_state(&w->sm) == WORK_HELD)
		return; /* the claim is being made again: it goes on from there */
	if (retry_defer(w, us) || retry_overflow(w, us))
		return;
	sm_move(&w->sm, WORK_BACKOFF);
	w->waits_until_us = loop_now_us(w->pool->loop) + us;
	work_waits(w, why);
	work_again(w, us, on_backoff);
}

/* The call is to begin and may not yet: who would probe @target waits for the lease of that, with his slot; where another one was quicker
 * he chooses anew. */
static bool waits_for_lease(struct work *w, struct target *target)
{
	if (target_ready(target))
		return false;
	sm_move(&w->sm, WORK_BACKOFF);
	w->leased = target;
	w->waits_until_us = loop_now_us(w->pool->loop);
	work_again(w, target_asks(target) ? LEASE_LOOK_US : 0, on_backoff);
	return true;
}

bool work_has_lease_answer(const struct work *w)
{
	return sm_state(&w->sm) == WORK_BACKOFF && w->slot_held && !target_asks(w->leased);
}

bool work_waits_for_breaker(const struct work *w)
{
	uint64_t wait_us;

	return sm_state(&w->sm) == WORK_BACKOFF && !w->slot_held && w->why &&
	       (w->room_line || strcmp(w->why, "breaker") == 0) &&
	       route_lets(&w->route, 0, &wait_us);
}

void work_wake(struct work *w, bool well)
{
	/* not all in one turn */
	work_again(w, well ? rand_below(loop_rand(w->pool->loop), WAKE_US) : 0, on_backoff);
}

void work_reconfigured(struct work *w)
{
	uint64_t wait_us;
	bool shut, full;

	if (sm_state(&w->sm) == WORK_BUDGET && w->in_budget_line) {
		spend_reconfigured(w);
	} else if (sm_state(&w->sm) == WORK_BACKOFF &&
		   !w->slot_held) { /* with one it asks in a moment */
		full = w->room_line;
		shut = !route_lets(&w->route, 0, &wait_us);
		load_route(w);
		if (full) /* the new accounts' connections are others */
			work_wake(w, true);
		else if (shut && route_lets(&w->route, 0, &wait_us))
			work_wake(w, true); /* with another key, or at another target */
	}
}

void work_prefix_warm(struct work *w, uint64_t cache_key)
{
	if (sm_state(&w->sm) == WORK_BACKOFF && w->cache_key == cache_key && w->why &&
	    strcmp(w->why, "order") == 0)
		work_again(w, rand_below(loop_rand(w->pool->loop), WAKE_US), on_backoff);
}

/* Full jitter, doubled each time, never before the provider's own word. */
static uint64_t back_off_us(struct work *w, int64_t retry_after_ms)
{
	const struct pool_options *o = w->pool->options;
	uint64_t most = o->backoff_ms << (w->tries < 16 ? (w->tries > 0 ? w->tries - 1 : 0) : 15);
	uint64_t us;

	if (most > o->backoff_max_ms)
		most = o->backoff_max_ms;
	us = rand_below(loop_rand(w->pool->loop), most * US_PER_MS + 1);
	if (retry_after_ms > 0 && us < (uint64_t)retry_after_ms * US_PER_MS)
		us = (uint64_t)retry_after_ms * US_PER_MS;
	return us;
}

/* Some target could be asked, had its connections room. */
static bool is_full(const struct work *w, uint32_t skip)
{
	return route_open(&w->route, skip, false) & ~route_open(&w->route, skip, true);
}

/* Until a call may be made, without a slot and with nothing reserved: @us at most. */
static void wait_for_room(struct work *w, uint64_t us)
{
	spend_drop(w);
	pool_drop_slot(w->pool, w);
	if (retry_overflow(w, 0))
		return;
	sm_move(&w->sm, WORK_BACKOFF);
	w->waits_until_us = 0; /* not known */
	work_waits(w, "limit");
	work_again(w, us, on_backoff);
	room_wait(w);
}

static void fail(struct work *w, enum fault fault, struct str message)
{
	struct str kept = {arena_dup(&w->arena, message.ptr, message.len), message.len};

	pool_drop_slot(w->pool, w);
	finish_begin(w, "failed", fault, kept);
}

/* Every account refuses its key or has no credit: a person is told so at once, a backlog waits until an operator has mended it (0: not). */
static uint64_t refused_wait_us(const struct work *w)
{
	return w->lane->lane == LANE_INTERACTIVE ? 0 : route_back_us(&w->route);
}

/* Another try, or the end, after @o. @text_seen: output of this attempt (text, or a part without any yet) stands already. */
static void try_again(struct work *w, const struct call_outcome *o, struct str message,
		      bool text_seen)
{
	enum fault fault = o->fault;
	enum fault_retry retry = fault_info(fault)->retry;
	uint64_t wait_us, us;

	if (seam_refused(w, fault))
		retry = FAULT_LATER;
	if (retry == FAULT_NEVER || (text_seen && seam_or_end(w) && !seam_may(w))) {
		fail(w, fault, message);
		return;
	}
	if (text_seen && !w->anew && seam_may(w) && seam_is_full(w)) {
		pool_drop_slot(w->pool, w);
		w->finish_reason = "length"; /* nothing is left to ask for */
		finish_begin(w, "succeeded", FAULT_NONE, STR(""));
		return;
	}
	if (retry == FAULT_WAIT && !o->taken)
		w->tries--; /* a provider's 429 burns no try; an error inside of an answer does */
	if (w->call_count == WORK_CALLS_MAX)
		retry_forget_oldest(w);
	if (w->tries >= w->pool->options->max_tries || w->call_count == WORK_CALLS_MAX) {
		fail(w, fault, message);
		return;
	}
	uint32_t asked = UINT32_C(1) << w->target_index;
	/* when the next call begins: until then the text that was there stands */
	w->goes_on = text_seen && !w->anew && seam_may(w);
	w->goes_on_here = w->goes_on && !w->seam_due;
	w->anew = w->anew || (text_seen && !w->goes_on);
	/* Not processed: the same one may be asked at once, but not for ever. */
	if (fault != FAULT_PROVIDER_REFUSED_STREAM || (w->refused & asked))
		w->tried |= asked;
	else
		w->refused |= asked;
	load_route(w);
	if (route_lets(&w->route, w->tried, &wait_us)) {
		if (sm_state(&w->sm) == WORK_CALLING)
			work_run(w); /* the slot is kept: the next target at once */
		return;
	}
	forget_tried(w);
	bool lets = route_lets(&w->route, 0, &wait_us);

	if (!lets && !wait_us) {
		wait_us = refused_wait_us(w);
		if (!wait_us) {
			fail(w, fault, message); /* every account that could serve it is out */
			return;
		}
	}
	us = back_off_us(w, o->retry_after_ms);
	if (!lets && is_full(w, 0)) {
		wait_us = 0; /* it looks again after its own pause, and may wait for room then */
		if (is_full(w, asked))
			us = back_off_us(w, -1);
	}
	if (wait_us > us)
		work_back_off(w, wait_us, retry == FAULT_WAIT ? "limit" : "breaker");
	else
		work_back_off(w, us, retry == FAULT_WAIT ? "limit" : "retry");
}

void ask_alert(struct work *w, const struct target *t, enum fault fault)
{
	const char *account = t->account->config->name;

	if (fault != FAULT_PROVIDER_AUTH && fault != FAULT_PROVIDER_QUOTA &&
	    fault != FAULT_PROVIDER_DENIED)
		return;
	log_error(&w->log, "account is out: its key, its credit or the model is refused",
		  F_STR("account", account), F_STR("model", t->model));
	series_add(metric_series(w->pool->metric.refused,
				 (const char *const[]){account, t->model, fault_info(fault)->code}),
		   1);
}

static void on_end(void *ctx)
{
	struct work *w = ctx;
	struct call_outcome o = *call_outcome(w->call);
	size_t index = w->target_index;
	bool text_seen = w->scribe.text.len || w->scribe.part_count;
	char room[SAID_MAX];
	struct str said =
	    said_words(room, o.fault, o.message, o.request_id, w->target->account->config->key);

	o.retry_after_ms = spend_retry_after_ms(w->target, w->reservation, w->request_bytes, &o);
	target_learn(w->target, o.fault, o.retry_after_ms);
	ask_alert(w, w->target, o.fault);
	w->finish_reason = o.finish_reason;
	ask_note_end(w, o.fault);
	if (o.fault && hedge_takes_over(w)) {
		w->tried |= UINT32_C(1) << index;
		return;
	}
	hedge_drop(w);
	if (!o.fault) {
		pool_drop_slot(w->pool, w);
		finish_begin(w, "succeeded", FAULT_NONE, STR(""));
		return;
	}
	log_info(&w->log, "call failed", F_STR("fault", fault_info(o.fault)->code),
		 F_STR("account", w->target->account->config->name), F_INT("tries", w->tries),
		 F_VIEW("request_id", w->calls[w->call_count - 1].request_id));
	try_again(w, &o, said, text_seen);
}

static void first_output(struct work *w)
{
	if (w->output_seen)
		return;
	w->output_seen = true;
	target_answers(w->target, loop_now_us(w->pool->loop) - w->called_us);
	hedge_drop(w);
	if (warm_begins(&w->pool->warm, w->target, w->cache_key, loop_now_us(w->pool->loop)))
		pool_prefix_warm(w->pool, w->cache_key);
}

/* More of it than is kept: its call is ended. */
static bool outgrows(struct work *w, size_t more)
{
	if (w->scribe.text.len + w->scribe.part_bytes + more <= w->pool->options->max_answer_bytes)
		return false;
	call_break(w->call, FAULT_PROVIDER_TOO_BIG, "the answer is longer than max_answer_bytes");
	return true;
}

static void on_text(void *ctx, struct str text)
{
	struct work *w = ctx;

	first_output(w);
	if (outgrows(w, text.len))
		return;
	text = seam_output(w, text, false);
	if (text.len)
		scribe_text(&w->scribe, text);
}

static void on_head(void *ctx)
{
	struct work *w = ctx;

	spend_learn(w, call_outcome(w->call));
}

static void on_part(void *ctx, const char *type, struct str id, struct str name)
{
	struct work *w = ctx;

	first_output(w);
	seam_output(w, STR(""), true);
	if (!outgrows(w, id.len + name.len) && !scribe_part(&w->scribe, type, id, name))
		call_break(w->call, FAULT_PROVIDER_TOO_BIG, "the answer has too many parts");
}

/* ── the call ── */

enum provider_built ask_build(struct work *w, struct target *target,
			      struct provider_request *request, char why[static 128])
{
	const struct job *job = &w->job;
	struct ask ask = {
	    .dialect = "native",
	    .system = job->system.len ? job->system : str_of(w->route.system),
	    .messages = w->messages,
	    .history = w->history,
	    .max_tokens = job->max_tokens ? job->max_tokens : w->route.max_tokens,
	    .max_tokens_unsaid = spend_answer_tokens(w, target),
	    .temperature = job->temperature,
	    .model = target->model,
	    .key = target->account->config->key,
	    .prefix = w->call_goes_on ? buf_str(&w->scribe.text) : STR(""),
	    .prefix_how = target->account->config->prefix,
	    .cache = target->account->config->cache,
	    .conversation = w->head.session.len && w->head.turn,
	};

	if (w->body) {
		ask.dialect = str_is(job->dialect, "openai") ? "openai" : "anthropic";
		ask.request = w->body;
	}
	return target->account->provider->build(&ask, request, why);
}

const struct call_ops ask_ops = {.part = on_part, .text = on_text, .head = on_head, .end = on_end};

static void begin(struct work *w, struct target *target, const struct provider_request *request)
{
	struct pool *pool = w->pool;
	uint64_t now = loop_wall_ms(pool->loop);

	if (w->anew || (w->goes_on && !w->call_goes_on)) {
		w->anew = false;
		w->goes_on = false;
		w->attempt += !PLANTED(ATTEMPT_KEPT);
		scribe_begin(&w->scribe, w->attempt);
	}
	w->target = target;
	w->request_bytes = request->body.len;
	w->short_of = 0;
	w->too_big = false;
	w->probe = target_asked(target);
	w->called_us = loop_now_us(pool->loop);
	w->output_seen = false;
	w->tries++;
	work_call_add(w, &(struct work_call){
			     .provider = target->account->config->kind,
			     .account = target->account->config->name,
			     .model = target->model,
			     .attempt = w->attempt,
			     .started_ms = now,
			     .usage = {.input_tokens = past_tokens(request->body.len)},
			 });
	w->seam_due = false;
	if (w->goes_on)
		seam_begin(w);
	w->goes_on = false;
	if (!w->picked_up_ms) {
		w->picked_up_ms = now;
		series_observe_us(metric_one(pool->metric.pickup, lane_name(w->lane->lane)),
				  loop_fresh_us(pool->loop) - w->taken_us);
	}
	if (!w->run_from_ms)
		w->run_from_ms = now;
	work_time(w);
	/* A background call that ends before it is due is written with its result. */
	if (w->lane->lane == LANE_BACKGROUND)
		timer_set(&w->call_due, CALL_DUE_US);
	else
		ask_say_call(w);
	room_leave(w);
	w->call = call_open(pool->loop, target, request, &ask_ops, w, &w->log);
	if (!request->local)
		hedge_later(w);
}

void ask_spent(struct work *w, const struct provider_request *request)
{
	if (!waits_for_lease(w, w->reserved_for))
		begin(w, w->reserved_for, request);
}

/* What is reserved already is used, where it may be; where the budgets of all that are left are short, the one with the shortest line is
 * waited for. */
static struct target *choose(struct work *w, uint32_t skip, uint64_t *ret_wait_us)
{
	int reserved = w->reservation->state == RESERVATION_OURS
			   ? route_lets_this(&w->route, w->reserved_for, skip)
			   : -1;

	if (reserved >= 0) {
		w->target_index = (size_t)reserved;
		return w->reserved_for;
	}
	if (w->short_of == SHORT_OF_ALL) {
		struct target *target = spend_shortest(w, skip, &w->target_index);

		if (target)
			return target;
	}
	return route_choose(&w->route, skip, loop_rand(w->pool->loop), &w->target_index,
			    ret_wait_us);
}

/* The next target outside of @skip that can be asked, which grows by those that cannot. NULL: none now. */
static struct target *pick(struct work *w, bool goes_on, uint32_t *skip,
			   struct provider_request *request, char why[static 128],
			   uint64_t *ret_wait_us)
{
	uint32_t short_of = w->short_of == SHORT_OF_ALL ? 0 : w->short_of;
	struct target *target;

	w->call_goes_on = goes_on;
	while ((target = choose(w, *skip | short_of, ret_wait_us))) {
		if (ask_build(w, target, request, why) == PROVIDER_BUILT)
			return target;
		provider_request_fini(request);
		*skip |= UINT32_C(1) << w->target_index;
		if (!goes_on)
			w->unfit |= UINT32_C(1) << w->target_index;
	}
	return NULL;
}

/* One that goes on with the text: rather another, else the one that was cut, where it is worth it. */
static struct target *pick_to_go_on(struct work *w, struct provider_request *request)
{
	uint32_t skip = w->tried, cannot;
	struct target *target;
	uint64_t wait_us;
	char why[128];

	target = pick(w, true, &skip, request, why, &wait_us);
	if (target || !w->goes_on_here)
		return target;
	cannot = skip & ~w->tried;
	return pick(w, true, &cannot, request, why, &wait_us);
}

/* The next target with its request; where the budgets of all that are left are short, the first of them is waited for. */
static struct target *pick_any(struct work *w, struct provider_request *request,
			       char why[static 128], uint64_t *ret_wait_us)
{
	struct target *target = NULL;

	for (;;) {
		if (w->goes_on)
			target = pick_to_go_on(w, request);
		if (!target)
			target = pick(w, false, &w->tried, request, why, ret_wait_us);
		if (target || !w->short_of || w->short_of == SHORT_OF_ALL)
			return target;
		w->short_of = SHORT_OF_ALL;
	}
}

/* Another job fills the provider's cache with what this one begins with, and nobody watches. */
static bool waits_for_prefix(struct work *w, const struct target *target,
			     const struct provider_request *request)
{
	uint64_t wait_us;

	w->cache_key = request->cache_key;
	if (w->lane->lane == LANE_INTERACTIVE || w->reservation->state == RESERVATION_OURS ||
	    warm_asks(&w->pool->warm, target, request->cache_key, loop_now_us(w->pool->loop),
		      &wait_us))
		return false;
	work_back_off(w, wait_us, "order");
	return true;
}

/* Above a limit that was learned: it is asked again now and then, since the provider may say a higher one before that ages. */
static void wait_for_limit(struct work *w, uint64_t now_us)
{
	uint64_t at_us = w->later_us > now_us ? w->later_us : now_us;
	uint64_t us = at_us - now_us < LATER_MOST_US ? at_us - now_us : LATER_MOST_US;

	forget_tried(w);
	work_back_off(w, us, "budget");
	if (sm_state(&w->sm) == WORK_BACKOFF)
		w->waits_until_us = at_us; /* which is what its followers hear */
}

/* Nobody can be asked now: it waits for whoever can be first, or has failed. @breaker_us: until a breaker may let it, 0: none will. */
static void none_left(struct work *w, uint64_t breaker_us, const char *why)
{
	uint64_t now = loop_now_us(w->pool->loop), us = breaker_us;
	bool failed = (w->tried & ~w->unfit) != 0; /* one was asked: it may be well again */

	if (is_full(w, w->tried)) {
		forget_tried(w);
		wait_for_room(w, failed ? back_off_us(w, -1) + 1 : us);
		return;
	}
	if (failed && !us)
		us = back_off_us(w, -1) + 1;
	if (w->later_us && (!us || w->later_us < now + us)) {
		wait_for_limit(w, now);
		return;
	}
	if (!us && !why[0] && !w->too_big)
		us = refused_wait_us(w);
	if (us) {
		forget_tried(w);
		work_back_off(w, us, failed && !breaker_us ? "retry" : "breaker");
	} else if (w->too_big) {
		fail(w, FAULT_PROVIDER_TOO_BIG,
		     STR("the request is above the share of the quota that its lane may use"));
	} else {
		fail(w, why[0] ? FAULT_PROVIDER_BAD_REQUEST : FAULT_NO_TARGET, str_of(why));
	}
}

void work_run(struct work *w)
{
	struct provider_request request;
	struct target *target;
	uint64_t wait_us = 0;
	char why[128] = "";

	room_leave(w);
	if (work_is_late(w)) { /* this process stood still */
		work_stop(w, FAULT_EXPIRED);
		return;
	}
	if (sm_state(&w->sm) == WORK_SLOT) {
		sm_move(&w->sm, WORK_CALLING);
		if (w->reservation->state != RESERVATION_OURS)
			w->short_of = 0;
	}
	load_route(w);
	/* An owner before may have left no room for one more. */
	if (w->call_count == WORK_CALLS_MAX)
		retry_forget_oldest(w);
	if (w->call_count == WORK_CALLS_MAX) {
		fail(w, FAULT_TRIES_EXHAUSTED, STR(""));
		return;
	}
	target = pick_any(w, &request, why, &wait_us);
	if (target && w->goes_on && !w->call_goes_on && seam_or_end(w)) {
		provider_request_fini(&request);
		if (is_full(w, w->tried)) /* one of these may be able to */
			wait_for_room(w, ROUTE_FULL_US);
		else
			fail(w, FAULT_PROVIDER_CUT, STR("no other provider goes on with its text"));
	} else if (target && waits_for_prefix(w, target, &request)) {
		provider_request_fini(&request);
	} else if (target && waits_for_lease(w, target)) {
		provider_request_fini(&request);
	} else if (target) {
		room_promise(w, target->account);
		if (spend_ask(w, target, &request) == SPEND_GO)
			begin(w, target, &request);
		provider_request_fini(&request);
	} else {
		none_left(w, wait_us, why);
	}
}
