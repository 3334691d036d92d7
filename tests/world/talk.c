/* A client's end of a WebSocket (RFC 6455): the upgrade, frames both ways, the closing handshake. */
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "tests/world/phone.h"

#define OP_TEXT 1
#define OP_CLOSE 8
#define OP_PING 9
#define OP_PONG 10

/* ── sending ── */

static void send_frame(struct talk *t, unsigned opcode, struct str payload)
{
	struct buf out = {0};
	unsigned char mask[4];
	uint32_t random = (uint32_t)world_between(0, UINT32_MAX);

	memcpy(mask, &random, sizeof(mask));
	buf_add_char(&out, (char)(0x80 | opcode));
	must(payload.len < 65536);
	if (payload.len < 126) {
		buf_add_char(&out, (char)(0x80 | payload.len));
	} else {
		buf_add_char(&out, (char)(0x80 | 126));
		buf_add_char(&out, (char)(payload.len >> 8));
		buf_add_char(&out, (char)payload.len);
	}
	buf_add(&out, mask, sizeof(mask));
	for (size_t i = 0; i < payload.len; i++)
		buf_add_char(&out, (char)((unsigned char)payload.ptr[i] ^ mask[i % 4]));
	line_send(t->line, buf_str(&out));
	buf_fini(&out);
}

void talk_say(struct talk *t, struct str text)
{
	send_frame(t, OP_TEXT, text);
}

void talk_ping(struct talk *t)
{
	t->pings++;
	t->pinged_us = world->now_us;
	talk_say(t, STR("{\"op\":\"ping\"}"));
}

void talk_bye(struct talk *t)
{
	static const char normal[] = {0x03, (char)0xe8};

	send_frame(t, OP_CLOSE, (struct str){normal, 2});
}

static void over(struct talk *t)
{
	t->state = TALK_OVER;
	buf_fini(&t->in);
	phone_over(t->phone, t);
}

void talk_drop(struct talk *t, bool heard)
{
	if (t->state == TALK_OVER)
		return;
	if (heard || t->state == TALK_UPGRADE)
		line_cut(t->line);
	else
		line_vanish(t->line);
	over(t);
}

/* ── reading ── */

/* The answer to the upgrade. False where it is not all there. */
static bool read_head(struct talk *t)
{
	const char *text = buf_text(&t->in), *end = strstr(text, "\r\n\r\n");

	if (!end)
		return false;
	if (!str_starts(str_of(text), "HTTP/1.1 101 ")) {
		if (!str_starts(str_of(text), "HTTP/1.1 503 "))
			world_violation("phone %d: the upgrade is answered %.12s", t->phone->number,
					text);
		talk_drop(t, true);
		return false;
	}
	buf_take(&t->in, (size_t)(end - text) + 4);
	t->state = TALK_HELLO;
	t->since_us = world->now_us;
	return true;
}

static void on_closed_by_node(struct talk *t, struct str payload)
{
	t->code = payload.len < 2 ? 1005
				  : (unsigned)(unsigned char)payload.ptr[0] << 8 |
					(unsigned char)payload.ptr[1];
	world_tell("client", "phone %d is closed with %u %.*s", t->phone->number, t->code,
		   payload.len > 2 ? (int)payload.len - 2 : 0, payload.ptr + 2);
	send_frame(t, OP_CLOSE, payload.len < 2 ? STR("") : (struct str){payload.ptr, 2});
	heard_close(t, true);
}

static void on_frame(struct talk *t, unsigned opcode, struct str payload)
{
	switch (opcode) {
	case OP_TEXT:
		if (!t->code)
			heard(t, payload);
		return;
	case OP_PING:
		send_frame(t, OP_PONG, payload);
		return;
	case OP_CLOSE:
		if (!t->code)
			on_closed_by_node(t, payload);
		return;
	case OP_PONG:
		return;
	default:
		world_violation("phone %d reads a frame of opcode %u", t->phone->number, opcode);
	}
}

/* The next whole frame. */
static bool read_frame(struct talk *t)
{
	const unsigned char *b = (const unsigned char *)t->in.data + t->in.head;
	size_t have = t->in.len, head = 2, len;
	struct buf payload = {0};
	unsigned opcode;

	if (have < 2)
		return false;
	len = b[1];
	if (len == 126) {
		head = 4;
		if (have < head)
			return false;
		len = (size_t)b[2] << 8 | b[3];
	} else if (len > 126) {
		world_violation("phone %d reads a frame that is masked or long", t->phone->number);
		talk_drop(t, true);
		return false;
	}
	if (have < head + len)
		return false;
	opcode = b[0] & 15;
	if ((b[0] & 0xf0) != 0x80)
		world_violation("phone %d reads a frame of byte %02x", t->phone->number, b[0]);
	buf_add(&payload, b + head, len);
	buf_take(&t->in, head + len);
	on_frame(t, opcode, buf_str(&payload));
	buf_fini(&payload);
	return true;
}

static void on_data(void *ctx, struct str bytes)
{
	struct talk *t = ctx;

	if (t->state == TALK_OVER)
		return;
	buf_add_str(&t->in, bytes);
	if (t->state == TALK_UPGRADE && !read_head(t))
		return;
	while (t->state != TALK_OVER && read_frame(t))
		;
}

static void on_closed(void *ctx, bool reset)
{
	struct talk *t = ctx;

	(void)reset;
	if (t->state == TALK_OVER)
		return;
	if (!t->code && t->state != TALK_UPGRADE)
		heard_close(t, false);
	if (t->state == TALK_OVER)
		return;
	line_end(t->line);
	over(t);
}

struct talk *talk_begin(struct phone *p, struct node *node)
{
	static const struct line_ops ops = {.data = on_data, .closed = on_closed};
	struct talk *t = mem_new(struct talk);

	t->phone = p;
	t->node = node;
	t->since_us = world->now_us;
	t->line =
	    line_open(node->loop, world_between(0, 2) ? 65536 : world_between(50, 2000), &ops, t);
	line_send(t->line, STR("GET /v1/ws HTTP/1.1\r\nhost: push\r\nupgrade: websocket\r\n"
			       "connection: Upgrade\r\nsec-websocket-version: 13\r\n"
			       "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
			       "sec-websocket-protocol: sluice.v1\r\n\r\n"));
	return t;
}
