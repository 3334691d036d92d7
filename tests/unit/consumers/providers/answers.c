#include <math.h>
#include <stdio.h>
#include <string.h>

#include "consumers/providers/provider.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "tests/unit/test.h"

SUITE("providers/answers");

/* What a sink heard: "[type id name]" for parts, text as it is. */
struct heard {
	struct buf text;
	size_t pieces;
};

static void hear_part(void *ctx, const char *type, struct str id, struct str name)
{
	struct heard *h = ctx;

	buf_printf(&h->text, "[%s %.*s %.*s]", type, STR_FMT(id), STR_FMT(name));
}

static void hear_text(void *ctx, struct str text)
{
	struct heard *h = ctx;

	buf_add_str(&h->text, text);
	h->pieces++;
}

static struct answer *begin(const char *provider, struct heard *h, int status)
{
	struct answer_sink sink = {hear_part, hear_text, h};
	struct answer *a = provider_find(str_of(provider))->answer_new(&sink);
	struct http_field fields[] = {
	    {STR("content-type"),
	     status == 200 ? STR("text/event-stream; charset=utf-8") : STR("application/json")},
	    {STR("request-id"), STR("req_7")},
	    {STR("retry-after"), STR("2")},
	};

	answer_head(a, status, fields, 3, 0);
	return a;
}

#define A_START                                                                                  \
	"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\"," \
	"\"usage\":{\"input_tokens\":12,\"cache_creation_input_tokens\":5,"                      \
	"\"cache_read_input_tokens\":100,\"output_tokens\":1}}}\n\n"
#define A_BLOCK(i, block)                                                                   \
	"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":" #i \
	",\"content_block\":" block "}\n\n"
#define A_TEXT(i, text)                                                                     \
	"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":" #i \
	",\"delta\":{\"type\":\"text_delta\",\"text\":\"" text "\"}}\n\n"
#define A_STOP                                                                                \
	"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":" \
	"\"end_turn\"},\"usage\":{\"output_tokens\":9}}\n\n"                                  \
	"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"

TEST(anthropic_text_comes_whole_with_its_usage)
{
	struct heard h = {0};
	struct answer *a = begin("anthropic", &h, 200);
	const struct answer_outcome *o = answer_outcome(a);

	answer_data(a,
		    STR(A_START A_BLOCK(0, "{\"type\":\"text\",\"text\":\"\"}") A_TEXT(0, "a\\\"b")
			    A_TEXT(0, "\\u00e9\\n") A_TEXT(0, "\xF0\x9F\x99\x82") A_STOP));
	ck_assert_view(buf_str(&h.text), "a\"b\xC3\xA9\n\xF0\x9F\x99\x82");
	ck_assert(o->complete);
	ck_assert_int_eq(o->fault, FAULT_NONE);
	ck_assert_str_eq(o->finish_reason, "stop");
	ck_assert_int_eq(o->usage.input_tokens, 117);
	ck_assert_int_eq(o->usage.cached_input_tokens, 100);
	ck_assert_int_eq(o->usage.cache_write_tokens, 5);
	ck_assert_int_eq(o->usage.output_tokens, 9);
	ck_assert_view(o->request_id, "req_7");
	answer_free(a);
	buf_fini(&h.text);
}

TEST(any_split_of_the_bytes_gives_the_same_answer)
{
	static const char all[] = A_START A_BLOCK(0, "{\"type\":\"text\",\"text\":\"\"}")
	    A_TEXT(0, "one") A_TEXT(0, "t\\\\wo") A_TEXT(0, "\xE2\x82\xAC") A_STOP;

	for (size_t piece = 1; piece < 40; piece++) {
		struct heard h = {0};
		struct answer *a = begin("anthropic", &h, 200);

		for (size_t at = 0; at < sizeof(all) - 1; at += piece) {
			size_t left = sizeof(all) - 1 - at;

			answer_data(a, (struct str){all + at, left < piece ? left : piece});
		}
		ck_assert_view(buf_str(&h.text), "onet\\wo\xE2\x82\xAC");
		ck_assert(answer_outcome(a)->complete);
		answer_free(a);
		buf_fini(&h.text);
	}
}

TEST(anthropic_thinking_and_tools_are_parts)
{
	struct heard h = {0};
	struct answer *a = begin("anthropic", &h, 200);

	answer_data(a, STR(A_START A_BLOCK(0, "{\"type\":\"thinking\",\"thinking\":\"\"}")));
	answer_data(a, STR("data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":"
			   "{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\n\n"));
	answer_data(a, STR(A_BLOCK(1, "{\"type\":\"text\",\"text\":\"\"}") A_TEXT(1, "hi")));
	answer_data(a, STR(A_BLOCK(2, "{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"grade\"}")));
	answer_data(a,
		    STR("data: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":"
			"{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\\\":1}\"}}\n\n"));
	ck_assert_view(buf_str(&h.text), "[thinking  ]hm[text  ]hi[tool_call t1 grade]{\"a\":1}");
	answer_free(a);
	buf_fini(&h.text);
}

