/* Turning what is asked into a provider's request: the pieces that providers share. For files of this folder. */
#ifndef SLUICE_CONSUMERS_PROVIDERS_ASK_H
#define SLUICE_CONSUMERS_PROVIDERS_ASK_H

#include <stdbool.h>

#include "consumers/providers/provider.h"
#include "lib/base/json.h"

/* One line of the table of a foreign dialect's fields: how it is called here, or that it is dropped. */
struct ask_field {
	const char *theirs;
	const char *ours; /* NULL: handled by hand or without meaning here */
};

/* Copies the mapped fields of @from into @to; PROVIDER_CANNOT names the first that is not in the table. */
must_check enum provider_built ask_map(struct json_object *from, struct json_object *to,
				       const struct ask_field *table, char ret_why[static 128]);
/* The text of a content: a string, or a list of {type:"text", text}. False where it holds anything else. */
bool ask_text(struct json_object *content, struct buf *out);
/* The history, then @messages, as a fresh array (the items are shared). */
struct json_object *ask_messages(const struct ask *ask, struct json_object *messages);
/* A deep copy of the body in the provider's own dialect, with the history in front of its messages. */
struct json_object *ask_copy(const struct ask *ask);
/* Which version of a family @model names: what follows the first @family in it, as major * 100 + minor ("opus-4-7" is 407,
 * "gpt-5.4-mini" 504); dates are none. -1 where the family is not named, 0 where it is without a version. */
int ask_version(const char *model, const char *family);
/* Names the field that this model takes at its default alone. */
enum provider_built ask_refused(const char *field, const struct ask *ask, char ret_why[static 128]);
/* Puts what was answered already behind the messages of @body, as the beginning of the answer that is asked for: where the last of them
 * is an assistant's, behind its text. The longest answer that @body asks for is less by it, and 1 at least. */
void ask_put_prefix(const struct ask *ask, struct json_object *body);
/* Of what is shared by many requests: the same for the same bytes, never 0. @hash: of what comes before it, 0 for nothing. */
uint64_t ask_hash(uint64_t hash, struct str text);
/* anthropic_cache.c: marks the stable prefix of @body. *@ret_key names what tools and system share with other requests; 0: nothing. */
void ask_cache_anthropic(const struct ask *ask, struct json_object *body, uint64_t *ret_key);
void ask_write(struct provider_request *request, struct json_object *body);
void ask_add_field(struct provider_request *request, const char *name, struct str value);

#endif
