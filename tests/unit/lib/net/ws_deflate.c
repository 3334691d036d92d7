#include "lib/net/ws_deflate.h"
#include "lib/net/ws_frame.h"
#include "tests/unit/test.h"

SUITE("net/ws_deflate");

static unsigned bits_of(const char *offers)
{
	struct ws_terms terms = {0};

	return ws_offer_read(str_of(offers), &terms) == WS_OFFER_TAKEN ? terms.bits : 0;
}

TEST(the_first_offer_that_can_be_met_is_taken)
{
	ck_assert_uint_eq(bits_of("permessage-deflate"), 15);
	ck_assert_uint_eq(bits_of("permessage-deflate; client_max_window_bits"), 15);
	ck_assert_uint_eq(bits_of("x-webkit; a=b, Permessage-Deflate;server_max_window_bits=12"),
			  12);
	ck_assert_uint_eq(bits_of("permessage-deflate; server_max_window_bits=8, "
				  "permessage-deflate; server_max_window_bits=\"9\""),
			  9);
	ck_assert_uint_eq(bits_of("permessage-deflate; server_no_context_takeover; "
				  "client_no_context_takeover; client_max_window_bits=10"),
			  15);
}

TEST(offers_with_wrong_parameters_are_declined)
{
	static const char *const offers[] = {
	    "",
	    "x-other",
	    "permessage-deflate; x=1",
	    "permessage-deflate; server_no_context_takeover=1",
	    "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
	    "permessage-deflate; server_max_window_bits",
	    "permessage-deflate; server_max_window_bits=08",
	    "permessage-deflate; server_max_window_bits=16",
	    "permessage-deflate; server_max_window_bits=8",
	    "permessage-deflate; client_max_window_bits=7",
	};
	struct ws_terms terms;

	for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++)
		ck_assert_int_eq(ws_offer_read(str_of(offers[i]), &terms), WS_OFFER_DECLINED);
}

TEST(what_is_no_list_of_extensions_is_broken)
{
	static const char *const offers[] = {"permessage-deflate;",
					     "permessage-deflate a",
					     "=1",
					     "a; b=\"c d\"",
					     "a; b=\"c",
					     "a; b="};
	struct ws_terms terms;

	for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++)
		ck_assert_int_eq(ws_offer_read(str_of(offers[i]), &terms), WS_OFFER_BROKEN);
}

