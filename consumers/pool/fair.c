#include "consumers/pool/fair.h"

#include "lib/base/mem.h"

/* Tags are scaled so that the greatest weight that the configuration takes divides the smallest cost. */
#define SCALE 1024
#define SWEEP_MIN 256

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
	uint64_t tag;

	if (!t) {
		if (f->tenants.count >= f->sweep_at)
			sweep(f);
		t = mem_new(struct tenant);
		map_set(&f->tenants, tenant, t);
	}
	tag = t->last > f->now ? t->last : f->now;
	t->last = tag + (cost ? cost : 1) * SCALE / (weight ? weight : 1);
	return tag;
}

void fair_begun(struct fair *f, uint64_t tag)
{
	if (tag > f->now)
		f->now = tag;
}
