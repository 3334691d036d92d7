/* Positions of event streams. */
#include "producer/sse_out.h"
#include "tests/unit/test.h"

SUITE("producer/positions");

static bool reads(const char *text, int64_t attempt, int64_t at)
{
	int64_t a = -1, b = -1;

	return sse_position(str_of(text), &a, &b) && a == attempt && b == at;
}

TEST(a_position_is_two_numbers)
{
	ck_assert(reads("0:0", 0, 0));
	ck_assert(reads("12:003400", 12, 3400));
	ck_assert(reads("9223372036854775807:9223372036854775807", INT64_MAX, INT64_MAX));
}

TEST(a_number_that_does_not_fit_is_beyond_every_end)
{
	ck_assert(reads("1:9223372036854775808", 1, INT64_MAX));
	ck_assert(reads("1:99999999999999999999999999", 1, INT64_MAX));
	ck_assert(reads("99999999999999999999:1", INT64_MAX, 1));
}

TEST(what_is_no_number_is_malformed)
{
	static const char *const bad[] = {
	    "",	    "x",    "1",     "1:",    ":1",
	    ":",    "-1:0", "1:-1",  "1:1:1", "1:0x4",
	    "1: 2", "+1:2", "1:1.5", "1:1e3", "99999999999999999999x:1"};
	int64_t a, b;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		ck_assert_msg(!sse_position(str_of(bad[i]), &a, &b), "%s", bad[i]);
}
