/* lib/lane against a real Kafka: writing, taking, completion in any order over restarts, kills and rebalances, leaving,
 * following, and the way from lane_write to lane_take.
 *
 *   lane BROKERS           the claims, one per line, then "N passed, N failed"
 *   lane BROKERS reader …  what the claims start as a process of its own, to be killed
 *
 * Without BROKERS the environment's SLUICE_TEST_KAFKA, else a stack of its own (compose/stack up kafka-1). */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "tests/integration/lane_parts.h"

#define MAX 40000

/* ── a reader that notes what it takes ── */

struct reading {
	struct test *t;
	struct lane_reader *reader;
	struct lane_record *held[MAX];
	size_t count;
	size_t ready;
	size_t revoked;
	size_t troubles;
	bool closed;
	bool complete; /* every record at once */
	void (*took)(struct reading *r, struct lane_record *record);
};

static void take_all(struct reading *r, size_t lane)
{
	struct lane_record *record;

	while ((record = lane_take(r->reader, lane))) {
		must(r->count < MAX);
		if (r->took)
			r->took(r, record);
		if (r->complete) {
			lane_record_done(record);
			record = NULL;
		}
		r->held[r->count++] = record;
	}
}

static void on_ready(void *ctx, size_t lane)
{
	struct reading *r = ctx;

	r->ready++;
	take_all(r, lane);
}

static void on_revoked(void *ctx, size_t lane, int32_t partition)
{
	struct reading *r = ctx;

	(void)lane;
	(void)partition;
	r->revoked++;
}

static void on_trouble(void *ctx, const char *what)
{
	struct reading *r = ctx;

	r->troubles++;
	printf("        | trouble: %s\n", what);
}

static void on_closed(void *ctx)
{
	struct reading *r = ctx;

	r->closed = true;
}

static struct reading *reading_open(struct test *t, const char *group, const char *instance,
				    const char *const *topics, size_t topic_count)
{
	static const struct lane_reader_ops ops = {
	    .ready = on_ready, .revoked = on_revoked, .trouble = on_trouble};
	struct lane_reader_options options = {
	    .kafka = kafka(t),
	    .group = group,
	    .instance = instance,
	    .topics = topics,
	    .topic_count = topic_count,
	    .session_us = 6 * US_PER_S,
	};
	struct reading *r = mem_new(struct reading);

	r->t = t;
	must(!lane_reader_open(t->loop, &options, &ops, r, &t->log, &r->reader));
	return r;
}

static struct reading *reading_one(struct test *t, const char *group, const char *instance,
				   const char *topic)
{
	return reading_open(t, group, instance, &topic, 1);
}

static void turn_for(struct test *t, uint64_t us)
{
	uint64_t end = loop_fresh_us(t->loop) + us;

	while (loop_fresh_us(t->loop) < end)
		loop_turn(t->loop, 10 * US_PER_MS);
}

static bool reading_close(struct reading *r, bool leave)
{
	bool closed;

	lane_reader_close(r->reader, leave, on_closed, r);
	closed = turn_until(r->t, r->closed, WAIT_US);
	for (size_t i = 0; i < r->count; i++)
		if (r->held[i])
			lane_record_drop(r->held[i]);
	mem_free(r);
	return closed;
}

static void done_at(struct reading *r, size_t i)
{
	lane_record_done(r->held[i]);
	r->held[i] = NULL;
}

/* ── claims ── */

