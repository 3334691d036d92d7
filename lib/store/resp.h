/* RESP2, Redis's wire: commands are written into a buffer, replies are read (by hiredis's reader) into redis_values.
 * Refuses to do I/O. A reply nests at most seven deep. */
#ifndef SLUICE_STORE_RESP_H
#define SLUICE_STORE_RESP_H

#include <stddef.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/str.h"
#include "lib/store/redis.h"

/* The head of a command of @count arguments, then each argument. */
void resp_head(struct buf *out, size_t count);
void resp_arg(struct buf *out, struct str arg);
/* Bytes that resp_arg adds at most for an argument of @len. */
size_t resp_arg_bytes(size_t len);

struct redisReader;
struct resp {
	struct redisReader *reader;
	struct arena arena; /* of the reply at hand */
	struct redis_value root;
};

void resp_init(struct resp *resp);
void resp_fini(struct resp *resp);
/* Forgets what was fed: a new connection begins. */
void resp_reset(struct resp *resp);
/* -EPROTO after a broken reply. */
must_check int resp_feed(struct resp *resp, const void *bytes, size_t count);

enum resp_result { RESP_REPLY = 0, RESP_MORE = 1 };
/* The next whole reply, or RESP_MORE, or -EPROTO. @ret_value lives until the next call. */
must_check int resp_next(struct resp *resp, const struct redis_value **ret_value);

#endif
