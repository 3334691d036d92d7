#include "lib/net/ws_deflate.h"

#include <string.h>
#include <zlib.h>

#include "lib/base/list.h"
#include "lib/base/mem.h"

#define MIN_BITS 9 /* zlib makes no raw stream with a window of 8 */
#define MAX_BITS 15
/* Unpackers that are kept for the next message: each is 40 KiB. */
#define SPARES 4
#define STEP 16384

static const char tail[4] = {0, 0, '\xff', '\xff'};

struct ws_deflate {
	unsigned refs;
	size_t min_bytes;
	int level;
	z_stream *packers[MAX_BITS + 1];
	struct list spares;
	unsigned spare_count;
};

struct ws_unpack {
	struct list link;
	struct ws_deflate *deflate;
	z_stream z;
};

static void *zlib_alloc(void *ctx, unsigned items, unsigned size)
{
	(void)ctx;
	return mem_alloc((size_t)items * size);
}

static void zlib_free(void *ctx, void *old)
{
	(void)ctx;
	mem_free(old);
}

struct ws_deflate *ws_deflate_new(int level, size_t min_bytes)
{
	struct ws_deflate *d = mem_new(struct ws_deflate);

	d->refs = 1;
	d->level = level;
	d->min_bytes = min_bytes;
	list_init(&d->spares);
	return d;
}

struct ws_deflate *ws_deflate_ref(struct ws_deflate *d)
{
	d->refs++;
	return d;
}

static void unpack_free(struct ws_unpack *u)
{
	inflateEnd(&u->z);
	mem_free(u);
}

void ws_deflate_unref(struct ws_deflate *d)
{
	struct ws_unpack *u;

	if (!d || --d->refs)
		return;
	for (unsigned bits = MIN_BITS; bits <= MAX_BITS; bits++) {
		if (d->packers[bits])
			deflateEnd(d->packers[bits]);
		mem_free(d->packers[bits]);
	}
	while ((u = list_pop_front(&d->spares, struct ws_unpack, link)))
		unpack_free(u);
	mem_free(d);
}

/* ---- the offer ---- */

static bool is_token_char(char c)
{
	return c && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		     strchr("!#$%&'*+-.^_`|~", c));
}

static void skip_spaces(struct str *in)
{
	while (in->len && (in->ptr[0] == ' ' || in->ptr[0] == '\t'))
		*in = (struct str){in->ptr + 1, in->len - 1};
}

static bool take_char(struct str *in, char c)
{
	skip_spaces(in);
	if (!in->len || in->ptr[0] != c)
		return false;
	*in = (struct str){in->ptr + 1, in->len - 1};
	return true;
}

/* False where there is none. */
static bool take_token(struct str *in, struct str *ret_token)
{
	size_t len = 0;

	skip_spaces(in);
	while (len < in->len && is_token_char(in->ptr[len]))
		len++;
	*ret_token = (struct str){in->ptr, len};
	*in = (struct str){in->ptr + len, in->len - len};
	return len > 0;
}

/* A parameter's value: a token, or one in quotes (RFC 6455, 9.1: what is in them has to be a token too). */
static bool take_value(struct str *in, struct str *ret_value)
{
	bool quoted = take_char(in, '"');

	if (!take_token(in, ret_value))
		return false;
	return !quoted || (in->len && in->ptr[0] == '"' && take_char(in, '"'));
}

static bool bits_ok(struct str value, unsigned *ret_bits)
{
	uint64_t bits;

	if (!value.len || value.ptr[0] == '0' || !str_u64(value, &bits) || bits < 8 ||
	    bits > MAX_BITS)
		return false;
	*ret_bits = (unsigned)bits;
	return true;
}

/* Of one offer, while it is read. */
struct offer {
	unsigned seen;
	unsigned bits;
	bool possible;
};

static void read_param(struct offer *o, struct str name, bool valued, struct str value)
{
	static const char *const names[] = {"server_no_context_takeover",
					    "client_no_context_takeover", "server_max_window_bits",
					    "client_max_window_bits"};
	unsigned which = 0, bits = MAX_BITS;

	while (which < countof(names) && !str_is_nocase(name, names[which]))
		which++;
	if (which == countof(names) || o->seen & 1U << which)
		o->possible = false;
	o->seen |= 1U << which;
	if (which < 2 && valued)
		o->possible = false;
	/* client_max_window_bits alone only says that the client knows the parameter. */
	if ((which == 2 || (which == 3 && valued)) && !bits_ok(value, &bits))
		o->possible = false;
	if (which == 2)
		o->bits = bits;
	if (o->bits < MIN_BITS)
		o->possible = false;
}

/* One extension with its parameters. False where it does not parse. */
static bool read_offer(struct str *in, struct offer *o)
{
	struct str name, param, value;

	*o = (struct offer){.bits = MAX_BITS};
	if (!take_token(in, &name))
		return false;
	o->possible = str_is_nocase(name, "permessage-deflate");
	while (take_char(in, ';')) {
		bool valued;

		if (!take_token(in, &param))
			return false;
		valued = take_char(in, '=');
		value = (struct str){"", 0};
		if (valued && !take_value(in, &value))
			return false;
		read_param(o, param, valued, value);
	}
	return true;
}