TEST(an_end_without_the_terminator_is_a_cut)
{
	struct heard h = {0};
	struct answer *a = begin("anthropic", &h, 200);

	answer_data(a,
		    STR(A_START A_BLOCK(0, "{\"type\":\"text\",\"text\":\"\"}") A_TEXT(0, "half")));
	answer_end(a);
	ck_assert(!answer_outcome(a)->complete);
	ck_assert_int_eq(answer_outcome(a)->fault, FAULT_PROVIDER_CUT);
	answer_free(a);
	buf_fini(&h.text);
}

TEST(an_error_event_inside_a_200_is_a_fault)
{
	struct heard h = {0};
	struct answer *a = begin("anthropic", &h, 200);

	answer_data(a, STR("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":"
			   "\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n"));
	ck_assert_int_eq(answer_outcome(a)->fault, FAULT_PROVIDER_OVERLOADED);
	ck_assert_view(answer_outcome(a)->message, "Overloaded");
	answer_data(a, STR(A_TEXT(0, "late") A_STOP));
	ck_assert(!answer_outcome(a)->complete);
	ck_assert_uint_eq(h.text.len, 0);
	answer_free(a);
}

/* An error's words inside a 200, and what they mean. */
static const struct {
	const char *provider;
	const char *event;
	enum fault fault;
} inside[] = {
    {"anthropic", "{\"type\":\"error\",\"error\":{\"type\":\"api_error\"}}",
     FAULT_PROVIDER_OVERLOADED},
    {"anthropic", "{\"type\":\"error\",\"error\":{\"type\":\"timeout_error\"}}",
     FAULT_PROVIDER_OVERLOADED},
    {"anthropic", "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\"}}",
     FAULT_PROVIDER_RATE},
    {"anthropic", "{\"type\":\"error\",\"error\":{\"type\":\"authentication_error\"}}",
     FAULT_PROVIDER_AUTH},
    {"anthropic", "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\"}}",
     FAULT_PROVIDER_BAD_REQUEST},
    {"anthropic", "{\"type\":\"error\",\"error\":{\"type\":\"something_new\"}}",
     FAULT_PROVIDER_OVERLOADED},
    {"openai", "{\"error\":{\"type\":\"server_error\",\"code\":null}}", FAULT_PROVIDER_OVERLOADED},
    {"openai", "{\"error\":{\"type\":\"tokens\",\"code\":\"rate_limit_exceeded\"}}",
     FAULT_PROVIDER_RATE},
    {"openai", "{\"error\":{\"type\":\"x\",\"code\":\"insufficient_quota\"}}",
     FAULT_PROVIDER_QUOTA},
    {"openai", "{\"error\":{\"type\":\"invalid_request_error\",\"code\":null}}",
     FAULT_PROVIDER_BAD_REQUEST},
    {"openai", "{\"error\":{\"type\":\"something_new\"}}", FAULT_PROVIDER_OVERLOADED},
    {"openai", "{\"error\":\"boom\"}", FAULT_PROVIDER_OVERLOADED},
    {"openai", "{\"error\":null,\"choices\":[]}", FAULT_NONE},
    /* a code that is a status */
    {"openai", "{\"error\":{\"message\":\"max\",\"type\":\"BadRequestError\",\"code\":400}}",
     FAULT_PROVIDER_BAD_REQUEST},
    {"openai", "{\"error\":{\"type\":\"server_error\",\"code\":422}}", FAULT_PROVIDER_BAD_REQUEST},
    {"openai", "{\"error\":{\"code\":429}}", FAULT_PROVIDER_RATE},
    {"openai", "{\"error\":{\"code\":\"429\",\"type\":\"insufficient_quota\"}}",
     FAULT_PROVIDER_QUOTA},
    {"openai", "{\"error\":{\"code\":401}}", FAULT_PROVIDER_AUTH},
    {"openai", "{\"error\":{\"code\":\"402\"}}", FAULT_PROVIDER_QUOTA},
    {"openai", "{\"error\":{\"code\":413}}", FAULT_PROVIDER_TOO_BIG},
    {"openai", "{\"error\":{\"code\":500}}", FAULT_PROVIDER_OVERLOADED},
    {"openai", "{\"error\":{\"code\":17}}", FAULT_PROVIDER_OVERLOADED},
    {"openai", "{\"error\":{\"code\":17,\"type\":\"invalid_request_error\"}}",
     FAULT_PROVIDER_BAD_REQUEST},
    {"openai", "{\"error\":\"boom\",\"code\":400}", FAULT_PROVIDER_BAD_REQUEST},
    {"openai", "{\"object\":\"error\",\"message\":\"max\",\"code\":400}",
     FAULT_PROVIDER_BAD_REQUEST},
    {"anthropic", "{\"type\":\"error\",\"error\":\"boom\"}", FAULT_PROVIDER_OVERLOADED},
};

