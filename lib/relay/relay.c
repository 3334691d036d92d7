#include "lib/relay/relay_impl.h"

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/enc.h"
#include "lib/base/id.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/store/blob.h"
#include "lib/store/pg.h"

#define ANSWER_MAX (64u << 20)
/* No job is open for longer: a week in queue, an hour running, and what a job's state is kept behind its deadline. What is older
 * than that when Redis lost its memory had ended, and its end is in PostgreSQL. */
#define OPEN_MS_MAX (9ULL * 24 * 3600 * 1000)

/* Lookups in one statement, of so many bytes of answers together; and statements on their way. A crowd that asks for jobs that are not there
 * costs one statement per turn, not one per job. */
#define BATCH_MAX 256
#define BATCH_BYTES (1 << 20)
#define BATCHES_SENT 2
#define WHOLE_BYTES (1 << 30)
/* Answers above 256 KiB that are read at a time: each is whole in memory. */
#define BLOBS_READ 2

static void on_ask(struct task *t);

static void on_reap(struct task *t)
{
	follow_reap(container_of(t, struct relay, reap));
}

struct relay *relay_new(struct loop *loop, struct redis *redis, struct pg *pg,
			const struct log *log)
{
	struct relay *r = mem_new(struct relay);

	r->loop = loop;
	r->redis = redis;
	r->pg = pg;
	r->log = log;
	list_init(&r->follows);
	list_init(&r->closed);
	task_init(&r->reap, loop, on_reap);
	list_init(&r->asking);
	list_init(&r->batches);
	list_init(&r->blobs);
	task_init(&r->ask, loop, on_ask);
	return r;
}

void relay_use_blob(struct relay *relay, struct blob *blob)
{
	relay->blob = blob;
}

bool relay_unsure(const struct relay *relay, struct str job)
{
	uint64_t epoch = redis_epoch_wall_ms(relay->redis), at = id_wall_ms(job);

	return at <= epoch && at + OPEN_MS_MAX > epoch;
}

/* ── ended jobs, from PostgreSQL ── */

struct relay_lookup {
	struct list link; /* of those that wait, of its batch, or of those whose blob waits */
	struct relay *relay;
	struct str job, org;
	int64_t at, most; /* bytes of the answer that are wanted */
	int64_t number;	  /* in its statement */
	int64_t total;
	struct blob_request *blob;
	struct arena arena;
	struct buf text;
	struct result result;
	void (*done)(void *ctx, bool sure, const struct result *result);
	void (*piece)(void *ctx, bool sure, const struct result *result, int64_t total);
	void *ctx;
};

/* A statement on its way. */
struct batch {
	struct list link;
	struct relay *relay;
	struct list lookups; /* who asked, and still does */
	struct pg_request *pg;
};

enum column_type { COLUMN_STR, COLUMN_INT, COLUMN_BOOL };

#define COLUMN(type, name)                          \
	{                                           \
		type, offsetof(struct result, name) \
	}
/* In the order of the statement. */
static const struct column {
	enum column_type type;
	size_t offset;
} columns[] = {
    COLUMN(COLUMN_STR, id),
    COLUMN(COLUMN_STR, org),
    COLUMN(COLUMN_STR, user),
    COLUMN(COLUMN_STR, kind),
    COLUMN(COLUMN_STR, lane),
    COLUMN(COLUMN_STR, session),
    COLUMN(COLUMN_INT, turn),
    COLUMN(COLUMN_STR, task),
    COLUMN(COLUMN_STR, model),
    COLUMN(COLUMN_STR, status),
    COLUMN(COLUMN_INT, attempt),
    COLUMN(COLUMN_INT, tries),
    COLUMN(COLUMN_INT, created_ms),
    COLUMN(COLUMN_INT, picked_up_ms),
    COLUMN(COLUMN_INT, first_token_ms),
    COLUMN(COLUMN_INT, finished_ms),
    COLUMN(COLUMN_STR, provider),
    COLUMN(COLUMN_STR, account),
    COLUMN(COLUMN_STR, target_model),
    COLUMN(COLUMN_STR, text_blob),
    COLUMN(COLUMN_INT, bytes),
    COLUMN(COLUMN_STR, parts),
    COLUMN(COLUMN_STR, finish_reason),
    COLUMN(COLUMN_BOOL, partial),
    COLUMN(COLUMN_INT, input_tokens),
    COLUMN(COLUMN_INT, cached_input_tokens),
    COLUMN(COLUMN_INT, cache_write_tokens),
    COLUMN(COLUMN_INT, output_tokens),
    COLUMN(COLUMN_INT, cost_microusd),
    COLUMN(COLUMN_STR, fault),
    COLUMN(COLUMN_STR, fault_message),
    COLUMN(COLUMN_STR, calls),
    COLUMN(COLUMN_STR, turn_messages),
    COLUMN(COLUMN_STR, metadata),
    COLUMN(COLUMN_STR, topic),
    COLUMN(COLUMN_INT, partition),
    COLUMN(COLUMN_INT, offset),
};

