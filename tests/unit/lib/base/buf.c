#include "lib/base/buf.h"

#include "lib/base/mem.h"
#include "lib/base/rand.h"
#include "tests/unit/test.h"

SUITE("base/buf");

TEST(a_zeroed_buffer_is_an_empty_text)
{
	struct buf b = {0};

	ck_assert_uint_eq(buf_str(&b).len, 0);
	ck_assert_str_eq(buf_text(&b), "");
	buf_fini(&b);
}

TEST(numbers_and_formats_are_added)
{
	struct buf b = {0};

	buf_add_i64(&b, INT64_MIN);
	buf_add_char(&b, ' ');
	buf_add_u64(&b, UINT64_MAX);
	buf_printf(&b, " %s %d", "x", 7);
	buf_printf(&b, "%200d", 1);
	ck_assert_uint_eq(b.len, 20 + 1 + 20 + 4 + 200);
	ck_assert(str_starts(buf_str(&b), "-9223372036854775808 18446744073709551615 x 7"));
	buf_fini(&b);
}

TEST(bytes_leave_in_the_order_in_which_they_came)
{
	struct buf b = {0};
	struct rand r;
	unsigned char in = 0, out = 0;

	rand_init(&r, 1);
	for (int step = 0; step < 20000; step++) {
		size_t n = rand_below(&r, 50);

		if (rand_below(&r, 2)) {
			while (n--)
				buf_add_char(&b, (char)in++);
			continue;
		}
		n = n < b.len ? n : b.len;
		for (size_t i = 0; i < n; i++)
			ck_assert_uint_eq((unsigned char)buf_str(&b).ptr[i], out++);
		buf_take(&b, n);
	}
	buf_fini(&b);
}

TEST(stolen_memory_is_a_string_and_the_buffer_is_empty)
{
	struct buf b = {0};
	char *text;

	buf_add_text(&b, "abcdef");
	buf_take(&b, 2);
	text = buf_steal(&b);
	ck_assert_str_eq(text, "cdef");
	ck_assert_uint_eq(b.len, 0);
	mem_free(text);
	text = buf_steal(&b);
	ck_assert_str_eq(text, "");
	mem_free(text);
}

TEST_ABORTS(taking_more_than_there_is_is_our_own_bug)
{
	struct buf b = {0};

	buf_take(&b, 1);
}
