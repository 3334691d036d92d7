#include "lib/store/resp.h"

#include <errno.h>

#include "tests/unit/test.h"

SUITE("store/resp");

static struct resp resp;

static void feed(const char *text)
{
	ck_assert_int_eq(resp_feed(&resp, text, strlen(text)), 0);
}

TEST(a_command_is_written_with_the_lengths_of_its_arguments)
{
	struct buf out = {0};

	resp_head(&out, 2);
	resp_arg(&out, STR("GET"));
	resp_arg(&out, (struct str){"a\r\nb", 4});
	ck_assert_view(buf_str(&out), "*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n");
	buf_fini(&out);
}

TEST(a_reply_in_pieces_is_a_reply_when_its_last_byte_is_there)
{
	const char text[] = "*3\r\n$3\r\none\r\n:-7\r\n*2\r\n$-1\r\n+OK\r\n";
	const struct redis_value *v = NULL;

	resp_init(&resp);
	for (size_t i = 0; i + 1 < sizeof(text); i++) {
		ck_assert_int_eq(resp_next(&resp, &v), RESP_MORE);
		ck_assert_int_eq(resp_feed(&resp, text + i, 1), 0);
	}
	ck_assert_int_eq(resp_next(&resp, &v), RESP_REPLY);
	ck_assert_int_eq(v->type, REDIS_LIST);
	ck_assert_uint_eq(v->count, 3);
	ck_assert_view(redis_item_str(v, 0), "one");
	ck_assert_int_eq(redis_item_int(v, 1, 0), -7);
	ck_assert_int_eq(v->items[2].items[0].type, REDIS_NIL);
	ck_assert_int_eq(v->items[2].items[1].type, REDIS_STATUS);
	resp_fini(&resp);
}

TEST(replies_that_came_together_come_one_by_one)
{
	const struct redis_value *v;

	resp_init(&resp);
	feed(":1\r\n-ERR no\r\n$0\r\n\r\n:");
	ck_assert_int_eq(resp_next(&resp, &v), RESP_REPLY);
	ck_assert_int_eq(v->integer, 1);
	ck_assert_int_eq(resp_next(&resp, &v), RESP_REPLY);
	ck_assert_int_eq(v->type, REDIS_ERROR);
	ck_assert_view(v->str, "ERR no");
	ck_assert_int_eq(resp_next(&resp, &v), RESP_REPLY);
	ck_assert_int_eq(v->type, REDIS_STR);
	ck_assert_uint_eq(v->str.len, 0);
	ck_assert_int_eq(resp_next(&resp, &v), RESP_MORE);
	resp_fini(&resp);
}

TEST(what_is_not_resp_is_an_error_until_it_is_reset)
{
	const struct redis_value *v;

	resp_init(&resp);
	feed("HTTP/1.1 400\r\n");
	ck_assert_int_eq(resp_next(&resp, &v), -EPROTO);
	resp_reset(&resp);
	feed(":5\r\n");
	ck_assert_int_eq(resp_next(&resp, &v), RESP_REPLY);
	ck_assert_int_eq(v->integer, 5);
	resp_fini(&resp);
}

TEST(an_item_that_is_not_there_is_empty_or_the_other_number)
{
	const struct redis_value *v;

	resp_init(&resp);
	feed("*2\r\n$2\r\n42\r\n$1\r\nx\r\n");
	ck_assert_int_eq(resp_next(&resp, &v), RESP_REPLY);
	ck_assert_int_eq(redis_item_int(v, 0, 0), 42);
	ck_assert_int_eq(redis_item_int(v, 1, -1), -1);
	ck_assert_int_eq(redis_item_int(v, 2, -2), -2);
	ck_assert_uint_eq(redis_item_str(v, 2).len, 0);
	ck_assert_uint_eq(redis_item_str(NULL, 0).len, 0);
	resp_fini(&resp);
}
