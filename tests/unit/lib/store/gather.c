/* Gathering with a PostgreSQL that answers when the test says so: the file under test is compiled here with its names replaced. */
#include "lib/store/gather.h"

#include "lib/base/buf.h"

static struct pg_request *fake_query(struct pg *pg, const char *sql, const struct str *params,
				     size_t count, pg_fn *done, void *ctx);
static void fake_cancel(struct pg_request *request);
static size_t fake_count(const struct pg_rows *rows);
static int64_t fake_int(const struct pg_rows *rows, size_t row, size_t column, int64_t otherwise);

#define pg_query fake_query
#define pg_cancel fake_cancel
#define pg_count fake_count
#define pg_int fake_int
#define gather_init test_gather_init
#define gather_fini test_gather_fini
#define gather_add test_gather_add
#define gather_cancel test_gather_cancel
#define gather_asks test_gather_asks
void test_gather_init(struct gather *gather, struct loop *loop, struct pg *pg,
		      const struct gather_kind *kind, void *ctx);
void test_gather_fini(struct gather *gather);
void test_gather_add(struct gather *gather, struct gather_ask *ask);
void test_gather_cancel(struct gather_ask *ask);
bool test_gather_asks(const struct gather_ask *ask);
#include "lib/store/gather.c"

#include <stdio.h>

#include "tests/unit/test.h"

SUITE("store/gather");

/* ── PostgreSQL ── */

/* Its only column: whose row it is. */
struct pg_rows {
	size_t count;
	int64_t of[8];
};

static struct statement {
	char text[64]; /* its parameters, each behind a blank */
	pg_fn *done;   /* NULL: answered or cancelled */
	void *ctx;
} statements[8];
static size_t statement_count;

static struct pg_request *fake_query(struct pg *pg, const char *sql, const struct str *params,
				     size_t count, pg_fn *done, void *ctx)
{
	struct statement *s = &statements[statement_count++];
	size_t len = 0;

	(void)pg;
	ck_assert_str_eq(sql, "SELECT");
	for (size_t i = 0; i < count; i++)
		len += (size_t)snprintf(s->text + len, sizeof(s->text) - len, " %.*s",
					STR_FMT(params[i]));
	s->done = done;
	s->ctx = ctx;
	return (struct pg_request *)s;
}

static void fake_cancel(struct pg_request *request)
{
	if (request)
		((struct statement *)request)->done = NULL;
}

static size_t fake_count(const struct pg_rows *rows)
{
	return rows->count;
}

static int64_t fake_int(const struct pg_rows *rows, size_t row, size_t column, int64_t otherwise)
{
	(void)otherwise;
	ck_assert_uint_eq(column, 0);
	return rows->of[row];
}

static void reply(size_t i, enum pg_result result, const struct pg_rows *rows)
{
	pg_fn *done = statements[i].done;

	ck_assert_msg(done != NULL, "no such statement is on its way");
	statements[i].done = NULL;
	done(statements[i].ctx, result, rows);
}

/* ── who asks ── */

struct asker {
	struct gather_ask ask;
	char name;
	uint64_t weight;
	bool again; /* asks once more from its answer */
};

static struct loop *loop;
static struct gather gather;
static struct asker askers[] = {{.name = 'a'}, {.name = 'b'}, {.name = 'c'},
				{.name = 'd'}, {.name = 'e'}, {.name = 'f'}};
static struct buf heard;

static void put(const struct gather_ask *ask, struct buf *out)
{
	buf_add_char(out, container_of(ask, const struct asker, ask)->name);
}

static void on_done(struct gather_ask *ask, enum pg_result result, const struct pg_rows *rows,
		    size_t first, size_t count)
{
	struct asker *a = container_of(ask, struct asker, ask);

	(void)rows;
	ck_assert(!gather_asks(ask));
	buf_printf(&heard, "%c%s:%zu+%zu ", a->name, result == PG_OK ? "" : "!", first, count);
	if (a->again)
		gather_add(&gather, ask);
	a->again = false;
}

static uint64_t weight_of(const struct gather_ask *ask)
{
	return container_of(ask, const struct asker, ask)->weight;
}

static uint64_t number(void *ctx)
{
	return *(uint64_t *)ctx;
}

static const struct gather_kind plain = {
    .sql = "SELECT", .open = '[', .close = ']', .most = 3, .put = put, .done = on_done};

