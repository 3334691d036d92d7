#include "lib/base/map.h"

#include <stdio.h>

#include "lib/base/rand.h"
#include "tests/unit/test.h"

SUITE("base/map");

static int one, two;

static struct str number(char *text, size_t size, unsigned n)
{
	return (struct str){text, (size_t)snprintf(text, size, "%u", n)};
}

TEST(a_zeroed_map_is_empty)
{
	struct map m = {0};
	size_t at = 0;

	ck_assert_ptr_null(map_find(&m, STR("a")));
	ck_assert_ptr_null(map_take(&m, STR("a")));
	ck_assert_ptr_null(map_next(&m, &at));
}

TEST(a_key_is_copied)
{
	struct map m = {0};
	char key[] = "abc";

	map_set(&m, str_of(key), &one);
	key[0] = 'x';
	ck_assert_ptr_eq(map_find(&m, STR("abc")), &one);
	map_fini(&m);
}

TEST(setting_a_key_again_returns_what_stood_there)
{
	struct map m = {0};

	ck_assert_ptr_null(map_set(&m, STR("a"), &one));
	ck_assert_ptr_eq(map_set(&m, STR("a"), &two), &one);
	ck_assert_ptr_eq(map_find(&m, STR("a")), &two);
	ck_assert_uint_eq(m.count, 1);
	map_fini(&m);
}

TEST(the_empty_key_and_keys_with_zero_bytes_are_keys)
{
	struct map m = {0};

	map_set(&m, STR(""), &one);
	map_set(&m, STR("a\0b"), &two);
	ck_assert_ptr_eq(map_find(&m, STR("")), &one);
	ck_assert_ptr_eq(map_find(&m, STR("a\0b")), &two);
	ck_assert_ptr_null(map_find(&m, STR("a")));
	map_fini(&m);
}

TEST(keys_that_come_and_go_do_not_make_it_grow)
{
	struct map m = {0};
	char text[16];

	for (unsigned i = 0; i < 10000; i++) {
		map_set(&m, number(text, sizeof(text), i), &one);
		ck_assert_ptr_eq(map_take(&m, number(text, sizeof(text), i)), &one);
	}
	ck_assert_uint_eq(m.count, 0);
	ck_assert_uint_le(m.cap, 64);
	map_fini(&m);
}

TEST(it_agrees_with_a_plain_array_under_chance)
{
	static int value[512];
	bool there[512] = {0};
	struct map m;
	struct rand r;
	size_t count = 0;
	size_t at = 0;

	rand_init(&r, 7);
	map_init(&m, 42);
	for (unsigned step = 0; step < 20000; step++) {
		unsigned k = (unsigned)rand_below(&r, 512);
		char text[16];
		struct str key = number(text, sizeof(text), k);

		ck_assert_ptr_eq(map_find(&m, key), there[k] ? &value[k] : NULL);
		if (rand_below(&r, 2))
			map_set(&m, key, &value[k]);
		else
			map_take(&m, key);
		there[k] = map_find(&m, key) != NULL;
	}
	for (unsigned k = 0; k < 512; k++)
		count += there[k];
	ck_assert_uint_eq(m.count, count);
	while (map_next(&m, &at))
		count--;
	ck_assert_uint_eq(count, 0);
	map_fini(&m);
}

TEST(it_may_lose_entries_while_it_is_visited)
{
	struct map m = {0};
	struct map_entry *e;
	unsigned seen = 0;
	size_t at = 0;
	char text[16];

	for (unsigned i = 0; i < 100; i++)
		map_set(&m, number(text, sizeof(text), i), &one);
	while ((e = map_next(&m, &at))) {
		map_take(&m, e->key);
		seen++;
	}
	ck_assert_uint_eq(seen, 100);
	ck_assert_uint_eq(m.count, 0);
	map_fini(&m);
}

TEST(another_seed_gives_another_order)
{
	struct map a, b;
	size_t at_a = 0, at_b = 0;
	bool differs = false;
	char text[16];

	map_init(&a, 1);
	map_init(&b, 2);
	for (unsigned i = 0; i < 64; i++) {
		map_set(&a, number(text, sizeof(text), i), &one);
		map_set(&b, number(text, sizeof(text), i), &one);
	}
	for (unsigned i = 0; i < 64; i++)
		differs |= !str_eq(map_next(&a, &at_a)->key, map_next(&b, &at_b)->key);
	ck_assert(differs);
	map_fini(&a);
	map_fini(&b);
}

TEST_ABORTS(a_null_value_is_our_own_bug)
{
	struct map m = {0};

	map_set(&m, STR("a"), NULL);
}
