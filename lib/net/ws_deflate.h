/* permessage-deflate (RFC 7692), server side and without context takeover in either direction: the offer's terms, and
 * messages packed and unpacked. It does no I/O. It refuses to keep anything between messages: one packer serves every
 * connection of a process, an unpacker is lent to a connection while a packed message is arriving.
 *
 * The public part (ws_deflate_new and its references) stands in ws.h. */
#ifndef SLUICE_NET_WS_DEFLATE_H
#define SLUICE_NET_WS_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/str.h"
#include "lib/net/ws.h"

struct ws_unpack;

/* What both sides keep to. */
struct ws_terms {
	unsigned char bits; /* of the window that we pack with: 9 to 15; 0: nothing is packed */
};

enum ws_offer {
	WS_OFFER_TAKEN = 0,
	WS_OFFER_DECLINED = 1, /* none that can be met: the connection goes on without */
	WS_OFFER_BROKEN = 2,   /* not what RFC 6455, 9.1 allows to stand there */
};

/* The first offer in @field (the values of Sec-WebSocket-Extensions, joined by commas) that can be met. An offer with a
 * parameter that is unknown, twice there or out of range is declined (RFC 7692, 7). */
must_check int ws_offer_read(struct str field, struct ws_terms *ret_terms);
/* Appends the value of the answer's Sec-WebSocket-Extensions. */
void ws_terms_write(const struct ws_terms *terms, struct buf *out);

/* Appends @payload packed to @out; false where it is shorter than min_bytes or would not get smaller (with min_bytes 0
 * it may grow): @out is as it was. */
bool ws_deflate_pack(struct ws_deflate *d, unsigned bits, struct str payload, struct buf *out);

/* An unpacker for one message; given back with ws_unpack_end. */
struct ws_unpack *ws_unpack_begin(struct ws_deflate *d);
/* Accepts NULL. */
void ws_unpack_end(struct ws_unpack *u);

enum ws_unpacked {
	WS_UNPACK_OK = 0,
	WS_UNPACK_BAD = 1,   /* not DEFLATE, or cut */
	WS_UNPACK_LARGE = 2, /* more than @limit bytes: nothing beyond it was made */
};

/* Appends what @in (a piece of the message, @last its end) unpacks to, while @out holds at most @limit bytes in all. After
 * >0 nothing may be fed. */
must_check int ws_unpack_feed(struct ws_unpack *u, struct str in, bool last, size_t limit,
			      struct buf *out);

#endif
