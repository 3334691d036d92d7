#include "producer/restore.h"

#include <stdio.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/enc.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/store/pg.h"
#include "lib/store/redis.h"
#include "schemas/keys.h"
#include "schemas/scripts.h"

/* So many turns are brought back at most: the newest. */
#define TURNS_MAX "200"

struct restore {
	struct redis *redis;
	struct arena arena;
	struct str session, org, task, system, metadata, last;
	int64_t ttl_ms, created_ms, active_ms;
	uint64_t now_wall_ms;
	struct str *messages;
	size_t message_count;
	struct buf jobs; /* whose messages these are */
	struct pg_request *settings;
	struct pg_request *turns;
	struct redis_request *write;
	bool missing;
	bool unsure;
	void (*done)(void *ctx, enum restored result);
	void *ctx;
};

static void restore_free(struct restore *r)
{
	arena_reset(&r->arena);
	buf_fini(&r->jobs);
	mem_free(r->messages);
	mem_free(r);
}

static void restore_end(struct restore *r, enum restored result)
{
	r->done(r->ctx, result);
	restore_free(r);
}

static struct str keep(struct restore *r, struct str text)
{
	return (struct str){text.len ? arena_dup(&r->arena, text.ptr, text.len) : NULL, text.len};
}

static void add_message(struct restore *r, struct str json)
{
	if ((r->message_count & (r->message_count + 1)) == 0)
		r->messages =
		    mem_resize(r->messages, (2 * r->message_count + 2) * sizeof(*r->messages));
	r->messages[r->message_count++] = keep(r, json);
}

/* The bytes of @answer that are text: thinking and tool calls are no part of what was said. */
static void text_of(struct str answer, struct json_object *parts, struct buf *out)
{
	size_t count =
	    json_object_is_type(parts, json_type_array) ? json_object_array_length(parts) : 0;

	if (!count)
		buf_add_str(out, answer);
	for (size_t i = 0; i < count; i++) {
		struct json_object *part = json_object_array_get_idx(parts, i);
		size_t from = (size_t)json_int(part, "at", 0), to = answer.len;

		if (i + 1 < count)
			to = (size_t)json_int(json_object_array_get_idx(parts, i + 1), "at", 0);
		if (to > answer.len)
			to = answer.len;
		if (from < to && str_is(json_str(part, "type"), "text"))
			buf_add(out, answer.ptr + from, to - from);
	}
}

static void add_turn(struct restore *r, struct str turn_messages, struct str answer_hex,
		     struct str parts)
{
	cleanup_json struct json_object *list = NULL, *part_list = NULL;
	struct json_error error;
	struct buf answer = {0}, text = {0}, message = {0};
	struct json_out o = {.buf = &message};

	if (json_read(turn_messages, &list, &error) != JSON_OK ||
	    !json_object_is_type(list, json_type_array) ||
	    enc_hex_decode(&answer, answer_hex) != ENC_OK) {
		buf_fini(&answer);
		return;
	}
	if (parts.len && json_read(parts, &part_list, &error) != JSON_OK)
		part_list = NULL;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_out one = {.buf = &message};

		buf_reset(&message);
		json_put_tree(&one, NULL, json_object_array_get_idx(list, i));
		add_message(r, buf_str(&message));
	}
	text_of(buf_str(&answer), part_list, &text);
	buf_reset(&message);
	json_open(&o, '{');
	json_put_text(&o, "role", "assistant");
	json_put_str(&o, "content", buf_str(&text));
	json_close(&o, '}');
	add_message(r, buf_str(&message));
	buf_fini(&answer);
	buf_fini(&text);
	buf_fini(&message);
}

static void on_written(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct restore *r = ctx;

	(void)value;
	r->write = NULL;
	restore_end(r, result == REDIS_OK ? RESTORED_OK : RESTORED_UNSURE);
}

