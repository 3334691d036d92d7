#include "consumers/push/expiry.h"

#include "consumers/push/session.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/store/pg.h"

struct expiry {
	struct push *push;
	struct timer timer;
	struct pg_request *request;
	struct map asked; /* ids of keys, -> the expiry */
};

static void again(struct expiry *x)
{
	uint64_t ms = x->push->options->credentials_ms;

	map_fini(&x->asked);
	x->asked = (struct map){0};
	timer_set(&x->timer,
		  (ms - ms / 8 + rand_below(loop_rand(x->push->loop), ms / 4 + 1)) * US_PER_MS);
}

static bool open_by_key(const struct session *s)
{
	return sm_state(&s->sm) == SESSION_OPEN && s->who.key[0];
}

static void on_keys(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct expiry *x = ctx;

	x->request = NULL;
	if (result != PG_OK) {
		again(x);
		return;
	}
	for (size_t i = 0; i < pg_count(rows); i++)
		map_take(&x->asked, pg_text(rows, i, 0));
	/* What is left holds no more. Closing takes no session out of the list. */
	if (x->asked.count)
		list_each (&x->push->sessions, link) {
			struct session *s = container_of(link, struct session, link);

			if (open_by_key(s) && map_find(&x->asked, str_of(s->who.key)))
				session_close(s, CLOSE_EXPIRED, "the key holds no more");
		}
	again(x);
}

static void on_timer(struct timer *t)
{
	struct expiry *x = container_of(t, struct expiry, timer);
	struct buf ids = {0};

	list_each (&x->push->sessions, link) {
		const struct session *s = container_of(link, struct session, link);

		if (!open_by_key(s) || map_find(&x->asked, str_of(s->who.key)))
			continue;
		map_set(&x->asked, str_of(s->who.key), x);
		buf_printf(&ids, "%c\"%s\"", ids.len ? ',' : '{', s->who.key);
	}
	if (ids.len) {
		buf_add_char(&ids, '}');
		x->request = pg_query(x->push->pg,
				      "SELECT id FROM api_keys WHERE id = ANY($1::text[]) "
				      "AND revoked_at IS NULL",
				      (const struct str[]){buf_str(&ids)}, 1, on_keys, x);
	} else {
		again(x);
	}
	buf_fini(&ids);
}

struct expiry *expiry_new(struct push *push)
{
	struct expiry *x = mem_new(struct expiry);

	x->push = push;
	timer_init(&x->timer, push->loop, on_timer);
	again(x);
	return x;
}

void expiry_free(struct expiry *x)
{
	if (!x)
		return;
	timer_stop(&x->timer);
	pg_cancel(x->request);
	map_fini(&x->asked);
	mem_free(x);
}
