#include "consumers/pool/spend.h"

#include <ctype.h>
#include <string.h>

#include "consumers/pool/retry.h"
#include "lib/base/clock.h"
#include "lib/svc/config.h"

/* Three bytes of a request are a token, or fewer bytes where a target's answers say so: small requests are mostly frame, and what they teach
 * is too little for a long text. */
#define INPUT_PER_BYTE (1 / 3.0)
/* Pictures and other data that stand in a request as base64: so many tokens each, and one for so many bytes. */
#define INLINE_LEAST 1024
#define INLINE_TOKENS 1600
#define INLINE_BYTES 256
/* Until a target's answers are known one is of middling length. */
#define OUTPUT_TOKENS 512
/* The longest answer where the job names none and the target's answers are limited. */
#define OUTPUT_MOST 4096
/* Of a new count in the average of a target's. */
#define NEWEST 0.1
/* Told of a move in the line: near its head each, further behind by the sixteenth part. */
#define NEAR 16

/* ── the estimate ── */

static void average(double *average, double newest)
{
	*average = *average > 0 ? *average + (newest - *average) * NEWEST : newest;
}

static bool is_base64(char c)
{
	return isalnum((unsigned char)c) || (c && strchr("+/-_=\\", c));
}

/* The bytes of @body that are data behind @mark, where they are not a few; *ret_tokens grows by what they cost. A mark has quotes: no text of
 * a client's can hold it. */
static size_t inline_bytes(struct str body, const char *mark, double *ret_tokens)
{
	const char *at = body.ptr, *end = body.ptr + body.len, *from;
	size_t sum = 0, len;

	while (at < end && (at = memmem(at, (size_t)(end - at), mark, strlen(mark)))) {
		at += strlen(mark);
		if (mark[1] == 'u') { /* a URL: the data is behind its comma */
			from = memchr(at, ',', (size_t)(end - at < 128 ? end - at : 128));
			at = from ? from + 1 : at;
		}
		from = at;
		while (at < end && is_base64(*at))
			at++;
		len = (size_t)(at - from);
		if (len < INLINE_LEAST)
			continue;
		sum += len;
		*ret_tokens += INLINE_TOKENS + (double)len / INLINE_BYTES;
	}
	return sum;
}

static int64_t input_tokens(const struct target *t, struct str body)
{
	double per_byte = t->input_per_byte > INPUT_PER_BYTE ? t->input_per_byte : INPUT_PER_BYTE;
	double tokens = 1;
	size_t data = 0;

	if (body.len > INLINE_LEAST)
		data = inline_bytes(body, "\"data\":\"", &tokens) +
		       inline_bytes(body, "\"url\":\"data:", &tokens);
	return (int64_t)(tokens + (double)(body.len - data) * per_byte);
}

