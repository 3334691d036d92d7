#include "consumers/push/frame.h"

#include "lib/relay/follow.h"
#include "schemas/keys.h"
#include "tests/unit/test.h"

SUITE("consumers/push/frame");

static struct frame f;
static struct json_object *tree;

/* The frame as a tree; it must be one JSON object. */
static struct json_object *written(void)
{
	struct json_error error;

	json_object_put(tree);
	tree = NULL;
	ck_assert_msg(json_read(buf_str(&f.text), &tree, &error) == JSON_OK, "%s",
		      buf_text(&f.text));
	buf_fini(&f.text);
	return tree;
}

TEST(a_delta_is_escaped_and_keeps_its_place)
{
	frame_delta(&f, STR("job_a"), 2, 7, STR("\"h\xc3\xa9\"\n\\"));
	written();
	ck_assert_view(json_str(tree, "ev"), "delta");
	ck_assert_view(json_str(tree, "job"), "job_a");
	ck_assert_int_eq(json_int(tree, "attempt", 0), 2);
	ck_assert_int_eq(json_int(tree, "at", 0), 7);
	ck_assert_view(json_str(tree, "text"), "\"h\xc3\xa9\"\n\\");
}

TEST(a_live_event_is_handed_on_with_its_fields)
{
	const struct event event = {.ev = STR("started"),
				    .job = STR("job_a"),
				    .attempt = 3,
				    .payload = STR("\"provider\":\"openai\"")};

	frame_live(&f, &event);
	written();
	ck_assert_view(json_str(tree, "ev"), "started");
	ck_assert_int_eq(json_int(tree, "attempt", 0), 3);
	ck_assert_view(json_str(tree, "provider"), "openai");
}

TEST(a_wait_in_no_line_says_its_time_where_that_is_known)
{
	struct job_view view = {.lane = STR("high"), .why = STR("budget"), .estimate_ms = 90000};

	frame_queued(&f, STR("job_a"), &view);
	written();
	ck_assert_int_eq(json_int(tree, "estimate_ms", -1), 90000);
	ck_assert_int_eq(json_int(tree, "position", -1), -1);
	view.estimate_ms = 0; /* a job of which nothing is known yet */
	frame_queued(&f, STR("job_a"), &view);
	written();
	ck_assert_int_eq(json_int(tree, "estimate_ms", -1), -1);
	view.position = 1;
	frame_queued(&f, STR("job_a"), &view);
	written();
	ck_assert_int_eq(json_int(tree, "estimate_ms", -1), 0);
}

TEST(a_success_ends_with_result_and_carries_text_only_where_it_was_not_streamed)
{
	struct result result = {.bytes = 2, .text = STR("ab"), .finish_reason = STR("stop")};
	const struct follow_end end = {.status = STR("succeeded"), .attempt = 1, .result = &result};

	frame_last(&f, STR("job_a"), &end, 2);
	written();
	ck_assert_view(json_str(tree, "ev"), "result");
	ck_assert_ptr_null(json_member(tree, "text"));
	ck_assert_uint_eq(json_object_array_length(json_member(tree, "parts")), 1);
	frame_last(&f, STR("job_a"), &end, 0);
	written();
	ck_assert_view(json_str(tree, "text"), "ab");
}

TEST(any_other_end_is_a_fault_with_a_terminal_status)
{
	struct result result = {0};
	const struct follow_end end = {.status = STR("cancelled"), .attempt = 1, .result = &result};

	frame_last(&f, STR("job_a"), &end, 0);
	written();
	ck_assert_view(json_str(tree, "ev"), "fault");
	ck_assert_view(json_str(tree, "status"), "cancelled");
	ck_assert_view(json_str(tree, "name"), "cancelled");
}

TEST(a_fault_that_answers_an_op_has_no_status)
{
	const struct frame_refusal refusal = {.fault = FAULT_UNAVAILABLE, .ref = STR("c1")};

	frame_fault(&f, &refusal);
	written();
	ck_assert_ptr_null(json_member(tree, "status"));
	ck_assert_view(json_str(tree, "ref"), "c1");
	ck_assert_view(json_str(tree, "name"), "unavailable");
	ck_assert(json_bool(tree, "retryable", false));
	ck_assert_int_gt(json_int(tree, "retry_after_ms", 0), 0);
}

TEST(a_token_that_does_not_hold_is_gone_without_a_job)
{
	frame_gone(&f, STR(""), "expired");
	written();
	ck_assert_view(json_str(tree, "ev"), "gone");
	ck_assert_ptr_null(json_member(tree, "job"));
}

TEST(a_message_that_was_cut_within_a_code_point_is_cut_before_it)
{
	const struct frame_refusal refusal = {
	    .fault = FAULT_UNKNOWN_ROUTE, .message = "No route \xc3\xa9\xc3", .param = "t\xe2\x82"};

	frame_fault(&f, &refusal);
	written();
	ck_assert_view(json_str(tree, "message"), "No route \xc3\xa9");
	ck_assert_view(json_str(tree, "param"), "t");
}
