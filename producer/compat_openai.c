/* OpenAI's chat completions (platform.openai.com/docs/api-reference/chat): its checks, its chunks, its whole answer. */
#include <stdio.h>
#include <string.h>

#include "lib/base/json.h"
#include "producer/compat.h"

static const char *const roles[] = {"developer", "system",   "user", "assistant",
				    "tool",	 "function", NULL};

static void number_field(struct json_object *body, const char *key, int64_t *ret_value,
			 struct admitted *a)
{
	struct json_object *value = json_member(body, key);

	if (!value || json_object_is_type(value, json_type_null))
		return;
	*ret_value = json_object_get_int64(value);
	if (!json_object_is_type(value, json_type_int) || *ret_value < 1 ||
	    *ret_value > MAX_TOKENS_MAX)
		admitted_fail(a, FAULT_INVALID_REQUEST, key,
			      "%s must be a whole number from 1 to %d.", key, MAX_TOKENS_MAX);
}

static bool asks(struct json_object *body, const char *key)
{
	struct json_object *value = json_member(body, key);

	return value && !json_object_is_type(value, json_type_null);
}

/* What could be asked for and not be given back: calls whose input is no JSON, and sound. */
static void admit_output(struct json_object *body, struct admitted *a)
{
	struct json_object *tools = json_member(body, "tools");
	struct json_object *modalities = json_member(body, "modalities");
	size_t tool_count =
	    json_object_is_type(tools, json_type_array) ? json_object_array_length(tools) : 0;
	size_t count = json_object_is_type(modalities, json_type_array)
			   ? json_object_array_length(modalities)
			   : 0;
	char param[64];

	for (size_t i = 0; i < tool_count; i++) {
		snprintf(param, sizeof(param), "tools[%zu].type", i);
		if (str_is(json_str(json_object_array_get_idx(tools, i), "type"), "custom"))
			admitted_fail(a, FAULT_NOT_SUPPORTED, param,
				      "%s: custom tools are not supported yet; functions are.",
				      param);
	}
	for (size_t i = 0; i < count; i++)
		if (!str_is(json_text(json_object_array_get_idx(modalities, i)), "text"))
			admitted_fail(a, FAULT_NOT_SUPPORTED, "modalities",
				      "modalities: answers other than text are not supported yet.");
}

static void admit(struct compat *c, struct json_object *body, struct admitted *a)
{
	struct json_object *options = json_member(body, "stream_options");
	int64_t choices = 1;

	compat_model(c, body, a);
	compat_stream(c, body, a);
	compat_messages(body, roles, a);
	number_field(body, "max_tokens", &c->job.max_tokens, a);
	number_field(body, "max_completion_tokens", &c->job.max_tokens, a);
	number_field(body, "n", &choices, a);
	if (choices != 1)
		admitted_fail(a, FAULT_NOT_SUPPORTED, "n",
			      "More than one choice is not supported yet.");
	if (options && !json_object_is_type(options, json_type_object) &&
	    !json_object_is_type(options, json_type_null))
		admitted_fail(a, FAULT_INVALID_REQUEST, "stream_options",
			      "stream_options must be an object.");
	admit_output(body, a);
	c->functions = asks(body, "functions");
	c->include_usage = json_bool(options, "include_usage", false);
}

/* ── streaming ── */

/* A chunk up to its choices. */
static struct json_out chunk(struct compat *c, struct buf *out)
{
	struct json_out o = {.buf = out};
	char id[ID_SIZE + 16];

	snprintf(id, sizeof(id), "chatcmpl-%s", c->id + sizeof("job_") - 1);
	buf_add_text(out, "data: ");
	json_open(&o, '{');
	json_put_text(&o, "id", id);
	json_put_text(&o, "object", "chat.completion.chunk");
	json_put_int(&o, "created", c->job.created_ms / 1000);
	json_put_text(&o, "model", c->model);
	json_key(&o, "choices");
	json_open(&o, '[');
	return o;
}

static struct json_out delta_open(struct compat *c, struct buf *out)
{
	struct json_out o = chunk(c, out);

