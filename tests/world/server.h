/* The world's Redis server, for the files of this folder that stand before it. Refuses to know connections: redis.c does. */
#ifndef SLUICE_TESTS_WORLD_SERVER_H
#define SLUICE_TESTS_WORLD_SERVER_H

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/map.h"
#include "lib/store/redis.h"
#include "tests/world/world.h"

/* Where a client asks for the epoch: its number. */
#define EPOCH_KEY "sluice:epoch"

enum value_type { VALUE_STRING, VALUE_HASH, VALUE_LIST, VALUE_ZSET };

/* A field and its value; a member and its score; list items and strings have no name. */
struct item {
	struct str name;
	struct str text;
};
struct value {
	enum value_type type;
	struct item *items;
	size_t count;
	size_t cap;
	uint64_t expire_ms;
};

/* Within this a flush is noticed by all. */
#define FLUSH_SEEN_US 700000

struct redis_server {
	struct map keys;
	struct map before;  /* a second ago, where it will be set back to it */
	struct map refused; /* jobs that were refused at some time */
	struct map told;    /* "job:attempt" → what was told of its text */
	struct list clients;
	uint64_t away_until_us;
	uint64_t frozen_until_us;
	uint64_t frozen_count;
	uint64_t flushed_us; /* or when one was told an epoch that was over, having stood still */
	uint64_t epoch;	     /* rises with each new one; 0: is to be made */
	uint64_t epochs;
	uint64_t epoch_wall_ms;
	bool cut; /* a connection to it was, once */
	bool forgot;
};
extern struct redis_server redis_server;

/* Runs one command; the reply lives in @a. An unknown command ends the process. */
void redis_server_run(const struct str *args, size_t count, struct arena *a,
		      struct redis_value *ret_value);
/* The same for a script. */
void redis_server_script(const struct script *script, const struct str *keys, size_t key_count,
			 const struct str *args, size_t arg_count, struct arena *a,
			 struct redis_value *ret_value);
/* To all who subscribed. */
void redis_server_publish(struct str channel, struct str text);
void redis_server_remember(void);
void redis_server_forget(bool to_before);
/* Compiles every script; before the first history. */
void redis_scripts_begin(void);
/* Replaces a piece of a script's text before it is compiled: a planted defect. The piece must be there. */
void redis_scripts_plant(const char *script, const char *find, const char *replace);

#endif
