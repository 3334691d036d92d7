#include "lib/base/json.h"

#include <math.h>

#include "lib/base/mem.h"
#include "tests/unit/test.h"

SUITE("base/json");

static void refuse(struct str text, size_t offset, const char *message)
{
	struct json_error error = {0};
	struct json_object *value = NULL;

	ck_assert_msg(json_read(text, &value, &error) == JSON_MALFORMED, "%.*s is read",
		      STR_FMT(text));
	ck_assert_msg(error.offset == offset, "%.*s: offset %zu, not %zu (%s)", STR_FMT(text),
		      error.offset, offset, error.message);
	ck_assert_msg(strcmp(error.message, message) == 0, "%.*s: %s, not %s", STR_FMT(text),
		      error.message, message);
}

static void same(const char *text, const char *expected)
{
	cleanup_json struct json_object *value = NULL;
	struct json_error error = {0};

	ck_assert_msg(json_read(str_of(text), &value, &error) == JSON_OK, "%s: %s", text,
		      error.message);
	ck_assert_str_eq(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN), expected);
}

TEST(values_of_every_type_are_read)
{
	same(" {\"a\" : [1, -2.5e3,true ,false,null,\"x\"]}\r\n",
	     "{\"a\":[1,-2.5e3,true,false,null,\"x\"]}");
	same("12", "12");
	same("\"\"", "\"\"");
	same("null", "null");
	same("[]", "[]");
	same("{}", "{}");
	same("[[],{},[{}]]", "[[],{},[{}]]");
	same("\"\\ud83d\\ude00\\u00e4\\n\"", "\"\xF0\x9F\x98\x80\xC3\xA4\\n\"");
	same("-9223372036854775808", "-9223372036854775808");
	same("18446744073709551615", "18446744073709551615");
}

TEST(an_error_has_the_byte_at_which_reading_stopped)
{
	refuse(STR(""), 0, "expected a value");
	refuse(STR("  "), 2, "expected a value");
	refuse(STR("{"), 1, "expected a key");
	refuse(STR("{\"a\""), 4, "expected a colon");
	refuse(STR("{\"a\":}"), 5, "expected a value");
	refuse(STR("{\"a\":1"), 6, "expected a comma or }");
	refuse(STR("{\"a\":1,}"), 7, "expected a key");
	refuse(STR("{a:1}"), 1, "expected a key");
	refuse(STR("{'a':1}"), 1, "expected a key");
	refuse(STR("[1,]"), 3, "expected a value");
	refuse(STR("[1 2]"), 3, "expected a comma or ]");
	refuse(STR("[1}"), 2, "expected a comma or ]");
	refuse(STR("nul"), 0, "expected a value");
	refuse(STR("NaN"), 0, "expected a value");
	refuse(STR("True"), 0, "expected a value");
	refuse(STR("// x\n1"), 0, "expected a value");
	refuse(STR("\xEF\xBB\xBF{}"), 0, "expected a value");
	refuse(STR("\"abc"), 4, "a string without end");
}

TEST(numbers_are_those_of_rfc_8259)
{
	refuse(STR("01"), 1, "bytes behind the value");
	refuse(STR("-"), 1, "expected a digit");
	refuse(STR("+1"), 0, "expected a value");
	refuse(STR(".5"), 0, "expected a value");
	refuse(STR("1."), 2, "expected a digit");
	refuse(STR("1e"), 2, "expected a digit");
	refuse(STR("1e+"), 3, "expected a digit");
	refuse(STR("0x10"), 1, "bytes behind the value");
	refuse(STR("-Infinity"), 1, "expected a digit");
}

TEST(numbers_that_cannot_be_held_are_refused_not_bent)
{
	refuse(STR("[1e400]"), 1, "number out of range");
	refuse(STR("[-1E999]"), 1, "number out of range");
	refuse(STR("18446744073709551616"), 0, "number out of range");
	refuse(STR("-9223372036854775809"), 0, "number out of range");
}

