#include "consumers/push/frame.h"

#include <stddef.h>

#include "lib/relay/follow.h"
#include "lib/relay/view.h"
#include "schemas/keys.h"

#define RETRY_MS 1000

static const char *const names[] = {
#define EVENT(name, ev, fields, meaning) [FRAME_##name] = ev,
#include "schemas/event.def"
#undef EVENT
};

struct json_out *frame_begin(struct frame *f, enum frame_event event)
{
	f->out = (struct json_out){.buf = &f->text};
	json_open(&f->out, '{');
	json_put_text(&f->out, "ev", names[event]);
	return &f->out;
}

void frame_end(struct frame *f)
{
	json_close(&f->out, '}');
}

/* The hot path. */
void frame_delta(struct frame *f, struct str job, int64_t attempt, int64_t at, struct str text)
{
	struct buf *out = &f->text;

	buf_add_str(out, STR("{\"ev\":\"delta\",\"job\":\""));
	buf_add_str(out, job);
	buf_add_str(out, STR("\",\"attempt\":"));
	buf_add_i64(out, attempt);
	buf_add_str(out, STR(",\"at\":"));
	buf_add_i64(out, at);
	buf_add_str(out, STR(",\"text\":\""));
	json_escape(out, text);
	buf_add_str(out, STR("\"}"));
}

void frame_live(struct frame *f, const struct event *event)
{
	struct buf *out = &f->text;

	buf_add_str(out, STR("{\"ev\":\""));
	json_escape(out, event->ev);
	buf_add_str(out, STR("\",\"job\":\""));
	json_escape(out, event->job);
	buf_add_str(out, STR("\",\"attempt\":"));
	buf_add_i64(out, event->attempt);
	if (event->payload.len) {
		buf_add_char(out, ',');
		buf_add_str(out, event->payload);
	}
	buf_add_char(out, '}');
}

void frame_started(struct frame *f, struct str job, const struct job_view *view)
{
	struct json_out *o = frame_begin(f, FRAME_STARTED);

	json_put_str(o, "job", job);
	json_put_int(o, "attempt", view->attempt);
	json_put_str(o, "provider", view->provider);
	json_put_str(o, "model", view->model);
	frame_end(f);
}

void frame_reset(struct frame *f, struct str job, int64_t attempt, const char *why)
{
	struct json_out *o = frame_begin(f, FRAME_RESET);

	json_put_str(o, "job", job);
	json_put_int(o, "attempt", attempt);
	json_put_text(o, "why", why);
	frame_end(f);
}

void frame_gone(struct frame *f, struct str job, const char *why)
{
	struct json_out *o = frame_begin(f, FRAME_GONE);

	if (job.len)
		json_put_str(o, "job", job);
	json_put_text(o, "why", why);
	frame_end(f);
}

static void result(struct frame *f, struct str job, const struct follow_end *end, int64_t had)
{
	const struct result *r = end->result;
	struct json_out *o = frame_begin(f, FRAME_RESULT);

	json_put_str(o, "job", job);
	json_put_int(o, "attempt", end->attempt);
	json_put_int(o, "bytes", r->bytes);
	json_put_raw(o, "parts", r->parts.len ? r->parts : STR("[{\"at\":0,\"type\":\"text\"}]"));
	if (r->finish_reason.len)
		json_put_str(o, "finish_reason", r->finish_reason);
	else
		json_put_null(o, "finish_reason");
	put_usage(o, r);
	if (had != r->bytes && (int64_t)r->text.len == r->bytes)
		json_put_str(o, "text", r->text);
	frame_end(f);
}

/* A message that repeats what a client sent may have been cut within a code point. */
static struct str whole(struct str text)
{
	while (text.len && !str_utf8(text))
		text.len--;
	return text;
}

static void put_fault(struct json_out *o, enum fault fault, struct str name, struct str message)
{
	const struct fault_info *info = fault_info(fault);

	json_put_str(o, "name", name);
	json_put_str(o, "message", message.len ? message : str_of(info->text));
	json_put_bool(o, "retryable", fault_retryable(fault));
}

static void job_fault(struct frame *f, struct str job, const struct follow_end *end)
{
	const struct result *r = end->result;
	struct json_out *o = frame_begin(f, FRAME_FAULT);
	struct str name = r->fault;

	if (!name.len && (str_is(end->status, "expired") || str_is(end->status, "cancelled")))
		name = end->status;
	if (!name.len)
		name = STR("internal");
	json_put_str(o, "job", job);
	json_put_str(o, "status", end->status);
	json_put_int(o, "attempt", end->attempt);
	put_fault(o, fault_find(name), name, r->fault_message);
	json_put_null(o, "retry_after_ms");
	frame_end(f);
}

void frame_last(struct frame *f, struct str job, const struct follow_end *end, int64_t had_bytes)
{
	if (str_is(end->status, "succeeded"))
		result(f, job, end, had_bytes);
	else
		job_fault(f, job, end);
}

void frame_fault(struct frame *f, const struct frame_refusal *refusal)
{
	const struct fault_info *info = fault_info(refusal->fault);
	struct json_out *o = frame_begin(f, FRAME_FAULT);

	if (refusal->ref.len)
		json_put_str(o, "ref", refusal->ref);
	if (refusal->job.len)
		json_put_str(o, "job", refusal->job);
	json_put_null(o, "status");
	put_fault(o, refusal->fault, str_of(info->code), whole(str_of(refusal->message)));
	if (refusal->param && refusal->param[0])
		json_put_str(o, "param", whole(str_of(refusal->param)));
	if (info->status == 429 || info->status == 503)
		json_put_int(o, "retry_after_ms", RETRY_MS);
	else
		json_put_null(o, "retry_after_ms");
	frame_end(f);
}

void frame_queued(struct frame *f, struct str job, const struct job_view *view)
{
	struct json_out *o = frame_begin(f, FRAME_QUEUED);

	json_put_str(o, "job", job);
	json_put_str(o, "lane", view->lane);
	if (view->position > 0)
		json_put_int(o, "position", view->position);
	else
		json_put_null(o, "position");
	if (view_estimates(view))
		json_put_int(o, "estimate_ms", view->estimate_ms);
	else
		json_put_null(o, "estimate_ms");
	if (view->why.len)
		json_put_str(o, "why", view->why);
	else
		json_put_null(o, "why");
	frame_end(f);
}
