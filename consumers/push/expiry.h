/* Credentials that end while their connections stand: a key that was revoked. Every credentials_ms the keys of all open connections
 * are looked up, in one statement for the process, and connections by keys that hold no more are closed with 3502. Refuses to judge
 * while PostgreSQL does not answer: the next look does. */
#ifndef SLUICE_PUSH_EXPIRY_H
#define SLUICE_PUSH_EXPIRY_H

struct expiry;
struct push;

/* One per process. */
struct expiry *expiry_new(struct push *push);
void expiry_free(struct expiry *expiry); /* accepts NULL */

#endif
