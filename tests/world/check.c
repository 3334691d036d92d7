/* The invariants: some are watched while a history runs (a commit, a result record, a state), the rest is looked at when all is quiet. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consumers/pool/breaker.h"
#include "consumers/pool/pool.h"
#include "consumers/providers/provider.h"
#include "lib/base/clock.h"
#include "lib/base/enc.h"
#include "lib/base/json.h"
#include "lib/base/map.h"
#include "lib/base/mem.h"
#include "lib/lane/lane.h"
#include "schemas/codec.h"
#include "schemas/keys.h"
#include "schemas/lanes.h"
#include "tests/world/fleet.h"

/* The first result record of a job. */
struct kept_result {
	struct arena arena;
	struct result r;
};

static struct map results;
static unsigned repeated;

void check_begin(void)
{
	results = (struct map){0};
	repeated = 0;
}

unsigned check_repeated(void)
{
	return repeated;
}

/* ── while it runs ── */

void check_result(struct str job, struct str body)
{
	struct kept_result *k = mem_new(struct kept_result), *first = map_find(&results, job);
	struct codec_error error;

	if (codec_decode(&codec_result, &k->arena, body, false, &k->r, &error)) {
		world_violation("a result record cannot be read: %s", error.message);
		return;
	}
	if (!str_eq(k->r.id, job))
		world_violation("a result record's key is not its job");
	if (!first) {
		map_set(&results, k->r.id, k);
		return;
	}
	if (!redis_server_forgot() &&
	    (!str_eq(first->r.status, k->r.status) || first->r.attempt != k->r.attempt ||
	     !str_eq(first->r.text, k->r.text)))
		world_violation("%.*s has two results: %.*s of attempt %lld, %.*s of attempt %lld",
				STR_FMT(job), STR_FMT(first->r.status), (long long)first->r.attempt,
				STR_FMT(k->r.status), (long long)k->r.attempt);
}

static struct str job_header(const struct log_record *r)
{
	for (size_t i = 0; i < r->header_count; i++)
		if (str_is(r->headers[i].name, "job"))
			return r->headers[i].value;
	return STR("");
}

/* What the queue is made of: lanes, and tiers. */
static const enum topic queues[] = {TOPIC_LLM_INTERACTIVE, TOPIC_LLM_HIGH, TOPIC_LLM_BACKGROUND,
				    TOPIC_LATER_1M,	   TOPIC_LATER_5M, TOPIC_LATER_1H};

/* @r stands in another topic than @of, or was written after it. */
static bool is_other(const struct log_topic *t, const char *topic, const struct log_record *r,
		     const struct log_record *of)
{
	return strcmp(t->name, topic) != 0 || (r != of && r->wall_ms > of->wall_ms);
}

static uint64_t copy_header(const struct log_record *r)
{
	uint64_t copy = 0;

	for (size_t i = 0; i < r->header_count; i++)
		if (str_is(r->headers[i].name, "copy") && !str_u64(r->headers[i].value, &copy))
			copy = 0;
	return copy;
}

/* The queue made the record again: a pool in a tier with a raised copy, the scheduler in its lane, or behind itself in its tier where it is
 * not due for longer than that keeps it. */
static bool made_again(const char *topic, const struct log_record *record)
{
	struct str job = job_header(record);
	uint64_t copy = copy_header(record);
	bool returns = strncmp(topic, "later.", 6) == 0; /* from a tier: the copy is the same */

	for (size_t i = 0; i < countof(queues); i++) {
		struct log_topic *t = broker_topic(topic_info(queues[i])->name);

		for (int32_t p = 0; p < t->part_count; p++)
			for (size_t o = 0; o < t->parts[p].count; o++)
				if (is_other(t, topic, &t->parts[p].records[o], record) &&
				    str_eq(job_header(&t->parts[p].records[o]), job) &&
				    copy_header(&t->parts[p].records[o]) >= copy + !returns)
					return true;
	}
	return false;
}

