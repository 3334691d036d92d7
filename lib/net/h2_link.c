#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/net/client_impl.h"

/* What one flush frames before it asks the socket. */
#define OUT_BYTES 65536
#define READS_PER_WAKE 4
#define CONNECTION_WINDOW (16 * 1024 * 1024)
/* A connection that ends sooner, without an answer, was none. */
#define SHORT_US US_PER_S
/* A PING before reuse is awaited for twice as long as the set-up took (three ways there and back), within these. */
#define PROVE_MIN_US (100 * US_PER_MS)
#define PROVE_MAX_US US_PER_S
/* Of the calls that it may carry, the last tenth goes where its successor is not there yet. */
#define LEAVE_PART 10
/* So many calls in turn that the peer resets without a head: the connection is left. */
#define RESETS_MOST 3

static struct client_call *call_of(nghttp2_session *session, int32_t stream)
{
	return nghttp2_session_get_stream_user_data(session, stream);
}

/* ---- time ---- */

static uint64_t jittered(struct client *client, uint64_t value)
{
	uint64_t span = value * 2 / 5;
	return value - span / 2 + rand_below(loop_rand(client->loop), span + 1);
}

static uint64_t prove_us(const struct h2_link *l)
{
	uint64_t us = 2 * l->set_up_us;
	return us < PROVE_MIN_US ? PROVE_MIN_US : us > PROVE_MAX_US ? PROVE_MAX_US : us;
}

/* Sets the clock to the next thing that can be due. */
static void link_rearm(struct h2_link *l)
{
	const struct client_options *o = &l->client->options;
	uint64_t now = loop_now_us(l->client->loop);
	uint64_t due = UINT64_MAX;
	uint64_t other = l->count == 0	? l->idle_us + o->idle_us
			 : l->pinged_us ? l->pinged_us + o->ping_us
					: l->heard_us + o->ping_us;
	switch (l->state) {
	case LINK_DIALING:
	case LINK_SETTLING:
		return; /* the connect clock runs */
	case LINK_PROVING:
		due = l->pinged_us + prove_us(l);
		break;
	case LINK_OPEN:
		due = l->retire_us;
		break;
	case LINK_LEAVING:
		due = l->leave_us + o->connect_us;
		break;
	case LINK_RETIRED:
		break;
	}
	if (other < due)
		due = other;
	timer_set(&l->clock, due > now ? due - now : 0);
}

static uint32_t live_links(const struct client *client)
{
	uint32_t n = 0;
	list_each (&client->links, at) {
		n += container_of(at, struct h2_link, link)->state <= LINK_OPEN;
	}
	return n;
}

/* Time or number has come: a successor is opened, and until it is there calls go on here. */
static void link_leave(struct h2_link *l, const char *why)
{
	if (l->state != LINK_OPEN)
		return;
	log_debug(l->client->log, "connection leaves", F_STR("peer", l->name), F_STR("why", why));
	l->state = LINK_LEAVING;
	l->leave_us = loop_now_us(l->client->loop);
	link_rearm(l);
	client_pump(l->client);
}

static void link_ping(struct h2_link *l)
{
	nghttp2_submit_ping(l->session, NGHTTP2_FLAG_NONE, NULL);
	l->pinged_us = loop_now_us(l->client->loop);
	task_post(&l->flush);
}

bool link_stale(const struct h2_link *l)
{
	return l->state == LINK_OPEN && l->count == 0 &&
	       loop_now_us(l->client->loop) >= l->heard_us + l->client->options.ping_us;
}

void link_prove(struct h2_link *l)
{
	l->state = LINK_PROVING;
	link_ping(l);
	link_rearm(l);
}

static void on_due_idle(struct h2_link *l)
{
	const struct client_options *o = &l->client->options;
	if (l->state == LINK_OPEN && live_links(l->client) <= o->min_connections) {
		l->idle_us = loop_now_us(l->client->loop);
		link_rearm(l);
	} else {
		link_retire(l, "idle");
	}
}

