/* WebSocket frames as bytes, server side (RFC 6455, 5): bytes in any pieces become messages and control frames. It
 * does no I/O and answers nothing. Refuses unmasked frames, reserved bits and opcodes, bad UTF-8 at its first bad
 * byte, messages over the limit, close codes that may not be sent.
 *
 * Between frames it holds no memory: wslay's context (4 KiB) is attached only while a frame is arriving, an unpacker (40
 * KiB) while a packed message is. What a frame's header forbids is refused before a byte of its payload is kept; a packed
 * message ends with the first byte that it unpacks to above the limit. */
#ifndef SLUICE_NET_WS_RECV_H
#define SLUICE_NET_WS_RECV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/str.h"

enum ws_event {
	WS_MORE,   /* all bytes are used */
	WS_TEXT,   /* a whole message */
	WS_BINARY, /* with skip_binary: one began; its bytes are not kept */
	WS_PING,
	WS_PONG,
	WS_CLOSE,  /* code: the peer's, 1005 where it sent none */
	WS_BROKEN, /* code and reason: what to close with; nothing may be fed afterwards */
};

struct ws_arriving;
struct ws_deflate;
struct ws_unpack;

/* Zeroed + ws_recv_init. */
struct ws_recv {
	size_t max_text_bytes;
	size_t max_binary_bytes;
	bool skip_binary;
	struct ws_deflate *deflate; /* the owner's; NULL: packed messages were not agreed on */
	struct ws_arriving *arriving;
	struct ws_unpack *unpack; /* while a packed message is arriving */
	uint64_t packed_bytes;	  /* of it, so far */
	struct buf message; /* of the message that is being put together, or was delivered last */
	uint64_t skipped;   /* bytes of the message that is being skipped */
	uint8_t opcode;	    /* of that message, 0 between messages */
	bool packed;	    /* is it */
	bool delivered;
	/* The state of the UTF-8 check: continuation bytes to come, and the range of the next one. */
	uint8_t utf8_need;
	uint8_t utf8_low;
	uint8_t utf8_high;
	uint16_t code;
	const char *reason;
};

void ws_recv_init(struct ws_recv *r, size_t max_text_bytes, size_t max_binary_bytes);
void ws_recv_fini(struct ws_recv *r);
/* The next event in @in, whose used bytes are cut off in front. @ret_payload lives until the next call; for WS_CLOSE
 * it is the reason. */
must_check enum ws_event ws_recv_next(struct ws_recv *r, struct str *in, struct str *ret_payload);
/* Nothing is fed for a while, and the last payload is not needed any more: between frames no memory stays. */
void ws_recv_rest(struct ws_recv *r);
/* True where a frame has begun and is not whole. */
bool ws_recv_busy(const struct ws_recv *r);

/* May @code stand in a close frame (RFC 6455, 7.4)? */
bool ws_code_ok(unsigned code);

#endif
