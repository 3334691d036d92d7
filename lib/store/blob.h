/* The blob store: payloads above 256 KiB, written once under the name of their SHA-256. Here a
 * directory (one machine only); an S3-compatible one comes behind the same face. Refuses to
 * overwrite or to list. File work happens on another thread; callbacks come from the loop. */
#ifndef SLUICE_STORE_BLOB_H
#define SLUICE_STORE_BLOB_H

#include "lib/base/err.h"
#include "lib/base/log.h"
#include "lib/base/str.h"

struct loop;
struct blob;
struct blob_request;

#define BLOB_INLINE_MAX (256 * 1024)
/* "blob_" + 64 hex digits + NUL */
#define BLOB_REF_SIZE 70

enum blob_result { BLOB_OK = 0, BLOB_MISSING, BLOB_FAILED };

/* @dir is made where it is missing. -errno. */
must_check int blob_open(struct loop *loop, const char *dir, const struct log *log,
			 struct blob **ret_blob);
void blob_close(struct blob *blob); /* accepts NULL; no callbacks afterwards */

/* Stores @bytes (copied) durably (fsync, then rename). */
struct blob_request *blob_put(struct blob *blob, struct str bytes,
			      void (*done)(void *ctx, enum blob_result result, const char *ref),
			      void *ctx);
/* Reads at most @max_bytes; a longer blob is BLOB_FAILED. @bytes live until the callback returns.
 */
struct blob_request *blob_get(struct blob *blob, const char *ref, size_t max_bytes,
			      void (*done)(void *ctx, enum blob_result result, struct str bytes),
			      void *ctx);
void blob_cancel(struct blob_request *request);

#endif
