/* The one Redis server: keys, the commands that scripts and programs use, and the very scripts of schemas/redis/ through Lua 5.1. */
#include "tests/world/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/id.h"
#include "lib/base/map.h"
#include "lib/base/mem.h"
#include "schemas/keys.h"

struct redis_server redis_server;

/* ── keys ── */

static struct str own(struct str s)
{
	return (struct str){mem_dup(s.ptr ? s.ptr : "", s.len), s.len};
}

static void disown(struct str s)
{
	mem_free((char *)(uintptr_t)s.ptr);
}

static void value_free(struct value *v)
{
	for (size_t i = 0; i < v->count; i++) {
		disown(v->items[i].name);
		disown(v->items[i].text);
	}
	mem_free(v->items);
	mem_free(v);
}

static struct value *find(struct str key)
{
	struct value *v = map_find(&redis_server.keys, key);

	if (v && v->expire_ms && v->expire_ms <= world_wall_ms()) {
		map_take(&redis_server.keys, key);
		value_free(v);
		return NULL;
	}
	return v;
}

static struct value *make(struct str key, enum value_type type)
{
	struct value *v = find(key);

	if (v)
		return v;
	v = mem_new(struct value);
	v->type = type;
	map_set(&redis_server.keys, key, v);
	return v;
}

static void drop(struct str key)
{
	struct value *v = map_take(&redis_server.keys, key);

	if (v)
		value_free(v);
}

static struct item *item_find(const struct value *v, struct str name)
{
	for (size_t i = 0; v && i < v->count; i++)
		if (str_eq(v->items[i].name, name))
			return &v->items[i];
	return NULL;
}

static struct item *item_add(struct value *v, struct str name, struct str text)
{
	if (v->count == v->cap) {
		v->cap = v->cap ? v->cap * 2 : 8;
		v->items = mem_resize(v->items, v->cap * sizeof(*v->items));
	}
	v->items[v->count] = (struct item){own(name), own(text)};
	return &v->items[v->count++];
}

static bool item_drop(struct value *v, struct str name)
{
	struct item *it = item_find(v, name);

	if (!it)
		return false;
	disown(it->name);
	disown(it->text);
	memmove(it, it + 1, (size_t)(v->items + v->count - it - 1) * sizeof(*it));
	v->count--;
	return true;
}

/* A string is one item without a name. */
static struct str string_of(struct str key)
{
	struct value *v = find(key);

	return v && v->count ? v->items[0].text : (struct str){NULL, 0};
}

static void string_set(struct str key, struct str text)
{
	drop(key);
	item_add(make(key, VALUE_STRING), STR(""), text);
}

/* ── what is watched while it happens ── */

static bool terminal(struct str state)
{
	return str_is(state, "succeeded") || str_is(state, "failed") || str_is(state, "expired") ||
	       str_is(state, "cancelled");
}

static struct str job_of(struct str key)
{
	return key.len > 4 ? (struct str){key.ptr + 3, key.len - 4} : STR("");
}

static void watch_hset(struct str key, const struct item *before, struct str name, struct str text)
{
	struct str job = job_of(key);

	if (key.ptr[0] != 'j' || key.ptr[1] != ':')
		return;
	if (str_is(name, "state") && str_is(text, "refused"))
		map_set(&redis_server.refused, job, &redis_server);
	if (!str_is(name, "state") || !before || str_eq(before->text, text))
		return;
	world_tell("redis", "%.*s %.*s -> %.*s", STR_FMT(job), STR_FMT(before->text),
		   STR_FMT(text));
	if (terminal(before->text))
		world_violation("a terminal state changed: %.*s from %.*s to %.*s", STR_FMT(job),
				STR_FMT(before->text), STR_FMT(text));
}

