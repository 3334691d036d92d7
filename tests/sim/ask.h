/* A request's body, checked as strictly as the provider would and brought to what both dialects share. Refuses
 * unknown fields, wrong types, unknown roles and values out of range, in the dialect's own words. */
#ifndef SLUICE_TESTS_SIM_ASK_H
#define SLUICE_TESTS_SIM_ASK_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/str.h"
#include "tests/sim/cache.h"

#define SIM_CHOICES_MAX 128

enum sim_dialect { SIM_ANTHROPIC, SIM_OPENAI };

/* An error that is answered. */
struct sim_error {
	unsigned status;
	const char *type;
	const char *code;   /* OpenAI; NULL: null */
	const char *param;  /* OpenAI; NULL: null */
	const char *detail; /* Anthropic's details.error_code; NULL: none */
	char message[256];
};

struct sim_ask {
	struct str model;
	struct str
	    last_user; /* the text of the last message of the user, its text blocks laid end to end */
	uint64_t max_tokens;  /* UINT64_MAX: none was given */
	uint64_t input_bytes; /* of all text: system, messages, tool results */
	unsigned choices;     /* OpenAI's n, 1 to SIM_CHOICES_MAX */
	bool stream;
	bool include_usage;
	bool obfuscation;
	struct sim_prefix prefix; /* empty where nothing can be cached */
};

enum sim_ask_result { SIM_ASK_OK = 0, SIM_ASK_REFUSED = 1 };

/* What is read lives in @arena. @version: the value of anthropic-version. @counting: a body of count_tokens, which
 * has no max_tokens. */
must_check enum sim_ask_result sim_ask_anthropic(struct str body, struct str version, bool counting,
						 struct arena *arena, struct sim_ask *ret_ask,
						 struct sim_error *ret_error);
must_check enum sim_ask_result sim_ask_openai(struct str body, struct arena *arena,
					      struct sim_ask *ret_ask, struct sim_error *ret_error);

/* Fills *@error and returns SIM_ASK_REFUSED. */
enum sim_ask_result sim_refuse(struct sim_error *error, unsigned status, const char *type,
			       const char *code, const char *param, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

/* The estimate that stands for a tokeniser: a token for each four bytes begun. */
static inline uint64_t sim_estimate(uint64_t bytes)
{
	return (bytes + 3) / 4;
}

#endif
