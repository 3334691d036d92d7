/* Greeting: who asks, which session, whether it goes on from another connection; then the welcome and the jobs. */
#include <stdio.h>
#include <string.h>

#include "consumers/push/outbox.h"
#include "consumers/push/session.h"
#include "consumers/push/stream.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/plant.h"
#include "lib/identity/ticket.h"
#include "lib/net/ws.h"
#include "lib/store/pg.h"
#include "lib/store/redis.h"
#include "schemas/keys.h"
#include "schemas/scripts.h"

/* Jobs of a session that are looked in, newest first. */
#define LIST_MAX "255"
/* So long after Redis lost its memory its lists may lack jobs: leases, and a wait for PostgreSQL or the claims before. */
#define LISTS_MS 20000
#define RELOOK_US (2 * US_PER_S)
/* Looks for what the outbox did not tell, each after twice as long: two to four minutes; then at the next acknowledgement. */
#define RELOOKS_MAX 6
/* Of sessions that are made, in one statement: 100 KiB. */
#define ROWS_MAX 1000
/* A hello waits so long for PostgreSQL where it hangs: it goes on with what Redis has, or is told to come again. */
#define PATIENCE_US (2 * US_PER_S)
/* So late it may be known that Redis lost its memory. */
#define EPOCH_US (10 * US_PER_S)

static void drop_key(struct session *s)
{
	if (s->key)
		mem_wipe(s->key, strlen(s->key));
	mem_free(s->key);
	s->key = NULL;
}

void hello_quiet(struct session *s)
{
	keys_cancel(s->checking);
	s->checking = NULL;
	if (s->redeeming)
		redis_cancel(s->redeeming);
	s->redeeming = NULL;
	if (s->request)
		redis_cancel(s->request);
	s->request = NULL;
	if (s->pg_request)
		pg_cancel(s->pg_request);
	s->pg_request = NULL;
	gather_cancel(&s->row);
	timer_stop(&s->patience);
	outbox_cancel(s->looking);
	s->looking = NULL;
	drop_key(s);
	op_fini(&s->hello);
}

static void outcome(struct session *s, const char *what)
{
	series_add(metric_one(s->push->metric.hellos, what), 1);
}

static void refuse(struct session *s, unsigned code, const char *reason)
{
	outcome(s, "refused");
	session_close(s, code, reason);
}

/* ── jobs of the session ── */

/* Neither followed here, nor told of to its end or acknowledged: that may have been meanwhile. */
static bool is_new(const struct session *s, struct str job)
{
	return !stream_find(s, job) && (!told_has(&s->told, job) || PLANTED(TOLD_AGAIN));
}

/* Redis does not know all: pools list their jobs again with their claims. */
static bool lists_are_young(const struct session *s)
{
	return loop_wall_ms(s->push->loop) < redis_epoch_wall_ms(s->push->redis) + LISTS_MS;
}

static void look_again(struct session *s)
{
	timer_set(&s->relook, RELOOK_US + rand_below(loop_rand(s->push->loop), RELOOK_US));
}

/* There may be more in the outbox than was told: it comes when some of that is acknowledged, or was running and ends. */
static void look_for_more(struct session *s)
{
	uint64_t us = RELOOK_US + rand_below(loop_rand(s->push->loop), RELOOK_US);

	if (s->more && s->relooks < RELOOKS_MAX)
		timer_set(&s->relook, us << s->relooks++);
}

void hello_acked(struct session *s)
{
	if (!s->more || !s->relooks)
		return;
	s->relooks = 0;
	if (!s->looking)
		look_again(s);
}

static void on_open_jobs(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct session *s = ctx;
	struct op_position jobs[OP_JOBS_MAX];
	size_t count = 0;

	s->request = NULL;
	if (result != REDIS_OK || lists_are_young(s))
		look_again(s);
	if (result != REDIS_OK || value->type != REDIS_LIST)
		return;
	/* Oldest first. */
	for (size_t i = value->count; i > 0 && count < OP_JOBS_MAX; i--) {
		struct str id = redis_item_str(value, i - 1);

		if (id.len && is_new(s, id))
			jobs[count++] = (struct op_position){.id = id};
	}
	stream_attach(s, jobs, count, false, NULL);
}

