#include "lib/net/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <errno.h>
#include <sys/random.h>

#include "lib/base/err.h"

void digest_sha256(struct str bytes, unsigned char out[static DIGEST_SHA256_SIZE])
{
	unsigned int size = 0;

	must(EVP_Digest(bytes.ptr ? bytes.ptr : "", bytes.len, out, &size, EVP_sha256(), NULL));
	must(size == DIGEST_SHA256_SIZE);
}

void digest_sha256_hex(struct str bytes, char out[static DIGEST_SHA256_HEX_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char raw[DIGEST_SHA256_SIZE];

	digest_sha256(bytes, raw);
	for (size_t i = 0; i < sizeof(raw); i++) {
		out[2 * i] = digits[raw[i] >> 4];
		out[2 * i + 1] = digits[raw[i] & 15];
	}
	out[2 * sizeof(raw)] = '\0';
}

void digest_hmac_sha256(struct str key, struct str bytes,
			unsigned char out[static DIGEST_SHA256_SIZE])
{
	unsigned int size = 0;

	must(HMAC(EVP_sha256(), key.ptr ? key.ptr : "", (int)key.len,
		  (const unsigned char *)(bytes.ptr ? bytes.ptr : ""), bytes.len, out, &size));
	must(size == DIGEST_SHA256_SIZE);
}

void digest_random(void *out, size_t size)
{
	char *at = out;

	while (size) {
		ssize_t n = getrandom(at, size, 0);

		if (n < 0 && errno == EINTR)
			continue;
		must(n > 0);
		at += n;
		size -= (size_t)n;
	}
}

bool digest_same(struct str a, struct str b)
{
	return a.len == b.len && (!a.len || CRYPTO_memcmp(a.ptr, b.ptr, a.len) == 0);
}
