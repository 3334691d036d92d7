/* Faults: what happens to a job or a request, as clients and operators see it. Code has errors (lib/base/err.h), jobs
 * have faults. The table is fault.def; this refuses to hold anything that is not in it. */
#ifndef SLUICE_SCHEMAS_FAULT_H
#define SLUICE_SCHEMAS_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/str.h"

enum fault_retry { FAULT_NEVER, FAULT_LATER, FAULT_WAIT, FAULT_NOW };

enum fault {
	FAULT_NONE = 0,
#define FAULT(name, number, retry, status, code, text, operator_does) FAULT_##name = number,
#include "schemas/fault.def"
#undef FAULT
};

struct fault_info {
	enum fault fault;
	enum fault_retry retry;
	int status;	    /* HTTP */
	const char *code;   /* "unknown_lane" */
	const char *text;   /* for the client where nothing better is known */
	const char *advice; /* for the operator */
};

/* Never NULL: an unknown number is INTERNAL's line. */
const struct fault_info *fault_info(enum fault fault);
/* FAULT_NONE where no line has this code. */
enum fault fault_find(struct str code);
/* True where a client may send the same again. */
bool fault_retryable(enum fault fault);
/* All lines in the table's order; NULL behind the last. */
const struct fault_info *fault_at(size_t index);

#endif
