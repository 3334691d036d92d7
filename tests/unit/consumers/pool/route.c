#include "consumers/pool/route.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/rand.h"
#include "lib/net/client.h"
#include "lib/net/loop.h"
#include "lib/svc/config.h"
#include "tests/unit/test.h"

SUITE("consumers/pool/route");

static struct loop *loop;
static struct breakers *breakers;
static struct config_account config;
static struct account account;
static struct target targets[4];
static struct route route;
static struct rand chance;
static struct log quiet;
static size_t place;
static uint64_t wait_us;
static unsigned woken, all_woken;

static void on_changed(void *ctx, unsigned news)
{
	(void)ctx;
	woken += (news & BREAKER_NEWS_DUE) != 0;
	all_woken += (news & BREAKER_NEWS_WELL) != 0;
	loop_stop(loop);
}

static void begin(size_t count)
{
	static const char *const models[] = {"m0", "m1", "m2", "m3"};
	struct breakers_request request = {.log = &quiet, .worker = "w", .changed = on_changed};

	loop = loop_new(1);
	request.loop = loop;
	breakers = breakers_new(&request);
	config =
	    (struct config_account){.name = "a", .kind = "openai", .base_url = "u", .key = "k"};
	account =
	    (struct account){.config = &config, .breaker = breakers_find(breakers, &config, NULL)};
	route = (struct route){.count = count};
	for (size_t i = 0; i < countof(targets); i++) {
		targets[i] =
		    (struct target){.account = &account,
				    .model = models[i],
				    .breaker = breakers_find(breakers, &config, models[i])};
		route.targets[i] = &targets[i];
	}
	rand_init(&chance, 1);
	woken = all_woken = 0;
}

static void end(void)
{
	breakers_free(breakers);
	loop_free(loop);
}

static struct target *choose(uint32_t skip)
{
	return route_choose(&route, skip, &chance, &place, &wait_us);
}

static void fail_with(struct target *t, enum fault fault, unsigned times)
{
	for (unsigned i = 0; i < times; i++)
		target_learn(t, fault, -1);
}

TEST(a_target_that_is_well_is_asked_by_everybody)
{
	begin(1);
	for (int i = 0; i < 3; i++) {
		ck_assert_ptr_eq(choose(0), &targets[0]);
		ck_assert(!target_asked(&targets[0]));
	}
	end();
}

TEST(failures_in_a_row_shut_a_target_and_the_next_costs_nothing)
{
	begin(2);
	fail_with(&targets[0], FAULT_PROVIDER_TRANSPORT, 2);
	ck_assert_ptr_eq(choose(0), &targets[0]);
	fail_with(&targets[0], FAULT_PROVIDER_CUT, 1);
	ck_assert_ptr_eq(choose(0), &targets[1]);
	ck_assert_uint_eq(place, 1);
	ck_assert_ptr_null(choose(2));
	ck_assert_uint_gt(wait_us, 0);
	end();
}

TEST(a_good_call_between_them_begins_the_count_anew)
{
	begin(1);
	fail_with(&targets[0], FAULT_PROVIDER_SILENT, 2);
	target_learn(&targets[0], FAULT_NONE, -1);
	fail_with(&targets[0], FAULT_PROVIDER_SILENT, 2);
	ck_assert_ptr_eq(choose(0), &targets[0]);
	end();
}

TEST(one_that_says_until_when_is_shut_at_once_and_for_so_long)
{
	uint64_t from;

	begin(1);
	from = loop_now_us(loop);
	target_learn(&targets[0], FAULT_PROVIDER_RATE, 5000);
	ck_assert_ptr_null(choose(0));
	ck_assert_uint_ge(wait_us + loop_now_us(loop) - from, 5 * US_PER_S);
	ck_assert_uint_lt(wait_us, 6 * US_PER_S);
	end();
}

TEST(a_refused_key_takes_the_account_out_and_nobody_waits_for_it)
{
	begin(2);
	fail_with(&targets[0], FAULT_PROVIDER_AUTH, 1);
	ck_assert_ptr_null(choose(0));
	ck_assert_uint_eq(wait_us, 0);
	ck_assert(breaker_is_out(account.breaker));
	end();
}

TEST(a_refused_model_takes_only_that_model_out)
{
	begin(2);
	fail_with(&targets[0], FAULT_PROVIDER_DENIED, 1);
	ck_assert_ptr_eq(choose(0), &targets[1]);
	ck_assert_ptr_null(choose(2));
	ck_assert_uint_eq(wait_us, 0);
	end();
}

