#include <errno.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/lane/reader_impl.h"

#define COMMIT_US (200 * US_PER_MS)
#define WINDOW_RECORDS 20000
#define WINDOW_BYTES (32u * 1024 * 1024)
/* One in so many parts of the window is kept for all lanes, in equal shares: 15,000 jobs of one organisation in one lane fit into the rest,
 * and another's job behind them is seen. */
#define KEPT_PART 4
#define SESSION_US (10 * US_PER_S)
/* Bounds of one turn of the loop, and of one partition's part in it. */
#define TURN_EVENTS 256
#define TURN_RECORDS 2048
#define TURN_PARTITION 128
/* librdkafka takes a member for dead that asks for nothing for max.poll.interval.ms. */
#define POLL_US (1 * US_PER_S)
/* LeaveGroup is on its way once the assignment is given back; no event tells that it went out. */
#define LEAVE_US (150 * US_PER_MS)
#define UNSUBSCRIBE_US (2 * US_PER_S)
#define CLOSE_US (4 * US_PER_S)
#define CLOSE_POLL_US (20 * US_PER_MS)

static const struct sm_state ends[] = {
    [END_NOT] = {"not", SM(END_LEAVING) | SM(END_CLOSING)},
    [END_LEAVING] = {"leaving", SM(END_CLOSING)},
    [END_CLOSING] = {"closing", SM(END_CLOSED)},
    [END_CLOSED] = {"closed", 0},
};

void reader_trouble(struct lane_reader *r, const char *topic, int32_t partition,
		    rd_kafka_resp_err_t code, const char *text)
{
	cleanup_free char *what = mem_printf("%s/%d: %s: %s", topic, partition,
					     rd_kafka_err2name(code), text ? text : "");

	log_debug(&r->log, "kafka_error", F_STR("what", what));
	if (lane_error_is_trouble(code))
		r->ops.trouble(r->ctx, what);
}

/* ── records ── */

/* librdkafka forwards a partition's records to the common queue whenever it starts it. */
static void partition_split(struct partition *p)
{
	rd_kafka_queue_forward(p->queue, NULL);
	p->pending = true;
}

static void read_message(struct lane_reader *r, struct partition *p, const rd_kafka_message_t *m)
{
	bool common = !p;
	const char *topic = m->rkt ? rd_kafka_topic_name(m->rkt) : "";

	if (m->err) {
		reader_trouble(r, topic, m->partition, m->err, rd_kafka_message_errstr(m));
		return;
	}
	if (!p || p->number != m->partition || strcmp(p->lane->topic, topic) != 0)
		p = group_partition(r, topic, m->partition);
	if (!p || p->state != PARTITION_OPEN)
		return;
	partition_ingest(p, m);
	if (common)
		partition_split(p);
}

static void read_error(struct lane_reader *r, rd_kafka_event_t *event)
{
	rd_kafka_topic_partition_t *where = rd_kafka_event_topic_partition(event);
	rd_kafka_resp_err_t code = rd_kafka_event_error(event);
	bool fatal = code == RD_KAFKA_RESP_ERR__FATAL;
	char why[256];

	if (fatal) {
		code = rd_kafka_fatal_error(r->rk, why, sizeof(why));
		log_error(&r->log, "reader_fatal", F_STR("why", why));
	}
	reader_trouble(r, where ? where->topic : "", where ? where->partition : -1, code,
		       rd_kafka_event_error_string(event));
	if (where)
		rd_kafka_topic_partition_destroy(where);
	if (fatal && r->ops.fatal)
		r->ops.fatal(r->ctx, why);
}

/* @p: whose queue it came from; NULL for the common one. */
static void read_event(struct lane_reader *r, struct partition *p, rd_kafka_event_t *event)
{
	const rd_kafka_message_t *m;

	switch (rd_kafka_event_type(event)) {
	case RD_KAFKA_EVENT_FETCH:
		while ((m = rd_kafka_event_message_next(event)))
			read_message(r, p, m);
		break;
	case RD_KAFKA_EVENT_ERROR:
		read_error(r, event);
		break;
	default:
		if (!group_event(r, event))
			lane_log_event(&r->log, event);
	}
	rd_kafka_event_destroy(event);
}

