/* The strict reader's first pass: the grammar of RFC 8259 with exact byte offsets, and what json-c
 * would let pass. Refuses what json.h says, and numbers that 64 bits (whole ones) or a double
 * cannot hold. Makes no tree. */
#ifndef SLUICE_BASE_JSON_CHECK_H
#define SLUICE_BASE_JSON_CHECK_H

#include "lib/base/err.h"
#include "lib/base/json.h"
#include "lib/base/str.h"

#define JSON_DEPTH_MAX 64

/* *@ret_value is the view of the value without the blanks around it. */
must_check enum json_result json_check(struct str text, struct str *ret_value,
				       struct json_error *ret_error);

#endif
