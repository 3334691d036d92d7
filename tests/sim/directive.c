#include "tests/sim/directive.h"

#include <string.h>

#define MAX_MS (3600 * 1000)
#define MAX_TOKENS 1000000
#define MAX_BYTES (64 << 20)

static const struct {
	const char *name;
	enum sim_place place;
} faults[] = {
#define FAULT(NAME, name, place, text) {name, SIM_PLACE_##place},
#include "tests/sim/fault.def"
#undef FAULT
};

const char *sim_fault_name(enum sim_fault fault)
{
	return faults[fault].name;
}

enum sim_place sim_fault_place(enum sim_fault fault)
{
	return faults[fault].place;
}

enum sim_fault sim_fault_of(struct str name)
{
	unsigned i = 0;
	while (i < SIM_FAULTS && !str_is(name, faults[i].name))
		i++;
	return (enum sim_fault)i;
}

/* ---- numbers ---- */

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

static bool read_status(struct str s, struct sim_directive *d)
{
	uint64_t status = 0;
	if (!read_below(s, 599, &status) || (status != 200 && status < 400))
		return false;
	d->status = (unsigned)status;
	return true;
}

static bool read_code(struct str s, struct sim_directive *d)
{
	if (s.len == 0 || s.len >= SIM_CODE_SIZE)
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] != '_' && (s.ptr[i] < 'a' || s.ptr[i] > 'z'))
			return false;
	memcpy(d->code, s.ptr, s.len);
	d->code[s.len] = '\0';
	return true;
}

static bool read_only(struct str s, struct sim_directive *d)
{
	if (s.len == 0 || s.len >= SIM_ONLY_SIZE)
		return false;
	memcpy(d->only, s.ptr, s.len);
	d->only[s.len] = '\0';
	return true;
}

void sim_directive_for(struct sim_directive *d, struct str model)
{
	if (str_starts(model, d->only))
		return;
	d->status = 200;
	d->page = false;
	d->count = 0;
}

static bool read_flag(struct str s, bool *ret)
{
	*ret = str_is(s, "1");
	return *ret || str_is(s, "0");
}

static bool read_slow(struct str s, struct sim_directive *d)
{
	double factor;
	if (!read_rate(s, &factor) || factor <= 0)
		return false;
	sim_directive_slow(d, factor);
	return true;
}

/* "ask", "N" tokens or "Nb" bytes; then, where the fault has one, ":ARG" */
static bool read_break(enum sim_fault fault, struct str s, struct sim_directive *d)
{
	struct sim_break b = {.fault = fault, .after = SIM_AFTER_TOKENS};
	struct str at;
	str_split(&s, ':', &at);
	if (str_is(at, "ask")) {
		b.after = SIM_AFTER_ASK;
	} else if (at.len && at.ptr[at.len - 1] == 'b') {
		b.after = SIM_AFTER_BYTES;
		at.len--;
	}
	if (b.after != SIM_AFTER_ASK &&
	    !read_below(at, b.after == SIM_AFTER_BYTES ? MAX_BYTES : MAX_TOKENS, &b.at))
		return false;
	if (fault == SIM_FAULT_HUGE)
		b.arg = SIM_HUGE_BYTES;
	if (s.len && !(fault == SIM_FAULT_STALL && read_below(s, MAX_MS, &b.arg)) &&
	    !(fault == SIM_FAULT_HUGE && read_below(s, MAX_BYTES, &b.arg)))
		return false;
	if (d->count == SIM_BREAKS)
		return false;
	d->breaks[d->count++] = b;
	return true;
}

/* ---- words ---- */

static bool read_word(struct str name, struct str value, struct sim_directive *d)
{
	enum sim_fault fault = sim_fault_of(name);
	if (str_is(name, "head"))
		return read_below(value, MAX_MS, &d->head_ms);
	if (str_is(name, "ttft"))
		return read_below(value, MAX_MS, &d->ttft_ms);
	if (str_is(name, "rate"))
		return read_rate(value, &d->rate);
	if (str_is(name, "tokens"))
		return read_below(value, MAX_TOKENS, &d->tokens);
	if (str_is(name, "retry"))
		return read_below(value, MAX_MS, &d->retry_ms);
	if (str_is(name, "code"))
		return read_code(value, d);
	if (str_is(name, "only"))
		return read_only(value, d);
	if (str_is(name, "words"))
		return read_flag(value, &d->words);
	if (str_is(name, "usage")) {
		bool said;
		if (!read_flag(value, &said))
			return false;
		d->no_usage = !said;
		return true;
	}
	if (fault == SIM_FAULT_STATUS)
		return read_status(value, d);
	if (fault == SIM_FAULT_PAGE)
		return read_flag(value, &d->page);
	if (fault == SIM_FAULT_BYTES)
		return read_flag(value, &d->bytes);
	if (fault == SIM_FAULT_CRLF)
		return read_flag(value, &d->crlf);
	if (fault == SIM_FAULT_SLOW)
		return read_slow(value, d);
	if (fault == SIM_FAULTS || sim_fault_place(fault) != SIM_PLACE_WITHIN)
		return false;
	return read_break(fault, value, d);
}

/* A fault's name alone: as soon as asked, or the whole answer. */
static bool read_bare(struct str name, struct sim_directive *d)
{
	enum sim_fault fault = sim_fault_of(name);
	if (fault == SIM_FAULTS || fault == SIM_FAULT_STATUS || fault == SIM_FAULT_SLOW)
		return false;
	return read_word(name, sim_fault_place(fault) == SIM_PLACE_WITHIN ? STR("ask") : STR("1"),
			 d);
}

enum sim_directive_result sim_directive_words(struct str rest, struct sim_directive *d,
					      struct str *ret_bad)
{
	struct str word;
	while (str_split(&rest, ' ', &word)) {
		struct str value = word;
		struct str key;
		if (word.len == 0)
			continue;
		str_split(&value, '=', &key);
		if (key.len == word.len ? !read_bare(word, d) : !read_word(key, value, d)) {
			*ret_bad = word;
			return SIM_DIRECTIVE_BAD;
		}
	}
	return SIM_DIRECTIVE_OK;
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
	return sim_directive_words(rest, d, ret_bad);
}

void sim_directive_slow(struct sim_directive *d, double factor)
{
	d->head_ms = (uint64_t)((double)d->head_ms * factor);
	d->ttft_ms = (uint64_t)((double)d->ttft_ms * factor);
	d->rate /= factor;
}

struct sim_break *sim_directive_at_once(struct sim_directive *d)
{
	for (unsigned i = 0; i < d->count; i++)
		if (d->breaks[i].after == SIM_AFTER_ASK && !d->breaks[i].done)
			return &d->breaks[i];
	return NULL;
}

bool sim_directive_undone(struct sim_directive *d)
{
	const struct sim_break *b = sim_directive_at_once(d);
	return b && (b->fault == SIM_FAULT_REFUSED || b->fault == SIM_FAULT_UNDONE);
}
