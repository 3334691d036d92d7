/* What the files of lib/relay share. Refuses to be included from elsewhere. */
#ifndef SLUICE_RELAY_RELAY_IMPL_H
#define SLUICE_RELAY_RELAY_IMPL_H

#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/net/loop.h"
#include "lib/relay/follow.h"
#include "lib/store/gather.h"

/* What is looked up in PostgreSQL (lookup.c). */
struct lookups {
	struct gather gather;
	struct blob *blob;   /* NULL: answers that are blobs stay without text */
	struct list blobs;   /* lookups whose blob waits to be read */
	unsigned blob_count; /* that are being read */
};

struct relay {
	struct loop *loop;
	struct redis *redis;
	const struct log *log;
	struct list follows;
	struct list closed; /* freed by @reap, outside of their callbacks */
	struct task reap;
	struct lookups lookups;
};

void lookups_init(struct lookups *lookups, struct loop *loop, struct pg *pg);
/* Nobody looks anything up any more. */
void lookups_fini(struct lookups *lookups);

/* Frees what was closed. */
void follow_reap(struct relay *relay);

#endif
