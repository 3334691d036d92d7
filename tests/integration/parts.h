/* What the programs here share: claims that are counted, the time, a loop that is turned until something holds, a port. */
#ifndef SLUICE_TESTS_PARTS_H
#define SLUICE_TESTS_PARTS_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/net/loop.h"

struct claims {
	int passed;
	int failed;
};

/* Prints the sentence and whether it holds. @about: where in the program; NULL or "" for nowhere. */
static inline void claims_note(struct claims *c, bool holds, const char *about,
			       const char *sentence)
{
	bool named = about && *about;

	printf("%s %s%s%s\n", holds ? "ok     " : "not ok ", named ? about : "", named ? ": " : "",
	       sentence);
	fflush(stdout);
	if (holds)
		c->passed++;
	else
		c->failed++;
}

/* Prints the last line; what main returns. */
static inline int claims_end(const struct claims *c)
{
	printf("%d passed, %d failed\n", c->passed, c->failed);
	return c->failed ? 1 : 0;
}

static inline uint64_t clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Turns the loop until @holds; false where it does not within @limit_us. */
#define turn_loop_until(loop, holds, limit_us)                    \
	({                                                        \
		uint64_t end_ = loop_fresh_us(loop) + (limit_us); \
		while (!(holds) && loop_fresh_us(loop) < end_)    \
			loop_turn((loop), 10 * US_PER_MS);        \
		(holds);                                          \
	})

static inline void turn_loop_for(struct loop *loop, uint64_t ms)
{
	uint64_t until = clock_ms() + ms;

	while (clock_ms() < until)
		loop_turn(loop, 5 * US_PER_MS);
}

static inline uint16_t free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || getsockname(fd, (void *)&a, &size))
		exit(2);
	close(fd);
	return ntohs(a.sin_port);
}

#endif
