#include <errno.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/store/pg_impl.h"

struct pg_options pg_defaults(void)
{
	return (struct pg_options){
	    .connections = 2,
	    .wait_us = 2 * US_PER_S,
	    .timeout_us = 10 * US_PER_S,
	};
}

/* ── rows ── */

size_t pg_count(const struct pg_rows *rows)
{
	return rows && rows->result ? (size_t)PQntuples(rows->result) : 0;
}

struct str pg_text(const struct pg_rows *rows, size_t row, size_t column)
{
	if (row >= pg_count(rows) || column >= (size_t)PQnfields(rows->result) ||
	    PQgetisnull(rows->result, (int)row, (int)column))
		return (struct str){0};
	return (struct str){PQgetvalue(rows->result, (int)row, (int)column),
			    (size_t)PQgetlength(rows->result, (int)row, (int)column)};
}

int64_t pg_int(const struct pg_rows *rows, size_t row, size_t column, int64_t otherwise)
{
	int64_t number;

	return str_i64(pg_text(rows, row, column), &number) ? number : otherwise;
}

uint64_t pg_affected(const struct pg_rows *rows)
{
	uint64_t number = 0;

	if (rows && rows->result && !str_u64(str_of(PQcmdTuples(rows->result)), &number))
		number = 0;
	return number;
}

const char *pg_sqlstate(const struct pg_rows *rows)
{
	return rows ? rows->sqlstate : "";
}

/* ── requests ── */

void pg_request_free(struct pg_request *request)
{
	list_remove(&request->link);
	for (size_t i = 0; i < request->count; i++) {
		struct pg_ready *s = &request->statements[i];

		for (int k = 0; k < s->count; k++)
			mem_free(s->values[k]);
		mem_free(s->values);
		mem_free(s->sql);
	}
	mem_free(request->statements);
	PQclear(request->rows.result);
	mem_free(request);
}

void pg_request_finish(struct pg_request *request, enum pg_result result)
{
	list_remove(&request->link);
	if (request->done)
		request->done(request->ctx, result, &request->rows);
	pg_request_free(request);
}

static void ready(struct pg_ready *into, const char *sql, const struct str *params, size_t count)
{
	into->sql = mem_strdup(sql);
	into->count = (int)count;
	into->values = mem_alloc((count + 1) * sizeof(char *));
	for (size_t i = 0; i < count; i++) {
		if (params[i].ptr)
			into->values[i] = mem_dup(params[i].ptr, params[i].len);
	}
}

static struct pg_request *request_new(struct pg *pg, size_t statements, pg_fn *done, void *ctx)
{
	struct pg_request *request = mem_new(struct pg_request);

	request->pg = pg;
	request->done = done;
	request->ctx = ctx;
	request->statements = mem_alloc(statements * sizeof(*request->statements));
	request->count = statements;
	request->asked_us = loop_now_us(pg->loop);
	return request;
}

static void queue_waits(struct pg *pg)
{
	struct pg_request *oldest = list_first(&pg->queue, struct pg_request, link);
	uint64_t limit = pg->up_count ? pg->options.timeout_us : pg->options.wait_us;
	uint64_t now = loop_now_us(pg->loop);

	if (!oldest)
		timer_stop(&pg->wait);
	else
		timer_set(&pg->wait,
			  oldest->asked_us + limit > now ? oldest->asked_us + limit - now : 0);
}

static void on_wait(struct timer *timer)
{
	struct pg *pg = container_of(timer, struct pg, wait);
	uint64_t limit = pg->up_count ? pg->options.timeout_us : pg->options.wait_us;
	uint64_t now = loop_now_us(pg->loop);

	for (;;) {
		struct pg_request *oldest = list_first(&pg->queue, struct pg_request, link);

		if (!oldest || oldest->asked_us + limit > now)
			break;
		pg_request_finish(oldest, PG_AWAY);
	}
	queue_waits(pg);
}

static void enqueue(struct pg_request *request)
{
	struct pg *pg = request->pg;

	list_push_back(&pg->queue, &request->link);
	if (!timer_is_set(&pg->wait))
		queue_waits(pg);
	task_post(&pg->dispatch);
}

struct pg_request *pg_query(struct pg *pg, const char *sql, const struct str *params, size_t count,
			    pg_fn *done, void *ctx)
{
	struct pg_request *request = request_new(pg, 1, done, ctx);

	ready(&request->statements[0], sql, params, count);
	enqueue(request);
	return request;
}

struct pg_request *pg_transaction(struct pg *pg, const struct pg_statement *statements,
				  size_t count, size_t check_at,
				  bool (*check)(void *ctx, const struct pg_rows *rows), pg_fn *done,
				  void *ctx)
{
	struct pg_request *request = request_new(pg, count, done, ctx);

	must(count > 0 && (!check || check_at < count));
	request->transaction = true;
	request->check = check;
	request->check_at = check_at;
	for (size_t i = 0; i < count; i++)
		ready(&request->statements[i], statements[i].sql, statements[i].params,
		      statements[i].count);
	enqueue(request);
	return request;
}

