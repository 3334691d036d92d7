#include "lib/net/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/net/loop.h"
#include "lib/net/resolve.h"
#include "lib/net/tls.h"

enum conn_state { CONN_RESOLVING, CONN_CONNECTING, CONN_SHAKING, CONN_OPEN, CONN_FAILED };

/* What only an outgoing connection needs, and only until it is open. */
struct dial {
	struct resolve *resolve;
	struct resolve_addr addrs[RESOLVE_MAX];
	int count;
	int next;
	char *server_name;
};

struct conn {
	struct loop *loop;
	const struct conn_ops *ops;
	void *ctx;
	SSL *ssl;
	struct tls *tls;
	struct watch *watch;
	struct dial *dial;
	struct task
	    again; /* opens what was accepted plain, and tells of bytes that wait inside TLS */
	int fd;
	enum conn_state state;
	uint16_t peer_port;
	uint8_t want;
	bool read_needs_write; /* TLS: the last read wanted the socket writable */
	bool write_needs_read;
	bool starved; /* TLS: what it holds is less than a record */
	bool broken;  /* TLS failed: no shutdown may be sent */
	int error;
	char peer[INET6_ADDRSTRLEN];
};

static void on_watch(void *ctx, unsigned events);

static void dial_free(struct dial *d)
{
	if (!d)
		return;
	resolve_cancel(d->resolve);
	mem_free(d->server_name);
	mem_free(d);
}

static void peer_set(struct conn *c, const struct sockaddr_storage *addr)
{
	const void *bytes;
	if (addr->ss_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)addr;
		bytes = &v6->sin6_addr;
		c->peer_port = ntohs(v6->sin6_port);
	} else {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)addr;
		bytes = &v4->sin_addr;
		c->peer_port = ntohs(v4->sin_port);
	}
	if (!inet_ntop(addr->ss_family, bytes, c->peer, sizeof(c->peer)))
		strcpy(c->peer, "?");
}

bool conn_pending(const struct conn *c)
{
	return c->ssl && !c->starved && SSL_has_pending(c->ssl);
}

/* Sets what the socket is watched for, from what is wanted and what TLS needs for it. */
static void conn_rewatch(struct conn *c)
{
	unsigned events = 0;
	if (c->want & CONN_READABLE)
		events |= c->read_needs_write ? WATCH_WRITE : WATCH_READ;
	if (c->want & CONN_WRITABLE)
		events |= c->write_needs_read ? WATCH_READ : WATCH_WRITE;
	watch_set(c->watch, events);
	if ((c->want & CONN_READABLE) && conn_pending(c) && !c->read_needs_write)
		task_post(&c->again);
}

static void conn_fail(struct conn *c, int error, const char *detail)
{
	c->state = CONN_FAILED;
	c->broken = true;
	task_cancel(&c->again);
	if (c->watch)
		watch_set(c->watch, 0);
	c->ops->failed(c->ctx, c, error, detail);
}

static void conn_opened(struct conn *c)
{
	dial_free(c->dial);
	c->dial = NULL;
	c->state = CONN_OPEN;
	watch_set(c->watch, 0);
	c->ops->open(c->ctx, c);
}

static void conn_shake(struct conn *c)
{
	char text[160];
	ERR_clear_error();
	errno = 0;
	int r = SSL_do_handshake(c->ssl);
	if (r == 1) {
		conn_opened(c);
		return;
	}
	int why = SSL_get_error(c->ssl, r);
	if (why == SSL_ERROR_WANT_READ) {
		watch_set(c->watch, WATCH_READ);
	} else if (why == SSL_ERROR_WANT_WRITE) {
		watch_set(c->watch, WATCH_WRITE);
	} else {
		int error = why == SSL_ERROR_SYSCALL && errno ? -errno : -EPROTO;
		tls_error_text(c->ssl, text, sizeof(text));
		conn_fail(c, error, text);
	}
}

/* The transport is there: TLS comes next, or the owner. */
static void conn_transport_ready(struct conn *c)
{
	if (!c->tls) {
		conn_opened(c);
		return;
	}
	c->ssl = tls_session(c->tls, c->fd, c->dial ? c->dial->server_name : NULL);
	if (!c->ssl) {
		conn_fail(c, -ENOMEM, "no TLS session");
		return;
	}
	c->state = CONN_SHAKING;
	conn_shake(c);
}

static void dial_next(struct conn *c);

static void on_connected(struct conn *c)
{
	int error = 0;
	socklen_t len = sizeof(error);
	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error == 0) {
		conn_transport_ready(c);
		return;
	}
	c->error = -error;
	dial_next(c);
}

