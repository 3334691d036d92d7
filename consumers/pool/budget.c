#include "consumers/pool/budget.h"

#include <stdio.h>
#include <string.h>

#include "consumers/pool/budget_impl.h"
#include "lib/base/buf.h"
#include "lib/base/mem.h"
#include "lib/base/metric.h"
#include "lib/base/plant.h"
#include "schemas/scripts.h"

#define AGAIN_US (50 * US_PER_MS)
/* Positions are told at most four times a second. */
#define LOOK_US (250 * US_PER_MS)
/* Looked at in one go: 128 cost the script about half a millisecond; the others are next. */
#define LOOKS 128
#define BEAT_US (3 * US_PER_S)
/* A call that goes on longer makes its output later: it counts from then. */
#define HOLD_US (20 * US_PER_S)
/* What is said of the provider's limits is passed on so often. */
#define LEARN_US (250 * US_PER_MS)
#define LEAVE_US (1 * US_PER_S)
/* Instead of a time: the members are to be listed. */
#define SOMEBODY_CAME (-2)
/* interactive, high, background */
#define SHARES STR("950 900 800")

/* ── numbers ── */

static void number(const struct budget *b, struct metric *metric, const struct charge *c, bool set)
{
	for (int u = 0; metric && u < CHARGE_UNITS; u++) {
		struct series *s;

		if (!b->in_force.unit[u])
			continue;
		s = metric_series(
		    metric, (const char *const[]){b->name, charge_unit_name((enum charge_unit)u)});
		if (set)
			series_set(s, (double)c->unit[u]);
		else
			series_add(s, (double)c->unit[u]);
	}
}

static void number_waiting(const struct budget *b)
{
	if (b->all->metrics.waiting)
		series_set(metric_one(b->all->metrics.waiting, b->name), (double)b->waiting_count);
}

/* ── operations ── */

static struct budget_op *op_add(struct budget *b, enum budget_op_kind kind, const char *id)
{
	struct budget_op *op = mem_new(struct budget_op);

	op->kind = kind;
	snprintf(op->id, sizeof(op->id), "%s", id);
	op->born_us = loop_now_us(b->all->loop);
	list_push_back(&b->ops, &op->link);
	task_post(&b->flush);
	return op;
}

/* Nobody hears the answers to this one any more; a question of its own is taken back. */
static void unhear(struct list *ops, const struct reservation *r)
{
	list_each (ops, at) {
		struct budget_op *op = container_of(at, struct budget_op, link);

		if (op->r == r)
			op->r = NULL;
	}
}

static void asks(struct reservation *r, enum budget_op_kind kind)
{
	op_add(r->budget, kind, r->id)->r = r;
	r->asked = true;
}

/* In time's order, so that those who came first are first among equals. */
static void name_it(struct reservation *r)
{
	struct budgets *all = r->budget->all;

	map_take(&r->budget->by_id, str_of(r->id));
	snprintf(r->id, sizeof(r->id), "%011llx%08llx",
		 (unsigned long long)(loop_wall_ms(all->loop) & UINT64_C(0xfffffffffff)),
		 (unsigned long long)(rand_u64(loop_rand(all->loop)) & UINT32_MAX));
	map_set(&r->budget->by_id, str_of(r->id), r);
}

/* Whatever was asked before is answered. */
static void hears_no_more(struct reservation *r)
{
	unhear(&r->budget->ops, r);
	unhear(&r->budget->sent, r);
	r->asked = false;
}

static void stand(struct reservation *r, enum reservation_state state)
{
	struct budget *b = r->budget;

	if (r->state == RESERVATION_WAITING)
		b->waiting_count--;
	list_remove(&r->link);
	r->state = state;
	switch (state) {
	case RESERVATION_NONE:
		map_take(&b->by_id, str_of(r->id));
		hears_no_more(r);
		r->budget = NULL;
		break;
	case RESERVATION_WAITING:
		list_push_back(&b->waiting, &r->link);
		b->waiting_count++;
		if (!timer_is_set(&b->look))
			timer_set(&b->look, LOOK_US);
		break;
	case RESERVATION_OURS:
		list_push_back(&b->open, &r->link);
		break;
	case RESERVATION_ASKING:
		break;
	}
	if (!timer_is_set(&b->beat))
		timer_set(&b->beat, BEAT_US);
	number_waiting(b);
}

