#include "lib/relay/state.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/id.h"
#include "lib/base/mem.h"
#include "schemas/keys.h"
#include "schemas/scripts.h"

#define MAX_ARGS 64

/* Arguments of one script call, with room for numbers as text. Lives on the stack: redis_script copies. */
struct args {
	struct str items[MAX_ARGS];
	size_t count;
	char numbers[16][24];
	size_t number_count;
};

static void arg(struct args *a, struct str value)
{
	must(a->count < MAX_ARGS);
	a->items[a->count++] = value;
}

static void arg_int(struct args *a, int64_t value)
{
	must(a->number_count < countof(a->numbers));
	char *text = a->numbers[a->number_count++];
	int n = snprintf(text, sizeof(a->numbers[0]), "%lld", (long long)value);

	arg(a, (struct str){text, (size_t)n});
}

static void arg_field(struct args *a, const char *name, struct str value)
{
	if (!value.len)
		return;
	arg(a, str_of(name));
	arg(a, value);
}

static void arg_field_int(struct args *a, const char *name, int64_t value)
{
	if (!value)
		return;
	arg(a, str_of(name));
	arg_int(a, value);
}

int64_t state_ttl_ms(int64_t deadline_ms, uint64_t now_wall_ms)
{
	int64_t left = deadline_ms - (int64_t)now_wall_ms;

	return (left > 0 ? left : 0) + STATE_TTL_EXTRA_MS;
}

static struct redis_request *run(struct redis *redis, struct str job, const struct script *script,
				 const struct key *keys, size_t key_count, const struct args *a,
				 redis_typed_fn *done, void *ctx, redis_then_fn *then)
{
	struct str names[2];

	must(key_count <= countof(names));
	for (size_t i = 0; i < key_count; i++)
		names[i] = key_str(&keys[i]);
	return redis_script_typed(redis, job, script, names, key_count, a->items, a->count, done,
				  ctx, then);
}

/* ── replies that are a state ── */

typedef void state_text_fn(void *ctx, enum redis_result result, struct str state);

static void text_done(void *ctx, redis_then_fn *then, enum redis_result result,
		      const struct redis_value *value)
{
	struct str state = STR("");

	if (!then)
		return;
	if (result == REDIS_OK && value->type == REDIS_STR)
		state = value->str;
	else if (result == REDIS_OK)
		result = REDIS_LOST;
	((state_text_fn *)then)(ctx, result, state);
}

struct redis_request *
state_submit(struct redis *redis, const struct job *job, const char *topic, int32_t partition,
	     int64_t offset, uint64_t now_wall_ms,
	     void (*done)(void *ctx, enum redis_result result, struct str state), void *ctx)
{
	struct args a = {0};
	struct key key = key_job(job->id);

	arg_int(&a, state_ttl_ms(job->deadline_ms, now_wall_ms));
	arg_field(&a, "org", job->org);
	arg_field(&a, "kind", job->kind);
	arg_field(&a, "lane", job->lane);
	arg_field(&a, "session", job->session);
	arg_field_int(&a, "turn", job->turn);
	arg_field(&a, "channel", job->channel);
	arg_field_int(&a, "created_ms", job->created_ms);
	arg_field_int(&a, "deadline_ms", job->deadline_ms);
	arg_field(&a, "metadata", job->metadata);
	arg_field(&a, "webhook", job->webhook);
	arg_field(&a, "outbox", job->outbox);
	arg_field(&a, "topic", str_of(topic));
	arg(&a, STR("partition"));
	arg_int(&a, partition);
	arg(&a, STR("offset"));
	arg_int(&a, offset);
	return run(redis, job->id, &script_submit, &key, 1, &a, text_done, ctx,
		   (redis_then_fn *)done);
}

