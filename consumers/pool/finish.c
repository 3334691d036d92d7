/* The order that makes redelivery safe: `finishing` with the whole result and the last of the text, one winner → result record acknowledged by
 * Kafka (before it the dead letter, where the job used up its tries) → conversation appended, once, by turn → state terminal and its
 * event → the lane's record is marked. */
#include <stdio.h>
#include <string.h>

#include "consumers/pool/dead.h"
#include "consumers/pool/work.h"
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/plant.h"
#include "lib/lane/lane.h"
#include "schemas/keys.h"
#include "schemas/scripts.h"

#define AGAIN_FIRST_MS 100
#define AGAIN_MOST_MS 2000

/* What a record that the broker finds too big is made without, in this order. */
#define TRIM_TURN 1 /* the turn's messages: the conversation in Redis has them */
#define TRIM_ALL 2  /* all that may be long: then it is a failure */

static void publish(struct work *w);
static void converse(struct work *w);
static void end(struct work *w);

/* ── the result ── */

static void fill_result(struct work *w, struct result *r, struct arena *a)
{
	const struct work_call *last = w->call_count ? &w->calls[w->call_count - 1] : NULL;
	struct buf calls = {0}, parts = {0};

	codec_init(&codec_result, r);
	r->v = 1;
	r->id = w->head.job;
	r->org = w->head.org;
	r->user = w->job.user;
	r->kind = w->head.kind;
	r->lane = str_of(work_lane_name(w));
	r->session = w->head.session;
	r->turn = w->head.turn;
	r->task = w->job.task;
	r->model = w->job.model;
	r->status = str_of(w->status);
	r->attempt = w->attempt;
	r->tries = w->tries;
	r->created_ms = w->head.created_ms;
	r->picked_up_ms = (int64_t)w->picked_up_ms;
	r->first_token_ms = (int64_t)w->scribe.first_wall_ms;
	r->finished_ms = (int64_t)w->finished_ms;
	r->bytes = (int64_t)w->scribe.text.len;
	r->finish_reason = str_of(w->fault ? "" : w->finish_reason);
	r->partial = w->fault != FAULT_NONE && r->bytes > 0;
	r->fault = str_of(w->fault ? fault_info(w->fault)->code : "");
	r->fault_message = str_of(w->fault_message);
	/* A nudge has no body: its headers say them. */
	r->metadata = w->job.metadata.len ? w->job.metadata : w->head.metadata;
	r->outbox = w->job.outbox.len ? w->job.outbox : w->head.outbox;
	r->webhook = w->job.webhook.len ? w->job.webhook : w->head.webhook;
	r->topic = str_of(w->lane->topic);
	r->partition = lane_record_partition(w->record);
	r->offset = lane_record_offset(w->record);
	if (last) {
		r->provider = str_of(last->provider);
		r->account = str_of(last->account);
		r->target_model = str_of(last->model);
	}
	for (size_t i = 0; i < w->call_count; i++) {
		if (w->calls[i].overhead && !PLANTED(HEDGE_BILLED))
			continue;
		r->input_tokens += w->calls[i].usage.input_tokens;
		r->cached_input_tokens += w->calls[i].usage.cached_input_tokens;
		r->cache_write_tokens += w->calls[i].usage.cache_write_tokens;
		r->output_tokens += w->calls[i].usage.output_tokens;
		r->cost_microusd += w->calls[i].cost_microusd;
	}
	work_calls_json(w, &calls);
	scribe_parts_json(&w->scribe, &parts);
	r->calls = (struct str){arena_dup(a, calls.data, calls.len), calls.len};
	r->parts = (struct str){arena_dup(a, parts.data, parts.len), parts.len};
	if (w->head.session.len && w->job.messages.len)
		r->turn_messages = w->job.messages;
	buf_fini(&calls);
	buf_fini(&parts);
}

void finish_words(struct work *w)
{
	struct codec_error error;

	if (w->loaded || w->job.id.len)
		return;
	if (codec_decode(&codec_job, &w->arena, lane_record_body(w->record), false, &w->job,
			 &error))
		codec_init(&codec_job, &w->job);
}

