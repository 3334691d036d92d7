#include "tests/sim/sim.h"

#include <errno.h>
#include <stdio.h>

#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"

#define MAX_BODY_BYTES (32 << 20)

struct sim_options sim_defaults(void)
{
	return (struct sim_options){.listen = "127.0.0.1:8801",
				    .ttft_ms = 150,
				    .rate = 60,
				    .tokens = 80,
				    .limits = {.kind = QUOTA_BUCKET,
					       .burst_s = 60,
					       .minute = {1000000, 1000000000, 1000000000}}};
}

void sim_id(struct sim *sim, char out[static SIM_ID_SIZE], const char *prefix)
{
	static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZabcdefghjkmnpqrstvwxyz";
	size_t n = (size_t)snprintf(out, SIM_ID_SIZE, "%s", prefix);
	for (int i = 0; i < 22; i++)
		out[n++] = digits[rand_below(loop_rand(sim->loop), sizeof(digits) - 1)];
	out[n] = '\0';
}

void sim_count_status(struct sim *sim, int status)
{
	char text[8];
	snprintf(text, sizeof(text), "%d", status);
	series_add(metric_one(sim->requests, text), 1);
}

/* ---- who asks ---- */

static enum sim_dialect dialect_of(struct http_req *req)
{
	struct str path = http_path(req);
	if (str_starts(path, "/v1/messages") || http_field(req, "anthropic-version").ptr ||
	    http_field(req, "x-api-key").ptr)
		return SIM_ANTHROPIC;
	return SIM_OPENAI;
}

static void add_id(struct sim *sim, struct http_req *req, enum sim_dialect dialect,
		   char id[static SIM_ID_SIZE])
{
	sim_id(sim, id, "req_01");
	http_add_field(req, dialect == SIM_ANTHROPIC ? "request-id" : "x-request-id", str_of(id));
}

void sim_answer_error(struct sim *sim, struct http_req *req, enum sim_dialect dialect,
		      const struct sim_error *error)
{
	char id[SIM_ID_SIZE];
	add_id(sim, req, dialect, id);
	sim_answer_error_as(sim, req, dialect, error, id);
}

void sim_answer_error_as(struct sim *sim, struct http_req *req, enum sim_dialect dialect,
			 const struct sim_error *error, const char *id)
{
	struct buf out = {0};
	sim_wire_error(dialect, error, id, &out);
	sim_count_status(sim, (int)error->status);
	http_reply(req, (int)error->status, "application/json", buf_str(&out));
	buf_fini(&out);
}

static enum sim_ask_result auth_check(struct http_req *req, enum sim_dialect dialect,
				      struct str *ret_key, struct sim_error *e)
{
	bool anthropic = dialect == SIM_ANTHROPIC;
	const char *type = anthropic ? "authentication_error" : "invalid_request_error";
	struct str bearer = http_field(req, "authorization");
	struct str key = http_field(req, "x-api-key");
	if (anthropic && bearer.ptr && key.ptr)
		return sim_refuse(e, 401, type, NULL, NULL,
				  "Send either x-api-key or authorization, not both");
	if (bearer.ptr) {
		if (bearer.len < 7 || !str_is_nocase((struct str){bearer.ptr, 7}, "Bearer "))
			return sim_refuse(e, 401, type, NULL, NULL, "Invalid bearer token");
		key = str_trim((struct str){bearer.ptr + 7, bearer.len - 7});
	} else if (!anthropic) {
		key = bearer;
	}
	if (!key.ptr)
		return sim_refuse(e, 401, type, NULL, NULL, "%s",
				  anthropic ? "x-api-key header is required"
					    : "You didn't provide an API key.");
	if (!(str_starts(key, "sk-") || str_starts(key, "sim-")) || str_starts(key, "sk-bad"))
		return sim_refuse(e, 401, type, anthropic ? NULL : "invalid_api_key", NULL, "%s",
				  anthropic ? "invalid x-api-key" : "Incorrect API key provided.");
	*ret_key = key;
	return SIM_ASK_OK;
}

