/* Nodes of the push service: the program as it is, behind listeners in memory (conn.c). */
#include "consumers/push/push.h"

#include "consumers/push/outbox.h"
#include "consumers/push/session.h"
#include "lib/base/clock.h"
#include "lib/net/http.h"
#include "lib/svc/svc.h"
#include "producer/submit.h"
#include "tests/world/fleet.h"
#include "tests/world/line.h"

/* The supervisor's patience with a drain. */
#define DRAIN_MOST_US (10 * US_PER_S)

static struct push_options options;

void push_prepare(void)
{
	option_defaults(push_option_table, push_option_count, &options);
	options.deflate = false;
}

/* Limits of which clients of one history meet some. */
void push_begin(void)
{
	lines_begin();
	options.ping_ms = 3000;
	options.slow_ms = 5000;
	options.drain_spread_ms = world_between(0, 2000);
	options.max_deltas_per_s = world_between(0, 2) ? 20000 : (int64_t)world_between(1, 40);
	options.max_queued_bytes = world_between(0, 1) ? 262144 : world_between(200, 3000);
	options.outbox_jobs = world_between(0, 2) ? 256 : (int64_t)world_between(1, 4);
	options.max_messages_per_s = world_between(0, 3) ? 1000 : (int64_t)world_between(5, 20);
	options.max_pending_bytes = world_between(0, 3) ? 8 << 20 : world_between(1, 20000);
	options.max_held_bytes = world_between(0, 7) ? 128 << 20 : world_between(1, 40000);
}

void push_node_open(struct node *n)
{
	void *push;

	n->svc = (struct svc){.loop = n->loop,
			      .log = n->loop->log,
			      .config = fleet_config(),
			      .options = &options,
			      .name = "sluice-push",
			      .id = n->id,
			      .workers = 1};
	metrics_init(&n->svc.metrics);
	must(push_open(&n->svc, &push) == 0);
	n->push = push;
}

struct node *push_any(void)
{
	struct node *up[NODES_MAX];
	size_t count = 0;

	for (size_t i = 0; i < fleet.node_count; i++)
		if (fleet.nodes[i].kind == NODE_PUSH && fleet.nodes[i].loop &&
		    !fleet.nodes[i].loop->dead)
			up[count++] = &fleet.nodes[i];
	return count ? up[world_between(0, count - 1)] : NULL;
}

/* ── drains ── */

static void on_end(void *ctx)
{
	struct node *n = ctx;

	world_tell(n->id, "is drained");
	push_close(n->push);
	world_kill(n->loop);
}

static void on_patience(void *ctx)
{
	struct node *n = ctx;

	world_tell(n->id, "drains for too long, and is killed");
	world_kill(n->loop);
}

static void on_drain(void *ctx)
{
	struct node *n = ctx;

	world_tell(n->id, "drains");
	n->svc.draining = true;
	world_in(DRAIN_MOST_US, n->loop, on_patience, n);
	push_drain(n->push);
}

void push_node_drain(struct node *n)
{
	world_in(0, n->loop, on_drain, n);
}

/* Of lib/svc: what the program says to its skeleton. */
void svc_connections(const struct svc *svc, uint64_t connections)
{
	(void)svc;
	(void)connections;
}

void svc_drained(struct svc *svc)
{
	struct node *n = container_of(svc, struct node, svc);

	if (!svc->draining)
		return;
	svc->draining = false;
	world_in(1, n->loop, on_end, n);
}

void svc_waits_for(struct svc_waits *waits, const char *what)
{
	(void)waits;
	(void)what;
}

/* ── when all is quiet ── */

void push_check(void)
{
	for (size_t i = 0; i < fleet.node_count; i++) {
		const struct node *n = &fleet.nodes[i];

		if (n->kind != NODE_PUSH || !n->loop || n->loop->dead)
			continue;
		if (n->push->session_count || !list_empty(&n->push->sessions) ||
		    http_server_connections(n->push->server))
			world_violation("%s has %zu sessions and %zu connections when all hung up",
					n->id, n->push->session_count,
					http_server_connections(n->push->server));
		if (series_value(metric_only(n->push->metric.followed)) != 0)
			world_violation("%s follows jobs for nobody", n->id);
		if (submitter_held_bytes(n->push->submitter))
			world_violation("%s holds %zu bytes of jobs when all is quiet", n->id,
					submitter_held_bytes(n->push->submitter));
		if (!outbox_idle(n->push->outbox))
			world_violation("%s: acknowledgements wait when all is quiet", n->id);
	}
}
