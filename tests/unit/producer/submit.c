/* The order of submitting, with stores and a broker that answer when the test says so: the file under test is compiled here with
 * their names replaced. */
#include "lib/base/buf.h"
#include "lib/lane/lane.h"
#include "lib/net/loop.h"
#include "lib/relay/state.h"
#include "lib/store/blob.h"
#include "lib/store/redis.h"
#include "producer/admit.h"
#include "producer/restore.h"

typedef void state_said(void *ctx, enum redis_result result, struct str state);

static void fake_write(struct lane_writer *writer, const struct lane_write *what,
		       void (*written)(void *ctx, enum lane_written result, int32_t partition,
				       int64_t offset),
		       void *ctx);
static int32_t fake_partitions(struct lane_writer *writer, const char *topic);
static struct redis_request *fake_submit(struct redis *redis, const struct job *job,
					 const char *topic, int32_t partition, int64_t offset,
					 uint64_t now, state_said *done, void *ctx);
static struct redis_request *fake_refuse(struct redis *redis, struct str job, struct str org,
					 int64_t ttl_ms, state_said *done, void *ctx);
static struct redis_request *fake_command(struct redis *redis, struct str order,
					  const struct str *args, size_t count, redis_fn *done,
					  void *ctx);
static uint64_t fake_epoch(const struct redis *redis);
static struct redis_request *fake_ask_epoch(struct redis *redis, struct str order, redis_fn *done,
					    void *ctx);
static bool fake_epoch_stands(const struct redis *redis, enum redis_result result,
			      const struct redis_value *value);
static void fake_cancel(struct redis_request *request);
static struct blob_request *
fake_put(struct blob *blob, struct str bytes,
	 void (*done)(void *ctx, enum blob_result result, const char *ref), void *ctx);

#define lane_partitions fake_partitions
#define state_submit fake_submit
#define state_refuse fake_refuse
#define redis_command fake_command
#define redis_epoch_wall_ms fake_epoch
#define redis_ask_epoch fake_ask_epoch
#define redis_epoch_stands fake_epoch_stands
#define redis_cancel fake_cancel
#define blob_put fake_put
#define submitter_new test_submitter_new
#define submitter_reload test_submitter_reload
#define submitter_free test_submitter_free
#define submit_open test_submit_open
#define submit_cancel test_submit_cancel
#define submitter_weight test_submitter_weight
#define submitter_hold test_submitter_hold
#define submitter_release test_submitter_release
#define submitter_held_bytes test_submitter_held_bytes
#define submit_carry test_submit_carry
struct submitter *test_submitter_new(const struct submitter_options *options);
void test_submitter_reload(struct submitter *submitter, const struct config *config);
void test_submitter_free(struct submitter *submitter);
struct submit *test_submit_open(struct submitter *submitter, const struct job *job,
				void (*done)(void *ctx, const struct submit_outcome *outcome),
				void *ctx);
void test_submit_cancel(struct submit *submit);
size_t test_submitter_weight(size_t body_bytes);
bool test_submitter_hold(struct submitter *submitter, size_t weight);
void test_submitter_release(struct submitter *submitter, size_t weight);
size_t test_submitter_held_bytes(const struct submitter *submitter);
void test_submit_carry(struct submit *submit, size_t weight);
/* The struct and the function share a name: a macro with arguments replaces the call alone. */
#define lane_write(...) fake_write(__VA_ARGS__)
#include "producer/submit.c"

#include "tests/unit/test.h"

SUITE("producer/submit");

static struct buf steps; /* what was done, in its order */
static void (*written)(void *ctx, enum lane_written result, int32_t partition, int64_t offset);
static state_said *state_done;
static void (*put_done)(void *ctx, enum blob_result result, const char *ref);
static void *asked_ctx;
static enum fault outcome_fault;
static int token;
static uint64_t epoch_ms; /* of Redis */
static redis_fn *epoch_done;

static void fake_write(struct lane_writer *writer, const struct lane_write *what,
		       void (*done)(void *ctx, enum lane_written result, int32_t partition,
				    int64_t offset),
		       void *ctx)
{
	(void)writer;
	buf_printf(&steps, "write %s %s ", what->topic, what->body.len > 1000 ? "large" : "small");
	written = done;
	asked_ctx = ctx;
}

static uint64_t fake_epoch(const struct redis *redis)
{
	(void)redis;
	return epoch_ms;
}