TEST(an_error_inside_a_200_means_what_its_words_say)
{
	for (size_t i = 0; i < countof(inside); i++) {
		struct heard h = {0};
		struct answer *a = begin(inside[i].provider, &h, 200);
		struct buf text = {0};

		buf_printf(&text, "data: %s\n\n", inside[i].event);
		answer_data(a, buf_str(&text));
		ck_assert_msg(answer_outcome(a)->fault == inside[i].fault, "line %zu: fault %d", i,
			      (int)answer_outcome(a)->fault);
		ck_assert(!answer_outcome(a)->complete);
		buf_fini(&text);
		answer_free(a);
	}
}

TEST(a_malformed_event_is_a_fault)
{
	struct heard h = {0};
	struct answer *a = begin("openai", &h, 200);

	answer_data(a, STR("data: {\"choices\":[{\"delta\":{\"content\":\"x\"\n\n"));
	ck_assert_int_eq(answer_outcome(a)->fault, FAULT_PROVIDER_MALFORMED);
	answer_free(a);
}

/* Status, body and what it must mean. */
static const struct {
	const char *provider;
	int status;
	const char *body;
	enum fault fault;
} errors[] = {
    {"anthropic", 429, "{\"error\":{\"type\":\"rate_limit_error\",\"message\":\"m\"}}",
     FAULT_PROVIDER_RATE},
    {"anthropic", 429,
     "{\"error\":{\"type\":\"rate_limit_error\",\"message\":\"m\",\"details\":{\"error_code\":"
     "\"enforced_spend_limit_reached\"}}}",
     FAULT_PROVIDER_QUOTA},
    {"anthropic", 400,
     "{\"error\":{\"type\":\"invalid_request_error\",\"message\":\"Your credit balance is too "
     "low\"}}",
     FAULT_PROVIDER_QUOTA},
    {"anthropic", 400, "{\"error\":{\"type\":\"invalid_request_error\",\"message\":\"no\"}}",
     FAULT_PROVIDER_BAD_REQUEST},
    {"anthropic", 401, "{\"error\":{\"type\":\"authentication_error\",\"message\":\"no\"}}",
     FAULT_PROVIDER_AUTH},
    {"anthropic", 529, "{\"error\":{\"type\":\"overloaded_error\",\"message\":\"no\"}}",
     FAULT_PROVIDER_OVERLOADED},
    {"anthropic", 413, "<html>too large</html>", FAULT_PROVIDER_TOO_BIG},
    {"anthropic", 522, "<html>", FAULT_PROVIDER_OVERLOADED},
    {"openai", 429,
     "{\"error\":{\"message\":\"Limit 3, Used 2, Requested "
     "2.\",\"type\":\"tokens\",\"code\":\"rate_limit_exceeded\"}}",
     FAULT_PROVIDER_RATE},
    {"openai", 429,
     "{\"error\":{\"message\":\"Limit 3, Requested "
     "5.\",\"type\":\"tokens\",\"code\":\"rate_limit_exceeded\"}}",
     FAULT_PROVIDER_TOO_BIG},
    {"openai", 429,
     "{\"error\":{\"message\":\"m\",\"type\":\"insufficient_quota\",\"code\":\"insufficient_"
     "quota\"}}",
     FAULT_PROVIDER_QUOTA},
    {"openai", 401,
     "{\"error\":{\"message\":\"m\",\"type\":\"invalid_request_error\",\"code\":\"invalid_api_"
     "key\"}}",
     FAULT_PROVIDER_AUTH},
    {"openai", 404,
     "{\"error\":{\"message\":\"m\",\"type\":\"invalid_request_error\",\"code\":\"model_not_"
     "found\"}}",
     FAULT_PROVIDER_BAD_REQUEST},
    {"openai", 503,
     "{\"error\":{\"message\":\"m\",\"type\":\"service_unavailable_error\",\"code\":\"server_is_"
     "overloaded\"}}",
     FAULT_PROVIDER_OVERLOADED},
    {"anthropic", 400,
     "{\"error\":{\"type\":\"invalid_request_error\",\"message\":\"You have reached your specified "
     "API usage limits.\"}}",
     FAULT_PROVIDER_QUOTA},
    {"anthropic", 400,
     "{\"error\":{\"type\":\"invalid_request_error\",\"message\":\"m\",\"details\":{\"error_code\":"
     "\"organization_on_hold\"}}}",
     FAULT_PROVIDER_QUOTA},
    /* a tenant's own field names in the provider's sentence */
    {"anthropic", 400,
     "{\"error\":{\"type\":\"invalid_request_error\",\"message\":\"tools.0.name: usage limits \"}}",
     FAULT_PROVIDER_BAD_REQUEST},
    {"anthropic", 400,
     "{\"error\":{\"type\":\"invalid_request_error\",\"message\":\"Your credit balance is too low: "
     "Extra inputs are not permitted\"}}",
     FAULT_PROVIDER_BAD_REQUEST},
    {"anthropic", 400,
     "{\"error\":{\"type\":\"invalid_request_error\",\"message\":\"Your credit balance: Extra "
     "inputs are not permitted\"}}",
     FAULT_PROVIDER_BAD_REQUEST},
    {"anthropic", 400,
     "{\"error\":{\"type\":\"invalid_request_error\",\"message\":\"organization_on_hold: Extra "
     "inputs are not permitted\"}}",
     FAULT_PROVIDER_BAD_REQUEST},
    {"anthropic", 429,
     "{\"error\":{\"type\":\"rate_limit_error\",\"message\":\"for contract_spend_limit_reached\"}}",
     FAULT_PROVIDER_RATE},
    {"openai", 429,
     "{\"error\":{\"message\":\"Rate limit reached for Requested\",\"type\":\"tokens\",\"code\":"
     "\"rate_limit_exceeded\"}}",
     FAULT_PROVIDER_RATE},
    {"openai", 400,
     "{\"error\":{\"message\":\"insufficient_quota: Unrecognized request argument\",\"type\":"
     "\"invalid_request_error\",\"code\":null}}",
     FAULT_PROVIDER_BAD_REQUEST},
    {"anthropic", 402, "{\"error\":{\"type\":\"billing_error\",\"message\":\"m\"}}",
     FAULT_PROVIDER_QUOTA},
    {"anthropic", 402, "<html>", FAULT_PROVIDER_QUOTA},
    {"anthropic", 403, "{\"error\":{\"type\":\"permission_error\",\"message\":\"m\"}}",
     FAULT_PROVIDER_DENIED},
    {"anthropic", 403, "<html>", FAULT_PROVIDER_DENIED},
    {"anthropic", 404, "{\"error\":{\"type\":\"not_found_error\",\"message\":\"m\"}}",
     FAULT_PROVIDER_BAD_REQUEST},
    {"anthropic", 408, "", FAULT_PROVIDER_OVERLOADED},
    {"anthropic", 409, "{\"error\":{\"type\":\"conflict_error\",\"message\":\"m\"}}",
     FAULT_PROVIDER_OVERLOADED},
    {"anthropic", 413, "{\"error\":{\"type\":\"request_too_large\",\"message\":\"m\"}}",
     FAULT_PROVIDER_TOO_BIG},
    {"anthropic", 422, "{}", FAULT_PROVIDER_BAD_REQUEST},
    {"anthropic", 429,
     "{\"error\":{\"type\":\"rate_limit_error\",\"message\":\"m\",\"details\":{\"error_code\":"
     "\"contract_spend_limit_reached\"}}}",
     FAULT_PROVIDER_QUOTA},
    {"anthropic", 429,
     "{\"error\":{\"type\":\"rate_limit_error\",\"message\":\"m\",\"details\":{\"error_code\":"
     "\"ramp_limit_exceeded\"}}}",
     FAULT_PROVIDER_RATE},
    {"anthropic", 429, "<html>", FAULT_PROVIDER_RATE},
    {"anthropic", 500, "{\"error\":{\"type\":\"api_error\",\"message\":\"m\"}}",
     FAULT_PROVIDER_OVERLOADED},
    {"anthropic", 503,
     "{\"error\":{\"type\":\"api_error\",\"message\":\"m\",\"details\":{\"error_code\":\"cmek_"
     "unavailable\"}}}",
     FAULT_PROVIDER_OVERLOADED},
    {"anthropic", 504, "{\"error\":{\"type\":\"timeout_error\",\"message\":\"m\"}}",
     FAULT_PROVIDER_OVERLOADED},
    {"anthropic", 520, "<html>", FAULT_PROVIDER_OVERLOADED},
    {"anthropic", 418, "", FAULT_PROVIDER_BAD_REQUEST},
    {"openai", 400,
     "{\"error\":{\"message\":\"m\",\"type\":\"invalid_request_error\",\"code\":\"context_length_"
     "exceeded\"}}",
     FAULT_PROVIDER_BAD_REQUEST},
    {"openai", 400,
     "{\"error\":{\"message\":\"m\",\"type\":\"billing_error\",\"code\":\"billing_hard_limit_"
     "reached\"}}",
     FAULT_PROVIDER_QUOTA},
    {"openai", 402, "", FAULT_PROVIDER_QUOTA},
    {"openai", 403,
     "{\"error\":{\"message\":\"m\",\"type\":\"invalid_request_error\",\"code\":\"unsupported_"
     "country_region_territory\"}}",
     FAULT_PROVIDER_DENIED},
    {"openai", 408, "", FAULT_PROVIDER_OVERLOADED},
    {"openai", 409, "", FAULT_PROVIDER_OVERLOADED},
    {"openai", 413, "", FAULT_PROVIDER_TOO_BIG},
    {"openai", 422, "{\"detail\":\"no\"}", FAULT_PROVIDER_BAD_REQUEST},
    {"openai", 429,
     "{\"error\":{\"message\":\"m\",\"type\":\"insufficient_quota\",\"code\":\"credit_balance_"
     "exhausted\"}}",
     FAULT_PROVIDER_QUOTA},
    {"openai", 429,
     "{\"error\":{\"message\":\"m\",\"type\":\"rate_limit_error\",\"code\":\"slow_down\"}}",
     FAULT_PROVIDER_RATE},
    {"openai", 429, "{\"error\":\"busy\"}", FAULT_PROVIDER_RATE},
    {"openai", 500, "{\"error\":{\"message\":\"m\",\"type\":\"server_error\",\"code\":null}}",
     FAULT_PROVIDER_OVERLOADED},
    {"openai", 502, "<html>", FAULT_PROVIDER_OVERLOADED},
    {"openai", 521, "<html>", FAULT_PROVIDER_OVERLOADED},
    {"openai", 500, "", FAULT_PROVIDER_OVERLOADED},
};

