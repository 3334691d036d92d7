/* Budgets against a real Redis: two pools of one quota, what each lane may use, the line, and a Redis that forgets. The rolling
 * window itself is the world's (tests/world/budget.c): here nobody waits a minute. */
#include "consumers/pool/budget.h"
#include "lib/base/buf.h"
#include "lib/base/mem.h"
#include "lib/store/redis.h"
#include "lib/svc/config.h"
#include "schemas/keys.h"
#include "tests/integration/store_parts.h"

#define POOLS 4
#define CALLS 2400

struct pool_side {
	char name[16];
	struct redis *redis;
	struct redis_sub *control;
	struct budgets *budgets;
};

struct call {
	struct reservation r;
	int ours;
	int never;
	int later;
	int short_of;
	int64_t position;
	bool rose;
};

struct test {
	struct parts p;
	struct pool_side pools[POOLS];
	struct config *config;
	struct call calls[CALLS];
	size_t count;
	int ours; /* of all calls */
	int waiting;
	int replies;
	char text[65536];
};

static struct test test;

static void server_start(struct test *t)
{
	char port[16];
	char *argv[] = {"redis-server", "--port",     port,	 "--dir", t->p.dir,
			"--bind",	"127.0.0.1",  "--save",	 "",	  "--appendonly",
			"no",		"--loglevel", "warning", NULL};

	snprintf(port, sizeof(port), "%u", t->p.port);
	t->p.pid = start(argv);
}

static void on_epoch(void *ctx, bool first, uint64_t wall_ms)
{
	struct pool_side *s = ctx;

	(void)first;
	if (s->budgets)
		budgets_epoch(s->budgets, wall_ms);
}

static void on_standing(void *ctx)
{
	(void)ctx;
}

static void on_control(void *ctx, struct str payload)
{
	struct pool_side *s = ctx;

	budgets_heard(s->budgets, (struct str){payload.ptr + 9, payload.len - 9});
}

static bool is_fresh(void *ctx)
{
	(void)ctx;
	return true; /* the server is this test's own */
}

static void side_open(struct test *t, struct pool_side *s, size_t n)
{
	static const struct redis_ops ops = {.epoch = on_epoch};
	static const struct redis_sub_ops control = {on_standing, on_control, NULL};
	struct redis_options o = redis_defaults();
	struct budgets_request request = {
	    .loop = t->p.loop, .config = t->config, .log = &t->p.log, .fresh = is_fresh};
	char url[64];
	struct key key;

	snprintf(s->name, sizeof(s->name), "pool-%u", (unsigned)n % 10);
	snprintf(url, sizeof(url), "redis://127.0.0.1:%u", t->p.port);
	o.url = url;
	if (redis_open(t->p.loop, &o, &ops, s, &t->p.log, &s->redis) < 0)
		exit(2);
	key = key_control(str_of(s->name));
	s->control = redis_subscribe(s->redis, key_str(&key), &control, s);
	request.redis = s->redis;
	request.worker = str_of(s->name);
	s->budgets = budgets_new(&request);
}

static void side_close(struct pool_side *s)
{
	budgets_free(s->budgets);
	redis_unsubscribe(s->control);
	redis_close(s->redis);
	*s = (struct pool_side){0};
}

static void on_heard(void *ctx, enum budget_word word)
{
	struct call *c = ctx;

	switch (word) {
	case BUDGET_OURS:
		c->ours++;
		test.ours++;
		return;
	case BUDGET_MOVED:
		if (!c->position)
			test.waiting++;
		if (c->position && c->r.position > c->position)
			c->rose = true;
		c->position = c->r.position;
		return;
	case BUDGET_SHORT:
		c->short_of++;
		return;
	case BUDGET_NEVER:
		c->never++;
		return;
	case BUDGET_LATER:
		c->later++;
		return;
	}
}

static struct call *call_on(struct pool_side *s, const char *account, enum lane lane, int64_t input,
			    bool wait)
{
	struct call *c = &test.calls[test.count++];
	struct budget_ask ask = {.charge = {.unit = {1, input, 0, input}},
				 .lane = lane,
				 .tenant = STR("org"),
				 .wait = wait,
				 .heard = on_heard,
				 .ctx = c};

	budget_ask(budgets_find(s->budgets, account, "m"), &c->r, &ask);
	return c;
}

