#include "lib/net/ws_deflate.h"
#include "lib/net/ws_frame.h"
#include "lib/net/ws_recv.h"
#include "tests/unit/test.h"

SUITE("net/ws");

/* A client's frame: @first is its first byte; the mask is "mask". */
static void put(struct buf *to, int first, struct str payload)
{
	static const char mask[] = "mask";

	buf_add_char(to, (char)first);
	if (payload.len < 126) {
		buf_add_char(to, (char)(0x80 | payload.len));
	} else {
		buf_add_char(to, (char)0xfe);
		buf_add_char(to, (char)(payload.len >> 8));
		buf_add_char(to, (char)payload.len);
	}
	buf_add(to, mask, 4);
	for (size_t i = 0; i < payload.len; i++)
		buf_add_char(to, (char)(payload.ptr[i] ^ mask[i % 4]));
}

static bool skip_binary;
static struct ws_deflate *deflate;

static void read_in_pieces(struct str bytes, size_t piece, struct buf *log)
{
	static const char names[] = "?tbpPc!";
	struct ws_recv r;
	enum ws_event event = WS_MORE;

	ws_recv_init(&r, 300, 400);
	r.skip_binary = skip_binary;
	r.deflate = deflate;
	for (size_t at = 0; at < bytes.len && event != WS_BROKEN; at += piece) {
		struct str in = {bytes.ptr + at, bytes.len - at < piece ? bytes.len - at : piece};
		struct str payload;

		while ((event = ws_recv_next(&r, &in, &payload)) != WS_MORE && event != WS_BROKEN) {
			buf_add_char(log, names[event]);
			if (event == WS_CLOSE)
				buf_add_u64(log, r.code);
			buf_add_str(log, payload);
			buf_add_char(log, ';');
		}
		ck_assert(event == WS_BROKEN || !in.len);
	}
	if (event == WS_BROKEN)
		buf_printf(log, "!%u", r.code);
	ws_recv_fini(&r);
}

static void expect(struct buf *bytes, const char *events)
{
	for (size_t piece = 1; piece <= bytes->len; piece++) {
		struct buf log = {0};

		read_in_pieces(buf_str(bytes), piece, &log);
		ck_assert_view(buf_str(&log), events);
		buf_fini(&log);
	}
	buf_fini(bytes);
}

static void expect_one(int first, struct str payload, const char *events)
{
	struct buf bytes = {0};

	put(&bytes, first, payload);
	expect(&bytes, events);
}

TEST(messages_are_read_in_any_pieces)
{
	struct buf bytes = {0};

	put(&bytes, 0x81, STR("hi"));
	put(&bytes, 0x82, STR("\x01\xff"));
	put(&bytes, 0x81, STR(""));
	expect(&bytes, "thi;b\x01\xff;t;");
}

TEST(control_frames_may_stand_within_a_fragmented_message)
{
	struct buf bytes = {0};

	put(&bytes, 0x01, STR("a\xe2\x82"));
	put(&bytes, 0x89, STR("ping"));
	put(&bytes, 0x00, STR("\xac"));
	put(&bytes, 0x8a, STR("pong"));
	put(&bytes, 0x80, STR("b"));
	expect(&bytes, "pping;Ppong;ta\xe2\x82\xac"
		       "b;");
}

TEST(a_long_frame_is_one_message)
{
	char text[300];
	struct buf bytes = {0};
	struct buf log = {0};

	memset(text, 'x', sizeof(text));
	put(&bytes, 0x81, (struct str){text, sizeof(text)});
	read_in_pieces(buf_str(&bytes), 7, &log);
	ck_assert_uint_eq(log.len, sizeof(text) + 2);
	buf_fini(&bytes);
	buf_fini(&log);
}

TEST(what_is_over_the_limit_is_1009)
{
	char text[401] = {0};
	struct buf bytes = {0};

	expect_one(0x81, (struct str){text, 301}, "!1009");
	expect_one(0x82, (struct str){text, 401}, "!1009");
	put(&bytes, 0x01, (struct str){text, 200});
	put(&bytes, 0x80, (struct str){text, 101});
	expect(&bytes, "!1009");
}

