/* GET /v1/jobs/{id}/events: a job's events as Server-Sent Events, with resume. */
#include <inttypes.h>
#include <stdio.h>

#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/relay/follow.h"
#include "producer/front.h"
#include "producer/sse_out.h"
#include "lib/relay/view.h"
#include "schemas/keys.h"

/* A state that cannot be read is asked for again: so soon, and after so many times more rarely. */
#define RETRY_US (1 * US_PER_S)
#define RETRIES_SOON 60
#define RETRY_RARELY_US (10 * US_PER_S)

struct watch_job {
	struct exchange *x;
	struct follow *follow;
	struct timer comment;
	struct timer retry;
	unsigned retries;
	int64_t attempt, at; /* wanted */
	bool named;	     /* the client named a position */
	bool begun;
	bool full; /* the client reads slowly */
};

static void watch_drop(void *work, bool left)
{
	struct watch_job *w = work;

	(void)left;
	follow_close(w->follow);
	timer_stop(&w->comment);
	timer_stop(&w->retry);
	mem_free(w);
}

static void on_comment(struct timer *t)
{
	struct watch_job *w = container_of(t, struct watch_job, comment);

	exchange_write(w->x, STR(": keep-alive\n\n"));
	timer_set(&w->comment, w->x->front->options->keep_alive_ms * US_PER_MS);
}

/* Sends an event and takes the buffer's memory back. */
static void send_event(struct watch_job *w, struct buf *out)
{
	timer_set(&w->comment, w->x->front->options->keep_alive_ms * US_PER_MS);
	if (!exchange_write(w->x, buf_str(out))) {
		w->full = true;
		follow_pause(w->follow, true);
	}
	buf_fini(out);
}

static void put_id(struct buf *out, int64_t attempt, int64_t at)
{
	buf_printf(out, "id: %" PRId64 ":%" PRId64 "\n", attempt, at);
}

static void on_state(void *ctx, const struct job_view *view, bool resumed)
{
	struct watch_job *w = ctx;
	struct buf out = {0};

	w->retries = 0;
	if (!w->begun) {
		w->begun = true;
		exchange_stream(w->x);
		timer_set(&w->comment, w->x->front->options->keep_alive_ms * US_PER_MS);
	}
	if (resumed)
		return;
	put_id(&out, view->attempt, 0);
	if (w->named)
		sse_reset(&out, w->x->param, view->attempt, "position");
	else
		sse_state(&out, w->x->param, view);
	send_event(w, &out);
}

static void on_delta(void *ctx, int64_t attempt, int64_t at, struct str text)
{
	struct watch_job *w = ctx;
	struct buf out = {0};

	put_id(&out, attempt, at + (int64_t)text.len);
	sse_delta(&out, w->x->param, attempt, at, text);
	send_event(w, &out);
}

static void on_event(void *ctx, const struct event *event)
{
	struct watch_job *w = ctx;
	struct buf out = {0};

	put_id(&out, follow_attempt(w->follow), follow_at(w->follow));
	sse_event(&out, event);
	send_event(w, &out);
}

static void on_reset(void *ctx, int64_t attempt)
{
	struct watch_job *w = ctx;
	struct buf out = {0};

	put_id(&out, attempt, 0);
	sse_reset(&out, w->x->param, attempt, "restart");
	send_event(w, &out);
}

static void on_end(void *ctx, const struct follow_end *end)
{
	struct watch_job *w = ctx;
	struct buf out = {0};

	put_id(&out, end->attempt, follow_at(w->follow));
	sse_end(&out, w->x->param, end);
	send_event(w, &out);
	timer_stop(&w->comment);
	exchange_end(w->x);
}

static void on_gone(void *ctx, bool unsure)
{
	struct watch_job *w = ctx;

	if (w->begun && unsure) {
		/* Redis is away or was emptied: the pool that has the job writes it anew, or its record says how it ended. */
		timer_set(&w->retry, w->retries++ < RETRIES_SOON ? RETRY_US : RETRY_RARELY_US);
		return;
	}
	timer_stop(&w->comment);
	if (w->begun)
		exchange_end(w->x); /* the client comes again, and is told that there is none */
	else if (unsure)
		exchange_fault(w->x, FAULT_STATE_UNKNOWN, NULL);
	else
		exchange_fault(w->x, FAULT_NOT_FOUND, "There is no such job.");
}

static const struct follow_ops watch_ops = {.state = on_state,
					    .delta = on_delta,
					    .event = on_event,
					    .reset = on_reset,
					    .end = on_end,
					    .gone = on_gone};

static void open_follow(struct watch_job *w)
{
	struct follow_request request = {
	    .job = w->x->param, .org = str_of(w->x->who.org), .attempt = w->attempt, .at = w->at};

	/* "0:0" is what a client has seen before the first attempt: nothing to take back. */
	w->named = w->attempt || w->at;
	w->follow = follow_open(w->x->front->relay, &request, &watch_ops, w);
	follow_pause(w->follow, w->full);
}

static void on_retry(struct timer *t)
{
	struct watch_job *w = container_of(t, struct watch_job, retry);

	/* A follow that told nothing leaves the position as it was. */
	if (follow_attempt(w->follow) > 0) {
		w->attempt = follow_attempt(w->follow);
		w->at = follow_at(w->follow);
	}
	follow_close(w->follow);
	open_follow(w);
}

static void watch_writable(void *work)
{
	struct watch_job *w = work;

	w->full = false;
	follow_pause(w->follow, false);
}

static void watch_drain(void *work)
{
	struct watch_job *w = work;

	/* The stream goes on elsewhere from where it stands. */
	follow_close(w->follow);
	w->follow = NULL;
	timer_stop(&w->comment);
	timer_stop(&w->retry);
	if (w->begun)
		exchange_end(w->x);
	else
		exchange_fault(w->x, FAULT_DRAINING, NULL);
}

void jobs_events(struct exchange *x)
{
	struct str named = http_field(x->req, "last-event-id");
	struct watch_job *w;
	int64_t attempt = 0, at = 0;

	if (!exchange_query(x, (const char *const[]){"after", NULL}))
		return;
	/* An EventSource comes again to the same URL: where it stood then is in the query, where it stands now in the field.
	 * An empty field is none, as the standard has it. */
	if (!named.len)
		named = http_query_value(x->req, "after");
	if (named.ptr && !sse_position(named, &attempt, &at)) {
		exchange_fault(x, FAULT_RESUME_INVALID, NULL);
		return;
	}
	w = mem_new(struct watch_job);
	w->x = x;
	w->attempt = attempt;
	w->at = at;
	x->work = w;
	x->drop = watch_drop;
	x->writable = watch_writable;
	x->drain = watch_drain;
	timer_init(&w->comment, x->front->loop, on_comment);
	timer_init(&w->retry, x->front->loop, on_retry);
	open_follow(w);
}
