/* The provider simulator: Anthropic Messages and OpenAI Chat Completions as a client sees them, with the answer, its
 * pace and its faults under the tests' control. Refuses to think: the answer is a pure function (answer.h).
 *
 *   request ──▶ sim.c (who asks, which route) ──▶ ask.c (is it valid) ──▶ limit.c (may it) ──▶ call.c (the pace of
 *   one answer) ──▶ wire.c (its bytes)
 */
#ifndef SLUICE_TESTS_SIM_SIM_H
#define SLUICE_TESTS_SIM_SIM_H

#include <stdio.h>

#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/base/metric.h"
#include "lib/net/http.h"
#include "lib/net/loop.h"
#include "tests/sim/ask.h"
#include "tests/sim/directive.h"
#include "tests/sim/quota.h"

#define SIM_ID_SIZE 40
#define SIM_TICK_US 5000
#define SIM_SLOTS 1024

struct sim_options {
	const char *listen;
	const char *control; /* NULL: none */
	const char *cert;
	const char *key;
	bool plain;
	uint64_t ttft_ms;
	double rate;
	uint64_t tokens;
	struct quota_limits limits; /* per key and model, where no rule says otherwise */
	const char *journal; /* a line per call that is over is appended to this file; NULL: none */
};
struct sim_options sim_defaults(void);

/* What was asked of one model. */
struct sim_model {
	char *name;
	uint64_t begun;	    /* valid and within the limits */
	uint64_t completed; /* to the terminator */
	uint64_t cancelled; /* the client went away */
	uint64_t failed;    /* by a fault */
	uint64_t undone;    /* by one that says it was never processed; not begun */
	uint64_t tokens;
};

/* What a key may ask of a model (limit.c). A pattern is a text, or its beginning and a '*'. */
struct sim_limit {
	char *key; /* or the rule's pattern, where it is shared */
	char *model;
	enum sim_dialect dialect; /* of the first that asked */
	struct quota quota;
};

/* Limits set at run time; the last one that fits a key and a model counts. */
struct sim_limit_rule {
	struct list link;
	char *key;
	char *model;
	bool shared; /* all that fit have one quota together, as a provider's class of models has */
	struct quota_limits limits;
};

/* Faults that were switched on at run time (faults.c), each with whom and when it meets. */
struct sim_rule {
	struct list link;
	uint64_t id;
	char *how; /* as between a directive's brackets; or a door's fault */
	char *key; /* patterns; NULL: any */
	char *model;
	char *dialect;
	enum sim_fault door; /* SIM_FAULTS: none */
	bool keep;	     /* a door's: open connections stay */
	uint64_t skip;	     /* so many that fit are spared first */
	uint64_t count;	     /* then so many are met; 0: all */
	double share;	     /* of those, by chance */
	uint64_t seed;
	struct rand chance;
	uint64_t made_us;
	uint64_t from_us; /* since then, or since each period began */
	uint64_t to_us;	  /* 0: for ever */
	uint64_t every_us;
	uint64_t seen;
	uint64_t hit;
};

enum sim_door_state { SIM_DOOR_OPEN, SIM_DOOR_REFUSES, SIM_DOOR_MUTE };

/* The listening socket, and who stands before it (door.c). */
struct sim_door {
	enum sim_door_state state;
	char address[64];
	struct timer edge; /* a schedule's next change */
	struct listener *mute;
	int *held; /* descriptors that were accepted and hear nothing */
	size_t held_count;
	size_t held_cap;
};

struct sim {
	struct loop *loop;
	struct sim_options options;
	struct log_sink sink;
	struct log log;
	struct http_server *server;
	struct http_server *control;
	struct map models; /* name -> struct sim_model */
	struct map limits; /* key, zero byte, model -> struct sim_limit */
	struct list limit_rules;
	struct sim_cache cache;
	struct list rules;
	uint64_t last_rule;
	struct sim_door door;
	uint64_t ahead_us; /* of quotas' and caches' clock before the loop's */
	struct metrics metrics;
	struct metric *calls;	 /* model, what */
	struct metric *tokens;	 /* model */
	struct metric *requests; /* status */
	struct metric *active;
	struct metric *connections;
	uint64_t open_calls;
	struct list slots[SIM_SLOTS]; /* streams by the tick at which their next token is due */
	uint64_t slot;		      /* ticks handled, on the loop's clock */
	uint64_t in_slots;
	struct timer tick;
	struct buf out; /* what one step writes */
	FILE *journal;	/* or NULL */
};

