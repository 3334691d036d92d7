/* The push service: WebSocket connections that submit jobs and hear their answers (protocol.md, section 2). One per process.
 * Refuses to hold answers: they are followed (lib/relay), and read again for a client that was slow.
 *
 *   upgrade ─▶ session (session.h: the connection's machine) ─┬▶ submission (submission.h: one submit until it is accepted)
 *                                                             ├▶ stream (stream.h: one followed job to this socket)
 *                                                             └▶ group (stream.h: jobs attached together, answered in order) */
#ifndef SLUICE_PUSH_PUSH_H
#define SLUICE_PUSH_PUSH_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/buf.h"
#include "lib/base/id.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/identity/token.h"
#include "lib/relay/pace.h"
#include "lib/store/gather.h"
#include "lib/svc/option.h"
#include "lib/svc/svc.h"

struct blob;
struct expiry;
struct http_server;
struct keys;
struct lane_writer;
struct loop;
struct outbox;
struct pg;
struct redis;
struct relay;
struct submitter;
struct ws_deflate;

struct push_options {
#define OPTION OPTION_MEMBER
#include "consumers/push/options.def"
#undef OPTION
};
extern const struct option push_option_table[];
extern const size_t push_option_count;

struct push_metrics {
#define METRIC(field, name, type, help, labels) struct metric *field;
#include "consumers/push/metrics.def"
#undef METRIC
};

struct push {
	struct svc *svc;
	struct loop *loop;
	struct log log;
	const struct push_options *options;
	struct http_server *server;
	struct ws_deflate *deflate; /* of all connections; NULL: not spoken */
	struct redis *redis;
	struct pg *pg;
	struct lane_writer *writer;
	struct blob *blob;
	struct keys *keys;
	struct relay *relay;
	struct submitter *submitter;
	struct gather rows; /* of sessions that are made */
	struct outbox *outbox;
	struct expiry *expiry;
	struct token_secrets secrets;
	char derived[65]; /* the secret, where none is configured */
	struct list sessions;
	size_t session_count;
	struct pace pace;
	struct push_metrics metric;
	bool draining;
	char error_id[ID_SIZE]; /* of what the HTTP server refuses by itself */
	struct buf error_body;
};

int push_open(struct svc *svc, void **ret_push);
void push_ready(void *push, struct svc_waits *waits);
void push_drain(void *push);
int push_reload(void *push, const struct config *old);
void push_close(void *push);

/* A session went away. */
void push_session_over(struct push *push);
/* The outbox has nothing on its way. */
void push_settled(struct push *push);

#endif
