/* Budgets on simulated time: pools of the product's own reserve, wait and settle through the very budget.lua, calls arrive at a provider that
 * counts for itself in a true sliding minute, and everything fails that can. The fleet's histories (main.c) call for a few jobs; these are
 * about the quota alone, and keep it full. */
#include "tests/world/budget.h"

#include <stdio.h>
#include <string.h>

#include "consumers/pool/budget.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/store/redis.h"
#include "lib/svc/config.h"
#include "schemas/keys.h"
#include "tests/world/world.h"

#define POOLS_MAX 4
#define CALLS_MAX 200
#define MINUTE_US (60 * US_PER_S)
/* What was learned holds for a window; a pool passes on what it hears four times a second. */
#define LEARNED_US (61 * US_PER_S)
#define BUSY_US (150 * US_PER_S)
/* After this everything is well, and everybody gets his turn. */
#define REST_US (1500 * US_PER_S)

struct pool_node {
	char name[32];
	struct loop *loop;
	struct redis *redis;
	struct redis_sub *control;
	struct budgets *budgets;
};

/* One call: asked for by a pool, again by another one where that dies. */
struct call {
	int number;
	enum lane lane;
	int tenant;
	struct charge charge; /* what it may cost */
	struct charge real;
	uint64_t us;		 /* how long it takes */
	struct pool_node *first; /* who has it first; NULL: anybody */
	struct pool_node *node;
	struct loop *loop; /* of the incarnation that has it */
	struct reservation r;
	uint64_t since_us;  /* it waits since then */
	uint64_t passed_us; /* … when another went before it */
	bool counted;	    /* the provider has it */
	bool done;
	int64_t position;
};

/* What arrived at the provider. */
struct arrival {
	uint64_t at_us;
	struct charge charge;
};

static struct {
	struct pool_node pools[POOLS_MAX];
	size_t pool_count;
	struct call calls[CALLS_MAX];
	size_t call_count, done;
	struct arrival arrivals[4 * CALLS_MAX];
	size_t arrival_count;
	struct charge limit;
	/* What the provider says of its limits, from one time to another; before and after that it says its limits, or nothing. */
	struct charge said;
	uint64_t said_from_us, said_to_us;
	bool says_nothing_after;
	/* When a pool first heard of those, and last; then a gap was never as long as what is learned holds. */
	uint64_t heard_from_us, heard_us;
	struct config *config;
	bool calm,
	    faithful; /* no pool died or stood still, Redis remembered; no call is returned */
	uint64_t heal_us;
	struct pool_node *stranger; /* dies soon after its first call begins; NULL: nobody */
} test;

static void call_ask(struct call *c);
static void on_stranger_crash(void *ctx);

/* ── the provider ── */

static bool says_less(void)
{
	return world->now_us >= test.said_from_us && world->now_us < test.said_to_us;
}

/* A pool hears how an answer begins. */
static void on_head(void *ctx)
{
	struct call *c = ctx;
	struct provider_rates rates = {
	    .said = true, .limit = {-1, -1, -1, -1}, .remaining = {-1, -1, -1, -1}};

	if (c->done || c->r.state != RESERVATION_OURS)
		return;
	for (int u = 0; u < CHARGE_UNITS; u++)
		if (says_less())
			rates.limit[u] = test.said.unit[u];
		else if (world->now_us < test.said_from_us || !test.says_nothing_after)
			rates.limit[u] = test.limit.unit[u];
	if (says_less()) {
		if (!test.heard_us || world->now_us > test.heard_us + LEARNED_US)
			test.heard_from_us = world->now_us;
		test.heard_us = world->now_us;
	}
	budget_learn(c->r.budget, &rates);
}

