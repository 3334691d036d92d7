/* lib/base/clock.h: a time that is read is one that can be written and read again. */
#include "lib/base/clock.h"

#include "tests/fuzz/fuzz.h"

static void comes_back(uint64_t ms)
{
	char text[CLOCK_TEXT_SIZE];
	uint64_t again;

	/* A western offset can lead beyond the last year that can be written. */
	if (ms > UINT64_C(253402300799999))
		return;
	clock_text(ms, text);
	must(clock_parse(str_of(text), &again) == CLOCK_OK && again == ms);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = {size ? (const char *)data : "", size};
	char out[CLOCK_TEXT_SIZE];
	uint64_t value = 0;

	if (clock_parse(text, &value) == CLOCK_OK)
		comes_back(value);
	if (clock_parse_http(text, &value) == CLOCK_OK)
		comes_back(value);
	if (clock_parse_go(text, &value) == CLOCK_OK)
		clock_text(value, out);
	return 0;
}
