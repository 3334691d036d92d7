/* Phones: clients of the push service that lose their network at any byte, come back elsewhere with their resume token, say things twice,
 * read slowly, acknowledge late, and at the end must have every answer whole. */
#include "tests/world/phone.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/identity/keys.h"
#include "schemas/keys.h"

#define TICK_LEAST_US 50000
#define TICK_MOST_US 250000
#define UPGRADE_US (3 * US_PER_S)
#define WELCOME_US (8 * US_PER_S)
#define PING_US (5 * US_PER_S)
#define ACK_US (US_PER_S / 5)
#define UNTOLD_US (8 * US_PER_S)
/* Nothing goes wrong any more for so long, and what was acknowledged is written. */
#define HEALED_US (3 * US_PER_S)
#define WRITTEN_US (3 * US_PER_S)
#define LISTEN_US (4 * US_PER_S)
#define TAKES_MAX 8

static struct phone phones[PHONES_MAX];
static size_t phone_count;
static unsigned trouble; /* of ten thousand ticks */

/* ── answers ── */

struct answer *phone_answer(struct phone *p, struct str id)
{
	list_each (&p->answers, at) {
		struct answer *a = container_of(at, struct answer, link);

		if (str_is(id, a->id))
			return a;
	}
	return NULL;
}

struct answer *phone_answer_make(struct phone *p, struct str id)
{
	struct answer *a = mem_new(struct answer);

	must(id.len < sizeof(a->id));
	memcpy(a->id, id.ptr, id.len);
	list_push_back(&p->answers, &a->link);
	return a;
}

void answer_begin(struct answer *a, int64_t attempt)
{
	a->attempt = attempt;
	buf_reset(&a->text);
}

static bool healed(void)
{
	return world->now_us > fleet.heal_us + HEALED_US;
}

/* ── greeting ── */

static size_t within_point(const struct answer *a)
{
	for (size_t i = 1; i < a->text.len; i++)
		if (((unsigned char)a->text.data[a->text.head + i] & 0xc0) == 0x80)
			return i;
	return 0;
}

/* A position that it does not have: behind any end, within a code point, of an older attempt. */
static void lie(struct answer *a)
{
	size_t within = within_point(a);

	a->lied = true;
	switch (world_between(0, 2)) {
	case 0:
		if (within) {
			a->named_at = (int64_t)within;
			return;
		}
		break;
	case 1:
		if (a->attempt > 1) {
			a->named_attempt = a->attempt - 1;
			return;
		}
		break;
	}
	a->named_at += 1000000;
}

static void name(struct answer *a, struct json_out *o, bool honest)
{
	a->named = true;
	a->lied = false;
	a->named_byte = a->attempt > 0 && world_between(0, 9);
	a->named_attempt = a->attempt;
	a->named_at = (int64_t)a->text.len;
	if (a->named_byte && !honest && world_between(0, 7) == 0)
		lie(a);
	a->again_us = 0;
	json_open(o, '{');
	json_put_text(o, "id", a->id);
	if (a->named_byte) {
		json_put_int(o, "attempt", a->named_attempt);
		json_put_int(o, "at", a->named_at);
	}
	json_close(o, '}');
}

static void put_jobs(struct phone *p, struct json_out *o)
{
	json_key(o, "jobs");
	json_open(o, '[');
	list_each (&p->answers, at) {
		struct answer *a = container_of(at, struct answer, link);

		if (!a->ended || (!a->acked && world_between(0, 2) == 0))
			name(a, o, healed());
	}
	json_close(o, ']');
}

static void hello(struct talk *t)
{
	struct phone *p = t->phone;
	struct buf text = {0};
	struct json_out o = {.buf = &text};
	char token[RESUME_SIZE];

	t->resumes = p->resume[0] && (p->conversation < 0 || p->last || world_between(0, 3));
	t->stranger = t->resumes && !healed() && !p->forgetful && world_between(0, 19) == 0;
	snprintf(token, sizeof(token), "%s", p->resume);
	if (t->stranger)
		token[strlen(token) / 2] ^= 1;
	json_open(&o, '{');
	json_put_text(&o, "op", "hello");
	json_put_text(&o, "token", KEY_OF_ALL);
	if (p->conversation >= 0 && !t->stranger && (!t->resumes || world_between(0, 1)))
		json_put_text(&o, "session", fleet.sessions[p->conversation]);
	if (t->resumes)
		json_put_text(&o, "resume", token);
	if (!p->forgetful && !p->last && (t->stranger || world_between(0, 5)))
		put_jobs(p, &o);
	json_close(&o, '}');
	talk_say(t, buf_str(&text));
	if (!healed() && world_between(0, 15) == 0) {
		t->hello_twice = true;
		talk_say(t, buf_str(&text));
	}
	t->resumes = t->resumes && !t->stranger;
	t->since_us = world->now_us;
	buf_fini(&text);
}

