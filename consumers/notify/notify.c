#include "consumers/notify/notify.h"

#include <errno.h>
#include <string.h>

#include "consumers/notify/delivery.h"
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/rand.h"
#include "lib/net/address.h"
#include "lib/net/client.h"
#include "lib/relay/follow.h"
#include "lib/store/pg.h"
#include "lib/svc/stores.h"

#define SWEEP_US (10 * US_PER_S)
/* Behind a try's own time: for the store to take its end. Then the claim is lost, and the row due. */
#define LEASE_MORE_MS 60000
/* So many origins that failed are remembered; behind the oldest of more of them several tries at once may begin. */
#define FAILING_MAX 1024

/* ── origins ── */

static struct origin *origin_new(struct notify *n, struct str name)
{
	struct origin *o = mem_alloc(sizeof(*o) + name.len + 1);

	memcpy(o->name, name.ptr, name.len);
	map_set(&n->origins, name, o);
	list_push_back(&n->all_origins, &o->link);
	return o;
}

static void origin_forget(struct notify *n, struct origin *o)
{
	n->failing -= o->failing;
	list_remove(&o->link);
	map_take(&n->origins, str_of(o->name));
	mem_free(o);
}

static void forget_oldest(struct notify *n)
{
	list_each (&n->all_origins, link) {
		struct origin *o = container_of(link, struct origin, link);

		if (n->failing <= FAILING_MAX)
			return;
		if (!o->tries && o->failing)
			origin_forget(n, o);
	}
}

static void measure(struct notify *n)
{
	series_set(metric_only(n->metric.open), (double)n->open);
	series_set(metric_only(n->metric.failing), (double)n->failing);
}

struct origin *notify_begin(struct notify *n, struct str name)
{
	struct origin *o = map_find(&n->origins, name);

	if (!o)
		o = origin_new(n, name);
	o->tries++;
	n->open++;
	measure(n);
	return o;
}

static void drained(struct notify *n)
{
	void (*tell)(void *ctx) = n->drained;

	if (!n->draining || n->open || n->claim || !tell)
		return;
	n->drained = NULL;
	tell(n->drained_ctx);
}

void notify_end(struct notify *n, struct origin *o, bool good)
{
	o->tries--;
	n->open--;
	n->failing += !good;
	n->failing -= o->failing;
	o->failing = !good;
	if (!o->tries && !o->failing)
		origin_forget(n, o);
	forget_oldest(n);
	measure(n);
	if (n->draining)
		drained(n);
	else if (!n->claim)
		timer_set(&n->poll, 0);
}

/* ── taking what is due ── */

/* A few of each origin, those that are due longest first; a row that another process is taking is left to it. */
static const char claim_sql[] =
    "WITH known AS (SELECT o, n FROM json_to_recordset($1::json) AS k(o text, n integer)), "
    "due AS (SELECT job, origin, due_ms FROM webhooks WHERE state = 'waiting' "
    "AND due_ms <= $2::bigint AND origin NOT IN (SELECT o FROM known WHERE n <= 0) "
    "ORDER BY due_ms LIMIT 1000), "
    "first AS (SELECT job FROM (SELECT job, origin, due_ms, row_number() OVER "
    "(PARTITION BY origin ORDER BY due_ms) AS nth FROM due) d LEFT JOIN known ON o = origin "
    "WHERE nth <= coalesce(n, $3::integer) ORDER BY due_ms LIMIT $4::integer), "
    "mine AS (SELECT w.job FROM webhooks w JOIN first USING (job) WHERE w.state = 'waiting' "
    "AND w.due_ms <= $2::bigint FOR UPDATE OF w SKIP LOCKED) "
    "UPDATE webhooks w SET tries = w.tries + 1, due_ms = $5::bigint, holder = $6 FROM mine "
    "WHERE w.job = mine.job RETURNING w.job, w.org, w.url, w.origin, w.tries, w.created_ms, "
    "(SELECT string_agg(secret, ' ') FROM (SELECT secret FROM webhook_secrets s "
    "WHERE s.org = w.org ORDER BY s.created_at DESC LIMIT 2) newest)";

static uint64_t lease_ms(const struct notify *n)
{
	return n->options->timeout_ms + LEASE_MORE_MS;
}

