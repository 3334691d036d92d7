#include "consumers/pool/dead.h"

#include "consumers/pool/retry.h"
#include "consumers/pool/work.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/svc/config.h"
#include "schemas/lanes.h"

bool dead_is(const struct result *result, int64_t max_tries)
{
	enum fault fault = fault_find(result->fault);

	if (!str_is(result->status, "failed"))
		return false;
	if (fault == FAULT_TRIES_EXHAUSTED || fault == FAULT_INTERNAL)
		return true;
	return result->tries >= max_tries && fault_info(fault)->retry != FAULT_NEVER;
}

/* The record as JSON; nothing where it is none. */
static void put_record(struct json_out *o, const struct work *w)
{
	struct buf body = {0};
	cleanup_json struct json_object *tree = NULL;
	struct json_error error;

	retry_body(w, &body);
	if (body.len && json_read(buf_str(&body), &tree, &error) == JSON_OK)
		json_put_raw(o, "record", buf_str(&body));
	else
		json_put_null(o, "record");
	buf_fini(&body);
}

void dead_write(struct work *w, const struct result *r,
		void (*written)(void *ctx, enum lane_written result, int32_t partition,
				int64_t offset))
{
	cleanup_free char *topic = topic_full(w->pool->config->kafka.topic_prefix, TOPIC_DEAD);
	struct buf body = {0};
	struct json_out o = {.buf = &body};
	struct lane_write write = {.topic = topic, .partition = -1, .key = w->head.job};

	json_open(&o, '{');
	json_put_int(&o, "v", 1);
	json_put_str(&o, "job", r->id);
	json_put_str(&o, "org", r->org);
	json_put_str(&o, "kind", r->kind);
	json_put_str(&o, "lane", r->lane);
	json_put_str(&o, "session", r->session);
	json_put_str(&o, "class", w->head.class);
	json_put_int(&o, "estimate", w->head.estimate);
	json_put_str(&o, "fault", r->fault);
	json_put_str(&o, "fault_message", r->fault_message);
	json_put_int(&o, "attempt", r->attempt);
	json_put_int(&o, "tries", r->tries);
	json_put_int(&o, "copy", w->head.copy);
	json_put_int(&o, "created_ms", r->created_ms);
	json_put_int(&o, "finished_ms", r->finished_ms);
	json_put_str(&o, "topic", r->topic);
	json_put_int(&o, "partition", r->partition);
	json_put_int(&o, "offset", r->offset);
	json_put_raw(&o, "calls", r->calls.len ? r->calls : STR("[]"));
	put_record(&o, w);
	json_close(&o, '}');
	write.body = buf_str(&body);
	lane_write(w->writer, &write, written, w);
	buf_fini(&body);
}
