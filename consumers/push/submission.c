#include "consumers/push/submission.h"

#include <stdio.h>
#include <string.h>

#include "consumers/push/outbox.h"
#include "consumers/push/session.h"
#include "consumers/push/stream.h"
#include "lib/base/arena.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/plant.h"
#include "lib/net/digest.h"
#include "lib/store/redis.h"
#include "producer/submit.h"
#include "schemas/keys.h"
#include "schemas/lanes.h"
#include "schemas/scripts.h"

/* How long a ref is remembered. */
#define REF_TTL_MS "86400000"

struct submission {
	struct list link;
	struct session *session;
	struct arena arena; /* the job's views */
	struct job job;
	char ref[OP_REF_MAX + 1];
	char hash[DIGEST_SHA256_HEX_SIZE]; /* of session and ref */
	char body_hash[DIGEST_SHA256_HEX_SIZE];
	unsigned again; /* the same was said so often meanwhile: each gets the same answer */
	struct submit *submit;
	struct outbox_put *put; /* accepted, and on its way into the outbox */
	struct redis_request *request;
	uint64_t begun_us;
	size_t weight;	   /* of the connection's pending bytes */
	size_t held_bytes; /* of it, by submitter_hold, and not carried by the submit */
};

static void submission_free(struct submission *u)
{
	if (u->request)
		redis_cancel(u->request);
	submit_cancel(u->submit);
	outbox_put_leave(u->put);
	submitter_release(u->session->push->submitter, u->held_bytes);
	session_load(u->session, 0, u->weight);
	list_remove(&u->link);
	arena_reset(&u->arena);
	mem_free(u);
}

static void refuse(struct submission *u, enum fault fault, const char *message, const char *param)
{
	struct frame_refusal refusal = {
	    .fault = fault, .ref = str_of(u->ref), .message = message, .param = param};

	if (fault == FAULT_OUTCOME_UNKNOWN)
		refusal.job = u->job.id;
	for (unsigned i = 0; i <= u->again; i++)
		session_refuse(u->session, &refusal);
	submission_free(u);
}

static void answer(struct submission *u, struct str text)
{
	for (unsigned i = 0; i <= u->again; i++) {
		struct frame f = {0};

		buf_add_str(&f.text, text);
		session_send(u->session, &f);
	}
}

/* ── the ref ── */

static struct redis_request *ref_end(struct submission *u, struct str status, struct str reply)
{
	struct session *s = u->session;
	struct key key = key_idem(str_of(s->who.org), str_of(u->hash));
	struct str name = key_str(&key);

	return redis_script(s->push->redis, name, &script_idem_end, &name, 1,
			    (const struct str[]){u->job.id, status, reply}, 3, NULL, NULL);
}

/* ── accepted ── */

static void write_accepted(struct submission *u, struct frame *f)
{
	struct json_out *o = frame_begin(f, FRAME_ACCEPTED);

	json_put_text(o, "ref", u->ref);
	json_put_str(o, "job", u->job.id);
	json_put_str(o, "kind", u->job.kind);
	json_put_str(o, "lane", u->job.lane);
	json_put_time(o, "created_at", (uint64_t)u->job.created_ms);
	frame_end(f);
}

static const char *lane_text(struct str lane)
{
	enum lane found = LANE_INTERACTIVE;

	return lane_find(lane, &found) == LANE_FOUND ? lane_name(found) : "";
}

/* The broker has it, and the outbox: no loss of this process makes its end one that nobody waits for. */
static void on_kept(void *ctx)
{
	struct submission *u = ctx;
	struct session *s = u->session;
	struct push *push = s->push;
	struct stream *st = stream_find(s, u->job.id);
	struct frame f = {0};

	u->put = NULL;
	write_accepted(u, &f);
	series_add(metric_one(push->metric.accepted, lane_text(u->job.lane)), 1);
	series_observe_us(metric_only(push->metric.accept_seconds),
			  loop_fresh_us(push->loop) - u->begun_us);
	ref_end(u, STR("202"), buf_str(&f.text));
	answer(u, buf_str(&f.text));
	buf_fini(&f.text);
	submission_free(u);
	if (st)
		stream_release(st);
}

static void on_submitted(void *ctx, const struct submit_outcome *outcome)
{
	struct submission *u = ctx;
	struct session *s = u->session;
	struct stream *st = stream_find(s, u->job.id);

	u->submit = NULL;
	if (outcome->fault == FAULT_NONE) {
		u->put = outbox_put(s, u->job.id, u->job.created_ms, on_kept, u);
		if (!u->put)
			on_kept(u);
		return;
	}
	if (st)
		stream_drop(st, true);
	if (outcome->fault != FAULT_OUTCOME_UNKNOWN)
		ref_end(u, STR(""), outcome->refused ? STR("void") : STR(""));
	refuse(u, outcome->fault, outcome->message, NULL);
}

static void submit(struct submission *u, struct str id, bool again)
{
	struct session *s = u->session;
	struct key channel;

	u->job.id = (struct str){arena_dup(&u->arena, id.ptr, id.len), id.len};
	channel = key_channel(u->job.session.len ? u->job.session : u->job.id);
	u->job.channel = (struct str){arena_dup(&u->arena, channel.text, channel.len), channel.len};
	if (!told_has(&s->told, u->job.id) && !stream_submit(s, u->job.id, u->job.channel, again)) {
		ref_end(u, STR(""), STR(""));
		refuse(u, FAULT_RATE_LIMITED, "This connection follows too many jobs.", NULL);
		return;
	}
	u->submit = submit_open(s->push->submitter, &u->job, on_submitted, u);
	/* What is here waits for the outbox too; the copies are the submit's. */
	submit_carry(u->submit, u->held_bytes - u->held_bytes / SUBMITTER_COPIES);
	u->held_bytes /= SUBMITTER_COPIES;
	if (again)
		submit_again(u->submit);
}

