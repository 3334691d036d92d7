/* Idempotency-Key, scoped to an organisation and a route: the same key and body are one request, however often they come. While
 * its answer is not known the same id is made again; its answer is kept for a day, a refusal of the request too. Refuses to
 * keep answers that may change (408, 429, 5xx). */
#ifndef SLUICE_PRODUCER_IDEM_H
#define SLUICE_PRODUCER_IDEM_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/net/digest.h"
#include "lib/store/redis.h"

#define IDEM_KEY_MAX 255

struct admitted;
struct exchange;
struct refusal;

enum idem_verdict {
	IDEM_NEW,      /* the first */
	IDEM_PENDING,  /* the same is or was under way: make @id again */
	IDEM_DONE,     /* @status and @reply are its answer */
	IDEM_CONFLICT, /* the key was used for another body */
	IDEM_UNSURE,   /* Redis did not say */
};

/* A key in use. Plain data. */
struct idem {
	char hash[DIGEST_SHA256_HEX_SIZE];
};

struct idem_answer {
	enum idem_verdict verdict;
	struct str id;
	int status;
	struct str reply;
};

/* Uses @key on @route for @body, reserving @id. @done's views live until it returns. */
struct redis_request *idem_begin(struct redis *redis, struct idem *idem, struct str org,
				 const char *route, struct str key, struct str body, struct str id,
				 void (*done)(void *ctx, const struct idem_answer *answer),
				 void *ctx);
/* Keeps the answer of @id; @status 0: the key is free again, where another try took it too only with the reply `void` (@id is refused
 * for good). @done as redis_command's, or NULL. */
struct redis_request *idem_end(struct redis *redis, const struct idem *idem, struct str org,
			       struct str id, int status, struct str reply, redis_fn *done,
			       void *ctx);
/* True where an answer with this status is kept. */
bool idem_keeps(int status);
/* Refuses an Idempotency-Key that is empty or too long. */
void idem_admit(struct exchange *x, struct admitted *a);
/* Answers with a refusal that the request's own bytes deserve, before anything was done with them, and keeps it where the
 * request has a good Idempotency-Key; what the key has already is answered instead. The route's own work (x->work) must be
 * freed: the exchange is this function's. */
void idem_refuse(struct exchange *x, const struct refusal *refusal);

#endif
