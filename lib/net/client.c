#include "lib/net/client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/metric.h"
#include "lib/net/client_impl.h"

#define BACKOFF_MIN_US (100 * US_PER_MS)
#define BACKOFF_MAX_US (2 * US_PER_S)
#define RESERVE_PART 16
/* Of h2_again_us, at most: one server of a peer's may be behind the others (an update that is under way), or all are for good. */
#define H2_AGAIN_MOST 10

const char *client_end_name(enum client_end end)
{
	static const char *const names[] = {
	    [CLIENT_DONE] = "done",	   [CLIENT_CONNECT] = "connect",
	    [CLIENT_TIMEOUT] = "timeout",  [CLIENT_REFUSED] = "refused",
	    [CLIENT_RESET] = "reset",	   [CLIENT_CUT] = "cut",
	    [CLIENT_PROTOCOL] = "protocol"};
	return names[end];
}

bool client_end_unprocessed(enum client_end end)
{
	return end == CLIENT_CONNECT || end == CLIENT_TIMEOUT || end == CLIENT_REFUSED;
}

struct client_options client_defaults(void)
{
	return (struct client_options){.connect_us = 5 * US_PER_S,
				       .h2_again_us = 60 * US_PER_S,
				       .streams_per_connection = 80,
				       .max_connections = 32,
				       .max_age_us = 300 * US_PER_S,
				       .max_calls = 1000,
				       .ping_us = 15 * US_PER_S,
				       .idle_us = 60 * US_PER_S,
				       .min_connections = 1,
				       .window_bytes = 256 * 1024};
}

/* ---- calls ---- */

static void call_free(struct client_call *call)
{
	call->client->call_count--;
	if (call->client->room_changed)
		client_pump(call->client);
	timer_stop(&call->released);
	mem_free(call->nv);
	mem_free(call);
}

void client_enter(struct client *client)
{
	client->busy++;
}

static void client_free(struct client *client)
{
	timer_stop(&client->retry);
	task_cancel(&client->pump);
	h1_close(client->h1);
	nghttp2_session_callbacks_del(client->callbacks);
	tls_unref(client->tls);
	mem_free(client->host);
	mem_free(client->authority);
	mem_free(client->prefix);
	mem_free((char *)client->options.base_url);
	mem_free((char *)client->options.ca_file);
	mem_free(client);
}

void client_leave(struct client *client)
{
	if (--client->busy == 0 && client->closed)
		client_free(client);
}

void call_end(struct client_call *call, enum client_end end, const char *detail)
{
	call->ending = true;
	list_remove(&call->link);
	call->ops->end(call->ctx, end, detail ? detail : "");
	call_free(call);
}

void calls_end(struct client *client, struct list *calls, enum client_end end, const char *detail)
{
	while (!list_empty(calls)) {
		struct client_call *call = list_first(calls, struct client_call, link);
		if (client->closed) {
			list_remove(&call->link);
			call_free(call);
		} else {
			call_end(call, end, detail);
		}
	}
}

void call_requeue(struct client_call *call)
{
	struct client *client = call->client;
	call->on = NULL;
	call->stream = CALL_WAITING;
	list_remove(&call->link);
	list_push_front(&client->waiting, &call->link);
	client->waiting_count++;
	client_pump(client);
}

/* ---- the pool ---- */

static uint32_t links_in(const struct client *client, enum link_state from, enum link_state to)
{
	uint32_t n = 0;
	list_each (&client->links, at) {
		struct h2_link *l = container_of(at, struct h2_link, link);
		n += l->state >= from && l->state <= to;
	}
	return n;
}

/* Is @a to carry a call rather than @b? Half-full ones first, the fuller of two; else the emptier. */
static bool link_better(const struct h2_link *a, const struct h2_link *b)
{
	bool a_fills = a->count < a->limit / 2;
	bool b_fills = b->count < b->limit / 2;
	if (a->state != b->state)
		return a->state == LINK_OPEN;
	if (a_fills != b_fills)
		return a_fills;
	return a_fills ? a->count > b->count : a->count < b->count;
}

