#include "lib/net/digest.h"

#include "lib/base/buf.h"
#include "lib/base/enc.h"
#include "tests/unit/test.h"

SUITE("net/digest");

TEST(an_hmac_is_that_of_rfc_4231)
{
	unsigned char out[DIGEST_SHA256_SIZE];
	struct buf hex = {0};

	digest_hmac_sha256(STR("Jefe"), STR("what do ya want for nothing?"), out);
	enc_hex(&hex, (struct str){(const char *)out, sizeof(out)});
	ck_assert_view(buf_str(&hex),
		       "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	buf_fini(&hex);
}

TEST(the_digest_of_nothing_is_known)
{
	char hex[DIGEST_SHA256_HEX_SIZE];

	digest_sha256_hex((struct str){0}, hex);
	ck_assert_str_eq(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(same_means_every_byte_and_the_length)
{
	ck_assert(digest_same(STR("abc"), STR("abc")));
	ck_assert(!digest_same(STR("abc"), STR("abd")));
	ck_assert(!digest_same(STR("abc"), STR("abcd")));
	ck_assert(digest_same((struct str){0}, STR("")));
}

TEST(random_bytes_differ)
{
	char a[32] = {0};
	char b[32] = {0};

	digest_random(a, sizeof(a));
	digest_random(b, sizeof(b));
	ck_assert(memcmp(a, b, sizeof(a)) != 0);
}
