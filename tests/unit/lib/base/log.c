#include "lib/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "lib/base/err.h"
#include "tests/unit/test.h"

SUITE("base/log");

static uint64_t fixed(void *ctx)
{
	(void)ctx;
	return 1795342530123;
}

TEST(a_line_has_time_level_event_context_from_the_root_and_fields)
{
	struct log_sink sink = {.fd = -1, .wall_ms = fixed};
	struct log root = {.sink = &sink, .key = "svc", .value = "sluice-pool"};
	struct log job = log_child(&root, "job", "job_1");

	log_info(&job, "claimed", F_INT("attempt", -1), F_STR("lane", "interactive"),
		 F_UINT("bytes", UINT64_MAX));
	ck_assert_str_eq(sink.last, "time=2026-11-22T10:15:30.123Z level=info event=claimed "
				    "svc=sluice-pool job=job_1 attempt=-1 lane=interactive "
				    "bytes=18446744073709551615");
}

TEST(json_lines_have_the_same_order)
{
	struct log_sink sink = {.fd = -1, .wall_ms = fixed, .json = true};
	struct log root = {.sink = &sink, .key = "svc", .value = "x"};

	log_warn(&root, "two words", F_INT("n", 1), F_STR("s", "a\"b"));
	ck_assert_str_eq(sink.last,
			 "{\"time\":\"2026-11-22T10:15:30.123Z\",\"level\":\"warn\","
			 "\"event\":\"two words\",\"svc\":\"x\",\"n\":1,\"s\":\"a\\\"b\"}");
}

TEST(values_are_quoted_where_they_need_it)
{
	struct log_sink sink = {.fd = -1};
	struct log root = {.sink = &sink};

	log_info(&root, "e", F_STR("a", ""), F_STR("b", "x y"), F_STR("c", "k=v"),
		 F_STR("d", "1\n2"), F_VIEW("e", STR("bad\xFFutf8")), F_STR("f", NULL),
		 F_STR("g", "a:b/c"));
	ck_assert_str_eq(sink.last, "level=info event=e a=\"\" b=\"x y\" c=\"k=v\" d=\"1\\n2\" "
				    "e=\"bad\xEF\xBF\xBDutf8\" f=\"\" g=a:b/c");
}

TEST(a_long_value_is_cut_between_code_points)
{
	struct log_sink sink = {.level = LOG_INFO};
	struct log root = {.sink = &sink};
	static char text[5000], got[5000];
	int fd[2];

	memset(text, 'a', sizeof(text) - 1);
	memcpy(text + 1023, "\xC3\xA4", 2);
	ck_assert_int_eq(pipe(fd), 0);
	sink.fd = fd[1];
	log_info(&root, "e", F_STR("v", text), F_INT("n", 1));
	ck_assert_int_gt(read(fd[0], got, sizeof(got) - 1), 1023);
	ck_assert_ptr_nonnull(strstr(got, "aaa\xE2\x80\xA6\" n=1\n"));
	ck_assert(str_utf8(str_of(got)));
}

TEST(the_newest_line_is_kept_and_cut)
{
	struct log_sink sink = {.fd = -1};
	struct log root = {.sink = &sink};
	char text[700];

	memset(text, 'a', sizeof(text));
	log_info(&root, "e", F_VIEW("v", ((struct str){text, sizeof(text)})));
	ck_assert_uint_eq(strlen(sink.last), sizeof(sink.last) - 1);
}

TEST(lines_below_the_level_are_not_written)
{
	struct log_sink sink = {.fd = -1, .level = LOG_WARN};
	struct log root = {.sink = &sink};

	log_info(&root, "quiet");
	ck_assert_str_eq(sink.last, "");
	log_error(&root, "loud");
	ck_assert_str_eq(sink.last, "level=error event=loud");
}

TEST(a_line_is_one_write_that_ends_in_a_line_end)
{
	struct log_sink sink = {.level = LOG_INFO};
	struct log root = {.sink = &sink};
	char got[100];
	int fd[2];

	ck_assert_int_eq(pipe2(fd, O_DIRECT), 0);
	sink.fd = fd[1];
	log_info(&root, "one");
	log_info(&root, "two");
	/* A pipe in packet mode gives one write per read. */
	ck_assert_int_eq(read(fd[0], got, sizeof(got)), 21);
	ck_assert(memcmp(got, "level=info event=one\n", 21) == 0);
}

TEST(a_full_pipe_loses_lines_and_not_the_program)
{
	struct log_sink sink = {.level = LOG_INFO};
	struct log root = {.sink = &sink};
	int fd[2];

	ck_assert_int_eq(pipe2(fd, O_NONBLOCK), 0);
	sink.fd = fd[1];
	for (int i = 0; i < 10000; i++)
		log_info(&root, "one more line of text", F_INT("i", i));
	ck_assert_str_eq(sink.last, "level=info event=\"one more line of text\" i=9999");
}

TEST(an_error_is_told_with_its_trace)
{
	struct log_sink sink = {.fd = -1};
	struct log root = {.sink = &sink};
	int r = err_origin(-ECONNREFUSED);

	log_error(&root, "e", F_ERR(r));
	ck_assert_ptr_nonnull(strstr(sink.last, "error=\"Connection refused (tests/unit/"));
}
