#include "lib/lane/lane.h"
#include "lib/svc/config.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/test.h"

SUITE("svc/config");

struct front_values {
	const char *listen;
	int64_t limit;
	uint64_t body_bytes;
	uint64_t wait_ms;
	bool strict;
	double share;
	const char *fixed;
};

#define OPTION_OF struct front_values
/* clang-format off */
static const struct option front_options[] = {
	OPTION_LINE(listen, "listen", STRING, "127.0.0.1:8080", 1, 64, "address")
	OPTION_LINE(limit, "limit", INT, 10, 1, 100, "how many")
	OPTION_LINE(body_bytes, "body_bytes", BYTES, 1 << 20, 1024, 1 << 30, "size")
	OPTION_LINE(wait_ms, "wait_ms", MS, 1500, 0, 60000, "time")
	OPTION_LINE(strict, "strict", BOOL, true, 0, 0, "yes or no")
	OPTION_LINE(share, "share", DOUBLE, 0.5, 0, 1, "a part")
	OPTION_LINE(fixed, "fixed", STRING, "one", 1, 16, "a word", RESTART)
};
/* clang-format on */

static const char *env(const char *name)
{
	if (strcmp(name, "TEST_KEY") == 0)
		return "sk-secret";
	if (strcmp(name, "TEST_HOST") == 0)
		return "example.test";
	return NULL;
}

static struct buf errors;
static struct config *config;

static enum config_result parse_with(const char *text, const char *const *sets, size_t set_count,
				     bool secrets)
{
	struct config_request request = {.section = "front",
					 .options = front_options,
					 .option_count =
					     sizeof(front_options) / sizeof(front_options[0]),
					 .own_size = sizeof(struct front_values),
					 .sets = sets,
					 .set_count = set_count,
					 .secrets = secrets,
					 .env = env};

	return config_parse(&request, "s.yaml", str_of(text), &config, &errors);
}

static const struct front_values *parse_good(const char *text)
{
	enum config_result result = parse_with(text, NULL, 0, true);

	ck_assert_msg(result == CONFIG_OK, "%s", errors.len ? buf_text(&errors) : "");
	return config->own;
}

/* The text is refused with exactly these lines. */
static void refuses(const char *text, const char *lines)
{
	ck_assert_int_eq(parse_with(text, NULL, 0, true), CONFIG_INVALID);
	ck_assert_str_eq(buf_text(&errors), lines);
	buf_fini(&errors);
}

#define ACCOUNTS                                                                              \
	"accounts:\n"                                                                         \
	"- {name: main, kind: anthropic, base_url: \"https://${TEST_HOST}:8443/\", key_env: " \
	"TEST_KEY}\n"

TEST(an_empty_text_gives_every_default)
{
	const struct front_values *v = parse_good("");

	ck_assert_str_eq(v->listen, "127.0.0.1:8080");
	ck_assert_int_eq(v->limit, 10);
	ck_assert_uint_eq(v->body_bytes, 1 << 20);
	ck_assert(v->strict);
	ck_assert_str_eq(config->redis.url, "redis://127.0.0.1:6379");
	ck_assert_int_eq(config->common.workers, 1);
	config_free(config);
}

TEST(values_of_the_own_section_are_read_with_their_units)
{
	const struct front_values *v =
	    parse_good("front:\n"
		       "  listen: '[::1]:9'\n  limit: 7\n  body_bytes: 25MiB\n"
		       "  wait_ms: 10s\n  strict: false\n  share: 0.25\n  drain_ms: 2m\n");

	ck_assert_str_eq(v->listen, "[::1]:9");
	ck_assert_int_eq(v->limit, 7);
	ck_assert_uint_eq(v->body_bytes, 25u << 20);
	ck_assert_uint_eq(v->wait_ms, 10000);
	ck_assert(!v->strict);
	ck_assert_double_eq(v->share, 0.25);
	ck_assert_uint_eq(config->common.drain_ms, 120000);
	config_free(config);
}

TEST(an_account_gets_the_environments_values_and_its_key)
{
	const struct config_account *a;

	parse_good(ACCOUNTS);
	a = config_account_find(config, STR("main"));
	ck_assert_ptr_nonnull(a);
	ck_assert_str_eq(a->base_url, "https://example.test:8443");
	ck_assert_str_eq(a->key, "sk-secret");
	ck_assert_uint_eq(a->silence_ms, 15000);
	config_free(config);
}

TEST(the_key_is_not_read_for_who_does_not_need_it)
{
	ck_assert_int_eq(
	    parse_with(
		"accounts:\n- {name: a, kind: openai, base_url: \"http://h\", key_env: NONE}\n",
		NULL, 0, false),
	    CONFIG_OK);
	ck_assert_str_eq(config->accounts[0].key, "");
	config_free(config);
}