static void on_claimed(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct notify *n = ctx;
	size_t count = result == PG_OK ? pg_count(rows) : 0;

	n->claim = NULL;
	for (size_t i = 0; i < count; i++) {
		struct delivery_request r = {.job = pg_text(rows, i, 0),
					     .org = pg_text(rows, i, 1),
					     .url = pg_text(rows, i, 2),
					     .origin = pg_text(rows, i, 3),
					     .tries = pg_int(rows, i, 4, 1),
					     .created_ms = pg_int(rows, i, 5, 0),
					     .secrets = pg_text(rows, i, 6),
					     .lease_ms = lease_ms(n)};

		delivery_begin(n, &r);
	}
	if (n->draining)
		drained(n);
	else
		timer_set(&n->poll, count ? 0 : n->options->poll_ms * US_PER_MS);
}

/* How many more each origin may have that is not as any other. */
static void write_known(const struct notify *n, struct buf *out)
{
	struct json_out o = {.buf = out};

	json_open(&o, '[');
	list_each (&n->all_origins, link) {
		const struct origin *origin = container_of(link, struct origin, link);
		int64_t most = origin->failing ? 1 : n->options->calls_per_origin;

		json_open(&o, '{');
		json_put_text(&o, "o", origin->name);
		json_put_int(&o, "n", most - origin->tries);
		json_close(&o, '}');
	}
	json_close(&o, ']');
}

static void claim(struct notify *n)
{
	uint64_t now = loop_wall_ms(n->svc->loop);
	struct buf text = {0};
	size_t end[4];
	struct str all;

	write_known(n, &text);
	end[0] = text.len;
	buf_add_u64(&text, now);
	end[1] = text.len;
	buf_add_i64(&text, n->options->calls_per_origin);
	end[2] = text.len;
	buf_add_i64(&text, n->options->calls - n->open);
	end[3] = text.len;
	buf_add_u64(&text, now + lease_ms(n));
	all = buf_str(&text);
	{
		const struct str params[] = {{all.ptr, end[0]},
					     {all.ptr + end[0], end[1] - end[0]},
					     {all.ptr + end[1], end[2] - end[1]},
					     {all.ptr + end[2], end[3] - end[2]},
					     {all.ptr + end[3], all.len - end[3]},
					     str_of(n->svc->id)};

		n->claim = pg_query(n->pg, claim_sql, params, countof(params), on_claimed, n);
	}
	buf_fini(&text);
}

static void on_taken_over(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct notify *n = ctx;

	n->claim = NULL;
	n->taken_over = result == PG_OK;
	if (n->taken_over && pg_affected(rows))
		log_info(&n->svc->log, "tries of before begin again",
			 F_UINT("webhooks", pg_affected(rows)));
	if (n->draining)
		drained(n);
	else
		timer_set(&n->poll, n->taken_over ? 0 : n->options->poll_ms * US_PER_MS);
}

/* What a process of this id had under way when it died. */
static void take_over(struct notify *n)
{
	struct buf now = {0};

	buf_add_u64(&now, loop_wall_ms(n->svc->loop));
	n->claim =
	    pg_query(n->pg,
		     "UPDATE webhooks SET due_ms = $1::bigint, holder = NULL "
		     "WHERE state = 'waiting' AND holder = $2",
		     (const struct str[]){buf_str(&now), str_of(n->svc->id)}, 2, on_taken_over, n);
	buf_fini(&now);
}

static void on_poll(struct timer *t)
{
	struct notify *n = container_of(t, struct notify, poll);

	if (n->claim)
		return;
	if (!n->taken_over)
		take_over(n);
	else if (n->open < n->options->calls)
		claim(n);
}

/* ── what is old goes; how it stands ── */

static const char sweep_sql[] =
    "WITH old AS (DELETE FROM webhooks WHERE job IN (SELECT job FROM webhooks WHERE "
    "(state = 'delivered' AND ended_ms < $1::bigint) OR "
    "(state = 'dead' AND ended_ms < $2::bigint) LIMIT 10000) RETURNING 1) "
    "SELECT (SELECT count(*) FROM webhooks WHERE state = 'waiting'), "
    "(SELECT count(*) FROM webhooks WHERE state = 'dead'), "
    "(SELECT min(due_ms) FROM webhooks WHERE state = 'waiting'), (SELECT count(*) FROM old)";

static void on_swept(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct notify *n = ctx;
	int64_t now = (int64_t)loop_wall_ms(n->svc->loop), due;

	n->sweeping = NULL;
	timer_set(&n->sweep, SWEEP_US);
	if (result != PG_OK || !pg_count(rows))
		return;
	due = pg_int(rows, 0, 2, now);
	series_set(metric_only(n->metric.waiting), (double)pg_int(rows, 0, 0, 0));
	series_set(metric_only(n->metric.dead), (double)pg_int(rows, 0, 1, 0));
	series_set(metric_only(n->metric.overdue), due < now ? (double)(now - due) / 1000.0 : 0);
}

