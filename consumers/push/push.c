#include "consumers/push/push.h"

#include <string.h>

#include "consumers/push/expiry.h"
#include "consumers/push/outbox.h"
#include "consumers/push/reply.h"
#include "consumers/push/session.h"
#include "lib/svc/stores.h"
#include "lib/base/clock.h"
#include "lib/base/enc.h"
#include "lib/base/mem.h"
#include "lib/lane/lane.h"
#include "lib/net/digest.h"
#include "lib/net/http.h"
#include "lib/net/origin.h"
#include "lib/net/ws.h"
#include "lib/relay/follow.h"
#include "lib/store/blob.h"
#include "lib/store/pg.h"
#include "lib/store/redis.h"
#include "producer/submit.h"

#define OPTION_OF struct push_options
const struct option push_option_table[] = {
#define OPTION OPTION_LINE
#include "consumers/push/options.def"
#undef OPTION
};
const size_t push_option_count = countof(push_option_table);

/* ── the listener ── */

static void on_request(void *ctx, struct http_req *req)
{
	session_accept(ctx, req);
}

static void on_gone(void *ctx, struct http_req *req)
{
	(void)ctx;
	(void)req;
}

static void on_exhausted(void *ctx, uint64_t refused)
{
	const struct push *push = ctx;

	log_warn(&push->log, "out of file descriptors, callers are refused",
		 F_UINT("refused", refused), F_UINT("nofile", push->svc->nofile),
		 F_UINT("connections", push->session_count));
}

/* zlib's fastest, and nothing below what it pays for (RFC 7692). */
#define DEFLATE_LEVEL 1
#define DEFLATE_MIN_BYTES 512

static const struct http_server_ops server_ops = {.request = on_request,
						  .gone = on_gone,
						  .writable = on_gone,
						  .error_body = reply_error_body,
						  .error_fields = reply_error_fields,
						  .exhausted = on_exhausted};

static int open_server(struct push *push)
{
	struct http_server_options o = http_server_defaults();

	o.listen = push->options->listen;
	o.reuse_port = push->svc->workers > 1;
	o.max_body_bytes = 1024;
	/* Those that are not upgraded yet. */
	o.max_connections = (size_t)push->options->max_connections + 64;
	svc_connections(push->svc, o.max_connections);
	if (push->options->cert_file[0]) {
		o.cert_file = push->options->cert_file;
		o.key_file = push->options->key_file;
	}
	if (push->options->deflate)
		push->deflate = ws_deflate_new(DEFLATE_LEVEL, DEFLATE_MIN_BYTES);
	return http_server_open(push->loop, &o, &server_ops, push, &push->log, &push->server);
}

/* ── what it needs ── */

static int check_origins(struct push *push, const struct push_options *options)
{
	struct str bad;
	int r = origin_list_check(options->origins, &bad);

	if (r < 0)
		log_error(&push->log, "push.origins: not an origin (scheme://host[:port])",
			  F_VIEW("word", bad));
	return r;
}

static int open_writer(struct push *push)
{
	struct lane_writer_options o = {.kafka = stores_kafka(push->svc->config, push->svc->id),
					.timeout_us = push->options->produce_ms * US_PER_MS,
					.max_pending = 100000};

	return lane_writer_open(push->loop, &o, &push->log, &push->writer);
}

static void on_epoch(void *ctx, bool first, uint64_t epoch_wall_ms)
{
	struct push *push = ctx;

	(void)epoch_wall_ms;
	if (first)
		return;
	list_each (&push->sessions, link)
		hello_epoch(container_of(link, struct session, link));
}

static int open_stores(struct push *push)
{
	static const struct redis_ops redis_ops = {.epoch = on_epoch};
	const struct config *config = push->svc->config;
	struct redis_options redis = stores_redis(config);
	struct pg_options pg = stores_pg(config);
	int r;

	r = redis_open(push->loop, &redis, &redis_ops, push, &push->log, &push->redis);
	if (r < 0)
		return err_trace(r);
	r = pg_open(push->loop, &pg, &push->log, &push->pg);
	if (r < 0)
		return err_trace(r);
	return blob_open(push->loop, config->blob.dir, &push->log, &push->blob);
}

/* Every node reads every node's tokens: without a secret of their own they share what is derived from the configuration that
 * they have in common. */