TEST(the_requests_own_fault_says_nothing_of_the_target)
{
	begin(1);
	fail_with(&targets[0], FAULT_PROVIDER_BAD_REQUEST, 10);
	fail_with(&targets[0], FAULT_PROVIDER_TOO_BIG, 10);
	ck_assert_ptr_eq(choose(0), &targets[0]);
	end();
}

TEST(one_call_finds_out_whether_it_is_well_again)
{
	begin(1);
	fail_with(&targets[0], FAULT_PROVIDER_OVERLOADED, 3);
	loop_run(loop); /* until its time is over */
	ck_assert_uint_eq(woken, 1);
	ck_assert_uint_eq(all_woken, 0);
	ck_assert_ptr_eq(choose(0), &targets[0]);
	ck_assert(target_ready(&targets[0]));
	ck_assert(target_asked(&targets[0]));
	ck_assert(!target_ready(&targets[0]));
	ck_assert_ptr_null(choose(0));
	ck_assert_uint_gt(wait_us, 0);
	target_answers(&targets[0], 1000);
	ck_assert_ptr_eq(choose(0), &targets[0]);
	loop_run(loop);
	ck_assert_uint_eq(all_woken, 1);
	end();
}

TEST(a_probe_that_fails_shuts_it_for_longer_and_one_without_a_word_is_none)
{
	uint64_t first;

	begin(1);
	fail_with(&targets[0], FAULT_PROVIDER_TRANSPORT, 3);
	choose(0);
	first = wait_us;
	loop_run(loop);
	ck_assert(target_ready(&targets[0]));
	ck_assert_int_eq(target_asked(&targets[0]), PROBE_TARGET);
	target_left(&targets[0], PROBE_TARGET);
	ck_assert(target_ready(&targets[0]));
	ck_assert(target_asked(&targets[0]));
	fail_with(&targets[0], FAULT_PROVIDER_TRANSPORT, 1);
	ck_assert_ptr_null(choose(0));
	ck_assert_uint_gt(wait_us, first);
	end();
}

TEST(one_whose_time_is_over_waits_for_a_job_and_is_not_kept_for_one_that_does_not_come)
{
	begin(1);
	fail_with(&targets[0], FAULT_PROVIDER_OVERLOADED, 3);
	loop_run(loop);
	ck_assert_int_eq(breaker_state(targets[0].breaker), BREAKER_DUE);
	ck_assert(target_ready(&targets[0]));
	ck_assert_int_eq(breaker_state(targets[0].breaker), BREAKER_HALF_OPEN);
	loop_run(loop); /* nobody asks it: the next may */
	ck_assert_uint_eq(woken, 2);
	ck_assert_int_eq(breaker_state(targets[0].breaker), BREAKER_DUE);
	ck_assert_int_eq(target_asked(&targets[0]), PROBE_NONE);
	target_left(&targets[0], PROBE_NONE);
	end();
}

TEST(a_reload_forgets_no_breaker_and_another_key_is_another_one)
{
	struct config_account other;

	begin(1);
	other = config;
	ck_assert_ptr_eq(breakers_find(breakers, &config, "m0"), targets[0].breaker);
	other.key = "another";
	ck_assert_ptr_ne(breakers_find(breakers, &other, "m0"), targets[0].breaker);
	end();
}

TEST(targets_with_a_weight_are_asked_in_its_proportion)
{
	unsigned asked[3] = {0};

	begin(3);
	route.weights[0] = 6;
	route.weights[1] = 3;
	route.weights[2] = 1;
	for (size_t i = 0; i < 3; i++)
		targets[i].latency_us = 1000;
	for (int i = 0; i < 10000; i++) {
		ck_assert_ptr_nonnull(choose(0));
		asked[place]++;
	}
	ck_assert_uint_gt(asked[0], asked[1]);
	ck_assert_uint_gt(asked[1], asked[2]);
	ck_assert_uint_gt(asked[2], 0);
	end();
}

TEST(of_two_that_are_about_as_quick_the_proportion_stands)
{
	unsigned first = 0;

	begin(2);
	route.weights[0] = 3;
	route.weights[1] = 1;
	targets[0].latency_us = 1100;
	targets[1].latency_us = 1000;
	for (int i = 0; i < 10000; i++)
		first += choose(0) == &targets[0];
	ck_assert_uint_gt(first, 7200);
	ck_assert_uint_lt(first, 7800);
	end();
}

