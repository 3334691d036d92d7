#include "producer/front.h"

#include <errno.h>
#include <string.h>

#include "lib/svc/stores.h"
#include "lib/base/arena.h"
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/lane/lane.h"
#include "lib/net/origin.h"
#include "lib/relay/follow.h"
#include "lib/store/blob.h"
#include "lib/store/pg.h"
#include "lib/store/redis.h"
#include "producer/admit.h"
#include "producer/cors.h"
#include "producer/idem.h"
#include "producer/page.h"
#include "producer/submit.h"

#define OPTION_OF struct front_options
const struct option front_option_table[] = {
#define OPTION OPTION_LINE
#include "producer/options.def"
#undef OPTION
};
const size_t front_option_count = countof(front_option_table);

static const struct route routes[] = {
#define ROUTE(method, pattern, dialect, serve, help) {#method, pattern, DIALECT_##dialect, serve},
#include "producer/routes.def"
#undef ROUTE
};

/* ── routing ── */

/* True where @path has the form of @pattern; what stands for `{id}` goes to @ret_param. `{rest}` is all that follows. */
static bool path_fits(const char *pattern, struct str path, struct str *ret_param)
{
	struct str want = str_of(pattern), want_part, part;

	for (;;) {
		bool more_want = str_split(&want, '/', &want_part),
		     more = str_split(&path, '/', &part);

		if (more_want && more && str_is(want_part, "{rest}"))
			return part.len > 0;
		if (more_want != more)
			return false;
		if (!more)
			return true;
		if (str_is(want_part, "{id}") && part.len)
			*ret_param = part;
		else if (!str_eq(want_part, part))
			return false;
	}
}

static const struct route *route_find(struct http_req *req, struct str *ret_param,
				      struct buf *allow)
{
	struct str method = http_method(req);

	if (str_is(method, "HEAD"))
		method = STR("GET");
	for (size_t i = 0; i < countof(routes); i++) {
		if (!path_fits(routes[i].pattern, http_path(req), ret_param))
			continue;
		if (str_is(method, routes[i].method) || strcmp(routes[i].method, "ANY") == 0)
			return &routes[i];
		if (allow->len)
			buf_add_text(allow, ", ");
		buf_add_text(allow, routes[i].method);
	}
	return NULL;
}

/* Whose words an error about this path is told in, before it is known whether it has a route. Where both dialects may ask,
 * and where none is known, the headers show it. */
static enum dialect dialect_of(struct http_req *req)
{
	bool anthropic = http_field(req, "anthropic-version").len > 0;
	struct str param;

	for (size_t i = 0; i < countof(routes); i++) {
		if (!path_fits(routes[i].pattern, http_path(req), &param))
			continue;
		if (routes[i].dialect == DIALECT_OPENAI && anthropic)
			return DIALECT_ANTHROPIC;
		return routes[i].dialect;
	}
	return anthropic ? DIALECT_ANTHROPIC : DIALECT_NATIVE;
}

/* True where the answer costs as long as somebody waits for it: then a client that shuts its side has hung up. */
static bool waits(const struct exchange *x)
{
	void (*serve)(struct exchange *) = x->route->serve;

	return serve == openai_chat || serve == anthropic_messages || serve == jobs_events ||
	       serve == sessions_events ||
	       (serve == jobs_get && http_query_value(x->req, "wait").ptr);
}

/* True where the body comes as it is. */
static bool is_plain(struct http_req *req)
{
	struct str coding = http_field(req, "content-encoding");

	return !coding.len || str_is_nocase(coding, "identity");
}

/* The key as the client sent it; empty where there is none. */
static struct str key_of(struct http_req *req)
{
	struct str auth = http_field(req, "authorization"), scheme;

	if (auth.len && str_split(&auth, ' ', &scheme) && str_is_nocase(scheme, "bearer"))
		return str_trim(auth);
	return http_field(req, "x-api-key");
}

static bool is_json(struct http_req *req)
{
	struct str type = http_field(req, "content-type"), media;

	if (!type.len || !str_split(&type, ';', &media))
		return true;
	return str_is_nocase(str_trim(media), "application/json");
}

/* ── an exchange's life ── */

static void exchange_free(struct exchange *x)
{
	struct front *front = x->front;

	if (x->key)
		keys_cancel(x->key);
	submitter_release(front->submitter, x->held_bytes);
	list_remove(&x->link);
	front->open--;
	series_set(metric_only(front->metric_open), (double)front->open);
	mem_free(x);
	if (front->draining && !front->open)
		svc_drained(front->svc);
}

struct submit *exchange_submit(struct exchange *x, const struct job *job,
			       void (*done)(void *ctx, const struct submit_outcome *outcome),
			       void *ctx)
{
	struct submit *submit = submit_open(x->front->submitter, job, done, ctx);

	submit_carry(submit, x->held_bytes);
	x->held_bytes = 0;
	return submit;
}

