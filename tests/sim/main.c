#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "lib/base/mem.h"
#include "tests/sim/answer.h"
#include "tests/sim/sim.h"

static const char usage[] =
    "sluice-sim: stands where a provider stands (Anthropic Messages, OpenAI Chat Completions)\n"
    "\n"
    "  --listen ADDRESS:PORT   for clients (127.0.0.1:8801; port 0 takes a free one)\n"
    "  --cert FILE --key FILE  TLS with ALPN h2 and http/1.1; or\n"
    "  --plain                 no TLS (HTTP/1.1, and HTTP/2 with prior knowledge)\n"
    "  --control ADDRESS:PORT  plain HTTP for tests (tests/sim/README.md)\n"
    "  --ttft-ms N             time to the first token (150)\n"
    "  --rate N                tokens a second (60; 0: all at once)\n"
    "  --tokens N              length of an answer (80)\n"
    "  --rpm N --itpm N --otpm N  limits per key and model (as good as none)\n"
    "  --limits bucket|window|both  a bucket refilled all the time (default), a sliding minute\n"
    "  --burst-s N             a full bucket is N seconds' refill (60)\n"
    "  --journal FILE          a line for each call that is over (README.md)\n"
    "  --answer MODEL TEXT     prints the answer to TEXT (--tokens long) and ends\n"
    "  --help\n"
    "\n"
    "A prompt can ask for more: [sim ttft=120 rate=50 tokens=200 stall=10:2000 status=429 …]\n";

enum {
	OPT_LISTEN = 256,
	OPT_CERT,
	OPT_KEY,
	OPT_PLAIN,
	OPT_CONTROL,
	OPT_TTFT,
	OPT_RATE,
	OPT_TOKENS,
	OPT_RPM,
	OPT_ITPM,
	OPT_OTPM,
	OPT_LIMITS,
	OPT_BURST,
	OPT_JOURNAL,
	OPT_ANSWER,
	OPT_HELP
};

static const struct option options[] = {{"listen", required_argument, NULL, OPT_LISTEN},
					{"cert", required_argument, NULL, OPT_CERT},
					{"key", required_argument, NULL, OPT_KEY},
					{"plain", no_argument, NULL, OPT_PLAIN},
					{"control", required_argument, NULL, OPT_CONTROL},
					{"ttft-ms", required_argument, NULL, OPT_TTFT},
					{"rate", required_argument, NULL, OPT_RATE},
					{"tokens", required_argument, NULL, OPT_TOKENS},
					{"rpm", required_argument, NULL, OPT_RPM},
					{"itpm", required_argument, NULL, OPT_ITPM},
					{"otpm", required_argument, NULL, OPT_OTPM},
					{"limits", required_argument, NULL, OPT_LIMITS},
					{"burst-s", required_argument, NULL, OPT_BURST},
					{"journal", required_argument, NULL, OPT_JOURNAL},
					{"answer", required_argument, NULL, OPT_ANSWER},
					{"help", no_argument, NULL, OPT_HELP},
					{NULL, 0, NULL, 0}};

static uint64_t *number_option(struct sim_options *o, int option)
{
	switch (option) {
	case OPT_TTFT:
		return &o->ttft_ms;
	case OPT_TOKENS:
		return &o->tokens;
	case OPT_RPM:
		return &o->limits.minute[QUOTA_REQUESTS];
	case OPT_ITPM:
		return &o->limits.minute[QUOTA_INPUT];
	case OPT_BURST:
		return &o->limits.burst_s;
	default:
		return &o->limits.minute[QUOTA_OUTPUT];
	}
}

static bool read_option(struct sim_options *o, int option, const char **ret_model)
{
	char *end;
	switch (option) {
	case OPT_LISTEN:
		o->listen = optarg;
		return true;
	case OPT_CONTROL:
		o->control = optarg;
		return true;
	case OPT_CERT:
		o->cert = optarg;
		return true;
	case OPT_KEY:
		o->key = optarg;
		return true;
	case OPT_JOURNAL:
		o->journal = optarg;
		return true;
	case OPT_PLAIN:
		o->plain = true;
		return true;
	case OPT_ANSWER:
		*ret_model = optarg;
		return true;
	case OPT_LIMITS:
		return sim_quota_kind(str_of(optarg), &o->limits.kind);
	case OPT_RATE:
		o->rate = strtod(optarg, &end);
		return *optarg && !*end && o->rate >= 0 && o->rate < 1e6;
	case '?':
		return false;
	default:
		return str_u64(str_of(optarg), number_option(o, option));
	}
}

static int print_answer(const char *model, const char *text, uint64_t tokens)
{
	struct buf out = {0};
	sim_answer(str_of(model), str_of(text), tokens, &out);
	bool written = fwrite(buf_text(&out), 1, out.len, stdout) == out.len;
	buf_fini(&out);
	return written ? 0 : 1;
}

static void on_signal(void *ctx, int signum)
{
	(void)signum;
	loop_stop(ctx);
}

static int run(const struct sim_options *o)
{
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	struct loop *loop = loop_new(0);
	struct sim *sim = mem_new(struct sim);
	int r = sim_open(sim, loop, o);
	if (r == 0) {
		loop_on_signal(loop, SIGTERM, on_signal, loop);
		loop_on_signal(loop, SIGINT, on_signal, loop);
		loop_run(loop);
	}
	sim_close(sim);
	mem_free(sim);
	loop_free(loop);
	return r == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct sim_options o = sim_defaults();
	const char *model = NULL;
	int option;
	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option == OPT_HELP || option == 'h') {
			fputs(usage, stdout);
			return 0;
		}
		if (!read_option(&o, option, &model)) {
			fprintf(stderr, "sluice-sim: bad option or value; see --help\n");
			return 2;
		}
	}
	if (model && optind < argc)
		return print_answer(model, argv[optind], o.tokens);
	if (model || optind < argc || (!o.plain && (!o.cert || !o.key))) {
		fprintf(stderr, "sluice-sim: needs --cert and --key, or --plain; see --help\n");
		return 2;
	}
	return run(&o);
}
