/* The inside of the HTTP client: calls, and the one connection that carries many of them (link). The pool
 * (client.c) decides which link carries a call; the link (h2_link.c) speaks HTTP/2 and refuses to decide that. Where
 * the peer speaks HTTP/1.1 there are no links: client_h1.c carries the calls.
 *
 *   LINK_DIALING ──▶ LINK_SETTLING (SETTINGS awaited) ──▶ LINK_OPEN ──▶ LINK_LEAVING (a successor is awaited)
 *                                   LINK_PROVING (PING) ◀──┴──▶            └──▶ LINK_RETIRED (no new calls) ──▶ gone
 */
#ifndef SLUICE_NET_CLIENT_IMPL_H
#define SLUICE_NET_CLIENT_IMPL_H

#include <nghttp2/nghttp2.h>

#include "lib/base/buf.h"
#include "lib/base/list.h"
#include "lib/net/client.h"
#include "lib/net/conn.h"
#include "lib/net/loop.h"

#define CLIENT_READ_BYTES 65536
#define CLIENT_MAX_FIELDS 128

/* In this order: up to PROVING they come, up to OPEN they live, up to LEAVING they take calls (but PROVING). */
enum link_state {
	LINK_DIALING,
	LINK_SETTLING,
	LINK_PROVING,
	LINK_OPEN,
	LINK_LEAVING,
	LINK_RETIRED,
};

/* Stream numbers of calls that have none. */
enum { CALL_WAITING = -1, CALL_IN_NO_LINE = -2 };

struct client_call {
	struct list link; /* in its link's calls or in the client's waiting line */
	struct client *client;
	struct h2_link *on;	/* NULL while waiting */
	struct h1_exchange *h1; /* or this one carries it */
	int32_t stream;
	uint64_t framed_at; /* bytes framed on its link before its request */
	bool framed;
	bool told_sent;
	const struct client_ops *ops;
	void *ctx;
	nghttp2_nv *nv; /* one block with the request: fields, their bytes, body */
	size_t nv_count;
	struct str body;
	size_t body_sent;
	struct timer released; /* set once nobody hears of it: what is left of it is dropped */
	size_t dropped;
	size_t withheld; /* bytes received while paused: credit not given back yet */
	bool paused;
	bool head_given;
	bool peer_reset;
	bool ending;
};

struct h2_link {
	struct list link; /* in the client's links */
	struct client *client;
	struct conn *conn;
	nghttp2_session *session;
	enum link_state state;
	struct list calls;
	uint32_t count;
	uint32_t limit;	    /* streams at once: ours and the peer's */
	uint32_t max_calls; /* with jitter */
	uint32_t calls_begun;
	uint32_t resets;    /* calls since the last head that the peer reset without one */
	uint64_t dialed_us; /* loop time */
	uint64_t opened_us; /* SETTINGS came */
	uint64_t set_up_us; /* between the two */
	uint64_t retire_us; /* loop time; with jitter */
	uint64_t leave_us;  /* since when LEAVING */
	uint64_t heard_us;  /* last byte */
	uint64_t pinged_us; /* 0: no PING is out */
	uint64_t idle_us;   /* since when without a call */
	struct timer clock; /* connect clock, then ping, age and idle */
	struct task flush;
	struct buf out;	 /* framed, not yet taken by the socket */
	uint64_t framed; /* bytes that ever went into out */
	bool want_write;
	bool goaway; /* the peer said it goes */
	bool useful; /* a call ended well on it */
	bool busy;   /* inside nghttp2: freed by the outermost function */
	bool dead;
	/* The head that is being received; one at a time on a connection. */
	struct http_field fields[CLIENT_MAX_FIELDS];
	nghttp2_rcbuf *held[2 * CLIENT_MAX_FIELDS];
	size_t field_count;
	int status;
	char name[80];
};

