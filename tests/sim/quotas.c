#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "tests/sim/sim.h"

static const char *const names[QUOTA_WHATS] = {"requests", "input_tokens", "output_tokens"};
static const char *const kinds[] = {NULL, "bucket", "window", "both"};

bool sim_quota_kind(struct str word, enum quota_kind *ret)
{
	for (size_t i = 1; i < countof(kinds); i++) {
		if (!str_is(word, kinds[i]))
			continue;
		*ret = (enum quota_kind)i;
		return true;
	}
	return false;
}

/* ---- what is said ---- */

static void amounts(struct json_out *o, const uint64_t *values)
{
	for (int i = 0; i < QUOTA_WHATS; i++)
		json_put_int(o, names[i], (int64_t)values[i]);
}

static void amounts_of(struct json_out *o, const char *key, const uint64_t *values)
{
	json_key(o, key);
	json_open(o, '{');
	amounts(o, values);
	json_close(o, '}');
}

/* Sums of so many seconds each, from the first use on; those without use stand between others only. */
static void history(struct sim *sim, const struct quota *q, uint64_t seconds, uint64_t from,
		    struct json_out *o)
{
	uint64_t begun_ms = loop_wall_ms(sim->loop) - (sim_now_us(sim) - q->from_us) / US_PER_MS;
	size_t i = 0;
	json_open(o, '[');
	while (i < q->second_count && q->seconds[i].at < from)
		i++;
	uint64_t at = i < q->second_count ? q->seconds[i].at / seconds : 0;
	for (; i < q->second_count; at++) {
		struct quota_use sum = {.at = at};
		for (; i < q->second_count && q->seconds[i].at / seconds == at; i++) {
			for (int k = 0; k < QUOTA_WHATS; k++)
				sum.use[k] += q->seconds[i].use[k];
			sum.refused += q->seconds[i].refused;
		}
		json_open(o, '{');
		json_put_time(o, "at", begun_ms + at * seconds * 1000);
		amounts(o, sum.use);
		json_put_int(o, "refused", (int64_t)sum.refused);
		json_close(o, '}');
	}
	json_close(o, ']');
}

static void limit_json(struct sim *sim, struct sim_limit *l, uint64_t seconds, struct json_out *o)
{
	struct quota *q = &l->quota;
	uint64_t now = sim_now_us(sim);
	uint64_t left[QUOTA_WHATS];
	for (int i = 0; i < QUOTA_WHATS; i++)
		left[i] = quota_left(q, now, (enum quota_what)i);
	json_open(o, '{');
	json_put_text(o, "key", l->key);
	json_put_text(o, "model", l->model);
	json_put_text(o, "kind", kinds[q->limits.kind]);
	amounts_of(o, "limits", q->limits.minute);
	json_put_int(o, "granted", (int64_t)q->granted);
	json_put_int(o, "refused", (int64_t)q->refused);
	amounts_of(o, "refused_for", q->refused_for);
	amounts_of(o, "used", q->used);
	amounts_of(o, "window", q->window);
	amounts_of(o, "highest", q->highest);
	amounts_of(o, "left", left);
	json_key(o, "minutes");
	history(sim, q, 60, 0, o);
	if (seconds) {
		uint64_t age = (now - q->from_us) / US_PER_S;
		json_key(o, "seconds");
		history(sim, q, 1, age > seconds ? age - seconds : 0, o);
	}
	json_close(o, '}');
}

void sim_quotas_json(struct sim *sim, uint64_t seconds, struct buf *out)
{
	struct json_out o = {.buf = out};
	struct map_entry *e;
	uint64_t granted = 0;
	uint64_t refused = 0;
	json_open(&o, '{');
	json_key(&o, "quotas");
	json_open(&o, '[');
	for (size_t at = 0; (e = map_next(&sim->limits, &at));) {
		struct sim_limit *l = e->value;
		limit_json(sim, l, seconds, &o);
		granted += l->quota.granted;
		refused += l->quota.refused;
	}
	json_close(&o, ']');
	json_put_int(&o, "granted", (int64_t)granted);
	json_put_int(&o, "refused", (int64_t)refused);
	json_close(&o, '}');
}

/* ---- what is changed ---- */

static char *copy_of(struct json_object *o, const char *key)
{
	struct str text = json_str(o, key);
	return text.len ? mem_dup(text.ptr, text.len) : NULL;
}

static bool rule_add(struct sim *sim, struct json_object *o, const char **ret_bad)
{
	static const char *const fields[QUOTA_WHATS] = {"rpm", "itpm", "otpm"};
	struct quota_limits limits = sim->options.limits;
	struct str kind = json_str(o, "kind");
	if (!json_object_is_type(o, json_type_object)) {
		*ret_bad = "a rule is an object";
		return false;
	}
	if (kind.len && !sim_quota_kind(kind, &limits.kind)) {
		*ret_bad = "kind: bucket, window or both";
		return false;
	}
	limits.burst_s = (uint64_t)json_int(o, "burst_s", (int64_t)limits.burst_s);
	for (int i = 0; i < QUOTA_WHATS; i++)
		limits.minute[i] = (uint64_t)json_int(o, fields[i], (int64_t)limits.minute[i]);
	limits.minute[QUOTA_INPUT] =
	    (uint64_t)json_int(o, "tpm", (int64_t)limits.minute[QUOTA_INPUT]);
	if (limits.burst_s == 0 || limits.burst_s > 3600) {
		*ret_bad = "burst_s: from 1 to 3600";
		return false;
	}
	struct sim_limit_rule *rule = mem_new(struct sim_limit_rule);
	rule->key = copy_of(o, "key");
	rule->model = copy_of(o, "model");
	rule->shared = json_bool(o, "shared", false);
	rule->limits = limits;
	list_push_back(&sim->limit_rules, &rule->link);
	return true;
}

bool sim_quotas_set(struct sim *sim, struct str body, const char **ret_bad)
{
	cleanup_json struct json_object *o = NULL;
	struct json_error bad;
	if (json_read(body, &o, &bad) != JSON_OK) {
		o = NULL;
		*ret_bad = "not JSON";
		return false;
	}
	if (!json_object_is_type(o, json_type_array))
		return rule_add(sim, o, ret_bad);
	for (size_t i = 0; i < json_object_array_length(o); i++)
		if (!rule_add(sim, json_object_array_get_idx(o, i), ret_bad))
			return false;
	return true;
}

void sim_quotas_clear(struct sim *sim)
{
	struct map_entry *e;
	struct sim_limit_rule *rule;
	while ((rule = list_pop_front(&sim->limit_rules, struct sim_limit_rule, link))) {
		mem_free(rule->key);
		mem_free(rule->model);
		mem_free(rule);
	}
	/* Running calls name their limits: they are emptied, not taken away. */
	for (size_t at = 0; (e = map_next(&sim->limits, &at));) {
		struct sim_limit *l = e->value;
		struct quota_limits limits = sim->options.limits;
		if (l->dialect == SIM_OPENAI)
			limits.minute[QUOTA_OUTPUT] = l->quota.limits.minute[QUOTA_OUTPUT];
		quota_fini(&l->quota);
		quota_init(&l->quota, &limits, sim_now_us(sim));
	}
}
