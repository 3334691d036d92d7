#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/net/conn.h"
#include "lib/store/redis_impl.h"

struct redis_options redis_defaults(void)
{
	return (struct redis_options){
	    .connections = 2,
	    .wait_us = 1 * US_PER_S,
	    .timeout_us = 5 * US_PER_S,
	    .max_pending = 100000,
	};
}

/* ── replies ── */

struct str redis_item_str(const struct redis_value *list, size_t n)
{
	if (!list || list->type != REDIS_LIST || n >= list->count)
		return (struct str){0};
	return list->items[n].str;
}

int64_t redis_item_int(const struct redis_value *list, size_t n, int64_t otherwise)
{
	const struct redis_value *item;
	int64_t number;

	if (!list || list->type != REDIS_LIST || n >= list->count)
		return otherwise;
	item = &list->items[n];
	if (item->type == REDIS_INT)
		return item->integer;
	if (item->type == REDIS_STR && str_i64(item->str, &number))
		return number;
	return otherwise;
}

/* ── requests ── */

struct redis_request *redis_request_new(struct redis *redis, const struct str *head, size_t heads,
					const struct str *args, size_t count)
{
	struct redis_request *request;
	struct buf tail = {0};

	for (size_t i = 0; i < heads; i++)
		resp_arg(&tail, head[i]);
	for (size_t i = 0; i < count; i++)
		resp_arg(&tail, args[i]);
	request = mem_alloc(sizeof(*request) + tail.len);
	request->redis = redis;
	request->asked_us = loop_now_us(redis->loop);
	request->count = heads + count;
	request->len = tail.len;
	if (tail.len)
		memcpy(request->tail, buf_str(&tail).ptr, tail.len);
	buf_fini(&tail);
	return request;
}

void redis_request_finish(struct redis_request *request, enum redis_result result,
			  const struct redis_value *value)
{
	struct redis *redis = request->redis;

	list_remove(&request->link);
	if (request->pipe)
		request->pipe->count--;
	if (!request->internal)
		redis->pending--;
	if (value && value->type == REDIS_ERROR && !request->internal) {
		struct str text = value->str;

		/* The rest of it may repeat arguments. */
		text.len = text.len < 120 ? text.len : 120;
		log_warn(&redis->log, "redis refused a command", F_VIEW("reply", text),
			 F_STR("script", request->script ? request->script->script->name : ""));
	}
	if (request->done)
		request->done(request->ctx, result, value);
	else if (request->typed)
		request->typed(request->ctx, request->then, result, value);
	mem_free(request);
}

static void on_refuse(struct task *task)
{
	struct redis *redis = container_of(task, struct redis, refuse);
	struct list now;

	/* Those that are refused meanwhile have their turn later. */
	list_init(&now);
	while (!list_empty(&redis->refused)) {
		struct list *link = redis->refused.next;

		list_remove(link);
		list_push_back(&now, link);
	}
	while (!list_empty(&now))
		redis_request_finish(container_of(now.next, struct redis_request, link), REDIS_AWAY,
				     NULL);
}

/* FNV-1a: spreads jobs over the connections, nothing more. */
static uint32_t hash(struct str s)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < s.len; i++)
		h = (h ^ (unsigned char)s.ptr[i]) * 16777619u;
	return h ^ (h >> 15);
}

static struct redis_pipe *choose(struct redis *redis, struct str order)
{
	struct redis_pipe *best = &redis->pipes[0];

	if (order.len)
		return &redis->pipes[hash(order) % redis->pipe_count];
	for (uint32_t i = 1; i < redis->pipe_count; i++) {
		struct redis_pipe *pipe = &redis->pipes[i];
		bool up = pipe->state == REDIS_PIPE_UP;
		bool best_up = best->state == REDIS_PIPE_UP;

		if ((up && !best_up) || (up == best_up && pipe->count < best->count))
			best = pipe;
	}
	return best;
}

