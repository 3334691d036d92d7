/* What a call needs: the job's body (or its blob), the conversation before its turn, and its route. */
#include <stdio.h>

#include "consumers/pool/retry.h"
#include "consumers/pool/work.h"
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/lane/lane.h"
#include "lib/store/pg.h"
#include "lib/svc/config.h"
#include "schemas/keys.h"

#define RECORD_MAX_BYTES (64u << 20)

static void read_history(struct work *w);

/* ── the route ── */

static enum route_found find_route(const struct work *w, struct route *ret_route)
{
	struct config_wish wish = {
	    .task = w->job.task,
	    .model = w->job.model,
	    .org = w->head.org,
	    .user = w->job.user,
	    .session = w->head.session,
	    .job = w->head.job,
	};

	return route_find(w->pool->routes, &wish, ret_route);
}

/* Those of @marks, by @from's indices, whose targets stand in @to with the same key, by its indices. */
static uint32_t carry(const struct route *from, uint32_t marks, const struct route *to)
{
	uint32_t carried = 0;

	for (size_t i = 0; i < from->count; i++) {
		int at = route_place(to, from->targets[i]);

		if (at >= 0 && marks & (UINT32_C(1) << i) &&
		    to->targets[at]->account->breaker == from->targets[i]->account->breaker)
			carried |= UINT32_C(1) << at;
	}
	return carried;
}

bool load_is_stale(const struct work *w)
{
	return w->routes != w->pool->routes;
}

void load_route(struct work *w)
{
	struct route route;
	int place = -1;

	if (!w->routes || !load_is_stale(w) || w->call || w->hedge.call || find_route(w, &route))
		return;
	room_leave(w); /* it is the old accounts' */
	if (w->reserved_for)
		place = route_place(&route, w->reserved_for);
	w->reserved_for = place < 0 ? NULL : route.targets[place];
	if (place >= 0)
		w->target_index = (size_t)place;
	/* What was not asked, for its words or its quota's sake, may be asked now. */
	w->tried = carry(&w->route, w->tried & ~w->unfit, &route);
	w->refused = carry(&w->route, w->refused, &route);
	w->unfit = 0;
	w->later_us = 0;
	w->too_big = false;
	if (w->short_of != SHORT_OF_ALL || !w->reserved_for)
		w->short_of = 0;
	w->target = NULL;
	w->hedge.target = NULL;
	w->route = route;
	routes_unref(w->routes);
	w->routes = routes_ref(w->pool->routes);
}

/* ── the body ── */

static void loaded(struct work *w)
{
	w->loaded = true;
	w->waits = 0;
	past_estimate(w);
	lane_record_forget_body(w->record);
	routes_unref(w->routes); /* loaded before, and the claim was lost */
	w->routes = NULL;
	if (find_route(w, &w->route)) {
		finish_begin(w, "failed", FAULT_UNKNOWN_ROUTE, STR(""));
		return;
	}
	w->routes = routes_ref(w->pool->routes);
	work_time(w);
	if (work_is_late(w))
		work_stop(w, FAULT_EXPIRED);
	else
		retry_wait_due(w);
}

static void broken(struct work *w, const char *why)
{
	log_error(&w->log, "record cannot be read", F_STR("why", why));
	finish_begin(w, "failed", FAULT_INTERNAL, str_of(why));
}

static void on_blob(void *ctx, enum blob_result result, struct str bytes);

static void retry_blob(struct timer *t)
{
	load_begin(container_of(t, struct work, timer));
}

static struct json_object *tree_of(struct str json)
{
	struct json_object *tree = NULL;
	struct json_error error;

	return json.len && !json_read(json, &tree, &error) ? tree : NULL;
}

