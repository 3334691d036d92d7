#include "lib/identity/ticket.h"

#include "tests/unit/test.h"

SUITE("lib/identity/ticket");

TEST(a_fresh_ticket_has_a_tickets_shape_and_not_a_keys)
{
	char one[TICKET_SIZE], two[TICKET_SIZE];

	ticket_make(one);
	ticket_make(two);
	ck_assert_uint_eq(strlen(one), TICKET_SIZE - 1);
	ck_assert(ticket_shape(str_of(one)));
	ck_assert(!keys_shape(str_of(one)));
	ck_assert_str_ne(one, two);
}

TEST(a_key_is_no_ticket)
{
	char key[KEYS_TOKEN_SIZE];

	keys_make(key);
	ck_assert(!ticket_shape(str_of(key)));
	ck_assert(!ticket_shape(STR("")));
	ck_assert(!ticket_shape(STR("tk-sluice-short")));
}