static struct h2_link *link_choose(struct client *client)
{
	struct h2_link *best = NULL;
	list_each (&client->links, at) {
		struct h2_link *l = container_of(at, struct h2_link, link);
		if (link_has_room(l) && (!best || link_better(l, best)))
			best = l;
	}
	return best;
}

/* Streams that the open connections could still carry. */
static uint32_t free_streams(const struct client *client)
{
	uint32_t n = 0;
	list_each (&client->links, at) {
		struct h2_link *l = container_of(at, struct h2_link, link);
		n += l->state == LINK_OPEN && l->limit > l->count ? l->limit - l->count : 0;
	}
	return n;
}

/* How many connections may be opened beside @live ones. */
static uint32_t links_openable(const struct client *client, uint32_t live)
{
	uint32_t most = client->options.max_connections, all = most + most / 4 + 1;
	uint32_t may = live < most ? most - live : 0;
	uint32_t rest = client->link_count < all ? all - client->link_count : 0;

	return may < rest ? may : rest;
}

/* How many connections should be on their way: for the line, for a sixteenth of the calls in reserve (so that none
 * waits for a handshake when one more is begun or a connection retires), and for those that are kept warm. */
static uint32_t links_wanted(const struct client *client, uint32_t coming)
{
	uint32_t per = client->options.streams_per_connection;
	uint32_t live = links_in(client, LINK_DIALING, LINK_OPEN);
	uint32_t need = client->waiting_count + client->call_count / RESERVE_PART;
	uint32_t free = free_streams(client);
	uint32_t wanted = need > free ? (need - free + per - 1) / per : 0;
	if (wanted < coming)
		wanted = coming;
	if (live - coming + wanted < client->options.min_connections)
		wanted = client->options.min_connections - (live - coming);
	/* One finds out whether a peer that failed is back. */
	return client->failed_us && wanted > 1 ? (coming ? coming : 1) : wanted;
}

static void fail_waiting(struct client *client, enum client_end end, const char *detail)
{
	/* What callbacks add meanwhile waits for the next attempt. */
	struct list failed;
	list_init(&failed);
	while (!list_empty(&client->waiting)) {
		struct client_call *call =
		    list_pop_front(&client->waiting, struct client_call, link);
		list_push_back(&failed, &call->link);
		client->waiting_count--;
		call->stream = CALL_IN_NO_LINE;
	}
	calls_end(client, &failed, end, detail);
}

/* Opens what is short: for calls as long as the last failure is not quite fresh, else when the back-off allows it. */
static void client_grow(struct client *client)
{
	uint32_t coming = links_in(client, LINK_DIALING, LINK_PROVING);
	uint32_t wanted = links_wanted(client, coming);
	uint32_t live = links_in(client, LINK_DIALING, LINK_OPEN);
	uint64_t now = loop_now_us(client->loop);
	if (wanted <= coming)
		return;
	if (client->waiting_count && links_in(client, LINK_DIALING, LINK_LEAVING) == 0) {
		if (client->failed_us && now < client->failed_us + BACKOFF_MIN_US) {
			fail_waiting(client, client->failed_end, client->failed_detail);
			return;
		}
	} else if (now < client->not_before_us) {
		if (!timer_is_set(&client->retry))
			timer_set(&client->retry, client->not_before_us - now);
		return;
	}
	for (uint32_t may = links_openable(client, live); coming < wanted && may; coming++, may--) {
		struct h2_link *l = link_open(client);
		list_push_back(&client->links, &l->link);
	}
}

/* Those that were unused for long answer a PING before they are needed: as many as the line fills, or one where the
 * others fill up. */
static void client_prove(struct client *client, const struct h2_link *last)
{
	uint32_t need = client->waiting_count;
	if (!need && last && last->count >= last->limit / 2)
		need = 1;
	list_each (&client->links, at) {
		struct h2_link *l = container_of(at, struct h2_link, link);
		if (l->state == LINK_PROVING)
			need -= l->limit < need ? l->limit : need;
		if (need && link_stale(l)) {
			link_prove(l);
			need -= l->limit < need ? l->limit : need;
		}
	}
}