/* What was told of an attempt's text never changes: each delta agrees with the ones before. */
static void watch_publish(struct str text)
{
	struct event e;
	struct buf *told;
	char name[80];
	struct str key;
	size_t both;

	if (event_parse(text, &e) != EVENT_OK || !str_is(e.ev, "delta"))
		return;
	key.ptr = name;
	key.len =
	    (size_t)snprintf(name, sizeof(name), "%.*s:%lld", STR_FMT(e.job), (long long)e.attempt);
	told = map_find(&redis_server.told, key);
	if (!told) {
		told = mem_new(struct buf);
		map_set(&redis_server.told, key, told);
	}
	if ((size_t)e.at > told->len)
		return;
	both = told->len - (size_t)e.at;
	if (both > e.payload.len)
		both = e.payload.len;
	if (both && redis_server.flushed_us + FLUSH_SEEN_US > world->now_us) {
		told->len = (size_t)e.at; /* nobody could know yet that it was emptied */
		both = 0;
	}
	if (both && memcmp(told->data + e.at, e.payload.ptr, both) != 0)
		world_violation("attempt %lld of %.*s was told with two texts",
				(long long)e.attempt, STR_FMT(e.job));
	buf_add(told, e.payload.ptr + both, e.payload.len - both);
}

/* ── commands ── */

static void reply_int(struct redis_value *r, int64_t n)
{
	*r = (struct redis_value){.type = REDIS_INT, .integer = n};
}

static void reply_str(struct redis_value *r, struct arena *a, struct str s)
{
	*r = (struct redis_value){.type = REDIS_NIL};
	if (!s.ptr)
		return;
	r->type = REDIS_STR;
	r->str = (struct str){arena_dup(a, s.ptr, s.len), s.len};
}

static struct redis_value *reply_list(struct redis_value *r, struct arena *a, size_t count)
{
	struct redis_value *items = arena_alloc(a, (count + 1) * sizeof(*items));

	*r = (struct redis_value){.type = REDIS_LIST, .items = items, .count = count};
	return items;
}

static int64_t number(struct str s)
{
	int64_t n = 0;

	if (!str_i64(s, &n))
		n = 0;
	return n;
}

static void c_hget(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	struct item *it = item_find(find(v[1]), v[2]);

	(void)n;
	reply_str(r, a, it ? it->text : (struct str){0});
}

static void c_hmget(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	struct redis_value *items = reply_list(r, a, n - 2);
	struct value *hash = find(v[1]);

	for (size_t i = 2; i < n; i++) {
		struct item *it = item_find(hash, v[i]);

		reply_str(&items[i - 2], a, it ? it->text : (struct str){0});
	}
}

static void c_hgetall(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	struct value *hash = find(v[1]);
	struct redis_value *items = reply_list(r, a, hash ? hash->count * 2 : 0);

	(void)n;
	for (size_t i = 0; hash && i < hash->count; i++) {
		reply_str(&items[2 * i], a, hash->items[i].name);
		reply_str(&items[2 * i + 1], a, hash->items[i].text);
	}
}

static void hset(struct str key, struct str name, struct str text)
{
	struct value *hash = make(key, VALUE_HASH);
	struct item *it = item_find(hash, name);

	watch_hset(key, it, name, text);
	if (!it) {
		item_add(hash, name, text);
		return;
	}
	disown(it->text);
	it->text = own(text);
}

static void c_hset(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	(void)a;
	for (size_t i = 2; i + 1 < n; i += 2)
		hset(v[1], v[i], v[i + 1]);
	reply_int(r, (int64_t)(n - 2) / 2);
}

static void c_hsetnx(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	bool stands = item_find(find(v[1]), v[2]);

	(void)a;
	(void)n;
	if (!stands)
		hset(v[1], v[2], v[3]);
	reply_int(r, !stands);
}

static void c_hdel(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	struct value *hash = find(v[1]);

	(void)a;
	for (size_t i = 2; hash && i < n; i++)
		item_drop(hash, v[i]);
	reply_int(r, 1);
}

static void c_get(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	char epoch[24] = "";

	(void)n;
	if (str_is(v[1], EPOCH_KEY) && redis_server.epoch)
		snprintf(epoch, sizeof(epoch), "%llu", (unsigned long long)redis_server.epoch);
	reply_str(r, a, epoch[0] ? str_of(epoch) : string_of(v[1]));
}

static void c_getdel(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	c_get(r, a, v, n);
	drop(v[1]);
}