void finish_begin(struct work *w, const char *status, enum fault fault, struct str message)
{
	struct str text = message.len || !fault ? message : str_of(fault_info(fault)->text);

	if (!w->counted_ending)
		w->lane->ending++;
	w->counted_ending = true;
	w->status = status;
	w->fault = fault;
	text = str_utf8_clean(text, w->fault_message, sizeof(w->fault_message) - 1);
	w->fault_message[text.len] = 0;
	w->finished_ms = loop_wall_ms(w->pool->loop);
	finish_words(w);
	work_waits(w, NULL);
	timer_stop(&w->deadline);
	timer_stop(&w->call_due);
	if (!w->claimed)
		return; /* lost meanwhile: it goes on when the claim is won again */
	finish_write(w);
}

/* ── decided: all text in Redis, one winner ── */

static void decide(struct work *w);

void finish_write(struct work *w)
{
	bool reads = w->fault && past_has_text(w);

	w->waits = 0;
	w->fetching = false;
	if (reads || w->scribe.rewrite) {
		if (sm_state(&w->sm) != WORK_WRITING)
			sm_move(&w->sm, WORK_WRITING);
		if (reads)
			past_text(w);
		else
			scribe_flush(&w->scribe);
		return;
	}
	if (sm_state(&w->sm) != WORK_DECIDING)
		sm_move(&w->sm, WORK_DECIDING);
	decide(w);
}

void finish_flushed(void *ctx)
{
	struct work *w = ctx;

	if (sm_state(&w->sm) != WORK_WRITING)
		return;
	sm_move(&w->sm, WORK_DECIDING);
	decide(w);
}

void finish_lost(void *ctx)
{
	work_lost(ctx);
}

void finish_wish(void *ctx)
{
	work_stop(ctx, FAULT_CANCELLED);
}

static void on_decide_timer(struct timer *t)
{
	finish_write(container_of(t, struct work, timer));
}

static void on_decided(void *ctx, enum state_held held, bool cancel)
{
	struct work *w = ctx;

	(void)cancel; /* too late: the result is decided */
	w->request = NULL;
	switch (held) {
	case STATE_HELD:
		w->waits = 0;
		publish(w);
		return;
	case STATE_NOT_HELD:
		work_lost(w);
		return;
	case STATE_MISMATCH:
		w->scribe.rewrite = true;
		finish_write(w);
		return;
	case STATE_UNSURE:
		w->scribe.rewrite =
		    true; /* it may have been done: the bytes would be there twice */
		work_again(w, work_pause_us(w, AGAIN_FIRST_MS, AGAIN_MOST_MS), on_decide_timer);
		return;
	}
}

/* @json for as long as the work lives. Whoever reads it refuses what is no UTF-8: what came from outside and was let through all the
 * same (it stands inside of strings) costs those bytes, and not the result. */
static struct str readable(struct work *w, struct str json)
{
	size_t most = 3 * json.len;

	if (str_utf8(json))
		return (struct str){arena_dup(&w->arena, json.ptr, json.len), json.len};
	log_error(&w->log, "result holds bytes that are no UTF-8");
	return str_utf8_clean(json, arena_alloc(&w->arena, most), most);
}

/* What is left of the text goes with the decision. */
static void decide(struct work *w)
{
	struct state_append rest;
	struct result result;
	struct buf json = {0}, head = {0}, parts = {0};

	fill_result(w, &result, &w->arena);
	codec_encode(&codec_result, &result, &json);
	w->result = readable(w, buf_str(&json));
	buf_fini(&json);
	if (PLANTED(RESULT_UNDECIDED)) {
		publish(w);
		return;
	}
	must(scribe_rest(&w->scribe, &rest, &head, &parts));
	w->request = state_finishing(w->redis, &rest, w->result, on_decided, w);
	buf_fini(&head);
	buf_fini(&parts);
}

/* ── durable: the result record ── */

static void on_publish_timer(struct timer *t)
{
	publish(container_of(t, struct work, timer));
}

/* The record was too big, and will be as it is: without its turn's messages, then as a failure without all that may be long. False where
 * it was that already. */