/* ── connections ── */

void phone_over(struct phone *p, struct talk *t)
{
	if (t == p->old) {
		p->old = NULL;
		return;
	}
	if (t != p->now)
		return;
	p->now = NULL;
	p->connect_us = world->now_us + world_between(1000, 1500000);
	if (p->last < LAST_OVER)
		p->last = LAST_NOT;
}

/* Nothing but the token is left: what it did not acknowledge it is to hear again. */
static void forget(struct answer *a)
{
	answer_begin(a, 0);
	a->ended = a->ended && a->ack_said;
}

static void connect(struct phone *p)
{
	struct node *node = push_any();

	p->connect_us = world->now_us + US_PER_S;
	if (!node)
		return;
	list_each (&p->answers, at) {
		struct answer *a = container_of(at, struct answer, link);

		a->going = a->named = a->fresh = a->told = a->cancelled = a->unsure = false;
		a->crossing = false;
		a->ack_ping = 0;
		a->again_us = 0;
		if (p->forgetful)
			forget(a);
	}
	for (size_t i = 0; i < p->order_count; i++) {
		struct order *o = &p->orders[i];

		p->strays += o->sent;
		o->unsure = o->unsure || o->sent;
		o->sent = false;
	}
	world_tell("client", "phone %d calls %s", p->number, node->id);
	p->now = talk_begin(p, node);
}

/* Goes on over another connection while this one stands. */
static void take_over(struct phone *p)
{
	struct talk *t = p->now;

	if (p->old)
		talk_drop(p->old, world_between(0, 1));
	t->taken = true;
	p->old = t;
	p->now = NULL;
	connect(p);
}

/* ── what it says ── */

static void submit(struct talk *t, size_t n)
{
	struct order *o = &t->phone->orders[n];
	struct buf text = {0}, body = {0};

	client_body(o->job, false, &body);
	buf_printf(&text, "{\"op\":\"submit\",\"ref\":\"c%zu\",\"job\":%.*s}", n,
		   STR_FMT(buf_str(&body)));
	talk_say(t, buf_str(&text));
	o->sent = true;
	if (!healed() && world_between(0, 19) == 0)
		talk_say(t, buf_str(&text));
	buf_fini(&text);
	buf_fini(&body);
}

static void say_id(struct talk *t, const char *op, const char *id)
{
	struct buf text = {0};

	buf_printf(&text, "{\"op\":\"%s\",\"id\":\"%s\"}", op, id);
	talk_say(t, buf_str(&text));
	buf_fini(&text);
}

static void say_ack(struct talk *t, struct answer *a)
{
	say_id(t, "ack", a->id);
	a->ack_said = true;
	t->acks++;
}

static void attach(struct talk *t, struct answer *a)
{
	struct buf text = {0};
	struct json_out o = {.buf = &text};

	a->crossing = !a->going && !a->told;
	json_open(&o, '{');
	json_put_text(&o, "op", "attach");
	json_key(&o, "jobs");
	json_open(&o, '[');
	name(a, &o, a->going || healed());
	json_close(&o, ']');
	json_close(&o, '}');
	talk_say(t, buf_str(&text));
	buf_fini(&text);
}

static void acknowledge(struct talk *t)
{
	bool any = false;

	list_each (&t->phone->answers, at) {
		struct answer *a = container_of(at, struct answer, link);

		if (!a->ended || a->acked || a->ack_ping || a->going || a->named ||
		    world->now_us < a->ack_at_us)
			continue;
		say_ack(t, a);
		a->ack_ping = t->pings + 1;
		any = true;
	}
	if (any)
		talk_ping(t);
}

/* Jobs of which nothing is told here. False where only a new connection helps. */
static bool ask_untold(struct talk *t)
{
	list_each (&t->phone->answers, at) {
		struct answer *a = container_of(at, struct answer, link);
		bool late = world->now_us > t->since_us + UNTOLD_US;

		if (a->ended || ((a->named || a->going) && !a->again_us))
			continue;
		if (a->again_us ? world->now_us >= a->again_us : late && !t->phone->forgetful)
			attach(t, a);
		else if (!a->again_us && late && a->accepted)
			return false;
	}
	return true;
}

