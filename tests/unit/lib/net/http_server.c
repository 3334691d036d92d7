#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/net/http_impl.h"
#include "lib/net/ws.h"
#include "tests/unit/test.h"

SUITE("net/http_server");

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define UPGRADE                                                                        \
	"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" \
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

/* A server without a port, one client on the other end of a socket pair, an owner who notes what he is told. */
struct fixture {
	struct loop *loop;
	struct http_server server;
	struct http_server_ops ops;
	struct log_sink sink;
	int client;
	struct buf told; /* "h/path r/path d/path g/path w/path " */
	struct buf heard;
	struct http_req *held[4];
	int held_count;
	struct ws *ws;
	unsigned ws_code;
};

static void note(struct fixture *f, char what, struct http_req *req)
{
	buf_add_char(&f->told, what);
	buf_add_str(&f->told, http_path(req));
	buf_add_char(&f->told, ' ');
}

static void on_message(void *ctx, struct ws *ws, bool text, struct str payload)
{
	struct fixture *f = ctx;
	struct ws_frame *frame = ws_frame_new(text, payload);

	if (str_is(payload, "abort")) {
		ws_abort(ws);
		f->ws = NULL;
	} else {
		ws_send(ws, frame);
	}
	ws_frame_unref(frame);
}

static void on_closed(void *ctx, struct ws *ws, unsigned code)
{
	struct fixture *f = ctx;

	(void)ws;
	f->ws = NULL;
	f->ws_code = code;
}

static const struct ws_ops ws_events = {.message = on_message, .closed = on_closed};

static void on_head(void *ctx, struct http_req *req)
{
	struct fixture *f = ctx;

	note(f, 'h', req);
	http_add_field(req, "x-n", STR("1\r\nevil: 2"));
	if (str_is(http_path(req), "/early"))
		http_reply(req, 401, NULL, STR("no"));
	if (str_is(http_query(req), "plain"))
		http_outlast_fin(req);
}

static void on_request(void *ctx, struct http_req *req)
{
	struct ws_options options = ws_defaults();
	struct fixture *f = ctx;

	note(f, 'r', req);
	if (str_is(http_path(req), "/ws"))
		ck_assert_int_eq(ws_accept(req, "sluice.v1", &options, &ws_events, f, &f->ws), 0);
	else if (str_is(http_path(req), "/hold"))
		f->held[f->held_count++] = req;
	else
		http_reply(req, 200, NULL, http_path(req));
}

static void on_gone(void *ctx, struct http_req *req)
{
	note(ctx, 'g', req);
}

static void on_done(void *ctx, struct http_req *req)
{
	note(ctx, 'd', req);
}

static void on_writable(void *ctx, struct http_req *req)
{
	note(ctx, 'w', req);
}

static void turns(struct fixture *f)
{
	for (int i = 0; i < 6; i++)
		loop_turn(f->loop, 0);
}

static void connect_client(struct fixture *f, bool refuse)
{
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	f->client = fds[1];
	http1_open(&f->server, fds[0], "?", refuse);
	turns(f);
}

static void begin(struct fixture *f)
{
	*f = (struct fixture){.loop = loop_new(1), .sink = {.fd = -1, .level = LOG_ERROR}};
	f->ops = (struct http_server_ops){
	    .head = on_head,
	    .request = on_request,
	    .gone = on_gone,
	    .done = on_done,
	    .writable = on_writable,
	};
	f->server.loop = f->loop;
	f->server.options = http_server_defaults();
	f->server.ops = &f->ops;
	f->server.ctx = f;
	f->server.log.sink = &f->sink;
	f->server.scratch = mem_alloc(HTTP_SCRATCH_BYTES);
	list_init(&f->server.links);
}

static void end(struct fixture *f)
{
	struct http_link *link;

	while ((link = list_first(&f->server.links, struct http_link, link)))
		link->ops->close(link);
	if (f->ws)
		ws_abort(f->ws);
	if (f->client >= 0)
		close(f->client);
	turns(f);
	loop_free(f->loop);
	mem_free(f->server.scratch);
	buf_fini(&f->told);
	buf_fini(&f->heard);
}

static void hang_up(struct fixture *f)
{
	close(f->client);
	f->client = -1;
	turns(f);
}

static void say_bytes(struct fixture *f, struct str bytes)
{
	ck_assert_int_eq(write(f->client, bytes.ptr, bytes.len), (ssize_t)bytes.len);
	turns(f);
}

