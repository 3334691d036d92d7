/* What the tests of lib/lane share: names of this run's own, a writer that counts. */
#ifndef SLUICE_TESTS_LANE_PARTS_H
#define SLUICE_TESTS_LANE_PARTS_H

#include "lib/base/log.h"
#include "lib/lane/lane.h"
#include "tests/integration/parts.h"

#define WAIT_US (15 * US_PER_S)

struct test {
	struct loop *loop;
	struct log_sink sink;
	struct log log;
	const char *brokers;
	const char *self;
	char run[24]; /* in every name, so that one broker serves many runs */
	struct claims claims;
};

static inline void claim(struct test *t, bool holds, const char *sentence)
{
	claims_note(&t->claims, holds, "lane", sentence);
}

static inline struct lane_options kafka(const struct test *t)
{
	return (struct lane_options){.brokers = t->brokers, .client_id = "lane-test"};
}

static inline const char *name_of(struct test *t, const char *what)
{
	static char names[8][64];
	static unsigned at;

	at = (at + 1) % 8;
	snprintf(names[at], sizeof(names[at]), "t-%s-%s", t->run, what);
	return names[at];
}

static inline bool topic_make(struct test *t, const char *topic, int32_t partitions)
{
	struct lane_options k = kafka(t);
	struct lane_topic one = {.name = topic, .partitions = partitions, .replication = 1};

	return lane_topics_apply(&k, &one, 1, WAIT_US, &t->log) == 0;
}

/* Turns the loop until @holds; false after @limit_us. */
#define turn_until(t, holds, limit_us) turn_loop_until((t)->loop, holds, limit_us)

/* ── a writer that counts ── */

struct writing {
	struct lane_writer *writer;
	size_t results[4];
	size_t answers;
	int64_t offset;
	int32_t partition;
};

static inline void on_written(void *ctx, enum lane_written result, int32_t partition,
			      int64_t offset)
{
	struct writing *w = ctx;

	w->results[result]++;
	w->answers++;
	w->partition = partition;
	w->offset = offset;
}

static inline void write_body(struct writing *w, const char *topic, int32_t partition,
			      struct str body)
{
	struct lane_write what = {.topic = topic, .partition = partition, .body = body};

	lane_write(w->writer, &what, on_written, w);
}

static inline bool write_many(struct test *t, const char *topic, int32_t partition, size_t count)
{
	struct lane_writer_options options = {.kafka = kafka(t)};
	struct writing w = {0};
	bool good;

	must(!lane_writer_open(t->loop, &options, &t->log, &w.writer));
	for (size_t i = 0; i < count; i++) {
		char body[32];

		write_body(&w, topic, partition,
			   (struct str){body, (size_t)snprintf(body, sizeof(body), "%zu", i)});
	}
	good = turn_until(t, w.answers == count, WAIT_US) && w.results[LANE_WRITTEN] == count;
	lane_writer_close(w.writer);
	return good;
}

#endif
