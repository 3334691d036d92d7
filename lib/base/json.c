#include "lib/base/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/err.h"
#include "lib/base/json_check.h"
#include "lib/base/mem.h"

static int parse(struct json_tokener *tok, struct str text, struct json_object **ret_value)
{
	struct json_object *value = json_tokener_parse_ex(tok, text.ptr, (int)text.len);

	/* A number at the top ends only with something behind it. */
	if (json_tokener_get_error(tok) == json_tokener_continue)
		value = json_tokener_parse_ex(tok, "", 1);
	if (json_tokener_get_error(tok) != json_tokener_success)
		return -1;
	*ret_value = value;
	return 0;
}

enum json_result json_read(struct str text, struct json_object **ret_value,
			   struct json_error *ret_error)
{
	struct json_tokener *tok;
	enum json_result r = JSON_OK;
	struct str value;

	if (json_check(text, &value, ret_error))
		return JSON_MALFORMED;
	tok = json_tokener_new_ex(JSON_DEPTH_MAX + 2);
	must(tok);
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	if (parse(tok, value, ret_value)) {
		ret_error->offset =
		    (size_t)(value.ptr - text.ptr) + json_tokener_get_parse_end(tok);
		snprintf(ret_error->message, sizeof(ret_error->message), "%s",
			 json_tokener_error_desc(json_tokener_get_error(tok)));
		r = JSON_MALFORMED;
	}
	json_tokener_free(tok);
	return r;
}

void json_put_cleanup(struct json_object **value)
{
	json_object_put(*value);
}

struct json_object *json_member(struct json_object *object, const char *key)
{
	struct json_object *value = NULL;

	if (json_object_is_type(object, json_type_object))
		json_object_object_get_ex(object, key, &value);
	return value;
}

struct str json_text(struct json_object *value)
{
	if (!json_object_is_type(value, json_type_string))
		return STR("");
	return (struct str){json_object_get_string(value),
			    (size_t)json_object_get_string_len(value)};
}

struct str json_str(struct json_object *object, const char *key)
{
	return json_text(json_member(object, key));
}

int64_t json_int(struct json_object *object, const char *key, int64_t otherwise)
{
	struct json_object *value = json_member(object, key);

	return json_object_is_type(value, json_type_int) ? json_object_get_int64(value) : otherwise;
}

double json_double(struct json_object *object, const char *key, double otherwise)
{
	struct json_object *value = json_member(object, key);

	if (!json_object_is_type(value, json_type_double) &&
	    !json_object_is_type(value, json_type_int))
		return otherwise;
	return json_object_get_double(value);
}

bool json_bool(struct json_object *object, const char *key, bool otherwise)
{
	struct json_object *value = json_member(object, key);

	return json_object_is_type(value, json_type_boolean) ? json_object_get_boolean(value)
							     : otherwise;
}

static void begin(struct json_out *o, const char *key)
{
	if (key) {
		json_key(o, key);
		return;
	}
	if (o->comma)
		buf_add_char(o->buf, ',');
	o->comma = true;
}

void json_open(struct json_out *o, char bracket)
{
	begin(o, NULL);
	buf_add_char(o->buf, bracket);
	o->comma = false;
}

void json_close(struct json_out *o, char bracket)
{
	buf_add_char(o->buf, bracket);
	o->comma = true;
}

void json_key(struct json_out *o, const char *key)
{
	if (o->comma)
		buf_add_char(o->buf, ',');
	buf_add_char(o->buf, '"');
	buf_add_text(o->buf, key);
	buf_add(o->buf, "\":", 2);
	o->comma = false;
}

void json_put_raw(struct json_out *o, const char *key, struct str json)
{
	begin(o, key);
	if (json.len)
		buf_add_str(o->buf, json);
	else
		buf_add(o->buf, "null", 4);
	o->comma = true;
}

void json_put_str(struct json_out *o, const char *key, struct str value)
{
	begin(o, key);
	buf_add_char(o->buf, '"');
	json_escape(o->buf, value);
	buf_add_char(o->buf, '"');
	o->comma = true;
}

void json_put_text(struct json_out *o, const char *key, const char *value)
{
	if (value)
		json_put_str(o, key, str_of(value));
	else
		json_put_null(o, key);
}

void json_put_int(struct json_out *o, const char *key, int64_t value)
{
	begin(o, key);
	buf_add_i64(o->buf, value);
	o->comma = true;
}

void json_put_double(struct json_out *o, const char *key, double value)
{
	char text[32];

	if (!isfinite(value)) {
		json_put_null(o, key);
		return;
	}
	/* The shortest of the forms that read back as the same number. */
	for (int digits = 15; digits <= 17; digits++) {
		double back;

		snprintf(text, sizeof(text), "%.*g", digits, value);
		if (sscanf(text, "%lf", &back) == 1 && back == value)
			break;
	}
	json_put_raw(o, key, str_of(text));
}

void json_put_bool(struct json_out *o, const char *key, bool value)
{
	json_put_raw(o, key, value ? STR("true") : STR("false"));
}

void json_put_null(struct json_out *o, const char *key)
{
	json_put_raw(o, key, STR("null"));
}

void json_put_time(struct json_out *o, const char *key, uint64_t wall_ms)
{
	char text[CLOCK_TEXT_SIZE];

	if (!wall_ms) {
		json_put_null(o, key);
		return;
	}
	clock_text(wall_ms, text);
	json_put_str(o, key, str_of(text));
}

void json_put_tree(struct json_out *o, const char *key, struct json_object *value)
{
	size_t size = 0;
	const char *text =
	    value ? json_object_to_json_string_length(
			value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &size)
		  : NULL;

	json_put_raw(o, key, (struct str){text, size});
}
