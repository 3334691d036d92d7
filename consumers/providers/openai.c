/* OpenAI Chat Completions, and every server that speaks it. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "consumers/providers/answer.h"
#include "consumers/providers/ask.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"

/* ── the request ── */

/* Anthropic's words for fields that mean the same here. */
static const struct ask_field from_anthropic[] = {
    {"model", NULL},
    {"messages", NULL},
    {"system", NULL},
    {"stream", NULL},
    {"metadata", NULL},
    {"max_tokens", "max_completion_tokens"},
    {"temperature", "temperature"},
    {"top_p", "top_p"},
    {"stop_sequences", "stop"},
    {NULL, NULL},
};

/* Models that reason: o1, o3, o4 …, and gpt-5 and newer but for those called gpt-5-chat. They take temperature and top_p at
 * their defaults alone. */
static bool model_reasons(const char *model)
{
	if (model[0] == 'o' && model[1] >= '1' && model[1] <= '9')
		return true;
	return ask_version(model, "gpt-") >= 500 && !strstr(model, "gpt-5-chat");
}

/* What was asked in other words than the vendor's must be what the model takes: another target is asked rather than the
 * provider, whose refusal would end the job. What was asked in his own words (max_tokens too) is his to judge. */
static enum provider_built check_mapped(const struct ask *ask, struct json_object *body,
					char ret_why[static 128])
{
	static const char *const fields[] = {"temperature", "top_p"};
	struct json_object *stop = json_member(body, "stop");

	for (size_t f = 0; f < countof(fields) && model_reasons(ask->model); f++)
		if (json_double(body, fields[f], 1) != 1)
			return ask_refused(fields[f], ask, ret_why);
	if (json_object_is_type(stop, json_type_array) && json_object_array_length(stop) > 4) {
		snprintf(ret_why, 128,
			 "more than four stop_sequences have no counterpart at this provider");
		return PROVIDER_CANNOT;
	}
	return PROVIDER_BUILT;
}

static struct json_object *message_new(struct str role, struct str content)
{
	struct json_object *message = json_object_new_object();

	json_object_object_add(message, "role",
			       json_object_new_string_len(role.ptr, (int)role.len));
	json_object_object_add(message, "content",
			       json_object_new_string_len(content.ptr, (int)content.len));
	return message;
}

static enum provider_built map_anthropic(const struct ask *ask, struct json_object *body,
					 char ret_why[static 128])
{
	struct json_object *to = json_object_new_array(),
			   *system = json_member(ask->request, "system");
	cleanup_json struct json_object *all =
	    ask_messages(ask, json_member(ask->request, "messages"));
	size_t count = json_object_array_length(all);
	struct buf text = {0};
	enum provider_built r;

	json_object_object_add(body, "messages", to);
	r = ask_map(ask->request, body, from_anthropic, ret_why);
	if (system && !ask_text(system, &text)) {
		snprintf(ret_why, 128, "system has no counterpart at this provider");
		r = PROVIDER_CANNOT;
	} else if (text.len) {
		json_object_array_add(to, message_new(STR("system"), buf_str(&text)));
	}
	for (size_t i = 0; i < count && r == PROVIDER_BUILT; i++) {
		struct json_object *message = json_object_array_get_idx(all, i);

		buf_reset(&text);
		if (ask_text(json_member(message, "content"), &text)) {
			json_object_array_add(
			    to, message_new(json_str(message, "role"), buf_str(&text)));
			continue;
		}
		snprintf(ret_why, 128, "messages[%zu] has no counterpart at this provider", i);
		r = PROVIDER_CANNOT;
	}
	buf_fini(&text);
	return r;
}

static void from_native(const struct ask *ask, struct json_object *body)
{
	struct json_object *messages = json_object_new_array();
	cleanup_json struct json_object *rest = ask_messages(ask, ask->messages);

	if (ask->system.len)
		json_object_array_add(messages, message_new(STR("system"), ask->system));
	for (size_t i = 0; i < json_object_array_length(rest); i++)
		json_object_array_add(messages,
				      json_object_get(json_object_array_get_idx(rest, i)));
	json_object_object_add(body, "messages", messages);
	if (ask->max_tokens)
		json_object_object_add(body, "max_completion_tokens",
				       json_object_new_int64(ask->max_tokens));
	if (!isnan(ask->temperature))
		json_object_object_add(body, "temperature",
				       json_object_new_double(ask->temperature));
}

