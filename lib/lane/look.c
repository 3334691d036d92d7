/* Looking at topics from outside a group: blocking, for tools. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/lane/conf.h"

#define POLL_MS 100
#define ASK_MS 2000

struct looker {
	const struct log *log;
	const char *topic;
	rd_kafka_t *rk;
	rd_kafka_topic_t *handle;
	uint64_t deadline_us;
};

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * US_PER_S + (uint64_t)t.tv_nsec / 1000;
}

static bool in_time(const struct looker *l)
{
	return now_us() < l->deadline_us;
}

/* @group: NULL for none. */
static int looker_open(struct looker *l, const struct lane_options *kafka, const char *topic,
		       const char *group, uint64_t timeout_us, const struct log *log)
{
	const struct lane_setting ours[] = {
	    {"group.id", group},
	    {"auto.offset.reset", "error"},
	    {"isolation.level", "read_uncommitted"},
	    {"fetch.wait.max.ms", "50"},
	    {"enable.auto.commit", "false"},
	    {"enable.auto.offset.store", "false"},
	};
	rd_kafka_conf_t *conf;
	int r;

	*l = (struct looker){.log = log, .topic = topic, .deadline_us = now_us() + timeout_us};
	r = lane_conf_new(kafka, ours, countof(ours), log, &conf);
	if (r)
		return err_trace(r);
	r = lane_handle_new(RD_KAFKA_CONSUMER, conf, log, &l->rk);
	if (r)
		return err_trace(r);
	l->handle = rd_kafka_topic_new(l->rk, topic, NULL);
	return l->handle ? 0 : err_origin(-EINVAL);
}

static void looker_close(struct looker *l)
{
	if (l->handle)
		rd_kafka_topic_destroy(l->handle);
	if (l->rk)
		rd_kafka_destroy(l->rk);
}

/* The number of partitions, or -errno. */
static int partitions(struct looker *l)
{
	const struct rd_kafka_metadata *metadata;
	int count = 0;

	while (in_time(l)) {
		if (rd_kafka_metadata(l->rk, 0, l->handle, &metadata, ASK_MS))
			continue;
		if (metadata->topic_cnt == 1 && !metadata->topics[0].err)
			count = metadata->topics[0].partition_cnt;
		rd_kafka_metadata_destroy(metadata);
		return count ? count : err_origin(-ENOENT);
	}
	return err_origin(-ETIMEDOUT);
}

static int watermarks(struct looker *l, int32_t partition, int64_t *ret_low, int64_t *ret_end)
{
	while (in_time(l))
		if (!rd_kafka_query_watermark_offsets(l->rk, l->topic, partition, ret_low, ret_end,
						      ASK_MS))
			return 0;
	return err_origin(-ETIMEDOUT);
}

static bool offset_gone(rd_kafka_resp_err_t error)
{
	return error == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE ||
	       error == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET;
}

/* Behind records that were deleted after @from was learned (a lane is trimmed while somebody looks): *@from is the first that is there, 1;
 * 0 where none before @end is; -errno. */
static int step_over(struct looker *l, int32_t partition, int64_t *from, int64_t end)
{
	int64_t low, now_end;
	int r = watermarks(l, partition, &low, &now_end);

	if (r)
		return r;
	if (low <= *from)
		return err_origin(-EIO); /* the log ends before what was there */
	*from = low;
	if (low >= end)
		return 0;
	return rd_kafka_consume_start(l->handle, partition, low) ? err_origin(-EIO) : 1;
}

/* Records of one partition from @from on, until @each says false or @end is reached. */
static int read_from(struct looker *l, int32_t partition, int64_t from, int64_t end,
		     bool (*each)(void *ctx, const rd_kafka_message_t *m), void *ctx)
{
	int r = 1; /* 1: it is being read */

	if (from >= end)
		return 0;
	if (rd_kafka_consume_start(l->handle, partition, from))
		return err_origin(-EIO);
	while (r > 0) {
		rd_kafka_message_t *m = rd_kafka_consume(l->handle, partition, POLL_MS);
		bool more = true;

		rd_kafka_poll(l->rk, 0);
		if (m && !m->err) {
			more = each(ctx, m) && m->offset + 1 < end;
			from = m->offset + 1;
			if (more && !in_time(l)) {
				more = false;
				r = err_origin(-ETIMEDOUT);
			}
		} else if (m && offset_gone(m->err)) {
			rd_kafka_consume_stop(l->handle, partition);
			r = step_over(l, partition, &from, end);
		} else if (m && lane_error_is_trouble(m->err)) {
			log_error(l->log, "partition not read", F_STR("topic", l->topic),
				  F_INT("partition", partition),
				  F_STR("why", rd_kafka_err2name(m->err)));
			more = false;
			r = err_origin(-EIO);
		} else if (!in_time(l)) {
			more = false;
			r = err_origin(-ETIMEDOUT);
		}
		if (m)
			rd_kafka_message_destroy(m);
		if (!more) {
			rd_kafka_consume_stop(l->handle, partition);
			r = r < 0 ? r : 0;
		}
	}
	return r;
}

