/* Following with stores that answer when the test says so: the file under test is compiled here with their names replaced. */
#include "lib/base/buf.h"
#include "lib/net/loop.h"
#include "lib/relay/follow.h"

static struct redis_request *fake_read(struct redis *redis, struct str job,
				       void (*done)(void *ctx, enum redis_result result,
						    const struct job_view *view),
				       void *ctx);
static struct redis_request *fake_command(struct redis *redis, struct str order,
					  const struct str *args, size_t count, redis_fn *done,
					  void *ctx);
static void fake_cancel(struct redis_request *request);
static struct redis_sub *fake_subscribe(struct redis *redis, struct str channel,
					const struct redis_sub_ops *ops, void *ctx);
static void fake_unsubscribe(struct redis_sub *sub);
static struct relay_lookup *
fake_piece(struct relay *relay, struct str job, struct str org, int64_t at, size_t most,
	   void (*done)(void *ctx, bool sure, const struct result *result, int64_t total),
	   void *ctx);
static void fake_lookup_cancel(struct relay_lookup *lookup);
static bool fake_unsure(const struct relay *relay, struct str job);
static struct redis_request *fake_ask_epoch(struct redis *redis, struct str order, redis_fn *done,
					    void *ctx);
static bool fake_is_none(const struct relay *relay, struct str job, enum redis_result result,
			 const struct redis_value *value);

#define state_read fake_read
#define redis_command fake_command
#define redis_cancel fake_cancel
#define redis_subscribe fake_subscribe
#define redis_unsubscribe fake_unsubscribe
#define relay_piece fake_piece
#define relay_lookup_cancel fake_lookup_cancel
#define relay_unsure fake_unsure
#define redis_ask_epoch fake_ask_epoch
#define relay_is_none fake_is_none
#define follow_open test_follow_open
#define follow_close test_follow_close
#define follow_pause test_follow_pause
#define follow_attempt test_follow_attempt
#define follow_at test_follow_at
#define follow_reap test_follow_reap
struct follow *test_follow_open(struct relay *relay, const struct follow_request *request,
				const struct follow_ops *ops, void *ctx);
void test_follow_close(struct follow *follow);
void test_follow_pause(struct follow *follow, bool pause);
int64_t test_follow_attempt(const struct follow *follow);
int64_t test_follow_at(const struct follow *follow);
#include "lib/relay/follow.c"

#include "tests/unit/test.h"

SUITE("relay/follow");

#define JOB "job_01M8287AQSTJRB2D2PRTV8Q4CK"

/* What was asked and not answered yet. */
static void (*read_done)(void *ctx, enum redis_result result, const struct job_view *view);
static redis_fn *range_done;
static char range_args[128];
static void (*lookup_done)(void *ctx, bool sure, const struct result *result, int64_t total);
static int64_t lookup_at;
static size_t lookup_most;
static const struct redis_sub_ops *sub_ops_seen;
static void *sub_ctx;
static void *asked_ctx;
static bool unsure_says;
static int token;

static struct redis_request *
fake_read(struct redis *redis, struct str job,
	  void (*done)(void *ctx, enum redis_result result, const struct job_view *view), void *ctx)
{
	(void)redis;
	(void)job;
	read_done = done;
	asked_ctx = ctx;
	return (struct redis_request *)&token;
}

static struct redis_request *fake_command(struct redis *redis, struct str order,
					  const struct str *args, size_t count, redis_fn *done,
					  void *ctx)
{
	(void)redis;
	(void)order;
	ck_assert_uint_eq(count, 4);
	snprintf(range_args, sizeof(range_args), "%.*s %.*s", STR_FMT(args[1]), STR_FMT(args[2]));
	range_done = done;
	asked_ctx = ctx;
	return (struct redis_request *)&token;
}

static void fake_cancel(struct redis_request *request)
{
	(void)request;
	read_done = NULL;
	range_done = NULL;
}

static struct redis_sub *fake_subscribe(struct redis *redis, struct str channel,
					const struct redis_sub_ops *ops, void *ctx)
{
	(void)redis;
	(void)channel;
	sub_ops_seen = ops;
	sub_ctx = ctx;
	return (struct redis_sub *)&token;
}

static void fake_unsubscribe(struct redis_sub *sub)
{
	(void)sub;
	sub_ops_seen = NULL;
}

static struct relay_lookup *
fake_piece(struct relay *relay, struct str job, struct str org, int64_t at, size_t most,
	   void (*done)(void *ctx, bool sure, const struct result *result, int64_t total),
	   void *ctx)
{
	(void)relay;
	(void)job;
	(void)org;
	lookup_at = at;
	lookup_most = most;
	lookup_done = done;
	asked_ctx = ctx;
	return (struct relay_lookup *)&token;
}

