/* Subscriptions: one connection, one SUBSCRIBE per channel however many follow it. What is wanted and what the server was
 * told are compared once per turn. */
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/map.h"
#include "lib/base/mem.h"
#include "lib/store/redis_impl.h"

#define PING_US (1 * US_PER_S)

struct channel {
	struct list link;  /* in redis_subs->channels */
	struct list dirty; /* in redis_subs->dirty while something is to be told or sent */
	struct list subs;
	size_t count; /* of subs */
	struct str name;
	bool busy;	    /* its subs are being called: it must stay */
	bool asked;	    /* the server was told to send it */
	bool lost;	    /* subs that stood are to hear that it was lost */
	uint32_t joins_due; /* confirmations that are still to come */
	uint32_t leaves_due;
	char text[];
};

struct redis_sub {
	struct list link; /* in its channel's subs */
	struct redis_subs *subs;
	struct channel *channel;
	const struct redis_sub_ops *ops;
	void *ctx;
	bool told; /* that it stands */
};

struct redis_subs {
	struct redis_link link;
	struct redis *redis;
	struct map by_name;
	struct list channels;
	struct list dirty;
	struct task settle;
	struct timer ping;
	uint64_t pinged_us; /* 0: no answer is due */
};

static void mark(struct redis_subs *subs, struct channel *channel)
{
	if (!list_linked(&channel->dirty))
		list_push_back(&subs->dirty, &channel->dirty);
	task_post(&subs->settle);
}

static bool open(const struct redis_subs *subs)
{
	return subs->link.state == REDIS_LINK_OPEN;
}

static bool stands(const struct redis_subs *subs, const struct channel *channel)
{
	return open(subs) && channel->asked && !channel->joins_due;
}

static void send_two(struct redis_subs *subs, struct str verb, struct str name)
{
	struct buf *out = &subs->link.out;
	size_t before = out->len;

	resp_head(out, name.ptr ? 2 : 1);
	resp_arg(out, verb);
	if (name.ptr)
		resp_arg(out, name);
	redis_link_added(&subs->link, out->len - before);
}

enum tell { TELL_STANDING, TELL_LOST, TELL_MESSAGE };

static void tell_one(struct redis_sub *sub, enum tell what, struct str payload)
{
	switch (what) {
	case TELL_STANDING:
		if (sub->told)
			return;
		sub->told = true;
		if (sub->ops->standing)
			sub->ops->standing(sub->ctx);
		return;
	case TELL_LOST:
		if (!sub->told)
			return;
		sub->told = false;
		if (sub->ops->lost)
			sub->ops->lost(sub->ctx);
		return;
	case TELL_MESSAGE:
		if (sub->told && sub->ops->message)
			sub->ops->message(sub->ctx, payload);
		return;
	}
}

/* Calls each sub that is there now; any of them may leave, and others come, meanwhile. */
static void tell(struct channel *channel, enum tell what, struct str payload)
{
	struct list now;

	must(!channel->busy);
	channel->busy = true;
	list_init(&now);
	while (!list_empty(&channel->subs)) {
		struct list *link = channel->subs.next;

		list_remove(link);
		list_push_back(&now, link);
	}
	while (!list_empty(&now)) {
		struct redis_sub *sub = container_of(now.next, struct redis_sub, link);

		list_remove(&sub->link);
		list_push_back(&channel->subs, &sub->link);
		tell_one(sub, what, payload);
	}
	channel->busy = false;
}

static void channel_free(struct redis_subs *subs, struct channel *channel)
{
	map_take(&subs->by_name, channel->name);
	list_remove(&channel->link);
	list_remove(&channel->dirty);
	mem_free(channel);
}

static void channel_settle(struct redis_subs *subs, struct channel *channel)
{
	if (channel->lost) {
		channel->lost = false;
		tell(channel, TELL_LOST, (struct str){0});
	}
	if (open(subs) && channel->count && !channel->asked) {
		channel->asked = true;
		channel->joins_due++;
		send_two(subs, STR("SUBSCRIBE"), channel->name);
	} else if (open(subs) && !channel->count && channel->asked) {
		channel->asked = false;
		channel->leaves_due++;
		send_two(subs, STR("UNSUBSCRIBE"), channel->name);
	}
	if (stands(subs, channel))
		tell(channel, TELL_STANDING, (struct str){0});
	if (!channel->count && !channel->asked && !channel->joins_due && !channel->leaves_due)
		channel_free(subs, channel);
}

static void on_settle(struct task *task)
{
	struct redis_subs *subs = container_of(task, struct redis_subs, settle);
	struct list now;

	list_init(&now);
	while (!list_empty(&subs->dirty)) {
		struct list *link = subs->dirty.next;

		list_remove(link);
		list_push_back(&now, link);
	}
	while (!list_empty(&now)) {
		struct channel *channel = container_of(now.next, struct channel, dirty);

		list_remove(&channel->dirty);
		channel_settle(subs, channel);
	}
}

/* ── the link's callbacks ── */

