/* The broker's logs, and lib/lane/lane.h's writer over them. */
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/lane/lane.h"
#include "schemas/lanes.h"
#include "tests/world/world.h"

static struct list topics;
static uint64_t away_until_us;

struct lane_writer {
	struct loop *loop;
	uint64_t timeout_us;
	size_t pending;
	bool closed;
};

struct pending_write {
	struct lane_writer *writer;
	struct log_topic *topic;
	int32_t partition;
	struct log_record record;
	int64_t offset;
	enum lane_written result;
	bool told;
	void (*written)(void *ctx, enum lane_written result, int32_t partition, int64_t offset);
	void *ctx;
};

void broker_begin(void)
{
	list_init(&topics);
	away_until_us = 0;
}

struct log_topic *broker_topic(const char *name)
{
	struct log_topic *t;

	list_each (&topics, at) {
		t = container_of(at, struct log_topic, link);
		if (strcmp(t->name, name) == 0)
			return t;
	}
	t = mem_new(struct log_topic);
	t->name = mem_strdup(name);
	t->part_count = 4;
	t->parts = mem_alloc((size_t)t->part_count * sizeof(*t->parts));
	list_push_back(&topics, &t->link);
	return t;
}

void broker_away(uint64_t for_us)
{
	world_tell("broker", "away for %llu ms", (unsigned long long)for_us / 1000);
	away_until_us = world->now_us + for_us;
}

bool broker_is_away(void)
{
	return away_until_us > world->now_us;
}

uint64_t broker_back_us(void)
{
	return away_until_us;
}

static struct str own(struct str s)
{
	return (struct str){mem_dup(s.ptr ? s.ptr : "", s.len), s.len};
}

static struct str header(const struct log_record *r, const char *name)
{
	for (size_t i = 0; i < r->header_count; i++)
		if (str_is(r->headers[i].name, name))
			return r->headers[i].value;
	return STR("-");
}

static void append(struct pending_write *w)
{
	struct log_part *p = &w->topic->parts[w->partition];

	if (p->count == p->cap) {
		p->cap = p->cap ? p->cap * 2 : 16;
		p->records = mem_resize(p->records, p->cap * sizeof(*p->records));
	}
	w->offset = (int64_t)p->count;
	w->record.wall_ms = world_wall_ms();
	p->records[p->count++] = w->record;
	world_tell("broker", "%s/%d@%lld %.*s from %s, job %.*s turn %.*s after %.*s",
		   w->topic->name, (int)w->partition, (long long)w->offset, STR_FMT(w->record.key),
		   w->writer->loop->name, STR_FMT(header(&w->record, "job")),
		   STR_FMT(header(&w->record, "turn")), STR_FMT(header(&w->record, "prev")));
	if (strcmp(w->topic->name, topic_info(TOPIC_RESULTS)->name) == 0)
		check_result(w->record.key, w->record.body);
	group_appended(w->topic->name, w->partition);
	follower_appended(w->topic->name, w->partition);
}

static void on_told(void *ctx)
{
	struct pending_write *w = ctx;

	w->writer->pending--;
	if (w->writer->closed)
		return;
	w->written(w->ctx, w->result, w->partition,
		   w->result == LANE_WRITTEN ? w->offset : (int64_t)-1);
}

/* The record reaches the log; what a dead process had in flight may get lost. */
static void on_append(void *ctx)
{
	struct pending_write *w = ctx;

	if (w->writer->loop->dead && world_between(0, 1))
		return;
	append(w);
	if (w->result == LANE_WRITTEN)
		world_in(world_delay_us(), w->writer->loop, on_told, w);
}

static int32_t choose(const struct log_topic *topic, const struct lane_write *what)
{
	uint32_t h = 2166136261u;

	if (what->partition >= 0)
		return what->partition;
	if (!what->key.len)
		return (int32_t)world_between(0, (uint64_t)topic->part_count - 1);
	for (size_t i = 0; i < what->key.len; i++)
		h = (h ^ (unsigned char)what->key.ptr[i]) * 16777619u;
	return (int32_t)((h ^ (h >> 15)) % (uint32_t)topic->part_count);
}

static void copy_record(struct pending_write *w, const struct lane_write *what)
{
	w->record.key = own(what->key);
	w->record.body = own(what->body);
	w->record.header_count = what->header_count;
	w->record.headers = mem_alloc((what->header_count + 1) * sizeof(struct lane_header));
	for (size_t i = 0; i < what->header_count; i++) {
		w->record.headers[i].name = own(what->headers[i].name);
		w->record.headers[i].value = own(what->headers[i].value);
	}
}

void lane_write(struct lane_writer *writer, const struct lane_write *what,
		void (*written)(void *ctx, enum lane_written result, int32_t partition,
				int64_t offset),
		void *ctx)
{
	struct pending_write *w = mem_new(struct pending_write);
	uint64_t late = broker_is_away() ? away_until_us - world->now_us : 0;

	w->writer = writer;
	w->topic = broker_topic(what->topic);
	w->partition = choose(w->topic, what);
	w->written = written;
	w->ctx = ctx;
	writer->pending++;
	copy_record(w, what);
	if (late + US_PER_S > writer->timeout_us || world_chance(world->faults.write_refused)) {
		w->result = LANE_NOT_WRITTEN;
		world_in(world_between(1000, writer->timeout_us), writer->loop, on_told, w);
		return;
	}
	if (world_chance(world->faults.write_unknown)) {
		w->result = LANE_UNKNOWN;
		world_in(writer->timeout_us, writer->loop, on_told, w);
		if (world_between(0, 2))
			world_in(late + world_between(500, writer->timeout_us + US_PER_S - late),
				 NULL, on_append, w);
		return;
	}
	w->result = LANE_WRITTEN;
	world_in(late + world_delay_us(), NULL, on_append, w);
}

int lane_writer_open(struct loop *loop, const struct lane_writer_options *options,
		     const struct log *log, struct lane_writer **ret_writer)
{
	struct lane_writer *w = mem_new(struct lane_writer);

	(void)log;
	w->loop = loop;
	w->timeout_us = options->timeout_us;
	*ret_writer = w;
	return 0;
}

void lane_writer_close(struct lane_writer *writer)
{
	if (writer)
		writer->closed = true;
}

bool lane_writer_ready(const struct lane_writer *writer)
{
	(void)writer;
	return !broker_is_away();
}

size_t lane_writer_pending(const struct lane_writer *writer)
{
	return writer->pending;
}

int32_t lane_partitions(struct lane_writer *writer, const char *topic)
{
	(void)writer;
	return broker_topic(topic)->part_count;
}
