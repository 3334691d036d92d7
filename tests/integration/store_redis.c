/* lib/store's Redis against a real server: order, pipelining, scripts, loss and return, epochs, subscriptions. */
#include "lib/base/buf.h"
#include "lib/store/redis.h"
#include "schemas/scripts.h"
#include "tests/integration/store_parts.h"

struct test {
	struct parts p;
	struct redis *redis;
	int done; /* callbacks */
	int ok;	  /* with REDIS_OK */
	int away;
	int lost;
	int epochs;
	int ups;
	int downs;
	bool first;
	uint64_t epoch_wall_ms;
	int64_t number; /* of the newest reply */
	bool in_order;
	char text[256];
};

/* A CA of the test's own and a certificate for 127.0.0.1; false where there is no openssl command. */
static bool certificates(struct test *t)
{
	char script[900];
	char *argv[] = {"sh", "-c", script, NULL};

	snprintf(
	    script, sizeof(script),
	    "cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
	    "-subj /CN=test-ca -keyout ca.key -out ca.pem && "
	    "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=redis "
	    "-keyout key.pem -out csr.pem && printf 'subjectAltName=IP:127.0.0.1' > ext && "
	    "openssl x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
	    "-extfile ext -out cert.pem",
	    t->p.dir);
	return run(argv) == 0;
}

static void tls_server_start(struct test *t)
{
	char port[16];
	char cert[96];
	char key[96];
	char ca[96];
	char *argv[] = {"redis-server",
			"--port",
			"0",
			"--tls-port",
			port,
			"--bind",
			"127.0.0.1",
			"--save",
			"",
			"--dir",
			t->p.dir,
			"--tls-cert-file",
			cert,
			"--tls-key-file",
			key,
			"--tls-ca-cert-file",
			ca,
			"--tls-auth-clients",
			"no",
			NULL};

	snprintf(port, sizeof(port), "%u", t->p.port);
	snprintf(cert, sizeof(cert), "%s/cert.pem", t->p.dir);
	snprintf(key, sizeof(key), "%s/key.pem", t->p.dir);
	snprintf(ca, sizeof(ca), "%s/ca.pem", t->p.dir);
	t->p.pid = start(argv);
}

static void server_start(struct test *t)
{
	char port[16];
	char *argv[] = {"redis-server",
			"--port",
			port,
			"--dir",
			t->p.dir,
			"--bind",
			"127.0.0.1",
			"--save",
			"",
			"--appendonly",
			"yes",
			"--requirepass",
			"s3cret",
			"--loglevel",
			"warning",
			NULL};

	snprintf(port, sizeof(port), "%u", t->p.port);
	t->p.pid = start(argv);
}

static void on_epoch(void *ctx, bool first, uint64_t wall_ms)
{
	struct test *t = ctx;

	t->epochs++;
	t->first = first;
	t->epoch_wall_ms = wall_ms;
}

static void on_up(void *ctx, bool up)
{
	struct test *t = ctx;

	if (up)
		t->ups++;
	else
		t->downs++;
}

static void on_done(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct test *t = ctx;

	t->done++;
	t->ok += result == REDIS_OK && value->type != REDIS_ERROR;
	t->away += result == REDIS_AWAY;
	t->lost += result == REDIS_LOST;
	if (result != REDIS_OK)
		return;
	if (value->type == REDIS_INT) {
		if (value->integer != t->number + 1)
			t->in_order = false;
		t->number = value->integer;
	}
	snprintf(t->text, sizeof(t->text), "%.*s", STR_FMT(value->str));
}

static void reset(struct test *t)
{
	t->done = t->ok = t->away = t->lost = 0;
	t->number = 0;
	t->in_order = true;
	t->text[0] = '\0';
}

static struct redis_request *ask(struct test *t, const char *order, const char *a, const char *b,
				 const char *c)
{
	struct str args[3] = {str_of(a), str_of(b), str_of(c)};

	return redis_command(t->redis, str_of(order), args, c ? 3 : b ? 2 : 1, on_done, t);
}

static void open_redis(struct test *t)
{
	static const struct redis_ops ops = {.epoch = on_epoch, .up = on_up};
	struct redis_options options = redis_defaults();
	char url[96];

	snprintf(url, sizeof(url), "redis://:s3cret@127.0.0.1:%u/2", t->p.port);
	options.url = url;
	options.connections = 3;
	if (redis_open(t->p.loop, &options, &ops, t, &t->p.log, &t->redis) < 0)
		exit(2);
}