static enum sim_ask_result version_check(struct http_req *req, struct sim_error *e)
{
	struct str version = http_field(req, "anthropic-version");
	if (!version.ptr)
		return sim_refuse(e, 400, "invalid_request_error", NULL, NULL,
				  "anthropic-version: header is required");
	if (!str_is(version, "2023-06-01") && !str_is(version, "2023-01-01") &&
	    !str_is(version, "2026-10-21"))
		return sim_refuse(e, 400, "invalid_request_error", NULL, NULL,
				  "anthropic-version: \"%.*s\" is not a valid version",
				  (int)(version.len < 40 ? version.len : 40), version.ptr);
	return SIM_ASK_OK;
}

/* Fields that every answer to a known key carries, whatever its status. */
static void add_fields(struct sim *sim, struct http_req *req, enum sim_dialect dialect,
		       struct sim_limit *limit, char ret_id[static SIM_ID_SIZE])
{
	add_id(sim, req, dialect, ret_id);
	if (dialect == SIM_ANTHROPIC) {
		http_add_field(req, "anthropic-organization-id",
			       STR("00000000-0000-4000-8000-000000000001"));
	} else {
		http_add_field(req, "openai-organization", STR("sim"));
		http_add_field(req, "openai-processing-ms", STR("1"));
		http_add_field(req, "openai-version", STR("2020-10-01"));
	}
	if (limit)
		sim_limit_fields(sim, limit, req);
}

/* ---- routes ---- */

static struct sim_directive directive_defaults(const struct sim_options *o)
{
	return (struct sim_directive){
	    .ttft_ms = o->ttft_ms, .rate = o->rate, .tokens = o->tokens, .status = 200};
}

static void chat(struct sim *sim, struct http_req *req, enum sim_dialect dialect, struct str key)
{
	struct sim_error error;
	struct sim_ask ask;
	struct sim_directive how = directive_defaults(&sim->options);
	struct str bad = {NULL, 0};
	uint64_t wait_us = 0;
	char id[SIM_ID_SIZE];
	enum sim_ask_result r =
	    dialect == SIM_ANTHROPIC
		? sim_ask_anthropic(http_body(req), http_field(req, "anthropic-version"), false,
				    http_arena(req), &ask, &error)
		: sim_ask_openai(http_body(req), http_arena(req), &ask, &error);
	if (r == SIM_ASK_OK && sim_directive_read(ask.last_user, &how, &bad) != SIM_DIRECTIVE_OK)
		r = sim_refuse(&error, 400, "invalid_request_error", NULL, NULL,
			       "unknown directive for the simulator: \"%.*s\"",
			       (int)(bad.len < 60 ? bad.len : 60), bad.ptr);
	sim_directive_for(&how, ask.model);
	if (r == SIM_ASK_OK)
		sim_faults_apply(sim, key, ask.model, dialect, &how);
	/* A body whose model is not known says nothing of any model's limits. */
	bool known = ask.model.len && !(r != SIM_ASK_OK && error.status == 404);
	struct sim_limit *limit = known ? sim_limit_of(sim, key, ask.model, dialect) : NULL;
	uint64_t scope = sim_cache_hash(sim_cache_hash(1, key.ptr ? key.ptr : "", key.len),
					ask.model.ptr ? ask.model.ptr : "", ask.model.len);
	struct sim_cache_rules rules = sim_cache_rules_of(dialect, ask.model);
	struct sim_use use = sim_cache_look(&sim->cache, sim_now_us(sim), scope, &ask.prefix,
					    &rules, sim_estimate(ask.input_bytes));
	uint64_t input = dialect == SIM_ANTHROPIC ? use.input - use.read : use.input;
	uint64_t output = ask.max_tokens == UINT64_MAX ? how.tokens : ask.max_tokens;
	if (r == SIM_ASK_OK && !sim_directive_undone(&how) &&
	    !sim_limit_take(sim, limit, input, output * ask.choices, &error, &wait_us)) {
		if (wait_us != UINT64_MAX)
			sim_retry_fields(req, dialect, wait_us);
		r = SIM_ASK_REFUSED;
	}
	add_fields(sim, req, dialect, limit, id);
	if (r == SIM_ASK_OK)
		sim_call_begin(sim, req, dialect, &ask, &how, &use, limit, scope, id);
	else
		sim_answer_error_as(sim, req, dialect, &error, id);
}