static bool trim(struct work *w)
{
	struct codec_error error;
	struct result r;
	struct buf json = {0};

	if (w->trims == TRIM_ALL ||
	    codec_decode(&codec_result, &w->arena, w->result, false, &r, &error) != CODEC_OK)
		return false;
	w->trims = !w->trims && r.turn_messages.len ? TRIM_TURN : TRIM_ALL;
	log_warn(&w->log, "result is too big", F_UINT("bytes", w->result.len),
		 F_STR("without", w->trims == TRIM_TURN ? "turn_messages" : "all that is long"));
	r.turn_messages = STR("");
	if (w->trims == TRIM_ALL) {
		w->status = "failed";
		r.status = STR("failed");
		r.fault = str_of(fault_info(FAULT_INTERNAL)->code);
		r.fault_message = STR("The result is larger than a record may be.");
		r.finish_reason = STR("");
		r.bytes = 0;
		r.partial = false;
		r.parts = r.metadata = STR("");
		r.calls = STR("[]");
	}
	codec_encode(&codec_result, &r, &json);
	w->result = (struct str){arena_dup(&w->arena, json.data, json.len), json.len};
	buf_fini(&json);
	return true;
}

static void on_published(void *ctx, enum lane_written written, int32_t partition, int64_t offset)
{
	struct work *w = ctx;

	(void)partition;
	(void)offset;
	w->publishing = false;
	if (sm_state(&w->sm) != WORK_PUBLISHING) {
		if (sm_state(&w->sm) == WORK_OVER)
			work_over(w, false); /* it waited only for this */
		return;
	}
	if (w->fetching)
		return; /* a record of before the claim was lost: this one comes as well */
	if (written == LANE_WRITTEN || PLANTED(COMMIT_BEFORE_RESULT)) {
		w->waits = 0;
		converse(w);
		return;
	}
	if (written == LANE_TOO_BIG) {
		if (trim(w)) {
			publish(w);
			return;
		}
		log_error(&w->log, "result is lost: too big without its long members");
		converse(w);
		return;
	}
	log_warn(&w->log, "result is not written", F_INT("written", written));
	work_again(w, work_pause_us(w, AGAIN_FIRST_MS, AGAIN_MOST_MS), on_publish_timer);
}

static void on_dead(void *ctx, enum lane_written written, int32_t partition, int64_t offset)
{
	struct work *w = ctx;

	(void)partition;
	(void)offset;
	w->publishing = false;
	w->dead_written = written == LANE_WRITTEN || written == LANE_TOO_BIG;
	if (sm_state(&w->sm) == WORK_OVER) {
		work_over(w, false); /* it waited only for this */
		return;
	}
	if (written == LANE_WRITTEN)
		series_add(metric_one(w->pool->metric.dead, work_lane_name(w)), 1);
	else
		log_warn(&w->log, "dead letter is not written", F_INT("written", written));
	if (sm_state(&w->sm) != WORK_PUBLISHING || w->fetching)
		return;
	if (w->dead_written)
		publish(w);
	else
		work_again(w, work_pause_us(w, AGAIN_FIRST_MS, AGAIN_MOST_MS), on_publish_timer);
}

static void on_blob(void *ctx, enum blob_result result, const char *ref)
{
	struct work *w = ctx;

	w->blob_request = NULL;
	if (result != BLOB_OK) {
		work_again(w, work_pause_us(w, AGAIN_FIRST_MS, AGAIN_MOST_MS), on_publish_timer);
		return;
	}
	w->text_blob = str_of(arena_strdup(&w->arena, ref));
	publish(w);
}

/* The dead letter of a job whose result says so; true where it has to be written first. */
static bool write_dead(struct work *w)
{
	struct codec_error error;
	struct result r;

	if (w->dead_written || strcmp(w->status, "failed") != 0)
		return false;
	if (codec_decode(&codec_result, &w->arena, w->result, false, &r, &error)) {
		log_error(&w->log, "result cannot be read: no dead letter",
			  F_STR("why", error.message));
		w->dead_written = true;
		return false;
	}
	if (!dead_is(&r, w->pool->options->max_tries))
		return false;
	w->publishing = true;
	dead_write(w, &r, on_dead);
	return true;
}

/* The result record: what was decided, and the text. It is not read and written again: most results are long in text only. */
static void put_result(const struct work *w, struct buf *out)
{
	bool in_blob = w->text_blob.len > 0;
	struct str text = in_blob ? w->text_blob : buf_str(&w->scribe.text);

	buf_add(out, w->result.ptr, w->result.len - 1);
	if (text.len && w->trims < TRIM_ALL) {
		buf_add_str(out, in_blob ? STR(",\"text_blob\":\"") : STR(",\"text\":\""));
		json_escape(out, text);
		buf_add_str(out, STR("\""));
	}
	buf_add_str(out, STR("}"));
}