static void fake_lookup_cancel(struct relay_lookup *lookup)
{
	(void)lookup;
	lookup_done = NULL;
}

static bool fake_unsure(const struct relay *relay, struct str job)
{
	(void)relay;
	(void)job;
	return unsure_says;
}

static redis_fn *epoch_done;

static struct redis_request *fake_ask_epoch(struct redis *redis, struct str order, redis_fn *done,
					    void *ctx)
{
	(void)redis;
	(void)order;
	epoch_done = done;
	asked_ctx = ctx;
	return (struct redis_request *)&token;
}

/* The test says so by the kind of reply. */
static bool fake_is_none(const struct relay *relay, struct str job, enum redis_result result,
			 const struct redis_value *value)
{
	return result == REDIS_OK && value->type == REDIS_STR && !fake_unsure(relay, job);
}

/* What the follower heard, as one text. */
static struct buf heard;

static void on_state_said(void *ctx, const struct job_view *view, bool resumed)
{
	(void)ctx;
	buf_printf(&heard, "[%.*s%s]", STR_FMT(view->state), resumed ? " resumed" : "");
}

static void on_delta_said(void *ctx, int64_t attempt, int64_t at, struct str text)
{
	(void)ctx;
	(void)attempt;
	buf_printf(&heard, "%lld:%.*s ", (long long)at, STR_FMT(text));
}

static void on_event_said(void *ctx, const struct event *event)
{
	(void)ctx;
	buf_printf(&heard, "<%.*s>", STR_FMT(event->ev));
}

static void on_reset_said(void *ctx, int64_t attempt)
{
	(void)ctx;
	buf_printf(&heard, "[reset %lld]", (long long)attempt);
}

static void on_end_said(void *ctx, const struct follow_end *e)
{
	(void)ctx;
	buf_printf(&heard, "[%.*s %lld]", STR_FMT(e->status), (long long)e->result->bytes);
}

static void on_gone_said(void *ctx, bool unsure)
{
	(void)ctx;
	buf_add_text(&heard, unsure ? "[unsure]" : "[gone]");
}

static const struct follow_ops said = {.state = on_state_said,
				       .delta = on_delta_said,
				       .event = on_event_said,
				       .reset = on_reset_said,
				       .end = on_end_said,
				       .gone = on_gone_said};

static struct relay the_relay;
static struct log_sink sink = {.fd = -1};
static struct log test_log = {.sink = &sink};

static struct follow *begin_follow(int64_t attempt, int64_t at)
{
	struct follow_request request = {.job = STR(JOB),
					 .org = STR("org_1"),
					 .channel = STR("ev:" JOB),
					 .attempt = attempt,
					 .at = at};

	if (!the_relay.loop) {
		the_relay.loop = loop_new(1);
		the_relay.log = &test_log;
		list_init(&the_relay.follows);
		list_init(&the_relay.closed);
	}
	return follow_open(&the_relay, &request, &said, NULL);
}

static void say_calls(const char *state, int64_t attempt, int64_t bytes, const char *result,
		      const char *calls)
{
	struct job_view view = {.found = true,
				.org = STR("org_1"),
				.state = str_of(state),
				.attempt = attempt,
				.bytes = bytes,
				.result = str_of(result),
				.calls = str_of(calls)};
	void (*done)(void *, enum redis_result, const struct job_view *) = read_done;

	ck_assert_msg(done != NULL, "the state was not asked for");
	read_done = NULL;
	done(asked_ctx, REDIS_OK, &view);
}

static void say_view(const char *state, int64_t attempt, int64_t bytes, const char *result)
{
	say_calls(state, attempt, bytes, result, NULL);
}

static void say_range(const char *want, const char *text)
{
	struct redis_value value = {.type = REDIS_STR, .str = str_of(text)};
	redis_fn *done = range_done;

	ck_assert_msg(done != NULL, "no bytes were asked for");
	ck_assert_str_eq(range_args, want);
	range_done = NULL;
	done(asked_ctx, REDIS_OK, &value);
}

static void publish(const char *text)
{
	sub_ops_seen->message(sub_ctx, str_of(text));
}

/* A follow that stands live at "abc" of attempt 1. */
static struct follow *live(void)
{
	struct follow *f = begin_follow(0, 0);

