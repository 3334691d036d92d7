/* lib/lane/lane.h's readers in groups, and their coordinator: static members (an instance is in one group), one owner per partition, commits of base and set that
 * only the owner's are taken, hand-over after the owner gave back or its session ended. The set is lib/lane/done.c's. */
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/lane/done.h"
#include "lib/lane/lane.h"
#include "tests/world/world.h"

#define PARTS_MAX 32
#define MEMBERS_MAX 10
#define TICK_US US_PER_S

struct part;

struct lane_record {
	struct list link;
	struct part *part; /* NULL: the partition is gone */
	size_t lane;
	int32_t number;
	int64_t offset;
	struct log_record kept;
	bool bodyless;
	bool held;
	bool parked;
};

/* A partition as its reader sees it. */
struct part {
	struct list link;
	struct lane_reader *reader;
	size_t lane;
	int32_t number;
	unsigned round; /* of the assignment: Kafka's generation */
	bool gone;
	struct done done;
	int64_t next;
	size_t open;
	size_t held;
	size_t parked;
	struct list ready;
	struct list taken;
	bool fetching;
	bool dirty;
};

struct lane_reader {
	struct list link; /* all readers */
	struct loop *loop;
	const struct lane_reader_ops *ops;
	void *ctx;
	char *group;
	char *instance;
	char *topics[4];
	size_t topic_count;
	uint64_t commit_us;
	struct list parts[4];
	bool hungry[4];
	bool joined;
	bool assigned;
	bool closed;
	struct timer commit;
	struct wire wire;
	void (*on_closed)(void *ctx);
	void *closed_ctx;
};

/* A partition as the coordinator sees it. */
struct seat {
	const char *group; /* a topic has one group that reads it */
	const char *topic;
	int32_t number;
	struct member *owner;
	struct member *target;
	bool revoking;
	unsigned round; /* rises with each assignment */
	int64_t base;
	struct buf text;
};
struct member {
	char *group;
	char *instance;
	struct lane_reader *reader; /* NULL: away */
	uint64_t seen_us;
	uint64_t session_us;
	bool in;
};

static struct {
	struct list readers;
	struct member members[MEMBERS_MAX];
	size_t member_count;
	struct seat seats[PARTS_MAX];
	size_t seat_count;
	bool ticking;
	size_t crowd; /* so many parked records of a partition fill half of its set */
} group;

static void settle(void);

/* ── the reader's partitions ── */

static struct part *part_find(struct lane_reader *r, const struct seat *seat)
{
	for (size_t l = 0; l < r->topic_count; l++)
		list_each (&r->parts[l], at) {
			struct part *p = container_of(at, struct part, link);

			if (strcmp(r->topics[l], seat->topic) == 0 && p->number == seat->number)
				return p;
		}
	return NULL;
}

static void part_forget(struct part *p)
{
	struct lane_record *r;

	p->gone = true;
	list_remove(&p->link);
	while ((r = list_pop_front(&p->ready, struct lane_record, link)))
		mem_free(r);
	list_each (&p->taken, at)
		container_of(at, struct lane_record, link)->part = NULL;
}

static void on_fetched(void *ctx)
{
	struct part *p = ctx;
	struct lane_reader *reader = p->reader;
	const struct log_part *log;
	bool any = false;

	p->fetching = false;
	if (p->gone || reader->closed)
		return;
	log = &broker_topic(reader->topics[p->lane])->parts[p->number];
	for (int n = 0; n < 50 && (size_t)p->next < log->count; n++) {
		int64_t offset = p->next++;
		struct lane_record *r;

		if (done_has(&p->done, offset))
			continue;
		r = mem_new(struct lane_record);
		r->part = p;
		r->lane = p->lane;
		r->number = p->number;
		r->offset = offset;
		r->kept = log->records[offset];
		list_push_back(&p->ready, &r->link);
		any = true;
	}
	if ((size_t)p->next < log->count) {
		p->fetching = true;
		world_in(world_delay_us(), reader->loop, on_fetched, p);
	}
	if (any && reader->hungry[p->lane]) {
		reader->hungry[p->lane] = false;
		reader->ops->ready(reader->ctx, p->lane);
	}
}

static void fetch(struct part *p)
{
	uint64_t late = broker_is_away() ? broker_back_us() - world->now_us : 0;

	if (p->fetching || p->gone)
		return;
	p->fetching = true;
	world_in(late + world_delay_us(), p->reader->loop, on_fetched, p);
}

