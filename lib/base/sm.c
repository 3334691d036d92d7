#include "lib/base/sm.h"

#include "lib/base/err.h"

void sm_init(struct sm *m, const struct sm_state *table, const struct log *log, const char *what,
	     int state)
{
	must(state >= 0 && state < 64 && table[state].name);
	*m = (struct sm){.table = table, .log = log, .what = what, .state = state};
}

void sm_move(struct sm *m, int next)
{
	const struct sm_state *from = &m->table[m->state];
	bool allowed = next >= 0 && next < 64 && (from->next & SM(next));

	if (!allowed)
		log_error(m->log, "forbidden move", F_STR("machine", m->what),
			  F_STR("from", from->name), F_INT("to", next));
	must(allowed);
	m->state = next;
	log_debug(m->log, "moved", F_STR("machine", m->what), F_STR("from", from->name),
		  F_STR("to", sm_name(m)));
}