/* By the index, whatever the planner thinks of the list. */
static const char lookup_sql[] =
    "SELECT asked.n, found.* FROM json_to_recordset($1::json) "
    "AS asked(n int, job text, org text, at int, most int), LATERAL ("
    "SELECT job, org, client_user, kind, lane, session, turn, task, model, status, attempt, tries, "
    "created_ms, picked_up_ms, first_token_ms, finished_ms, provider, account, target_model, "
    "answer_blob, bytes, parts, finish_reason, partial, input_tokens, cached_input_tokens, "
    "cache_write_tokens, output_tokens, cost_microusd, fault, fault_message, calls, "
    "turn_messages, metadata, log_topic, log_partition, log_offset, octet_length(answer), "
    "encode(substring(answer, asked.at + 1, asked.most), 'hex') "
    "FROM results WHERE results.job = asked.job AND results.org = asked.org LIMIT 1"
    ") AS found ORDER BY n";

static void lookup_free(struct relay_lookup *l)
{
	list_remove(&l->link);
	arena_reset(&l->arena);
	buf_fini(&l->text);
	mem_free(l);
}

static void lookup_end(struct relay_lookup *l, bool sure, bool found)
{
	const struct result *result = found ? &l->result : NULL;

	list_remove(&l->link);
	if (l->piece)
		l->piece(l->ctx, sure, result, l->total);
	else
		l->done(l->ctx, sure, result);
	lookup_free(l);
}

/* ── answers that are blobs ── */

static void read_blobs(struct relay *r);

static void on_blob(void *ctx, enum blob_result result, struct str bytes)
{
	struct relay_lookup *l = ctx;
	struct relay *r = l->relay;
	int64_t left;

	l->blob = NULL;
	r->blob_count--;
	if (result == BLOB_OK) {
		l->total = (int64_t)bytes.len;
		left = l->total > l->at ? l->total - l->at : 0;
		l->result.text = (struct str){left ? bytes.ptr + l->at : bytes.ptr,
					      (size_t)(left < l->most ? left : l->most)};
	}
	lookup_end(l, result == BLOB_OK, result == BLOB_OK);
	read_blobs(r);
}

static void read_blobs(struct relay *r)
{
	struct relay_lookup *l;

	while (r->blob_count < BLOBS_READ &&
	       (l = list_pop_front(&r->blobs, struct relay_lookup, link))) {
		r->blob_count++;
		l->blob = blob_get(r->blob, l->result.text_blob.ptr, ANSWER_MAX, on_blob, l);
	}
}

/* ── rows ── */

/* The first column is the lookup's number. */
static void read_row(struct relay_lookup *l, const struct pg_rows *rows, size_t row)
{
	char *base = (char *)&l->result;

	codec_init(&codec_result, &l->result);
	l->result.v = 1;
	for (size_t c = 0; c < countof(columns); c++) {
		struct str text = pg_text(rows, row, c + 1);

		switch (columns[c].type) {
		case COLUMN_STR:
			*(struct str *)(base + columns[c].offset) =
			    (struct str){arena_dup(&l->arena, text.ptr, text.len), text.len};
			break;
		case COLUMN_INT:
			*(int64_t *)(base + columns[c].offset) = pg_int(rows, row, c + 1, 0);
			break;
		case COLUMN_BOOL:
			*(bool *)(base + columns[c].offset) = str_is(text, "t");
			break;
		}
	}
}

/* @row: its own; NULL rows where there is none. */
static void answer(struct relay_lookup *l, const struct pg_rows *rows, size_t row)
{
	struct relay *r = l->relay;

	read_row(l, rows, row);
	l->total = pg_int(rows, row, countof(columns) + 1, 0);
	if (l->result.text_blob.len)
		l->total = l->result.bytes;
	if (l->result.text_blob.len && r->blob && l->most) {
		list_push_back(&r->blobs, &l->link);
		return;
	}
	if (enc_hex_decode(&l->text, pg_text(rows, row, countof(columns) + 2)) != ENC_OK)
		buf_reset(&l->text);
	l->result.text = buf_str(&l->text);
	lookup_end(l, true, true);
}

