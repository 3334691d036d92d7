/* One connection for commands: what is asked in a turn leaves in one write, replies come in the order of the questions. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/store/redis_impl.h"

/* How often the epoch is looked at on each connection, and the oldest request's age with it. */
#define TICK_US (500 * US_PER_MS)
/* Of many replies read at once: what they lead to leaves after so many, so that the server is not idle meanwhile. */
#define FLUSH_EVERY 12

/* The value names the run that it was made in: another run_id makes it anew, once for all processes, also for those
 * that start later. Nothing is written where nothing changed. */
static const char epoch_body[] =
    "local v = redis.call('GET', KEYS[1])\n"
    "if v and string.match(v, '^%d+ %d+ %S+ (%S+)') == ARGV[1] then return v end\n"
    "redis.call('SET', KEYS[1], ARGV[2])\n"
    "return ARGV[2]\n";

/* ── sending ── */

static void send_internal(struct redis_pipe *pipe, const struct str *args, size_t count,
			  redis_fn *done, void *ctx);

static void on_loaded(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct redis_known_script *known = ctx;

	if (result == REDIS_OK && value->type == REDIS_STR && value->str.len == 40) {
		memcpy(known->sha, value->str.ptr, 40);
		known->sha[40] = '\0';
	}
}

/* EVALSHA where this connection's server has it; else EVAL, which makes the server keep it. */
static void write_script(struct redis_pipe *pipe, struct redis_request *request)
{
	struct redis_known_script *known = request->script;
	uint32_t bit = UINT32_C(1) << pipe->index;
	struct buf *out = &pipe->link.out;

	resp_head(out, request->count + 2);
	if (known->sha[0] && (known->loaded & bit) && !request->repeated) {
		resp_arg(out, STR("EVALSHA"));
		resp_arg(out, (struct str){known->sha, 40});
	} else {
		resp_arg(out, STR("EVAL"));
		resp_arg(out, str_of(known->script->body));
		known->loaded |= bit;
	}
	buf_add(out, request->tail, request->len);
}

static void pipe_send(struct redis_pipe *pipe, struct redis_request *request)
{
	struct buf *out = &pipe->link.out;
	size_t before;

	if (request->script && !request->script->sha[0] &&
	    !(request->script->loaded & (UINT32_C(1) << pipe->index))) {
		struct str load[] = {STR("SCRIPT"), STR("LOAD"),
				     str_of(request->script->script->body)};

		send_internal(pipe, load, 3, on_loaded, request->script);
	}
	before = out->len;
	request->start_at = pipe->link.added;
	request->sent_us = loop_now_us(pipe->redis->loop);
	if (!request->sent_us)
		request->sent_us = 1;
	if (request->script) {
		write_script(pipe, request);
	} else {
		resp_head(out, request->count);
		buf_add(out, request->tail, request->len);
	}
	list_push_back(&pipe->sent, &request->link);
	pipe->sent_count++;
	redis_link_added(&pipe->link, out->len - before);
}

static void send_internal(struct redis_pipe *pipe, const struct str *args, size_t count,
			  redis_fn *done, void *ctx)
{
	struct redis_request *request = redis_request_new(pipe->redis, NULL, 0, args, count);

	request->internal = true;
	request->pipe = pipe;
	request->done = done;
	request->ctx = ctx;
	pipe->count++;
	pipe_send(pipe, request);
}

static bool may_send(const struct redis_pipe *pipe)
{
	uint32_t most = pipe->redis->options.max_sent;

	return pipe->state == REDIS_PIPE_UP && (!most || pipe->sent_count < most);
}

void redis_pipe_add(struct redis_pipe *pipe, struct redis_request *request)
{
	request->pipe = pipe;
	pipe->count++;
	if (may_send(pipe) && list_empty(&pipe->queued)) {
		pipe_send(pipe, request);
		return;
	}
	list_push_back(&pipe->queued, &request->link);
	if (!timer_is_set(&pipe->wait))
		redis_pipe_waits(pipe);
}

static void send_queued(struct redis_pipe *pipe)
{
	while (!list_empty(&pipe->queued) && may_send(pipe))
		pipe_send(pipe, list_pop_front(&pipe->queued, struct redis_request, link));
}

/* ── waiting for the connection ── */

