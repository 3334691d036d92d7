/* A work: one job in this pool, from its record to its mark. It holds at most one claim, one call and one slot, and it alone writes
 * the job's end while it holds the claim (design.md, "Done is said after it is durable").
 *
 *   TURN ─▶ CLAIMING ─▶ LOADING ─▶ SLOT ─▶ CALLING ─▶ DECIDING ─▶ PUBLISHING ─▶ CONVERSING ─▶ ENDING ─▶ OVER
 *             │ ▲ └────────────────────┐      │ ▲         ▲ │ ▲       ▲                                   ▲
 *             ▼ │                      │      ▼ │         │ ▼ │       └─ CLAIMING: `finishing` again       │
 *            HELD                      │    BACKOFF    WRITING └─ any: cancelled, expired                  │
 *                                      └── terminal, refused, stale ───────────────────────────────────────┘
 *
 * WRITING is the way of a text that has to be written anew, as Redis holds another one.
 *
 * Where the target's calls are limited (spend.h) the way from CALLING to the call leads through BUDGET: a word from Redis with the slot
 * in hand, or a wait in the quota's line without one, and then SLOT again.
 *
 * Where no target has room for a call (room.h) the way leads from CALLING to BACKOFF, in a line, until one has.
 *
 * A wait of a minute and more is no wait of this pool: from CLAIMING, CALLING, SLOT or BACKOFF to DEFERRING (retry.h), and OVER.
 *
 * A claim that is lost (Redis emptied, a lease that ran out) sends any claimed state back to CLAIMING; where it is won again, the
 * call that went on meanwhile is kept and its text is written anew under the new attempt. */
#ifndef SLUICE_POOL_WORK_H
#define SLUICE_POOL_WORK_H

#include "consumers/pool/budget.h"
#include "consumers/pool/call.h"
#include "consumers/pool/pool.h"
#include "consumers/pool/room.h"
#include "consumers/pool/route.h"
#include "consumers/pool/scribe.h"
#include "lib/base/arena.h"
#include "lib/base/id.h"
#include "lib/base/sm.h"
#include "lib/relay/state.h"
#include "lib/store/blob.h"
#include "lib/store/gather.h"
#include "schemas/codec.h"
#include "schemas/keys.h"

struct lane_record;

enum work_state {
	WORK_TURN,
	WORK_CLAIMING,
	WORK_HELD,
	WORK_LOADING,
	WORK_SLOT,
	WORK_BUDGET,
	WORK_CALLING,
	WORK_BACKOFF,
	WORK_WRITING,
	WORK_DECIDING,
	WORK_PUBLISHING,
	WORK_CONVERSING,
	WORK_ENDING,
	WORK_DEFERRING,
	WORK_OVER,
	WORK_STATES
};
const char *work_state_name(enum work_state state);

#define WORK_CALLS_MAX 32
/* work.short_of: all that are left are short, and one is waited for. */
#define SHORT_OF_ALL (~UINT32_C(0))

/* One call, as the ledger keeps it. */
struct work_call {
	const char *provider;
	const char *account;
	const char *model;
	int64_t attempt;
	int64_t
	    at; /* the byte of the attempt that its text begins at: beyond 0 it goes on with another's (seam.c) */
	uint64_t started_ms;
	uint64_t first_token_ms;
	uint64_t ended_ms;
	enum fault fault;
	struct str request_id;
	struct usage usage;
	int64_t cost_microusd;
	bool overhead; /* a hedge's loser: in the ledger, and not on the customer's bill */
};

/* A second target is asked beside the call (hedge.h). */
struct hedge {
	struct timer timer;
	struct call *call;
	struct target *target;
	size_t target_index;
	enum probe probe;
	uint64_t called_us;
	size_t request_bytes;
	struct provider_request request; /* while its budget is asked */
	struct work_call entry;
};

struct work {
	struct sm sm;
	struct log log;
	struct pool *pool;
	struct pool_lane *lane;
	struct redis *redis;	    /* its lane's: all that is asked of the job goes this way */
	struct lane_writer *writer; /* its lane's */
	struct list link;	    /* pool->all */
	struct arena arena;
	struct lane_record *record;
	uint64_t taken_us;
	struct job_head head;
	struct job job;
	char job_id[ID_SIZE];
	struct key channel;
	struct list turn_link; /* among its session's works */
	struct str prev;       /* the job that its turn waits for */
	uint64_t missing_us;   /* since when nothing stands of it; 0: something does */
	bool loaded;
	bool counted_ahead;
	bool counted_ending;