	json_open(&o, '{');
	json_put_int(&o, "index", 0);
	json_key(&o, "delta");
	json_open(&o, '{');
	return o;
}

static void chunk_close(struct compat *c, struct json_out *o)
{
	json_close(o, ']');
	if (c->include_usage)
		json_put_null(o, "usage");
	json_close(o, '}');
	buf_add_text(o->buf, "\n\n");
}

static void delta_close(struct compat *c, struct json_out *o, const char *finish_reason)
{
	json_close(o, '}');
	json_put_null(o, "logprobs");
	json_put_text(o, "finish_reason", finish_reason);
	json_close(o, '}');
	chunk_close(c, o);
}

static void begin(struct compat *c, struct buf *out)
{
	struct json_out o = delta_open(c, out);

	c->index = -1;
	json_put_text(&o, "role", "assistant");
	json_put_text(&o, "content", "");
	json_put_null(&o, "refusal");
	delta_close(c, &o, NULL);
}

static void tool_open(struct json_out *o, int64_t index)
{
	json_key(o, "tool_calls");
	json_open(o, '[');
	json_open(o, '{');
	json_put_int(o, "index", index);
}

static void tool_close(struct json_out *o)
{
	json_close(o, '}');
	json_close(o, ']');
}

/* Who asked for functions hears of a call without an id, as the dialect told it before it had tools; only one can be told so. */
static bool is_function(const struct compat *c, const struct part *p)
{
	return c->functions && !c->function_told && p->type == PART_TOOL_CALL && !p->id.len;
}

static void put_function(struct json_out *o, const char *key, struct str name, struct str arguments)
{
	json_key(o, key);
	json_open(o, '{');
	if (name.len)
		json_put_str(o, "name", name);
	json_put_str(o, "arguments", arguments);
	json_close(o, '}');
}

static void part(struct compat *c, const struct part *p, struct buf *out)
{
	struct json_out o;

	c->open_type = p->type;
	c->function_open = is_function(c, p);
	if (p->type != PART_TOOL_CALL)
		return;
	o = delta_open(c, out);
	if (c->function_open) {
		c->function_told = true;
		put_function(&o, "function_call", p->name, STR(""));
	} else {
		tool_open(&o, ++c->index);
		json_put_str(&o, "id", p->id);
		json_put_text(&o, "type", "function");
		json_key(&o, "function");
		json_open(&o, '{');
		json_put_str(&o, "name", p->name);
		json_put_text(&o, "arguments", "");
		json_close(&o, '}');
		tool_close(&o);
	}
	delta_close(c, &o, NULL);
}

static void text(struct compat *c, struct str bytes, struct buf *out)
{
	struct json_out o;

	/* The dialect has no place for thinking. */
	if (c->open_type != PART_TEXT && c->open_type != PART_TOOL_CALL)
		return;
	o = delta_open(c, out);
	if (c->open_type == PART_TEXT) {
		json_put_str(&o, "content", bytes);
	} else if (c->function_open) {
		put_function(&o, "function_call", STR(""), bytes);
	} else {
		tool_open(&o, c->index);
		put_function(&o, "function", STR(""), bytes);
		tool_close(&o);
	}
	delta_close(c, &o, NULL);
}

static void put_usage_member(struct json_out *o, const struct result *r)
{
	json_key(o, "usage");
	json_open(o, '{');
	json_put_int(o, "prompt_tokens", r->input_tokens);
	json_put_int(o, "completion_tokens", r->output_tokens);
	json_put_int(o, "total_tokens", r->input_tokens + r->output_tokens);
	json_key(o, "prompt_tokens_details");
	json_open(o, '{');
	json_put_int(o, "cached_tokens", r->cached_input_tokens);
	json_put_int(o, "audio_tokens", 0);
	json_close(o, '}');
	json_key(o, "completion_tokens_details");
	json_open(o, '{');
	json_put_int(o, "reasoning_tokens", 0);
	json_put_int(o, "audio_tokens", 0);
	json_close(o, '}');
	json_close(o, '}');
}

