/* The HTTP client for providers: one pool of connections per origin. HTTP/2 over TLS (certificate and name verified)
 * with many calls on one connection, or HTTP/1.1 with one call on each, where the peer speaks nothing else. It sends a request, hands over head and body pieces as they come, and
 * says how the exchange ended in the transport's terms. It knows no provider, retries nothing, and refuses to call an
 * end of bytes a success of the application: whoever reads the body decides that by its terminator.
 *
 *   client_call ──▶ waiting (no stream free) ──▶ ops.sent ──▶ ops.head ──▶ ops.data* ──▶ ops.end
 *                        ├── client_cancel at any time: no callback comes afterwards, RST_STREAM(CANCEL) is sent
 *                        └── client_release once the body is known to be whole: nor here, and the rest is read and dropped
 *
 * The pool's rules, for HTTP/2. A connection carries calls up to the peer's SETTINGS_MAX_CONCURRENT_STREAMS and ours; half full ones
 * are filled first, so that the pool shrinks when less is asked. Opened ahead: for the line, for a sixteenth of the calls
 * in reserve, and a successor before a connection retires by age or by count, so that no call waits for a handshake in the
 * steady state. One that was silent and unused for ping_us answers a PING before it carries a call. A call whose request
 * had not left when its connection ended goes to another one. A peer that cannot be reached, or ends connections as soon
 * as they are open, is left alone for a growing time (100 ms to 2 s) where nobody calls; calls within 100 ms of a failure
 * end like it at once, later ones try again.
 * For HTTP/1.1: a connection for each call, max_connections at once, kept for idle_us and at most max_age_us; nothing is opened ahead, and
 * chunks that break HTTP end as CLIENT_CUT.
 * Where ALPN decides (CLIENT_HTTP_AUTO), a connection without HTTP/2 sends the calls that the open ones have no room for by HTTP/1.1. After
 * h2_again_us, and each time twice as long up to ten times that, the next call has one connection see whether the peer speaks HTTP/2 by then.
 */
#ifndef SLUICE_NET_CLIENT_H
#define SLUICE_NET_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/log.h"
#include "lib/base/str.h"
#include "lib/net/http.h" /* struct http_field */

struct loop;
struct client;
struct client_call;
struct series;
struct sockaddr;

enum client_end {
	CLIENT_DONE, /* END_STREAM: the body is whole for the transport */
	CLIENT_CONNECT, /* no connection: refused, unreachable, TLS or name verification failed, not the HTTP asked for */
	CLIENT_TIMEOUT,	 /* the connect clock ran out before the request was sent */
	CLIENT_REFUSED,	 /* REFUSED_STREAM, or above the GOAWAY id: provably not processed */
	CLIENT_RESET,	 /* RST_STREAM with another code (also NO_ERROR before END_STREAM) */
	CLIENT_CUT,	 /* the connection ended (FIN, RST, GOAWAY at or below the id, dead peer) */
	CLIENT_PROTOCOL, /* the peer broke HTTP */
};
const char *client_end_name(enum client_end end);
/* True where the peer has provably not processed the call: it may be asked again at once, and it cost nothing. */
bool client_end_unprocessed(enum client_end end);

struct client_ops {
	/* Status and fields; comes once, before any data. Views live until the callback returns. */
	void (*head)(void *ctx, int status, const struct http_field *fields, size_t count);
	void (*data)(void *ctx, struct str bytes);
	/* Last word; @detail is for logs (an HTTP/2 error name, a TLS message). */
	void (*end)(void *ctx, enum client_end end, const char *detail);
	/* The request has a stream and is on its way; comes at most once, before head. From here on silence is the
	 * peer's. Optional. */
	void (*sent)(void *ctx);
};

enum client_http {
	CLIENT_HTTP_AUTO, /* https: as ALPN decides; http: HTTP/1.1 */
	CLIENT_HTTP_2,	  /* nothing else; over http with prior knowledge */
	CLIENT_HTTP_1,	  /* HTTP/1.1 */
};

