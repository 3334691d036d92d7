/* Assignment and commits of a reader. */
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/lane/reader_impl.h"

/* A look-up that failed is asked again after this. */
#define AGAIN_US (100 * US_PER_MS)
/* Of one look-up; the end of the reader waits for it. */
#define LOOK_UP_MS 2000
/* How long the last commit before partitions are given back may take. */
#define LET_GO_US (1500 * US_PER_MS)

static const struct sm_state moves[] = {
    [GROUP_OUTSIDE] = {"outside", SM(GROUP_LOOKING)},
    [GROUP_LOOKING] = {"looking", SM(GROUP_INSIDE) | SM(GROUP_OUTSIDE)},
    [GROUP_INSIDE] = {"inside", SM(GROUP_LETTING_GO) | SM(GROUP_OUTSIDE)},
    [GROUP_LETTING_GO] = {"letting_go", SM(GROUP_OUTSIDE)},
};

struct partition *group_partition(struct lane_reader *r, const char *topic, int32_t number)
{
	for (size_t i = 0; i < r->lane_count; i++) {
		if (strcmp(r->lanes[i].topic, topic) != 0)
			continue;
		list_each (&r->lanes[i].partitions, at) {
			struct partition *p = container_of(at, struct partition, link);

			if (p->number == number)
				return p;
		}
	}
	return NULL;
}

/* ── commits ── */

static void commit_add(rd_kafka_topic_partition_list_t *list, struct partition *p)
{
	rd_kafka_topic_partition_t *entry =
	    rd_kafka_topic_partition_list_add(list, p->lane->topic, p->number);
	struct buf text = {0};

	done_encode(&p->done, &text);
	entry->offset = p->done.base;
	entry->metadata_size = text.len;
	entry->metadata = buf_steal(&text);
	p->dirty = false;
}

static void dirty_again(struct lane_reader *r, const rd_kafka_topic_partition_list_t *list,
			rd_kafka_resp_err_t failed)
{
	for (int i = 0; i < list->cnt; i++) {
		const rd_kafka_topic_partition_t *entry = &list->elems[i];
		struct partition *p;

		if (!failed && !entry->err)
			continue;
		p = group_partition(r, entry->topic, entry->partition);
		if (p)
			p->dirty = true;
		log_debug(&r->log, "commit_failed", F_STR("topic", entry->topic),
			  F_INT("partition", entry->partition),
			  F_STR("why", rd_kafka_err2name(failed ? failed : entry->err)));
		group_dirty(r);
	}
}

/* Commits the newest state of every dirty partition. True where a commit is on its way under r->question. */
static bool commit_now(struct lane_reader *r)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(8);
	rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
	bool sent = false;

	for (size_t i = 0; i < r->lane_count; i++)
		list_each (&r->lanes[i].partitions, at) {
			struct partition *p = container_of(at, struct partition, link);

			if (p->dirty && p->based)
				commit_add(list, p);
		}
	if (list->cnt) {
		r->question++;
		code = rd_kafka_commit_queue(r->rk, list, r->events, NULL, (void *)r->question);
		sent = !code;
		if (code)
			dirty_again(r, list, code);
		else
			r->commits++;
	}
	rd_kafka_topic_partition_list_destroy(list);
	return sent;
}

static void commit_fire(struct timer *timer)
{
	struct lane_reader *r = container_of(timer, struct lane_reader, commit);

	/* One at a time: the next carries the newest state. Its result sets the timer again. */
	if (sm_state(&r->group) == GROUP_INSIDE && !r->commits)
		(void)commit_now(r);
}

void group_dirty(struct lane_reader *r)
{
	if (!timer_is_set(&r->commit))
		timer_set(&r->commit, r->commit_us);
}

static bool any_dirty(const struct lane_reader *r)
{
	for (size_t i = 0; i < r->lane_count; i++)
		list_each (&r->lanes[i].partitions, at)
			if (container_of(at, struct partition, link)->dirty)
				return true;
	return false;
}

/* ── taken away ── */

/* Partitions that did not come back are somebody else's now. */
static void limbo_end(struct lane_reader *r)
{
	for (size_t i = 0; i < r->lane_count; i++)
		list_each (&r->lanes[i].partitions, at) {
			struct partition *p = container_of(at, struct partition, link);
			int32_t number = p->number;

			if (p->state != PARTITION_LIMBO)
				continue;
			partition_gone(p, &r->gone);
			r->ops.revoked(r->ctx, i, number);
		}
}