/* One link sees whether the peer speaks HTTP/2 by now; meanwhile HTTP/1.1 carries the calls. */
static void h2_try(struct client *client)
{
	struct h2_link *l;

	if (!client->h2_again_us || loop_now_us(client->loop) < client->h2_again_us ||
	    client->link_count || !h1_room(client))
		return;
	l = link_open(client);
	list_push_back(&client->links, &l->link);
}

static void h1_pump(struct client *client)
{
	h2_try(client);
	while (!list_empty(&client->waiting) && h1_room(client)) {
		struct client_call *call =
		    list_pop_front(&client->waiting, struct client_call, link);
		client->waiting_count--;
		h1_send(client, call);
	}
}

static void on_pump(struct task *t)
{
	struct client *client = container_of(t, struct client, pump);
	struct h2_link *l, *last = NULL;
	client_enter(client);
	while (!list_empty(&client->waiting) && (l = link_choose(client))) {
		struct client_call *call =
		    list_pop_front(&client->waiting, struct client_call, link);
		client->waiting_count--;
		link_send(l, call);
		last = l;
	}
	if (client->closed) {
		client_leave(client);
		return;
	}
	if (client->speaks_h1) {
		h1_pump(client);
	} else {
		client_prove(client, last);
		client_grow(client);
	}
	if (client->room_changed && !client->closed)
		client->room_changed(client->room_ctx);
	client_leave(client);
}

static void on_retry(struct timer *t)
{
	client_pump(container_of(t, struct client, retry));
}

void client_pump(struct client *client)
{
	if (!client->closed)
		task_post(&client->pump);
}

void client_connected(struct client *client, uint64_t set_up_us)
{
	client->warm = true;
	client->connections_opened++;
	client->set_up_us = set_up_us;
	if (client->histogram)
		series_observe_us(client->histogram, set_up_us);
}

bool client_fall_back(struct client *client)
{
	uint64_t now = loop_now_us(client->loop), wait = client->h2_wait_us * 2;
	uint64_t least = client->options.h2_again_us;

	if (client->options.http != CLIENT_HTTP_AUTO)
		return false;
	log_debug(client->log, "the peer speaks HTTP/1.1", F_STR("peer", client->authority));
	if (!client->h1)
		client->h1 = h1_open(client);
	/* Of several that were begun together the first one says it. */
	if (!client->speaks_h1 || now >= client->h2_again_us) {
		wait = wait < least ? least : wait;
		client->h2_wait_us = wait > H2_AGAIN_MOST * least ? H2_AGAIN_MOST * least : wait;
		client->h2_again_us =
		    now + client->h2_wait_us -
		    rand_below(loop_rand(client->loop), client->h2_wait_us / 5 + 1);
	}
	client->speaks_h1 = true;
	client->failed_us = 0;
	client->warm = true;
	client_pump(client);
	return true;
}

void client_link_opened(struct client *client, uint64_t set_up_us)
{
	client_connected(client, set_up_us);
	client->speaks_h1 = false;
	client->h2_wait_us = 0;
	client->failed_us = 0;
	client->not_before_us = 0;
	list_each (&client->links, at) {
		struct h2_link *l = container_of(at, struct h2_link, link);
		if (l->state != LINK_LEAVING)
			continue;
		link_retire(l, "its successor is there");
		break;
	}
	client_pump(client);
}

void client_link_useful(struct client *client)
{
	client->backoff_us = 0;
	client->short_links = 0;
}