struct client_options {
	/* "https://api.anthropic.com", with an optional path prefix. NULL (with CLIENT_HTTP_1 alone): any origin, the path of
	 * each call is a whole URL; the limits are those of all origins together. */
	const char *base_url;
	enum client_http http;
	const char *ca_file;  /* NULL: the system's */
	uint64_t connect_us;  /* 5 s: name, TCP, TLS and the peer's SETTINGS */
	uint64_t h2_again_us; /* 60 s: after a connection without HTTP/2 it is tried again */
	uint32_t streams_per_connection; /* 80, and never more than the peer allows */
	uint32_t
	    max_connections; /* 32, and a quarter more that retire; calls beyond wait in order */
	uint64_t
	    max_age_us; /* 5 min, ±20 % jitter: then no new calls, closed when its calls ended */
	uint32_t max_calls; /* 1000 per connection, ±20 % jitter */
	uint64_t
	    ping_us; /* 15 s without a byte while calls are open: PING; no answer in as much: CUT */
	uint64_t idle_us;	  /* 60 s without a call: closed, but for min_connections */
	uint32_t min_connections; /* 1: opened at once and kept warm */
	uint32_t window_bytes;	  /* stream window 256 KiB; connection window 16 MiB */
	/* Asked of the very address that is about to be connected, after names are resolved: false leaves it out, and a call
	 * for which no other one is left ends with CLIENT_CONNECT. NULL: any. With CLIENT_HTTP_1 alone (else -EINVAL). */
	bool (*address_ok)(void *ctx, const struct sockaddr *address);
	void *address_ctx;
};
struct client_options client_defaults(void);

/* What operators see. */
struct client_stats {
	uint32_t connections;
	uint32_t calls;		     /* open */
	uint32_t waiting;	     /* for a stream */
	uint64_t connections_opened; /* divided by calls_begun: what a call pays for set-up */
	uint64_t calls_begun;
	uint64_t
	    set_up_us; /* of the newest connection: from its beginning until it could carry calls */
};

/* Names resolve on another thread (the only one). -EINVAL for a bad URL or CA file. The client is the caller's. */
must_check int client_open(struct loop *loop, const struct client_options *options,
			   const struct log *log, struct client **ret_client);
/* Cancels what is open (no callbacks). Accepts NULL. */
void client_close(struct client *client);
struct client_stats client_stats(const struct client *client);
/* True once a connection is up (or was up and none is wanted). */
bool client_warm(const struct client *client);
/* How many more calls it could carry now, or as soon as connections are open that it may open: without those that wait already. While it is
 * not known whether the peer speaks HTTP/2, a call for each connection. */
uint32_t client_room(const struct client *client);
/* From now on @changed is called, from the loop, whenever client_room may be more than it was. NULL: no more. */
void client_when_room(struct client *client, void (*changed)(void *ctx), void *ctx);
/* Every connection's set-up time is observed in @histogram from now on. NULL: no more. */
void client_observe(struct client *client, struct series *histogram);

/* Begins a call. @method, @path (appended to the base URL's path), @fields (lower-case names, no pseudo fields) and
 * @body are copied. The call ends with ops.end or client_cancel. */
struct client_call *client_call(struct client *client, const char *method, const char *path,
				const struct http_field *fields, size_t count, struct str body,
				const struct client_ops *ops, void *ctx);
/* No callback comes afterwards. Also from inside a callback of this call. */
void client_cancel(struct client_call *call);
/* No callback comes afterwards, and the peer may say the rest: for who has seen the body's own terminator before the transport's.
 * What comes is dropped, for CLIENT_RELEASED_US and CLIENT_RELEASED_BYTES at most (then it is cancelled), so that the connection
 * serves the next call. Its stream and client_stats.calls count it until then. Cancels a call that has no head. Also from inside a
 * callback of this call. */
#define CLIENT_RELEASED_US (1000 * 1000)
#define CLIENT_RELEASED_BYTES 16384
void client_release(struct client_call *call);
/* Withholds flow-control credit while @pause: a slow reader stops its own stream only. */
void client_pause(struct client_call *call, bool pause);
/* "203.0.113.7:443#3" for logs: the connection that carries the call; "" while waiting. */
const char *client_call_peer(const struct client_call *call);

#endif
