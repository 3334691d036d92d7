#include "lib/net/http1.h"

#include "lib/base/buf.h"
#include "tests/unit/test.h"

SUITE("net/http1");

#define GET "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

/* Reads @bytes, @piece at a time. Notes "METHOD target minor[k][e] {name: value}… |", body bytes, "." at an end and
 * "!status" where it is refused; returns whether all was used. */
static bool read_in_pieces(struct str bytes, size_t piece, struct buf *log)
{
	struct http1 p;
	struct buf in = {0};
	bool refused = false;

	http1_init(&p, 1000, 10);
	for (size_t at = 0; at < bytes.len && !refused; at += piece) {
		enum http1_event event = HTTP1_END;

		buf_add(&in, bytes.ptr + at, bytes.len - at < piece ? bytes.len - at : piece);
		while (event != HTTP1_MORE && !refused) {
			struct arena arena = {0};
			struct http1_head h;
			struct str body;
			size_t used;

			event = http1_next(&p, buf_str(&in), &used, &body);
			ck_assert_uint_le(used, in.len);
			refused = event == HTTP1_BAD;
			if (event == HTTP1_HEAD) {
				struct str raw = {buf_str(&in).ptr, used};

				refused = !http1_read_head(&p, raw, &arena, &h);
				if (!refused)
					buf_printf(log, "%.*s %.*s %u%s%s", STR_FMT(h.method),
						   STR_FMT(h.target), h.minor,
						   h.keep_alive ? "k" : "", h.expect ? "e" : "");
				for (size_t i = 0; !refused && i < h.field_count; i++)
					if (!str_is(h.fields[i].name, "host"))
						buf_printf(log, " %.*s: %.*s",
							   STR_FMT(h.fields[i].name),
							   STR_FMT(h.fields[i].value));
				if (!refused)
					buf_add_char(log, '|');
			}
			buf_add_str(log, body);
			if (event == HTTP1_END)
				buf_add_char(log, '.');
			buf_take(&in, used);
			arena_reset(&arena);
		}
	}
	if (refused)
		buf_printf(log, "!%d", p.status);
	bool whole = !in.len;

	http1_fini(&p);
	buf_fini(&in);
	return whole;
}

static void expect(const char *bytes, const char *events)
{
	for (size_t piece = 1; piece <= strlen(bytes); piece++) {
		struct buf log = {0};

		read_in_pieces(str_of(bytes), piece, &log);
		ck_assert_view(buf_str(&log), events);
		buf_fini(&log);
	}
}

TEST(a_request_is_read_in_any_pieces)
{
	expect(GET "X-A:  b c \r\n\r\n", "GET / 1k x-a: b c|.");
	expect("\r\nPOST /a?b HTTP/1.1\r\nHost: a\r\ncontent-length: 3\r\n\r\nabc" GET "\r\n",
	       "POST /a?b 1k content-length: 3|abc.GET / 1k|.");
}

TEST(a_chunked_body_is_read_in_any_pieces)
{
	expect(CHUNKED "3\r\nabc\r\n10;x=y\r\n0123456789abcdef\r\n0\r\nT: u\r\n\r\n" GET "\r\n",
	       "POST / 1k transfer-encoding: chunked|abc0123456789abcdef.GET / 1k|.");
	expect(CHUNKED "0\r\n\r\n", "POST / 1k transfer-encoding: chunked|.");
}

