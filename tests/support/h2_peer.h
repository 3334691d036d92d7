/* An HTTP/2 server (nghttp2, in the clear, prior knowledge) that does what a test tells it and nothing else: it answers no
 * request by itself, and breaks off in every way that HTTP/2 has. On the test's own loop. */
#ifndef SLUICE_TESTS_SUPPORT_H2_PEER_H
#define SLUICE_TESTS_SUPPORT_H2_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/list.h"
#include "lib/base/str.h"

struct loop;
struct h2_peer;
struct h2_peer_conn;

struct h2_peer_options {
	uint32_t max_streams;	   /* SETTINGS_MAX_CONCURRENT_STREAMS; 0: not said */
	uint32_t window;	   /* of streams and connection; 0: 65,535 */
	uint64_t settings_us;	   /* SETTINGS so long after the connection */
	bool close_after_settings; /* … and then its end */
	/* A whole request. */
	void (*request)(void *ctx, struct h2_peer_conn *conn, int32_t stream);
	/* The client reset a stream. Optional. */
	void (*reset)(void *ctx, struct h2_peer_conn *conn, uint32_t error);
	void *ctx;
};

struct h2_peer *h2_peer_open(struct loop *loop, const struct h2_peer_options *options);
void h2_peer_close(struct h2_peer *peer);
uint16_t h2_peer_port(const struct h2_peer *peer);
/* Connections that were accepted since the opening. */
unsigned h2_peer_accepted(const struct h2_peer *peer);
/* The newest that is open; NULL for none. */
struct h2_peer_conn *h2_peer_newest(const struct h2_peer *peer);

/* A head with @status, @body behind it, and END_STREAM where @end; more by h2_peer_say. */
void h2_peer_answer(struct h2_peer_conn *c, int32_t stream, const char *status, struct str body,
		    bool end);
void h2_peer_say(struct h2_peer_conn *c, int32_t stream, struct str body, bool end);
void h2_peer_reset(struct h2_peer_conn *c, int32_t stream, uint32_t error);
void h2_peer_goaway(struct h2_peer_conn *c, int32_t last_stream, uint32_t error);
/* Reads and says nothing any more, while the connection stands. */
void h2_peer_mute(struct h2_peer_conn *c);
/* Ends the connection: FIN, or RST. */
void h2_peer_cut(struct h2_peer_conn *c, bool rst);

#endif
