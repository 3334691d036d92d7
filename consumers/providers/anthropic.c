/* Anthropic Messages, version 2023-06-01. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "consumers/providers/answer.h"
#include "consumers/providers/ask.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"

#define DEFAULT_MAX_TOKENS 4096

/* ── the request ── */

/* OpenAI's words for fields that mean the same here. */
static const struct ask_field from_openai[] = {
    {"model", NULL},
    {"messages", NULL},
    {"max_tokens", "max_tokens"},
    {"stream", NULL},
    {"max_completion_tokens", "max_tokens"},
    {"temperature", "temperature"},
    {"top_p", "top_p"},
    {"stream_options", NULL},
    {"stop", NULL},
    {"n", NULL},
    {"user", NULL},
    {"safety_identifier", NULL},
    {NULL, NULL},
};

/* From which version on a family of models is so; the last has no name. */
struct since {
	const char *family;
	int version; /* ask_version */
};

static bool is_since(const struct since *list, const char *model)
{
	for (; list->family; list++)
		if (ask_version(model, list->family) >= list->version)
			return true;
	return false;
}

/* They take temperature, top_p and top_k at their defaults alone. */
static const struct since no_sampling[] = {
    {"opus-", 407}, {"sonnet-", 500}, {"haiku-", 500}, {"fable", 0}, {"mythos", 0}, {NULL, 0},
};

/* What was asked in other words than the vendor's must be what the model takes: another target is asked rather than the
 * provider, whose refusal would end the job. What was asked in his own words is his to judge. */
static enum provider_built check_mapped(const struct ask *ask, struct json_object *body,
					char ret_why[static 128])
{
	static const char *const fields[] = {"temperature", "top_p"};

	if (json_double(body, "temperature", 0) > 1) {
		snprintf(ret_why, 128, "temperature above 1 has no counterpart at this provider");
		return PROVIDER_CANNOT;
	}
	for (size_t f = 0; f < countof(fields) && is_since(no_sampling, ask->model); f++)
		if (json_double(body, fields[f], 1) != 1)
			return ask_refused(fields[f], ask, ret_why);
	return PROVIDER_BUILT;
}

/* System and developer messages go into the system prompt; text of users and assistants stays. */
static enum provider_built map_messages(struct json_object *from, struct json_object *to,
					struct buf *system, char ret_why[static 128])
{
	size_t count =
	    json_object_is_type(from, json_type_array) ? json_object_array_length(from) : 0;
	struct buf text = {0};

	for (size_t i = 0; i < count; i++) {
		struct json_object *message = json_object_array_get_idx(from, i), *mapped;
		struct str role = json_str(message, "role");
		bool system_role = str_is(role, "system") || str_is(role, "developer");

		buf_reset(&text);
		if ((!system_role && !str_is(role, "user") && !str_is(role, "assistant")) ||
		    !ask_text(json_member(message, "content"), &text)) {
			snprintf(ret_why, 128, "messages[%zu] has no counterpart at this provider",
				 i);
			buf_fini(&text);
			return PROVIDER_CANNOT;
		}
		if (system_role) {
			if (system->len)
				buf_add_text(system, "\n\n");
			buf_add_str(system, buf_str(&text));
			continue;
		}
		mapped = json_object_new_object();
		json_object_object_add(mapped, "role",
				       json_object_new_string_len(role.ptr, (int)role.len));
		json_object_object_add(
		    mapped, "content",
		    json_object_new_string_len(text.data + text.head, (int)text.len));
		json_object_array_add(to, mapped);
	}
	buf_fini(&text);
	return PROVIDER_BUILT;
}

