/* A batch: the records of one transaction, gathered as rows. The first record of a job in a batch wins, as it does in the table.
 * Refuses to know offsets beyond counting, and to write itself. */
#ifndef SLUICE_ARCHIVE_BATCH_H
#define SLUICE_ARCHIVE_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consumers/archive/row.h"
#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/map.h"
#include "lib/base/str.h"

struct batch {
	struct map jobs;	/* whose rows stand here */
	struct row_lists lists; /* by table */
	struct arena scratch;	/* of the record at hand */
	size_t records;		/* all, bad and repeated ones too */
	size_t rows;
	size_t repeated;	 /* a second record of a job of this batch */
	uint64_t oldest_wall_ms; /* Kafka's stamp of its oldest record, 0 for none */
};

/* Zero-initialised is empty and valid. Frees what it holds; empty and usable again. */
void batch_fini(struct batch *batch);
/* Adds one record. False where it is bad: @ret_why says why (it counts as a record all the same). */
bool batch_add(struct batch *batch, uint64_t wall_ms, struct str body, char *ret_why, size_t size);
/* Counts a record that is skipped. */
void batch_skip(struct batch *batch, uint64_t wall_ms);
/* Bytes held, about. */
size_t batch_bytes(const struct batch *batch);

#endif
