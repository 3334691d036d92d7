/* The options of Redis, PostgreSQL and Kafka as the configuration names them, in one place for every program. Refuses to open: programs do. */
#ifndef SLUICE_SVC_STORES_H
#define SLUICE_SVC_STORES_H

#include "lib/lane/lane.h"
#include "lib/store/pg.h"
#include "lib/store/redis.h"

struct config;

/* The strings stay the configuration's. */
struct redis_options stores_redis(const struct config *config);
struct pg_options stores_pg(const struct config *config);
struct lane_options stores_kafka(const struct config *config, const char *client_id);

#endif