int ws_offer_read(struct str field, struct ws_terms *ret_terms)
{
	struct offer o;
	unsigned bits = 0;

	for (;;) {
		/* A list may have empty elements (RFC 9110, 5.6.1.2). */
		while (take_char(&field, ','))
			;
		skip_spaces(&field);
		if (!field.len)
			break;
		if (!read_offer(&field, &o))
			return WS_OFFER_BROKEN;
		skip_spaces(&field);
		if (field.len && field.ptr[0] != ',')
			return WS_OFFER_BROKEN;
		if (o.possible && !bits)
			bits = o.bits;
	}
	if (!bits)
		return WS_OFFER_DECLINED;
	ret_terms->bits = (unsigned char)bits;
	return WS_OFFER_TAKEN;
}

void ws_terms_write(const struct ws_terms *terms, struct buf *out)
{
	buf_add_text(out,
		     "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
	if (terms->bits != MAX_BITS)
		buf_printf(out, "; server_max_window_bits=%u", terms->bits);
}

/* ---- packing ---- */

static z_stream *packer(struct ws_deflate *d, unsigned bits)
{
	z_stream *z = d->packers[bits];

	if (z) {
		must(deflateReset(z) == Z_OK);
		return z;
	}
	z = d->packers[bits] = mem_new(z_stream);
	z->zalloc = zlib_alloc;
	z->zfree = zlib_free;
	must(deflateInit2(z, d->level, Z_DEFLATED, -(int)bits, 8, Z_DEFAULT_STRATEGY) == Z_OK);
	return z;
}

bool ws_deflate_pack(struct ws_deflate *d, unsigned bits, struct str payload, struct buf *out)
{
	/* With min_bytes 0 it may grow: by a block's head for each 16 KiB. */
	size_t room = payload.len + (d->min_bytes ? 0 : payload.len / 1024 + 64);
	z_stream *z;

	if (payload.len < d->min_bytes || payload.len > UINT32_MAX / 2)
		return false;
	z = packer(d, bits);
	z->next_in = (unsigned char *)payload.ptr;
	z->avail_in = (unsigned)payload.len;
	z->next_out = (unsigned char *)buf_room(out, room);
	z->avail_out = (unsigned)room;
	/* Where no room is left over, the end may be missing; it would not be smaller then either. */
	if (deflate(z, Z_SYNC_FLUSH) < 0 || z->avail_in || !z->avail_out)
		return false;
	must(room - z->avail_out >= sizeof(tail));
	buf_added(out, room - z->avail_out - sizeof(tail));
	return true;
}

/* ---- unpacking ---- */

struct ws_unpack *ws_unpack_begin(struct ws_deflate *d)
{
	struct ws_unpack *u = list_pop_front(&d->spares, struct ws_unpack, link);

	if (u) {
		d->spare_count--;
		must(inflateReset(&u->z) == Z_OK);
		return u;
	}
	u = mem_new(struct ws_unpack);
	u->deflate = d;
	u->z.zalloc = zlib_alloc;
	u->z.zfree = zlib_free;
	must(inflateInit2(&u->z, -MAX_BITS) == Z_OK);
	return u;
}

void ws_unpack_end(struct ws_unpack *u)
{
	if (!u)
		return;
	if (u->deflate->spare_count >= SPARES) {
		unpack_free(u);
		return;
	}
	list_push_front(&u->deflate->spares, &u->link);
	u->deflate->spare_count++;
}

/* Inflates @in to its end. */
static int inflate_all(struct ws_unpack *u, struct str in, size_t limit, struct buf *out)
{
	z_stream *z = &u->z;

	z->next_in = (unsigned char *)in.ptr;
	z->avail_in = (unsigned)in.len;
	for (;;) {
		/* One byte above the limit shows that there is more. */
		size_t left = limit + 1 - out->len;
		unsigned room = (unsigned)(left < STEP ? left : STEP);

		z->next_out = (unsigned char *)buf_room(out, room);
		z->avail_out = room;
		int r = inflate(z, Z_SYNC_FLUSH);

		buf_added(out, room - z->avail_out);
		if (out->len > limit)
			return WS_UNPACK_LARGE;
		/* A block may say that it is the last one, and others follow (RFC 7692, 7.2.3.4); the window stays. */
		if (r == Z_STREAM_END)
			r = inflateResetKeep(z);
		if (r == Z_BUF_ERROR && !z->avail_in)
			return WS_UNPACK_OK;
		if (r != Z_OK)
			return WS_UNPACK_BAD;
		if (!z->avail_in && z->avail_out)
			return WS_UNPACK_OK;
	}
}

int ws_unpack_feed(struct ws_unpack *u, struct str in, bool last, size_t limit, struct buf *out)
{
	int r = WS_UNPACK_OK;
	size_t before;

	while (in.len && !r) {
		size_t count = in.len < UINT32_MAX ? in.len : UINT32_MAX;

		r = inflate_all(u, (struct str){in.ptr, count}, limit, out);
		in = (struct str){in.ptr + count, in.len - count};
	}
	if (r || !last)
		return r;
	before = out->len;
	r = inflate_all(u, (struct str){tail, sizeof(tail)}, limit, out);
	/* Whole only where these bytes were an empty block, and it ended with the last of them. */
	if (!r && (out->len != before || (u->z.data_type & 191) != 128))
		return WS_UNPACK_BAD;
	return r;
}