void check_commit(const char *topic, int32_t partition, int64_t from, int64_t to)
{
	const struct log_part *log = &broker_topic(topic)->parts[partition];

	for (int64_t o = from; o < to; o++) {
		struct str job;

		if ((size_t)o >= log->count) {
			world_violation("%s/%d: a commit beyond the end", topic, (int)partition);
			return;
		}
		job = job_header(&log->records[o]);
		if (!map_find(&results, job) && !redis_server_refused(job) &&
		    !made_again(topic, &log->records[o]))
			world_violation("%s/%d@%lld is committed, and %.*s has no result", topic,
					(int)partition, (long long)o, STR_FMT(job));
	}
}

/* ── when all is quiet ── */

static void each_topic(void (*each)(const char *topic, int32_t partition,
				    const struct log_part *log))
{
	for (size_t i = 0; i < countof(queues); i++) {
		const char *name = topic_info(queues[i])->name;
		struct log_topic *t = broker_topic(name);

		for (int32_t p = 0; p < t->part_count; p++)
			each(name, p, &t->parts[p]);
	}
}

static bool behind;

static void look_behind(const char *topic, int32_t partition, const struct log_part *log)
{
	behind = behind || broker_committed(topic, partition) != (int64_t)log->count;
}

static bool archived(void)
{
	const char *name = topic_info(TOPIC_RESULTS)->name;
	struct log_topic *t = broker_topic(name);

	for (int32_t p = 0; p < t->part_count; p++)
		if (pg_server_offset(name, p) != (int64_t)t->parts[p].count)
			return false;
	return true;
}

bool check_quiet(void)
{
	behind = false;
	each_topic(look_behind);
	return !behind && archived() && clients_done();
}

static void say_behind(const char *topic, int32_t partition, const struct log_part *log)
{
	int64_t base = broker_committed(topic, partition);

	if (base != (int64_t)log->count)
		world_violation("%s/%d stands at %lld of %zu", topic, (int)partition,
				(long long)base, log->count);
}

static size_t seams_of(const struct result *r, int64_t seams[static 32]);

static void check_seams(const struct client_job *j)
{
	const struct client_follow *f = j->follow;
	struct kept_result *k = map_find(&results, str_of(f->id));
	int64_t seams[33];
	size_t count, heard = 0;

	if (!k || !f->ended)
		return;
	count = seams_of(&k->r, seams);
	for (size_t i = 0; i < count; i++)
		for (size_t h = 0; h < f->seam_count; h++)
			heard += f->seams[h] == seams[i];
	if (count != f->seam_count || heard != count)
		world_violation("the follower of job %d heard of %zu seams, the record has %zu",
				j->number, f->seam_count, count);
}

static struct str answer_of(struct json_object *row, struct buf *out)
{
	struct str hex = json_str(row, "answer");

	buf_reset(out);
	if (hex.len < 2 || enc_hex_decode(out, (struct str){hex.ptr + 2, hex.len - 2}) != ENC_OK)
		buf_reset(out);
	return buf_str(out);
}

void check_stored(struct json_object *row, struct buf *out)
{
	answer_of(row, out);
}

static void check_follow(const struct client_job *j, struct json_object *row)
{
	const struct client_follow *f = j->follow;
	struct buf answer = {0};

	if (!f)
		return;
	if (!f->ended)
		world_violation("the follower of job %d (%s) never heard the end", j->number,
				f->id);
	else if (!str_is(json_str(row, "status"), f->status) && !redis_server_forgot())
		world_violation("the follower of job %d heard %s, the record says %.*s", j->number,
				f->status, STR_FMT(json_str(row, "status")));
	else if (!redis_server_forgot() && !str_eq(answer_of(row, &answer), buf_str(&f->text)))
		world_violation("the follower of job %d has another text than the record",
				j->number);
	if (!redis_server_forgot())
		check_seams(j);
	buf_fini(&answer);
}

