/* What a budget says to its script, and how the script's lists are read. */
#include <stdio.h>
#include <string.h>

#include "consumers/pool/budget_impl.h"
#include "lib/base/buf.h"

static uint64_t age_ms(const struct budget *b, uint64_t at_us)
{
	uint64_t now = loop_now_us(b->all->loop);

	return now > at_us ? (now - at_us) / US_PER_MS : 0;
}

static void put_units(struct buf *out, const int64_t unit[CHARGE_UNITS])
{
	for (int u = 0; u < CHARGE_UNITS; u++) {
		buf_add_char(out, ' ');
		buf_add_i64(out, unit[u]);
	}
}

bool budget_units_read(struct str text, struct charge *ret_charge)
{
	struct charge c;
	struct str word;

	for (int u = 0; u < CHARGE_UNITS; u++)
		if (!str_split(&text, ' ', &word) || !str_i64(word, &c.unit[u]))
			return false;
	*ret_charge = c;
	return true;
}

/* ── what is remembered ── */

void budget_remember(struct budget *b, uint64_t at_us, const struct charge *charge)
{
	uint64_t second = at_us / US_PER_S;
	struct budget_second *s = &b->seconds[second % BUDGET_SECONDS];

	if (s->second > second)
		return; /* longer ago than a window */
	if (s->second != second)
		*s = (struct budget_second){.second = second};
	for (int u = 0; u < CHARGE_UNITS; u++)
		s->spent.unit[u] += charge->unit[u];
}

static bool nothing(const struct charge *c)
{
	for (int u = 0; u < CHARGE_UNITS; u++)
		if (c->unit[u])
			return false;
	return true;
}

/* Until when a peer may have spent: who lived when it was looked last, which is not long ago, may have lived until now. */
static uint64_t alive_us(const struct budget *b, const struct budget_peer *p)
{
	uint64_t now = loop_now_us(b->all->loop);
	bool lived = p->seen_us + BUDGET_LEASE_US > b->members_us;

	return lived && b->members_us + BUDGET_LEASE_US > now ? now : p->seen_us;
}

void budget_post(const struct budget *b, struct buf *out)
{
	uint64_t now = loop_now_us(b->all->loop);
	bool fresh = !b->known && b->all->fresh && b->all->fresh(b->all->ctx);

	if (b->known)
		buf_printf(out, "k %llu", (unsigned long long)age_ms(b, b->listed_us));
	else
		buf_add_char(out, fresh ? 'f' : '-');
	for (size_t i = 0; i < b->peer_count; i++)
		buf_printf(out, ";m %s %llu", b->peers[i].process,
			   (unsigned long long)age_ms(b, alive_us(b, &b->peers[i])));
	for (size_t i = 0; i < BUDGET_SECONDS; i++) {
		const struct budget_second *s = &b->seconds[i];
		uint64_t end = (s->second + 1) * US_PER_S;

		if (nothing(&s->spent) || end + BUDGET_WINDOW_US < now)
			continue;
		buf_printf(out, ";s %llu", (unsigned long long)age_ms(b, end));
		put_units(out, s->spent.unit);
	}
	list_each (&b->open, at) {
		const struct reservation *r = container_of(at, struct reservation, link);

		buf_printf(out, ";r %s %llu %llu", r->id,
			   (unsigned long long)age_ms(b, r->reserved_us),
			   (unsigned long long)age_ms(b, r->output_us));
		put_units(out, r->charge.unit);
	}
}

void budget_peers_read(struct budget *b, struct str list)
{
	uint64_t now = loop_now_us(b->all->loop);
	struct str peer, process;
	uint64_t age;

	b->peer_count = 0;
	while (b->peer_count < BUDGET_PEERS_MAX && str_split(&list, ';', &peer)) {
		struct budget_peer *p = &b->peers[b->peer_count];

		if (!str_split(&peer, ' ', &process) || process.len >= sizeof(p->process) ||
		    !str_u64(peer, &age) || str_is(process, b->all->process))
			continue;
		memcpy(p->process, process.ptr, process.len);
		p->process[process.len] = '\0';
		p->seen_us = age * US_PER_MS < now ? now - age * US_PER_MS : 0;
		b->peer_count++;
	}
}

/* ── operations ── */

void budget_op_write(const struct budget_op *op, struct buf *out)
{
	const struct reservation *r = op->r;

	switch (op->kind) {
	case OP_ASK:
		buf_printf(out, "ask %s %d %s %s ", op->id, (int)r->lane, r->tenant,
			   r->wait ? "line" : "try");
		if (r->tag >= 0)
			buf_add_i64(out, r->tag);
		else
			buf_add_char(out, '-');
		put_units(out, r->charge.unit);
		return;
	case OP_LOOK:
		buf_printf(out, "look %s", op->id);
		return;
	case OP_SETTLE:
		buf_printf(out, "settle %s", op->id);
		put_units(out, op->charge.unit);
		return;
	case OP_BACK:
		buf_printf(out, "back %s", op->id);
		return;
	case OP_HOLD:
		buf_printf(out, "hold %s", op->id);
		return;
	case OP_LEARN:
		buf_add_text(out, "learn");
		put_units(out, op->rates.limit);
		put_units(out, op->rates.remaining);
		return;
	case OP_DENY:
		buf_add_text(out, "deny ");
		buf_add_i64(out, op->ms);
		return;
	case OP_BYE:
		buf_add_text(out, "bye");
		return;
	}
}
