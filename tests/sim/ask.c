#include "tests/sim/ask.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "tests/sim/family.h"

#define BAD "invalid_request_error"

/* What is being read. */
struct reading {
	struct arena *arena;
	struct sim_ask *ask;
	struct sim_error *error;
	bool openai;
};

enum sim_ask_result sim_refuse(struct sim_error *error, unsigned status, const char *type,
			       const char *code, const char *param, const char *format, ...)
{
	va_list args;
	*error = (struct sim_error){.status = status, .type = type, .code = code, .param = param};
	va_start(args, format);
	vsnprintf(error->message, sizeof(error->message), format, args);
	va_end(args);
	/* A cut must not split a character. */
	struct str text = str_of(error->message);
	while (text.len && !str_utf8(text))
		text.len--;
	error->message[text.len] = '\0';
	return SIM_ASK_REFUSED;
}

/* A field that is not as it should be; the words are the same in both dialects. */
static enum sim_ask_result bad_field(struct reading *r, const char *field, const char *what)
{
	if (r->openai)
		return sim_refuse(r->error, 400, BAD, "invalid_value", field,
				  "Invalid value for '%s': %s.", field, what);
	return sim_refuse(r->error, 400, BAD, NULL, NULL, "%s: %s", field, what);
}

static bool is(struct json_object *value, enum json_type type)
{
	return json_object_is_type(value, type);
}

static bool is_number(struct json_object *value)
{
	return is(value, json_type_int) || is(value, json_type_double);
}

static enum sim_ask_result check_number(struct reading *r, struct json_object *body,
					const char *field, double least, double most)
{
	struct json_object *value = json_member(body, field);
	if (!value)
		return SIM_ASK_OK;
	if (!is_number(value))
		return bad_field(r, field, "Input should be a valid number");
	double x = json_object_get_double(value);
	if (x < least || x > most)
		return bad_field(r, field, "Input is out of range");
	return SIM_ASK_OK;
}

static enum sim_ask_result check_type(struct reading *r, struct json_object *body,
				      const char *field, enum json_type type)
{
	struct json_object *value = json_member(body, field);
	if (!value || is(value, type))
		return SIM_ASK_OK;
	return bad_field(r, field, "Input has the wrong type");
}

static enum sim_ask_result check_known(struct reading *r, struct json_object *body,
				       const char *known)
{
	json_object_object_foreach(body, key, value)
	{
		char word[96];
		(void)value;
		snprintf(word, sizeof(word), " %.90s ", key);
		if (strlen(key) < 64 && strstr(known, word))
			continue;
		if (r->openai)
			return sim_refuse(r->error, 400, BAD, "unknown_parameter",
					  arena_strdup(r->arena, key),
					  "Unknown parameter: '%.64s'.", key);
		return sim_refuse(r->error, 400, BAD, NULL, NULL,
				  "%.64s: Extra inputs are not permitted", key);
	}
	return SIM_ASK_OK;
}

static enum sim_ask_result read_tokens(struct reading *r, struct json_object *body,
				       const char *field, int64_t least)
{
	struct json_object *value = json_member(body, field);
	if (!value)
		return SIM_ASK_OK;
	if (!is(value, json_type_int))
		return bad_field(r, field, "Input should be a valid integer");
	int64_t n = json_object_get_int64(value);
	if (n < least)
		return bad_field(r, field, "Input is below the least allowed value");
	r->ask->max_tokens = (uint64_t)n;
	return SIM_ASK_OK;
}

static enum sim_ask_result read_model(struct reading *r, struct json_object *body)
{
	struct json_object *model = json_member(body, "model");
	if (!model && r->openai)
		return sim_refuse(r->error, 400, BAD, NULL, NULL,
				  "you must provide a model parameter");
	if (!model)
		return bad_field(r, "model", "Field required");
	struct str name = json_text(model);
	if (name.len == 0 || name.len > 128)
		return bad_field(r, "model", "Input should be a valid string");
	r->ask->model = (struct str){arena_dup(r->arena, name.ptr, name.len), name.len};
	if (!str_starts(name, "no-such"))
		return SIM_ASK_OK;
	if (r->openai)
		return sim_refuse(
		    r->error, 404, BAD, "model_not_found", NULL,
		    "The model `%.*s` does not exist or you do not have access to it.",
		    STR_FMT(name));
	return sim_refuse(r->error, 404, "not_found_error", NULL, NULL, "model: %.*s",
			  STR_FMT(name));
}