	/* the claim */
	char fence[17];
	bool claimed;
	bool finishing; /* the claim was granted in `finishing` */
	bool fetching;	/* the text of that result is being read: nothing is published before */
	enum work_state resume;	 /* where to go on after a claim was lost; WORK_OVER: nowhere */
	uint64_t claim_epoch_ms; /* of the Redis that was asked for it */
	uint64_t past_epoch_ms;	 /* of the Redis that forgot it, when the record was asked */
	struct str past_status;	 /* that it ended with, by the record */
	int64_t past_attempt;
	int64_t attempt;
	int64_t tries;
	enum fault end_as; /* EXPIRED, CANCELLED: wished, not yet done */

	/* what is under way: at most one of each */
	struct redis_request *request;
	struct redis_request *lease_request;
	struct redis_request *call_request;
	struct pg_request *pg_request;
	struct gather_ask past; /* has it ended already? (past.c) */
	struct blob_request *blob_request;
	bool publishing;    /* a lane write whose last word is to come */
	struct timer timer; /* waits of the present state */
	struct timer lease;
	struct timer deadline;
	struct timer say;      /* a wait that lasts is told */
	struct timer call_due; /* the call's beginning is to be written (ask.c) */
	const char *why;       /* it waits for this; NULL: it does not */
	unsigned waits;	       /* in this state, for growing intervals */

	/* the call */
	struct heap_node slot_node; /* in its lane's waiting works */
	struct place
	    place;    /* in its lane's line, until it has a slot or waits for something else */
	uint64_t tag; /* among the lane's tenants */
	bool slot_wanted;
	bool slot_held;
	struct routes *routes; /* of the configuration that it chose its last call's target by */
	struct route route;
	uint32_t tried;
	uint32_t refused; /* these refused a stream already */
	bool anew;	  /* the next call begins the answer anew, under another attempt */
	bool goes_on; /* the next call goes on with the text that stands, where a provider can */
	bool goes_on_never;
	bool goes_on_here; /* also at a provider that was tried: it said something since */
	bool call_goes_on; /* what is built goes on with it */
	bool seam_due;	   /* the present call goes on, and said nothing yet */
	size_t seam_space; /* of the text's white space at its end: so far it was said again */
	struct room_line *room_line; /* it stands there: no target has room (room.h) */
	struct line_node room_node;
	struct account *room_promised; /* room for its next call; NULL: none */
	struct target *target;
	size_t target_index;
	uint64_t cache_key; /* of the request (provider.h) */
	enum probe probe;   /* what the call finds out */
	bool output_seen;   /* of the call */
	uint64_t called_us;
	uint64_t waits_until_us; /* in WORK_BACKOFF */
	struct target *leased;	 /* in WORK_BACKOFF with a slot: whose probe it would be */
	struct call *call;
	struct reservation reserved[2];
	struct reservation
	    *reservation; /* of the call, or of the next one; the other is the hedge's */
	struct hedge hedge;
	struct target *reserved_for;
	struct provider_request request_built; /* while a budget is asked */
	size_t request_bytes;
	uint32_t short_of;   /* targets whose budget is short, bit per index */
	bool too_big;	     /* for the quota of one that was tried */
	uint32_t unfit;	     /* of those tried, the ones that cannot serve it and were not asked */
	uint64_t later_us;   /* one of those may be able to at this loop time; 0: none */
	bool in_budget_line; /* it waits there, without a slot */
	uint64_t line_from_ms;
	int64_t said_position;
	struct scribe scribe;
	struct json_object *messages; /* native: this turn's */
	struct json_object *body;     /* a dialect's */
	struct json_object *history;
	struct work_call *calls; /* WORK_CALLS_MAX at most; room for few, since few are made */
	size_t call_count;
	size_t call_room;
	bool past_open; /* the last of the calls was begun by an owner who saw no end of it */
	uint64_t picked_up_ms; /* by any owner; 0: never */
	uint64_t
	    run_from_ms; /* its time running began then, with any owner; 0: it waits for a call */
	struct str past_parts;	/* JSON, of the answer that the last call of owners before gave */
	uint64_t past_first_ms; /* its first token, as far as it is known; 0 */