static void say(struct talk *t)
{
	struct phone *p = t->phone;

	if (!t->stranger) {
		for (size_t i = 0; i < p->order_count; i++)
			if (!p->orders[i].answer && !p->orders[i].sent &&
			    world->now_us >= p->orders[i].due_us)
				submit(t, i);
		acknowledge(t);
	}
	if (t->pings > t->pongs && world->now_us > t->pinged_us + PING_US + t->acks * ACK_US) {
		world_tell("client", "phone %d hears no pong", p->number);
		talk_drop(t, world_between(0, 1));
		return;
	}
	if (t->pings == t->pongs && world->now_us > t->pinged_us + PING_US)
		talk_ping(t);
	if (!ask_untold(t) || (t->stranger && world->now_us > t->since_us + PING_US))
		talk_drop(t, world_between(0, 1));
}

/* ── what goes wrong ── */

static struct answer *any_going(struct phone *p)
{
	list_each (&p->answers, at) {
		struct answer *a = container_of(at, struct answer, link);

		if (a->going && !a->fresh && !a->named && world_between(0, 1))
			return a;
	}
	return NULL;
}

static void say_again(struct talk *t)
{
	struct phone *p = t->phone;
	size_t n = p->order_count ? (size_t)world_between(0, p->order_count - 1) : 0;

	if (t->stranger || n >= p->order_count || !p->orders[n].answer)
		return;
	submit(t, n);
}

static void go_wrong(struct talk *t)
{
	struct phone *p = t->phone;
	struct answer *a;

	switch (world_between(0, 7)) {
	case 0:
	case 1:
		world_tell("client", "phone %d is cut", p->number);
		talk_drop(t, true);
		return;
	case 2:
		world_tell("client", "phone %d vanishes", p->number);
		talk_drop(t, false);
		return;
	case 3:
		if (t->stranger || !p->resume[0])
			return;
		world_tell("client", "phone %d goes on elsewhere", p->number);
		take_over(p);
		return;
	case 4:
	case 5:
		world_tell("client", "phone %d reads nothing", p->number);
		t->slow = true;
		t->reads_us = world->now_us +
			      (world_between(0, 3) ? world_between(50000, 3000000) : 8 * US_PER_S);
		line_stall(t->line, true);
		return;
	case 6:
		a = any_going(p);
		if (a)
			attach(t, a);
		return;
	default:
		say_again(t);
	}
}

/* ── the end: everything acknowledged, one more connection, nothing more to hear ── */

static bool all_heard(struct phone *p)
{
	for (size_t i = 0; i < p->order_count; i++)
		if (!p->orders[i].answer || !p->orders[i].answer->ended)
			return false;
	list_each (&p->answers, at) {
		struct answer *a = container_of(at, struct answer, link);

		if (!a->ended && (a->accepted || a->going))
			return false;
		if (a->ended &&
		    (!a->acked || a->named || a->going || !pg_server_result(str_of(a->id))))
			return false;
	}
	return true;
}

/* Earlier acknowledgements may be lost with what forgot them. */
static void acknowledge_all(struct talk *t)
{
	list_each (&t->phone->answers, at) {
		struct answer *a = container_of(at, struct answer, link);

		if (a->ended)
			say_ack(t, a);
	}
	talk_ping(t);
}

/* Those that others submit into its session have their answers: what was accepted it is to hear of. */
static bool others_settled(const struct phone *p)
{
	for (int i = 0; p->conversation >= 0 && i < fleet.job_count; i++)
		if (fleet.jobs[i].session == p->conversation && !fleet.jobs[i].settled)
			return false;
	return true;
}

static void finish(struct phone *p)
{
	struct talk *t = p->now;
	uint64_t past = world->now_us - p->last_us;

	switch (p->last) {
	case LAST_NOT:
		if (!healed() || !all_heard(p) || !others_settled(p) || t->stranger ||
		    !p->resume[0])
			return;
		acknowledge_all(t);
		p->last = LAST_ACKED;
		break;
	case LAST_ACKED:
		if (past < WRITTEN_US || t->pongs < t->pings)
			return;
		if (p->takes++ >= TAKES_MAX)
			world_violation("phone %d cannot go on elsewhere", p->number);
		take_over(p);
		p->last = LAST_TAKING;
		break;
	case LAST_TAKING:
		p->last = LAST_LISTENING;
		break;
	case LAST_LISTENING:
		/* Of more jobs than one look told the next come when some were acknowledged. */
		if (past < LISTEN_US || world->now_us < p->acked_us + LISTEN_US)
			return;
		if (p->old) {
			world_violation("phone %d: the older connection of its line still stands",
					p->number);
			talk_drop(p->old, true);
		}
		if (!all_heard(p)) { /* of a job that it did not know: its end is awaited too */
			p->last = LAST_NOT;
			break;
		}
		p->last = LAST_OVER;
		talk_bye(t);
		break;
	case LAST_OVER:
		return;
	}
	p->last_us = world->now_us;
}

