/* Prefix caches as the providers have them: what of a prompt is read from an earlier one and what is written. A prompt is a
 * row of spots, each with the hash of all before it (prefix.c). Refuses to know a clock: the time comes with every call.
 *
 *   Anthropic: spots are blocks; from each marked one it looks back over 20; what is marked is written
 *   OpenAI: spots are steps of 128 tokens from 1,024 on; the longest that is there is read, the others are written
 */
#ifndef SLUICE_TESTS_SIM_CACHE_H
#define SLUICE_TESTS_SIM_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/map.h"

struct json_object;

/* OpenAI: a shorter prompt is not cached; 1,024 tokens. */
#define SIM_CACHE_OPENAI_BYTES 4096
#define SIM_CACHE_LOOKBACK 20
#define SIM_CACHE_US UINT64_C(300000000)
#define SIM_CACHE_HOUR_US UINT64_C(3600000000)
#define SIM_CACHE_LATER_US UINT64_C(1800000000) /* OpenAI from gpt-5.6 on */

struct sim_spot {
	uint64_t hash;
	uint64_t bytes; /* of text up to here */
	bool marked;
	bool hour;
};

struct sim_prefix {
	struct sim_spot *spots; /* in the request's arena */
	size_t count;
};

/* prefix.c. @body is taken apart: cache_control is deleted. */
void sim_prefix_anthropic(struct json_object *body, struct arena *arena,
			  struct sim_prefix *ret_prefix);
void sim_prefix_openai(struct json_object *body, struct arena *arena,
		       struct sim_prefix *ret_prefix);

/* A prompt's tokens by what became of them. */
struct sim_use {
	uint64_t input; /* all */
	uint64_t read;
	uint64_t write_5m;
	uint64_t write_1h;
};

struct sim_cache {
	struct map entries;
	uint64_t reads; /* requests that read anything */
	uint64_t writes;
	uint64_t read_tokens;
	uint64_t write_tokens;
};

/* How a model's cache behaves. */
struct sim_cache_rules {
	bool marks;	   /* Anthropic's */
	uint64_t least;	   /* tokens below which nothing is kept */
	uint64_t short_us; /* life of what is not of an hour */
};

void sim_cache_init(struct sim_cache *cache, uint64_t seed);
void sim_cache_fini(struct sim_cache *cache);
void sim_cache_clear(struct sim_cache *cache);
/* What would be read and written at @now_us; changes nothing. @scope: a hash of account and model. @input: tokens of the whole
 * prompt. */
struct sim_use sim_cache_look(struct sim_cache *cache, uint64_t now_us, uint64_t scope,
			      const struct sim_prefix *prefix, const struct sim_cache_rules *rules,
			      uint64_t input);
/* The answer to it has begun: what was written can be read from now on, and what was read lives on, both measured from
 * @began_us, when the request came. */
void sim_cache_begun(struct sim_cache *cache, uint64_t began_us, uint64_t scope,
		     const struct sim_prefix *prefix, const struct sim_cache_rules *rules,
		     const struct sim_use *use);
uint64_t sim_cache_hash(uint64_t hash, const void *bytes, size_t len);

#endif
