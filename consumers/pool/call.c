#include "consumers/pool/call.h"

#include <string.h>

#include "consumers/pool/route.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/sm.h"
#include "lib/net/client.h"
#include "lib/net/loop.h"
#include "lib/svc/config.h"

/* A vendor that thinks in silence may send events without output (Anthropic's ping); so often the clock of silence then runs out at
 * last. Comments are a proxy's word, and extend nothing. */
#define SILENCE_WITH_EVENTS 4

/* How long the words of a refusal are waited for: where the status says it all, and where it does not. They mostly come with it. */
#define REFUSAL_US (250 * US_PER_MS)
#define REFUSAL_UNSAID_US (2000 * US_PER_MS)

enum call_state { CALL_SENDING, CALL_REFUSED, CALL_WAITING, CALL_STREAMING, CALL_ENDED };

static const struct sm_state states[] = {
    [CALL_SENDING] = {"sending", SM(CALL_REFUSED) | SM(CALL_WAITING) | SM(CALL_ENDED)},
    [CALL_REFUSED] = {"refused", SM(CALL_ENDED)},
    [CALL_WAITING] = {"waiting", SM(CALL_STREAMING) | SM(CALL_ENDED)},
    [CALL_STREAMING] = {"streaming", SM(CALL_ENDED)},
    [CALL_ENDED] = {"ended", 0},
};

struct call {
	struct sm sm;
	struct log log;
	struct loop *loop;
	const struct config_account *account;
	struct client_call *exchange;
	struct answer *answer;
	struct timer clock; /* the nearest of headers, a refusal's words, first token, silence */
	struct timer whole;
	struct task ending;
	uint64_t refused_us;	 /* its status came, and was no 200 */
	uint64_t last_output_us; /* text or a part */
	uint64_t last_event_us;	 /* or anything that the vendor says */
	struct call_outcome outcome;
	const struct call_ops *ops;
	void *ctx;
};

static void call_end(struct call *call, enum fault fault, struct str message)
{
	const struct answer_outcome *seen = answer_outcome(call->answer);

	if (sm_state(&call->sm) == CALL_ENDED)
		return;
	call->outcome.fault = fault;
	call->outcome.message = message;
	call->outcome.retry_after_ms = seen->retry_after_ms;
	call->outcome.finish_reason = seen->finish_reason;
	call->outcome.usage = seen->usage;
	call->outcome.request_id = seen->request_id;
	call->outcome.begun = seen->begun;
	timer_stop(&call->clock);
	timer_stop(&call->whole);
	if (call->exchange)
		client_cancel(call->exchange);
	call->exchange = NULL;
	sm_move(&call->sm, CALL_ENDED);
	task_post(&call->ending);
}

/* The answer is whole: its stream may end in its own time, so that the connection stays good. */
static void complete(struct call *call)
{
	if (call->exchange)
		client_release(call->exchange);
	call->exchange = NULL;
	call_end(call, FAULT_NONE, STR(""));
}

/* The answer says how it stands; ends the call where that is decided. */
static void look(struct call *call)
{
	const struct answer_outcome *seen = answer_outcome(call->answer);

	if (seen->fault)
		call_end(call, seen->fault, seen->message);
	else if (seen->complete)
		complete(call);
}

static void on_part(void *ctx, const char *type, struct str id, struct str name)
{
	struct call *call = ctx;

	if (sm_state(&call->sm) == CALL_ENDED)
		return; /* stopped in the middle of the bytes at hand */
	call->last_output_us = loop_now_us(call->loop);
	call->ops->part(call->ctx, type, id, name);
}

static void on_text(void *ctx, struct str text)
{
	struct call *call = ctx;

	if (sm_state(&call->sm) == CALL_ENDED)
		return;
	if (!call->outcome.first_token_wall_ms)
		call->outcome.first_token_wall_ms = loop_wall_ms(call->loop);
	call->last_output_us = loop_now_us(call->loop);
	call->ops->text(call->ctx, text);
}

/* Until here the client's connect clock ran. */
static void on_sent(void *ctx)
{
	struct call *call = ctx;

	timer_set(&call->clock, call->account->headers_ms * US_PER_MS);
}

static void on_head(void *ctx, int status, const struct http_field *fields, size_t count)
{
	struct call *call = ctx;

	answer_head(call->answer, status, fields, count, loop_wall_ms(call->loop));
	call->outcome.taken = status == 200;
	call->outcome.refused = status != 200;
	if (status != 200) {
		sm_move(&call->sm, CALL_REFUSED);
		call->refused_us = loop_now_us(call->loop);
		timer_set(&call->clock, REFUSAL_US);
	} else {
		sm_move(&call->sm, CALL_WAITING);
		timer_set(&call->clock, call->account->first_token_ms * US_PER_MS);
	}
	call->outcome.rates = answer_outcome(call->answer)->rates;
	if (call->ops->head)
		call->ops->head(call->ctx);
	look(call);
}

