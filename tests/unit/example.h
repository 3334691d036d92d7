/* The golden examples of schemas/json/examples/, for the tests that hold what the code writes against them: a file's text, and the result
 * that most examples show. */
#ifndef SLUICE_TESTS_UNIT_EXAMPLE_H
#define SLUICE_TESTS_UNIT_EXAMPLE_H

#include <stdio.h>

#include "schemas/codec.h"
#include "tests/unit/test.h"

#define EXAMPLE_JOB "job_01M8287AQSTJRB2D2PRTV8Q4CK"

/* The text of @path without its last line end; valid until the next call. */
static inline const char *file_text(const char *path)
{
	static char text[65536];
	FILE *f = fopen(path, "r");
	size_t len;

	ck_assert_msg(f != NULL, "%s cannot be read", path);
	len = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	while (len && text[len - 1] == '\n')
		len--;
	text[len] = '\0';
	return text;
}

static inline const char *example(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "schemas/json/examples/%s.json", name);
	return file_text(path);
}

static inline struct result example_result(const char *lane)
{
	struct result r;

	codec_init(&codec_result, &r);
	r.id = STR(EXAMPLE_JOB);
	r.kind = STR("chat");
	r.lane = str_of(lane);
	r.status = STR("succeeded");
	r.attempt = 1;
	r.created_ms = 1795342530000;
	r.picked_up_ms = 1795342530004;
	r.first_token_ms = 1795342530321;
	r.finished_ms = 1795342531500;
	r.provider = STR("anthropic");
	r.account = STR("main");
	r.target_model = STR("claude-sonnet-4-5");
	r.text = STR("No: “well” is.");
	r.bytes = 18;
	r.finish_reason = STR("stop");
	r.input_tokens = 812;
	r.output_tokens = 214;
	r.cost_microusd = 3120;
	r.metadata = STR("{\"essay\":\"42\"}");
	return r;
}

#endif
