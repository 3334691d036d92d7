#include "tests/sim/family.h"

#include <string.h>

#include "lib/base/mem.h"

/* A number of at most two digits; what is longer is a date. False where there is none. */
static bool small(struct str *rest, unsigned *ret)
{
	size_t n = 0;
	unsigned value = 0;
	while (n < rest->len && rest->ptr[n] >= '0' && rest->ptr[n] <= '9' && n < 3)
		value = value * 10 + (unsigned)(rest->ptr[n++] - '0');
	if (n == 0 || n > 2)
		return false;
	*rest = (struct str){rest->ptr + n, rest->len - n};
	*ret = value;
	return true;
}

/* "4-7…" and "4.7…" are 407, "5" is 500, "20250514" is 0. */
static unsigned version(struct str rest)
{
	unsigned major = 0;
	unsigned minor = 0;
	if (!small(&rest, &major))
		return 0;
	if (rest.len && (rest.ptr[0] == '-' || rest.ptr[0] == '.')) {
		rest = (struct str){rest.ptr + 1, rest.len - 1};
		if (!small(&rest, &minor))
			minor = 0;
	}
	return major * 100 + minor;
}

/* A family's word, and from which version on it refuses. */
struct since {
	const char *word;
	unsigned sampling;
	unsigned prefill;
};

static const struct since *since_of(struct str model, unsigned *ret_version)
{
	static const struct since rows[] = {
	    {"opus-", 407, 406}, {"sonnet-", 500, 406}, {"haiku-", 500, 500},
	    {"fable", 0, 0},	 {"mythos", 0, 0},
	};
	for (size_t i = 0; i < countof(rows); i++) {
		size_t len = strlen(rows[i].word);
		const char *at = model.len ? memmem(model.ptr, model.len, rows[i].word, len) : NULL;
		if (!at)
			continue;
		*ret_version =
		    version((struct str){at + len, model.len - (size_t)(at + len - model.ptr)});
		return &rows[i];
	}
	return NULL;
}

bool sim_family_no_sampling(struct str model)
{
	unsigned v;
	const struct since *s = since_of(model, &v);
	return s && v >= s->sampling;
}

bool sim_family_no_prefill(struct str model)
{
	unsigned v;
	const struct since *s = since_of(model, &v);
	return s && v >= s->prefill;
}

static unsigned gpt(struct str model)
{
	if (!str_starts(model, "gpt-") || str_starts(model, "gpt-5-chat"))
		return 0;
	return version((struct str){model.ptr + 4, model.len - 4});
}

bool sim_family_reasons(struct str model)
{
	if (model.len >= 2 && model.ptr[0] == 'o' && model.ptr[1] >= '1' && model.ptr[1] <= '9')
		return true;
	return gpt(model) >= 500;
}

bool sim_family_may_not_reason(struct str model)
{
	return gpt(model) >= 501;
}

uint64_t sim_family_cache_least(struct str model)
{
	/* From this version of the family on. */
	static const struct {
		const char *word;
		unsigned from;
		uint64_t least;
	} rows[] = {
	    {"opus-", 500, 512},  {"opus-", 408, 1024},	 {"opus-", 407, 2048},
	    {"opus-", 405, 4096}, {"opus-", 0, 1024},	 {"sonnet-", 505, 512},
	    {"sonnet-", 0, 1024}, {"haiku-", 505, 512},	 {"haiku-", 405, 4096},
	    {"haiku-", 0, 2048},  {"mythos-p", 0, 2048}, {"mythos", 0, 512},
	    {"fable", 0, 512},
	};
	for (size_t i = 0; i < countof(rows); i++) {
		size_t len = strlen(rows[i].word);
		const char *at = model.len ? memmem(model.ptr, model.len, rows[i].word, len) : NULL;
		if (at &&
		    version((struct str){at + len, model.len - (size_t)(at + len - model.ptr)}) >=
			rows[i].from)
			return rows[i].least;
	}
	return 1024;
}

bool sim_family_tells_writes(struct str model)
{
	return gpt(model) >= 506;
}