static void commands(struct test *t)
{
	reset(t);
	ask(t, "", "SET", "a", "1");
	claim(&t->p, turn_until(&t->p, &t->done, 1, 3000) && t->ok == 1,
	      "a command asked before the server answered waits for the connection");
	claim(&t->p, t->epochs == 1 && t->first && t->epoch_wall_ms > 0,
	      "the epoch is given once at the first connection, however many there are");
	reset(t);
	for (int i = 0; i < 10000; i++)
		ask(t, "job_1", "INCR", "counter", NULL);
	claim(&t->p, turn_until(&t->p, &t->done, 10000, 5000) && t->ok == 10000 && t->in_order,
	      "10,000 pipelined requests of one job are answered in their order");
	claim(&t->p, redis_pending(t->redis) == 0, "nothing is pending then");
	reset(t);
	redis_cancel(ask(t, "x", "SET", "b", "1"));
	ask(t, "x", "GET", "a", NULL);
	claim(&t->p, turn_until(&t->p, &t->done, 1, 2000) && t->done == 1,
	      "a cancelled request has no callback");
	reset(t);
	ask(t, "x", "LPUSH", "a", "wrong type");
	claim(&t->p, turn_until(&t->p, &t->done, 1, 2000) && t->ok == 0 && t->lost == 0,
	      "an error reply is a reply");
}

static const struct script echo = {"echo", "return {ARGV[1], KEYS[1], 7, false}\n"};
static const struct script count = {"count", "return redis.call('INCR', KEYS[1])\n"};

static void on_list(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct test *t = ctx;

	t->done++;
	t->ok += result == REDIS_OK && value->type == REDIS_LIST && value->count == 4 &&
		 str_is(redis_item_str(value, 0), "v") && str_is(redis_item_str(value, 1), "k") &&
		 redis_item_int(value, 2, 0) == 7 && value->items[3].type == REDIS_NIL &&
		 redis_item_int(value, 9, -1) == -1;
}

static void scripts(struct test *t)
{
	struct str key = STR("k");
	struct str arg = STR("v");
	struct str counter = STR("scripted");

	reset(t);
	for (int i = 0; i < 10; i++)
		redis_script(t->redis, str_of("j"), &echo, &key, 1, &arg, 1, on_list, t);
	claim(&t->p, turn_until(&t->p, &t->done, 10, 2000) && t->ok == 10,
	      "a script gets its keys and arguments and answers a list");
	reset(t);
	for (int i = 0; i < 100; i++)
		redis_script(t->redis, str_of("j"), &count, &counter, 1, NULL, 0, on_done, t);
	turn_until(&t->p, &t->done, 100, 2000);
	claim(&t->p, t->ok == 100 && t->in_order,
	      "a script first used in a pipeline runs in order");
	ask(t, "j", "SCRIPT", "FLUSH", NULL);
	for (int i = 0; i < 5; i++)
		redis_script(t->redis, str_of("j"), &count, &counter, 1, NULL, 0, on_done, t);
	claim(&t->p, turn_until(&t->p, &t->done, 106, 2000) && t->ok == 106 && t->in_order,
	      "a script that the server forgot is sent again");
}

static void on_turn(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct test *t = ctx;

	t->done++;
	t->ok += result == REDIS_OK && value->type == REDIS_LIST &&
		 str_is(redis_item_str(value, 0), "ok");
}

/* The next turn of the session, of a bound of 8; true where it was given. */
static bool next_turn(struct test *t, int turn)
{
	char job[24];
	struct str keys[2] = {STR("s:{x}"), STR("c:{x}")};
	struct str args[4] = {STR("org"), {0}, STR("8"), STR("1000")};

	snprintf(job, sizeof(job), "job_%d", turn);
	args[1] = str_of(job);
	reset(t);
	redis_script(t->redis, str_of("x"), &script_turn, keys, 2, args, 4, on_turn, t);
	return turn_until(&t->p, &t->done, 1, 2000) && t->ok;
}

/* A turn is over; @text: its message, NULL where it brings none. */
static void turn_over(struct test *t, int turn, const char *text)
{
	char job[24], number[24];
	struct str keys[2] = {STR("s:{x}"), STR("c:{x}")}, args[3];

	snprintf(job, sizeof(job), "job_%d", turn);
	snprintf(number, sizeof(number), "%d", turn);
	args[0] = str_of(number);
	args[1] = str_of(job);
	args[2] = str_of(text ? text : "");
	reset(t);
	redis_script(t->redis, str_of("x"), &script_converse, keys, 2, args, text ? 3 : 2, on_done,
		     t);
	turn_until(&t->p, &t->done, 1, 2000);
}

