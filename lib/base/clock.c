#include "lib/base/clock.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define DAY_MS UINT64_C(86400000)
/* 9999-12-31T23:59:59.999Z, the last time that RFC 3339 can write. */
#define LAST_MS UINT64_C(253402300799999)

struct civil {
	unsigned year, month, day, hour, minute, second;
};

static bool leap(unsigned year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static unsigned month_days(unsigned year, unsigned month)
{
	static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return month == 2 && leap(year) ? 29 : days[month - 1];
}

/* Days of the proleptic Gregorian calendar before 1 January of @year, counted from year 1. */
static uint64_t days_before(unsigned year)
{
	uint64_t y = year - 1;

	return y * 365 + y / 4 - y / 100 + y / 400;
}

static void civil_of(uint64_t days, struct civil *c)
{
	days += days_before(1970);
	c->year = (unsigned)(days * 400 / 146097) + 1;
	while (days_before(c->year) > days)
		c->year--;
	while (days_before(c->year + 1) <= days)
		c->year++;
	days -= days_before(c->year);
	for (c->month = 1; days >= month_days(c->year, c->month); c->month++)
		days -= month_days(c->year, c->month);
	c->day = (unsigned)days + 1;
}

/* False where a part is out of range or the time is before 1970. */
static bool seconds_of(const struct civil *c, int64_t offset_s, uint64_t *ret_s)
{
	int64_t s;

	/* A leap second is written as 60 and is the next minute's first. */
	if (c->year < 1 || c->month < 1 || c->month > 12 || c->day < 1 ||
	    c->day > month_days(c->year, c->month) || c->hour > 23 || c->minute > 59 ||
	    c->second > 60)
		return false;
	s = (int64_t)days_before(c->year) - (int64_t)days_before(1970);
	for (unsigned m = 1; m < c->month; m++)
		s += month_days(c->year, m);
	s = (s + c->day - 1) * 86400 + c->hour * 3600 + c->minute * 60 + c->second - offset_s;
	if (s < 0)
		return false;
	*ret_s = (uint64_t)s;
	return true;
}

static char *digits(char *out, unsigned value, int count)
{
	for (int i = count; i--; value /= 10)
		out[i] = (char)('0' + value % 10);
	return out + count;
}

void clock_text(uint64_t wall_ms, char out[static CLOCK_TEXT_SIZE])
{
	struct civil c;
	unsigned ms;

	if (wall_ms > LAST_MS)
		wall_ms = LAST_MS;
	civil_of(wall_ms / DAY_MS, &c);
	ms = (unsigned)(wall_ms % DAY_MS);
	out = digits(out, c.year, 4);
	*out++ = '-';
	out = digits(out, c.month, 2);
	*out++ = '-';
	out = digits(out, c.day, 2);
	*out++ = 'T';
	out = digits(out, ms / 3600000, 2);
	*out++ = ':';
	out = digits(out, ms / 60000 % 60, 2);
	*out++ = ':';
	out = digits(out, ms / 1000 % 60, 2);
	*out++ = '.';
	out = digits(out, ms % 1000, 3);
	*out++ = 'Z';
	*out = 0;
}

/* Takes exactly @count digits off @rest. */
static bool take_number(struct str *rest, size_t count, unsigned *ret_value)
{
	unsigned value = 0;

	if (rest->len < count)
		return false;
	for (size_t i = 0; i < count; i++) {
		unsigned digit = (unsigned)(rest->ptr[i] - '0');

		if (digit > 9)
			return false;
		value = value * 10 + digit;
	}
	rest->ptr += count;
	rest->len -= count;
	*ret_value = value;
	return true;
}

/* Takes one byte off @rest when it is one of @set. */
static bool take_any(struct str *rest, const char *set)
{
	if (!rest->len || !rest->ptr[0] || !strchr(set, rest->ptr[0]))
		return false;
	rest->ptr++;
	rest->len--;
	return true;
}

/* Takes the decimals behind a point, as billionths; further ones are dropped. False where there is
 * none. */
static bool take_fraction(struct str *rest, uint64_t *ret_billionths)
{
	uint64_t value = 0;
	uint64_t scale = 100000000;
	size_t at = 0;

	for (; at < rest->len && rest->ptr[at] >= '0' && rest->ptr[at] <= '9'; at++) {
		value += (uint64_t)(rest->ptr[at] - '0') * scale;
		scale /= 10;
	}
	rest->ptr += at;
	rest->len -= at;
	*ret_billionths = value;
	return at > 0;
}

static bool take_offset(struct str *rest, int64_t *ret_offset_s)
{
	unsigned hours, minutes;
	bool west;

	*ret_offset_s = 0;
	if (take_any(rest, "Zz"))
		return true;
	west = rest->len && rest->ptr[0] == '-';
	if (!take_any(rest, "+-") || !take_number(rest, 2, &hours) || !take_any(rest, ":") ||
	    !take_number(rest, 2, &minutes) || hours > 23 || minutes > 59)
		return false;
	*ret_offset_s = (int64_t)(hours * 3600 + minutes * 60) * (west ? -1 : 1);
	return true;
}

static bool take_time_of_day(struct str *rest, struct civil *c)
{
	return take_number(rest, 2, &c->hour) && take_any(rest, ":") &&
	       take_number(rest, 2, &c->minute) && take_any(rest, ":") &&
	       take_number(rest, 2, &c->second);
}

enum clock_parse clock_parse(struct str text, uint64_t *ret_wall_ms)
{
	uint64_t billionths = 0;
	int64_t offset_s;
	struct civil c;
	uint64_t s;

	if (!take_number(&text, 4, &c.year) || !take_any(&text, "-") ||
	    !take_number(&text, 2, &c.month) || !take_any(&text, "-") ||
	    !take_number(&text, 2, &c.day) || !take_any(&text, "Tt ") ||
	    !take_time_of_day(&text, &c))
		return CLOCK_MALFORMED;
	if (take_any(&text, ".") && !take_fraction(&text, &billionths))
		return CLOCK_MALFORMED;
	if (!take_offset(&text, &offset_s) || text.len || !seconds_of(&c, offset_s, &s))
		return CLOCK_MALFORMED;
	*ret_wall_ms = s * 1000 + billionths / 1000000;
	return CLOCK_OK;
}

/* Takes one of the three-letter @names (laid end to end) off @rest; its number from 1. */
static bool take_name(struct str *rest, const char *names, unsigned *ret_number)
{
	for (unsigned i = 0; rest->len >= 3 && names[i * 3]; i++) {
		if (memcmp(rest->ptr, names + (size_t)i * 3, 3) != 0)
			continue;
		rest->ptr += 3;
		rest->len -= 3;
		*ret_number = i + 1;
		return true;
	}
	return false;
}

enum clock_parse clock_parse_http(struct str text, uint64_t *ret_wall_ms)
{
	unsigned weekday;
	struct civil c;
	uint64_t s;

	if (!take_name(&text, "MonTueWedThuFriSatSun", &weekday) || !take_any(&text, ",") ||
	    !take_any(&text, " ") || !take_number(&text, 2, &c.day) || !take_any(&text, " ") ||
	    !take_name(&text, "JanFebMarAprMayJunJulAugSepOctNovDec", &c.month) ||
	    !take_any(&text, " ") || !take_number(&text, 4, &c.year) || !take_any(&text, " ") ||
	    !take_time_of_day(&text, &c) || !str_is(text, " GMT") || !seconds_of(&c, 0, &s))
		return CLOCK_MALFORMED;
	*ret_wall_ms = s * 1000;
	return CLOCK_OK;
}

/* Takes a unit of Go's time.ParseDuration off @rest. */
static bool take_unit(struct str *rest, uint64_t *ret_ns)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = {
	    {"ns", 1},
	    {"us", 1000},
	    {"\xC2\xB5s", 1000}, /* micro sign */
	    {"\xCE\xBCs", 1000}, /* Greek mu */
	    {"ms", 1000000},
	    {"s", 1000000000},
	    {"m", UINT64_C(60000000000)},
	    {"h", UINT64_C(3600000000000)},
	};

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (!str_starts(*rest, units[i].name))
			continue;
		rest->ptr += strlen(units[i].name);
		rest->len -= strlen(units[i].name);
		*ret_ns = units[i].ns;
		return true;
	}
	return false;
}