void exchange_release(struct exchange *x)
{
	submitter_release(x->front->submitter, x->held_bytes);
	x->held_bytes = 0;
}

/* What came with the request is kept until the broker, or a store, has it. */
static bool hold(struct exchange *x)
{
	size_t bytes = http_body(x->req).len;
	size_t weight = bytes ? submitter_weight(bytes) : 0;

	if (!weight)
		return true;
	if (!submitter_hold(x->front->submitter, weight))
		return false;
	x->held_bytes = weight;
	return true;
}

static void serve(struct exchange *x)
{
	if (!x->known || !x->body_read || x->answered)
		return;
	if (!hold(x)) {
		exchange_fault(
		    x, FAULT_UNAVAILABLE,
		    "As much is on its way to the broker as this node keeps. Nothing was "
		    "accepted.");
		return;
	}
	x->wall_ms = loop_wall_ms(x->front->loop);
	x->route->serve(x);
}

static void on_key(void *ctx, enum keys_result result, const struct identity *identity)
{
	struct exchange *x = ctx;

	x->key = NULL;
	switch (result) {
	case KEYS_GOOD:
		x->who = *identity;
		x->known = true;
		serve(x);
		return;
	case KEYS_BAD:
		exchange_fault(x, FAULT_UNAUTHENTICATED, NULL);
		return;
	case KEYS_UNSURE:
		exchange_fault(x, FAULT_UNAVAILABLE,
			       "The API key cannot be checked now. Nothing was accepted.");
		return;
	}
}

static struct exchange *exchange_new(struct front *front, struct http_req *req)
{
	struct exchange *x = mem_new(struct exchange);

	x->front = front;
	x->req = req;
	x->dialect = dialect_of(req);
	id_make(x->id, "req", loop_wall_ms(front->loop), loop_rand(front->loop));
	list_push_back(&front->exchanges, &x->link);
	front->open++;
	series_set(metric_only(front->metric_open), (double)front->open);
	http_set_ctx(req, x);
	http_add_field(req, "x-request-id", str_of(x->id));
	http_add_field(req, "request-id", str_of(x->id));
	return x;
}

static void on_head(void *ctx, struct http_req *req)
{
	struct front *front = ctx;
	struct exchange *x = exchange_new(front, req);
	struct buf allow = {0};
	struct str key = key_of(req);
	enum page_access access = PAGE_NONE;

	cors_add_fields(req, front->options->cors_origins);
	if (cors_preflight(req, front->options->cors_origins)) {
		struct buf nothing = {0};

		exchange_reply(x, 204, &nothing);
		return;
	}
	x->route = route_find(req, &x->param, &allow);
	if (x->route)
		access = pages_access(front->pages, x->route, req, &key);
	if (access == PAGE_OFF)
		x->route = NULL;
	http_body_limit(req, front->options->max_body_bytes);
	if (x->route && !waits(x))
		http_outlast_fin(req);
	if (!x->route && allow.len) {
		http_add_field(req, "allow", buf_str(&allow));
		exchange_fault(x, FAULT_METHOD_NOT_ALLOWED, NULL);
	} else if (!x->route) {
		exchange_fault(x, FAULT_NOT_FOUND, "There is no such route.");
	} else if (access == PAGE_OPEN) {
		x->known = true;
	} else if (!key.len) {
		exchange_fault(x, FAULT_UNAUTHENTICATED, NULL);
	} else if (strcmp(x->route->method, "POST") == 0 && x->route->serve != not_yet &&
		   !is_json(req)) {
		exchange_fault(x, FAULT_UNSUPPORTED_MEDIA, NULL);
	} else if (!is_plain(req)) {
		http_add_field(req, "accept-encoding", STR("identity"));
		exchange_fault(x, FAULT_UNSUPPORTED_MEDIA,
			       "The body must come without a Content-Encoding.");
	} else {
		x->key = keys_check(front->keys, key, on_key, x);
	}
	buf_fini(&allow);
}

static void on_request(void *ctx, struct http_req *req)
{
	struct exchange *x = http_ctx(req);

	(void)ctx;
	x->body_read = true;
	serve(x);
}

static void on_over(struct http_req *req, bool left)
{
	struct exchange *x = http_ctx(req);

	if (!x)
		return;
	http_set_ctx(req, NULL);
	if (x->drop)
		x->drop(x->work, left);
	exchange_free(x);
}

static void on_gone(void *ctx, struct http_req *req)
{
	struct front *front = ctx;

	series_add(metric_only(front->metric_hang_ups), 1);
	on_over(req, true);
}

static void on_done(void *ctx, struct http_req *req)
{
	(void)ctx;
	on_over(req, false);
}

