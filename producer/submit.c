#include "producer/submit.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/id.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/base/plant.h"
#include "lib/base/sm.h"
#include "lib/lane/lane.h"
#include "lib/net/loop.h"
#include "lib/relay/state.h"
#include "lib/store/blob.h"
#include "lib/store/redis.h"
#include "lib/svc/config.h"
#include "producer/admit.h"
#include "producer/restore.h"
#include "schemas/keys.h"
#include "schemas/lanes.h"
#include "schemas/scripts.h"

enum submit_state {
	SUBMIT_TURN,	/* the session's turn is asked for */
	SUBMIT_RESTORE, /* the session is brought back from PostgreSQL */
	SUBMIT_BLOB,	/* a large record goes to the blob store */
	SUBMIT_WRITE,	/* the broker is to acknowledge */
	SUBMIT_QUEUE,	/* `queued` is written where nothing stands */
	SUBMIT_REFUSE,	/* nobody knows whether it is in the log: refused where nothing stands */
	SUBMIT_ENDED,
};

static const struct sm_state moves[] = {
    [SUBMIT_TURN] = {"turn",
		     SM(SUBMIT_RESTORE) | SM(SUBMIT_BLOB) | SM(SUBMIT_WRITE) | SM(SUBMIT_ENDED)},
    [SUBMIT_RESTORE] = {"restore", SM(SUBMIT_TURN) | SM(SUBMIT_ENDED)},
    [SUBMIT_BLOB] = {"blob", SM(SUBMIT_WRITE) | SM(SUBMIT_ENDED)},
    [SUBMIT_WRITE] = {"write", SM(SUBMIT_QUEUE) | SM(SUBMIT_REFUSE) | SM(SUBMIT_ENDED)},
    [SUBMIT_QUEUE] = {"queue", SM(SUBMIT_ENDED)},
    [SUBMIT_REFUSE] = {"refuse", SM(SUBMIT_ENDED)},
    [SUBMIT_ENDED] = {"ended", 0},
};

struct submitter {
	struct submitter_options o;
	char *topics[LANE_COUNT];
	struct list submits;
	size_t held_bytes;
	bool full; /* somebody was refused since half of it was free */
};

struct submit {
	struct list link;
	struct submitter *submitter;
	size_t carried_bytes; /* of what it holds */
	struct sm sm;
	struct arena arena;
	struct job job;
	struct buf record;
	const char *topic;
	int32_t partition;
	int64_t offset;
	bool again;	/* the same id was submitted before: an earlier record may be in the log */
	bool restored;	/* the session was brought back once */
	bool refused;	/* by its state */
	bool turn_lost; /* it was asked for, and the reply was lost: the job may have one */
	bool
	    heard; /* its end waits for the session's WebSocket clients: the outbox is to have it */
	bool writing; /* lane_write cannot be cancelled: the object waits for its word */
	bool cancelled;
	struct redis_request *request;
	struct blob_request *blob;
	struct restore *restore;
	void (*done)(void *ctx, const struct submit_outcome *outcome);
	void *ctx;
};

/* ── what is held ── */

/* What a job costs besides. */
#define JOB_BYTES 4096

size_t submitter_weight(size_t body_bytes)
{
	return SUBMITTER_COPIES * body_bytes + JOB_BYTES;
}

bool submitter_hold(struct submitter *s, size_t weight)
{
	size_t most = s->o.max_held_bytes;

	if (most && s->held_bytes && s->held_bytes + weight > most) {
		if (!s->full)
			log_warn(s->o.log,
				 "jobs are refused: too many bytes are on their way to Kafka",
				 F_UINT("held_bytes", s->held_bytes));
		s->full = true;
		return false;
	}
	s->held_bytes += weight;
	return true;
}

void submitter_release(struct submitter *s, size_t weight)
{
	must(weight <= s->held_bytes);
	s->held_bytes -= weight;
	if (s->held_bytes <= s->o.max_held_bytes / 2)
		s->full = false;
}

size_t submitter_held_bytes(const struct submitter *s)
{
	return s->held_bytes;
}

/* ── the end ── */

static void submit_free(struct submit *s)
{
	if (s->request)
		redis_cancel(s->request);
	if (s->blob)
		blob_cancel(s->blob);
	restore_cancel(s->restore);
	submitter_release(s->submitter, s->carried_bytes);
	list_remove(&s->link);
	buf_fini(&s->record);
	arena_reset(&s->arena);
	mem_free(s);
}

