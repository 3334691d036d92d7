#include "consumers/archive/archive.h"

#include <errno.h>
#include <string.h>

#include "consumers/archive/batch.h"
#include "consumers/archive/row.h"
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/plant.h"
#include "lib/base/sm.h"
#include "lib/lane/lane.h"
#include "lib/net/loop.h"
#include "lib/store/pg.h"
#include "lib/svc/stores.h"
#include "lib/svc/svc.h"
#include "schemas/lanes.h"

#define TICK_US (1 * US_PER_S)

enum archive_state {
	ARCHIVE_WAITING, /* the partitions are not known yet */
	ARCHIVE_ASKING,	 /* the stored offsets are being read */
	ARCHIVE_BACKOFF, /* before they are read again */
	ARCHIVE_READING, /* records are gathered */
	ARCHIVE_WRITING, /* as before, and a transaction is under way */
	ARCHIVE_ENDED,
};

static const struct sm_state states[] = {
    [ARCHIVE_WAITING] = {"waiting", SM(ARCHIVE_ASKING) | SM(ARCHIVE_ENDED)},
    [ARCHIVE_ASKING] = {"asking", SM(ARCHIVE_READING) | SM(ARCHIVE_BACKOFF) | SM(ARCHIVE_ASKING) |
				      SM(ARCHIVE_ENDED)},
    [ARCHIVE_BACKOFF] = {"backoff", SM(ARCHIVE_ASKING) | SM(ARCHIVE_ENDED)},
    [ARCHIVE_READING] = {"reading", SM(ARCHIVE_WRITING) | SM(ARCHIVE_ASKING) | SM(ARCHIVE_ENDED)},
    [ARCHIVE_WRITING] = {"writing", SM(ARCHIVE_READING) | SM(ARCHIVE_ASKING) | SM(ARCHIVE_BACKOFF) |
					SM(ARCHIVE_ENDED)},
    [ARCHIVE_ENDED] = {"ended", 0},
};

/* Where one partition stands: stored ≤ sent ≤ read. */
struct place {
	int64_t stored; /* in the table */
	int64_t sent;	/* in the transaction under way */
	int64_t read;	/* behind the last record that was gathered */
	bool known;
};

struct archive_metrics {
#define METRIC(field, name, type, help, labels) struct metric *field;
#include "consumers/archive/metrics.def"
#undef METRIC
};

struct archive {
	struct sm sm;
	struct svc *svc;
	const struct archive_options *options;
	struct archive_metrics metric;
	char *topic;
	struct pg *pg;
	struct lane_follower *follower;
	struct pg_request *request; /* asking or writing */
	struct place *places;
	int32_t place_count;
	int32_t partition_count; /* as Kafka said last */
	struct batch filling;
	struct batch sending;
	bool paused;
	size_t
	    limit; /* records of the next batch: falls where PostgreSQL refuses one, to find the record that it refuses */
	size_t suspects; /* about so many records more may hold it: the limit does not grow */
	int32_t refused_partition; /* the record that is skipped when it comes again; -1: none */
	int64_t refused_offset;
	unsigned failures;
	uint64_t begun_us;
	struct timer gather;
	struct timer backoff;
	struct timer tick;
	bool in_trouble; /* Kafka said what an operator must act on, and no record came since */
	bool draining;
	void (*drained)(void *ctx);
	void *drained_ctx;
};

static void ask(struct archive *a);
static void send_batch(struct archive *a);

static void count(struct metric *metric, size_t by)
{
	if (by)
		series_add(metric_only(metric), (double)by);
}

static void pause_reading(struct archive *a, bool pause)
{
	if (a->paused == pause)
		return;
	a->paused = pause;
	lane_follower_pause(a->follower, pause);
}

static void end(struct archive *a)
{
	void (*drained)(void *ctx) = a->drained;

	if (sm_state(&a->sm) != ARCHIVE_ENDED)
		sm_move(&a->sm, ARCHIVE_ENDED);
	timer_stop(&a->gather);
	timer_stop(&a->backoff);
	a->drained = NULL;
	if (drained)
		drained(a->drained_ctx);
}

/* ── the way back from any failure ── */

static void forget(struct archive *a)
{
	batch_fini(&a->filling);
	batch_fini(&a->sending);
	timer_stop(&a->gather);
	pause_reading(a, true);
}