	sub_ops_seen->standing(sub_ctx);
	say_view("running", 1, 3, NULL);
	say_range("out:{" JOB "}:1 0", "abc");
	ck_assert_str_eq(buf_text(&heard), "[running]0:abc ");
	buf_reset(&heard);
	return f;
}

TEST(text_that_is_there_comes_first_and_deltas_go_on_from_it)
{
	live();
	publish("1 delta " JOB " 1 3\ndef");
	ck_assert_str_eq(buf_text(&heard), "3:def ");
}

TEST(bytes_that_are_known_are_dropped_and_what_is_new_behind_them_is_kept)
{
	live();
	publish("1 delta " JOB " 1 0\nabc");
	publish("1 delta " JOB " 1 1\nbcdef");
	ck_assert_str_eq(buf_text(&heard), "3:def ");
}

TEST(a_gap_is_read_again_from_the_stored_answer)
{
	live();
	publish("1 delta " JOB " 1 6\nghi");
	ck_assert_str_eq(buf_text(&heard), "");
	say_view("running", 1, 9, NULL);
	say_range("out:{" JOB "}:1 3", "defghi");
	publish("1 delta " JOB " 1 9\njkl");
	ck_assert_str_eq(buf_text(&heard), "3:defghi 9:jkl ");
}

TEST(a_seam_that_was_lost_in_a_gap_is_told_in_its_place)
{
	live();
	publish("1 delta " JOB " 1 6\nghi");
	say_calls("running", 1, 9, NULL,
		  "[{\"attempt\":1,\"provider\":\"a\",\"model\":\"m\"},"
		  "{\"attempt\":1,\"at\":5,\"provider\":\"b\",\"model\":\"m\"}]");
	say_range("out:{" JOB "}:1 3", "defghi");
	ck_assert_str_eq(buf_text(&heard), "3:de <seam>5:fghi ");
}

TEST(another_jobs_events_in_the_channel_are_not_heard)
{
	live();
	publish("1 delta job_01M8287AQSTJRB2D2PRTV8Q4CZ 1 3\ndef");
	ck_assert_str_eq(buf_text(&heard), "");
}

TEST(a_greater_attempt_begins_anew_and_a_smaller_one_is_dropped)
{
	live();
	publish("1 started " JOB " 2 -\n\"provider\":\"p\",\"model\":\"m\"");
	publish("1 delta " JOB " 2 0\nxy");
	publish("1 delta " JOB " 1 3\ndef");
	ck_assert_str_eq(buf_text(&heard), "[reset 2]<started>0:xy ");
}

TEST(a_named_position_goes_on_from_exactly_there)
{
	begin_follow(1, 2);
	sub_ops_seen->standing(sub_ctx);
	say_view("running", 1, 3, NULL);
	say_range("out:{" JOB "}:1 2", "c");
	ck_assert_str_eq(buf_text(&heard), "[running resumed]2:c ");
}

TEST(a_position_beyond_the_end_or_of_another_attempt_is_not_resumed)
{
	begin_follow(1, 4);
	sub_ops_seen->standing(sub_ctx);
	say_view("running", 1, 3, NULL);
	say_range("out:{" JOB "}:1 0", "abc");
	ck_assert_str_eq(buf_text(&heard), "[running]0:abc ");
}

TEST(a_position_within_a_code_point_begins_anew)
{
	begin_follow(1, 1);
	sub_ops_seen->standing(sub_ctx);
	say_view("running", 1, 2, NULL);
	say_range("out:{" JOB "}:1 1", "\xa9");
	say_range("out:{" JOB "}:1 0", "\xc3\xa9");
	ck_assert_str_eq(buf_text(&heard), "[running resumed][reset 1]0:\xc3\xa9 ");
}

TEST(while_paused_nothing_comes_and_afterwards_all_of_it)
{
	struct follow *f = live();

	follow_pause(f, true);
	publish("1 delta " JOB " 1 3\ndef");
	ck_assert_str_eq(buf_text(&heard), "");
	follow_pause(f, false);
	say_view("running", 1, 6, NULL);
	say_range("out:{" JOB "}:1 3", "def");
	ck_assert_str_eq(buf_text(&heard), "3:def ");
}

TEST(the_end_comes_after_all_text)
{
	live();
	publish("1 result " JOB " 1 -\n");
	say_view("succeeded", 1, 6, "{\"v\":1,\"bytes\":6}");
	ck_assert_str_eq(buf_text(&heard), "");
	say_range("out:{" JOB "}:1 3", "def");
	ck_assert_str_eq(buf_text(&heard), "3:def [succeeded 6]");
}

