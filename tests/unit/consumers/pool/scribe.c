/* With a Redis that keeps what it is told and never answers: the file under test is compiled here with the names replaced. */
#include "lib/net/loop.h"
#include "lib/relay/state.h"
#include "lib/store/redis.h"

static struct redis_request *keep_append(struct redis *redis, const struct state_append *append,
					 state_fn *done, void *ctx);
static struct redis_request *keep_command(struct redis *redis, struct str order,
					  const struct str *args, size_t count, redis_fn *done,
					  void *ctx);
static void forget_request(struct redis_request *request);

#define state_append(...) keep_append(__VA_ARGS__)
#define redis_command keep_command
#define redis_cancel forget_request
#define scribe_init test_scribe_init
#define scribe_fini test_scribe_fini
#define scribe_begin test_scribe_begin
#define scribe_hold test_scribe_hold
#define scribe_adopt test_scribe_adopt
#define scribe_recall test_scribe_recall
#define scribe_rest test_scribe_rest
#define scribe_text test_scribe_text
#define scribe_flush test_scribe_flush
#define scribe_seam test_scribe_seam
#define scribe_part test_scribe_part
#define scribe_parts_json test_scribe_parts_json
#define scribe_plain test_scribe_plain
#include "consumers/pool/scribe.c"

#include "tests/unit/test.h"

SUITE("pool/scribe");

/* A scribe whose Redis is away for ever: what it holds in memory can be looked at. */
static struct scribe make(struct loop *loop)
{
	return (struct scribe){.loop = loop, .rewrite = true};
}

TEST(an_answer_without_parts_is_all_text)
{
	struct scribe s = make(NULL);
	struct buf out = {0};

	buf_add_text(&s.text, "hello");
	scribe_parts_json(&s, &out);
	ck_assert_view(buf_str(&out), "[{\"at\":0,\"type\":\"text\"}]");
	buf_fini(&out);
	buf_fini(&s.text);
}

TEST(only_text_parts_go_into_the_conversation)
{
	struct scribe s = make(NULL);
	struct buf out = {0};

	buf_add_text(&s.text, "hmHello{}");
	s.parts = (struct scribe_part[]){{0, "thinking", STR(""), STR("")},
					 {2, "text", STR(""), STR("")},
					 {7, "tool_call", STR("t1"), STR("f")}};
	s.part_count = 3;
	scribe_plain(&s, &out);
	ck_assert_view(buf_str(&out), "Hello");
	buf_reset(&out);
	scribe_parts_json(&s, &out);
	ck_assert_view(buf_str(&out),
		       "[{\"at\":0,\"type\":\"thinking\"},{\"at\":2,\"type\":\"text\"},"
		       "{\"at\":7,\"type\":\"tool_call\",\"id\":\"t1\",\"name\":\"f\"}]");
	buf_fini(&out);
	buf_fini(&s.text);
}

/* What Redis was told, as one text. */
static struct buf told;
static int token;

static struct redis_request *keep_append(struct redis *redis, const struct state_append *append,
					 state_fn *done, void *ctx)
{
	(void)redis;
	(void)done;
	(void)ctx;
	buf_printf(&told, "%.*s %lld %lld:%.*s\n", STR_FMT(append->fence),
		   (long long)append->attempt, (long long)append->at, STR_FMT(append->bytes));
	return (struct redis_request *)&token;
}

static struct redis_request *keep_command(struct redis *redis, struct str order,
					  const struct str *args, size_t count, redis_fn *done,
					  void *ctx)
{
	(void)redis;
	(void)order;
	(void)done;
	(void)ctx;
	buf_printf(&told, "%.*s\n", STR_FMT(args[count - 1]));
	return NULL;
}

static void forget_request(struct redis_request *request)
{
	(void)request;
}

static void begins(void *ctx)
{
	(void)ctx;
}

TEST(while_its_claim_is_in_doubt_nothing_is_written_and_then_all_of_it_under_the_new_one)
{
	static const struct scribe_ops ops = {.begins = begins};
	char fence[8] = "old";
	struct scribe s = {.fence = fence, .job = STR("job"), .channel = STR("ev:job")};
	struct loop *loop = loop_new(1);

	scribe_init(&s, loop, NULL, &ops, NULL);
	scribe_begin(&s, 1);
	scribe_text(&s, STR("ab"));
	scribe_flush(&s);
	ck_assert_view(buf_str(&told), "old 1 0:ab\n");
	buf_reset(&told);
	scribe_hold(&s);
	strcpy(fence, "new"); /* its owner asks for the claim */
	scribe_text(&s, STR("cd"));
	ck_assert(scribe_part(&s, "text", STR(""), STR("")));
	scribe_seam(&s, "p", "m");
	scribe_flush(&s);
	ck_assert_view(buf_str(&told), "");
	scribe_adopt(&s, 2);
	ck_assert_view(buf_str(&told), "new 2 0:abcd\n");
	scribe_fini(&s);
	buf_fini(&told);
	loop_free(loop);
}

TEST(what_an_owner_before_said_goes_on_with_its_parts_and_is_written_anew_as_a_whole)
{
	static const struct scribe_ops ops = {.begins = begins};
	struct scribe s = {.fence = "f", .job = STR("job"), .channel = STR("ev:job")};
	struct loop *loop = loop_new(1);
	struct buf parts = {0};

	buf_reset(&told);
	scribe_init(&s, loop, NULL, &ops, NULL);
	scribe_begin(&s, 3);
	scribe_recall(&s, STR("hmHello"),
		      STR("[{\"at\":0,\"type\":\"thinking\"},{\"at\":2,\"type\":\"text\"},"
			  "{\"at\":7,\"type\":\"tool_call\",\"id\":\"t1\",\"name\":\"f\"}]"),
		      5);
	ck_assert(s.rewrite);
	ck_assert_uint_eq(s.first_wall_ms, 5);
	scribe_parts_json(&s, &parts);
	ck_assert_view(buf_str(&parts),
		       "[{\"at\":0,\"type\":\"thinking\"},{\"at\":2,\"type\":\"text\"},"
		       "{\"at\":7,\"type\":\"tool_call\",\"id\":\"t1\",\"name\":\"f\"}]");
	scribe_flush(&s);
	ck_assert_view(buf_str(&told), "f 3 0:hmHello\n");
	scribe_fini(&s);
	buf_fini(&parts);
	buf_fini(&told);
	loop_free(loop);
}

TEST(an_answer_has_a_bounded_number_of_parts_and_their_bytes_are_counted)
{
	struct scribe s = make(NULL);
	size_t parts = 0;

	s.held = true;
	while (parts < 2 * SCRIBE_PARTS_MAX && scribe_part(&s, "tool_call", STR("t1"), STR("f")))
		parts++;
	ck_assert_uint_eq(parts, SCRIBE_PARTS_MAX - 1);
	ck_assert_uint_eq(s.part_count, parts);
	ck_assert_uint_eq(s.part_bytes, 3 * parts);
	mem_free(s.parts);
	arena_reset(&s.arena);
}
