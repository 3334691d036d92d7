/* The driver of tests/bench/push: ten thousand WebSocket clients in one process, and what publishes to them.
 *
 *   push_client PORT PIDS ws|http [HELLO]
 *
 * PIDS: the server's processes, joined by commas, whose processor time and resident memory are read from /proc. Subscribers
 * connect to /sub/CHANNEL, FANOUT of them to each. What is published (BYTES with the time in it) goes as "CHANNEL TEXT"
 * over a WebSocket at /pub, or with `http` as the body of POST /pub/CHANNEL. HELLO: a message that each subscriber sends
 * first; it has joined when it was answered. From the environment: CONNECTIONS (10000), FANOUT (500), RATE (20000
 * deliveries a second), BYTES (200), ROUTE (instead of /sub/CHANNEL: nothing is
 * published then), PART_S (5, seconds of each part), SLOW (0: so many read a byte a second, and there is no saturation).
 *
 * STORM=1 (with ROUTE and a HELLO of sluice.v1): all connect first, and then say hello at once; then the same with the resume tokens
 * that they were given; then again after the command EMPTY. A line for each of the three: its name, seconds from the first hello
 * until the last welcome, seconds until the server was at rest, its processor time and that of the whole machine in seconds.
 *
 * It prints one line: seconds until all had connected, KiB resident per idle connection, p50 and p99 in ms from published to
 * read at RATE, deliveries per second at saturation (IN_FLIGHT publications not yet read by all), µs of the server's
 * processor time for each there, KiB by which the server grew meanwhile, and KiB by which the kernel's TCP memory did. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_PEERS 20000
#define MAX_PUBLISHERS 8
#define MAX_PIDS 16
#define MAX_TEXT_BYTES 60000
#define IN_FLIGHT 4
#define READ_BYTES 262144
#define CONNECT_LIMIT_NS (60 * NS)
#define NS 1000000000ULL
/* Latencies in a histogram of 1/32 of a power of two. */
#define BUCKETS 2048

enum state { CONNECTING, ASKED, STANDING, GREETED, JOINED };

struct peer {
	int fd;
	unsigned channel;
	enum state state;
	int slow;
	size_t kept_len; /* of a frame that is not whole */
	char *kept;
	char *resume; /* a storm: the token of its welcome */
};

struct publisher {
	int fd;
	int busy; /* http: the answer is to come */
};

static struct peer peers[MAX_PEERS];
static struct publisher publishers[MAX_PUBLISHERS];
static int poller;
static int count, fanout, channel_count, slow_count, text_bytes, publisher_count = 1;
static double rate, seconds;
static unsigned port;
static int by_http, storm;
static const char *hello, *route;
static int pids[MAX_PIDS], pid_count;
static int joined;
static uint64_t histogram[BUCKETS], measured, delivered;
static int closed_loop;
static unsigned waits_for[MAX_PEERS]; /* closed loop: deliveries of a channel that are to come */
static unsigned next_channel;
static char scratch[READ_BYTES];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

static double setting(const char *name, double otherwise)
{
	const char *text = getenv(name);

	return text && *text ? atof(text) : otherwise;
}

/* ---- the server's processes ---- */

/* The first number in a file of /proc. */
static uint64_t read_number(const char *path, const char *behind)
{
	char text[4096];
	FILE *f = fopen(path, "r");
	const char *at;

	if (!f)
		return 0;
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	fclose(f);
	at = behind ? strstr(text, behind) : text;
	return at ? strtoull(at + (behind ? strlen(behind) : 0), NULL, 10) : 0;
}

static uint64_t cpu_ns(void)
{
	uint64_t sum = 0;

	for (int i = 0; i < pid_count; i++) {
		char path[300];
		struct dirent *task;

		snprintf(path, sizeof(path), "/proc/%d/task", pids[i]);
		DIR *dir = opendir(path);

		while (dir && (task = readdir(dir))) {
			snprintf(path, sizeof(path), "/proc/%d/task/%.20s/schedstat", pids[i],
				 task->d_name);
			if (task->d_name[0] != '.')
				sum += read_number(path, NULL);
		}
		if (dir)
			closedir(dir);
	}
	return sum;
}

static uint64_t resident_kib(void)
{
	uint64_t sum = 0;

	for (int i = 0; i < pid_count; i++) {
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/status", pids[i]);
		sum += read_number(path, "VmRSS:");
	}
	return sum;
}

