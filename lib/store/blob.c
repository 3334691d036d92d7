#include "lib/store/blob.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/list.h"
#include "lib/base/mem.h"
#include "lib/net/digest.h"
#include "lib/net/file.h"
#include "lib/net/loop.h"

#define REF_PREFIX "blob_"
#define REF_LEN (sizeof(REF_PREFIX) - 1 + 2 * DIGEST_SHA256_SIZE)

struct blob {
	struct loop *loop;
	char *dir;
	struct log log;
	struct list requests;
};

struct blob_request {
	struct list link; /* in blob->requests */
	struct blob *blob;
	struct file_request *file;
	struct task soon; /* a result that needs no file */
	char ref[BLOB_REF_SIZE];
	enum blob_result result;
	void (*put_done)(void *ctx, enum blob_result result, const char *ref);
	void (*get_done)(void *ctx, enum blob_result result, struct str bytes);
	void *ctx;
};

static void request_free(struct blob_request *request)
{
	list_remove(&request->link);
	task_cancel(&request->soon);
	mem_free(request);
}

static void finish(struct blob_request *request, enum blob_result result, struct str bytes)
{
	request->file = NULL;
	list_remove(&request->link);
	if (request->put_done)
		request->put_done(request->ctx, result, result == BLOB_OK ? request->ref : NULL);
	else if (request->get_done)
		request->get_done(request->ctx, result, bytes);
	request_free(request);
}

static void on_soon(struct task *task)
{
	struct blob_request *request = container_of(task, struct blob_request, soon);

	finish(request, request->result, (struct str){0});
}

static struct blob_request *request_new(struct blob *blob, void *ctx)
{
	struct blob_request *request = mem_new(struct blob_request);

	request->blob = blob;
	request->ctx = ctx;
	task_init(&request->soon, blob->loop, on_soon);
	list_push_back(&blob->requests, &request->link);
	return request;
}

/* DIR/ab/blob_ab…: 256 folders. */
static char *path_of(const struct blob *blob, const char *ref)
{
	const char *hex = ref + sizeof(REF_PREFIX) - 1;

	return mem_printf("%s/%.2s/%s", blob->dir, hex, ref);
}

/* A reference comes from a record: nothing but one of our own names becomes a path. */
static bool is_ref(const char *ref)
{
	size_t prefix = sizeof(REF_PREFIX) - 1;

	if (strlen(ref) != REF_LEN || strncmp(ref, REF_PREFIX, prefix) != 0)
		return false;
	return strspn(ref + prefix, "0123456789abcdef") == REF_LEN - prefix;
}

static void on_written(void *ctx, int error)
{
	struct blob_request *request = ctx;

	if (error)
		log_error(&request->blob->log, "a blob could not be written",
			  F_INT("errno", -error), F_STR("ref", request->ref));
	finish(request, error ? BLOB_FAILED : BLOB_OK, (struct str){0});
}

struct blob_request *blob_put(struct blob *blob, struct str bytes,
			      void (*done)(void *ctx, enum blob_result result, const char *ref),
			      void *ctx)
{
	struct blob_request *request = request_new(blob, ctx);
	char hex[DIGEST_SHA256_HEX_SIZE];
	cleanup_free char *path = NULL;

	digest_sha256_hex(bytes, hex);
	memcpy(request->ref, REF_PREFIX, sizeof(REF_PREFIX) - 1);
	memcpy(request->ref + sizeof(REF_PREFIX) - 1, hex, sizeof(hex));
	request->put_done = done;
	path = path_of(blob, request->ref);
	/* The same bytes have the same name: writing them again replaces them by themselves. */
	request->file = file_write(blob->loop, path, bytes, on_written, request);
	return request;
}

/* What was read must be what was written: the name says which bytes they are. */
static void on_read(void *ctx, int error, struct str bytes)
{
	struct blob_request *request = ctx;
	char hex[DIGEST_SHA256_HEX_SIZE];

	if (error == -ENOENT) {
		finish(request, BLOB_MISSING, (struct str){0});
		return;
	}
	if (!error) {
		digest_sha256_hex(bytes, hex);
		if (strcmp(hex, request->ref + sizeof(REF_PREFIX) - 1) != 0)
			error = -EILSEQ;
	}
	if (error)
		log_error(&request->blob->log, "a blob could not be read", F_INT("errno", -error),
			  F_STR("ref", request->ref));
	finish(request, error ? BLOB_FAILED : BLOB_OK, error ? (struct str){0} : bytes);
}

struct blob_request *blob_get(struct blob *blob, const char *ref, size_t max_bytes,
			      void (*done)(void *ctx, enum blob_result result, struct str bytes),
			      void *ctx)
{
	struct blob_request *request = request_new(blob, ctx);
	cleanup_free char *path = NULL;

	request->get_done = done;
	if (!is_ref(ref)) {
		request->result = BLOB_MISSING;
		task_post(&request->soon);
		return request;
	}
	memcpy(request->ref, ref, REF_LEN + 1);
	path = path_of(blob, ref);
	request->file = file_read(blob->loop, path, max_bytes, on_read, request);
	return request;
}

void blob_cancel(struct blob_request *request)
{
	if (!request)
		return;
	file_cancel(request->file);
	request_free(request);
}

int blob_open(struct loop *loop, const char *dir, const struct log *log, struct blob **ret_blob)
{
	struct blob *blob;
	struct stat st;

	if (mkdir(dir, 0700) && errno != EEXIST) {
		int r = -errno;

		log_error(log, "the blob directory cannot be made", F_STR("dir", dir),
			  F_INT("errno", -r));
		return err_origin(r);
	}
	if (stat(dir, &st) || !S_ISDIR(st.st_mode))
		return err_origin(-ENOTDIR);
	blob = mem_new(struct blob);
	blob->loop = loop;
	blob->dir = mem_strdup(dir);
	blob->log = log_child(log, "store", "blob");
	list_init(&blob->requests);
	*ret_blob = blob;
	return 0;
}

void blob_close(struct blob *blob)
{
	if (!blob)
		return;
	while (!list_empty(&blob->requests))
		blob_cancel(list_first(&blob->requests, struct blob_request, link));
	mem_free(blob->dir);
	mem_free(blob);
}