static void c_set(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	(void)a;
	string_set(v[1], v[2]);
	if (n > 4)
		find(v[1])->expire_ms = world_wall_ms() + (uint64_t)number(v[4]);
	*r = (struct redis_value){.type = REDIS_STATUS, .str = STR("OK")};
}

static void c_strlen(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	(void)a;
	(void)n;
	reply_int(r, (int64_t)string_of(v[1]).len);
}

static void c_append(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	struct value *s = make(v[1], VALUE_STRING);
	struct buf whole = {0};

	(void)a;
	(void)n;
	if (!s->count)
		item_add(s, STR(""), STR(""));
	buf_add_str(&whole, s->items[0].text);
	buf_add_str(&whole, v[2]);
	disown(s->items[0].text);
	s->items[0].text = own(buf_str(&whole));
	buf_fini(&whole);
	reply_int(r, (int64_t)s->items[0].text.len);
}

static void c_getrange(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	struct str s = string_of(v[1]);
	size_t from = (size_t)number(v[2]), to = (size_t)number(v[3]) + 1;

	(void)n;
	if (to > s.len)
		to = s.len;
	if (from > to)
		from = to;
	reply_str(r, a, (struct str){s.ptr ? s.ptr + from : "", to - from});
}

static void c_rpush(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	struct value *list = make(v[1], VALUE_LIST);

	(void)a;
	for (size_t i = 2; i < n; i++)
		item_add(list, STR(""), v[i]);
	reply_int(r, (int64_t)list->count);
}

static void c_lrange(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	struct value *list = find(v[1]);
	struct redis_value *items = reply_list(r, a, list ? list->count : 0);

	(void)n;
	for (size_t i = 0; list && i < list->count; i++)
		reply_str(&items[i], a, list->items[i].text);
}

static void c_zadd(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	struct value *set = make(v[1], VALUE_ZSET);

	(void)a;
	for (size_t i = 2; i + 1 < n; i += 2) {
		item_drop(set, v[i + 1]);
		item_add(set, v[i + 1], v[i]);
	}
	reply_int(r, 1);
}

static void c_zrem(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	struct value *set = find(v[1]);

	(void)a;
	for (size_t i = 2; set && i < n; i++)
		item_drop(set, v[i]);
	reply_int(r, 1);
}

/* The members in their order: by score, then by name. */
static int by_score(const void *left, const void *right)
{
	const struct item *a = *(struct item *const *)left, *b = *(struct item *const *)right;
	double x = strtod(a->text.ptr, NULL), y = strtod(b->text.ptr, NULL);
	size_t both = a->name.len < b->name.len ? a->name.len : b->name.len;
	int order = memcmp(a->name.ptr, b->name.ptr, both);

	if (x != y)
		return x < y ? -1 : 1;
	return order ? order : (a->name.len > b->name.len) - (a->name.len < b->name.len);
}

static struct item **ordered(const struct value *set, struct arena *a)
{
	struct item **items = arena_alloc(a, (set->count + 1) * sizeof(*items));

	for (size_t i = 0; i < set->count; i++)
		items[i] = &set->items[i];
	qsort(items, set->count, sizeof(*items), by_score);
	return items;
}

/* From the front only, as the scripts ask. */
static void c_zrange(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	struct value *set = find(v[1]);
	size_t from = (size_t)number(v[2]), to = (size_t)number(v[3]) + 1, count = 0;
	struct redis_value *items;
	struct item **all;

	must(n == 4 && number(v[3]) >= 0);
	if (set && from < set->count)
		count = (to < set->count ? to : set->count) - from;
	items = reply_list(r, a, count);
	all = count ? ordered(set, a) : NULL;
	for (size_t i = 0; i < count; i++)
		reply_str(&items[i], a, all[from + i]->name);
}

/* ZREVRANGE key 0 LAST [WITHSCORES] */
static void c_zrevrange(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	struct value *set = find(v[1]);
	size_t most = (size_t)number(v[3]) + 1, count = set ? set->count : 0;
	size_t each = n == 5 ? 2 : 1;
	struct redis_value *items;
	struct item **all;

	must(str_is(v[2], "0") && (n == 4 || str_is(v[4], "WITHSCORES")));
	if (count > most)
		count = most;
	items = reply_list(r, a, count * each);
	all = count ? ordered(set, a) : NULL;
	for (size_t i = 0; i < count; i++) {
		const struct item *it = all[set->count - 1 - i];

		reply_str(&items[i * each], a, it->name);
		if (each == 2)
			reply_str(&items[i * each + 1], a, it->text);
	}
}

