#include "schemas/codec.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/mem.h"

static const struct codec_field job_fields[] = {
#define FIELD(type, name, doc) {#name, CODEC_##type, offsetof(struct job, name)},
#include "schemas/job.def"
#undef FIELD
};
const struct codec codec_job = {"job", job_fields, countof(job_fields), sizeof(struct job)};

static const struct codec_field result_fields[] = {
#define FIELD(type, name, doc) {#name, CODEC_##type, offsetof(struct result, name)},
#include "schemas/result.def"
#undef FIELD
};
const struct codec codec_result = {"result", result_fields, countof(result_fields),
				   sizeof(struct result)};

static const struct codec_field head_fields[] = {
#define HEADER(type, name, doc) {#name, CODEC_##type, offsetof(struct job_head, name)},
#include "schemas/header.def"
#undef HEADER
};
const struct codec codec_head = {"header", head_fields, countof(head_fields),
				 sizeof(struct job_head)};

static void *field_at(const struct codec_field *field, void *message)
{
	return (char *)message + field->offset;
}

static const void *field_of(const struct codec_field *field, const void *message)
{
	return (const char *)message + field->offset;
}

void codec_init(const struct codec *codec, void *message)
{
	memset(message, 0, codec->size);
	for (size_t i = 0; i < codec->count; i++)
		if (codec->fields[i].type == CODEC_DBL)
			*(double *)field_at(&codec->fields[i], message) = (double)NAN;
}

static void encode_field(const struct codec_field *field, const void *message, struct json_out *o)
{
	const void *at = field_of(field, message);

	switch (field->type) {
	case CODEC_STR: {
		struct str s = *(const struct str *)at;

		if (s.len)
			json_put_str(o, field->name, s);
		return;
	}
	case CODEC_RAW: {
		struct str s = *(const struct str *)at;

		if (s.len)
			json_put_raw(o, field->name, s);
		return;
	}
	case CODEC_INT:
		if (*(const int64_t *)at)
			json_put_int(o, field->name, *(const int64_t *)at);
		return;
	case CODEC_DBL:
		if (!isnan(*(const double *)at))
			json_put_double(o, field->name, *(const double *)at);
		return;
	case CODEC_BOOL:
		if (*(const bool *)at)
			json_put_bool(o, field->name, true);
		return;
	}
}

void codec_encode(const struct codec *codec, const void *message, struct buf *out)
{
	struct json_out o = {.buf = out};

	json_open(&o, '{');
	for (size_t i = 0; i < codec->count; i++)
		encode_field(&codec->fields[i], message, &o);
	json_close(&o, '}');
}

static enum codec_result type_error(const struct codec_field *field, const char *wanted,
				    struct codec_error *ret_error)
{
	snprintf(ret_error->field, sizeof(ret_error->field), "%s", field->name);
	snprintf(ret_error->message, sizeof(ret_error->message), "%s must be %s", field->name,
		 wanted);
	return CODEC_TYPE;
}

static enum codec_result decode_field(const struct codec_field *field, struct arena *arena,
				      struct json_object *value, void *message,
				      struct codec_error *ret_error)
{
	void *at = field_at(field, message);
	enum json_type type = json_object_get_type(value);
	const char *text;
	size_t len;

	if (type == json_type_null)
		return CODEC_OK;
	switch (field->type) {
	case CODEC_STR:
		if (type != json_type_string)
			return type_error(field, "a string", ret_error);
		len = (size_t)json_object_get_string_len(value);
		*(struct str *)at =
		    (struct str){arena_dup(arena, json_object_get_string(value), len), len};
		return CODEC_OK;
	case CODEC_RAW:
		text = json_object_to_json_string_length(
		    value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
		*(struct str *)at = (struct str){arena_dup(arena, text, len), len};
		return CODEC_OK;
	case CODEC_INT:
		if (type != json_type_int)
			return type_error(field, "an integer", ret_error);
		*(int64_t *)at = json_object_get_int64(value);
		return CODEC_OK;
	case CODEC_DBL:
		if (type != json_type_int && type != json_type_double)
			return type_error(field, "a number", ret_error);
		*(double *)at = json_object_get_double(value);
		return CODEC_OK;
	case CODEC_BOOL:
		if (type != json_type_boolean)
			return type_error(field, "true or false", ret_error);
		*(bool *)at = json_object_get_boolean(value);
		return CODEC_OK;
	}
	return CODEC_OK;
}

enum codec_result codec_decode_tree(const struct codec *codec, struct arena *arena,
				    struct json_object *tree, bool strict, void *message,
				    struct codec_error *ret_error)
{
	*ret_error = (struct codec_error){0};
	codec_init(codec, message);
	if (json_object_get_type(tree) != json_type_object) {
		snprintf(ret_error->message, sizeof(ret_error->message), "a JSON object is wanted");
		return CODEC_TYPE;
	}
	json_object_object_foreach(tree, key, value)
	{
		const struct codec_field *found = NULL;

		for (size_t i = 0; i < codec->count && !found; i++)
			if (strcmp(codec->fields[i].name, key) == 0)
				found = &codec->fields[i];
		if (found) {
			enum codec_result r = decode_field(found, arena, value, message, ret_error);

			if (r)
				return r;
		} else if (strict) {
			snprintf(ret_error->field, sizeof(ret_error->field), "%s", key);
			snprintf(ret_error->message, sizeof(ret_error->message),
				 "%s is not a field of a %s", ret_error->field, codec->name);
			return CODEC_UNKNOWN;
		}
	}
	return CODEC_OK;
}

enum codec_result codec_decode(const struct codec *codec, struct arena *arena, struct str json,
			       bool strict, void *message, struct codec_error *ret_error)
{
	cleanup_json struct json_object *tree = NULL;
	struct json_error error;

	if (json_read(json, &tree, &error)) {
		*ret_error = (struct codec_error){.offset = error.offset};
		snprintf(ret_error->message, sizeof(ret_error->message), "%s", error.message);
		codec_init(codec, message);
		return CODEC_MALFORMED;
	}
	return codec_decode_tree(codec, arena, tree, strict, message, ret_error);
}

struct str codec_text(const struct codec_field *field, const void *message, char scratch[static 24])
{
	const void *at = field_of(field, message);
	int n = 0;

	switch (field->type) {
	case CODEC_STR:
	case CODEC_RAW:
		return ((const struct str *)at)->len ? *(const struct str *)at
						     : (struct str){NULL, 0};
	case CODEC_INT:
		if (*(const int64_t *)at)
			n = snprintf(scratch, 24, "%lld", (long long)*(const int64_t *)at);
		break;
	case CODEC_DBL:
		if (!isnan(*(const double *)at))
			n = snprintf(scratch, 24, "%.17g", *(const double *)at);
		break;
	case CODEC_BOOL:
		if (*(const bool *)at)
			n = snprintf(scratch, 24, "true");
		break;
	}
	return (struct str){n > 0 ? scratch : NULL, n > 0 ? (size_t)n : 0};
}

enum codec_result codec_set_text(const struct codec_field *field, struct str text, void *message)
{
	void *at = field_at(field, message);

	switch (field->type) {
	case CODEC_STR:
	case CODEC_RAW:
		*(struct str *)at = text;
		return CODEC_OK;
	case CODEC_INT:
		return str_i64(text, (int64_t *)at) ? CODEC_OK : CODEC_TYPE;
	case CODEC_BOOL:
		*(bool *)at = str_is(text, "true");
		return CODEC_OK;
	case CODEC_DBL:
		return CODEC_TYPE; /* no header is a fraction */
	}
	return CODEC_TYPE;
}