TEST(every_refusal_has_its_fault)
{
	for (size_t i = 0; i < countof(errors); i++) {
		struct heard h = {0};
		struct answer *a = begin(errors[i].provider, &h, errors[i].status);

		answer_data(a, str_of(errors[i].body));
		answer_end(a);
		ck_assert_msg(answer_outcome(a)->fault == errors[i].fault, "line %zu: fault %d", i,
			      (int)answer_outcome(a)->fault);
		ck_assert_int_eq(answer_outcome(a)->retry_after_ms, 2000);
		answer_free(a);
	}
}

#define O_CHUNK(delta, finish)                                                                \
	"data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0," \
	"\"delta\":" delta ",\"finish_reason\":" finish "}],\"usage\":null}\n\n"

TEST(openai_is_complete_with_a_reason_and_done)
{
	struct heard h = {0};
	struct answer *a = begin("openai", &h, 200);
	const struct answer_outcome *o = answer_outcome(a);

	answer_data(a, STR(O_CHUNK("{\"role\":\"assistant\",\"content\":\"\"}", "null")));
	answer_data(a, STR(O_CHUNK("{\"content\":\"He\"}", "null")
			       O_CHUNK("{\"content\":\"y\\t\"}", "null")));
	answer_data(a, STR(O_CHUNK("{}", "\"length\"")));
	answer_data(
	    a, STR("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":50,\"completion_tokens\":2,"
		   "\"prompt_tokens_details\":{\"cached_tokens\":40}}}\n\n"));
	ck_assert(!o->complete);
	answer_data(a, STR("data: [DONE]\n\n"));
	ck_assert(o->complete);
	ck_assert_view(buf_str(&h.text), "Hey\t");
	ck_assert_str_eq(o->finish_reason, "length");
	ck_assert_int_eq(o->usage.input_tokens, 50);
	ck_assert_int_eq(o->usage.cached_input_tokens, 40);
	answer_free(a);
	buf_fini(&h.text);
}

