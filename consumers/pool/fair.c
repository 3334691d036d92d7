#include "consumers/pool/fair.h"

#include "lib/base/mem.h"

/* Tags are scaled so that the greatest weight that the configuration takes divides the smallest cost. */
#define SCALE 1024
#define SWEEP_MIN 256
/* No job counts for more tokens: an estimate comes from its client. Virtual time cannot reach its end so within 2^34 jobs. */
#define COST_MOST (1ULL << 20)
/* How far ahead of the present a tenant's tag may lie: more jobs of the greatest cost than a lane's window holds. */
#define AHEAD_MOST ((COST_MOST * SCALE) << 15)

struct tenant {
	uint64_t last;
};

void fair_init(struct fair *f, uint64_t seed)
{
	*f = (struct fair){.sweep_at = SWEEP_MIN};
	map_init(&f->tenants, seed);
}

void fair_fini(struct fair *f)
{
	struct map_entry *e;
	size_t at = 0;

	while ((e = map_next(&f->tenants, &at)))
		mem_free(e->value);
	map_fini(&f->tenants);
}

/* Tenants whose last job was begun long ago start again at the present: nothing is lost by forgetting them. */
static void sweep(struct fair *f)
{
	struct map_entry *e;
	size_t at = 0;

	while ((e = map_next(&f->tenants, &at))) {
		struct tenant *t = e->value;

		if (t->last <= f->now)
			mem_free(map_take(&f->tenants, e->key));
	}
	f->sweep_at = f->tenants.count * 2 > SWEEP_MIN ? f->tenants.count * 2 : SWEEP_MIN;
}

uint64_t fair_tag(struct fair *f, struct str tenant, uint64_t cost, uint32_t weight)
{
	struct tenant *t = map_find(&f->tenants, tenant);
	uint64_t tag, step, end;

	if (!t) {
		if (f->tenants.count >= f->sweep_at)
			sweep(f);
		t = mem_new(struct tenant);
		map_set(&f->tenants, tenant, t);
	}
	tag = t->last > f->now ? t->last : f->now;
	step = cost < COST_MOST ? cost : COST_MOST;
	step = (step ? step : 1) * SCALE / (weight ? weight : 1);
	end = f->now < UINT64_MAX - AHEAD_MOST ? f->now + AHEAD_MOST : UINT64_MAX;
	t->last = tag < end - step ? tag + step : end;
	return tag;
}

void fair_begun(struct fair *f, uint64_t tag)
{
	if (tag > f->now)
		f->now = tag;
}
