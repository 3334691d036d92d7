#include "lib/relay/teller.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/json.h"
#include "lib/relay/follow.h"
#include "lib/relay/view.h"
#include "schemas/keys.h"

void teller_fini(struct teller *t)
{
	json_object_put(t->parts);
	t->parts = NULL;
	seams_fini(&t->seams);
}

static void tell(struct teller *t, struct str ev, struct buf *payload)
{
	struct event event = {
	    .ev = ev, .job = t->job, .attempt = t->attempt, .at = -1, .payload = buf_str(payload)};

	t->ops->event(t->ctx, &event);
	buf_fini(payload);
}

/* ── seams ── */

static void tell_seam(struct teller *t, const struct seam *seam)
{
	struct buf payload = {0};
	struct json_out o = {.buf = &payload};

	seam_write(seam, &o);
	tell(t, STR("seam"), &payload);
}

void teller_seams(struct teller *t, int64_t before)
{
	for (size_t i = 0; i < t->seams.count && !t->closed; i++)
		if (t->seams.known[i].at < before && seams_tell(&t->seams, t->seams.known[i].at))
			tell_seam(t, &t->seams.known[i]);
}

/* ── parts ── */

void teller_keep_parts(struct teller *t, struct str parts)
{
	struct json_error error;

	json_object_put(t->parts);
	t->parts = NULL;
	if (parts.len && json_read(parts, &t->parts, &error) != JSON_OK)
		t->parts = NULL;
}

/* The first known one that was not told; NULL where there is none. */
static struct json_object *next_part(const struct teller *t)
{
	if (!t->parts || !json_object_is_type(t->parts, json_type_array) || t->parts_seen < 0 ||
	    (size_t)t->parts_seen >= json_object_array_length(t->parts))
		return NULL;
	return json_object_array_get_idx(t->parts, (size_t)t->parts_seen);
}

static void tell_part(struct teller *t, struct json_object *part)
{
	struct buf payload = {0};
	struct json_out o = {.buf = &payload};
	struct str id = json_str(part, "id"), name = json_str(part, "name");

	json_put_int(&o, "at", t->at);
	json_put_int(&o, "index", t->parts_seen - 1);
	json_put_str(&o, "type", json_str(part, "type"));
	if (id.len)
		json_put_str(&o, "id", id);
	if (name.len)
		json_put_str(&o, "name", name);
	tell(t, STR("part"), &payload);
}

void teller_parts(struct teller *t)
{
	struct json_object *part;

	while (!t->closed && (part = next_part(t)) && json_int(part, "at", 0) <= t->at) {
		bool begins = json_int(part, "at", 0) == t->at &&
			      (t->parts_seen || t->at || !str_is(json_str(part, "type"), "text"));

		t->parts_seen++;
		if (begins)
			tell_part(t, part);
	}
}

/* ── text ── */

void teller_text(struct teller *t, struct str text)
{
	while (text.len && !t->closed) {
		struct json_object *part;
		int64_t at = t->at;
		size_t take;

		teller_seams(t, t->at + 1);
		teller_parts(t);
		part = next_part(t);
		if (t->closed)
			return;
		take = (size_t)(seams_next(&t->seams, at, at + (int64_t)text.len) - at);
		if (part && json_int(part, "at", 0) - at < (int64_t)take)
			take = (size_t)(json_int(part, "at", 0) - at);
		t->at += (int64_t)take;
		t->ops->delta(t->ctx, t->attempt, at, (struct str){text.ptr, take});
		text.ptr += take;
		text.len -= take;
	}
}

void teller_reset(struct teller *t, int64_t attempt)
{
	/* After a loss of Redis's memory the record may be of an older attempt, which a listener that is not told so drops. */
	bool shown = t->at > 0 || t->parts_seen > 0 || attempt < t->attempt;

	t->attempt = attempt;
	t->at = 0;
	t->parts_seen = 0;
	seams_fini(&t->seams);
	teller_keep_parts(t, STR(""));
	if (shown)
		t->ops->reset(t->ctx, attempt);
}

void teller_rewind(struct teller *t)
{
	t->at = 0;
	t->parts_seen = 0;
	seams_begin(&t->seams, 0);
	t->ops->reset(t->ctx, t->attempt);
}

/* ── who works on it ── */

static void note_target(struct teller *t, int64_t attempt, struct str provider, struct str model)
{
	snprintf(t->target, sizeof(t->target), "%" PRId64 " %.*s %.*s", attempt, STR_FMT(provider),
		 STR_FMT(model));
}

void teller_begin(struct teller *t, const struct job_view *view, int64_t at)
{
	struct json_object *part;

	if (view->provider.len)
		note_target(t, view->attempt, view->provider, view->model);
	t->attempt = view->attempt;
	t->at = at;
	seams_begin(&t->seams, at);
	seams_read(&t->seams, view->calls, t->attempt);
	while ((part = next_part(t)) && json_int(part, "at", 0) < at)
		t->parts_seen++;
}

bool teller_knows_target(const struct teller *t)
{
	return t->target[0] && strtoll(t->target, NULL, 10) == t->attempt;
}

void teller_missed_started(struct teller *t, const struct job_view *view)
{
	struct buf payload = {0};
	struct json_out o = {.buf = &payload};
	char before[sizeof(t->target)];

	if (!view->provider.len || (state_terminal(view->state) && t->target[0]))
		return;
	memcpy(before, t->target, sizeof(before));
	note_target(t, view->attempt, view->provider, view->model);
	if (strcmp(before, t->target) == 0)
		return;
	json_put_str(&o, "provider", view->provider);
	json_put_str(&o, "model", view->model);
	tell(t, STR("started"), &payload);
}

void teller_started(struct teller *t, const struct event *event)
{
	cleanup_json struct json_object *tree = event_payload(event);

	if (tree)
		note_target(t, event->attempt, json_str(tree, "provider"), json_str(tree, "model"));
	t->ops->event(t->ctx, event);
}