static void count_tokens(struct sim *sim, struct http_req *req)
{
	struct sim_error error;
	struct sim_ask ask;
	struct buf out = {0};
	char id[SIM_ID_SIZE];
	if (sim_ask_anthropic(http_body(req), http_field(req, "anthropic-version"), true,
			      http_arena(req), &ask, &error) != SIM_ASK_OK) {
		sim_answer_error(sim, req, SIM_ANTHROPIC, &error);
		return;
	}
	add_fields(sim, req, SIM_ANTHROPIC, NULL, id);
	buf_printf(&out, "{\"input_tokens\":%llu}",
		   (unsigned long long)sim_estimate(ask.input_bytes));
	sim_count_status(sim, 200);
	http_reply(req, 200, "application/json", buf_str(&out));
	buf_fini(&out);
}

static const struct {
	enum sim_dialect dialect;
	const char *id;
	const char *name;
} models[] = {
    {SIM_ANTHROPIC, "claude-opus-4-5", "Claude Opus 4.5"},
    {SIM_ANTHROPIC, "claude-sonnet-4-5", "Claude Sonnet 4.5"},
    {SIM_ANTHROPIC, "claude-haiku-4-5", "Claude Haiku 4.5"},
    {SIM_OPENAI, "gpt-5.4", NULL},
    {SIM_OPENAI, "gpt-5.4-mini", NULL},
};

static void model_json(struct json_out *o, size_t i)
{
	json_open(o, '{');
	json_put_text(o, "id", models[i].id);
	if (models[i].dialect == SIM_ANTHROPIC) {
		json_put_text(o, "type", "model");
		json_put_text(o, "display_name", models[i].name);
		json_put_text(o, "created_at", "2025-10-01T00:00:00Z");
		json_put_int(o, "max_input_tokens", 200000);
		json_put_int(o, "max_tokens", 64000);
	} else {
		json_put_text(o, "object", "model");
		json_put_int(o, "created", 1790000000);
		json_put_text(o, "owned_by", "sim");
	}
	json_close(o, '}');
}

static void models_list(enum sim_dialect dialect, struct buf *out)
{
	struct json_out o = {.buf = out};
	const char *first = NULL;
	const char *last = NULL;
	json_open(&o, '{');
	if (dialect == SIM_OPENAI)
		json_put_text(&o, "object", "list");
	json_key(&o, "data");
	json_open(&o, '[');
	for (size_t i = 0; i < countof(models); i++) {
		if (models[i].dialect != dialect)
			continue;
		first = first ? first : models[i].id;
		last = models[i].id;
		model_json(&o, i);
	}
	json_close(&o, ']');
	if (dialect == SIM_ANTHROPIC) {
		json_put_bool(&o, "has_more", false);
		json_put_text(&o, "first_id", first);
		json_put_text(&o, "last_id", last);
	}
	json_close(&o, '}');
}

/* @id: empty for the list. */
static void models_get(struct sim *sim, struct http_req *req, enum sim_dialect dialect,
		       struct str id)
{
	struct sim_error error;
	struct buf out = {0};
	struct json_out o = {.buf = &out};
	char request_id[SIM_ID_SIZE];
	if (id.len == 0)
		models_list(dialect, &out);
	for (size_t i = 0; id.len && i < countof(models); i++)
		if (models[i].dialect == dialect && str_is(id, models[i].id))
			model_json(&o, i);
	if (out.len == 0) {
		sim_wire_status(dialect, 404, &error);
		sim_answer_error(sim, req, dialect, &error);
		return;
	}
	add_fields(sim, req, dialect, NULL, request_id);
	sim_count_status(sim, 200);
	http_reply(req, 200, "application/json", buf_str(&out));
	buf_fini(&out);
}

enum route { ROUTE_MESSAGES, ROUTE_COUNT, ROUTE_CHAT, ROUTE_MODELS, ROUTE_NONE };