static enum provider_built map_openai(const struct ask *ask, struct json_object *body,
				      char ret_why[static 128])
{
	struct json_object *messages = json_object_new_array();
	struct json_object *stop = json_member(ask->request, "stop"), *list;
	cleanup_json struct json_object *all =
	    ask_messages(ask, json_member(ask->request, "messages"));
	struct buf system = {0};
	enum provider_built r;

	json_object_object_add(body, "messages", messages);
	r = ask_map(ask->request, body, from_openai, ret_why);
	if (r == PROVIDER_BUILT)
		r = map_messages(all, messages, &system, ret_why);
	if (system.len)
		json_object_object_add(body, "system",
				       json_object_new_string_len(system.data, (int)system.len));
	buf_fini(&system);
	if (json_object_is_type(stop, json_type_array)) {
		json_object_object_add(body, "stop_sequences", json_object_get(stop));
	} else if (json_object_is_type(stop, json_type_string)) {
		list = json_object_new_array();
		json_object_array_add(list, json_object_get(stop));
		json_object_object_add(body, "stop_sequences", list);
	}
	return r;
}

static void from_native(const struct ask *ask, struct json_object *body)
{
	json_object_object_add(body, "messages", ask_messages(ask, ask->messages));
	if (ask->system.len)
		json_object_object_add(
		    body, "system",
		    json_object_new_string_len(ask->system.ptr, (int)ask->system.len));
	if (ask->max_tokens)
		json_object_object_add(body, "max_tokens", json_object_new_int64(ask->max_tokens));
	if (!isnan(ask->temperature))
		json_object_object_add(body, "temperature",
				       json_object_new_double(ask->temperature));
}

/* They refuse a conversation that ends with an assistant's message. */
static const struct since no_prefix[] = {
    {"opus-", 406}, {"sonnet-", 406}, {"haiku-", 500}, {"fable", 0}, {"mythos", 0}, {NULL, 0},
};

/* What was answered already goes behind the messages. Thinking, an output format and a forced tool call begin every answer anew. */
static enum provider_built put_prefix(const struct ask *ask, struct json_object *body,
				      char ret_why[static 128])
{
	struct str thinking = json_str(json_member(body, "thinking"), "type");
	struct str choice = json_str(json_member(body, "tool_choice"), "type");
	bool takes = strcmp(ask->prefix_how, "none") != 0;

	if (strcmp(ask->prefix_how, "auto") == 0 && is_since(no_prefix, ask->model))
		takes = false;
	if ((thinking.len && !str_is(thinking, "disabled")) || str_is(choice, "any") ||
	    str_is(choice, "tool") || json_member(json_member(body, "output_config"), "format"))
		takes = false;
	if (!takes) {
		snprintf(ret_why, 128, "%.60s does not go on with a text of others", ask->model);
		return PROVIDER_CANNOT;
	}
	ask_put_prefix(ask, body);
	return PROVIDER_BUILT;
}

static enum provider_built build(const struct ask *ask, struct provider_request *ret_request,
				 char ret_why[static 128])
{
	cleanup_json struct json_object *body = NULL;
	enum provider_built r = PROVIDER_BUILT;

	*ret_request = (struct provider_request){.path = "/v1/messages"};
	if (strcmp(ask->dialect, "anthropic") == 0) {
		body = ask_copy(ask);
	} else {
		body = json_object_new_object();
		if (strcmp(ask->dialect, "openai") == 0)
			r = map_openai(ask, body, ret_why);
		else
			from_native(ask, body);
		if (!r)
			r = check_mapped(ask, body, ret_why);
	}
	if (!r && ask->prefix.len)
		r = put_prefix(ask, body, ret_why);
	if (r)
		return r;
	json_object_object_add(body, "model", json_object_new_string(ask->model));
	json_object_object_add(body, "stream", json_object_new_boolean(true));
	if (!json_member(body, "max_tokens"))
		json_object_object_add(body, "max_tokens",
				       json_object_new_int64(ask->max_tokens_unsaid
								 ? ask->max_tokens_unsaid
								 : DEFAULT_MAX_TOKENS));
	ret_request->max_tokens = json_int(body, "max_tokens", DEFAULT_MAX_TOKENS);
	ask_cache_anthropic(ask, body, &ret_request->cache_key);
	ask_write(ret_request, body);
	buf_add_text(&ret_request->secret, ask->key);
	ask_add_field(ret_request, "content-type", STR("application/json"));
	ask_add_field(ret_request, "accept", STR("text/event-stream"));
	ask_add_field(ret_request, "anthropic-version", STR("2023-06-01"));
	ask_add_field(ret_request, "x-api-key", buf_str(&ret_request->secret));
	return PROVIDER_BUILT;
}

