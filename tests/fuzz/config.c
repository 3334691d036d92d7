/* The configuration of any text: taken or refused with a line, never worse. */
#include "lib/svc/config.h"

#include <stddef.h>
#include <stdint.h>

#include "lib/base/mem.h"

struct values {
	int64_t number;
	uint64_t bytes;
	uint64_t ms;
	double share;
	bool flag;
	const char *text;
};

#define OPTION_OF struct values
/* clang-format off */
static const struct option options[] = {
	OPTION_LINE(number, "number", INT, 1, -5, 100, "")
	OPTION_LINE(bytes, "bytes", BYTES, 1, 0, 1 << 30, "")
	OPTION_LINE(ms, "ms", MS, 1, 0, 1 << 30, "")
	OPTION_LINE(share, "share", DOUBLE, 0.5, 0, 1, "")
	OPTION_LINE(flag, "flag", BOOL, false, 0, 0, "")
	OPTION_LINE(text, "text", STRING, "", 0, 10, "")
};
/* clang-format on */

static const char *env(const char *name)
{
	return name[0] == 'A' ? "value" : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config_request request = {.section = "front",
					 .options = options,
					 .option_count = countof(options),
					 .own_size = sizeof(struct values),
					 .secrets = true,
					 .env = env};
	struct config *config;
	struct buf errors = {0};

	if (config_parse(&request, "f", (struct str){(const char *)data, size}, &config, &errors) ==
	    CONFIG_OK) {
		must(errors.len == 0);
		(void)config_price_find(config, STR("anthropic"), STR("m-20260101"), 1800000000000);
		config_free(config);
	} else {
		must(errors.len > 0);
	}
	buf_fini(&errors);
	return 0;
}