/* Of all sockets of the machine. */
static uint64_t kernel_kib(void)
{
	return read_number("/proc/net/sockstat", " mem ") * 4;
}

/* ---- latencies ---- */

static unsigned bucket_of(uint64_t ns)
{
	unsigned power = ns < 32 ? 0 : 63U - (unsigned)__builtin_clzll(ns) - 4;
	unsigned bucket = power * 32 + (unsigned)(ns >> power);

	return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static double quantile_ms(double q)
{
	uint64_t seen = 0, wanted = (uint64_t)((double)measured * q);

	for (unsigned i = 0; i < BUCKETS; i++) {
		seen += histogram[i];
		if (seen > wanted) {
			unsigned power = i / 32 ? i / 32 - 1 : 0;

			return (double)((uint64_t)(i - power * 32) << power) / 1e6;
		}
	}
	return 0;
}

/* ---- publishing ---- */

static void publish(unsigned channel)
{
	static char text[MAX_TEXT_BYTES + 1], out[MAX_TEXT_BYTES + 512];
	struct publisher *p = &publishers[0];
	int n, len;

	memset(text, 'x', (size_t)text_bytes);
	text[text_bytes] = '\0';
	n = snprintf(text, sizeof(text), "@%016llx", (unsigned long long)now_ns());
	text[n] = ' ';
	if (by_http) {
		while (p->busy)
			if (++p == publishers + publisher_count)
				return; /* all answers are to come: not published */
		p->busy = 1;
		len =
		    snprintf(out, sizeof(out),
			     "POST /pub/%u HTTP/1.1\r\nhost: bench\r\ncontent-type: text/plain\r\n"
			     "content-length: %d\r\n\r\n%s",
			     channel, text_bytes, text);
	} else {
		/* Masked with zeros. */
		len = snprintf(out + 8, sizeof(out) - 8, "%u %s", channel, text);
		memcpy(out, (char[]){(char)0x81, (char)0xfe, (char)(len >> 8), (char)len}, 4);
		memset(out + 4, 0, 4);
		len += 8;
	}
	if (send(p->fd, out, (size_t)len, MSG_NOSIGNAL) != len)
		die("publish");
	waits_for[channel] = (unsigned)fanout;
}

static void publish_next(void)
{
	publish(next_channel);
	next_channel = (next_channel + 1) % (unsigned)channel_count;
}

/* ---- reading ---- */

static void watch(int fd, unsigned events, int op, int id)
{
	struct epoll_event e = {.events = events, .data.u32 = (uint32_t)id};

	if (epoll_ctl(poller, op, fd, &e))
		die("epoll_ctl");
}

/* Of a welcome; any other first word ends the run. */
static void keep_resume(struct peer *p, const char *text, size_t len)
{
	static const char member[] = "\"resume\":\"";
	const char *at = memmem(text, len, member, sizeof(member) - 1), *end;

	if (!memmem(text, len, "\"ev\":\"welcome\"", 14) || !at) {
		fprintf(stderr, "no welcome: %.*s\n", (int)(len < 200 ? len : 200), text);
		exit(1);
	}
	at += sizeof(member) - 1;
	end = memchr(at, '"', len - (size_t)(at - text));
	free(p->resume);
	p->resume = strndup(at, (size_t)(end - at));
}

static void on_text(struct peer *p, const char *text, size_t len, uint64_t now)
{
	const char *mark = memchr(text, '@', len);

	if (p->state == GREETED) {
		p->state = JOINED;
		joined++;
		if (storm)
			keep_resume(p, text, len);
	} else if (storm) {
		fprintf(stderr, "not expected: %.*s\n", (int)(len < 200 ? len : 200), text);
		exit(1);
	}
	if (!mark || text + len - mark < 17)
		return;
	delivered++;
	uint64_t sent = strtoull(mark + 1, NULL, 16);

	histogram[bucket_of(now > sent ? now - sent : 0)]++;
	measured++;
	if (closed_loop && --waits_for[p->channel] == 0)
		publish_next();
}

/* Whole frames of what was read; returns how many bytes they were. */
static size_t take_frames(struct peer *p, char *at, size_t len, uint64_t now)
{
	size_t used = 0;

	while (len - used >= 2) {
		uint8_t *f = (uint8_t *)at + used;
		size_t wide = (f[1] & 0x7f) == 126 ? 2 : 0;

		if (len - used < 2 + wide)
			break;
		size_t n = wide ? (size_t)f[2] << 8 | f[3] : f[1] & 0x7f;

		if (len - used < 2 + wide + n)
			break;
		if ((f[0] & 15) == 8) {
			fprintf(stderr, "a connection was closed with %u\n",
				f[2 + wide] << 8 | f[3 + wide]);
			exit(1);
		}
		if ((f[0] & 15) == 1)
			on_text(p, (char *)f + 2 + wide, n, now);
		used += 2 + wide + n;
	}
	return used;
}

/* With the token that it has, in a storm. */
static void say_hello(struct peer *p)
{
	char out[2048];
	size_t n = strlen(hello);

	if (p->resume)
		n = (size_t)snprintf(out + 8, sizeof(out) - 8, "%.*s,\"resume\":\"%s\"}",
				     (int)n - 1, hello, p->resume);
	else
		memcpy(out + 8, hello, n);
	if (n > sizeof(out) - 9)
		die("HELLO");
	/* Masked with zeros; the length in two bytes only where it needs them (RFC 6455, 5.2). */
	size_t head = n < 126 ? 6 : 8;

	memcpy(out + 8 - head,
	       (char[]){(char)0x81, (char)(n < 126 ? 0x80 | n : 0xfe), (char)(n >> 8), (char)n},
	       head - 4);
	memset(out + 4, 0, 4);
	if (send(p->fd, out + 8 - head, head + n, MSG_NOSIGNAL) != (ssize_t)(head + n))
		die("hello");
}

/* The upgrade's answer; returns how many bytes it was. */
static size_t take_answer(struct peer *p, char *at, size_t len)
{
	at[len] = '\0';
	char *end = strstr(at, "\r\n\r\n");

	if (!end)
		return 0;
	if (strncmp(at, "HTTP/1.1 101 ", 13) != 0) {
		fprintf(stderr, "not upgraded: %.60s\n", at);
		exit(1);
	}
	p->state = storm ? STANDING : hello ? GREETED : JOINED;
	joined += p->state != GREETED;
	if (p->state == GREETED)
		say_hello(p);
	return (size_t)(end + 4 - at);
}

static void read_peer(struct peer *p)
{
	size_t used = 0, len = p->kept_len;

	memcpy(scratch, p->kept, len);
	ssize_t n = recv(p->fd, scratch + len,
			 p->slow && p->state == JOINED ? 1 : sizeof(scratch) - 1 - len, 0);

	if (n <= 0) {
		if (n < 0 && errno == EAGAIN)
			return;
		fprintf(stderr, "a connection ended: %s\n", n ? strerror(errno) : "FIN");
		exit(1);
	}
	if (p->slow && p->state == JOINED)
		return;
	len += (size_t)n;
	if (p->state == ASKED)
		used = take_answer(p, scratch, len);
	if (p->state >= GREETED)
		used += take_frames(p, scratch + used, len - used, now_ns());
	p->kept_len = len - used;
	if (!p->kept_len)
		return;
	p->kept = realloc(p->kept, p->kept_len);
	memcpy(p->kept, scratch + used, p->kept_len);
}

static void ask(struct peer *p, int id)
{
	char out[512], path[128];
	int error = 0, n;
	socklen_t len = sizeof(error);

	getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error) {
		errno = error;
		die("connect");
	}
	snprintf(path, sizeof(path), "/sub/%u", p->channel);
	n = snprintf(
	    out, sizeof(out),
	    "GET %s HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
	    route ? route : path);
	if (send(p->fd, out, (size_t)n, MSG_NOSIGNAL) != n)
		die("ask");
	p->state = ASKED;
	watch(p->fd, EPOLLIN, EPOLL_CTL_MOD, id);
}

