#include "consumers/push/op.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/mem.h"

enum field_type { FIELD_TEXT, FIELD_OBJECT, FIELD_LIST };

struct field {
	const char *name;
	enum field_type type;
	bool needed;
	size_t max; /* bytes of a text */
};

#define FIELDS_MAX 5
#define SECRET_MAX 4096
/* Bytes of what came from outside, or of what is said of it, that an answer repeats. */
#define SHOWN_MAX 40

static const struct {
	const char *name;
	struct field fields[FIELDS_MAX]; /* beside `op`; the last has no name */
	bool any;			 /* fields are not looked at: the op is not supported */
} ops[OP_COUNT] = {
    [OP_HELLO] = {"hello",
		  {{"token", FIELD_TEXT, false, SECRET_MAX},
		   {"session", FIELD_TEXT, false, OP_ID_MAX},
		   {"resume", FIELD_TEXT, false, SECRET_MAX},
		   {"jobs", FIELD_LIST, false, 0}},
		  false},
    [OP_SUBMIT] = {"submit",
		   {{"ref", FIELD_TEXT, true, OP_REF_MAX}, {"job", FIELD_OBJECT, true, 0}},
		   false},
    [OP_AUDIO] = {"audio", {{NULL, FIELD_TEXT, false, 0}}, true},
    [OP_AUDIO_END] = {"audio_end", {{NULL, FIELD_TEXT, false, 0}}, true},
    [OP_ATTACH] = {"attach", {{"jobs", FIELD_LIST, true, 0}}, false},
    [OP_CANCEL] = {"cancel", {{"id", FIELD_TEXT, true, OP_ID_MAX}}, false},
    [OP_ACK] = {"ack", {{"id", FIELD_TEXT, true, OP_ID_MAX}}, false},
    [OP_PING] = {"ping", {{NULL, FIELD_TEXT, false, 0}}, false},
    [OP_TOKEN] = {"token", {{"token", FIELD_TEXT, true, SECRET_MAX}}, false},
};

const char *op_text(enum op_name name)
{
	return ops[name].name;
}

__attribute__((format(printf, 2, 3))) static enum op_read bad(struct op_error *error,
							      const char *format, ...)
{
	va_list args;

	error->fault = FAULT_INVALID_REQUEST;
	va_start(args, format);
	vsnprintf(error->message, sizeof(error->message), format, args);
	va_end(args);
	return OP_BAD;
}

static bool type_fits(const struct field *field, struct json_object *value)
{
	switch (field->type) {
	case FIELD_TEXT:
		return json_object_is_type(value, json_type_string);
	case FIELD_OBJECT:
		return json_object_is_type(value, json_type_object);
	case FIELD_LIST:
		return json_object_is_type(value, json_type_array);
	}
	return false;
}

static enum op_read check_known(const struct op *op, struct op_error *error)
{
	const struct field *fields = ops[op->name].fields;

	json_object_object_foreach(op->tree, key, value)
	{
		bool known = strcmp(key, "op") == 0;

		(void)value;
		for (size_t i = 0; i < FIELDS_MAX && fields[i].name && !known; i++)
			known = strcmp(key, fields[i].name) == 0;
		if (!known)
			return bad(error, "\"%.*s\" is not a known field of %s.",
				   (int)str_utf8_cut(str_of(key), SHOWN_MAX), key,
				   ops[op->name].name);
	}
	return OP_OK;
}

static enum op_read check_fields(const struct op *op, struct op_error *error)
{
	const struct field *fields = ops[op->name].fields;

	for (size_t i = 0; i < FIELDS_MAX && fields[i].name; i++) {
		const struct field *f = &fields[i];
		struct json_object *value = json_member(op->tree, f->name);
		struct str text = json_text(value);

		if (!value && !f->needed)
			continue;
		if (!value)
			return bad(error, "%s needs \"%s\".", ops[op->name].name, f->name);
		if (!type_fits(f, value))
			return bad(error, "\"%s\" of %s is of the wrong type.", f->name,
				   ops[op->name].name);
		if (f->type == FIELD_TEXT && (text.len > f->max || (f->needed && !text.len)))
			return bad(error, "\"%s\" of %s must be a string of 1 to %zu bytes.",
				   f->name, ops[op->name].name, f->max);
	}
	return OP_OK;
}

static bool whole(struct json_object *value, int64_t *ret_value)
{
	if (!json_object_is_type(value, json_type_int) || json_object_get_int64(value) < 0)
		return false;
	*ret_value = json_object_get_int64(value);
	return true;
}

static enum op_read read_position(struct json_object *entry, struct op_position *p,
				  struct op_error *error)
{
	struct json_object *attempt = json_member(entry, "attempt"), *at = json_member(entry, "at");

	p->id = json_str(entry, "id");
	if (!p->id.len || p->id.len > OP_ID_MAX)
		return bad(error, "Each of jobs needs an \"id\".");
	json_object_object_foreach(entry, key, value)
	{
		(void)value;
		if (strcmp(key, "id") != 0 && strcmp(key, "attempt") != 0 && strcmp(key, "at") != 0)
			return bad(error, "\"%.*s\" is not a known field of jobs.",
				   (int)str_utf8_cut(str_of(key), SHOWN_MAX), key);
	}
	if (!attempt && !at)
		return OP_OK;
	p->named = true;
	if (!whole(attempt, &p->attempt) || !whole(at, &p->at))
		return bad(error, "attempt and at stand together, as whole numbers from 0.");
	return OP_OK;
}

static enum op_read read_jobs(struct op *op, struct op_error *error)
{
	struct json_object *list = json_member(op->tree, "jobs");

