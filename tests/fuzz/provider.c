/* consumers/providers: whatever a provider sends, in any pieces, is an answer or a typed fault, and the same one however it is cut into
 * pieces; the quick way through its events gives what the slow way gives. All that it tells is UTF-8. The first byte chooses provider and
 * status; the first bytes are its request id as well. */
#include "consumers/providers/provider.h"

#include <string.h>

#include "lib/base/mem.h"
#include "tests/fuzz/fuzz.h"

struct heard {
	struct buf text;
};

static void on_part(void *ctx, const char *type, struct str id, struct str name)
{
	struct heard *h = ctx;

	must(str_utf8(id) && str_utf8(name));
	must(id.len <= PROVIDER_PART_ID_MAX && name.len <= PROVIDER_PART_NAME_MAX);
	buf_add_char(&h->text, 1);
	buf_add_text(&h->text, type);
	buf_add_str(&h->text, id);
	buf_add_str(&h->text, name);
}

static void on_text(void *ctx, struct str text)
{
	struct heard *h = ctx;

	must(str_utf8(text));
	buf_add_str(&h->text, text);
}

static enum fault read_all(const struct provider *p, int status, struct str bytes, size_t piece,
			   struct heard *h)
{
	struct answer_sink sink = {on_part, on_text, h};
	struct answer *a = p->answer_new(&sink);
	struct http_field fields[] = {
	    {STR("content-type"), STR("text/event-stream")},
	    {STR("request-id"), {bytes.ptr, bytes.len < 140 ? bytes.len : 140}},
	};
	enum fault fault;

	answer_head(a, status, fields, countof(fields), 0);
	must(str_utf8(answer_outcome(a)->request_id));
	for (size_t at = 0; at < bytes.len; at += piece) {
		size_t len = bytes.len - at < piece ? bytes.len - at : piece;

		answer_data(a, (struct str){bytes.ptr + at, len});
	}
	answer_end(a);
	fault = answer_outcome(a)->fault;
	must(answer_outcome(a)->complete == (fault == FAULT_NONE));
	must(str_utf8(answer_outcome(a)->message));
	answer_free(a);
	return fault;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct heard whole = {0}, pieces = {0};
	struct str bytes;
	const struct provider *p;
	int status;

	if (!size)
		return 0;
	p = provider_at(data[0] & 1);
	status = data[0] & 2 ? 429 : 200;
	bytes = (struct str){(const char *)data + 1, size - 1};
	must(read_all(p, status, bytes, size, &whole) ==
	     read_all(p, status, bytes, 1 + data[0] / 4, &pieces));
	must(str_eq(buf_str(&whole.text), buf_str(&pieces.text)));
	buf_fini(&whole.text);
	buf_fini(&pieces.text);
	return 0;
}