static void note_failure(struct client *client, enum client_end end, const char *detail)
{
	uint64_t next = client->backoff_us * 2;
	if (next < BACKOFF_MIN_US)
		next = BACKOFF_MIN_US;
	client->backoff_us = next > BACKOFF_MAX_US ? BACKOFF_MAX_US : next;
	uint64_t half = client->backoff_us / 2;
	client->failed_us = loop_now_us(client->loop);
	client->not_before_us =
	    client->failed_us + half + rand_below(loop_rand(client->loop), half + 1);
	client->failed_end = end;
	snprintf(client->failed_detail, sizeof(client->failed_detail), "%s", detail);
	client_pump(client);
}

void client_link_short(struct client *client, const char *detail)
{
	/* One is bad luck. */
	if (client->short_links++)
		note_failure(client, CLIENT_CONNECT, detail);
	else
		client_pump(client);
}

void client_link_failed(struct client *client, enum client_end end, const char *detail)
{
	if (client
		->speaks_h1) { /* it was to see: HTTP/1.1 has the calls, and says itself what fails there */
		client->h2_again_us = loop_now_us(client->loop) + client->h2_wait_us;
		client_pump(client);
		return;
	}
	note_failure(client, end, detail);
	/* Nothing else could carry them? */
	if (links_in(client, LINK_DIALING, LINK_LEAVING) == 0)
		fail_waiting(client, end, detail);
}

/* ---- opening and closing ---- */

/* "https://host[:port][/prefix]" into host, port, authority and prefix. */
static int url_parse(struct client *client, const char *url)
{
	struct str rest = str_of(url);
	bool tls = str_starts(rest, "https://");
	if (!tls && !str_starts(rest, "http://"))
		return -EINVAL;
	rest.ptr += tls ? 8 : 7;
	const char *slash = strchr(rest.ptr, '/');
	size_t len = slash ? (size_t)(slash - rest.ptr) : strlen(rest.ptr);
	size_t prefix = slash ? strlen(slash) : 0;
	while (prefix > 0 && slash[prefix - 1] == '/')
		prefix--;
	client->authority = mem_dup(rest.ptr, len);
	client->prefix = mem_dup(slash ? slash : "", prefix);
	client->port = tls ? 443 : 80;
	char *host = client->authority;
	char *end = host + len;
	char *port = NULL;
	if (*host == '[') {
		char *bracket = strchr(host, ']');
		if (!bracket)
			return -EINVAL;
		host++;
		end = bracket;
		port = bracket[1] == ':' ? bracket + 2 : NULL;
	} else if (strchr(host, ':')) {
		end = strchr(host, ':');
		port = end + 1;
	}
	client->host = mem_dup(host, (size_t)(end - host));
	uint64_t number = client->port;
	if (port && (!str_u64(str_of(port), &number) || number == 0 || number > 65535))
		return -EINVAL;
	client->port = (uint16_t)number;
	bool bad = *client->host == '\0' || strlen(client->host) > 253 ||
		   strpbrk(url, " \t\r\n?#@") != NULL;
	return bad ? -EINVAL : tls;
}

static int origin_read(struct client *client)
{
	const struct client_options *o = &client->options;

	if (o->address_ok && o->http != CLIENT_HTTP_1)
		return -EINVAL;
	if (o->base_url)
		return url_parse(client, o->base_url);
	client->authority = mem_strdup("");
	client->prefix = mem_strdup("");
	return o->http == CLIENT_HTTP_1 ? 0 : -EINVAL;
}

int client_open(struct loop *loop, const struct client_options *options, const struct log *log,
		struct client **ret_client)
{
	struct client *client = mem_new(struct client);
	client->loop = loop;
	client->options = *options;
	client->options.base_url = mem_strdup(options->base_url);
	client->options.ca_file = mem_strdup(options->ca_file);
	client->log = log;
	list_init(&client->links);
	list_init(&client->waiting);
	task_init(&client->pump, loop, on_pump);
	timer_init(&client->retry, loop, on_retry);
	client->callbacks = link_callbacks();
	int r = origin_read(client);
	bool h1 = options->http == CLIENT_HTTP_1 || (r == 0 && options->http == CLIENT_HTTP_AUTO);
	if (r == 1)
		r = tls_client_new(options->ca_file,
				   options->http == CLIENT_HTTP_AUTO ? "h2,http/1.1" : "h2", log,
				   &client->tls);
	if (r < 0) {
		client_free(client);
		return err_trace(r);
	}
	if (h1)
		client->h1 = h1_open(client);
	client->speaks_h1 = h1;
	client_pump(client);
	*ret_client = client;
	return 0;
}

