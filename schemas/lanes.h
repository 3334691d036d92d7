/* The lanes by name and topic; the table is lanes.def. Refuses to know partitions' offsets or Kafka's calls. */
#ifndef SLUICE_SCHEMAS_LANES_H
#define SLUICE_SCHEMAS_LANES_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/str.h"

enum topic_kind { TOPIC_KIND_WORK, TOPIC_KIND_LATER, TOPIC_KIND_RESULT, TOPIC_KIND_DEAD };

enum topic {
#define LANE(name, topic, kind, partitions, key, retention, writes, reads) TOPIC_##name,
#include "schemas/lanes.def"
#undef LANE
	TOPIC_COUNT
};

struct topic_info {
	const char *name; /* without the prefix */
	enum topic_kind kind;
	int32_t partitions;
};
const struct topic_info *topic_info(enum topic topic);

/* The three lanes of a class of work, in their order of precedence. */
enum lane { LANE_INTERACTIVE, LANE_HIGH, LANE_BACKGROUND, LANE_COUNT };
const char *lane_name(enum lane lane);
enum lane_find { LANE_FOUND = 0, LANE_NOT_FOUND = 1 };
enum lane_find lane_find(struct str name, enum lane *ret_lane);
/* The topic of a lane for llm work. */
enum topic lane_topic_llm(enum lane lane);

/* How long the tier @topic (of kind LATER) holds a record at most; then the record goes on to a tier again or to its lane. All
 * records of a tier leave it in the order in which they came. */
int64_t tier_ms(enum topic topic);
/* The tier for a wait: the longest that is not longer, else the shortest. */
enum topic tier_for(int64_t wait_ms);

#define LANE_SHARDS_MAX 64
/* Shuffle sharding: the partition of a lane that @org's @pick-th choice falls on (0 <= pick < the organisation's number of
 * partitions): one organisation's flood fills few partitions, and two organisations rarely share all of theirs. Choices of one organisation
 * differ while there are partitions left (and up to LANE_SHARDS_MAX). */
int32_t lane_shard(struct str org, uint64_t pick, int32_t partitions);
/* A hash of bytes that is the same everywhere and for ever (FNV-1a, 64 bit): for choices that several programs must agree on. */
uint64_t lane_hash(struct str bytes);

/* @prefix (kafka.topic_prefix, "" for none) and the topic's name, laid end to end; the caller frees it. */
char *topic_full(const char *prefix, enum topic topic);

#endif
