#include <errno.h>

#include "lib/base/mem.h"
#include "lib/lane/conf.h"
#include "lib/net/loop.h"

/* Records handed on in one turn of the loop. */
#define TURN_RECORDS 1000

struct lane_follower {
	struct log log;
	struct lane_follower_ops ops;
	void *ctx;
	char *topic;
	rd_kafka_t *rk;
	rd_kafka_topic_t *handle;
	rd_kafka_queue_t *main;	   /* errors, statistics, logs */
	rd_kafka_queue_t *records; /* of all followed partitions */
	struct lane_signal signal;
	struct task turn;
	int32_t partitions; /* as last told to the owner */
	int32_t room;	    /* elements of followed */
	bool *followed;
	bool paused;
};

static void read_stats(struct lane_follower *f, const char *json)
{
	int32_t count = lane_stats_partitions(json, f->topic);

	if (count <= f->partitions)
		return;
	f->partitions = count;
	f->ops.partitions(f->ctx, count);
}

static void trouble(struct lane_follower *f, int32_t partition, rd_kafka_resp_err_t code,
		    const char *text)
{
	cleanup_free char *what = NULL;

	log_debug(&f->log, "kafka_error", F_STR("name", rd_kafka_err2name(code)),
		  F_INT("partition", partition), F_STR("text", text));
	if (!lane_error_is_trouble(code))
		return;
	what = mem_printf("%s/%d: %s: %s", f->topic, partition, rd_kafka_err2name(code),
			  text ? text : "");
	f->ops.trouble(f->ctx, what);
}

static void read_message(struct lane_follower *f, const rd_kafka_message_t *m)
{
	rd_kafka_timestamp_type_t type;
	int64_t wall_ms;

	if (m->err) {
		trouble(f, m->partition, m->err, rd_kafka_message_errstr(m));
		return;
	}
	wall_ms = rd_kafka_message_timestamp(m, &type);
	f->ops.record(f->ctx, m->partition, m->offset, wall_ms > 0 ? (uint64_t)wall_ms : 0,
		      (struct str){m->key ? m->key : "", m->key_len},
		      (struct str){m->payload ? m->payload : "", m->len});
}

static void read_event(struct lane_follower *f, rd_kafka_event_t *event)
{
	const rd_kafka_message_t *m;
	rd_kafka_topic_partition_t *where;

	switch (rd_kafka_event_type(event)) {
	case RD_KAFKA_EVENT_FETCH:
		while ((m = rd_kafka_event_message_next(event)))
			read_message(f, m);
		break;
	case RD_KAFKA_EVENT_STATS:
		read_stats(f, rd_kafka_event_stats(event));
		break;
	case RD_KAFKA_EVENT_ERROR:
		where = rd_kafka_event_topic_partition(event);
		trouble(f, where ? where->partition : -1, rd_kafka_event_error(event),
			rd_kafka_event_error_string(event));
		if (where)
			rd_kafka_topic_partition_destroy(where);
		break;
	default:
		lane_log_event(&f->log, event);
	}
	rd_kafka_event_destroy(event);
}

static void turn(struct task *task)
{
	struct lane_follower *f = container_of(task, struct lane_follower, turn);
	rd_kafka_event_t *event;
	size_t count = 0;

	while (count < TURN_RECORDS && (event = rd_kafka_queue_poll(f->main, 0))) {
		count++;
		read_event(f, event);
	}
	while (!f->paused && count < TURN_RECORDS && (event = rd_kafka_queue_poll(f->records, 0))) {
		count++;
		read_event(f, event);
	}
	if (count >= TURN_RECORDS)
		task_post(&f->turn);
}

static void wake(void *ctx)
{
	struct lane_follower *f = ctx;

	turn(&f->turn);
}