struct redis_request *
state_refuse(struct redis *redis, struct str job, struct str org, int64_t ttl_ms,
	     void (*done)(void *ctx, enum redis_result result, struct str state), void *ctx)
{
	struct args a = {0};
	struct key key = key_job(job);

	arg_int(&a, ttl_ms);
	arg(&a, org);
	return run(redis, job, &script_refuse, &key, 1, &a, text_done, ctx, (redis_then_fn *)done);
}

struct redis_request *state_outbox(struct redis *redis, struct str session, struct str job,
				   int64_t created_ms, int64_t most, int64_t ttl_ms, redis_fn *done,
				   void *ctx)
{
	struct args a = {0};
	struct key key = key_outbox(session);
	struct str name = key_str(&key);

	arg_int(&a, created_ms);
	arg(&a, job);
	arg_int(&a, most);
	arg_int(&a, ttl_ms ? ttl_ms : STATE_OUTBOX_TTL_MS);
	arg(&a, ttl_ms ? STR("") : STR("NX"));
	return redis_script(redis, session, &script_outbox, &name, 1, a.items, a.count, done, ctx);
}

/* ── claims ── */

static const struct {
	const char *word;
	enum claim_verdict verdict;
} verdicts[] = {
    {"run", CLAIM_RUN},
    {"finishing", CLAIM_FINISHING},
    {"held", CLAIM_HELD},
    {"terminal", CLAIM_TERMINAL},
    {"refused", CLAIM_REFUSED},
    {"stale", CLAIM_STALE},
    {"forgotten", CLAIM_FORGOTTEN},
};

typedef void claim_fn(void *ctx, const struct claim *claim);

static void claim_done(void *ctx, redis_then_fn *then, enum redis_result result,
		       const struct redis_value *value)
{
	struct claim claim = {.verdict = CLAIM_UNSURE};
	struct str word, fifth;

	if (result == REDIS_OK && value->type == REDIS_LIST) {
		word = redis_item_str(value, 0);
		fifth = redis_item_str(value, 4);
		for (size_t i = 0; i < countof(verdicts); i++)
			if (str_is(word, verdicts[i].word))
				claim.verdict = verdicts[i].verdict;
		claim.attempt = redis_item_int(value, 1, 0);
		claim.tries = redis_item_int(value, 2, 0);
		claim.cancel = str_is(redis_item_str(value, 3), "cancel");
		claim.died = claim.verdict == CLAIM_RUN && str_is(fifth, "died");
		if (claim.verdict == CLAIM_HELD)
			claim.held_ms = redis_item_int(value, 4, STATE_LEASE_MS);
		claim.state = claim.verdict == CLAIM_TERMINAL ? fifth : STR("");
		claim.result = claim.verdict == CLAIM_FINISHING ? fifth : STR("");
		if (claim.verdict == CLAIM_RUN) {
			claim.calls = redis_item_str(value, 5);
			claim.bytes = redis_item_int(value, 6, 0);
			claim.deaths = redis_item_int(value, 7, 0);
			claim.picked_up_ms = redis_item_int(value, 8, 0);
			claim.first_token_ms = redis_item_int(value, 9, 0);
			claim.parts = redis_item_str(value, 10);
		}
	}
	((claim_fn *)then)(ctx, &claim);
}