static void on_body(struct work *w, struct str body)
{
	struct str metadata = w->blob.len ? w->job.metadata : STR("");
	struct codec_error error;

	if (codec_decode(&codec_job, &w->arena, body, false, &w->job, &error)) {
		broken(w, error.message);
		return;
	}
	if (metadata.len)
		w->job.metadata =
		    metadata; /* what the lane says: a redriven job's names the old one */
	if (w->job.blob.len && !w->job.kind.len) {
		w->blob = w->job.blob;
		w->blob_request =
		    blob_get(w->pool->blob, arena_dup(&w->arena, w->job.blob.ptr, w->job.blob.len),
			     RECORD_MAX_BYTES, on_blob, w);
		return;
	}
	w->messages = tree_of(w->job.messages);
	w->body = tree_of(w->job.request);
	if (!w->messages && !w->body) {
		broken(w, "the record has no messages");
		return;
	}
	if (w->head.session.len && w->head.prev.len)
		read_history(w);
	else
		loaded(w);
}

static void on_blob(void *ctx, enum blob_result result, struct str bytes)
{
	struct work *w = ctx;

	w->blob_request = NULL;
	if (result == BLOB_MISSING) {
		broken(w, "the record's payload is not in the blob store");
		return;
	}
	if (result != BLOB_OK) {
		work_again(w, work_pause_us(w, 100, 2000), retry_blob);
		return;
	}
	on_body(w, bytes);
}

/* ── the conversation ── */

static void add_message(struct json_object *list, const char *role, struct str content)
{
	struct json_object *message = json_object_new_object();

	json_object_object_add(message, "role", json_object_new_string(role));
	json_object_object_add(message, "content",
			       json_object_new_string_len(content.ptr, (int)content.len));
	json_object_array_add(list, message);
}

static void retry_history(struct timer *t)
{
	read_history(container_of(t, struct work, timer));
}

static void on_record(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct work *w = ctx;

	w->pg_request = NULL;
	if (result != PG_OK) {
		work_again(w, work_pause_us(w, 100, 2000), retry_history);
		return;
	}
	w->history = json_object_new_array();
	for (size_t i = 0; i < pg_count(rows); i++) {
		struct json_object *turn = tree_of(pg_text(rows, i, 0));
		size_t count =
		    json_object_is_type(turn, json_type_array) ? json_object_array_length(turn) : 0;

		for (size_t m = 0; m < count; m++)
			json_object_array_add(w->history,
					      json_object_get(json_object_array_get_idx(turn, m)));
		json_object_put(turn);
		add_message(w->history, "assistant", pg_text(rows, i, 1));
	}
	loaded(w);
}

/* Redis lost the conversation: the record has it. */
static void from_record(struct work *w)
{
	static const char sql[] = "SELECT turn_messages, convert_from(answer, 'UTF8') FROM results "
				  "WHERE session = $1 AND turn < $2::bigint AND status = "
				  "'succeeded' AND answer IS NOT NULL "
				  "ORDER BY turn";
	char turn[24];
	struct str params[2] = {w->head.session, {turn, 0}};

	params[1].len = (size_t)snprintf(turn, sizeof(turn), "%lld", (long long)w->head.turn);
	w->pg_request = pg_query(w->pool->pg, sql, params, 2, on_record, w);
}

static void on_history(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct work *w = ctx;

	w->request = NULL;
	if (result != REDIS_OK || value->type != REDIS_LIST) {
		work_again(w, work_pause_us(w, 100, 2000), retry_history);
		return;
	}
	if (!value->count) {
		from_record(w);
		return;
	}
	w->history = json_object_new_array();
	for (size_t i = 0; i < value->count; i++) {
		struct json_object *message = tree_of(redis_item_str(value, i));

		if (message)
			json_object_array_add(w->history, message);
	}
	loaded(w);
}

static void read_history(struct work *w)
{
	struct key key = key_conversation(w->head.session);

	json_object_put(w->history);
	w->history = NULL;
	w->request = redis_command(
	    w->redis, w->head.session,
	    (struct str[]){STR("LRANGE"), key_str(&key), STR("0"), STR("-1")}, 4, on_history, w);
}

void load_begin(struct work *w)
{
	sm_move(&w->sm, WORK_LOADING);
	if (w->loaded) {
		retry_wait_due(w);
		return;
	}
	json_object_put(w->messages);
	json_object_put(w->body);
	w->messages = w->body = NULL;
	on_body(w, lane_record_body(w->record));
}