/* What a provider says of usage, and what is taken of it. */
static const struct {
	const char *provider;
	const char *event;
	struct usage usage;
} said[] = {
    {"openai", "{\"usage\":{\"prompt_tokens\":-5,\"completion_tokens\":-6}}", {.odd = true}},
    {"openai",
     "{\"usage\":{\"prompt_tokens\":9223372036854775807,\"completion_tokens\":"
     "18446744073709551615,\"prompt_tokens_details\":{\"cached_tokens\":-1}}}",
     {.input_tokens = PROVIDER_TOKENS_MAX, .output_tokens = PROVIDER_TOKENS_MAX, .odd = true}},
    {"openai",
     "{\"usage\":{\"prompt_tokens\":1000000000,\"completion_tokens\":0}}",
     {.input_tokens = PROVIDER_TOKENS_MAX}},
    {"anthropic",
     "{\"type\":\"message_delta\",\"usage\":{\"input_tokens\":-7,\"output_tokens\":-1,"
     "\"cache_read_input_tokens\":-9}}",
     {.odd = true}},
    {"anthropic",
     "{\"type\":\"message_delta\",\"usage\":{\"input_tokens\":9223372036854775807,"
     "\"cache_creation_input_tokens\":9223372036854775807,\"output_tokens\":1000000001}}",
     {.input_tokens = 2 * INT64_C(1000000000),
      .cache_write_tokens = PROVIDER_TOKENS_MAX,
      .output_tokens = PROVIDER_TOKENS_MAX,
      .odd = true}},
};

TEST(usage_that_cannot_be_is_cut_to_what_can)
{
	for (size_t i = 0; i < countof(said); i++) {
		struct heard h = {0};
		struct answer *a = begin(said[i].provider, &h, 200);
		const struct usage *u = &answer_outcome(a)->usage, *want = &said[i].usage;
		struct buf text = {0};

		buf_printf(&text, "data: %s\n\n", said[i].event);
		answer_data(a, buf_str(&text));
		ck_assert_msg(u->input_tokens == want->input_tokens &&
				  u->output_tokens == want->output_tokens &&
				  u->cached_input_tokens == want->cached_input_tokens &&
				  u->cache_write_tokens == want->cache_write_tokens &&
				  u->odd == want->odd,
			      "line %zu: %lld in, %lld out", i, (long long)u->input_tokens,
			      (long long)u->output_tokens);
		buf_fini(&text);
		answer_free(a);
	}
}