static void write_and_take(struct test *t)
{
	const char *topic = name_of(t, "plain");
	const struct lane_header headers[] = {
	    {STR("v"), STR("1")}, {STR("job"), STR("job_7")}, {STR("empty"), STR("")}};
	struct lane_write what = {topic, 2, STR("the key"), STR("{\"a\":1}"), headers, 3};
	struct lane_writer_options options = {.kafka = kafka(t)};
	struct writing w = {0};
	struct reading *r;
	uint64_t begin = loop_fresh_us(t->loop);

	claim(t, topic_make(t, topic, 2) && topic_make(t, topic, 3),
	      "a topic is made, and its partitions are raised");
	must(!lane_writer_open(t->loop, &options, &t->log, &w.writer));
	claim(t,
	      lane_partitions(w.writer, topic) == 0 &&
		  turn_until(t, lane_partitions(w.writer, topic) == 3, WAIT_US),
	      "the writer learns how many partitions there are");
	claim(t, turn_until(t, lane_writer_ready(w.writer), WAIT_US),
	      "the writer gets ready without a record");
	printf("        | ready and counted after %llu ms\n",
	       (unsigned long long)((loop_fresh_us(t->loop) - begin) / US_PER_MS));
	lane_write(w.writer, &what, on_written, &w);
	claim(t, w.answers == 0 && lane_writer_pending(w.writer) == 1,
	      "no answer comes from inside lane_write");
	claim(t,
	      turn_until(t, w.answers == 1, WAIT_US) && w.results[LANE_WRITTEN] == 1 &&
		  w.partition == 2 && w.offset == 0,
	      "a record is written, with partition and offset");
	r = reading_one(t, name_of(t, "g-plain"), NULL, topic);
	if (turn_until(t, r->count == 1, WAIT_US)) {
		struct lane_record *one = r->held[0];

		claim(t,
		      str_is(lane_record_key(one), "the key") &&
			  str_is(lane_record_body(one), "{\"a\":1}") &&
			  str_is(lane_record_header(one, "job"), "job_7") &&
			  lane_record_header(one, "empty").ptr &&
			  !lane_record_header(one, "other").ptr &&
			  lane_record_partition(one) == 2 && lane_record_offset(one) == 0 &&
			  loop_wall_ms(t->loop) - lane_record_wall_ms(one) < 30000,
		      "it is taken with key, body, headers and time");
		lane_record_forget_body(one);
		claim(t, lane_record_body(one).len == 0 && str_is(lane_record_key(one), "the key"),
		      "the body can go while the rest stays");
	} else {
		claim(t, false, "it is taken with key, body, headers and time");
	}
	claim(t, lane_reader_ready(r->reader) && lane_reader_depth(r->reader, 0).taken == 1,
	      "the reader is ready and counts what is taken");
	claim(t, reading_close(r, true), "the reader closes");
	lane_writer_close(w.writer);
}

static void out_of_order(struct test *t)
{
	const char *topic = name_of(t, "order"), *group = name_of(t, "g-order");
	struct reading *r;
	struct lane_depth depth;
	bool right = true;

	claim(t, topic_make(t, topic, 1) && write_many(t, topic, 0, 500),
	      "500 records are written");
	r = reading_one(t, group, "one", topic);
	claim(t, turn_until(t, r->count == 500, WAIT_US), "all are taken");
	for (size_t i = 499; i > 0; i--)
		if (i % 3)
			done_at(r, i);
	depth = lane_reader_depth(r->reader, 0);
	claim(t,
	      depth.base == 0 && depth.completed == 333 && depth.taken == 167 && depth.end == 500 &&
		  depth.oldest_wall_ms,
	      "depth tells base, end, completed and taken");
	claim(t, reading_close(r, false), "it closes");
	r = reading_one(t, group, "one", topic);
	claim(t, turn_until(t, r->count >= 167, WAIT_US),
	      "after a restart what was not completed comes again");
	turn_for(t, 300 * US_PER_MS);
	for (size_t i = 0; i < r->count; i++)
		right &= lane_record_offset(r->held[i]) == (int64_t)i * 3;
	claim(t, right && r->count == 167, "and nothing else does");
	for (size_t i = 0; i < r->count; i++)
		done_at(r, i);
	(void)reading_close(r, false);
	r = reading_one(t, group, "one", topic);
	claim(t,
	      turn_until(t, lane_reader_ready(r->reader), WAIT_US) && write_many(t, topic, 0, 1) &&
		  turn_until(t, r->count == 1, WAIT_US) && lane_record_offset(r->held[0]) == 500,
	      "when all is completed only what is new comes");
	(void)reading_close(r, true);
}

