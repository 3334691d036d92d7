/* A provider: one vendor's words. It writes a request from what is asked and reads the answer from bytes; it does no I/O, knows no
 * lane, retries nothing. A new provider is one file and one line in registry.def.
 *
 *   provider->build(ask) ─▶ path, fields, body          (the pool sends them: lib/net/client.h)
 *   answer_new ─▶ answer_head ─▶ answer_data* ─▶ answer_end ─▶ answer_outcome
 *                    sink: parts and text as they come
 *
 * An answer is complete only when the vendor's own terminator was seen: an end of bytes without it is a fault, and so is an error
 * event inside a 200, or a line that cannot be read. */
#ifndef SLUICE_CONSUMERS_PROVIDER_H
#define SLUICE_CONSUMERS_PROVIDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/str.h"
#include "lib/net/http.h" /* struct http_field */
#include "schemas/fault.h"

struct json_object;

/* What is asked. Exactly one of @request (a body in a client's dialect) and @messages (native) is set. Borrowed for the call. */
struct ask {
	const char *dialect; /* "native", "openai", "anthropic": whose words @request has */
	struct json_object *request;
	struct str system;	      /* native; empty for none */
	struct json_object *messages; /* native: this turn's messages, [{role, content}] */
	struct json_object
	    *history; /* the conversation before this turn, [{role, content}], or NULL */
	int64_t
	    max_tokens; /* of the answer with its @prefix; 0: the provider's default (where it must be named: 4096) */
	/* Named where neither @max_tokens nor @request names one, so that the provider counts no more than is reserved; 0: it need not be. */
	int64_t max_tokens_unsaid;
	double temperature; /* NaN: not said */
	const char *model;  /* as the provider calls it */
	const char *key;    /* the account's secret */
	/* An answer that another provider began, to be gone on with: PROVIDER_CANNOT where the model, or the request, does not let it be.
	 * Empty for none. White space at its end is not sent (provider_prefix): what the answer repeats of it is the caller's to drop. */
	struct str prefix;
	const char *prefix_how; /* the account's `prefix`: auto, none, message, vllm */
	const char *cache;	/* the account's `cache`: auto, none (or NULL) */
	bool conversation;	/* the next turn will begin with all of this one */
};

/* What a vendor's limits count. */
enum charge_unit { CHARGE_REQUESTS, CHARGE_INPUT, CHARGE_OUTPUT, CHARGE_TOKENS, CHARGE_UNITS };
const char *charge_unit_name(enum charge_unit unit);

/* What one call counts against each limit. TOKENS: input and output where they share a limit. */
struct charge {
	int64_t unit[CHARGE_UNITS];
};

/* What is expected of a call. */
struct charge_estimate {
	int64_t input_tokens;  /* all of the prompt */
	int64_t output_tokens; /* a usual answer */
	int64_t max_tokens;    /* the longest that was asked for; 0: not said */
};

/* What the vendor says of its limits with an answer; -1: it did not. */
struct provider_rates {
	bool said; /* a limit, or what remains */
	int64_t limit[CHARGE_UNITS];
	int64_t remaining[CHARGE_UNITS];
	int64_t reset_ms[CHARGE_UNITS]; /* until all of it remains again, if nobody asks */
};
/* Within how long, ms, as much is refilled as @charge lacks, as @rates say it; -1: nothing is lacking, or it is not said. Output that has a
 * limit of its own is counted while it is made: some of it must be left. At most PROVIDER_RETRY_AFTER_MAX_MS. */
int64_t provider_refill_ms(const struct provider_rates *rates, const struct charge *charge);

#define PROVIDER_FIELDS_MAX 8

/* What to send: POST @path. Owns its memory (provider_request_fini). */
struct provider_request {
	const char *path;
	struct http_field fields[PROVIDER_FIELDS_MAX];
	size_t field_count;
	struct buf body;
	struct buf secret;  /* the authorization field's value */
	int64_t max_tokens; /* the longest answer that is asked for, of all choices; 0: not said */
	uint64_t
	    cache_key; /* names the beginning that other requests share and the vendor caches; 0: none */
	bool local; /* nobody is asked: the answer is made here, after @local_us (answer_local) */
	uint64_t local_us;
};
void provider_request_fini(struct provider_request *request);

enum provider_built {
	PROVIDER_BUILT = 0,
	PROVIDER_CANNOT, /* a field has no counterpart at this provider: @ret_why names it */
};

