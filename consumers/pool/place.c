#include "consumers/pool/place.h"

#include "lib/base/mem.h"

void places_init(struct places *p)
{
	list_init(&p->fresh);
	list_init(&p->told);
	list_init(&p->came);
	list_init(&p->aside);
}

struct place *places_oldest(const struct places *p)
{
	return list_first(&p->came, struct place, came);
}

/* ── who stands where ── */

static struct place *place_of(struct line_node *node)
{
	return container_of(node, struct place, node);
}

static void stand(struct places *p, struct place *place, uint64_t tag)
{
	line_add(place->begun ? &p->begun : &p->heads, &place->node, tag);
	list_push_back(place->said ? &p->told : &p->fresh, &place->link);
}

void place_head(struct places *p, struct lane_record *record, uint64_t tag, uint64_t now_us)
{
	struct head *head = mem_new(struct head);

	head->record = record;
	head->place.since_us = now_us;
	stand(p, &head->place, tag);
	list_push_back(&p->came, &head->place.came);
}

struct head *place_next(struct places *p)
{
	struct line_node *first = line_first(&p->heads);

	return first ? container_of(place_of(first), struct head, place) : NULL;
}

void place_aside(struct places *p, struct head *head)
{
	line_remove(&p->heads, &head->place.node);
	list_remove(&head->place.link);
	list_push_back(&p->aside, &head->place.link);
}

struct head *place_aside_first(struct places *p)
{
	return list_first(&p->aside, struct head, place.link);
}

void place_back(struct places *p, struct head *head)
{
	list_remove(&head->place.link);
	stand(p, &head->place, head->place.node.tag);
}

void place_begin(struct places *p, struct place *from, struct place *work, uint64_t tag)
{
	*work = (struct place){.begun = true,
			       .since_us = from->since_us,
			       .looked_us = from->looked_us,
			       .lowest = from->lowest,
			       .said = from->said};
	list_insert_before(&from->came, &work->came);
	place_leave(p, from);
	stand(p, work, tag);
}

void place_enter(struct places *p, struct place *work, uint64_t tag, uint64_t now_us)
{
	if (line_holds(&work->node))
		return;
	work->begun = true;
	work->since_us = now_us;
	stand(p, work, tag);
	list_push_back(&p->came, &work->came);
}

void place_leave(struct places *p, struct place *place)
{
	if (!line_holds(&place->node))
		return;
	line_remove(place->begun ? &p->begun : &p->heads, &place->node);
	list_remove(&place->link);
	list_remove(&place->came);
}

void place_forget(struct place *place)
{
	place->lowest = 0;
	place->said = 0;
}

size_t place_position(const struct places *p, struct place *place)
{
	size_t position;

	if (!line_holds(&place->node))
		return 0;
	position = line_before(&place->node) + 1;
	/* Of equal tags those that are begun are before the others. */
	if (place->begun)
		position += line_below(&p->heads, place->node.tag);
	else
		position += line_below(&p->begun, place->node.tag + 1);
	if (!place->lowest || position < place->lowest)
		place->lowest = position;
	return place->lowest;
}

/* ── how fast it moves ── */

void place_measure(struct places *p, uint64_t now_us)
{
	struct place_pace *pace = &p->pace;
	uint64_t starts = pace->starts, past = now_us - pace->last_us;
	bool waits = places_count(p) > 0;
	bool waited = pace->last_us > 0;

	pace->starts = 0;
	pace->last_us = waits ? now_us : 0;
	/* While nobody waits, the starts say how many come and not how many could go. */
	if (!waits || !waited || !past)
		return;
	pace->busy_us += past;
	if (pace->busy_us > PLACE_PACE_US)
		pace->busy_us = PLACE_PACE_US;
	if (past > pace->busy_us)
		past = pace->busy_us;
	pace->per_s += ((double)starts * (double)US_PER_S / (double)past - pace->per_s) *
		       (double)past / (double)pace->busy_us;
}

int64_t place_estimate_ms(const struct places *p, size_t position)
{
	/* Less than one start in a minute is no pace. */
	if (!position || p->pace.busy_us < US_PER_S || p->pace.per_s < 1.0 / 60)
		return -1;
	return (int64_t)((double)position * 1000 / p->pace.per_s);
}

/* ── whose turn it is to be told ── */

static bool due(const struct place *place, uint64_t now_us)
{
	return now_us >= place->since_us + PLACE_SAY_US &&
	       (!place->looked_us || now_us >= place->looked_us + PLACE_TICK_US);
}

/* Adds it where what was told is not true any more. */
static size_t look(struct places *p, struct place *place, uint64_t now_us, struct place **ret_place)
{
	place->looked_us = now_us;
	list_remove(&place->link);
	list_push_back(&p->told, &place->link);
	if (place_position(p, place) == place->said)
		return 0;
	place->said = place->lowest;
	*ret_place = place;
	return 1;
}

size_t place_turns(struct places *p, uint64_t now_us,
		   struct place *ret_places[static PLACE_NEAR + PLACE_FAR])
{
	struct line_node *node = line_first(&p->begun);
	size_t count = 0, looked = 0;

	for (; node && looked < PLACE_NEAR; node = line_next(node), looked++)
		if (due(place_of(node), now_us))
			count += look(p, place_of(node), now_us, &ret_places[count]);
	for (looked = 0; looked < PLACE_FAR; looked++) {
		struct place *place = list_first(&p->fresh, struct place, link);

		if (!place || !due(place, now_us))
			place = list_first(&p->told, struct place, link);
		if (!place || !due(place, now_us))
			break;
		count += look(p, place, now_us, &ret_places[count]);
	}
	return count;
}
