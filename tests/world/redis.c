/* lib/store/redis.h over the world's server: two connections and one for subscriptions per process, delays both ways, nothing
 * overtakes on one connection; a connection that is cut loses replies, and what was sent may be executed all the same. */
#include "lib/store/redis.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/net/loop.h"
#include "tests/world/server.h"

#define CONNECTIONS 2

struct redis;

struct conn {
	struct redis *redis;
	struct wire up;
	struct wire down;
	struct list sent; /* requests without a reply, in order */
	bool standing;
	bool connecting;
};

struct redis {
	struct list link; /* of the server's clients */
	struct loop *loop;
	struct redis_options options;
	const struct redis_ops *ops;
	void *ctx;
	struct conn conns[CONNECTIONS];
	struct list waiting;
	struct wire sub_up;
	struct wire sub_down;
	struct list subs;
	bool sub_standing;
	unsigned sub_round; /* rises with each cut */
	uint64_t epoch;
	uint64_t epoch_wall_ms;
	bool closed;
};

struct redis_request {
	struct list link;
	struct redis *redis;
	struct conn *conn; /* NULL: not sent */
	struct arena arena;
	const struct script *script;
	struct str *args; /* keys first */
	size_t key_count;
	size_t count;
	uint32_t hash;
	struct redis_value value;
	redis_fn *done;
	redis_typed_fn *typed;
	redis_then_fn *then;
	void *ctx;
	bool ended;
	bool cut;  /* its connection ended */
	bool drop; /* it never arrives */
};

struct redis_sub {
	struct list link;
	struct redis *redis;
	struct str channel;
	const struct redis_sub_ops *ops;
	void *ctx;
	bool heard; /* the server has it */
	bool closed;
};

struct redis_options redis_defaults(void)
{
	return (struct redis_options){.connections = CONNECTIONS,
				      .wait_us = 1 * US_PER_S,
				      .timeout_us = 5 * US_PER_S,
				      .max_pending = 100000};
}

struct str redis_item_str(const struct redis_value *list, size_t n)
{
	if (!list || list->type != REDIS_LIST || n >= list->count)
		return (struct str){0};
	return list->items[n].str;
}

int64_t redis_item_int(const struct redis_value *list, size_t n, int64_t otherwise)
{
	int64_t value;

	if (!list || list->type != REDIS_LIST || n >= list->count)
		return otherwise;
	if (list->items[n].type == REDIS_INT)
		return list->items[n].integer;
	if (list->items[n].type == REDIS_STR && str_i64(list->items[n].str, &value))
		return value;
	return otherwise;
}

/* ── requests ── */

static void finish(struct redis_request *r, enum redis_result result)
{
	bool quiet = r->ended || r->redis->closed;

	if (r->ended)
		return;
	r->ended = true;
	list_remove(&r->link);
	if (quiet)
		return;
	if (r->done)
		r->done(r->ctx, result, result == REDIS_OK ? &r->value : NULL);
	else if (r->typed)
		r->typed(r->ctx, r->then, result, result == REDIS_OK ? &r->value : NULL);
}

static void on_reply(void *ctx)
{
	struct redis_request *r = ctx;

	if (!r->cut)
		finish(r, REDIS_OK);
}

static void on_lost(void *ctx)
{
	finish(ctx, REDIS_LOST);
}

static void on_away(void *ctx)
{
	struct redis_request *r = ctx;

	if (!r->conn)
		finish(r, REDIS_AWAY);
}

static void cut(struct conn *c);