static enum route route_of(struct str path, struct str *ret_id)
{
	*ret_id = (struct str){NULL, 0};
	if (str_is(path, "/v1/messages"))
		return ROUTE_MESSAGES;
	if (str_is(path, "/v1/messages/count_tokens"))
		return ROUTE_COUNT;
	if (str_is(path, "/v1/chat/completions"))
		return ROUTE_CHAT;
	if (str_starts(path, "/v1/models/") && path.len > 11) {
		*ret_id = (struct str){path.ptr + 11, path.len - 11};
		return ROUTE_MODELS;
	}
	return str_is(path, "/v1/models") ? ROUTE_MODELS : ROUTE_NONE;
}

/* Path and method, in the dialect's words; then who asks. */
static enum sim_ask_result gate(struct http_req *req, enum sim_dialect dialect, enum route route,
				struct str *ret_key, struct sim_error *e)
{
	bool anthropic = dialect == SIM_ANTHROPIC;
	struct str method = http_method(req);
	bool reads = str_is(method, "GET") || str_is(method, "HEAD");
	if (route == ROUTE_NONE)
		return sim_refuse(e, 404, anthropic ? "not_found_error" : "invalid_request_error",
				  NULL, NULL, "Not found: %.*s",
				  (int)(http_path(req).len < 100 ? http_path(req).len : 100),
				  http_path(req).ptr);
	if (route == ROUTE_MODELS ? !reads : !str_is(method, "POST")) {
		http_add_field(req, "allow", route == ROUTE_MODELS ? STR("GET") : STR("POST"));
		return sim_refuse(e, 405, "invalid_request_error", NULL, NULL,
				  "Method not allowed");
	}
	if (auth_check(req, dialect, ret_key, e) != SIM_ASK_OK)
		return SIM_ASK_REFUSED;
	return anthropic ? version_check(req, e) : SIM_ASK_OK;
}

static void on_request(void *ctx, struct http_req *req)
{
	struct sim *sim = ctx;
	enum sim_dialect dialect = dialect_of(req);
	struct sim_error error;
	struct str id;
	struct str key = {NULL, 0};
	enum route route = route_of(http_path(req), &id);
	if (route == ROUTE_CHAT)
		dialect = SIM_OPENAI;
	if (gate(req, dialect, route, &key, &error) != SIM_ASK_OK) {
		sim_answer_error(sim, req, dialect, &error);
		return;
	}
	switch (route) {
	case ROUTE_MESSAGES:
	case ROUTE_CHAT:
		chat(sim, req, dialect, key);
		break;
	case ROUTE_COUNT:
		count_tokens(sim, req);
		break;
	case ROUTE_MODELS:
		models_get(sim, req, dialect, id);
		break;
	case ROUTE_NONE:
		break;
	}
}

static void on_gone(void *ctx, struct http_req *req)
{
	struct sim_call *call = http_ctx(req);
	(void)ctx;
	if (call)
		sim_call_gone(call);
}

static void on_writable(void *ctx, struct http_req *req)
{
	struct sim_call *call = http_ctx(req);
	(void)ctx;
	if (call)
		sim_call_writable(call);
}

static void error_body(void *ctx, int status, const char *reason, struct str *ret_type,
		       struct str *ret_body)
{
	struct sim *sim = ctx;
	struct json_out o = {.buf = &sim->out};
	/* The dialect is not known here: an object that both understand. */
	buf_reset(&sim->out);
	json_open(&o, '{');
	json_put_text(&o, "type", "error");
	json_key(&o, "error");
	json_open(&o, '{');
	json_put_text(&o, "type", status == 413 ? "request_too_large" : "invalid_request_error");
	json_put_text(&o, "message", reason);
	json_put_null(&o, "param");
	json_put_null(&o, "code");
	json_close(&o, '}');
	json_close(&o, '}');
	*ret_type = STR("application/json");
	*ret_body = buf_str(&sim->out);
}

static const struct http_server_ops sim_ops = {
    .request = on_request, .gone = on_gone, .writable = on_writable, .error_body = error_body};

