/* A provider that asks nobody: it sleeps for as long as its model's name says ("sleep-5ms", "sleep-0ms") and answers "done". For measuring
 * the queue itself, without a provider's latency and without the network. */
#include <stdio.h>
#include <string.h>

#include "consumers/providers/answer.h"
#include "lib/base/clock.h"

static enum provider_built build(const struct ask *ask, struct provider_request *ret_request,
				 char ret_why[static 128])
{
	struct str model = str_of(ask->model);
	uint64_t us;

	if (!str_starts(model, "sleep-") ||
	    clock_parse_go((struct str){model.ptr + 6, model.len - 6}, &us) != CLOCK_OK) {
		snprintf(ret_why, 128, "a sleeping model is called sleep-5ms, not %.40s",
			 ask->model);
		return PROVIDER_CANNOT;
	}
	*ret_request = (struct provider_request){.path = "", .local = true, .local_us = us};
	return PROVIDER_BUILT;
}

static void on_event(struct answer *a, struct str event, struct str data)
{
	(void)event;
	(void)data;
	answer_fail(a, FAULT_INTERNAL, STR("a sleeping provider sends no events"));
}

static struct answer *answer_new(const struct answer_sink *sink)
{
	static const struct answer_ops ops = {.event = on_event};

	return answer_open(&ops, sink);
}

const struct provider provider_sleep = {
    .name = "sleep",
    .local = true,
    .build = build,
    .answer_new = answer_new,
};