static void list_open(struct session *s)
{
	struct key key = key_open(str_of(s->id));
	const struct str args[] = {STR("ZREVRANGE"), key_str(&key), STR("0"), STR(LIST_MAX)};

	if (!s->request)
		s->request = redis_command(s->push->redis, str_of(s->id), args, countof(args),
					   on_open_jobs, s);
}

static void outbox_attached(struct session *s)
{
	list_open(s);
}

static void on_outbox(struct session *s, const struct str *ids, size_t id_count, bool more)
{
	struct op_position jobs[OP_JOBS_MAX];
	size_t count = 0;

	s->looking = NULL;
	s->more = more;
	for (size_t i = 0; i < id_count && count < OP_JOBS_MAX; i++)
		if (is_new(s, ids[i]))
			jobs[count++] = (struct op_position){.id = ids[i]};
	if (count)
		s->relooks = 0;
	look_for_more(s);
	stream_attach(s, jobs, count, false, outbox_attached);
}

/* The jobs that hello named had their first words: now what it did not name. */
static void named_attached(struct session *s)
{
	if (!s->resumed && !s->conversation)
		return;
	s->listed_us = loop_now_us(s->push->loop);
	s->looking = outbox_list(s, on_outbox);
}

void hello_relook(struct timer *t)
{
	struct session *s = container_of(t, struct session, relook);

	if (s->looking || s->request)
		look_again(s);
	else
		named_attached(s);
}

void hello_epoch(struct session *s)
{
	if (s->listed_us && loop_now_us(s->push->loop) - s->listed_us < EPOCH_US)
		look_again(s);
}

/* Again after a loss: what began meanwhile was not heard. */
static void events_standing(void *ctx)
{
	struct session *s = ctx;

	if (s->heard && !s->request)
		list_open(s);
	s->heard = true;
}

/* A job of the session that somebody else submitted. */
static void on_event(void *ctx, struct str payload)
{
	struct session *s = ctx;
	struct event event;
	struct key channel = key_channel(str_of(s->id));

	if (event_parse(payload, &event) != EVENT_OK || !is_new(s, event.job))
		return;
	if (str_is(event.ev, "queued") || str_is(event.ev, "started"))
		stream_meet(s, event.job, key_str(&channel));
}

/* ── takeover ── */

static void say_line(struct session *s)
{
	struct key channel = key_takeover(str_of(s->line));
	char text[SESSION_NONCE_SIZE + 24];
	int n = snprintf(text, sizeof(text), "%s %llu", s->name, (unsigned long long)s->came_us);
	const struct str args[] = {STR("PUBLISH"), key_str(&channel), {text, (size_t)n}};

	redis_command(s->push->redis, STR(""), args, countof(args), NULL, NULL);
}

static void line_standing(void *ctx)
{
	struct session *s = ctx;

	/* Only who goes on from another connection takes it over, and says so once more after Redis was away. */
	if (s->resumed)
		say_line(s);
}

/* By one clock, Redis's own, whatever token each came with. */
static bool is_newer(const struct session *s, struct str name, struct str came)
{
	uint64_t us = 0;

	if (PLANTED(TAKEN_BACK))
		return true;
	if (!str_u64(came, &us))
		return false;
	if (us != s->came_us)
		return us > s->came_us;
	return memcmp(name.ptr, s->name, SESSION_NONCE_SIZE - 1) > 0;
}

/* An older one may speak late: it did not hear then that it was taken over, and hears it now. */
static void on_takeover(void *ctx, struct str payload)
{
	struct session *s = ctx;
	struct str name;

	if (!str_split(&payload, ' ', &name) || name.len != SESSION_NONCE_SIZE - 1 ||
	    str_is(name, s->name) || PLANTED(TAKEOVER_UNHEARD))
		return;
	if (is_newer(s, name, payload))
		session_close(s, CLOSE_TAKEN_OVER, "taken over by a newer connection");
	else if (s->resumed)
		say_line(s);
}

static void subscribe(struct session *s)
{
	static const struct redis_sub_ops line = {.standing = line_standing,
						  .message = on_takeover};
	static const struct redis_sub_ops events = {.standing = events_standing,
						    .message = on_event};
	struct key takeover = key_takeover(str_of(s->line));
	struct key channel = key_channel(str_of(s->id));

	s->line_sub = redis_subscribe(s->push->redis, key_str(&takeover), &line, s);
	if (s->conversation)
		s->events_sub = redis_subscribe(s->push->redis, key_str(&channel), &events, s);
}

