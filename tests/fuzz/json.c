/* lib/base/json.h: what is read is written and read again as the same; what is refused has its place in the text; the
 * first pass and json-c agree; escapes come back. */
#include "lib/base/json.h"

#include <string.h>

#include "lib/base/json_check.h"
#include "lib/base/json_mend.h"
#include "tests/fuzz/fuzz.h"

static void written_is_read(struct json_object *value)
{
	struct json_object *again = NULL;
	struct json_error error;
	struct buf text = {0};
	struct json_out out = {.buf = &text};

	json_put_tree(&out, NULL, value);
	must(json_read(buf_str(&text), &again, &error) == JSON_OK);
	must(json_object_equal(value, again));
	json_object_put(again);
	buf_fini(&text);
}

/* What is read as it stands needs no mending. */
static void stays(struct str text)
{
	struct json_halves halves = {.before = 0xD83D};
	struct buf mended = {0};

	json_mend(text, &mended, &halves);
	must(str_eq(buf_str(&mended), text) && !halves.joined && !halves.behind);
	buf_fini(&mended);
}

static void text_comes_back(struct str text)
{
	struct buf escaped = {0}, back = {0};

	if (str_utf8(text) && !memchr(text.ptr, 0, text.len)) {
		json_escape(&escaped, text);
		must(json_unescape(&back, buf_str(&escaped)) == JSON_OK);
		must(str_eq(buf_str(&back), text));
	}
	buf_reset(&back);
	if (json_unescape(&back, text) == JSON_OK && str_utf8(text))
		must(str_utf8(buf_str(&back)));
	buf_fini(&escaped);
	buf_fini(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = {size ? (const char *)data : "", size};
	struct json_error error = {.offset = SIZE_MAX};
	struct json_object *value = NULL;
	struct str inside;

	if (json_read(text, &value, &error) == JSON_OK) {
		written_is_read(value);
		stays(text);
		json_object_put(value);
	} else {
		must(error.offset <= size && *error.message);
		/* json-c refuses nothing that the first pass takes. */
		must(json_check(text, &inside, &error) == JSON_MALFORMED);
	}
	text_comes_back(text);
	return 0;
}
