#include "lib/lane/lane.h"
#include "lib/svc/lists.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/id.h"
#include "lib/base/mem.h"

#define KEY_MAX_BYTES 4096

/* An entry of `routes`, before its words are understood. */
struct route_words {
	const char *name;
	const char *kind;
	const char *system;
	int64_t max_tokens;
	const char *orgs;
	const char *users;
	int64_t percent;
	uint64_t hedge_ms;
};

struct price_words {
	const char *provider;
	const char *model;
	const char *valid_from;
	const char *amount[5];
};

/* clang-format off */
#define OPTION_OF struct lane_setting
static const struct option setting_options[] = {
	OPTION_LINE(name, "name", STRING, "", 1, 256, "a property of librdkafka")
	OPTION_LINE(value, "value", STRING, "", 0, 4096, "its value")
};
#undef OPTION_OF
#define OPTION_OF struct config_account
static const struct option account_options[] = {
#define OPTION OPTION_LINE
#include "lib/svc/account.def"
#undef OPTION
};
#undef OPTION_OF
#define OPTION_OF struct route_words
static const struct option route_options[] = {
	OPTION_LINE(name, "name", STRING, "", 1, 128, "what a job asks for")
	OPTION_LINE(kind, "kind", STRING, "", 1, 16, "task or model")
	OPTION_LINE(system, "system", STRING, "", 0, 262144, "system prompt of a task")
	OPTION_LINE(max_tokens, "max_tokens", INT, 0, 0, 1000000, "of an answer; 0: the model's")
	OPTION_LINE(orgs, "orgs", STRING, "", 0, 8192, "only for these organisations, comma-separated")
	OPTION_LINE(users, "users", STRING, "", 0, 8192, "only for these users, comma-separated")
	OPTION_LINE(hedge_ms, "hedge_ms", MS, 0, 0, 60000, "until a second target is asked, while the first one's own latency is not known")
	OPTION_LINE(percent, "percent", INT, 100, 0, 100, "of the sessions")
};
#undef OPTION_OF
#define OPTION_OF struct config_target
static const struct option target_options[] = {
	OPTION_LINE(account_name, "account", STRING, "", 1, 64, "the name of an account")
	OPTION_LINE(model, "model", STRING, "", 1, 128, "as the provider calls it")
	OPTION_LINE(weight, "weight", INT, 0, 0, 1000, "its share among those beside it that have one")
};
#undef OPTION_OF
#define OPTION_OF struct config_org
static const struct option org_options[] = {
	OPTION_LINE(id, "name", STRING, "", 1, 64, "the organisation's id")
	OPTION_LINE(weight, "weight", INT, 1, 1, 1000, "its share against an organisation of weight 1")
};
#undef OPTION_OF
#define OPTION_OF struct price_words
static const struct option price_options[] = {
	OPTION_LINE(provider, "provider", STRING, "", 1, 32, "kind of the account")
	OPTION_LINE(model, "model", STRING, "", 1, 128, "as the provider calls it")
	OPTION_LINE(valid_from, "valid_from", STRING, "1970-01-01", 1, 40, "date or time")
	OPTION_LINE(amount[0], "input", STRING, "", 1, 24, "USD per million tokens")
	OPTION_LINE(amount[1], "output", STRING, "", 1, 24, "USD per million tokens")
	OPTION_LINE(amount[2], "cache_read", STRING, "", 0, 24, "USD per million tokens")
	OPTION_LINE(amount[3], "cache_write_5m", STRING, "", 0, 24, "USD per million tokens")
	OPTION_LINE(amount[4], "cache_write_1h", STRING, "", 0, 24, "USD per million tokens")
};
#undef OPTION_OF
/* clang-format on */

int lists_read_file(const char *path, size_t max_bytes, struct buf *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int result = 0;

	if (fd < 0)
		return err_origin(-errno);
	for (;;) {
		ssize_t n = read(fd, buf_room(out, 4096), 4096);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			result = err_origin(-errno);
		if (n <= 0)
			break;
		buf_added(out, (size_t)n);
		if (out->len > max_bytes) {
			result = err_origin(-EFBIG);
			break;
		}
	}
	close(fd);
	return result;
}

