#include "consumers/pool/scribe.h"

#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/metric.h"
#include "lib/relay/pace.h"
#include "lib/relay/state.h"
#include "schemas/keys.h"

#define WRITES_MAX 8
#define AGAIN_US (300 * US_PER_MS)

/* One append under way. */
struct write {
	struct list link;
	struct scribe *scribe;
	struct redis_request *request;
};

static void pump(struct scribe *s);

static void write_free(struct write *w)
{
	list_remove(&w->link);
	w->scribe->write_count--;
	mem_free(w);
}

static void forget_writes(struct scribe *s)
{
	list_each (&s->writes, at) {
		struct write *w = container_of(at, struct write, link);

		redis_cancel(w->request);
		write_free(w);
	}
}

static void on_timer(struct timer *t)
{
	pump(container_of(t, struct scribe, timer));
}

static void on_soon(struct task *t)
{
	pump(container_of(t, struct scribe, soon));
}

static void on_told(struct task *t)
{
	struct scribe *s = container_of(t, struct scribe, told);

	s->ops->flushed(s->ctx);
}

void scribe_init(struct scribe *s, struct loop *loop, struct redis *redis,
		 const struct scribe_ops *ops, void *ctx)
{
	s->loop = loop;
	s->redis = redis;
	s->ops = ops;
	s->ctx = ctx;
	list_init(&s->writes);
	timer_init(&s->timer, loop, on_timer);
	task_init(&s->soon, loop, on_soon);
	task_init(&s->told, loop, on_told);
}

void scribe_fini(struct scribe *s)
{
	if (!s->loop)
		return;
	forget_writes(s);
	timer_stop(&s->timer);
	task_cancel(&s->soon);
	task_cancel(&s->told);
	buf_fini(&s->text);
	arena_reset(&s->arena);
	mem_free(s->parts);
}

void scribe_begin(struct scribe *s, int64_t attempt)
{
	forget_writes(s);
	timer_stop(&s->timer);
	task_cancel(&s->soon);
	task_cancel(&s->told);
	buf_reset(&s->text);
	arena_reset(&s->arena);
	s->attempt = attempt;
	s->sent = 0;
	s->first_wall_ms = 0;
	s->first_said = false;
	s->parts_dirty = false;
	s->rewrite = false;
	s->flushing = false;
	s->held = false;
	s->part_count = 0;
	s->part_bytes = 0;
	s->last_us = 0;
}

void scribe_hold(struct scribe *s)
{
	forget_writes(s);
	timer_stop(&s->timer);
	task_cancel(&s->soon);
	task_cancel(&s->told);
	s->flushing = false;
	s->held = true;
}

void scribe_adopt(struct scribe *s, int64_t attempt)
{
	forget_writes(s);
	s->held = false;
	s->attempt = attempt;
	s->first_said = false;
	s->parts_dirty = s->part_count > 0;
	s->rewrite = s->text.len > 0;
	pump(s);
}

/* Room for @count of them. */
static void parts_room(struct scribe *s, size_t count)
{
	while (s->part_room < count) {
		s->part_room = s->part_room ? 2 * s->part_room : 4;
		s->parts = mem_resize(s->parts, s->part_room * sizeof(s->parts[0]));
	}
}

static struct str kept(struct scribe *s, struct str text)
{
	return (struct str){arena_dup(&s->arena, text.ptr, text.len), text.len};
}

void scribe_recall(struct scribe *s, struct str text, struct str parts, uint64_t first_wall_ms)
{
	cleanup_json struct json_object *list = NULL;
	struct json_error error;
	size_t count = 0;

	buf_add_str(&s->text, text);
	s->first_wall_ms = first_wall_ms;
	s->rewrite = text.len > 0;
	if (parts.len && !json_read(parts, &list, &error) &&
	    json_object_is_type(list, json_type_array))
		count = json_object_array_length(list);
	for (size_t i = 0; i < count && i < SCRIBE_PARTS_MAX; i++) {
		struct json_object *part = json_object_array_get_idx(list, i);

		parts_room(s, s->part_count + 1);
		s->parts[s->part_count++] =
		    (struct scribe_part){.at = json_int(part, "at", 0),
					 .type = kept(s, json_str(part, "type")).ptr,
					 .id = kept(s, json_str(part, "id")),
					 .name = kept(s, json_str(part, "name"))};
	}
	s->parts_dirty = s->part_count > 0;
}