void client_close(struct client *client)
{
	if (!client)
		return;
	client_enter(client);
	client->closed = true;
	task_cancel(&client->pump);
	timer_stop(&client->retry);
	while (!list_empty(&client->waiting))
		client_cancel(list_first(&client->waiting, struct client_call, link));
	while (client->h1 && h1_first(client))
		client_cancel(h1_first(client));
	list_each (&client->links, at) {
		struct h2_link *l = container_of(at, struct h2_link, link);
		while (!list_empty(&l->calls))
			client_cancel(list_first(&l->calls, struct client_call, link));
	}
	while (!list_empty(&client->links))
		link_kill(list_first(&client->links, struct h2_link, link), CLIENT_DONE, "closed");
	client_leave(client);
}

struct client_stats client_stats(const struct client *client)
{
	uint32_t connections = links_in(client, LINK_PROVING, LINK_RETIRED);
	return (struct client_stats){.connections =
					 connections + (client->h1 ? h1_connections(client) : 0),
				     .calls = client->call_count,
				     .waiting = client->waiting_count,
				     .connections_opened = client->connections_opened,
				     .calls_begun = client->calls_begun,
				     .set_up_us = client->set_up_us};
}

bool client_warm(const struct client *client)
{
	return client->warm;
}

/* What connections of HTTP/2 carry more, those that are there and (unless HTTP/1.1 has the calls) those that may be. */
static uint64_t links_room(const struct client *client)
{
	uint32_t live = links_in(client, LINK_DIALING, LINK_OPEN), coming = 0;
	uint32_t per = client->options.streams_per_connection;
	uint64_t room = 0;

	list_each (&client->links, at) {
		const struct h2_link *l = container_of(at, struct h2_link, link);

		coming += l->state < LINK_PROVING;
		if (l->state < LINK_PROVING || !l->limit)
			continue;
		per = l->limit; /* as the peer allows it */
		if (l->state <= LINK_LEAVING && l->limit > l->count)
			room += l->limit - l->count;
	}
	if (client->speaks_h1)
		return room;
	if (client->options.http == CLIENT_HTTP_AUTO && !client->warm)
		per = 1;
	return room + (uint64_t)per * (coming + links_openable(client, live));
}

uint32_t client_room(const struct client *client)
{
	uint64_t room = links_room(client);

	if (client->speaks_h1)
		room += h1_room(client);
	room = room > client->waiting_count ? room - client->waiting_count : 0;
	return room < UINT32_MAX ? (uint32_t)room : UINT32_MAX;
}

void client_when_room(struct client *client, void (*changed)(void *ctx), void *ctx)
{
	client->room_changed = changed;
	client->room_ctx = ctx;
}

void client_observe(struct client *client, struct series *histogram)
{
	client->histogram = histogram;
}

/* ---- the face of a call ---- */

/* Copies name and value behind @at; @value2 follows @value. */
static nghttp2_nv nv_copy(char **at, struct str name, struct str value, struct str value2)
{
	nghttp2_nv nv = {.name = (uint8_t *)*at,
			 .namelen = name.len,
			 .value = (uint8_t *)*at + name.len,
			 .valuelen = value.len + value2.len,
			 .flags = NGHTTP2_NV_FLAG_NONE};
	struct str pieces[] = {name, value, value2};
	for (size_t i = 0; i < countof(pieces); i++) {
		if (pieces[i].len)
			memcpy(*at, pieces[i].ptr, pieces[i].len);
		*at += pieces[i].len;
	}
	return nv;
}

/* Secrets are never put into the header compression's table (RFC 7541, 7.1.3). */
static bool field_is_secret(struct str name)
{
	return str_is(name, "authorization") || str_is(name, "x-api-key");
}

