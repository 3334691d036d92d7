/* lib/store/redis_url.h: what is read is inside its limits. */
#include "lib/store/redis_url.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = {size ? (const char *)data : "", size};
	struct redis_url url;

	if (redis_url_parse(text, &url) == REDIS_URL_OK)
		must(url.host[0] && url.port && url.db <= 65535 &&
		     memchr(url.host, '\0', sizeof(url.host)) &&
		     memchr(url.user, '\0', sizeof(url.user)) &&
		     memchr(url.password, '\0', sizeof(url.password)));
	return 0;
}
