#include "consumers/push/op.h"

#include <stdio.h>

#include "lib/base/buf.h"
#include "tests/unit/test.h"

SUITE("consumers/push/op");

static struct op op;
static struct op_error error;

static enum op_read reads(const char *text)
{
	op_fini(&op);
	return op_read(str_of(text), &op, &error);
}

#define GOOD(text) ck_assert_msg(reads(text) == OP_OK, "%s: %s", text, error.message)
#define BAD(text, why)                                                                    \
	do {                                                                              \
		ck_assert_msg(reads(text) == OP_BAD, "taken: %s", text);                  \
		ck_assert_msg(strstr(error.message, why), "%s: \"%s\", not \"%s\"", text, \
			      error.message, why);                                        \
	} while (0)

TEST(every_op_of_this_version_is_read)
{
	GOOD("{\"op\":\"hello\"}");
	GOOD("{\"op\":\"hello\",\"token\":\"t\",\"session\":\"s\",\"resume\":\"r\",\"jobs\":[]}");
	GOOD("{\"op\":\"submit\",\"ref\":\"c1\",\"job\":{}}");
	GOOD("{\"op\":\"attach\",\"jobs\":[{\"id\":\"job_a\"}]}");
	GOOD("{\"op\":\"cancel\",\"id\":\"job_a\"}");
	GOOD("{\"op\":\"ack\",\"id\":\"job_a\"}");
	GOOD("{\"op\":\"ping\"}");
	GOOD("{\"op\":\"token\",\"token\":\"t\"}");
	op_fini(&op);
}

TEST(a_position_is_attempt_and_byte_together)
{
	GOOD("{\"op\":\"attach\",\"jobs\":[{\"id\":\"a\",\"attempt\":2,\"at\":1832},{\"id\":\"b\"}]"
	     "}");
	ck_assert_uint_eq(op.job_count, 2);
	ck_assert_view(op.jobs[0].id, "a");
	ck_assert(op.jobs[0].named);
	ck_assert_int_eq(op.jobs[0].attempt, 2);
	ck_assert_int_eq(op.jobs[0].at, 1832);
	ck_assert(!op.jobs[1].named);
	BAD("{\"op\":\"attach\",\"jobs\":[{\"id\":\"a\",\"attempt\":2}]}", "stand together");
	BAD("{\"op\":\"attach\",\"jobs\":[{\"id\":\"a\",\"attempt\":2,\"at\":-1}]}",
	    "stand together");
	BAD("{\"op\":\"attach\",\"jobs\":[{\"attempt\":2,\"at\":1}]}", "needs an");
	BAD("{\"op\":\"attach\",\"jobs\":[{\"id\":\"a\",\"byte\":1}]}", "\"byte\"");
	BAD("{\"op\":\"attach\",\"jobs\":[1]}", "an object");
}

TEST(what_is_wrong_is_named)
{
	BAD("{", "Not valid JSON");
	BAD("[]", "JSON object");
	BAD("{}", "needs \"op\"");
	BAD("{\"op\":\"dance\"}", "\"dance\"");
	BAD("{\"op\":\"submit\",\"job\":{}}", "needs \"ref\"");
	BAD("{\"op\":\"submit\",\"ref\":\"c1\"}", "needs \"job\"");
	BAD("{\"op\":\"submit\",\"ref\":\"\",\"job\":{}}", "1 to 64 bytes");
	BAD("{\"op\":\"submit\",\"ref\":1,\"job\":{}}", "wrong type");
	BAD("{\"op\":\"ping\",\"more\":1}", "\"more\"");
	ck_assert_int_eq(error.fault, FAULT_INVALID_REQUEST);
}

TEST(a_ref_of_65_bytes_is_refused)
{
	char text[160], ref[66];

	memset(ref, 'r', 65);
	ref[65] = '\0';
	snprintf(text, sizeof(text), "{\"op\":\"submit\",\"ref\":\"%s\",\"job\":{}}", ref);
	BAD(text, "1 to 64 bytes");
	ck_assert_str_eq(error.ref, "");
}

TEST(the_answer_to_a_mistake_carries_its_ref_or_job)
{
	BAD("{\"op\":\"submit\",\"ref\":\"c1\",\"job\":1}", "wrong type");
	ck_assert_str_eq(error.ref, "c1");
	BAD("{\"op\":\"cancel\",\"id\":\"job_a\",\"x\":1}", "\"x\"");
	ck_assert_str_eq(error.job, "job_a");
}

