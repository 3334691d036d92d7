/* One connection to PostgreSQL in pipeline mode. A statement and its Sync are one transaction of the server's own; a
 * transaction of ours is BEGIN … COMMIT and its Sync. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/net/resolve.h"
#include "lib/store/pg_impl.h"

#define BACKOFF_MIN_US (50 * US_PER_MS)
#define BACKOFF_MAX_US (1 * US_PER_S)
#define CONNECT_US (5 * US_PER_S)
/* The server ends a statement that takes too long; where it does not answer at all, we cut the connection. */
#define GRACE_US (2 * US_PER_S)
#define TICK_US (250 * US_PER_MS)

static void on_ready(void *ctx, unsigned events);

static void link_fail(struct pg_link *link, const char *why)
{
	bool was_up = link->state == PG_LINK_UP;
	uint32_t doublings = link->failures < 6 ? link->failures : 6;
	uint64_t step = BACKOFF_MIN_US << doublings;
	struct list lost;

	if (link->state == PG_LINK_DOWN)
		return;
	/* libpq's text names hosts, users and databases, no secrets. */
	log_debug(&link->pg->log, "postgres connection failed", F_STR("why", why),
		  F_STR("detail", link->conn ? PQerrorMessage(link->conn) : ""));
	if (!was_up && link->failures == 3)
		log_warn(&link->pg->log, "postgres cannot be reached", F_STR("why", why),
			 F_STR("detail", link->conn ? PQerrorMessage(link->conn) : ""));
	resolve_cancel(link->resolve);
	link->resolve = NULL;
	watch_close(link->watch);
	link->watch = NULL;
	PQfinish(link->conn);
	link->conn = NULL;
	link->state = PG_LINK_DOWN;
	link->owed = 0;
	link->in_result = false;
	link->exclusive = false;
	link->failures++;
	if (step > BACKOFF_MAX_US)
		step = BACKOFF_MAX_US;
	timer_set(&link->timer, step / 2 + rand_below(loop_rand(link->pg->loop), step / 2 + 1));
	list_init(&lost);
	while (!list_empty(&link->active)) {
		struct list *at = link->active.next;

		list_remove(at);
		list_push_back(&lost, at);
	}
	link->count = 0;
	if (was_up)
		pg_up_changed(link->pg, -1);
	while (!list_empty(&lost))
		pg_request_finish(container_of(lost.next, struct pg_request, link), PG_LOST);
}

/* ── sending ── */

void pg_link_flush(struct pg_link *link)
{
	int r;

	if (link->state < PG_LINK_SETTING)
		return;
	r = PQflush(link->conn);
	if (r < 0) {
		link_fail(link, "write");
		return;
	}
	watch_set(link->watch, WATCH_READ | (r ? WATCH_WRITE : 0));
}

/* False where libpq did not take it (the connection is broken): the reader sees that too. */
static bool send_statement(struct pg_link *link, const char *sql, char *const *values, int count)
{
	if (!PQsendQueryParams(link->conn, sql, count, NULL, (const char *const *)values, NULL,
			       NULL, 0))
		return false;
	link->owed++;
	return true;
}

static bool send_sync(struct pg_link *link)
{
	if (!PQpipelineSync(link->conn))
		return false;
	link->owed++;
	return true;
}

static bool send_range(struct pg_link *link, struct pg_request *request, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++) {
		struct pg_ready *s = &request->statements[i];

		if (!send_statement(link, s->sql, s->values, s->count))
			return false;
	}
	return true;
}

static bool send_rest(struct pg_link *link, struct pg_request *request, size_t from)
{
	request->synced = true;
	return send_range(link, request, from, request->count) &&
	       (!request->transaction || send_statement(link, "COMMIT", NULL, 0)) &&
	       send_sync(link);
}

static bool send_rollback(struct pg_link *link, struct pg_request *request)
{
	request->synced = true;
	request->rolled = true;
	return send_statement(link, "ROLLBACK", NULL, 0) && send_sync(link);
}

static bool send_first(struct pg_link *link, struct pg_request *request)
{
	if (request->transaction && !send_statement(link, "BEGIN", NULL, 0))
		return false;
	if (!request->check)
		return send_rest(link, request, 0);
	/* Flush: the server answers what it has without a Sync. */
	return send_range(link, request, 0, request->check_at + 1) &&
	       PQsendFlushRequest(link->conn);
}

void pg_link_send(struct pg_link *link, struct pg_request *request)
{
	request->on = link;
	request->sent_us = loop_now_us(link->pg->loop);
	list_push_back(&link->active, &request->link);
	link->count++;
	link->exclusive = request->transaction;
	if (!send_first(link, request))
		link_fail(link, "libpq did not take a statement");
}

/* ── reading ── */