static void limbo_begin(struct lane_reader *r)
{
	for (size_t i = 0; i < r->lane_count; i++)
		list_each (&r->lanes[i].partitions, at) {
			struct partition *p = container_of(at, struct partition, link);

			if (p->queue) {
				lane_signal_detach(p->queue);
				rd_kafka_queue_destroy(p->queue);
			}
			p->queue = NULL;
			p->pending = false;
			p->state = PARTITION_LIMBO;
		}
}

static void let_go_end(struct lane_reader *r)
{
	timer_stop(&r->step);
	if (sm_state(&r->group) != GROUP_OUTSIDE)
		sm_move(&r->group, GROUP_OUTSIDE);
	if (r->incoming)
		rd_kafka_topic_partition_list_destroy(r->incoming);
	r->incoming = NULL;
	r->question++;
	rd_kafka_assign(r->rk, NULL);
	reader_outside(r);
}

static void revoked(struct lane_reader *r)
{
	bool lost = rd_kafka_assignment_lost(r->rk);

	log_debug(&r->log, "revoked", F_INT("lost", lost));
	timer_stop(&r->commit);
	limbo_begin(r);
	if (sm_state(&r->group) != GROUP_INSIDE || lost || !commit_now(r)) {
		let_go_end(r);
		return;
	}
	sm_move(&r->group, GROUP_LETTING_GO);
	timer_set(&r->step, LET_GO_US);
}

void group_refuse(struct lane_reader *r)
{
	if (sm_state(&r->group) == GROUP_LOOKING)
		let_go_end(r);
}

/* ── assigned ── */

/* Asks what the group committed, with the sets of completed offsets: librdkafka's own look-up drops them. Only while no
 * commit is on its way: librdkafka would put off the start of the partitions, and forward their queues behind our back. */
static void look_up(struct lane_reader *r)
{
	if (r->commits || r->lookup.asked)
		return;
	r->question++;
	r->looked = r->question;
	if (!lookup_ask(&r->lookup, r->rk, r->incoming, LOOK_UP_MS, r->signal.fd))
		timer_set(&r->step, AGAIN_US);
}

static void assigned(struct lane_reader *r, const rd_kafka_topic_partition_list_t *partitions)
{
	log_debug(&r->log, "assigned", F_INT("partitions", partitions->cnt));
	if (sm_state(&r->end) != END_NOT) {
		rd_kafka_assign(r->rk, NULL);
		return;
	}
	if (sm_state(&r->group) != GROUP_OUTSIDE) {
		limbo_begin(r);
		let_go_end(r);
	}
	sm_move(&r->group, GROUP_LOOKING);
	r->incoming = rd_kafka_topic_partition_list_copy(partitions);
	look_up(r);
}

/* The set of @entry into its partition; its offset becomes the one to fetch from. */
static void learn(struct lane_reader *r, struct lane *lane, rd_kafka_topic_partition_t *entry)
{
	struct partition *p = group_partition(r, entry->topic, entry->partition);
	struct str text = {entry->metadata, entry->metadata_size};
	enum done_result result;

	if (!p)
		p = partition_new(lane, entry->partition);
	result = partition_learn(p, entry->offset, text);
	if (result)
		log_warn(&r->log, "commit_unreadable", F_STR("topic", entry->topic),
			 F_INT("partition", entry->partition),
			 F_INT("version", result == DONE_VERSION), F_UINT("size_bytes", text.len));
	entry->offset = p->based ? p->next : RD_KAFKA_OFFSET_BEGINNING;
	p->state = PARTITION_OPEN;
}

static struct lane *lane_of(struct lane_reader *r, const char *topic)
{
	for (size_t i = 0; i < r->lane_count; i++)
		if (strcmp(r->lanes[i].topic, topic) == 0)
			return &r->lanes[i];
	return NULL;
}

static void queues_split(struct lane_reader *r, const rd_kafka_topic_partition_list_t *start)
{
	for (int i = 0; i < start->cnt; i++) {
		struct partition *p =
		    group_partition(r, start->elems[i].topic, start->elems[i].partition);

		p->queue = rd_kafka_queue_get_partition(r->rk, start->elems[i].topic, p->number);
		if (!p->queue)
			continue;
		rd_kafka_queue_forward(p->queue, NULL);
		lane_signal_attach(&r->signal, p->queue);
		p->pending = true;
	}
}