bool lists_url_is(const char *url, const char *scheme)
{
	struct str rest = str_of(url);
	size_t n = strlen(scheme);
	size_t host;
	const char *at;
	uint64_t port;

	if (!str_starts(rest, scheme))
		return false;
	n += url[n] == 's';
	if (strncmp(url + n, "://", 3) != 0)
		return false;
	rest = (struct str){url + n + 3, rest.len - n - 3};
	for (size_t i = 0; i < rest.len; i++) {
		if ((unsigned char)rest.ptr[i] <= ' ' || rest.ptr[i] == '"')
			return false;
	}
	rest.len = strcspn(rest.ptr, "/?#");
	at = memrchr(rest.ptr, '@', rest.len);
	if (at)
		rest = (struct str){at + 1, (size_t)(rest.ptr + rest.len - at - 1)};
	if (rest.len && rest.ptr[0] == '[') {
		at = memchr(rest.ptr, ']', rest.len);
		host = at ? (size_t)(at - rest.ptr) + 1 : 0;
	} else {
		at = memchr(rest.ptr, ':', rest.len);
		host = at ? (size_t)(at - rest.ptr) : rest.len;
	}
	if (!host || host == rest.len)
		return host != 0;
	rest = (struct str){rest.ptr + host, rest.len - host};
	return rest.ptr[0] == ':' && str_u64((struct str){rest.ptr + 1, rest.len - 1}, &port) &&
	       port > 0 && port < 65536;
}

void lists_settings(struct record_reader *r, const struct tree *list, struct config_kafka *kafka)
{
	size_t count = record_count(r, list, "kafka.settings");
	size_t at = 0;

	struct lane_setting *settings = arena_alloc(r->arena, (count + 1) * sizeof(*settings));
	unsigned *lines = arena_alloc(r->arena, (count + 1) * sizeof(*lines));

	for (const struct tree *t = count ? list->children : NULL; t; t = t->next) {
		struct lane_setting *s = &settings[at];

		record_read(r, t, "kafka.settings",
			    &(struct record_table){setting_options, countof(setting_options), s}, 1,
			    NULL);
		lines[at] = t->line;
		for (size_t i = 0; i < at; i++) {
			if (strcmp(settings[i].name, s->name) == 0)
				record_refuse(r, t->line,
					      "kafka.settings: '%s' stands in line %u already",
					      s->name, lines[i]);
		}
		at++;
	}
	kafka->settings = settings;
	kafka->setting_count = at;
}

static void read_key(struct record_reader *r, const struct tree *t, struct config_account *a)
{
	struct buf text = {0};
	struct str rest;
	struct str line;
	int error;

	if (*a->key_env) {
		const char *key = r->env(a->key_env);

		if (!key || !*key)
			record_refuse(r, record_line(t, "key_env"),
				      "account '%s': the environment has no key in '%s'", a->name,
				      a->key_env);
		else
			a->key = arena_strdup(r->arena, key);
		return;
	}
	error = lists_read_file(a->key_file, KEY_MAX_BYTES, &text);
	rest = buf_str(&text);
	if (error)
		record_refuse(r, record_line(t, "key_file"), "account '%s': %s: %s", a->name,
			      a->key_file, strerror(-error));
	else if (!str_split(&rest, '\n', &line) || !str_trim(line).len)
		record_refuse(r, record_line(t, "key_file"),
			      "account '%s': %s has no key in its first line", a->name,
			      a->key_file);
	else
		a->key = arena_dup(r->arena, str_trim(line).ptr, str_trim(line).len);
	mem_wipe(text.data, text.cap);
	buf_fini(&text);
}

/* What an account may be: the providers of consumers/providers, and speech's. */
static bool kind_known(const char *kind)
{
	static const char *const kinds[] = {"anthropic", "openai", "deepgram", "sleep"};

	for (size_t i = 0; i < countof(kinds); i++)
		if (strcmp(kind, kinds[i]) == 0)
			return true;
	return false;
}

static bool prefix_known(const char *how)
{
	static const char *const hows[] = {"auto", "none", "message", "vllm"};

	for (size_t i = 0; i < countof(hows); i++)
		if (strcmp(how, hows[i]) == 0)
			return true;
	return false;
}

