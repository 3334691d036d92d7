/* GET /v1/models and /v1/models/{id}: the configured aliases, in the dialect that the request's headers show. */
#include "lib/base/json.h"
#include "lib/svc/config.h"
#include "producer/front.h"

/* The aliases have no birthday: one for all. */
#define CREATED_S 1767225600
#define CREATED_MS (CREATED_S * 1000ULL)

static void put_model(struct exchange *x, const struct config_route *route, struct json_out *o)
{
	const struct config_account *account = route->targets[0].account;

	json_open(o, '{');
	json_put_text(o, "id", route->name);
	if (x->dialect == DIALECT_ANTHROPIC) {
		json_put_text(o, "type", "model");
		json_put_text(o, "display_name", route->name);
		json_put_time(o, "created_at", CREATED_MS);
	} else {
		json_put_text(o, "object", "model");
		json_put_int(o, "created", CREATED_S);
		json_put_text(o, "owned_by", account ? account->kind : "sluice");
	}
	json_close(o, '}');
}

void models_list(struct exchange *x)
{
	const struct config *config = exchange_config(x);
	const char *first = NULL, *last = NULL;
	struct buf body = {0};
	struct json_out o = {.buf = &body};

	json_open(&o, '{');
	if (x->dialect != DIALECT_ANTHROPIC)
		json_put_text(&o, "object", "list");
	json_key(&o, "data");
	json_open(&o, '[');
	for (size_t i = 0; i < config->route_count; i++) {
		if (config->routes[i].kind != CONFIG_ROUTE_MODEL)
			continue;
		put_model(x, &config->routes[i], &o);
		first = first ? first : config->routes[i].name;
		last = config->routes[i].name;
	}
	json_close(&o, ']');
	if (x->dialect == DIALECT_ANTHROPIC) {
		json_put_bool(&o, "has_more", false);
		json_put_text(&o, "first_id", first);
		json_put_text(&o, "last_id", last);
	}
	json_close(&o, '}');
	exchange_reply(x, 200, &body);
}

void models_get(struct exchange *x)
{
	const struct config_route *route =
	    config_route_find(exchange_config(x), CONFIG_ROUTE_MODEL, x->param);
	struct buf body = {0};
	struct json_out o = {.buf = &body};

	if (!route) {
		exchange_fault(x, FAULT_UNKNOWN_ROUTE, "There is no such model.");
		return;
	}
	put_model(x, route, &o);
	exchange_reply(x, 200, &body);
}
