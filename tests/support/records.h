/* Records of one partition of one lane, given out by the reader's own partition without Kafka. Refuses to talk to anybody. */
#ifndef SLUICE_TESTS_SUPPORT_RECORDS_H
#define SLUICE_TESTS_SUPPORT_RECORDS_H

struct lane_record;
struct partition;
struct records;

struct records *records_new(void);
/* Every record was given back before. */
void records_free(struct records *records);
struct partition *records_partition(struct records *records);
/* The next record, whose owner is the caller as with lane_take; NULL where the partition gives none out now. */
struct lane_record *records_take(struct records *records);

#endif
