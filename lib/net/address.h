/* Addresses of peers as the owner of a connection judges them: may this one be reached by somebody whom others sent there? Refuses to
 * resolve names. */
#ifndef SLUICE_NET_ADDRESS_H
#define SLUICE_NET_ADDRESS_H

#include <stdbool.h>

#include "lib/base/str.h"

struct sockaddr;
struct sockaddr_storage;

/* The longest IPv6 address and its NUL. */
#define ADDRESS_TEXT_SIZE 46

/* True for an address of the public Internet: in none of IANA's special-purpose registries (RFC 6890: loopback, private, link-local,
 * shared, documentation, multicast …). IPv4 within IPv6 (mapped, NAT64) is judged as the IPv4 address that it is; other
 * transition forms and families are not public. */
bool address_public(const struct sockaddr *address);
/* True where @address lies in one of @networks ("127.0.0.0/8, fd00::/8, 10.1.2.3"); what does not parse holds nothing. */
bool address_within(const struct sockaddr *address, struct str networks);
/* True where every one of @networks parses; also for none. */
bool address_networks_good(struct str networks);
/* Reads a numeric IPv4 or IPv6 address (without brackets); false where @text is none. */
bool address_read(struct str text, struct sockaddr_storage *ret_address);
/* "127.0.0.1", "::1"; "?" for other families. */
void address_text(const struct sockaddr *address, char out[static ADDRESS_TEXT_SIZE]);

#endif
