/* Signatures of webhooks as Standard Webhooks has them (github.com/standard-webhooks, specification 1.0): HMAC-SHA256 over
 * "id.timestamp.body" by a secret "whsec_" and base64. Refuses to keep secrets or to know a clock. */
#ifndef SLUICE_IDENTITY_SIGN_H
#define SLUICE_IDENTITY_SIGN_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/base/str.h"

/* "whsec_", 32 bytes in base64 (44 characters), NUL. */
#define SIGN_SECRET_SIZE 51

/* A new secret from the system's generator. */
void sign_secret_make(char out[static SIGN_SECRET_SIZE]);
/* True for "whsec_" and the base64 of 24 to 64 bytes. */
bool sign_secret_good(struct str secret);

struct sign_message {
	struct str id;	 /* webhook-id */
	uint64_t time_s; /* webhook-timestamp: seconds since 1970 */
	struct str body; /* as it is sent */
};

/* Appends the value of webhook-signature: "v1,BASE64" for each good one of @secrets (separated by blanks), with blanks between. */
void sign_message(const struct sign_message *message, struct str secrets, struct buf *out);

#endif
