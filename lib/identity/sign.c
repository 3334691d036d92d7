#include "lib/identity/sign.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/enc.h"
#include "lib/base/mem.h"
#include "lib/net/digest.h"

#define PREFIX "whsec_"
#define KEY_BYTES 32
#define KEY_MIN 24
#define KEY_MAX 64

static void wipe(struct buf *secret)
{
	if (secret->data)
		mem_wipe(secret->data, secret->cap);
	buf_fini(secret);
}

/* The key's bytes; false where @secret holds none. The caller wipes @key. */
static bool key_of(struct str secret, struct buf *key)
{
	struct str text = {secret.ptr + strlen(PREFIX), secret.len - strlen(PREFIX)};

	return str_starts(secret, PREFIX) && enc_base64_decode(key, text) == ENC_OK &&
	       key->len >= KEY_MIN && key->len <= KEY_MAX;
}

bool sign_secret_good(struct str secret)
{
	struct buf key = {0};
	bool good = key_of(secret, &key);

	wipe(&key);
	return good;
}

void sign_secret_make(char out[static SIGN_SECRET_SIZE])
{
	unsigned char key[KEY_BYTES];
	struct buf text = {0};

	digest_random(key, sizeof(key));
	enc_base64(&text, (struct str){(const char *)key, sizeof(key)});
	snprintf(out, SIGN_SECRET_SIZE, PREFIX "%s", buf_text(&text));
	mem_wipe(key, sizeof(key));
	wipe(&text);
}

void sign_message(const struct sign_message *message, struct str secrets, struct buf *out)
{
	unsigned char digest[DIGEST_SHA256_SIZE];
	struct buf content = {0};
	struct str secret;
	bool any = false;

	buf_add_str(&content, message->id);
	buf_add_char(&content, '.');
	buf_add_u64(&content, message->time_s);
	buf_add_char(&content, '.');
	buf_add_str(&content, message->body);
	while (str_split(&secrets, ' ', &secret)) {
		struct buf key = {0};

		if (key_of(secret, &key)) {
			digest_hmac_sha256(buf_str(&key), buf_str(&content), digest);
			buf_add_text(out, any ? " v1," : "v1,");
			enc_base64(out, (struct str){(const char *)digest, sizeof(digest)});
			any = true;
		}
		wipe(&key);
	}
	buf_fini(&content);
}
