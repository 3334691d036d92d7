#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/net/conn.h"
#include "lib/net/loop.h"

#define BACKLOG 8192
#define ACCEPTS_PER_TURN 256
/* What a socket may hold that the peer has no room for: what is more stays with its owner, who knows what can be merged or
 * dropped. The kernel alone would take megabytes for each peer that does not read. */
#define UNSENT_BYTES (32 << 10)
/* Out of descriptors, the spare one too: look again after this; the kernel keeps the callers in its line. */
#define PAUSE_US (100 * US_PER_MS)
/* How often the owner is told that callers are refused. */
#define TELL_US (10 * US_PER_S)

struct listener {
	int fd;
	uint16_t port;
	struct watch *watch;
	struct timer pause;
	void (*accepted)(void *ctx, int fd, const char *peer);
	void *ctx;
	int spare;   /* a descriptor that is given up for a caller who is refused; -1: none */
	bool spares; /* one is kept */
	struct str answer;
	void (*full)(void *ctx, uint64_t refused);
	uint64_t refused; /* since it was told */
	struct timer tell;
	bool accepting; /* inside callbacks: the memory stays until they ended */
	bool closed;
};

static int address_parse(const char *address, struct sockaddr_storage *ret_addr, socklen_t *ret_len)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ret_addr;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret_addr;
	const char *colon = strrchr(address, ':');
	char host[64];
	uint64_t port;
	if (!colon || !str_u64(str_of(colon + 1), &port) || port > 65535)
		return -EINVAL;
	size_t len = (size_t)(colon - address);
	bool brackets = len >= 2 && address[0] == '[' && address[len - 1] == ']';
	if (brackets) {
		address++;
		len -= 2;
	}
	if (len >= sizeof(host))
		return -EINVAL;
	memcpy(host, address, len);
	host[len] = '\0';
	memset(ret_addr, 0, sizeof(*ret_addr));
	if (brackets && inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)port);
		*ret_len = sizeof(*v6);
		return 0;
	}
	if (!brackets && inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		*ret_len = sizeof(*v4);
		return 0;
	}
	return -EINVAL;
}

static void peer_text(const struct sockaddr_storage *addr, char out[static INET6_ADDRSTRLEN])
{
	const void *bytes = addr->ss_family == AF_INET6
				? (const void *)&((const struct sockaddr_in6 *)addr)->sin6_addr
				: (const void *)&((const struct sockaddr_in *)addr)->sin_addr;
	if (!inet_ntop(addr->ss_family, bytes, out, INET6_ADDRSTRLEN))
		strcpy(out, "?");
}

static void keep_spare(struct listener *l)
{
	if (l->spares && l->spare < 0)
		l->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void on_pause(struct timer *t)
{
	struct listener *l = container_of(t, struct listener, pause);
	keep_spare(l);
	watch_set(l->watch, WATCH_READ);
}

static void tell_full(struct listener *l)
{
	uint64_t refused = l->refused;

	l->refused = 0;
	timer_set(&l->tell, TELL_US);
	if (l->full)
		l->full(l->ctx, refused);
}

static void on_tell(struct timer *t)
{
	struct listener *l = container_of(t, struct listener, tell);

	if (l->refused)
		tell_full(l);
}

/* Accepts a caller on the spare descriptor, tells him and closes. Returns 0, or what accept4 said: EAGAIN where nobody calls. */
static int refuse(struct listener *l)
{
	char unread[4096];
	int fd, error;

	if (l->spare < 0)
		return EMFILE;
	close(l->spare);
	l->spare = -1;
	fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	error = fd < 0 ? errno : 0;
	if (fd >= 0) {
		/* What he said already is taken, or he might get a reset and no answer. */
		(void)!recv(fd, unread, sizeof(unread), 0);
		(void)!send(fd, l->answer.ptr, l->answer.len, MSG_NOSIGNAL);
		shutdown(fd, SHUT_WR);
		close(fd);
		l->refused++;
	}
	keep_spare(l);
	if (fd >= 0 && !timer_is_set(&l->tell))
		tell_full(l);
	return error;
}

static bool out_of_descriptors(int error)
{
	return error == EMFILE || error == ENFILE;
}

static void on_acceptable(void *ctx, unsigned events)
{
	struct listener *l = ctx;
	(void)events;
	l->accepting = true;
	for (int i = 0; i < ACCEPTS_PER_TURN && !l->closed; i++) {
		struct sockaddr_storage addr;
		socklen_t len = sizeof(addr);
		char peer[INET6_ADDRSTRLEN];
		int fd =
		    accept4(l->fd, (struct sockaddr *)&addr, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		int error = fd < 0 ? errno : 0;
		if (out_of_descriptors(error)) {
			error = refuse(l);
			if (!error)
				continue;
		}
		if (out_of_descriptors(error) || error == ENOBUFS || error == ENOMEM) {
			watch_set(l->watch, 0);
			timer_set(&l->pause, PAUSE_US);
			break;
		}
		if (error == EAGAIN)
			break;
		if (fd < 0) /* that caller went away */
			continue;
		peer_text(&addr, peer);
		l->accepted(l->ctx, fd, peer);
	}
	l->accepting = false;
	if (l->closed)
		mem_free(l);
}

static int listen_on(struct listener *l, const char *address, bool reuse_port)
{
	struct sockaddr_storage addr;
	socklen_t len;
	int one = 1, unsent = UNSENT_BYTES;
	if (address_parse(address, &addr, &len) < 0)
		return err_origin(-EINVAL);
	l->fd = socket(addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		return err_origin(-errno);
	setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (reuse_port && setsockopt(l->fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) < 0)
		return err_origin(-errno);
	/* Accepted sockets are born with these. */
	setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(l->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
	if (bind(l->fd, (struct sockaddr *)&addr, len) < 0 || listen(l->fd, BACKLOG) < 0)
		return err_origin(-errno);
	if (getsockname(l->fd, (struct sockaddr *)&addr, &len) < 0)
		return err_origin(-errno);
	l->port = ntohs(addr.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&addr)->sin6_port
						   : ((struct sockaddr_in *)&addr)->sin_port);
	return 0;
}

int listener_open(struct loop *loop, const char *address, bool reuse_port,
		  void (*accepted)(void *ctx, int fd, const char *peer), void *ctx,
		  struct listener **ret_listener)
{
	struct listener *l = mem_new(struct listener);
	l->fd = l->spare = -1;
	l->accepted = accepted;
	l->ctx = ctx;
	timer_init(&l->pause, loop, on_pause);
	timer_init(&l->tell, loop, on_tell);
	int r = listen_on(l, address, reuse_port);
	if (r == 0) {
		l->watch = watch_open(loop, l->fd, on_acceptable, l);
		r = l->watch ? 0 : err_origin(-EMFILE);
	}
	if (r < 0) {
		listener_close(l);
		return err_trace(r);
	}
	watch_set(l->watch, WATCH_READ);
	*ret_listener = l;
	return 0;
}

void listener_when_full(struct listener *l, struct str answer,
			void (*full)(void *ctx, uint64_t refused))
{
	l->answer = answer;
	l->full = full;
	l->spares = true;
	keep_spare(l);
}

uint16_t listener_port(const struct listener *l)
{
	return l->port;
}

void listener_close(struct listener *l)
{
	if (!l)
		return;
	timer_stop(&l->pause);
	timer_stop(&l->tell);
	if (l->spare >= 0)
		close(l->spare);
	watch_close(l->watch);
	if (l->fd >= 0)
		close(l->fd);
	l->closed = true;
	if (!l->accepting)
		mem_free(l);
}
