/* What the tests of lib/store share: a loop that is turned until something holds, checks that count, and real servers in
 * folders of their own, ended by the process id that was recorded when they were started. */
#ifndef SLUICE_TESTS_STORE_PARTS_H
#define SLUICE_TESTS_STORE_PARTS_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/net/loop.h"

struct parts {
	struct loop *loop;
	struct log_sink sink;
	struct log log;
	char dir[64];
	uint16_t port;
	pid_t pid;
	int passed;
	int failed;
};

static inline void parts_init(struct parts *p)
{
	*p = (struct parts){.loop = loop_new(1), .sink = {.fd = 2, .level = LOG_ERROR}};
	if (getenv("VERBOSE"))
		p->sink.level = LOG_DEBUG;
	p->log.sink = &p->sink;
	snprintf(p->dir, sizeof(p->dir), "/tmp/sluice-store-XXXXXX");
	if (!mkdtemp(p->dir))
		exit(2);
	signal(SIGPIPE, SIG_IGN);
}

/* A claim of the test: its sentence is printed. */
static inline void claim(struct parts *p, bool holds, const char *sentence)
{
	printf("%s %s\n", holds ? "ok    " : "FAILED", sentence);
	fflush(stdout);
	if (holds)
		p->passed++;
	else
		p->failed++;
}

/* Turns the loop until *@flag is at least @want; false after @limit_ms. */
static inline bool turn_until(struct parts *p, const int *flag, int want, uint64_t limit_ms)
{
	uint64_t end = loop_fresh_us(p->loop) + limit_ms * US_PER_MS;

	while (*flag < want) {
		if (loop_fresh_us(p->loop) > end)
			return false;
		loop_turn(p->loop, 10 * US_PER_MS);
	}
	return true;
}

static inline uint16_t free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || getsockname(fd, (void *)&a, &size))
		exit(2);
	close(fd);
	return ntohs(a.sin_port);
}

static inline pid_t start(char *const argv[])
{
	pid_t pid = fork();

	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		execvp(argv[0], argv);
		_exit(127);
	}
	return pid;
}

static inline int run(char *const argv[])
{
	pid_t pid = start(argv);
	int status = -1;

	waitpid(pid, &status, 0);
	return status;
}

static inline void stop(struct parts *p, int signum)
{
	if (p->pid <= 0)
		return;
	kill(p->pid, signum);
	waitpid(p->pid, NULL, 0);
	p->pid = 0;
}

static inline int parts_end(struct parts *p)
{
	char *argv[] = {"rm", "-rf", p->dir, NULL};

	stop(p, SIGTERM);
	loop_free(p->loop);
	run(argv);
	printf("%d passed, %d failed\n", p->passed, p->failed);
	return p->failed ? 1 : 0;
}

#endif
