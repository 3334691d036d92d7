#include "lib/net/loop.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "tests/unit/test.h"

SUITE("net/loop");

struct trial {
	struct loop *loop;
	struct timer timer[4];
	struct task task[3];
	struct watch *watch;
	char order[32];
	unsigned events;
	int count;
	int fd;
};

static void note(struct trial *t, char c)
{
	t->order[strlen(t->order)] = c;
}

static void fire_0(struct timer *timer)
{
	note(container_of(timer, struct trial, timer[0]), 'a');
}

static void fire_1(struct timer *timer)
{
	note(container_of(timer, struct trial, timer[1]), 'b');
}

static void fire_and_set_again(struct timer *timer)
{
	struct trial *t = container_of(timer, struct trial, timer[2]);

	t->count++;
	timer_set(timer, 0);
}

static void fire_and_stop_loop(struct timer *timer)
{
	loop_stop(timer->loop);
}

static void run_0(struct task *task)
{
	note(container_of(task, struct trial, task[0]), 'x');
}

static void run_again(struct task *task)
{
	struct trial *t = container_of(task, struct trial, task[1]);

	t->count++;
	task_post(task);
}

static void run_and_cancel_0(struct task *task)
{
	task_cancel(&container_of(task, struct trial, task[2])->task[0]);
}

static void on_ready(void *ctx, unsigned events)
{
	struct trial *t = ctx;

	t->events = events;
	t->count++;
}

static void on_ready_close(void *ctx, unsigned events)
{
	struct trial *t = ctx;

	on_ready(ctx, events);
	watch_close(t->watch);
	t->watch = NULL;
}

static void on_signal(void *ctx, int signum)
{
	struct trial *t = ctx;

	t->count = signum;
}

static struct trial begin(void)
{
	return (struct trial){.loop = loop_new(1)};
}

TEST(timers_fire_by_due_time_then_by_order_of_setting)
{
	struct trial t = begin();

	timer_init(&t.timer[0], t.loop, fire_0);
	timer_init(&t.timer[1], t.loop, fire_1);
	timer_set(&t.timer[0], 2000);
	timer_set(&t.timer[1], 500);
	while (strlen(t.order) < 2)
		loop_turn(t.loop, US_PER_S);
	ck_assert_str_eq(t.order, "ba");
	ck_assert(!timer_is_set(&t.timer[0]));
	loop_free(t.loop);
}

TEST(a_timer_never_fires_early_and_waits_in_microseconds)
{
	struct trial t = begin();
	uint64_t began = loop_fresh_us(t.loop);

	timer_init(&t.timer[0], t.loop, fire_0);
	timer_set(&t.timer[0], 300);
	while (!*t.order)
		loop_turn(t.loop, US_PER_S);
	ck_assert_uint_ge(loop_fresh_us(t.loop) - began, 300);
	loop_free(t.loop);
}

TEST(a_stopped_timer_does_not_fire_and_a_zeroed_one_may_be_stopped)
{
	struct trial t = begin();
	struct timer zero = {0};

	timer_init(&t.timer[0], t.loop, fire_0);
	timer_set(&t.timer[0], 0);
	timer_stop(&t.timer[0]);
	timer_stop(&zero);
	loop_turn(t.loop, 0);
	ck_assert_str_eq(t.order, "");
	loop_free(t.loop);
}

TEST(a_timer_that_sets_itself_for_now_fires_once_per_turn)
{
	struct trial t = begin();

	timer_init(&t.timer[2], t.loop, fire_and_set_again);
	timer_set(&t.timer[2], 0);
	for (int i = 1; i < 5; i++) {
		loop_turn(t.loop, US_PER_S);
		ck_assert_int_eq(t.count, i);
	}
	timer_stop(&t.timer[2]);
	loop_free(t.loop);
}

TEST(a_task_posted_twice_runs_once)
{
	struct trial t = begin();

	task_init(&t.task[0], t.loop, run_0);
	task_post(&t.task[0]);
	task_post(&t.task[0]);
	ck_assert_str_eq(t.order, "");
	loop_turn(t.loop, US_PER_S);
	loop_turn(t.loop, 0);
	ck_assert_str_eq(t.order, "x");
	loop_free(t.loop);
}

TEST(a_task_that_posts_itself_runs_once_per_turn_and_keeps_it_from_waiting)
{
	struct trial t = begin();

	task_init(&t.task[1], t.loop, run_again);
	task_post(&t.task[1]);
	for (int i = 1; i < 5; i++) {
		loop_turn(t.loop, 10 * US_PER_S);
		ck_assert_int_eq(t.count, i);
	}
	task_cancel(&t.task[1]);
	loop_free(t.loop);
}

TEST(a_task_of_the_same_round_can_be_cancelled)
{
	struct trial t = begin();

	task_init(&t.task[2], t.loop, run_and_cancel_0);
	task_init(&t.task[0], t.loop, run_0);
	task_post(&t.task[2]);
	task_post(&t.task[0]);
	loop_turn(t.loop, 0);
	loop_turn(t.loop, 0);
	ck_assert_str_eq(t.order, "");
	loop_free(t.loop);
}

