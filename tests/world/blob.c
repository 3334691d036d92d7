/* lib/store/blob.h in memory: one store for the whole world. */
#include "lib/store/blob.h"

#include <stdio.h>

#include "lib/base/map.h"
#include "lib/base/mem.h"
#include "tests/world/world.h"

static struct map blobs;

struct blob {
	struct loop *loop;
	bool closed;
};

struct blob_request {
	struct blob *blob;
	char ref[BLOB_REF_SIZE];
	size_t max;
	void (*put)(void *ctx, enum blob_result result, const char *ref);
	void (*get)(void *ctx, enum blob_result result, struct str bytes);
	void *ctx;
};

int blob_open(struct loop *loop, const char *dir, const struct log *log, struct blob **ret_blob)
{
	(void)dir;
	(void)log;
	*ret_blob = mem_new(struct blob);
	(*ret_blob)->loop = loop;
	return 0;
}

void blob_close(struct blob *blob)
{
	if (blob)
		blob->closed = true;
}

static void on_done(void *ctx)
{
	struct blob_request *r = ctx;
	struct str *found = map_find(&blobs, str_of(r->ref));

	if (r->blob->closed)
		return;
	if (r->put)
		r->put(r->ctx, BLOB_OK, r->ref);
	else if (r->get && !found)
		r->get(r->ctx, BLOB_MISSING, STR(""));
	else if (r->get)
		r->get(r->ctx, found->len > r->max ? BLOB_FAILED : BLOB_OK, *found);
}

struct blob_request *blob_put(struct blob *blob, struct str bytes,
			      void (*done)(void *ctx, enum blob_result result, const char *ref),
			      void *ctx)
{
	struct blob_request *r = mem_new(struct blob_request);
	struct str *kept = mem_new(struct str);
	uint64_t h = 14695981039346656037u;

	for (size_t i = 0; i < bytes.len; i++)
		h = (h ^ (unsigned char)bytes.ptr[i]) * 1099511628211u;
	r->blob = blob;
	r->put = done;
	r->ctx = ctx;
	snprintf(r->ref, sizeof(r->ref), "blob_%064llx", (unsigned long long)h);
	*kept = (struct str){mem_dup(bytes.ptr, bytes.len), bytes.len};
	map_set(&blobs, str_of(r->ref), kept);
	world_in(world_delay_us(), blob->loop, on_done, r);
	return r;
}

struct blob_request *blob_get(struct blob *blob, const char *ref, size_t max_bytes,
			      void (*done)(void *ctx, enum blob_result result, struct str bytes),
			      void *ctx)
{
	struct blob_request *r = mem_new(struct blob_request);

	r->blob = blob;
	r->get = done;
	r->ctx = ctx;
	r->max = max_bytes;
	snprintf(r->ref, sizeof(r->ref), "%s", ref);
	world_in(world_delay_us(), blob->loop, on_done, r);
	return r;
}

void blob_cancel(struct blob_request *request)
{
	request->put = NULL;
	request->get = NULL;
}