static void check_job(const struct client_job *j)
{
	if (!j->settled)
		world_violation("the client of job %d has no answer", j->number);
	for (size_t i = 0; i < j->try_count; i++) {
		const struct job_try *t = &j->tries[i];
		struct json_object *row = pg_server_result(str_of(t->id));

		switch (t->told) {
		case TOLD_ACCEPTED:
			if (!row)
				world_violation("job %d (%s) was accepted and has no result",
						j->number, t->id);
			else
				check_follow(j, row);
			break;
		case TOLD_REFUSED:
			if (row && !redis_server_forgot())
				world_violation("job %d (%s) was refused and has a result",
						j->number, t->id);
			break;
		case TOLD_NOTHING:
		case TOLD_UNSURE:
			break;
		}
	}
}

static void check_calls(void)
{
	unsigned completed[JOBS_MAX] = {0};

	list_each (&peer_calls, at) {
		const struct peer_call *c = container_of(at, struct peer_call, link);

		if (c->completed && c->job >= 0 && c->job < JOBS_MAX)
			completed[c->job]++;
	}
	for (int i = 0; i < fleet.job_count; i++) {
		if (completed[i] < 2)
			continue;
		repeated += completed[i] - 1;
		if (!fleet.excused)
			world_violation("job %d was called %u times to the end", i, completed[i]);
	}
}

/* ── who said it ── */

/* Where the text of @r goes on from another call: the bytes, and their count. */
static size_t seams_of(const struct result *r, int64_t seams[static 32])
{
	cleanup_json struct json_object *list = NULL;
	struct json_error error;
	size_t count = 0;

	if (json_read(r->calls, &list, &error) != JSON_OK)
		return 0;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *call = json_object_array_get_idx(list, i);
		int64_t at = json_int(call, "at", 0);

		if (at && json_int(call, "attempt", 0) == r->attempt && at < r->bytes &&
		    (!count || seams[count - 1] != at) && count < 32)
			seams[count++] = at;
	}
	return count;
}

/* @piece of an answer, behind @before, is what @c said: all of it, or (@cut) its beginning. */
static bool said_by(const struct peer_call *c, struct str before, struct str piece, bool cut)
{
	struct str text = buf_str(c->text), given = provider_prefix(before);
	struct str space = {before.ptr + given.len, before.len - given.len};

	if (!str_eq(c->prefix, given))
		return false;
	while (space.len && text.len && space.ptr[0] == text.ptr[0]) {
		space = (struct str){space.ptr + 1, space.len - 1};
		text = (struct str){text.ptr + 1, text.len - 1};
	}
	return (cut ? text.len >= piece.len : text.len == piece.len) &&
	       memcmp(text.ptr, piece.ptr, piece.len) == 0;
}

/* The call that said @piece; NULL: none. */
static const struct peer_call *call_of(struct str before, struct str piece, bool cut)
{
	list_each (&peer_calls, at) {
		const struct peer_call *c = container_of(at, struct peer_call, link);

		if ((cut || c->completed) && said_by(c, before, piece, cut))
			return c;
	}
	return NULL;
}

/* Each piece of the answer between two seams was said by a call that was given what stands before. The call that ended it; NULL:
 * there is something that nobody said. */
static const struct peer_call *call_of_result(const struct result *r)
{
	int64_t seams[33];
	size_t count = seams_of(r, seams), from = 0;
	const struct peer_call *c = NULL;

	seams[count] = (int64_t)r->text.len;
	for (size_t i = 0; i <= count; i++) {
		size_t to = (size_t)seams[i];

		c = call_of((struct str){r->text.ptr, from},
			    (struct str){r->text.ptr + from, to - from}, i < count);
		if (!c)
			return NULL;
		from = to;
	}
	return c;
}

static int by_turn(const void *a, const void *b)
{
	const struct kept_result *x = *(struct kept_result *const *)a;
	const struct kept_result *y = *(struct kept_result *const *)b;

	return (x->r.turn > y->r.turn) - (x->r.turn < y->r.turn);
}

