#include "consumers/providers/provider.h"
#include "lib/base/mem.h"
#include "tests/unit/test.h"

SUITE("providers/charges");

static struct charge charged(const char *provider, int64_t input, int64_t output, int64_t most)
{
	struct charge_estimate e = {input, output, most};
	struct charge c;

	provider_find(str_of(provider))->charge(&e, &c);
	return c;
}

static struct charge spent(const char *provider, const char *model, struct charge reserved,
			   struct usage usage, bool complete)
{
	struct charge c;

	provider_find(str_of(provider))->spent(model, &reserved, &usage, complete, &c);
	return c;
}

static struct provider_rates rates(const char *provider, const struct http_field *fields,
				   size_t count)
{
	struct answer_sink sink = {0};
	struct answer *a = provider_find(str_of(provider))->answer_new(&sink);
	struct provider_rates r;

	answer_head(a, 429, fields, count, 0);
	r = answer_outcome(a)->rates;
	answer_free(a);
	return r;
}

TEST(anthropic_reserves_the_longest_answer_and_counts_the_one_that_was_made)
{
	struct charge c = charged("anthropic", 700, 50, 4096);

	ck_assert_int_eq(c.unit[CHARGE_REQUESTS], 1);
	ck_assert_int_eq(c.unit[CHARGE_INPUT], 700);
	ck_assert_int_eq(c.unit[CHARGE_OUTPUT], 4096);
	c = spent("anthropic", "claude-sonnet-4-5", c,
		  (struct usage){.input_tokens = 812, .output_tokens = 90}, true);
	ck_assert_int_eq(c.unit[CHARGE_INPUT], 812);
	ck_assert_int_eq(c.unit[CHARGE_OUTPUT], 90);
}

TEST(input_that_anthropics_cache_served_does_not_count_but_what_was_written_does)
{
	struct usage usage = {.input_tokens = 1000,
			      .cached_input_tokens = 640,
			      .cache_write_tokens = 60,
			      .output_tokens = 1};
	struct charge c = charged("anthropic", 1000, 1, 1);

	ck_assert_int_eq(spent("anthropic", "claude-opus-4-5", c, usage, true).unit[CHARGE_INPUT],
			 360);
	ck_assert_int_eq(
	    spent("anthropic", "claude-3-5-haiku-20241022", c, usage, true).unit[CHARGE_INPUT],
	    1000);
	ck_assert_int_eq(spent("openai", "gpt-4o", c, usage, true).unit[CHARGE_INPUT], 1000);
}

TEST(a_call_that_was_cut_counts_what_it_might_have_made)
{
	struct charge c = charged("anthropic", 700, 50, 300);

	c = spent("anthropic", "claude-sonnet-4-5", c,
		  (struct usage){.input_tokens = 800, .output_tokens = 20}, false);
	ck_assert_int_eq(c.unit[CHARGE_INPUT], 800);
	ck_assert_int_eq(c.unit[CHARGE_OUTPUT], 300);
	c = spent("anthropic", "claude-sonnet-4-5", c, (struct usage){0}, false);
	ck_assert_int_eq(c.unit[CHARGE_INPUT], 800);
}

TEST(a_whole_answer_whose_usage_was_not_said_counts_what_it_might_have_made)
{
	struct charge c = charged("anthropic", 700, 50, 300);

	c = spent("anthropic", "claude-sonnet-4-5", c, (struct usage){0}, true);
	ck_assert_int_eq(c.unit[CHARGE_INPUT], 700);
	ck_assert_int_eq(c.unit[CHARGE_OUTPUT], 300);
}

TEST(openai_charges_prompt_and_longest_answer_together_and_gives_nothing_back)
{
	struct charge c = charged("openai", 700, 50, 1000);

	ck_assert_int_eq(c.unit[CHARGE_TOKENS], 1700);
	ck_assert_int_eq(charged("openai", 700, 50, 0).unit[CHARGE_TOKENS], 750);
	c = spent("openai", "gpt-4o", c, (struct usage){.input_tokens = 650, .output_tokens = 10},
		  true);
	ck_assert_int_eq(c.unit[CHARGE_TOKENS], 1650);
}