static void back_off(struct archive *a)
{
	uint64_t wait_ms = a->options->backoff_ms, max_ms = a->options->backoff_max_ms;

	forget(a);
	if (a->draining) {
		end(a);
		return;
	}
	for (unsigned i = 0; i < a->failures && wait_ms < max_ms; i++)
		wait_ms *= 2;
	if (wait_ms > max_ms)
		wait_ms = max_ms;
	a->failures++;
	sm_move(&a->sm, ARCHIVE_BACKOFF);
	timer_set(&a->backoff,
		  (wait_ms / 2 + rand_below(loop_rand(a->svc->loop), wait_ms / 2 + 1)) * US_PER_MS);
}

static void on_backoff(struct timer *t)
{
	ask(container_of(t, struct archive, backoff));
}

/* ── where we stand ── */

static void on_offsets(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct archive *a = ctx;
	size_t known = 0;

	a->request = NULL;
	if (result != PG_OK) {
		log_warn(&a->svc->log, "offsets cannot be read", F_INT("result", result));
		back_off(a);
		return;
	}
	for (size_t i = 0; i < pg_count(rows); i++) {
		int64_t partition = pg_int(rows, i, 0, -1), next = pg_int(rows, i, 1, -1);

		if (partition < 0 || partition >= a->place_count || next < 0)
			continue;
		a->places[partition] = (struct place){next, next, next, true};
		known++;
	}
	if (known < (size_t)a->place_count) { /* somebody else is making the rows just now */
		back_off(a);
		return;
	}
	if (a->place_count < a->partition_count) {
		ask(a);
		return;
	}
	sm_move(&a->sm, ARCHIVE_READING);
	for (int32_t p = 0; p < a->place_count; p++)
		lane_follow(a->follower, p, a->places[p].stored);
	log_info(&a->svc->log, "following results", F_INT("partitions", a->place_count));
	pause_reading(a, a->draining);
	if (a->draining)
		end(a);
}

/* Makes the rows that are missing, and reads all. */
static const char offsets_sql[] =
    "WITH made AS (INSERT INTO lane_offsets (reader, topic, partition, next_offset) "
    "SELECT 'archive', $1, p, 0 FROM generate_series(0, $2::int - 1) p ON CONFLICT DO NOTHING "
    "RETURNING partition, next_offset) "
    "SELECT partition, next_offset FROM made UNION ALL "
    "SELECT partition, next_offset FROM lane_offsets WHERE reader = 'archive' AND topic = $1";

static void ask(struct archive *a)
{
	struct buf number = {0};
	struct str params[2] = {str_of(a->topic)};

	forget(a);
	sm_move(&a->sm, ARCHIVE_ASKING);
	mem_free(a->places);
	a->place_count = a->partition_count;
	a->places = mem_alloc((size_t)a->place_count * sizeof(*a->places));
	buf_add_i64(&number, a->place_count);
	params[1] = buf_str(&number);
	a->request = pg_query(a->pg, offsets_sql, params, 2, on_offsets, a);
	buf_fini(&number);
}

static void on_partitions(void *ctx, int32_t partition_count)
{
	struct archive *a = ctx;

	a->partition_count = partition_count;
	switch ((enum archive_state)sm_state(&a->sm)) {
	case ARCHIVE_WAITING:
	case ARCHIVE_READING:
		ask(a);
		return;
	case ARCHIVE_ASKING: /* seen when they are known */
	case ARCHIVE_WRITING:
	case ARCHIVE_BACKOFF:
	case ARCHIVE_ENDED:
		return;
	}
}

/* ── gathering ── */

static bool full(const struct archive *a)
{
	return a->filling.records >= a->limit ||
	       batch_bytes(&a->filling) >= a->options->batch_bytes;
}

static void look(struct archive *a)
{
	if (sm_state(&a->sm) == ARCHIVE_READING && a->place_count < a->partition_count) {
		ask(a);
		return;
	}
	if (full(a) && sm_state(&a->sm) == ARCHIVE_READING)
		send_batch(a);
	else if (full(a))
		pause_reading(a, true);
	else if (a->filling.records && !timer_is_set(&a->gather))
		timer_set(&a->gather, a->options->gather_ms * US_PER_MS);
}

static void on_gather(struct timer *t)
{
	struct archive *a = container_of(t, struct archive, gather);

	if (sm_state(&a->sm) == ARCHIVE_READING && a->filling.records)
		send_batch(a);
}