TEST(openai_done_without_a_reason_is_a_cut)
{
	struct heard h = {0};
	struct answer *a = begin("openai", &h, 200);

	answer_data(a, STR(O_CHUNK("{\"content\":\"He\"}", "null") "data: [DONE]\n\n"));
	answer_end(a);
	ck_assert_int_eq(answer_outcome(a)->fault, FAULT_PROVIDER_CUT);
	answer_free(a);
	buf_fini(&h.text);
}

TEST(openai_tool_calls_are_parts)
{
	struct heard h = {0};
	struct answer *a = begin("openai", &h, 200);

	answer_data(a,
		    STR(O_CHUNK("{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"type\":\"function\","
				"\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}",
				"null")));
	answer_data(
	    a, STR(O_CHUNK("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{}\"}}]}",
			   "null")));
	answer_data(a, STR(O_CHUNK("{\"tool_calls\":[{\"index\":1,\"id\":\"c2\",\"function\":"
				   "{\"name\":\"g\",\"arguments\":\"[]\"}}]}",
				   "null")));
	ck_assert_view(buf_str(&h.text), "[tool_call c1 f]{}[tool_call c2 g][]");
	answer_free(a);
	buf_fini(&h.text);
}

/* ── requests ── */

static struct json_object *built(const char *provider, const char *dialect, const char *body,
				 char why[static 128])
{
	struct json_object *tree = NULL, *made = NULL;
	struct json_error error;
	struct provider_request request;
	struct ask ask = {
	    .dialect = dialect, .model = "m-1", .key = "sk-x", .temperature = (double)NAN};

	ck_assert_int_eq(json_read(str_of(body), &tree, &error), JSON_OK);
	if (strcmp(dialect, "native") == 0)
		ask.messages = tree;
	else
		ask.request = tree;
	if (provider_find(str_of(provider))->build(&ask, &request, why) == PROVIDER_BUILT)
		ck_assert_int_eq(json_read(buf_str(&request.body), &made, &error), JSON_OK);
	provider_request_fini(&request);
	json_object_put(tree);
	return made;
}

static const struct {
	const char *provider;
	const char *dialect;
	const char *body;
	const char *made; /* NULL: cannot, and @why says what */
	const char *why;
} requests[] = {
    {"anthropic", "native", "[{\"role\":\"user\",\"content\":\"hi\"}]",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"model\":\"m-1\",\"stream\":true,"
     "\"max_tokens\":4096}",
     NULL},
    {"openai", "native", "[{\"role\":\"user\",\"content\":\"hi\"}]",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"model\":\"m-1\",\"stream\":true,"
     "\"stream_options\":{\"include_usage\":true}}",
     NULL},
    {"anthropic", "anthropic", "{\"model\":\"alias\",\"max_tokens\":5,\"messages\":[],\"top_k\":3}",
     "{\"model\":\"m-1\",\"max_tokens\":5,\"messages\":[],\"top_k\":3,\"stream\":true}", NULL},
    {"anthropic", "openai",
     "{\"model\":\"a\",\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\","
     "\"content\":[{\"type\":\"text\",\"text\":\"u\"}]}],\"max_completion_tokens\":7,\"stop\":"
     "\"x\"}",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"u\"}],\"max_tokens\":7,\"system\":\"s\","
     "\"stop_sequences\":[\"x\"],\"model\":\"m-1\",\"stream\":true}",
     NULL},
    {"anthropic", "openai", "{\"messages\":[],\"logit_bias\":{}}", NULL,
     "logit_bias has no counterpart at this provider"},
    {"openai", "anthropic",
     "{\"system\":[{\"type\":\"text\",\"text\":\"s\"}],\"messages\":[{\"role\":\"user\","
     "\"content\":\"u\"}],\"max_tokens\":7}",
     "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"u\"}]"
     ",\"max_completion_tokens\":7,\"model\":\"m-1\",\"stream\":true,\"stream_options\":{\"include_"
     "usage\":true}}",
     NULL},
    {"openai", "anthropic",
     "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}]}", NULL,
     "messages[0] has no counterpart at this provider"},
};

TEST(requests_are_written_in_the_providers_words)
{
	for (size_t i = 0; i < countof(requests); i++) {
		char why[128] = "";
		struct json_object *made =
		    built(requests[i].provider, requests[i].dialect, requests[i].body, why);
		struct json_object *want = NULL;
		struct json_error error;

		if (!requests[i].made) {
			ck_assert_ptr_null(made);
			ck_assert_str_eq(why, requests[i].why);
			continue;
		}
		ck_assert_int_eq(json_read(str_of(requests[i].made), &want, &error), JSON_OK);
		ck_assert_msg(json_object_equal(made, want), "line %zu: %s", i,
			      json_object_to_json_string(made));
		json_object_put(made);
		json_object_put(want);
	}
}

