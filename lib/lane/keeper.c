/* Deleting is asked for asynchronously. Where groups stand is asked by a thread with calls that block: the administration call that
 * would do it on the loop ends the whole process in librdkafka 2.0.2 when the coordinator's connection breaks meanwhile (an assertion
 * on a freed object; confluentinc/librdkafka issues 3663, 4605). Whole questions go over to the thread and come back. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/list.h"
#include "lib/base/mem.h"
#include "lib/lane/conf.h"

#define REQUEST_MS 10000
/* Of each blocking call: closing waits for one. */
#define BLOCK_MS 2000

/* A handle that can ask for one group's commits; made on the loop, used by the thread. */
struct member {
	struct list link;
	char *group;
	rd_kafka_t *rk;
};

/* One question; lives until its answer. */
struct question {
	struct list link;
	lane_places_fn *done;
	void *ctx;
	/* for the thread */
	struct member *member;
	rd_kafka_topic_partition_list_t
	    *topics; /* names; then, per partition, what was committed */
	rd_kafka_resp_err_t error;
};

struct lane_keeper {
	struct log log;
	struct lane_options kafka;
	rd_kafka_t *rk;
	rd_kafka_queue_t *main; /* errors, logs */
	rd_kafka_queue_t *answers;
	struct lane_signal signal;
	struct list questions; /* for rk */
	struct list members;
	pthread_t thread;
	bool running;
	/* shared with the thread, under the lock */
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct list asked;
	struct list answered;
	bool stop;
};

static struct question *question_new(lane_places_fn *done, void *ctx)
{
	struct question *q = mem_new(struct question);

	q->done = done;
	q->ctx = ctx;
	return q;
}

static void question_free(struct question *q)
{
	list_remove(&q->link);
	if (q->topics)
		rd_kafka_topic_partition_list_destroy(q->topics);
	mem_free(q);
}

/* ── the thread ── */

/* The partitions of @topic into @list. */
static rd_kafka_resp_err_t add_partitions(rd_kafka_t *rk, const char *topic,
					  rd_kafka_topic_partition_list_t *list)
{
	rd_kafka_topic_t *handle = rd_kafka_topic_new(rk, topic, NULL);
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t error;

	if (!handle)
		return rd_kafka_last_error();
	error = rd_kafka_metadata(rk, 0, handle, &metadata, BLOCK_MS);
	rd_kafka_topic_destroy(handle);
	if (error)
		return error;
	for (int t = 0; t < metadata->topic_cnt && !error; t++) {
		error = metadata->topics[t].err;
		for (int i = 0; i < metadata->topics[t].partition_cnt && !error; i++)
			rd_kafka_topic_partition_list_add(list, topic,
							  metadata->topics[t].partitions[i].id);
	}
	rd_kafka_metadata_destroy(metadata);
	return error;
}

static void ask(struct question *q)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(32);

	for (int i = 0; i < q->topics->cnt && !q->error; i++)
		q->error = add_partitions(q->member->rk, q->topics->elems[i].topic, list);
	if (!q->error)
		q->error = rd_kafka_committed(q->member->rk, list, BLOCK_MS);
	rd_kafka_topic_partition_list_destroy(q->topics);
	q->topics = list;
}

static void *work(void *ctx)
{
	struct lane_keeper *k = ctx;

	pthread_mutex_lock(&k->lock);
	while (!k->stop) {
		struct question *q = list_first(&k->asked, struct question, link);
		uint64_t one = 1;

		if (!q) {
			pthread_cond_wait(&k->more, &k->lock);
			continue;
		}
		list_remove(&q->link);
		pthread_mutex_unlock(&k->lock);
		ask(q);
		pthread_mutex_lock(&k->lock);
		list_push_back(&k->answered, &q->link);
		if (write(k->signal.fd, &one, sizeof(one)) < 0)
			continue; /* it is full of wake-ups already */
	}
	pthread_mutex_unlock(&k->lock);
	return NULL;
}

/* ── answers ── */

static void refused(struct lane_keeper *k, const rd_kafka_topic_partition_t *p)
{
	log_warn(&k->log, "partition_refused", F_STR("topic", p->topic),
		 F_INT("partition", p->partition), F_STR("why", rd_kafka_err2name(p->err)));
}

