#include "tests/world/plants.h"

#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/plant.h"
#include "tests/world/server.h"

#ifdef SLUICE_PLANTS
static const struct {
	const char *what;
	uint64_t most;
} in_code[] = {
#define PLANT_WHAT(name, what, most) {what, most},
    PLANTS(PLANT_WHAT)
#undef PLANT_WHAT
};
#define IN_CODE countof(in_code)
#else
#define IN_CODE 0
#endif

static const struct {
	const char *what;
	uint64_t most;
	const char *script;
	const char *find;
	const char *replace;
} in_scripts[] = {
    {"finishing without a fence", 4000, "finishing", "h[1] ~= ARGV[1]", "false"},
    {"a live claim is taken over", 400, "claim", "left > 0 and", "false and"},
    {"attempt not raised", 400, "claim", "attempt = attempt + 1", "attempt = math.max(attempt, 1)"},
    {"finishing is run again", 400, "claim", "if state == 'finishing' then", "if false then"},
    {"a terminal job is run again", 400, "claim", "return {'terminal',",
     "state = nil; local _ = {'terminal',"},
    {"a refused job is run", 400, "claim", "if state == 'refused' then", "if false then"},
    {"refused over what stands", 400, "refuse", "if state then", "if false then"},
    {"a turn's messages twice", 1000, "converse", "if h[4] then", "if false then"},
    {"the same job's second turn", 2000, "turn", "if h[8] then", "if false then"},
    {"a reservation released twice", 400, "budget", "	call('HDEL', RES, id)\n", ""},
    {"the budget's line is passed by", 400, "budget", "if not head or score(lane",
     "if true or score(lane"},
    {"a budget begins empty", 400, "budget", "if made + WINDOW > now then", "if false then"},
    {"a learned limit stays for good", 100, "budget", "low_at[d] + WINDOW <= now do", "false do"},
    {"a learned limit is not kept", 400, "budget", "if l[d] > 0 then low[d]",
     "if false then low[d]"},
    {"who heard long ago vouches", 400, "budget", "vouched < VOUCH_MS", "true"},
};

size_t plants_count(void)
{
	return IN_CODE + countof(in_scripts);
}

const char *plants_name(size_t plant)
{
#ifdef SLUICE_PLANTS
	if (plant < IN_CODE)
		return in_code[plant].what;
#endif
	return in_scripts[plant - IN_CODE].what;
}

uint64_t plants_most(size_t plant)
{
#ifdef SLUICE_PLANTS
	if (plant < IN_CODE)
		return in_code[plant].most;
#endif
	return in_scripts[plant - IN_CODE].most;
}

bool plants_in_budget(size_t plant)
{
#ifdef SLUICE_PLANTS
	if (plant < IN_CODE)
		return plant == PLANT_SETTLE_LOST;
#endif
	return strcmp(in_scripts[plant - IN_CODE].script, "budget") == 0;
}

void plants_set(size_t plant)
{
#ifdef SLUICE_PLANTS
	if (plant < IN_CODE) {
		plants_on[plant] = true;
		return;
	}
#endif
	plant -= IN_CODE;
	redis_scripts_plant(in_scripts[plant].script, in_scripts[plant].find,
			    in_scripts[plant].replace);
}