struct client {
	struct loop *loop;
	struct client_options options;
	const struct log *log;
	struct tls *tls;
	char *host;
	char *authority;
	char *prefix; /* of every path, without a slash at its end */
	uint16_t port;
	struct h1_pool *h1; /* NULL: the peer never spoke HTTP/1.1 */
	bool speaks_h1; /* calls go there where no link has room, and none is opened but to see */
	uint64_t h2_wait_us;  /* until HTTP/2 is tried again; 0: the peer spoke it last */
	uint64_t h2_again_us; /* loop time; 0: never */
	struct list links;
	uint32_t link_count;
	struct list waiting;
	uint32_t waiting_count;
	uint32_t call_count;
	struct task pump;
	struct timer retry;
	unsigned short_links; /* that ended before they were of any use, since the peer was well */
	uint64_t backoff_us;  /* 0: the peer is well */
	uint64_t not_before_us; /* no new connection before, where no call asks for it */
	uint64_t failed_us;	/* loop time of the last failure; 0: none since it was well */
	enum client_end failed_end;
	char failed_detail[160];
	uint64_t set_up_us;
	struct series *histogram;
	uint64_t connections_opened;
	uint64_t calls_begun;
	nghttp2_session_callbacks *callbacks;
	void (*room_changed)(void *ctx); /* may be NULL */
	void *room_ctx;
	bool warm;
	bool closed; /* freed when the last callback has returned */
	unsigned busy;
	char read[CLIENT_READ_BYTES];
};

/* client.c */
void client_enter(struct client *client);
/* May free the client. */
void client_leave(struct client *client);
/* Ends @call: the last callback, then its memory goes. Within client_enter. */
void call_end(struct client_call *call, enum client_end end, const char *detail);
/* Ends all in @calls; where a callback closes the client, the rest is forgotten without one. */
void calls_end(struct client *client, struct list *calls, enum client_end end, const char *detail);
/* Puts a call that was provably not sent back to the front of the line. */
void call_requeue(struct client_call *call);
/* The link could not be made; its memory is going. */
void client_link_failed(struct client *client, enum client_end end, const char *detail);
void client_link_opened(struct client *client, uint64_t set_up_us);
/* Counts and measures a new connection. */
void client_connected(struct client *client, uint64_t set_up_us);
/* The peer does not offer HTTP/2; its link is going. Until it is tried again calls go by HTTP/1.1. False where nothing else will do. */
bool client_fall_back(struct client *client);
/* It was open and ended before it was of any use. */
void client_link_short(struct client *client, const char *detail);
/* The peer is well: a call ended on a link, or it stands for a while. */
void client_link_useful(struct client *client);
/* Looks at the line and the links again, in this turn. */
void client_pump(struct client *client);

/* client_h1.c */
struct h1_pool *h1_open(struct client *client);
/* Its calls are gone already. Accepts NULL. */
void h1_close(struct h1_pool *pool);
uint32_t h1_room(const struct client *client); /* for so many more calls */
void h1_send(struct client *client, struct client_call *call);
/* Takes the call off; its connection is closed. */
void h1_drop(struct client_call *call);
void h1_pause(struct client_call *call, bool pause);
const char *h1_peer(const struct client_call *call);
uint32_t h1_connections(const struct client *client);
/* Any call that is being carried; NULL for none. */
struct client_call *h1_first(const struct client *client);

/* h2_link.c */
nghttp2_session_callbacks *link_callbacks(void);
struct h2_link *link_open(struct client *client);
/* Room for another call? */
bool link_has_room(const struct h2_link *l);
/* Open, but silent and unused for so long that it must answer a PING first. */
bool link_stale(const struct h2_link *l);
void link_prove(struct h2_link *l);
void link_send(struct h2_link *l, struct client_call *call);
/* Takes the call off: RST_STREAM(CANCEL) where its stream is open. */
void link_drop(struct h2_link *l, struct client_call *call);
void link_pause(struct h2_link *l, struct client_call *call, bool pause);
/* Ends its calls with @end (CLIENT_DONE: none are there or none are to be told) and gives it back. */
void link_kill(struct h2_link *l, enum client_end end, const char *detail);
/* No new calls; closed when its calls have ended. */
void link_retire(struct h2_link *l, const char *why);

#endif