TEST(a_route_leads_to_its_account)
{
	const struct config_route *route;

	parse_good("routes:\n- {name: chat, kind: task, system: Be brief., targets: [{account: "
		   "main, model: m}]}\n"
		   "- {name: chat, kind: model, targets: [{account: main, model: n}]}\n" ACCOUNTS);
	route = config_route_of(config, CONFIG_ROUTE_MODEL, STR("chat"), STR("org_1"));
	ck_assert_ptr_nonnull(route);
	ck_assert_str_eq(route->targets[0].model, "n");
	ck_assert_ptr_eq(route->targets[0].account, &config->accounts[0]);
	config_free(config);
}

TEST(prices_are_exact_and_the_newest_valid_one_counts)
{
	const struct config_price *p;

	parse_good(
	    "prices:\n"
	    "- {provider: anthropic, model: claude-x, valid_from: 2026-01-01, input: 0.125, "
	    "output: 15}\n"
	    "- {provider: anthropic, model: claude-x, valid_from: 2026-06-01, input: 2, output: 10,"
	    " cache_read: 0.20, cache_write_5m: 2.50}\n");
	p = config_price_find(config, STR("anthropic"), STR("claude-x"), UINT64_C(1772323200000));
	ck_assert_ptr_nonnull(p);
	ck_assert_int_eq(p->input, 125000);
	ck_assert_int_eq(p->output, 15000000);
	p = config_price_find(config, STR("anthropic"), STR("claude-x-20260101"),
			      UINT64_C(1790000000000));
	ck_assert_ptr_nonnull(p);
	ck_assert_int_eq(p->cache_read, 200000);
	ck_assert_int_eq(p->cache_write_1h, 2000000);
	ck_assert_ptr_null(config_price_find(config, STR("anthropic"), STR("claude-x"), 1));
	config_free(config);
}

TEST(settings_of_kafka_are_passed_through)
{
	parse_good(
	    "kafka:\n  brokers: a:1,b:2\n  settings:\n  - {name: security.protocol, value: ssl}\n");
	ck_assert_str_eq(config->kafka.brokers, "a:1,b:2");
	ck_assert_uint_eq(config->kafka.setting_count, 1);
	ck_assert_str_eq(config->kafka.settings[0].name, "security.protocol");
	config_free(config);
}

TEST(a_set_is_stronger_than_the_file)
{
	const char *sets[] = {"front.limit=99", "redis.url=redis://h:1/2",
			      "front.admin=127.0.0.1:5"};

	ck_assert_int_eq(parse_with("front: {limit: 3}\n", sets, 3, false), CONFIG_OK);
	ck_assert_int_eq(((const struct front_values *)config->own)->limit, 99);
	ck_assert_str_eq(config->redis.url, "redis://h:1/2");
	ck_assert_str_eq(config->common.admin, "127.0.0.1:5");
	config_free(config);
}

TEST(a_set_that_leads_nowhere_is_refused)
{
	const char *sets[] = {"front.nothing=1"};

	ck_assert_int_eq(parse_with("", sets, 1, false), CONFIG_INVALID);
	ck_assert_str_eq(buf_text(&errors),
			 "s.yaml: --set front.nothing=1: there is no such key\n");
	buf_fini(&errors);
}

TEST(an_unknown_key_is_refused_with_its_line)
{
	refuses("front:\n  limit: 3\n  limits: 3\n", "s.yaml:3: unknown key 'limits' in front\n");
}

TEST(an_unknown_section_is_refused_with_its_line)
{
	refuses("pool: {anything: 1}\n\nfrnt: {}\n", "s.yaml:3: unknown section 'frnt'\n");
}

TEST(a_key_that_stands_twice_is_refused)
{
	refuses("front:\n  limit: 3\n  limit: 4\n",
		"s.yaml:3: this key stands here twice: 'limit'\n");
}

TEST(a_wrong_type_says_what_is_allowed)
{
	refuses("front:\n  limit: many\n  share: 2\n  strict: 1\n  wait_ms: [1]\n",
		"s.yaml:2: front.limit: 'many' is not a whole number from 1 to 100\n"
		"s.yaml:3: front.share: '2' is not a number from 0 to 1\n"
		"s.yaml:4: front.strict: '1' is not true or false\n"
		"s.yaml:5: front.wait_ms: one value is expected here\n");
}

TEST(a_missing_variable_is_refused_with_its_line)
{
	refuses("postgres:\n  conninfo: \"password=${NOT_THERE}\"\n",
		"s.yaml:2: the environment has no variable 'NOT_THERE'\n");
}

TEST(a_missing_key_of_an_account_is_refused)
{
	refuses("accounts:\n- name: a\n  kind: openai\n  base_url: \"http://h\"\n  key_env: "
		"NOT_THERE\n",
		"s.yaml:5: account 'a': the environment has no key in 'NOT_THERE'\n");
}

