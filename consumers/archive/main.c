/* sluice-archive: results into PostgreSQL. */
#include "consumers/archive/archive.h"
#include "lib/base/mem.h"
#include "lib/svc/svc.h"

#define OPTION_OF struct archive_options
static const struct option options[] = {
#define OPTION OPTION_LINE
#include "consumers/archive/options.def"
#undef OPTION
};

/* The archive, and the skeleton that it tells of its drain. */
struct program {
	struct svc *svc;
	struct archive *archive;
};

static int program_open(struct svc *svc, void **ret_ctx)
{
	struct program *p = mem_new(struct program);

	*ret_ctx = p;
	p->svc = svc;
	return archive_open(svc, &p->archive);
}

static void waits_for(void *ctx, const char *what)
{
	svc_waits_for(ctx, what);
}

static void program_ready(void *ctx, struct svc_waits *waits)
{
	struct program *p = ctx;

	archive_ready(p->archive, waits_for, waits);
}

static void drained(void *ctx)
{
	struct program *p = ctx;

	svc_drained(p->svc);
}

static void program_drain(void *ctx)
{
	struct program *p = ctx;

	archive_drain(p->archive, drained, p);
}

static void program_close(void *ctx)
{
	struct program *p = ctx;

	archive_close(p->archive);
	mem_free(p);
}

static const struct svc_program program = {
    .name = "sluice-archive",
    .section = "archive",
    .summary = "writes results into PostgreSQL, each exactly once",
    .admin = "127.0.0.1:9131",
    .options = options,
    .option_count = countof(options),
    .options_size = sizeof(struct archive_options),
    .open = program_open,
    .ready = program_ready,
    .drain = program_drain,
    .close = program_close,
};

int main(int argc, char **argv)
{
	return svc_main(argc, argv, &program);
}
