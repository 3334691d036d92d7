/* The webhook itself: what a receiver reads. One shape, the same at each try. Refuses to sign and to send. */
#ifndef SLUICE_NOTIFY_MESSAGE_H
#define SLUICE_NOTIFY_MESSAGE_H

#include "lib/base/buf.h"
#include "lib/base/id.h"
#include "lib/base/str.h"

struct result;

/* webhook-id of a job's webhook: "msg_" and the 26 characters of the job's id. @out has ID_SIZE bytes. */
void message_id(struct str job, char out[static ID_SIZE]);
/* Appends {"type":"job.succeeded","timestamp":…,"data":{…}}: data is the object of GET /v1/jobs/{id}, whose result has no `text` where
 * the answer is in the blob store (above 256 KiB). */
void message_write(const struct result *result, struct buf *out);

#endif
