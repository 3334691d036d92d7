/* Server-Sent Events, read: bytes in any pieces become events (WHATWG HTML, 9.2.6). No I/O. Refuses lines and events
 * over the limit. Invalid UTF-8 is the caller's to judge. */
#ifndef SLUICE_NET_SSE_H
#define SLUICE_NET_SSE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/str.h"

/* Zeroed + sse_init. */
struct sse {
	struct buf line;
	struct buf data;
	struct buf event;
	size_t max_bytes;
	bool has_data;
	bool after_cr;
	bool begun; /* the optional BOM was looked for */
	bool stopped;
	void (*on_event)(void *ctx, struct str event, struct str data);
	void *ctx;
};

/* @max_bytes: of one event (4 MiB is safe). @on_event: event is empty where no `event:` line stood. It must not free
 * the parser; it may set *sse's ctx. */
void sse_init(struct sse *sse, size_t max_bytes,
	      void (*on_event)(void *ctx, struct str event, struct str data), void *ctx);
void sse_fini(struct sse *sse);

enum sse_result { SSE_OK = 0, SSE_TOO_BIG = 1 };
/* Feeds bytes; events are delivered from inside this call. */
must_check enum sse_result sse_feed(struct sse *sse, struct str bytes);
/* Stops delivery from within on_event: the rest of the fed bytes is ignored. */
void sse_stop(struct sse *sse);
/* At the end of the stream: delivers a last event whose blank line is missing (OpenAI's "[DONE]"). */
void sse_finish(struct sse *sse);

#endif
