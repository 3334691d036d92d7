#include "consumers/push/latest.h"

void latest_put(struct latest *l, struct buf *text)
{
	buf_fini(&l->text);
	l->text = *text;
	*text = (struct buf){0};
}

bool latest_waits(const struct latest *l)
{
	return l->text.len > 0;
}

uint64_t latest_after_us(const struct latest *l, uint64_t now_us)
{
	uint64_t past = now_us - l->told_us;

	return l->told && past < l->gap_us ? l->gap_us - past : 0;
}

bool latest_take(struct latest *l, uint64_t now_us, struct buf *ret_text)
{
	if (!latest_waits(l) || latest_after_us(l, now_us))
		return false;
	*ret_text = l->text;
	l->text = (struct buf){0};
	l->told = true;
	l->told_us = now_us;
	return true;
}

void latest_drop(struct latest *l)
{
	buf_fini(&l->text);
}
