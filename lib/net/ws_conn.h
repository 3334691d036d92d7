/* A WebSocket's connection behind the upgrade, inside of lib/net: frames both ways, the clocks, the closing
 * handshake. Refuses to know HTTP.
 *
 *   OPEN ──▶ CLOSING (our close frame is out, theirs is awaited) ──▶ ENDING (nothing more is read as frames: what
 *     └────────────────────────────────────────────────────────────▶  waits is sent, then the socket is shut)
 *   any ──▶ OVER (ops.closed was called, or the owner cut it; freed outside of callbacks)                        */
#ifndef SLUICE_NET_WS_CONN_H
#define SLUICE_NET_WS_CONN_H

#include "lib/base/buf.h"
#include "lib/net/conn.h"
#include "lib/net/loop.h"
#include "lib/net/ws.h"
#include "lib/net/ws_deflate.h"
#include "lib/net/ws_frame.h"

/* Takes @conn, @rest (the bytes read behind the head) and @first (sent before any frame). @terms: bits 0 where
 * permessage-deflate was not agreed on. Nothing is called from inside. */
struct ws *ws_conn_new(struct loop *loop, struct conn *conn, struct buf *rest,
		       struct ws_frame *first, const struct ws_terms *terms,
		       const struct ws_options *options, const struct ws_ops *ops, void *ctx);

#endif
