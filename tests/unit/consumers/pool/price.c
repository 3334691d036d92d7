#include "consumers/pool/work.h"
#include "lib/svc/config.h"
#include "tests/unit/test.h"

SUITE("consumers/pool/price");

/* 3 USD per million tokens in, 15 out; read 0.3, written 3.75 and 6; dearer from the 1000th millisecond on. */
static struct config_price prices[] = {
    {"anthropic", "m", 0, 3000000, 15000000, 300000, 3750000, 6000000, 1},
    {"anthropic", "m", 1000, 6000000, 30000000, 600000, 7500000, 12000000, 2},
};
static const struct config config = {.prices = prices, .price_count = 2};

static int64_t price(struct usage usage, uint64_t at_ms)
{
	return price_of(&config, "anthropic", "m", &usage, at_ms);
}

TEST(each_kind_of_token_has_its_price)
{
	ck_assert_int_eq(price((struct usage){.input_tokens = 1000000}, 0), 3000000);
	ck_assert_int_eq(price((struct usage){.output_tokens = 1000000}, 0), 15000000);
	ck_assert_int_eq(
	    price((struct usage){.input_tokens = 1000000, .cached_input_tokens = 1000000}, 0),
	    300000);
	ck_assert_int_eq(
	    price((struct usage){.input_tokens = 1000000, .cache_write_tokens = 1000000}, 0),
	    3750000);
	ck_assert_int_eq(price((struct usage){.input_tokens = 1000000,
					      .cache_write_tokens = 1000000,
					      .cache_write_1h_tokens = 400000},
			       0),
			 600000 * 15 / 4 + 400000 * 6);
	ck_assert_int_eq(price((struct usage){.input_tokens = 100,
					      .cached_input_tokens = 60,
					      .cache_write_tokens = 30,
					      .output_tokens = 10},
			       0),
			 (10 * 3000 + 60 * 300 + 30 * 3750 + 10 * 15000 + 999) / 1000);
}

TEST(a_part_of_a_micro_dollar_is_a_whole_one)
{
	ck_assert_int_eq(price((struct usage){.input_tokens = 1, .cached_input_tokens = 1}, 0), 1);
	ck_assert_int_eq(price((struct usage){.input_tokens = 0}, 0), 0);
}

TEST(the_price_is_that_of_the_day_on_which_the_call_began)
{
	struct usage usage = {.input_tokens = 1000};

	ck_assert_int_eq(price(usage, 999), 3000);
	ck_assert_int_eq(price(usage, 1000), 6000);
	ck_assert_int_eq(price(usage, 5000), 6000);
}

TEST(no_usage_makes_a_cost_that_overflows_or_is_negative)
{
	static struct config_price dear[] = {
	    {"anthropic", "m", 0, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, 1}};
	static const struct config dears = {.prices = dear, .price_count = 1};
	struct usage most = {.input_tokens = PROVIDER_TOKENS_MAX * INT64_C(3),
			     .cached_input_tokens = PROVIDER_TOKENS_MAX,
			     .cache_write_tokens = PROVIDER_TOKENS_MAX,
			     .cache_write_1h_tokens = PROVIDER_TOKENS_MAX,
			     .output_tokens = PROVIDER_TOKENS_MAX};

	ck_assert_int_eq(price_of(&dears, "anthropic", "m", &most, 0), INT64_C(1000000000000000));
	ck_assert_int_eq(price((struct usage){.cache_write_1h_tokens = 1000000}, 0), 0);
}

TEST(what_has_no_price_costs_nothing)
{
	struct usage usage = {.input_tokens = 1000};

	ck_assert_int_eq(price_of(&config, "anthropic", "other", &usage, 0), 0);
	ck_assert_int_eq(price_of(&config, "openai", "m", &usage, 0), 0);
}
