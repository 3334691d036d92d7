/* lib/net/conn.h's server side, and its listener, over bytes in memory; the client's end is a struct line (line.h). What is sent arrives in
 * pieces that are cut anywhere; what a client does not read fills the window, and then the socket takes no more. TLS and outgoing
 * connections are not there. */
#include "lib/net/conn.h"

#include <errno.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/mem.h"
#include "tests/world/line.h"

/* No descriptor of the process: closing it does nothing. */
#define ANY_FD 1000000
#define KICK_MOST_US 40
#define PORT 8081

struct listener {
	struct list link;
	struct loop *loop;
	void (*accepted)(void *ctx, int fd, const char *peer);
	void *ctx;
};

struct conn {
	struct loop *loop;
	struct line *line;
	const struct conn_ops *ops;
	void *ctx;
	unsigned want;
	bool open;
	bool kicked; /* a look is on its way */
	bool closed; /* nobody is called any more */
	struct buf in;
	bool in_end;   /* behind it: the peer's FIN */
	bool in_reset; /* instead of all */
};

/* Bytes on their way, either way; an empty one is the end. */
struct piece {
	struct line *line;
	struct buf bytes;
	bool reset;
};

struct line {
	struct loop *loop;
	struct conn *conn; /* NULL: not accepted, or closed */
	const struct line_ops *ops;
	void *ctx;
	struct wire up;
	struct wire down;
	size_t window;
	size_t under_way; /* written and not read by the client */
	struct buf unread;
	bool end_unread;
	bool stalled;
	bool hung_up; /* the client's end is gone: nothing comes, nothing arrives */
	bool lost;    /* what is sent to the node never arrives */
	bool over;    /* the client was told of the end */
	bool ended;   /* the node said that nothing more comes */
};

static struct list listeners;
static struct line *arriving; /* while its listener is told */

void lines_begin(void)
{
	list_init(&listeners);
	arriving = NULL;
}

/* ── the node's end ── */

static void kick(struct conn *c);

static unsigned events_of(const struct conn *c)
{
	unsigned events = 0;

	if (c->in.len || c->in_end || c->in_reset)
		events |= CONN_READABLE;
	if (c->in_reset || c->line->under_way < c->line->window)
		events |= CONN_WRITABLE;
	return events & c->want;
}

static void on_kick(void *ctx)
{
	struct conn *c = ctx;
	unsigned events;

	c->kicked = false;
	if (c->closed || !c->open)
		return;
	events = events_of(c);
	if (!events)
		return;
	c->ops->ready(c->ctx, c, events);
	if (!c->closed)
		kick(c);
}

static void kick(struct conn *c)
{
	if (c->kicked || c->closed || !c->open || !events_of(c))
		return;
	c->kicked = true;
	world_in(world_between(1, KICK_MOST_US), c->loop, on_kick, c);
}

static void on_open(void *ctx)
{
	struct conn *c = ctx;

	if (c->closed)
		return;
	c->open = true;
	c->ops->open(c->ctx, c);
	if (!c->closed)
		kick(c);
}

struct conn *conn_accept(struct loop *loop, int fd, struct tls *tls, const struct conn_ops *ops,
			 void *ctx)
{
	struct conn *c = mem_new(struct conn);

	must(!tls);
	c->loop = loop;
	must(fd == ANY_FD && arriving);
	c->line = arriving;
	arriving = NULL;
	c->line->conn = c;
	c->ops = ops;
	c->ctx = ctx;
	world_in(world_between(1, KICK_MOST_US), loop, on_open, c);
	return c;
}

static void piece_down(struct line *l, struct str bytes, bool reset);

/* The memory stays: one history per process. */
static void end(struct conn *c, bool reset)
{
	if (!c || c->closed)
		return;
	c->closed = true;
	c->line->conn = NULL;
	if (!c->line->ended || reset)
		piece_down(c->line, STR(""), reset || c->in.len > 0);
	c->line->ended = true;
	buf_fini(&c->in);
}

void conn_close(struct conn *c)
{
	end(c, false);
}

