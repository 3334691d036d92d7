#include "lib/base/json_check.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/arena.h"
#include "lib/base/mem.h"

/* Up to this many keys an object's keys are compared in pairs; beyond, they are sorted. */
#define PAIRS_MAX 16

struct key {
	struct str text; /* without escapes */
	size_t at;
};

struct check {
	struct str text;
	size_t at;
	struct json_error *error;
	struct {
		bool object;
		size_t keys; /* of the objects around it */
	} open[JSON_DEPTH_MAX];
	unsigned depth;
	struct key *keys; /* of all open objects, innermost last */
	size_t key_count;
	size_t key_cap;
	struct arena unescaped;
	struct buf scratch;
};

static bool fail(struct check *c, size_t at, const char *message)
{
	c->error->offset = at;
	snprintf(c->error->message, sizeof(c->error->message), "%s", message);
	return false;
}

/* The byte at the reading place; -1 at the end. */
static int peek(const struct check *c)
{
	return c->at < c->text.len ? (unsigned char)c->text.ptr[c->at] : -1;
}

static void skip_blanks(struct check *c)
{
	int b;

	while ((b = peek(c)) == ' ' || b == '\n' || b == '\r' || b == '\t')
		c->at++;
}

static bool check_utf8(struct check *c, size_t from)
{
	struct str run = {c->text.ptr + from, c->at - from};

	if (str_utf8(run))
		return true;
	/* Walks to the first byte that begins no code point. */
	while (run.len) {
		size_t n = 1;

		while (n <= 4 && n <= run.len && !str_utf8((struct str){run.ptr, n}))
			n++;
		if (n > 4 || n > run.len)
			break;
		run.ptr += n;
		run.len -= n;
	}
	return fail(c, (size_t)(run.ptr - c->text.ptr), "invalid UTF-8");
}

/* The bytes of an escape that begins at the reading place, 0 where it is malformed. */
static size_t escape_length(struct check *c)
{
	struct str rest = {c->text.ptr + c->at, c->text.len - c->at};

	if (rest.len < 2)
		return 0;
	if (rest.ptr[1] != 'u')
		return rest.ptr[1] && strchr("\"\\/bfnrt", rest.ptr[1]) ? 2 : 0;
	/* One half, or a pair of them. */
	for (size_t n = 6; n <= 12 && n <= rest.len; n += 6) {
		buf_reset(&c->scratch);
		if (json_unescape(&c->scratch, (struct str){rest.ptr, n}) == JSON_OK)
			return n;
	}
	return 0;
}

static bool fail_escape(struct check *c)
{
	const char *p = c->text.ptr + c->at;
	size_t left = c->text.len - c->at;

	if (left >= 6 && memcmp(p, "\\u0000", 6) == 0)
		return fail(c, c->at, "NUL byte in a string");
	if (left >= 6 && p[1] == 'u' && (p[2] | 0x20) == 'd' && strchr("89abcdefABCDEF", p[3]))
		return fail(c, c->at, "lone surrogate in a string");
	return fail(c, c->at, "bad escape in a string");
}

/* Reads a string from its first quote to behind its last. *@ret_escaped: it has escapes. */
static bool check_string(struct check *c, bool *ret_escaped)
{
	size_t begin = ++c->at;
	bool high = false;
	int b;

	*ret_escaped = false;
	while ((b = peek(c)) != '"') {
		if (b < 0)
			return fail(c, c->text.len, "a string without end");
		if (b < 0x20)
			return fail(c, c->at, "control character in a string");
		if (b == '\\') {
			size_t n = escape_length(c);

			if (!n)
				return fail_escape(c);
			*ret_escaped = true;
			c->at += n;
			continue;
		}
		high |= b >= 0x80;
		c->at++;
	}
	if (high && !check_utf8(c, begin))
		return false;
	c->at++;
	return true;
}

static size_t skip_digits(struct check *c)
{
	size_t from = c->at;

	while (peek(c) >= '0' && peek(c) <= '9')
		c->at++;
	return c->at - from;
}

/* Whether a number without syntax errors fits 64 bits (whole) or a double. */
static bool number_fits(struct str number, bool whole)
{
	char *copy;
	bool fits;

	if (whole && number.len < 19)
		return true;
	copy = mem_dup(number.ptr, number.len);
	errno = 0;
	if (!whole)
		fits = isfinite(strtod(copy, NULL));
	else if (*copy == '-')
		fits = strtoll(copy, NULL, 10) && errno == 0;
	else
		fits = strtoull(copy, NULL, 10) && errno == 0;
	mem_free(copy);
	return fits;
}

static bool check_number(struct check *c)
{
	size_t begin = c->at;
	bool whole = true;

	if (peek(c) == '-')
		c->at++;
	if (peek(c) == '0')
		c->at++;
	else if (!skip_digits(c))
		return fail(c, c->at, "expected a digit");
	if (peek(c) == '.') {
		whole = false;
		c->at++;
		if (!skip_digits(c))
			return fail(c, c->at, "expected a digit");
	}
	if (peek(c) == 'e' || peek(c) == 'E') {
		whole = false;
		c->at++;
		if (peek(c) == '+' || peek(c) == '-')
			c->at++;
		if (!skip_digits(c))
			return fail(c, c->at, "expected a digit");
	}
	if (!number_fits((struct str){c->text.ptr + begin, c->at - begin}, whole))
		return fail(c, begin, "number out of range");
	return true;
}

static bool check_word(struct check *c, const char *word)
{
	struct str rest = {c->text.ptr + c->at, c->text.len - c->at};

	if (!str_starts(rest, word))
		return fail(c, c->at, "expected a value");
	c->at += strlen(word);
	return true;
}