/* OpenAI's own models begin every answer anew. Servers that speak its protocol may not: vLLM goes on with the last message where two
 * fields say so, others wherever it is an assistant's; their account says which (`prefix`). */
static enum provider_built put_prefix(const struct ask *ask, struct json_object *body,
				      char ret_why[static 128])
{
	bool vllm = strcmp(ask->prefix_how, "vllm") == 0;

	if ((!vllm && strcmp(ask->prefix_how, "message") != 0) ||
	    json_member(body, "response_format") || json_int(body, "n", 1) != 1) {
		snprintf(ret_why, 128, "%.60s does not go on with a text of others", ask->model);
		return PROVIDER_CANNOT;
	}
	ask_put_prefix(ask, body);
	if (vllm) {
		json_object_object_add(body, "continue_final_message",
				       json_object_new_boolean(true));
		json_object_object_add(body, "add_generation_prompt",
				       json_object_new_boolean(false));
	}
	return PROVIDER_BUILT;
}

static enum provider_built build(const struct ask *ask, struct provider_request *ret_request,
				 char ret_why[static 128])
{
	cleanup_json struct json_object *body = NULL;
	struct json_object *options;
	enum provider_built r = PROVIDER_BUILT;

	*ret_request = (struct provider_request){.path = "/chat/completions"};
	if (strcmp(ask->dialect, "openai") == 0) {
		body = ask_copy(ask);
	} else {
		body = json_object_new_object();
		if (strcmp(ask->dialect, "anthropic") == 0)
			r = map_anthropic(ask, body, ret_why);
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
	options = json_object_new_object();
	json_object_object_add(options, "include_usage", json_object_new_boolean(true));
	json_object_object_add(body, "stream_options", options);
	if (ask->max_tokens_unsaid && !json_member(body, "max_completion_tokens") &&
	    !json_member(body, "max_tokens"))
		json_object_object_add(body, "max_completion_tokens",
				       json_object_new_int64(ask->max_tokens_unsaid));
	ret_request->max_tokens =
	    json_int(body, "max_completion_tokens", json_int(body, "max_tokens", 0)) *
	    json_int(body, "n", 1);
	ask_write(ret_request, body);
	buf_add_text(&ret_request->secret, "Bearer ");
	buf_add_text(&ret_request->secret, ask->key);
	ask_add_field(ret_request, "content-type", STR("application/json"));
	ask_add_field(ret_request, "accept", STR("text/event-stream"));
	ask_add_field(ret_request, "authorization", buf_str(&ret_request->secret));
	return PROVIDER_BUILT;
}

/* ── faults: the vendor's words onto ours ── */

static const struct {
	const char *word; /* the error's code or type */
	enum fault fault;
} faults[] = {
    {"insufficient_quota", FAULT_PROVIDER_QUOTA},
    {"credit_balance_exhausted", FAULT_PROVIDER_QUOTA},
    {"billing_hard_limit_reached", FAULT_PROVIDER_QUOTA},
    {"rate_limit_exceeded", FAULT_PROVIDER_RATE},
    {"slow_down", FAULT_PROVIDER_RATE},
    {"server_is_overloaded", FAULT_PROVIDER_OVERLOADED},
    {"server_error", FAULT_PROVIDER_OVERLOADED},
    {"invalid_api_key", FAULT_PROVIDER_AUTH},
    {"invalid_request_error", FAULT_PROVIDER_BAD_REQUEST},
};

/* The vendor's own sentence of a request that no waiting helps: "Request too large for …: Limit 30000, Requested 50000." Only its
 * beginning or its numbers count, since a message may repeat what a tenant wrote, and it decides over this one job alone. */
static bool never_fits(struct str message)
{
	unsigned long long limit, requested;
	char text[256];
	const char *at;

	snprintf(text, sizeof(text), "%.*s", STR_FMT(message));
	at = strstr(text, "Limit ");
	return str_starts(message, "Request too large") ||
	       (at && sscanf(at, "Limit %llu, Requested %llu", &limit, &requested) == 2 &&
		requested > limit);
}

/* Servers that speak the protocol say it in their own places: {"error": "text"}, {"detail": "text"}, {"message": "text"}. */
static struct str error_message(struct json_object *body)
{
	struct str message = json_str(json_member(body, "error"), "message");

	if (!message.len)
		message = json_str(body, "error");
	if (!message.len)
		message = json_str(body, "detail");
	return message.len ? message : json_str(body, "message");
}

/* What is said of the error: its members, or the body's own where "error" is text or missing. */
static struct json_object *error_object(struct json_object *body)
{
	struct json_object *error = json_member(body, "error");

	return json_object_is_type(error, json_type_object) ? error : body;
}

/* The status of an error inside of a 200, where its code is one (vLLM and others say it so); 200: it is not. */
static int error_status(struct json_object *error)
{
	int64_t number = json_int(error, "code", 0);
	uint64_t digits;

	if (str_u64(json_str(error, "code"), &digits) && digits < 600)
		number = (int64_t)digits;
	return number >= 400 && number < 600 ? (int)number : 200;
}

static void on_error(struct answer *a, int status, struct json_object *body)
{
	struct json_object *error = error_object(body);
	struct str message = error_message(body);
	struct str words[2] = {json_str(error, "code"), json_str(error, "type")};
	int said = status == 200 ? error_status(error) : status;
	enum fault fault = said == 200 ? FAULT_PROVIDER_OVERLOADED : answer_status_fault(said);
	bool found = false;

	for (size_t w = 0; w < countof(words) && !found; w++) {
		for (size_t i = 0; i < countof(faults) && !found; i++) {
			/* a status outside of 429 says more than the broad type does */
			if (!str_is(words[w], faults[i].word) ||
			    (w == 1 && said != 200 && said != 429))
				continue;
			fault = faults[i].fault;
			found = true;
		}
	}
	if (fault == FAULT_PROVIDER_RATE && never_fits(message))
		fault = FAULT_PROVIDER_TOO_BIG;
	answer_fail(a, fault, message.len ? message : STR("the provider refused the request"));
}

/* ── the stream ── */

/* Keys of parts: a tool call's is the vendor's index. */
#define KEY_TEXT (-1)
#define KEY_THINKING (-2)
#define KEY_FUNCTION (-3)

static void read_usage(struct answer *a, struct json_object *usage)
{
	struct usage *u = &a->outcome.usage;
	struct json_object *details = json_member(usage, "prompt_tokens_details");

	if (!json_object_is_type(usage, json_type_object))
		return;
	u->input_tokens = answer_count(a, usage, "prompt_tokens", u->input_tokens);
	u->output_tokens = answer_count(a, usage, "completion_tokens", u->output_tokens);
	u->cached_input_tokens = answer_count(a, details, "cached_tokens", u->cached_input_tokens);
	u->cache_write_tokens =
	    answer_count(a, details, "cache_write_tokens", u->cache_write_tokens);
}

static void unreadable(struct answer *a, struct str type)
{
	char message[128];

	snprintf(message, sizeof(message),
		 "the answer has content of a kind that is not known: %.*s",
		 (int)(type.len < 60 ? type.len : 60), type.len ? type.ptr : "");
	answer_fail(a, FAULT_PROVIDER_MALFORMED, str_of(message));
}

static void put_arguments(struct answer *a, struct part *part, struct json_object *arguments)
{
	if (json_object_is_type(arguments, json_type_object))
		parts_text(
		    a, part,
		    str_of(json_object_to_json_string_ext(
			arguments, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)));
	else
		parts_text(a, part, json_text(arguments));
}

/* One piece of a call. Another call begins at a new index, or with another id at the same one; some servers repeat the id in every
 * piece, and some mix the pieces of several calls. */
static void on_tool_call(struct answer *a, int64_t key, struct str id, struct json_object *function)
{
	struct str name = json_str(function, "name");
	struct part *part = parts_find(a, key, id);

	if (!part) {
		parts_stop(a, parts_find(a, key, STR("")));
		part = parts_begin(a, "tool_call", key, id, name);
	} else {
		parts_name(a, part, name);
	}
	if (part)
		put_arguments(a, part, json_member(function, "arguments"));
}

static void on_tool_calls(struct answer *a, struct json_object *calls)
{
	size_t count =
	    json_object_is_type(calls, json_type_array) ? json_object_array_length(calls) : 0;

	for (size_t i = 0; i < count; i++) {
		struct json_object *call = json_object_array_get_idx(calls, i);
		int64_t index = json_int(call, "index", 0);

		if (json_object_is_type(json_member(call, "custom"), json_type_object))
			unreadable(a, STR("custom tool"));
		on_tool_call(a, index < 0 ? 0 : index, json_str(call, "id"),
			     json_member(call, "function"));
	}
}

static const char *const reasons[] = {"stop", "length", "tool_calls", "content_filter"};

/* Text of this kind goes on where nothing else began since. */
static void on_words(struct answer *a, int64_t key, const char *type, struct str text)
{
	struct part *part = parts_last(a);

	if (!text.len)
		return;
	if (!part || part->key != key)
		part = parts_begin(a, type, key, STR(""), STR(""));
	if (part)
		parts_text(a, part, text);
}

static void on_content(struct answer *a, int64_t key, const char *type,
		       struct json_object *content);

/* A block of a list: Mistral's models that reason answer so. Where a text comes from ("reference") is left out, as quotations are. */
static void on_content_block(struct answer *a, int64_t key, const char *type,
			     struct json_object *block)
{
	struct str kind = json_str(block, "type");

	if (str_is(kind, "text"))
		on_content(a, key, type, json_member(block, "text"));
	else if (str_is(kind, "thinking"))
		on_content(a, KEY_THINKING, "thinking", json_member(block, "thinking"));
	else if (!str_is(kind, "reference"))
		unreadable(a, kind);
}

/* Text, or a list of blocks of it (no deeper than the JSON was read). */
static void on_content(struct answer *a, int64_t key, const char *type, struct json_object *content)
{
	size_t count;

	if (json_object_is_type(content, json_type_array)) {
		count = json_object_array_length(content);
		for (size_t i = 0; i < count; i++)
			on_content_block(a, key, type, json_object_array_get_idx(content, i));
	} else if (json_object_is_type(content, json_type_string)) {
		on_words(a, key, type, json_text(content));
	} else if (!json_object_is_type(content, json_type_null)) {
		unreadable(a, STR(""));
	}
}

/* What servers that speak the protocol show of a model's thinking; some say it under both names. */
static struct str reasoning(struct json_object *delta)
{
	struct str words = json_str(delta, "reasoning_content");

	return words.len ? words : json_str(delta, "reasoning");
}

static void on_reason(struct answer *a, struct str reason)
{
	const char *ours = "stop";

	for (size_t i = 0; i < countof(reasons); i++)
		if (str_is(reason, reasons[i]))
			ours = reasons[i];
	if (str_is(reason, "function_call"))
		ours = "tool_calls";
	a->outcome.finish_reason = ours;
}

static void on_choice(struct answer *a, struct json_object *choice, struct str data)
{
	struct json_object *delta = json_member(choice, "delta");
	struct json_object *function = json_member(delta, "function_call");
	struct str reason = json_str(choice, "finish_reason");
	struct str thinking = reasoning(delta);

	on_words(a, KEY_THINKING, "thinking", thinking);
	on_content(a, KEY_TEXT, "text", json_member(delta, "content"));
	on_words(a, KEY_TEXT, "text", json_str(delta, "refusal"));
	on_tool_calls(a, json_member(delta, "tool_calls"));
	if (json_object_is_type(function, json_type_object)) /* before tools there were functions */
		on_tool_call(a, KEY_FUNCTION, STR(""), function);
	if (json_object_is_type(json_member(delta, "audio"), json_type_object))
		unreadable(a, STR("audio"));
	if (json_str(delta, "content").len && !thinking.len && !reason.len &&
	    !json_member(delta, "role") && parts_flows(a, KEY_TEXT, "text"))
		quick_learn(&a->quick, data, "\"content\":\"");
	if (reason.len)
		on_reason(a, reason);
}

/* The end is believed where what it speaks of was there. */
static void on_done(struct answer *a)
{
	if (!a->outcome.finish_reason[0])
		return; /* the end makes it a cut */
	if (strcmp(a->outcome.finish_reason, "tool_calls") == 0 && !parts_last(a))
		answer_fail(a, FAULT_PROVIDER_MALFORMED,
			    STR("the answer ends with a tool's call and has none"));
	answer_done(a);
}

static void on_event(struct answer *a, struct str name, struct str data)
{
	cleanup_json struct json_object *event = NULL;
	struct json_object *choices, *error;
	struct str text;

	(void)name;
	if (parts_flows(a, KEY_TEXT, "text") && quick_match(&a->quick, data, &a->scratch, &text)) {
		answer_text(a, text);
		return;
	}
	if (str_is(str_trim(data), "[DONE]")) {
		on_done(a);
		return;
	}
	event = answer_json(a, data);
	if (!event)
		return;
	error = json_member(event, "error");
	if (json_object_is_type(error, json_type_object) || json_str(event, "error").len ||
	    str_is(json_str(event, "object"), "error")) {
		on_error(a, 200, event);
		return;
	}
	choices = json_member(event, "choices");
	if (json_object_is_type(choices, json_type_array) && json_object_array_length(choices))
		on_choice(a, json_object_array_get_idx(choices, 0), data);
	read_usage(a, json_member(event, "usage"));
}

/* ── limits: requests, and input and output tokens together ── */

static void on_field(struct answer *a, struct str name, struct str value)
{
	if (str_is(name, "x-ratelimit-limit-requests"))
		answer_rate(a, CHARGE_REQUESTS, true, value);
	else if (str_is(name, "x-ratelimit-remaining-requests"))
		answer_rate(a, CHARGE_REQUESTS, false, value);
	else if (str_is(name, "x-ratelimit-limit-tokens"))
		answer_rate(a, CHARGE_TOKENS, true, value);
	else if (str_is(name, "x-ratelimit-remaining-tokens"))
		answer_rate(a, CHARGE_TOKENS, false, value);
	else if (str_is(name, "x-ratelimit-reset-requests"))
		answer_reset_in(a, CHARGE_REQUESTS, value);
	else if (str_is(name, "x-ratelimit-reset-tokens"))
		answer_reset_in(a, CHARGE_TOKENS, value);
}

/* All counts as the request arrives: the prompt, cached or not, and the longest answer that was asked for. */
static void charge(const struct charge_estimate *e, struct charge *ret)
{
	int64_t output = e->max_tokens ? e->max_tokens : e->output_tokens;

	*ret = (struct charge){.unit = {
				   [CHARGE_REQUESTS] = 1,
				   [CHARGE_INPUT] = e->input_tokens,
				   [CHARGE_OUTPUT] = output,
				   [CHARGE_TOKENS] = e->input_tokens + output,
			       }};
}

/* What was asked for stays charged where the answer is shorter; only the estimate of the prompt becomes the count. */
static void spent(const char *model, const struct charge *reserved, const struct usage *usage,
		  bool complete, struct charge *ret)
{
	int64_t input = usage->input_tokens ? usage->input_tokens : reserved->unit[CHARGE_INPUT];
	int64_t output = reserved->unit[CHARGE_OUTPUT];

	(void)model;
	(void)complete;
	if (usage->output_tokens > output)
		output = usage->output_tokens;
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

const struct provider provider_openai = {
    .name = "openai",
    .build = build,
    .answer_new = answer_new,
    .charge = charge,
    .spent = spent,
};
