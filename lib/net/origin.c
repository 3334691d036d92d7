#include "lib/net/origin.h"

#include <errno.h>
#include <string.h>

/* The next word of a list that is separated by blanks. */
static bool next(struct str *list, struct str *ret_word)
{
	while (str_split(list, ' ', ret_word))
		if (ret_word->len)
			return true;
	return false;
}

static bool is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
}

/* As browsers write one: in lower case, nothing behind the port. */
static bool is_origin(struct str word)
{
	size_t scheme = 0;

	while (scheme < word.len && (is_plain(word.ptr[scheme]) || word.ptr[scheme] == '+'))
		scheme++;
	if (!scheme || word.len <= scheme + 3 || memcmp(word.ptr + scheme, "://", 3) != 0)
		return false;
	for (size_t i = scheme + 3; i < word.len; i++)
		if (!is_plain(word.ptr[i]) && !memchr("_:[]", word.ptr[i], 4))
			return false;
	return true;
}

int origin_list_check(const char *origins, struct str *ret_bad)
{
	struct str list = str_of(origins), word;

	if (strcmp(origins, "*") == 0)
		return 0;
	while (next(&list, &word)) {
		if (is_origin(word))
			continue;
		*ret_bad = word;
		return err_origin(-EINVAL);
	}
	return 0;
}

bool origin_list_has(const char *origins, struct str origin)
{
	struct str list = str_of(origins), word;

	if (!origin.len)
		return false;
	if (strcmp(origins, "*") == 0)
		return true;
	while (next(&list, &word))
		if (str_eq(word, origin))
			return true;
	return false;
}
