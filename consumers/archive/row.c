#include "consumers/archive/row.h"

#include <stdio.h>

#include "lib/base/enc.h"
#include "lib/base/json.h"
#include "lib/net/url.h"
#include "lib/relay/state.h"

/* The columns that are written: name and type. */
/* clang-format off */
#define RESULTS(COLUMN) \
	COLUMN(job, text) COLUMN(org, text) COLUMN(client_user, text) \
	COLUMN(kind, text) COLUMN(lane, text) COLUMN(session, text) \
	COLUMN(turn, bigint) COLUMN(task, text) COLUMN(model, text) \
	COLUMN(status, text) COLUMN(attempt, bigint) COLUMN(tries, integer) \
	COLUMN(created_ms, bigint) COLUMN(picked_up_ms, bigint) \
	COLUMN(first_token_ms, bigint) COLUMN(finished_ms, bigint) \
	COLUMN(provider, text) COLUMN(account, text) COLUMN(target_model, text) \
	COLUMN(answer, bytea) COLUMN(answer_blob, text) COLUMN(bytes, bigint) \
	COLUMN(parts, text) COLUMN(finish_reason, text) COLUMN(partial, boolean) \
	COLUMN(input_tokens, bigint) COLUMN(cached_input_tokens, bigint) \
	COLUMN(cache_write_tokens, bigint) COLUMN(output_tokens, bigint) \
	COLUMN(cost_microusd, bigint) COLUMN(fault, text) \
	COLUMN(fault_message, text) COLUMN(calls, text) COLUMN(turn_messages, text) \
	COLUMN(metadata, text) COLUMN(log_topic, text) \
	COLUMN(log_partition, integer) COLUMN(log_offset, bigint)
#define CALLS(COLUMN) \
	COLUMN(job, text) COLUMN(number, integer) COLUMN(org, text) \
	COLUMN(provider, text) COLUMN(account, text) COLUMN(model, text) \
	COLUMN(attempt, bigint) COLUMN(started_ms, bigint) \
	COLUMN(first_token_ms, bigint) COLUMN(ended_ms, bigint) COLUMN(fault, text) \
	COLUMN(request_id, text) COLUMN(input_tokens, bigint) \
	COLUMN(cached_input_tokens, bigint) COLUMN(cache_write_tokens, bigint) \
	COLUMN(output_tokens, bigint) COLUMN(cost_microusd, bigint) COLUMN(overhead, boolean)
/* clang-format on */

#define NAME(name, type) ", " #name
#define TYPED(name, type) ", " #name " " #type
const struct row_columns row_results = {&(RESULTS(NAME))[2], &(RESULTS(TYPED))[2]};
const struct row_columns row_calls = {&(CALLS(NAME))[2], &(CALLS(TYPED))[2]};

static enum row_read bad(char *why, const char *text)
{
	snprintf(why, ROW_WHY_SIZE, "%s", text);
	return ROW_BAD;
}

static bool fits_integer(int64_t value)
{
	return value >= 0 && value <= INT32_MAX;
}

/* A list of objects, or nothing. */
static bool calls_readable(struct str calls)
{
	__attribute__((cleanup(json_put_cleanup))) struct json_object *list = NULL;
	struct json_error error;

	if (!calls.len)
		return true;
	if (json_read(calls, &list, &error) || !json_object_is_type(list, json_type_array))
		return false;
	for (size_t i = 0; i < json_object_array_length(list); i++)
		if (!json_object_is_type(json_object_array_get_idx(list, i), json_type_object))
			return false;
	return true;
}