static void batch_free(struct batch *b)
{
	if (b->pg)
		pg_cancel(b->pg);
	list_remove(&b->link);
	b->relay->batch_count--;
	mem_free(b);
}

static void on_rows(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct batch *b = ctx;
	struct relay *r = b->relay;
	size_t row = 0, count = result == PG_OK ? pg_count(rows) : 0;
	struct relay_lookup *l;

	b->pg = NULL;
	while ((l = list_pop_front(&b->lookups, struct relay_lookup, link))) {
		while (row < count && pg_int(rows, row, 0, 0) < l->number)
			row++; /* who asked for it is gone */
		if (row < count && pg_int(rows, row, 0, 0) == l->number)
			answer(l, rows, row);
		else
			lookup_end(l, result == PG_OK, false);
	}
	batch_free(b);
	read_blobs(r);
	if (!list_empty(&r->asking))
		task_post(&r->ask);
}

static void put(const struct relay_lookup *l, struct json_out *o)
{
	json_open(o, '{');
	json_put_int(o, "n", l->number);
	json_put_str(o, "job", l->job);
	json_put_str(o, "org", l->org);
	json_put_int(o, "at", l->at);
	json_put_int(o, "most", l->most);
	json_close(o, '}');
}

static void send_batch(struct relay *r)
{
	struct batch *b = mem_new(struct batch);
	struct buf list = {0};
	struct json_out o = {.buf = &list};
	struct relay_lookup *l;
	int64_t count = 0, bytes = 0;

	b->relay = r;
	list_init(&b->lookups);
	list_push_back(&r->batches, &b->link);
	r->batch_count++;
	json_open(&o, '[');
	while (count < BATCH_MAX && bytes < BATCH_BYTES &&
	       (l = list_pop_front(&r->asking, struct relay_lookup, link))) {
		list_push_back(&b->lookups, &l->link);
		l->number = ++count;
		bytes += l->most;
		put(l, &o);
	}
	json_close(&o, ']');
	b->pg = pg_query(r->pg, lookup_sql, (const struct str[]){buf_str(&list)}, 1, on_rows, b);
	buf_fini(&list);
}

static void on_ask(struct task *t)
{
	struct relay *r = container_of(t, struct relay, ask);

	while (!list_empty(&r->asking) && r->batch_count < BATCHES_SENT)
		send_batch(r);
}

/* ── who asks ── */

static struct relay_lookup *lookup_new(struct relay *relay, struct str job, struct str org,
				       int64_t at, int64_t most, void *ctx)
{
	struct relay_lookup *l = mem_new(struct relay_lookup);

	l->relay = relay;
	l->job = (struct str){arena_dup(&l->arena, job.ptr, job.len), job.len};
	l->org = (struct str){arena_dup(&l->arena, org.ptr, org.len), org.len};
	l->at = at < WHOLE_BYTES ? at : WHOLE_BYTES;
	l->most = most;
	l->ctx = ctx;
	list_push_back(&relay->asking, &l->link);
	task_post(&relay->ask);
	return l;
}

struct relay_lookup *relay_result(struct relay *relay, struct str job, struct str org,
				  void (*done)(void *ctx, bool sure, const struct result *result),
				  void *ctx)
{
	struct relay_lookup *l = lookup_new(relay, job, org, 0, WHOLE_BYTES, ctx);

	l->done = done;
	return l;
}

struct relay_lookup *
relay_piece(struct relay *relay, struct str job, struct str org, int64_t at, size_t most,
	    void (*done)(void *ctx, bool sure, const struct result *result, int64_t total),
	    void *ctx)
{
	struct relay_lookup *l = lookup_new(relay, job, org, at, (int64_t)most, ctx);

	l->piece = done;
	return l;
}

void relay_lookup_cancel(struct relay_lookup *lookup)
{
	struct relay *r;

	if (!lookup)
		return;
	r = lookup->relay;
	if (lookup->blob) {
		blob_cancel(lookup->blob);
		r->blob_count--;
		lookup_free(lookup);
		read_blobs(r);
	} else {
		lookup_free(lookup);
	}
}

void relay_free(struct relay *relay)
{
	struct batch *b;

	if (!relay)
		return;
	must(list_empty(&relay->follows));
	while ((b = list_first(&relay->batches, struct batch, link)))
		batch_free(b);
	task_cancel(&relay->ask);
	follow_reap(relay);
	task_cancel(&relay->reap);
	mem_free(relay);
}
