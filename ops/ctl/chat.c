#include <stdio.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/net/fetch.h"
#include "lib/net/sse.h"
#include "ops/ctl/ctl.h"

#define BODY_MAX (64u << 20)
#define EVENT_MAX (4u << 20)
#define WHY_SIZE 256

/* One job from its submission to its times. */
struct chat {
	const struct ctl *ctl;
	char *auth; /* header field */
	struct buf body;
	struct sse sse;
	bool ended;
	bool good;
	bool line_open; /* the text's last line has no end yet */
};

static bool on_body(void *ctx, int status, struct str bytes)
{
	struct chat *c = ctx;

	(void)status;
	if (c->body.len + bytes.len > BODY_MAX)
		return false;
	buf_add_str(&c->body, bytes);
	return true;
}

/* Says what the front said where it is an error, else what the network did. */
static void say_refused(struct chat *c, const char *what, int status)
{
	struct json_error bad;
	cleanup_json struct json_object *tree = NULL;
	struct json_object *error = NULL;

	if (json_read(buf_str(&c->body), &tree, &bad) == JSON_OK)
		error = json_member(tree, "error");
	fprintf(stderr, "sluicectl: %s: %d %.*s: %.*s\n", what, status,
		STR_FMT(json_str(error, "code")), STR_FMT(json_str(error, "message")));
}

/* One exchange whose body is JSON: the tree (the caller's), or NULL after the reason was said. */
static struct json_object *ask(struct chat *c, const char *what, const char *method,
			       const char *path, struct str body, int good)
{
	cleanup_free char *url = mem_printf("%s%s", c->ctl->front, path);
	const char *const fields[] = {c->auth, "content-type: application/json", "expect:", NULL};
	struct fetch f = {.method = method,
			  .url = url,
			  .fields = fields,
			  .body = body,
			  .connect_ms = 5000,
			  .silence_ms = 30000,
			  .data = on_body,
			  .ctx = c};
	struct json_object *tree = NULL;
	struct json_error bad;
	char why[WHY_SIZE];
	int status = 0;

	buf_reset(&c->body);
	if (fetch_run(&f, &status, why) < 0) {
		fprintf(stderr, "sluicectl: %s: %s\n", url, why);
		return NULL;
	}
	if (status != good) {
		say_refused(c, what, status);
		return NULL;
	}
	if (json_read(buf_str(&c->body), &tree, &bad) != JSON_OK) {
		fprintf(stderr, "sluicectl: %s: the answer is not JSON: %s\n", what, bad.message);
		return NULL;
	}
	return tree;
}

static void on_event(void *ctx, struct str event, struct str data)
{
	struct chat *c = ctx;
	struct json_error bad;
	cleanup_json struct json_object *tree = NULL;
	struct str text;

	if (json_read(data, &tree, &bad) != JSON_OK)
		return;
	text = json_str(tree, "text");
	if (str_is(event, "delta")) {
		fwrite(text.ptr, 1, text.len, stdout);
		fflush(stdout);
		c->line_open = text.len && text.ptr[text.len - 1] != '\n';
	} else if (str_is(event, "reset")) {
		printf("\n[the answer begins anew]\n");
	} else if (str_is(event, "result")) {
		c->ended = c->good = true;
	} else if (str_is(event, "fault")) {
		c->ended = true;
		fprintf(stderr, "\nsluicectl: the job failed: %.*s: %.*s\n",
			STR_FMT(json_str(tree, "name")), STR_FMT(json_str(tree, "message")));
	}
}

static bool on_stream(void *ctx, int status, struct str bytes)
{
	struct chat *c = ctx;

	if (status != 200)
		return on_body(ctx, status, bytes);
	return sse_feed(&c->sse, bytes) == SSE_OK && !c->ended;
}