void redis_pipe_waits(struct redis_pipe *pipe)
{
	struct redis_request *oldest = list_first(&pipe->queued, struct redis_request, link);
	uint64_t now = loop_now_us(pipe->redis->loop);
	uint64_t end;

	if (!oldest) {
		timer_stop(&pipe->wait);
		return;
	}
	end = oldest->asked_us + pipe->redis->options.wait_us;
	timer_set(&pipe->wait, end > now ? end - now : 0);
}

static void on_wait(struct timer *timer)
{
	struct redis_pipe *pipe = container_of(timer, struct redis_pipe, wait);
	uint64_t now = loop_now_us(pipe->redis->loop);
	uint64_t wait = pipe->redis->options.wait_us;

	for (;;) {
		struct redis_request *oldest =
		    list_first(&pipe->queued, struct redis_request, link);

		if (!oldest || oldest->asked_us + wait > now)
			break;
		redis_request_finish(oldest, REDIS_AWAY, NULL);
	}
	redis_pipe_waits(pipe);
}

/* ── the epoch ── */

static void pipe_is_up(struct redis_pipe *pipe)
{
	pipe->state = REDIS_PIPE_UP;
	pipe->link.failures = 0;
	timer_set(&pipe->tick, TICK_US / 2 + rand_below(loop_rand(pipe->redis->loop), TICK_US));
	/* Before anybody is told, who may ask for more of the same job. */
	send_queued(pipe);
	redis_pipe_waits(pipe);
	redis_up_changed(pipe->redis, +1);
}

/* Both for the first question of a connection and for the periodic one. */
static void on_epoch(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct redis_pipe *pipe = ctx;

	pipe->checking = false;
	if (result != REDIS_OK)
		return;
	if (value->type != REDIS_STR) {
		/* READONLY, LOADING, OOM: not a server to work with. */
		redis_link_fail(&pipe->link, "the epoch cannot be read");
		return;
	}
	redis_epoch_is(pipe->redis, value->str);
	if (pipe->state == REDIS_PIPE_ASKING_EPOCH)
		pipe_is_up(pipe);
}

static void ask_epoch(struct redis_pipe *pipe)
{
	struct redis *redis = pipe->redis;
	char fresh[160];

	snprintf(fresh, sizeof(fresh), "1 %" PRIu64 " %016" PRIx64 " %s", loop_wall_ms(redis->loop),
		 rand_u64(loop_rand(redis->loop)), pipe->run_id);

	struct str args[] = {STR("EVAL"),    str_of(epoch_body),   STR("1"),
			     STR(EPOCH_KEY), str_of(pipe->run_id), str_of(fresh)};

	pipe->checking = true;
	send_internal(pipe, args, countof(args), on_epoch, pipe);
}

/* The value of @key in INFO's text; empty where it is not there. */
static struct str info_find(struct str info, const char *key)
{
	struct str line;
	size_t len = strlen(key);

	while (str_split(&info, '\n', &line)) {
		if (line.len > len && str_starts(line, key) && line.ptr[len] == ':')
			return (struct str){line.ptr + len + 1,
					    line.len - len - 1 - (line.ptr[line.len - 1] == '\r')};
	}
	return (struct str){0};
}

static void on_info_server(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct redis_pipe *pipe = ctx;
	struct str run_id = {0};

	if (result != REDIS_OK)
		return;
	if (value->type == REDIS_STR)
		run_id = info_find(value->str, "run_id");
	if (!run_id.len || run_id.len >= sizeof(pipe->run_id)) {
		redis_link_fail(&pipe->link, "no run_id in INFO");
		return;
	}
	memcpy(pipe->run_id, run_id.ptr, run_id.len);
	pipe->run_id[run_id.len] = '\0';
}

static void on_info_replication(void *ctx, enum redis_result result,
				const struct redis_value *value)
{
	struct redis_pipe *pipe = ctx;

	if (result != REDIS_OK)
		return;
	if (value->type != REDIS_STR || !str_is(info_find(value->str, "role"), "master")) {
		log_warn(&pipe->redis->log, "redis at this address is not a master");
		redis_link_fail(&pipe->link, "not a master");
		return;
	}
	ask_epoch(pipe);
}

/* ── the link's callbacks ── */

