#include "tests/support/records.h"

#include "lib/base/mem.h"
#include "lib/lane/partition.h"

#define WINDOW_RECORDS 20000
#define WINDOW_BYTES (32u * 1024 * 1024)

struct records {
	struct window window;
	struct lane lane;
	struct partition *partition;
	int64_t next;
};

struct records *records_new(void)
{
	struct records *r = mem_new(struct records);

	r->window = (struct window){.lanes = &r->lane,
				    .lane_count = 1,
				    .records = WINDOW_RECORDS,
				    .bytes = WINDOW_BYTES,
				    .least = WINDOW_RECORDS,
				    .least_bytes = WINDOW_BYTES};
	r->lane.window = &r->window;
	list_init(&r->lane.partitions);
	r->partition = partition_new(&r->lane, 0);
	r->partition->state = PARTITION_OPEN;
	return r;
}

void records_free(struct records *r)
{
	struct list gone;

	list_init(&gone);
	must(!r->partition->taken_count);
	partition_gone(r->partition, &gone);
	mem_free(r);
}

struct partition *records_partition(struct records *r)
{
	return r->partition;
}

struct lane_record *records_take(struct records *r)
{
	/* librdkafka keeps more of a record behind its message (headers, time stamp): nothing is there. */
	struct {
		rd_kafka_message_t message;
		char rest[1024];
	} from = {0};

	/* What is completed already is passed over. */
	while (!r->partition->ready_count) {
		from.message.offset = r->next++;
		partition_ingest(r->partition, &from.message);
	}
	return partition_take(r->partition);
}