static struct redis_request *fake_ask_epoch(struct redis *redis, struct str order, redis_fn *done,
					    void *ctx)
{
	(void)redis;
	(void)order;
	buf_add_text(&steps, "epoch ");
	epoch_done = done;
	asked_ctx = ctx;
	return (struct redis_request *)&token;
}

static bool fake_epoch_stands(const struct redis *redis, enum redis_result result,
			      const struct redis_value *value)
{
	(void)redis;
	(void)value;
	return result == REDIS_OK;
}

static int32_t fake_partitions(struct lane_writer *writer, const char *topic)
{
	(void)writer;
	(void)topic;
	return 8;
}

static struct redis_request *fake_submit(struct redis *redis, const struct job *job,
					 const char *topic, int32_t partition, int64_t offset,
					 uint64_t now, state_said *done, void *ctx)
{
	(void)redis;
	(void)job;
	(void)topic;
	(void)partition;
	(void)offset;
	(void)now;
	buf_add_text(&steps, "queue ");
	state_done = done;
	asked_ctx = ctx;
	return (struct redis_request *)&token;
}

static struct redis_request *fake_refuse(struct redis *redis, struct str job, struct str org,
					 int64_t ttl_ms, state_said *done, void *ctx)
{
	(void)redis;
	(void)job;
	(void)org;
	(void)ttl_ms;
	buf_add_text(&steps, "refuse ");
	state_done = done;
	asked_ctx = ctx;
	return (struct redis_request *)&token;
}

static struct redis_request *fake_command(struct redis *redis, struct str order,
					  const struct str *args, size_t count, redis_fn *done,
					  void *ctx)
{
	(void)redis;
	(void)order;
	(void)args;
	(void)count;
	(void)done;
	(void)ctx;
	return (struct redis_request *)&token;
}

static void fake_cancel(struct redis_request *request)
{
	(void)request;
}

static struct blob_request *
fake_put(struct blob *blob, struct str bytes,
	 void (*done)(void *ctx, enum blob_result result, const char *ref), void *ctx)
{
	(void)blob;
	ck_assert_uint_gt(bytes.len, BLOB_INLINE_MAX);
	buf_add_text(&steps, "blob ");
	put_done = done;
	asked_ctx = ctx;
	return (struct blob_request *)&token;
}

static void on_outcome(void *ctx, const struct submit_outcome *outcome)
{
	(void)ctx;
	outcome_fault = outcome->fault;
	buf_add_text(&steps, "told");
}

static struct loop *loop;
static struct submitter *submitter;

static struct submit *begin_submit(const char *messages)
{
	static struct log_sink sink = {.fd = -1};
	static struct log test_log = {.sink = &sink};
	struct submitter_options o = {.topic_prefix = "t.", .log = &test_log};
	struct job job;

	codec_init(&codec_job, &job);
	job.id = STR("job_01M8287AQSTJRB2D2PRTV8Q4CK");
	job.org = STR("org_1");
	job.lane = STR("high");
	job.task = STR("chat");
	job.messages = str_of(messages);
	o.loop = loop = loop_new(1);
	submitter = submitter_new(&o);
	return submit_open(submitter, &job, on_outcome, NULL);
}

static void end_submit(void)
{
	submitter_free(submitter);
	loop_free(loop);
}

TEST(accepted_is_said_after_the_broker_and_the_state)
{
	begin_submit("[]");
	written(asked_ctx, LANE_WRITTEN, 3, 17);
	ck_assert_str_eq(buf_text(&steps), "write t.llm.high small queue ");
	state_done(asked_ctx, REDIS_OK, STR("queued"));
	ck_assert_str_eq(buf_text(&steps), "write t.llm.high small queue told");
	ck_assert_int_eq(outcome_fault, FAULT_NONE);
	end_submit();
}

TEST(a_pool_that_was_quicker_makes_it_no_less_accepted)
{
	begin_submit("[]");
	written(asked_ctx, LANE_WRITTEN, 3, 17);
	state_done(asked_ctx, REDIS_OK, STR("running"));
	ck_assert_int_eq(outcome_fault, FAULT_NONE);
	end_submit();
}

TEST(a_job_that_somebody_refused_meanwhile_is_not_accepted)
{
	begin_submit("[]");
	written(asked_ctx, LANE_WRITTEN, 3, 17);
	state_done(asked_ctx, REDIS_OK, STR("refused"));
	ck_assert_int_eq(outcome_fault, FAULT_UNAVAILABLE);
	end_submit();
}