/* Where all pools hear it, nobody asks for more than the provider last said. Output of calls of before is made later. */
static void check_learned(const struct charge *sum)
{
	if (!test.calm || !says_less() || world->now_us > test.heard_us + LEARNED_US ||
	    world->now_us < test.heard_from_us + MINUTE_US + 3 * US_PER_S)
		return;
	for (int u = 0; u < CHARGE_OUTPUT; u++)
		if (test.limit.unit[u] && sum->unit[u] > test.said.unit[u])
			world_violation("%lld %s in a minute, the provider says that it lets %lld",
					(long long)sum->unit[u],
					charge_unit_name((enum charge_unit)u),
					(long long)test.said.unit[u]);
}

static void arrive(const struct charge *charge)
{
	struct charge sum = {0};
	struct arrival *a = &test.arrivals[test.arrival_count++];

	must(test.arrival_count < countof(test.arrivals));
	*a = (struct arrival){world->now_us, *charge};
	for (size_t i = test.arrival_count; i-- > 0;) {
		if (test.arrivals[i].at_us + MINUTE_US <= world->now_us)
			break;
		for (int u = 0; u < CHARGE_UNITS; u++)
			sum.unit[u] += test.arrivals[i].charge.unit[u];
	}
	for (int u = 0; u < CHARGE_UNITS; u++)
		if (test.limit.unit[u] && sum.unit[u] > test.limit.unit[u])
			world_violation("overspent: %lld %s in a minute, the limit is %lld",
					(long long)sum.unit[u],
					charge_unit_name((enum charge_unit)u),
					(long long)test.limit.unit[u]);
	check_learned(&sum);
}

static void on_arrive(void *ctx)
{
	struct call *c = ctx;
	struct charge at_once = c->real;

	at_once.unit[CHARGE_OUTPUT] = 0;
	c->counted = true;
	arrive(&at_once);
	world_in(world_between(100, 50000), c->loop, on_head, c);
}

/* Made by the provider, whoever still listens. */
static void on_output(void *ctx)
{
	struct call *c = ctx;
	struct charge part = {0};

	part.unit[CHARGE_OUTPUT] = c->real.unit[CHARGE_OUTPUT];
	arrive(&part);
}

/* ── calls ── */

static void on_over(void *ctx)
{
	struct call *c = ctx;

	if (c->done || c->r.state != RESERVATION_OURS)
		return;
	budget_settle(&c->r, &c->real);
	c->done = true;
	test.done++;
	world_tell(c->node->name, "call %d is over", c->number);
}

static bool waits_longer(const struct call *than, const struct call *c)
{
	return c->r.state == RESERVATION_WAITING && c->lane < than->lane && c->since_us &&
	       c->since_us + 3 * US_PER_S < than->since_us;
}

/* It was passed by. Granted in the same moment, it hears so a little later. */
static void check_passed(void *ctx)
{
	const struct call *c = ctx;

	if (c->r.state == RESERVATION_WAITING && c->since_us == c->passed_us)
		world_violation("call %d of lane %d waits on, and one of a lower lane went",
				c->number, (int)c->lane);
}

/* Where nothing goes wrong nobody of a better lane who came long before waits on while this one goes. */
static void check_order(const struct call *c)
{
	for (size_t i = 0; test.calm && i < test.call_count; i++) {
		struct call *other = &test.calls[i];

		if (!waits_longer(c, other))
			continue;
		other->passed_us = other->since_us;
		world_in(100000, NULL, check_passed, other);
	}
}

static void begin(struct call *c)
{
	uint64_t way = world_chance(500) ? world_between(0, 1500000) : world_between(100, 100000);

	check_order(c);
	world_tell(c->node->name, "call %d begins", c->number);
	c->since_us = 0;
	if (c->node == test.stranger) {
		test.stranger = NULL;
		world_in(world_between(0, 1) ? world_between(0, 3000) : world_between(0, 3000000),
			 NULL, on_stranger_crash, c->node);
	}
	if (!test.faithful && world_chance(700)) {
		budget_return(&c->r); /* nobody took it */
		world_in(world_between(1000, 2000000), c->loop, (void (*)(void *))call_ask, c);
		return;
	}
	world_in(way, NULL, on_arrive, c);
	world_in(way + c->us, NULL, on_output, c);
	world_in(way + c->us + world_between(100, 50000), c->loop, on_over, c);
}

