#include "tests/sim/answer.h"

#include "lib/base/buf.h"
#include "tests/unit/test.h"

SUITE("sim/answer");

TEST(the_same_question_has_the_same_answer)
{
	struct buf a = {0};
	struct buf b = {0};
	sim_answer(STR("m"), STR("why?"), 500, &a);
	sim_answer(STR("m"), STR("why?"), 500, &b);
	ck_assert(str_eq(buf_str(&a), buf_str(&b)));
	buf_fini(&a);
	buf_fini(&b);
}

TEST(another_model_or_message_has_another_answer)
{
	struct buf a = {0};
	struct buf b = {0};
	struct buf c = {0};
	sim_answer(STR("m"), STR("why?"), 50, &a);
	sim_answer(STR("n"), STR("why?"), 50, &b);
	sim_answer(STR("m"), STR("why"), 50, &c);
	ck_assert(!str_eq(buf_str(&a), buf_str(&b)));
	ck_assert(!str_eq(buf_str(&a), buf_str(&c)));
	buf_fini(&a);
	buf_fini(&b);
	buf_fini(&c);
}

TEST(a_shorter_answer_is_the_beginning_of_a_longer_one)
{
	struct buf a = {0};
	struct buf b = {0};
	sim_answer(STR("m"), STR("x"), 10, &a);
	sim_answer(STR("m"), STR("x"), 20, &b);
	ck_assert_uint_lt(a.len, b.len);
	ck_assert_mem_eq(a.data + a.head, b.data + b.head, a.len);
	buf_fini(&a);
	buf_fini(&b);
}

TEST(every_token_is_whole_characters_and_each_kind_is_there)
{
	bool seen[5] = {false};
	for (unsigned i = 0; i < SIM_TOKENS; i++) {
		struct str t = sim_answer_token(i);
		ck_assert(str_utf8(t));
		for (size_t k = 0; k < t.len; k++) {
			unsigned char c = (unsigned char)t.ptr[k];
			seen[1] |= c == '"';
			seen[0] |= c == '\r';
			seen[2] |= c >= 0xc0 && c < 0xe0;
			seen[3] |= c >= 0xe0 && c < 0xf0;
			seen[4] |= c >= 0xf0;
		}
	}
	for (unsigned i = 0; i < 5; i++)
		ck_assert_msg(seen[i], "kind %u is missing", i);
}

/* Also what tests/support/answer.mjs gives: a change here is a change there. */
TEST(the_answer_is_the_one_that_is_documented)
{
	struct buf a = {0};
	sim_answer(STR("claude-x"), STR("hi"), 6, &a);
	ck_assert_view(buf_str(&a), " 𝄞read.5 and… ");
	buf_fini(&a);
}
