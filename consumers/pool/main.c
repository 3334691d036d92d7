/* sluice-pool: lanes in, provider calls, results out. */
#include "consumers/pool/pool.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/svc/config.h"
#include "lib/svc/svc.h"

#define OPTION_OF struct pool_options
static const struct option options[] = {
#define OPTION OPTION_LINE
#include "consumers/pool/options.def"
#undef OPTION
};

struct program {
	struct svc *svc;
	struct pool *pool;
};

static void failed(void *ctx)
{
	struct program *p = ctx;

	svc_stop(p->svc, SVC_EXIT_FAILED);
}

static int open(struct svc *svc, void **ret_ctx)
{
	struct program *p = mem_new(struct program);
	struct pool_request request = {.loop = svc->loop,
				       .log = &svc->log,
				       .config = svc->config,
				       .options = svc->options,
				       .metrics = &svc->metrics,
				       .id = svc->id,
				       .failed = failed,
				       .failed_ctx = p};

	p->svc = svc;
	*ret_ctx = p;
	return err_trace(pool_open(&request, &p->pool));
}

static void waits(void *ctx, const char *what)
{
	svc_waits_for(ctx, what);
}

static void ready(void *ctx, struct svc_waits *w)
{
	struct program *p = ctx;

	pool_ready(p->pool, waits, w);
}

static void drained(void *ctx)
{
	struct program *p = ctx;

	svc_drained(p->svc);
}

static void drain(void *ctx)
{
	struct program *p = ctx;
	const struct pool_options *o = p->svc->options;
	uint64_t limit_us = p->svc->config->common.drain_ms * US_PER_MS;

	/* what does not end in time is handed back before the skeleton ends the program */
	pool_drain(p->pool, limit_us > 4 * US_PER_S ? limit_us - 3 * US_PER_S : limit_us / 4,
		   p->svc->leaving || o->leave, drained, p);
}

static void leave(void *ctx)
{
	struct program *p = ctx;

	pool_leave(p->pool);
}

static int reload(void *ctx, const struct config *old)
{
	struct program *p = ctx;

	(void)old;
	return err_trace(pool_reload(p->pool, p->svc->config, p->svc->options));
}

static void end(void *ctx)
{
	struct program *p = ctx;

	pool_close(p->pool);
	mem_free(p);
}

int main(int argc, char **argv)
{
	static const struct svc_program program = {
	    .name = "sluice-pool",
	    .section = "pool",
	    .summary = "takes jobs from its lanes and calls providers",
	    .options = options,
	    .option_count = countof(options),
	    .options_size = sizeof(struct pool_options),
	    .secrets = true,
	    .open = open,
	    .ready = ready,
	    .drain = drain,
	    .leave = leave,
	    .reload = reload,
	    .close = end,
	};

	return svc_main(argc, argv, &program);
}
