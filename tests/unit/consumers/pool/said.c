#include "consumers/pool/said.h"

#include <string.h>

#include "lib/base/mem.h"
#include "tests/unit/test.h"

SUITE("consumers/pool/said");

#define KEY "sk-proj-0123456789abcdef"

static char room[SAID_MAX];

static struct str said(enum fault fault, const char *message)
{
	return said_words(room, fault, str_of(message), STR("req_7"), KEY);
}

TEST(the_client_reads_what_the_provider_says_of_his_request)
{
	ck_assert_view(said(FAULT_PROVIDER_BAD_REQUEST, "messages: must not be empty"),
		       "messages: must not be empty");
	ck_assert_view(said(FAULT_PROVIDER_TRANSPORT, ""), "");
}

TEST(what_is_said_of_an_account_is_our_own_text_and_the_requests_id)
{
	static const enum fault faults[] = {FAULT_PROVIDER_AUTH, FAULT_PROVIDER_QUOTA,
					    FAULT_PROVIDER_DENIED, FAULT_PROVIDER_RATE};

	for (size_t i = 0; i < countof(faults); i++) {
		struct str s = said(faults[i], "Incorrect API key provided: sk-pr***cdef, org-42");

		ck_assert(str_starts(s, fault_info(faults[i])->text));
		ck_assert(memmem(s.ptr, s.len, "(request req_7)", 15));
		ck_assert(!memmem(s.ptr, s.len, "sk-", 3) && !memmem(s.ptr, s.len, "org-42", 6));
	}
	ck_assert_view(said_words(room, FAULT_PROVIDER_AUTH, STR("x"), STR(""), KEY),
		       fault_info(FAULT_PROVIDER_AUTH)->text);
}

TEST(the_accounts_key_is_not_handed_on)
{
	char long_message[600];

	ck_assert_view(said(FAULT_PROVIDER_OVERLOADED, "a " KEY " b " KEY),
		       "a ************************ b ************************");
	ck_assert_view(said(FAULT_PROVIDER_OVERLOADED, "a sk-proj-01234"), "a *************");
	ck_assert_view(
	    said_words(room, FAULT_PROVIDER_OVERLOADED, STR("EMPTY hands"), STR(""), "EMPTY"),
	    "EMPTY hands");
	memset(long_message, 'x', sizeof(long_message));
	memcpy(long_message + SAID_MAX - 10, KEY, sizeof(KEY) - 1);
	struct str s = said_words(room, FAULT_PROVIDER_OVERLOADED,
				  (struct str){long_message, sizeof(long_message)}, STR(""), KEY);
	ck_assert_uint_eq(s.len, SAID_MAX);
	ck_assert(!memmem(s.ptr, s.len, "sk-", 3));
}

TEST(what_is_told_is_utf8_whatever_a_call_brought)
{
	char id[129];

	memset(id, 'x', sizeof(id));
	memcpy(id + 126, "\xC3\xA4", 3);
	for (int i = 0; i < 2; i++) {
		struct str s = said_words(room, i ? FAULT_PROVIDER_DENIED : FAULT_PROVIDER_CUT,
					  STR("a \xFF"), (struct str){id, 127}, KEY);

		ck_assert(s.len > 2 && str_utf8(s));
	}
}
