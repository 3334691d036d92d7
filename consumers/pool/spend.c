#include "consumers/pool/spend.h"

#include "consumers/pool/retry.h"
#include "lib/base/clock.h"
#include "lib/svc/config.h"

/* Until a target's answers are known: four bytes of a request are a token, and an answer is of middling length. */
#define INPUT_PER_BYTE 0.25
#define OUTPUT_TOKENS 512
/* Of a new count in the average of a target's. */
#define NEWEST 0.1
/* Told of a move in the line: near its head each, further behind by the sixteenth part. */
#define NEAR 16

/* ── the estimate ── */

static void average(double *average, double newest)
{
	*average = *average > 0 ? *average + (newest - *average) * NEWEST : newest;
}

void spend_expect(const struct target *t, const struct provider_request *request,
		  struct charge *ret_charge)
{
	double per_byte = t->input_per_byte > 0 ? t->input_per_byte : INPUT_PER_BYTE;
	struct charge_estimate e = {
	    .input_tokens = (int64_t)((double)request->body.len * per_byte) + 1,
	    .output_tokens = t->output_tokens > 0 ? (int64_t)t->output_tokens : OUTPUT_TOKENS,
	    .max_tokens = request->max_tokens,
	};

	t->account->provider->charge(&e, ret_charge);
}

/* ── who waits, and for what ── */

/* The target at @index is short: is there another one that might not be? */
static bool others(const struct work *w, size_t index)
{
	uint64_t wait_us;

	return route_lets(&w->route, w->tried | w->short_of | UINT32_C(1) << index, &wait_us);
}

static void forget_request(struct work *w)
{
	provider_request_fini(&w->request_built);
	w->request_built = (struct provider_request){0};
}

/* It waits without a slot; or a tier takes it, where half of its lane's window waits. */
static void stand_in_line(struct work *w)
{
	int64_t ms = w->reservation->estimate_ms > 0 ? w->reservation->estimate_ms : 0;

	forget_request(w);
	pool_drop_slot(w->pool, w);
	w->in_budget_line = true;
	w->said_position = 0;
	if (retry_overflow(w, (uint64_t)ms * US_PER_MS))
		spend_drop(w);
	else
		work_waits(w, "budget");
}

static void moved(struct work *w)
{
	int64_t position = w->reservation->position, said = w->said_position;

	if (!w->in_budget_line)
		stand_in_line(w);
	if (!spend_waits(w))
		return;
	if (position <= NEAR ? position == said : said && said - position < said / NEAR)
		return;
	w->said_position = position;
	if (said)
		work_moved(w);
}

static void on_heard(void *ctx, enum budget_word word)
{
	struct work *w = ctx;
	bool waited = w->in_budget_line;

	switch (word) {
	case BUDGET_MOVED:
		moved(w);
		return;
	case BUDGET_OURS:
		w->in_budget_line = false;
		work_waits(w, NULL);
		if (!waited) {
			sm_move(&w->sm, WORK_CALLING);
			ask_spent(w, &w->request_built);
			forget_request(w);
		} else {
			pool_want_slot(w->pool, w);
		}
		return;
	case BUDGET_SHORT:
		w->short_of |= UINT32_C(1) << w->target_index;
		break;
	case BUDGET_NEVER:
		w->in_budget_line = false;
		w->too_big = true;
		w->tried |= UINT32_C(1) << w->target_index;
		break;
	}
	forget_request(w);
	if (w->slot_held) {
		sm_move(&w->sm, WORK_CALLING);
		work_run(w);
	} else {
		pool_want_slot(w->pool, w);
	}
}

/* ── for ask.c ── */

enum spend spend_ask(struct work *w, struct target *target, struct provider_request *request)
{
	struct budget *budget =
	    target->account->provider->charge
		? budgets_find(w->pool->budgets, target->account->config->name, target->model)
		: NULL;
	struct budget_ask ask = {
	    .lane = w->lane->lane,
	    .tenant = w->head.org,
	    .wait = !others(w, w->target_index),
	    .heard = on_heard,
	    .ctx = w,
	};

	if (w->reservation->state == RESERVATION_OURS) {
		if (w->reservation->budget == budget && w->reserved_for == target &&
		    !budget_stale(w->reservation))
			return SPEND_GO;
		budget_return(w->reservation);
	}
	if (!budget)
		return SPEND_GO;
	spend_expect(target, request, &ask.charge);
	w->reserved_for = target;
	w->request_built = *request;
	*request = (struct provider_request){0};
	w->request_bytes = w->request_built.body.len;
	sm_move(&w->sm, WORK_BUDGET);
	budget_ask(budget, w->reservation, &ask);
	return SPEND_ASKS;
}

struct target *spend_shortest(struct work *w, uint32_t skip, size_t *ret_index)
{
	struct target *best = NULL;
	int64_t shortest = 0;

	for (size_t i = 0; i < w->route.count; i++) {
		struct target *t = w->route.targets[i];

		if (route_lets_this(&w->route, t, skip) < 0)
			continue;

		struct budget *b =
		    budgets_find(w->pool->budgets, t->account->config->name, t->model);
		int64_t ms = b ? budget_expect_ms(b, &w->reservation->charge) : 0;

		if (best && ms >= shortest)
			continue;
		best = t;
		shortest = ms;
		*ret_index = i;
	}
	return best;
}

static void learn_sizes(struct work *w, const struct usage *usage)
{
	if (usage->input_tokens > 0 && w->request_bytes)
		average(&w->target->input_per_byte,
			(double)usage->input_tokens / (double)w->request_bytes);
	if (usage->output_tokens > 0)
		average(&w->target->output_tokens, (double)usage->output_tokens);
}

void spend_settle(struct work *w, const struct call_outcome *o)
{
	struct reservation *r = w->reservation;
	const struct provider *p = w->target->account->provider;
	struct charge real;

	if (!o->fault)
		learn_sizes(w, &o->usage);
	if (r->state != RESERVATION_OURS)
		return;
	if (o->fault == FAULT_PROVIDER_RATE)
		budget_refused(r->budget, o->retry_after_ms);
	if (o->unprocessed) {
		budget_return(r);
		return;
	}
	if (o->fault == FAULT_PROVIDER_RATE &&
	    !o->taken) /* it counts the request, and nothing of it */
		real = (struct charge){.unit = {[CHARGE_REQUESTS] = 1}};
	else
		p->spent(w->target->model, &r->charge, &o->usage, !o->fault, &real);
	budget_settle(r, &real);
}

void spend_drop(struct work *w)
{
	w->in_budget_line = false;
	forget_request(w);
	if (w->reservation->state == RESERVATION_OURS && w->call) {
		struct charge reserved = w->reservation->charge;

		budget_settle(w->reservation, &reserved);
	} else {
		budget_return(w->reservation);
	}
}

void spend_learn(struct work *w, const struct call_outcome *o)
{
	if (w->reservation->state == RESERVATION_OURS)
		budget_learn(w->reservation->budget, &o->rates);
}
