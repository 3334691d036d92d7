#include "producer/cors.h"

#include <errno.h>

#include "tests/unit/test.h"

SUITE("producer/cors");

TEST(a_list_holds_origins_and_nothing_else)
{
	static const char *const good[] = {"",
					   "*",
					   "https://app.example.com",
					   " https://a.example  http://localhost:3000 ",
					   "http://[::1]:8080",
					   "capacitor://localhost"};
	static const char *const bad[] = {"https://a.example/",
					  "a.example",
					  "https://",
					  "https://a.example *",
					  "HTTPS://a.example",
					  "https://A.example",
					  "https://u@a.example",
					  "null"};
	struct str word;

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		ck_assert_int_eq(cors_check(good[i], &word), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		ck_assert_int_eq(cors_check(bad[i], &word), -EINVAL);
	ck_assert_int_eq(cors_check("https://a.example nonsense", &word), -EINVAL);
	ck_assert_view(word, "nonsense");
}

TEST(a_listed_origin_is_allowed_and_no_other)
{
	const char *list = "https://a.example http://localhost:3000";

	ck_assert(cors_allows(list, STR("https://a.example")));
	ck_assert(cors_allows(list, STR("http://localhost:3000")));
	ck_assert(!cors_allows(list, STR("http://a.example")));
	ck_assert(!cors_allows(list, STR("https://a.example.evil")));
	ck_assert(!cors_allows(list, STR("https://a.exampl")));
	ck_assert(!cors_allows(list, STR("null")));
	ck_assert(!cors_allows(list, STR("")));
}

TEST(a_star_allows_every_origin_and_an_empty_list_none)
{
	ck_assert(cors_allows("*", STR("https://b.example")));
	ck_assert(!cors_allows("*", STR("")));
	ck_assert(!cors_allows("", STR("https://b.example")));
}
