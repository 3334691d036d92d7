/* Sessions: conversations that a client only adds to. POST, GET and DELETE, durable in PostgreSQL, at hand in Redis. */
#include <stdio.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/store/pg.h"
#include "lib/store/redis.h"
#include "lib/svc/config.h"
#include "producer/admit.h"
#include "producer/front.h"
#include "producer/idem.h"
#include "producer/session_standing.h"
#include "schemas/keys.h"
#include "schemas/scripts.h"

#define TTL_S_DEFAULT 3600
#define TTL_S_MAX (30 * 24 * 3600)
#define METADATA_MAX 16384

struct session {
	struct exchange *x;
	struct str id, task, system, metadata; /* in the request's arena */
	int64_t ttl_ms;
	int64_t created_ms;
	struct redis_request *request;
	struct pg_request *pg;
	struct session_standing *standing;
	struct idem idem;
	bool keyed;
	bool failed;
	struct buf reply;
};

static void session_drop(void *work, bool left)
{
	struct session *s = work;

	(void)left;
	if (s->request)
		redis_cancel(s->request);
	if (s->pg)
		pg_cancel(s->pg);
	session_standing_cancel(s->standing);
	buf_fini(&s->reply);
	mem_free(s);
}

static struct session *session_new(struct exchange *x)
{
	struct session *s = mem_new(struct session);

	s->x = x;
	x->work = s;
	x->drop = session_drop;
	return s;
}

static void session_write(const struct session *s, struct buf *out)
{
	struct json_out o = {.buf = out};

	json_open(&o, '{');
	json_put_str(&o, "id", s->id);
	if (s->task.len)
		json_put_str(&o, "task", s->task);
	else
		json_put_null(&o, "task");
	if (s->system.len)
		json_put_str(&o, "system", s->system);
	else
		json_put_null(&o, "system");
	json_put_int(&o, "ttl_s", s->ttl_ms / 1000);
	json_put_time(&o, "created_at", (uint64_t)s->created_ms);
	json_put_raw(&o, "metadata", s->metadata.len ? s->metadata : STR("{}"));
	json_close(&o, '}');
}

/* ── POST ── */

static void on_kept(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct session *s = ctx;

	(void)result;
	(void)value;
	s->request = NULL;
	exchange_reply(s->x, 201, &s->reply);
}

static void created(struct session *s)
{
	struct front *front = s->x->front;
	struct str org = str_of(s->x->who.org);

	if (s->request || s->pg)
		return;
	if (s->failed) {
		/* A row may be there: nobody was told its id, and its time runs out. */
		if (s->keyed)
			idem_end(front->redis, &s->idem, org, s->id, 0, STR(""), NULL, NULL);
		exchange_fault(s->x, FAULT_UNAVAILABLE, NULL);
		return;
	}
	session_write(s, &s->reply);
	if (s->keyed)
		s->request = idem_end(front->redis, &s->idem, org, s->id, 201, buf_str(&s->reply),
				      on_kept, s);
	else
		exchange_reply(s->x, 201, &s->reply);
}

static void on_row(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct session *s = ctx;

	(void)rows;
	s->pg = NULL;
	s->failed = s->failed || result != PG_OK;
	created(s);
}

static void on_hash(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct session *s = ctx;

	(void)value;
	s->request = NULL;
	s->failed = s->failed || result != REDIS_OK;
	created(s);
}

/* Both stores at once; told when both have it. */
static void create(struct session *s)
{
	struct front *front = s->x->front;
	struct key keys[2] = {key_session(s->id), key_conversation(s->id)};
	struct str org = str_of(s->x->who.org);
	char ttl[24], at[24];

	snprintf(ttl, sizeof(ttl), "%lld", (long long)s->ttl_ms);
	snprintf(at, sizeof(at), "%lld", (long long)s->created_ms);
	s->pg =
	    pg_query(front->pg,
		     "INSERT INTO sessions (id, org, task, system, metadata, ttl_ms, created_ms) "
		     "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING",
		     (const struct str[]){s->id, org, s->task, s->system, s->metadata, str_of(ttl),
					  str_of(at)},
		     7, on_row, s);
	s->request =
	    redis_script(front->redis, s->id, &script_session,
			 (const struct str[]){key_str(&keys[0]), key_str(&keys[1])}, 2,
			 (const struct str[]){str_of(ttl), org, s->task, s->system, s->metadata,
					      str_of(at), STR("unheard"), STR("")},
			 8, on_hash, s);
}