/* ZREMRANGEBYRANK key 0 -LAST: all but the newest. */
static void c_zremrangebyrank(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	struct value *set = find(v[1]);
	int64_t last = number(v[3]), count = set ? (int64_t)set->count + last + 1 : 0;
	struct item **all = count > 0 ? ordered(set, a) : NULL;
	struct str *names = arena_alloc(a, (size_t)(count > 0 ? count : 1) * sizeof(*names));

	must(n == 4 && str_is(v[2], "0") && last < 0);
	for (int64_t i = 0; i < count; i++)
		names[i] = (struct str){arena_dup(a, all[i]->name.ptr, all[i]->name.len),
					all[i]->name.len};
	for (int64_t i = 0; i < count; i++)
		item_drop(set, names[i]);
	reply_int(r, count > 0 ? count : 0);
}

/* ZRANGEBYSCORE key -inf MAX LIMIT 0 N */
static void c_zrangebyscore(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	struct value *set = find(v[1]);
	double most = strtod(v[3].ptr, NULL);
	struct item **all = set ? ordered(set, a) : NULL;
	struct redis_value *items;
	size_t count = 0;

	must(n == 7 && str_is(v[2], "-inf") && str_is(v[4], "LIMIT") && str_is(v[5], "0"));
	while (set && count < set->count && count < (size_t)number(v[6]) &&
	       strtod(all[count]->text.ptr, NULL) <= most)
		count++;
	items = reply_list(r, a, count);
	for (size_t i = 0; i < count; i++)
		reply_str(&items[i], a, all[i]->name);
}

static void c_zrank(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	struct value *set = find(v[1]);
	struct item *it = item_find(set, v[2]);
	int64_t rank = 0;

	(void)a;
	(void)n;
	*r = (struct redis_value){.type = REDIS_NIL};
	if (!it)
		return;
	for (size_t i = 0; i < set->count; i++) {
		struct item *other = &set->items[i];

		rank += by_score(&other, &it) < 0;
	}
	reply_int(r, rank);
}

static void c_zscore(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	struct item *it = item_find(find(v[1]), v[2]);

	(void)n;
	reply_str(r, a, it ? it->text : (struct str){0});
}

/* ZCARD, HLEN */
static void c_count(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	struct value *set = find(v[1]);

	(void)a;
	(void)n;
	reply_int(r, set ? (int64_t)set->count : 0);
}

static void c_exists(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	(void)a;
	(void)n;
	reply_int(r, find(v[1]) != NULL);
}

static void c_del(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	(void)a;
	for (size_t i = 1; i < n; i++)
		drop(v[i]);
	reply_int(r, 1);
}

static void c_pexpire(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	struct value *at = find(v[1]);

	(void)a;
	if (at && n > 3 && str_is(v[3], "NX") && at->expire_ms)
		at = NULL;
	if (at)
		at->expire_ms = world_wall_ms() + (uint64_t)number(v[2]);
	reply_int(r, at != NULL);
}

static void c_time(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	struct redis_value *items = reply_list(r, a, 2);
	uint64_t us = world_wall_ms() * US_PER_MS;
	char text[24];

	(void)v;
	(void)n;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)(us / US_PER_S));
	reply_str(&items[0], a, str_of(text));
	snprintf(text, sizeof(text), "%llu", (unsigned long long)(us % US_PER_S));
	reply_str(&items[1], a, str_of(text));
}

static void c_publish(struct redis_value *r, struct arena *a, const struct str *v, size_t n)
{
	(void)a;
	(void)n;
	watch_publish(v[2]);
	redis_server_publish(v[1], v[2]);
	reply_int(r, 0);
}

