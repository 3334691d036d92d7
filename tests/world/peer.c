/* lib/net/client.h over peers in memory: two vendors' streams, and every way in which a call goes wrong. An answer names its call, so
 * that texts of two calls never look alike. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/net/client.h"
#include "tests/world/fleet.h"
#include "tests/world/world.h"

enum plan {
	PLAN_WELL,
	PLAN_CONNECT,
	PLAN_REFUSED,
	PLAN_TIMEOUT,
	PLAN_429,
	PLAN_429_AFTER,
	PLAN_500,
	PLAN_529,
	PLAN_400,
	/* from here on tokens may come before */
	PLAN_ERROR_EVENT,
	PLAN_CUT,
	PLAN_RESET,
	PLAN_SILENT,
	PLAN_MALFORMED,
	PLAN_SHORT, /* an orderly end without the terminator */
	PLANS
};

static const char *const plan_names[PLANS] = {
    "well", "connect", "refused", "timeout", "429",    "429 after", "500",  "529",
    "400",  "error",   "cut",	  "reset",   "silent", "malformed", "short"};

struct client {
	struct loop *loop;
	uint32_t calls;
	uint32_t most; /* at once */
	void (*room_changed)(void *ctx);
	void *room_ctx;
	bool closed;
};

struct client_call {
	struct client *client;
	const struct client_ops *ops;
	void *ctx;
	bool anthropic;
	bool cancelled;
	bool released; /* goes on, and nobody hears of it */
	bool ended;
	enum plan plan;
	unsigned token;
	unsigned tokens;
	unsigned fault_at;
	uint64_t pace_us;
	int number;
	struct peer_call *kept;
	struct buf body;
};

/* Longest time between two tokens: calls of a second and of half a minute, past a lease. */
static const uint64_t paces_us[] = {30000, 30000, 30000, 400000, 400000, 2000000};

/* Of so many streams one ends so much later than its last word. */
#define LATE 4
#define LATE_US (300 * US_PER_MS)
/* Of so many refusals one's body stops in the middle and does not end, and one breaks off there. */
#define UNSAID 5
#define END_STALL_MOST_US (25 * US_PER_S)
/* In one of so many histories a provider takes so few calls at once. */
#define SMALL 3
#define SMALL_MOST 2
#define MOST 1000

struct list peer_calls;
bool (*peer_poison)(int job);
void (*peer_begins)(const struct peer_call *call);
void (*peer_arrived)(bool anthropic);
static int numbers;

void peer_begin(void)
{
	list_init(&peer_calls);
	numbers = 0;
}

const char *client_end_name(enum client_end end)
{
	static const char *const names[] = {"done",  "connect", "timeout", "refused",
					    "reset", "cut",	"protocol"};

	return names[end];
}

/* ── what is asked ── */

static void read_messages(struct client_call *c)
{
	cleanup_json struct json_object *tree = NULL;
	struct json_error error;
	struct json_object *messages;
	struct buf history = {0};
	struct json_object *last;
	struct str said = STR("");
	size_t count;
	const char *at;

	must(json_read(buf_str(&c->body), &tree, &error) == JSON_OK);
	messages = json_member(tree, "messages");
	count = json_object_array_length(messages);
	last = json_object_array_get_idx(messages, count - 1);
	if (str_is(json_str(last, "role"), "assistant")) {
		struct str begun = json_str(last, "content");

		c->kept->prefix = (struct str){mem_dup(begun.ptr, begun.len), begun.len};
		count--;
	}
	for (size_t i = 0; i < count; i++) {
		struct json_object *m = json_object_array_get_idx(messages, i);

		if (str_is(json_str(m, "role"), "system"))
			continue;
		said = json_str(m, "content");
		if (i + 1 == count)
			break;
		buf_printf(&history, "%.*s: %.*s\n", STR_FMT(json_str(m, "role")), STR_FMT(said));
	}
	c->kept->history = (struct str){
	    mem_dup(history.len ? buf_str(&history).ptr : "", history.len), history.len};
	buf_fini(&history);
	at = said.len > 4 && str_starts(said, "job ") ? said.ptr + 4 : NULL;
	c->kept->job = at ? atoi(at) : -1;
}

/* ── what is said ── */

static void on_room(void *ctx)
{
	struct client *client = ctx;

	if (!client->closed && client->room_changed)
		client->room_changed(client->room_ctx);
}

static void leave(struct client *client)
{
	client->calls--;
	if (client->most < MOST)
		world_in(0, client->loop, on_room, client);
}

static void end(struct client_call *c, enum client_end how)
{
	c->ended = true;
	leave(c->client);
	if (!c->released)
		c->ops->end(c->ctx, how, "");
}

static void head(struct client_call *c, int status)
{
	struct http_field fields[3] = {
	    {STR("content-type"),
	     status == 200 ? STR("text/event-stream; charset=utf-8") : STR("application/json")},
	    {STR("request-id"), STR("req_world")},
	    {STR("retry-after"), STR("1")},
	};

	c->ops->head(c->ctx, status, fields, c->plan == PLAN_429_AFTER ? 3 : 2);
}