struct redis_request *state_claim(struct redis *redis, const struct claim_request *request,
				  void (*done)(void *ctx, const struct claim *claim), void *ctx)
{
	const struct job_head *head = request->head;
	struct args a = {0};
	struct key key = key_job(head->job);

	arg(&a, request->fence);
	arg(&a, request->worker);
	arg(&a, request->incarnation);
	arg_int(&a, STATE_LEASE_MS);
	arg_int(&a, state_ttl_ms(head->deadline_ms, request->now_wall_ms));
	arg_int(&a, head->copy);
	arg_int(&a, head->tries);
	/* A job that is submitted again is as old as its id. */
	arg_int(&a, (int64_t)id_wall_ms(head->job));
	arg_int(&a, (int64_t)request->epoch_ms);
	arg(&a, request->held_fence);
	arg_int(&a, request->held_attempt);
	arg(&a, request->forgotten_too ? STR("1") : STR(""));
	arg_field(&a, "org", head->org);
	arg_field(&a, "kind", head->kind);
	arg_field(&a, "lane", request->lane);
	arg_field(&a, "session", head->session);
	arg_field_int(&a, "turn", head->turn);
	arg_field(&a, "channel", request->channel);
	arg_field_int(&a, "created_ms", head->created_ms);
	arg_field_int(&a, "deadline_ms", head->deadline_ms);
	arg_field(&a, "topic", request->topic);
	arg(&a, STR("partition"));
	arg_int(&a, request->partition);
	arg(&a, STR("offset"));
	arg_int(&a, request->offset);
	return run(redis, head->job, &script_claim, &key, 1, &a, claim_done, ctx,
		   (redis_then_fn *)done);
}

/* ── fenced writes ── */

static void held_done(void *ctx, redis_then_fn *then, enum redis_result result,
		      const struct redis_value *value)
{
	enum state_held held = STATE_UNSURE;
	struct str word = STR("");
	bool cancel = false;

	if (!then)
		return;
	if (result == REDIS_OK && value->type == REDIS_LIST) {
		word = redis_item_str(value, 0);
		cancel = str_is(redis_item_str(value, 1), "cancel");
	} else if (result == REDIS_OK && value->type == REDIS_STR) {
		word = value->str;
	}
	if (str_is(word, "1"))
		held = STATE_HELD;
	else if (str_is(word, "0"))
		held = STATE_NOT_HELD;
	else if (str_is(word, "2"))
		held = STATE_MISMATCH;
	((state_fn *)then)(ctx, held, cancel);
}

struct redis_request *state_renew(struct redis *redis, struct str job, struct str fence,
				  state_fn *done, void *ctx)
{
	struct args a = {0};
	struct key key = key_job(job);

	arg(&a, fence);
	arg_int(&a, STATE_LEASE_MS);
	return run(redis, job, &script_renew, &key, 1, &a, held_done, ctx, (redis_then_fn *)done);
}

struct redis_request *state_release(struct redis *redis, struct str job, struct str fence,
				    int64_t tries, int64_t copy, struct str calls, state_fn *done,
				    void *ctx)
{
	struct args a = {0};
	struct key key = key_job(job);

	arg(&a, fence);
	arg_int(&a, tries);
	arg_int(&a, copy);
	arg(&a, calls);
	return run(redis, job, &script_release, &key, 1, &a, held_done, ctx, (redis_then_fn *)done);
}

struct redis_request *state_call(struct redis *redis, const struct state_call *call, state_fn *done,
				 void *ctx)
{
	struct args a = {0};
	struct key key = key_job(call->job);

	arg(&a, call->fence);
	arg_int(&a, call->attempt);
	arg_int(&a, call->tries);
	arg(&a, call->calls);
	arg(&a, call->provider);
	arg(&a, call->account);
	arg(&a, call->model);
	arg_int(&a, (int64_t)call->picked_up_ms);
	arg(&a, call->channel);
	arg(&a, call->event);
	return run(redis, call->job, &script_call, &key, 1, &a, held_done, ctx,
		   (redis_then_fn *)done);
}

struct redis_request *state_waits(struct redis *redis, const struct state_wait *wait,
				  state_fn *done, void *ctx)
{
	struct args a = {0};
	struct key key = key_job(wait->job);

	arg(&a, wait->fence);
	arg(&a, wait->why);
	arg(&a, wait->channel);
	arg(&a, wait->event);
	arg_int(&a, wait->position);
	arg_int(&a, wait->estimate_ms);
	return run(redis, wait->job, &script_waits, &key, 1, &a, held_done, ctx,
		   (redis_then_fn *)done);
}

