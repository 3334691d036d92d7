/* Webhooks: what jobs asked for and the archive wrote down (table webhooks) is delivered, at least once, the same id each time. Refuses
 * to read the results topic: a webhook's row is made in the transaction that makes its result's, so neither stands without the other.
 *
 *   row: waiting ──claim (tries + 1, due again when the claim is lost)──▶ a try (delivery.h) ─┬▶ delivered
 *           ▲                                                                                ├▶ dead
 *           └───────────────────────── due later, by the schedule (plan.h) ──────────────────┘
 *
 * A process that dies leaves rows that come due by themselves; one that comes back under the same id takes them up at once. Several
 * processes share the table; each keeps the limit per origin for itself. */
#ifndef SLUICE_NOTIFY_NOTIFY_H
#define SLUICE_NOTIFY_NOTIFY_H

#include "consumers/notify/plan.h"
#include "lib/base/err.h"
#include "lib/base/list.h"
#include "lib/base/map.h"
#include "lib/net/loop.h"
#include "lib/svc/option.h"
#include "lib/svc/svc.h"

struct client;
struct pg;
struct pg_request;
struct relay;

struct notify_options {
#define OPTION OPTION_MEMBER
#include "consumers/notify/options.def"
#undef OPTION
};

struct notify_metrics {
#define METRIC(field, name, type, help, labels) struct metric *field;
#include "consumers/notify/metrics.def"
#undef METRIC
};

/* Scheme, host and port: what shares a limit. There while it has tries, or failed last. */
struct origin {
	struct list link; /* in notify.origins, the newest last */
	int64_t tries;
	bool failing;
	char name[]; /* "https://example.com:443" */
};

struct notify {
	struct svc *svc;
	const struct notify_options *options;
	struct notify_metrics metric;
	struct plan plan;
	struct pg *pg;
	struct relay *relay;
	struct client *client;
	struct map origins; /* by name */
	struct list all_origins;
	size_t failing;
	struct list deliveries;
	int64_t open;
	struct timer poll;
	struct timer sweep;
	struct pg_request *claim;
	struct pg_request *sweeping;
	bool taken_over; /* the rows of this id's predecessor */
	bool draining;
	void (*drained)(void *ctx);
	void *drained_ctx;
};

/* Opens PostgreSQL and begins. @svc outlives it. -errno with a log line; *@ret_notify is closed by the caller then too, if not NULL. */
must_check int notify_open(struct svc *svc, struct notify **ret_notify);
/* Calls @waits with a word for each thing that is not there yet. */
void notify_ready(struct notify *notify, void (*waits)(void *ctx, const char *what), void *ctx);
/* Takes nothing more, ends the tries under way, then calls @drained, from the loop or from inside. */
void notify_drain(struct notify *notify, void (*drained)(void *ctx), void *ctx);
/* svc->options are new ones. -EINVAL with a log line where they cannot be taken. */
must_check int notify_reload(struct notify *notify);
void notify_close(struct notify *notify); /* accepts NULL */

/* For delivery.c: the origin of a try that begins, or that ended. */
struct origin *notify_begin(struct notify *notify, struct str origin);
void notify_end(struct notify *notify, struct origin *origin, bool good);

#endif
