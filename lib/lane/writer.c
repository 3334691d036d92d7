#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/list.h"
#include "lib/base/mem.h"
#include "lib/lane/conf.h"
#include "lib/net/loop.h"

#define TIMEOUT_US (5 * US_PER_S)
#define MAX_PENDING 100000
/* Reports handled in one turn of the loop. */
#define TURN_REPORTS 48
/* How often librdkafka says whether it is connected and how many partitions there are. */
#define STATS_MS "300"
#define RENEW_US (1 * US_PER_S)

struct write {
	struct list link; /* in one of the writer's lists */
	struct lane_writer *writer;
	void (*written)(void *ctx, enum lane_written result, int32_t partition, int64_t offset);
	void *ctx;
	uint64_t deadline_us;
	enum lane_written verdict; /* of one in verdicts */
	bool late;		   /* answered; librdkafka still holds it */
};

struct topic {
	struct list link;
	char *name;
	rd_kafka_topic_t *
	    handle; /* making it asks for the metadata at once; a record's topic name alone would wait for
				     librdkafka's next look, up to a second */
	int32_t partitions;
};

struct lane_writer {
	struct loop *loop;
	struct log log;
	struct lane_options kafka;
	uint64_t timeout_us;
	uint64_t linger_us;
	size_t max_pending;
	rd_kafka_t *rk; /* NULL between a fatal error and a new producer */
	rd_kafka_queue_t *queue;
	rd_kafka_event_t
	    *reports; /* the part of it that is not told yet waits for the next turn; NULL: none */
	struct lane_signal signal;
	struct list pending;  /* writes in librdkafka's hands, by deadline */
	struct list verdicts; /* writes to be answered at the next turn */
	struct list late;     /* answered writes that librdkafka still holds */
	struct list topics;
	size_t pending_count;
	struct timer deadline;
	struct timer renewal;
	struct task turn;
	struct task answering;
	bool ready;
	bool fatal;
};

static int producer_open(struct lane_writer *w)
{
	/* librdkafka looks for records that are out of time once a second: its last word, which knows more, is to come before
	 * ours. */
	uint64_t timeout_us =
	    w->timeout_us > 3 * US_PER_S ? w->timeout_us - 3 * US_PER_S / 2 : w->timeout_us / 2;
	cleanup_free char *timeout =
	    mem_printf("%llu", (unsigned long long)(timeout_us / US_PER_MS));
	cleanup_free char *linger = mem_printf("%.3f", (double)w->linger_us / (double)US_PER_MS);
	cleanup_free char *queued = mem_printf("%zu", w->max_pending + 1000);
	cleanup_free char *largest = mem_printf("%d", LANE_RECORD_MAX);
	const struct lane_setting ours[] = {
	    {"enable.idempotence", "true"},	    {"acks", "all"},
	    {"message.timeout.ms", timeout},	    {"linger.ms", linger},
	    {"message.max.bytes", largest},	    {"retry.backoff.ms", "50"},
	    {"partitioner", "murmur2_random"}, /* as every other Kafka client hashes */
	    {"sticky.partitioning.linger.ms", "0"}, {"queue.buffering.max.messages", queued},
	    {"enable.sparse.connections", "false"}, /* the first record need not wait for a connection */
	    {"statistics.interval.ms", STATS_MS},
	};
	rd_kafka_conf_t *conf;
	int r = lane_conf_new(&w->kafka, ours, countof(ours), &w->log, &conf);

	if (r)
		return err_trace(r);
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR |
					   RD_KAFKA_EVENT_LOG | RD_KAFKA_EVENT_STATS);
	r = lane_handle_new(RD_KAFKA_PRODUCER, conf, &w->log, &w->rk);
	if (r)
		return err_trace(r);
	w->queue = rd_kafka_queue_get_main(w->rk);
	lane_signal_attach(&w->signal, w->queue);
	task_post(&w->turn);
	return 0;
}

