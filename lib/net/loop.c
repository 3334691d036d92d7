#include "lib/net/loop.h"

#include <poll.h>
#include <sys/random.h>
#include <time.h>
#include <uv.h>

#include "lib/base/clock.h"
#include "lib/base/err.h"
#include "lib/base/mem.h"
#include "lib/net/loop_uv.h"

#define NEVER UINT64_MAX

struct loop {
	uv_loop_t uv;
	struct heap timers;
	struct list tasks;
	struct list signals;
	struct rand rand;
	uint64_t now_us;
	uint64_t wall_ms;
	size_t watches;
	bool turning;
	bool stop;
};

struct watch {
	uv_poll_t handle;
	struct loop *loop;
	void (*ready)(void *ctx, unsigned events);
	void *ctx;
	unsigned events;
};

struct signal_watch {
	uv_signal_t handle;
	struct list link;
	void (*handler)(void *ctx, int signum);
	void *ctx;
};

static uint64_t read_us(clockid_t clock)
{
	struct timespec t;

	must(clock_gettime(clock, &t) == 0);
	return (uint64_t)t.tv_sec * US_PER_S + (uint64_t)t.tv_nsec / 1000;
}

static void read_clocks(struct loop *loop)
{
	loop->now_us = read_us(CLOCK_MONOTONIC);
	loop->wall_ms = read_us(CLOCK_REALTIME) / US_PER_MS;
}

struct loop *loop_new(uint64_t seed)
{
	struct loop *loop = mem_new(struct loop);

	while (!seed)
		must(getrandom(&seed, sizeof(seed), 0) == (ssize_t)sizeof(seed));
	must(uv_loop_init(&loop->uv) == 0);
	list_init(&loop->tasks);
	list_init(&loop->signals);
	rand_init(&loop->rand, seed);
	read_clocks(loop);
	return loop;
}

static void signal_closed(uv_handle_t *handle)
{
	mem_free(container_of((uv_signal_t *)handle, struct signal_watch, handle));
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	must(!loop->watches);
	list_each (&loop->signals, at)
		uv_close((uv_handle_t *)&container_of(at, struct signal_watch, link)->handle,
			 signal_closed);
	uv_run(&loop->uv, UV_RUN_DEFAULT);
	must(uv_loop_close(&loop->uv) == 0);
	heap_fini(&loop->timers);
	mem_free(loop);
}

/* Micro-seconds until something is known to be due; NEVER where only the outside can wake the loop.
 */
static uint64_t time_to_wait(struct loop *loop)
{
	struct heap_node *top = heap_top(&loop->timers);
	uint64_t now = read_us(CLOCK_MONOTONIC);
	uint64_t wait = NEVER;
	int uv_ms = uv_loop_alive(&loop->uv) ? uv_backend_timeout(&loop->uv) : -1;

	if (!list_empty(&loop->tasks) || !uv_ms)
		return 0;
	if (uv_ms > 0)
		wait = (uint64_t)uv_ms * US_PER_MS;
	if (top && (top->key <= now || top->key - now < wait))
		wait = top->key <= now ? 0 : top->key - now;
	return wait;
}

/* Sleeps on libuv's own descriptor: its timers count in milliseconds, ours in micro-seconds. */
static void wait_for_events(struct loop *loop, uint64_t wait_us)
{
	struct pollfd backend = {.fd = uv_backend_fd(&loop->uv), .events = POLLIN};
	struct timespec timeout;

	if (!wait_us)
		return;
	if (wait_us != NEVER)
		timeout = (struct timespec){.tv_sec = (time_t)(wait_us / US_PER_S),
					    .tv_nsec = (long)(wait_us % US_PER_S * 1000)};
	ppoll(&backend, 1, wait_us == NEVER ? NULL : &timeout, NULL);
}

/* The timers that are due and were set before this round. */
static void run_timers(struct loop *loop)
{
	uint64_t round = loop->timers.order;
	struct heap_node *top;

	while ((top = heap_top(&loop->timers)) && top->key <= loop->now_us && top->order < round) {
		struct timer *t = container_of(top, struct timer, node);

		heap_remove(&loop->timers, top);
		t->fire(t);
	}
}

/* The tasks that were posted before this round. */
static void run_tasks(struct loop *loop)
{
	struct list round;
	struct task *t;

	if (list_empty(&loop->tasks))
		return;
	round = loop->tasks;
	round.next->prev = &round;
	round.prev->next = &round;
	list_init(&loop->tasks);
	while ((t = list_pop_front(&round, struct task, link)))
		t->run(t);
}

void loop_turn(struct loop *loop, uint64_t wait_us)
{
	uint64_t due_us = time_to_wait(loop);

	wait_for_events(loop, due_us < wait_us ? due_us : wait_us);
	read_clocks(loop);
	loop->turning = true;
	run_timers(loop);
	uv_run(&loop->uv, UV_RUN_NOWAIT);
	run_tasks(loop);
	loop->turning = false;
}

