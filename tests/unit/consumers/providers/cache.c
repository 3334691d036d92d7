#include <math.h>
#include <string.h>

#include "consumers/providers/provider.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "tests/unit/test.h"

SUITE("consumers/providers/cache");

static char long_text[20001];
static uint64_t key;

/* The request for @model with @system bytes of system prompt. */
static struct json_object *build(const char *model, size_t system, const char *how,
				 bool conversation, const char *messages)
{
	struct json_object *tree = NULL, *made = NULL;
	struct json_error error;
	struct provider_request request;
	char why[128];
	struct ask ask = {.dialect = "native",
			  .model = model,
			  .key = "k",
			  .temperature = (double)NAN,
			  .cache = how,
			  .conversation = conversation};

	memset(long_text, 'x', sizeof(long_text) - 1);
	ask.system = (struct str){long_text, system};
	ck_assert_int_eq(json_read(str_of(messages), &tree, &error), JSON_OK);
	ask.messages = tree;
	ck_assert_int_eq(provider_find(STR("anthropic"))->build(&ask, &request, why),
			 PROVIDER_BUILT);
	ck_assert_int_eq(json_read(buf_str(&request.body), &made, &error), JSON_OK);
	key = request.cache_key;
	provider_request_fini(&request);
	json_object_put(tree);
	return made;
}

static size_t marks(struct json_object *made)
{
	const char *text = json_object_to_json_string_ext(made, JSON_C_TO_STRING_PLAIN);
	size_t count = 0;

	while ((text = strstr(text, "\"cache_control\":{\"type\":\"ephemeral\"}"))) {
		text++;
		count++;
	}
	return count;
}

#define HI "[{\"role\":\"user\",\"content\":\"hi\"}]"

TEST(a_system_prompt_is_marked_from_the_length_that_its_model_caches)
{
	static const struct {
		const char *model;
		size_t bytes;
		size_t marks;
	} rows[] = {
	    {"claude-sonnet-4-5", 4000, 0}, {"claude-sonnet-4-5", 4200, 1},
	    {"claude-opus-5", 2000, 0},	    {"claude-opus-5", 2100, 1},
	    {"claude-haiku-4-5", 16000, 0}, {"claude-haiku-4-5", 16500, 1},
	    {"claude-opus-4-7", 8000, 0},   {"claude-opus-4-7", 8300, 1},
	    {"claude-opus-4-6", 16000, 0},  {"claude-opus-4-1", 4200, 1},
	    {"claude-sonnet-5-5", 2100, 1}, {"claude-fable-5-1", 2100, 1},
	};

	for (size_t i = 0; i < countof(rows); i++) {
		struct json_object *made = build(rows[i].model, rows[i].bytes, "auto", false, HI);

		ck_assert_msg(marks(made) == rows[i].marks, "line %zu", i);
		ck_assert_int_eq(key != 0, rows[i].marks != 0);
		json_object_put(made);
	}
}

TEST(the_conversation_is_marked_where_the_next_turn_begins_with_it)
{
	struct json_object *made = build("claude-sonnet-4-5", 4200, "auto", true, HI), *last;

	ck_assert_uint_eq(marks(made), 2);
	last = json_object_array_get_idx(json_member(made, "messages"), 0);
	last = json_object_array_get_idx(json_member(last, "content"), 0);
	ck_assert_view(json_str(last, "text"), "hi");
	ck_assert_ptr_nonnull(json_member(last, "cache_control"));
	json_object_put(made);
}

TEST(an_account_may_be_without_marks)
{
	struct json_object *made = build("claude-sonnet-4-5", 9000, "none", true, HI);

	ck_assert_uint_eq(marks(made), 0);
	ck_assert_uint_eq(key, 0);
	json_object_put(made);
}

TEST(requests_with_the_same_beginning_have_the_same_key)
{
	uint64_t first;

	json_object_put(build("claude-sonnet-4-5", 9000, "auto", false, HI));
	first = key;
	json_object_put(build("claude-sonnet-4-5", 9000, "auto", false,
			      "[{\"role\":\"user\",\"content\":\"another\"}]"));
	ck_assert_uint_eq(key, first);
	json_object_put(build("claude-sonnet-4-5", 9001, "auto", false, HI));
	ck_assert_uint_ne(key, first);
}

TEST(a_clients_own_marks_are_left_alone)
{
	struct json_object *tree = NULL, *made = NULL;
	struct json_error error;
	struct provider_request request;
	struct buf text = {0};
	char why[128];
	struct ask ask = {.dialect = "anthropic",
			  .model = "claude-sonnet-4-5",
			  .key = "k",
			  .cache = "auto",
			  .conversation = true};

	memset(long_text, 'x', sizeof(long_text) - 1);
	buf_printf(
	    &text,
	    "{\"max_tokens\":9,\"system\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":[{"
	    "\"type\":\"text\",\"text\":\"u\",\"cache_control\":{\"type\":\"ephemeral\"}}]}]}",
	    long_text);
	ck_assert_int_eq(json_read(buf_str(&text), &tree, &error), JSON_OK);
	ask.request = tree;
	ck_assert_int_eq(provider_find(STR("anthropic"))->build(&ask, &request, why),
			 PROVIDER_BUILT);
	ck_assert_int_eq(json_read(buf_str(&request.body), &made, &error), JSON_OK);
	ck_assert_uint_eq(marks(made), 1);
	ck_assert_int_eq(json_object_get_type(json_member(made, "system")), json_type_string);
	json_object_put(made);
	json_object_put(tree);
	provider_request_fini(&request);
	buf_fini(&text);
}
