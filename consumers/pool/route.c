#include "consumers/pool/route.h"

#include <errno.h>
#include <string.h>

#include "consumers/providers/provider.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/rand.h"
#include "lib/svc/config.h"

#define SHUT_FIRST_MS 250
#define SHUT_MAX_MS 15000
/* After so long one job finds out whether the account is good again. */
#define OUT_MS 60000
#define FAILURES_TO_SHUT 3
/* A probe that says nothing for so long is one no more. */
#define PROBE_US (15 * US_PER_S)
/* How soon who waits for a probe looks again. */
#define PROBE_LOOK_US (100 * US_PER_MS)

struct routes {
	unsigned refs;
	const struct config *config;
	struct account *accounts;
	size_t account_count;
	struct target **targets; /* one per (account, model) */
	size_t target_count;
};

static int account_open(struct account *a, const struct config_account *config, struct loop *loop,
			const struct log *log)
{
	struct client_options options = client_defaults();

	a->config = config;
	a->provider = provider_find(str_of(config->kind));
	if (!a->provider && strcmp(config->kind, "deepgram") == 0)
		return 0; /* another pool's kind of work */
	if (!a->provider)
		return err_origin(-EINVAL);
	if (a->provider->local)
		return 0;
	options.base_url = config->base_url;
	options.ca_file = config->ca_file[0] ? config->ca_file : NULL;
	options.http = strcmp(config->http, "2") == 0	  ? CLIENT_HTTP_2
		       : strcmp(config->http, "1.1") == 0 ? CLIENT_HTTP_1
							  : CLIENT_HTTP_AUTO;
	options.connect_us = config->connect_ms * US_PER_MS;
	options.max_connections = (uint32_t)config->connections;
	options.streams_per_connection = (uint32_t)config->streams;
	options.min_connections = (uint32_t)config->warm;
	options.max_age_us = config->connection_age_ms * US_PER_MS;
	options.max_calls = (uint32_t)config->connection_calls;
	options.ping_us = config->ping_ms * US_PER_MS;
	options.idle_us = config->idle_ms * US_PER_MS;
	return err_trace(client_open(loop, &options, log, &a->client));
}

int routes_open(struct loop *loop, const struct config *config, const struct log *log,
		struct routes **ret_routes)
{
	struct routes *routes = mem_new(struct routes);

	routes->refs = 1;
	routes->config = config;
	routes->account_count = config->account_count;
	routes->accounts = mem_alloc(config->account_count * sizeof(struct account));
	for (size_t i = 0; i < config->account_count; i++) {
		int r = account_open(&routes->accounts[i], &config->accounts[i], loop, log);

		if (r < 0) {
			log_error(log, "account cannot be used",
				  F_STR("account", config->accounts[i].name),
				  F_STR("kind", config->accounts[i].kind),
				  F_UINT("line", config->accounts[i].line), F_ERR(r));
			routes_unref(routes);
			return r;
		}
	}
	*ret_routes = routes;
	return 0;
}

struct routes *routes_ref(struct routes *routes)
{
	routes->refs++;
	return routes;
}

void routes_unref(struct routes *routes)
{
	if (!routes || --routes->refs)
		return;
	for (size_t i = 0; i < routes->account_count; i++)
		client_close(routes->accounts[i].client);
	for (size_t i = 0; i < routes->target_count; i++)
		mem_free(routes->targets[i]);
	mem_free(routes->targets);
	mem_free(routes->accounts);
	mem_free(routes);
}

static struct target *target_of(struct routes *routes, const struct config_target *want)
{
	struct target *t;

	for (size_t i = 0; i < routes->target_count; i++) {
		t = routes->targets[i];
		if (t->account->config == want->account && strcmp(t->model, want->model) == 0)
			return t;
	}
	t = mem_new(struct target);
	t->account = &routes->accounts[want->account - routes->config->accounts];
	t->model = want->model;
	routes->targets =
	    mem_resize(routes->targets, (routes->target_count + 1) * sizeof(*routes->targets));
	routes->targets[routes->target_count++] = t;
	return t;
}

static void add_target(struct routes *routes, struct route *route, const struct config_target *want)
{
	struct target *t = target_of(routes, want);

	if ((!t->account->client && !(t->account->provider && t->account->provider->local)) ||
	    route->count == ROUTE_TARGETS_MAX)
		return;
	for (size_t i = 0; i < route->count; i++)
		if (route->targets[i] == t)
			return;
	route->targets[route->count++] = t;
}

