/* A stream socket on the loop, plain or TLS (OpenSSL), accepted or connected. Reads and writes are the owner's calls;
 * the conn says when they are possible. It refuses to buffer: what does not fit stays with the owner.
 * TCP_NODELAY is always on. TLS: 1.2 or newer; a client verifies certificate and name. */
#ifndef SLUICE_NET_CONN_H
#define SLUICE_NET_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "lib/base/err.h"
#include "lib/base/log.h"
#include "lib/base/str.h"

struct loop;
struct conn;
struct
    tls; /* a TLS context: certificates, trust, ALPN offers; shared by conns, reference-counted */

/* Server: @alpn is a comma-separated list in order of preference ("h2,http/1.1"). -EINVAL with a log line where the
 * files do not parse. */
must_check int tls_server_new(const char *cert_file, const char *key_file, const char *alpn,
			      const struct log *log, struct tls **ret_tls);
/* Client: @ca_file NULL trusts the system's store. */
must_check int tls_client_new(const char *ca_file, const char *alpn, const struct log *log,
			      struct tls **ret_tls);
struct tls *tls_ref(struct tls *tls);
void tls_unref(struct tls *tls); /* accepts NULL */

enum conn_events { CONN_READABLE = 1, CONN_WRITABLE = 2 };

struct conn_ops {
	/* Connected and, with TLS, verified; or ready after accept and handshake. */
	void (*open)(void *ctx, struct conn *conn);
	/* Asked-for events hold (CONN_… bits). Level-triggered: comes again while they hold and are asked for. */
	void (*ready)(void *ctx, struct conn *conn, unsigned events);
	/* Connecting or the handshake failed, with -errno (-ECONNREFUSED, -ETIMEDOUT, -EPROTO for TLS) and a text; the
	 * owner closes the conn. Failures after open are seen by read and write. */
	void (*failed)(void *ctx, struct conn *conn, int error, const char *detail);
};

/* Takes an accepted, non-blocking @fd. ops.open comes from the loop. @tls NULL: plain. */
struct conn *conn_accept(struct loop *loop, int fd, struct tls *tls, const struct conn_ops *ops,
			 void *ctx);
/* Connects to @host (name or address) and @port; names resolve on another thread; all addresses are tried in turn.
 * @server_name: for SNI and verification (NULL: @host). */
struct conn *conn_connect(struct loop *loop, const char *host, uint16_t port, struct tls *tls,
			  const char *server_name, const struct conn_ops *ops, void *ctx);
/* Closes (with close_notify where it fits); no callback afterwards; accepts NULL. */
void conn_close(struct conn *conn);
/* Says that nothing more will be written (close_notify, FIN); reading goes on. */
void conn_shutdown(struct conn *conn);
/* Closes with RST instead of FIN. */
void conn_reset(struct conn *conn);
void conn_set_ctx(struct conn *conn, const struct conn_ops *ops, void *ctx);
/* What to wait for: CONN_… bits. */
void conn_want(struct conn *conn, unsigned events);

/* Bytes read, 0 at the orderly end, -EAGAIN, or -errno. */
must_check ssize_t conn_read(struct conn *conn, void *into, size_t size);
/* True where TLS holds bytes that were received already: reading on costs no system call. */
bool conn_pending(const struct conn *conn);
/* Bytes written (may be less), -EAGAIN, or -errno. */
must_check ssize_t conn_write(struct conn *conn, const void *bytes, size_t size);
must_check ssize_t conn_writev(struct conn *conn, const struct iovec *iov, int count);
/* The chosen ALPN protocol; empty without TLS or choice. */
struct str conn_alpn(const struct conn *conn);
/* "127.0.0.1" and the port. */
const char *conn_peer(const struct conn *conn);
uint16_t conn_peer_port(const struct conn *conn);

/* A listening socket: backlog 8192, accepts in a loop until it would block (at most 256 a turn). What it accepts holds at
 * most 32 KiB that the peer has no room for (TCP_NOTSENT_LOWAT): the rest stays with the owner. */
struct listener;
/* @address: "127.0.0.1:8080", "[::1]:0". @accepted gets a non-blocking descriptor with TCP_NODELAY and owns it.
 * Returns -errno, -EINVAL for a bad address. */
must_check int listener_open(struct loop *loop, const char *address, bool reuse_port,
			     void (*accepted)(void *ctx, int fd, const char *peer), void *ctx,
			     struct listener **ret_listener);
/* What happens to callers while the process, or the system, has no descriptor left: they are accepted with one that was kept for that,
 * sent @answer (empty: nothing; copied by reference, it lives as long as the listener) and closed. Without this call they wait in
 * the kernel's line, as they do where not even that one can be had. @full (may be NULL) comes with the first and then at
 * most every 10 s, with the number refused since, as @ctx of listener_open. */
void listener_when_full(struct listener *listener, struct str answer,
			void (*full)(void *ctx, uint64_t refused));
uint16_t listener_port(const struct listener *listener);
void listener_close(struct listener *listener); /* accepts NULL */

#endif
