/* The migrations of schemas/sql/, compiled in, in their order. Refuses to apply them: pg_migrate does. */
#ifndef SLUICE_SCHEMAS_SQL_H
#define SLUICE_SCHEMAS_SQL_H

#include <stddef.h>

struct sql_file {
	int number;	  /* of NNN_name.sql */
	const char *name; /* "001_base" */
	const char *text;
};

extern const struct sql_file sql_files[];
extern const size_t sql_file_count;

#endif
