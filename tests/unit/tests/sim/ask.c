#include "tests/sim/ask.h"

#include <stdio.h>

#include "lib/base/mem.h"

#include "tests/unit/test.h"

SUITE("sim/ask");

static struct sim_ask ask;
static struct sim_error error;

static unsigned anthropic_in(const char *body, const char *version)
{
	struct arena arena = {0};
	enum sim_ask_result r =
	    sim_ask_anthropic(str_of(body), str_of(version), false, &arena, &ask, &error);
	arena_reset(&arena);
	return r == SIM_ASK_OK ? 200 : error.status;
}

static unsigned anthropic(const char *body)
{
	return anthropic_in(body, "2023-06-01");
}

static unsigned openai(const char *body)
{
	struct arena arena = {0};
	enum sim_ask_result r = sim_ask_openai(str_of(body), &arena, &ask, &error);
	arena_reset(&arena);
	return r == SIM_ASK_OK ? 200 : error.status;
}

#define USER "\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]"

TEST(a_small_request_is_good_in_both_dialects)
{
	ck_assert_uint_eq(anthropic("{\"model\":\"m\",\"max_tokens\":9," USER "}"), 200);
	ck_assert_uint_eq(ask.max_tokens, 9);
	ck_assert_uint_eq(ask.input_bytes, 5);
	ck_assert_uint_eq(openai("{\"model\":\"m\"," USER ",\"stream\":true}"), 200);
	ck_assert(ask.stream);
	ck_assert_uint_eq(ask.max_tokens, UINT64_MAX);
}

TEST(max_tokens_is_required_by_anthropic_alone)
{
	ck_assert_uint_eq(anthropic("{\"model\":\"m\"," USER "}"), 400);
	ck_assert_str_eq(error.message, "max_tokens: Field required");
}

TEST(text_blocks_count_and_are_laid_end_to_end)
{
	struct arena arena = {0};
	enum sim_ask_result r =
	    sim_ask_anthropic(STR("{\"model\":\"m\",\"max_tokens\":9,\"system\":[{\"type\":"
				  "\"text\",\"text\":\"abcd\"}],"
				  "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
				  "\"text\",\"text\":\"one\"},"
				  "{\"type\":\"text\",\"text\":\"two\"}]}]}"),
			      STR("2023-06-01"), false, &arena, &ask, &error);
	ck_assert_int_eq(r, SIM_ASK_OK);
	ck_assert_view(ask.last_user, "onetwo");
	ck_assert_uint_eq(ask.input_bytes, 10);
	arena_reset(&arena);
}

TEST(what_is_not_json_or_not_known_is_a_400)
{
	ck_assert_uint_eq(anthropic("{"), 400);
	ck_assert_uint_eq(anthropic("[]"), 400);
	ck_assert_uint_eq(anthropic("{\"model\":\"m\",\"max_tokens\":9,\"bogus\":1," USER "}"),
			  400);
	ck_assert_uint_eq(openai("{\"model\":\"m\",\"bogus\":1," USER "}"), 400);
	ck_assert_str_eq(error.code, "unknown_parameter");
	ck_assert_uint_eq(openai("{\"model\":\"m\",\"messages\":[]}"), 400);
	ck_assert_uint_eq(openai("{\"model\":\"m\",\"messages\":[1]}"), 400);
	ck_assert_uint_eq(
	    openai("{\"model\":\"m\",\"messages\":[{\"role\":\"robot\",\"content\":\"x\"}]}"), 400);
	ck_assert_uint_eq(openai("{\"model\":\"m\",\"max_tokens\":0," USER "}"), 400);
	ck_assert_uint_eq(openai("{\"model\":\"m\",\"temperature\":3," USER "}"), 400);
	ck_assert_uint_eq(openai("{\"model\":\"m\",\"stream_options\":{}," USER "}"), 400);
}

TEST(an_unknown_model_is_a_404)
{
	ck_assert_uint_eq(anthropic("{\"model\":\"no-such-x\",\"max_tokens\":9," USER "}"), 404);
	ck_assert_uint_eq(openai("{\"model\":\"no-such-x\"," USER "}"), 404);
	ck_assert_str_eq(error.code, "model_not_found");
}