static void on_writable(void *ctx, struct http_req *req)
{
	struct exchange *x = http_ctx(req);

	(void)ctx;
	if (x && x->writable)
		x->writable(x->work);
}

static enum fault fault_of_status(int status)
{
	if (status == 501)
		return FAULT_NOT_SUPPORTED;
	if (status == 505)
		return FAULT_INVALID_REQUEST;
	for (size_t i = 0; fault_at(i); i++) {
		if (fault_at(i)->status == status)
			return fault_at(i)->fault;
	}
	return status < 500 ? FAULT_INVALID_REQUEST : FAULT_INTERNAL;
}

static void on_error_fields(void *ctx, struct http_req *req, int status)
{
	struct front *front = ctx;

	(void)status;
	front->error_dialect = dialect_of(req);
	id_make(front->error_id, "req", loop_wall_ms(front->loop), loop_rand(front->loop));
	http_add_field(req, "x-request-id", str_of(front->error_id));
	http_add_field(req, "request-id", str_of(front->error_id));
	cors_add_fields(req, front->options->cors_origins);
}

/* What the server answers by itself, in the words of the dialect that on_error_fields found. */
static void on_error_body(void *ctx, int status, const char *reason, struct str *ret_type,
			  struct str *ret_body)
{
	struct front *front = ctx;
	struct refusal refusal = {
	    .fault = fault_of_status(status), .message = reason, .offset = -1};

	buf_reset(&front->error_body);
	error_body(&front->error_body, front->error_dialect, &refusal, str_of(front->error_id));
	*ret_type = STR("application/json");
	*ret_body = buf_str(&front->error_body);
}

static void on_exhausted(void *ctx, uint64_t refused)
{
	const struct front *front = ctx;

	log_warn(&front->log, "out of file descriptors, callers are refused",
		 F_UINT("refused", refused), F_UINT("nofile", front->svc->nofile),
		 F_UINT("connections", http_server_connections(front->server)));
}

static const struct http_server_ops server_ops = {
    .head = on_head,
    .request = on_request,
    .gone = on_gone,
    .done = on_done,
    .writable = on_writable,
    .error_fields = on_error_fields,
    .error_body = on_error_body,
    .exhausted = on_exhausted,
};

const struct config *exchange_config(const struct exchange *x)
{
	return x->front->svc->config;
}

struct str exchange_traceparent(const struct exchange *x)
{
	struct str text = http_field(x->req, "traceparent");
	bool good = text.len == 55;