void loop_run(struct loop *loop)
{
	while (!loop->stop)
		loop_turn(loop, NEVER);
	loop->stop = false;
}

void loop_stop(struct loop *loop)
{
	loop->stop = true;
}

uint64_t loop_now_us(const struct loop *loop)
{
	return loop->now_us;
}

uint64_t loop_wall_ms(const struct loop *loop)
{
	return loop->wall_ms;
}

uint64_t loop_fresh_us(struct loop *loop)
{
	(void)loop;
	return read_us(CLOCK_MONOTONIC);
}

struct rand *loop_rand(struct loop *loop)
{
	return &loop->rand;
}

uv_loop_t *loop_uv(struct loop *loop)
{
	return &loop->uv;
}

void timer_init(struct timer *t, struct loop *loop, void (*fire)(struct timer *t))
{
	*t = (struct timer){.loop = loop, .fire = fire};
}

void timer_set(struct timer *t, uint64_t delay_us)
{
	struct loop *loop = t->loop;
	uint64_t due_us;

	/* Outside of a turn the clock may have been read long ago. */
	if (!loop->turning)
		read_clocks(loop);
	heap_remove(&loop->timers, &t->node);
	if (__builtin_add_overflow(loop->now_us, delay_us, &due_us))
		due_us = UINT64_MAX;
	heap_add(&loop->timers, &t->node, due_us);
}

void timer_stop(struct timer *t)
{
	if (heap_holds(&t->node))
		heap_remove(&t->loop->timers, &t->node);
}

void task_init(struct task *t, struct loop *loop, void (*run)(struct task *t))
{
	*t = (struct task){.loop = loop, .run = run};
	list_init(&t->link);
}

void task_post(struct task *t)
{
	if (!list_linked(&t->link))
		list_push_back(&t->loop->tasks, &t->link);
}

void task_cancel(struct task *t)
{
	list_remove(&t->link);
}

static void watch_event(uv_poll_t *handle, int status, int events)
{
	struct watch *w = container_of(handle, struct watch, handle);
	unsigned ready = 0;

	if (events & UV_READABLE)
		ready |= WATCH_READ;
	if (events & UV_WRITABLE)
		ready |= WATCH_WRITE;
	if (status < 0 || events & UV_DISCONNECT) {
		/* libuv lets go of a descriptor in error; a level-triggered watch does not. */
		unsigned wanted = w->events;

		w->events = 0;
		watch_set(w, wanted);
		ready = WATCH_READ | WATCH_WRITE;
	}
	w->ready(w->ctx, ready);
}

struct watch *watch_open(struct loop *loop, int fd, void (*ready)(void *ctx, unsigned events),
			 void *ctx)
{
	struct watch *w = mem_new(struct watch);

	if (uv_poll_init(&loop->uv, &w->handle, fd)) {
		mem_free(w);
		return NULL;
	}
	w->loop = loop;
	w->ready = ready;
	w->ctx = ctx;
	loop->watches++;
	return w;
}

void watch_set(struct watch *w, unsigned events)
{
	int wanted = 0;

	if (events == w->events)
		return;
	w->events = events;
	if (events & WATCH_READ)
		wanted |= UV_READABLE;
	if (events & WATCH_WRITE)
		wanted |= UV_WRITABLE;
	if (wanted)
		must(uv_poll_start(&w->handle, wanted, watch_event) == 0);
	else
		must(uv_poll_stop(&w->handle) == 0);
}

static void watch_closed(uv_handle_t *handle)
{
	mem_free(container_of((uv_poll_t *)handle, struct watch, handle));
}

void watch_close(struct watch *w)
{
	if (!w)
		return;
	w->loop->watches--;
	uv_close((uv_handle_t *)&w->handle, watch_closed);
}

static void signal_event(uv_signal_t *handle, int signum)
{
	struct signal_watch *s = container_of(handle, struct signal_watch, handle);

	s->handler(s->ctx, signum);
}

void loop_on_signal(struct loop *loop, int signum, void (*handler)(void *ctx, int signum),
		    void *ctx)
{
	struct signal_watch *s = NULL;

	list_each (&loop->signals, at) {
		struct signal_watch *known = container_of(at, struct signal_watch, link);

		if (known->handle.signum == signum)
			s = known;
	}
	if (!s) {
		s = mem_new(struct signal_watch);
		must(uv_signal_init(&loop->uv, &s->handle) == 0);
		list_push_back(&loop->signals, &s->link);
	}
	s->handler = handler;
	s->ctx = ctx;
	must(uv_signal_start(&s->handle, signal_event, signum) == 0);
}