static void read_publisher(struct publisher *p)
{
	if (recv(p->fd, scratch, sizeof(scratch), 0) <= 0)
		die("publisher");
	p->busy = 0;
}

/* Handles what comes within @ms milliseconds. */
static void turn(int ms)
{
	struct epoll_event events[512];
	int n = epoll_wait(poller, events, 512, ms);

	for (int i = 0; i < n; i++) {
		uint32_t id = events[i].data.u32;

		if (id >= MAX_PEERS)
			read_publisher(&publishers[id - MAX_PEERS]);
		else if (peers[id].state == CONNECTING)
			ask(&peers[id], (int)id);
		else
			read_peer(&peers[id]);
	}
}

/* ---- the parts ---- */

static int dial(int wait)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | (wait ? 0 : SOCK_NONBLOCK), 0), one = 1;

	if (fd < 0)
		die("socket");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) && errno != EINPROGRESS)
		die("connect");
	return fd;
}

/* All at once; returns how long it took. */
static double connect_all(void)
{
	uint64_t from = now_ns();

	for (int i = 0; i < count; i++) {
		peers[i].channel = (unsigned)(i % channel_count);
		peers[i].slow = i < slow_count;
		peers[i].fd = dial(0);
		if (peers[i].slow)
			setsockopt(peers[i].fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int));
		watch(peers[i].fd, EPOLLOUT, EPOLL_CTL_ADD, i);
		if (i % 64 == 63)
			turn(0);
	}
	while (joined < count) {
		turn(100);
		if (now_ns() - from > CONNECT_LIMIT_NS) {
			fprintf(stderr, "only %d have connected\n", joined);
			exit(1);
		}
	}
	return (double)(now_ns() - from) / 1e9;
}

