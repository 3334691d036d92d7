#include "lib/relay/view.h"

#include "lib/base/json.h"
#include "schemas/fault.h"
#include "schemas/keys.h"

void shown_from_view(struct shown *s, struct arena *arena, struct str id,
		     const struct job_view *view)
{
	struct codec_error error;

	*s = (struct shown){.id = id, .status = view->state, .view = *view};
	if (str_is(view->state, "finishing"))
		s->status = STR("running");
	if (!state_terminal(view->state))
		return;
	s->ended = true;
	if (codec_decode(&codec_result, arena, view->result, false, &s->result, &error) != CODEC_OK)
		codec_init(&codec_result, &s->result);
	s->result.calls = s->result.calls.len ? s->result.calls : view->calls;
	/* A pool may have been quicker than the front with the job's state: then the result has what the state lacks. */
	if (!s->view.metadata.len)
		s->view.metadata = s->result.metadata;
	/* And a short background call may have ended before it was written. */
	if (!s->view.picked_up_ms)
		s->view.picked_up_ms = s->result.picked_up_ms;
	if (!s->view.first_token_ms)
		s->view.first_token_ms = s->result.first_token_ms;
	if (!s->view.provider.len) {
		s->view.provider = s->result.provider;
		s->view.account = s->result.account;
		s->view.model = s->result.target_model;
	}
}

void shown_from_result(struct shown *s, const struct result *result)
{
	*s = (struct shown){.id = result->id,
			    .status = result->status,
			    .ended = true,
			    .result = *result,
			    .text = result->text,
			    .view = {.found = true,
				     .org = result->org,
				     .kind = result->kind,
				     .lane = result->lane,
				     .session = result->session,
				     .provider = result->provider,
				     .account = result->account,
				     .model = result->target_model,
				     .metadata = result->metadata,
				     .attempt = result->attempt,
				     .created_ms = result->created_ms,
				     .picked_up_ms = result->picked_up_ms,
				     .first_token_ms = result->first_token_ms,
				     .finished_ms = result->finished_ms}};
}

static void put_calls(struct json_out *o, struct str calls)
{
	static const char *const names[] = {"provider", "account", "model"};
	cleanup_json struct json_object *list = NULL;
	struct json_error error;
	size_t count = 0;

	if (calls.len && json_read(calls, &list, &error) == JSON_OK &&
	    json_object_is_type(list, json_type_array))
		count = json_object_array_length(list);
	json_key(o, "calls");
	json_open(o, '[');
	for (size_t i = 0; i < count; i++) {
		struct json_object *call = json_object_array_get_idx(list, i);
		struct str fault = json_str(call, "fault");

		json_open(o, '{');
		for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++)
			json_put_str(o, names[n], json_str(call, names[n]));
		json_put_time(o, "started_at", (uint64_t)json_int(call, "started_ms", 0));
		json_put_time(o, "first_token_at", (uint64_t)json_int(call, "first_token_ms", 0));
		json_put_time(o, "ended_at", (uint64_t)json_int(call, "ended_ms", 0));
		if (fault.len)
			json_put_str(o, "fault", fault);
		else
			json_put_null(o, "fault");
		json_close(o, '}');
	}
	json_close(o, ']');
}

void put_usage(struct json_out *o, const struct result *r)
{
	json_key(o, "usage");
	json_open(o, '{');
	json_put_int(o, "input_tokens", r->input_tokens);
	json_put_int(o, "cached_input_tokens", r->cached_input_tokens);
	json_put_int(o, "cache_write_tokens", r->cache_write_tokens);
	json_put_int(o, "output_tokens", r->output_tokens);
	json_put_int(o, "audio_ms", 0);
	json_put_int(o, "cost_microusd", r->cost_microusd);
	json_close(o, '}');
}

/* An answer without announced parts is one text. */
static void put_parts(struct json_out *o, const struct result *r)
{
	json_put_raw(o, "parts", r->parts.len ? r->parts : STR("[{\"at\":0,\"type\":\"text\"}]"));
}

static void put_finish_reason(struct json_out *o, const struct result *r)
{
	if (r->finish_reason.len)
		json_put_str(o, "finish_reason", r->finish_reason);
	else
		json_put_null(o, "finish_reason");
}

static void put_result(struct json_out *o, const struct shown *s, bool brief)
{
	const struct result *r = &s->result;

	json_key(o, "result");
	json_open(o, '{');
	if (!brief)
		json_put_str(o, "text", s->text);
	json_put_int(o, "bytes", r->bytes);
	put_parts(o, r);
	put_finish_reason(o, r);
	json_put_bool(o, "partial", r->partial);
	json_close(o, '}');
}

/* Name and message of a result's fault; a job that ended badly always has one. */
static struct str fault_name(const struct result *r, struct str status)
{
	if (r->fault.len)
		return r->fault;
	if (str_is(status, "expired") || str_is(status, "cancelled"))
		return status;
	return STR("internal");
}

