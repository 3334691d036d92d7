/* Following a job's answer: what front (SSE, compatible streams, ?wait) and push (WebSocket) share. A follow subscribes to the
 * job's channel, reads the state and the text from the wanted byte, then hands over what comes, without a gap or a repeat:
 * duplicates are dropped, a gap is read again from the stored answer, and after 2 s of silence the state is looked at, so a lost
 * event costs time only. It refuses to buffer for a slow reader: while paused it forgets deltas and reads them again on resume.
 *
 *   OPENING ──▶ LIVE ◀──▶ CATCHING_UP (gap, pause, new attempt, silence)
 *                └─▶ ENDED (result, fault, gone): last word
 */
#ifndef SLUICE_RELAY_FOLLOW_H
#define SLUICE_RELAY_FOLLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/log.h"
#include "lib/base/str.h"
#include "lib/relay/state.h"

struct loop;
struct blob;
struct event;
struct pg;
struct redis;
struct relay;
struct relay_lookup;
struct follow;

/* The end of a job, as a client reads it. Views live until the callback returns. */
struct follow_end {
	struct str status; /* succeeded, failed, expired, cancelled */
	int64_t attempt;
	const struct result *result; /* from the state or PostgreSQL; text only from PostgreSQL */
};

struct follow_ops {
	/* The first word: the present state, after the subscription stands. @resumed: the wanted (attempt, byte) goes on from
	 * exactly there; else the text begins at byte 0 of @view's attempt (the follower shows it as snapshot or reset). Of a
	 * fresh job nothing stands yet: @view says queued, attempt 0. */
	void (*state)(void *ctx, const struct job_view *view, bool resumed);
	/* Bytes of the answer at @at: exactly where the last ones ended. Never splits a code point. */
	void (*delta)(void *ctx, int64_t attempt, int64_t at, struct str text);
	/* Any other live event in its order; payload: inside of a JSON object (schemas/keys.h). Not: delta, result, fault. */
	void (*event)(void *ctx, const struct event *event);
	/* The answer is begun anew: its text starts at byte 0 of @attempt. */
	void (*reset)(void *ctx, int64_t attempt);
	/* Terminal, after all text was handed over. Last word. */
	void (*end)(void *ctx, const struct follow_end *end);
	/* Not known (another organisation's too), or its state cannot be read (@unsure). Last word. */
	void (*gone)(void *ctx, bool unsure);
};

/* One per process. @pg: where ended jobs are looked up. Both stay the caller's. */
struct relay *relay_new(struct loop *loop, struct redis *redis, struct pg *pg,
			const struct log *log);
/* Its follows are closed before. Accepts NULL. */
void relay_free(struct relay *relay);

struct follow_request {
	struct str job;
	struct str org;	    /* another organisation's job is gone */
	struct str session; /* so is another session's; empty: any */
	struct str channel; /* empty: looked up in the state first */
	int64_t attempt;    /* 0: from the beginning */
	int64_t at;
	/* The job is being submitted in this very turn: a missing state is not "gone" until @fresh_us passed. */
	bool fresh;
	uint64_t fresh_us;
	/* Bytes of the text that are read at a time; 0: 64 KiB. */
	size_t piece_bytes;
	/* With fresh: it may have been submitted before (the same Idempotency-Key): look at once. */
	bool submitted_before;
};
struct follow *follow_open(struct relay *relay, const struct follow_request *request,
			   const struct follow_ops *ops, void *ctx);
/* Where it stands. */
int64_t follow_attempt(const struct follow *follow);
int64_t follow_at(const struct follow *follow);
/* Slow reader: no delta comes while paused. */
void follow_pause(struct follow *follow, bool pause);
/* No callback afterwards; also from inside a callback. Accepts NULL. */
void follow_close(struct follow *follow);

/* Where answers above 256 KiB are read from; without it their text stays empty. The caller's. */
void relay_use_blob(struct relay *relay, struct blob *blob);

/* Reads an ended job from PostgreSQL, with its text. @done comes once, from the loop: @result NULL is "not there" where @sure.
 * Views live until the callback returns. */
struct relay_lookup *relay_result(struct relay *relay, struct str job, struct str org,
				  void (*done)(void *ctx, bool sure, const struct result *result),
				  void *ctx);
/* The same with at most @most bytes of the text, from byte @at on (none behind its end); @total: the bytes of all of it. */
struct relay_lookup *
relay_piece(struct relay *relay, struct str job, struct str org, int64_t at, size_t most,
	    void (*done)(void *ctx, bool sure, const struct result *result, int64_t total),
	    void *ctx);
/* No callback. Accepts NULL; not after @done. */
void relay_lookup_cancel(struct relay_lookup *lookup);
/* What a job that is neither in Redis nor in PostgreSQL is: true where it may have stood in a Redis that lost its memory. */
bool relay_unsure(const struct relay *relay, struct str job);
/* The same, with the reply to redis_ask_epoch (@result, @value): true where there is no such job, and never was in what Redis lost. */
bool relay_is_none(const struct relay *relay, struct str job, enum redis_result result,
		   const struct redis_value *value);

#endif
