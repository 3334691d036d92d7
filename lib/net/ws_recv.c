#include "lib/net/ws_recv.h"

#include <string.h>
#include <wslay/wslay.h>

#include "lib/base/mem.h"
#include "lib/net/ws_deflate.h"

#define MAX_CONTROL 125
#define MAX_HEAD 14
#define KEEP_BYTES 4096
#define RSV1 4

struct ws_arriving {
	wslay_frame_context_ptr wslay;
	struct str *in;	 /* during a call */
	uint64_t inside; /* bytes of the frame at hand that were handed over */
	uint64_t got;	 /* payload bytes of the frame at hand */
	bool begun;	 /* its header was seen */
	uint8_t head[MAX_HEAD];
	uint8_t control_len;
	char control[MAX_CONTROL];
};

void ws_recv_init(struct ws_recv *r, size_t max_text_bytes, size_t max_binary_bytes)
{
	*r = (struct ws_recv){
	    .max_text_bytes = max_text_bytes,
	    .max_binary_bytes = max_binary_bytes,
	};
}

static void detach(struct ws_recv *r)
{
	if (!r->arriving)
		return;
	wslay_frame_context_free(r->arriving->wslay);
	mem_free(r->arriving);
	r->arriving = NULL;
}

static void unpacked(struct ws_recv *r)
{
	ws_unpack_end(r->unpack);
	r->unpack = NULL;
	r->packed_bytes = 0;
}

void ws_recv_fini(struct ws_recv *r)
{
	detach(r);
	unpacked(r);
	buf_fini(&r->message);
}

bool ws_recv_busy(const struct ws_recv *r)
{
	return r->arriving && r->arriving->inside;
}

static size_t wide_of(uint8_t len7)
{
	return len7 < 126 ? 0 : len7 == 126 ? 2 : 8;
}

/* Of the frame at hand: good from its second byte on; its payload from the header's end on. */
static size_t head_bytes(const struct ws_arriving *a)
{
	return 2 + wide_of(a->head[1] & 0x7f) + 4;
}

static uint64_t payload_bytes(const struct ws_arriving *a)
{
	uint64_t len = a->head[1] & 0x7f;
	size_t wide = wide_of((uint8_t)len);

	if (wide)
		len = 0;
	for (size_t i = 0; i < wide; i++)
		len = len << 8 | a->head[2 + i];
	return len;
}

/* How many bytes the frame at hand still lacks, as far as its head is known: nothing of the next frame is handed
 * over, so that where one ends is always known. */
static uint64_t lacking(const struct ws_arriving *a)
{
	size_t head = head_bytes(a);

	if (a->inside < 2)
		return 2 - a->inside;
	if (a->inside < head)
		return head - a->inside;
	return head + payload_bytes(a) - a->inside;
}

static ssize_t pull(uint8_t *into, size_t size, int flags, void *ctx)
{
	struct ws_arriving *a = ctx;
	uint64_t want = lacking(a);
	size_t count = a->in->len < size ? a->in->len : size;

	(void)flags;
	if (count > want)
		count = (size_t)want;
	if (!count)
		return -1;
	memcpy(into, a->in->ptr, count);
	for (size_t i = 0; i < count && a->inside + i < MAX_HEAD; i++)
		a->head[a->inside + i] = into[i];
	*a->in = (struct str){a->in->ptr + count, a->in->len - count};
	a->inside += count;
	return (ssize_t)count;
}

static void attach(struct ws_recv *r)
{
	static const struct wslay_frame_callbacks callbacks = {.recv_callback = pull};

	r->arriving = mem_new(struct ws_arriving);
	must(wslay_frame_context_init(&r->arriving->wslay, &callbacks, r->arriving) == 0);
}

static enum ws_event broken(struct ws_recv *r, uint16_t code, const char *reason)
{
	detach(r);
	unpacked(r);
	buf_fini(&r->message);
	r->code = code;
	r->reason = reason;
	return WS_BROKEN;
}

/* ---- UTF-8, byte by byte (RFC 3629) ---- */

static bool utf8_lead(struct ws_recv *r, uint8_t c)
{
	r->utf8_low = 0x80;
	r->utf8_high = 0xbf;
	if (c >= 0xc2 && c <= 0xdf) {
		r->utf8_need = 1;
	} else if (c >= 0xe0 && c <= 0xef) {
		r->utf8_need = 2;
		if (c == 0xe0)
			r->utf8_low = 0xa0;
		if (c == 0xed)
			r->utf8_high = 0x9f;
	} else if (c >= 0xf0 && c <= 0xf4) {
		r->utf8_need = 3;
		if (c == 0xf0)
			r->utf8_low = 0x90;
		if (c == 0xf4)
			r->utf8_high = 0x8f;
	} else {
		return false;
	}
	return true;
}

static bool utf8_feed(struct ws_recv *r, const uint8_t *at, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		uint8_t c = at[i];

		if (!r->utf8_need) {
			if (c >= 0x80 && !utf8_lead(r, c))
				return false;
			continue;
		}
		if (c < r->utf8_low || c > r->utf8_high)
			return false;
		r->utf8_low = 0x80;
		r->utf8_high = 0xbf;
		r->utf8_need--;
	}
	return true;
}