static void open_turns(struct test *t)
{
	struct str keys[2] = {STR("s:{x}"), STR("c:{x}")};
	struct str args[8] = {STR("60000"), STR("org"), STR(""), STR(""),
			      STR(""),	    STR("1"),	STR(""), STR("")};
	int turn = 0, more = 0;
	bool held = true;

	reset(t);
	redis_script(t->redis, str_of("x"), &script_session, keys, 2, args, 8, on_done, t);
	turn_until(&t->p, &t->done, 1, 2000);
	while (turn < 50 && next_turn(t, turn + 1))
		turn++;
	claim(&t->p, turn == 8, "eight turns of a session are open, the ninth is refused");
	for (int round = 0; round < 20; round++) {
		turn_over(t, turn, NULL);
		turn_over(t, turn, NULL); /* told twice */
		held = held && next_turn(t, turn + 1) && !next_turn(t, turn + 2);
		turn++;
	}
	claim(&t->p, held,
	      "each turn that is cancelled at the end makes room for one, not for more");
	for (int k = 2; k <= 7; k++)
		turn_over(t, k, NULL);
	turn_over(t, 1, NULL);
	while (more < 50 && next_turn(t, turn + 1)) {
		more++;
		turn++;
	}
	claim(&t->p, more == 7, "in whatever order turns end, as many are open as are not over");
	turn_over(t, turn, "{}"); /* it ran: a turn before it that never ended was refused */
	for (more = 0; more < 50 && next_turn(t, turn + 1); more++)
		turn++;
	claim(&t->p, more == 8, "a turn that ran says that all before it are over");
}

struct listener_of {
	int standing;
	int lost;
	int messages;
	struct redis_sub *sub;
	bool leaves;
	char last[32];
};

static void on_standing(void *ctx)
{
	((struct listener_of *)ctx)->standing++;
}

static void on_lost(void *ctx)
{
	((struct listener_of *)ctx)->lost++;
}

static void on_message(void *ctx, struct str payload)
{
	struct listener_of *l = ctx;

	l->messages++;
	snprintf(l->last, sizeof(l->last), "%.*s", STR_FMT(payload));
	if (l->leaves) {
		redis_unsubscribe(l->sub);
		l->sub = NULL;
	}
}

static const struct redis_sub_ops sub_ops = {on_standing, on_message, on_lost};

static struct listener_of *listen_to(struct test *t, struct listener_of *l, const char *channel)
{
	*l = (struct listener_of){0};
	l->sub = redis_subscribe(t->redis, str_of(channel), &sub_ops, l);
	return l;
}

static void subscriptions(struct test *t, struct listener_of *stays)
{
	struct listener_of a;
	struct listener_of b;

	listen_to(t, stays, "news");
	listen_to(t, &a, "news");
	claim(&t->p, turn_until(&t->p, &a.standing, 1, 3000) && stays->standing == 1,
	      "two subscribers of one channel are told that it stands");
	listen_to(t, &b, "news");
	claim(&t->p, turn_until(&t->p, &b.standing, 1, 1000),
	      "a third one that comes later is told too");
	a.leaves = true;
	reset(t);
	ask(t, "", "PUBLISH", "news", "one");
	turn_until(&t->p, &b.messages, 1, 2000);
	turn_until(&t->p, &t->done, 1, 2000);
	claim(&t->p, stays->messages == 1 && a.messages == 1 && b.messages == 1 && t->number == 1,
	      "a message reaches all three through one subscription");
	redis_unsubscribe(b.sub);
	ask(t, "", "PUBLISH", "news", "two");
	turn_until(&t->p, &stays->messages, 2, 2000);
	claim(&t->p, stays->messages == 2 && a.messages == 1 && b.messages == 1 && !a.sub,
	      "who left, also from inside a callback, hears nothing");
	/* Leave and come back while the server's confirmations are on their way. */
	listen_to(t, &a, "fickle");
	turn_until(&t->p, &a.standing, 1, 2000);
	redis_unsubscribe(a.sub);
	loop_turn(t->p.loop, 0);
	listen_to(t, &a, "fickle");
	turn_until(&t->p, &a.standing, 1, 2000);
	reset(t);
	ask(t, "", "PUBLISH", "fickle", "again");
	claim(&t->p, turn_until(&t->p, &a.messages, 1, 2000),
	      "who leaves and comes back is subscribed when he is told so");
	redis_unsubscribe(a.sub);
}