/* In a process of its own: completes every even record of 200, says so, and lives on until it is killed. */
static int child(struct test *t, const char *group, const char *instance, const char *topic)
{
	struct reading *r = reading_one(t, group, instance, topic);

	if (!turn_until(t, r->count == 200, WAIT_US))
		return 1;
	for (size_t i = 0; i < 200; i += 2)
		done_at(r, i);
	/* Twice the time between commits, and their way. */
	turn_for(t, 700 * US_PER_MS);
	if (write(STDOUT_FILENO, "!", 1) != 1)
		return 1;
	turn_for(t, 60 * US_PER_S);
	return 0;
}

static pid_t child_start(struct test *t, const char *group, const char *instance, const char *topic)
{
	int pipes[2];
	char byte;
	pid_t pid;

	must(!pipe(pipes));
	pid = fork();
	if (!pid) {
		dup2(pipes[1], STDOUT_FILENO);
		close(pipes[0]);
		close(pipes[1]);
		execl(t->self, t->self, t->brokers, "reader", group, instance, topic, (char *)NULL);
		_exit(127);
	}
	close(pipes[1]);
	if (read(pipes[0], &byte, 1) != 1)
		printf("        | the child ended early\n");
	close(pipes[0]);
	return pid;
}

static void killed(struct test *t)
{
	const char *topic = name_of(t, "kill"), *group = name_of(t, "g-kill");
	struct reading *r;
	uint64_t begin;
	bool right = true;
	pid_t pid;

	claim(t, topic_make(t, topic, 1) && write_many(t, topic, 0, 200),
	      "200 records are written");
	pid = child_start(t, group, "static-1", topic);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	begin = loop_fresh_us(t->loop);
	r = reading_one(t, group, "static-1", topic);
	claim(t, turn_until(t, r->count >= 100, WAIT_US),
	      "after SIGKILL the same instance goes on");
	printf("        | %zu records %llu ms after the restart\n", r->count,
	       (unsigned long long)((loop_fresh_us(t->loop) - begin) / US_PER_MS));
	turn_for(t, 300 * US_PER_MS);
	for (size_t i = 0; i < r->count; i++)
		right &= lane_record_offset(r->held[i]) == (int64_t)i * 2 + 1;
	claim(t, right && r->count == 100, "with what was not completed, and nothing else");
	(void)reading_close(r, true);
}

static void rebalanced(struct test *t)
{
	const char *topic = name_of(t, "share"), *group = name_of(t, "g-share");
	struct reading *a, *b;
	bool seen[400] = {0}, right = true;

	claim(t, topic_make(t, topic, 4), "a topic of four partitions is made");
	for (int32_t p = 0; p < 4; p++)
		right &= write_many(t, topic, p, 100);
	a = reading_one(t, group, "a", topic);
	claim(t, right && turn_until(t, a->count == 400, WAIT_US), "one reader takes all of them");
	for (size_t i = 0; i < 400; i++)
		if (lane_record_offset(a->held[i]) % 4 == 3)
			done_at(a, i);
	b = reading_one(t, group, "b", topic);
	claim(t, turn_until(t, a->revoked == 2 && b->count >= 150, WAIT_US),
	      "a second one gets two of them");
	turn_for(t, 300 * US_PER_MS);
	for (size_t i = 0; i < b->count; i++) {
		size_t at = (size_t)lane_record_partition(b->held[i]) * 100 +
			    (size_t)lane_record_offset(b->held[i]);

		right &= !seen[at] && at % 4 != 3;
		seen[at] = true;
	}
	claim(t, right && b->count == 150, "and of those what was not completed, once");
	claim(t, a->count == 400, "what the first keeps is not handed out again");
	for (size_t i = 0; i < 400; i++)
		if (a->held[i])
			done_at(a, i);
	for (size_t i = 0; i < b->count; i++)
		done_at(b, i);
	claim(t, reading_close(a, false), "the first closes and stays a member");
	claim(t,
	      write_many(t, topic, 0, 1) &&
		  !turn_until(t, b->count > 150 || b->revoked, 2 * US_PER_S),
	      "what belongs to a static member that only closed is kept for it");
	a = reading_one(t, group, "a", topic);
	claim(t, turn_until(t, a->count == 1, WAIT_US) && lane_record_partition(a->held[0]) == 0,
	      "it gets it when it is back");
	claim(t, reading_close(b, true), "the second leaves the group");
	claim(t, write_many(t, topic, 3, 1) && turn_until(t, a->count == 2, 3 * US_PER_S),
	      "a static member that leaves hands over at once");
	(void)reading_close(a, true);
}