/* ── faults: the vendor's words onto ours ── */

/* A message may repeat what the request says (a field's name, a model's), and that is a tenant's to choose: of its text only the
 * beginning counts, and only where the vendor has no other word for it. */
static const struct {
	int status;	     /* 0: any (inside a 200) */
	const char *type;    /* of the error; NULL: any */
	const char *code;    /* details.error_code; NULL: any */
	const char *message; /* begins so; NULL: any */
	enum fault fault;
} faults[] = {
    {429, NULL, "enforced_spend_limit_reached", NULL, FAULT_PROVIDER_QUOTA},
    {429, NULL, "contract_spend_limit_reached", NULL, FAULT_PROVIDER_QUOTA},
    {400, NULL, "organization_on_hold", NULL, FAULT_PROVIDER_QUOTA},
    {400, "invalid_request_error", NULL, "You have reached your specified API usage limits",
     FAULT_PROVIDER_QUOTA},
    {400, "invalid_request_error", NULL, "Your credit balance is too low", FAULT_PROVIDER_QUOTA},
    {0, "overloaded_error", NULL, NULL, FAULT_PROVIDER_OVERLOADED},
    {0, "api_error", NULL, NULL, FAULT_PROVIDER_OVERLOADED},
    {0, "timeout_error", NULL, NULL, FAULT_PROVIDER_OVERLOADED},
    {0, "rate_limit_error", NULL, NULL, FAULT_PROVIDER_RATE},
    {0, "authentication_error", NULL, NULL, FAULT_PROVIDER_AUTH},
    {0, "permission_error", NULL, NULL, FAULT_PROVIDER_DENIED},
    {0, "billing_error", NULL, NULL, FAULT_PROVIDER_QUOTA},
    {0, "request_too_large", NULL, NULL, FAULT_PROVIDER_TOO_BIG},
    {0, "invalid_request_error", NULL, NULL, FAULT_PROVIDER_BAD_REQUEST},
    {0, "not_found_error", NULL, NULL, FAULT_PROVIDER_BAD_REQUEST},
    {0, "conflict_error", NULL, NULL, FAULT_PROVIDER_OVERLOADED},
};

/* @message is the vendor's own, that begins with @begin. What he says of a field begins with the field's name and ": ", and a tenant may
 * name his field like the sentence. */
static bool is_sentence(struct str message, const char *begin)
{
	return str_starts(message, begin) && !memmem(message.ptr, message.len, ": ", 2);
}

static void on_error(struct answer *a, int status, struct json_object *body)
{
	struct json_object *error = json_member(body, "error");
	struct str type = json_str(error, "type"), message = json_str(error, "message");
	struct str code = json_str(json_member(error, "details"), "error_code");

	for (size_t i = 0; i < countof(faults); i++) {
		if (faults[i].status && faults[i].status != status)
			continue;
		if (faults[i].type && !str_is(type, faults[i].type))
			continue;
		if (faults[i].code && !str_is(code, faults[i].code))
			continue;
		if (faults[i].message && !is_sentence(message, faults[i].message))
			continue;
		answer_fail(a, faults[i].fault, message);
		return;
	}
	answer_fail(a, status == 200 ? FAULT_PROVIDER_OVERLOADED : answer_status_fault(status),
		    message.len ? message : STR("the provider refused the request"));
}

/* ── the stream ── */

static void read_usage(struct answer *a, struct json_object *usage)
{
	struct usage *u = &a->outcome.usage;
	int64_t uncached = u->input_tokens - u->cached_input_tokens - u->cache_write_tokens;

	uncached = answer_count(a, usage, "input_tokens", uncached);
	u->cached_input_tokens =
	    answer_count(a, usage, "cache_read_input_tokens", u->cached_input_tokens);
	u->cache_write_tokens =
	    answer_count(a, usage, "cache_creation_input_tokens", u->cache_write_tokens);
	u->cache_write_1h_tokens =
	    answer_count(a, json_member(usage, "cache_creation"), "ephemeral_1h_input_tokens",
			 u->cache_write_1h_tokens);
	u->input_tokens = uncached + u->cached_input_tokens + u->cache_write_tokens;
	u->output_tokens = answer_count(a, usage, "output_tokens", u->output_tokens);
}

