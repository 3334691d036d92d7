/* Calls over HTTP/1.1, for providers that do not speak HTTP/2: libcurl's multi_socket on our loop, one connection per
 * call, kept alive between calls. libcurl never queues here (the pool admits) and repeats nothing that the peer may have
 * seen: the body comes by a read function that cannot rewind. It must not be entered from inside its own callbacks, so
 * what is cancelled or resumed there is done by a task. */
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/metric.h"
#include "lib/net/address.h"
#include "lib/net/client_impl.h"

#define HEAD_BYTES 65536
#define READ_BYTES 16384L

struct h1_pool {
	struct client *client;
	CURLM *multi;
	struct timer clock; /* libcurl's */
	struct timer idle;
	struct task after;     /* what could not be done inside of libcurl */
	struct list calls;     /* client_call.link */
	struct list exchanges; /* all of them */
	uint32_t count;
	uint32_t sockets;
	bool inside;
};

/* One request and its answer; outlives its call where that was cancelled inside of libcurl. */
struct h1_exchange {
	struct list link;
	struct h1_pool *pool;
	struct client_call *call; /* NULL: cancelled */
	CURL *easy;
	struct curl_slist *fields;
	struct buf head; /* "name\0value\0" of each field */
	size_t field_count;
	int status;
	bool sent;
	bool held; /* libcurl holds back what came while paused */
	char why[CURL_ERROR_SIZE];
	char refused[ADDRESS_TEXT_SIZE]; /* by address_ok; "" for none */
	char name[80];
};

struct h1_socket {
	struct h1_pool *pool;
	struct watch *watch;
	curl_socket_t fd;
};

/* ---- the life of an exchange ---- */

static void exchange_free(struct h1_exchange *x)
{
	struct h1_pool *pool = x->pool;

	list_remove(&x->link);
	curl_multi_remove_handle(pool->multi, x->easy);
	curl_easy_cleanup(x->easy);
	curl_slist_free_all(x->fields);
	buf_fini(&x->head);
	mem_free(x);
}

/* The call and its exchange part; the call's next step is the caller's. */
static void exchange_part(struct h1_exchange *x)
{
	struct h1_pool *pool = x->pool;
	struct client *client = pool->client;

	list_remove(&x->call->link);
	x->call->h1 = NULL;
	x->call->stream = CALL_IN_NO_LINE;
	x->call = NULL;
	if (--pool->count == 0)
		timer_set(&pool->idle, client->options.idle_us);
	if (client->waiting_count)
		client_pump(client);
}

static enum client_end end_of(const struct h1_exchange *x, CURLcode code)
{
	if (code == CURLE_OK) /* also where the connection ended within the head */
		return x->call && !x->call->head_given ? CLIENT_CUT : CLIENT_DONE;
	if (!x->sent)
		return code == CURLE_OPERATION_TIMEDOUT ? CLIENT_TIMEOUT : CLIENT_CONNECT;
	if (code == CURLE_WEIRD_SERVER_REPLY || code == CURLE_UNSUPPORTED_PROTOCOL ||
	    code == CURLE_WRITE_ERROR)
		return CLIENT_PROTOCOL;
	return CLIENT_CUT;
}

static void exchange_end(struct h1_exchange *x, CURLcode code)
{
	struct client_call *call = x->call;
	enum client_end end = end_of(x, code);
	char why[CURL_ERROR_SIZE];

	if (!call) {
		exchange_free(x);
		return;
	}
	snprintf(why, sizeof(why), "%s", x->why[0] || !code ? x->why : curl_easy_strerror(code));
	if (end == CLIENT_CUT && !code)
		snprintf(why, sizeof(why), "the answer ended within its head");
	if (x->refused[0] && end == CLIENT_CONNECT)
		snprintf(why, sizeof(why), "address not allowed: %s", x->refused);
	exchange_part(x);
	exchange_free(x);
	call_end(call, end, why);
}

/* Tells of those that ended. Outside of libcurl. */
static void pool_reap(struct h1_pool *pool)
{
	struct CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(pool->multi, &left))) {
		char *x = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &x);
		exchange_end((struct h1_exchange *)(void *)x, m->data.result);
	}
}

