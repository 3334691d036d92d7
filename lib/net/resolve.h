/* Names to addresses: getaddrinfo on a thread of its own, the answer handed back through the loop.
 * Refuses to cache and to time out (the caller's clock does, by resolve_cancel). */
#ifndef SLUICE_NET_RESOLVE_H
#define SLUICE_NET_RESOLVE_H

#include <stdint.h>
#include <sys/socket.h>

struct loop;
struct resolve;

#define RESOLVE_MAX 8

struct resolve_addr {
	struct sockaddr_storage addr;
	socklen_t len;
};

/* @host is a name or a numeric address. @done comes from the loop, once: @count addresses (at most
 * RESOLVE_MAX, views for the time of the call), or count 0 with -errno and a text. The query frees
 * itself afterwards. */
struct resolve *resolve_start(struct loop *loop, const char *host, uint16_t port,
			      void (*done)(void *ctx, const struct resolve_addr *addrs, int count,
					   int error, const char *detail),
			      void *ctx);
/* No callback afterwards; the thread ends by itself. Accepts NULL. Not after @done has come. */
void resolve_cancel(struct resolve *resolve);

#endif
