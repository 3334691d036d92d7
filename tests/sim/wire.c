#include <stdio.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "tests/sim/answer.h"
#include "tests/sim/family.h"
#include "tests/sim/sim.h"

static const char *stop_reason(const struct sim_call *call)
{
	if (call->dialect == SIM_ANTHROPIC)
		return call->capped ? "max_tokens" : "end_turn";
	return call->capped ? "length" : "stop";
}

/* ---- Anthropic ---- */

static void anthropic_event(struct buf *out, const char *name, const char *data)
{
	buf_printf(out, "event: %s\ndata: %s\n\n", name, data);
}

static void anthropic_usage(const struct sim_call *call, uint64_t output, struct json_out *o)
{
	json_key(o, "usage");
	json_open(o, '{');
	const struct sim_use *use = &call->use;
	int64_t written = (int64_t)(use->write_5m + use->write_1h);
	json_put_int(o, "input_tokens", (int64_t)(use->input - use->read) - written);
	json_put_int(o, "cache_creation_input_tokens", written);
	json_put_int(o, "cache_read_input_tokens", (int64_t)use->read);
	json_key(o, "cache_creation");
	json_open(o, '{');
	json_put_int(o, "ephemeral_5m_input_tokens", (int64_t)use->write_5m);
	json_put_int(o, "ephemeral_1h_input_tokens", (int64_t)use->write_1h);
	json_close(o, '}');
	json_put_int(o, "output_tokens", (int64_t)output);
	json_put_text(o, "service_tier", "standard");
	json_close(o, '}');
}

/* @text ptr NULL: the message of message_start, which has no content yet. */
static void anthropic_message(const struct sim_call *call, struct str text, uint64_t output,
			      struct json_out *o)
{
	json_open(o, '{');
	json_put_text(o, "id", call->id);
	json_put_text(o, "type", "message");
	json_put_text(o, "role", "assistant");
	json_put_str(o, "model", call->ask.model);
	json_key(o, "content");
	json_open(o, '[');
	if (text.ptr && text.len) {
		json_open(o, '{');
		json_put_text(o, "type", "text");
		json_put_str(o, "text", text);
		json_close(o, '}');
	}
	json_close(o, ']');
	json_put_text(o, "stop_reason", text.ptr ? stop_reason(call) : NULL);
	json_put_null(o, "stop_sequence");
	anthropic_usage(call, output, o);
	json_close(o, '}');
}

static void anthropic_begin(const struct sim_call *call, struct buf *out)
{
	struct json_out o = {.buf = out};
	struct str none = {NULL, 0};
	buf_add_text(out, "event: message_start\ndata: ");
	json_open(&o, '{');
	json_put_text(&o, "type", "message_start");
	json_key(&o, "message");
	anthropic_message(call, none, 1, &o);
	json_close(&o, '}');
	buf_add_text(out, "\n\n");
	anthropic_event(out, "content_block_start",
			"{\"type\":\"content_block_start\",\"index\":0,"
			"\"content_block\":{\"type\":\"text\",\"text\":\"\"}}");
	anthropic_event(out, "ping", "{\"type\":\"ping\"}");
}

static void anthropic_end(const struct sim_call *call, struct buf *out)
{
	anthropic_event(out, "content_block_stop", "{\"type\":\"content_block_stop\",\"index\":0}");
	buf_printf(out,
		   "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":"
		   "{\"stop_reason\":\"%s\",\"stop_sequence\":null},"
		   "\"usage\":{\"output_tokens\":%llu}}\n\n",
		   stop_reason(call), (unsigned long long)call->sent);
	anthropic_event(out, "message_stop", "{\"type\":\"message_stop\"}");
}

/* ---- OpenAI ---- */

/* What every chunk begins with, up to the fingerprint. */
static void openai_chunk_head(const struct sim_call *call, struct json_out *o)
{
	buf_add_text(o->buf, "data: ");
	json_open(o, '{');
	json_put_text(o, "id", call->id);
	json_put_text(o, "object", "chat.completion.chunk");
	json_put_int(o, "created", call->created);
	json_put_str(o, "model", call->ask.model);
	json_put_text(o, "service_tier", "default");
	json_put_text(o, "system_fingerprint", "fp_sim");
}

