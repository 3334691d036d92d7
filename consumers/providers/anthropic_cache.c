/* Anthropic's prompt cache: breakpoints on the stable prefix (tools, system, conversation), where a client's body has none of its own. What
 * is shorter than the model caches is not marked: it would only cost. */
#include <string.h>

#include "consumers/providers/ask.h"
#include "lib/base/mem.h"

/* A token is at most so many bytes of English, on average: what is shorter than the minimum by this may still be cached by chance. */
#define BYTES_PER_TOKEN 4

/* The shortest prefix that is cached, in tokens. The first line that fits a model's version holds for it. */
static const struct {
	const char *family;
	int since; /* ask_version */
	int64_t tokens;
} shortest[] = {
    {"opus-", 500, 512},	 {"opus-", 408, 1024}, {"opus-", 407, 2048},  {"opus-", 405, 4096},
    {"sonnet-", 505, 512},	 {"haiku-", 505, 512}, {"haiku-", 405, 4096}, {"haiku", 0, 2048},
    {"mythos-preview", 0, 2048}, {"mythos", 0, 512},   {"fable", 0, 512},
};
#define SHORTEST_OTHERWISE 1024

static int64_t shortest_of(const char *model)
{
	for (size_t i = 0; i < countof(shortest); i++)
		if (ask_version(model, shortest[i].family) >= shortest[i].since)
			return shortest[i].tokens;
	return SHORTEST_OTHERWISE;
}

static struct str text_of(struct json_object *tree)
{
	size_t len;
	const char *text = json_object_to_json_string_length(tree, JSON_C_TO_STRING_PLAIN, &len);

	return (struct str){text, len};
}

static void mark(struct json_object *block)
{
	struct json_object *control = json_object_new_object();

	json_object_object_add(control, "type", json_object_new_string("ephemeral"));
	json_object_object_add(block, "cache_control", control);
}

/* The last block of the content at @key of @owner, which becomes a list of blocks where it was a string; NULL where there is none, or an
 * empty one. */
static struct json_object *last_block(struct json_object *owner, const char *key)
{
	struct json_object *content = json_member(owner, key), *list, *block;
	size_t count;

	if (json_object_is_type(content, json_type_string)) {
		if (!json_object_get_string_len(content))
			return NULL;
		block = json_object_new_object();
		json_object_object_add(block, "type", json_object_new_string("text"));
		json_object_object_add(block, "text", json_object_get(content));
		list = json_object_new_array();
		json_object_array_add(list, block);
		json_object_object_add(owner, key, list);
		return block;
	}
	count =
	    json_object_is_type(content, json_type_array) ? json_object_array_length(content) : 0;
	block = count ? json_object_array_get_idx(content, count - 1) : NULL;
	if (str_is(json_str(block, "type"), "thinking") ||
	    (str_is(json_str(block, "type"), "text") && !json_str(block, "text").len))
		return NULL; /* neither may be marked */
	return block;
}

/* The last message is the conversation's end: the next turn begins with all of this one. Not the beginning of an answer that is gone on with. */
static void mark_conversation(const struct ask *ask, struct json_object *body)
{
	struct json_object *messages = json_member(body, "messages"), *message = NULL, *block;
	size_t count =
	    json_object_is_type(messages, json_type_array) ? json_object_array_length(messages) : 0;

	if (ask->prefix.len && count)
		count--;
	if (!count || json_object_deep_copy(json_object_array_get_idx(messages, count - 1),
					    &message, NULL) < 0)
		return;
	block = last_block(message, "content");
	if (!block) {
		json_object_put(message);
		return;
	}
	mark(block);
	json_object_array_put_idx(messages, count - 1, message);
}

void ask_cache_anthropic(const struct ask *ask, struct json_object *body, uint64_t *ret_key)
{
	struct json_object *tools = json_member(body, "tools"), *block;
	size_t tool_count =
	    json_object_is_type(tools, json_type_array) ? json_object_array_length(tools) : 0;
	int64_t least = shortest_of(ask->model) * BYTES_PER_TOKEN, bytes = 0;

	*ret_key = 0;
	if (!ask->cache || strcmp(ask->cache, "none") == 0 ||
	    strstr(text_of(body).ptr, "\"cache_control\""))
		return;
	if (tool_count) {
		bytes += (int64_t)text_of(tools).len;
		*ret_key = ask_hash(*ret_key, text_of(tools));
	}
	if (json_member(body, "system")) {
		bytes += (int64_t)text_of(json_member(body, "system")).len;
		*ret_key = ask_hash(*ret_key, text_of(json_member(body, "system")));
	}
	if (bytes < least)
		*ret_key = 0;
	else if ((block = last_block(body, "system")))
		mark(block);
	else if (tool_count)
		mark(json_object_array_get_idx(tools, tool_count - 1));
	bytes += (int64_t)text_of(json_member(body, "messages")).len;
	if (ask->conversation && bytes >= least)
		mark_conversation(ask, body);
}
