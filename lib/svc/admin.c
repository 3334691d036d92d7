/* The admin port: /healthz (the loop turns), /readyz (can serve; says what it waits for), /metrics. */
#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/net/http.h"
#include "lib/svc/process.h"

void admin_metrics_init(struct process *p)
{
#define METRIC(field, name, type, help, labels) \
	p->metric_##field = metric_register(&p->svc.metrics, name, METRIC_##type, help, labels);
#include "lib/svc/metrics.def"
#undef METRIC
	series_set(metric_series(p->metric_build,
				 (const char *const[]){p->svc.name, p->svc.id, svc_version()}),
		   1);
}

static double resident_bytes(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long all;
	unsigned long resident = 0;

	if (!f)
		return 0;
	if (fscanf(f, "%lu %lu", &all, &resident) != 2)
		resident = 0;
	fclose(f);
	return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static double open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	double count = 0;

	if (!d)
		return 0;
	while (readdir(d))
		count++;
	closedir(d);
	return count - 3; /* ".", "..", and the one that looks */
}

/* Read when asked for, so that nobody pays for what nobody reads. */
static void measure(struct process *p)
{
	struct buf ignored = {0};
	struct json_out names = {.buf = &ignored};
	struct rusage usage;
	struct series *cpu;

	getrusage(RUSAGE_SELF, &usage);
	series_set(metric_only(p->metric_uptime),
		   (double)(loop_now_us(p->svc.loop) - p->started_us) / 1e6);
	series_set(metric_only(p->metric_ready), process_ready(p, &names));
	series_set(metric_only(p->metric_rss), resident_bytes());
	cpu = metric_only(p->metric_cpu);
	series_add(cpu, (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
			    (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6 -
			    series_value(cpu));
	series_set(metric_only(p->metric_fds), open_fds());
	series_set(metric_only(p->metric_max_fds), (double)p->svc.nofile);
	buf_fini(&ignored);
}

/* {"ready":false,"waiting":["kafka"],"service":"sluice-front","id":"sluice-front-1","version":"…"} */
static void answer_ready(struct process *p, struct http_req *req)
{
	struct buf names = {0};
	struct buf body = {0};
	struct json_out list = {.buf = &names};
	struct json_out out = {.buf = &body};
	bool ready;

	json_open(&list, '[');
	ready = process_ready(p, &list);
	json_close(&list, ']');
	json_open(&out, '{');
	json_put_bool(&out, "ready", ready);
	json_put_raw(&out, "waiting", buf_str(&names));
	json_put_text(&out, "service", p->svc.name);
	json_put_text(&out, "id", p->svc.id);
	json_put_text(&out, "version", svc_version());
	json_close(&out, '}');
	buf_add_char(&body, '\n');
	http_reply(req, ready ? 200 : 503, "application/json", buf_str(&body));
	buf_fini(&body);
	buf_fini(&names);
}

static void on_request(void *ctx, struct http_req *req)
{
	struct process *p = ctx;
	struct str path = http_path(req);

	if (!str_is(http_method(req), "GET") && !str_is(http_method(req), "HEAD")) {
		if (!p->program->admin_request || !p->program->admin_request(p->ctx, req))
			http_reply(req, 405, "text/plain", STR("only GET\n"));
	} else if (str_is(path, "/healthz")) {
		http_reply(req, 200, "application/json", STR("{\"status\":\"ok\"}\n"));
	} else if (str_is(path, "/readyz")) {
		answer_ready(p, req);
	} else if (str_is(path, "/metrics")) {
		struct buf body = {0};

		measure(p);
		metrics_render(&p->svc.metrics, &body);
		http_reply(req, 200, "text/plain; version=0.0.4; charset=utf-8", buf_str(&body));
		buf_fini(&body);
	} else if (!p->program->admin_request || !p->program->admin_request(p->ctx, req)) {
		http_reply(req, 404, "text/plain",
			   STR("there are /healthz, /readyz and /metrics\n"));
	}
}

static void ignore(void *ctx, struct http_req *req)
{
	(void)ctx;
	(void)req;
}

int admin_open(struct process *p)
{
	static const struct http_server_ops ops = {
	    .request = on_request, .gone = ignore, .writable = ignore};
	struct http_server_options options = http_server_defaults();
	const char *address = p->svc.config->common.admin;
	int error;

	if (!*address)
		address = p->program->admin ? p->program->admin : "";
	if (!*address)
		return 0;
	address = args_worker_address(&p->arena, address, p->svc.worker);
	options.listen = address;
	options.max_connections = 64;
	error = http_server_open(p->svc.loop, &options, &ops, p, &p->svc.log, &p->admin);
	if (error) {
		log_error(&p->svc.log, "admin port not opened", F_STR("address", address),
			  F_ERR(error));
		return err_trace(error);
	}
	log_info(&p->svc.log, "admin port open", F_STR("address", address),
		 F_UINT("port", http_server_port(p->admin)));
	return 0;
}

void admin_close(struct process *p)
{
	http_server_close(p->admin);
	p->admin = NULL;
}
