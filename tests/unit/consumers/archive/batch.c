#include "consumers/archive/batch.h"

#include <stdio.h>

#include "consumers/archive/row.h"
#include "lib/base/json.h"
#include "tests/unit/test.h"

SUITE("consumers/archive/batch");

#define RECORD(id, more)                                                                    \
	"{\"v\":1,\"id\":\"" id "\",\"org\":\"org_a\",\"kind\":\"chat\",\"lane\":\"high\"," \
	"\"status\":\"succeeded\",\"attempt\":1,\"created_ms\":5,\"finished_ms\":9" more "}"

static struct json_object *list_of(const struct buf *inside)
{
	struct buf text = {0};
	struct json_object *list = NULL;
	struct json_error error;

	buf_printf(&text, "[%.*s]", STR_FMT(buf_str(inside)));
	ck_assert_int_eq(json_read(buf_str(&text), &list, &error), JSON_OK);
	buf_fini(&text);
	return list;
}

static bool add(struct batch *b, const char *body)
{
	char why[ROW_WHY_SIZE];

	return batch_add(b, 1000, str_of(body), why, sizeof(why));
}

TEST(a_record_is_one_result_and_one_row_per_call)
{
	struct batch b = {0};
	struct json_object *results, *calls, *row;

	ck_assert(add(
	    &b,
	    RECORD("job_1",
		   ",\"text\":\"h\\u00e9\",\"bytes\":3,\"calls\":"
		   "[{\"provider\":\"openai\",\"account\":\"m\",\"model\":\"x\",\"started_ms\":6,"
		   "\"usage\":{\"input_tokens\":7,\"output_tokens\":8},\"cost_microusd\":9},"
		   "{\"provider\":\"anthropic\"}]")));
	results = list_of(&b.lists.results);
	calls = list_of(&b.lists.calls);
	ck_assert_uint_eq(json_object_array_length(results), 1);
	ck_assert_uint_eq(json_object_array_length(calls), 2);
	row = json_object_array_get_idx(results, 0);
	ck_assert_view(json_str(row, "answer"), "\\x68c3a9");
	ck_assert_ptr_null(json_member(row, "session"));
	ck_assert_ptr_null(json_member(row, "picked_up_ms"));
	row = json_object_array_get_idx(calls, 0);
	ck_assert_int_eq(json_int(row, "number", 0), 1);
	ck_assert_int_eq(json_int(row, "input_tokens", 0), 7);
	ck_assert_int_eq(json_int(row, "cost_microusd", 0), 9);
	ck_assert_int_eq(json_int(json_object_array_get_idx(calls, 1), "number", 0), 2);
	json_object_put(results);
	json_object_put(calls);
	batch_fini(&b);
}

TEST(a_second_record_of_a_job_adds_nothing)
{
	struct batch b = {0};

	ck_assert(add(&b, RECORD("job_1", "")));
	ck_assert(add(&b, RECORD("job_1", ",\"calls\":[{\"provider\":\"openai\"}]")));
	ck_assert_uint_eq(b.rows, 1);
	ck_assert_uint_eq(b.repeated, 1);
	ck_assert_uint_eq(b.records, 2);
	ck_assert_uint_eq(b.lists.calls.len, 0);
	batch_fini(&b);
}

TEST(an_answer_in_the_blob_store_leaves_the_column_empty)
{
	struct batch b = {0};
	struct json_object *results, *row;

	ck_assert(add(&b, RECORD("job_1", ",\"text_blob\":\"blob_ab\",\"bytes\":300000")));
	results = list_of(&b.lists.results);
	row = json_object_array_get_idx(results, 0);
	ck_assert_ptr_null(json_member(row, "answer"));
	ck_assert_view(json_str(row, "answer_blob"), "blob_ab");
	json_object_put(results);
	batch_fini(&b);
}

TEST(json_of_the_client_is_kept_as_its_text)
{
	struct batch b = {0};
	struct json_object *results;

	ck_assert(add(&b, RECORD("job_1", ",\"metadata\":{\"a\":\"q\\\"\\u0007\"}")));
	results = list_of(&b.lists.results);
	ck_assert_view(json_str(json_object_array_get_idx(results, 0), "metadata"),
		       "{\"a\":\"q\\\"\\u0007\"}");
	json_object_put(results);
	batch_fini(&b);
}

TEST(a_record_that_the_tables_would_refuse_is_bad)
{
	static const char *const bad[] = {"",
					  "{",
					  "[]",
					  "{\"v\":2}",
					  RECORD("", ""),
					  RECORD("job_1", ",\"tries\":-1"),
					  RECORD("job_1", ",\"tries\":3000000000"),
					  RECORD("job_1", ",\"calls\":{}"),
					  RECORD("job_1", ",\"calls\":[1]"),
					  "{\"v\":1,\"id\":\"job_1\",\"org\":\"org_a\",\"kind\":"
					  "\"chat\",\"lane\":\"high\",\"status\":\"running\"}"};
	struct batch b = {0};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(!add(&b, bad[i]), "%s", bad[i]);
	ck_assert_uint_eq(b.records, sizeof(bad) / sizeof(bad[0]));
	ck_assert_uint_eq(b.rows, 0);
	batch_fini(&b);
}
