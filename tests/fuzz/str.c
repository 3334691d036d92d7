/* lib/base/str.h: cuts keep text well-formed, parts are the whole, numbers are written as they were read. */
#include "lib/base/str.h"

#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "tests/fuzz/fuzz.h"

static void parts_are_the_whole(struct str text)
{
	struct str rest = text, part;
	size_t sum = 0, count = 0;

	while (str_split(&rest, ',', &part)) {
		sum += part.len;
		count++;
	}
	must(sum + count - 1 == text.len);
}

static void numbers_are_as_written(struct str text)
{
	struct buf again = {0};
	struct str digits = text;
	uint64_t u;
	int64_t i;

	if (str_u64(text, &u)) {
		while (digits.len > 1 && *digits.ptr == '0') {
			digits.ptr++;
			digits.len--;
		}
		buf_add_u64(&again, u);
		must(str_eq(buf_str(&again), digits));
	}
	if (str_i64(text, &i)) {
		int64_t back;

		buf_reset(&again);
		buf_add_i64(&again, i);
		must(str_i64(buf_str(&again), &back) && back == i);
	}
	buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = {size ? (const char *)data : "", size};

	parts_are_the_whole(text);
	numbers_are_as_written(text);
	must(str_trim(text).len <= size);
	if (str_utf8(text)) {
		for (size_t max = 0; max < 8 && max <= size + 1; max++) {
			struct str cut = {text.ptr, str_utf8_cut(text, max)};

			must(cut.len <= max && str_utf8(cut));
		}
	}
	return 0;
}
