#include "lib/net/url.h"

#include "lib/base/arena.h"
#include "lib/base/mem.h"
#include "tests/unit/test.h"

SUITE("net/url");

static struct arena arena;

static const char *origin_of(const char *text)
{
	struct url url;
	const char *why;

	if (url_read(&arena, str_of(text), &url, &why) != URL_OK)
		return why;
	return url.origin.ptr;
}

TEST(an_origin_is_scheme_host_and_port_in_one_form)
{
	ck_assert_str_eq(origin_of("https://Hooks.Example.COM/a?b=c"),
			 "https://hooks.example.com:443");
	ck_assert_str_eq(origin_of("http://example.com:8080"), "http://example.com:8080");
	ck_assert_str_eq(origin_of("https://[2001:DB8::1]/x"), "https://[2001:db8::1]:443");
	arena_reset(&arena);
}

TEST(a_number_of_whatever_form_is_an_address)
{
	ck_assert_str_eq(origin_of("https://2130706433/"), "https://127.0.0.1:443");
	ck_assert_str_eq(origin_of("https://0x7f.1/"), "https://127.0.0.1:443");
	arena_reset(&arena);
}

TEST(what_is_more_than_a_place_to_call_is_refused)
{
	static const char *const bad[] = {
	    "https:///example.com/",	 "https:/example.com/",	      "https:example.com/",
	    "https:////example.com/",	 "https://user@example.com/", "https://u:p@example.com/",
	    "https://example.com/#part", "ftp://example.com/",	      "file:///etc/passwd",
	    "gopher://example.com/",	 "example.com/hook",	      "https://",
	    "https://exa mple.com/",	 "https://example.com/\t",    "https://ex\xc3\xa4mple.com/",
	    "https://example.com:99999", "javascript:alert(1)",	      ""};

	for (size_t i = 0; i < countof(bad); i++)
		ck_assert_msg(!str_starts(str_of(origin_of(bad[i])), "http"), "%s", bad[i]);
	arena_reset(&arena);
}

TEST(a_url_of_more_than_2048_bytes_is_refused)
{
	char text[URL_MAX_BYTES + 2] = "https://example.com/";

	memset(text + strlen(text), 'a', sizeof(text) - 1 - strlen(text));
	text[URL_MAX_BYTES + 1] = '\0';
	ck_assert_str_eq(origin_of(text), "it is longer than 2048 bytes");
	text[URL_MAX_BYTES] = '\0';
	ck_assert_str_eq(origin_of(text), "https://example.com:443");
	arena_reset(&arena);
}