/* The ref that is answered where @text is no JSON. */
static const char *ref_of(const char *text)
{
	BAD(text, "Not valid JSON");
	return error.ref;
}

TEST(the_answer_to_what_is_no_json_carries_its_ref)
{
	ck_assert_str_eq(ref_of("{\"op\":\"submit\",\"ref\":\"c1\",\"job\":{\"m\":\"\\ud83d\"}}"),
			 "c1");
	ck_assert_str_eq(ref_of("{\"ref\":\"c1\",\"job\":{\"a\":[\"]}\\\"\",\"\\u0000\"]}}"), "c1");
	ck_assert_str_eq(ref_of(" { \"ref\" : \"c1\" , \"job\" : {\"n\" : 1e999 } }"), "c1");
	ck_assert_str_eq(ref_of("{\"\\u0072ef\":\"\\u0063\\\"1\",\"job\":{"), "c\"1");
	ck_assert_str_eq(ref_of("{\"job\":{\"ref\":\"x\"},\"ref\":\"c1\",\"op\":\"\\ud83d\"}"),
			 "c1");
}

TEST(a_ref_of_what_is_no_json_is_not_guessed)
{
	ck_assert_str_eq(ref_of("{\"job\":{\"ref\":\"x\",\"m\":\"\\ud83d\"},\"ref\":\"c1\"}"), "");
	ck_assert_str_eq(ref_of("{\"ref\":\"c1\",\"ref\":\"c2\"}"), "");
	ck_assert_str_eq(ref_of("{\"ref\":\"c1\",\"ref\":\"c2\",\"job\":\"\\ud83d\"}"), "");
	ck_assert_str_eq(ref_of("{\"ref\":\"c1\",\"\\ud83d\":1}"), "");
	ck_assert_str_eq(ref_of("{\"ref\":\"c1\"}{\"ref\":\"c2\"}"), "");
	ck_assert_str_eq(ref_of("{\"ref\":\"c1\\ud83d\"}"), "");
	ck_assert_str_eq(ref_of("{\"ref\":{\"ref\":\"c1\"},\"job\":\"\\ud83d\"}"), "");
	ck_assert_str_eq(ref_of("{\"op\":\"ref\",\"job\":\"\\ud83d\"}"), "");
	ck_assert_str_eq(ref_of("[\"ref\",\"c1\",\"\\ud83d\"]"), "");
	ck_assert_str_eq(ref_of("]"), "");
}

TEST(a_ref_of_65_bytes_is_not_repeated)
{
	struct buf text = {0};

	buf_add_text(&text, "{\"ref\":\"");
	for (int i = 0; i < 64; i++)
		buf_add_text(&text, "\\u0072");
	buf_add_text(&text, "\",\"job\":");
	ck_assert_uint_eq(strlen(ref_of(buf_text(&text))), 64);
	buf_reset(&text);
	buf_printf(&text, "{\"ref\":\"%065d\",\"job\":", 0);
	ck_assert_str_eq(ref_of(buf_text(&text)), "");
	buf_fini(&text);
}

TEST(a_mistake_that_repeats_a_long_key_does_not_cut_a_character)
{
	BAD("{\"job\":{\"öööööööööööööööööööööööööö\":1,\"öööööööööööööööööööööööööö\":2}}",
	    "duplicate key");
	ck_assert(str_utf8(str_of(error.message)));
}

TEST(audio_is_refused_by_name)
{
	BAD("{\"op\":\"audio\",\"ref\":\"a1\",\"type\":\"audio/webm\"}", "audio");
	ck_assert_int_eq(error.fault, FAULT_NOT_SUPPORTED);
	ck_assert_str_eq(error.ref, "a1");
	BAD("{\"op\":\"audio_end\",\"ref\":\"a1\"}", "audio_end");
}

TEST(more_than_256_jobs_are_too_many)
{
	struct buf text = {0};

	buf_add_text(&text, "{\"op\":\"attach\",\"jobs\":[");
	for (int i = 0; i < 257; i++)
		buf_printf(&text, "%s{\"id\":\"j%d\"}", i ? "," : "", i);
	buf_add_text(&text, "]}");
	BAD(buf_text(&text), "at most 256");
	buf_fini(&text);
}