TEST(calls_under_way_spread_by_weight)
{
	begin(2);
	route.weights[0] = 3;
	route.weights[1] = 1;
	targets[0].latency_us = targets[1].latency_us = 1000;
	for (int i = 0; i < 400; i++)
		choose(0)->in_flight++;
	ck_assert_uint_gt(targets[0].in_flight, 260);
	ck_assert_uint_lt(targets[0].in_flight, 340);
	end();
}

TEST(of_two_the_quicker_and_emptier_is_asked)
{
	begin(2);
	route.weights[0] = route.weights[1] = 1;
	targets[0].latency_us = 100000;
	targets[1].latency_us = 20000;
	for (int i = 0; i < 100; i++)
		ck_assert_ptr_eq(choose(0), &targets[1]);
	targets[1].in_flight = 9;
	for (int i = 0; i < 100; i++)
		ck_assert_ptr_eq(choose(0), &targets[0]);
	end();
}

/* Of any skips and shut targets: the choice is one that may be asked, in the first step that has one. */
TEST(the_choice_is_always_the_first_step_that_may_be_asked)
{
	begin(4);
	for (uint32_t round = 0; round < 2000; round++) {
		uint32_t skip = (uint32_t)rand_below(&chance, 16);
		bool weighted = rand_below(&chance, 2);
		struct target *t;

		route.weights[1] = route.weights[2] = weighted ? 1 + round % 5 : 0;
		for (size_t i = 0; i < 4; i++)
			targets[i].latency_us = (double)rand_below(&chance, 5) * 1000;
		t = choose(skip);
		if (skip == 15) {
			ck_assert_ptr_null(t);
			ck_assert_uint_eq(wait_us, 0);
			continue;
		}
		ck_assert_ptr_eq(t, &targets[place]);
		ck_assert(!(skip & (1u << place)));
		for (size_t before = 0; before < place; before++)
			ck_assert((skip & (1u << before)) ||
				  (route.weights[before] && route.weights[place]));
	}
	end();
}

/* ── room ── */

static void on_head(void *ctx, int status, const struct http_field *fields, size_t count)
{
	(void)ctx;
	(void)status;
	(void)fields;
	(void)count;
}

static void on_data(void *ctx, struct str bytes)
{
	(void)ctx;
	(void)bytes;
}

static void on_end(void *ctx, enum client_end end, const char *detail)
{
	(void)ctx;
	(void)end;
	(void)detail;
}

/* A route of a target whose client has one connection, and of one without a client. */
static struct account small;

static void begin_small(void)
{
	struct client_options options = client_defaults();

	begin(2);
	small = account;
	targets[0].account = &small;
	options.base_url = "http://127.0.0.1:1";
	options.http = CLIENT_HTTP_1;
	options.max_connections = 1;
	ck_assert_int_eq(client_open(loop, &options, &quiet, &small.client), 0);
}

static void end_small(void)
{
	client_close(small.client);
	end();
}

TEST(a_target_whose_connections_are_full_is_passed_by_until_a_call_ends)
{
	static const struct client_ops ops = {.head = on_head, .data = on_data, .end = on_end};
	struct client_call *call;

	begin_small();
	ck_assert_ptr_eq(choose(0), &targets[0]);
	call = client_call(small.client, "POST", "/", NULL, 0, STR("{}"), &ops, NULL);
	ck_assert_ptr_eq(choose(0), &targets[1]);
	ck_assert_uint_eq(route_open(&route, 0, false), 3);
	ck_assert_uint_eq(route_open(&route, 0, true), 2);
	ck_assert_ptr_null(choose(2));
	ck_assert_uint_eq(wait_us, ROUTE_FULL_US);
	client_cancel(call);
	ck_assert_ptr_eq(choose(0), &targets[0]);
	end_small();
}

TEST(room_that_is_promised_is_no_room_for_others)
{
	begin_small();
	small.promised = 1;
	ck_assert_ptr_eq(choose(0), &targets[1]);
	small.promised = 0;
	ck_assert_ptr_eq(choose(0), &targets[0]);
	end_small();
}

TEST(a_full_target_that_is_shut_is_not_waited_for_as_full)
{
	begin_small();
	small.promised = 1;
	fail_with(&targets[0], FAULT_PROVIDER_TRANSPORT, 3);
	ck_assert_uint_eq(route_open(&route, 0, false), 2);
	ck_assert_ptr_null(choose(2));
	ck_assert_uint_lt(wait_us, ROUTE_FULL_US);
	end_small();
}