static void begin_anew(void)
{
	for (size_t i = 0; i < test.count; i++)
		budget_return(&test.calls[i].r);
	memset(test.calls, 0, sizeof(test.calls));
	test.count = 0;
	test.ours = test.waiting = 0;
}

static void on_reply(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct test *t = ctx;

	t->replies++;
	t->text[0] = '\0';
	if (result == REDIS_OK)
		snprintf(t->text, sizeof(t->text), "%.*s", STR_FMT(value->str));
}

static void ask_redis(const char *one, const char *two)
{
	struct str args[] = {str_of(one), str_of(two)};
	int want = test.replies + 1;

	redis_command(test.pools[0].redis, STR(""), args, *two ? 2 : 1, on_reply, &test);
	turn_until(&test.p, &test.replies, want, 5000);
}

static long scripts_run(void)
{
	const char *at;

	ask_redis("INFO", "commandstats");
	at = strstr(test.text, "cmdstat_evalsha:calls=");
	return at ? atol(at + 22) : 0;
}

static void turn_for(uint64_t ms)
{
	static const int never;

	turn_until(&test.p, &never, 1, ms);
}

/* ── claims ── */

static void shares(void)
{
	struct pool_side *a = &test.pools[0], *b = &test.pools[1];
	struct call *never, *high, *asked;

	for (int i = 0; i < 6; i++)
		call_on(i % 2 ? a : b, "one", LANE_BACKGROUND, 150, true);
	claim(&test.p,
	      turn_until(&test.p, &test.ours, 5, 8000) &&
		  turn_until(&test.p, &test.waiting, 1, 5000),
	      "the background lane has 0.80 of the limit, both pools together");
	turn_for(300);
	claim(&test.p, test.ours == 5, "and no more");
	high = call_on(a, "one", LANE_HIGH, 100, true);
	claim(&test.p, turn_until(&test.p, &high->ours, 1, 5000), "the high lane has more");
	asked = call_on(b, "one", LANE_INTERACTIVE, 200, false);
	claim(&test.p, turn_until(&test.p, &asked->short_of, 1, 5000),
	      "who does not want to wait hears that it is short");
	never = call_on(b, "one", LANE_INTERACTIVE, 951, true);
	claim(&test.p, turn_until(&test.p, &never->never, 1, 5000),
	      "what is above the lane's whole share is never granted");
	begin_anew();
}

static void one_at_a_time(void)
{
	struct pool_side *a = &test.pools[0], *b = &test.pools[1];
	struct call *only = call_on(a, "single", LANE_BACKGROUND, 10, true), *next;

	claim(&test.p, turn_until(&test.p, &only->ours, 1, 8000) && !only->never,
	      "of a limit of 1 each lane's share is 1");
	test.waiting = 0; /* the first one may have stood in the line as well */
	next = call_on(b, "single", LANE_INTERACTIVE, 10, true);
	turn_until(&test.p, &test.waiting, 1, 12000);
	turn_for(300);
	claim(&test.p, !next->ours && !next->never && next->position == 1, "and no more than one");
	begin_anew();
}

static void order(void)
{
	struct pool_side *a = &test.pools[0], *b = &test.pools[1];
	struct call *full = call_on(a, "one", LANE_INTERACTIVE, 950, true), *low, *first, *later;

	turn_until(&test.p, &full->ours, 1, 8000);
	test.waiting = 0; /* it may have stood in the line as well */
	low = call_on(a, "one", LANE_BACKGROUND, 600, true);
	turn_until(&test.p, &test.waiting, 1, 5000);
	first = call_on(b, "one", LANE_INTERACTIVE, 600, true);
	turn_until(&test.p, &test.waiting, 2, 5000);
	later = call_on(a, "one", LANE_INTERACTIVE, 100, true);
	turn_until(&test.p, &test.waiting, 3, 5000);
	claim(&test.p, first->position == 1 && later->position == 2,
	      "a better lane stands before one that came first; in a lane who came first is first");
	budget_return(&full->r);
	claim(&test.p,
	      turn_until(&test.p, &first->ours, 1, 5000) &&
		  turn_until(&test.p, &later->ours, 1, 5000),
	      "what was never processed is given back at once to the head of the line, in another "
	      "pool too");
	turn_for(300);
	claim(&test.p, !low->ours && low->position == 1 && !low->rose,
	      "and the background lane waits on, as the head now");
	begin_anew();
}

