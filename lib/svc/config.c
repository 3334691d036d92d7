#include "lib/svc/config.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/id.h"
#include "lib/base/mem.h"
#include "lib/lane/lane.h"
#include "lib/net/address.h"
#include "lib/svc/lists.h"
#include "lib/svc/record.h"
#include "lib/svc/tree.h"

#define CONFIG_MAX_BYTES (4u << 20)

struct log_words {
	const char *level;
	const char *format;
};

/* Sections of programs: known here, so that one file serves all and a slip of the pen is still refused. */
static const char *const program_sections[] = {"front",	    "pool", "push", "archive", "notify",
					       "scheduler", "dash", "ctl",  "load",    "sim"};

/* clang-format off */
#define OPTION_OF struct log_words
static const struct option log_options[] = {
	OPTION_LINE(level, "level", STRING, "info", 1, 5, "debug, info, warn or error")
	OPTION_LINE(format, "format", STRING, "text", 1, 5, "text (key=value) or json")
};
#undef OPTION_OF
#define OPTION_OF struct config_common
static const struct option common_options[] = {
#define OPTION OPTION_LINE
#include "lib/svc/options.def"
#undef OPTION
};
#undef OPTION_OF
#define OPTION_OF struct config_kafka
static const struct option kafka_options[] = {
	OPTION_LINE(brokers, "brokers", STRING, "127.0.0.1:9092", 1, 4096, "host:port,host:port", RESTART)
	OPTION_LINE(topic_prefix, "topic_prefix", STRING, "", 0, 64, "stands before every topic and group", RESTART)
};
#undef OPTION_OF
#define OPTION_OF struct config_redis
static const struct option redis_options[] = {
	OPTION_LINE(url, "url", STRING, "redis://127.0.0.1:6379", 1, 1024,
		    "redis://[user:password@]host[:port][/db], or rediss:// for TLS", RESTART)
	OPTION_LINE(ca_file, "ca_file", STRING, "", 0, 4096, "CAs to trust; the system's where empty", RESTART)
	OPTION_LINE(connections, "connections", INT, 2, 1, 64, "connections of one process", RESTART)
	OPTION_LINE(connect_ms, "connect_ms", MS, 2000, 10, 60000, "until connected", RESTART)
	OPTION_LINE(command_ms, "command_ms", MS, 2000, 10, 60000, "until a command is answered", RESTART)
};
#undef OPTION_OF
#define OPTION_OF struct config_postgres
static const struct option postgres_options[] = {
	OPTION_LINE(conninfo, "conninfo", STRING, "", 0, 4096, "as libpq reads it", RESTART)
	OPTION_LINE(connections, "connections", INT, 2, 1, 64, "connections of one process", RESTART)
	OPTION_LINE(connect_ms, "connect_ms", MS, 5000, 10, 60000, "until connected", RESTART)
	OPTION_LINE(query_ms, "query_ms", MS, 10000, 10, 600000, "until a query is answered", RESTART)
};
#undef OPTION_OF
#define OPTION_OF struct config_blob
static const struct option blob_options[] = {
	OPTION_LINE(dir, "dir", STRING, "/var/lib/sluice/blob", 1, 4096, "payloads above 256 KiB", RESTART)
};
#undef OPTION_OF
#define OPTION_OF struct config_webhooks
static const struct option webhooks_options[] = {
	OPTION_LINE(http, "http", BOOL, false, 0, 0, "a job may name an http:// URL too")
	OPTION_LINE(networks, "networks", STRING, "", 0, 4096, "networks allowed besides public addresses")
	OPTION_LINE(ca_file, "ca_file", STRING, "", 0, 4096, "CAs to trust for receivers; the system's where empty", RESTART)
};
#undef OPTION_OF
/* clang-format on */

/* A section that is one map of values. */
struct section {
	const char *name;
	struct record_table tables[2];
	size_t table_count;
	const char *const *others;
};

enum {
	SECTION_LOG,
	SECTION_KAFKA,
	SECTION_REDIS,
	SECTION_POSTGRES,
	SECTION_BLOB,
	SECTION_WEBHOOKS,
	SECTION_FAIRNESS,
	SECTION_OWN,
	SECTIONS
};

static const char *const kafka_lists[] = {"settings", NULL};
static const char *const fairness_lists[] = {"orgs", NULL};
static const char *const top_lists[] = {"accounts", "routes", "prices", "quotas"};

#define TABLE(options, values) {{(options), countof(options), (values)}}, 1

