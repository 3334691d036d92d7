#include "consumers/push/stream.h"

#include <string.h>

#include "consumers/push/latest.h"
#include "consumers/push/outbox.h"
#include "consumers/push/session.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/plant.h"
#include "lib/relay/follow.h"
#include "lib/store/redis.h"
#include "schemas/keys.h"

/* Events that may be held back beside a piece before the answer is paused. */
#define HELD_BYTES 1024
#define QUEUED_US (250 * US_PER_MS)
/* Text that is gathered while the process is busy, before it goes whatever the pace. */
#define ROLL_BYTES 8192
/* How a state that cannot be read (Redis lost its memory) is asked for again. */
#define RETRY_US (1 * US_PER_S)
#define RETRIES_MAX 600
#define FRESH_EXTRA_US (10 * US_PER_S)

struct group {
	struct list link;
	struct session *session;
	struct stream **streams; /* NULL: replaced meanwhile */
	size_t count;
	size_t waiting; /* for a first word; one more while the group is made */
	void (*done)(struct session *s);
};

struct stream {
	struct list link;
	struct session *session;
	struct follow *follow;
	char *job;
	struct group *group; /* until it was released */
	bool fresh;	     /* it is being submitted */
	bool said;	     /* the client knows of it */
	bool named;	     /* hear of it also where it is not known */
	bool resumed;	     /* it goes on from the wanted byte */
	bool answered;	     /* had its first word */
	bool held;
	bool ended;
	bool lost;    /* not known or not readable: it may be followed anew */
	bool probing; /* the text at the wanted byte shows whether it goes on from there */
	bool asked;   /* attached while it is being submitted: from there once that is over */
	struct op_position ask;
	bool reopened;	     /* the follow was opened again: its first word is no answer */
	int64_t attempt, at; /* wanted; then where it stood */
	struct buf frames;   /* held: length and text of each */
	int64_t piece;	     /* bytes of text at a time */
	/* a snapshot being gathered */
	bool gathering;
	int64_t target;
	char status[16];
	struct buf text;
	struct buf parts;
	struct buf seams; /* their frames, a line each: said behind it */
	/* text whose turn has not come (pace.h) */
	struct buf rolled;
	struct timer roll;
	int64_t rolled_attempt, rolled_at;
	uint64_t delta_us; /* when the last one went */
	struct timer queued;
	struct latest waiting; /* in line */
	/* its state cannot be read */
	struct timer retry;
	unsigned retries;
};

/* ── to the socket ── */

/* Its place in line is told when the client listens, and after what it had to hear first. */
static void say_waiting(struct stream *st)
{
	struct session *s = st->session;

	if (latest_waits(&st->waiting) && !st->held && !st->gathering && !s->full)
		timer_set(&st->queued, latest_after_us(&st->waiting, loop_now_us(s->push->loop)));
}

static void flow(struct stream *st)
{
	bool pause =
	    st->session->full || (st->held && (int64_t)st->frames.len > st->piece + HELD_BYTES);

	if (st->follow && !st->ended)
		follow_pause(st->follow, pause);
	if (st->rolled.len && !st->session->full && !timer_is_set(&st->roll))
		timer_set(&st->roll, 0);
	say_waiting(st);
}

static void send(struct stream *st, struct frame *f)
{
	uint32_t len = (uint32_t)f->text.len;

	if (!st->held) {
		session_send(st->session, f);
		return;
	}
	buf_add(&st->frames, &len, sizeof(len));
	buf_add_str(&st->frames, buf_str(&f->text));
	buf_fini(&f->text);
	flow(st);
}

static void delta(struct stream *st, int64_t attempt, int64_t at, struct str text)
{
	struct push *push = st->session->push;
	struct frame f = {0};

	st->delta_us = loop_now_us(push->loop);
	pace_count(&push->pace, st->delta_us);
	frame_delta(&f, str_of(st->job), attempt, at, text);
	send(st, &f);
}

