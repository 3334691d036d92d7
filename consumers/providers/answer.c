#include "consumers/providers/answer.h"

#include <math.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/json_mend.h"
#include "lib/base/mem.h"

#define PROVIDER(name) extern const struct provider provider_##name;
#include "consumers/providers/registry.def"
#undef PROVIDER

static const struct provider *const registry[] = {
#define PROVIDER(name) &provider_##name,
#include "consumers/providers/registry.def"
#undef PROVIDER
};

const struct provider *provider_at(size_t index)
{
	return index < countof(registry) ? registry[index] : NULL;
}

const struct provider *provider_find(struct str name)
{
	for (size_t i = 0; i < countof(registry); i++)
		if (str_is(name, registry[i]->name))
			return registry[i];
	return NULL;
}

const char *charge_unit_name(enum charge_unit unit)
{
	static const char *const names[CHARGE_UNITS] = {"requests", "input_tokens", "output_tokens",
							"tokens"};

	return names[unit];
}

void answer_rate(struct answer *a, enum charge_unit unit, bool limit, struct str value)
{
	struct provider_rates *rates = &a->outcome.rates;
	uint64_t n;

	if (!str_u64(value, &n) || n > INT64_MAX / 2)
		return;
	rates->said = true;
	(limit ? rates->limit : rates->remaining)[unit] = (int64_t)n;
}

/* No limit of a minute or a day takes longer to be full. */
#define RESET_MAX_MS (86400 * UINT64_C(1000))

static void reset_in(struct answer *a, enum charge_unit unit, uint64_t ms)
{
	if (ms <= RESET_MAX_MS)
		a->outcome.rates.reset_ms[unit] = (int64_t)ms;
}

void answer_reset_in(struct answer *a, enum charge_unit unit, struct str value)
{
	uint64_t us;

	if (clock_parse_go(value, &us) == CLOCK_OK)
		reset_in(a, unit, (us + US_PER_MS - 1) / US_PER_MS);
}

void answer_reset_at(struct answer *a, enum charge_unit unit, struct str value)
{
	if (clock_parse(value, &a->reset_at_ms[unit]) != CLOCK_OK)
		a->reset_at_ms[unit] = 0;
}

/* By the vendor's own clock, where the answer shows it. */
static void read_resets(struct answer *a, uint64_t now_ms)
{
	for (int u = 0; u < CHARGE_UNITS; u++)
		if (a->reset_at_ms[u])
			reset_in(a, (enum charge_unit)u,
				 a->reset_at_ms[u] > now_ms ? a->reset_at_ms[u] - now_ms : 0);
}

int64_t provider_refill_ms(const struct provider_rates *rates, const struct charge *charge)
{
	int64_t longest = -1;

	for (int u = 0; u < CHARGE_UNITS; u++) {
		int64_t limit = rates->limit[u], left = rates->remaining[u];
		int64_t need = u == CHARGE_OUTPUT ? 1 : charge->unit[u];
		double ms = (double)rates->reset_ms[u];

		if (limit > 0 && need > limit)
			need = limit;
		if (left < 0 || ms < 0 || need <= left)
			continue;
		if (limit > 0) /* it flows in evenly */
			ms = ceil(ms * (double)(need - left) / (double)(limit - left));
		if (ms > PROVIDER_RETRY_AFTER_MAX_MS)
			ms = PROVIDER_RETRY_AFTER_MAX_MS;
		if ((int64_t)ms > longest)
			longest = (int64_t)ms;
	}
	return longest;
}

int64_t answer_count(struct answer *a, struct json_object *usage, const char *key,
		     int64_t otherwise)
{
	int64_t count = json_int(usage, key, otherwise);

	if (count >= 0 && count <= PROVIDER_TOKENS_MAX)
		return count;
	a->outcome.usage.odd = true;
	return count < 0 ? 0 : PROVIDER_TOKENS_MAX;
}

void provider_request_fini(struct provider_request *request)
{
	if (request->secret.data)
		mem_wipe(request->secret.data, request->secret.cap);
	buf_fini(&request->secret);
	buf_fini(&request->body);
}

/* The other half did not come. */
static void put_half(struct answer *a)
{
	if (!a->half)
		return;
	a->half = 0;
	a->outcome.begun = true;
	a->sink.text(a->sink.ctx, STR("\xEF\xBF\xBD"));
}

static void on_event(void *ctx, struct str event, struct str data)
{
	struct answer *a = ctx;

	a->outcome.events++;
	if (!a->over)
		a->ops->event(a, event, data);
	if (a->half_next && !a->over) {
		put_half(a);
		a->half = a->half_next;
		a->half_next = 0;
	}
	if (a->over)
		sse_stop(&a->sse);
}

static void init(struct answer *a, const struct answer_ops *ops, const struct answer_sink *sink)
{
	a->ops = ops;
	a->sink = *sink;
	a->outcome = (struct answer_outcome){.retry_after_ms = -1, .finish_reason = ""};
	for (int u = 0; u < CHARGE_UNITS; u++)
		a->outcome.rates.limit[u] = a->outcome.rates.remaining[u] =
		    a->outcome.rates.reset_ms[u] = -1;
	sse_init(&a->sse, ANSWER_EVENT_MAX, on_event, a);
}

