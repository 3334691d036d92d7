#include "tests/sim/directive.h"

#include <string.h>

#define MAX_MS (3600 * 1000)
#define MAX_TOKENS 1000000

/* "50", "0.5", "33.3" */
static bool read_rate(struct str s, double *ret)
{
	struct str whole = s;
	struct str rest = s;
	uint64_t a = 0;
	uint64_t b = 0;
	double scale = 1;
	str_split(&rest, '.', &whole);
	bool fraction = whole.len < s.len;
	if (!str_u64(whole, &a) || a > MAX_TOKENS || rest.len > 6)
		return false;
	if (fraction && !str_u64(rest, &b))
		return false;
	for (size_t i = 0; fraction && i < rest.len; i++)
		scale *= 10;
	*ret = (double)a + (double)b / scale;
	return true;
}

static bool read_below(struct str s, uint64_t most, uint64_t *ret)
{
	uint64_t value;
	if (!str_u64(s, &value) || value > most)
		return false;
	*ret = value;
	return true;
}

/* "N" or "N:MS" */
static bool read_stall(struct str s, struct sim_directive *d)
{
	struct str at;
	str_split(&s, ':', &at);
	d->stall_ms = 0;
	return read_below(at, MAX_TOKENS, &d->stall_at) &&
	       (s.len == 0 || read_below(s, MAX_MS, &d->stall_ms));
}

static bool read_status(struct str s, struct sim_directive *d)
{
	uint64_t status = 0;
	if (!read_below(s, 599, &status) || (status != 200 && status < 400))
		return false;
	d->status = (unsigned)status;
	return true;
}

static bool read_word(struct str key, struct str value, struct sim_directive *d)
{
	if (str_is(key, "head"))
		return read_below(value, MAX_MS, &d->head_ms);
	if (str_is(key, "ttft"))
		return read_below(value, MAX_MS, &d->ttft_ms);
	if (str_is(key, "rate"))
		return read_rate(value, &d->rate);
	if (str_is(key, "tokens"))
		return read_below(value, MAX_TOKENS, &d->tokens);
	if (str_is(key, "stall"))
		return read_stall(value, d);
	if (str_is(key, "fail"))
		return read_below(value, MAX_TOKENS, &d->fail_at);
	if (str_is(key, "cut"))
		return read_below(value, MAX_TOKENS, &d->cut_at);
	if (str_is(key, "end"))
		return read_below(value, MAX_TOKENS, &d->end_at);
	if (str_is(key, "status"))
		return read_status(value, d);
	if (str_is(key, "retry"))
		return read_below(value, MAX_MS, &d->retry_ms);
	return false;
}

enum sim_directive_result sim_directive_read(struct str text, struct sim_directive *d,
					     struct str *ret_bad)
{
	const char *begin = text.len ? memmem(text.ptr, text.len, "[sim ", 5) : NULL;
	if (!begin)
		return SIM_DIRECTIVE_OK;
	struct str rest = {begin + 5, text.len - (size_t)(begin + 5 - text.ptr)};
	const char *end = memchr(rest.ptr, ']', rest.len);
	if (!end) {
		*ret_bad = STR("[sim without ]");
		return SIM_DIRECTIVE_BAD;
	}
	rest.len = (size_t)(end - rest.ptr);
	struct str word;
	while (str_split(&rest, ' ', &word)) {
		struct str value = word;
		struct str key;
		if (word.len == 0)
			continue;
		str_split(&value, '=', &key);
		if (key.len == word.len || !read_word(key, value, d)) {
			*ret_bad = word;
			return SIM_DIRECTIVE_BAD;
		}
	}
	return SIM_DIRECTIVE_OK;
}
