/* The scribe: one answer in memory, on its way to Redis. The first bytes go at once (unless it is patient), later ones are rolled up; every write names its
 * place and the claim's fence, and where Redis holds another length the whole text is written anew. While Redis is away the text stays
 * here. It refuses to decide: a lost claim is its owner's to handle. */
#ifndef SLUICE_POOL_SCRIBE_H
#define SLUICE_POOL_SCRIBE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/list.h"
#include "lib/net/loop.h"
#include "lib/store/redis.h"

struct series;
struct state_append;

struct scribe_ops {
	/* The claim is not held any more. */
	void (*lost)(void *ctx);
	/* A write brought the wish to cancel. */
	void (*wish)(void *ctx);
	/* After scribe_flush: Redis has all of it. */
	void (*flushed)(void *ctx);
	/* The attempt's first write is about to be made. */
	void (*begins)(void *ctx);
};

#define SCRIBE_PARTS_MAX 128

struct pace;

struct scribe_part {
	int64_t at;
	const char *type;
	struct str id;
	struct str name;
};

/* Embedded in its owner; zeroed + scribe_init. */
struct scribe {
	struct loop *loop;
	struct redis *redis;
	struct str job;
	struct str channel;
	const char *fence; /* the owner's present one */
	int64_t deadline_ms;
	uint64_t roll_us;
	struct pace *
	    pace; /* of all scribes of the process: the gap between two writes when it is longer; NULL: none */
	bool patient; /* the first bytes are rolled up as well: nobody watches */
	const struct scribe_ops *ops;
	void *ctx;
	struct series *rewrites;

	int64_t attempt;
	struct buf text;
	int64_t sent;		/* bytes handed to Redis, if all goes well */
	uint64_t first_wall_ms; /* first byte of this attempt */
	bool first_said;
	bool parts_dirty;
	bool rewrite; /* Redis holds something else: the next write replaces all */
	bool flushing;
	bool held;		   /* its claim is in doubt: nothing is written */
	struct scribe_part *parts; /* SCRIBE_PARTS_MAX at most; NULL where all is text */
	size_t part_count;
	size_t part_bytes; /* of their ids and names */
	size_t part_room;
	struct arena arena;
	struct list writes; /* under way, in order */
	size_t write_count;
	uint64_t last_us;
	struct timer timer;
	struct task soon; /* first bytes, sent at the end of the turn that brought them */
	struct task told; /* flushed, said from the loop */
};

void scribe_init(struct scribe *s, struct loop *loop, struct redis *redis,
		 const struct scribe_ops *ops, void *ctx);
void scribe_fini(struct scribe *s);
/* Forgets the text: a new attempt begins. Writes under way get no answer. */
void scribe_begin(struct scribe *s, int64_t attempt);
/* The claim is in doubt, and made again under another fence: nothing is written or told until scribe_adopt or scribe_begin. */
void scribe_hold(struct scribe *s);
/* The same text under another attempt and fence: after a claim was lost and won again. */
void scribe_adopt(struct scribe *s, int64_t attempt);
/* Of the present attempt, nothing said yet: an owner's before goes on as its own, written anew as a whole. @parts: as scribe_parts_json
 * wrote them; empty: all is text. */
void scribe_recall(struct scribe *s, struct str text, struct str parts, uint64_t first_wall_ms);
/* What follows is another part. False, and nothing done, where the answer has SCRIBE_PARTS_MAX of them. */
must_check bool scribe_part(struct scribe *s, const char *type, struct str id, struct str name);
void scribe_text(struct scribe *s, struct str text);
/* The text goes on from another provider: told to the followers, behind the bytes before it. */
void scribe_seam(struct scribe *s, const char *provider, const char *model);
/* What is not sent yet, for the write that ends the answer (it may be nothing); it counts as sent. @head and @parts, empty before, hold
 * its texts. False where the whole text has to be written anew: scribe_flush does. */
bool scribe_rest(struct scribe *s, struct state_append *ret_rest, struct buf *head,
		 struct buf *parts);
/* Sends what is left; ops.flushed once Redis confirmed everything. */
void scribe_flush(struct scribe *s);
/* [{at, type, id, name}] with the implicit first part. */
void scribe_parts_json(const struct scribe *s, struct buf *out);
/* The bytes of the parts that are text. */
void scribe_plain(const struct scribe *s, struct buf *out);

#endif
