#include "consumers/pool/route.h"

#include <errno.h>
#include <string.h>

#include "consumers/providers/provider.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/rand.h"
#include "lib/net/loop.h"
#include "lib/svc/config.h"

/* Of a new latency in the average of a target's. */
#define NEWEST 0.2
/* A target that was not asked yet counts as this quick: it is tried soon. */
#define LATENCY_UNKNOWN_US 1000.0

/* The other one of two is asked where it is so much better: below that the draw's proportion stands. */
#define CLEARLY 0.75
/* The quantile after which a hedge begins, how it is followed, and from how many answers on it is believed. */
#define SLOW 0.95
#define STEP 0.1
#define ANSWERS_LEAST 20
#define SOONEST_US 10000.0

struct routes {
	unsigned refs;
	const struct config *config;
	struct account *accounts;
	size_t account_count;
	struct breakers *breakers;
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

_Static_assert(ROUTE_TARGETS_MAX == CONFIG_TARGETS_MAX, "a route's targets all have a place");

/* What is not priced costs nothing in the books: said once for each model when a configuration is loaded. */
static void warn_of_prices(const struct config *config, uint64_t wall_ms, const struct log *log)
{
	struct str said[64];
	size_t count = 0;

	for (size_t r = 0; r < config->route_count; r++) {
		for (size_t i = 0; i < config->routes[r].target_count; i++) {
			const struct config_target *t = &config->routes[r].targets[i];
			const struct provider *p = provider_find(str_of(t->account->kind));
			size_t before = 0;

			if (!p || p->local ||
			    config_price_find(config, str_of(t->account->kind), str_of(t->model),
					      wall_ms))
				continue;
			while (before < count && !str_is(said[before], t->model))
				before++;
			if (before < count)
				continue;
			if (count < countof(said))
				said[count++] = str_of(t->model);
			log_warn(log, "a model has no price: its calls cost nothing",
				 F_STR("provider", t->account->kind), F_STR("model", t->model),
				 F_STR("route", config->routes[r].name));
		}
	}
}

int routes_open(struct loop *loop, const struct config *config, struct breakers *breakers,
		const struct log *log, struct routes **ret_routes)
{
	struct routes *routes = mem_new(struct routes);

	routes->refs = 1;
	routes->config = config;
	routes->breakers = breakers;
	routes->account_count = config->account_count;
	routes->accounts = mem_alloc(config->account_count * sizeof(struct account));
	for (size_t i = 0; i < config->account_count; i++) {
		int r = account_open(&routes->accounts[i], &config->accounts[i], loop, log);

		routes->accounts[i].breaker = breakers_find(breakers, &config->accounts[i], NULL);
		if (r < 0) {
			log_error(log, "account cannot be used",
				  F_STR("account", config->accounts[i].name),
				  F_STR("kind", config->accounts[i].kind),
				  F_UINT("line", config->accounts[i].line), F_ERR(r));
			routes_unref(routes);
			return r;
		}
	}
	/* All at once: who never asked a target hears of it all the same. */
	for (size_t r = 0; r < config->route_count; r++)
		for (size_t i = 0; i < config->routes[r].target_count; i++)
			breakers_find(breakers, config->routes[r].targets[i].account,
				      config->routes[r].targets[i].model);
	warn_of_prices(config, loop_wall_ms(loop), log);
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
	t->breaker = breakers_find(routes->breakers, want->account, want->model);
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
	route->weights[route->count] = (unsigned)want->weight;
	route->targets[route->count++] = t;
}

enum route_found route_find(struct routes *routes, const struct config_wish *wish,
			    struct route *ret_route)
{
	const struct config *config = routes->config;
	const struct config_route *named = config_route_for(config, wish);
	struct route route = {.system = ""};

