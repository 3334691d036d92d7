/* Encodes and decodes any message from its .def: struct, JSON text and the way between them come from one table. It refuses
 * to judge values: who reads a message does. */
#ifndef SLUICE_SCHEMAS_CODEC_H
#define SLUICE_SCHEMAS_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/json.h"
#include "lib/base/str.h"

enum codec_type { CODEC_STR, CODEC_INT, CODEC_DBL, CODEC_BOOL, CODEC_RAW };

#define CODEC_C_STR struct str
#define CODEC_C_INT int64_t
#define CODEC_C_DBL double
#define CODEC_C_BOOL bool
#define CODEC_C_RAW struct str /* JSON text */

struct codec_field {
	const char *name;
	enum codec_type type;
	size_t offset;
};

struct codec {
	const char *name;
	const struct codec_field *fields;
	size_t count;
	size_t size; /* of the struct */
};

/* A job as the front accepted it. Views belong to whoever filled it (an arena, a record). */
struct job {
#define FIELD(type, name, doc) CODEC_C_##type name;
#include "schemas/job.def"
#undef FIELD
};
extern const struct codec codec_job;

/* A job's end. */
struct result {
#define FIELD(type, name, doc) CODEC_C_##type name;
#include "schemas/result.def"
#undef FIELD
};
extern const struct codec codec_result;

/* The headers of a job's record. */
struct job_head {
#define HEADER(type, name, doc) CODEC_C_##type name;
#include "schemas/header.def"
#undef HEADER
};
extern const struct codec codec_head;

/* Zero values, with NaN for numbers that may be absent. */
void codec_init(const struct codec *codec, void *message);

/* Appends @message as one JSON object. RAW values must be valid JSON. */
void codec_encode(const struct codec *codec, const void *message, struct buf *out);

struct codec_error {
	char field[48]; /* "" where the text is no object */
	char message[160];
	size_t offset; /* of malformed JSON */
};
enum codec_result { CODEC_OK = 0, CODEC_MALFORMED = 1, CODEC_TYPE = 2, CODEC_UNKNOWN = 3 };

/* Reads JSON into @message (all fields set); strings are copied into @arena. Unknown fields are ignored, or CODEC_UNKNOWN
 * with @strict. A field of the wrong type is CODEC_TYPE. */
must_check enum codec_result codec_decode(const struct codec *codec, struct arena *arena,
					  struct str json, bool strict, void *message,
					  struct codec_error *ret_error);
/* The same from a tree. */
must_check enum codec_result codec_decode_tree(const struct codec *codec, struct arena *arena,
					       struct json_object *tree, bool strict, void *message,
					       struct codec_error *ret_error);

/* One header's value as text into @out (ptr NULL where the field is empty); @scratch has 24 bytes. For writing headers. */
struct str codec_text(const struct codec_field *field, const void *message,
		      char scratch[static 24]);
/* Sets one field from a header's text; CODEC_TYPE for a number that is none. Views are kept, not copied. */
must_check enum codec_result codec_set_text(const struct codec_field *field, struct str text,
					    void *message);

#endif
