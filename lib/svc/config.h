/* The configuration: one YAML file for all programs, read whole, checked for form and for meaning,
 *then handed out as plain data that nobody changes. Refuses unknown keys and sections, keys that
 *stand twice, values outside their limits and names that lead nowhere; each error says file and
 *line.
 *
 *	log:      {level: info, format: text}
 *	kafka:    {brokers: "127.0.0.1:9092", topic_prefix: "", settings: [{name: security.protocol, value: ssl}]}
 *	redis:    {url: "redis://127.0.0.1:6379"}
 *	postgres: {conninfo: "host=127.0.0.1 dbname=sluice password=${SLUICE_PG_PASSWORD}"}
 *	blob:     {dir: /var/lib/sluice/blob}
 *	webhooks: {networks: "10.1.0.0/16"}
 *	accounts: [{name: anthropic-main, kind: anthropic, base_url: "https://api.anthropic.com", key_env: ANTHROPIC_API_KEY}]
 *	routes:   [{name: feedback, kind: task, targets: [{account: anthropic-main, model: claude-sonnet-4-5}]}]
 *	prices:   [{provider: anthropic, model: claude-sonnet-4-5, valid_from: 2026-01-01, input: 3, output: 15}]
 *	fairness: {orgs: [{name: org_01J9ZQ3M5T7W8X2Y4A6C8E0G1H, weight: 4}]}
 *	front:    {listen: "127.0.0.1:8080", admin: "127.0.0.1:9101"}     (a program's own section: its options.def)
 *
 * `${NAME}` in any value is the environment's; a missing one is an error. README.md lists every
 *key. */
#ifndef SLUICE_SVC_CONFIG_H
#define SLUICE_SVC_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/log.h"
#include "lib/svc/option.h"

struct lane_setting;

struct config_kafka {
	const char *brokers;		     /* "host:port,host:port" */
	const char *topic_prefix;	     /* stands before every topic and group, "" for none */
	const struct lane_setting *settings; /* passed through to librdkafka as they stand */
	size_t setting_count;
};

struct config_redis {
	const char *url;     /* redis://[user:password@]host[:port][/db] or rediss:// */
	const char *ca_file; /* trust for rediss://, "" for the system's */
	int64_t connections; /* per process */
	uint64_t connect_ms;
	uint64_t command_ms; /* a command without an answer for so long closes its connection */
};

struct config_postgres {
	const char *conninfo; /* as libpq reads it */
	int64_t connections;  /* per process */
	uint64_t connect_ms;
	uint64_t query_ms;
};

struct config_blob {
	const char *dir;
};

/* What URLs a job may name for its webhook, and where sluice-notify may connect to. */
struct config_webhooks {
	bool http; /* also http://, without TLS */
	const char
	    *networks; /* allowed besides the public Internet: "10.1.0.0/16, ::1"; "" for none */
	const char *ca_file; /* trust for receivers; "" for the system's */
};

/* An account at a provider. */
struct config_account {
	const char *name;
	const char *kind; /* "anthropic", "openai", "deepgram": a provider of consumers/providers */
	const char
	    *base_url; /* https://host[:port][/path] without a slash at the end; http:// too */
	const char *ca_file;  /* "" for the system's trust */
	const char *key_env;  /* where the secret comes from: a variable, */
	const char *key_file; /* or the first line of a file */
	const char *key; /* the secret itself; "" unless config_request.secrets. Never log it */
	const char
	    *prefix;	   /* "auto", "none", "message", "vllm": how its models go on with a text */
	const char *cache; /* "auto", "none": whether prompts are marked for the provider's cache */
	const char *http;  /* "auto", "2", "1.1" */
	int64_t connections; /* at most so many to this account */
	int64_t
	    streams;  /* at most so many at once on one connection (the peer's setting lowers it) */
	int64_t warm; /* connections that are kept open, also without a call */
	uint64_t connection_age_ms;
	int64_t connection_calls;
	uint64_t ping_ms;
	uint64_t idle_ms;
	uint64_t connect_ms; /* the five clocks of a call */
	uint64_t headers_ms;
	uint64_t first_token_ms;
	uint64_t silence_ms;
	uint64_t whole_ms;
	unsigned line;
};

struct config_target {
	const struct config_account *account;
	const char *account_name;
	const char *model; /* as the provider calls it */
	int64_t
	    weight; /* its share among the targets beside it that have one; 0: a step of its own */
	unsigned line;
};

enum config_route_kind { CONFIG_ROUTE_TASK, CONFIG_ROUTE_MODEL };

/* Of one route. */
#define CONFIG_TARGETS_MAX 16

/* What a job may ask for by name (a task, or a model's alias), and who does it, in this order. */
struct config_route {
	const char *name;
	enum config_route_kind kind;
	struct config_target *targets; /* never empty */
	size_t target_count;
	const char *system; /* the system prompt of a task, "" for none */
	int64_t max_tokens; /* of an answer where the job names none; 0: the model's own limit */
	uint64_t
	    hedge_ms; /* a second target is asked beside the first one after so long; 0: never */
	const char *orgs;  /* only for these, comma-separated; "" for all */
	const char *users; /* only for these, comma-separated; "" for all */
	int64_t percent;   /* of the sessions: always the same ones, and more where it is raised */
	unsigned line;
};
/* True where the route is for that organisation and user, and its share holds @session (what it is to be stable for). */
bool config_route_is_for(const struct config_route *route, struct str org, struct str user,
			 struct str session);