static void on_idem(void *ctx, const struct idem_answer *answer)
{
	struct session *s = ctx;

	s->request = NULL;
	switch (answer->verdict) {
	case IDEM_NEW:
	case IDEM_PENDING:
		s->keyed = true;
		s->id = admit_copy(http_arena(s->x->req), answer->id);
		create(s);
		return;
	case IDEM_DONE:
		http_add_field(s->x->req, "idempotent-replayed", STR("true"));
		buf_add_str(&s->reply, answer->reply);
		exchange_reply(s->x, answer->status, &s->reply);
		return;
	case IDEM_CONFLICT:
		exchange_fault(s->x, FAULT_CONFLICT,
			       "The Idempotency-Key was used for another body.");
		return;
	case IDEM_UNSURE:
		exchange_fault(s->x, FAULT_UNAVAILABLE, NULL);
		return;
	}
}

static void session_field(struct session *s, const char *key, struct json_object *value,
			  struct admitted *a)
{
	struct arena *arena = http_arena(s->x->req);
	struct str text = json_text(value);

	if (strcmp(key, "task") == 0 || strcmp(key, "system") == 0) {
		if (!text.len)
			admitted_fail(a, FAULT_INVALID_REQUEST, key,
				      "%s must be a string that is not empty.", key);
		*(key[0] == 't' ? &s->task : &s->system) = admit_copy(arena, text);
	} else if (strcmp(key, "ttl_s") == 0) {
		int64_t ttl_s = json_object_get_int64(value);

		if (!json_object_is_type(value, json_type_int) || ttl_s < 1 || ttl_s > TTL_S_MAX)
			admitted_fail(a, FAULT_INVALID_REQUEST, key,
				      "ttl_s must be a whole number from 1 to %d.", TTL_S_MAX);
		s->ttl_ms = ttl_s * 1000;
	} else if (strcmp(key, "metadata") == 0) {
		s->metadata = admit_raw(arena, value);
		if (!json_object_is_type(value, json_type_object) || s->metadata.len > METADATA_MAX)
			admitted_fail(a, FAULT_INVALID_REQUEST, key,
				      "metadata must be an object of at most %d bytes of JSON.",
				      METADATA_MAX);
	} else {
		admitted_fail(a, FAULT_UNKNOWN_FIELD, key, "\"%s\" is not a known field.", key);
	}
}

static struct admitted session_admit(struct session *s)
{
	cleanup_json struct json_object *tree = NULL;
	struct json_error error;
	struct admitted a = admitted_good();
	struct str body = http_body(s->x->req);

	if (json_read(body.len ? body : STR("{}"), &tree, &error) != JSON_OK) {
		admitted_fail(&a, FAULT_INVALID_JSON, "", "The body is not valid JSON: %s.",
			      error.message);
		a.offset = (int64_t)error.offset;
		return a;
	}
	if (!json_object_is_type(tree, json_type_object)) {
		admitted_fail(&a, FAULT_INVALID_REQUEST, "", "The body must be a JSON object.");
		return a;
	}
	json_object_object_foreach(tree, key, value)
	{
		session_field(s, key, value, &a);
	}
	if (s->task.len && !config_route_of(exchange_config(s->x), CONFIG_ROUTE_TASK, s->task,
					    str_of(s->x->who.org)))
		admitted_fail(&a, FAULT_UNKNOWN_ROUTE, "task", "No route has the task \"%.*s\".",
			      STR_FMT(s->task));
	return a;
}

