/* What the models of a family refuse, told by their names: a table of the providers' rules. Refuses to guess: a name that
 * is in no table refuses nothing. */
#ifndef SLUICE_TESTS_SIM_FAMILY_H
#define SLUICE_TESTS_SIM_FAMILY_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/str.h"

/* Anthropic: temperature, top_p and top_k other than the default are a 400 (Opus from 4.7 on, every other family from 5
 * on, Fable and Mythos always). */
bool sim_family_no_sampling(struct str model);
/* Anthropic: the last message may not be the assistant's (Opus and Sonnet from 4.6 on, every other family from 5 on,
 * Fable and Mythos always). */
bool sim_family_no_prefill(struct str model);
/* OpenAI: the model reasons (o1, o3, o4 …, gpt-5 and newer; not those called gpt-5-chat): max_tokens and sampling are a 400. */
bool sim_family_reasons(struct str model);
/* OpenAI: such a model takes sampling after all where reasoning_effort is "none" (gpt-5.1 and newer). */
bool sim_family_may_not_reason(struct str model);

/* Anthropic: below so many tokens no prefix is cached. */
uint64_t sim_family_cache_least(struct str model);
/* OpenAI: what is written to the cache is told and charged, and lives longer (gpt-5.6 and newer). */
bool sim_family_tells_writes(struct str model);

#endif
