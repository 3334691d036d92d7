#include <errno.h>
#include <string.h>
#include <time.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/lane/conf.h"

/* How long is waited between two questions. */
#define AGAIN_MS 50

/* A client for blocking questions, with a deadline. There is no loop yet: this is the one place of lib/lane that asks
 * the system for the time. */
struct admin {
	const struct log *log;
	rd_kafka_t *rk;
	rd_kafka_queue_t *queue;
	uint64_t deadline_us;
};

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * US_PER_S + (uint64_t)t.tv_nsec / 1000;
}

static int left_ms(const struct admin *a)
{
	uint64_t now = now_us();

	return now >= a->deadline_us ? 0 : (int)((a->deadline_us - now) / US_PER_MS) + 1;
}

static int admin_open(struct admin *a, const struct lane_options *kafka, uint64_t timeout_us,
		      const struct log *log)
{
	rd_kafka_conf_t *conf;
	int r;

	*a = (struct admin){.log = log, .deadline_us = now_us() + timeout_us};
	r = lane_conf_new(kafka, NULL, 0, log, &conf);
	if (r)
		return err_trace(r);
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG);
	r = lane_handle_new(RD_KAFKA_PRODUCER, conf, log, &a->rk);
	if (r)
		return err_trace(r);
	a->queue = rd_kafka_queue_new(a->rk);
	return 0;
}

static void admin_close(struct admin *a)
{
	if (a->queue)
		rd_kafka_queue_destroy(a->queue);
	if (a->rk)
		rd_kafka_destroy(a->rk);
}

/* librdkafka's own words, and the pause between two questions. */
static void admin_pause(struct admin *a)
{
	rd_kafka_queue_t *main = rd_kafka_queue_get_main(a->rk);
	rd_kafka_event_t *event;

	while ((event = rd_kafka_queue_poll(main, 0))) {
		lane_log_event(a->log, event);
		rd_kafka_event_destroy(event);
	}
	rd_kafka_queue_destroy(main);
	event = rd_kafka_queue_poll(a->queue, AGAIN_MS);
	if (event)
		rd_kafka_event_destroy(event);
}

/* NULL where no broker answered in time; freed with rd_kafka_metadata_destroy. */
static const struct rd_kafka_metadata *admin_metadata(struct admin *a)
{
	const struct rd_kafka_metadata *metadata = NULL;
	int ms;

	while ((ms = left_ms(a)) > 0) {
		if (!rd_kafka_metadata(a->rk, 1, NULL, &metadata, ms < 1000 ? ms : 1000))
			return metadata;
		admin_pause(a);
	}
	return NULL;
}

static const rd_kafka_metadata_topic_t *topic_find(const struct rd_kafka_metadata *metadata,
						   const char *name)
{
	for (int i = 0; i < metadata->topic_cnt; i++)
		if (strcmp(metadata->topics[i].topic, name) == 0 && !metadata->topics[i].err)
			return &metadata->topics[i];
	return NULL;
}

/* All its partitions have a leader. */
static bool topic_answers(const struct rd_kafka_metadata *metadata, const struct lane_topic *topic)
{
	const rd_kafka_metadata_topic_t *found = topic_find(metadata, topic->name);

	if (!found || found->partition_cnt < topic->partitions)
		return false;
	for (int i = 0; i < found->partition_cnt; i++)
		if (found->partitions[i].leader < 0)
			return false;
	return true;
}

static int result_check(struct admin *a, const rd_kafka_topic_result_t *const *results,
			size_t count)
{
	int r = 0;

	for (size_t i = 0; i < count; i++) {
		rd_kafka_resp_err_t code = rd_kafka_topic_result_error(results[i]);

		if (!code || code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
			continue;
		log_error(a->log, "topic_refused",
			  F_STR("topic", rd_kafka_topic_result_name(results[i])),
			  F_STR("name", rd_kafka_err2name(code)),
			  F_STR("text", rd_kafka_topic_result_error_string(results[i])));
		r = -EPROTO;
	}
	return r ? err_origin(r) : 0;
}

/* The answer to a request that was just made. */
static int result_wait(struct admin *a)
{
	rd_kafka_event_t *event = rd_kafka_queue_poll(a->queue, left_ms(a));
	const rd_kafka_topic_result_t **results;
	size_t count = 0;
	int r;

	if (!event)
		return err_origin(-ETIMEDOUT);
	if (rd_kafka_event_error(event)) {
		log_error(a->log, "kafka_refused",
			  F_STR("text", rd_kafka_event_error_string(event)));
		rd_kafka_event_destroy(event);
		return err_origin(-EPROTO);
	}
	if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_CREATETOPICS_RESULT)
		results = rd_kafka_CreateTopics_result_topics(
		    rd_kafka_event_CreateTopics_result(event), &count);
	else
		results = rd_kafka_CreatePartitions_result_topics(
		    rd_kafka_event_CreatePartitions_result(event), &count);
	r = result_check(a, results, count);
	rd_kafka_event_destroy(event);
	return r ? err_trace(r) : 0;
}

