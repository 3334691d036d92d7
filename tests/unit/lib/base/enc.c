#include "lib/base/enc.h"

#include "tests/unit/test.h"

SUITE("base/enc");

TEST(base64_gives_the_examples_of_rfc_4648)
{
	static const struct {
		const char *plain, *text;
	} known[] = {{"", ""},
		     {"f", "Zg=="},
		     {"fo", "Zm8="},
		     {"foo", "Zm9v"},
		     {"foob", "Zm9vYg=="},
		     {"fooba", "Zm9vYmE="},
		     {"foobar", "Zm9vYmFy"}};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		struct buf out = {0}, back = {0};

		enc_base64(&out, str_of(known[i].plain));
		ck_assert_view(buf_str(&out), known[i].text);
		ck_assert(enc_base64_decode(&back, buf_str(&out)) == ENC_OK);
		ck_assert_view(buf_str(&back), known[i].plain);
		buf_fini(&out);
		buf_fini(&back);
	}
}

TEST(the_url_alphabet_has_no_padding_and_reads_back)
{
	struct buf out = {0}, back = {0};

	enc_base64url(&out, STR("\xFB\xFF\xFE\xFF"));
	ck_assert_view(buf_str(&out), "-__-_w");
	ck_assert(enc_base64_decode(&back, buf_str(&out)) == ENC_OK);
	ck_assert(str_eq(buf_str(&back), STR("\xFB\xFF\xFE\xFF")));
	buf_fini(&out);
	buf_fini(&back);
}

TEST(bad_base64_is_refused)
{
	static const char *const bad[] = {"A",	  "AAAAA", "A=",   "A===", "====", "=",
					  "AA=A", "A A=",  "Zh==", "Zm9=", "AB\n="};
	struct buf out = {0};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(enc_base64_decode(&out, str_of(bad[i])) == ENC_MALFORMED, "%s",
			      bad[i]);
	buf_fini(&out);
}

TEST(hex_goes_both_ways)
{
	struct buf out = {0}, back = {0};

	enc_hex(&out, STR("\x00\x7F\xFF"));
	ck_assert_view(buf_str(&out), "007fff");
	ck_assert(enc_hex_decode(&back, STR("007FfF")) == ENC_OK);
	ck_assert(str_eq(buf_str(&back), STR("\x00\x7F\xFF")));
	ck_assert(enc_hex_decode(&back, STR("0")) == ENC_MALFORMED);
	ck_assert(enc_hex_decode(&back, STR("0g")) == ENC_MALFORMED);
	buf_fini(&out);
	buf_fini(&back);
}

TEST(varints_go_both_ways)
{
	static const uint64_t value[] = {
	    0, 1, 127, 128, 300, 16383, 16384, UINT32_MAX, UINT64_MAX - 1, UINT64_MAX};
	struct buf out = {0};
	struct str rest;
	uint64_t got;

	for (size_t i = 0; i < sizeof(value) / sizeof(value[0]); i++)
		enc_varint(&out, value[i]);
	rest = buf_str(&out);
	for (size_t i = 0; i < sizeof(value) / sizeof(value[0]); i++) {
		ck_assert(enc_varint_decode(&rest, &got) == ENC_OK);
		ck_assert_uint_eq(got, value[i]);
	}
	ck_assert_uint_eq(rest.len, 0);
	ck_assert(enc_varint_decode(&rest, &got) == ENC_MALFORMED);
	buf_fini(&out);
}

TEST(a_varint_that_is_cut_too_long_or_too_big_is_refused_and_left)
{
	struct str cut = STR("\x80"), padded = STR("\x80\x00");
	struct str eleven = STR("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01");
	struct str big = STR("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x02");
	uint64_t got;

	ck_assert(enc_varint_decode(&cut, &got) == ENC_MALFORMED);
	ck_assert(enc_varint_decode(&padded, &got) == ENC_MALFORMED);
	ck_assert(enc_varint_decode(&eleven, &got) == ENC_MALFORMED);
	ck_assert(enc_varint_decode(&big, &got) == ENC_MALFORMED);
	ck_assert_uint_eq(padded.len, 2);
}
