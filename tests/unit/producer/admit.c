#include "producer/admit.h"

#include <stdio.h>

#include "lib/base/buf.h"
#include "lib/base/id.h"
#include "lib/base/rand.h"
#include "lib/svc/config.h"
#include "tests/unit/test.h"

SUITE("producer/admit");

static const char config_text[] =
    "accounts:\n"
    "  - {name: main, kind: anthropic, base_url: \"https://x.test\", key_env: K}\n"
    "routes:\n"
    "  - {name: chat, kind: task, targets: [{account: main, model: small-1}]}\n"
    "  - {name: big, kind: model, max_tokens: 500, targets: [{account: main, model: big-2026}]}\n"
    "  - {name: own, kind: model, orgs: org_2, targets: [{account: main, model: own-1}]}\n"
    "  - {name: mine, kind: model, users: u_1, targets: [{account: main, model: mine-1}]}\n"
    "  - {name: new, kind: model, percent: 50, targets: [{account: main, model: new-1}]}\n"
    "  - {name: new, kind: model, targets: [{account: main, model: small-1}]}\n";

static struct config *config;
static struct arena arena;
static struct job job;

static struct admitted admit_of(const char *org, const char *body)
{
	struct config_request request = {.section = NULL};
	struct buf errors = {0};
	struct rand r;

	rand_init(&r, 7);
	if (!config)
		ck_assert_int_eq(
		    config_parse(&request, "t.yaml", str_of(config_text), &config, &errors),
		    CONFIG_OK);
	return admit_native(config, &arena, str_of(body), str_of(org), 1700000000000, &r, &job);
}

static struct admitted admit(const char *body)
{
	return admit_of("org_1", body);
}

#define M "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

TEST(a_good_request_becomes_a_job_with_id_times_and_lane)
{
	struct admitted a = admit("{\"kind\":\"chat\",\"task\":\"chat\"," M
				  ",\"limits\":{\"queue_ms\":5,\"run_ms\":7}}");

	ck_assert_int_eq(a.fault, FAULT_NONE);
	ck_assert(id_is(job.id, "job"));
	ck_assert_view(job.lane, "interactive");
	ck_assert_view(job.dialect, "native");
	ck_assert_view(job.on_cut, "restart");
	ck_assert_int_eq(job.deadline_ms, 1700000000012);
	ck_assert_view(job.messages, "[{\"role\":\"user\",\"content\":\"hi\"}]");
}

TEST(a_model_is_an_alias_or_what_a_provider_calls_it)
{
	ck_assert_int_eq(admit("{\"kind\":\"chat\",\"model\":\"big\"," M "}").fault, FAULT_NONE);
	ck_assert_int_eq(admit("{\"kind\":\"chat\",\"model\":\"big-2026\"," M "}").fault,
			 FAULT_NONE);
}

#define ASKS(model) "{\"kind\":\"chat\",\"model\":\"" model "\"," M "}"

TEST(an_organisations_own_route_is_unknown_to_the_others_by_alias_and_by_its_model)
{
	ck_assert_int_eq(admit_of("org_2", ASKS("own")).fault, FAULT_NONE);
	ck_assert_int_eq(admit_of("org_2", ASKS("own-1")).fault, FAULT_NONE);
	ck_assert_int_eq(admit_of("org_1", ASKS("own")).fault, FAULT_UNKNOWN_ROUTE);
	ck_assert_int_eq(admit_of("org_1", ASKS("own-1")).fault, FAULT_UNKNOWN_ROUTE);
}

TEST(a_users_own_route_is_unknown_to_the_others_by_alias_and_by_its_model)
{
	ck_assert_int_eq(
	    admit("{\"kind\":\"chat\",\"model\":\"mine-1\",\"user\":\"u_1\"," M "}").fault,
	    FAULT_NONE);
	ck_assert_int_eq(
	    admit("{\"kind\":\"chat\",\"model\":\"mine-1\",\"user\":\"u_2\"," M "}").fault,
	    FAULT_UNKNOWN_ROUTE);
	ck_assert_int_eq(admit(ASKS("mine-1")).fault, FAULT_UNKNOWN_ROUTE);
	ck_assert_int_eq(admit(ASKS("mine")).fault, FAULT_UNKNOWN_ROUTE);
}