/* A key that no block has: of a part whose index another block took over. */
#define KEY_NONE (-1)

/* What proves to the vendor that the thinking is his own, and must come back with it: a part of its own, right behind. */
static void on_signature(struct answer *a, struct part *part, struct str signature)
{
	if (!signature.len)
		return;
	if (part != parts_last(a))
		answer_fail(a, FAULT_PROVIDER_MALFORMED,
			    STR("thinking is signed when something else has begun"));
	else if (strcmp(part->type, "thinking") == 0)
		part = parts_begin(a, "signature", part->key, STR(""), STR(""));
	if (part)
		parts_text(a, part, signature);
}

static int64_t block_key(struct json_object *event)
{
	int64_t index = json_int(event, "index", 0);

	return index < 0 ? 0 : index;
}

/* A block of a kind that is not here (what the vendor's own tools do and find) is left out with all of its deltas. */
static void on_block(struct answer *a, struct json_object *event)
{
	static const struct {
		const char *theirs;
		const char *ours;
		const char *bytes; /* the member that may hold the beginning, or all */
	} kinds[] = {
	    {"text", "text", "text"},
	    {"thinking", "thinking", "thinking"},
	    {"redacted_thinking", "redacted_thinking", "data"},
	    {"tool_use", "tool_call", ""},
	};
	struct json_object *block = json_member(event, "content_block");
	int64_t key = block_key(event);
	struct part *part;

	while ((part = parts_find(a, key, STR("")))) {
		part->key = KEY_NONE;
		parts_stop(a, part);
	}
	for (size_t i = 0; i < countof(kinds); i++) {
		if (!str_is(json_str(block, "type"), kinds[i].theirs))
			continue;
		part = parts_begin(a, kinds[i].ours, key, json_str(block, "id"),
				   json_str(block, "name"));
		if (part)
			parts_text(a, part, json_str(block, kinds[i].bytes));
	}
	if (part && strcmp(part->type, "thinking") == 0)
		on_signature(a, part, json_str(block, "signature"));
}

/* A delta belongs to the block of its index, and to nobody where that has no part or is of another kind. */
static void on_delta(struct answer *a, struct json_object *event, struct str data)
{
	struct json_object *delta = json_member(event, "delta");
	struct str type = json_str(delta, "type");
	int64_t key = block_key(event);
	struct part *part = parts_find(a, key, STR(""));
	const char *kind = part ? part->type : "";

	if (str_is(type, "text_delta") && strcmp(kind, "text") == 0) {
		parts_text(a, part, json_str(delta, "text"));
		quick_learn(&a->quick, data, "\"text\":\"");
		a->quick_key = key;
	} else if (str_is(type, "input_json_delta") && strcmp(kind, "tool_call") == 0) {
		parts_text(a, part, json_str(delta, "partial_json"));
	} else if (str_is(type, "thinking_delta") && strcmp(kind, "thinking") == 0) {
		parts_text(a, part, json_str(delta, "thinking"));
	} else if (str_is(type, "signature_delta") &&
		   (strcmp(kind, "thinking") == 0 || strcmp(kind, "signature") == 0)) {
		on_signature(a, part, json_str(delta, "signature"));
	}
}

static const struct {
	const char *theirs;
	const char *ours;
} reasons[] = {
    {"end_turn", "stop"},
    {"stop_sequence", "stop"},
    {"max_tokens", "length"},
    {"tool_use", "tool_calls"},
    {"refusal", "content_filter"},
    {"pause_turn", "stop"},
    {"model_context_window_exceeded", "length"},
};

static void on_message_delta(struct answer *a, struct json_object *event)
{
	struct str reason = json_str(json_member(event, "delta"), "stop_reason");

	for (size_t i = 0; i < countof(reasons); i++)
		if (str_is(reason, reasons[i].theirs))
			a->outcome.finish_reason = reasons[i].ours;
	if (reason.len && !a->outcome.finish_reason[0])
		a->outcome.finish_reason = "stop";
	read_usage(a, json_member(event, "usage"));
}