TEST(what_is_over_the_limit_is_1009_at_its_header_before_any_payload)
{
	struct buf bytes = {0};

	buf_add(&bytes, "\x81\xfe\x01\x2dmask", 8);
	expect(&bytes, "!1009");
	buf_add(&bytes, "\x82\xff\0\0\0\0\1\x80\0\0mask", 14);
	expect(&bytes, "!1009");
	put(&bytes, 0x01, STR("so far"));
	buf_add(&bytes, "\x80\xfe\x01\x27mask", 8);
	expect(&bytes, "!1009");
}

TEST(skipped_binary_is_told_at_its_header_and_not_kept)
{
	char zeros[400] = {0};
	struct buf bytes = {0};

	skip_binary = true;
	buf_add(&bytes, "\x82\xfe\x01\x90mask", 8); /* no payload yet */
	expect(&bytes, "b;");
	put(&bytes, 0x02, (struct str){zeros, 399});
	put(&bytes, 0x89, STR("ping"));
	put(&bytes, 0x80, STR("x"));
	put(&bytes, 0x82, STR(""));
	put(&bytes, 0x81, STR("text"));
	expect(&bytes, "b;pping;b;ttext;");
	put(&bytes, 0x02, (struct str){zeros, 400});
	put(&bytes, 0x80, STR("x"));
	expect(&bytes, "b;!1009");
}

#define PACKED_HELLO "\xf2\x48\xcd\xc9\xc9\x07\x00"

TEST(packed_messages_come_whole_or_in_fragments)
{
	struct buf bytes = {0};

	deflate = ws_deflate_new(1, 512);
	put(&bytes, 0xc1, STR(PACKED_HELLO));
	put(&bytes, 0x41, STR("\xf2\x48"));
	put(&bytes, 0x89, STR("ping"));
	put(&bytes, 0x00, STR(""));
	put(&bytes, 0x80, STR("\xcd\xc9\xc9\x07\x00"));
	put(&bytes, 0x81, STR("plain"));
	put(&bytes, 0xc2, STR("\x00"));
	expect(&bytes, "tHello;pping;tHello;tplain;b;");
	ws_deflate_unref(deflate);
}

TEST(a_packed_message_that_unpacks_to_more_than_the_limit_is_1009)
{
	char zeros[5000] = {0};
	struct buf bytes = {0}, packed = {0};

	deflate = ws_deflate_new(1, 512);
	ck_assert(ws_deflate_pack(deflate, 15, (struct str){zeros, sizeof(zeros)}, &packed));
	ck_assert_uint_lt(packed.len, 100);
	put(&bytes, 0xc2, buf_str(&packed));
	expect(&bytes, "!1009");
	ws_deflate_unref(deflate);
	buf_fini(&packed);
}

TEST(packed_nonsense_is_1007_and_so_is_packed_text_that_is_not_utf8)
{
	struct buf packed = {0};

	deflate = ws_deflate_new(1, 0);
	expect_one(0xc1, STR("\xff\xff\xff"), "!1007");
	expect_one(0xc1, STR("\xf2\x48\xcd"), "!1007");
	ck_assert(ws_deflate_pack(deflate, 15, STR("a\xff"), &packed));
	expect_one(0xc1, buf_str(&packed), "!1007");
	ws_deflate_unref(deflate);
	buf_fini(&packed);
}

TEST(the_packed_bit_stands_in_first_frames_of_messages_only)
{
	struct buf bytes = {0};

	deflate = ws_deflate_new(1, 512);
	put(&bytes, 0x01, STR("a"));
	put(&bytes, 0xc0, STR("b"));
	expect(&bytes, "!1002");
	expect_one(0xc9, STR("x"), "!1002");
	expect_one(0xa1, STR("x"), "!1002");
	expect_one(0xf1, STR("x"), "!1002");
	ws_deflate_unref(deflate);
}