struct answer *answer_open(const struct answer_ops *ops, const struct answer_sink *sink)
{
	struct answer *a = mem_new(struct answer);

	init(a, ops, sink);
	return a;
}

void answer_free(struct answer *a)
{
	if (!a)
		return;
	sse_fini(&a->sse);
	quick_fini(&a->quick);
	parts_fini(&a->parts);
	buf_fini(&a->body);
	buf_fini(&a->scratch);
	mem_free(a);
}

const struct answer_outcome *answer_outcome(const struct answer *a)
{
	return &a->outcome;
}

void answer_fail(struct answer *a, enum fault fault, struct str message)
{
	if (a->over)
		return;
	a->over = true;
	a->outcome.fault = fault;
	a->outcome.message = str_utf8_clean(message, a->message, sizeof(a->message));
}

void answer_done(struct answer *a)
{
	if (a->over)
		return;
	parts_end(a);
	put_half(a);
	a->over = true;
	a->outcome.complete = true;
}

void answer_text(struct answer *a, struct str text)
{
	if (!text.len || a->over)
		return;
	a->outcome.begun = true;
	put_half(a);
	a->sink.text(a->sink.ctx, text);
}

void answer_part(struct answer *a, const char *type, struct str id, struct str name)
{
	if (a->over)
		return;
	if (id.len > PROVIDER_PART_ID_MAX || name.len > PROVIDER_PART_NAME_MAX) {
		answer_fail(a, FAULT_PROVIDER_MALFORMED,
			    STR("a part of the answer has an id or a name that is too long"));
		return;
	}
	if (!a->part_any && strcmp(type, "text") == 0 && !a->outcome.begun)
		return; /* all text so far: an answer without parts */
	put_half(a);
	a->part_any = true;
	a->outcome.begun = true;
	a->sink.part(a->sink.ctx, type, id, name);
}

/* What our own reader refuses of valid JSON is made readable: a vendor may cut his text anywhere, and the next event goes on with
 * the character's other half. */
static bool read_mended(struct answer *a, struct str data, struct json_object **ret_tree)
{
	struct json_halves halves = {.before = a->half};
	struct json_error error;
	struct buf mended = {0};
	bool good;

	json_mend(data, &mended, &halves);
	good = !json_read(buf_str(&mended), ret_tree, &error);
	buf_fini(&mended);
	if (good && halves.joined)
		a->half = 0;
	if (good)
		a->half_next = halves.behind;
	return good;
}

struct json_object *answer_json(struct answer *a, struct str data)
{
	struct json_object *tree = NULL;
	struct json_error error;

	if (json_read(data, &tree, &error) && !read_mended(a, data, &tree)) {
		answer_fail(a, FAULT_PROVIDER_MALFORMED, STR("an event of the answer is not JSON"));
		return NULL;
	}
	if (json_object_get_type(tree) != json_type_object) {
		json_object_put(tree);
		answer_fail(a, FAULT_PROVIDER_MALFORMED,
			    STR("an event of the answer is no object"));
		return NULL;
	}
	return tree;
}

enum fault answer_status_fault(int status)
{
	switch (status) {
	case 401:
		return FAULT_PROVIDER_AUTH;
	case 403:
		return FAULT_PROVIDER_DENIED;
	case 402:
		return FAULT_PROVIDER_QUOTA;
	case 413:
		return FAULT_PROVIDER_TOO_BIG;
	case 429:
		return FAULT_PROVIDER_RATE;
	case 408:
	case 409:
		return FAULT_PROVIDER_OVERLOADED;
	default:
		return status >= 400 && status < 500 ? FAULT_PROVIDER_BAD_REQUEST
						     : FAULT_PROVIDER_OVERLOADED;
	}
}

/* What the head says of when to come again. */
struct retry_said {
	int64_t fine_ms;  /* retry-after-ms; -1: not said */
	int64_t ms;	  /* retry-after in seconds; -1: not said */
	uint64_t at_ms;	  /* or as a date; 0: not said */
	uint64_t date_ms; /* the answer's own; 0: not said */
};

static int64_t retry_capped(uint64_t ms)
{
	return ms < PROVIDER_RETRY_AFTER_MAX_MS ? (int64_t)ms : PROVIDER_RETRY_AFTER_MAX_MS;
}

/* "8000.5" of a unit of which @per_s make a second. What has more digits than fit is the longest. */
static bool read_decimal(struct str value, uint64_t per_s, int64_t *ret_ms)
{
	size_t digits = 0, points = 0;
	uint64_t us;

	for (size_t i = 0; i < value.len; i++) {
		digits += value.ptr[i] >= '0' && value.ptr[i] <= '9';
		points += value.ptr[i] == '.';
	}
	if (!digits || points > 1 || digits + points < value.len)
		return false;
	*ret_ms = PROVIDER_RETRY_AFTER_MAX_MS;
	if (clock_parse_go(value, &us) == CLOCK_OK)
		*ret_ms = retry_capped((us / per_s + US_PER_MS - 1) / US_PER_MS);
	return true;
}

