#include "consumers/pool/breaker.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/list.h"
#include "lib/base/mem.h"
#include "lib/base/metric.h"
#include "lib/base/plant.h"
#include "lib/base/rand.h"
#include "lib/base/sm.h"
#include "lib/net/digest.h"
#include "lib/net/loop.h"
#include "lib/store/redis.h"
#include "lib/svc/config.h"
#include "schemas/keys.h"
#include "schemas/scripts.h"

/* So many failures in a row open it, for so long at first, doubled each time that the probe fails. */
#define FAILURES 3
#define FIRST_MS 250
#define MOST_MS 15000
/* After so long somebody finds out whether a refused account is good again. */
#define OUT_MS 60000
#define OUT_MOST_MS 600000
/* A probe's lease, renewed while its call lives, which that call's clocks bound. */
#define PROBE_MS 15000
/* Who asked for the lease has begun his call by then, or does not. */
#define HOLD_US (250 * US_PER_MS)
/* Without an answer of Redis each process probes for itself. */
#define LEASE_WAIT_US (500 * US_PER_MS)
/* How soon who waits for a probe looks again by himself. */
#define LOOK_US US_PER_S
#define ID_HEX 16

static const char channel[] = "breakers";

static const struct sm_state states[BREAKER_STATES] = {
    [BREAKER_CLOSED] = {"closed", SM(BREAKER_OPEN)},
    [BREAKER_OPEN] = {"open", SM(BREAKER_DUE) | SM(BREAKER_CLOSED)},
    [BREAKER_DUE] = {"due", SM(BREAKER_ASKING) | SM(BREAKER_HALF_OPEN) | SM(BREAKER_OPEN) |
				SM(BREAKER_CLOSED)},
    [BREAKER_ASKING] = {"asking", SM(BREAKER_HALF_OPEN) | SM(BREAKER_DUE) | SM(BREAKER_OPEN) |
				      SM(BREAKER_CLOSED)},
    [BREAKER_HALF_OPEN] = {"half_open", SM(BREAKER_PROBING) | SM(BREAKER_DUE) | SM(BREAKER_OPEN) |
					    SM(BREAKER_CLOSED)},
    [BREAKER_PROBING] = {"probing", SM(BREAKER_DUE) | SM(BREAKER_OPEN) | SM(BREAKER_CLOSED)},
};

struct breakers {
	struct breakers_request request;
	struct log log;
	char *worker;
	struct redis_sub *sub;
	bool standing; /* its subscription stood once: what is new is asked for by itself */
	struct list all;
};

struct breaker {
	struct list link;
	struct breakers *breakers;
	struct log log;
	struct sm sm;
	char id[ID_HEX + 1];
	char *account;
	char *model;	   /* "" for all of the account */
	unsigned failures; /* in a row, while it is closed */
	unsigned rounds;   /* how often it was opened in a row */
	bool shared;	   /* the others know that it is open */
	bool out;
	bool held;  /* it is open because another process has the lease */
	bool freed; /* which was given back while this one asked for it */
	uint64_t until_us;
	struct timer timer;
	struct redis_request *request;
	bool replaced; /* the account has another key now: it shows itself no more */
	struct task told;
	unsigned news;
};

const char *breaker_state_name(enum breaker_state state)
{
	return states[state].name;
}

enum breaker_state breaker_state(const struct breaker *b)
{
	return (enum breaker_state)sm_state(&b->sm);
}

uint64_t breaker_until_us(const struct breaker *b)
{
	return b->until_us;
}

bool breaker_is_out(const struct breaker *b)
{
	return b->out && sm_state(&b->sm) == BREAKER_OPEN;
}

static uint64_t now_us(const struct breaker *b)
{
	return loop_now_us(b->breakers->request.loop);
}