static void socket_close(struct conn *c)
{
	watch_close(c->watch);
	c->watch = NULL;
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

/* Begins to connect to @to; -errno where that fails at once. */
static int dial_try(struct conn *c, const struct resolve_addr *to)
{
	int one = 1;
	peer_set(c, &to->addr);
	c->fd = socket(to->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -errno;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(c->fd, (const struct sockaddr *)&to->addr, to->len) < 0 && errno != EINPROGRESS)
		return -errno;
	c->watch = watch_open(c->loop, c->fd, on_watch, c);
	if (!c->watch)
		return -EMFILE;
	watch_set(c->watch, WATCH_WRITE);
	return 0;
}

static void dial_next(struct conn *c)
{
	char text[96];
	c->state = CONN_CONNECTING;
	while (c->dial->next < c->dial->count) {
		socket_close(c);
		int r = dial_try(c, &c->dial->addrs[c->dial->next++]);
		if (r == 0)
			return;
		c->error = r;
	}
	snprintf(text, sizeof(text), "%s:%u: %s", c->peer, c->peer_port, strerror(-c->error));
	conn_fail(c, c->error, text);
}

static void on_resolved(void *ctx, const struct resolve_addr *addrs, int count, int error,
			const char *detail)
{
	struct conn *c = ctx;
	c->dial->resolve = NULL;
	if (count == 0) {
		conn_fail(c, error ? error : -EHOSTUNREACH, detail);
		return;
	}
	memcpy(c->dial->addrs, addrs, (size_t)count * sizeof(*addrs));
	c->dial->count = count;
	dial_next(c);
}

static void on_open_event(struct conn *c, unsigned events)
{
	unsigned say = 0;
	c->starved = false;
	if ((c->want & CONN_READABLE) &&
	    (events & (c->read_needs_write ? WATCH_WRITE : WATCH_READ)))
		say |= CONN_READABLE;
	if ((c->want & CONN_WRITABLE) &&
	    (events & (c->write_needs_read ? WATCH_READ : WATCH_WRITE)))
		say |= CONN_WRITABLE;
	if (say)
		c->ops->ready(c->ctx, c, say);
}

static void on_watch(void *ctx, unsigned events)
{
	struct conn *c = ctx;
	switch (c->state) {
	case CONN_CONNECTING:
		on_connected(c);
		break;
	case CONN_SHAKING:
		conn_shake(c);
		break;
	case CONN_OPEN:
		on_open_event(c, events);
		break;
	case CONN_RESOLVING:
	case CONN_FAILED:
		break;
	}
}

static void on_again(struct task *t)
{
	struct conn *c = container_of(t, struct conn, again);
	if (c->state != CONN_OPEN || !(c->want & CONN_READABLE))
		return;
	if (conn_pending(c)) {
		/* Posted before the owner is told: he may close us. */
		task_post(&c->again);
		c->ops->ready(c->ctx, c, CONN_READABLE);
	}
}

static void on_accepted(struct task *t)
{
	struct conn *c = container_of(t, struct conn, again);
	task_init(&c->again, c->loop, on_again);
	if (c->watch)
		conn_transport_ready(c);
	else
		conn_fail(c, -EMFILE, "the socket cannot be watched");
}

static struct conn *conn_make(struct loop *loop, struct tls *tls, const struct conn_ops *ops,
			      void *ctx)
{
	struct conn *c = mem_new(struct conn);
	c->loop = loop;
	c->ops = ops;
	c->ctx = ctx;
	c->fd = -1;
	c->tls = tls ? tls_ref(tls) : NULL;
	return c;
}

struct conn *conn_accept(struct loop *loop, int fd, struct tls *tls, const struct conn_ops *ops,
			 void *ctx)
{
	struct conn *c = conn_make(loop, tls, ops, ctx);
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	c->fd = fd;
	c->state = CONN_CONNECTING;
	strcpy(c->peer, "?");
	if (getpeername(fd, (struct sockaddr *)&addr, &len) == 0 &&
	    (addr.ss_family == AF_INET || addr.ss_family == AF_INET6))
		peer_set(c, &addr);
	c->watch = watch_open(loop, fd, on_watch, c);
	task_init(&c->again, loop, on_accepted);
	task_post(&c->again);
	return c;
}

struct conn *conn_connect(struct loop *loop, const char *host, uint16_t port, struct tls *tls,
			  const char *server_name, const struct conn_ops *ops, void *ctx)
{
	struct conn *c = conn_make(loop, tls, ops, ctx);
	c->state = CONN_RESOLVING;
	c->dial = mem_new(struct dial);
	c->dial->server_name = mem_strdup(server_name ? server_name : host);
	snprintf(c->peer, sizeof(c->peer), "%.45s", host);
	c->peer_port = port;
	task_init(&c->again, loop, on_again);
	c->dial->resolve = resolve_start(loop, host, port, on_resolved, c);
	return c;
}

static void conn_free(struct conn *c)
{
	task_cancel(&c->again);
	dial_free(c->dial);
	SSL_free(c->ssl);
	tls_unref(c->tls);
	socket_close(c);
	mem_free(c);
}

void conn_close(struct conn *c)
{
	if (!c)
		return;
	if (c->ssl && c->state == CONN_OPEN && !c->broken) {
		ERR_clear_error();
		SSL_shutdown(c->ssl);
		ERR_clear_error();
	}
	conn_free(c);
}

void conn_shutdown(struct conn *c)
{
	if (c->state != CONN_OPEN)
		return;
	if (c->ssl && !c->broken) {
		ERR_clear_error();
		SSL_shutdown(c->ssl);
		ERR_clear_error();
	}
	shutdown(c->fd, SHUT_WR);
}

void conn_reset(struct conn *c)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};
	if (!c)
		return;
	if (c->fd >= 0)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	conn_free(c);
}

