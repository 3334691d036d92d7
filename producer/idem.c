#include "producer/idem.h"

#include <stdio.h>

#include "lib/base/buf.h"
#include "lib/base/mem.h"
#include "lib/relay/state.h"
#include "producer/admit.h"
#include "producer/front.h"
#include "schemas/keys.h"
#include "schemas/scripts.h"

#define TTL_MS "86400000"

static void read_answer(const struct redis_value *value, struct idem_answer *a)
{
	struct str word = redis_item_str(value, 0);

	a->id = redis_item_str(value, 1);
	if (str_is(word, "new")) {
		a->verdict = IDEM_NEW;
	} else if (str_is(word, "pending")) {
		a->verdict = IDEM_PENDING;
	} else if (str_is(word, "conflict")) {
		a->verdict = IDEM_CONFLICT;
	} else if (str_is(word, "done")) {
		a->verdict = IDEM_DONE;
		a->status = (int)redis_item_int(value, 2, 200);
		a->reply = redis_item_str(value, 3);
	}
}

static void on_begun(void *ctx, redis_then_fn *then, enum redis_result result,
		     const struct redis_value *value)
{
	struct idem_answer a = {.verdict = IDEM_UNSURE};

	if (result == REDIS_OK && value->type == REDIS_LIST)
		read_answer(value, &a);
	((void (*)(void *, const struct idem_answer *))then)(ctx, &a);
}

struct redis_request *idem_begin(struct redis *redis, struct idem *idem, struct str org,
				 const char *route, struct str key, struct str body, struct str id,
				 void (*done)(void *ctx, const struct idem_answer *answer),
				 void *ctx)
{
	struct buf text = {0};
	char body_hash[DIGEST_SHA256_HEX_SIZE];
	struct key name;
	struct str name_str;

	buf_printf(&text, "%s\n%.*s", route, STR_FMT(key));
	digest_sha256_hex(buf_str(&text), idem->hash);
	digest_sha256_hex(body, body_hash);
	buf_fini(&text);
	name = key_idem(org, str_of(idem->hash));
	name_str = key_str(&name);
	return redis_script_typed(redis, name_str, &script_idem_begin, &name_str, 1,
				  (const struct str[]){str_of(body_hash), id, STR(TTL_MS)}, 3,
				  on_begun, ctx, (redis_then_fn *)done);
}

struct redis_request *idem_end(struct redis *redis, const struct idem *idem, struct str org,
			       struct str id, int status, struct str reply, redis_fn *done,
			       void *ctx)
{
	struct key name = key_idem(org, str_of(idem->hash));
	struct str name_str = key_str(&name);
	char text[8] = "";

	if (status)
		snprintf(text, sizeof(text), "%d", status);
	return redis_script(redis, name_str, &script_idem_end, &name_str, 1,
			    (const struct str[]){id, str_of(text), reply}, 3, done, ctx);
}

bool idem_keeps(int status)
{
	return status < 500 && status != 408 && status != 429;
}

void idem_admit(struct exchange *x, struct admitted *a)
{
	struct str key = http_field(x->req, "idempotency-key");

	if (key.ptr && !key.len)
		admitted_fail(a, FAULT_INVALID_REQUEST, "Idempotency-Key",
			      "Idempotency-Key must not be empty.");
	if (key.len > IDEM_KEY_MAX)
		admitted_fail(a, FAULT_INVALID_REQUEST, "Idempotency-Key",
			      "Idempotency-Key must be at most %d bytes long.", IDEM_KEY_MAX);
}

/* ── a refusal that is kept ── */

struct keeping {
	struct exchange *x;
	struct redis_request *request;
	struct idem idem;
	int status;
	struct buf reply;
};

static void keeping_drop(void *work, bool left)
{
	struct keeping *k = work;

	(void)left;
	if (k->request)
		redis_cancel(k->request);
	buf_fini(&k->reply);
	mem_free(k);
}

static void on_kept(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct keeping *k = ctx;

	(void)result;
	(void)value;
	k->request = NULL;
	exchange_reply(k->x, k->status, &k->reply);
}

static void on_key(void *ctx, const struct idem_answer *answer)
{
	struct keeping *k = ctx;
	struct exchange *x = k->x;

	k->request = NULL;
	switch (answer->verdict) {
	case IDEM_NEW:
		k->request = idem_end(x->front->redis, &k->idem, str_of(x->who.org), answer->id,
				      k->status, buf_str(&k->reply), on_kept, k);
		return;
	case IDEM_DONE:
		if (answer->reply.len) {
			http_add_field(x->req, "idempotent-replayed", STR("true"));
			buf_reset(&k->reply);
			buf_add_str(&k->reply, answer->reply);
			k->status = answer->status;
		}
		exchange_reply(x, k->status, &k->reply);
		return;
	case IDEM_CONFLICT:
		exchange_fault(x, FAULT_CONFLICT, "The Idempotency-Key was used for another body.");
		return;
	case IDEM_PENDING: /* of a twin, or from before a change of configuration: not ours to end */
	case IDEM_UNSURE:  /* the refusal stands without Redis */
		exchange_reply(x, k->status, &k->reply);
		return;
	}
}

void idem_refuse(struct exchange *x, const struct refusal *refusal)
{
	struct str key = http_field(x->req, "idempotency-key");
	int status = error_status(x->dialect, refusal->fault);
	struct keeping *k;

	x->work = NULL;
	x->drop = NULL;
	x->writable = NULL;
	x->drain = NULL;
	if (!key.len || key.len > IDEM_KEY_MAX || !idem_keeps(status)) {
		exchange_refuse(x, refusal);
		return;
	}
	k = mem_new(struct keeping);
	k->x = x;
	k->status = status;
	error_body(&k->reply, x->dialect, refusal, str_of(x->id));
	x->work = k;
	x->drop = keeping_drop;
	k->request = idem_begin(x->front->redis, &k->idem, str_of(x->who.org), x->route->pattern,
				key, http_body(x->req), str_of(x->id), on_key, k);
}
