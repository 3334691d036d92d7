#include "lib/svc/stores.h"

#include "lib/base/clock.h"
#include "lib/svc/config.h"

struct redis_options stores_redis(const struct config *config)
{
	struct redis_options o = redis_defaults();

	o.url = config->redis.url;
	o.ca_file = config->redis.ca_file[0] ? config->redis.ca_file : NULL;
	o.connections = (uint32_t)config->redis.connections;
	o.timeout_us = config->redis.command_ms * US_PER_MS;
	return o;
}

struct pg_options stores_pg(const struct config *config)
{
	struct pg_options o = pg_defaults();

	o.conninfo = config->postgres.conninfo;
	o.connections = (uint32_t)config->postgres.connections;
	o.timeout_us = config->postgres.query_ms * US_PER_MS;
	return o;
}

struct lane_options stores_kafka(const struct config *config, const char *client_id)
{
	return (struct lane_options){
	    .brokers = config->kafka.brokers,
	    .client_id = client_id,
	    .settings = config->kafka.settings,
	    .setting_count = config->kafka.setting_count,
	};
}