static void sections_of(const struct config_request *request, struct config *config,
			struct log_words *log, struct section out[static SECTIONS])
{
	out[SECTION_LOG] = (struct section){"log", TABLE(log_options, log), NULL};
	out[SECTION_KAFKA] =
	    (struct section){"kafka", TABLE(kafka_options, &config->kafka), kafka_lists};
	out[SECTION_REDIS] = (struct section){"redis", TABLE(redis_options, &config->redis), NULL};
	out[SECTION_POSTGRES] =
	    (struct section){"postgres", TABLE(postgres_options, &config->postgres), NULL};
	out[SECTION_BLOB] = (struct section){"blob", TABLE(blob_options, &config->blob), NULL};
	out[SECTION_WEBHOOKS] =
	    (struct section){"webhooks", TABLE(webhooks_options, &config->webhooks), NULL};
	out[SECTION_FAIRNESS] = (struct section){"fairness", {{0}}, 0, fairness_lists};
	out[SECTION_OWN] =
	    (struct section){request->section ? request->section : "",
			     {{common_options, countof(common_options), &config->common},
			      {request->options, request->option_count, config->own}},
			     2,
			     NULL};
}

static bool section_known(const struct section *sections, struct str name)
{
	for (size_t i = 0; i < SECTIONS; i++) {
		if (str_is(name, sections[i].name))
			return true;
	}
	for (size_t i = 0; i < countof(top_lists); i++) {
		if (str_is(name, top_lists[i]))
			return true;
	}
	for (size_t i = 0; i < countof(program_sections); i++) {
		if (str_is(name, program_sections[i]))
			return true;
	}
	return false;
}

/* "section.key=value" from the command line. */
static void apply_set(struct record_reader *r, const struct section *sections, const char *set)
{
	struct str rest = str_of(set);
	struct str path;
	struct str name;

	if (!str_split(&rest, '=', &path) || !strchr(set, '=') || !str_split(&path, '.', &name)) {
		record_refuse(r, 0, "--set %s: section.key=value is expected", set);
		return;
	}
	for (size_t i = 0; i < SECTIONS; i++) {
		if (!str_is(name, sections[i].name))
			continue;
		for (size_t k = sections[i].table_count; k-- > 0;) {
			const struct record_table *t = &sections[i].tables[k];
			const struct option *o = option_find(t->options, t->count, path);
			const char *why;

			if (!o)
				continue;
			if (option_read(o, rest, t->values, r->arena, &why) != OPTION_OK)
				record_refuse(r, 0, "--set %s: the value is not %s", set, why);
			return;
		}
	}
	record_refuse(r, 0, "--set %s: there is no such key", set);
}

static void check_meaning(struct record_reader *r, const struct tree *root,
			  const struct log_words *log, struct config *config)
{
	static const char *const levels[] = {"debug", "info", "warn", "error"};
	const struct tree *at = tree_find(root, "log");
	size_t level = 0;

	while (level < countof(levels) && strcmp(log->level, levels[level]) != 0)
		level++;
	if (level == countof(levels))
		record_refuse(r, at ? record_line(at, "level") : 0,
			      "log.level: '%s' is not debug, info, warn or error", log->level);
	else
		config->log_level = (enum log_level)level;
	config->log_json = strcmp(log->format, "json") == 0;
	if (!config->log_json && strcmp(log->format, "text") != 0)
		record_refuse(r, at ? record_line(at, "format") : 0,
			      "log.format: '%s' is not text or json", log->format);
	at = tree_find(root, "webhooks");
	if (!address_networks_good(str_of(config->webhooks.networks)))
		record_refuse(r, at ? record_line(at, "networks") : 0,
			      "webhooks.networks: networks like 10.1.0.0/16 or fd00::/8 are "
			      "expected, comma-separated");
	at = tree_find(root, "redis");
	if (!lists_url_is(config->redis.url, "redis"))
		record_refuse(r, at ? record_line(at, "url") : 0,
			      "redis.url: a URL of the form "
			      "redis://[user:password@]host[:port][/db] is expected");
}