static void arg_first_token(struct args *a, const struct state_append *append)
{
	if (append->first_token_ms)
		arg_int(a, (int64_t)append->first_token_ms);
	else
		arg(a, STR(""));
}

struct redis_request *state_append(struct redis *redis, const struct state_append *append,
				   state_fn *done, void *ctx)
{
	struct args a = {0};
	struct key keys[2] = {key_job(append->job), key_out(append->job, append->attempt)};

	arg(&a, append->fence);
	arg_int(&a, append->at);
	arg(&a, append->bytes);
	arg_int(&a, append->ttl_ms);
	arg_first_token(&a, append);
	arg(&a, append->channel);
	arg(&a, append->head);
	arg(&a, append->parts);
	return run(redis, append->job, &script_append, keys, 2, &a, held_done, ctx,
		   (redis_then_fn *)done);
}

struct redis_request *state_finishing(struct redis *redis, const struct state_append *rest,
				      struct str result, state_fn *done, void *ctx)
{
	struct args a = {0};
	struct key keys[2] = {key_job(rest->job), key_out(rest->job, rest->attempt)};

	arg(&a, rest->fence);
	arg(&a, result);
	arg_int(&a, rest->attempt);
	arg_int(&a, rest->at);
	arg(&a, rest->bytes);
	arg_int(&a, rest->ttl_ms);
	arg_first_token(&a, rest);
	arg(&a, rest->channel);
	arg(&a, rest->head);
	arg(&a, rest->parts);
	return run(redis, rest->job, &script_finishing, keys, 2, &a, held_done, ctx,
		   (redis_then_fn *)done);
}

static void finish_done(void *ctx, redis_then_fn *then, enum redis_result result,
			const struct redis_value *value)
{
	enum state_held held = STATE_UNSURE;

	if (!then)
		return;
	if (result == REDIS_OK && value->type == REDIS_STR)
		held = state_terminal(value->str) ? STATE_HELD : STATE_NOT_HELD;
	((state_fn *)then)(ctx, held, false);
}

struct redis_request *state_finish(struct redis *redis, struct str job, struct str fence,
				   struct str state, uint64_t finished_ms, struct str channel,
				   struct str event, state_fn *done, void *ctx)
{
	struct args a = {0};
	struct key key = key_job(job);

	arg(&a, fence);
	arg(&a, state);
	arg_int(&a, (int64_t)finished_ms);
	arg(&a, channel);
	arg(&a, event);
	return run(redis, job, &script_finish, &key, 1, &a, finish_done, ctx,
		   (redis_then_fn *)done);
}

/* ── the wish, and reading ── */

typedef void wish_fn(void *ctx, enum redis_result result, struct str state, struct str worker);

static void wish_done(void *ctx, redis_then_fn *then, enum redis_result result,
		      const struct redis_value *value)
{
	struct str state = STR(""), worker = STR("");

	if (result == REDIS_OK && value->type == REDIS_LIST) {
		state = redis_item_str(value, 0);
		worker = redis_item_str(value, 1);
	} else if (result == REDIS_OK) {
		result = REDIS_LOST;
	}
	((wish_fn *)then)(ctx, result, state, worker);
}

struct redis_request *state_wish(struct redis *redis, struct str job, struct str org,
				 void (*done)(void *ctx, enum redis_result result, struct str state,
					      struct str worker),
				 void *ctx)
{
	return state_wish_within(redis, job, org, STR(""), done, ctx);
}

struct redis_request *state_wish_within(struct redis *redis, struct str job, struct str org,
					struct str session,
					void (*done)(void *ctx, enum redis_result result,
						     struct str state, struct str worker),
					void *ctx)
{
	struct args a = {0};
	struct key key = key_job(job);

	arg(&a, org);
	arg(&a, session);
	return run(redis, job, &script_wish, &key, 1, &a, wish_done, ctx, (redis_then_fn *)done);
}