void pg_cancel(struct pg_request *request)
{
	if (!request)
		return;
	request->done = NULL;
	if (!request->on)
		pg_request_free(request);
}

/* ── the pool ── */

/* The link with the least to do that can take @request now; NULL where none can. */
static struct pg_link *choose(struct pg *pg, const struct pg_request *request)
{
	struct pg_link *best = NULL;

	for (uint32_t i = 0; i < pg->link_count; i++) {
		struct pg_link *link = &pg->links[i];

		if (link->state != PG_LINK_UP || link->exclusive || link->count >= PG_PIPELINE_MAX)
			continue;
		if (request->transaction && link->count)
			continue;
		if (!best || link->count < best->count)
			best = link;
	}
	return best;
}

/* In order: a transaction at the head waits for a link to be idle, and what is behind it waits too, so that it comes
 * to its turn. */
static void on_dispatch(struct task *task)
{
	struct pg *pg = container_of(task, struct pg, dispatch);

	for (;;) {
		struct pg_request *request = list_first(&pg->queue, struct pg_request, link);
		struct pg_link *link = request ? choose(pg, request) : NULL;

		if (!link)
			break;
		list_remove(&request->link);
		pg_link_send(link, request);
	}
	for (uint32_t i = 0; i < pg->link_count; i++)
		pg_link_flush(&pg->links[i]);
	queue_waits(pg);
}

void pg_dispatch_soon(struct pg *pg)
{
	task_post(&pg->dispatch);
}

void pg_up_changed(struct pg *pg, int by)
{
	bool was = pg->up_count > 0;
	bool is;

	pg->up_count = (uint32_t)((int)pg->up_count + by);
	is = pg->up_count > 0;
	if (is && !was)
		log_info(&pg->log, "postgresql is there");
	if (was && !is)
		log_warn(&pg->log, "postgresql is away");
	queue_waits(pg);
	task_post(&pg->dispatch);
}

bool pg_up(const struct pg *pg)
{
	return pg->up_count > 0;
}

/* Which name must be resolved for libpq, whose own look-up would block: none where conninfo has an address, a socket's
 * folder, or several hosts (those are looked up by libpq: addresses belong there). */
static int find_host(struct pg *pg)
{
	char *error = NULL;
	PQconninfoOption *options = PQconninfoParse(pg->conninfo, &error);

	if (!options) {
		log_error(&pg->log, "the conninfo of postgres cannot be read",
			  F_STR("detail", error ? error : "no memory"));
		PQfreemem(error);
		return err_origin(-EINVAL);
	}
	for (PQconninfoOption *o = options; o->keyword; o++) {
		if (!o->val || !o->val[0])
			continue;
		if (strcmp(o->keyword, "host") == 0 && o->val[0] != '/' && o->val[0] != '@' &&
		    !strchr(o->val, ','))
			pg->host = mem_strdup(o->val);
	}
	for (PQconninfoOption *o = options; o->keyword; o++) {
		if (strcmp(o->keyword, "hostaddr") == 0 && o->val && o->val[0]) {
			mem_free(pg->host);
			pg->host = NULL;
		}
	}
	PQconninfoFree(options);
	return 0;
}

int pg_open(struct loop *loop, const struct pg_options *options, const struct log *log,
	    struct pg **ret_pg)
{
	struct pg *pg;
	int r;

	if (!options->connections || options->connections > PG_CONNECTIONS_MAX) {
		log_error(log, "postgres connections: 1 to 64",
			  F_UINT("connections", options->connections));
		return err_origin(-EINVAL);
	}
	pg = mem_new(struct pg);
	pg->loop = loop;
	pg->options = *options;
	pg->conninfo = mem_strdup(options->conninfo);
	pg->options.conninfo = pg->conninfo;
	pg->log = log_child(log, "store", "postgres");
	r = find_host(pg);
	if (r < 0) {
		mem_free(pg->conninfo);
		mem_free(pg);
		return err_trace(r);
	}
	list_init(&pg->queue);
	task_init(&pg->dispatch, loop, on_dispatch);
	timer_init(&pg->wait, loop, on_wait);
	pg->link_count = options->connections;
	pg->links = mem_alloc(pg->link_count * sizeof(*pg->links));
	for (uint32_t i = 0; i < pg->link_count; i++)
		pg_link_init(&pg->links[i], pg);
	*ret_pg = pg;
	return 0;
}

void pg_close(struct pg *pg)
{
	if (!pg)
		return;
	for (uint32_t i = 0; i < pg->link_count; i++)
		pg_link_fini(&pg->links[i]);
	mem_free(pg->links);
	while (!list_empty(&pg->queue))
		pg_request_free(list_first(&pg->queue, struct pg_request, link));
	task_cancel(&pg->dispatch);
	timer_stop(&pg->wait);
	mem_wipe(pg->conninfo, strlen(pg->conninfo));
	mem_free(pg->conninfo);
	mem_free(pg->host);
	mem_free(pg);
}
