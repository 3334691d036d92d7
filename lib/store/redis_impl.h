/* What redis.c, redis_pipe.c and redis_sub.c share. Refuses to be included elsewhere.
 *
 *   redis ─┬─ pipe 0 … n-1   commands: one connection each, answered in order
 *          └─ redis_subs     subscriptions: one connection, made with the first of them */
#ifndef SLUICE_STORE_REDIS_IMPL_H
#define SLUICE_STORE_REDIS_IMPL_H

#include "lib/base/list.h"
#include "lib/store/redis.h"
#include "lib/store/redis_link.h"
#include "lib/store/redis_url.h"

#define REDIS_CONNECTIONS_MAX 32

struct redis_pipe;
struct redis_subs;

/* A script that was asked for. Its SHA-1 is the server's word for it, learned once by SCRIPT LOAD. */
struct redis_known_script {
	struct list link; /* in redis->scripts */
	const struct script *script;
	char sha[41];	 /* "" until it is known */
	uint32_t loaded; /* a bit per pipe: the server of its present connection has it */
};

/* One command. It keeps its bytes until it is answered: it may have to be sent again. */
struct redis_request {
	struct list link; /* in its pipe's queued or sent, or in redis->refused */
	struct redis *redis;
	struct redis_pipe *pipe;
	redis_fn *done;	       /* this or typed; neither: nobody waits */
	redis_typed_fn *typed; /* gets @then */
	redis_then_fn *then;
	void *ctx;
	struct redis_known_script *script; /* NULL: tail is the whole command */
	uint64_t asked_us;
	uint64_t sent_us;
	uint64_t start_at; /* where its bytes begin in its connection's */
	bool internal;	   /* ours, for one connection: never queued, not counted */
	bool repeated;	   /* after NOSCRIPT: once */
	size_t count;	   /* arguments in the tail */
	size_t len;
	char tail[];
};

enum redis_pipe_state { REDIS_PIPE_DOWN, REDIS_PIPE_ASKING_EPOCH, REDIS_PIPE_UP };

struct redis_pipe {
	struct redis_link link;
	struct redis *redis;
	uint32_t index;
	enum redis_pipe_state state;
	struct list queued; /* wait for the connection, oldest first */
	struct list sent;   /* wait for their replies, oldest first */
	size_t count;	    /* of both */
	size_t sent_count;
	unsigned replies;
	bool checking; /* the periodic question is on its way */
	char run_id[65];
	struct timer wait; /* the oldest queued one's limit */
	struct timer tick; /* while up: looks at the oldest sent one, and at the epoch */
};

#define EPOCH_KEY "sluice:epoch"

struct redis {
	struct loop *loop;
	struct redis_options options;
	struct redis_url url;
	struct tls *tls;
	struct redis_ops ops;
	void *ctx;
	struct log log;
	struct redis_pipe *pipes;
	uint32_t pipe_count;
	size_t pending;
	uint32_t up_count;
	struct list scripts;
	struct list refused; /* requests beyond max_pending */
	struct task refuse;
	char epoch[192]; /* the value of EPOCH_KEY; "" before the first connection */
	uint64_t epoch_wall_ms;
	struct redis_subs *subs;
};

/* redis_pipe.c */
void redis_pipe_init(struct redis_pipe *pipe, struct redis *redis, uint32_t index);
/* Frees its requests without calling anyone. */
void redis_pipe_fini(struct redis_pipe *pipe);
/* Sends @request, or queues it while the pipe is not up. */
void redis_pipe_add(struct redis_pipe *pipe, struct redis_request *request);
/* A queued request was taken out of the queue. */
void redis_pipe_waits(struct redis_pipe *pipe);

/* redis.c */
struct redis_request *redis_request_new(struct redis *redis, const struct str *head, size_t heads,
					const struct str *args, size_t count);
/* Unlinks and frees @request and calls whom it concerns. */
void redis_request_finish(struct redis_request *request, enum redis_result result,
			  const struct redis_value *value);
/* The server told its epoch. */
void redis_epoch_is(struct redis *redis, struct str value);
void redis_up_changed(struct redis *redis, int by);

/* redis_sub.c; accepts NULL. */
void redis_subs_free(struct redis_subs *subs);

#endif
