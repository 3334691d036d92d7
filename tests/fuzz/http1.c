/* lib/net/http1.h: any split of the bytes gives the same requests and the same refusal; what is accepted has one
 * length, one host, clean names and values. */
#include "lib/net/http1.h"

#include <string.h>

#include "lib/base/buf.h"
#include "tests/fuzz/fuzz.h"

static unsigned count_named(const struct http1_head *h, const char *name)
{
	unsigned count = 0;

	for (size_t i = 0; i < h->field_count; i++)
		count += str_is(h->fields[i].name, name);
	return count;
}

static void check_head(const struct http1_head *h, struct buf *log)
{
	unsigned lengths = count_named(h, "content-length");
	unsigned codings = count_named(h, "transfer-encoding");

	must(lengths + codings <= 1 && h->chunked == (codings == 1));
	must(h->minor == 0 || count_named(h, "host") == 1);
	must(h->target.len && !memchr(h->target.ptr, ' ', h->target.len));
	buf_add_str(log, h->method);
	buf_add_str(log, h->target);
	for (size_t i = 0; i < h->field_count; i++) {
		struct http_field f = h->fields[i];

		must(f.name.len && !memchr(f.name.ptr, ' ', f.name.len));
		must(!memchr(f.value.ptr, '\r', f.value.len) &&
		     !memchr(f.value.ptr, '\n', f.value.len));
		buf_add_str(log, f.name);
		buf_add_char(log, ':');
		buf_add_str(log, f.value);
	}
	buf_printf(log, " %d%d%d", (int)h->minor, h->keep_alive, h->expect);
}

/* All events in @in; cuts off what was used. False where it was refused. */
static bool drain(struct http1 *p, struct buf *in, struct buf *log)
{
	for (;;) {
		struct arena arena = {0};
		struct http1_head h;
		struct str body;
		size_t used;
		enum http1_event event = http1_next(p, buf_str(in), &used, &body);

		must(used <= in->len);
		if (event == HTTP1_BAD)
			return false;
		if (event == HTTP1_HEAD) {
			bool ok =
			    http1_read_head(p, (struct str){buf_str(in).ptr, used}, &arena, &h);

			if (ok)
				check_head(&h, log);
			arena_reset(&arena);
			if (!ok)
				return false;
		}
		buf_add_str(log, body);
		if (event == HTTP1_END)
			buf_add_text(log, "END");
		buf_take(in, used);
		if (event == HTTP1_MORE)
			return true;
	}
}

static int feed(struct str bytes, size_t piece, struct buf *log)
{
	struct buf in = {0};
	struct http1 p;
	bool ok = true;

	http1_init(&p, 2000, 20);
	for (size_t at = 0; at < bytes.len && ok; at += piece) {
		buf_add(&in, bytes.ptr + at, bytes.len - at < piece ? bytes.len - at : piece);
		ok = drain(&p, &in, log);
	}
	int status = ok ? 0 : p.status;

	must(ok || (status >= 400 && status < 600 && p.reason));
	http1_fini(&p);
	buf_fini(&in);
	return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole = {0}, pieces = {0};

	if (size < 1)
		return 0;
	struct str bytes = {(const char *)data + 1, size - 1};
	int status = feed(bytes, bytes.len + 1, &whole);

	must(feed(bytes, 1U + data[0] % 16, &pieces) == status);
	must(str_eq(buf_str(&whole), buf_str(&pieces)));
	buf_fini(&whole);
	buf_fini(&pieces);
	return 0;
}
