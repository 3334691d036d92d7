/* With a transport that the test plays: the file under test is compiled here with the names replaced, and its clocks run out when the
 * test says so. */
#include "lib/net/client.h"

static struct client_call *keep_call(struct client *client, const char *method, const char *path,
				     const struct http_field *fields, size_t count, struct str body,
				     const struct client_ops *ops, void *ctx);
static void forget_call(struct client_call *call);

#define client_call(...) keep_call(__VA_ARGS__)
#define client_cancel forget_call
#define client_release forget_call
#define call_open test_call_open
#define call_receiver test_call_receiver
#define call_stop test_call_stop
#define call_break test_call_break
#define call_outcome(call) test_call_outcome(call)
#define call_free test_call_free
#include "consumers/pool/call.c"

#include "tests/unit/test.h"

SUITE("pool/call");

static const struct client_ops *transport;
static int exchange;

static struct client_call *keep_call(struct client *client, const char *method, const char *path,
				     const struct http_field *fields, size_t count, struct str body,
				     const struct client_ops *ops, void *ctx)
{
	(void)client, (void)method, (void)path, (void)fields, (void)count, (void)body, (void)ctx;
	transport = ops;
	return (struct client_call *)&exchange;
}

static void forget_call(struct client_call *call)
{
	(void)call;
}

struct trial {
	struct loop *loop;
	struct account account;
	struct target target;
	struct call *call;
	bool ended;
};

static void hear_end(void *ctx)
{
	((struct trial *)ctx)->ended = true;
}

static void hear_text(void *ctx, struct str text)
{
	(void)ctx, (void)text;
}

/* A call whose answer began with this status. */
static void begin(struct trial *t, int status)
{
	static const struct call_ops ops = {.text = hear_text, .end = hear_end};
	static const struct config_account config = {
	    .name = "main", .first_token_ms = 20000, .whole_ms = 600000};
	static const struct provider_request request = {.path = "/"};
	static struct log log;
	struct http_field fields[] = {
	    {STR("content-type"),
	     status == 200 ? STR("text/event-stream") : STR("application/json")},
	    {STR("retry-after"), STR("7")},
	};

	*t = (struct trial){.loop = loop_new(1)};
	t->account = (struct account){.config = &config, .provider = provider_find(STR("openai"))};
	t->target.account = &t->account;
	t->call = call_open(t->loop, &t->target, &request, &ops, t, &log);
	transport->head(t->call, status, fields, countof(fields));
}

/* The fault that it ended with; FAULT_NONE while it goes on. */
static enum fault fault_of(struct trial *t)
{
	loop_turn(t->loop, 0);
	return t->ended ? call_outcome(t->call)->fault : FAULT_NONE;
}

static void end(struct trial *t)
{
	call_free(t->call);
	loop_free(t->loop);
}

TEST(a_refusal_whose_body_does_not_end_is_what_its_status_says)
{
	struct trial t;

	begin(&t, 429);
	transport->data(t.call, STR("{\"error\":{\"message\":\"Rate li"));
	ck_assert_int_eq(fault_of(&t), FAULT_NONE);
	on_clock(&t.call->clock);
	ck_assert_int_eq(fault_of(&t), FAULT_PROVIDER_RATE);
	ck_assert_int_eq(call_outcome(t.call)->retry_after_ms, 7000);
	ck_assert(!call_outcome(t.call)->taken);
	end(&t);
}

TEST(a_refusal_that_breaks_off_is_what_its_status_says)
{
	struct trial t;

	begin(&t, 529);
	transport->end(t.call, CLIENT_CUT, "");
	ck_assert_int_eq(fault_of(&t), FAULT_PROVIDER_OVERLOADED);
	ck_assert_int_eq(call_outcome(t.call)->retry_after_ms, 7000);
	end(&t);
}

TEST(a_400_without_its_words_is_no_verdict_on_the_request)
{
	struct trial t;

	begin(&t, 400);
	on_clock(&t.call->clock);
	ck_assert_int_eq(fault_of(&t), FAULT_NONE);
	t.call->refused_us -= REFUSAL_UNSAID_US;
	on_clock(&t.call->clock);
	ck_assert_int_eq(fault_of(&t), FAULT_PROVIDER_SILENT);
	end(&t);
}

TEST(a_400_is_read_as_soon_as_its_words_are_whole)
{
	struct trial t;

	begin(&t, 400);
	transport->data(t.call,
			STR("{\"error\":{\"message\":\"no\",\"code\":\"insufficient_quota\"}}"));
	on_clock(&t.call->clock);
	ck_assert_int_eq(fault_of(&t), FAULT_PROVIDER_QUOTA);
	end(&t);
}

TEST(a_refusal_with_an_endless_body_is_not_read_to_its_end)
{
	static char page[8192];
	struct trial t;

	memset(page, 'x', sizeof(page));
	begin(&t, 404);
	for (size_t i = 0; i <= (64u << 10) / sizeof(page); i++) {
		ck_assert_int_eq(fault_of(&t), FAULT_NONE);
		transport->data(t.call, (struct str){page, sizeof(page)});
	}
	ck_assert_int_eq(fault_of(&t), FAULT_PROVIDER_BAD_REQUEST);
	end(&t);
}