void conn_reset(struct conn *c)
{
	end(c, true);
}

void conn_shutdown(struct conn *c)
{
	if (c->line->ended)
		return;
	c->line->ended = true;
	piece_down(c->line, STR(""), false);
}

void conn_set_ctx(struct conn *c, const struct conn_ops *ops, void *ctx)
{
	c->ops = ops;
	c->ctx = ctx;
}

void conn_want(struct conn *c, unsigned events)
{
	c->want = events;
	kick(c);
}

ssize_t conn_read(struct conn *c, void *into, size_t size)
{
	size_t take = c->in.len < size ? c->in.len : size;

	if (c->in_reset)
		return -ECONNRESET;
	if (!take)
		return c->in_end ? 0 : -EAGAIN;
	memcpy(into, c->in.data + c->in.head, take);
	buf_take(&c->in, take);
	return (ssize_t)take;
}

bool conn_pending(const struct conn *c)
{
	(void)c;
	return false;
}

ssize_t conn_writev(struct conn *c, const struct iovec *iov, int count)
{
	struct line *l = c->line;
	size_t room = l->window - l->under_way, written = 0, first;
	struct buf all = {0};

	if (c->in_reset)
		return -EPIPE;
	if (l->under_way >= l->window)
		return -EAGAIN;
	for (int i = 0; i < count && written < room; i++) {
		size_t take = iov[i].iov_len < room - written ? iov[i].iov_len : room - written;

		buf_add(&all, iov[i].iov_base, take);
		written += take;
	}
	l->under_way += written;
	first = (size_t)world_between(0, written);
	if (first)
		piece_down(l, (struct str){all.data + all.head, first}, false);
	if (first < written)
		piece_down(l, (struct str){all.data + all.head + first, written - first}, false);
	buf_fini(&all);
	return (ssize_t)written;
}

ssize_t conn_write(struct conn *c, const void *bytes, size_t size)
{
	struct iovec iov = {(void *)(uintptr_t)bytes, size};

	return conn_writev(c, &iov, 1);
}

struct str conn_alpn(const struct conn *c)
{
	(void)c;
	return STR("");
}

const char *conn_peer(const struct conn *c)
{
	(void)c;
	return "10.0.0.1";
}

uint16_t conn_peer_port(const struct conn *c)
{
	(void)c;
	return PORT;
}

/* ── what is not there ── */

struct conn *conn_connect(struct loop *loop, const char *host, uint16_t port, struct tls *tls,
			  const char *server_name, const struct conn_ops *ops, void *ctx)
{
	(void)loop;
	(void)host;
	(void)port;
	(void)tls;
	(void)server_name;
	(void)ops;
	(void)ctx;
	must(!"nothing connects in the world");
	return NULL;
}

int tls_server_new(const char *cert_file, const char *key_file, const char *alpn,
		   const struct log *log, struct tls **ret_tls)
{
	(void)cert_file;
	(void)key_file;
	(void)alpn;
	(void)log;
	(void)ret_tls;
	return -EINVAL;
}

struct tls *tls_ref(struct tls *tls)
{
	return tls;
}

void tls_unref(struct tls *tls)
{
	must(!tls);
}

/* ── the listener ── */

int listener_open(struct loop *loop, const char *address, bool reuse_port,
		  void (*accepted)(void *ctx, int fd, const char *peer), void *ctx,
		  struct listener **ret_listener)
{
	struct listener *l = mem_new(struct listener);

	(void)address;
	(void)reuse_port;
	l->loop = loop;
	l->accepted = accepted;
	l->ctx = ctx;
	list_push_back(&listeners, &l->link);
	*ret_listener = l;
	return 0;
}

void listener_when_full(struct listener *listener, struct str answer,
			void (*full)(void *ctx, uint64_t refused))
{
	/* Descriptors do not run out here. */
	(void)listener;
	(void)answer;
	(void)full;
}

uint16_t listener_port(const struct listener *listener)
{
	(void)listener;
	return PORT;
}

void listener_close(struct listener *listener)
{
	if (listener)
		list_remove(&listener->link);
}