/* ── what the script answered ── */

static void ask_anew(struct reservation *r)
{
	hears_no_more(r);
	stand(r, RESERVATION_ASKING);
	name_it(r);
	asks(r, OP_ASK);
}

static void is_ours(struct reservation *r)
{
	struct budget *b = r->budget;

	hears_no_more(r);
	if (loop_now_us(b->all->loop) - b->sent_us > BUDGET_TAKE_US) {
		/* This process stood still: the provider would count the call in another window. */
		op_add(b, OP_BACK, r->id);
		ask_anew(r);
		return;
	}
	r->reserved_us = r->output_us = b->sent_us;
	stand(r, RESERVATION_OURS);
	number(b, b->all->metrics.reserved, &r->charge, false);
	r->heard(r->ctx, BUDGET_OURS);
}

/* Until the head may go, and what those before take of the narrowest limit. */
static int64_t estimate(const struct budget *b, const struct charge *c, int64_t before)
{
	double most = 0;

	for (int u = 0; u < CHARGE_UNITS; u++)
		if (b->in_force.unit[u] > 0 &&
		    (double)c->unit[u] / (double)b->in_force.unit[u] > most)
			most = (double)c->unit[u] / (double)b->in_force.unit[u];
	return (b->next_ms > 0 ? b->next_ms : 0) +
	       (int64_t)(most * (double)before * (double)(BUDGET_WINDOW_US / US_PER_MS));
}

int64_t budget_expect_ms(const struct budget *b, const struct charge *charge)
{
	return estimate(b, charge, b->line);
}

static void waits(struct reservation *r, struct str rank, struct str tag)
{
	int64_t position = 0, before = r->position, estimate_before = r->estimate_ms;
	const struct budget *b = r->budget;

	if (!str_i64(rank, &position) || !str_i64(tag, &r->tag))
		return;
	position++;
	if (!r->position || position < r->position)
		r->position = position;
	r->estimate_ms = estimate(b, &r->charge, position - 1);
	if (r->state != RESERVATION_WAITING)
		stand(r, RESERVATION_WAITING);
	if (r->position != before || r->estimate_ms != estimate_before)
		r->heard(r->ctx, BUDGET_MOVED);
}

static void hears(struct reservation *r, struct str answer)
{
	struct str word;

	r->asked = false;
	if (!str_split(&answer, ' ', &word))
		word = answer;
	if (str_is(word, "o")) {
		is_ours(r);
	} else if (str_is(word, "w")) {
		struct str rank = STR("");

		str_split(&answer, ' ', &rank);
		waits(r, rank, answer);
	} else if (str_is(word, "s") || str_is(word, "n")) {
		stand(r, RESERVATION_NONE);
		r->heard(r->ctx, str_is(word, "s") ? BUDGET_SHORT : BUDGET_NEVER);
	} else if (str_is(word, "j")) {
		asks(r, OP_ASK); /* until all have heard of this process */
		timer_set(&r->budget->again, AGAIN_US);
	} else if (str_is(word, "l") && str_i64(answer, &r->estimate_ms)) {
		stand(r, RESERVATION_NONE);
		r->heard(r->ctx, BUDGET_LATER);
	} else {
		ask_anew(r); /* its grant lapsed, or Redis forgot */
	}
}

/* Granted to this process by the very call. */
static void hears_also(struct budget *b, struct str ids)
{
	struct str id;

	while (str_split(&ids, ' ', &id)) {
		struct reservation *r = map_find(&b->by_id, id);
		char name[24];

		if (r && (r->state == RESERVATION_WAITING || r->state == RESERVATION_ASKING)) {
			is_ours(r);
		} else if (!r && id.len && id.len < sizeof(name)) {
			snprintf(name, sizeof(name), "%.*s", STR_FMT(id));
			op_add(b, OP_BACK, name); /* nobody waits for it any more */
		}
	}
}

static void is_left(struct budget *b)
{
	b->left = true;
	timer_stop(&b->beat);
	if (!--b->all->leaving)
		task_post(&b->all->over);
}

