/* lib/net/loop.h on simulated time, and the queue of the world. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/err.h"
#include "lib/base/mem.h"
#include "tests/world/world.h"

/* A place in the queue: time above, the tie-break below. */
#define TIE_BITS 18
#define TURN_MOST_US 40

struct world *world;

struct happening {
	struct heap_node node;
	struct loop *to;
	void (*fn)(void *ctx);
	void *ctx;
};

static uint64_t place(uint64_t at_us)
{
	return at_us << TIE_BITS | rand_below(&world->rand, 1u << TIE_BITS);
}

void world_begin(uint64_t seed, bool story)
{
	world = mem_new(struct world);
	world->seed = seed;
	world->story = story;
	world->now_us = US_PER_S;
	rand_init(&world->rand, seed);
}

uint64_t world_wall_ms(void)
{
	return WORLD_WALL_MS + world->now_us / US_PER_MS;
}

void world_at(uint64_t at_us, struct loop *to, void (*fn)(void *ctx), void *ctx)
{
	struct happening *h = mem_new(struct happening);

	h->to = to;
	h->fn = fn;
	h->ctx = ctx;
	heap_add(&world->happenings, &h->node,
		 place(at_us < world->now_us ? world->now_us : at_us));
}

/* True where @loop cannot take it now: dropped, or put off in the order in which it came. */
static bool not_now(struct loop *loop, struct heap *heap, struct heap_node *node)
{
	if (!loop || (!loop->dead && !world_stalled(loop)))
		return false;
	heap_remove(heap, node);
	if (!loop->dead)
		heap_add(heap, node, place(loop->stalled_until_us + loop->stall_count++));
	return true;
}

static void fire_timer(struct heap_node *node)
{
	struct timer *t = container_of(node, struct timer, node);

	if (not_now(t->loop, &world->timers, node))
		return;
	heap_remove(&world->timers, node);
	t->fire(t);
}

static void happen(struct heap_node *node)
{
	struct happening *h = container_of(node, struct happening, node);

	if (not_now(h->to, &world->happenings, node)) {
		if (h->to->dead)
			mem_free(h);
		return;
	}
	heap_remove(&world->happenings, node);
	h->fn(h->ctx);
	mem_free(h);
}

bool world_step(void)
{
	struct heap_node *a = heap_top(&world->happenings), *b = heap_top(&world->timers);
	struct heap_node *first = !b || (a && a->key <= b->key) ? a : b;

	if (!first)
		return false;
	if (first->key >> TIE_BITS > world->now_us)
		world->now_us = first->key >> TIE_BITS;
	if (first == a)
		happen(first);
	else
		fire_timer(first);
	return true;
}

uint64_t world_between(uint64_t low, uint64_t high)
{
	return low + rand_below(&world->rand, high - low + 1);
}

bool world_chance(unsigned of_ten_thousand)
{
	return of_ten_thousand && rand_below(&world->rand, 10000) < of_ten_thousand;
}

uint64_t world_delay_us(void)
{
	uint64_t us = world_between(50, 1000);

	return world_chance(world->faults.slow) ? us * 100 : us;
}

uint64_t wire_at(struct wire *wire)
{
	uint64_t at = world->now_us + world_delay_us();

	wire->last_us = at > wire->last_us ? at : wire->last_us + 1;
	return wire->last_us;
}

void world_tell(const char *who, const char *format, ...)
{
	va_list args;

	if (!world->story)
		return;
	printf("%10.6f %-10s ", (double)world->now_us / 1e6, who);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

void world_violation(const char *format, ...)
{
	char text[sizeof(world->first)];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (!world->violations++)
		memcpy(world->first, text, sizeof(text));
	world_tell("VIOLATION", "%s", text);
}

/* ── loop.h ── */

static uint64_t sink_wall_ms(void *ctx)
{
	(void)ctx;
	return world_wall_ms();
}

struct loop *world_loop(const char *name)
{
	struct loop *loop = loop_new(rand_u64(&world->rand) | 1);

	snprintf(loop->name, sizeof(loop->name), "%s", name);
	loop->sink = (struct log_sink){.fd = world->story ? 1 : -1,
				       .level = world->story ? LOG_DEBUG : LOG_ERROR,
				       .wall_ms = sink_wall_ms};
	loop->log = (struct log){.sink = &loop->sink, .key = "node", .value = loop->name};
	return loop;
}

void world_kill(struct loop *loop)
{
	loop->dead = true;
}

void world_stall(struct loop *loop, uint64_t until_us)
{
	if (world_stalled(loop))
		return; /* what was put off until the end of the first would be overtaken */
	loop->stalled_until_us = until_us;
	loop->stall_count = 0;
}

struct loop *loop_new(uint64_t seed)
{
	struct loop *loop = mem_new(struct loop);

	rand_init(&loop->rand, seed);
	list_init(&loop->tasks);
	return loop;
}

void loop_free(struct loop *loop)
{
	if (loop)
		loop->dead = true;
}

uint64_t loop_now_us(const struct loop *loop)
{
	(void)loop;
	return world->now_us;
}

uint64_t loop_wall_ms(const struct loop *loop)
{
	(void)loop;
	return world_wall_ms();
}

uint64_t loop_fresh_us(struct loop *loop)
{
	return loop_now_us(loop);
}

struct rand *loop_rand(struct loop *loop)
{
	return &loop->rand;
}

void timer_init(struct timer *t, struct loop *loop, void (*fire)(struct timer *t))
{
	*t = (struct timer){.loop = loop, .fire = fire};
}

void timer_set(struct timer *t, uint64_t delay_us)
{
	uint64_t most = (UINT64_MAX >> TIE_BITS) - world->now_us;

	heap_remove(&world->timers, &t->node);
	if (delay_us < most)
		heap_add(&world->timers, &t->node, place(world->now_us + delay_us));
}

void timer_stop(struct timer *t)
{
	if (heap_holds(&t->node))
		heap_remove(&world->timers, &t->node);
}

void task_init(struct task *t, struct loop *loop, void (*run)(struct task *t))
{
	*t = (struct task){.loop = loop, .run = run};
	list_init(&t->link);
}

/* The tasks that were posted before this round. */
static void on_turn(void *ctx)
{
	struct loop *loop = ctx;
	struct list round;
	struct task *t;

	loop->turn_set = false;
	if (list_empty(&loop->tasks))
		return;
	round = loop->tasks;
	round.next->prev = &round;
	round.prev->next = &round;
	list_init(&loop->tasks);
	while ((t = list_pop_front(&round, struct task, link)))
		t->run(t);
}

void task_post(struct task *t)
{
	struct loop *loop = t->loop;

	if (list_linked(&t->link))
		return;
	list_push_back(&loop->tasks, &t->link);
	if (loop->turn_set)
		return;
	loop->turn_set = true;
	world_in(world_between(0, TURN_MOST_US), loop, on_turn, loop);
}

void task_cancel(struct task *t)
{
	list_remove(&t->link);
}
