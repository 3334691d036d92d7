/* schemas/keys.h: what a channel carries is read, or refused, and an event that was read is written again as it was. */
#include "schemas/keys.h"

#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = {(const char *)data, size};
	struct event e, again;
	struct buf out = {0};
	char name[32];

	if (event_parse(text, &e) != EVENT_OK || e.ev.len >= sizeof(name))
		return 0;
	for (size_t i = 0; i < e.ev.len; i++)
		name[i] = e.ev.ptr[i];
	name[e.ev.len] = 0;
	if (str_of(name).len != e.ev.len)
		return 0; /* a NUL in a name: no name of ours */
	event_head(&out, name, e.job, e.attempt, e.at);
	buf_add_str(&out, e.payload);
	must(event_parse(buf_str(&out), &again) == EVENT_OK);
	must(str_eq(e.payload, again.payload) && again.at == e.at && again.attempt == e.attempt);
	buf_fini(&out);
	return 0;
}