/* What a job asks for and who asks. Each may be empty; what a share is stable for is the session, else the user, else the job. */
struct config_wish {
	struct str task;
	struct str
	    model; /* counts where there is no task: a route's alias, or a target's model itself */
	struct str org;
	struct str user;
	struct str session;
	struct str job;
};

/* A provider's limit on a group of accounts and a class of models, as the provider counts them together. 0: no such limit. */
struct config_quota {
	const char *name;     /* letters, digits, '-', '_', '.' */
	const char *accounts; /* names, comma-separated */
	const char *models;   /* names or beginnings with '*', comma-separated */
	int64_t requests;     /* these four in a minute */
	int64_t input_tokens;
	int64_t output_tokens;
	int64_t tokens; /* input and output together */
	uint64_t
	    burst_ms; /* not more at once than so much of the minute's share; 0: a minute's at once */
	unsigned line;
};

/* Picodollars per token, exact: 1 USD per million tokens is 1,000,000 of them. */
struct config_price {
	const char *provider; /* an account's kind */
	const char *model;
	uint64_t valid_from_ms; /* since 1970 UTC */
	int64_t input;
	int64_t output;
	int64_t cache_read;
	int64_t cache_write_5m;
	int64_t cache_write_1h;
	unsigned line;
};

/* An organisation whose share differs from 1. */
struct config_org {
	const char *id; /* "org_…" */
	int64_t weight;
	unsigned line;
};

/* Options that every program has in its own section (lib/svc/options.def). */
struct config_common {
#define OPTION OPTION_MEMBER
#include "lib/svc/options.def"
#undef OPTION
};

struct config {
	struct arena arena; /* holds all that follows */
	const char *file;   /* "" where none was read */
	enum log_level log_level;
	bool log_json;
	struct config_kafka kafka;
	struct config_redis redis;
	struct config_postgres postgres;
	struct config_blob blob;
	struct config_webhooks webhooks;
	struct config_account *accounts;
	size_t account_count;
	struct config_route *routes;
	size_t route_count;
	struct config_price *prices;
	size_t price_count;
	struct config_org *orgs; /* sorted by id */
	size_t org_count;
	struct config_quota *quotas;
	size_t quota_count;
	struct config_common common;
	void *own; /* the program's values, by its table */
};

/* What to read, and for whom. */
struct config_request {
	const char *file;    /* NULL: defaults and @sets alone */
	const char *section; /* the program's own; NULL for none */
	const struct option *options;
	size_t option_count;
	size_t own_size;	 /* of the struct behind @options */
	const char *const *sets; /* "section.key=value", stronger than the file */
	size_t set_count;
	bool secrets; /* read the accounts' keys; a missing one is an error */
	const char *(*env)(const char *name); /* NULL: getenv */
};

enum config_result { CONFIG_OK = 0, CONFIG_INVALID = 1 };

/* Reads and checks. On CONFIG_INVALID @errors has a line "FILE:LINE: what" for each mistake found.
 * The caller owns
 * *@ret_config (config_free). Reads files: at start-up and on reload only. */
must_check enum config_result config_load(const struct config_request *request,
					  struct config **ret_config, struct buf *errors);
/* The same for @text; @name stands for the file's name in errors. */
must_check enum config_result config_parse(const struct config_request *request, const char *name,
					   struct str text, struct config **ret_config,
					   struct buf *errors);
/* Values that are read at the start only (RESTART in their table, kafka.settings): where @config, read anew, has others than @old, which is
 * in use, it gets the old ones, and @each hears of which. Strings stay @old's, which must live as long as @config. */
typedef void config_kept(void *ctx, const char *section, const char *key);
void config_keep(const struct config_request *request, struct config *config, struct config *old,
		 config_kept *each, void *ctx);
/* Wipes the secrets. Accepts NULL. */
void config_free(struct config *config);

/* NULL where there is none. */
const struct config_account *config_account_find(const struct config *config, struct str name);
/* The first route with the wish's task or alias that is for it; NULL where none is. */
const struct config_route *config_route_for(const struct config *config,
					    const struct config_wish *wish);
/* True where the wish's model is one of @route's targets, and may be asked there by that name: the route is for the wish. A share of a
 * route opens to a session or a user only, for by its own id each repetition of a job would draw anew. */
bool config_route_opens(const struct config_route *route, const struct config_wish *wish);
/* The first route of that name which somebody of @org may use; NULL where none is. */
const struct config_route *config_route_of(const struct config *config, enum config_route_kind kind,
					   struct str name, struct str org);

/* The share of @org among the others of a lane: 1 where the configuration says nothing. */
uint32_t config_org_weight(const struct config *config, struct str org);

/* The first quota that calls to @model of @account count against; NULL: they are not limited. */
const struct config_quota *config_quota_find(const struct config *config, struct str account,
					     struct str model);

/* The price of @model at @wall_ms: the newest one valid then. A dated model
 * ("claude-sonnet-4-5-20250929") has the price of its undated name where it has none of its own.
 * NULL where none is known. */
const struct config_price *config_price_find(const struct config *config, struct str provider,
					     struct str model, uint64_t wall_ms);

#endif