static void answer(struct lane_keeper *k, struct question *q,
		   const rd_kafka_topic_partition_list_t *list)
{
	size_t count = 0;
	cleanup_free struct lane_place *places =
	    mem_alloc(((size_t)list->cnt + 1) * sizeof(*places));

	for (int i = 0; i < list->cnt; i++) {
		const rd_kafka_topic_partition_t *p = &list->elems[i];

		if (p->err)
			refused(k, p);
		if (p->err || p->offset < 0)
			continue;
		places[count++] = (struct lane_place){
		    .topic = p->topic, .partition = p->partition, .offset = p->offset};
	}
	q->done(q->ctx, 0, places, count);
}

static void drain_logs(struct lane_keeper *k, rd_kafka_queue_t *main)
{
	rd_kafka_event_t *event;

	while ((event = rd_kafka_queue_poll(main, 0))) {
		lane_log_event(&k->log, event);
		rd_kafka_event_destroy(event);
	}
}

static void read_committed(struct lane_keeper *k, struct question *q)
{
	rd_kafka_queue_t *main = rd_kafka_queue_get_main(q->member->rk);

	drain_logs(k, main);
	rd_kafka_queue_destroy(main);
	if (q->error) {
		log_debug(&k->log, "commits_not_read", F_STR("group", q->member->group),
			  F_STR("why", rd_kafka_err2name(q->error)));
		q->done(q->ctx, -EIO, NULL, 0);
	} else {
		answer(k, q, q->topics);
	}
	question_free(q);
}

static struct question *take_answered(struct lane_keeper *k)
{
	struct question *q;

	pthread_mutex_lock(&k->lock);
	q = list_first(&k->answered, struct question, link);
	if (q)
		list_remove(&q->link);
	pthread_mutex_unlock(&k->lock);
	return q;
}

static void read_deleted(struct lane_keeper *k, rd_kafka_event_t *event)
{
	struct question *q = rd_kafka_event_opaque(event);

	if (rd_kafka_event_type(event) != RD_KAFKA_EVENT_DELETERECORDS_RESULT || !q)
		return;
	if (rd_kafka_event_error(event)) {
		log_debug(&k->log, "records_not_deleted",
			  F_STR("why", rd_kafka_event_error_string(event)));
		q->done(q->ctx, -EIO, NULL, 0);
	} else {
		answer(k, q,
		       rd_kafka_DeleteRecords_result_offsets(
			   rd_kafka_event_DeleteRecords_result(event)));
	}
	question_free(q);
}

static void wake(void *ctx)
{
	struct lane_keeper *k = ctx;
	rd_kafka_event_t *event;
	struct question *q;

	drain_logs(k, k->main);
	while ((event = rd_kafka_queue_poll(k->answers, 0))) {
		read_deleted(k, event);
		rd_kafka_event_destroy(event);
	}
	while ((q = take_answered(k)))
		read_committed(k, q);
}

/* ── questions ── */

/* NULL with a log line where librdkafka does not make it. */
static struct member *member_of(struct lane_keeper *k, const char *group)
{
	const struct lane_setting ours[] = {
	    {"group.id", group},
	    {"enable.auto.commit", "false"},
	    {"enable.auto.offset.store", "false"},
	};
	rd_kafka_conf_t *conf;
	struct member *m;
	rd_kafka_t *rk;

	list_each (&k->members, at) {
		m = container_of(at, struct member, link);
		if (strcmp(m->group, group) == 0)
			return m;
	}
	if (lane_conf_new(&k->kafka, ours, countof(ours), &k->log, &conf))
		return NULL;
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG);
	if (lane_handle_new(RD_KAFKA_CONSUMER, conf, &k->log, &rk))
		return NULL;
	m = mem_new(struct member);
	m->group = mem_strdup(group);
	m->rk = rk;
	list_push_back(&k->members, &m->link);
	return m;
}

void lane_keeper_committed(struct lane_keeper *k, const char *group, const char *const *topics,
			   size_t count, lane_places_fn *done, void *ctx)
{
	struct question *q = question_new(done, ctx);

	q->member = member_of(k, group);
	q->topics = rd_kafka_topic_partition_list_new((int)count);
	for (size_t i = 0; i < count; i++)
		rd_kafka_topic_partition_list_add(q->topics, topics[i], RD_KAFKA_PARTITION_UA);
	must(q->member); /* its settings were taken once: by lane_keeper_open */
	pthread_mutex_lock(&k->lock);
	list_push_back(&k->asked, &q->link);
	pthread_cond_signal(&k->more);
	pthread_mutex_unlock(&k->lock);
}

