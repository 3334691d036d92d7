/* The HTTP server: HTTP/1.1 (RFC 9110, 9112) and HTTP/2 (RFC 9113) behind one face. It reads whole requests within
 * limits, hands each to its owner once, and sends what the owner answers, in order. It knows no route.
 * It refuses: folded headers, bare LF, Content-Length with Transfer-Encoding, duplicate lengths, any transfer coding
 * but chunked, bodies over the limit, slow senders; each with the status that HTTP means, then closes.
 *
 *   connection ── head read ──▶ ops.head (may answer at once, or set a body limit)
 *                 body read ──▶ ops.request (must answer, now or later) ──▶ http_reply / http_stream_…
 *                 peer gone before the answer's end ──▶ ops.gone (last word about this request)
 *                 (gone: the connection failed, or its peer sent FIN; see http_outlast_fin)
 *                 answer handed to the socket ──▶ ops.done (last word)
 */
#ifndef SLUICE_NET_HTTP_H
#define SLUICE_NET_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/log.h"
#include "lib/base/str.h"

struct loop;
struct http_server;
struct http_req;
struct ws;

struct http_field {
	struct str name; /* lower case in what is received */
	struct str value;
};

struct http_server_ops {
	/* The head is there. Optional. The owner may call http_body_limit, or answer (then ops.request never comes
	 * and an unread body is discarded within bounds or the connection is closed after the answer). With
	 * `Expect: 100-continue` the server sends 100 after this returns without an answer. */
	void (*head)(void *ctx, struct http_req *req);
	/* Head and body are there. */
	void (*request)(void *ctx, struct http_req *req);
	/* The peer went away before the answer was complete. The request is invalid after this returns. */
	void (*gone)(void *ctx, struct http_req *req);
	/* The answer is complete and handed to the socket. The request is invalid after this returns. Optional. */
	void (*done)(void *ctx, struct http_req *req);
	/* A streamed answer's queue fell below the low-water mark after http_stream_write had said it is full. */
	void (*writable)(void *ctx, struct http_req *req);
	/* An error that the server answers by itself (400, 408, 413, 431, 501, 503 …): the owner may write a body.
	 * Called in the same breath as error_fields, behind it.
	 * @ret_type and @ret_body live until the next call. Optional: plain text otherwise. */
	void (*error_body)(void *ctx, int status, const char *reason, struct str *ret_type,
			   struct str *ret_body);
	/* Such an answer is about to be made, before error_body: the owner may http_add_field to @req (a request id),
	 * nothing else, and hears no more of it. Fields that he added before are forgotten. What was asked is there as
	 * far as it was read: the path where the request line was, the fields where the whole head was good; else the
	 * views are empty. Optional. */
	void (*error_fields)(void *ctx, struct http_req *req, int status);
	/* The process has no descriptor left: so many callers got a 503 (with TLS: a closed connection), told at most every 10 s.
	 * Optional. */
	void (*exhausted)(void *ctx, uint64_t refused);
};

struct http_server_options {
	const char *listen;	  /* "127.0.0.1:8080", "[::1]:8080"; port 0 takes a free one */
	bool reuse_port;	  /* several processes on one port */
	size_t max_head_bytes;	  /* 32768: above is 431 */
	size_t max_fields;	  /* 100: above is 431 */
	size_t max_body_bytes;	  /* 1 MiB: above is 413; http_body_limit changes it per request */
	uint64_t head_us;	  /* 10 s: head not complete is 408 */
	uint64_t body_silence_us; /* 30 s without a body byte is 408 */
	uint64_t idle_us;	  /* 75 s between requests, then closed */
	size_t max_connections;	  /* above: 503 with Retry-After, then closed */
	size_t max_pipelined;	  /* 16 requests read ahead of their answers; then reading pauses */
	size_t max_queued_bytes;  /* 256 KiB: http_stream_write says "full" above it */
	/* TLS, both NULL for plain text. ALPN offers h2 and http/1.1. */
	const char *cert_file;
	const char *key_file;
	bool http2;	      /* offer h2 (TLS only) */
	uint32_t max_streams; /* SETTINGS_MAX_CONCURRENT_STREAMS: 100 */
};

/* The defaults written above. */
struct http_server_options http_server_defaults(void);

/* Listens (backlog 8192, TCP_NODELAY). The server belongs to the caller. Returns -errno (-EADDRINUSE …), or
 * -EINVAL for an address or certificate that does not parse. */
