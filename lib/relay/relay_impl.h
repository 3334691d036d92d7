/* What the files of lib/relay share. Refuses to be included from elsewhere. */
#ifndef SLUICE_RELAY_RELAY_IMPL_H
#define SLUICE_RELAY_RELAY_IMPL_H

#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/net/loop.h"
#include "lib/relay/follow.h"

struct relay {
	struct loop *loop;
	struct redis *redis;
	struct pg *pg;
	struct blob *blob;
	const struct log *log;
	struct list follows;
	struct list closed; /* freed by @reap, outside of their callbacks */
	struct task reap;
	/* What is looked up in PostgreSQL (relay.c). */
	struct list asking;
	struct list batches;
	unsigned batch_count;
	struct task ask;
	struct list blobs; /* to be read */
	unsigned blob_count;
};

/* Frees what was closed. */
void follow_reap(struct relay *relay);

#endif
