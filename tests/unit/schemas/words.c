#include <math.h>
#include <stdio.h>

#include "lib/base/mem.h"
#include "schemas/codec.h"
#include "schemas/fault.h"
#include "schemas/keys.h"
#include "schemas/lanes.h"
#include "schemas/sql.h"
#include "tests/unit/test.h"

SUITE("schemas/words");

TEST(a_job_survives_its_record)
{
	struct job job, back;
	struct codec_error error;
	struct arena arena = {0};
	struct buf out = {0};

	codec_init(&codec_job, &job);
	job.v = 1;
	job.id = STR("job_01");
	job.messages = STR("[{\"role\":\"user\",\"content\":\"a\\\"\\u00e9\"}]");
	job.temperature = 0.25;
	job.stream = true;
	job.deadline_ms = 1700000000123;
	codec_encode(&codec_job, &job, &out);
	ck_assert_int_eq(codec_decode(&codec_job, &arena, buf_str(&out), true, &back, &error),
			 CODEC_OK);
	ck_assert_view(back.id, "job_01");
	ck_assert_view(back.messages, "[{\"role\":\"user\",\"content\":\"a\\\"\xC3\xA9\"}]");
	ck_assert(back.temperature == 0.25 && back.stream);
	ck_assert_int_eq(back.deadline_ms, 1700000000123);
	ck_assert_uint_eq(back.session.len, 0);
	arena_reset(&arena);
	buf_fini(&out);
}

TEST(a_number_that_was_not_said_stays_not_said)
{
	struct job back;
	struct codec_error error;
	struct arena arena = {0};

	ck_assert_int_eq(
	    codec_decode(&codec_job, &arena, STR("{\"temperature\":null}"), true, &back, &error),
	    CODEC_OK);
	ck_assert(isnan(back.temperature));
	arena_reset(&arena);
}

TEST(an_unknown_field_is_an_error_only_for_the_strict)
{
	struct job back;
	struct codec_error error;
	struct arena arena = {0};

	ck_assert_int_eq(
	    codec_decode(&codec_job, &arena, STR("{\"later\":1}"), false, &back, &error), CODEC_OK);
	ck_assert_int_eq(
	    codec_decode(&codec_job, &arena, STR("{\"later\":1}"), true, &back, &error),
	    CODEC_UNKNOWN);
	ck_assert_str_eq(error.field, "later");
	arena_reset(&arena);
}

TEST(a_wrong_type_names_its_field)
{
	struct job back;
	struct codec_error error;
	struct arena arena = {0};

	ck_assert_int_eq(
	    codec_decode(&codec_job, &arena, STR("{\"turn\":\"1\"}"), false, &back, &error),
	    CODEC_TYPE);
	ck_assert_str_eq(error.field, "turn");
	arena_reset(&arena);
}

TEST(bad_json_has_its_offset)
{
	struct job back;
	struct codec_error error;
	struct arena arena = {0};

	ck_assert_int_eq(
	    codec_decode(&codec_job, &arena, STR("{\"turn\":1,}"), false, &back, &error),
	    CODEC_MALFORMED);
	ck_assert_uint_eq(error.offset, 10);
	arena_reset(&arena);
}

TEST(headers_are_texts_and_come_back)
{
	struct job_head head, back;
	char scratch[24];

	codec_init(&codec_head, &head);
	codec_init(&codec_head, &back);
	head.job = STR("job_1");
	head.copy = 3;
	for (size_t i = 0; i < codec_head.count; i++) {
		struct str text = codec_text(&codec_head.fields[i], &head, scratch);

		if (text.ptr)
			ck_assert_int_eq(codec_set_text(&codec_head.fields[i], text, &back),
					 CODEC_OK);
		ck_assert(text.ptr || codec_head.fields[i].type != CODEC_STR ||
			  strcmp(codec_head.fields[i].name, "job") != 0);
	}
	ck_assert_view(back.job, "job_1");
	ck_assert_int_eq(back.copy, 3);
	ck_assert_int_eq(back.tries, 0);
}

TEST(every_fault_has_its_own_number_and_code)
{
	for (size_t i = 0; fault_at(i); i++) {
		const struct fault_info *f = fault_at(i);

		ck_assert_int_eq(fault_find(str_of(f->code)), f->fault);
		ck_assert_ptr_eq(fault_info(f->fault), f);
		ck_assert(f->status >= 400 && f->status < 600);
	}
	ck_assert_int_eq(fault_info((enum fault)9999)->fault, FAULT_INTERNAL);
}

TEST(lanes_are_found_by_name)
{
	enum lane lane;

	ck_assert_int_eq(lane_find(STR("high"), &lane), LANE_FOUND);
	ck_assert_int_eq(lane, LANE_HIGH);
	ck_assert_int_eq(lane_find(STR("urgent"), &lane), LANE_NOT_FOUND);
	ck_assert_str_eq(topic_info(lane_topic_llm(LANE_BACKGROUND))->name, "llm.background");
}

TEST(an_event_is_read_as_it_was_written)
{
	struct buf out = {0};
	struct event e;

	event_head(&out, "delta", STR("job_1"), 2, 1832);
	buf_add_text(&out, "a\nb");
	ck_assert_int_eq(event_parse(buf_str(&out), &e), EVENT_OK);
	ck_assert_view(e.ev, "delta");
	ck_assert_view(e.job, "job_1");
	ck_assert_int_eq(e.attempt, 2);
	ck_assert_int_eq(e.at, 1832);
	ck_assert_view(e.payload, "a\nb");
	buf_fini(&out);
}

TEST(an_event_of_another_version_or_shape_is_refused)
{
	static const char *const bad[] = {"",
					  "1 delta job_1 1 0",
					  "2 delta job_1 1 0\nx",
					  "1 delta job_1 x 0\n",
					  "1 delta job_1 1 -\n",
					  "1 delta\n",
					  "\n"};
	struct event e;

	for (size_t i = 0; i < countof(bad); i++)
		ck_assert_msg(event_parse(str_of(bad[i]), &e) == EVENT_MALFORMED, "%s", bad[i]);
}

TEST(an_organisation_uses_few_partitions_and_all_are_used)
{
	bool used[8] = {0};
	char org[32];

	for (int i = 0; i < 100; i++) {
		int n = snprintf(org, sizeof(org), "org_%d", i);
		struct str name = {org, (size_t)n};

		for (uint64_t pick = 0; pick < 2; pick++) {
			int32_t p = lane_shard(name, pick, 8);

			ck_assert(p >= 0 && p < 8);
			ck_assert_int_eq(p, lane_shard(name, pick, 8));
			used[p] = true;
		}
	}
	for (size_t i = 0; i < countof(used); i++)
		ck_assert(used[i]);
}

TEST(the_partitions_of_an_organisation_differ)
{
	char org[32];

	for (int i = 0; i < 100; i++) {
		int n = snprintf(org, sizeof(org), "org_%d", i);
		struct str name = {org, (size_t)n};
		unsigned seen = 0;

		for (uint64_t pick = 0; pick < 8; pick++)
			seen |= 1u << lane_shard(name, pick, 8);
		ck_assert_uint_eq(seen, 255);
		ck_assert_int_eq(lane_shard(name, 8, 8), lane_shard(name, 0, 8));
		ck_assert_int_eq(lane_shard(name, 5, 1), 0);
	}
}

/* Two of one number: only the first would ever be applied. */
TEST(each_migration_has_a_number_of_its_own_in_their_order)
{
	for (size_t i = 0; i < sql_file_count; i++)
		ck_assert_msg(sql_files[i].number == (int)i + 1, "%s", sql_files[i].name);
}