/* In one or two pieces, cut anywhere. */
static void say(struct client_call *c, const char *text)
{
	struct str all = str_of(text);
	size_t first = (size_t)world_between(0, all.len);

	if (first)
		c->ops->data(c->ctx, (struct str){all.ptr, first});
	if (first < all.len && !c->cancelled && !c->released)
		c->ops->data(c->ctx, (struct str){all.ptr + first, all.len - first});
}

static void say_token(struct client_call *c)
{
	char token[64], line[256];

	if (!c->token)
		snprintf(token, sizeof(token),
			 "%scall %d of job %d:", c->kept->prefix.len ? " " : "", c->number,
			 c->kept->job);
	else
		snprintf(token, sizeof(token), " \xc3\xa9%u\xe2\x82\xac%s", c->token,
			 c->token % 3 ? "" : " ");
	buf_add_text(c->kept->text, token);
	snprintf(line, sizeof(line),
		 c->anthropic ? "event: content_block_delta\ndata: {\"type\":\"content_block_"
				"delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\","
				"\"text\":\"%s\"}}\n\n"
			      : "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s\"},"
				"\"finish_reason\":null}]}\n\n",
		 token);
	say(c, line);
}

static void say_begin(struct client_call *c)
{
	if (c->anthropic)
		say(c, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{"
		       "\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}}\n\n"
		       "event: content_block_start\ndata: {\"type\":\"content_block_start\","
		       "\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n");
	else
		say(c, "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\","
		       "\"content\":\"\"},\"finish_reason\":null}]}\n\n");
}

static void say_end(struct client_call *c)
{
	c->kept->completed = true;
	world_tell(c->client->loop->name, "call %d of job %d is complete", c->number, c->kept->job);
	if (c->anthropic)
		say(c, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\","
		       "\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\","
		       "\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":20}}"
		       "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
	else
		say(c, "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}"
		       "\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,"
		       "\"completion_tokens\":20}}\n\ndata: [DONE]\n\n");
}

static void go_wrong(struct client_call *c)
{
	switch (c->plan) {
	case PLAN_ERROR_EVENT:
		say(c, c->anthropic
			   ? "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":"
			     "\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n"
			   : "data: {\"error\":{\"message\":\"failed\",\"type\":\"server_error\","
			     "\"code\":null}}\n\n");
		return;
	case PLAN_CUT:
		end(c, CLIENT_CUT);
		return;
	case PLAN_RESET:
		end(c, CLIENT_RESET);
		return;
	case PLAN_MALFORMED:
		say(c, "event: content_block_delta\ndata: {\"type\":\n\n");
		return;
	case PLAN_SHORT:
		end(c, CLIENT_DONE);
		return;
	default:
		return; /* silent for ever */
	}
}

static void on_end_late(void *ctx)
{
	struct client_call *c = ctx;

	if (!c->cancelled && !c->client->closed)
		end(c, CLIENT_DONE);
}

static void on_piece(void *ctx);

/* Its process stands still between the last word and the end, longer than its claim: what it decides then comes late. */
static bool stall_before_end(struct client_call *c)
{
	struct loop *loop = c->client->loop;

	if (world->now_us + END_STALL_MOST_US > fleet.heal_us ||
	    !world_chance(world->faults.end_stall))
		return false;
	world_tell(loop->name, "stalls before the end of call %d", c->number);
	fleet.excused = true;
	fleet.torn = true;
	world_stall(loop, world->now_us + world_between(11 * US_PER_S, END_STALL_MOST_US));
	world_in(0, loop, on_piece, c);
	return true;
}

static void on_piece(void *ctx)
{
	struct client_call *c = ctx;

	if (c->cancelled || c->client->closed)
		return;
	if (c->plan > PLAN_400 && c->token == c->fault_at) {
		go_wrong(c);
		return;
	}
	if (c->token == c->tokens) {
		if (stall_before_end(c))
			return;
		say_end(c);
		if (!c->cancelled && c->number % LATE == 0)
			world_in(LATE_US, c->client->loop, on_end_late, c);
		else if (!c->cancelled)
			end(c, CLIENT_DONE);
		return;
	}
	say_token(c);
	c->token++;
	if (!c->cancelled)
		world_in(world_between(1, c->pace_us), c->client->loop, on_piece, c);
}

static void fail(struct client_call *c, int status, const char *type)
{
	char body[200];

	snprintf(body, sizeof(body),
		 c->anthropic
		     ? "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":\"no\"}}"
		     : "{\"error\":{\"message\":\"no\",\"type\":\"%s\",\"code\":null}}",
		 type);
	if (c->number % UNSAID < 2)
		body[strlen(body) / 2] = 0;
	head(c, status);
	if (!c->cancelled)
		say(c, body);
	if (!c->cancelled && c->number % UNSAID)
		end(c, c->number % UNSAID == 1 ? CLIENT_CUT : CLIENT_DONE);
}

