#include "lib/svc/option.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit byte_units[] = {
    {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}, {NULL, 0}};
static const struct unit time_units[] = {{"ms", 1},	 {"s", 1000},	  {"m", 60000},
					 {"h", 3600000}, {"d", 86400000}, {NULL, 0}};

const struct option *option_find(const struct option *table, size_t count, struct str key)
{
	for (size_t i = 0; i < count; i++) {
		const char *at = table[i].key;
		size_t n = strlen(at);
		bool same = n == key.len;

		for (size_t k = 0; same && k < n; k++)
			same = at[k] == (key.ptr[k] == '-' ? '_' : key.ptr[k]);
		if (same)
			return &table[i];
	}
	return NULL;
}

void option_defaults(const struct option *table, size_t count, void *values)
{
	for (size_t i = 0; i < count; i++) {
		void *at = (char *)values + table[i].offset;

		switch (table[i].type) {
		case OPTION_INT:
			*(int64_t *)at = table[i].otherwise.i;
			break;
		case OPTION_BYTES:
		case OPTION_MS:
			*(uint64_t *)at = table[i].otherwise.u;
			break;
		case OPTION_BOOL:
			*(bool *)at = table[i].otherwise.b;
			break;
		case OPTION_STRING:
			*(const char **)at = table[i].otherwise.s;
			break;
		case OPTION_DOUBLE:
			*(double *)at = table[i].otherwise.d;
			break;
		}
	}
}

/* A number with a unit behind it, or a plain one. */
static bool read_units(struct str text, const struct unit *units, uint64_t *ret_value)
{
	uint64_t factor = 1;
	uint64_t number;

	for (const struct unit *u = units; u->name; u++) {
		size_t n = strlen(u->name);

		if (text.len > n && memcmp(text.ptr + text.len - n, u->name, n) == 0) {
			char before = text.ptr[text.len - n - 1];

			if (before != ' ' && (before < '0' || before > '9'))
				continue;
			factor = u->factor;
			text = str_trim((struct str){text.ptr, text.len - n});
			break;
		}
	}
	if (!str_u64(text, &number) || (number && factor > UINT64_MAX / number))
		return false;
	*ret_value = number * factor;
	return true;
}

static bool read_double(struct str text, double *ret_value)
{
	char copy[64];
	char *end;
	double value;

	if (text.len == 0 || text.len >= sizeof(copy))
		return false;
	memcpy(copy, text.ptr, text.len);
	copy[text.len] = '\0';
	value = strtod(copy, &end);
	if (*end || !isfinite(value))
		return false;
	*ret_value = value;
	return true;
}

/* A number as people write it: whole ones without a point. */
static void add_number(struct buf *out, double value)
{
	if (value == floor(value) && fabs(value) < 1e16)
		buf_printf(out, "%.0f", value);
	else
		buf_printf(out, "%g", value);
}

/* In the largest unit that leaves a whole number. */
static void add_units(struct buf *out, uint64_t value, const struct unit *units)
{
	const struct unit *best = NULL;

	for (const struct unit *u = units; u->name; u++) {
		if (value && value % u->factor == 0 && (!best || u->factor > best->factor))
			best = u;
	}
	buf_add_u64(out, best ? value / best->factor : value);
	if (best && best->factor > 1)
		buf_add_text(out, best->name);
	else if (units == time_units)
		buf_add_text(out, "ms");
}

static void add_limits(struct buf *out, const struct option *option)
{
	const struct unit *units = option->type == OPTION_BYTES ? byte_units : time_units;

	switch (option->type) {
	case OPTION_BOOL:
		buf_add_text(out, "true or false");
		break;
	case OPTION_INT:
	case OPTION_DOUBLE:
		buf_add_text(out, option->type == OPTION_INT ? "a whole number from "
							     : "a number from ");
		add_number(out, option->min);
		buf_add_text(out, " to ");
		add_number(out, option->max);
		break;
	case OPTION_BYTES:
	case OPTION_MS:
		buf_add_text(out, option->type == OPTION_BYTES ? "bytes (KiB, MiB, GiB) from "
							       : "a time (ms, s, m, h, d) from ");
		add_units(out, (uint64_t)option->min, units);
		buf_add_text(out, " to ");
		add_units(out, (uint64_t)option->max, units);
		break;
	case OPTION_STRING:
		buf_add_text(out, "text of ");
		if (option->min > 0)
			buf_printf(out, "%.0f to ", option->min);
		buf_printf(out, "%s%.0f bytes", option->min > 0 ? "" : "at most ", option->max);
		break;
	}
}

