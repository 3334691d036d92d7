#include "lib/relay/relay_impl.h"

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/enc.h"
#include "lib/base/id.h"
#include "lib/base/mem.h"
#include "lib/store/blob.h"
#include "lib/store/pg.h"

#define ANSWER_MAX (64u << 20)
/* No job is open for longer: a week in queue, an hour running, and what a job's state is kept behind its deadline. What is older
 * than that when Redis lost its memory had ended, and its end is in PostgreSQL. */
#define OPEN_MS_MAX (9ULL * 24 * 3600 * 1000)

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
	return r;
}

void relay_use_blob(struct relay *relay, struct blob *blob)
{
	relay->blob = blob;
}

void relay_free(struct relay *relay)
{
	if (!relay)
		return;
	must(list_empty(&relay->follows));
	follow_reap(relay);
	task_cancel(&relay->reap);
	mem_free(relay);
}

bool relay_unsure(const struct relay *relay, struct str job)
{
	uint64_t epoch = redis_epoch_wall_ms(relay->redis), at = id_wall_ms(job);

	return at <= epoch && at + OPEN_MS_MAX > epoch;
}

/* ── ended jobs, from PostgreSQL ── */

struct relay_lookup {
	struct relay *relay;
	struct pg_request *pg;
	struct blob_request *blob;
	struct arena arena;
	struct buf text;
	struct result result;
	void (*done)(void *ctx, bool sure, const struct result *result);
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

static const char lookup_sql[] =
    "SELECT job, org, client_user, kind, lane, session, turn, task, model, status, attempt, tries, "
    "created_ms, picked_up_ms, first_token_ms, finished_ms, provider, account, target_model, "
    "answer_blob, bytes, parts, finish_reason, partial, input_tokens, cached_input_tokens, "
    "cache_write_tokens, output_tokens, cost_microusd, fault, fault_message, calls, "
    "turn_messages, metadata, log_topic, log_partition, log_offset, encode(answer, 'hex') "
    "FROM results WHERE job = $1 AND org = $2";

static void lookup_free(struct relay_lookup *l)
{
	arena_reset(&l->arena);
	buf_fini(&l->text);
	mem_free(l);
}

static void lookup_end(struct relay_lookup *l, bool sure, bool found)
{
	l->done(l->ctx, sure, found ? &l->result : NULL);
	lookup_free(l);
}

static void on_blob(void *ctx, enum blob_result result, struct str bytes)
{
	struct relay_lookup *l = ctx;

	l->blob = NULL;
	if (result == BLOB_OK)
		l->result.text = bytes;
	lookup_end(l, result == BLOB_OK, result == BLOB_OK);
}

static void read_row(struct relay_lookup *l, const struct pg_rows *rows)
{
	char *base = (char *)&l->result;

	codec_init(&codec_result, &l->result);
	l->result.v = 1;
	for (size_t c = 0; c < countof(columns); c++) {
		struct str text = pg_text(rows, 0, c);

		switch (columns[c].type) {
		case COLUMN_STR:
			*(struct str *)(base + columns[c].offset) =
			    (struct str){arena_dup(&l->arena, text.ptr, text.len), text.len};
			break;
		case COLUMN_INT:
			*(int64_t *)(base + columns[c].offset) = pg_int(rows, 0, c, 0);
			break;
		case COLUMN_BOOL:
			*(bool *)(base + columns[c].offset) = str_is(text, "t");
			break;
		}
	}
}

static void on_row(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct relay_lookup *l = ctx;
	const char *ref;

	l->pg = NULL;
	if (result != PG_OK || !pg_count(rows)) {
		lookup_end(l, result == PG_OK, false);
		return;
	}
	read_row(l, rows);
	if (l->result.text_blob.len && l->relay->blob) {
		ref = arena_dup(&l->arena, l->result.text_blob.ptr, l->result.text_blob.len);
		l->blob = blob_get(l->relay->blob, ref, ANSWER_MAX, on_blob, l);
		return;
	}
	if (enc_hex_decode(&l->text, pg_text(rows, 0, countof(columns))) != ENC_OK)
		buf_reset(&l->text);
	l->result.text = buf_str(&l->text);
	lookup_end(l, true, true);
}

struct relay_lookup *relay_result(struct relay *relay, struct str job, struct str org,
				  void (*done)(void *ctx, bool sure, const struct result *result),
				  void *ctx)
{
	struct relay_lookup *l = mem_new(struct relay_lookup);

	l->relay = relay;
	l->done = done;
	l->ctx = ctx;
	l->pg = pg_query(relay->pg, lookup_sql, (const struct str[]){job, org}, 2, on_row, l);
	return l;
}

void relay_lookup_cancel(struct relay_lookup *lookup)
{
	if (!lookup)
		return;
	if (lookup->pg)
		pg_cancel(lookup->pg);
	if (lookup->blob)
		blob_cancel(lookup->blob);
	lookup_free(lookup);
}