static void read_root(struct record_reader *r, const struct config_request *request,
		      const struct tree *root, struct config *config)
{
	static const struct tree nothing;
	struct log_words log;
	struct section sections[SECTIONS];
	const struct tree *kafka = tree_find(root, "kafka");
	const struct tree *fairness = tree_find(root, "fairness");

	sections_of(request, config, &log, sections);
	if (root->kind != TREE_MAP && root->kind != TREE_EMPTY)
		record_refuse(r, root->line, "sections with keys are expected here");
	for (const struct tree *t = root->children; t; t = t->next) {
		if (root->kind == TREE_MAP && !section_known(sections, t->key))
			record_refuse(r, t->line, "unknown section '%.*s'", STR_FMT(t->key));
	}
	for (size_t i = 0; i < SECTIONS; i++) {
		const struct tree *t = tree_find(root, sections[i].name);

		record_read(r, t ? t : &nothing, sections[i].name, sections[i].tables,
			    sections[i].table_count, sections[i].others);
	}
	for (size_t i = 0; i < request->set_count; i++)
		apply_set(r, sections, request->sets[i]);
	lists_settings(r, kafka ? tree_find(kafka, "settings") : NULL, &config->kafka);
	lists_accounts(r, tree_find(root, "accounts"), config, request->secrets);
	lists_routes(r, tree_find(root, "routes"), config);
	lists_prices(r, tree_find(root, "prices"), config);
	lists_orgs(r, fairness ? tree_find(fairness, "orgs") : NULL, config);
	lists_quotas(r, tree_find(root, "quotas"), config);
	check_meaning(r, root, &log, config);
}

static const char *env_of_process(const char *name)
{
	return getenv(name);
}

enum config_result config_parse(const struct config_request *request, const char *name,
				struct str text, struct config **ret_config, struct buf *errors)
{
	struct config *config = mem_new(struct config);
	struct record_reader r = {.arena = &config->arena,
				  .name = name,
				  .errors = errors,
				  .env = request->env ? request->env : env_of_process};
	struct tree *root;

	config->file = arena_strdup(&config->arena, request->file ? request->file : "");
	config->own = arena_alloc(&config->arena, request->own_size + 1);
	if (tree_read(&config->arena, name, text, &root, errors) != TREE_OK) {
		config_free(config);
		return CONFIG_INVALID;
	}
	read_root(&r, request, root, config);
	if (r.mistakes) {
		config_free(config);
		return CONFIG_INVALID;
	}
	*ret_config = config;
	return CONFIG_OK;
}

enum config_result config_load(const struct config_request *request, struct config **ret_config,
			       struct buf *errors)
{
	enum config_result result;
	struct buf text = {0};
	int error;

	if (!request->file)
		return config_parse(request, "options", (struct str){0}, ret_config, errors);
	error = lists_read_file(request->file, CONFIG_MAX_BYTES, &text);
	if (error) {
		buf_printf(errors, "%s: %s\n", request->file, strerror(-error));
		buf_fini(&text);
		return CONFIG_INVALID;
	}
	result = config_parse(request, request->file, buf_str(&text), ret_config, errors);
	buf_fini(&text);
	return result;
}

static bool same_settings(const struct config_kafka *a, const struct config_kafka *b)
{
	if (a->setting_count != b->setting_count)
		return false;
	for (size_t i = 0; i < a->setting_count; i++)
		if (strcmp(a->settings[i].name, b->settings[i].name) != 0 ||
		    strcmp(a->settings[i].value, b->settings[i].value) != 0)
			return false;
	return true;
}

static void keep_section(const struct section *now, const struct section *before, config_kept *each,
			 void *ctx)
{
	for (size_t k = 0; k < now->table_count; k++) {
		const struct record_table *t = &now->tables[k];

		for (size_t i = 0; i < t->count; i++) {
			const struct option *o = &t->options[i];

			if (!o->restart || option_same(o, t->values, before->tables[k].values))
				continue;
			option_copy(o, t->values, before->tables[k].values);
			each(ctx, now->name, o->key);
		}
	}
}

void config_keep(const struct config_request *request, struct config *config, struct config *old,
		 config_kept *each, void *ctx)
{
	struct log_words words;
	struct section now[SECTIONS], before[SECTIONS];

	sections_of(request, config, &words, now);
	sections_of(request, old, &words, before);
	for (size_t i = 0; i < SECTIONS; i++)
		if (i != SECTION_LOG)
			keep_section(&now[i], &before[i], each, ctx);
	if (same_settings(&config->kafka, &old->kafka))
		return;
	config->kafka.settings = old->kafka.settings;
	config->kafka.setting_count = old->kafka.setting_count;
	each(ctx, "kafka", "settings");
}

void config_free(struct config *config)
{
	if (!config)
		return;
	for (size_t i = 0; i < config->account_count; i++) {
		/* Not from a literal: read_key copied it into the arena. */
		if (config->accounts[i].key && *config->accounts[i].key)
			mem_wipe((char *)(uintptr_t)config->accounts[i].key,
				 strlen(config->accounts[i].key));
	}
	arena_reset(&config->arena);
	mem_free(config);
}

