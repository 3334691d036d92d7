/* The clients: they submit jobs and sessions' turns, submit again where nobody is sure, cancel, follow answers by the client's rule of
 * the protocol, and come back elsewhere when their front dies. */
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/relay/follow.h"
#include "lib/store/redis.h"
#include "producer/submit.h"
#include "schemas/keys.h"
#include "schemas/scripts.h"
#include "tests/world/fleet.h"

#define ANSWER_WAIT_US (9 * US_PER_S)
#define ROUNDS_MAX 12
#define SESSION_TTL_MS 3600000

/* ── following ── */

static void follow_begin(struct client_follow *f);

static void forget(struct client_follow *f)
{
	buf_reset(&f->text);
	f->seam_count = 0;
}

static void on_state(void *ctx, const struct job_view *view, bool resumed)
{
	struct client_follow *f = ctx;

	if (resumed)
		return;
	f->attempt = view->attempt;
	forget(f);
}

static void on_delta(void *ctx, int64_t attempt, int64_t at, struct str text)
{
	struct client_follow *f = ctx;

	if (attempt < f->attempt)
		return;
	if (attempt > f->attempt) {
		f->attempt = attempt;
		forget(f);
	}
	if (at != (int64_t)f->text.len)
		world_violation(
		    "follower of %s has %zu bytes of attempt %lld and is given byte %lld", f->id,
		    f->text.len, (long long)attempt, (long long)at);
	if (!str_utf8(text))
		world_violation("follower of %s is given a split code point", f->id);
	buf_add_str(&f->text, text);
}

/* A seam may be said again where the client came back at its byte. */
static void on_event(void *ctx, const struct event *event)
{
	struct client_follow *f = ctx;
	cleanup_json struct json_object *seam = NULL;
	struct json_error error;
	struct buf text = {0};
	int64_t at;

	if (!str_is(event->ev, "seam"))
		return;
	buf_printf(&text, "{%.*s}", STR_FMT(event->payload));
	must(json_read(buf_str(&text), &seam, &error) == JSON_OK);
	buf_fini(&text);
	at = json_int(seam, "at", -1);
	if (event->attempt != f->attempt || at < 1 || at > (int64_t)f->text.len)
		world_violation("follower of %s hears of a seam at byte %lld of attempt %lld",
				f->id, (long long)at, (long long)event->attempt);
	for (size_t i = 0; i < f->seam_count; i++)
		if (f->seams[i] == at)
			return;
	must(f->seam_count < countof(f->seams));
	f->seams[f->seam_count++] = at;
}

static void on_reset(void *ctx, int64_t attempt)
{
	struct client_follow *f = ctx;

	f->attempt = attempt;
	forget(f);
}

static void on_end(void *ctx, const struct follow_end *end)
{
	struct client_follow *f = ctx;

	f->ended = true;
	f->attempt = end->attempt;
	snprintf(f->status, sizeof(f->status), "%.*s", STR_FMT(end->status));
	world_tell("client", "job %d (%s): %s, %zu bytes", f->job->number, f->id, f->status,
		   f->text.len);
	follow_close(f->follow);
	f->follow = NULL;
}

static void on_again(void *ctx)
{
	struct client_follow *f = ctx;

	if (!f->ended && !f->follow)
		follow_begin(f);
}

static void on_gone(void *ctx, bool unsure)
{
	struct client_follow *f = ctx;

	if (!unsure && !redis_server_forgot())
		world_violation("job %d (%s) is said to be unknown, and was accepted",
				f->job->number, f->id);
	follow_close(f->follow);
	f->follow = NULL;
	world_in(US_PER_S, NULL, on_again, f);
}

static const struct follow_ops follow_ops = {on_state, on_delta, on_event,
					     on_reset, on_end,	 on_gone};

static void follow_begin(struct client_follow *f)
{
	struct follow_request request = {.job = str_of(f->id), .org = str_of(fleet.org)};

	f->node = fleet_front();
	if (!f->node || f->opened > 200) {
		if (f->opened <= 200)
			world_in(US_PER_S, NULL, on_again, f);
		return;
	}
	f->opened++;
	f->loop = f->node->loop;
	if (f->text.len) {
		request.attempt = f->attempt;
		request.at = (int64_t)f->text.len;
	}
	f->follow = follow_open(f->node->relay, &request, &follow_ops, f);
}

/* A front that died takes its follows with it. */
static void on_look(void *ctx)
{
	(void)ctx;
	for (int i = 0; i < fleet.job_count; i++) {
		struct client_follow *f = fleet.jobs[i].follow;

		if (!f || f->ended || !f->follow || !f->loop->dead)
			continue;
		f->follow = NULL;
		follow_begin(f);
	}
	world_in(500000, NULL, on_look, NULL);
}