static const struct {
	const char *name;
	size_t least;
	void (*run)(struct redis_value *r, struct arena *a, const struct str *v, size_t n);
} commands[] = {
    {"HGET", 3, c_hget},
    {"HMGET", 3, c_hmget},
    {"HGETALL", 2, c_hgetall},
    {"HSET", 4, c_hset},
    {"HSETNX", 4, c_hsetnx},
    {"HDEL", 3, c_hdel},
    {"GET", 2, c_get},
    {"SET", 3, c_set},
    {"STRLEN", 2, c_strlen},
    {"APPEND", 3, c_append},
    {"GETRANGE", 4, c_getrange},
    {"RPUSH", 3, c_rpush},
    {"LRANGE", 4, c_lrange},
    {"ZADD", 4, c_zadd},
    {"ZREM", 3, c_zrem},
    {"EXISTS", 2, c_exists},
    {"DEL", 2, c_del},
    {"PEXPIRE", 3, c_pexpire},
    {"TIME", 1, c_time},
    {"PUBLISH", 3, c_publish},
    {"GETDEL", 2, c_getdel},
    {"ZRANGE", 4, c_zrange},
    {"ZRANK", 3, c_zrank},
    {"ZSCORE", 3, c_zscore},
    {"ZREVRANGE", 4, c_zrevrange},
    {"ZREMRANGEBYRANK", 4, c_zremrangebyrank},
    {"ZCARD", 2, c_count},
    {"HLEN", 2, c_count},
    {"ZRANGEBYSCORE", 7, c_zrangebyscore},
};

void redis_server_run(const struct str *args, size_t count, struct arena *a,
		      struct redis_value *ret_value)
{
	for (size_t i = 0; i < countof(commands); i++) {
		if (!str_is(args[0], commands[i].name))
			continue;
		must(count >= commands[i].least);
		commands[i].run(ret_value, a, args, count);
		return;
	}
	fprintf(stderr, "world: Redis does not know %.*s\n", STR_FMT(args[0]));
	must(!"the world's Redis knows the command");
}

/* ── memory ── */

static void copy_all(struct map *from, struct map *to)
{
	struct map_entry *e;

	for (size_t at = 0; (e = map_next(from, &at));) {
		struct value *old = e->value, *v = mem_new(struct value);

		v->type = old->type;
		v->expire_ms = old->expire_ms;
		for (size_t i = 0; i < old->count; i++)
			item_add(v, old->items[i].name, old->items[i].text);
		map_set(to, e->key, v);
	}
}

void redis_server_remember(void)
{
	redis_server.before = (struct map){0};
	copy_all(&redis_server.keys, &redis_server.before);
}

void redis_server_forget(bool to_before)
{
	redis_server.keys = to_before ? redis_server.before : (struct map){0};
	redis_server.before = (struct map){0};
	redis_server.forgot = true;
}

/* ── looking ── */

struct str redis_server_field(struct str key, const char *field)
{
	struct item *it = item_find(find(key), str_of(field));

	return it ? it->text : STR("");
}

void redis_server_keys(void (*each)(void *ctx, struct str key), void *ctx)
{
	struct map_entry *e;

	for (size_t at = 0; (e = map_next(&redis_server.keys, &at));)
		each(ctx, e->key);
}

size_t redis_server_zcount(struct str key)
{
	struct value *v = find(key);

	return v ? v->count : 0;
}

void redis_server_members(struct str key, void (*each)(void *ctx, struct str member), void *ctx)
{
	struct value *v = find(key);

	for (size_t i = 0; v && i < v->count; i++)
		each(ctx, v->items[i].name);
}

struct str redis_server_told(struct str job, int64_t attempt)
{
	char name[80];
	struct str key = {name, (size_t)snprintf(name, sizeof(name), "%.*s:%lld", STR_FMT(job),
						 (long long)attempt)};
	const struct buf *told = map_find(&redis_server.told, key);

	return told ? buf_str(told) : STR("");
}

bool redis_server_refused(struct str job)
{
	return map_find(&redis_server.refused, job) != NULL;
}

bool redis_server_was_cut(void)
{
	return redis_server.cut || redis_server.forgot;
}

bool redis_server_forgot(void)
{
	return redis_server.forgot;
}