TEST(the_model_of_a_share_is_asked_by_its_name_only_within_the_share)
{
	unsigned within = 0;

	for (int i = 0; i < 100; i++) {
		char body[160];
		struct config_wish wish = {.model = STR("new"), .org = STR("org_1")};
		bool in;

		snprintf(body, sizeof(body),
			 "{\"kind\":\"chat\",\"model\":\"new-1\",\"user\":\"u%d\"," M "}", i);
		in = admit(body).fault == FAULT_NONE;
		wish.user = job.user;
		/* whoever the alias leads there, and nobody else */
		ck_assert_int_eq(
		    in, str_is(str_of(config_route_for(config, &wish)->targets[0].model), "new-1"));
		within += in;
	}
	ck_assert_uint_gt(within, 25);
	ck_assert_uint_lt(within, 75);
	/* neither a session nor a user: each repetition would draw anew */
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(admit(ASKS("new-1")).fault, FAULT_UNKNOWN_ROUTE);
	ck_assert_int_eq(admit(ASKS("new")).fault, FAULT_NONE);
}

TEST(the_estimate_is_the_input_and_the_longest_answer)
{
	ck_assert_int_eq(admit("{\"kind\":\"chat\",\"model\":\"big\"," M "}").fault, FAULT_NONE);
	ck_assert_int_eq(job.estimate, 501);
	ck_assert_int_eq(
	    admit("{\"kind\":\"chat\",\"model\":\"big\",\"max_tokens\":9," M "}").fault,
	    FAULT_NONE);
	ck_assert_int_eq(job.estimate, 10);
}

TEST(no_answer_is_longer_than_any_models)
{
	struct job dear = {.max_tokens = INT64_MAX};
	struct admitted a =
	    admit("{\"kind\":\"chat\",\"model\":\"big\",\"max_tokens\":10000001," M "}");

	ck_assert_int_eq(a.fault, FAULT_INVALID_REQUEST);
	ck_assert_str_eq(a.param, "max_tokens");
	ck_assert_int_eq(
	    admit("{\"kind\":\"chat\",\"model\":\"big\",\"max_tokens\":10000000," M "}").fault,
	    FAULT_NONE);
	ck_assert_int_eq(job.estimate, 10000001);
	admit_finish(&dear, NULL, 0, 1700000000000, &arena);
	ck_assert_int_eq(dear.estimate, 10000001);
}

TEST(a_session_may_leave_the_route_to_its_own_task)
{
	struct admitted a =
	    admit("{\"kind\":\"chat\",\"session\":\"ses_01M8287EAVHVFE4EJS7WXRRWMM\"," M "}");

	ck_assert_int_eq(a.fault, FAULT_NONE);
	ck_assert_view(job.channel, "ev:ses_01M8287EAVHVFE4EJS7WXRRWMM");
}

#define GOOD "\"kind\":\"chat\",\"task\":\"chat\""

