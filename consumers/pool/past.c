/* What was before this claim: calls that owners before began (a provider that was asked is paid, whoever asked it), and what a Redis
 * that lost its memory knew: that the job has ended, and its lists. */
#include <stdio.h>

#include "consumers/pool/work.h"
#include "lib/base/json.h"
#include "lib/base/plant.h"
#include "lib/store/redis.h"
#include "schemas/keys.h"

/* Four bytes of text are taken for a token where the provider did not say. */
#define BYTES_PER_TOKEN 4

static void price(struct work *w, struct work_call *c)
{
	c->cost_microusd =
	    price_of(w->pool->config, c->provider, c->model, &c->usage, c->started_ms);
}

static const char *kept(struct work *w, struct json_object *call, const char *name)
{
	struct str text = json_str(call, name);

	return text.len ? arena_dup(&w->arena, text.ptr, text.len) : "";
}

static struct work_call read_call(struct work *w, struct json_object *call)
{
	struct json_object *usage = json_member(call, "usage");
	struct str fault = json_str(call, "fault");

	return (struct work_call){
	    .provider = kept(w, call, "provider"),
	    .account = kept(w, call, "account"),
	    .model = kept(w, call, "model"),
	    .attempt = json_int(call, "attempt", 0),
	    .at = json_int(call, "at", 0),
	    .started_ms = (uint64_t)json_int(call, "started_ms", 0),
	    .first_token_ms = (uint64_t)json_int(call, "first_token_ms", 0),
	    .ended_ms = (uint64_t)json_int(call, "ended_ms", 0),
	    .fault = fault.len ? fault_find(fault) : FAULT_NONE,
	    .request_id = str_of(kept(w, call, "request_id")),
	    .usage = {.input_tokens = json_int(usage, "input_tokens", 0),
		      .cached_input_tokens = json_int(usage, "cached_input_tokens", 0),
		      .cache_write_tokens = json_int(usage, "cache_write_tokens", 0),
		      .cache_write_1h_tokens = json_int(usage, "cache_write_1h_tokens", 0),
		      .output_tokens = json_int(usage, "output_tokens", 0)},
	    .cost_microusd = json_int(call, "cost_microusd", 0),
	    .overhead = json_bool(call, "overhead", false),
	};
}