static void on_sweep(struct timer *t)
{
	struct notify *n = container_of(t, struct notify, sweep);
	uint64_t now = loop_wall_ms(n->svc->loop);
	struct buf delivered = {0}, dead = {0};

	buf_add_u64(&delivered, now - n->options->keep_ms);
	buf_add_u64(&dead, now - n->options->keep_dead_ms);
	n->sweeping =
	    pg_query(n->pg, sweep_sql, (const struct str[]){buf_str(&delivered), buf_str(&dead)}, 2,
		     on_swept, n);
	buf_fini(&delivered);
	buf_fini(&dead);
}

/* ── life ── */

/* The configuration's newest word. */
static bool address_ok(void *ctx, const struct sockaddr *address)
{
	const struct notify *n = ctx;

	return address_public(address) ||
	       address_within(address, str_of(n->svc->config->webhooks.networks));
}

static int open_client(struct notify *n)
{
	struct client_options o = client_defaults();
	const char *ca_file = n->svc->config->webhooks.ca_file;

	o.base_url = NULL;
	o.http = CLIENT_HTTP_1;
	o.ca_file = ca_file[0] ? ca_file : NULL;
	o.connect_us = n->options->connect_ms * US_PER_MS;
	o.max_connections = (uint32_t)n->options->calls;
	o.streams_per_connection = 1;
	o.address_ok = address_ok;
	o.address_ctx = n;
	return client_open(n->svc->loop, &o, &n->svc->log, &n->client);
}

static int read_plan(struct notify *n, const struct notify_options *options)
{
	struct plan plan;

	if (!plan_read(&plan, str_of(options->schedule))) {
		log_error(&n->svc->log, "notify.schedule: waits like 5s,30s,2m,1h are expected");
		return err_origin(-EINVAL);
	}
	n->plan = plan;
	n->options = options;
	return 0;
}

int notify_open(struct svc *svc, struct notify **ret_notify)
{
	struct notify *n = mem_new(struct notify);
	struct pg_options pg = stores_pg(svc->config);
	int r;

	*ret_notify = n;
	n->svc = svc;
	list_init(&n->all_origins);
	list_init(&n->deliveries);
	map_init(&n->origins, rand_u64(loop_rand(svc->loop)));
	timer_init(&n->poll, svc->loop, on_poll);
	timer_init(&n->sweep, svc->loop, on_sweep);
#define METRIC(field, name, type, help, labels) \
	n->metric.field = metric_register(&svc->metrics, name, METRIC_##type, help, labels);
#include "consumers/notify/metrics.def"
#undef METRIC
	r = read_plan(n, svc->options);
	if (!r)
		r = pg_open(svc->loop, &pg, &svc->log, &n->pg);
	if (!r)
		r = open_client(n);
	if (r) {
		log_error(&svc->log, "cannot start", F_ERR(r));
		return err_trace(r);
	}
	n->relay = relay_new(svc->loop, NULL, n->pg, &svc->log);
	timer_set(&n->poll, 0);
	timer_set(&n->sweep, 0);
	return 0;
}

void notify_ready(struct notify *n, void (*waits)(void *ctx, const char *what), void *ctx)
{
	if (!pg_up(n->pg))
		waits(ctx, "postgresql");
	else if (!n->taken_over)
		waits(ctx, "webhooks");
}

void notify_drain(struct notify *n, void (*tell)(void *ctx), void *ctx)
{
	n->draining = true;
	n->drained = tell;
	n->drained_ctx = ctx;
	timer_stop(&n->poll);
	timer_stop(&n->sweep);
	drained(n);
}

int notify_reload(struct notify *n)
{
	return read_plan(n, n->svc->options);
}

void notify_close(struct notify *n)
{
	if (!n)
		return;
	n->draining = true;
	n->drained = NULL;
	while (!list_empty(&n->deliveries))
		delivery_drop(delivery_of(n->deliveries.next));
	while (!list_empty(&n->all_origins))
		origin_forget(n, list_first(&n->all_origins, struct origin, link));
	map_fini(&n->origins);
	timer_stop(&n->poll);
	timer_stop(&n->sweep);
	client_close(n->client);
	relay_free(n->relay);
	pg_close(n->pg);
	mem_free(n);
}