TEST(a_missing_name_is_refused)
{
	refuses("accounts:\n- {kind: openai, base_url: \"http://h\", key_env: TEST_KEY}\n",
		"s.yaml:2: accounts: the key 'name' is missing\n");
}

TEST(a_bad_url_is_refused)
{
	refuses(
	    "accounts:\n- name: a\n  kind: openai\n  base_url: \"htp://h\"\n  key_env: TEST_KEY\n",
	    "s.yaml:4: account 'a': 'htp://h' is not a URL of the form "
	    "https://host[:port][/path]\n");
	refuses("redis: {url: \"redis://h:99999\"}\n",
		"s.yaml:1: redis.url: a URL of the form redis://[user:password@]host[:port][/db] "
		"is expected\n");
}

TEST(an_unknown_http_is_refused_with_its_line)
{
	refuses("accounts:\n- name: a\n  kind: openai\n  base_url: \"http://h\"\n  http: 3\n"
		"  key_env: TEST_KEY\n",
		"s.yaml:5: account 'a': http '3' is none of auto, 2, 1.1\n");
}

TEST(a_route_to_an_unknown_account_is_refused_with_its_line)
{
	refuses(ACCOUNTS
		"routes:\n- name: r\n  kind: task\n  targets:\n  - {account: main, model: m}\n"
		"  - {account: other, model: m}\n",
		"s.yaml:8: route 'r' names the unknown account 'other'\n");
}

TEST(names_that_stand_twice_are_refused)
{
	refuses(ACCOUNTS
		"- {name: main, kind: openai, base_url: \"http://h\", key_env: TEST_KEY}\n",
		"s.yaml:3: account 'main' stands in line 2 already\n");
}

TEST(a_route_without_targets_is_refused)
{
	refuses("routes:\n- {name: r, kind: task}\n", "s.yaml:2: route 'r' has no targets\n");
}

TEST(a_route_with_more_targets_than_are_ever_asked_is_refused)
{
	struct buf text = {0};

	buf_add_text(&text,
		     "routes:\n- {name: r, kind: task, targets: [{account: main, model: m0}");
	for (int i = 1; i < CONFIG_TARGETS_MAX; i++)
		buf_printf(&text, ", {account: main, model: m%d}", i);
	buf_add_text(&text, "]}\n" ACCOUNTS);
	parse_good(buf_text(&text));
	config_free(config);
	buf_reset(&text);
	buf_add_text(&text,
		     "routes:\n- {name: r, kind: task, targets: [{account: main, model: m0}");
	for (int i = 1; i <= CONFIG_TARGETS_MAX; i++)
		buf_printf(&text, ", {account: main, model: m%d}", i);
	buf_add_text(&text, "]}\n" ACCOUNTS);
	refuses(buf_text(&text), "s.yaml:2: route 'r' has 17 targets: 16 at most\n");
	buf_fini(&text);
}

TEST(a_bad_amount_is_refused)
{
	refuses("prices:\n- {provider: p, model: m, input: 1e3, output: 1}\n",
		"s.yaml:2: prices.input: '1e3' is not an amount in USD per million tokens\n");
}

TEST(what_is_not_yaml_is_refused_with_its_line)
{
	ck_assert_int_eq(parse_with("front:\n  limit: [1\nlog: {}\n", NULL, 0, false),
			 CONFIG_INVALID);
	ck_assert(strncmp(buf_text(&errors), "s.yaml:", 7) == 0);
	buf_fini(&errors);
}

TEST(aliases_and_anchors_are_refused)
{
	refuses("front: &a {limit: 1}\n", "s.yaml:1: anchors and tags are not allowed\n");
}

TEST(a_list_at_the_top_is_refused)
{
	refuses("- a\n", "s.yaml:1: sections with keys are expected here\n");
}

#define ORG_A "org_01J9ZQ3M5T7W8X2Y4A6C8E0G1H"
#define ORG_B "org_01J9ZQ3M5T7W8X2Y4A6C8E0G1J"

TEST(an_organisation_has_the_weight_of_its_line_and_others_have_one)
{
	ck_assert_int_eq(parse_with("fairness:\n  orgs:\n  - {name: " ORG_B ", weight: 4}\n"
				    "  - {name: " ORG_A ", weight: 1000}\n",
				    NULL, 0, false),
			 CONFIG_OK);
	ck_assert_uint_eq(config_org_weight(config, STR(ORG_A)), 1000);
	ck_assert_uint_eq(config_org_weight(config, STR(ORG_B)), 4);
	ck_assert_uint_eq(config_org_weight(config, STR("org_01J9ZQ3M5T7W8X2Y4A6C8E0G1K")), 1);
	ck_assert_uint_eq(config_org_weight(config, STR("")), 1);
	config_free(config);
}