/* ---- frames ---- */

bool ws_code_ok(unsigned code)
{
	return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
	       (code >= 3000 && code <= 4999);
}

static size_t limit_of(const struct ws_recv *r)
{
	return r->opcode == WSLAY_TEXT_FRAME ? r->max_text_bytes : r->max_binary_bytes;
}

/* Does the message stay within its limit with this frame? What does not get smaller may grow by a block's head each 64 KiB
 * (zlib: 16 KiB) when it is packed; how far it unpacks is looked at when it does. */
static bool size_ok(const struct ws_recv *r, uint64_t frame_bytes)
{
	uint64_t limit = limit_of(r), before = r->message.len + r->skipped;

	if (r->packed) {
		limit += limit / 1024 + 64;
		before = r->packed_bytes + r->skipped;
	}
	return frame_bytes <= limit && before <= limit - frame_bytes;
}

/* RSV1 says that a message is packed (RFC 7692, 6): it stands in its first frame only. */
static bool rsv_ok(const struct ws_recv *r, unsigned rsv, unsigned opcode)
{
	return !rsv || (rsv == RSV1 && r->deflate &&
			(opcode == WSLAY_TEXT_FRAME || opcode == WSLAY_BINARY_FRAME));
}

/* A frame's header is known: may it come? Sets code and reason where not. */
static bool frame_ok(struct ws_recv *r, const struct wslay_frame_iocb *f)
{

	r->code = 1002;
	r->reason = "a frame without mask";
	if (!f->mask)
		return false;
	r->reason = "reserved bits are set";
	if (!rsv_ok(r, f->rsv, f->opcode))
		return false;
	r->reason = "an unknown opcode";
	if ((f->opcode > WSLAY_BINARY_FRAME && f->opcode < WSLAY_CONNECTION_CLOSE) ||
	    f->opcode > WSLAY_PONG)
		return false;
	if (wslay_is_ctrl_frame(f->opcode))
		return true;
	r->reason = "a continuation of nothing, or a message within another";
	if ((f->opcode == WSLAY_CONTINUATION_FRAME) != (r->opcode != 0))
		return false;
	if (f->opcode) {
		r->opcode = f->opcode;
		r->packed = f->rsv;
		r->skipped = 0;
	}
	r->code = 1009;
	r->reason = "the message is too big";
	return size_ok(r, f->payload_length);
}

static bool skipping(const struct ws_recv *r)
{
	return r->skip_binary && r->opcode == WSLAY_BINARY_FRAME;
}

/* The header of the frame at hand is known. WS_MORE: it may come. */
static enum ws_event begin_frame(struct ws_recv *r, const struct wslay_frame_iocb *f)
{
	if (!frame_ok(r, f))
		return broken(r, r->code, r->reason);
	r->arriving->begun = true;
	r->arriving->control_len = 0;
	return f->opcode && skipping(r) && !wslay_is_ctrl_frame(f->opcode) ? WS_BINARY : WS_MORE;
}

/* wslay is silent until the first byte of a payload. False where the header is not whole. */
static bool head_known(const struct ws_arriving *a, struct wslay_frame_iocb *ret_frame)
{
	if (a->inside < 2 || a->inside < head_bytes(a))
		return false;
	*ret_frame = (struct wslay_frame_iocb){.fin = a->head[0] >> 7,
					       .rsv = (a->head[0] >> 4) & 7,
					       .opcode = a->head[0] & 15,
					       .payload_length = payload_bytes(a),
					       .mask = a->head[1] >> 7};
	return true;
}

/* What the first two bytes of a frame say, before the rest of it comes. */
static bool first_bytes_ok(struct ws_recv *r, struct str in)
{
	uint64_t inside = r->arriving ? r->arriving->inside : 0;

	r->code = 1002;
	r->reason = "reserved bits are set";
	if (inside == 0 && in.len >= 1 && !rsv_ok(r, (uint8_t)in.ptr[0] >> 4 & 7, in.ptr[0] & 15))
		return false;
	r->reason = "a frame without mask";
	return inside > 1 || in.len + inside < 2 || (in.ptr[1 - inside] & 0x80);
}

static enum ws_event end_close(struct ws_recv *r, struct ws_arriving *a, struct str *ret_payload)
{
	struct str reason = {"", 0};

	r->code = 1005;
	if (a->control_len == 1)
		return broken(r, 1002, "half a close code");
	if (a->control_len) {
		r->code = (uint16_t)((uint8_t)a->control[0] << 8 | (uint8_t)a->control[1]);
		reason = (struct str){a->control + 2, a->control_len - 2U};
	}
	if (a->control_len && !ws_code_ok(r->code))
		return broken(r, 1002, "a close code that may not be sent");
	if (!str_utf8(reason))
		return broken(r, 1007, "the close reason is not UTF-8");
	*ret_payload = reason;
	return WS_CLOSE;
}

