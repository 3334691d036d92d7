/* A result record as rows of PostgreSQL: reads the record, checks what the tables would refuse, and writes it as JSON objects for
 * json_to_recordset (one of `results`, one of `calls` for each call, one of `webhooks` where the job asked for one,
 * one of `outbox` where its end waits for a session's clients). Refuses to talk to PostgreSQL or to know offsets. */
#ifndef SLUICE_ARCHIVE_ROW_H
#define SLUICE_ARCHIVE_ROW_H

#include <stddef.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/str.h"
#include "schemas/codec.h"

#define ROW_WHY_SIZE 240

enum row_read { ROW_OK = 0, ROW_BAD = 1 };

/* Reads @body; views of @ret_result live in @arena. On ROW_BAD @ret_why says why, without the record's contents. */
must_check enum row_read row_read(struct arena *arena, struct str body, struct result *ret_result,
				  char ret_why[static ROW_WHY_SIZE]);

/* The insides of the JSON lists of rows, by table. */
struct row_lists {
	struct buf results;
	struct buf calls;
	struct buf webhooks;
	struct buf outbox;
};
void row_lists_fini(struct row_lists *lists);
size_t row_lists_bytes(const struct row_lists *lists);

/* Appends one object to @lists->results, one per call to ->calls, and one to the others where the job asked for it, each after a comma
 * where something stands there. @result is one that row_read took. */
void row_write(const struct result *result, struct row_lists *lists);

/* The columns that the objects carry, for the statements that read them. */
struct row_columns {
	const char *names; /* "job, org, …" */
	const char *typed; /* "job text, org text, …" */
};
extern const struct row_columns row_results;
extern const struct row_columns row_calls;

#endif