void sessions_create(struct exchange *x)
{
	struct session *s = session_new(x);
	struct str key = http_field(x->req, "idempotency-key");
	struct admitted a;
	char id[ID_SIZE];

	s->ttl_ms = TTL_S_DEFAULT * 1000LL;
	s->created_ms = (int64_t)x->wall_ms;
	a = session_admit(s);
	idem_admit(x, &a);
	if (a.fault != FAULT_NONE) {
		struct refusal refusal = {
		    .fault = a.fault, .message = a.message, .param = a.param, .offset = a.offset};

		session_drop(s, false);
		idem_refuse(x, &refusal);
		return;
	}
	id_make(id, "ses", x->wall_ms, loop_rand(x->front->loop));
	s->id = admit_copy(http_arena(x->req), str_of(id));
	if (key.len)
		s->request =
		    idem_begin(x->front->redis, &s->idem, str_of(x->who.org), x->route->pattern,
			       key, http_body(x->req), s->id, on_idem, s);
	else
		create(s);
}

/* ── GET ── */

/* True where it stands; else it was said that it does not. */
static bool stands(struct session *s, enum standing standing)
{
	s->standing = NULL;
	switch (standing) {
	case STANDING_OPEN:
		return true;
	case STANDING_NONE:
		exchange_fault(s->x, FAULT_NOT_FOUND, "There is no such session.");
		return false;
	case STANDING_UNSURE:
		exchange_fault(s->x, FAULT_STATE_UNKNOWN, NULL);
		return false;
	}
	return false;
}

static void on_found(void *ctx, enum standing standing, const struct session_row *row)
{
	struct session *s = ctx;

	if (!stands(s, standing))
		return;
	s->id = s->x->param;
	s->task = row->task;
	s->system = row->system;
	s->metadata = row->metadata;
	s->ttl_ms = row->ttl_ms;
	s->created_ms = row->created_ms;
	session_write(s, &s->reply);
	exchange_reply(s->x, 200, &s->reply);
}

void sessions_get(struct exchange *x)
{
	struct session *s = session_new(x);

	s->standing = session_standing_open(x->front->redis, x->front->pg, x->param,
					    str_of(x->who.org), x->wall_ms, on_found, s);
}

/* ── DELETE ── */

static void on_deleted(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct session *s = ctx;
	struct json_out o = {.buf = &s->reply};

	(void)value;
	s->request = NULL;
	if (result != REDIS_OK) {
		exchange_fault(s->x, FAULT_STATE_UNKNOWN, NULL);
		return;
	}
	json_open(&o, '{');
	json_put_str(&o, "id", s->x->param);
	json_put_bool(&o, "deleted", true);
	json_close(&o, '}');
	exchange_reply(s->x, 200, &s->reply);
}

static void on_marked(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct session *s = ctx;
	struct key keys[2] = {key_session(s->x->param), key_conversation(s->x->param)};
	const struct str args[] = {STR("DEL"), key_str(&keys[0]), key_str(&keys[1])};

	s->pg = NULL;
	if (result != PG_OK)
		exchange_fault(s->x, FAULT_STATE_UNKNOWN, NULL);
	else if (!pg_count(rows))
		exchange_fault(s->x, FAULT_NOT_FOUND, "There is no such session.");
	else
		s->request = redis_command(s->x->front->redis, s->x->param, args, countof(args),
					   on_deleted, s);
}

static void on_deletable(void *ctx, enum standing standing, const struct session_row *row)
{
	struct session *s = ctx;
	struct exchange *x = s->x;
	char now[24];

	(void)row;
	if (!stands(s, standing))
		return;
	snprintf(now, sizeof(now), "%llu", (unsigned long long)x->wall_ms);
	s->pg = pg_query(x->front->pg,
			 "UPDATE sessions SET deleted_ms = $3 WHERE id = $1 AND org = $2 "
			 "AND deleted_ms IS NULL RETURNING id",
			 (const struct str[]){x->param, str_of(x->who.org), str_of(now)}, 3,
			 on_marked, s);
}

void sessions_delete(struct exchange *x)
{
	struct session *s = session_new(x);

	s->standing = session_standing_open(x->front->redis, x->front->pg, x->param,
					    str_of(x->who.org), x->wall_ms, on_deletable, s);
}