/* ── lane_look ── */

/* What the group committed for each partition; freed by the caller. NULL where Kafka does not answer. (Not the administration call:
 * lookup.h says why.) */
static rd_kafka_topic_partition_list_t *commits(struct looker *l, int count)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(count);
	rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR__TIMED_OUT;

	rd_kafka_topic_partition_list_add_range(list, l->topic, 0, count - 1);
	while (error && in_time(l))
		error = rd_kafka_committed(l->rk, list, ASK_MS);
	if (!error)
		return list;
	log_error(l->log, "group_refused", F_STR("why", rd_kafka_err2name(error)));
	rd_kafka_topic_partition_list_destroy(list);
	return NULL;
}

static void fill_commit(struct lane_look *look, const rd_kafka_topic_partition_list_t *list)
{
	const rd_kafka_topic_partition_t *p = list ? &list->elems[look->partition] : NULL;

	if (!p || p->err || p->offset < 0)
		return;
	look->committed = p->offset;
	look->text = (struct str){p->metadata ? p->metadata : "", p->metadata_size};
}

static bool on_oldest(void *ctx, const rd_kafka_message_t *m)
{
	rd_kafka_timestamp_type_t type;
	int64_t ms = rd_kafka_message_timestamp(m, &type);

	*(uint64_t *)ctx = ms > 0 ? (uint64_t)ms : 0;
	return false;
}

int lane_look(const struct lane_options *kafka, const char *topic, const char *group,
	      uint64_t timeout_us, const struct log *log,
	      void (*each)(void *ctx, const struct lane_look *look), void *ctx)
{
	struct looker l;
	rd_kafka_topic_partition_list_t *committed = NULL;
	int r = looker_open(&l, kafka, topic, group, timeout_us, log);
	int count = r ? 0 : partitions(&l);

	if (count < 0)
		r = count;
	if (!r && group && !(committed = commits(&l, count)))
		r = err_origin(-ETIMEDOUT);
	for (int32_t i = 0; !r && i < count; i++) {
		struct lane_look look = {
		    .topic = topic, .partition = i, .committed = -1, .text = STR("")};
		int64_t from;

		r = watermarks(&l, i, &look.low, &look.end);
		if (r)
			break;
		fill_commit(&look, committed);
		from = look.committed > look.low ? look.committed : look.low;
		r = read_from(&l, i, from, look.end, on_oldest, &look.oldest_ms);
		if (!r)
			each(ctx, &look);
	}
	if (committed)
		rd_kafka_topic_partition_list_destroy(committed);
	looker_close(&l);
	return r ? err_trace(r) : 0;
}

/* ── lane_scan ── */

struct scan {
	bool (*each)(void *ctx, int32_t partition, int64_t offset, uint64_t wall_ms, struct str key,
		     struct str body);
	void *ctx;
	bool ended;
};

static bool on_scan(void *ctx, const rd_kafka_message_t *m)
{
	struct scan *s = ctx;
	uint64_t wall_ms = 0;

	on_oldest(&wall_ms, m);
	s->ended = !s->each(s->ctx, m->partition, m->offset, wall_ms,
			    (struct str){m->key ? m->key : "", m->key_len},
			    (struct str){m->payload ? m->payload : "", m->len});
	return !s->ended;
}

int lane_scan(const struct lane_options *kafka, const char *topic, uint64_t timeout_us,
	      const struct log *log,
	      bool (*each)(void *ctx, int32_t partition, int64_t offset, uint64_t wall_ms,
			   struct str key, struct str body),
	      void *ctx)
{
	struct looker l;
	struct scan s = {.each = each, .ctx = ctx};
	int r = looker_open(&l, kafka, topic, NULL, timeout_us, log);
	int count = r ? 0 : partitions(&l);

	if (count < 0)
		r = count;
	for (int32_t i = 0; !r && !s.ended && i < count; i++) {
		int64_t low, end;

		r = watermarks(&l, i, &low, &end);
		if (!r)
			r = read_from(&l, i, low, end, on_scan, &s);
	}
	looker_close(&l);
	return r ? err_trace(r) : 0;
}