TEST(what_is_wrong_is_named)
{
	static const struct {
		const char *body;
		enum fault fault;
		const char *param;
	} bad[] = {
	    {"[]", FAULT_INVALID_REQUEST, ""},
	    {"{" M "}", FAULT_INVALID_REQUEST, "kind"},
	    {"{\"kind\":7," M "}", FAULT_INVALID_REQUEST, "kind"},
	    {"{\"kind\":\"poem\",\"task\":\"chat\"," M "}", FAULT_UNKNOWN_KIND, "kind"},
	    {"{\"kind\":\"voice\",\"task\":\"chat\"," M "}", FAULT_NOT_SUPPORTED, "kind"},
	    {"{" GOOD "}", FAULT_INVALID_REQUEST, "messages"},
	    {"{" GOOD ",\"messages\":[]}", FAULT_INVALID_REQUEST, "messages"},
	    {"{" GOOD ",\"messages\":[5]}", FAULT_INVALID_REQUEST, "messages[0]"},
	    {"{" GOOD ",\"messages\":[{\"role\":\"usr\",\"content\":\"x\"}]}",
	     FAULT_INVALID_REQUEST, "messages[0].role"},
	    {"{" GOOD ",\"messages\":[{\"role\":\"user\",\"content\":5}]}", FAULT_INVALID_REQUEST,
	     "messages[0].content"},
	    {"{" GOOD ",\"messages\":[{\"role\":\"user\"}]}", FAULT_INVALID_REQUEST,
	     "messages[0].content"},
	    {"{" GOOD ",\"messages\":[{\"content\":\"x\"}]}", FAULT_INVALID_REQUEST,
	     "messages[0].role"},
	    {"{" GOOD ",\"messages\":[{\"role\":\"assistant\",\"content\":\"x\"}]}",
	     FAULT_INVALID_REQUEST, "messages[0].role"},
	    {"{" GOOD ",\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"y\":1}]}",
	     FAULT_UNKNOWN_FIELD, "messages[0].y"},
	    {"{" GOOD "," M ",\"colour\":1}", FAULT_UNKNOWN_FIELD, "colour"},
	    {"{" GOOD "," M ",\"lane\":\"slow\"}", FAULT_UNKNOWN_LANE, "lane"},
	    {"{\"kind\":\"chat\",\"task\":\"nope\"," M "}", FAULT_UNKNOWN_ROUTE, "task"},
	    {"{\"kind\":\"chat\",\"model\":\"nope\"," M "}", FAULT_UNKNOWN_ROUTE, "model"},
	    {"{\"kind\":\"chat\"," M "}", FAULT_INVALID_REQUEST, "task"},
	    {"{" GOOD ",\"model\":\"big\"," M "}", FAULT_INVALID_REQUEST, "model"},
	    {"{" GOOD "," M ",\"session\":\"x\"}", FAULT_INVALID_REQUEST, "session"},
	    {"{" GOOD "," M ",\"system\":1}", FAULT_INVALID_REQUEST, "system"},
	    {"{" GOOD "," M ",\"max_tokens\":0}", FAULT_INVALID_REQUEST, "max_tokens"},
	    {"{" GOOD "," M ",\"max_tokens\":1.5}", FAULT_INVALID_REQUEST, "max_tokens"},
	    {"{" GOOD "," M ",\"temperature\":3}", FAULT_INVALID_REQUEST, "temperature"},
	    {"{" GOOD "," M ",\"stream\":1}", FAULT_INVALID_REQUEST, "stream"},
	    {"{" GOOD "," M ",\"limits\":5}", FAULT_INVALID_REQUEST, "limits"},
	    {"{" GOOD "," M ",\"limits\":{\"queue_ms\":0}}", FAULT_INVALID_REQUEST,
	     "limits.queue_ms"},
	    {"{" GOOD "," M ",\"limits\":{\"x\":0}}", FAULT_UNKNOWN_FIELD, "limits.x"},
	    {"{" GOOD "," M ",\"on_cut\":\"x\"}", FAULT_INVALID_REQUEST, "on_cut"},
	    {"{" GOOD "," M ",\"metadata\":[]}", FAULT_INVALID_REQUEST, "metadata"},
	    {"{" GOOD "," M ",\"webhook\":5}", FAULT_INVALID_REQUEST, "webhook"},
	    {"{" GOOD "," M ",\"webhook\":{}}", FAULT_INVALID_REQUEST, "webhook.url"},
	    {"{" GOOD "," M ",\"webhook\":{\"url\":5}}", FAULT_INVALID_REQUEST, "webhook.url"},
	    {"{" GOOD "," M ",\"webhook\":{\"url\":\"https://x.org\",\"y\":1}}",
	     FAULT_UNKNOWN_FIELD, "webhook.y"},
	    {"{" GOOD "," M ",\"webhook\":{\"url\":\"http://x.org\"}}", FAULT_INVALID_REQUEST,
	     "webhook.url"},
	    {"{" GOOD "," M ",\"webhook\":{\"url\":\"https://u:p@x.org\"}}", FAULT_INVALID_REQUEST,
	     "webhook.url"},
	    {"{" GOOD "," M ",\"webhook\":{\"url\":\"https://127.1/\"}}", FAULT_INVALID_REQUEST,
	     "webhook.url"},
	    {"{" GOOD "," M ",\"webhook\":{\"url\":\"https://[::ffff:10.0.0.1]/\"}}",
	     FAULT_INVALID_REQUEST, "webhook.url"},
	    {"{" GOOD "," M ",\"webhook\":{\"url\":\"https://169.254.169.254/latest\"}}",
	     FAULT_INVALID_REQUEST, "webhook.url"},
	    {"{" GOOD "," M ",\"not_before\":\"x\"}", FAULT_INVALID_REQUEST, "not_before"},
	    {"{" GOOD "," M ",\"not_before\":1}", FAULT_INVALID_REQUEST, "not_before"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct admitted a = admit(bad[i].body);

		ck_assert_msg(a.fault == bad[i].fault, "%s: %d", bad[i].body, (int)a.fault);
		ck_assert_msg(strcmp(a.param, bad[i].param) == 0, "%s: %s", bad[i].body, a.param);
		ck_assert_msg(a.message[0] != '\0', "%s says nothing", bad[i].body);
	}
}

TEST(bad_json_says_where)
{
	struct admitted a = admit("{\"kind\":chat}");

	ck_assert_int_eq(a.fault, FAULT_INVALID_JSON);
	ck_assert_int_ge(a.offset, 8);
}

TEST(a_name_that_is_too_long_is_cut_between_code_points)
{
	struct admitted a = admitted_good();
	char name[400];

	for (size_t i = 0; i + 1 < sizeof(name); i += 2)
		memcpy(name + i, "\xc3\xa9", 2);
	name[sizeof(name) - 2] = '\0';
	admitted_fail(&a, FAULT_UNKNOWN_FIELD, name, "x%s", name);
	ck_assert(str_utf8(str_of(a.param)));
	ck_assert(str_utf8(str_of(a.message)));
}
