/* The inside of a reader, shared by reader.c (life, records) and group.c (assignment, commits). Only for lib/lane;
 * refuses to be included elsewhere. */
#ifndef SLUICE_LANE_READER_IMPL_H
#define SLUICE_LANE_READER_IMPL_H

#include "lib/base/sm.h"
#include "lib/lane/conf.h"
#include "lib/lane/lookup.h"
#include "lib/lane/partition.h"
#include "lib/net/loop.h"

/* Where the reader stands towards the group.
 *
 *   OUTSIDE ── assigned ──▶ LOOKING (asks what was committed) ──▶ INSIDE ── revoked ──▶ LETTING_GO (commits) ──▶ OUTSIDE
 */
enum group_state { GROUP_OUTSIDE, GROUP_LOOKING, GROUP_INSIDE, GROUP_LETTING_GO };

/* How far its end is: LEAVING unsubscribes first, so that a static member leaves the group too. */
enum end_state { END_NOT, END_LEAVING, END_CLOSING, END_CLOSED };

struct lane_reader {
	struct loop *loop;
	struct log log;
	struct lane_reader_ops ops;
	void *ctx;
	rd_kafka_t *rk;
	rd_kafka_queue_t *events;   /* everything but the records of open partitions */
	rd_kafka_queue_t *consumer; /* forwarded to events */
	struct lane_signal signal;  /* of events and of every partition's queue */
	rd_kafka_event_t *stray; /* one that came out of the wrong queue: the next turn's first */
	struct sm group;
	struct sm end;
	struct lane *lanes;
	size_t lane_count;
	struct window window;
	struct list gone; /* partitions of others whose records are still taken */
	bool assigned;	  /* ever */
	rd_kafka_topic_partition_list_t *incoming; /* while LOOKING */
	uintptr_t question; /* the look-up or commit that is waited for; raised with each */
	struct lookup lookup;
	uintptr_t looked; /* the question that the look-up was begun for */
	size_t commits;	  /* on their way */
	uint64_t commit_us;
	struct timer commit; /* set while something is dirty */
	struct timer step;   /* again or at last: what the group's state waits for */
	struct timer poll;   /* shows librdkafka that we live */
	struct timer ending; /* the end's own patience */
	struct task turn;
	struct task finish;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

/* group.c. Each may be called from the loop only. */
void group_init(struct lane_reader *r);
void group_fini(struct lane_reader *r);
/* Handles a rebalance or a commit's result; false for any other event. */
bool group_event(struct lane_reader *r, rd_kafka_event_t *event);
/* A look-up's answer may be there. */
void group_answer(struct lane_reader *r);
/* Something is to be committed. */
void group_dirty(struct lane_reader *r);
/* The end has begun while an assignment was looked up: gives it back. */
void group_refuse(struct lane_reader *r);
struct partition *group_partition(struct lane_reader *r, const char *topic, int32_t number);

/* reader.c. The group took everything away; the end may go on. */
void reader_outside(struct lane_reader *r);
void reader_trouble(struct lane_reader *r, const char *topic, int32_t partition,
		    rd_kafka_resp_err_t code, const char *text);

#endif
