#include "lib/base/arena.h"

#include <stdint.h>

#include "tests/unit/test.h"

SUITE("base/arena");

TEST(memory_is_zeroed_aligned_and_stays_where_it_is)
{
	struct arena a = {0};
	char *first = arena_dup(&a, "abc", 3);

	for (size_t size = 0; size < 5000; size += 37) {
		char *p = arena_alloc(&a, size);

		ck_assert_uint_eq((uintptr_t)p % 16, 0);
		for (size_t i = 0; i < size; i++)
			ck_assert_int_eq(p[i], 0);
		memset(p, 0xFF, size);
	}
	ck_assert_str_eq(first, "abc");
	arena_reset(&a);
	ck_assert_uint_eq(a.used_bytes, 0);
}

TEST(texts_are_copied_and_made)
{
	struct arena a = {0};

	ck_assert_ptr_null(arena_strdup(&a, NULL));
	ck_assert_str_eq(arena_strdup(&a, "x"), "x");
	ck_assert_str_eq(arena_printf(&a, "%s-%d", "a", 5), "a-5");
	ck_assert_uint_eq(strlen(arena_printf(&a, "%3000d", 1)), 3000);
	arena_reset(&a);
}
