#include "consumers/providers/parts.h"

#include <string.h>

#include "consumers/providers/answer.h"
#include "lib/base/mem.h"

void parts_fini(struct parts *parts)
{
	for (size_t i = 0; i < parts->count; i++) {
		buf_fini(&parts->all[i].id);
		buf_fini(&parts->all[i].name);
		buf_fini(&parts->all[i].held);
	}
	mem_free(parts->all);
	*parts = (struct parts){0};
}

static bool is_call(const struct part *p)
{
	return strcmp(p->type, "tool_call") == 0;
}

static size_t place(const struct answer *a, const struct part *p)
{
	return (size_t)(p - a->parts.all);
}

/* A tool call is announced with its name, which may come late. */
static void tell(struct answer *a, struct part *p, bool nameless)
{
	if (p->told || (is_call(p) && !p->name.len && !nameless))
		return;
	p->told = true;
	answer_part(a, p->type, buf_str(&p->id), buf_str(&p->name));
}

static void open_next(struct answer *a)
{
	struct part *p;

	a->parts.open++;
	p = &a->parts.all[a->parts.open];
	tell(a, p, p->held.len > 0);
	answer_text(a, buf_str(&p->held));
	a->parts.held_bytes -= p->held.len;
	buf_fini(&p->held);
}

/* Opens what waits behind parts that have ended. */
static void advance(struct answer *a)
{
	struct parts *parts = &a->parts;

	while (parts->open + 1 < parts->count) {
		struct part *p = &parts->all[parts->open];

		if (is_call(p) && !p->whole && !p->stopped)
			return;
		tell(a, p, true);
		open_next(a);
	}
}

struct part *parts_begin(struct answer *a, const char *type, int64_t key, struct str id,
			 struct str name)
{
	struct parts *parts = &a->parts;
	struct part *p;

	if (parts->count == PARTS_MAX)
		answer_fail(a, FAULT_PROVIDER_TOO_BIG, STR("the answer has too many parts"));
	if (id.len > PROVIDER_PART_ID_MAX || name.len > PROVIDER_PART_NAME_MAX)
		answer_fail(a, FAULT_PROVIDER_MALFORMED,
			    STR("a part of the answer has an id or a name that is too long"));
	if (a->over)
		return NULL;
	if (parts->count == parts->room) {
		parts->room = parts->room ? 2 * parts->room : 4;
		parts->all = mem_resize(parts->all, parts->room * sizeof(parts->all[0]));
	}
	p = &parts->all[parts->count++];
	*p = (struct part){.type = type, .key = key};
	buf_add_str(&p->id, id);
	buf_add_str(&p->name, name);
	if (place(a, p) == parts->open)
		tell(a, p, false);
	advance(a);
	return p;
}

struct part *parts_find(struct answer *a, int64_t key, struct str id)
{
	for (size_t i = a->parts.count; i-- > 0;) {
		struct part *p = &a->parts.all[i];

		if (p->key == key && (!id.len || !p->id.len || str_eq(buf_str(&p->id), id)))
			return p;
	}
	return NULL;
}

struct part *parts_last(struct answer *a)
{
	return a->parts.count ? &a->parts.all[a->parts.count - 1] : NULL;
}

bool parts_flows(const struct answer *a, int64_t key, const char *type)
{
	const struct parts *parts = &a->parts;
	const struct part *p;

	if (!parts->count || parts->open + 1 < parts->count)
		return false;
	p = &parts->all[parts->open];
	return p->key == key && strcmp(p->type, type) == 0;
}

/* Follows the brackets of the arguments: whole is where the first one is closed. */
static void read_arguments(struct part *p, struct str text)
{
	for (size_t i = 0; i < text.len && !p->whole; i++) {
		char c = text.ptr[i];

		if (p->escaped) {
			p->escaped = false;
		} else if (p->in_string) {
			p->escaped = c == '\\';
			p->in_string = c != '"';
		} else if (c == '"') {
			p->in_string = p->depth > 0;
		} else if (c == '{' || c == '[') {
			p->depth++;
		} else if ((c == '}' || c == ']') && p->depth) {
			p->whole = --p->depth == 0;
		}
	}
}

static bool blank(struct str text)
{
	size_t i = 0;

	while (i < text.len && strchr(" \t\r\n", text.ptr[i]))
		i++;
	return i == text.len;
}

void parts_text(struct answer *a, struct part *p, struct str text)
{
	if (!text.len || a->over)
		return;
	if (is_call(p))
		read_arguments(p, text);
	if (place(a, p) < a->parts.open) {
		if (!blank(text))
			answer_fail(a, FAULT_PROVIDER_MALFORMED,
				    STR("a part of the answer goes on behind its end"));
	} else if (place(a, p) == a->parts.open) {
		tell(a, p, true);
		answer_text(a, text);
	} else if (text.len > PARTS_HELD_MAX - a->parts.held_bytes) {
		answer_fail(a, FAULT_PROVIDER_TOO_BIG,
			    STR("the answer's parts are mixed, and too long to be put in order"));
	} else {
		a->parts.held_bytes += text.len;
		buf_add_str(&p->held, text);
	}
	advance(a);
}

void parts_name(struct answer *a, struct part *p, struct str name)
{
	if (!name.len || p->told || p->name.len)
		return;
	if (name.len > PROVIDER_PART_NAME_MAX) {
		answer_fail(a, FAULT_PROVIDER_MALFORMED,
			    STR("a part of the answer has an id or a name that is too long"));
		return;
	}
	buf_add_str(&p->name, name);
	if (place(a, p) == a->parts.open)
		tell(a, p, false);
}

void parts_stop(struct answer *a, struct part *p)
{
	if (!p)
		return;
	p->stopped = true;
	advance(a);
}

void parts_end(struct answer *a)
{
	struct parts *parts = &a->parts;

	if (!parts->count)
		return;
	for (;;) {
		tell(a, &parts->all[parts->open], true);
		if (parts->open + 1 >= parts->count)
			return;
		open_next(a);
	}
}
