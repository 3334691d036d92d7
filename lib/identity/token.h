/* Signed opaque tokens: resume tokens. `v1.` + base64url of (purpose, expiry, fields,
 * HMAC-SHA-256). Stateless: any process with the same secret makes and reads them; they are signed,
 * not encrypted, so nothing secret goes in. Refuses to know what the fields mean,
 * and to be used once only (ticket.h). */
#ifndef SLUICE_IDENTITY_TOKEN_H
#define SLUICE_IDENTITY_TOKEN_H

#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/str.h"

#define TOKEN_SECRET_MIN 32
#define TOKEN_FIELDS_MAX 8
#define TOKEN_FIELD_BYTES_MAX 255
/* No token is longer. */
#define TOKEN_MAX 3072

/* What a token is for: one made for one purpose is forged for any other. */
enum token_purpose { TOKEN_RESUME = 1 };

/* The secrets that sign. Several, so that a secret can be changed: the first signs, each is
 * accepted. */
struct token_secrets {
	struct str secret[4]; /* TOKEN_SECRET_MIN bytes or more each; the caller's */
	size_t count;
};

/* Checks counts and lengths: 0, or -EINVAL. */
must_check int token_secrets_check(const struct token_secrets *secrets);
/* A fresh secret of TOKEN_SECRET_MIN bytes as hex (64 digits and a NUL), for who has none
 * configured. */
void token_secret_make(char out[static 65]);

/* What a token says. @field: at most TOKEN_FIELDS_MAX of TOKEN_FIELD_BYTES_MAX bytes each, any
 * bytes. */
struct token {
	enum token_purpose purpose;
	uint64_t expires_wall_ms;
	struct str field[TOKEN_FIELDS_MAX];
	size_t count;
};

/* Adds the token's text to @out: base64url characters and dots. Fields beyond the limits are our
 * own bug. */
void token_make(const struct token_secrets *secrets, const struct token *token, struct buf *out);

enum token_result {
	TOKEN_GOOD = 0,
	TOKEN_MALFORMED, /* not a token of this version */
	TOKEN_FORGED,	 /* the signature, or the purpose, is another */
	TOKEN_EXPIRED,	 /* signed, and @now_wall_ms is at or past its end; @ret_token is filled */
};

/* Reads @text, made for @purpose. @scratch holds the bytes that @ret_token's fields point to; it is
 * the caller's and must live as long. */
must_check enum token_result token_read(const struct token_secrets *secrets,
					enum token_purpose purpose, struct str text,
					uint64_t now_wall_ms, struct buf *scratch,
					struct token *ret_token);

#endif