static void on_heard(void *ctx, enum budget_word word)
{
	struct call *c = ctx;

	switch (word) {
	case BUDGET_OURS:
		begin(c);
		return;
	case BUDGET_MOVED:
		if (c->position && c->r.position > c->position)
			world_violation("the position of call %d rose", c->number);
		c->position = c->r.position;
		return;
	case BUDGET_SHORT:
		world_in(world_between(100000, 2000000), c->loop, (void (*)(void *))call_ask, c);
		return;
	case BUDGET_LATER:
		if (!test.said_to_us)
			world_violation(
			    "call %d is put off, and no provider said less than is configured",
			    c->number);
		world_in(c->r.estimate_ms < 15000 ? (uint64_t)c->r.estimate_ms * US_PER_MS
						  : 15 * US_PER_S,
			 c->loop, (void (*)(void *))call_ask, c);
		return;
	case BUDGET_NEVER:
		world_violation("call %d is never granted", c->number);
		return;
	}
}

static void call_ask(struct call *c)
{
	char tenant[16];
	struct budget_ask ask = {.charge = c->charge,
				 .lane = c->lane,
				 .wait = world_chance(9000),
				 .heard = on_heard,
				 .ctx = c};

	snprintf(tenant, sizeof(tenant), "org_%d", c->tenant);
	ask.tenant = str_of(tenant);
	if (c->r.state != RESERVATION_NONE)
		return;
	c->position = 0;
	if (!c->since_us)
		c->since_us = world->now_us;
	budget_ask(budgets_find(c->node->budgets, "a", "m"), &c->r, &ask);
}

static void call_begin(void *ctx)
{
	struct call *c = ctx;

	c->node = c->first ? c->first : &test.pools[world_between(0, test.pool_count - 1)];
	c->first = NULL;
	c->loop = c->node->loop;
	if (c->loop->dead) {
		world_in(US_PER_S, NULL, call_begin, c);
		return;
	}
	c->r = (struct reservation){0};
	c->since_us = 0;
	call_ask(c);
}

/* ── pools ── */

static void on_epoch(void *ctx, bool first, uint64_t epoch_wall_ms)
{
	struct pool_node *n = ctx;

	(void)first;
	budgets_epoch(n->budgets, epoch_wall_ms);
}

static void on_standing(void *ctx)
{
	(void)ctx;
}

static void on_control(void *ctx, struct str payload)
{
	struct pool_node *n = ctx;
	static const char head[] = "1 budget ";

	if (str_starts(payload, head))
		budgets_heard(n->budgets, (struct str){payload.ptr + sizeof(head) - 1,
						       payload.len - sizeof(head) + 1});
}

static bool is_fresh(void *ctx)
{
	(void)ctx;
	return test.arrival_count == 0;
}

static void pool_begin(struct pool_node *n)
{
	static const struct redis_ops ops = {.epoch = on_epoch};
	static const struct redis_sub_ops control = {on_standing, on_control, NULL};
	struct redis_options options = redis_defaults();
	struct key key = key_control(str_of(n->name));
	struct budgets_request request = {
	    .worker = str_of(n->name), .config = test.config, .fresh = is_fresh};

	n->loop = world_loop(n->name);
	must(redis_open(n->loop, &options, &ops, n, &n->loop->log, &n->redis) == 0);
	n->control = redis_subscribe(n->redis, key_str(&key), &control, n);
	request.loop = n->loop;
	request.redis = n->redis;
	request.log = &n->loop->log;
	n->budgets = budgets_new(&request);
}

static void on_restart(void *ctx)
{
	struct pool_node *n = ctx;

	world_tell(n->name, "starts again");
	pool_begin(n);
}

