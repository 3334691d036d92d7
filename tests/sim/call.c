#include <stdio.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "tests/sim/answer.h"
#include "tests/sim/sim.h"

/* What one step of one call writes at most, over all choices; the rest follows at the next tick. */
#define TOKENS_PER_STEP 256
#define JOURNAL_TEXT 80

static void call_step(struct sim_call *call);

/* ---- the wheel ---- */

static uint64_t token_due_us(const struct sim_call *call, uint64_t token)
{
	if (call->how.rate <= 0)
		return call->first_us;
	return call->first_us + (uint64_t)((double)token * US_PER_S / call->how.rate);
}

/* Into the slot at whose tick the next token is due; what is farther than a turn of the wheel is looked at again. */
static void wheel_add(struct sim_call *call)
{
	struct sim *sim = call->sim;
	uint64_t slot = (token_due_us(call, call->sent) + SIM_TICK_US - 1) / SIM_TICK_US;
	uint64_t now = loop_now_us(sim->loop);
	if (sim->in_slots++ == 0)
		sim->slot = now / SIM_TICK_US;
	if (slot <= sim->slot)
		slot = sim->slot + 1;
	if (slot >= sim->slot + SIM_SLOTS)
		slot = sim->slot + SIM_SLOTS - 1;
	list_push_back(&sim->slots[slot % SIM_SLOTS], &call->slot);
	call->state = SIM_CALL_PACED;
	if (!timer_is_set(&sim->tick)) {
		uint64_t next = (now / SIM_TICK_US + 1) * SIM_TICK_US;
		timer_set(&sim->tick, next - now);
	}
}

static void wheel_remove(struct sim_call *call)
{
	if (!list_linked(&call->slot))
		return;
	list_remove(&call->slot);
	call->sim->in_slots--;
}

static void on_tick(struct timer *t)
{
	struct sim *sim = container_of(t, struct sim, tick);
	uint64_t now = loop_now_us(sim->loop);
	uint64_t last = now / SIM_TICK_US;
	if (last > sim->slot + SIM_SLOTS)
		sim->slot = last - SIM_SLOTS;
	while (sim->slot < last) {
		struct list due;
		sim->slot++;
		struct list *head = &sim->slots[sim->slot % SIM_SLOTS];
		list_init(&due);
		while (!list_empty(head)) {
			struct sim_call *call = list_pop_front(head, struct sim_call, slot);
			list_push_back(&due, &call->slot);
		}
		while (!list_empty(&due)) {
			struct sim_call *call = list_first(&due, struct sim_call, slot);
			wheel_remove(call);
			call_step(call);
		}
	}
	if (sim->in_slots && !timer_is_set(&sim->tick))
		timer_set(&sim->tick, (last + 1) * SIM_TICK_US - now);
}

void sim_wheel_init(struct sim *sim)
{
	for (size_t i = 0; i < SIM_SLOTS; i++)
		list_init(&sim->slots[i]);
	timer_init(&sim->tick, sim->loop, on_tick);
}

/* ---- the end of a call ---- */

/* One line: begun and over (ms since 1970), the model, what became of it, tokens sent, and how the last user message
 * begins. */
static void journal_write(const struct sim_call *call, const char *what)
{
	struct sim *sim = call->sim;
	char text[JOURNAL_TEXT + 1];
	size_t n = call->ask.last_user.len < JOURNAL_TEXT ? call->ask.last_user.len : JOURNAL_TEXT;

	for (size_t i = 0; i < n; i++)
		text[i] = (unsigned char)call->ask.last_user.ptr[i] < ' '
			      ? ' '
			      : call->ask.last_user.ptr[i];
	text[n] = '\0';
	fprintf(sim->journal, "%llu\t%llu\t%s\t%s\t%llu\t%s\n", (unsigned long long)call->begun_ms,
		(unsigned long long)loop_wall_ms(sim->loop), call->model->name, what,
		(unsigned long long)call->sent, text);
}

