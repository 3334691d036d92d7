/* lib/base/enc.h: everything encodes and comes back; what decodes has one text only. */
#include "lib/base/enc.h"

#include "tests/fuzz/fuzz.h"

static void bytes_come_back(struct str bytes)
{
	struct buf text = {0}, back = {0};

	enc_base64(&text, bytes);
	must(enc_base64_decode(&back, buf_str(&text)) == ENC_OK && str_eq(buf_str(&back), bytes));
	buf_reset(&text);
	buf_reset(&back);
	enc_base64url(&text, bytes);
	must(enc_base64_decode(&back, buf_str(&text)) == ENC_OK && str_eq(buf_str(&back), bytes));
	buf_reset(&text);
	buf_reset(&back);
	enc_hex(&text, bytes);
	must(enc_hex_decode(&back, buf_str(&text)) == ENC_OK && str_eq(buf_str(&back), bytes));
	buf_fini(&text);
	buf_fini(&back);
}

static void varints_have_one_form(struct str rest)
{
	struct str before = rest;
	struct buf again = {0};
	uint64_t value;

	while (enc_varint_decode(&rest, &value) == ENC_OK) {
		buf_reset(&again);
		enc_varint(&again, value);
		must(str_eq(buf_str(&again), (struct str){before.ptr, before.len - rest.len}));
		before = rest;
	}
	must(before.ptr == rest.ptr && before.len == rest.len);
	buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = {size ? (const char *)data : "", size};
	struct buf out = {0};

	bytes_come_back(text);
	varints_have_one_form(text);
	if (enc_base64_decode(&out, text) == ENC_OK)
		must(out.len <= size / 4 * 3 + 3);
	buf_reset(&out);
	if (enc_hex_decode(&out, text) == ENC_OK)
		must(out.len * 2 == size);
	buf_fini(&out);
	return 0;
}