static void on_arrive(void *ctx)
{
	struct redis_request *r = ctx;

	if (r->drop)
		return;
	if (redis_server.frozen_until_us > world->now_us) {
		world_at(redis_server.frozen_until_us + redis_server.frozen_count++, NULL,
			 on_arrive, r);
		return;
	}
	if (r->script)
		redis_server_script(r->script, r->args, r->key_count, r->args + r->key_count,
				    r->count - r->key_count, &r->arena, &r->value);
	else
		redis_server_run(r->args, r->count, &r->arena, &r->value);
	if (!r->script && str_is(r->args[0], "HMGET"))
		world_tell(r->redis->loop->name, "redis HMGET %.*s %.*s -> %.*s",
			   STR_FMT(r->args[1]), STR_FMT(r->args[2]),
			   STR_FMT(redis_item_str(&r->value, 0)));
	if (!r->script && r->count > 3 && str_starts(r->args[1], "ob:"))
		world_tell(r->redis->loop->name, "redis %.*s %.*s .. %.*s", STR_FMT(r->args[0]),
			   STR_FMT(r->args[1]), STR_FMT(r->args[r->count - 1]));
	if (r->script)
		world_tell(r->redis->loop->name, "redis %s %.*s -> %.*s%s", r->script->name,
			   STR_FMT(r->args[0]),
			   STR_FMT(r->value.type == REDIS_LIST ? redis_item_str(&r->value, 0)
							       : r->value.str),
			   r->cut ? " (cut)" : "");
	if (!r->cut && world_chance(world->faults.redis_cut))
		cut(r->conn);
	if (!r->cut)
		world_at(wire_at(&r->conn->down), r->redis->loop, on_reply, r);
}

static void send(struct redis_request *r)
{
	struct redis *redis = r->redis;

	r->conn = &redis->conns[r->hash % CONNECTIONS];
	list_push_back(&r->conn->sent, &r->link);
	world_at(wire_at(&r->conn->up), NULL, on_arrive, r);
}

static struct redis_request *request_new(struct redis *redis, struct str order, const struct str *a,
					 size_t a_count, const struct str *b, size_t b_count)
{
	struct redis_request *r = mem_new(struct redis_request);

	r->redis = redis;
	r->count = a_count + b_count;
	r->key_count = a_count;
	r->args = arena_alloc(&r->arena, (r->count + 1) * sizeof(*r->args));
	for (size_t i = 0; i < r->count; i++) {
		struct str s = i < a_count ? a[i] : b[i - a_count];

		r->args[i] = (struct str){arena_dup(&r->arena, s.ptr ? s.ptr : "", s.len), s.len};
	}
	r->hash = 2166136261u;
	for (size_t i = 0; i < order.len; i++)
		r->hash = (r->hash ^ (unsigned char)order.ptr[i]) * 16777619u;
	r->hash ^= r->hash >> 15;
	if (!order.len)
		r->hash = (uint32_t)world_between(0, CONNECTIONS - 1);
	if (redis->conns[r->hash % CONNECTIONS].standing) {
		send(r);
	} else {
		list_push_back(&redis->waiting, &r->link);
		world_in(redis->options.wait_us, redis->loop, on_away, r);
	}
	return r;
}

struct redis_request *redis_command(struct redis *redis, struct str order, const struct str *args,
				    size_t count, redis_fn *done, void *ctx)
{
	struct redis_request *r = request_new(redis, order, NULL, 0, args, count);

	r->done = done;
	r->ctx = ctx;
	return r;
}

struct redis_request *redis_command_typed(struct redis *redis, struct str order,
					  const struct str *args, size_t count,
					  redis_typed_fn *done, void *ctx, redis_then_fn *then)
{
	struct redis_request *r = request_new(redis, order, NULL, 0, args, count);

	r->typed = done;
	r->ctx = ctx;
	r->then = then;
	return r;
}

struct redis_request *redis_script(struct redis *redis, struct str order,
				   const struct script *script, const struct str *keys,
				   size_t key_count, const struct str *args, size_t arg_count,
				   redis_fn *done, void *ctx)
{
	struct redis_request *r = request_new(redis, order, keys, key_count, args, arg_count);

	r->script = script;
	r->done = done;
	r->ctx = ctx;
	return r;
}

struct redis_request *redis_script_typed(struct redis *redis, struct str order,
					 const struct script *script, const struct str *keys,
					 size_t key_count, const struct str *args, size_t arg_count,
					 redis_typed_fn *done, void *ctx, redis_then_fn *then)
{
	struct redis_request *r = request_new(redis, order, keys, key_count, args, arg_count);

	r->script = script;
	r->typed = done;
	r->ctx = ctx;
	r->then = then;
	return r;
}

void redis_cancel(struct redis_request *request)
{
	must(!request->ended);
	request->done = NULL;
	request->typed = NULL;
}

