/* lib/net/sse.h: any split of the bytes gives the same events, or is refused the same way. */
#include "lib/net/sse.h"

#include "lib/base/err.h"
#include "tests/fuzz/fuzz.h"

#define MAX_BYTES 4096

static void note(void *ctx, struct str event, struct str data)
{
	struct buf *log = ctx;

	must(event.len <= MAX_BYTES && data.len <= MAX_BYTES);
	buf_add_str(log, event);
	buf_add_char(log, 0);
	buf_add_str(log, data);
	buf_add_char(log, 0);
}

static bool feed(struct str bytes, size_t piece, struct buf *log)
{
	enum sse_result r = SSE_OK;
	struct sse sse;

	sse_init(&sse, MAX_BYTES, note, log);
	for (size_t at = 0; at < bytes.len && r == SSE_OK; at += piece) {
		size_t len = bytes.len - at < piece ? bytes.len - at : piece;

		r = sse_feed(&sse, (struct str){bytes.ptr + at, len});
	}
	if (r == SSE_OK)
		sse_finish(&sse);
	sse_fini(&sse);
	return r == SSE_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole = {0}, pieces = {0};

	if (size < 1)
		return 0;
	struct str bytes = {(const char *)data + 1, size - 1};
	bool ok = feed(bytes, bytes.len + 1, &whole);

	must(feed(bytes, 1U + data[0] % 16, &pieces) == ok);
	must(str_eq(buf_str(&whole), buf_str(&pieces)));
	buf_fini(&whole);
	buf_fini(&pieces);
	return 0;
}