static struct redis_request *ask(struct redis *redis, struct str order,
				 struct redis_request *request)
{
	redis->pending++;
	if (redis->pending > redis->options.max_pending) {
		list_push_back(&redis->refused, &request->link);
		task_post(&redis->refuse);
		return request;
	}
	redis_pipe_add(choose(redis, order), request);
	return request;
}

struct redis_request *redis_command(struct redis *redis, struct str order, const struct str *args,
				    size_t count, redis_fn *done, void *ctx)
{
	struct redis_request *request = redis_request_new(redis, NULL, 0, args, count);

	must(count > 0);
	request->done = done;
	request->ctx = ctx;
	return ask(redis, order, request);
}

struct redis_request *redis_command_typed(struct redis *redis, struct str order,
					  const struct str *args, size_t count,
					  redis_typed_fn *done, void *ctx, redis_then_fn *then)
{
	struct redis_request *request = redis_request_new(redis, NULL, 0, args, count);

	must(count > 0);
	request->typed = done;
	request->ctx = ctx;
	request->then = then;
	return ask(redis, order, request);
}

static struct redis_known_script *known_script(struct redis *redis, const struct script *script)
{
	struct redis_known_script *known;

	list_each (&redis->scripts, at) {
		known = container_of(at, struct redis_known_script, link);
		if (known->script == script)
			return known;
	}
	known = mem_new(struct redis_known_script);
	known->script = script;
	list_push_back(&redis->scripts, &known->link);
	return known;
}

static struct redis_request *script_request(struct redis *redis, const struct script *script,
					    const struct str *keys, size_t key_count,
					    const struct str *args, size_t arg_count)
{
	struct redis_request *request;
	struct str head[17];
	char number[24];

	must(key_count < countof(head));
	snprintf(number, sizeof(number), "%zu", key_count);
	head[0] = str_of(number);
	for (size_t i = 0; i < key_count; i++)
		head[i + 1] = keys[i];
	request = redis_request_new(redis, head, key_count + 1, args, arg_count);
	request->script = known_script(redis, script);
	return request;
}

struct redis_request *redis_script(struct redis *redis, struct str order,
				   const struct script *script, const struct str *keys,
				   size_t key_count, const struct str *args, size_t arg_count,
				   redis_fn *done, void *ctx)
{
	struct redis_request *request =
	    script_request(redis, script, keys, key_count, args, arg_count);

	request->done = done;
	request->ctx = ctx;
	return ask(redis, order, request);
}

struct redis_request *redis_script_typed(struct redis *redis, struct str order,
					 const struct script *script, const struct str *keys,
					 size_t key_count, const struct str *args, size_t arg_count,
					 redis_typed_fn *done, void *ctx, redis_then_fn *then)
{
	struct redis_request *request =
	    script_request(redis, script, keys, key_count, args, arg_count);

	request->typed = done;
	request->ctx = ctx;
	request->then = then;
	return ask(redis, order, request);
}

void redis_cancel(struct redis_request *request)
{
	if (!request)
		return;
	request->done = NULL;
	request->typed = NULL;
	if (!request->sent_us) {
		struct redis_pipe *pipe = request->pipe;

		redis_request_finish(request, REDIS_AWAY, NULL);
		if (pipe)
			redis_pipe_waits(pipe);
	}
}

/* ── the server's epoch ── */

void redis_epoch_is(struct redis *redis, struct str value)
{
	struct str rest = value;
	struct str part;
	bool first = !redis->epoch[0];
	uint64_t wall_ms = 0;

	if (value.len >= sizeof(redis->epoch))
		value.len = sizeof(redis->epoch) - 1;
	if (str_eq(value, str_of(redis->epoch)))
		return;
	/* "1 <wall_ms> …": one that cannot be read began now. */
	if (!str_split(&rest, ' ', &part) || !str_split(&rest, ' ', &part) ||
	    !str_u64(part, &wall_ms))
		wall_ms = loop_wall_ms(redis->loop);
	memcpy(redis->epoch, value.ptr, value.len);
	redis->epoch[value.len] = '\0';
	redis->epoch_wall_ms = wall_ms;
	if (!first)
		log_warn(&redis->log, "redis has a new epoch: what it held may be gone",
			 F_UINT("epoch_wall_ms", wall_ms));
	if (redis->ops.epoch)
		redis->ops.epoch(redis->ctx, first, wall_ms);
}

