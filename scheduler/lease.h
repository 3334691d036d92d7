/* Who the leader is: whoever holds an advisory lock of PostgreSQL, on a connection that is kept for nothing else. It goes with the
 * connection, so a leader that dies is followed at once; the server ends the connection of one that stands still, or whose machine
 * vanished, after ten seconds without a look. What was begun before may be done late: what leaders do must bear two of them.
 * Refuses to guess: without an answer from PostgreSQL nobody leads. */
#ifndef SLUICE_SCHEDULER_LEASE_H
#define SLUICE_SCHEDULER_LEASE_H

#include <stdbool.h>

#include "lib/base/err.h"

struct lease;
struct scheduler;

must_check int lease_open(struct scheduler *s, struct lease **ret_lease);
bool lease_held(const struct lease *lease);
void lease_close(struct lease *lease); /* accepts NULL */

#endif