static void on_after(struct task *t)
{
	struct h1_pool *pool = container_of(t, struct h1_pool, after);

	client_enter(pool->client);
	list_each (&pool->exchanges, at) {
		struct h1_exchange *x = container_of(at, struct h1_exchange, link);

		if (!x->call) {
			exchange_free(x);
		} else if (x->held && !x->call->paused) {
			x->held = false;
			pool->inside = true;
			curl_easy_pause(x->easy, CURLPAUSE_CONT);
			pool->inside = false;
		}
	}
	pool_reap(pool);
	client_leave(pool->client);
}

/* ---- sockets and time ---- */

static void pool_act(struct h1_pool *pool, curl_socket_t fd, int events)
{
	int running;

	client_enter(pool->client);
	pool->inside = true;
	curl_multi_socket_action(pool->multi, fd, events, &running);
	pool->inside = false;
	pool_reap(pool);
	client_leave(pool->client);
}

static void on_socket_ready(void *ctx, unsigned events)
{
	struct h1_socket *s = ctx;

	pool_act(s->pool, s->fd,
		 (events & WATCH_READ ? CURL_CSELECT_IN : 0) |
		     (events & WATCH_WRITE ? CURL_CSELECT_OUT : 0));
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *known)
{
	struct h1_pool *pool = ctx;
	struct h1_socket *s = known;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (s) {
			watch_close(s->watch);
			mem_free(s);
		}
		return 0;
	}
	if (!s) {
		s = mem_new(struct h1_socket);
		s->pool = pool;
		s->fd = fd;
		s->watch = watch_open(pool->client->loop, fd, on_socket_ready, s);
		if (!s->watch) { /* the connect clock ends it */
			mem_free(s);
			return 0;
		}
		curl_multi_assign(pool->multi, fd, s);
	}
	watch_set(s->watch, (what & CURL_POLL_IN ? WATCH_READ : 0) |
				(what & CURL_POLL_OUT ? WATCH_WRITE : 0));
	return 0;
}

static int on_timer(CURLM *multi, long ms, void *ctx)
{
	struct h1_pool *pool = ctx;

	(void)multi;
	if (ms < 0)
		timer_stop(&pool->clock);
	else
		timer_set(&pool->clock, (uint64_t)ms * US_PER_MS);
	return 0;
}

static void on_clock(struct timer *t)
{
	pool_act(container_of(t, struct h1_pool, clock), CURL_SOCKET_TIMEOUT, 0);
}

static curl_socket_t on_socket_open(void *ctx, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct h1_exchange *x = ctx;
	const struct client_options *o = &x->pool->client->options;
	curl_socket_t fd;

	(void)purpose;
	if (o->address_ok && !o->address_ok(o->address_ctx, &a->addr)) {
		address_text(&a->addr, x->refused);
		return CURL_SOCKET_BAD;
	}
	fd = socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
	if (fd != CURL_SOCKET_BAD)
		x->pool->sockets++;
	return fd;
}

static int on_socket_close(void *ctx, curl_socket_t fd)
{
	struct h1_pool *pool = ctx;

	pool->sockets--;
	return close(fd);
}

/* ---- what libcurl says of an exchange; 0 ends it ---- */

static int on_ready(void *ctx, char *peer, char *here, int peer_port, int here_port)
{
	struct h1_exchange *x = ctx;
	struct client *client = x->pool->client;
	curl_off_t set_up_us = 0;
	long fresh = 0;

	(void)here;
	if (!x->call)
		return CURL_PREREQFUNC_ABORT;
	x->sent = true;
	client->warm = true;
	snprintf(x->name, sizeof(x->name), "%s:%d#%d", peer, peer_port, here_port);
	curl_easy_getinfo(x->easy, CURLINFO_NUM_CONNECTS, &fresh);
	if (fresh) {
		curl_easy_getinfo(
		    x->easy, client->tls ? CURLINFO_APPCONNECT_TIME_T : CURLINFO_CONNECT_TIME_T,
		    &set_up_us);
		client_connected(client, (uint64_t)set_up_us);
	}
	if (x->call->ops->sent)
		x->call->ops->sent(x->call->ctx);
	return x->call ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
}

static size_t on_body_wanted(char *into, size_t size, size_t count, void *ctx)
{
	struct h1_exchange *x = ctx;
	struct client_call *call = x->call;
	size_t take = size * count;

	if (!call)
		return CURL_READFUNC_ABORT;
	if (take > call->body.len - call->body_sent)
		take = call->body.len - call->body_sent;
	memcpy(into, call->body.ptr + call->body_sent, take);
	call->body_sent += take;
	return take;
}

