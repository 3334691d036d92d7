/* lib/net/ws_recv.h: any split of the bytes gives the same messages and the same refusal; a text is UTF-8, nothing is
 * over its limit (packed or not), nothing is kept between messages, and of a skipped binary message nothing at all. */
#include "lib/net/ws_deflate.h"
#include "lib/net/ws_recv.h"

#include "tests/fuzz/fuzz.h"

#define MAX_TEXT 1000
#define MAX_BINARY 2000
/* Bits of the first byte. */
#define SKIP 16
#define PACKED 32

static void note(struct ws_recv *r, enum ws_event event, struct str payload, struct buf *log)
{
	must(event != WS_TEXT || (str_utf8(payload) && payload.len <= MAX_TEXT));
	must(event != WS_BINARY || payload.len <= (r->skip_binary ? 0 : MAX_BINARY));
	must(!r->skip_binary || r->message.len <= MAX_TEXT);
	must(event == WS_TEXT || event == WS_BINARY || payload.len <= 125);
	must(event != WS_CLOSE || r->code == 1005 || ws_code_ok(r->code));
	buf_add_char(log, (char)('0' + event));
	buf_add_str(log, payload);
}

static unsigned feed(struct str bytes, size_t piece, uint8_t mode, struct buf *log)
{
	struct ws_deflate *deflate = mode & PACKED ? ws_deflate_new(1, 512) : NULL;
	enum ws_event event = WS_MORE;
	struct ws_recv r;

	ws_recv_init(&r, MAX_TEXT, MAX_BINARY);
	r.skip_binary = mode & SKIP;
	r.deflate = deflate;
	for (size_t at = 0; at < bytes.len && event != WS_BROKEN && event != WS_CLOSE;
	     at += piece) {
		struct str in = {bytes.ptr + at, bytes.len - at < piece ? bytes.len - at : piece};
		struct str payload;

		do {
			event = ws_recv_next(&r, &in, &payload);
			if (event != WS_MORE && event != WS_BROKEN)
				note(&r, event, payload, log);
		} while (event != WS_MORE && event != WS_BROKEN && event != WS_CLOSE);
		must(event != WS_MORE || !in.len);
		must(event != WS_MORE || ws_recv_busy(&r) || !r.arriving);
		must(event != WS_MORE || ws_recv_busy(&r) || r.opcode || !r.unpack);
	}
	unsigned code = event == WS_BROKEN ? r.code : 0;

	ws_recv_fini(&r);
	ws_deflate_unref(deflate);
	return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole = {0}, pieces = {0};

	if (size < 1)
		return 0;
	struct str bytes = {(const char *)data + 1, size - 1};
	unsigned code = feed(bytes, bytes.len + 1, data[0], &whole);

	must(feed(bytes, 1U + data[0] % 16, data[0], &pieces) == code);
	must(str_eq(buf_str(&whole), buf_str(&pieces)));
	buf_fini(&whole);
	buf_fini(&pieces);
	return 0;
}
