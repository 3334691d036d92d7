/* Digests and secret bytes: SHA-256, HMAC-SHA-256 (FIPS 180-4, RFC 2104), bytes from the system's
 * generator, and a comparison that tells nothing by its time. Refuses to be a password hash, and to
 * be a source of chance for decisions (those take the loop's generator). */
#ifndef SLUICE_NET_DIGEST_H
#define SLUICE_NET_DIGEST_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/str.h"

#define DIGEST_SHA256_SIZE 32
/* 64 lower-case hex digits and a NUL. */
#define DIGEST_SHA256_HEX_SIZE 65

void digest_sha256(struct str bytes, unsigned char out[static DIGEST_SHA256_SIZE]);
void digest_sha256_hex(struct str bytes, char out[static DIGEST_SHA256_HEX_SIZE]);
void digest_hmac_sha256(struct str key, struct str bytes,
			unsigned char out[static DIGEST_SHA256_SIZE]);
/* @size bytes nobody can guess (getrandom). The process dies where the system gives none. */
void digest_random(void *out, size_t size);
/* True where both views hold the same bytes; the time depends on the lengths alone. */
bool digest_same(struct str a, struct str b);

#endif