static void put_fault_members(struct json_out *o, const struct result *r, struct str status)
{
	struct str name = fault_name(r, status);
	const struct fault_info *info = fault_info(fault_find(name));

	json_put_str(o, "name", name);
	json_put_str(o, "message", r->fault_message.len ? r->fault_message : str_of(info->text));
	json_put_bool(o, "retryable", fault_retryable(fault_find(name)));
	json_put_null(o, "retry_after_ms");
}

static void put_fault(struct json_out *o, const struct shown *s)
{
	json_key(o, "fault");
	json_open(o, '{');
	put_fault_members(o, &s->result, s->status);
	json_close(o, '}');
}

static void put_target(struct json_out *o, const struct job_view *v)
{
	if (!v->provider.len) {
		json_put_null(o, "target");
		return;
	}
	json_key(o, "target");
	json_open(o, '{');
	json_put_str(o, "provider", v->provider);
	json_put_str(o, "account", v->account);
	json_put_str(o, "model", v->model);
	json_close(o, '}');
}

void shown_write(const struct shown *s, bool brief, struct buf *out)
{
	struct json_out o = {.buf = out};
	const struct job_view *v = &s->view;
	bool good = str_is(s->status, "succeeded");

	json_open(&o, '{');
	json_put_str(&o, "id", s->id);
	json_put_str(&o, "kind", v->kind);
	json_put_str(&o, "lane", v->lane);
	if (v->session.len)
		json_put_str(&o, "session", v->session);
	json_put_str(&o, "status", s->status);
	json_put_int(&o, "attempt", v->attempt);
	if (v->position > 0 && !s->ended)
		json_put_int(&o, "position", v->position);
	else
		json_put_null(&o, "position");
	if (v->why.len && !s->ended)
		json_put_str(&o, "why", v->why);
	else
		json_put_null(&o, "why");
	put_target(&o, v);
	json_put_time(&o, "created_at", (uint64_t)v->created_ms);
	json_put_time(&o, "picked_up_at", (uint64_t)v->picked_up_ms);
	json_put_time(&o, "first_token_at", (uint64_t)v->first_token_ms);
	json_put_time(&o, "finished_at", (uint64_t)v->finished_ms);
	put_calls(&o, s->ended ? s->result.calls : v->calls);
	if (s->ended && (good || s->result.bytes)) {
		put_result(&o, s, brief);
	} else {
		json_put_null(&o, "result");
	}
	if (s->ended)
		put_usage(&o, &s->result);
	else
		json_put_null(&o, "usage");
	if (s->ended && !good)
		put_fault(&o, s);
	else
		json_put_null(&o, "fault");
	json_put_raw(&o, "metadata", v->metadata.len ? v->metadata : STR("{}"));
	json_close(&o, '}');
}

const char *event_end_name(struct str status)
{
	return str_is(status, "succeeded") ? "result" : "fault";
}

void event_end_write(struct buf *out, struct str job, struct str status, int64_t attempt,
		     const struct result *result)
{
	struct json_out o = {.buf = out};
	bool good = str_is(status, "succeeded");

	json_open(&o, '{');
	json_put_text(&o, "ev", event_end_name(status));
	json_put_str(&o, "job", job);
	if (!good)
		json_put_str(&o, "status", status);
	json_put_int(&o, "attempt", attempt);
	if (good) {
		json_put_int(&o, "bytes", result->bytes);
		put_parts(&o, result);
		put_finish_reason(&o, result);
		put_usage(&o, result);
	} else {
		put_fault_members(&o, result, status);
	}
	json_close(&o, '}');
}

struct job_view view_of_result(const struct result *result)
{
	return (struct job_view){.found = true,
				 .org = result->org,
				 .kind = result->kind,
				 .lane = result->lane,
				 .session = result->session,
				 .state = result->status,
				 .provider = result->provider,
				 .account = result->account,
				 .model = result->target_model,
				 .parts = result->parts,
				 .calls = result->calls,
				 .metadata = result->metadata,
				 .turn = result->turn,
				 .attempt = result->attempt,
				 .created_ms = result->created_ms,
				 .finished_ms = result->finished_ms,
				 .bytes = result->bytes};
}

struct json_object *event_payload(const struct event *event)
{
	struct json_object *tree = NULL;
	struct json_error error;
	struct buf text = {0};

	buf_printf(&text, "{%.*s}", STR_FMT(event->payload));
	if (json_read(buf_str(&text), &tree, &error) != JSON_OK)
		tree = NULL;
	buf_fini(&text);
	return tree;
}

bool view_estimates(const struct job_view *view)
{
	return view->estimate_ms > 0 || (view->estimate_ms == 0 && view->position > 0);
}
