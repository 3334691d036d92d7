#include "lib/identity/keys.h"

#include "tests/unit/test.h"

SUITE("identity/keys");

TEST(a_fresh_key_has_a_keys_shape_and_is_another_each_time)
{
	char a[KEYS_TOKEN_SIZE];
	char b[KEYS_TOKEN_SIZE];

	keys_make(a);
	keys_make(b);
	ck_assert(keys_shape(str_of(a)));
	ck_assert_str_ne(a, b);
	ck_assert_uint_eq(strlen(a), KEYS_TOKEN_SIZE - 1);
}

TEST(what_has_another_shape_is_no_key)
{
	ck_assert(!keys_shape(STR("")));
	ck_assert(!keys_shape(STR("sk-sluice-")));
	ck_assert(!keys_shape(STR("sk-other--0123456789012345678901234567890123456789")));
	ck_assert(!keys_shape(STR("sk-sluice-012345678901234567890123456789012345678-")));
	ck_assert(!keys_shape(STR("sk-sluice-01234567890123456789012345678901234567890")));
	ck_assert(keys_shape(STR("sk-sluice-0123456789012345678901234567890123456789")));
}

TEST(the_table_holds_the_digest_of_the_whole_key)
{
	char hash[DIGEST_SHA256_HEX_SIZE];

	keys_hash(STR("abc"), hash);
	ck_assert_str_eq(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}