void spend_expect(const struct target *t, const struct provider_request *request,
		  struct charge *ret_charge)
{
	struct charge_estimate e = {
	    .input_tokens = input_tokens(t, buf_str(&request->body)),
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

/* Its time running stands still there. */
static void leave_line(struct work *w)
{
	uint64_t now = loop_wall_ms(w->pool->loop);

	if (w->in_budget_line && w->run_from_ms && now > w->line_from_ms)
		w->run_from_ms += now - w->line_from_ms;
	w->in_budget_line = false;
}

/* It waits without a slot; or a tier takes it, where half of its lane's window waits. */
static void stand_in_line(struct work *w)
{
	int64_t ms = w->reservation->estimate_ms > 0 ? w->reservation->estimate_ms : 0;

	forget_request(w);
	pool_drop_slot(w->pool, w);
	w->in_budget_line = true;
	w->line_from_ms = loop_wall_ms(w->pool->loop);
	work_time(w);
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
	if (load_is_stale(w)) {
		spend_reconfigured(w); /* it changed while this was asked */
		if (!spend_waits(w))
			return;
	}
	if (position <= NEAR ? position == said : said && said - position < said / NEAR)
		return;
	w->said_position = position;
	if (said)
		work_moved(w);
}

/* The target that was asked for is none for @w, as things are. */
static void unfit(struct work *w)
{
	leave_line(w);
	w->tried |= UINT32_C(1) << w->target_index;
	w->unfit |= UINT32_C(1) << w->target_index;
}

static void later(struct work *w, uint64_t at_us)
{
	if (!w->later_us || at_us < w->later_us)
		w->later_us = at_us;
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
		leave_line(w);
		work_waits(w, NULL);
		if (waited) {
			pool_want_slot(w->pool, w);
			return;
		}
		if (load_is_stale(w))
			break; /* the request has a key in it: it is built anew */
		sm_move(&w->sm, WORK_CALLING);
		ask_spent(w, &w->request_built);
		forget_request(w);
		return;
	case BUDGET_SHORT:
		w->short_of |= UINT32_C(1) << w->target_index;
		break;
	case BUDGET_LATER:
		unfit(w);
		later(w, loop_now_us(w->pool->loop) +
			     (uint64_t)w->reservation->estimate_ms * US_PER_MS);
		break;
	case BUDGET_NEVER:
		unfit(w);
		w->too_big = true;
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

static struct budget *budget_of(const struct work *w, const struct target *target)
{
	return target->account->provider->charge
		   ? budgets_find(w->pool->budgets, target->account->config->name, target->model)
		   : NULL;
}

int64_t spend_answer_tokens(const struct work *w, const struct target *target)
{
	const struct budget *budget = budget_of(w, target);
	int64_t usual = w->route.max_tokens ? w->route.max_tokens : OUTPUT_MOST;

	return budget ? budget_answer_tokens(budget, usual) : 0;
}

enum spend spend_ask(struct work *w, struct target *target, struct provider_request *request)
{
	struct budget *budget = budget_of(w, target);
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

/* Sooner is what is done anyway where nothing is said (budget.h, breaker.h). */
#define REFILL_LEAST_MS 1000

int64_t spend_retry_after_ms(const struct target *t, const struct reservation *r,
			     size_t request_bytes, const struct call_outcome *o)
{
	struct charge_estimate e = {
	    .input_tokens = (int64_t)(INPUT_PER_BYTE * (double)request_bytes),
	    .output_tokens = t->output_tokens > 0 ? (int64_t)t->output_tokens : OUTPUT_TOKENS,
	};
	struct charge charge = r->charge;
	int64_t ms;

	if (o->fault != FAULT_PROVIDER_RATE || o->retry_after_ms >= 0 ||
	    !t->account->provider->charge)
		return o->retry_after_ms;
	if (r->state != RESERVATION_OURS)
		t->account->provider->charge(&e, &charge);
	ms = provider_refill_ms(&o->rates, &charge);
	return ms > REFILL_LEAST_MS ? ms : -1;
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
		budget_refused(r->budget, spend_retry_after_ms(w->target, r, w->request_bytes, o));
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
	leave_line(w);
	forget_request(w);
	if (w->reservation->state == RESERVATION_OURS && w->call) {
		struct charge reserved = w->reservation->charge;

		budget_settle(w->reservation, &reserved);
	} else {
		budget_return(w->reservation);
	}
}

void spend_reconfigured(struct work *w)
{
	struct routes *old = routes_ref(w->routes);
	struct route before = w->route;
	bool added = false;

	load_route(w);
	for (size_t i = 0; i < w->route.count; i++)
		added |= route_place(&before, w->route.targets[i]) < 0;
	routes_unref(old);
	if (w->reserved_for && !added && budget_of(w, w->reserved_for) == w->reservation->budget)
		return;
	spend_drop(w);
	pool_want_slot(w->pool, w);
}

void spend_learn(struct work *w, const struct call_outcome *o)
{
	if (w->reservation->state == RESERVATION_OURS)
		budget_learn(w->reservation->budget, &o->rates);
}
