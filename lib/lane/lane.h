/* Lanes: records on Kafka topics, written with acknowledgement and read with out-of-order completion. The only folder
 * that knows Kafka. It moves bytes and headers and refuses to know what they mean.
 *
 *   lane_writer  ── lane_write ──▶ broker (acks=all, idempotent) ──▶ written(…) with partition and offset
 *   lane_reader  ◀─ group member: records of several topics, taken by the owner lane by lane; each record is completed in
 *                   any order by lane_record_done; commits carry the base offset and the set of completed ones
 *   lane_follower ◀ a reader without a group whose offsets the owner keeps elsewhere (archive: in PostgreSQL)
 */
#ifndef SLUICE_LANE_LANE_H
#define SLUICE_LANE_LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/log.h"
#include "lib/base/str.h"

struct loop;

struct lane_header {
	struct str name;
	struct str value;
};

/* One of librdkafka's own settings. */
struct lane_setting {
	const char *name;
	const char *value;
};

/* How to reach Kafka. Views and strings live as long as the options are used (open copies them). */
struct lane_options {
	const char *brokers; /* "127.0.0.1:9092,…" */
	const char *client_id;
	/* librdkafka's own settings, passed through (SASL, TLS …); a name that it does not know is -EINVAL with a log
	 * line. They win over ours. */
	const struct lane_setting *settings;
	size_t setting_count;
};

/* ── writing ─────────────────────────────────────────────────────────────────────────────────────────── */

enum lane_written {
	LANE_WRITTEN = 0, /* acknowledged by all in-sync replicas */
	LANE_NOT_WRITTEN, /* provably not in the log */
	LANE_UNKNOWN,	  /* timed out: may be in the log */
	LANE_TOO_BIG,	  /* larger than the broker takes: not in the log */
};

struct lane_writer_options {
	struct lane_options kafka;
	uint64_t timeout_us; /* 5 s: from lane_write to the last word */
	size_t max_pending; /* 100000 records in flight; above: LANE_NOT_WRITTEN at the next turn */
	uint64_t linger_us; /* 0 for interactive work */
};

struct lane_writer;
must_check int lane_writer_open(struct loop *loop, const struct lane_writer_options *options,
				const struct log *log, struct lane_writer **ret_writer);
/* Flushes nothing: pending writes get no last word. Accepts NULL. */
void lane_writer_close(struct lane_writer *writer);
/* True while a broker is connected (and the producer has its id): "can serve". */
bool lane_writer_ready(const struct lane_writer *writer);
/* Records whose last word is still to come. */
size_t lane_writer_pending(const struct lane_writer *writer);

/* A record of so many bytes, key and headers with it, is written where its topic's max.message.bytes lets it; a longer one is
 * LANE_TOO_BIG. */
#define LANE_RECORD_MAX (8 << 20)

struct lane_write {
	const char *topic;
	int32_t partition; /* -1: by hash of the key, at random without a key */
	struct str key;
	struct str body;
	const struct lane_header *headers;
	size_t header_count;
};
/* Copies everything. @written comes once, from the loop, never from inside this call. @offset is -1 where unknown. */
void lane_write(struct lane_writer *writer, const struct lane_write *what,
		void (*written)(void *ctx, enum lane_written result, int32_t partition,
				int64_t offset),
		void *ctx);
/* The number of partitions of @topic as last learned; 0 where unknown yet (a look-up is begun, and answers within half a
 * second). Asked at start-up for each topic it also spares the first record a look-up. */
int32_t lane_partitions(struct lane_writer *writer, const char *topic);

/* ── reading in a group ──────────────────────────────────────────────────────────────────────────────── */

struct lane_reader;
struct lane_record;

struct lane_reader_options {
	struct lane_options kafka;
	const char *group;
	const char *instance;	   /* static membership (group.instance.id); NULL: dynamic */
	const char *const *topics; /* lanes, in the owner's order: lane number = index */
	size_t topic_count;
	uint64_t commit_us; /* 200 ms: committed when dirty, at most this often */
	size_t
	    window_records; /* 20000 records buffered or taken and not yet completed, per reader */
	size_t
	    window_bytes; /* 32 MiB. A lane may use of both what the others leave; a quarter is kept
				for all in equal parts */
	uint64_t session_us; /* 10 s session time-out */
};