/* Its length hides the token's. */
static struct str obfuscation(const struct sim_call *call)
{
	return (struct str){"k3J9xQ2mZr7WvB0t", 1 + call->answers[0] % 16};
}

static void openai_chunk_tail(const struct sim_call *call, struct json_out *o)
{
	if (call->ask.include_usage)
		json_put_null(o, "usage");
	if (call->ask.obfuscation)
		json_put_str(o, "obfuscation", obfuscation(call));
	json_close(o, '}');
	buf_add_text(o->buf, "\n\n");
}

/* A chunk with choice @index; @delta is JSON. */
static void openai_chunk(const struct sim_call *call, unsigned index, struct str delta,
			 const char *finish, struct buf *out)
{
	struct json_out o = {.buf = out};
	openai_chunk_head(call, &o);
	json_key(&o, "choices");
	json_open(&o, '[');
	json_open(&o, '{');
	json_put_int(&o, "index", index);
	json_put_raw(&o, "delta", delta);
	json_put_null(&o, "logprobs");
	json_put_text(&o, "finish_reason", finish);
	json_close(&o, '}');
	json_close(&o, ']');
	openai_chunk_tail(call, &o);
}

static void openai_usage(const struct sim_call *call, struct json_out *o)
{
	int64_t input = (int64_t)call->use.input;
	int64_t output = (int64_t)(call->sent * call->ask.choices);
	json_key(o, "usage");
	json_open(o, '{');
	json_put_int(o, "prompt_tokens", input);
	json_put_int(o, "completion_tokens", output);
	json_put_int(o, "total_tokens", input + output);
	json_key(o, "prompt_tokens_details");
	json_open(o, '{');
	json_put_int(o, "cached_tokens", (int64_t)call->use.read);
	json_put_int(o, "cache_write_tokens",
		     sim_family_tells_writes(call->ask.model) ? (int64_t)call->use.write_5m : 0);
	json_put_int(o, "audio_tokens", 0);
	json_close(o, '}');
	json_put_raw(o, "completion_tokens_details",
		     STR("{\"reasoning_tokens\":0,\"audio_tokens\":0,"
			 "\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}"));
	json_close(o, '}');
}

static void openai_end(const struct sim_call *call, struct buf *out)
{
	for (unsigned i = 0; i < call->ask.choices; i++)
		openai_chunk(call, i, STR("{}"), stop_reason(call), out);
	if (call->ask.include_usage && !call->how.no_usage) {
		struct json_out o = {.buf = out};
		openai_chunk_head(call, &o);
		json_put_raw(&o, "choices", STR("[]"));
		openai_usage(call, &o);
		json_close(&o, '}');
		buf_add_text(out, "\n\n");
	}
	buf_add_text(out, "data: [DONE]\n\n");
}

/* The whole answer of one choice. */
static void answer_text(const struct sim_call *call, unsigned index, struct buf *out)
{
	uint32_t state = call->answers[index];
	if (!call->how.words) {
		sim_answer_tokens(state, call->total, out);
		return;
	}
	for (uint64_t i = 0; i < call->total; i++)
		buf_add_str(out, sim_answer_token(sim_answer_next(&state) % SIM_WORDS));
}

static void openai_choice(const struct sim_call *call, unsigned index, struct json_out *o)
{
	struct buf text = {0};
	answer_text(call, index, &text);
	json_open(o, '{');
	json_put_int(o, "index", index);
	json_key(o, "message");
	json_open(o, '{');
	json_put_text(o, "role", "assistant");
	json_put_str(o, "content", buf_str(&text));
	json_put_null(o, "refusal");
	json_put_raw(o, "annotations", STR("[]"));
	json_close(o, '}');
	json_put_null(o, "logprobs");
	json_put_text(o, "finish_reason", stop_reason(call));
	json_close(o, '}');
	buf_fini(&text);
}