static void settled(void)
{
	struct pool_side *a = &test.pools[0];
	struct charge real = {.unit = {1, 100, 0, 100}};
	struct call *c = call_on(a, "one", LANE_INTERACTIVE, 900, true), *next;

	turn_until(&test.p, &c->ours, 1, 8000);
	next = call_on(a, "one", LANE_INTERACTIVE, 800, true);
	turn_until(&test.p, &test.waiting, 1, 5000);
	budget_settle(&c->r, &real);
	claim(&test.p, turn_until(&test.p, &next->ours, 1, 5000),
	      "what a call did not use is there for the next one");
	budget_return(&next->r);
	begin_anew();
}

/* The provider says a limit below the configured one; a window later (of the server's clock, which stands in the record) nobody has
 * said it again. */
static void learned(void)
{
	static const char age[] =
	    "local at = redis.call('HGET', KEYS[1], 'low_at') "
	    "redis.call('HSET', KEYS[1], 'low_at', (string.gsub(at, '%d+', function(x) "
	    "return string.format('%.0f', math.max(0, tonumber(x) - 62000)) end))) return 'aged'";
	struct pool_side *a = &test.pools[0];
	struct budget *b = budgets_find(a->budgets, "learned", "m");
	struct provider_rates rates = {
	    .said = true, .limit = {-1, -1, -1, 200}, .remaining = {-1, -1, -1, -1}};
	struct provider_rates none = {
	    .said = true, .limit = {-1, -1, -1, 0}, .remaining = {-1, -1, -1, 0}};
	struct key keys[KEY_QUOTA_COUNT];
	struct call *small, *large, *again;

	budget_learn(b, &none);
	small = call_on(a, "learned", LANE_INTERACTIVE, 350, true);
	claim(&test.p, turn_until(&test.p, &small->ours, 1, 8000),
	      "a limit of 0 is none, and leaves what there was");
	budget_return(&small->r);
	turn_for(300);
	budget_learn(b, &rates);
	small = call_on(a, "learned", LANE_INTERACTIVE, 100, true);
	large = call_on(a, "learned", LANE_INTERACTIVE, 350, true);
	claim(&test.p,
	      turn_until(&test.p, &large->later, 1, 8000) &&
		  turn_until(&test.p, &small->ours, 1, 5000) && !large->never,
	      "what is above a limit that was learned is not refused for good, and does not hold "
	      "up others");
	claim(&test.p, large->r.estimate_ms > 50000 && large->r.estimate_ms <= 62000,
	      "it hears when that limit ages");
	budget_return(&small->r);
	key_quota(STR("q3"), keys);
	struct str args[] = {STR("EVAL"), str_of(age), STR("1"), key_str(&keys[0])};
	int want = test.replies + 1;

	redis_command(a->redis, STR(""), args, 4, on_reply, &test);
	turn_until(&test.p, &test.replies, want, 5000);
	again = call_on(a, "learned", LANE_INTERACTIVE, 350, true);
	claim(&test.p, turn_until(&test.p, &again->ours, 1, 5000),
	      "a limit that nobody said again for a window doubles");
	budget_return(&again->r);
	again = call_on(a, "learned", LANE_INTERACTIVE, 951, true);
	claim(&test.p, turn_until(&test.p, &again->never, 1, 5000),
	      "never above the configured one");
	begin_anew();
}

static void forgotten(void)
{
	struct pool_side *a = &test.pools[0], *b = &test.pools[1];
	struct call *open, *kept;

	/* 100 are spent already */
	open = call_on(a, "one", LANE_INTERACTIVE, 500, true);
	turn_until(&test.p, &open->ours, 1, 8000);
	turn_for(3500); /* the pools have heard of each other */
	ask_redis("FLUSHALL", "");
	kept = call_on(b, "one", LANE_INTERACTIVE, 400, true);
	turn_until(&test.p, &test.waiting, 1, 8000);
	turn_for(4000);
	claim(&test.p, !kept->ours,
	      "a Redis that was emptied is told again what was reserved and spent");
	budget_return(&open->r);
	claim(&test.p, turn_until(&test.p, &kept->ours, 1, 8000),
	      "and a reservation of before can be given back");
	begin_anew();
	turn_for(500);
	side_close(b);
	ask_redis("FLUSHALL", "");
	side_open(&test, b, 1);
	kept = call_on(a, "one", LANE_INTERACTIVE, 1, true);
	turn_for(5000);
	claim(
	    &test.p, !kept->ours,
	    "where a pool died with its memory the budget stays shut: it may have spent it whole");
	begin_anew();
}

