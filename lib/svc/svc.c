#include "lib/svc/svc.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/svc/process.h"

static void print(FILE *to, struct buf *text)
{
	fwrite(buf_text(text), 1, text->len, to);
	fflush(to);
	buf_fini(text);
}

/* --help, --version, --check: what ends at once. */
static bool answered(const struct svc_program *program, const struct args *args)
{
	struct buf out = {0};

	if (args->help)
		args_help(program, &out);
	else if (args->version)
		buf_printf(&out, "%s %s\n", program->name, svc_version());
	else
		return false;
	print(stdout, &out);
	return true;
}

static int run(const struct svc_program *program, const struct args *args)
{
	struct config_request request = args_request(args, program);
	struct buf errors = {0};
	struct config *config;

	if (answered(program, args))
		return SVC_EXIT_OK;
	if (config_load(&request, &config, &errors) != CONFIG_OK) {
		print(stderr, &errors);
		return SVC_EXIT_USAGE;
	}
	if (args->check) {
		printf("%s: the configuration is good\n", program->name);
		config_free(config);
		return SVC_EXIT_OK;
	}
	if (config->common.workers > 1)
		return workers_run(program, args, config);
	return process_run(program, args, config, 0);
}

int svc_main(int argc, char **argv, const struct svc_program *program)
{
	struct buf errors = {0};
	struct args args;
	int code = SVC_EXIT_USAGE;

	if (args_read(&args, argc, argv, program, &errors) == ARGS_OK)
		code = run(program, &args);
	else
		print(stderr, &errors);
	args_fini(&args);
	return code;
}
