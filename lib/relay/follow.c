#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/id.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/plant.h"
#include "lib/base/sm.h"
#include "lib/relay/points.h"
#include "lib/relay/relay_impl.h"
#include "lib/relay/seams.h"
#include "lib/relay/view.h"
#include "schemas/keys.h"

/* After so long without a word of a job its state is looked at. */
#define SILENCE_US (2 * US_PER_S)
/* How long the first look may take before the state counts as unreadable. */
#define OPEN_US (5 * US_PER_S)
#define RANGE_BYTES 65536

enum follow_state { FOLLOW_OPENING, FOLLOW_LIVE, FOLLOW_CATCHING_UP, FOLLOW_ENDED };

static const struct sm_state moves[] = {
    [FOLLOW_OPENING] = {"opening", SM(FOLLOW_LIVE) | SM(FOLLOW_CATCHING_UP) | SM(FOLLOW_ENDED)},
    [FOLLOW_LIVE] = {"live", SM(FOLLOW_CATCHING_UP) | SM(FOLLOW_ENDED)},
    [FOLLOW_CATCHING_UP] = {"catching_up", SM(FOLLOW_LIVE) | SM(FOLLOW_ENDED)},
    [FOLLOW_ENDED] = {"ended", 0},
};

struct follow {
	struct list link;
	struct relay *relay;
	struct sm sm;
	const struct follow_ops *ops;
	void *ctx;
	struct str job;
	struct str org;
	struct str session;
	struct str channel;
	struct arena arena; /* job, org, session, channel */
	int64_t want_attempt;
	int64_t want_at;
	bool fresh;
	bool look_at_once;
	uint64_t fresh_until_us;
	int64_t piece; /* bytes that are read at a time */

	int64_t attempt;
	int64_t at;
	int64_t parts_seen;
	int64_t known_end; /* the answer is known to reach at least here */
	bool more;	   /* the last piece was a full one: there may be more behind it */
	bool told;	   /* ops.state was called */
	bool again;	   /* something was missed: look once more when caught up */
	bool paused;
	bool stored;  /* paused, and the rest of the text is in PostgreSQL */
	bool handing; /* inside of what hands it over */
	int64_t from; /* the byte that PostgreSQL is asked for */
	bool closed;

	char target[200]; /* attempt, provider and model that were told last; "" for none */

	/* from the last look */
	bool terminal;
	char status[16];
	char *result; /* JSON */
	struct json_object *parts;
	struct seams seams;

	struct redis_sub *sub;
	struct redis_request *request;
	struct relay_lookup *lookup;
	struct timer silence;
	struct task begin;
};

static void look(struct follow *f);
static void pump(struct follow *f);

/* ── last words ── */

/* Everything that could still call comes to rest. */
static void quiet(struct follow *f)
{
	if (f->request)
		redis_cancel(f->request);
	f->request = NULL;
	relay_lookup_cancel(f->lookup);
	f->lookup = NULL;
	redis_unsubscribe(f->sub);
	f->sub = NULL;
	timer_stop(&f->silence);
	task_cancel(&f->begin);
}

static void gone(struct follow *f, bool unsure)
{
	quiet(f);
	sm_move(&f->sm, FOLLOW_ENDED);
	f->ops->gone(f->ctx, unsure);
}

static void end(struct follow *f, const struct result *result, struct str status)
{
	struct follow_end e = {.status = status, .attempt = f->attempt, .result = result};

	quiet(f);
	sm_move(&f->sm, FOLLOW_ENDED);
	f->ops->end(f->ctx, &e);
}

static void tell_seam(struct follow *f, const struct seam *seam)
{
	struct buf payload = {0};
	struct json_out o = {.buf = &payload};
	struct event event = {.ev = STR("seam"), .job = f->job, .attempt = f->attempt, .at = -1};

	seam_write(seam, &o);
	event.payload = buf_str(&payload);
	f->ops->event(f->ctx, &event);
	buf_fini(&payload);
}

/* The known seams before byte @before that were not told. */
static void tell_seams(struct follow *f, int64_t before)
{
	for (size_t i = 0; i < f->seams.count && !f->closed; i++)
		if (f->seams.known[i].at < before && seams_tell(&f->seams, f->seams.known[i].at))
			tell_seam(f, &f->seams.known[i]);
}

