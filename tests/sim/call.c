#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "tests/sim/answer.h"
#include "tests/sim/family.h"
#include "tests/sim/sim.h"

/* What one step of one call writes at most, over all choices; the rest follows at the next tick. */
#define TOKENS_PER_STEP 256
#define JOURNAL_TEXT 80
/* RFC 9113, 7 */
#define H2_NO_ERROR 0
#define H2_REFUSED_STREAM 7

static void call_step(struct sim_call *call);
static void call_begun(struct sim_call *call);

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

static void call_charge(struct sim_call *call)
{
	sim_limit_made(call->sim, call->limit, (call->sent - call->charged) * call->ask.choices);
	call->charged = call->sent;
}

static void call_over(struct sim_call *call, uint64_t *count, const char *what)
{
	struct sim *sim = call->sim;
	call_charge(call);
	call->state = SIM_CALL_OVER;
	wheel_remove(call);
	timer_stop(&call->timer);
	timer_stop(&call->piece);
	buf_fini(&call->waiting);
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

static void call_failed(struct sim_call *call)
{
	call_over(call, &call->model->failed, "failed");
}

void sim_call_gone(struct sim_call *call)
{
	call_over(call, &call->model->cancelled, "cancelled");
}

static void call_fail_status(struct sim_call *call, unsigned status)
{
	struct sim_error error;
	struct http_req *req = call->req;
	const char *code = call->how.code;
	sim_wire_status(call->dialect, status, &error);
	if (code[0] && call->dialect == SIM_ANTHROPIC)
		error.detail = code;
	else if (code[0])
		error.code = code;
	if (str_is(str_of(code), "insufficient_quota"))
		error.type = code;
	else if (str_is(str_of(code), "slow_down"))
		error.type = "rate_limit_error";
	if (call->how.retry_ms)
		sim_retry_fields(req, call->dialect, call->how.retry_ms * US_PER_MS);
	call_failed(call);
	sim_answer_error_as(call->sim, req, call->dialect, &error, call->request_id);
}

static unsigned overloaded(const struct sim_call *call)
{
	return call->dialect == SIM_ANTHROPIC ? 529 : 500;
}

/* The end that no client can take for one. */
static void call_cut(struct sim_call *call)
{
	struct http_req *req = call->req;
	enum sim_fault fault = call->last->fault;
	if (sim_directive_undone(&call->how) && !call->begun)
		call_over(call, &call->model->undone, "undone");
	else
		call_failed(call);
	if (fault == SIM_FAULT_FIN)
		http_cut(req, HTTP_CUT_FIN, 0);
	else if (fault == SIM_FAULT_RST)
		http_cut(req, HTTP_CUT_RST, 0);
	else if (fault == SIM_FAULT_NO_ERROR)
		http_cut(req, HTTP_CUT_STREAM, H2_NO_ERROR);
	else if (fault == SIM_FAULT_REFUSED)
		http_cut(req, HTTP_CUT_STREAM, H2_REFUSED_STREAM);
	else if (fault == SIM_FAULT_UNDONE)
		http_cut(req, HTTP_CUT_UNDONE, H2_NO_ERROR);
	else
		http_abort(req);
}

static void call_end(struct sim_call *call)
{
	struct http_req *req = call->req;
	if (call->good)
		call_over(call, &call->model->completed, "completed");
	else
		call_failed(call);
	http_stream_end(req);
}

void sim_call_drained(struct sim_call *call)
{
	if (call->state == SIM_CALL_BREAKING)
		timer_set(&call->timer, SIM_TICK_US);
	else if (call->state == SIM_CALL_ENDING)
		call_end(call);
}

/* Ends once what waits has left: orderly, or as @last says. */
static void call_finish(struct sim_call *call, enum sim_call_state state, struct sim_break *last)
{
	wheel_remove(call);
	timer_stop(&call->timer);
	call->state = state;
	call->last = last;
	if (!call->waiting.len)
		sim_call_drained(call);
}

static void call_silence(struct sim_call *call, const struct sim_break *b)
{
	wheel_remove(call);
	timer_stop(&call->timer);
	call->state = SIM_CALL_SILENT;
	if (b->arg) {
		call->first_us += b->arg * US_PER_MS; /* as if the time stood still */
		timer_set(&call->timer, b->arg * US_PER_MS);
	}
}

/* Bytes between others, wherever those stand. */
static void call_insert(struct sim_call *call, const struct sim_break *b, struct buf *out)
{
	if (b->fault == SIM_FAULT_MALFORMED)
		sim_wire_malformed(call, out);
	else if (b->fault == SIM_FAULT_HUGE)
		sim_wire_huge(call, b->arg, out);
	else if (b->fault == SIM_FAULT_FAIL)
		sim_wire_fail(call, out);
}

bool sim_call_break(struct sim_call *call, struct sim_break *b)
{
	struct buf out = {0};
	b->done = true;
	if (b->fault == SIM_FAULT_STALL) {
		call_silence(call, b);
		return false;
	}
	if (b->fault == SIM_FAULT_GOAWAY) {
		http_goaway(call->req, H2_NO_ERROR);
		return true;
	}
	if (b->at)
		buf_add_text(&out, "\n\n");
	call_insert(call, b, &out);
	if (b->fault == SIM_FAULT_FAIL || b->fault == SIM_FAULT_MALFORMED ||
	    b->fault == SIM_FAULT_HUGE)
		http_stream_write(call->req, buf_str(&out));
	buf_fini(&out);
	if (b->fault == SIM_FAULT_MALFORMED || b->fault == SIM_FAULT_HUGE)
		return true;
	buf_fini(&call->waiting);
	bool ends = b->fault == SIM_FAULT_FAIL || b->fault == SIM_FAULT_END;
	call_finish(call, ends ? SIM_CALL_ENDING : SIM_CALL_BREAKING, b);
	return false;
}

/* ---- streaming ---- */

/* False where the bytes met something that halts the answer. */
static bool call_write(struct sim_call *call, struct buf *out)
{
	enum sim_call_state before = call->state;
	sim_way_write(call, buf_str(out));
	buf_reset(out);
	return call->state == before;
}

/* What goes wrong before the next token; what there is to write stands in @out. False: the answer is halted or over. */
static bool call_token(struct sim_call *call, struct buf *out)
{
	for (unsigned i = 0; i < call->how.count; i++) {
		struct sim_break *b = &call->how.breaks[i];
		if (b->done || b->after != SIM_AFTER_TOKENS || b->at != call->sent)
			continue;
		b->done = true;
		call_insert(call, b, out);
		if (b->fault == SIM_FAULT_MALFORMED || b->fault == SIM_FAULT_HUGE)
			continue;
		if (b->fault == SIM_FAULT_GOAWAY) {
			http_goaway(call->req, H2_NO_ERROR);
			continue;
		}
		bool ends = b->fault == SIM_FAULT_FAIL || b->fault == SIM_FAULT_END;
		if (!call_write(call, out))
			return false;
		if (b->fault == SIM_FAULT_STALL)
			call_silence(call, b);
		else
			call_finish(call, ends ? SIM_CALL_ENDING : SIM_CALL_BREAKING, b);
		return false;
	}
	return true;
}

/* Writes the tokens that are due, and what comes of it. */
static void call_step(struct sim_call *call)
{
	struct buf *out = &call->sim->out;
	uint64_t now = loop_now_us(call->sim->loop);
	uint64_t begun = call->sent;
	buf_reset(out);
	call->state = SIM_CALL_PACED;
	while (call->sent < call->total &&
	       (call->sent - begun) * call->ask.choices < TOKENS_PER_STEP &&
	       token_due_us(call, call->sent) <= now) {
		if (!call_token(call, out))
			return;
		for (unsigned i = 0; i < call->ask.choices; i++)
			sim_wire_token(call, i, sim_answer_next(&call->answers[i]), out);
		call->sent++;
	}
	call_charge(call);
	if (call->sent == call->total) {
		if (!call_token(call, out))
			return;
		sim_wire_end(call, out);
		if (!call_write(call, out))
			return;
		call->good = true;
		call_finish(call, SIM_CALL_ENDING, NULL);
		return;
	}
	if (out->len && !call_write(call, out))
		return;
	if (call->full)
		call->state = SIM_CALL_FULL;
	else
		wheel_add(call);
}

void sim_call_writable(struct sim_call *call)
{
	call->full = false;
	if (call->state == SIM_CALL_FULL)
		wheel_add(call);
}

/* ---- the whole answer at once ---- */

/* What goes wrong with it; false: it is halted or over. *@ret_cut: its JSON breaks off in the middle. */
static bool whole_breaks(struct sim_call *call, bool *ret_cut, uint64_t *ret_pad)
{
	for (unsigned i = 0; i < call->how.count; i++) {
		struct sim_break *b = &call->how.breaks[i];
		if (b->done || b->after != SIM_AFTER_TOKENS || b->at > call->total)
			continue;
		b->done = true;
		if (b->fault == SIM_FAULT_STALL) {
			call_silence(call, b);
			return false;
		}
		if (b->fault == SIM_FAULT_FAIL) {
			call_fail_status(call, overloaded(call));
			return false;
		}
		if (b->fault == SIM_FAULT_GOAWAY) {
			http_goaway(call->req, H2_NO_ERROR);
		} else if (b->fault == SIM_FAULT_MALFORMED || b->fault == SIM_FAULT_END) {
			*ret_cut = true;
		} else if (b->fault == SIM_FAULT_HUGE) {
			*ret_pad = b->arg;
		} else {
			call->last = b;
			call_cut(call);
			return false;
		}
	}
	return true;
}

static bool has_byte_breaks(const struct sim_call *call)
{
	for (unsigned i = 0; i < call->how.count; i++)
		if (call->how.breaks[i].after == SIM_AFTER_BYTES)
			return true;
	return false;
}

static void call_whole(struct sim_call *call)
{
	struct http_req *req = call->req;
	struct buf *out = &call->sim->out;
	bool cut = false;
	uint64_t pad = 0;
	if (!whole_breaks(call, &cut, &pad))
		return;
	call->sent = call->total;
	buf_reset(out);
	if (pad) {
		memset(buf_room(out, pad), ' ', pad);
		buf_added(out, pad);
	}
	sim_wire_whole(call, out);
	struct str body = buf_str(out);
	if (cut)
		body.len = pad + (body.len - pad) / 2;
	sim_count_status(call->sim, 200);
	call->good = !cut;
	call_begun(call);
	if (call->how.bytes || has_byte_breaks(call)) {
		http_stream_begin(req, 200, "application/json");
		call->begun = true;
		call->state = SIM_CALL_FULL; /* nothing of the wheel */
		sim_way_write(call, body);
		if (call->state == SIM_CALL_FULL)
			call_finish(call, SIM_CALL_ENDING, NULL);
		return;
	}
	if (cut)
		call_failed(call);
	else
		call_over(call, &call->model->completed, "completed");
	http_reply(req, 200, "application/json", body);
}

/* ---- the head ---- */

/* What goes wrong as soon as it was asked. False: no head comes, or not yet. */
static bool call_at_once(struct sim_call *call)
{
	struct http_req *req = call->req;
	struct sim_break *b;
	while ((b = sim_directive_at_once(&call->how))) {
		if (b->fault == SIM_FAULT_MALFORMED || b->fault == SIM_FAULT_HUGE) {
			b->after = SIM_AFTER_TOKENS;
			continue;
		}
		if (b->fault == SIM_FAULT_GOAWAY) {
			b->done = true;
			http_goaway(req, H2_NO_ERROR);
			continue;
		}
		if (b->fault == SIM_FAULT_STALL) {
			b->done = true;
			call_silence(call, b);
		} else if (b->fault == SIM_FAULT_FAIL) {
			call_fail_status(call, overloaded(call));
		} else if (b->fault == SIM_FAULT_END) {
			call_failed(call);
			http_reply(req, 200,
				   call->ask.stream ? "text/event-stream; charset=utf-8"
						    : "application/json",
				   STR(""));
		} else {
			call->last = b;
			call_cut(call);
		}
		return false;
	}
	return true;
}

static void call_page(struct sim_call *call)
{
	struct http_req *req = call->req;
	call_failed(call);
	sim_count_status(call->sim, 200);
	http_reply(req, 200, "text/html; charset=utf-8",
		   STR("<!doctype html><html><head><title>Welcome</title></head>"
		       "<body>It works.</body></html>"));
}

struct sim_cache_rules sim_cache_rules_of(enum sim_dialect dialect, struct str model)
{
	if (dialect == SIM_ANTHROPIC)
		return (struct sim_cache_rules){true, sim_family_cache_least(model), SIM_CACHE_US};
	return (struct sim_cache_rules){
	    false, 0, sim_family_tells_writes(model) ? SIM_CACHE_LATER_US : SIM_CACHE_US};
}

/* The answer begins: who asks from now on reads what this one wrote. */
static void call_begun(struct sim_call *call)
{
	struct sim_cache_rules rules = sim_cache_rules_of(call->dialect, call->ask.model);
	sim_cache_begun(&call->sim->cache, call->began_us, call->scope, &call->ask.prefix, &rules,
			&call->use);
}

static void call_head(struct sim_call *call)
{
	struct buf *out = &call->sim->out;
	if (!call_at_once(call))
		return;
	if (call->how.status != 200) {
		call_fail_status(call, call->how.status);
		return;
	}
	if (call->how.page) {
		call_page(call);
		return;
	}
	call->state = SIM_CALL_FIRST;
	uint64_t due = call->first_us;
	if (call->ask.stream) {
		http_add_field(call->req, "cache-control", STR("no-cache"));
		http_stream_begin(call->req, 200, "text/event-stream; charset=utf-8");
		call_begun(call);
		call->begun = true;
		sim_count_status(call->sim, 200);
		buf_reset(out);
		sim_wire_begin(call, out);
		if (!call_write(call, out))
			return;
	} else {
		due = token_due_us(call, call->total);
	}
	uint64_t now = loop_now_us(call->sim->loop);
	timer_set(&call->timer, due > now ? due - now : 0);
}

/* A silence is over. */
static void call_resume(struct sim_call *call)
{
	if (!call->begun && call->ask.stream) {
		call_head(call);
		return;
	}
	call->state = SIM_CALL_FIRST;
	sim_way_resume(call);
	if (call->state != SIM_CALL_FIRST)
		return;
	if (call->ask.stream)
		call_step(call);
	else if (call->begun)
		call_finish(call, SIM_CALL_ENDING, NULL);
	else
		call_whole(call);
}

static void on_timer(struct timer *t)
{
	struct sim_call *call = container_of(t, struct sim_call, timer);
	switch (call->state) {
	case SIM_CALL_HEAD:
		call_head(call);
		break;
	case SIM_CALL_SILENT:
		call_resume(call);
		break;
	case SIM_CALL_FIRST:
		if (call->ask.stream)
			call_step(call);
		else
			call_whole(call);
		break;
	case SIM_CALL_BREAKING:
		call_cut(call);
		break;
	case SIM_CALL_PACED:
	case SIM_CALL_FULL:
	case SIM_CALL_ENDING:
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
		    const struct sim_use *use, struct sim_limit *limit, uint64_t scope,
		    const char *request_id)
{
	struct sim_call *call = arena_new(http_arena(req), struct sim_call);
	uint64_t now = loop_now_us(sim->loop);
	call->sim = sim;
	call->req = req;
	call->dialect = dialect;
	call->ask = *ask;
	call->how = *how;
	call->limit = limit;
	call->use = *use;
	call->scope = scope;
	call->began_us = sim_now_us(sim);
	call->model = model_of(sim, ask->model);
	bool undone = sim_directive_undone(&call->how);
	if (!undone)
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
	sim_way_init(call);
	http_set_ctx(req, call);
	sim->open_calls++;
	series_set(metric_only(sim->active), (double)sim->open_calls);
	if (!undone)
		series_add(
		    metric_series(sim->calls, (const char *const[]){call->model->name, "begun"}),
		    1);
	call->state = SIM_CALL_HEAD;
	if (how->head_ms)
		timer_set(&call->timer, how->head_ms * US_PER_MS);
	else
		call_head(call);
}
