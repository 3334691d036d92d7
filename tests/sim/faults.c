#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "tests/sim/sim.h"

static const char *dialect_name(enum sim_dialect dialect)
{
	return dialect == SIM_ANTHROPIC ? "anthropic" : "openai";
}

bool sim_rule_holds(const struct sim_rule *r, uint64_t now_us, uint64_t *ret_edge_us)
{
	uint64_t age = now_us - r->made_us;
	uint64_t period = r->every_us ? age / r->every_us * r->every_us : 0;
	uint64_t at = age - period;
	uint64_t base = r->made_us + period;
	*ret_edge_us = UINT64_MAX;
	if (at < r->from_us) {
		*ret_edge_us = base + r->from_us;
		return false;
	}
	if (r->to_us == 0)
		return true;
	if (at < r->to_us) {
		*ret_edge_us = base + r->to_us;
		return true;
	}
	if (r->every_us)
		*ret_edge_us = base + r->every_us + r->from_us;
	return false;
}

/* ---- who is met ---- */

static bool rule_meets(struct sim *sim, struct sim_rule *r, struct str key, struct str model,
		       enum sim_dialect dialect)
{
	uint64_t edge;
	if (r->door != SIM_FAULTS || !sim_rule_holds(r, loop_now_us(sim->loop), &edge))
		return false;
	if (!sim_fits(r->key, key) || !sim_fits(r->model, model) ||
	    !sim_fits(r->dialect, str_of(dialect_name(dialect))))
		return false;
	uint64_t nth = r->seen++;
	if (nth < r->skip || (r->count && r->hit >= r->count))
		return false;
	return r->share >= 1 || rand_unit(&r->chance) < r->share;
}

void sim_faults_apply(struct sim *sim, struct str key, struct str model, enum sim_dialect dialect,
		      struct sim_directive *how)
{
	struct str bad;
	list_each (&sim->rules, at) {
		struct sim_rule *r = container_of(at, struct sim_rule, link);
		if (!rule_meets(sim, r, key, model, dialect))
			continue;
		r->hit++;
		/* Its words are good; a break too many is left out. */
		if (sim_directive_words(str_of(r->how), how, &bad) != SIM_DIRECTIVE_OK)
			log_warn(&sim->log, "too many faults at once", F_UINT("rule", r->id));
	}
}

/* ---- what is said ---- */

static void rule_json(struct sim *sim, const struct sim_rule *r, struct json_out *o)
{
	uint64_t edge;
	json_open(o, '{');
	json_put_int(o, "id", (int64_t)r->id);
	json_put_text(o, "how", r->how);
	json_put_text(o, "key", r->key);
	json_put_text(o, "model", r->model);
	json_put_text(o, "dialect", r->dialect);
	json_put_int(o, "skip", (int64_t)r->skip);
	json_put_int(o, "count", (int64_t)r->count);
	json_put_double(o, "share", r->share);
	json_put_int(o, "seed", (int64_t)r->seed);
	json_put_int(o, "from_ms", (int64_t)(r->from_us / US_PER_MS));
	json_put_int(o, "to_ms", (int64_t)(r->to_us / US_PER_MS));
	json_put_int(o, "every_ms", (int64_t)(r->every_us / US_PER_MS));
	json_put_bool(o, "holds", sim_rule_holds(r, loop_now_us(sim->loop), &edge));
	json_put_int(o, "seen", (int64_t)r->seen);
	json_put_int(o, "hit", (int64_t)r->hit);
	json_close(o, '}');
}

void sim_faults_json(struct sim *sim, struct buf *out)
{
	static const char *const doors[] = {"open", "refuse", "mute"};
	struct json_out o = {.buf = out};
	json_open(&o, '{');
	json_key(&o, "faults");
	json_open(&o, '[');
	list_each (&sim->rules, at) {
		rule_json(sim, container_of(at, struct sim_rule, link), &o);
	}
	json_close(&o, ']');
	json_put_text(&o, "door", doors[sim->door.state]);
	json_close(&o, '}');
}

/* ---- what is changed ---- */

static void rule_free(struct sim_rule *r)
{
	list_remove(&r->link);
	mem_free(r->how);
	mem_free(r->key);
	mem_free(r->model);
	mem_free(r->dialect);
	mem_free(r);
}

