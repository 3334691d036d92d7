#include "producer/sse_out.h"

#include "lib/base/json.h"
#include "lib/relay/view.h"
#include "schemas/fault.h"
#include "schemas/keys.h"

static struct json_out begin(struct buf *out, const char *ev, struct str job)
{
	struct json_out o = {.buf = out};

	buf_add_text(out, "event: ");
	buf_add_text(out, ev);
	buf_add_text(out, "\ndata: ");
	json_open(&o, '{');
	json_put_text(&o, "ev", ev);
	json_put_str(&o, "job", job);
	return o;
}

static void finish(struct json_out *o)
{
	json_close(o, '}');
	buf_add_text(o->buf, "\n\n");
}

void sse_state(struct buf *out, struct str job, const struct job_view *view)
{
	struct json_out o;

	if (view->provider.len) {
		o = begin(out, "started", job);
		json_put_int(&o, "attempt", view->attempt);
		json_put_str(&o, "provider", view->provider);
		json_put_str(&o, "model", view->model);
	} else {
		o = begin(out, "queued", job);
		json_put_str(&o, "lane", view->lane);
		if (view->position > 0)
			json_put_int(&o, "position", view->position);
		else
			json_put_null(&o, "position");
		if (view_estimates(view))
			json_put_int(&o, "estimate_ms", view->estimate_ms);
		else
			json_put_null(&o, "estimate_ms");
		if (view->why.len)
			json_put_str(&o, "why", view->why);
		else
			json_put_null(&o, "why");
	}
	finish(&o);
}

void sse_delta(struct buf *out, struct str job, int64_t attempt, int64_t at, struct str text)
{
	buf_add_text(out, "event: delta\ndata: {\"ev\":\"delta\",\"job\":\"");
	buf_add_str(out, job);
	buf_add_text(out, "\",\"attempt\":");
	buf_add_i64(out, attempt);
	buf_add_text(out, ",\"at\":");
	buf_add_i64(out, at);
	buf_add_text(out, ",\"text\":\"");
	json_escape(out, text);
	buf_add_text(out, "\"}\n\n");
}

void sse_event(struct buf *out, const struct event *event)
{
	buf_add_text(out, "event: ");
	buf_add_str(out, event->ev);
	buf_add_text(out, "\ndata: {\"ev\":\"");
	buf_add_str(out, event->ev);
	buf_add_text(out, "\",\"job\":\"");
	buf_add_str(out, event->job);
	buf_add_text(out, "\",\"attempt\":");
	buf_add_i64(out, event->attempt);
	if (event->payload.len) {
		buf_add_char(out, ',');
		buf_add_str(out, event->payload);
	}
	buf_add_text(out, "}\n\n");
}

void sse_reset(struct buf *out, struct str job, int64_t attempt, const char *why)
{
	struct json_out o = begin(out, "reset", job);

	json_put_int(&o, "attempt", attempt);
	json_put_text(&o, "why", why);
	finish(&o);
}

void sse_gone(struct buf *out, struct str job, const char *why)
{
	struct json_out o = begin(out, "gone", job);

	json_put_text(&o, "why", why);
	finish(&o);
}

void sse_unsure(struct buf *out, struct str job)
{
	const struct fault_info *info = fault_info(FAULT_STATE_UNKNOWN);
	struct json_out o = begin(out, "fault", job);

	json_put_null(&o, "status");
	json_put_text(&o, "name", info->code);
	json_put_text(&o, "message", info->text);
	json_put_bool(&o, "retryable", true);
	json_put_null(&o, "retry_after_ms");
	finish(&o);
}

void sse_end(struct buf *out, struct str job, const struct follow_end *end)
{
	buf_add_text(out, "event: ");
	buf_add_text(out, event_end_name(end->status));
	buf_add_text(out, "\ndata: ");
	event_end_write(out, job, end->status, end->attempt, end->result);
	buf_add_text(out, "\n\n");
}

/* Digits and nothing else. */
static bool read_number(struct str text, int64_t *ret_value)
{
	uint64_t value;

	for (size_t i = 0; i < text.len; i++) {
		if (text.ptr[i] < '0' || text.ptr[i] > '9')
			return false;
	}
	*ret_value = str_u64(text, &value) && value <= INT64_MAX ? (int64_t)value : INT64_MAX;
	return text.len > 0;
}

bool sse_position(struct str text, int64_t *ret_attempt, int64_t *ret_at)
{
	struct str attempt;

	return str_split(&text, ':', &attempt) && read_number(attempt, ret_attempt) &&
	       read_number(text, ret_at);
}
