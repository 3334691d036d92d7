#include "tests/sim/ask.h"

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
