/* The lists of the configuration (settings, accounts, routes, prices, organisations, quotas): their form and their meaning. Internal to
 * lib/svc. */
#ifndef SLUICE_SVC_LISTS_H
#define SLUICE_SVC_LISTS_H

#include "lib/svc/config.h"
#include "lib/svc/record.h"

/* Each takes its node (NULL: not in the file) and fills its part of @config. */
void lists_settings(struct record_reader *r, const struct tree *list, struct config_kafka *kafka);
void lists_accounts(struct record_reader *r, const struct tree *list, struct config *config,
		    bool secrets);
/* After the accounts. */
void lists_routes(struct record_reader *r, const struct tree *list, struct config *config);
void lists_prices(struct record_reader *r, const struct tree *list, struct config *config);
void lists_orgs(struct record_reader *r, const struct tree *list, struct config *config);
/* quotas.c; after the accounts. */
void lists_quotas(struct record_reader *r, const struct tree *list, struct config *config);

/* The whole text of a small file into @out; -errno, or -EFBIG above @max_bytes. Blocks: start-up and reload only. */
must_check int lists_read_file(const char *path, size_t max_bytes, struct buf *out);

/* "scheme://host[:port][/path]" with @scheme or @scheme and 's' behind it, at most a port that exists. */
bool lists_url_is(const char *url, const char *scheme);

#endif