static void on_due(struct h2_link *l)
{
	const struct client_options *o = &l->client->options;
	uint64_t now = loop_now_us(l->client->loop);
	if (l->state == LINK_PROVING) {
		if (now >= l->pinged_us + prove_us(l))
			link_kill(l, CLIENT_CUT, "no answer to PING before reuse");
		else
			link_rearm(l);
		return;
	}
	if (l->state == LINK_OPEN && now >= l->retire_us) {
		link_leave(l, "age");
		return;
	}
	if (l->state == LINK_LEAVING && now >= l->leave_us + o->connect_us) {
		link_retire(l, "no successor came");
		return;
	}
	if (l->count == 0 && now >= l->idle_us + o->idle_us) {
		on_due_idle(l);
		return;
	}
	if (l->count > 0 && l->pinged_us && now >= l->pinged_us + o->ping_us) {
		link_kill(l, CLIENT_CUT, "no answer to PING");
		return;
	}
	if (l->count > 0 && !l->pinged_us && now >= l->heard_us + o->ping_us)
		link_ping(l);
	link_rearm(l);
}

static void on_clock(struct timer *t)
{
	struct h2_link *l = container_of(t, struct h2_link, clock);
	struct client *client = l->client;
	client_enter(client);
	switch (l->state) {
	case LINK_DIALING:
	case LINK_SETTLING:
		link_kill(l, CLIENT_TIMEOUT, "the connection was not ready in time");
		break;
	case LINK_PROVING:
	case LINK_OPEN:
	case LINK_LEAVING:
	case LINK_RETIRED:
		on_due(l);
		break;
	}
	client_leave(client);
}

/* ---- the life of a link ---- */

static void head_forget(struct h2_link *l)
{
	for (size_t i = 0; i < 2 * l->field_count; i++)
		nghttp2_rcbuf_decref(l->held[i]);
	l->field_count = 0;
	l->status = 0;
}

static void link_free(struct h2_link *l)
{
	head_forget(l);
	nghttp2_session_del(l->session);
	buf_fini(&l->out);
	mem_free(l);
}

/* True where nothing of its request can have left: the peer has not seen it. */
static bool call_unsent(const struct h2_link *l, const struct client_call *call)
{
	return !call->framed || l->framed - l->out.len <= call->framed_at;
}

/* Takes all calls off: those that never left go back into the line, the others into @ret_calls, in order. */
static void link_strip(struct h2_link *l, struct list *ret_calls)
{
	list_init(ret_calls);
	while (!list_empty(&l->calls)) {
		struct client_call *call = container_of(l->calls.prev, struct client_call, link);
		bool again = !l->client->closed && l->state > LINK_SETTLING && call_unsent(l, call);
		list_remove(&call->link);
		call->on = NULL;
		call->stream = CALL_IN_NO_LINE;
		if (again)
			call_requeue(call);
		else
			list_push_front(ret_calls, &call->link);
	}
	l->count = 0;
}

static bool link_is_short(const struct h2_link *l)
{
	return !l->useful && loop_now_us(l->client->loop) < l->opened_us + SHORT_US;
}

void link_kill(struct h2_link *l, enum client_end end, const char *detail)
{
	struct client *client = l->client;
	char text[200]; /* @detail may live in what we give back */
	struct list calls;
	if (l->dead)
		return;
	l->dead = true;
	snprintf(text, sizeof(text), "%s", detail);
	bool young = l->state < LINK_PROVING;
	if (young && end != CLIENT_DONE && end != CLIENT_TIMEOUT)
		end = CLIENT_CONNECT;
	bool brief = !young && end != CLIENT_DONE && l->state < LINK_RETIRED && link_is_short(l);
	log_debug(client->log, "connection ends", F_STR("peer", l->name),
		  F_STR("end", client_end_name(end)), F_STR("detail", text),
		  F_UINT("calls", l->count));
	list_remove(&l->link);
	client->link_count--;
	timer_stop(&l->clock);
	task_cancel(&l->flush);
	conn_close(l->conn);
	l->conn = NULL;
	link_strip(l, &calls);
	if (!l->busy)
		link_free(l);
	calls_end(client, &calls, end, text);
	if (client->closed)
		return;
	if (young && end != CLIENT_DONE)
		client_link_failed(client, end, text);
	else if (brief)
		client_link_short(client, text);
	else
		client_pump(client);
}