static int consumer_open(struct lane_follower *f, const struct lane_options *kafka)
{
	static const struct lane_setting ours[] = {
	    {"auto.offset.reset", "error"},
	    {"isolation.level", "read_uncommitted"},
	    /* Its reader keeps a record, nobody waits for it: many at a time. */
	    {"fetch.wait.max.ms", "25"},
	    {"fetch.min.bytes", "65536"},
	    {"fetch.error.backoff.ms", "50"},
	    {"queued.max.messages.kbytes", "8192"},
	    {"fetch.message.max.bytes", "1048576"},
	    {"enable.auto.commit", "false"},
	    {"enable.auto.offset.store", "false"},
	    {"statistics.interval.ms", "500"}, /* they tell the number of partitions */
	};
	rd_kafka_conf_t *conf;
	int r = lane_conf_new(kafka, ours, countof(ours), &f->log, &conf);

	if (r)
		return err_trace(r);
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_FETCH | RD_KAFKA_EVENT_ERROR |
					   RD_KAFKA_EVENT_LOG | RD_KAFKA_EVENT_STATS);
	r = lane_handle_new(RD_KAFKA_CONSUMER, conf, &f->log, &f->rk);
	if (r)
		return err_trace(r);
	f->main = rd_kafka_queue_get_main(f->rk);
	f->records = rd_kafka_queue_new(f->rk);
	lane_signal_attach(&f->signal, f->main);
	lane_signal_attach(&f->signal, f->records);
	f->handle = rd_kafka_topic_new(f->rk, f->topic, NULL);
	if (!f->handle)
		return err_origin(-EINVAL);
	task_post(&f->turn);
	return 0;
}

int lane_follower_open(struct loop *loop, const struct lane_options *kafka, const char *topic,
		       const struct lane_follower_ops *ops, void *ctx, const struct log *log,
		       struct lane_follower **ret_follower)
{
	struct lane_follower *f = mem_new(struct lane_follower);
	int r;

	f->log = log_child(log, "part", "lane_follower");
	f->ops = *ops;
	f->ctx = ctx;
	f->topic = mem_strdup(topic);
	task_init(&f->turn, loop, turn);
	r = lane_signal_open(&f->signal, loop, wake, f);
	if (!r)
		r = consumer_open(f, kafka);
	if (r) {
		lane_follower_close(f);
		return err_trace(r);
	}
	*ret_follower = f;
	return 0;
}

void lane_follow(struct lane_follower *f, int32_t partition, int64_t offset)
{
	must(partition >= 0);
	if (partition >= f->room) {
		f->followed =
		    mem_resize(f->followed, ((size_t)partition + 1) * sizeof(*f->followed));
		for (; f->room <= partition; f->room++)
			f->followed[f->room] = false;
	}
	/* Stopping raises the partition's version: librdkafka drops what it fetched before. */
	if (f->followed[partition])
		rd_kafka_consume_stop(f->handle, partition);
	f->followed[partition] =
	    rd_kafka_consume_start_queue(f->handle, partition, offset, f->records) == 0;
	if (!f->followed[partition])
		trouble(f, partition, rd_kafka_last_error(), "cannot be followed");
	task_post(&f->turn);
}

void lane_follower_pause(struct lane_follower *f, bool pause)
{
	f->paused = pause;
	if (!pause)
		task_post(&f->turn);
}

void lane_follower_close(struct lane_follower *f)
{
	if (!f)
		return;
	task_cancel(&f->turn);
	for (int32_t i = 0; i < f->room; i++)
		if (f->followed[i])
			rd_kafka_consume_stop(f->handle, i);
	if (f->handle)
		rd_kafka_topic_destroy(f->handle);
	if (f->rk) {
		lane_signal_detach(f->main);
		lane_signal_detach(f->records);
		rd_kafka_queue_destroy(f->main);
		rd_kafka_queue_destroy(f->records);
		rd_kafka_destroy(f->rk);
	}
	lane_signal_close(&f->signal);
	mem_free(f->followed);
	mem_free(f->topic);
	mem_free(f);
}
