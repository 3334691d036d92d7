/* The skeleton of a program: command line, configuration, log, workers, event loop, signals, drain,
 *admin port. A program's main() is a table and one call. Refuses to know what a program does.
 *
 *	static const struct svc_program program = {.name = "sluice-front", .section = "front", …};
 *	int main(int argc, char **argv) { return svc_main(argc, argv, &program); }
 *
 *   options ─▶ configuration ─▶ fork workers ─▶ loop, admin port ─▶ open ─▶ loop runs ─▶ close
 *                                                  SIGHUP ─▶ reload   SIGTERM ─▶ drain ─▶
 *svc_drained ─▲
 *
 * Command line: --config FILE, --id NAME, --workers N, --set section.key=value (again and again), --check, --version,
 * --help, and --KEY VALUE for each option of the program's own section.
 *
 * Exit codes: 0 done, 1 failed while running, 2 wrong command line or configuration. */
#ifndef SLUICE_SVC_SVC_H
#define SLUICE_SVC_SVC_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/err.h"
#include "lib/base/log.h"
#include "lib/base/metric.h"
#include "lib/svc/config.h"
#include "lib/svc/option.h"

struct http_req;
struct loop;
struct svc_waits;

/* What a program sees of its skeleton. Valid from open to close. */
struct svc {
	struct loop *loop;
	struct log log; /* context svc= id= */
	struct metrics metrics;
	const struct config
	    *config; /* replaced by reload; what older ones held stays valid until the end */
	const void *options; /* = config->own: the program's struct of values */
	const char *name;    /* "sluice-front" */
	const char *id;	     /* "sluice-front-1"; unique among the processes of a fleet */
	unsigned worker;     /* 0 … workers - 1 */
	unsigned workers;
	bool draining;
	bool leaving; /* it drains for good (SIGUSR1): nobody will start it again under this id */
	const char *const *args; /* words of the command line that are no options */
	size_t arg_count;
	uint64_t nofile; /* descriptors that this process may have: the system's hard limit */
};

enum svc_exit { SVC_EXIT_OK = 0, SVC_EXIT_FAILED = 1, SVC_EXIT_USAGE = 2 };

struct svc_program {
	const char *name;    /* "sluice-front" */
	const char *section; /* of the configuration file: "front" */
	const char *summary; /* one line for --help */
	const char
	    *admin; /* default address of the admin port; NULL: none unless the option says so */
	const struct option *options;
	size_t option_count;
	size_t options_size; /* of the struct behind the table */
	bool secrets;	     /* needs the accounts' keys */
	bool takes_args;     /* words that are no options are handed on in svc->args, not refused */
	/* Builds the program on svc->loop, in the process in which it will run. Start-up may block.
	 * Returns -errno (it has logged why; close is called all the same with what *@ret_ctx is
	 * then, if not NULL). */
	int (*open)(struct svc *svc, void **ret_ctx);
	/* Says what the program waits for before it can serve (svc_waits_for). Optional: always
	 * ready. */
	void (*ready)(void *ctx, struct svc_waits *waits);
	/* Take nothing new, end what is at hand, then call svc_drained (also from inside).
	 * Optional: ends at once. */
	void (*drain)(void *ctx);
	/* The drain under way is for good from now on (svc->leaving): a SIGUSR1 came behind a SIGTERM. Optional: nothing changes. */
	void (*leave)(void *ctx);
	/* svc->config and svc->options are the new ones; options that are read at the start only have kept their values. Returns -errno where they cannot be taken:
	 * then the old ones are set again. Optional: new values of log and routes are seen by those
	 * who look. */
	int (*reload)(void *ctx, const struct config *old);
	/* Answers a request to another path of the admin port; false: 404. Optional. */
	bool (*admin_request)(void *ctx, struct http_req *req);
	/* Undoes open; the loop does not run any more. Not called where the program is ended without a whole drain (svc_stop, a second
	 * SIGTERM, the drain's limit): then the process ends at once. Optional. */
	void (*close)(void *ctx);
};

/* Runs the program; the exit code for main. */
int svc_main(int argc, char **argv, const struct svc_program *program);

/* The end of a drain: the loop stops after this turn. */
void svc_drained(struct svc *svc);
/* Ends the program with @exit_code at the end of this turn, without drain. */
void svc_stop(struct svc *svc, enum svc_exit exit_code);
/* In svc_program.open: warns where so many connections do not fit in the limit of open files. */
void svc_connections(const struct svc *svc, uint64_t connections);
/* In svc_program.ready: @what ("kafka", "redis", "topics") is not there yet. */
void svc_waits_for(struct svc_waits *waits, const char *what);

/* The commit that this was built from. */
const char *svc_version(void);

#endif
