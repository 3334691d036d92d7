#include "lib/lane/partition.h"

#include <string.h>

#include "lib/base/mem.h"

/* At least this many records of a partition are buffered, however many partitions share the window. */
#define READY_MIN 16

struct lane_record {
	struct list link;
	struct partition *partition;
	int64_t offset;
	int64_t gap_from; /* the offset expected: equal where there is no gap */
	uint64_t wall_ms;
	size_t lane_index; /* good after the reader too */
	size_t size;	   /* bytes counted in the lane */
	bool held;	   /* kept back by its owner: not counted as open */
	bool parked;	   /* counted in the partition */
	struct str key;
	char *body;
	size_t body_size;
	size_t header_count;
	struct lane_header headers[]; /* then the bytes of key and headers */
};

struct partition *partition_new(struct lane *lane, int32_t number)
{
	struct partition *p = mem_new(struct partition);

	p->lane = lane;
	p->number = number;
	p->state = PARTITION_LIMBO;
	list_init(&p->ready);
	list_init(&p->taken);
	list_push_back(&lane->partitions, &p->link);
	lane->partition_count++;
	return p;
}

static void partition_free(struct partition *p)
{
	list_remove(&p->link);
	done_fini(&p->done);
	mem_free(p);
}

static void lane_release(struct lane *lane, size_t records, size_t bytes)
{
	if (!lane)
		return;
	lane->held -= records;
	lane->held_bytes -= bytes;
}

static void record_free(struct lane_record *r)
{
	lane_release(r->partition->lane, 1, r->size);
	list_remove(&r->link);
	mem_free(r->body);
	mem_free(r);
}

void partition_gone(struct partition *p, struct list *gone)
{
	struct lane_record *r;

	while ((r = list_first(&p->ready, struct lane_record, link)))
		record_free(r);
	p->ready_count = 0;
	p->state = PARTITION_GONE;
	p->lane->partition_count--;
	list_remove(&p->link);
	if (p->taken_count)
		list_push_back(gone, &p->link);
	else
		partition_free(p);
}

void partition_orphan(struct partition *p)
{
	p->lane = NULL;
	list_remove(&p->link);
}

enum done_result partition_learn(struct partition *p, int64_t base, struct str text)
{
	struct done committed;
	enum done_result r;

	if (base < 0)
		return DONE_OK;
	r = done_decode(&committed, base, text);
	if (!p->based) {
		p->done = committed;
		p->based = true;
		p->next = base;
		return r;
	}
	/* It was ours before: what either side knows to be completed is. */
	done_merge(&p->done, &committed);
	if (p->next < p->done.base)
		p->next = p->done.base;
	p->dirty = true;
	done_fini(&committed);
	return r;
}

static char *copy(char *at, const void *from, size_t size, struct str *ret_view)
{
	if (size)
		memcpy(at, from, size);
	*ret_view = (struct str){at, size};
	return at + size;
}

static struct lane_record *record_new(const rd_kafka_message_t *m)
{
	rd_kafka_headers_t *headers = NULL;
	rd_kafka_timestamp_type_t type;
	size_t count = 0, bytes = m->key_len, size;
	const char *name;
	const void *value;
	struct lane_record *r;
	char *at;

	if (!rd_kafka_message_headers(m, &headers))
		while (!rd_kafka_header_get_all(headers, count, &name, &value, &size)) {
			bytes += strlen(name) + size;
			count++;
		}
	r = mem_alloc(sizeof(*r) + count * sizeof(struct lane_header) + bytes);
	r->header_count = count;
	at = copy((char *)&r->headers[count], m->key, m->key_len, &r->key);
	for (size_t i = 0; i < count; i++) {
		(void)rd_kafka_header_get_all(headers, i, &name, &value, &size);
		at = copy(at, name, strlen(name), &r->headers[i].name);
		at = copy(at, value, value ? size : 0, &r->headers[i].value);
	}
	r->body = mem_dup(m->payload, m->payload ? m->len : 0);
	r->body_size = m->payload ? m->len : 0;
	r->size = sizeof(*r) + count * sizeof(struct lane_header) + bytes + r->body_size;
	r->offset = m->offset;
	r->wall_ms = (uint64_t)rd_kafka_message_timestamp(m, &type);
	return r;
}

void partition_ingest(struct partition *p, const rd_kafka_message_t *m)
{
	struct lane_record *r;
	int64_t expected;

	if (!p->based) {
		done_init(&p->done, m->offset);
		p->based = true;
		p->next = m->offset;
	}
	if (m->offset < p->next)
		return;
	expected = p->next;
	p->next = m->offset + 1;
	if (done_has(&p->done, m->offset)) {
		p->dirty |= expected < m->offset;
		done_add_range(&p->done, expected, m->offset);
		return;
	}
	r = record_new(m);
	r->partition = p;
	r->gap_from = expected;
	r->lane_index = p->lane->index;
	list_push_back(&p->ready, &r->link);
	p->ready_count++;
	p->lane->held++;
	p->lane->held_bytes += r->size;
}

bool lane_has_room(const struct lane *lane)
{
	const struct window *w = lane->window;
	size_t records = 0, bytes = 0;

	if (lane->held < w->least && lane->held_bytes < w->least_bytes)
		return true;
	for (size_t i = 0; i < w->lane_count; i++) {
		const struct lane *l = &w->lanes[i];

		records += l->held > w->least ? l->held : w->least;
		bytes += l->held_bytes > w->least_bytes ? l->held_bytes : w->least_bytes;
	}
	return records < w->records && bytes < w->bytes;
}

