/* The fleet of one history and its clients: the product's own programs on simulated loops. */
#ifndef SLUICE_TESTS_WORLD_FLEET_H
#define SLUICE_TESTS_WORLD_FLEET_H

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/id.h"
#include "lib/base/metric.h"
#include "lib/svc/svc.h"
#include "tests/world/world.h"

#define NODES_MAX 13
#define JOBS_MAX 48
#define TRIES_MAX 8
#define SESSIONS_MAX 4
#define FRONTS_MAX 2
#define PHONES_MAX 4

struct archive;
struct json_object;
struct later;
struct phone;
struct pool;
struct push;
struct relay;
struct scheduler;
struct submitter;

enum node_kind { NODE_POOL, NODE_FRONT, NODE_ARCHIVE, NODE_SCHEDULER, NODE_PUSH };

/* One process at a time; a new incarnation takes its place. */
struct node {
	enum node_kind kind;
	char id[40];
	struct loop *loop; /* NULL: down */
	struct metrics metrics;
	struct svc svc;
	struct pool *pool;
	struct archive *archive;
	struct redis *redis;
	struct pg *pg;
	struct blob *blob;
	struct lane_writer *writer;
	struct submitter *submitter;
	struct relay *relay;
	struct scheduler *scheduler;
	struct later *later;
	struct push *push;
	uint64_t back_us; /* when it is started again; 0: it is up */
	bool draining;
	bool rotated; /* a pool: it has the other keys */
};

/* One id of a client's job, and what its client was told. */
enum job_told { TOLD_NOTHING, TOLD_ACCEPTED, TOLD_REFUSED, TOLD_UNSURE };
struct job_try {
	char id[ID_SIZE];
	enum job_told told;
};

struct client_follow;

struct client_job {
	int number;
	const char *lane;
	int session; /* -1: none */
	const char *task;
	const char *on_cut;
	int64_t queue_ms;
	int64_t run_ms;
	unsigned kills; /* poisonous: so many more of its calls kill the pool */
	struct job_try tries[TRIES_MAX];
	size_t try_count;
	unsigned rounds; /* submits begun */
	bool settled;	 /* the client has an answer or gave up */
	bool cancelled;
	bool followed;
	struct client_follow *follow;
	struct phone *phone; /* submits it over a WebSocket; NULL: over a front */
	uint64_t begun_us;
};

struct fleet {
	struct node nodes[NODES_MAX];
	size_t node_count;
	struct client_job jobs[JOBS_MAX];
	int job_count;
	char org[ID_SIZE];
	char sessions[SESSIONS_MAX][ID_SIZE];
	int session_count;
	uint64_t heal_us; /* from here on nothing goes wrong */
	bool excused;	  /* something happened after which a call may be repeated */
	bool torn;	  /* ... or a call's end is known to nobody */
	unsigned crashes;
};
extern struct fleet fleet;

/* Reads the configuration; before the first history. */
void fleet_prepare(void);
const struct config *fleet_config(void);
void fleet_begin(void);
struct node *fleet_front(void); /* a random one that is up, or NULL */

/* push.c: nodes of the push service. */
void push_prepare(void);
void push_begin(void);
void push_node_open(struct node *node);
void push_node_drain(struct node *node);
struct node *push_any(void); /* a random one that is up, or NULL */
void push_check(void);

void clients_begin(void);
bool clients_done(void);
/* The body of the job, as a client writes it; @session: named in it. */
void client_body(const struct client_job *job, bool session, struct buf *out);

/* phone.c */
#define KEY_OF_ALL "sk-sluice-0123456789abcdefghijklmnopqrstuvwxyzABCD"
void phones_begin(void);
struct phone *phone_any(void); /* NULL: there is none */
/* Its session's number, -1: one of its own. */
int phone_session(const struct phone *phone);
/* It submits the job as soon as it can. */
void phone_submit(struct phone *phone, struct client_job *job);
void phone_cancel(struct phone *phone, struct client_job *job);
/* Half of them vanish, and come back at the earliest after so long. */
void phones_away(uint64_t for_us);
bool phones_done(void);
void phones_check(void);

struct client_follow {
	struct client_job *job;
	char id[ID_SIZE];
	struct node *node;
	struct loop *loop; /* of the incarnation that serves it */
	struct follow *follow;
	int64_t attempt;
	struct buf text;
	int64_t seams[32]; /* bytes at which it heard of one */
	size_t seam_count;
	bool ended;
	char status[16];
	unsigned opened;
};

/* check.c: before, and after a history. */
void check_begin(void);
void check_end(void);
bool check_quiet(void);
/* The text of a job's row. */
void check_stored(struct json_object *row, struct buf *out);
/* Repeated calls that are excused. */
unsigned check_repeated(void);
/* Ended jobs that are left in the open set. */
unsigned check_open(void);

#endif
