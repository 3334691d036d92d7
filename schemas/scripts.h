/* The Redis scripts of schemas/redis/, compiled in: script_NAME is redis/NAME.lua. Each file states its contract on top. */
#ifndef SLUICE_SCHEMAS_SCRIPTS_H
#define SLUICE_SCHEMAS_SCRIPTS_H

struct script; /* lib/store/redis.h: name and body */

#define SCRIPT(name) extern const struct script script_##name;
#include "schemas/scripts.def"
#undef SCRIPT

#endif