void state_tell_wish(struct redis *redis, struct str job, struct str worker, uint64_t now_wall_ms)
{
	struct key key = worker.len ? key_control(worker) : key_wished();
	char text[64];
	int n;

	if (worker.len) {
		n = snprintf(text, sizeof(text), "1 cancel %.*s", STR_FMT(job));
		redis_command(redis, job,
			      (struct str[]){STR("PUBLISH"), key_str(&key), {text, (size_t)n}}, 3,
			      NULL, NULL);
	} else {
		n = snprintf(text, sizeof(text), "%llu", (unsigned long long)now_wall_ms);
		redis_command(redis, job,
			      (struct str[]){STR("ZADD"), key_str(&key), {text, (size_t)n}, job}, 4,
			      NULL, NULL);
	}
}

#define VIEW_STR(name)                                       \
	{                                                    \
#name, offsetof(struct job_view, name), true \
	}
#define VIEW_INT(name)                                        \
	{                                                     \
#name, offsetof(struct job_view, name), false \
	}
static const struct view_field {
	const char *name;
	size_t offset;
	bool text;
} view_fields[] = {
    VIEW_STR(org),	   VIEW_STR(kind),	   VIEW_STR(lane),	     VIEW_STR(session),
    VIEW_STR(channel),	   VIEW_STR(state),	   VIEW_STR(wish),	     VIEW_STR(why),
    VIEW_STR(provider),	   VIEW_STR(account),	   VIEW_STR(model),	     VIEW_STR(calls),
    VIEW_STR(parts),	   VIEW_STR(result),	   VIEW_STR(metadata),	     VIEW_STR(topic),
    VIEW_INT(turn),	   VIEW_INT(attempt),	   VIEW_INT(tries),	     VIEW_INT(created_ms),
    VIEW_INT(deadline_ms), VIEW_INT(picked_up_ms), VIEW_INT(first_token_ms), VIEW_INT(finished_ms),
    VIEW_INT(partition),   VIEW_INT(offset),	   VIEW_INT(position),	     VIEW_INT(estimate_ms),
};

typedef void view_fn(void *ctx, enum redis_result result, const struct job_view *view);

static void view_set(struct job_view *view, struct str name, struct str value)
{
	for (size_t i = 0; i < countof(view_fields); i++) {
		const struct view_field *f = &view_fields[i];

		if (!str_is(name, f->name))
			continue;
		if (f->text)
			*(struct str *)((char *)view + f->offset) = value;
		else if (!str_i64(value, (int64_t *)((char *)view + f->offset)))
			*(int64_t *)((char *)view + f->offset) = 0;
		return;
	}
}

static void view_done(void *ctx, redis_then_fn *then, enum redis_result result,
		      const struct redis_value *value)
{
	struct job_view view = {.partition = -1, .offset = -1, .estimate_ms = -1};

	if (result == REDIS_OK && value->type != REDIS_LIST)
		result = REDIS_LOST;
	if (result == REDIS_OK && value->count) {
		view.found = true;
		view.bytes = redis_item_int(value, 0, 0);
		for (size_t i = 1; i + 1 < value->count; i += 2)
			view_set(&view, redis_item_str(value, i), redis_item_str(value, i + 1));
	}
	((view_fn *)then)(ctx, result, &view);
}

struct redis_request *state_read(struct redis *redis, struct str job,
				 void (*done)(void *ctx, enum redis_result result,
					      const struct job_view *view),
				 void *ctx)
{
	struct key key = key_job(job);
	struct args a = {0};
	char prefix[KEY_SIZE];
	int n = snprintf(prefix, sizeof(prefix), "out:{%.*s}:", STR_FMT(job));

	arg(&a, (struct str){prefix, (size_t)n});
	return run(redis, job, &script_read, &key, 1, &a, view_done, ctx, (redis_then_fn *)done);
}

bool state_terminal(struct str state)
{
	return str_is(state, "succeeded") || str_is(state, "failed") || str_is(state, "expired") ||
	       str_is(state, "cancelled");
}