static void read_retry_after(struct retry_said *said, struct str name, struct str value)
{
	uint64_t us;

	if (str_is(name, "retry-after-ms"))
		(void)read_decimal(value, 1000, &said->fine_ms);
	else if (!read_decimal(value, 1, &said->ms) && clock_parse_go(value, &us) == CLOCK_OK)
		said->ms = retry_capped(us / US_PER_MS);
	else if (said->ms < 0 && clock_parse_http(value, &said->at_ms) != CLOCK_OK)
		said->at_ms = 0;
}

/* The finest word counts; a date from the provider's own clock where it shows that. */
static int64_t retry_after_ms(const struct retry_said *said, uint64_t wall_ms)
{
	uint64_t from_ms = said->date_ms ? said->date_ms : wall_ms;

	if (said->fine_ms >= 0)
		return said->fine_ms;
	if (said->ms >= 0 || !said->at_ms)
		return said->ms;
	return said->at_ms > from_ms ? retry_capped(said->at_ms - from_ms) : 0;
}

/* A media type's case says nothing, and parameters may stand behind it. */
static bool is_event_stream(struct str type)
{
	struct str media;

	return str_split(&type, ';', &media) && str_is_nocase(str_trim(media), "text/event-stream");
}

void answer_head(struct answer *a, int status, const struct http_field *fields, size_t count,
		 uint64_t wall_ms)
{
	struct retry_said retry = {.fine_ms = -1, .ms = -1};
	struct str type = STR("");

	a->status = status;
	for (size_t i = 0; i < count; i++) {
		struct str name = fields[i].name, value = fields[i].value;

		if (str_is(name, "request-id") || str_is(name, "x-request-id")) {
			a->outcome.request_id =
			    str_utf8_clean(value, a->request_id, sizeof(a->request_id));
		} else if (str_starts(name, "retry-after")) {
			read_retry_after(&retry, name, value);
		} else if (str_is(name, "date")) {
			if (clock_parse_http(value, &retry.date_ms) != CLOCK_OK)
				retry.date_ms = 0;
		} else if (str_is(name, "content-type")) {
			type = value;
		} else if (a->ops->field) {
			a->ops->field(a, name, value);
		}
	}
	a->outcome.retry_after_ms = retry_after_ms(&retry, wall_ms);
	read_resets(a, retry.date_ms ? retry.date_ms : wall_ms);
	if (status == 200 && !is_event_stream(type))
		answer_fail(a, FAULT_PROVIDER_MALFORMED, STR("the answer is no event stream"));
}

static void refuse(struct answer *a, struct json_object *body)
{
	a->ops->error(a, a->status, body);
	answer_fail(a, answer_status_fault(a->status), STR("the provider refused the request"));
}

/* The refusal's body where it is whole; NULL: it is not, or is no JSON. The caller puts it. */
static struct json_object *refusal(const struct answer *a)
{
	struct json_object *body = NULL;
	struct json_halves halves = {0};
	struct json_error error;
	struct buf mended = {0};

	json_mend(buf_str(&a->body), &mended, &halves);
	if (json_read(buf_str(&mended), &body, &error))
		body = NULL;
	buf_fini(&mended);
	return body;
}

void answer_data(struct answer *a, struct str bytes)
{
	if (a->over)
		return;
	if (a->status == 200) {
		if (sse_feed(&a->sse, bytes))
			answer_fail(a, FAULT_PROVIDER_MALFORMED,
				    STR("an event of the answer is too large"));
		return;
	}
	if (bytes.len > ANSWER_ERROR_MAX - a->body.len)
		refuse(a, NULL); /* no vendor's words: the status says it */
	else
		buf_add_str(&a->body, bytes);
}

void answer_local(struct answer *a)
{
	answer_text(a, STR("done"));
	a->outcome.finish_reason = "stop";
	a->outcome.usage.output_tokens = 1;
	answer_done(a);
}

bool answer_hasten(struct answer *a)
{
	cleanup_json struct json_object *body = NULL;

	if (a->over || a->status == 200)
		return a->over;
	body = refusal(a);
	if (!body && answer_status_fault(a->status) == FAULT_PROVIDER_BAD_REQUEST)
		return false;
	refuse(a, body);
	return true;
}

void answer_end(struct answer *a)
{
	cleanup_json struct json_object *body = NULL;

	if (a->over)
		return;
	if (a->status == 200) {
		sse_finish(&a->sse);
		if (!a->over && a->ops->end)
			a->ops->end(a);
		answer_fail(a, FAULT_PROVIDER_CUT, STR("the answer ended before it was complete"));
		return;
	}
	body = refusal(a);
	refuse(a, body);
}
