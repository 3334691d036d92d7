/* Breakers against a real Redis: what one pool learns of an account, and what another one knows of it then. */
#include "consumers/pool/breaker.h"
#include "lib/store/redis.h"
#include "lib/svc/config.h"
#include "schemas/keys.h"
#include "tests/integration/store_parts.h"

#define PROBE_MS 600

struct side {
	struct redis *redis;
	struct breakers *breakers;
	struct breaker *breaker;
};

static struct parts p;
static struct side sides[3];
static struct config_account account = {.name = "a", .kind = "openai", .base_url = "u", .key = "k"};
static int replies;
static int64_t reply;

static void server_start(void)
{
	char port[16];
	char *argv[] = {"redis-server", "--port",     port,	 "--dir", p.dir,
			"--bind",	"127.0.0.1",  "--save",	 "",	  "--appendonly",
			"no",		"--loglevel", "warning", NULL};

	snprintf(port, sizeof(port), "%u", p.port);
	p.pid = start(argv);
}

static void on_changed(void *ctx, unsigned news)
{
	(void)ctx;
	(void)news;
}

static void side_open(struct side *s, const char *worker)
{
	static const struct redis_ops ops = {0};
	struct redis_options o = redis_defaults();
	struct breakers_request request = {.loop = p.loop,
					   .log = &p.log,
					   .worker = worker,
					   .changed = on_changed,
					   .probe_ms = PROBE_MS};
	char url[64];

	snprintf(url, sizeof(url), "redis://127.0.0.1:%u", p.port);
	o.url = url;
	if (redis_open(p.loop, &o, &ops, s, &p.log, &s->redis) < 0)
		exit(2);
	request.redis = s->redis;
	s->breakers = breakers_new(&request);
	s->breaker = breakers_find(s->breakers, &account, NULL);
}

static void side_close(struct side *s)
{
	breakers_free(s->breakers);
	redis_close(s->redis);
}

static void on_reply(void *ctx, enum redis_result result, const struct redis_value *value)
{
	(void)ctx;
	replies++;
	reply = result == REDIS_OK ? value->integer : -3;
}

static void on_keys(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct str key = result == REDIS_OK ? redis_item_str(value, 0) : STR("");

	snprintf(ctx, 128, "%.*s", STR_FMT(key));
	replies++;
}

/* Until some breaker stands in Redis: ms that its key lives on, -1 where that is for ever. */
static int64_t record_lives_ms(void)
{
	char name[128] = "";
	struct str keys[] = {STR("KEYS"), STR("*brk*")};
	uint64_t end = loop_fresh_us(p.loop) + 8 * US_PER_S;

	while (!name[0] && loop_fresh_us(p.loop) < end) {
		int want = replies + 1;

		redis_command(sides[0].redis, STR(""), keys, 2, on_keys, name);
		turn_until(&p, &replies, want, 3000);
	}
	struct str ttl[] = {STR("PTTL"), str_of(name)};
	int want = replies + 1;

	redis_command(sides[0].redis, STR(""), ttl, 2, on_reply, NULL);
	turn_until(&p, &replies, want, 3000);
	return reply;
}

static void opened_first(void)
{
	breaker_learn(sides[0].breaker, BREAKER_NOT_NOW, 20000);
	claim(&p, record_lives_ms() > 0,
	      "a breaker that is opened for the first time has an end in "
	      "Redis");
}

static bool out_within_ms(const struct side *s, uint64_t ms)
{
	static const int never;
	uint64_t end = loop_fresh_us(p.loop) + ms * US_PER_MS;

	while (!breaker_is_out(s->breaker) && loop_fresh_us(p.loop) < end)
		turn_until(&p, &never, 1, 10);
	return breaker_is_out(s->breaker);
}

static void refused(void)
{
	side_open(&sides[1], "pool-2");
	claim(&p, !out_within_ms(&sides[1], 500), "an account that is shut for a while is not out");
	breaker_learn(sides[0].breaker, BREAKER_OUT, -1);
	claim(&p, out_within_ms(&sides[1], 5000),
	      "an account whose key was refused to one pool is out for another one");
	side_open(&sides[2], "pool-3");
	claim(&p, out_within_ms(&sides[2], 5000), "and for one that comes later");
}