void group_appended(const char *topic, int32_t partition)
{
	for (size_t i = 0; i < group.seat_count; i++) {
		struct seat *s = &group.seats[i];
		struct part *p;

		if (s->number != partition || strcmp(s->topic, topic) != 0 || !s->owner ||
		    !s->owner->reader)
			continue;
		p = part_find(s->owner->reader, s);
		if (p)
			fetch(p);
	}
}

/* ── commits ── */

struct commit {
	struct lane_reader *reader;
	struct seat *seat;
	struct part *part;
	unsigned round;
	int64_t base;
	struct buf text;
};

static struct seat *seat_of(const struct part *p)
{
	for (size_t i = 0; i < group.seat_count; i++)
		if (group.seats[i].number == p->number &&
		    strcmp(group.seats[i].topic, p->reader->topics[p->lane]) == 0)
			return &group.seats[i];
	must(!"a partition has its seat");
	return NULL;
}

static void commit_holds(const struct commit *c)
{
	struct seat *seat = c->seat;
	struct done was, is;

	done_init(&was, 0);
	must(done_decode(&was, seat->base, buf_str(&seat->text)) == DONE_OK);
	must(done_decode(&is, c->base, buf_str(&c->text)) == DONE_OK);
	if (is.base > was.base)
		check_commit(seat->topic, seat->number, was.base, is.base);
	for (size_t i = 0; i < is.count; i++)
		check_commit(seat->topic, seat->number, is.runs[i].from, is.runs[i].to);
	seat->base = c->base;
	buf_reset(&seat->text);
	buf_add_str(&seat->text, buf_str(&c->text));
	done_fini(&was);
	done_fini(&is);
	world_tell("group", "%s commits %s/%d base %lld %.*s", c->reader->instance, seat->topic,
		   (int)seat->number, (long long)seat->base, STR_FMT(buf_str(&seat->text)));
}

static void on_unanswered(void *ctx)
{
	struct part *p = ctx;

	if (p->gone || p->reader->closed)
		return;
	p->dirty = true;
	if (!timer_is_set(&p->reader->commit))
		timer_set(&p->reader->commit, p->reader->commit_us);
}

static void on_commit(void *ctx)
{
	struct commit *c = ctx;

	if (broker_is_away()) /* went away while it was on its way there */
		world_in(US_PER_S, c->reader->loop, on_unanswered, c->part);
	else if (c->round == c->seat->round && c->seat->owner &&
		 c->seat->owner->reader == c->reader)
		commit_holds(c);
	buf_fini(&c->text);
	mem_free(c);
}

static struct commit *commit_of(struct part *p)
{
	struct commit *c = mem_new(struct commit);

	c->reader = p->reader;
	c->part = p;
	c->seat = seat_of(p);
	c->round = p->round;
	c->base = p->done.base;
	done_encode(&p->done, &c->text);
	p->dirty = false;
	return c;
}

static void commit_parts(struct lane_reader *r)
{
	for (size_t l = 0; l < r->topic_count; l++)
		list_each (&r->parts[l], at) {
			struct part *p = container_of(at, struct part, link);
			struct commit *c;

			if (!p->dirty)
				continue;
			c = commit_of(p);
			if (broker_is_away() || world_chance(world->faults.commit_lost)) {
				world_in(US_PER_S, r->loop, on_unanswered, p);
				if (broker_is_away() || world_between(0, 1))
					continue; /* lost on its way there; else its answer is */
			}
			world_at(wire_at(&r->wire), NULL, on_commit, c);
		}
}

static void on_commit_timer(struct timer *t)
{
	commit_parts(container_of(t, struct lane_reader, commit));
}

static void dirty(struct part *p)
{
	p->dirty = true;
	if (!timer_is_set(&p->reader->commit))
		timer_set(&p->reader->commit, p->reader->commit_us);
}

/* ── assignment ── */

/* What a reader is told; void where the seat was given anew meanwhile. */
struct order {
	struct lane_reader *reader;
	struct seat *seat;
	unsigned round;
};

