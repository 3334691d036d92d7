/* Where bytes of an answer may be cut: between two code points. Refuses to judge whether they are UTF-8. */
#ifndef SLUICE_RELAY_POINTS_H
#define SLUICE_RELAY_POINTS_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/str.h"

/* The beginning of @bytes that ends between two code points. */
static inline size_t whole_points(struct str bytes)
{
	size_t back = 0;

	while (back < 4 && back < bytes.len) {
		unsigned char c = (unsigned char)bytes.ptr[bytes.len - 1 - back];
		size_t need = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 0;

		back++;
		if (need)
			return need > back ? bytes.len - back : bytes.len;
	}
	return bytes.len;
}

/* True where @bytes begin within a code point: the named position was none of ours. */
static inline bool inside_point(struct str bytes)
{
	return bytes.len && ((unsigned char)bytes.ptr[0] & 0xc0) == 0x80;
}

#endif