static void on_record(void *ctx, int32_t partition, int64_t offset, uint64_t wall_ms,
		      struct str key, struct str body)
{
	struct archive *a = ctx;
	char why[ROW_WHY_SIZE] = "refused by postgresql";
	bool good;

	(void)key;
	if (sm_state(&a->sm) != ARCHIVE_READING && sm_state(&a->sm) != ARCHIVE_WRITING)
		return;
	if (partition >= a->place_count || offset < a->places[partition].read)
		return;
	a->in_trouble = false;
	if (partition == a->refused_partition && offset == a->refused_offset) {
		a->refused_partition = -1;
		batch_skip(&a->filling, wall_ms);
		good = false;
	} else if (PLANTED(ARCHIVE_DROPS) && sm_state(&a->sm) == ARCHIVE_WRITING) {
		good = true;
	} else {
		good = batch_add(&a->filling, wall_ms, body, why, sizeof(why));
	}
	a->places[partition].read = offset + 1;
	if (!good) {
		log_error(&a->svc->log, "result skipped", F_STR("topic", a->topic),
			  F_INT("partition", partition), F_INT("offset", offset),
			  F_STR("why", why));
	}
	look(a);
}

static void on_trouble(void *ctx, const char *what)
{
	struct archive *a = ctx;

	a->in_trouble = true;
	count(a->metric.trouble, 1);
	log_error(&a->svc->log, "kafka is in trouble", F_STR("what", what));
}

/* ── writing ── */

static const char move_sql[] =
    "UPDATE lane_offsets o SET next_offset = m.new FROM "
    "json_to_recordset($1::json) AS m(part integer, old bigint, new bigint) "
    "WHERE o.reader = 'archive' AND o.topic = $2 AND o.partition = m.part AND o.next_offset = "
    "m.old";

/* Only the jobs that this statement inserts have calls in the ledger, a webhook, a place in the outbox. The list's order is kept, so the first wins. */
static char *insert_sql(void)
{
	return mem_printf(
	    "WITH made AS (INSERT INTO results (%s) SELECT %s FROM json_to_recordset($1::json) AS "
	    "r(%s) "
	    "ON CONFLICT (job) DO NOTHING RETURNING job), "
	    "ledger AS (INSERT INTO calls (%s) SELECT %s FROM json_to_recordset($2::json) AS c(%s) "
	    "WHERE job IN (SELECT job FROM made) ON CONFLICT DO NOTHING RETURNING job), "
	    "hooks AS (INSERT INTO webhooks (job, org, url, origin, due_ms, created_ms) "
	    "SELECT job, org, url, origin, finished_ms, finished_ms "
	    "FROM json_to_recordset($3::json) AS h(job text, org text, url text, origin text, "
	    "finished_ms bigint) WHERE job IN (SELECT job FROM made) "
	    "ON CONFLICT DO NOTHING RETURNING job), "
	    "kept AS (INSERT INTO outbox (session, job, at_ms) SELECT session, job, at_ms "
	    "FROM json_to_recordset($4::json) AS o(session text, job text, at_ms bigint) "
	    "WHERE job IN (SELECT job FROM made) ON CONFLICT DO NOTHING) "
	    "SELECT (SELECT count(*) FROM made), (SELECT count(*) FROM ledger), "
	    "(SELECT count(*) FROM hooks)",
	    row_results.names, row_results.names, row_results.typed, row_calls.names,
	    row_calls.names, row_calls.typed);
}

static bool all_moved(void *ctx, const struct pg_rows *rows)
{
	const struct archive *a = ctx;
	uint64_t moves = 0;

	for (int32_t p = 0; p < a->place_count; p++)
		moves += a->places[p].sent != a->places[p].stored;
	return pg_affected(rows) == moves;
}

