#include <openssl/evp.h>
#include <string.h>

#include "lib/net/http_impl.h"
#include "lib/net/ws_conn.h"

#define KEY_CHARS 24 /* 16 bytes in base64 */

static bool has_token(const struct http_req *req, const char *name, const char *token)
{
	for (size_t i = 0; i < req->field_count; i++) {
		struct str rest = req->fields[i].value;
		struct str part;

		if (!str_is(req->fields[i].name, name))
			continue;
		while (str_split(&rest, ',', &part))
			if (str_is_nocase(str_trim(part), token))
				return true;
	}
	return false;
}

static bool key_ok(struct str key)
{
	static const char digits[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	if (key.len != KEY_CHARS || memcmp(key.ptr + 22, "==", 2) != 0)
		return false;
	for (size_t i = 0; i < 22; i++)
		if (!memchr(digits, key.ptr[i], 64))
			return false;
	return true;
}

/* The proof that we speak WebSocket (RFC 6455, 4.2.2, 5.4). */
static void accept_value(struct str key, char out[static 32])
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	char text[KEY_CHARS + sizeof(guid)];
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	memcpy(text, key.ptr, KEY_CHARS);
	memcpy(text + KEY_CHARS, guid, sizeof(guid));
	must(EVP_Digest(text, KEY_CHARS + sizeof(guid) - 1, digest, &len, EVP_sha1(), NULL));
	EVP_EncodeBlock((unsigned char *)out, digest, (int)len);
}

/* All of the client's offers as one list; then the terms, where one can be met. */
static int read_offers(const struct http_req *req, struct ws_terms *ret_terms)
{
	struct buf all = {0};
	int r;

	for (size_t i = 0; i < req->field_count; i++) {
		if (!str_is(req->fields[i].name, "sec-websocket-extensions"))
			continue;
		buf_add_str(&all, req->fields[i].value);
		buf_add_char(&all, ',');
	}
	r = ws_offer_read(buf_str(&all), ret_terms);
	buf_fini(&all);
	return r;
}

static struct ws_frame *answer(struct http_req *req, struct str key, const char *protocol,
			       const struct ws_terms *terms)
{
	struct buf text = {0};
	char value[32];

	accept_value(key, value);
	buf_printf(&text,
		   "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n"
		   "connection: Upgrade\r\nsec-websocket-accept: %s\r\n",
		   value);
	if (terms->bits) {
		buf_add_text(&text, "sec-websocket-extensions: ");
		ws_terms_write(terms, &text);
		buf_add_text(&text, "\r\n");
	}
	if (protocol)
		buf_printf(&text, "sec-websocket-protocol: %s\r\n", protocol);
	for (size_t i = 0; i < req->extra_count; i++)
		buf_printf(&text, "%.*s: %.*s\r\n", STR_FMT(req->extra[i].name),
			   STR_FMT(req->extra[i].value));
	buf_add_text(&text, "\r\n");
	struct ws_frame *frame = ws_frame_raw(buf_str(&text));

	buf_fini(&text);
	return frame;
}

int ws_accept(struct http_req *req, const char *protocol, const struct ws_options *options,
	      const struct ws_ops *ops, void *ctx, struct ws **ret_ws)
{
	struct loop *loop = req->server->loop;
	struct str key = http_field(req, "sec-websocket-key");
	struct ws_terms terms = {0};
	struct conn *conn;
	struct buf rest;

	if (!str_is(req->method, "GET") || !has_token(req, "upgrade", "websocket") ||
	    !has_token(req, "connection", "upgrade"))
		return WS_NOT_UPGRADE;
	if (!str_is(http_field(req, "sec-websocket-version"), "13"))
		return WS_BAD_VERSION;
	if (!key_ok(key))
		return WS_BAD_KEY;
	if (read_offers(req, &terms) == WS_OFFER_BROKEN)
		return WS_BAD_EXTENSIONS;
	if (!options->deflate)
		terms.bits = 0;
	struct ws_frame *first = answer(req, key, protocol, &terms);

	if (!req->carrier->take || !req->carrier->take(req, &conn, &rest)) {
		ws_frame_unref(first);
		return WS_NOT_UPGRADE;
	}
	*ret_ws = ws_conn_new(loop, conn, &rest, first, &terms, options, ops, ctx);
	return WS_ACCEPTED;
}
