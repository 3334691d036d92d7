#include "lib/store/resp.h"

#include <errno.h>
#include <string.h>

#include "lib/base/mem.h"

/* Last: it defines REDIS_OK as a macro. */
#include <hiredis/read.h>

void resp_head(struct buf *out, size_t count)
{
	buf_add_char(out, '*');
	buf_add_u64(out, count);
	buf_add(out, "\r\n", 2);
}

void resp_arg(struct buf *out, struct str arg)
{
	buf_add_char(out, '$');
	buf_add_u64(out, arg.len);
	buf_add(out, "\r\n", 2);
	buf_add_str(out, arg);
	buf_add(out, "\r\n", 2);
}

size_t resp_arg_bytes(size_t len)
{
	return len + 1 + 20 + 2 + 2;
}

/* Where the reader's present element belongs: the root, or its place in its parent's items. */
static struct redis_value *slot(const redisReadTask *task)
{
	if (!task->parent)
		return &((struct resp *)task->privdata)->root;
	/* The items are ours: we made them in create_array. */
	struct redis_value *list = task->parent->obj;

	return (struct redis_value *)&list->items[task->idx];
}

static void *create_string(const redisReadTask *task, char *bytes, size_t len)
{
	struct redis_value *v = slot(task);
	struct resp *resp = task->privdata;

	v->type = task->type == REDIS_REPLY_ERROR    ? REDIS_ERROR
		  : task->type == REDIS_REPLY_STATUS ? REDIS_STATUS
						     : REDIS_STR;
	v->str = (struct str){arena_dup(&resp->arena, bytes, len), len};
	return v;
}

static void *create_array(const redisReadTask *task, int elements)
{
	struct redis_value *v = slot(task);
	struct resp *resp = task->privdata;

	v->type = REDIS_LIST;
	v->count = elements > 0 ? (size_t)elements : 0;
	v->items = arena_alloc(&resp->arena, v->count * sizeof(*v->items));
	return v;
}

static void *create_integer(const redisReadTask *task, long long value)
{
	struct redis_value *v = slot(task);

	v->type = REDIS_INT;
	v->integer = value;
	return v;
}

static void *create_nil(const redisReadTask *task)
{
	struct redis_value *v = slot(task);

	v->type = REDIS_NIL;
	return v;
}

/* Replies live in the arena. */
static void free_object(void *object)
{
	(void)object;
}

static redisReplyObjectFunctions *functions(void)
{
	/* hiredis wants it writable and does not write it. */
	static redisReplyObjectFunctions f = {
	    .createString = create_string,
	    .createArray = create_array,
	    .createInteger = create_integer,
	    .createNil = create_nil,
	    .freeObject = free_object,
	};

	return &f;
}

void resp_init(struct resp *resp)
{
	*resp = (struct resp){0};
	resp->reader = redisReaderCreateWithFunctions(functions());
	must(resp->reader);
	resp->reader->privdata = resp;
}

void resp_fini(struct resp *resp)
{
	if (resp->reader)
		redisReaderFree(resp->reader);
	arena_reset(&resp->arena);
	*resp = (struct resp){0};
}

void resp_reset(struct resp *resp)
{
	resp_fini(resp);
	resp_init(resp);
}

int resp_feed(struct resp *resp, const void *bytes, size_t count)
{
	if (redisReaderFeed(resp->reader, bytes, count) != 0)
		return err_origin(-EPROTO);
	return 0;
}

/* In the middle of a reply the arena must stay; between two it is given back. */
int resp_next(struct resp *resp, const struct redis_value **ret_value)
{
	void *reply = NULL;

	if (resp->reader->ridx == -1 && resp->arena.blocks)
		arena_reset(&resp->arena);
	if (resp->reader->ridx == -1)
		resp->root = (struct redis_value){0};
	if (redisReaderGetReply(resp->reader, &reply) != 0)
		return err_origin(-EPROTO);
	if (!reply)
		return RESP_MORE;
	*ret_value = &resp->root;
	return RESP_REPLY;
}
