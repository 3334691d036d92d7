/* The parts of an answer, told one after the other however the vendor mixes them: what follows a part belongs to the next one, so of a
 * part that comes while an earlier one is still open the bytes are kept, and told when that one has ended. Refuses to go back to a part
 * that has ended. For files of this folder.
 *
 *   parts_begin ─▶ (waiting: bytes kept) ─▶ open: bytes told as they come ─▶ ended
 *
 * A text (or thinking) ends where another part begins. A tool call ends where its arguments are a whole JSON object, or by parts_stop. */
#ifndef SLUICE_CONSUMERS_PROVIDERS_PARTS_H
#define SLUICE_CONSUMERS_PROVIDERS_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/base/str.h"

struct answer;

/* No answer that is kept has more. */
#define PARTS_MAX 128
/* Bytes kept for the parts that wait: as many as an answer has by default. */
#define PARTS_HELD_MAX (4u << 20)

struct part {
	const char *type; /* "text", "thinking", …: static */
	int64_t key;	  /* the vendor's own: an index */
	struct buf id;
	struct buf name;
	struct buf held;
	bool told;
	bool stopped;
	/* a tool call's arguments, as far as they came */
	unsigned depth;
	bool in_string, escaped, whole;
};

/* Embedded; zeroed is empty. */
struct parts {
	struct part *all; /* in the order of their beginnings */
	size_t count;
	size_t room;
	size_t open; /* those before it have ended */
	size_t held_bytes;
};

void parts_fini(struct parts *parts);

/* Begins another part. NULL: the answer is over (too many parts, an id or a name that is too long). The part lives until the next
 * parts_begin. */
struct part *parts_begin(struct answer *a, const char *type, int64_t key, struct str id,
			 struct str name);
/* The newest part of this key and id; with an empty @id, of this key. One that was begun without an id has any. NULL: none. */
struct part *parts_find(struct answer *a, int64_t key, struct str id);
/* The newest of all; NULL: none was begun. */
struct part *parts_last(struct answer *a);
/* Whether what comes now for the part of this key and type is told at once: it is open, and nothing waits behind it. */
bool parts_flows(const struct answer *a, int64_t key, const char *type);
/* More of a part. What is not blank for one that has ended fails the answer. */
void parts_text(struct answer *a, struct part *part, struct str text);
/* The name of a tool call that began without one. */
void parts_name(struct answer *a, struct part *part, struct str name);
/* Nothing more comes for it; NULL is ignored. */
void parts_stop(struct answer *a, struct part *part);
/* The answer is complete: what waits is told. */
void parts_end(struct answer *a);

#endif