TEST(the_newest_version_refuses_sampling)
{
	const char *body = "{\"model\":\"m\",\"max_tokens\":9,\"temperature\":1," USER "}";
	ck_assert_uint_eq(anthropic(body), 200);
	ck_assert_uint_eq(anthropic_in(body, "2026-10-21"), 400);
}

TEST(newer_models_refuse_a_prefix_of_the_answer)
{
#define PREFIX                                                                                     \
	"\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":" \
	"\"y\"}]"
	ck_assert_uint_eq(
	    anthropic("{\"model\":\"claude-sonnet-4-5\",\"max_tokens\":9," PREFIX "}"), 200);
	ck_assert_uint_eq(anthropic("{\"model\":\"claude-sonnet-5\",\"max_tokens\":9," PREFIX "}"),
			  400);
}

/* The body of a model with one more field. */
static unsigned anthropic_of(const char *model, const char *more)
{
	char body[1024];
	snprintf(body, sizeof(body), "{\"model\":\"%s\",\"max_tokens\":2000,%s," USER "}", model,
		 more);
	return anthropic(body);
}

static unsigned openai_of(const char *model, const char *more)
{
	char body[1024];
	snprintf(body, sizeof(body), "{\"model\":\"%s\",%s," USER "}", model, more);
	return openai(body);
}

TEST(newer_models_of_anthropic_refuse_sampling_but_its_default)
{
	static const char *const refuse[] = {
	    "claude-opus-4-7",	 "claude-opus-4-8",  "claude-opus-5",  "claude-opus-5-5",
	    "claude-sonnet-5",	 "claude-haiku-5-5", "claude-fable-5", "claude-mythos-preview",
	    "claude-sonnet-5-5", "claude-opus-10"};
	static const char *const take[] = {"m",
					   "claude-opus-4-6",
					   "claude-opus-4-20250514",
					   "claude-3-5-sonnet-20241022",
					   "claude-sonnet-4-6",
					   "claude-haiku-4-5-20251001"};
	for (size_t i = 0; i < countof(refuse); i++) {
		ck_assert_uint_eq(anthropic_of(refuse[i], "\"temperature\":0.5"), 400);
		ck_assert_str_eq(error.message, "temperature: not supported by this model");
		ck_assert_uint_eq(anthropic_of(refuse[i], "\"top_p\":0.5"), 400);
		ck_assert_uint_eq(anthropic_of(refuse[i], "\"top_k\":1"), 400);
		ck_assert_uint_eq(anthropic_of(refuse[i], "\"temperature\":1.0"), 200);
	}
	for (size_t i = 0; i < countof(take); i++)
		ck_assert_uint_eq(anthropic_of(take[i], "\"temperature\":0.5,\"top_k\":3"), 200);
}

TEST(a_thinking_budget_lies_between_1024_and_max_tokens)
{
#define THINK(n) "\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":" #n "}"
	ck_assert_uint_eq(anthropic_of("m", THINK(1024)), 200);
	ck_assert_uint_eq(anthropic_of("m", THINK(1999)), 200);
	ck_assert_uint_eq(anthropic_of("m", THINK(2000)), 400);
	ck_assert_uint_eq(anthropic_of("m", THINK(1023)), 400);
	ck_assert_uint_eq(anthropic_of("m", THINK(1500.5)), 400);
	ck_assert_uint_eq(anthropic_of("m", "\"thinking\":{\"type\":\"enabled\"}"), 400);
	ck_assert_uint_eq(anthropic_of("m", "\"thinking\":{\"type\":\"deep\"}"), 400);
	ck_assert_uint_eq(anthropic_of("m", "\"thinking\":{\"type\":\"adaptive\"}"), 200);
}

