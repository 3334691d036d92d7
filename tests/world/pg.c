/* lib/store/pg.h over tables in memory. It knows the statements that the product sends by their words; another one ends the process. */
#include "lib/store/pg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/enc.h"
#include "lib/base/id.h"
#include "lib/base/json.h"
#include "lib/base/map.h"
#include "lib/base/mem.h"
#include "tests/world/world.h"

#define STATEMENTS_MAX 4
#define PARTITIONS 16

struct pg {
	struct loop *loop;
	struct pg_options options;
	bool closed;
};

struct pg_rows {
	size_t count;
	size_t columns;
	struct str *cells;
	uint64_t affected;
	const char *sqlstate;
};

struct statement {
	char *sql;
	struct str *params;
	size_t count;
};

struct pg_request {
	struct pg *pg;
	struct arena arena;
	struct statement statements[STATEMENTS_MAX];
	size_t count;
	size_t check_at;
	bool (*check)(void *ctx, const struct pg_rows *rows);
	pg_fn *done;
	void *ctx;
	bool cancelled;
	enum pg_result result;
	struct pg_rows rows;
};

/* A row of the outbox. */
struct waiting_end {
	char session[ID_SIZE];
	char job[ID_SIZE];
	bool acked;
	int64_t at_ms;
};

static struct {
	struct map results; /* job → tree */
	struct map sessions;
	struct json_object **rows; /* in the order of insertion */
	size_t row_count;
	size_t row_cap;
	int64_t offsets[PARTITIONS];
	bool offset_made[PARTITIONS];
	struct map keys; /* hash → row */
	struct waiting_end *outbox;
	size_t outbox_count;
	size_t outbox_cap;
	uint64_t away_until_us;
} tables;

/* ── rows ── */

size_t pg_count(const struct pg_rows *rows)
{
	return rows->count;
}

struct str pg_text(const struct pg_rows *rows, size_t row, size_t column)
{
	return rows->cells[row * rows->columns + column];
}

int64_t pg_int(const struct pg_rows *rows, size_t row, size_t column, int64_t otherwise)
{
	int64_t value;

	return str_i64(pg_text(rows, row, column), &value) ? value : otherwise;
}

uint64_t pg_affected(const struct pg_rows *rows)
{
	return rows->affected;
}

const char *pg_sqlstate(const struct pg_rows *rows)
{
	return rows->sqlstate ? rows->sqlstate : "";
}

static struct str dup(struct arena *a, struct str s)
{
	return (struct str){arena_dup(a, s.ptr, s.len), s.len};
}

/* A column of a row as PostgreSQL's text; ptr NULL for NULL. */
static struct str column(struct arena *a, struct json_object *row, struct str name)
{
	char key[64];
	struct json_object *value;
	struct str text;
	bool hex = str_starts(name, "encode("), utf8 = str_starts(name, "convert_from(");

	if (str_is(name, "1"))
		return STR("1");
	snprintf(key, sizeof(key), "%.*s", STR_FMT(name));
	if (hex || utf8)
		snprintf(key, sizeof(key), "answer");
	value = json_member(row, key);
	if (!value)
		return (struct str){0};
	if (json_object_is_type(value, json_type_boolean))
		return json_object_get_boolean(value) ? STR("t") : STR("f");
	text = json_object_is_type(value, json_type_string)
		   ? json_text(value)
		   : str_of(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN));
	if (hex || utf8) {
		text.ptr += 2; /* \x */
		text.len -= 2;
	}
	if (utf8) {
		struct buf bytes = {0};

		must(enc_hex_decode(&bytes, text) == ENC_OK);
		text = dup(a, buf_str(&bytes));
		buf_fini(&bytes);
		return text;
	}
	return dup(a, text);
}

/* The next name of a list of columns; commas inside brackets do not part. */
static bool next_column(struct str *list, struct str *ret_name)
{
	size_t at = 0;
	int depth = 0;

	*list = str_trim(*list);
	if (!list->len)
		return false;
	while (at < list->len && (depth || list->ptr[at] != ',')) {
		depth += list->ptr[at] == '(';
		depth -= list->ptr[at] == ')';
		at++;
	}
	*ret_name = str_trim((struct str){list->ptr, at});
	list->ptr += at < list->len ? at + 1 : at;
	list->len -= at < list->len ? at + 1 : at;
	return true;
}

