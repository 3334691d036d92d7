/* HTTP/1.1 requests as bytes (RFC 9112): finds heads, reads them, takes bodies apart. It does no
 * I/O, keeps no body and knows no answer. The line discipline and everything that smuggling lives
 * from is checked here and twice: by llhttp (strict) and by ourselves; where the two do not agree
 * about the fields, the request is refused.
 *
 *   http1_next ─▶ HEAD ─▶ http1_read_head ─▶ BODY* ─▶ END ─▶ (the next request's HEAD)
 *             └─▶ BAD at any time: status and reason stand in the parser; nothing may be fed
 * afterwards
 */
#ifndef SLUICE_NET_HTTP1_H
#define SLUICE_NET_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/str.h"
#include "lib/net/http.h"

enum http1_event { HTTP1_MORE, HTTP1_HEAD, HTTP1_BODY, HTTP1_END, HTTP1_BAD };

enum http1_state { HTTP1_IN_HEAD, HTTP1_IN_LENGTH, HTTP1_IN_CHUNKS };

struct http1_chunks;

/* Zeroed + http1_init. */
struct http1 {
	size_t max_head_bytes;
	size_t max_fields;
	enum http1_state state;
	uint8_t blank_lines;	     /* in front of the request line */
	size_t scanned;		     /* bytes of the unfinished head that were looked at */
	uint64_t left;		     /* of a body with a length */
	struct http1_chunks *chunks; /* only while a chunked body is read */
	int status;		     /* after HTTP1_BAD: 400, 414, 417, 431, 501, 505 */
	const char *reason;	     /* a static text for the answer's body */
};

/* A head that was read; the views point into the arena. */
struct http1_head {
	struct str method;
	struct str target;
	struct http_field *fields; /* names in lower case, values trimmed */
	size_t field_count;
	unsigned minor; /* of HTTP/1.x */
	bool keep_alive;
	bool expect; /* 100-continue, and the client speaks 1.1 */
	bool chunked;
	uint64_t length; /* 0 where none was named */
};

void http1_init(struct http1 *p, size_t max_head_bytes, size_t max_fields);
/* Accepts a zeroed one. */
void http1_fini(struct http1 *p);

/* Looks for the next event in @in, whose first @ret_used bytes are consumed with it; the caller
 * feeds the rest again, with what came behind. HTTP1_MORE  nothing whole is there; more bytes are
 * needed HTTP1_HEAD  the consumed bytes are a whole head: http1_read_head is due HTTP1_BODY
 * @ret_body is a piece of the body, a view into @in HTTP1_END   the request is whole HTTP1_BAD
 * refused */
enum http1_event http1_next(struct http1 *p, struct str in, size_t *ret_used, struct str *ret_body);

/* Reads the head @raw (copied into @arena). False where it is refused: status and reason stand in
 * the parser. */
must_check bool http1_read_head(struct http1 *p, struct str raw, struct arena *arena,
				struct http1_head *ret_head);

#endif
