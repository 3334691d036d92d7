#include "schemas/lanes.h"

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

char *topic_full(const char *prefix, enum topic topic)
{
	return mem_printf("%s%s", prefix, topics[topic].name);
}
