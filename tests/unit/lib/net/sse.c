#include "lib/net/sse.h"

#include "tests/unit/test.h"

SUITE("net/sse");

/* Events as "name=data;" one after the other. */
static void note(void *ctx, struct str event, struct str data)
{
	struct buf *log = ctx;

	buf_add_str(log, event);
	buf_add_char(log, '=');
	buf_add_str(log, data);
	buf_add_char(log, ';');
}

static void read_in_pieces(struct str bytes, size_t piece, struct buf *log)
{
	struct sse sse;

	sse_init(&sse, 1000, note, log);
	for (size_t at = 0; at < bytes.len; at += piece) {
		size_t len = bytes.len - at < piece ? bytes.len - at : piece;

		ck_assert_int_eq(sse_feed(&sse, (struct str){bytes.ptr + at, len}), SSE_OK);
	}
	sse_finish(&sse);
	sse_fini(&sse);
}

static void expect(const char *bytes, const char *events)
{
	for (size_t piece = 1; piece <= strlen(bytes) + 1; piece++) {
		struct buf log = {0};

		read_in_pieces(str_of(bytes), piece, &log);
		ck_assert_view(buf_str(&log), events);
		buf_fini(&log);
	}
}

TEST(any_split_of_the_bytes_gives_the_same_events)
{
	expect(
	    "event: a\ndata: 1\n\ndata:2\r\n\r\n: comment\rdata:  3\rdata\revent:b\r\rdata: 4\n\n",
	    "a=1;=2;b= 3\n;=4;");
}

TEST(an_event_without_data_is_none)
{
	expect("event: a\n\ndata: x\n\n", "=x;");
}

TEST(a_byte_order_mark_in_front_is_skipped_once)
{
	expect("\xef\xbb\xbf"
	       "data: x\n\n\xef\xbb\xbf"
	       "data: y\n\n",
	       "=x;");
	expect("\xef\xbb\xbf", "");
	expect("\xef", "");
}

TEST(a_last_event_without_its_blank_line_is_delivered_at_the_end)
{
	expect("data: [DONE]", "=[DONE];");
	expect("data: [DONE]\n", "=[DONE];");
}

TEST(unknown_fields_and_a_colon_in_data_are_no_harm)
{
	expect("id: 7\nretry: 5\nfoo\ndata: a: b\n\n", "=a: b;");
}

TEST(an_empty_data_line_is_an_event_with_empty_data)
{
	expect("data\n\n", "=;");
	expect("data:\ndata:\n\n", "=\n;");
}

TEST(what_is_over_the_limit_is_refused)
{
	struct buf log = {0};
	struct sse sse;

	sse_init(&sse, 8, note, &log);
	ck_assert_int_eq(sse_feed(&sse, STR("data: 123456789")), SSE_TOO_BIG);
	sse_fini(&sse);
	sse_init(&sse, 16, note, &log);
	ck_assert_int_eq(sse_feed(&sse, STR("data: 12345678\n")), SSE_OK);
	ck_assert_int_eq(sse_feed(&sse, STR("data: 12345678\n")), SSE_TOO_BIG);
	sse_fini(&sse);
	ck_assert_uint_eq(log.len, 0);
}

static void stop_at_once(void *ctx, struct str event, struct str data)
{
	struct sse *sse = ctx;

	(void)event;
	(void)data;
	ck_assert(!sse->stopped);
	sse_stop(sse);
}

TEST(nothing_is_delivered_after_a_stop)
{
	struct sse sse;

	sse_init(&sse, 100, stop_at_once, &sse);
	ck_assert_int_eq(sse_feed(&sse, STR("data: 1\n\ndata: 2\n\n")), SSE_OK);
	sse_finish(&sse);
	sse_fini(&sse);
}