static void begin(const struct gather_kind *kind, void *ctx)
{
	loop = loop_new(1);
	gather_init(&gather, loop, NULL, kind, ctx);
}

/* Each of @names asks; a turn of the loop passes. */
static void ask(const char *names)
{
	for (; *names; names++)
		gather_add(&gather, &askers[*names - 'a'].ask);
	loop_turn(loop, 0);
}

TEST(what_is_asked_in_a_turn_is_one_statement)
{
	begin(&plain, NULL);
	ask("abc");
	ck_assert_uint_eq(statement_count, 1);
	ck_assert_str_eq(statements[0].text, " [a,b,c]");
}

TEST(a_statement_has_its_number_where_its_kind_has_one)
{
	struct gather_kind kind = plain;
	uint64_t seven = 7;

	kind.second = number;
	begin(&kind, &seven);
	ask("a");
	ck_assert_str_eq(statements[0].text, " [a] 7");
}

TEST(a_statement_takes_no_more_than_its_kind_says)
{
	begin(&plain, NULL);
	ask("abcde");
	ck_assert_uint_eq(statement_count, 2);
	ck_assert_str_eq(statements[0].text, " [a,b,c]");
	ck_assert_str_eq(statements[1].text, " [d,e]");
}

TEST(a_statement_that_weighs_enough_takes_no_further_one_and_a_heavy_one_goes_all_the_same)
{
	struct gather_kind kind = plain;

	kind.weight = weight_of;
	kind.most_weight = 10;
	askers[0].weight = 9;
	askers[1].weight = 1;
	askers[2].weight = 100;
	begin(&kind, NULL);
	ask("abcd");
	ck_assert_str_eq(statements[0].text, " [a,b]");
	ck_assert_str_eq(statements[1].text, " [c]");
	ck_assert_uint_eq(statement_count, 2);
}

TEST(what_comes_while_two_statements_are_on_their_way_goes_together_behind_the_first_answer)
{
	const struct pg_rows none = {0};

	begin(&plain, NULL);
	ask("a");
	ask("b");
	ask("c");
	ask("d");
	ck_assert_uint_eq(statement_count, 2);
	reply(1, PG_OK, &none);
	loop_turn(loop, 0);
	ck_assert_uint_eq(statement_count, 3);
	ck_assert_str_eq(statements[2].text, " [c,d]");
}

TEST(each_hears_the_rows_that_are_its_own)
{
	const struct pg_rows rows = {.count = 3, .of = {1, 1, 3}};

	begin(&plain, NULL);
	ask("abc");
	reply(0, PG_OK, &rows);
	ck_assert_str_eq(buf_text(&heard), "a:0+2 b:2+0 c:2+1 ");
}

TEST(one_that_cancelled_hears_nothing_and_its_rows_are_nobody_elses)
{
	const struct pg_rows rows = {.count = 4, .of = {1, 2, 2, 3}};

	begin(&plain, NULL);
	ask("abc");
	gather_cancel(&askers[1].ask);
	reply(0, PG_OK, &rows);
	ck_assert_str_eq(buf_text(&heard), "a:0+1 c:3+1 ");
}

TEST(one_that_cancelled_while_it_waited_is_not_asked_for)
{
	begin(&plain, NULL);
	gather_add(&gather, &askers[0].ask);
	gather_cancel(&askers[0].ask);
	ask("b");
	ck_assert_str_eq(statements[0].text, " [b]");
}

TEST(a_failure_is_told_to_all_without_rows)
{
	begin(&plain, NULL);
	ask("ab");
	reply(0, PG_AWAY, NULL);
	ck_assert_str_eq(buf_text(&heard), "a!:0+0 b!:0+0 ");
}

TEST(one_may_ask_again_from_its_answer)
{
	const struct pg_rows none = {0};

	begin(&plain, NULL);
	askers[0].again = true;
	ask("ab");
	reply(0, PG_OK, &none);
	ck_assert_str_eq(buf_text(&heard), "a:0+0 b:0+0 ");
	loop_turn(loop, 0);
	ck_assert_str_eq(statements[1].text, " [a]");
}

TEST(nothing_comes_of_a_statement_after_the_end)
{
	begin(&plain, NULL);
	ask("a");
	gather_cancel(&askers[0].ask);
	gather_fini(&gather);
	ck_assert_ptr_null(statements[0].done);
}

TEST_ABORTS(it_does_not_end_while_somebody_asks)
{
	begin(&plain, NULL);
	ask("a");
	gather_fini(&gather);
}
