#include "schemas/keys.h"

#include <stdio.h>

#include "lib/base/buf.h"
#include "lib/base/err.h"

static struct key make(const char *format, struct str a, struct str b)
{
	struct key k;
	int n = snprintf(k.text, sizeof(k.text), format, STR_FMT(a), STR_FMT(b));

	must(n > 0 && (size_t)n < sizeof(k.text));
	k.len = (size_t)n;
	return k;
}

struct key key_job(struct str job)
{
	return make("j:{%.*s}%.*s", job, STR(""));
}

struct key key_out(struct str job, int64_t attempt)
{
	char number[24];

	snprintf(number, sizeof(number), "%lld", (long long)attempt);
	return make("out:{%.*s}:%.*s", job, str_of(number));
}

struct key key_session(struct str session)
{
	return make("s:{%.*s}%.*s", session, STR(""));
}

struct key key_conversation(struct str session)
{
	return make("c:{%.*s}%.*s", session, STR(""));
}

struct key key_open(struct str org_or_session)
{
	return make("o:{%.*s}%.*s", org_or_session, STR(""));
}

struct key key_outbox(struct str session)
{
	return make("ob:{%.*s}%.*s", session, STR(""));
}

struct key key_takeover(struct str line)
{
	return make("tk:%.*s%.*s", line, STR(""));
}

struct key key_wished(void)
{
	return make("%.*s%.*s", STR("wished"), STR(""));
}

struct key key_nudge(struct str job)
{
	return make("n:{%.*s}%.*s", job, STR(""));
}

struct key key_ticket(struct str hash_hex)
{
	return make("t:%.*s%.*s", hash_hex, STR(""));
}

struct key key_idem(struct str org, struct str hash_hex)
{
	return make("i:{%.*s}:%.*s", org, hash_hex);
}

struct key key_breaker(struct str id)
{
	return make("brk:{%.*s}%.*s", id, STR(""));
}

struct key key_channel(struct str session_or_job)
{
	return make("ev:%.*s%.*s", session_or_job, STR(""));
}

struct key key_control(struct str worker)
{
	return make("ctl:%.*s%.*s", worker, STR(""));
}

void key_quota(struct str quota, struct key ret_keys[static KEY_QUOTA_COUNT])
{
	static const char *const formats[KEY_QUOTA_COUNT] = {
	    "b:{%.*s}%.*s",  "bl:{%.*s}%.*s", "br:{%.*s}%.*s", "bo:{%.*s}%.*s",
	    "bg:{%.*s}%.*s", "bm:{%.*s}%.*s", "bt:{%.*s}%.*s",
	};

	for (size_t i = 0; i < KEY_QUOTA_COUNT; i++)
		ret_keys[i] = make(formats[i], quota, STR(""));
}

enum event_parse event_parse(struct str text, struct event *ret_event)
{
	struct str line, version, attempt, at;
	struct event e = {.at = -1};

	if (!str_split(&text, '\n', &line) || !text.ptr)
		return EVENT_MALFORMED;
	e.payload = text;
	if (!str_split(&line, ' ', &version) || !str_is(version, "1"))
		return EVENT_MALFORMED;
	if (!str_split(&line, ' ', &e.ev) || !str_split(&line, ' ', &e.job) ||
	    !str_split(&line, ' ', &attempt) || !str_split(&line, ' ', &at))
		return EVENT_MALFORMED;
	if (!str_i64(attempt, &e.attempt) ||
	    (!str_is(at, "-") && (!str_i64(at, &e.at) || e.at < 0)))
		return EVENT_MALFORMED;
	if (str_is(e.ev, "delta") && e.at < 0)
		return EVENT_MALFORMED;
	*ret_event = e;
	return EVENT_OK;
}

void event_head(struct buf *out, const char *ev, struct str job, int64_t attempt, int64_t at)
{
	buf_add_text(out, "1 ");
	buf_add_text(out, ev);
	buf_add_char(out, ' ');
	buf_add_str(out, job);
	buf_add_char(out, ' ');
	buf_add_i64(out, attempt);
	buf_add_char(out, ' ');
	if (at < 0)
		buf_add_char(out, '-');
	else
		buf_add_i64(out, at);
	buf_add_char(out, '\n');
}