static void select_rows(struct pg_request *r, const char *sql, struct json_object **found,
			size_t count)
{
	const char *from = strstr(sql, " FROM ");
	struct str list = {sql + 7, (size_t)(from - sql) - 7}, all = list, name;
	struct pg_rows *rows = &r->rows;

	rows->columns = 0;
	while (next_column(&list, &name))
		rows->columns++;
	rows->count = count;
	rows->cells = arena_alloc(&r->arena, (count * rows->columns + 1) * sizeof(struct str));
	for (size_t i = 0; i < count; i++) {
		list = all;
		for (size_t c = 0; next_column(&list, &name); c++)
			rows->cells[i * rows->columns + c] = column(&r->arena, found[i], name);
	}
}

/* ── statements ── */

static bool holds(const char *sql, const char *piece)
{
	return strstr(sql, piece) != NULL;
}

static void by_job(struct pg_request *r, const struct statement *s)
{
	struct json_object *row = map_find(&tables.results, s->params[0]);

	if (row && s->count > 1 && !str_eq(json_str(row, "org"), s->params[1]))
		row = NULL;
	select_rows(r, s->sql, &row, row ? 1 : 0);
}

static int by_turn(const void *a, const void *b)
{
	int64_t x = json_int(*(struct json_object *const *)a, "turn", 0);
	int64_t y = json_int(*(struct json_object *const *)b, "turn", 0);

	return (x > y) - (x < y);
}

static void by_session(struct pg_request *r, const struct statement *s)
{
	struct json_object **found =
	    arena_alloc(&r->arena, (tables.row_count + 1) * sizeof(*found));
	bool conversation = holds(s->sql, "turn < $2");
	int64_t below = INT64_MAX;
	size_t count = 0;

	if (conversation && !str_i64(s->params[1], &below))
		below = 0;
	for (size_t i = 0; i < tables.row_count; i++) {
		struct json_object *row = tables.rows[i];
		int64_t turn = json_int(row, "turn", 0);

		if (!str_eq(json_str(row, "session"), s->params[0]) || turn <= 0 || turn >= below)
			continue;
		if (conversation &&
		    (!str_is(json_str(row, "status"), "succeeded") || !json_member(row, "answer")))
			continue;
		found[count++] = row;
	}
	qsort(found, count, sizeof(*found), by_turn);
	for (size_t i = 0; !conversation && i < count / 2; i++) {
		struct json_object *kept = found[i];

		found[i] = found[count - 1 - i];
		found[count - 1 - i] = kept;
	}
	select_rows(r, s->sql, found, count);
}

static void session_row(struct pg_request *r, const struct statement *s)
{
	struct json_object *row = map_find(&tables.sessions, s->params[0]);

	select_rows(r, s->sql, &row, row && str_eq(json_str(row, "org"), s->params[1]) ? 1 : 0);
}

static struct json_object *tree(struct str text)
{
	struct json_object *t = NULL;
	struct json_error error;

	must(json_read(text, &t, &error) == JSON_OK);
	return t;
}

static void make_offsets(struct pg_request *r, const struct statement *s)
{
	int64_t count = 0;

	must(str_i64(s->params[1], &count) && count <= PARTITIONS);
	r->rows.columns = 2;
	r->rows.count = (size_t)count;
	r->rows.cells = arena_alloc(&r->arena, (size_t)count * 2 * sizeof(struct str));
	for (int64_t p = 0; p < count; p++) {
		tables.offset_made[p] = true;
		r->rows.cells[2 * p] = str_of(arena_printf(&r->arena, "%lld", (long long)p));
		r->rows.cells[2 * p + 1] =
		    str_of(arena_printf(&r->arena, "%lld", (long long)tables.offsets[p]));
	}
}

/* Only counts where @really is not set: the check comes before. */
static void move_offsets(struct pg_request *r, const struct statement *s, bool really)
{
	cleanup_json struct json_object *moves = tree(s->params[0]);

	r->rows.affected = 0;
	for (size_t i = 0; i < json_object_array_length(moves); i++) {
		struct json_object *m = json_object_array_get_idx(moves, i);
		int64_t p = json_int(m, "part", -1);

		must(p >= 0 && p < PARTITIONS);
		if (tables.offsets[p] != json_int(m, "old", -1))
			continue;
		r->rows.affected++;
		if (really)
			tables.offsets[p] = json_int(m, "new", -1);
	}
}

/* ── what ended ── */

