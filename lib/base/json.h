/* JSON: reading into a json-c tree with the byte offset of an error, strict reading of known fields, and writing
 * by hand into a buffer. The only place beside schemas/ that names json-c. Refuses duplicate keys, invalid UTF-8,
 * lone surrogates, NUL bytes in strings, nesting over 64 levels, and bytes behind the value. */
#ifndef SLUICE_BASE_JSON_H
#define SLUICE_BASE_JSON_H

/* json-c has a type of the name that our reader of booleans has; nobody else uses the type. Include this header,
 * not json-c's own. */
#define json_bool json_c_bool
#include <json-c/json.h>
#undef json_bool
#include <stdbool.h>
#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/str.h"

struct json_error {
	char message[160];
	size_t offset; /* byte at which reading stopped */
};

enum json_result { JSON_OK = 0, JSON_MALFORMED = 1 };

/* Reads one value. The caller owns *@ret_value (json_object_put). */
must_check enum json_result json_read(struct str text, struct json_object **ret_value,
				      struct json_error *ret_error);

/* Cleanup attribute for trees. */
void json_put_cleanup(struct json_object **value);
#define cleanup_json __attribute__((cleanup(json_put_cleanup)))

/* Members of an object, without failing: the default where the member is missing, null or of another type. Views
 * live as long as the tree. */
struct json_object *json_member(struct json_object *object, const char *key);
struct str json_str(struct json_object *object, const char *key);
int64_t json_int(struct json_object *object, const char *key, int64_t otherwise);
double json_double(struct json_object *object, const char *key, double otherwise);
bool json_bool(struct json_object *object, const char *key, bool otherwise);
/* The view of a string value; empty for any other type. */
struct str json_text(struct json_object *value);

/* Writing. A writer puts commas by itself; keys are literals without characters to escape. */
struct json_out {
	struct buf *buf;
	bool comma;
};
void json_open(struct json_out *o, char bracket);  /* '{' or '[' */
void json_close(struct json_out *o, char bracket); /* '}' or ']' */
void json_key(struct json_out *o, const char *key);
/* Values; @key NULL inside an array (or after json_key). */
void json_put_str(struct json_out *o, const char *key, struct str value);
void json_put_text(struct json_out *o, const char *key, const char *value); /* NULL writes null */
void json_put_int(struct json_out *o, const char *key, int64_t value);
void json_put_double(struct json_out *o, const char *key, double value);
void json_put_bool(struct json_out *o, const char *key, bool value);
void json_put_null(struct json_out *o, const char *key);
/* RFC 3339 from milliseconds since 1970; 0 writes null. */
void json_put_time(struct json_out *o, const char *key, uint64_t wall_ms);
/* A value that is JSON already; an empty view writes null. */
void json_put_raw(struct json_out *o, const char *key, struct str json);
void json_put_tree(struct json_out *o, const char *key, struct json_object *value);

/* The inside of a JSON string for @text (well-formed UTF-8), without quotes: the hot path of deltas. */
void json_escape(struct buf *out, struct str text);

/* Undoes the escapes of a JSON string's inside into @out; JSON_MALFORMED for a bad escape or a lone surrogate. */
must_check enum json_result json_unescape(struct buf *out, struct str inside);

#endif
