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
#include "lib/relay/teller.h"
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

	struct teller tell; /* what was told, and how far */
	int64_t known_end;  /* the answer is known to reach at least here */
	bool more;	    /* the last piece was a full one: there may be more behind it */
	bool told;	    /* ops.state was called */
	bool look_again;    /* something was missed: look once more when caught up */
	bool paused;
	bool stored;	      /* paused, and the rest of the text is in PostgreSQL */
	bool handing;	      /* inside of what hands it over */
	int64_t start_looked; /* the last attempt whose `started` was looked for */
	int64_t from;	      /* the byte that PostgreSQL is asked for */

	/* from the last look */
	bool terminal;
	char status[16];
	char *result; /* JSON */

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
	f->tell.ops->gone(f->tell.ctx, unsure);
}

static void end(struct follow *f, const struct result *result, struct str status)
{
	struct follow_end e = {.status = status, .attempt = f->tell.attempt, .result = result};

	quiet(f);
	sm_move(&f->sm, FOLLOW_ENDED);
	f->tell.ops->end(f->tell.ctx, &e);
}

static void end_from_state(struct follow *f)
{
	struct arena arena = {0};
	struct codec_error error;
	struct result result;

	if (codec_decode(&codec_result, &arena, str_of(f->result), false, &result, &error) !=
	    CODEC_OK)
		codec_init(&codec_result, &result);
	seams_read(&f->tell.seams, result.calls, f->tell.attempt);
	teller_seams(&f->tell, f->tell.at);
	if (!f->tell.closed)
		end(f, &result, str_of(f->status));
	arena_reset(&arena);
}

static void new_attempt(struct follow *f, int64_t attempt)
{
	f->known_end = 0;
	f->more = false;
	teller_reset(&f->tell, attempt);
}

/* Where the wanted position stands in an answer of @attempt and @bytes. */
static void tell_state(struct follow *f, const struct job_view *view)
{
	bool resumed =
	    f->want_attempt > 0 && f->want_attempt == view->attempt && f->want_at <= view->bytes;

	f->told = true;
	teller_begin(&f->tell, view, resumed ? f->want_at : 0);
	f->tell.ops->state(f->tell.ctx, view, resumed);
}

/* ── catching up ── */

static void ask_postgres(struct follow *f);

static void caught_up(struct follow *f)
{
	if (f->look_again) {
		f->look_again = false;
		look(f);
	} else if (f->terminal) {
		end_from_state(f);
	} else {
		if (sm_state(&f->sm) != FOLLOW_LIVE)
			sm_move(&f->sm, FOLLOW_LIVE);
		timer_set(&f->silence, SILENCE_US);
	}
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
		teller_rewind(&f->tell);
		if (!f->tell.closed)
			pump(f);
		return;
	}
	if (!whole && f->tell.at < f->known_end && f->terminal) {
		ask_postgres(f); /* the text is not here any more */
		return;
	}
	if (!whole)
		f->known_end = f->tell.at;
	teller_text(&f->tell, (struct str){bytes.ptr, whole});
	if (!f->tell.closed)
		pump(f);
}

/* Reads on until the text that is known to be there was handed over. */
static void pump(struct follow *f)
{
	struct key key = key_out(f->job, f->tell.attempt);
	char from[24], to[24];

	if (f->paused || f->request || f->lookup)
		return;
	teller_parts(&f->tell);
	if (f->tell.closed)
		return;
	if (f->tell.at >= f->known_end && !f->more) {
		caught_up(f);
		return;
	}
	snprintf(from, sizeof(from), "%" PRId64, f->tell.at);
	snprintf(to, sizeof(to), "%" PRId64, f->tell.at + f->piece - 1);
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
	teller_keep_parts(&f->tell, view->parts);
}

static void take_view(struct follow *f, const struct job_view *view)
{
	if (f->told && view->attempt < f->tell.attempt) {
		caught_up(f);
		return;
	}
	if (f->told && view->attempt > f->tell.attempt)
		new_attempt(f, view->attempt);
	if (f->tell.closed)
		return;
	keep_view(f, view);
	if (!f->told)
		tell_state(f, view);
	else
		teller_missed_started(&f->tell, view);
	if (f->tell.closed)
		return;
	seams_read(&f->tell.seams, view->calls, f->tell.attempt);
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

	if (f->tell.at >= total)
		return true;
	if (f->paused) {
		f->stored = true;
		return false;
	}
	if (f->tell.at == f->from && f->tell.at > 0 && inside_point(text))
		teller_rewind(&f->tell);
	if (f->tell.closed)
		return false;
	if (f->tell.at != f->from) {
		ask_postgres(f);
		return false;
	}
	last = !text.len || f->tell.at + (int64_t)text.len >= total;
	if (!last && whole_points(text))
		text.len = whole_points(text);
	teller_text(&f->tell, text);
	if (f->tell.closed || last)
		return !f->tell.closed;
	return hand_over(f, STR(""), total);
}

static void on_epoch(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct follow *f = ctx;

	f->request = NULL;
	gone(f, !relay_is_none(f->relay, f->job, result, value));
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
	if (f->told && f->tell.attempt != result->attempt)
		new_attempt(f, result->attempt);
	teller_keep_parts(&f->tell, result->parts);
	if (!f->tell.closed && !f->told)
		tell_state(f, &view);
	seams_read(&f->tell.seams, result->calls, f->tell.attempt);
	if (!f->tell.closed && hand_over(f, result->text, total)) {
		teller_parts(&f->tell);
		if (!f->tell.closed)
			teller_seams(&f->tell, f->tell.at);
		if (!f->tell.closed)
			end(f, result, result->status);
	}
	f->handing = false;
}

