#include "producer/admit.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/id.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/net/address.h"
#include "lib/net/url.h"
#include "lib/svc/config.h"
#include "schemas/keys.h"
#include "schemas/lanes.h"

#define MESSAGES_MAX 10000
#define METADATA_MAX 16384
#define NAME_MAX_BYTES 128
#define QUEUE_MS_MAX (7LL * 24 * 3600 * 1000)
/* How far ahead a job may be put off: its state in Redis lives that much longer. */
#define NOT_BEFORE_MS_MAX (30LL * 24 * 3600 * 1000)
#define RUN_MS_DEFAULT 600000
#define RUN_MS_MAX 3600000
/* Where neither the job nor its route says how long an answer may be. */
#define ANSWER_TOKENS_GUESS 1024

/* How long a job of a lane may wait where it does not say so itself. */
static const int64_t queue_ms[] = {
    [LANE_INTERACTIVE] = 60 * 1000,
    [LANE_HIGH] = 10 * 60 * 1000,
    [LANE_BACKGROUND] = 24LL * 3600 * 1000,
};

struct admitted admitted_good(void)
{
	return (struct admitted){.offset = -1};
}

void admitted_fail(struct admitted *a, enum fault fault, const char *param, const char *format, ...)
{
	va_list args;

	if (a->fault != FAULT_NONE)
		return;
	a->fault = fault;
	snprintf(a->param, sizeof(a->param), "%s", param);
	va_start(args, format);
	vsnprintf(a->message, sizeof(a->message), format, args);
	va_end(args);
	/* A name from outside may have been cut within a code point. */
	for (size_t len = strlen(a->message); !str_utf8(str_of(a->message)) && len;)
		a->message[--len] = '\0';
	for (size_t len = strlen(a->param); !str_utf8(str_of(a->param)) && len;)
		a->param[--len] = '\0';
}

struct str admit_copy(struct arena *arena, struct str text)
{
	return (struct str){text.len ? arena_dup(arena, text.ptr, text.len) : NULL, text.len};
}

struct str admit_raw(struct arena *arena, struct json_object *tree)
{
	struct buf text = {0};
	struct json_out o = {.buf = &text};
	struct str copy;

	json_put_tree(&o, NULL, tree);
	copy = admit_copy(arena, buf_str(&text));
	buf_fini(&text);
	return copy;
}

/* ── what every job has ── */

void admit_begin(struct job *job, struct str org, uint64_t now_wall_ms, struct rand *rand,
		 struct arena *arena)
{
	char id[ID_SIZE];

	id_make(id, "job", now_wall_ms, rand);
	job->v = 1;
	job->id = admit_copy(arena, str_of(id));
	job->org = org;
}

const struct config_route *admit_route(const struct config *config, const struct job *job,
				       struct admitted *a)
{
	struct config_wish wish = {
	    .task = job->task,
	    .model = job->model,
	    .org = job->org,
	    .user = job->user,
	    .session = job->session,
	    .job = job->id,
	};
	const struct config_route *route = config_route_for(config, &wish);

	for (size_t i = 0; i < config->route_count && !route; i++)
		if (config_route_opens(&config->routes[i], &wish))
			route = &config->routes[i];
	if (!route && job->task.len)
		admitted_fail(a, FAULT_UNKNOWN_ROUTE, "task", "No route has the task \"%.*s\".",
			      STR_FMT(job->task));
	else if (!route)
		admitted_fail(a, FAULT_UNKNOWN_ROUTE, "model", "No route has the model \"%.*s\".",
			      STR_FMT(job->model));
	return route;
}

void admit_lane(struct job *job, struct str lane, struct admitted *a)
{
	enum lane found = LANE_INTERACTIVE;

	if (lane.len && lane_find(lane, &found) != LANE_FOUND)
		admitted_fail(a, FAULT_UNKNOWN_LANE, "lane",
			      "There is no lane \"%.*s\": interactive, high or background.",
			      STR_FMT(lane));
	job->lane = str_of(lane_name(found));
}