bool partition_wants(const struct partition *p)
{
	const struct lane *lane = p->lane;
	size_t share = lane->window->records / lane->window->lane_count /
		       (lane->partition_count ? lane->partition_count : 1);

	return p->state == PARTITION_OPEN && lane_has_room(lane) &&
	       p->ready_count < (share > READY_MIN ? share : READY_MIN);
}

/* What lies between completed ones is always given out: a restart may find a set that is full, and only such records make it shorter. */
static bool has_room(const struct partition *p, int64_t offset)
{
	return offset < done_end(&p->done) || done_room(&p->done, p->open);
}

bool partition_has(const struct partition *p)
{
	const struct lane_record *first = list_first(&p->ready, const struct lane_record, link);

	return p->state == PARTITION_OPEN && first && has_room(p, first->offset);
}

struct lane_record *partition_take(struct partition *p)
{
	struct lane_record *r;

	while (partition_has(p)) {
		r = list_first(&p->ready, struct lane_record, link);
		p->ready_count--;
		if (r->gap_from < r->offset) {
			done_add_range(&p->done, r->gap_from, r->offset);
			p->dirty = true;
		}
		/* Somebody else completed it while the partition was away. */
		if (done_has(&p->done, r->offset)) {
			record_free(r);
			continue;
		}
		list_remove(&r->link);
		list_push_back(&p->taken, &r->link);
		p->taken_count++;
		p->open++;
		return r;
	}
	return NULL;
}

void partition_depth(const struct partition *p, struct lane_depth *sum)
{
	const struct lane_record *oldest = list_first(&p->taken, const struct lane_record, link);

	if (!oldest)
		oldest = list_first(&p->ready, const struct lane_record, link);
	sum->taken += (int64_t)p->taken_count;
	if (!p->based)
		return;
	sum->base += p->done.base;
	sum->completed += done_above(&p->done);
	if (oldest && oldest->wall_ms &&
	    (!sum->oldest_wall_ms || oldest->wall_ms < sum->oldest_wall_ms))
		sum->oldest_wall_ms = oldest->wall_ms;
}

size_t lane_record_lane(const struct lane_record *r)
{
	return r->lane_index;
}

int32_t lane_record_partition(const struct lane_record *r)
{
	return r->partition->number;
}

int64_t lane_record_offset(const struct lane_record *r)
{
	return r->offset;
}

uint64_t lane_record_wall_ms(const struct lane_record *r)
{
	return r->wall_ms;
}

struct str lane_record_key(const struct lane_record *r)
{
	return r->key;
}

struct str lane_record_body(const struct lane_record *r)
{
	return (struct str){r->body ? r->body : "", r->body_size};
}

struct str lane_record_header(const struct lane_record *r, const char *name)
{
	/* The last of a name counts, as in Kafka's own clients. */
	for (size_t i = r->header_count; i-- > 0;)
		if (str_is(r->headers[i].name, name))
			return r->headers[i].value;
	return (struct str){NULL, 0};
}

static struct lane_reader *reader_of(const struct partition *p)
{
	return p->lane ? p->lane->reader : NULL;
}

void lane_record_forget_body(struct lane_record *r)
{
	struct lane_reader *reader = reader_of(r->partition);

	if (!r->body)
		return;
	lane_release(r->partition->lane, 0, r->body_size);
	mem_free(r->body);
	r->body = NULL;
	r->size -= r->body_size;
	r->body_size = 0;
	if (reader)
		lane_reader_changed(reader, false);
}

/* Gives the record back; the partition with it where it was the last of one that is gone. */
static void record_end(struct lane_record *r, bool dirty)
{
	struct partition *p = r->partition;
	struct lane_reader *reader = reader_of(p);

	p->taken_count--;
	record_free(r);
	if (p->state == PARTITION_GONE && !p->taken_count)
		partition_free(p);
	if (reader)
		lane_reader_changed(reader, dirty);
}

void lane_record_hold(struct lane_record *r)
{
	if (r->held)
		return;
	r->held = true;
	r->partition->open--;
}

bool lane_record_room(const struct lane_record *r)
{
	return !r->held || r->partition->state == PARTITION_GONE ||
	       has_room(r->partition, r->offset);
}

void lane_record_begin(struct lane_record *r)
{
	if (!r->held)
		return;
	r->held = false;
	r->partition->open++;
}

void lane_record_park(struct lane_record *r, bool parked)
{
	if (parked == r->parked)
		return;
	r->parked = parked;
	if (parked)
		r->partition->parked++;
	else
		r->partition->parked--;
}

bool lane_record_crowds(const struct lane_record *r)
{
	const struct partition *p = r->partition;

	return p->state != PARTITION_GONE && 2 * p->parked >= p->open &&
	       done_half(&p->done, p->open);
}

void lane_record_done(struct lane_record *r)
{
	struct partition *p = r->partition;
	bool counts = p->state != PARTITION_GONE;

	lane_record_begin(r);
	lane_record_park(r, false);
	if (counts) {
		done_add(&p->done, r->offset);
		p->open--;
		p->dirty = true;
	}
	record_end(r, counts);
}

void lane_record_drop(struct lane_record *r)
{
	lane_record_begin(r);
	lane_record_park(r, false);
	record_end(r, false);
}
