#include "lib/net/resolve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/err.h"
#include "lib/base/mem.h"
#include "lib/net/loop.h"

/* What the thread and the loop hold together; the last one frees it. The thread writes, then
 * signals; the loop reads after the signal. */
struct query {
	atomic_int refs;
	int fd;
	char host[256];
	char port[8];
	int flags;
	struct resolve_addr addrs[RESOLVE_MAX];
	int count;
	int error;
	char detail[128];
};

struct resolve {
	struct query *query;
	struct watch *watch;
	struct task fail; /* where no thread could be made */
	void (*done)(void *ctx, const struct resolve_addr *addrs, int count, int error,
		     const char *detail);
	void *ctx;
};

static void query_unref(struct query *q)
{
	if (atomic_fetch_sub(&q->refs, 1) != 1)
		return;
	if (q->fd >= 0)
		close(q->fd);
	mem_free(q);
}

static void query_ask(struct query *q)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = q->flags};
	struct addrinfo *list = NULL;
	int r = getaddrinfo(q->host, q->port, &hints, &list);
	if (r != 0) {
		q->error = r == EAI_AGAIN ? -EAGAIN : -EHOSTUNREACH;
		snprintf(q->detail, sizeof(q->detail), "name does not resolve: %s",
			 gai_strerror(r));
		return;
	}
	for (struct addrinfo *a = list; a && q->count < RESOLVE_MAX; a = a->ai_next) {
		memcpy(&q->addrs[q->count].addr, a->ai_addr, a->ai_addrlen);
		q->addrs[q->count++].len = a->ai_addrlen;
	}
	freeaddrinfo(list);
}

static void *query_run(void *arg)
{
	struct query *q = arg;
	query_ask(q);
	uint64_t one = 1;
	ssize_t ignored = write(q->fd, &one, sizeof(one));
	(void)ignored;
	query_unref(q);
	return NULL;
}

static void resolve_free(struct resolve *r)
{
	task_cancel(&r->fail);
	watch_close(r->watch);
	query_unref(r->query);
	mem_free(r);
}

static void resolve_finish(struct resolve *r)
{
	/* The owner forgets us in its callback; our memory goes afterwards. */
	r->done(r->ctx, r->query->addrs, r->query->count, r->query->error, r->query->detail);
	resolve_free(r);
}

static void on_answer(void *ctx, unsigned events)
{
	(void)events;
	resolve_finish(ctx);
}

static void on_fail(struct task *t)
{
	resolve_finish(container_of(t, struct resolve, fail));
}

static int thread_start(struct query *q)
{
	pthread_attr_t attr;
	pthread_t thread;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 256 * 1024);
	atomic_fetch_add(&q->refs, 1);
	int r = pthread_create(&thread, &attr, query_run, q);
	pthread_attr_destroy(&attr);
	if (r != 0)
		atomic_fetch_sub(&q->refs, 1);
	return -r;
}

struct resolve *resolve_start(struct loop *loop, const char *host, uint16_t port,
			      void (*done)(void *ctx, const struct resolve_addr *addrs, int count,
					   int error, const char *detail),
			      void *ctx)
{
	struct resolve *r = mem_new(struct resolve);
	struct query *q = mem_new(struct query);
	r->query = q;
	r->done = done;
	r->ctx = ctx;
	task_init(&r->fail, loop, on_fail);
	atomic_init(&q->refs, 1);
	snprintf(q->host, sizeof(q->host), "%s", host);
	snprintf(q->port, sizeof(q->port), "%u", port);
	q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	unsigned char literal[16];
	if (inet_pton(AF_INET, host, literal) == 1 || inet_pton(AF_INET6, host, literal) == 1) {
		q->flags = AI_NUMERICHOST;
		query_ask(q);
		task_post(&r->fail);
		return r;
	}
	if (q->fd >= 0)
		r->watch = watch_open(loop, q->fd, on_answer, r);
	int error = r->watch ? 0 : -EMFILE;
	if (error == 0) {
		watch_set(r->watch, WATCH_READ);
		error = thread_start(q);
	}
	if (error < 0) {
		q->error = error;
		snprintf(q->detail, sizeof(q->detail), "no thread for name resolution");
		task_post(&r->fail);
	}
	return r;
}

void resolve_cancel(struct resolve *r)
{
	if (r)
		resolve_free(r);
}