/* No call's count is larger: what a vendor says beyond it, or below 0, is not believed. Prices and sums may rest on it. */
#define PROVIDER_TOKENS_MAX 1000000000

struct usage {
	int64_t
	    input_tokens; /* all of the prompt, cached ones included, whatever the vendor's own count does */
	int64_t cached_input_tokens;
	int64_t cache_write_tokens;
	int64_t cache_write_1h_tokens; /* of those, the ones that stay for an hour */
	int64_t output_tokens;
	bool
	    odd; /* a count was outside of 0 … PROVIDER_TOKENS_MAX, and stands here as the nearer end */
};

/* Bytes of a part's id and name; an answer with longer ones is PROVIDER_MALFORMED. They are kept and told with every part. */
#define PROVIDER_PART_ID_MAX 256
#define PROVIDER_PART_NAME_MAX 128

/* What an answer tells while it comes, all of it UTF-8. Callbacks come from inside answer_data. */
struct answer_sink {
	/* The following text belongs to a new part: "text", "thinking", "tool_call" (then @id and @name are set). An answer that is all
	 * text has no part. */
	void (*part)(void *ctx, const char *type, struct str id, struct str name);
	/* More of the present part, whole code points. */
	void (*text)(void *ctx, struct str text);
	void *ctx;
};

/* What a provider may ask us to wait: longer, and a slip of its pen would shut a target for good; after an hour it is asked again and
 * may say so again. */
#define PROVIDER_RETRY_AFTER_MAX_MS 3600000

/* How it stands. Views live as long as the answer. */
struct answer_outcome {
	bool complete;		   /* the terminator was seen and nothing is wrong */
	enum fault fault;	   /* FAULT_NONE while it is good */
	struct str message;	   /* of the fault, for the client; the vendor's own words */
	int64_t retry_after_ms;	   /* at most PROVIDER_RETRY_AFTER_MAX_MS; -1: not said */
	const char *finish_reason; /* stop, length, tool_calls, content_filter; "" while unknown */
	struct usage usage;	   /* what is known so far */
	struct str request_id;	   /* the vendor's; empty where none came */
	bool begun;		   /* output was seen */
	uint64_t events;	   /* of the stream so far: pings too, comments not */
	struct provider_rates rates;
};

struct answer; /* opaque; each provider has its own behind this */

struct provider {
	const char *name; /* an account's kind */
	bool local;	  /* needs no connections: every request is a local one */
	/* Writes the request; always a streaming one. @ret_why: static or inside ask's memory. */
	enum provider_built (*build)(const struct ask *ask, struct provider_request *ret_request,
				     char ret_why[static 128]);
	struct answer *(*answer_new)(const struct answer_sink *sink);
	/* What it counts when a call begins, and what it has counted when the call is over; both NULL: it has no limits. @reserved: what
	 * charge said; @usage: what is known of a call that may have been cut, then never less than was reserved is said for what
	 * cannot be known (@complete: it ended well). */
	void (*charge)(const struct charge_estimate *estimate, struct charge *ret_charge);
	void (*spent)(const char *model, const struct charge *reserved, const struct usage *usage,
		      bool complete, struct charge *ret_charge);
};

/* The beginning of @text that is sent as a prefix. */
struct str provider_prefix(struct str text);
/* As many tokens as @text is thought to be, by its length: what of max_tokens a prefix has used up. */
int64_t provider_tokens(struct str text);

/* NULL where registry.def has no such name. */
const struct provider *provider_find(struct str name);
/* The registry in its order; NULL behind the last. */
const struct provider *provider_at(size_t index);

/* @wall_ms: now, for times of day in the head (Retry-After, when a limit is refilled) where the answer has no Date to count them from. */
void answer_head(struct answer *a, int status, const struct http_field *fields, size_t count,
		 uint64_t wall_ms);
void answer_data(struct answer *a, struct str bytes);
/* The body of a status other than 200 is late, or will not end: decides by what came of it. False where that is not whole and the status
 * alone says too little: behind a 400 may stand the request's fault or the account's. */
bool answer_hasten(struct answer *a);
/* The transport ended orderly: whatever is not complete now is cut. */
void answer_end(struct answer *a);
const struct answer_outcome *answer_outcome(const struct answer *a);
/* A local request's time is over: the answer is there, whole. */
void answer_local(struct answer *a);
void answer_free(struct answer *a); /* accepts NULL */

#endif