static void submit_end(struct submit *s, enum fault fault, const char *message)
{
	struct submit_outcome outcome = {.fault = fault,
					 .message = message,
					 .job = s->job.id,
					 .topic = s->topic,
					 .partition = s->partition,
					 .offset = s->offset,
					 .position = -1,
					 .refused = s->refused};

	sm_move(&s->sm, SUBMIT_ENDED);
	if (!s->cancelled)
		s->done(s->ctx, &outcome);
	submit_free(s);
}

/* An earlier try may have been accepted: only a refusal that stands says that nothing was. */
static void submit_end_unsure(struct submit *s, enum fault fault, const char *message)
{
	submit_end(s, s->again ? FAULT_OUTCOME_UNKNOWN : fault, s->again ? NULL : message);
}

/* ── after the broker ── */

static void on_waits(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct submit *s = ctx;

	(void)value;
	s->request = NULL;
	submit_end(s, result == REDIS_OK ? FAULT_NONE : FAULT_OUTCOME_UNKNOWN, NULL);
}

/* Awaited: the outbox in Redis says of itself that it has all. */
static void wait_for_clients(struct submit *s)
{
	s->request = state_outbox(s->submitter->o.redis, s->job.outbox, s->job.id,
				  s->job.created_ms, STATE_OUTBOX_JOBS, 0, on_waits, s);
}

static void on_queued(void *ctx, enum redis_result result, struct str state)
{
	struct submit *s = ctx;

	s->request = NULL;
	s->refused = result == REDIS_OK && str_is(state, "refused");
	if (result != REDIS_OK)
		submit_end(s, FAULT_OUTCOME_UNKNOWN, NULL);
	else if (s->refused)
		submit_end(s, FAULT_UNAVAILABLE, NULL);
	else if (s->heard)
		wait_for_clients(s);
	else
		submit_end(s, FAULT_NONE, NULL);
}

/* A turn that will not run is not open. @done: NULL where it is not awaited. */
static struct redis_request *end_turn(struct submit *s, redis_fn *done)
{
	struct key keys[2] = {key_session(s->job.session), key_conversation(s->job.session)};
	char turn[24];

	snprintf(turn, sizeof(turn), "%lld", (long long)s->job.turn);
	return redis_script(s->submitter->o.redis, s->job.session, &script_converse,
			    (const struct str[]){key_str(&keys[0]), key_str(&keys[1])}, 2,
			    (const struct str[]){str_of(turn), s->job.id}, 2, done, s);
}

/* Redis lost its memory since: the same job may have been accepted meanwhile, by another try, and nothing there would say so. */
static bool forgotten(const struct submit *s)
{
	return id_wall_ms(s->job.id) <= redis_epoch_wall_ms(s->submitter->o.redis);
}

/* The job will not be in the log: the next turn of its session need not wait for it. */
static void drop_turn(struct submit *s)
{
	struct submitter_options *o = &s->submitter->o;

	if (!s->job.turn || forgotten(s))
		return;
	state_refuse(o->redis, s->job.id, s->job.org,
		     state_ttl_ms(s->job.deadline_ms, loop_wall_ms(o->loop)), NULL, NULL);
	end_turn(s, NULL);
}

/* A turn that nobody ends keeps its place among the open ones: where that is not sure, only the same job may come again. */
static void on_turn_ended(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct submit *s = ctx;

	(void)value;
	s->request = NULL;
	submit_end(s, result == REDIS_OK ? FAULT_UNAVAILABLE : FAULT_OUTCOME_UNKNOWN, NULL);
}

static void on_refused(void *ctx, enum redis_result result, struct str state)
{
	struct submit *s = ctx;

	s->request = NULL;
	s->refused = result == REDIS_OK && str_is(state, "refused");
	if (!s->refused)
		submit_end(s, FAULT_OUTCOME_UNKNOWN, NULL);
	else if (s->job.turn)
		s->request = end_turn(s, on_turn_ended);
	else
		submit_end(s, FAULT_UNAVAILABLE, NULL);
}

static void refuse(struct submit *s)
{
	struct submitter_options *o = &s->submitter->o;

	s->request =
	    state_refuse(o->redis, s->job.id, s->job.org,
			 state_ttl_ms(s->job.deadline_ms, loop_wall_ms(o->loop)), on_refused, s);
}

static void on_epoch(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct submit *s = ctx;

	s->request = NULL;
	if (redis_epoch_stands(s->submitter->o.redis, result, value) && !forgotten(s))
		refuse(s);
	else
		submit_end(s, FAULT_OUTCOME_UNKNOWN, NULL);
}

/* It may be in the log; or it is not, and its turn is to be ended. Refused where no loss of Redis's memory can hide that it was accepted. */
static void refuse_safely(struct submit *s)
{
	sm_move(&s->sm, SUBMIT_REFUSE);
	s->request = redis_ask_epoch(s->submitter->o.redis, s->job.id, on_epoch, s);
}