void lane_keeper_trim(struct lane_keeper *k, const struct lane_place *places, size_t count,
		      lane_places_fn *done, void *ctx)
{
	struct question *q = question_new(done, ctx);
	rd_kafka_AdminOptions_t *options =
	    rd_kafka_AdminOptions_new(k->rk, RD_KAFKA_ADMIN_OP_DELETERECORDS);
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)count);
	rd_kafka_DeleteRecords_t *request;
	char why[128];

	(void)rd_kafka_AdminOptions_set_request_timeout(options, REQUEST_MS, why, sizeof(why));
	rd_kafka_AdminOptions_set_opaque(options, q);
	for (size_t i = 0; i < count; i++)
		rd_kafka_topic_partition_list_add(list, places[i].topic, places[i].partition)
		    ->offset = places[i].offset;
	list_push_back(&k->questions, &q->link);
	request = rd_kafka_DeleteRecords_new(list);
	rd_kafka_DeleteRecords(k->rk, &request, 1, options, k->answers);
	rd_kafka_DeleteRecords_destroy(request);
	rd_kafka_topic_partition_list_destroy(list);
	rd_kafka_AdminOptions_destroy(options);
}

/* ── life ── */

static int client_open(struct lane_keeper *k)
{
	rd_kafka_conf_t *conf;
	int r = lane_conf_new(&k->kafka, NULL, 0, &k->log, &conf);

	if (r)
		return err_trace(r);
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG);
	r = lane_handle_new(RD_KAFKA_PRODUCER, conf, &k->log, &k->rk);
	if (r)
		return err_trace(r);
	k->main = rd_kafka_queue_get_main(k->rk);
	k->answers = rd_kafka_queue_new(k->rk);
	lane_signal_attach(&k->signal, k->main);
	lane_signal_attach(&k->signal, k->answers);
	k->running = pthread_create(&k->thread, NULL, work, k) == 0;
	return k->running ? 0 : err_origin(-EAGAIN);
}

int lane_keeper_open(struct loop *loop, const struct lane_options *kafka, const struct log *log,
		     struct lane_keeper **ret_keeper)
{
	struct lane_keeper *k = mem_new(struct lane_keeper);
	int r;

	k->log = log_child(log, "part", "lane_keeper");
	lane_options_copy(&k->kafka, kafka);
	list_init(&k->questions);
	list_init(&k->members);
	list_init(&k->asked);
	list_init(&k->answered);
	pthread_mutex_init(&k->lock, NULL);
	pthread_cond_init(&k->more, NULL);
	r = lane_signal_open(&k->signal, loop, wake, k);
	if (!r)
		r = client_open(k);
	if (r) {
		lane_keeper_close(k);
		return err_trace(r);
	}
	*ret_keeper = k;
	return 0;
}

static void thread_end(struct lane_keeper *k)
{
	if (!k->running)
		return;
	pthread_mutex_lock(&k->lock);
	k->stop = true;
	pthread_cond_signal(&k->more);
	pthread_mutex_unlock(&k->lock);
	pthread_join(k->thread, NULL);
}

static void questions_free(struct list *questions)
{
	struct question *q;

	while ((q = list_first(questions, struct question, link)))
		question_free(q);
}

void lane_keeper_close(struct lane_keeper *k)
{
	if (!k)
		return;
	thread_end(k);
	if (k->rk) {
		lane_signal_detach(k->main);
		lane_signal_detach(k->answers);
		rd_kafka_queue_destroy(k->main);
		rd_kafka_queue_destroy(k->answers);
		rd_kafka_destroy(k->rk);
	}
	list_each (&k->members, at) {
		struct member *m = container_of(at, struct member, link);

		list_remove(&m->link);
		rd_kafka_destroy(m->rk);
		mem_free(m->group);
		mem_free(m);
	}
	lane_signal_close(&k->signal);
	questions_free(&k->questions);
	questions_free(&k->asked);
	questions_free(&k->answered);
	pthread_cond_destroy(&k->more);
	pthread_mutex_destroy(&k->lock);
	lane_options_fini(&k->kafka);
	mem_free(k);
}
