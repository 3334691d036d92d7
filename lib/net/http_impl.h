/* The seam inside the HTTP server: what a carrying protocol (HTTP/1.1, HTTP/2) shares with the face
 * in http.h. Refuses to be used outside of lib/net. A carrier embeds http_req in its own request,
 * fills what was asked, tells the owner through http_tell_…, and sends what the face hands to its
 * vtable.
 *
 *   head parsed ─▶ http_tell_head ─▶ (answered? then the body is the carrier's to discard) ─▶ body
 * ─▶ http_tell_request answer out ──▶ http_tell_done ─▶ http_req_fini        peer lost ──▶
 * http_tell_gone ─▶ http_req_fini
 *
 * All http_tell_… come from the loop only, never from inside the vtable's calls (which the owner
 * makes). */
#ifndef SLUICE_NET_HTTP_IMPL_H
#define SLUICE_NET_HTTP_IMPL_H

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/list.h"
#include "lib/net/conn.h"
#include "lib/net/http.h"
#include "lib/net/loop.h"

struct http_server;

/* What a carrier does with an answer. The face checks the order of the calls (once, begin before
 * write, nothing after the end) and has set req->answer before it calls. All bytes are copied. */
struct http_carrier {
	/* req->extra has the owner's fields; content-length and date are the carrier's to add. */
	void (*reply)(struct http_req *req, int status, const char *content_type, struct str body);
	void (*stream_begin)(struct http_req *req, int status, const char *content_type);
	/* False when more than options.max_queued_bytes wait: sets req->full, later
	 * http_tell_writable. */
	bool (*stream_write)(struct http_req *req, struct str bytes);
	size_t (*stream_queued)(const struct http_req *req);
	void (*stream_end)(struct http_req *req);
	/* The owner forgets the request with this call; the carrier frees it from the loop. */
	void (*abort)(struct http_req *req);
	void (*cut)(struct http_req *req, enum http_cut how, uint32_t code);
	void (*goaway)(struct http_req *req, uint32_t code);
	/* Gives the socket away for an upgrade (ws_accept). On success the socket, the bytes read
	 * behind the head
	 * (@ret_rest is the caller's now) and the duty to answer 101 are the caller's, and the
	 * carrier frees the request from the loop. NULL, or false: this request cannot be upgraded.
	 */
	bool (*take)(struct http_req *req, struct conn **ret_conn, struct buf *ret_rest);
};

enum http_answer {
	HTTP_ANSWER_NONE,
	HTTP_ANSWER_STREAM, /* begun, not ended */
	HTTP_ANSWER_WHOLE,  /* nothing more comes from the owner */
};

/* A request. Filled by the carrier before http_tell_head; views point into the arena. */
struct http_req {
	const struct http_carrier *carrier;
	struct http_server *server;
	struct arena arena;
	struct str method;
	struct str path; /* origin form without the query */
	struct str query;
	struct str peer;	   /* must outlive the request: the carrier's copy */
	struct http_field *fields; /* names in lower case */
	size_t field_count;
	struct buf body;
	size_t max_body_bytes;
	uint64_t received_us;
	void *ctx;
	struct http_field *extra; /* of the answer; in the arena */
	size_t extra_count;
	enum http_answer answer;
	bool told; /* the owner knows of it and is owed a last word */
	bool full; /* stream_write said so; http_tell_writable clears it */
	bool outlasts_fin;
};

/* @req is zeroed. Takes received_us from the loop and the body limit from the options. */
void http_req_init(struct http_req *req, struct http_server *server,
		   const struct http_carrier *carrier);
/* Gives arena and body back; the storage is the carrier's. */
void http_req_fini(struct http_req *req);
/* Cuts "path?query" into the request; absolute form ("http://host/path") is brought to origin form.
 * False for a target that is none: then 400. */
must_check bool http_req_target(struct http_req *req, struct str target);

/* ops.head where the owner has one. Look at req->answer afterwards. The connection may have been
 * taken away by ws_accept, or the request aborted: the carrier's vtable functions note that for
 * themselves. */
void http_tell_head(struct http_req *req);
void http_tell_request(struct http_req *req);
/* Does nothing where the owner does not know of the request, or has had his last word. */
void http_tell_gone(struct http_req *req);
void http_tell_done(struct http_req *req);
/* Where req->full stands: clears it and calls ops.writable. */
void http_tell_writable(struct http_req *req);
/* Type and body of an error that the server answers by itself; they live until the next call. */
void http_error_body(struct http_server *server, int status, const char *reason,
		     struct str *ret_type, struct str *ret_body);

/* ops.error_fields where the owner has one: before http_error_body, for a request that makes such an answer; after
 * http_tell_gone where he knew of it. Forgets the fields that he had added. */
void http_error_fields(struct http_req *req, int status);

/* "Not Found". "Unknown" for a number without a name. */
const char *http_reason(int status);
/* True where an answer with this status has no body (1xx, 204, 304). */
bool http_bodyless(int status);

/* A connection as the server sees it; embedded in the carrier's connection. */
struct http_link {
	struct list link;
	struct http_server *server;
	const struct http_link_ops *ops;
};

struct http_link_ops {
	/* No new requests; closed once what is open is answered. From http_server_drain. */
	void (*drain)(struct http_link *link);
	/* Tells gone, closes the socket, removes the link, frees. From http_server_close only. */
	void (*close)(struct http_link *link);
};

struct http_server {
	struct loop *loop;
	struct http_server_options options;
	const struct http_server_ops *ops;
	void *ctx;
	struct log log;
	struct listener *listener;
	uint16_t port;
	struct tls *tls;
	struct list links;
	size_t link_count;
	bool draining;
	bool closing;
	uint64_t date_s; /* the second that @date stands for */
	char date[32];
	char *scratch; /* HTTP_SCRATCH_BYTES to read into: contents are good until the next callback
			  only */
};

#define HTTP_SCRATCH_BYTES 65536

void http_link_add(struct http_server *server, struct http_link *link,
		   const struct http_link_ops *ops);
/* Safe for one that is not added. */
void http_link_remove(struct http_link *link);
/* "Sun, 22 Nov 2026 10:15:30 GMT", made once per second; lives until the next call. */
struct str http_server_date(struct http_server *server);

/* Takes over an accepted socket, before its handshake. Where ALPN chooses h2 (or, on a plain port
 * with options.http2, the peer begins with HTTP/2's preface) it hands the socket to http2_open.
 * @refuse: answer 503. */
void http1_open(struct http_server *server, int fd, const char *peer, bool refuse);
/* Takes over an open socket; @bytes were already read from it. From the loop. */
void http2_open(struct http_server *server, struct conn *conn, struct str bytes);

#endif