/* ── life ── */

static void look(struct phone *p)
{
	struct talk *t;

	if (p->old && line_gone(p->old->line))
		talk_drop(p->old, true);
	if (p->now && line_gone(p->now->line))
		talk_drop(p->now, true);
	t = p->now;
	if (!t) {
		if (p->last != LAST_OVER && world->now_us >= p->connect_us)
			connect(p);
		return;
	}
	if (t->code)
		return; /* it is closing */
	if (t->reads_us && world->now_us >= t->reads_us) {
		t->reads_us = 0;
		line_stall(t->line, false);
		return;
	}
	if (t->reads_us)
		return;
	if (t->state == TALK_HELLO && !t->pinged_us) {
		t->pinged_us = world->now_us;
		hello(t);
	} else if (t->state != TALK_OPEN) {
		if (world->now_us >
		    t->since_us + (t->state == TALK_UPGRADE ? UPGRADE_US : WELCOME_US))
			talk_drop(t, world_between(0, 1));
	} else if (world->now_us < fleet.heal_us && world_chance(trouble)) {
		go_wrong(t);
	} else {
		say(t);
		if (p->now == t)
			finish(p);
	}
}

static void on_tick(void *ctx)
{
	struct phone *p = ctx;

	look(p);
	world_in(world_between(TICK_LEAST_US, TICK_MOST_US), NULL, on_tick, p);
}

void phones_begin(void)
{
	char hash[DIGEST_SHA256_HEX_SIZE];

	keys_hash(STR(KEY_OF_ALL), hash);
	pg_server_key(str_of(hash), str_of(fleet.org));
	memset(phones, 0, sizeof(phones));
	phone_count = (size_t)world_between(0, PHONES_MAX);
	trouble = world_between(0, 4) ? (unsigned)world_between(20, 500) : 0;
	for (size_t i = 0; i < phone_count; i++) {
		struct phone *p = &phones[i];

		p->number = (int)i;
		p->conversation = (int)i < fleet.session_count && world_between(0, 1) ? (int)i : -1;
		p->forgetful = world_between(0, 2) == 0;
		list_init(&p->answers);
		p->connect_us = world->now_us + world_between(0, 3000000);
		world_in(world_between(0, TICK_MOST_US), NULL, on_tick, p);
	}
}

struct phone *phone_any(void)
{
	return phone_count ? &phones[world_between(0, phone_count - 1)] : NULL;
}

int phone_session(const struct phone *p)
{
	return p->conversation;
}

void phone_submit(struct phone *p, struct client_job *job)
{
	p->orders[p->order_count++] = (struct order){.job = job, .due_us = world->now_us};
}

void phone_cancel(struct phone *p, struct client_job *job)
{
	for (size_t i = 0; i < p->order_count; i++) {
		struct order *o = &p->orders[i];

		if (o->job != job || !o->answer || !p->now || p->now->state != TALK_OPEN)
			continue;
		job->cancelled = o->answer->cancelled = true;
		say_id(p->now, "cancel", o->answer->id);
	}
}

void phones_away(uint64_t for_us)
{
	for (size_t i = 0; i < phone_count; i++) {
		struct phone *p = &phones[i];

		if (!p->now || p->now->state != TALK_OPEN || world_between(0, 1))
			continue;
		world_tell("client", "phone %d has no network for %llu ms", p->number,
			   (unsigned long long)for_us / 1000);
		talk_drop(p->now, world_between(0, 1));
		p->connect_us = world->now_us + for_us;
	}
}

bool phones_done(void)
{
	for (size_t i = 0; i < phone_count; i++)
		if (phones[i].last != LAST_OVER || phones[i].now)
			return false;
	return true;
}

static void on_waiting(void *ctx, struct str job)
{
	struct phone *p = ctx;

	map_set(&p->listed, job, p);
}

static void on_waiting_end(void *ctx, struct str job, bool acked)
{
	if (!acked)
		on_waiting(ctx, job);
}

