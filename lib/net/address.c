#include "lib/net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/* Every address as 16 bytes: IPv4 in its mapped form. */
struct bytes {
	unsigned char at[16];
};

struct network {
	struct bytes address;
	unsigned bits;
};

#define V4(a, b, c, d, bits)                                                                  \
	{                                                                                     \
		{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, (a), (b), (c), (d)}}, 96 + (bits) \
	}

/* IANA's IPv4 special-purpose registry, and multicast. */
static const struct network special4[] = {
    V4(0, 0, 0, 0, 8),	    /* this network */
    V4(10, 0, 0, 0, 8),	    /* private */
    V4(100, 64, 0, 0, 10),  /* shared by carriers */
    V4(127, 0, 0, 0, 8),    /* loopback */
    V4(169, 254, 0, 0, 16), /* link-local; clouds' metadata */
    V4(172, 16, 0, 0, 12),  /* private */
    V4(192, 0, 0, 0, 24),   /* protocol assignments */
    V4(192, 0, 2, 0, 24),   /* documentation */
    V4(192, 88, 99, 0, 24), /* 6to4 relays, deprecated */
    V4(192, 168, 0, 0, 16), /* private */
    V4(198, 18, 0, 0, 15),  /* benchmarks */
    V4(198, 51, 100, 0, 24), V4(203, 0, 113, 0, 24), V4(224, 0, 0, 0, 4), /* multicast */
    V4(240, 0, 0, 0, 4),						  /* reserved, broadcast */
};

static const struct network mapped = V4(0, 0, 0, 0, 0);
static const struct network nat64 = {{{0x00, 0x64, 0xff, 0x9b}}, 96};
static const struct network unicast6 = {{{0x20}}, 3};

/* Within global unicast. */
static const struct network special6[] = {
    {{{0x20, 0x01}}, 23},	      /* protocol assignments: Teredo, ORCHID … */
    {{{0x20, 0x01, 0x0d, 0xb8}}, 32}, /* documentation */
    {{{0x20, 0x02}}, 16},	      /* 6to4 */
    {{{0x3f, 0xff}}, 20},	      /* documentation */
};

static bool within(const struct bytes *address, const struct network *n)
{
	unsigned whole = n->bits / 8, rest = n->bits % 8;
	unsigned char mask = (unsigned char)(0xff << (8 - rest));

	if (memcmp(address->at, n->address.at, whole) != 0)
		return false;
	return !rest || ((address->at[whole] ^ n->address.at[whole]) & mask) == 0;
}

static bool within_any(const struct bytes *address, const struct network *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (within(address, &list[i]))
			return true;
	return false;
}

static bool bytes_of(const struct sockaddr *address, struct bytes *ret_bytes)
{
	*ret_bytes = mapped.address;
	if (address->sa_family == AF_INET) {
		memcpy(&ret_bytes->at[12], &((const struct sockaddr_in *)address)->sin_addr, 4);
		return true;
	}
	if (address->sa_family != AF_INET6)
		return false;
	memcpy(ret_bytes->at, &((const struct sockaddr_in6 *)address)->sin6_addr, 16);
	return true;
}

bool address_public(const struct sockaddr *address)
{
	struct bytes b;

	if (!bytes_of(address, &b))
		return false;
	if (within(&b, &nat64))
		memcpy(b.at, mapped.address.at, 12);
	if (within(&b, &mapped))
		return !within_any(&b, special4, sizeof(special4) / sizeof(special4[0]));
	return within(&b, &unicast6) &&
	       !within_any(&b, special6, sizeof(special6) / sizeof(special6[0]));
}

bool address_read(struct str text, struct sockaddr_storage *ret_address)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ret_address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret_address;
	char copy[ADDRESS_TEXT_SIZE];

	if (text.len >= sizeof(copy))
		return false;
	snprintf(copy, sizeof(copy), "%.*s", STR_FMT(text));
	memset(ret_address, 0, sizeof(*ret_address));
	if (inet_pton(AF_INET, copy, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		return true;
	}
	if (inet_pton(AF_INET6, copy, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		return true;
	}
	return false;
}

/* "10.1.0.0/16", "::1". */
static bool network_read(struct str text, struct network *ret_network)
{
	struct sockaddr_storage address;
	struct str host = {0};
	uint64_t bits, most;

	if (!str_split(&text, '/', &host) || !address_read(host, &address) ||
	    !bytes_of((const struct sockaddr *)&address, &ret_network->address))
		return false;
	most = address.ss_family == AF_INET ? 32 : 128;
	bits = most;
	if (text.ptr && (!str_u64(text, &bits) || bits > most))
		return false;
	ret_network->bits = (unsigned)(bits + 128 - most);
	return true;
}

bool address_within(const struct sockaddr *address, struct str networks)
{
	struct network n;
	struct bytes b;
	struct str one;

	if (!bytes_of(address, &b))
		return false;
	while (str_split(&networks, ',', &one))
		if (network_read(str_trim(one), &n) && within(&b, &n))
			return true;
	return false;
}

bool address_networks_good(struct str networks)
{
	struct network n;
	struct str one;

	if (!str_trim(networks).len)
		return true;
	while (str_split(&networks, ',', &one))
		if (!network_read(str_trim(one), &n))
			return false;
	return true;
}

void address_text(const struct sockaddr *address, char out[static ADDRESS_TEXT_SIZE])
{
	const void *at = NULL;

	if (address->sa_family == AF_INET)
		at = &((const struct sockaddr_in *)address)->sin_addr;
	else if (address->sa_family == AF_INET6)
		at = &((const struct sockaddr_in6 *)address)->sin6_addr;
	if (!at || !inet_ntop(address->sa_family, at, out, ADDRESS_TEXT_SIZE))
		snprintf(out, ADDRESS_TEXT_SIZE, "?");
}
