#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "tests/sim/sim.h"

/* As good as none, where the provider has no such limit. */
#define NO_LIMIT UINT64_C(1000000000000)

bool sim_fits(const char *pattern, struct str text)
{
	size_t len = pattern ? strlen(pattern) : 0;
	if (!pattern)
		return true;
	if (len == 0 || pattern[len - 1] != '*')
		return str_is(text, pattern);
	return text.len >= len - 1 && memcmp(text.ptr, pattern, len - 1) == 0;
}

uint64_t sim_now_us(const struct sim *sim)
{
	return loop_now_us(sim->loop) + sim->ahead_us;
}

static const struct sim_limit_rule *rule_of(struct sim *sim, struct str key, struct str model)
{
	const struct sim_limit_rule *found = NULL;
	list_each (&sim->limit_rules, at) {
		const struct sim_limit_rule *r = container_of(at, struct sim_limit_rule, link);
		if (sim_fits(r->key, key) && sim_fits(r->model, model))
			found = r;
	}
	return found;
}

static bool limits_same(const struct quota_limits *a, const struct quota_limits *b)
{
	bool same = a->kind == b->kind && a->burst_s == b->burst_s;
	for (int i = 0; i < QUOTA_WHATS; i++)
		same = same && a->minute[i] == b->minute[i];
	return same;
}

struct sim_limit *sim_limit_of(struct sim *sim, struct str key, struct str model,
			       enum sim_dialect dialect)
{
	const struct sim_limit_rule *rule = rule_of(sim, key, model);
	struct quota_limits limits = rule ? rule->limits : sim->options.limits;
	struct buf name = {0};
	if (rule && rule->shared) {
		key = str_of(rule->key ? rule->key : "*");
		model = str_of(rule->model ? rule->model : "*");
	}
	if (dialect == SIM_OPENAI)
		limits.minute[QUOTA_OUTPUT] = NO_LIMIT;
	buf_add_str(&name, key);
	buf_add_char(&name, '\0');
	buf_add_str(&name, model);
	struct sim_limit *limit = map_find(&sim->limits, buf_str(&name));
	if (!limit) {
		limit = mem_new(struct sim_limit);
		limit->key = mem_dup(key.ptr, key.len);
		limit->model = mem_dup(model.ptr, model.len);
		limit->dialect = dialect;
		quota_init(&limit->quota, &limits, sim_now_us(sim));
		map_set(&sim->limits, buf_str(&name), limit);
	} else if (!limits_same(&limit->quota.limits, &limits)) {
		quota_limit(&limit->quota, &limits, sim_now_us(sim));
	}
	buf_fini(&name);
	return limit;
}

/* "2s", "350ms" */
static void wait_text(uint64_t us, char *out, size_t size)
{
	if (us < US_PER_S)
		snprintf(out, size, "%llums", (unsigned long long)(us + 999) / 1000);
	else
		snprintf(out, size, "%.3fs", (double)us / US_PER_S);
}

/* OpenAI says the figures; a request that can never pass is told so by a text without "Used". */
static void openai_words(struct sim *sim, struct sim_limit *l, enum quota_what what, uint64_t need,
			 uint64_t wait_us, struct sim_error *error)
{
	unsigned long long limit = l->quota.limits.minute[what];
	unsigned long long left = quota_left(&l->quota, sim_now_us(sim), what);
	const char *unit = what == QUOTA_REQUESTS ? "RPM" : "TPM";
	char wait[32];
	error->type = what == QUOTA_REQUESTS ? "requests" : "tokens";
	if (wait_us == UINT64_MAX) {
		snprintf(error->message, sizeof(error->message),
			 "Request too large for %.64s on tokens per min (%s): Limit %llu, "
			 "Requested %llu. The input or output tokens must be reduced.",
			 l->model, unit, limit, (unsigned long long)need);
		return;
	}
	wait_text(wait_us, wait, sizeof(wait));
	snprintf(error->message, sizeof(error->message),
		 "Rate limit reached for %.64s on %s per min (%s): Limit %llu, Used %llu, "
		 "Requested %llu. Please try again in %s.",
		 l->model, error->type, unit, limit, limit > left ? limit - left : 0,
		 (unsigned long long)need, wait);
}

bool sim_limit_take(struct sim *sim, struct sim_limit *l, uint64_t input, uint64_t output,
		    struct sim_error *error, uint64_t *ret_wait_us)
{
	static const char *const words[] = {"requests", "input tokens", "output tokens"};
	bool openai = l->dialect == SIM_OPENAI;
	enum quota_what what = QUOTA_REQUESTS;
	uint64_t tokens = openai ? input + output : input;
	/* Anthropic takes output while it is made; to begin, some must be left. */
	const uint64_t need[QUOTA_WHATS] = {1, tokens, openai ? 0 : 1};
	const uint64_t charge[QUOTA_WHATS] = {1, tokens, 0};
	if (quota_take(&l->quota, sim_now_us(sim), need, charge, &what, ret_wait_us))
		return true;
	sim_wire_status(l->dialect, 429, error);
	if (openai)
		openai_words(sim, l, what, need[what], *ret_wait_us, error);
	else
		snprintf(error->message, sizeof(error->message),
			 "This request would exceed your organization's rate limit of %llu %s per "
			 "minute.",
			 (unsigned long long)l->quota.limits.minute[what], words[what]);
	return false;
}