/* ── what a model refuses ── */

/* "" where the request can be written, else why not. @temperature: native; @body: in the other vendor's dialect. */
static const char *refusal(const char *provider, const char *model, double temperature,
			   const char *dialect, const char *body)
{
	static char why[128];
	struct json_object *tree = NULL;
	struct json_error error;
	struct provider_request request;
	struct ask ask = {
	    .dialect = dialect, .model = model, .key = "sk-x", .temperature = temperature};

	why[0] = '\0';
	ck_assert_int_eq(json_read(str_of(body), &tree, &error), JSON_OK);
	if (strcmp(dialect, "native") == 0)
		ask.messages = tree;
	else
		ask.request = tree;
	enum provider_built r = provider_find(str_of(provider))->build(&ask, &request, why);

	ck_assert_int_eq(r == PROVIDER_BUILT, why[0] == '\0');
	provider_request_fini(&request);
	json_object_put(tree);
	return why;
}

static int64_t longest(const char *provider, const char *dialect, const char *body, int64_t unsaid)
{
	struct json_object *tree = NULL;
	struct json_error error;
	struct provider_request request;
	struct ask ask = {.dialect = dialect,
			  .model = "m-1",
			  .key = "sk-x",
			  .temperature = (double)NAN,
			  .max_tokens_unsaid = unsaid};
	char why[128] = "", text[32];
	int64_t most;

	ck_assert_int_eq(json_read(str_of(body), &tree, &error), JSON_OK);
	if (strcmp(dialect, "native") == 0)
		ask.messages = tree;
	else
		ask.request = tree;
	ck_assert_int_eq(provider_find(str_of(provider))->build(&ask, &request, why),
			 PROVIDER_BUILT);
	most = request.max_tokens;
	snprintf(text, sizeof(text), "tokens\":%lld", (long long)most);
	ck_assert(memmem(request.body.data, request.body.len, text, strlen(text)) != NULL);
	provider_request_fini(&request);
	json_object_put(tree);
	return most;
}