must_check int http_server_open(struct loop *loop, const struct http_server_options *options,
				const struct http_server_ops *ops, void *ctx, const struct log *log,
				struct http_server **ret_server);
/* The port that is listened on. */
uint16_t http_server_port(const struct http_server *server);
/* Stops accepting; open connections are closed once their answers are complete (Connection: close). */
void http_server_drain(struct http_server *server);
/* Closes the listening socket (who connects is refused) and opens one again at @address ("127.0.0.1:8080"); connections
 * stay. For the simulator's faults, as http_server_cut is. Returns as http_server_open does. */
void http_server_deafen(struct http_server *server);
must_check int http_server_listen(struct http_server *server, const char *address);
/* Closes every connection in the middle of its answers (ops.gone). Not from inside this server's callbacks. */
void http_server_cut(struct http_server *server);
size_t http_server_connections(const struct http_server *server);
/* Closes everything (ops.gone for requests in progress). Accepts NULL. */
void http_server_close(struct http_server *server);

/* What was asked. Views live as long as the request. */
struct str http_method(const struct http_req *req);
struct str http_path(const struct http_req *req);  /* without the query, undecoded */
struct str http_query(const struct http_req *req); /* behind the '?', undecoded */
struct str http_body(const struct http_req *req);
struct str http_peer(const struct http_req *req); /* "127.0.0.1" */
/* The value of the first field with this lower-case name; an empty view with ptr NULL where there is none. */
struct str http_field(const struct http_req *req, const char *name);
const struct http_field *http_fields(const struct http_req *req, size_t *ret_count);
/* The value of @key in the query, percent-decoded into the request's arena; ptr NULL where there is none. */
struct str http_query_value(struct http_req *req, const char *key);
uint64_t
http_received_us(const struct http_req *req); /* loop time at which the head was complete */
struct arena *http_arena(struct http_req *req);
/* The owner's pointer, NULL at first. */
void http_set_ctx(struct http_req *req, void *ctx);
void *http_ctx(const struct http_req *req);
/* In ops.head only. */
void http_body_limit(struct http_req *req, size_t bytes);
/* In ops.head only. HTTP/1.1: a client may shut its side behind a whole request and still wait for the answer (RFC 9112,
 * 9.6), but a FIN is also all that one sees of a client that hung up. Without this call it is a hang-up: ops.gone. With
 * it the whole request is still answered, and only a reset or a failed write is a hang-up. For what is answered at once;
 * not for what waits or costs as long as somebody listens, where it would not be noticed that nobody does. A streamed
 * answer that has begun is over with a FIN in any case, and so is what stands behind a request that is gone. HTTP/2 ends
 * requests by stream: a FIN of its connection is always a hang-up. */
void http_outlast_fin(struct http_req *req);

/* Fields that every later answer of this request carries (copied), before the answer begins. */
void http_add_field(struct http_req *req, const char *name, struct str value);
/* The whole answer; content-length and date are added. May be called in ops.head/ops.request or later, once. */
void http_reply(struct http_req *req, int status, const char *content_type, struct str body);
/* A streamed answer (chunked in HTTP/1.1). */
void http_stream_begin(struct http_req *req, int status, const char *content_type);
/* Queues bytes (copied); returns false when more than max_queued_bytes wait: then wait for ops.writable. */
bool http_stream_write(struct http_req *req, struct str bytes);
size_t http_stream_queued(const struct http_req *req);
void http_stream_end(struct http_req *req);
/* Cuts the connection (h2: resets the stream) without an orderly end; ops.gone does not come. For the simulator's
 * faults and for answers that broke. */
void http_abort(struct http_req *req);

/* How else an answer breaks, for the simulator's faults. What was written leaves first only where a turn of the loop lies
 * between. ops.gone does not come for this request, but for all others that the connection carries, where that ends. */
enum http_cut {
	HTTP_CUT_FIN,	 /* the connection ends by FIN */
	HTTP_CUT_RST,	 /* … by a TCP reset */
	HTTP_CUT_STREAM, /* RST_STREAM with @code; HTTP/1.1: as FIN */
	HTTP_CUT_UNDONE, /* GOAWAY with @code that names the stream before this one as the last; HTTP/1.1: as FIN */
};
void http_cut(struct http_req *req, enum http_cut how, uint32_t code);
/* HTTP/2: GOAWAY with @code that names the newest stream as the last: what was asked is answered, then the connection is
 * closed. HTTP/1.1: nothing. */
void http_goaway(struct http_req *req, uint32_t code);

#endif
