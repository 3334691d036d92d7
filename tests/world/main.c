/* The swarm: N histories from a seed on, each in a process of its own; a seed that fails replays exactly.
 *
 *   world [N] [SEED]      N histories (200) from SEED (1); N = 1 tells its story
 *   world budgets [N] [SEED]  the same of histories of quotas alone (budget.c)
 *   world plants [N] [OF] each planted defect (OF: those whose name has it), and the seed that finds it first, among N or as many as its
 *                         table says; those in C only where SLUICE_PLANTS is built in */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "tests/world/budget.h"
#include "tests/world/fleet.h"
#include "tests/world/plants.h"
#include "tests/world/server.h"

#define QUIET_US (15 * US_PER_S)
#define LONGEST_US (420 * US_PER_S)

/* What a history says to the swarm. */
struct verdict {
	unsigned violations;
	unsigned repeated;
	unsigned crashes;
	unsigned jobs;
	unsigned open;
	char first[240];
};

static void run_until(uint64_t us)
{
	while (world->now_us < us && world_step())
		;
}

static bool budgets_only;

static struct verdict history(uint64_t seed, bool story)
{
	struct verdict v = {0};
	uint64_t last;

	if (budgets_only) {
		budget_history(seed, story);
		v.violations = world->violations;
		memcpy(v.first, world->first, sizeof(v.first));
		return v;
	}
	world_begin(seed, story);
	redis_server_begin();
	broker_begin();
	pg_server_begin();
	peer_begin();
	check_begin();
	fleet_begin();
	clients_begin();
	run_until(fleet.heal_us);
	last = fleet.heal_us + LONGEST_US;
	while (world->now_us < last && !check_quiet())
		run_until(world->now_us + US_PER_S);
	run_until(world->now_us + QUIET_US);
	check_end();
	v.violations = world->violations;
	v.repeated = check_repeated();
	v.crashes = fleet.crashes;
	v.open = check_open();
	v.jobs = (unsigned)fleet.job_count;
	memcpy(v.first, world->first, sizeof(v.first));
	return v;
}

/* In a process of its own: what crashes inside is a verdict too. */
static struct verdict apart(uint64_t seed)
{
	struct verdict v = {.violations = 1, .first = "the process ended"};
	int pipes[2], status;
	pid_t pid;

	must(pipe(pipes) == 0);
	pid = fork();
	must(pid >= 0);
	if (!pid) {
		/* Of the processor's time: the machine may be busy with something else. */
		must(setrlimit(RLIMIT_CPU, &(struct rlimit){60, 60}) == 0);
		v = history(seed, false);
		must(write(pipes[1], &v, sizeof(v)) == sizeof(v));
		_exit(0);
	}
	close(pipes[1]);
	if (read(pipes[0], &v, sizeof(v)) != sizeof(v))
		v.violations = 1;
	close(pipes[0]);
	must(waitpid(pid, &status, 0) == pid);
	if (WIFSIGNALED(status))
		snprintf(v.first, sizeof(v.first), "the process ended by signal %d",
			 WTERMSIG(status));
	return v;
}

static int swarm(uint64_t count, uint64_t seed)
{
	uint64_t bad = 0, jobs = 0, repeated = 0, crashes = 0, left = 0;

	for (uint64_t i = 0; i < count; i++) {
		struct verdict v = apart(seed + i);

		jobs += v.jobs;
		repeated += v.repeated;
		crashes += v.crashes;
		left += v.open;
		if (v.violations) {
			bad++;
			printf("SEED=%llu: %s (%u in all); again with its story: make swarm N=1 "
			       "SEED=%llu\n",
			       (unsigned long long)(seed + i), v.first, v.violations,
			       (unsigned long long)(seed + i));
		}
		if ((i + 1) % 100 == 0 && isatty(1))
			printf("%llu of %llu histories, %llu violations\r",
			       (unsigned long long)(i + 1), (unsigned long long)count,
			       (unsigned long long)bad);
		fflush(stdout);
	}
	printf("%llu jobs, %llu crashes, %llu repeated calls, %llu entries left in open sets\n",
	       (unsigned long long)jobs, (unsigned long long)crashes, (unsigned long long)repeated,
	       (unsigned long long)left);
	printf("%llu histories, %llu violations\n", (unsigned long long)count,
	       (unsigned long long)bad);
	printf("%llu passed, %llu failed\n", (unsigned long long)(count - bad),
	       (unsigned long long)bad);
	return bad ? 1 : 0;
}

static int story(uint64_t seed)
{
	struct verdict v = history(seed, true);

	printf("SEED=%llu: %u violations%s%s\n", (unsigned long long)seed, v.violations,
	       v.violations ? ", first: " : "", v.first);
	return v.violations ? 1 : 0;
}

static uint64_t number(const char *text, uint64_t otherwise)
{
	uint64_t n;

	return text && str_u64(str_of(text), &n) ? n : otherwise;
}

/* One planted defect: the first seed that finds it. */
static bool find_plant(size_t plant, uint64_t most)
{
	for (uint64_t seed = 1; seed <= most; seed++) {
		struct verdict v = apart(seed);

		if (!v.violations)
			continue;
		printf("%-34s found by seed %4llu of at most %llu: %s\n", plants_name(plant),
		       (unsigned long long)seed, (unsigned long long)most, v.first);
		return true;
	}
	printf("%-34s NOT FOUND in %llu histories\n", plants_name(plant), (unsigned long long)most);
	return false;
}

/* @most 0: as the tables say. @of: only those whose name has it; NULL: all. */
static int try_plants(uint64_t most, const char *of)
{
	unsigned found = 0, missed = 0;

	for (size_t i = 0; i < plants_count(); i++) {
		int status;
		pid_t pid;

		if (of && !strstr(plants_name(i), of))
			continue;
		pid = fork();
		must(pid >= 0);
		if (!pid) {
			plants_set(i);
			budgets_only = plants_in_budget(i);
			redis_scripts_begin();
			fleet_prepare();
			status = find_plant(i, most ? most : plants_most(i)) ? 0 : 1;
			fflush(stdout);
			_exit(status);
		}
		must(waitpid(pid, &status, 0) == pid);
		if (WIFEXITED(status) && !WEXITSTATUS(status))
			found++;
		else
			missed++;
	}
	printf("%u planted defects found, %u missed\n", found, missed);
	return missed ? 1 : 0;
}

int main(int argc, char **argv)
{
	const char *first = argc > 1 ? argv[1] : NULL, *second = argc > 2 ? argv[2] : NULL;
	uint64_t count = number(first, 200);

	if (first && strcmp(first, "plants") == 0)
		return try_plants(number(second, 0), argc > 3 ? argv[3] : NULL);
	budgets_only = first && strcmp(first, "budgets") == 0;
	if (budgets_only) {
		count = number(second, 100);
		second = argc > 3 ? argv[3] : NULL;
	}
	redis_scripts_begin();
	fleet_prepare();
	if (count == 1)
		return story(number(second, 1));
	return swarm(count, number(second, 1));
}