TEST(a_key_twice_is_refused_also_when_it_is_written_otherwise)
{
	refuse(STR("{\"a\":1,\"b\":2,\"a\":3}"), 13, "duplicate key \"a\"");
	refuse(STR("{\"a\":1,\"\\u0061\":3}"), 7, "duplicate key \"a\"");
	refuse(STR("{\"x\":{\"\":1,\"\":3}}"), 11, "duplicate key \"\"");
	same("{\"a\":{\"a\":{\"a\":1}},\"b\":{\"a\":1}}",
	     "{\"a\":{\"a\":{\"a\":1}},\"b\":{\"a\":1}}");
}

TEST(a_key_twice_is_found_among_many)
{
	struct buf text = {0};
	size_t offset;

	buf_add_char(&text, '{');
	for (int i = 0; i < 5000; i++)
		buf_printf(&text, "\"k%d\":%d,", i, i);
	offset = text.len;
	buf_add_text(&text, "\"k77\":0,\"k2\":1}");
	refuse(buf_str(&text), offset, "duplicate key \"k77\"");
	buf_fini(&text);
}

TEST(nesting_goes_to_64_levels)
{
	struct buf text = {0};
	char expected[129] = {0};

	memset(expected, '[', 64);
	memset(expected + 64, ']', 64);
	same(expected, expected);
	for (int i = 0; i < 100000; i++)
		buf_add_text(&text, "[");
	refuse(buf_str(&text), 64, "nesting over 64 levels");
	buf_fini(&text);
}

TEST(strings_hold_text_and_nothing_else)
{
	refuse(STR("\"a\nb\""), 2, "control character in a string");
	refuse(STR("\"a\0b\""), 2, "control character in a string");
	refuse(STR("\"a\\u0000\""), 2, "NUL byte in a string");
	refuse(STR("{\"a\\u0000\":1}"), 3, "NUL byte in a string");
	refuse(STR("\"\\ud83d\""), 1, "lone surrogate in a string");
	refuse(STR("\"\\ud83dx\\ude00\""), 1, "lone surrogate in a string");
	refuse(STR("\"\\ude00\\ud83d\""), 1, "lone surrogate in a string");
	refuse(STR("\"\\ud83d\\u0041\""), 1, "lone surrogate in a string");
	refuse(STR("\"\\x41\""), 1, "bad escape in a string");
	refuse(STR("\"\\u00g0\""), 1, "bad escape in a string");
	refuse(STR("\"\\"), 1, "bad escape in a string");
	refuse(STR("\"ab\xC3\xA4\xFF\""), 5, "invalid UTF-8");
	refuse(STR("\"\xED\xA0\x80\""), 1, "invalid UTF-8");
	refuse(STR("\"\xC0\x80\""), 1, "invalid UTF-8");
	refuse(STR("\"\xC3\""), 1, "invalid UTF-8");
}

TEST(bytes_behind_the_value_are_refused)
{
	refuse(STR("{} {}"), 3, "bytes behind the value");
	refuse(STR("1\0"), 1, "bytes behind the value");
	refuse(STR("null x"), 5, "bytes behind the value");
}

TEST(members_are_read_with_a_default)
{
	cleanup_json struct json_object *o = NULL;
	struct json_error error;

	ck_assert(json_read(STR("{\"s\":\"x\",\"i\":-5,\"d\":0.5,\"b\":true,\"n\":null}"), &o,
			    &error) == JSON_OK);
	ck_assert_view(json_str(o, "s"), "x");
	ck_assert_view(json_str(o, "i"), "");
	ck_assert_int_eq(json_int(o, "i", 1), -5);
	ck_assert_int_eq(json_int(o, "s", 1), 1);
	ck_assert_int_eq(json_int(o, "n", 1), 1);
	ck_assert_int_eq(json_int(o, "d", 1), 1);
	ck_assert(json_double(o, "d", 1) == 0.5);
	ck_assert(json_double(o, "i", 1) == -5);
	ck_assert(json_double(o, "s", 1) == 1);
	ck_assert(json_bool(o, "b", false));
	ck_assert(json_bool(o, "none", true));
	ck_assert_ptr_null(json_member(NULL, "s"));
	ck_assert_ptr_null(json_member(json_member(o, "s"), "s"));
}

