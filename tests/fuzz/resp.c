/* lib/store/resp.h: any bytes, fed whole and in two pieces, give the same replies. */
#include "lib/store/resp.h"

#include "tests/fuzz/fuzz.h"

/* A number for all that a reply holds; reads every byte of it. */
static uint64_t sum(const struct redis_value *v)
{
	uint64_t n = (uint64_t)v->type * 31 + (uint64_t)v->integer;

	for (size_t i = 0; i < v->str.len; i++)
		n = n * 131 + (unsigned char)v->str.ptr[i];
	for (size_t i = 0; v->type == REDIS_LIST && i < v->count; i++)
		n = n * 137 + sum(&v->items[i]);
	return n;
}

static uint64_t drain(struct resp *resp, uint64_t n, bool *failed)
{
	const struct redis_value *v;
	int r = 0;

	while (!*failed && (r = resp_next(resp, &v)) == RESP_REPLY)
		n = n * 139 + sum(v) + 1;
	*failed |= r < 0;
	return n;
}

static uint64_t fed(const uint8_t *data, size_t size, size_t cut)
{
	struct resp resp;
	bool failed = false;
	uint64_t n = 0;

	resp_init(&resp);
	if (resp_feed(&resp, data, cut) == 0)
		n = drain(&resp, n, &failed);
	if (!failed && resp_feed(&resp, data + cut, size - cut) == 0)
		n = drain(&resp, n, &failed);
	resp_fini(&resp);
	return n;
}

/* An announced list is allocated when it is announced: Redis is trusted with that, a fuzzer is not. */
static bool announces_much(const uint8_t *data, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		size_t digits = 0;

		while (data[i] == '*' && i + 1 + digits < size && data[i + 1 + digits] >= '0' &&
		       data[i + 1 + digits] <= '9')
			digits++;
		if (digits > 5)
			return true;
	}
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2 || announces_much(data, size))
		return 0;
	must(fed(data + 1, size - 1, 0) == fed(data + 1, size - 1, data[0] % (size - 1)));
	return 0;
}
