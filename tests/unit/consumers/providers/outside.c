/* What a provider may send and no vendor would: every byte of it is made readable, bounded or refused. */
#include <stdio.h>
#include <string.h>

#include "consumers/providers/provider.h"
#include "lib/base/buf.h"
#include "lib/base/mem.h"
#include "tests/unit/test.h"

SUITE("providers/outside");

static void hear_part(void *ctx, const char *type, struct str id, struct str name)
{
	buf_printf(ctx, "[%s %.*s %.*s]", type, STR_FMT(id), STR_FMT(name));
}

static void hear_text(void *ctx, struct str text)
{
	buf_add_str(ctx, text);
}

/* An answer of this status and request id; what it tells goes to @heard. */
static struct answer *begin(const char *provider, int status, struct str id, struct buf *heard)
{
	struct answer_sink sink = {hear_part, hear_text, heard};
	struct answer *a = provider_find(str_of(provider))->answer_new(&sink);
	struct http_field fields[] = {
	    {STR("content-type"),
	     status == 200 ? STR("text/event-stream") : STR("application/json")},
	    {STR("request-id"), id},
	    {STR("retry-after"), STR("2")},
	};

	answer_head(a, status, fields, countof(fields), 0);
	return a;
}

TEST(a_request_id_is_utf8_whatever_bytes_it_came_with)
{
	struct answer *a = begin("anthropic", 403, STR("req_\xff\xfe"), NULL);

	ck_assert_view(answer_outcome(a)->request_id, "req_\xEF\xBF\xBD\xEF\xBF\xBD");
	answer_free(a);
}

TEST(a_request_id_is_cut_between_code_points)
{
	char id[131];
	struct answer *a;

	memset(id, 'x', sizeof(id));
	memcpy(id + 127, "\xC3\xA4", 2);
	a = begin("openai", 200, (struct str){id, sizeof(id)}, NULL);
	ck_assert_uint_eq(answer_outcome(a)->request_id.len, 127);
	answer_free(a);
}

/* A tool call with an id and a name of these lengths. */
static enum fault tool_call(size_t id, size_t name, struct buf *heard)
{
	char text[1024], letters[512];
	struct answer *a = begin("anthropic", 200, STR("r"), heard);
	enum fault fault;
	int n;

	memset(letters, 'x', sizeof(letters));
	n = snprintf(
	    text, sizeof(text),
	    "data: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"tool_use\","
	    "\"id\":\"%.*s\",\"name\":\"%.*s\",\"text\":\"behind\"}}\n\n",
	    (int)id, letters, (int)name, letters);
	answer_data(a, (struct str){text, (size_t)n});
	fault = answer_outcome(a)->fault;
	answer_free(a);
	return fault;
}

TEST(an_id_or_a_name_that_is_too_long_is_a_fault_and_nothing_of_it_is_told)
{
	struct buf heard = {0};

	ck_assert_int_eq(tool_call(PROVIDER_PART_ID_MAX, PROVIDER_PART_NAME_MAX, &heard),
			 FAULT_NONE);
	ck_assert_uint_gt(heard.len, PROVIDER_PART_ID_MAX + PROVIDER_PART_NAME_MAX);
	buf_reset(&heard);
	ck_assert_int_eq(tool_call(PROVIDER_PART_ID_MAX + 1, 1, &heard), FAULT_PROVIDER_MALFORMED);
	ck_assert_int_eq(tool_call(1, PROVIDER_PART_NAME_MAX + 1, &heard),
			 FAULT_PROVIDER_MALFORMED);
	ck_assert_uint_eq(heard.len, 0);
	buf_fini(&heard);
}

/* What an answer of these bytes tells. */
static struct str told(const char *provider, struct str bytes, struct buf *heard)
{
	struct answer *a = begin(provider, 200, STR("r"), heard);

	buf_reset(heard);
	answer_data(a, bytes);
	ck_assert_int_eq(answer_outcome(a)->fault, FAULT_NONE);
	answer_free(a);
	return buf_str(heard);
}

#define O_DELTA(members) "data: {\"choices\":[{\"index\":0,\"delta\":{" members "}}]}\n\n"
#define O_TEXT(text) O_DELTA("\"content\":\"" text "\"")
#define O_END "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"