static void back_pressure(struct test *t)
{
	const char *topic = name_of(t, "press"), *group = name_of(t, "g-press");
	struct reading *r;
	size_t before, completed;

	claim(t, topic_make(t, topic, 1) && write_many(t, topic, 0, 20000),
	      "20,000 records are written");
	r = reading_one(t, group, "p", topic);
	/* Every second is completed for as long as more comes. */
	completed = 0;
	do {
		before = r->count;
		for (; completed + 1 < r->count; completed += 2)
			done_at(r, completed + 1);
		(void)turn_until(t, r->count > before, US_PER_S);
	} while (r->count > before || !before);
	claim(t, r->count > 2000 && r->count < 6000,
	      "a partition full of holes stops giving records");
	printf("        | %zu taken, %zu of them not completed\n", r->count, r->count / 2);
	for (size_t i = 0; i < r->count; i++)
		if (r->held[i])
			done_at(r, i);
	r->complete = true;
	claim(t, turn_until(t, r->count == 20000, WAIT_US),
	      "and goes on when the holes are filled");
	(void)reading_close(r, true);
}

static void closes_early(struct test *t)
{
	struct test away = *t;
	const char *topic = name_of(t, "early");
	struct reading *r;

	claim(t, topic_make(t, topic, 1), "a topic is made");
	r = reading_one(t, name_of(t, "g-early"), "e", topic);
	claim(t, reading_close(r, false), "a reader closes before its first assignment");
	r = reading_one(t, name_of(t, "g-early"), "e", topic);
	claim(t, reading_close(r, true), "and leaves before its first assignment");
	away.brokers = "127.0.0.1:1";
	r = reading_one(&away, "g", "e", topic);
	turn_for(&away, 200 * US_PER_MS);
	claim(t, !lane_reader_ready(r->reader), "a reader without Kafka is not ready");
	claim(t, reading_close(r, true), "and closes");
}

static void kafka_away(struct test *t)
{
	struct test away = *t;
	struct lane_writer_options options;
	struct writing w = {0};
	uint64_t begin, took;

	away.brokers = "127.0.0.1:1";
	options = (struct lane_writer_options){
	    .kafka = kafka(&away), .timeout_us = 4 * US_PER_S, .max_pending = 3};
	must(!lane_writer_open(t->loop, &options, &t->log, &w.writer));
	begin = loop_fresh_us(t->loop);
	for (int i = 0; i < 4; i++)
		write_body(&w, "nowhere", -1, STR("x"));
	claim(t, turn_until(t, w.answers == 1, US_PER_S / 2) && w.results[LANE_NOT_WRITTEN] == 1,
	      "a write above the limit of pending ones is refused at the next turn");
	claim(t, turn_until(t, w.answers == 4, 6 * US_PER_S) && !w.results[LANE_WRITTEN],
	      "with Kafka away every write gets its last word");
	took = loop_fresh_us(t->loop) - begin;
	printf("        | after %llu ms of 4000: %zu not written, %zu unknown\n",
	       (unsigned long long)(took / US_PER_MS), w.results[LANE_NOT_WRITTEN],
	       w.results[LANE_UNKNOWN]);
	claim(t, took < 4500 * US_PER_MS && !lane_writer_ready(w.writer),
	      "in time, and the writer is not ready");
	lane_writer_close(w.writer);
}

