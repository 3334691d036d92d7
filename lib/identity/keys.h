/* API keys: who asks. A key is `sk-sluice-` and 40 characters of base62; the table api_keys holds
 * its SHA-256, never the key. Answers are remembered (good ones for 60 s, bad ones for 5 s, so that
 * long is what revoking a key takes). While PostgreSQL is away a remembered key stays good for an
 * hour; others are unsure (503), never let through and never called bad. One that does not answer
 * for 3 s counts as away for that key until it does. Refuses to log keys.
 *
 *   keys_check ─▶ remembered? ─▶ callback in the next turn
 *                 else one SELECT, shared by all who ask for the same key meanwhile */
#ifndef SLUICE_IDENTITY_KEYS_H
#define SLUICE_IDENTITY_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/id.h"
#include "lib/base/log.h"
#include "lib/base/str.h"
#include "lib/net/digest.h"

struct loop;
struct pg;
struct keys;
struct keys_request;

#define KEYS_PREFIX "sk-sluice-"
/* The prefix, 40 characters and a NUL. */
#define KEYS_TOKEN_SIZE 51
#define KEYS_ORG_SIZE 64
#define KEYS_ID_SIZE 64

/* Who asks. */
struct identity {
	char org[KEYS_ORG_SIZE]; /* "org_…" */
	char key[KEYS_ID_SIZE];	 /* "key_…": for logs and lists */
};

enum keys_result {
	KEYS_GOOD = 0,
	KEYS_BAD,    /* unknown or revoked: 401 */
	KEYS_UNSURE, /* PostgreSQL could not be asked, or does not answer: 503 */
};

struct keys_options {
	uint64_t good_us;      /* 60 s: how long a good answer is taken without asking */
	uint64_t bad_us;       /* 5 s: a bad one */
	uint64_t ask_us;       /* 3 s: how long an answer is waited for */
	uint64_t away_us;      /* 1 h: how long a good answer holds while PostgreSQL is away */
	size_t max_remembered; /* 100000 keys; the oldest is forgotten first */
};
struct keys_options keys_defaults(void);

/* @pg is the caller's and outlives the keys. @options NULL: the defaults. Never NULL. */
struct keys *keys_new(struct loop *loop, struct pg *pg, const struct keys_options *options,
		      const struct log *log);
/* Nobody is called any more. Accepts NULL. */
void keys_free(struct keys *keys);

/* @identity is there with KEYS_GOOD alone and lives until the callback returns. */
typedef void keys_fn(void *ctx, enum keys_result result, const struct identity *identity);

/* Looks @token (as the client sent it, without "Bearer ") up. @done comes from the loop. The
 * request is valid until
 * @done and may be given to keys_cancel. */
struct keys_request *keys_check(struct keys *keys, struct str token, keys_fn *done, void *ctx);
/* No callback. Accepts NULL. */
void keys_cancel(struct keys_request *request);
/* Forgets what is remembered: a reload, or a test. */
void keys_forget(struct keys *keys);

/* A fresh key, from the system's generator. */
void keys_make(char out[static KEYS_TOKEN_SIZE]);
/* What the table holds: SHA-256 of the whole key as 64 lower-case hex digits. */
void keys_hash(struct str token, char out[static DIGEST_SHA256_HEX_SIZE]);
/* True where @token has a key's shape; others are bad without a question. */
bool keys_shape(struct str token);

/* Adds @token for @org, which must be in orgs; @id "key_…", @name what people call it. @done:
 * @error 0, -EEXIST (that key or id is there), -EINVAL (no such org) or -EAGAIN (PostgreSQL did not
 * answer: ask again). For tools; not cancelable. */
void keys_add(struct pg *pg, struct str token, const char *id, const char *org, const char *name,
	      void (*done)(void *ctx, int error), void *ctx);
/* Revokes the key with @id: @error 0, -ENOENT, -EAGAIN. */
void keys_revoke(struct pg *pg, const char *id, void (*done)(void *ctx, int error), void *ctx);

#endif