static void end_from_state(struct follow *f)
{
	struct arena arena = {0};
	struct codec_error error;
	struct result result;

	if (codec_decode(&codec_result, &arena, str_of(f->result), false, &result, &error) !=
	    CODEC_OK)
		codec_init(&codec_result, &result);
	seams_read(&f->seams, result.calls, f->attempt);
	tell_seams(f, f->at);
	if (!f->closed)
		end(f, &result, str_of(f->status));
	arena_reset(&arena);
}

/* ── text and parts, in their order ── */

static struct json_object *part_at(const struct follow *f, int64_t index)
{
	if (!f->parts || !json_object_is_type(f->parts, json_type_array) || index < 0 ||
	    (size_t)index >= json_object_array_length(f->parts))
		return NULL;
	return json_object_array_get_idx(f->parts, (size_t)index);
}

static void tell_part(struct follow *f, struct json_object *part)
{
	struct buf payload = {0};
	struct json_out o = {.buf = &payload};
	struct event event = {.ev = STR("part"), .job = f->job, .attempt = f->attempt, .at = -1};
	struct str id = json_str(part, "id"), name = json_str(part, "name");

	json_put_int(&o, "at", f->at);
	json_put_int(&o, "index", f->parts_seen - 1);
	json_put_str(&o, "type", json_str(part, "type"));
	if (id.len)
		json_put_str(&o, "id", id);
	if (name.len)
		json_put_str(&o, "name", name);
	event.payload = buf_str(&payload);
	f->ops->event(f->ctx, &event);
	buf_fini(&payload);
}

/* The known parts that begin where the text stands; earlier ones were told, and a text at the beginning is not. */
static void tell_parts(struct follow *f)
{
	struct json_object *part;

	while (!f->closed && (part = part_at(f, f->parts_seen)) &&
	       json_int(part, "at", 0) <= f->at) {
		bool tell = json_int(part, "at", 0) == f->at &&
			    (f->parts_seen || f->at || !str_is(json_str(part, "type"), "text"));

		f->parts_seen++;
		if (tell)
			tell_part(f, part);
	}
}

/* Hands @text over, which begins at f->at, with the known parts and seams between. */
static void tell_text(struct follow *f, struct str text)
{
	while (text.len && !f->closed) {
		struct json_object *part;
		int64_t at = f->at;
		size_t take;

		tell_seams(f, f->at + 1);
		tell_parts(f);
		part = part_at(f, f->parts_seen);
		if (f->closed)
			return;
		take = (size_t)(seams_next(&f->seams, at, at + (int64_t)text.len) - at);
		if (part && json_int(part, "at", 0) - at < (int64_t)take)
			take = (size_t)(json_int(part, "at", 0) - at);
		f->at += (int64_t)take;
		f->ops->delta(f->ctx, f->attempt, at, (struct str){text.ptr, take});
		text.ptr += take;
		text.len -= take;
	}
}

static void keep_parts(struct follow *f, struct str parts)
{
	struct json_error error;

	json_object_put(f->parts);
	f->parts = NULL;
	if (parts.len && json_read(parts, &f->parts, &error) != JSON_OK)
		f->parts = NULL;
}

static void new_attempt(struct follow *f, int64_t attempt)
{
	bool shown = f->at > 0 || f->parts_seen > 0;

	f->attempt = attempt;
	f->at = 0;
	f->parts_seen = 0;
	f->seams = (struct seams){0};
	f->known_end = 0;
	f->more = false;
	keep_parts(f, STR(""));
	if (shown)
		f->ops->reset(f->ctx, attempt);
}

static void note_target(struct follow *f, int64_t attempt, struct str provider, struct str model)
{
	snprintf(f->target, sizeof(f->target), "%" PRId64 " %.*s %.*s", attempt, STR_FMT(provider),
		 STR_FMT(model));
}