static void committed(struct archive *a, const struct pg_rows *rows)
{
	size_t rows_made = (size_t)pg_int(rows, 0, 0, 0);
	size_t grown = a->limit * 2, most = (size_t)a->options->batch_records;

	series_add(metric_one(a->metric.batches, "done"), 1);
	series_observe_us(metric_only(a->metric.batch), loop_now_us(a->svc->loop) - a->begun_us);
	count(a->metric.rows, rows_made);
	count(a->metric.calls, (size_t)pg_int(rows, 0, 1, 0));
	count(a->metric.webhooks, (size_t)pg_int(rows, 0, 2, 0));
	count(a->metric.duplicates, a->sending.rows - rows_made + a->sending.repeated);
	count(a->metric.bad, a->sending.records - a->sending.rows - a->sending.repeated);
	log_debug(&a->svc->log, "batch committed", F_UINT("records", a->sending.records),
		  F_UINT("rows", rows_made));
	for (int32_t p = 0; p < a->place_count; p++)
		a->places[p].stored = a->places[p].sent;
	a->failures = 0;
	a->suspects -= a->sending.records < a->suspects ? a->sending.records : a->suspects;
	if (!a->suspects)
		a->limit = grown < most ? grown : most;
	batch_fini(&a->sending);
	sm_move(&a->sm, ARCHIVE_READING);
	if (a->filling.records) {
		send_batch(a);
		return;
	}
	if (a->draining)
		end(a);
	else
		look(a);
}

/* A record that PostgreSQL will never take: found by halving, then skipped. */
static void refused(struct archive *a)
{
	a->failures = 0;
	a->suspects = a->sending.records;
	if (a->sending.records > 1) {
		a->limit = a->sending.records / 2;
		return;
	}
	for (int32_t p = 0; p < a->place_count; p++) {
		if (a->places[p].sent == a->places[p].stored)
			continue;
		a->refused_partition = p;
		a->refused_offset = a->places[p].sent - 1;
	}
}

static void failed(struct archive *a, enum pg_result result, const char *sqlstate)
{
	const char *outcome = "refused";

	switch (result) {
	case PG_AWAY:
		outcome = "away";
		break;
	case PG_LOST:
		outcome = "lost";
		break;
	case PG_OK:
	case PG_FAILED:
		if (!sqlstate[0])
			outcome = "overtaken";
		/* Classes 22 (data) and 23 (constraint) hold whenever it is tried; others may pass. */
		else if (strncmp(sqlstate, "22", 2) == 0 || strncmp(sqlstate, "23", 2) == 0)
			refused(a);
		break;
	}
	series_add(metric_one(a->metric.batches, outcome), 1);
	log_warn(&a->svc->log, "batch not committed: reading the offsets again",
		 F_STR("outcome", outcome), F_STR("sqlstate", sqlstate),
		 F_UINT("records", a->sending.records));
	back_off(a);
}

static void on_batch(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct archive *a = ctx;

	a->request = NULL;
	if (result == PG_OK)
		committed(a, rows);
	else
		failed(a, result, result == PG_FAILED ? pg_sqlstate(rows) : "");
}

static void write_moves(struct archive *a, struct buf *out)
{
	struct json_out o = {.buf = out};

	json_open(&o, '[');
	for (int32_t p = 0; p < a->place_count; p++) {
		struct place *place = &a->places[p];

		place->sent = place->read;
		if (place->sent == place->stored)
			continue;
		json_open(&o, '{');
		json_put_int(&o, "part", p);
		json_put_int(&o, "old", place->stored);
		json_put_int(&o, "new", place->sent);
		json_close(&o, '}');
	}
	json_close(&o, ']');
}

static void brackets(struct buf *inside, struct buf *out)
{
	buf_add_char(out, '[');
	buf_add_str(out, buf_str(inside));
	buf_add_char(out, ']');
	buf_fini(inside);
}

static void send_batch(struct archive *a)
{
	cleanup_free char *insert = insert_sql();
	struct buf moves = {0};
	struct row_lists lists = {0};

	a->sending = a->filling;
	a->filling = (struct batch){0};
	timer_stop(&a->gather);
	write_moves(a, &moves);
	brackets(&a->sending.lists.results, &lists.results);
	brackets(&a->sending.lists.calls, &lists.calls);
	brackets(&a->sending.lists.webhooks, &lists.webhooks);
	brackets(&a->sending.lists.outbox, &lists.outbox);
	{
		const struct str to[] = {buf_str(&moves), str_of(a->topic)};
		const struct str rows[] = {buf_str(&lists.results), buf_str(&lists.calls),
					   buf_str(&lists.webhooks), buf_str(&lists.outbox)};
		const struct pg_statement statements[] = {{move_sql, to, 2}, {insert, rows, 4}};

		a->begun_us = loop_now_us(a->svc->loop);
		a->request = pg_transaction(a->pg, statements, 2, 0, all_moved, on_batch, a);
	}
	buf_fini(&moves);
	row_lists_fini(&lists);
	sm_move(&a->sm, ARCHIVE_WRITING);
	pause_reading(a, a->draining);
}