static bool within(const struct option *option, double value)
{
	return value >= option->min && value <= option->max;
}

static bool read_value(const struct option *option, struct str text, void *at, struct arena *arena)
{
	int64_t i;
	uint64_t u;
	double d;

	switch (option->type) {
	case OPTION_INT:
		if (!str_i64(text, &i) || !within(option, (double)i))
			return false;
		*(int64_t *)at = i;
		return true;
	case OPTION_BYTES:
	case OPTION_MS:
		if (!read_units(text, option->type == OPTION_MS ? time_units : byte_units, &u) ||
		    !within(option, (double)u))
			return false;
		*(uint64_t *)at = u;
		return true;
	case OPTION_BOOL:
		if (!str_is(text, "true") && !str_is(text, "false"))
			return false;
		*(bool *)at = str_is(text, "true");
		return true;
	case OPTION_STRING:
		if (!within(option, (double)text.len) || memchr(text.ptr, '\0', text.len))
			return false;
		*(const char **)at = arena_dup(arena, text.ptr, text.len);
		return true;
	case OPTION_DOUBLE:
		if (!read_double(text, &d) || !within(option, d))
			return false;
		*(double *)at = d;
		return true;
	}
	return false;
}

enum option_result option_read(const struct option *option, struct str text, void *values,
			       struct arena *arena, const char **ret_why)
{
	struct buf why = {0};

	if (!text.ptr)
		text = STR("");
	if (read_value(option, text, (char *)values + option->offset, arena))
		return OPTION_OK;
	add_limits(&why, option);
	*ret_why = arena_strdup(arena, buf_text(&why));
	buf_fini(&why);
	return OPTION_BAD;
}

static size_t option_size(const struct option *option)
{
	switch (option->type) {
	case OPTION_INT:
		return sizeof(int64_t);
	case OPTION_BYTES:
	case OPTION_MS:
		return sizeof(uint64_t);
	case OPTION_BOOL:
		return sizeof(bool);
	case OPTION_STRING:
		return sizeof(const char *);
	case OPTION_DOUBLE:
		return sizeof(double);
	}
	return 0;
}

bool option_same(const struct option *option, const void *values, const void *others)
{
	const char *a = (const char *)values + option->offset;
	const char *b = (const char *)others + option->offset;

	if (option->type == OPTION_STRING)
		return strcmp(*(const char *const *)a, *(const char *const *)b) == 0;
	return memcmp(a, b, option_size(option)) == 0;
}

void option_copy(const struct option *option, void *values, const void *from)
{
	memcpy((char *)values + option->offset, (const char *)from + option->offset,
	       option_size(option));
}

static void add_default(struct buf *out, const struct option *option)
{
	switch (option->type) {
	case OPTION_INT:
		buf_add_i64(out, option->otherwise.i);
		break;
	case OPTION_BYTES:
		add_units(out, option->otherwise.u, byte_units);
		break;
	case OPTION_MS:
		add_units(out, option->otherwise.u, time_units);
		break;
	case OPTION_BOOL:
		buf_add_text(out, option->otherwise.b ? "true" : "false");
		break;
	case OPTION_STRING:
		buf_printf(out, "\"%s\"", option->otherwise.s);
		break;
	case OPTION_DOUBLE:
		add_number(out, option->otherwise.d);
		break;
	}
}

void option_help(const struct option *table, size_t count, const char *prefix, struct buf *out)
{
	for (size_t i = 0; i < count; i++) {
		buf_printf(out, "  %s%s  (", prefix, table[i].key);
		add_limits(out, &table[i]);
		buf_add_text(out, "; default ");
		add_default(out, &table[i]);
		buf_printf(out, ")\n      %s%s\n", table[i].help,
			   table[i].restart ? "; a change needs a restart" : "");
	}
}