static void call_over(struct sim_call *call, uint64_t *count, const char *what)
{
	struct sim *sim = call->sim;
	call->state = SIM_CALL_OVER;
	wheel_remove(call);
	timer_stop(&call->timer);
	(*count)++;
	sim->open_calls--;
	call->model->tokens += call->sent * call->ask.choices;
	if (sim->journal)
		journal_write(call, what);
	series_add(metric_series(sim->calls, (const char *const[]){call->model->name, what}), 1);
	series_add(metric_one(sim->tokens, call->model->name),
		   (double)(call->sent * call->ask.choices));
	series_set(metric_only(sim->active), (double)sim->open_calls);
	http_set_ctx(call->req, NULL);
}

void sim_call_gone(struct sim_call *call)
{
	call_over(call, &call->model->cancelled, "cancelled");
}

static void call_fail_status(struct sim_call *call, unsigned status)
{
	struct sim_error error;
	struct http_req *req = call->req;
	sim_wire_status(call->dialect, status, &error);
	if (call->how.retry_ms)
		sim_retry_fields(req, call->dialect, call->how.retry_ms * US_PER_MS);
	call_over(call, &call->model->failed, "failed");
	sim_answer_error_as(call->sim, req, call->dialect, &error, call->request_id);
}

static void call_cut(struct sim_call *call)
{
	struct http_req *req = call->req;
	call_over(call, &call->model->failed, "failed");
	http_abort(req);
}

/* ---- streaming ---- */

/* True where a directive ends or halts the stream before the next token; what there is to write stands in out. */
static bool call_halts(struct sim_call *call, struct buf *out)
{
	struct http_req *req = call->req;
	const struct sim_directive *how = &call->how;
	if (call->sent == how->stall_at && !call->stalled) {
		call->stalled = true;
		call->state = SIM_CALL_SILENT;
		http_stream_write(req, buf_str(out));
		if (how->stall_ms)
			timer_set(&call->timer, how->stall_ms * US_PER_MS);
		return true;
	}
	if (call->sent != how->fail_at && call->sent != how->cut_at && call->sent != how->end_at)
		return false;
	if (call->sent == how->fail_at)
		sim_wire_fail(call, out);
	if (out->len)
		http_stream_write(req, buf_str(out));
	if (call->sent == how->cut_at) {
		/* What was written leaves first. */
		call->state = SIM_CALL_CUTTING;
		timer_set(&call->timer, SIM_TICK_US);
		return true;
	}
	call_over(call, &call->model->failed, "failed");
	http_stream_end(req);
	return true;
}

/* Writes the tokens that are due, and what comes of it. */
static void call_step(struct sim_call *call)
{
	struct buf *out = &call->sim->out;
	struct http_req *req = call->req;
	uint64_t now = loop_now_us(call->sim->loop);
	uint64_t begun = call->sent;
	buf_reset(out);
	while (call->sent < call->total &&
	       (call->sent - begun) * call->ask.choices < TOKENS_PER_STEP &&
	       token_due_us(call, call->sent) <= now) {
		if (call_halts(call, out))
			return;
		for (unsigned i = 0; i < call->ask.choices; i++)
			sim_wire_token(call, i, sim_answer_next(&call->answers[i]), out);
		call->sent++;
	}
	sim_limit_made(call->sim, call->limit, (call->sent - begun) * call->ask.choices);
	if (call->sent == call->total) {
		if (call_halts(call, out))
			return;
		sim_wire_end(call, out);
		http_stream_write(req, buf_str(out));
		call_over(call, &call->model->completed, "completed");
		http_stream_end(req);
		return;
	}
	if (out->len && !http_stream_write(req, buf_str(out)))
		call->state = SIM_CALL_FULL;
	else
		wheel_add(call);
}

void sim_call_writable(struct sim_call *call)
{
	if (call->state == SIM_CALL_FULL)
		wheel_add(call);
}

static void call_whole(struct sim_call *call)
{
	struct http_req *req = call->req;
	const struct sim_directive *how = &call->how;
	struct buf *out = &call->sim->out;
	uint64_t total = call->total;
	if (how->stall_at <= total && !call->stalled) {
		call->stalled = true;
		call->state = SIM_CALL_SILENT;
		if (how->stall_ms)
			timer_set(&call->timer, how->stall_ms * US_PER_MS);
		return;
	}
	if (how->cut_at <= total || how->end_at <= total) {
		call_cut(call);
		return;
	}
	if (how->fail_at <= total) {
		call_fail_status(call, call->dialect == SIM_ANTHROPIC ? 529 : 500);
		return;
	}
	call->sent = total;
	sim_limit_made(call->sim, call->limit, total * call->ask.choices);
	buf_reset(out);
	sim_wire_whole(call, out);
	sim_count_status(call->sim, 200);
	call_over(call, &call->model->completed, "completed");
	http_reply(req, 200, "application/json", buf_str(out));
}