/* Records of one partition into its window; the number moved. */
static size_t drain(struct lane_reader *r, struct partition *p)
{
	rd_kafka_event_t *event;
	size_t count = 0;

	while (!r->stray && count < TURN_PARTITION && p->pending && partition_wants(p)) {
		event = rd_kafka_queue_poll(p->queue, 0);
		if (event && rd_kafka_event_type(event) != RD_KAFKA_EVENT_FETCH &&
		    rd_kafka_event_type(event) != RD_KAFKA_EVENT_ERROR) {
			/* It is forwarded still: this came from the common queue, which goes first. */
			r->stray = event;
			partition_split(p);
		} else if (event) {
			read_event(r, p, event);
			count++;
		} else {
			p->pending = false;
		}
	}
	return count;
}

/* One round over all partitions; those that gave something go to the end of their lane, so that room that is scarce goes
 * round. */
static size_t drain_round(struct lane_reader *r)
{
	size_t count = 0;

	for (size_t i = 0; i < r->lane_count; i++) {
		struct lane *lane = &r->lanes[i];
		struct partition *first = list_first(&lane->partitions, struct partition, link);

		if (!first || !lane_has_room(lane))
			continue;
		list_each (&lane->partitions, at)
			count += drain(r, container_of(at, struct partition, link));
		list_remove(&first->link);
		list_push_back(&lane->partitions, &first->link);
	}
	return count;
}

static bool lane_has(const struct lane *lane)
{
	list_each (&lane->partitions, at)
		if (partition_has(container_of(at, struct partition, link)))
			return true;
	return false;
}

static void tell(struct lane_reader *r)
{
	for (size_t i = 0; i < r->lane_count && sm_state(&r->end) == END_NOT; i++) {
		if (!r->lanes[i].hungry || !lane_has(&r->lanes[i]))
			continue;
		r->lanes[i].hungry = false;
		r->ops.ready(r->ctx, i);
	}
}

static void turn(struct task *task)
{
	struct lane_reader *r = container_of(task, struct lane_reader, turn);
	rd_kafka_event_t *event;
	size_t events = 0, records = 0, moved;

	/* First the common queue, to its end: records that came before a partition's queue was split off lie there, and they are
	 * older than what lies in the partition's own. */
	while (events < TURN_EVENTS &&
	       (event = r->stray ? r->stray : rd_kafka_queue_poll(r->events, 0))) {
		r->stray = NULL;
		events++;
		read_event(r, NULL, event);
	}
	if (sm_state(&r->end) == END_CLOSING && rd_kafka_consumer_closed(r->rk)) {
		sm_move(&r->end, END_CLOSED);
		task_post(&r->finish);
		return;
	}
	if (events < TURN_EVENTS)
		while (records < TURN_RECORDS && (moved = drain_round(r)))
			records += moved;
	if (events >= TURN_EVENTS || records >= TURN_RECORDS || r->stray)
		task_post(&r->turn);
	tell(r);
}

static void wake(void *ctx)
{
	struct lane_reader *r = ctx;

	/* One signal for all queues: any of them may have something. */
	for (size_t i = 0; i < r->lane_count; i++)
		list_each (&r->lanes[i].partitions, at) {
			struct partition *p = container_of(at, struct partition, link);

			p->pending = p->queue != NULL;
		}
	group_answer(r);
	if (sm_state(&r->end) != END_CLOSED)
		turn(&r->turn);
}

static void poll_fire(struct timer *timer)
{
	struct lane_reader *r = container_of(timer, struct lane_reader, poll);

	timer_set(&r->poll, sm_state(&r->end) == END_CLOSING ? CLOSE_POLL_US : POLL_US);
	task_post(&r->turn);
}

void lane_reader_changed(struct lane_reader *r, bool dirty)
{
	if (dirty)
		group_dirty(r);
	if (sm_state(&r->end) == END_NOT)
		task_post(&r->turn);
}

struct lane_record *lane_take(struct lane_reader *r, size_t index)
{
	struct lane_record *record;
	struct lane *lane;

	must(index < r->lane_count);
	lane = &r->lanes[index];
	if (sm_state(&r->end) != END_NOT)
		return NULL;
	list_each (&lane->partitions, at) {
		struct partition *p = container_of(at, struct partition, link);

		record = partition_take(p);
		if (p->dirty)
			group_dirty(r);
		if (!record)
			continue;
		list_remove(&p->link);
		list_push_back(&lane->partitions, &p->link);
		return record;
	}
	lane->hungry = true;
	return NULL;
}