/* ---- content ---- */

static void add_text(struct buf *out, struct json_object *value)
{
	buf_add_str(out, json_text(value));
}

static bool block_known(struct reading *r, struct str type)
{
	static const char anthropic[] =
	    " text image document search_result thinking redacted_thinking tool_use tool_result "
	    "server_tool_use web_search_tool_result ";
	static const char openai[] = " text image_url input_audio file refusal ";
	char word[64];
	snprintf(word, sizeof(word), " %.*s ", (int)(type.len < 60 ? type.len : 60), type.ptr);
	return type.len && strstr(r->openai ? openai : anthropic, word);
}

/* A string, or blocks of which the text ones count; what is read is added to @out. */
static enum sim_ask_result read_content(struct reading *r, struct json_object *content,
					const char *field, struct buf *out)
{
	if (is(content, json_type_string)) {
		add_text(out, content);
		return SIM_ASK_OK;
	}
	if (!is(content, json_type_array))
		return bad_field(r, field, "Input should be a valid string or list");
	for (size_t i = 0; i < json_object_array_length(content); i++) {
		struct json_object *block = json_object_array_get_idx(content, i);
		struct str type = json_str(block, "type");
		if (!block_known(r, type))
			return bad_field(r, field, "unknown type of content block");
		struct json_object *text = json_member(block, "text");
		if (str_is(type, "text") && !is(text, json_type_string))
			return bad_field(r, field, "text: Field required");
		if (str_is(type, "text") && !r->openai && json_text(text).len == 0)
			return bad_field(r, field, "text content blocks must be non-empty");
		if (str_is(type, "text"))
			add_text(out, text);
		struct json_object *inner = json_member(block, "content");
		if (str_is(type, "tool_result") && is(inner, json_type_string))
			r->ask->input_bytes += json_text(inner).len;
	}
	return SIM_ASK_OK;
}

static bool role_known(struct reading *r, struct str role, size_t index)
{
	if (str_is(role, "user") || str_is(role, "assistant"))
		return true;
	if (!r->openai)
		return index > 0 && str_is(role, "system");
	return str_is(role, "system") || str_is(role, "developer") || str_is(role, "tool") ||
	       str_is(role, "function");
}

static enum sim_ask_result read_message(struct reading *r, struct json_object *message,
					size_t index)
{
	char field[48];
	struct buf text = {0};
	snprintf(field, sizeof(field), "messages[%zu].role", index);
	const char *where = r->openai ? arena_strdup(r->arena, field) : "messages";
	if (!is(message, json_type_object))
		return bad_field(r, where, "Input should be an object");
	struct str role = json_str(message, "role");
	if (!role_known(r, role, index))
		return bad_field(r, where, "Input should be a known role");
	struct json_object *content = json_member(message, "content");
	bool calls = r->openai && json_member(message, "tool_calls");
	if (!content && calls)
		return SIM_ASK_OK;
	snprintf(field, sizeof(field), "messages[%zu].content", index);
	where = r->openai ? arena_strdup(r->arena, field) : "messages";
	if (!content)
		return bad_field(r, where, "content: Field required");
	if (str_is(role, "tool") && !is(json_member(message, "tool_call_id"), json_type_string))
		return bad_field(r, where, "tool_call_id is missing");
	enum sim_ask_result result = read_content(r, content, where, &text);
	r->ask->input_bytes += text.len;
	if (result == SIM_ASK_OK && str_is(role, "user"))
		r->ask->last_user =
		    (struct str){arena_dup(r->arena, buf_text(&text), text.len), text.len};
	buf_fini(&text);
	return result;
}

static enum sim_ask_result read_messages(struct reading *r, struct json_object *body)
{
	struct json_object *messages = json_member(body, "messages");
	if (!messages)
		return r->openai ? sim_refuse(r->error, 400, BAD, "missing_required_parameter",
					      "messages", "Missing required parameter: 'messages'.")
				 : bad_field(r, "messages", "Field required");
	if (!is(messages, json_type_array) || json_object_array_length(messages) == 0)
		return bad_field(r, "messages", "at least one message is required");
	for (size_t i = 0; i < json_object_array_length(messages); i++) {
		enum sim_ask_result result =
		    read_message(r, json_object_array_get_idx(messages, i), i);
		if (result != SIM_ASK_OK)
			return result;
	}
	return SIM_ASK_OK;
}

