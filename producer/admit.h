/* Checking a request before anything is done with it: what the native routes, the compatible ones and the WebSocket share
 * (admit_native is in submit.h). Refuses to guess: what is wrong is named, and what is not known yet is refused by name. */
#ifndef SLUICE_PRODUCER_ADMIT_H
#define SLUICE_PRODUCER_ADMIT_H

#include "producer/submit.h"

/* The longest answer that may be asked for, in tokens, in every dialect: more than any model gives. What a job is thought to cost (its
 * estimate) stays so far below what an integer holds that sums of it need no care. */
#define MAX_TOKENS_MAX 10000000

struct config_route;
struct rand;

/* "Nothing wrong yet". */
struct admitted admitted_good(void);
/* Sets the fault once: the first one stays. */
void admitted_fail(struct admitted *a, enum fault fault, const char *param, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Gives @job its id and its organisation: by them and by what the request says its route is chosen. */
void admit_begin(struct job *job, struct str org, uint64_t now_wall_ms, struct rand *rand,
		 struct arena *arena);
/* The route that @job names by task or model: an alias, or a model of a target; one that is for its organisation, its user and its session.
 * NULL after admitted_fail. */
const struct config_route *admit_route(const struct config *config, const struct job *job,
				       struct admitted *a);
/* The lane by name; "" is interactive. */
void admit_lane(struct job *job, struct str lane, struct admitted *a);
/* Fills in what every accepted job has: times by its lane, channel, estimate of @input_bytes and the answer. */
void admit_finish(struct job *job, const struct config_route *route, size_t input_bytes,
		  uint64_t now_wall_ms, struct arena *arena);
/* A copy that lives in @arena. */
struct str admit_copy(struct arena *arena, struct str text);
/* The text of a tree, in @arena. */
struct str admit_raw(struct arena *arena, struct json_object *tree);

#endif