void link_retire(struct h2_link *l, const char *why)
{
	if (l->dead)
		return;
	if (l->state < LINK_RETIRED && l->state > LINK_SETTLING) {
		log_debug(l->client->log, "connection retires", F_STR("peer", l->name),
			  F_STR("why", why), F_UINT("calls", l->count));
		l->state = LINK_RETIRED;
		client_pump(l->client);
	}
	if (l->count > 0) {
		link_rearm(l);
		return;
	}
	/* GOAWAY goes out, then the session has nothing more to say and flush closes. */
	nghttp2_session_terminate_session(l->session, NGHTTP2_NO_ERROR);
	task_post(&l->flush);
}

/* The call is no longer on this link. */
static void link_lost_call(struct h2_link *l, struct client_call *call)
{
	list_remove(&call->link);
	call->on = NULL;
	call->stream = CALL_IN_NO_LINE;
	if (--l->count == 0) {
		l->idle_us = loop_now_us(l->client->loop);
		if (l->state == LINK_RETIRED)
			link_retire(l, "done");
		else
			link_rearm(l);
	}
	if (l->client->waiting_count)
		client_pump(l->client);
}

bool link_has_room(const struct h2_link *l)
{
	return (l->state == LINK_OPEN || l->state == LINK_LEAVING) && l->count < l->limit &&
	       !link_stale(l);
}

/* ---- what nghttp2 says ---- */

static void link_end_call(struct h2_link *l, struct client_call *call, enum client_end end,
			  const char *detail)
{
	nghttp2_session_set_stream_user_data(l->session, call->stream, NULL);
	link_lost_call(l, call);
	call_end(call, end, detail);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	(void)session;
	(void)frame;
	head_forget(user);
	return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
		     nghttp2_rcbuf *value, uint8_t flags, void *user)
{
	struct h2_link *l = user;
	(void)session;
	(void)frame;
	(void)flags;
	nghttp2_vec n = nghttp2_rcbuf_get_buf(name);
	nghttp2_vec v = nghttp2_rcbuf_get_buf(value);
	if (n.len == 7 && memcmp(n.base, ":status", 7) == 0) {
		uint64_t status = 0;
		if (str_u64((struct str){(const char *)v.base, v.len}, &status))
			l->status = (int)status;
		return 0;
	}
	if (l->field_count == CLIENT_MAX_FIELDS || n.len == 0 || n.base[0] == ':')
		return 0;
	nghttp2_rcbuf_incref(name);
	nghttp2_rcbuf_incref(value);
	l->held[2 * l->field_count] = name;
	l->held[2 * l->field_count + 1] = value;
	l->fields[l->field_count++] =
	    (struct http_field){{(const char *)n.base, n.len}, {(const char *)v.base, v.len}};
	return 0;
}

/* A whole HEADERS frame: an interim head is skipped, trailers are nobody's business. */
static void on_head(struct h2_link *l, int32_t stream)
{
	struct client_call *call = call_of(l->session, stream);
	if (!l->useful && l->status >= 200) {
		l->useful = true;
		client_link_useful(l->client);
	}
	if (l->status >= 200)
		l->resets = 0;
	if (call && !call->head_given && l->status >= 200) {
		call->head_given = true;
		call->ops->head(call->ctx, l->status, l->fields, l->field_count);
	}
	head_forget(l);
}

/* The peer has said all: what is left of our request is not wanted. */
static void on_peer_end(struct h2_link *l, int32_t stream)
{
	struct client_call *call = call_of(l->session, stream);
	if (!call)
		return;
	if (call->body_sent < call->body.len)
		nghttp2_submit_rst_stream(l->session, NGHTTP2_FLAG_NONE, stream, NGHTTP2_CANCEL);
	link_end_call(l, call, CLIENT_DONE, "");
}