enum sim_call_state {
	SIM_CALL_HEAD,	   /* waits for its head's time */
	SIM_CALL_FIRST,	   /* waits for the first token's time (not streaming: for the answer's) */
	SIM_CALL_PACED,	   /* in the wheel */
	SIM_CALL_FULL,	   /* the client does not read */
	SIM_CALL_SILENT,   /* stalls */
	SIM_CALL_BREAKING, /* what was written leaves first */
	SIM_CALL_ENDING,   /* so it does before an orderly end */
	SIM_CALL_OVER,
};

/* One answer; lives in its request's arena. */
struct sim_call {
	struct sim *sim;
	struct http_req *req;
	struct sim_model *model;
	struct sim_limit *limit;
	struct list slot;
	struct timer timer;
	enum sim_call_state state;
	enum sim_dialect dialect;
	struct sim_ask ask;
	struct sim_directive how;
	struct sim_use use;
	uint64_t scope;	   /* of the cache */
	uint64_t began_us; /* on the quotas' and caches' clock */
	uint64_t begun_ms; /* on the wall */
	uint64_t first_us; /* when token 0 is due */
	uint64_t total;
	uint64_t sent;		/* of each choice: they go step by step */
	bool capped;		/* by max_tokens */
	bool begun;		/* the head is out */
	bool full;		/* the client does not read */
	bool good;		/* ENDING: with the terminator */
	uint64_t charged;	/* tokens */
	struct sim_break *last; /* BREAKING: what breaks it */
	struct buf waiting;	/* of the body: what has not left yet (way.c) */
	uint64_t body_bytes;	/* what has */
	struct timer piece;
	uint32_t *answers; /* the generators of tokens, one for each choice */
	int64_t created;
	struct str chunk; /* OpenAI: how each chunk begins */
	char id[SIM_ID_SIZE];
	char request_id[SIM_ID_SIZE]; /* as the answer's head says it */
};

/* Opens the servers. -errno, logged. */
must_check int sim_open(struct sim *sim, struct loop *loop, const struct sim_options *options);
void sim_close(struct sim *sim);

/* sim.c */
/* "req_" or "msg_" and the like, and 22 characters. */
void sim_id(struct sim *sim, char out[static SIM_ID_SIZE], const char *prefix);
/* An answer without a request's id gets one. */
void sim_answer_error(struct sim *sim, struct http_req *req, enum sim_dialect dialect,
		      const struct sim_error *error);
/* One whose head says @id already. */
void sim_answer_error_as(struct sim *sim, struct http_req *req, enum sim_dialect dialect,
			 const struct sim_error *error, const char *id);
void sim_count_status(struct sim *sim, int status);
extern const struct http_server_ops sim_control_ops; /* control.c; ctx is struct sim */

/* True where @pattern (NULL: anything) fits. */
bool sim_fits(const char *pattern, struct str text);
/* The clock of quotas and caches: the loop's, and what tests set it ahead. */
uint64_t sim_now_us(const struct sim *sim);

/* limit.c */
struct sim_limit *sim_limit_of(struct sim *sim, struct str key, struct str model,
			       enum sim_dialect dialect);
/* False: the request is above what is left; *@error is the 429 and *@ret_wait_us when it would pass (UINT64_MAX:
 * never). Takes what is charged at the start: Anthropic the input that was not read from a cache; OpenAI all input and what
 * may be answered. */
bool sim_limit_take(struct sim *sim, struct sim_limit *limit, uint64_t input, uint64_t output,
		    struct sim_error *error, uint64_t *ret_wait_us);