/* Its calls go on at the provider; who called asks again elsewhere. */
static void crash(struct pool_node *n)
{
	if (n->loop->dead)
		return;
	world_tell(n->name, "crashes");
	world_kill(n->loop);
	for (size_t i = 0; i < test.call_count; i++) {
		struct call *c = &test.calls[i];

		if (c->done || c->loop != n->loop)
			continue;
		c->loop = NULL;
		world_in(world_between(500000, 12000000), NULL, call_begin, c);
	}
	world_in(world_between(200000, 8000000), NULL, on_restart, n);
}

static void on_stranger_crash(void *ctx)
{
	crash(ctx);
}

/* ── faults ── */

static void on_flush(void *ctx)
{
	if (ctx)
		redis_server_away(world_between(1000, 3000000), REDIS_EMPTIED);
	else
		redis_server_flush();
}

/* The first pool, until Redis has forgotten. */
static void on_first_stalls(void *ctx)
{
	uint64_t until_us = (uint64_t)(uintptr_t)ctx;

	if (test.pools[0].loop->dead || until_us <= world->now_us)
		return;
	world_tell(test.pools[0].name, "stalls for %llu ms",
		   (unsigned long long)(until_us - world->now_us) / 1000);
	world_stall(test.pools[0].loop, until_us);
}

static void on_wrong(void *ctx)
{
	struct pool_node *n = &test.pools[world_between(0, test.pool_count - 1)];
	uint64_t us = world_between(1000, 4000000);

	(void)ctx;
	switch (world_between(0, 7)) {
	case 0:
	case 1:
		crash(n);
		return;
	case 2:
		us = world_between(0, 1) ? us : world_between(3000000, 25000000);
		world_tell(n->name, "stalls for %llu ms", (unsigned long long)us / 1000);
		world_stall(n->loop, world->now_us + us);
		return;
	case 3:
		redis_server_away(us, REDIS_KEPT);
		return;
	case 4:
		redis_server_freeze(us);
		return;
	case 5:
		redis_server_flush();
		return;
	case 6:
		redis_server_away(us, world_between(0, 1) ? REDIS_EMPTIED : REDIS_SET_BACK);
		return;
	default:
		redis_server_cut();
		return;
	}
}

static void on_heal(void *ctx)
{
	(void)ctx;
	world->faults = (struct world_faults){0};
}

/* ── a history ── */

static const char *no_env(const char *name)
{
	(void)name;
	return "none";
}

static void configure(void)
{
	struct config_request request = {.env = no_env};
	struct buf text = {0}, errors = {0};
	int64_t requests = (int64_t)world_between(8, 40);

	test.limit.unit[CHARGE_REQUESTS] = requests;
	test.limit.unit[CHARGE_INPUT] = world_between(0, 1) ? requests * 500 : 0;
	test.limit.unit[CHARGE_OUTPUT] = world_between(0, 1) ? requests * 300 : 0;
	buf_printf(&text,
		   "accounts:\n- {name: a, kind: anthropic, base_url: \"http://a\", key_env: N}\n"
		   "quotas:\n- {name: q, accounts: a, requests: %lld, input_tokens: %lld, "
		   "output_tokens: %lld, burst_ms: %llu}\n",
		   (long long)requests, (long long)test.limit.unit[CHARGE_INPUT],
		   (long long)test.limit.unit[CHARGE_OUTPUT],
		   (unsigned long long)(world_between(0, 1) ? 0 : world_between(500, 30000)));
	must(config_parse(&request, "budget", buf_str(&text), &test.config, &errors) == CONFIG_OK);
	buf_fini(&text);
}

/* In a third of the histories the provider says for a while that it grants less. */
static void say_less(void)
{
	if (world_between(0, 2))
		return;
	test.said_from_us = world_between(1000, 30000000);
	test.said_to_us = world_between(test.said_from_us, BUSY_US);
	test.says_nothing_after = world_between(0, 1);
	for (int u = 0; u < CHARGE_UNITS; u++)
		if (test.limit.unit[u])
			test.said.unit[u] =
			    (int64_t)world_between(2, (uint64_t)test.limit.unit[u] - 1);
}