static void line_of_2000(void)
{
	long before, scripts;

	for (int i = 0; i < 40; i++)
		call_on(&test.pools[i % POOLS], "other", LANE_INTERACTIVE, 23, true);
	claim(&test.p, turn_until(&test.p, &test.ours, 40, 15000), "a budget is used to its share");
	for (int i = 0; i < 2000; i++)
		call_on(&test.pools[i % POOLS], "other", LANE_INTERACTIVE, 400, true);
	claim(&test.p, turn_until(&test.p, &test.waiting, 2000, 30000), "2,000 calls wait");
	turn_for(1000);
	before = scripts_run();
	turn_for(5000);
	scripts = scripts_run() - before;
	printf("       %ld scripts in 5 s for 2,000 that wait in four pools\n", scripts);
	claim(&test.p, scripts > 0 && scripts < 150,
	      "and cost Redis less than 30 scripts a second");
}

static void on_left(void *ctx)
{
	*(int *)ctx = 1;
}

static void newcomers(void)
{
	struct pool_side *a = &test.pools[0], *b = &test.pools[1], *c = &test.pools[2];
	struct call *call;
	int left = 0;

	begin_anew();
	call = call_on(a, "late", LANE_INTERACTIVE, 1, true);
	turn_until(&test.p, &call->ours, 1, 8000);
	call = call_on(b, "late", LANE_INTERACTIVE, 1, true);
	claim(
	    &test.p, turn_until(&test.p, &call->ours, 1, 2000),
	    "a pool that comes to a quota is granted what it asks for when the others heard of it");
	begin_anew();
	budgets_leave(b->budgets, on_left, &left);
	turn_until(&test.p, &left, 1, 2000);
	call = call_on(c, "late", LANE_INTERACTIVE, 1, true);
	claim(&test.p, turn_until(&test.p, &call->ours, 1, 2000),
	      "one that took leave is not waited for");
	begin_anew();
	turn_for(100);
	side_close(c);
	call = call_on(&test.pools[3], "late", LANE_INTERACTIVE, 1, true);
	turn_for(2000);
	claim(&test.p, !call->ours, "one that may live is waited for");
	claim(&test.p, turn_until(&test.p, &call->ours, 1, 15000), "until its lease is over");
	begin_anew();
}

static const char *no_env(const char *name)
{
	(void)name;
	return "none";
}

int main(void)
{
	static const char text[] =
	    "accounts:\n- {name: one, kind: openai, base_url: \"http://a\", key_env: N}\n"
	    "- {name: other, kind: openai, base_url: \"http://a\", key_env: N}\n"
	    "- {name: learned, kind: openai, base_url: \"http://a\", key_env: N}\n"
	    "- {name: late, kind: openai, base_url: \"http://a\", key_env: N}\n"
	    "- {name: single, kind: openai, base_url: \"http://a\", key_env: N}\n"
	    "quotas:\n- {name: q1, accounts: one, tokens: 1000}\n"
	    "- {name: q2, accounts: other, requests: 5000, input_tokens: 1000}\n"
	    "- {name: q3, accounts: learned, tokens: 1000}\n"
	    "- {name: q4, accounts: late, tokens: 1000}\n"
	    "- {name: q5, accounts: single, requests: 1}\n";
	struct config_request request = {.env = no_env};
	struct buf errors = {0};

	parts_init(&test.p);
	if (config_parse(&request, "test", str_of(text), &test.config, &errors) != CONFIG_OK) {
		fprintf(stderr, "%s", buf_text(&errors));
		return 2;
	}
	test.p.port = free_port();
	server_start(&test);
	for (size_t i = 0; i < POOLS; i++)
		side_open(&test, &test.pools[i], i);
	shares();
	one_at_a_time();
	order();
	settled();
	learned();
	forgotten();
	line_of_2000();
	newcomers();
	for (size_t i = 0; i < POOLS; i++)
		side_close(&test.pools[i]);
	config_free(test.config);
	return parts_end(&test.p);
}