/* A `started` that was missed between two looks. */
static void tell_started(struct follow *f, const struct job_view *view)
{
	struct buf payload = {0};
	struct json_out o = {.buf = &payload};
	struct event event = {.ev = STR("started"), .job = f->job, .attempt = f->attempt, .at = -1};
	char before[sizeof(f->target)];

	if (!view->provider.len || state_terminal(view->state))
		return;
	memcpy(before, f->target, sizeof(before));
	note_target(f, view->attempt, view->provider, view->model);
	if (strcmp(before, f->target) == 0)
		return;
	json_put_str(&o, "provider", view->provider);
	json_put_str(&o, "model", view->model);
	event.payload = buf_str(&payload);
	f->ops->event(f->ctx, &event);
	buf_fini(&payload);
}

static void on_started(struct follow *f, const struct event *event)
{
	cleanup_json struct json_object *tree = event_payload(event);

	if (tree)
		note_target(f, event->attempt, json_str(tree, "provider"), json_str(tree, "model"));
	f->ops->event(f->ctx, event);
}

/* Where the wanted position stands in an answer of @attempt and @bytes. */
static void tell_state(struct follow *f, const struct job_view *view)
{
	bool resumed =
	    f->want_attempt > 0 && f->want_attempt == view->attempt && f->want_at <= view->bytes;
	struct json_object *part;

	f->told = true;
	if (view->provider.len)
		note_target(f, view->attempt, view->provider, view->model);
	f->attempt = view->attempt;
	f->at = resumed ? f->want_at : 0;
	seams_begin(&f->seams, f->at);
	seams_read(&f->seams, view->calls, f->attempt);
	while ((part = part_at(f, f->parts_seen)) && json_int(part, "at", 0) < f->at)
		f->parts_seen++;
	f->ops->state(f->ctx, view, resumed);
}

/* ── catching up ── */

static void ask_postgres(struct follow *f);

static void caught_up(struct follow *f)
{
	if (f->again) {
		f->again = false;
		look(f);
	} else if (f->terminal) {
		end_from_state(f);
	} else {
		if (sm_state(&f->sm) != FOLLOW_LIVE)
			sm_move(&f->sm, FOLLOW_LIVE);
		timer_set(&f->silence, SILENCE_US);
	}
}

static void from_byte_0(struct follow *f)
{
	f->at = 0;
	f->parts_seen = 0;
	seams_begin(&f->seams, 0);
	f->ops->reset(f->ctx, f->attempt);
}

static void on_range(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct follow *f = ctx;
	struct str bytes = STR("");
	size_t whole;

	f->request = NULL;
	if (f->paused)
		return; /* it is looked at again, and read then */
	if (result != REDIS_OK) {
		timer_set(&f->silence, SILENCE_US);
		return;
	}
	if (value->type == REDIS_STR)
		bytes = value->str;
	whole = whole_points(bytes);
	f->more = (int64_t)bytes.len == f->piece;
	if (inside_point(bytes)) {
		from_byte_0(f);
		if (!f->closed)
			pump(f);
		return;
	}
	if (!whole && f->at < f->known_end && f->terminal) {
		ask_postgres(f); /* the text is not here any more */
		return;
	}
	if (!whole)
		f->known_end = f->at;
	tell_text(f, (struct str){bytes.ptr, whole});
	if (!f->closed)
		pump(f);
}

/* Reads on until the text that is known to be there was handed over. */
static void pump(struct follow *f)
{
	struct key key = key_out(f->job, f->attempt);
	char from[24], to[24];

	if (f->paused || f->request || f->lookup)
		return;
	tell_parts(f);
	if (f->closed)
		return;
	if (f->at >= f->known_end && !f->more) {
		caught_up(f);
		return;
	}
	snprintf(from, sizeof(from), "%" PRId64, f->at);
	snprintf(to, sizeof(to), "%" PRId64, f->at + f->piece - 1);
	f->more = false;
	f->request = redis_command(
	    f->relay->redis, f->job,
	    (const struct str[]){STR("GETRANGE"), key_str(&key), str_of(from), str_of(to)}, 4,
	    on_range, f);
}

/* ── looking ── */