static void producer_close(struct lane_writer *w)
{
	if (!w->rk)
		return;
	list_each (&w->topics, at) {
		struct topic *t = container_of(at, struct topic, link);

		if (t->handle)
			rd_kafka_topic_destroy(t->handle);
		t->handle = NULL;
	}
	if (w->reports)
		rd_kafka_event_destroy(w->reports);
	w->reports = NULL;
	lane_signal_detach(w->queue);
	rd_kafka_queue_destroy(w->queue);
	w->queue = NULL;
	rd_kafka_purge(w->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
				  RD_KAFKA_PURGE_F_NON_BLOCKING);
	rd_kafka_destroy(w->rk);
	w->rk = NULL;
}

static void write_free(struct write *write)
{
	list_remove(&write->link);
	mem_free(write);
}

static void write_answer(struct write *write, enum lane_written result, int32_t partition,
			 int64_t offset)
{
	write->writer->pending_count--;
	write->written(write->ctx, result, partition, offset);
}

/* Answered at the next turn; librdkafka does not hold it. */
static void write_refuse(struct write *write, enum lane_written verdict)
{
	list_remove(&write->link);
	write->verdict = verdict;
	list_push_back(&write->writer->verdicts, &write->link);
	task_post(&write->writer->answering);
}

static void answer(struct task *task)
{
	struct lane_writer *w = container_of(task, struct lane_writer, answering);
	struct list now;
	struct write *write;

	list_init(&now);
	while ((write = list_pop_front(&w->verdicts, struct write, link)))
		list_push_back(&now, &write->link);
	while ((write = list_pop_front(&now, struct write, link))) {
		write_answer(write, write->verdict, -1, -1);
		mem_free(write);
	}
}

static void deadline_set(struct lane_writer *w)
{
	struct write *first = list_first(&w->pending, struct write, link);
	uint64_t now = loop_now_us(w->loop);

	if (!first)
		timer_stop(&w->deadline);
	else
		timer_set(&w->deadline, first->deadline_us > now ? first->deadline_us - now : 0);
}

/* librdkafka is late with its word: ours is that it may be in the log. */
static void deadline_fire(struct timer *timer)
{
	struct lane_writer *w = container_of(timer, struct lane_writer, deadline);
	struct write *write;

	while ((write = list_first(&w->pending, struct write, link)) &&
	       write->deadline_us <= loop_now_us(w->loop)) {
		list_remove(&write->link);
		write->late = true;
		list_push_back(&w->late, &write->link);
		write_answer(write, LANE_UNKNOWN, -1, -1);
	}
	deadline_set(w);
}

