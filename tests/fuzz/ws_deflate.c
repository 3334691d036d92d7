/* lib/net/ws_deflate.h: an offer is read without slips, and what is taken keeps to its terms; what is packed unpacks to
 * itself, in any pieces; what comes from outside unpacks in any pieces to the same bytes or the same refusal, never to more
 * than the limit. The first byte chooses. */
#include "lib/net/ws_deflate.h"

#include "tests/fuzz/fuzz.h"

#define LIMIT 5000

static void check_offer(struct str field)
{
	struct ws_terms terms = {0};
	struct buf answer = {0};
	int r = ws_offer_read(field, &terms);

	must(r == WS_OFFER_TAKEN || !terms.bits);
	if (r == WS_OFFER_TAKEN) {
		struct ws_terms again = {0};

		must(terms.bits >= 9 && terms.bits <= 15);
		ws_terms_write(&terms, &answer);
		must(ws_offer_read(buf_str(&answer), &again) == WS_OFFER_TAKEN);
		must(again.bits == terms.bits);
	}
	buf_fini(&answer);
}

static int unpack(struct ws_deflate *d, struct str in, size_t piece, struct buf *out)
{
	struct ws_unpack *u = ws_unpack_begin(d);
	int r = WS_UNPACK_OK;

	for (size_t at = 0; at < in.len && !r; at += piece) {
		size_t left = in.len - at;

		r = ws_unpack_feed(u, (struct str){in.ptr + at, left < piece ? left : piece}, false,
				   LIMIT, out);
	}
	if (!r)
		r = ws_unpack_feed(u, STR(""), true, LIMIT, out);
	must(out->len <= LIMIT + 1);
	ws_unpack_end(u);
	return r;
}

static void check_unpack(struct ws_deflate *d, struct str in, size_t piece)
{
	struct buf whole = {0}, pieces = {0};
	int r = unpack(d, in, in.len + 1, &whole);

	must(unpack(d, in, piece, &pieces) == r);
	must(r || str_eq(buf_str(&whole), buf_str(&pieces)));
	buf_fini(&whole);
	buf_fini(&pieces);
}

static void check_pack(struct ws_deflate *d, unsigned bits, struct str payload, size_t piece)
{
	struct buf packed = {0}, back = {0};

	if (payload.len <= LIMIT && ws_deflate_pack(d, bits, payload, &packed)) {
		must(unpack(d, buf_str(&packed), piece, &back) == WS_UNPACK_OK);
		must(str_eq(buf_str(&back), payload));
	} else {
		must(!packed.len);
	}
	buf_fini(&packed);
	buf_fini(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ws_deflate *d;

	if (size < 1)
		return 0;
	struct str bytes = {(const char *)data + 1, size - 1};
	size_t piece = 1U + (data[0] & 31);

	switch (data[0] >> 6) {
	case 0:
		check_offer(bytes);
		return 0;
	case 1:
		d = ws_deflate_new(1, 0);
		check_unpack(d, bytes, piece);
		break;
	default:
		d = ws_deflate_new(1, data[0] & 64 ? 64 : 0);
		check_pack(d, 9 + data[0] % 7, bytes, piece);
		break;
	}
	ws_deflate_unref(d);
	return 0;
}