static void too_big(struct test *t)
{
	const char *topic = name_of(t, "big");
	struct lane_writer_options options = {.kafka = kafka(t)};
	cleanup_free char *body = mem_alloc(3000000);
	struct writing w = {0};

	must(!lane_writer_open(t->loop, &options, &t->log, &w.writer));
	claim(t, topic_make(t, topic, 1), "a topic is made");
	write_body(&w, topic, 0, (struct str){body, 3000000});
	claim(t, turn_until(t, w.answers == 1, WAIT_US) && w.results[LANE_TOO_BIG] == 1,
	      "a record that is too big is told");
	write_body(&w, topic, 7, STR("x"));
	claim(t, turn_until(t, w.answers == 2, WAIT_US) && w.results[LANE_NOT_WRITTEN] == 1,
	      "a partition that is not there is: not written");
	write_body(&w, topic, 0, STR("x"));
	lane_writer_close(w.writer);
	turn_for(t, 50 * US_PER_MS);
	claim(t, w.answers == 2, "after a close no answer comes");
}

/* ── following ── */

struct following {
	struct test *t;
	struct lane_follower *follower;
	int32_t partitions;
	size_t count;
	int64_t last;
	int64_t restart_at; /* from within the callback, at this offset */
	size_t out_of_order;
};

static void on_partitions(void *ctx, int32_t count)
{
	struct following *f = ctx;

	f->partitions = count;
	for (int32_t i = 0; i < count; i++)
		lane_follow(f->follower, i, -2);
}

static void on_record(void *ctx, int32_t partition, int64_t offset, uint64_t wall_ms,
		      struct str key, struct str body)
{
	struct following *f = ctx;

	(void)wall_ms;
	(void)key;
	(void)body;
	f->out_of_order += offset != f->last + 1;
	f->last = offset;
	f->count++;
	if (offset == f->restart_at) {
		f->restart_at = -1;
		f->last = 9;
		lane_follow(f->follower, partition, 10);
	}
}

static void on_follower_trouble(void *ctx, const char *what)
{
	(void)ctx;
	printf("        | trouble: %s\n", what);
}

static void followed(struct test *t)
{
	static const struct lane_follower_ops ops = {on_partitions, on_record, on_follower_trouble};
	const char *topic = name_of(t, "follow");
	struct lane_options k = kafka(t);
	struct following f = {.t = t, .last = -1, .restart_at = 5000};

	claim(t, topic_make(t, topic, 1) && write_many(t, topic, 0, 10000),
	      "10,000 records are written");
	must(!lane_follower_open(t->loop, &k, topic, &ops, &f, &t->log, &f.follower));
	claim(t, turn_until(t, f.last == 9999, WAIT_US), "a follower reads to the end");
	claim(t, f.count == 5001 + 9990 && !f.out_of_order,
	      "started again in the middle, it goes on from there and nothing stale comes");
	lane_follower_pause(f.follower, true);
	claim(t, write_many(t, topic, 0, 10) && !turn_until(t, f.last > 9999, 500 * US_PER_MS),
	      "paused, it is silent");
	lane_follower_pause(f.follower, false);
	claim(t, turn_until(t, f.last == 10009, WAIT_US) && !f.out_of_order, "and loses nothing");
	lane_follower_close(f.follower);
}

/* ── a scan while the topic is trimmed ── */

struct scanning {
	struct test *t;
	struct lane_keeper *keeper;
	const char *topic;
	int64_t last;
	size_t count;
	bool trimmed;
};

static void on_trimmed(void *ctx, int error, const struct lane_place *places, size_t count)
{
	struct scanning *s = ctx;

	(void)places;
	s->trimmed = !error && count == 1;
}