static void on_assign(void *ctx)
{
	struct order *o = ctx;
	struct lane_reader *r = o->reader;
	struct part *p;
	size_t lane = 0;

	if (r->closed || o->seat->revoking || o->round != o->seat->round || !o->seat->owner ||
	    o->seat->owner->reader != r || part_find(r, o->seat))
		return;
	r->assigned = true;
	while (strcmp(r->topics[lane], o->seat->topic) != 0)
		lane++;
	p = mem_new(struct part);
	p->reader = r;
	p->lane = lane;
	p->number = o->seat->number;
	p->round = o->round;
	list_init(&p->ready);
	list_init(&p->taken);
	done_init(&p->done, 0);
	must(done_decode(&p->done, o->seat->base, buf_str(&o->seat->text)) == DONE_OK);
	p->next = p->done.base;
	list_push_back(&r->parts[lane], &p->link);
	fetch(p);
}

static void assign(struct seat *s)
{
	struct order *o = mem_new(struct order);

	s->owner = s->target;
	s->revoking = false;
	o->reader = s->owner->reader;
	o->seat = s;
	o->round = ++s->round;
	world_tell("group", "%s/%d to %s", s->topic, (int)s->number, s->owner->instance);
	if (o->reader)
		world_in(world_delay_us(), o->reader->loop, on_assign, o);
}

static void on_given_back(void *ctx)
{
	struct order *o = ctx;

	if (o->round == o->seat->round && o->seat->owner && o->seat->owner->reader == o->reader &&
	    o->seat->revoking) {
		o->seat->owner = NULL;
		settle();
	}
}

static void on_revoke(void *ctx)
{
	struct order *o = ctx;
	struct part *p = part_find(o->reader, o->seat);
	size_t lane;

	if (o->reader->closed || o->round != o->seat->round)
		return;
	if (p) {
		lane = p->lane;
		if (p->dirty)
			world_at(wire_at(&o->reader->wire), NULL, on_commit, commit_of(p));
		part_forget(p);
		o->reader->ops->revoked(o->reader->ctx, lane, o->seat->number);
	}
	world_at(wire_at(&o->reader->wire), NULL, on_given_back, o);
}

/* Brings owners to what is wanted. */
static void settle(void)
{
	for (size_t i = 0; i < group.seat_count; i++) {
		struct seat *s = &group.seats[i];
		struct order *o;

		if (s->owner == s->target || !s->target)
			continue;
		if (!s->owner) {
			assign(s);
		} else if (!s->revoking && s->owner->reader) {
			s->revoking = true;
			o = mem_new(struct order);
			o->reader = s->owner->reader;
			o->seat = s;
			o->round = s->round;
			world_in(world_delay_us(), o->reader->loop, on_revoke, o);
		}
	}
}

/* The seats of a group are dealt to its members who are in; @turn moves them on. */
static void deal(const char *name, size_t turn)
{
	struct member *in[MEMBERS_MAX];
	size_t count = 0;

	for (size_t i = 0; i < group.member_count; i++)
		if (group.members[i].in && strcmp(group.members[i].group, name) == 0)
			in[count++] = &group.members[i];
	for (size_t i = 0; i < group.seat_count; i++)
		if (strcmp(group.seats[i].group, name) == 0)
			group.seats[i].target = count ? in[(i + turn) % count] : NULL;
	settle();
}

void broker_rebalance(void)
{
	const char *name =
	    group.member_count ? group.members[world_between(0, group.member_count - 1)].group : "";

	world_tell("group", "rebalance of %s", name);
	deal(name, world_between(1, MEMBERS_MAX));
}

static void expire(struct member *m)
{
	world_tell("group", "%s is out", m->instance);
	m->in = false;
	m->reader = NULL;
	for (size_t i = 0; i < group.seat_count; i++)
		if (group.seats[i].owner == m) {
			group.seats[i].owner = NULL;
			group.seats[i].revoking = false;
		}
	deal(m->group, 0);
}

static bool alive(const struct lane_reader *r)
{
	return r && !r->loop->dead && !world_stalled(r->loop) && !r->closed;
}

static void join(void *ctx);

static void on_fenced(void *ctx)
{
	struct lane_reader *r = ctx;

	for (size_t l = 0; l < r->topic_count; l++)
		list_each (&r->parts[l], at) {
			struct part *p = container_of(at, struct part, link);
			int32_t number = p->number;

			part_forget(p);
			r->ops->revoked(r->ctx, l, number);
		}
	world_in(world_delay_us(), NULL, join, r);
}

