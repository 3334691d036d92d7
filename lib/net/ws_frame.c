#include "lib/net/ws_frame.h"

#include <string.h>

#include "lib/base/mem.h"
#include "lib/net/ws_deflate.h"

#define MAX_REASON 123
#define FIN 0x80
#define RSV1 0x40
#define CONTROL 8

static struct ws_frame *frame_alloc(size_t len)
{
	struct ws_frame *frame = mem_alloc(sizeof(*frame) + len);

	frame->refs = 1;
	frame->len = len;
	return frame;
}

static size_t put_header(uint8_t *at, uint8_t first, uint64_t len)
{
	size_t wide = len < 126 ? 0 : len < 65536 ? 2 : 8;

	at[0] = first;
	at[1] = (uint8_t)(wide == 0 ? len : wide == 2 ? 126 : 127);
	for (size_t i = 0; i < wide; i++)
		at[2 + i] = (uint8_t)(len >> (8 * (wide - 1 - i)));
	return 2 + wide;
}

static struct ws_frame *frame_build(uint8_t first, struct str payload)
{
	uint8_t header[10];
	size_t head = put_header(header, first, payload.len);
	struct ws_frame *frame = frame_alloc(head + payload.len);

	frame->head = (uint8_t)head;
	memcpy(frame->bytes, header, head);
	if (payload.len)
		memcpy(frame->bytes + head, payload.ptr, payload.len);
	return frame;
}

struct ws_frame *ws_frame_make(enum ws_opcode opcode, struct str payload)
{
	must(opcode < WS_OP_CLOSE || payload.len <= 125);
	return frame_build((uint8_t)(FIN | opcode), payload);
}

/* NULL where @frame is better sent as it is. */
static struct ws_frame *packed(const struct ws_frame *frame, struct ws_deflate *d, unsigned bits)
{
	struct str payload = {frame->bytes + frame->head, frame->len - frame->head};
	struct ws_frame *made = NULL;
	struct buf out = {0};

	if (frame->head && !(frame->bytes[0] & CONTROL) && ws_deflate_pack(d, bits, payload, &out))
		made = frame_build((uint8_t)frame->bytes[0] | RSV1, buf_str(&out));
	buf_fini(&out);
	return made;
}

struct ws_frame *ws_frame_pack(struct ws_frame *frame, struct ws_deflate *d, unsigned bits)
{
	struct ws_frame *made;

	if (bits != 15) {
		made = packed(frame, d, bits);
		return made ? made : ws_frame_ref(frame);
	}
	if (!frame->tried) {
		frame->tried = true;
		frame->packed = packed(frame, d, bits);
	}
	return ws_frame_ref(frame->packed ? frame->packed : frame);
}

struct ws_frame *ws_frame_close(unsigned code, struct str reason)
{
	char payload[2 + MAX_REASON];
	size_t len = str_utf8_cut(reason, MAX_REASON);

	if (code == 1005)
		return ws_frame_make(WS_OP_CLOSE, STR(""));
	payload[0] = (char)(code >> 8);
	payload[1] = (char)code;
	if (len)
		memcpy(payload + 2, reason.ptr, len);
	return ws_frame_make(WS_OP_CLOSE, (struct str){payload, 2 + len});
}

struct ws_frame *ws_frame_raw(struct str bytes)
{
	struct ws_frame *frame = frame_alloc(bytes.len);

	memcpy(frame->bytes, bytes.ptr, bytes.len);
	return frame;
}

struct ws_frame *ws_frame_new(bool text, struct str payload)
{
	return ws_frame_make(text ? WS_OP_TEXT : WS_OP_BINARY, payload);
}

struct ws_frame *ws_frame_ref(struct ws_frame *frame)
{
	frame->refs++;
	return frame;
}

void ws_frame_unref(struct ws_frame *frame)
{
	if (!frame || --frame->refs)
		return;
	ws_frame_unref(frame->packed);
	mem_free(frame);
}
