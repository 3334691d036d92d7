/* consumers/push/op.h: whatever a client sends is an op whose parts are within their limits, or a mistake that can be told. */
#include "consumers/push/op.h"

#include "consumers/push/frame.h"
#include "tests/fuzz/fuzz.h"

static void mistake_is_told(const struct op_error *error)
{
	const struct frame_refusal refusal = {.fault = error->fault,
					      .message = error->message,
					      .ref = str_of(error->ref),
					      .job = str_of(error->job)};
	struct json_object *tree = NULL;
	struct json_error json;
	struct frame f = {0};

	must(error->message[0]);
	frame_fault(&f, &refusal);
	must(json_read(buf_str(&f.text), &tree, &json) == JSON_OK);
	json_object_put(tree);
	buf_fini(&f.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = {size ? (const char *)data : "", size};
	struct op_error error;
	struct op op;

	if (op_read(text, &op, &error)) {
		mistake_is_told(&error);
		return 0;
	}
	must(op.ref.len <= OP_REF_MAX && op.id.len <= OP_ID_MAX);
	must(op.job_count <= OP_JOBS_MAX);
	for (size_t i = 0; i < op.job_count; i++)
		must(op.jobs[i].id.len && op.jobs[i].id.len <= OP_ID_MAX && op.jobs[i].at >= 0 &&
		     op.jobs[i].attempt >= 0);
	op_fini(&op);
	return 0;
}
