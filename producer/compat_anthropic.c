/* Anthropic's messages (docs.claude.com, Messages API): its checks, its events, its whole answer. */
#include <stdio.h>
#include <string.h>

#include "lib/base/json.h"
#include "producer/compat.h"

static const char *const roles[] = {"user", "assistant", "system", NULL};

/* Of the version of October 2026 on, the sampling parameters are gone, whatever their value. */
#define WITHOUT_SAMPLING "2026-10-21"

static void admit_version(struct compat *c, struct json_object *body, struct admitted *a)
{
	static const char *const sampling[] = {"temperature", "top_p", "top_k"};
	struct str version = http_field(c->x->req, "anthropic-version");

	if (!version.len)
		admitted_fail(a, FAULT_INVALID_REQUEST, "anthropic-version",
			      "anthropic-version: the header is required.");
	else if (!str_is(version, "2023-06-01") && !str_is(version, WITHOUT_SAMPLING) &&
		 !str_is(version, "2023-01-01"))
		admitted_fail(
		    a, FAULT_INVALID_REQUEST, "anthropic-version",
		    "anthropic-version: the version is not known; 2023-06-01 and " WITHOUT_SAMPLING
		    " are.");
	for (size_t i = 0; str_is(version, WITHOUT_SAMPLING) && i < countof(sampling); i++) {
		if (json_member(body, sampling[i]))
			admitted_fail(a, FAULT_INVALID_REQUEST, sampling[i],
				      "%s: not taken since anthropic-version " WITHOUT_SAMPLING ".",
				      sampling[i]);
	}
}

/* What the vendor's own tools do and find comes in blocks that have no place here, and must come back in the next turn: the tools that
 * the client runs are taken, by their names before the date, and no others. */
static void admit_tools(struct json_object *body, struct admitted *a)
{
	static const char *const taken[] = {"custom", "bash_", "text_editor_", "computer_",
					    "memory_"};
	struct json_object *tools = json_member(body, "tools");
	struct json_object *servers = json_member(body, "mcp_servers");
	size_t count =
	    json_object_is_type(tools, json_type_array) ? json_object_array_length(tools) : 0;
	char param[64];

	for (size_t i = 0; i < count; i++) {
		struct str type = json_str(json_object_array_get_idx(tools, i), "type");
		bool known = !type.len;

		for (size_t t = 0; t < countof(taken) && !known; t++)
			known = str_starts(type, taken[t]);
		if (type.len > 60)
			type = STR("a tool of this type");
		snprintf(param, sizeof(param), "tools[%zu].type", i);
		if (!known)
			admitted_fail(
			    a, FAULT_NOT_SUPPORTED, param,
			    "%s: %.*s runs at the provider, which is not supported yet; tools "
			    "that the client runs are.",
			    param, STR_FMT(type));
	}
	if (json_object_is_type(servers, json_type_array) && json_object_array_length(servers))
		admitted_fail(a, FAULT_NOT_SUPPORTED, "mcp_servers",
			      "mcp_servers: tools that run at the provider are not supported yet.");
}

static void admit(struct compat *c, struct json_object *body, struct admitted *a)
{
	struct json_object *max = json_member(body, "max_tokens");

	admit_version(c, body, a);
	compat_model(c, body, a);
	if (!json_object_is_type(max, json_type_int) || json_object_get_int64(max) < 0 ||
	    json_object_get_int64(max) > MAX_TOKENS_MAX)
		admitted_fail(a, FAULT_INVALID_REQUEST, "max_tokens",
			      "max_tokens is needed, a whole number from 0 to %d.", MAX_TOKENS_MAX);
	else
		c->job.max_tokens = json_object_get_int64(max);
	compat_stream(c, body, a);
	compat_messages(body, roles, a);
	admit_tools(body, a);
}

static struct json_out event(struct buf *out, const char *type)
{
	struct json_out o = {.buf = out};

	buf_add_text(out, "event: ");
	buf_add_text(out, type);
	buf_add_text(out, "\ndata: ");
	json_open(&o, '{');
	json_put_text(&o, "type", type);
	return o;
}

static void event_close(struct json_out *o)
{
	json_close(o, '}');
	buf_add_text(o->buf, "\n\n");
}