/* Nothing more is gathered: it goes, before whatever comes next. */
static void unroll(struct stream *st)
{
	struct buf text = st->rolled;

	timer_stop(&st->roll);
	if (!text.len)
		return;
	st->rolled = (struct buf){0};
	delta(st, st->rolled_attempt, st->rolled_at, buf_str(&text));
	if (PLANTED(GATHERED_TWICE))
		delta(st, st->rolled_attempt, st->rolled_at, buf_str(&text));
	buf_fini(&text);
}

static void on_roll(struct timer *t)
{
	struct stream *st = container_of(t, struct stream, roll);

	if (!st->session->full) /* else when it has drained */
		unroll(st);
}

/* The first text goes at once, what follows as the process is loaded. */
static void roll(struct stream *st, int64_t attempt, int64_t at, struct str text)
{
	struct push *push = st->session->push;
	uint64_t now = loop_now_us(push->loop), gap = pace_gap_us(&push->pace, now);
	uint64_t past = st->delta_us ? now - st->delta_us : gap;

	if (st->rolled.len &&
	    (attempt != st->rolled_attempt || at != st->rolled_at + (int64_t)st->rolled.len))
		unroll(st);
	if (!st->rolled.len && past >= gap) {
		delta(st, attempt, at, text);
		return;
	}
	if (!st->rolled.len) {
		st->rolled_attempt = attempt;
		st->rolled_at = at;
		timer_set(&st->roll, gap - past);
	}
	buf_add_str(&st->rolled, text);
	if (st->rolled.len >= ROLL_BYTES)
		unroll(st);
}

static void flush(struct stream *st)
{
	struct str rest = buf_str(&st->frames);
	uint32_t len;

	while (rest.len >= sizeof(len)) {
		struct frame f = {0};

		memcpy(&len, rest.ptr, sizeof(len));
		buf_add(&f.text, rest.ptr + sizeof(len), len);
		rest.ptr += sizeof(len) + len;
		rest.len -= sizeof(len) + len;
		session_send(st->session, &f);
	}
	buf_fini(&st->frames);
}

static void group_look(struct group *g);
static bool attach_asked(struct stream *st);

/* Its group, if any, does not wait for it any more. */
static struct group *leave_group(struct stream *st)
{
	struct group *g = st->group;

	if (!g)
		return NULL;
	for (size_t i = 0; i < g->count; i++)
		if (g->streams[i] == st)
			g->streams[i] = NULL;
	if (!st->answered)
		g->waiting--;
	st->group = NULL;
	return g;
}

static void stream_free(struct stream *st)
{
	struct session *s = st->session;
	struct group *g = leave_group(st);

	if (!st->held && !st->lost)
		told_add(&s->told, str_of(st->job));
	follow_close(st->follow);
	timer_stop(&st->queued);
	timer_stop(&st->roll);
	timer_stop(&st->retry);
	if (map_find(&s->streams, str_of(st->job)) == st)
		map_take(&s->streams, str_of(st->job));
	list_remove(&st->link);
	series_add(metric_only(s->push->metric.followed), -1);
	buf_fini(&st->frames);
	buf_fini(&st->rolled);
	buf_fini(&st->text);
	buf_fini(&st->parts);
	buf_fini(&st->seams);
	latest_drop(&st->waiting);
	mem_free(st->job);
	mem_free(st);
	if (g)
		group_look(g);
}

void stream_release(struct stream *st)
{
	if (!st->held || st->group || attach_asked(st))
		return;
	st->held = false;
	st->said = true;
	flush(st);
	if (st->ended)
		stream_free(st);
	else
		flow(st);
}

void stream_drop(struct stream *st, bool unsaid)
{
	if ((!unsaid || (st->fresh && st->held)) && !(unsaid && attach_asked(st)))
		stream_free(st);
}

struct stream *stream_find(const struct session *s, struct str job)
{
	return map_find(&s->streams, job);
}

