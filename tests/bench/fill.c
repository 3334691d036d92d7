/* Fills a lane with jobs as the front would have written them, as fast as the broker takes them.
 *
 *   fill BROKERS LANE COUNT MODEL [ORG [PARTITIONS]]
 *
 * PARTITIONS: "2,6": only these, one after the other; all by the jobs' ids without it.
 * Prints "COUNT written in MS ms". The records' deadlines are a day away. */
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/id.h"
#include "lib/base/mem.h"
#include "lib/lane/lane.h"
#include "lib/net/loop.h"
#include "schemas/codec.h"
#include "schemas/lanes.h"

#define PENDING_MAX 20000
#define PARTITIONS_MAX 64
#define DAY_MS (24 * 3600 * 1000LL)

struct fill {
	struct loop *loop;
	struct lane_writer *writer;
	char *topic;
	enum lane lane;
	const char *model;
	const char *org;
	int32_t partitions[PARTITIONS_MAX];
	size_t partition_count; /* 0: all */
	size_t wanted;
	size_t made;
	size_t written;
	size_t failed;
	uint64_t began_us;
	struct task more;
	struct timer wait;
};

static void on_written(void *ctx, enum lane_written result, int32_t partition, int64_t offset)
{
	struct fill *f = ctx;

	(void)partition;
	(void)offset;
	f->written++;
	f->failed += result != LANE_WRITTEN;
	if (f->written == f->wanted)
		loop_stop(f->loop);
	else
		task_post(&f->more);
}

static void make(struct fill *f)
{
	uint64_t now = loop_wall_ms(f->loop);
	struct lane_header headers[32];
	char numbers[32][24], id[ID_SIZE];
	struct lane_write what = {.topic = f->topic, .partition = -1, .headers = headers};
	struct buf body = {0};
	struct job_head head;
	struct job job;

	id_make(id, "job", now, loop_rand(f->loop));
	codec_init(&codec_job, &job);
	codec_init(&codec_head, &head);
	job.v = head.v = 1;
	job.id = head.job = str_of(id);
	job.org = head.org = str_of(f->org);
	job.kind = head.kind = STR("chat");
	job.lane = str_of(lane_name(f->lane));
	job.dialect = STR("native");
	job.model = head.class = str_of(f->model);
	job.messages = STR("[{\"role\":\"user\",\"content\":\"sleep\"}]");
	job.on_cut = STR("restart");
	job.created_ms = head.created_ms = (int64_t)now;
	job.queue_ms = job.run_ms = DAY_MS;
	job.deadline_ms = head.deadline_ms = (int64_t)now + 2 * DAY_MS;
	head.start_by_ms = (int64_t)now + DAY_MS;
	job.estimate = head.estimate = 10;
	codec_encode(&codec_job, &job, &body);
	for (size_t i = 0; i < codec_head.count; i++) {
		struct str text = codec_text(&codec_head.fields[i], &head, numbers[i]);

		if (text.ptr)
			headers[what.header_count++] =
			    (struct lane_header){str_of(codec_head.fields[i].name), text};
	}
	what.key = job.id;
	if (f->partition_count)
		what.partition = f->partitions[f->made % f->partition_count];
	what.body = buf_str(&body);
	lane_write(f->writer, &what, on_written, f);
	buf_fini(&body);
	f->made++;
}

static void on_more(struct task *t)
{
	struct fill *f = container_of(t, struct fill, more);

	while (f->made < f->wanted && f->made - f->written < PENDING_MAX)
		make(f);
}

static void on_wait(struct timer *t)
{
	struct fill *f = container_of(t, struct fill, wait);

	if (!lane_writer_ready(f->writer) || !lane_partitions(f->writer, f->topic)) {
		timer_set(t, 20000);
		return;
	}
	f->began_us = loop_now_us(f->loop);
	task_post(&f->more);
}

static void read_partitions(struct fill *f, const char *text)
{
	while (*text && f->partition_count < PARTITIONS_MAX) {
		char *end;

		f->partitions[f->partition_count++] = (int32_t)strtol(text, &end, 10);
		text = *end ? end + 1 : end;
	}
}

int main(int argc, char **argv)
{
	struct log_sink sink = {.fd = 2, .level = LOG_WARN};
	struct log log = {.sink = &sink};
	struct lane_writer_options options = {
	    .timeout_us = 60000000, .max_pending = 100000, .linger_us = 5000};
	struct fill f = {.org = argc > 5 ? argv[5] : "org_00000000000000000000000000"};

	if (argc < 5 || lane_find(str_of(argv[2]), &f.lane) != LANE_FOUND)
		return fprintf(stderr, "usage: fill BROKERS LANE COUNT MODEL [ORG [PARTITIONS]]\n"),
		       2;
	if (argc > 6)
		read_partitions(&f, argv[6]);
	f.wanted = (size_t)atol(argv[3]);
	f.model = argv[4];
	f.topic = topic_full("", lane_topic_llm(f.lane));
	f.loop = loop_new(0);
	options.kafka = (struct lane_options){.brokers = argv[1], .client_id = "fill"};
	if (lane_writer_open(f.loop, &options, &log, &f.writer) < 0)
		return 1;
	task_init(&f.more, f.loop, on_more);
	timer_init(&f.wait, f.loop, on_wait);
	timer_set(&f.wait, 0);
	loop_run(f.loop);
	printf("%zu written in %llu ms, %zu failed\n", f.written,
	       (unsigned long long)(loop_fresh_us(f.loop) - f.began_us) / 1000, f.failed);
	lane_writer_close(f.writer);
	return f.failed ? 1 : 0;
}
