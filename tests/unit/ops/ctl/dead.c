/* Dead letters, out of a topic and into one that the test plays: the file under test is compiled here with the lane's names replaced. */
#include "lib/base/buf.h"
#include "lib/lane/lane.h"
#include "lib/relay/state.h"
#include "lib/store/redis.h"

static int fake_scan(const struct lane_options *kafka, const char *topic, uint64_t timeout_us,
		     const struct log *log,
		     bool (*each)(void *ctx, int32_t partition, int64_t offset, uint64_t wall_ms,
				  struct str key, struct str body),
		     void *ctx);
static int fake_writer_open(struct loop *loop, const struct lane_writer_options *options,
			    const struct log *log, struct lane_writer **ret_writer);
static bool fake_writer_ready(const struct lane_writer *writer);
static void fake_writer_close(struct lane_writer *writer);
static int32_t fake_partitions(struct lane_writer *writer, const char *topic);
static void fake_write(struct lane_writer *writer, const struct lane_write *what,
		       void (*written)(void *ctx, enum lane_written result, int32_t partition,
				       int64_t offset),
		       void *ctx);
static int fake_redis_open(struct loop *loop, const struct redis_options *options,
			   const struct redis_ops *ops, void *ctx, const struct log *log,
			   struct redis **ret_redis);
static bool fake_redis_up(const struct redis *redis);
static void fake_redis_close(struct redis *redis);
static struct redis_request *fake_command(struct redis *redis, struct str order,
					  const struct str *args, size_t count, redis_fn *done,
					  void *ctx);
typedef void state_said(void *ctx, enum redis_result result, struct str state);
static struct redis_request *fake_submit(struct redis *redis, const struct job *job,
					 const char *topic, int32_t partition, int64_t offset,
					 uint64_t now, state_said *done, void *ctx);

#define lane_scan fake_scan
#define lane_writer_open fake_writer_open
#define lane_writer_ready fake_writer_ready
#define lane_writer_close fake_writer_close
#define lane_partitions fake_partitions
#define redis_open fake_redis_open
#define redis_up fake_redis_up
#define redis_close fake_redis_close
#define redis_command fake_command
#define state_submit fake_submit
#define ctl_dead_list test_ctl_dead_list
#define ctl_dead_show test_ctl_dead_show
#define ctl_dead_redrive test_ctl_dead_redrive
#define ctl_dead_drop test_ctl_dead_drop
/* The struct and the function share a name: a macro with arguments replaces the call alone. */
#define lane_write(...) fake_write(__VA_ARGS__)
#include "ops/ctl/dead.c"

#include <unistd.h>

#include "tests/unit/test.h"

SUITE("ops/ctl/dead");

#define BEGAN_MS UINT64_C(1790000000000)

/* One letter of the topic: number @n has the @n-th job. */
static void (*letter_body)(struct buf *out, size_t n);
static size_t letters;
static size_t kafka_takes; /* writes that are acknowledged; later ones are not */

static void job_name(struct buf *out, size_t n)
{
	buf_printf(out, "job_01M83M0000%016zu", n);
}

static int fake_scan(const struct lane_options *kafka, const char *topic, uint64_t timeout_us,
		     const struct log *log,
		     bool (*each)(void *ctx, int32_t partition, int64_t offset, uint64_t wall_ms,
				  struct str key, struct str body),
		     void *ctx)
{
	(void)kafka;
	(void)topic;
	(void)timeout_us;
	(void)log;
	for (size_t n = 0; n < letters; n++) {
		struct buf body = {0};

		letter_body(&body, n);
		each(ctx, 0, (int64_t)n, BEGAN_MS + n / 2, STR(""), buf_str(&body));
		buf_fini(&body);
	}
	return 0;
}

static int fake_writer_open(struct loop *loop, const struct lane_writer_options *options,
			    const struct log *log, struct lane_writer **ret_writer)
{
	(void)loop;
	(void)options;
	(void)log;
	*ret_writer = NULL;
	return 0;
}

static bool fake_writer_ready(const struct lane_writer *writer)
{
	return !writer;
}

static void fake_writer_close(struct lane_writer *writer)
{
	(void)writer;
}

static int32_t fake_partitions(struct lane_writer *writer, const char *topic)
{
	(void)writer;
	(void)topic;
	return 8;
}

static void fake_write(struct lane_writer *writer, const struct lane_write *what,
		       void (*written)(void *ctx, enum lane_written result, int32_t partition,
				       int64_t offset),
		       void *ctx)
{
	(void)writer;
	(void)what;
	written(ctx, kafka_takes ? LANE_WRITTEN : LANE_UNKNOWN, 0, 0);
	if (kafka_takes)
		kafka_takes--;
}

static int fake_redis_open(struct loop *loop, const struct redis_options *options,
			   const struct redis_ops *ops, void *ctx, const struct log *log,
			   struct redis **ret_redis)
{
	(void)loop;
	(void)options;
	(void)ops;
	(void)ctx;
	(void)log;
	*ret_redis = NULL;
	return 0;
}

static bool fake_redis_up(const struct redis *redis)
{
	return !redis;
}

static void fake_redis_close(struct redis *redis)
{
	(void)redis;
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
	return NULL;
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
	done(ctx, REDIS_OK, STR("queued"));
	return NULL;
}