static void on_open(struct redis_link *link)
{
	struct redis_pipe *pipe = container_of(link, struct redis_pipe, link);
	const struct str server[] = {STR("INFO"), STR("server")};
	const struct str replication[] = {STR("INFO"), STR("replication")};

	pipe->state = REDIS_PIPE_ASKING_EPOCH;
	list_each (&pipe->redis->scripts, at)
		container_of(at, struct redis_known_script, link)->loaded &=
		    ~(UINT32_C(1) << pipe->index);
	send_internal(pipe, server, 2, on_info_server, pipe);
	send_internal(pipe, replication, 2, on_info_replication, pipe);
	timer_set(&pipe->tick, TICK_US);
}

static void on_reply(struct redis_link *link, const struct redis_value *value)
{
	struct redis_pipe *pipe = container_of(link, struct redis_pipe, link);
	struct redis_request *request = list_first(&pipe->sent, struct redis_request, link);

	if (!request) {
		redis_link_fail(link, "a reply to nothing");
		return;
	}
	pipe->sent_count--;
	if (value->type == REDIS_ERROR && request->script && !request->repeated &&
	    str_starts(value->str, "NOSCRIPT")) {
		list_remove(&request->link);
		request->repeated = true;
		pipe_send(pipe, request);
		return;
	}
	bool readonly = value->type == REDIS_ERROR && str_starts(value->str, "READONLY");

	redis_request_finish(request, REDIS_OK, value);
	send_queued(pipe);
	if (readonly)
		redis_link_fail(link, "it became a replica");
	else if (++pipe->replies % FLUSH_EVERY == 0)
		redis_link_flush(link);
}

/* What was not handed to the socket was certainly not executed: it waits for the next connection. */
static void on_lost(struct redis_link *link)
{
	struct redis_pipe *pipe = container_of(link, struct redis_pipe, link);
	bool was_up = pipe->state == REDIS_PIPE_UP;
	struct list lost;

	pipe->state = REDIS_PIPE_DOWN;
	pipe->checking = false;
	pipe->sent_count = 0;
	timer_stop(&pipe->tick);
	list_init(&lost);
	/* From the newest: they go before what is queued, in their order. */
	while (!list_empty(&pipe->sent)) {
		struct redis_request *request =
		    container_of(pipe->sent.prev, struct redis_request, link);

		list_remove(&request->link);
		if (!request->internal && request->start_at >= link->written) {
			request->sent_us = 0;
			request->repeated = false;
			list_push_front(&pipe->queued, &request->link);
		} else {
			list_push_front(&lost, &request->link);
		}
	}
	redis_pipe_waits(pipe);
	if (was_up)
		redis_up_changed(pipe->redis, -1);
	while (!list_empty(&lost))
		redis_request_finish(container_of(lost.next, struct redis_request, link),
				     REDIS_LOST, NULL);
}

static void on_tick(struct timer *timer)
{
	struct redis_pipe *pipe = container_of(timer, struct redis_pipe, tick);
	struct redis_request *oldest = list_first(&pipe->sent, struct redis_request, link);
	uint64_t timeout = pipe->redis->options.timeout_us;

	if (oldest && loop_now_us(pipe->redis->loop) - oldest->sent_us >= timeout) {
		redis_link_fail(&pipe->link, "no reply in time");
		return;
	}
	if (pipe->state == REDIS_PIPE_UP && !pipe->checking)
		ask_epoch(pipe);
	timer_set(&pipe->tick, timeout / 4 < TICK_US ? timeout / 4 : TICK_US);
}

void redis_pipe_init(struct redis_pipe *pipe, struct redis *redis, uint32_t index)
{
	static const struct redis_link_ops ops = {
	    .open = on_open,
	    .reply = on_reply,
	    .lost = on_lost,
	};

	pipe->redis = redis;
	pipe->index = index;
	list_init(&pipe->queued);
	list_init(&pipe->sent);
	timer_init(&pipe->wait, redis->loop, on_wait);
	timer_init(&pipe->tick, redis->loop, on_tick);
	redis_link_init(&pipe->link, redis->loop, &redis->url, redis->tls,
			redis->options.timeout_us, &ops, &redis->log);
}

void redis_pipe_fini(struct redis_pipe *pipe)
{
	timer_stop(&pipe->wait);
	timer_stop(&pipe->tick);
	redis_link_fini(&pipe->link);
	while (!list_empty(&pipe->queued))
		mem_free(list_pop_front(&pipe->queued, struct redis_request, link));
	while (!list_empty(&pipe->sent))
		mem_free(list_pop_front(&pipe->sent, struct redis_request, link));
}
