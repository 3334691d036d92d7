#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/net/http_impl.h"

/* Beyond max_connections so many more at once still get their 503; the rest is closed unheard. */
#define REFUSED_AT_ONCE 256

struct http_server_options http_server_defaults(void)
{
	return (struct http_server_options){
	    .max_head_bytes = 32768,
	    .max_fields = 100,
	    .max_body_bytes = 1 << 20,
	    .head_us = 10 * US_PER_S,
	    .body_silence_us = 30 * US_PER_S,
	    .idle_us = 75 * US_PER_S,
	    .max_connections = 10000,
	    .max_pipelined = 16,
	    .max_queued_bytes = 256 << 10,
	    .max_streams = 100,
	};
}

static const struct {
	int status;
	const char *reason;
} reasons[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {206, "Partial Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {426, "Upgrade Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {499, "Client Closed Request"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {529, "Overloaded"},
};

const char *http_reason(int status)
{
	for (size_t i = 0; i < countof(reasons); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Unknown";
}

bool http_bodyless(int status)
{
	return status < 200 || status == 204 || status == 304;
}

struct str http_server_date(struct http_server *server)
{
	static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
					 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	uint64_t second = loop_wall_ms(server->loop) / 1000;
	time_t when = (time_t)second;
	struct tm tm;

	if (second != server->date_s || !server->date[0]) {
		gmtime_r(&when, &tm);
		snprintf(server->date, sizeof(server->date), "%s, %02u %s %04u %02u:%02u:%02u GMT",
			 days[tm.tm_wday % 7], (unsigned)tm.tm_mday % 100, months[tm.tm_mon % 12],
			 (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)tm.tm_hour % 100,
			 (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100);
		server->date_s = second;
	}
	return str_of(server->date);
}

void http_link_add(struct http_server *server, struct http_link *link,
		   const struct http_link_ops *ops)
{
	link->server = server;
	link->ops = ops;
	list_push_back(&server->links, &link->link);
	server->link_count++;
}

void http_link_remove(struct http_link *link)
{
	if (!list_linked(&link->link))
		return;
	list_remove(&link->link);
	link->server->link_count--;
}

static void on_accepted(void *ctx, int fd, const char *peer)
{
	struct http_server *server = ctx;
	size_t limit = server->options.max_connections;

	if (server->link_count >= limit + REFUSED_AT_ONCE) {
		close(fd);
		return;
	}
	http1_open(server, fd, peer, server->link_count >= limit);
}

static void on_full(void *ctx, uint64_t refused)
{
	struct http_server *server = ctx;

	if (server->ops->exhausted)
		server->ops->exhausted(server->ctx, refused);
}

static void when_full(struct http_server *server)
{
	static const char answer[] = "HTTP/1.1 503 Service Unavailable\r\n"
				     "retry-after: 1\r\n"
				     "retry-after-ms: 1000\r\n"
				     "content-length: 0\r\n"
				     "connection: close\r\n\r\n";

	listener_when_full(server->listener, server->tls ? STR("") : STR(answer), on_full);
}

int http_server_open(struct loop *loop, const struct http_server_options *options,
		     const struct http_server_ops *ops, void *ctx, const struct log *log,
		     struct http_server **ret_server)
{
	struct http_server *server = mem_new(struct http_server);
	int r = 0;

	server->loop = loop;
	server->options = *options;
	server->ops = ops;
	server->ctx = ctx;
	server->log = *log;
	server->scratch = mem_alloc(HTTP_SCRATCH_BYTES);
	list_init(&server->links);
	if (options->cert_file)
		r = tls_server_new(options->cert_file, options->key_file,
				   options->http2 ? "h2,http/1.1" : "http/1.1", log, &server->tls);
	if (!r)
		r = listener_open(loop, options->listen, options->reuse_port, on_accepted, server,
				  &server->listener);
	/* The caller's strings may go; ours are not asked for again. */
	server->options.listen = server->options.cert_file = server->options.key_file = NULL;
	if (r) {
		http_server_close(server);
		return err_trace(r);
	}
	when_full(server);
	server->port = listener_port(server->listener);
	*ret_server = server;
	return 0;
}

uint16_t http_server_port(const struct http_server *server)
{
	return server->port;
}

void http_server_drain(struct http_server *server)
{
	if (server->draining)
		return;
	server->draining = true;
	listener_close(server->listener);
	server->listener = NULL;
	list_each (&server->links, at) {
		struct http_link *link = container_of(at, struct http_link, link);

		link->ops->drain(link);
	}
}

void http_server_deafen(struct http_server *server)
{
	listener_close(server->listener);
	server->listener = NULL;
}

int http_server_listen(struct http_server *server, const char *address)
{
	int r;

	must(!server->listener && !server->draining);
	r = listener_open(server->loop, address, server->options.reuse_port, on_accepted, server,
			  &server->listener);
	if (!r)
		when_full(server);
	return err_trace(r);
}

void http_server_cut(struct http_server *server)
{
	struct http_link *link;

	while ((link = list_first(&server->links, struct http_link, link)))
		link->ops->close(link);
}

size_t http_server_connections(const struct http_server *server)
{
	return server->link_count;
}

void http_server_close(struct http_server *server)
{
	if (!server)
		return;
	server->closing = true;
	listener_close(server->listener);
	http_server_cut(server);
	tls_unref(server->tls);
	mem_free(server->scratch);
	mem_free(server);
}
