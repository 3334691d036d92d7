/* lib/svc as a real process: admin port, readiness, reload, drain, workers and exit codes, seen from outside. Called with
 * "serve" it is the program that it tests. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/svc/svc.h"
#include "tests/integration/parts.h"

#define LIMIT_MS 10000

/* -- the program */

struct values {
	const char *gate; /* ready once this file is there */
	bool hold;	  /* a drain never ends by itself */
	int64_t fixed;	  /* is read at the start */
};

#define OPTION_OF struct values
/* clang-format off */
static const struct option options[] = {
	OPTION_LINE(gate, "gate", STRING, "", 0, 200, "the file that is waited for")
	OPTION_LINE(hold, "hold", BOOL, false, 0, 0, "never ends by itself")
	OPTION_LINE(fixed, "fixed", INT, 1, 1, 9, "is read at the start", RESTART)
};
/* clang-format on */

static int serve_open(struct svc *svc, void **ret_ctx)
{
	*ret_ctx = svc;
	return 0;
}

static void serve_ready(void *ctx, struct svc_waits *waits)
{
	const struct values *v = ((struct svc *)ctx)->options;

	if (*v->gate && access(v->gate, F_OK) != 0)
		svc_waits_for(waits, "gate");
}

static void serve_drain(void *ctx)
{
	struct svc *svc = ctx;
	const struct values *v = svc->options;

	if (!v->hold)
		svc_drained(svc);
}

static void serve_leave(void *ctx)
{
	struct svc *svc = ctx;

	log_info(&svc->log, "leaves", F_INT("fixed", ((const struct values *)svc->options)->fixed));
}

static const struct svc_program program = {.name = "sluice-front",
					   .section = "front",
					   .summary = "a program for tests",
					   .options = options,
					   .option_count = countof(options),
					   .options_size = sizeof(struct values),
					   .open = serve_open,
					   .ready = serve_ready,
					   .drain = serve_drain,
					   .leave = serve_leave};

/* -- looking at it */

static char dir[] = "/tmp/sluice-svc-XXXXXX";
static char log_path[64];
static char config_path[64];
static char gate_path[64];
static char answer[65536];
static struct claims claims;

static void claim(bool holds, const char *sentence)
{
	claims_note(&claims, holds, NULL, sentence);
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	if (!f || fputs(text, f) < 0 || fclose(f) != 0)
		exit(2);
}

/* Starts the program with @more, a list that ends with NULL. */
static pid_t start(const char *const *more)
{
	const char *argv[24] = {"svc", "serve"};
	size_t n = 2;
	pid_t pid;

	while (*more && n < countof(argv) - 1)
		argv[n++] = *more++;
	pid = fork();
	if (pid == 0) {
		int log = open(log_path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);

		dup2(log, 1);
		dup2(log, 2);
		execv("/proc/self/exe", (char *const *)argv);
		_exit(127);
	}
	return pid;
}
#define START(...) start((const char *const[]){__VA_ARGS__, NULL})

/* Asks once; the status, 0 where nobody answers; the whole answer stands in @answer. */
static int ask(uint16_t port, const char *method, const char *path)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons(port),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval limit = {5, 0};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t len = 0;
	ssize_t n = 1;
	int status = 0;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 &&
	    dprintf(fd,
		    "%s %s HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
		    method, path) > 0) {
		while (n > 0 && len < sizeof(answer) - 1) {
			n = read(fd, answer + len, sizeof(answer) - 1 - len);
			len += n > 0 ? (size_t)n : 0;
		}
	}
	close(fd);
	answer[len] = '\0';
	if (sscanf(answer, "HTTP/1.1 %d", &status) != 1)
		return 0;
	return status;
}

static bool answers(uint16_t port, const char *path, int status, const char *part)
{
	uint64_t end = clock_ms() + LIMIT_MS;

	do {
		if (ask(port, "GET", path) == status && strstr(answer, part))
			return true;
		poll(NULL, 0, 10);
	} while (clock_ms() < end);
	return false;
}

static bool logged(const char *part)
{
	static char text[65536];
	uint64_t end = clock_ms() + LIMIT_MS;

	do {
		int fd = open(log_path, O_RDONLY);
		ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

		close(fd);
		text[n > 0 ? n : 0] = '\0';
		if (strstr(text, part))
			return true;
		poll(NULL, 0, 10);
	} while (clock_ms() < end);
	return false;
}