static void keep_view(struct follow *f, const struct job_view *view)
{
	f->terminal = state_terminal(view->state);
	if (f->terminal) {
		snprintf(f->status, sizeof(f->status), "%.*s", STR_FMT(view->state));
		mem_free(f->result);
		f->result = mem_dup(view->result.ptr, view->result.len);
	}
	keep_parts(f, view->parts);
}

static void take_view(struct follow *f, const struct job_view *view)
{
	if (f->told && view->attempt < f->attempt) {
		caught_up(f);
		return;
	}
	if (f->told && view->attempt > f->attempt)
		new_attempt(f, view->attempt);
	if (f->closed)
		return;
	keep_view(f, view);
	if (!f->told)
		tell_state(f, view);
	else
		tell_started(f, view);
	if (f->closed)
		return;
	seams_read(&f->seams, view->calls, f->attempt);
	if (view->bytes > f->known_end)
		f->known_end = view->bytes;
	if (sm_state(&f->sm) != FOLLOW_CATCHING_UP)
		sm_move(&f->sm, FOLLOW_CATCHING_UP);
	if (f->terminal && !view->result.len)
		ask_postgres(f);
	else
		pump(f);
}

static bool its_session(const struct follow *f, struct str session)
{
	return !f->session.len || str_eq(f->session, session);
}

/* A piece of the text, which has @total bytes. True where all of it was handed over; else the next one is asked for, now or when it may
 * flow. */
static bool hand_over(struct follow *f, struct str text, int64_t total)
{
	bool last;

	if (f->at >= total)
		return true;
	if (f->paused) {
		f->stored = true;
		return false;
	}
	if (f->at == f->from && f->at > 0 && inside_point(text))
		from_byte_0(f);
	if (f->closed)
		return false;
	if (f->at != f->from) {
		ask_postgres(f);
		return false;
	}
	last = !text.len || f->at + (int64_t)text.len >= total;
	if (!last && whole_points(text))
		text.len = whole_points(text);
	tell_text(f, text);
	if (f->closed || last)
		return !f->closed;
	return hand_over(f, STR(""), total);
}

static void on_epoch(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct follow *f = ctx;

	f->request = NULL;
	gone(f,
	     !redis_epoch_stands(f->relay->redis, result, value) || relay_unsure(f->relay, f->job));
}

static void on_result(void *ctx, bool sure, const struct result *result, int64_t total)
{
	struct follow *f = ctx;
	struct job_view view;

	f->lookup = NULL;
	if (result && !its_session(f, result->session)) {
		gone(f, false);
		return;
	}
	if (!result) {
		if (!sure && f->told)
			timer_set(&f->silence, SILENCE_US);
		else if (!sure || relay_unsure(f->relay, f->job))
			gone(f, true);
		else
			f->request = redis_ask_epoch(f->relay->redis, f->job, on_epoch, f);
		return;
	}
	view = view_of_result(result);
	f->handing = true;
	if (f->told && f->attempt != result->attempt)
		new_attempt(f, result->attempt);
	keep_parts(f, result->parts);
	if (!f->closed && !f->told)
		tell_state(f, &view);
	seams_read(&f->seams, result->calls, f->attempt);
	if (!f->closed && hand_over(f, result->text, total)) {
		tell_parts(f);
		if (!f->closed)
			tell_seams(f, f->at);
		if (!f->closed)
			end(f, result, result->status);
	}
	f->handing = false;
}

static struct relay_lookup *look_stored(struct follow *f,
					void (*done)(void *ctx, bool sure,
						     const struct result *result, int64_t total))
{
	bool named = !f->told && f->want_attempt > 0;

	f->from = named ? f->want_at : f->at;
	return relay_piece(f->relay, f->job, f->org, f->from, (size_t)f->piece, done, f);
}

static void ask_postgres(struct follow *f)
{
	timer_stop(&f->silence);
	f->lookup = look_stored(f, on_result);
}

static void subscribe(struct follow *f);