const struct config_account *config_account_find(const struct config *config, struct str name)
{
	for (size_t i = 0; i < config->account_count; i++) {
		if (str_is(name, config->accounts[i].name))
			return &config->accounts[i];
	}
	return NULL;
}

/* @list: comma-separated. */
static bool holds(const char *list, struct str name)
{
	struct str rest = str_of(list), item;

	while (rest.len && str_split(&rest, ',', &item))
		if (str_eq(str_trim(item), name))
			return true;
	return false;
}

/* The same for a session as long as the route has its name: FNV-1a, its bits mixed. */
static unsigned share_of(const char *route, struct str session)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (const char *c = route; *c; c++)
		h = (h ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
	for (size_t i = 0; i < session.len; i++)
		h = (h ^ (unsigned char)session.ptr[i]) * UINT64_C(0x100000001b3);
	h = (h ^ (h >> 33)) * UINT64_C(0xff51afd7ed558ccd);
	h ^= h >> 33;
	return (unsigned)(h % 100);
}

bool config_route_is_for(const struct config_route *route, struct str org, struct str user,
			 struct str session)
{
	return (!*route->orgs || holds(route->orgs, org)) &&
	       (!*route->users || holds(route->users, user)) &&
	       (route->percent == 100 || share_of(route->name, session) < route->percent);
}

const struct config_route *config_route_for(const struct config *config,
					    const struct config_wish *wish)
{
	enum config_route_kind kind = wish->task.len ? CONFIG_ROUTE_TASK : CONFIG_ROUTE_MODEL;
	struct str name = wish->task.len ? wish->task : wish->model;
	struct str stable = wish->session.len ? wish->session
			    : wish->user.len  ? wish->user
					      : wish->job;

	for (size_t i = 0; i < config->route_count; i++) {
		const struct config_route *route = &config->routes[i];

		if (route->kind == kind && str_is(name, route->name) &&
		    config_route_is_for(route, wish->org, wish->user, stable))
			return route;
	}
	return NULL;
}

bool config_route_opens(const struct config_route *route, const struct config_wish *wish)
{
	struct str stable = wish->session.len ? wish->session : wish->user;

	if (wish->task.len || !wish->model.len || (route->percent < 100 && !stable.len) ||
	    !config_route_is_for(route, wish->org, wish->user, stable))
		return false;
	for (size_t i = 0; i < route->target_count; i++)
		if (str_is(wish->model, route->targets[i].model))
			return true;
	return false;
}

const struct config_route *config_route_of(const struct config *config, enum config_route_kind kind,
					   struct str name, struct str org)
{
	for (size_t i = 0; i < config->route_count; i++) {
		const struct config_route *route = &config->routes[i];

		if (route->kind == kind && str_is(name, route->name) &&
		    (!*route->orgs || holds(route->orgs, org)))
			return route;
	}
	return NULL;
}

static const struct config_price *price_of(const struct config *config, struct str provider,
					   struct str model, uint64_t wall_ms)
{
	const struct config_price *best = NULL;

	for (size_t i = 0; i < config->price_count; i++) {
		const struct config_price *p = &config->prices[i];

		if (p->valid_from_ms <= wall_ms && str_is(provider, p->provider) &&
		    str_is(model, p->model) && (!best || p->valid_from_ms > best->valid_from_ms))
			best = p;
	}
	return best;
}

const struct config_price *config_price_find(const struct config *config, struct str provider,
					     struct str model, uint64_t wall_ms)
{
	const struct config_price *p = price_of(config, provider, model, wall_ms);
	size_t end = model.len;

	if (p)
		return p;
	/* "-20250929" or "-2025-09-29" */
	while (end && ((model.ptr[end - 1] >= '0' && model.ptr[end - 1] <= '9') ||
		       model.ptr[end - 1] == '-'))
		end--;
	for (; end < model.len; end++) {
		size_t rest = model.len - end;

		if (model.ptr[end] == '-' && (rest == 9 || rest == 11))
			return price_of(config, provider, (struct str){model.ptr, end}, wall_ms);
	}
	return NULL;
}

uint32_t config_org_weight(const struct config *config, struct str org)
{
	size_t low = 0, high = org.len == ID_LEN ? config->org_count : 0;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = memcmp(org.ptr, config->orgs[middle].id, ID_LEN);

		if (!order)
			return (uint32_t)config->orgs[middle].weight;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return 1;
}
