#include "lib/store/blob.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/net/loop.h"
#include "tests/unit/test.h"

SUITE("store/blob");

static struct log_sink sink = {.fd = -1, .level = LOG_ERROR};
static struct log quiet = {.sink = &sink};

struct blobs {
	char dir[64];
	struct loop *loop;
	struct blob *blob;
	int done;
	enum blob_result result;
	char ref[BLOB_REF_SIZE];
	char bytes[64];
	size_t len;
};

static void begin(struct blobs *b)
{
	*b = (struct blobs){.dir = "/tmp/sluice-blob-XXXXXX"};
	ck_assert_ptr_nonnull(mkdtemp(b->dir));
	b->loop = loop_new(1);
	ck_assert_int_eq(blob_open(b->loop, b->dir, &quiet, &b->blob), 0);
}

static void end(struct blobs *b)
{
	char command[128];

	blob_close(b->blob);
	loop_free(b->loop);
	snprintf(command, sizeof(command), "rm -rf %s", b->dir);
	ck_assert_int_eq(system(command), 0);
}

static void on_put(void *ctx, enum blob_result result, const char *ref)
{
	struct blobs *b = ctx;

	b->done++;
	b->result = result;
	snprintf(b->ref, sizeof(b->ref), "%s", ref ? ref : "");
}

static void on_get(void *ctx, enum blob_result result, struct str bytes)
{
	struct blobs *b = ctx;

	b->done++;
	b->result = result;
	b->len = bytes.len;
	snprintf(b->bytes, sizeof(b->bytes), "%.*s", STR_FMT(bytes));
}

static void wait_for(struct blobs *b)
{
	while (!b->done)
		loop_turn(b->loop, 100000);
	b->done = 0;
}

static void put(struct blobs *b, const char *text)
{
	blob_put(b->blob, str_of(text), on_put, b);
	ck_assert_int_eq(b->done, 0);
	wait_for(b);
}

static void get(struct blobs *b, const char *ref, size_t max)
{
	blob_get(b->blob, ref, max, on_get, b);
	ck_assert_int_eq(b->done, 0);
	wait_for(b);
}

TEST(what_was_put_is_got_under_the_name_of_its_digest)
{
	struct blobs b;

	begin(&b);
	put(&b, "abc");
	ck_assert_int_eq(b.result, BLOB_OK);
	ck_assert_str_eq(b.ref,
			 "blob_ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	get(&b, b.ref, 3);
	ck_assert_int_eq(b.result, BLOB_OK);
	ck_assert_str_eq(b.bytes, "abc");
	put(&b, "abc");
	ck_assert_int_eq(b.result, BLOB_OK);
	end(&b);
}

TEST(a_longer_one_than_allowed_fails_and_an_empty_one_is_empty)
{
	struct blobs b;

	begin(&b);
	put(&b, "abcd");
	get(&b, b.ref, 3);
	ck_assert_int_eq(b.result, BLOB_FAILED);
	put(&b, "");
	get(&b, b.ref, 3);
	ck_assert_int_eq(b.result, BLOB_OK);
	ck_assert_uint_eq(b.len, 0);
	end(&b);
}

TEST(one_that_is_not_there_is_missing)
{
	struct blobs b;

	begin(&b);
	get(&b, "blob_0000000000000000000000000000000000000000000000000000000000000000", 9);
	ck_assert_int_eq(b.result, BLOB_MISSING);
	end(&b);
}

TEST(a_reference_never_leads_out_of_the_directory)
{
	struct blobs b;

	begin(&b);
	get(&b, "../../etc/passwd", 9999);
	ck_assert_int_eq(b.result, BLOB_MISSING);
	get(&b, "blob_/../../../../../../../../../../../../../../../../../../../etc/passwd", 9999);
	ck_assert_int_eq(b.result, BLOB_MISSING);
	end(&b);
}

TEST(bytes_that_changed_on_the_disk_are_not_given)
{
	struct blobs b;
	char path[160];
	FILE *f;

	begin(&b);
	put(&b, "abc");
	snprintf(path, sizeof(path), "%s/ba/%s", b.dir, b.ref);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fputs("abd", f);
	fclose(f);
	get(&b, b.ref, 10);
	ck_assert_int_eq(b.result, BLOB_FAILED);
	end(&b);
}

TEST(a_cancelled_request_has_no_callback)
{
	struct blobs b;

	begin(&b);
	blob_cancel(blob_put(b.blob, STR("x"), on_put, &b));
	blob_put(b.blob, STR("y"), on_put, &b);
	wait_for(&b);
	blob_get(b.blob, "no reference", 1, on_get, &b);
	end(&b);
	ck_assert_int_eq(b.done, 0);
}
