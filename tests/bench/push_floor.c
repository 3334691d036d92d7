/* The floor of tests/bench/push: what a WebSocket server costs with nothing in it. Bare epoll, one frame made for all, one
 * send for each socket, static memory, no clock, no limit, no queue: what a socket does not take is a failure. It reads
 * the path `/sub/CHANNEL` of a subscriber, or `/pub` of the one that publishes: messages "CHANNEL TEXT", each in one frame.
 *
 *   push_floor      prints its port; ends with SIGTERM */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FD 65536
#define MAX_CHANNEL 10000
#define PUBLISHER UINT16_MAX
#define BACKLOG 8192
#define EVENTS 512
#define READ_BYTES 65536

static struct {
	uint32_t next; /* of the same channel; 0: the last */
	uint16_t channel;
	uint8_t open;
} peers[MAX_FD];
static uint32_t channels[MAX_CHANNEL];
static int poller;
static char bytes[READ_BYTES];
static size_t carried; /* of the publisher */

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int listen_anywhere(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, BACKLOG) ||
	    getsockname(fd, (struct sockaddr *)&at, &len))
		die("listen");
	printf("%u\n", ntohs(at.sin_port));
	fflush(stdout);
	return fd;
}

static void watch(int fd)
{
	struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};

	if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e))
		die("epoll_ctl");
}

static void accept_all(int listener)
{
	int fd, one = 1;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		if (fd >= MAX_FD) {
			fputs("too many descriptors\n", stderr);
			exit(1);
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		watch(fd);
	}
}

/* RFC 6455, 4.2.2. */
static void answer(int fd, const char *key)
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	unsigned char digest[EVP_MAX_MD_SIZE], text[64];
	char out[256];
	unsigned len;

	memcpy(text, key, 24);
	memcpy(text + 24, guid, sizeof(guid) - 1);
	EVP_Digest(text, 24 + sizeof(guid) - 1, digest, &len, EVP_sha1(), NULL);
	EVP_EncodeBlock(text, digest, (int)len);
	int n = snprintf(out, sizeof(out),
			 "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n"
			 "connection: Upgrade\r\nsec-websocket-accept: %s\r\n\r\n",
			 text);

	if (send(fd, out, (size_t)n, MSG_NOSIGNAL) != n)
		die("upgrade");
}

/* The driver sends a head in one piece. */
static void upgrade(int fd, size_t len)
{
	const char *key;

	bytes[len] = '\0';
	key = strcasestr(bytes, "sec-websocket-key: ");
	if (!key || !strstr(bytes, "\r\n\r\n")) {
		fputs("not an upgrade\n", stderr);
		exit(1);
	}
	answer(fd, key + 19);
	peers[fd].open = 1;
	peers[fd].channel = PUBLISHER;
	if (strncmp(bytes, "GET /sub/", 9) == 0) {
		peers[fd].channel = (uint16_t)(atoi(bytes + 9) % MAX_CHANNEL);
		peers[fd].next = channels[peers[fd].channel];
		channels[peers[fd].channel] = (uint32_t)fd;
	}
}

static void deliver(unsigned channel, const char *text, size_t len)
{
	char frame[4 + 65536];
	size_t head = len < 126 ? 2 : 4;

	frame[0] = (char)0x81;
	frame[1] = (char)(len < 126 ? len : 126);
	frame[2] = (char)(len >> 8);
	frame[3] = (char)len;
	memcpy(frame + head, text, len);
	for (uint32_t fd = channels[channel % MAX_CHANNEL]; fd; fd = peers[fd].next)
		if (send((int)fd, frame, head + len, MSG_NOSIGNAL) != (ssize_t)(head + len))
			die("send");
}

/* Masked frames "CHANNEL TEXT" in bytes[0 … len). */
static void publish(size_t len)
{
	size_t at = 0;

	while (len - at >= 6) {
		uint8_t *f = (uint8_t *)bytes + at;
		size_t wide = (f[1] & 0x7f) == 126 ? 2 : 0;
		size_t n = wide ? (size_t)f[2] << 8 | f[3] : f[1] & 0x7f;
		uint8_t *mask = f + 2 + wide, *text = mask + 4;
		char *end;

		if (len - at < 6 + wide + n)
			break;
		for (size_t i = 0; i < n; i++)
			text[i] ^= mask[i & 3];
		unsigned channel = (unsigned)strtoul((char *)text, &end, 10);

		end++;
		if ((f[0] & 15) == 1)
			deliver(channel, end, n - (size_t)(end - (char *)text));
		at += 6 + wide + n;
	}
	memmove(bytes, bytes + at, len - at);
	carried = len - at;
}

static void readable(int fd)
{
	int publisher = peers[fd].open && peers[fd].channel == PUBLISHER;
	static char kept[READ_BYTES];

	if (publisher)
		memcpy(bytes, kept, carried);
	size_t from = publisher ? carried : 0;
	ssize_t n = recv(fd, bytes + from, sizeof(bytes) - 1 - from, 0);

	if (n <= 0) {
		if (n < 0 && errno == EAGAIN)
			return;
		close(fd); /* the driver ends all at once: channels are not looked at again */
		return;
	}
	if (!peers[fd].open)
		upgrade(fd, (size_t)n);
	else if (publisher)
		publish(from + (size_t)n);
	if (publisher)
		memcpy(kept, bytes, carried);
}

int main(void)
{
	struct rlimit files = {MAX_FD, MAX_FD};
	struct epoll_event events[EVENTS];
	int listener, n;

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	poller = epoll_create1(0);
	listener = listen_anywhere();
	watch(listener);
	while ((n = epoll_wait(poller, events, EVENTS, -1)) >= 0 || errno == EINTR) {
		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == listener)
				accept_all(listener);
			else
				readable(events[i].data.fd);
		}
	}
	return 1;
}
