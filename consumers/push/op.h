/* What a client sends: reads one text message into an op and checks its form (known op, known fields, types, what must be there).
 * Refuses to do anything about it. */
#ifndef SLUICE_PUSH_OP_H
#define SLUICE_PUSH_OP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/json.h"
#include "lib/base/str.h"
#include "schemas/fault.h"

#define OP_REF_MAX 64
#define OP_JOBS_MAX 256
#define OP_ID_MAX 64

enum op_name {
	OP_HELLO,
	OP_SUBMIT,
	OP_AUDIO,
	OP_AUDIO_END,
	OP_ATTACH,
	OP_CANCEL,
	OP_ACK,
	OP_PING,
	OP_TOKEN,
	OP_COUNT
};
const char *op_text(enum op_name name);

/* A job, and where in its answer the client stands. */
struct op_position {
	struct str id;
	bool named; /* attempt and at were given */
	int64_t attempt;
	int64_t at;
};

/* Views live as long as the op. */
struct op {
	enum op_name name;
	struct json_object *tree;
	struct str ref;
	struct str id;
	struct str token;
	struct str session;
	struct str resume;
	struct json_object *job;
	struct op_position *jobs;
	size_t job_count;
};

enum op_read { OP_OK = 0, OP_BAD = 1 };

struct op_error {
	enum fault fault;
	char message[200];
	char ref[OP_REF_MAX + 1]; /* where there was one */
	char job[OP_ID_MAX + 1];
};

/* On OP_OK the op is the caller's (op_fini). */
must_check enum op_read op_read(struct str text, struct op *ret_op, struct op_error *ret_error);
/* Accepts a zeroed one. */
void op_fini(struct op *op);

#endif
