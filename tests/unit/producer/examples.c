/* The golden examples of schemas/json/examples/: what the code writes is what stands there, byte for byte, and what stands there as
 * a request is admitted. Each file has a schema of its name beside the folder. */
#include "lib/base/buf.h"
#include "lib/base/json.h"
#include "lib/base/rand.h"
#include "lib/svc/config.h"
#include "producer/admit.h"
#include "producer/front.h"
#include "producer/sse_out.h"
#include "lib/relay/view.h"
#include "tests/unit/example.h"

SUITE("producer/examples");

#define JOB EXAMPLE_JOB

/* Each test has a process of its own. */
static struct buf out, errors, openai, anthropic;
static struct config *config;
static struct arena arena;

static struct result good_result(void)
{
	struct result r = example_result("interactive");

	r.calls =
	    STR("[{\"provider\":\"anthropic\",\"account\":\"main\",\"model\":\"claude-sonnet-4-5\","
		"\"attempt\":1,\"started_ms\":1795342530004,\"first_token_ms\":1795342530321,"
		"\"ended_ms\":1795342531498}]");
	r.cached_input_tokens = 640;
	return r;
}

TEST(an_ended_job_is_written_as_its_example)
{
	struct result r = good_result();
	struct shown s;

	shown_from_result(&s, &r);
	shown_write(&s, false, &out);
	ck_assert_str_eq(buf_text(&out), example("job"));
}

TEST(a_job_that_never_ran_is_written_as_its_example)
{
	struct result r;
	struct shown s;

	codec_init(&codec_result, &r);
	r.id = STR(JOB);
	r.kind = STR("chat");
	r.lane = STR("high");
	r.status = STR("expired");
	r.created_ms = 1795342530000;
	r.finished_ms = 1795342550000;
	r.fault = STR("expired");
	shown_from_result(&s, &r);
	shown_write(&s, false, &out);
	ck_assert_str_eq(buf_text(&out), example("job_failed"));
}

/* The object behind `data: `. */
static const char *data_of(struct buf *written)
{
	const char *data = strstr(buf_text(written), "data: ");
	char *end;

	ck_assert_ptr_nonnull(data);
	data += strlen("data: ");
	end = strstr(data, "\n\n");
	ck_assert_ptr_nonnull(end);
	*end = '\0';
	return data;
}

TEST(a_delta_is_written_as_its_example)
{
	sse_delta(&out, STR(JOB), 1, 4, STR("“well”\n"));
	ck_assert_str_eq(data_of(&out), example("event_delta"));
}

TEST(a_result_is_written_as_its_example)
{
	struct result r = good_result();

	event_end_write(&out, STR(JOB), STR("succeeded"), 1, &r);
	ck_assert_str_eq(buf_text(&out), example("event_result"));
}

TEST(a_fault_is_written_as_its_example)
{
	struct result r = good_result();

	r.fault = STR("provider_cut");
	event_end_write(&out, STR(JOB), STR("failed"), 1, &r);
	ck_assert_str_eq(buf_text(&out), example("event_fault"));
}

TEST(an_error_is_written_as_its_example)
{
	struct refusal refusal = {.fault = FAULT_INVALID_REQUEST,
				  .message = "messages[0].role must be \"user\" or \"assistant\".",
				  .param = "messages[0].role",
				  .offset = -1};

	error_body(&out, DIALECT_NATIVE, &refusal, STR("req_01M8287AQRDVTZ91JEGQMH9T8V"));
	ck_assert_str_eq(buf_text(&out), example("error"));
}

TEST(the_example_of_a_request_is_admitted)
{
	struct config_request request = {.section = NULL};
	struct job job;
	struct rand r;

	rand_init(&r, 7);
	ck_assert_int_eq(
	    config_parse(
		&request, "t.yaml",
		STR("accounts: [{name: m, kind: anthropic, base_url: \"https://x.test\", key_env: "
		    "K}]\n"
		    "routes: [{name: feedback, kind: task, targets: [{account: m, model: s}]}]\n"),
		&config, &errors),
	    CONFIG_OK);
	ck_assert_int_eq(admit_native(config, &arena, str_of(example("job_request")), STR("org_1"),
				      1700000000000, &r, &job)
			     .fault,
			 FAULT_NONE);
	ck_assert_int_eq(job.queue_ms, 20000);
	ck_assert_view(job.metadata, "{\"essay\":\"42\"}");
}

TEST(a_dialects_error_has_the_dialects_shape)
{
	struct refusal refusal = {
	    .fault = FAULT_UNKNOWN_ROUTE, .message = "m", .param = "model", .offset = -1};

	error_body(&openai, DIALECT_OPENAI, &refusal, STR("req_1"));
	error_body(&anthropic, DIALECT_ANTHROPIC, &refusal, STR("req_1"));
	ck_assert_str_eq(buf_text(&openai),
			 "{\"error\":{\"type\":\"invalid_request_error\",\"message\":\"m\","
			 "\"code\":\"model_not_found\",\"param\":\"model\"}}");
	ck_assert_str_eq(buf_text(&anthropic),
			 "{\"type\":\"error\",\"error\":{\"type\":\"not_found_error\","
			 "\"message\":\"m\"},\"request_id\":\"req_1\"}");
	ck_assert_int_eq(error_status(DIALECT_OPENAI, FAULT_UNKNOWN_ROUTE), 404);
}
