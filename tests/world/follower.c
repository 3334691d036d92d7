/* lib/lane/lane.h's follower: the owner keeps its place. */
#include <string.h>

#include "lib/base/mem.h"
#include "lib/lane/lane.h"
#include "tests/world/world.h"

#define PARTS 4
#define BURST 20

struct lane_follower {
	struct list link;
	struct loop *loop;
	struct log_topic *topic;
	const struct lane_follower_ops *ops;
	void *ctx;
	bool paused;
	bool closed;
	struct place {
		struct lane_follower *follower;
		int32_t number;
		bool followed;
		int64_t next;
		bool fetching;
	} places[PARTS];
};

static struct list followers;

static void fetch(struct place *p);

static void on_fetched(void *ctx)
{
	struct place *p = ctx;
	struct lane_follower *f = p->follower;
	const struct log_part *log = &f->topic->parts[p->number];

	p->fetching = false;
	for (int n = 0; n < BURST && (size_t)p->next < log->count; n++) {
		const struct log_record *r = &log->records[p->next];

		if (f->closed || f->paused)
			return;
		f->ops->record(f->ctx, p->number, p->next++, r->wall_ms, r->key, r->body);
	}
	fetch(p);
}

static void fetch(struct place *p)
{
	struct lane_follower *f = p->follower;
	uint64_t late = broker_is_away() ? broker_back_us() - world->now_us : 0;

	if (!p->followed || p->fetching || f->closed || f->paused ||
	    (size_t)p->next >= f->topic->parts[p->number].count)
		return;
	p->fetching = true;
	world_in(late + world_delay_us(), f->loop, on_fetched, p);
}

void follower_appended(const char *topic, int32_t partition)
{
	if (!followers.next)
		return;
	list_each (&followers, at) {
		struct lane_follower *f = container_of(at, struct lane_follower, link);

		if (!f->loop->dead && strcmp(f->topic->name, topic) == 0)
			fetch(&f->places[partition]);
	}
}

static void on_partitions(void *ctx)
{
	struct lane_follower *f = ctx;

	if (!f->closed)
		f->ops->partitions(f->ctx, f->topic->part_count);
}

int lane_follower_open(struct loop *loop, const struct lane_options *kafka, const char *topic,
		       const struct lane_follower_ops *ops, void *ctx, const struct log *log,
		       struct lane_follower **ret_follower)
{
	struct lane_follower *f = mem_new(struct lane_follower);

	(void)kafka;
	(void)log;
	f->loop = loop;
	f->topic = broker_topic(topic);
	f->ops = ops;
	f->ctx = ctx;
	must(f->topic->part_count <= PARTS);
	for (int32_t p = 0; p < PARTS; p++)
		f->places[p] = (struct place){.follower = f, .number = p};
	if (!followers.next)
		list_init(&followers);
	list_push_back(&followers, &f->link);
	world_in(world_between(1000, 100000), loop, on_partitions, f);
	*ret_follower = f;
	return 0;
}

void lane_follow(struct lane_follower *follower, int32_t partition, int64_t offset)
{
	struct place *p = &follower->places[partition];

	p->followed = true;
	p->next = offset < 0 ? 0 : offset;
	fetch(p);
}

void lane_follower_pause(struct lane_follower *follower, bool pause)
{
	follower->paused = pause;
	for (int32_t p = 0; !pause && p < PARTS; p++)
		fetch(&follower->places[p]);
}

void lane_follower_close(struct lane_follower *follower)
{
	if (follower)
		follower->closed = true;
}