static void on_written(void *ctx, enum state_held held, bool cancel)
{
	struct write *w = ctx;
	struct scribe *s = w->scribe;

	write_free(w);
	switch (held) {
	case STATE_HELD:
		if (cancel)
			s->ops->wish(s->ctx);
		break;
	case STATE_NOT_HELD:
		s->ops->lost(s->ctx);
		return;
	case STATE_MISMATCH:
	case STATE_UNSURE:
		s->rewrite = true;
		break;
	}
	if (s->rewrite && held == STATE_UNSURE) {
		if (!s->write_count)
			timer_set(&s->timer, AGAIN_US);
		return;
	}
	pump(s);
}

/* The bytes from @at on, as one write; @head and @parts keep its texts. What it says counts as sent. */
static struct state_append fill(struct scribe *s, int64_t at, struct buf *head, struct buf *parts)
{
	struct state_append append = {
	    .job = s->job,
	    .fence = str_of(s->fence),
	    .attempt = s->attempt,
	    .at = at,
	    .bytes = {s->text.data + s->text.head + at, s->text.len - (size_t)at},
	    .ttl_ms = state_ttl_ms(s->deadline_ms, loop_wall_ms(s->loop)),
	    .channel = s->channel,
	};

	event_head(head, "delta", s->job, s->attempt, at);
	append.head = buf_str(head);
	if (!s->first_said)
		append.first_token_ms = s->first_wall_ms;
	if (s->parts_dirty)
		scribe_parts_json(s, parts);
	append.parts = buf_str(parts);
	s->sent = (int64_t)s->text.len;
	s->first_said = true;
	s->parts_dirty = false;
	s->last_us = loop_now_us(s->loop);
	if (s->pace)
		pace_count(s->pace, s->last_us);
	return append;
}

/* One write of the text from @at on. */
static void send(struct scribe *s, int64_t at)
{
	struct write *w = mem_new(struct write);
	struct buf head = {0}, parts = {0};
	struct state_append append;

	if (!s->first_said)
		s->ops->begins(s->ctx);
	append = fill(s, at, &head, &parts);

	w->scribe = s;
	list_push_back(&s->writes, &w->link);
	s->write_count++;
	w->request = state_append(s->redis, &append, on_written, w);
	buf_fini(&head);
	buf_fini(&parts);
}

bool scribe_rest(struct scribe *s, struct state_append *ret_rest, struct buf *head,
		 struct buf *parts)
{
	if (s->rewrite)
		return false;
	timer_stop(&s->timer);
	task_cancel(&s->soon);
	*ret_rest = fill(s, s->sent, head, parts);
	return true;
}

static bool all_sent(const struct scribe *s)
{
	return s->sent == (int64_t)s->text.len && !s->rewrite;
}

static uint64_t roll_us(const struct scribe *s, uint64_t now_us)
{
	uint64_t gap = s->pace ? pace_gap_us(s->pace, now_us) : 0;

	return gap > s->roll_us ? gap : s->roll_us;
}

/* Sends what is due; says flushed when nothing is left. */
static void pump(struct scribe *s)
{
	uint64_t now = loop_now_us(s->loop), due = s->last_us + roll_us(s, now);

	if (s->held)
		return;
	if (s->rewrite) {
		if (s->write_count || timer_is_set(&s->timer))
			return; /* what is under way fails first */
		s->rewrite = false;
		s->first_said = false;
		s->parts_dirty = s->part_count > 0;
		if (s->rewrites)
			series_add(s->rewrites, 1);
		if (s->text.len) {
			send(s, 0);
			return;
		}
	}
	if (!all_sent(s)) {
		if (s->write_count >= WRITES_MAX)
			return; /* the next reply comes back here */
		if (s->flushing || !s->last_us || now >= due)
			send(s, s->sent);
		else if (!timer_is_set(&s->timer))
			timer_set(&s->timer, due - now);
		return;
	}
	if (s->flushing && !s->write_count) {
		s->flushing = false;
		task_post(&s->told);
	}
}