/* The cells of one lookup: its number, then the columns of the inner statement; of the answer the wanted piece. */
static void look_up(struct pg_request *r, struct str columns, struct json_object *asked,
		    struct json_object *row, struct str *cells)
{
	int64_t at = json_int(asked, "at", 0), most = json_int(asked, "most", 0), bytes;
	struct str name, answer = column(&r->arena, row, STR("encode(answer, 'hex')"));

	bytes = (int64_t)answer.len / 2;
	*cells++ = str_of(arena_printf(&r->arena, "%lld", (long long)json_int(asked, "n", 0)));
	while (next_column(&columns, &name)) {
		if (str_starts(name, "octet_length("))
			*cells = str_of(arena_printf(&r->arena, "%lld", (long long)bytes));
		else if (!str_starts(name, "encode("))
			*cells = column(&r->arena, row, name);
		else if (at >= bytes)
			*cells = STR("");
		else
			*cells = (struct str){answer.ptr + 2 * at,
					      2 * (size_t)(bytes - at < most ? bytes - at : most)};
		cells++;
	}
}

static void by_jobs(struct pg_request *r, const struct statement *s)
{
	cleanup_json struct json_object *list = tree(s->params[0]);
	const char *from = strstr(s->sql, "LATERAL (SELECT ") + 16,
		   *end = strstr(from, " FROM results");
	struct str columns = {from, (size_t)(end - from)}, rest = columns, name;
	size_t asked = json_object_array_length(list);

	r->rows.columns = 1;
	while (next_column(&rest, &name))
		r->rows.columns++;
	r->rows.cells =
	    arena_alloc(&r->arena, (asked * r->rows.columns + 1) * sizeof(*r->rows.cells));
	for (size_t i = 0; i < asked; i++) {
		struct json_object *one = json_object_array_get_idx(list, i);
		struct json_object *row = map_find(&tables.results, json_str(one, "job"));

		if (row && str_eq(json_str(row, "org"), json_str(one, "org")))
			look_up(r, columns, one, row,
				(struct str *)r->rows.cells + r->rows.columns * r->rows.count++);
	}
}

/* ── the outbox ── */

static struct waiting_end *outbox_find(struct str session, struct str job)
{
	for (size_t i = 0; i < tables.outbox_count; i++)
		if (str_is(session, tables.outbox[i].session) && str_is(job, tables.outbox[i].job))
			return &tables.outbox[i];
	return NULL;
}

static void outbox_make(struct str session, struct str job, bool acked, int64_t at_ms)
{
	struct waiting_end *e;

	if (tables.outbox_count == tables.outbox_cap) {
		tables.outbox_cap = tables.outbox_cap ? tables.outbox_cap * 2 : 32;
		tables.outbox =
		    mem_resize(tables.outbox, tables.outbox_cap * sizeof(*tables.outbox));
	}
	e = &tables.outbox[tables.outbox_count++];
	snprintf(e->session, sizeof(e->session), "%.*s", STR_FMT(session));
	snprintf(e->job, sizeof(e->job), "%.*s", STR_FMT(job));
	e->acked = acked;
	e->at_ms = at_ms;
}

static void outbox_ack(const struct statement *s)
{
	cleanup_json struct json_object *acks = tree(s->params[0]);
	int64_t now = 0;

	must(str_i64(s->params[1], &now));
	for (size_t i = 0; i < json_object_array_length(acks); i++) {
		struct json_object *a = json_object_array_get_idx(acks, i);
		struct waiting_end *e = outbox_find(json_str(a, "session"), json_str(a, "job"));

		world_tell("pg", "%.*s is acknowledged%s", STR_FMT(json_str(a, "job")),
			   e				  ? ""
			   : json_bool(a, "known", false) ? " early"
							  : ", and not known");
		if (e)
			e->acked = true;
		else if (json_bool(a, "known", false))
			outbox_make(json_str(a, "session"), json_str(a, "job"), true, now);
	}
}

static void outbox_sweep(const struct statement *s)
{
	int64_t before = 0;
	size_t kept = 0;

	must(str_i64(s->params[0], &before));
	for (size_t i = 0; i < tables.outbox_count; i++)
		if (tables.outbox[i].at_ms >= before)
			tables.outbox[kept++] = tables.outbox[i];
	tables.outbox_count = kept;
}

static int by_name_down(const void *a, const void *b)
{
	const struct str *x = a, *y = b;

	return -memcmp(x->ptr, y->ptr, x->len < y->len ? x->len : y->len);
}

