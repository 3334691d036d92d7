/* What the tests of the provider client share: a certificate for 127.0.0.1. */
#ifndef SLUICE_TESTS_CLIENT_PARTS_H
#define SLUICE_TESTS_CLIENT_PARTS_H

#include "tests/integration/parts.h"

/* Paths: a folder of its own, and in it the certificate and its key, both PEM. */
struct certificate {
	char dir[64];
	char cert[96];
	char key[96];
};

/* False where there is no openssl command; certificate_remove in any case. */
static inline bool certificate_make(struct certificate *c)
{
	char command[400];

	snprintf(c->dir, sizeof(c->dir), "/tmp/sluice-certificate-XXXXXX");
	if (!mkdtemp(c->dir))
		return false;
	snprintf(c->cert, sizeof(c->cert), "%s/cert.pem", c->dir);
	snprintf(c->key, sizeof(c->key), "%s/key.pem", c->dir);
	snprintf(command, sizeof(command),
		 "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
		 "-subj /CN=peer -addext subjectAltName=IP:127.0.0.1 -keyout %s -out %s "
		 "2>/dev/null",
		 c->key, c->cert);
	return system(command) == 0;
}

static inline void certificate_remove(const struct certificate *c)
{
	unlink(c->cert);
	unlink(c->key);
	rmdir(c->dir);
}

#endif