static bool tell_head(struct h1_exchange *x)
{
	struct http_field fields[CLIENT_MAX_FIELDS];
	const char *at = buf_str(&x->head).ptr;

	for (size_t i = 0; i < x->field_count; i++) {
		fields[i].name = str_of(at);
		at += fields[i].name.len + 1;
		fields[i].value = str_of(at);
		at += fields[i].value.len + 1;
	}
	x->call->head_given = true;
	x->call->ops->head(x->call->ctx, x->status, fields, x->field_count);
	buf_fini(&x->head);
	return x->call;
}

static void take_field(struct h1_exchange *x, struct str line)
{
	struct str name;

	if (!str_split(&line, ':', &name) || !name.len || x->field_count == CLIENT_MAX_FIELDS)
		return;
	line = str_trim(line);
	for (size_t i = 0; i < name.len; i++)
		buf_add_char(&x->head, name.ptr[i] >= 'A' && name.ptr[i] <= 'Z'
					   ? (char)(name.ptr[i] | 0x20)
					   : name.ptr[i]);
	buf_add_char(&x->head, '\0');
	buf_add_str(&x->head, line);
	buf_add_char(&x->head, '\0');
	x->field_count++;
}

static size_t on_head_line(char *bytes, size_t size, size_t count, void *ctx)
{
	struct h1_exchange *x = ctx;
	struct str line = {bytes, size * count};
	long status = 0;

	while (line.len && (bytes[line.len - 1] == '\n' || bytes[line.len - 1] == '\r'))
		line.len--;
	if (!x->call || x->head.len + line.len > HEAD_BYTES)
		return 0;
	if (x->call->head_given || memchr(bytes, '\0', size * count))
		return size * count; /* a trailer; or what no field holds */
	if (str_starts(line, "HTTP/")) {
		buf_fini(&x->head);
		x->field_count = 0;
	} else if (line.len) {
		take_field(x, line);
	} else {
		curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
		x->status = (int)status;
		if (status >= 200 && !tell_head(x))
			return 0;
	}
	return size * count;
}

static size_t on_data(char *bytes, size_t size, size_t count, void *ctx)
{
	struct h1_exchange *x = ctx;

	if (!x->call)
		return 0;
	if (x->call->paused) {
		x->held = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	x->call->ops->data(x->call->ctx, (struct str){bytes, size * count});
	return x->call ? size * count : 0;
}

/* ---- what the pool asks for ---- */

static struct curl_slist *fields_of(const struct client_call *call)
{
	struct curl_slist *list = NULL;
	bool accepts = false;

	/* The first four are HTTP/2's own. */
	for (size_t i = 4; i < call->nv_count; i++) {
		const nghttp2_nv *nv = &call->nv[i];
		cleanup_free char *line =
		    mem_printf(nv->valuelen ? "%.*s: %.*s" : "%.*s;%.*s", (int)nv->namelen,
			       (const char *)nv->name, (int)nv->valuelen, (const char *)nv->value);

		accepts |= nv->namelen == 6 && memcmp(nv->name, "accept", 6) == 0;
		list = curl_slist_append(list, line);
	}
	if (!accepts)
		list = curl_slist_append(list, "Accept:");
	return curl_slist_append(list, "Expect:");
}

static void set_transport(struct h1_exchange *x, const struct client *client, struct h1_pool *pool)
{
	CURL *c = x->easy;
	const struct client_options *o = &client->options;

	curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_PROXY, "");
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	/* A name that is still being resolved when its call ends is left to its thread: else libcurl waits for that one here. */
	curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)(o->connect_us / US_PER_MS));
	curl_easy_setopt(c, CURLOPT_MAXAGE_CONN, (long)(o->idle_us / US_PER_S));
	curl_easy_setopt(c, CURLOPT_MAXLIFETIME_CONN, (long)(o->max_age_us / US_PER_S));
	curl_easy_setopt(c, CURLOPT_BUFFERSIZE, READ_BYTES);
	curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, READ_BYTES);
	curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, on_socket_open);
	curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, x);
	curl_easy_setopt(c, CURLOPT_CLOSESOCKETFUNCTION, on_socket_close);
	curl_easy_setopt(c, CURLOPT_CLOSESOCKETDATA, pool);
	if (o->ca_file)
		curl_easy_setopt(c, CURLOPT_CAINFO, o->ca_file);
}

