#include "consumers/pool/hedge.h"

#include <string.h>

#include "consumers/pool/spend.h"
#include "consumers/pool/work.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/svc/config.h"

/* The answer to who may probe a target is here by then; else there is no hedge. */
#define LEASE_US (20 * US_PER_MS)

static struct reservation *its_reservation(struct work *w)
{
	return &w->reserved[w->reservation == &w->reserved[0]];
}

static void count(struct work *w, const char *outcome)
{
	series_add(metric_series(w->pool->metric.hedges,
				 (const char *const[]){w->hedge.entry.account, outcome}),
		   1);
}

static void settle(struct reservation *r, const struct target *t, const struct call_outcome *o)
{
	struct charge real;

	if (r->state != RESERVATION_OURS)
		return;
	if (o->unprocessed) {
		budget_return(r);
		return;
	}
	if (o->fault == FAULT_PROVIDER_RATE)
		budget_refused(r->budget, spend_retry_after_ms(t, r, 0, o));
	if (o->fault == FAULT_PROVIDER_RATE && !o->taken) {
		real = (struct charge){.unit = {[CHARGE_REQUESTS] = 1}};
	} else {
		t->account->provider->spent(t->model, &r->charge, &o->usage, !o->fault, &real);
	}
	budget_settle(r, &real);
}

/* @entry goes into the ledger as overhead, before the line of the call that goes on where there is one. */
static void note(struct work *w, const struct work_call *entry)
{
	struct work_call *last = work_call_add(w, entry);

	last[0] = last[-1];
	last[-1] = *entry;
	if (entry->cost_microusd > 0)
		series_add(
		    metric_series(w->pool->metric.overhead,
				  (const char *const[]){entry->provider, lane_name(w->lane->lane)}),
		    (double)entry->cost_microusd);
}

/* The hedge's own call is over, @as this. */
static void leave(struct work *w, enum fault as)
{
	struct hedge *h = &w->hedge;
	const struct call_outcome *o = call_outcome(h->call);

	h->entry.overhead = true;
	ask_fill(w, &h->entry, o, as);
	settle(its_reservation(w), h->target, o);
	note(w, &h->entry);
	call_free(h->call);
	h->call = NULL;
	target_left(h->target, h->probe);
}

/* It is the work's call from now on. */
static void promote(struct work *w)
{
	struct hedge *h = &w->hedge;

	w->call = h->call;
	h->call = NULL;
	call_receiver(w->call, &ask_ops, w);
	w->target = h->target;
	w->target_index = h->target_index;
	w->probe = h->probe;
	w->called_us = h->called_us;
	w->request_bytes = h->request_bytes;
	w->output_seen = false;
	w->reservation = its_reservation(w);
	h->entry.attempt = w->attempt;
	work_call_add(w, &h->entry);
	ask_say_call(w);
}

/* It was the quicker one: the call that was asked first is overhead. */
static void win(struct work *w)
{
	struct work_call *first = &w->calls[w->call_count - 1];
	const struct call_outcome *o;

	count(w, "won");
	target_late(w->target, loop_now_us(w->pool->loop) - w->called_us);
	call_stop(w->call);
	o = call_outcome(w->call);
	first->overhead = true;
	ask_fill(w, first, o, FAULT_CANCELLED);
	if (first->cost_microusd > 0)
		series_add(
		    metric_series(w->pool->metric.overhead,
				  (const char *const[]){first->provider, lane_name(w->lane->lane)}),
		    (double)first->cost_microusd);
	settle(w->reservation, w->target, o);
	ask_leave(w);
	promote(w);
}

/* ── what its call tells ── */

static void on_part(void *ctx, const char *type, struct str id, struct str name)
{
	win(ctx);
	ask_ops.part(ctx, type, id, name);
}

static void on_text(void *ctx, struct str text)
{
	win(ctx);
	ask_ops.text(ctx, text);
}

static void on_head(void *ctx)
{
	struct work *w = ctx;
	struct reservation *r = its_reservation(w);

	if (r->state == RESERVATION_OURS)
		budget_learn(r->budget, &call_outcome(w->hedge.call)->rates);
}

static void on_end(void *ctx)
{
	struct work *w = ctx;
	const struct call_outcome *o = call_outcome(w->hedge.call);
	enum fault fault = o->fault;

	if (!fault) { /* complete, and without a word */
		win(w);
		ask_ops.end(w);
		return;
	}
	target_learn(
	    w->hedge.target, fault,
	    spend_retry_after_ms(w->hedge.target, its_reservation(w), w->hedge.request_bytes, o));
	ask_alert(w, w->hedge.target, fault);
	w->tried |= UINT32_C(1) << w->hedge.target_index;
	count(w, "failed");
	leave(w, fault);
}