static void on_view(void *ctx, enum redis_result result, const struct job_view *view)
{
	struct follow *f = ctx;

	f->request = NULL;
	if (result != REDIS_OK) {
		if (!f->told)
			gone(f, true);
		else
			timer_set(&f->silence, SILENCE_US);
	} else if (!view->found) {
		if (f->fresh && loop_now_us(f->relay->loop) < f->fresh_until_us)
			timer_set(&f->silence, SILENCE_US);
		else
			ask_postgres(f);
	} else if (!str_eq(view->org, f->org) || !its_session(f, view->session) ||
		   str_is(view->state, "refused")) {
		gone(f, false);
	} else if (!f->sub && !state_terminal(view->state)) {
		struct key key = key_channel(f->job);
		struct str channel = view->channel.len ? view->channel : key_str(&key);

		f->channel =
		    (struct str){arena_dup(&f->arena, channel.ptr, channel.len), channel.len};
		subscribe(f);
	} else {
		take_view(f, view);
	}
}

static void look(struct follow *f)
{
	if (f->request || f->lookup) {
		f->again = true;
		return;
	}
	f->request = state_read(f->relay->redis, f->job, on_view, f);
}

/* A Redis that was set back may show a job as running that ended, and that nobody has any more: the record knows. */
static void on_record(void *ctx, bool sure, const struct result *result, int64_t total)
{
	struct follow *f = ctx;

	if (result) {
		on_result(f, sure, result, total);
		return;
	}
	f->lookup = NULL;
	look(f);
}

static void on_silence(struct timer *t)
{
	struct follow *f = container_of(t, struct follow, silence);

	if (!f->told)
		gone(f, true);
	else if (f->paused || PLANTED(SILENCE_TRUSTED))
		return;
	else if (!f->request && !f->lookup && relay_unsure(f->relay, f->job))
		f->lookup = look_stored(f, on_record);
	else
		look(f);
}

/* ── the channel ── */

static void on_standing(void *ctx)
{
	struct follow *f = ctx;
	struct job_view view = {
	    .found = true, .org = f->org, .state = STR("queued"), .channel = f->channel};

	if (f->fresh && !f->told) {
		sm_move(&f->sm, FOLLOW_LIVE);
		timer_set(&f->silence, SILENCE_US);
		tell_state(f, &view);
		if (!f->closed && f->look_at_once)
			look(f);
	} else if (!f->paused) {
		look(f);
	} else {
		f->again = true;
	}
}

static void on_delta(struct follow *f, const struct event *event)
{
	int64_t last = event->at + (int64_t)event->payload.len;
	int64_t known = f->at - event->at;

	if (sm_state(&f->sm) != FOLLOW_LIVE || f->paused) {
		if (last > f->known_end)
			f->known_end = last;
		f->again = f->again || f->paused;
	} else if (last <= f->at) {
		return; /* known already */
	} else if (known < 0 && PLANTED(GAP_NOT_HEALED)) {
		f->at = event->at;
		tell_text(f, event->payload);
	} else if (known < 0) {
		f->known_end = last; /* what was lost may be a part or a seam as well */
		look(f);
	} else {
		tell_text(f, (struct str){event->payload.ptr + known,
					  event->payload.len - (size_t)known});
	}
}

static void on_part(struct follow *f, const struct event *event)
{
	cleanup_json struct json_object *part = event_payload(event);
	int64_t at = json_int(part, "at", 0), index = json_int(part, "index", 0);

	if (sm_state(&f->sm) != FOLLOW_LIVE || f->paused) {
		f->again = true;
	} else if (part && at > f->at) {
		look(f);
	} else if (part && index >= f->parts_seen) {
		f->parts_seen = index + 1;
		f->ops->event(f->ctx, event);
	}
}

static void on_seam(struct follow *f, const struct event *event)
{
	cleanup_json struct json_object *seam = event_payload(event);
	int64_t at = json_int(seam, "at", 0);

	if (sm_state(&f->sm) != FOLLOW_LIVE || f->paused)
		f->again = true;
	else if (seam && at > f->at)
		look(f);
	else if (seam && seams_tell(&f->seams, at))
		f->ops->event(f->ctx, event);
}