struct lane_depth lane_reader_depth(const struct lane_reader *r, size_t index)
{
	struct lane_depth sum = {0};

	must(index < r->lane_count);
	list_each (&r->lanes[index].partitions, at) {
		struct partition *p = container_of(at, struct partition, link);
		int64_t low, high;

		partition_depth(p, &sum);
		if (!p->based)
			continue;
		/* What Kafka said with the last fetch; it may be older than what was read since. */
		if (rd_kafka_get_watermark_offsets(r->rk, p->lane->topic, p->number, &low, &high) ||
		    high < p->next)
			high = p->next;
		sum.end += high;
	}
	return sum;
}

bool lane_reader_ready(const struct lane_reader *r)
{
	return r->assigned && sm_state(&r->end) == END_NOT;
}

/* ── life ── */

static void finish(struct task *task)
{
	struct lane_reader *r = container_of(task, struct lane_reader, finish);

	if (r->lookup.asked)
		return; /* the handle is in use: the answer comes back here */
	timer_stop(&r->poll);
	timer_stop(&r->ending);
	task_cancel(&r->turn);
	group_fini(r);
	if (r->stray)
		rd_kafka_event_destroy(r->stray);
	for (size_t i = 0; i < r->lane_count; i++)
		if (r->lanes[i].handle)
			rd_kafka_topic_destroy(r->lanes[i].handle);
	if (r->rk) {
		lane_signal_detach(r->events);
		if (r->consumer)
			rd_kafka_queue_destroy(r->consumer);
		rd_kafka_queue_destroy(r->events);
		rd_kafka_destroy_flags(r->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	}
	lane_signal_close(&r->signal);
	if (r->closed)
		r->closed(r->closed_ctx);
	for (size_t i = 0; i < r->lane_count; i++)
		mem_free(r->lanes[i].topic);
	mem_free(r->lanes);
	mem_free(r);
}

static void close_begin(struct lane_reader *r)
{
	rd_kafka_error_t *error;

	sm_move(&r->end, END_CLOSING);
	group_refuse(r);
	error = rd_kafka_consumer_close_queue(r->rk, r->events);
	if (error)
		log_debug(&r->log, "close_refused", F_STR("why", rd_kafka_error_string(error)));
	timer_set(&r->ending, error ? 0 : CLOSE_US);
	if (error)
		rd_kafka_error_destroy(error);
	timer_set(&r->poll, CLOSE_POLL_US);
}

static void ending_fire(struct timer *timer)
{
	struct lane_reader *r = container_of(timer, struct lane_reader, ending);

	if (sm_state(&r->end) == END_LEAVING) {
		close_begin(r);
	} else if (sm_state(&r->end) == END_CLOSING) {
		log_debug(&r->log, "closed_by_force");
		sm_move(&r->end, END_CLOSED);
		task_post(&r->finish);
	}
}

void reader_outside(struct lane_reader *r)
{
	if (sm_state(&r->end) == END_LEAVING)
		timer_set(&r->ending, LEAVE_US);
}

void lane_reader_close(struct lane_reader *r, bool leave, void (*closed)(void *ctx), void *ctx)
{
	must(sm_state(&r->end) == END_NOT);
	r->closed = closed;
	r->closed_ctx = ctx;
	if (!leave) {
		close_begin(r);
		return;
	}
	sm_move(&r->end, END_LEAVING);
	group_refuse(r);
	rd_kafka_unsubscribe(r->rk);
	timer_set(&r->ending, sm_state(&r->group) == GROUP_OUTSIDE ? LEAVE_US : UNSUBSCRIBE_US);
}

static int consumer_open(struct lane_reader *r, const struct lane_reader_options *o)
{
	uint64_t session_ms = (o->session_us ? o->session_us : SESSION_US) / US_PER_MS;
	cleanup_free char *session = mem_printf("%llu", (unsigned long long)session_ms);
	cleanup_free char *heartbeat = mem_printf("%llu", (unsigned long long)(session_ms / 10));
	const struct lane_setting ours[] = {
	    {"group.id", o->group},
	    {"group.instance.id", o->instance},
	    {"partition.assignment.strategy", "range"},
	    {"session.timeout.ms", session},
	    {"heartbeat.interval.ms", heartbeat},
	    {"enable.auto.commit", "false"},
	    {"enable.auto.offset.store", "false"},
	    {"auto.offset.reset", "error"},
	    {"isolation.level", "read_uncommitted"},
	    {"enable.sparse.connections", "false"},
	    {"fetch.wait.max.ms", "50"},
	    {"fetch.error.backoff.ms", "50"},
	    {"fetch.message.max.bytes", "262144"},
	    {"queued.min.messages", "100000"},
	    {"queued.max.messages.kbytes", "4096"},
	};
	rd_kafka_conf_t *conf;
	int x = lane_conf_new(&o->kafka, ours, countof(ours), &r->log, &conf);

	if (x)
		return err_trace(x);
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_FETCH | RD_KAFKA_EVENT_ERROR |
					   RD_KAFKA_EVENT_LOG | RD_KAFKA_EVENT_REBALANCE |
					   RD_KAFKA_EVENT_OFFSET_COMMIT);
	x = lane_handle_new(RD_KAFKA_CONSUMER, conf, &r->log, &r->rk);
	if (x)
		return err_trace(x);
	rd_kafka_poll_set_consumer(r->rk);
	r->events = rd_kafka_queue_new(r->rk);
	r->consumer = rd_kafka_queue_get_consumer(r->rk);
	if (!r->consumer)
		return err_origin(-EINVAL);
	rd_kafka_queue_forward(r->consumer, r->events);
	lane_signal_attach(&r->signal, r->events);
	return 0;
}