static void finish(struct pg_link *link, struct pg_request *request)
{
	enum pg_result result = request->failed || request->refused ? PG_FAILED : PG_OK;

	if (request->refused && !request->failed) {
		PQclear(request->rows.result);
		request->rows.result = NULL;
	}
	link->count--;
	link->exclusive = false;
	list_remove(&request->link);
	pg_dispatch_soon(link->pg);
	pg_request_finish(request, result);
}

/* A Sync's answer: the end, or (after a failure in a transaction) the moment to roll back. */
static bool on_sync(struct pg_link *link, struct pg_request *request)
{
	if (request->transaction && request->failed && !request->rolled)
		return send_rollback(link, request);
	finish(link, request);
	return true;
}

static void keep(struct pg_request *request, PGresult *result)
{
	PQclear(request->rows.result);
	request->rows.result = result;
}

/* Logged without the message's details, which may repeat values. */
static void on_error(struct pg_link *link, struct pg_request *request, PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

	keep(request, result);
	request->failed = true;
	snprintf(request->rows.sqlstate, sizeof(request->rows.sqlstate), "%s", state ? state : "");
	log_warn(&link->pg->log, "postgres refused a statement",
		 F_STR("sqlstate", request->rows.sqlstate), F_STR("message", primary),
		 F_UINT("statement", request->answered));
}

/* After the statement that is to be checked. A cancelled request is not asked any more: it is rolled back. */
static bool on_checkable(struct pg_link *link, struct pg_request *request)
{
	bool goes_on = request->done && request->check(request->ctx, &request->rows);

	if (goes_on)
		return send_rest(link, request, request->check_at + 1);
	request->refused = true;
	return send_rollback(link, request);
}

/* One statement's result. @result is ours. False where the connection is to be cut. */
static bool on_result(struct pg_link *link, struct pg_request *request, PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);
	size_t first = request->transaction ? 1 : 0; /* after BEGIN */
	size_t index = request->answered - first;
	bool statement = request->answered >= first && index < request->count && !request->rolled;

	request->answered++;
	if (status == PGRES_PIPELINE_ABORTED) {
		PQclear(result);
		return true;
	}
	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
		if (request->failed || request->rolled) {
			PQclear(result);
			return true;
		}
		on_error(link, request, result);
		/* What waits for a check has no Sync yet. */
		if (!request->synced) {
			request->synced = true;
			return send_sync(link);
		}
		return true;
	}
	if (!statement || request->failed) {
		PQclear(result);
		return true;
	}
	keep(request, result);
	if (request->check && index == request->check_at && !request->synced)
		return on_checkable(link, request);
	return true;
}

static void link_up(struct pg_link *link)
{
	link->state = PG_LINK_UP;
	link->failures = 0;
	timer_set(&link->timer, TICK_US);
	pg_up_changed(link->pg, +1);
}

/* The server ended the session: what was under way may or may not have been done. */
static bool is_fatal(const PGresult *result)
{
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

	return severity && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0);
}

/* What libpq gives next: a result (or the NULL behind it), or a Sync's. */
static bool take_result(struct pg_link *link, PGresult *result)
{
	struct pg_request *request = list_first(&link->active, struct pg_request, link);
	bool sync = result && PQresultStatus(result) == PGRES_PIPELINE_SYNC;

	if (!result) {
		link->in_result = false;
		return true;
	}
	link->owed--;
	link->in_result = !sync;
	if (is_fatal(result) || PQstatus(link->conn) == CONNECTION_BAD) {
		PQclear(result);
		return false;
	}
	if (link->state == PG_LINK_SETTING) {
		bool good = sync || PQresultStatus(result) == PGRES_TUPLES_OK;

		PQclear(result);
		if (sync)
			link_up(link);
		return good;
	}
	if (!request) {
		PQclear(result);
		return false;
	}
	if (sync) {
		PQclear(result);
		return on_sync(link, request);
	}
	return on_result(link, request, result);
}

static void link_read(struct pg_link *link)
{
	if (!PQconsumeInput(link->conn)) {
		link_fail(link, "read");
		return;
	}
	while (link->owed || link->in_result) {
		if (PQisBusy(link->conn))
			break;
		if (!take_result(link, PQgetResult(link->conn))) {
			link_fail(link, "the session ended");
			return;
		}
	}
	if (PQstatus(link->conn) == CONNECTION_BAD)
		link_fail(link, "the server closed the connection");
	else
		pg_link_flush(link);
}

/* ── connecting ── */

static void no_notice(void *ctx, const PGresult *result)
{
	struct pg *pg = ctx;

	log_debug(&pg->log, "postgres notice",
		  F_STR("message", PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY)));
}