/* ── connections ── */

struct hello {
	struct conn *conn;
	uint64_t epoch;
	uint64_t epoch_wall_ms;
};

static void learn(struct redis *redis, const struct hello *h)
{
	bool first = !redis->epoch;

	if (redis->epoch >= h->epoch)
		return;
	redis->epoch = h->epoch;
	redis->epoch_wall_ms = h->epoch_wall_ms;
	if (redis->ops && redis->ops->epoch)
		redis->ops->epoch(redis->ctx, first, h->epoch_wall_ms);
}

static void connect_later(struct conn *c);
static void on_poll_there(void *ctx);

static void on_connected(void *ctx)
{
	struct hello *h = ctx;
	struct conn *c = h->conn;
	struct redis *redis = c->redis;

	c->connecting = false;
	if (redis->closed)
		return;
	if (redis_server.away_until_us > world->now_us) {
		connect_later(c);
		return;
	}
	c->standing = true;
	learn(redis, h);
	if (h->epoch != redis_server.epoch) { /* it stood still meanwhile: it asks again */
		redis_server.flushed_us = world->now_us;
		world_in(world_between(0, 500000), NULL, on_poll_there, c);
	}
	list_each (&redis->waiting, at) {
		struct redis_request *r = container_of(at, struct redis_request, link);

		if (&redis->conns[r->hash % CONNECTIONS] != c)
			continue;
		list_remove(&r->link);
		send(r);
	}
	if (redis->ops && redis->ops->up)
		redis->ops->up(redis->ctx, true);
}

/* The server says its epoch, and begins one where there is none. */
static void ask_epoch(struct hello *h)
{
	if (!redis_server.epoch) {
		redis_server.epoch = ++redis_server.epochs;
		redis_server.epoch_wall_ms = world_wall_ms();
	}
	h->epoch = redis_server.epoch;
	h->epoch_wall_ms = redis_server.epoch_wall_ms;
}

static void on_connect(void *ctx)
{
	struct hello *h = mem_new(struct hello);

	h->conn = ctx;
	if (h->conn->redis->loop->dead)
		return;
	if (redis_server.away_until_us > world->now_us ||
	    redis_server.frozen_until_us > world->now_us) {
		connect_later(h->conn);
		return;
	}
	ask_epoch(h);
	world_at(wire_at(&h->conn->down), h->conn->redis->loop, on_connected, h);
}

static void connect_later(struct conn *c)
{
	uint64_t wait = world_between(500, 100000);

	c->connecting = true;
	if (redis_server.away_until_us > world->now_us)
		wait += redis_server.away_until_us - world->now_us;
	if (redis_server.frozen_until_us > world->now_us)
		wait += redis_server.frozen_until_us - world->now_us;
	world_in(wait, NULL, on_connect, c);
}

static void cut(struct conn *c)
{
	size_t arrive = (size_t)world_between(0, 4), n = 0;
	struct redis *redis = c->redis;

	if (!c->standing)
		return;
	redis_server.cut = true;
	c->standing = false;
	list_each (&c->sent, at) {
		struct redis_request *r = container_of(at, struct redis_request, link);

		if (r->cut)
			continue;
		r->cut = true;
		r->drop = n++ >= arrive || redis_server.away_until_us > world->now_us;
		world_in(world_delay_us(), redis->loop, on_lost, r);
	}
	connect_later(c);
}

static void on_poll(void *ctx)
{
	struct hello *h = ctx;

	if (!h->conn->redis->closed)
		learn(h->conn->redis, h);
}

static void on_poll_there(void *ctx)
{
	struct hello *h = mem_new(struct hello);

	h->conn = ctx;
	if (!h->conn->standing || h->conn->redis->loop->dead)
		return;
	ask_epoch(h);
	world_at(wire_at(&h->conn->down), h->conn->redis->loop, on_poll, h);
}

/* ── subscriptions ── */

static void on_standing(void *ctx)
{
	struct redis_sub *s = ctx;

	if (s->closed || s->redis->closed || !s->heard)
		return;
	s->ops->standing(s->ctx);
}

