/* The archive: the results topic into PostgreSQL, each result exactly once however often the process is killed or stalled. It
 * reads without a group; where it stands in each partition is in the table lane_offsets, and one transaction moves those offsets
 * from the values that it knows (else somebody else moved them: it rolls back and reads them again) and inserts what was read
 * between. The first record of a job is its result: later ones add nothing, to the ledger neither. It refuses to skip a record
 * that it could store.
 *
 *   WAITING ─▶ ASKING ─▶ READING ◀──▶ WRITING ─▶ ENDED
 *                ▲ └▶ BACKOFF ◀── any failure ┘
 *                └─────┘
 *
 * After any failure all that was read and not committed is forgotten and read again from the stored offsets: there is one way
 * back, and it does not need to know whether a lost COMMIT happened. */
#ifndef SLUICE_ARCHIVE_ARCHIVE_H
#define SLUICE_ARCHIVE_ARCHIVE_H

#include "lib/base/err.h"
#include "lib/svc/option.h"

struct archive;
struct svc;

struct archive_options {
#define OPTION OPTION_MEMBER
#include "consumers/archive/options.def"
#undef OPTION
};

/* Opens PostgreSQL and Kafka and begins. @svc outlives the archive. -errno with a log line; *@ret_archive is closed by the caller
 * then too, if not NULL. */
must_check int archive_open(struct svc *svc, struct archive **ret_archive);
/* Calls @waits with a word for each thing that is not there yet. */
void archive_ready(struct archive *archive, void (*waits)(void *ctx, const char *what), void *ctx);
/* Writes what was read, then calls @drained, from the loop or from inside. */
void archive_drain(struct archive *archive, void (*drained)(void *ctx), void *ctx);
void archive_close(struct archive *archive); /* accepts NULL */

#endif