static int topic_create(struct admin *a, const struct lane_topic *topic)
{
	char why[256];
	rd_kafka_NewTopic_t *fresh = rd_kafka_NewTopic_new(topic->name, topic->partitions,
							   topic->replication, why, sizeof(why));
	int r;

	if (!fresh) {
		log_error(a->log, "topic_refused", F_STR("topic", topic->name), F_STR("text", why));
		return err_origin(-EINVAL);
	}
	for (size_t i = 0; i < topic->setting_count; i++)
		rd_kafka_NewTopic_set_config(fresh, topic->settings[i].name,
					     topic->settings[i].value);
	rd_kafka_CreateTopics(a->rk, &fresh, 1, NULL, a->queue);
	r = result_wait(a);
	rd_kafka_NewTopic_destroy(fresh);
	return r ? err_trace(r) : 0;
}

static int topic_grow(struct admin *a, const struct lane_topic *topic)
{
	char why[256];
	rd_kafka_NewPartitions_t *more =
	    rd_kafka_NewPartitions_new(topic->name, (size_t)topic->partitions, why, sizeof(why));
	int r;

	if (!more) {
		log_error(a->log, "topic_refused", F_STR("topic", topic->name), F_STR("text", why));
		return err_origin(-EINVAL);
	}
	rd_kafka_CreatePartitions(a->rk, &more, 1, NULL, a->queue);
	r = result_wait(a);
	rd_kafka_NewPartitions_destroy(more);
	return r ? err_trace(r) : 0;
}

static int topics_make(struct admin *a, const struct lane_topic *topics, size_t count)
{
	const struct rd_kafka_metadata *metadata = admin_metadata(a);
	int r = 0;

	if (!metadata) {
		log_error(a->log, "kafka_silent");
		return err_origin(-ETIMEDOUT);
	}
	for (size_t i = 0; !r && i < count; i++) {
		const rd_kafka_metadata_topic_t *found = topic_find(metadata, topics[i].name);

		if (!found)
			r = topic_create(a, &topics[i]);
		else if (found->partition_cnt < topics[i].partitions)
			r = topic_grow(a, &topics[i]);
	}
	rd_kafka_metadata_destroy(metadata);
	return r ? err_trace(r) : 0;
}

static int topics_wait(struct admin *a, const struct lane_topic *topics, size_t count)
{
	const struct rd_kafka_metadata *metadata;

	while ((metadata = admin_metadata(a))) {
		size_t ready = 0;

		while (ready < count && topic_answers(metadata, &topics[ready]))
			ready++;
		rd_kafka_metadata_destroy(metadata);
		if (ready == count)
			return 0;
		admin_pause(a);
	}
	log_error(a->log, "topics_without_leader");
	return err_origin(-ETIMEDOUT);
}

int lane_topics_apply(const struct lane_options *kafka, const struct lane_topic *topics,
		      size_t count, uint64_t timeout_us, const struct log *log)
{
	struct admin a;
	int r = admin_open(&a, kafka, timeout_us, log);

	if (!r)
		r = topics_make(&a, topics, count);
	if (!r)
		r = topics_wait(&a, topics, count);
	admin_close(&a);
	return r ? err_trace(r) : 0;
}

int lane_kafka_wait(const struct lane_options *kafka, uint64_t timeout_us, const struct log *log)
{
	struct admin a;
	const struct rd_kafka_metadata *metadata;
	int r = admin_open(&a, kafka, timeout_us, log);

	if (!r) {
		metadata = admin_metadata(&a);
		if (metadata)
			rd_kafka_metadata_destroy(metadata);
		else
			r = err_origin(-ETIMEDOUT);
	}
	admin_close(&a);
	return r ? err_trace(r) : 0;
}
