/* Redis on the loop: commands and scripts over a small pool of connections, and one subscription
 * connection. Uses hiredis's reader and formatter under our own connections. Refuses blocking
 * commands, and to queue without limit: while Redis is away, requests fail at once with REDIS_AWAY
 * after @wait_us.
 *
 * Requests of one `struct redis` are executed by the server in the order in which they were made
 * where they name the same @lane_key-hash (requests of one job travel on one connection); see
 * redis_request. */
#ifndef SLUICE_STORE_REDIS_H
#define SLUICE_STORE_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/log.h"
#include "lib/base/str.h"

struct loop;
struct redis;
struct redis_request;
/* An atomic script; those of Sluice are declared in schemas/scripts.h. Both texts are static. */
struct script {
	const char *name;
	const char *body;
};

enum redis_type { REDIS_NIL, REDIS_INT, REDIS_STR, REDIS_LIST, REDIS_ERROR, REDIS_STATUS };

/* A reply; lives until the callback returns. */
struct redis_value {
	enum redis_type type;
	int64_t integer;
	struct str str; /* REDIS_STR, REDIS_STATUS, REDIS_ERROR */
	const struct redis_value *items;
	size_t count;
};
/* The n-th item as view / integer (decimal strings are read); empty / @otherwise where it is not
 * there. */
struct str redis_item_str(const struct redis_value *list, size_t n);
int64_t redis_item_int(const struct redis_value *list, size_t n, int64_t otherwise);

enum redis_result {
	REDIS_OK = 0, /* @value is the reply (also an error reply: type REDIS_ERROR, logged here) */
	REDIS_AWAY,   /* not sent: no connection within the wait; certainly not executed */
	REDIS_LOST,   /* sent, and the connection ended or the time-out ran out: may have been
			 executed */
};

struct redis_options {
	const char *url; /* redis://[user:password@]host:port[/db], rediss:// with TLS */
	const char *ca_file;
	uint32_t connections; /* 2 */
	uint64_t wait_us;     /* 1 s: how long a request may wait for a connection */
	uint64_t timeout_us;  /* 5 s: without a reply the connection is cut */
	size_t max_pending;   /* 100000 requests */
	/* Requests without a reply per connection; more wait here, so that a flood never fills the server's turn (it reads
	 * all that a connection has sent before it looks at the next). 0, the default: no bound. */
	uint32_t max_sent;
};
struct redis_options redis_defaults(void);

struct redis_ops {
	/* Optional. The server's epoch changed: another run_id, another role, or the key
	 * sluice:epoch is gone (it is made anew) or differs. Everything learned from Redis before
	 * may be missing now. Also comes once at the first connection with @first = true.
	 * @epoch_wall_ms: when this epoch began. */
	void (*epoch)(void *ctx, bool first, uint64_t epoch_wall_ms);
	void (*up)(void *ctx, bool up); /* optional */
};

must_check int redis_open(struct loop *loop, const struct redis_options *options,
			  const struct redis_ops *ops, void *ctx, const struct log *log,
			  struct redis **ret_redis);
/* Requests get no callback any more, subscriptions end with it. Not from inside a callback. Accepts NULL. */
void redis_close(struct redis *redis);
bool redis_up(const struct redis *redis);
/* When the present epoch began, ms since 1970; 0 before the first connection. */
uint64_t redis_epoch_wall_ms(const struct redis *redis);
size_t redis_pending(const struct redis *redis);

typedef void redis_fn(void *ctx, enum redis_result result, const struct redis_value *value);

/* Asks the server for its epoch, in @order (as redis_command): what is known here may be half a second old. */
struct redis_request *redis_ask_epoch(struct redis *redis, struct str order, redis_fn *done,
				      void *ctx);
/* Whether the reply to that names the epoch that is known here: the server has forgotten nothing since. */
bool redis_epoch_stands(const struct redis *redis, enum redis_result result,
			const struct redis_value *value);

/* Sends a command; arguments are copied. @order: requests with equal @order (a job id) are executed
 * in the order of the calls; empty: any connection. @done comes from the loop; NULL: nobody waits
 * (errors are logged). The returned request is valid until @done and may be given to redis_cancel.
 * What is asked in one turn of the loop is written at once. */
struct redis_request *redis_command(struct redis *redis, struct str order, const struct str *args,
				    size_t count, redis_fn *done, void *ctx);
/* EVALSHA, with the body once where the server does not know it. */
struct redis_request *redis_script(struct redis *redis, struct str order,
				   const struct script *script, const struct str *keys,
				   size_t key_count, const struct str *args, size_t arg_count,
				   redis_fn *done, void *ctx);
/* As redis_script, for typed faces over scripts: @then is the caller's own callback, handed to @done as it is, so that such a
 * face needs no memory of its own (and leaves none behind when the request is cancelled). */
typedef void redis_then_fn(void);
typedef void redis_typed_fn(void *ctx, redis_then_fn *then, enum redis_result result,
			    const struct redis_value *value);
struct redis_request *redis_script_typed(struct redis *redis, struct str order,
					 const struct script *script, const struct str *keys,
					 size_t key_count, const struct str *args, size_t arg_count,
					 redis_typed_fn *done, void *ctx, redis_then_fn *then);
/* As redis_command, in the same way. */
struct redis_request *redis_command_typed(struct redis *redis, struct str order,
					  const struct str *args, size_t count,
					  redis_typed_fn *done, void *ctx, redis_then_fn *then);
/* The callback will not come; the command may be executed all the same. */
void redis_cancel(struct redis_request *request);

/* ── subscriptions ── */
struct redis_sub;
struct redis_sub_ops {
	/* The subscription stands (again): whatever was published before is not heard. Comes after
	 * each (re)connection. */
	void (*standing)(void *ctx);
	void (*message)(void *ctx, struct str payload);
	/* The connection was lost: messages may be missed from now until the next `standing`.
	 * Optional. */
	void (*lost)(void *ctx);
};
/* Follows a channel. Several subs of one channel in a process share one subscription at the server.
 */
struct redis_sub *redis_subscribe(struct redis *redis, struct str channel,
				  const struct redis_sub_ops *ops, void *ctx);
/* No callback afterwards. Also from inside a callback. Accepts NULL. */
void redis_unsubscribe(struct redis_sub *sub);

#endif