TEST(limits_are_read_from_each_vendors_fields)
{
	static const struct http_field anthropic[] = {
	    {STR("anthropic-ratelimit-requests-limit"), STR("50")},
	    {STR("anthropic-ratelimit-requests-remaining"), STR("49")},
	    {STR("anthropic-ratelimit-input-tokens-remaining"), STR("38000")},
	    {STR("anthropic-ratelimit-output-tokens-limit"), STR("many")},
	    {STR("anthropic-ratelimit-tokens-limit"), STR("46000")},
	    {STR("anthropic-ratelimit-tokens-remaining"), STR("0")},
	};
	static const struct http_field openai[] = {
	    {STR("x-ratelimit-limit-tokens"), STR("800000")},
	    {STR("x-ratelimit-remaining-requests"), STR("4999")},
	};
	struct provider_rates r = rates("anthropic", anthropic, countof(anthropic));

	ck_assert(r.said);
	ck_assert_int_eq(r.limit[CHARGE_REQUESTS], 50);
	ck_assert_int_eq(r.remaining[CHARGE_REQUESTS], 49);
	ck_assert_int_eq(r.remaining[CHARGE_INPUT], 38000);
	ck_assert_int_eq(r.limit[CHARGE_OUTPUT], -1);
	ck_assert_int_eq(r.limit[CHARGE_TOKENS], 46000);
	ck_assert_int_eq(r.remaining[CHARGE_TOKENS], 0);
	r = rates("openai", openai, 2);
	ck_assert_int_eq(r.limit[CHARGE_TOKENS], 800000);
	ck_assert_int_eq(r.remaining[CHARGE_REQUESTS], 4999);
	ck_assert(!rates("openai", anthropic, 4).said);
}

TEST(what_a_refused_call_lacks_is_refilled_in_its_part_of_the_time_until_all_is)
{
	static const struct http_field anthropic[] = {
	    {STR("date"), STR("Sun, 22 Nov 2026 10:15:00 GMT")},
	    {STR("anthropic-ratelimit-input-tokens-limit"), STR("40000")},
	    {STR("anthropic-ratelimit-input-tokens-remaining"), STR("0")},
	    {STR("anthropic-ratelimit-input-tokens-reset"), STR("2026-11-22T10:16:00Z")},
	};
	static const struct http_field openai[] = {
	    {STR("x-ratelimit-limit-requests"), STR("60")},
	    {STR("x-ratelimit-remaining-requests"), STR("0")},
	    {STR("x-ratelimit-reset-requests"), STR("1m0s")},
	    {STR("x-ratelimit-limit-tokens"), STR("1000")},
	    {STR("x-ratelimit-remaining-tokens"), STR("500")},
	    {STR("x-ratelimit-reset-tokens"), STR("30s")},
	};
	struct charge c = charged("anthropic", 10000, 0, 4096);
	struct provider_rates r = rates("anthropic", anthropic, 4);

	ck_assert_int_eq(r.reset_ms[CHARGE_INPUT], 60000);
	ck_assert_int_eq(provider_refill_ms(&r, &c), 15000);
	c.unit[CHARGE_INPUT] = 100000; /* more than it ever holds: all of it */
	ck_assert_int_eq(provider_refill_ms(&r, &c), 60000);
	r = rates("openai", openai, 6);
	c = charged("openai", 100, 0, 800);
	ck_assert_int_eq(provider_refill_ms(&r, &c), 24000);
	c = charged("openai", 100, 0, 100);
	ck_assert_int_eq(provider_refill_ms(&r, &c), 1000);
}

TEST(of_output_that_has_a_limit_of_its_own_some_must_be_left)
{
	static const struct http_field fields[] = {
	    {STR("date"), STR("Sun, 22 Nov 2026 10:15:00 GMT")},
	    {STR("anthropic-ratelimit-output-tokens-limit"), STR("8000")},
	    {STR("anthropic-ratelimit-output-tokens-remaining"), STR("1000")},
	    {STR("anthropic-ratelimit-output-tokens-reset"), STR("2026-11-22T10:16:00Z")},
	};
	struct charge c = charged("anthropic", 100, 0, 4096);
	struct provider_rates r = rates("anthropic", fields, 4);

	ck_assert_int_eq(provider_refill_ms(&r, &c), -1);
}

TEST(a_refill_that_no_clock_or_limit_can_mean_is_not_believed)
{
	static const char *const values[] = {"1763806530", "soon", "-5", "", "999h"};
	struct charge c = charged("openai", 100, 0, 100);
	struct provider_rates r;

	for (size_t i = 0; i < countof(values); i++) {
		struct http_field fields[] = {
		    {STR("x-ratelimit-remaining-requests"), STR("0")},
		    {STR("x-ratelimit-reset-requests"), str_of(values[i])},
		};

		r = rates("openai", fields, 2);
		ck_assert_int_eq(r.reset_ms[CHARGE_REQUESTS], -1);
		ck_assert_int_eq(provider_refill_ms(&r, &c), -1);
	}
	struct http_field past[] = {
	    {STR("date"), STR("Sun, 22 Nov 2026 10:15:00 GMT")},
	    {STR("anthropic-ratelimit-requests-remaining"), STR("0")},
	    {STR("anthropic-ratelimit-requests-reset"), STR("2026-11-22T10:14:00Z")},
	};

	r = rates("anthropic", past, 3);
	ck_assert_int_eq(provider_refill_ms(&r, &c), 0);
}