static enum sim_ask_result read_tools(struct reading *r, struct json_object *body)
{
	struct json_object *tools = json_member(body, "tools");
	if (!tools)
		return SIM_ASK_OK;
	if (!is(tools, json_type_array))
		return bad_field(r, "tools", "Input should be a valid list");
	for (size_t i = 0; i < json_object_array_length(tools); i++) {
		struct json_object *tool = json_object_array_get_idx(tools, i);
		struct json_object *named = r->openai ? json_member(tool, "function") : tool;
		if (json_str(named, "name").len == 0)
			return bad_field(r, "tools", "name: Field required");
	}
	return SIM_ASK_OK;
}

static enum sim_ask_result read_body(struct reading *r, struct str text,
				     struct json_object **ret_body)
{
	struct json_error bad;
	if (json_read(text, ret_body, &bad) != JSON_OK) {
		*ret_body = NULL;
		return sim_refuse(
		    r->error, 400, BAD, NULL, NULL,
		    r->openai
			? "We could not parse the JSON body of your request. (byte %zu: %.100s)"
			: "The request body is not valid JSON: byte %zu: %.100s",
		    bad.offset, bad.message);
	}
	if (!is(*ret_body, json_type_object))
		return sim_refuse(r->error, 400, BAD, NULL, NULL, "The body is not an object");
	return SIM_ASK_OK;
}

/* Runs a check; leaves the function with what it says unless that is SIM_ASK_OK. */
#define TRY(check)                                     \
	do {                                           \
		enum sim_ask_result result_ = (check); \
		if (result_ != SIM_ASK_OK)             \
			return result_;                \
	} while (0)

/* ---- Anthropic ---- */

static const char anthropic_fields[] =
    " model messages max_tokens system cache_control metadata stop_sequences stream temperature "
    "top_k top_p tools tool_choice thinking output_config service_tier inference_geo container "
    "diagnostics speed mcp_servers context_management ";

/* Some models, and the newest version of the interface, leave sampling to nobody. */
static enum sim_ask_result check_sampling(struct reading *r, struct json_object *body,
					  struct str version)
{
	static const char *const fields[] = {"temperature", "top_p", "top_k"};
	bool newest = str_is(version, "2026-10-21");
	bool refused = sim_family_no_sampling(r->ask->model);
	TRY(check_number(r, body, "temperature", 0, 1));
	TRY(check_number(r, body, "top_p", 0, 1));
	TRY(check_number(r, body, "top_k", 0, 1e9));
	for (size_t i = 0; i < countof(fields); i++) {
		struct json_object *value = json_member(body, fields[i]);
		/* top_k has no default that could be named. */
		bool standard = i < 2 && json_object_get_double(value) == 1;
		if (value && newest)
			return bad_field(r, fields[i], "not supported by this API version");
		if (value && refused && !standard)
			return bad_field(r, fields[i], "not supported by this model");
	}
	return SIM_ASK_OK;
}

static enum sim_ask_result check_thinking(struct reading *r, struct json_object *body)
{
	struct json_object *thinking = json_member(body, "thinking");
	struct json_object *budget = json_member(thinking, "budget_tokens");
	struct str type = json_str(thinking, "type");
	TRY(check_type(r, body, "thinking", json_type_object));
	if (!thinking || str_is(type, "adaptive") || str_is(type, "disabled"))
		return SIM_ASK_OK;
	if (!str_is(type, "enabled"))
		return bad_field(r, "thinking.type",
				 "Input should be 'enabled', 'adaptive' or 'disabled'");
	if (!is(budget, json_type_int))
		return bad_field(r, "thinking.enabled.budget_tokens",
				 budget ? "Input should be a valid integer" : "Field required");
	if (json_object_get_int64(budget) < 1024)
		return bad_field(r, "thinking.enabled.budget_tokens",
				 "Input should be greater than or equal to 1024");
	if ((uint64_t)json_object_get_int64(budget) >= r->ask->max_tokens)
		return sim_refuse(r->error, 400, BAD, NULL, NULL,
				  "`max_tokens` must be greater than `thinking.budget_tokens`");
	return SIM_ASK_OK;
}