static void on_data(void *ctx, struct str bytes)
{
	struct call *call = ctx;
	uint64_t events = answer_outcome(call->answer)->events;

	answer_data(call->answer, bytes);
	if (answer_outcome(call->answer)->events != events)
		call->last_event_us = loop_now_us(call->loop);
	if (sm_state(&call->sm) == CALL_WAITING && answer_outcome(call->answer)->begun) {
		sm_move(&call->sm, CALL_STREAMING);
		timer_set(&call->clock, call->account->silence_ms * US_PER_MS);
	}
	look(call);
}

static void on_end(void *ctx, enum client_end end, const char *detail)
{
	struct call *call = ctx;

	call->exchange = NULL;
	call->outcome.unprocessed = client_end_unprocessed(end);
	switch (end) {
	case CLIENT_DONE:
		answer_end(call->answer);
		look(call);
		return;
	case CLIENT_REFUSED:
		call_end(call, FAULT_PROVIDER_REFUSED_STREAM,
			 str_of("the provider refused the stream"));
		return;
	case CLIENT_CONNECT:
	case CLIENT_TIMEOUT:
	case CLIENT_RESET:
	case CLIENT_CUT:
	case CLIENT_PROTOCOL:
		log_debug(&call->log, "exchange ended", F_STR("end", client_end_name(end)),
			  F_STR("detail", detail));
		if (sm_state(&call->sm) == CALL_REFUSED && answer_hasten(call->answer)) {
			look(call); /* it was understood before it broke */
			return;
		}
		call_end(call,
			 answer_outcome(call->answer)->begun ? FAULT_PROVIDER_CUT
							     : FAULT_PROVIDER_TRANSPORT,
			 str_of(client_end_name(end)));
		return;
	}
}

/* The refusal's body did not end. */
static void on_refusal_clock(struct call *call, uint64_t now)
{
	uint64_t due = call->refused_us + REFUSAL_UNSAID_US;

	if (answer_hasten(call->answer))
		look(call);
	else if (now < due)
		timer_set(&call->clock, due - now);
	else
		call_end(call, FAULT_PROVIDER_SILENT,
			 STR("the words of a refusal did not come in time"));
}

static void on_clock(struct timer *t)
{
	struct call *call = container_of(t, struct call, clock);
	uint64_t now = loop_now_us(call->loop);
	uint64_t silence = call->account->silence_ms * US_PER_MS;
	uint64_t due = call->last_event_us + silence;

	if (sm_state(&call->sm) == CALL_REFUSED) {
		on_refusal_clock(call, now);
		return;
	}
	if (due > call->last_output_us + SILENCE_WITH_EVENTS * silence)
		due = call->last_output_us + SILENCE_WITH_EVENTS * silence;
	if (sm_state(&call->sm) == CALL_STREAMING && now < due) {
		timer_set(&call->clock, due - now);
		return;
	}
	call_end(call, FAULT_PROVIDER_SILENT,
		 sm_state(&call->sm) == CALL_SENDING   ? STR("no answer began in time")
		 : sm_state(&call->sm) == CALL_WAITING ? STR("no token came in time")
						       : STR("the stream fell silent"));
}

static void on_whole(struct timer *t)
{
	struct call *call = container_of(t, struct call, whole);

	call_end(call, FAULT_PROVIDER_SILENT, STR("the call took too long"));
}

static void on_local(struct timer *t)
{
	struct call *call = container_of(t, struct call, clock);

	answer_local(call->answer);
	look(call);
}

static void on_ending(struct task *t)
{
	struct call *call = container_of(t, struct call, ending);

	call->ops->end(call->ctx);
}

struct call *call_open(struct loop *loop, struct target *target,
		       const struct provider_request *request, const struct call_ops *ops,
		       void *ctx, const struct log *log)
{
	static const struct client_ops client_ops = {on_head, on_data, on_end, on_sent};
	struct call *call = mem_new(struct call);
	struct answer_sink sink = {on_part, on_text, call};

	call->loop = loop;
	call->account = target->account->config;
	call->log = log_child(log, "target", call->account->name);
	call->ops = ops;
	call->ctx = ctx;
	sm_init(&call->sm, states, &call->log, "call", CALL_SENDING);
	timer_init(&call->clock, loop, on_clock);
	timer_init(&call->whole, loop, on_whole);
	task_init(&call->ending, loop, on_ending);
	call->answer = target->account->provider->answer_new(&sink);
	if (request->local) {
		timer_init(&call->clock, loop, on_local);
		timer_set(&call->clock, request->local_us);
		return call;
	}
	timer_set(&call->whole, call->account->whole_ms * US_PER_MS);
	call->exchange =
	    client_call(target->account->client, "POST", request->path, request->fields,
			request->field_count, buf_str(&request->body), &client_ops, call);
	return call;
}

void call_receiver(struct call *call, const struct call_ops *ops, void *ctx)
{
	call->ops = ops;
	call->ctx = ctx;
}

void call_stop(struct call *call)
{
	call_end(call, FAULT_CANCELLED, STR(""));
	task_cancel(&call->ending);
}

void call_break(struct call *call, enum fault fault, const char *message)
{
	call_end(call, fault, str_of(message));
}

const struct call_outcome *call_outcome(const struct call *call)
{
	return &call->outcome;
}

void call_free(struct call *call)
{
	if (!call)
		return;
	call_stop(call);
	answer_free(call->answer);
	mem_free(call);
}
