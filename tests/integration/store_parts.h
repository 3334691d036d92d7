/* What the tests of lib/store share: real servers in folders of their own, ended by the process id that was recorded when they were started. */
#ifndef SLUICE_TESTS_STORE_PARTS_H
#define SLUICE_TESTS_STORE_PARTS_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "lib/base/log.h"
#include "tests/integration/parts.h"

struct parts {
	struct loop *loop;
	struct log_sink sink;
	struct log log;
	char dir[64];
	uint16_t port;
	pid_t pid;
	struct claims claims;
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

static inline void claim(struct parts *p, bool holds, const char *sentence)
{
	claims_note(&p->claims, holds, NULL, sentence);
}

/* Turns the loop until *@flag is at least @want; false after @limit_ms. */
static inline bool turn_until(struct parts *p, const int *flag, int want, uint64_t limit_ms)
{
	return turn_loop_until(p->loop, *flag >= want, limit_ms * US_PER_MS);
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
	return claims_end(&p->claims);
}

#endif