	if (named) {
		route.system = named->system;
		route.max_tokens = named->max_tokens;
		route.hedge_ms = named->hedge_ms;
		for (size_t i = 0; i < named->target_count; i++)
			add_target(routes, &route, &named->targets[i]);
	} else {
		for (size_t r = 0; r < config->route_count; r++) {
			if (!config_route_opens(&config->routes[r], wish))
				continue;
			for (size_t i = 0; i < config->routes[r].target_count; i++)
				if (str_is(wish->model, config->routes[r].targets[i].model))
					add_target(routes, &route, &config->routes[r].targets[i]);
		}
	}
	if (!route.count)
		return ROUTE_UNKNOWN;
	*ret_route = route;
	return ROUTE_FOUND;
}

/* ── the choice ── */

bool account_has_room(const struct account *account)
{
	return !account->client || client_room(account->client) > account->promised;
}

static bool lets(const struct target *t, uint64_t *ret_wait_us)
{
	uint64_t a = 0, b = 0;
	bool account = breaker_lets(t->account->breaker, &a);
	bool target = breaker_lets(t->breaker, &b);

	if (account && target && account_has_room(t->account))
		return true;
	if (account && target) {
		*ret_wait_us = ROUTE_FULL_US;
		return false;
	}
	/* refused: it is not waited for */
	*ret_wait_us = breaker_is_out(t->account->breaker) || breaker_is_out(t->breaker) ? 0
		       : a > b								 ? a
											 : b;
	return false;
}

uint64_t route_back_us(const struct route *route)
{
	uint64_t least = 0;

	for (size_t i = 0; i < route->count; i++) {
		const struct target *t = route->targets[i];
		uint64_t a = 0, b = 0;

		if (breaker_lets(t->account->breaker, &a) && breaker_lets(t->breaker, &b))
			return 0;
		a = a > b ? a : b;
		if (a && (!least || a < least))
			least = a;
	}
	return least;
}

/* Those that may be asked now, bit per index; where there are none, the shortest wait. */
static uint32_t open_ones(const struct route *route, uint32_t skip, uint64_t *ret_wait_us)
{
	uint32_t open = 0;
	uint64_t least = 0, wait;

	for (size_t i = 0; i < route->count; i++) {
		if (skip & (UINT32_C(1) << i))
			continue;
		if (lets(route->targets[i], &wait))
			open |= UINT32_C(1) << i;
		else if (wait && (!least || wait < least))
			least = wait;
	}
	*ret_wait_us = open ? 0 : least;
	return open;
}

uint32_t route_open(const struct route *route, uint32_t skip, bool room)
{
	uint32_t open = 0;
	uint64_t wait_us;

	for (size_t i = 0; i < route->count; i++) {
		const struct target *t = route->targets[i];

		if (!(skip & (UINT32_C(1) << i)) && breaker_lets(t->account->breaker, &wait_us) &&
		    breaker_lets(t->breaker, &wait_us) && (!room || account_has_room(t->account)))
			open |= UINT32_C(1) << i;
	}
	return open;
}

bool route_lets(const struct route *route, uint32_t skip, uint64_t *ret_wait_us)
{
	return open_ones(route, skip, ret_wait_us) != 0;
}

int route_lets_this(const struct route *route, const struct target *target, uint32_t skip)
{
	uint64_t wait_us;

	for (size_t i = 0; i < route->count; i++)
		if (route->targets[i] == target && !(skip & (UINT32_C(1) << i)) &&
		    lets(target, &wait_us))
			return (int)i;
	return -1;
}

int route_place(const struct route *route, const struct target *target)
{
	for (size_t i = 0; i < route->count; i++) {
		const struct target *t = route->targets[i];

		if (strcmp(t->account->config->name, target->account->config->name) == 0 &&
		    strcmp(t->model, target->model) == 0)
			return (int)i;
	}
	return -1;
}

/* One of @open within [from, to), by weight. */
static size_t draw(const struct route *route, uint32_t open, size_t from, size_t to,
		   struct rand *rand)
{
	uint64_t sum = 0, at;

	for (size_t i = from; i < to; i++)
		if (open & (UINT32_C(1) << i))
			sum += route->weights[i];
	at = rand_below(rand, sum);
	for (size_t i = from; i < to; i++) {
		if (!(open & (UINT32_C(1) << i)))
			continue;
		if (at < route->weights[i])
			return i;
		at -= route->weights[i];
	}
	return from;
}

/* How long one more call there may take: its latency, longer the more calls stand there for its weight. */
static double load(const struct route *route, size_t i)
{
	const struct target *t = route->targets[i];
	double latency = t->latency_us > 0 ? t->latency_us : LATENCY_UNKNOWN_US;

	return latency * (1 + (double)t->in_flight / route->weights[i]);
}

struct target *route_choose(const struct route *route, uint32_t skip, struct rand *rand,
			    size_t *ret_index, uint64_t *ret_wait_us)
{
	uint32_t open = open_ones(route, skip, ret_wait_us);
	size_t first = 0, end, other;

	if (!open)
		return NULL;
	while (!(open & (UINT32_C(1) << first)))
		first++;
	for (end = first; end < route->count && route->weights[end]; end++)
		;
	if (end > first + 1) {
		first = draw(route, open, first, end, rand);
		open &= ~(UINT32_C(1) << first);
		for (other = first; other && route->weights[other - 1]; other--)
			;
		while (other < end && !(open & (UINT32_C(1) << other)))
			other++;
		if (other < end) {
			other = draw(route, open, other, end, rand);
			if (load(route, other) < load(route, first) * CLEARLY)
				first = other;
		}
	}
	*ret_index = first;
	return route->targets[first];
}

/* ── what calls teach ── */

bool target_ready(struct target *t)
{
	return breaker_ready(t->account->breaker) && breaker_ready(t->breaker);
}

bool target_asks(const struct target *t)
{
	return breaker_asks(t->account->breaker) || breaker_asks(t->breaker);
}

enum probe target_asked(struct target *t)
{
	bool account = breaker_asked(t->account->breaker), target = breaker_asked(t->breaker);

