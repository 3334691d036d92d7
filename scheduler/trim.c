#include "scheduler/trim.h"

#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/lane/lane.h"
#include "lib/net/loop.h"
#include "lib/store/pg.h"
#include "scheduler/lease.h"
#include "scheduler/plan.h"
#include "scheduler/scheduler.h"

#define READERS_MAX 16

/* A consumer group, and the kind of topics of which it is a reader. */
struct reader {
	struct trim *trim;
	char *group;
	enum topic_kind kind;
};

struct floor {
	char *topic; /* whole name */
	enum topic name;
	int32_t partition;
	struct plan_floor plan;
};

struct trim {
	struct scheduler *s;
	const struct lease *lease;
	struct lane_keeper *keeper;
	struct reader readers[READERS_MAX];
	size_t reader_count;
	struct floor *floors;
	size_t floor_count;
	struct timer timer;
	size_t asked; /* answers to come in this round */
	bool unsure;  /* one was none */
};

/* ── floors ── */

static bool topic_of(const struct scheduler *s, const char *topic, enum topic *ret_topic)
{
	const char *prefix = s->config->kafka.topic_prefix;

	if (strncmp(topic, prefix, strlen(prefix)) != 0)
		return false;
	for (int t = 0; t < TOPIC_COUNT; t++) {
		if (strcmp(topic + strlen(prefix), topic_info((enum topic)t)->name) == 0) {
			*ret_topic = (enum topic)t;
			return true;
		}
	}
	return false;
}

static struct floor *floor_of(struct trim *t, const char *topic, enum topic name, int32_t partition)
{
	struct floor *f;

	for (size_t i = 0; i < t->floor_count; i++)
		if (t->floors[i].name == name && t->floors[i].partition == partition)
			return &t->floors[i];
	t->floors = mem_resize(t->floors, (t->floor_count + 1) * sizeof(*t->floors));
	f = &t->floors[t->floor_count++];
	*f = (struct floor){.topic = mem_strdup(topic),
			    .name = name,
			    .partition = partition,
			    .plan = {.before = -1}};
	return f;
}

static void see(struct trim *t, enum topic_kind kind, const char *topic, int32_t partition,
		int64_t offset)
{
	enum topic name;

	if (topic_of(t->s, topic, &name) && topic_info(name)->kind == kind)
		plan_floor_see(&floor_of(t, topic, name, partition)->plan, offset);
}

/* Readers of a kind of topic: groups, and for results the archive. */
static unsigned needed(const struct trim *t, enum topic_kind kind)
{
	unsigned count = kind == TOPIC_KIND_RESULT;

	for (size_t i = 0; i < t->reader_count; i++)
		count += t->readers[i].kind == kind;
	return kind == TOPIC_KIND_DEAD ? 0 : count;
}

/* ── a round ── */

static void round_over(struct trim *t, const char *outcome)
{
	series_add(metric_one(t->s->metric.trims, outcome), 1);
	timer_set(&t->timer, t->s->options->trim_ms * US_PER_MS);
}

static void on_trimmed(void *ctx, int error, const struct lane_place *places, size_t count)
{
	struct trim *t = ctx;

	for (size_t i = 0; i < count; i++) {
		enum topic name;
		struct floor *f;

		if (!topic_of(t->s, places[i].topic, &name))
			continue;
		f = floor_of(t, places[i].topic, name, places[i].partition);
		if (places[i].offset <= f->plan.trimmed)
			continue;
		series_add(metric_one(t->s->metric.trimmed, topic_info(name)->name),
			   (double)(places[i].offset - f->plan.trimmed));
		f->plan.trimmed = places[i].offset;
	}
	round_over(t, error ? "refused" : "done");
}

static void delete_passed(struct trim *t)
{
	cleanup_free struct lane_place *places =
	    mem_alloc((t->floor_count + 1) * sizeof(struct lane_place));
	size_t count = 0;

	for (size_t i = 0; i < t->floor_count; i++) {
		struct floor *f = &t->floors[i];
		int64_t goal = plan_floor_end(&f->plan, needed(t, topic_info(f->name)->kind));

		if (goal)
			places[count++] = (struct lane_place){
			    .topic = f->topic, .partition = f->partition, .offset = goal};
	}
	if (count && lease_held(t->lease))
		lane_keeper_trim(t->keeper, places, count, on_trimmed, t);
	else
		round_over(t, "nothing");
}

