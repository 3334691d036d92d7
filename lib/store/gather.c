#include "lib/store/gather.h"

#include "lib/base/buf.h"
#include "lib/base/mem.h"

/* A statement on its way, and who asked for it and still does. */
struct batch {
	struct list link;
	struct gather *gather;
	struct list asks;
	struct pg_request *request;
};

static void batch_free(struct batch *b)
{
	must(list_empty(&b->asks));
	pg_cancel(b->request);
	list_remove(&b->link);
	b->gather->batch_count--;
	mem_free(b);
}

static void on_answer(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct batch *b = ctx;
	struct gather *g = b->gather;
	size_t row = 0, all = result == PG_OK ? pg_count(rows) : 0;
	struct gather_ask *ask;

	b->request = NULL;
	while ((ask = list_pop_front(&b->asks, struct gather_ask, link))) {
		size_t first;

		while (row < all && pg_int(rows, row, 0, 0) < (int64_t)ask->number)
			row++; /* who asked for it is gone */
		first = row;
		while (row < all && pg_int(rows, row, 0, 0) == (int64_t)ask->number)
			row++;
		g->kind->done(ask, result, rows, first, row - first);
	}
	batch_free(b);
	if (!list_empty(&g->waiting))
		task_post(&g->send);
}

/* The first that wait, as many as one statement takes. */
static void fill(struct batch *b, struct buf *list)
{
	const struct gather_kind *kind = b->gather->kind;
	struct gather_ask *ask;
	uint64_t weight = 0;
	size_t count = 0;

	buf_add_char(list, kind->open);
	while (count < kind->most && (!kind->weight || weight < kind->most_weight) &&
	       (ask = list_pop_front(&b->gather->waiting, struct gather_ask, link))) {
		list_push_back(&b->asks, &ask->link);
		ask->number = ++count;
		if (kind->weight)
			weight += kind->weight(ask);
		if (count > 1)
			buf_add_char(list, ',');
		kind->put(ask, list);
	}
	buf_add_char(list, kind->close);
}

static void send_batch(struct gather *g)
{
	struct batch *b = mem_new(struct batch);
	struct buf list = {0}, second = {0};

	b->gather = g;
	list_init(&b->asks);
	list_push_back(&g->batches, &b->link);
	g->batch_count++;
	fill(b, &list);
	if (g->kind->second)
		buf_add_u64(&second, g->kind->second(g->ctx));
	b->request =
	    pg_query(g->pg, g->kind->sql, (const struct str[]){buf_str(&list), buf_str(&second)},
		     g->kind->second ? 2 : 1, on_answer, b);
	buf_fini(&list);
	buf_fini(&second);
}

static void on_send(struct task *t)
{
	struct gather *g = container_of(t, struct gather, send);

	while (!list_empty(&g->waiting) && g->batch_count < GATHER_SENT)
		send_batch(g);
}

void gather_init(struct gather *g, struct loop *loop, struct pg *pg, const struct gather_kind *kind,
		 void *ctx)
{
	g->pg = pg;
	g->ctx = ctx;
	g->kind = kind;
	list_init(&g->waiting);
	list_init(&g->batches);
	task_init(&g->send, loop, on_send);
}

void gather_fini(struct gather *g)
{
	struct batch *b;

	must(list_empty(&g->waiting));
	task_cancel(&g->send);
	while ((b = list_first(&g->batches, struct batch, link)))
		batch_free(b);
}

void gather_add(struct gather *g, struct gather_ask *ask)
{
	list_push_back(&g->waiting, &ask->link);
	task_post(&g->send);
}

void gather_cancel(struct gather_ask *ask)
{
	list_remove(&ask->link);
}

bool gather_asks(const struct gather_ask *ask)
{
	return list_linked(&ask->link);
}
