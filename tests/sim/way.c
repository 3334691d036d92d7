#include <string.h>

#include "tests/sim/sim.h"

/* The break behind the fewest bytes; NULL: there is none. */
static struct sim_break *next_break(struct sim_call *call)
{
	struct sim_break *found = NULL;
	for (unsigned i = 0; i < call->how.count; i++) {
		struct sim_break *b = &call->how.breaks[i];
		if (b->after == SIM_AFTER_BYTES && !b->done && (!found || b->at < found->at))
			found = b;
	}
	return found;
}

/* How much of what waits leaves at once: a byte, all up to between CR and LF, or everything. */
static size_t piece_len(const struct sim_call *call)
{
	struct str s = buf_str(&call->waiting);
	const char *cr;
	if (call->how.bytes)
		return s.len ? 1 : 0;
	cr = call->how.crlf && s.len ? memchr(s.ptr, '\r', s.len) : NULL;
	return cr ? (size_t)(cr - s.ptr) + 1 : s.len;
}

static void way_hand(struct sim_call *call, size_t len)
{
	if (len == 0)
		return;
	struct str bytes = {buf_str(&call->waiting).ptr, len};
	if (!http_stream_write(call->req, bytes))
		call->full = true;
	call->body_bytes += len;
	buf_take(&call->waiting, len);
}

static void way_pump(struct sim_call *call)
{
	bool pieces = call->how.bytes || call->how.crlf;
	do {
		struct sim_break *b = next_break(call);
		size_t len = piece_len(call);
		if (b && b->at <= call->body_bytes + len) {
			way_hand(call, (size_t)(b->at - call->body_bytes));
			if (!sim_call_break(call, b))
				return;
		} else {
			way_hand(call, len);
			if (pieces && call->waiting.len) {
				timer_set(&call->piece, 0);
				return;
			}
		}
	} while (call->waiting.len);
	sim_call_drained(call);
}

static void on_piece(struct timer *t)
{
	way_pump(container_of(t, struct sim_call, piece));
}

void sim_way_init(struct sim_call *call)
{
	timer_init(&call->piece, call->sim->loop, on_piece);
}

static void add_crlf(struct buf *out, struct str bytes)
{
	for (size_t i = 0; i < bytes.len; i++) {
		if (bytes.ptr[i] == '\n')
			buf_add_char(out, '\r');
		buf_add_char(out, bytes.ptr[i]);
	}
}

void sim_way_write(struct sim_call *call, struct str bytes)
{
	bool crlf = call->how.crlf && call->ask.stream;
	if (!call->how.bytes && !crlf && !call->waiting.len && !next_break(call)) {
		if (bytes.len && !http_stream_write(call->req, bytes))
			call->full = true;
		call->body_bytes += bytes.len;
		return;
	}
	if (crlf)
		add_crlf(&call->waiting, bytes);
	else
		buf_add_str(&call->waiting, bytes);
	if (!timer_is_set(&call->piece))
		way_pump(call);
}

void sim_way_resume(struct sim_call *call)
{
	if (call->waiting.len && !timer_is_set(&call->piece))
		way_pump(call);
}
