#include "lib/identity/keys.h"

#include <errno.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/list.h"
#include "lib/base/map.h"
#include "lib/base/mem.h"
#include "lib/net/loop.h"
#include "lib/store/pg.h"

#define SECRET_LEN 40

/* A key that was asked for, under its hash. */
struct known {
	struct list
	    link; /* in keys->good or keys->bad by age; in keys->asking while it is asked for */
	struct keys *keys;
	char hash[DIGEST_SHA256_HEX_SIZE];
	bool good; /* @who holds since @known_us */
	bool bad;
	struct identity who;
	uint64_t known_us;
	struct list waiters;
	struct pg_request *asking;
	struct timer patience; /* with PostgreSQL */
	bool late;	       /* it is over: nobody waits for the answer */
};

struct keys_request {
	struct list link; /* in its known's waiters or in keys->ready */
	keys_fn *done;
	void *ctx;
	enum keys_result result;
	struct identity who;
};

struct keys {
	struct loop *loop;
	struct pg *pg;
	struct keys_options options;
	struct log log;
	struct map by_hash;
	struct list good; /* oldest first */
	struct list bad;
	struct list asking;
	size_t good_count;
	size_t bad_count;
	struct list ready; /* answered, to be called in the task */
	struct task answer;
};

struct keys_options keys_defaults(void)
{
	return (struct keys_options){
	    .good_us = 60 * US_PER_S,
	    .bad_us = 5 * US_PER_S,
	    .ask_us = 3 * US_PER_S,
	    .away_us = 3600 * US_PER_S,
	    .max_remembered = 100000,
	};
}

/* ── the key's text ── */