static void add_call(uint64_t at_us, bool exact)
{
	struct call *c = &test.calls[test.call_count];
	int64_t input = (int64_t)world_between(50, 900), output = (int64_t)world_between(20, 600);

	c->number = (int)test.call_count++;
	c->lane = (enum lane)world_between(0, LANE_COUNT - 1);
	c->tenant = (int)world_between(0, 5);
	c->us =
	    world_chance(300) ? world_between(20000000, 100000000) : world_between(100000, 6000000);
	c->real.unit[CHARGE_REQUESTS] = c->charge.unit[CHARGE_REQUESTS] = 1;
	c->charge.unit[CHARGE_INPUT] = input;
	c->charge.unit[CHARGE_OUTPUT] = output;
	c->real.unit[CHARGE_INPUT] =
	    exact ? input : (int64_t)world_between((uint64_t)input / 2, (uint64_t)input);
	c->real.unit[CHARGE_OUTPUT] = exact ? output : (int64_t)world_between(1, (uint64_t)output);
	world_at(at_us, NULL, call_begin, c);
}

static void add_call_of(struct pool_node *first, uint64_t at_us)
{
	test.calls[test.call_count].first = first;
	add_call(at_us, false);
}

/* The largest charge of any call. */
static int64_t largest(int unit)
{
	int64_t most = 0;

	for (size_t i = 0; i < test.call_count; i++)
		if (test.calls[i].charge.unit[unit] > most)
			most = test.calls[i].charge.unit[unit];
	return most;
}

/* What was used in the two minutes in which more was asked for than there is. The best of the lanes may use 0.95 of it, in 62 s; what is
 * left may be less than the next call needs. */
static void check_use(void)
{
	int64_t used[CHARGE_UNITS] = {0};
	double most = 0;

	for (size_t i = 0; i < test.arrival_count; i++)
		for (int u = 0; u < CHARGE_UNITS; u++)
			if (test.arrivals[i].at_us < 2 * MINUTE_US)
				used[u] += test.arrivals[i].charge.unit[u];
	for (int u = 0; u < CHARGE_UNITS; u++) {
		double of = (double)test.limit.unit[u];

		if (of > 0 && ((double)used[u] / 2 + (double)largest(u)) / of > most)
			most = ((double)used[u] / 2 + (double)largest(u)) / of;
	}
	if (most < 0.7)
		world_violation("only %.0f %% of the quota were used", 100 * most);
}

static void check_left(const char *when)
{
	struct key keys[KEY_QUOTA_COUNT];

	key_quota(STR("q"), keys);
	for (size_t i = 1; i < 5; i++)
		if (redis_server_zcount(key_str(&keys[i])))
			world_violation("%s: %zu entries are left in %s", when,
					redis_server_zcount(key_str(&keys[i])), keys[i].text);
}

static void on_nothing(void *ctx, enum budget_word word)
{
	budget_return(ctx);
	(void)word;
}

/* A window later: whatever anybody asks finds the budget whole. */
static void check_whole(void)
{
	static struct reservation r;
	struct budget_ask ask = {
	    .tenant = STR("org"), .wait = true, .heard = on_nothing, .ctx = &r};
	struct key keys[KEY_QUOTA_COUNT];
	struct str sum;

	ask.charge.unit[CHARGE_REQUESTS] = 1;
	budget_ask(budgets_find(test.pools[0].budgets, "a", "m"), &r, &ask);
	for (uint64_t end = world->now_us + 5 * US_PER_S; world->now_us < end && world_step();)
		;
	key_quota(STR("q"), keys);
	sum = redis_server_field(key_str(&keys[0]), "sum");
	if (!str_is(sum, "0 0 0 0"))
		world_violation("the window is over and the budget is not whole: %.*s",
				STR_FMT(sum));
	check_left("a window later");
}