void admit_finish(struct job *job, const struct config_route *route, size_t input_bytes,
		  uint64_t now_wall_ms, struct arena *arena)
{
	enum lane lane = LANE_INTERACTIVE;
	struct key channel;
	int64_t answer = job->max_tokens;

	if (lane_find(job->lane, &lane) != LANE_FOUND)
		lane = LANE_INTERACTIVE;
	channel = key_channel(job->session.len ? job->session : job->id);
	job->channel = admit_copy(arena, key_str(&channel));
	job->created_ms = (int64_t)now_wall_ms;
	if (!job->queue_ms)
		job->queue_ms = queue_ms[lane];
	if (!job->run_ms)
		job->run_ms = RUN_MS_DEFAULT;
	if (job->not_before_ms <= job->created_ms)
		job->not_before_ms = 0;
	job->deadline_ms = (job->not_before_ms ? job->not_before_ms : job->created_ms) +
			   job->queue_ms + job->run_ms;
	if (!answer && route)
		answer = route->max_tokens;
	if (answer > MAX_TOKENS_MAX)
		answer = MAX_TOKENS_MAX;
	job->estimate =
	    (int64_t)(input_bytes / 4) + 1 + (answer > 0 ? answer : ANSWER_TOKENS_GUESS);
}

/* ── the native request ── */

struct native {
	const struct config *config;
	struct arena *arena;
	struct job *job;
	uint64_t now_wall_ms;
	struct admitted a;
	size_t input_bytes;
};

static struct str text_field(struct native *n, struct json_object *value, const char *param,
			     size_t max)
{
	struct str text = json_text(value);

	if (!json_object_is_type(value, json_type_string))
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, param, "%s must be a string.", param);
	else if (!text.len)
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, param, "%s must not be empty.", param);
	else if (max && text.len > max)
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, param,
			      "%s must be at most %zu bytes long.", param, max);
	return admit_copy(n->arena, text);
}

static int64_t int_field(struct native *n, struct json_object *value, const char *param,
			 int64_t min, int64_t max)
{
	int64_t number = json_object_get_int64(value);

	if (!json_object_is_type(value, json_type_int) || number < min || number > max)
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, param,
			      "%s must be a whole number from %lld to %lld.", param, (long long)min,
			      (long long)max);
	return number;
}

static void kind_field(struct native *n, struct json_object *value)
{
	static const char *const later[] = {"transcribe", "voice", "grade", "regrade"};
	struct str kind = text_field(n, value, "kind", 0);

	n->job->kind = STR("chat");
	if (str_is(kind, "chat"))
		return;
	for (size_t i = 0; i < countof(later); i++) {
		if (str_is(kind, later[i]))
			admitted_fail(&n->a, FAULT_NOT_SUPPORTED, "kind",
				      "Jobs of kind \"%s\" are not supported yet.", later[i]);
	}
	admitted_fail(&n->a, FAULT_UNKNOWN_KIND, "kind", "There is no kind \"%.*s\" of job.",
		      STR_FMT(kind));
}

static void lane_field(struct native *n, struct json_object *value)
{
	admit_lane(n->job, text_field(n, value, "lane", 0), &n->a);
}

static void task_field(struct native *n, struct json_object *value)
{
	n->job->task = text_field(n, value, "task", NAME_MAX_BYTES);
}

static void model_field(struct native *n, struct json_object *value)
{
	n->job->model = text_field(n, value, "model", NAME_MAX_BYTES);
}

static void session_field(struct native *n, struct json_object *value)
{
	n->job->session = text_field(n, value, "session", 0);
	if (!id_is(n->job->session, "ses"))
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, "session",
			      "session must be an id that begins with ses_.");
}

static void user_field(struct native *n, struct json_object *value)
{
	n->job->user = text_field(n, value, "user", NAME_MAX_BYTES);
}

static void system_field(struct native *n, struct json_object *value)
{
	n->job->system = text_field(n, value, "system", 0);
	n->input_bytes += n->job->system.len;
}

static void message_check(struct native *n, size_t index, struct json_object *message, bool last)
{
	char param[64];
	bool role = false, content = false;

	snprintf(param, sizeof(param), "messages[%zu]", index);
	if (!json_object_is_type(message, json_type_object)) {
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, param, "%s must be an object.", param);
		return;
	}
	json_object_object_foreach(message, key, value)
	{
		struct str text = json_text(value);

		if (strcmp(key, "role") == 0) {
			role = true;
			snprintf(param, sizeof(param), "messages[%zu].role", index);
			if (!str_is(text, "user") && !str_is(text, "assistant"))
				admitted_fail(&n->a, FAULT_INVALID_REQUEST, param,
					      "%s must be \"user\" or \"assistant\".", param);
			else if (last && !str_is(text, "user"))
				admitted_fail(&n->a, FAULT_INVALID_REQUEST, param,
					      "%s: the last message must be the user's.", param);
		} else if (strcmp(key, "content") == 0) {
			content = true;
			snprintf(param, sizeof(param), "messages[%zu].content", index);
			text_field(n, value, param, 0);
			n->input_bytes += text.len;
		} else {
			snprintf(param, sizeof(param), "messages[%zu].%s", index, key);
			admitted_fail(&n->a, FAULT_UNKNOWN_FIELD, param, "%s is not a known field.",
				      param);
		}
	}
	snprintf(param, sizeof(param), "messages[%zu].%s", index, role ? "content" : "role");
	if (!role || !content)
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, param, "%s is missing.", param);
}

