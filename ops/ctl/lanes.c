#include <errno.h>
#include <stdio.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/lane/lane.h"
#include "lib/svc/config.h"
#include "ops/ctl/ctl.h"
#include "schemas/lanes.h"

#define APPLY_US (60 * US_PER_S)
#define DEAD_MS "2592000000" /* 30 days */

/* LANE_RECORD_MAX and what a batch has around it. What a request may cause stands in a result: the messages of a turn (a body of 1 MiB,
 * twice that where each character is escaped) beside a text, metadata and calls of less than 1 MiB. */
#define RECORD_BYTES "8454144"

/* Lanes, tiers and results keep what was not read yet: the scheduler deletes, never the broker's clock. */
static const struct lane_setting keep[] = {{"retention.ms", "-1"},
					   {"retention.bytes", "-1"},
					   {"max.message.bytes", RECORD_BYTES},
					   {"cleanup.policy", "delete"}};
static const struct lane_setting keep_replicated[] = {{"retention.ms", "-1"},
						      {"retention.bytes", "-1"},
						      {"max.message.bytes", RECORD_BYTES},
						      {"cleanup.policy", "delete"},
						      {"min.insync.replicas", "2"}};
static const struct lane_setting dead[] = {
    {"retention.ms", DEAD_MS}, {"max.message.bytes", RECORD_BYTES}, {"cleanup.policy", "delete"}};

static void describe(enum topic topic, int16_t replication, struct lane_topic *ret_topic)
{
	const struct topic_info *info = topic_info(topic);

	ret_topic->partitions = info->partitions;
	ret_topic->replication = replication;
	if (info->kind == TOPIC_KIND_DEAD) {
		ret_topic->settings = dead;
		ret_topic->setting_count = countof(dead);
	} else if (replication >= 3) {
		ret_topic->settings = keep_replicated;
		ret_topic->setting_count = countof(keep_replicated);
	} else {
		ret_topic->settings = keep;
		ret_topic->setting_count = countof(keep);
	}
}

int ctl_topics_apply(const struct ctl *ctl)
{
	struct lane_options kafka = ctl_kafka(ctl);
	struct lane_topic topics[TOPIC_COUNT] = {0};
	char *names[TOPIC_COUNT];
	int r;

	for (int t = 0; t < TOPIC_COUNT; t++) {
		names[t] = topic_full(ctl->config->kafka.topic_prefix, (enum topic)t);
		topics[t].name = names[t];
		describe((enum topic)t, ctl->replication ? (int16_t)ctl->replication : 1,
			 &topics[t]);
	}
	r = lane_topics_apply(&kafka, topics, TOPIC_COUNT,
			      ctl->timeout_ms ? (uint64_t)ctl->timeout_ms * US_PER_MS : APPLY_US,
			      ctl->log);
	if (r < 0)
		log_error(ctl->log, "topics not applied", F_ERR(r));
	else
		for (int t = 0; t < TOPIC_COUNT; t++)
			printf("%s %d\n", names[t], topics[t].partitions);
	for (int t = 0; t < TOPIC_COUNT; t++)
		mem_free(names[t]);
	return r < 0 ? 1 : 0;
}

int ctl_kafka_wait(const struct ctl *ctl)
{
	struct lane_options kafka = ctl_kafka(ctl);
	int r = lane_kafka_wait(
	    &kafka, ctl->timeout_ms ? (uint64_t)ctl->timeout_ms * US_PER_MS : 30 * US_PER_S,
	    ctl->log);

	if (r < 0)
		log_error(ctl->log, "kafka does not answer", F_ERR(r));
	return r < 0 ? 1 : 0;
}
