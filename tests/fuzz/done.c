/* lib/lane/done.h: any text is a set or refused; a set's own text is that set again. */
#include "lib/lane/done.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

static void comes_back(const struct done *d)
{
	struct buf text = {0};
	struct done back;

	done_encode(d, &text);
	must(text.len <= DONE_TEXT_MAX);
	must(done_decode(&back, d->base, buf_str(&text)) == DONE_OK);
	if (done_text_size(d) <= DONE_TEXT_MAX) {
		must(text.len == done_text_size(d));
		must(back.count == d->count && back.bytes == d->bytes);
		must(!d->count || memcmp(back.runs, d->runs, d->count * sizeof(*d->runs)) == 0);
	}
	done_fini(&back);
	buf_fini(&text);
}

static void sorted_and_apart(const struct done *d)
{
	int64_t before = d->base;

	for (size_t i = 0; i < d->count; i++) {
		must(d->runs[i].from > before && d->runs[i].to > d->runs[i].from);
		before = d->runs[i].to;
	}
}

/* The bytes as instructions: two for the start of a range, one for its length. */
static void from_ranges(const uint8_t *data, size_t size)
{
	struct done d;

	done_init(&d, 100);
	for (; size >= 3; size -= 3, data += 3) {
		int64_t from = data[0] + data[1] * 256;

		done_add_range(&d, from, from + data[2] % 16);
		must(data[2] % 16 == 0 || done_has(&d, from));
	}
	sorted_and_apart(&d);
	comes_back(&d);
	done_fini(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = {size ? (const char *)data : "", size};
	struct done d;

	if (done_decode(&d, 1000, text) == DONE_OK) {
		sorted_and_apart(&d);
		comes_back(&d);
	} else {
		must(d.base == 1000 && !d.count);
	}
	done_fini(&d);
	from_ranges(data, size);
	return 0;
}
