/* The outbox: jobs of a session whose end no client has acknowledged. Redis holds the newest 256 from the moment they are accepted;
 * PostgreSQL holds those that ended (the archive makes the row with the result), for longer, and through a loss of Redis. Where Redis
 * cannot have all (the set has no entry `epoch`, or one of another epoch of Redis; or the session is older than the epoch: a job that was
 * accepted before a loss may end any time after it; or it has an entry `cut`: more jobs waited than it holds) both are read, what PostgreSQL had is written back, and what it knows to be acknowledged is dropped: a job that runs again after a loss is listed again. Acknowledgements go to Redis at once and to PostgreSQL gathered. Refuses to tell anybody anything. */
#ifndef SLUICE_PUSH_OUTBOX_H
#define SLUICE_PUSH_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/str.h"

struct outbox;
struct outbox_look;
struct outbox_put;
struct push;
struct session;

/* One per process. */
struct outbox *outbox_new(struct push *push);
void outbox_free(struct outbox *outbox); /* accepts NULL */
/* True where no acknowledgement is on its way to PostgreSQL and no accepted job to Redis; push_settled is called when that comes true. */
bool outbox_idle(const struct outbox *outbox);
/* What waits is sent at once from now on. */
void outbox_drain(struct outbox *outbox);

/* @s has a session that was made just now: there is nothing in PostgreSQL that Redis lacks. */
void outbox_begin(struct session *s);
/* @job was accepted by the broker. Sent again until Redis has it, or it is acknowledged or forgotten: @done comes then, from the loop, also
 * where @s is over; it is not said before, since the list says of itself that it has all. NULL where too many are on their way: nothing comes. */
struct outbox_put *outbox_put(struct session *s, struct str job, int64_t created_ms,
			      void (*done)(void *ctx), void *ctx);
/* Nobody waits for it any more; it is sent all the same. Accepts NULL; not after @done. */
void outbox_put_leave(struct outbox_put *put);
/* A client of @s has the end of @job. @known: this connection was told of the job (else only what stands already is changed). */
void outbox_ack(struct session *s, struct str job, bool known);
/* There is nothing to wait for: the job is not known any more. */
void outbox_forget(struct session *s, struct str job);

/* The newest so many (option outbox_jobs), oldest first. @done comes once, from the loop; the views live until it returns. @more: there may be
 * others, which are among the newest when some of these were acknowledged. Where a store does not answer, the other's alone, and @more. */
struct outbox_look *outbox_list(struct session *s,
				void (*done)(struct session *s, const struct str *jobs,
					     size_t count, bool more));
void outbox_cancel(struct outbox_look *look); /* accepts NULL */

#endif