static void call_request(struct client_call *call, const char *method, const char *path,
			 const struct http_field *fields, size_t count, struct str body)
{
	struct client *client = call->client;
	size_t bytes = 64 + strlen(method) + strlen(client->authority) + strlen(client->prefix) +
		       strlen(path) + body.len;
	struct str none = {NULL, 0};
	for (size_t i = 0; i < count; i++)
		bytes += fields[i].name.len + fields[i].value.len;
	call->nv = mem_alloc((count + 4) * sizeof(nghttp2_nv) + bytes);
	char *at = (char *)(call->nv + count + 4);
	nghttp2_nv *nv = call->nv;
	*nv++ = nv_copy(&at, STR(":method"), str_of(method), none);
	*nv++ = nv_copy(&at, STR(":scheme"), client->tls ? STR("https") : STR("http"), none);
	*nv++ = nv_copy(&at, STR(":authority"), str_of(client->authority), none);
	*nv++ = nv_copy(&at, STR(":path"), str_of(client->prefix), str_of(path));
	for (size_t i = 0; i < count; i++) {
		*nv = nv_copy(&at, fields[i].name, fields[i].value, none);
		if (field_is_secret(fields[i].name))
			nv->flags = NGHTTP2_NV_FLAG_NO_INDEX;
		nv++;
	}
	call->nv_count = count + 4;
	if (body.len)
		memcpy(at, body.ptr, body.len);
	call->body = (struct str){at, body.len};
}

struct client_call *client_call(struct client *client, const char *method, const char *path,
				const struct http_field *fields, size_t count, struct str body,
				const struct client_ops *ops, void *ctx)
{
	struct client_call *call = mem_new(struct client_call);
	call->client = client;
	call->ops = ops;
	call->ctx = ctx;
	call->stream = CALL_WAITING;
	call_request(call, method, path, fields, count, body);
	client->call_count++;
	client->calls_begun++;
	client->waiting_count++;
	list_push_back(&client->waiting, &call->link);
	client_pump(client);
	return call;
}

void client_cancel(struct client_call *call)
{
	if (call->ending)
		return;
	if (call->on)
		link_drop(call->on, call);
	else if (call->h1)
		h1_drop(call);
	else
		call->client->waiting_count -= call->stream == CALL_WAITING;
	list_remove(&call->link);
	call_free(call);
}

/* ---- what nobody hears of any more ---- */

static void on_released_head(void *ctx, int status, const struct http_field *fields, size_t count)
{
	(void)ctx;
	(void)status;
	(void)fields;
	(void)count;
}

static void on_released_data(void *ctx, struct str bytes)
{
	struct client_call *call = ctx;

	call->dropped += bytes.len;
	if (call->dropped > CLIENT_RELEASED_BYTES)
		client_cancel(call);
}

static void on_released_end(void *ctx, enum client_end end, const char *detail)
{
	(void)ctx;
	(void)end;
	(void)detail;
}

static void on_released_long(struct timer *t)
{
	client_cancel(container_of(t, struct client_call, released));
}

void client_release(struct client_call *call)
{
	static const struct client_ops ops = {
	    .head = on_released_head, .data = on_released_data, .end = on_released_end};

	if (call->ending)
		return;
	if (!call->head_given) {
		client_cancel(call);
		return;
	}
	client_pause(call, false);
	call->ops = &ops;
	call->ctx = call;
	timer_init(&call->released, call->client->loop, on_released_long);
	timer_set(&call->released, CLIENT_RELEASED_US);
}

void client_pause(struct client_call *call, bool pause)
{
	if (call->ending || call->paused == pause)
		return;
	call->paused = pause;
	if (call->on)
		link_pause(call->on, call, pause);
	else if (call->h1)
		h1_pause(call, pause);
}

const char *client_call_peer(const struct client_call *call)
{
	return call->on ? call->on->name : call->h1 ? h1_peer(call) : "";
}
