#include "lib/base/str.h"

#include "tests/unit/test.h"

SUITE("base/str");

TEST(views_of_nothing_are_equal)
{
	ck_assert(str_eq(str_of(NULL), STR("")));
	ck_assert(str_is((struct str){NULL, 0}, ""));
	ck_assert(!str_eq(STR("a"), STR("")));
}

TEST(case_matters_only_where_asked)
{
	ck_assert(str_is_nocase(STR("Content-TYPE"), "content-type"));
	ck_assert(!str_is(STR("Content-TYPE"), "content-type"));
	ck_assert(!str_is_nocase(STR("Content"), "content-type"));
	ck_assert(str_starts(STR("job_1"), "job_"));
	ck_assert(!str_starts(STR("jo"), "job_"));
}

TEST(split_gives_every_part_empty_ones_too)
{
	struct str rest = STR("a,,b,"), part;

	ck_assert(str_split(&rest, ',', &part));
	ck_assert_view(part, "a");
	ck_assert(str_split(&rest, ',', &part));
	ck_assert_view(part, "");
	ck_assert(str_split(&rest, ',', &part));
	ck_assert_view(part, "b");
	ck_assert(str_split(&rest, ',', &part));
	ck_assert_view(part, "");
	ck_assert(!str_split(&rest, ',', &part));
}

TEST(trim_takes_blanks_and_tabs_on_both_sides)
{
	ck_assert_view(str_trim(STR(" \ta b\t ")), "a b");
	ck_assert_view(str_trim(STR(" \t")), "");
}

TEST(numbers_are_whole_and_fit)
{
	uint64_t u;
	int64_t i;

	ck_assert(str_u64(STR("18446744073709551615"), &u) && u == UINT64_MAX);
	ck_assert(!str_u64(STR("18446744073709551616"), &u));
	ck_assert(!str_u64(STR(""), &u));
	ck_assert(!str_u64(STR("-1"), &u));
	ck_assert(!str_u64(STR("1 "), &u));
	ck_assert(str_i64(STR("-9223372036854775807"), &i) && i == -INT64_MAX);
	ck_assert(str_i64(STR("-9223372036854775808"), &i) && i == INT64_MIN);
	ck_assert(!str_i64(STR("9223372036854775808"), &i));
	ck_assert(!str_i64(STR("-9223372036854775809"), &i));
	ck_assert(!str_i64(STR("-"), &i));
}

TEST(utf8_is_that_of_rfc_3629)
{
	static const char *const bad[] = {
	    "\x80",	    "\xC0\x80",		"\xC1\xBF",	    "\xE0\x80\x80",
	    "\xED\xA0\x80", "\xF0\x80\x80\x80", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80",
	    "\xC3",	    "\xE2\x82",		"\xF0\x9F\x98",	    "a\xFF"};

	ck_assert(str_utf8(STR("")));
	ck_assert(str_utf8(STR("a\0\xC3\xA4\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF")));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(!str_utf8(str_of(bad[i])), "number %zu", i);
}

TEST(a_cut_splits_no_code_point)
{
	struct str text = STR("a\xC3\xA4\xF0\x9F\x98\x80");

	ck_assert_uint_eq(str_utf8_cut(text, 0), 0);
	ck_assert_uint_eq(str_utf8_cut(text, 1), 1);
	ck_assert_uint_eq(str_utf8_cut(text, 2), 1);
	ck_assert_uint_eq(str_utf8_cut(text, 3), 3);
	ck_assert_uint_eq(str_utf8_cut(text, 6), 3);
	ck_assert_uint_eq(str_utf8_cut(text, 7), 7);
	ck_assert_uint_eq(str_utf8_cut(text, 99), 7);
}

TEST(what_is_no_utf8_becomes_the_replacement_character_and_nothing_is_split)
{
	char room[16];

	ck_assert_view(str_utf8_clean(STR("a\xC3\xA4\0b"), room, sizeof(room)),
		       "a\xC3\xA4\xEF\xBF\xBD"
		       "b");
	ck_assert_view(str_utf8_clean(STR("r\xFF\xC3"), room, sizeof(room)),
		       "r\xEF\xBF\xBD\xEF\xBF\xBD");
	ck_assert_view(str_utf8_clean(STR("a\xF0\x9F\x98\x80"), room, 4), "a");
	ck_assert_view(str_utf8_clean(STR("a\xFF"), room, 3), "a");
	ck_assert_view(str_utf8_clean(STR("abcdef"), room, 3), "abc");
	ck_assert_uint_eq(str_utf8_clean((struct str){NULL, 0}, room, sizeof(room)).len, 0);
}