static void flushed(struct test *t)
{
	int before = t->epochs;
	uint64_t wall = t->epoch_wall_ms;

	reset(t);
	ask(t, "", "FLUSHALL", NULL, NULL);
	claim(&t->p,
	      turn_until(&t->p, &t->epochs, before + 1, 3000) && !t->first &&
		  t->epoch_wall_ms > wall,
	      "FLUSHALL begins a new epoch although no connection was lost");
	before = t->epochs;
	turn_until(&t->p, &t->epochs, before + 1, 1500);
	claim(&t->p, t->epochs == before, "and only one");
}

static void restarted(struct test *t, struct listener_of *stays)
{
	int before = t->epochs;
	int standing = stays->standing;
	int ups = t->ups;

	reset(t);
	kill(t->p.pid, SIGSTOP);
	ask(t, "r", "INCR", "never", NULL);
	for (int i = 0; i < 5; i++)
		loop_turn(t->p.loop, 0);
	kill(t->p.pid, SIGKILL);
	stop(&t->p, SIGKILL);
	claim(&t->p, turn_until(&t->p, &t->done, 1, 3000) && t->lost == 1,
	      "a request in flight when the server dies is lost, not away");
	claim(&t->p, turn_until(&t->p, &stays->lost, 1, 3000), "its subscribers are told");
	turn_until(&t->p, &t->downs, 1, 3000);
	claim(&t->p, !redis_up(t->redis) && t->downs == 1, "it is said that redis is away");
	reset(t);
	uint64_t asked = loop_fresh_us(t->p.loop);

	ask(t, "r", "GET", "a", NULL);
	turn_until(&t->p, &t->done, 1, 5000);
	uint64_t took = loop_fresh_us(t->p.loop) - asked;

	claim(&t->p, t->away == 1 && took > 900000 && took < 1500000,
	      "a request made then is away after the wait, no sooner and no later");
	reset(t);
	server_start(t);
	ask(t, "r", "SET", "back", "1");
	claim(&t->p, turn_until(&t->p, &t->ups, ups + 1, 5000), "it comes back by itself");
	claim(&t->p, t->epochs == before + 1 && t->ok == 0,
	      "another run of the server is a new epoch, told before any request is sent");
	claim(&t->p, turn_until(&t->p, &stays->standing, standing + 1, 5000),
	      "the subscription stands again");
	struct str key = STR("scripted");

	reset(t);
	redis_script(t->redis, str_of("j"), &count, &key, 1, NULL, 0, on_done, t);
	claim(&t->p, turn_until(&t->p, &t->done, 1, 2000) && t->ok == 1,
	      "scripts work on the new server");
}

static void limits(struct test *t)
{
	struct redis_options options = redis_defaults();
	struct redis *other;
	struct redis *keep = t->redis;

	options.url = "redis://127.0.0.1:1";
	options.max_pending = 10;
	options.wait_us = 300 * US_PER_MS;
	if (redis_open(t->p.loop, &options, NULL, NULL, &t->p.log, &other) < 0)
		exit(2);
	t->redis = other;
	reset(t);
	for (int i = 0; i < 20; i++)
		ask(t, "z", "GET", "a", NULL);
	claim(&t->p, t->done == 0, "no callback comes from inside the call");
	turn_until(&t->p, &t->done, 10, 200);
	claim(&t->p, t->away == 10, "requests beyond the limit are away at once");
	claim(&t->p, turn_until(&t->p, &t->done, 20, 2000) && t->away == 20,
	      "the others after the wait");
	redis_close(other);
	options.url = "http://127.0.0.1";
	claim(&t->p, redis_open(t->p.loop, &options, NULL, NULL, &t->p.log, &other) == -EINVAL,
	      "an address of another kind is refused");
	t->redis = keep;
}

