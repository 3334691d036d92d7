#include "lib/relay/seams.h"
#include "tests/unit/test.h"

SUITE("lib/relay/seams");

static struct seams s;

TEST(a_call_that_does_not_begin_at_byte_0_is_a_seam_of_its_attempt)
{
	seams_fini(&s);
	seams_read(&s,
		   STR("[{\"provider\":\"a\",\"model\":\"m\",\"attempt\":2},"
		       "{\"provider\":\"b\",\"model\":\"n\",\"attempt\":2,\"at\":7},"
		       "{\"provider\":\"c\",\"model\":\"o\",\"attempt\":1,\"at\":9}]"),
		   2);
	ck_assert_uint_eq(s.count, 1);
	ck_assert_int_eq(s.known[0].at, 7);
	ck_assert_str_eq(s.known[0].provider, "b");
	ck_assert_str_eq(s.known[0].model, "n");
}

TEST(of_calls_at_the_same_byte_the_last_one_said_what_follows)
{
	seams_fini(&s);
	seams_read(&s,
		   STR("[{\"provider\":\"b\",\"attempt\":1,\"at\":7},"
		       "{\"provider\":\"c\",\"attempt\":1,\"at\":7}]"),
		   1);
	ck_assert_uint_eq(s.count, 1);
	ck_assert_str_eq(s.known[0].provider, "c");
}

TEST(each_is_told_once_and_none_before_the_byte_that_the_listener_has)
{
	seams_fini(&s);
	seams_begin(&s, 7);
	ck_assert(!seams_tell(&s, 6));
	ck_assert(seams_tell(&s, 9));
	ck_assert(seams_tell(&s, 7));
	ck_assert(!seams_tell(&s, 7));
	ck_assert(!seams_tell(&s, 9));
}

TEST(a_text_is_interrupted_at_the_next_seam_within_it)
{
	seams_fini(&s);
	seams_read(&s, STR("[{\"attempt\":1,\"at\":3},{\"attempt\":1,\"at\":8}]"), 1);
	ck_assert_int_eq(seams_next(&s, 0, 10), 3);
	ck_assert_int_eq(seams_next(&s, 3, 10), 8);
	ck_assert_int_eq(seams_next(&s, 3, 8), 8);
	ck_assert_int_eq(seams_next(&s, 8, 10), 10);
}

TEST(calls_that_cannot_be_read_leave_what_is_known)
{
	seams_fini(&s);
	seams_read(&s, STR("[{\"attempt\":1,\"at\":3}]"), 1);
	seams_read(&s, STR("[{\"at\":"), 1);
	ck_assert_uint_eq(s.count, 1);
}
