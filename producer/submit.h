/* Submitting a job: from a checked request to "the broker has it", for the front's routes and the WebSocket. The order is fixed
 * (design.md, "Accepted means accepted"): session's turn → record written and acknowledged → `queued` in Redis where nothing
 * stands → accepted. It refuses to say "accepted" when it is not sure. Idempotency-Key stands around it (idem.h).
 */
#ifndef SLUICE_PRODUCER_SUBMIT_H
#define SLUICE_PRODUCER_SUBMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/str.h"
#include "schemas/codec.h"
#include "schemas/fault.h"

struct blob;
struct config;
struct json_object;
struct lane_writer;
struct log;
struct loop;
struct pg;
struct rand;
struct redis;
struct submitter;
struct submit;

/* Everything that submitting needs; one per process. What it points to stays the caller's. */
struct submitter_options {
	struct loop *loop;
	struct redis *redis;
	struct pg *pg; /* sessions that Redis lost */
	struct lane_writer *writer;
	struct lane_writer *bulk_writer; /* for the background lane; NULL: the other one */
	struct blob *blob;
	const struct config *config; /* routes; replaced by submitter_reload */
	const char *topic_prefix;
	int64_t shards;		/* partitions of a lane that one organisation's jobs use; 0: 2 */
	int64_t max_open_turns; /* per session */
	size_t max_held_bytes;	/* of submitter_hold; 0: any number */
	const struct log *log;
};
struct submitter *submitter_new(const struct submitter_options *options);
void submitter_reload(struct submitter *submitter, const struct config *config);
void submitter_free(struct submitter *submitter); /* accepts NULL */

/* Memory of jobs that the broker does not have yet: where it hangs, what clients send would else be kept without a bound. Who reads a
 * body holds its weight before it keeps any of it, and gives it back with submitter_release, or to the submit (submit_carry). */
/* A job is there as it was read, as it is submitted, and as a record (then as Kafka's client or the blob store has it). */
#define SUBMITTER_COPIES 3
size_t submitter_weight(size_t body_bytes);
/* False, and nothing held, where that were more than max_held_bytes; whatever its weight, one is held where there is no other. */
must_check bool submitter_hold(struct submitter *submitter, size_t weight);
void submitter_release(struct submitter *submitter, size_t weight);
size_t submitter_held_bytes(const struct submitter *submitter);

/* What a client's request became, or why not. */
struct admitted {
	enum fault fault; /* FAULT_NONE: good */
	char param[96];	  /* "messages[0].role"; "" for none */
	char message[200];
	int64_t offset; /* byte of bad JSON, -1 for none */
};
/* Reads and checks the body of POST /v1/jobs (native), which @org sent, into @ret_job; views live in @arena, @org stays the caller's.
 * Times, ids and the lane are filled in; session and turn follow at submit. */
struct admitted admit_native(const struct config *config, struct arena *arena, struct str body,
			     struct str org, uint64_t now_wall_ms, struct rand *rand,
			     struct job *ret_job);
struct admitted admit_native_tree(const struct config *config, struct arena *arena,
				  struct json_object *body, struct str org, uint64_t now_wall_ms,
				  struct rand *rand, struct job *ret_job);

struct submit_outcome {
	enum fault fault;    /* FAULT_NONE: accepted */
	const char *message; /* NULL: the fault's own text */
	struct str job;
	const char *topic; /* full name */
	int32_t partition;
	int64_t offset;
	int64_t position; /* -1: not known yet */
	bool refused; /* for good, by its state: whoever else tries the same job is refused too */
};
/* Submits; @job's views are copied. @done comes once, from the loop, not after submit_cancel (which does not undo anything). */
struct submit *submit_open(struct submitter *submitter, const struct job *job,
			   void (*done)(void *ctx, const struct submit_outcome *outcome),
			   void *ctx);
/* Right after submit_open: the same id was submitted before, and nobody knows whether that was accepted. Then FAULT_UNAVAILABLE comes
 * only where the job is refused for good; else it stays FAULT_OUTCOME_UNKNOWN. */
void submit_again(struct submit *submit);
/* Right after submit_open: so much of what is held is released when the submit is over, also where that is after submit_cancel. */
void submit_carry(struct submit *submit, size_t weight);
void submit_cancel(struct submit *submit); /* accepts NULL */

#endif