static void install(struct lane_reader *r, const rd_kafka_topic_partition_list_t *committed)
{
	rd_kafka_topic_partition_list_t *start = rd_kafka_topic_partition_list_new(committed->cnt);
	rd_kafka_resp_err_t code;

	for (int i = 0; i < committed->cnt; i++) {
		const rd_kafka_topic_partition_t *from = &committed->elems[i];
		struct lane *lane = lane_of(r, from->topic);

		if (!lane)
			continue;
		learn(r, lane, &committed->elems[i]);
		rd_kafka_topic_partition_list_add(start, from->topic, from->partition)->offset =
		    from->offset;
	}
	rd_kafka_topic_partition_list_destroy(r->incoming);
	r->incoming = NULL;
	code = rd_kafka_assign(r->rk, start);
	if (code)
		reader_trouble(r, "", -1, code, "assignment refused");
	queues_split(r, start);
	rd_kafka_topic_partition_list_destroy(start);
	sm_move(&r->group, GROUP_INSIDE);
	timer_stop(&r->step);
	r->assigned = true;
	limbo_end(r);
	if (any_dirty(r))
		group_dirty(r);
	task_post(&r->turn);
}

static const char *unusable(const rd_kafka_topic_partition_list_t *list, rd_kafka_resp_err_t error)
{
	for (int i = 0; !error && i < list->cnt; i++)
		error = list->elems[i].err;
	return error ? rd_kafka_err2name(error) : NULL;
}

void group_answer(struct lane_reader *r)
{
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_resp_err_t error;
	const char *why;

	if (!lookup_take(&r->lookup, &list, &error))
		return;
	if (sm_state(&r->end) == END_CLOSED) {
		task_post(&r->finish); /* it waited only for this */
	} else if (sm_state(&r->group) == GROUP_LOOKING && r->looked != r->question) {
		look_up(r); /* of an assignment that is over */
	} else if (sm_state(&r->group) == GROUP_LOOKING) {
		why = unusable(list, error);
		if (why) {
			log_debug(&r->log, "look_up_failed", F_STR("why", why));
			timer_set(&r->step, AGAIN_US);
		} else {
			install(r, list);
		}
	}
	rd_kafka_topic_partition_list_destroy(list);
}

static void committed(struct lane_reader *r, rd_kafka_event_t *event)
{
	bool awaited = rd_kafka_event_opaque(event) == (void *)r->question;
	rd_kafka_topic_partition_list_t *list = rd_kafka_event_topic_partition_list(event);

	if (r->commits)
		r->commits--;
	if (list)
		dirty_again(r, list, rd_kafka_event_error(event));
	switch ((enum group_state)sm_state(&r->group)) {
	case GROUP_LETTING_GO:
		if (awaited)
			let_go_end(r);
		break;
	case GROUP_LOOKING:
		look_up(r);
		break;
	case GROUP_INSIDE:
		if (any_dirty(r))
			group_dirty(r);
		break;
	case GROUP_OUTSIDE:
		break;
	}
}

static void step_fire(struct timer *timer)
{
	struct lane_reader *r = container_of(timer, struct lane_reader, step);

	if (sm_state(&r->group) == GROUP_LOOKING)
		look_up(r);
	else if (sm_state(&r->group) == GROUP_LETTING_GO)
		let_go_end(r);
}

bool group_event(struct lane_reader *r, rd_kafka_event_t *event)
{
	switch (rd_kafka_event_type(event)) {
	case RD_KAFKA_EVENT_REBALANCE:
		if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS)
			assigned(r, rd_kafka_event_topic_partition_list(event));
		else
			revoked(r);
		return true;
	case RD_KAFKA_EVENT_OFFSET_COMMIT:
		committed(r, event);
		return true;
	default:
		return false;
	}
}

void group_init(struct lane_reader *r)
{
	sm_init(&r->group, moves, &r->log, "group", GROUP_OUTSIDE);
	timer_init(&r->commit, r->loop, commit_fire);
	timer_init(&r->step, r->loop, step_fire);
	list_init(&r->gone);
}

void group_fini(struct lane_reader *r)
{
	timer_stop(&r->commit);
	timer_stop(&r->step);
	if (r->incoming)
		rd_kafka_topic_partition_list_destroy(r->incoming);
	for (size_t i = 0; i < r->lane_count; i++)
		list_each (&r->lanes[i].partitions, at) {
			struct partition *p = container_of(at, struct partition, link);

			if (p->queue)
				rd_kafka_queue_destroy(p->queue);
			p->queue = NULL;
			partition_gone(p, &r->gone);
		}
	list_each (&r->gone, at)
		partition_orphan(container_of(at, struct partition, link));
}
