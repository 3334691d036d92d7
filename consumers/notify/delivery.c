#include "consumers/notify/delivery.h"

#include <stdio.h>
#include <string.h>

#include "consumers/notify/message.h"
#include "consumers/notify/notify.h"
#include "lib/identity/sign.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/sm.h"
#include "lib/net/client.h"
#include "lib/relay/follow.h"
#include "lib/store/pg.h"

#define WHY_SIZE 200
/* Before an end that could not be stored is offered again. */
#define SAVE_AGAIN_US (1 * US_PER_S)

enum delivery_state {
	DELIVERY_LOOKING, /* the result is read, a secret made where there is none */
	DELIVERY_SENDING,
	DELIVERY_SAVING,
	DELIVERY_OVER,
};

static const struct sm_state states[] = {
    [DELIVERY_LOOKING] = {"looking",
			  SM(DELIVERY_SENDING) | SM(DELIVERY_SAVING) | SM(DELIVERY_OVER)},
    [DELIVERY_SENDING] = {"sending", SM(DELIVERY_SAVING) | SM(DELIVERY_OVER)},
    [DELIVERY_SAVING] = {"saving", SM(DELIVERY_OVER)},
    [DELIVERY_OVER] = {"over", 0},
};

struct delivery {
	struct list link;
	struct sm sm;
	struct notify *notify;
	struct origin *origin;
	struct log log;
	char job[ID_SIZE];
	char *org;
	char *url;
	struct buf secrets;
	int64_t tries;
	int64_t created_ms;
	uint64_t begun_us;
	uint64_t lease_end_us;
	struct relay_lookup *lookup;
	struct pg_request *pg; /* the secret is made; the end is stored */
	struct client_call *call;
	struct timer clock; /* the try's; then before the end is stored again */
	struct buf body;
	bool gone; /* there is nothing to send */
	bool sent;
	int status; /* 0: no answer */
	size_t answered;
	uint64_t retry_after_ms;
	enum plan_verdict verdict;
	uint64_t due_ms;
	uint64_t tried_ms;
	char why[WHY_SIZE];
};

static void quiet(struct delivery *d)
{
	timer_stop(&d->clock);
	relay_lookup_cancel(d->lookup);
	d->lookup = NULL;
	pg_cancel(d->pg);
	d->pg = NULL;
	if (d->call)
		client_cancel(d->call);
	d->call = NULL;
}

static void release(struct delivery *d)
{
	quiet(d);
	list_remove(&d->link);
	if (d->secrets.data)
		mem_wipe(d->secrets.data, d->secrets.cap);
	buf_fini(&d->secrets);
	buf_fini(&d->body);
	mem_free(d->org);
	mem_free(d->url);
	mem_free(d);
}

struct delivery *delivery_of(struct list *link)
{
	return container_of(link, struct delivery, link);
}

void delivery_drop(struct delivery *d)
{
	struct notify *n = d->notify;
	struct origin *origin = d->origin;

	sm_move(&d->sm, DELIVERY_OVER);
	release(d);
	notify_end(n, origin, true);
}

/* ── its end is stored ── */

static const char save_sql[] =
    "UPDATE webhooks SET state = $3, due_ms = $4::bigint, tried_ms = $5::bigint, "
    "status = NULLIF($6::integer, 0), why = $7, holder = NULL, "
    "ended_ms = CASE WHEN $3 = 'waiting' THEN NULL ELSE $5::bigint END "
    "WHERE job = $1 AND tries = $2::integer AND state = 'waiting'";

static void save(struct delivery *d);

static void over(struct delivery *d, const char *outcome)
{
	struct notify *n = d->notify;
	struct origin *origin = d->origin;
	bool good = !d->sent || d->verdict == PLAN_DELIVERED;

	series_add(metric_one(n->metric.tries, outcome), 1);
	sm_move(&d->sm, DELIVERY_OVER);
	release(d);
	notify_end(n, origin, good);
}

static void on_saved(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	static const char *const outcomes[] = {
	    [PLAN_DELIVERED] = "delivered", [PLAN_AGAIN] = "again", [PLAN_GIVE_UP] = "dead"};
	struct delivery *d = ctx;

	(void)rows;
	d->pg = NULL;
	if (result == PG_OK)
		over(d, outcomes[d->verdict]);
	else if (loop_now_us(d->notify->svc->loop) + SAVE_AGAIN_US < d->lease_end_us)
		timer_set(&d->clock, SAVE_AGAIN_US);
	else
		over(d, "lost");
}