TEST(a_writer_puts_commas_by_itself)
{
	cleanup_json struct json_object *tree = NULL;
	struct json_error error;
	struct buf b = {0};
	struct json_out o = {.buf = &b};

	ck_assert(json_read(STR("{\"x\":[1,\"a/b\"]}"), &tree, &error) == JSON_OK);
	json_open(&o, '{');
	json_put_text(&o, "t", "a\"");
	json_put_text(&o, "u", NULL);
	json_put_int(&o, "i", INT64_MIN);
	json_key(&o, "a");
	json_open(&o, '[');
	json_put_bool(&o, NULL, true);
	json_put_null(&o, NULL);
	json_open(&o, '{');
	json_close(&o, '}');
	json_open(&o, '[');
	json_put_int(&o, NULL, 1);
	json_close(&o, ']');
	json_close(&o, ']');
	json_put_time(&o, "at", 1795342530123);
	json_put_time(&o, "never", 0);
	json_put_raw(&o, "raw", STR("[1]"));
	json_put_raw(&o, "empty", STR(""));
	json_put_tree(&o, "tree", tree);
	json_put_tree(&o, "nothing", NULL);
	json_key(&o, "k");
	json_put_str(&o, NULL, STR("v"));
	json_close(&o, '}');
	ck_assert_view(
	    buf_str(&b),
	    "{\"t\":\"a\\\"\",\"u\":null,\"i\":-9223372036854775808,\"a\":[true,null,{},[1]],"
	    "\"at\":\"2026-11-22T10:15:30.123Z\",\"never\":null,\"raw\":[1],\"empty\":null,"
	    "\"tree\":{\"x\":[1,\"a/b\"]},\"nothing\":null,\"k\":\"v\"}");
	buf_fini(&b);
}

TEST(doubles_are_written_in_their_shortest_form)
{
	struct buf b = {0};
	struct json_out o = {.buf = &b};

	json_open(&o, '[');
	json_put_double(&o, NULL, 0.2);
	json_put_double(&o, NULL, 0.1 + 0.2);
	json_put_double(&o, NULL, 1e300);
	json_put_double(&o, NULL, -3);
	json_put_double(&o, NULL, NAN);
	json_put_double(&o, NULL, INFINITY);
	json_close(&o, ']');
	ck_assert_view(buf_str(&b), "[0.2,0.30000000000000004,1e+300,-3,null,null]");
	buf_fini(&b);
}

TEST(every_byte_of_text_survives_escape_and_unescape)
{
	struct buf text = {0}, escaped = {0}, back = {0};

	for (int c = 1; c < 0x80; c++)
		buf_add_char(&text, (char)c);
	buf_add_text(&text, "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80");
	json_escape(&escaped, buf_str(&text));
	ck_assert(json_unescape(&back, buf_str(&escaped)) == JSON_OK);
	ck_assert(str_eq(buf_str(&back), buf_str(&text)));
	buf_fini(&text);
	buf_fini(&escaped);
	buf_fini(&back);
}

TEST(escapes_are_the_short_ones_where_there_are)
{
	struct buf b = {0};

	json_escape(&b, STR("\"\\/\b\f\n\r\t\x01\x1F\x7F"));
	ck_assert_view(buf_str(&b), "\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7F");
	buf_reset(&b);
	json_escape(&b, STR(""));
	ck_assert_uint_eq(b.len, 0);
	buf_fini(&b);
}

TEST(unescape_takes_pairs_and_refuses_halves)
{
	static const char *const bad[] = {
	    "\\", "\\x", "\\u12", "\\ud800", "\\udc00", "\\ud800\\u0041", "\\u0000", "\"", "a\nb"};
	struct buf b = {0};

	ck_assert(json_unescape(&b, STR("\\uD83D\\uDE00\\u20ac\\/\\u007f")) == JSON_OK);
	ck_assert_view(buf_str(&b), "\xF0\x9F\x98\x80\xE2\x82\xAC/\x7F");
	for (size_t i = 0; i < countof(bad); i++)
		ck_assert_msg(json_unescape(&b, str_of(bad[i])) == JSON_MALFORMED, "%s", bad[i]);
	buf_fini(&b);
}
