#include "lib/identity/token.h"

#include <errno.h>
#include <string.h>

#include "lib/base/enc.h"
#include "lib/base/err.h"
#include "lib/base/mem.h"
#include "lib/net/digest.h"

/* The bytes: purpose (1), expiry in ms (8, big-endian), count (1), each field's length (1) and bytes, the signature of
 * "v1." and all of them (32). */
#define PREFIX "v1."
#define PREFIX_LEN (sizeof(PREFIX) - 1)
#define HEAD_LEN 10

int token_secrets_check(const struct token_secrets *secrets)
{
	if (!secrets->count || secrets->count > countof(secrets->secret))
		return err_origin(-EINVAL);
	for (size_t i = 0; i < secrets->count; i++) {
		if (secrets->secret[i].len < TOKEN_SECRET_MIN)
			return err_origin(-EINVAL);
	}
	return 0;
}

void token_secret_make(char out[static 65])
{
	unsigned char bytes[TOKEN_SECRET_MIN];
	struct buf hex = {0};

	digest_random(bytes, sizeof(bytes));
	enc_hex(&hex, (struct str){(const char *)bytes, sizeof(bytes)});
	memcpy(out, buf_text(&hex), 65);
	mem_wipe(bytes, sizeof(bytes));
	mem_wipe(hex.data, hex.cap);
	buf_fini(&hex);
}

/* @signed_part begins with the prefix. */
static void sign(struct str secret, struct str signed_part, char out[static DIGEST_SHA256_SIZE])
{
	digest_hmac_sha256(secret, signed_part, (unsigned char *)out);
}

void token_make(const struct token_secrets *secrets, const struct token *token, struct buf *out)
{
	struct buf bytes = {0};
	char signature[DIGEST_SHA256_SIZE];

	must(secrets->count > 0 && token->count <= TOKEN_FIELDS_MAX);
	buf_add(&bytes, PREFIX, PREFIX_LEN);
	buf_add_char(&bytes, (char)token->purpose);
	for (int shift = 56; shift >= 0; shift -= 8)
		buf_add_char(&bytes, (char)(token->expires_wall_ms >> shift));
	buf_add_char(&bytes, (char)token->count);
	for (size_t i = 0; i < token->count; i++) {
		must(token->field[i].len <= TOKEN_FIELD_BYTES_MAX);
		buf_add_char(&bytes, (char)token->field[i].len);
		buf_add_str(&bytes, token->field[i]);
	}
	sign(secrets->secret[0], buf_str(&bytes), signature);
	buf_add(&bytes, signature, sizeof(signature));
	buf_take(&bytes, PREFIX_LEN);
	buf_add(out, PREFIX, PREFIX_LEN);
	enc_base64url(out, buf_str(&bytes));
	buf_fini(&bytes);
}

/* The text that token_make would have written for the bytes, and no other spelling of them. */
static bool canonical(struct str text, struct str bytes)
{
	struct buf again = {0};
	bool same;

	enc_base64url(&again, bytes);
	same = str_eq(text, buf_str(&again));
	buf_fini(&again);
	return same;
}

static bool signed_by_us(const struct token_secrets *secrets, struct str signed_part,
			 struct str signature)
{
	bool good = false;

	for (size_t i = 0; i < secrets->count; i++) {
		char ours[DIGEST_SHA256_SIZE];

		sign(secrets->secret[i], signed_part, ours);
		good |= digest_same(signature, (struct str){ours, sizeof(ours)});
	}
	return good;
}

/* The fields of @rest, which must be used up. */
static bool read_fields(struct str rest, size_t count, struct token *token)
{
	if (count > TOKEN_FIELDS_MAX)
		return false;
	for (size_t i = 0; i < count; i++) {
		size_t len = rest.len ? (unsigned char)rest.ptr[0] : 0;

		if (!rest.len || len > rest.len - 1)
			return false;
		token->field[i] = (struct str){rest.ptr + 1, len};
		rest = (struct str){rest.ptr + 1 + len, rest.len - 1 - len};
	}
	token->count = count;
	return rest.len == 0;
}

enum token_result token_read(const struct token_secrets *secrets, enum token_purpose purpose,
			     struct str text, uint64_t now_wall_ms, struct buf *scratch,
			     struct token *ret_token)
{
	struct token token = {0};
	struct str body;
	struct str bytes;
	struct str payload;

	if (text.len > TOKEN_MAX || !str_starts(text, PREFIX))
		return TOKEN_MALFORMED;
	body = (struct str){text.ptr + PREFIX_LEN, text.len - PREFIX_LEN};
	buf_reset(scratch);
	buf_add(scratch, PREFIX, PREFIX_LEN);
	if (enc_base64_decode(scratch, body) != ENC_OK)
		return TOKEN_MALFORMED;
	bytes = buf_str(scratch);
	if (bytes.len < PREFIX_LEN + HEAD_LEN + DIGEST_SHA256_SIZE ||
	    !canonical(body, (struct str){bytes.ptr + PREFIX_LEN, bytes.len - PREFIX_LEN}))
		return TOKEN_MALFORMED;
	bytes.len -= DIGEST_SHA256_SIZE;
	if (!signed_by_us(secrets, bytes, (struct str){bytes.ptr + bytes.len, DIGEST_SHA256_SIZE}))
		return TOKEN_FORGED;
	payload = (struct str){bytes.ptr + PREFIX_LEN, bytes.len - PREFIX_LEN};
	token.purpose = (enum token_purpose)(unsigned char)payload.ptr[0];
	for (size_t i = 1; i <= 8; i++)
		token.expires_wall_ms = token.expires_wall_ms << 8 | (unsigned char)payload.ptr[i];
	if (!read_fields((struct str){payload.ptr + HEAD_LEN, payload.len - HEAD_LEN},
			 (unsigned char)payload.ptr[9], &token))
		return TOKEN_MALFORMED;
	if (token.purpose != purpose)
		return TOKEN_FORGED;
	*ret_token = token;
	return now_wall_ms >= token.expires_wall_ms ? TOKEN_EXPIRED : TOKEN_GOOD;
}