/* True where the text makes the record longer than BLOB_INLINE_MAX, as JSON: a control character takes six bytes there. */
static bool text_is_long(struct str text)
{
	size_t bytes = text.len;

	for (size_t i = 0; i < text.len && bytes <= BLOB_INLINE_MAX; i++) {
		unsigned char c = (unsigned char)text.ptr[i];

		bytes += c < ' ' ? 5 : c == '"' || c == '\\';
	}
	return bytes > BLOB_INLINE_MAX;
}

static void publish(struct work *w)
{
	struct buf body = {0};
	struct lane_write write = {
	    .topic = w->pool->results_topic,
	    .partition = -1,
	    .key = w->head.job,
	};

	if (sm_state(&w->sm) != WORK_PUBLISHING)
		sm_move(&w->sm, WORK_PUBLISHING);
	if (w->publishing)
		return; /* the word on the record under way comes first */
	if (!w->text_blob.len && text_is_long(buf_str(&w->scribe.text))) {
		w->blob_request = blob_put(w->pool->blob, buf_str(&w->scribe.text), on_blob, w);
		return;
	}
	if (write_dead(w))
		return;
	put_result(w, &body);
	write.body = buf_str(&body);
	w->publishing = true;
	lane_write(w->writer, &write, on_published, w);
	buf_fini(&body);
}

/* ── the conversation ── */

static void on_converse_timer(struct timer *t)
{
	converse(container_of(t, struct work, timer));
}

static void on_conversed(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct work *w = ctx;

	(void)value;
	w->request = NULL;
	if (result != REDIS_OK) {
		work_again(w, work_pause_us(w, AGAIN_FIRST_MS, AGAIN_MOST_MS), on_converse_timer);
		return;
	}
	w->waits = 0;
	end(w);
}

static size_t message_count(const struct work *w)
{
	return json_object_is_type(w->messages, json_type_array)
		   ? json_object_array_length(w->messages)
		   : 0;
}

/* This turn's messages and the answer, each as JSON: message_count + 1 at most. */
static size_t turn_messages(struct work *w, struct str *out, struct buf *answer)
{
	size_t count = message_count(w);
	struct json_out o = {.buf = answer};
	struct buf plain = {0};

	if (!w->status || strcmp(w->status, "succeeded") != 0)
		return 0;
	for (size_t i = 0; i < count; i++)
		out[i] = str_of(json_object_to_json_string_ext(
		    json_object_array_get_idx(w->messages, i), JSON_C_TO_STRING_PLAIN));
	scribe_plain(&w->scribe, &plain);
	json_open(&o, '{');
	json_put_text(&o, "role", "assistant");
	json_put_str(&o, "content", buf_str(&plain));
	json_close(&o, '}');
	out[count] = buf_str(answer);
	buf_fini(&plain);
	return count + 1;
}

static void converse(struct work *w)
{
	struct key keys[2];
	struct str names[2], *args;
	struct buf answer = {0};
	char turn[24];
	size_t count;

	if (sm_state(&w->sm) != WORK_CONVERSING)
		sm_move(&w->sm, WORK_CONVERSING);
	if (!w->head.session.len || !w->head.turn) {
		end(w);
		return;
	}
	keys[0] = key_session(w->head.session);
	keys[1] = key_conversation(w->head.session);
	names[0] = key_str(&keys[0]);
	names[1] = key_str(&keys[1]);
	args = mem_alloc((message_count(w) + 3) * sizeof(*args));
	args[0] = (struct str){
	    turn, (size_t)snprintf(turn, sizeof(turn), "%lld", (long long)w->head.turn)};
	args[1] = w->head.job;
	count = turn_messages(w, args + 2, &answer);
	w->request = redis_script(w->redis, w->head.session, &script_converse, names, 2, args,
				  count + 2, on_conversed, w);
	mem_free(args);
	buf_fini(&answer);
}

/* ── terminal ── */

/* Tells the job's followers; the payload is the result's inside, empty where it is not at hand or long (they look it up). */
static void result_event(const struct work *w, int64_t attempt, struct buf *out)
{
	event_head(out, "result", w->head.job, attempt, -1);
	if (w->result.len > 2 && w->result.len <= BLOB_INLINE_MAX)
		buf_add(out, w->result.ptr + 1, w->result.len - 2);
}

struct redis_request *finish_tell(struct work *w, struct str state, int64_t attempt, state_fn *done)
{
	struct buf event = {0};
	struct redis_request *request;