TEST(without_its_state_nobody_says_accepted)
{
	begin_submit("[]");
	written(asked_ctx, LANE_WRITTEN, 3, 17);
	state_done(asked_ctx, REDIS_AWAY, STR(""));
	ck_assert_int_eq(outcome_fault, FAULT_OUTCOME_UNKNOWN);
	end_submit();
}

TEST(what_is_provably_not_in_the_log_may_be_tried_again)
{
	begin_submit("[]");
	written(asked_ctx, LANE_NOT_WRITTEN, -1, -1);
	ck_assert_str_eq(buf_text(&steps), "write t.llm.high small told");
	ck_assert_int_eq(outcome_fault, FAULT_UNAVAILABLE);
	end_submit();
}

TEST(what_may_be_in_the_log_is_refused_first)
{
	begin_submit("[]");
	written(asked_ctx, LANE_UNKNOWN, -1, -1);
	epoch_done(asked_ctx, REDIS_OK, NULL);
	ck_assert_str_eq(buf_text(&steps), "write t.llm.high small epoch refuse ");
	state_done(asked_ctx, REDIS_OK, STR("refused"));
	ck_assert_int_eq(outcome_fault, FAULT_UNAVAILABLE);
	end_submit();
}

TEST(what_redis_may_have_forgotten_is_not_refused)
{
	for (int unheard = 0; unheard < 2; unheard++) {
		buf_reset(&steps);
		begin_submit("[]");
		epoch_ms = unheard ? 0 : UINT64_MAX;
		written(asked_ctx, LANE_UNKNOWN, -1, -1);
		epoch_done(asked_ctx, unheard ? REDIS_LOST : REDIS_OK, NULL);
		epoch_ms = 0;
		ck_assert_str_eq(buf_text(&steps), "write t.llm.high small epoch told");
		ck_assert_int_eq(outcome_fault, FAULT_OUTCOME_UNKNOWN);
		end_submit();
	}
}

TEST(where_the_refusal_does_not_stand_the_outcome_is_unknown)
{
	begin_submit("[]");
	written(asked_ctx, LANE_UNKNOWN, -1, -1);
	epoch_done(asked_ctx, REDIS_OK, NULL);
	state_done(asked_ctx, REDIS_OK, STR("running"));
	ck_assert_int_eq(outcome_fault, FAULT_OUTCOME_UNKNOWN);
	end_submit();
}

TEST(a_large_job_goes_to_the_blob_store_before_its_small_record)
{
	struct buf large = {0};

	buf_add_char(&large, '"');
	for (size_t i = 0; i < BLOB_INLINE_MAX; i++)
		buf_add_char(&large, 'x');
	buf_add_char(&large, '"');
	begin_submit(buf_text(&large));
	ck_assert_str_eq(buf_text(&steps), "blob ");
	put_done(asked_ctx, BLOB_OK, "blob_1");
	ck_assert_str_eq(buf_text(&steps), "blob write t.llm.high small ");
	end_submit();
	buf_fini(&large);
}

TEST(who_cancels_hears_nothing_but_the_state_is_still_written)
{
	struct submit *s = begin_submit("[]");

	submit_cancel(s);
	written(asked_ctx, LANE_WRITTEN, 3, 17);
	state_done(asked_ctx, REDIS_OK, STR("queued"));
	ck_assert_str_eq(buf_text(&steps), "write t.llm.high small queue ");
	end_submit();
}

TEST(more_than_may_be_held_is_refused_until_some_is_released)
{
	static const struct log log = {0};

	begin_submit("[]");
	submitter->o.max_held_bytes = 1000;
	submitter->o.log = &log;
	ck_assert(submitter_hold(submitter, 600));
	ck_assert(!submitter_hold(submitter, 401));
	ck_assert(submitter_hold(submitter, 400));
	submitter_release(submitter, 600);
	ck_assert(submitter_hold(submitter, 600));
	end_submit();
}

TEST(one_job_is_held_whatever_its_weight)
{
	begin_submit("[]");
	submitter->o.max_held_bytes = 1000;
	ck_assert(submitter_hold(submitter, 5000));
	end_submit();
}

TEST(what_a_cancelled_submit_carries_is_held_until_the_broker_answers)
{
	struct submit *s = begin_submit("[]");

	ck_assert(submitter_hold(submitter, 600));
	submit_carry(s, 600);
	submit_cancel(s);
	ck_assert_uint_eq(submitter_held_bytes(submitter), 600);
	written(asked_ctx, LANE_WRITTEN, 3, 17);
	state_done(asked_ctx, REDIS_OK, STR("queued"));
	ck_assert_uint_eq(submitter_held_bytes(submitter), 0);
	end_submit();
}
