/* The example page (ops/client/chat) and the browser's client, served by the front where `pages` is set; their files are compiled in.
 * Without a key only files are given out. Where `pages_key_file` is set as well, for a stack on one machine, the page may make
 * sessions and tickets of that key's organisation without showing a key: such a front must listen on loopback, and answers only
 * those who call it by a loopback name, so that no page of another name reaches it through this machine's browser. Refuses to give
 * a key to anybody.
 *
 *   /chat              the page           /chat/config    where push is, and whether a key is needed
 *   /chat/{file}       its files          /chat/sessions, /chat/tickets, /chat/models   as below /v1, by the front's own key */
#ifndef SLUICE_PRODUCER_PAGE_H
#define SLUICE_PRODUCER_PAGE_H

#include <stddef.h>

#include "lib/base/err.h"
#include "lib/base/str.h"

struct exchange;
struct front_options;
struct http_req;
struct log;
struct pages;
struct route;

/* Generated from the folder. @text: its bytes. */
struct page_file {
	const char *name; /* "chat.css" */
	struct str text;
};
extern const struct page_file page_files[];
extern const size_t page_file_count;

/* At start-up: reads the key's file. NULL in @ret_pages where pages are off. -EINVAL where an option is not good; said in the log.
 * A key file that cannot be read is a warning: the page asks for a key then. */
must_check int pages_open(const struct front_options *options, const struct log *log,
			  struct pages **ret_pages);
/* Accepts NULL. */
void pages_free(struct pages *pages);

enum page_access {
	PAGE_NONE, /* not a page's: as any route */
	PAGE_OPEN, /* without a key */
	PAGE_KEY,  /* by the front's own */
	PAGE_OFF,  /* as if it were not there */
};
/* Who may have @route; @pages may be NULL, @ret_key is set for PAGE_KEY. */
enum page_access pages_access(const struct pages *pages, const struct route *route,
			      const struct http_req *req, struct str *ret_key);

#endif
