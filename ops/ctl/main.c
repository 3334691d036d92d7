/* sluicectl: the operators' command. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/mem.h"
#include "lib/svc/config.h"
#include "ops/ctl/ctl.h"

static const struct word {
	const char *first;
	const char *second; /* NULL: one word */
	bool config;
	int (*run)(const struct ctl *ctl);
} words[] = {
    {"topics", "apply", true, ctl_topics_apply},
    {"kafka", "wait", true, ctl_kafka_wait},
    {"migrate", NULL, true, ctl_migrate},
    {"keys", "add", true, ctl_keys_add},
    {"chat", NULL, false, ctl_chat},
    {"depth", NULL, true, ctl_depth},
    {"dead", "list", true, ctl_dead_list},
    {"dead", "show", true, ctl_dead_show},
    {"dead", "redrive", true, ctl_dead_redrive},
    {"dead", "drop", true, ctl_dead_drop},
    {"webhooks", "list", true, ctl_webhooks_list},
    {"webhooks", "retry", true, ctl_webhooks_retry},
    {"webhooks", "secret", true, ctl_webhooks_secret},
    {"webhooks", "rotate", true, ctl_webhooks_rotate},
    {"webhooks", "retire", true, ctl_webhooks_retire},
};

/* The command line, read. */
struct line {
	struct ctl ctl;
	const char *config;
	const char *words[4];
	size_t count;
};

static void help(FILE *out)
{
	fputs(
	    "sluicectl: the operators' command of Sluice\n\n"
	    "  sluicectl --config FILE topics apply [--replication N] [--timeout-ms N]\n"
	    "      makes the topics that are missing\n"
	    "  sluicectl --config FILE kafka wait [--timeout-ms N]\n"
	    "      returns when the brokers answer\n"
	    "  sluicectl --config FILE migrate\n"
	    "      brings PostgreSQL's tables up to date\n"
	    "  sluicectl --config FILE keys add --org NAME [--name N]\n"
	    "      prints a new API key, once; the organisation is made where it is missing\n"
	    "  sluicectl --config FILE depth [--json]\n"
	    "      what the readers of each topic have not completed, and how old the oldest is; "
	    "the "
	    "archive's is\n"
	    "      unknown, and the status 1, without PostgreSQL\n"
	    "  sluicectl --config FILE dead list [--org O] [--fault F] [--since TIME] [--limit N] "
	    "[--all]\n"
	    "      jobs that used up their tries, newest first, at most 100 without --limit; "
	    "--all: "
	    "also those\n"
	    "      that were dealt with\n"
	    "  sluicectl --config FILE dead show JOB\n"
	    "      its whole history\n"
	    "  sluicectl --config FILE dead redrive|drop JOB | --org O, --fault F, --since TIME, "
	    "--limit N\n"
	    "      submits them again as new jobs (metadata.redrive_of names the old one; one "
	    "job each,\n"
	    "      however often it is said), or puts them away. redrive refuses a session's turn, "
	    "whose\n"
	    "      conversation the new job would not know: --without-session submits it alone. "
	    "--shards N:\n"
	    "      as front.shards, where that is not 2\n"
	    "  sluicectl --config FILE webhooks list [--org O] [--limit N] [--all]\n"
	    "      webhooks that failed and wait, or were given up; --all: every one\n"
	    "  sluicectl --config FILE webhooks retry JOB | --org O\n"
	    "      makes one due now, or all of an organisation that were given up\n"
	    "  sluicectl --config FILE webhooks secret|rotate|retire --org O\n"
	    "      prints the secrets that sign, newest first; rotate adds one, retire leaves the "
	    "newest\n"
	    "  sluicectl chat --front URL --key KEY [--lane L] [--task T | --model M] \"text\"\n"
	    "      sends one job, prints its answer as it streams, then its times (SLUICE_FRONT, "
	    "SLUICE_KEY)\n\n"
	    "Status: 0 done, 1 failed, 2 wrong usage or configuration.\n",
	    out);
}

static int usage(const char *what, const char *value)
{
	fprintf(stderr, "sluicectl: %s%s%s; sluicectl --help says more\n", what, value ? ": " : "",
		value ? value : "");
	return 2;
}

static int read_number(const char *name, const char *text, long max, long *ret_value)
{
	uint64_t value;

	if (!str_u64(str_of(text), &value) || value < 1 || value > (uint64_t)max)
		return usage(name, "a whole number within its limits is needed");
	*ret_value = (long)value;
	return 0;
}

/* One option and its value: 0, or the exit code. */
static int read_option(const char *name, const char *value, struct line *l)
{
	const struct {
		const char *name;
		const char **to;
	} texts[] = {
	    {"--config", &l->config},	{"--org", &l->ctl.org},	  {"--name", &l->ctl.name},
	    {"--front", &l->ctl.front}, {"--key", &l->ctl.key},	  {"--lane", &l->ctl.lane},
	    {"--model", &l->ctl.model}, {"--task", &l->ctl.task}, {"--fault", &l->ctl.fault},
	    {"--since", &l->ctl.since},
	};

	for (size_t i = 0; i < countof(texts); i++) {
		if (strcmp(name, texts[i].name) == 0) {
			*texts[i].to = value;
			return value ? 0 : usage("a value is missing", name);
		}
	}
	if (strcmp(name, "--replication") == 0)
		return read_number(name, value, 9, &l->ctl.replication);
	if (strcmp(name, "--timeout-ms") == 0)
		return read_number(name, value, 3600000, &l->ctl.timeout_ms);
	if (strcmp(name, "--limit") == 0)
		return read_number(name, value, 1000000, &l->ctl.limit);
	if (strcmp(name, "--shards") == 0)
		return read_number(name, value, 64, &l->ctl.shards);
	return usage("unknown option", name);
}

