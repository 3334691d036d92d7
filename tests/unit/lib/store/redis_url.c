#include "lib/store/redis_url.h"

#include "tests/unit/test.h"

SUITE("store/redis_url");

static struct redis_url url;

static bool good(const char *text)
{
	return redis_url_parse(str_of(text), &url) == REDIS_URL_OK;
}

TEST(a_host_alone_has_the_usual_port_and_database)
{
	ck_assert(good("redis://cache.example"));
	ck_assert_str_eq(url.host, "cache.example");
	ck_assert_uint_eq(url.port, 6379);
	ck_assert_uint_eq(url.db, 0);
	ck_assert(!url.tls);
	ck_assert_str_eq(url.password, "");
}

TEST(everything_that_can_stand_in_it_is_read)
{
	ck_assert(good("rediss://us%40er:p%3A%2Fw%25@[::1]:7000/12"));
	ck_assert(url.tls);
	ck_assert_str_eq(url.user, "us@er");
	ck_assert_str_eq(url.password, "p:/w%");
	ck_assert_str_eq(url.host, "::1");
	ck_assert_uint_eq(url.port, 7000);
	ck_assert_uint_eq(url.db, 12);
}

TEST(a_password_may_stand_without_a_user)
{
	ck_assert(good("redis://:secret@h:1/"));
	ck_assert_str_eq(url.user, "");
	ck_assert_str_eq(url.password, "secret");
}

TEST(malformed_ones_are_refused)
{
	const char *bad[] = {"",
			     "redis:/h",
			     "http://h",
			     "redis://",
			     "redis://h:0",
			     "redis://h:65536",
			     "redis://h:1x",
			     "redis://h:",
			     "redis://[::1",
			     "redis://[::1]x",
			     "redis://h/x",
			     "redis://h/99999",
			     "redis://a%4@h",
			     "redis://a%zz@h",
			     "redis://a%00b@h",
			     "redis://u:p@"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		ck_assert_msg(!good(bad[i]), "%s", bad[i]);
}