static void follow_job(struct client_job *j, const char *id)
{
	struct client_follow *f = mem_new(struct client_follow);

	f->job = j;
	snprintf(f->id, sizeof(f->id), "%s", id);
	j->follow = f;
	follow_begin(f);
}

/* ── submitting ── */

struct round {
	struct client_job *job;
	struct job_try *kept;
	struct arena arena;
	struct submit *submit;
	unsigned number;
	bool over;
};

static void submit(struct client_job *j, bool same);

static void on_again_same(void *ctx)
{
	submit(ctx, true);
}

static void on_again_new(void *ctx)
{
	submit(ctx, false);
}

static void on_submitted(void *ctx, const struct submit_outcome *outcome)
{
	struct round *r = ctx;
	struct client_job *j = r->job;

	if (r->over || j->rounds != r->number)
		return; /* its client does not wait any more */
	r->over = true;
	world_tell("client", "job %d (%s) is told %s", j->number, r->kept->id,
		   outcome->fault ? fault_info(outcome->fault)->code : "accepted");
	switch (outcome->fault) {
	case FAULT_NONE:
		r->kept->told = TOLD_ACCEPTED;
		j->settled = true;
		if (j->followed && !j->follow)
			follow_job(j, r->kept->id);
		return;
	case FAULT_OUTCOME_UNKNOWN:
		r->kept->told = TOLD_UNSURE;
		world_in(US_PER_S, NULL, on_again_same, j);
		return;
	case FAULT_UNAVAILABLE:
	case FAULT_BUSY:
		r->kept->told = TOLD_REFUSED;
		world_in(2 * US_PER_S, NULL, on_again_new, j);
		return;
	default:
		world_violation("job %d is refused as %s", j->number,
				fault_info(outcome->fault)->code);
		j->settled = true;
		return;
	}
}

/* No answer: its front died or stands still. */
static void on_no_answer(void *ctx)
{
	struct round *r = ctx;

	if (r->over || r->job->rounds != r->number)
		return;
	r->over = true;
	r->kept->told = TOLD_UNSURE;
	submit(r->job, true);
}

void client_body(const struct client_job *j, bool session, struct buf *out)
{
	struct json_out o = {.buf = out};
	char text[64];

	snprintf(text, sizeof(text), "job %d please", j->number);
	json_open(&o, '{');
	json_put_text(&o, "kind", "chat");
	json_put_text(&o, "lane", j->lane);
	json_put_text(&o, "task", j->task);
	json_put_text(&o, "on_cut", j->on_cut);
	if (session && j->session >= 0)
		json_put_text(&o, "session", fleet.sessions[j->session]);
	json_key(&o, "messages");
	json_open(&o, '[');
	json_open(&o, '{');
	json_put_text(&o, "role", "user");
	json_put_text(&o, "content", text);
	json_close(&o, '}');
	json_close(&o, ']');
	json_key(&o, "limits");
	json_open(&o, '{');
	json_put_int(&o, "queue_ms", j->queue_ms);
	json_put_int(&o, "run_ms", j->run_ms);
	json_close(&o, '}');
	json_close(&o, '}');
}

static struct round *round_new(struct client_job *j, bool same)
{
	struct round *r = mem_new(struct round);

	if (!same || !j->try_count)
		j->try_count++;
	must(j->try_count <= TRIES_MAX);
	r->job = j;
	r->kept = &j->tries[j->try_count - 1];
	r->number = ++j->rounds;
	return r;
}

static void submit(struct client_job *j, bool same)
{
	struct node *front = fleet_front();
	struct buf body = {0};
	struct job job;
	struct admitted a;
	struct round *r;
	struct key channel;

	if (j->settled)
		return;
	if (j->rounds >= ROUNDS_MAX || (!same && j->try_count == TRIES_MAX)) {
		j->settled = true;
		return;
	}
	if (!front) {
		world_in(US_PER_S, NULL, same ? on_again_same : on_again_new, j);
		return;
	}
	r = round_new(j, same);
	client_body(j, true, &body);
	a = admit_native(fleet_config(), &r->arena, buf_str(&body), str_of(fleet.org),
			 world_wall_ms(), loop_rand(front->loop), &job);
	must(a.fault == FAULT_NONE);
	if (r->kept->id[0])
		job.id = str_of(r->kept->id);
	else
		snprintf(r->kept->id, sizeof(r->kept->id), "%.*s", STR_FMT(job.id));
	channel = key_channel(job.session.len ? job.session : job.id);
	job.channel = key_str(&channel);
	world_tell("client", "job %d (%s) to %s", j->number, r->kept->id, front->id);
	r->submit = submit_open(front->submitter, &job, on_submitted, r);
	if (same && j->rounds > 1)
		submit_again(r->submit);
	world_in(ANSWER_WAIT_US, NULL, on_no_answer, r);
	buf_fini(&body);
}