struct lane_reader_ops {
	/* Records may be taken from this lane (edge: comes again after lane_take returned NULL). */
	void (*ready)(void *ctx, size_t lane);
	/* The partition was taken away from this reader: records of it may still be completed, without effect; work in
	 * progress need not stop (claims fence it). Not called where a rebalance gives it back: then its records stay good
	 * and none comes twice. */
	void (*revoked)(void *ctx, size_t lane, int32_t partition);
	/* Kafka said something that an operator must act on (an offset outside the log …). Reading of that partition
	 * stands still. */
	void (*trouble)(void *ctx, const char *what);
	/* The reader is dead (fenced: another process has its instance name): nothing comes any more, nothing is committed. The
	 * owner ends its process. Optional. */
	void (*fatal)(void *ctx, const char *what);
};

must_check int lane_reader_open(struct loop *loop, const struct lane_reader_options *options,
				const struct lane_reader_ops *ops, void *ctx, const struct log *log,
				struct lane_reader **ret_reader);
/* True once partitions were assigned (also none) by the group. */
bool lane_reader_ready(const struct lane_reader *reader);

/* The next record of a lane that was not completed before (partitions round robin); NULL where there is none now or
 * the window is full. The caller owns the record until lane_record_done or lane_record_drop. */
struct lane_record *lane_take(struct lane_reader *reader, size_t lane);
size_t lane_record_lane(const struct lane_record *record);
int32_t lane_record_partition(const struct lane_record *record);
int64_t lane_record_offset(const struct lane_record *record);
uint64_t lane_record_wall_ms(const struct lane_record *record); /* Kafka's time stamp */
struct str lane_record_key(const struct lane_record *record);
struct str lane_record_body(const struct lane_record *record);
/* ptr NULL where there is none. */
struct str lane_record_header(const struct lane_record *record, const char *name);
/* Gives the body's memory back; key, headers and numbers stay. */
void lane_record_forget_body(struct lane_record *record);
/* A record that is taken counts as one that may be completed at any time: only so many of a partition are given out that the set of
 * completed ones fits into a commit, whatever their order. One that its owner only looks at and keeps back does not count from hold to
 * begin (done and drop begin it); so a whole window of one partition may be looked at. Each safe when it is so already. To begin a held one
 * there must be room again: lane_record_room. */
void lane_record_hold(struct lane_record *record);
bool lane_record_room(const struct lane_record *record);
void lane_record_begin(struct lane_record *record);
/* Its owner waits with it for something that may last, or does not any more; not for held ones. Safe when it is so already; done and drop
 * end it. */
void lane_record_park(struct lane_record *record, bool parked);
/* Half of the room for its partition's set is used, and of the records that count there at least half are parked: unless some of them are
 * given back soon, nothing more comes out of the partition. */
bool lane_record_crowds(const struct lane_record *record);
/* Completed: will never be needed again. Frees the record. Goes into the next commit. */
void lane_record_done(struct lane_record *record);
/* Not completed: somebody else will get it after this reader is gone. Frees the record. */
void lane_record_drop(struct lane_record *record);

struct lane_depth {
	int64_t end;	   /* high watermark */
	int64_t base;	   /* first offset not completed */
	int64_t completed; /* completed beyond the base */
	int64_t taken;	   /* taken, not completed */
	/* Kafka's time stamp of the oldest record that was read and is not completed; 0: there is none */
	uint64_t oldest_wall_ms;
};
/* Sum over this reader's partitions of @lane. */
struct lane_depth lane_reader_depth(const struct lane_reader *reader, size_t lane);

/* Commits what is complete and leaves. @leave: leave the group at once (scale-down); else the static membership is
 * kept for a restart. @closed comes once, within a few seconds; the reader is freed after it. */
void lane_reader_close(struct lane_reader *reader, bool leave, void (*closed)(void *ctx),
		       void *ctx);

/* ── reading without a group ─────────────────────────────────────────────────────────────────────────── */

