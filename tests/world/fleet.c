/* Nodes: opening, crashes, stalls, drains, restarts; and the schedule of faults that the seed draws. */
#include "tests/world/fleet.h"

#include <stdio.h>
#include <string.h>

#include "consumers/archive/archive.h"
#include "consumers/pool/pool.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/lane/lane.h"
#include "lib/relay/follow.h"
#include "lib/store/blob.h"
#include "lib/store/pg.h"
#include "lib/store/redis.h"
#include "lib/svc/config.h"
#include "producer/submit.h"
#include "scheduler/later.h"
#include "scheduler/scheduler.h"
#include "tests/world/server.h"

struct fleet fleet;

static struct config *config, *plain, *limited;
static struct config *rotated[2]; /* plain and limited with other keys */
static struct pool_options pool_options;
static struct archive_options archive_options;
static struct scheduler_options scheduler_options;

static const char config_text[] =
    "accounts:\n"
    "- {name: a, kind: anthropic, base_url: \"http://a\", key_env: NONE, headers_ms: 3s, "
    "first_token_ms: 4s, silence_ms: 3s, whole_ms: 30s}\n"
    "- {name: b, kind: openai, base_url: \"http://b\", key_env: NONE, headers_ms: 3s, "
    "first_token_ms: 4s, silence_ms: 3s, whole_ms: 30s}\n"
    "- {name: c, kind: openai, base_url: \"http://c\", key_env: NONE, headers_ms: 3s, "
    "first_token_ms: 4s, silence_ms: 3s, whole_ms: 30s, prefix: vllm}\n"
    "routes:\n"
    "- {name: both, kind: task, hedge_ms: 400ms, targets: [{account: a, model: m1}, {account: b, "
    "model: m2}, "
    "{account: c, model: m3}]}\n"
    "- {name: one, kind: task, targets: [{account: a, model: m1}]}\n"
    "prices:\n"
    "- {provider: anthropic, model: m1, input: \"3\", output: \"15\"}\n"
    "- {provider: openai, model: m2, input: \"1\", output: \"4\"}\n"
    "- {provider: openai, model: m3, input: \"2\", output: \"7\"}\n";

/* In half of the histories keys are rotated so often. */
#define ROTATION_US (7 * US_PER_S)

/* In some histories: little enough that jobs wait for it. */
#define QUOTA_A 12
#define QUOTA_B 9
#define QUOTA_TEXT_(n) #n
#define QUOTA_TEXT(n) QUOTA_TEXT_(n)
static const char quotas_text[] =
    "quotas:\n"
    "- {name: qa, accounts: a, requests: " QUOTA_TEXT(
	QUOTA_A) ", input_tokens: 4000, "
		 "output_tokens: 60000}\n"
		 "- {name: qb, accounts: \"b,c\", requests: " QUOTA_TEXT(
		     QUOTA_B) ", tokens: 60000, burst_ms: 8s}\n";

#define OPTION_OF struct pool_options
static const struct option pool_table[] = {
#define OPTION OPTION_LINE
#include "consumers/pool/options.def"
#undef OPTION
};
#undef OPTION_OF
#define OPTION_OF struct archive_options
static const struct option archive_table[] = {
#define OPTION OPTION_LINE
#include "consumers/archive/options.def"
#undef OPTION
};
#undef OPTION_OF
#define OPTION_OF struct scheduler_options
static const struct option scheduler_table[] = {
#define OPTION OPTION_LINE
#include "scheduler/options.def"
#undef OPTION
};
#undef OPTION_OF

static const char *no_env(const char *name)
{
	(void)name;
	return "none";
}

static const char *new_env(const char *name)
{
	(void)name;
	return "another";
}

void fleet_prepare(void)
{
	struct config_request request = {.env = no_env}, again = {.env = new_env};
	struct str bare = str_of(config_text);
	struct buf errors = {0};

	struct buf text = {0};

	buf_printf(&text, "%s%s", config_text, quotas_text);
	if (config_parse(&request, "world", bare, &plain, &errors) != CONFIG_OK ||
	    config_parse(&request, "world", buf_str(&text), &limited, &errors) != CONFIG_OK ||
	    config_parse(&again, "world", bare, &rotated[0], &errors) != CONFIG_OK ||
	    config_parse(&again, "world", buf_str(&text), &rotated[1], &errors) != CONFIG_OK) {
		fprintf(stderr, "%s", buf_text(&errors));
		must(!"the world's configuration is good");
	}
	buf_fini(&text);
	buf_fini(&errors);
	config = plain;
	option_defaults(pool_table, countof(pool_table), &pool_options);
	option_defaults(archive_table, countof(archive_table), &archive_options);
	option_defaults(scheduler_table, countof(scheduler_table), &scheduler_options);
	push_prepare();
}

