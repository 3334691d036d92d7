#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "tests/sim/sim.h"

/* What tests look at: counts since the start, by model. */
static void calls_json(struct sim *sim, struct buf *out)
{
	struct json_out o = {.buf = out};
	uint64_t begun = 0;
	uint64_t completed = 0;
	uint64_t cancelled = 0;
	uint64_t failed = 0;
	uint64_t undone = 0;
	struct map_entry *e;
	json_open(&o, '{');
	json_key(&o, "models");
	json_open(&o, '{');
	for (size_t at = 0; (e = map_next(&sim->models, &at));) {
		const struct sim_model *m = e->value;
		/* The name is a string of the client's: written as a key by hand. */
		if (o.comma)
			buf_add_char(out, ',');
		buf_add_char(out, '"');
		json_escape(out, e->key);
		buf_add_str(out, STR("\":"));
		o.comma = false;
		json_open(&o, '{');
		json_put_int(&o, "begun", (int64_t)m->begun);
		json_put_int(&o, "completed", (int64_t)m->completed);
		json_put_int(&o, "cancelled", (int64_t)m->cancelled);
		json_put_int(&o, "failed", (int64_t)m->failed);
		json_put_int(&o, "undone", (int64_t)m->undone);
		json_put_int(&o, "tokens", (int64_t)m->tokens);
		json_close(&o, '}');
		begun += m->begun;
		completed += m->completed;
		cancelled += m->cancelled;
		failed += m->failed;
		undone += m->undone;
	}
	json_close(&o, '}');
	json_put_int(&o, "begun", (int64_t)begun);
	json_put_int(&o, "completed", (int64_t)completed);
	json_put_int(&o, "cancelled", (int64_t)cancelled);
	json_put_int(&o, "failed", (int64_t)failed);
	json_put_int(&o, "undone", (int64_t)undone);
	json_put_int(&o, "open", (int64_t)sim->open_calls);
	json_put_int(&o, "connections", (int64_t)http_server_connections(sim->server));
	json_close(&o, '}');
}

/* Says what stands now; a change answers with what stands behind it. */
static void say_calls(struct sim *sim, struct http_req *req, struct buf *out)
{
	(void)req;
	calls_json(sim, out);
}

static void say_quotas(struct sim *sim, struct http_req *req, struct buf *out)
{
	uint64_t seconds = 0;
	if (!str_u64(http_query_value(req, "seconds"), &seconds))
		seconds = 0;
	sim_quotas_json(sim, seconds, out);
}

static bool set_quotas(struct sim *sim, struct http_req *req, const char **ret_bad)
{
	return sim_quotas_set(sim, http_body(req), ret_bad);
}

static bool clear_quotas(struct sim *sim, struct http_req *req, const char **ret_bad)
{
	(void)req;
	(void)ret_bad;
	sim_quotas_clear(sim);
	return true;
}

static void say_cache(struct sim *sim, struct http_req *req, struct buf *out)
{
	struct json_out o = {.buf = out};
	const struct sim_cache *c = &sim->cache;
	(void)req;
	json_open(&o, '{');
	json_put_int(&o, "places", (int64_t)c->entries.count);
	json_put_int(&o, "reads", (int64_t)c->reads);
	json_put_int(&o, "read_tokens", (int64_t)c->read_tokens);
	json_put_int(&o, "writes", (int64_t)c->writes);
	json_put_int(&o, "write_tokens", (int64_t)c->write_tokens);
	json_close(&o, '}');
}

static bool clear_cache(struct sim *sim, struct http_req *req, const char **ret_bad)
{
	(void)req;
	(void)ret_bad;
	sim_cache_clear(&sim->cache);
	return true;
}

static void say_clock(struct sim *sim, struct http_req *req, struct buf *out)
{
	(void)req;
	buf_printf(out, "{\"ahead_ms\":%llu}", (unsigned long long)(sim->ahead_us / US_PER_MS));
}

