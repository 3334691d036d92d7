/* On libyaml's events: the tree keeps the line of every node, which a loader that fills structs
 * forgets, and the second pass for meaning needs. */
#include "lib/svc/tree.h"

#include <yaml.h>

#include <stdbool.h>
#include <string.h>

#define TREE_DEPTH 16

struct tree_reader {
	struct arena *arena;
	const char *name;
	struct buf *errors;
	struct tree *open[TREE_DEPTH]; /* maps and lists that are not closed yet */
	struct tree **tail[TREE_DEPTH];
	unsigned depth;
	struct tree *root;
	struct str key; /* of the value that comes next in a map; ptr NULL where a key comes next */
	unsigned key_line;
};

static enum tree_result refuse(struct tree_reader *r, unsigned line, const char *what,
			       struct str which)
{
	buf_printf(r->errors, "%s:%u: %s", r->name, line, what);
	if (which.len)
		buf_printf(r->errors, " '%.*s'", STR_FMT(which));
	buf_add_char(r->errors, '\n');
	return TREE_MALFORMED;
}

static bool wants_key(const struct tree_reader *r)
{
	return r->depth && r->open[r->depth - 1]->kind == TREE_MAP && !r->key.ptr;
}

/* Hangs @node under the innermost open map or list. */
static enum tree_result hang(struct tree_reader *r, struct tree *node)
{
	if (!r->depth) {
		r->root = node;
		return TREE_OK;
	}
	if (r->key.ptr) {
		for (struct tree *t = r->open[r->depth - 1]->children; t; t = t->next) {
			if (str_eq(t->key, r->key))
				return refuse(r, r->key_line,
					      "this key stands here twice:", r->key);
		}
		node->key = r->key;
		node->line = r->key_line;
		r->key = (struct str){0};
	}
	*r->tail[r->depth - 1] = node;
	r->tail[r->depth - 1] = &node->next;
	return TREE_OK;
}

static enum tree_result on_scalar(struct tree_reader *r, const yaml_event_t *event, unsigned line)
{
	struct str text = {(const char *)event->data.scalar.value, event->data.scalar.length};
	bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	struct tree *node;

	if (event->data.scalar.anchor || event->data.scalar.tag)
		return refuse(r, line, "anchors and tags are not allowed", (struct str){0});
	text.ptr = arena_dup(r->arena, text.ptr, text.len);
	if (wants_key(r)) {
		r->key = text;
		r->key_line = line;
		return TREE_OK;
	}
	node = arena_new(r->arena, struct tree);
	node->kind = plain && (!text.len || str_is(text, "~") || str_is(text, "null"))
			 ? TREE_EMPTY
			 : TREE_SCALAR;
	node->line = line;
	node->text = text;
	return hang(r, node);
}

static enum tree_result on_open(struct tree_reader *r, enum tree_kind kind, unsigned line)
{
	struct tree *node;

	if (wants_key(r))
		return refuse(r, line, "a key must be a word", (struct str){0});
	if (r->depth == TREE_DEPTH)
		return refuse(r, line, "nested too deep", (struct str){0});
	node = arena_new(r->arena, struct tree);
	node->kind = kind;
	node->line = line;
	if (hang(r, node) != TREE_OK)
		return TREE_MALFORMED;
	r->open[r->depth] = node;
	r->tail[r->depth] = &node->children;
	r->depth++;
	return TREE_OK;
}

static enum tree_result on_event(struct tree_reader *r, const yaml_event_t *event)
{
	unsigned line = (unsigned)event->start_mark.line + 1;

	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return on_scalar(r, event, line);
	case YAML_MAPPING_START_EVENT:
		if (event->data.mapping_start.anchor || event->data.mapping_start.tag)
			return refuse(r, line, "anchors and tags are not allowed", (struct str){0});
		return on_open(r, TREE_MAP, line);
	case YAML_SEQUENCE_START_EVENT:
		if (event->data.sequence_start.anchor || event->data.sequence_start.tag)
			return refuse(r, line, "anchors and tags are not allowed", (struct str){0});
		return on_open(r, TREE_LIST, line);
	case YAML_MAPPING_END_EVENT:
	case YAML_SEQUENCE_END_EVENT:
		r->depth--;
		return TREE_OK;
	case YAML_ALIAS_EVENT:
		return refuse(r, line, "aliases are not allowed", (struct str){0});
	case YAML_DOCUMENT_START_EVENT:
		if (r->root)
			return refuse(r, line, "one document per file", (struct str){0});
		return TREE_OK;
	case YAML_NO_EVENT:
	case YAML_STREAM_START_EVENT:
	case YAML_STREAM_END_EVENT:
	case YAML_DOCUMENT_END_EVENT:
		return TREE_OK;
	}
	return TREE_OK;
}

enum tree_result tree_read(struct arena *arena, const char *name, struct str text,
			   struct tree **ret_root, struct buf *errors)
{
	struct tree_reader r = {.arena = arena, .name = name, .errors = errors};
	enum tree_result result = TREE_OK;
	bool more = true;
	yaml_parser_t parser;

	must(yaml_parser_initialize(&parser));
	yaml_parser_set_input_string(&parser, (const unsigned char *)(text.ptr ? text.ptr : ""),
				     text.len);
	while (result == TREE_OK && more) {
		yaml_event_t event;

		if (!yaml_parser_parse(&parser, &event)) {
			result =
			    refuse(&r, (unsigned)parser.problem_mark.line + 1,
				   parser.problem ? parser.problem : "not YAML", (struct str){0});
			break;
		}
		more = event.type != YAML_STREAM_END_EVENT;
		result = on_event(&r, &event);
		yaml_event_delete(&event);
	}
	yaml_parser_delete(&parser);
	if (result != TREE_OK)
		return result;
	if (!r.root) {
		r.root = arena_new(arena, struct tree);
		r.root->line = 1;
	}
	*ret_root = r.root;
	return TREE_OK;
}

const struct tree *tree_find(const struct tree *map, const char *key)
{
	for (const struct tree *t = map->children; t; t = t->next) {
		if (str_is(t->key, key))
			return t;
	}
	return NULL;
}