static void set_request(struct h1_exchange *x, const struct client_call *call)
{
	CURL *c = x->easy;
	const nghttp2_nv *method = &call->nv[0], *path = &call->nv[3];
	cleanup_free char *verb =
	    mem_printf("%.*s", (int)method->valuelen, (const char *)method->value);
	bool whole = !call->client->options.base_url;
	cleanup_free char *url = mem_printf(
	    "%s%s%s%.*s", whole ? "" : (call->client->tls ? "https" : "http"), whole ? "" : "://",
	    call->client->authority, (int)path->valuelen, (const char *)path->value);

	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
	if (call->body.len || strcmp(verb, "POST") == 0) {
		curl_easy_setopt(c, CURLOPT_POST, 1L);
		curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.len);
		curl_easy_setopt(c, CURLOPT_READFUNCTION, on_body_wanted);
		curl_easy_setopt(c, CURLOPT_READDATA, x);
	}
	curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, verb);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, x->fields);
	curl_easy_setopt(c, CURLOPT_PREREQFUNCTION, on_ready);
	curl_easy_setopt(c, CURLOPT_PREREQDATA, x);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_head_line);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, x->why);
	curl_easy_setopt(c, CURLOPT_PRIVATE, x);
}

uint32_t h1_room(const struct client *client)
{
	uint32_t used = client->h1->count + client->link_count;
	uint32_t most = client->options.max_connections;

	return used < most ? most - used : 0;
}

void h1_send(struct client *client, struct client_call *call)
{
	struct h1_pool *pool = client->h1;
	struct h1_exchange *x = mem_new(struct h1_exchange);

	x->pool = pool;
	x->call = call;
	x->easy = curl_easy_init();
	must(x->easy);
	x->fields = fields_of(call);
	set_transport(x, client, pool);
	set_request(x, call);
	call->h1 = x;
	call->body_sent = 0;
	list_push_back(&pool->calls, &call->link);
	list_push_back(&pool->exchanges, &x->link);
	pool->count++;
	timer_stop(&pool->idle);
	must(curl_multi_add_handle(pool->multi, x->easy) == CURLM_OK);
}

void h1_drop(struct client_call *call)
{
	struct h1_exchange *x = call->h1;
	struct h1_pool *pool = x->pool;

	exchange_part(x);
	if (pool->inside)
		task_post(&pool->after);
	else
		exchange_free(x);
}

void h1_pause(struct client_call *call, bool pause)
{
	if (!pause && call->h1->held)
		task_post(&call->h1->pool->after);
}

const char *h1_peer(const struct client_call *call)
{
	return call->h1->name;
}

uint32_t h1_connections(const struct client *client)
{
	return client->h1->sockets;
}

struct client_call *h1_first(const struct client *client)
{
	return list_first(&client->h1->calls, struct client_call, link);
}

static void multi_open(struct h1_pool *pool)
{
	const struct client_options *o = &pool->client->options;

	pool->multi = curl_multi_init();
	must(pool->multi);
	curl_multi_setopt(pool->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
	curl_multi_setopt(pool->multi, CURLMOPT_MAXCONNECTS, (long)o->max_connections);
	curl_multi_setopt(pool->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(pool->multi, CURLMOPT_SOCKETDATA, pool);
	curl_multi_setopt(pool->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(pool->multi, CURLMOPT_TIMERDATA, pool);
}

/* Nobody called for long: the connections go, with what libcurl keeps for them. */
static void on_idle(struct timer *t)
{
	struct h1_pool *pool = container_of(t, struct h1_pool, idle);

	if (!list_empty(&pool->exchanges))
		return;
	curl_multi_cleanup(pool->multi);
	timer_stop(&pool->clock);
	multi_open(pool);
}

struct h1_pool *h1_open(struct client *client)
{
	struct h1_pool *pool = mem_new(struct h1_pool);

	pool->client = client;
	list_init(&pool->calls);
	list_init(&pool->exchanges);
	timer_init(&pool->clock, client->loop, on_clock);
	timer_init(&pool->idle, client->loop, on_idle);
	task_init(&pool->after, client->loop, on_after);
	multi_open(pool);
	return pool;
}

void h1_close(struct h1_pool *pool)
{
	if (!pool)
		return;
	while (!list_empty(&pool->exchanges))
		exchange_free(list_first(&pool->exchanges, struct h1_exchange, link));
	curl_multi_cleanup(pool->multi);
	timer_stop(&pool->clock);
	timer_stop(&pool->idle);
	task_cancel(&pool->after);
	mem_free(pool);
}