/* Lists of open jobs are a help for readers: not awaited, rebuilt by pools. */
static void list_open(struct submit *s)
{
	const struct str owners[2] = {s->job.org, s->job.session};
	char score[24];

	snprintf(score, sizeof(score), "%lld", (long long)s->job.created_ms);
	for (size_t i = 0; i < countof(owners); i++) {
		struct key key = key_open(owners[i]);
		const struct str args[] = {STR("ZADD"), key_str(&key), str_of(score), s->job.id};

		if (owners[i].len)
			redis_command(s->submitter->o.redis, owners[i], args, countof(args), NULL,
				      NULL);
	}
}

static void on_written(void *ctx, enum lane_written result, int32_t partition, int64_t offset)
{
	struct submit *s = ctx;
	struct submitter *owner = s->submitter;
	uint64_t now = loop_wall_ms(owner->o.loop);

	s->writing = false;
	s->partition = partition;
	s->offset = offset;
	switch (result) {
	case LANE_WRITTEN:
		sm_move(&s->sm, SUBMIT_QUEUE);
		s->request = state_submit(owner->o.redis, &s->job, s->topic, partition, offset, now,
					  on_queued, s);
		list_open(s);
		return;
	case LANE_NOT_WRITTEN:
		if (!s->again && !s->job.turn) {
			submit_end(s, FAULT_UNAVAILABLE, NULL);
			return;
		}
		/* fall through */
	case LANE_UNKNOWN:
		if (PLANTED(UNSURE_ACCEPTED)) {
			submit_end(s, FAULT_NONE, NULL);
			return;
		}
		refuse_safely(s);
		return;
	case LANE_TOO_BIG:
		drop_turn(s);
		submit_end(s, FAULT_TOO_LARGE, NULL);
		return;
	}
}

/* ── towards the broker ── */

#define SHARDS 2

static struct lane_writer *writer_of(const struct submit *s)
{
	const struct submitter_options *o = &s->submitter->o;

	bool bulk = o->bulk_writer && str_is(s->job.lane, lane_name(LANE_BACKGROUND));

	return bulk ? o->bulk_writer : o->writer;
}

/* One of the organisation's partitions: the session's, so that readers see its turns in order as a courtesy, else any. */
static int32_t shard(const struct submit *s)
{
	struct submitter_options *o = &s->submitter->o;
	int32_t partitions = lane_partitions(writer_of(s), s->topic);
	uint64_t shards = o->shards > 0 ? (uint64_t)o->shards : SHARDS;
	uint64_t pick;

	if (partitions <= 0)
		return -1; /* not known yet: by the key */
	pick = s->job.session.len ? lane_hash(s->job.session) % shards
				  : rand_below(loop_rand(o->loop), shards);
	return lane_shard(s->job.org, pick, partitions);
}

static void write_record(struct submit *s)
{
	const struct job *job = &s->job;
	struct job_head head = {.v = 1,
				.job = job->id,
				.org = job->org,
				.session = job->session,
				.turn = job->turn,
				.prev = job->prev,
				.kind = job->kind,
				.class = job->task.len ? job->task : job->model,
				.estimate = job->estimate,
				.created_ms = job->created_ms,
				.start_by_ms =
				    (job->not_before_ms ? job->not_before_ms : job->created_ms) +
				    job->queue_ms,
				.deadline_ms = job->deadline_ms,
				.due_ms = job->not_before_ms,
				.traceparent = job->traceparent};
	struct lane_header headers[32];
	char numbers[32][24];
	struct lane_write what = {.topic = s->topic,
				  .partition = shard(s),
				  .key = job->session.len ? job->session : job->id,
				  .body = buf_str(&s->record),
				  .headers = headers};

	must(codec_head.count <= countof(headers));
	for (size_t i = 0; i < codec_head.count; i++) {
		struct str text = codec_text(&codec_head.fields[i], &head, numbers[i]);

		if (text.ptr)
			headers[what.header_count++] =
			    (struct lane_header){str_of(codec_head.fields[i].name), text};
	}
	sm_move(&s->sm, SUBMIT_WRITE);
	s->writing = true;
	lane_write(writer_of(s), &what, on_written, s);
	buf_fini(&s->record);
}