static struct relay_lookup *look_stored(struct follow *f,
					void (*done)(void *ctx, bool sure,
						     const struct result *result, int64_t total))
{
	bool named = !f->told && f->want_attempt > 0;

	f->from = named ? f->want_at : f->tell.at;
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
		f->look_again = true;
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
		if (!f->tell.closed && f->look_at_once)
			look(f);
	} else if (!f->paused) {
		look(f);
	} else {
		f->look_again = true;
	}
}

/* Who submits may be told `queued` when the call began already, in the moment before the subscription stood: text that comes without its
 * `started` is read behind it. True where it is. */
static bool start_was_missed(struct follow *f)
{
	if (f->tell.at || f->tell.parts_seen || teller_knows_target(&f->tell) ||
	    f->start_looked == f->tell.attempt)
		return false;
	f->start_looked = f->tell.attempt;
	return true;
}

static void on_delta(struct follow *f, const struct event *event)
{
	int64_t last = event->at + (int64_t)event->payload.len;
	int64_t known = f->tell.at - event->at;

	if (sm_state(&f->sm) != FOLLOW_LIVE || f->paused) {
		if (last > f->known_end)
			f->known_end = last;
		f->look_again = f->look_again || f->paused;
	} else if (last <= f->tell.at) {
		return; /* known already */
	} else if (known < 0 && PLANTED(GAP_NOT_HEALED)) {
		f->tell.at = event->at;
		teller_text(&f->tell, event->payload);
	} else if (start_was_missed(f) || known < 0) {
		f->known_end = last; /* what was lost may be a part or a seam as well */
		look(f);
	} else {
		teller_text(&f->tell, (struct str){event->payload.ptr + known,
						   event->payload.len - (size_t)known});
	}
}

static void on_part(struct follow *f, const struct event *event)
{
	cleanup_json struct json_object *part = event_payload(event);
	int64_t at = json_int(part, "at", 0), index = json_int(part, "index", 0);

	if (sm_state(&f->sm) != FOLLOW_LIVE || f->paused) {
		f->look_again = true;
	} else if (part && (start_was_missed(f) || at > f->tell.at)) {
		look(f);
	} else if (part && index >= f->tell.parts_seen) {
		f->tell.parts_seen = index + 1;
		f->tell.ops->event(f->tell.ctx, event);
	}
}

static void on_seam(struct follow *f, const struct event *event)
{
	cleanup_json struct json_object *seam = event_payload(event);
	int64_t at = json_int(seam, "at", 0);

	if (sm_state(&f->sm) != FOLLOW_LIVE || f->paused)
		f->look_again = true;
	else if (seam && at > f->tell.at)
		look(f);
	else if (seam && seams_tell(&f->tell.seams, at))
		f->tell.ops->event(f->tell.ctx, event);
}

static void on_message(void *ctx, struct str payload)
{
	struct follow *f = ctx;
	struct event event;

	if (event_parse(payload, &event) != EVENT_OK || !str_eq(event.job, f->job))
		return;
	if (!f->told ||
	    (event.attempt > f->tell.attempt && (sm_state(&f->sm) != FOLLOW_LIVE || f->paused))) {
		f->look_again = true;
		return;
	}
	if (event.attempt < f->tell.attempt)
		return;
	if (event.attempt > f->tell.attempt)
		new_attempt(f, event.attempt);
	if (f->tell.closed)
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
			f->look_again = true;
		else
			look(f);
	} else if (str_is(event.ev, "started")) {
		teller_started(&f->tell, &event);
	} else if (!str_is(event.ev, "reset")) {
		f->tell.ops->event(f->tell.ctx, &event);
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
	f->tell.ops = ops;
	f->tell.ctx = ctx;
	f->job = (struct str){arena_dup(&f->arena, request->job.ptr, request->job.len),
			      request->job.len};
	f->org = (struct str){arena_dup(&f->arena, request->org.ptr, request->org.len),
			      request->org.len};
	f->session = (struct str){arena_dup(&f->arena, request->session.ptr, request->session.len),
				  request->session.len};
	f->channel = (struct str){arena_dup(&f->arena, request->channel.ptr, request->channel.len),
				  request->channel.len};
	f->tell.job = f->job;
	f->want_attempt = request->attempt;
	f->want_at = request->at;
	f->fresh = request->fresh && request->channel.len;
	f->look_at_once = request->submitted_before;
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
	return follow->tell.attempt;
}

int64_t follow_at(const struct follow *follow)
{
	return follow->tell.at;
}

void follow_pause(struct follow *follow, bool pause)
{
	if (follow->paused == pause)
		return;
	follow->paused = pause;
	if (pause || !follow->told || follow->tell.closed || follow->handing ||
	    sm_state(&follow->sm) == FOLLOW_ENDED)
		return;
	if (follow->stored) {
		follow->stored = false;
		ask_postgres(follow);
		return;
	}
	follow->look_again = false;
	look(follow);
}

void follow_close(struct follow *follow)
{
	if (!follow || follow->tell.closed)
		return;
	follow->tell.closed = true;
	quiet(follow);
	list_remove(&follow->link);
	list_push_back(&follow->relay->closed, &follow->link);
	task_post(&follow->relay->reap);
}

void follow_reap(struct relay *relay)
{
	struct follow *f;

	while ((f = list_pop_front(&relay->closed, struct follow, link))) {
		teller_fini(&f->tell);
		mem_free(f->result);
		arena_reset(&f->arena);
		mem_free(f);
	}
}
