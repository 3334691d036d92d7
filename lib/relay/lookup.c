/* Ended jobs, from PostgreSQL: what many ask for in a turn is one statement; answers that are blobs are read a few at a time. */
#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/enc.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/relay/relay_impl.h"
#include "lib/store/blob.h"

#define ANSWER_MAX (64u << 20)
/* Lookups in one statement, of so many bytes of answers together. A crowd that asks for jobs that are not there costs one
 * statement per turn, not one per job. */
#define BATCH_MAX 256
#define BATCH_BYTES (1 << 20)
#define WHOLE_BYTES (1 << 30)
/* Answers above 256 KiB that are read at a time: each is whole in memory. */
#define BLOBS_READ 2

struct relay_lookup {
	struct gather_ask ask;
	struct list link; /* of those whose blob waits */
	struct lookups *lookups;
	struct str job, org;
	int64_t at, most; /* bytes of the answer that are wanted */
	int64_t total;
	struct blob_request *blob;
	struct arena arena;
	struct buf text;
	struct result result;
	void (*done)(void *ctx, bool sure, const struct result *result);
	void (*piece)(void *ctx, bool sure, const struct result *result, int64_t total);
	void *ctx;
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
	gather_cancel(&l->ask);
	list_remove(&l->link);
	arena_reset(&l->arena);
	buf_fini(&l->text);
	mem_free(l);
}

static void lookup_end(struct relay_lookup *l, bool sure, bool found)
{
	const struct result *result = found ? &l->result : NULL;

	if (l->piece)
		l->piece(l->ctx, sure, result, l->total);
	else
		l->done(l->ctx, sure, result);
	lookup_free(l);
}

/* ── answers that are blobs ── */

static void read_blobs(struct lookups *all);

static void on_blob(void *ctx, enum blob_result result, struct str bytes)
{
	struct relay_lookup *l = ctx;
	struct lookups *all = l->lookups;
	int64_t left;

	l->blob = NULL;
	all->blob_count--;
	if (result == BLOB_OK) {
		l->total = (int64_t)bytes.len;
		left = l->total > l->at ? l->total - l->at : 0;
		l->result.text = (struct str){left ? bytes.ptr + l->at : bytes.ptr,
					      (size_t)(left < l->most ? left : l->most)};
	}
	lookup_end(l, result == BLOB_OK, result == BLOB_OK);
	read_blobs(all);
}

static void read_blobs(struct lookups *all)
{
	struct relay_lookup *l;

	while (all->blob_count < BLOBS_READ &&
	       (l = list_pop_front(&all->blobs, struct relay_lookup, link))) {
		all->blob_count++;
		l->blob = blob_get(all->blob, l->result.text_blob.ptr, ANSWER_MAX, on_blob, l);
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

static void answer(struct relay_lookup *l, const struct pg_rows *rows, size_t row)
{
	struct lookups *all = l->lookups;

	read_row(l, rows, row);
	l->total = pg_int(rows, row, countof(columns) + 1, 0);
	if (l->result.text_blob.len)
		l->total = l->result.bytes;
	if (l->result.text_blob.len && all->blob && l->most) {
		list_push_back(&all->blobs, &l->link);
		read_blobs(all);
		return;
	}
	if (enc_hex_decode(&l->text, pg_text(rows, row, countof(columns) + 2)) != ENC_OK)
		buf_reset(&l->text);
	l->result.text = buf_str(&l->text);
	lookup_end(l, true, true);
}

static void on_rows(struct gather_ask *ask, enum pg_result result, const struct pg_rows *rows,
		    size_t first, size_t count)
{
	struct relay_lookup *l = container_of(ask, struct relay_lookup, ask);

	if (count)
		answer(l, rows, first);
	else
		lookup_end(l, result == PG_OK, false);
}

static void put_lookup(const struct gather_ask *ask, struct buf *out)
{
	const struct relay_lookup *l = container_of(ask, struct relay_lookup, ask);
	struct json_out o = {.buf = out};

	json_open(&o, '{');
	json_put_int(&o, "n", (int64_t)ask->number);
	json_put_str(&o, "job", l->job);
	json_put_str(&o, "org", l->org);
	json_put_int(&o, "at", l->at);
	json_put_int(&o, "most", l->most);
	json_close(&o, '}');
}

static uint64_t bytes_wanted(const struct gather_ask *ask)
{
	return (uint64_t)container_of(ask, struct relay_lookup, ask)->most;
}

static const struct gather_kind ended = {
    .sql = lookup_sql,
    .open = '[',
    .close = ']',
    .most = BATCH_MAX,
    .weight = bytes_wanted,
    .most_weight = BATCH_BYTES,
    .put = put_lookup,
    .done = on_rows,
};

/* ── who asks ── */

static struct relay_lookup *lookup_new(struct relay *relay, struct str job, struct str org,
				       int64_t at, int64_t most, void *ctx)
{
	struct relay_lookup *l = mem_new(struct relay_lookup);

	l->lookups = &relay->lookups;
	l->job = (struct str){arena_dup(&l->arena, job.ptr, job.len), job.len};
	l->org = (struct str){arena_dup(&l->arena, org.ptr, org.len), org.len};
	l->at = at < WHOLE_BYTES ? at : WHOLE_BYTES;
	l->most = most;
	l->ctx = ctx;
	gather_add(&relay->lookups.gather, &l->ask);
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
	struct lookups *all;

	if (!lookup)
		return;
	all = lookup->lookups;
	if (lookup->blob) {
		blob_cancel(lookup->blob);
		all->blob_count--;
	}
	lookup_free(lookup);
	read_blobs(all);
}

/* ── life ── */

void lookups_init(struct lookups *all, struct loop *loop, struct pg *pg)
{
	gather_init(&all->gather, loop, pg, &ended, NULL);
	list_init(&all->blobs);
}

void lookups_fini(struct lookups *all)
{
	gather_fini(&all->gather);
	must(list_empty(&all->blobs));
}
