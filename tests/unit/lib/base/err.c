#include "lib/base/err.h"

#include <errno.h>
#include <stdio.h>

#include "lib/base/mem.h"
#include "tests/unit/test.h"

SUITE("base/err");

TEST(a_trace_names_the_places_from_the_origin_up)
{
	int first = __LINE__ + 1;
	int r = err_origin(-EIO);
	char expected[200], text[200];

	r = err_trace(r);
	ck_assert_int_eq(r, -EIO);
	snprintf(expected, sizeof(expected), "%s:%d < %s:%d", __FILE__, first, __FILE__, first + 3);
	err_trace_text(text, sizeof(text));
	ck_assert_str_eq(text, expected);
}

TEST(an_outcome_that_is_no_error_leaves_no_trace)
{
	char before[200], after[200];

	(void)err_origin(-EIO);
	err_trace_text(before, sizeof(before));
	ck_assert_int_eq(err_origin(0), 0);
	ck_assert_int_eq(err_trace(3), 3);
	err_trace_text(after, sizeof(after));
	ck_assert_str_eq(before, after);
}

TEST(a_trace_is_cut_to_the_room_there_is)
{
	char text[8];

	(void)err_origin(-EIO);
	for (int i = 0; i < 50; i++)
		(void)err_trace(-EIO);
	err_trace_text(text, sizeof(text));
	ck_assert_uint_eq(strlen(text), 7);
}

TEST_ABORTS(what_must_hold_and_does_not_ends_the_process)
{
	must(1 == 2);
}

TEST(memory_is_zeroed_and_copies_end_in_a_zero_byte)
{
	cleanup_free char *zero = mem_alloc(100);
	cleanup_free char *copy = mem_dup("abcd", 2);
	cleanup_free char *made = mem_printf("%d", 42);

	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(zero[i], 0);
	ck_assert_str_eq(copy, "ab");
	ck_assert_str_eq(made, "42");
	ck_assert_ptr_null(mem_strdup(NULL));
}
