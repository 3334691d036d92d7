#include <math.h>

#include "consumers/providers/provider.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "tests/unit/test.h"

SUITE("consumers/providers/prefix");

/* Who goes on with a text, and in which words. @want: the messages; NULL: nobody does. */
static const struct {
	const char *provider;
	const char *how;
	const char *model;
	const char *dialect;
	const char *body;
	const char *prefix;
	const char *want;
} rows[] = {
    {"anthropic", "auto", "claude-sonnet-4-5", "native", "[{\"role\":\"user\",\"content\":\"u\"}]",
     "so far",
     "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"so far\"}]"},
    {"anthropic", "auto", "claude-haiku-4-5-20251001", "native",
     "[{\"role\":\"user\",\"content\":\"u\"}]", "space \n",
     "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"space\"}]"},
    {"anthropic", "auto", "claude-sonnet-4-5", "native",
     "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"{\"}]", "\"a\":",
     "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"{\\\"a\\\":\"}"
     "]"},
    {"anthropic", "auto", "claude-opus-4-6", "native", "[{\"role\":\"user\",\"content\":\"u\"}]",
     "x", NULL},
    {"anthropic", "auto", "claude-sonnet-4-6", "native", "[{\"role\":\"user\",\"content\":\"u\"}]",
     "x", NULL},
    {"anthropic", "auto", "claude-fable-5", "native", "[{\"role\":\"user\",\"content\":\"u\"}]",
     "x", NULL},
    {"anthropic", "message", "claude-opus-4-6", "native", "[{\"role\":\"user\",\"content\":\"u\"}]",
     "x", "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"x\"}]"},
    {"anthropic", "none", "claude-sonnet-4-5", "native", "[{\"role\":\"user\",\"content\":\"u\"}]",
     "x", NULL},
    {"anthropic", "auto", "claude-sonnet-4-5", "anthropic",
     "{\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"u\"}],\"thinking\":{"
     "\"type\":"
     "\"enabled\",\"budget_tokens\":1024}}",
     "x", NULL},
    {"anthropic", "auto", "claude-sonnet-4-5", "anthropic",
     "{\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"u\"}],\"tool_choice\":{"
     "\"type\":\"tool\",\"name\":\"t\"}}",
     "x", NULL},
    {"openai", "auto", "gpt-4o", "native", "[{\"role\":\"user\",\"content\":\"u\"}]", "x", NULL},
    {"openai", "message", "llama", "native", "[{\"role\":\"user\",\"content\":\"u\"}]", "x",
     "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"x\"}]"},
    {"openai", "vllm", "llama", "openai", "{\"messages\":[{\"role\":\"user\",\"content\":\"u\"}]}",
     "x", "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"x\"}]"},
    {"openai", "vllm", "llama", "openai",
     "{\"messages\":[],\"response_format\":{\"type\":\"json_object\"}}", "x", NULL},
};

static struct json_object *build(size_t i)
{
	struct json_object *tree = NULL, *made = NULL;
	struct json_error error;
	struct provider_request request;
	char why[128] = "";
	struct ask ask = {.dialect = rows[i].dialect,
			  .model = rows[i].model,
			  .key = "sk-x",
			  .temperature = (double)NAN,
			  .prefix = str_of(rows[i].prefix),
			  .prefix_how = rows[i].how};

	ck_assert_int_eq(json_read(str_of(rows[i].body), &tree, &error), JSON_OK);
	if (strcmp(rows[i].dialect, "native") == 0)
		ask.messages = tree;
	else
		ask.request = tree;
	if (provider_find(str_of(rows[i].provider))->build(&ask, &request, why) == PROVIDER_BUILT)
		ck_assert_int_eq(json_read(buf_str(&request.body), &made, &error), JSON_OK);
	else
		ck_assert_ptr_nonnull(strstr(why, "does not go on"));
	provider_request_fini(&request);
	json_object_put(tree);
	return made;
}

TEST(a_text_is_handed_on_to_the_models_that_take_it)
{
	for (size_t i = 0; i < countof(rows); i++) {
		struct json_object *made = build(i), *want = NULL;
		struct json_error error;

		ck_assert_msg(!made == !rows[i].want, "line %zu", i);
		if (!made)
			continue;
		ck_assert_int_eq(json_read(str_of(rows[i].want), &want, &error), JSON_OK);
		ck_assert_msg(json_object_equal(json_member(made, "messages"), want),
			      "line %zu: %s", i, json_object_to_json_string(made));
		ck_assert_int_eq(json_member(made, "continue_final_message") != NULL,
				 strcmp(rows[i].how, "vllm") == 0);
		json_object_put(want);
		json_object_put(made);
	}
}

TEST(the_conversation_that_was_asked_with_is_not_changed)
{
	struct json_object *tree = NULL;
	struct json_error error;
	struct provider_request request;
	char why[128];
	struct ask ask = {.dialect = "native",
			  .model = "m",
			  .key = "k",
			  .temperature = (double)NAN,
			  .prefix = STR("x"),
			  .prefix_how = "auto"};

	ck_assert_int_eq(
	    json_read(STR("[{\"role\":\"assistant\",\"content\":\"a\"}]"), &tree, &error), JSON_OK);
	ask.messages = tree;
	ck_assert_int_eq(provider_find(STR("anthropic"))->build(&ask, &request, why),
			 PROVIDER_BUILT);
	ck_assert_str_eq(json_object_to_json_string_ext(tree, JSON_C_TO_STRING_PLAIN),
			 "[{\"role\":\"assistant\",\"content\":\"a\"}]");
	provider_request_fini(&request);
	json_object_put(tree);
}

/* What the body asks for at most, of @most for the whole answer. */
static int64_t left_of(const char *provider, const char *dialect, const char *body, int64_t most,
		       struct str prefix)
{
	struct json_object *tree = NULL, *made = NULL;
	struct json_error error;
	struct provider_request request;
	char why[128];
	int64_t left;
	struct ask ask = {.dialect = dialect,
			  .model = "m",
			  .key = "k",
			  .temperature = (double)NAN,
			  .max_tokens = most,
			  .prefix = prefix,
			  .prefix_how = "message"};

	ck_assert_int_eq(json_read(str_of(body), &tree, &error), JSON_OK);
	if (strcmp(dialect, "native") == 0)
		ask.messages = tree;
	else
		ask.request = tree;
	ck_assert_int_eq(provider_find(str_of(provider))->build(&ask, &request, why),
			 PROVIDER_BUILT);
	ck_assert_int_eq(json_read(buf_str(&request.body), &made, &error), JSON_OK);
	left = json_int(made, "max_completion_tokens", json_int(made, "max_tokens", 0));
	ck_assert_int_eq(request.max_tokens, left);
	provider_request_fini(&request);
	json_object_put(tree);
	json_object_put(made);
	return left;
}

TEST(what_stands_of_an_answer_is_not_asked_for_again)
{
	static const char messages[] = "[{\"role\":\"user\",\"content\":\"u\"}]";
	static const char body[] =
	    "{\"max_tokens\":40,\"messages\":[{\"role\":\"user\",\"content\":\"u\"}]}";
	struct str text = STR("twelve and twenty bytes, here...");

	ck_assert_int_eq(left_of("anthropic", "native", messages, 40, STR("")), 40);
	ck_assert_int_eq(left_of("anthropic", "native", messages, 40, text), 32);
	ck_assert_int_eq(left_of("openai", "native", messages, 40, text), 32);
	ck_assert_int_eq(left_of("anthropic", "anthropic", body, 0, text), 32);
	ck_assert_int_eq(left_of("openai", "openai", body, 0, text), 32);
	ck_assert_int_eq(left_of("anthropic", "native", messages, 5, text), 1);
	ck_assert_int_eq(left_of("openai", "native", messages, 0, text), 0);
}