/* A server that is there and does not answer. */
static void silent(struct test *t)
{
	struct redis_options options = redis_defaults();
	struct redis *keep = t->redis;
	char url[96];

	snprintf(url, sizeof(url), "redis://:s3cret@127.0.0.1:%u/2", t->p.port);
	options.url = url;
	options.timeout_us = 400 * US_PER_MS;
	if (redis_open(t->p.loop, &options, NULL, NULL, &t->p.log, &t->redis) < 0)
		exit(2);
	reset(t);
	ask(t, "s", "GET", "a", NULL);
	turn_until(&t->p, &t->done, 1, 3000);
	reset(t);
	kill(t->p.pid, SIGSTOP);
	ask(t, "s", "GET", "a", NULL);
	uint64_t asked = loop_fresh_us(t->p.loop);

	turn_until(&t->p, &t->done, 1, 5000);
	uint64_t took = loop_fresh_us(t->p.loop) - asked;

	kill(t->p.pid, SIGCONT);
	claim(&t->p, t->lost == 1 && took >= 400000 && took < 800000,
	      "without a reply in time the connection is cut and the request lost");
	reset(t);
	ask(t, "s", "GET", "a", NULL);
	claim(&t->p, turn_until(&t->p, &t->done, 1, 5000) && t->ok == 1,
	      "and works again when the server does");
	redis_close(t->redis);
	t->redis = keep;
}

/* 200 subscriptions of 50 channels come and go at random while messages arrive: who is told that he stands hears
 * every message from then on until he is told otherwise. */
static void churn(struct test *t)
{
	struct listener_of all[200] = {0};
	struct rand *r = loop_rand(t->p.loop);
	int right = 0;

	for (int step = 0; step < 5000; step++) {
		struct listener_of *l = &all[rand_below(r, 200)];
		char channel[16];

		snprintf(channel, sizeof(channel), "c%d", (int)(l - all) % 50);
		if (l->sub) {
			redis_unsubscribe(l->sub);
			l->sub = NULL;
		} else {
			listen_to(t, l, channel);
		}
		if (step % 10 == 0)
			loop_turn(t->p.loop, 0);
	}
	for (int i = 0; i < 200; i++) {
		if (all[i].sub)
			turn_until(&t->p, &all[i].standing, 1, 2000);
		all[i].messages = 0;
	}
	reset(t);
	for (int i = 0; i < 50; i++) {
		char channel[16];

		snprintf(channel, sizeof(channel), "c%d", i);
		ask(t, "", "PUBLISH", channel, "m");
	}
	turn_until(&t->p, &t->done, 50, 2000);
	for (int i = 0; i < 200; i++) {
		if (all[i].sub)
			turn_until(&t->p, &all[i].messages, 1, 500);
		right += all[i].messages == (all[i].sub ? 1 : 0);
		redis_unsubscribe(all[i].sub);
	}
	claim(&t->p, right == 200, "after much coming and going each hears what he follows, once");
}

static void over_tls(struct test *t)
{
	struct redis_options options = redis_defaults();
	char url[96];
	char ca[96];

	if (!certificates(t)) {
		printf("skipped: no openssl command, so no TLS here\n");
		return;
	}
	redis_close(t->redis);
	stop(&t->p, SIGTERM);
	t->p.port = free_port();
	tls_server_start(t);
	snprintf(url, sizeof(url), "rediss://127.0.0.1:%u", t->p.port);
	snprintf(ca, sizeof(ca), "%s/ca.pem", t->p.dir);
	options.url = url;
	options.ca_file = ca;
	if (redis_open(t->p.loop, &options, NULL, NULL, &t->p.log, &t->redis) < 0)
		exit(2);
	reset(t);
	ask(t, "s", "SET", "a", "1");
	claim(&t->p, turn_until(&t->p, &t->done, 1, 5000) && t->ok == 1,
	      "over TLS it is the same, with a CA that is named");
	redis_close(t->redis);
	options.ca_file = NULL;
	if (redis_open(t->p.loop, &options, NULL, NULL, &t->p.log, &t->redis) < 0)
		exit(2);
	reset(t);
	ask(t, "s", "SET", "a", "1");
	claim(&t->p, turn_until(&t->p, &t->done, 1, 5000) && t->away == 1,
	      "a certificate of an unknown CA is not accepted");
}

int main(void)
{
	struct test t = {0};
	struct listener_of stays;

	parts_init(&t.p);
	t.p.port = free_port();
	server_start(&t);
	open_redis(&t);
	commands(&t);
	scripts(&t);
	open_turns(&t);
	subscriptions(&t, &stays);
	flushed(&t);
	restarted(&t, &stays);
	limits(&t);
	silent(&t);
	churn(&t);
	redis_unsubscribe(stays.sub);
	over_tls(&t);
	ask(&t, "", "GET", "a", NULL);
	redis_close(t.redis);
	loop_turn(t.p.loop, 0);
	return parts_end(&t.p);
}
