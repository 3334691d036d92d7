#include "lib/svc/record.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/mem.h"

void record_refuse(struct record_reader *r, unsigned line, const char *format, ...)
{
	va_list args;
	char text[512];

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (line)
		buf_printf(r->errors, "%s:%u: %s\n", r->name, line, text);
	else
		buf_printf(r->errors, "%s: %s\n", r->name, text);
	r->mistakes++;
}

/* @node's text with the environment's values in it; false (and said) where one is missing. */
static bool substitute(struct record_reader *r, const struct tree *node, struct str *ret_text)
{
	struct str rest = node->text;
	struct buf out = {0};
	bool whole = true;

	while (rest.len) {
		const char *at = memmem(rest.ptr, rest.len, "${", 2);
		const char *end = at ? memchr(at, '}', (size_t)(rest.ptr + rest.len - at)) : NULL;
		cleanup_free char *name = NULL;
		const char *value;

		if (!end) {
			buf_add_str(&out, rest);
			break;
		}
		name = mem_dup(at + 2, (size_t)(end - at - 2));
		value = r->env(name);
		buf_add(&out, rest.ptr, (size_t)(at - rest.ptr));
		if (value) {
			buf_add_text(&out, value);
		} else {
			record_refuse(r, node->line, "the environment has no variable '%s'", name);
			whole = false;
		}
		rest.len = (size_t)(rest.ptr + rest.len - end - 1);
		rest.ptr = end + 1;
	}
	if (whole)
		*ret_text = (struct str){arena_dup(r->arena, buf_text(&out), out.len), out.len};
	buf_fini(&out);
	return whole;
}

static const struct option *find(const struct record_table *tables, size_t table_count,
				 struct str key, void **ret_values)
{
	/* The last table is the program's own: it may narrow what a common one says. */
	for (size_t i = table_count; i-- > 0;) {
		const struct option *o = option_find(tables[i].options, tables[i].count, key);

		if (o) {
			*ret_values = tables[i].values;
			return o;
		}
	}
	return NULL;
}

static void read_one(struct record_reader *r, const struct tree *node, const char *what,
		     const struct record_table *tables, size_t table_count)
{
	void *values;
	const struct option *o = find(tables, table_count, node->key, &values);
	const char *why;
	struct str text;

	if (!o) {
		record_refuse(r, node->line, "unknown key '%.*s' in %s", STR_FMT(node->key), what);
		return;
	}
	if (node->kind == TREE_MAP || node->kind == TREE_LIST) {
		record_refuse(r, node->line, "%s.%s: one value is expected here", what, o->key);
		return;
	}
	if (!substitute(r, node, &text))
		return;
	if (option_read(o, text, values, r->arena, &why) != OPTION_OK)
		record_refuse(r, node->line, "%s.%s: '%.*s' is not %s", what, o->key,
			      (int)(text.len < 80 ? text.len : 80), text.ptr, why);
}

static bool among(struct str key, const char *const *others)
{
	for (; others && *others; others++) {
		if (str_is(key, *others))
			return true;
	}
	return false;
}

void record_read(struct record_reader *r, const struct tree *map, const char *what,
		 const struct record_table *tables, size_t table_count, const char *const *others)
{
	for (size_t i = 0; i < table_count; i++)
		option_defaults(tables[i].options, tables[i].count, tables[i].values);
	if (map->kind != TREE_MAP && map->kind != TREE_EMPTY) {
		record_refuse(r, map->line, "%s: keys with values are expected here", what);
		return;
	}
	for (const struct tree *t = map->children; t; t = t->next) {
		if (!among(t->key, others))
			read_one(r, t, what, tables, table_count);
	}
	for (size_t i = 0; i < table_count; i++) {
		for (size_t k = 0; k < tables[i].count; k++) {
			const struct option *o = &tables[i].options[k];

			if (o->type == OPTION_STRING && o->min > 0 && !*o->otherwise.s &&
			    !tree_find(map, o->key))
				record_refuse(r, map->line, "%s: the key '%s' is missing", what,
					      o->key);
		}
	}
}

size_t record_count(struct record_reader *r, const struct tree *list, const char *what)
{
	size_t count = 0;

	if (!list || list->kind == TREE_EMPTY)
		return 0;
	if (list->kind != TREE_LIST) {
		record_refuse(r, list->line, "%s: a list is expected here", what);
		return 0;
	}
	for (const struct tree *t = list->children; t; t = t->next)
		count++;
	return count;
}

unsigned record_line(const struct tree *map, const char *key)
{
	const struct tree *t = tree_find(map, key);

	return t ? t->line : map->line;
}
