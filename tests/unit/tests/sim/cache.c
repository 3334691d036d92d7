#include "tests/sim/cache.h"

#include <stdio.h>

#include "lib/base/json.h"
#include "tests/sim/ask.h"
#include "tests/sim/family.h"
#include "tests/unit/test.h"

SUITE("sim/cache");

#define MARK ",\"cache_control\":{\"type\":\"ephemeral\"}"
#define HOUR ",\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"1h\"}"

static const struct sim_cache_rules anthropic = {true, 1024, SIM_CACHE_US};
static const struct sim_cache_rules openai = {false, 0, SIM_CACHE_US};

static struct arena arena;
static struct sim_cache cache;
static struct sim_ask ask;
static char text[1 << 17];

/* So many bytes of text, the same each time. */
static const char *long_text(size_t bytes, char with)
{
	static char out[4][1 << 15];
	static int next;
	char *s = out[next++ % 4];
	memset(s, with, bytes);
	s[bytes] = '\0';
	return s;
}

/* Asks and lets the answer begin. */
static struct sim_use asked(uint64_t now_us, const struct sim_cache_rules *rules)
{
	uint64_t input = sim_estimate(ask.input_bytes);
	struct sim_use use = sim_cache_look(&cache, now_us, 7, &ask.prefix, rules, input);
	sim_cache_begun(&cache, now_us, 7, &ask.prefix, rules, &use);
	return use;
}

static void read_anthropic(const char *system, const char *mark, const char *messages)
{
	struct sim_error error;
	snprintf(text, sizeof(text),
		 "{\"model\":\"claude-sonnet-4-5\",\"max_tokens\":9,\"system\":[{\"type\":\"text\","
		 "\"text\":\"%s\"%s}],\"messages\":[%s]}",
		 system, mark, messages);
	ck_assert_int_eq(
	    sim_ask_anthropic(str_of(text), STR("2023-06-01"), false, &arena, &ask, &error),
	    SIM_ASK_OK);
}

static void read_openai(const char *system, const char *user)
{
	struct sim_error error;
	snprintf(text, sizeof(text),
		 "{\"model\":\"gpt-4.1\",\"messages\":[{\"role\":\"system\",\"content\":\"%s\"},"
		 "{\"role\":\"user\",\"content\":\"%s\"}]}",
		 system, user);
	ck_assert_int_eq(sim_ask_openai(str_of(text), &arena, &ask, &error), SIM_ASK_OK);
}

static void is(struct sim_use use, uint64_t read, uint64_t written, uint64_t rest)
{
	uint64_t wrote = use.write_5m + use.write_1h;
	ck_assert_uint_eq(use.read, read);
	ck_assert_uint_eq(wrote, written);
	ck_assert_uint_eq(use.input - use.read - wrote, rest);
}

#define USER(words) "{\"role\":\"user\",\"content\":\"" words "\"}"

TEST(a_marked_prefix_is_written_once_and_then_read)
{
	read_anthropic(long_text(8000, 'a'), MARK, USER("one essay..."));
	is(asked(0, &anthropic), 0, 2000, 3);
	read_anthropic(long_text(8000, 'a'), MARK, USER("another essay..."));
	is(asked(1000, &anthropic), 2000, 0, 4);
	read_anthropic(long_text(8000, 'b'), MARK, USER("another essay..."));
	is(asked(1000, &anthropic), 0, 2000, 4);
	ck_assert_uint_eq(cache.reads, 1);
	ck_assert_uint_eq(cache.writes, 2);
}

TEST(without_a_mark_or_below_the_least_length_nothing_is_cached)
{
	for (int i = 0; i < 2; i++) {
		read_anthropic(long_text(8000, 'a'), "", USER("hello!!!"));
		is(asked(0, &anthropic), 0, 0, 2002);
		read_anthropic(long_text(4000, 'a'), MARK, USER("hello!!!"));
		is(asked(0, &anthropic), 0, 0, 1002);
	}
	read_anthropic(long_text(4096, 'a'), MARK, USER("hello!!!"));
	is(asked(0, &anthropic), 0, 1024, 2);
}

TEST(an_entry_lives_five_minutes_from_its_last_use)
{
	read_anthropic(long_text(8000, 'a'), MARK, USER("hello!!!"));
	is(asked(0, &anthropic), 0, 2000, 2);
	is(asked(SIM_CACHE_US - 1, &anthropic), 2000, 0, 2);
	is(asked(2 * SIM_CACHE_US - 2, &anthropic), 2000, 0, 2);
	is(asked(3 * SIM_CACHE_US - 2, &anthropic), 0, 2000, 2);
}

TEST(an_hour_is_counted_apart_and_lasts)
{
	read_anthropic(long_text(8000, 'a'), HOUR, USER("hello!!!"));
	ck_assert_uint_eq(asked(0, &anthropic).write_1h, 2000);
	is(asked(SIM_CACHE_HOUR_US - 1, &anthropic), 2000, 0, 2);
}