TEST(the_answer_promises_no_takeover_and_a_smaller_window_where_asked)
{
	struct ws_terms whole = {15}, small = {10};
	struct buf out = {0};

	ws_terms_write(&whole, &out);
	ck_assert_view(
	    buf_str(&out),
	    "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
	buf_reset(&out);
	ws_terms_write(&small, &out);
	ck_assert_view(buf_str(&out), "permessage-deflate; server_no_context_takeover; "
				      "client_no_context_takeover; server_max_window_bits=10");
	buf_fini(&out);
}

static int unpack(struct str in, size_t limit, struct buf *out)
{
	struct ws_deflate *d = ws_deflate_new(1, 0);
	struct ws_unpack *u = ws_unpack_begin(d);
	int r = ws_unpack_feed(u, in, true, limit, out);

	ws_unpack_end(u);
	ws_deflate_unref(d);
	return r;
}

static void expect_hello(struct str packed)
{
	struct buf out = {0};

	ck_assert_int_eq(unpack(packed, 5, &out), WS_UNPACK_OK);
	ck_assert_view(buf_str(&out), "Hello");
	buf_fini(&out);
}

/* RFC 7692, 7.2.3. */
TEST(the_examples_of_the_rfc_unpack)
{
	expect_hello(STR("\xf2\x48\xcd\xc9\xc9\x07\x00"));
	expect_hello(STR("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"));
	expect_hello(STR("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"));
	expect_hello(STR("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"));
}

TEST(a_block_that_says_it_is_the_last_may_be_followed_by_others_of_one_window)
{
	struct buf out = {0};

	/* "Hello" in a last block, then a block that copies those five bytes from the window. */
	ck_assert_int_eq(unpack(STR("\xf3\x48\xcd\xc9\xc9\x07\x00\x02\x13\x00\x00"), 100, &out),
			 WS_UNPACK_OK);
	ck_assert_view(buf_str(&out), "HelloHello");
	buf_fini(&out);
}

TEST(what_is_cut_or_no_deflate_is_bad)
{
	struct buf out = {0};

	ck_assert_int_eq(unpack(STR("\xf2\x48\xcd"), 100, &out), WS_UNPACK_BAD);
	ck_assert_int_eq(unpack(STR("\xff\xff\xff"), 100, &out), WS_UNPACK_BAD);
	ck_assert_int_eq(unpack(STR("\x00\x05\x00\xfa\xff\x48"), 100, &out), WS_UNPACK_BAD);
	buf_fini(&out);
}

TEST(a_bomb_is_stopped_at_the_limit)
{
	struct ws_deflate *d = ws_deflate_new(1, 0);
	struct buf zeros = {0}, packed = {0}, out = {0};

	memset(buf_room(&zeros, 10 << 20), 0, 10 << 20);
	buf_added(&zeros, 10 << 20);
	ck_assert(ws_deflate_pack(d, 15, buf_str(&zeros), &packed));
	ck_assert_uint_lt(packed.len, 65536);
	ck_assert_int_eq(unpack(buf_str(&packed), 1000, &out), WS_UNPACK_LARGE);
	ck_assert_uint_eq(out.len, 1001);
	ck_assert_uint_lt(out.cap, 8192);
	buf_fini(&zeros);
	buf_fini(&packed);
	buf_fini(&out);
	ws_deflate_unref(d);
}

TEST(short_messages_and_those_that_do_not_shrink_stay_as_they_are)
{
	struct ws_deflate *d = ws_deflate_new(1, 512);
	struct buf out = {0};
	char text[1024];

	memset(text, 'a', sizeof(text));
	ck_assert(!ws_deflate_pack(d, 15, (struct str){text, 511}, &out));
	ck_assert(ws_deflate_pack(d, 15, (struct str){text, 512}, &out));
	buf_reset(&out);
	for (size_t i = 0; i < sizeof(text); i++) /* no three bytes of it come again */
		text[i] = (char)(i % 2 ? i * 167 / 2 : i / 2 * 91 + i / 512);
	ck_assert(!ws_deflate_pack(d, 15, (struct str){text, 512}, &out));
	ck_assert_uint_eq(out.len, 0);
	ws_deflate_unref(d);
	buf_fini(&out);
}

TEST(a_frame_is_packed_once_for_all_whole_windows)
{
	struct ws_deflate *d = ws_deflate_new(1, 512);
	char text[2000];

	memset(text, 'a', sizeof(text));
	struct ws_frame *frame = ws_frame_new(true, (struct str){text, sizeof(text)});
	struct ws_frame *one = ws_frame_pack(frame, d, 15), *two = ws_frame_pack(frame, d, 15);
	struct ws_frame *small = ws_frame_pack(frame, d, 9);

	ck_assert_ptr_eq(one, two);
	ck_assert_ptr_ne(one, frame);
	ck_assert_ptr_ne(small, one);
	ck_assert_uint_eq((unsigned char)one->bytes[0], 0xc1);
	ck_assert_uint_lt(one->len, 100);
	ws_frame_unref(small);
	ws_frame_unref(frame);
	ck_assert_uint_eq((unsigned char)two->bytes[0], 0xc1); /* outlives the plain one */
	ws_frame_unref(one);
	ws_frame_unref(two);
	ws_deflate_unref(d);
}

TEST(control_frames_are_never_packed)
{
	struct ws_deflate *d = ws_deflate_new(1, 0);
	struct ws_frame *frame = ws_frame_make(WS_OP_PING, STR("aaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
	struct ws_frame *packed = ws_frame_pack(frame, d, 15);

	ck_assert_ptr_eq(packed, frame);
	ws_frame_unref(packed);
	ws_frame_unref(frame);
	ws_deflate_unref(d);
}