TEST(an_event_that_came_before_the_state_was_read_is_not_lost)
{
	begin_follow(0, 0);
	sub_ops_seen->standing(sub_ctx);
	publish("1 delta " JOB " 1 0\nabc");
	say_view("running", 1, 0, NULL);
	say_view("running", 1, 3, NULL);
	say_range("out:{" JOB "}:1 0", "abc");
	ck_assert_str_eq(buf_text(&heard), "[running]0:abc ");
}

TEST(a_fresh_job_is_heard_from_its_first_byte_without_a_look)
{
	struct follow_request request = {.job = STR(JOB),
					 .org = STR("org_1"),
					 .channel = STR("ev:" JOB),
					 .fresh = true,
					 .fresh_us = 1000000};

	begin_follow(0, 0);
	follow_open(&the_relay, &request, &said, NULL);
	sub_ops_seen->standing(sub_ctx);
	ck_assert_ptr_null(read_done);
	publish("1 started " JOB " 1 -\n\"provider\":\"p\",\"model\":\"m\"");
	publish("1 delta " JOB " 1 0\nabc");
	ck_assert_str_eq(buf_text(&heard), "[queued]<started>0:abc ");
}

TEST(text_that_comes_without_its_started_is_read_behind_it)
{
	struct follow_request request = {.job = STR(JOB),
					 .org = STR("org_1"),
					 .channel = STR("ev:" JOB),
					 .fresh = true,
					 .fresh_us = 1000000};
	struct job_view running = {.found = true,
				   .org = STR("org_1"),
				   .state = STR("running"),
				   .attempt = 1,
				   .bytes = 3,
				   .provider = STR("p"),
				   .model = STR("m")};

	begin_follow(0, 0);
	follow_open(&the_relay, &request, &said, NULL);
	sub_ops_seen->standing(sub_ctx);
	publish("1 delta " JOB " 1 0\nabc");
	ck_assert_str_eq(buf_text(&heard), "[queued]");
	read_done(asked_ctx, REDIS_OK, &running);
	say_range("out:{" JOB "}:1 0", "abc");
	publish("1 delta " JOB " 1 3\nde");
	ck_assert_str_eq(buf_text(&heard), "[queued]<started>0:abc 3:de ");
}

TEST(what_stands_nowhere_is_gone_where_redis_has_forgotten_nothing)
{
	static const struct redis_value same = {.type = REDIS_STR}, none = {.type = REDIS_NIL};
	struct job_view view = {.found = false};

	for (int forgot = 0; forgot < 2; forgot++) {
		buf_reset(&heard);
		begin_follow(0, 0);
		sub_ops_seen->standing(sub_ctx);
		read_done(asked_ctx, REDIS_OK, &view);
		lookup_done(asked_ctx, true, NULL, 0);
		ck_assert_str_eq(buf_text(&heard), "");
		epoch_done(asked_ctx, REDIS_OK, forgot ? &none : &same);
		ck_assert_str_eq(buf_text(&heard), forgot ? "[unsure]" : "[gone]");
	}
}

TEST(another_organisations_job_is_gone)
{
	struct job_view view = {.found = true, .org = STR("org_2"), .state = STR("running")};

	begin_follow(0, 0);
	sub_ops_seen->standing(sub_ctx);
	read_done(asked_ctx, REDIS_OK, &view);
	ck_assert_str_eq(buf_text(&heard), "[gone]");
}

TEST(an_ended_job_that_redis_forgot_comes_from_postgresql)
{
	struct job_view nothing = {0};
	struct result result = {.org = STR("org_1"),
				.status = STR("succeeded"),
				.attempt = 1,
				.bytes = 3,
				.text = STR("abc")};

	begin_follow(0, 0);
	sub_ops_seen->standing(sub_ctx);
	read_done(asked_ctx, REDIS_OK, &nothing);
	lookup_done(asked_ctx, true, &result, 3);
	ck_assert_str_eq(buf_text(&heard), "[succeeded]0:abc [succeeded 3]");
}

TEST(a_recorded_end_of_an_older_attempt_comes_behind_a_reset)
{
	struct job_view nothing = {0};
	struct result result = {.org = STR("org_1"),
				.status = STR("succeeded"),
				.attempt = 1,
				.bytes = 3,
				.text = STR("abc")};

	begin_follow(0, 0);
	sub_ops_seen->standing(sub_ctx);
	say_view("running", 7, 0, NULL);
	publish("1 result " JOB " 7 -\n");
	read_done(asked_ctx, REDIS_OK, &nothing);
	lookup_done(asked_ctx, true, &result, 3);
	ck_assert_str_eq(buf_text(&heard), "[running][reset 1]0:abc [succeeded 3]");
}

