#include "consumers/push/latest.h"

#include "tests/unit/test.h"

SUITE("consumers/push/latest");

#define GAP 250000

static struct latest l = {.gap_us = GAP};

static void put(const char *word)
{
	struct buf text = {0};

	buf_add_text(&text, word);
	latest_put(&l, &text);
}

/* What is told at @now_us, "" for nothing. */
static const char *told(uint64_t now_us)
{
	static char word[16];
	struct buf text = {0};

	word[0] = '\0';
	if (latest_take(&l, now_us, &text)) {
		memcpy(word, buf_str(&text).ptr, text.len);
		word[text.len] = '\0';
	}
	buf_fini(&text);
	return word;
}

TEST(the_first_word_is_told_at_once_whatever_the_clock_says)
{
	put("a");
	ck_assert_uint_eq(latest_after_us(&l, 5), 0);
	ck_assert_str_eq(told(5), "a");
	ck_assert_str_eq(told(5), "");
	latest_drop(&l);
}

TEST(a_newer_word_replaces_one_that_was_not_told)
{
	put("a");
	ck_assert_str_eq(told(1000), "a");
	put("b");
	put("c");
	ck_assert_str_eq(told(1000 + GAP - 1), "");
	ck_assert_str_eq(told(1000 + GAP), "c");
	ck_assert(!latest_waits(&l));
	latest_drop(&l);
}

TEST(of_a_word_every_millisecond_four_a_second_are_told)
{
	unsigned count = 0;

	for (uint64_t now = 0; now < 10 * 1000000; now += 1000) {
		put("x");
		if (!latest_after_us(&l, now))
			count += told(now)[0] == 'x';
	}
	ck_assert_uint_eq(count, 40);
	latest_drop(&l);
}

TEST(what_was_dropped_is_not_told_and_the_pace_stays)
{
	put("a");
	ck_assert_str_eq(told(0), "a");
	put("b");
	latest_drop(&l);
	ck_assert_str_eq(told(GAP), "");
	put("c");
	ck_assert_uint_eq(latest_after_us(&l, 100), GAP - 100);
	latest_drop(&l);
}
