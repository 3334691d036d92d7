/* The lane consumer alone, on lib/lane and nothing else: for the lane benchmark.
 *
 *   lane_run fill BROKERS TOPIC COUNT BYTES                  makes TOPIC with one partition and COUNT records
 *   lane_run drain BROKERS TOPIC GROUP COUNT SLOTS MAX_MS    runs them, SLOTS at once, each 0 … MAX_MS long
 *
 * With MAX_MS 0 a record is done when it is taken. Drain prints "sluice COUNT first_to_last_ms whole_ms cpu_ms again":
 * from the first record taken, and from the opening of the reader, until the last job ended; the processor time of the
 * process meanwhile; records that came twice. A job's length follows from its offset, so that every run has the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/lane/lane.h"
#include "lib/net/loop.h"

#define PENDING_MAX 20000
#define TURN_MAX 512 /* records taken in one turn of the loop */

struct run;

struct slot {
	struct timer timer;
	struct run *run;
	struct lane_record *record;
	struct slot *next; /* free ones */
};

struct run {
	struct loop *loop;
	struct log log;
	const char *topic;
	size_t count;
	struct lane_writer *writer;
	size_t made;
	size_t written;
	struct str body;
	struct timer wait;
	struct lane_reader *reader;
	struct task more;
	struct slot *slots;
	struct slot *free;
	unsigned max_ms;
	bool *seen;
	size_t done;
	size_t again;
	uint64_t began_us;
	uint64_t first_us;
	uint64_t cpu_us;
};

