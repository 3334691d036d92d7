#include <stdio.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "tests/sim/sim.h"

struct sim_limit *sim_limit_of(struct sim *sim, struct str key, struct str model)
{
	struct buf name = {0};
	buf_add_str(&name, key);
	buf_add_char(&name, '\0');
	buf_add_str(&name, model);
	struct sim_limit *limit = map_find(&sim->limits, buf_str(&name));
	if (!limit) {
		limit = mem_new(struct sim_limit);
		*limit = (struct sim_limit){(double)sim->options.rpm, (double)sim->options.itpm,
					    (double)sim->options.otpm, loop_now_us(sim->loop)};
		map_set(&sim->limits, buf_str(&name), limit);
	}
	buf_fini(&name);
	return limit;
}

static double refill(double level, uint64_t cap, double minutes)
{
	double more = level + (double)cap * minutes;
	return more > (double)cap ? (double)cap : more;
}

static void limit_turn(struct sim *sim, struct sim_limit *l)
{
	uint64_t now = loop_now_us(sim->loop);
	double minutes = (double)(now - l->at_us) / (60.0 * US_PER_S);
	l->requests = refill(l->requests, sim->options.rpm, minutes);
	l->input = refill(l->input, sim->options.itpm, minutes);
	l->output = refill(l->output, sim->options.otpm, minutes);
	l->at_us = now;
}

bool sim_limit_take(struct sim *sim, struct sim_limit *l, enum sim_dialect dialect, uint64_t input,
		    uint64_t output, struct sim_error *error)
{
	/* OpenAI reserves what may be answered; Anthropic takes output while it is made (call.c). */
	uint64_t reserve = dialect == SIM_OPENAI ? input + output : input;
	const char *short_of = NULL;
	limit_turn(sim, l);
	if (l->requests < 1)
		short_of = "requests";
	else if (l->input < (double)reserve)
		short_of = dialect == SIM_OPENAI ? "tokens" : "input tokens";
	else if (dialect == SIM_ANTHROPIC && l->output <= 0)
		short_of = "output tokens";
	if (short_of) {
		sim_wire_status(dialect, 429, error);
		snprintf(error->message, sizeof(error->message),
			 "Rate limit reached for %s per minute.", short_of);
		if (dialect == SIM_OPENAI && str_is(str_of(short_of), "tokens"))
			error->type = "tokens";
		return false;
	}
	l->requests -= 1;
	l->input -= (double)reserve;
	return true;
}

/* ---- fields ---- */

static uint64_t whole(double level)
{
	return level > 0 ? (uint64_t)level : 0;
}

/* Micro-seconds until the bucket is full. */
static uint64_t full_in_us(double level, uint64_t cap)
{
	return cap ? (uint64_t)(((double)cap - level) / (double)cap * 60.0 * US_PER_S) : 0;
}

static void put(struct http_req *req, const char *name, const char *part, const char *value)
{
	char key[80];
	snprintf(key, sizeof(key), name, part);
	http_add_field(req, arena_strdup(http_arena(req), key), str_of(value));
}

static void anthropic_bucket(struct sim *sim, struct http_req *req, const char *what, double level,
			     uint64_t cap, uint64_t round)
{
	char text[32];
	char time[CLOCK_TEXT_SIZE];
	uint64_t left = whole(level);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)cap);
	put(req, "anthropic-ratelimit-%s-limit", what, text);
	left = (left + round / 2) / round * round;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)left);
	put(req, "anthropic-ratelimit-%s-remaining", what, text);
	clock_text(loop_wall_ms(sim->loop) + full_in_us(level, cap) / US_PER_MS, time);
	snprintf(text, sizeof(text), "%.19sZ", time);
	put(req, "anthropic-ratelimit-%s-reset", what, text);
}

/* A Go duration: "12ms", "1.5s", "2m3s". */
static void go_duration(uint64_t us, char *out, size_t size)
{
	uint64_t ms = us / US_PER_MS;
	if (ms < 1000)
		snprintf(out, size, "%llums", (unsigned long long)ms);
	else if (ms < 60000)
		snprintf(out, size, "%llu.%03llus", (unsigned long long)(ms / 1000),
			 (unsigned long long)(ms % 1000));
	else
		snprintf(out, size, "%llum%llus", (unsigned long long)(ms / 60000),
			 (unsigned long long)(ms / 1000 % 60));
}

static void openai_bucket(struct http_req *req, const char *what, double level, uint64_t cap)
{
	char text[32];
	snprintf(text, sizeof(text), "%llu", (unsigned long long)cap);
	put(req, "x-ratelimit-limit-%s", what, text);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)whole(level));
	put(req, "x-ratelimit-remaining-%s", what, text);
	go_duration(full_in_us(level, cap), text, sizeof(text));
	put(req, "x-ratelimit-reset-%s", what, text);
}

void sim_limit_fields(struct sim *sim, struct sim_limit *l, enum sim_dialect dialect,
		      struct http_req *req)
{
	const struct sim_options *o = &sim->options;
	limit_turn(sim, l);
	if (dialect == SIM_OPENAI) {
		openai_bucket(req, "requests", l->requests, o->rpm);
		openai_bucket(req, "tokens", l->input, o->itpm);
		return;
	}
	anthropic_bucket(sim, req, "requests", l->requests, o->rpm, 1);
	anthropic_bucket(sim, req, "input-tokens", l->input, o->itpm, 1000);
	anthropic_bucket(sim, req, "output-tokens", l->output, o->otpm, 1000);
	anthropic_bucket(sim, req, "tokens", l->input + l->output, o->itpm + o->otpm, 1000);
}