static int subscribe(struct lane_reader *r)
{
	rd_kafka_topic_partition_list_t *list =
	    rd_kafka_topic_partition_list_new((int)r->lane_count);
	rd_kafka_resp_err_t code;

	for (size_t i = 0; i < r->lane_count; i++) {
		/* Without a handle the first assignment of a partition without a commit waits 500 ms for its leader. */
		r->lanes[i].handle = rd_kafka_topic_new(r->rk, r->lanes[i].topic, NULL);
		rd_kafka_topic_partition_list_add(list, r->lanes[i].topic, RD_KAFKA_PARTITION_UA);
	}
	code = rd_kafka_subscribe(r->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	if (!code)
		return 0;
	log_error(&r->log, "subscription_refused", F_STR("why", rd_kafka_err2name(code)));
	return err_origin(-EINVAL);
}

static void lanes_make(struct lane_reader *r, const struct lane_reader_options *o)
{
	size_t records = o->window_records ? o->window_records : WINDOW_RECORDS;
	size_t bytes = o->window_bytes ? o->window_bytes : WINDOW_BYTES;
	size_t parts = o->topic_count * KEPT_PART;

	r->lanes = mem_alloc(o->topic_count * sizeof(*r->lanes));
	r->lane_count = o->topic_count;
	r->window = (struct window){.lanes = r->lanes,
				    .lane_count = r->lane_count,
				    .records = records,
				    .bytes = bytes,
				    .least = records / parts ? records / parts : 1,
				    .least_bytes = bytes / parts ? bytes / parts : 1};
	for (size_t i = 0; i < o->topic_count; i++) {
		struct lane *lane = &r->lanes[i];

		lane->reader = r;
		lane->index = i;
		lane->topic = mem_strdup(o->topics[i]);
		list_init(&lane->partitions);
		lane->window = &r->window;
		lane->hungry = true;
	}
}

int lane_reader_open(struct loop *loop, const struct lane_reader_options *options,
		     const struct lane_reader_ops *ops, void *ctx, const struct log *log,
		     struct lane_reader **ret_reader)
{
	struct lane_reader *r = mem_new(struct lane_reader);
	int x;

	r->loop = loop;
	r->log = log_child(log, "part", "lane_reader");
	r->ops = *ops;
	r->ctx = ctx;
	r->commit_us = options->commit_us ? options->commit_us : COMMIT_US;
	lanes_make(r, options);
	group_init(r);
	sm_init(&r->end, ends, &r->log, "reader", END_NOT);
	timer_init(&r->poll, loop, poll_fire);
	timer_init(&r->ending, loop, ending_fire);
	task_init(&r->turn, loop, turn);
	task_init(&r->finish, loop, finish);
	x = lane_signal_open(&r->signal, loop, wake, r);
	if (!x)
		x = consumer_open(r, options);
	if (!x)
		x = subscribe(r);
	if (x) {
		finish(&r->finish);
		return err_trace(x);
	}
	timer_set(&r->poll, POLL_US);
	*ret_reader = r;
	return 0;
}
