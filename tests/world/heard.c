/* What a phone is told, and what must hold of it: the protocol's rule for texts, no byte twice and none left out on a connection, no claim of a
 * recovery that did not happen, one end. */
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "tests/world/phone.h"

#define RETRY_US (1 * US_PER_S)

static void wrong(struct talk *t, const struct answer *a, const char *what)
{
	world_violation("phone %d: %s%s%s (%zu bytes of attempt %lld)", t->phone->number, what,
			a ? " of " : "", a ? a->id : "", a ? a->text.len : 0,
			a ? (long long)a->attempt : 0);
}

/* One whose place is told on this connection: events of it may come. */
static struct answer *going(struct talk *t, struct json_object *tree)
{
	struct answer *a = phone_answer(t->phone, json_str(tree, "job"));

	if (!a || !a->going) {
		world_violation("phone %d hears %.*s of %.*s, of which it was told nothing",
				t->phone->number, STR_FMT(json_str(tree, "ev")),
				STR_FMT(json_str(tree, "job")));
		return NULL;
	}
	if (a->told) {
		wrong(t, a, "something comes behind the end");
		return NULL;
	}
	if (a->ack_ping && a->ack_ping <= t->pongs)
		wrong(t, a, "something comes behind the acknowledgement");
	return a;
}

/* ── text ── */

static void on_delta(struct talk *t, struct json_object *tree)
{
	struct answer *a = going(t, tree);
	int64_t attempt = json_int(tree, "attempt", -1), at = json_int(tree, "at", -1);
	struct str text = json_str(tree, "text");

	if (!a)
		return;
	if (a->fresh && !a->started && !redis_server_was_cut())
		wrong(t, a, "text before its call is told");
	a->fresh = false;
	if (attempt > a->attempt && a->text.len)
		wrong(t, a, "a newer attempt without a reset");
	else if (attempt < a->attempt && !redis_server_forgot())
		wrong(t, a, "a delta of an older attempt");
	if (attempt != a->attempt)
		answer_begin(a, attempt);
	if (at != (int64_t)a->text.len) {
		wrong(t, a, at < (int64_t)a->text.len ? "a byte comes twice" : "a gap in the text");
		a->going = false;
		return;
	}
	if (!text.len || !str_utf8(text))
		wrong(t, a, "an empty delta, or a split code point");
	buf_add_str(&a->text, text);
}

static void on_started(struct talk *t, struct json_object *tree)
{
	struct answer *a = going(t, tree);

	if (a)
		a->started = true;
}

static void on_reset(struct talk *t, struct json_object *tree)
{
	struct answer *a = going(t, tree);
	int64_t attempt = json_int(tree, "attempt", -1);

	if (!a)
		return;
	if (attempt <= a->attempt && !redis_server_forgot())
		wrong(t, a, "a reset to no newer attempt");
	answer_begin(a, attempt);
}

/* What it has of the attempt was told so. */
static bool was_told(const struct answer *a, int64_t attempt, size_t at)
{
	struct str told = redis_server_told(str_of(a->id), attempt);

	return redis_server_forgot() ||
	       (told.len >= at && a->text.len >= at &&
		(!at || memcmp(told.ptr, a->text.data + a->text.head, at) == 0));
}

static void cut_text(struct answer *a, size_t len)
{
	struct buf kept = {0};

	if (len >= a->text.len)
		return;
	buf_add(&kept, a->text.data + a->text.head, len);
	buf_fini(&a->text);
	a->text = kept;
}

static void on_resumed(struct talk *t, struct json_object *tree)
{
	struct json_object *jobs = json_member(tree, "jobs");

	for (size_t i = 0; i < json_object_array_length(jobs); i++) {
		struct json_object *one = json_object_array_get_idx(jobs, i);
		struct answer *a = phone_answer(t->phone, json_str(one, "job"));
		int64_t attempt = json_int(one, "attempt", -1), at = json_int(one, "at", -1);

		if (!a || !(a->named || a->unsure || a->crossing) || !a->named_byte ||
		    attempt != a->named_attempt || at != a->named_at) {
			wrong(t, a, "a resume of what was not named so");
			continue;
		}
		if (a->lied || !was_told(a, attempt, (size_t)at))
			wrong(t, a, "a resume is claimed that did not happen");
		cut_text(a, (size_t)at);
		a->crossing = a->crossing && a->named;
		a->going = true;
		a->named = a->told = false;
	}
}