enum clock_parse clock_parse_go(struct str text, uint64_t *ret_us)
{
	unsigned __int128 total_ns = 0;
	bool bare = true;

	if (!text.len)
		return CLOCK_MALFORMED;
	while (text.len) {
		struct str whole = text;
		uint64_t value = 0, billionths = 0, unit_ns = 1000000000;
		bool fraction;

		whole.len = 0;
		while (whole.len < text.len && text.ptr[whole.len] >= '0' &&
		       text.ptr[whole.len] <= '9')
			whole.len++;
		text.ptr += whole.len;
		text.len -= whole.len;
		if (whole.len && !str_u64(whole, &value))
			return CLOCK_MALFORMED;
		fraction = take_any(&text, ".") && take_fraction(&text, &billionths);
		if (!whole.len && !fraction)
			return CLOCK_MALFORMED;
		if (text.len || !bare) {
			if (!take_unit(&text, &unit_ns))
				return CLOCK_MALFORMED;
			bare = false;
		}
		total_ns += (unsigned __int128)value * unit_ns +
			    (unsigned __int128)billionths * unit_ns / 1000000000;
		if (total_ns > (unsigned __int128)UINT64_MAX)
			return CLOCK_MALFORMED;
	}
	/* Up, so that who waits that long has waited long enough. */
	*ret_us = (uint64_t)((total_ns + 999) / 1000);
	return CLOCK_OK;
}
