#include "consumers/providers/quick.h"

#include <string.h>

#include "lib/base/json.h"

void quick_fini(struct quick *q)
{
	buf_fini(&q->before);
	buf_fini(&q->behind);
}

/* Offset of the closing quote of the string that begins at @at, or data.len. */
static size_t string_end(struct str data, size_t at, bool *ret_escaped)
{
	*ret_escaped = false;
	for (; at < data.len && data.ptr[at] != '"'; at++) {
		if (data.ptr[at] == '\\') {
			*ret_escaped = true;
			at++;
		}
	}
	return at < data.len ? at : data.len;
}

/* No control byte may stand in a JSON string. */
static bool plain(struct str inside)
{
	for (size_t i = 0; i < inside.len; i++)
		if ((unsigned char)inside.ptr[i] < 0x20)
			return false;
	return true;
}

bool quick_match(const struct quick *q, struct str data, struct buf *scratch, struct str *ret_text)
{
	struct str before = buf_str(&q->before), behind = buf_str(&q->behind), inside;
	bool escaped;
	size_t end;

	if (!before.len || data.len < before.len + behind.len ||
	    memcmp(data.ptr, before.ptr, before.len) != 0)
		return false;
	end = string_end(data, before.len, &escaped);
	if (data.len - end != behind.len || memcmp(data.ptr + end, behind.ptr, behind.len) != 0)
		return false;
	inside = (struct str){data.ptr + before.len, end - before.len};
	if (!plain(inside) || !str_utf8(inside))
		return false;
	if (!escaped) {
		*ret_text = inside;
		return true;
	}
	buf_reset(scratch);
	if (json_unescape(scratch, inside))
		return false;
	*ret_text = buf_str(scratch);
	return true;
}

void quick_learn(struct quick *q, struct str data, const char *key)
{
	size_t key_len = strlen(key), start, end;
	const char *at = memmem(data.ptr, data.len, key, key_len);
	bool escaped;

	if (!at)
		return;
	start = (size_t)(at - data.ptr) + key_len;
	if (memmem(at + key_len, data.len - start, key, key_len))
		return;
	end = string_end(data, start, &escaped);
	if (end == data.len)
		return;
	buf_reset(&q->before);
	buf_reset(&q->behind);
	buf_add(&q->before, data.ptr, start);
	buf_add(&q->behind, data.ptr + end, data.len - end);
}
