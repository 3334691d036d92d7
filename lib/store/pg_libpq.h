/* libpq's header, whose tag `struct pg_result` would meet our `enum pg_result`. Refuses everything else. */
#ifndef SLUICE_STORE_PG_LIBPQ_H
#define SLUICE_STORE_PG_LIBPQ_H

#define pg_result libpq_result
#include <libpq-fe.h>
#undef pg_result

#endif
