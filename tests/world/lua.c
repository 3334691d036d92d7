/* The scripts of schemas/redis/ in Lua 5.1, as Redis runs them. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/mem.h"
#include "schemas/scripts.h"
#include "tests/world/server.h"

#define CALL_ARGS_MAX 128

static lua_State *lua;
static struct arena *scratch; /* of the script that runs */

static const struct script *const scripts[] = {
#define SCRIPT(name) &script_##name,
#include "schemas/scripts.def"
#undef SCRIPT
};
static char *texts[countof(scripts)];

static void push(lua_State *l, const struct redis_value *v)
{
	switch (v->type) {
	case REDIS_NIL:
		lua_pushboolean(l, 0);
		return;
	case REDIS_INT:
		lua_pushnumber(l, (lua_Number)v->integer);
		return;
	case REDIS_STR:
		lua_pushlstring(l, v->str.ptr, v->str.len);
		return;
	case REDIS_LIST:
		lua_createtable(l, (int)v->count, 0);
		for (size_t i = 0; i < v->count; i++) {
			push(l, &v->items[i]);
			lua_rawseti(l, -2, (int)i + 1);
		}
		return;
	case REDIS_STATUS:
	case REDIS_ERROR:
		lua_createtable(l, 0, 1);
		lua_pushlstring(l, v->str.ptr, v->str.len);
		lua_setfield(l, -2, v->type == REDIS_STATUS ? "ok" : "err");
		return;
	}
}

static int redis_call(lua_State *l)
{
	struct str args[CALL_ARGS_MAX];
	struct redis_value value;
	int count = lua_gettop(l);

	must(count > 0 && count <= CALL_ARGS_MAX);
	for (int i = 0; i < count; i++) {
		must(lua_isstring(l, i + 1)); /* numbers too, as Redis takes them */
		args[i].ptr = lua_tolstring(l, i + 1, &args[i].len);
	}
	redis_server_run(args, (size_t)count, scratch, &value);
	push(l, &value);
	return 1;
}

/* What the script returned, as Redis says it to a client. */
static void take(lua_State *l, int at, struct arena *a, struct redis_value *ret)
{
	struct redis_value *items;
	size_t len, count;
	const char *text;

	*ret = (struct redis_value){.type = REDIS_NIL};
	switch (lua_type(l, at)) {
	case LUA_TSTRING:
		text = lua_tolstring(l, at, &len);
		*ret =
		    (struct redis_value){.type = REDIS_STR, .str = {arena_dup(a, text, len), len}};
		return;
	case LUA_TNUMBER:
		*ret = (struct redis_value){.type = REDIS_INT,
					    .integer = (int64_t)lua_tonumber(l, at)};
		return;
	case LUA_TBOOLEAN:
		if (lua_toboolean(l, at))
			*ret = (struct redis_value){.type = REDIS_INT, .integer = 1};
		return;
	case LUA_TTABLE:
		count = lua_objlen(l, at);
		items = arena_alloc(a, (count + 1) * sizeof(*items));
		*ret = (struct redis_value){.type = REDIS_LIST, .items = items, .count = count};
		for (size_t i = 0; i < count; i++) {
			lua_rawgeti(l, at, (int)i + 1);
			take(l, lua_gettop(l), a, &items[i]);
			lua_pop(l, 1);
		}
		return;
	default:
		return;
	}
}

static void set_list(lua_State *l, const char *name, const struct str *items, size_t count)
{
	lua_createtable(l, (int)count, 0);
	for (size_t i = 0; i < count; i++) {
		lua_pushlstring(l, items[i].ptr ? items[i].ptr : "", items[i].len);
		lua_rawseti(l, -2, (int)i + 1);
	}
	lua_setglobal(l, name);
}

void redis_server_script(const struct script *script, const struct str *keys, size_t key_count,
			 const struct str *args, size_t arg_count, struct arena *a,
			 struct redis_value *ret_value)
{
	scratch = a;
	lua_settop(lua, 0);
	set_list(lua, "KEYS", keys, key_count);
	set_list(lua, "ARGV", args, arg_count);
	lua_pushlightuserdata(lua, (void *)(uintptr_t)script);
	lua_rawget(lua, LUA_REGISTRYINDEX);
	if (lua_pcall(lua, 0, 1, 0)) {
		fprintf(stderr, "world: %s: %s\n", script->name, lua_tostring(lua, -1));
		must(!"a script runs without an error");
	}
	take(lua, 1, a, ret_value);
}

void redis_server_session(const struct str keys[2], const struct str args[8])
{
	struct arena a = {0};
	struct redis_value value;

	redis_server_script(&script_session, keys, 2, args, 8, &a, &value);
	arena_reset(&a);
}

void redis_scripts_plant(const char *name, const char *find, const char *replace)
{
	for (size_t i = 0; i < countof(scripts); i++) {
		const char *at;
		char *text;

		if (strcmp(scripts[i]->name, name) != 0)
			continue;
		if (!texts[i])
			texts[i] = mem_strdup(scripts[i]->body);
		at = strstr(texts[i], find);
		must(at);
		text = mem_printf("%.*s%s%s", (int)(at - texts[i]), texts[i], replace,
				  at + strlen(find));
		mem_free(texts[i]);
		texts[i] = text;
		return;
	}
	must(!"there is such a script");
}

void redis_scripts_begin(void)
{
	lua = luaL_newstate();
	luaL_openlibs(lua);
	lua_createtable(lua, 0, 1);
	lua_pushcfunction(lua, redis_call);
	lua_setfield(lua, -2, "call");
	lua_setglobal(lua, "redis");
	for (size_t i = 0; i < countof(scripts); i++) {
		const char *text = texts[i] ? texts[i] : scripts[i]->body;

		lua_pushlightuserdata(lua, (void *)(uintptr_t)scripts[i]);
		must(luaL_loadbuffer(lua, text, strlen(text), scripts[i]->name) == 0);
		lua_rawset(lua, LUA_REGISTRYINDEX);
	}
}
