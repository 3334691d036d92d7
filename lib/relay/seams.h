/* The seams of an answer: bytes from which another provider goes on with it, in the same attempt. They stand among the calls of a
 * job's state and of its result: a call whose text begins beyond byte 0 of its attempt. Remembers which were told. */
#ifndef SLUICE_RELAY_SEAMS_H
#define SLUICE_RELAY_SEAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/str.h"

struct json_out;

#define SEAMS_MAX 32

struct seam {
	int64_t at; /* byte of the attempt */
	char provider[32];
	char model[128];
};

/* The members of its event. */
void seam_write(const struct seam *seam, struct json_out *out);

/* Zeroed: none known, none told, from byte 0. */
struct seams {
	int64_t from;	    /* those before this byte are known to who listens */
	struct seam *known; /* SEAMS_MAX; NULL until there is one, as with nearly all answers */
	size_t count;
	int64_t *told; /* SEAMS_MAX; NULL until one was */
	size_t told_count;
};

/* Zeroed again. */
void seams_fini(struct seams *s);

/* Nothing is told yet to who has the text up to @from. */
void seams_begin(struct seams *s, int64_t from);
/* The seams of @attempt among @calls (JSON, result.def); leaves what is known where it cannot be read or has none. */
void seams_read(struct seams *s, struct str calls, int64_t attempt);
/* True once for each byte from `from` on: it is told now. */
bool seams_tell(struct seams *s, int64_t at);
/* The first known one behind @at and before @end; @end where there is none. */
int64_t seams_next(const struct seams *s, int64_t at, int64_t end);

#endif