/* ---- cache breakpoints ---- */

struct marks {
	unsigned count;
	bool short_seen; /* one of 5m: none of 1h may follow */
};

static enum sim_ask_result check_mark(struct reading *r, struct json_object *holder,
				      struct marks *m)
{
	struct json_object *mark = json_member(holder, "cache_control");
	struct str ttl = json_str(mark, "ttl");
	struct str type = json_str(holder, "type");
	bool hour = str_is(ttl, "1h");
	if (!mark)
		return SIM_ASK_OK;
	if (!str_is(json_str(mark, "type"), "ephemeral"))
		return bad_field(r, "cache_control.type", "Input should be 'ephemeral'");
	if (json_member(mark, "ttl") && !hour && !str_is(ttl, "5m"))
		return bad_field(r, "cache_control.ttl", "Input should be '5m' or '1h'");
	if (str_is(type, "thinking") || str_is(type, "redacted_thinking"))
		return bad_field(r, "cache_control", "Extra inputs are not permitted");
	if (hour && m->short_seen)
		return bad_field(r, "cache_control.ttl",
				 "a ttl='1h' block must not come after a ttl='5m' block");
	m->short_seen = m->short_seen || !hour;
	m->count++;
	return SIM_ASK_OK;
}

static enum sim_ask_result check_marks_of(struct reading *r, struct json_object *list,
					  struct marks *m)
{
	size_t count = is(list, json_type_array) ? json_object_array_length(list) : 0;
	for (size_t i = 0; i < count; i++) {
		struct json_object *item = json_object_array_get_idx(list, i);
		struct json_object *inner = json_member(item, "content");
		size_t blocks = is(inner, json_type_array) ? json_object_array_length(inner) : 0;
		TRY(check_mark(r, item, m));
		for (size_t j = 0; j < blocks; j++)
			TRY(check_mark(r, json_object_array_get_idx(inner, j), m));
	}
	return SIM_ASK_OK;
}

/* Four at most, in the order of the prefix: tools, system, messages (and the blocks of results of tools inside them);
 * one at the top counts. */
static enum sim_ask_result check_marks(struct reading *r, struct json_object *body,
				       unsigned *ret_count)
{
	struct json_object *messages = json_member(body, "messages");
	struct marks m = {0, false};
	struct marks top = {0, false};
	TRY(check_marks_of(r, json_member(body, "tools"), &m));
	TRY(check_marks_of(r, json_member(body, "system"), &m));
	for (size_t i = 0; i < json_object_array_length(messages); i++) {
		struct json_object *message = json_object_array_get_idx(messages, i);
		TRY(check_marks_of(r, json_member(message, "content"), &m));
	}
	TRY(check_mark(r, body, &top));
	if (m.count + top.count > 4)
		return sim_refuse(r->error, 400, BAD, NULL, NULL,
				  "A maximum of 4 blocks with cache_control may be provided. "
				  "Found %u.",
				  m.count + top.count);
	*ret_count = m.count + top.count;
	return SIM_ASK_OK;
}

static enum sim_ask_result read_system(struct reading *r, struct json_object *body)
{
	struct json_object *system = json_member(body, "system");
	struct buf text = {0};
	if (!system)
		return SIM_ASK_OK;
	enum sim_ask_result result = read_content(r, system, "system", &text);
	r->ask->input_bytes += text.len;
	buf_fini(&text);
	return result;
}

/* Newer models do not go on from an answer's beginning. */
static enum sim_ask_result check_prefill(struct reading *r, struct json_object *body)
{
	struct json_object *messages = json_member(body, "messages");
	size_t count = json_object_array_length(messages);
	struct str role = json_str(json_object_array_get_idx(messages, count - 1), "role");
	struct str first = json_str(json_object_array_get_idx(messages, 0), "role");
	if (!str_is(first, "user"))
		return bad_field(r, "messages", "first message must use the \"user\" role");
	if (str_is(role, "assistant") && sim_family_no_prefill(r->ask->model))
		return sim_refuse(r->error, 400, BAD, NULL, NULL,
				  "This model does not support assistant message prefill. "
				  "The conversation must end with a user message.");
	return SIM_ASK_OK;
}