static void read_account(struct record_reader *r, const struct tree *t, struct config_account *a,
			 bool secrets)
{
	unsigned before = r->mistakes;
	char *url;

	record_read(r, t, "accounts",
		    &(struct record_table){account_options, countof(account_options), a}, 1, NULL);
	a->line = t->line;
	a->key = "";
	if (r->mistakes != before)
		return;
	if (!kind_known(a->kind))
		record_refuse(
		    r, record_line(t, "kind"),
		    "account '%s': kind '%s' is none of anthropic, openai, deepgram, sleep",
		    a->name, a->kind);
	if (!lists_url_is(a->base_url, "http"))
		record_refuse(
		    r, record_line(t, "base_url"),
		    "account '%s': '%s' is not a URL of the form https://host[:port][/path]",
		    a->name, a->base_url);
	if (strcmp(a->http, "auto") != 0 && strcmp(a->http, "2") != 0 &&
	    strcmp(a->http, "1.1") != 0)
		record_refuse(r, record_line(t, "http"),
			      "account '%s': http '%s' is none of auto, 2, 1.1", a->name, a->http);
	if (!prefix_known(a->prefix))
		record_refuse(r, record_line(t, "prefix"),
			      "account '%s': prefix '%s' is none of auto, none, message, vllm",
			      a->name, a->prefix);
	if (strcmp(a->cache, "auto") != 0 && strcmp(a->cache, "none") != 0)
		record_refuse(r, record_line(t, "cache"),
			      "account '%s': cache '%s' is none of auto, none", a->name, a->cache);
	url = arena_strdup(r->arena, a->base_url);
	for (size_t n = strlen(url); n && url[n - 1] == '/'; n--)
		url[n - 1] = '\0';
	a->base_url = url;
	if (*a->key_env && *a->key_file)
		record_refuse(r, t->line, "account '%s': either key_env or key_file", a->name);
	else if (!*a->key_env && !*a->key_file)
		record_refuse(r, t->line, "account '%s': key_env or key_file is missing", a->name);
	else if (secrets)
		read_key(r, t, a);
}

void lists_accounts(struct record_reader *r, const struct tree *list, struct config *config,
		    bool secrets)
{
	size_t count = record_count(r, list, "accounts");

	config->accounts = arena_alloc(r->arena, (count + 1) * sizeof(*config->accounts));
	for (const struct tree *t = count ? list->children : NULL; t; t = t->next) {
		struct config_account *a = &config->accounts[config->account_count];
		const struct config_account *twin;

		read_account(r, t, a, secrets);
		twin = *a->name ? config_account_find(config, str_of(a->name)) : NULL;
		if (twin)
			record_refuse(r, record_line(t, "name"),
				      "account '%s' stands in line %u already", a->name,
				      twin->line);
		config->account_count++;
	}
}

static void read_targets(struct record_reader *r, const struct tree *t, struct config *config,
			 struct config_route *route)
{
	const struct tree *list = tree_find(t, "targets");
	size_t count = record_count(r, list, "routes.targets");

	if (!count)
		record_refuse(r, list ? list->line : t->line, "route '%s' has no targets",
			      route->name);
	if (count > CONFIG_TARGETS_MAX)
		record_refuse(r, list->line, "route '%s' has %zu targets: %d at most", route->name,
			      count, CONFIG_TARGETS_MAX);
	route->targets = arena_alloc(r->arena, (count + 1) * sizeof(*route->targets));
	for (const struct tree *e = count ? list->children : NULL; e; e = e->next) {
		struct config_target *target = &route->targets[route->target_count++];

		record_read(r, e, "routes.targets",
			    &(struct record_table){target_options, countof(target_options), target},
			    1, NULL);
		target->line = e->line;
		target->account = config_account_find(config, str_of(target->account_name));
		if (*target->account_name && !target->account)
			record_refuse(r, record_line(e, "account"),
				      "route '%s' names the unknown account '%s'", route->name,
				      target->account_name);
	}
}

/* A route before this one that leaves it nobody. */
static const struct config_route *twin_of(const struct config *config,
					  const struct config_route *route)
{
	for (size_t i = 0; i < config->route_count; i++) {
		const struct config_route *before = &config->routes[i];

		if (before->kind == route->kind && strcmp(before->name, route->name) == 0 &&
		    !*before->orgs && !*before->users && before->percent == 100)
			return before;
	}
	return NULL;
}

void lists_routes(struct record_reader *r, const struct tree *list, struct config *config)
{
	static const char *const others[] = {"targets", NULL};
	size_t count = record_count(r, list, "routes");

	config->routes = arena_alloc(r->arena, (count + 1) * sizeof(*config->routes));
	for (const struct tree *t = count ? list->children : NULL; t; t = t->next) {
		struct config_route *route = &config->routes[config->route_count];
		struct route_words words;
		const struct config_route *twin;

		record_read(r, t, "routes",
			    &(struct record_table){route_options, countof(route_options), &words},
			    1, others);
		route->name = words.name;
		route->system = words.system;
		route->max_tokens = words.max_tokens;
		route->orgs = words.orgs;
		route->users = words.users;
		route->percent = words.percent;
		route->hedge_ms = words.hedge_ms;
		route->line = t->line;
		route->kind =
		    strcmp(words.kind, "model") == 0 ? CONFIG_ROUTE_MODEL : CONFIG_ROUTE_TASK;
		if (*words.kind && strcmp(words.kind, "model") != 0 &&
		    strcmp(words.kind, "task") != 0)
			record_refuse(r, record_line(t, "kind"),
				      "routes.kind: '%s' is not task or model", words.kind);
		if (route->kind == CONFIG_ROUTE_MODEL && *route->system)
			record_refuse(r, record_line(t, "system"),
				      "route '%s': only a task has a system prompt", route->name);
		read_targets(r, t, config, route);
		twin = twin_of(config, route);
		if (twin && *route->name)
			record_refuse(r, record_line(t, "name"),
				      "route '%s' stands in line %u already, for everybody",
				      route->name, twin->line);
		config->route_count++;
	}
}

