/* One process of a program: its loop from open to close, its signals and its admin port. Internal to lib/svc. */
#ifndef SLUICE_SVC_PROCESS_H
#define SLUICE_SVC_PROCESS_H

#include "lib/base/json.h"
#include "lib/net/loop.h"
#include "lib/svc/args.h"
#include "lib/svc/svc.h"

struct http_server;

struct process {
	struct svc svc;
	bool cut;	/* ends without drain, or in the midst of one */
	unsigned terms; /* SIGTERM and SIGINT so far */
	const struct svc_program *program;
	const struct args *args;
	void *ctx;
	struct arena arena;
	struct log_sink sink;
	struct log root;	 /* svc=; svc.log adds id= */
	struct config **configs; /* all that were ever in use; the last is the current one */
	size_t config_count;
	struct timer drain;
	struct task flush; /* the log's lines of this turn */
	struct http_server *admin;
	uint64_t started_us;
	int exit_code;
#define METRIC(field, name, type, help, labels) struct metric *metric_##field;
#include "lib/svc/metrics.def"
#undef METRIC
};

/* Runs worker number @worker until it ends; owns @config. Returns the exit code. */
int process_run(const struct svc_program *program, const struct args *args, struct config *config,
		unsigned worker);

/* The sink that lines of @config go to; its time is the system's until a loop has one. */
struct log_sink process_sink(const struct config *config);

/* True where the program can serve; else what it waits for stands in @names (an open JSON array). */
bool process_ready(struct process *p, struct json_out *names);

/* Opens the admin port; nothing where its address is empty. -errno. */
must_check int admin_open(struct process *p);
void admin_close(struct process *p);
/* Registers the metrics of metrics.def. */
void admin_metrics_init(struct process *p);

/* Forks the workers and watches over them: one that dies is started again, later each time. Returns the exit code,
 * in the parent; a child runs process_run and ends. Owns @config. */
int workers_run(const struct svc_program *program, const struct args *args, struct config *config);

#endif
