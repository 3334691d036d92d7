#include "lib/base/clock.h"

#include "tests/unit/test.h"

SUITE("base/clock");

static uint64_t time_of(const char *text)
{
	uint64_t ms = 1;

	ck_assert_msg(clock_parse(str_of(text), &ms) == CLOCK_OK, "%s is refused", text);
	return ms;
}

TEST(times_are_written_as_rfc_3339_in_utc_with_milliseconds)
{
	static const struct {
		uint64_t ms;
		const char *text;
	} known[] = {
	    {0, "1970-01-01T00:00:00.000Z"},
	    {951782399999, "2000-02-28T23:59:59.999Z"},
	    {951782400000, "2000-02-29T00:00:00.000Z"},
	    {1795342530123, "2026-11-22T10:15:30.123Z"},
	    {4107542399000, "2100-02-28T23:59:59.000Z"},
	    {4107542400000, "2100-03-01T00:00:00.000Z"},
	    {253402300799999, "9999-12-31T23:59:59.999Z"},
	    {UINT64_MAX, "9999-12-31T23:59:59.999Z"},
	};
	char text[CLOCK_TEXT_SIZE];

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		clock_text(known[i].ms, text);
		ck_assert_str_eq(text, known[i].text);
	}
}

TEST(what_is_written_reads_back)
{
	char text[CLOCK_TEXT_SIZE];

	for (uint64_t ms = 7; ms < UINT64_C(253402300799999); ms += UINT64_C(7919000000123)) {
		clock_text(ms, text);
		ck_assert_uint_eq(time_of(text), ms);
	}
}

TEST(every_day_of_four_centuries_reads_back)
{
	char text[CLOCK_TEXT_SIZE];

	for (uint64_t day = 0; day < 146097; day++) {
		clock_text(day * 86400000, text);
		ck_assert_uint_eq(time_of(text), day * 86400000);
	}
}

TEST(any_offset_and_any_number_of_decimals_is_read)
{
	ck_assert_uint_eq(time_of("2026-11-22T10:15:30Z"), 1795342530000);
	ck_assert_uint_eq(time_of("2026-11-22t10:15:30.1z"), 1795342530100);
	ck_assert_uint_eq(time_of("2026-11-22 10:15:30.123456789012Z"), 1795342530123);
	ck_assert_uint_eq(time_of("2026-11-22T12:45:30+02:30"), 1795342530000);
	ck_assert_uint_eq(time_of("2026-11-21T23:15:30-11:00"), 1795342530000);
	ck_assert_uint_eq(time_of("2016-12-31T23:59:60Z"), 1483228800000);
}

TEST(what_is_no_time_is_refused)
{
	static const char *const bad[] = {
	    "",
	    "2026",
	    "2026-11-22",
	    "2026-11-22T10:15:30",
	    "2026-13-22T10:15:30Z",
	    "2026-02-29T10:15:30Z",
	    "2026-11-31T10:15:30Z",
	    "2026-00-10T10:15:30Z",
	    "2026-11-22T24:15:30Z",
	    "2026-11-22T10:60:30Z",
	    "2026-11-22T10:15:61Z",
	    "2026-11-22T10:15:30.Z",
	    "2026-11-22T10:15:30+2:30",
	    "2026-11-22T10:15:30+02",
	    "2026-11-22T10:15:30Zx",
	    "1969-12-31T23:59:59Z",
	    "1970-01-01T00:00:00+00:01",
	    " 2026-11-22T10:15:30Z",
	    "2026-11-22T10:15:30+24:00",
	    "0000-01-01T00:00:00Z",
	};
	uint64_t ms;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(clock_parse(str_of(bad[i]), &ms) == CLOCK_MALFORMED, "%s", bad[i]);
}

TEST(http_dates_are_read)
{
	uint64_t ms;

	ck_assert(clock_parse_http(STR("Sun, 22 Nov 2026 10:15:30 GMT"), &ms) == CLOCK_OK);
	ck_assert_uint_eq(ms, 1795342530000);
	ck_assert(clock_parse_http(STR("Sun, 22 Nov 2026 10:15:30 UTC"), &ms) == CLOCK_MALFORMED);
	ck_assert(clock_parse_http(STR("Sunday, 22-Nov-26 10:15:30 GMT"), &ms) == CLOCK_MALFORMED);
	ck_assert(clock_parse_http(STR("Sun, 22 Nov 2026 10:15:30"), &ms) == CLOCK_MALFORMED);
	ck_assert(clock_parse_http(STR(""), &ms) == CLOCK_MALFORMED);
	ck_assert(clock_parse_http(STR("120"), &ms) == CLOCK_MALFORMED);
}

TEST(go_durations_are_read)
{
	static const struct {
		const char *text;
		uint64_t us;
	} known[] = {
	    {"6m0s", 360000000},
	    {"20ms", 20000},
	    {"2m59.56s", 179560000},
	    {"0s", 0},
	    {"0", 0},
	    {"1", 1000000},
	    {"1.5", 1500000},
	    {"24h0m0s", 86400000000},
	    {"1h2m3s4ms5us", 3723004005},
	    {".5s", 500000},
	    {"1ns", 1},
	    {"7\xC2\xB5s", 7},
	    {"7\xCE\xBCs", 7},
	};
	uint64_t us = 9;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		ck_assert_msg(clock_parse_go(str_of(known[i].text), &us) == CLOCK_OK, "%s",
			      known[i].text);
		ck_assert_uint_eq(us, known[i].us);
	}
}

TEST(what_is_no_go_duration_is_refused)
{
	static const char *const bad[] = {
	    "",
	    "s",
	    "-1s",
	    "1x",
	    "1m2",
	    "1 s",
	    "m1",
	    ".",
	    ".s",
	    "1..2s",
	    "99999999999999999999s",
	    "18446744073709551615h",
	    "soon",
	};
	uint64_t us;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(clock_parse_go(str_of(bad[i]), &us) == CLOCK_MALFORMED, "%s", bad[i]);
}