static void open_publishers(void)
{
	static const char ask_pub[] =
	    "GET /pub HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";

	publisher_count = by_http ? MAX_PUBLISHERS : 1;
	for (int i = 0; i < publisher_count; i++) {
		publishers[i].fd = dial(1);
		if (!by_http) {
			if (send(publishers[i].fd, ask_pub, sizeof(ask_pub) - 1, 0) < 0 ||
			    recv(publishers[i].fd, scratch, sizeof(scratch), 0) <= 0 ||
			    strncmp(scratch, "HTTP/1.1 101 ", 13) != 0)
				die("publisher");
		}
		watch(publishers[i].fd, EPOLLIN, EPOLL_CTL_ADD, MAX_PEERS + i);
	}
}

/* Resident memory once it has come to rest: the least of two seconds. */
static uint64_t resident_idle(void)
{
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < 20; i++) {
		uint64_t until = now_ns() + NS / 10, kib;

		while (now_ns() < until)
			turn(10);
		kib = resident_kib();
		least = kib < least ? kib : least;
	}
	return least;
}

static void forget(void)
{
	memset(histogram, 0, sizeof(histogram));
	measured = delivered = 0;
}

/* The slow ones read their byte. */
static void read_slowly(uint64_t now)
{
	static uint64_t due;

	if (now < due)
		return;
	due = now + NS;
	for (int i = 0; i < slow_count; i++)
		read_peer(&peers[i]);
}

/* A publication every fanout / rate seconds; the first tenth does not count. */
static void paced(void)
{
	uint64_t every = (uint64_t)((double)fanout / rate * (double)NS), from = now_ns(),
		 due = from;
	uint64_t warm = from + (uint64_t)(seconds / 10 * (double)NS),
		 until = from + (uint64_t)(seconds * (double)NS);
	int counting = 0;

	for (uint64_t now = from; now < until; now = now_ns()) {
		if (!counting && now >= warm) {
			forget();
			counting = 1;
		}
		while (due <= now) {
			publish_next();
			due += every;
		}
		read_slowly(now);
		turn(due - now > NS / 1000 ? 1 : 0);
	}
}

static void saturated(double *ret_per_s, double *ret_cpu_us)
{
	uint64_t settle = now_ns() + NS / 2, from, cpu, until;

	while (now_ns() < settle) /* what is still on its way */
		turn(1);
	closed_loop = 1;
	for (int i = 0; i < IN_FLIGHT && i < channel_count; i++)
		publish_next();
	forget();
	from = now_ns();
	cpu = cpu_ns();
	until = from + (uint64_t)(seconds * (double)NS);
	while (now_ns() < until)
		turn(10);
	*ret_per_s = (double)delivered / ((double)(now_ns() - from) / 1e9);
	*ret_cpu_us = (double)(cpu_ns() - cpu) / 1e3 / (double)delivered;
}

static void take_slow_out(void)
{
	for (int i = 0; i < slow_count; i++)
		watch(peers[i].fd, 0, EPOLL_CTL_MOD, i);
}

