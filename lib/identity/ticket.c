#include "lib/identity/ticket.h"

#include <stdio.h>
#include <string.h>

#include "lib/net/digest.h"
#include "schemas/keys.h"

/* A value is "1 org key session": its version first. */
#define VERSION "1"
#define VALUE_SIZE (KEYS_ORG_SIZE + KEYS_ID_SIZE + ID_SIZE + 8)

_Static_assert(TICKET_SIZE - sizeof(TICKET_PREFIX) == KEYS_TOKEN_SIZE - sizeof(KEYS_PREFIX),
	       "a ticket has as many characters of chance as a key");

void ticket_make(char out[static TICKET_SIZE])
{
	char key[KEYS_TOKEN_SIZE];

	keys_make(key);
	memcpy(out, TICKET_PREFIX, sizeof(TICKET_PREFIX) - 1);
	memcpy(out + sizeof(TICKET_PREFIX) - 1, key + sizeof(KEYS_PREFIX) - 1,
	       TICKET_SIZE - sizeof(TICKET_PREFIX) + 1);
}

bool ticket_shape(struct str text)
{
	return text.len == TICKET_SIZE - 1 && str_starts(text, TICKET_PREFIX);
}

static struct key key_of(struct str text)
{
	char hash[DIGEST_SHA256_HEX_SIZE];

	digest_sha256_hex(text, hash);
	return key_ticket(str_of(hash));
}

struct redis_request *ticket_issue(struct redis *redis, struct str text,
				   const struct ticket *ticket, redis_fn *done, void *ctx)
{
	struct key key = key_of(text);
	char value[VALUE_SIZE], ttl[16];

	snprintf(value, sizeof(value), VERSION " %s %s %s", ticket->who.org, ticket->who.key,
		 ticket->session);
	snprintf(ttl, sizeof(ttl), "%d", TICKET_TTL_MS);
	return redis_command(
	    redis, STR(""),
	    (const struct str[]){STR("SET"), key_str(&key), str_of(value), STR("PX"), str_of(ttl)},
	    5, done, ctx);
}

static bool copy(struct str *rest, char *out, size_t size)
{
	struct str word;

	if (!str_split(rest, ' ', &word) || word.len >= size)
		return false;
	memcpy(out, word.ptr, word.len);
	out[word.len] = '\0';
	return true;
}

static bool read_value(struct str value, struct ticket *ret_ticket)
{
	struct ticket ticket = {0};
	struct str version;

	if (!str_split(&value, ' ', &version) || !str_is(version, VERSION) ||
	    !copy(&value, ticket.who.org, sizeof(ticket.who.org)) ||
	    !copy(&value, ticket.who.key, sizeof(ticket.who.key)) ||
	    !copy(&value, ticket.session, sizeof(ticket.session)))
		return false;
	*ret_ticket = ticket;
	return ticket.who.org[0] && id_is(str_of(ticket.session), "ses");
}

static void on_value(void *ctx, redis_then_fn *then, enum redis_result result,
		     const struct redis_value *value)
{
	ticket_fn *done = (ticket_fn *)then;
	struct ticket ticket;

	if (result != REDIS_OK || value->type == REDIS_ERROR)
		done(ctx, TICKET_UNSURE, NULL);
	else if (value->type == REDIS_STR && read_value(value->str, &ticket))
		done(ctx, TICKET_GOOD, &ticket);
	else
		done(ctx, TICKET_BAD, NULL);
}

struct redis_request *ticket_redeem(struct redis *redis, struct str text, ticket_fn *done,
				    void *ctx)
{
	struct key key = key_of(text);

	return redis_command_typed(redis, STR(""),
				   (const struct str[]){STR("GETDEL"), key_str(&key)}, 2, on_value,
				   ctx, (redis_then_fn *)done);
}