void past_calls(struct work *w, struct str calls, int64_t bytes)
{
	cleanup_json struct json_object *list = NULL;
	struct json_error error;
	struct work_call *last;
	size_t count;

	if (!calls.len || json_read(calls, &list, &error) ||
	    !json_object_is_type(list, json_type_array))
		return;
	count = json_object_array_length(list);
	if (count <= w->call_count)
		return;
	/* what the record brought (retry.h) is the beginning of this list, and more complete */
	for (size_t i = w->call_count; i < count && i < WORK_CALLS_MAX; i++) {
		struct work_call call = read_call(w, json_object_array_get_idx(list, i));

		work_call_add(w, &call);
	}
	last = &w->calls[w->call_count - 1];
	if (last->ended_ms)
		return;
	w->past_open = true;
	bytes -= last->at < bytes ? last->at : bytes;
	last->usage.output_tokens = (bytes + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN;
	price(w, last);
}

/* ── the text ── */

bool past_has_text(const struct work *w)
{
	const struct work_call *last = w->call_count ? &w->calls[w->call_count - 1] : NULL;

	return last && last->attempt < w->attempt && !w->scribe.text.len && !w->scribe.part_count &&
	       !PLANTED(PAST_UNREAD);
}

static void on_text_timer(struct timer *t)
{
	finish_write(container_of(t, struct work, timer));
}

static void on_text(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct work *w = ctx;
	int64_t attempt = w->calls[w->call_count - 1].attempt;

	w->request = NULL;
	if (result != REDIS_OK) {
		work_again(w, work_pause_us(w, 100, 2000), on_text_timer);
		return;
	}
	if (value->type == REDIS_STR)
		scribe_recall(&w->scribe, value->str, w->past_parts, w->past_first_ms);
	for (size_t i = 0; i < w->call_count; i++)
		if (w->calls[i].attempt == attempt)
			w->calls[i].attempt = w->attempt;
	finish_write(w);
}

void past_text(struct work *w)
{
	struct key key = key_out(w->head.job, w->calls[w->call_count - 1].attempt);

	w->request = redis_command(w->redis, w->head.job, (struct str[]){STR("GET"), key_str(&key)},
				   2, on_text, w);
}

int64_t past_tokens(size_t request_bytes)
{
	return ((int64_t)request_bytes + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN;
}

void past_estimate(struct work *w)
{
	struct work_call *last;

	if (!w->past_open)
		return;
	w->past_open = false;
	last = &w->calls[w->call_count - 1];
	if (!last->usage.input_tokens) /* begun by the version before, which did not write it */
		last->usage.input_tokens = past_tokens(w->job.system.len + w->job.messages.len +
						       w->job.request.len + (size_t)last->at);
	price(w, last);
}

/* ── ends ── */

/* By the index, whatever the planner thinks of the list. */
static const char past_sql[] =
    "SELECT asked.n, found.* FROM json_to_recordset($1::json) AS asked(n int, job text, org text), "
    "LATERAL (SELECT status, attempt FROM results WHERE results.job = asked.job AND "
    "results.org = asked.org LIMIT 1) AS found ORDER BY n";

static void put_ask(const struct gather_ask *ask, struct buf *out)
{
	const struct work *w = container_of(ask, struct work, past);
	struct json_out o = {.buf = out};

	json_open(&o, '{');
	json_put_int(&o, "n", (int64_t)ask->number);
	json_put_str(&o, "job", w->head.job);
	json_put_str(&o, "org", w->head.org);
	json_close(&o, '}');
}

static void tell_end(struct work *w);

static void on_tell_timer(struct timer *t)
{
	tell_end(container_of(t, struct work, timer));
}

static void on_told(void *ctx, enum state_held held, bool cancel)
{
	struct work *w = ctx;

	(void)cancel;
	w->request = NULL;
	if (held == STATE_UNSURE)
		work_again(w, work_pause_us(w, 50, 1000), on_tell_timer);
	else
		work_over(w, true);
}

/* Where the claim was granted before it was known that Redis forgot, it stands: it must not run out, and the job run. */
static void tell_end(struct work *w)
{
	w->request = finish_tell(w, w->past_status, w->past_attempt, on_told);
}

static void on_record(struct gather_ask *ask, enum pg_result result, const struct pg_rows *rows,
		      size_t first, size_t count)
{
	struct work *w = container_of(ask, struct work, past);
	struct str status;

	if (result != PG_OK || !count) {
		w->past_epoch_ms = redis_epoch_wall_ms(w->redis);
		work_claim(w);
		return;
	}
	log_info(&w->log, "ended before redis lost its memory",
		 F_VIEW("status", pg_text(rows, first, 1)));
	status = pg_text(rows, first, 1);
	w->past_status = (struct str){arena_dup(&w->arena, status.ptr, status.len), status.len};
	w->past_attempt = pg_int(rows, first, 2, 1);
	tell_end(w);
}

const struct gather_kind past_kind = {
    .sql = past_sql, .open = '[', .close = ']', .most = 256, .put = put_ask, .done = on_record};

/* A job that ended comes again where its record waited in a tier, or its end was not committed; where Redis remembers it says so. With
 * PostgreSQL away the job runs once more: its first result stands. */
void past_ask(struct work *w)
{
	gather_add(&w->pool->past, &w->past);
}

bool past_is_sure(const struct work *w)
{
	const uint64_t nothing_yet =
	    SM(WORK_OVER) | SM(WORK_LOADING) | SM(WORK_SLOT) | SM(WORK_BUDGET) | SM(WORK_BACKOFF);

	return !(SM(w->resume) & nothing_yet) || PLANTED(PAST_UNASKED) ||
	       w->past_epoch_ms == redis_epoch_wall_ms(w->redis) ||
	       id_wall_ms(w->head.job) > redis_epoch_wall_ms(w->redis);
}

/* ── lists ── */

static void put(struct work *w, struct str owner, struct key key)
{
	char score[24];

	snprintf(score, sizeof(score), "%lld", (long long)w->head.created_ms);
	redis_command(w->redis, owner,
		      (struct str[]){STR("ZADD"), key_str(&key), str_of(score), w->head.job}, 4,
		      NULL, NULL);
}

/* The scheduler's nudges take them from there. */
static void put_words(struct work *w, struct str outbox)
{
	struct key key = key_job(w->head.job);
	const struct str words[][2] = {
	    {STR("metadata"), w->job.metadata.len ? w->job.metadata : w->head.metadata},
	    {STR("webhook"), w->job.webhook.len ? w->job.webhook : w->head.webhook},
	    {STR("outbox"), outbox},
	};

	for (size_t i = 0; i < countof(words); i++)
		if (words[i][1].len)
			redis_command(
			    w->redis, w->head.job,
			    (struct str[]){STR("HSETNX"), key_str(&key), words[i][0], words[i][1]},
			    4, NULL, NULL);
}

void past_lists(struct work *w)
{
	struct str outbox;

	if (id_wall_ms(w->head.job) > redis_epoch_wall_ms(w->redis))
		return;
	finish_words(w);
	outbox = w->job.outbox.len ? w->job.outbox : w->head.outbox;
	put_words(w, outbox);
	put(w, w->head.org, key_open(w->head.org));
	if (w->head.session.len)
		put(w, w->head.session, key_open(w->head.session));
	if (outbox.len)
		state_outbox(w->redis, outbox, w->head.job, w->head.created_ms, STATE_OUTBOX_JOBS,
			     0, NULL, NULL);
}
