#include "lib/net/address.h"

#include <sys/socket.h>

#include "lib/base/mem.h"
#include "tests/unit/test.h"

SUITE("net/address");

static bool is_public(const char *text)
{
	struct sockaddr_storage a;

	ck_assert_msg(address_read(str_of(text), &a), "%s", text);
	return address_public((const struct sockaddr *)&a);
}

TEST(addresses_of_the_internet_are_public)
{
	static const char *const good[] = {
	    "1.1.1.1",	      "8.8.8.8",	  "9.255.255.255",	 "11.0.0.0",
	    "100.63.255.255", "100.128.0.0",	  "172.15.255.255",	 "172.32.0.0",
	    "192.167.1.1",    "223.255.255.255",  "2606:4700::1111",	 "2a00:1450::1",
	    "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2001:4860:4860::8888"};

	for (size_t i = 0; i < countof(good); i++)
		ck_assert_msg(is_public(good[i]), "%s", good[i]);
}

TEST(loopback_private_link_local_and_their_disguises_are_not)
{
	static const char *const bad[] = {"0.0.0.0",
					  "10.0.0.1",
					  "100.64.0.1",
					  "100.127.255.255",
					  "127.0.0.1",
					  "127.255.255.254",
					  "169.254.169.254",
					  "172.16.0.1",
					  "172.31.255.255",
					  "192.0.0.1",
					  "192.0.2.1",
					  "192.168.1.1",
					  "198.18.0.1",
					  "198.19.255.255",
					  "198.51.100.1",
					  "203.0.113.1",
					  "224.0.0.1",
					  "240.0.0.1",
					  "255.255.255.255",
					  "::",
					  "::1",
					  "::127.0.0.1",
					  "::ffff:127.0.0.1",
					  "::ffff:10.0.0.1",
					  "::ffff:169.254.169.254",
					  "64:ff9b::127.0.0.1",
					  "64:ff9b:1::1",
					  "fe80::1",
					  "fc00::1",
					  "fd12::1",
					  "fec0::1",
					  "ff02::1",
					  "2001::1",
					  "2001:db8::1",
					  "2002:7f00:1::",
					  "3fff::1",
					  "100::1"};

	for (size_t i = 0; i < countof(bad); i++)
		ck_assert_msg(!is_public(bad[i]), "%s", bad[i]);
}

TEST(another_family_is_not_public)
{
	struct sockaddr a = {.sa_family = AF_UNIX};

	ck_assert(!address_public(&a));
}

static bool within(const char *text, const char *networks)
{
	struct sockaddr_storage a;

	ck_assert(address_read(str_of(text), &a));
	return address_within((const struct sockaddr *)&a, str_of(networks));
}

TEST(a_network_holds_what_its_bits_say)
{
	ck_assert(within("10.1.2.3", "fd00::/8, 10.1.0.0/16"));
	ck_assert(!within("10.2.2.3", "10.1.0.0/16"));
	ck_assert(within("10.1.2.3", "10.1.2.3"));
	ck_assert(!within("10.1.2.4", "10.1.2.3"));
	ck_assert(within("172.31.1.1", "172.16.0.0/12"));
	ck_assert(!within("172.32.1.1", "172.16.0.0/12"));
	ck_assert(within("::ffff:10.1.2.3", "10.0.0.0/8"));
	ck_assert(within("fd00::7", "fd00::/8"));
	ck_assert(!within("::1", "127.0.0.0/8"));
	ck_assert(within("1.2.3.4", "0.0.0.0/0"));
	ck_assert(!within("2606::1", "0.0.0.0/0"));
	ck_assert(!within("1.2.3.4", ""));
}

TEST(networks_that_do_not_parse_are_seen)
{
	ck_assert(address_networks_good(STR("")));
	ck_assert(address_networks_good(STR("10.0.0.0/8 , ::1")));
	ck_assert(!address_networks_good(STR("10.0.0.0/33")));
	ck_assert(!address_networks_good(STR("10.0.0.0/")));
	ck_assert(!address_networks_good(STR("localhost")));
	ck_assert(!address_networks_good(STR("10.0.0.0/8,,::1")));
}

TEST(an_address_is_written_as_it_is_read)
{
	char text[ADDRESS_TEXT_SIZE];
	struct sockaddr_storage a;

	ck_assert(address_read(STR("::ffff:127.0.0.1"), &a));
	address_text((const struct sockaddr *)&a, text);
	ck_assert_str_eq(text, "::ffff:127.0.0.1");
	ck_assert(!address_read(STR("127.1"), &a));
	ck_assert(!address_read(STR("[::1]"), &a));
}
