#include <string.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "tests/sim/cache.h"

#define SEED UINT64_C(14695981039346656037)
/* OpenAI: from one spot to the next, in bytes of text: 128 tokens. */
#define STEP_BYTES 512

/* What is being laid end to end. */
struct laying {
	struct arena *arena;
	struct sim_prefix *prefix;
	size_t cap;
	uint64_t hash;
	uint64_t bytes;
	bool marks; /* spots are blocks, not steps */
};

static void spot_add(struct laying *l, struct json_object *mark)
{
	struct sim_prefix *p = l->prefix;
	if (p->count == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 32;
		struct sim_spot *more = arena_alloc(l->arena, cap * sizeof(*more));
		if (p->count)
			memcpy(more, p->spots, p->count * sizeof(*more));
		p->spots = more;
		l->cap = cap;
	}
	p->spots[p->count++] = (struct sim_spot){.hash = l->hash,
						 .bytes = l->bytes,
						 .marked = mark != NULL,
						 .hour = str_is(json_str(mark, "ttl"), "1h")};
}

static void lay(struct laying *l, struct str s)
{
	l->hash = sim_cache_hash(l->hash, s.ptr ? s.ptr : "", s.len);
	l->hash = sim_cache_hash(l->hash, "", 1);
}

static void lay_tree(struct laying *l, struct json_object *value)
{
	if (value)
		lay(l, str_of(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN)));
	else
		lay(l, STR("null"));
}

/* Text that counts; where spots are steps, they are set within it. */
static void lay_text(struct laying *l, struct str s)
{
	while (!l->marks && s.len) {
		uint64_t next = l->bytes < SIM_CACHE_OPENAI_BYTES
				    ? SIM_CACHE_OPENAI_BYTES
				    : (l->bytes / STEP_BYTES + 1) * STEP_BYTES;
		if (l->bytes + s.len < next)
			break;
		size_t take = (size_t)(next - l->bytes);
		l->hash = sim_cache_hash(l->hash, s.ptr, take);
		l->bytes = next;
		spot_add(l, NULL);
		s = (struct str){s.ptr + take, s.len - take};
	}
	l->bytes += s.len;
	lay(l, s);
}

/* ---- Anthropic ---- */

/* The mark of a block or of one inside it; both are taken out, so that a moved mark changes no hash. */
static struct json_object *take_mark(struct json_object *block)
{
	struct json_object *inner = json_member(block, "content");
	struct json_object *mark = json_object_get(json_member(block, "cache_control"));
	size_t count =
	    json_object_is_type(inner, json_type_array) ? json_object_array_length(inner) : 0;
	if (json_object_is_type(block, json_type_object))
		json_object_object_del(block, "cache_control");
	for (size_t i = 0; i < count; i++) {
		struct json_object *more = take_mark(json_object_array_get_idx(inner, i));
		if (more) {
			json_object_put(mark);
			mark = more;
		}
	}
	return mark;
}

/* What counts as input in a block: its text, or a tool's result that is a string. */
static uint64_t block_bytes(struct json_object *block)
{
	struct str type = json_str(block, "type");
	if (str_is(type, "text"))
		return json_str(block, "text").len;
	return str_is(type, "tool_result") ? json_str(block, "content").len : 0;
}

static void lay_blocks(struct laying *l, struct json_object *blocks)
{
	if (json_object_is_type(blocks, json_type_string)) {
		lay_text(l, json_text(blocks));
		spot_add(l, NULL);
		return;
	}
	for (size_t i = 0; i < json_object_array_length(blocks); i++) {
		struct json_object *block = json_object_array_get_idx(blocks, i);
		struct json_object *mark = take_mark(block);
		/* Text alone is the same as a string. */
		if (str_is(json_str(block, "type"), "text") &&
		    json_object_object_length(block) == 2) {
			lay_text(l, json_str(block, "text"));
		} else {
			l->bytes += block_bytes(block);
			lay_tree(l, block);
		}
		spot_add(l, mark);
		json_object_put(mark);
	}
}

void sim_prefix_anthropic(struct json_object *body, struct arena *arena, struct sim_prefix *ret)
{
	struct laying l = {.arena = arena, .prefix = ret, .hash = SEED, .marks = true};
	struct json_object *messages = json_member(body, "messages");
	struct json_object *part;
	*ret = (struct sim_prefix){0};
	if ((part = json_member(body, "tools")))
		lay_blocks(&l, part);
	lay(&l, STR("system"));
	if ((part = json_member(body, "system")))
		lay_blocks(&l, part);
	lay(&l, STR("messages"));
	lay_tree(&l, json_member(body, "tool_choice"));
	lay_tree(&l, json_member(body, "thinking"));
	for (size_t i = 0; i < json_object_array_length(messages); i++) {
		struct json_object *message = json_object_array_get_idx(messages, i);
		lay(&l, json_str(message, "role"));
		lay_blocks(&l, json_member(message, "content"));
	}
	/* One at the top marks the end. */
	struct json_object *top = json_member(body, "cache_control");
	if (top && ret->count) {
		struct sim_spot *last = &ret->spots[ret->count - 1];
		last->marked = true;
		last->hour = str_is(json_str(top, "ttl"), "1h");
	}
}

/* ---- OpenAI ---- */

void sim_prefix_openai(struct json_object *body, struct arena *arena, struct sim_prefix *ret)
{
	struct laying l = {.arena = arena, .prefix = ret, .hash = SEED};
	struct json_object *messages = json_member(body, "messages");
	*ret = (struct sim_prefix){0};
	lay(&l, json_str(body, "prompt_cache_key"));
	lay_tree(&l, json_member(body, "response_format"));
	lay_tree(&l, json_member(body, "tools"));
	for (size_t i = 0; i < json_object_array_length(messages); i++) {
		struct json_object *message = json_object_array_get_idx(messages, i);
		struct json_object *content = json_member(message, "content");
		lay(&l, json_str(message, "role"));
		lay_tree(&l, json_member(message, "tool_calls"));
		if (json_object_is_type(content, json_type_string))
			lay_text(&l, json_text(content));
		if (!json_object_is_type(content, json_type_array))
			continue;
		for (size_t k = 0; k < json_object_array_length(content); k++) {
			struct json_object *block = json_object_array_get_idx(content, k);
			if (str_is(json_str(block, "type"), "text"))
				lay_text(&l, json_str(block, "text"));
			else
				lay_tree(&l, block);
		}
	}
}
