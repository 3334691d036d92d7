/* sluice-notify: webhooks of jobs that asked for one. */
#include "consumers/notify/notify.h"
#include "lib/base/mem.h"

#define OPTION_OF struct notify_options
static const struct option options[] = {
#define OPTION OPTION_LINE
#include "consumers/notify/options.def"
#undef OPTION
};

/* The webhooks, and the skeleton that is told of their drain. */
struct program {
	struct svc *svc;
	struct notify *notify;
};

static int program_open(struct svc *svc, void **ret_ctx)
{
	struct program *p = mem_new(struct program);

	*ret_ctx = p;
	p->svc = svc;
	return notify_open(svc, &p->notify);
}

static void waits_for(void *ctx, const char *what)
{
	svc_waits_for(ctx, what);
}

static void program_ready(void *ctx, struct svc_waits *waits)
{
	struct program *p = ctx;

	notify_ready(p->notify, waits_for, waits);
}

static void drained(void *ctx)
{
	struct program *p = ctx;

	svc_drained(p->svc);
}

static void program_drain(void *ctx)
{
	struct program *p = ctx;

	notify_drain(p->notify, drained, p);
}

static int program_reload(void *ctx, const struct config *old)
{
	struct program *p = ctx;

	(void)old;
	return notify_reload(p->notify);
}

static void program_close(void *ctx)
{
	struct program *p = ctx;

	notify_close(p->notify);
	mem_free(p);
}

int main(int argc, char **argv)
{
	static const struct svc_program program = {
	    .name = "sluice-notify",
	    .section = "notify",
	    .summary = "delivers webhooks: signed, at least once, tried again",
	    .admin = "127.0.0.1:9151",
	    .options = options,
	    .option_count = countof(options),
	    .options_size = sizeof(struct notify_options),
	    .open = program_open,
	    .ready = program_ready,
	    .drain = program_drain,
	    .reload = program_reload,
	    .close = program_close,
	};

	return svc_main(argc, argv, &program);
}
