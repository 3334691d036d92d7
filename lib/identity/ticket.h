/* Tickets: what a browser shows in place of a key, which it must not hold. A ticket is good once, for a minute, and for one session
 * of one organisation: who redeems it may do what belongs to that session and nothing else. It is `tk-sluice-` and 40 characters of
 * base62; Redis holds its SHA-256 and what it is good for, never the ticket, and gives it away once (GETDEL). A Redis that was
 * emptied knows no tickets: their holders ask for new ones. Refuses to look whether the session stands.
 *
 *   issued ──▶ redeemed (gone)
 *      └──▶ too old (gone) */
#ifndef SLUICE_IDENTITY_TICKET_H
#define SLUICE_IDENTITY_TICKET_H

#include <stdbool.h>

#include "lib/base/id.h"
#include "lib/base/str.h"
#include "lib/identity/keys.h"
#include "lib/store/redis.h"

#define TICKET_PREFIX "tk-sluice-"
/* The prefix, 40 characters and a NUL. */
#define TICKET_SIZE 51
#define TICKET_TTL_MS 60000

/* What a ticket is good for. */
struct ticket {
	struct identity who;
	char session[ID_SIZE];
};

/* A fresh one, from the system's generator. */
void ticket_make(char out[static TICKET_SIZE]);
/* True where @text has a ticket's shape; no key has. */
bool ticket_shape(struct str text);

/* Puts @text (of ticket_make) down as good for @ticket, for TICKET_TTL_MS. @done as redis_command's: REDIS_OK with REDIS_STATUS
 * is "it holds"; anything else, and the ticket must not be given out. */
struct redis_request *ticket_issue(struct redis *redis, struct str text,
				   const struct ticket *ticket, redis_fn *done, void *ctx);

enum ticket_result {
	TICKET_GOOD = 0,
	TICKET_BAD,    /* unknown, used or too old */
	TICKET_UNSURE, /* Redis did not say; the ticket may be used up */
};
/* @ticket is there with TICKET_GOOD alone and lives until the callback returns. */
typedef void ticket_fn(void *ctx, enum ticket_result result, const struct ticket *ticket);

/* Uses @text up. @done comes from the loop, and not after redis_cancel of the returned request. */
struct redis_request *ticket_redeem(struct redis *redis, struct str text, ticket_fn *done,
				    void *ctx);

#endif
