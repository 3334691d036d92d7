/* Options of a program: one table per program (its options.def), read from its section of the
 *configuration file,
 * --set and the command line. Refuses values outside an option's limits.
 *
 * An options.def has lines
 *	OPTION(field, "key", TYPE, default, min, max, "help")
 *	OPTION(field, "key", TYPE, default, min, max, "help", RESTART)	a running program keeps the value that it has
 * with TYPE one of
 *	INT     int64_t
 *	BYTES   uint64_t; "64KiB", "25MiB", "1GiB" or a plain number
 *	MS      uint64_t milliseconds; "250ms", "10s", "2m", "1h" or a plain number
 *	BOOL    bool; true or false (min and max are 0)
 *	STRING  const char *, never NULL (min and max: bytes of its length)
 *	DOUBLE  double
 * and becomes a struct and a table so:
 *	struct front_options {
 *	#define OPTION OPTION_MEMBER
 *	#include "producer/options.def"
 *	#undef OPTION
 *	};
 *	#define OPTION_OF struct front_options
 *	static const struct option options[] = {
 *	#define OPTION OPTION_LINE
 *	#include "producer/options.def"
 *	#undef OPTION
 *	};
 */
#ifndef SLUICE_SVC_OPTION_H
#define SLUICE_SVC_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/str.h"

struct arena;
struct buf;

enum option_type { OPTION_INT, OPTION_BYTES, OPTION_MS, OPTION_BOOL, OPTION_STRING, OPTION_DOUBLE };

struct option {
	const char *key;
	const char *help;
	enum option_type type;
	size_t offset; /* of the member in the struct of values */
	double min;
	double max;
	bool restart; /* read at the start only: a reload keeps the old value and says so */
	union {
		int64_t i;
		uint64_t u;
		bool b;
		const char *s;
		double d;
	} otherwise; /* the default */
};

#define OPTION_C_INT int64_t
#define OPTION_C_BYTES uint64_t
#define OPTION_C_MS uint64_t
#define OPTION_C_BOOL bool
#define OPTION_C_STRING const char *
#define OPTION_C_DOUBLE double
#define OPTION_U_INT i
#define OPTION_U_BYTES u
#define OPTION_U_MS u
#define OPTION_U_BOOL b
#define OPTION_U_STRING s
#define OPTION_U_DOUBLE d

#define OPTION_IS_ false
#define OPTION_IS_RESTART true

#define OPTION_MEMBER(field_, key_, type_, default_, min_, max_, help_, ...) \
	OPTION_C_##type_ field_;
#define OPTION_LINE(field_, key_, type_, default_, min_, max_, help_, ...) \
	{.key = (key_),                                                    \
	 .help = (help_),                                                  \
	 .type = OPTION_##type_,                                           \
	 .offset = offsetof(OPTION_OF, field_),                            \
	 .min = (min_),                                                    \
	 .max = (max_),                                                    \
	 .restart = OPTION_IS_##__VA_ARGS__,                               \
	 .otherwise.OPTION_U_##type_ = (default_)},

/* NULL where the table has no such key; '-' in @key is read as '_'. */
const struct option *option_find(const struct option *table, size_t count, struct str key);

/* Writes every default into @values. */
void option_defaults(const struct option *table, size_t count, void *values);

enum option_result { OPTION_OK = 0, OPTION_BAD = 1 };

/* Reads @text into @values (strings are copied into @arena). On OPTION_BAD nothing is written and
 * @ret_why says what is allowed ("a whole number from 1 to 64"), in @arena. */
must_check enum option_result option_read(const struct option *option, struct str text,
					  void *values, struct arena *arena, const char **ret_why);

/* Whether both structs hold the same value of @option. */
bool option_same(const struct option *option, const void *values, const void *others);
/* @values gets the value that @from holds; a string stays @from's. */
void option_copy(const struct option *option, void *values, const void *from);

/* One paragraph per option for --help: key, type, default, limits, help. @prefix stands before each
 * key. */
void option_help(const struct option *table, size_t count, const char *prefix, struct buf *out);

#endif
