/* Ids: a prefix, an underscore and 26 characters of Crockford base32 that sort by time (48 bits of milliseconds,
 * 80 bits of chance; as ULID). Refuses to be a secret. */
#ifndef SLUICE_BASE_ID_H
#define SLUICE_BASE_ID_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/rand.h"
#include "lib/base/str.h"

/* "job_" + 26 + NUL; every prefix has three letters. */
#define ID_SIZE 31
#define ID_LEN 30

/* @prefix is "job", "ses", "req", "org", "usr", "key" or "dlv". */
void id_make(char out[static ID_SIZE], const char *prefix, uint64_t wall_ms, struct rand *r);
/* True where @text is an id with this prefix. */
bool id_is(struct str text, const char *prefix);
/* The milliseconds since 1970 in a valid id. */
uint64_t id_wall_ms(struct str id);

#endif