static int key_order(const void *left, const void *right)
{
	const struct key *a = left;
	const struct key *b = right;
	int r;

	if (a->text.len != b->text.len)
		return a->text.len < b->text.len ? -1 : 1;
	r = a->text.len ? memcmp(a->text.ptr, b->text.ptr, a->text.len) : 0;
	if (r)
		return r;
	return a->at < b->at ? -1 : a->at > b->at;
}

static bool fail_duplicate(struct check *c, const struct key *key)
{
	size_t shown = str_utf8_cut(key->text, 64);

	c->error->offset = key->at;
	snprintf(c->error->message, sizeof(c->error->message), "duplicate key \"%.*s\"", (int)shown,
		 key->text.ptr);
	return false;
}

/* At the end of an object: no two of its keys are the same. */
static bool check_keys(struct check *c, struct key *keys, size_t count)
{
	const struct key *found = NULL;

	if (count <= PAIRS_MAX) {
		for (size_t i = 1; i < count; i++)
			for (size_t k = 0; k < i; k++)
				if (str_eq(keys[i].text, keys[k].text))
					return fail_duplicate(c, &keys[i]);
		return true;
	}
	qsort(keys, count, sizeof(*keys), key_order);
	for (size_t i = 1; i < count; i++)
		if (str_eq(keys[i].text, keys[i - 1].text) && (!found || keys[i].at < found->at))
			found = &keys[i];
	return found ? fail_duplicate(c, found) : true;
}

static bool check_key(struct check *c)
{
	size_t begin = c->at;
	struct str text;
	bool escaped;

	if (peek(c) != '"')
		return fail(c, c->at, "expected a key");
	if (!check_string(c, &escaped))
		return false;
	text = (struct str){c->text.ptr + begin + 1, c->at - begin - 2};
	if (escaped) {
		buf_reset(&c->scratch);
		must(json_unescape(&c->scratch, text) == JSON_OK);
		text = buf_str(&c->scratch);
		text.ptr = arena_dup(&c->unescaped, text.ptr, text.len);
	}
	if (c->key_count == c->key_cap) {
		c->key_cap = c->key_cap ? c->key_cap * 2 : 32;
		c->keys = mem_resize(c->keys, c->key_cap * sizeof(*c->keys));
	}
	c->keys[c->key_count++] = (struct key){text, begin};
	skip_blanks(c);
	if (peek(c) != ':')
		return fail(c, c->at, "expected a colon");
	c->at++;
	return true;
}

static bool open_bracket(struct check *c)
{
	if (c->depth == JSON_DEPTH_MAX)
		return fail(c, c->at, "nesting over 64 levels");
	c->open[c->depth].object = peek(c) == '{';
	c->open[c->depth].keys = c->key_count;
	c->depth++;
	c->at++;
	return true;
}

static bool close_bracket(struct check *c)
{
	size_t first = c->open[--c->depth].keys;

	c->at++;
	if (c->key_count > first && !check_keys(c, c->keys + first, c->key_count - first))
		return false;
	c->key_count = first;
	return true;
}

/* What stands behind a value: closing brackets, then a comma with its key, or the end. *@ret_more:
 * a value follows. */
static bool after_value(struct check *c, bool *ret_more)
{
	for (;;) {
		bool object;
		int b;

		skip_blanks(c);
		*ret_more = false;
		if (!c->depth)
			return true;
		object = c->open[c->depth - 1].object;
		b = peek(c);
		if (b == (object ? '}' : ']')) {
			if (!close_bracket(c))
				return false;
			continue;
		}
		if (b != ',')
			return fail(c, c->at,
				    object ? "expected a comma or }" : "expected a comma or ]");
		c->at++;
		skip_blanks(c);
		*ret_more = true;
		return object ? check_key(c) : true;
	}
}

/* One value, or the opening of one. *@ret_inside: a bracket was opened and a value follows in it.
 */
static bool check_value(struct check *c, bool *ret_inside)
{
	bool escaped;
	int b;

	*ret_inside = false;
	skip_blanks(c);
	b = peek(c);
	if (b == '{' || b == '[') {
		if (!open_bracket(c))
			return false;
		skip_blanks(c);
		if (peek(c) == (b == '{' ? '}' : ']'))
			return close_bracket(c);
		*ret_inside = true;
		return b == '{' ? check_key(c) : true;
	}
	if (b == '"')
		return check_string(c, &escaped);
	if (b == '-' || (b >= '0' && b <= '9'))
		return check_number(c);
	if (b == 't')
		return check_word(c, "true");
	if (b == 'f')
		return check_word(c, "false");
	if (b == 'n')
		return check_word(c, "null");
	return fail(c, c->at, "expected a value");
}

static bool check_all(struct check *c, struct str *ret_value)
{
	bool more = true;
	size_t begin;

	if (c->text.len > INT_MAX / 2)
		return fail(c, 0, "too long");
	skip_blanks(c);
	begin = c->at;
	while (more)
		if (!check_value(c, &more) || (!more && !after_value(c, &more)))
			return false;
	if (c->at < c->text.len)
		return fail(c, c->at, "bytes behind the value");
	*ret_value = (struct str){c->text.ptr + begin, c->at - begin};
	return true;
}

enum json_result json_check(struct str text, struct str *ret_value, struct json_error *ret_error)
{
	struct check c = {.text = text, .error = ret_error};
	bool good = check_all(&c, ret_value);

	arena_reset(&c.unescaped);
	buf_fini(&c.scratch);
	mem_free(c.keys);
	return good ? JSON_OK : JSON_MALFORMED;
}