/* ── life ── */

static void on_tick(struct timer *t)
{
	struct archive *a = container_of(t, struct archive, tick);
	uint64_t oldest =
	    a->sending.oldest_wall_ms ? a->sending.oldest_wall_ms : a->filling.oldest_wall_ms;
	uint64_t now = loop_wall_ms(a->svc->loop);

	series_set(metric_only(a->metric.lag),
		   oldest && now > oldest ? (double)(now - oldest) / 1000.0 : 0);
	series_set(metric_only(a->metric.waiting),
		   (double)(a->sending.records + a->filling.records));
	timer_set(t, TICK_US);
}

static int open_pg(struct archive *a)
{
	const struct config_postgres *c = &a->svc->config->postgres;
	struct pg_options options = pg_defaults();

	options.conninfo = c->conninfo;
	options.connections = 1;
	options.wait_us = c->connect_ms * US_PER_MS;
	options.timeout_us = c->query_ms * US_PER_MS;
	return pg_open(a->svc->loop, &options, &a->svc->log, &a->pg);
}

static int open_follower(struct archive *a)
{
	static const struct lane_follower_ops ops = {
	    .partitions = on_partitions, .record = on_record, .trouble = on_trouble};
	struct lane_options kafka = stores_kafka(a->svc->config, a->svc->id);

	return lane_follower_open(a->svc->loop, &kafka, a->topic, &ops, a, &a->svc->log,
				  &a->follower);
}

int archive_open(struct svc *svc, struct archive **ret_archive)
{
	struct archive *a = mem_new(struct archive);
	int r;

	*ret_archive = a;
	a->svc = svc;
	a->options = svc->options;
	a->limit = (size_t)a->options->batch_records;
	a->refused_partition = -1;
	a->topic = topic_full(svc->config->kafka.topic_prefix, TOPIC_RESULTS);
	sm_init(&a->sm, states, &svc->log, "archive", ARCHIVE_WAITING);
	timer_init(&a->gather, svc->loop, on_gather);
	timer_init(&a->backoff, svc->loop, on_backoff);
	timer_init(&a->tick, svc->loop, on_tick);
#define METRIC(field, name, type, help, labels) \
	a->metric.field = metric_register(&svc->metrics, name, METRIC_##type, help, labels);
#include "consumers/archive/metrics.def"
#undef METRIC
	r = open_pg(a);
	if (!r)
		r = open_follower(a);
	if (r) {
		log_error(&svc->log, "cannot start", F_ERR(r));
		return err_trace(r);
	}
	timer_set(&a->tick, TICK_US);
	return 0;
}

void archive_ready(struct archive *a, void (*waits)(void *ctx, const char *what), void *ctx)
{
	if (!pg_up(a->pg))
		waits(ctx, "postgresql");
	if (!a->partition_count)
		waits(ctx, "kafka");
	else if (sm_state(&a->sm) == ARCHIVE_ASKING || sm_state(&a->sm) == ARCHIVE_BACKOFF)
		waits(ctx, "offsets");
	if (a->in_trouble)
		waits(ctx, "results");
}

void archive_drain(struct archive *a, void (*drained)(void *ctx), void *ctx)
{
	a->draining = true;
	a->drained = drained;
	a->drained_ctx = ctx;
	pause_reading(a, true);
	switch ((enum archive_state)sm_state(&a->sm)) {
	case ARCHIVE_READING:
		if (a->filling.records)
			send_batch(a);
		else
			end(a);
		return;
	case ARCHIVE_WRITING:
		return;
	case ARCHIVE_WAITING:
	case ARCHIVE_ASKING:
	case ARCHIVE_BACKOFF:
		pg_cancel(a->request);
		a->request = NULL;
		end(a);
		return;
	case ARCHIVE_ENDED:
		end(a);
		return;
	}
}

void archive_close(struct archive *a)
{
	if (!a)
		return;
	timer_stop(&a->gather);
	timer_stop(&a->backoff);
	timer_stop(&a->tick);
	lane_follower_close(a->follower);
	pg_close(a->pg);
	batch_fini(&a->filling);
	batch_fini(&a->sending);
	mem_free(a->places);
	mem_free(a->topic);
	mem_free(a);
}