/* Output while it is made. OpenAI has charged it already: it is only kept in the history. */
void sim_limit_made(struct sim *sim, struct sim_limit *limit, uint64_t output);
/* The dialect's rate-limit fields for the answer. */
void sim_limit_fields(struct sim *sim, struct sim_limit *limit, struct http_req *req);
/* Retry-After, and retry-after-ms where the dialect has it. */
void sim_retry_fields(struct http_req *req, enum sim_dialect dialect, uint64_t wait_us);

/* quotas.c: what the control port says and changes of quotas */
void sim_quotas_json(struct sim *sim, uint64_t seconds, struct buf *out);
bool sim_quota_kind(struct str word, enum quota_kind *ret_kind);
/* Reads one rule, or a list of them. False: *@ret_bad says what is wrong. */
bool sim_quotas_set(struct sim *sim, struct str body, const char **ret_bad);
/* Forgets rules and use. */
void sim_quotas_clear(struct sim *sim);

/* call.c */
void sim_call_begin(struct sim *sim, struct http_req *req, enum sim_dialect dialect,
		    const struct sim_ask *ask, const struct sim_directive *how,
		    const struct sim_use *use, struct sim_limit *limit, uint64_t scope,
		    const char *request_id);
struct sim_cache_rules sim_cache_rules_of(enum sim_dialect dialect, struct str model);
/* The client is gone. */
void sim_call_gone(struct sim_call *call);
void sim_call_writable(struct sim_call *call);
void sim_wheel_init(struct sim *sim);
/* Something goes wrong behind so many bytes. False: the answer is halted or over. */
bool sim_call_break(struct sim_call *call, struct sim_break *b);
/* Nothing waits any more. */
void sim_call_drained(struct sim_call *call);

/* way.c: how the bytes of an answer's body leave: at once, in pieces, or up to the byte behind which something breaks */
void sim_way_init(struct sim_call *call);
/* The call's state may have changed behind it; call->full says that the client does not read. */
void sim_way_write(struct sim_call *call, struct str bytes);
/* Goes on after a silence. */
void sim_way_resume(struct sim_call *call);

/* faults.c */
/* Changes *@how by every rule that meets this request. */
void sim_faults_apply(struct sim *sim, struct str key, struct str model, enum sim_dialect dialect,
		      struct sim_directive *how);
void sim_faults_json(struct sim *sim, struct buf *out);
/* Reads one rule, or a list of them. False: *@ret_bad says what is wrong. */
bool sim_faults_add(struct sim *sim, struct str body, const char **ret_bad);
/* The rule with this id; 0: all. */
void sim_faults_clear(struct sim *sim, uint64_t id);
/* True where the rule holds at this time; *@ret_edge_us is when that changes (UINT64_MAX: never). */
bool sim_rule_holds(const struct sim_rule *rule, uint64_t now_us, uint64_t *ret_edge_us);

/* door.c */
void sim_door_init(struct sim *sim);
/* Brings the door to what the rules say. */
void sim_door_settle(struct sim *sim);
void sim_door_fini(struct sim *sim);

/* wire.c: bytes of an answer, added to @out */
void sim_wire_prepare(struct sim_call *call);
void sim_wire_begin(const struct sim_call *call, struct buf *out);
/* The next token of choice @index. */
void sim_wire_token(const struct sim_call *call, unsigned index, unsigned token, struct buf *out);
void sim_wire_end(const struct sim_call *call, struct buf *out);
/* An error inside a stream. */
void sim_wire_fail(const struct sim_call *call, struct buf *out);
/* An event whose JSON is cut off; one of no meaning, @bytes long. */
void sim_wire_malformed(const struct sim_call *call, struct buf *out);
void sim_wire_huge(const struct sim_call *call, uint64_t bytes, struct buf *out);
void sim_wire_whole(const struct sim_call *call, struct buf *out);
void sim_wire_error(enum sim_dialect dialect, const struct sim_error *error, const char *request_id,
		    struct buf *out);
/* The error that stands for @status in this dialect. */
void sim_wire_status(enum sim_dialect dialect, unsigned status, struct sim_error *ret_error);

#endif
