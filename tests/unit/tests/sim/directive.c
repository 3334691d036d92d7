#include "tests/sim/directive.h"

#include <stdio.h>

#include "tests/unit/test.h"

SUITE("sim/directive");

static struct sim_directive d;
static struct str bad;

static bool reads(const char *text)
{
	d = (struct sim_directive){.rate = 60, .tokens = 80, .status = 200};
	return sim_directive_read(str_of(text), &d, &bad) == SIM_DIRECTIVE_OK;
}

TEST(a_text_without_a_directive_changes_nothing)
{
	ck_assert(reads("an essay [with brackets]"));
	ck_assert_uint_eq(d.tokens, 80);
}

/* The break at @i is @fault, after @at of @after, with @arg. */
static void breaks(unsigned i, enum sim_fault fault, enum sim_after after, uint64_t at,
		   uint64_t arg)
{
	ck_assert_uint_lt(i, d.count);
	ck_assert_int_eq(d.breaks[i].fault, fault);
	ck_assert_int_eq(d.breaks[i].after, after);
	ck_assert_uint_eq(d.breaks[i].at, at);
	ck_assert_uint_eq(d.breaks[i].arg, arg);
}

TEST(each_name_of_pace_and_status_is_read)
{
	ck_assert(reads("hi [sim head=1 ttft=120 rate=33.5 tokens=200 status=429 retry=1500 "
			"code=slow_down page=1 bytes=1 crlf=1] there"));
	ck_assert_uint_eq(d.head_ms, 1);
	ck_assert_uint_eq(d.ttft_ms, 120);
	ck_assert_double_eq_tol(d.rate, 33.5, 1e-9);
	ck_assert_uint_eq(d.tokens, 200);
	ck_assert_uint_eq(d.status, 429);
	ck_assert_uint_eq(d.retry_ms, 1500);
	ck_assert_str_eq(d.code, "slow_down");
	ck_assert(d.page && d.bytes && d.crlf);
}

TEST(a_break_is_after_tokens_or_bytes_or_as_soon_as_asked)
{
	ck_assert(reads("[sim stall=10:2000 fail=3 cut=40b rst=ask huge=2:100 huge=3]"));
	ck_assert_uint_eq(d.count, 6);
	breaks(0, SIM_FAULT_STALL, SIM_AFTER_TOKENS, 10, 2000);
	breaks(1, SIM_FAULT_FAIL, SIM_AFTER_TOKENS, 3, 0);
	breaks(2, SIM_FAULT_CUT, SIM_AFTER_BYTES, 40, 0);
	breaks(3, SIM_FAULT_RST, SIM_AFTER_ASK, 0, 0);
	breaks(4, SIM_FAULT_HUGE, SIM_AFTER_TOKENS, 2, 100);
	breaks(5, SIM_FAULT_HUGE, SIM_AFTER_TOKENS, 3, SIM_HUGE_BYTES);
	ck_assert_ptr_eq(sim_directive_at_once(&d), &d.breaks[3]);
	ck_assert(!sim_directive_undone(&d));
}

TEST(a_fault_without_a_value_comes_as_soon_as_asked)
{
	ck_assert(reads("[sim rst crlf]"));
	breaks(0, SIM_FAULT_RST, SIM_AFTER_ASK, 0, 0);
	ck_assert(d.crlf);
	ck_assert(!reads("[sim status]"));
}

TEST(what_was_never_processed_is_told_from_what_was)
{
	ck_assert(reads("[sim refused=ask]"));
	ck_assert(sim_directive_undone(&d));
	ck_assert(reads("[sim undone=3]"));
	ck_assert(!sim_directive_undone(&d));
}

TEST(every_fault_within_an_answer_is_a_word)
{
	for (unsigned i = 0; i < SIM_FAULTS; i++) {
		char text[64];
		enum sim_fault fault = (enum sim_fault)i;
		snprintf(text, sizeof(text), "[sim %s=3]", sim_fault_name(fault));
		ck_assert_int_eq(sim_fault_of(str_of(sim_fault_name(fault))), fault);
		if (sim_fault_place(fault) == SIM_PLACE_WITHIN)
			ck_assert_msg(reads(text), "%s", text);
		else if (sim_fault_place(fault) == SIM_PLACE_DOOR)
			ck_assert_msg(!reads(text), "%s", text);
	}
}

TEST(slow_makes_times_longer)
{
	ck_assert(reads("[sim ttft=100 rate=50 slow=2.5]"));
	ck_assert_uint_eq(d.ttft_ms, 250);
	ck_assert_double_eq_tol(d.rate, 20, 1e-9);
}

TEST(faults_may_be_for_models_that_begin_so_only)
{
	ck_assert(reads("[sim only=claude- status=529 fail=3 tokens=7 words=1 usage=0]"));
	ck_assert(d.words);
	sim_directive_for(&d, STR("claude-sonnet-4-5"));
	ck_assert_uint_eq(d.status, 529);
	ck_assert_uint_eq(d.count, 1);
	sim_directive_for(&d, STR("gpt-4o"));
	ck_assert_uint_eq(d.status, 200);
	ck_assert_uint_eq(d.count, 0);
	ck_assert_uint_eq(d.tokens, 7);
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
	ck_assert(!reads("[sim fin=]"));
	ck_assert(!reads("[sim fin=b]"));
	ck_assert(!reads("[sim fin=1:5]"));
	ck_assert(!reads("[sim slow=0]"));
	ck_assert(!reads("[sim fin=1 fin=2 fin=3 fin=4 fin=5 fin=6 fin=7 fin=8 fin=9]"));
	ck_assert(!reads("[sim tokens=99999999999999999999]"));
}

TEST(a_directive_without_its_end_is_refused)
{
	ck_assert(!reads("[sim ttft=1"));
}
