/* Names in Redis. One hash tag per job and per session, so that a script's keys are on one node. Refuses to talk to Redis.
 *
 *   j:{job_…}            hash    a job's state (fields: README.md)
 *   out:{job_…}:ATTEMPT  string  the answer's bytes
 *   s:{ses_…}            hash    a session: org, task, system, turn, last, open, conv, created_ms, ttl_ms, metadata; p:{job}: turn
 *                                and job before it of each of its turns; d:{job}: its messages stand in the conversation; unheard:
 *                                made over HTTP, and no WebSocket client has joined it since: its jobs wait in no outbox
 *   c:{ses_…}            list    its conversation: JSON messages in order
 *   o:{org_… or ses_…}   zset    open jobs by created_ms
 *   i:{org_…}:HASH       hash    an Idempotency-Key: state, job, body, status, reply
 *   ob:{ses_…}           zset    the session's outbox: jobs that its WebSocket clients submitted, or others while it had such clients, that none has acknowledged, by time; `epoch`, whose score is Redis's epoch when PostgreSQL's part was read into it; and `cut`: more waited than it holds
 *   wished               zset    jobs that somebody wants cancelled and nobody holds, by time, until the scheduler has looked at them
 *   n:{job_…}            string  a mark for each time that a waiting job was to be nudged towards its end
 *   t:HASH               string  a ticket (by its SHA-256): what it is good for, until it is used or its time is over
 *   tk:LINE              channel takeovers of a line of WebSocket connections (one resume token after the other)
 *   ev:ID                channel live events of a session, or of a job without one
 *   ctl:WORKER           channel wishes for the jobs that a worker holds
 *   b:{QUOTA}            hash    a quota: its window (budget.lua); with it bl: (zset, the waiters' line), br: (hash, reservations),
 *                                bo:, bg: (zsets, open ones by slot, grants by their end), bm: (hash, processes), bt: (hash, tenants)
 *   sluice:epoch         string  "1 <ms> <random>": gone when Redis was emptied
 */
#ifndef SLUICE_SCHEMAS_KEYS_H
#define SLUICE_SCHEMAS_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/str.h"

#define KEY_SIZE 160

struct key {
	char text[KEY_SIZE];
	size_t len;
};
static inline struct str key_str(const struct key *k)
{
	return (struct str){k->text, k->len};
}

struct key key_job(struct str job);
struct key key_out(struct str job, int64_t attempt);
struct key key_session(struct str session);
struct key key_conversation(struct str session);
struct key key_open(struct str org_or_session);
struct key key_outbox(struct str session);
struct key key_takeover(struct str line);
struct key key_wished(void);
struct key key_nudge(struct str job);
struct key key_ticket(struct str hash_hex);
struct key key_idem(struct str org, struct str hash_hex);
struct key key_channel(struct str session_or_job);
struct key key_control(struct str worker);
/* What all processes know of a breaker: consumers/pool/breaker.h. */
struct key key_breaker(struct str id);
#define KEY_QUOTA_COUNT 7
/* The keys of the script `budget`, in its order. */
void key_quota(struct str quota, struct key ret_keys[static KEY_QUOTA_COUNT]);

/* ── live events, as they travel on a channel (version 1) ──
 *
 *   "1 delta job_… ATTEMPT AT\n" + the raw bytes
 *   "1 EV job_… ATTEMPT -\n" + the inside of a JSON object: the event's fields but ev, job, attempt ("" for none)
 *
 * EV: queued, started, part, reset, seam, transcript, result, fault (event.def). */
struct event {
	struct str ev;
	struct str job;
	int64_t attempt;
	int64_t at;	    /* delta only */
	struct str payload; /* delta: raw bytes; else JSON without braces */
};
enum event_parse { EVENT_OK = 0, EVENT_MALFORMED = 1 };
/* Views into @text. Another version is EVENT_MALFORMED. */
enum event_parse event_parse(struct str text, struct event *ret_event);
struct buf;
/* Appends the first line of an event. @at < 0 writes "-". */
void event_head(struct buf *out, const char *ev, struct str job, int64_t attempt, int64_t at);

#endif