TEST(a_fifth_cache_breakpoint_is_refused_wherever_it_stands)
{
#define MARK "\"cache_control\":{\"type\":\"ephemeral\"}"
#define BLOCK "{\"type\":\"text\",\"text\":\"s\"," MARK "}"
#define TOOL "\"tools\":[{\"name\":\"t\"," MARK "}]"
	ck_assert_uint_eq(anthropic_of("m", "\"system\":[" BLOCK "," BLOCK "," BLOCK "]," TOOL),
			  200);
	ck_assert_uint_eq(
	    anthropic_of("m", "\"system\":[" BLOCK "," BLOCK "," BLOCK "," BLOCK "]," TOOL), 400);
	ck_assert_uint_eq(
	    anthropic_of("m", "\"system\":[" BLOCK "," BLOCK "," BLOCK "]," TOOL "," MARK), 400);
	ck_assert_str_eq(error.message,
			 "A maximum of 4 blocks with cache_control may be provided. Found 5.");
	ck_assert_uint_eq(anthropic("{\"model\":\"m\",\"max_tokens\":9,\"system\":[" BLOCK "],"
				    "\"messages\":[{\"role\":\"user\",\"content\":[" BLOCK "," BLOCK
				    "," BLOCK "," BLOCK "]}]}"),
			  400);
}

TEST(a_cache_breakpoint_of_an_hour_stands_before_those_of_five_minutes)
{
#define HOUR                                                                                   \
	"{\"type\":\"text\",\"text\":\"s\",\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":" \
	"\"1h\"}}"
	ck_assert_uint_eq(anthropic_of("m", "\"system\":[" HOUR "," BLOCK "]"), 200);
	ck_assert_uint_eq(anthropic_of("m", "\"system\":[" BLOCK "," HOUR "]"), 400);
	ck_assert_uint_eq(anthropic_of("m", "\"cache_control\":{\"type\":\"for ever\"}"), 400);
}

TEST(models_of_openai_that_reason_refuse_max_tokens_and_sampling)
{
	static const char *const reason[] = {"o1-preview", "o3",	   "o4-mini",	"gpt-5",
					     "gpt-5-mini", "gpt-5.4-mini", "gpt-6-luna"};
	static const char *const others[] = {"m", "gpt-4o", "gpt-4.1-mini", "gpt-4-0613",
					     "gpt-5-chat-latest"};
	for (size_t i = 0; i < countof(reason); i++) {
		ck_assert_uint_eq(openai_of(reason[i], "\"max_tokens\":9"), 400);
		ck_assert_str_eq(error.code, "unsupported_parameter");
		ck_assert_str_eq(error.param, "max_tokens");
		ck_assert_uint_eq(openai_of(reason[i], "\"max_completion_tokens\":9"), 200);
		ck_assert_uint_eq(openai_of(reason[i], "\"temperature\":0.3"), 400);
		ck_assert_str_eq(error.code, "unsupported_value");
		ck_assert_uint_eq(openai_of(reason[i], "\"temperature\":1"), 200);
		ck_assert_uint_eq(openai_of(reason[i], "\"logit_bias\":{}"), 400);
	}
	for (size_t i = 0; i < countof(others); i++)
		ck_assert_uint_eq(openai_of(others[i], "\"max_tokens\":9,\"temperature\":0.3"),
				  200);
	ck_assert_uint_eq(openai_of("gpt-5.4", "\"reasoning_effort\":\"none\",\"temperature\":0.3"),
			  200);
}

TEST(openai_takes_four_stops_and_128_choices_at_most)
{
	ck_assert_uint_eq(openai_of("m", "\"stop\":\"a\""), 200);
	ck_assert_uint_eq(openai_of("m", "\"stop\":[\"a\",\"b\",\"c\",\"d\"]"), 200);
	ck_assert_uint_eq(openai_of("m", "\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]"), 400);
	ck_assert_uint_eq(openai_of("m", "\"stop\":[1]"), 400);
	ck_assert_uint_eq(openai_of("m", "\"n\":128"), 200);
	ck_assert_uint_eq(ask.choices, 128);
	ck_assert_uint_eq(openai_of("m", "\"n\":0"), 400);
	ck_assert_uint_eq(openai_of("m", "\"n\":129"), 400);
	ck_assert_uint_eq(openai_of("m", "\"n\":\"2\""), 400);
}