/* ── welcome ── */

static void put_resume(struct session *s, struct json_out *o)
{
	struct token token = {.purpose = TOKEN_RESUME,
			      .expires_wall_ms =
				  loop_wall_ms(s->push->loop) + s->push->options->resume_ttl_ms,
			      .count = 4};
	struct buf text = {0};

	token.field[0] = str_of(s->id);
	token.field[1] = str_of(s->who.org);
	token.field[2] = str_of(s->line);
	token.field[3] = s->conversation ? STR("1") : STR("0");
	token_make(&s->push->secrets, &token, &text);
	json_put_str(o, "resume", buf_str(&text));
	buf_fini(&text);
}

static void welcome(struct session *s)
{
	struct frame f = {0}, gone = {0};
	struct json_out *o;
	struct op hello = s->hello;

	s->hello = (struct op){0};
	timer_stop(&s->patience);
	sm_move(&s->sm, SESSION_OPEN);
	outcome(s, s->resumed ? "resumed" : "fresh");
	log_info(&s->log, "welcome", F_STR("session", s->id), F_STR("org", s->who.org),
		 F_UINT("jobs", hello.job_count));
	o = frame_begin(&f, FRAME_WELCOME);
	json_put_text(o, "session", s->id);
	put_resume(s, o);
	json_put_int(o, "ping_ms", (int64_t)s->push->options->ping_ms);
	json_put_int(o, "bin_next", s->bin_next);
	frame_end(&f);
	session_send(s, &f);
	if (s->not_resumed) {
		frame_gone(&gone, STR(""), s->not_resumed);
		session_send(s, &gone);
	}
	subscribe(s);
	stream_attach(s, hello.jobs, hello.job_count, true, named_attached);
	op_fini(&hello);
	ws_limit(s->ws, s->push->options->max_text_bytes, s->push->options->max_binary_bytes);
	ws_read_pause(s->ws, s->full); /* nothing is pending yet */
}

/* ── the session ── */

static void made(struct session *s)
{
	bool late = gather_asks(&s->row);

	if (s->request || (late && !s->impatient))
		return;
	if (s->failures + late == 2) {
		refuse(s, CLOSE_INTERNAL, "no session can be made now");
		return;
	}
	if (s->failures || late)
		log_warn(&s->log, "session is in one store only", F_STR("session", s->id));
	outbox_begin(s);
	welcome(s);
}

static void put_row(const struct gather_ask *ask, struct buf *out)
{
	const struct session *s = container_of(ask, struct session, row);
	struct json_out o = {.buf = out};

	json_open(&o, '{');
	json_put_text(&o, "id", s->id);
	json_put_text(&o, "org", s->who.org);
	json_put_int(&o, "created_ms", (int64_t)s->made_ms);
	json_close(&o, '}');
}

static uint64_t session_ttl(void *ctx)
{
	const struct push *push = ctx;

	return push->options->session_ttl_ms;
}

static void on_row(struct gather_ask *ask, enum pg_result result, const struct pg_rows *rows,
		   size_t first, size_t count)
{
	struct session *s = container_of(ask, struct session, row);

	(void)rows, (void)first, (void)count;
	/* After the welcome it is of no consequence: the session stood in Redis. */
	if (sm_state(&s->sm) != SESSION_PREPARING)
		return;
	s->failures += result != PG_OK;
	made(s);
}

const struct gather_kind hello_rows = {
    .sql = "INSERT INTO sessions (id, org, task, system, metadata, ttl_ms, created_ms) "
	   "SELECT id, org, '', '', '', $2::bigint, created_ms FROM json_to_recordset($1::json) "
	   "AS made(id text, org text, created_ms bigint) ON CONFLICT (id) DO NOTHING",
    .open = '[',
    .close = ']',
    .most = ROWS_MAX,
    .put = put_row,
    .second = session_ttl,
    .done = on_row,
};

static void on_hash(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct session *s = ctx;

	(void)value;
	s->request = NULL;
	s->failures += result != REDIS_OK;
	made(s);
}