static void on_event(struct answer *a, struct str name, struct str data)
{
	cleanup_json struct json_object *event = NULL;
	struct str text, type;

	(void)name;
	if (parts_flows(a, a->quick_key, "text") &&
	    quick_match(&a->quick, data, &a->scratch, &text)) {
		answer_text(a, text);
		return;
	}
	event = answer_json(a, data);
	if (!event)
		return;
	type = json_str(event, "type");
	if (str_is(type, "content_block_delta"))
		on_delta(a, event, data);
	else if (str_is(type, "message_start"))
		read_usage(a, json_member(json_member(event, "message"), "usage"));
	else if (str_is(type, "content_block_start"))
		on_block(a, event);
	else if (str_is(type, "content_block_stop"))
		parts_stop(a, parts_find(a, block_key(event), STR("")));
	else if (str_is(type, "message_delta"))
		on_message_delta(a, event);
	else if (str_is(type, "message_stop"))
		answer_done(a);
	else if (str_is(type, "error"))
		on_error(a, 200, event);
	/* ping and whatever is new: nothing to do */
}

/* ── limits: requests, input and output tokens of a minute ── */

static void on_field(struct answer *a, struct str name, struct str value)
{
	static const struct {
		const char *name;
		enum charge_unit unit;
	} known[] = {
	    {"requests-", CHARGE_REQUESTS},
	    {"input-tokens-", CHARGE_INPUT},
	    {"output-tokens-", CHARGE_OUTPUT},
	    {"tokens-", CHARGE_TOKENS}, /* the workspace's, where it is lower than their sum */
	};
	static const char head[] = "anthropic-ratelimit-";
	size_t unit = 0, len;

	if (!str_starts(name, head))
		return;
	name = (struct str){name.ptr + sizeof(head) - 1, name.len - sizeof(head) + 1};
	while (unit < countof(known) && !str_starts(name, known[unit].name))
		unit++;
	if (unit == countof(known))
		return;
	len = strlen(known[unit].name);
	name = (struct str){name.ptr + len, name.len - len};
	if (str_is(name, "reset"))
		answer_reset_at(a, known[unit].unit, value);
	else if (str_is(name, "limit") || str_is(name, "remaining"))
		answer_rate(a, known[unit].unit, str_is(name, "limit"), value);
}

/* Input counts as the request arrives, output while it is made: up to max_tokens. */
static void charge(const struct charge_estimate *e, struct charge *ret)
{
	*ret = (struct charge){.unit = {
				   [CHARGE_REQUESTS] = 1,
				   [CHARGE_INPUT] = e->input_tokens,
				   [CHARGE_OUTPUT] = e->max_tokens,
				   [CHARGE_TOKENS] = e->input_tokens + e->max_tokens,
			       }};
}

/* Input that a cache served does not count, but for the old Haiku models. What is not known of a call that was cut counts as
 * reserved. */
static void spent(const char *model, const struct charge *reserved, const struct usage *usage,
		  bool complete, struct charge *ret)
{
	int64_t cached =
	    strstr(model, "3-5-haiku") || strstr(model, "3-haiku") ? 0 : usage->cached_input_tokens;
	int64_t input = usage->input_tokens - cached, output = usage->output_tokens;

	if (!usage->input_tokens)
		input = reserved->unit[CHARGE_INPUT];
	if ((!complete || !output) && output < reserved->unit[CHARGE_OUTPUT])
		output = reserved->unit[CHARGE_OUTPUT];
	*ret = (struct charge){.unit = {
				   [CHARGE_REQUESTS] = 1,
				   [CHARGE_INPUT] = input,
				   [CHARGE_OUTPUT] = output,
				   [CHARGE_TOKENS] = input + output,
			       }};
}

static struct answer *answer_new(const struct answer_sink *sink)
{
	static const struct answer_ops ops = {
	    .event = on_event, .error = on_error, .field = on_field};

	return answer_open(&ops, sink);
}

const struct provider provider_anthropic = {
    .name = "anthropic",
    .build = build,
    .answer_new = answer_new,
    .charge = charge,
    .spent = spent,
};
