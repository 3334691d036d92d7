/* A second pair of eyes on Kafka: follows topics from their first record on and writes down every record, whatever becomes
 * of it later (lanes are trimmed, offsets are compacted). It shares no code with the services and refuses to know what
 * records mean; check.mjs reads what it wrote.
 *
 *   watch BROKERS OUT TOPIC…    until SIGTERM; then on to the end of every partition as it is in that moment, and out
 *
 * OUT: "R topic partition offset timestamp_ms key_bytes value_bytes\n", the key, the value, "\n" for each record (-1: null),
 * and at the end "E topic partition low end\n" for each partition. Partitions that are added are followed too. */
#include <errno.h>
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PARTITIONS_MAX 512
#define ASK_MS 5000
#define REFRESH_MS 1000
#define GIVE_UP_MS 60000

struct seen {
	const char *topic;
	int32_t partition;
	int64_t next; /* first offset that was not written down */
	int64_t low;
	int64_t end; /* where to stop */
};

struct watch {
	rd_kafka_t *kafka;
	char *const *topics;
	int topic_count;
	FILE *out;
	struct seen seen[PARTITIONS_MAX];
	size_t count;
};

static volatile sig_atomic_t over;

static void on_signal(int number)
{
	(void)number;
	over = 1;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static struct seen *seen_find(struct watch *w, const char *topic, int32_t partition)
{
	for (size_t i = 0; i < w->count; i++)
		if (w->seen[i].partition == partition && strcmp(w->seen[i].topic, topic) == 0)
			return &w->seen[i];
	return NULL;
}

/* Follows what is not followed yet; true where all partitions of @topic are known. */
static bool follow(struct watch *w, const char *topic)
{
	rd_kafka_topic_t *t = rd_kafka_topic_new(w->kafka, topic, NULL);
	const struct rd_kafka_metadata *m = NULL;
	bool known;

	known = rd_kafka_metadata(w->kafka, 0, t, &m, ASK_MS) == RD_KAFKA_RESP_ERR_NO_ERROR &&
		m->topic_cnt == 1 && m->topics[0].partition_cnt > 0;
	rd_kafka_topic_destroy(t);
	for (int i = 0; known && i < m->topics[0].partition_cnt; i++) {
		rd_kafka_topic_partition_list_t *one;
		rd_kafka_error_t *e;

		if (seen_find(w, topic, i))
			continue;
		if (w->count == PARTITIONS_MAX)
			abort();
		one = rd_kafka_topic_partition_list_new(1);
		rd_kafka_topic_partition_list_add(one, topic, i)->offset =
		    RD_KAFKA_OFFSET_BEGINNING;
		e = rd_kafka_incremental_assign(w->kafka, one);
		rd_kafka_topic_partition_list_destroy(one);
		if (e) {
			fprintf(stderr, "watch: %s\n", rd_kafka_error_string(e));
			abort();
		}
		w->seen[w->count++] = (struct seen){.topic = topic, .partition = i, .end = -1};
	}
	if (m)
		rd_kafka_metadata_destroy(m);
	return known;
}

static void put(FILE *out, const void *bytes, size_t len)
{
	if (bytes && len)
		fwrite(bytes, 1, len, out);
}

static void record(struct watch *w, const rd_kafka_message_t *m)
{
	const char *topic = rd_kafka_topic_name(m->rkt);
	struct seen *s = seen_find(w, topic, m->partition);

	if (m->err) {
		fprintf(stderr, "watch: %s %d: %s\n", topic, m->partition,
			rd_kafka_message_errstr(m));
		return;
	}
	if (!s || m->offset < s->next)
		return;
	s->next = m->offset + 1;
	fprintf(w->out, "R %s %" PRId32 " %" PRId64 " %" PRId64 " %zd %zd\n", topic, m->partition,
		m->offset, rd_kafka_message_timestamp(m, NULL), m->key ? (ssize_t)m->key_len : -1,
		m->payload ? (ssize_t)m->len : -1);
	put(w->out, m->key, m->key_len);
	put(w->out, m->payload, m->payload ? m->len : 0);
	fputc('\n', w->out);
}

static void poll_for(struct watch *w, int64_t ms)
{
	int64_t end = now_ms() + ms;

	while (now_ms() < end) {
		rd_kafka_message_t *m = rd_kafka_consumer_poll(w->kafka, 100);

		if (m && m->rkt)
			record(w, m);
		if (m)
			rd_kafka_message_destroy(m);
		if (over)
			return;
	}
}

/* On to the ends as they are now. False: they were not reached in time. */
static bool finish(struct watch *w)
{
	int64_t deadline = now_ms() + GIVE_UP_MS;
	bool all = false;

	for (int i = 0; i < w->topic_count; i++)
		while (!follow(w, w->topics[i]))
			if (now_ms() > deadline)
				return false;
	for (size_t i = 0; i < w->count; i++)
		while (rd_kafka_query_watermark_offsets(w->kafka, w->seen[i].topic,
							w->seen[i].partition, &w->seen[i].low,
							&w->seen[i].end, ASK_MS))
			if (now_ms() > deadline)
				return false;
	over = 0;
	while (!all && now_ms() < deadline) {
		poll_for(w, 100);
		all = true;
		/* what was deleted before it was seen does not come any more: check.mjs sees the hole */
		for (size_t i = 0; i < w->count; i++)
			if (w->seen[i].end > w->seen[i].next && w->seen[i].end > w->seen[i].low)
				all = false;
	}
	for (size_t i = 0; i < w->count; i++)
		fprintf(w->out, "E %s %" PRId32 " %" PRId64 " %" PRId64 "\n", w->seen[i].topic,
			w->seen[i].partition, w->seen[i].low, w->seen[i].end);
	return all;
}

static rd_kafka_t *connect_to(const char *brokers)
{
	static const char *const settings[][2] = {{"group.id", "watch"},
						  {"enable.auto.commit", "false"},
						  {"auto.offset.reset", "earliest"},
						  {"topic.metadata.refresh.interval.ms", "5000"},
						  {"reconnect.backoff.max.ms", "1000"},
						  {"fetch.wait.max.ms", "100"},
						  {"log_level", "2"}};
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *kafka;
	char why[256];
	int bad = rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof(why));

	for (size_t i = 0; !bad && i < sizeof(settings) / sizeof(settings[0]); i++)
		bad = rd_kafka_conf_set(conf, settings[i][0], settings[i][1], why, sizeof(why));
	kafka = bad ? NULL : rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof(why));
	if (!kafka)
		fprintf(stderr, "watch: %s\n", why);
	return kafka;
}

int main(int argc, char **argv)
{
	struct watch w = {.topics = argv + 3, .topic_count = argc - 3};
	struct sigaction action = {.sa_handler = on_signal};
	bool whole;

	if (argc < 4)
		return fprintf(stderr, "usage: watch BROKERS OUT TOPIC…\n"), 2;
	w.out = fopen(argv[2], "we");
	if (!w.out)
		return perror(argv[2]), 1;
	w.kafka = connect_to(argv[1]);
	if (!w.kafka)
		return 1;
	rd_kafka_poll_set_consumer(w.kafka);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	while (!over) {
		for (int i = 0; i < w.topic_count && !over; i++)
			follow(&w, w.topics[i]);
		poll_for(&w, REFRESH_MS);
		fflush(w.out);
	}
	whole = finish(&w);
	if (fclose(w.out))
		return perror(argv[2]), 1;
	/* it never joined a group: nothing to leave, and the end of the process is end enough */
	return whole ? 0 : 1;
}