static enum lane_written verdict_of(const rd_kafka_message_t *m)
{
	if (!m->err)
		return LANE_WRITTEN;
	if (m->err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
		return LANE_TOO_BIG;
	switch (rd_kafka_message_status(m)) {
	case RD_KAFKA_MSG_STATUS_NOT_PERSISTED:
		return LANE_NOT_WRITTEN;
	case RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED:
		return LANE_UNKNOWN;
	case RD_KAFKA_MSG_STATUS_PERSISTED:
		return LANE_WRITTEN;
	}
	return LANE_UNKNOWN;
}

static size_t reports(struct lane_writer *w, size_t most)
{
	const rd_kafka_message_t *m = NULL;
	size_t count = 0;

	for (; count < most && (m = rd_kafka_event_message_next(w->reports)); count++) {
		struct write *write = m->_private;
		enum lane_written verdict = verdict_of(m);
		bool known = verdict == LANE_WRITTEN && m->offset >= 0;

		if (m->err)
			log_debug(&write->writer->log, "write_failed",
				  F_STR("why", rd_kafka_err2name(m->err)));
		list_remove(&write->link);
		if (!write->late)
			write_answer(write, verdict, m->partition, known ? m->offset : -1);
		mem_free(write);
	}
	if (count < most) {
		rd_kafka_event_destroy(w->reports);
		w->reports = NULL;
	}
	return count;
}

static void read_stats(struct lane_writer *w, const char *json)
{
	bool ready = lane_stats_ready(json);

	if (ready != w->ready)
		log_debug(&w->log, ready ? "writer_ready" : "writer_away");
	w->ready = ready;
	list_each (&w->topics, at) {
		struct topic *t = container_of(at, struct topic, link);
		int32_t count = lane_stats_partitions(json, t->name);

		if (count)
			t->partitions = count;
	}
}

static void read_error(struct lane_writer *w, rd_kafka_event_t *event)
{
	rd_kafka_resp_err_t code = rd_kafka_event_error(event);

	log_debug(&w->log, "kafka_error", F_STR("name", rd_kafka_err2name(code)),
		  F_STR("text", rd_kafka_event_error_string(event)));
	if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		w->ready = false;
	if (rd_kafka_event_error_is_fatal(event) || code == RD_KAFKA_RESP_ERR__FATAL)
		w->fatal = true;
}

static void topic_ask(struct lane_writer *w, struct topic *t)
{
	t->handle = rd_kafka_topic_new(w->rk, t->name, NULL);
}

/* An idempotent producer that met a fatal error takes nothing more: what it held may be in the log; a new one takes
 * its place. The one blocking step (librdkafka's threads end) in a writer's life. */
static void renew(struct lane_writer *w)
{
	struct write *write;

	log_warn(&w->log, "producer_renewed");
	producer_close(w);
	w->fatal = false;
	w->ready = false;
	while ((write = list_first(&w->late, struct write, link)))
		write_free(write);
	while ((write = list_first(&w->pending, struct write, link)))
		write_refuse(write, LANE_UNKNOWN);
	deadline_set(w);
	if (producer_open(w)) {
		timer_set(&w->renewal, RENEW_US);
		return;
	}
	list_each (&w->topics, at)
		topic_ask(w, container_of(at, struct topic, link));
}

static void renewal_fire(struct timer *timer)
{
	renew(container_of(timer, struct lane_writer, renewal));
}

static void turn(struct task *task)
{
	struct lane_writer *w = container_of(task, struct lane_writer, turn);
	rd_kafka_event_t *event;
	size_t count = 0;

	if (w->reports)
		count += reports(w, TURN_REPORTS);
	while (w->queue && count < TURN_REPORTS && (event = rd_kafka_queue_poll(w->queue, 0))) {
		count++;
		switch (rd_kafka_event_type(event)) {
		case RD_KAFKA_EVENT_DR:
			w->reports = event;
			count += reports(w, TURN_REPORTS - count + 1);
			continue;
		case RD_KAFKA_EVENT_STATS:
			read_stats(w, rd_kafka_event_stats(event));
			break;
		case RD_KAFKA_EVENT_ERROR:
			read_error(w, event);
			break;
		default:
			lane_log_event(&w->log, event);
		}
		rd_kafka_event_destroy(event);
	}
	if (count >= TURN_REPORTS)
		task_post(&w->turn);
	else if (w->fatal)
		renew(w);
	deadline_set(w);
}

static void wake(void *ctx)
{
	struct lane_writer *w = ctx;

	turn(&w->turn);
}

int lane_writer_open(struct loop *loop, const struct lane_writer_options *options,
		     const struct log *log, struct lane_writer **ret_writer)
{
	struct lane_writer *w = mem_new(struct lane_writer);
	int r;

	w->loop = loop;
	w->log = log_child(log, "part", "lane_writer");
	w->timeout_us = options->timeout_us ? options->timeout_us : TIMEOUT_US;
	w->max_pending = options->max_pending ? options->max_pending : MAX_PENDING;
	w->linger_us = options->linger_us;
	lane_options_copy(&w->kafka, &options->kafka);
	list_init(&w->pending);
	list_init(&w->verdicts);
	list_init(&w->late);
	list_init(&w->topics);
	timer_init(&w->deadline, loop, deadline_fire);
	timer_init(&w->renewal, loop, renewal_fire);
	task_init(&w->turn, loop, turn);
	task_init(&w->answering, loop, answer);
	r = lane_signal_open(&w->signal, loop, wake, w);
	if (!r)
		r = producer_open(w);
	if (r) {
		lane_writer_close(w);
		return err_trace(r);
	}
	*ret_writer = w;
	return 0;
}

void lane_writer_close(struct lane_writer *w)
{
	struct list *lists[3];

	if (!w)
		return;
	timer_stop(&w->deadline);
	timer_stop(&w->renewal);
	task_cancel(&w->turn);
	task_cancel(&w->answering);
	producer_close(w);
	lane_signal_close(&w->signal);
	lists[0] = &w->pending;
	lists[1] = &w->verdicts;
	lists[2] = &w->late;
	for (size_t i = 0; i < countof(lists); i++)
		while (!list_empty(lists[i]))
			write_free(list_first(lists[i], struct write, link));
	while (!list_empty(&w->topics)) {
		struct topic *t = list_pop_front(&w->topics, struct topic, link);

		mem_free(t->name);
		mem_free(t);
	}
	lane_options_fini(&w->kafka);
	mem_free(w);
}

bool lane_writer_ready(const struct lane_writer *w)
{
	return w->ready && !w->fatal;
}

size_t lane_writer_pending(const struct lane_writer *w)
{
	return w->pending_count;
}

static rd_kafka_headers_t *headers_of(const struct lane_write *what)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(what->header_count);