static void plain(struct buf *out, size_t n)
{
	buf_add_text(out, "{\"v\":1,\"job\":\"");
	job_name(out, n);
	buf_printf(out,
		   "\",\"org\":\"org_01M83M4DJN9SJS93K4TH6NAS6R\",\"kind\":\"chat\","
		   "\"lane\":\"background\",\"session\":\"\",\"class\":\"feedback\","
		   "\"fault\":\"expired\",\"tries\":1,\"finished_ms\":%llu,\"record\":",
		   (unsigned long long)BEGAN_MS);
	buf_add_text(out, "{\"v\":1,\"id\":\"");
	job_name(out, n);
	buf_add_text(out, "\",\"org\":\"org_01M83M4DJN9SJS93K4TH6NAS6R\",\"kind\":\"chat\","
			  "\"lane\":\"background\",\"created_ms\":1790000000000,"
			  "\"deadline_ms\":1790000100000,\"queue_ms\":1000,\"run_ms\":1000}}");
}

/* Every third one tells nothing of its job. */
static void some_without_record(struct buf *out, size_t n)
{
	if (n % 3) {
		plain(out, n);
		return;
	}
	buf_add_text(out, "{\"v\":1,\"job\":\"");
	job_name(out, n);
	buf_add_text(out, "\",\"org\":\"\",\"lane\":\"background\",\"record\":null}");
}

/* What a word of the command line printed, and its status. */
struct said {
	int status;
	char out[1 << 16];
	char err[1 << 16];
};

static int caught(int fd, FILE *file)
{
	int kept = dup(fd);

	ck_assert_int_ge(kept, 0);
	ck_assert_int_ge(dup2(fileno(file), fd), 0);
	return kept;
}

static void read_back(int fd, int kept, FILE *file, char text[static 1 << 16])
{
	size_t n;

	dup2(kept, fd);
	close(kept);
	rewind(file);
	n = fread(text, 1, (1 << 16) - 1, file);
	text[n] = '\0';
	fclose(file);
}

static void run(int (*word)(const struct ctl *ctl), long limit, struct said *said)
{
	static const struct log_sink sink = {.fd = STDERR_FILENO, .level = LOG_ERROR};
	struct log log = {.sink = (struct log_sink *)(uintptr_t)&sink};
	struct config config = {.kafka = {.topic_prefix = "", .brokers = ""},
				.redis = {.url = "", .ca_file = ""}};
	struct ctl ctl = {.config = &config, .log = &log, .limit = limit};
	FILE *out = tmpfile(), *err = tmpfile();
	int kept_out, kept_err;

	fflush(stdout);
	kept_out = caught(STDOUT_FILENO, out);
	kept_err = caught(STDERR_FILENO, err);
	said->status = word(&ctl);
	fflush(stdout);
	read_back(STDOUT_FILENO, kept_out, out, said->out);
	read_back(STDERR_FILENO, kept_err, err, said->err);
}

static size_t lines(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

static struct said said;

TEST(a_hundred_thousand_letters_are_listed_newest_first_within_the_limit_of_a_test)
{
	const char *at;

	letter_body = plain;
	letters = 100000;
	run(ctl_dead_list, 4, &said);
	ck_assert_int_eq(said.status, 0);
	ck_assert_uint_eq(lines(said.out), 4);
	at = said.out;
	for (size_t n = 99999; n > 99995; n--) {
		struct buf name = {0};

		job_name(&name, n);
		at = strstr(at, buf_text(&name));
		ck_assert_msg(at, "%zu is not where it belongs: %s", n, said.out);
		buf_fini(&name);
	}
	ck_assert_str_eq(said.err, "");
}

TEST(a_list_that_ends_at_the_default_limit_says_how_many_are_left)
{
	letter_body = plain;
	letters = 130;
	run(ctl_dead_list, 0, &said);
	ck_assert_int_eq(said.status, 0);
	ck_assert_uint_eq(lines(said.out), 100);
	ck_assert_str_eq(said.err, "sluicectl: 30 more are left; --limit takes more than 100\n");
}

TEST(letters_without_a_record_are_named_and_do_not_keep_the_others_from_a_redrive)
{
	letter_body = some_without_record;
	letters = 9;
	kafka_takes = 100;
	run(ctl_dead_redrive, 0, &said);
	ck_assert_int_eq(said.status, 1);
	ck_assert_uint_eq(lines(said.out), 6);
	ck_assert_uint_eq(lines(said.err), 3);
	ck_assert_ptr_nonnull(strstr(said.err, "the letter holds no record of the job"));
}

TEST(letters_that_cannot_be_redriven_do_not_use_up_the_limit)
{
	letter_body = some_without_record;
	letters = 300;
	kafka_takes = 1000;
	run(ctl_dead_redrive, 0, &said);
	ck_assert_uint_eq(lines(said.out), 100);
	ck_assert_ptr_nonnull(strstr(said.err, "sluicectl: 151 more are left"));
}

TEST(a_redrive_ends_where_kafka_acknowledges_nothing_and_says_so)
{
	letter_body = plain;
	letters = 9;
	kafka_takes = 5; /* two jobs with their marks, and one without its mark */
	run(ctl_dead_redrive, 0, &said);
	ck_assert_int_eq(said.status, 1);
	ck_assert_uint_eq(lines(said.out), 3);
	ck_assert_uint_eq(lines(said.err), 1);
	ck_assert_ptr_nonnull(strstr(said.err, "is not marked so"));
	kafka_takes = 0;
	run(ctl_dead_drop, 0, &said);
	ck_assert_int_eq(said.status, 1);
	ck_assert_uint_eq(lines(said.out), 0);
	ck_assert_uint_eq(lines(said.err), 1);
}