static void put_back(struct budget *b)
{
	uint64_t now = loop_now_us(b->all->loop);
	struct budget_op *op;

	while (!list_empty(&b->sent)) {
		op = container_of(b->sent.prev, struct budget_op, link);
		list_remove(&op->link);
		list_push_front(&b->ops, &op->link);
	}
	list_each (&b->ops, at) {
		op = container_of(at, struct budget_op, link);
		if (((op->kind == OP_ASK || op->kind == OP_LOOK) && !op->r) ||
		    now - op->born_us > BUDGET_WINDOW_US) {
			if (op->r)
				op->r->asked = false;
			list_remove(&op->link);
			mem_free(op);
		}
	}
}

static void answered(struct budget *b, const struct redis_value *value)
{
	struct charge units;
	bool blind = str_is(redis_item_str(value, 11), "1");
	size_t at = 12;
	struct budget_op *op;

	b->posted = true;
	b->next_ms = redis_item_int(value, 2, -1);
	b->line = redis_item_int(value, 4, 0);
	b->known = !blind && (b->known || b->sent_members);
	if (budget_units_read(redis_item_str(value, 6), &b->in_force))
		number(b, b->all->metrics.limit, &b->in_force, true);
	if (budget_units_read(redis_item_str(value, 5), &units))
		number(b, b->all->metrics.used, &units, true);
	if (b->sent_members) {
		b->members_us = loop_now_us(b->all->loop);
		b->listed_us = b->sent_us;
		b->heard = (uint64_t)redis_item_int(value, 10, 0);
		b->want_members = false;
		budget_peers_read(b, redis_item_str(value, 7));
	}
	timer_stop(&b->wake);
	if (str_is(redis_item_str(value, 3), "1") && b->next_ms >= 0)
		timer_set(&b->wake, (uint64_t)b->next_ms * US_PER_MS);
	while ((op = list_pop_front(&b->sent, struct budget_op, link))) {
		if (op->r)
			hears(op->r, redis_item_str(value, at));
		if (op->kind == OP_BYE)
			is_left(b);
		at++;
		mem_free(op);
	}
	hears_also(b, redis_item_str(value, 9));
}

static void on_answer(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct budget *b = ctx;
	struct str verdict;
	uint64_t epoch;

	b->request = NULL;
	verdict = result == REDIS_OK ? redis_item_str(value, 0) : STR("");
	if (str_is(verdict, "ok")) {
		answered(b, value);
		if (!list_empty(&b->ops) || b->heard != b->sent_heard)
			task_post(&b->flush);
		return;
	}
	put_back(b);
	if (str_is(verdict, "post")) {
		b->posted = false;
		task_post(&b->flush);
	} else if (str_is(verdict, "stale") && str_u64(redis_item_str(value, 1), &epoch)) {
		b->epoch = epoch > b->epoch ? epoch : b->epoch + 1;
		b->posted = false;
		task_post(&b->flush);
	} else {
		timer_set(&b->again, AGAIN_US + rand_below(loop_rand(b->all->loop), 4 * AGAIN_US));
	}
}

/* ── sending ── */

static size_t put_ops(struct budget *b, struct buf text[static BUDGET_BATCH], struct str *args)
{
	size_t count = 0;

	while (count < BUDGET_BATCH && !list_empty(&b->ops)) {
		struct budget_op *op = list_pop_front(&b->ops, struct budget_op, link);

		if ((op->kind == OP_ASK || op->kind == OP_LOOK) && !op->r) {
			mem_free(op);
			continue;
		}
		list_push_back(&b->sent, &op->link);
		text[count] = (struct buf){0};
		budget_op_write(op, &text[count]);
		args[count] = buf_str(&text[count]);
		count++;
	}
	return count;
}

static struct str limits_of(const struct budget *b, char out[static 100])
{
	const struct config_quota *q = b->config;
	int n = q ? snprintf(out, 100, "%lld %lld %lld %lld", (long long)q->requests,
			     (long long)q->input_tokens, (long long)q->output_tokens,
			     (long long)q->tokens)
		  : snprintf(out, 100, "0 0 0 0");

	return (struct str){out, (size_t)n};
}