void phone_listed(struct phone *p)
{
	struct key key = key_outbox(str_of(p->session));

	map_fini(&p->listed);
	map_init(&p->listed, 0);
	redis_server_members(key_str(&key), on_waiting, p);
	pg_server_outbox(str_of(p->session), on_waiting_end, p);
}

/* ── what must hold in the end ── */

static void check_answer(const struct phone *p, const struct answer *a)
{
	struct json_object *row = pg_server_result(str_of(a->id));
	struct buf stored = {0};

	if (!row) {
		if (!redis_server_forgot())
			world_violation("phone %d heard the end of %s, which has no result",
					p->number, a->id);
		return;
	}
	check_stored(row, &stored);
	if (!redis_server_forgot() && !str_is(json_str(row, "status"), a->status))
		world_violation("phone %d heard that %s is %s, the record says %.*s", p->number,
				a->id, a->status, STR_FMT(json_str(row, "status")));
	else if (!redis_server_forgot() && !str_eq(buf_str(&stored), buf_str(&a->final)))
		world_violation("phone %d has another text of %s than the record", p->number,
				a->id);
	buf_fini(&stored);
}

/* What is left of a session in a store. */
struct left {
	struct phone *phone;
	size_t count;
	size_t strays;
	bool acked; /* the end of the job that is looked for */
	struct str job;
};

/* Submitted over HTTP into the session: another client knows whether it was accepted. */
static const struct job_try *others(struct str job)
{
	for (int i = 0; i < fleet.job_count; i++) {
		const struct client_job *j = &fleet.jobs[i];

		for (size_t n = 0; !j->phone && n < j->try_count; n++)
			if (str_is(job, j->tries[n].id))
				return &j->tries[n];
	}
	return NULL;
}

/* One whose client does not know that it was accepted may come and end when the phone is gone. Where Redis forgot: no list had
 * another's job that waited in a tier until it was claimed again; a ref that was said again became a second job, and the
 * connection ended before the phone was told which; or a client was told that its job is refused, and it ran. */
static void leave(struct left *l, struct str job)
{
	bool forgot = redis_server_forgot();
	const struct answer *known = phone_answer(l->phone, job);
	const struct job_try *other = others(job);

	if (forgot && redis_server_refused(job))
		return;
	if (other && !(known && known->ended) &&
	    (other->told != TOLD_ACCEPTED || (forgot && !map_find(&l->phone->listed, job))))
		return;
	if (forgot && !known && !other && l->strays < l->phone->strays)
		l->strays++;
	else
		l->count++;
}

static void on_end_left(void *ctx, struct str job, bool acked)
{
	if (!acked)
		leave(ctx, job);
}

static void on_end_found(void *ctx, struct str job, bool acked)
{
	struct left *l = ctx;

	l->acked = l->acked || (acked && str_eq(job, l->job));
}

/* A job that ran again after Redis forgot is listed again: nobody hears of it, since PostgreSQL has the acknowledgement. */
static void on_member(void *ctx, struct str member)
{
	struct left *l = ctx;

	l->job = member;
	l->acked = false;
	pg_server_outbox(str_of(l->phone->session), on_end_found, l);
	if (!str_is(member, "epoch") && !str_is(member, "cut") &&
	    !(l->acked && redis_server_forgot()))
		leave(l, member);
}

static void check_outbox(struct phone *p)
{
	struct key key = key_outbox(str_of(p->session));
	struct left redis = {.phone = p}, pg = {.phone = p};

	redis_server_members(key_str(&key), on_member, &redis);
	pg_server_outbox(str_of(p->session), on_end_left, &pg);
	if (redis.count)
		world_violation("phone %d acknowledged all, and %zu entries are left in Redis",
				p->number, redis.count);
	if (pg.count)
		world_violation("phone %d acknowledged all, and %zu ends wait in PostgreSQL",
				p->number, pg.count);
}

void phones_check(void)
{
	for (size_t i = 0; i < phone_count; i++) {
		struct phone *p = &phones[i];

		if (p->last != LAST_OVER)
			world_violation("phone %d did not come to its end (%d)", p->number,
					(int)p->last);
		for (size_t n = 0; n < p->order_count; n++)
			if (!p->orders[n].answer || !p->orders[n].answer->ended)
				world_violation("phone %d never heard the end of job %d (%s)",
						p->number, p->orders[n].job->number,
						p->orders[n].answer ? p->orders[n].answer->id
								    : "not accepted");
		list_each (&p->answers, at) {
			const struct answer *a = container_of(at, struct answer, link);

			if (a->ended)
				check_answer(p, a);
		}
		if (p->session[0])
			check_outbox(p);
	}
}
