#include "consumers/pool/work.h"
#include "lib/svc/config.h"

/* Configured prices are picodollars per token: a million of them is a micro-dollar. */
#define PICO_PER_MICRO 1000000

int64_t price_of(const struct config *config, const char *provider, const char *model,
		 const struct usage *usage, uint64_t wall_ms)
{
	const struct config_price *p =
	    config_price_find(config, str_of(provider), str_of(model), wall_ms);
	int64_t plain =
	    usage->input_tokens - usage->cached_input_tokens - usage->cache_write_tokens;
	int64_t pico;

	if (!p)
		return 0;
	if (plain < 0)
		plain = 0;
	pico = plain * p->input + usage->cached_input_tokens * p->cache_read +
	       (usage->cache_write_tokens - usage->cache_write_1h_tokens) * p->cache_write_5m +
	       usage->cache_write_1h_tokens * p->cache_write_1h + usage->output_tokens * p->output;
	return (pico + PICO_PER_MICRO - 1) / PICO_PER_MICRO;
}