static struct member *member_of(const char *instance)
{
	for (size_t i = 0; i < group.member_count; i++)
		if (strcmp(group.members[i].instance, instance) == 0)
			return &group.members[i];
	return NULL;
}

static void on_tick(void *ctx)
{
	(void)ctx;
	world_in(TICK_US, NULL, on_tick, NULL);
	if (broker_is_away()) {
		for (size_t i = 0; i < group.member_count; i++)
			group.members[i].seen_us = world->now_us;
		return;
	}
	for (size_t i = 0; i < group.member_count; i++) {
		struct member *m = &group.members[i];

		if (alive(m->reader))
			m->seen_us = world->now_us;
		else if (m->in && m->seen_us + m->session_us < world->now_us)
			expire(m);
	}
	list_each (&group.readers, at) {
		struct lane_reader *r = container_of(at, struct lane_reader, link);
		struct member *m = member_of(r->instance);

		if (alive(r) && m && !m->in && r->joined) {
			r->joined = false;
			r->assigned = false;
			world_in(world_delay_us(), r->loop, on_fenced, r);
		}
	}
}

/* A member comes (again): a static one that was not missed has its partitions at once. */
static void join(void *ctx)
{
	struct lane_reader *r = ctx;
	struct member *m = member_of(r->instance);
	bool known = m && m->in;

	if (r->loop->dead || r->closed)
		return;
	if (broker_is_away()) {
		world_at(broker_back_us() + world_delay_us(), NULL, join, r);
		return;
	}
	if (!m) {
		must(group.member_count < MEMBERS_MAX);
		m = &group.members[group.member_count++];
		m->instance = mem_strdup(r->instance);
		m->group = r->group;
	}
	r->joined = true;
	m->reader = r;
	m->in = true;
	m->seen_us = world->now_us;
	m->session_us = 10 * US_PER_S;
	if (!known) {
		deal(m->group, 0);
		return;
	}
	for (size_t i = 0; i < group.seat_count; i++) {
		struct seat *s = &group.seats[i];

		if (s->owner != m)
			continue;
		if (s->target == m)
			assign(s);
		else
			s->owner = NULL;
	}
	settle();
}

/* ── lane.h ── */

int lane_reader_open(struct loop *loop, const struct lane_reader_options *options,
		     const struct lane_reader_ops *ops, void *ctx, const struct log *log,
		     struct lane_reader **ret_reader)
{
	struct lane_reader *r = mem_new(struct lane_reader);

	(void)log;
	r->loop = loop;
	r->ops = ops;
	r->ctx = ctx;
	r->instance = mem_strdup(options->instance);
	r->group = mem_strdup(options->group);
	r->commit_us = options->commit_us;
	timer_init(&r->commit, loop, on_commit_timer);
	must(options->topic_count <= countof(r->parts));
	for (size_t l = 0; l < options->topic_count; l++) {
		struct log_topic *topic = broker_topic(options->topics[l]);
		bool known = false;

		r->topics[r->topic_count++] = topic->name;
		list_init(&r->parts[l]);
		r->hungry[l] = true;
		for (size_t i = 0; i < group.seat_count; i++)
			known = known || strcmp(group.seats[i].topic, topic->name) == 0;
		for (int32_t p = 0; !known && p < topic->part_count; p++) {
			must(group.seat_count < PARTS_MAX);
			group.seats[group.seat_count++] =
			    (struct seat){.group = r->group, .topic = topic->name, .number = p};
		}
	}
	if (!group.ticking) {
		group.ticking = true;
		group.crowd = world_between(0, 1) ? SIZE_MAX : world_between(2, 5);
		list_init(&group.readers);
		world_in(TICK_US, NULL, on_tick, NULL);
	}
	list_push_back(&group.readers, &r->link);
	world_in(world_between(1000, 300000), NULL, join, r);
	*ret_reader = r;
	return 0;
}

bool lane_reader_ready(const struct lane_reader *reader)
{
	return reader->assigned;
}

struct lane_record *lane_take(struct lane_reader *reader, size_t lane)
{
	list_each (&reader->parts[lane], at) {
		struct part *p = container_of(at, struct part, link);
		struct lane_record *r;

		if (!done_room(&p->done, p->open))
			continue;
		r = list_pop_front(&p->ready, struct lane_record, link);
		if (!r)
			continue;
		list_push_back(&p->taken, &r->link);
		p->open++;
		list_remove(&p->link);
		list_push_back(&reader->parts[lane], &p->link);
		return r;
	}
	reader->hungry[lane] = true;
	return NULL;
}