static void on_subscribe(void *ctx)
{
	struct redis_sub *s = ctx;

	if (s->closed || s->redis->loop->dead || !s->redis->sub_standing)
		return;
	s->heard = true;
	world_at(wire_at(&s->redis->sub_down), s->redis->loop, on_standing, s);
}

struct redis_sub *redis_subscribe(struct redis *redis, struct str channel,
				  const struct redis_sub_ops *ops, void *ctx)
{
	struct redis_sub *s = mem_new(struct redis_sub);

	s->redis = redis;
	s->channel = (struct str){mem_dup(channel.ptr, channel.len), channel.len};
	s->ops = ops;
	s->ctx = ctx;
	list_push_back(&redis->subs, &s->link);
	if (redis->sub_standing)
		world_at(wire_at(&redis->sub_up), NULL, on_subscribe, s);
	return s;
}

void redis_unsubscribe(struct redis_sub *sub)
{
	if (!sub || sub->closed)
		return;
	sub->closed = true;
	list_remove(&sub->link);
}

struct message {
	struct redis_sub *sub;
	unsigned round;
	struct str text;
};

static void on_message(void *ctx)
{
	struct message *m = ctx;

	if (!m->sub->closed && !m->sub->redis->closed && m->round == m->sub->redis->sub_round)
		m->sub->ops->message(m->sub->ctx, m->text);
	mem_free((char *)(uintptr_t)m->text.ptr);
	mem_free(m);
}

void redis_server_publish(struct str channel, struct str text)
{
	list_each (&redis_server.clients, at) {
		struct redis *redis = container_of(at, struct redis, link);

		if (redis->loop->dead || redis->closed)
			continue;
		list_each (&redis->subs, sub_at) {
			struct redis_sub *s = container_of(sub_at, struct redis_sub, link);
			struct message *m;

			if (!s->heard || !str_eq(s->channel, channel) ||
			    world_chance(world->faults.publish_lost))
				continue;
			m = mem_new(struct message);
			m->sub = s;
			m->round = redis->sub_round;
			m->text = (struct str){mem_dup(text.ptr, text.len), text.len};
			world_at(wire_at(&redis->sub_down), redis->loop, on_message, m);
		}
	}
}

static void on_sub_lost(void *ctx)
{
	struct redis *redis = ctx;

	if (redis->closed)
		return;
	list_each (&redis->subs, at) {
		struct redis_sub *s = container_of(at, struct redis_sub, link);

		if (s->ops->lost)
			s->ops->lost(s->ctx);
	}
}

static void on_sub_connect(void *ctx)
{
	struct redis *redis = ctx;

	if (redis->loop->dead || redis->closed)
		return;
	if (redis_server.away_until_us > world->now_us) {
		world_at(redis_server.away_until_us + world_between(500, 100000), NULL,
			 on_sub_connect, redis);
		return;
	}
	redis->sub_standing = true;
	list_each (&redis->subs, at)
		world_at(wire_at(&redis->sub_up), NULL, on_subscribe,
			 container_of(at, struct redis_sub, link));
}

static void sub_cut(struct redis *redis)
{
	if (!redis->sub_standing)
		return;
	redis->sub_standing = false;
	redis->sub_round++;
	list_each (&redis->subs, at)
		container_of(at, struct redis_sub, link)->heard = false;
	world_in(world_delay_us(), redis->loop, on_sub_lost, redis);
	world_in(world_between(1000, 200000), NULL, on_sub_connect, redis);
}

/* ── life ── */

int redis_open(struct loop *loop, const struct redis_options *options, const struct redis_ops *ops,
	       void *ctx, const struct log *log, struct redis **ret_redis)
{
	struct redis *redis = mem_new(struct redis);

	(void)log;
	redis->loop = loop;
	redis->options = *options;
	redis->ops = ops;
	redis->ctx = ctx;
	list_init(&redis->waiting);
	list_init(&redis->subs);
	list_push_back(&redis_server.clients, &redis->link);
	for (int i = 0; i < CONNECTIONS; i++) {
		redis->conns[i].redis = redis;
		list_init(&redis->conns[i].sent);
		connect_later(&redis->conns[i]);
	}
	world_in(world_between(500, 20000), NULL, on_sub_connect, redis);
	*ret_redis = redis;
	return 0;
}