/* What $1 asks for one session: jobs that wait, the newest first; then those of its list that were acknowledged. */
static size_t outbox_of(struct pg_request *r, struct json_object *asked, int64_t after,
			struct str *cells)
{
	struct str *jobs = arena_alloc(&r->arena, 2 * (tables.outbox_count + 1) * sizeof(*jobs));
	struct str session = json_str(asked, "session");
	struct str list = str_of(json_object_to_json_string(json_member(asked, "jobs")));
	size_t count = 0, both;

	for (size_t i = 0; i < tables.outbox_count; i++) {
		const struct waiting_end *e = &tables.outbox[i];

		if (str_is(session, e->session) && !e->acked && e->at_ms >= after)
			jobs[count++] = dup(&r->arena, str_of(e->job));
	}
	qsort(jobs, count, sizeof(*jobs), by_name_down);
	count = count < 256 ? count : 256;
	both = count;
	for (size_t i = 0; i < tables.outbox_count; i++) {
		const struct waiting_end *e = &tables.outbox[i];

		if (str_is(session, e->session) && e->acked && strstr(list.ptr, e->job))
			jobs[both++] = dup(&r->arena, str_of(e->job));
	}
	for (size_t i = 0; i < both; i++) {
		cells[3 * i] =
		    str_of(arena_printf(&r->arena, "%lld", (long long)json_int(asked, "n", 0)));
		cells[3 * i + 1] = jobs[i];
		cells[3 * i + 2] = i < count ? STR("0") : STR("1");
	}
	return both;
}

static void outbox_select(struct pg_request *r, const struct statement *s)
{
	cleanup_json struct json_object *list = tree(s->params[0]);
	size_t asked = json_object_array_length(list), count = 0;
	struct str *cells =
	    arena_alloc(&r->arena, 3 * (asked * tables.outbox_count + 1) * sizeof(*cells));
	int64_t after = 0;

	must(str_i64(s->params[1], &after));
	for (size_t i = 0; i < asked; i++)
		count += outbox_of(r, json_object_array_get_idx(list, i), after, cells + 3 * count);
	r->rows.columns = 3;
	r->rows.count = count;
	r->rows.cells = cells;
}

/* ── the other tables ── */

static void insert_results(struct pg_request *r, const struct statement *s)
{
	struct json_object *rows = tree(s->params[0]); /* its items live on */
	cleanup_json struct json_object *ends = tree(s->params[3]);
	struct map made_now = {0};
	int64_t made = 0;

	for (size_t i = 0; i < json_object_array_length(rows); i++) {
		struct json_object *row = json_object_array_get_idx(rows, i);
		struct str job = json_str(row, "job");

		if (map_find(&tables.results, job))
			continue;
		map_set(&tables.results, job, row);
		map_set(&made_now, job, row);
		if (tables.row_count == tables.row_cap) {
			tables.row_cap = tables.row_cap ? tables.row_cap * 2 : 32;
			tables.rows =
			    mem_resize(tables.rows, tables.row_cap * sizeof(*tables.rows));
		}
		tables.rows[tables.row_count++] = row;
		made++;
		world_tell("pg", "result of %.*s: %.*s", STR_FMT(job),
			   STR_FMT(json_str(row, "status")));
	}
	for (size_t i = 0; i < json_object_array_length(ends); i++) {
		struct json_object *e = json_object_array_get_idx(ends, i);
		struct str session = json_str(e, "session"), job = json_str(e, "job");

		if (!map_find(&made_now, job) || outbox_find(session, job))
			continue;
		world_tell("pg", "the end of %.*s waits", STR_FMT(job));
		outbox_make(session, job, false, json_int(e, "at_ms", 0));
	}
	map_fini(&made_now);
	r->rows.count = 1;
	r->rows.columns = 3;
	r->rows.cells = arena_alloc(&r->arena, 3 * sizeof(struct str));
	r->rows.cells[0] = str_of(arena_printf(&r->arena, "%lld", (long long)made));
	r->rows.cells[1] = STR("0");
	r->rows.cells[2] = STR("0");
}

static void key_row(struct pg_request *r, const struct statement *s)
{
	struct json_object *row = map_find(&tables.keys, s->params[0]);

	select_rows(r, s->sql, &row, row ? 1 : 0);
}