static bool base62(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool keys_shape(struct str token)
{
	size_t prefix = sizeof(KEYS_PREFIX) - 1;

	if (token.len != prefix + SECRET_LEN || !str_starts(token, KEYS_PREFIX))
		return false;
	for (size_t i = prefix; i < token.len; i++) {
		if (!base62(token.ptr[i]))
			return false;
	}
	return true;
}

void keys_make(char out[static KEYS_TOKEN_SIZE])
{
	static const char digits[] =
	    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	size_t n = sizeof(KEYS_PREFIX) - 1;

	memcpy(out, KEYS_PREFIX, n);
	while (n < KEYS_TOKEN_SIZE - 1) {
		unsigned char bytes[64];

		digest_random(bytes, sizeof(bytes));
		/* 248 = 4 · 62: above it digits would not be equally likely. */
		for (size_t i = 0; i < sizeof(bytes) && n < KEYS_TOKEN_SIZE - 1; i++) {
			if (bytes[i] < 248)
				out[n++] = digits[bytes[i] % 62];
		}
		mem_wipe(bytes, sizeof(bytes));
	}
	out[n] = '\0';
}

void keys_hash(struct str token, char out[static DIGEST_SHA256_HEX_SIZE])
{
	digest_sha256_hex(token, out);
}

/* ── what is remembered ── */

static void unlist(struct known *known)
{
	struct keys *keys = known->keys;

	list_remove(&known->link);
	if (known->asking)
		return;
	if (known->good)
		keys->good_count--;
	else if (known->bad)
		keys->bad_count--;
}

static void known_free(struct known *known)
{
	unlist(known);
	pg_cancel(known->asking);
	timer_stop(&known->patience);
	map_take(&known->keys->by_hash, str_of(known->hash));
	mem_free(known);
}

/* Good and bad ones have a bound each: a flood of guesses does not push good ones out. */
static void enlist(struct known *known)
{
	struct keys *keys = known->keys;
	struct list *list = known->good ? &keys->good : &keys->bad;
	size_t *count = known->good ? &keys->good_count : &keys->bad_count;

	list_push_back(list, &known->link);
	if (++*count > keys->options.max_remembered)
		known_free(list_first(list, struct known, link));
}

/* ── answers ── */

static void on_answer(struct task *task)
{
	struct keys *keys = container_of(task, struct keys, answer);
	struct list now;

	list_init(&now);
	while (!list_empty(&keys->ready)) {
		struct list *link = keys->ready.next;

		list_remove(link);
		list_push_back(&now, link);
	}
	while (!list_empty(&now)) {
		struct keys_request *request = list_pop_front(&now, struct keys_request, link);

		request->done(request->ctx, request->result,
			      request->result == KEYS_GOOD ? &request->who : NULL);
		mem_free(request);
	}
}

static void answer(struct keys *keys, struct keys_request *request, enum keys_result result,
		   const struct identity *who)
{
	request->result = result;
	if (who)
		request->who = *who;
	list_remove(&request->link);
	list_push_back(&keys->ready, &request->link);
	task_post(&keys->answer);
}

static bool holds(const struct known *known, uint64_t limit_us)
{
	return loop_now_us(known->keys->loop) - known->known_us < limit_us;
}

static bool learn(struct known *known, const struct pg_rows *rows)
{
	struct str org = pg_text(rows, 0, 0);
	struct str key = pg_text(rows, 0, 1);

	known->good = pg_count(rows) > 0;
	if (known->good &&
	    (org.len >= sizeof(known->who.org) || key.len >= sizeof(known->who.key))) {
		log_error(&known->keys->log, "an api key's row does not fit: org and id are ids");
		known->good = false;
		return false;
	}
	known->bad = !known->good;
	known->who = (struct identity){0};
	if (org.len)
		memcpy(known->who.org, org.ptr, org.len);
	if (key.len)
		memcpy(known->who.key, key.ptr, key.len);
	known->known_us = loop_now_us(known->keys->loop);
	return true;
}

/* What is known without PostgreSQL. */
static enum keys_result remembered(const struct known *known)
{
	return known->good && holds(known, known->keys->options.away_us) ? KEYS_GOOD : KEYS_UNSURE;
}

static void answer_all(struct known *known, enum keys_result r)
{
	while (!list_empty(&known->waiters))
		answer(known->keys, container_of(known->waiters.next, struct keys_request, link), r,
		       &known->who);
}

/* The question stays: its answer is for those who ask later. */
static void on_late(struct timer *t)
{
	struct known *known = container_of(t, struct known, patience);

	known->late = true;
	answer_all(known, remembered(known));
}

static void on_row(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct known *known = ctx;
	enum keys_result r;

	known->asking = NULL;
	known->late = false;
	timer_stop(&known->patience);
	list_remove(&known->link);
	if (result == PG_OK && learn(known, rows))
		r = known->good ? KEYS_GOOD : KEYS_BAD;
	else
		r = remembered(known);
	answer_all(known, r);
	if (r == KEYS_UNSURE) {
		known->good = false;
		known->bad = false;
		known_free(known);
	} else {
		enlist(known);
	}
}

static struct known *known_of(struct keys *keys, const char *hash)
{
	struct known *known = map_find(&keys->by_hash, str_of(hash));

	if (known)
		return known;
	known = mem_new(struct known);
	known->keys = keys;
	memcpy(known->hash, hash, sizeof(known->hash));
	list_init(&known->waiters);
	list_init(&known->link);
	timer_init(&known->patience, keys->loop, on_late);
	map_set(&keys->by_hash, str_of(known->hash), known);
	return known;
}

static void ask(struct known *known)
{
	struct str hash = str_of(known->hash);

	if (known->asking)
		return;
	unlist(known);
	list_push_back(&known->keys->asking, &known->link);
	timer_set(&known->patience, known->keys->options.ask_us);
	known->asking = pg_query(
	    known->keys->pg, "SELECT org, id FROM api_keys WHERE hash = $1 AND revoked_at IS NULL",
	    &hash, 1, on_row, known);
}

struct keys_request *keys_check(struct keys *keys, struct str token, keys_fn *done, void *ctx)
{
	struct keys_request *request = mem_new(struct keys_request);
	char hash[DIGEST_SHA256_HEX_SIZE];
	struct known *known;

	request->done = done;
	request->ctx = ctx;
	if (!keys_shape(token)) {
		answer(keys, request, KEYS_BAD, NULL);
		return request;
	}
	keys_hash(token, hash);
	known = known_of(keys, hash);
	if (known->good && (holds(known, keys->options.good_us) ||
			    (!pg_up(keys->pg) && holds(known, keys->options.away_us)))) {
		answer(keys, request, KEYS_GOOD, &known->who);
	} else if (known->bad && holds(known, keys->options.bad_us)) {
		answer(keys, request, KEYS_BAD, NULL);
	} else if (known->late) {
		answer(keys, request, remembered(known), &known->who);
	} else {
		list_push_back(&known->waiters, &request->link);
		ask(known);
	}
	return request;
}

void keys_cancel(struct keys_request *request)
{
	if (!request)
		return;
	list_remove(&request->link);
	mem_free(request);
}

/* ── life ── */

struct keys *keys_new(struct loop *loop, struct pg *pg, const struct keys_options *options,
		      const struct log *log)
{
	struct keys *keys = mem_new(struct keys);

	keys->loop = loop;
	keys->pg = pg;
	keys->options = options ? *options : keys_defaults();
	keys->log = log_child(log, "identity", "keys");
	map_init(&keys->by_hash, rand_u64(loop_rand(loop)));
	list_init(&keys->good);
	list_init(&keys->bad);
	list_init(&keys->asking);
	list_init(&keys->ready);
	task_init(&keys->answer, loop, on_answer);
	return keys;
}

void keys_forget(struct keys *keys)
{
	while (!list_empty(&keys->good))
		known_free(list_first(&keys->good, struct known, link));
	while (!list_empty(&keys->bad))
		known_free(list_first(&keys->bad, struct known, link));
	list_each (&keys->asking, at) {
		container_of(at, struct known, link)->good = false;
		container_of(at, struct known, link)->bad = false;
	}
}

void keys_free(struct keys *keys)
{
	if (!keys)
		return;
	keys_forget(keys);
	while (!list_empty(&keys->asking)) {
		struct known *known = list_first(&keys->asking, struct known, link);

		while (!list_empty(&known->waiters))
			mem_free(list_pop_front(&known->waiters, struct keys_request, link));
		known_free(known);
	}
	while (!list_empty(&keys->ready))
		mem_free(list_pop_front(&keys->ready, struct keys_request, link));
	task_cancel(&keys->answer);
	map_fini(&keys->by_hash);
	mem_free(keys);
}

/* ── for tools ── */

struct change {
	void (*done)(void *ctx, int error);
	void *ctx;
};

static void on_changed(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct change *change = ctx;
	int error = -EAGAIN;

	if (result == PG_OK)
		error = pg_affected(rows) ? 0 : -ENOENT;
	else if (result == PG_FAILED && strcmp(pg_sqlstate(rows), "23505") == 0)
		error = -EEXIST;
	else if (result == PG_FAILED)
		error = -EINVAL;
	change->done(change->ctx, error);
	mem_free(change);
}

static struct change *change_new(void (*done)(void *ctx, int error), void *ctx)
{
	struct change *change = mem_new(struct change);

	change->done = done;
	change->ctx = ctx;
	return change;
}

void keys_add(struct pg *pg, struct str token, const char *id, const char *org, const char *name,
	      void (*done)(void *ctx, int error), void *ctx)
{
	char hash[DIGEST_SHA256_HEX_SIZE];
	struct str params[4];

	keys_hash(token, hash);
	params[0] = str_of(hash);
	params[1] = str_of(id);
	params[2] = str_of(org);
	params[3] = str_of(name ? name : "");
	pg_query(pg, "INSERT INTO api_keys (hash, id, org, name) VALUES ($1, $2, $3, $4)", params,
		 4, on_changed, change_new(done, ctx));
}

void keys_revoke(struct pg *pg, const char *id, void (*done)(void *ctx, int error), void *ctx)
{
	struct str param = str_of(id);

	pg_query(pg, "UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1",
		 &param, 1, on_changed, change_new(done, ctx));
}