static void openai_whole(const struct sim_call *call, struct json_out *o)
{
	json_open(o, '{');
	json_put_text(o, "id", call->id);
	json_put_text(o, "object", "chat.completion");
	json_put_int(o, "created", call->created);
	json_put_str(o, "model", call->ask.model);
	json_key(o, "choices");
	json_open(o, '[');
	for (unsigned i = 0; i < call->ask.choices; i++)
		openai_choice(call, i, o);
	json_close(o, ']');
	openai_usage(call, o);
	json_put_text(o, "service_tier", "default");
	json_put_text(o, "system_fingerprint", "fp_sim");
	json_close(o, '}');
}

/* ---- either ---- */

void sim_wire_prepare(struct sim_call *call)
{
	struct buf chunk = {0};
	struct json_out o = {.buf = &chunk};
	if (call->dialect == SIM_OPENAI) {
		openai_chunk_head(call, &o);
		call->chunk = (struct str){
		    arena_dup(http_arena(call->req), buf_text(&chunk), chunk.len), chunk.len};
	}
	buf_fini(&chunk);
}

void sim_wire_begin(const struct sim_call *call, struct buf *out)
{
	if (call->dialect == SIM_ANTHROPIC) {
		anthropic_begin(call, out);
		return;
	}
	for (unsigned i = 0; i < call->ask.choices; i++)
		openai_chunk(call, i,
			     STR("{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}"),
			     NULL, out);
}

void sim_wire_token(const struct sim_call *call, unsigned index, unsigned token, struct buf *out)
{
	struct str text = sim_answer_token(call->how.words ? token % SIM_WORDS : token);
	if (call->dialect == SIM_ANTHROPIC) {
		buf_add_str(out, STR("event: content_block_delta\ndata: "
				     "{\"type\":\"content_block_delta\",\"index\":0,"
				     "\"delta\":{\"type\":\"text_delta\",\"text\":\""));
		json_escape(out, text);
		buf_add_str(out, STR("\"}}\n\n"));
		return;
	}
	/* As openai_chunk, by hand: this is what the simulator does most. */
	buf_add_str(out, call->chunk);
	if (index == 0)
		buf_add_str(out, STR(",\"choices\":[{\"index\":0,\"delta\":{\"content\":\""));
	else
		buf_printf(out, ",\"choices\":[{\"index\":%u,\"delta\":{\"content\":\"", index);
	json_escape(out, text);
	buf_add_str(out, STR("\"},\"logprobs\":null,\"finish_reason\":null}]"));
	if (call->ask.include_usage)
		buf_add_str(out, STR(",\"usage\":null"));
	if (call->ask.obfuscation) {
		buf_add_str(out, STR(",\"obfuscation\":\""));
		buf_add_str(out, obfuscation(call));
		buf_add_char(out, '"');
	}
	buf_add_str(out, STR("}\n\n"));
}

void sim_wire_end(const struct sim_call *call, struct buf *out)
{
	if (call->dialect == SIM_ANTHROPIC)
		anthropic_end(call, out);
	else
		openai_end(call, out);
}

void sim_wire_fail(const struct sim_call *call, struct buf *out)
{
	const char *code = call->how.code;
	char data[256];

	if (call->dialect == SIM_ANTHROPIC) {
		snprintf(data, sizeof(data),
			 "{\"type\":\"error\",\"error\":{\"type\":\"%s\","
			 "\"message\":\"Overloaded\"}}",
			 code[0] ? code : "overloaded_error");
		anthropic_event(out, "error", data);
		return;
	}
	snprintf(data, sizeof(data), "\"%s\"", code);
	buf_add_text(out, "data: {\"error\":{\"message\":\"The server had an error while "
			  "processing your request.\",\"type\":\"server_error\","
			  "\"param\":null,\"code\":");
	buf_add_text(out, code[0] ? data : "null");
	buf_add_text(out, "}}\n\n");
}

