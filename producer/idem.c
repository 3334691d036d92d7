#include "producer/idem.h"

#include <stdio.h>

#include "lib/base/buf.h"
#include "lib/base/mem.h"
#include "lib/relay/state.h"
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
