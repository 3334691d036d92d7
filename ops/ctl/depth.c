/* Depth: how much of each topic its readers have not completed, from offsets and commit metadata alone. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/lane/done.h"
#include "lib/lane/lane.h"
#include "lib/net/loop.h"
#include "lib/store/pg.h"
#include "lib/svc/config.h"
#include "ops/ctl/ctl.h"
#include "schemas/lanes.h"

#define LOOK_US (30 * US_PER_S)
#define TURN_US (100 * US_PER_MS)

/* What is added up over a topic's partitions. */
struct depth {
	const struct ctl *ctl;
	struct pg *pg;
	struct loop *loop;
	const char *topic;
	const char *group; /* NULL: the archive, whose place is in PostgreSQL */
	bool read;	   /* somebody reads it and its place is known */
	int64_t low, base, end, depth, beyond;
	int32_t partitions;
	uint64_t oldest_ms;
};

/* The archive's next offset in one partition, or -1. */
struct archived {
	bool ended;
	int64_t offset;
};

static void on_archived(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct archived *a = ctx;

	a->ended = true;
	a->offset = result == PG_OK ? pg_int(rows, 0, 0, -1) : -1;
}

static int64_t archived(struct depth *d, int32_t partition)
{
	struct archived a = {.offset = -1};
	char number[16];
	const struct str params[] = {
	    str_of(d->topic), {number, (size_t)snprintf(number, sizeof(number), "%d", partition)}};

	pg_query(d->pg,
		 "SELECT next_offset FROM lane_offsets WHERE reader = 'archive' AND topic = $1 "
		 "AND partition = $2::int",
		 params, 2, on_archived, &a);
	while (!a.ended)
		loop_turn(d->loop, TURN_US);
	return a.offset;
}

static void on_look(void *ctx, const struct lane_look *look)
{
	struct depth *d = ctx;
	int64_t base = d->group ? look->committed : archived(d, look->partition);
	int64_t from = base > look->low ? base : look->low;
	struct done done;

	done_init(&done, from);
	if (base >= look->low && done_decode(&done, base, look->text) != DONE_OK)
		log_warn(d->ctl->log, "commit cannot be read", F_STR("topic", d->topic),
			 F_INT("partition", look->partition));
	d->partitions++;
	d->read |= base >= 0;
	d->low += look->low;
	d->base += from;
	d->end += look->end;
	d->beyond += done_above(&done);
	if (look->end > from)
		d->depth += look->end - from - done_above(&done);
	if (look->oldest_ms && d->group && (!d->oldest_ms || look->oldest_ms < d->oldest_ms))
		d->oldest_ms = look->oldest_ms;
	done_fini(&done);
}

static void say(const struct depth *d, const char *reader, bool json)
{
	struct timespec t;
	uint64_t now;
	struct buf out = {0};
	struct json_out o = {.buf = &out};

	clock_gettime(CLOCK_REALTIME, &t);
	now = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
	if (!json) {
		printf("%-24s %-16s %10lld %10lld %10.1f\n", d->topic, reader, (long long)d->depth,
		       (long long)d->beyond,
		       d->oldest_ms && now > d->oldest_ms ? (double)(now - d->oldest_ms) / 1000
							  : 0.0);
		return;
	}
	json_open(&o, '{');
	json_put_text(&o, "topic", d->topic);
	json_put_text(&o, "group", reader);
	json_put_int(&o, "partitions", d->partitions);
	json_put_int(&o, "low", d->low);
	json_put_int(&o, "base", d->read ? d->base : -1);
	json_put_int(&o, "end", d->end);
	json_put_int(&o, "depth", d->depth);
	json_put_int(&o, "completed_beyond_base", d->beyond);
	json_put_int(&o, "oldest_ms",
		     d->oldest_ms && now > d->oldest_ms ? (int64_t)(now - d->oldest_ms) : 0);
	json_close(&o, '}');
	printf("%s\n", buf_text(&out));
	buf_fini(&out);
}

static int one(struct depth *all, const struct lane_options *kafka, enum topic topic)
{
	const char *prefix = all->ctl->config->kafka.topic_prefix;
	enum topic_kind kind = topic_info(topic)->kind;
	cleanup_free char *name = topic_full(prefix, topic);
	cleanup_free char *group =
	    mem_printf("%s%s", prefix, kind == TOPIC_KIND_WORK ? "pool-llm" : "scheduler");
	struct depth d = {
	    .ctl = all->ctl, .pg = all->pg, .loop = all->loop, .topic = name, .group = group};
	int r;

	if (kind == TOPIC_KIND_DEAD)
		return 0; /* nobody reads them as a line: sluicectl dead list */
	if (kind == TOPIC_KIND_RESULT)
		d.group = NULL;
	r = lane_look(kafka, name, d.group,
		      all->ctl->timeout_ms ? (uint64_t)all->ctl->timeout_ms * US_PER_MS : LOOK_US,
		      all->ctl->log, on_look, &d);
	if (r < 0)
		return err_trace(r);
	say(&d, d.group ? d.group : "archive", all->ctl->json);
	return 0;
}

int ctl_depth(const struct ctl *ctl)
{
	struct lane_options kafka = ctl_kafka(ctl);
	struct pg_options options = pg_defaults();
	struct depth d = {.ctl = ctl, .loop = loop_new(0)};
	int r;

	options.conninfo = ctl->config->postgres.conninfo;
	options.connections = 1;
	r = pg_open(d.loop, &options, ctl->log, &d.pg);
	if (!r && !ctl->json)
		printf("%-24s %-16s %10s %10s %10s\n", "topic", "reader", "depth", "beyond",
		       "oldest_s");
	for (int t = 0; !r && t < TOPIC_COUNT; t++)
		r = one(&d, &kafka, (enum topic)t);
	if (r < 0)
		log_error(ctl->log, "depth not known", F_ERR(r));
	pg_close(d.pg);
	loop_free(d.loop);
	return r < 0 ? 1 : 0;
}