static void on_blob(void *ctx, enum blob_result result, const char *ref)
{
	struct submit *s = ctx;
	const struct job *job = &s->job;
	struct job small;

	s->blob = NULL;
	if (result != BLOB_OK) {
		if (!s->again)
			drop_turn(s);
		submit_end_unsure(s, FAULT_UNAVAILABLE, NULL);
		return;
	}
	codec_init(&codec_job, &small);
	small.v = 1;
	small.id = job->id;
	small.org = job->org;
	small.lane = job->lane;
	small.session = job->session;
	small.turn = job->turn;
	small.prev = job->prev;
	small.channel = job->channel;
	small.created_ms = job->created_ms;
	small.not_before_ms = job->not_before_ms;
	small.queue_ms = job->queue_ms;
	small.run_ms = job->run_ms;
	small.deadline_ms = job->deadline_ms;
	small.metadata = job->metadata;
	small.webhook = job->webhook;
	small.outbox = job->outbox;
	small.blob = str_of(ref);
	buf_fini(&s->record);
	codec_encode(&codec_job, &small, &s->record);
	write_record(s);
}

static void encode(struct submit *s)
{
	codec_encode(&codec_job, &s->job, &s->record);
	if (s->record.len <= BLOB_INLINE_MAX) {
		write_record(s);
		return;
	}
	sm_move(&s->sm, SUBMIT_BLOB);
	s->blob = blob_put(s->submitter->o.blob, buf_str(&s->record), on_blob, s);
}

/* ── the session's turn ── */

static void ask_turn(struct submit *s);

static void on_restored(void *ctx, enum restored result)
{
	struct submit *s = ctx;

	s->restore = NULL;
	switch (result) {
	case RESTORED_OK:
		sm_move(&s->sm, SUBMIT_TURN);
		ask_turn(s);
		return;
	case RESTORED_MISSING:
		submit_end(s, FAULT_NOT_FOUND, "There is no such session.");
		return;
	case RESTORED_UNSURE:
		submit_end_unsure(s, FAULT_UNAVAILABLE, NULL);
		return;
	}
}

static void session_missing(struct submit *s)
{
	struct submitter_options *o = &s->submitter->o;

	if (s->restored) { /* it was there just now: Redis was emptied again */
		submit_end_unsure(s, FAULT_UNAVAILABLE, NULL);
		return;
	}
	s->restored = true;
	sm_move(&s->sm, SUBMIT_RESTORE);
	s->restore = restore_open(o->redis, o->pg, s->job.session, s->job.org,
				  loop_wall_ms(o->loop), on_restored, s);
}

/* A job that came over HTTP into a session which WebSocket clients know: its end waits for them, as do those that they submit. */
static void note_clients(struct submit *s, struct str unheard)
{
	if (s->job.outbox.len || str_is(unheard, "1"))
		return;
	s->heard = true;
	s->job.outbox = s->job.session;
}

/* What the session says where the job does not; then on. */
static void with_session(struct submit *s, struct str task, struct str system)
{
	struct admitted a = admitted_good();
	bool native = str_is(s->job.dialect, "native");

	if (!s->job.task.len && !s->job.model.len)
		s->job.task = admit_copy(&s->arena, task);
	if (native && !s->job.system.len && system.len) {
		s->job.system = admit_copy(&s->arena, system);
		s->job.estimate += (int64_t)(system.len / 4);
	}
	if (!s->job.task.len && !s->job.model.len)
		admitted_fail(&a, FAULT_INVALID_REQUEST, "task",
			      "One of task or model must name the route.");
	else
		admit_route(s->submitter->o.config, &s->job, &a);
	if (a.fault == FAULT_NONE) {
		encode(s);
		return;
	}
	drop_turn(s);
	submit_end(s, a.fault, a.message);
}

static void on_turn(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct submit *s = ctx;
	struct str word = STR("");

	s->request = NULL;
	if (result == REDIS_OK && value->type == REDIS_LIST)
		word = redis_item_str(value, 0);
	if (str_is(word, "ok")) {
		s->job.turn = redis_item_int(value, 1, 0);
		s->job.prev = admit_copy(&s->arena, redis_item_str(value, 2));
		note_clients(s, redis_item_str(value, 5));
		with_session(s, redis_item_str(value, 3), redis_item_str(value, 4));
	} else if (str_is(word, "missing")) {
		session_missing(s);
	} else if (result == REDIS_LOST && !s->turn_lost) {
		s->turn_lost = true; /* the same again: a job has one turn */
		ask_turn(s);
	} else if (str_is(word, "busy")) {
		submit_end_unsure(s, FAULT_BUSY, NULL);
	} else if (s->turn_lost) {
		submit_end(s, FAULT_OUTCOME_UNKNOWN, NULL);
	} else {
		submit_end_unsure(s, FAULT_UNAVAILABLE, NULL);
	}
}