static struct str finish_reason(const struct compat *c, const struct result *r)
{
	if (c->function_told && str_is(r->finish_reason, "tool_calls"))
		return STR("function_call");
	return r->finish_reason.len ? r->finish_reason : STR("stop");
}

static void end(struct compat *c, const struct result *r, struct buf *out)
{
	struct json_out o = delta_open(c, out);

	json_close(&o, '}');
	json_put_null(&o, "logprobs");
	json_put_str(&o, "finish_reason", finish_reason(c, r));
	json_close(&o, '}');
	chunk_close(c, &o);
	if (c->include_usage) {
		o = chunk(c, out);
		json_close(&o, ']');
		put_usage_member(&o, r);
		json_close(&o, '}');
		buf_add_text(out, "\n\n");
	}
	buf_add_text(out, "data: [DONE]\n\n");
}

static void error(struct compat *c, const struct refusal *refusal, struct buf *out)
{
	buf_add_text(out, "data: ");
	error_body(out, DIALECT_OPENAI, refusal, str_of(c->x->id));
	buf_add_text(out, "\n\n");
}

/* ── whole ── */

static void put_tool_calls(struct compat *c, struct json_out *o)
{
	json_key(o, "tool_calls");
	json_open(o, '[');
	for (size_t i = 0; i < c->part_count; i++) {
		if (c->parts[i].type != PART_TOOL_CALL)
			continue;
		json_open(o, '{');
		json_put_str(o, "id", c->parts[i].id);
		json_put_text(o, "type", "function");
		json_key(o, "function");
		json_open(o, '{');
		json_put_str(o, "name", c->parts[i].name);
		json_put_str(o, "arguments", compat_part_text(c, i));
		json_close(o, '}');
		json_close(o, '}');
	}
	json_close(o, ']');
}

static void put_content(struct compat *c, struct json_out *o)
{
	struct buf content = {0};
	size_t texts = 0, calls = 0, last = 0;

	for (size_t i = 0; i < c->part_count; i++) {
		if (c->parts[i].type == PART_TOOL_CALL) {
			calls++;
			last = i;
		}
		if (c->parts[i].type != PART_TEXT)
			continue;
		texts++;
		buf_add_str(&content, compat_part_text(c, i));
	}
	if (texts || !calls)
		json_put_str(o, "content", buf_str(&content));
	else
		json_put_null(o, "content");
	buf_fini(&content);
	c->function_told = calls == 1 && is_function(c, &c->parts[last]);
	if (c->function_told)
		put_function(o, "function_call", c->parts[last].name, compat_part_text(c, last));
	else if (calls)
		put_tool_calls(c, o);
}

static void whole(struct compat *c, const struct result *r, struct buf *out)
{
	struct json_out o = {.buf = out};
	char id[ID_SIZE + 16];

	snprintf(id, sizeof(id), "chatcmpl-%s", c->id + sizeof("job_") - 1);
	json_open(&o, '{');
	json_put_text(&o, "id", id);
	json_put_text(&o, "object", "chat.completion");
	json_put_int(&o, "created", c->job.created_ms / 1000);
	json_put_text(&o, "model", c->model);
	json_key(&o, "choices");
	json_open(&o, '[');
	json_open(&o, '{');
	json_put_int(&o, "index", 0);
	json_key(&o, "message");
	json_open(&o, '{');
	json_put_text(&o, "role", "assistant");
	put_content(c, &o);
	json_put_null(&o, "refusal");
	json_close(&o, '}');
	json_put_null(&o, "logprobs");
	json_put_str(&o, "finish_reason", finish_reason(c, r));
	json_close(&o, '}');
	json_close(&o, ']');
	put_usage_member(&o, r);
	json_close(&o, '}');
}

static const struct compat_ops ops = {
    .admit = admit,
    .begin = begin,
    .part = part,
    .text = text,
    .end = end,
    .error = error,
    .keep_alive = ": keep-alive\n\n",
    .whole = whole,
    .dialect = {"openai", sizeof("openai") - 1},
};

void openai_chat(struct exchange *x)
{
	compat_serve(x, &ops);
}