void redis_close(struct redis *redis)
{
	if (!redis)
		return;
	redis->closed = true;
	list_remove(&redis->link);
}

bool redis_up(const struct redis *redis)
{
	return redis->conns[0].standing || redis->conns[1].standing;
}

uint64_t redis_epoch_wall_ms(const struct redis *redis)
{
	return redis->epoch_wall_ms;
}

struct redis_request *redis_ask_epoch(struct redis *redis, struct str order, redis_fn *done,
				      void *ctx)
{
	return redis_command(redis, order, (const struct str[]){STR("GET"), STR(EPOCH_KEY)}, 2,
			     done, ctx);
}

bool redis_epoch_stands(const struct redis *redis, enum redis_result result,
			const struct redis_value *value)
{
	uint64_t epoch;

	return result == REDIS_OK && value->type == REDIS_STR && str_u64(value->str, &epoch) &&
	       epoch == redis->epoch;
}

size_t redis_pending(const struct redis *redis)
{
	(void)redis;
	return 0;
}

/* ── the server's life ── */

void redis_server_begin(void)
{
	redis_server = (struct redis_server){0};
	list_init(&redis_server.clients);
}

static void cut_all(void)
{
	list_each (&redis_server.clients, at) {
		struct redis *redis = container_of(at, struct redis, link);

		for (int i = 0; i < CONNECTIONS; i++)
			cut(&redis->conns[i]);
		sub_cut(redis);
	}
}

static void on_set_back(void *ctx)
{
	uint64_t *for_us = ctx;

	redis_server.away_until_us = world->now_us + *for_us;
	redis_server.epoch = 0;
	redis_server_forget(true);
	cut_all();
}

void redis_server_away(uint64_t for_us, enum redis_memory memory)
{
	uint64_t *kept = mem_new(uint64_t);

	world_tell("redis", "away for %llu ms, memory %d", (unsigned long long)for_us / 1000,
		   (int)memory);
	if (memory == REDIS_SET_BACK) {
		*kept = for_us;
		redis_server_remember();
		world_in(world_between(1000, 1000000), NULL, on_set_back, kept);
		return;
	}
	redis_server.away_until_us = world->now_us + for_us;
	redis_server.epoch = 0; /* another run_id */
	if (memory == REDIS_EMPTIED)
		redis_server_forget(false);
	cut_all();
}

void redis_server_flush(void)
{
	world_tell("redis", "emptied");
	redis_server.flushed_us = world->now_us;
	redis_server_forget(false);
	redis_server.epoch = 0;
	list_each (&redis_server.clients, at)
		for (int i = 0; i < CONNECTIONS; i++)
			world_in(world_between(0, 500000), NULL, on_poll_there,
				 &container_of(at, struct redis, link)->conns[i]);
}

/* A process whose requests wait for too long cuts its connections. */
static void on_frozen_look(void *ctx)
{
	(void)ctx;
	if (redis_server.frozen_until_us > world->now_us)
		cut_all();
}

void redis_server_freeze(uint64_t for_us)
{
	world_tell("redis", "frozen for %llu ms", (unsigned long long)for_us / 1000);
	/* Never earlier than it would have gone on: what is held back comes in its order. */
	if (redis_server.frozen_until_us < world->now_us + for_us)
		redis_server.frozen_until_us = world->now_us + for_us;
	world_in(5 * US_PER_S, NULL, on_frozen_look, NULL);
}

void redis_server_cut(void)
{
	size_t count = 0, at_index = 0, chosen;

	list_each (&redis_server.clients, at)
		count++;
	if (!count)
		return;
	chosen = world_between(0, count - 1);
	list_each (&redis_server.clients, at) {
		struct redis *redis = container_of(at, struct redis, link);
		uint64_t which = world_between(0, CONNECTIONS);

		if (at_index++ != chosen)
			continue;
		world_tell("redis", "cuts a connection of %s", redis->loop->name);
		if (which == CONNECTIONS)
			sub_cut(redis);
		else
			cut(&redis->conns[which]);
	}
}