static int make_secrets(struct push *push)
{
	struct str secret = str_of(push->options->resume_secret);
	unsigned char digest[DIGEST_SHA256_SIZE];
	struct buf hex = {0};

	if (!secret.len) {
		digest_hmac_sha256(str_of(push->svc->config->postgres.conninfo),
				   STR("sluice resume tokens"), digest);
		enc_hex(&hex, (struct str){(const char *)digest, sizeof(digest)});
		memcpy(push->derived, hex.data + hex.head, sizeof(push->derived) - 1);
		buf_fini(&hex);
		secret = str_of(push->derived);
	}
	push->secrets = (struct token_secrets){.secret = {secret}, .count = 1};
	return token_secrets_check(&push->secrets);
}

static void make_parts(struct push *push)
{
	struct submitter_options o = {.loop = push->loop,
				      .redis = push->redis,
				      .pg = push->pg,
				      .writer = push->writer,
				      .blob = push->blob,
				      .config = push->svc->config,
				      .topic_prefix = push->svc->config->kafka.topic_prefix,
				      .max_open_turns = push->options->max_open_turns,
				      .max_held_bytes = (size_t)push->options->max_held_bytes,
				      .log = &push->log};

	push->submitter = submitter_new(&o);
	push->keys = keys_new(push->loop, push->pg, NULL, &push->log);
	push->relay = relay_new(push->loop, push->redis, push->pg, &push->log);
	relay_use_blob(push->relay, push->blob);
	gather_init(&push->rows, push->loop, push->pg, &hello_rows, push);
	push->outbox = outbox_new(push);
	push->expiry = expiry_new(push);
}

int push_open(struct svc *svc, void **ret_push)
{
	struct push *push = mem_new(struct push);
	int r;

	*ret_push = push;
	push->svc = svc;
	push->loop = svc->loop;
	push->log = svc->log;
	push->options = svc->options;
	push->pace.per_s = (uint64_t)push->options->max_deltas_per_s;
	list_init(&push->sessions);
#define METRIC(field, name, type, help, labels) \
	push->metric.field = metric_register(&svc->metrics, name, METRIC_##type, help, labels);
#include "consumers/push/metrics.def"
#undef METRIC
	r = make_secrets(push);
	if (r < 0) {
		log_error(&push->log, "resume_secret needs at least 32 bytes");
		return err_trace(r);
	}
	r = check_origins(push, push->options);
	if (r >= 0)
		r = open_stores(push);
	if (r >= 0)
		r = open_writer(push);
	if (r >= 0) {
		make_parts(push);
		r = open_server(push);
	}
	if (r < 0) {
		log_error(&push->log, "push not opened", F_ERR(r));
		return err_trace(r);
	}
	log_info(&push->log, "listening", F_STR("address", push->options->listen),
		 F_UINT("port", http_server_port(push->server)));
	return 0;
}

void push_ready(void *ctx, struct svc_waits *waits)
{
	struct push *push = ctx;

	if (!lane_writer_ready(push->writer))
		svc_waits_for(waits, "kafka");
	if (!redis_up(push->redis))
		svc_waits_for(waits, "redis");
	if (!pg_up(push->pg))
		svc_waits_for(waits, "postgres");
}

void push_settled(struct push *push)
{
	if (push->draining && !push->session_count && outbox_idle(push->outbox))
		svc_drained(push->svc);
}

void push_session_over(struct push *push)
{
	push->session_count--;
	series_set(metric_only(push->metric.connections), (double)push->session_count);
	push_settled(push);
}

void push_drain(void *ctx)
{
	struct push *push = ctx;

	push->draining = true;
	http_server_drain(push->server);
	list_each (&push->sessions, link)
		session_drain(container_of(link, struct session, link),
			      push->options->drain_spread_ms);
	outbox_drain(push->outbox);
	push_settled(push);
}

int push_reload(void *ctx, const struct config *old)
{
	struct push *push = ctx;
	int r = check_origins(push, push->svc->options);

	(void)old;
	if (r < 0)
		return err_trace(r);
	push->options = push->svc->options;
	push->pace.per_s = (uint64_t)push->options->max_deltas_per_s;
	submitter_reload(push->submitter, push->svc->config);
	keys_forget(push->keys);
	return 0;
}

void push_close(void *ctx)
{
	struct push *push = ctx;
	struct session *s;

	push->draining = false;
	while ((s = list_first(&push->sessions, struct session, link)))
		session_free(s);
	http_server_close(push->server);
	ws_deflate_unref(push->deflate);
	lane_writer_close(push->writer);
	submitter_free(push->submitter);
	expiry_free(push->expiry);
	gather_fini(&push->rows);
	outbox_free(push->outbox);
	relay_free(push->relay);
	keys_free(push->keys);
	blob_close(push->blob);
	pg_close(push->pg);
	redis_close(push->redis);
	mem_wipe(push->derived, sizeof(push->derived));
	buf_fini(&push->error_body);
	mem_free(push);
}