/* As POST /v1/sessions with nothing in it: both stores at once. One is enough for a connection: its jobs are no turns of it. */
static void make(struct session *s)
{
	struct push *push = s->push;
	uint64_t now = loop_wall_ms(push->loop);
	struct str org = str_of(s->who.org);
	struct key keys[2];
	char ttl[24], at[24];

	id_make(s->id, "ses", now, loop_rand(push->loop));
	keys[0] = key_session(str_of(s->id));
	keys[1] = key_conversation(str_of(s->id));
	snprintf(ttl, sizeof(ttl), "%llu", (unsigned long long)push->options->session_ttl_ms);
	snprintf(at, sizeof(at), "%llu", (unsigned long long)now);
	s->made_ms = now;
	timer_set(&s->patience, PATIENCE_US);
	gather_add(&push->rows, &s->row);
	s->request = redis_script(push->redis, str_of(s->id), &script_session,
				  (const struct str[]){key_str(&keys[0]), key_str(&keys[1])}, 2,
				  (const struct str[]){str_of(ttl), org, STR(""), STR(""), STR(""),
						       str_of(at), STR(""), STR("")},
				  8, on_hash, s);
}

/* There is no such session (any more): a token of it does not hold. */
static void unknown(struct session *s)
{
	if (!s->resumed || s->hello.session.len) {
		refuse(s, CLOSE_NOT_ALLOWED, "there is no such session");
		return;
	}
	s->resumed = s->conversation = false;
	s->came_us = 0;
	s->not_resumed = "unknown";
	memcpy(s->line, s->name, sizeof(s->line));
	make(s);
}

static void on_known(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct session *s = ctx;

	s->pg_request = NULL;
	if (result == PG_OK && !pg_count(rows))
		unknown(s);
	else if (result == PG_OK ||
		 s->resumed) /* a token of it is good where nobody can say otherwise */
		welcome(s);
	else
		refuse(s, CLOSE_INTERNAL, "the session cannot be looked up now");
}

void hello_patience(struct timer *t)
{
	struct session *s = container_of(t, struct session, patience);

	s->impatient = true;
	if (s->pg_request) {
		pg_cancel(s->pg_request);
		on_known(s, PG_LOST, NULL);
	} else {
		made(s);
	}
}

/* Redis lost it, or is away: a turn brings it back, unless its time is over (producer/session_standing.h). */
static void look_in_postgres(struct session *s)
{
	char now[24];

	timer_set(&s->patience, PATIENCE_US);
	snprintf(now, sizeof(now), "%llu", (unsigned long long)loop_wall_ms(s->push->loop));
	s->pg_request = pg_query(
	    s->push->pg,
	    "SELECT id FROM sessions WHERE id = $1 AND org = $2 AND deleted_ms IS NULL "
	    "AND GREATEST(created_ms, (SELECT max(finished_ms) FROM results "
	    "WHERE session = $1 AND org = $2 AND turn > 0)) + ttl_ms >= $3::bigint",
	    (const struct str[]){str_of(s->id), str_of(s->who.org), str_of(now)}, 3, on_known, s);
}

static void on_joined(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct session *s = ctx;
	bool there = result == REDIS_OK && value->type == REDIS_LIST;
	struct str org = there ? redis_item_str(value, 1) : STR("");
	int64_t now_us = there ? redis_item_int(value, 0, 0) : 0;

	s->request = NULL;
	if (s->resumed)
		s->came_us =
		    now_us > 0 ? (uint64_t)now_us : loop_wall_ms(s->push->loop) * US_PER_MS;
	if (!s->conversation || str_is(org, s->who.org))
		welcome(s);
	else if (org.len)
		unknown(s);
	else
		look_in_postgres(s);
}

/* To the session s->id, by its name or a resume token. One that was made for its first connection is no conversation: it may be over,
 * and what waits there is told all the same. */
static void join(struct session *s)
{
	struct key key = key_session(str_of(s->id));
	struct str name = key_str(&key);

	s->request = redis_script(s->push->redis, str_of(s->id), &script_join, &name, 1, NULL, 0,
				  on_joined, s);
}

static void look_up(struct session *s, struct str id)
{
	snprintf(s->id, sizeof(s->id), "%.*s", STR_FMT(id));
	s->conversation = true;
	join(s);
}

