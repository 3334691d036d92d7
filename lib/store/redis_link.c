#include "lib/store/redis_link.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/net/conn.h"

#define BACKOFF_MIN_US (50 * US_PER_MS)
#define BACKOFF_MAX_US (1 * US_PER_S)
#define READ_BYTES (64 * 1024)

static void link_connect(struct redis_link *link);

/* Half of the step is fixed, half is chance, so that processes do not come back together. */
static uint64_t backoff_us(struct redis_link *link)
{
	uint32_t doublings = link->failures < 6 ? link->failures : 6;
	uint64_t step = BACKOFF_MIN_US << doublings;

	if (step > BACKOFF_MAX_US)
		step = BACKOFF_MAX_US;
	return step / 2 + rand_below(loop_rand(link->loop), step / 2 + 1);
}

void redis_link_fail(struct redis_link *link, const char *why)
{
	bool was_open = link->state == REDIS_LINK_OPEN;

	if (link->state == REDIS_LINK_DOWN)
		return;
	log_debug(link->log, "redis connection failed", F_STR("why", why),
		  F_UINT("failures", link->failures));
	conn_close(link->conn);
	link->conn = NULL;
	link->state = REDIS_LINK_DOWN;
	buf_reset(&link->out);
	task_cancel(&link->flush);
	timer_set(&link->timer, backoff_us(link));
	link->failures++;
	if (was_open)
		link->ops->lost(link);
}

void redis_link_flush(struct redis_link *link)
{
	if (!link->conn || link->state < REDIS_LINK_GREETING)
		return;
	while (link->out.len) {
		struct str bytes = buf_str(&link->out);
		ssize_t n = conn_write(link->conn, bytes.ptr, bytes.len);

		if (n == -EAGAIN)
			break;
		if (n < 0) {
			redis_link_fail(link, "write");
			return;
		}
		link->written += (uint64_t)n;
		buf_take(&link->out, (size_t)n);
	}
	conn_want(link->conn, CONN_READABLE | (link->out.len ? CONN_WRITABLE : 0));
}

static void on_flush(struct task *task)
{
	redis_link_flush(container_of(task, struct redis_link, flush));
}

void redis_link_added(struct redis_link *link, size_t bytes)
{
	link->added += bytes;
	task_post(&link->flush);
}

static void link_opened(struct redis_link *link)
{
	link->state = REDIS_LINK_OPEN;
	timer_stop(&link->timer);
	link->ops->open(link);
}

static void link_reply(struct redis_link *link, const struct redis_value *value)
{
	if (link->state == REDIS_LINK_OPEN) {
		link->ops->reply(link, value);
		return;
	}
	if (value->type == REDIS_ERROR) {
		log_warn(link->log, "redis refused the connection", F_VIEW("reply", value->str));
		redis_link_fail(link, "refused");
		return;
	}
	if (--link->greetings == 0)
		link_opened(link);
}

/* At most one buffer per wake-up: the socket is level-triggered and comes again. */
static void link_read(struct redis_link *link)
{
	char bytes[READ_BYTES];
	ssize_t n = conn_read(link->conn, bytes, sizeof(bytes));

	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		redis_link_fail(link, n == 0 ? "closed by the server" : "read");
		return;
	}
	link->heard_us = loop_now_us(link->loop);
	if (resp_feed(&link->resp, bytes, (size_t)n) < 0) {
		redis_link_fail(link, "not RESP");
		return;
	}
	while (link->conn) {
		const struct redis_value *value;
		int r = resp_next(&link->resp, &value);

		if (r == RESP_MORE)
			return;
		if (r < 0) {
			redis_link_fail(link, "not RESP");
			return;
		}
		link_reply(link, value);
	}
}

static void on_ready(void *ctx, struct conn *conn, unsigned events)
{
	struct redis_link *link = ctx;

	(void)conn;
	if (events & CONN_WRITABLE)
		redis_link_flush(link);
	if (link->conn && (events & CONN_READABLE))
		link_read(link);
}

static void on_open(void *ctx, struct conn *conn)
{
	struct redis_link *link = ctx;
	const struct redis_url *url = link->url;
	size_t before = link->out.len;

	(void)conn;
	link->state = REDIS_LINK_GREETING;
	link->heard_us = loop_now_us(link->loop);
	conn_want(link->conn, CONN_READABLE);
	if (url->password[0]) {
		resp_head(&link->out, url->user[0] ? 3 : 2);
		resp_arg(&link->out, STR("AUTH"));
		if (url->user[0])
			resp_arg(&link->out, str_of(url->user));
		resp_arg(&link->out, str_of(url->password));
		link->greetings++;
	}
	/* Always sent: a reply to it proves that the server takes commands from us. */
	char db[16];

	snprintf(db, sizeof(db), "%u", url->db);
	resp_head(&link->out, 2);
	resp_arg(&link->out, STR("SELECT"));
	resp_arg(&link->out, str_of(db));
	link->greetings++;
	redis_link_added(link, link->out.len - before);
}

static void on_failed(void *ctx, struct conn *conn, int error, const char *detail)
{
	struct redis_link *link = ctx;

	(void)conn;
	log_debug(link->log, "redis connect", F_INT("errno", -error), F_STR("detail", detail));
	redis_link_fail(link, "connect");
}

static void link_connect(struct redis_link *link)
{
	static const struct conn_ops ops = {
	    .open = on_open,
	    .ready = on_ready,
	    .failed = on_failed,
	};

	link->state = REDIS_LINK_CONNECTING;
	link->greetings = 0;
	link->added = 0;
	link->written = 0;
	resp_reset(&link->resp);
	link->conn =
	    conn_connect(link->loop, link->url->host, link->url->port, link->tls, NULL, &ops, link);
	timer_set(&link->timer, link->timeout_us);
}

/* The back-off's end, or the limit of connecting and greeting. */
static void on_timer(struct timer *timer)
{
	struct redis_link *link = container_of(timer, struct redis_link, timer);

	if (link->state == REDIS_LINK_DOWN)
		link_connect(link);
	else if (link->state != REDIS_LINK_OPEN)
		redis_link_fail(link, "connecting took too long");
}

void redis_link_init(struct redis_link *link, struct loop *loop, const struct redis_url *url,
		     struct tls *tls, uint64_t timeout_us, const struct redis_link_ops *ops,
		     const struct log *log)
{
	*link = (struct redis_link){
	    .loop = loop,
	    .url = url,
	    .tls = tls,
	    .ops = ops,
	    .log = log,
	    .timeout_us = timeout_us,
	};
	resp_init(&link->resp);
	timer_init(&link->timer, loop, on_timer);
	task_init(&link->flush, loop, on_flush);
	timer_set(&link->timer, 0);
}

void redis_link_fini(struct redis_link *link)
{
	timer_stop(&link->timer);
	task_cancel(&link->flush);
	conn_close(link->conn);
	link->conn = NULL;
	link->state = REDIS_LINK_DOWN;
	buf_fini(&link->out);
	resp_fini(&link->resp);
}