TEST(a_nul_and_half_a_character_are_the_replacement_character)
{
	struct buf heard = {0};

	ck_assert_view(told("openai", STR(O_TEXT("a") O_TEXT("b\\u0000c")), &heard),
		       "ab\xEF\xBF\xBD"
		       "c");
	ck_assert_view(told("openai", STR(O_TEXT("\\ude00x\\ud83dy")), &heard),
		       "\xEF\xBF\xBDx\xEF\xBF\xBDy");
	buf_fini(&heard);
}

TEST(a_character_whose_halves_come_in_two_events_is_whole)
{
	struct buf heard = {0};

	ck_assert_view(
	    told("openai", STR(O_TEXT("a") O_TEXT("x\\ud83d") O_TEXT("\\ude00y")), &heard),
	    "ax\xF0\x9F\x98\x80y");
	ck_assert_view(
	    told("openai",
		 STR(O_TEXT("\\uD83D") O_TEXT("") O_TEXT("\\uDE00\\ud83d") O_TEXT("\\ude01")),
		 &heard),
	    "\xF0\x9F\x98\x80\xF0\x9F\x98\x81");
	buf_fini(&heard);
}

TEST(half_a_character_whose_other_half_never_comes_is_the_replacement_character)
{
	struct buf heard = {0};

	ck_assert_view(told("openai", STR(O_TEXT("a") O_TEXT("x\\ud83d") O_TEXT("y")), &heard),
		       "ax\xEF\xBF\xBDy");
	ck_assert_view(told("openai", STR(O_TEXT("x\\ud83d") O_TEXT("\\ud83d") O_END), &heard),
		       "x\xEF\xBF\xBD\xEF\xBF\xBD");
	ck_assert_view(told("openai",
			    STR(O_TEXT("x\\ud83d") O_DELTA(
				"\"tool_calls\":[{\"index\":0,\"id\":\"t\",\"function\":{\"name\":"
				"\"f\\u0000\",\"arguments\":\"{}\"}}]")),
			    &heard),
		       "x\xEF\xBF\xBD[tool_call t f\xEF\xBF\xBD]{}");
	buf_fini(&heard);
}

TEST(what_a_model_thinks_aloud_is_a_part_of_its_own)
{
	struct buf heard = {0};

	ck_assert_view(told("openai",
			    STR(O_DELTA("\"role\":\"assistant\",\"content\":\"\"")
				    O_DELTA("\"reasoning_content\":\"h\"")
					O_DELTA("\"reasoning_content\":\"m\",\"content\":null")
					    O_TEXT("Hel") O_TEXT("l") O_TEXT("o")
						O_DELTA("\"reasoning\":\"so\"") O_TEXT("!") O_END),
			    &heard),
		       "[thinking  ]hm[text  ]Hello[thinking  ]so[text  ]!");
	buf_fini(&heard);
}

TEST(a_media_type_is_the_same_in_any_case)
{
	static const char *const types[] = {"Text/Event-Stream; charset=UTF-8", "text/event-stream",
					    "text/event-streams", "application/json", ""};
	static const enum fault faults[] = {FAULT_NONE, FAULT_NONE, FAULT_PROVIDER_MALFORMED,
					    FAULT_PROVIDER_MALFORMED, FAULT_PROVIDER_MALFORMED};

	for (size_t i = 0; i < countof(types); i++) {
		struct answer_sink sink = {0};
		struct answer *a = provider_find(STR("openai"))->answer_new(&sink);
		struct http_field type = {STR("content-type"), str_of(types[i])};

		answer_head(a, 200, &type, 1, 0);
		ck_assert_int_eq(answer_outcome(a)->fault, faults[i]);
		answer_free(a);
	}
}

TEST(a_refusal_is_read_whatever_its_message_holds)
{
	struct answer *a = begin("openai", 400, STR("r"), NULL);

	answer_data(a, STR("{\"error\":{\"message\":\"a \\u0000 b \\ud800 c\",\"code\":"
			   "\"insufficient_quota\"}}"));
	answer_end(a);
	ck_assert_int_eq(answer_outcome(a)->fault, FAULT_PROVIDER_QUOTA);
	ck_assert_view(answer_outcome(a)->message, "a \xEF\xBF\xBD b \xEF\xBF\xBD c");
	answer_free(a);
}