	if (!list)
		return OP_OK;
	op->job_count = json_object_array_length(list);
	if (op->job_count > OP_JOBS_MAX)
		return bad(error, "jobs has at most %d entries.", OP_JOBS_MAX);
	op->jobs = mem_alloc(op->job_count * sizeof(*op->jobs));
	for (size_t i = 0; i < op->job_count; i++) {
		struct json_object *entry = json_object_array_get_idx(list, i);

		if (!json_object_is_type(entry, json_type_object))
			return bad(error, "Each of jobs must be an object.");
		if (read_position(entry, &op->jobs[i], error))
			return OP_BAD;
	}
	return OP_OK;
}

static enum op_read find_name(struct op *op, struct op_error *error)
{
	struct str name = json_str(op->tree, "op");

	if (!name.len)
		return bad(error, "A message needs \"op\".");
	for (int i = 0; i < OP_COUNT; i++) {
		if (!str_is(name, ops[i].name))
			continue;
		op->name = (enum op_name)i;
		return OP_OK;
	}
	return bad(error, "\"%.*s\" is not a known op.", (int)str_utf8_cut(name, SHOWN_MAX),
		   name.ptr);
}

static void keep_names(const struct op *op, struct op_error *error)
{
	struct str ref = json_str(op->tree, "ref"), id = json_str(op->tree, "id");

	if (ref.len <= OP_REF_MAX)
		memcpy(error->ref, ref.ptr, ref.len);
	if (id.len <= OP_ID_MAX)
		memcpy(error->job, id.ptr, id.len);
}

static enum op_read read_tree(struct op *op, struct op_error *error)
{
	if (!json_object_is_type(op->tree, json_type_object))
		return bad(error, "A message must be a JSON object.");
	keep_names(op, error);
	if (find_name(op, error))
		return OP_BAD;
	if (!ops[op->name].any && (check_known(op, error) || check_fields(op, error)))
		return OP_BAD;
	op->ref = json_str(op->tree, "ref");
	op->id = json_str(op->tree, "id");
	op->token = json_str(op->tree, "token");
	op->session = json_str(op->tree, "session");
	op->resume = json_str(op->tree, "resume");
	op->job = json_member(op->tree, "job");
	if (ops[op->name].any) {
		bad(error, "%s is part of the protocol but not supported yet.", op_text(op->name));
		error->fault = FAULT_NOT_SUPPORTED;
		return OP_BAD;
	}
	return read_jobs(op, error);
}

/* ── the ref of a message that cannot be read ── */

/* Goes from a string's first quote to its last; false where @text ends before. */
static bool skip_string(struct str text, size_t *at, struct str *ret_inside)
{
	size_t from = ++*at;

	while (*at < text.len && text.ptr[*at] != '"')
		*at += text.ptr[*at] == '\\' ? 2 : 1;
	if (*at >= text.len)
		return false;
	*ret_inside = (struct str){text.ptr + from, *at - from};
	return true;
}

/* What a string without its quotes says: up to @size - 1 bytes; empty where it is longer. */
static void unescape(struct str inside, char *ret_text, size_t size)
{
	struct buf text = {0};

	ret_text[0] = '\0';
	if (inside.len < size * strlen("\\u0000") && json_unescape(&text, inside) == JSON_OK &&
	    text.len < size)
		memcpy(ret_text, buf_text(&text), text.len + 1);
	buf_fini(&text);
}

/* @begun: what stands before the byte at which reading stopped, so well-formed as far as it goes. The ref is kept where there is no
 * doubt: it stands there once, whole, and it is not among the message's own keys (nor behind its end) that reading stopped. */
static void keep_ref(struct str begun, struct op_error *error)
{
	struct str inside, ref = STR("");
	unsigned depth = 0, refs = 0;
	bool key = false, of_ref = false;

	for (size_t at = 0; at < begun.len; at++) {
		char b = begun.ptr[at];
		char name[sizeof("ref")];

		if (b == '"' && !skip_string(begun, &at, &inside))
			break;
		if (b == '{' || b == '[') {
			key = ++depth == 1 && b == '{';
		} else if (b == '}' || b == ']') {
			depth--;
		} else if (depth == 1 && (b == ',' || b == ':')) {
			key = b == ',';
		} else if (depth == 1 && b == '"' && key) {
			unescape(inside, name, sizeof(name));
			of_ref = strcmp(name, "ref") == 0;
			refs += of_ref;
		} else if (depth == 1 && b == '"' && of_ref) {
			ref = inside;
		}
	}
	if (depth && !(depth == 1 && key) && refs == 1)
		unescape(ref, error->ref, sizeof(error->ref));
}

static enum op_read bad_json(struct str text, const struct json_error *json, struct op_error *error)
{
	keep_ref((struct str){text.ptr, json->offset < text.len ? json->offset : text.len}, error);
	return bad(error, "Not valid JSON at byte %zu: %.*s.", json->offset,
		   (int)str_utf8_cut(str_of(json->message), SHOWN_MAX), json->message);
}

enum op_read op_read(struct str text, struct op *ret_op, struct op_error *ret_error)
{
	struct op op = {0};
	struct json_error json;

	*ret_error = (struct op_error){0};
	if (json_read(text, &op.tree, &json) != JSON_OK)
		return bad_json(text, &json, ret_error);
	if (read_tree(&op, ret_error)) {
		op_fini(&op);
		return OP_BAD;
	}
	*ret_op = op;
	return OP_OK;
}

void op_fini(struct op *op)
{
	json_object_put(op->tree);
	mem_free(op->jobs);
	*op = (struct op){0};
}