static void on_snapshot(struct talk *t, struct json_object *tree)
{
	struct str id = json_str(tree, "job");
	struct answer *a = phone_answer(t->phone, id);
	int64_t attempt = json_int(tree, "attempt", -1);
	bool asked;

	if (!a)
		a = phone_answer_make(t->phone, id);
	asked = a->named || a->fresh || a->crossing;
	if ((a->going || a->told) && !asked && !a->unsure)
		wrong(t, a, "a snapshot that nobody asked for");
	if (a->named && a->named_byte && !a->lied && attempt == a->named_attempt && !a->unsure &&
	    !a->crossing && !redis_server_forgot())
		wrong(t, a, "a snapshot where it could have gone on");
	if (attempt < a->attempt && !redis_server_forgot())
		wrong(t, a, "a snapshot of an older attempt");
	if (t->phone->last >= LAST_TAKING && a->ended && a->acked)
		wrong(t, a, "what was acknowledged is told again");
	answer_begin(a, attempt);
	buf_add_str(&a->text, json_str(tree, "text"));
	a->crossing = a->crossing && a->named;
	a->going = true;
	a->named = a->fresh = a->told = false;
}

static void on_gone(struct talk *t, struct json_object *tree)
{
	struct str id = json_str(tree, "job");
	struct answer *a;

	if (!id.len) {
		if (!t->stranger)
			wrong(t, NULL, "its resume token does not hold");
		return;
	}
	a = phone_answer(t->phone, id);
	if (!a || (a->accepted && !redis_server_forgot())) {
		wrong(t, a, "an accepted job is said to be gone");
		return;
	}
	a->going = a->named = false;
	a->unsure = true;
	a->again_us = world->now_us + RETRY_US;
}

/* ── the end ── */

static void on_end(struct talk *t, struct json_object *tree)
{
	struct answer *a = going(t, tree);
	struct json_object *whole = json_member(tree, "text");
	bool succeeded = str_is(json_str(tree, "ev"), "result");
	struct str status = succeeded ? STR("succeeded") : json_str(tree, "status");

	if (!a)
		return;
	a->told = true;
	a->going = a->fresh = false;
	if (json_int(tree, "attempt", -1) != a->attempt && a->text.len)
		wrong(t, a, "the end of another attempt");
	a->attempt = json_int(tree, "attempt", -1);
	if (whole && a->text.len && !str_eq(json_text(whole), buf_str(&a->text)))
		wrong(t, a, "a whole text behind a part of it");
	if (whole) {
		buf_reset(&a->text);
		buf_add_str(&a->text, json_text(whole));
	}
	if (succeeded && json_int(tree, "bytes", -1) != (int64_t)a->text.len &&
	    !redis_server_forgot())
		wrong(t, a, "the end comes before the whole text");
	if (a->ended && !redis_server_forgot() &&
	    (!str_is(status, a->status) || !str_eq(buf_str(&a->final), buf_str(&a->text))))
		wrong(t, a, "another end");
	if (t->phone->last >= LAST_TAKING && a->ended && a->acked)
		wrong(t, a, "the end of what was acknowledged");
	world_tell("client", "phone %d hears the end of %s: %.*s, %zu bytes", t->phone->number,
		   a->id, STR_FMT(status), a->text.len);
	buf_reset(&a->final);
	buf_add_str(&a->final, buf_str(&a->text));
	snprintf(a->status, sizeof(a->status), "%.*s", STR_FMT(status));
	a->ended = true;
	a->acked = false;
	a->ack_ping = 0;
	a->ack_at_us = world->now_us + (world_between(0, 2) ? 0 : world_between(0, 3000000));
}

