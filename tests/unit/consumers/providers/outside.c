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