bool breaker_lets(const struct breaker *b, uint64_t *ret_wait_us)
{
	uint64_t now = now_us(b);

	switch (breaker_state(b)) {
	case BREAKER_CLOSED:
	case BREAKER_DUE:
	case BREAKER_HALF_OPEN:
		return true;
	case BREAKER_OPEN:
		*ret_wait_us = b->until_us > now ? b->until_us - now + US_PER_MS : LOOK_US;
		return false;
	case BREAKER_ASKING:
	case BREAKER_PROBING:
	case BREAKER_STATES:
		*ret_wait_us = LOOK_US;
		return false;
	}
	return false;
}

/* ── moving ── */

static void on_told(struct task *t)
{
	struct breaker *b = container_of(t, struct breaker, told);
	unsigned news = b->news;

	b->news = 0;
	b->breakers->request.changed(b->breakers->request.ctx, news);
}

static void tell(struct breaker *b, enum breaker_news news)
{
	b->news |= news;
	task_post(&b->told);
}

static void move(struct breaker *b, enum breaker_state to)
{
	const struct breakers_request *r = &b->breakers->request;
	const char *const labels[] = {b->account, b->model, states[to].name};
	bool asked = sm_state(&b->sm) == BREAKER_ASKING;

	sm_move(&b->sm, (int)to);
	if (asked)
		tell(b, BREAKER_NEWS_ANSWERED);
	if (b->replaced)
		return;
	if (r->state)
		series_set(metric_series(r->state, labels), to == BREAKER_CLOSED ? 0
							    : to == BREAKER_OPEN ? 2
										 : 1);
	if (r->changes)
		series_add(metric_series(r->changes, labels), 1);
}

static void forget_request(struct breaker *b)
{
	if (b->request)
		redis_cancel(b->request);
	b->request = NULL;
}

static void close_now(struct breaker *b)
{
	forget_request(b);
	timer_stop(&b->timer);
	move(b, BREAKER_CLOSED);
	b->shared = false;
	b->out = false;
	log_info(&b->log, "breaker closed");
	tell(b, BREAKER_NEWS_WELL);
}

static void open_until(struct breaker *b, uint64_t until_us)
{
	forget_request(b);
	b->held = false;
	b->until_us = until_us;
	timer_set(&b->timer, until_us > now_us(b) ? until_us - now_us(b) : 0);
	if (sm_state(&b->sm) != BREAKER_OPEN) {
		move(b, BREAKER_OPEN);
		log_warn(&b->log, "breaker open", F_STR("for", b->shared ? "all" : "this"),
			 F_STR("why", b->out ? "refused" : "faults"),
			 F_UINT("ms", (until_us - now_us(b)) / US_PER_MS));
	}
}

static uint64_t probe_ms(const struct breaker *b)
{
	return b->breakers->request.probe_ms ? b->breakers->request.probe_ms : PROBE_MS;
}

/* Who is at hand may ask it now; the next who comes may, where he does not. */
static void half_open(struct breaker *b)
{
	move(b, BREAKER_HALF_OPEN);
	timer_set(&b->timer, HOLD_US);
}

static void due(struct breaker *b)
{
	timer_stop(&b->timer);
	move(b, BREAKER_DUE);
	tell(b, BREAKER_NEWS_DUE);
}

/* ── with the others ── */

static struct redis_request *ask(struct breaker *b, const char *verb, uint64_t for_ms, bool said,
				 redis_fn *done)
{
	struct key key = key_breaker(str_of(b->id));
	struct str names[1] = {key_str(&key)};
	char ms[24];
	struct str args[] = {
	    str_of(verb),
	    str_of(b->breakers->worker),
	    {ms, (size_t)snprintf(ms, sizeof(ms), "%llu", (unsigned long long)for_ms)},
	    str_of(said ? "1" : "0"),
	    str_of(channel),
	    str_of(b->id),
	    str_of(b->out ? "1" : "0"),
	};

	if (!b->breakers->request.redis)
		return NULL;
	return redis_script(b->breakers->request.redis, str_of(b->id), &script_breaker, names, 1,
			    args, countof(args), done, done ? b : NULL);
}

