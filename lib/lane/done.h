/* The set of completed offsets of one partition: a base (first offset not completed) and completed ranges above it,
 * with its text for commit metadata. No I/O. Refuses offsets below the base silently (they are completed).
 *
 * Text: "1:" + base64 of LEB128 varints: alternating run lengths from the base on, beginning with not completed, up to
 * the last completed offset. Empty set: "1:". At most DONE_TEXT_MAX bytes; back-pressure from DONE_TEXT_HIGH. */
#ifndef SLUICE_LANE_DONE_H
#define SLUICE_LANE_DONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/str.h"

#define DONE_TEXT_MAX 4096
#define DONE_TEXT_HIGH 3072

struct done_run {
	int64_t from; /* first completed offset of the run */
	int64_t to;   /* one behind the last */
};

/* Runs are sorted, apart, and above the base. Zeroed + done_init. */
struct done {
	int64_t base;
	struct done_run *runs;
	size_t count;
	size_t cap;
	size_t
	    bytes; /* of the varints of all runs: kept, so that the text's size is known without making it */
};

void done_init(struct done *d, int64_t base);
void done_fini(struct done *d);
/* Offset @offset is completed; the base moves over whatever became contiguous. Offsets that never existed (compaction,
 * transactions) are added by the reader as completed when it sees the gap. */
void done_add(struct done *d, int64_t offset);
/* All of [@from, @to) is completed. */
void done_add_range(struct done *d, int64_t from, int64_t to);
/* What is completed in @other (of the same partition) is completed in @d too. */
void done_merge(struct done *d, const struct done *other);
bool done_has(const struct done *d, int64_t offset);
/* Completed offsets above the base. */
int64_t done_above(const struct done *d);

/* Bytes of the set's text, were it written whole. */
size_t done_text_size(const struct done *d);
/* Back-pressure: true while one more offset may be taken, where @open offsets are taken and not completed. The text
 * is then below DONE_TEXT_HIGH, and in whatever order the open ones end it stays within DONE_TEXT_MAX. */
bool done_room(const struct done *d, size_t open);
/* One behind the last completed offset; the base where nothing above it is completed. */
int64_t done_end(const struct done *d);
/* Half of that room is used, by what is written or by what the open ones may add. */
bool done_half(const struct done *d, size_t open);
/* Appends the text of the set above the base: of all of it, or of its longest part from the base on that fits into
 * DONE_TEXT_MAX. The size of the text is known to the caller by out->len. */
void done_encode(const struct done *d, struct buf *out);
enum done_result { DONE_OK = 0, DONE_MALFORMED = 1, DONE_VERSION = 2 };
/* Reads @text into @d (initialised with @base). An empty text (another tool's commit) is an empty set. On DONE_MALFORMED
 * and DONE_VERSION @d is the empty set at @base: work is repeated rather than lost. */
must_check enum done_result done_decode(struct done *d, int64_t base, struct str text);

#endif