/* ── answers to what it said ── */

/* "c7" → 7; NULL: none of its own. */
static struct order *order_of(struct talk *t, struct json_object *tree)
{
	struct str ref = json_str(tree, "ref");
	uint64_t n = 0;

	if (ref.len < 2 || !str_u64((struct str){ref.ptr + 1, ref.len - 1}, &n) ||
	    n >= t->phone->order_count) {
		wrong(t, NULL, "an answer to a ref that it never said");
		return NULL;
	}
	return &t->phone->orders[n];
}

static void on_accepted(struct talk *t, struct json_object *tree)
{
	struct order *o = order_of(t, tree);
	struct str id = json_str(tree, "job");
	struct answer *a;

	if (!o)
		return;
	if (o->answer && !str_is(id, o->answer->id) && !redis_server_forgot())
		wrong(t, o->answer, "a ref is accepted as two jobs, one");
	a = phone_answer(t->phone, id);
	if (!a)
		a = phone_answer_make(t->phone, id);
	if (!o->answer) {
		world_tell("client", "job %d (%s) is accepted by %s", o->job->number, a->id,
			   t->node->id);
		snprintf(o->job->tries[0].id, sizeof(o->job->tries[0].id), "%s", a->id);
		o->job->tries[0].told = TOLD_ACCEPTED;
		o->job->try_count = 1;
		o->job->settled = true;
		o->answer = a;
	}
	o->sent = o->unsure = false;
	a->accepted = true;
	if (a->named && !a->named_byte && !a->going && !a->told) {
		/* Attached by its id alone, and said again: told from the first byte on, and the attach answered by that, or too. */
		a->named = false;
		a->crossing = true;
	}
	if (a->going || a->told || a->named || (a->ack_ping && a->ack_ping <= t->pongs))
		return; /* of what was acknowledged nothing more is said */
	answer_begin(a, 0);
	a->going = a->fresh = true;
	a->started = strcmp(o->job->lane, "background") == 0;
}

static void refused(struct talk *t, struct order *o, struct str name, bool retryable)
{
	o->sent = false;
	if (!retryable && !str_is(name, "outcome_unknown")) {
		world_violation("phone %d: job %d is refused as %.*s", t->phone->number,
				o->job->number, STR_FMT(name));
		return;
	}
	if (str_is(name, "outcome_unknown")) {
		t->phone->strays++;
		o->unsure = true;
	}
	o->due_us = world->now_us + RETRY_US + world_between(0, 1000000);
}

static void on_fault(struct talk *t, struct json_object *tree)
{
	struct str name = json_str(tree, "name"), id = json_str(tree, "job");
	struct answer *a;

	if (json_str(tree, "status").len) {
		on_end(t, tree);
	} else if (json_str(tree, "ref").len) {
		struct order *o = order_of(t, tree);

		if (o)
			refused(t, o, name, json_bool(tree, "retryable", false));
	} else if (id.len) {
		a = phone_answer(t->phone, id);
		if (str_is(name, "state_unknown")) {
			if (!a)
				a = phone_answer_make(t->phone, id);
			/* Of the answer; or it is the answer to a cancel, and that goes on. Where that cannot be known it asks again. */
			if (!a->cancelled)
				a->going = a->named = a->fresh = false;
			a->cancelled = false;
			a->unsure = true;
			a->again_us = world->now_us + RETRY_US;
		} else if (!str_is(name, "already_terminal") && !redis_server_forgot()) {
			world_violation("phone %d hears %.*s of %.*s", t->phone->number,
					STR_FMT(name), STR_FMT(id));
		}
	} else if (!t->hello_twice || !str_is(name, "invalid_request")) {
		world_violation("phone %d hears %.*s", t->phone->number, STR_FMT(name));
	}
}