void redis_up_changed(struct redis *redis, int by)
{
	bool was = redis->up_count > 0;
	bool is;

	redis->up_count = (uint32_t)((int)redis->up_count + by);
	is = redis->up_count > 0;
	if (was == is)
		return;
	if (is)
		log_info(&redis->log, "redis is there", F_STR("host", redis->url.host),
			 F_UINT("port", redis->url.port));
	else
		log_warn(&redis->log, "redis is away", F_STR("host", redis->url.host),
			 F_UINT("port", redis->url.port));
	if (redis->ops.up)
		redis->ops.up(redis->ctx, is);
}

bool redis_up(const struct redis *redis)
{
	return redis->up_count > 0;
}

uint64_t redis_epoch_wall_ms(const struct redis *redis)
{
	return redis->epoch_wall_ms;
}

struct redis_request *redis_ask_epoch(struct redis *redis, struct str order, redis_fn *done,
				      void *ctx)
{
	return redis_command(redis, order, (const struct str[]){STR("GET"), STR(EPOCH_KEY)}, 2,
			     done, ctx);
}

bool redis_epoch_stands(const struct redis *redis, enum redis_result result,
			const struct redis_value *value)
{
	return result == REDIS_OK && value->type == REDIS_STR &&
	       str_eq(value->str, str_of(redis->epoch));
}

size_t redis_pending(const struct redis *redis)
{
	return redis->pending;
}

/* ── life ── */

int redis_open(struct loop *loop, const struct redis_options *options, const struct redis_ops *ops,
	       void *ctx, const struct log *log, struct redis **ret_redis)
{
	struct redis *redis;
	struct redis_url url;
	struct tls *tls = NULL;
	int r;

	if (redis_url_parse(str_of(options->url), &url) != REDIS_URL_OK) {
		log_error(log, "the redis url is not redis[s]://[user:password@]host:port[/db]");
		return err_origin(-EINVAL);
	}
	if (!options->connections || options->connections > REDIS_CONNECTIONS_MAX) {
		log_error(log, "redis connections: 1 to 32",
			  F_UINT("connections", options->connections));
		return err_origin(-EINVAL);
	}
	if (url.tls) {
		r = tls_client_new(options->ca_file, NULL, log, &tls);
		if (r < 0)
			return err_trace(r);
	}
	redis = mem_new(struct redis);
	redis->loop = loop;
	redis->options = *options;
	redis->url = url;
	redis->tls = tls;
	redis->ops = ops ? *ops : (struct redis_ops){0};
	redis->ctx = ctx;
	redis->log = log_child(log, "store", "redis");
	list_init(&redis->scripts);
	list_init(&redis->refused);
	task_init(&redis->refuse, loop, on_refuse);
	redis->pipe_count = options->connections;
	redis->pipes = mem_alloc(redis->pipe_count * sizeof(*redis->pipes));
	for (uint32_t i = 0; i < redis->pipe_count; i++)
		redis_pipe_init(&redis->pipes[i], redis, i);
	*ret_redis = redis;
	return 0;
}

void redis_close(struct redis *redis)
{
	if (!redis)
		return;
	redis_subs_free(redis->subs);
	for (uint32_t i = 0; i < redis->pipe_count; i++)
		redis_pipe_fini(&redis->pipes[i]);
	mem_free(redis->pipes);
	task_cancel(&redis->refuse);
	while (!list_empty(&redis->refused))
		mem_free(list_pop_front(&redis->refused, struct redis_request, link));
	while (!list_empty(&redis->scripts))
		mem_free(list_pop_front(&redis->scripts, struct redis_known_script, link));
	tls_unref(redis->tls);
	mem_wipe(&redis->url, sizeof(redis->url));
	mem_free(redis);
}
