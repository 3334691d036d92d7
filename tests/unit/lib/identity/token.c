#include "lib/identity/token.h"

#include <errno.h>

#include "tests/unit/test.h"

SUITE("identity/token");

/* A purpose that is not there yet. */
#define OTHER ((enum token_purpose)2)

static const struct token_secrets secrets = {{{"0123456789abcdef0123456789abcdef", 32}}, 1};

static struct token sample(void)
{
	return (struct token){
	    .purpose = TOKEN_RESUME,
	    .expires_wall_ms = 1000,
	    .field = {STR("ses_1"), STR("org_1"), {"\0\xff", 2}, {"", 0}},
	    .count = 4,
	};
}

static struct buf text;
static struct buf scratch;

static void make(void)
{
	struct token token = sample();

	buf_reset(&text);
	token_make(&secrets, &token, &text);
}

static enum token_result read_at(uint64_t now, struct token *token)
{
	return token_read(&secrets, TOKEN_RESUME, buf_str(&text), now, &scratch, token);
}

TEST(what_was_made_is_read_field_by_field)
{
	struct token token;

	make();
	ck_assert_int_eq(read_at(999, &token), TOKEN_GOOD);
	ck_assert_uint_eq(token.count, 4);
	ck_assert_view(token.field[0], "ses_1");
	ck_assert_view(token.field[1], "org_1");
	ck_assert(str_eq(token.field[2], (struct str){"\0\xff", 2}));
	ck_assert_uint_eq(token.field[3].len, 0);
}

TEST(it_ends_at_its_time_and_says_what_it_was)
{
	struct token token = {0};

	make();
	ck_assert_int_eq(read_at(1000, &token), TOKEN_EXPIRED);
	ck_assert_view(token.field[0], "ses_1");
}

TEST(no_character_of_it_can_be_changed)
{
	struct token token;

	make();
	for (size_t i = 0; i < text.len; i++) {
		char *at = text.data + text.head + i;
		char was = *at;

		*at = was == 'A' ? 'B' : 'A';
		ck_assert_int_ne(read_at(1, &token), TOKEN_GOOD);
		ck_assert_int_ne(read_at(1, &token), TOKEN_EXPIRED);
		*at = was;
	}
	ck_assert_int_eq(read_at(1, &token), TOKEN_GOOD);
}

TEST(one_that_is_cut_is_not_good)
{
	struct token token;

	make();
	for (size_t len = 0; len < text.len; len++)
		ck_assert_int_ne(token_read(&secrets, TOKEN_RESUME,
					    (struct str){text.data + text.head, len}, 1, &scratch,
					    &token),
				 TOKEN_GOOD);
}

TEST(another_spelling_of_the_same_bytes_is_malformed)
{
	struct token token;

	make();
	while ((text.len - 3) % 4)
		buf_add_char(&text, '=');
	if (text.data[text.head + text.len - 1] == '=')
		ck_assert_int_eq(read_at(1, &token), TOKEN_MALFORMED);
}

TEST(one_for_another_purpose_or_by_another_secret_is_forged)
{
	const struct token_secrets others = {{{"another secret of 32 bytes is th", 32}}, 1};
	struct token token;

	make();
	ck_assert_int_eq(token_read(&secrets, OTHER, buf_str(&text), 1, &scratch, &token),
			 TOKEN_FORGED);
	ck_assert_int_eq(token_read(&others, TOKEN_RESUME, buf_str(&text), 1, &scratch, &token),
			 TOKEN_FORGED);
}

TEST(an_older_secret_is_accepted_beside_the_new_one)
{
	const struct token_secrets both = {
	    {STR("another secret of 32 bytes is th"), STR("0123456789abcdef0123456789abcdef")}, 2};
	struct token token;

	make();
	ck_assert_int_eq(token_read(&both, TOKEN_RESUME, buf_str(&text), 1, &scratch, &token),
			 TOKEN_GOOD);
}

TEST(secrets_that_are_missing_or_short_are_refused)
{
	struct token_secrets none = {0};
	struct token_secrets small = {{STR("short")}, 1};
	char fresh[65];

	ck_assert_int_eq(token_secrets_check(&none), -EINVAL);
	ck_assert_int_eq(token_secrets_check(&small), -EINVAL);
	ck_assert_int_eq(token_secrets_check(&secrets), 0);
	token_secret_make(fresh);
	ck_assert_uint_eq(strlen(fresh), 64);
}

TEST(the_longest_token_fits_its_limit)
{
	struct token token = {.purpose = TOKEN_RESUME, .expires_wall_ms = UINT64_MAX, .count = 8};
	char field[255];
	struct token again;

	memset(field, 'x', sizeof(field));
	for (size_t i = 0; i < 8; i++)
		token.field[i] = (struct str){field, sizeof(field)};
	buf_reset(&text);
	token_make(&secrets, &token, &text);
	ck_assert_uint_le(text.len, TOKEN_MAX);
	ck_assert_int_eq(token_read(&secrets, TOKEN_RESUME, buf_str(&text), 1, &scratch, &again),
			 TOKEN_GOOD);
	ck_assert_uint_eq(again.field[7].len, 255);
}
