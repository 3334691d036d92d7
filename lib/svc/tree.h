/* A YAML text as a plain tree in which every node knows its line: what config.c reads. Refuses
 * anchors, aliases, tags, several documents, keys that stand twice in a map and nesting over 16
 * levels. */
#ifndef SLUICE_SVC_TREE_H
#define SLUICE_SVC_TREE_H

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/str.h"

enum tree_kind { TREE_EMPTY, TREE_SCALAR, TREE_MAP, TREE_LIST };

struct tree {
	enum tree_kind kind; /* TREE_EMPTY: nothing was written ("key:") */
	unsigned line;	     /* from 1; of the key where there is one */
	struct str key;	     /* in a map: NUL-terminated */
	struct str text;     /* of a scalar: NUL-terminated, not yet substituted */
	struct tree *children;
	struct tree *next;
};

enum tree_result { TREE_OK = 0, TREE_MALFORMED = 1 };

/* Reads @text into @arena. On TREE_MALFORMED @errors has a line "NAME:LINE: what" more. An empty
 * text gives a node of kind TREE_EMPTY. */
must_check enum tree_result tree_read(struct arena *arena, const char *name, struct str text,
				      struct tree **ret_root, struct buf *errors);

/* NULL where the map has no such key. */
const struct tree *tree_find(const struct tree *map, const char *key);

#endif