static void messages_field(struct native *n, struct json_object *value)
{
	size_t count;

	if (!json_object_is_type(value, json_type_array) || !json_object_array_length(value) ||
	    json_object_array_length(value) > MESSAGES_MAX) {
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, "messages",
			      "messages must be a list of 1 to %d messages.", MESSAGES_MAX);
		return;
	}
	count = json_object_array_length(value);
	for (size_t i = 0; i < count && n->a.fault == FAULT_NONE; i++)
		message_check(n, i, json_object_array_get_idx(value, i), i + 1 == count);
	n->job->messages = admit_raw(n->arena, value);
}

static void max_tokens_field(struct native *n, struct json_object *value)
{
	n->job->max_tokens = int_field(n, value, "max_tokens", 1, MAX_TOKENS_MAX);
}

static void temperature_field(struct native *n, struct json_object *value)
{
	double t = json_object_get_double(value);

	if ((!json_object_is_type(value, json_type_double) &&
	     !json_object_is_type(value, json_type_int)) ||
	    !(t >= 0 && t <= 2))
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, "temperature",
			      "temperature must be a number from 0 to 2.");
	n->job->temperature = t;
}

static void stream_field(struct native *n, struct json_object *value)
{
	if (!json_object_is_type(value, json_type_boolean))
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, "stream",
			      "stream must be true or false.");
	n->job->stream = json_object_get_boolean(value);
}

static void limits_field(struct native *n, struct json_object *value)
{
	if (!json_object_is_type(value, json_type_object)) {
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, "limits", "limits must be an object.");
		return;
	}
	json_object_object_foreach(value, key, limit)
	{
		char param[64];

		if (strcmp(key, "queue_ms") == 0) {
			n->job->queue_ms = int_field(n, limit, "limits.queue_ms", 1, QUEUE_MS_MAX);
		} else if (strcmp(key, "run_ms") == 0) {
			n->job->run_ms = int_field(n, limit, "limits.run_ms", 1, RUN_MS_MAX);
		} else {
			snprintf(param, sizeof(param), "limits.%s", key);
			admitted_fail(&n->a, FAULT_UNKNOWN_FIELD, param, "%s is not a known field.",
				      param);
		}
	}
}

static void on_cut_field(struct native *n, struct json_object *value)
{
	n->job->on_cut = text_field(n, value, "on_cut", 0);
	if (!str_is(n->job->on_cut, "restart") && !str_is(n->job->on_cut, "continue") &&
	    !str_is(n->job->on_cut, "fail"))
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, "on_cut",
			      "on_cut must be \"restart\", \"continue\" or \"fail\".");
}

static void metadata_field(struct native *n, struct json_object *value)
{
	if (!json_object_is_type(value, json_type_object))
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, "metadata",
			      "metadata must be an object.");
	n->job->metadata = admit_raw(n->arena, value);
	if (n->job->metadata.len > METADATA_MAX)
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, "metadata",
			      "metadata must be at most %d bytes of JSON.", METADATA_MAX);
}

/* Where a name leads is seen when it is called; what is plainly not allowed is said here. */
static void url_field(struct native *n, struct json_object *value)
{
	const struct config_webhooks *allowed = &n->config->webhooks;
	struct str text = text_field(n, value, "webhook.url", URL_MAX_BYTES);
	struct sockaddr_storage address;
	const char *why;
	struct url url;

	if (n->a.fault != FAULT_NONE)
		return;
	if (url_read(n->arena, text, &url, &why) != URL_OK)
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, "webhook.url", "webhook.url: %s.", why);
	else if (!url.https && !allowed->http)
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, "webhook.url",
			      "webhook.url: it must begin with https://.");
	else if (address_read(url.host, &address) &&
		 !address_public((const struct sockaddr *)&address) &&
		 !address_within((const struct sockaddr *)&address, str_of(allowed->networks)))
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, "webhook.url",
			      "webhook.url: this address is not a public one.");
}

static void webhook_field(struct native *n, struct json_object *value)
{
	if (!json_object_is_type(value, json_type_object)) {
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, "webhook",
			      "webhook must be an object.");
		return;
	}
	json_object_object_foreach(value, key, member)
	{
		char param[80];

		if (strcmp(key, "url") == 0) {
			url_field(n, member);
			continue;
		}
		snprintf(param, sizeof(param), "webhook.%s", key);
		admitted_fail(&n->a, FAULT_UNKNOWN_FIELD, param, "%s is not a known field.", param);
	}
	if (!json_str(value, "url").len)
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, "webhook.url",
			      "webhook.url is missing.");
	n->job->webhook = admit_raw(n->arena, value);
}

