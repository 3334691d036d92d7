/* Keys while PostgreSQL does not answer: the file under test is compiled here with the store's names replaced. */
#include "lib/base/log.h"
#include "lib/store/pg.h"

static struct pg_request *fake_query(struct pg *pg, const char *sql, const struct str *params,
				     size_t count, pg_fn *done, void *ctx);
static bool fake_up(const struct pg *pg);
static size_t fake_count(const struct pg_rows *rows);
static struct str fake_text(const struct pg_rows *rows, size_t row, size_t column);
static void fake_cancel(struct pg_request *request);

#define pg_query fake_query
#define pg_up fake_up
#define pg_count fake_count
#define pg_text fake_text
#define pg_cancel fake_cancel
#define keys_defaults test_keys_defaults
#define keys_new test_keys_new
#define keys_free test_keys_free
#define keys_check test_keys_check
#define keys_cancel test_keys_cancel
#define keys_forget test_keys_forget
#define keys_make test_keys_make
#define keys_hash test_keys_hash
#define keys_shape test_keys_shape
#define keys_add test_keys_add
#define keys_revoke test_keys_revoke
#include "lib/identity/keys.c"

#include "tests/unit/test.h"

SUITE("identity/keys_late");

#define KEY STR("sk-sluice-0123456789012345678901234567890123456789")

static struct loop *loop;
static struct keys *keys;
static int token;
static pg_fn *row; /* the answer to the question that is open */
static void *row_ctx;
static unsigned questions;
static enum keys_result said;
static unsigned answers;

static struct pg_request *fake_query(struct pg *pg, const char *sql, const struct str *params,
				     size_t count, pg_fn *done, void *ctx)
{
	(void)pg, (void)sql, (void)params, (void)count;
	questions++;
	row = done;
	row_ctx = ctx;
	return (struct pg_request *)&token;
}

static bool fake_up(const struct pg *pg)
{
	(void)pg;
	return true;
}

static size_t fake_count(const struct pg_rows *rows)
{
	(void)rows;
	return 1;
}

static struct str fake_text(const struct pg_rows *rows, size_t at, size_t column)
{
	(void)rows, (void)at;
	return column ? STR("key_1") : STR("org_1");
}

static void fake_cancel(struct pg_request *request)
{
	(void)request;
}

static void on_key(void *ctx, enum keys_result result, const struct identity *who)
{
	(void)ctx;
	ck_assert_int_eq(who != NULL, result == KEYS_GOOD);
	said = result;
	answers++;
}

static void begin(void)
{
	static const struct log log = {0};
	struct keys_options o = keys_defaults();

	o.good_us = 0; /* asked for each time */
	loop = loop_new(1);
	keys = keys_new(loop, NULL, &o, &log);
}

static void end(void)
{
	keys_free(keys);
	loop_free(loop);
}

static void late(void)
{
	struct known *known = list_first(&keys->asking, struct known, link);

	ck_assert(timer_is_set(&known->patience));
	timer_stop(&known->patience);
	known->patience.fire(&known->patience);
	loop_turn(loop, 0);
}

TEST(a_key_that_nobody_remembers_is_unsure_after_a_while_and_then_at_once)
{
	begin();
	keys_check(keys, KEY, on_key, NULL);
	loop_turn(loop, 0);
	ck_assert_uint_eq(answers, 0);
	late();
	ck_assert_uint_eq(answers, 1);
	ck_assert_int_eq(said, KEYS_UNSURE);
	keys_check(keys, KEY, on_key, NULL);
	loop_turn(loop, 0);
	ck_assert_uint_eq(answers, 2);
	ck_assert_int_eq(said, KEYS_UNSURE);
	ck_assert_uint_eq(questions, 1);
	end();
}

TEST(a_key_that_was_good_within_the_hour_stays_good)
{
	begin();
	keys_check(keys, KEY, on_key, NULL);
	row(row_ctx, PG_OK, NULL);
	loop_turn(loop, 0);
	keys_check(keys, KEY, on_key, NULL);
	late();
	ck_assert_uint_eq(answers, 2);
	ck_assert_int_eq(said, KEYS_GOOD);
	end();
}

TEST(the_answer_that_comes_late_counts_for_who_asks_then)
{
	begin();
	keys_check(keys, KEY, on_key, NULL);
	late();
	row(row_ctx, PG_OK, NULL);
	keys_check(keys, KEY, on_key, NULL);
	ck_assert_uint_eq(questions, 2);
	row(row_ctx, PG_OK, NULL);
	loop_turn(loop, 0);
	ck_assert_uint_eq(answers, 2);
	ck_assert_int_eq(said, KEYS_GOOD);
	end();
}