static void on_message(void *ctx, struct str payload)
{
	struct follow *f = ctx;
	struct event event;

	if (event_parse(payload, &event) != EVENT_OK || !str_eq(event.job, f->job))
		return;
	if (!f->told ||
	    (event.attempt > f->attempt && (sm_state(&f->sm) != FOLLOW_LIVE || f->paused))) {
		f->again = true;
		return;
	}
	if (event.attempt < f->attempt)
		return;
	if (event.attempt > f->attempt)
		new_attempt(f, event.attempt);
	if (f->closed)
		return;
	if (sm_state(&f->sm) == FOLLOW_LIVE)
		timer_set(&f->silence, SILENCE_US);
	if (str_is(event.ev, "delta")) {
		on_delta(f, &event);
	} else if (str_is(event.ev, "part")) {
		on_part(f, &event);
	} else if (str_is(event.ev, "seam")) {
		on_seam(f, &event);
	} else if (str_is(event.ev, "result") || str_is(event.ev, "fault")) {
		if (f->paused || sm_state(&f->sm) != FOLLOW_LIVE)
			f->again = true;
		else
			look(f);
	} else if (str_is(event.ev, "started")) {
		on_started(f, &event);
	} else if (!str_is(event.ev, "reset")) {
		f->ops->event(f->ctx, &event);
	}
}

static const struct redis_sub_ops sub_ops = {.standing = on_standing, .message = on_message};

static void subscribe(struct follow *f)
{
	f->sub = redis_subscribe(f->relay->redis, f->channel, &sub_ops, f);
}

/* ── life ── */

static void on_begin(struct task *t)
{
	struct follow *f = container_of(t, struct follow, begin);

	gone(f, false);
}

struct follow *follow_open(struct relay *relay, const struct follow_request *request,
			   const struct follow_ops *ops, void *ctx)
{
	struct follow *f = mem_new(struct follow);

	f->relay = relay;
	f->ops = ops;
	f->ctx = ctx;
	f->job = (struct str){arena_dup(&f->arena, request->job.ptr, request->job.len),
			      request->job.len};
	f->org = (struct str){arena_dup(&f->arena, request->org.ptr, request->org.len),
			      request->org.len};
	f->session = (struct str){arena_dup(&f->arena, request->session.ptr, request->session.len),
				  request->session.len};
	f->channel = (struct str){arena_dup(&f->arena, request->channel.ptr, request->channel.len),
				  request->channel.len};
	f->want_attempt = request->attempt;
	f->want_at = request->at;
	f->fresh = request->fresh && request->channel.len;
	f->look_at_once = request->again;
	f->piece = request->piece_bytes ? (int64_t)request->piece_bytes : RANGE_BYTES;
	f->fresh_until_us = loop_now_us(relay->loop) + request->fresh_us;
	sm_init(&f->sm, moves, relay->log, "follow", FOLLOW_OPENING);
	timer_init(&f->silence, relay->loop, on_silence);
	task_init(&f->begin, relay->loop, on_begin);
	list_push_back(&relay->follows, &f->link);
	if (!id_is(f->job, "job")) {
		task_post(&f->begin);
		return f;
	}
	timer_set(&f->silence, OPEN_US);
	if (f->channel.len)
		subscribe(f);
	else
		look(f);
	return f;
}

int64_t follow_attempt(const struct follow *follow)
{
	return follow->attempt;
}

int64_t follow_at(const struct follow *follow)
{
	return follow->at;
}

void follow_pause(struct follow *follow, bool pause)
{
	if (follow->paused == pause)
		return;
	follow->paused = pause;
	if (pause || !follow->told || follow->closed || follow->handing ||
	    sm_state(&follow->sm) == FOLLOW_ENDED)
		return;
	if (follow->stored) {
		follow->stored = false;
		ask_postgres(follow);
		return;
	}
	follow->again = false;
	look(follow);
}

void follow_close(struct follow *follow)
{
	if (!follow || follow->closed)
		return;
	follow->closed = true;
	quiet(follow);
	list_remove(&follow->link);
	list_push_back(&follow->relay->closed, &follow->link);
	task_post(&follow->relay->reap);
}

void follow_reap(struct relay *relay)
{
	struct follow *f;

	while ((f = list_pop_front(&relay->closed, struct follow, link))) {
		json_object_put(f->parts);
		mem_free(f->result);
		arena_reset(&f->arena);
		mem_free(f);
	}
}