TEST(a_run_ends_when_it_is_told_to)
{
	struct trial t = begin();

	timer_init(&t.timer[3], t.loop, fire_and_stop_loop);
	timer_set(&t.timer[3], 100);
	loop_run(t.loop);
	timer_set(&t.timer[3], 100);
	loop_run(t.loop);
	ck_assert(!timer_is_set(&t.timer[3]));
	loop_free(t.loop);
}

TEST(a_watch_tells_level_triggered_what_its_descriptor_can)
{
	struct trial t = begin();
	int fd[2];
	char c;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	t.watch = watch_open(t.loop, fd[0], on_ready, &t);
	loop_turn(t.loop, 0);
	watch_set(t.watch, WATCH_READ);
	loop_turn(t.loop, 0);
	ck_assert_int_eq(t.count, 0);
	ck_assert_int_eq(write(fd[1], "x", 1), 1);
	loop_turn(t.loop, US_PER_S);
	loop_turn(t.loop, US_PER_S);
	ck_assert_int_eq(t.count, 2);
	ck_assert_uint_eq(t.events, WATCH_READ);
	ck_assert_int_eq(read(fd[0], &c, 1), 1);
	watch_set(t.watch, WATCH_READ | WATCH_WRITE);
	loop_turn(t.loop, US_PER_S);
	ck_assert_uint_eq(t.events, WATCH_WRITE);
	watch_set(t.watch, 0);
	loop_turn(t.loop, 0);
	ck_assert_int_eq(t.count, 3);
	watch_close(t.watch);
	loop_free(t.loop);
}

TEST(the_other_end_gone_is_told)
{
	struct trial t = begin();
	int fd[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	t.watch = watch_open(t.loop, fd[0], on_ready, &t);
	watch_set(t.watch, WATCH_READ);
	close(fd[1]);
	loop_turn(t.loop, US_PER_S);
	ck_assert_int_eq(t.count, 1);
	ck_assert(t.events & WATCH_READ);
	watch_close(t.watch);
	loop_free(t.loop);
}

TEST(an_error_shows_as_both_until_the_watch_is_closed)
{
	struct trial t = begin();
	int fd[2];

	/* Writing into a pipe without a reader is an error without hang-up. */
	ck_assert_int_eq(pipe(fd), 0);
	t.watch = watch_open(t.loop, fd[1], on_ready, &t);
	watch_set(t.watch, WATCH_WRITE);
	close(fd[0]);
	loop_turn(t.loop, US_PER_S);
	loop_turn(t.loop, US_PER_S);
	ck_assert_int_eq(t.count, 2);
	ck_assert_uint_eq(t.events, WATCH_READ | WATCH_WRITE);
	watch_close(t.watch);
	loop_free(t.loop);
}

TEST(a_watch_may_be_closed_in_its_own_callback)
{
	struct trial t = begin();
	int fd[2];

	ck_assert_int_eq(pipe(fd), 0);
	t.watch = watch_open(t.loop, fd[1], on_ready_close, &t);
	watch_set(t.watch, WATCH_WRITE);
	loop_turn(t.loop, US_PER_S);
	loop_turn(t.loop, 0);
	ck_assert_int_eq(t.count, 1);
	loop_free(t.loop);
}

TEST(a_descriptor_can_be_watched_again_at_once)
{
	struct trial t = begin();
	int fd[2];

	ck_assert_int_eq(pipe(fd), 0);
	t.watch = watch_open(t.loop, fd[1], on_ready, &t);
	watch_set(t.watch, WATCH_WRITE);
	watch_close(t.watch);
	t.watch = watch_open(t.loop, fd[1], on_ready, &t);
	watch_set(t.watch, WATCH_WRITE);
	loop_turn(t.loop, US_PER_S);
	ck_assert_int_eq(t.count, 1);
	watch_close(t.watch);
	loop_free(t.loop);
}

TEST(a_file_cannot_be_watched)
{
	struct trial t = begin();
	int fd = open("/proc/self/exe", O_RDONLY);

	ck_assert_ptr_null(watch_open(t.loop, fd, on_ready, &t));
	watch_close(NULL);
	close(fd);
	loop_free(t.loop);
}

TEST(a_signal_comes_from_the_loop)
{
	struct trial t = begin();

	loop_on_signal(t.loop, SIGHUP, on_signal, &t);
	ck_assert_int_eq(raise(SIGHUP), 0);
	ck_assert_int_eq(t.count, 0);
	loop_turn(t.loop, US_PER_S);
	ck_assert_int_eq(t.count, SIGHUP);
	loop_free(t.loop);
}

TEST(one_seed_gives_one_run_of_chance)
{
	struct loop *a = loop_new(9), *b = loop_new(9), *c = loop_new(0), *d = loop_new(0);

	ck_assert_uint_eq(rand_u64(loop_rand(a)), rand_u64(loop_rand(b)));
	ck_assert_uint_ne(rand_u64(loop_rand(c)), rand_u64(loop_rand(d)));
	loop_free(a);
	loop_free(b);
	loop_free(c);
	loop_free(d);
	loop_free(NULL);
}
