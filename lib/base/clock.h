/* Times: micro-seconds as uint64_t, either since an unknown start (…_us of the loop) or since 1970 UTC (wall_us,
 * _ms where a record carries it). Refuses to ask the system: the loop does (lib/net/loop.h), once per turn. */
#ifndef SLUICE_BASE_CLOCK_H
#define SLUICE_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/str.h"

#define US_PER_MS UINT64_C(1000)
#define US_PER_S UINT64_C(1000000)

/* "2026-11-22T10:15:30.123Z" and its NUL. */
#define CLOCK_TEXT_SIZE 25

/* RFC 3339 in UTC with milliseconds. */
void clock_text(uint64_t wall_ms, char out[static CLOCK_TEXT_SIZE]);

enum clock_parse { CLOCK_OK = 0, CLOCK_MALFORMED = 1 };

/* Reads RFC 3339 (any offset, any number of decimals) into milliseconds since 1970. */
must_check enum clock_parse clock_parse(struct str text, uint64_t *ret_wall_ms);

/* Reads an IMF-fixdate ("Sun, 22 Nov 2026 10:15:30 GMT", RFC 9110 5.6.7). */
must_check enum clock_parse clock_parse_http(struct str text, uint64_t *ret_wall_ms);

/* Reads a Go duration as OpenAI sends it ("6m0s", "20ms", "2m59.56s"); a bare number is seconds. */
must_check enum clock_parse clock_parse_go(struct str text, uint64_t *ret_us);

#endif
