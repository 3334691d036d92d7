/* Valid JSON that json_read refuses, as providers send it: \u0000 and halves of surrogate pairs that stand alone. For what comes from
 * a provider; a client's body is refused with the place of its fault. Makes nothing valid that is not JSON. */
#ifndef SLUICE_BASE_JSON_MEND_H
#define SLUICE_BASE_JSON_MEND_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/base/str.h"

/* A pair whose halves stand in two texts that follow each other. Zeroed at first; what one text gives as @behind is the next one's @before. */
struct json_halves {
	uint32_t before; /* the first half, that the text before ended with; 0: none */
	bool joined;	 /* it stands in front of its second half now, which began a string */
	uint32_t behind; /* a first half that ended a string was left out; 0: none */
};

/* Adds @text to @out with \ufffd in place of each of them, but for what @halves keeps for the next text: of the first string only that ends
 * so. */
void json_mend(struct str text, struct buf *out, struct json_halves *halves);

#endif
