/* The quick way through a stream of JSON events that differ in one string only: the events of one answer are the same to the letter
 * but for the text of the delta. Once one such event was read the slow way, its bytes before and behind the string are remembered;
 * an event that has the same ones needs only its string unescaped. Exact: anything else takes the slow way. */
#ifndef SLUICE_CONSUMERS_PROVIDERS_QUICK_H
#define SLUICE_CONSUMERS_PROVIDERS_QUICK_H

#include <stdbool.h>

#include "lib/base/buf.h"
#include "lib/base/str.h"

/* Zeroed is empty. */
struct quick {
	struct buf before; /* up to and with the opening quote */
	struct buf behind; /* from the closing quote on */
};

void quick_fini(struct quick *q);
/* True where @data fits; then @ret_text (in @scratch, or inside @data where nothing is escaped) is the string. */
bool quick_match(const struct quick *q, struct str data, struct buf *scratch, struct str *ret_text);
/* Learns from an event that was read the slow way and whose text was the value of the last @key ("\"text\":\"") in it.
 * Learns nothing where that is not found exactly once. */
void quick_learn(struct quick *q, struct str data, const char *key);

#endif