const struct config *fleet_config(void)
{
	return config;
}

/* ── opening ── */

static void open_pool(struct node *n)
{
	struct pool_request request = {.loop = n->loop,
				       .log = &n->loop->log,
				       .config = config,
				       .options = &pool_options,
				       .metrics = &n->metrics,
				       .id = n->id};

	must(pool_open(&request, &n->pool) == 0);
}

static void open_archive(struct node *n)
{
	n->svc = (struct svc){.loop = n->loop,
			      .log = n->loop->log,
			      .config = config,
			      .options = &archive_options,
			      .name = "sluice-archive",
			      .id = n->id};
	metrics_init(&n->svc.metrics);
	must(archive_open(&n->svc, &n->archive) == 0);
}

static void open_front(struct node *n)
{
	static const struct redis_ops no_ops = {0};
	struct redis_options redis = redis_defaults();
	struct pg_options pg = pg_defaults();
	struct lane_writer_options writer = {.timeout_us = 5 * US_PER_S, .max_pending = 1000};
	struct submitter_options o = {.loop = n->loop,
				      .config = config,
				      .topic_prefix = config->kafka.topic_prefix,
				      .max_open_turns = 8,
				      .shards = 2,
				      .log = &n->loop->log};

	must(redis_open(n->loop, &redis, &no_ops, NULL, &n->loop->log, &n->redis) == 0);
	must(pg_open(n->loop, &pg, &n->loop->log, &n->pg) == 0);
	must(blob_open(n->loop, "", &n->loop->log, &n->blob) == 0);
	must(lane_writer_open(n->loop, &writer, &n->loop->log, &n->writer) == 0);
	o.redis = n->redis;
	o.pg = n->pg;
	o.blob = n->blob;
	o.writer = n->writer;
	n->submitter = submitter_new(&o);
	n->relay = relay_new(n->loop, n->redis, n->pg, &n->loop->log);
	relay_use_blob(n->relay, n->blob);
}

