#include "producer/page.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/identity/keys.h"
#include "lib/net/digest.h"
#include "producer/front.h"

#define INDEX "index.html"
/* Nothing from elsewhere, no scripts in the page's text, in nobody's frame. */
#define POLICY                                                                            \
	"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " \
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'"

struct pages {
	char key[KEYS_TOKEN_SIZE]; /* empty: none */
	struct buf policy;
	struct buf config;
	char (*tags)[20]; /* of page_files: a quoted digest */
};

/* ── start-up ── */

static bool on_loopback(const char *listen)
{
	return strncmp(listen, "127.", 4) == 0 || strncmp(listen, "localhost:", 10) == 0 ||
	       strncmp(listen, "[::1]:", 6) == 0;
}

/* In a header field and in a page: nothing that could end a word. */
static bool is_push_url(const char *url)
{
	if (!url[0])
		return true;
	if (strncmp(url, "ws://", 5) != 0 && strncmp(url, "wss://", 6) != 0)
		return false;
	for (const char *c = url; *c; c++)
		if (*c <= ' ' || *c == ';' || *c == ',' || *c == '"' || *c == '\'' || *c >= 0x7f)
			return false;
	return true;
}

static void read_key(struct pages *pages, const char *path, const struct log *log)
{
	char line[KEYS_TOKEN_SIZE + 1] = "";
	FILE *file = fopen(path, "re");
	struct str key;

	if (file && !fgets(line, sizeof(line), file))
		line[0] = '\0';
	if (file)
		fclose(file);
	line[strcspn(line, "\r\n")] = '\0';
	key = str_of(line);
	if (keys_shape(key))
		memcpy(pages->key, key.ptr, key.len);
	else
		log_warn(log, "pages_key_file has no key: the page asks for one",
			 F_STR("file", path));
	mem_wipe(line, sizeof(line));
}

static void write_config(struct pages *pages, const struct front_options *options)
{
	struct json_out o = {.buf = &pages->config};

	json_open(&o, '{');
	json_put_text(&o, "push", options->pages_push_url[0] ? options->pages_push_url : NULL);
	json_put_bool(&o, "own_key", pages->key[0] != '\0');
	json_put_text(&o, "task", options->pages_task);
	json_put_bool(&o, "simulated", options->pages_simulated);
	json_close(&o, '}');
}

static void write_policy(struct pages *pages, const char *push)
{
	const char *host = strstr(push, "://");

	buf_add_text(&pages->policy, POLICY);
	if (!host)
		return;
	buf_add_char(&pages->policy, ' ');
	buf_add(&pages->policy, push, (size_t)(host + 3 - push) + strcspn(host + 3, "/?#"));
}

int pages_open(const struct front_options *options, const struct log *log, struct pages **ret_pages)
{
	struct pages *pages;

	*ret_pages = NULL;
	if (!options->pages)
		return 0;
	if (!is_push_url(options->pages_push_url)) {
		log_error(log, "front.pages_push_url must be ws:// or wss://");
		return err_origin(-EINVAL);
	}
	if (options->pages_key_file[0] && !on_loopback(options->listen)) {
		log_error(log, "front.pages_key_file is for a front that listens on loopback only");
		return err_origin(-EINVAL);
	}
	pages = mem_new(struct pages);
	if (options->pages_key_file[0])
		read_key(pages, options->pages_key_file, log);
	write_config(pages, options);
	write_policy(pages, options->pages_push_url);
	pages->tags = mem_alloc((page_file_count + 1) * sizeof(*pages->tags));
	for (size_t i = 0; i < page_file_count; i++) {
		char hex[DIGEST_SHA256_HEX_SIZE];

		digest_sha256_hex(page_files[i].text, hex);
		snprintf(pages->tags[i], sizeof(*pages->tags), "\"%.16s\"", hex);
	}
	*ret_pages = pages;
	return 0;
}

void pages_free(struct pages *pages)
{
	if (!pages)
		return;
	mem_wipe(pages->key, sizeof(pages->key));
	buf_fini(&pages->policy);
	buf_fini(&pages->config);
	mem_free(pages->tags);
	mem_free(pages);
}

/* ── who may ── */

/* What a name of another site that resolves to this machine is not. */
static bool loopback_name(struct str host)
{
	struct str name = host;

	if (str_starts(host, "[::1]"))
		return host.len == 5 || host.ptr[5] == ':';
	str_split(&host, ':', &name);
	if (str_is_nocase(name, "localhost"))
		return true;
	for (size_t i = 0; i < name.len; i++)
		if ((name.ptr[i] < '0' || name.ptr[i] > '9') && name.ptr[i] != '.')
			return false;
	return str_starts(name, "127.");
}

/* A browser says whose page asks for a POST: ours alone. */
static bool own_origin(const struct http_req *req)
{
	struct str origin = http_field(req, "origin"), host = http_field(req, "host");

	return !origin.len ||
	       (origin.len > host.len + 3 &&
		str_eq(host, (struct str){origin.ptr + origin.len - host.len, host.len}) &&
		memcmp(origin.ptr + origin.len - host.len - 3, "://", 3) == 0);
}

enum page_access pages_access(const struct pages *pages, const struct route *route,
			      const struct http_req *req, struct str *ret_key)
{
	if (strncmp(route->pattern, "/chat", 5) != 0)
		return PAGE_NONE;
	if (!pages)
		return PAGE_OFF;
	if (route->serve == page_index || route->serve == page_config || route->serve == page_get)
		return PAGE_OPEN;
	if (!pages->key[0] || !loopback_name(http_field(req, "host")) || !own_origin(req))
		return PAGE_OFF;
	*ret_key = str_of(pages->key);
	return PAGE_KEY;
}

/* ── answers ── */

static const char *type_of(const char *name)
{
	static const struct {
		const char *end, *type;
	} types[] = {{".html", "text/html; charset=utf-8"},
		     {".css", "text/css; charset=utf-8"},
		     {".js", "text/javascript; charset=utf-8"},
		     {".svg", "image/svg+xml"}};
	size_t len = strlen(name);

	for (size_t i = 0; i < countof(types); i++) {
		size_t end = strlen(types[i].end);

		if (len > end && strcmp(name + len - end, types[i].end) == 0)
			return types[i].type;
	}
	return "application/octet-stream";
}

static void give(struct exchange *x, struct str name)
{
	const struct pages *pages = x->front->pages;
	struct str none = http_field(x->req, "if-none-match");
	size_t at = 0;

	while (at < page_file_count && !str_is(name, page_files[at].name))
		at++;
	if (at == page_file_count) {
		exchange_fault(x, FAULT_NOT_FOUND, "There is no such page.");
		return;
	}
	http_add_field(x->req, "content-security-policy", buf_str(&pages->policy));
	http_add_field(x->req, "x-content-type-options", STR("nosniff"));
	http_add_field(x->req, "referrer-policy", STR("no-referrer"));
	http_add_field(x->req, "cache-control", STR("no-cache"));
	http_add_field(x->req, "etag", str_of(pages->tags[at]));
	if (str_is(none, pages->tags[at]))
		exchange_answer(x, 304, NULL, STR(""));
	else
		exchange_answer(x, 200, type_of(page_files[at].name), page_files[at].text);
}

void page_index(struct exchange *x)
{
	give(x, STR(INDEX));
}

void page_get(struct exchange *x)
{
	give(x, x->param);
}

void page_config(struct exchange *x)
{
	http_add_field(x->req, "cache-control", STR("no-store"));
	exchange_answer(x, 200, "application/json", buf_str(&x->front->pages->config));
}
