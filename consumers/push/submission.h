/* A submission: one op submit until it was accepted or refused. Its ref makes it idempotent within the session: the same ref and job
 * again get the same `accepted`, and nothing that the connection was told already. Refuses to say "accepted" before the broker has the record. */
#ifndef SLUICE_PUSH_SUBMISSION_H
#define SLUICE_PUSH_SUBMISSION_H

#include <stddef.h>

struct op;
struct session;

/* @bytes: of the message that @op was read from. */
void submission_begin(struct session *s, const struct op *op, size_t bytes);
void submissions_quiet(struct session *s);

#endif
