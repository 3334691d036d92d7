#include "lib/base/metric.h"

#include <math.h>

#include "tests/unit/test.h"

SUITE("base/metric");

static void has(const struct metrics *m, const char *line)
{
	struct buf out = {0};

	metrics_render(m, &out);
	ck_assert_msg(strstr(buf_text(&out), line) != NULL, "no %s in %s", line, buf_text(&out));
	buf_fini(&out);
}

TEST(a_counter_without_labels_stands_at_0_from_the_start)
{
	struct buf out = {0};
	struct metrics m;

	metrics_init(&m);
	metric_register(&m, "sluice_x_total", METRIC_COUNTER, "Things\\seen\nhere", "");
	metrics_render(&m, &out);
	ck_assert_view(buf_str(&out), "# HELP sluice_x_total Things\\\\seen\\nhere\n"
				      "# TYPE sluice_x_total counter\nsluice_x_total 0\n");
	buf_fini(&out);
	metrics_fini(&m);
}

TEST(each_set_of_label_values_is_one_series)
{
	struct metric *metric;
	struct metrics m;

	metrics_init(&m);
	metric = metric_register(&m, "g", METRIC_GAUGE, "h", "lane,why");
	series_set(metric_series(metric, (const char *const[]){"high", "a"}), 2.5);
	series_add(metric_series(metric, (const char *const[]){"high", "a"}), -1);
	series_add(metric_series(metric, (const char *const[]){"high", "b"}), 1e18);
	ck_assert(series_value(metric_series(metric, (const char *const[]){"high", "a"})) == 1.5);
	has(&m, "\ng{lane=\"high\",why=\"a\"} 1.5\n");
	has(&m, "\ng{lane=\"high\",why=\"b\"} 1e+18\n");
	metrics_fini(&m);
}

TEST(label_values_are_escaped)
{
	struct metric *metric;
	struct metrics m;

	metrics_init(&m);
	metric = metric_register(&m, "c", METRIC_COUNTER, "h", "l");
	series_add(metric_one(metric, "a\"b\\c\nd"), 3);
	has(&m, "\nc{l=\"a\\\"b\\\\c\\nd\"} 3\n");
	metrics_fini(&m);
}

TEST(numbers_that_are_none_are_written_as_prometheus_does)
{
	struct metric *metric;
	struct metrics m;

	metrics_init(&m);
	metric = metric_register(&m, "g", METRIC_GAUGE, "h", "l");
	series_set(metric_one(metric, "a"), NAN);
	series_set(metric_one(metric, "b"), -INFINITY);
	has(&m, "g{l=\"a\"} NaN\n");
	has(&m, "g{l=\"b\"} -Inf\n");
	metrics_fini(&m);
}

TEST(buckets_are_cumulative_and_bounds_belong_to_them)
{
	struct metric *metric;
	struct series *s;
	struct metrics m;

	metrics_init(&m);
	metric = metric_register(&m, "t_seconds", METRIC_HISTOGRAM, "h", "lane");
	s = metric_one(metric, "high");
	series_observe_us(s, 100);
	series_observe_us(s, 101);
	series_observe_us(s, 2000000);
	series_observe_us(s, 500000000);
	has(&m, "# TYPE t_seconds histogram\n");
	has(&m, "t_seconds_bucket{lane=\"high\",le=\"0.0001\"} 1\n");
	has(&m, "t_seconds_bucket{lane=\"high\",le=\"0.00025\"} 2\n");
	has(&m, "t_seconds_bucket{lane=\"high\",le=\"1\"} 2\n");
	has(&m, "t_seconds_bucket{lane=\"high\",le=\"2.5\"} 3\n");
	has(&m, "t_seconds_bucket{lane=\"high\",le=\"120\"} 3\n");
	has(&m, "t_seconds_bucket{lane=\"high\",le=\"+Inf\"} 4\n");
	has(&m, "t_seconds_sum{lane=\"high\"} 502.000201\n");
	has(&m, "t_seconds_count{lane=\"high\"} 4\n");
	metrics_fini(&m);
}

TEST(a_histogram_without_labels_has_only_le)
{
	struct metrics m;

	metrics_init(&m);
	metric_register(&m, "t", METRIC_HISTOGRAM, "h", "");
	has(&m, "\nt_bucket{le=\"+Inf\"} 0\nt_sum 0\nt_count 0\n");
	metrics_fini(&m);
}

TEST_ABORTS(a_counter_does_not_fall)
{
	struct metrics m;

	metrics_init(&m);
	series_add(metric_only(metric_register(&m, "c", METRIC_COUNTER, "h", "")), -1);
}

TEST_ABORTS(a_name_is_registered_once)
{
	struct metrics m;

	metrics_init(&m);
	metric_register(&m, "c", METRIC_COUNTER, "h", "");
	metric_register(&m, "c", METRIC_COUNTER, "h", "");
}
