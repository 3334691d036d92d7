/* What all providers' answers share: status, fields, the event stream, bodies of errors, faults. For files of this folder. */
#ifndef SLUICE_CONSUMERS_PROVIDERS_ANSWER_H
#define SLUICE_CONSUMERS_PROVIDERS_ANSWER_H

#include "consumers/providers/parts.h"
#include "consumers/providers/provider.h"
#include "consumers/providers/quick.h"
#include "lib/net/sse.h"

#define ANSWER_EVENT_MAX (4u << 20)
#define ANSWER_ERROR_MAX (64u << 10)
#define ANSWER_MESSAGE_MAX 500
#define ANSWER_REQUEST_ID_MAX 128

struct answer_ops {
	/* One event of the stream of a 200. */
	void (*event)(struct answer *a, struct str event, struct str data);
	/* The body of any other status, decoded (NULL where it is no JSON): sets the fault. */
	void (*error)(struct answer *a, int status, struct json_object *body);
	/* One field of the head. Optional. */
	void (*field)(struct answer *a, struct str name, struct str value);
	/* The stream ended without answer_done: optional last look. */
	void (*end)(struct answer *a);
};

struct answer {
	const struct answer_ops *ops;
	struct answer_sink sink;
	struct answer_outcome outcome;
	struct sse sse;
	struct quick quick;
	struct buf body; /* of an error */
	char message[ANSWER_MESSAGE_MAX];
	char request_id[ANSWER_REQUEST_ID_MAX];
	struct buf scratch;
	uint64_t reset_at_ms[CHARGE_UNITS]; /* while the head is read; 0: not said */
	uint32_t
	    half; /* the last event's text ended with half a character: joined with the next one's */
	uint32_t half_next; /* so of this event */
	int status;
	bool over; /* complete or at fault: the rest is ignored */
	struct parts parts;
	int64_t quick_key; /* of the part that `quick` was learned for */
	bool part_any;	   /* a part was announced: every following one is */
};

/* Ended by answer_free. */
struct answer *answer_open(const struct answer_ops *ops, const struct answer_sink *sink);
/* The first fault wins; @message is copied, and made UTF-8 where it is none. */
void answer_fail(struct answer *a, enum fault fault, struct str message);
/* A field of the vendor's rate limits: a limit, or what remains of it. What is no number is ignored. */
void answer_rate(struct answer *a, enum charge_unit unit, bool limit, struct str value);
/* When that limit is full again: at a time (RFC 3339), or after one (as Go writes it). What cannot be read, or is more than a day away, is
 * ignored. */
void answer_reset_at(struct answer *a, enum charge_unit unit, struct str value);
void answer_reset_in(struct answer *a, enum charge_unit unit, struct str value);
/* The count of tokens that @usage calls @key, within 0 … PROVIDER_TOKENS_MAX (else usage.odd is set); @otherwise where it says none. */
int64_t answer_count(struct answer *a, struct json_object *usage, const char *key,
		     int64_t otherwise);
/* The terminator was seen. */
void answer_done(struct answer *a);
/* Hands text over, for the part that was announced last; notes that output began. Vendors' events go by parts.h. */
void answer_text(struct answer *a, struct str text);
/* Announces a part: always where it is no text, or once one was. */
void answer_part(struct answer *a, const char *type, struct str id, struct str name);
/* Reads the JSON of an event; a malformed one fails the answer. The caller puts it. NULL: over. */
struct json_object *answer_json(struct answer *a, struct str data);

/* FAULT_… for a status that the vendor's body says nothing more about (providers' common ground). */
enum fault answer_status_fault(int status);

#endif