/* The script: it is open because key, credit or model was refused. */
static bool says_out(const struct redis_value *value)
{
	return redis_item_int(value, 2, 0) == 1;
}

static void on_shared(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct breaker *b = ctx;

	b->request = NULL;
	if (result == REDIS_OK && str_is(redis_item_str(value, 0), "open") &&
	    (sm_state(&b->sm) == BREAKER_OPEN || sm_state(&b->sm) == BREAKER_DUE)) {
		uint64_t until = now_us(b) + (uint64_t)redis_item_int(value, 1, 0) * US_PER_MS;

		b->shared = true;
		b->out = b->out || says_out(value);
		if (until > b->until_us)
			open_until(b, until);
	}
}

static void on_lease(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct breaker *b = ctx;
	struct str word;
	uint64_t ms;

	b->request = NULL;
	if (sm_state(&b->sm) != BREAKER_ASKING)
		return;
	word = result == REDIS_OK ? redis_item_str(value, 0) : STR("");
	ms = result == REDIS_OK ? (uint64_t)redis_item_int(value, 1, 0) : 0;
	if (str_is(word, "open") || str_is(word, "held")) {
		b->out = says_out(value);
		open_until(b, now_us(b) + ms * US_PER_MS + US_PER_MS);
		b->held = str_is(word, "held");
		if (b->held && b->freed)
			due(b);
	} else {
		half_open(b);
	}
}

/* The probe was none: whoever has a job for it may ask. */
static void give_back(struct breaker *b)
{
	if (b->shared)
		ask(b, "free", 0, false, NULL);
	due(b);
}

static void on_timer(struct timer *t)
{
	struct breaker *b = container_of(t, struct breaker, timer);

	switch (breaker_state(b)) {
	case BREAKER_OPEN:
		if (!PLANTED(NEVER_HALF_OPEN))
			due(b);
		return;
	case BREAKER_ASKING: /* Redis does not answer */
		forget_request(b);
		half_open(b);
		return;
	case BREAKER_PROBING: /* its call lives: another process does not begin one */
		timer_set(&b->timer, probe_ms(b) / 3 * US_PER_MS);
		ask(b, "probe", probe_ms(b), false, NULL);
		return;
	case BREAKER_HALF_OPEN: /* nobody asked it */
		if (!PLANTED(LEASE_KEPT))
			give_back(b);
		return;
	case BREAKER_CLOSED:
	case BREAKER_DUE:
	case BREAKER_STATES:
		return;
	}
}

static void on_looked(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct breaker *b = ctx;

	b->request = NULL;
	if (result != REDIS_OK || !str_is(redis_item_str(value, 0), "open") ||
	    sm_state(&b->sm) != BREAKER_CLOSED)
		return;
	b->shared = true;
	b->out = says_out(value);
	open_until(b, now_us(b) + (uint64_t)redis_item_int(value, 1, 0) * US_PER_MS);
}

/* What the others knew before this process could hear of it. */
static void look(struct breaker *b)
{
	if (sm_state(&b->sm) == BREAKER_CLOSED && !b->request)
		b->request = ask(b, "look", 0, false, on_looked);
}

static struct breaker *by_id(const struct breakers *breakers, struct str id)
{
	list_each (&breakers->all, at) {
		struct breaker *b = container_of(at, struct breaker, link);

		if (str_is(id, b->id))
			return b;
	}
	return NULL;
}

static void on_standing(void *ctx)
{
	struct breakers *breakers = ctx;

	breakers->standing = true;
	list_each (&breakers->all, at)
		look(container_of(at, struct breaker, link));
}

/* "1 breaker ID open MS", "1 breaker ID closed 0", "1 breaker ID free 0": another process's word, or our own. "1 breaker ID out MS" goes
 * before the "open" of one that was refused. */