static void flush(struct budget *b)
{
	struct budgets *all = b->all;
	struct buf text[BUDGET_BATCH], post = {0};
	struct str keys[KEY_QUOTA_COUNT], args[BUDGET_BATCH + 10];
	char epoch[24], limits[100], burst[24], heard[24];
	size_t count;

	if (b->request || timer_is_set(&b->again) || b->left)
		return;
	if (!b->epoch)
		b->epoch = redis_epoch_wall_ms(all->redis);
	if (!b->epoch) {
		timer_set(&b->again, AGAIN_US); /* not connected yet */
		return;
	}
	if (!b->posted)
		budget_post(b, &post);
	for (size_t i = 0; i < KEY_QUOTA_COUNT; i++)
		keys[i] = key_str(&b->keys[i]);
	snprintf(epoch, sizeof(epoch), "%llu", (unsigned long long)b->epoch);
	snprintf(burst, sizeof(burst), "%llu",
		 (unsigned long long)(b->config ? b->config->burst_ms : 0));
	b->sent_members = b->want_members || !b->posted;
	b->sent_heard = b->posted ? b->heard : 0;
	snprintf(heard, sizeof(heard), "%llu", (unsigned long long)b->sent_heard);
	args[0] = str_of(all->process);
	args[1] = str_of(all->worker);
	args[2] = str_of(epoch);
	args[3] = str_of(b->name);
	args[4] = limits_of(b, limits);
	args[5] = SHARES;
	args[6] = str_of(burst);
	args[7] = buf_str(&post);
	args[8] = b->sent_members ? STR("1") : STR("0");
	args[9] = str_of(heard);
	count = put_ops(b, text, args + 10);
	b->sent_us = loop_now_us(all->loop);
	b->request = redis_script(all->redis, str_of(b->name), &script_budget, keys,
				  KEY_QUOTA_COUNT, args, count + 10, on_answer, b);
	for (size_t i = 0; i < count; i++)
		buf_fini(&text[i]);
	buf_fini(&post);
}

static void on_flush(struct task *t)
{
	flush(container_of(t, struct budget, flush));
}

static void on_again(struct timer *t)
{
	flush(container_of(t, struct budget, again));
}

static void on_wake(struct timer *t)
{
	flush(container_of(t, struct budget, wake));
}

static void on_look(struct timer *t)
{
	struct budget *b = container_of(t, struct budget, look);
	size_t most = b->waiting_count < LOOKS ? b->waiting_count : LOOKS;

	if (!b->waiting_count)
		return;
	timer_set(&b->look, LOOK_US);
	for (size_t i = 0; i < most; i++) {
		struct reservation *r = list_pop_front(&b->waiting, struct reservation, link);

		list_push_back(&b->waiting, &r->link);
		if (!r->asked)
			asks(r, OP_LOOK);
	}
}

static bool spent_lately(const struct budget *b)
{
	uint64_t now = loop_now_us(b->all->loop);

	for (size_t i = 0; i < BUDGET_SECONDS; i++)
		if (b->seconds[i].second &&
		    (b->seconds[i].second + 1) * US_PER_S + BUDGET_WINDOW_US > now)
			return true;
	return false;
}

static void on_beat(struct timer *t)
{
	struct budget *b = container_of(t, struct budget, beat);
	uint64_t now = loop_now_us(b->all->loop);

	if (!b->config && !b->waiting_count && list_empty(&b->open) && list_empty(&b->ops) &&
	    !spent_lately(b))
		return;
	timer_set(&b->beat, BEAT_US);
	list_each (&b->open, at) {
		struct reservation *r = container_of(at, struct reservation, link);

		if (now - r->output_us < HOLD_US)
			continue;
		r->output_us = now;
		op_add(b, OP_HOLD, r->id);
	}
	b->want_members = true;
	task_post(&b->flush);
}

/* ── reservations ── */

void budget_ask(struct budget *b, struct reservation *r, const struct budget_ask *ask)
{
	must(r->state == RESERVATION_NONE);
	*r = (struct reservation){
	    .budget = b,
	    .charge = ask->charge,
	    .lane = ask->lane,
	    .wait = ask->wait,
	    .tag = -1,
	    .estimate_ms = -1,
	    .heard = ask->heard,
	    .ctx = ask->ctx,
	};
	list_init(&r->link);
	snprintf(r->tenant, sizeof(r->tenant), "%.*s", STR_FMT(ask->tenant));
	name_it(r);
	stand(r, RESERVATION_ASKING);
	asks(r, OP_ASK);
}