enum route_found route_find(struct routes *routes, struct str task, struct str model,
			    struct route *ret_route)
{
	const struct config *config = routes->config;
	const struct config_route *named =
	    task.len ? config_route_find(config, CONFIG_ROUTE_TASK, task)
		     : config_route_find(config, CONFIG_ROUTE_MODEL, model);
	struct route route = {.system = ""};

	if (named) {
		route.system = named->system;
		route.max_tokens = named->max_tokens;
		for (size_t i = 0; i < named->target_count; i++)
			add_target(routes, &route, &named->targets[i]);
	} else if (!task.len && model.len) {
		for (size_t r = 0; r < config->route_count; r++)
			for (size_t i = 0; i < config->routes[r].target_count; i++)
				if (str_is(model, config->routes[r].targets[i].model))
					add_target(routes, &route, &config->routes[r].targets[i]);
	}
	if (!route.count)
		return ROUTE_UNKNOWN;
	*ret_route = route;
	return ROUTE_FOUND;
}

struct target *route_choose(const struct route *route, uint32_t tried, uint64_t now_us,
			    size_t *ret_index, uint64_t *ret_wait_us)
{
	uint64_t wait = 0;

	for (size_t i = 0; i < route->count; i++) {
		struct target *t = route->targets[i];
		uint64_t until = t->shut_until_us;

		if (t->probe_until_us > now_us && until <= now_us)
			until = now_us + PROBE_LOOK_US;
		if (tried & (UINT32_C(1) << i) || t->account->out_until_us > now_us)
			continue;
		if (until <= now_us) {
			*ret_index = i;
			*ret_wait_us = 0;
			return t;
		}
		if (!wait || until - now_us < wait)
			wait = until - now_us;
	}
	*ret_wait_us = wait;
	return NULL;
}

void target_asked(struct target *t, uint64_t now_us)
{
	if (t->failures >= FAILURES_TO_SHUT)
		t->probe_until_us = now_us + PROBE_US;
}

void target_answers(struct target *t)
{
	if (!t->probe_until_us)
		return;
	t->probe_until_us = 0;
	t->failures = FAILURES_TO_SHUT - 1; /* the next failure shuts it again */
}

static void shut(struct target *t, uint64_t for_us, uint64_t now_us)
{
	if (now_us + for_us > t->shut_until_us)
		t->shut_until_us = now_us + for_us;
}

void target_learn(struct target *t, enum fault fault, int64_t retry_after_ms, uint64_t now_us,
		  struct rand *rand)
{
	uint64_t ms;

	t->probe_until_us = 0;
	switch (fault) {
	case FAULT_NONE:
		t->failures = 0;
		t->shut_until_us = 0;
		return;
	case FAULT_PROVIDER_AUTH:
	case FAULT_PROVIDER_QUOTA:
		t->account->out_until_us = now_us + OUT_MS * US_PER_MS;
		return;
	case FAULT_PROVIDER_RATE:
		ms = retry_after_ms >= 0 ? (uint64_t)retry_after_ms : 1000;
		shut(t, ms * US_PER_MS + rand_below(rand, 100) * US_PER_MS, now_us);
		return;
	case FAULT_PROVIDER_OVERLOADED:
	case FAULT_PROVIDER_TRANSPORT:
	case FAULT_PROVIDER_CUT:
	case FAULT_PROVIDER_MALFORMED:
	case FAULT_PROVIDER_SILENT:
		if (++t->failures < FAILURES_TO_SHUT)
			return;
		ms = SHUT_FIRST_MS
		     << (t->failures - FAILURES_TO_SHUT < 6 ? t->failures - FAILURES_TO_SHUT : 6);
		ms = ms > SHUT_MAX_MS ? SHUT_MAX_MS : ms;
		if (retry_after_ms > (int64_t)ms)
			ms = (uint64_t)retry_after_ms;
		shut(t, ms * US_PER_MS, now_us);
		return;
	default:
		return; /* the request's own fault says nothing about the target */
	}
}

struct account *routes_account(const struct routes *routes, size_t index)
{
	return index < routes->account_count ? &routes->accounts[index] : NULL;
}