static void on_message(void *ctx, struct str text)
{
	struct breakers *breakers = ctx;
	struct str version, name, id, word;
	struct breaker *b;
	uint64_t ms;

	if (!str_split(&text, ' ', &version) || !str_is(version, "1") ||
	    !str_split(&text, ' ', &name) || !str_is(name, "breaker") ||
	    !str_split(&text, ' ', &id) || !str_split(&text, ' ', &word) || !str_u64(text, &ms))
		return;
	b = by_id(breakers, id);
	if (!b)
		return;
	if (str_is(word, "open") || str_is(word, "out")) {
		uint64_t until = now_us(b) + ms * US_PER_MS;

		b->shared = true;
		b->out = str_is(word, "out") || (b->out && sm_state(&b->sm) == BREAKER_OPEN);
		if (sm_state(&b->sm) != BREAKER_OPEN || until > b->until_us + US_PER_S)
			open_until(b, until);
	} else if (str_is(word, "closed") && sm_state(&b->sm) != BREAKER_CLOSED) {
		b->failures = FAILURES - 1;
		close_now(b);
	} else if (str_is(word, "free")) {
		b->freed = true;
		if (b->held && sm_state(&b->sm) == BREAKER_OPEN)
			due(b);
	}
}

/* ── what calls tell ── */

static void open_for(struct breaker *b, uint64_t ms, bool said, bool out)
{
	bool again = b->shared && sm_state(&b->sm) == BREAKER_PROBING;

	b->rounds++;
	b->failures = 0;
	b->shared = said || again;
	b->out = out || (b->out && sm_state(&b->sm) == BREAKER_OPEN);
	open_until(b, now_us(b) + ms * US_PER_MS +
			  rand_below(loop_rand(b->breakers->request.loop), 50) * US_PER_MS);
	b->request = ask(b, "open", ms, said || again, on_shared);
}

static uint64_t grown(uint64_t first_ms, unsigned rounds, uint64_t most_ms)
{
	uint64_t ms = first_ms << (rounds < 10 ? rounds : 10);

	return ms < most_ms ? ms : most_ms;
}

bool breaker_ready(struct breaker *b)
{
	if (sm_state(&b->sm) == BREAKER_DUE) {
		forget_request(b);
		if (!b->shared || !b->breakers->request.redis) {
			half_open(b);
		} else {
			move(b, BREAKER_ASKING);
			b->freed = false;
			timer_set(&b->timer, LEASE_WAIT_US);
			b->request = ask(b, "probe", probe_ms(b), false, on_lease);
		}
	}
	return sm_state(&b->sm) == BREAKER_CLOSED || sm_state(&b->sm) == BREAKER_HALF_OPEN;
}

bool breaker_asks(const struct breaker *b)
{
	return sm_state(&b->sm) == BREAKER_ASKING;
}

bool breaker_asked(struct breaker *b)
{
	if (sm_state(&b->sm) != BREAKER_HALF_OPEN)
		return false;
	move(b, BREAKER_PROBING);
	timer_stop(&b->timer);
	if (b->shared)
		timer_set(&b->timer, probe_ms(b) / 3 * US_PER_MS);
	return true;
}

void breaker_drop(struct breaker *b)
{
	if (sm_state(&b->sm) == BREAKER_PROBING)
		give_back(b);
}

static void well(struct breaker *b)
{
	bool shared = b->shared;

	close_now(b);
	if (shared)
		ask(b, "close", 0, false, NULL);
}

void breaker_answers(struct breaker *b)
{
	if (sm_state(&b->sm) != BREAKER_PROBING)
		return;
	b->failures = FAILURES - 1; /* the next failure opens it again */
	well(b);
}