size_t lane_record_lane(const struct lane_record *record)
{
	return record->lane;
}

int32_t lane_record_partition(const struct lane_record *record)
{
	return record->number;
}

int64_t lane_record_offset(const struct lane_record *record)
{
	return record->offset;
}

uint64_t lane_record_wall_ms(const struct lane_record *record)
{
	return record->kept.wall_ms;
}

struct str lane_record_key(const struct lane_record *record)
{
	return record->kept.key;
}

struct str lane_record_body(const struct lane_record *record)
{
	return record->bodyless ? STR("") : record->kept.body;
}

struct str lane_record_header(const struct lane_record *record, const char *name)
{
	for (size_t i = 0; i < record->kept.header_count; i++)
		if (str_is(record->kept.headers[i].name, name))
			return record->kept.headers[i].value;
	return (struct str){0};
}

void lane_record_forget_body(struct lane_record *record)
{
	record->bodyless = true;
}

void lane_record_hold(struct lane_record *record)
{
	if (record->part && !record->held) {
		record->part->open--;
		record->part->held++;
	}
	record->held = true;
}

void lane_record_begin(struct lane_record *record)
{
	if (record->part && record->held) {
		record->part->open++;
		record->part->held--;
	}
	record->held = false;
}

/* A history is too short to fill a set. */
bool lane_record_room(const struct lane_record *record)
{
	(void)record;
	return true;
}

void lane_record_park(struct lane_record *record, bool parked)
{
	if (record->part && parked != record->parked)
		record->part->parked += parked ? 1 : (size_t)-1;
	record->parked = parked;
}

/* A history is too short to fill a set: what fills half of it is drawn. */
bool lane_record_crowds(const struct lane_record *record)
{
	const struct part *p = record->part;

	return p && 2 * p->parked >= p->open && p->parked >= group.crowd;
}

void lane_record_done(struct lane_record *record)
{
	struct part *p = record->part;

	lane_record_begin(record);
	lane_record_park(record, false);
	list_remove(&record->link);
	if (p) {
		p->open--;
		done_add(&p->done, record->offset);
		dirty(p);
	}
	mem_free(record);
}

void lane_record_drop(struct lane_record *record)
{
	lane_record_begin(record);
	lane_record_park(record, false);
	list_remove(&record->link);
	mem_free(record);
}

struct lane_depth lane_reader_depth(const struct lane_reader *reader, size_t lane)
{
	struct lane_depth d = {0};

	list_each (&reader->parts[lane], at) {
		struct part *p = container_of(at, struct part, link);

		d.base += p->done.base;
		d.completed += done_above(&p->done);
		d.taken += (int64_t)(p->open + p->held);
		d.end += (int64_t)broker_topic(reader->topics[lane])->parts[p->number].count;
	}
	return d;
}

static void on_closed(void *ctx)
{
	struct lane_reader *r = ctx;

	r->on_closed(r->closed_ctx);
}

/* LeaveGroup. */
static void on_leave(void *ctx)
{
	struct lane_reader *r = ctx;
	struct member *m = member_of(r->instance);

	if (m && m->reader == r && !broker_is_away())
		expire(m);
}

void lane_reader_close(struct lane_reader *reader, bool leave, void (*closed)(void *ctx), void *ctx)
{
	struct member *m = member_of(reader->instance);

	for (size_t l = 0; l < reader->topic_count; l++)
		list_each (&reader->parts[l], at) {
			struct part *p = container_of(at, struct part, link);

			if (p->dirty)
				world_at(wire_at(&reader->wire), NULL, on_commit, commit_of(p));
			part_forget(p);
		}
	timer_stop(&reader->commit);
	reader->closed = true;
	reader->on_closed = closed;
	reader->closed_ctx = ctx;
	if (m && m->reader == reader)
		m->seen_us = world->now_us;
	if (leave)
		world_at(wire_at(&reader->wire), NULL, on_leave, reader);
	world_at(wire_at(&reader->wire) + 1000, reader->loop, on_closed, reader);
}

int64_t broker_committed(const char *topic, int32_t partition)
{
	for (size_t i = 0; i < group.seat_count; i++)
		if (group.seats[i].number == partition && strcmp(group.seats[i].topic, topic) == 0)
			return group.seats[i].base;
	return -1;
}
