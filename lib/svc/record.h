/* Fills structs from maps of the configuration by their tables of options, with `${NAME}` from the environment. Internal
 * to lib/svc. Refuses to stop at the first mistake: all are counted and said. */
#ifndef SLUICE_SVC_RECORD_H
#define SLUICE_SVC_RECORD_H

#include <stddef.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/svc/option.h"
#include "lib/svc/tree.h"

struct record_reader {
	struct arena *arena;
	const char *name; /* of the file */
	struct buf *errors;
	unsigned mistakes;
	const char *(*env)(const char *name);
};

/* A table over a struct of values. */
struct record_table {
	const struct option *options;
	size_t count;
	void *values;
};

/* Says "NAME:LINE: …" and counts it. */
void record_refuse(struct record_reader *r, unsigned line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Fills the values of @tables (defaults first) from @map, a map or an empty node; @what names it in errors. Keys in
 * @others (NULL-ended, may be NULL) are left to the caller. A STRING with a lower limit must be there. */
void record_read(struct record_reader *r, const struct tree *map, const char *what,
		 const struct record_table *tables, size_t table_count, const char *const *others);

/* The number of entries of @list, which must be a list of maps (or empty); 0 otherwise. */
size_t record_count(struct record_reader *r, const struct tree *list, const char *what);

/* The line of @key in @map, or of the map where the key is not there. */
unsigned record_line(const struct tree *map, const char *key);

#endif
