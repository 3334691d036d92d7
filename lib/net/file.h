/* Whole files, off the loop's thread (libuv's thread pool): read one, or write one so that it is
 * there whole or not at all (a temporary name in the same directory, fsync, rename, fsync of the
 * directory). Refuses to append, to stream and to list. Callbacks come from the loop. */
#ifndef SLUICE_NET_FILE_H
#define SLUICE_NET_FILE_H

#include <stddef.h>

#include "lib/base/str.h"

struct loop;
struct file_request;

/* Reads @path whole. @error: 0, -ENOENT, -EFBIG (longer than @max_bytes), or another -errno; @bytes
 * are empty then, and live until the callback returns otherwise. The request is gone after @done.
 */
struct file_request *file_read(struct loop *loop, const char *path, size_t max_bytes,
			       void (*done)(void *ctx, int error, struct str bytes), void *ctx);

/* Writes @bytes (copied) to @path with mode 0600, durably; what stood there is replaced at once.
 * @error: 0 or -errno. Directories above must exist, but for the last one, which is made (0700)
 * where it is missing. */
struct file_request *file_write(struct loop *loop, const char *path, struct str bytes,
				void (*done)(void *ctx, int error), void *ctx);

/* The callback will not come; a write may happen all the same. Accepts NULL. */
void file_cancel(struct file_request *request);

#endif
