/* Frames to send, inside of lib/net: made once, referenced by every queue they stand in. Refuses to change one that
 * was made. The public part stands in ws.h. */
#ifndef SLUICE_NET_WS_FRAME_H
#define SLUICE_NET_WS_FRAME_H

#include <stdint.h>

#include "lib/net/ws.h"

enum ws_opcode {
	WS_OP_TEXT = 1,
	WS_OP_BINARY = 2,
	WS_OP_CLOSE = 8,
	WS_OP_PING = 9,
	WS_OP_PONG = 10,
};

struct ws_frame {
	uint32_t refs;
	uint8_t head; /* bytes of its header; 0: it is none of a message */
	bool tried;   /* to pack it */
	size_t len;   /* with its header */
	struct ws_frame
	    *packed; /* for connections with permessage-deflate and a whole window; ours */
	char bytes[];
};

/* One whole, unmasked frame; references = 1. A control frame's payload is at most 125 bytes. */
struct ws_frame *ws_frame_make(enum ws_opcode opcode, struct str payload);
/* @code 1005 makes an empty close frame; @reason is cut to what fits. */
struct ws_frame *ws_frame_close(unsigned code, struct str reason);
/* What stands for @frame on a connection with permessage-deflate: packed where that is smaller, else itself. The packed
 * frame is made once for all that have a whole window (@bits 15). The caller has a reference. */
struct ws_frame *ws_frame_pack(struct ws_frame *frame, struct ws_deflate *d, unsigned bits);
/* Bytes as they are: the answer to the upgrade, in front of all frames. */
struct ws_frame *ws_frame_raw(struct str bytes);

#endif