/* ── groups ── */

static void group_free(struct group *g)
{
	list_remove(&g->link);
	mem_free(g->streams);
	mem_free(g);
}

static void say_resumed(struct group *g)
{
	struct frame f = {0};
	struct json_out *o;
	bool any = false;

	for (size_t i = 0; i < g->count; i++)
		any = any || (g->streams[i] && g->streams[i]->resumed);
	if (!any)
		return;
	o = frame_begin(&f, FRAME_RESUMED);
	json_key(o, "jobs");
	json_open(o, '[');
	for (size_t i = 0; i < g->count; i++) {
		struct stream *st = g->streams[i];

		if (!st || !st->resumed)
			continue;
		json_open(o, '{');
		json_put_text(o, "job", st->job);
		json_put_int(o, "attempt", st->attempt);
		json_put_int(o, "at", st->at);
		json_close(o, '}');
	}
	json_close(o, ']');
	frame_end(&f);
	session_send(g->session, &f);
}

static void group_look(struct group *g)
{
	struct session *s = g->session;
	void (*done)(struct session * s) = g->done;

	if (g->waiting)
		return;
	say_resumed(g);
	for (size_t i = 0; i < g->count; i++) {
		struct stream *st = g->streams[i];

		if (!st)
			continue;
		g->streams[i] = NULL;
		st->group = NULL;
		stream_release(st);
	}
	group_free(g);
	if (done && sm_state(&s->sm) == SESSION_OPEN)
		done(s);
}

/* Its first word was written. */
static void answered(struct stream *st)
{
	if (st->answered)
		return;
	st->answered = true;
	st->said = st->said || !st->held;
	if (!st->group)
		return;
	st->group->waiting--;
	group_look(st->group);
}

/* ── snapshots ── */

/* Those within the text of a snapshot follow it: each names its byte. */
static void say_seams(struct stream *st)
{
	struct str rest = buf_str(&st->seams), line;

	while (rest.len && str_split(&rest, '\n', &line)) {
		struct frame f = {0};

		buf_add_str(&f.text, line);
		send(st, &f);
	}
	buf_fini(&st->seams);
}

static void snapshot(struct stream *st, int64_t attempt)
{
	struct frame f = {0};
	struct json_out *o = frame_begin(&f, FRAME_SNAPSHOT);
	struct buf parts = {0};

	st->gathering = false;
	if (st->parts.len)
		buf_printf(&parts, "[%.*s]", STR_FMT(buf_str(&st->parts)));
	else
		buf_add_text(&parts, "[{\"at\":0,\"type\":\"text\"}]");
	json_put_text(o, "job", st->job);
	json_put_int(o, "attempt", attempt);
	json_put_str(o, "text", buf_str(&st->text));
	json_put_raw(o, "parts", buf_str(&parts));
	json_put_text(o, "status", st->status);
	frame_end(&f);
	buf_fini(&parts);
	buf_fini(&st->text);
	buf_fini(&st->parts);
	series_add(metric_only(st->session->push->metric.resets), 1);
	send(st, &f);
	say_seams(st);
	say_waiting(st);
}

static void keep_status(struct stream *st, struct str status)
{
	if (str_is(status, "finishing"))
		status = STR("running");
	if (status.len >= sizeof(st->status))
		status.len = sizeof(st->status) - 1;
	memcpy(st->status, status.ptr, status.len);
	st->status[status.len] = '\0';
}

/* ── what the follow says ── */

static void say_started(struct stream *st, const struct job_view *view)
{
	struct frame f = {0};

	frame_started(&f, str_of(st->job), view);
	send(st, &f);
}

static void say_reset(struct stream *st, int64_t attempt)
{
	struct frame f = {0};

	frame_reset(&f, str_of(st->job), attempt, "restart");
	send(st, &f);
}