static void on_settings(struct h2_link *l)
{
	struct client *client = l->client;
	uint32_t peer = nghttp2_session_get_remote_settings(
	    l->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
	uint32_t ours = client->options.streams_per_connection;
	uint64_t now = loop_now_us(client->loop);
	l->limit = peer < ours ? peer : ours;
	if (l->limit == 0) {
		/* Of no use to us; at the beginning more may yet be granted, within the connect clock. */
		if (l->state > LINK_SETTLING)
			link_retire(l, "it takes no streams");
		return;
	}
	if (l->state != LINK_SETTLING) {
		client_pump(client);
		return;
	}
	l->state = LINK_OPEN;
	l->opened_us = l->idle_us = now;
	l->set_up_us = now - l->dialed_us;
	l->retire_us = now + jittered(client, client->options.max_age_us);
	link_rearm(l);
	log_debug(client->log, "connection is open", F_STR("peer", l->name),
		  F_UINT("streams", l->limit), F_UINT("set_up_us", l->set_up_us));
	client_link_opened(client, l->set_up_us);
}

static void on_goaway(struct h2_link *l)
{
	bool brief = l->state > LINK_SETTLING && !l->goaway && link_is_short(l);
	l->goaway = true;
	link_retire(l, "goaway");
	if (brief)
		client_link_short(l->client, "the peer goes away");
}

static void on_pong(struct h2_link *l)
{
	l->pinged_us = 0;
	if (l->state != LINK_PROVING)
		return;
	l->state = LINK_OPEN;
	link_rearm(l);
	client_pump(l->client);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct h2_link *l = user;
	struct client_call *call;
	switch ((nghttp2_frame_type)frame->hd.type) {
	case NGHTTP2_HEADERS:
		on_head(l, frame->hd.stream_id);
		if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
			on_peer_end(l, frame->hd.stream_id);
		break;
	case NGHTTP2_DATA:
		if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
			on_peer_end(l, frame->hd.stream_id);
		break;
	case NGHTTP2_SETTINGS:
		if (!(frame->hd.flags & NGHTTP2_FLAG_ACK))
			on_settings(l);
		break;
	case NGHTTP2_RST_STREAM:
		call = call_of(session, frame->hd.stream_id);
		if (call)
			call->peer_reset = true;
		break;
	case NGHTTP2_GOAWAY:
		on_goaway(l);
		break;
	case NGHTTP2_PING:
		if (frame->hd.flags & NGHTTP2_FLAG_ACK)
			on_pong(l);
		break;
	case NGHTTP2_PRIORITY:
	case NGHTTP2_PUSH_PROMISE:
	case NGHTTP2_WINDOW_UPDATE:
	case NGHTTP2_CONTINUATION:
	case NGHTTP2_ALTSVC:
	case NGHTTP2_ORIGIN:
	case NGHTTP2_PRIORITY_UPDATE:
		break;
	}
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data,
		   size_t len, void *user)
{
	struct client_call *call = call_of(session, stream);
	(void)flags;
	(void)user;
	nghttp2_session_consume_connection(session, len);
	if (!call)
		return 0;
	call->ops->data(call->ctx, (struct str){(const char *)data, len});
	/* The callback may have cancelled the call. */
	if (call_of(session, stream) != call)
		return 0;
	if (call->paused)
		call->withheld += len;
	else
		nghttp2_session_consume_stream(session, stream, len);
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream, uint32_t error, void *user)
{
	struct h2_link *l = user;
	struct client_call *call = call_of(session, stream);
	if (!call)
		return 0;
	enum client_end end = CLIENT_PROTOCOL;
	if (error == NGHTTP2_REFUSED_STREAM && !call->head_given)
		end = CLIENT_REFUSED;
	else if (call->peer_reset)
		end = CLIENT_RESET;
	else if (error == NGHTTP2_REFUSED_STREAM)
		end = CLIENT_CUT;
	/* A peer that is short of something for this connection alone may serve the next one. */
	if (end == CLIENT_RESET && !call->head_given && ++l->resets >= RESETS_MOST)
		link_retire(l, "resets streams");
	link_end_call(l, call, end, nghttp2_http2_strerror(error));
	return 0;
}

static int on_framing(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct h2_link *l = user;
	struct client_call *call;
	if (frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	call = call_of(session, frame->hd.stream_id);
	if (call) {
		call->framed = true;
		call->framed_at = l->framed;
	}
	return 0;
}

/* A request that never left goes to another connection. */
static int on_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int error, void *user)
{
	struct h2_link *l = user;
	(void)error;
	if (frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	list_each (&l->calls, at) {
		struct client_call *call = container_of(at, struct client_call, link);
		if (call->stream != frame->hd.stream_id)
			continue;
		nghttp2_session_set_stream_user_data(session, call->stream, NULL);
		link_retire(l, "refuses streams");
		link_lost_call(l, call);
		call_requeue(call);
		break;
	}
	return 0;
}

nghttp2_session_callbacks *link_callbacks(void)
{
	nghttp2_session_callbacks *cb;
	must(nghttp2_session_callbacks_new(&cb) == 0);
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback2(cb, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
	nghttp2_session_callbacks_set_before_frame_send_callback(cb, on_framing);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(cb, on_not_sent);
	return cb;
}

/* ---- bytes ---- */

/* Frames what the session has to say into l->out; false where the session is beyond use. */
static bool link_frame(struct h2_link *l)
{
	while (l->out.len < OUT_BYTES) {
		const uint8_t *bytes;
		ssize_t n = nghttp2_session_mem_send(l->session, &bytes);
		if (n < 0)
			return false;
		if (n == 0)
			break;
		buf_add(&l->out, bytes, (size_t)n);
		l->framed += (uint64_t)n;
	}
	return true;
}

static void link_flush(struct h2_link *l)
{
	bool alive = true;
	int error = 0;
	l->busy = true;
	while (alive && !l->dead && (alive = link_frame(l)) && l->out.len && !l->dead) {
		ssize_t n = conn_write(l->conn, l->out.data + l->out.head, l->out.len);
		if (n < 0) {
			error = (int)n;
			break;
		}
		buf_take(&l->out, (size_t)n);
	}
	l->busy = false;
	if (l->dead) {
		link_free(l);
		return;
	}
	if (error < 0 && error != -EAGAIN) {
		link_kill(l, CLIENT_CUT, strerror(-error));
		return;
	}
	bool over = l->out.len == 0 && !nghttp2_session_want_read(l->session) &&
		    !nghttp2_session_want_write(l->session);
	if (!alive || over) {
		link_kill(l, l->goaway ? CLIENT_CUT : CLIENT_PROTOCOL, "the session is over");
		return;
	}
	if (l->out.len == 0)
		buf_fini(&l->out);
	conn_want(l->conn, l->out.len ? CONN_READABLE | CONN_WRITABLE : CONN_READABLE);
}

static void on_flush(struct task *t)
{
	struct h2_link *l = container_of(t, struct h2_link, flush);
	struct client *client = l->client;
	client_enter(client);
	link_flush(l);
	client_leave(client);
}

/* Feeds the session; false where the link is over (and perhaps gone). */
static bool link_feed(struct h2_link *l, ssize_t n)
{
	if (n == -EAGAIN)
		return true;
	if (n <= 0) {
		link_kill(l, CLIENT_CUT, n == 0 ? "closed by the peer" : strerror((int)-n));
		return false;
	}
	l->heard_us = loop_now_us(l->client->loop);
	if (l->state != LINK_PROVING)
		l->pinged_us = 0;
	l->busy = true;
	ssize_t taken = nghttp2_session_mem_recv(l->session, (uint8_t *)l->client->read, (size_t)n);
	l->busy = false;
	if (l->dead) {
		link_free(l);
		return false;
	}
	if (taken < 0) {
		link_kill(l, CLIENT_PROTOCOL, nghttp2_strerror((int)taken));
		return false;
	}
	return true;
}

static void on_ready(void *ctx, struct conn *conn, unsigned events)
{
	struct h2_link *l = ctx;
	struct client *client = l->client;
	bool alive = true;
	client_enter(client);
	for (int i = 0; alive && (events & CONN_READABLE) && i < READS_PER_WAKE; i++) {
		ssize_t n = conn_read(conn, client->read, sizeof(client->read));
		alive = link_feed(l, n);
		/* What came meanwhile wakes us again: cheaper than to ask in vain each time. */
		if (n < 0 || (alive && n < (ssize_t)sizeof(client->read) && !conn_pending(conn)))
			break;
	}
	if (alive)
		link_flush(l);
	client_leave(client);
}

static void on_open(void *ctx, struct conn *conn)
{
	struct h2_link *l = ctx;
	struct client *client = l->client;
	const nghttp2_settings_entry settings[] = {
	    {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
	    {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, client->options.window_bytes}};
	client_enter(client);
	if (client->tls && !str_is(conn_alpn(conn), "h2")) {
		link_kill(l, client_fall_back(client) ? CLIENT_DONE : CLIENT_CONNECT,
			  "the peer does not offer HTTP/2");
		client_leave(client);
		return;
	}
	snprintf(l->name, sizeof(l->name), "%s:%u#%llu", conn_peer(conn), conn_peer_port(conn),
		 (unsigned long long)client->connections_opened + 1);
	nghttp2_option *option;
	must(nghttp2_option_new(&option) == 0);
	nghttp2_option_set_no_auto_window_update(option, 1);
	must(nghttp2_session_client_new2(&l->session, client->callbacks, l, option) == 0);
	nghttp2_option_del(option);
	must(nghttp2_submit_settings(l->session, NGHTTP2_FLAG_NONE, settings, countof(settings)) ==
	     0);
	nghttp2_session_set_local_window_size(l->session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW);
	l->state = LINK_SETTLING;
	link_flush(l);
	client_leave(client);
}

static void on_failed(void *ctx, struct conn *conn, int error, const char *detail)
{
	struct h2_link *l = ctx;
	struct client *client = l->client;
	(void)conn;
	(void)error;
	client_enter(client);
	link_kill(l, CLIENT_CONNECT, detail);
	client_leave(client);
}

static const struct conn_ops link_conn_ops = {on_open, on_ready, on_failed};

struct h2_link *link_open(struct client *client)
{
	struct h2_link *l = mem_new(struct h2_link);
	l->client = client;
	l->state = LINK_DIALING;
	l->max_calls = (uint32_t)jittered(client, client->options.max_calls);
	list_init(&l->calls);
	timer_init(&l->clock, client->loop, on_clock);
	task_init(&l->flush, client->loop, on_flush);
	l->dialed_us = loop_now_us(client->loop);
	timer_set(&l->clock, client->options.connect_us);
	l->conn = conn_connect(client->loop, client->host, client->port, client->tls, NULL,
			       &link_conn_ops, l);
	client->link_count++;
	return l;
}

/* ---- calls on a link ---- */

static ssize_t body_read(nghttp2_session *session, int32_t stream, uint8_t *into, size_t size,
			 uint32_t *flags, nghttp2_data_source *source, void *user)
{
	struct client_call *call = call_of(session, stream);
	(void)source;
	(void)user;
	if (!call)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	size_t left = call->body.len - call->body_sent;
	size_t take = left < size ? left : size;
	memcpy(into, call->body.ptr + call->body_sent, take);
	call->body_sent += take;
	if (call->body_sent == call->body.len)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)take;
}

void link_send(struct h2_link *l, struct client_call *call)
{
	nghttp2_data_provider body = {.read_callback = body_read};
	call->body_sent = call->withheld = 0;
	call->framed = false;
	int32_t stream = nghttp2_submit_request(l->session, NULL, call->nv, call->nv_count,
						call->body.len ? &body : NULL, call);
	if (stream < 0) {
		link_retire(l, nghttp2_strerror(stream));
		call_requeue(call);
		return;
	}
	call->stream = stream;
	call->on = l;
	list_push_back(&l->calls, &call->link);
	if (l->count++ == 0) {
		/* Silence counts from here. */
		l->heard_us = loop_now_us(l->client->loop);
		l->pinged_us = 0;
		link_rearm(l);
	}
	if (++l->calls_begun >= l->max_calls)
		link_retire(l, "calls");
	else if (l->calls_begun >= l->max_calls - l->max_calls / LEAVE_PART)
		link_leave(l, "calls");
	task_post(&l->flush);
	if (call->ops->sent && !call->told_sent) {
		call->told_sent = true;
		call->ops->sent(call->ctx);
	}
}

void link_drop(struct h2_link *l, struct client_call *call)
{
	nghttp2_session_set_stream_user_data(l->session, call->stream, NULL);
	nghttp2_submit_rst_stream(l->session, NGHTTP2_FLAG_NONE, call->stream, NGHTTP2_CANCEL);
	link_lost_call(l, call);
	task_post(&l->flush);
}

void link_pause(struct h2_link *l, struct client_call *call, bool pause)
{
	if (pause || call->withheld == 0)
		return;
	nghttp2_session_consume_stream(l->session, call->stream, call->withheld);
	call->withheld = 0;
	task_post(&l->flush);
}
