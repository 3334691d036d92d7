#include "scheduler/scheduler.h"

#include "lib/base/mem.h"
#include "lib/net/loop.h"

#define HEADERS_MAX 32

typedef void written_fn(void *ctx, enum lane_written result, int32_t partition, int64_t offset);

static void write_record(struct scheduler *s, struct lane_write *write, const struct job_head *head,
			 written_fn *written, void *ctx)
{
	struct lane_header headers[HEADERS_MAX];
	char numbers[HEADERS_MAX][24];

	must(codec_head.count <= HEADERS_MAX);
	write->headers = headers;
	for (size_t i = 0; i < codec_head.count; i++) {
		struct str text = codec_text(&codec_head.fields[i], head, numbers[i]);

		if (text.ptr)
			headers[write->header_count++] =
			    (struct lane_header){str_of(codec_head.fields[i].name), text};
	}
	lane_write(s->writer, write, written, ctx);
}

/* One of the organisation's partitions; -1 (by the key) where their number is not known yet. */
static int32_t shard(struct scheduler *s, const char *topic, const struct job_head *head)
{
	int32_t partitions = lane_partitions(s->writer, topic);
	uint64_t shards = (uint64_t)s->options->shards, pick;

	if (partitions <= 0)
		return -1;
	pick = head->session.len ? lane_hash(head->session) % shards
				 : rand_below(loop_rand(s->loop), shards);
	return lane_shard(head->org, pick, partitions);
}

void scheduler_to_lane(struct scheduler *s, enum lane lane, const struct job_head *head,
		       struct str body, written_fn *written, void *ctx)
{
	cleanup_free char *topic = topic_full(s->config->kafka.topic_prefix, lane_topic_llm(lane));
	struct lane_write write = {.topic = topic,
				   .partition = shard(s, topic, head),
				   .key = head->session.len ? head->session : head->job,
				   .body = body};

	write_record(s, &write, head, written, ctx);
}

void scheduler_to_tier(struct scheduler *s, enum topic tier, const struct job_head *head,
		       struct str body, written_fn *written, void *ctx)
{
	cleanup_free char *topic = topic_full(s->config->kafka.topic_prefix, tier);
	struct lane_write write = {.topic = topic, .partition = -1, .key = head->job, .body = body};

	write_record(s, &write, head, written, ctx);
}
