#include "schemas/lanes.h"

#include <string.h>

#include "lib/base/mem.h"

static const struct topic_info topics[] = {
#define LANE(name, topic, kind, partitions, key, retention, writes, reads) \
	[TOPIC_##name] = {topic, TOPIC_KIND_##kind, partitions},
#include "schemas/lanes.def"
#undef LANE
};

static const char *const lanes[] = {
    [LANE_INTERACTIVE] = "interactive",
    [LANE_HIGH] = "high",
    [LANE_BACKGROUND] = "background",
};

const struct topic_info *topic_info(enum topic topic)
{
	return &topics[topic];
}

const char *lane_name(enum lane lane)
{
	return lanes[lane];
}

enum lane_find lane_find(struct str name, enum lane *ret_lane)
{
	for (int i = 0; i < LANE_COUNT; i++) {
		if (str_is(name, lanes[i])) {
			*ret_lane = (enum lane)i;
			return LANE_FOUND;
		}
	}
	return LANE_NOT_FOUND;
}

enum topic lane_topic_llm(enum lane lane)
{
	return (enum topic)(TOPIC_LLM_INTERACTIVE + (int)lane);
}

static const struct {
	enum topic topic;
	int64_t ms;
} tiers[] = {
    {TOPIC_LATER_1M, 60 * 1000LL},
    {TOPIC_LATER_5M, 5 * 60 * 1000LL},
    {TOPIC_LATER_1H, 3600 * 1000LL},
};

int64_t tier_ms(enum topic topic)
{
	for (size_t i = 0; i < countof(tiers); i++)
		if (tiers[i].topic == topic)
			return tiers[i].ms;
	return 0;
}

enum topic tier_for(int64_t wait_ms)
{
	enum topic found = tiers[0].topic;

	for (size_t i = 0; i < countof(tiers); i++)
		if (tiers[i].ms <= wait_ms)
			found = tiers[i].topic;
	return found;
}

uint64_t lane_hash(struct str bytes)
{
	uint64_t hash = UINT64_C(14695981039346656037);

	for (size_t i = 0; i < bytes.len; i++)
		hash = (hash ^ (unsigned char)bytes.ptr[i]) * UINT64_C(1099511628211);
	return hash;
}

/* The low bits of FNV are its weakest: mix (the finaliser of splitmix64). */
static uint64_t shard_hash(uint64_t org, uint64_t pick)
{
	uint64_t hash = org + pick * UINT64_C(0x9E3779B97F4A7C15);

	hash = (hash ^ (hash >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	hash = (hash ^ (hash >> 27)) * UINT64_C(0x94D049BB133111EB);
	return hash ^ (hash >> 31);
}

int32_t lane_shard(struct str org, uint64_t pick, int32_t partitions)
{
	uint64_t hash = lane_hash(org);
	int32_t chosen[LANE_SHARDS_MAX]; /* sorted */
	int32_t at = 0;

	pick %= (uint64_t)(partitions < LANE_SHARDS_MAX ? partitions : LANE_SHARDS_MAX);
	for (uint64_t i = 0; i <= pick; i++) {
		uint64_t before = 0;

		/* the at-th of those that are not chosen yet */
		at = (int32_t)(shard_hash(hash, i) % ((uint64_t)partitions - i));
		while (before < i && chosen[before] <= at) {
			before++;
			at++;
		}
		memmove(&chosen[before + 1], &chosen[before],
			(LANE_SHARDS_MAX - 1 - before) * sizeof(chosen[0]));
		chosen[before] = at;
	}
	return at;
}

char *topic_full(const char *prefix, enum topic topic)
{
	return mem_printf("%s%s", prefix, topics[topic].name);
}
