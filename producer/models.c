/* GET /v1/models and /v1/models/{id}: the configured aliases, in the dialect that the request's headers show. */
#include "lib/base/arena.h"
#include "lib/base/json.h"
#include "lib/svc/config.h"
#include "producer/front.h"

/* The aliases have no birthday: one for all. */
#define CREATED_S 1767225600
#define CREATED_MS (CREATED_S * 1000ULL)
/* The Anthropic dialect's own. */
#define PAGE_DEFAULT 20
#define PAGE_MAX 1000

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

/* A page of the aliases: from..to, an end excluded. */
struct page {
	size_t from;
	size_t to;
	bool more; /* there are others in the direction of the question */
};

static void refuse_param(struct exchange *x, const char *param, const char *message)
{
	struct refusal refusal = {
	    .fault = FAULT_INVALID_REQUEST, .param = param, .message = message, .offset = -1};

	exchange_refuse(x, &refusal);
}

static bool find_id(const struct config_route *const *models, size_t count, struct str id,
		    size_t *ret_at)
{
	for (size_t i = 0; i < count; i++) {
		if (str_is(id, models[i]->name)) {
			*ret_at = i;
			return true;
		}
	}
	return false;
}

/* What the query asks for, as the dialect's cursors go; false where it was refused. Keys that are not known are ignored: SDKs
 * send what their own server knows. */
static bool read_page(struct exchange *x, const struct config_route *const *models, size_t count,
		      struct page *ret_page)
{
	struct str limit = http_query_value(x->req, "limit"),
		   after = http_query_value(x->req, "after_id"),
		   before = http_query_value(x->req, "before_id");
	uint64_t most = PAGE_DEFAULT;
	size_t at = 0;

	*ret_page = (struct page){.to = count};
	if (limit.ptr && (!str_u64(limit, &most) || most < 1 || most > PAGE_MAX)) {
		refuse_param(x, "limit", "limit: must be a whole number from 1 to 1000.");
		return false;
	}
	if (after.len && before.len) {
		refuse_param(x, "before_id", "before_id: not together with after_id.");
		return false;
	}
	if (after.len && !find_id(models, count, after, &at)) {
		refuse_param(x, "after_id", "after_id: there is no such model.");
		return false;
	}
	if (before.len && !find_id(models, count, before, &at)) {
		refuse_param(x, "before_id", "before_id: there is no such model.");
		return false;
	}
	if (before.len) {
		ret_page->to = at;
		ret_page->from = at > most ? at - (size_t)most : 0;
		ret_page->more = ret_page->from > 0;
		return true;
	}
	ret_page->from = after.len ? at + 1 : 0;
	if (count - ret_page->from > most)
		ret_page->to = ret_page->from + (size_t)most;
	ret_page->more = ret_page->to < count;
	return true;
}

void models_list(struct exchange *x)
{
	const struct config *config = exchange_config(x);
	const struct config_route **models =
	    arena_alloc(http_arena(x->req), (config->route_count + 1) * sizeof(*models));
	bool anthropic = x->dialect == DIALECT_ANTHROPIC;
	size_t count = 0;
	struct page page = {0};
	struct buf body = {0};
	struct json_out o = {.buf = &body};

	for (size_t i = 0; i < config->route_count; i++) {
		const struct config_route *route = &config->routes[i];

		/* Each once, of those that are for the organisation: who of it may use it is seen by the job. */
		if (route->kind == CONFIG_ROUTE_MODEL &&
		    config_route_of(config, CONFIG_ROUTE_MODEL, str_of(route->name),
				    str_of(x->who.org)) == route)
			models[count++] = route;
	}
	page.to = count;
	if (anthropic && !read_page(x, models, count, &page))
		return;
	json_open(&o, '{');
	if (!anthropic)
		json_put_text(&o, "object", "list");
	json_key(&o, "data");
	json_open(&o, '[');
	for (size_t i = page.from; i < page.to; i++)
		put_model(x, models[i], &o);
	json_close(&o, ']');
	if (anthropic) {
		bool any = page.from < page.to;

		json_put_bool(&o, "has_more", page.more);
		json_put_text(&o, "first_id", any ? models[page.from]->name : NULL);
		json_put_text(&o, "last_id", any ? models[page.to - 1]->name : NULL);
	}
	json_close(&o, '}');
	exchange_reply(x, 200, &body);
}

void models_get(struct exchange *x)
{
	const struct config_route *route =
	    config_route_of(exchange_config(x), CONFIG_ROUTE_MODEL, x->param, str_of(x->who.org));
	struct buf body = {0};
	struct json_out o = {.buf = &body};

	if (!route) {
		exchange_fault(x, FAULT_UNKNOWN_ROUTE, "There is no such model.");
		return;
	}
	put_model(x, route, &o);
	exchange_reply(x, 200, &body);
}