/* No key of the world is revoked. */
static void key_rows(struct pg_request *r, const struct statement *s)
{
	struct json_object *found[1];
	struct map_entry *e;
	size_t at = 0, count = 0;

	must(tables.keys.count <= countof(found));
	while ((e = map_next(&tables.keys, &at)))
		if (strstr(s->params[0].ptr, json_str(e->value, "id").ptr))
			found[count++] = e->value;
	select_rows(r, s->sql, found, count);
}

static void make_sessions(const struct statement *s)
{
	cleanup_json struct json_object *rows = tree(s->params[0]);
	int64_t ttl_ms = 0;

	must(str_i64(s->params[1], &ttl_ms));
	for (size_t i = 0; i < json_object_array_length(rows); i++) {
		struct json_object *row = json_object_array_get_idx(rows, i);

		if (!map_find(&tables.sessions, json_str(row, "id")))
			pg_server_session(json_str(row, "id"), json_str(row, "org"), STR(""),
					  STR(""), ttl_ms, json_int(row, "created_ms", 0));
	}
}

static bool run_push(struct pg_request *r, const struct statement *s)
{
	const char *sql = s->sql;

	if (holds(sql, "FROM api_keys WHERE hash = $1"))
		key_row(r, s);
	else if (holds(sql, "FROM api_keys WHERE id = ANY($1::text[])"))
		key_rows(r, s);
	else if (holds(sql, "SELECT id FROM sessions WHERE id = $1"))
		session_row(r, s);
	else if (holds(sql, "INSERT INTO sessions (id"))
		make_sessions(s);
	else if (holds(sql, "UPDATE outbox o SET acked = true"))
		outbox_ack(s);
	else if (holds(sql, "DELETE FROM outbox"))
		outbox_sweep(s);
	else if (holds(sql, "LATERAL ((SELECT job, 0 AS acked FROM outbox o"))
		outbox_select(r, s);
	else
		return false;
	return true;
}

static void run(struct pg_request *r, const struct statement *s, bool really)
{
	const char *sql = s->sql;

	if (run_push(r, s))
		return;
	if (holds(sql, "FROM results WHERE results.job = asked.job"))
		by_jobs(r, s);
	else if (holds(sql, "FROM results WHERE job = $1"))
		by_job(r, s);
	else if (holds(sql, "FROM results WHERE session = $1"))
		by_session(r, s);
	else if (holds(sql, "FROM sessions WHERE id = $1"))
		session_row(r, s);
	else if (holds(sql, "INSERT INTO lane_offsets"))
		make_offsets(r, s);
	else if (holds(sql, "UPDATE lane_offsets"))
		move_offsets(r, s, really);
	else if (holds(sql, "INSERT INTO results"))
		insert_results(r, s);
	else {
		fprintf(stderr, "world: PostgreSQL does not know: %s\n", sql);
		must(!"the world's PostgreSQL knows the statement");
	}
}

/* ── requests ── */

static void on_done(void *ctx)
{
	struct pg_request *r = ctx;

	if (r->pg->closed || r->cancelled)
		return;
	if (r->done)
		r->done(r->ctx, r->result,
			r->result == PG_OK || r->result == PG_FAILED ? &r->rows : NULL);
}

static void reply(struct pg_request *r, enum pg_result result)
{
	r->result = result;
	world_in(world_delay_us(), r->pg->loop, on_done, r);
}

/* One statement, or the whole transaction: it happens at once. */
static void on_arrive(void *ctx)
{
	struct pg_request *r = ctx;
	bool lost = world_chance(world->faults.pg_lost);

	if (r->cancelled && r->check)
		return;
	if (tables.away_until_us > world->now_us || (lost && world_between(0, 1))) {
		reply(r, PG_LOST);
		return;
	}
	for (size_t i = 0; i < r->count; i++) {
		bool checked = r->check && i == r->check_at;

		run(r, &r->statements[i], !checked);
		if (checked && !r->check(r->ctx, &r->rows)) {
			r->rows = (struct pg_rows){0};
			reply(r, PG_FAILED);
			return;
		}
		if (checked)
			run(r, &r->statements[i], true);
	}
	reply(r, lost ? PG_LOST : PG_OK);
}

static void begin(struct pg_request *r)
{
	uint64_t late =
	    tables.away_until_us > world->now_us ? tables.away_until_us - world->now_us : 0;

	if (late > r->pg->options.wait_us) {
		r->result = PG_AWAY;
		world_in(r->pg->options.wait_us, r->pg->loop, on_done, r);
		return;
	}
	/* A transaction with a check goes on only while its process does. */
	world_in(late + world_delay_us() * 2, r->check ? r->pg->loop : NULL, on_arrive, r);
}