/* At the first record all but the last ten are deleted. */
static bool on_scanned(void *ctx, int32_t partition, int64_t offset, uint64_t wall_ms,
		       struct str key, struct str body)
{
	struct scanning *s = ctx;
	struct lane_place place = {.topic = s->topic, .partition = partition, .offset = 39990};

	(void)wall_ms;
	(void)key;
	(void)body;
	if (!s->count++) {
		lane_keeper_trim(s->keeper, &place, 1, on_trimmed, s);
		(void)turn_until(s->t, s->trimmed, WAIT_US);
	}
	s->last = offset;
	return true;
}

static void scanned(struct test *t)
{
	/* so that little is read ahead of what is deleted */
	static const struct lane_setting small[] = {{"queued.max.messages.kbytes", "1"},
						    {"fetch.message.max.bytes", "4096"}};
	struct scanning s = {.t = t, .topic = name_of(t, "scan")};
	struct lane_options k = kafka(t);
	int r;

	must(!lane_keeper_open(t->loop, &k, &t->log, &s.keeper));
	claim(t, topic_make(t, s.topic, 1) && write_many(t, s.topic, 0, MAX),
	      "40,000 records are written");
	k.settings = small;
	k.setting_count = countof(small);
	r = lane_scan(&k, s.topic, WAIT_US, &t->log, on_scanned, &s);
	claim(t, s.trimmed && !r && s.last == MAX - 1 && s.count < MAX,
	      "a scan under which records are deleted goes on with the first that is left");
	lane_keeper_close(s.keeper);
}

/* ── times ── */

struct timing {
	struct writing w;
	uint64_t sent[MAX];
	uint64_t took[MAX];
	uint64_t acked[MAX];
	size_t acks; /* of one partition they come in order */
	struct test *t;
};

static struct timing timing;

static void on_timed(struct reading *r, struct lane_record *record)
{
	size_t i = (size_t)strtoul(lane_record_body(record).ptr, NULL, 10);

	timing.took[i] = loop_fresh_us(r->t->loop) - timing.sent[i];
}