/* The same was accepted before: said again, and followed where this connection has not heard of it. */
static void repeat(struct submission *u, struct str id, struct str reply)
{
	struct session *s = u->session;
	struct op_position job = {.id = (struct str){arena_dup(&u->arena, id.ptr, id.len), id.len}};

	answer(u, reply);
	if (!stream_find(s, job.id) && !told_has(&s->told, job.id) &&
	    sm_state(&s->sm) == SESSION_OPEN)
		stream_attach(s, &job, 1, true, NULL);
	submission_free(u);
}

static void on_ref(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct submission *u = ctx;
	struct str word = STR("");

	u->request = NULL;
	if (result == REDIS_OK && value->type == REDIS_LIST)
		word = redis_item_str(value, 0);
	if (str_is(word, "new"))
		submit(u, redis_item_str(value, 1), false);
	else if (str_is(word, "pending"))
		submit(u, PLANTED(REF_ANEW) ? u->job.id : redis_item_str(value, 1), true);
	else if (str_is(word, "done"))
		repeat(u, redis_item_str(value, 1), redis_item_str(value, 3));
	else if (str_is(word, "conflict"))
		refuse(u, FAULT_CONFLICT, "The ref was used for another job.", NULL);
	else
		refuse(u, FAULT_UNAVAILABLE, NULL, NULL);
}

/* ── begin ── */

static bool hold(struct submission *u, size_t bytes)
{
	size_t weight = submitter_weight(bytes);

	if (!submitter_hold(u->session->push->submitter, weight))
		return false;
	u->weight = u->held_bytes = weight;
	session_load(u->session, weight, 0);
	return true;
}

static struct submission *under_way(const struct session *s, struct str ref)
{
	list_each (&s->submissions, link) {
		struct submission *u = container_of(link, struct submission, link);

		if (str_is(ref, u->ref))
			return u;
	}
	return NULL;
}

static struct submission *submission_new(struct session *s, const struct op *op)
{
	struct submission *u = mem_new(struct submission);

	list_init(&u->link);
	u->session = s;
	u->begun_us = loop_now_us(s->push->loop);
	snprintf(u->ref, sizeof(u->ref), "%.*s", STR_FMT(op->ref));
	digest_sha256_hex(str_of(json_object_to_json_string_ext(op->job, JSON_C_TO_STRING_PLAIN)),
			  u->body_hash);
	return u;
}

/* The first one's answer is the answer to the same again. */
static void join(struct submission *u, struct submission *first)
{
	if (strcmp(u->body_hash, first->body_hash) == 0) {
		first->again++;
		submission_free(u);
	} else {
		refuse(u, FAULT_CONFLICT, "The ref was used for another job.", NULL);
	}
}

static void ask_ref(struct submission *u)
{
	struct session *s = u->session;
	struct buf text = {0};
	struct key key;
	struct str name;

	buf_printf(&text, "ws\n%s\n%s", s->id, u->ref);
	digest_sha256_hex(buf_str(&text), u->hash);
	buf_fini(&text);
	key = key_idem(str_of(s->who.org), str_of(u->hash));
	name = key_str(&key);
	u->request = redis_script(
	    s->push->redis, name, &script_idem_begin, &name, 1,
	    (const struct str[]){str_of(u->body_hash), u->job.id, STR(REF_TTL_MS)}, 3, on_ref, u);
}

void submission_begin(struct session *s, const struct op *op, size_t bytes)
{
	struct submission *u, *first = under_way(s, op->ref);
	struct admitted admitted;

	/* A client that named its session means its conversation. */
	if (s->conversation && !json_member(op->job, "session"))
		json_object_object_add(op->job, "session", json_object_new_string(s->id));
	u = submission_new(s, op);
	if (first) {
		join(u, first);
		return;
	}
	list_push_back(&s->submissions, &u->link);
	if (s->push->draining) {
		refuse(u, FAULT_DRAINING, NULL, NULL);
		return;
	}
	if (!hold(u, bytes)) {
		refuse(u, FAULT_UNAVAILABLE,
		       "As much is on its way to the broker as this node keeps. Nothing was "
		       "accepted.",
		       NULL);
		return;
	}
	admitted =
	    admit_native_tree(s->push->svc->config, &u->arena, op->job, str_of(s->who.org),
			      loop_wall_ms(s->push->loop), loop_rand(s->push->loop), &u->job);
	if (admitted.fault != FAULT_NONE) {
		refuse(u, admitted.fault, admitted.message, admitted.param);
		return;
	}
	if (s->bound[0] && !str_is(u->job.session, s->bound)) {
		refuse(u, FAULT_FORBIDDEN, "A ticket is good for jobs of its own session alone.",
		       "session");
		return;
	}
	u->job.outbox = str_of(s->id);
	ask_ref(u);
}

void submissions_quiet(struct session *s)
{
	struct submission *u;

	while ((u = list_first(&s->submissions, struct submission, link)))
		submission_free(u);
}