/* ── the client's end ── */

static void tell_end(struct line *l, bool reset)
{
	if (l->over || l->hung_up)
		return;
	l->over = true;
	buf_fini(&l->unread);
	l->ops->closed(l->ctx, reset);
}

static void read_on(struct line *l)
{
	struct buf bytes = l->unread;

	if (l->stalled || l->over || l->hung_up)
		return;
	l->unread = (struct buf){0};
	l->under_way -= bytes.len;
	if (l->conn)
		kick(l->conn);
	if (bytes.len)
		l->ops->data(l->ctx, buf_str(&bytes));
	buf_fini(&bytes);
	if (l->end_unread && !l->stalled)
		tell_end(l, false);
}

static void on_down(void *ctx)
{
	struct piece *p = ctx;
	struct line *l = p->line;

	if (!l->over && !l->hung_up) {
		buf_add_str(&l->unread, buf_str(&p->bytes));
		if (p->reset)
			tell_end(l, true);
		else if (!p->bytes.len)
			l->end_unread = true;
		read_on(l);
	}
	buf_fini(&p->bytes);
	mem_free(p);
}

static void piece_down(struct line *l, struct str bytes, bool reset)
{
	struct piece *p = mem_new(struct piece);

	p->line = l;
	p->reset = reset;
	buf_add_str(&p->bytes, bytes);
	world_at(wire_at(&l->down), NULL, on_down, p);
}

static void on_up(void *ctx)
{
	struct piece *p = ctx;
	struct conn *c = p->line->conn;

	if (c && !c->in_reset && !c->in_end && !p->line->lost) {
		buf_add_str(&c->in, buf_str(&p->bytes));
		c->in_reset = p->reset;
		c->in_end = !p->reset && !p->bytes.len;
		kick(c);
	}
	buf_fini(&p->bytes);
	mem_free(p);
}

static void piece_up(struct line *l, struct str bytes, bool reset)
{
	struct piece *p = mem_new(struct piece);

	p->line = l;
	p->reset = reset;
	buf_add_str(&p->bytes, bytes);
	world_at(wire_at(&l->up), l->loop, on_up, p);
}

static void on_refused(void *ctx)
{
	tell_end(ctx, true);
}

static void on_syn(void *ctx)
{
	struct line *l = ctx;

	list_each (&listeners, at) {
		struct listener *listener = container_of(at, struct listener, link);

		if (listener->loop != l->loop)
			continue;
		arriving = l;
		listener->accepted(listener->ctx, ANY_FD, "10.0.0.1");
		if (!arriving)
			return;
		arriving = NULL;
		break;
	}
	world_in(world_delay_us(), NULL, on_refused, l);
}

struct line *line_open(struct loop *loop, size_t window, const struct line_ops *ops, void *ctx)
{
	struct line *l = mem_new(struct line);

	l->loop = loop;
	l->window = window;
	l->ops = ops;
	l->ctx = ctx;
	world_at(wire_at(&l->up), loop, on_syn, l);
	return l;
}

void line_send(struct line *l, struct str bytes)
{
	size_t first = (size_t)world_between(0, bytes.len);

	if (l->over || l->hung_up)
		return;
	if (first)
		piece_up(l, (struct str){bytes.ptr, first}, false);
	if (first < bytes.len)
		piece_up(l, (struct str){bytes.ptr + first, bytes.len - first}, false);
}

void line_stall(struct line *l, bool stall)
{
	l->stalled = stall;
	read_on(l);
}

void line_end(struct line *l)
{
	if (l->over || l->hung_up)
		return;
	piece_up(l, STR(""), false);
}

void line_cut(struct line *l)
{
	if (l->hung_up)
		return;
	l->hung_up = true;
	if (world_between(0, 1)) /* the reset overtakes some of what is on its way */
		l->up.last_us = world->now_us;
	piece_up(l, STR(""), true);
}

void line_vanish(struct line *l)
{
	l->hung_up = true;
	l->lost = true;
}

bool line_gone(const struct line *l)
{
	return l->loop->dead;
}