static void say(struct fixture *f, const char *text)
{
	say_bytes(f, str_of(text));
}

/* All that came since, without the date; " EOF" behind it where the server has shut its side. */
static const char *heard(struct fixture *f)
{
	char bytes[4096];
	ssize_t n;

	buf_reset(&f->heard);
	while ((n = read(f->client, bytes, sizeof(bytes))) > 0) {
		buf_add(&f->heard, bytes, (size_t)n);
		turns(f);
	}
	if (n == 0)
		buf_add_text(&f->heard, " EOF");
	char *text = (char *)buf_text(&f->heard);
	char *date;

	while ((date = strstr(text, "date: ")))
		memmove(date, strchr(date, '\n') + 1, strlen(strchr(date, '\n') + 1) + 1);
	return text;
}

TEST(a_request_is_answered_and_its_owner_hears_the_last_word)
{
	struct fixture f;

	begin(&f);
	connect_client(&f, false);
	say(&f, GET("/a"));
	ck_assert_str_eq(heard(&f),
			 "HTTP/1.1 200 OK\r\nx-n: 1  evil: 2\r\ncontent-length: 2\r\n\r\n/a");
	ck_assert_view(buf_str(&f.told), "h/a r/a d/a ");
	end(&f);
}

TEST(answers_come_in_the_order_of_the_requests)
{
	struct fixture f;

	begin(&f);
	connect_client(&f, false);
	say(&f, GET("/hold") GET("/b"));
	ck_assert_str_eq(heard(&f), "");
	http_reply(f.held[0], 200, NULL, STR("late"));
	turns(&f);
	const char *text = heard(&f);

	ck_assert_ptr_nonnull(strstr(text, "\r\n\r\nlateHTTP/1.1 200 OK\r\n"));
	ck_assert_view(buf_str(&f.told), "h/hold r/hold h/b r/b d/hold d/b ");
	end(&f);
}

TEST(no_more_requests_are_read_ahead_than_the_limit)
{
	struct fixture f;

	begin(&f);
	f.server.options.max_pipelined = 2;
	connect_client(&f, false);
	say(&f, GET("/hold") GET("/b") GET("/c") GET("/d"));
	ck_assert_view(buf_str(&f.told), "h/hold r/hold h/b r/b ");
	http_reply(f.held[0], 200, NULL, STR(""));
	turns(&f);
	ck_assert_view(buf_str(&f.told),
		       "h/hold r/hold h/b r/b d/hold d/b h/c r/c h/d r/d d/c d/d ");
	end(&f);
}

