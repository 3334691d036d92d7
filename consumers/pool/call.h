/* One call: one job in a provider's hands, from the request to the vendor's terminator or a typed fault. Five clocks: connect (the
 * client's), headers, first token, silence, whole. It retries nothing and knows no lane.
 *
 *   SENDING ──200──▶ WAITING ──first output──▶ STREAMING ──terminator──▶ ended
 *      │└─────────────┴──────────fault, clock, transport──────────┴─────▶ ended
 *      └─any other status──▶ REFUSED ──its words, or shortly without them─▶ ended
 */
#ifndef SLUICE_POOL_CALL_H
#define SLUICE_POOL_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "consumers/providers/provider.h"
#include "lib/base/log.h"
#include "lib/base/str.h"

struct call;
struct loop;
struct target;

struct call_ops {
	void (*part)(void *ctx, const char *type, struct str id, struct str name);
	void (*text)(void *ctx, struct str text);
	/* Its head is there: call_outcome has the vendor's rates. Optional. */
	void (*head)(void *ctx);
	/* Last word; read call_outcome before call_free. */
	void (*end)(void *ctx);
};

/* How a call went. */
struct call_outcome {
	enum fault fault; /* FAULT_NONE: complete */
	struct str message;
	int64_t retry_after_ms; /* -1: not said */
	const char *finish_reason;
	struct usage usage;
	struct str request_id;
	bool begun;   /* output was seen */
	bool taken;   /* its status was 200: the provider counts it, whatever came then */
	bool refused; /* its status was another: its input was not read */
	struct provider_rates rates;
	bool unprocessed; /* provably: nothing was spent, and it may be asked again at once */
	uint64_t first_token_wall_ms; /* 0: none */
};

/* Sends @request (copied) to @target. Callbacks come from the loop. */
struct call *call_open(struct loop *loop, struct target *target,
		       const struct provider_request *request, const struct call_ops *ops,
		       void *ctx, const struct log *log);
/* Who hears of it from now on. */
void call_receiver(struct call *call, const struct call_ops *ops, void *ctx);
/* Ends it without a last word; what is known is in call_outcome. Accepts an ended one. */
void call_stop(struct call *call);
/* Ends it as @fault with a last word; also from inside ops.text. @message is static. */
void call_break(struct call *call, enum fault fault, const char *message);
const struct call_outcome *call_outcome(const struct call *call);
void call_free(struct call *call); /* accepts NULL; stops it */

#endif