static bool read_flag(const char *name, struct line *l)
{
	if (strcmp(name, "--json") == 0)
		l->ctl.json = true;
	else if (strcmp(name, "--all") == 0)
		l->ctl.all = true;
	else if (strcmp(name, "--without-session") == 0)
		l->ctl.without_session = true;
	else
		return false;
	return true;
}

/* 0, or the exit code; -1 for help. */
static int read_line(int argc, char **argv, struct line *l)
{
	for (int i = 1; i < argc; i++) {
		int r = 0;

		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			help(stdout);
			return -1;
		}
		if (strcmp(argv[i], "--") == 0) {
			while (++i < argc && l->count < countof(l->words))
				l->words[l->count++] = argv[i];
			break;
		}
		if (read_flag(argv[i], l))
			continue;
		if (strncmp(argv[i], "--", 2) == 0) {
			r = read_option(argv[i], argv[i + 1], l);
			i++;
		} else if (l->count == countof(l->words)) {
			r = usage("too much", argv[i]);
		} else {
			l->words[l->count++] = argv[i];
		}
		if (r)
			return r;
	}
	return 0;
}

static const struct word *word_find(const char *first, const char *second)
{
	for (size_t i = 0; i < countof(words); i++) {
		if (strcmp(words[i].first, first) == 0 &&
		    (!words[i].second || (second && strcmp(words[i].second, second) == 0)))
			return &words[i];
	}
	return NULL;
}

/* Which letters: one by its id, or those that a filter names; never all by a slip. */
static int check_dead(const struct word *word, struct line *l)
{
	struct ctl *ctl = &l->ctl;
	bool filtered = ctl->org || ctl->fault || ctl->since || ctl->limit;

	if (l->count > 3)
		return usage("too much", l->words[3]);
	if (l->count == 3)
		ctl->text = l->words[2];
	if (word->run == ctl_dead_list)
		return ctl->text ? usage("too much", ctl->text) : 0;
	if (word->run == ctl_dead_show)
		return ctl->text ? 0 : usage("dead show needs a job's id", NULL);
	if (!ctl->text && !filtered)
		return usage("a job's id is needed, or a filter", NULL);
	return 0;
}

static int check_webhooks(const struct word *word, struct line *l)
{
	struct ctl *ctl = &l->ctl;
	bool retry = word->run == ctl_webhooks_retry;

	if (l->count > (retry ? 3 : 2))
		return usage("too much", l->words[l->count - 1]);
	if (l->count == 3)
		ctl->text = l->words[2];
	if (retry && !ctl->text == !ctl->org)
		return usage("webhooks retry needs a job's id, or --org", NULL);
	if (!retry && word->run != ctl_webhooks_list && !ctl->org)
		return usage("this needs --org NAME", NULL);
	return 0;
}

static int check(const struct word *word, struct line *l)
{
	struct ctl *ctl = &l->ctl;
	size_t at = word->second ? 2 : 1;

	if (word->run == ctl_keys_add && (!ctl->org || !ctl->org[0]))
		return usage("keys add needs --org NAME", NULL);
	if (strcmp(word->first, "dead") == 0)
		return check_dead(word, l);
	if (strcmp(word->first, "webhooks") == 0)
		return check_webhooks(word, l);
	if (word->run != ctl_chat)
		return at < l->count ? usage("too much", l->words[at]) : 0;
	if (!ctl->front)
		ctl->front = getenv("SLUICE_FRONT");
	if (!ctl->key)
		ctl->key = getenv("SLUICE_KEY");
	if (!ctl->front || !ctl->key)
		return usage("chat needs --front URL and --key KEY", NULL);
	if (at + 1 != l->count)
		return usage("chat needs one text, in quotes", NULL);
	ctl->text = l->words[at];
	return 0;
}

static int run(const struct word *word, struct ctl *ctl, const char *file)
{
	struct config_request request = {.file = file};
	struct config *config = NULL;
	struct buf errors = {0};
	int r;

	if (!word->config)
		return word->run(ctl);
	if (!file)
		return usage("this needs --config FILE", NULL);
	r = config_load(&request, &config, &errors);
	if (r) {
		fputs(buf_text(&errors), stderr);
		if (r < 0)
			log_error(ctl->log, "configuration not read", F_STR("file", file),
				  F_ERR(r));
		r = 2;
	} else {
		ctl->config = config;
		r = word->run(ctl);
	}
	buf_fini(&errors);
	config_free(config);
	return r;
}

int main(int argc, char **argv)
{
	struct log_sink sink = {.fd = 2, .level = LOG_INFO};
	struct log log = {.sink = &sink, .key = "svc", .value = "sluicectl"};
	struct line line = {.ctl.log = &log};
	const struct word *word;
	int r = read_line(argc, argv, &line);

	if (r)
		return r < 0 ? 0 : r;
	if (!line.count) {
		help(stderr);
		return 2;
	}
	word = word_find(line.words[0], line.words[1]);
	if (!word)
		return usage("unknown command", line.words[0]);
	r = check(word, &line);
	return r ? r : run(word, &line.ctl, line.config);
}
