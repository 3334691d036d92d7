#include "consumers/pool/work.h"
#include "lib/svc/config.h"

/* Configured prices are picodollars per token: a million of them is a micro-dollar. */
#define PICO_PER_MICRO 1000000
/* A billion dollars: no call costs more, and the costs of a job's calls can be added. */
#define COST_MAX INT64_C(1000000000000000)

int64_t price_of(const struct config *config, const char *provider, const char *model,
		 const struct usage *usage, uint64_t wall_ms)
{
	const struct config_price *p =
	    config_price_find(config, str_of(provider), str_of(model), wall_ms);
	int64_t plain =
	    usage->input_tokens - usage->cached_input_tokens - usage->cache_write_tokens;
	int64_t hour = usage->cache_write_1h_tokens;
	__int128 micro;

	if (!p)
		return 0;
	if (plain < 0)
		plain = 0;
	if (hour > usage->cache_write_tokens)
		hour = usage->cache_write_tokens;
	micro = (__int128)plain * p->input + (__int128)usage->cached_input_tokens * p->cache_read +
		(__int128)(usage->cache_write_tokens - hour) * p->cache_write_5m +
		(__int128)hour * p->cache_write_1h + (__int128)usage->output_tokens * p->output;
	micro = (micro + PICO_PER_MICRO - 1) / PICO_PER_MICRO;
	return micro < COST_MAX ? (int64_t)micro : COST_MAX;
}
