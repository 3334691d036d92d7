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
	bool read;	   /* somebody reads it, and began */
	bool unknown;	   /* PostgreSQL does not say how far it was read */
	int64_t low, base, end, depth, beyond;
	int32_t partitions;
	uint64_t oldest_ms;
};

/* The archive's next offset in one partition; -1: it has none yet. */
struct archived {
	bool ended;
	bool known;
	int64_t offset;
};

static void on_archived(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct archived *a = ctx;

	a->ended = true;
	a->known = result == PG_OK;
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
	d->unknown = !a.known;
	return a.offset;
}

/* Where the reader is: the group's commit, or what the archive wrote; not asked for again where one partition's did not come. */
static int64_t base_of(struct depth *d, const struct lane_look *look)
{
	if (d->group)
		return look->committed;
	return d->unknown ? -1 : archived(d, look->partition);
}

static void on_look(void *ctx, const struct lane_look *look)
{
	struct depth *d = ctx;
	int64_t base = base_of(d, look);
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

static uint64_t age_ms(const struct depth *d)
{
	struct timespec t;
	uint64_t now;

	clock_gettime(CLOCK_REALTIME, &t);
	now = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
	return d->oldest_ms && now > d->oldest_ms ? now - d->oldest_ms : 0;
}

static void say_row(const struct depth *d, const char *reader)
{
	if (d->unknown)
		printf("%-24s %-16s %10s %10s %10s\n", d->topic, reader, "unknown", "unknown",
		       "unknown");
	else
		printf("%-24s %-16s %10lld %10lld %10.1f\n", d->topic, reader, (long long)d->depth,
		       (long long)d->beyond, (double)age_ms(d) / 1000);
}

static void say_json(const struct depth *d, const char *reader)
{
	struct buf out = {0};
	struct json_out o = {.buf = &out};

	json_open(&o, '{');
	json_put_text(&o, "topic", d->topic);
	json_put_text(&o, "group", reader);
	json_put_int(&o, "partitions", d->partitions);
	json_put_int(&o, "low", d->low);
	json_put_int(&o, "end", d->end);
	if (d->unknown) {
		json_put_null(&o, "base");
		json_put_null(&o, "depth");
		json_put_null(&o, "completed_beyond_base");
		json_put_null(&o, "oldest_ms");
	} else {
		json_put_int(&o, "base", d->read ? d->base : -1);
		json_put_int(&o, "depth", d->depth);
		json_put_int(&o, "completed_beyond_base", d->beyond);
		json_put_int(&o, "oldest_ms", (int64_t)age_ms(d));
	}
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
	if (all->ctl->json)
		say_json(&d, d.group ? d.group : "archive");
	else
		say_row(&d, d.group ? d.group : "archive");
	fflush(stdout);
	all->unknown |= d.unknown;
	return 0;
}

/* The topics whose readers' places are in Kafka (not @archive), or in PostgreSQL. */
static int some(struct depth *all, const struct lane_options *kafka, bool archive)
{
	int r = 0;

	for (int t = 0; !r && t < TOPIC_COUNT; t++)
		if ((topic_info((enum topic)t)->kind == TOPIC_KIND_RESULT) == archive)
			r = one(all, kafka, (enum topic)t);
	return err_trace(r);
}

int ctl_depth(const struct ctl *ctl)
{
	struct lane_options kafka = ctl_kafka(ctl);
	struct pg_options options = pg_defaults();
	struct depth d = {.ctl = ctl, .loop = loop_new(0)};
	int r;

	options.conninfo = ctl->config->postgres.conninfo;
	options.connections = 1;
	if (!ctl->json)
		printf("%-24s %-16s %10s %10s %10s\n", "topic", "reader", "depth", "beyond",
		       "oldest_s");
	r = some(&d, &kafka, false);
	if (r >= 0)
		r = pg_open(d.loop, &options, ctl->log, &d.pg);
	if (r >= 0)
		r = some(&d, &kafka, true);
	if (r < 0)
		log_error(ctl->log, "depth not known", F_ERR(r));
	if (d.unknown)
		log_error(ctl->log, "PostgreSQL does not say how far the archive is");
	pg_close(d.pg);
	loop_free(d.loop);
	return r < 0 || d.unknown ? 1 : 0;
}