static uint64_t cpu_us(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * US_PER_S +
	       (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* Whole milliseconds, as the peer's jobs are. */
static uint64_t job_us(const struct run *r, int64_t offset)
{
	return (((uint64_t)offset * 2654435761u) >> 16) % (r->max_ms + 1) * US_PER_MS;
}

/* ── filling ─────────────────────────────────────────────────────────────────────────────────────────── */

static void on_written(void *ctx, enum lane_written result, int32_t partition, int64_t offset)
{
	struct run *r = ctx;

	(void)partition;
	(void)offset;
	if (result != LANE_WRITTEN) {
		fprintf(stderr, "lane_run: a record was not written\n");
		exit(1);
	}
	if (++r->written == r->count)
		loop_stop(r->loop);
	else
		task_post(&r->more);
}

static void on_fill(struct task *t)
{
	struct run *r = container_of(t, struct run, more);
	struct lane_write what = {.topic = r->topic, .partition = 0, .body = r->body};

	for (; r->made < r->count && r->made - r->written < PENDING_MAX; r->made++)
		lane_write(r->writer, &what, on_written, r);
}

static void on_wait(struct timer *t)
{
	struct run *r = container_of(t, struct run, wait);

	if (lane_writer_ready(r->writer) && lane_partitions(r->writer, r->topic))
		task_post(&r->more);
	else
		timer_set(t, 20 * US_PER_MS);
}

static int fill(struct run *r, const char *brokers, size_t bytes)
{
	struct lane_writer_options options = {
	    .kafka = {.brokers = brokers, .client_id = "lane_run"},
	    .timeout_us = 60 * US_PER_S,
	    .max_pending = 100000,
	    .linger_us = 5 * US_PER_MS,
	};
	const struct lane_topic topic = {.name = r->topic, .partitions = 1, .replication = 1};
	char *body = mem_alloc(bytes + 1);

	memset(body, 'x', bytes);
	r->body = (struct str){body, bytes};
	if (lane_topics_apply(&options.kafka, &topic, 1, 20 * US_PER_S, &r->log) < 0 ||
	    lane_writer_open(r->loop, &options, &r->log, &r->writer) < 0)
		return 1;
	task_init(&r->more, r->loop, on_fill);
	timer_init(&r->wait, r->loop, on_wait);
	timer_set(&r->wait, 0);
	loop_run(r->loop);
	lane_writer_close(r->writer);
	mem_free(body);
	return 0;
}

/* ── draining ────────────────────────────────────────────────────────────────────────────────────────── */

static void on_closed(void *ctx)
{
	struct run *r = ctx;

	loop_stop(r->loop);
}

static void count_one(struct run *r, struct lane_record *record)
{
	size_t at = (size_t)lane_record_offset(record);
	uint64_t now;

	lane_record_done(record);
	if (at >= r->count || r->seen[at]) {
		r->again++;
		return;
	}
	r->seen[at] = true;
	if (++r->done < r->count)
		return;
	now = loop_fresh_us(r->loop);
	printf("sluice %zu %.1f %.1f %.0f %zu\n", r->count, (double)(now - r->first_us) / 1e3,
	       (double)(now - r->began_us) / 1e3, (double)(cpu_us() - r->cpu_us) / 1e3, r->again);
	lane_reader_close(r->reader, true, on_closed, r);
}

static void on_job_end(struct timer *t)
{
	struct slot *s = container_of(t, struct slot, timer);
	struct run *r = s->run;

	s->next = r->free;
	r->free = s;
	count_one(r, s->record);
	if (r->done < r->count)
		task_post(&r->more);
}

static void begin(struct run *r, struct lane_record *record)
{
	struct slot *s = r->free;

	if (!r->max_ms) {
		count_one(r, record);
		return;
	}
	r->free = s->next;
	s->record = record;
	timer_set(&s->timer, job_us(r, lane_record_offset(record)));
}

static void on_take(struct task *t)
{
	struct run *r = container_of(t, struct run, more);

	for (int n = 0; r->done < r->count && (r->free || !r->max_ms); n++) {
		struct lane_record *record;

		if (n == TURN_MAX) {
			task_post(t);
			return;
		}
		record = lane_take(r->reader, 0);
		if (!record)
			return;
		if (!r->first_us)
			r->first_us = loop_fresh_us(r->loop);
		begin(r, record);
	}
}

static void on_ready(void *ctx, size_t lane)
{
	struct run *r = ctx;

	(void)lane;
	task_post(&r->more);
}

static void on_revoked(void *ctx, size_t lane, int32_t partition)
{
	(void)ctx;
	(void)lane;
	(void)partition;
}

static void on_trouble(void *ctx, const char *what)
{
	(void)ctx;
	fprintf(stderr, "lane_run: %s\n", what);
}

static int drain(struct run *r, const char *brokers, const char *group, size_t slots)
{
	static const struct lane_reader_ops ops = {
	    .ready = on_ready, .revoked = on_revoked, .trouble = on_trouble};
	const struct lane_reader_options options = {
	    .kafka = {.brokers = brokers, .client_id = "lane_run"},
	    .group = group,
	    .topics = &r->topic,
	    .topic_count = 1,
	    .commit_us = 200 * US_PER_MS,
	    .window_records = 20000,
	    .window_bytes = 32 << 20,
	    .session_us = 10 * US_PER_S,
	};

	r->seen = mem_alloc(r->count);
	r->slots = mem_alloc(slots * sizeof(*r->slots));
	for (size_t i = 0; i < slots; i++) {
		r->slots[i].run = r;
		timer_init(&r->slots[i].timer, r->loop, on_job_end);
		r->slots[i].next = r->free;
		r->free = &r->slots[i];
	}
	task_init(&r->more, r->loop, on_take);
	r->began_us = loop_fresh_us(r->loop);
	r->cpu_us = cpu_us();
	if (lane_reader_open(r->loop, &options, &ops, r, &r->log, &r->reader) < 0)
		return 1;
	loop_run(r->loop);
	mem_free(r->slots);
	mem_free(r->seen);
	return 0;
}

int main(int argc, char **argv)
{
	struct log_sink sink = {.fd = 2, .level = LOG_WARN};
	struct run r = {.log = {.sink = &sink}};
	int status = 2;

	r.loop = loop_new(0);
	if (argc == 6 && !strcmp(argv[1], "fill")) {
		r.topic = argv[3];
		r.count = strtoul(argv[4], NULL, 10);
		status = fill(&r, argv[2], strtoul(argv[5], NULL, 10));
	} else if (argc == 8 && !strcmp(argv[1], "drain")) {
		r.topic = argv[3];
		r.count = strtoul(argv[5], NULL, 10);
		r.max_ms = (unsigned)strtoul(argv[7], NULL, 10);
		status = drain(&r, argv[2], argv[4], strtoul(argv[6], NULL, 10));
	} else {
		fprintf(stderr, "usage: lane_run fill BROKERS TOPIC COUNT BYTES\n"
				"       lane_run drain BROKERS TOPIC GROUP COUNT SLOTS MAX_MS\n");
	}
	loop_free(r.loop);
	return status;
}