static void call_head(struct sim_call *call)
{
	struct buf *out = &call->sim->out;
	if (call->how.status != 200) {
		call_fail_status(call, call->how.status);
		return;
	}
	call->state = SIM_CALL_FIRST;
	uint64_t due = call->first_us;
	if (call->ask.stream) {
		http_add_field(call->req, "cache-control", STR("no-cache"));
		http_stream_begin(call->req, 200, "text/event-stream; charset=utf-8");
		sim_count_status(call->sim, 200);
		buf_reset(out);
		sim_wire_begin(call, out);
		http_stream_write(call->req, buf_str(out));
	} else {
		due = token_due_us(call, call->total);
	}
	uint64_t now = loop_now_us(call->sim->loop);
	timer_set(&call->timer, due > now ? due - now : 0);
}

static void on_timer(struct timer *t)
{
	struct sim_call *call = container_of(t, struct sim_call, timer);
	switch (call->state) {
	case SIM_CALL_HEAD:
		call_head(call);
		break;
	case SIM_CALL_SILENT: /* goes on as if the time had stood still */
		call->first_us += call->how.stall_ms * US_PER_MS;
		if (call->ask.stream)
			call_step(call);
		else
			call_whole(call);
		break;
	case SIM_CALL_FIRST:
		if (call->ask.stream)
			call_step(call);
		else
			call_whole(call);
		break;
	case SIM_CALL_CUTTING:
		call_cut(call);
		break;
	case SIM_CALL_PACED:
	case SIM_CALL_FULL:
	case SIM_CALL_OVER:
		break;
	}
}

static struct sim_model *model_of(struct sim *sim, struct str name)
{
	struct sim_model *model = map_find(&sim->models, name);
	if (model)
		return model;
	model = mem_new(struct sim_model);
	model->name = mem_dup(name.ptr, name.len);
	map_set(&sim->models, name, model);
	return model;
}

void sim_call_begin(struct sim *sim, struct http_req *req, enum sim_dialect dialect,
		    const struct sim_ask *ask, const struct sim_directive *how,
		    struct sim_limit *limit, const char *request_id)
{
	struct sim_call *call = arena_new(http_arena(req), struct sim_call);
	uint64_t now = loop_now_us(sim->loop);
	call->sim = sim;
	call->req = req;
	call->dialect = dialect;
	call->ask = *ask;
	call->how = *how;
	call->limit = limit;
	call->model = model_of(sim, ask->model);
	call->model->begun++;
	call->total = how->tokens;
	if (call->total > ask->max_tokens) {
		call->total = ask->max_tokens;
		call->capped = true;
	}
	call->answers = arena_alloc(http_arena(req), ask->choices * sizeof(*call->answers));
	for (unsigned i = 0; i < ask->choices; i++)
		call->answers[i] = sim_answer_choice(ask->model, ask->last_user, i);
	snprintf(call->request_id, sizeof(call->request_id), "%s", request_id);
	call->begun_ms = loop_wall_ms(sim->loop);
	call->first_us = now + how->ttft_ms * US_PER_MS;
	call->created = (int64_t)(loop_wall_ms(sim->loop) / 1000);
	sim_id(sim, call->id, dialect == SIM_ANTHROPIC ? "msg_01" : "chatcmpl-");
	sim_wire_prepare(call);
	timer_init(&call->timer, sim->loop, on_timer);
	http_set_ctx(req, call);
	sim->open_calls++;
	series_set(metric_only(sim->active), (double)sim->open_calls);
	series_add(metric_series(sim->calls, (const char *const[]){call->model->name, "begun"}), 1);
	call->state = SIM_CALL_HEAD;
	if (how->head_ms)
		timer_set(&call->timer, how->head_ms * US_PER_MS);
	else
		call_head(call);
}