static void on_open(struct redis_link *link)
{
	struct redis_subs *subs = container_of(link, struct redis_subs, link);

	subs->pinged_us = 0;
	subs->link.failures = 0;
	timer_set(&subs->ping, PING_US);
	list_each (&subs->channels, at)
		mark(subs, container_of(at, struct channel, link));
}

static void on_lost(struct redis_link *link)
{
	struct redis_subs *subs = container_of(link, struct redis_subs, link);

	timer_stop(&subs->ping);
	list_each (&subs->channels, at) {
		struct channel *channel = container_of(at, struct channel, link);

		channel->asked = false;
		channel->joins_due = 0;
		channel->leaves_due = 0;
		channel->lost = true;
		mark(subs, channel);
	}
}

static void on_reply(struct redis_link *link, const struct redis_value *value)
{
	struct redis_subs *subs = container_of(link, struct redis_subs, link);
	struct str verb = redis_item_str(value, 0);
	struct channel *channel;

	if (value->type == REDIS_ERROR) {
		log_warn(&subs->redis->log, "redis refused a subscription",
			 F_VIEW("reply", value->str));
		redis_link_fail(link, "subscription refused");
		return;
	}
	/* "pong", or +PONG while nothing is subscribed. */
	if (value->type != REDIS_LIST || str_is(verb, "pong")) {
		subs->pinged_us = 0;
		return;
	}
	channel = map_find(&subs->by_name, redis_item_str(value, 1));
	if (!channel)
		return;
	if (str_is(verb, "message")) {
		if (stands(subs, channel))
			tell(channel, TELL_MESSAGE, redis_item_str(value, 2));
	} else if (str_is(verb, "subscribe")) {
		if (channel->joins_due)
			channel->joins_due--;
		/* Before any message that follows in the same read. */
		if (stands(subs, channel))
			tell(channel, TELL_STANDING, (struct str){0});
	} else if (str_is(verb, "unsubscribe")) {
		if (channel->leaves_due)
			channel->leaves_due--;
	}
	mark(subs, channel);
}

static void on_ping(struct timer *timer)
{
	struct redis_subs *subs = container_of(timer, struct redis_subs, ping);
	uint64_t now = loop_now_us(subs->redis->loop);

	if (subs->pinged_us && now - subs->pinged_us >= subs->redis->options.timeout_us) {
		redis_link_fail(&subs->link, "no answer to PING");
		return;
	}
	if (!subs->pinged_us) {
		subs->pinged_us = now;
		send_two(subs, STR("PING"), (struct str){0});
	}
	timer_set(&subs->ping, PING_US);
}

/* ── life ── */

static struct redis_subs *subs_new(struct redis *redis)
{
	static const struct redis_link_ops ops = {
	    .open = on_open,
	    .reply = on_reply,
	    .lost = on_lost,
	};
	struct redis_subs *subs = mem_new(struct redis_subs);

	subs->redis = redis;
	map_init(&subs->by_name, rand_u64(loop_rand(redis->loop)));
	list_init(&subs->channels);
	list_init(&subs->dirty);
	task_init(&subs->settle, redis->loop, on_settle);
	timer_init(&subs->ping, redis->loop, on_ping);
	redis_link_init(&subs->link, redis->loop, &redis->url, redis->tls,
			redis->options.timeout_us, &ops, &redis->log);
	return subs;
}

void redis_subs_free(struct redis_subs *subs)
{
	if (!subs)
		return;
	redis_link_fini(&subs->link);
	task_cancel(&subs->settle);
	timer_stop(&subs->ping);
	list_each (&subs->channels, at) {
		struct channel *channel = container_of(at, struct channel, link);

		while (!list_empty(&channel->subs))
			mem_free(list_pop_front(&channel->subs, struct redis_sub, link));
		channel_free(subs, channel);
	}
	map_fini(&subs->by_name);
	mem_free(subs);
}

static struct channel *channel_of(struct redis_subs *subs, struct str name)
{
	struct channel *channel = map_find(&subs->by_name, name);

	if (channel)
		return channel;
	channel = mem_alloc(sizeof(*channel) + name.len + 1);
	if (name.len)
		memcpy(channel->text, name.ptr, name.len);
	channel->name = (struct str){channel->text, name.len};
	list_init(&channel->subs);
	list_push_back(&subs->channels, &channel->link);
	map_set(&subs->by_name, channel->name, channel);
	return channel;
}

struct redis_sub *redis_subscribe(struct redis *redis, struct str name,
				  const struct redis_sub_ops *ops, void *ctx)
{
	struct redis_sub *sub = mem_new(struct redis_sub);

	if (!redis->subs)
		redis->subs = subs_new(redis);
	sub->subs = redis->subs;
	sub->channel = channel_of(redis->subs, name);
	sub->ops = ops;
	sub->ctx = ctx;
	list_push_back(&sub->channel->subs, &sub->link);
	sub->channel->count++;
	mark(sub->subs, sub->channel);
	return sub;
}

void redis_unsubscribe(struct redis_sub *sub)
{
	if (!sub)
		return;
	list_remove(&sub->link);
	sub->channel->count--;
	/* It goes in a task: one of its subs may be calling. */
	mark(sub->subs, sub->channel);
	mem_free(sub);
}