void sim_limit_made(struct sim *sim, struct sim_limit *l, uint64_t output)
{
	quota_charge(&l->quota, sim_now_us(sim), QUOTA_OUTPUT, output);
}

/* ---- fields ---- */

static void put(struct http_req *req, const char *name, const char *part, const char *value)
{
	char key[80];
	snprintf(key, sizeof(key), name, part);
	http_add_field(req, arena_strdup(http_arena(req), key), str_of(value));
}

static void anthropic_bucket(struct sim *sim, struct http_req *req, const char *what, uint64_t left,
			     uint64_t cap, uint64_t full_us)
{
	uint64_t round = str_is(str_of(what), "requests") ? 1 : 1000;
	char text[32];
	char time[CLOCK_TEXT_SIZE];
	snprintf(text, sizeof(text), "%llu", (unsigned long long)cap);
	put(req, "anthropic-ratelimit-%s-limit", what, text);
	left = (left + round / 2) / round * round;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)left);
	put(req, "anthropic-ratelimit-%s-remaining", what, text);
	clock_text(loop_wall_ms(sim->loop) + (full_us + 999999) / US_PER_MS, time);
	snprintf(text, sizeof(text), "%.19sZ", time);
	put(req, "anthropic-ratelimit-%s-reset", what, text);
}

/* A Go duration: "12ms", "1.5s", "2m3s". */
static void go_duration(uint64_t us, char *out, size_t size)
{
	uint64_t ms = us / US_PER_MS;
	if (ms < 1000)
		snprintf(out, size, "%llums", (unsigned long long)ms);
	else if (ms < 60000)
		snprintf(out, size, "%llu.%03llus", (unsigned long long)(ms / 1000),
			 (unsigned long long)(ms % 1000));
	else
		snprintf(out, size, "%llum%llus", (unsigned long long)(ms / 60000),
			 (unsigned long long)(ms / 1000 % 60));
}

static void openai_bucket(struct sim *sim, struct sim_limit *l, struct http_req *req,
			  enum quota_what what)
{
	const char *name = what == QUOTA_REQUESTS ? "requests" : "tokens";
	uint64_t now = sim_now_us(sim);
	char text[32];
	snprintf(text, sizeof(text), "%llu", (unsigned long long)l->quota.limits.minute[what]);
	put(req, "x-ratelimit-limit-%s", name, text);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)quota_left(&l->quota, now, what));
	put(req, "x-ratelimit-remaining-%s", name, text);
	go_duration(quota_full_us(&l->quota, now, what), text, sizeof(text));
	put(req, "x-ratelimit-reset-%s", name, text);
}

void sim_limit_fields(struct sim *sim, struct sim_limit *l, struct http_req *req)
{
	static const char *const names[] = {"requests", "input-tokens", "output-tokens"};
	uint64_t now = sim_now_us(sim);
	uint64_t left[QUOTA_WHATS];
	uint64_t full[QUOTA_WHATS];
	const uint64_t *cap = l->quota.limits.minute;
	if (l->dialect == SIM_OPENAI) {
		openai_bucket(sim, l, req, QUOTA_REQUESTS);
		openai_bucket(sim, l, req, QUOTA_INPUT);
		return;
	}
	for (int i = 0; i < QUOTA_WHATS; i++) {
		left[i] = quota_left(&l->quota, now, (enum quota_what)i);
		full[i] = quota_full_us(&l->quota, now, (enum quota_what)i);
		anthropic_bucket(sim, req, names[i], left[i], cap[i], full[i]);
	}
	anthropic_bucket(sim, req, "tokens", left[QUOTA_INPUT] + left[QUOTA_OUTPUT],
			 cap[QUOTA_INPUT] + cap[QUOTA_OUTPUT],
			 full[QUOTA_INPUT] > full[QUOTA_OUTPUT] ? full[QUOTA_INPUT]
								: full[QUOTA_OUTPUT]);
}

void sim_retry_fields(struct http_req *req, enum sim_dialect dialect, uint64_t wait_us)
{
	char text[32];
	snprintf(text, sizeof(text), "%llu", (unsigned long long)(wait_us + 999999) / US_PER_S);
	http_add_field(req, "retry-after", str_of(text));
	snprintf(text, sizeof(text), "%llu", (unsigned long long)(wait_us + 999) / US_PER_MS);
	if (dialect == SIM_OPENAI)
		http_add_field(req, "retry-after-ms", str_of(text));
}