static bool set_clock(struct sim *sim, struct http_req *req, const char **ret_bad)
{
	cleanup_json struct json_object *o = NULL;
	struct json_error bad;
	if (json_read(http_body(req), &o, &bad) != JSON_OK)
		o = NULL;
	int64_t ms = json_int(o, "advance_ms", -1);
	if (ms < 0) {
		*ret_bad = "advance_ms: a number, 0 or more";
		return false;
	}
	sim->ahead_us += (uint64_t)ms * US_PER_MS;
	return true;
}

static void say_faults(struct sim *sim, struct http_req *req, struct buf *out)
{
	(void)req;
	sim_faults_json(sim, out);
}

static bool set_faults(struct sim *sim, struct http_req *req, const char **ret_bad)
{
	return sim_faults_add(sim, http_body(req), ret_bad);
}

static bool clear_faults(struct sim *sim, struct http_req *req, const char **ret_bad)
{
	struct str text = http_query_value(req, "id");
	uint64_t id = 0;
	if (text.ptr && (!str_u64(text, &id) || id == 0)) {
		*ret_bad = "id: a fault's number";
		return false;
	}
	sim_faults_clear(sim, id);
	return true;
}

static const struct route {
	const char *path;
	void (*say)(struct sim *sim, struct http_req *req, struct buf *out);
	bool (*set)(struct sim *sim, struct http_req *req, const char **ret_bad);   /* POST */
	bool (*clear)(struct sim *sim, struct http_req *req, const char **ret_bad); /* DELETE */
} routes[] = {
    {"/calls", say_calls, NULL, NULL},
    {"/faults", say_faults, set_faults, clear_faults},
    {"/quotas", say_quotas, set_quotas, clear_quotas},
    {"/cache", say_cache, NULL, clear_cache},
    {"/clock", say_clock, set_clock, NULL},
};

static void on_route(struct sim *sim, struct http_req *req, const struct route *route)
{
	struct buf out = {0};
	const char *bad = "";
	struct str method = http_method(req);
	bool (*change)(struct sim *, struct http_req *, const char **) =
	    str_is(method, "POST") ? route->set : route->clear;
	bool read = str_is(method, "GET");
	if (!read && ((!str_is(method, "POST") && !str_is(method, "DELETE")) || !change)) {
		http_add_field(req, "allow", route->set ? STR("GET, POST, DELETE") : STR("GET"));
		http_reply(req, 405, "text/plain", STR("method not allowed\n"));
	} else if (!read && !change(sim, req, &bad)) {
		buf_printf(&out, "%s\n", bad);
		http_reply(req, 400, "text/plain", buf_str(&out));
	} else {
		route->say(sim, req, &out);
		http_reply(req, 200, "application/json", buf_str(&out));
	}
	buf_fini(&out);
}

static void on_request(void *ctx, struct http_req *req)
{
	struct sim *sim = ctx;
	struct str path = http_path(req);
	struct buf out = {0};
	for (size_t i = 0; i < countof(routes); i++) {
		if (str_is(path, routes[i].path)) {
			on_route(sim, req, &routes[i]);
			return;
		}
	}
	if (str_is(path, "/healthz") || str_is(path, "/readyz")) {
		http_reply(req, 200, "text/plain", STR("ok\n"));
	} else if (str_is(path, "/metrics")) {
		series_set(metric_only(sim->connections),
			   (double)http_server_connections(sim->server));
		metrics_render(&sim->metrics, &out);
		http_reply(req, 200, "text/plain; version=0.0.4", buf_str(&out));
	} else {
		http_reply(req, 404, "text/plain", STR("see tests/sim/README.md\n"));
	}
	buf_fini(&out);
}

static void on_gone(void *ctx, struct http_req *req)
{
	(void)ctx;
	(void)req;
}

const struct http_server_ops sim_control_ops = {.request = on_request, .gone = on_gone};