void sim_wire_malformed(const struct sim_call *call, struct buf *out)
{
	if (call->dialect == SIM_ANTHROPIC)
		anthropic_event(
		    out, "content_block_delta",
		    "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"te");
	else
		buf_add_text(out,
			     "data: {\"id\":\"chatcmpl-\",\"choices\":[{\"index\":0,\"del\n\n");
}

void sim_wire_huge(const struct sim_call *call, uint64_t bytes, struct buf *out)
{
	buf_add_text(out, call->dialect == SIM_ANTHROPIC
			      ? "event: padding\ndata: {\"type\":\"padding\",\"pad\":\""
			      : "data: {\"object\":\"chat.completion.chunk\",\"choices\":[],"
				"\"obfuscation\":\"");
	memset(buf_room(out, bytes), 'x', bytes);
	buf_added(out, bytes);
	buf_add_text(out, "\"}\n\n");
}

void sim_wire_whole(const struct sim_call *call, struct buf *out)
{
	struct json_out o = {.buf = out};
	struct buf text = {0};
	if (call->dialect == SIM_OPENAI) {
		openai_whole(call, &o);
		return;
	}
	answer_text(call, 0, &text);
	anthropic_message(call, (struct str){buf_text(&text), text.len}, call->sent, &o);
	buf_fini(&text);
}

void sim_wire_error(enum sim_dialect dialect, const struct sim_error *error, const char *request_id,
		    struct buf *out)
{
	struct json_out o = {.buf = out};
	json_open(&o, '{');
	if (dialect == SIM_ANTHROPIC)
		json_put_text(&o, "type", "error");
	json_key(&o, "error");
	json_open(&o, '{');
	if (dialect == SIM_ANTHROPIC) {
		json_put_text(&o, "type", error->type);
		json_put_text(&o, "message", error->message);
		if (error->detail) {
			json_key(&o, "details");
			json_open(&o, '{');
			json_put_text(&o, "error_code", error->detail);
			json_close(&o, '}');
		}
		json_close(&o, '}');
		json_put_text(&o, "request_id", request_id);
	} else {
		json_put_text(&o, "message", error->message);
		json_put_text(&o, "type", error->type);
		json_put_text(&o, "param", error->param);
		json_put_text(&o, "code", error->code);
		json_close(&o, '}');
	}
	json_close(&o, '}');
}

void sim_wire_status(enum sim_dialect dialect, unsigned status, struct sim_error *ret)
{
	static const struct {
		unsigned status;
		const char *anthropic;
		const char *openai;
		const char *code;
		const char *message;
	} rows[] = {
	    {400, "invalid_request_error", "invalid_request_error", NULL, "Bad request"},
	    {401, "authentication_error", "invalid_request_error", "invalid_api_key",
	     "The API key is not valid"},
	    {402, "billing_error", "insufficient_quota", "credit_balance_exhausted",
	     "The credit balance is too low"},
	    {403, "permission_error", "invalid_request_error", NULL, "Not permitted"},
	    {404, "not_found_error", "invalid_request_error", "model_not_found", "Not found"},
	    {409, "conflict_error", "invalid_request_error", NULL, "Conflict"},
	    {413, "request_too_large", "invalid_request_error", NULL, "The request is too large"},
	    {429, "rate_limit_error", "requests", "rate_limit_exceeded", "Rate limit reached"},
	    {500, "api_error", "server_error", NULL, "Internal server error"},
	    {503, "api_error", "service_unavailable_error", "server_is_overloaded",
	     "The server is overloaded"},
	    {504, "timeout_error", "server_error", NULL, "The request timed out"},
	    {529, "overloaded_error", "server_error", NULL, "Overloaded"},
	};
	for (size_t i = 0; i < countof(rows); i++) {
		if (rows[i].status != status)
			continue;
		bool a = dialect == SIM_ANTHROPIC;
		sim_refuse(ret, status, a ? rows[i].anthropic : rows[i].openai, rows[i].code, NULL,
			   "%s", rows[i].message);
		return;
	}
	const char *type = status < 500 ? "invalid_request_error"
					: (dialect == SIM_ANTHROPIC ? "api_error" : "server_error");
	sim_refuse(ret, status, type, NULL, NULL, "Status %u, as asked", status);
}