	/* the end */
	const char *status;
	enum fault fault;
	char fault_message[256];
	const char *finish_reason;
	uint64_t finished_ms;
	struct str result; /* JSON without the text, in the arena */
	struct str text_blob;
	unsigned trims; /* how often its record was made smaller, for the broker did not take it */
	bool dead_written; /* its dead letter is acknowledged */

	/* put off (retry.c) */
	uint64_t due_wall_ms;
	bool overflows; /* it is claimed only to be put off */
	bool parks;	/* counted in its lane's overflow */
	size_t parked_bytes;
	bool tier_writing;
	bool
	    tier_written; /* the tier has its record; what is left is the stored copy and the mark */
	struct str blob;  /* reference of the whole record, where the lane holds only that */
};

/* A work for @head, which leaves its line and is its own from now on. It begins by itself. */
void work_new(struct pool *pool, struct pool_lane *lane, struct head *head);
/* A slot is granted: asks the next target. */
void work_run(struct work *w);
/* How long it may last, as far as that is known by now: its timer. */
void work_time(struct work *w);
/* That is over. */
bool work_is_late(const struct work *w);
/* The client, or the clock, wants it to end: FAULT_CANCELLED or FAULT_EXPIRED. */
void work_stop(struct work *w, enum fault as);
/* Redis lost its memory, or a fenced write was refused: the claim is made again. */
void work_lost(struct work *w);
/* Drain: gives the job back unfinished; a work that is past its calls goes on (false). */
bool work_hand_back(struct work *w, bool running_too);
/* Process end: frees it without a word to anybody. */
void work_abandon(struct work *w);

/* ── between the files of a work ── */

/* turn.c: waits for the turn before, then work_claim. */
void turn_wait(struct work *w);
void turn_leave(struct work *w); /* it is over here: the next of its session need not wait for it */
/* work.c */
/* The name of the job's own lane: a nudge comes by another. */
const char *work_lane_name(const struct work *w);
void work_claim(struct work *w);
void work_again(struct work *w, uint64_t us,
		void (*then)(struct timer *t)); /* sets the state's timer */
uint64_t work_pause_us(struct work *w, uint64_t first_ms,
		       uint64_t most_ms); /* growing waits, jittered */
/* Frees it; @done marks its record. */
void work_over(struct work *w, bool done);
/* It waits for something else than its turn among the lane's works: another may be taken in its place. */
void work_park(struct work *w);
/* Waits without a slot for @why (a word of the protocol), then wants one; the claim is kept, unless a tier takes it (retry.h). */
void work_back_off(struct work *w, uint64_t us, const char *why);
/* The pool's configuration changed: what it waits for may be there, or be none of its route any more. */
void work_reconfigured(struct work *w);
/* It waits for a breaker that lets somebody through by now. */
bool work_waits_for_breaker(const struct work *w);
/* It waited for the lease of its target's probe, and the answer is here. */
bool work_has_lease_answer(const struct work *w);
/* Such a one goes on. @well: and so do all others. */
void work_wake(struct work *w, bool well);
/* What begins with @cache_key can be read from the provider's cache: goes on, where it waited for that. */
void work_prefix_warm(struct work *w, uint64_t cache_key);
/* It waits for @why (a word of the protocol): told to its followers if it lasts. NULL: it goes on. */
void work_waits(struct work *w, const char *why);
/* Its place in a budget's line changed: told, at most four times a second. */
void work_moved(struct work *w);
/* load.c: body, blob, conversation; then pool_want_slot. */
void load_begin(struct work *w);
/* Its route is one of a configuration that is not in force any more. */
bool load_is_stale(const struct work *w);
/* It is about to ask, or waits for that: its route is that of the configuration in force. What is known of targets that stay (by account,
 * key and model) holds. A call that runs keeps what it has, and so does a job that the configuration has no route for any more. */
