/* What conn.c needs of a TLS context: sessions on a descriptor. Refuses to be included outside
 * lib/net. */
#ifndef SLUICE_NET_TLS_H
#define SLUICE_NET_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

struct tls;

/* A session on @fd (not owned); @server_name for a client: SNI and the name (or address) that must
 * be in the certificate. NULL where memory or the name does not allow it. */
SSL *tls_session(struct tls *tls, int fd, const char *server_name);
/* The newest OpenSSL error of this thread, as text; empties its queue. */
void tls_error_text(SSL *ssl, char *out, size_t size);

#endif
