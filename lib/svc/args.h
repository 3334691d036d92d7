/* The command line of a program, and its --help. Internal to lib/svc. */
#ifndef SLUICE_SVC_ARGS_H
#define SLUICE_SVC_ARGS_H

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/svc/config.h"
#include "lib/svc/svc.h"

struct args {
	struct arena arena;
	const char *file; /* NULL where none is named */
	const char *id;	  /* never NULL */
	const char **sets;
	size_t set_count;
	const char **words;
	size_t word_count;
	bool check;
	bool help;
	bool version;
};

enum args_result { ARGS_OK = 0, ARGS_BAD = 1 };

/* On ARGS_BAD @errors has a line. args_fini in both cases. */
must_check enum args_result args_read(struct args *args, int argc, char **argv,
				      const struct svc_program *program, struct buf *errors);
void args_fini(struct args *args);

void args_help(const struct svc_program *program, struct buf *out);

/* What config_load needs for this program and this command line; valid as long as both. */
struct config_request args_request(const struct args *args, const struct svc_program *program);

/* The id of worker number @worker: @id itself where there is one, else its number counted up. */
const char *args_worker_id(struct arena *arena, const char *id, unsigned worker, unsigned workers);

/* "host:port" with the port counted up by @worker (0 stays 0). */
const char *args_worker_address(struct arena *arena, const char *address, unsigned worker);

#endif
