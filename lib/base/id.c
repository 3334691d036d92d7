#include "lib/base/id.h"

#include <string.h>

#include "lib/base/err.h"

#define TIME_CHARS 10

static const char alphabet[33] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/* @count characters of five bits each, the lowest ones of @value. */
static void put(char *out, uint64_t value, int count)
{
	for (int i = count; i--; value >>= 5)
		out[i] = alphabet[value & 31];
}

void id_make(char out[static ID_SIZE], const char *prefix, uint64_t wall_ms, struct rand *r)
{
	must(strlen(prefix) == 3);
	memcpy(out, prefix, 3);
	out[3] = '_';
	put(out + 4, wall_ms & ((UINT64_C(1) << 48) - 1), TIME_CHARS);
	put(out + 14, rand_u64(r), 8);
	put(out + 22, rand_u64(r), 8);
	out[ID_LEN] = 0;
}

/* The five bits of @c, or -1. Only what id_make writes: capitals, without I, L, O and U. */
static int bits_of(char c)
{
	const char *at = c ? strchr(alphabet, c) : NULL;

	return at ? (int)(at - alphabet) : -1;
}

bool id_is(struct str text, const char *prefix)
{
	if (text.len != ID_LEN || memcmp(text.ptr, prefix, 3) != 0 || text.ptr[3] != '_')
		return false;
	for (int i = 4; i < ID_LEN; i++)
		if (bits_of(text.ptr[i]) < 0)
			return false;
	/* 26 characters are 130 bits; the first two are always 0. */
	return bits_of(text.ptr[4]) < 8;
}

uint64_t id_wall_ms(struct str id)
{
	uint64_t value = 0;

	must(id.len == ID_LEN);
	for (int i = 4; i < 4 + TIME_CHARS; i++)
		value = value << 5 | (uint64_t)(bits_of(id.ptr[i]) & 31);
	return value;
}