static struct pg_request *request_new(struct pg *pg, pg_fn *done, void *ctx)
{
	struct pg_request *r = mem_new(struct pg_request);

	r->pg = pg;
	r->done = done;
	r->ctx = ctx;
	return r;
}

static void add(struct pg_request *r, const char *sql, const struct str *params, size_t count)
{
	struct statement *s = &r->statements[r->count++];

	s->sql = arena_strdup(&r->arena, sql);
	s->params = arena_alloc(&r->arena, (count + 1) * sizeof(*s->params));
	s->count = count;
	for (size_t i = 0; i < count; i++)
		s->params[i] = params[i].ptr ? dup(&r->arena, params[i]) : params[i];
}

struct pg_request *pg_query(struct pg *pg, const char *sql, const struct str *params, size_t count,
			    pg_fn *done, void *ctx)
{
	struct pg_request *r = request_new(pg, done, ctx);

	add(r, sql, params, count);
	begin(r);
	return r;
}

struct pg_request *pg_transaction(struct pg *pg, const struct pg_statement *statements,
				  size_t count, size_t check_at,
				  bool (*check)(void *ctx, const struct pg_rows *rows), pg_fn *done,
				  void *ctx)
{
	struct pg_request *r = request_new(pg, done, ctx);

	must(count <= STATEMENTS_MAX);
	for (size_t i = 0; i < count; i++)
		add(r, statements[i].sql, statements[i].params, statements[i].count);
	r->check = check;
	r->check_at = check_at;
	begin(r);
	return r;
}

void pg_cancel(struct pg_request *request)
{
	if (request)
		request->cancelled = true;
}

/* ── life ── */

struct pg_options pg_defaults(void)
{
	return (struct pg_options){
	    .connections = 2, .wait_us = 2 * US_PER_S, .timeout_us = 10 * US_PER_S};
}

int pg_open(struct loop *loop, const struct pg_options *options, const struct log *log,
	    struct pg **ret_pg)
{
	struct pg *pg = mem_new(struct pg);

	(void)log;
	pg->loop = loop;
	pg->options = *options;
	*ret_pg = pg;
	return 0;
}

void pg_close(struct pg *pg)
{
	if (pg)
		pg->closed = true;
}

bool pg_up(const struct pg *pg)
{
	(void)pg;
	return tables.away_until_us <= world->now_us;
}

void pg_server_begin(void)
{
	memset(&tables, 0, sizeof(tables));
}

void pg_server_away(uint64_t for_us)
{
	world_tell("pg", "away for %llu ms", (unsigned long long)for_us / 1000);
	tables.away_until_us = world->now_us + for_us;
}

struct json_object *pg_server_result(struct str job)
{
	return map_find(&tables.results, job);
}

size_t pg_server_results(void)
{
	return tables.row_count;
}

void pg_server_session(struct str id, struct str org, struct str task, struct str system,
		       int64_t ttl_ms, int64_t created_ms)
{
	struct json_object *row = json_object_new_object();

	json_object_object_add(row, "id", json_object_new_string_len(id.ptr, (int)id.len));
	json_object_object_add(row, "org", json_object_new_string_len(org.ptr, (int)org.len));
	json_object_object_add(row, "task", json_object_new_string_len(task.ptr, (int)task.len));
	json_object_object_add(row, "system",
			       json_object_new_string_len(system.ptr, (int)system.len));
	json_object_object_add(row, "ttl_ms", json_object_new_int64(ttl_ms));
	json_object_object_add(row, "created_ms", json_object_new_int64(created_ms));
	map_set(&tables.sessions, id, row);
}

int64_t pg_server_offset(const char *topic, int32_t partition)
{
	(void)topic;
	return tables.offsets[partition];
}

void pg_server_key(struct str hash, struct str org)
{
	struct json_object *row = json_object_new_object();

	json_object_object_add(row, "org", json_object_new_string_len(org.ptr, (int)org.len));
	json_object_object_add(row, "id", json_object_new_string("key_world"));
	map_set(&tables.keys, hash, row);
}

void pg_server_outbox(struct str session, void (*each)(void *ctx, struct str job, bool acked),
		      void *ctx)
{
	for (size_t i = 0; i < tables.outbox_count; i++) {
		const struct waiting_end *e = &tables.outbox[i];

		if (str_is(session, e->session))
			each(ctx, str_of(e->job), e->acked);
	}
}
