#include "tests/support/h2_peer.h"

#include <nghttp2/nghttp2.h>
#include <string.h>

#include "lib/base/buf.h"
#include <errno.h>
#include "lib/base/mem.h"
#include "lib/net/conn.h"
#include "lib/net/loop.h"

struct h2_peer {
	struct loop *loop;
	struct h2_peer_options options;
	struct listener *listener;
	struct list conns;
	unsigned accepted;
};

/* What is still to be sent on a stream. */
struct answer {
	struct list link;
	int32_t stream;
	struct buf body;
	bool end;
	bool begun;
};

struct h2_peer_conn {
	struct list link;
	struct h2_peer *peer;
	struct conn *conn;
	nghttp2_session *session;
	struct buf out;
	struct list answers;
	struct timer settings;
	struct task flush;
	struct task end; /* frees it outside of its callbacks */
	bool greeted;	 /* SETTINGS is the first that is said */
	bool mute;
	bool rst;
};

static void conn_free(struct h2_peer_conn *c)
{
	struct answer *a;

	list_remove(&c->link);
	timer_stop(&c->settings);
	task_cancel(&c->flush);
	task_cancel(&c->end);
	nghttp2_session_del(c->session);
	if (c->rst)
		conn_reset(c->conn);
	else
		conn_close(c->conn);
	while ((a = list_pop_front(&c->answers, struct answer, link))) {
		buf_fini(&a->body);
		mem_free(a);
	}
	buf_fini(&c->out);
	mem_free(c);
}

static void on_end(struct task *t)
{
	conn_free(container_of(t, struct h2_peer_conn, end));
}

static void on_flush(struct task *t)
{
	struct h2_peer_conn *c = container_of(t, struct h2_peer_conn, flush);
	const uint8_t *bytes;
	ssize_t n;

	if (c->mute || !c->greeted)
		return;
	while ((n = nghttp2_session_mem_send(c->session, &bytes)) > 0)
		buf_add(&c->out, bytes, (size_t)n);
	if (c->out.len) {
		n = conn_write(c->conn, buf_str(&c->out).ptr, c->out.len);
		if (n > 0)
			buf_take(&c->out, (size_t)n);
	}
	conn_want(c->conn, c->out.len ? CONN_READABLE | CONN_WRITABLE : CONN_READABLE);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct h2_peer_conn *c = user;
	const struct h2_peer_options *o = &c->peer->options;
	bool carries = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;

	(void)session;
	if (carries && frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
		o->request(o->ctx, c, frame->hd.stream_id);
	if (frame->hd.type == NGHTTP2_RST_STREAM && o->reset)
		o->reset(o->ctx, c, frame->rst_stream.error_code);
	return 0;
}

/* SETTINGS stand first in the queue; the timer lets them go. */
static void submit_settings(struct h2_peer_conn *c)
{
	const struct h2_peer_options *o = &c->peer->options;
	nghttp2_settings_entry settings[2];
	size_t count = 0;

	if (o->max_streams)
		settings[count++] = (nghttp2_settings_entry){
		    NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, o->max_streams};
	if (o->window)
		settings[count++] =
		    (nghttp2_settings_entry){NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, o->window};
	nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, count);
	if (o->window)
		nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0,
						      (int32_t)o->window);
}

static void on_settings(struct timer *t)
{
	struct h2_peer_conn *c = container_of(t, struct h2_peer_conn, settings);

	c->greeted = true;
	on_flush(&c->flush);
	if (c->peer->options.close_after_settings)
		task_post(&c->end);
}

static void on_open(void *ctx, struct conn *conn)
{
	struct h2_peer_conn *c = ctx;

	(void)conn;
	timer_set(&c->settings, c->peer->options.settings_us);
	conn_want(c->conn, CONN_READABLE);
}

static void on_ready(void *ctx, struct conn *conn, unsigned events)
{
	struct h2_peer_conn *c = ctx;
	char bytes[16384];
	ssize_t n;

	(void)events;
	while (!c->mute && (n = conn_read(conn, bytes, sizeof(bytes))) != -EAGAIN) {
		if (n <= 0) {
			conn_want(conn, 0);
			task_post(&c->end);
			return;
		}
		if (nghttp2_session_mem_recv(c->session, (uint8_t *)bytes, (size_t)n) < 0)
			task_post(&c->end);
	}
	task_post(&c->flush);
}