static enum sim_ask_result anthropic_check(struct reading *r, struct json_object *body,
					   struct str version, bool counting)
{
	unsigned marks = 0;
	TRY(check_known(r, body, anthropic_fields));
	TRY(read_model(r, body));
	if (!counting && !json_member(body, "max_tokens"))
		return bad_field(r, "max_tokens", "Field required");
	TRY(check_type(r, body, "stream", json_type_boolean));
	r->ask->stream = json_bool(body, "stream", false);
	TRY(read_tokens(r, body, "max_tokens", r->ask->stream ? 1 : 0));
	TRY(read_messages(r, body));
	TRY(check_prefill(r, body));
	TRY(read_system(r, body));
	TRY(read_tools(r, body));
	TRY(check_marks(r, body, &marks));
	TRY(check_sampling(r, body, version));
	TRY(check_thinking(r, body));
	TRY(check_type(r, body, "stop_sequences", json_type_array));
	TRY(check_type(r, body, "metadata", json_type_object));
	TRY(check_type(r, body, "tool_choice", json_type_object));
	TRY(check_type(r, body, "output_config", json_type_object));
	if (marks)
		sim_prefix_anthropic(body, r->arena, &r->ask->prefix);
	return SIM_ASK_OK;
}

enum sim_ask_result sim_ask_anthropic(struct str text, struct str version, bool counting,
				      struct arena *arena, struct sim_ask *ret_ask,
				      struct sim_error *ret_error)
{
	cleanup_json struct json_object *body = NULL;
	struct reading r = {arena, ret_ask, ret_error, false};
	*ret_ask = (struct sim_ask){.max_tokens = UINT64_MAX, .choices = 1};
	TRY(read_body(&r, text, &body));
	return anthropic_check(&r, body, version, counting);
}

/* ---- OpenAI ---- */

static const char openai_fields[] =
    " model messages max_tokens max_completion_tokens temperature top_p n stop seed "
    "presence_penalty frequency_penalty logit_bias logprobs top_logprobs response_format tools "
    "tool_choice parallel_tool_calls functions function_call reasoning_effort verbosity stream "
    "stream_options service_tier store metadata safety_identifier prompt_cache_key "
    "prompt_cache_options prompt_cache_retention user modalities audio prediction "
    "web_search_options ";

static enum sim_ask_result read_stream_options(struct reading *r, struct json_object *body)
{
	struct json_object *options = json_member(body, "stream_options");
	r->ask->obfuscation = true;
	if (!options)
		return SIM_ASK_OK;
	if (!r->ask->stream)
		return sim_refuse(
		    r->error, 400, BAD, NULL, "stream_options",
		    "The 'stream_options' parameter is only allowed when 'stream' is enabled.");
	if (!is(options, json_type_object))
		return bad_field(r, "stream_options", "it must be an object");
	TRY(check_type(r, options, "include_usage", json_type_boolean));
	TRY(check_type(r, options, "include_obfuscation", json_type_boolean));
	r->ask->include_usage = json_bool(options, "include_usage", false);
	r->ask->obfuscation = json_bool(options, "include_obfuscation", true);
	return SIM_ASK_OK;
}

/* Models that reason take none of these, or their default alone. */
static enum sim_ask_result check_reasoning(struct reading *r, struct json_object *body)
{
	static const struct {
		const char *field;
		double standard; /* NAN: there is none */
	} rows[] = {
	    {"temperature", 1},	      {"top_p", 1},	   {"presence_penalty", 0},
	    {"frequency_penalty", 0}, {"logit_bias", NAN}, {"top_logprobs", NAN},
	};
	struct str model = r->ask->model;
	bool off =
	    sim_family_may_not_reason(model) && str_is(json_str(body, "reasoning_effort"), "none");
	if (!sim_family_reasons(model))
		return SIM_ASK_OK;
	if (json_member(body, "max_tokens"))
		return sim_refuse(r->error, 400, BAD, "unsupported_parameter", "max_tokens",
				  "Unsupported parameter: 'max_tokens' is not supported with this "
				  "model. Use 'max_completion_tokens' instead.");
	for (size_t i = 0; !off && i < countof(rows); i++) {
		struct json_object *value = json_member(body, rows[i].field);
		if (!value || json_object_get_double(value) == rows[i].standard)
			continue;
		if (isnan(rows[i].standard))
			return sim_refuse(
			    r->error, 400, BAD, "unsupported_parameter", rows[i].field,
			    "Unsupported parameter: '%s' is not supported with this model.",
			    rows[i].field);
		return sim_refuse(r->error, 400, BAD, "unsupported_value", rows[i].field,
				  "Unsupported value: '%s' does not support %g with this model. "
				  "Only the default (%g) value is supported.",
				  rows[i].field, json_object_get_double(value), rows[i].standard);
	}
	return SIM_ASK_OK;
}

