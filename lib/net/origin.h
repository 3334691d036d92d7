/* Web pages by their origins (RFC 6454), as options list them: `*` alone, or scheme://host[:port] each, separated by blanks. Refuses
 * nothing by itself. */
#ifndef SLUICE_NET_ORIGIN_H
#define SLUICE_NET_ORIGIN_H

#include <stdbool.h>

#include "lib/base/err.h"
#include "lib/base/str.h"

/* The list is well-formed: what a browser sends as Origin can be equal to each of its words. 0 or -EINVAL; @ret_bad is the word that
 * is none, a view of @list. */
must_check int origin_list_check(const char *list, struct str *ret_bad);
/* True where a page of @origin is among them; not where it is empty. */
bool origin_list_has(const char *list, struct str origin);

#endif