enum row_read row_read(struct arena *arena, struct str body, struct result *ret_result,
		       char ret_why[static ROW_WHY_SIZE])
{
	struct codec_error error = {0};
	struct result r;

	if (codec_decode(&codec_result, arena, body, false, &r, &error)) {
		snprintf(ret_why, ROW_WHY_SIZE, "not a result: %s%s%s", error.field,
			 error.field[0] ? ": " : "", error.message);
		return ROW_BAD;
	}
	if (r.v != 1)
		return bad(ret_why, "a version of the record that is not known");
	if (!r.id.len || !r.org.len || !r.kind.len || !r.lane.len)
		return bad(ret_why, "id, org, kind or lane is missing");
	if (!state_terminal(r.status))
		return bad(ret_why, "the status is not a terminal one");
	if (!fits_integer(r.tries) || !fits_integer(r.partition))
		return bad(ret_why, "tries or partition does not fit");
	if (!calls_readable(r.calls))
		return bad(ret_why, "calls is not a list of objects");
	*ret_result = r;
	return ROW_OK;
}

/* NULL in the table where the field is empty. */
static void put_text(struct json_out *o, const char *key, struct str value)
{
	if (value.len)
		json_put_str(o, key, value);
}

/* NULL in the table where it never happened. */
static void put_nonzero(struct json_out *o, const char *key, int64_t value)
{
	if (value)
		json_put_int(o, key, value);
}

/* JSON is kept as its text. */
static void put_json(struct json_out *o, const char *key, struct str json)
{
	if (json.len)
		json_put_str(o, key, json);
}

/* bytea's own form in text: \x and hex. */
static void put_bytes(struct json_out *o, const char *key, struct str bytes)
{
	struct buf hex = {0};

	buf_add_text(&hex, "\\x");
	enc_hex(&hex, bytes);
	json_put_str(o, key, buf_str(&hex));
	buf_fini(&hex);
}

static void write_identity(const struct result *r, struct json_out *o)
{
	json_put_str(o, "job", r->id);
	json_put_str(o, "org", r->org);
	put_text(o, "client_user", r->user);
	json_put_str(o, "kind", r->kind);
	json_put_str(o, "lane", r->lane);
	put_text(o, "session", r->session);
	put_nonzero(o, "turn", r->turn);
	put_text(o, "task", r->task);
	put_text(o, "model", r->model);
	json_put_str(o, "status", r->status);
	json_put_int(o, "attempt", r->attempt);
	json_put_int(o, "tries", r->tries);
	json_put_int(o, "created_ms", r->created_ms);
	put_nonzero(o, "picked_up_ms", r->picked_up_ms);
	put_nonzero(o, "first_token_ms", r->first_token_ms);
	json_put_int(o, "finished_ms", r->finished_ms);
	put_text(o, "provider", r->provider);
	put_text(o, "account", r->account);
	put_text(o, "target_model", r->target_model);
}

static void write_answer(const struct result *r, struct json_out *o)
{
	if (!r->text_blob.len)
		put_bytes(o, "answer", r->text);
	put_text(o, "answer_blob", r->text_blob);
	json_put_int(o, "bytes", r->bytes);
	put_json(o, "parts", r->parts);
	put_text(o, "finish_reason", r->finish_reason);
	json_put_bool(o, "partial", r->partial);
	json_put_int(o, "input_tokens", r->input_tokens);
	json_put_int(o, "cached_input_tokens", r->cached_input_tokens);
	json_put_int(o, "cache_write_tokens", r->cache_write_tokens);
	json_put_int(o, "output_tokens", r->output_tokens);
	json_put_int(o, "cost_microusd", r->cost_microusd);
	put_text(o, "fault", r->fault);
	put_text(o, "fault_message", r->fault_message);
	put_json(o, "calls", r->calls);
	put_json(o, "turn_messages", r->turn_messages);
	put_json(o, "metadata", r->metadata);
	put_text(o, "log_topic", r->topic);
	json_put_int(o, "log_partition", r->partition);
	json_put_int(o, "log_offset", r->offset);
}

static void write_call(const struct result *r, struct json_object *call, int number,
		       struct buf *out)
{
	struct json_object *usage = json_member(call, "usage");
	struct json_out o = {.buf = out};