/* ── it begins ── */

static void forget_request(struct hedge *h)
{
	provider_request_fini(&h->request);
	h->request = (struct provider_request){0};
}

static void begin(struct work *w)
{
	static const struct call_ops ops = {
	    .part = on_part, .text = on_text, .head = on_head, .end = on_end};
	struct hedge *h = &w->hedge;
	const struct config_account *account = h->target->account->config;

	h->entry = (struct work_call){
	    .provider = account->kind,
	    .account = account->name,
	    .model = h->target->model,
	    .attempt = w->attempt,
	    .started_ms = loop_wall_ms(w->pool->loop),
	    .usage = {.input_tokens = past_tokens(h->request.body.len)},
	};
	h->called_us = loop_now_us(w->pool->loop);
	h->request_bytes = h->request.body.len;
	h->probe = target_asked(h->target);
	h->call = call_open(w->pool->loop, h->target, &h->request, &ops, w, &w->log);
	log_debug(&w->log, "hedged", F_STR("account", account->name));
	forget_request(h);
}

static void on_heard(void *ctx, enum budget_word word)
{
	struct work *w = ctx;

	if (word == BUDGET_OURS && load_is_stale(w)) {
		hedge_drop(w);
		return;
	}
	if (word == BUDGET_OURS && target_ready(w->hedge.target) &&
	    account_has_room(w->hedge.target->account)) {
		begin(w);
		return;
	}
	if (word == BUDGET_OURS)
		budget_return(its_reservation(w));
	if (word != BUDGET_MOVED)
		forget_request(&w->hedge);
}

/* Whether it may have what it needs, by its own request. */
static bool build(struct work *w)
{
	struct hedge *h = &w->hedge;
	bool goes_on = w->call_goes_on;
	enum provider_built built;
	char why[128];

	w->call_goes_on = false;
	built = ask_build(w, h->target, &h->request, why);
	w->call_goes_on = goes_on;
	if (built == PROVIDER_BUILT && !h->request.local)
		return true;
	forget_request(h);
	return false;
}

static void on_slow(struct timer *t)
{
	struct work *w = container_of(t, struct work, hedge.timer);
	struct hedge *h = &w->hedge;
	struct budget_ask ask = {
	    .lane = w->lane->lane, .tenant = w->head.org, .heard = on_heard, .ctx = w};
	struct budget *budget;
	uint64_t wait_us;

	if (!w->call || h->call || w->call_count + 2 > WORK_CALLS_MAX)
		return;
	if (load_is_stale(w))
		return; /* its route's keys may be none any more */
	h->target = route_choose(&w->route, w->tried | UINT32_C(1) << w->target_index,
				 loop_rand(w->pool->loop), &h->target_index, &wait_us);
	if (!h->target || !build(w))
		return;
	if (!target_ready(h->target)) {
		if (target_asks(h->target)) /* whose probe it may be */
			timer_set(&h->timer, LEASE_US);
		forget_request(h);
		return;
	}
	budget =
	    h->target->account->provider->charge
		? budgets_find(w->pool->budgets, h->target->account->config->name, h->target->model)
		: NULL;
	if (!budget) {
		begin(w);
		return;
	}
	spend_expect(h->target, &h->request, &ask.charge);
	budget_ask(budget, its_reservation(w), &ask);
}

void hedge_init(struct work *w)
{
	timer_init(&w->hedge.timer, w->pool->loop, on_slow);
}

void hedge_later(struct work *w)
{
	if (!w->route.hedge_ms || w->lane->lane != LANE_INTERACTIVE || w->seam_due ||
	    w->route.count < 2)
		return;
	timer_set(&w->hedge.timer, target_slow_us(w->target, w->route.hedge_ms * US_PER_MS));
}

void hedge_drop(struct work *w)
{
	struct hedge *h = &w->hedge;

	timer_stop(&h->timer);
	forget_request(h);
	if (h->call) {
		count(w, "lost");
		call_stop(h->call);
		leave(w, FAULT_CANCELLED);
	}
	budget_return(its_reservation(w));
}

bool hedge_takes_over(struct work *w)
{
	if (!w->hedge.call)
		return false;
	count(w, "won");
	promote(w);
	return true;
}
