/* What is told of a call's fault, to the client and in the job's record. Refuses to hand on what a provider says of an account: that it is
 * out, or at its limit, is the operator's matter, and such messages hold keys and names of his organisation. */
#ifndef SLUICE_POOL_SAID_H
#define SLUICE_POOL_SAID_H

#include <stddef.h>

#include "lib/base/str.h"
#include "schemas/fault.h"

#define SAID_MAX 256

/* In @room: the provider's @message, with asterisks where @key stands (NULL: none); of a fault of the account's the fault's own text, and the
 * call's @request_id where there is one. Empty where nothing was said. Never for a log: it may repeat the request. */
struct str said_words(char room[static SAID_MAX], enum fault fault, struct str message,
		      struct str request_id, const char *key);

#endif