/* ---- opening ---- */

static void metrics_open(struct sim *sim)
{
	struct metrics *m = &sim->metrics;
	metrics_init(m);
	sim->calls = metric_register(m, "sluice_sim_calls_total", METRIC_COUNTER,
				     "Calls by model and what became of them.", "model,what");
	sim->tokens = metric_register(m, "sluice_sim_tokens_total", METRIC_COUNTER,
				      "Tokens that were sent.", "model");
	sim->requests = metric_register(m, "sluice_sim_requests_total", METRIC_COUNTER,
					"Requests by status.", "status");
	sim->active = metric_register(m, "sluice_sim_calls_open", METRIC_GAUGE,
				      "Calls that are being answered.", "");
	sim->connections = metric_register(m, "sluice_sim_connections", METRIC_GAUGE,
					   "Open connections of clients.", "");
}

static uint64_t wall_of(void *ctx)
{
	return loop_wall_ms(ctx);
}

int sim_open(struct sim *sim, struct loop *loop, const struct sim_options *options)
{
	struct http_server_options http = http_server_defaults();
	*sim = (struct sim){.loop = loop, .options = *options};
	sim->sink = (struct log_sink){.fd = 2, .level = LOG_INFO, .wall_ms = wall_of, .ctx = loop};
	sim->log = (struct log){.sink = &sim->sink, .key = "svc", .value = "sluice-sim"};
	map_init(&sim->models, rand_u64(loop_rand(loop)));
	map_init(&sim->limits, rand_u64(loop_rand(loop)));
	list_init(&sim->limit_rules);
	list_init(&sim->rules);
	sim_cache_init(&sim->cache, rand_u64(loop_rand(loop)));
	metrics_open(sim);
	sim_wheel_init(sim);
	if (options->journal) {
		sim->journal = fopen(options->journal, "ae");
		if (!sim->journal) {
			log_error(&sim->log, "cannot be written",
				  F_STR("journal", options->journal));
			return err_trace(-errno);
		}
		setvbuf(sim->journal, NULL, _IOLBF, 0);
	}
	http.listen = options->listen;
	http.max_body_bytes = MAX_BODY_BYTES;
	http.http2 = true;
	http.cert_file = options->plain ? NULL : options->cert;
	http.key_file = options->plain ? NULL : options->key;
	int r = http_server_open(loop, &http, &sim_ops, sim, &sim->log, &sim->server);
	if (r < 0) {
		log_error(&sim->log, "cannot listen", F_STR("address", options->listen), F_ERR(r));
		return err_trace(r);
	}
	sim_door_init(sim);
	if (options->control) {
		http = http_server_defaults();
		http.listen = options->control;
		r = http_server_open(loop, &http, &sim_control_ops, sim, &sim->log, &sim->control);
	}
	if (r < 0) {
		log_error(&sim->log, "cannot listen", F_STR("address", options->control), F_ERR(r));
		return err_trace(r);
	}
	log_info(&sim->log, "serving", F_UINT("port", http_server_port(sim->server)),
		 F_UINT("control_port", sim->control ? http_server_port(sim->control) : 0));
	return 0;
}

void sim_close(struct sim *sim)
{
	struct map_entry *e;
	http_server_close(sim->server);
	http_server_close(sim->control);
	timer_stop(&sim->tick);
	if (sim->journal)
		fclose(sim->journal);
	for (size_t at = 0; (e = map_next(&sim->models, &at));) {
		mem_free(((struct sim_model *)e->value)->name);
		mem_free(e->value);
	}
	sim_quotas_clear(sim);
	sim_door_fini(sim);
	sim_faults_clear(sim, 0);
	for (size_t at = 0; (e = map_next(&sim->limits, &at));) {
		struct sim_limit *limit = e->value;
		mem_free(limit->key);
		mem_free(limit->model);
		quota_fini(&limit->quota);
		mem_free(limit);
	}
	sim_cache_fini(&sim->cache);
	map_fini(&sim->models);
	map_fini(&sim->limits);
	metrics_fini(&sim->metrics);
	buf_fini(&sim->out);
}
