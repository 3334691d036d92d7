/* What Kafka itself takes, for the isolation benchmark: librdkafka alone, without a line of Sluice's.
 *
 *   isolation_bare BROKERS TOPIC COUNT EVERY_MS
 *
 * One thread writes a record with the time in it every EVERY_MS (acks=all, idempotent, no linger), the other reads.
 * Prints "COUNT p50_ms p90_ms p99_ms max_ms lost": from produce to consumed. The topic exists. */
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WARM 50 /* the first ones do not count: the producer's id, connections */

struct bare {
	const char *brokers;
	const char *topic;
	size_t count;
	long every_us;
	rd_kafka_t *producer;
};

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static rd_kafka_t *client(rd_kafka_type_t type, const char *const (*settings)[2])
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char why[256];
	rd_kafka_t *rk;

	for (; (*settings)[0]; settings++)
		if (rd_kafka_conf_set(conf, (*settings)[0], (*settings)[1], why, sizeof(why)))
			goto out;
	rk = rd_kafka_new(type, conf, why, sizeof(why));
	if (rk)
		return rk;
out:
	fprintf(stderr, "isolation_bare: %s\n", why);
	exit(1);
}

static void send_one(struct bare *b)
{
	uint64_t now = now_us();

	if (rd_kafka_producev(b->producer, RD_KAFKA_V_TOPIC(b->topic), RD_KAFKA_V_PARTITION(0),
			      RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
			      RD_KAFKA_V_VALUE(&now, sizeof(now)), RD_KAFKA_V_END))
		exit(1);
	rd_kafka_poll(b->producer, 0);
}

static void *produce(void *ctx)
{
	struct bare *b = ctx;
	uint64_t due;

	/* the producer's id and the connections first: on a fresh broker that takes half a second */
	send_one(b);
	rd_kafka_flush(b->producer, 10000);
	due = now_us();
	for (size_t i = 1; i < b->count + WARM; i++, due += (uint64_t)b->every_us) {
		uint64_t now = now_us();
		struct timespec wait = {.tv_nsec = due > now ? (long)(due - now) * 1000 : 0};

		nanosleep(&wait, NULL);
		send_one(b);
	}
	rd_kafka_flush(b->producer, 10000);
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Reads until all have come or none for 10 s; returns how many counted. */
static size_t consume(struct bare *b, rd_kafka_t *consumer, uint64_t *v)
{
	size_t seen = 0;

	while (seen < b->count + WARM) {
		rd_kafka_message_t *m = rd_kafka_consumer_poll(consumer, 10000);
		uint64_t sent;

		if (!m)
			break;
		if (!m->err && m->len == sizeof(sent)) {
			memcpy(&sent, m->payload, sizeof(sent));
			if (seen++ >= WARM)
				v[seen - WARM - 1] = now_us() - sent;
		}
		rd_kafka_message_destroy(m);
	}
	return seen > WARM ? seen - WARM : 0;
}

int main(int argc, char **argv)
{
	struct bare b;
	rd_kafka_t *consumer;
	rd_kafka_topic_partition_list_t *list;
	pthread_t thread;
	uint64_t *v;
	int64_t low, high;
	size_t n;

	if (argc != 5)
		return fprintf(stderr, "usage: isolation_bare BROKERS TOPIC COUNT EVERY_MS\n"), 2;
	b = (struct bare){argv[1], argv[2], strtoul(argv[3], NULL, 10), atol(argv[4]) * 1000, NULL};
	b.producer =
	    client(RD_KAFKA_PRODUCER, (const char *const[][2]){{"bootstrap.servers", b.brokers},
							       {"enable.idempotence", "true"},
							       {"linger.ms", "0"},
							       {"socket.nagle.disable", "true"},
							       {NULL, NULL}});
	consumer =
	    client(RD_KAFKA_CONSUMER, (const char *const[][2]){{"bootstrap.servers", b.brokers},
							       {"group.id", "bare"},
							       {"enable.auto.commit", "false"},
							       {"socket.nagle.disable", "true"},
							       {NULL, NULL}});
	rd_kafka_poll_set_consumer(consumer);
	if (rd_kafka_query_watermark_offsets(consumer, b.topic, 0, &low, &high, 10000))
		return fprintf(stderr, "isolation_bare: no topic %s\n", b.topic), 1;
	list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(list, b.topic, 0)->offset = high;
	v = calloc(b.count, sizeof(*v));
	if (!v || rd_kafka_assign(consumer, list) || pthread_create(&thread, NULL, produce, &b))
		return 1;
	n = consume(&b, consumer, v);
	pthread_join(thread, NULL);
	qsort(v, n, sizeof(*v), by_value);
	if (n)
		printf("%zu %.2f %.2f %.2f %.2f %zu\n", b.count, (double)v[n / 2] / 1e3,
		       (double)v[n * 9 / 10] / 1e3, (double)v[n * 99 / 100] / 1e3,
		       (double)v[n - 1] / 1e3, b.count - n);
	rd_kafka_topic_partition_list_destroy(list);
	rd_kafka_destroy(consumer);
	rd_kafka_destroy(b.producer);
	free(v);
	return n == b.count ? 0 : 1;
}
