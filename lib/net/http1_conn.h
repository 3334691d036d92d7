/* One HTTP/1.1 connection of the server: reads requests, keeps their answers in order, minds the clocks. Refuses to
 * read further than max_pipelined requests ahead of their answers. Inside of lib/net only: http1_conn.c moves it,
 * http1_answer.c makes the bytes of answers.
 *
 *   OPENING ──▶ OPEN ──▶ LAST (no more requests are read) ──▶ LINGER (our side is shut, the peer's bytes are
 *      │          │                                              discarded so that it sees the answer) ──▶ DEAD
 *      │          └──▶ TAKEN (the socket is somebody else's)
 *      └──▶ DEAD (freed by its task)                                                                         */
#ifndef SLUICE_NET_HTTP1_CONN_H
#define SLUICE_NET_HTTP1_CONN_H

#include "lib/net/http1.h"
#include "lib/net/http_impl.h"

enum h1_state { H1_OPENING, H1_OPEN, H1_LAST, H1_LINGER, H1_TAKEN, H1_DEAD };

enum h1_clock {
	H1_CLOCK_NONE,
	H1_CLOCK_SHAKE,	 /* the TLS handshake */
	H1_CLOCK_IDLE,	 /* between requests */
	H1_CLOCK_HEAD,	 /* a head has begun */
	H1_CLOCK_BODY,	 /* silence within a body */
	H1_CLOCK_WRITE,	 /* the peer takes nothing of what waits */
	H1_CLOCK_LINGER, /* the peer does not close its side */
};

struct h1 {
	struct http_link link;
	struct conn *conn;
	struct http1 parser;
	struct buf in;	 /* read and not parsed: a head's beginning, or what came ahead of time */
	struct str rest; /* while parsing: what stands behind the event at hand */
	struct list reqs;
	size_t req_count;
	struct h1_req *reading; /* the last of reqs while its body comes */
	struct timer timer;
	struct task task;
	enum h1_state state;
	enum h1_clock clock;
	size_t lingered;
	bool fresh;    /* no request yet */
	bool refuse;   /* one connection too many */
	bool eof;      /* the peer has shut its side */
	bool blocked;  /* bytes wait for the socket */
	bool progress; /* the clock at hand begins anew */
	bool aborted;
	bool by_fin; /* … with FIN, not by a reset */
};

struct h1_req {
	struct http_req req;
	struct list link;
	struct h1 *h1;
	struct buf out;
	size_t discarded; /* of the body of a request that was answered early */
	uint64_t length;
	uint8_t minor;
	bool chunked_in;
	bool expect;
	bool head_only;	 /* HEAD */
	bool keep_alive; /* as the client asked */
	bool chunked_out;
	bool close; /* the answer says so, or its end says so */
};

extern const struct http_carrier h1_carrier;

/* An answer of our own behind everything that was asked; no request is read after it. @r: the request that it answers,
 * of which the owner hears no more; NULL: its head could not be read, @head has its beginning or nothing. */
void h1_answer_error(struct h1 *c, struct h1_req *r, struct str head, int status,
		     const char *reason);
/* Adds "100 Continue" to what is sent. */
void h1_answer_continue(struct h1_req *r);

#endif