/* Input tokens are told as the dialect counts them: without the cached ones. */
static void put_usage_member(struct json_out *o, const struct result *r)
{
	int64_t plain = r->input_tokens - r->cached_input_tokens - r->cache_write_tokens;

	json_key(o, "usage");
	json_open(o, '{');
	json_put_int(o, "input_tokens", plain > 0 ? plain : 0);
	json_put_int(o, "cache_creation_input_tokens", r->cache_write_tokens);
	json_put_int(o, "cache_read_input_tokens", r->cached_input_tokens);
	json_put_int(o, "output_tokens", r->output_tokens);
	json_close(o, '}');
}

static void put_message_head(struct compat *c, struct json_out *o)
{
	char id[ID_SIZE + 8];

	snprintf(id, sizeof(id), "msg_%s", c->id + sizeof("job_") - 1);
	json_put_text(o, "id", id);
	json_put_text(o, "type", "message");
	json_put_text(o, "role", "assistant");
	json_put_text(o, "model", c->model);
}

/* Our word for the end, in the dialect's. */
static const char *stop_reason(const struct result *r)
{
	if (str_is(r->finish_reason, "length"))
		return "max_tokens";
	if (str_is(r->finish_reason, "tool_calls"))
		return "tool_use";
	if (str_is(r->finish_reason, "content_filter"))
		return "refusal";
	return "end_turn";
}

/* ── streaming ── */

static void begin(struct compat *c, struct buf *out)
{
	static const struct result nothing = {0};
	struct json_out o = event(out, "message_start");

	c->index = -1;
	json_key(&o, "message");
	json_open(&o, '{');
	put_message_head(c, &o);
	json_key(&o, "content");
	json_open(&o, '[');
	json_close(&o, ']');
	json_put_null(&o, "stop_reason");
	json_put_null(&o, "stop_sequence");
	put_usage_member(&o, &nothing);
	json_close(&o, '}');
	event_close(&o);
}

static struct json_out block_start(struct compat *c, const char *type, struct buf *out)
{
	struct json_out o = event(out, "content_block_start");

	c->open_part = true;
	json_put_int(&o, "index", ++c->index);
	json_key(&o, "content_block");
	json_open(&o, '{');
	json_put_text(&o, "type", type);
	return o;
}

static void block_started(struct json_out *o)
{
	json_close(o, '}');
	event_close(o);
}

static void put_delta(struct compat *c, enum part_type type, struct str bytes, struct buf *out)
{
	static const struct {
		const char *type;
		const char *member;
	} deltas[] = {
	    [PART_TEXT] = {"text_delta", "text"},
	    [PART_THINKING] = {"thinking_delta", "thinking"},
	    [PART_TOOL_CALL] = {"input_json_delta", "partial_json"},
	    [PART_SIGNATURE] = {"signature_delta", "signature"},
	};
	struct json_out o = event(out, "content_block_delta");

	json_put_int(&o, "index", c->index);
	json_key(&o, "delta");
	json_open(&o, '{');
	json_put_text(&o, "type", deltas[type].type);
	json_put_str(&o, deltas[type].member, bytes);
	json_close(&o, '}');
	event_close(&o);
}

/* Ends the part at hand. A signature comes in one delta, redacted thinking in the block's start, however many pieces they came in. */
static void block_stop(struct compat *c, struct buf *out)
{
	struct json_out o;

	if (c->open_type == PART_REDACTED) {
		o = block_start(c, "redacted_thinking", out);
		json_put_str(&o, "data", buf_str(&c->sealed));
		block_started(&o);
	} else if (c->open_type == PART_SIGNATURE) {
		put_delta(c, PART_SIGNATURE, buf_str(&c->sealed), out);
	}
	c->open_type = PART_TEXT;
	buf_fini(&c->sealed);
	if (!c->open_part)
		return;
	o = event(out, "content_block_stop");
	json_put_int(&o, "index", c->index);
	event_close(&o);
	c->open_part = false;
}