TEST(what_was_written_is_read_only_once_its_answer_has_begun)
{
	uint64_t input;
	struct sim_use first;
	read_anthropic(long_text(8000, 'a'), MARK, USER("hello!!!"));
	input = sim_estimate(ask.input_bytes);
	first = sim_cache_look(&cache, 0, 7, &ask.prefix, &anthropic, input);
	is(sim_cache_look(&cache, 5, 7, &ask.prefix, &anthropic, input), 0, 2000, 2);
	sim_cache_begun(&cache, 0, 7, &ask.prefix, &anthropic, &first);
	is(sim_cache_look(&cache, 9, 7, &ask.prefix, &anthropic, input), 2000, 0, 2);
	is(sim_cache_look(&cache, 9, 8, &ask.prefix, &anthropic, input), 0, 2000, 2);
}

/* A conversation of @turns blocks of the user in one message, the last one marked. */
static void talk(int turns)
{
	static char messages[1 << 16];
	size_t n = (size_t)sprintf(messages, "{\"role\":\"user\",\"content\":[");
	for (int i = 0; i < turns; i++)
		n += (size_t)sprintf(messages + n, "%s{\"type\":\"text\",\"text\":\"turn %07d\"%s}",
				     i ? "," : "", i, i == turns - 1 ? MARK : "");
	sprintf(messages + n, "]}");
	read_anthropic(long_text(8000, 'a'), "", messages);
}

TEST(it_looks_back_over_twenty_blocks_and_no_further)
{
	talk(5);
	is(asked(0, &anthropic), 0, 2015, 0);
	talk(25);
	is(asked(0, &anthropic), 2015, 60, 0);
	talk(46);
	is(asked(0, &anthropic), 0, 2138, 0);
}

TEST(a_string_is_the_same_as_one_block_of_text)
{
	read_anthropic(long_text(8000, 'a'), "",
		       "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hi!!\"" MARK
		       "}]}");
	is(asked(0, &anthropic), 0, 2001, 0);
	read_anthropic(long_text(8000, 'a'), "",
		       USER("hi!!") ",{\"role\":\"assistant\",\"content\":\"well"
				    "\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\","
				    "\"text\":\"more\"" MARK "}]}");
	is(asked(0, &anthropic), 2001, 2, 0);
}

TEST(openai_reads_the_longest_of_steps_of_128_tokens)
{
	read_openai(long_text(6000, 'a'), "one question");
	ck_assert_uint_eq(asked(0, &openai).read, 0);
	read_openai(long_text(6000, 'a'), "another one!");
	ck_assert_uint_eq(asked(0, &openai).read, 1408);
	read_openai(long_text(5000, 'a'), "another one!");
	ck_assert_uint_eq(asked(0, &openai).read, 1152);
	read_openai(long_text(4000, 'a'), "short");
	ck_assert_uint_eq(asked(0, &openai).read, 0);
	read_openai(long_text(6000, 'a'), "one question");
	ck_assert_uint_eq(asked(2 * SIM_CACHE_US, &openai).read, 0);
}

TEST(each_family_has_its_least_length)
{
	ck_assert_uint_eq(sim_family_cache_least(STR("claude-opus-5")), 512);
	ck_assert_uint_eq(sim_family_cache_least(STR("claude-opus-4-8")), 1024);
	ck_assert_uint_eq(sim_family_cache_least(STR("claude-opus-4-7")), 2048);
	ck_assert_uint_eq(sim_family_cache_least(STR("claude-opus-4-6")), 4096);
	ck_assert_uint_eq(sim_family_cache_least(STR("claude-opus-4-5")), 4096);
	ck_assert_uint_eq(sim_family_cache_least(STR("claude-opus-4-1")), 1024);
	ck_assert_uint_eq(sim_family_cache_least(STR("claude-opus-4-20250514")), 1024);
	ck_assert_uint_eq(sim_family_cache_least(STR("claude-sonnet-5-5")), 512);
	ck_assert_uint_eq(sim_family_cache_least(STR("claude-sonnet-4-5")), 1024);
	ck_assert_uint_eq(sim_family_cache_least(STR("claude-haiku-4-5-20251001")), 4096);
	ck_assert_uint_eq(sim_family_cache_least(STR("claude-3-5-haiku-20241022")), 2048);
	ck_assert_uint_eq(sim_family_cache_least(STR("claude-mythos-5")), 512);
	ck_assert_uint_eq(sim_family_cache_least(STR("claude-mythos-preview")), 2048);
	ck_assert(sim_family_tells_writes(STR("gpt-5.6-sol")));
	ck_assert(!sim_family_tells_writes(STR("gpt-5.4")));
}
