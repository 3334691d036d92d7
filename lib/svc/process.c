#include "lib/svc/process.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"

struct svc_waits {
	struct json_out *names;
	unsigned count;
};

/* Before there is a loop, and in the parent of workers, which has none. */
static uint64_t system_wall_ms(void *ctx)
{
	struct timespec now;

	(void)ctx;
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t loop_time(void *ctx)
{
	return loop_wall_ms(ctx);
}

static void on_gathers(void *ctx)
{
	struct process *p = ctx;

	task_post(&p->flush);
}

static void on_flush(struct task *t)
{
	log_flush(&container_of(t, struct process, flush)->sink);
}

struct log_sink process_sink(const struct config *config)
{
	return (struct log_sink){.fd = STDERR_FILENO,
				 .level = config->log_level,
				 .json = config->log_json,
				 .wall_ms = system_wall_ms};
}

/* Thousands of connections need as many descriptors: takes what the system grants. */
static uint64_t raise_nofile(void)
{
	struct rlimit limit = {0};

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
			(void)getrlimit(RLIMIT_NOFILE, &limit);
	}
	return limit.rlim_cur;
}

static struct process *process_of(struct svc *svc)
{
	return container_of(svc, struct process, svc);
}

void svc_stop(struct svc *svc, enum svc_exit exit_code)
{
	process_of(svc)->exit_code = exit_code;
	process_of(svc)->cut = true;
	loop_stop(svc->loop);
}

void svc_drained(struct svc *svc)
{
	struct process *p = process_of(svc);

	if (!svc->draining)
		return;
	timer_stop(&p->drain);
	log_info(&svc->log, "drained");
	loop_stop(svc->loop);
}

/* For stores, lanes, the log and whatever else is open beside connections. */
#define OTHER_FILES 128

void svc_connections(const struct svc *svc, uint64_t connections)
{
	if (connections + OTHER_FILES > svc->nofile)
		log_warn(&svc->log,
			 "max_connections does not fit in the limit of open files: callers beyond "
			 "it are refused",
			 F_UINT("max_connections", connections), F_UINT("nofile", svc->nofile));
}

void svc_waits_for(struct svc_waits *waits, const char *what)
{
	json_put_text(waits->names, NULL, what);
	waits->count++;
}

bool process_ready(struct process *p, struct json_out *names)
{
	struct svc_waits waits = {.names = names};

	if (p->svc.draining)
		svc_waits_for(&waits, "drain");
	else if (p->program->ready)
		p->program->ready(p->ctx, &waits);
	return waits.count == 0;
}

static void on_drain_limit(struct timer *t)
{
	struct process *p = container_of(t, struct process, drain);

	log_warn(&p->svc.log, "drain took too long",
		 F_UINT("limit_ms", p->svc.config->common.drain_ms));
	p->cut = true;
	loop_stop(p->svc.loop);
}

static void drain(struct process *p)
{
	log_info(&p->svc.log, p->svc.leaving ? "draining, for good" : "draining");
	p->svc.draining = true;
	if (!p->program->drain) {
		svc_drained(&p->svc);
		return;
	}
	timer_set(&p->drain, p->svc.config->common.drain_ms * US_PER_MS);
	p->program->drain(p->ctx);
}

/* The first one behind a SIGUSR1 asks for what is being done. */
static void on_term(struct process *p)
{
	if (++p->terms > 1) {
		log_warn(&p->svc.log, "asked twice to end");
		p->cut = true;
		loop_stop(p->svc.loop);
	} else if (!p->svc.draining) {
		drain(p);
	}
}

static void on_leave(struct process *p)
{
	if (p->svc.leaving)
		return;
	p->svc.leaving = true;
	if (!p->svc.draining) {
		drain(p);
		return;
	}
	log_info(&p->svc.log, "the drain is for good");
	if (p->program->leave)
		p->program->leave(p->ctx);
}

static void use_config(struct process *p, struct config *config)
{
	p->svc.config = config;
	p->svc.options = config->own;
	p->sink.level = config->log_level;
	p->sink.json = config->log_json;
}

static void on_kept(void *ctx, const char *section, const char *key)
{
	struct process *p = ctx;

	log_warn(&p->svc.log, "needs a restart: the old value stays", F_STR("section", section),
		 F_STR("option", key));
}