/* USD per million tokens, as a decimal with at most six places, in picodollars per token. */
static bool read_amount(const char *text, int64_t *ret_amount)
{
	struct str rest = str_of(text);
	struct str whole;
	struct str places = {"", 0};
	uint64_t amount;
	uint64_t part = 0;

	if (!str_split(&rest, '.', &whole) || whole.len > 9 || !str_u64(whole, &amount))
		return false;
	if (strchr(text, '.')) {
		places = rest;
		if (!places.len || places.len > 6 || !str_u64(places, &part))
			return false;
	}
	for (size_t i = places.len; i < 6; i++)
		part *= 10;
	*ret_amount = (int64_t)(amount * 1000000 + part);
	return true;
}

static void read_price(struct record_reader *r, const struct tree *t, struct config_price *price)
{
	static const char *const keys[] = {"input", "output", "cache_read", "cache_write_5m",
					   "cache_write_1h"};
	int64_t *amounts[] = {&price->input, &price->output, &price->cache_read,
			      &price->cache_write_5m, &price->cache_write_1h};
	struct price_words words;
	char *time;

	record_read(r, t, "prices",
		    &(struct record_table){price_options, countof(price_options), &words}, 1, NULL);
	price->provider = words.provider;
	price->model = words.model;
	price->line = t->line;
	time = arena_printf(r->arena, "%s%s", words.valid_from,
			    strlen(words.valid_from) == 10 ? "T00:00:00Z" : "");
	if (clock_parse(str_of(time), &price->valid_from_ms) != CLOCK_OK)
		record_refuse(r, record_line(t, "valid_from"),
			      "prices.valid_from: '%s' is not a date (2026-11-22)",
			      words.valid_from);
	for (size_t i = 0; i < countof(keys); i++) {
		/* What is written to a cache, or read from it, without a price of its own is input. */
		*amounts[i] = price->input;
		if (*words.amount[i] && !read_amount(words.amount[i], amounts[i]))
			record_refuse(r, record_line(t, keys[i]),
				      "prices.%s: '%s' is not an amount in USD per million tokens",
				      keys[i], words.amount[i]);
	}
}

void lists_prices(struct record_reader *r, const struct tree *list, struct config *config)
{
	size_t count = record_count(r, list, "prices");

	config->prices = arena_alloc(r->arena, (count + 1) * sizeof(*config->prices));
	for (const struct tree *t = count ? list->children : NULL; t; t = t->next) {
		struct config_price *price = &config->prices[config->price_count];

		read_price(r, t, price);
		for (size_t i = 0; i < config->price_count; i++) {
			const struct config_price *p = &config->prices[i];

			if (strcmp(p->provider, price->provider) == 0 &&
			    strcmp(p->model, price->model) == 0 &&
			    p->valid_from_ms == price->valid_from_ms)
				record_refuse(r, t->line, "this price stands in line %u already",
					      p->line);
		}
		config->price_count++;
	}
}

static int by_id(const void *a, const void *b)
{
	return strcmp(((const struct config_org *)a)->id, ((const struct config_org *)b)->id);
}

void lists_orgs(struct record_reader *r, const struct tree *list, struct config *config)
{
	size_t count = record_count(r, list, "fairness.orgs");

	config->orgs = arena_alloc(r->arena, (count + 1) * sizeof(*config->orgs));
	for (const struct tree *t = count ? list->children : NULL; t; t = t->next) {
		struct config_org *org = &config->orgs[config->org_count];

		record_read(r, t, "fairness.orgs",
			    &(struct record_table){org_options, countof(org_options), org}, 1,
			    NULL);
		org->line = t->line;
		if (*org->id && !id_is(str_of(org->id), "org"))
			record_refuse(r, record_line(t, "name"),
				      "fairness.orgs: '%s' is not the id of an organisation",
				      org->id);
		for (size_t i = 0; i < config->org_count; i++)
			if (strcmp(config->orgs[i].id, org->id) == 0)
				record_refuse(r, t->line,
					      "fairness.orgs: '%s' stands in line %u already",
					      org->id, config->orgs[i].line);
		config->org_count++;
	}
	qsort(config->orgs, config->org_count, sizeof(*config->orgs), by_id);
}