TEST(a_streamed_answer_is_chunked_and_one_of_http_1_0_ends_with_the_connection)
{
	struct fixture f;

	begin(&f);
	connect_client(&f, false);
	say(&f, GET("/hold"));
	http_stream_begin(f.held[0], 200, "text/event-stream");
	ck_assert(http_stream_write(f.held[0], STR("hello")));
	turns(&f);
	ck_assert_str_eq(heard(&f),
			 "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
			 "x-n: 1  evil: 2\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
	http_stream_end(f.held[0]);
	turns(&f);
	ck_assert_str_eq(heard(&f), "0\r\n\r\n");
	say(&f, "GET /hold HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	http_stream_begin(f.held[1], 200, NULL);
	http_stream_write(f.held[1], STR("x"));
	http_stream_end(f.held[1]);
	turns(&f);
	ck_assert_str_eq(heard(&f),
			 "HTTP/1.1 200 OK\r\nx-n: 1  evil: 2\r\nconnection: close\r\n\r\nx EOF");
	end(&f);
}

TEST(an_answer_to_head_has_a_length_and_no_body)
{
	struct fixture f;

	begin(&f);
	connect_client(&f, false);
	say(&f, "HEAD /abc HTTP/1.1\r\nHost: a\r\n\r\n");
	ck_assert_str_eq(heard(&f),
			 "HTTP/1.1 200 OK\r\nx-n: 1  evil: 2\r\ncontent-length: 4\r\n\r\n");
	end(&f);
}

TEST(a_full_queue_is_said_and_so_is_its_end)
{
	static char block[65536];
	struct fixture f;
	int written = 0;

	begin(&f);
	connect_client(&f, false);
	say(&f, GET("/hold"));
	http_stream_begin(f.held[0], 200, NULL);
	while (http_stream_write(f.held[0], (struct str){block, sizeof(block)}) && written < 1000) {
		written++;
		turns(&f);
	}
	ck_assert_int_lt(written, 1000);
	ck_assert_uint_gt(http_stream_queued(f.held[0]), f.server.options.max_queued_bytes);
	buf_reset(&f.told);
	heard(&f);
	ck_assert_view(buf_str(&f.told), "w/hold ");
	end(&f);
}

TEST(whoever_hangs_up_has_gone)
{
	struct fixture f;

	begin(&f);
	connect_client(&f, false);
	say(&f, GET("/hold") GET("/b"));
	hang_up(&f);
	ck_assert_view(buf_str(&f.told), "h/hold r/hold h/b r/b g/hold g/b ");
	ck_assert_uint_eq(f.server.link_count, 0);
	end(&f);
}

/* The client's FIN; it still reads. */
static void half_close(struct fixture *f)
{
	ck_assert_int_eq(shutdown(f->client, SHUT_WR), 0);
	turns(f);
}

TEST(a_half_closed_client_is_still_answered_where_the_owner_says_so)
{
	struct fixture f;

	begin(&f);
	connect_client(&f, false);
	say(&f, GET("/hold?plain") GET("/hold?plain"));
	half_close(&f);
	http_reply(f.held[0], 200, NULL, STR("one"));
	http_reply(f.held[1], 200, NULL, STR("two"));
	turns(&f);
	ck_assert_str_eq(heard(&f),
			 "HTTP/1.1 200 OK\r\nx-n: 1  evil: 2\r\ncontent-length: 3\r\n\r\n"
			 "oneHTTP/1.1 200 OK\r\nx-n: 1  evil: 2\r\n"
			 "connection: close\r\ncontent-length: 3\r\n\r\ntwo EOF");
	ck_assert_view(buf_str(&f.told), "h/hold r/hold h/hold r/hold d/hold d/hold ");
	ck_assert_uint_eq(f.server.link_count, 0);
	end(&f);
}

TEST(a_half_closed_client_has_left_what_streams_what_waits_and_what_is_not_whole)
{
	struct fixture f;

	begin(&f);
	connect_client(&f, false);
	say(&f, GET("/hold?plain"));
	http_stream_begin(f.held[0], 200, NULL);
	half_close(&f);
	ck_assert_view(buf_str(&f.told), "h/hold r/hold g/hold ");
	close(f.client);
	buf_reset(&f.told);
	connect_client(&f, false);
	say(&f, GET("/hold?plain") GET("/hold") GET("/b?plain"));
	half_close(&f);
	ck_assert_view(buf_str(&f.told), "h/hold r/hold h/hold r/hold h/b r/b g/hold g/b ");
	http_reply(f.held[1], 200, NULL, STR("one"));
	turns(&f);
	ck_assert_ptr_nonnull(strstr(heard(&f), "one EOF"));
	close(f.client);
	buf_reset(&f.told);
	connect_client(&f, false);
	say(&f, "POST /b?plain HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc");
	half_close(&f);
	ck_assert_view(buf_str(&f.told), "h/b g/b ");
	ck_assert_uint_eq(f.server.link_count, 0);
	end(&f);
}

TEST(what_was_read_ahead_of_a_half_close_comes_to_its_turn)
{
	struct fixture f;

	begin(&f);
	f.server.options.max_pipelined = 1;
	connect_client(&f, false);
	say(&f, GET("/hold?plain") GET("/b?plain") GET("/c?plain"));
	half_close(&f);
	ck_assert_view(buf_str(&f.told), "h/hold r/hold ");
	http_reply(f.held[0], 200, NULL, STR(""));
	turns(&f);
	turns(&f);
	ck_assert_view(buf_str(&f.told), "h/hold r/hold d/hold h/b r/b d/b h/c r/c d/c ");
	ck_assert_ptr_nonnull(strstr(heard(&f), "/c EOF"));
	ck_assert_uint_eq(f.server.link_count, 0);
	end(&f);
}

static void on_error_fields(void *ctx, struct http_req *req, int status)
{
	struct fixture *f = ctx;

	buf_printf(&f->told, "%d%.*s ", status, STR_FMT(http_path(req)));
	http_add_field(req, "x-e", http_field(req, "x-a"));
}

/* What the server says by itself to @text, and to whom it thinks that it speaks. */
static void refused(const char *text, const char *told)
{
	struct fixture f;

	begin(&f);
	f.ops.error_fields = on_error_fields;
	f.server.options.max_body_bytes = 4;
	f.server.options.max_head_bytes = 200;
	connect_client(&f, false);
	say(&f, text);
	heard(&f);
	ck_assert_view(buf_str(&f.told), told);
	end(&f);
}

TEST(an_error_of_the_servers_own_knows_the_path_as_far_as_it_was_read)
{
	refused("POST /a?x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", "h/a g/a 413/a ");
	refused("GET /a HTTP/1.1\r\nHost: a\r\nb\r\n\r\n", "400/a ");
	refused("BREW /a HTTP/1.1\r\nHost: a\r\n\r\n", "501/a ");
	refused("GET /a HTTP/9.9\r\nHost: a\r\n\r\n", "505/a ");
	refused("GET a HTTP/1.1\r\nHost: a\r\n\r\n", "400 ");
	refused("GET /a HTTP/1.1\r\nHost: a\r\nx: "
		"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
		"431/a ");
	refused("\r\n\r\n\r\n\r\n", "400 ");
}

TEST(fields_of_the_owner_are_not_said_twice_with_an_error_of_the_servers_own)
{
	struct fixture f;

	begin(&f);
	f.ops.error_fields = on_error_fields;
	f.server.options.max_body_bytes = 4;
	connect_client(&f, false);
	say(&f, "POST /a HTTP/1.1\r\nHost: a\r\nx-a: 1\r\nContent-Length: 5\r\n\r\n");
	ck_assert_ptr_nonnull(strstr(heard(&f),
				     "413 Content Too Large\r\ncontent-type: text/plain\r\n"
				     "x-e: 1\r\nconnection: close\r\n"));
	end(&f);
}

TEST(an_aborted_request_gets_no_last_word)
{
	struct fixture f;

	begin(&f);
	connect_client(&f, false);
	say(&f, GET("/hold") GET("/b"));
	http_abort(f.held[0]);
	ck_assert_view(buf_str(&f.told), "h/hold r/hold h/b r/b ");
	turns(&f);
	ck_assert_view(buf_str(&f.told), "h/hold r/hold h/b r/b g/b ");
	end(&f);
}

TEST(a_body_over_the_limit_is_refused_and_its_owner_told)
{
	struct fixture f;

	begin(&f);
	connect_client(&f, false);
	say(&f, "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n"
		"Expect: 100-continue\r\n\r\n");
	ck_assert_ptr_eq(strstr(heard(&f), "HTTP/1.1 413 "), f.heard.data);
	ck_assert_ptr_nonnull(strstr(f.heard.data, "connection: close"));
	ck_assert_view(buf_str(&f.told), "h/p g/p ");
	end(&f);
}

TEST(who_asks_first_is_told_to_go_on)
{
	struct fixture f;

	begin(&f);
	connect_client(&f, false);
	say(&f, "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
	ck_assert_str_eq(heard(&f), "HTTP/1.1 100 Continue\r\n\r\n");
	say(&f, "hi");
	ck_assert_ptr_eq(strstr(heard(&f), "HTTP/1.1 200 OK"), f.heard.data);
	end(&f);
}

TEST(an_early_answer_discards_the_body_and_keeps_the_connection)
{
	struct fixture f;

	begin(&f);
	connect_client(&f, false);
	say(&f, "POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab");
	ck_assert_ptr_nonnull(strstr(heard(&f), "401 Unauthorized"));
	say(&f, "c" GET("/b"));
	ck_assert_ptr_nonnull(strstr(heard(&f), "\r\n\r\n/b"));
	ck_assert_view(buf_str(&f.told), "h/early h/b r/b d/early d/b ");
	end(&f);
}

TEST(a_refused_request_is_answered_behind_those_before_it_and_ends_the_connection)
{
	struct fixture f;

	begin(&f);
	connect_client(&f, false);
	say(&f, GET("/hold") "nonsense\r\n\r\n");
	ck_assert_str_eq(heard(&f), "");
	http_reply(f.held[0], 204, NULL, STR(""));
	turns(&f);
	ck_assert_ptr_nonnull(strstr(heard(&f), "204 No Content"));
	ck_assert_ptr_nonnull(strstr(f.heard.data, "400 Bad Request"));
	ck_assert_ptr_nonnull(strstr(f.heard.data, " EOF"));
	end(&f);
}

TEST(a_head_that_does_not_come_is_408)
{
	struct fixture f;

	begin(&f);
	connect_client(&f, false);
	f.server.options.head_us = 1;
	say(&f, "GET /");
	for (int i = 0; i < 100 && !strstr(heard(&f), "408 Request Timeout"); i++)
		loop_turn(f.loop, 1000);
	ck_assert_ptr_nonnull(strstr(f.heard.data, "408 Request Timeout"));
	end(&f);
}

TEST(one_connection_too_many_is_503_with_a_time_to_come_back)
{
	struct fixture f;

	begin(&f);
	connect_client(&f, true);
	ck_assert_ptr_nonnull(strstr(heard(&f), "503 Service Unavailable"));
	ck_assert_ptr_nonnull(strstr(f.heard.data, "retry-after: 1"));
	end(&f);
}

TEST(draining_answers_what_was_asked_and_closes)
{
	struct fixture f;

	begin(&f);
	connect_client(&f, false);
	say(&f, GET("/hold"));
	http_server_drain(&f.server);
	turns(&f);
	http_reply(f.held[0], 200, NULL, STR("x"));
	turns(&f);
	ck_assert_ptr_nonnull(strstr(heard(&f), "connection: close"));
	ck_assert_ptr_nonnull(strstr(f.heard.data, "\r\n\r\nx EOF"));
	end(&f);
}

TEST(query_values_are_decoded)
{
	struct http_req req = {.query = STR("a=1&after=3%3A4+x&b")};

	ck_assert_view(http_query_value(&req, "after"), "3:4 x");
	ck_assert_view(http_query_value(&req, "b"), "");
	ck_assert_ptr_null(http_query_value(&req, "c").ptr);
	http_req_fini(&req);
}

TEST(targets_are_brought_to_origin_form)
{
	struct http_req req = {.method = STR("GET")};

	ck_assert(http_req_target(&req, STR("http://a:80/x%20y?z")));
	ck_assert_view(req.path, "/x%20y");
	ck_assert_view(req.query, "z");
	ck_assert(http_req_target(&req, STR("http://a")));
	ck_assert_view(req.path, "/");
	ck_assert(!http_req_target(&req, STR("*")));
	ck_assert(!http_req_target(&req, STR("x")));
	ck_assert(!http_req_target(&req, STR("/%2")));
	ck_assert(!http_req_target(&req, STR("http:///x")));
}

TEST(a_websocket_echoes_what_came_with_the_upgrade_and_is_closed_with_a_code)
{
	struct fixture f;

	begin(&f);
	connect_client(&f, false);
	say_bytes(&f, STR(UPGRADE "\x81\x82\0\0\0\0hi"));
	ck_assert_ptr_nonnull(strstr(heard(&f), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
	ck_assert_ptr_nonnull(strstr(f.heard.data, "sec-websocket-protocol: sluice.v1\r\n"));
	ck_assert_ptr_nonnull(strstr(f.heard.data, "\r\n\r\n\x81\x02hi"));
	ck_assert_view(buf_str(&f.told), "h/ws r/ws ");
	ck_assert_uint_eq(f.server.link_count, 0);
	say_bytes(&f, STR("\x88\x82\0\0\0\0\x0f\xa0")); /* 4000 */
	ck_assert_str_eq(heard(&f), "\x88\x02\x0f\xa0 EOF");
	hang_up(&f);
	ck_assert_ptr_null(f.ws);
	ck_assert_uint_eq(f.ws_code, 4000);
	end(&f);
}

TEST(a_websocket_may_be_cut_from_within_its_callback)
{
	struct fixture f;

	begin(&f);
	connect_client(&f, false);
	say(&f, UPGRADE);
	say_bytes(&f, STR("\x81\x85\0\0\0\0abort"));
	ck_assert_ptr_null(f.ws);
	ck_assert_uint_eq(f.ws_code, 0);
	end(&f);
}

TEST(a_websocket_whose_peer_hangs_up_is_1006)
{
	struct fixture f;

	begin(&f);
	connect_client(&f, false);
	say(&f, UPGRADE);
	hang_up(&f);
	ck_assert_uint_eq(f.ws_code, 1006);
	end(&f);
}