	t->in_flight++;
	return account && target ? PROBE_BOTH
	       : account	 ? PROBE_ACCOUNT
	       : target		 ? PROBE_TARGET
				 : PROBE_NONE;
}

void target_left(struct target *t, enum probe probe)
{
	t->in_flight--;
	if (probe == PROBE_ACCOUNT || probe == PROBE_BOTH)
		breaker_drop(t->account->breaker);
	if (probe == PROBE_TARGET || probe == PROBE_BOTH)
		breaker_drop(t->breaker);
}

/* A quantile that follows its samples by small steps, up and down as rarely as it is to be passed. */
static void learn_slow(struct target *t, double us)
{
	t->answers++;
	if (t->slow_us <= 0)
		t->slow_us = us;
	else if (us > t->slow_us)
		t->slow_us += t->slow_us * STEP * SLOW;
	else
		t->slow_us -= t->slow_us * STEP * (1 - SLOW);
}

uint64_t target_slow_us(const struct target *t, uint64_t unknown_us)
{
	if (t->answers < ANSWERS_LEAST)
		return unknown_us;
	return t->slow_us < SOONEST_US ? (uint64_t)SOONEST_US : (uint64_t)t->slow_us;
}

/* What is known of its latency: @us at least, where it was not waited for. */
static void learn_latency(struct target *t, double us)
{
	learn_slow(t, us);
	t->latency_us = t->latency_us > 0 ? t->latency_us + (us - t->latency_us) * NEWEST : us;
}

void target_late(struct target *t, uint64_t after_us)
{
	learn_latency(t, (double)after_us);
}

void target_answers(struct target *t, uint64_t after_us)
{
	learn_latency(t, (double)after_us);
	breaker_answers(t->account->breaker);
	breaker_answers(t->breaker);
}

void target_learn(struct target *t, enum fault fault, int64_t retry_after_ms)
{
	struct breaker *account = t->account->breaker;

	switch (fault) {
	case FAULT_NONE:
		breaker_learn(account, BREAKER_WELL, -1);
		breaker_learn(t->breaker, BREAKER_WELL, -1);
		return;
	case FAULT_PROVIDER_AUTH:
	case FAULT_PROVIDER_QUOTA:
		breaker_learn(account, BREAKER_OUT, -1);
		return;
	case FAULT_PROVIDER_DENIED:
		breaker_answers(account);
		breaker_learn(t->breaker, BREAKER_OUT, -1);
		return;
	case FAULT_PROVIDER_RATE:
		breaker_answers(account);
		breaker_learn(t->breaker, BREAKER_NOT_NOW, retry_after_ms);
		return;
	case FAULT_PROVIDER_OVERLOADED:
		breaker_answers(account);
		breaker_learn(t->breaker, retry_after_ms > 0 ? BREAKER_NOT_NOW : BREAKER_SAID,
			      retry_after_ms);
		return;
	case FAULT_PROVIDER_TRANSPORT:
	case FAULT_PROVIDER_CUT:
	case FAULT_PROVIDER_MALFORMED:
	case FAULT_PROVIDER_SILENT:
		breaker_learn(t->breaker, BREAKER_FAILED, retry_after_ms);
		return;
	case FAULT_PROVIDER_BAD_REQUEST:
	case FAULT_PROVIDER_TOO_BIG:
	case FAULT_PROVIDER_CONTENT:
		/* the request's own fault says nothing but that it is there */
		breaker_answers(account);
		breaker_answers(t->breaker);
		return;
	default:
		return;
	}
}

struct account *routes_account(const struct routes *routes, size_t index)
{
	return index < routes->account_count ? &routes->accounts[index] : NULL;
}
