/* lib/identity/token.h: what was not signed is never good; fields of what is read lie inside the scratch bytes. The input
 * is tried as a text, and as the bytes of a signed payload. */
#include "lib/identity/token.h"

#include "lib/base/enc.h"
#include "lib/base/err.h"
#include "lib/net/digest.h"
#include "tests/fuzz/fuzz.h"

static const struct token_secrets secrets = {{{"0123456789abcdef0123456789abcdef", 32}}, 1};

static void check(struct str text, bool may_be_good)
{
	struct buf scratch = {0};
	struct token token;
	enum token_result r = token_read(&secrets, TOKEN_RESUME, text, 1000, &scratch, &token);
	size_t sum = 0;

	if (r == TOKEN_GOOD || r == TOKEN_EXPIRED) {
		struct buf again = {0};

		must(may_be_good && token.count <= TOKEN_FIELDS_MAX);
		for (size_t i = 0; i < token.count; i++) {
			for (size_t k = 0; k < token.field[i].len; k++)
				sum += (unsigned char)token.field[i].ptr[k];
		}
		token_make(&secrets, &token, &again);
		must(str_eq(buf_str(&again), text));
		buf_fini(&again);
	}
	must(sum <= 255 * scratch.len);
	buf_fini(&scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str bytes = {size ? (const char *)data : "", size};
	unsigned char signature[DIGEST_SHA256_SIZE];
	struct buf text = {0};
	struct buf payload = {0};

	check(bytes, false);
	buf_add_text(&payload, "v1.");
	buf_add_str(&payload, bytes);
	digest_hmac_sha256(secrets.secret[0], buf_str(&payload), signature);
	buf_add(&payload, signature, sizeof(signature));
	buf_take(&payload, 3);
	buf_add_text(&text, "v1.");
	enc_base64url(&text, buf_str(&payload));
	check(buf_str(&text), true);
	buf_fini(&payload);
	buf_fini(&text);
	return 0;
}