static void settings(int argc, char **argv)
{
	struct rlimit files;

	if (argc < 4) {
		fputs("usage: push_client PORT PIDS ws|http [HELLO]\n", stderr);
		exit(2);
	}
	port = (unsigned)atoi(argv[1]);
	for (char *at = strtok(argv[2], ","); at && pid_count < MAX_PIDS; at = strtok(NULL, ","))
		pids[pid_count++] = atoi(at);
	by_http = strcmp(argv[3], "http") == 0;
	hello = argc > 4 && strlen(argv[4]) < 500 ? argv[4] : NULL;
	route = getenv("ROUTE");
	storm = hello && route && setting("STORM", 0) > 0;
	count = (int)setting("CONNECTIONS", 10000);
	fanout = (int)setting("FANOUT", 500);
	text_bytes = (int)setting("BYTES", 200);
	rate = setting("RATE", 20000);
	seconds = setting("PART_S", 5);
	slow_count = (int)setting("SLOW", 0);
	if (text_bytes < 20 || text_bytes > MAX_TEXT_BYTES || count > MAX_PEERS || count < fanout ||
	    count % fanout)
		die("CONNECTIONS, FANOUT, BYTES");
	channel_count = count / fanout;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	poller = epoll_create1(0);
}

/* ---- a storm of hellos ---- */

/* Processor time of the whole machine: all but idle and waiting (proc(5), the first line of /proc/stat). */
static double machine_s(void)
{
	unsigned long long v[8] = {0};
	FILE *f = fopen("/proc/stat", "r");

	if (!f || fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2],
			 &v[3], &v[4], &v[5], &v[6], &v[7]) != 8)
		die("/proc/stat");
	fclose(f);
	return (double)(v[0] + v[1] + v[2] + v[5] + v[6] + v[7]) / (double)sysconf(_SC_CLK_TCK);
}

/* Until the server used less than a fiftieth of a core for half a second; returns when that began. */
static uint64_t at_rest(void)
{
	uint64_t since = now_ns(), cpu = cpu_ns();

	for (;;) {
		uint64_t until = now_ns() + NS / 20, used;

		while (now_ns() < until)
			turn(5);
		used = cpu_ns() - cpu;
		cpu += used;
		if (used > NS / 1000)
			since = now_ns();
		else if (now_ns() - since > NS / 2)
			return since;
	}
}

static void hello_at_once(const char *name)
{
	uint64_t from, limit, last, cpu;
	double machine;

	joined = 0;
	connect_all();
	at_rest();
	joined = 0;
	machine = machine_s();
	cpu = cpu_ns();
	from = now_ns();
	limit = from + CONNECT_LIMIT_NS;
	for (int i = 0; i < count; i++) {
		peers[i].state = GREETED;
		say_hello(&peers[i]);
	}
	while (joined < count) {
		turn(100);
		if (now_ns() > limit) {
			fprintf(stderr, "only %d have their welcome\n", joined);
			exit(1);
		}
	}
	last = now_ns();
	uint64_t rest = at_rest();

	printf("%s %.2f %.2f %.2f %.2f\n", name, (double)(last - from) / 1e9,
	       (double)((rest > last ? rest : last) - from) / 1e9, (double)(cpu_ns() - cpu) / 1e9,
	       machine_s() - machine);
	fflush(stdout);
	for (int i = 0; i < count; i++) {
		close(peers[i].fd);
		peers[i].state = CONNECTING;
		peers[i].kept_len = 0;
	}
	at_rest();
}

static void storms(void)
{
	const char *empty = getenv("EMPTY");

	hello_at_once("new");
	hello_at_once("resumed");
	if (empty && system(empty))
		die("EMPTY");
	if (empty)
		hello_at_once("emptied");
}

int main(int argc, char **argv)
{
	double connect_s, p50, p99, per_s = 0, cpu_us = 0;
	uint64_t before, idle, kernel;

	settings(argc, argv);
	if (storm) {
		storms();
		return 0;
	}
	before = resident_idle();
	connect_s = connect_all();
	idle = resident_idle();
	kernel = kernel_kib();
	if (!route) {
		open_publishers();
		take_slow_out();
		paced();
	}
	p50 = quantile_ms(0.5);
	p99 = quantile_ms(0.99);
	if (!route && !slow_count)
		saturated(&per_s, &cpu_us);
	printf("%.2f %.2f %.2f %.2f %.0f %.2f %lld %lld\n", connect_s,
	       (double)(idle - before) / count, p50, p99, per_s, cpu_us,
	       (long long)resident_kib() - (long long)idle,
	       (long long)kernel_kib() - (long long)kernel);
	return 0;
}
