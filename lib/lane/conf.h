/* What writer, reader, follower and administration share: librdkafka's configuration, its wake-ups on our loop, and
 * what is read from its statistics. Only for lib/lane. Refuses to know a record. */
#ifndef SLUICE_LANE_CONF_H
#define SLUICE_LANE_CONF_H

#include <librdkafka/rdkafka.h>

#include "lib/lane/lane.h"

struct loop;
struct watch;

/* What @options and @ours say; the settings of @options win. -EINVAL with a log line for a name or value that
 * librdkafka does not take. The caller owns the configuration until it gives it to lane_handle_new. */
must_check int lane_conf_new(const struct lane_options *options, const struct lane_setting *ours,
			     size_t count, const struct log *log, rd_kafka_conf_t **ret_conf);

/* Takes @conf in any case. -EINVAL with a log line where librdkafka refuses it. */
must_check int lane_handle_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, const struct log *log,
			       rd_kafka_t **ret_handle);

/* A copy that outlives the caller's options; freed with lane_options_fini. */
void lane_options_copy(struct lane_options *to, const struct lane_options *from);
void lane_options_fini(struct lane_options *options);

/* An eventfd that librdkafka writes to when a queue stops being empty. Edge-triggered: after a wake-up the queue must
 * be emptied, or looked at again without being asked. */
struct lane_signal {
	int fd;
	struct watch *watch;
	void (*wake)(void *ctx);
	void *ctx;
};
/* @wake comes from the loop. -errno where the system has no descriptor left. */
must_check int lane_signal_open(struct lane_signal *s, struct loop *loop, void (*wake)(void *ctx),
				void *ctx);
/* Safe for a zeroed one. Queues are let go of first. */
void lane_signal_close(struct lane_signal *s);
void lane_signal_attach(struct lane_signal *s, rd_kafka_queue_t *queue);
void lane_signal_detach(rd_kafka_queue_t *queue);

/* Logs librdkafka's own line at debug. */
void lane_log_event(const struct log *log, rd_kafka_event_t *event);

/* True for what waiting does not heal: an operator must act. */
bool lane_error_is_trouble(rd_kafka_resp_err_t code);

/* From librdkafka's statistics (a JSON object): the number of partitions of @topic, 0 where unknown. */
int32_t lane_stats_partitions(const char *json, const char *topic);
/* A broker is connected, and an idempotent producer has its id. */
bool lane_stats_ready(const char *json);

#endif
