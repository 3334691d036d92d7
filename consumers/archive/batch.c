#include "consumers/archive/batch.h"

#include <stdio.h>

#include "consumers/archive/row.h"

void batch_fini(struct batch *batch)
{
	map_fini(&batch->jobs);
	row_lists_fini(&batch->lists);
	arena_reset(&batch->scratch);
	*batch = (struct batch){0};
}

void batch_skip(struct batch *batch, uint64_t wall_ms)
{
	batch->records++;
	if (wall_ms && (!batch->oldest_wall_ms || wall_ms < batch->oldest_wall_ms))
		batch->oldest_wall_ms = wall_ms;
}

bool batch_add(struct batch *batch, uint64_t wall_ms, struct str body, char *ret_why, size_t size)
{
	char why[ROW_WHY_SIZE];
	struct result result;
	bool good;

	batch_skip(batch, wall_ms);
	good = row_read(&batch->scratch, body, &result, why) == ROW_OK;
	if (!good) {
		snprintf(ret_why, size, "%s", why);
	} else if (map_find(&batch->jobs, result.id)) {
		batch->repeated++;
	} else {
		map_set(&batch->jobs, result.id, batch);
		row_write(&result, &batch->lists);
		batch->rows++;
	}
	arena_reset(&batch->scratch);
	return good;
}

size_t batch_bytes(const struct batch *batch)
{
	return row_lists_bytes(&batch->lists);
}