/* True where the token holds: the session is the one before. */
static bool resume(struct session *s)
{
	struct buf scratch = {0};
	struct token token;
	enum token_result read = token_read(&s->push->secrets, TOKEN_RESUME, s->hello.resume,
					    loop_wall_ms(s->push->loop), &scratch, &token);
	bool good = read == TOKEN_GOOD && token.count >= 4 && token.field[0].len < ID_SIZE &&
		    token.field[2].len < SESSION_NONCE_SIZE && str_is(token.field[1], s->who.org);

	if (good && s->hello.session.len && !str_eq(s->hello.session, token.field[0]))
		good = false;
	if (good) {
		snprintf(s->id, sizeof(s->id), "%.*s", STR_FMT(token.field[0]));
		snprintf(s->line, sizeof(s->line), "%.*s", STR_FMT(token.field[2]));
		s->conversation = str_is(token.field[3], "1") || s->bound[0];
		s->resumed = true;
	} else {
		s->not_resumed = read == TOKEN_EXPIRED ? "expired" : "unknown";
	}
	buf_fini(&scratch);
	return good;
}

static void prepare(struct session *s)
{
	sm_move(&s->sm, SESSION_PREPARING);
	if (s->bound[0] && s->hello.session.len && !str_is(s->hello.session, s->bound)) {
		refuse(s, CLOSE_NOT_ALLOWED, "the ticket is another session's");
		return;
	}
	if (s->bound[0])
		s->hello.session = str_of(s->bound);
	if (s->hello.resume.len && resume(s))
		join(s);
	else if (!s->hello.session.len)
		make(s);
	else if (id_is(s->hello.session, "ses"))
		look_up(s, s->hello.session);
	else
		refuse(s, CLOSE_NOT_ALLOWED, "there is no such session");
}

/* ── the key, or a ticket ── */

/* Who asks is known: of a new connection, or again of one that is open. */
static void known(struct session *s, const struct identity *who, struct str session)
{
	bool same = strcmp(s->who.org, who->org) == 0;

	if (sm_state(&s->sm) == SESSION_CHECKING) {
		s->who = *who;
		snprintf(s->bound, sizeof(s->bound), "%.*s", STR_FMT(session));
		prepare(s);
	} else if (!same) {
		session_close(s, CLOSE_NOT_ALLOWED, "the key is another organisation's");
	} else if (session.len && !str_is(session, s->id)) {
		session_close(s, CLOSE_NOT_ALLOWED, "the ticket is another session's");
	} else {
		s->who = *who; /* what counts from now on when it expires */
	}
}

/* Who is known already stays so. */
static void not_known(struct session *s, const char *reason)
{
	if (sm_state(&s->sm) == SESSION_CHECKING)
		refuse(s, CLOSE_INTERNAL, reason);
}

static void on_key(void *ctx, enum keys_result result, const struct identity *identity)
{
	struct session *s = ctx;

	s->checking = NULL;
	drop_key(s);
	switch (result) {
	case KEYS_GOOD:
		known(s, identity, STR(""));
		return;
	case KEYS_BAD:
		refuse(s, CLOSE_CREDENTIALS, "the key is not good");
		return;
	case KEYS_UNSURE:
		not_known(s, "the key cannot be checked now");
		return;
	}
}

static void on_ticket(void *ctx, enum ticket_result result, const struct ticket *ticket)
{
	struct session *s = ctx;

	s->redeeming = NULL;
	drop_key(s);
	switch (result) {
	case TICKET_GOOD:
		known(s, &ticket->who, str_of(ticket->session));
		return;
	case TICKET_BAD:
		refuse(s, CLOSE_CREDENTIALS, "the ticket is not good: unknown, used or too old");
		return;
	case TICKET_UNSURE:
		not_known(s, "the ticket cannot be checked now");
		return;
	}
}

static void check(struct session *s, struct str token)
{
	keys_cancel(s->checking);
	s->checking = NULL;
	if (s->redeeming)
		redis_cancel(s->redeeming);
	s->redeeming = NULL;
	if (ticket_shape(token))
		s->redeeming = ticket_redeem(s->push->redis, token, on_ticket, s);
	else
		s->checking = keys_check(s->push->keys, token, on_key, s);
}

void hello_begin(struct session *s, struct op *op)
{
	s->hello = *op;
	timer_stop(&s->clock);
	sm_move(&s->sm, SESSION_CHECKING);
	if (op->token.len)
		check(s, op->token);
	else if (s->key)
		check(s, str_of(s->key));
	else
		refuse(s, CLOSE_CREDENTIALS, "a key is missing");
}

void hello_token(struct session *s, const struct op *op)
{
	check(s, op->token);
}