	if (out->len)
		buf_add_char(out, ',');
	json_open(&o, '{');
	json_put_str(&o, "job", r->id);
	json_put_int(&o, "number", number);
	json_put_str(&o, "org", r->org);
	json_put_str(&o, "provider", json_str(call, "provider"));
	json_put_str(&o, "account", json_str(call, "account"));
	json_put_str(&o, "model", json_str(call, "model"));
	json_put_int(&o, "attempt", json_int(call, "attempt", r->attempt));
	json_put_int(&o, "started_ms", json_int(call, "started_ms", 0));
	put_nonzero(&o, "first_token_ms", json_int(call, "first_token_ms", 0));
	put_nonzero(&o, "ended_ms", json_int(call, "ended_ms", 0));
	put_text(&o, "fault", json_str(call, "fault"));
	put_text(&o, "request_id", json_str(call, "request_id"));
	json_put_int(&o, "input_tokens", json_int(usage, "input_tokens", 0));
	json_put_int(&o, "cached_input_tokens", json_int(usage, "cached_input_tokens", 0));
	json_put_int(&o, "cache_write_tokens", json_int(usage, "cache_write_tokens", 0));
	json_put_int(&o, "output_tokens", json_int(usage, "output_tokens", 0));
	json_put_int(&o, "cost_microusd", json_int(call, "cost_microusd", 0));
	json_put_bool(&o, "overhead", json_bool(call, "overhead", false));
	json_close(&o, '}');
}

static void write_calls(const struct result *r, struct buf *out)
{
	__attribute__((cleanup(json_put_cleanup))) struct json_object *list = NULL;
	struct json_error error;

	if (!r->calls.len || json_read(r->calls, &list, &error))
		return;
	for (size_t i = 0; i < json_object_array_length(list); i++)
		write_call(r, json_object_array_get_idx(list, i), (int)i + 1, out);
}

/* What the front let pass parses here too. */
static void write_webhook(const struct result *r, struct buf *out)
{
	cleanup_json struct json_object *webhook = NULL;
	struct json_out o = {.buf = out};
	struct json_error error;
	struct arena arena = {0};
	const char *why;
	struct url url;

	if (!r->webhook.len || json_read(r->webhook, &webhook, &error) ||
	    url_read(&arena, json_str(webhook, "url"), &url, &why) != URL_OK) {
		arena_reset(&arena);
		return;
	}
	if (out->len)
		buf_add_char(out, ',');
	json_open(&o, '{');
	json_put_str(&o, "job", r->id);
	json_put_str(&o, "org", r->org);
	json_put_str(&o, "url", json_str(webhook, "url"));
	json_put_str(&o, "origin", url.origin);
	json_put_int(&o, "finished_ms", r->finished_ms);
	json_close(&o, '}');
	arena_reset(&arena);
}

static void write_outbox(const struct result *r, struct buf *out)
{
	struct json_out o = {.buf = out};

	if (!r->outbox.len)
		return;
	if (out->len)
		buf_add_char(out, ',');
	json_open(&o, '{');
	json_put_str(&o, "session", r->outbox);
	json_put_str(&o, "job", r->id);
	json_put_int(&o, "at_ms", r->finished_ms);
	json_close(&o, '}');
}

void row_write(const struct result *result, struct row_lists *lists)
{
	struct json_out o = {.buf = &lists->results};

	if (lists->results.len)
		buf_add_char(&lists->results, ',');
	json_open(&o, '{');
	write_identity(result, &o);
	write_answer(result, &o);
	json_close(&o, '}');
	write_calls(result, &lists->calls);
	write_webhook(result, &lists->webhooks);
	write_outbox(result, &lists->outbox);
}

void row_lists_fini(struct row_lists *lists)
{
	buf_fini(&lists->results);
	buf_fini(&lists->calls);
	buf_fini(&lists->webhooks);
	buf_fini(&lists->outbox);
}

size_t row_lists_bytes(const struct row_lists *lists)
{
	return lists->results.len + lists->calls.len + lists->webhooks.len + lists->outbox.len;
}
