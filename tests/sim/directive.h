/* What a prompt may ask of the simulator: `[sim ttft=120 rate=50 tokens=200]` anywhere in the last user message.
 * Refuses unknown names and bad numbers. tests/sim/README.md lists the names. */
#ifndef SLUICE_TESTS_SIM_DIRECTIVE_H
#define SLUICE_TESTS_SIM_DIRECTIVE_H

#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/str.h"

#define SIM_NEVER UINT64_MAX

struct sim_directive {
	uint64_t head_ms;  /* until status and first event; 0: at once */
	uint64_t ttft_ms;  /* until the first token, from the request's last byte */
	double rate;	   /* tokens a second; 0: all at once */
	uint64_t tokens;   /* of the whole answer */
	uint64_t stall_at; /* after so many tokens comes silence; SIM_NEVER: it does not */
	uint64_t stall_ms; /* 0: for ever */
	uint64_t fail_at;  /* after so many tokens an error event */
	uint64_t cut_at;   /* … the connection (HTTP/2: the stream) is cut */
	uint64_t end_at;   /* … an orderly end without the terminator */
	unsigned status;   /* 200, or the error that is answered instead */
	uint64_t retry_ms; /* Retry-After of such an error; 0: none */
};

enum sim_directive_result { SIM_DIRECTIVE_OK = 0, SIM_DIRECTIVE_BAD = 1 };

/* Changes in *@directive (the defaults) what @text asks for. @ret_bad is the word that is not understood. */
must_check enum sim_directive_result
sim_directive_read(struct str text, struct sim_directive *directive, struct str *ret_bad);

#endif