static void save(struct delivery *d)
{
	static const char *const names[] = {
	    [PLAN_DELIVERED] = "delivered", [PLAN_AGAIN] = "waiting", [PLAN_GIVE_UP] = "dead"};
	char tries[24], due[24], tried[24], status[24];

	snprintf(tries, sizeof(tries), "%lld", (long long)d->tries);
	snprintf(due, sizeof(due), "%llu", (unsigned long long)d->due_ms);
	snprintf(tried, sizeof(tried), "%llu", (unsigned long long)d->tried_ms);
	snprintf(status, sizeof(status), "%d", d->status);
	d->pg =
	    pg_query(d->notify->pg, save_sql,
		     (const struct str[]){str_of(d->job), str_of(tries), str_of(names[d->verdict]),
					  str_of(due), str_of(tried), str_of(status),
					  d->why[0] ? str_of(d->why) : (struct str){0}},
		     7, on_saved, d);
}

/* What a receiver or a library said, as PostgreSQL takes it. */
static void set_why(struct delivery *d, const char *what, const char *detail)
{
	snprintf(d->why, sizeof(d->why), "%s%s%s", what, detail[0] ? ": " : "", detail);
	for (char *c = d->why; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

/* The try is over, with @d->status and @d->why. */
static void tried(struct delivery *d)
{
	struct notify *n = d->notify;
	uint64_t now = loop_wall_ms(n->svc->loop), wait, share;

	d->verdict = plan_verdict(&n->plan, d->status, d->tries);
	if (d->gone)
		d->verdict = PLAN_GIVE_UP;
	wait = plan_wait_ms(&n->plan, d->status, d->tries, d->retry_after_ms);
	share = (uint64_t)((double)wait * n->options->jitter);
	d->due_ms = now + wait + rand_below(loop_rand(n->svc->loop), share + 1);
	d->tried_ms = now;
	series_observe_us(metric_only(n->metric.seconds), loop_now_us(n->svc->loop) - d->begun_us);
	if (d->verdict == PLAN_DELIVERED) {
		d->why[0] = '\0';
		if ((int64_t)now > d->created_ms)
			series_observe_us(metric_only(n->metric.delay),
					  (now - (uint64_t)d->created_ms) * US_PER_MS);
		log_debug(&d->log, "delivered", F_INT("tries", d->tries),
			  F_INT("status", d->status));
	} else if (d->verdict == PLAN_GIVE_UP) {
		log_warn(&d->log, "webhook given up", F_STR("origin", d->origin->name),
			 F_INT("tries", d->tries), F_STR("why", d->why));
	} else {
		log_info(&d->log, "webhook not delivered", F_STR("origin", d->origin->name),
			 F_INT("tries", d->tries), F_STR("why", d->why),
			 F_UINT("again_in_ms", d->due_ms - now));
	}
	timer_stop(&d->clock);
	sm_move(&d->sm, DELIVERY_SAVING);
	save(d);
}

/* ── the call ── */

static void answered(struct delivery *d, const char *what, const char *detail)
{
	char status[24];

	d->call = NULL;
	if (d->status) {
		snprintf(status, sizeof(status), "status %d", d->status);
		set_why(d, status, "");
	} else {
		set_why(d, what, detail);
	}
	tried(d);
}

/* Seconds or a date. */
static void read_retry_after(struct delivery *d, struct str value)
{
	uint64_t now = loop_wall_ms(d->notify->svc->loop), at;

	if (plan_seconds(value, &at))
		d->retry_after_ms = at;
	else if (clock_parse_http(value, &at) == CLOCK_OK && at > now)
		d->retry_after_ms = at - now;
}

static void on_head(void *ctx, int status, const struct http_field *fields, size_t count)
{
	struct delivery *d = ctx;

	d->status = status;
	for (size_t i = 0; i < count; i++)
		if (str_is(fields[i].name, "retry-after"))
			read_retry_after(d, fields[i].value);
}

static void on_data(void *ctx, struct str bytes)
{
	struct delivery *d = ctx;

	d->answered += bytes.len;
	if (d->answered <= d->notify->options->answer_bytes)
		return;
	client_cancel(d->call);
	answered(d, "", "");
}

static void on_end(void *ctx, enum client_end end, const char *detail)
{
	answered(ctx, client_end_name(end), detail);
}

static void on_clock(struct timer *t)
{
	struct delivery *d = container_of(t, struct delivery, clock);

	if (sm_state(&d->sm) == DELIVERY_SAVING) {
		save(d);
		return;
	}
	if (d->call)
		client_cancel(d->call);
	relay_lookup_cancel(d->lookup);
	d->lookup = NULL;
	pg_cancel(d->pg);
	d->pg = NULL;
	answered(d, "timeout", "");
}

static void send(struct delivery *d)
{
	static const struct client_ops ops = {.head = on_head, .data = on_data, .end = on_end};
	struct notify *n = d->notify;
	struct buf signature = {0}, time = {0};
	char id[ID_SIZE];
	struct sign_message message = {.time_s = loop_wall_ms(n->svc->loop) / 1000,
				       .body = buf_str(&d->body)};

	message_id(str_of(d->job), id);
	message.id = str_of(id);
	buf_add_u64(&time, message.time_s);
	sign_message(&message, buf_str(&d->secrets), &signature);
	{
		const struct http_field fields[] = {
		    {STR("content-type"), STR("application/json")},
		    {STR("user-agent"), STR("sluice-notify")},
		    {STR("webhook-id"), message.id},
		    {STR("webhook-timestamp"), buf_str(&time)},
		    {STR("webhook-signature"), buf_str(&signature)},
		};

		d->sent = true;
		sm_move(&d->sm, DELIVERY_SENDING);
		d->call = client_call(n->client, "POST", d->url, fields, countof(fields),
				      message.body, &ops, d);
	}
	buf_fini(&time);
	buf_fini(&signature);
}

/* ── what is sent, and by which secret it is signed ── */

static void looked(struct delivery *d)
{
	if (d->lookup || d->pg)
		return;
	if (d->body.len && d->secrets.len) {
		send(d);
		return;
	}
	if (!d->why[0])
		set_why(d, "postgresql is away", "");
	tried(d);
}

static void on_result(void *ctx, bool sure, const struct result *result)
{
	struct delivery *d = ctx;

	d->lookup = NULL;
	if (result)
		message_write(result, &d->body);
	else
		set_why(d, sure ? "the result is gone" : "postgresql is away", "");
	d->gone = sure && !result;
	looked(d);
}

static void on_secret(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct delivery *d = ctx;

	d->pg = NULL;
	for (size_t i = 0; result == PG_OK && i < pg_count(rows); i++) {
		if (i)
			buf_add_char(&d->secrets, ' ');
		buf_add_str(&d->secrets, pg_text(rows, i, 0));
	}
	looked(d);
}

/* The organisation's first one: its operators read it with sluicectl. */
static void make_secret(struct delivery *d)
{
	char secret[SIGN_SECRET_SIZE];

	sign_secret_make(secret);
	d->pg = pg_query(
	    d->notify->pg,
	    "WITH made AS (INSERT INTO webhook_secrets (org, secret) SELECT $1, $2 WHERE NOT "
	    "EXISTS "
	    "(SELECT 1 FROM webhook_secrets WHERE org = $1) ON CONFLICT DO NOTHING "
	    "RETURNING secret) SELECT secret FROM made UNION ALL "
	    "(SELECT secret FROM webhook_secrets WHERE org = $1 ORDER BY created_at DESC LIMIT 2)",
	    (const struct str[]){str_of(d->org), str_of(secret)}, 2, on_secret, d);
	mem_wipe(secret, sizeof(secret));
}

void delivery_begin(struct notify *n, const struct delivery_request *request)
{
	struct delivery *d = mem_new(struct delivery);

	d->notify = n;
	snprintf(d->job, sizeof(d->job), "%.*s", STR_FMT(request->job));
	d->org = mem_dup(request->org.ptr, request->org.len);
	d->log = log_child(&n->svc->log, "job", d->job);
	d->url = mem_dup(request->url.ptr, request->url.len);
	d->tries = request->tries;
	d->created_ms = request->created_ms;
	d->begun_us = loop_now_us(n->svc->loop);
	d->lease_end_us = d->begun_us + request->lease_ms * US_PER_MS;
	buf_add_str(&d->secrets, request->secrets);
	sm_init(&d->sm, states, &d->log, "delivery", DELIVERY_LOOKING);
	timer_init(&d->clock, n->svc->loop, on_clock);
	timer_set(&d->clock, n->options->timeout_ms * US_PER_MS);
	list_push_back(&n->deliveries, &d->link);
	d->origin = notify_begin(n, request->origin);
	d->lookup = relay_result(n->relay, request->job, request->org, on_result, d);
	if (!d->secrets.len)
		make_secret(d);
}
