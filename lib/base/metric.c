#include "lib/base/metric.h"

#include <math.h>
#include <string.h>

#include "lib/base/err.h"
#include "lib/base/mem.h"

#define LABELS_MAX 8

static const struct {
	uint64_t us;
	const char *text;
} bounds[] = {
    {100, "0.0001"},  {250, "0.00025"}, {500, "0.0005"},  {1000, "0.001"},    {2500, "0.0025"},
    {5000, "0.005"},  {10000, "0.01"},	{25000, "0.025"}, {50000, "0.05"},    {100000, "0.1"},
    {250000, "0.25"}, {500000, "0.5"},	{1000000, "1"},	  {2500000, "2.5"},   {5000000, "5"},
    {10000000, "10"}, {30000000, "30"}, {60000000, "60"}, {120000000, "120"},
};

struct series {
	struct list link;
	const struct metric *metric;
	char *labels; /* "a=\"x\",b=\"y\"", ready to be written */
	double value;
	uint64_t sum_us;
	uint64_t count;
	uint64_t buckets[countof(bounds)]; /* of each bucket alone, summed up when rendered */
};

struct metric {
	struct list link;
	const char *name;
	enum metric_type type;
	const char *help;
	struct str labels[LABELS_MAX];
	size_t label_count;
	struct list series;
	struct map by_labels;
};

void metrics_init(struct metrics *m)
{
	list_init(&m->all);
}

static void metric_free(struct metric *metric)
{
	struct series *s;

	while ((s = list_pop_front(&metric->series, struct series, link))) {
		mem_free(s->labels);
		mem_free(s);
	}
	map_fini(&metric->by_labels);
	mem_free(metric);
}

void metrics_fini(struct metrics *m)
{
	struct metric *metric;

	while ((metric = list_pop_front(&m->all, struct metric, link)))
		metric_free(metric);
}

struct metric *metric_register(struct metrics *m, const char *name, enum metric_type type,
			       const char *help, const char *labels)
{
	struct metric *metric = mem_new(struct metric);
	struct str rest = str_of(labels);
	struct str label;

	list_each (&m->all, at)
		must(strcmp(container_of(at, struct metric, link)->name, name) != 0);
	metric->name = name;
	metric->type = type;
	metric->help = help;
	list_init(&metric->series);
	while (rest.len && str_split(&rest, ',', &label)) {
		must(metric->label_count < LABELS_MAX);
		metric->labels[metric->label_count++] = label;
	}
	list_push_back(&m->all, &metric->link);
	/* What has no labels is there from the start, at 0, so that its first rise can be seen. */
	if (!metric->label_count)
		metric_only(metric);
	return metric;
}

/* Exposition format: \, line ends and (in labels) quotes are escaped. */
static void add_escaped(struct buf *out, const char *text, bool label)
{
	for (; *text; text++) {
		if (*text == '\\')
			buf_add_text(out, "\\\\");
		else if (*text == '\n')
			buf_add_text(out, "\\n");
		else if (*text == '"' && label)
			buf_add_text(out, "\\\"");
		else
			buf_add_char(out, *text);
	}
}

struct series *metric_series(struct metric *metric, const char *const *values)
{
	struct buf labels = {0};
	struct series *s;

	for (size_t i = 0; i < metric->label_count; i++) {
		if (i)
			buf_add_char(&labels, ',');
		buf_add_str(&labels, metric->labels[i]);
		buf_add_text(&labels, "=\"");
		add_escaped(&labels, values[i], true);
		buf_add_char(&labels, '"');
	}
	s = map_find(&metric->by_labels, buf_str(&labels));
	if (!s) {
		s = mem_new(struct series);
		s->metric = metric;
		map_set(&metric->by_labels, buf_str(&labels), s);
		s->labels = buf_steal(&labels);
		list_push_back(&metric->series, &s->link);
	}
	buf_fini(&labels);
	return s;
}

struct series *metric_only(struct metric *metric)
{
	must(!metric->label_count);
	return metric_series(metric, NULL);
}

void series_add(struct series *s, double by)
{
	must(s->metric->type != METRIC_HISTOGRAM);
	must(s->metric->type == METRIC_GAUGE || by >= 0);
	s->value += by;
}

void series_set(struct series *s, double to)
{
	must(s->metric->type == METRIC_GAUGE);
	s->value = to;
}

void series_observe_us(struct series *s, uint64_t us)
{
	must(s->metric->type == METRIC_HISTOGRAM);
	s->count++;
	s->sum_us += us;
	for (size_t i = 0; i < countof(bounds); i++) {
		if (us <= bounds[i].us) {
			s->buckets[i]++;
			return;
		}
	}
}

double series_value(const struct series *s)
{
	return s->metric->type == METRIC_HISTOGRAM ? (double)s->count : s->value;
}

static void add_number(struct buf *out, double value)
{
	if (isnan(value))
		buf_add_text(out, "NaN");
	else if (isinf(value))
		buf_add_text(out, value > 0 ? "+Inf" : "-Inf");
	else if (fabs(value) < 9007199254740992.0 && value == floor(value))
		buf_add_i64(out, (int64_t)value);
	else
		buf_printf(out, "%.15g", value);
}

/* "name_suffix{labels,le="…"} " */
static void add_head(struct buf *out, const struct series *s, const char *suffix, const char *le)
{
	buf_add_text(out, s->metric->name);
	buf_add_text(out, suffix);
	if (*s->labels || le) {
		buf_add_char(out, '{');
		buf_add_text(out, s->labels);
		if (le)
			buf_printf(out, "%sle=\"%s\"", *s->labels ? "," : "", le);
		buf_add_char(out, '}');
	}
	buf_add_char(out, ' ');
}

static void add_histogram(struct buf *out, const struct series *s)
{
	uint64_t below = 0;

	for (size_t i = 0; i < countof(bounds); i++) {
		below += s->buckets[i];
		add_head(out, s, "_bucket", bounds[i].text);
		buf_add_u64(out, below);
		buf_add_char(out, '\n');
	}
	add_head(out, s, "_bucket", "+Inf");
	buf_add_u64(out, s->count);
	buf_add_char(out, '\n');
	add_head(out, s, "_sum", NULL);
	add_number(out, (double)s->sum_us / 1e6);
	buf_add_char(out, '\n');
	add_head(out, s, "_count", NULL);
	buf_add_u64(out, s->count);
	buf_add_char(out, '\n');
}

void metrics_render(const struct metrics *m, struct buf *out)
{
	static const char *const type_name[] = {"counter", "gauge", "histogram"};

	list_each (&m->all, at) {
		const struct metric *metric = container_of(at, struct metric, link);

		buf_printf(out, "# HELP %s ", metric->name);
		add_escaped(out, metric->help, false);
		buf_printf(out, "\n# TYPE %s %s\n", metric->name, type_name[metric->type]);
		list_each (&metric->series, one) {
			const struct series *s = container_of(one, struct series, link);

			if (metric->type == METRIC_HISTOGRAM) {
				add_histogram(out, s);
				continue;
			}
			add_head(out, s, "", NULL);
			add_number(out, s->value);
			buf_add_char(out, '\n');
		}
	}
}
