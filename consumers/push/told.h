/* The jobs that a connection was told of to their end, the newest so many: what was sent once is not sent again when its ref is
 * said again. Keeps eight bytes of each; refuses to grow above TOLD_MAX.
 */
#ifndef SLUICE_PUSH_TOLD_H
#define SLUICE_PUSH_TOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/str.h"

#define TOLD_MAX 8192

/* Zero-initialised. */
struct told {
	uint64_t *hashes;
	size_t count;
	size_t cap;
	size_t oldest; /* once it is full */
};

void told_add(struct told *t, struct str job);
bool told_has(const struct told *t, struct str job);
void told_fini(struct told *t);

#endif