	for (size_t i = 0; good && i < text.len; i++) {
		char c = text.ptr[i];

		good = i == 2 || i == 35 || i == 52
			   ? c == '-'
			   : (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
	}
	return good ? text : STR("");
}

bool exchange_query(struct exchange *x, const char *const *known)
{
	struct str rest = http_query(x->req), pair, name;

	while (rest.len && str_split(&rest, '&', &pair)) {
		bool found = !pair.len;
		struct refusal refusal = {.fault = FAULT_UNKNOWN_FIELD,
					  .message = "The query has a parameter that is not known.",
					  .offset = -1};

		if (!str_split(&pair, '=', &name))
			continue;
		for (size_t i = 0; known[i]; i++)
			found = found || str_is(name, known[i]);
		if (found)
			continue;
		refusal.param = arena_dup(http_arena(x->req), name.ptr, name.len);
		exchange_refuse(x, &refusal);
		return false;
	}
	return true;
}

void not_yet(struct exchange *x)
{
	struct refusal refusal = {.fault = FAULT_NOT_SUPPORTED,
				  .message = "This route is not supported yet.",
				  .offset = -1};
	struct admitted a = admitted_good();

	if (str_is(http_method(x->req), "POST"))
		idem_admit(x, &a);
	if (a.fault != FAULT_NONE) {
		refusal = (struct refusal){
		    .fault = a.fault, .message = a.message, .param = a.param, .offset = -1};
		exchange_refuse(x, &refusal);
	} else if (str_is(http_method(x->req), "POST")) {
		idem_refuse(x, &refusal);
	} else {
		exchange_refuse(x, &refusal);
	}
}

/* ── the process ── */

static int check_origins(struct front *front, const struct front_options *options)
{
	struct str bad;
	int r = origin_list_check(options->cors_origins, &bad);

	if (r < 0)
		log_error(&front->log, "front.cors_origins: not an origin (scheme://host[:port])",
			  F_VIEW("word", bad));
	return r;
}

static int open_server(struct front *front)
{
	struct http_server_options o = http_server_defaults();
	const struct front_options *own = front->options;

	o.listen = own->listen;
	o.reuse_port = front->svc->workers > 1;
	o.max_body_bytes = own->max_body_bytes;
	o.max_connections = (size_t)own->max_connections;
	svc_connections(front->svc, o.max_connections);
	if (own->cert_file[0]) {
		o.cert_file = own->cert_file;
		o.key_file = own->key_file;
		o.http2 = true;
	}
	return http_server_open(front->loop, &o, &server_ops, front, &front->log, &front->server);
}

/* A background job's 202 waits so long for others to share its batch. */
#define BULK_LINGER_US (3 * US_PER_MS)

static int open_writer(struct front *front)
{
	struct lane_writer_options o = {
	    .kafka = stores_kafka(front->svc->config, front->svc->id),
	    .timeout_us = front->options->produce_ms * US_PER_MS,
	    .max_pending = 100000,
	};
	int r = lane_writer_open(front->loop, &o, &front->log, &front->writer);

	if (r < 0)
		return err_trace(r);
	o.linger_us = BULK_LINGER_US;
	return err_trace(lane_writer_open(front->loop, &o, &front->log, &front->bulk_writer));
}

static int open_stores(struct front *front)
{
	static const struct redis_ops redis_ops = {0};
	const struct config *config = front->svc->config;
	struct redis_options redis = stores_redis(config);
	struct pg_options pg = stores_pg(config);
	int r;

	r = redis_open(front->loop, &redis, &redis_ops, front, &front->log, &front->redis);
	if (r < 0)
		return err_trace(r);
	r = pg_open(front->loop, &pg, &front->log, &front->pg);
	if (r < 0)
		return err_trace(r);
	return blob_open(front->loop, config->blob.dir, &front->log, &front->blob);
}

static void make_submitter(struct front *front)
{
	struct submitter_options o = {.loop = front->loop,
				      .redis = front->redis,
				      .pg = front->pg,
				      .writer = front->writer,
				      .bulk_writer = front->bulk_writer,
				      .blob = front->blob,
				      .config = front->svc->config,
				      .topic_prefix = front->svc->config->kafka.topic_prefix,
				      .max_open_turns = front->options->max_open_turns,
				      .max_held_bytes = (size_t)front->options->max_held_bytes,
				      .shards = front->options->shards,
				      .log = &front->log};

	front->submitter = submitter_new(&o);
}

int front_open(struct svc *svc, void **ret_front)
{
	struct front *front = mem_new(struct front);
	int r;

	*ret_front = front;
	front->svc = svc;
	front->loop = svc->loop;
	front->log = svc->log;
	front->options = svc->options;
	list_init(&front->exchanges);
#define METRIC(field, name, type, help, labels) \
	front->metric_##field = metric_register(&svc->metrics, name, METRIC_##type, help, labels);
#include "producer/metrics.def"
#undef METRIC
	r = check_origins(front, front->options);
	if (r >= 0)
		r = pages_open(front->options, &front->log, &front->pages);
	if (r >= 0)
		r = open_stores(front);
	if (r >= 0)
		r = open_writer(front);
	if (r >= 0) {
		front->keys = keys_new(front->loop, front->pg, NULL, &front->log);
		front->relay = relay_new(front->loop, front->redis, front->pg, &front->log);
		relay_use_blob(front->relay, front->blob);
		make_submitter(front);
		r = open_server(front);
	}
	if (r < 0) {
		log_error(&front->log, "front not opened", F_ERR(r));
		return r;
	}
	log_info(&front->log, "listening", F_STR("address", front->options->listen),
		 F_UINT("port", http_server_port(front->server)));
	return 0;
}

void front_ready(void *ctx, struct svc_waits *waits)
{
	struct front *front = ctx;

	if (!lane_writer_ready(front->writer) || !lane_writer_ready(front->bulk_writer))
		svc_waits_for(waits, "kafka");
	if (!redis_up(front->redis))
		svc_waits_for(waits, "redis");
	if (!pg_up(front->pg))
		svc_waits_for(waits, "postgres");
}

void front_drain(void *ctx)
{
	struct front *front = ctx;

	front->draining = true;
	http_server_drain(front->server);
	list_each (&front->exchanges, link) {
		struct exchange *x = container_of(link, struct exchange, link);

		if (x->drain)
			x->drain(x->work);
	}
	if (!front->open)
		svc_drained(front->svc);
}

int front_reload(void *ctx, const struct config *old)
{
	struct front *front = ctx;
	int r = check_origins(front, front->svc->options);

	(void)old;
	if (r < 0)
		return err_trace(r);
	front->options = front->svc->options;
	submitter_reload(front->submitter, front->svc->config);
	keys_forget(front->keys);
	return 0;
}

void front_close(void *ctx)
{
	struct front *front = ctx;

	front->draining = false;
	http_server_close(front->server);
	lane_writer_close(front->writer);
	lane_writer_close(front->bulk_writer);
	submitter_free(front->submitter);
	relay_free(front->relay);
	keys_free(front->keys);
	blob_close(front->blob);
	pages_free(front->pages);
	pg_close(front->pg);
	redis_close(front->redis);
	buf_fini(&front->error_body);
	mem_free(front);
}
