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
		json_put_int(&o, "tokens", (int64_t)m->tokens);
		json_close(&o, '}');
		begun += m->begun;
		completed += m->completed;
		cancelled += m->cancelled;
		failed += m->failed;
	}
	json_close(&o, '}');
	json_put_int(&o, "begun", (int64_t)begun);
	json_put_int(&o, "completed", (int64_t)completed);
	json_put_int(&o, "cancelled", (int64_t)cancelled);
	json_put_int(&o, "failed", (int64_t)failed);
	json_put_int(&o, "open", (int64_t)sim->open_calls);
	json_put_int(&o, "connections", (int64_t)http_server_connections(sim->server));
	json_close(&o, '}');
}

static void on_request(void *ctx, struct http_req *req)
{
	struct sim *sim = ctx;
	struct str path = http_path(req);
	struct buf out = {0};
	if (!str_is(http_method(req), "GET")) {
		http_add_field(req, "allow", STR("GET"));
		http_reply(req, 405, "text/plain", STR("GET only\n"));
	} else if (str_is(path, "/healthz") || str_is(path, "/readyz")) {
		http_reply(req, 200, "text/plain", STR("ok\n"));
	} else if (str_is(path, "/metrics")) {
		series_set(metric_only(sim->connections),
			   (double)http_server_connections(sim->server));
		metrics_render(&sim->metrics, &out);
		http_reply(req, 200, "text/plain; version=0.0.4", buf_str(&out));
	} else if (str_is(path, "/calls")) {
		calls_json(sim, &out);
		http_reply(req, 200, "application/json", buf_str(&out));
	} else {
		http_reply(req, 404, "text/plain", STR("/healthz /metrics /calls\n"));
	}
	buf_fini(&out);
}

static void on_gone(void *ctx, struct http_req *req)
{
	(void)ctx;
	(void)req;
}

const struct http_server_ops sim_control_ops = {.request = on_request, .gone = on_gone};