TEST(a_receiver_at_rest_between_frames_holds_no_memory)
{
	struct buf bytes = {0};
	struct str in, payload;
	struct ws_recv r;

	put(&bytes, 0x81, STR("hello"));
	put(&bytes, 0x81, STR("more"));
	ws_recv_init(&r, 300, 400);
	in = buf_str(&bytes);
	ck_assert_int_eq(ws_recv_next(&r, &in, &payload), WS_TEXT);
	ws_recv_rest(&r);
	ck_assert_ptr_null(r.arriving);
	ck_assert_ptr_null(r.message.data);
	ck_assert_int_eq(ws_recv_next(&r, &in, &payload), WS_TEXT);
	ck_assert_view(payload, "more");
	ws_recv_fini(&r);
	buf_fini(&bytes);
}

TEST(a_frame_without_mask_is_refused_with_its_second_byte)
{
	struct buf bytes = {0};

	buf_add(&bytes, "\x81\x05", 2);
	expect(&bytes, "!1002");
}

TEST(reserved_bits_opcodes_and_lengths_are_refused)
{
	struct buf bytes = {0};

	expect_one(0xc1, STR("x"), "!1002");
	expect_one(0xa1, STR("x"), "!1002");
	expect_one(0x91, STR("x"), "!1002");
	expect_one(0x83, STR("x"), "!1002");
	expect_one(0x8b, STR("x"), "!1002");
	buf_add(&bytes, "\x81\xfe\x00\x01mask-", 9);
	expect(&bytes, "!1002");
	buf_add(&bytes, "\x82\xff\x80\0\0\0\0\0\0\0mask", 14);
	expect(&bytes, "!1002");
}

TEST(control_frames_are_short_and_whole)
{
	char text[126] = {0};

	expect_one(0x09, STR("x"), "!1002");
	expect_one(0x89, (struct str){text, 126}, "!1002");
}

TEST(continuations_continue_something)
{
	struct buf bytes = {0};

	expect_one(0x80, STR("x"), "!1002");
	put(&bytes, 0x01, STR("a"));
	put(&bytes, 0x81, STR("b"));
	expect(&bytes, "!1002");
}

TEST(bad_utf8_is_refused_at_its_first_bad_byte)
{
	struct buf bytes = {0};

	expect_one(0x01, STR("\xff"), "!1007");
	expect_one(0x81, STR("\xed\xa0\x80"), "!1007");
	expect_one(0x81, STR("\xc0\x80"), "!1007");
	expect_one(0x81, STR("\xf4\x90\x80\x80"), "!1007");
	expect_one(0x81, STR("\xe2\x82"), "!1007");
	put(&bytes, 0x81, STR("a\xff____________"));
	bytes.len = 8; /* the rest never comes */
	expect(&bytes, "!1007");
}

TEST(close_codes_are_those_that_may_be_sent)
{
	expect_one(0x88, STR(""), "c1005;");
	expect_one(0x88,
		   STR("\x03\xe8"
		       "bye"),
		   "c1000bye;");
	expect_one(0x88, STR("\x03"), "!1002");
	expect_one(0x88, STR("\x03\xed"), "!1002");
	expect_one(0x88, STR("\x03\xe8\xff"), "!1007");
	ck_assert(ws_code_ok(3000) && ws_code_ok(4999) && ws_code_ok(1011));
	ck_assert(!ws_code_ok(999) && !ws_code_ok(1004) && !ws_code_ok(1006));
	ck_assert(!ws_code_ok(1015) && !ws_code_ok(2999) && !ws_code_ok(5000));
}

TEST(frames_to_send_have_the_shortest_head)
{
	static const struct {
		size_t payload, head;
	} cases[] = {{0, 2}, {125, 2}, {126, 4}, {65535, 4}, {65536, 10}};
	static char text[65536];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct ws_frame *frame = ws_frame_new(false, (struct str){text, cases[i].payload});

		ck_assert_uint_eq(frame->len, cases[i].head + cases[i].payload);
		ck_assert_int_eq((unsigned char)frame->bytes[0], 0x82);
		ws_frame_unref(frame);
	}
}

TEST(a_close_reason_is_cut_where_no_character_is_split)
{
	char reason[130];

	memset(reason, 'x', 122);
	memcpy(reason + 122, "\xe2\x82\xac", 4);
	struct ws_frame *frame = ws_frame_close(3501, str_of(reason));

	ck_assert_uint_eq(frame->len, 2 + 2 + 122);
	ws_frame_unref(frame);
}
