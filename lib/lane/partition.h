/* One assigned partition inside a reader: the records of it that are buffered or taken, and the set of completed ones.
 * Only for lib/lane. Refuses to talk to Kafka: the reader brings messages and commits the set.
 *
 *        assigned            revoked: may come back                 assigned to another
 *   ───▶ PARTITION_OPEN ───▶ PARTITION_LIMBO ────────────────────▶ PARTITION_GONE
 *               ▲ with the next assignment │                        (lives until its last taken record is given back)
 *               └──────────────────────────┘
 *
 * `range` takes every partition away at every rebalance and mostly gives it back. What was taken or buffered of one that
 * comes back is still good, so limbo keeps it: work is neither handed out twice nor fetched twice. */
#ifndef SLUICE_LANE_PARTITION_H
#define SLUICE_LANE_PARTITION_H

#include <librdkafka/rdkafka.h>

#include "lib/base/list.h"
#include "lib/lane/done.h"
#include "lib/lane/lane.h"

struct lane;

/* What the lanes of a reader may hold in all, and each of them whatever the others hold: a lane that nobody drains cannot take
 * the last room of another. */
struct window {
	const struct lane *lanes;
	size_t lane_count;
	size_t records;
	size_t bytes;
	size_t least; /* records of each lane */
	size_t least_bytes;
};

/* One topic of a reader. */
struct lane {
	struct lane_reader *reader;
	size_t index;
	char *topic;
	rd_kafka_topic_t *handle; /* keeps its partitions and their leaders known */
	struct list partitions;	  /* open and in limbo, in the order of their turns */
	size_t partition_count;
	size_t held; /* records buffered or taken */
	size_t held_bytes;
	const struct window *window;
	bool hungry; /* lane_take found nothing: tell when there is something */
};

enum partition_state { PARTITION_OPEN, PARTITION_LIMBO, PARTITION_GONE };

struct partition {
	struct list link;  /* in the lane's partitions, or in the reader's gone */
	struct lane *lane; /* NULL after the reader */
	int32_t number;
	enum partition_state state;
	rd_kafka_queue_t *queue; /* while open */
	struct done done;
	bool based;    /* the base is known: a commit or a record was seen */
	int64_t next;  /* the first offset not seen; meaningless before based */
	size_t open;   /* offsets taken and not completed, dropped ones among them, held ones not */
	size_t parked; /* of the open ones: their owner waits with them for long */
	struct list ready;
	size_t ready_count;
	struct list taken; /* by offset */
	size_t taken_count;
	bool pending; /* librdkafka's queue may hold something */
	bool dirty;   /* the set differs from what was committed */
};

/* In limbo, with nothing known; owned by the lane. */
struct partition *partition_new(struct lane *lane, int32_t number);
/* Forgets what is buffered, and frees it now or with its last taken record. The queue was let go of before. */
void partition_gone(struct partition *p, struct list *gone);
/* The reader ends: gone ones live on without it. */
void partition_orphan(struct partition *p);
/* Takes in what the group committed for it; nothing where @base is negative. */
must_check enum done_result partition_learn(struct partition *p, int64_t base, struct str text);
/* One record from Kafka; copied. Seen and completed ones are passed over; a gap in the offsets counts as completed when the
 * record behind it is taken. */
void partition_ingest(struct partition *p, const rd_kafka_message_t *m);
/* There is room for a record of this lane. */
bool lane_has_room(const struct lane *lane);
/* There is room for more of it. */
bool partition_wants(const struct partition *p);
/* lane_take would find a record here. */
bool partition_has(const struct partition *p);
/* NULL where there is none now. */
struct lane_record *partition_take(struct partition *p);
void partition_depth(const struct partition *p, struct lane_depth *sum);

/* Implemented by the reader: room came back, and with @dirty something is to be committed. */
void lane_reader_changed(struct lane_reader *reader, bool dirty);

#endif