void scribe_text(struct scribe *s, struct str text)
{
	if (!text.len)
		return;
	if (!s->first_wall_ms)
		s->first_wall_ms = loop_wall_ms(s->loop);
	buf_add_str(&s->text, text);
	if (s->held || timer_is_set(&s->timer))
		return;
	if (s->patient && !s->last_us)
		timer_set(&s->timer, s->roll_us);
	else
		task_post(&s->soon);
}

void scribe_flush(struct scribe *s)
{
	s->flushing = true;
	timer_stop(&s->timer);
	pump(s);
}

static void put_part(struct json_out *o, const struct scribe_part *part)
{
	json_open(o, '{');
	json_put_int(o, "at", part->at);
	json_put_text(o, "type", part->type);
	if (part->id.len)
		json_put_str(o, "id", part->id);
	if (part->name.len)
		json_put_str(o, "name", part->name);
	json_close(o, '}');
}

void scribe_parts_json(const struct scribe *s, struct buf *out)
{
	struct json_out o = {.buf = out};

	json_open(&o, '[');
	if (!s->part_count && s->text.len)
		put_part(&o, &(struct scribe_part){0, "text", STR(""), STR("")});
	for (size_t i = 0; i < s->part_count; i++)
		put_part(&o, &s->parts[i]);
	json_close(&o, ']');
}

void scribe_plain(const struct scribe *s, struct buf *out)
{
	if (!s->part_count) {
		buf_add_str(out, buf_str(&s->text));
		return;
	}
	for (size_t i = 0; i < s->part_count; i++) {
		int64_t end = i + 1 < s->part_count ? s->parts[i + 1].at : (int64_t)s->text.len;

		if (strcmp(s->parts[i].type, "text") == 0)
			buf_add(out, s->text.data + s->text.head + s->parts[i].at,
				(size_t)(end - s->parts[i].at));
	}
}

/* The event of a part; bytes before it are sent first, so that followers see both in order. */
static void say_part(struct scribe *s, const struct scribe_part *part, size_t index)
{
	struct buf event = {0};
	struct json_out o = {.buf = &event};

	if (s->held)
		return;
	event_head(&event, "part", s->job, s->attempt, -1);
	json_put_int(&o, "at", part->at);
	json_put_int(&o, "index", (int64_t)index);
	json_put_text(&o, "type", part->type);
	if (part->id.len)
		json_put_str(&o, "id", part->id);
	if (part->name.len)
		json_put_str(&o, "name", part->name);
	redis_command(s->redis, s->job, (struct str[]){STR("PUBLISH"), s->channel, buf_str(&event)},
		      3, NULL, NULL);
	buf_fini(&event);
}

/* What is not sent yet goes first, so that followers see both in order. */
static void send_before(struct scribe *s)
{
	if (s->held || s->rewrite || all_sent(s))
		return;
	timer_stop(&s->timer);
	send(s, s->sent);
}

void scribe_seam(struct scribe *s, const char *provider, const char *model)
{
	struct buf event = {0};
	struct json_out o = {.buf = &event};

	if (s->held)
		return;
	send_before(s);
	event_head(&event, "seam", s->job, s->attempt, -1);
	json_put_int(&o, "at", (int64_t)s->text.len);
	json_put_text(&o, "provider", provider);
	json_put_text(&o, "model", model);
	redis_command(s->redis, s->job, (struct str[]){STR("PUBLISH"), s->channel, buf_str(&event)},
		      3, NULL, NULL);
	buf_fini(&event);
}

bool scribe_part(struct scribe *s, const char *type, struct str id, struct str name)
{
	struct scribe_part *part;

	if (s->part_count + 2 > SCRIBE_PARTS_MAX)
		return false;
	parts_room(s, s->part_count + 2);
	if (!s->part_count && s->text.len)
		s->parts[s->part_count++] = (struct scribe_part){0, "text", STR(""), STR("")};
	part = &s->parts[s->part_count];
	part->at = (int64_t)s->text.len;
	part->type = type;
	part->id = kept(s, id);
	part->name = kept(s, name);
	s->part_bytes += id.len + name.len;
	send_before(s);
	say_part(s, part, s->part_count++);
	s->parts_dirty = true;
	return true;
}