void conn_set_ctx(struct conn *c, const struct conn_ops *ops, void *ctx)
{
	c->ops = ops;
	c->ctx = ctx;
}

void conn_want(struct conn *c, unsigned events)
{
	c->want = (uint8_t)events;
	if (c->state == CONN_OPEN)
		conn_rewatch(c);
}

/* What OpenSSL's @r of a read or write means, as our contract says it. */
static ssize_t tls_result(struct conn *c, int r, bool *ret_crossed, int crossed)
{
	int system = errno;
	int why = SSL_get_error(c->ssl, r);
	bool was = *ret_crossed;
	*ret_crossed = why == crossed;
	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
		if (was != *ret_crossed)
			conn_rewatch(c);
		return -EAGAIN;
	}
	if (why == SSL_ERROR_ZERO_RETURN)
		return 0;
	c->broken = true;
	ERR_clear_error();
	return why == SSL_ERROR_SYSCALL && system ? -system : -ECONNRESET;
}

ssize_t conn_read(struct conn *c, void *into, size_t size)
{
	if (c->state != CONN_OPEN)
		return -ENOTCONN;
	if (!c->ssl) {
		ssize_t n = recv(c->fd, into, size, 0);
		if (n >= 0)
			return n;
		return errno == EINTR ? -EAGAIN : -errno;
	}
	ERR_clear_error();
	errno = 0;
	int r = SSL_read(c->ssl, into, size > INT32_MAX ? INT32_MAX : (int)size);
	c->starved = r <= 0;
	if (r <= 0)
		return tls_result(c, r, &c->read_needs_write, SSL_ERROR_WANT_WRITE);
	c->read_needs_write = false;
	if ((c->want & CONN_READABLE) && conn_pending(c))
		task_post(&c->again);
	return r;
}

ssize_t conn_write(struct conn *c, const void *bytes, size_t size)
{
	if (c->state != CONN_OPEN)
		return -ENOTCONN;
	if (size == 0)
		return 0;
	if (!c->ssl) {
		ssize_t n = send(c->fd, bytes, size, MSG_NOSIGNAL);
		if (n >= 0)
			return n;
		return errno == EINTR ? -EAGAIN : -errno;
	}
	ERR_clear_error();
	errno = 0;
	int r = SSL_write(c->ssl, bytes, size > INT32_MAX ? INT32_MAX : (int)size);
	if (r > 0) {
		c->write_needs_read = false;
		return r;
	}
	ssize_t n = tls_result(c, r, &c->write_needs_read, SSL_ERROR_WANT_READ);
	return n == 0 ? -EPIPE : n;
}

/* One TLS record's worth is gathered, so that small pieces share a record. */
static ssize_t tls_writev(struct conn *c, const struct iovec *iov, int count)
{
	char record[16384];
	size_t len = 0;
	if (count > 0 && (count == 1 || iov[0].iov_len >= sizeof(record)))
		return conn_write(c, iov[0].iov_base, iov[0].iov_len);
	for (int i = 0; i < count && len < sizeof(record); i++) {
		size_t take = sizeof(record) - len;
		if (take > iov[i].iov_len)
			take = iov[i].iov_len;
		memcpy(record + len, iov[i].iov_base, take);
		len += take;
	}
	return conn_write(c, record, len);
}

ssize_t conn_writev(struct conn *c, const struct iovec *iov, int count)
{
	if (c->state != CONN_OPEN)
		return -ENOTCONN;
	if (c->ssl)
		return tls_writev(c, iov, count);
	struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
	ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL);
	if (n >= 0)
		return n;
	return errno == EINTR ? -EAGAIN : -errno;
}

struct str conn_alpn(const struct conn *c)
{
	const unsigned char *name = NULL;
	unsigned int len = 0;
	if (c->ssl)
		SSL_get0_alpn_selected(c->ssl, &name, &len);
	return (struct str){(const char *)name, len};
}

const char *conn_peer(const struct conn *c)
{
	return c->peer;
}

uint16_t conn_peer_port(const struct conn *c)
{
	return c->peer_port;
}
