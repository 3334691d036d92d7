#include "consumers/providers/ask.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/mem.h"

enum provider_built ask_map(struct json_object *from, struct json_object *to,
			    const struct ask_field *table, char ret_why[static 128])
{
	json_object_object_foreach(from, key, value)
	{
		const struct ask_field *f = table;

		while (f->theirs && strcmp(f->theirs, key) != 0)
			f++;
		if (!f->theirs) {
			snprintf(ret_why, 128, "%.80s has no counterpart at this provider", key);
			return PROVIDER_CANNOT;
		}
		if (f->ours && !json_object_is_type(value, json_type_null))
			json_object_object_add(to, f->ours, json_object_get(value));
	}
	return PROVIDER_BUILT;
}

bool ask_text(struct json_object *content, struct buf *out)
{
	size_t count;

	if (json_object_is_type(content, json_type_string)) {
		buf_add_str(out, json_text(content));
		return true;
	}
	if (!json_object_is_type(content, json_type_array))
		return false;
	count = json_object_array_length(content);
	for (size_t i = 0; i < count; i++) {
		struct json_object *item = json_object_array_get_idx(content, i);

		if (!str_is(json_str(item, "type"), "text"))
			return false;
		buf_add_str(out, json_str(item, "text"));
	}
	return true;
}

struct json_object *ask_messages(const struct ask *ask, struct json_object *messages)
{
	struct json_object *all = json_object_new_array();
	struct json_object *lists[2] = {ask->history, messages};

	for (size_t l = 0; l < countof(lists); l++) {
		size_t count = json_object_is_type(lists[l], json_type_array)
				   ? json_object_array_length(lists[l])
				   : 0;

		for (size_t i = 0; i < count; i++)
			json_object_array_add(
			    all, json_object_get(json_object_array_get_idx(lists[l], i)));
	}
	return all;
}

struct json_object *ask_copy(const struct ask *ask)
{
	struct json_object *copy = NULL;

	if (json_object_deep_copy(ask->request, &copy, NULL) < 0 || !copy)
		copy = json_object_new_object();
	if (ask->history)
		json_object_object_add(copy, "messages",
				       ask_messages(ask, json_member(copy, "messages")));
	return copy;
}

/* A number of one or two digits at @text; what is longer is a date, or a size. */
static int small_number(const char *text, const char **ret_end)
{
	int value = 0, n = 0;

	while (text[n] >= '0' && text[n] <= '9' && n < 3)
		value = value * 10 + (text[n++] - '0');
	*ret_end = text + n;
	return n == 1 || n == 2 ? value : -1;
}

int ask_version(const char *model, const char *family)
{
	const char *at = strstr(model, family);
	int major, minor = -1;

	if (!at)
		return -1;
	major = small_number(at + strlen(family), &at);
	if (major < 0)
		return 0;
	if (*at == '-' || *at == '.')
		minor = small_number(at + 1, &at);
	return major * 100 + (minor < 0 ? 0 : minor);
}

enum provider_built ask_refused(const char *field, const struct ask *ask, char ret_why[static 128])
{
	snprintf(ret_why, 128, "%s is not taken by %.60s", field, ask->model);
	return PROVIDER_CANNOT;
}

struct str provider_prefix(struct str text)
{
	while (text.len && strchr(" \t\r\n\f\v", text.ptr[text.len - 1]))
		text.len--;
	return text;
}

int64_t provider_tokens(struct str text)
{
	return (int64_t)(text.len / 4);
}

static void ask_for_less(struct json_object *body, const char *name, int64_t stands)
{
	int64_t most = json_int(body, name, 0);

	if (most > 0)
		json_object_object_add(body, name,
				       json_object_new_int64(most > stands ? most - stands : 1));
}

void ask_put_prefix(const struct ask *ask, struct json_object *body)
{
	struct json_object *messages = json_member(body, "messages");
	size_t count = json_object_array_length(messages);
	struct json_object *last = count ? json_object_array_get_idx(messages, count - 1) : NULL;
	struct json_object *message = json_object_new_object();
	struct str prefix = provider_prefix(ask->prefix);
	struct buf text = {0};
	bool behind = str_is(json_str(last, "role"), "assistant") &&
		      ask_text(json_member(last, "content"), &text);

	if (!behind)
		buf_reset(&text);
	buf_add_str(&text, prefix);
	json_object_object_add(message, "role", json_object_new_string("assistant"));
	json_object_object_add(message, "content",
			       json_object_new_string_len(buf_str(&text).ptr, (int)text.len));
	if (behind)
		json_object_array_put_idx(messages, count - 1, message);
	else
		json_object_array_add(messages, message);
	ask_for_less(body, "max_tokens", provider_tokens(prefix));
	ask_for_less(body, "max_completion_tokens", provider_tokens(prefix));
	buf_fini(&text);
}

uint64_t ask_hash(uint64_t hash, struct str text)
{
	uint64_t h = hash ? hash : UINT64_C(0xcbf29ce484222325); /* FNV-1a */

	for (size_t i = 0; i < text.len; i++)
		h = (h ^ (unsigned char)text.ptr[i]) * UINT64_C(0x100000001b3);
	return h ? h : 1;
}

void ask_write(struct provider_request *request, struct json_object *body)
{
	size_t len;
	const char *text = json_object_to_json_string_length(
	    body, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);

	buf_add(&request->body, text, len);
}

void ask_add_field(struct provider_request *request, const char *name, struct str value)
{
	must(request->field_count < PROVIDER_FIELDS_MAX);
	request->fields[request->field_count++] = (struct http_field){str_of(name), value};
}