/* The exit code; -1 where it did not end in time (then it is killed) or by a signal. */
static int ended(pid_t pid)
{
	uint64_t end = clock_ms() + LIMIT_MS;
	int status;

	while (clock_ms() < end) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
		poll(NULL, 0, 5);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return -1;
}

/* A port that is free, and the one behind it too. */
static uint16_t free_pair(void)
{
	for (;;) {
		struct sockaddr_in a = {.sin_family = AF_INET,
					.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		socklen_t size = sizeof(a);
		int first = socket(AF_INET, SOCK_STREAM, 0);
		int second = socket(AF_INET, SOCK_STREAM, 0);
		uint16_t port;
		bool both;

		if (bind(first, (struct sockaddr *)&a, sizeof(a)) ||
		    getsockname(first, (void *)&a, &size))
			exit(2);
		port = ntohs(a.sin_port);
		a.sin_port = htons((uint16_t)(port + 1));
		both = port < 65535 && bind(second, (struct sockaddr *)&a, sizeof(a)) == 0;
		close(first);
		close(second);
		if (both)
			return port;
	}
}

/* -- the claims */

static void one_process(uint16_t port, const char *admin)
{
	pid_t pid;

	write_file(config_path, "front: {drain_ms: 1m}\n");
	pid = START("--config", config_path, "--admin", admin, "--gate", gate_path, "--id", "a-7");
	claim(answers(port, "/healthz", 200, "ok"), "a program that waits is alive");
	claim(answers(port, "/readyz", 503, "\"waiting\":[\"gate\"]"),
	      "and says what it waits for");
	write_file(gate_path, "");
	claim(answers(port, "/readyz", 200, "\"ready\":true"), "it is ready when that is there");
	claim(
	    answers(port, "/metrics", 200, "sluice_build_info{program=\"sluice-front\",id=\"a-7\""),
	    "its metrics name it");
	claim(ask(port, "GET", "/metrics") == 200 &&
		  strstr(answer, "process_resident_memory_bytes "),
	      "and may be asked for twice");
	claim(ask(port, "GET", "/nothing") == 404 && ask(port, "POST", "/metrics") == 405,
	      "other paths and methods are refused");
	write_file(config_path, "log: {level: warn}\nfront: {hold: true, drain_ms: 1m}\n");
	kill(pid, SIGHUP);
	claim(answers(port, "/metrics", 200, "sluice_reloads_total{outcome=\"taken\"} 1"),
	      "SIGHUP reads the configuration again");
	write_file(config_path, "front:\n  hold: true\n  hald: true\n");
	kill(pid, SIGHUP);
	claim(logged("unknown key 'hald' in front"), "a broken one is refused with its line");
	claim(ask(port, "GET", "/healthz") == 200, "and the program goes on");
	kill(pid, SIGTERM);
	claim(answers(port, "/readyz", 503, "\"waiting\":[\"drain\"]"),
	      "a drain is seen at /readyz");
	kill(pid, SIGTERM);
	claim(ended(pid) == 0, "a second SIGTERM ends a drain that hangs");
	unlink(gate_path);
}

static void leaves(uint16_t port, const char *admin)
{
	pid_t pid;

	write_file(config_path, "front: {hold: true, drain_ms: 1m}\n");
	pid = START("--config", config_path, "--admin", admin);
	claim(answers(port, "/readyz", 200, "true"), "it serves");
	write_file(config_path, "redis: {url: \"redis://127.0.0.1:1\"}\n"
				"front: {hold: true, drain_ms: 1m, fixed: 7, workers: 3}\n");
	kill(pid, SIGHUP);
	claim(logged("configuration read again"), "what can be taken is taken");
	claim(logged("section=front option=fixed") && logged("section=front option=workers") &&
		  logged("section=redis option=url"),
	      "what needs a restart is named");
	kill(pid, SIGTERM);
	claim(answers(port, "/readyz", 503, "drain"), "it drains");
	kill(pid, SIGUSR1);
	claim(logged("leaves") && logged("fixed=1"),
	      "SIGUSR1 makes the drain one for good, with the old value of what needs a restart");
	kill(pid, SIGUSR1);
	claim(answers(port, "/readyz", 503, "drain"), "and does not end it, nor does a second one");
	kill(pid, SIGINT);
	claim(ended(pid) == 0, "SIGINT behind SIGTERM ends it at once");
	pid = START("--config", config_path, "--admin", admin);
	claim(answers(port, "/readyz", 200, "true"), "it serves again");
	kill(pid, SIGUSR1);
	claim(answers(port, "/readyz", 503, "drain"), "SIGUSR1 begins a drain");
	kill(pid, SIGTERM);
	claim(answers(port, "/readyz", 503, "drain"),
	      "the first SIGTERM behind it changes nothing");
	kill(pid, SIGTERM);
	claim(ended(pid) == 0, "the second one ends it");
}

static void ends(uint16_t port, const char *admin)
{
	pid_t pid = START("--admin", admin);

	claim(answers(port, "/readyz", 200, "true"), "a program needs no file");
	kill(pid, SIGTERM);
	claim(ended(pid) == 0, "it ends with 0 when drained");
	pid = START("--admin", admin, "--hold", "true", "--drain-ms", "50ms");
	claim(answers(port, "/readyz", 200, "true"), "another one takes its place at once");
	kill(pid, SIGINT);
	claim(ended(pid) == 0, "a drain ends at its limit");
	claim(ended(START("--bogus", "1")) == 2, "an unknown option ends with 2");
	write_file(config_path, "frnt: {}\n");
	claim(ended(START("--config", config_path)) == 2, "a wrong configuration ends with 2");
	write_file(config_path, "front: {}\n");
	claim(ended(START("--config", config_path, "--check")) == 0,
	      "--check of a good one ends with 0");
	claim(ended(START("--admin", "nowhere")) == 1, "an address that is none ends with 1");
	claim(ended(START("--help")) == 0 && logged("--gate"), "--help lists the options");
}

static pid_t child_of(pid_t parent)
{
	char path[64];
	int pid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", parent, parent);
	f = fopen(path, "r");
	if (!f || fscanf(f, "%d", &pid) != 1)
		pid = 0;
	if (f)
		fclose(f);
	return pid;
}

static void workers(uint16_t port, const char *admin)
{
	uint16_t second = (uint16_t)(port + 1);
	pid_t pid = START("--admin", admin, "--workers", "2");
	pid_t worker;

	claim(answers(port, "/readyz", 200, "\"id\":\"sluice-front-1\""),
	      "the first worker has the first port");
	claim(answers(second, "/readyz", 200, "\"id\":\"sluice-front-2\""), "the second the next");
	worker = child_of(pid);
	claim(worker && kill(worker, SIGKILL) == 0 && logged("again_in_ms=100"),
	      "a worker that dies is seen");
	claim(answers(port, "/healthz", 200, "ok") && answers(second, "/healthz", 200, "ok"),
	      "and started again in its place");
	kill(pid, SIGTERM);
	claim(ended(pid) == 0 && !ask(port, "GET", "/healthz") && !ask(second, "GET", "/healthz"),
	      "the parent ends after its workers");
	pid = START("--admin", admin, "--workers", "2");
	claim(answers(port, "/healthz", 200, "ok") && answers(second, "/healthz", 200, "ok"),
	      "they start anew");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	pid = START("--admin", admin, "--workers", "2", "--id", "b-1");
	claim(answers(port, "/readyz", 200, "\"id\":\"b-1\"") &&
		  answers(second, "/readyz", 200, "\"id\":\"b-2\""),
	      "workers do not outlive a parent that was killed");
	kill(pid, SIGTERM);
	ended(pid);
}

int main(int argc, char **argv)
{
	uint16_t port;
	char admin[32];

	if (argc > 1 && strcmp(argv[1], "serve") == 0)
		return svc_main(argc - 1, argv + 1, &program);
	if (!mkdtemp(dir))
		return 2;
	snprintf(log_path, sizeof(log_path), "%s/log", dir);
	snprintf(config_path, sizeof(config_path), "%s/c.yaml", dir);
	snprintf(gate_path, sizeof(gate_path), "%s/gate", dir);
	port = free_pair();
	snprintf(admin, sizeof(admin), "127.0.0.1:%u", port);
	one_process(port, admin);
	leaves(port, admin);
	ends(port, admin);
	workers(port, admin);
	unlink(log_path);
	unlink(config_path);
	rmdir(dir);
	return claims_end(&claims);
}