TEST(where_an_answers_length_is_reserved_it_is_asked_for)
{
	static const char native[] = "[{\"role\":\"user\",\"content\":\"hi\"}]";
	static const char silent[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
	static const char says[] =
	    "{\"max_tokens\":7,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";

	ck_assert_int_eq(longest("openai", "native", native, 300), 300);
	ck_assert_int_eq(longest("openai", "openai", silent, 300), 300);
	ck_assert_int_eq(longest("openai", "openai", says, 300), 7);
	ck_assert_int_eq(longest("anthropic", "native", native, 300), 300);
	ck_assert_int_eq(longest("anthropic", "anthropic", says, 300), 7);
}

static const struct {
	const char *provider;
	const char *model;
	double temperature;
	const char *why;
} native_rows[] = {
    {"anthropic", "claude-sonnet-4-5", 0.5, ""},
    {"anthropic", "claude-opus-4-6", 0.5, ""},
    {"anthropic", "claude-opus-4-20250514", 0.5, ""},
    {"anthropic", "claude-3-5-sonnet-20241022", 0.5, ""},
    {"anthropic", "claude-opus-4-7", 0.5, "temperature is not taken by claude-opus-4-7"},
    {"anthropic", "claude-opus-4-7", 1, ""},
    {"anthropic", "claude-opus-4-7", (double)NAN, ""},
    {"anthropic", "claude-sonnet-5", 0, "temperature is not taken by claude-sonnet-5"},
    {"anthropic", "claude-haiku-5-5", 0.5, "temperature is not taken by claude-haiku-5-5"},
    {"anthropic", "claude-fable-5-1", 0.5, "temperature is not taken by claude-fable-5-1"},
    {"anthropic", "claude-sonnet-4-5", 1.5,
     "temperature above 1 has no counterpart at this provider"},
    {"openai", "gpt-4o", 0.5, ""},
    {"openai", "gpt-4.1-mini", 1.5, ""},
    {"openai", "gpt-5-chat-latest", 0.5, ""},
    {"openai", "llama-4-o3", 0.5, ""},
    {"openai", "gpt-5.4-mini", 1, ""},
    {"openai", "gpt-5.4-mini", 0.5, "temperature is not taken by gpt-5.4-mini"},
    {"openai", "gpt-6-luna", 0.5, "temperature is not taken by gpt-6-luna"},
    {"openai", "o3", 0.5, "temperature is not taken by o3"},
};

TEST(a_temperature_that_the_model_refuses_is_named_instead_of_sent)
{
	for (size_t i = 0; i < countof(native_rows); i++)
		ck_assert_str_eq(refusal(native_rows[i].provider, native_rows[i].model,
					 native_rows[i].temperature, "native",
					 "[{\"role\":\"user\",\"content\":\"hi\"}]"),
				 native_rows[i].why);
}

TEST(so_is_what_was_asked_in_another_vendors_words)
{
	ck_assert_str_eq(refusal("anthropic", "claude-opus-5", (double)NAN, "openai",
				 "{\"messages\":[],\"top_p\":0.5}"),
			 "top_p is not taken by claude-opus-5");
	ck_assert_str_eq(refusal("openai", "o4-mini", (double)NAN, "anthropic",
				 "{\"messages\":[],\"max_tokens\":9,\"temperature\":0.5}"),
			 "temperature is not taken by o4-mini");
	ck_assert_str_eq(
	    refusal("openai", "gpt-4o", (double)NAN, "anthropic",
		    "{\"messages\":[],\"stop_sequences\":[\"1\",\"2\",\"3\",\"4\",\"5\"]}"),
	    "more than four stop_sequences have no counterpart at this provider");
}

TEST(the_vendors_own_words_are_left_for_the_vendor_to_judge)
{
	char why[128] = "";
	struct json_object *made = built(
	    "openai", "openai", "{\"messages\":[],\"max_tokens\":9,\"temperature\":0.5}", why);

	ck_assert_int_eq(json_int(made, "max_tokens", 0), 9);
	ck_assert_ptr_null(json_member(made, "max_completion_tokens"));
	json_object_put(made);
	ck_assert_str_eq(refusal("openai", "gpt-5", (double)NAN, "openai",
				 "{\"messages\":[],\"max_tokens\":9,\"temperature\":0.5}"),
			 "");
	ck_assert_str_eq(refusal("anthropic", "claude-opus-5", (double)NAN, "anthropic",
				 "{\"messages\":[],\"max_tokens\":9,\"temperature\":0.5}"),
			 "");
}

/* What a 429 with these fields says; an empty name: none. */
static int64_t waits_ms(const char *name, const char *value, const char *date)
{
	const uint64_t wall_ms = UINT64_C(1795342530000); /* 22 Nov 2026 10:15:30 */
	struct answer_sink sink = {0};
	struct answer *a = provider_find(STR("openai"))->answer_new(&sink);
	struct http_field fields[] = {{str_of(name), str_of(value)}, {STR("date"), str_of(date)}};
	int64_t ms;

	answer_head(a, 429, fields, countof(fields), wall_ms);
	ms = answer_outcome(a)->retry_after_ms;
	answer_free(a);
	return ms;
}

TEST(retry_after_is_seconds_or_milliseconds_with_decimals)
{
	ck_assert_int_eq(waits_ms("retry-after", "2", ""), 2000);
	ck_assert_int_eq(waits_ms("retry-after", "1.5", ""), 1500);
	ck_assert_int_eq(waits_ms("retry-after-ms", "8000", ""), 8000);
	ck_assert_int_eq(waits_ms("retry-after-ms", "8000.5", ""), 8001);
	ck_assert_int_eq(waits_ms("retry-after-ms", "0", ""), 0);
}

TEST(retry_after_is_a_date_by_the_answers_own_clock_or_ours)
{
	ck_assert_int_eq(waits_ms("retry-after", "Sun, 22 Nov 2026 10:16:00 GMT", ""), 30000);
	ck_assert_int_eq(waits_ms("retry-after", "Sun, 22 Nov 2026 10:16:00 GMT",
				  "Sun, 22 Nov 2026 10:15:55 GMT"),
			 5000);
	ck_assert_int_eq(waits_ms("retry-after", "Sun, 22 Nov 2026 10:15:00 GMT", ""), 0);
}

TEST(retry_after_is_an_hour_at_most)
{
	ck_assert_int_eq(waits_ms("retry-after", "9999999999", ""), PROVIDER_RETRY_AFTER_MAX_MS);
	ck_assert_int_eq(waits_ms("retry-after", "99999999999999999999999", ""),
			 PROVIDER_RETRY_AFTER_MAX_MS);
	ck_assert_int_eq(waits_ms("retry-after-ms", "99999999999999999999999", ""),
			 PROVIDER_RETRY_AFTER_MAX_MS);
	ck_assert_int_eq(waits_ms("retry-after", "Sun, 22 Nov 2099 10:15:30 GMT", ""),
			 PROVIDER_RETRY_AFTER_MAX_MS);
}

TEST(retry_after_that_says_nothing_is_none)
{
	ck_assert_int_eq(waits_ms("retry-after", "-5", ""), -1);
	ck_assert_int_eq(waits_ms("retry-after", "soon", ""), -1);
	ck_assert_int_eq(waits_ms("retry-after", "", ""), -1);
	ck_assert_int_eq(waits_ms("retry-after-ms", ".", ""), -1);
	ck_assert_int_eq(waits_ms("retry-after-ms", "1.2.3", ""), -1);
	ck_assert_int_eq(waits_ms("server", "2", ""), -1);
}
