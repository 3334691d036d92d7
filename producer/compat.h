/* The compatible routes: a client of another interface sends its own body and gets its own answer back, while behind it stands a
 * job like any other. What the dialects share is here (submitting, following, holding the status, hanging up); a dialect checks a
 * body and writes its chunks. Refuses to translate requests: providers do.
 *
 *   body checked ─▶ job submitted and followed at once ─▶ first output (or hold_ms) ─▶ 200 ─▶ chunks ─▶ end
 *                                                     └─▶ fault: the dialect's error, with its status
 */
#ifndef SLUICE_PRODUCER_COMPAT_H
#define SLUICE_PRODUCER_COMPAT_H

#include "lib/relay/follow.h"
#include "producer/admit.h"
#include "producer/front.h"
#include "producer/idem.h"

enum part_type { PART_TEXT, PART_THINKING, PART_TOOL_CALL, PART_SIGNATURE, PART_REDACTED };

/* A piece of an answer. Views live as long as the request. */
struct part {
	enum part_type type;
	struct str id;
	struct str name;
	size_t from; /* byte of c->text; not streaming */
};

struct compat;
struct compat_ops {
	/* Checks @body and reads what concerns the front: model, stream, max_tokens (into c->job), and its own. */
	void (*admit)(struct compat *c, struct json_object *body, struct admitted *a);
	/* Streaming; each appends whole events to @out. @begin: before all others, once output is there. */
	void (*begin)(struct compat *c, struct buf *out);
	void (*part)(struct compat *c, const struct part *part, struct buf *out);
	void (*text)(struct compat *c, struct str text, struct buf *out);
	void (*end)(struct compat *c, const struct result *result, struct buf *out);
	void (*error)(struct compat *c, const struct refusal *refusal, struct buf *out);
	const char *keep_alive; /* a whole event or comment */
	/* Not streaming: the whole body, from c->text and c->parts. */
	void (*whole)(struct compat *c, const struct result *result, struct buf *out);
	struct str dialect; /* of the job */
};

struct compat {
	struct exchange *x; /* NULL: the client left while its job was being submitted */
	struct front *front;
	const struct compat_ops *ops;
	struct job job;
	char org[KEYS_ORG_SIZE];
	char id[ID_SIZE]; /* the job's */
	struct follow *follow;
	struct submit *submit;
	struct redis_request *request;
	struct idem idem;
	bool keyed;
	struct timer timer; /* hold, then keep-alive */
	char provider[64];
	char model[160]; /* that answers; the one that was asked for until it is known */
	bool opened;	 /* the status was sent */
	bool begun;	 /* output was there */
	bool ended;
	struct buf text; /* not streaming: the answer so far */
	struct part *parts;
	size_t part_count;

	/* the dialect's own */
	bool include_usage;
	bool functions;	    /* asked for in the words of before tools */
	bool function_told; /* so was a call of one */
	bool function_open;
	struct buf
	    sealed; /* streaming: of a signature or of redacted thinking, told in one piece */
	enum part_type open_type;
	bool open_part;
	int64_t index; /* of the open block or tool call */
};

/* A route's `serve`. */
void compat_serve(struct exchange *x, const struct compat_ops *ops);

/* For the dialects: common checks. @param of a wrong member is its path. */
void compat_model(struct compat *c, struct json_object *body, struct admitted *a);
void compat_stream(struct compat *c, struct json_object *body, struct admitted *a);
/* A list of objects with one of @roles (NULL-ended) each. */
void compat_messages(struct json_object *body, const char *const *roles, struct admitted *a);
/* The n-th part's bytes of the whole answer. */
struct str compat_part_text(const struct compat *c, size_t n);

#endif