static void on_welcome(struct talk *t, struct json_object *tree)
{
	struct phone *p = t->phone;
	struct str session = json_str(tree, "session"), resume = json_str(tree, "resume");

	if (t->state != TALK_HELLO)
		wrong(t, NULL, "a second welcome");
	t->state = TALK_OPEN;
	t->since_us = t->pinged_us = world->now_us;
	world_tell("client", "phone %d is welcome at %s, session %.*s", p->number, t->node->id,
		   STR_FMT(session));
	if (t->stranger)
		return;
	if (p->session[0] && !str_is(session, p->session))
		wrong(t, NULL, "it is welcomed in another session");
	must(session.len < sizeof(p->session) && resume.len && resume.len < sizeof(p->resume));
	snprintf(p->session, sizeof(p->session), "%.*s", STR_FMT(session));
	snprintf(p->resume, sizeof(p->resume), "%.*s", STR_FMT(resume));
	if (p->last)
		phone_listed(p);
}

static void on_pong(struct talk *t)
{
	t->pongs++;
	if (t->pongs > t->pings)
		wrong(t, NULL, "a pong for no ping");
	list_each (&t->phone->answers, at) {
		struct answer *a = container_of(at, struct answer, link);

		if (!a->ack_ping || a->ack_ping > t->pongs)
			continue;
		/* Where its ref was said again meanwhile: nothing more comes of that. */
		a->acked = true;
		t->phone->acked_us = world->now_us;
		a->going = a->fresh = false;
	}
}

void heard(struct talk *t, struct str text)
{
	cleanup_json struct json_object *tree = NULL;
	struct json_error error;
	struct str ev;

	if (t != t->phone->now)
		return; /* whoever reads it is gone */
	if (json_read(text, &tree, &error) != JSON_OK) {
		world_violation("phone %d reads what is no JSON", t->phone->number);
		return;
	}
	ev = json_str(tree, "ev");
	world_tell("client", "phone %d reads %.*s", t->phone->number, STR_FMT(text));
	if (t->state != TALK_OPEN && !str_is(ev, "welcome"))
		wrong(t, NULL, "something comes before the welcome");
	if (str_is(ev, "delta"))
		on_delta(t, tree);
	else if (str_is(ev, "welcome"))
		on_welcome(t, tree);
	else if (str_is(ev, "accepted"))
		on_accepted(t, tree);
	else if (str_is(ev, "resumed"))
		on_resumed(t, tree);
	else if (str_is(ev, "snapshot"))
		on_snapshot(t, tree);
	else if (str_is(ev, "gone"))
		on_gone(t, tree);
	else if (str_is(ev, "reset"))
		on_reset(t, tree);
	else if (str_is(ev, "result"))
		on_end(t, tree);
	else if (str_is(ev, "fault"))
		on_fault(t, tree);
	else if (str_is(ev, "pong"))
		on_pong(t);
	else if (str_is(ev, "draining"))
		t->draining = true;
	else if (str_is(ev, "started"))
		on_started(t, tree);
	else if (str_is(ev, "queued") || str_is(ev, "part") || str_is(ev, "seam"))
		going(t, tree);
	else
		world_violation("phone %d hears %.*s", t->phone->number, STR_FMT(ev));
}

/* ── the end of a connection ── */

void heard_close(struct talk *t, bool orderly)
{
	bool good;

	if (!orderly) {
		if (!t->slow && !line_gone(t->line))
			wrong(t, NULL, "its connection ends without a close frame");
		return;
	}
	switch (t->code) {
	case 1000:
		good = t->phone->last == LAST_OVER;
		break;
	case 3000:
		good = t->draining || t->node->draining || line_gone(t->line);
		break;
	case 3001:
	case 3004:
		good = t->slow;
		break;
	case 3002:
		good = t->state != TALK_OPEN;
		break;
	case 3505:
		good = t->taken;
		break;
	default:
		good = false;
	}
	if (!good)
		world_violation("phone %d is closed with %u", t->phone->number, t->code);
}
