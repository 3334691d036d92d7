#include "lib/lane/done.h"

#include <string.h>

#include "lib/base/enc.h"
#include "lib/base/mem.h"
#include "lib/base/plant.h"

#define VERSION "1:"

void done_init(struct done *d, int64_t base)
{
	*d = (struct done){.base = base};
}

void done_fini(struct done *d)
{
	mem_free(d->runs);
	*d = (struct done){.base = d->base};
}

static size_t varint_size(int64_t value)
{
	size_t n = 1;

	for (uint64_t v = (uint64_t)value; v >= 0x80; v >>= 7)
		n++;
	return n;
}

/* Varint bytes of run @i and of what is not completed in front of it; 0 behind the last run. */
static size_t run_size(const struct done *d, size_t i)
{
	int64_t before;

	if (i >= d->count)
		return 0;
	before = i ? d->runs[i - 1].to : d->base;
	return varint_size(d->runs[i].from - before) + varint_size(d->runs[i].to - d->runs[i].from);
}

/* The first run that ends at or behind @offset; count where there is none. */
static size_t run_find(const struct done *d, int64_t offset)
{
	size_t low = 0, high = d->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (d->runs[middle].to < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Replaces the runs [@i, @j) by @fresh. */
static void run_replace(struct done *d, size_t i, size_t j, struct done_run fresh)
{
	if (i == j && d->count == d->cap) {
		d->cap = d->cap ? d->cap * 2 : 16;
		d->runs = mem_resize(d->runs, d->cap * sizeof(*d->runs));
	}
	memmove(d->runs + i + 1, d->runs + j, (d->count - j) * sizeof(*d->runs));
	d->count -= j - i;
	d->count++;
	d->runs[i] = fresh;
}

void done_add_range(struct done *d, int64_t from, int64_t to)
{
	size_t i, j;

	if (from < d->base)
		from = d->base;
	if (from >= to)
		return;
	i = run_find(d, from);
	for (j = i; j < d->count && d->runs[j].from <= to; j++) {
		if (d->runs[j].from < from)
			from = d->runs[j].from;
		if (d->runs[j].to > to)
			to = d->runs[j].to;
		d->bytes -= run_size(d, j);
	}
	d->bytes -= run_size(d, j);
	if (from > d->base) {
		run_replace(d, i, j, (struct done_run){from, to});
		d->bytes += run_size(d, i) + run_size(d, i + 1);
		return;
	}
	/* Contiguous with the base: i is 0, and the runs in front of j are swallowed. */
	d->base = to;
	d->count -= j;
	if (d->count)
		memmove(d->runs, d->runs + j, d->count * sizeof(*d->runs));
	d->bytes += run_size(d, 0);
}

void done_add(struct done *d, int64_t offset)
{
	done_add_range(d, PLANTED(BASE_PAST_HOLE) ? d->base : offset, offset + 1);
}

void done_merge(struct done *d, const struct done *other)
{
	done_add_range(d, d->base, other->base);
	for (size_t i = 0; i < other->count; i++)
		done_add_range(d, other->runs[i].from, other->runs[i].to);
}

bool done_has(const struct done *d, int64_t offset)
{
	size_t i;

	if (offset < d->base)
		return true;
	i = run_find(d, offset + 1);
	return i < d->count && d->runs[i].from <= offset;
}

int64_t done_above(const struct done *d)
{
	int64_t sum = 0;

	for (size_t i = 0; i < d->count; i++)
		sum += d->runs[i].to - d->runs[i].from;
	return sum;
}

static size_t text_size(size_t bytes)
{
	return sizeof(VERSION) - 1 + (bytes + 2) / 3 * 4;
}

size_t done_text_size(const struct done *d)
{
	return text_size(d->bytes);
}

/* The longest text that the set may have while @open offsets end. */
static size_t text_most(const struct done *d, size_t open)
{
	/* Each completion can split an unfinished stretch (two more bytes for two offsets of it) or lengthen a run (a byte
	 * for one offset); a stretch of one can only vanish. One more stretch is the open end. */
	size_t more = open > d->count ? open - d->count : 0;

	return text_size(d->bytes + more + 4);
}

bool done_room(const struct done *d, size_t open)
{
	return done_text_size(d) < DONE_TEXT_HIGH && text_most(d, open) <= DONE_TEXT_MAX;
}

int64_t done_end(const struct done *d)
{
	return d->count ? d->runs[d->count - 1].to : d->base;
}

bool done_half(const struct done *d, size_t open)
{
	return done_text_size(d) >= DONE_TEXT_HIGH / 2 || text_most(d, open) > DONE_TEXT_MAX / 2;
}

void done_encode(const struct done *d, struct buf *out)
{
	struct buf bytes = {0};
	int64_t at = d->base;
	size_t size = 0;

	for (size_t i = 0; i < d->count; i++) {
		/* Never above the limit: what is cut off is done again, not lost. */
		size += run_size(d, i);
		if (text_size(size) > DONE_TEXT_MAX)
			break;
		enc_varint(&bytes, (uint64_t)(d->runs[i].from - at));
		enc_varint(&bytes, (uint64_t)(d->runs[i].to - d->runs[i].from));
		at = d->runs[i].to;
	}
	buf_add_text(out, VERSION);
	enc_base64(out, buf_str(&bytes));
	buf_fini(&bytes);
}

/* Takes one run length off @rest and moves *@at over it; false where it is none or leaves the numbers. */
static bool step(struct str *rest, int64_t *at)
{
	uint64_t length;

	if (enc_varint_decode(rest, &length) != ENC_OK || !length || length > (uint64_t)INT64_MAX)
		return false;
	return !__builtin_add_overflow(*at, (int64_t)length, at);
}

static enum done_result decode_runs(struct done *d, struct str rest)
{
	int64_t at = d->base;

	while (rest.len) {
		int64_t from;

		if (!step(&rest, &at))
			return DONE_MALFORMED;
		from = at;
		if (!step(&rest, &at))
			return DONE_MALFORMED;
		done_add_range(d, from, at);
	}
	return DONE_OK;
}

static enum done_result text_kind(struct str text)
{
	size_t digits = 0;

	if (!text.len || str_starts(text, VERSION))
		return text.len > DONE_TEXT_MAX ? DONE_MALFORMED : DONE_OK;
	while (digits < text.len && text.ptr[digits] >= '0' && text.ptr[digits] <= '9')
		digits++;
	return digits && digits < text.len && text.ptr[digits] == ':' ? DONE_VERSION
								      : DONE_MALFORMED;
}

enum done_result done_decode(struct done *d, int64_t base, struct str text)
{
	struct buf bytes = {0};
	enum done_result r = base < 0 ? DONE_MALFORMED : text_kind(text);

	done_init(d, base);
	if (r || !text.len)
		return r;
	text.ptr += sizeof(VERSION) - 1;
	text.len -= sizeof(VERSION) - 1;
	r = enc_base64_decode(&bytes, text) == ENC_OK ? decode_runs(d, buf_str(&bytes))
						      : DONE_MALFORMED;
	buf_fini(&bytes);
	if (r) {
		done_fini(d);
		done_init(d, base);
	}
	return r;
}