static void on_hup(struct process *p)
{
	struct config_request request = args_request(p->args, p->program);
	struct config *old = p->configs[p->config_count - 1];
	struct config *config;
	struct buf errors = {0};
	int error = 0;

	if (config_load(&request, &config, &errors) != CONFIG_OK) {
		log_error(&p->svc.log, "configuration refused, the old one stays",
			  F_STR("errors", buf_text(&errors)));
		series_add(metric_one(p->metric_reloads, "refused"), 1);
		buf_fini(&errors);
		return;
	}
	config_keep(&request, config, old, on_kept, p);
	use_config(p, config);
	if (p->program->reload)
		error = p->program->reload(p->ctx, old);
	if (error) {
		use_config(p, old);
		config_free(config);
		log_error(&p->svc.log, "configuration not taken, the old one stays", F_ERR(error));
		series_add(metric_one(p->metric_reloads, "refused"), 1);
		return;
	}
	p->configs = mem_resize(p->configs, (p->config_count + 1) * sizeof(*p->configs));
	p->configs[p->config_count++] = config;
	series_add(metric_one(p->metric_reloads, "taken"), 1);
	log_info(&p->svc.log, "configuration read again", F_STR("file", config->file));
}

static void on_signal(void *ctx, int signum)
{
	struct process *p = ctx;

	if (signum == SIGHUP)
		on_hup(p);
	else if (signum == SIGUSR1)
		on_leave(p);
	else
		on_term(p);
}

static void process_init(struct process *p, struct config *config, unsigned worker)
{
	const char *id;

	p->configs = mem_new(struct config *);
	p->configs[p->config_count++] = config;
	p->sink = process_sink(config);
	p->svc.name = p->program->name;
	p->svc.worker = worker;
	p->svc.workers = (unsigned)config->common.workers;
	id = args_worker_id(&p->arena, p->args->id, worker, p->svc.workers);
	p->svc.id = id;
	p->svc.args = p->args->words;
	p->svc.arg_count = p->args->word_count;
	p->root = (struct log){.sink = &p->sink, .key = "svc", .value = p->program->name};
	p->svc.log = log_child(&p->root, "id", id);
	p->svc.nofile = raise_nofile();
	p->svc.loop = loop_new(config->common.seed ? (uint64_t)config->common.seed + worker : 0);
	p->sink.ctx = p->svc.loop;
	p->sink.wall_ms = loop_time;
	task_init(&p->flush, p->svc.loop, on_flush);
	p->sink.gathers = on_gathers;
	p->sink.gathers_ctx = p;
	p->started_us = loop_now_us(p->svc.loop);
	timer_init(&p->drain, p->svc.loop, on_drain_limit);
	metrics_init(&p->svc.metrics);
	admin_metrics_init(p);
	use_config(p, config);
}

static void process_fini(struct process *p)
{
	timer_stop(&p->drain);
	if (p->ctx && p->program->close)
		p->program->close(p->ctx);
	admin_close(p);
	p->sink.wall_ms = system_wall_ms;
	p->sink.gathers = NULL;
	log_flush(&p->sink);
	buf_fini(&p->sink.gathered);
	task_cancel(&p->flush);
	loop_free(p->svc.loop);
	log_info(&p->svc.log, "ended", F_INT("code", p->exit_code));
	metrics_fini(&p->svc.metrics);
	while (p->config_count)
		config_free(p->configs[--p->config_count]);
	mem_free(p->configs);
	arena_reset(&p->arena);
}

/* At once: to undo what was opened would wait for threads that wait for a broker, perhaps for ever, and nobody needs it. What was not
 * done is done by whoever comes after, as behind a kill. */
static void end_now(struct process *p)
{
	log_info(&p->svc.log, "ended", F_INT("code", p->exit_code));
	log_flush(&p->sink);
	_exit(p->exit_code);
}

static void catch_signals(struct process *p)
{
	sigset_t signals;

	signal(SIGPIPE, SIG_IGN);
	loop_on_signal(p->svc.loop, SIGTERM, on_signal, p);
	loop_on_signal(p->svc.loop, SIGINT, on_signal, p);
	loop_on_signal(p->svc.loop, SIGHUP, on_signal, p);
	loop_on_signal(p->svc.loop, SIGUSR1, on_signal, p);
	/* A parent blocked them before it forked, so that none was lost meanwhile. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGUSR1);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_UNBLOCK, &signals, NULL);
}

int process_run(const struct svc_program *program, const struct args *args, struct config *config,
		unsigned worker)
{
	struct process *p = mem_new(struct process);
	int error;
	int code;

	p->program = program;
	p->args = args;
	process_init(p, config, worker);
	catch_signals(p);
	error = program->open(&p->svc, &p->ctx);
	if (!error)
		error = admin_open(p);
	if (error) {
		log_error(&p->svc.log, "could not start", F_ERR(error));
		p->exit_code = SVC_EXIT_FAILED;
	} else {
		log_info(&p->svc.log, "started", F_STR("version", svc_version()),
			 F_INT("pid", getpid()), F_UINT("worker", worker),
			 F_UINT("nofile", p->svc.nofile), F_STR("config", p->svc.config->file));
		loop_run(p->svc.loop);
		if (p->cut)
			end_now(p);
	}
	code = p->exit_code;
	process_fini(p);
	mem_free(p);
	return code;
}