/* Its tiers; not what only its leader does. */
static void open_scheduler(struct node *n)
{
	struct scheduler *s = mem_new(struct scheduler);
	struct lane_writer_options writer = {.timeout_us = 10 * US_PER_S, .max_pending = 1000};

	s->loop = n->loop;
	s->log = &n->loop->log;
	s->config = config;
	s->options = &scheduler_options;
	s->id = n->id;
#define METRIC(field, name, type, help, labels) \
	s->metric.field = metric_register(&n->metrics, name, METRIC_##type, help, labels);
#include "scheduler/metrics.def"
#undef METRIC
	n->scheduler = s;
	must(lane_writer_open(n->loop, &writer, s->log, &s->writer) == 0);
	must(later_open(s, &n->later) == 0);
}

static void node_open(struct node *n)
{
	n->loop = world_loop(n->id);
	n->back_us = 0;
	n->draining = false;
	n->rotated = false;
	metrics_init(&n->metrics);
	world_tell(n->id, "starts");
	switch (n->kind) {
	case NODE_POOL:
		open_pool(n);
		return;
	case NODE_FRONT:
		open_front(n);
		return;
	case NODE_ARCHIVE:
		open_archive(n);
		return;
	case NODE_SCHEDULER:
		open_scheduler(n);
		return;
	case NODE_PUSH:
		push_node_open(n);
		return;
	}
}

struct node *fleet_front(void)
{
	struct node *up[NODES_MAX];
	size_t count = 0;

	for (size_t i = 0; i < fleet.node_count; i++)
		if (fleet.nodes[i].kind == NODE_FRONT && fleet.nodes[i].loop &&
		    !fleet.nodes[i].loop->dead)
			up[count++] = &fleet.nodes[i];
	return count ? up[world_between(0, count - 1)] : NULL;
}

/* ── what happens to nodes ── */

static struct node *any_node(void)
{
	return &fleet.nodes[world_between(0, fleet.node_count - 1)];
}

static bool up(const struct node *n)
{
	return n->loop && !n->loop->dead;
}

static void crash(struct node *n)
{
	if (!up(n))
		return;
	fleet.torn = fleet.torn || n->kind == NODE_POOL;
	world_tell(n->id, "crashes");
	world_kill(n->loop);
}

static void on_drained_later(void *ctx)
{
	struct node *n = ctx;

	pool_close(n->pool);
	world_tell(n->id, "is drained");
	world_kill(n->loop);
}

static void on_drained(void *ctx)
{
	struct node *n = ctx;

	world_in(1, n->loop, on_drained_later, n);
}

static void on_drain(void *ctx)
{
	struct node *n = ctx;

	bool leave = world_between(0, 2) == 0;

	world_tell(n->id, leave ? "drains and leaves" : "drains");
	pool_drain(n->pool, world_between(0, 10) * US_PER_S, leave, on_drained, n);
}

static void on_reload(void *ctx)
{
	struct node *n = ctx;

	n->rotated = !n->rotated;
	world_tell(n->id, "reads its configuration, with other keys");
	must(pool_reload(n->pool, n->rotated ? rotated[config == limited] : config,
			 &pool_options) == 0);
}

/* All pools, and again after a while. */
static void on_rotation(void *ctx)
{
	(void)ctx;
	for (size_t i = 0; i < fleet.node_count; i++)
		if (fleet.nodes[i].kind == NODE_POOL && up(&fleet.nodes[i]))
			world_in(0, fleet.nodes[i].loop, on_reload, &fleet.nodes[i]);
	if (world->now_us + ROTATION_US < fleet.heal_us)
		world_in(ROTATION_US, NULL, on_rotation, NULL);
}

/* Looks after the dead: starts them again after a while. */
static void on_watch(void *ctx)
{
	(void)ctx;
	for (size_t i = 0; i < fleet.node_count; i++) {
		struct node *n = &fleet.nodes[i];

		if (up(n))
			continue;
		if (!n->back_us) {
			fleet.crashes++;
			if (n->kind == NODE_POOL) {
				fleet.excused = true;
				fleet.torn = fleet.torn || !n->draining;
			}
			n->back_us = world->now_us + (world_between(0, 2)
							  ? world_between(10000, 2000000)
							  : world_between(2000000, 20000000));
		}
		if (n->back_us <= world->now_us)
			node_open(n);
	}
	world_in(200000, NULL, on_watch, NULL);
}

/* ── faults ── */

enum fault_kind {
	WRONG_CRASH,
	WRONG_STALL,
	WRONG_DRAIN,
	WRONG_REDIS_CUT,
	WRONG_REDIS_AWAY,
	WRONG_REDIS_FROZEN,
	WRONG_REDIS_EMPTIED,
	WRONG_REDIS_SET_BACK,
	WRONG_REBALANCE,
	WRONG_BROKER_AWAY,
	WRONG_PG_AWAY,
	WRONG_KINDS
};

/* What was recorded when Redis lost its memory, where PostgreSQL can be asked: it must not run again. */
static struct {
	uint64_t emptied_us, known_us; /* until then it need not be known that it was emptied */
	uint64_t pg_back_us;
	bool recorded[JOBS_MAX];
} past;

/* A loss that is noticed within 2 s of its end. */
#define EMPTIED_SEEN_US (2 * US_PER_S)

static void remember_recorded(uint64_t for_us)
{
	bool asked = past.pg_back_us <= world->now_us && !world->faults.pg_lost;

	past.emptied_us = world->now_us;
	past.known_us = world->now_us + for_us + EMPTIED_SEEN_US;
	for (int i = 0; i < fleet.job_count; i++) {
		const struct client_job *j = &fleet.jobs[i];

		past.recorded[i] =
		    asked && j->try_count == 1 && pg_server_result(str_of(j->tries[0].id));
	}
}

static void pg_away(uint64_t for_us)
{
	past.pg_back_us = world->now_us + for_us;
	memset(past.recorded, 0, sizeof(past.recorded));
	pg_server_away(for_us);
}

/* A pool that had a call of it under way may go on with that one, and one that stood still may believe a moment in the epoch before;
 * who submits it again after the loss may have it again. */
static void call_begins(const struct peer_call *call)
{
	if (call->job < 0 || call->job >= fleet.job_count || !past.recorded[call->job] ||
	    world->now_us < past.known_us ||
	    world->now_us < redis_server.flushed_us + FLUSH_SEEN_US ||
	    fleet.jobs[call->job].phone || fleet.jobs[call->job].rounds > 1)
		return;
	list_each (&peer_calls, at) {
		const struct peer_call *other = container_of(at, struct peer_call, link);

		if (other->job == call->job && other->begun_us < past.known_us &&
		    strcmp(other->node, call->node) == 0)
			return;
	}
	world_violation("job %d is called, whose end was recorded before Redis was emptied",
			call->job);
}

/* With its connections, or without. */
static void on_emptied(void *ctx)
{
	uint64_t for_us = (uint64_t)(uintptr_t)ctx;

	remember_recorded(for_us);
	if (for_us)
		redis_server_away(for_us, REDIS_EMPTIED);
	else
		redis_server_flush();
}

static void stall_archives(uint64_t until_us)
{
	for (size_t i = 0; i < fleet.node_count; i++)
		if (fleet.nodes[i].kind == NODE_ARCHIVE && up(&fleet.nodes[i]))
			world_stall(fleet.nodes[i].loop, until_us);
}

/* In half of the cases clients lose their network before: what ends then is read only afterwards, and recorded then or later. */
static void empty_redis(uint64_t for_us)
{
	bool clients = world_between(0, 1);
	uint64_t after_us = clients ? world_between(100000, 6000000) : 0;

	if (world_between(0, 1))
		for_us = 0;
	if (clients)
		phones_away(after_us + world_between(100000, 6000000));
	if (clients && world_between(0, 1))
		stall_archives(world->now_us + after_us + world_between(100000, 12000000));
	world_in(after_us, NULL, on_emptied, (void *)(uintptr_t)for_us);
}

static void go_wrong(enum fault_kind kind)
{
	struct node *n = any_node();
	uint64_t for_us =
	    world_between(0, 2) ? world_between(1000, 3000000) : world_between(3000000, 25000000);

	switch (kind) {
	case WRONG_CRASH:
		crash(n);
		return;
	case WRONG_STALL:
		if (!up(n))
			return;
		if (world_between(0, 1)) /* past its leases and its session */
			for_us = world_between(8000000, 25000000);
		world_tell(n->id, "stalls for %llu ms", (unsigned long long)for_us / 1000);
		fleet.excused = fleet.excused || n->kind == NODE_POOL;
		fleet.torn = fleet.torn || n->kind == NODE_POOL;
		world_stall(n->loop, world->now_us + for_us);
		return;
	case WRONG_DRAIN:
		if (!up(n) || n->draining || (n->kind != NODE_POOL && n->kind != NODE_PUSH))
			return;
		n->draining = true;
		if (n->kind == NODE_PUSH)
			push_node_drain(n);
		else
			world_in(0, n->loop, on_drain, n);
		return;
	case WRONG_REDIS_CUT:
		fleet.torn = true;
		redis_server_cut();
		return;
	case WRONG_REDIS_AWAY:
		fleet.excused = true;
		fleet.torn = true;
		redis_server_away(for_us, REDIS_KEPT);
		return;
	case WRONG_REDIS_FROZEN:
		fleet.excused = true;
		fleet.torn = true;
		redis_server_freeze(for_us / 2);
		return;
	case WRONG_REDIS_EMPTIED:
		fleet.excused = true;
		fleet.torn = true;
		empty_redis(for_us);
		return;
	case WRONG_REDIS_SET_BACK:
		fleet.excused = true;
		fleet.torn = true;
		redis_server_away(for_us, REDIS_SET_BACK);
		return;
	case WRONG_REBALANCE:
		broker_rebalance();
		return;
	case WRONG_BROKER_AWAY:
		broker_away(for_us);
		return;
	case WRONG_PG_AWAY:
		pg_away(for_us);
		return;
	case WRONG_KINDS:
		return;
	}
}

static void on_wrong(void *ctx)
{
	go_wrong((enum fault_kind)(uintptr_t)ctx);
}

static void on_heal(void *ctx)
{
	(void)ctx;
	world_tell("world", "heals");
	world->faults = (struct world_faults){0};
}

static void plan_faults(void)
{
	struct world_faults *f = &world->faults;
	unsigned families = (unsigned)rand_u64(&world->rand);
	bool memory = world_between(0, 3) == 0; /* what loses Redis's memory is apart */
	size_t count = world_between(0, 12);

	if (world_between(0, 4) == 0)
		return; /* a calm history */
	f->write_unknown = families & 1 ? (unsigned)world_between(0, 1000) : 0;
	f->write_refused = families & 2 ? (unsigned)world_between(0, 1000) : 0;
	f->commit_lost = families & 4 ? (unsigned)world_between(0, 3000) : 0;
	f->pg_lost = families & 8 ? (unsigned)world_between(0, 2000) : 0;
	f->call_fault = families & 16 ? (unsigned)world_between(0, 5000) : 0;
	f->publish_lost = families & 32 ? (unsigned)world_between(0, 2000) : 0;
	f->redis_cut = families & 1u << 21 ? (unsigned)world_between(0, 200) : 0;
	fleet.torn = fleet.torn || f->redis_cut;
	f->slow = families & 64 ? (unsigned)world_between(0, 500) : 0;
	f->end_stall = families >> 23 & 1 ? 300 : 0;
	for (uint64_t at = 2000000; families & 1u << 20 && at < fleet.heal_us - 15000000;
	     at += world_between(500000, 8000000))
		world_at(at, NULL, on_wrong, (void *)(uintptr_t)WRONG_REBALANCE);
	if (memory && world_between(0, 1)) /* while most jobs are under way */
		world_at(world_between(2000000, 12000000), NULL, on_wrong,
			 (void *)(uintptr_t)WRONG_REDIS_EMPTIED);
	if (families >> 18 & 1)
		world_at(ROTATION_US, NULL, on_rotation, NULL);
	for (size_t i = 0; i < count; i++) {
		enum fault_kind kind = (enum fault_kind)world_between(0, WRONG_KINDS - 1);

		if ((kind == WRONG_REDIS_EMPTIED || kind == WRONG_REDIS_SET_BACK) && !memory)
			kind = WRONG_REDIS_CUT;
		if (!(families & (1u << (7 + kind))))
			continue;
		world_at(world_between(2000000, fleet.heal_us - 25000000), NULL, on_wrong,
			 (void *)(uintptr_t)kind);
	}
}

/* ── beginning ── */

static void add_nodes(enum node_kind kind, const char *name, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct node *n = &fleet.nodes[fleet.node_count++];

		n->kind = kind;
		snprintf(n->id, sizeof(n->id), "%s-%zu", name, i + 1);
		node_open(n);
	}
}

