#include "lib/net/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/base/mem.h"
#include "lib/net/conn.h"

struct tls {
	int refs;
	bool server;
	SSL_CTX *ctx;
	BIO_METHOD *socket; /* as OpenSSL's own, but never raising SIGPIPE */
	unsigned char alpn[64];
	unsigned int alpn_len;
};

static int socket_write(BIO *bio, const char *bytes, int size)
{
	int fd = (int)(intptr_t)BIO_get_data(bio);
	ssize_t n = send(fd, bytes, (size_t)size, MSG_NOSIGNAL);
	BIO_clear_retry_flags(bio);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		BIO_set_retry_write(bio);
	return (int)n;
}

static int socket_read(BIO *bio, char *into, int size)
{
	int fd = (int)(intptr_t)BIO_get_data(bio);
	ssize_t n = recv(fd, into, (size_t)size, 0);
	BIO_clear_retry_flags(bio);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		BIO_set_retry_read(bio);
	else if (n == 0)
		BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
	return (int)n;
}

static long socket_ctrl(BIO *bio, int command, long number, void *pointer)
{
	(void)number;
	(void)pointer;
	if (command == BIO_CTRL_EOF)
		return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
	return command == BIO_CTRL_FLUSH || command == BIO_CTRL_DUP;
}

static BIO_METHOD *socket_method(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOCKET, "sluice socket");
	must(m);
	BIO_meth_set_write(m, socket_write);
	BIO_meth_set_read(m, socket_read);
	BIO_meth_set_ctrl(m, socket_ctrl);
	return m;
}

/* "h2,http/1.1" to the wire's length-prefixed form. */
static int alpn_encode(struct tls *tls, const char *list)
{
	struct str rest = str_of(list);
	struct str name;
	while (str_split(&rest, ',', &name)) {
		if (name.len == 0 || tls->alpn_len + name.len + 1 > sizeof(tls->alpn))
			return -EINVAL;
		tls->alpn[tls->alpn_len++] = (unsigned char)name.len;
		memcpy(tls->alpn + tls->alpn_len, name.ptr, name.len);
		tls->alpn_len += (unsigned int)name.len;
	}
	return 0;
}

static int alpn_choose(SSL *ssl, const unsigned char **out, unsigned char *out_len,
		       const unsigned char *in, unsigned int in_len, void *arg)
{
	struct tls *tls = arg;
	unsigned char *chosen;
	(void)ssl;
	if (SSL_select_next_proto(&chosen, out_len, tls->alpn, tls->alpn_len, in, in_len) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static struct tls *tls_make(bool server, const char *alpn)
{
	struct tls *tls = mem_new(struct tls);
	tls->refs = 1;
	tls->server = server;
	tls->socket = socket_method();
	tls->ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	must(tls->ctx);
	SSL_CTX_set_min_proto_version(tls->ctx, TLS1_2_VERSION);
	SSL_CTX_set_mode(tls->ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
				       SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* As many records as the socket holds in one system call, not two calls for each. */
	SSL_CTX_set_read_ahead(tls->ctx, 1);
	SSL_CTX_set_options(tls->ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_session_cache_mode(tls->ctx, SSL_SESS_CACHE_OFF);
	if (server) {
		SSL_CTX_set_options(tls->ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
		SSL_CTX_set_num_tickets(tls->ctx, 1);
	}
	if (alpn && alpn_encode(tls, alpn) < 0) {
		tls_unref(tls);
		return NULL;
	}
	return tls;
}

void tls_error_text(SSL *ssl, char *out, size_t size)
{
	long verify = ssl ? SSL_get_verify_result(ssl) : X509_V_OK;
	unsigned long e = ERR_peek_last_error();
	if (verify != X509_V_OK)
		snprintf(out, size, "%s", X509_verify_cert_error_string(verify));
	else if (e != 0)
		ERR_error_string_n(e, out, size);
	else
		snprintf(out, size, "TLS failed");
	ERR_clear_error();
}

static int tls_refuse(struct tls *tls, const struct log *log, const char *what, const char *file)
{
	char text[160];
	tls_error_text(NULL, text, sizeof(text));
	if (log)
		log_error(log, what, F_STR("file", file), F_STR("error", text));
	tls_unref(tls);
	return err_origin(-EINVAL);
}

int tls_server_new(const char *cert_file, const char *key_file, const char *alpn,
		   const struct log *log, struct tls **ret_tls)
{
	struct tls *tls = tls_make(true, alpn);
	if (!tls)
		return err_origin(-EINVAL);
	if (SSL_CTX_use_certificate_chain_file(tls->ctx, cert_file) != 1)
		return tls_refuse(tls, log, "certificate cannot be read", cert_file);
	if (SSL_CTX_use_PrivateKey_file(tls->ctx, key_file, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_check_private_key(tls->ctx) != 1)
		return tls_refuse(tls, log, "private key cannot be used", key_file);
	if (tls->alpn_len)
		SSL_CTX_set_alpn_select_cb(tls->ctx, alpn_choose, tls);
	*ret_tls = tls;
	return 0;
}

int tls_client_new(const char *ca_file, const char *alpn, const struct log *log,
		   struct tls **ret_tls)
{
	struct tls *tls = tls_make(false, alpn);
	if (!tls)
		return err_origin(-EINVAL);
	int r = ca_file ? SSL_CTX_load_verify_locations(tls->ctx, ca_file, NULL)
			: SSL_CTX_set_default_verify_paths(tls->ctx);
	if (r != 1)
		return tls_refuse(tls, log, "trusted certificates cannot be read",
				  ca_file ? ca_file : "(system)");
	SSL_CTX_set_verify(tls->ctx, SSL_VERIFY_PEER, NULL);
	if (tls->alpn_len)
		must(SSL_CTX_set_alpn_protos(tls->ctx, tls->alpn, tls->alpn_len) == 0);
	*ret_tls = tls;
	return 0;
}

struct tls *tls_ref(struct tls *tls)
{
	tls->refs++;
	return tls;
}

void tls_unref(struct tls *tls)
{
	if (!tls || --tls->refs > 0)
		return;
	SSL_CTX_free(tls->ctx);
	BIO_meth_free(tls->socket);
	mem_free(tls);
}

/* Whom the certificate must name. */
static bool tls_expect(SSL *ssl, const char *name)
{
	unsigned char literal[16];
	if (inet_pton(AF_INET, name, literal) == 1 || inet_pton(AF_INET6, name, literal) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set_tlsext_host_name(ssl, name) == 1 && SSL_set1_host(ssl, name) == 1;
}

SSL *tls_session(struct tls *tls, int fd, const char *server_name)
{
	SSL *ssl = SSL_new(tls->ctx);
	BIO *bio = ssl ? BIO_new(tls->socket) : NULL;
	if (!bio) {
		SSL_free(ssl);
		return NULL;
	}
	BIO_set_data(bio, (void *)(intptr_t)fd);
	BIO_set_init(bio, 1);
	SSL_set_bio(ssl, bio, bio);
	if (tls->server) {
		SSL_set_accept_state(ssl);
		return ssl;
	}
	SSL_set_connect_state(ssl);
	if (!tls_expect(ssl, server_name)) {
		SSL_free(ssl);
		return NULL;
	}
	return ssl;
}
