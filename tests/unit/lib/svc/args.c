#include "lib/svc/args.h"

#include <string.h>

#include "tests/unit/test.h"

SUITE("svc/args");

struct values {
	int64_t limit;
};

#define OPTION_OF struct values
/* clang-format off */
static const struct option options[] = {
	OPTION_LINE(limit, "upper_limit", INT, 10, 1, 100, "how many at once")
};
/* clang-format on */

static const struct svc_program program = {.name = "sluice-test",
					   .section = "test",
					   .summary = "tests",
					   .options = options,
					   .option_count = 1,
					   .options_size = sizeof(struct values)};

static struct args args;
static struct buf errors;

#define READ(...)                                                                              \
	args_read(&args, (int)(sizeof((const char *[]){"x", ##__VA_ARGS__}) / sizeof(char *)), \
		  (char **)(const char *[]){"x", ##__VA_ARGS__, NULL}, &program, &errors)

TEST(nothing_said_gives_the_first_id)
{
	ck_assert_int_eq(READ(), ARGS_OK);
	ck_assert_str_eq(args.id, "sluice-test-1");
	ck_assert_ptr_null(args.file);
	args_fini(&args);
}

TEST(an_own_option_becomes_a_set_of_its_section)
{
	ck_assert_int_eq(READ("--upper-limit", "5", "--workers=3", "--set", "log.level=debug"),
			 ARGS_OK);
	ck_assert_uint_eq(args.set_count, 3);
	ck_assert_str_eq(args.sets[0], "test.upper_limit=5");
	ck_assert_str_eq(args.sets[1], "test.workers=3");
	ck_assert_str_eq(args.sets[2], "log.level=debug");
	args_fini(&args);
}

TEST(an_unknown_option_is_refused_by_name)
{
	ck_assert_int_eq(READ("--nothing", "5"), ARGS_BAD);
	ck_assert_str_eq(buf_text(&errors),
			 "sluice-test: unknown option --nothing (--help lists all)\n");
	buf_fini(&errors);
	args_fini(&args);
}

TEST(an_option_without_its_value_is_refused)
{
	ck_assert_int_eq(READ("--config"), ARGS_BAD);
	ck_assert_str_eq(buf_text(&errors), "sluice-test: --config needs a value\n");
	buf_fini(&errors);
	args_fini(&args);
}

TEST(help_lists_each_option_with_default_and_limits)
{
	struct buf out = {0};

	args_help(&program, &out);
	ck_assert_ptr_nonnull(strstr(buf_text(&out),
				     "--upper_limit  (a whole number from 1 to 100; default 10)\n"
				     "      how many at once\n"));
	ck_assert_ptr_nonnull(strstr(
	    buf_text(&out), "--drain_ms  (a time (ms, s, m, h, d) from 0ms to 1h; default 30s)"));
	buf_fini(&out);
}

TEST(workers_count_the_number_in_the_id_up)
{
	struct arena arena = {0};

	ck_assert_str_eq(args_worker_id(&arena, "front-7", 2, 4), "front-9");
	ck_assert_str_eq(args_worker_id(&arena, "front", 0, 4), "front-1");
	ck_assert_str_eq(args_worker_id(&arena, "front-7", 0, 1), "front-7");
	arena_reset(&arena);
}

TEST(workers_count_the_port_up_but_not_a_free_one)
{
	struct arena arena = {0};

	ck_assert_str_eq(args_worker_address(&arena, "[::1]:9000", 3), "[::1]:9003");
	ck_assert_str_eq(args_worker_address(&arena, "127.0.0.1:0", 3), "127.0.0.1:0");
	arena_reset(&arena);
}
