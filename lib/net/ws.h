/* WebSocket, server side (RFC 6455): takes over an HTTP/1.1 request that asks for the upgrade and carries messages.
 * Frames to send are queued by reference and written with writev; a receiving context is attached only while a frame
 * arrives. Refuses unmasked frames, reserved bits, bad UTF-8, messages over the limit: closed with the RFC's code.
 * permessage-deflate (RFC 7692) where the owner gives a struct ws_deflate: no context is kept between messages, so a frame
 * that goes to many is packed once. */
#ifndef SLUICE_NET_WS_H
#define SLUICE_NET_WS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/str.h"

struct http_req;
struct ws;
struct ws_deflate;

struct ws_ops {
	/* A whole message. @text: UTF-8 checked. The bytes live until the callback returns. With skip_binary a binary
	 * one comes without bytes, when the header of its first frame was read. */
	void (*message)(void *ctx, struct ws *ws, bool text, struct str payload);
	/* The send queue fell below the low-water mark after ws_send had said it is full. */
	void (*writable)(void *ctx, struct ws *ws);
	/* The handshake that closes it was begun with @code here, by nobody's ws_close: the peer broke the protocol (1002), sent
	 * what is no UTF-8 or does not unpack (1007), more than the limits (1009), or was idle (3004). ops.closed comes later.
	 * Optional. */
	void (*closing)(void *ctx, struct ws *ws, unsigned code, const char *reason);
	/* The connection is over; @code is the peer's close code, 1006 where there was none. Last word. */
	void (*closed)(void *ctx, struct ws *ws, unsigned code);
};

struct ws_options {
	size_t max_text_bytes;	 /* 1 MiB: above closes with 1009 */
	size_t max_binary_bytes; /* 25 MiB */
	bool skip_binary;	 /* binary messages are not kept */
	size_t max_queued_bytes; /* 256 KiB: ws_send says "full" above it */
	/* 0: any number. Messages, pings and pongs that are read within a second; what comes above it stays in the socket
	 * for the next one, so that the peer is slowed and nothing is lost. */
	unsigned max_messages_per_s;
	uint64_t ping_us;  /* 25 s; any frame counts as life; two missed pings close with 3004 */
	uint64_t close_us; /* 5 s for the closing handshake */
	/* NULL: the extension is not spoken. The connection keeps a reference. */
	struct ws_deflate *deflate;
};
struct ws_options ws_defaults(void);

/* What permessage-deflate needs of memory, shared by all connections of a loop: 256 KiB to pack, 40 KiB for each message
 * that is being unpacked. @level: zlib's (1 is fastest). Messages of less than @min_bytes, and those that do not get
 * smaller, are sent as they are; with 0 every message is packed. References = 1; unref accepts NULL. */
struct ws_deflate *ws_deflate_new(int level, size_t min_bytes);
struct ws_deflate *ws_deflate_ref(struct ws_deflate *d);
void ws_deflate_unref(struct ws_deflate *d);

enum ws_accept {
	WS_ACCEPTED = 0,
	WS_NOT_UPGRADE = 1,
	WS_BAD_KEY = 2,
	WS_BAD_VERSION = 3,
	WS_BAD_EXTENSIONS = 4, /* the field does not parse */
};

/* In ops.head or ops.request of the HTTP server: answers 101 and takes the connection; the request is invalid
 * afterwards (no ops.gone or ops.done comes). @protocol: the chosen subprotocol or NULL. On >0 nothing was
 * answered. */
must_check int ws_accept(struct http_req *req, const char *protocol,
			 const struct ws_options *options, const struct ws_ops *ops, void *ctx,
			 struct ws **ret_ws);

/* A frame made once and sent to many. */
struct ws_frame;
/* One whole unmasked message frame; references = 1. */
struct ws_frame *ws_frame_new(bool text, struct str payload);
struct ws_frame *ws_frame_ref(struct ws_frame *frame);
void ws_frame_unref(struct ws_frame *frame);

/* Queues a frame (keeps its own reference); returns false when more than max_queued_bytes wait. Written at the end
 * of the loop's turn. */
bool ws_send(struct ws *ws, struct ws_frame *frame);
/* As ws_send with a fresh text frame. */
bool ws_send_text(struct ws *ws, struct str payload);
size_t ws_queued_bytes(const struct ws *ws);
/* Other limits than those of its options, from the next frame on: little until it is known who sends. A frame whose header
 * says that its message is over them closes with 1009 before its payload is kept. */
void ws_limit(struct ws *ws, size_t max_text_bytes, size_t max_binary_bytes);
/* Inside of ops.message: the message counts for so many more against max_messages_per_s, by what it asks for. */
void ws_count(struct ws *ws, unsigned more);
/* Stops and starts reading (back-pressure). */
void ws_read_pause(struct ws *ws, bool pause);
/* Begins the closing handshake; ops.closed comes later. */
void ws_close(struct ws *ws, unsigned code, const char *reason);
/* Cuts at once; ops.closed does not come. */
void ws_abort(struct ws *ws);
struct str ws_peer(const struct ws *ws);

#endif