/* Background and delayed jobs take no turn: the session only lends its task and system prompt. */
static void on_lent(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct submit *s = ctx;

	s->request = NULL;
	if (result != REDIS_OK || value->type != REDIS_LIST)
		submit_end_unsure(s, FAULT_UNAVAILABLE, NULL);
	else if (!str_eq(redis_item_str(value, 0), s->job.org))
		session_missing(s);
	else {
		note_clients(s, redis_item_str(value, 3));
		with_session(s, redis_item_str(value, 1), redis_item_str(value, 2));
	}
}

static void ask_turn(struct submit *s)
{
	struct submitter_options *o = &s->submitter->o;
	struct key keys[2] = {key_session(s->job.session), key_conversation(s->job.session)};
	const struct str names[2] = {key_str(&keys[0]), key_str(&keys[1])};
	char max[24], left[24];

	if (str_is(s->job.lane, lane_name(LANE_BACKGROUND)) || s->job.not_before_ms) {
		const struct str args[] = {STR("HMGET"), names[0],	STR("org"),
					   STR("task"),	 STR("system"), STR("unheard")};

		s->request =
		    redis_command(o->redis, s->job.session, args, countof(args), on_lent, s);
		return;
	}
	snprintf(max, sizeof(max), "%lld", (long long)o->max_open_turns);
	snprintf(left, sizeof(left), "%lld",
		 (long long)(s->job.deadline_ms - (int64_t)loop_wall_ms(o->loop)));
	s->request = redis_script(
	    o->redis, s->job.session, &script_turn, names, 2,
	    (const struct str[]){s->job.org, s->job.id, str_of(max), str_of(left)}, 4, on_turn, s);
}

/* ── life ── */

struct submitter *submitter_new(const struct submitter_options *options)
{
	struct submitter *s = mem_new(struct submitter);

	s->o = *options;
	list_init(&s->submits);
	for (int lane = 0; lane < LANE_COUNT; lane++)
		s->topics[lane] =
		    topic_full(options->topic_prefix, lane_topic_llm((enum lane)lane));
	for (int lane = 0; lane < LANE_COUNT; lane++)
		lane_partitions(options->writer,
				s->topics[lane]); /* asked for before the first job comes */
	if (options->bulk_writer)
		lane_partitions(options->bulk_writer, s->topics[LANE_BACKGROUND]);
	return s;
}

void submitter_reload(struct submitter *submitter, const struct config *config)
{
	submitter->o.config = config;
}

void submitter_free(struct submitter *submitter)
{
	struct submit *s;

	if (!submitter)
		return;
	/* The writer is closed before: what still waits for its word gets none. */
	while ((s = list_first(&submitter->submits, struct submit, link)))
		submit_free(s);
	for (int lane = 0; lane < LANE_COUNT; lane++)
		mem_free(submitter->topics[lane]);
	mem_free(submitter);
}

static void copy_job(struct submit *s, const struct job *job)
{
	s->job = *job;
	for (size_t i = 0; i < codec_job.count; i++) {
		const struct codec_field *f = &codec_job.fields[i];
		struct str *text = (struct str *)((char *)&s->job + f->offset);

		if (f->type == CODEC_STR || f->type == CODEC_RAW)
			*text = admit_copy(&s->arena, *text);
	}
}

struct submit *submit_open(struct submitter *submitter, const struct job *job,
			   void (*done)(void *ctx, const struct submit_outcome *outcome), void *ctx)
{
	struct submit *s = mem_new(struct submit);
	enum lane lane = LANE_INTERACTIVE;

	s->submitter = submitter;
	s->done = done;
	s->ctx = ctx;
	s->offset = -1;
	s->partition = -1;
	copy_job(s, job);
	if (lane_find(s->job.lane, &lane) != LANE_FOUND)
		lane = LANE_INTERACTIVE;
	s->topic = submitter->topics[lane];
	list_push_back(&submitter->submits, &s->link);
	sm_init(&s->sm, moves, submitter->o.log, "submit", SUBMIT_TURN);
	if (s->job.session.len)
		ask_turn(s);
	else
		encode(s);
	return s;
}

void submit_again(struct submit *submit)
{
	submit->again = true;
}

void submit_carry(struct submit *submit, size_t weight)
{
	submit->carried_bytes += weight;
}

void submit_cancel(struct submit *submit)
{
	if (!submit)
		return;
	if (submit->writing) {
		/* The record goes its way, and so does what follows from it: the state is written, nobody is told. */
		submit->cancelled = true;
		return;
	}
	if (sm_state(&submit->sm) == SUBMIT_QUEUE || sm_state(&submit->sm) == SUBMIT_REFUSE) {
		submit->cancelled = true;
		return;
	}
	submit_free(submit);
}
