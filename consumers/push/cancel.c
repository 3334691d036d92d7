/* Op cancel: the wish is written, who holds the job is told; its end comes as the job's own fault. */
#include <stdio.h>

#include "consumers/push/session.h"
#include "lib/base/mem.h"
#include "lib/relay/follow.h"
#include "schemas/keys.h"

struct cancel {
	struct list link;
	struct session *session;
	char job[OP_ID_MAX + 1];
	struct redis_request *request;
	struct relay_lookup *lookup;
};

static void cancel_free(struct cancel *c)
{
	if (c->request)
		redis_cancel(c->request);
	relay_lookup_cancel(c->lookup);
	list_remove(&c->link);
	mem_free(c);
}

static void refuse(struct cancel *c, enum fault fault, const char *message)
{
	session_refuse(c->session, &(struct frame_refusal){
				       .fault = fault, .job = str_of(c->job), .message = message});
	cancel_free(c);
}

/* Neither Redis nor PostgreSQL has it: there is none where Redis has forgotten nothing that may have been it. */
static void on_epoch(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct cancel *c = ctx;

	c->request = NULL;
	if (relay_is_none(c->session->push->relay, str_of(c->job), result, value))
		refuse(c, FAULT_NOT_FOUND, "There is no such job.");
	else
		refuse(c, FAULT_STATE_UNKNOWN, NULL);
}

static void on_looked_up(void *ctx, bool sure, const struct result *result, int64_t total)
{
	struct cancel *c = ctx;
	const char *bound = c->session->bound;

	(void)total;
	c->lookup = NULL;
	if (result && bound[0] && !str_is(result->session, bound))
		refuse(c, FAULT_NOT_FOUND, "There is no such job.");
	else if (result)
		refuse(c, FAULT_TERMINAL, NULL);
	else if (!sure)
		refuse(c, FAULT_STATE_UNKNOWN, NULL);
	else
		c->request = redis_ask_epoch(c->session->push->redis, str_of(c->job), on_epoch, c);
}

static void on_wish(void *ctx, enum redis_result result, struct str state, struct str worker)
{
	struct cancel *c = ctx;
	struct session *s = c->session;

	c->request = NULL;
	if (result != REDIS_OK) {
		refuse(c, FAULT_STATE_UNKNOWN, NULL);
	} else if (!state.len) {
		c->lookup = relay_piece(s->push->relay, str_of(c->job), str_of(s->who.org), 0, 0,
					on_looked_up, c);
	} else if (str_is(state, "refused")) {
		refuse(c, FAULT_NOT_FOUND, "There is no such job.");
	} else if (state_terminal(state) || str_is(state, "finishing")) {
		refuse(c, FAULT_TERMINAL, NULL);
	} else {
		state_tell_wish(s->push->redis, str_of(c->job), worker,
				loop_wall_ms(s->push->loop));
		cancel_free(c);
	}
}

void cancel_begin(struct session *s, const struct op *op)
{
	struct cancel *c = mem_new(struct cancel);

	c->session = s;
	list_push_back(&s->cancels, &c->link);
	snprintf(c->job, sizeof(c->job), "%.*s", STR_FMT(op->id));
	if (!id_is(op->id, "job")) {
		refuse(c, FAULT_NOT_FOUND, "There is no such job.");
		return;
	}
	c->request = state_wish_within(s->push->redis, str_of(c->job), str_of(s->who.org),
				       str_of(s->bound), on_wish, c);
}

void cancel_quiet(struct session *s)
{
	struct cancel *c;

	while ((c = list_first(&s->cancels, struct cancel, link)))
		cancel_free(c);
}
