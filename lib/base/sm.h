/* State machines: an enum, a table of allowed moves and one mover that logs. Refuses a move that the table does
 * not allow (our own bug: the process ends). */
#ifndef SLUICE_BASE_SM_H
#define SLUICE_BASE_SM_H

#include <stdint.h>

#include "lib/base/log.h"

#define SM(state) (UINT64_C(1) << (state))

/* One line per state, indexed by the state's number. */
struct sm_state {
	const char *name;
	uint64_t next; /* SM(a) | SM(b) */
};

struct sm {
	const struct sm_state *table;
	const struct log *log;
	const char *what; /* "job", "call": the log's word */
	int state;
};

void sm_init(struct sm *m, const struct sm_state *table, const struct log *log, const char *what,
	     int state);
void sm_move(struct sm *m, int next);
static inline int sm_state(const struct sm *m)
{
	return m->state;
}
static inline const char *sm_name(const struct sm *m)
{
	return m->table[m->state].name;
}

#endif