static void on_acked(void *ctx, enum lane_written result, int32_t partition, int64_t offset)
{
	(void)ctx;
	(void)partition;
	(void)offset;
	must(result == LANE_WRITTEN);
	timing.acked[timing.acks] = loop_fresh_us(timing.t->loop) - timing.sent[timing.acks];
	timing.acks++;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void print_times(const char *what, uint64_t *times, size_t count)
{
	printf("        | %s: the first %.1f ms", what, (double)times[0] / 1000);
	qsort(times, count, sizeof(times[0]), by_size);
	printf(", p50 %.2f, p90 %.2f, p99 %.2f, max %.2f ms\n", (double)times[count / 2] / 1000,
	       (double)times[count * 9 / 10] / 1000, (double)times[count * 99 / 100] / 1000,
	       (double)times[count - 1] / 1000);
}

static void timed(struct test *t, size_t count, uint64_t gap_us)
{
	const char *topic = name_of(t, "time");
	struct lane_writer_options options = {.kafka = kafka(t)};
	struct lane_write what = {.topic = topic};
	struct reading *r;

	timing.t = t;
	must(!lane_writer_open(t->loop, &options, &t->log, &timing.w.writer));
	claim(t, topic_make(t, topic, 1), "a topic is made");
	r = reading_one(t, name_of(t, "g-time"), NULL, topic);
	r->complete = true;
	r->took = on_timed;
	claim(t,
	      turn_until(t, lane_reader_ready(r->reader) && lane_writer_ready(timing.w.writer),
			 WAIT_US),
	      "writer and reader are ready");
	for (size_t i = 0; i < count; i++) {
		char body[32];
		struct str text = {body, (size_t)snprintf(body, sizeof(body), "%zu", i)};

		timing.sent[i] = loop_fresh_us(t->loop);
		what.body = text;
		lane_write(timing.w.writer, &what, on_acked, NULL);
		while (loop_fresh_us(t->loop) < timing.sent[i] + gap_us)
			loop_turn(t->loop, US_PER_MS);
	}
	claim(t, turn_until(t, r->count == count, WAIT_US), "every record arrives");
	print_times("write to acknowledged", timing.acked, count);
	print_times("write to take", timing.took, count);
	(void)reading_close(r, true);
	lane_writer_close(timing.w.writer);
}

static void drained(struct test *t)
{
	const char *topic = name_of(t, "drain");
	struct reading *r;
	uint64_t begin;

	claim(t, topic_make(t, topic, 1) && write_many(t, topic, 0, MAX),
	      "40,000 records are written");
	r = reading_one(t, name_of(t, "g-drain"), NULL, topic);
	r->complete = true;
	begin = loop_fresh_us(t->loop);
	claim(t, turn_until(t, r->count == MAX, WAIT_US), "and drained");
	printf("        | %.0f records a second, joining the group included\n",
	       (double)MAX / ((double)(loop_fresh_us(t->loop) - begin) / 1e6));
	(void)reading_close(r, true);
}

static void run_all(struct test *t)
{
	write_and_take(t);
	out_of_order(t);
	killed(t);
	rebalanced(t);
	back_pressure(t);
	closes_early(t);
	kafka_away(t);
	too_big(t);
	followed(t);
	scanned(t);
	timed(t, 500, 10 * US_PER_MS);
	drained(t);
}

/* ── Kafka of its own ── */

static char stack_dir[64];

static void stack_end(void)
{
	cleanup_free char *command = mem_printf(
	    "compose/stack reset --dir %s >/dev/null 2>&1; rm -rf %s", stack_dir, stack_dir);

	if (system(command))
		fprintf(stderr, "lane: %s could not be removed\n", stack_dir);
}

/* Starts one from the project's top folder; NULL where that fails. Ended with the process. */
static const char *stack_start(void)
{
	static char brokers[64];
	cleanup_free char *command = NULL;
	FILE *out;

	snprintf(stack_dir, sizeof(stack_dir), "/tmp/sluice-lane-XXXXXX");
	if (!mkdtemp(stack_dir))
		return NULL;
	atexit(stack_end);
	command =
	    mem_printf("compose/stack up kafka-1 --no-services --ports auto --dir %s >/dev/null && "
		       "compose/stack status --json --dir %s | sed -n 's/.*\"kafka\": "
		       "*\"\\([^\"]*\\)\".*/\\1/p'",
		       stack_dir, stack_dir);
	out = popen(command, "r");
	if (!out)
		return NULL;
	if (!fgets(brokers, sizeof(brokers), out))
		brokers[0] = 0;
	brokers[strcspn(brokers, "\n")] = 0;
	pclose(out);
	return brokers[0] ? brokers : NULL;
}

int main(int argc, char **argv)
{
	struct test t = {.self = argv[0], .sink = {.fd = 2, .level = LOG_ERROR}};

	t.brokers = argc > 1 ? argv[1] : getenv("SLUICE_TEST_KAFKA");
	if (!t.brokers)
		t.brokers = stack_start();
	if (!t.brokers) {
		fputs("lane: no Kafka: compose/stack up kafka-1 failed (run it from the project's "
		      "top folder)\n",
		      stderr);
		return 2;
	}
	t.log.sink = &t.sink;
	if (getenv("VERBOSE"))
		t.sink.level = LOG_DEBUG;
	t.loop = loop_new(0);
	if (argc == 6 && strcmp(argv[2], "reader") == 0)
		return child(&t, argv[3], argv[4], argv[5]);
	snprintf(t.run, sizeof(t.run), "%llx", (unsigned long long)rand_u64(loop_rand(t.loop)));
	if (argc > 2 && strcmp(argv[2], "time") == 0)
		timed(&t, 2000, 10 * US_PER_MS);
	else if (argc > 2 && strcmp(argv[2], "share") == 0)
		rebalanced(&t);
	else
		run_all(&t);
	loop_free(t.loop);
	return claims_end(&t.claims);
}
