#include "lib/net/origin.h"

#include <errno.h>

#include "tests/unit/test.h"

SUITE("net/origin");

TEST(a_list_holds_origins_and_nothing_else)
{
	static const char *const good[] = {"",
					   "*",
					   "https://app.example.com",
					   " https://a.example  http://localhost:3000 ",
					   "http://[::1]:8080",
					   "capacitor://localhost",
					   "chrome-extension://abcdef"};
	static const char *const bad[] = {"https://a.example/",
					  "a.example",
					  "https://",
					  "https://a.example *",
					  "https://a.example,",
					  "https://a.example,https://b.example",
					  "https://a.example;",
					  "\"https://a.example\"",
					  "HTTPS://a.example",
					  "https://A.example",
					  "https://u@a.example",
					  "null"};
	struct str word;

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		ck_assert_int_eq(origin_list_check(good[i], &word), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		ck_assert_int_eq(origin_list_check(bad[i], &word), -EINVAL);
	ck_assert_int_eq(origin_list_check("https://a.example nonsense", &word), -EINVAL);
	ck_assert_view(word, "nonsense");
}

TEST(a_listed_origin_is_allowed_and_no_other)
{
	const char *list = "https://a.example http://localhost:3000";

	ck_assert(origin_list_has(list, STR("https://a.example")));
	ck_assert(origin_list_has(list, STR("http://localhost:3000")));
	ck_assert(!origin_list_has(list, STR("http://a.example")));
	ck_assert(!origin_list_has(list, STR("https://a.example.evil")));
	ck_assert(!origin_list_has(list, STR("https://a.exampl")));
	ck_assert(!origin_list_has(list, STR("null")));
	ck_assert(!origin_list_has(list, STR("")));
}

TEST(a_star_allows_every_origin_and_an_empty_list_none)
{
	ck_assert(origin_list_has("*", STR("https://b.example")));
	ck_assert(!origin_list_has("*", STR("")));
	ck_assert(!origin_list_has("", STR("https://b.example")));
}