/* It does not wait any more. */
static void go_on(struct stream *st)
{
	timer_stop(&st->queued);
	latest_drop(&st->waiting);
}

/* Where the state says that it waits. Of one that was just submitted only the pool knows. */
static void note_waiting(struct stream *st, const struct job_view *view)
{
	struct frame f = {0};

	if (state_terminal(view->state) || str_is(view->state, "finishing"))
		return;
	if (!view->why.len && (view->provider.len || st->fresh || st->reopened))
		return;
	frame_queued(&f, str_of(st->job), view);
	latest_put(&st->waiting, &f.text);
	say_waiting(st);
}

/* Text came: it does go on from the wanted byte. */
static void prove(struct stream *st)
{
	if (!st->probing)
		return;
	st->probing = false;
	st->resumed = true;
	answered(st);
}

static void on_state(void *ctx, const struct job_view *view, bool resumed)
{
	struct stream *st = ctx;

	if (PLANTED(RESUME_CLAIMED) && st->named && st->attempt > 0)
		resumed = true;
	st->retries = 0;
	/* Less than a piece by what a cut between code points may take. */
	st->target = view->bytes < st->piece ? view->bytes : st->piece - 3;
	keep_status(st, view->state);
	note_waiting(st, view);
	if (st->reopened) {
		if (!resumed && st->at > 0)
			say_reset(st, view->attempt);
		st->attempt = view->attempt;
		st->at = resumed ? st->at : 0;
	} else if (st->fresh) {
		if (view->provider.len && !state_terminal(view->state))
			say_started(st, view);
	} else if (resumed) {
		st->probing = st->at > 0 && st->at < view->bytes;
		st->resumed = !st->probing;
	} else {
		st->gathering = true;
		if (!st->target)
			snapshot(st, view->attempt);
	}
	if (!st->gathering && !st->probing)
		answered(st);
}

static void on_delta(void *ctx, int64_t attempt, int64_t at, struct str text)
{
	struct stream *st = ctx;

	prove(st);
	if (!st->gathering) {
		roll(st, attempt, at, text);
		return;
	}
	buf_add_str(&st->text, text);
	if ((int64_t)st->text.len < st->target)
		return;
	snapshot(st, attempt);
	answered(st);
}

static void on_queued(struct timer *t)
{
	struct stream *st = container_of(t, struct stream, queued);
	struct session *s = st->session;
	struct frame f = {0};

	if (!st->held && !st->gathering && !s->full &&
	    latest_take(&st->waiting, loop_now_us(s->push->loop), &f.text))
		send(st, &f);
}

static void on_event(void *ctx, const struct event *event)
{
	struct stream *st = ctx;
	bool part = str_is(event->ev, "part"), seam = str_is(event->ev, "seam");
	struct frame f = {0};

	if (str_is(event->ev, "queued")) {
		frame_live(&f, event);
		latest_put(&st->waiting, &f.text);
		say_waiting(st);
		return;
	}
	if (str_is(event->ev, "started"))
		go_on(st);
	if (part || seam)
		prove(st);
	if (st->gathering && seam) {
		frame_live(&f, event);
		buf_printf(&st->seams, "%.*s\n", STR_FMT(buf_str(&f.text)));
		buf_fini(&f.text);
	} else if (st->gathering && part) {
		buf_printf(&st->parts, "%s{%.*s}", st->parts.len ? "," : "",
			   STR_FMT(event->payload));
	}
	if (st->gathering)
		return;
	unroll(st);
	frame_live(&f, event);
	send(st, &f);
}

static void on_reset(void *ctx, int64_t attempt)
{
	struct stream *st = ctx;

	unroll(st);
	if (st->probing) {
		/* Not from there, then: as where the client named no byte. */
		st->probing = false;
		st->gathering = true;
		if (attempt == st->attempt)
			return;
	}
	if (!st->gathering) {
		if (!PLANTED(RESET_UNTOLD))
			say_reset(st, attempt);
		return;
	}
	buf_fini(&st->text);
	buf_fini(&st->parts);
	buf_fini(&st->seams);
	snapshot(st, attempt);
	answered(st);
}