static void on_failed(void *ctx, struct conn *conn, int error, const char *detail)
{
	struct h2_peer_conn *c = ctx;

	(void)conn;
	(void)error;
	(void)detail;
	task_post(&c->end);
}

static void on_accepted(void *ctx, int fd, const char *address)
{
	static const struct conn_ops ops = {on_open, on_ready, on_failed};
	struct h2_peer *peer = ctx;
	struct h2_peer_conn *c = mem_new(struct h2_peer_conn);
	nghttp2_session_callbacks *cb;

	(void)address;
	c->peer = peer;
	list_init(&c->answers);
	timer_init(&c->settings, peer->loop, on_settings);
	task_init(&c->flush, peer->loop, on_flush);
	task_init(&c->end, peer->loop, on_end);
	must(nghttp2_session_callbacks_new(&cb) == 0);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	must(nghttp2_session_server_new(&c->session, cb, c) == 0);
	nghttp2_session_callbacks_del(cb);
	submit_settings(c);
	c->conn = conn_accept(peer->loop, fd, NULL, &ops, c);
	list_push_back(&peer->conns, &c->link);
	peer->accepted++;
}

struct h2_peer *h2_peer_open(struct loop *loop, const struct h2_peer_options *options)
{
	struct h2_peer *peer = mem_new(struct h2_peer);

	peer->loop = loop;
	peer->options = *options;
	list_init(&peer->conns);
	must(listener_open(loop, "127.0.0.1:0", false, on_accepted, peer, &peer->listener) == 0);
	return peer;
}

void h2_peer_close(struct h2_peer *peer)
{
	listener_close(peer->listener);
	while (!list_empty(&peer->conns))
		conn_free(list_first(&peer->conns, struct h2_peer_conn, link));
	mem_free(peer);
}

uint16_t h2_peer_port(const struct h2_peer *peer)
{
	return listener_port(peer->listener);
}

unsigned h2_peer_accepted(const struct h2_peer *peer)
{
	return peer->accepted;
}

struct h2_peer_conn *h2_peer_newest(const struct h2_peer *peer)
{
	return list_empty(&peer->conns) ? NULL
					: container_of(peer->conns.prev, struct h2_peer_conn, link);
}

static ssize_t body_read(nghttp2_session *session, int32_t stream, uint8_t *into, size_t size,
			 uint32_t *flags, nghttp2_data_source *source, void *user)
{
	struct answer *a = source->ptr;
	size_t take = a->body.len < size ? a->body.len : size;

	(void)session;
	(void)stream;
	(void)user;
	if (!take && !a->end)
		return NGHTTP2_ERR_DEFERRED;
	if (take)
		memcpy(into, buf_str(&a->body).ptr, take);
	buf_take(&a->body, take);
	if (a->end && !a->body.len)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)take;
}

void h2_peer_answer(struct h2_peer_conn *c, int32_t stream, const char *status, struct str body,
		    bool end)
{
	nghttp2_nv head = {(uint8_t *)":status", (uint8_t *)status, 7, strlen(status), 0};
	struct answer *a = mem_new(struct answer);
	nghttp2_data_provider from = {.source.ptr = a, .read_callback = body_read};

	a->stream = stream;
	a->end = end;
	buf_add_str(&a->body, body);
	list_push_back(&c->answers, &a->link);
	must(nghttp2_submit_response(c->session, stream, &head, 1, &from) == 0);
	task_post(&c->flush);
}

void h2_peer_say(struct h2_peer_conn *c, int32_t stream, struct str body, bool end)
{
	list_each (&c->answers, at) {
		struct answer *a = container_of(at, struct answer, link);

		if (a->stream != stream)
			continue;
		buf_add_str(&a->body, body);
		a->end = end;
	}
	nghttp2_session_resume_data(c->session, stream);
	task_post(&c->flush);
}

void h2_peer_reset(struct h2_peer_conn *c, int32_t stream, uint32_t error)
{
	must(nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, stream, error) == 0);
	task_post(&c->flush);
}

void h2_peer_goaway(struct h2_peer_conn *c, int32_t last_stream, uint32_t error)
{
	must(nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE, last_stream, error, NULL, 0) ==
	     0);
	task_post(&c->flush);
}

void h2_peer_mute(struct h2_peer_conn *c)
{
	c->mute = true;
	conn_want(c->conn, 0);
}

void h2_peer_cut(struct h2_peer_conn *c, bool rst)
{
	c->rst = rst;
	task_post(&c->end);
}