static void write_back(struct restore *r)
{
	struct key keys[2] = {key_session(r->session), key_conversation(r->session)};
	const struct str names[2] = {key_str(&keys[0]), key_str(&keys[1])};
	struct str *args = mem_alloc((9 + r->message_count) * sizeof(*args));
	char ttl[24], created[24];

	snprintf(ttl, sizeof(ttl), "%lld", (long long)r->ttl_ms);
	snprintf(created, sizeof(created), "%lld", (long long)r->created_ms);
	args[0] = str_of(ttl);
	args[1] = r->org;
	args[2] = r->task;
	args[3] = r->system;
	args[4] = r->metadata;
	args[5] = str_of(created);
	args[6] = STR("1");
	args[7] = r->last;
	args[8] = buf_str(&r->jobs);
	for (size_t i = 0; i < r->message_count; i++)
		args[9 + i] = r->messages[i];
	r->write = redis_script(r->redis, r->session, &script_session, names, 2, args,
				9 + r->message_count, on_written, r);
	mem_free(args);
}

static void on_both(struct restore *r)
{
	if (r->settings || r->turns)
		return;
	if (r->unsure)
		restore_end(r, RESTORED_UNSURE);
	else if (r->missing || r->active_ms + r->ttl_ms < (int64_t)r->now_wall_ms)
		restore_end(r, RESTORED_MISSING);
	else
		write_back(r);
}

static void on_settings(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct restore *r = ctx;

	r->settings = NULL;
	if (result != PG_OK) {
		r->unsure = true;
	} else if (!pg_count(rows)) {
		r->missing = true;
	} else {
		r->task = keep(r, pg_text(rows, 0, 0));
		r->system = keep(r, pg_text(rows, 0, 1));
		r->metadata = keep(r, pg_text(rows, 0, 2));
		r->ttl_ms = pg_int(rows, 0, 3, 0);
		r->created_ms = pg_int(rows, 0, 4, 0);
		if (r->created_ms > r->active_ms)
			r->active_ms = r->created_ms;
	}
	on_both(r);
}

static void on_turns(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct restore *r = ctx;

	r->turns = NULL;
	if (result != PG_OK)
		r->unsure = true;
	for (size_t row = result == PG_OK ? pg_count(rows) : 0; row-- > 0;) {
		if (pg_int(rows, row, 5, 0) > r->active_ms)
			r->active_ms = pg_int(rows, row, 5, 0);
		r->last = keep(r, pg_text(rows, row, 0));
		buf_add_str(&r->jobs, r->last);
		buf_add_str(&r->jobs, STR(" "));
		if (str_is(pg_text(rows, row, 1), "succeeded"))
			add_turn(r, pg_text(rows, row, 2), pg_text(rows, row, 3),
				 pg_text(rows, row, 4));
	}
	on_both(r);
}

struct restore *restore_open(struct redis *redis, struct pg *pg, struct str session, struct str org,
			     uint64_t now_wall_ms, void (*done)(void *ctx, enum restored result),
			     void *ctx)
{
	struct restore *r = mem_new(struct restore);
	struct str params[2];

	r->redis = redis;
	r->session = keep(r, session);
	r->org = keep(r, org);
	r->now_wall_ms = now_wall_ms;
	r->done = done;
	r->ctx = ctx;
	params[0] = r->session;
	params[1] = r->org;
	r->settings = pg_query(pg,
			       "SELECT task, system, metadata, ttl_ms, created_ms FROM sessions "
			       "WHERE id = $1 AND org = $2 AND deleted_ms IS NULL",
			       params, 2, on_settings, r);
	r->turns =
	    pg_query(pg,
		     "SELECT job, status, turn_messages, encode(answer, 'hex'), parts, finished_ms "
		     "FROM results WHERE session = $1 AND org = $2 AND turn > 0 "
		     "ORDER BY turn DESC LIMIT " TURNS_MAX,
		     params, 2, on_turns, r);
	return r;
}

void restore_cancel(struct restore *restore)
{
	if (!restore)
		return;
	if (restore->settings)
		pg_cancel(restore->settings);
	if (restore->turns)
		pg_cancel(restore->turns);
	if (restore->write)
		redis_cancel(restore->write);
	restore_free(restore);
}
