#include "consumers/pool/spend.h"
#include "lib/base/mem.h"
#include "tests/unit/test.h"

SUITE("consumers/pool/spend");

static struct account account;
static struct target target;
static struct provider_request request;
static struct charge charge;

static void begin(const char *provider)
{
	account = (struct account){.provider = provider_find(str_of(provider))};
	target = (struct target){.account = &account, .model = "m"};
	request = (struct provider_request){.max_tokens = 16};
}

static void add(size_t count, const char *text)
{
	while (count--)
		buf_add_text(&request.body, text);
}

static void expect(void)
{
	spend_expect(&target, &request, &charge);
	buf_fini(&request.body);
}

TEST(a_long_text_is_reserved_by_its_length_whatever_small_requests_taught)
{
	static const char *const providers[] = {"anthropic", "openai"};

	for (size_t i = 0; i < countof(providers); i++) {
		begin(providers[i]);
		target.input_per_byte = 0.05;
		add(2300, "The quick brown fox jumps over it. ");
		expect();
		ck_assert_int_ge(charge.unit[CHARGE_INPUT], 2300 * 35 / 4);
	}
}

TEST(what_answers_teach_counts_where_it_is_more)
{
	begin("openai");
	target.input_per_byte = 0.5;
	add(1000, "a b ");
	expect();
	ck_assert_int_ge(charge.unit[CHARGE_INPUT], 2000);
}

TEST(a_picture_is_not_reserved_as_a_text_of_its_length)
{
	begin("openai");
	add(1, "{\"url\":\"data:image\\/png;base64,");
	add(250000, "QUFB");
	add(1, "\"}");
	expect();
	ck_assert_int_ge(charge.unit[CHARGE_INPUT], 1600);
	ck_assert_int_lt(charge.unit[CHARGE_INPUT], 10000);
}

TEST(a_text_that_says_it_is_data_is_a_text)
{
	begin("anthropic");
	add(1, "{\"text\":\"{\\\"data\\\":\\\"");
	add(10000, "QUFB");
	add(1, "\\\"}\"}");
	expect();
	ck_assert_int_ge(charge.unit[CHARGE_INPUT], 10000);
}