	result_event(w, attempt, &event);
	request = state_finish(w->redis, w->head.job, str_of(w->fence), state,
			       loop_wall_ms(w->pool->loop), key_str(&w->channel), buf_str(&event),
			       done, w);
	buf_fini(&event);
	return request;
}

static void close_job(struct work *w)
{
	struct redis *redis = w->redis;
	struct key org = key_open(w->head.org), session = key_open(w->head.session);

	redis_command(redis, w->head.org, (struct str[]){STR("ZREM"), key_str(&org), w->head.job},
		      3, NULL, NULL);
	if (w->head.session.len)
		redis_command(redis, w->head.session,
			      (struct str[]){STR("ZREM"), key_str(&session), w->head.job}, 3, NULL,
			      NULL);
	series_add(metric_series(w->pool->metric.ended,
				 (const char *const[]){work_lane_name(w), w->status}),
		   1);
	log_info(&w->log, "ended", F_STR("status", w->status), F_INT("attempt", w->attempt),
		 F_INT("tries", w->tries), F_UINT("bytes", w->scribe.text.len),
		 F_INT("ms", (int64_t)w->finished_ms - w->head.created_ms));
	work_over(w, true);
}

static void on_end_timer(struct timer *t)
{
	end(container_of(t, struct work, timer));
}

static void on_ended(void *ctx, enum state_held held, bool cancel)
{
	struct work *w = ctx;

	(void)cancel;
	w->request = NULL;
	if (held == STATE_UNSURE)
		work_again(w, work_pause_us(w, AGAIN_FIRST_MS, AGAIN_MOST_MS), on_end_timer);
	else
		close_job(
		    w); /* not held: Redis forgot the job; its result is durable all the same */
}

static void end(struct work *w)
{
	struct buf event = {0};

	if (sm_state(&w->sm) != WORK_ENDING)
		sm_move(&w->sm, WORK_ENDING);
	result_event(w, w->attempt, &event);
	w->request =
	    state_finish(w->redis, w->head.job, str_of(w->fence), str_of(w->status), w->finished_ms,
			 key_str(&w->channel), buf_str(&event), on_ended, w);
	buf_fini(&event);
}

/* ── granted in `finishing`: the result is published again, without another call ── */

static void fetch_text(struct work *w);

static void on_fetch_timer(struct timer *t)
{
	fetch_text(container_of(t, struct work, timer));
}

static void on_text(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct work *w = ctx;

	w->request = NULL;
	if (result != REDIS_OK) {
		work_again(w, work_pause_us(w, AGAIN_FIRST_MS, AGAIN_MOST_MS), on_fetch_timer);
		return;
	}
	buf_add_str(&w->scribe.text, value->type == REDIS_STR ? value->str : STR(""));
	w->fetching = false;
	publish(w);
}

static void fetch_text(struct work *w)
{
	struct key key = key_out(w->head.job, w->attempt);

	scribe_begin(&w->scribe, w->attempt);
	w->request = redis_command(w->redis, w->head.job, (struct str[]){STR("GET"), key_str(&key)},
				   2, on_text, w);
}

static const char *const terminals[] = {"succeeded", "failed", "expired", "cancelled"};

void finish_again(struct work *w, struct str json)
{
	struct result r;
	struct codec_error error;

	w->result = (struct str){arena_dup(&w->arena, json.ptr, json.len), json.len};
	if (codec_decode(&codec_result, &w->arena, w->result, false, &r, &error)) {
		log_error(&w->log, "stored result cannot be read", F_STR("why", error.message));
		w->finishing = false;
		finish_begin(w, "failed", FAULT_INTERNAL, STR("the stored result cannot be read"));
		return;
	}
	w->status = "failed";
	for (size_t i = 0; i < countof(terminals); i++)
		if (str_is(r.status, terminals[i]))
			w->status = terminals[i];
	w->finished_ms = (uint64_t)r.finished_ms;
	w->attempt = r.attempt;
	w->messages = NULL;
	if (r.turn_messages.len) {
		struct json_error bad;

		if (json_read(r.turn_messages, &w->messages, &bad))
			w->messages = NULL;
	}
	log_info(&w->log, "finishing again", F_STR("status", w->status));
	sm_move(&w->sm, WORK_PUBLISHING);
	w->fetching = true;
	fetch_text(w);
}