static void on_job(void *ctx)
{
	struct client_job *j = ctx;

	j->begun_us = world->now_us;
	if (j->phone)
		phone_submit(j->phone, j);
	else
		submit(j, false);
}

/* ── cancelling ── */

struct cancel {
	struct client_job *job;
	struct node *node;
	struct loop *loop;
	char id[ID_SIZE];
};

static void on_wish(void *ctx, enum redis_result result, struct str state, struct str worker)
{
	struct cancel *c = ctx;

	if (result == REDIS_OK && state.len && !state_terminal(state))
		state_tell_wish(c->node->redis, str_of(c->id), worker, world_wall_ms());
}

static void on_cancel(void *ctx)
{
	struct client_job *j = ctx;
	struct cancel *c;

	if (j->phone) {
		phone_cancel(j->phone, j);
		return;
	}
	c = mem_new(struct cancel);
	c->node = fleet_front();
	if (!c->node || !j->try_count)
		return;
	j->cancelled = true;
	memcpy(c->id, j->tries[j->try_count - 1].id, sizeof(c->id));
	world_tell("client", "job %d is not wanted any more", j->number);
	state_wish(c->node->redis, str_of(c->id), str_of(fleet.org), on_wish, c);
}

/* ── beginning ── */

static void make_session(int number)
{
	struct key keys[2];
	struct str names[2];
	char ttl[24], at[24];

	id_make(fleet.sessions[number], "ses", world_wall_ms(), &world->rand);
	keys[0] = key_session(str_of(fleet.sessions[number]));
	keys[1] = key_conversation(str_of(fleet.sessions[number]));
	names[0] = key_str(&keys[0]);
	names[1] = key_str(&keys[1]);
	snprintf(ttl, sizeof(ttl), "%d", SESSION_TTL_MS);
	snprintf(at, sizeof(at), "%llu", (unsigned long long)world_wall_ms());
	pg_server_session(str_of(fleet.sessions[number]), str_of(fleet.org), STR("both"), STR(""),
			  SESSION_TTL_MS, (int64_t)world_wall_ms());
	redis_server_session(names, (const struct str[]){str_of(ttl), str_of(fleet.org),
							 STR("both"), STR(""), STR(""), str_of(at),
							 STR("unheard"), STR("")});
}

static void make_job(int number, uint64_t until_us)
{
	static const char *const lanes[] = {"interactive", "high", "background"};
	static const char *const cuts[] = {"restart", "continue", "continue", "fail"};
	struct client_job *j = &fleet.jobs[number];
	uint64_t at = world_between(1500000, until_us);

	j->number = number;
	j->session = fleet.session_count && world_between(0, 1)
			 ? (int)world_between(0, (uint64_t)fleet.session_count - 1)
			 : -1;
	j->phone = world_between(0, 1) ? phone_any() : NULL;
	if (j->phone)
		j->session = phone_session(j->phone);
	j->lane = lanes[world_between(0, 2)];
	j->task = world_between(0, 3) ? "both" : "one";
	j->on_cut = cuts[world_between(0, countof(cuts) - 1)];
	j->queue_ms = world_between(0, 9) ? 120000 : (int64_t)world_between(1, 5000);
	j->run_ms = world_between(0, 9) ? 60000 : (int64_t)world_between(1, 3000);
	j->kills =
	    world_between(0, 19) || !world->faults.call_fault ? 0 : (unsigned)world_between(1, 8);
	j->followed = !j->phone && world_between(0, 9) < 7;
	world_at(at, NULL, on_job, j);
	if (world_between(0, 9) == 0)
		world_at(at + world_between(0, 5000000), NULL, on_cancel, j);
}

void clients_begin(void)
{
	uint64_t until_us = world_between(2, 30) * US_PER_S;

	id_make(fleet.org, "org", world_wall_ms(), &world->rand);
	fleet.session_count = (int)world_between(0, SESSIONS_MAX);
	for (int i = 0; i < fleet.session_count; i++)
		make_session(i);
	phones_begin();
	fleet.job_count = (int)world_between(1, 40);
	for (int i = 0; i < fleet.job_count; i++)
		make_job(i, until_us);
	world_in(500000, NULL, on_look, NULL);
}

bool clients_done(void)
{
	for (int i = 0; i < fleet.job_count; i++) {
		const struct client_job *j = &fleet.jobs[i];

		if (!j->settled || (j->follow && !j->follow->ended))
			return false;
	}
	return phones_done();
}