static void part(struct compat *c, const struct part *p, struct buf *out)
{
	bool goes_on = p->type == PART_SIGNATURE && c->open_type == PART_THINKING;
	struct json_out o;

	if (!goes_on)
		block_stop(c, out);
	c->open_type = p->type;
	switch (p->type) {
	case PART_TEXT:
		o = block_start(c, "text", out);
		json_put_text(&o, "text", "");
		break;
	case PART_SIGNATURE:
		if (goes_on)
			return;
		/* fallthrough */
	case PART_THINKING:
		o = block_start(c, "thinking", out);
		json_put_text(&o, "thinking", "");
		json_put_text(&o, "signature", "");
		break;
	case PART_TOOL_CALL:
		o = block_start(c, "tool_use", out);
		json_put_str(&o, "id", p->id);
		json_put_str(&o, "name", p->name);
		json_put_raw(&o, "input", STR("{}"));
		break;
	case PART_REDACTED:
		return; /* begins when all of it is there */
	}
	block_started(&o);
}

static void text(struct compat *c, struct str bytes, struct buf *out)
{
	if (c->open_type == PART_SIGNATURE || c->open_type == PART_REDACTED) {
		buf_add_str(&c->sealed, bytes); /* no longer than an answer is */
		return;
	}
	if (!c->open_part)
		part(c, &(struct part){.type = PART_TEXT}, out);
	put_delta(c, c->open_type, bytes, out);
}

static void end(struct compat *c, const struct result *r, struct buf *out)
{
	struct json_out o;

	block_stop(c, out);
	o = event(out, "message_delta");
	json_key(&o, "delta");
	json_open(&o, '{');
	json_put_text(&o, "stop_reason", stop_reason(r));
	json_put_null(&o, "stop_sequence");
	json_close(&o, '}');
	put_usage_member(&o, r);
	event_close(&o);
	o = event(out, "message_stop");
	event_close(&o);
}

static void error(struct compat *c, const struct refusal *refusal, struct buf *out)
{
	buf_add_text(out, "event: error\ndata: ");
	error_body(out, DIALECT_ANTHROPIC, refusal, str_of(c->x->id));
	buf_add_text(out, "\n\n");
}

/* ── whole ── */

/* Of the thinking at @n: the part behind it. */
static struct str signature_of(const struct compat *c, size_t n)
{
	bool is = n + 1 < c->part_count && c->parts[n + 1].type == PART_SIGNATURE;

	return is ? compat_part_text(c, n + 1) : STR("");
}

static void put_part(struct compat *c, size_t n, struct json_out *o)
{
	const struct part *p = &c->parts[n];
	struct str bytes = compat_part_text(c, n);
	cleanup_json struct json_object *input = NULL;
	struct json_error bad;

	if (p->type == PART_SIGNATURE)
		return; /* stands in its thinking */
	json_open(o, '{');
	switch (p->type) {
	case PART_TEXT:
		json_put_text(o, "type", "text");
		json_put_str(o, "text", bytes);
		break;
	case PART_THINKING:
		json_put_text(o, "type", "thinking");
		json_put_str(o, "thinking", bytes);
		json_put_str(o, "signature", signature_of(c, n));
		break;
	case PART_SIGNATURE:
		break;
	case PART_REDACTED:
		json_put_text(o, "type", "redacted_thinking");
		json_put_str(o, "data", bytes);
		break;
	case PART_TOOL_CALL:
		json_put_text(o, "type", "tool_use");
		json_put_str(o, "id", p->id);
		json_put_str(o, "name", p->name);
		/* An input that was cut is no JSON: then there is none. */
		json_put_raw(o, "input",
			     json_read(bytes, &input, &bad) == JSON_OK ? bytes : STR("{}"));
		break;
	}
	json_close(o, '}');
}

static void whole(struct compat *c, const struct result *r, struct buf *out)
{
	struct json_out o = {.buf = out};

	json_open(&o, '{');
	put_message_head(c, &o);
	json_key(&o, "content");
	json_open(&o, '[');
	for (size_t i = 0; i < c->part_count; i++)
		put_part(c, i, &o);
	json_close(&o, ']');
	json_put_text(&o, "stop_reason", stop_reason(r));
	json_put_null(&o, "stop_sequence");
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
    .keep_alive = "event: ping\ndata: {\"type\":\"ping\"}\n\n",
    .whole = whole,
    .dialect = {"anthropic", sizeof("anthropic") - 1},
};

void anthropic_messages(struct exchange *x)
{
	compat_serve(x, &ops);
}