/* A text, or at most four. */
static enum sim_ask_result check_stop(struct reading *r, struct json_object *body)
{
	struct json_object *stop = json_member(body, "stop");
	if (!stop || is(stop, json_type_string))
		return SIM_ASK_OK;
	if (!is(stop, json_type_array))
		return bad_field(r, "stop", "it must be a string or a list of strings");
	if (json_object_array_length(stop) > 4)
		return sim_refuse(r->error, 400, BAD, "array_above_max_length", "stop",
				  "Invalid 'stop': array too long. Expected an array with maximum "
				  "length 4, but got an array with length %zu instead.",
				  json_object_array_length(stop));
	for (size_t i = 0; i < json_object_array_length(stop); i++)
		if (!is(json_object_array_get_idx(stop, i), json_type_string))
			return bad_field(r, "stop", "it must be a string or a list of strings");
	return SIM_ASK_OK;
}

static enum sim_ask_result read_choices(struct reading *r, struct json_object *body)
{
	struct json_object *n = json_member(body, "n");
	if (!n)
		return SIM_ASK_OK;
	if (!is(n, json_type_int))
		return bad_field(r, "n", "it must be an integer");
	if (json_object_get_int64(n) < 1 || json_object_get_int64(n) > SIM_CHOICES_MAX)
		return bad_field(r, "n", "it must be between 1 and 128");
	r->ask->choices = (unsigned)json_object_get_int64(n);
	return SIM_ASK_OK;
}

static enum sim_ask_result openai_check(struct reading *r, struct json_object *body)
{
	TRY(check_known(r, body, openai_fields));
	TRY(read_model(r, body));
	TRY(read_messages(r, body));
	TRY(read_tools(r, body));
	TRY(check_type(r, body, "stream", json_type_boolean));
	r->ask->stream = json_bool(body, "stream", false);
	TRY(read_stream_options(r, body));
	if (json_member(body, "max_tokens") && json_member(body, "max_completion_tokens"))
		return bad_field(r, "max_tokens", "it cannot stand beside max_completion_tokens");
	TRY(read_tokens(r, body, "max_tokens", 1));
	TRY(read_tokens(r, body, "max_completion_tokens", 1));
	TRY(check_number(r, body, "temperature", 0, 2));
	TRY(check_number(r, body, "top_p", 0, 1));
	TRY(check_number(r, body, "presence_penalty", -2, 2));
	TRY(check_number(r, body, "frequency_penalty", -2, 2));
	TRY(check_type(r, body, "seed", json_type_int));
	TRY(check_type(r, body, "response_format", json_type_object));
	TRY(check_type(r, body, "metadata", json_type_object));
	TRY(check_stop(r, body));
	TRY(read_choices(r, body));
	TRY(check_reasoning(r, body));
	if (r->ask->input_bytes >= SIM_CACHE_OPENAI_BYTES)
		sim_prefix_openai(body, r->arena, &r->ask->prefix);
	return SIM_ASK_OK;
}

enum sim_ask_result sim_ask_openai(struct str text, struct arena *arena, struct sim_ask *ret_ask,
				   struct sim_error *ret_error)
{
	cleanup_json struct json_object *body = NULL;
	struct reading r = {arena, ret_ask, ret_error, true};
	*ret_ask = (struct sim_ask){.max_tokens = UINT64_MAX, .choices = 1};
	TRY(read_body(&r, text, &body));
	return openai_check(&r, body);
}
