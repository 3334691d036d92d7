/* The parent of workers. It has no loop and no connection; it waits for signals and children. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/svc/process.h"

#define BACKOFF_FIRST_MS 100
#define BACKOFF_LAST_MS 10000
#define STEADY_MS 60000	   /* who ran so long begins again with the first back-off */
#define KILL_AFTER_MS 5000 /* beyond the drain's limit: the loop itself is stuck */

struct worker {
	pid_t pid; /* 0: does not run */
	uint64_t started_ms;
	uint64_t due_ms; /* when it is started again; 0: it is not */
	uint64_t backoff_ms;
};

struct workers {
	const struct svc_program *program;
	const struct args *args;
	struct config *config; /* for workers that begin from now on */
	struct log_sink sink;
	struct log root;
	struct log log;
	sigset_t signals;
	struct worker *all;
	unsigned count;
	bool stopping;
	uint64_t kill_ms; /* while stopping: when patience ends */
	int exit_code;
};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void start(struct workers *w, unsigned number)
{
	struct worker *one = &w->all[number];
	pid_t parent = getpid();
	pid_t pid = fork();

	if (pid < 0) {
		log_error(&w->log, "could not fork", F_ERR(-errno));
		one->due_ms = now_ms() + BACKOFF_LAST_MS;
		return;
	}
	if (pid == 0) {
		/* A worker without its parent would keep the port from the next one. */
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			_exit(SVC_EXIT_FAILED);
		exit(process_run(w->program, w->args, w->config, number));
	}
	one->pid = pid;
	one->started_ms = now_ms();
	one->due_ms = 0;
}

static void signal_all(struct workers *w, int signum)
{
	for (unsigned i = 0; i < w->count; i++) {
		if (w->all[i].pid)
			kill(w->all[i].pid, signum);
	}
}

/* @signum: SIGTERM, or SIGUSR1 for good. */
static void stop(struct workers *w, int signum)
{
	w->stopping = true;
	w->kill_ms = now_ms() + w->config->common.drain_ms + KILL_AFTER_MS;
	for (unsigned i = 0; i < w->count; i++)
		w->all[i].due_ms = 0;
	signal_all(w, signum);
}

static void on_end(struct workers *w, struct worker *one, int status)
{
	bool wrong = !WIFEXITED(status) || WEXITSTATUS(status) != SVC_EXIT_OK;
	pid_t pid = one->pid;

	one->pid = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == SVC_EXIT_USAGE) {
		w->exit_code = SVC_EXIT_USAGE;
		if (!w->stopping)
			stop(w, SIGTERM);
	}
	if (w->stopping || !wrong) {
		if (wrong && !w->exit_code)
			w->exit_code = SVC_EXIT_FAILED;
		return;
	}
	if (!one->backoff_ms || now_ms() - one->started_ms >= STEADY_MS)
		one->backoff_ms = BACKOFF_FIRST_MS;
	else
		one->backoff_ms =
		    one->backoff_ms * 2 < BACKOFF_LAST_MS ? one->backoff_ms * 2 : BACKOFF_LAST_MS;
	one->due_ms = now_ms() + one->backoff_ms;
	log_error(&w->log, "worker ended", F_INT("pid", pid), F_INT("worker", one - w->all),
		  F_INT("code", WIFEXITED(status) ? WEXITSTATUS(status) : -1),
		  F_INT("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0),
		  F_UINT("again_in_ms", one->backoff_ms));
}

static void reap(struct workers *w)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (unsigned i = 0; i < w->count; i++) {
			if (w->all[i].pid == pid)
				on_end(w, &w->all[i], status);
		}
	}
}

/* Who begins after this begins with the new configuration; who runs reads it by himself. */
static void on_hup(struct workers *w)
{
	struct config_request request = args_request(w->args, w->program);
	struct config *config;
	struct buf errors = {0};

	signal_all(w, SIGHUP);
	if (config_load(&request, &config, &errors) == CONFIG_OK) {
		if (config->common.workers != w->config->common.workers) {
			log_warn(&w->log, "the number of workers changes with a restart");
			config->common.workers = w->config->common.workers;
		}
		config_free(w->config);
		w->config = config;
		w->sink.level = config->log_level;
		w->sink.json = config->log_json;
	}
	buf_fini(&errors);
}

/* Starts who is due; the milliseconds until the next event that no signal tells. */
static uint64_t look(struct workers *w)
{
	uint64_t now = now_ms();
	uint64_t wait = 60000;

	for (unsigned i = 0; i < w->count; i++) {
		struct worker *one = &w->all[i];

		if (one->due_ms && one->due_ms <= now)
			start(w, i);
		if (one->due_ms && one->due_ms - now < wait)
			wait = one->due_ms > now ? one->due_ms - now : 1;
	}
	if (w->stopping && w->kill_ms <= now) {
		log_error(&w->log, "workers did not end in time and are killed");
		signal_all(w, SIGKILL);
		w->kill_ms = now + KILL_AFTER_MS;
	}
	if (w->stopping && w->kill_ms - now < wait)
		wait = w->kill_ms - now;
	return wait;
}

static bool any_left(const struct workers *w)
{
	for (unsigned i = 0; i < w->count; i++) {
		if (w->all[i].pid || w->all[i].due_ms)
			return true;
	}
	return false;
}

static void watch_over(struct workers *w)
{
	while (any_left(w)) {
		uint64_t wait = look(w);
		struct timespec limit = {(time_t)(wait / 1000), (long)(wait % 1000) * 1000000};
		int signum = sigtimedwait(&w->signals, NULL, &limit);

		if (signum == SIGTERM || signum == SIGINT || signum == SIGUSR1)
			stop(w, signum == SIGUSR1 ? SIGUSR1 : SIGTERM);
		else if (signum == SIGHUP)
			on_hup(w);
		reap(w);
	}
}

int workers_run(const struct svc_program *program, const struct args *args, struct config *config)
{
	struct workers w = {.program = program,
			    .args = args,
			    .config = config,
			    .sink = process_sink(config),
			    .count = (unsigned)config->common.workers};

	w.root = (struct log){.sink = &w.sink, .key = "svc", .value = program->name};
	w.log = log_child(&w.root, "id", "parent");
	w.all = mem_alloc(w.count * sizeof(*w.all));
	sigemptyset(&w.signals);
	sigaddset(&w.signals, SIGTERM);
	sigaddset(&w.signals, SIGINT);
	sigaddset(&w.signals, SIGHUP);
	sigaddset(&w.signals, SIGUSR1);
	sigaddset(&w.signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &w.signals, NULL);
	log_info(&w.log, "starting workers", F_UINT("workers", w.count), F_INT("pid", getpid()));
	for (unsigned i = 0; i < w.count; i++)
		start(&w, i);
	watch_over(&w);
	mem_free(w.all);
	config_free(w.config);
	return w.exit_code;
}