static bool poison(int number)
{
	struct client_job *j;

	if (number < 0 || number >= fleet.job_count)
		return false;
	j = &fleet.jobs[number];
	if (!j->kills)
		return false;
	j->kills--;
	fleet.excused = true;
	fleet.torn = true;
	return true;
}

/* The two providers' own count of the last minute. */
static struct {
	uint64_t at_us[4096];
	size_t count;
} arrivals[2];

static void arrived(bool anthropic)
{
	size_t which = anthropic ? 0 : 1, within = 0;
	size_t most = anthropic ? QUOTA_A : QUOTA_B;

	must(arrivals[which].count < countof(arrivals[which].at_us));
	arrivals[which].at_us[arrivals[which].count++] = world->now_us;
	for (size_t i = arrivals[which].count; i-- > 0; within++)
		if (arrivals[which].at_us[i] + 60 * US_PER_S <= world->now_us)
			break;
	if (config == limited && within > most)
		world_violation("overspent: %zu calls in a minute, the limit is %zu", within, most);
}

void fleet_begin(void)
{
	memset(&fleet, 0, sizeof(fleet));
	memset(&past, 0, sizeof(past));
	fleet.heal_us = world_between(35, 70) * US_PER_S;
	peer_poison = poison;
	peer_arrived = arrived;
	peer_begins = call_begins;
	memset(arrivals, 0, sizeof(arrivals));
	config = world_between(0, 3) ? plain : limited;
	pool_options.slots = (int64_t)world_between(2, 20);
	pool_options.reserved = (int64_t)world_between(0, (uint64_t)pool_options.slots - 1);
	pool_options.ahead = (int64_t)world_between(1, 16);
	/* Windows of which half is soon full, and tiers for waits of some seconds. */
	pool_options.window_records =
	    world_between(0, 1) ? 20000 : 3 * (int64_t)world_between(2, 8);
	pool_options.defer_ms = world_between(2, 15) * 1000;
	plan_faults();
	add_nodes(NODE_POOL, "pool", world_between(1, 3));
	add_nodes(NODE_FRONT, "front", world_between(1, FRONTS_MAX));
	add_nodes(NODE_ARCHIVE, "archive", world_between(1, 2));
	add_nodes(NODE_SCHEDULER, "scheduler", world_between(1, 2));
	push_begin();
	add_nodes(NODE_PUSH, "push", world_between(1, 3));
	world_in(200000, NULL, on_watch, NULL);
	world_at(fleet.heal_us, NULL, on_heal, NULL);
}