/* Some calls, a pause, and then a pool comes that nobody knew, calls and dies; Redis forgets about then, once or twice; and everybody
 * wants to call. */
static void meet_stranger(void)
{
	int64_t limit = test.limit.unit[CHARGE_REQUESTS];
	static const uint64_t least_us[] = {100000, 3000000, 64000000};
	uint64_t at_us = least_us[world_between(0, 2)] + world_between(0, 30000000);
	uint64_t flush_us = at_us + world_between(0, world_between(0, 1) ? 3000000 : 12000000);
	size_t few = (size_t)world_between(0, 3);
	size_t many = (size_t)world_between((uint64_t)limit / 4, (uint64_t)limit);

	test.stranger = &test.pools[test.pool_count - 1];
	for (size_t i = 0; test.pool_count > 1 && i < few; i++)
		add_call_of(&test.pools[0], world_between(10000, 500000));
	for (size_t i = 0; i < many; i++)
		add_call_of(test.stranger, at_us + world_between(0, 1000000));
	if (test.pool_count > 1 && world_between(0, 1))
		world_at(at_us - (at_us > 12000000 ? 12000000 : at_us / 2), NULL, on_first_stalls,
			 (void *)(uintptr_t)(flush_us + world_between(100000, 5000000)));
	world_at(flush_us, NULL, on_flush, (void *)(uintptr_t)world_between(0, 1));
	if (world_between(0, 1))
		world_at(flush_us + world_between(500000, 20000000), NULL, on_flush,
			 (void *)(uintptr_t)world_between(0, 1));
	for (int64_t i = 0; i < 2 * limit; i++)
		add_call(flush_us + world_between(0, 20000000), false);
}

static void run_to(uint64_t us)
{
	while (world->now_us < us && world_step())
		;
}

/* True where more is asked for at once than there is. */
static bool plan(void)
{
	bool full;
	size_t faults;

	test.calm = world_between(0, 2) == 0;
	test.faithful = test.calm || world_between(0, 1);
	test.pool_count = (size_t)world_between(1, POOLS_MAX);
	for (size_t i = 0; i < test.pool_count; i++) {
		snprintf(test.pools[i].name, sizeof(test.pools[i].name), "pool-%zu", i + 1);
		pool_begin(&test.pools[i]);
	}
	full = world_between(0, 2) > 0;
	test.heal_us = BUSY_US;
	world->faults.publish_lost = test.calm ? 0 : (unsigned)world_between(0, 3000);
	world->faults.redis_cut = test.calm ? 0 : (unsigned)world_between(0, 200);
	faults = test.calm ? 0 : (size_t)world_between(1, 8);
	world_at(test.heal_us, NULL, on_heal, NULL);
	if (!test.calm && world_between(0, 2) == 0) {
		meet_stranger();
		return true;
	}
	for (size_t i = 0; i < faults; i++)
		world_at(world_between(5000000, test.heal_us), NULL, on_wrong, NULL);
	for (size_t i = 0; i < (size_t)test.limit.unit[CHARGE_REQUESTS] * (full ? 4 : 2); i++)
		add_call(full ? world_between(10000, 20000000) : world_between(10000, BUSY_US),
			 test.calm);
	return full;
}

void budget_history(uint64_t seed, bool story)
{
	bool full;

	world_begin(seed, story);
	redis_server_begin();
	memset(&test, 0, sizeof(test));
	configure();
	say_less();
	full = plan();
	run_to(BUSY_US);
	if (test.calm && full && !test.said_to_us)
		check_use();
	while (test.done < test.call_count && world->now_us < BUSY_US + REST_US)
		run_to(world->now_us + 5 * US_PER_S);
	if (test.done < test.call_count)
		world_violation("%zu of %zu calls never had their turn",
				test.call_count - test.done, test.call_count);
	run_to(world->now_us + 5 * US_PER_S);
	if (test.calm)
		check_left("all calls are over");
	run_to(world->now_us + 70 * US_PER_S);
	check_whole();
}
