#include "consumers/pool/room.h"

#include <string.h>

#include "consumers/pool/line.h"
#include "consumers/pool/work.h"
#include "lib/base/mem.h"

/* Works whose routes have the same targets, and that wait for the same of them. */
struct room_line {
	struct route route;
	uint32_t skip; /* had room, and could not serve them */
	size_t count;
	struct line lanes[LANE_COUNT];
};

/* What a line is found by. */
struct targets {
	struct target *targets[ROUTE_TARGETS_MAX];
	uint64_t skip;
};

static struct targets targets_of(const struct route *route, uint32_t skip)
{
	struct targets t;

	memset(&t, 0, sizeof(t));
	memcpy(t.targets, route->targets, route->count * sizeof(t.targets[0]));
	t.skip = skip;
	return t;
}

static struct str name_of(const struct targets *t)
{
	return (struct str){(const char *)t, sizeof(*t)};
}

/* ── the line ── */

void room_wait(struct work *w)
{
	uint32_t skip = route_open(&w->route, 0, true);
	struct targets name = targets_of(&w->route, skip);
	struct room *room = &w->pool->room;
	struct room_line *line = map_find(&room->lines, name_of(&name));

	if (!line) {
		line = mem_new(struct room_line);
		line->route = w->route;
		line->skip = skip;
		map_set(&room->lines, name_of(&name), line);
	}
	w->room_line = line;
	line->count++;
	line_add(&line->lanes[w->lane->lane], &w->room_node, w->tag);
}

static void leave_line(struct work *w)
{
	struct room_line *line = w->room_line;
	struct targets name = targets_of(&line->route, line->skip);

	w->room_line = NULL;
	line_remove(&line->lanes[w->lane->lane], &w->room_node);
	if (--line->count == 0)
		mem_free(map_take(&w->pool->room.lines, name_of(&name)));
}

void room_promise(struct work *w, struct account *account)
{
	w->room_promised = account;
	account->promised++;
}

void room_leave(struct work *w)
{
	if (w->room_line)
		leave_line(w);
	if (!w->room_promised)
		return;
	w->room_promised->promised--;
	w->room_promised = NULL;
	room_look(&w->pool->room);
}

/* ── who goes on ── */

/* The first of the lane, of all lines that have room. */
static struct work *first_of(const struct room *room, enum lane lane)
{
	const struct map_entry *e;
	struct work *first = NULL;

	for (size_t at = 0; (e = map_next(&room->lines, &at));) {
		struct room_line *line = e->value;
		struct line_node *node = line_first(&line->lanes[lane]);

		if (node && (!first || node->tag < first->tag) &&
		    route_open(&line->route, line->skip, true))
			first = container_of(node, struct work, room_node);
	}
	return first;
}

/* Smooth weighted round robin over the lanes where somebody may go on. */
static struct work *next_of(struct room *room)
{
	struct pool *pool = room->pool;
	struct work *best = NULL;
	int64_t total = 0;

	for (size_t i = 0; i < pool->lane_count; i++) {
		struct pool_lane *lane = &pool->lanes[i];
		struct work *w = first_of(room, lane->lane);

		if (!w)
			continue;
		lane->room_credit += lane->weight;
		total += lane->weight;
		if (!best || lane->room_credit > best->lane->room_credit)
			best = w;
	}
	if (best)
		best->lane->room_credit -= total;
	return best;
}

static void go_on(struct work *w)
{
	uint32_t open = route_open(&w->route, w->room_line->skip, true);
	size_t i = 0;

	while (!(open & (UINT32_C(1) << i)))
		i++;
	timer_stop(&w->timer);
	pool_want_slot(w->pool, w);
	room_promise(w, w->route.targets[i]->account);
}

static void on_look(struct task *t)
{
	struct room *room = container_of(t, struct room, look);
	struct work *w;

	while (room->lines.count && (w = next_of(room)))
		go_on(w);
}

void room_look(void *room)
{
	struct room *r = room;

	if (r->lines.count)
		task_post(&r->look);
}

void room_init(struct room *room, struct pool *pool)
{
	room->pool = pool;
	map_init(&room->lines, 0);
	task_init(&room->look, pool->loop, on_look);
}

void room_fini(struct room *room)
{
	must(!room->lines.count);
	task_cancel(&room->look);
	map_fini(&room->lines);
}
