/* The words of sluicectl: each is a function of its own file. Refuses to know how the command line was read. */
#ifndef SLUICE_OPS_CTL_H
#define SLUICE_OPS_CTL_H

#include <stdbool.h>

#include "lib/base/log.h"
#include "lib/svc/stores.h"

struct config;

/* What the command line said; NULL and 0 where it said nothing. */
struct ctl {
	const struct config *config; /* NULL for words that need none */
	const struct log *log;
	long replication;
	long timeout_ms;
	const char *org;
	const char *name;
	const char *front;
	const char *key;
	const char *lane;
	const char *model;
	const char *task;
	const char *text; /* what to say; a job's id */
	const char *fault;
	const char *since; /* RFC 3339 */
	long limit;
	long shards; /* partitions of a lane that one organisation's jobs use */
	bool json;
	bool all;
	bool without_session;
};

/* Each returns the exit code of the command. */
int ctl_topics_apply(const struct ctl *ctl);
int ctl_kafka_wait(const struct ctl *ctl);
int ctl_migrate(const struct ctl *ctl);
int ctl_keys_add(const struct ctl *ctl);
int ctl_chat(const struct ctl *ctl);
int ctl_depth(const struct ctl *ctl);
int ctl_dead_list(const struct ctl *ctl);
int ctl_dead_show(const struct ctl *ctl);
int ctl_dead_redrive(const struct ctl *ctl);
int ctl_dead_drop(const struct ctl *ctl);
int ctl_webhooks_list(const struct ctl *ctl);
int ctl_webhooks_retry(const struct ctl *ctl);
int ctl_webhooks_secret(const struct ctl *ctl);
int ctl_webhooks_rotate(const struct ctl *ctl);
int ctl_webhooks_retire(const struct ctl *ctl);

/* How the configuration reaches Kafka. */
static inline struct lane_options ctl_kafka(const struct ctl *ctl)
{
	return stores_kafka(ctl->config, "sluicectl");
}

#endif
