#include "lib/relay/relay_impl.h"

#include "lib/base/id.h"
#include "lib/base/mem.h"

/* No job is open for longer: a week in queue, an hour running, and what a job's state is kept behind its deadline. What is older
 * than that when Redis lost its memory had ended, and its end is in PostgreSQL. */
#define OPEN_MS_MAX (9ULL * 24 * 3600 * 1000)

static void on_reap(struct task *t)
{
	follow_reap(container_of(t, struct relay, reap));
}

struct relay *relay_new(struct loop *loop, struct redis *redis, struct pg *pg,
			const struct log *log)
{
	struct relay *r = mem_new(struct relay);

	r->loop = loop;
	r->redis = redis;
	r->log = log;
	list_init(&r->follows);
	list_init(&r->closed);
	task_init(&r->reap, loop, on_reap);
	lookups_init(&r->lookups, loop, pg);
	return r;
}

void relay_use_blob(struct relay *relay, struct blob *blob)
{
	relay->lookups.blob = blob;
}

bool relay_is_none(const struct relay *relay, struct str job, enum redis_result result,
		   const struct redis_value *value)
{
	return redis_epoch_stands(relay->redis, result, value) && !relay_unsure(relay, job);
}

bool relay_unsure(const struct relay *relay, struct str job)
{
	uint64_t epoch = redis_epoch_wall_ms(relay->redis), at = id_wall_ms(job);

	return at <= epoch && at + OPEN_MS_MAX > epoch;
}

void relay_free(struct relay *relay)
{
	if (!relay)
		return;
	must(list_empty(&relay->follows));
	follow_reap(relay);
	lookups_fini(&relay->lookups);
	task_cancel(&relay->reap);
	mem_free(relay);
}