/* Each answer's call was given the turns before, in their order. */
static void check_session(struct str session)
{
	struct kept_result *turns[JOBS_MAX];
	struct buf expected = {0};
	struct map_entry *e;
	size_t count = 0;

	for (size_t at = 0; (e = map_next(&results, &at));) {
		struct kept_result *k = e->value;

		if (str_eq(k->r.session, session) && k->r.turn &&
		    str_is(k->r.status, "succeeded") && count < JOBS_MAX)
			turns[count++] = k;
	}
	qsort(turns, count, sizeof(*turns), by_turn);
	for (size_t i = 0; i < count; i++) {
		const struct peer_call *c = call_of_result(&turns[i]->r);

		if (!c) {
			world_violation("no call gave the answer of %.*s", STR_FMT(turns[i]->r.id));
			continue;
		}
		if (!str_eq(c->history, buf_str(&expected)))
			world_violation("turn %lld of %.*s (job %d) was asked with another "
					"conversation: %zu bytes, not %zu",
					(long long)turns[i]->r.turn, STR_FMT(session), c->job,
					c->history.len, expected.len);
		buf_printf(&expected, "user: job %d please\nassistant: %.*s\n", c->job,
			   STR_FMT(turns[i]->r.text));
	}
	buf_fini(&expected);
}

/* The bill is what the calls cost that were not a hedge's losers; of two calls of an attempt at the same time one is. (A pool that stood
 * still for longer than its lease may have a call beside that of whoever took the job: another attempt's.) */
static void check_bill(const struct result *r)
{
	cleanup_json struct json_object *list = NULL;
	struct json_error error;
	int64_t cost = 0, ended = 0, attempt = 0;
	bool spare = true;

	if (!r->calls.len || json_read(r->calls, &list, &error) != JSON_OK)
		return;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *call = json_object_array_get_idx(list, i);
		bool overhead = json_bool(call, "overhead", false);
		struct str fault = json_str(call, "fault");
		bool failed = fault.len && !str_is(fault, "cancelled"); /* its hedge went on */

		if (!overhead)
			cost += json_int(call, "cost_microusd", 0);
		if (ended > json_int(call, "started_ms", 0) && !spare && !overhead &&
		    json_int(call, "attempt", 0) == attempt)
			world_violation("%.*s pays for two calls at the same time", STR_FMT(r->id));
		if (json_int(call, "ended_ms", 0) > ended) {
			ended = json_int(call, "ended_ms", 0);
			spare = overhead || failed;
			attempt = json_int(call, "attempt", 0);
		}
	}
	if (cost != r->cost_microusd)
		world_violation("%.*s is billed %lld and its calls cost %lld", STR_FMT(r->id),
				(long long)r->cost_microusd, (long long)cost);
}

static const struct client_job *job_of(struct str id)
{
	for (int i = 0; i < fleet.job_count; i++)
		for (size_t t = 0; t < fleet.jobs[i].try_count; t++)
			if (str_is(id, fleet.jobs[i].tries[t].id))
				return &fleet.jobs[i];
	return NULL;
}

/* Who was picked up in time may run for as long as it was given, whoever has it. */
static void check_expired(const struct result *r)
{
	const struct client_job *j = job_of(r->id);
	cleanup_json struct json_object *list = NULL;
	struct json_error error;
	int64_t began = r->picked_up_ms;

	if (!j || !str_is(r->status, "expired") || !r->calls.len ||
	    json_read(r->calls, &list, &error) != JSON_OK || !json_object_array_length(list))
		return;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		int64_t at = json_int(json_object_array_get_idx(list, i), "started_ms", 0);

		began = !began || at < began ? at : began;
	}
	if (r->picked_up_ms != began)
		world_violation("%.*s was called before it was picked up", STR_FMT(r->id));
	if (r->finished_ms < began + j->run_ms)
		world_violation("%.*s was picked up and expired %lld ms later, of %lld ms",
				STR_FMT(r->id), (long long)(r->finished_ms - began),
				(long long)j->run_ms);
}