void breaker_learn(struct breaker *b, enum breaker_word word, int64_t retry_after_ms)
{
	bool probing = sm_state(&b->sm) == BREAKER_PROBING;
	bool closed = sm_state(&b->sm) == BREAKER_CLOSED;
	uint64_t said_ms = retry_after_ms >= 0 ? (uint64_t)retry_after_ms : 0;
	uint64_t ms;

	switch (word) {
	case BREAKER_WELL:
		if (probing)
			well(b);
		if (probing || closed) {
			b->failures = 0;
			b->rounds = 0;
		}
		return;
	case BREAKER_FAILED:
	case BREAKER_SAID:
		if (!probing && !closed)
			return;
		if (!probing && ++b->failures < FAILURES)
			return;
		ms = grown(FIRST_MS, b->rounds, MOST_MS);
		open_for(b, ms > said_ms ? ms : said_ms, word == BREAKER_SAID, false);
		return;
	case BREAKER_NOT_NOW:
		ms = retry_after_ms >= 0 ? said_ms : 1000;
		if (sm_state(&b->sm) == BREAKER_OPEN && b->until_us >= now_us(b) + ms * US_PER_MS)
			return;
		open_for(b, ms, true, false);
		return;
	case BREAKER_OUT:
		if (sm_state(&b->sm) == BREAKER_OPEN && b->out)
			return;
		open_for(b, grown(OUT_MS, b->rounds, OUT_MOST_MS), true, true);
		return;
	}
}

/* ── the registry ── */

struct breakers *breakers_new(const struct breakers_request *request)
{
	static const struct redis_sub_ops sub_ops = {.standing = on_standing,
						     .message = on_message};
	struct breakers *breakers = mem_new(struct breakers);

	breakers->request = *request;
	breakers->log = *request->log;
	breakers->worker = mem_strdup(request->worker);
	list_init(&breakers->all);
	if (request->redis)
		breakers->sub =
		    redis_subscribe(request->redis, str_of(channel), &sub_ops, breakers);
	return breakers;
}

void breakers_free(struct breakers *breakers)
{
	struct breaker *b;

	if (!breakers)
		return;
	redis_unsubscribe(breakers->sub);
	while ((b = list_pop_front(&breakers->all, struct breaker, link))) {
		forget_request(b);
		timer_stop(&b->timer);
		task_cancel(&b->told);
		mem_free(b->account);
		mem_free(b->model);
		mem_free(b);
	}
	mem_free(breakers->worker);
	mem_free(breakers);
}

struct breaker *breakers_find(struct breakers *breakers, const struct config_account *account,
			      const char *model)
{
	struct breaker *b;
	struct buf text = {0};
	char hash[DIGEST_SHA256_HEX_SIZE];

	buf_printf(&text, "%s\n%s\n%s\n%s", account->kind, account->base_url, account->key,
		   model ? model : "");
	digest_sha256_hex(buf_str(&text), hash);
	mem_wipe(text.data, text.cap);
	buf_fini(&text);
	hash[ID_HEX] = '\0';
	b = by_id(breakers, str_of(hash));
	if (b)
		return b;
	list_each (&breakers->all, at) {
		struct breaker *old = container_of(at, struct breaker, link);

		if (strcmp(old->account, account->name) == 0 &&
		    strcmp(old->model, model ? model : "") == 0)
			old->replaced = true;
	}
	b = mem_new(struct breaker);
	b->breakers = breakers;
	memcpy(b->id, hash, sizeof(b->id));
	b->account = mem_strdup(account->name);
	b->model = mem_strdup(model ? model : "");
	b->log = log_child(&breakers->log, "target", b->account);
	sm_init(&b->sm, states, &b->log, "breaker", BREAKER_CLOSED);
	timer_init(&b->timer, breakers->request.loop, on_timer);
	task_init(&b->told, breakers->request.loop, on_told);
	list_push_back(&breakers->all, &b->link);
	if (breakers->request.state)
		series_set(metric_series(breakers->request.state,
					 (const char *const[]){b->account, b->model}),
			   0);
	if (breakers->standing)
		look(b);
	return b;
}

struct breaker *breakers_at(const struct breakers *breakers, size_t index)
{
	list_each (&breakers->all, at)
		if (!index--)
			return container_of(at, struct breaker, link);
	return NULL;
}
