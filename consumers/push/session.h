/* A connection: one client from its upgrade to its end. It reads ops, sends events, and holds the jobs that it follows. While the
 * client reads too slowly the answers are paused; events that are few go on. Refuses everything before hello, and keeps no byte of a
 * binary message.
 *
 *   GREETING ─▶ CHECKING ─▶ PREPARING ─▶ OPEN ─▶ CLOSING ─▶ (freed when the socket is over)
 *      any ────────────────────────────────────────▲
 */
#ifndef SLUICE_PUSH_SESSION_H
#define SLUICE_PUSH_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consumers/push/frame.h"
#include "consumers/push/op.h"
#include "consumers/push/push.h"
#include "consumers/push/told.h"
#include "lib/base/id.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/base/sm.h"
#include "lib/identity/keys.h"
#include "lib/net/loop.h"
#include "lib/store/gather.h"

struct http_req;
struct outbox_look;
struct pg_request;
struct redis_request;
struct redis_sub;
struct ws;

#define SESSION_NONCE_SIZE 17

/* What one text message may hold before a good hello, which needs less. */
#define HELLO_TEXT_BYTES 65536

/* Close codes (RFC 6455; protocol.md). */
enum {
	CLOSE_UNSUPPORTED = 1003,
	CLOSE_DRAIN = 3000,
	CLOSE_SLOW = 3001,
	CLOSE_INTERNAL = 3002,
	CLOSE_CREDENTIALS = 3500,
	CLOSE_PROTOCOL = 3501,
	CLOSE_EXPIRED = 3502,
	CLOSE_NOT_ALLOWED = 3503,
	CLOSE_TOO_MANY =
	    3504, /* of an organisation; a node's own limit is a 503 before the upgrade */
	CLOSE_TAKEN_OVER = 3505,
};

enum session_state {
	SESSION_GREETING,  /* hello is to come */
	SESSION_CHECKING,  /* its key is asked for */
	SESSION_PREPARING, /* its session is looked up or made */
	SESSION_OPEN,
	SESSION_CLOSING,
};

/* The words: README.md. */
struct session {
	struct list link;
	struct push *push;
	struct sm sm;
	struct log log;
	struct ws *ws;
	char name[SESSION_NONCE_SIZE]; /* random: this connection among those of its line */
	char line[SESSION_NONCE_SIZE]; /* connections that resumed one another have the same */
	uint64_t
	    came_us; /* by Redis's clock, where it goes on from another; 0: it began the line */
	char id[ID_SIZE];  /* ses_… */
	bool conversation; /* the client named the session: jobs that name none are turns of it */
	bool resumed;
	const char *not_resumed; /* why a resume token does not hold; NULL */
	struct identity who;
	char bound[ID_SIZE]; /* by a ticket: to this session and its jobs alone; empty: by a key */
	char *key;	     /* as the client sent it, until it was checked */
	struct op hello;     /* until the welcome was said */
	struct keys_request *checking;
	struct redis_request *redeeming; /* a ticket */
	struct redis_request *request;
	struct pg_request *pg_request;
	struct gather_ask row; /* of a session that is made */
	uint64_t made_ms;
	struct outbox_look *looking;
	unsigned failures;     /* of the two, while a session is made */
	struct timer patience; /* with PostgreSQL, before the welcome */
	bool impatient;	       /* it is over */
	struct redis_sub *line_sub;
	struct redis_sub *events_sub;
	bool heard;	    /* that subscription stood before */
	struct map streams; /* by job id */
	struct list all_streams;
	struct told told; /* jobs that are followed no more */
	struct list groups;
	struct list submissions;
	size_t pending_bytes; /* that they weigh (producer/submit.h) */
	struct list cancels;
	bool full;	     /* the socket's queue */
	bool loaded;	     /* pending_bytes is as much as it may be */
	struct timer clock;  /* hello's time, then a full queue's */
	bool overdue;	     /* hello, by that clock */
	struct timer leave;  /* while draining */
	struct timer relook; /* for jobs of the session that Redis does not list yet */
	bool more;	     /* the outbox may have jobs that were not told */
	unsigned relooks;    /* for them, since one was found or acknowledged */
	uint64_t listed_us;  /* when they were asked for */
	uint64_t faults_since_us;
	unsigned faults;
	unsigned bin_next;
};

/* Takes the connection of @req over, which asks for /v1/ws; answers it where that is not possible. */
void session_accept(struct push *push, struct http_req *req);
/* Cuts the connection and frees the session. */
void session_free(struct session *s);
/* Says `draining` and closes within @within_ms. */
void session_drain(struct session *s, uint64_t within_ms);

/* ── for the session's parts ── */

/* Begins the closing handshake; everything of the session comes to rest. */
void session_close(struct session *s, unsigned code, const char *reason);
/* Sends @f and takes its memory. Safe in any state. */
void session_send(struct session *s, struct frame *f);
void session_refuse(struct session *s, const struct frame_refusal *refusal);
/* So much more, or less, is pending: no op is read while that is too much. */
void session_load(struct session *s, size_t more, size_t less);

/* Bytes of text that a stream reads at a time, where @also more are about to be followed. */
int64_t session_piece_bytes(const struct session *s, size_t also);

/* hello.c: what follows a read hello op; op token; the rows of the sessions that are made. */
void hello_begin(struct session *s, struct op *op);
void hello_token(struct session *s, const struct op *op);
void hello_quiet(struct session *s);
extern const struct gather_kind hello_rows;
/* The end of a job was acknowledged. */
void hello_acked(struct session *s);
/* The clock of session.patience: PostgreSQL does not answer. */
void hello_patience(struct timer *t);
/* The clock of session.relook. */
void hello_relook(struct timer *t);
/* Redis lost its memory, perhaps before it was asked for the session's jobs. */
void hello_epoch(struct session *s);

/* cancel.c: op cancel. */
void cancel_begin(struct session *s, const struct op *op);
void cancel_quiet(struct session *s);

#endif
