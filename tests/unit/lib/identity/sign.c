#include "lib/identity/sign.h"

#include "tests/unit/test.h"

SUITE("identity/sign");

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define OTHER "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"

static const char *signed_by(const char *secrets)
{
	static struct buf out;
	struct sign_message m = {.id = STR("msg_p5jXN8AQM9LWM0D4loKWxJek"),
				 .time_s = 1614265330,
				 .body = STR("{\"test\": 2432232314}")};

	buf_fini(&out);
	sign_message(&m, str_of(secrets), &out);
	return buf_text(&out);
}

/* The vector that the reference libraries of Standard Webhooks share. */
TEST(a_message_is_signed_as_the_reference_does)
{
	ck_assert_str_eq(signed_by(SECRET), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

TEST(two_secrets_make_two_signatures)
{
	const char *both = signed_by(OTHER " " SECRET);

	ck_assert(str_starts(str_of(both), "v1,"));
	ck_assert_ptr_nonnull(strstr(both, " v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
}

TEST(a_new_secret_is_good_and_is_no_other)
{
	char a[SIGN_SECRET_SIZE], b[SIGN_SECRET_SIZE];

	sign_secret_make(a);
	sign_secret_make(b);
	ck_assert_uint_eq(strlen(a), SIGN_SECRET_SIZE - 1);
	ck_assert(sign_secret_good(str_of(a)));
	ck_assert(strcmp(a, b) != 0);
}

TEST(what_is_no_secret_signs_nothing)
{
	static const char *const bad[] = {
	    "", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!!!!"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(!sign_secret_good(str_of(bad[i])), "%s", bad[i]);
	ck_assert_str_eq(signed_by("whsec_c2hvcnQ="), "");
}