void budget_settle(struct reservation *r, const struct charge *real)
{
	struct budget *b = r->budget;
	struct charge admitted = *real, output = {0};

	must(r->state == RESERVATION_OURS);
	output.unit[CHARGE_OUTPUT] = real->unit[CHARGE_OUTPUT];
	admitted.unit[CHARGE_OUTPUT] = 0;
	budget_remember(b, r->reserved_us, &admitted);
	budget_remember(b, loop_now_us(b->all->loop), &output);
	number(b, b->all->metrics.settled, real, false);
	if (!PLANTED(SETTLE_LOST))
		op_add(b, OP_SETTLE, r->id)->charge = *real;
	stand(r, RESERVATION_NONE);
}

void budget_return(struct reservation *r)
{
	if (r->state == RESERVATION_NONE)
		return;
	op_add(r->budget, OP_BACK, r->id);
	stand(r, RESERVATION_NONE);
}

bool budget_stale(const struct reservation *r)
{
	return loop_now_us(r->budget->all->loop) - r->reserved_us > BUDGET_TAKE_US;
}

void budget_learn(struct budget *b, const struct provider_rates *rates)
{
	uint64_t now = loop_now_us(b->all->loop);

	if (!rates->said || (b->learned_us && now - b->learned_us < LEARN_US))
		return;
	b->learned_us = now;
	op_add(b, OP_LEARN, "")->rates = *rates;
}

void budget_refused(struct budget *b, int64_t retry_after_ms)
{
	log_warn(&b->log, "the provider refused for its rate: its limits are lower than configured",
		 F_INT("retry_after_ms", retry_after_ms));
	if (b->all->metrics.refused)
		series_add(metric_one(b->all->metrics.refused, b->name), 1);
	op_add(b, OP_DENY, "")->ms = retry_after_ms >= 0 ? retry_after_ms : 1000;
}

/* ── the quotas ── */

static struct budget *find(struct budgets *all, struct str name)
{
	list_each (&all->all, at) {
		struct budget *b = container_of(at, struct budget, link);

		if (str_is(name, b->name))
			return b;
	}
	return NULL;
}

static struct budget *budget_new(struct budgets *all, const char *name)
{
	struct budget *b = mem_new(struct budget);

	b->all = all;
	b->name = mem_strdup(name);
	b->log = log_child(all->log, "quota", b->name);
	b->next_ms = -1;
	key_quota(str_of(name), b->keys);
	list_init(&b->ops);
	list_init(&b->sent);
	list_init(&b->waiting);
	list_init(&b->open);
	map_init(&b->by_id, rand_u64(loop_rand(all->loop)));
	task_init(&b->flush, all->loop, on_flush);
	timer_init(&b->again, all->loop, on_again);
	timer_init(&b->wake, all->loop, on_wake);
	timer_init(&b->look, all->loop, on_look);
	timer_init(&b->beat, all->loop, on_beat);
	list_push_back(&all->all, &b->link);
	return b;
}

static void drop_ops(struct list *ops)
{
	struct budget_op *op;

	while ((op = list_pop_front(ops, struct budget_op, link)))
		mem_free(op);
}

static void budget_free(struct budget *b)
{
	if (b->request)
		redis_cancel(b->request);
	list_each (&b->waiting, at)
		list_remove(at);
	list_each (&b->open, at)
		list_remove(at);
	drop_ops(&b->ops);
	drop_ops(&b->sent);
	task_cancel(&b->flush);
	timer_stop(&b->again);
	timer_stop(&b->wake);
	timer_stop(&b->look);
	timer_stop(&b->beat);
	map_fini(&b->by_id);
	list_remove(&b->link);
	mem_free(b->name);
	mem_free(b);
}

static void on_over(struct task *t)
{
	struct budgets *all = container_of(t, struct budgets, over);

	timer_stop(&all->late);
	all->on_left(all->left_ctx);
}

