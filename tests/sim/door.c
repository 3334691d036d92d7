#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/net/conn.h"
#include "tests/sim/sim.h"

/* A port that somebody else has taken meanwhile is asked for again. */
#define AGAIN_US (100 * US_PER_MS)

static void on_held(void *ctx, int fd, const char *peer)
{
	struct sim_door *d = ctx;
	(void)peer;
	if (d->held_count == d->held_cap) {
		d->held_cap = d->held_cap ? d->held_cap * 2 : 16;
		d->held = mem_resize(d->held, d->held_cap * sizeof(*d->held));
	}
	d->held[d->held_count++] = fd;
}

static void let_go(struct sim_door *d)
{
	listener_close(d->mute);
	d->mute = NULL;
	while (d->held_count)
		close(d->held[--d->held_count]);
	mem_free(d->held);
	d->held = NULL;
	d->held_cap = 0;
}

/* -errno where the port cannot be had. */
static int door_turn(struct sim *sim, enum sim_door_state state, bool keep)
{
	struct sim_door *d = &sim->door;
	int r = 0;
	let_go(d);
	if (d->state == SIM_DOOR_OPEN)
		http_server_deafen(sim->server);
	d->state = SIM_DOOR_REFUSES;
	if (state != SIM_DOOR_OPEN && !keep)
		http_server_cut(sim->server);
	if (state == SIM_DOOR_OPEN)
		r = http_server_listen(sim->server, d->address);
	else if (state == SIM_DOOR_MUTE)
		r = listener_open(sim->loop, d->address, false, on_held, d, &d->mute);
	if (r < 0)
		return err_trace(r);
	d->state = state;
	return 0;
}

void sim_door_settle(struct sim *sim)
{
	struct sim_door *d = &sim->door;
	uint64_t now = loop_now_us(sim->loop);
	uint64_t next = UINT64_MAX;
	enum sim_door_state want = SIM_DOOR_OPEN;
	bool keep = false;
	list_each (&sim->rules, at) {
		struct sim_rule *r = container_of(at, struct sim_rule, link);
		uint64_t edge = UINT64_MAX;
		if (r->door == SIM_FAULTS)
			continue;
		if (sim_rule_holds(r, now, &edge)) {
			want = r->door == SIM_FAULT_MUTE ? SIM_DOOR_MUTE : SIM_DOOR_REFUSES;
			keep = r->keep;
		}
		next = edge < next ? edge : next;
	}
	if (want != d->state) {
		int r = door_turn(sim, want, keep);
		if (r < 0) {
			log_error(&sim->log, "cannot listen again", F_STR("address", d->address),
				  F_ERR(r));
			next = now + AGAIN_US < next ? now + AGAIN_US : next;
		}
	}
	if (next == UINT64_MAX)
		timer_stop(&d->edge);
	else
		timer_set(&d->edge, next - now);
}

static void on_edge(struct timer *t)
{
	sim_door_settle(container_of(t, struct sim, door.edge));
}

void sim_door_init(struct sim *sim)
{
	const char *listen = sim->options.listen;
	const char *colon = strrchr(listen, ':');
	snprintf(sim->door.address, sizeof(sim->door.address), "%.*s:%u", (int)(colon - listen),
		 listen, http_server_port(sim->server));
	timer_init(&sim->door.edge, sim->loop, on_edge);
}

void sim_door_fini(struct sim *sim)
{
	timer_stop(&sim->door.edge);
	let_go(&sim->door);
	sim->door.state = SIM_DOOR_OPEN; /* nothing is opened any more */
}
