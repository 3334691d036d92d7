#include "consumers/pool/said.h"

#include <stdio.h>
#include <string.h>

/* What is shorter is a word that servers without keys are given, and no secret. */
#define KEY_MIN 6

static bool of_account(enum fault fault)
{
	return fault == FAULT_PROVIDER_AUTH || fault == FAULT_PROVIDER_QUOTA ||
	       fault == FAULT_PROVIDER_DENIED || fault == FAULT_PROVIDER_RATE;
}

/* Also the beginning of a key, at the end of a message that was cut there. */
static void hide(char *text, size_t len, const char *key)
{
	size_t key_len = strlen(key);

	for (size_t i = 0; key_len >= KEY_MIN && i + KEY_MIN <= len; i++) {
		size_t n = key_len < len - i ? key_len : len - i;

		if (memcmp(text + i, key, n) == 0)
			memset(text + i, '*', n);
	}
}

struct str said_words(char room[static SAID_MAX], enum fault fault, struct str message,
		      struct str request_id, const char *key)
{
	char text[2 * SAID_MAX];
	size_t len = str_utf8_cut(message, sizeof(text));

	if (of_account(fault)) {
		const char *own = fault_info(fault)->text;
		int n = request_id.len ? snprintf(text, sizeof(text), "%s (request %.*s)", own,
						  STR_FMT(request_id))
				       : snprintf(text, sizeof(text), "%s", own);

		len = n < (int)sizeof(text) ? (size_t)n : sizeof(text) - 1;
		return str_utf8_clean((struct str){text, len}, room, SAID_MAX);
	}
	memcpy(text, message.ptr ? message.ptr : "", len);
	hide(text, len, key ? key : "");
	return str_utf8_clean((struct str){text, len}, room, SAID_MAX);
}
