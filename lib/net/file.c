#include "lib/net/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/err.h"
#include "lib/base/mem.h"
#include "lib/net/loop.h"
#include "lib/net/loop_uv.h"

/* Handed whole to a thread of libuv's pool and back; `done` alone is the loop's all the time. */
struct file_request {
	uv_work_t work;
	char *path;
	char *temporary; /* NULL: a read */
	char *bytes;
	size_t len;
	size_t max_bytes;
	int error;
	void (*read_done)(void *ctx, int error, struct str bytes);
	void (*write_done)(void *ctx, int error);
	void *ctx;
};

/* ── on the other thread ── */

static int read_whole(struct file_request *f, int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if ((uint64_t)st.st_size > f->max_bytes)
		return -EFBIG;
	f->bytes = mem_alloc((size_t)st.st_size + 1);
	while (f->len < (size_t)st.st_size) {
		ssize_t n = read(fd, f->bytes + f->len, (size_t)st.st_size - f->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		f->len += (size_t)n;
	}
	return 0;
}

static int file_do_read(struct file_request *f)
{
	int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int r;

	if (fd < 0)
		return -errno;
	r = read_whole(f, fd);
	close(fd);
	return r;
}

static int write_whole(int fd, const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		bytes += n;
		len -= (size_t)n;
	}
	return fsync(fd) ? -errno : 0;
}

/* Makes the names in the directory above the last '/' of @path durable. */
static int sync_parent(const char *path)
{
	cleanup_free char *dir = mem_strdup(path);
	char *slash = strrchr(dir, '/');
	int fd;
	int r = 0;

	if (slash)
		*(slash == dir ? slash + 1 : slash) = '\0';
	fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fsync(fd))
		r = -errno;
	close(fd);
	return r;
}

static int make_parent(const char *path)
{
	cleanup_free char *dir = mem_strdup(path);
	char *slash = strrchr(dir, '/');

	if (!slash || slash == dir)
		return 0;
	*slash = '\0';
	if (mkdir(dir, 0700))
		return errno == EEXIST ? 0 : -errno;
	return sync_parent(dir);
}

static int file_do_write(struct file_request *f)
{
	int r = make_parent(f->path);
	int fd;

	if (r < 0)
		return r;
	fd = open(f->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = write_whole(fd, f->bytes, f->len);
	if (close(fd) && !r)
		r = -errno;
	if (!r && rename(f->temporary, f->path))
		r = -errno;
	if (r < 0) {
		unlink(f->temporary);
		return r;
	}
	return sync_parent(f->path);
}

static void on_work(uv_work_t *work)
{
	struct file_request *f = container_of(work, struct file_request, work);

	f->error = f->temporary ? file_do_write(f) : file_do_read(f);
}

/* ── on the loop's ── */

static void on_worked(uv_work_t *work, int status)
{
	struct file_request *f = container_of(work, struct file_request, work);
	int error = status < 0 ? status : f->error;

	if (f->read_done)
		f->read_done(f->ctx, error,
			     error ? (struct str){0} : (struct str){f->bytes, f->len});
	else if (f->write_done)
		f->write_done(f->ctx, error);
	mem_free(f->path);
	mem_free(f->temporary);
	mem_free(f->bytes);
	mem_free(f);
}

struct file_request *file_read(struct loop *loop, const char *path, size_t max_bytes,
			       void (*done)(void *ctx, int error, struct str bytes), void *ctx)
{
	struct file_request *f = mem_new(struct file_request);

	f->path = mem_strdup(path);
	f->max_bytes = max_bytes;
	f->read_done = done;
	f->ctx = ctx;
	must(uv_queue_work(loop_uv(loop), &f->work, on_work, on_worked) == 0);
	return f;
}

struct file_request *file_write(struct loop *loop, const char *path, struct str bytes,
				void (*done)(void *ctx, int error), void *ctx)
{
	struct file_request *f = mem_new(struct file_request);

	f->path = mem_strdup(path);
	f->temporary = mem_printf("%s.tmp-%016" PRIx64, path, rand_u64(loop_rand(loop)));
	f->bytes = mem_dup(bytes.len ? bytes.ptr : "", bytes.len);
	f->len = bytes.len;
	f->write_done = done;
	f->ctx = ctx;
	must(uv_queue_work(loop_uv(loop), &f->work, on_work, on_worked) == 0);
	return f;
}

void file_cancel(struct file_request *f)
{
	if (!f)
		return;
	f->read_done = NULL;
	f->write_done = NULL;
	/* Where it did not begin yet, on_worked comes with UV_ECANCELED; else when it is done. */
	(void)uv_cancel((uv_req_t *)&f->work);
}
