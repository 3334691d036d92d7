/* The client's room for calls, as far as it is known before a peer answers: nobody listens, and the loop does not turn. What a peer allows is
 * in tests/integration/provider_rules.c. */
#include "lib/net/client.h"
#include "lib/net/loop.h"
#include "tests/unit/test.h"

SUITE("net/client");

static struct loop *loop;
static struct log quiet;
static struct client *client;
static unsigned told;

static void on_head(void *ctx, int status, const struct http_field *fields, size_t count)
{
	(void)ctx;
	(void)status;
	(void)fields;
	(void)count;
}

static void on_data(void *ctx, struct str bytes)
{
	(void)ctx;
	(void)bytes;
}

static void on_end(void *ctx, enum client_end end, const char *detail)
{
	(void)ctx;
	(void)end;
	(void)detail;
}

static void on_changed(void *ctx)
{
	ck_assert_ptr_eq(ctx, &told);
	told++;
}

static void begin(const char *url, enum client_http http)
{
	struct client_options options = client_defaults();

	options.base_url = url;
	options.http = http;
	options.max_connections = 2;
	options.streams_per_connection = 10;
	loop = loop_new(1);
	told = 0;
	ck_assert_int_eq(client_open(loop, &options, &quiet, &client), 0);
}

static void end(void)
{
	client_close(client);
	loop_free(loop);
}

static struct client_call *ask(void)
{
	static const struct client_ops ops = {.head = on_head, .data = on_data, .end = on_end};

	return client_call(client, "POST", "/v1", NULL, 0, STR("{}"), &ops, NULL);
}

TEST(over_http_1_a_connection_is_room_for_one_call)
{
	struct client_call *first;

	begin("http://127.0.0.1:1", CLIENT_HTTP_1);
	ck_assert_uint_eq(client_room(client), 2);
	first = ask();
	ck_assert_uint_eq(client_room(client), 1);
	ask();
	ck_assert_uint_eq(client_room(client), 0);
	ask();
	ck_assert_uint_eq(client_room(client), 0);
	client_cancel(first);
	ck_assert_uint_eq(client_room(client), 0);
	end();
}

TEST(over_http_2_connections_that_may_be_opened_are_room)
{
	begin("http://127.0.0.1:1", CLIENT_HTTP_2);
	ck_assert_uint_eq(client_room(client), 20);
	for (int i = 0; i < 20; i++)
		ask();
	ck_assert_uint_eq(client_room(client), 0);
	end();
}

TEST(a_peer_that_is_not_known_yet_has_room_for_one_call_on_each_connection)
{
	begin("https://127.0.0.1:1", CLIENT_HTTP_AUTO);
	ck_assert_uint_eq(client_room(client), 2);
	end();
}

TEST(a_call_that_ends_tells_that_there_may_be_room)
{
	struct client_call *call;

	begin("http://127.0.0.1:1", CLIENT_HTTP_1);
	call = ask();
	client_when_room(client, on_changed, &told);
	client_cancel(call);
	ck_assert_uint_eq(told, 0);
	loop_turn(loop, 0);
	ck_assert_uint_ge(told, 1);
	ck_assert_uint_eq(client_room(client), 2);
	end();
}
