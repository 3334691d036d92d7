#include "tests/world/plants.h"

#include "lib/base/mem.h"
#include "lib/base/plant.h"
#include "tests/world/server.h"

#ifdef SLUICE_PLANTS
static const char *const in_code[] = {
#define PLANT_WHAT(name, what) what,
    PLANTS(PLANT_WHAT)
#undef PLANT_WHAT
};
#define IN_CODE countof(in_code)
#else
#define IN_CODE 0
#endif

static const struct {
	const char *what;
	const char *script;
	const char *find;
	const char *replace;
} in_scripts[] = {
    {"finishing without a fence", "finishing", "h[1] ~= ARGV[1]", "false"},
    {"a live claim is taken over", "claim", "left > 0 and", "false and"},
    {"attempt not raised", "claim", "attempt = attempt + 1", "attempt = math.max(attempt, 1)"},
    {"finishing is run again", "claim", "if state == 'finishing' then", "if false then"},
    {"a terminal job is run again", "claim", "return {'terminal',",
     "state = nil; local _ = {'terminal',"},
    {"a refused job is run", "claim", "if state == 'refused' then", "if false then"},
    {"refused over what stands", "refuse", "if state then", "if false then"},
    {"a turn's messages twice", "converse", "string.match(h[4], ' done$')", "false"},
    {"the same job's second turn", "turn", "if h[8] then", "if false then"},
};

size_t plants_count(void)
{
	return IN_CODE + countof(in_scripts);
}

const char *plants_name(size_t plant)
{
#ifdef SLUICE_PLANTS
	if (plant < IN_CODE)
		return in_code[plant];
#endif
	return in_scripts[plant - IN_CODE].what;
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