void load_route(struct work *w);
/* past.c: what ended before Redis lost its memory. Asks for the record of a job of which nothing stands: claims it again, or it is over. */
void past_ask(struct work *w);
/* It goes on with a call or an answer of its own, or was asked for already: what this Redis forgot of it does not matter. */
bool past_is_sure(const struct work *w);
extern const struct gather_kind past_kind; /* of pool->past */
/* past.c: calls that owners before began go on standing in the ledger. @bytes: how long the answer was. */
void past_calls(struct work *w, struct str calls, int64_t bytes);
/* What an owner before was told last is the job's text, of which nothing was said since: it is to be read before the job ends. */
bool past_has_text(const struct work *w);
/* Reads it as the present attempt's, then finish_write. */
void past_text(struct work *w);
/* The body is known: what the last of them was asked, where its end was not seen. */
void past_estimate(struct work *w);
/* Tokens that so many bytes may be, of a request or of an answer: where a provider that was asked does not say. That of the request stands in
 * the call's line from its beginning, so that also the next owner knows it. */
int64_t past_tokens(size_t request_bytes);
/* Of a claimed job that is older than Redis's memory: it stands again in the lists of open jobs and in its session's outbox, and what its
 * client sent along in its state. */
void past_lists(struct work *w);
/* ask.c: the call's beginning goes into the state */
void ask_say_call(struct work *w);
/* Where that was put off and is still to come: now. The scribe's word. */
void ask_call_due(void *ctx);
void ask_on_call_due(struct timer *t);
/* @request's cost is reserved: the call is made. */
void ask_spent(struct work *w, const struct provider_request *request);
/* seam.c: the text that stands may be gone on with by another provider. */
bool seam_may(const struct work *w);
/* It is as long already as the answer may be. */
bool seam_is_full(const struct work *w);
/* What was said cannot be taken back: it is gone on with, or the job ends. */
bool seam_or_end(const struct work *w);
/* The present call, just noted, goes on with the text that stands. */
void seam_begin(struct work *w);
/* It says @text, or begins a part: what is left of it for the answer. */
struct str seam_output(struct work *w, struct str text, bool part);
/* It was to go on and was refused for that: the job is not at fault, and does not try again. */
bool seam_refused(struct work *w, enum fault fault);
/* Writes @w's request for @target; PROVIDER_CANNOT: @why says what. */
enum provider_built ask_build(struct work *w, struct target *target,
			      struct provider_request *request, char why[static 128]);
/* What a call of @w that is its own tells. */
extern const struct call_ops ask_ops;
/* A call's end into its line of the ledger. */
void ask_fill(struct work *w, struct work_call *c, const struct call_outcome *o, enum fault as);
/* @t refused a call of @w with @fault: where that is its key, its credit or its model, somebody has to look. */
void ask_alert(struct work *w, const struct target *t, enum fault fault);
/* The present call is over, @as this: goes into the ledger, and is freed. */
void ask_note_end(struct work *w, enum fault as);
/* Frees the call, where there is one, without a word in the ledger. */
void ask_leave(struct work *w);
/* finish.c: the order that makes redelivery safe */
/* A job that was not loaded: what its client sent along is read from its record. */
void finish_words(struct work *w);
void finish_begin(struct work *w, const char *status, enum fault fault, struct str message);
void finish_write(struct work *w);
void finish_again(struct work *w, struct str result); /* granted in `finishing` */
/* Tells the followers of a job that is terminal already, by its state or by its record, and writes that where this work holds the claim.
 * @done: with @w as its context; NULL: nobody waits for it. */
struct redis_request *finish_tell(struct work *w, struct str state, int64_t attempt,
				  state_fn *done);
/* The scribe's words. */
void finish_lost(void *ctx);
void finish_wish(void *ctx);
void finish_flushed(void *ctx);
/* price.c: micro-dollars, rounded up, 10^15 at most; 0 where no price is known. Counts of @usage: as a provider's answer leaves them. */
int64_t price_of(const struct config *config, const char *provider, const char *model,
		 const struct usage *usage, uint64_t wall_ms);
/* Appends a line of the ledger. Lines move: pointers to others do not hold. */
struct work_call *work_call_add(struct work *w, const struct work_call *call);
/* calls as JSON */
void work_calls_json(const struct work *w, struct buf *out);

#endif
