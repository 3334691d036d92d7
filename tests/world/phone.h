/* A client of the push service on the wire of protocol.md, section 2: its life (phone.c), its connections' bytes (talk.c), and what it is told
 * with what must hold of it (heard.c). Refuses to know the service from inside. */
#ifndef SLUICE_TESTS_WORLD_PHONE_H
#define SLUICE_TESTS_WORLD_PHONE_H

#include "lib/base/buf.h"
#include "lib/base/json.h"
#include "lib/base/map.h"
#include "tests/world/fleet.h"
#include "tests/world/line.h"

#define RESUME_SIZE 1024

/* A job's answer, as the client has it. */
struct answer {
	struct list link;
	char id[ID_SIZE];
	bool accepted; /* the client was told so */
	int64_t attempt;
	struct buf text;
	bool ended; /* it heard the end once: */
	struct buf final;
	char status[16];
	uint64_t ack_at_us; /* when it will acknowledge */
	bool ack_said;	    /* on whatever connection; it may not have arrived */
	bool acked;	    /* and the node answered a ping behind that */
	uint64_t again_us;  /* to be attached then; 0: no */
	/* on the present connection */
	bool going;	 /* told where its text begins: deltas follow */
	bool named;	 /* asked for, and not answered yet */
	bool named_byte; /* … from this position */
	bool lied;	 /* which it does not have */
	int64_t named_attempt;
	int64_t named_at;
	bool fresh; /* just accepted: a snapshot may come first */
	bool
	    started; /* since then it was told who works on it; a short background call is not told */
	bool told;   /* its end */
	bool unsure; /* its state was not known: as a job of the session it is told
			      again unasked, and that may cross what the client asks */
	/* attached while nothing of it was told here: the session may tell it unasked, and that cross the attach, which is answered all
	 * the same */
	bool crossing;
	bool cancelled;	   /* it asked so */
	unsigned ack_ping; /* the ping behind the acknowledgement; 0: none was sent */
};

/* One submit under one ref. */
struct order {
	struct client_job *job;
	struct answer *answer; /* NULL: not accepted yet */
	uint64_t due_us;
	bool sent;   /* on this connection, and not answered */
	bool unsure; /* it may be accepted, and the client does not know */
};

enum talk_state { TALK_UPGRADE, TALK_HELLO, TALK_OPEN, TALK_OVER };

/* A connection. */
struct talk {
	struct phone *phone;
	struct node *node;
	struct line *line;
	enum talk_state state;
	uint64_t since_us; /* of that state */
	struct buf in;
	bool resumes;  /* hello had a resume token */
	bool stranger; /* one that is not good: the connection is another session's */
	bool hello_twice;
	bool slow;  /* it did not read for a while */
	bool taken; /* a newer connection of the same line was begun */
	bool draining;
	uint64_t reads_us; /* again */
	unsigned code;	   /* of the close frame; 0: none came */
	unsigned pings, pongs;
	unsigned acks; /* said; a node reads five messages a second at least */
	uint64_t pinged_us;
};

enum phone_last { LAST_NOT, LAST_ACKED, LAST_TAKING, LAST_LISTENING, LAST_OVER };

struct phone {
	int number;
	int conversation; /* the fleet's session, or -1 */
	bool forgetful;	  /* has nothing but its token: names no jobs */
	char session[ID_SIZE];
	char resume[RESUME_SIZE];
	struct order orders[JOBS_MAX];
	size_t order_count;
	unsigned strays; /* submits of which it never heard what became of them */
	struct list answers;
	struct talk *now;
	struct talk *old; /* stands still, beside the newer one */
	uint64_t connect_us;
	enum phone_last last;
	uint64_t last_us;
	uint64_t acked_us; /* an acknowledgement was answered */
	unsigned takes;
	struct map listed; /* jobs that waited for it somewhere when it was welcomed last */
};

struct answer *phone_answer(struct phone *p, struct str id);
struct answer *phone_answer_make(struct phone *p, struct str id);
/* It is welcomed after it acknowledged all: what waits for it somewhere by now it must be told of. */
void phone_listed(struct phone *p);
/* Forgets the text. */
void answer_begin(struct answer *a, int64_t attempt);
/* The connection ended. */
void phone_over(struct phone *p, struct talk *t);

/* talk.c */
struct talk *talk_begin(struct phone *p, struct node *node);
void talk_say(struct talk *t, struct str text);
void talk_ping(struct talk *t);
/* Begins the closing handshake. */
void talk_bye(struct talk *t);
/* Gone for the client; the node may hear of it or not. */
void talk_drop(struct talk *t, bool heard);

/* heard.c */
void heard(struct talk *t, struct str text);
/* The node said nothing more; @orderly: with a close frame. */
void heard_close(struct talk *t, bool orderly);

#endif
