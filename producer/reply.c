/* Answers and errors, in each dialect's shape. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/json.h"
#include "producer/front.h"

#define RETRY_MS 1000

int64_t error_retry_ms(enum fault fault)
{
	int status = fault_info(fault)->status;

	return status == 429 || status == 503 ? RETRY_MS : 0;
}

int error_status(enum dialect dialect, enum fault fault)
{
	/* An unknown model is a 404 where the SDKs look for one. */
	if (fault == FAULT_UNKNOWN_ROUTE && dialect != DIALECT_NATIVE)
		return 404;
	return fault_info(fault)->status;
}

static const char *native_type(int status)
{
	switch (status) {
	case 401:
		return "authentication";
	case 403:
		return "permission";
	case 404:
		return "not_found";
	case 409:
		return "conflict";
	case 429:
		return "rate_limit";
	default:
		return status < 500 ? "invalid_request" : "server_error";
	}
}

static const char *openai_type(int status)
{
	switch (status) {
	case 429:
		return "requests";
	case 503:
		return "service_unavailable_error";
	default:
		return status < 500 ? "invalid_request_error" : "server_error";
	}
}

static const char *anthropic_type(int status)
{
	switch (status) {
	case 401:
		return "authentication_error";
	case 402:
		return "billing_error";
	case 403:
		return "permission_error";
	case 404:
		return "not_found_error";
	case 409:
		return "conflict_error";
	case 413:
		return "request_too_large";
	case 429:
		return "rate_limit_error";
	case 503:
		return "overloaded_error";
	case 504:
		return "timeout_error";
	default:
		return status < 500 ? "invalid_request_error" : "api_error";
	}
}

const char *error_type(enum dialect dialect, int status)
{
	switch (dialect) {
	case DIALECT_NATIVE:
		return native_type(status);
	case DIALECT_OPENAI:
		return openai_type(status);
	case DIALECT_ANTHROPIC:
		return anthropic_type(status);
	}
	return "";
}

static const char *openai_code(enum fault fault)
{
	if (fault == FAULT_UNAUTHENTICATED)
		return "invalid_api_key";
	if (fault == FAULT_UNKNOWN_ROUTE)
		return "model_not_found";
	return fault_info(fault)->code;
}

/* A null where there is no text. */
static void put_or_null(struct json_out *o, const char *key, const char *text)
{
	json_put_text(o, key, text && text[0] ? text : NULL);
}

void error_body(struct buf *out, enum dialect dialect, const struct refusal *refusal,
		struct str request_id)
{
	struct json_out o = {.buf = out};
	const struct fault_info *info = fault_info(refusal->fault);
	const char *message = refusal->message ? refusal->message : info->text;
	const char *type = error_type(dialect, error_status(dialect, refusal->fault));

	json_open(&o, '{');
	if (dialect == DIALECT_ANTHROPIC)
		json_put_text(&o, "type", "error");
	json_key(&o, "error");
	json_open(&o, '{');
	json_put_text(&o, "type", type);
	json_put_text(&o, "message", message);
	if (dialect != DIALECT_ANTHROPIC) {
		json_put_text(&o, "code",
			      dialect == DIALECT_OPENAI ? openai_code(refusal->fault) : info->code);
		put_or_null(&o, "param", refusal->param);
	}
	if (dialect == DIALECT_NATIVE) {
		if (refusal->offset >= 0)
			json_put_int(&o, "offset", refusal->offset);
		else
			json_put_null(&o, "offset");
		if (refusal->job.len)
			json_put_str(&o, "job", refusal->job);
		json_put_str(&o, "request_id", request_id);
	}
	json_close(&o, '}');
	if (dialect == DIALECT_ANTHROPIC)
		json_put_str(&o, "request_id", request_id);
	json_close(&o, '}');
}

static void count(struct exchange *x, int status)
{
	struct front *front = x->front;
	const char *route = x->route ? x->route->pattern : "none";
	char text[8];

	snprintf(text, sizeof(text), "%d", status);
	series_add(metric_series(front->metric_requests, (const char *const[]){route, text}), 1);
	x->answered = true;
}

void exchange_answer(struct exchange *x, int status, const char *type, struct str body)
{
	struct front *front = x->front;

	count(x, status);
	series_observe_us(metric_one(front->metric_seconds, x->route ? x->route->pattern : "none"),
			  loop_fresh_us(front->loop) - http_received_us(x->req));
	http_reply(x->req, status, type, body);
}

void exchange_reply(struct exchange *x, int status, struct buf *body)
{
	exchange_answer(x, status, "application/json", buf_str(body));
	buf_fini(body);
}

void exchange_refuse(struct exchange *x, const struct refusal *refusal)
{
	struct buf body = {0};
	int64_t retry_ms = error_retry_ms(refusal->fault);
	char text[24];

	error_body(&body, x->dialect, refusal, str_of(x->id));
	if (retry_ms) {
		snprintf(text, sizeof(text), "%" PRId64, (retry_ms + 999) / 1000);
		http_add_field(x->req, "retry-after", str_of(text));
		snprintf(text, sizeof(text), "%" PRId64, retry_ms);
		http_add_field(x->req, "retry-after-ms", str_of(text));
	}
	if (refusal->job.len)
		http_add_field(x->req, "x-sluice-job", refusal->job);
	exchange_reply(x, error_status(x->dialect, refusal->fault), &body);
}

void exchange_fault(struct exchange *x, enum fault fault, const char *message)
{
	struct refusal refusal = {.fault = fault, .message = message, .offset = -1};

	exchange_refuse(x, &refusal);
}

void exchange_stream(struct exchange *x)
{
	count(x, 200);
	x->streaming = true;
	http_add_field(x->req, "cache-control", STR("no-cache"));
	http_add_field(x->req, "x-accel-buffering", STR("no"));
	http_stream_begin(x->req, 200, "text/event-stream; charset=utf-8");
}

bool exchange_write(struct exchange *x, struct str bytes)
{
	return http_stream_write(x->req, bytes);
}

void exchange_end(struct exchange *x)
{
	http_stream_end(x->req);
}
