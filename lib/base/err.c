#include "lib/base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES 16

struct frame {
	const char *file;
	int line;
};

/* Diagnostics of the newest error, per thread; nothing decides by it. */
static _Thread_local struct {
	struct frame frames[FRAMES];
	size_t count;
	int error;
} trace;

int err_mark(int r, enum err_mark_kind begins, const char *file, int line)
{
	if (r >= 0)
		return r;
	if (begins == true_)
		trace.count = 0;
	trace.error = r;
	if (trace.count < FRAMES)
		trace.frames[trace.count++] = (struct frame){file, line};
	return r;
}

void err_trace_text(char *out, size_t size)
{
	size_t at = 0;

	if (!size)
		return;
	out[0] = 0;
	for (size_t i = 0; i < trace.count && at < size; i++) {
		int n = snprintf(out + at, size - at, "%s%s:%d", i ? " < " : "",
				 trace.frames[i].file, trace.frames[i].line);

		if (n < 0)
			return;
		at += (size_t)n;
	}
}

_Noreturn void err_must_failed(const char *expression, const char *file, int line)
{
	fprintf(stderr, "sluice: bug: %s:%d: %s does not hold\n", file, line, expression);
	abort();
}
