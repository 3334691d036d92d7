#include "lib/svc/args.h"

#include <string.h>

#include "lib/base/mem.h"

#define OPTION_OF struct config_common
static const struct option common_options[] = {
#define OPTION OPTION_LINE
#include "lib/svc/options.def"
#undef OPTION
};
#undef OPTION_OF

/* The text behind "--name=" or the next word; NULL where there is none. */
static const char *value_of(int argc, char **argv, int *at, const char *equals)
{
	if (equals)
		return equals + 1;
	if (*at + 1 >= argc)
		return NULL;
	return argv[++*at];
}

static const struct option *option_of(const struct svc_program *program, struct str key)
{
	const struct option *o = option_find(program->options, program->option_count, key);

	return o ? o : option_find(common_options, countof(common_options), key);
}

/* One "--name" at argv[*at]. */
static enum args_result read_flag(struct args *args, int argc, char **argv, int *at,
				  const struct svc_program *program, struct buf *errors)
{
	const char *word = argv[*at] + 2;
	const char *equals = strchr(word, '=');
	struct str name = {word, equals ? (size_t)(equals - word) : strlen(word)};
	bool *flag = str_is(name, "check")     ? &args->check
		     : str_is(name, "help")    ? &args->help
		     : str_is(name, "version") ? &args->version
					       : NULL;
	const struct option *o;
	const char *value;

	if (flag && !equals) {
		*flag = true;
		return ARGS_OK;
	}
	o = option_of(program, name);
	if (!o && !str_is(name, "config") && !str_is(name, "id") && !str_is(name, "set")) {
		buf_printf(errors, "%s: unknown option --%.*s (--help lists all)\n", program->name,
			   STR_FMT(name));
		return ARGS_BAD;
	}
	value = value_of(argc, argv, at, equals);
	if (!value) {
		buf_printf(errors, "%s: --%.*s needs a value\n", program->name, STR_FMT(name));
		return ARGS_BAD;
	}
	if (str_is(name, "config"))
		args->file = value;
	else if (str_is(name, "id"))
		args->id = value;
	else if (str_is(name, "set"))
		args->sets[args->set_count++] = value;
	else
		args->sets[args->set_count++] =
		    arena_printf(&args->arena, "%s.%s=%s", program->section, o->key, value);
	return ARGS_OK;
}

static bool id_is_good(const char *id)
{
	size_t n = strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

	return n > 0 && n <= 64 && !id[n];
}

enum args_result args_read(struct args *args, int argc, char **argv,
			   const struct svc_program *program, struct buf *errors)
{
	memset(args, 0, sizeof(*args));
	args->id = arena_printf(&args->arena, "%s-1", program->name);
	args->sets = arena_alloc(&args->arena, (size_t)(argc + 1) * sizeof(char *));
	args->words = arena_alloc(&args->arena, (size_t)(argc + 1) * sizeof(char *));
	for (int i = 1; i < argc; i++) {
		if (strncmp(argv[i], "--", 2) == 0) {
			if (read_flag(args, argc, argv, &i, program, errors) != ARGS_OK)
				return ARGS_BAD;
		} else if (program->takes_args) {
			args->words[args->word_count++] = argv[i];
		} else {
			buf_printf(errors, "%s: unexpected word '%s' (--help lists all options)\n",
				   program->name, argv[i]);
			return ARGS_BAD;
		}
	}
	if (!id_is_good(args->id)) {
		buf_printf(errors, "%s: --id takes letters, digits, '.', '_' and '-'\n",
			   program->name);
		return ARGS_BAD;
	}
	return ARGS_OK;
}

void args_fini(struct args *args)
{
	arena_reset(&args->arena);
}

void args_help(const struct svc_program *program, struct buf *out)
{
	buf_printf(out, "%s: %s\n\n", program->name, program->summary ? program->summary : "");
	buf_printf(
	    out,
	    "  --config FILE            the configuration (YAML)\n"
	    "  --id NAME                the name of this process in its fleet (default %s-1)\n"
	    "  --set section.key=value  stronger than the file; may stand more than once\n"
	    "  --check                  check the configuration and end\n"
	    "  --version                print what this was built from and end\n"
	    "  --help                   print this and end\n\n",
	    program->name);
	buf_printf(
	    out, "Options (--KEY VALUE, --set %s.KEY=VALUE, or in the section '%s' of the file):\n",
	    program->section, program->section);
	option_help(program->options, program->option_count, "--", out);
	option_help(common_options, countof(common_options), "--", out);
	buf_add_text(
	    out,
	    "\nSIGTERM drains and ends, again ends at once; SIGUSR1 drains for good: a member of "
	    "a\n"
	    "group leaves it. SIGHUP reads the configuration again.\n"
	    "Exit codes: 0 done, 1 failed while running, 2 wrong command line or configuration.\n");
}

struct config_request args_request(const struct args *args, const struct svc_program *program)
{
	return (struct config_request){.file = args->file,
				       .section = program->section,
				       .options = program->options,
				       .option_count = program->option_count,
				       .own_size = program->options_size,
				       .sets = args->sets,
				       .set_count = args->set_count,
				       .secrets = program->secrets};
}

const char *args_worker_id(struct arena *arena, const char *id, unsigned worker, unsigned workers)
{
	size_t stem = strlen(id);
	uint64_t number = 1;

	if (workers <= 1)
		return id;
	while (stem && id[stem - 1] >= '0' && id[stem - 1] <= '9')
		stem--;
	if (stem < 2 || id[stem - 1] != '-' || !str_u64(str_of(id + stem), &number))
		return arena_printf(arena, "%s-%u", id, worker + 1);
	return arena_printf(arena, "%.*s%llu", (int)stem, id,
			    (unsigned long long)(number + worker));
}

const char *args_worker_address(struct arena *arena, const char *address, unsigned worker)
{
	const char *colon = strrchr(address, ':');
	uint64_t port;

	if (!worker || !colon || !str_u64(str_of(colon + 1), &port) || port == 0)
		return address;
	return arena_printf(arena, "%.*s:%llu", (int)(colon - address), address,
			    (unsigned long long)(port + worker));
}