/* Whoever ends it: what its last call said is its text; and each call has its end, but one whose owner died. */
static void check_owners(const struct result *r)
{
	cleanup_json struct json_object *list = NULL;
	struct json_error error;
	struct json_object *call = NULL;

	if (!r->calls.len || json_read(r->calls, &list, &error) != JSON_OK)
		return;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		call = json_object_array_get_idx(list, i);
		if (!json_int(call, "ended_ms", 0) && !fleet.torn)
			world_violation("%.*s has a call without an end", STR_FMT(r->id));
	}
	if (call && !json_int(call, "ended_ms", 0) && !r->bytes &&
	    json_int(json_member(call, "usage"), "output_tokens", 0))
		world_violation("%.*s is %.*s without the text that it had", STR_FMT(r->id),
				STR_FMT(r->status));
}

static void check_answers(void)
{
	struct map_entry *e;

	for (size_t at = 0; (e = map_next(&results, &at));) {
		struct kept_result *k = e->value;

		check_bill(&k->r);
		if (!redis_server_forgot()) {
			check_expired(&k->r);
			check_owners(&k->r);
		}
		if (str_is(k->r.status, "succeeded") && !call_of_result(&k->r))
			world_violation("%.*s succeeded with a text that no call gave",
					STR_FMT(k->r.id));
	}
}

static void check_key(void *ctx, struct str key)
{
	struct str state, fence;

	(void)ctx;
	if (!str_starts(key, "j:"))
		return;
	state = redis_server_field(key, "state");
	fence = redis_server_field(key, "fence");
	if (fence.len)
		world_violation("%.*s is %.*s, and a claim is left", STR_FMT(key), STR_FMT(state));
	if (str_is(state, "running") || str_is(state, "finishing"))
		world_violation("%.*s is left %.*s", STR_FMT(key), STR_FMT(state));
}

/* No breaker stays open past its time, none is the probe of a call that is over, and none waits for a job with the lease of its probe. */
static void check_breakers(void)
{
	for (size_t i = 0; i < fleet.node_count; i++) {
		const struct node *n = &fleet.nodes[i];
		struct breaker *b;

		if (n->kind != NODE_POOL || !n->loop || n->loop->dead)
			continue;
		for (size_t k = 0; (b = breakers_at(n->pool->breakers, k)); k++) {
			if (breaker_state(b) == BREAKER_OPEN &&
			    breaker_until_us(b) + US_PER_S < loop_now_us(n->loop))
				world_violation("%s: a breaker is open past its time", n->id);
			if (breaker_state(b) == BREAKER_PROBING)
				world_violation("%s: a breaker's probe never ended", n->id);
			if (breaker_state(b) == BREAKER_HALF_OPEN)
				world_violation("%s: a probe's lease is kept unused", n->id);
		}
	}
}

static void check_left(void)
{
	redis_server_keys(check_key, NULL);
}

/* Jobs that ended and still stand in the open set: a list for readers, written without waiting; swept. */
unsigned check_open(void)
{
	struct key key = key_open(str_of(fleet.org));

	return (unsigned)redis_server_zcount(key_str(&key));
}

void check_end(void)
{
	each_topic(say_behind);
	if (!archived())
		world_violation("the archive does not stand at the end of results");
	for (int i = 0; i < fleet.job_count; i++)
		check_job(&fleet.jobs[i]);
	if (pg_server_results() != results.count)
		world_violation("%zu jobs have a result record, %zu a row", results.count,
				pg_server_results());
	check_calls();
	check_answers();
	check_breakers();
	phones_check();
	push_check();
	if (redis_server_forgot())
		return;
	for (int i = 0; i < fleet.session_count; i++)
		check_session(str_of(fleet.sessions[i]));
	check_left();
}