/* Unpacks a piece of the message; false with code and reason where it is none, or too much. */
static bool keep_packed(struct ws_recv *r, struct str piece, bool last)
{
	if (!r->unpack)
		r->unpack = ws_unpack_begin(r->deflate);
	r->packed_bytes += piece.len;
	switch (ws_unpack_feed(r->unpack, piece, last, limit_of(r), &r->message)) {
	case WS_UNPACK_OK:
		if (last)
			unpacked(r);
		return true;
	case WS_UNPACK_LARGE:
		r->code = 1009;
		r->reason = "the message is too big";
		return false;
	default:
		r->code = 1007;
		r->reason = "the packed message is malformed";
		return false;
	}
}

/* Adds a piece of the message. */
static bool keep(struct ws_recv *r, struct str piece, bool last)
{
	size_t before = r->message.len;

	if (!r->packed)
		buf_add_str(&r->message, piece);
	else if (!keep_packed(r, piece, last))
		return false;
	if (r->opcode != WSLAY_TEXT_FRAME || r->message.len == before)
		return true;
	r->code = 1007;
	r->reason = "the text is not UTF-8";
	return utf8_feed(r, (const uint8_t *)buf_str(&r->message).ptr + before,
			 r->message.len - before);
}

static enum ws_event end_frame(struct ws_recv *r, const struct wslay_frame_iocb *f,
			       struct str *ret_payload)
{
	struct ws_arriving *a = r->arriving;

	a->inside = 0;
	a->begun = false;
	a->got = 0;
	if (f->opcode == WSLAY_CONNECTION_CLOSE)
		return end_close(r, a, ret_payload);
	if (wslay_is_ctrl_frame(f->opcode)) {
		*ret_payload = (struct str){a->control, a->control_len};
		return f->opcode == WSLAY_PING ? WS_PING : WS_PONG;
	}
	if (!f->fin)
		return WS_MORE;
	if (skipping(r)) {
		r->opcode = 0;
		return WS_MORE;
	}
	if (r->packed && !keep(r, STR(""), true))
		return broken(r, r->code, r->reason);
	if (r->opcode == WSLAY_TEXT_FRAME && r->utf8_need)
		return broken(r, 1007, "the text is not UTF-8");
	*ret_payload = buf_str(&r->message);
	r->delivered = true;
	enum ws_event event = r->opcode == WSLAY_TEXT_FRAME ? WS_TEXT : WS_BINARY;

	r->opcode = 0;
	return event;
}

/* A piece of a frame, or its end. WS_MORE here: go on. */
static enum ws_event take_piece(struct ws_recv *r, const struct wslay_frame_iocb *f, size_t count,
				struct str *ret_payload)
{
	struct ws_arriving *a = r->arriving;
	enum ws_event event, first = a->begun ? WS_MORE : begin_frame(r, f);

	if (first == WS_BROKEN)
		return first;
	a->got += count;
	if (wslay_is_ctrl_frame(f->opcode)) {
		memcpy(a->control + a->control_len, f->data, count);
		a->control_len = (uint8_t)(a->control_len + count);
	} else if (skipping(r)) {
		r->skipped += count;
	} else if (!keep(r, (struct str){(const char *)f->data, count}, false)) {
		return broken(r, r->code, r->reason);
	}
	event = a->got == f->payload_length ? end_frame(r, f, ret_payload) : WS_MORE;
	return event == WS_MORE ? first : event;
}

/* Gives back what the last event used. */
static void forget_delivered(struct ws_recv *r)
{
	if (!r->delivered)
		return;
	r->delivered = false;
	r->utf8_need = 0;
	if (r->message.cap > KEEP_BYTES)
		buf_fini(&r->message);
	else
		buf_reset(&r->message);
}

void ws_recv_rest(struct ws_recv *r)
{
	forget_delivered(r);
	if (ws_recv_busy(r))
		return;
	detach(r);
	if (!r->opcode)
		buf_fini(&r->message);
}

enum ws_event ws_recv_next(struct ws_recv *r, struct str *in, struct str *ret_payload)
{
	struct wslay_frame_iocb frame;

	*ret_payload = (struct str){"", 0};
	forget_delivered(r);
	for (;;) {
		if (!ws_recv_busy(r) && !in->len) {
			ws_recv_rest(r);
			return WS_MORE;
		}
		if (!first_bytes_ok(r, *in))
			return broken(r, r->code, r->reason);
		if (!r->arriving)
			attach(r);
		r->arriving->in = in;
		memset(&frame, 0, sizeof(frame));
		ssize_t n = wslay_frame_recv(r->arriving->wslay, &frame);

		if (n == WSLAY_ERR_WANT_READ)
			return !r->arriving->begun && head_known(r->arriving, &frame)
				   ? begin_frame(r, &frame)
				   : WS_MORE;
		if (n < 0)
			return broken(r, 1002, "a malformed frame");
		enum ws_event event = take_piece(r, &frame, (size_t)n, ret_payload);

		if (event != WS_MORE)
			return event;
	}
}