TEST(keeping_alive_is_what_version_and_connection_say)
{
	expect(GET "Connection: close\r\n\r\n", "GET / 1 connection: close|.");
	expect(GET "Connection: x, Close\r\n\r\n", "GET / 1 connection: x, Close|.");
	expect("GET / HTTP/1.0\r\n\r\n", "GET / 0|.");
	expect("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	       "GET / 0k connection: keep-alive|.");
}

TEST(only_one_expectation_is_known)
{
	expect(POST "Expect: 100-Continue\r\n\r\n", "POST / 1ke expect: 100-Continue|.");
	expect(POST "Expect: tea\r\n\r\n", "!417");
}

TEST(lines_end_in_cr_lf_and_nothing_else)
{
	expect("GET / HTTP/1.1\nHost: a\n\n", "!400");
	expect("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", "!400");
	expect("GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", "!400");
	expect("\r\n\r\n\r\n\r\n" GET "\r\n", "!400");
	expect("\n" GET "\r\n", "!400");
}

TEST(folded_fields_and_malformed_names_are_refused)
{
	expect(GET "X: a\r\n b\r\n\r\n", "!400");
	expect("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "!400");
	expect(GET "X : y\r\n\r\n", "!400");
	expect(GET ": y\r\n\r\n", "!400");
	expect(GET "nope\r\n\r\n", "!400");
	expect(GET "X: a\x01z\r\n\r\n", "!400");
}

TEST(two_ways_to_say_a_length_are_refused)
{
	expect(CHUNKED, "POST / 1k transfer-encoding: chunked|");
	expect(POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "!400");
	expect(POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "!400");
	expect(POST "Content-Length: 3, 3\r\n\r\nabc", "!400");
	expect(POST "Content-Length: +3\r\n\r\nabc", "!400");
	expect(POST "Content-Length: 0x3\r\n\r\nabc", "!400");
	expect(POST "Content-Length:\r\n\r\n", "!400");
	expect(POST "Content-Length: 99999999999999999999\r\n\r\n", "!400");
	expect(POST "Transfer-Encoding: gzip, chunked\r\n\r\n", "!400");
	expect(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "!400");
	expect(POST "Transfer-Encoding: xchunked\r\n\r\n", "!501");
	expect("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "!400");
}

/* Why @head is refused. */
static const char *reason(const char *head)
{
	struct arena arena = {0};
	struct http1_head h;
	struct http1 p;

	http1_init(&p, 1000, 10);
	ck_assert(!http1_read_head(&p, str_of(head), &arena, &h));
	arena_reset(&arena);
	http1_fini(&p);
	return p.reason;
}

TEST(a_length_beside_a_coding_is_named_as_such)
{
	const char *both = "content-length and transfer-encoding were both sent";

	ck_assert_str_eq(reason(POST "Content-Length: 3\r\ntransfer-encoding: chunked\r\n\r\n"),
			 both);
	ck_assert_str_eq(reason(POST "Transfer-Encoding: chunked\r\nContent-length: 3\r\n\r\n"),
			 both);
	ck_assert_str_eq(reason(POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\n"),
			 "the content-length is malformed or named twice");
	ck_assert_str_eq(reason("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
			 "HTTP/1.0 has no transfer-encoding");
}

TEST(chunks_keep_the_same_line_discipline)
{
	const char *head = "POST / 1k transfer-encoding: chunked|!400";
	const char *data = "POST / 1k transfer-encoding: chunked|abc!400";

	expect(CHUNKED "3\nabc\r\n0\r\n\r\n", head);
	expect(CHUNKED "zz\r\nabc\r\n0\r\n\r\n", head);
	expect(CHUNKED "3;a\nb\r\nabc\r\n0\r\n\r\n", head);
	expect(CHUNKED "fffffffffffffffff\r\nabc", head);
	expect(CHUNKED "3\r\nabc\n0\r\n\r\n", data);
	expect(CHUNKED "3\r\nabcd\r\n0\r\n\r\n", data);
	expect(CHUNKED "3\r\nabc\r\n0\r\nX: y\n\r\n", data);
}

TEST(there_is_exactly_one_host)
{
	expect("GET / HTTP/1.1\r\n\r\n", "!400");
	expect(GET "Host: b\r\n\r\n", "!400");
	expect("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "!400");
	expect("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET / 1k|.");
}

TEST(a_request_line_has_one_shape)
{
	expect("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "!400");
	expect("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", "!400");
	expect("GET /\r\n\r\n", "!400");
	expect("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "!505");
	expect("GET / HTTP/1.2\r\nHost: a\r\n\r\n", "!505");
	expect("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", "!501");
	expect("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "!501");
	expect("\x16\x03\x01\x02", "!400");
}

TEST(a_head_over_a_limit_is_refused)
{
	char bytes[1200];
	struct buf log = {0};

	memset(bytes, 'a', sizeof(bytes));
	memcpy(bytes, "GET /", 5);
	read_in_pieces((struct str){bytes, sizeof(bytes)}, 100, &log);
	ck_assert_view(buf_str(&log), "!414");
	buf_reset(&log);
	memcpy(bytes, GET "X: ", sizeof(GET "X: ") - 1);
	read_in_pieces((struct str){bytes, sizeof(bytes)}, 1200, &log);
	ck_assert_view(buf_str(&log), "!431");
	buf_fini(&log);
	expect(GET "a:1\r\nb:1\r\nc:1\r\nd:1\r\ne:1\r\nf:1\r\ng:1\r\nh:1\r\ni:1\r\nj:1\r\n\r\n",
	       "!431");
}

TEST(chunk_extensions_without_end_are_refused)
{
	struct buf bytes = {0};
	struct buf log = {0};

	buf_add_text(&bytes, CHUNKED "3;");
	for (int i = 0; i < 9000; i++)
		buf_add_char(&bytes, 'x');
	read_in_pieces(buf_str(&bytes), 1000, &log);
	ck_assert_view(buf_str(&log), "POST / 1k transfer-encoding: chunked|!400");
	buf_fini(&bytes);
	buf_fini(&log);
}
