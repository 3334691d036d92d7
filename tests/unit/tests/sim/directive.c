#include "tests/sim/directive.h"

#include "tests/unit/test.h"

SUITE("sim/directive");

static struct sim_directive d;
static struct str bad;

static bool reads(const char *text)
{
	d = (struct sim_directive){.rate = 60, .tokens = 80, .status = 200, .stall_at = SIM_NEVER};
	return sim_directive_read(str_of(text), &d, &bad) == SIM_DIRECTIVE_OK;
}

TEST(a_text_without_a_directive_changes_nothing)
{
	ck_assert(reads("an essay [with brackets]"));
	ck_assert_uint_eq(d.tokens, 80);
}

TEST(each_name_is_read)
{
	ck_assert(reads("hi [sim head=1 ttft=120 rate=33.5 tokens=200 stall=10:2000 fail=3 cut=4 "
			"end=5 status=429 retry=1500] there"));
	ck_assert_uint_eq(d.head_ms, 1);
	ck_assert_uint_eq(d.ttft_ms, 120);
	ck_assert_double_eq_tol(d.rate, 33.5, 1e-9);
	ck_assert_uint_eq(d.tokens, 200);
	ck_assert_uint_eq(d.stall_at, 10);
	ck_assert_uint_eq(d.stall_ms, 2000);
	ck_assert_uint_eq(d.fail_at, 3);
	ck_assert_uint_eq(d.cut_at, 4);
	ck_assert_uint_eq(d.end_at, 5);
	ck_assert_uint_eq(d.status, 429);
	ck_assert_uint_eq(d.retry_ms, 1500);
}

TEST(an_unknown_name_is_refused_and_named)
{
	ck_assert(!reads("[sim ttft=1 bogus=2]"));
	ck_assert_view(bad, "bogus=2");
}

TEST(a_number_that_is_none_is_refused)
{
	ck_assert(!reads("[sim ttft=-1]"));
	ck_assert(!reads("[sim ttft=1x]"));
	ck_assert(!reads("[sim rate=1.]"));
	ck_assert(!reads("[sim tokens]"));
	ck_assert(!reads("[sim status=302]"));
	ck_assert(!reads("[sim tokens=99999999999999999999]"));
}

TEST(a_directive_without_its_end_is_refused)
{
	ck_assert(!reads("[sim ttft=1"));
}