static void on_answer(void *ctx)
{
	struct client_call *c = ctx;

	if (c->cancelled || c->client->closed)
		return;
	switch (c->plan) {
	case PLAN_CONNECT:
		end(c, CLIENT_CONNECT);
		return;
	case PLAN_REFUSED:
		end(c, CLIENT_REFUSED);
		return;
	case PLAN_TIMEOUT:
		end(c, CLIENT_TIMEOUT);
		return;
	case PLAN_429:
	case PLAN_429_AFTER:
		fail(c, 429, c->anthropic ? "rate_limit_error" : "rate_limit_exceeded");
		return;
	case PLAN_500:
		fail(c, 500, c->anthropic ? "api_error" : "server_error");
		return;
	case PLAN_529:
		fail(c, c->anthropic ? 529 : 503,
		     c->anthropic ? "overloaded_error" : "server_error");
		return;
	case PLAN_400:
		fail(c, 400, "invalid_request_error");
		return;
	default:
		break;
	}
	head(c, 200);
	if (!c->cancelled)
		say_begin(c);
	if (!c->cancelled)
		world_in(world_between(100, c->pace_us), c->client->loop, on_piece, c);
}

/* It has a stream, but where there is none to be had. */
static void on_stream(void *ctx)
{
	struct client_call *c = ctx;

	if (!c->cancelled && !c->client->closed && c->plan != PLAN_CONNECT &&
	    c->plan != PLAN_TIMEOUT && c->ops->sent)
		c->ops->sent(c->ctx);
}

static void on_arrive(void *ctx)
{
	struct client_call *c = ctx;

	if (c->cancelled || c->client->loop->dead)
		return;
	if (peer_arrived && c->plan != PLAN_CONNECT && c->plan != PLAN_REFUSED &&
	    c->plan != PLAN_TIMEOUT)
		peer_arrived(c->anthropic);
	if (peer_poison && peer_poison(c->kept->job)) {
		world_tell(c->client->loop->name, "is killed by job %d", c->kept->job);
		world_kill(c->client->loop);
		return;
	}
	world_in(world_between(500, 50000), c->client->loop, on_answer, c);
}

/* ── client.h ── */

bool client_end_unprocessed(enum client_end end)
{
	return end == CLIENT_CONNECT || end == CLIENT_TIMEOUT || end == CLIENT_REFUSED;
}

struct client_options client_defaults(void)
{
	return (struct client_options){.streams_per_connection = 80, .max_connections = 32};
}

int client_open(struct loop *loop, const struct client_options *options, const struct log *log,
		struct client **ret_client)
{
	(void)options;
	(void)log;
	*ret_client = mem_new(struct client);
	(*ret_client)->loop = loop;
	(*ret_client)->most = world->seed % SMALL ? MOST : SMALL_MOST;
	return 0;
}

void client_close(struct client *client)
{
	if (client)
		client->closed = true;
}

struct client_stats client_stats(const struct client *client)
{
	return (struct client_stats){.calls = client->calls};
}

bool client_warm(const struct client *client)
{
	(void)client;
	return true;
}

uint32_t client_room(const struct client *client)
{
	return client->calls < client->most ? client->most - client->calls : 0;
}

void client_when_room(struct client *client, void (*changed)(void *ctx), void *ctx)
{
	client->room_changed = changed;
	client->room_ctx = ctx;
}

void client_observe(struct client *client, struct series *histogram)
{
	(void)client;
	(void)histogram;
}

struct client_call *client_call(struct client *client, const char *method, const char *path,
				const struct http_field *fields, size_t count, struct str body,
				const struct client_ops *ops, void *ctx)
{
	struct client_call *c = mem_new(struct client_call);

	(void)method;
	(void)fields;
	(void)count;
	c->client = client;
	c->ops = ops;
	c->ctx = ctx;
	c->anthropic = strcmp(path, "/v1/messages") == 0;
	c->number = ++numbers;
	c->tokens = (unsigned)world_between(1, 25);
	c->pace_us = paces_us[world_between(0, countof(paces_us) - 1)];
	buf_add_str(&c->body, body);
	c->kept = mem_new(struct peer_call);
	c->kept->text = mem_new(struct buf);
	c->kept->node = client->loop->name;
	c->kept->begun_us = world->now_us;
	read_messages(c);
	list_push_back(&peer_calls, &c->kept->link);
	if (world_chance(world->faults.call_fault)) {
		c->plan = (enum plan)world_between(1, PLANS - 1);
		c->fault_at = (unsigned)world_between(0, c->tokens);
	}
	must(client_room(client)); /* nobody asks for more */
	client->calls++;
	world_tell(client->loop->name, "call %d of job %d begins: %s", c->number, c->kept->job,
		   plan_names[c->plan]);
	if (peer_begins)
		peer_begins(c->kept);
	world_in(0, client->loop, on_stream, c);
	world_in(world_delay_us(), NULL, on_arrive, c);
	return c;
}

void client_cancel(struct client_call *call)
{
	if (!call->ended)
		leave(call->client);
	call->cancelled = true;
}

void client_release(struct client_call *call)
{
	call->released = true;
}

void client_pause(struct client_call *call, bool pause)
{
	(void)call;
	(void)pause;
}

const char *client_call_peer(const struct client_call *call)
{
	(void)call;
	return "";
}
