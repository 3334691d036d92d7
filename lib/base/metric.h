/* Metrics of one program: counters, gauges and histograms in a registry that renders itself in the Prometheus text
 * format. Names, types and help come from each program's metrics.def. Refuses labels with unbounded values.
 *
 * A metrics.def has lines METRIC(field, "sluice_front_jobs_accepted_total", COUNTER, "help", "label,label");
 * a program keeps `struct metric *field` members and makes them with metric_register. */
#ifndef SLUICE_BASE_METRIC_H
#define SLUICE_BASE_METRIC_H

#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/base/list.h"
#include "lib/base/map.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metrics {
	struct list all;
};

struct metric;

void metrics_init(struct metrics *m);
void metrics_fini(struct metrics *m);

/* @labels: comma-separated label names, "" for none. Strings are literals. Histograms measure seconds, in
 * buckets from 100 µs to 120 s. The registry owns the metric. */
struct metric *metric_register(struct metrics *m, const char *name, enum metric_type type,
			       const char *help, const char *labels);

/* One time series of a metric; found or made; owned by the metric; stays valid. @values: one per label name. */
struct series;
struct series *metric_series(struct metric *metric, const char *const *values);
/* The series of a metric without labels. */
struct series *metric_only(struct metric *metric);

void series_add(struct series *s, double by);
void series_set(struct series *s, double to);
void series_observe_us(struct series *s, uint64_t us);
double series_value(const struct series *s);

/* Convenience for metrics with one label. */
static inline struct series *metric_one(struct metric *metric, const char *value)
{
	return metric_series(metric, (const char *const[]){value});
}

/* Text exposition format 0.0.4. */
void metrics_render(const struct metrics *m, struct buf *out);

#endif
