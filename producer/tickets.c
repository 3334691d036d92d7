/* POST /v1/tickets: a ticket for a browser, good once, for a minute, for one session (lib/identity/ticket.h). */
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/identity/ticket.h"
#include "producer/admit.h"
#include "producer/front.h"
#include "producer/idem.h"
#include "producer/session_standing.h"

struct issue {
	struct exchange *x;
	struct str session; /* in the request's arena */
	struct session_standing *standing;
	struct redis_request *request;
	struct idem idem;
	bool keyed;
	int status;
	char ticket[TICKET_SIZE];
	struct buf reply;
};

static void issue_drop(void *work, bool left)
{
	struct issue *i = work;

	(void)left;
	if (i->request)
		redis_cancel(i->request);
	session_standing_cancel(i->standing);
	mem_wipe(i->ticket, sizeof(i->ticket));
	buf_fini(&i->reply);
	mem_free(i);
}

static void on_kept(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct issue *i = ctx;

	(void)result;
	(void)value;
	i->request = NULL;
	exchange_reply(i->x, i->status, &i->reply);
}

static void keep(struct issue *i, int status)
{
	struct exchange *x = i->x;

	i->status = status;
	if (i->keyed)
		i->request = idem_end(x->front->redis, &i->idem, str_of(x->who.org), i->session,
				      status, buf_str(&i->reply), on_kept, i);
	else
		exchange_reply(x, status, &i->reply);
}

/* Nothing was given out. A refusal that stays is kept; after another the key is free again. */
static void failed(struct issue *i, enum fault fault, const char *message)
{
	struct refusal refusal = {.fault = fault, .message = message, .offset = -1};
	struct exchange *x = i->x;
	int status = error_status(x->dialect, fault);

	if (i->keyed && idem_keeps(status)) {
		error_body(&i->reply, x->dialect, &refusal, str_of(x->id));
		keep(i, status);
		return;
	}
	if (i->keyed)
		idem_end(x->front->redis, &i->idem, str_of(x->who.org), i->session, 0, STR(""),
			 NULL, NULL);
	exchange_refuse(x, &refusal);
}

static void on_issued(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct issue *i = ctx;
	struct exchange *x = i->x;
	struct json_out o = {.buf = &i->reply};

	i->request = NULL;
	if (result != REDIS_OK || value->type != REDIS_STATUS) {
		failed(i, FAULT_UNAVAILABLE, NULL);
		return;
	}
	json_open(&o, '{');
	json_put_text(&o, "ticket", i->ticket);
	json_put_time(&o, "expires_at", x->wall_ms + TICKET_TTL_MS);
	json_close(&o, '}');
	http_add_field(x->req, "cache-control", STR("no-store"));
	keep(i, 201);
}

static void on_standing(void *ctx, enum standing standing, const struct session_row *row)
{
	struct issue *i = ctx;
	struct ticket ticket = {.who = i->x->who};

	(void)row;
	i->standing = NULL;
	switch (standing) {
	case STANDING_OPEN:
		memcpy(ticket.session, i->session.ptr, i->session.len);
		ticket_make(i->ticket);
		i->request =
		    ticket_issue(i->x->front->redis, str_of(i->ticket), &ticket, on_issued, i);
		return;
	case STANDING_NONE:
		failed(i, FAULT_NOT_FOUND, "There is no such session.");
		return;
	case STANDING_UNSURE:
		failed(i, FAULT_STATE_UNKNOWN, NULL);
		return;
	}
}

static void issue(struct issue *i)
{
	struct exchange *x = i->x;

	i->standing = session_standing_open(x->front->redis, x->front->pg, i->session,
					    str_of(x->who.org), x->wall_ms, on_standing, i);
}

static void on_idem(void *ctx, const struct idem_answer *answer)
{
	struct issue *i = ctx;

	i->request = NULL;
	switch (answer->verdict) {
	case IDEM_NEW:
	case IDEM_PENDING:
		i->keyed = true;
		issue(i);
		return;
	case IDEM_DONE:
		http_add_field(i->x->req, "idempotent-replayed", STR("true"));
		http_add_field(i->x->req, "cache-control", STR("no-store"));
		buf_add_str(&i->reply, answer->reply);
		exchange_reply(i->x, answer->status, &i->reply);
		return;
	case IDEM_CONFLICT:
		exchange_fault(i->x, FAULT_CONFLICT,
			       "The Idempotency-Key was used for another body.");
		return;
	case IDEM_UNSURE:
		exchange_fault(i->x, FAULT_UNAVAILABLE, NULL);
		return;
	}
}

static void read_fields(struct issue *i, struct json_object *tree, struct admitted *a)
{
	json_object_object_foreach(tree, key, value)
	{
		struct str text = json_text(value);

		if (strcmp(key, "session") != 0)
			admitted_fail(a, FAULT_UNKNOWN_FIELD, key, "\"%s\" is not a known field.",
				      key);
		else if (id_is(text, "ses"))
			i->session = admit_copy(http_arena(i->x->req), text);
		else
			admitted_fail(a, FAULT_INVALID_REQUEST, key,
				      "session must be the id of a session.");
	}
	if (!i->session.len)
		admitted_fail(a, FAULT_INVALID_REQUEST, "session", "session is missing.");
}

static struct admitted admit(struct issue *i)
{
	cleanup_json struct json_object *tree = NULL;
	struct json_error error;
	struct admitted a = admitted_good();

	if (json_read(http_body(i->x->req), &tree, &error) != JSON_OK) {
		admitted_fail(&a, FAULT_INVALID_JSON, "", "The body is not valid JSON: %s.",
			      error.message);
		a.offset = (int64_t)error.offset;
	} else if (!json_object_is_type(tree, json_type_object)) {
		admitted_fail(&a, FAULT_INVALID_REQUEST, "", "The body must be a JSON object.");
	} else {
		read_fields(i, tree, &a);
	}
	return a;
}

void tickets_create(struct exchange *x)
{
	struct issue *i = mem_new(struct issue);
	struct str key = http_field(x->req, "idempotency-key");
	struct admitted a;

	i->x = x;
	x->work = i;
	x->drop = issue_drop;
	a = admit(i);
	idem_admit(x, &a);
	if (a.fault != FAULT_NONE) {
		struct refusal refusal = {
		    .fault = a.fault, .message = a.message, .param = a.param, .offset = a.offset};

		x->work = NULL;
		x->drop = NULL;
		issue_drop(i, false);
		idem_refuse(x, &refusal);
		return;
	}
	if (key.len)
		i->request =
		    idem_begin(x->front->redis, &i->idem, str_of(x->who.org), x->route->pattern,
			       key, http_body(x->req), i->session, on_idem, i);
	else
		issue(i);
}