static bool stream(struct chat *c, struct str id)
{
	cleanup_free char *url = mem_printf("%s/v1/jobs/%.*s/events", c->ctl->front, STR_FMT(id));
	const char *const fields[] = {c->auth, "accept: text/event-stream", NULL};
	struct fetch f = {.method = "GET",
			  .url = url,
			  .fields = fields,
			  .connect_ms = 5000,
			  .silence_ms = 60000,
			  .data = on_stream,
			  .ctx = c};
	char why[WHY_SIZE];
	int status = 0, r;

	buf_reset(&c->body);
	sse_init(&c->sse, EVENT_MAX, on_event, c);
	r = fetch_run(&f, &status, why);
	sse_fini(&c->sse);
	if (c->line_open)
		printf("\n");
	if (r < 0)
		fprintf(stderr, "sluicectl: %s: %s\n", url, why);
	else if (status != 200)
		say_refused(c, "events", status);
	else if (!c->ended)
		fprintf(stderr, "sluicectl: the stream ended before the job did\n");
	return c->ended;
}

static void say_time(struct json_object *job, const char *key, const char *word, uint64_t *from)
{
	struct str text = json_str(job, key);
	uint64_t at;

	if (!text.len || clock_parse(text, &at) != CLOCK_OK) {
		printf("%-12s -\n", word);
		return;
	}
	if (!*from)
		*from = at;
	printf("%-12s %.*s  +%lld ms\n", word, STR_FMT(text), (long long)(at - *from));
}

static void say_times(struct chat *c, const char *id)
{
	cleanup_free char *path = mem_printf("/v1/jobs/%s", id);
	cleanup_json struct json_object *job = ask(c, "job", "GET", path, (struct str){0}, 200);
	struct json_object *target, *usage;
	uint64_t from = 0;

	if (!job)
		return;
	target = json_member(job, "target");
	usage = json_member(job, "usage");
	printf("\njob          %s %.*s\n", id, STR_FMT(json_str(job, "status")));
	printf("answered by  %.*s %.*s\n", STR_FMT(json_str(target, "account")),
	       STR_FMT(json_str(target, "model")));
	say_time(job, "created_at", "accepted", &from);
	say_time(job, "picked_up_at", "picked up", &from);
	say_time(job, "first_token_at", "first token", &from);
	say_time(job, "finished_at", "done", &from);
	printf("tokens       %lld in, %lld out, %lld micro-dollars\n",
	       (long long)json_int(usage, "input_tokens", 0),
	       (long long)json_int(usage, "output_tokens", 0),
	       (long long)json_int(usage, "cost_microusd", 0));
}

static void write_body(const struct ctl *ctl, struct buf *out)
{
	struct json_out o = {.buf = out};

	json_open(&o, '{');
	json_put_text(&o, "kind", "chat");
	if (ctl->lane)
		json_put_text(&o, "lane", ctl->lane);
	if (ctl->model)
		json_put_text(&o, "model", ctl->model);
	else
		json_put_text(&o, "task", ctl->task ? ctl->task : "chat");
	json_put_bool(&o, "stream", true);
	json_key(&o, "messages");
	json_open(&o, '[');
	json_open(&o, '{');
	json_put_text(&o, "role", "user");
	json_put_text(&o, "content", ctl->text);
	json_close(&o, '}');
	json_close(&o, ']');
	json_close(&o, '}');
}

int ctl_chat(const struct ctl *ctl)
{
	struct chat c = {.ctl = ctl, .auth = mem_printf("authorization: Bearer %s", ctl->key)};
	struct buf body = {0};
	cleanup_json struct json_object *job = NULL;
	cleanup_free char *id = NULL;

	write_body(ctl, &body);
	job = ask(&c, "job refused", "POST", "/v1/jobs", buf_str(&body), 202);
	if (job) {
		struct str view = json_str(job, "id");

		id = mem_printf("%.*s", STR_FMT(view));
		if (stream(&c, view))
			say_times(&c, id);
	}
	buf_fini(&body);
	buf_fini(&c.body);
	mem_wipe(c.auth, strlen(c.auth));
	mem_free(c.auth);
	return c.good ? 0 : 1;
}