/* Nothing more comes of it. */
static void over(struct stream *st)
{
	st->ended = true;
	follow_close(st->follow);
	st->follow = NULL;
	if (!st->answered && st->group)
		answered(st); /* releases the group, and frees the stream with it */
	else if (!st->held)
		stream_free(st);
}

static void on_end(void *ctx, const struct follow_end *last)
{
	struct stream *st = ctx;
	struct frame f = {0};

	/* Its text is not there to be looked at: that it goes on from the wanted byte cannot be said. */
	st->gathering = st->gathering || st->probing;
	st->probing = false;
	unroll(st);
	go_on(st);
	if (st->gathering) {
		keep_status(st, last->status);
		snapshot(st, last->attempt);
	}
	frame_last(&f, str_of(st->job), last, follow_at(st->follow));
	send(st, &f);
	if (PLANTED(ACKED_AT_END))
		outbox_ack(st->session, str_of(st->job), true);
	over(st);
}

static void say_gone(struct stream *st, bool unsure)
{
	struct frame f = {0};

	if (unsure) {
		const struct frame_refusal refusal = {.fault = FAULT_STATE_UNKNOWN,
						      .job = str_of(st->job)};

		frame_fault(&f, &refusal);
	} else {
		frame_gone(&f, str_of(st->job), "unknown");
	}
	send(st, &f);
}

static void on_gone(void *ctx, bool unsure)
{
	struct stream *st = ctx;

	unroll(st);
	if (unsure && (st->said || st->fresh) && st->retries < RETRIES_MAX) {
		/* An answer that was begun is waited for: Redis is away, or its job is not written anew yet. */
		st->retries++;
		timer_set(&st->retry, RETRY_US);
		return;
	}
	if (st->named || st->said || unsure)
		say_gone(st, unsure);
	else
		outbox_forget(st->session, str_of(st->job));
	go_on(st);
	st->lost = true;
	st->gathering = st->probing = false;
	over(st);
}

static const struct follow_ops ops = {.state = on_state,
				      .delta = on_delta,
				      .event = on_event,
				      .reset = on_reset,
				      .end = on_end,
				      .gone = on_gone};

static void open_follow(struct stream *st, struct str channel, bool twice)
{
	struct push *push = st->session->push;
	struct follow_request request = {
	    .job = str_of(st->job),
	    .org = str_of(st->session->who.org),
	    .session = str_of(st->session->bound),
	    .channel = channel,
	    .attempt = st->attempt,
	    .at = st->at + (PLANTED(RESUME_BYTE_OFF) && st->named && st->at > 0),
	    .piece_bytes = (size_t)st->piece,
	    .fresh = st->fresh && !st->reopened,
	    .fresh_us = push->options->produce_ms * US_PER_MS + FRESH_EXTRA_US,
	    .submitted_before = twice};

	st->follow = follow_open(push->relay, &request, &ops, st);
	flow(st);
}

static void reopen(struct stream *st)
{
	unroll(st);
	/* Before its first word is out, it begins as it was wanted. A follow that told nothing leaves the position as it was. */
	st->reopened = st->reopened || st->answered || st->fresh;
	if (st->reopened && follow_attempt(st->follow) > 0) {
		st->attempt = follow_attempt(st->follow);
		st->at = follow_at(st->follow);
	}
	st->gathering = st->probing = false;
	buf_fini(&st->text);
	buf_fini(&st->parts);
	buf_fini(&st->seams);
	follow_close(st->follow);
	open_follow(st, STR(""), false);
}

static void on_retry(struct timer *t)
{
	reopen(container_of(t, struct stream, retry));
}

/* ── life ── */

static struct stream *stream_new(struct session *s, struct str job)
{
	struct stream *st = mem_new(struct stream);