static char *copy_of(struct json_object *o, const char *key)
{
	struct str text = json_str(o, key);
	return text.len ? mem_dup(text.ptr, text.len) : NULL;
}

static bool fields_known(struct json_object *o)
{
	static const char known[] =
	    " how key model dialect skip count share seed from_ms to_ms every_ms keep ";
	json_object_object_foreach(o, key, value)
	{
		const char *at = strstr(known, key);
		(void)value;
		if (!at || at[-1] != ' ' || at[strlen(key)] != ' ')
			return false;
	}
	return true;
}

/* NULL where it is good. */
static const char *rule_check(struct sim_rule *r)
{
	struct sim_directive scratch = {.rate = 1, .tokens = 1, .status = 200};
	struct str bad;
	if (!r->how)
		return "how: what goes wrong, as in a prompt: \"status=429 retry=2000\"";
	r->door = sim_fault_of(str_of(r->how));
	if (r->door != SIM_FAULTS && sim_fault_place(r->door) != SIM_PLACE_DOOR)
		r->door = SIM_FAULTS;
	if (r->door == SIM_FAULTS &&
	    sim_directive_words(str_of(r->how), &scratch, &bad) != SIM_DIRECTIVE_OK)
		return "how: a word is not understood";
	if (r->door != SIM_FAULTS && (r->key || r->model || r->dialect || r->skip || r->count))
		return "a door's fault is everybody's: it takes times only";
	if (r->to_us && r->to_us <= r->from_us)
		return "to_ms is not behind from_ms";
	if (r->every_us && (!r->to_us || r->every_us < r->to_us))
		return "every_ms needs to_ms, and is not below it";
	return NULL;
}

static bool rule_add(struct sim *sim, struct json_object *o, const char **ret_bad)
{
	if (!json_object_is_type(o, json_type_object) || !fields_known(o)) {
		*ret_bad = "a fault is an object with: how key model dialect skip count share seed "
			   "from_ms to_ms every_ms keep";
		return false;
	}
	struct sim_rule *r = mem_new(struct sim_rule);
	r->how = copy_of(o, "how");
	r->key = copy_of(o, "key");
	r->model = copy_of(o, "model");
	r->dialect = copy_of(o, "dialect");
	r->keep = json_bool(o, "keep", false);
	r->skip = (uint64_t)json_int(o, "skip", 0);
	r->count = (uint64_t)json_int(o, "count", 0);
	r->share = json_double(o, "share", 1);
	r->seed = (uint64_t)json_int(o, "seed", 1);
	rand_init(&r->chance, r->seed);
	r->made_us = loop_now_us(sim->loop);
	r->from_us = (uint64_t)json_int(o, "from_ms", 0) * US_PER_MS;
	r->to_us = (uint64_t)json_int(o, "to_ms", 0) * US_PER_MS;
	r->every_us = (uint64_t)json_int(o, "every_ms", 0) * US_PER_MS;
	const char *bad = rule_check(r);
	if (bad) {
		*ret_bad = bad;
		rule_free(r);
		return false;
	}
	r->id = ++sim->last_rule;
	list_push_back(&sim->rules, &r->link);
	return true;
}

bool sim_faults_add(struct sim *sim, struct str body, const char **ret_bad)
{
	cleanup_json struct json_object *o = NULL;
	struct json_error bad;
	bool good = true;
	if (json_read(body, &o, &bad) != JSON_OK) {
		o = NULL;
		*ret_bad = "not JSON";
		return false;
	}
	if (!json_object_is_type(o, json_type_array))
		good = rule_add(sim, o, ret_bad);
	for (size_t i = 0;
	     good && json_object_is_type(o, json_type_array) && i < json_object_array_length(o);
	     i++)
		good = rule_add(sim, json_object_array_get_idx(o, i), ret_bad);
	sim_door_settle(sim);
	return good;
}

void sim_faults_clear(struct sim *sim, uint64_t id)
{
	list_each (&sim->rules, at) {
		struct sim_rule *r = container_of(at, struct sim_rule, link);
		if (id == 0 || r->id == id)
			rule_free(r);
	}
	sim_door_settle(sim);
}