static void on_late(struct timer *t)
{
	struct budgets *all = container_of(t, struct budgets, late);

	list_each (&all->all, at)
		container_of(at, struct budget, link)->left = true;
	all->on_left(all->left_ctx);
}

void budgets_leave(struct budgets *all, void (*left)(void *ctx), void *ctx)
{
	must(!all->on_left);
	all->on_left = left;
	all->left_ctx = ctx;
	list_each (&all->all, at) {
		struct budget *b = container_of(at, struct budget, link);

		if (!timer_is_set(&b->beat))
			continue;
		all->leaving++;
		op_add(b, OP_BYE, "");
	}
	if (all->leaving)
		timer_set(&all->late, LEAVE_US);
	else
		task_post(&all->over);
}

struct budgets *budgets_new(const struct budgets_request *request)
{
	struct budgets *all = mem_new(struct budgets);

	all->loop = request->loop;
	all->redis = request->redis;
	all->log = request->log;
	all->metrics = request->metrics;
	all->fresh = request->fresh;
	all->ctx = request->ctx;
	timer_init(&all->late, all->loop, on_late);
	task_init(&all->over, all->loop, on_over);
	all->worker = mem_printf("%.*s", STR_FMT(request->worker));
	snprintf(all->process, sizeof(all->process), "%016llx",
		 (unsigned long long)rand_u64(loop_rand(all->loop)));
	list_init(&all->all);
	budgets_reload(all, request->config);
	return all;
}

void budgets_free(struct budgets *all)
{
	if (!all)
		return;
	list_each (&all->all, at)
		budget_free(container_of(at, struct budget, link));
	timer_stop(&all->late);
	task_cancel(&all->over);
	mem_free(all->worker);
	mem_free(all);
}

void budgets_reload(struct budgets *all, const struct config *config)
{
	all->config = config;
	list_each (&all->all, at)
		container_of(at, struct budget, link)->config = NULL;
	for (size_t i = 0; i < config->quota_count; i++) {
		struct budget *b = find(all, str_of(config->quotas[i].name));

		if (!b)
			b = budget_new(all, config->quotas[i].name);
		b->config = &config->quotas[i];
	}
}

void budgets_epoch(struct budgets *all, uint64_t epoch_wall_ms)
{
	list_each (&all->all, at) {
		struct budget *b = container_of(at, struct budget, link);

		if (b->epoch == epoch_wall_ms)
			continue;
		b->epoch = epoch_wall_ms > b->epoch ? epoch_wall_ms : b->epoch + 1;
		b->posted = false;
		if (timer_is_set(&b->beat))
			task_post(&b->flush);
	}
}

void budgets_heard(struct budgets *all, struct str message)
{
	struct str name, next, id;
	struct budget *b;
	int64_t ms;

	if (!str_split(&message, ' ', &name) || !(b = find(all, name)) ||
	    !str_split(&message, ' ', &next) || !str_i64(next, &ms))
		return;
	if (ms == SOMEBODY_CAME && timer_is_set(&b->beat)) {
		b->want_members = true;
		task_post(&b->flush);
	}
	if (ms >= 0 && b->waiting_count && (!timer_is_set(&b->wake) || ms < b->next_ms)) {
		b->next_ms = ms;
		timer_set(&b->wake, (uint64_t)ms * US_PER_MS);
	}
	while (str_split(&message, ' ', &id)) {
		struct reservation *r = map_find(&b->by_id, id);

		if (r && !r->asked && r->state == RESERVATION_WAITING)
			asks(r, OP_LOOK);
	}
}

struct budget *budgets_find(struct budgets *all, const char *account, const char *model)
{
	const struct config_quota *q =
	    config_quota_find(all->config, str_of(account), str_of(model));

	return q ? find(all, str_of(q->name)) : NULL;
}

int64_t budget_answer_tokens(const struct budget *b, int64_t usual)
{
	const struct config_quota *q = b->config;
	int64_t least = q ? q->output_tokens : 0;

	if (q && q->tokens && (!least || q->tokens < least))
		least = q->tokens;
	if (!least)
		return 0;
	return usual < least / 2 ? usual : least / 2 + 1;
}

const char *budget_name(const struct budget *b)
{
	return b->name;
}