static void answered(struct trim *t, bool good)
{
	t->unsure |= !good;
	if (--t->asked)
		return;
	if (t->unsure)
		round_over(t, "unsure");
	else
		delete_passed(t);
}

static void on_committed(void *ctx, int error, const struct lane_place *places, size_t count)
{
	struct reader *r = ctx;

	for (size_t i = 0; i < count; i++)
		see(r->trim, r->kind, places[i].topic, places[i].partition, places[i].offset);
	answered(r->trim, !error);
}

static void ask(struct trim *t, struct reader *r)
{
	char *topics[TOPIC_COUNT];
	size_t count = 0;

	for (int i = 0; i < TOPIC_COUNT; i++)
		if (topic_info((enum topic)i)->kind == r->kind)
			topics[count++] =
			    topic_full(t->s->config->kafka.topic_prefix, (enum topic)i);
	lane_keeper_committed(t->keeper, r->group, (const char *const *)topics, count, on_committed,
			      r);
	for (size_t i = 0; i < count; i++)
		mem_free(topics[i]);
}

static void on_archived(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct trim *t = ctx;

	for (size_t i = 0; result == PG_OK && i < pg_count(rows); i++) {
		struct str view = pg_text(rows, i, 0);
		cleanup_free char *topic = mem_dup(view.ptr ? view.ptr : "", view.len);
		int64_t offset = pg_int(rows, i, 2, 0);

		see(t, TOPIC_KIND_RESULT, topic, (int32_t)pg_int(rows, i, 1, 0), offset);
	}
	answered(t, result == PG_OK);
}

static void on_timer(struct timer *timer)
{
	struct trim *t = container_of(timer, struct trim, timer);

	if (!lease_held(t->lease)) {
		/* What was seen before may be old when this one leads again. */
		for (size_t i = 0; i < t->floor_count; i++)
			t->floors[i].plan.before = -1;
		timer_set(&t->timer, t->s->options->trim_ms * US_PER_MS);
		return;
	}
	for (size_t i = 0; i < t->floor_count; i++)
		plan_floor_begin(&t->floors[i].plan);
	t->unsure = false;
	t->asked = t->reader_count + 1;
	for (size_t i = 0; i < t->reader_count; i++)
		ask(t, &t->readers[i]);
	pg_query(t->s->pg,
		 "SELECT topic, partition, min(next_offset) FROM lane_offsets"
		 " GROUP BY topic, partition HAVING bool_or(reader = 'archive')",
		 NULL, 0, on_archived, t);
}

/* ── life ── */

static void add_reader(struct trim *t, enum topic_kind kind, struct str group)
{
	struct reader *r = &t->readers[t->reader_count++];

	r->trim = t;
	r->kind = kind;
	r->group = mem_printf("%s%.*s", t->s->config->kafka.topic_prefix, STR_FMT(group));
}

int trim_open(struct scheduler *s, const struct lease *lease, struct trim **ret_trim)
{
	struct trim *t = mem_new(struct trim);
	struct str rest = str_of(s->options->results_groups), group;

	*ret_trim = t;
	t->s = s;
	t->lease = lease;
	timer_init(&t->timer, s->loop, on_timer);
	timer_set(&t->timer, s->options->trim_ms * US_PER_MS);
	add_reader(t, TOPIC_KIND_WORK, STR("pool-llm"));
	add_reader(t, TOPIC_KIND_LATER, STR("scheduler"));
	while (t->reader_count < READERS_MAX && str_split(&rest, ',', &group))
		if (str_trim(group).len)
			add_reader(t, TOPIC_KIND_RESULT, str_trim(group));
	return err_trace(lane_keeper_open(s->loop, &s->kafka, s->log, &t->keeper));
}

void trim_close(struct trim *t)
{
	if (!t)
		return;
	timer_stop(&t->timer);
	lane_keeper_close(t->keeper);
	for (size_t i = 0; i < t->reader_count; i++)
		mem_free(t->readers[i].group);
	for (size_t i = 0; i < t->floor_count; i++)
		mem_free(t->floors[i].topic);
	mem_free(t->floors);
	mem_free(t);
}