TEST(weights_that_mean_nothing_are_refused)
{
	refuses("fairness:\n  orgs:\n  - {name: " ORG_A "}\n  - {name: " ORG_A ", weight: 2}\n",
		"s.yaml:4: fairness.orgs: '" ORG_A "' stands in line 3 already\n");
	refuses("fairness:\n  orgs:\n  - {name: acme}\n",
		"s.yaml:3: fairness.orgs: 'acme' is not the id of an organisation\n");
	refuses("fairness:\n  orgs:\n  - {name: " ORG_A ", weight: 0}\n",
		"s.yaml:3: fairness.orgs.weight: '0' is not a whole number from 1 to 1000\n");
	refuses("fairness: {shares: 1}\n", "s.yaml:1: unknown key 'shares' in fairness\n");
}

#define QUOTA_ACCOUNTS                                                                      \
	"accounts:\n- {name: a, kind: openai, base_url: \"http://a\", key_env: TEST_KEY}\n" \
	"- {name: b, kind: openai, base_url: \"http://b\", key_env: TEST_KEY}\n"

TEST(a_quota_is_for_its_accounts_and_a_class_of_models)
{
	ck_assert_int_eq(
	    parse_with(QUOTA_ACCOUNTS
		       "quotas:\n- {name: opus, accounts: \"a, b\", models: \"claude-opus-*\", "
		       "requests: 50, output_tokens: 8000}\n"
		       "- {name: rest, accounts: a, tokens: 30000, burst_ms: 2s}\n",
		       NULL, 0, false),
	    CONFIG_OK);
	ck_assert_str_eq(config_quota_find(config, STR("b"), STR("claude-opus-4-5"))->name, "opus");
	ck_assert_str_eq(config_quota_find(config, STR("a"), STR("gpt-5"))->name, "rest");
	ck_assert_ptr_null(config_quota_find(config, STR("b"), STR("gpt-5")));
	ck_assert_ptr_null(config_quota_find(config, STR("b"), STR("claude-opus")));
	ck_assert_int_eq(config->quotas[0].output_tokens, 8000);
	ck_assert_uint_eq(config->quotas[1].burst_ms, 2000);
	config_free(config);
}

TEST(quotas_that_mean_nothing_are_refused)
{
	refuses(QUOTA_ACCOUNTS "quotas:\n- {name: q, accounts: \"a,c\", requests: 1}\n",
		"s.yaml:5: quota 'q' names the unknown account 'c'\n");
	refuses(QUOTA_ACCOUNTS "quotas:\n- {name: q, accounts: a}\n",
		"s.yaml:5: quota 'q' limits nothing\n");
	refuses(QUOTA_ACCOUNTS "quotas:\n- {name: \"q}\", accounts: a, requests: 1}\n",
		"s.yaml:5: quota 'q}': only letters, digits, '-', '_' and '.'\n");
	refuses(QUOTA_ACCOUNTS "quotas:\n- {name: q, accounts: a, requests: 1}\n"
			       "- {name: q, accounts: b, requests: 1}\n",
		"s.yaml:6: quota 'q' stands in line 5 already\n");
}

static struct buf kept;

static void on_kept(void *ctx, const char *section, const char *key)
{
	(void)ctx;
	buf_printf(&kept, "%s.%s ", section, key);
}

TEST(what_needs_a_restart_keeps_its_value_and_is_named_and_the_rest_is_new)
{
	static const struct config_request request = {.section = "front",
						      .options = front_options,
						      .option_count = sizeof(front_options) /
								      sizeof(front_options[0]),
						      .own_size = sizeof(struct front_values)};
	const struct front_values *values = parse_good(
	    "kafka: {brokers: \"a:1\", settings: [{name: x, value: y}]}\nfront: {fixed: two}");
	struct config *old = config;

	ck_assert_str_eq(values->fixed, "two");
	values = parse_good("kafka: {brokers: \"a:1\", settings: [{name: x, value: z}]}\n"
			    "postgres: {query_ms: 20}\n"
			    "front: {fixed: three, limit: 11, drain_ms: 7, seed: 4}");
	config_keep(&request, config, old, on_kept, NULL);
	ck_assert_str_eq(buf_text(&kept),
			 "postgres.query_ms front.seed front.fixed kafka.settings ");
	ck_assert_str_eq(values->fixed, "two");
	ck_assert_int_eq(values->limit, 11);
	ck_assert_uint_eq(config->common.drain_ms, 7);
	ck_assert_int_eq(config->common.seed, 0);
	ck_assert_uint_eq(config->postgres.query_ms, 10000);
	ck_assert_str_eq(config->kafka.settings[0].value, "y");
	buf_reset(&kept);
	config_keep(&request, config, old, on_kept, NULL);
	ck_assert_uint_eq(kept.len, 0);
	buf_fini(&kept);
	config_free(config);
	config_free(old);
}