static void not_before_field(struct native *n, struct json_object *value)
{
	uint64_t wall_ms = 0;

	if (!json_object_is_type(value, json_type_string) ||
	    clock_parse(json_text(value), &wall_ms) != CLOCK_OK)
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, "not_before",
			      "not_before must be a time as in RFC 3339.");
	else if (wall_ms > n->now_wall_ms + NOT_BEFORE_MS_MAX)
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, "not_before",
			      "not_before must be within 30 days.");
	n->job->not_before_ms = (int64_t)wall_ms;
}

static const struct {
	const char *name;
	void (*read)(struct native *n, struct json_object *value);
} fields[] = {
    {"kind", kind_field},
    {"lane", lane_field},
    {"task", task_field},
    {"model", model_field},
    {"session", session_field},
    {"user", user_field},
    {"system", system_field},
    {"messages", messages_field},
    {"max_tokens", max_tokens_field},
    {"temperature", temperature_field},
    {"stream", stream_field},
    {"limits", limits_field},
    {"on_cut", on_cut_field},
    {"metadata", metadata_field},
    {"webhook", webhook_field},
    {"not_before", not_before_field},
};

static void read_field(struct native *n, const char *key, struct json_object *value)
{
	char param[80];

	for (size_t i = 0; i < countof(fields); i++) {
		if (strcmp(key, fields[i].name) == 0) {
			fields[i].read(n, value);
			return;
		}
	}
	snprintf(param, sizeof(param), "%s", key);
	admitted_fail(&n->a, FAULT_UNKNOWN_FIELD, param, "\"%s\" is not a known field.", param);
}

static const struct config_route *native_whole(struct native *n)
{
	struct job *job = n->job;

	if (!job->kind.len)
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, "kind", "kind is missing.");
	if (!job->messages.len)
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, "messages", "messages is missing.");
	if (job->task.len && job->model.len)
		admitted_fail(&n->a, FAULT_INVALID_REQUEST, "model",
			      "One of task or model names the route, not both.");
	if (!job->lane.len)
		admit_lane(job, STR(""), &n->a);
	if (!job->on_cut.len)
		job->on_cut = STR("restart");
	if (n->a.fault != FAULT_NONE)
		return NULL;
	if (!job->task.len && !job->model.len) {
		/* The session may name the task: known when its turn is taken. */
		if (!job->session.len)
			admitted_fail(&n->a, FAULT_INVALID_REQUEST, "task",
				      "One of task or model must name the route.");
		return NULL;
	}
	return admit_route(n->config, job, &n->a);
}

struct admitted admit_native_tree(const struct config *config, struct arena *arena,
				  struct json_object *body, struct str org, uint64_t now_wall_ms,
				  struct rand *rand, struct job *ret_job)
{
	struct native n = {.config = config,
			   .arena = arena,
			   .job = ret_job,
			   .now_wall_ms = now_wall_ms,
			   .a = admitted_good()};
	const struct config_route *route;

	codec_init(&codec_job, ret_job);
	admit_begin(ret_job, org, now_wall_ms, rand, arena);
	ret_job->dialect = STR("native");
	ret_job->stream = true;
	if (!json_object_is_type(body, json_type_object)) {
		admitted_fail(&n.a, FAULT_INVALID_REQUEST, "", "The body must be a JSON object.");
		return n.a;
	}
	json_object_object_foreach(body, key, value)
	{
		read_field(&n, key, value);
	}
	route = native_whole(&n);
	if (n.a.fault == FAULT_NONE)
		admit_finish(ret_job, route, n.input_bytes, now_wall_ms, arena);
	return n.a;
}

struct admitted admit_native(const struct config *config, struct arena *arena, struct str body,
			     struct str org, uint64_t now_wall_ms, struct rand *rand,
			     struct job *ret_job)
{
	cleanup_json struct json_object *tree = NULL;
	struct json_error error;
	struct admitted a = admitted_good();

	if (json_read(body, &tree, &error) != JSON_OK) {
		admitted_fail(&a, FAULT_INVALID_JSON, "", "The body is not valid JSON: %s.",
			      error.message);
		a.offset = (int64_t)error.offset;
		return a;
	}
	return admit_native_tree(config, arena, tree, org, now_wall_ms, rand, ret_job);
}