struct lane_follower;
struct lane_follower_ops {
	/* The partitions of the topic are known: the owner calls lane_follow for each with the offset to start at. Comes
	 * again when partitions were added; those already followed go on. */
	void (*partitions)(void *ctx, int32_t count);
	/* One record; views live until the callback returns. Offsets may have gaps. */
	void (*record)(void *ctx, int32_t partition, int64_t offset, uint64_t wall_ms,
		       struct str key, struct str body);
	void (*trouble)(void *ctx, const char *what);
};
must_check int lane_follower_open(struct loop *loop, const struct lane_options *kafka,
				  const char *topic, const struct lane_follower_ops *ops, void *ctx,
				  const struct log *log, struct lane_follower **ret_follower);
/* (Re)starts a partition at @offset (-2: at its beginning). Records of before the call do not come any more. */
void lane_follow(struct lane_follower *follower, int32_t partition, int64_t offset);
/* Stops and starts delivery of all partitions (back-pressure) without losing the place. */
void lane_follower_pause(struct lane_follower *follower, bool pause);
void lane_follower_close(struct lane_follower *follower); /* accepts NULL */

/* ── looking after the log: committed places, and deleting what is behind them ────────────────────────── */

/* A place in a partition. */
struct lane_place {
	const char *topic;
	int32_t partition;
	int64_t offset;
};

struct lane_keeper;
must_check int lane_keeper_open(struct loop *loop, const struct lane_options *kafka,
				const struct log *log, struct lane_keeper **ret_keeper);
/* What was asked gets no answer. Waits for a question under way, a few seconds where Kafka is away. Accepts NULL. */
void lane_keeper_close(struct lane_keeper *keeper);

/* @error: 0 or -errno (Kafka did not answer in time, or refused); then @places is empty. Views live until it returns. */
typedef void lane_places_fn(void *ctx, int error, const struct lane_place *places, size_t count);
/* Where @group stands in the partitions of @topics (whole names; copied): the bases of its commits. Partitions without one are left out.
 * @done once, from the loop. */
void lane_keeper_committed(struct lane_keeper *keeper, const char *group, const char *const *topics,
			   size_t count, lane_places_fn *done, void *ctx);
/* Deletes the records below each place's offset for ever; an offset below the log's start changes nothing. @done gets the new
 * starts of those that were done; a partition that was refused is left out, with a log line. */
void lane_keeper_trim(struct lane_keeper *keeper, const struct lane_place *places, size_t count,
		      lane_places_fn *done, void *ctx);

/* ── looking from outside: blocking, for tools only ──────────────────────────────────────────────────── */

struct lane_look {
	const char *topic;
	int32_t partition;
	int64_t low;	   /* first offset in the log */
	int64_t end;	   /* high watermark */
	int64_t committed; /* base of the group's commit; -1: none */
	struct str text;   /* its set of completed offsets */
	uint64_t
	    oldest_ms; /* Kafka's time stamp of the first record that is not completed; 0: none */
};
/* Each partition of @topic as the brokers and @group's commits say (NULL: no group, all is unread). -errno with a log line. */
must_check int lane_look(const struct lane_options *kafka, const char *topic, const char *group,
			 uint64_t timeout_us, const struct log *log,
			 void (*each)(void *ctx, const struct lane_look *look), void *ctx);
/* Every record of @topic that is in the log now, partition by partition; false from @each ends it, and -ETIMEDOUT after @timeout_us. */
must_check int lane_scan(const struct lane_options *kafka, const char *topic, uint64_t timeout_us,
			 const struct log *log,
			 bool (*each)(void *ctx, int32_t partition, int64_t offset,
				      uint64_t wall_ms, struct str key, struct str body),
			 void *ctx);

/* ── administration: blocking, for tools at start-up only ────────────────────────────────────────────── */

struct lane_topic {
	const char *name;
	int32_t partitions;
	int16_t replication;
	const struct lane_setting *settings; /* topic configuration */
	size_t setting_count;
};
/* Creates what is missing, raises partition counts where they are lower. -errno with a log line. Waits until the
 * topics answer, at most @timeout_us. */
must_check int lane_topics_apply(const struct lane_options *kafka, const struct lane_topic *topics,
				 size_t count, uint64_t timeout_us, const struct log *log);
/* 0 once the brokers answer a metadata request; -ETIMEDOUT otherwise. */
must_check int lane_kafka_wait(const struct lane_options *kafka, uint64_t timeout_us,
			       const struct log *log);

#endif
