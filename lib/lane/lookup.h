/* What a group committed for some partitions, with the sets of completed offsets: one question at a time, asked by a thread of its own
 * with the call that blocks. The administration call that would do it without a thread ends the whole process in librdkafka 2.0.2
 * when the coordinator's connection breaks meanwhile (confluentinc/librdkafka issues 3663, 4605). Refuses to be given up: who asked
 * waits for the answer before the handle goes. Only for lib/lane. */
#ifndef SLUICE_LANE_LOOKUP_H
#define SLUICE_LANE_LOOKUP_H

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

/* Zero-initialised is at rest. */
struct lookup {
	rd_kafka_t *rk;
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_resp_err_t error;
	int wake_fd;
	int timeout_ms;
	pthread_t thread;
	bool asked;	  /* the answer was not taken yet */
	atomic_bool over; /* the thread has written it */
};

/* Asks for what the group of @rk, a consumer, committed for the partitions of @list (copied). A number is written to the eventfd
 * @wake_fd when the answer is there, after @timeout_ms or a little more at most. One question at a time. False where the
 * system has no thread left: nothing was asked. */
bool lookup_ask(struct lookup *l, rd_kafka_t *rk, const rd_kafka_topic_partition_list_t *list,
		int timeout_ms, int wake_fd);
/* True where an answer was there: @ret_list with offset, metadata and error of each partition, the caller's to destroy; @ret_error of
 * the question as a whole. Does not wait. */
bool lookup_take(struct lookup *l, rd_kafka_topic_partition_list_t **ret_list,
		 rd_kafka_resp_err_t *ret_error);

#endif