	for (size_t i = 0; i < what->header_count; i++)
		rd_kafka_header_add(headers, what->headers[i].name.ptr,
				    (ssize_t)what->headers[i].name.len, what->headers[i].value.ptr,
				    (ssize_t)what->headers[i].value.len);
	return headers;
}

static struct topic *topic_of(struct lane_writer *w, const char *name)
{
	struct topic *t;

	list_each (&w->topics, at) {
		t = container_of(at, struct topic, link);
		if (strcmp(t->name, name) == 0)
			return t;
	}
	t = mem_new(struct topic);
	t->name = mem_strdup(name);
	list_push_back(&w->topics, &t->link);
	if (w->rk)
		topic_ask(w, t);
	return t;
}

static rd_kafka_resp_err_t produce(struct lane_writer *w, const struct lane_write *what,
				   struct write *write)
{
	struct topic *topic = topic_of(w, what->topic);
	rd_kafka_headers_t *headers = topic->handle ? headers_of(what) : NULL;
	const char *key = what->key.len ? what->key.ptr : NULL;
	rd_kafka_vu_t fields[] = {
	    {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = topic->handle},
	    {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = what->partition},
	    {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
	    {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {(void *)key, what->key.len}},
	    {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {(void *)what->body.ptr, what->body.len}},
	    {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = write},
	    {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers},
	};
	rd_kafka_resp_err_t code;
	rd_kafka_error_t *error;

	if (!topic->handle)
		return RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC;
	error = rd_kafka_produceva(w->rk, fields, countof(fields));
	if (!error)
		return RD_KAFKA_RESP_ERR_NO_ERROR;
	code = rd_kafka_error_code(error);
	log_debug(&w->log, "write_refused", F_STR("why", rd_kafka_error_string(error)));
	rd_kafka_headers_destroy(headers);
	rd_kafka_error_destroy(error);
	return code;
}

void lane_write(struct lane_writer *w, const struct lane_write *what,
		void (*written)(void *ctx, enum lane_written result, int32_t partition,
				int64_t offset),
		void *ctx)
{
	struct write *write = mem_new(struct write);
	rd_kafka_resp_err_t code;

	write->writer = w;
	write->written = written;
	write->ctx = ctx;
	write->deadline_us = loop_now_us(w->loop) + w->timeout_us;
	if (w->pending_count++ >= w->max_pending || !w->rk || w->fatal) {
		write_refuse(write, LANE_NOT_WRITTEN);
		return;
	}
	code = produce(w, what, write);
	if (code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) {
		write_refuse(write, LANE_TOO_BIG);
		return;
	}
	if (code) {
		if (code == RD_KAFKA_RESP_ERR__FATAL) {
			w->fatal = true;
			task_post(&w->turn);
		}
		write_refuse(write, LANE_NOT_WRITTEN);
		return;
	}
	list_push_back(&w->pending, &write->link);
	if (!timer_is_set(&w->deadline))
		deadline_set(w);
}

int32_t lane_partitions(struct lane_writer *w, const char *name)
{
	return topic_of(w, name)->partitions;
}