	st->session = s;
	st->job = mem_dup(job.ptr, job.len);
	st->waiting.gap_us = QUEUED_US;
	timer_init(&st->queued, s->push->loop, on_queued);
	timer_init(&st->roll, s->push->loop, on_roll);
	timer_init(&st->retry, s->push->loop, on_retry);
	list_push_back(&s->all_streams, &st->link);
	map_set(&s->streams, str_of(st->job), st);
	series_add(metric_only(s->push->metric.followed), 1);
	return st;
}

static bool room(const struct session *s)
{
	return s->streams.count < (size_t)s->push->options->max_jobs;
}

struct stream *stream_submit(struct session *s, struct str job, struct str channel, bool twice)
{
	struct stream *st = stream_find(s, job);

	if (st || !room(s))
		return st;
	st = stream_new(s, job);
	st->fresh = true;
	st->piece = session_piece_bytes(s, 0);
	st->held = !PLANTED(BEFORE_ACCEPTED);
	open_follow(st, channel, twice);
	return st;
}

void stream_meet(struct session *s, struct str job, struct str channel)
{
	struct stream *st;

	if (!room(s))
		return;
	st = stream_new(s, job);
	st->named = false;
	st->piece = session_piece_bytes(s, 0);
	open_follow(st, channel, false);
}

static void attach_one(struct group *g, const struct op_position *p, bool named, size_t also)
{
	struct session *s = g->session;
	struct stream *st = stream_find(s, p->id);

	if (st && st->fresh && st->held) {
		st->asked = named; /* its `accepted` is still to come */
		st->ask = *p;
		return;
	}
	if (st) {
		st->lost = true;
		stream_free(st);
	}
	if (!room(s)) {
		session_refuse(s, &(struct frame_refusal){
				      .fault = FAULT_RATE_LIMITED,
				      .job = p->id,
				      .message = "This connection follows too many jobs."});
		return;
	}
	st = stream_new(s, p->id);
	st->named = named;
	st->held = true;
	st->group = g;
	st->piece = session_piece_bytes(s, also);
	st->attempt = p->attempt;
	st->at = p->at;
	g->streams[g->count++] = st;
	g->waiting++;
	open_follow(st, STR(""), false);
}

void stream_attach(struct session *s, const struct op_position *jobs, size_t count, bool said,
		   void (*done)(struct session *s))
{
	struct group *g = mem_new(struct group);

	g->session = s;
	g->streams = mem_alloc((count + 1) * sizeof(struct stream *));
	g->done = done;
	g->waiting = 1;
	list_push_back(&s->groups, &g->link);
	for (size_t i = 0; i < count; i++)
		attach_one(g, &jobs[i], said, count - i);
	g->waiting--;
	group_look(g);
}

/* Takes the place of @st, whose submit is over. */
static bool attach_asked(struct stream *st)
{
	struct op_position p = st->ask;
	char *job;

	if (!st->asked)
		return false;
	job = mem_strdup(st->job);
	p.id = str_of(job);
	st->asked = st->fresh = false;
	stream_attach(st->session, &p, 1, true, NULL);
	mem_free(job);
	return true;
}

void streams_flow(struct session *s)
{
	struct stream *first = list_first(&s->all_streams, struct stream, link);

	/* Each is the last one in its turn: what comes first is read first. */
	if (first && !s->full) {
		list_remove(&first->link);
		list_push_back(&s->all_streams, &first->link);
	}
	list_each (&s->all_streams, link)
		flow(container_of(link, struct stream, link));
}

void streams_quiet(struct session *s)
{
	struct stream *st;
	struct group *g;

	while ((g = list_first(&s->groups, struct group, link))) {
		for (size_t i = 0; i < g->count; i++)
			if (g->streams[i])
				g->streams[i]->group = NULL;
		group_free(g);
	}
	while ((st = list_first(&s->all_streams, struct stream, link)))
		stream_free(st);
}