static void link_set(struct pg_link *link)
{
	char limit[32], idle[32];
	char *limits[] = {limit}, *idles[] = {idle};

	snprintf(limit, sizeof(limit), "%llu",
		 (unsigned long long)(link->pg->options.timeout_us / US_PER_MS));
	snprintf(idle, sizeof(idle), "%llu",
		 (unsigned long long)(link->pg->options.idle_us / US_PER_MS));
	link->state = PG_LINK_SETTING;
	PQsetNoticeReceiver(link->conn, no_notice, link->pg);
	if (PQsetnonblocking(link->conn, 1) || !PQenterPipelineMode(link->conn) ||
	    !send_statement(link,
			    "SELECT set_config('statement_timeout', $1, false), "
			    "set_config('idle_in_transaction_session_timeout', $1, false)",
			    limits, 1) ||
	    (link->pg->options.idle_us &&
	     !send_statement(link, "SELECT set_config('idle_session_timeout', $1, false)", idles,
			     1)) ||
	    !send_sync(link)) {
		link_fail(link, "session");
		return;
	}
	pg_link_flush(link);
}

/* Each step may come with another socket, also one of the same number: the watch is made anew. */
static void link_poll(struct pg_link *link)
{
	PostgresPollingStatusType status;

	watch_close(link->watch);
	link->watch = NULL;
	status = PQconnectPoll(link->conn);
	if (status == PGRES_POLLING_FAILED) {
		link_fail(link, "connect");
		return;
	}
	link->watch = watch_open(link->pg->loop, PQsocket(link->conn), on_ready, link);
	if (!link->watch) {
		link_fail(link, "socket");
		return;
	}
	if (status == PGRES_POLLING_OK)
		link_set(link);
	else
		watch_set(link->watch, status == PGRES_POLLING_READING ? WATCH_READ : WATCH_WRITE);
}

static void on_ready(void *ctx, unsigned events)
{
	struct pg_link *link = ctx;

	if (link->state == PG_LINK_CONNECTING) {
		link_poll(link);
		return;
	}
	if (events & WATCH_WRITE)
		pg_link_flush(link);
	if (link->state >= PG_LINK_SETTING && (events & WATCH_READ))
		link_read(link);
}

static void link_connect(struct pg_link *link)
{
	/* What stands later wins: conninfo may set all but the last two. */
	const char *keys[] = {"gssencmode", "fallback_application_name",
			      "dbname",	    "client_encoding",
			      "hostaddr",   NULL};
	const char *values[] = {"disable",
				"sluice",
				link->pg->conninfo,
				"UTF8",
				link->address[0] ? link->address : NULL,
				NULL};

	link->state = PG_LINK_CONNECTING;
	link->conn = PQconnectStartParams(keys, values, 1);
	if (!link->conn || PQstatus(link->conn) == CONNECTION_BAD) {
		link_fail(link, "connect");
		return;
	}
	link->watch = watch_open(link->pg->loop, PQsocket(link->conn), on_ready, link);
	if (!link->watch)
		link_fail(link, "socket");
	else
		watch_set(link->watch, WATCH_WRITE);
}

static void on_resolved(void *ctx, const struct resolve_addr *addrs, int count, int error,
			const char *detail)
{
	struct pg_link *link = ctx;
	const struct resolve_addr *a;

	(void)error;
	link->resolve = NULL;
	if (!count) {
		link_fail(link, detail ? detail : "name");
		return;
	}
	/* One after the other, from try to try. */
	a = &addrs[link->failures % (uint32_t)count];
	if (getnameinfo((const struct sockaddr *)&a->addr, a->len, link->address,
			sizeof(link->address), NULL, 0, NI_NUMERICHOST)) {
		link_fail(link, "address");
		return;
	}
	link_connect(link);
}

static void on_timer(struct timer *timer)
{
	struct pg_link *link = container_of(timer, struct pg_link, timer);
	struct pg_request *oldest = list_first(&link->active, struct pg_request, link);
	uint64_t now = loop_now_us(link->pg->loop);

	if (link->state == PG_LINK_UP) {
		uint64_t limit = link->pg->options.timeout_us + GRACE_US;

		timer_set(&link->timer, TICK_US);
		if (oldest && now - oldest->sent_us > limit * (oldest->count + 1))
			link_fail(link, "no answer in time");
		return;
	}
	if (link->state != PG_LINK_DOWN) {
		link_fail(link, "connecting took too long");
		return;
	}
	timer_set(&link->timer, CONNECT_US);
	if (!link->pg->host) {
		link_connect(link);
		return;
	}
	link->state = PG_LINK_RESOLVING;
	link->resolve = resolve_start(link->pg->loop, link->pg->host, 0, on_resolved, link);
}

void pg_link_init(struct pg_link *link, struct pg *pg)
{
	link->pg = pg;
	list_init(&link->active);
	timer_init(&link->timer, pg->loop, on_timer);
	timer_set(&link->timer, 0);
}

void pg_link_fini(struct pg_link *link)
{
	timer_stop(&link->timer);
	resolve_cancel(link->resolve);
	watch_close(link->watch);
	PQfinish(link->conn);
	while (!list_empty(&link->active))
		pg_request_free(list_first(&link->active, struct pg_request, link));
}
