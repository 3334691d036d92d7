/* The front: HTTP requests to jobs and back. An exchange is one request with all that belongs to it; a route's `serve` gets it
 * when its body is read and its key is known, and answers now or later. Refuses to decide what a job is (admit.h, submit.h) and
 * how an answer is followed (lib/relay).
 *
 *   head read ──▶ route, key asked ──▶ body read and key good ──▶ serve ──▶ answered
 *                      └──▶ 401, 404, 405, 413, 415, 503                   └──▶ gone: the client left (drop) */
#ifndef SLUICE_PRODUCER_FRONT_H
#define SLUICE_PRODUCER_FRONT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/base/id.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/identity/keys.h"
#include "lib/net/http.h"
#include "lib/net/loop.h"
#include "lib/svc/option.h"
#include "lib/svc/svc.h"
#include "schemas/fault.h"

struct blob;
struct job;
struct lane_writer;
struct pages;
struct pg;
struct redis;
struct relay;
struct submit;
struct submit_outcome;
struct submitter;

struct front_options {
#define OPTION OPTION_MEMBER
#include "producer/options.def"
#undef OPTION
};
extern const struct option front_option_table[];
extern const size_t front_option_count;

enum dialect { DIALECT_NATIVE, DIALECT_OPENAI, DIALECT_ANTHROPIC };

struct exchange;
struct route {
	const char *method;
	const char *pattern;
	enum dialect dialect;
	void (*serve)(struct exchange *x);
};

struct front {
	struct svc *svc;
	struct loop *loop;
	struct log log;
	const struct front_options *options;
	struct http_server *server;
	struct redis *redis;
	struct pg *pg;
	struct lane_writer *writer;
	struct lane_writer *bulk_writer; /* of the background lane: gathers records */
	struct blob *blob;
	struct keys *keys;
	struct relay *relay;
	struct submitter *submitter;
	struct pages *pages; /* NULL: none */
	struct list exchanges;
	size_t open;
	struct buf error_body;	/* of the server's own answers */
	char error_id[ID_SIZE]; /* … and its request id */
	enum dialect error_dialect;
	bool draining;
#define METRIC(field, name, type, help, labels) struct metric *metric_##field;
#include "producer/metrics.def"
#undef METRIC
};

int front_open(struct svc *svc, void **ret_front);
void front_ready(void *front, struct svc_waits *waits);
void front_drain(void *front);
int front_reload(void *front, const struct config *old);
void front_close(void *front);

/* ── one request ── */

struct exchange {
	struct list link;
	struct front *front;
	struct http_req *req;
	const struct route *route; /* NULL: none fits */
	enum dialect dialect;
	char id[ID_SIZE];    /* req_… */
	struct str param;    /* the `{id}` of the path; lives as long as the request */
	struct identity who; /* once its key is known */
	struct keys_request *key;
	bool body_read;
	bool known; /* the key is good */
	bool answered;
	bool streaming;
	uint64_t wall_ms;  /* when the request had been read */
	size_t held_bytes; /* submitter_hold */
	/* What a route works with: @drop ends it (the answer is complete, or the client left: @left). @writable: the answer's queue
	 * has room again. @drain: the process goes away; may be NULL. */
	void *work;
	void (*drop)(void *work, bool left);
	void (*writable)(void *work);
	void (*drain)(void *work);
};

/* The configuration of this moment. */
const struct config *exchange_config(const struct exchange *x);
/* The request's W3C trace context where it is well-formed, else empty. */
struct str exchange_traceparent(const struct exchange *x);
/* Cancels a job as its client would, without waiting for the outcome. */
void job_cancel(struct front *front, struct str job, struct str org);
/* submit_open; what is held for the request goes with the submit. */
struct submit *exchange_submit(struct exchange *x, const struct job *job,
			       void (*done)(void *ctx, const struct submit_outcome *outcome),
			       void *ctx);
/* Nothing of the request is on its way to the broker: it only waits from now on. */
void exchange_release(struct exchange *x);
/* True where the query has no other keys than @known (NULL-ended); else the request was refused. */
bool exchange_query(struct exchange *x, const char *const *known);
/* Whole answers; @body is emptied. The exchange may be gone afterwards. */
void exchange_reply(struct exchange *x, int status, struct buf *body);
/* The same of another type; @type may be NULL where there is no body, which stays the caller's. */
void exchange_answer(struct exchange *x, int status, const char *type, struct str body);
/* A fault in the dialect's shape, with Retry-After where it may be tried again. */
struct refusal {
	enum fault fault;
	const char *message; /* NULL: the fault's own */
	const char *param;   /* NULL or "": none */
	int64_t offset;	     /* of bad JSON; -1: none */
	struct str job;	     /* OUTCOME_UNKNOWN: which */
};
void exchange_refuse(struct exchange *x, const struct refusal *refusal);
void exchange_fault(struct exchange *x, enum fault fault, const char *message);
/* Begins a stream of events. */
void exchange_stream(struct exchange *x);
bool exchange_write(struct exchange *x, struct str bytes);
void exchange_end(struct exchange *x);

/* The body of an error in a dialect's shape (reply.c). */
void error_body(struct buf *out, enum dialect dialect, const struct refusal *refusal,
		struct str request_id);
/* What a fault is called in a dialect: "rate_limit_error" … */
const char *error_type(enum dialect dialect, int status);
/* The status of a fault on a dialect's routes. */
int error_status(enum dialect dialect, enum fault fault);
/* After how long the same may be tried again; 0: not at all. */
int64_t error_retry_ms(enum fault fault);

/* ── routes: `serve` of routes.def ── */

#define ROUTE(method, pattern, dialect, serve, help) void serve(struct exchange *x);
#include "producer/routes.def"
#undef ROUTE

#endif