TEST(a_stored_answer_is_read_in_pieces_between_code_points_and_not_while_paused)
{
	struct job_view nothing = {0};
	struct result result = {.org = STR("org_1"),
				.status = STR("succeeded"),
				.attempt = 1,
				.bytes = 6,
				.text = STR("ab\xc3")};
	struct follow *f = begin_follow(0, 0);

	f->piece = 3;
	sub_ops_seen->standing(sub_ctx);
	read_done(asked_ctx, REDIS_OK, &nothing);
	ck_assert_uint_eq(lookup_most, 3);
	lookup_done(asked_ctx, true, &result, 6);
	ck_assert_str_eq(buf_text(&heard), "[succeeded]0:ab ");
	ck_assert_int_eq(lookup_at, 2);
	follow_pause(f, true);
	result.text = STR("\xc3\xa9"
			  "c");
	lookup_done(asked_ctx, true, &result, 6);
	ck_assert_str_eq(buf_text(&heard), "[succeeded]0:ab ");
	follow_pause(f, false);
	lookup_done(asked_ctx, true, &result, 6);
	result.text = STR("d");
	lookup_done(asked_ctx, true, &result, 6);
	ck_assert_str_eq(buf_text(&heard), "[succeeded]0:ab 2:\xc3\xa9"
					   "c 5:d [succeeded 6]");
}

TEST(a_stored_answer_goes_on_from_the_named_byte_and_another_attempts_from_the_first)
{
	struct job_view nothing = {0};
	struct result result = {.org = STR("org_1"),
				.status = STR("succeeded"),
				.attempt = 2,
				.bytes = 4,
				.text = STR("cd")};

	begin_follow(2, 2);
	sub_ops_seen->standing(sub_ctx);
	read_done(asked_ctx, REDIS_OK, &nothing);
	ck_assert_int_eq(lookup_at, 2);
	lookup_done(asked_ctx, true, &result, 4);
	ck_assert_str_eq(buf_text(&heard), "[succeeded resumed]2:cd [succeeded 4]");
	buf_reset(&heard);
	begin_follow(1, 2);
	sub_ops_seen->standing(sub_ctx);
	read_done(asked_ctx, REDIS_OK, &nothing);
	lookup_done(asked_ctx, true, &result, 4);
	ck_assert_int_eq(lookup_at, 0);
	result.text = STR("abcd");
	lookup_done(asked_ctx, true, &result, 4);
	ck_assert_str_eq(buf_text(&heard), "[succeeded]0:abcd [succeeded 4]");
}

TEST(stored_parts_are_told_where_they_begin_but_for_a_text_at_the_beginning)
{
	struct job_view nothing = {0};
	struct result result = {.org = STR("org_1"),
				.status = STR("succeeded"),
				.attempt = 1,
				.bytes = 5,
				.text = STR("abc{}"),
				.parts = STR("[{\"at\":0,\"type\":\"text\"},"
					     "{\"at\":3,\"type\":\"tool_call\",\"id\":\"t\"}]")};

	begin_follow(0, 0);
	sub_ops_seen->standing(sub_ctx);
	read_done(asked_ctx, REDIS_OK, &nothing);
	lookup_done(asked_ctx, true, &result, 5);
	ck_assert_str_eq(buf_text(&heard), "[succeeded]0:abc <part>3:{} [succeeded 5]");
}

TEST(a_job_that_nobody_knows_is_gone_or_unsure_by_the_epoch)
{
	struct job_view nothing = {0};

	unsure_says = true;
	begin_follow(0, 0);
	sub_ops_seen->standing(sub_ctx);
	read_done(asked_ctx, REDIS_OK, &nothing);
	lookup_done(asked_ctx, true, NULL, 0);
	ck_assert_str_eq(buf_text(&heard), "[unsure]");
}

TEST(a_started_that_fell_between_two_looks_is_told)
{
	struct job_view running = {.found = true,
				   .org = STR("org_1"),
				   .state = STR("running"),
				   .attempt = 1,
				   .provider = STR("p"),
				   .model = STR("m")};

	begin_follow(0, 0);
	sub_ops_seen->standing(sub_ctx);
	publish("1 started " JOB " 1 -\n\"provider\":\"p\",\"model\":\"m\"");
	say_view("queued", 1, 0, NULL);
	read_done(asked_ctx, REDIS_OK, &running);
	ck_assert_str_eq(buf_text(&heard), "[queued]<started>");
}