static bool stands_within_ms(const struct side *s, enum breaker_state state, uint64_t ms)
{
	static const int never;
	uint64_t end = loop_fresh_us(p.loop) + ms * US_PER_MS;

	while (breaker_state(s->breaker) != state && loop_fresh_us(p.loop) < end)
		turn_until(&p, &never, 1, 10);
	return breaker_state(s->breaker) == state;
}

/* A breaker of both that is shut for @ms, by the first. */
static void shut_for(const char *key, int64_t ms)
{
	account.name = account.key = key;
	for (size_t i = 0; i < 2; i++)
		sides[i].breaker = breakers_find(sides[i].breakers, &account, NULL);
	breaker_learn(sides[0].breaker, BREAKER_NOT_NOW, ms);
	claim(&p, stands_within_ms(&sides[1], BREAKER_OPEN, 5000),
	      "what one heard is shut for two");
	claim(&p,
	      stands_within_ms(&sides[0], BREAKER_DUE, 5000) &&
		  stands_within_ms(&sides[1], BREAKER_DUE, 5000),
	      "and due in both when its time is over");
}

/* A job is at hand. */
static bool gets_lease_within_ms(struct side *s, uint64_t ms)
{
	static const int never;
	uint64_t end = loop_fresh_us(p.loop) + ms * US_PER_MS;

	while (!breaker_ready(s->breaker) && loop_fresh_us(p.loop) < end)
		turn_until(&p, &never, 1, 2);
	return breaker_ready(s->breaker);
}

/* None of it has a lease, so that whoever has a job is the probe at once. */
static void idle(void)
{
	shut_for("idle", 300);
	claim(&p, !stands_within_ms(&sides[0], BREAKER_HALF_OPEN, PROBE_MS),
	      "who has no job does not ask for the lease");
	claim(&p, gets_lease_within_ms(&sides[1], PROBE_MS / 2), "who has one gets it at once");
	claim(&p, !gets_lease_within_ms(&sides[0], 50), "and it is his alone");
	claim(&p, stands_within_ms(&sides[1], BREAKER_DUE, 5000),
	      "whose job does not ask after all gives it back");
	claim(&p, stands_within_ms(&sides[0], BREAKER_DUE, PROBE_MS / 4),
	      "of which the other one hears");
	claim(&p, gets_lease_within_ms(&sides[0], PROBE_MS / 4) && breaker_asked(sides[0].breaker),
	      "and is the probe");
	claim(&p, !gets_lease_within_ms(&sides[1], 50), "without which nobody asks");
	breaker_drop(sides[0].breaker);
	claim(&p, gets_lease_within_ms(&sides[1], PROBE_MS / 2),
	      "a probe that ends without a word is given back as well");
	claim(&p, breaker_asked(sides[1].breaker), "and made by the other one");
	breaker_answers(sides[1].breaker);
	claim(&p, stands_within_ms(&sides[0], BREAKER_CLOSED, 5000), "which both believe");
}

/* A call to another account: its probe takes longer than the lease. */
static void slow_probe(void)
{
	struct side *first = &sides[0], *other = &sides[1];

	shut_for("slow", 300);
	claim(&p, gets_lease_within_ms(first, 5000) && breaker_asked(first->breaker),
	      "one of them has the lease, and begins its probe");
	claim(&p,
	      !gets_lease_within_ms(other, 4 * PROBE_MS) &&
		  breaker_state(first->breaker) == BREAKER_PROBING,
	      "which is the only one as long as it runs");
	side_close(first);
	*first = (struct side){0};
	claim(&p, gets_lease_within_ms(other, 10 * PROBE_MS),
	      "where its process is gone another one may");
}

int main(void)
{
	parts_init(&p);
	p.port = free_port();
	server_start();
	side_open(&sides[0], "pool-1");
	opened_first();
	refused();
	idle();
	slow_probe();
	for (size_t i = 0; i < countof(sides); i++)
		if (sides[i].breakers)
			side_close(&sides[i]);
	return parts_end(&p);
}
